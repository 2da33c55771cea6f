//! The journal thread.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use super::{
    histogram::{Distribution, Histogram},
    lane::Lane,
    log::{LeaseLog, LogError},
    waker::Waker,
};
use crate::lease::{record::Record, stamp::Now};

/// The most records that one commit takes from all lanes together: half a megabyte.
pub const BATCH_RECORDS: usize = 4096;

/// What the server lets happen in the journal thread.
pub struct Hooks {
    /// Called first, in the thread: asks for its scheduling class and core.
    pub on_start: Box<dyn FnOnce() + Send>,
    /// Called after a commit has failed and the failure is logged, or the thread has panicked. In production this
    /// does not return: memory may be ahead of the disk, so the disk must win.
    pub on_failure: Box<dyn FnOnce() + Send>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { on_start: Box::new(|| ()), on_failure: Box::new(|| std::process::abort()) }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// What the journal thread counts. Written by it alone.
#[derive(Debug)]
struct Counters {
    commits: AtomicU64,
    records: AtomicU64,
    largest_batch: AtomicU64,
    sync: Histogram,
    wake: Histogram,
}

/// What the journal thread has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Batches made durable.
    pub commits: u64,
    /// Records made durable.
    pub records: u64,
    /// Records of the largest batch.
    pub largest_batch: u64,
    /// Time of each commit: a slow disk shows here.
    pub sync: Distribution,
    /// Time from bell to running, of each sleep that a bell ended: a starved thread shows here.
    pub wake: Distribution,
}

/// What both ends of the thread share.
#[derive(Debug)]
struct Shared {
    waker: Arc<Waker>,
    stop: AtomicBool,
    counters: Counters,
}

/// The journal thread, from outside.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the journal thread: from now on, records that workers push into `lanes` become durable in `log`, whose
    /// recovery is over. `clock` is read once a commit.
    ///
    /// Fails if the system refuses a thread, or if a lane already has a journal.
    pub fn spawn(
        lanes: Vec<Arc<Lane>>,
        log: Box<dyn LeaseLog>,
        clock: impl Fn() -> Now + Send + 'static,
        hooks: Hooks,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waker: Arc::new(Waker::new()),
            stop: AtomicBool::new(false),
            counters: Counters {
                commits: AtomicU64::new(0),
                records: AtomicU64::new(0),
                largest_batch: AtomicU64::new(0),
                sync: Histogram::new(),
                wake: Histogram::new(),
            },
        });
        if !lanes.iter().all(|lane| lane.attach(shared.waker.clone())) {
            return Err(io::Error::other("a lane already belongs to another journal"));
        }
        let writer = Writer {
            taken: vec![0; lanes.len()],
            published: vec![0; lanes.len()],
            first: 0,
            batch: Vec::with_capacity(BATCH_RECORDS),
            lanes,
            log,
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || enter(writer, clock, hooks))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What it has done so far. A count that no longer rises under load is a journal that stands still.
    pub fn statistics(&self) -> Statistics {
        let counters = &self.shared.counters;
        Statistics {
            commits: counters.commits.load(Ordering::Relaxed),
            records: counters.records.load(Ordering::Relaxed),
            largest_batch: counters.largest_batch.load(Ordering::Relaxed),
            sync: counters.sync.snapshot(),
            wake: counters.wake.snapshot(),
        }
    }

    /// Makes everything durable that is in the lanes, ends the thread and says what it has done. Workers must push
    /// nothing any more.
    pub fn stop(mut self) -> Statistics {
        self.finish();
        self.statistics()
    }

    fn finish(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.waker.ring();
        if let Some(thread) = self.thread.take() {
            // A panic inside was caught and reported there.
            let _ = thread.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.finish();
    }
}

fn enter(mut writer: Writer, clock: impl Fn() -> Now, hooks: Hooks) {
    writer.shared.waker.enter();
    (hooks.on_start)();
    match catch_unwind(AssertUnwindSafe(|| writer.run(clock))) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::error!("the journal cannot go on: {error}"),
        Err(_) => tracing::error!("the journal thread has panicked"),
    }
    (hooks.on_failure)();
}

/// The inside of the journal thread.
struct Writer {
    lanes: Vec<Arc<Lane>>,
    log: Box<dyn LeaseLog>,
    shared: Arc<Shared>,
    batch: Vec<Record>,
    /// For each lane, how many records were taken from it so far: the sequence number of the last one.
    taken: Vec<u64>,
    /// For each lane, up to where it is published.
    published: Vec<u64>,
    /// The lane that is drained first, in turns: a busy lane does not starve the others.
    first: usize,
}

impl Writer {
    fn run(&mut self, clock: impl Fn() -> Now) -> Result<(), LogError> {
        loop {
            // Read before the lanes: what was pushed before the stop is seen by the drain that follows.
            let stopping = self.shared.stop.load(Ordering::Acquire);
            // A worker that has not called yet is still gathering.
            if self.shared.waker.was_called() || stopping || self.batch.len() == BATCH_RECORDS {
                self.drain();
            } else {
                self.batch.clear();
            }
            if !self.batch.is_empty() {
                self.commit(clock())?;
            } else if stopping {
                return Ok(());
            } else {
                self.sleep();
            }
        }
    }

    fn drain(&mut self) {
        self.batch.clear();
        let lanes = self.lanes.len();
        for turn in 0..lanes {
            let at = (self.first + turn) % lanes;
            let (Some(lane), Some(taken)) = (self.lanes.get(at), self.taken.get_mut(at)) else {
                continue;
            };
            let room = BATCH_RECORDS - self.batch.len();
            *taken += lane.drain(&mut self.batch, room) as u64;
        }
        self.first = (self.first + 1) % lanes.max(1);
    }

    fn commit(&mut self, now: Now) -> Result<(), LogError> {
        let begin = Instant::now();
        self.log.commit(&self.batch, now)?;
        let counters = &self.shared.counters;
        counters.sync.count(begin.elapsed());
        let records = self.batch.len() as u64;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.records.fetch_add(records, Ordering::Relaxed);
        counters.largest_batch.fetch_max(records, Ordering::Relaxed);
        for ((lane, taken), published) in
            self.lanes.iter().zip(&self.taken).zip(&mut self.published)
        {
            if *published != *taken {
                *published = *taken;
                lane.publish(*taken);
            }
        }
        Ok(())
    }

    fn sleep(&self) {
        let idle = || !self.shared.stop.load(Ordering::Acquire);
        if let Some(wake) = self.shared.waker.sleep(idle) {
            self.shared.counters.wake.count(wake);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
