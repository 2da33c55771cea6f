//! Where in a shard a client is: a tag of seven bits for each place, sixteen octets for a bucket of fourteen places.
//!
//! A client's place is in the bucket that its hash names, its home; if that is full, in the next that is not. Each
//! bucket counts the clients that were passed on to later ones, so that a search ends where it must and nothing has to
//! be made anew when clients go (the scheme of Folly's F14 tables).
//!
//! Only the holder of the shard's lock changes a guide. Everybody may look, since what is in it are hints: so the
//! places of a whole burst's clients are brought near before the first lock is taken.

use crate::sync::{AtomicU64, Ordering};

/// Places of a bucket.
pub(super) const BUCKET_PLACES: usize = 14;

/// Buckets of a guide.
pub(super) const BUCKETS: usize = 64;

/// The tag of a place in which no client is.
const FREE: u8 = 0;
/// The tag of a place in which a slot rests: no search looks for it.
const RESTING: u8 = 1;
/// In the tag of every client.
const CLIENT: u8 = 0x80;

/// Of the second word of a bucket, the octets that are tags.
const SECOND_TAGS: u64 = (1 << 48) - 1;
/// One more client was passed on.
const ONE_PASSED: u64 = 1 << 48;

const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const HIGH_BITS: u64 = !LOW_BITS;

/// What a place is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A slot that rests.
    Resting,
    /// The client with this hash.
    Client(u64),
}

impl Use {
    fn tag(self) -> u8 {
        match self {
            Use::Resting => RESTING,
            Use::Client(hash) => tag(hash),
        }
    }
}

/// The lowest seven bits; the highest ones choose the bucket.
fn tag(hash: u64) -> u8 {
    let [low, ..] = hash.to_le_bytes();
    low | CLIENT
}

/// The bucket in which a client is looked for first.
pub(super) fn home(hash: u64) -> usize {
    usize::try_from(hash >> (64 - BUCKETS.ilog2())).unwrap_or(0)
}

/// Sixteen octets: fourteen tags, and in two how many clients were passed on.
#[derive(Default)]
struct Bucket([AtomicU64; 2]);

impl Bucket {
    fn words(&self) -> [u64; 2] {
        let [first, second] = &self.0;
        [first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)]
    }

    /// A bit for each place that has this tag.
    #[inline]
    fn with_tag(&self, tag: u8) -> Places {
        let [first, second] = self.words();
        let sought = u64::from_ne_bytes([tag; 8]);
        let last = equal_octets(second, sought) & SECOND_TAGS;
        Places([equal_octets(first, sought), last])
    }

    fn passed(&self) -> u64 {
        self.words()[1] / ONE_PASSED
    }
}

/// The highest bit of each octet of `word` that equals the one of `sought`.
#[inline]
fn equal_octets(word: u64, sought: u64) -> u64 {
    let different = word ^ sought;
    // No octet reaches into the next: the sum of two numbers of seven bits has eight.
    !(((different & LOW_BITS) + LOW_BITS) | different) & HIGH_BITS
}

/// Places of a bucket, lowest first.
struct Places([u64; 2]);

impl Iterator for Places {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let [first, second] = &mut self.0;
        let (word, offset) = if *first == 0 { (second, 8) } else { (first, 0) };
        if *word == 0 {
            return None;
        }
        let place = word.trailing_zeros() as usize / 8 + offset;
        *word &= *word - 1;
        Some(place)
    }
}

/// The tags of a shard's places.
#[repr(align(64))]
pub(super) struct Guide([Bucket; BUCKETS]);

impl Guide {
    /// A guide to places that are all free.
    pub(super) fn new() -> Guide {
        Guide(std::array::from_fn(|_| Bucket::default()))
    }

    /// The buckets of a search that begins at `home`.
    fn way(home: usize) -> impl Iterator<Item = usize> {
        (home..home + BUCKETS).map(|bucket| bucket % BUCKETS)
    }

    /// The first of the places in which a client with this hash may be for which `is` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(usize) -> bool) -> Option<usize> {
        for number in Self::way(home(hash)) {
            let bucket = &self.0[number];
            let mut places = bucket.with_tag(tag(hash)).map(|at| number * BUCKET_PLACES + at);
            let found = places.find(|&place| is(place));
            if found.is_some() || bucket.passed() == 0 {
                return found;
            }
        }
        None
    }

    /// The free place that is nearest to the home of `hash`.
    #[inline]
    pub(super) fn free(&self, hash: u64) -> Option<usize> {
        Self::way(home(hash)).find_map(|number| {
            let at = self.0[number].with_tag(FREE).next()?;
            Some(number * BUCKET_PLACES + at)
        })
    }

    /// Where a client with this hash probably is, or would be put: a hint for those who do not hold the lock.
    #[inline]
    pub(super) fn probable(&self, hash: u64) -> Option<usize> {
        let number = home(hash);
        let bucket = &self.0[number];
        let found = bucket.with_tag(tag(hash)).next();
        let at = found.or_else(|| bucket.with_tag(FREE).next())?;
        Some(number * BUCKET_PLACES + at)
    }

    /// Notes what a place is used for that was free.
    pub(super) fn occupy(&self, place: usize, used: Use) {
        self.set_tag(place, used.tag());
        self.pass(place, used, |word| word + ONE_PASSED);
    }

    /// Notes that a place is free that was used for `used`.
    pub(super) fn vacate(&self, place: usize, used: Use) {
        self.set_tag(place, FREE);
        self.pass(place, used, |word| word - ONE_PASSED);
    }

    /// Changes the counts of the buckets that a client at `place` was passed on by.
    fn pass(&self, place: usize, used: Use, change: impl Fn(u64) -> u64) {
        let Use::Client(hash) = used else { return };
        let bucket = place / BUCKET_PLACES;
        for passed in Self::way(home(hash)).take_while(|&number| number != bucket) {
            let [_, word] = &self.0[passed].0;
            word.store(change(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }

    fn set_tag(&self, place: usize, tag: u8) {
        let at = place % BUCKET_PLACES;
        let word = &self.0[place / BUCKET_PLACES].0[at / 8];
        let shift = at % 8 * 8;
        let others = word.load(Ordering::Relaxed) & !(0xff << shift);
        word.store(others | u64::from(tag) << shift, Ordering::Relaxed);
    }

    /// The bucket in which a client with this hash is looked for first, to be asked for.
    pub(super) fn home_of(&self, hash: u64) -> &impl Sized {
        &self.0[home(hash)]
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn octets_are_compared_one_by_one() {
        let word = u64::from_le_bytes([0, 1, 0x80, 0xff, 0, 0x7f, 1, 0x81]);
        for sought in [0, 1, 0x7f, 0x80, 0x81, 0xff, 3] {
            let found = equal_octets(word, u64::from_ne_bytes([sought; 8]));
            let expected = word.to_le_bytes().map(|octet| if octet == sought { 0x80 } else { 0 });
            assert_eq!(found.to_le_bytes(), expected, "{sought}");
        }
    }

    /// Hashes of few homes and few tags, so that buckets run over, around the end too.
    fn hash(random: &mut fastrand::Rng) -> u64 {
        let home = [0, 1, 31, 62, 63][random.usize(..5)];
        home << 58 | random.u64(..1 << 20) << 8 | random.u64(..4)
    }

    #[test]
    fn clients_are_found_whoever_came_and_went_before() {
        let guide = Guide::new();
        let mut random = fastrand::Rng::with_seed(3);
        let (mut clients, mut resting) = (HashMap::new(), Vec::new());
        let mut most = 0;
        for _ in 0..60_000 {
            let new = hash(&mut random);
            let grows = random.u8(..100) < if clients.len() < 300 { 60 } else { 40 };
            if grows && !clients.contains_key(&new) {
                let place = guide.free(new).unwrap();
                guide.occupy(place, Use::Client(new));
                assert!(clients.values().all(|other| *other != place));
                clients.insert(new, place);
            } else if let Some((&gone, &place)) = clients.iter().next() {
                guide.vacate(place, Use::Client(gone));
                clients.remove(&gone);
            }
            if random.u8(..10) == 0 {
                let place = guide.free(new).unwrap();
                guide.occupy(place, Use::Resting);
                resting.push(place);
            } else if resting.len() > 100 {
                guide.vacate(resting.swap_remove(random.usize(..100)), Use::Resting);
            }
            most = most.max(clients.len());
            let sought = hash(&mut random);
            let at = clients.get(&sought).copied();
            assert_eq!(guide.find(sought, |place| at == Some(place)), at);
        }
        assert!(most > 250, "{most}");
        for (&hash, &place) in &clients {
            assert_eq!(guide.find(hash, |at| at == place), Some(place));
            guide.vacate(place, Use::Client(hash));
        }
        for place in resting {
            guide.vacate(place, Use::Resting);
        }
        // Nothing is left behind: no tag, and nobody who was passed on.
        assert!(guide.0.iter().all(|bucket| bucket.words() == [0, 0]));
    }

    #[test]
    fn a_full_guide_has_no_free_place_and_all_are_found() {
        let guide = Guide::new();
        let mut random = fastrand::Rng::with_seed(4);
        let hashes: Vec<u64> = (0..BUCKETS * BUCKET_PLACES).map(|_| random.u64(..)).collect();
        let places: Vec<usize> = hashes
            .iter()
            .map(|&hash| {
                let place = guide.free(hash).unwrap();
                guide.occupy(place, Use::Client(hash));
                place
            })
            .collect();
        assert_eq!(guide.free(0), None);
        for (hash, place) in hashes.iter().zip(places) {
            assert_eq!(guide.find(*hash, |at| at == place), Some(place));
        }
    }
}
