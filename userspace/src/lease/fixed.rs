//! Rows of a fixed number by a keyed 64-bit hash, in shards that each have a lock of their own.
//!
//! Memory is taken once. Rows are found by linear probing and moved back when one before them goes, so that there
//! are no tombstones and nothing ever has to be made anew. Each lock is a leaf: whoever takes one takes no other
//! after it.

use std::sync::PoisonError;

use crossbeam_utils::CachePadded;

use crate::sync::{Mutex, MutexGuard};

/// The fewest shards: so that workers do not meet in a small table.
const SHARDS_MIN: usize = 16;

/// The most rows of a shard, and the mean number of those that are used when the table is as full as its capacity.
/// Keys are hashes: that one of thousands of shards gets a third more than the mean is 18 standard deviations away.
const ROWS_MAX: usize = 4096;
const FILL: usize = 3072;

/// The fewest rows of a shard: few keys fall unevenly.
const ROWS_MIN: usize = 64;

/// What a table is made of.
pub(super) trait Row: Copy {
    /// A row that is not used; its key is 0.
    const EMPTY: Self;

    /// A keyed hash, not 0 for a row that is used.
    fn key(&self) -> u64;
}

/// A table that has room for as many rows as it was made for.
pub(super) struct FixedTable<R> {
    shards: Box<[CachePadded<Mutex<Rows<R>>>]>,
}

/// The rows of one shard.
pub(super) struct Rows<R> {
    /// A power of two of them, of which one at least is empty.
    places: Box<[R]>,
    used: usize,
    /// Whatever the owner of the table notes of rows that are gone.
    pub(super) latest: u64,
}

impl<R: Row> FixedTable<R> {
    /// An empty table with room for `capacity` rows.
    pub(super) fn with_capacity(capacity: usize) -> FixedTable<R> {
        let shards = capacity.div_ceil(FILL).max(SHARDS_MIN);
        let mean = capacity.div_ceil(shards);
        let rows = (2 * mean).next_power_of_two().clamp(ROWS_MIN, ROWS_MAX);
        let shard = |_| {
            let places = vec![R::EMPTY; rows].into();
            CachePadded::new(Mutex::new(Rows { places, used: 0, latest: 0 }))
        };
        FixedTable { shards: (0..shards).map(shard).collect() }
    }

    /// Locks the shard of `key`.
    pub(super) fn lock(&self, key: u64) -> MutexGuard<'_, Rows<R>> {
        let shard = (u128::from(key) * self.shards.len() as u128) >> 64;
        let shard = &self.shards[usize::try_from(shard).unwrap_or(0)];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Octets that the table takes.
    pub(super) fn octets(&self) -> usize {
        let rows: usize = self.shards.iter().map(|shard| size_of_val(&*locked(shard).places)).sum();
        size_of_val(&*self.shards) + rows
    }

    /// All rows that are used, one shard at a time. Not for the hot path.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn used(&self) -> Vec<R> {
        let used = |shard: &CachePadded<Mutex<Rows<R>>>| -> Vec<R> {
            locked(shard).places.iter().filter(|row| row.key() != 0).copied().collect()
        };
        self.shards.iter().flat_map(used).collect()
    }
}

fn locked<R>(shard: &Mutex<Rows<R>>) -> MutexGuard<'_, Rows<R>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Row> Rows<R> {
    fn home(&self, key: u64) -> usize {
        // The low bits; the high ones have chosen the shard.
        usize::try_from(key & (self.places.len() as u64 - 1)).unwrap_or(0)
    }

    /// Where `key` is, or the empty row where it would go.
    fn place(&self, key: u64) -> usize {
        let mask = self.places.len() - 1;
        let mut place = self.home(key);
        while self.places[place].key() != 0 && self.places[place].key() != key {
            place = (place + 1) & mask;
        }
        place
    }

    /// The row of `key`.
    pub(super) fn find(&mut self, key: u64) -> Option<&mut R> {
        let place = self.place(key);
        Some(&mut self.places[place]).filter(|row| row.key() == key && key != 0)
    }

    /// Puts a row where that of its key is, or in an empty place; false if there is none.
    pub(super) fn put(&mut self, row: R) -> bool {
        let place = self.place(row.key());
        if self.places[place].key() == 0 {
            if self.used + 1 >= self.places.len() {
                return false;
            }
            self.used += 1;
        }
        self.places[place] = row;
        true
    }

    /// Takes the row of `key` out, if there is one.
    pub(super) fn remove(&mut self, key: u64) {
        let mut hole = self.place(key);
        if key == 0 || self.places[hole].key() != key {
            return;
        }
        let mask = self.places.len() - 1;
        let mut place = (hole + 1) & mask;
        while self.places[place].key() != 0 {
            let own = self.home(self.places[place].key());
            // A row may go back to the hole unless its home lies behind it.
            if place.wrapping_sub(own) & mask >= place.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[place];
                hole = place;
            }
            place = (place + 1) & mask;
        }
        self.places[hole] = R::EMPTY;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Pair(u64, u32);

    impl Row for Pair {
        const EMPTY: Pair = Pair(0, 0);

        fn key(&self) -> u64 {
            self.0
        }
    }

    /// Keys that collide: a few homes, at the end of the shard and at its begin.
    fn crowded(random: &mut fastrand::Rng) -> u64 {
        random.u64(1..40) << 32 | [0, 1, 2, 62, 63][random.usize(..5)]
    }

    #[test]
    fn rows_are_found_whatever_came_and_went_before() {
        let table = FixedTable::<Pair>::with_capacity(1);
        let mut random = fastrand::Rng::with_seed(5);
        let mut model = BTreeMap::new();
        for number in 0..50_000 {
            let key = crowded(&mut random);
            let mut rows = table.lock(key);
            if random.bool() {
                let fits = rows.put(Pair(key, number));
                assert_eq!(fits, model.contains_key(&key) || model.len() < ROWS_MIN - 1);
                if fits {
                    model.insert(key, number);
                }
            } else {
                rows.remove(key);
                model.remove(&key);
            }
            let found = crowded(&mut random);
            let expected = model.get(&found).map(|number| Pair(found, *number));
            assert_eq!(rows.find(found).copied(), expected);
            drop(rows);
        }
        assert!(model.len() > 20);
        let mut used = table.used();
        used.sort_unstable_by_key(Row::key);
        assert_eq!(used, model.into_iter().map(|(key, n)| Pair(key, n)).collect::<Vec<_>>());
    }

    #[test]
    fn as_many_random_keys_as_the_capacity_fit_and_take_little_room() {
        let capacity = 200_000;
        let table = FixedTable::<Pair>::with_capacity(capacity);
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..capacity {
            let key = random.u64(1..);
            assert!(table.lock(key).put(Pair(key, 1)));
        }
        assert!(table.octets() / capacity < 24, "{}", table.octets());
    }
}
