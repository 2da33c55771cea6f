//! An address is in exactly one pool: what overlaps is refused, and both places are named.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::report::Problems;

/// Consecutive addresses of a pool, as one value of the configuration gives them.
pub(super) struct Stretch {
    pub(super) first: Ipv4Addr,
    pub(super) last: Ipv4Addr,
    pub(super) pool: String,
    pub(super) offset: u8,
    pub(super) psid_length: u8,
    pub(super) span: Range<usize>,
}

/// The addresses of all pools of all links.
#[derive(Default)]
pub(super) struct Addresses {
    stretches: Vec<Stretch>,
}

impl Addresses {
    pub(super) fn add(&mut self, stretch: Stretch) {
        self.stretches.push(stretch);
    }

    /// Notes each stretch that meets another one.
    pub(super) fn check(mut self, problems: &mut Problems<'_>) {
        self.stretches.sort_by_key(|stretch| (stretch.first, stretch.span.start));
        // The stretch so far that reaches furthest: if any of them meets the next, it does.
        let mut furthest: Option<&Stretch> = None;
        for stretch in &self.stretches {
            if let Some(before) = furthest.filter(|before| before.last >= stretch.first) {
                let (earlier, later) = if before.span.start < stretch.span.start {
                    (before, stretch)
                } else {
                    (stretch, before)
                };
                let place = problems.place(&earlier.span);
                let what = later.conflict_with(earlier, stretch.first, &place);
                problems.add(later.span.clone(), what, "each address in one pool, once");
            }
            furthest = furthest.filter(|before| before.last >= stretch.last).or(Some(stretch));
        }
    }
}

impl Stretch {
    fn conflict_with(&self, earlier: &Stretch, address: Ipv4Addr, place: &str) -> String {
        let pool = &earlier.pool;
        if (self.psid_length == 0) != (earlier.psid_length == 0) {
            let kind = if earlier.psid_length == 0 { "full" } else { "shared" };
            format!("{address} is a {kind} address of pool {pool} ({place})")
        } else if (self.offset, self.psid_length) != (earlier.offset, earlier.psid_length) {
            let (offset, length) = (earlier.offset, earlier.psid_length);
            let bits = format!("psid-offset {offset} and psid-len {length}");
            format!("{address} is in pool {pool} with {bits} ({place})")
        } else {
            format!("{address} is in pool {pool} already ({place})")
        }
    }
}
