//! The log in a file of fixed size: two superblocks, then a ring of checksummed batches.
//!
//! It is made whole or not at all, and never grows. What is written is durable before anybody hears of it; what is
//! overwritten was copied forward before (`append`); what is read back is checked (`recovery`).

use std::{collections::VecDeque, fs::File, path::Path};

use super::{
    append::{Appender, failed},
    batch::BatchBuffer,
    file::{Directory, FileStorage},
    log::{Adopter, LeaseLog, LogError, RecoveryReport, Rewrite},
    memory::random_octets,
    newest::Newest,
    recovery::{Chain, Reader},
    space::{Extent, Space},
    storage::{AlignedBuffer, BLOCK_OCTETS, Storage},
    superblock::{SUPERBLOCKS, Superblock},
    survey::Visitor,
    window::offset_of,
};
use crate::lease::{
    key::IdentitySecret,
    record::{RECORD_LENGTH, Record},
    stamp::Now,
};

/// Records that the default size has room for, for each lease.
const RECORDS_PER_LEASE: u64 = 4;

/// The smallest ring, in blocks for batches.
const BLOCKS_MIN: u64 = 32;

/// The smallest ring that a capacity leads to: a megabyte.
const BLOCKS_DEFAULT_MIN: u64 = 256;

/// What a ring is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Leases that there may be at a time: `store.capacity`.
    pub capacity_leases: u64,
    /// How long a slot that was given up is held for its last client, in seconds.
    pub hold_down_seconds: u32,
    /// Go on although promises are lost.
    pub accept_loss: bool,
    /// The size of the file in octets, rounded up to what is possible; by default four records a lease.
    pub ring_octets: Option<u64>,
}

impl Options {
    fn blocks(&self) -> u64 {
        let block = BLOCK_OCTETS as u64;
        let blocks = if let Some(octets) = self.ring_octets {
            octets.div_ceil(block).saturating_sub(SUPERBLOCKS).max(BLOCKS_MIN)
        } else {
            let octets =
                self.capacity_leases.saturating_mul(RECORDS_PER_LEASE * RECORD_LENGTH as u64);
            octets.div_ceil(block).max(BLOCKS_DEFAULT_MIN)
        };
        blocks.min(u64::from(u32::MAX))
    }

    /// The size of the file, in octets.
    pub fn octets(&self) -> u64 {
        (SUPERBLOCKS + self.blocks()) * BLOCK_OCTETS as u64
    }
}

/// A ring of batches on a storage.
#[derive(Debug)]
pub struct RingLog<S: Storage = FileStorage> {
    storage: S,
    superblock: Superblock,
    options: Options,
    /// Made now, not found.
    created: bool,
    superblock_damaged: bool,
    /// From recovery until a write fails.
    appender: Option<Appender>,
    /// Held as long as the log lives.
    lock: Option<File>,
}

impl RingLog<FileStorage> {
    /// Opens the ring `leases.ring` in `directory`, or makes it, and locks the directory as long as it lives.
    pub fn open(directory: &Path, options: Options) -> Result<Self, LogError> {
        let directory = Directory::enter(directory)?;
        let lock = directory.lock()?;
        let mut log = if let Some(storage) = directory.open_ring()? {
            Self::mount(storage, options)?
        } else {
            let mut log = Self::create(directory.new_ring(options.octets())?, options)?;
            log.storage.settle()?;
            log
        };
        log.lock = Some(lock);
        Ok(log)
    }

    /// Reads the ring in `directory` without changing anything, while no server runs on it. What is damaged is left
    /// out, and reported.
    pub fn read(
        directory: &Path,
        each: &mut dyn FnMut(&Record),
    ) -> Result<RecoveryReport, LogError> {
        let storage = FileStorage::open_to_read(directory)?;
        let (superblock, _) = Superblock::read(&storage)?;
        let mut newest = Newest::default();
        let mut visitor = InOrder(|record: &Record, sequence| {
            newest.note(record, sequence);
            each(record);
        });
        let chain = Reader::new(&storage, &superblock, true).walk_in_order(&mut visitor)?;
        Ok(RecoveryReport { tuples: newest.len() as u64, ..report(&storage, &chain) })
    }
}

impl<S: Storage> RingLog<S> {
    /// Makes an empty ring on a storage of zeros.
    pub fn create(mut storage: S, options: Options) -> Result<Self, LogError> {
        let superblock = Superblock {
            blocks: storage.octets() / BLOCK_OCTETS as u64 - SUPERBLOCKS,
            capacity: options.capacity_leases,
            epoch: u64::from_le_bytes(random_octets()?),
            secret: random_octets()?,
        };
        format(&mut storage, &superblock)?;
        Ok(Self { created: true, ..Self::mount(storage, options)? })
    }

    /// Opens the ring that is on a storage.
    pub fn mount(storage: S, options: Options) -> Result<Self, LogError> {
        let (superblock, superblock_damaged) = Superblock::read(&storage)?;
        Ok(Self {
            storage,
            superblock,
            options,
            created: false,
            superblock_damaged,
            appender: None,
            lock: None,
        })
    }

    /// The secret under which identities are hashed: made with the ring, and kept when it is resized.
    pub fn identity_secret(&self) -> IdentitySecret {
        IdentitySecret(self.superblock.secret)
    }

    #[cfg(test)]
    pub(super) fn keep_reserve(&mut self, blocks: u32) {
        if let Some(appender) = &mut self.appender {
            appender.keep_reserve(blocks);
        }
    }

    /// Writes the newest batch again. A process that was killed may have left it in a cache: what is told to the
    /// caller as recovered must be durable.
    fn settle(&mut self, newest: Extent) -> Result<(), LogError> {
        let mut batch = AlignedBuffer::new(newest.blocks as usize);
        let offset = offset_of(newest.start);
        self.storage
            .read_at(offset, batch.octets_mut())
            .and_then(|()| self.storage.write_at(offset, batch.octets()))
            .and_then(|()| self.storage.sync())
            .map_err(|source| failed("write", &self.storage, source))
    }

    /// Tuples that there may be at a time, about.
    fn tuples(&self) -> usize {
        usize::try_from(self.options.capacity_leases).unwrap_or(0)
    }

    /// Why the ring must be written anew, if it must.
    fn rewrite_for(&self, chain: &Chain) -> Option<Rewrite> {
        let wanted = self.options;
        if wanted.blocks() != self.superblock.blocks
            || wanted.capacity_leases != self.superblock.capacity
        {
            return Some(Rewrite::Resized { from: self.superblock.octets(), to: wanted.octets() });
        }
        (!chain.lost.is_empty()).then_some(Rewrite::Mended)
    }

    /// Writes what counts into a new ring, and puts that in this one's place.
    fn rewrite(&mut self, newest: &Newest) -> Result<Appender, LogError> {
        let superblock = Superblock {
            blocks: self.options.blocks(),
            capacity: self.options.capacity_leases,
            epoch: u64::from_le_bytes(random_octets()?),
            secret: self.superblock.secret,
        };
        let mut storage = self.storage.successor(superblock.octets())?;
        format(&mut storage, &superblock)?;
        let mut appender =
            self.appender(superblock, first_batch(), Newest::expecting(self.tuples()));
        let mut batch = Vec::with_capacity(BATCH_RECORDS);
        let mut outcome = Ok(());
        let mut visitor = InOrder(|record: &Record, sequence| {
            // The walk goes on to its end; what cannot be written is not gathered.
            if outcome.is_err() {
                return;
            }
            if newest.is_newest(record, sequence) {
                batch.push(*record);
            }
            if batch.len() == BATCH_RECORDS {
                outcome = appender.append(&mut storage, &batch, BEGINNING);
                batch.clear();
            }
        });
        Reader::new(&self.storage, &self.superblock, true).walk_in_order(&mut visitor)?;
        outcome?;
        appender.append(&mut storage, &batch, BEGINNING)?;
        self.storage.succeed(storage)?;
        self.superblock = superblock;
        Ok(appender)
    }

    fn appender(&self, superblock: Superblock, chain: Chain, newest: Newest) -> Appender {
        let blocks = u32::try_from(superblock.blocks).unwrap_or(u32::MAX);
        let space = Space::new(blocks, chain.oldest, chain.extents);
        Appender::new(superblock, self.options.hold_down_seconds, space, newest)
    }
}

/// Records that are copied at a time into a new ring.
const BATCH_RECORDS: usize = 4096;

/// A time at which no record is over: a new ring gets all.
const BEGINNING: Now = Now(0);

impl<S: Storage> LeaseLog for RingLog<S> {
    fn recover(&mut self, each: &mut dyn FnMut(&Record)) -> Result<RecoveryReport, LogError> {
        let mut kept = Kept(Vec::new());
        let report = self.recover_into(&mut kept)?;
        kept.0.iter().for_each(each);
        Ok(report)
    }

    fn recover_into(&mut self, adopter: &mut dyn Adopter) -> Result<RecoveryReport, LogError> {
        let tuples = self.tuples();
        let mut noting = Noting { newest: Newest::expecting(tuples), tuples, adopter };
        let mut reader = Reader::new(&self.storage, &self.superblock, self.options.accept_loss);
        let chain = reader.walk(&mut noting)?;
        let newest = noting.newest;
        let mut report = RecoveryReport {
            created: self.created,
            superblock_mended: self.superblock_damaged,
            tuples: newest.len() as u64,
            rewritten: self.rewrite_for(&chain),
            ..report(&self.storage, &chain)
        };
        let appender = if report.rewritten.is_some() {
            let appender = self.rewrite(&newest)?;
            report.octets = self.storage.octets();
            appender
        } else {
            if self.superblock_damaged {
                self.superblock
                    .write(&mut self.storage)
                    .map_err(|source| failed("write", &self.storage, source))?;
            }
            if let Some(last) = chain.extents.back() {
                self.settle(*last)?;
            }
            self.appender(self.superblock, chain, newest)
        };
        self.appender = Some(appender);
        Ok(report)
    }

    fn commit(&mut self, batch: &[Record], now: Now) -> Result<(), LogError> {
        // Taken out, and put back only after success: after an error nothing is known of the disk.
        let Some(mut appender) = self.appender.take() else {
            let source = std::io::Error::other("it is not recovered, or an earlier write failed");
            return Err(failed("append to", &self.storage, source));
        };
        appender.append(&mut self.storage, batch, now)?;
        self.appender = Some(appender);
        Ok(())
    }
}

/// Notes what is newest, and passes on.
struct Noting<'a> {
    newest: Newest,
    tuples: usize,
    adopter: &'a mut dyn Adopter,
}

impl Visitor for Noting<'_> {
    fn visit(&mut self, records: &[Record], sequence: u64) {
        self.newest.note_all(records, sequence);
        self.adopter.adopt(records);
    }

    fn begin_anew(&mut self) {
        self.newest = Newest::expecting(self.tuples);
        self.adopter.begin_anew();
    }
}

/// For walks in order, in which each record comes once.
struct InOrder<F>(F);

impl<F: FnMut(&Record, u64)> Visitor for InOrder<F> {
    fn visit(&mut self, records: &[Record], sequence: u64) {
        for record in records {
            (self.0)(record, sequence);
        }
    }

    fn begin_anew(&mut self) {}
}

/// Keeps records until it is known which of them count.
struct Kept(Vec<Record>);

impl Adopter for Kept {
    fn adopt(&mut self, records: &[Record]) {
        self.0.extend_from_slice(records);
    }

    fn begin_anew(&mut self) {
        self.0.clear();
    }
}

/// Superblocks, and an empty batch: a ring without any batch has lost something.
fn format<S: Storage>(storage: &mut S, superblock: &Superblock) -> Result<(), LogError> {
    let mut empty = BatchBuffer::new(1);
    empty.begin(1);
    superblock
        .write(storage)
        .and_then(|()| storage.write_at(offset_of(0), empty.seal(superblock.epoch, 1, 1)))
        .and_then(|()| storage.sync())
        .map_err(|source| failed("write", storage, source))
}

/// What [`format`] leaves.
fn first_batch() -> Chain {
    Chain {
        oldest: 1,
        extents: VecDeque::from([Extent { start: 0, blocks: 1 }]),
        torn: None,
        lost: Vec::new(),
        records: 0,
    }
}

fn report<S: Storage>(storage: &S, chain: &Chain) -> RecoveryReport {
    RecoveryReport {
        records: chain.records,
        batches: chain.extents.len() as u64,
        octets: storage.octets(),
        torn: chain.torn.clone(),
        lost: chain.lost.clone(),
        ..RecoveryReport::empty(storage.access())
    }
}
