//! What the generator does with its core: what is of use, and what is only looking for work.

use std::time::Duration;

use crate::sys;

/// What the generator did with its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Processor time when the phase began.
    cpu: Duration,
    /// Time in turns of the loop that found nothing to do, in microseconds; of that asleep.
    pub(super) idle_us: u64,
    pub(super) asleep_us: u64,
}

impl Effort {
    pub(super) fn new() -> Self {
        Self { cpu: sys::thread_time(), idle_us: 0, asleep_us: 0 }
    }

    /// Processor time since the phase began, and the part of it that was of use.
    pub(super) fn spent(&self) -> (Duration, Duration) {
        let spent = sys::thread_time().saturating_sub(self.cpu);
        let looking = Duration::from_micros(self.idle_us.saturating_sub(self.asleep_us));
        (spent, spent.saturating_sub(looking))
    }
}
