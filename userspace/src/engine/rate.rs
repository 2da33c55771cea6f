//! How often each customer site is heard (RFC 7618 §10): a fixed table, whoever asks and however many.
//!
//! Each site has a cell in two rows, chosen by two halves of its keyed hash, and a cell is the time up to which its
//! sites have used up what they may ask (the generic cell rate algorithm, ITU-T I.371). A query is refused only if both
//! cells refuse it. So a site that asks too much can keep another from being heard only together with a second such
//! site, and only if both happen to share its cells: with a hundred such sites, two in a million others.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::lease::{
    key::{LinkId, SiteId},
    stamp::Now,
};

/// Cells of a row; two rows are a mebibyte.
const CELLS: usize = 1 << 16;

/// A site may ask for this many seconds' worth of queries at once.
const BURST_SECONDS: u64 = 10;

const NANOSECONDS: u64 = 1_000_000_000;

/// Attempts to note a query while other workers note theirs in the same cell. Whoever fails goes unnoted.
const ATTEMPTS: usize = 4;

/// A site may decline so many tuples at once, and then one in each interval.
const DECLINES_AT_ONCE: u64 = 8;
const DECLINE_INTERVAL_SECONDS: u64 = 600;

/// How often something of each site is admitted.
pub(super) struct RateLimit {
    /// Between two of them in the long run, in nanoseconds.
    interval: u64,
    /// How far ahead of the long run a site may be, in nanoseconds.
    burst: u64,
    rows: [Box<[AtomicU64]>; 2],
}

impl RateLimit {
    /// A limit of `queries_per_second` a site; 0 is none.
    pub(super) fn new(queries_per_second: u32) -> Option<RateLimit> {
        let interval = NANOSECONDS.checked_div(queries_per_second.into())?;
        Some(Self::with(interval, BURST_SECONDS * NANOSECONDS))
    }

    /// The limit of declines of a site. A client cannot find out that its address is in use (RFC 7618 §7), so whoever
    /// declines much is ill or ill-meaning.
    pub(super) fn of_declines() -> RateLimit {
        let interval = DECLINE_INTERVAL_SECONDS * NANOSECONDS;
        Self::with(interval, DECLINES_AT_ONCE * interval)
    }

    fn with(interval: u64, burst: u64) -> RateLimit {
        let row = || (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        RateLimit { interval, burst, rows: [row(), row()] }
    }

    /// Notes a query of `site`; false if the site has asked too often.
    pub(super) fn admits(&self, site: SiteId, link: LinkId, now: Now) -> bool {
        let now = now.0.saturating_mul(1_000_000);
        let hash = site.0.rotate_left(17).wrapping_add(u64::from(link.0)).to_le_bytes();
        let [a, b, c, d, ..] = hash;
        let places = [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])];
        let cells = self.rows.iter().zip(places).filter_map(|(row, at)| row.get(usize::from(at)));
        // Both are noted, whatever the first says.
        cells.fold(false, |admitted, cell| self.notes(cell, now) | admitted)
    }

    /// Notes a query in a cell; false if the cell refuses it.
    fn notes(&self, cell: &AtomicU64, now: u64) -> bool {
        let latest = now.saturating_add(self.burst);
        for _ in 0..ATTEMPTS {
            let used = cell.load(Ordering::Relaxed);
            let next = used.max(now).saturating_add(self.interval);
            if next > latest {
                return false;
            }
            let swapped =
                cell.compare_exchange_weak(used, next, Ordering::Relaxed, Ordering::Relaxed);
            if swapped.is_ok() {
                break;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: LinkId = LinkId(0);

    fn site(random: &mut fastrand::Rng) -> SiteId {
        SiteId(random.u64(1..))
    }

    #[test]
    fn a_site_is_heard_ten_seconds_worth_at_once_and_then_at_its_rate() {
        let limit = RateLimit::new(5).unwrap();
        let site = site(&mut fastrand::Rng::with_seed(1));
        let heard = |now| (0..100).filter(|_| limit.admits(site, LINK, Now(now))).count();
        let start = 1_800_000_000_000;
        assert_eq!(heard(start), 50);
        assert_eq!(heard(start + 199), 0);
        assert_eq!(heard(start + 200), 1);
        assert_eq!(heard(start + 2200), 10);
        assert_eq!(heard(start + 100_000), 50);
        assert!(RateLimit::new(0).is_none());
    }

    #[test]
    fn a_site_declines_eight_tuples_at_once_and_then_one_in_ten_minutes() {
        let limit = RateLimit::of_declines();
        let site = site(&mut fastrand::Rng::with_seed(3));
        let admitted = |now| (0..20).filter(|_| limit.admits(site, LINK, Now(now))).count();
        let start = 1_800_000_000_000;
        assert_eq!(admitted(start), 8);
        assert_eq!(admitted(start + 599_000), 0);
        assert_eq!(admitted(start + 600_000), 1);
    }

    #[test]
    fn sites_that_ask_too_much_keep_no_others_from_being_heard() {
        let limit = RateLimit::new(5).unwrap();
        let mut random = fastrand::Rng::with_seed(2);
        let now = Now(1_800_000_000_000);
        for _ in 0..50 {
            let greedy = site(&mut random);
            assert_eq!((0..100).filter(|_| limit.admits(greedy, LINK, now)).count(), 50);
        }
        let unheard = (0..100_000).filter(|_| !limit.admits(site(&mut random), LINK, now)).count();
        assert!(unheard < 3, "{unheard} of 100,000 were not heard");
    }
}
