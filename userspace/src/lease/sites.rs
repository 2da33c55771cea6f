//! How much each customer site has: the limit that keeps one of them from draining a pool (RFC 7618 §10).
//!
//! A client takes part in its site's limit as long as its lease runs or an offer is outstanding to it, whichever
//! tuple that is. When both are over, slots of its may still be held down; those count too, against a wider bound,
//! so that coming and going does not drain a pool either.

use super::{
    fixed::{FixedTable, Row, Rows},
    rules::{Rule, holds},
};

/// So many times its limit of leases may a site have of clients that hold anything at all.
const HOLDERS_PER_LEASE: u32 = 4;

/// What one client takes of its site's limit; the later takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stake {
    /// Nothing, or nobody knows of which site.
    Nothing,
    /// Slots that it left are held down.
    Resting,
    /// Its lease runs, or it has an offer.
    Live,
}

/// One site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub key: u64,
    /// Clients whose lease runs or who have an offer.
    pub live: u32,
    /// Other clients that hold something.
    pub resting: u32,
}

impl Row for Site {
    const EMPTY: Site = Site { key: 0, live: 0, resting: 0 };

    fn key(&self) -> u64 {
        self.key
    }
}

impl Site {
    fn count(&mut self, stake: Stake) -> Option<&mut u32> {
        match stake {
            Stake::Nothing => None,
            Stake::Resting => Some(&mut self.resting),
            Stake::Live => Some(&mut self.live),
        }
    }

    /// Whether one more client may have a lease or an offer, which has `from` now.
    fn admits(&self, from: Stake, limit: u32) -> bool {
        let holders = self.live.saturating_add(self.resting);
        let newcomer = from == Stake::Nothing;
        self.live < limit && !(newcomer && holders >= limit.saturating_mul(HOLDERS_PER_LEASE))
    }
}

/// The sites of all links of which somebody has something.
pub(super) struct Sites {
    limit: u32,
    table: FixedTable<Site>,
}

impl Sites {
    /// Nobody has anything yet; `capacity` clients will have at most.
    pub(super) fn new(limit: u32, capacity: usize) -> Sites {
        Sites { limit, table: FixedTable::with_capacity(capacity) }
    }

    /// Lets a client have a lease or an offer that has `from` now; false if its site has too much.
    // req-S46 (RFC 7618 §10): leases and offers of one customer site are limited.
    pub(super) fn admit(&self, key: u64, from: Stake) -> bool {
        let mut rows = self.table.lock(key);
        let site = rows.find(key).copied().unwrap_or(Site { key, ..Site::EMPTY });
        let admits = site.admits(from, self.limit) || !holds(Rule::SitesAreLimited);
        admits && change(&mut rows, site, from, Stake::Live)
    }

    /// Notes that a client has `to` now in place of `from`, however much its site has. False if there is no room.
    pub(super) fn change(&self, key: u64, from: Stake, to: Stake) -> bool {
        let mut rows = self.table.lock(key);
        let site = rows.find(key).copied().unwrap_or(Site { key, ..Site::EMPTY });
        change(&mut rows, site, from, to)
    }

    /// Octets that the table takes.
    pub(super) fn octets(&self) -> usize {
        self.table.octets()
    }

    /// The sites of which somebody has something. Not for the hot path.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn used(&self) -> Vec<Site> {
        self.table.used()
    }
}

fn change(rows: &mut Rows<Site>, mut site: Site, from: Stake, to: Stake) -> bool {
    if let Some(count) = site.count(from) {
        *count = count.saturating_sub(1);
    }
    if let Some(count) = site.count(to) {
        *count = count.saturating_add(1);
    }
    if site.live == 0 && site.resting == 0 {
        rows.remove(site.key);
        return true;
    }
    rows.put(site)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_as_many_leases_as_its_limit_and_a_few_more_that_rest() {
        let sites = Sites::new(2, 100);
        assert!(sites.admit(7, Stake::Nothing) && sites.admit(7, Stake::Nothing));
        assert!(!sites.admit(7, Stake::Nothing) && sites.admit(8, Stake::Nothing));
        // One after the other leaves; of those that come back none is a newcomer.
        for _ in 0..6 {
            assert!(sites.change(7, Stake::Live, Stake::Resting));
            assert!(sites.admit(7, Stake::Nothing));
        }
        assert!(sites.change(7, Stake::Live, Stake::Resting));
        assert!(!sites.admit(7, Stake::Nothing), "eight hold something");
        assert!(sites.admit(7, Stake::Resting));
        let mut used = sites.used();
        used.sort_unstable_by_key(|site| site.key);
        assert_eq!(
            used,
            [Site { key: 7, live: 2, resting: 6 }, Site { key: 8, live: 1, resting: 0 },]
        );
        assert!(sites.change(8, Stake::Live, Stake::Nothing));
        assert_eq!(sites.used().len(), 1);
    }
}
