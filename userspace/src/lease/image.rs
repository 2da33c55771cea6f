//! All of the state in a comparable form: what an unanswered datagram must leave as it was. For tests.

use super::{Leases, bindings::Shard, pool::Slot};

impl Leases {
    /// What every client holds, was offered and has resting, and every held slot of every pool: a line each, sorted.
    /// Two images are equal exactly if nothing has changed between them. Nobody else may be at work.
    pub fn image(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            lines.extend(shard.clients().map(|place| describe(&shard, place)));
        }
        for pool in (0..self.pools().len()).filter_map(|index| u16::try_from(index).ok()) {
            let pool = self.pools().get(super::pool::PoolId(pool));
            let held = (0..pool.geometry().slots()).map(Slot).filter(|slot| pool.is_held(*slot));
            lines.extend(held.map(|slot| format!("{} {slot:?} is held", pool.name())));
        }
        lines.sort_unstable();
        lines
    }
}

fn describe(shard: &Shard<'_>, place: u16) -> String {
    let entry = shard.entry(place);
    let resting: Vec<_> = shard.resting(place).collect();
    format!(
        "{:?}: {:?} {:?} held {:?} until {} since {:?} from {:?}, offered {:?} until {}, rests {resting:?}",
        entry.key(),
        entry.state(),
        entry.at(),
        entry.held_at(),
        entry.expires(),
        entry.stamp(),
        entry.source(),
        entry.offered_at(),
        entry.offer_until(),
    )
}
