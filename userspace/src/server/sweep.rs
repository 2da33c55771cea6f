//! The pace at which expired leases are swept: the whole table every ten seconds, by whichever worker has time.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lease::stamp::Now;

/// The table is covered once in this time.
pub const PERIOD_MILLISECONDS: u64 = 10_000;

/// Hands out shards to sweep, in turns, at a steady pace. Shared by all workers.
#[derive(Debug)]
pub struct Pace {
    begin: Now,
    shards: u64,
    /// Shards handed out since `begin`.
    taken: CachePadded<AtomicU64>,
    /// Shards to hand out regardless of the time, because a pool has run dry.
    wanted: CachePadded<AtomicU64>,
}

impl Pace {
    /// A pace for `shards` shards that begins now.
    pub fn new(shards: usize, begin: Now) -> Self {
        Self {
            begin,
            shards: (shards as u64).max(1),
            taken: CachePadded::new(AtomicU64::new(0)),
            wanted: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// The next shard that is due at `now`, if one is.
    pub fn next(&self, now: Now) -> Option<usize> {
        let taken = self.taken.load(Ordering::Relaxed);
        if taken >= self.due(now) {
            return None;
        }
        // Lost to another worker: there will be a next time.
        self.taken
            .compare_exchange(taken, taken + 1, Ordering::Relaxed, Ordering::Relaxed)
            .ok()
            .and_then(|at| usize::try_from(at % self.shards).ok())
    }

    /// Asks for a sweep of everything as soon as workers have time.
    pub fn hurry(&self) {
        let taken = self.taken.load(Ordering::Relaxed);
        self.wanted.store(taken + self.shards, Ordering::Relaxed);
    }

    /// How far the sweep is behind its pace, in thousandths of the table.
    pub fn lag_permille(&self, now: Now) -> u64 {
        let behind = self.due(now).saturating_sub(self.taken.load(Ordering::Relaxed));
        behind.saturating_mul(1000) / self.shards
    }

    /// How many times the whole table was swept.
    pub fn rounds(&self) -> u64 {
        self.taken.load(Ordering::Relaxed) / self.shards
    }

    fn due(&self, now: Now) -> u64 {
        let passed = now.0.saturating_sub(self.begin.0);
        let paced = passed.saturating_mul(self.shards) / PERIOD_MILLISECONDS;
        paced.max(self.wanted.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(pace: &Pace, now: u64) -> Vec<usize> {
        std::iter::from_fn(|| pace.next(Now(now))).collect()
    }

    #[test]
    fn the_table_is_covered_once_a_period_and_in_turns() {
        let pace = Pace::new(4, Now(1000));
        assert!(drain(&pace, 1000).is_empty());
        assert_eq!(drain(&pace, 1000 + PERIOD_MILLISECONDS / 2), [0, 1]);
        assert_eq!(drain(&pace, 1000 + PERIOD_MILLISECONDS), [2, 3]);
        assert_eq!(drain(&pace, 1000 + 2 * PERIOD_MILLISECONDS), [0, 1, 2, 3]);
        assert_eq!(pace.rounds(), 2);
    }

    #[test]
    fn what_is_not_swept_shows_as_lag() {
        let pace = Pace::new(4, Now(0));
        let now = Now(PERIOD_MILLISECONDS / 2);
        assert_eq!(pace.lag_permille(now), 500);
        drain(&pace, now.0);
        assert_eq!(pace.lag_permille(now), 0);
    }

    #[test]
    fn in_a_hurry_everything_is_due_at_once() {
        let pace = Pace::new(4, Now(0));
        drain(&pace, PERIOD_MILLISECONDS / 4);
        pace.hurry();
        assert_eq!(drain(&pace, PERIOD_MILLISECONDS / 4), [1, 2, 3, 0]);
        assert!(drain(&pace, PERIOD_MILLISECONDS / 4).is_empty());
    }
}
