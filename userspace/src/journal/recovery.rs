//! Finds the chain of batches that a ring still needs.
//!
//! First the headers are read, from front to end: the greatest sequence number is the last batch that was begun. Only
//! one batch is ever on its way to the disk, so that one alone may be torn, and it was never acknowledged. The newest
//! whole batch names the oldest one that is needed; every batch between them must be there, whole, each behind the
//! one before it or at block 0. Anything else is damage.

use std::collections::VecDeque;

use super::{
    batch::{BATCH_BLOCKS_MAX, Header},
    log::{Damage, LogError},
    space::Extent,
    storage::Storage,
    superblock::Superblock,
    window::{Window, offset_of},
};
use crate::lease::record::Record;

/// Blocks read at once: four megabytes.
const WINDOW_BLOCKS: u32 = 4 * BATCH_BLOCKS_MAX;

/// A header, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Found {
    start: u32,
    header: Header,
}

impl Found {
    fn extent(&self) -> Extent {
        // At most BATCH_BLOCKS_MAX.
        let blocks = u32::try_from(self.header.blocks()).unwrap_or(u32::MAX);
        Extent { start: self.start, blocks }
    }

    fn damage(&self, fault: &str) -> Damage {
        Damage {
            sequence: self.header.sequence,
            offset: offset_of(self.start),
            fault: fault.to_owned(),
        }
    }
}

/// What a ring still needs.
#[derive(Debug)]
pub(super) struct Chain {
    /// The sequence number of the first extent.
    pub(super) oldest: u64,
    /// The batches, from the oldest to the newest. Not one behind the other if something is lost.
    pub(super) extents: VecDeque<Extent>,
    /// The last batch, if it was cut short.
    pub(super) torn: Option<Damage>,
    /// What is missing.
    pub(super) lost: Vec<Damage>,
    /// Records read.
    pub(super) records: u64,
}

/// Reads a ring.
pub(super) struct Reader<'s, S: Storage> {
    storage: &'s S,
    blocks: u32,
    epoch: u64,
    accept_loss: bool,
    window: Window,
}

impl<'s, S: Storage> Reader<'s, S> {
    /// A reader that stops at the first damage, unless `accept_loss`.
    pub(super) fn new(storage: &'s S, superblock: &Superblock, accept_loss: bool) -> Self {
        let blocks = u32::try_from(superblock.blocks).unwrap_or(u32::MAX);
        let window = Window::new(WINDOW_BLOCKS.min(blocks));
        Self { storage, blocks, epoch: superblock.epoch, accept_loss, window }
    }

    /// Calls `each` with every record of the chain and the sequence number of its batch, batches in their order.
    pub(super) fn walk(&mut self, each: &mut dyn FnMut(&Record, u64)) -> Result<Chain, LogError> {
        let found = self.headers()?;
        let mut chain =
            Chain { oldest: 1, extents: VecDeque::new(), torn: None, lost: Vec::new(), records: 0 };
        let Some(newest) = self.newest(&found, &mut chain)? else { return Ok(chain) };
        chain.oldest = newest.header.oldest;
        let mut at = found.partition_point(|found| found.header.sequence < chain.oldest);
        let mut end: Option<u32> = None;
        for sequence in chain.oldest..=newest.header.sequence {
            let begin = at;
            while found.get(at).is_some_and(|found| found.header.sequence == sequence) {
                at += 1;
            }
            let follows =
                |found: &&Found| found.start == 0 || end.is_none_or(|end| found.start == end);
            let mut candidates = found.get(begin..at).unwrap_or_default().iter().filter(follows);
            let whole = loop {
                match candidates.next() {
                    Some(candidate) if self.is_whole(candidate)? => break Some(*candidate),
                    Some(_) => {}
                    None => break None,
                }
            };
            if let Some(whole) = whole {
                self.deliver(&whole, &mut chain, each)?;
                end = Some(whole.extent().end());
            } else {
                let next = found.get(begin).map_or(newest.start, |found| found.start);
                self.lose(&mut chain, missing(sequence, end.unwrap_or(next)))?;
                end = None;
            }
        }
        Ok(chain)
    }

    /// All headers, by sequence number.
    fn headers(&mut self) -> Result<Vec<Found>, LogError> {
        let (mut found, mut block) = (Vec::new(), 0);
        while block < self.blocks {
            let epoch = self.epoch;
            let header = Header::read(self.read(Extent { start: block, blocks: 1 })?, epoch);
            let here = header.map(|header| Found { start: block, header });
            match here {
                Some(here) if here.extent().end() <= self.blocks => {
                    block = here.extent().end();
                    found.push(here);
                }
                _ => block += 1,
            }
        }
        found.sort_by_key(|found| (found.header.sequence, found.start));
        Ok(found)
    }

    /// The newest whole batch. One torn batch may follow it.
    fn newest(&mut self, found: &[Found], chain: &mut Chain) -> Result<Option<Found>, LogError> {
        let mut expected = None;
        let mut candidates = found.iter().rev();
        let mut faults: Vec<Damage> = Vec::new();
        let newest = loop {
            let Some(candidate) = candidates.next() else { break None };
            let last = *expected.get_or_insert(candidate.header.sequence);
            if self.is_whole(candidate)? {
                break Some((*candidate, last));
            }
            faults.push(candidate.damage("its checksum does not match"));
        };
        let Some((newest, last)) = newest else {
            self.lose(chain, missing(1, 0))?;
            return Ok(None);
        };
        // Another try at the same number, which then succeeded elsewhere, is of no interest.
        faults.retain(|fault| fault.sequence > newest.header.sequence);
        if last <= newest.header.sequence + 1 {
            chain.torn = faults.pop();
        } else {
            // A batch is begun only when the one before it is durable: these were acknowledged.
            for sequence in newest.header.sequence + 1..last {
                let at = newest.extent().end();
                let fault = faults.iter().find(|fault| fault.sequence == sequence).cloned();
                self.lose(chain, fault.unwrap_or_else(|| missing(sequence, at)))?;
            }
        }
        Ok(Some(newest))
    }

    fn is_whole(&mut self, found: &Found) -> Result<bool, LogError> {
        Ok(found.header.is_whole(self.read(found.extent())?))
    }

    fn deliver(
        &mut self,
        found: &Found,
        chain: &mut Chain,
        each: &mut dyn FnMut(&Record, u64),
    ) -> Result<(), LogError> {
        chain.extents.push_back(found.extent());
        let mut unknown = 0;
        for record in found.header.records(self.read(found.extent())?) {
            if record.state().is_none() {
                unknown += 1;
                continue;
            }
            chain.records += 1;
            each(record, found.header.sequence);
        }
        if unknown > 0 {
            let fault = format!("{unknown} records are in a state that this program does not know");
            self.lose(chain, found.damage(&fault))?;
        }
        Ok(())
    }

    fn lose(&self, chain: &mut Chain, damage: Damage) -> Result<(), LogError> {
        if !self.accept_loss {
            return Err(LogError::Damaged { path: self.storage.path().to_path_buf(), damage });
        }
        chain.lost.push(damage);
        Ok(())
    }

    fn read(&mut self, wanted: Extent) -> Result<&[u8], LogError> {
        let path = self.storage.path();
        self.window.read(self.storage, wanted, self.blocks).map_err(|source| LogError::Io {
            action: "read",
            path: path.to_path_buf(),
            source,
        })
    }
}

fn missing(sequence: u64, block: u32) -> Damage {
    Damage {
        sequence,
        offset: offset_of(block),
        fault: "no whole batch of this number is where it should begin".to_owned(),
    }
}
