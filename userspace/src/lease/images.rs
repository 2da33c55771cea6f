//! The newest record of each tuple, as far as a log was read back.

use std::net::Ipv6Addr;

use hashbrown::HashTable;

use super::{
    key::{ClientIdentity, SiteId},
    record::{Record, Softwire, State, Tuple, lasts},
    rules::{Rule, holds},
    stamp::{Now, Stamp},
};

/// Images that memory is taken for at a time: they never move, and no more memory is taken than is used.
const CHUNK: usize = 1 << 14;

/// Images that the index has room for before the first one comes, at most.
const INDEX_AT_ONCE: usize = 1 << 24;

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

/// An image of each tuple that has a record.
pub(super) struct Images {
    /// Numbers of images, by tuple.
    index: HashTable<u32>,
    chunks: Vec<Vec<Image>>,
}

impl Images {
    /// No image; there will be about as many as `tuples`.
    pub(super) fn with_capacity(tuples: usize) -> Images {
        Images { index: HashTable::with_capacity(tuples.min(INDEX_AT_ONCE)), chunks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The image of this number, which must be below [`len`](Self::len).
    pub(super) fn get(&self, number: u32) -> &Image {
        at(&self.chunks, number)
    }

    /// All images, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Image> {
        self.chunks.iter().flatten()
    }

    /// Keeps the image if it is newer than what is known of its tuple.
    pub(super) fn take_in(&mut self, image: Image) {
        let Self { index, chunks } = self;
        let same = |&number: &u32| at(chunks, number).tuple == image.tuple;
        if let Some(&known) = index.find(hash(image.tuple), same) {
            let known = &mut chunks[known as usize / CHUNK][known as usize % CHUNK];
            if known.stamp < image.stamp || !holds(Rule::GreaterStampWins) {
                *known = image;
            }
            return;
        }
        // No log has room for 2^32 records.
        let number = u32::try_from(index.len()).unwrap_or(u32::MAX);
        index.insert_unique(hash(image.tuple), number, |&number| hash(at(chunks, number).tuple));
        if let Some(last) = chunks.last_mut().filter(|last| last.len() < CHUNK) {
            last.push(image);
        } else {
            let mut chunk = Vec::with_capacity(CHUNK);
            chunk.push(image);
            chunks.push(chunk);
        }
    }
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

fn at(chunks: &[Vec<Image>], number: u32) -> &Image {
    &chunks[number as usize / CHUNK][number as usize % CHUNK]
}

/// Tuples are not secret, and a multiplication spreads them well enough.
fn hash(tuple: Tuple) -> u64 {
    let product = u128::from(tuple.packed()) * 0x9e37_79b9_7f4a_7c15;
    u64::try_from(product >> 64 ^ product & u128::from(u64::MAX)).unwrap_or(0)
}
