//! Makes promises durable before they leave.
//!
//! One thread drains the lanes of all workers into one batch, commits it with one sync, and publishes how far each
//! lane is durable. It takes records when a worker calls: at once if that one is idle, after a while if it is busy.
//! While the disk works, the next batch gathers. This module may not decide anything about leases; it knows records,
//! stamps and promises only.
//!
//! - [`Lane`]: a worker's queue of records, and its watermark.
//! - [`Awaiting`]: replies that leave when their record is durable.
//! - [`LeaseLog`]: what makes a batch durable: [`RingLog`] in a file, [`MemoryLog`] not at all.
//! - [`Journal`]: the thread.

mod append;
mod awaiting;
mod batch;
mod bell;
#[cfg(any(test, feature = "sim"))]
pub mod fault;
mod file;
mod histogram;
mod lane;
mod log;
mod memory;
mod newest;
mod queue;
mod recovery;
mod ring;
mod space;
mod storage;
mod superblock;
mod survey;
#[cfg(test)]
mod testing;
mod thread;
#[cfg(test)]
mod trials;
mod waker;
mod window;

pub use awaiting::{Awaiting, WAIT_MAX_MILLISECONDS};
pub use file::FileStorage;
pub use histogram::{BUCKETS, Distribution};
pub use lane::{Lane, LaneFull};
pub use log::{Access, Adopter, Damage, LeaseLog, LogError, RecoveryReport, Rewrite};
pub use memory::MemoryLog;
pub use ring::{Options, RingLog};
pub use storage::{BLOCK_OCTETS, Storage};
pub use superblock::FORMAT_VERSION;
pub use thread::{BATCH_RECORDS, Hooks, Journal, Statistics};
