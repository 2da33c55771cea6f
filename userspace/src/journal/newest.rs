//! The journal's own knowledge of what is live: for each tuple the greatest stamp, and the batch that holds it.
//!
//! One of these is kept for each lease, so it is small: tables of 20 octets a tuple, three tuples to a cache line, so
//! that almost every tuple is found, or found to be unknown, by looking at one or two lines. A table is made as large
//! as it is expected to become, before anything is noted: no commit waits for memory. One that becomes fuller grows
//! alone, which takes a tenth of a millisecond.

use crate::{
    lease::{
        record::Record,
        rules::{Rule, holds},
    },
    memory::prefetch,
};

/// Records that are approached together: while one is noted, the next are on their way from memory.
const GROUP: usize = 32;

/// Tuples that a table has when there are as many as were expected.
const TUPLES_PER_TABLE: usize = 4096;

/// The most tables.
const TABLES_MAX: usize = 1 << 14;

/// Tables for fewer tuples are made by one thread sooner than by two.
const WORTH_A_THREAD: usize = 500_000;

/// Cache lines by which a table grows at least.
const GROWTH_MIN: usize = 4;

/// What is known of a tuple. Halves of integers, so that nothing is lost to alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    tuple: [u32; 2],
    stamp: [u32; 2],
    /// See [`label`]; 0 where there is no tuple.
    batch: u32,
}

impl Entry {
    fn new(record: &Record, batch: u32) -> Self {
        Self { tuple: halves(record.tuple().packed()), stamp: halves(record.stamp().0), batch }
    }

    fn stamp(&self) -> u64 {
        whole(self.stamp)
    }

    /// The line where it would like to be in a table of so many.
    fn home(&self, lines: usize) -> usize {
        reduce(hash(whole(self.tuple)) & 0xffff_ffff, lines)
    }
}

/// Entries of a line.
const LINE_ENTRIES: usize = 3;

/// A cache line of entries.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([Entry; LINE_ENTRIES]);

const _: () = assert!(size_of::<Line>() == 64);

/// Entries in open addressing with linear probing: none is farther from the begin of its home than the places between
/// are full.
#[derive(Clone, Debug, Default)]
struct Table {
    lines: Vec<Line>,
    used: usize,
}

impl Table {
    fn places(&self) -> usize {
        self.lines.len() * LINE_ENTRIES
    }

    fn at(&self, place: usize) -> &Entry {
        &self.lines[place / LINE_ENTRIES].0[place % LINE_ENTRIES]
    }

    fn at_mut(&mut self, place: usize) -> &mut Entry {
        &mut self.lines[place / LINE_ENTRIES].0[place % LINE_ENTRIES]
    }

    /// The place of this entry's tuple, or the free one where it belongs. `None`: there are no places.
    fn find(&self, wanted: &Entry) -> Option<usize> {
        let lines = self.lines.len();
        let mut number = wanted.home(lines);
        // There is always a free place.
        while let Some(Line(entries)) = self.lines.get(number) {
            let here = |entry: &Entry| entry.batch == 0 || entry.tuple == wanted.tuple;
            if let Some(at) = entries.iter().position(here) {
                return Some(number * LINE_ENTRIES + at);
            }
            number = next(number, lines);
        }
        None
    }

    /// The place of this entry's tuple, if it is known.
    fn find_known(&self, wanted: &Entry) -> Option<usize> {
        self.find(wanted).filter(|&place| self.at(place).batch != 0)
    }

    /// Adds an entry whose tuple is unknown.
    fn insert(&mut self, entry: Entry) {
        // At most seven eighths are full: a search ends at a free place.
        if (self.used + 1) * 8 > self.places() * 7 {
            self.grow();
        }
        if let Some(place) = self.find(&entry) {
            *self.at_mut(place) = entry;
            self.used += 1;
        }
    }

    fn grow(&mut self) {
        let lines = self.lines.len() + (self.lines.len() / 8).max(GROWTH_MIN);
        let old = std::mem::replace(&mut self.lines, vec![Line::default(); lines]);
        for entry in old.iter().flat_map(|line| line.0).filter(|entry| entry.batch != 0) {
            if let Some(place) = self.find(&entry) {
                *self.at_mut(place) = entry;
            }
        }
    }

    /// Removes the entry at a place, and moves those behind it up that were kept from their homes.
    fn remove(&mut self, mut hole: usize) {
        let places = self.places();
        let distance = |from: usize, to: usize| (to + places - from) % places;
        let mut at = next(hole, places);
        loop {
            let entry = *self.at(at);
            if entry.batch == 0 {
                break;
            }
            let begin = entry.home(self.lines.len()) * LINE_ENTRIES;
            if distance(begin, at) >= distance(hole, at) {
                *self.at_mut(hole) = entry;
                hole = at;
            }
            at = next(at, places);
        }
        *self.at_mut(hole) = Entry::default();
        self.used -= 1;
    }
}

fn next(at: usize, count: usize) -> usize {
    if at + 1 == count { 0 } else { at + 1 }
}

/// The newest record of each tuple.
#[derive(Debug)]
pub(super) struct Newest {
    tables: Box<[Table]>,
    tuples: usize,
}

impl Default for Newest {
    fn default() -> Self {
        Self::expecting(0)
    }
}

impl Newest {
    /// Fast for about so many tuples, and right for any number.
    pub(super) fn expecting(tuples: usize) -> Self {
        let tables = tuples.div_ceil(TUPLES_PER_TABLE).clamp(1, TABLES_MAX);
        let lines = tuples.div_ceil(tables * LINE_ENTRIES);
        let mut tables: Box<[Table]> = vec![Table::default(); tables].into();
        let make = |tables: &mut [Table]| {
            for table in tables {
                table.lines = vec![Line::default(); lines];
            }
        };
        if tuples < WORTH_A_THREAD {
            make(&mut tables);
        } else {
            // Most of it is the kernel's work, which clears each page.
            let (one, other) = tables.split_at_mut(tables.len() / 2);
            let helped = std::thread::scope(|scope| {
                let helper = std::thread::Builder::new().spawn_scoped(scope, || make(one));
                make(other);
                helper.is_ok()
            });
            if !helped {
                make(one);
            }
        }
        Self { tables, tuples: 0 }
    }

    fn table(&self, entry: &Entry) -> usize {
        reduce(hash(whole(entry.tuple)) >> 32, self.tables.len())
    }

    /// Takes notice of a record that batch `sequence` holds; in any order. Of equal stamps the later batch has the
    /// copy that counts.
    pub(super) fn note(&mut self, record: &Record, sequence: u64) {
        self.note_entry(Entry::new(record, label(sequence)));
    }

    fn note_entry(&mut self, new: Entry) {
        let number = self.table(&new);
        let table = &mut self.tables[number];
        if let Some(known) = table.find_known(&new).map(|place| table.at_mut(place)) {
            let counts = new.stamp() > known.stamp()
                || new.stamp() == known.stamp() && is_later(new.batch, known.batch);
            if counts || !holds(Rule::GreatestStampIsCopied) {
                *known = new;
            }
        } else {
            table.insert(new);
            self.tuples += 1;
        }
    }

    /// Takes notice of all records of a batch.
    pub(super) fn note_all(&mut self, records: &[Record], sequence: u64) {
        let batch = label(sequence);
        for group in records.chunks(GROUP) {
            for record in group {
                let entry = Entry::new(record, batch);
                let lines = &self.tables[self.table(&entry)].lines;
                if let Some(home) = lines.get(entry.home(lines.len())) {
                    prefetch(home);
                }
            }
            for record in group {
                self.note_entry(Entry::new(record, batch));
            }
        }
    }

    /// Whether this is the copy that counts of its tuple's newest record.
    pub(super) fn is_newest(&self, record: &Record, sequence: u64) -> bool {
        let wanted = Entry::new(record, label(sequence));
        let table = &self.tables[self.table(&wanted)];
        table.find_known(&wanted).is_some_and(|place| *table.at(place) == wanted)
    }

    /// Forgets a tuple.
    pub(super) fn forget(&mut self, record: &Record) {
        let wanted = Entry::new(record, 0);
        let number = self.table(&wanted);
        let table = &mut self.tables[number];
        if let Some(place) = table.find_known(&wanted) {
            table.remove(place);
            self.tuples -= 1;
        }
    }

    /// Tuples known.
    pub(super) fn len(&self) -> usize {
        self.tuples
    }
}

/// Labels of batches: numbers that are never 0.
const LABELS: u32 = u32::MAX;

/// A batch's number in 32 bits: no ring holds half as many batches.
fn label(sequence: u64) -> u32 {
    u32::try_from(sequence % u64::from(LABELS)).unwrap_or(0) + 1
}

/// Whether the batch of one label came after the other's.
fn is_later(one: u32, other: u32) -> bool {
    let ahead = (u64::from(one) + u64::from(LABELS) - u64::from(other)) % u64::from(LABELS);
    (1..u64::from(LABELS / 2)).contains(&ahead)
}

#[expect(clippy::cast_possible_truncation, reason = "cut into halves")]
fn halves(integer: u64) -> [u32; 2] {
    [(integer >> 32) as u32, integer as u32]
}

fn whole([high, low]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Maps a number of 32 bits to one below `count`.
fn reduce(number: u64, count: usize) -> usize {
    usize::try_from((number * count as u64) >> 32).unwrap_or(0)
}

/// Tuples come from the configuration, not from clients, so mixing is enough and no key is needed.
#[expect(clippy::cast_possible_truncation, reason = "the two halves are folded")]
fn hash(tuple: u64) -> u64 {
    const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(tuple ^ 0x2545_f491_4f6c_dd1d) * ODD;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::record;

    #[test]
    fn the_greatest_stamp_counts_and_of_equal_ones_the_later_copy() {
        let mut newest = Newest::default();
        newest.note(&record(1, 5), 1);
        newest.note(&record(1, 4), 2);
        assert!(newest.is_newest(&record(1, 5), 1));
        assert!(!newest.is_newest(&record(1, 4), 2));
        newest.note(&record(1, 5), 3);
        assert!(newest.is_newest(&record(1, 5), 3));
        assert!(!newest.is_newest(&record(1, 5), 1), "copied since");
        newest.note(&record(2, 1), 3);
        assert_eq!(newest.len(), 2);
        newest.forget(&record(1, 5));
        assert_eq!(newest.len(), 1);
        assert!(!newest.is_newest(&record(1, 5), 3));
    }

    #[test]
    fn batches_may_come_in_any_order() {
        let mut newest = Newest::default();
        newest.note(&record(1, 5), 7);
        newest.note(&record(1, 5), 3);
        assert!(newest.is_newest(&record(1, 5), 7));
        let wrapped = u64::from(LABELS) * 3 + 1;
        newest.note(&record(2, 5), wrapped - 2);
        newest.note(&record(2, 5), wrapped);
        newest.note(&record(2, 5), wrapped - 1);
        assert!(newest.is_newest(&record(2, 5), wrapped));
    }

    #[test]
    fn what_is_known_is_what_a_map_would_know() {
        let mut random = fastrand::Rng::with_seed(5);
        for expected in [0, 4000] {
            let mut newest = Newest::expecting(expected);
            let mut known = std::collections::HashMap::new();
            for sequence in 1..40_000_u64 {
                let slot = random.u32(..3000);
                let stamp = random.u64(1..50);
                let last = known.get(&slot).copied();
                if random.u8(..3) == 0 {
                    newest.forget(&record(slot, stamp));
                    known.remove(&slot);
                } else {
                    newest.note(&record(slot, stamp), sequence);
                    if last.is_none_or(|(last, _)| stamp >= last) {
                        known.insert(slot, (stamp, sequence));
                    }
                }
                assert_eq!(newest.len(), known.len());
            }
            for slot in 0..3000 {
                let is = known.get(&slot);
                let (stamp, sequence) = is.copied().unwrap_or((1, 1));
                assert_eq!(newest.is_newest(&record(slot, stamp), sequence), is.is_some());
            }
        }
    }

    #[test]
    fn a_tuple_takes_less_than_30_octets_however_many_there_are() {
        let mut newest = Newest::expecting(100_000);
        for slot in 0..300_000 {
            newest.note(&record(slot, 1), 1);
            if slot >= 80_000 && slot % 5_000 == 0 {
                let lines: usize = newest.tables.iter().map(|table| table.lines.len()).sum();
                let octets = lines * size_of::<Line>() + newest.tables.len() * size_of::<Table>();
                assert!(octets < 30 * newest.len(), "{octets} for {slot}");
            }
        }
    }
}
