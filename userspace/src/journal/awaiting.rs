//! Replies that leave when their record is durable.

use std::collections::VecDeque;

use crate::lease::{
    rules::{Rule, holds},
    stamp::Now,
};

/// A reply that has waited longer is dropped, in milliseconds: the client has asked again by then (RFC 2131 §4.1
/// retransmits after 4 s), and an old ACK would promise seconds that have passed.
pub const WAIT_MAX_MILLISECONDS: u64 = 3000;

#[derive(Debug)]
struct Parked<R> {
    sequence: u64,
    at: Now,
    reply: R,
}

/// The parked replies of one worker, in the order of its lane.
#[derive(Debug)]
pub struct Awaiting<R> {
    parked: VecDeque<Parked<R>>,
    capacity: usize,
}

impl<R> Awaiting<R> {
    /// Room for `capacity` replies. All memory is taken here.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { parked: VecDeque::with_capacity(capacity), capacity }
    }

    /// Parks a reply until the record `sequence` of the worker's own lane is durable. Gives the reply back if there
    /// is no room. Sequences must not fall.
    pub fn push(&mut self, sequence: u64, at: Now, reply: R) -> Result<(), R> {
        if self.parked.len() == self.capacity {
            return Err(reply);
        }
        debug_assert!(self.parked.back().is_none_or(|last| last.sequence <= sequence));
        self.parked.push_back(Parked { sequence, at, reply });
        Ok(())
    }

    /// Gives each reply that need not wait any longer to one of the two: `send` if its record is among the first
    /// `durable` ones, `stale` if it is older than [`WAIT_MAX_MILLISECONDS`], durable or not: a disk that stands
    /// still keeps no frames.
    pub fn settle(
        &mut self,
        durable: u64,
        now: Now,
        mut send: impl FnMut(R),
        mut stale: impl FnMut(R),
    ) {
        while let Some(first) = self.parked.front() {
            let overdue = now.0.saturating_sub(first.at.0) > WAIT_MAX_MILLISECONDS
                && holds(Rule::StaleAcksDrop);
            if !overdue && first.sequence > durable && holds(Rule::AcksWait) {
                break;
            }
            let Some(first) = self.parked.pop_front() else { break };
            if overdue { stale(first.reply) } else { send(first.reply) }
        }
    }

    /// The number of replies that wait.
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether no reply waits.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// How many more can be parked.
    pub fn room(&self) -> usize {
        self.capacity - self.parked.len()
    }

    /// The record that the oldest reply waits for.
    pub fn oldest_sequence(&self) -> Option<u64> {
        self.parked.front().map(|first| first.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(awaiting: &mut Awaiting<u32>, durable: u64, now: u64) -> (Vec<u32>, Vec<u32>) {
        let (mut sent, mut stale) = (Vec::new(), Vec::new());
        awaiting.settle(durable, Now(now), |reply| sent.push(reply), |reply| stale.push(reply));
        (sent, stale)
    }

    fn three() -> Awaiting<u32> {
        let mut awaiting = Awaiting::with_capacity(3);
        for (sequence, at) in [(1, 1000), (3, 1500), (4, 2000)] {
            awaiting.push(sequence, Now(at), u32::try_from(sequence).unwrap()).unwrap();
        }
        awaiting
    }

    #[test]
    fn a_reply_waits_for_its_own_record() {
        let mut awaiting = three();
        assert_eq!(settle(&mut awaiting, 0, 2000), (vec![], vec![]));
        assert_eq!(settle(&mut awaiting, 2, 2000), (vec![1], vec![]));
        assert_eq!(awaiting.oldest_sequence(), Some(3));
        assert_eq!(settle(&mut awaiting, 4, 2000), (vec![3, 4], vec![]));
        assert!(awaiting.is_empty());
        assert_eq!(awaiting.oldest_sequence(), None);
    }

    #[test]
    fn a_reply_older_than_three_seconds_never_leaves() {
        let mut awaiting = three();
        assert_eq!(settle(&mut awaiting, 9, 4501), (vec![4], vec![1, 3]));
        let mut awaiting = three();
        assert_eq!(
            settle(&mut awaiting, 9, 4000),
            (vec![1, 3, 4], vec![]),
            "three seconds are fine"
        );
        let mut awaiting = three();
        assert_eq!(
            settle(&mut awaiting, 0, 4501),
            (vec![], vec![1, 3]),
            "nor does it keep a frame"
        );
        assert_eq!(awaiting.len(), 1);
    }

    #[test]
    fn a_full_room_gives_the_reply_back() {
        let mut awaiting = three();
        assert_eq!(awaiting.room(), 0);
        assert_eq!(awaiting.push(5, Now(2000), 5), Err(5));
        assert_eq!(awaiting.len(), 3);
    }
}
