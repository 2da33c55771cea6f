//! The newest record of each tuple, as far as a log was read back.

use std::net::Ipv6Addr;

use super::{
    key::{ClientIdentity, SiteId},
    record::{Record, Softwire, State, Tuple, lasts},
    rules::{Rule, holds},
    stamp::{Now, Stamp},
};
use crate::memory::prefetch;

/// Images that memory is taken for at a time: they never move, and no more memory is taken than is used.
const CHUNK: usize = 1 << 14;

/// Records whose images are approached together: while one is looked at, the next are on their way from memory.
const GROUP: usize = 32;

/// What the newest record of a tuple says.
#[derive(Clone, Copy)]
pub(super) struct Image {
    pub stamp: Stamp,
    pub tuple: Tuple,
    pub identity: ClientIdentity,
    pub state: State,
    pub expires: u32,
    pub source: Ipv6Addr,
    pub site: SiteId,
    pub softwire: Option<Softwire>,
}

impl Image {
    /// What a record says; `None` if it is of a kind that this version does not know.
    pub(super) fn of(record: &Record) -> Option<Image> {
        Some(Image {
            stamp: record.stamp(),
            tuple: record.tuple(),
            identity: record.identity(),
            state: record.state()?,
            expires: record.expires(),
            source: record.source(),
            site: record.site(),
            softwire: record.softwire(),
        })
    }

    /// Whether this is a lease that runs and has a softwire.
    pub(super) fn has_softwire(&self, now: Now) -> bool {
        self.state == State::Bound
            && self.softwire.is_some()
            && lasts(self.expires, now)
            && holds(Rule::SoftwiresOutliveRestarts)
    }

    /// When others get the slot.
    pub(super) fn end(&self, hold_down_seconds: u32) -> u32 {
        match self.state {
            State::Bound => self.expires.saturating_add(hold_down_seconds),
            _ if !holds(Rule::RestsOutliveRestarts) => 0,
            State::Former => self.stamp.hold_end(hold_down_seconds),
            State::Quarantined => self.expires,
        }
    }
}

/// A lease that no pool can serve any more. It stays in the log and its ports are nobody's until it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideLease {
    /// What was leased.
    pub tuple: Tuple,
    /// To whom.
    pub identity: ClientIdentity,
    /// What became of it.
    pub state: State,
    /// When it is over, its hold-down included, in seconds since the epoch.
    pub until: u32,
}

/// An image of each tuple that has a record.
pub(super) struct Images {
    /// Open addressing by tuple: half of the hash above, the image's number and one below; 0 where there is none.
    index: Vec<u64>,
    count: u32,
    chunks: Vec<Vec<Image>>,
}

impl Images {
    /// No image; there will be about as many as `tuples`.
    pub(super) fn with_capacity(tuples: usize) -> Images {
        let index = vec![0; tuples.saturating_mul(2).clamp(16, 1 << 28)];
        Images { index, count: 0, chunks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// The image of this number, which must be below [`len`](Self::len).
    pub(super) fn get(&self, number: u32) -> &Image {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    /// All images, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Image> {
        self.chunks.iter().flatten()
    }

    /// Keeps what these records say if it is newer than what is known of their tuples.
    pub(super) fn take_in(&mut self, records: &[Record], mut each: impl FnMut(Option<&Image>)) {
        for group in records.chunks(GROUP) {
            for record in group {
                prefetch(&self.index[self.home(hash(record.tuple()))]);
            }
            for record in group {
                let wanted = hash(record.tuple());
                let entry = self.index[self.home(wanted)];
                if entry >> 32 == wanted & LOW
                    && let Some(number) = number_of(entry)
                {
                    let known = self.get(number);
                    prefetch(&known.stamp);
                    prefetch(&known.tuple);
                }
            }
            for record in group {
                let image = Image::of(record);
                each(image.as_ref());
                if let Some(image) = image {
                    self.take(image);
                }
            }
        }
    }

    fn take(&mut self, image: Image) {
        let wanted = hash(image.tuple);
        let mut at = self.home(wanted);
        // There is always a free place.
        while let Some(number) = number_of(self.index[at]) {
            if self.index[at] >> 32 == wanted & LOW {
                let known = &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK];
                if known.tuple == image.tuple {
                    if known.stamp < image.stamp || !holds(Rule::GreaterStampWins) {
                        *known = image;
                    }
                    return;
                }
            }
            at = self.next(at);
        }
        // No log has room for 2^32 records.
        self.count += 1;
        self.index[at] = (wanted & LOW) << 32 | u64::from(self.count);
        if let Some(last) = self.chunks.last_mut().filter(|last| last.len() < CHUNK) {
            last.push(image);
        } else {
            let mut chunk = Vec::with_capacity(CHUNK);
            chunk.push(image);
            self.chunks.push(chunk);
        }
        if self.len() > self.index.len() / 4 * 3 {
            self.grow();
        }
    }

    fn grow(&mut self) {
        self.index = vec![0; self.index.len() * 2];
        for number in 1..=self.count {
            let wanted = hash(self.get(number - 1).tuple);
            let mut at = self.home(wanted);
            while self.index[at] != 0 {
                at = self.next(at);
            }
            self.index[at] = (wanted & LOW) << 32 | u64::from(number);
        }
    }

    /// Where an image of this hash is looked for first.
    fn home(&self, hash: u64) -> usize {
        usize::try_from(((hash >> 32) * self.index.len() as u64) >> 32).unwrap_or(0)
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.index.len() { 0 } else { at + 1 }
    }
}

/// The half of a hash that does not choose the place.
const LOW: u64 = 0xffff_ffff;

/// The number of the image that an entry of the index has.
fn number_of(entry: u64) -> Option<u32> {
    u32::try_from(entry & LOW).ok()?.checked_sub(1)
}

/// Numbers of images, sorted by the shard that has their client.
pub(super) struct ByShard {
    /// Where each shard begins, and where the last one ends.
    begins: Vec<u32>,
    numbers: Vec<u32>,
}

impl ByShard {
    /// Sorts numbers of which `shard` says where they belong; those that belong nowhere are left out.
    pub(super) fn new(shards: usize, shard: &[Option<u32>]) -> ByShard {
        let mut begins = vec![0; shards + 1];
        for shard in shard.iter().flatten() {
            begins[*shard as usize + 1] += 1;
        }
        for shard in 0..shards {
            begins[shard + 1] += begins[shard];
        }
        let mut next = begins.clone();
        let mut numbers = vec![0; begins[shards] as usize];
        for (number, shard) in (0..).zip(shard) {
            if let Some(shard) = shard {
                let place = &mut next[*shard as usize];
                numbers[*place as usize] = number;
                *place += 1;
            }
        }
        ByShard { begins, numbers }
    }

    /// The numbers of the images of a shard's clients.
    pub(super) fn shard(&self, shard: usize) -> &[u32] {
        &self.numbers[self.begins[shard] as usize..self.begins[shard + 1] as usize]
    }
}

/// Tuples are not secret, and a multiplication spreads them well enough.
fn hash(tuple: Tuple) -> u64 {
    let product = u128::from(tuple.packed()) * 0x9e37_79b9_7f4a_7c15;
    u64::try_from(product >> 64 ^ product & u128::from(u64::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::{Content, NEVER};

    fn record(slot: u32, stamp: u64) -> Record {
        Record::new(&Content {
            stamp: Stamp(stamp),
            identity: ClientIdentity(u128::from(stamp)),
            tuple: Tuple::whole(slot.into()),
            state: State::Bound,
            expires: NEVER,
            source: Ipv6Addr::LOCALHOST,
            client: &[],
            hardware: false,
            site: SiteId::UNKNOWN,
            softwire: None,
        })
    }

    #[test]
    fn of_each_tuple_the_greatest_stamp_is_kept_however_many_there_are() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut images = Images::with_capacity(0);
        let mut greatest = std::collections::BTreeMap::new();
        for _ in 0..300 {
            let records: Vec<Record> =
                (0..100).map(|_| record(random.u32(..20_000), random.u64(1..99))).collect();
            images.take_in(&records, |image| assert!(image.is_some()));
            for record in &records {
                let known = greatest.entry(record.tuple()).or_insert(record.stamp());
                *known = record.stamp().max(*known);
            }
        }
        assert!(images.len() > CHUNK / 2);
        let kept = images.iter().map(|image| (image.tuple, image.stamp));
        assert_eq!(kept.collect::<std::collections::BTreeMap<_, _>>(), greatest);
        assert_eq!(images.len(), greatest.len());
    }

    #[test]
    fn numbers_are_sorted_by_shard_and_those_of_none_left_out() {
        let sorted = ByShard::new(3, &[Some(2), None, Some(0), Some(2)]);
        assert_eq!(
            (sorted.shard(0), sorted.shard(1), sorted.shard(2)),
            (&[2][..], &[][..], &[0, 3][..])
        );
    }
}
