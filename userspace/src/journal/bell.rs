//! The bell: how a thread that sleeps is woken, and one that is awake is left alone.
//!
//! Two threads must agree without a lock: the sleeper says that it sleeps and *then* looks once more for work, the
//! other makes work and *then* looks whether anybody sleeps. A sequentially consistent fence stands between the two
//! steps on both sides, so at least one of them sees the other: no wake-up is lost, and none is paid for a thread
//! that is awake.

use crate::sync::{AtomicBool, Ordering, fence};

/// Whether one thread sleeps, and may be woken by others.
#[derive(Debug)]
pub(crate) struct Bell {
    asleep: AtomicBool,
}

impl Bell {
    /// A bell whose thread is awake.
    pub(crate) fn new() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }

    /// The sleeper: announces the sleep, then asks `idle` once more. If true, the caller must now block until it is
    /// rung for, and then say [`woke`](Self::woke); if false, there is work and nobody will ring.
    pub(crate) fn fall_asleep(&self, idle: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let idle = idle();
        if !idle {
            self.asleep.store(false, Ordering::Relaxed);
        }
        idle
    }

    /// The sleeper: it is awake again, whatever woke it.
    pub(crate) fn woke(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// The others, after they have made work: calls `wake` if the thread sleeps and nobody has rung yet.
    pub(crate) fn ring(&self, wake: impl FnOnce()) {
        fence(Ordering::SeqCst);
        // The load keeps the cache line shared while the thread is awake, which it is under load.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            wake();
        }
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::sync::{Arc, Notify, atomic::AtomicU64};

    use super::*;

    /// A sleeper that blocks until all work is seen; a lost wake-up is a deadlock, which loom reports.
    fn nobody_oversleeps(ringers: usize) {
        let mut model = loom::model::Builder::new();
        // Three threads without a bound take hours; two preemptions find every known way to lose a bell.
        model.preemption_bound = (ringers > 1).then_some(2);
        model.check(move || {
            let bell = Arc::new(Bell::new());
            let work = Arc::new(AtomicU64::new(0));
            let blocked = Arc::new(Notify::new());
            for _ in 0..ringers {
                let (bell, work, blocked) = (bell.clone(), work.clone(), blocked.clone());
                loom::thread::spawn(move || {
                    work.fetch_add(1, Ordering::Relaxed);
                    bell.ring(|| blocked.notify());
                });
            }
            let mut seen = 0;
            while seen < ringers as u64 {
                if bell.fall_asleep(|| work.load(Ordering::Relaxed) == seen) {
                    blocked.wait();
                    bell.woke();
                }
                seen = work.load(Ordering::Relaxed);
            }
        });
    }

    #[test]
    fn loom_a_sleeper_never_misses_the_only_bell() {
        nobody_oversleeps(1);
    }

    #[test]
    fn loom_a_sleeper_never_misses_one_bell_of_two() {
        nobody_oversleeps(2);
    }
}
