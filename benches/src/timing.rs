//! Clocks around the piece that is measured, and around several threads of it.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// How long `work` takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// A clock that some work is timed by; only differences count.
pub type Clock = fn() -> Duration;

/// The time that passes.
pub fn passing() -> Duration {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGIN.elapsed()
}

/// The time for which this thread has had a processor: whatever else the machine does is not in it.
pub fn working() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// Where threads wait for each other without sleeping, so that they go on at the same moment.
pub struct Meeting {
    threads: usize,
    arrivals: AtomicUsize,
}

impl Meeting {
    /// Waits until all threads are here.
    pub fn wait(&self) {
        // A thread that spins for longer than this may have the core that another one needs.
        const SPINS: usize = 10_000;
        let arrival = self.arrivals.fetch_add(1, Ordering::AcqRel) + 1;
        let complete = arrival.next_multiple_of(self.threads);
        let mut spins = 0;
        while self.arrivals.load(Ordering::Acquire) < complete {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// The mean of the times that threads measure who start together, one for each of `crew`; they can meet again.
///
/// # Panics
///
/// If one of them panics.
pub fn together<C: Send>(
    crew: impl ExactSizeIterator<Item = C>,
    work: impl Fn(C, &Meeting) -> Duration + Sync,
) -> Duration {
    let threads = crew.len();
    let meeting = Meeting { threads, arrivals: AtomicUsize::new(0) };
    let total: Duration = std::thread::scope(|scope| {
        let (meeting, work) = (&meeting, &work);
        let start = |member| {
            scope.spawn(move || {
                meeting.wait();
                work(member, meeting)
            })
        };
        let workers: Vec<_> = crew.map(start).collect();
        workers.into_iter().map(|worker| worker.join().expect("the work ends")).sum()
    });
    total / u32::try_from(threads).unwrap_or(1)
}
