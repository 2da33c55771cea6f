//! What clients do in mixed work: drawn by weight, among what anybody can do.

use super::{Mix, Work};

impl Mix {
    /// The weights with what they stand for.
    const fn weights(&self) -> [(Work, u32); 5] {
        [
            (Work::New, self.new),
            (Work::Renew, self.renew),
            (Work::Rebind, self.rebind),
            (Work::Reboot, self.reboot),
            (Work::Release, self.release),
        ]
    }

    /// Draws what a client does next, among what can be done: new leases only if a client without one is idle
    /// (`vacant`), everything else only if a client with one is (`holding`). None if nobody can do anything that has
    /// a weight.
    pub fn draw(&self, random: &mut fastrand::Rng, vacant: bool, holding: bool) -> Option<Work> {
        let can = |work| if matches!(work, Work::New) { vacant } else { holding };
        let able = || self.weights().into_iter().filter(|&(work, _)| can(work));
        let total: u32 = able().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut rest = random.u32(..total);
        for (work, weight) in able() {
            if rest < weight {
                return Some(work);
            }
            rest -= weight;
        }
        None
    }

    /// Half of the draws obtain a lease, the others renew it or give it up: the default.
    pub const fn even() -> Self {
        Self { new: 50, renew: 25, rebind: 0, reboot: 0, release: 25 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(mix: Mix, vacant: bool, holding: bool) -> [u32; 5] {
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = [0; 5];
        for _ in 0..100_000 {
            let drawn = mix.draw(&mut random, vacant, holding);
            let works = [Work::New, Work::Renew, Work::Rebind, Work::Reboot, Work::Release];
            let at = works.iter().position(|&work| Some(work) == drawn).unwrap();
            counts[at] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_weights() {
        let mix = Mix { new: 50, renew: 30, rebind: 5, reboot: 5, release: 10 };
        let seen = counts(mix, true, true);
        for (seen, weight) in seen.into_iter().zip([50, 30, 5, 5, 10]) {
            // Four standard deviations of a share of one half are 633.
            assert!(seen.abs_diff(weight * 1000) < 633, "{seen} for {weight}");
        }
    }

    #[test]
    fn what_nobody_can_do_is_shared_out_among_the_rest() {
        let mix = Mix { new: 50, renew: 30, rebind: 0, reboot: 0, release: 10 };
        let seen = counts(mix, false, true);
        assert_eq!((seen[0], seen[2], seen[3]), (0, 0, 0));
        assert!(seen[1].abs_diff(75_000) < 633, "{seen:?}");
        assert_eq!(counts(mix, true, false), [100_000, 0, 0, 0, 0]);
        let renewals = Mix { renew: 1, ..Mix::default() };
        assert_eq!(renewals.draw(&mut fastrand::Rng::new(), true, false), None);
    }
}
