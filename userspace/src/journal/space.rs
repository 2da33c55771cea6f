//! Which blocks of a ring hold batches that are still needed.
//!
//! Batches follow each other; one that does not fit before the end begins at block 0. The oldest batch that is needed
//! is the tail, and no place ever reaches into what lies between tail and head.

use std::collections::VecDeque;

/// The blocks of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u32,
    pub(super) blocks: u32,
}

impl Extent {
    pub(super) fn end(self) -> u32 {
        self.start + self.blocks
    }
}

/// The batches of a ring from tail to head. There is always at least one.
#[derive(Debug)]
pub(super) struct Space {
    blocks: u32,
    /// The sequence number of the first extent.
    oldest: u64,
    extents: VecDeque<Extent>,
}

impl Space {
    /// A ring of `blocks` blocks whose needed batches are `extents`, the first of them being `oldest`.
    pub(super) fn new(blocks: u32, oldest: u64, extents: VecDeque<Extent>) -> Self {
        Self { blocks, oldest, extents }
    }

    /// The tail: the oldest batch that is needed.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The sequence number of the batch that is written next.
    pub(super) fn next(&self) -> u64 {
        self.oldest + self.extents.len() as u64
    }

    /// Where the batch `sequence` is, if it is needed.
    pub(super) fn extent(&self, sequence: u64) -> Option<Extent> {
        let at = usize::try_from(sequence.checked_sub(self.oldest)?).ok()?;
        self.extents.get(at).copied()
    }

    fn tail(&self) -> u32 {
        self.extents.front().map_or(0, |first| first.start)
    }

    fn head(&self) -> u32 {
        self.extents.back().map_or(0, |last| last.end())
    }

    /// Where a batch of `blocks` goes; `None` if it would reach into the tail.
    pub(super) fn place(&self, blocks: u32) -> Option<Extent> {
        let (tail, head) = (self.tail(), self.head());
        let start = if self.extents.is_empty() {
            (blocks <= self.blocks).then_some(0)
        } else if head <= tail {
            (blocks <= tail - head).then_some(head)
        } else if blocks <= self.blocks - head {
            Some(head)
        } else {
            (blocks <= tail).then_some(0)
        };
        start.map(|start| Extent { start, blocks })
    }

    /// The largest batch that has a place, up to `most` blocks.
    pub(super) fn largest(&self, most: u32) -> u32 {
        (1..=most).rev().find(|blocks| self.place(*blocks).is_some()).unwrap_or(0)
    }

    /// Free blocks.
    pub(super) fn free(&self) -> u32 {
        free_between(self.head(), self.tail(), self.blocks)
    }

    /// Free blocks once `written` is there and `oldest` is the tail.
    pub(super) fn free_after(&self, written: Extent, oldest: u64) -> u32 {
        let tail = self.extent(oldest).unwrap_or(written).start;
        free_between(written.end(), tail, self.blocks)
    }

    /// The batch [`next`](Self::next) is durable at `extent`.
    pub(super) fn push(&mut self, extent: Extent) {
        self.extents.push_back(extent);
    }

    /// Moves the tail: batches before `oldest` are not needed any more. The newest stays.
    pub(super) fn retire(&mut self, oldest: u64) {
        while self.oldest < oldest && self.extents.len() > 1 {
            self.extents.pop_front();
            self.oldest += 1;
        }
    }
}

fn free_between(head: u32, tail: u32, blocks: u32) -> u32 {
    if head <= tail { tail - head } else { blocks - head + tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(blocks: u32, extents: &[(u32, u32)]) -> Space {
        let extents = extents.iter().map(|&(start, blocks)| Extent { start, blocks }).collect();
        Space::new(blocks, 1, extents)
    }

    #[test]
    fn a_batch_goes_to_the_head_or_round_to_the_start_but_never_into_the_tail() {
        let linear = space(10, &[(3, 2), (5, 2)]);
        assert_eq!(linear.place(3), Some(Extent { start: 7, blocks: 3 }));
        assert_eq!(linear.largest(9), 3);
        let short = space(10, &[(4, 2), (6, 3)]);
        assert_eq!(short.place(1), Some(Extent { start: 9, blocks: 1 }));
        assert_eq!(short.place(2), Some(Extent { start: 0, blocks: 2 }));
        assert_eq!(short.place(4), Some(Extent { start: 0, blocks: 4 }));
        assert_eq!(short.place(5), None);
        let round = space(10, &[(6, 3), (0, 4)]);
        assert_eq!(round.place(2), Some(Extent { start: 4, blocks: 2 }));
        assert_eq!(round.place(3), None);
    }

    #[test]
    fn a_full_ring_has_no_place() {
        let full = space(4, &[(2, 2), (0, 2)]);
        assert_eq!((full.free(), full.largest(4)), (0, 0));
        let full = space(4, &[(0, 4)]);
        assert_eq!((full.free(), full.largest(4)), (0, 0));
    }

    #[test]
    fn free_blocks_are_counted_past_the_end_and_past_the_new_tail() {
        let mut ring = space(10, &[(3, 2), (5, 2), (7, 1)]);
        assert_eq!(ring.free(), 5);
        let written = ring.place(2).unwrap();
        assert_eq!(ring.free_after(written, 1), 3);
        assert_eq!(ring.free_after(written, 2), 5);
        assert_eq!(ring.free_after(written, 4), 8, "nothing old is needed");
        ring.push(written);
        ring.retire(3);
        assert_eq!((ring.oldest(), ring.next(), ring.free()), (3, 5, 7));
        assert_eq!(ring.extent(4), Some(written));
        assert_eq!((ring.extent(2), ring.extent(5)), (None, None));
        ring.retire(99);
        assert_eq!(ring.oldest(), 4, "the newest batch is always needed");
    }
}
