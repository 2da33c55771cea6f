//! How workers wake the journal thread, and how long that takes.

use std::{
    sync::OnceLock,
    thread::Thread,
    time::{Duration, Instant},
};

use super::bell::Bell;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The journal thread's bell: shared by all lanes.
#[derive(Debug)]
pub(super) struct Waker {
    bell: Bell,
    /// Somebody has rung since the journal last looked.
    called: AtomicBool,
    thread: OnceLock<Thread>,
    birth: Instant,
    /// When the bell was last rung, in nanoseconds since `birth`; 0 if the sleep ended otherwise.
    rung_nanoseconds: AtomicU64,
}

impl Waker {
    pub(super) fn new() -> Self {
        Self {
            bell: Bell::new(),
            called: AtomicBool::new(false),
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
        self.called.store(true, Ordering::Release);
        self.bell.ring(|| {
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
        self.called.swap(false, Ordering::Acquire)
    }

    /// The journal thread: sleeps unless it is called or `idle` does not hold, and says how long the wake-up took from
    /// bell to feet.
    pub(super) fn sleep(&self, idle: impl FnOnce() -> bool) -> Option<Duration> {
        self.rung_nanoseconds.store(0, Ordering::Relaxed);
        if !self.bell.fall_asleep(|| !self.called.load(Ordering::Relaxed) && idle()) {
            return None;
        }
        std::thread::park();
        self.bell.woke();
        // Parking synchronises with unparking, so the time of the bell is visible; a spurious end has none.
        let rung = self.rung_nanoseconds.load(Ordering::Relaxed);
        (rung != 0).then(|| self.birth.elapsed().saturating_sub(Duration::from_nanos(rung)))
    }
}
