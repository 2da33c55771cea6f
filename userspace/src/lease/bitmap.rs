//! A bit a slot, set while somebody holds it. Lock-free.
//!
//! Shards of 64 stripes of 8 words: a stripe is a cache line. A shard's summary has a bit for each of its stripes that
//! is full, and another one has a bit for each full shard, so that finding one of a few free bits costs hardly more
//! than finding one of many.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering, fence};

/// Words of a stripe: a cache line. A model checker tries every order of accesses, and fewer words say as much.
const WORDS: usize = if cfg!(feature = "loom") { 2 } else { 8 };

/// Stripes of a shard: the bits of its summary.
const STRIPES: usize = 64;

/// Words of a shard.
const SHARD_WORDS: usize = STRIPES * WORDS;

/// How a free slot is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// From the place that this number leads to, which nobody can predict (RFC 7618 §10.1, RFC 6056).
    Random(u64),
    /// The lowest that is free.
    Lowest,
}

impl Pick {
    /// A place among `count`.
    fn place(self, count: usize) -> usize {
        match self {
            Pick::Random(random) => reduce(random >> 32, count),
            Pick::Lowest => 0,
        }
    }

    /// One of the bits that are set in `free`, which has some: each is equally likely.
    fn bit(self, free: u64) -> u32 {
        // More than a few draws cost more than counting off.
        const DRAWS: u32 = 4;
        match self {
            Pick::Lowest => free.trailing_zeros(),
            Pick::Random(random) => {
                let draws =
                    (0..DRAWS).map(|draw| u32::try_from(random >> (6 * draw) & 63).unwrap_or(0));
                let mut hits = draws.filter(|&bit| free >> bit & 1 == 1);
                hits.next().unwrap_or_else(|| {
                    let rest = (0..reduce(random & 0xff_ffff << 8, free.count_ones() as usize))
                        .fold(free, |rest, _| rest & (rest - 1));
                    rest.trailing_zeros()
                })
            }
        }
    }
}

/// Maps the 32 bits of `random` to a number below `count`.
fn reduce(random: u64, count: usize) -> usize {
    let scaled = (random & 0xffff_ffff) * count as u64;
    usize::try_from(scaled >> 32).unwrap_or(0)
}

#[repr(align(64))]
struct Stripe {
    words: [AtomicU64; WORDS],
}

struct Shard {
    /// A bit for each stripe, set if it is full or does not exist. A hint: it may be clear for a full stripe, but
    /// once nobody is at work it is never set for one that has room.
    full: AtomicU64,
    stripes: Box<[Stripe]>,
}

/// The bits.
pub(super) struct Bitmap {
    shards: Box<[CachePadded<Shard>]>,
    /// A bit for each shard, set if it is full or does not exist. A hint like a shard's.
    full: Box<[AtomicU64]>,
    words: usize,
}

impl Bitmap {
    /// Bits `0..bits`, of which those are set that `taken` names. Those it names are never to be released.
    pub(super) fn new(bits: usize, taken: impl Fn(usize) -> bool) -> Bitmap {
        let words = bits.div_ceil(64);
        let word = |index: usize| {
            (0..64).fold(0, |word, bit| {
                let place = index * 64 + bit;
                word | u64::from(place >= bits || taken(place)) << bit
            })
        };
        Self::preset(words, word)
    }

    /// Words `0..words` as `word` gives them.
    fn preset(words: usize, word: impl Fn(usize) -> u64) -> Bitmap {
        let content = |index: usize| if index < words { word(index) } else { u64::MAX };
        let stripe = |index: usize| Stripe {
            words: std::array::from_fn(|at| AtomicU64::new(content(index * WORDS + at))),
        };
        let shard = |index: usize| {
            let first = index * STRIPES;
            let count = words.div_ceil(WORDS).saturating_sub(first).min(STRIPES);
            let stripes: Box<[Stripe]> = (first..first + count).map(stripe).collect();
            CachePadded::new(Shard { full: AtomicU64::new(beyond(count)), stripes })
        };
        let shards: Box<[_]> = (0..words.div_ceil(SHARD_WORDS)).map(shard).collect();
        let full = shards.chunks(64).map(|shards| AtomicU64::new(beyond(shards.len())));
        Bitmap { full: full.collect(), shards, words }
    }

    /// Sets a bit that is clear and says which; `None` if all are set, or just were.
    pub(super) fn acquire(&self, pick: Pick) -> Option<usize> {
        let (home, stripe, word) = split(pick.place(self.words));
        self.acquire_in(home, stripe, word, pick)
            .or_else(|| self.acquire_shard(home, stripe, pick))
            .or_else(|| self.acquire_anywhere(home, stripe, pick))
    }

    /// Sets a bit in any shard that has room, from shard `home` on.
    fn acquire_anywhere(&self, home: usize, stripe: usize, pick: Pick) -> Option<usize> {
        (0..self.full.len()).find_map(|step| {
            let word = (home / 64 + step) % self.full.len();
            let full = self.full[word].load(Ordering::Relaxed);
            rotated(!full, home % 64)
                .find_map(|shard| self.acquire_shard(word * 64 + shard, stripe, pick))
        })
    }

    /// Sets a bit in any stripe of this shard that has room, from stripe `start` on.
    fn acquire_shard(&self, shard: usize, start: usize, pick: Pick) -> Option<usize> {
        let full = self.shards[shard].full.load(Ordering::Relaxed);
        let start = if pick == Pick::Lowest { 0 } else { start };
        rotated(!full, start)
            .find_map(|stripe| self.acquire_in(shard, stripe, pick.place(WORDS), pick))
    }

    /// Sets a bit in this stripe, from word `start` on.
    fn acquire_in(&self, shard: usize, stripe: usize, start: usize, pick: Pick) -> Option<usize> {
        if self.shards[shard].full.load(Ordering::Relaxed) >> stripe & 1 == 1 {
            return None;
        }
        let found = (0..WORDS).find_map(|step| {
            self.acquire_word((shard, stripe, (start + step) % WORDS), u64::MAX, pick)
        });
        if found.is_none() {
            self.mark_if_full(shard, stripe);
        }
        found
    }

    /// Sets a bit of `mask` in this word.
    fn acquire_word(&self, at: (usize, usize, usize), mask: u64, pick: Pick) -> Option<usize> {
        let (shard, stripe, index) = at;
        let word = &self.shards[shard].stripes[stripe].words[index];
        let mut seen = word.load(Ordering::Relaxed);
        // Every turn that fails is another's success.
        while !seen & mask != 0 {
            let bit = pick.bit(!seen & mask);
            let taken = seen | 1 << bit;
            match word.compare_exchange_weak(seen, taken, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    if taken == u64::MAX {
                        self.mark_if_full(shard, stripe);
                    }
                    return Some(((shard * STRIPES + stripe) * WORDS + index) * 64 + bit as usize);
                }
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Sets a bit among `first..first + count` that is clear and says which.
    ///
    /// `count` is a power of two and `first` a multiple of it.
    pub(super) fn acquire_among(&self, first: usize, count: usize, pick: Pick) -> Option<usize> {
        let mask = if count < 64 { ((1 << count) - 1) << (first % 64) } else { u64::MAX };
        let words = count.div_ceil(64);
        let start = pick.place(words);
        (0..words).find_map(|step| {
            self.acquire_word(split(first / 64 + (start + step) % words), mask, pick)
        })
    }

    /// Sets this bit; false if it was set.
    pub(super) fn claim(&self, place: usize) -> bool {
        let (shard, stripe, word) = split(place / 64);
        let bit = 1 << (place % 64);
        let word = &self.shards[shard].stripes[stripe].words[word];
        let before = word.fetch_or(bit, Ordering::AcqRel);
        if before | bit == u64::MAX && before & bit == 0 {
            self.mark_if_full(shard, stripe);
        }
        before & bit == 0
    }

    /// Clears this bit, which the caller holds.
    ///
    /// # Panics
    ///
    /// If it is clear: two have held one slot, and nothing that the server would promise now is true.
    pub(super) fn release(&self, place: usize) {
        let (shard, stripe, word) = split(place / 64);
        let bit = 1 << (place % 64);
        let word = &self.shards[shard].stripes[stripe].words[word];
        let before = word.fetch_and(!bit, Ordering::AcqRel);
        assert!(before & bit != 0, "released slot {place}, which nobody held");
        // Only who makes room in a full word can meet a summary bit.
        if before == u64::MAX {
            fence(Ordering::SeqCst);
            if self.shards[shard].full.load(Ordering::Relaxed) >> stripe & 1 == 1 {
                self.unmark(shard, stripe);
            }
        }
    }

    /// Whether this bit is set.
    pub(super) fn is_set(&self, place: usize) -> bool {
        let (shard, stripe, word) = split(place / 64);
        let word = &self.shards[shard].stripes[stripe].words[word];
        word.load(Ordering::Acquire) >> (place % 64) & 1 == 1
    }

    /// How many bits are set, those beyond the end of the last word included.
    pub(super) fn count(&self) -> usize {
        let words = self.shards.iter().flat_map(|shard| shard.stripes.iter());
        let words = words.flat_map(|stripe| stripe.words.iter()).take(self.words);
        words.map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// Sets the summary bit of a stripe that is full, and that of its shard if it was the last one with room.
    ///
    /// Set the mark, fence, look again. Whoever makes room fences before it looks for a mark: whichever fence comes
    /// second sees what the other side has written, so that no mark stays on what has room. It is the same for both
    /// levels: words fill up below the marks of a shard, and those below the mark of the shard.
    fn mark_if_full(&self, shard: usize, stripe: usize) {
        let home = &self.shards[shard];
        if !home.is_full(stripe) {
            return;
        }
        let before = home.full.fetch_or(1 << stripe, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !home.is_full(stripe) {
            self.unmark(shard, stripe);
        } else if before | 1 << stripe == u64::MAX {
            let mark = 1 << (shard % 64);
            self.full[shard / 64].fetch_or(mark, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if home.full.load(Ordering::Relaxed) != u64::MAX {
                self.full[shard / 64].fetch_and(!mark, Ordering::Relaxed);
            }
        }
    }

    /// Clears the summary bit of a stripe that has room again, and that of its shard if it was full.
    fn unmark(&self, shard: usize, stripe: usize) {
        let before = self.shards[shard].full.fetch_and(!(1 << stripe), Ordering::Relaxed);
        if before == u64::MAX {
            fence(Ordering::SeqCst);
            let mark = 1 << (shard % 64);
            if self.full[shard / 64].load(Ordering::Relaxed) & mark != 0 {
                self.full[shard / 64].fetch_and(!mark, Ordering::Relaxed);
            }
        }
    }

    /// Whether no summary bit hides what has room. Holds whenever nobody is at work.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn summary_is_true(&self) -> bool {
        self.shards.iter().enumerate().all(|(index, shard)| {
            let full = shard.full.load(Ordering::Acquire);
            let above = self.full[index / 64].load(Ordering::Acquire) >> (index % 64) & 1;
            (above == 0 || full == u64::MAX)
                && (0..shard.stripes.len())
                    .all(|stripe| full >> stripe & 1 == 0 || shard.is_full(stripe))
        })
    }
}

impl Shard {
    fn is_full(&self, stripe: usize) -> bool {
        let mut words = self.stripes[stripe].words.iter();
        words.all(|word| word.load(Ordering::Relaxed) == u64::MAX)
    }
}

/// The shard, the stripe in it and the word in that of a word.
fn split(word: usize) -> (usize, usize, usize) {
    (word / SHARD_WORDS, word / WORDS % STRIPES, word % WORDS)
}

/// The marks of what does not exist, where 64 could and `count` do.
fn beyond(count: usize) -> u64 {
    u64::MAX.checked_shl(u32::try_from(count).unwrap_or(64)).unwrap_or(0)
}

/// The places of the bits of `open`, from `start` on and around.
fn rotated(open: u64, start: usize) -> impl Iterator<Item = usize> {
    let start = u32::try_from(start).unwrap_or(0);
    let first = open.rotate_right(start);
    let rest = std::iter::successors(Some(first), |open| Some(open & open.wrapping_sub(1)));
    rest.take_while(|&open| open != 0)
        .map(move |open| (open.trailing_zeros() + start) as usize % 64)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn random() -> Pick {
        Pick::Random(fastrand::u64(..))
    }

    #[test]
    fn fills_to_the_last_bit_and_empties_again() {
        for bits in [1, 63, 64, 126, 512, 513, 32_768, 32_769, 100_000] {
            let bitmap = Bitmap::new(bits, |place| place % 7 == 3);
            let expected: BTreeSet<usize> = (0..bits).filter(|place| place % 7 != 3).collect();
            let got: Vec<usize> = std::iter::from_fn(|| bitmap.acquire(random())).collect();
            assert_eq!(got.len(), expected.len(), "{bits}");
            assert_eq!(got.iter().copied().collect::<BTreeSet<_>>(), expected);
            assert!(bitmap.summary_is_true());
            for &place in &got {
                assert!(!bitmap.claim(place));
                bitmap.release(place);
                assert!(!bitmap.is_set(place));
                assert!(bitmap.claim(place));
                assert!(bitmap.is_set(place));
            }
            let one = got[got.len() / 2];
            bitmap.release(one);
            assert_eq!(bitmap.acquire(random()), Some(one), "the only one that is free");
            for &place in &got {
                bitmap.release(place);
            }
            assert!(bitmap.summary_is_true());
        }
    }

    #[test]
    fn the_last_free_bits_are_found_wherever_the_search_begins() {
        // 68 shards, of which all but three are full.
        let free: BTreeSet<usize> = [5, 70_000, 70_001, 2_199_999].into();
        let bitmap = Bitmap::new(2_200_000, |place| !free.contains(&place));
        for _ in 0..200 {
            let got: BTreeSet<usize> = (0..4).filter_map(|_| bitmap.acquire(random())).collect();
            assert_eq!(got, free);
            assert_eq!(bitmap.acquire(random()), None);
            assert!(bitmap.summary_is_true());
            for &place in &free {
                bitmap.release(place);
            }
        }
        assert_eq!(bitmap.acquire(Pick::Lowest), Some(5));
    }

    #[test]
    fn the_lowest_is_the_lowest() {
        let bitmap = Bitmap::new(70_000, |place| place < 40_000);
        assert_eq!(bitmap.acquire(Pick::Lowest), Some(40_000));
        assert_eq!(bitmap.acquire(Pick::Lowest), Some(40_001));
        bitmap.release(40_000);
        assert_eq!(bitmap.acquire(Pick::Lowest), Some(40_000));
    }

    #[test]
    fn acquires_only_among_the_bits_asked_for() {
        let bitmap = Bitmap::new(4096, |_| false);
        for (first, count) in [(0, 1), (6, 2), (16, 8), (96, 32), (128, 64), (256, 256)] {
            let among = || bitmap.acquire_among(first, count, random());
            let got: BTreeSet<usize> = std::iter::from_fn(among).collect();
            assert_eq!(got, (first..first + count).collect(), "{first} {count}");
        }
    }

    #[test]
    fn every_free_bit_is_as_likely_as_any_other() {
        // 252 of 512 bits are free, unevenly. Chi-square with 251 degrees of freedom: above 370 is 1 in 10⁶.
        let bitmap = Bitmap::new(512, |place| place % 64 >= 21 + place / 64 * 3);
        let free = (0..512).filter(|&place| !bitmap.is_set(place)).count();
        let mut hits = vec![0.0_f64; 512];
        let mut source = fastrand::Rng::with_seed(11);
        // Words are drawn evenly, so a bit's share is that of its word.
        let draws = 200_000.0;
        for _ in 0..200_000 {
            let place = bitmap.acquire(Pick::Random(source.u64(..))).unwrap();
            hits[place] += 1.0;
            bitmap.release(place);
        }
        let chi: f64 = (0..512)
            .filter(|&place| !bitmap.is_set(place))
            .map(|place| {
                let word = f64::from(u32::try_from(place / 64).unwrap());
                let expected = draws / 8.0 / (21.0 + word * 3.0);
                (hits[place] - expected).powi(2) / expected
            })
            .sum();
        assert_eq!(free, 252);
        assert!(chi < 370.0, "{chi}");
    }

    #[test]
    #[should_panic(expected = "which nobody held")]
    fn releasing_what_nobody_holds_is_an_error() {
        Bitmap::new(64, |_| false).release(5);
    }

    #[test]
    fn threads_never_share_a_bit_and_hide_none() {
        let bitmap = Bitmap::new(1000, |_| false);
        let owners: Vec<std::sync::atomic::AtomicU32> = (0..1000).map(|_| 0.into()).collect();
        std::thread::scope(|scope| {
            for thread in 1..=8_u32 {
                let (bitmap, owners) = (&bitmap, &owners);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread.into());
                    let mut mine = Vec::new();
                    for _ in 0..100_000 {
                        if random.bool() || mine.is_empty() {
                            if let Some(place) = bitmap.acquire(Pick::Random(random.u64(..))) {
                                assert_eq!(owners[place].swap(thread, Ordering::Relaxed), 0);
                                mine.push(place);
                            }
                        } else {
                            let place = mine.swap_remove(random.usize(..mine.len()));
                            assert_eq!(owners[place].swap(0, Ordering::Relaxed), thread);
                            bitmap.release(place);
                        }
                    }
                });
            }
        });
        assert!(bitmap.summary_is_true());
        let left = owners.iter().filter(|owner| owner.load(Ordering::Relaxed) != 0).count();
        assert_eq!(std::iter::from_fn(|| bitmap.acquire(random())).count(), 1000 - left);
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::{sync::Arc, thread};

    use super::*;

    /// One stripe that is full but for the bits of `free` in its first word.
    fn stripe(free: u64) -> Arc<Bitmap> {
        Arc::new(Bitmap::preset(WORDS, |word| if word == 0 { !free } else { u64::MAX }))
    }

    /// Nobody is at work any more: what is free is found, and the summary hides nothing.
    fn settled(bitmap: &Bitmap, free: usize) {
        assert!(bitmap.summary_is_true());
        assert_eq!(WORDS * 64 - bitmap.count(), free);
        for _ in 0..free {
            assert!(bitmap.acquire(Pick::Lowest).is_some());
        }
    }

    #[test]
    fn loom_one_slot_has_one_holder() {
        loom::model(|| {
            let bitmap = stripe(1);
            let other = Arc::clone(&bitmap);
            let thread = thread::spawn(move || other.acquire(Pick::Lowest).is_some());
            let claimed = bitmap.claim(0);
            assert!(claimed ^ thread.join().unwrap());
            settled(&bitmap, 0);
        });
    }

    #[test]
    fn loom_two_acquirers_never_share() {
        loom::model(|| {
            let bitmap = stripe(0b11);
            let other = Arc::clone(&bitmap);
            let thread = thread::spawn(move || other.acquire(Pick::Lowest));
            let (mine, theirs) = (bitmap.acquire(Pick::Lowest), thread.join().unwrap());
            assert!(mine.is_some() && theirs.is_some() && mine != theirs);
            settled(&bitmap, 0);
        });
    }

    #[test]
    fn loom_what_is_released_is_found_again() {
        loom::model(|| {
            let bitmap = stripe(0);
            assert_eq!(bitmap.acquire(Pick::Lowest), None, "marks the stripe as full");
            let other = Arc::clone(&bitmap);
            let thread = thread::spawn(move || other.release(3));
            let got = bitmap.acquire(Pick::Lowest);
            thread.join().unwrap();
            assert!(got.is_none() || got == Some(3));
            settled(&bitmap, usize::from(got.is_none()));
        });
    }

    #[test]
    fn loom_a_release_undoes_a_mark_that_comes_late() {
        loom::model(|| {
            let bitmap = stripe(1);
            let other = Arc::clone(&bitmap);
            // Takes the last bit and marks the stripe, while another bit is given back.
            let thread = thread::spawn(move || other.claim(0));
            bitmap.release(9);
            assert!(thread.join().unwrap());
            settled(&bitmap, 1);
        });
    }

    #[test]
    fn loom_releases_of_one_word_leave_no_mark() {
        let mut model = loom::model::Builder::new();
        // Three threads in every order are too many; with three preemptions, the known races show.
        model.preemption_bound = Some(3);
        model.check(|| {
            let bitmap = stripe(1);
            let other = Arc::clone(&bitmap);
            let third = Arc::clone(&bitmap);
            let one = thread::spawn(move || other.claim(0));
            let two = thread::spawn(move || third.release(9));
            bitmap.release(10);
            assert!(one.join().unwrap());
            two.join().unwrap();
            settled(&bitmap, 2);
        });
    }
}
