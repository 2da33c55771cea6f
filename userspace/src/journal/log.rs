//! What the journal asks of a log: give everything back at birth, and make a batch durable.

use std::{fmt, io, path::PathBuf};

use crate::lease::{record::Record, stamp::Now};

/// Takes what a log gives back.
pub trait Adopter {
    /// Records, superseded ones included, in any order: the greatest stamp of a tuple is the truth.
    fn adopt(&mut self, records: &[Record]);

    /// What was given so far does not count: the log begins anew.
    fn begin_anew(&mut self);
}

/// A log of records. Few methods, because the state lives in memory and a store's indexes are work for nobody.
pub trait LeaseLog: Send {
    /// Calls `each` with every record that the log still has, superseded ones included, in any order: the greatest
    /// stamp of a tuple is the truth. Must be called once, before the first [`commit`](Self::commit).
    fn recover(&mut self, each: &mut dyn FnMut(&Record)) -> Result<RecoveryReport, LogError>;

    /// The same for very many records. They may be given twice: what counts comes after
    /// [`begin_anew`](Adopter::begin_anew).
    fn recover_into(&mut self, adopter: &mut dyn Adopter) -> Result<RecoveryReport, LogError> {
        self.recover(&mut |record| adopter.adopt(std::slice::from_ref(record)))
    }

    /// Makes `batch` durable: when this returns without an error, no crash loses it. After an error nothing is known
    /// of the batch, and the log must not be used any more. `now` tells which old records are over.
    fn commit(&mut self, batch: &[Record], now: Now) -> Result<(), LogError>;
}

/// How a log's file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// No file.
    Memory,
    /// `O_DIRECT | O_DSYNC`: a write is durable when it returns, and passes no cache.
    Direct,
    /// Through the page cache, each write followed by fdatasync, because direct access was refused.
    Buffered {
        /// What the file system said.
        reason: String,
    },
}

/// A place of the log whose content cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The batch that is missing.
    pub sequence: u64,
    /// Where it should begin, in octets from the file's start.
    pub offset: u64,
    /// What is wrong there.
    pub fault: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {} at offset {}: {}", self.sequence, self.offset, self.fault)
    }
}

/// Why recovery wrote the log anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// The configuration asks for another size, in octets.
    Resized {
        /// The size found.
        from: u64,
        /// The size now.
        to: u64,
    },
    /// Damage was accepted: what could still be read is in a whole log again.
    Mended,
}

/// What recovery found. [`messages`](Self::messages) says it in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log did not exist, and was made.
    pub created: bool,
    /// Records given to the caller, superseded ones included.
    pub records: u64,
    /// Tuples among them.
    pub tuples: u64,
    /// Batches read.
    pub batches: u64,
    /// The log's size, in octets; 0 without a file.
    pub octets: u64,
    /// How the file is written.
    pub access: Access,
    /// The last batch, which a crash had cut short and which nobody was ever promised.
    pub torn: Option<Damage>,
    /// What was lost, and accepted as lost.
    pub lost: Vec<Damage>,
    /// One of the two superblocks was unreadable and was written again.
    pub superblock_mended: bool,
    /// The log was written anew.
    pub rewritten: Option<Rewrite>,
}

impl RecoveryReport {
    /// A report of nothing found.
    pub(super) fn empty(access: Access) -> Self {
        Self {
            created: false,
            records: 0,
            tuples: 0,
            batches: 0,
            octets: 0,
            access,
            torn: None,
            lost: Vec::new(),
            superblock_mended: false,
            rewritten: None,
        }
    }

    /// What an operator should know and would not expect, a sentence each, without what is usual.
    pub fn messages(&self) -> Vec<String> {
        let mut messages = Vec::new();
        if let Access::Buffered { reason } = &self.access {
            messages.push(format!(
                "direct access to the log was refused ({reason}); it goes through the page cache, with fdatasync"
            ));
        }
        if let Some(torn) = &self.torn {
            messages.push(format!(
                "the last batch was cut short by a crash and is cut off ({torn}); nothing was promised by it"
            ));
        }
        for lost in &self.lost {
            messages.push(format!("lost, as accepted: {lost}"));
        }
        if self.superblock_mended {
            messages.push("one of the two superblocks was unreadable; written again".to_owned());
        }
        match self.rewritten {
            Some(Rewrite::Resized { from, to }) => {
                messages.push(format!("the log was written anew: {to} octets, was {from}"));
            }
            Some(Rewrite::Mended) => messages.push("the log was written anew, whole".to_owned()),
            None => {}
        }
        messages
    }
}

/// Why a log cannot be used. Every text names the file, what was seen and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the store.
    #[error(
        "the store {} is in use by another process{}; two servers on one store would lease the same ports twice",
        path.display(),
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The store's directory.
        path: PathBuf,
        /// The process that holds it, if it said so.
        holder: Option<u32>,
    },
    /// The disk has no room for the log, which never grows afterwards.
    #[error(
        "no room for the log {}: it needs {needed} octets, {written} could be written ({source}); \
         free some space, or lower store.capacity",
        path.display()
    )]
    DiskTooSmall {
        /// The file that was to be written; it is removed again.
        path: PathBuf,
        /// Octets needed.
        needed: u64,
        /// Octets that could be written.
        written: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a lease log: {fault}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The file was written by another version.
    #[error(
        "the log {} has format version {found}, this program knows version {known}; \
         start the version that wrote it, or move the file away to begin without leases",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The file is shorter than it was made.
    #[error("the log {} has {found} octets, its superblock says {expected}: it was cut", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length, in octets.
        found: u64,
        /// The length it should have, in octets.
        expected: u64,
    },
    /// Something between the oldest batch that is needed and the newest is unreadable.
    #[error(
        "the log {} is damaged in {damage}; promises made there are lost: restore the file, \
         or start with --accept-loss to go on without them",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, and how.
        damage: Damage,
    },
    /// More live records than the log has room for. Nothing is overwritten; nothing more can be promised.
    #[error(
        "the log {} is full: {live} tuples are leased or held, it is made for {capacity} leases; \
         raise store.capacity",
        path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// Tuples that have a record.
        live: u64,
        /// Leases that it was made for.
        capacity: u64,
    },
}
