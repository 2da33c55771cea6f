//! What a client does to its site's limit: it asks before it takes more, and says so when it has less.

use super::{
    client::Client,
    key::{LinkId, SiteId},
    pools::Location,
    sites::{Sites, Stake},
    stamp::Now,
};

/// A client's new part in its site's limit: noted in the table of sites, not yet in the client's entry.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    /// 0 if nothing is new.
    site: u64,
    /// What the client had of the same site.
    from: Stake,
}

impl Client<'_> {
    fn link_of(&self, at: Location) -> LinkId {
        self.leases.pools().link_of(at.pool)
    }

    fn sites(&self) -> Option<&Sites> {
        self.leases.stock().sites.as_ref()
    }

    fn stake(&self) -> (u64, Stake) {
        self.place.map_or((0, Stake::Nothing), |place| self.shard.stake(place))
    }

    /// Lets the client have a lease or an offer on `link` as far as its site is concerned. `None`: it is full.
    ///
    /// Whose lease runs already is counted and not refused.
    pub(super) fn admit(&mut self, link: LinkId, now: Now) -> Option<Admission> {
        if self.sites().is_none() {
            return Some(Admission { site: 0, from: Stake::Nothing });
        }
        if let Some(place) = self.place {
            // A lease that is over counts no more for its own client, swept or not.
            let is_active = self.shard.entry(place).is_active(now);
            self.shard.lower_stake(place, self.leases.stock(), is_active);
        }
        let (noted, stake) = self.stake();
        let site = self.site.on(link);
        let Some(sites) = self.sites().filter(|_| site != 0 && stake != Stake::Live) else {
            return Some(Admission { site: 0, from: stake });
        };
        let from = if noted == site { stake } else { Stake::Nothing };
        let admitted = if self.entry().is_some_and(|entry| entry.is_active(now)) {
            sites.change(site, from, Stake::Live)
        } else {
            sites.admit(site, from)
        };
        admitted.then_some(Admission { site, from })
    }

    /// Gives back what was admitted: nothing came of it.
    pub(super) fn retreat(&self, admission: Admission) {
        if let Some(sites) = self.sites().filter(|_| admission.site != 0) {
            sites.change(admission.site, Stake::Live, admission.from);
        }
    }

    /// Notes in the client's entry what was admitted.
    pub(super) fn enter(&mut self, place: u16, admission: Admission) {
        if admission.site == 0 {
            return;
        }
        let (noted, stake) = self.shard.stake(place);
        if let Some(sites) = self.sites().filter(|_| noted != admission.site) {
            sites.change(noted, stake, Stake::Nothing);
        }
        self.shard.set_stake(place, admission.site, Stake::Live);
    }

    /// A lease that is extended from another site goes along, if there is room: a customer's line may be moved, and a
    /// relay may be replaced by another. If there is none, it goes on where it was.
    pub(super) fn follow_site(&mut self, place: u16, link: LinkId) {
        let (noted, stake) = self.shard.stake(place);
        let site = self.site.on(link);
        let moves = stake == Stake::Live && site != noted && site != 0;
        let Some(sites) = self.sites().filter(|_| moves) else { return };
        if sites.admit(site, Stake::Nothing) {
            sites.change(noted, Stake::Live, Stake::Nothing);
            self.shard.set_stake(place, site, Stake::Live);
        }
    }

    /// Lowers what the client takes of its site's limit to what it has.
    pub(super) fn settle(&mut self, place: u16) {
        let is_bound = self.shard.entry(place).is_bound();
        self.shard.lower_stake(place, self.leases.stock(), is_bound);
    }

    /// The site that a record of `at` names: the one in whose limit the client takes part, if it does.
    pub(super) fn recorded_site(&self, at: Location) -> SiteId {
        match self.stake() {
            (_, Stake::Nothing) => self.site,
            (site, _) => SiteId::of(site, self.link_of(at)),
        }
    }
}
