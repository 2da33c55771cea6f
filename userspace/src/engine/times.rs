//! How long a lease is, and what the client is told of it (RFC 2131 §4.3.1, §4.4.5).

use super::policy::Times;
use crate::lease::{
    client::{Binding, Holding},
    pools::Location,
    record::NEVER,
    rules::{Rule, holds},
    stamp::Now,
};

/// The shortest lease. A reply may be parked for seconds before it leaves; a lease has to be long beside that.
pub const LEASE_SECONDS_MIN: u32 = 60;

/// A record holds a lease this much longer than the client is told, for clocks that drift (RFC 2131 §3.3).
pub const GRACE_SECONDS: u32 = 10;

/// The lease time for a client that asks for `asked` seconds, or for none in particular.
pub fn granted_seconds(times: &Times, asked: Option<u32>) -> u32 {
    let longest = times.lease_seconds_max.max(LEASE_SECONDS_MIN);
    asked.unwrap_or(times.lease_seconds).clamp(LEASE_SECONDS_MIN, longest)
}

/// The end of a lease of `seconds`, as its record holds it.
pub fn recorded_expiry(now: Now, seconds: u32) -> u32 {
    if seconds == NEVER {
        return NEVER;
    }
    let grace_seconds = if holds(Rule::RecordsOutlastAcks) { GRACE_SECONDS } else { 0 };
    now.seconds().saturating_add(seconds).saturating_add(grace_seconds).min(NEVER - 1)
}

/// What may still be promised of a lease whose record ends at `expires`; 0 if nothing.
pub fn promised_seconds(now: Now, expires: u32) -> u32 {
    if expires == NEVER {
        return NEVER;
    }
    expires.saturating_sub(GRACE_SECONDS).saturating_sub(now.seconds())
}

/// Whether a lease of `usual` seconds of which `left` remain is too young for a new record.
pub fn is_early(times: &Times, usual: u32, left: u32) -> bool {
    if usual == NEVER {
        return left == NEVER;
    }
    let passed = u64::from(usual.saturating_sub(left));
    left > 0 && passed * 100 < u64::from(usual) * u64::from(times.early_renewal_percent)
}

/// What the client may still be promised of the lease that it has of `at`; `None` if that is over.
pub fn seconds_left(binding: Option<Binding>, at: Location, now: Now) -> Option<u32> {
    let lease = binding.filter(|lease| lease.at == at && lease.holding == Holding::Active)?;
    Some(promised_seconds(now, lease.expires)).filter(|left| *left > 0)
}

/// T1 and T2 of a lease of `seconds`; `None` for one that never ends, or that is too short to be renewed in time.
///
/// req-S72 (RFC 2131 §4.4.5): they follow the time that remains.
pub fn renewal_and_rebinding(seconds: u32) -> Option<(u32, u32)> {
    let times = (seconds / 2, seconds - seconds.div_ceil(8));
    (seconds != NEVER && times.0 < times.1).then_some(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        lease_seconds: 3600,
        lease_seconds_max: 86400,
        offer_hold_seconds: 60,
        hold_down_seconds: 120,
        decline_hold_seconds: 86400,
        early_renewal_percent: 10,
    };

    #[test]
    fn what_is_asked_is_granted_within_the_bounds() {
        assert_eq!(granted_seconds(&TIMES, None), 3600);
        assert_eq!(granted_seconds(&TIMES, Some(600)), 600);
        assert_eq!(granted_seconds(&TIMES, Some(0)), LEASE_SECONDS_MIN);
        assert_eq!(granted_seconds(&TIMES, Some(NEVER)), 86400);
        let endless = Times { lease_seconds_max: NEVER, ..TIMES };
        assert_eq!(granted_seconds(&endless, Some(NEVER)), NEVER);
    }

    #[test]
    fn a_record_outlasts_its_promise() {
        let now = Now(1_000_000);
        assert_eq!(recorded_expiry(now, 3600), 1000 + 3600 + GRACE_SECONDS);
        assert_eq!(promised_seconds(now, recorded_expiry(now, 3600)), 3600);
        assert_eq!(promised_seconds(now, 1005), 0);
        assert_eq!(promised_seconds(now, recorded_expiry(now, NEVER)), NEVER);
        assert_eq!(recorded_expiry(now, NEVER - 1), NEVER - 1);
    }

    #[test]
    fn only_the_first_share_of_a_lease_is_early() {
        assert!(is_early(&TIMES, 3600, 3600));
        assert!(is_early(&TIMES, 3600, 3241));
        assert!(!is_early(&TIMES, 3600, 3240));
        assert!(!is_early(&TIMES, 3600, 0));
        assert!(!is_early(&Times { early_renewal_percent: 0, ..TIMES }, 3600, 3600));
    }

    #[test]
    fn renewal_comes_before_rebinding_before_the_end() {
        assert_eq!(renewal_and_rebinding(3600), Some((1800, 3150)));
        assert_eq!(renewal_and_rebinding(NEVER), None);
        assert_eq!(renewal_and_rebinding(2), None);
        for seconds in 3..5000 {
            let (renewal, rebinding) = renewal_and_rebinding(seconds).unwrap();
            assert!(renewal < rebinding && rebinding < seconds);
        }
    }
}
