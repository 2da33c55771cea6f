//! Time as the machine knows it, and the delays of RFC 2131 §4.1 and §4.4.5.

use std::time::Duration;

/// A moment on a clock that never steps back, in milliseconds. Where the clock starts says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `duration` later; the end of time if there is none.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(milliseconds(duration)))
    }

    /// The time that has passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Whole milliseconds, saturating.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How often a REQUEST is sent in SELECTING and INIT-REBOOT before the client starts again (RFC 2131 §3.1).
pub const REQUEST_TRIES: u32 = 4;

/// The wait before a restart after an ACK that cannot be used (RFC 2131 §3.1).
pub const RESTART_DELAY: Duration = Duration::from_secs(10);

/// Retransmissions in RENEWING and REBINDING are never closer than this (RFC 2131 §4.4.5).
const RENEWAL_INTERVAL_MIN: Duration = Duration::from_mins(1);

/// The wait after the `tries`-th transmission (1 is the first): 4, 8, 16, 32, 64, 64... seconds, each give or
/// take up to one second (RFC 2131 §4.1).
///
/// req-C8 (RFC 7341 §9): nothing of DHCPv6 has a say in it.
pub fn backoff(tries: u32, random: &mut fastrand::Rng) -> Duration {
    let doublings = tries.saturating_sub(1).min(4);
    Duration::from_millis((4000 << doublings) - 1000 + random.u64(0..=2000))
}

/// The wait before the next REQUEST in RENEWING or REBINDING: half of what is left until `end`, at least a
/// minute (RFC 2131 §4.4.5). `None`, an infinite lease, waits the minute.
pub fn renewal_interval(now: Moment, end: Option<Moment>) -> Duration {
    let half = end.map_or(Duration::ZERO, |end| end.since(now) / 2);
    half.max(RENEWAL_INTERVAL_MIN)
}

/// A random duration between two, both included, in whole milliseconds.
pub fn between(shortest: Duration, longest: Duration, random: &mut fastrand::Rng) -> Duration {
    let (shortest, longest) = (milliseconds(shortest), milliseconds(longest));
    Duration::from_millis(random.u64(shortest..=longest.max(shortest)))
}

/// Shifts `value` by a random amount of up to a twentieth of `room` either way (RFC 2131 §4.4.5: "fuzz").
pub fn fuzzed(value: Duration, room: Duration, random: &mut fastrand::Rng) -> Duration {
    let fuzz = room / 20;
    between(value.saturating_sub(fuzz), value.saturating_add(fuzz), random)
}

/// Packets that may leave at once.
pub const BURST: u32 = 20;

/// What a packet costs. The bucket gains one a millisecond, so that 20 packets pass in 20 seconds.
const PACKET_COST: u64 = 1000;

/// Limits the packets that a client sends on an interface: 20 at once, 20 in 20 seconds (RFC 8415 §14.1).
#[derive(Clone, Debug)]
pub struct TokenBucket {
    level: u64,
    filled: Moment,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(now: Moment) -> Self {
        TokenBucket { level: u64::from(BURST) * PACKET_COST, filled: now }
    }

    /// Takes `packets` out, or says when they will be in. More than the bucket holds count as all of it.
    pub fn take(&mut self, now: Moment, packets: u32) -> Result<(), Moment> {
        let gained = now.0.saturating_sub(self.filled.0);
        self.level = self.level.saturating_add(gained).min(u64::from(BURST) * PACKET_COST);
        self.filled = self.filled.max(now);
        let price = u64::from(packets.min(BURST)) * PACKET_COST;
        if self.level < price {
            return Err(Moment(now.0.saturating_add(price - self.level)));
        }
        self.level -= price;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_backoff_doubles_from_4_to_64_seconds_give_or_take_one() {
        let mut random = fastrand::Rng::with_seed(1);
        for (tries, nominal) in [(1, 4), (2, 8), (3, 16), (4, 32), (5, 64), (6, 64), (60, 64)] {
            let waits: Vec<Duration> = (0..1000).map(|_| backoff(tries, &mut random)).collect();
            let nominal = Duration::from_secs(nominal);
            assert!(waits.iter().all(|wait| wait.abs_diff(nominal) <= SECOND), "try {tries}");
            assert!(waits.iter().any(|&wait| wait + SECOND / 2 < nominal), "try {tries}");
            assert!(waits.iter().any(|&wait| wait > nominal + SECOND / 2), "try {tries}");
        }
    }

    #[test]
    fn renewals_wait_half_of_what_is_left_but_a_minute_at_least() {
        let interval = |left| renewal_interval(Moment(5), Some(Moment(5).plus(left)));
        assert_eq!(interval(1000 * SECOND), 500 * SECOND);
        assert_eq!(interval(100 * SECOND), 60 * SECOND);
        assert_eq!(renewal_interval(Moment(5), Some(Moment(2))), 60 * SECOND);
        assert_eq!(renewal_interval(Moment(5), None), 60 * SECOND);
    }

    #[test]
    fn the_bucket_passes_20_packets_at_once_and_then_one_a_second() {
        let mut bucket = TokenBucket::new(Moment(1000));
        for _ in 0..20 {
            assert_eq!(bucket.take(Moment(1000), 1), Ok(()));
        }
        assert_eq!(bucket.take(Moment(1000), 1), Err(Moment(2000)));
        assert_eq!(bucket.take(Moment(1500), 2), Err(Moment(3000)));
        assert_eq!(bucket.take(Moment(3000), 2), Ok(()));
        assert_eq!(bucket.take(Moment(3000), 1), Err(Moment(4000)));
        assert_eq!(bucket.take(Moment(900_000), 20), Ok(()), "it does not overflow its brim");
        assert_eq!(bucket.take(Moment(900_000), 1), Err(Moment(901_000)));
        assert_eq!(bucket.take(Moment(1_000_000), 1000), Ok(()), "more than all is all");
    }
}
