//! A bit a slot, set while somebody holds it. Lock-free.
//!
//! Shards of 64 stripes of 8 words: a stripe is a cache line. A shard's summary has a mark for each of its stripes that
//! is full, and another one has a mark for each full shard, so that finding one of a few free bits costs hardly more
//! than finding one of many. Whoever searches a stripe in vain marks it; who fills it up does not, so that a bit that
//! is taken and given back soon costs two atomic instructions.
//!
//! Marks and words say nothing to a branch predictor: the search follows them from shard to bit by arithmetic, in the
//! same way whether much is free or little.

use crate::{
    memory::prefetch,
    sync::{AtomicU64, Ordering, model_fence},
};

/// Words of a stripe: a cache line. A model checker tries every order of accesses, and fewer words say as much.
const WORDS: usize = if cfg!(feature = "loom") { 2 } else { 8 };

/// Stripes of a shard: the bits of its summary.
const STRIPES: usize = 64;

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
    #[inline]
    fn place(self, count: usize) -> usize {
        match self {
            Pick::Random(random) => reduce(random >> 32, count),
            Pick::Lowest => 0,
        }
    }

    /// One of the bits that are set in `free`, which has some: the first one from an unforeseeable place on.
    #[inline]
    fn bit(self, free: u64) -> usize {
        match self {
            Pick::Random(random) => first_from(free, (random % 64) as usize),
            Pick::Lowest => first_from(free, 0),
        }
    }
}

/// The first bit that is set in `bits`, from bit `start` on and around; `start` if none is.
#[inline]
fn first_from(bits: u64, start: usize) -> usize {
    let around = bits.rotate_right(u32::try_from(start).unwrap_or(0));
    (around.trailing_zeros() as usize + start) % 64
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

/// A shard's marks: a bit for each stripe, set if it is full or does not exist. A hint: it may be clear for a full
/// stripe, but once nobody is at work it is never set for one that has room. On a line of its own, so that marks of
/// one shard do not disturb those of another.
#[repr(align(64))]
struct Summary(AtomicU64);

/// The bits.
pub(super) struct Bitmap {
    stripes: Box<[Stripe]>,
    /// One for each shard.
    summaries: Box<[Summary]>,
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
        let stripes: Box<[_]> = (0..words.div_ceil(WORDS)).map(stripe).collect();
        let summary = |stripes: &[Stripe]| Summary(AtomicU64::new(beyond(stripes.len())));
        let summaries: Box<[_]> = stripes.chunks(STRIPES).map(summary).collect();
        let full = summaries.chunks(64).map(|shards| AtomicU64::new(beyond(shards.len())));
        Bitmap { full: full.collect(), summaries, stripes, words }
    }

    /// Asks for the memory of the bit that `pick` leads to as long as there is room.
    #[inline]
    pub(super) fn approach(&self, pick: Pick) {
        prefetch(self.word(pick.place(self.words)));
    }

    /// Sets a bit that is clear and says which; `None` if all are set, or just were.
    #[inline]
    pub(super) fn acquire(&self, pick: Pick) -> Option<usize> {
        let word = pick.place(self.words);
        // As long as there is room, this is where the marks will lead to.
        self.approach(pick);
        // Every turn that fails marks a stripe, or is another's success.
        loop {
            let stripe = self.nearest_open(word / WORDS)?;
            let found = self.acquire_in(stripe, word % WORDS, pick);
            if found.is_some() {
                return found;
            }
        }
    }

    /// The first stripe from `home` on that has room, as far as marks say. `None`: all are full.
    #[inline]
    fn nearest_open(&self, home: usize) -> Option<usize> {
        loop {
            let shard = self.nearest_shard(home / STRIPES)?;
            let open = !self.summaries[shard].0.load(Ordering::Relaxed);
            if open != 0 {
                return Some(shard * STRIPES + first_from(open, home % STRIPES));
            }
            // Whoever has marked its last stripe may not have come to the shard's own mark.
            self.mark_shard(shard);
        }
    }

    /// The first shard from `home` on that is not marked.
    #[inline]
    fn nearest_shard(&self, home: usize) -> Option<usize> {
        let first_in = |group: usize| {
            let open = !self.full[group].load(Ordering::Relaxed);
            (open != 0).then(|| group * 64 + first_from(open, home % 64))
        };
        let group = home / 64;
        let others = || (group + 1..self.full.len()).chain(0..group).find_map(first_in);
        first_in(group).or_else(others)
    }

    /// Sets a bit in this stripe, in the first word with room from word `start` on; marks the stripe if it has none.
    #[inline]
    fn acquire_in(&self, stripe: usize, start: usize, pick: Pick) -> Option<usize> {
        let open = self.open(stripe, Ordering::Relaxed);
        let around = (open | open << WORDS) >> start;
        let at = (start + around.trailing_zeros() as usize) % WORDS;
        let found = self.acquire_word(stripe * WORDS + at, u64::MAX, pick);
        if open == 0 && found.is_none() {
            self.mark(stripe);
        }
        found
    }

    /// Sets a bit of `mask` in this word.
    #[inline]
    fn acquire_word(&self, index: usize, mask: u64, pick: Pick) -> Option<usize> {
        let word = self.word(index);
        let mut seen = word.load(Ordering::Relaxed);
        // Every turn that fails is another's success.
        while !seen & mask != 0 {
            let bit = pick.bit(!seen & mask);
            let taken = seen | 1 << bit;
            match word.compare_exchange_weak(seen, taken, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(index * 64 + bit),
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
        (0..words)
            .find_map(|step| self.acquire_word(first / 64 + (start + step) % words, mask, pick))
    }

    /// Sets this bit; false if it was set.
    pub(super) fn claim(&self, place: usize) -> bool {
        let bit = 1 << (place % 64);
        self.word(place / 64).fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Clears this bit, which the caller holds.
    ///
    /// # Panics
    ///
    /// If it is clear: two have held one slot, and nothing that the server would promise now is true.
    #[inline]
    pub(super) fn release(&self, place: usize) {
        let bit = 1 << (place % 64);
        let before = self.word(place / 64).fetch_and(!bit, Ordering::SeqCst);
        assert!(before & bit != 0, "released slot {place}, which nobody held");
        // Only who makes room in a full word can meet a mark.
        if before == u64::MAX {
            let stripe = place / 64 / WORDS;
            model_fence();
            let full = self.summaries[stripe / STRIPES].0.load(Ordering::SeqCst);
            if full >> (stripe % STRIPES) & 1 == 1 {
                self.unmark(stripe);
            }
        }
    }

    /// Whether this bit is set.
    pub(super) fn is_set(&self, place: usize) -> bool {
        self.word(place / 64).load(Ordering::Acquire) >> (place % 64) & 1 == 1
    }

    /// How many bits are set, those beyond the end of the last word included.
    pub(super) fn count(&self) -> usize {
        let words = self.stripes.iter().flat_map(|stripe| stripe.words.iter()).take(self.words);
        words.map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.stripes[index / WORDS].words[index % WORDS]
    }

    /// A bit for each word of this stripe that has room.
    #[inline]
    fn open(&self, stripe: usize, ordering: Ordering) -> u32 {
        let words = (0..).zip(&self.stripes[stripe].words);
        words.fold(0, |open, (at, word)| open | u32::from(word.load(ordering) != u64::MAX) << at)
    }

    /// Marks a stripe as full, and its shard if it was the last one with room.
    ///
    /// Set the mark, look again. Whoever makes room does that before it looks for a mark. All four are sequentially
    /// consistent: whichever side comes second sees what the other has written, so that no mark stays on what has
    /// room. It is the same for both levels: words fill up below the marks of a shard, and those below the mark of the
    /// shard.
    #[cold]
    fn mark(&self, stripe: usize) {
        let (shard, mark) = (stripe / STRIPES, 1 << (stripe % STRIPES));
        let summary = &self.summaries[shard].0;
        let before = summary.fetch_or(mark, Ordering::SeqCst);
        model_fence();
        if self.open(stripe, Ordering::SeqCst) != 0 {
            self.unmark(stripe);
        } else if before | mark == u64::MAX {
            self.mark_shard(shard);
        }
    }

    /// Marks a shard of which all stripes are marked, unless they no longer are.
    #[cold]
    fn mark_shard(&self, shard: usize) {
        let mark = 1 << (shard % 64);
        self.full[shard / 64].fetch_or(mark, Ordering::SeqCst);
        model_fence();
        if self.summaries[shard].0.load(Ordering::SeqCst) != u64::MAX {
            self.full[shard / 64].fetch_and(!mark, Ordering::SeqCst);
        }
    }

    /// Clears the mark of a stripe that has room again, and that of its shard if it was full.
    fn unmark(&self, stripe: usize) {
        let shard = stripe / STRIPES;
        let mark = 1 << (stripe % STRIPES);
        let before = self.summaries[shard].0.fetch_and(!mark, Ordering::SeqCst);
        if before == u64::MAX {
            model_fence();
            let mark = 1 << (shard % 64);
            if self.full[shard / 64].load(Ordering::SeqCst) & mark != 0 {
                self.full[shard / 64].fetch_and(!mark, Ordering::SeqCst);
            }
        }
    }

    /// Whether no mark hides what has room. Holds whenever nobody is at work.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn summary_is_true(&self) -> bool {
        let shards = (0..).zip(self.summaries.iter().zip(self.stripes.chunks(STRIPES)));
        let mut shards = shards.map(|(index, (summary, stripes)): (usize, _)| {
            let full = summary.0.load(Ordering::Acquire);
            let above = self.full[index / 64].load(Ordering::Acquire) >> (index % 64) & 1;
            let mut marked = (0..stripes.len()).filter(|stripe| full >> stripe & 1 == 1);
            (above == 0 || full == u64::MAX)
                && marked.all(|stripe| self.open(index * STRIPES + stripe, Ordering::Acquire) == 0)
        });
        shards.all(|is_true| is_true)
    }
}

/// The marks of what does not exist, where 64 could and `count` do.
fn beyond(count: usize) -> u64 {
    u64::MAX.checked_shl(u32::try_from(count).unwrap_or(64)).unwrap_or(0)
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
    fn the_first_bit_from_a_place_on_is_what_counting_finds() {
        let mut source = fastrand::Rng::with_seed(3);
        let sparse = |source: &mut fastrand::Rng| source.u64(..) & source.u64(..) & source.u64(..);
        for _ in 0..1000 {
            for bits in [source.u64(1..), sparse(&mut source) | 1 << 63, 1, u64::MAX, 1 << 63] {
                for start in 0..64 {
                    let mut around = (start..64).chain(0..start);
                    let expected = around.find(|bit| bits >> bit & 1 == 1);
                    assert_eq!(Some(first_from(bits, start)), expected, "{bits:x} from {start}");
                }
            }
        }
        assert_eq!(first_from(0, 17), 17);
    }

    #[test]
    fn every_bit_is_as_likely_to_be_where_the_search_begins() {
        // 252 of 512 bits are free, unevenly. Chi-square with 251 degrees of freedom: above 370 is 1 in 10⁶.
        let bitmap = Bitmap::new(512, |place| place % 64 >= 21 + place / 64 * 3);
        let free: Vec<usize> = (0..512).filter(|&place| !bitmap.is_set(place)).collect();
        assert_eq!(free.len(), 252);
        // The first one of a word is found from all that are taken behind its last one.
        let starts = |place: usize| if place.is_multiple_of(64) { 44 - place / 64 * 3 } else { 1 };
        let mut hits = vec![0.0_f64; 512];
        let mut source = fastrand::Rng::with_seed(11);
        for _ in 0..200_000 {
            let place = bitmap.acquire(Pick::Random(source.u64(..))).unwrap();
            hits[place] += 1.0;
            bitmap.release(place);
        }
        let chi = free.iter().map(|&place| {
            let expected = f64::from(u32::try_from(starts(place)).unwrap()) * 200_000.0 / 512.0;
            (hits[place] - expected).powi(2) / expected
        });
        let chi: f64 = chi.sum();
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
            let bitmap = stripe(0);
            let other = Arc::clone(&bitmap);
            // Searches in vain and marks the stripe, while a bit is given back.
            let thread = thread::spawn(move || other.acquire(Pick::Lowest));
            bitmap.release(9);
            let got = thread.join().unwrap();
            settled(&bitmap, usize::from(got.is_none()));
        });
    }

    #[test]
    fn loom_releases_of_one_word_leave_no_mark() {
        let mut model = loom::model::Builder::new();
        // Three threads in every order are too many; with three preemptions, the known races show.
        model.preemption_bound = Some(3);
        model.check(|| {
            let bitmap = stripe(0);
            let other = Arc::clone(&bitmap);
            let third = Arc::clone(&bitmap);
            let one = thread::spawn(move || other.acquire(Pick::Lowest));
            let two = thread::spawn(move || third.release(9));
            bitmap.release(10);
            let got = one.join().unwrap();
            two.join().unwrap();
            settled(&bitmap, 2 - usize::from(got.is_some()));
        });
    }
}
