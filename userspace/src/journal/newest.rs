//! The journal's own knowledge of what is live: for each tuple the greatest stamp, and the batch that holds it.

use hashbrown::HashTable;

use crate::lease::{
    record::Record,
    rules::{Rule, holds},
};

#[derive(Clone, Copy, Debug)]
struct Entry {
    tuple: u64,
    stamp: u64,
    /// The low half of the batch's sequence number: no ring holds 2^32 batches.
    batch: u32,
}

/// The newest record of each tuple, 24 octets each.
#[derive(Debug, Default)]
pub(super) struct Newest(HashTable<Entry>);

impl Newest {
    /// Room for `tuples` without another allocation.
    pub(super) fn with_capacity(tuples: usize) -> Self {
        Self(HashTable::with_capacity(tuples))
    }

    /// Takes notice of a record that batch `sequence` holds. Of equal stamps the later batch has the copy that
    /// counts, so batches must be shown in their order.
    pub(super) fn note(&mut self, record: &Record, sequence: u64) {
        let new = Entry {
            tuple: record.tuple().packed(),
            stamp: record.stamp().0,
            batch: low_half(sequence),
        };
        let place = self.0.entry(
            hash(new.tuple),
            |entry| entry.tuple == new.tuple,
            |entry| hash(entry.tuple),
        );
        match place {
            hashbrown::hash_table::Entry::Occupied(mut old) => {
                if new.stamp >= old.get().stamp || !holds(Rule::GreatestStampIsCopied) {
                    *old.get_mut() = new;
                }
            }
            hashbrown::hash_table::Entry::Vacant(none) => {
                none.insert(new);
            }
        }
    }

    /// Whether this is the copy that counts of its tuple's newest record.
    pub(super) fn is_newest(&self, record: &Record, sequence: u64) -> bool {
        let tuple = record.tuple().packed();
        self.0.find(hash(tuple), |entry| entry.tuple == tuple).is_some_and(|entry| {
            entry.stamp == record.stamp().0 && entry.batch == low_half(sequence)
        })
    }

    /// Forgets a tuple.
    pub(super) fn forget(&mut self, record: &Record) {
        let tuple = record.tuple().packed();
        if let Ok(entry) = self.0.find_entry(hash(tuple), |entry| entry.tuple == tuple) {
            entry.remove();
        }
    }

    /// Tuples known.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low_half(sequence: u64) -> u32 {
    sequence as u32
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
}
