//! Writes batches into a ring, and copies forward what would be overwritten.
//!
//! # Why it never runs into its own tail
//!
//! Let the ring have `B` blocks and a batch at most `M = max(1, B / 32)` of them. A batch of `m` blocks holds at most
//! `32 m - 1` records, so no batch holds them more densely than a full one of `M`. Before anything is appended, a
//! reserve of `6 M` free blocks is restored: batches of nothing but copies of the oldest live records are written, as
//! full as can be, and the tail moves past what is copied once the copies are durable.
//!
//! - *There is always room to clean.* Appending takes at most `2 M` of the reserve: a batch, and what stays unused
//!   before the end. While cleaning, what is copied but not free yet is less than one batch (the one at the tail, in
//!   part), and less than another batch is unused before the end. So cleaning never has less than
//!   `6 M - 2 M - M - M = 2 M` blocks, enough for a full batch and for one more end.
//! - *Cleaning ends.* Once the tail has passed every batch that was there when it began, all `L` live records stand in
//!   full batches, in at most `(L / (32 M - 1) + 1) M` blocks. So the reserve is restored if
//!   `L <= (B - 9 M) (32 - 1 / M)`; with the default size (four times the capacity) that is at least 2.8 times the
//!   capacity. If it is not, [`LogError::Full`] says so, and nothing is written over.
//! - *Nothing needed is overwritten.* A place is only ever given between head and tail, and the tail in memory moves
//!   after the sync. A batch's header names the tail that holds once that batch is whole. If it is torn, the header
//!   before it still holds, and what that one names has not been touched.

use std::io;

use super::{
    batch::{BATCH_BLOCKS_MAX, BatchBuffer, Header, records_in},
    log::{Damage, LogError},
    newest::Newest,
    space::{Extent, Space},
    storage::Storage,
    superblock::Superblock,
    window::{Unreadable, Window, offset_of},
};
use crate::lease::{
    record::Record,
    rules::{Rule, holds},
    stamp::Now,
};

/// Free blocks that are kept, in largest batches.
const RESERVE_BATCHES: u32 = 6;

/// Blocks of the largest batch of a ring of `blocks`.
fn batch_blocks(blocks: u32) -> u32 {
    (blocks / 32).clamp(1, BATCH_BLOCKS_MAX)
}

/// Where copy-forward stands: a batch, and the record in it that is looked at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    sequence: u64,
    record: usize,
}

/// The writing end of a ring.
#[derive(Debug)]
pub(super) struct Appender {
    superblock: Superblock,
    hold_down_seconds: u32,
    /// Blocks of the ring.
    blocks: u32,
    /// Blocks of a largest batch.
    batch_blocks: u32,
    /// Blocks that are kept free.
    reserve: u32,
    space: Space,
    newest: Newest,
    batch: BatchBuffer,
    /// The tail, read back.
    window: Window,
    cursor: Cursor,
    /// The batch whose checksum was compared last.
    checked: u64,
}

impl Appender {
    /// An appender behind the last batch of `space`; `newest` knows what these batches hold.
    pub(super) fn new(
        superblock: Superblock,
        hold_down_seconds: u32,
        space: Space,
        newest: Newest,
    ) -> Self {
        let blocks = u32::try_from(superblock.blocks).unwrap_or(u32::MAX);
        let batch_blocks = batch_blocks(blocks);
        let cursor = Cursor { sequence: space.oldest(), record: 0 };
        Self {
            superblock,
            hold_down_seconds,
            blocks,
            batch_blocks,
            reserve: RESERVE_BATCHES * batch_blocks,
            space,
            newest,
            batch: BatchBuffer::new(batch_blocks as usize),
            window: Window::new((4 * batch_blocks).min(BATCH_BLOCKS_MAX), Unreadable::Refused),
            cursor,
            checked: 0,
        }
    }

    /// Makes `records` durable, in as many batches as needed.
    pub(super) fn append<S: Storage>(
        &mut self,
        storage: &mut S,
        records: &[Record],
        now: Now,
    ) -> Result<(), LogError> {
        // Half of a batch is left for copies, so that cleaning mostly costs no write of its own.
        let most = records_in(self.batch_blocks as usize).div_ceil(2);
        for part in records.chunks(most) {
            self.restore_reserve(storage, now)?;
            self.write(storage, part, now)?;
        }
        Ok(())
    }

    /// Writes nothing but copies until enough blocks are free.
    fn restore_reserve<S: Storage>(&mut self, storage: &mut S, now: Now) -> Result<(), LogError> {
        let last = self.space.next();
        while self.space.free() < self.reserve {
            if self.space.oldest() >= last {
                return Err(self.full(storage));
            }
            self.write(storage, &[], now)?;
        }
        Ok(())
    }

    /// With less in reserve, blocks are written again as soon as they are free. Enough for batches of one block.
    #[cfg(test)]
    pub(super) fn keep_reserve(&mut self, blocks: u32) {
        self.reserve = blocks;
    }

    /// One batch: `records`, and as many copies as there is room and need for. Durable when it returns.
    fn write<S: Storage>(
        &mut self,
        storage: &mut S,
        records: &[Record],
        now: Now,
    ) -> Result<(), LogError> {
        let sequence = self.space.next();
        self.batch.begin(self.space.largest(self.batch_blocks) as usize);
        for record in records {
            if !self.batch.push(record) {
                return Err(self.full(storage));
            }
        }
        self.newest.note_all(records, sequence);
        let tail = self.copy_forward(storage, sequence, now)?;
        let Some(extent) = self.place() else { return Err(self.full(storage)) };
        let hasty = u64::from(!holds(Rule::TailWaitsForCopies));
        let oldest = (tail.sequence + hasty).min(sequence);
        let octets = self.batch.seal(self.superblock.epoch, sequence, oldest);
        storage
            .write_at(offset_of(extent.start), octets)
            .and_then(|()| storage.sync())
            .map_err(|source| failed("write", storage, source))?;
        // Durable: only now does the tail move.
        self.space.push(extent);
        self.space.retire(tail.sequence);
        self.cursor = tail;
        Ok(())
    }

    fn place(&self) -> Option<Extent> {
        self.space.place(u32::try_from(self.batch.blocks()).ok()?)
    }

    /// Fills the batch `sequence` with copies of live records from the tail on, until enough blocks will be free.
    /// Says where the tail is once this batch is durable.
    fn copy_forward<S: Storage>(
        &mut self,
        storage: &S,
        sequence: u64,
        now: Now,
    ) -> Result<Cursor, LogError> {
        let mut tail = self.cursor;
        while tail.sequence < sequence {
            let free =
                self.place().map_or(0, |extent| self.space.free_after(extent, tail.sequence));
            if free >= self.reserve {
                break;
            }
            if !self.copy_batch(storage, &mut tail, sequence, now)? {
                break;
            }
            tail = Cursor { sequence: tail.sequence + 1, record: 0 };
        }
        Ok(tail)
    }

    /// Copies what is live of the batch at `tail`, from its record on; false if there was no room for all of it.
    fn copy_batch<S: Storage>(
        &mut self,
        storage: &S,
        tail: &mut Cursor,
        sequence: u64,
        now: Now,
    ) -> Result<bool, LogError> {
        let Some(extent) = self.space.extent(tail.sequence) else { return Ok(true) };
        // The window reads ahead, maybe past the head into blocks that are written later. It never shows them stale:
        // while there is cleaning, all but a reserve is in use, which is many windows from tail to head.
        let octets = self
            .window
            .read(storage, extent, self.blocks)
            .map_err(|source| failed("read", storage, source))?;
        let header = Header::read(octets, self.superblock.epoch).filter(|header| {
            header.sequence == tail.sequence
                && (self.checked == header.sequence || header.is_whole(octets))
        });
        let Some(header) = header else {
            let damage = Damage {
                sequence: tail.sequence,
                offset: offset_of(extent.start),
                fault: "the batch has changed since it was written".to_owned(),
            };
            return Err(LogError::Damaged { path: storage.path().to_path_buf(), damage });
        };
        self.checked = header.sequence;
        for record in header.records(octets).iter().skip(tail.record) {
            if self.newest.is_newest(record, header.sequence) {
                if !record.keeps_slot(now, self.hold_down_seconds) {
                    self.newest.forget(record);
                } else if self.batch.push(record) {
                    self.newest.note(record, sequence);
                } else {
                    return Ok(false);
                }
            }
            tail.record += 1;
        }
        Ok(true)
    }

    fn full<S: Storage>(&self, storage: &S) -> LogError {
        LogError::Full {
            path: storage.path().to_path_buf(),
            live: self.newest.len() as u64,
            capacity: self.superblock.capacity,
        }
    }
}

/// An error of the system, with what was tried and where.
pub(super) fn failed<S: Storage>(action: &'static str, storage: &S, source: io::Error) -> LogError {
    LogError::Io { action, path: storage.path().to_path_buf(), source }
}
