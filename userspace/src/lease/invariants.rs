//! What must hold whenever nobody is at work. For tests and the simulation.

use std::collections::BTreeMap;

use super::{Leases, bindings::Shard, key::BindingKey, pool::Slot, pools::Location, sites::Stake};

impl Leases {
    /// Checks that a bit is set exactly if its slot is offered, bound, in hold-down, quarantined, reserved or held
    /// for a lease from outside, that it has one holder, and that the table is sound.
    ///
    /// Nobody else may be at work. The error says what is wrong.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut holders: BTreeMap<Location, BindingKey> = BTreeMap::new();
        let (mut offers, mut kept) = (0, 0);
        for shard in &self.shards {
            let shard = shard.lock();
            shard.check()?;
            for place in shard.clients() {
                check_client(&shard, place, &mut holders)?;
                offers += u32::from(shard.entry(place).offer_counts());
            }
            kept += shard.offers_kept();
        }
        self.check_sites()?;
        self.check_softwires()?;
        let drawn = self.stock.offers.drawn();
        if offers + kept != drawn {
            return Err(format!(
                "{offers} offers count and {kept} are kept, but {drawn} are drawn"
            ));
        }
        let mut outside = self.stock.outside();
        outside.retain(|hold| hold.owned);
        for hold in &outside {
            if let Some(holder) = holders.get(&hold.at) {
                return Err(format!(
                    "{:?} is held for an outside lease and by {holder:?}",
                    hold.at
                ));
            }
        }
        for (id, pool) in self.pools().iter() {
            let geometry = pool.geometry();
            if !pool.summary_is_true() {
                return Err(format!("the summary of pool {} hides free slots", pool.name()));
            }
            for slot in (0..geometry.slots()).map(Slot) {
                let at = Location { pool: id, slot };
                let expected = geometry.is_reserved(geometry.psid(slot))
                    || holders.contains_key(&at)
                    || outside.iter().any(|hold| hold.at == at);
                if pool.is_held(slot) != expected {
                    return Err(format!("{at:?} is held: {}, expected {expected}", !expected));
                }
            }
        }
        Ok(())
    }
}

impl Leases {
    /// Checks that every address of the index is one client's who says so too. A client may be wrong of its own: when
    /// its lease was over, another may have got the address before a sweep.
    fn check_softwires(&self) -> Result<(), String> {
        let Some(softwires) = &self.stock.softwires else { return Ok(()) };
        let mut held = 0;
        for shard in &self.shards {
            let shard = shard.lock();
            for place in shard.clients() {
                let (entry, softwire) = (shard.entry(place), shard.softwire(place));
                let Some(softwire) = softwire else { continue };
                if !entry.is_bound() {
                    return Err(format!("{:?} has {softwire:?} without a lease", entry.key()));
                }
                held += usize::from(softwires.is_of(softwire.address, entry.key()));
            }
        }
        let count = softwires.count();
        if held == count {
            return Ok(());
        }
        Err(format!("{count} softwires are known, of which clients have {held}"))
    }

    /// Checks that each site has what the entries of its clients say, and that nobody has more than is counted.
    fn check_sites(&self) -> Result<(), String> {
        let Some(sites) = &self.stock.sites else { return Ok(()) };
        let mut expected: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for shard in &self.shards {
            let shard = shard.lock();
            for place in shard.clients() {
                let entry = shard.entry(place);
                let (site, stake) = shard.stake(place);
                let count = expected.entry(site);
                match stake {
                    Stake::Nothing => {}
                    Stake::Resting => count.or_default().1 += 1,
                    Stake::Live => count.or_default().0 += 1,
                }
                let offered = entry.offered_at().is_some();
                let wrong = match stake {
                    Stake::Nothing => false,
                    Stake::Resting => offered,
                    Stake::Live => !offered && !entry.is_bound(),
                };
                if wrong {
                    return Err(format!("{:?} takes {stake:?} of site {site:x}", entry.key()));
                }
            }
        }
        let counted = sites.used().into_iter().map(|site| (site.key, (site.live, site.resting)));
        let counted: BTreeMap<u64, (u32, u32)> = counted.collect();
        if counted == expected {
            return Ok(());
        }
        Err(format!("sites have {expected:x?}, but {counted:x?} is counted"))
    }
}

/// Notes who holds what; a slot has one holder.
fn check_client(
    shard: &Shard<'_>,
    place: u16,
    holders: &mut BTreeMap<Location, BindingKey>,
) -> Result<(), String> {
    let entry = shard.entry(place);
    let key = entry.key();
    let own = [entry.held_at(), entry.offered_at()].into_iter().flatten();
    for at in own.chain(shard.resting(place).map(|resting| resting.at)) {
        let other = holders.insert(at, key).filter(|&other| other != key);
        if let Some(other) = other {
            return Err(format!("{at:?} is held by {key:?} and {other:?}"));
        }
    }
    if entry.held_at().is_some_and(|held| shard.resting(place).any(|rest| rest.at == held)) {
        return Err(format!("the binding of {key:?} rests"));
    }
    Ok(())
}
