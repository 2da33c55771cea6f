//! A lane: the bounded queue that carries one worker's records to the journal, and the watermark that comes back.
//!
//! A lane is written by one thread only, its worker. Lanes need no order among each other: records are ordered by
//! their stamps. Inside a lane, sequence numbers count from 1, and the journal makes records durable in that order.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use crossbeam_utils::CachePadded;

use super::{bell::Bell, queue::Queue, waker::Waker};
use crate::{
    lease::{
        promise::{LaneId, Promise, Watermarks},
        record::{RECORD_LENGTH, Record},
    },
    sync::{AtomicU64, Ordering},
};

/// No room is left in a lane: the worker took more packets than [`Lane::room`] allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lane of {capacity} records is full")]
pub struct LaneFull {
    /// The lane's size, in records.
    pub capacity: usize,
}

/// A record as the queue carries it.
const RECORD_WORDS: usize = RECORD_LENGTH / size_of::<u64>();

/// What only the worker writes. On a line of its own, so that the journal's reads do not disturb it.
struct Progress {
    /// The sequence number of the last record pushed.
    pushed: AtomicU64,
    /// The watermark that the worker has last read.
    settled: AtomicU64,
}

/// One worker's way to the journal and back.
pub struct Lane {
    id: LaneId,
    queue: Queue<RECORD_WORDS>,
    watermarks: Arc<Watermarks>,
    progress: CachePadded<Progress>,
    worker: CachePadded<Bell>,
    wake_worker: Box<dyn Fn() + Send + Sync>,
    journal: OnceLock<Arc<Waker>>,
}

impl Lane {
    /// A lane for `capacity` records. `bell` wakes its worker (it writes to its eventfd); the journal calls it only
    /// while the worker sleeps.
    pub fn new(
        id: LaneId,
        capacity: usize,
        watermarks: Arc<Watermarks>,
        bell: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            id,
            queue: Queue::new(capacity),
            watermarks,
            progress: CachePadded::new(Progress {
                pushed: AtomicU64::new(0),
                settled: AtomicU64::new(0),
            }),
            worker: CachePadded::new(Bell::new()),
            wake_worker: bell,
            journal: OnceLock::new(),
        }
    }

    /// This lane's number.
    pub fn id(&self) -> LaneId {
        self.id
    }

    /// The most records that may wait here.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// Worker: how many records can be pushed now. Grows while the worker looks away, never shrinks.
    pub fn room(&self) -> usize {
        self.queue.capacity() - self.queue.len()
    }

    /// Worker: the promise that the next record pushed will keep.
    pub fn next(&self) -> Promise {
        Promise { lane: self.id, sequence: self.progress.pushed.load(Ordering::Relaxed) + 1 }
    }

    /// Worker: hands a record to the journal, and says what sequence number it has. The journal is not woken:
    /// that is for [`ring_journal`](Self::ring_journal), without which nothing is taken.
    pub fn push(&self, record: Record) -> Result<u64, LaneFull> {
        let sequence = self.progress.pushed.load(Ordering::Relaxed) + 1;
        let words: [u64; RECORD_WORDS] = zerocopy::transmute!(record);
        if !self.queue.push(&words) {
            return Err(LaneFull { capacity: self.queue.capacity() });
        }
        self.progress.pushed.store(sequence, Ordering::Relaxed);
        Ok(sequence)
    }

    /// Worker, once enough has gathered: the journal makes durable what was pushed before, and is woken if it sleeps.
    pub fn ring_journal(&self) {
        if let Some(journal) = self.journal.get() {
            journal.ring();
        }
    }

    /// Worker: up to which sequence number its records are durable. Whoever calls this settles what waits for it:
    /// [`fall_asleep`](Self::fall_asleep) takes the value as seen. Others read [`Watermarks`].
    pub fn durable(&self) -> u64 {
        let durable = self.watermarks.durable(self.id);
        self.progress.settled.store(durable, Ordering::Relaxed);
        durable
    }

    /// Worker: says that it is about to sleep. True: it may block, and the bell will ring when the watermark moves;
    /// it must say [`woke`](Self::woke) afterwards. False: the watermark has moved since [`durable`](Self::durable)
    /// was last read, so there is work.
    pub fn fall_asleep(&self) -> bool {
        let settled = self.progress.settled.load(Ordering::Relaxed);
        self.worker.fall_asleep(|| self.watermarks.durable(self.id) == settled)
    }

    /// Worker: it is awake again, for whatever reason.
    pub fn woke(&self) {
        self.worker.woke();
    }

    /// Journal: takes up to `limit` records out, and says how many. Never allocates if `into` has room.
    pub fn drain(&self, into: &mut Vec<Record>, limit: usize) -> usize {
        self.queue.take(limit, |words| into.push(zerocopy::transmute!(words)))
    }

    /// Journal: whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Journal, after the sync: says that this lane is durable up to `sequence`, and wakes its worker if it sleeps.
    pub fn publish(&self, sequence: u64) {
        self.watermarks.publish(self.id, sequence);
        self.worker.ring(|| (self.wake_worker)());
    }

    /// Journal, once: this is who is to be woken for new records.
    pub(super) fn attach(&self, journal: Arc<Waker>) -> bool {
        self.journal.set(journal).is_ok()
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("id", &self.id)
            .field("capacity", &self.queue.capacity())
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::journal::testing::record;

    fn lane(capacity: usize) -> (Lane, Arc<AtomicUsize>) {
        let rung = Arc::new(AtomicUsize::new(0));
        let counter = rung.clone();
        let bell = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        (Lane::new(LaneId(1), capacity, Arc::new(Watermarks::new(2)), bell), rung)
    }

    #[test]
    fn sequences_count_from_one_and_promises_announce_them() {
        let (lane, _) = lane(4);
        assert_eq!(lane.next(), Promise { lane: LaneId(1), sequence: 1 });
        assert_eq!(lane.push(record(1, 1)), Ok(1));
        assert_eq!(lane.next().sequence, 2);
        assert_eq!(lane.push(record(2, 2)), Ok(2));
    }

    #[test]
    fn room_shrinks_with_pushes_and_a_full_lane_refuses_without_counting() {
        let (lane, _) = lane(2);
        assert_eq!(lane.room(), 2);
        assert!(lane.push(record(1, 1)).is_ok() && lane.push(record(2, 2)).is_ok());
        assert_eq!(lane.room(), 0);
        assert_eq!(lane.push(record(3, 3)), Err(LaneFull { capacity: 2 }));
        assert_eq!(lane.next().sequence, 3, "what was refused has no number");
        let mut out = Vec::new();
        assert_eq!(lane.drain(&mut out, 1), 1);
        assert_eq!(lane.room(), 1);
        assert_eq!(out, [record(1, 1)], "first in, first out");
        assert_eq!(lane.drain(&mut out, 9), 1);
        assert!(lane.is_empty());
    }

    #[test]
    fn the_bell_rings_once_and_only_for_a_sleeper() {
        let (lane, rung) = lane(2);
        lane.publish(1);
        assert_eq!(rung.load(Ordering::Relaxed), 0, "awake");
        assert_eq!(lane.durable(), 1);
        assert!(lane.fall_asleep());
        lane.publish(2);
        lane.publish(3);
        assert_eq!(rung.load(Ordering::Relaxed), 1);
        lane.woke();
        lane.publish(4);
        assert_eq!(rung.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_worker_does_not_fall_asleep_over_a_watermark_it_has_not_read() {
        let (lane, rung) = lane(2);
        assert_eq!(lane.durable(), 0);
        lane.publish(1);
        assert!(!lane.fall_asleep());
        assert_eq!(lane.durable(), 1);
        assert!(lane.fall_asleep());
        assert_eq!(rung.load(Ordering::Relaxed), 0);
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::{
        cell::UnsafeCell,
        sync::{Arc as LoomArc, Notify},
    };

    use super::*;

    /// The watermark carries what was made durable before it, and its worker never sleeps through it.
    #[test]
    fn loom_a_watermark_says_what_is_durable_and_wakes_its_worker() {
        loom::model(|| {
            let blocked = LoomArc::new(Notify::new());
            let waking = blocked.clone();
            let bell = Box::new(move || waking.notify());
            let watermarks = Arc::new(Watermarks::new(1));
            let lane = LoomArc::new(Lane::new(LaneId(0), 2, watermarks, bell));
            let disk = LoomArc::new(UnsafeCell::new(0_u64));
            let journal = {
                let (lane, disk) = (lane.clone(), disk.clone());
                loom::thread::spawn(move || {
                    // loom proves that nobody else touches the disk before the watermark says so.
                    disk.with_mut(|_| ());
                    lane.publish(1);
                })
            };
            while lane.durable() < 1 {
                if lane.fall_asleep() {
                    blocked.wait();
                    lane.woke();
                }
            }
            disk.with(|_| ());
            journal.join().unwrap();
        });
    }
}
