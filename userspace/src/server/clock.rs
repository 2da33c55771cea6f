//! The server's clock: the wall clock at birth, and the time since boot that has passed since then.
//!
//! A step of the wall clock changes no lease. Real stamps in the log are the reason why the wall clock must not be
//! behind them at birth: see [`Clock::new`]'s caller.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{lease::stamp::Now, net::sys::boottime};

/// Reads the same time on every thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The epoch's milliseconds at the time of boot, as it looked at birth.
    boot_milliseconds: u64,
}

impl Clock {
    /// A clock that is right now, if the wall clock is.
    pub fn new() -> Self {
        Self { boot_milliseconds: wall().0.saturating_sub(milliseconds(boottime())) }
    }

    /// The time.
    pub fn now(self) -> Now {
        self.at(boottime())
    }

    /// What the time is, was or will be when this has passed since boot.
    pub fn at(self, uptime: Duration) -> Now {
        Now(self.boot_milliseconds.saturating_add(milliseconds(uptime)))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// The wall clock, steps included.
pub fn wall() -> Now {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_born_at_the_wall_time_and_goes_forward() {
        let before = wall();
        let clock = Clock::new();
        let now = clock.now();
        assert!(now.0 + 1 >= before.0 && now.0 <= wall().0 + 1, "{before:?} {now:?}");
        assert!(clock.now() >= now);
    }
}
