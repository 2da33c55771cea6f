//! A bounded queue with one thread at each end, for values of a fixed number of words.
//!
//! Neither end ever waits for the other in the middle of an operation. That matters where the journal interrupts a
//! worker on the worker's own core, in a class that goes first: a queue whose taker spins until a half-made push is
//! finished would spin there for good, since the pusher cannot run.
//!
//! Words are atomic and cost no more than plain ones; what orders them are the two positions.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering};

/// A queue of values of `WORDS` words. One thread may push and one may take; if more did, values would be lost or
/// mixed, but nothing worse.
#[derive(Debug)]
pub(super) struct Queue<const WORDS: usize> {
    slots: Box<[[AtomicU64; WORDS]]>,
    capacity: usize,
    /// Values that were ever pushed; written by the pusher.
    pushed: CachePadded<AtomicU64>,
    /// Values that were ever taken; written by the taker.
    taken: CachePadded<AtomicU64>,
}

impl<const WORDS: usize> Queue<WORDS> {
    /// Room for `capacity` values, all of it taken now.
    pub(super) fn new(capacity: usize) -> Self {
        let slot = |_| std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            slots: (0..capacity.next_power_of_two()).map(slot).collect(),
            capacity,
            pushed: CachePadded::new(AtomicU64::new(0)),
            taken: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// The most values that it holds.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Values in it. Exact for the pusher's and the taker's own purpose: the other end only makes more room, or more
    /// values.
    pub(super) fn len(&self) -> usize {
        let taken = self.taken.load(Ordering::Acquire);
        let pushed = self.pushed.load(Ordering::Acquire);
        usize::try_from(pushed.saturating_sub(taken)).unwrap_or(usize::MAX)
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, position: u64) -> Option<&[AtomicU64; WORDS]> {
        // The number of slots is a power of two, so the low bits of a position are enough.
        let mask = self.slots.len().wrapping_sub(1);
        self.slots.get(usize::try_from(position & mask as u64).unwrap_or(usize::MAX))
    }

    /// The pusher: adds a value; false if there is no room.
    #[must_use]
    pub(super) fn push(&self, value: &[u64; WORDS]) -> bool {
        let at = self.pushed.load(Ordering::Relaxed);
        // Acquire: what the taker has read from the slot is read before it is written again.
        let held = at.wrapping_sub(self.taken.load(Ordering::Acquire));
        if held >= self.capacity as u64 {
            return false;
        }
        let Some(slot) = self.slot(at) else { return false };
        for (word, &value) in slot.iter().zip(value) {
            word.store(value, Ordering::Relaxed);
        }
        self.pushed.store(at.wrapping_add(1), Ordering::Release);
        true
    }

    /// The taker: hands up to `limit` values to `each`, the oldest first, and says how many.
    pub(super) fn take(&self, limit: usize, mut each: impl FnMut([u64; WORDS])) -> usize {
        let at = self.taken.load(Ordering::Relaxed);
        // Acquire: the words of these values were written before.
        let waiting = self.pushed.load(Ordering::Acquire).wrapping_sub(at);
        let count = waiting.min(limit as u64);
        for position in at..at.wrapping_add(count) {
            if let Some(slot) = self.slot(position) {
                each(slot.each_ref().map(|word| word.load(Ordering::Relaxed)));
            }
        }
        if count > 0 {
            self.taken.store(at.wrapping_add(count), Ordering::Release);
        }
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn taken(queue: &Queue<2>, limit: usize) -> Vec<[u64; 2]> {
        let mut values = Vec::new();
        let count = queue.take(limit, |value| values.push(value));
        assert_eq!(count, values.len());
        values
    }

    #[test]
    fn it_holds_its_capacity_and_no_more_round_after_round() {
        for capacity in [1, 2, 3, 5] {
            let queue = Queue::<2>::new(capacity);
            let mut next = 0;
            for _ in 0..20 {
                let first = next;
                for _ in 0..capacity {
                    assert!(queue.push(&[next, !next]));
                    next += 1;
                }
                assert!(!queue.push(&[next, !next]), "full");
                assert_eq!(queue.len(), capacity);
                let expected: Vec<_> = (first..next).map(|value| [value, !value]).collect();
                assert_eq!(taken(&queue, capacity + 1), expected);
                assert!(queue.is_empty());
            }
        }
    }

    #[test]
    fn no_more_is_taken_than_is_asked_for() {
        let queue = Queue::<2>::new(4);
        assert!(taken(&queue, 9).is_empty());
        for value in 1..=3 {
            assert!(queue.push(&[value, 0]));
        }
        assert_eq!(taken(&queue, 2), [[1, 0], [2, 0]]);
        assert!(taken(&queue, 0).is_empty());
        assert_eq!((queue.len(), queue.capacity()), (1, 4));
        assert_eq!(taken(&queue, 2), [[3, 0]]);
    }

    #[test]
    fn two_threads_see_every_value_once_and_whole() {
        const VALUES: u64 = 20_000;
        let queue = Queue::<2>::new(8);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for value in 0..VALUES {
                    while !queue.push(&[value, !value]) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0;
            while next < VALUES {
                queue.take(3, |value| {
                    assert_eq!(value, [next, !next]);
                    next += 1;
                });
                std::thread::yield_now();
            }
        });
        assert!(queue.is_empty());
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::sync::Arc;

    use super::*;

    /// Three values through a queue of two, whose slots are used again, arrive whole and in order.
    #[test]
    fn loom_values_arrive_whole_and_in_order() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let queue = Arc::new(Queue::<2>::new(2));
            let pusher = {
                let queue = queue.clone();
                loom::thread::spawn(move || {
                    for value in 1..=3 {
                        while !queue.push(&[value, !value]) {
                            loom::thread::yield_now();
                        }
                    }
                })
            };
            let mut next = 1;
            while next <= 3 {
                let count = queue.take(2, |value| {
                    assert_eq!(value, [next, !next]);
                    next += 1;
                });
                if count == 0 {
                    loom::thread::yield_now();
                }
            }
            pusher.join().unwrap();
        });
    }
}
