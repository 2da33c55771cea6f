//! Gives back what is over. Expiry writes nothing: the durable end of a lease and the clock say it all.

use super::{Leases, block::Block, stamp::Now};

impl Leases {
    /// How many shards there are to [`sweep`](Self::sweep).
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Gives back the slots of one shard whose hold-down, offer or quarantine is over.
    ///
    /// Its work is bounded by the places of a shard, and it waits for nobody: false if the shard is locked.
    pub fn sweep(&self, shard: usize, now: Now) -> bool {
        let Some(mut locked) = self.shards.get(shard).and_then(Block::try_lock) else {
            return false;
        };
        locked.sweep(&self.stock, self.hold_down_seconds(), now);
        drop(locked);
        if shard == 0 {
            self.stock.sweep_outside(now);
            if let Some(softwires) = &self.stock.softwires {
                softwires.sweep_outside(now);
            }
        }
        true
    }

    /// Sweeps every shard that is not locked.
    pub fn sweep_all(&self, now: Now) {
        for shard in 0..self.shards() {
            self.sweep(shard, now);
        }
    }
}
