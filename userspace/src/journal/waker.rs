//! How workers wake the journal thread, and how long that takes.

use std::{
    sync::OnceLock,
    thread::Thread,
    time::{Duration, Instant},
};

use super::bell::Bell;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Whether there is a call for the journal, and whether it sleeps.
///
/// A record is seen by who is called for it. Of two workers that call one after the other the journal hears one call;
/// since each call is an exchange, the later one hands on what the earlier one carries (a store would cut it off), and
/// the journal sees what both have pushed.
#[derive(Debug)]
struct Call {
    bell: Bell,
    /// Somebody has called since the journal last looked.
    called: AtomicBool,
}

impl Call {
    fn new() -> Self {
        Self { bell: Bell::new(), called: AtomicBool::new(false) }
    }

    /// Any thread, after it has made work: calls `wake` if the journal sleeps.
    fn call(&self, wake: impl FnOnce()) {
        self.called.swap(true, Ordering::Release);
        self.bell.ring(wake);
    }

    /// The journal: whether anybody has called since it last asked. What was pushed before that is to be seen.
    fn was_called(&self) -> bool {
        self.called.swap(false, Ordering::Acquire)
    }

    /// The journal: whether it must block now, until it is woken. Not if there is a call, or if `idle` does not hold.
    fn fall_asleep(&self, idle: impl FnOnce() -> bool) -> bool {
        self.bell.fall_asleep(|| !self.called.load(Ordering::Relaxed) && idle())
    }

    /// The journal: it is awake again.
    fn woke(&self) {
        self.bell.woke();
    }
}

/// The journal thread's bell: shared by all lanes.
#[derive(Debug)]
pub(super) struct Waker {
    call: Call,
    thread: OnceLock<Thread>,
    birth: Instant,
    /// When the bell was last rung, in nanoseconds since `birth`; 0 if the sleep ended otherwise.
    rung_nanoseconds: AtomicU64,
}

impl Waker {
    pub(super) fn new() -> Self {
        Self {
            call: Call::new(),
            thread: OnceLock::new(),
            birth: Instant::now(),
            rung_nanoseconds: AtomicU64::new(0),
        }
    }

    /// The journal thread, before anything else: it is the one to wake.
    pub(super) fn enter(&self) {
        // A second thread would be a bug of this module; the first stays the one that is woken.
        let _ = self.thread.set(std::thread::current());
    }

    /// Any thread, after it has made work.
    pub(super) fn ring(&self) {
        self.call.call(|| {
            // A clock read only here, where a system call follows anyway: never while the journal is awake.
            let elapsed = u64::try_from(self.birth.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.rung_nanoseconds.store(elapsed, Ordering::Relaxed);
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        });
    }

    /// The journal thread: whether anybody has rung since it last asked. What was pushed before that is to be seen.
    pub(super) fn was_called(&self) -> bool {
        self.call.was_called()
    }

    /// The journal thread: sleeps unless it is called or `idle` does not hold, and says how long the wake-up took from
    /// bell to feet.
    pub(super) fn sleep(&self, idle: impl FnOnce() -> bool) -> Option<Duration> {
        self.rung_nanoseconds.store(0, Ordering::Relaxed);
        if !self.call.fall_asleep(idle) {
            return None;
        }
        std::thread::park();
        self.call.woke();
        // Parking synchronises with unparking, so the time of the bell is visible; a spurious end has none.
        let rung = self.rung_nanoseconds.load(Ordering::Relaxed);
        (rung != 0).then(|| self.birth.elapsed().saturating_sub(Duration::from_nanos(rung)))
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::sync::{Arc, Notify};

    use super::*;
    use crate::journal::queue::Queue;

    /// Workers that push one record each into lanes of their own, and a journal that looks into the lanes only when it
    /// is called: it gets all records before it sleeps for good, which loom would report as a deadlock.
    fn everything_pushed_is_taken(workers: usize) {
        let mut model = loom::model::Builder::new();
        // Three threads without a bound take hours.
        model.preemption_bound = (workers > 1).then_some(2);
        model.check(move || {
            let call = Arc::new(Call::new());
            let blocked = Arc::new(Notify::new());
            let lanes: Vec<_> = (0..workers).map(|_| Arc::new(Queue::<1>::new(1))).collect();
            for lane in &lanes {
                let (lane, call, blocked) = (lane.clone(), call.clone(), blocked.clone());
                loom::thread::spawn(move || {
                    assert!(lane.push(&[7]));
                    call.call(|| blocked.notify());
                });
            }
            let mut taken = 0;
            while taken < workers {
                if call.was_called() {
                    taken += lanes.iter().map(|lane| lane.take(1, |_| ())).sum::<usize>();
                } else if call.fall_asleep(|| true) {
                    blocked.wait();
                    call.woke();
                }
            }
        });
    }

    #[test]
    fn loom_a_call_is_heard_with_all_that_was_pushed_before() {
        everything_pushed_is_taken(1);
    }

    #[test]
    fn loom_two_calls_heard_as_one_carry_what_both_have_pushed() {
        everything_pushed_is_taken(2);
    }
}
