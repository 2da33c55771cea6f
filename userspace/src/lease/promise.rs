//! Promises: which record a reply waits for, and how far each worker's records are durable.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering};

/// Numbers a worker's lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId(pub u16);

/// The record that a binding was last promised in: a lane, and its sequence number there, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The lane of the worker that made the promise.
    pub lane: LaneId,
    /// The record's place in that lane; 0 stands for a record read back from the log.
    pub sequence: u64,
}

impl Promise {
    /// What recovery read is durable by nature.
    pub const RECOVERED: Promise = Promise { lane: LaneId(0), sequence: 0 };
}

/// For each lane, the sequence number up to which its records are durable. Written by the journal, read by all.
#[derive(Debug)]
pub struct Watermarks(Box<[CachePadded<AtomicU64>]>);

impl Watermarks {
    /// Watermarks for `lanes` lanes, none of which has a durable record yet.
    pub fn new(lanes: usize) -> Self {
        Self((0..lanes).map(|_| CachePadded::new(AtomicU64::new(0))).collect())
    }

    /// The number of lanes.
    pub fn lanes(&self) -> usize {
        self.0.len()
    }

    /// The sequence number up to which `lane` is durable.
    pub fn durable(&self, lane: LaneId) -> u64 {
        self.0[usize::from(lane.0)].load(Ordering::Acquire)
    }

    /// Says that `lane` is durable up to `sequence`. Only the journal may, and only after the sync.
    pub fn publish(&self, lane: LaneId, sequence: u64) {
        self.0[usize::from(lane.0)].store(sequence, Ordering::Release);
    }

    /// Whether a crash now would keep `promise`.
    pub fn keeps(&self, promise: Promise) -> bool {
        self.durable(promise.lane) >= promise.sequence
    }
}
