//! Durations in buckets of powers of two, written by one thread and read by any.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets of a histogram: the last takes everything from 2^39 ns, nine minutes, on.
pub const BUCKETS: usize = 40;

/// Counts of durations: bucket `i` counts those from 2^i to 2^(i+1) nanoseconds, bucket 0 also zero.
#[derive(Debug)]
pub(super) struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    /// A histogram of nothing.
    pub(super) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    /// Counts one duration. For one thread only.
    pub(super) fn count(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = nanoseconds.checked_ilog2().map_or(0, |log| log as usize).min(BUCKETS - 1);
        if let Some(bucket) = self.0.get(bucket) {
            bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub(super) fn snapshot(&self) -> Distribution {
        Distribution(std::array::from_fn(|i| {
            self.0.get(i).map_or(0, |bucket| bucket.load(Ordering::Relaxed))
        }))
    }
}

/// A histogram at one moment: counts of durations from 2^i to 2^(i+1) nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution(pub [u64; BUCKETS]);

impl Distribution {
    /// The number of durations counted.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// A duration that at least the `share` (0 to 1) of all durations did not reach; zero if none was counted.
    pub fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank need not be exact beyond 2^52 counts"
        )]
        let rank = ((self.total() as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (log, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(2_u64 << log);
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_power_of_two() {
        let histogram = Histogram::new();
        for nanoseconds in [0, 1, 2, 3, 1023, 1024, u64::MAX] {
            histogram.count(Duration::from_nanos(nanoseconds));
        }
        let distribution = histogram.snapshot();
        assert_eq!(distribution.total(), 7);
        for (bucket, count) in [(0, 2), (1, 2), (9, 1), (10, 1), (BUCKETS - 1, 1)] {
            assert_eq!(distribution.0[bucket], count, "bucket {bucket}");
        }
    }

    #[test]
    fn a_quantile_is_the_upper_end_of_its_bucket() {
        let histogram = Histogram::new();
        assert_eq!(histogram.snapshot().quantile(0.5), Duration::ZERO);
        for _ in 0..99 {
            histogram.count(Duration::from_nanos(100));
        }
        histogram.count(Duration::from_micros(5));
        let distribution = histogram.snapshot();
        assert_eq!(distribution.quantile(0.5), Duration::from_nanos(128));
        assert_eq!(distribution.quantile(0.99), Duration::from_nanos(128));
        assert_eq!(distribution.quantile(1.0), Duration::from_nanos(8192));
    }
}
