//! How many offers may be outstanding, without a counter that all workers write.
//!
//! A shard draws places from the pot in lots, and keeps some of those that come back, in the cache line of its lock:
//! so almost no offer touches what workers share. What shards keep is at most an eighth of all places, so at least
//! seven eighths can always be had, and never is one more offer outstanding than there are places.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU32, Ordering};

/// Of all places the part, one in so many, that shards may keep unused.
const KEPT_SHARE: u32 = 8;

/// All places for offers.
pub(super) struct Offers {
    places: u32,
    /// The most unused places that a shard keeps; 0 where there are too few for all shards.
    kept_max: u16,
    /// Places that shards have, used or not.
    drawn: CachePadded<AtomicU32>,
}

impl Offers {
    /// So many places, and so many shards that draw from them.
    pub(super) fn new(places: u32, shards: usize) -> Offers {
        let shards = u32::try_from(shards).unwrap_or(u32::MAX).max(1);
        let kept_max = u16::try_from(places / KEPT_SHARE / shards).unwrap_or(u16::MAX).min(64);
        Offers { places, kept_max, drawn: CachePadded::new(AtomicU32::new(0)) }
    }

    /// Takes a place for an offer of a shard that keeps `kept` unused ones. False if all are taken.
    #[inline]
    pub(super) fn take(&self, kept: &mut u16) -> bool {
        if *kept == 0 {
            *kept = self.draw();
        }
        let has = *kept > 0;
        *kept -= u16::from(has);
        has
    }

    /// Draws a lot, or what is left.
    #[cold]
    fn draw(&self) -> u16 {
        let lot = (self.kept_max / 2).max(1);
        let update = |drawn: u32| {
            let left = self.places.saturating_sub(drawn);
            (left > 0).then(|| drawn + left.min(lot.into()))
        };
        let before = self.drawn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        let left = before.map_or(0, |before| self.places - before);
        u16::try_from(left).unwrap_or(lot).min(lot)
    }

    /// Gives back the place of an offer of a shard that keeps `kept` unused ones.
    #[inline]
    pub(super) fn give_back(&self, kept: &mut u16) {
        *kept += 1;
        if *kept > self.kept_max {
            let surplus = *kept - self.kept_max / 2;
            *kept -= surplus;
            self.drawn.fetch_sub(surplus.into(), Ordering::Relaxed);
        }
    }

    /// Places that shards have: offers outstanding and what they keep.
    pub(super) fn drawn(&self) -> u32 {
        self.drawn.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_eighths_can_always_be_had_and_never_more_than_all() {
        for (places, shards) in [(1_u32, 16), (3, 1), (1000, 16), (4096, 16), (250_000, 1409)] {
            let offers = Offers::new(places, shards);
            let mut kept = vec![0; shards];
            let mut random = fastrand::Rng::with_seed(u64::from(places));
            let mut held = Vec::new();
            // Every shard has taken and given back, so that it keeps what it may.
            for _ in 0..20 * places {
                let shard = random.usize(..shards);
                if random.bool() {
                    if offers.take(&mut kept[shard]) {
                        held.push(shard);
                    }
                } else if !held.is_empty() {
                    let shard = held.swap_remove(random.usize(..held.len()));
                    offers.give_back(&mut kept[shard]);
                }
                let unused: u32 = kept.iter().copied().map(u32::from).sum();
                assert_eq!(u32::try_from(held.len()).unwrap() + unused, offers.drawn());
                assert!(offers.drawn() <= places && unused <= places / KEPT_SHARE);
                if random.u32(..1000) > 990 && held.len() > 2 {
                    break;
                }
            }
            // All by one shard now.
            let before = held.len();
            let more = (0..=places).take_while(|_| offers.take(&mut kept[0])).count();
            let all = before + more;
            assert!(all <= places as usize && all >= (places - places / KEPT_SHARE) as usize);
            assert!(!offers.take(&mut kept[0]));
        }
    }

    #[test]
    fn who_takes_and_gives_back_by_turns_leaves_the_pot_alone() {
        let offers = Offers::new(250_000, 1409);
        let mut kept = 0;
        assert!(offers.take(&mut kept));
        let drawn = offers.drawn();
        for _ in 0..1000 {
            offers.give_back(&mut kept);
            assert!(offers.take(&mut kept));
            assert_eq!(offers.drawn(), drawn);
        }
    }

    #[test]
    fn threads_never_have_more_than_all() {
        let offers = Offers::new(1000, 4);
        let taken = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut kept = 0;
                    while offers.take(&mut kept) {
                        taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1000);
        assert_eq!(offers.drawn(), 1000);
    }
}
