//! The newest record of each tuple, as far as a log was read back.

use std::{
    net::Ipv6Addr,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
};

use super::{
    key::{ClientIdentity, SiteId, Source},
    record::{Record, Softwire, State, Tuple, lasts},
    rules::{Rule, holds},
    stamp::{Now, Stamp},
};
use crate::memory::{furnished, prefetch, spacious};

/// Images that memory is taken for at a time: they never move, and no more memory is taken than is used.
const CHUNK: usize = 1 << 16;

/// Records whose images are approached together: while one is looked at, the next are on their way from memory.
const GROUP: usize = 32;

/// What the newest record of a tuple says, but for its softwire, which few have. A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Image {
    pub stamp: Stamp,
    pub tuple: Tuple,
    pub identity: ClientIdentity,
    pub source: Source,
    pub site: SiteId,
    pub expires: u32,
    pub state: State,
}

const _: () = assert!(size_of::<Image>() == 64);

impl Image {
    /// What a record says; `None` if it is of a kind that this version does not know.
    fn of(record: &Record, source: impl Fn(Ipv6Addr) -> Source) -> Option<Image> {
        Some(Image {
            stamp: record.stamp(),
            tuple: record.tuple(),
            identity: record.identity(),
            source: source(record.source()),
            site: record.site(),
            expires: record.expires(),
            state: record.state()?,
        })
    }

    /// Whether this is a lease that runs.
    pub(super) fn runs(&self, now: Now) -> bool {
        self.state == State::Bound && lasts(self.expires, now)
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
    all: Chunks<Image>,
    /// Of each image, if leases have any.
    softwires: Option<Chunks<Option<Softwire>>>,
}

impl Images {
    /// No image; there will be about as many as `tuples`.
    pub(super) fn new(tuples: usize, with_softwires: bool) -> Images {
        let index = empty_index(tuples.saturating_mul(2).clamp(16, 1 << 28));
        Images { index, all: Chunks::new(), softwires: with_softwires.then(Chunks::new) }
    }

    pub(super) fn len(&self) -> usize {
        self.all.count as usize
    }

    /// The image of this number, which must be below [`len`](Self::len).
    pub(super) fn get(&self, number: u32) -> &Image {
        self.all.get(number)
    }

    /// All images, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Image> {
        self.all.filled.iter().flatten()
    }

    /// The images that have softwires, with these.
    pub(super) fn with_softwires(&self) -> impl Iterator<Item = (&Image, Softwire)> {
        let softwires = self.softwires.iter().flat_map(|softwires| softwires.filled.iter());
        let both = self.iter().zip(softwires.flatten());
        both.filter_map(|(image, softwire)| softwire.map(|softwire| (image, softwire)))
    }

    /// Keeps what these records say if it is newer than what is known of their tuples, and tells of each what it says.
    pub(super) fn take_in(
        &mut self,
        records: &[Record],
        source: impl Fn(Ipv6Addr) -> Source,
        mut each: impl FnMut(Option<&Image>),
    ) {
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
                    prefetch(self.get(number));
                }
            }
            for record in group {
                let image = Image::of(record, &source);
                each(image.as_ref());
                if let Some(image) = image {
                    self.take(image, record);
                }
            }
        }
    }

    fn take(&mut self, image: Image, record: &Record) {
        let wanted = hash(image.tuple);
        let mut at = self.home(wanted);
        // There is always a free place.
        while let Some(number) = number_of(self.index[at]) {
            if self.index[at] >> 32 == wanted & LOW {
                let known = self.all.get_mut(number);
                if known.tuple == image.tuple {
                    if known.stamp < image.stamp || !holds(Rule::GreaterStampWins) {
                        *known = image;
                        if let Some(softwires) = &mut self.softwires {
                            *softwires.get_mut(number) = record.softwire();
                        }
                    }
                    return;
                }
            }
            at = self.next(at);
        }
        self.all.push(image);
        if let Some(softwires) = &mut self.softwires {
            softwires.push(record.softwire());
        }
        self.index[at] = (wanted & LOW) << 32 | u64::from(self.all.count);
        if self.len() > self.index.len() / 4 * 3 {
            self.grow();
        }
    }

    fn grow(&mut self) {
        self.index = empty_index(self.index.len() * 2);
        for number in 1..=self.all.count {
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

/// Chunks that are ready before they are needed.
const CHUNKS_AHEAD: usize = 4;

/// Items that never move.
struct Chunks<T> {
    count: u32,
    filled: Vec<Vec<T>>,
    /// Where empty chunks come from, once one was not enough. Locked so that images can be shared; nobody ever waits.
    ahead: Option<Mutex<Receiver<Vec<T>>>>,
}

impl<T: Send + 'static> Chunks<T> {
    fn new() -> Self {
        Chunks { count: 0, filled: Vec::new(), ahead: None }
    }

    fn push(&mut self, item: T) {
        // No log has room for 2^32 records.
        self.count += 1;
        if let Some(last) = self.filled.last_mut().filter(|last| last.len() < CHUNK) {
            last.push(item);
        } else {
            let mut chunk = self.empty_chunk();
            chunk.push(item);
            self.filled.push(chunk);
        }
    }

    /// The next chunk. From the second on another thread fetches their pages, while this one looks at records.
    fn empty_chunk(&mut self) -> Vec<T> {
        if self.filled.is_empty() {
            return spacious(CHUNK);
        }
        let ahead = self.ahead.get_or_insert_with(|| {
            let (give, take) = sync_channel(CHUNKS_AHEAD - 1);
            // Ends when nobody takes chunks any more. If there is no thread, there is no chunk to be taken.
            let _ = std::thread::Builder::new()
                .spawn(move || while give.send(furnished(CHUNK)).is_ok() {});
            Mutex::new(take)
        });
        let ahead = ahead.get_mut().unwrap_or_else(PoisonError::into_inner);
        ahead.recv().unwrap_or_else(|_| spacious(CHUNK))
    }

    fn get(&self, number: u32) -> &T {
        &self.filled[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.filled[number as usize / CHUNK][number as usize % CHUNK]
    }
}

fn empty_index(places: usize) -> Vec<u64> {
    let mut index = furnished(places);
    index.resize(places, 0);
    index
}

/// The half of a hash that does not choose the place.
const LOW: u64 = 0xffff_ffff;

/// The number of the image that an entry of the index has.
fn number_of(entry: u64) -> Option<u32> {
    u32::try_from(entry & LOW).ok()?.checked_sub(1)
}

/// No shard has the image's client.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Numbers of images, sorted by the shard that has their client.
pub(super) struct ByShard {
    /// Where each shard begins, and where the last one ends.
    begins: Vec<u32>,
    numbers: Vec<u32>,
}

impl ByShard {
    /// Sorts numbers of which `shard` says where they belong; those that belong [nowhere](NOWHERE) are left out.
    pub(super) fn new(shards: usize, shard: &[u32]) -> ByShard {
        let mut begins = vec![0; shards + 1];
        for &shard in shard.iter().filter(|&&shard| shard != NOWHERE) {
            begins[shard as usize + 1] += 1;
        }
        for shard in 0..shards {
            begins[shard + 1] += begins[shard];
        }
        let mut next = begins.clone();
        let mut numbers = furnished(begins[shards] as usize);
        numbers.resize(begins[shards] as usize, 0);
        for (number, &shard) in (0..).zip(shard) {
            if shard != NOWHERE {
                let place = &mut next[shard as usize];
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
        let mut images = Images::new(0, false);
        let mut greatest = std::collections::BTreeMap::new();
        for _ in 0..300 {
            let records: Vec<Record> =
                (0..700).map(|_| record(random.u32(..100_000), random.u64(1..99))).collect();
            images.take_in(&records, |_| Source(0), |image| assert!(image.is_some()));
            for record in &records {
                let known = greatest.entry(record.tuple()).or_insert(record.stamp());
                *known = record.stamp().max(*known);
            }
        }
        assert!(images.len() > CHUNK);
        let kept = images.iter().map(|image| (image.tuple, image.stamp));
        assert_eq!(kept.collect::<std::collections::BTreeMap<_, _>>(), greatest);
        assert_eq!(images.len(), greatest.len());
    }

    #[test]
    fn numbers_are_sorted_by_shard_and_those_of_none_left_out() {
        let sorted = ByShard::new(3, &[2, NOWHERE, 0, 2]);
        assert_eq!(
            (sorted.shard(0), sorted.shard(1), sorted.shard(2)),
            (&[2][..], &[][..], &[0, 3][..])
        );
    }
}
