//! Port sets a second: by how full the pool is, how large, and how many threads allocate.
//!
//! Beside each stands what no allocator can be faster than: one atomic instruction that sets a bit and one that clears
//! it, at the same random places of as much memory, in the same run.

use std::{
    hint::black_box,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use benches::{
    is_quick,
    population::spec,
    random::Random,
    timing::{timed, together},
};
use criterion::{BenchmarkId, Criterion, Throughput};
use portlease::lease::pool::{Pool, Slot};

/// Of how many slots one is free; 1 is an empty pool.
const FILLS: [(&str, u32); 6] =
    [("0", 1), ("50", 2), ("90", 10), ("99", 100), ("99.9", 1000), ("99.99", 10_000)];

/// Addresses, of 64 port sets each.
const POOLS: [(&str, u32); 3] = [("64k", 1 << 10), ("1M", 1 << 14), ("16M", 1 << 18)];

/// Slots that are given back and taken anew, in random order.
const TURNOVER: usize = 4096;

/// A pool that fills up more and more.
struct Filling {
    pool: Pool,
    held: Vec<Slot>,
    random: Random,
}

impl Filling {
    fn new(addresses: u32) -> Filling {
        let pool = Pool::new(&spec(addresses)).expect("the pool has a shape");
        Filling { pool, held: Vec::new(), random: Random(1) }
    }

    /// Takes slots until one in `free_share` is left.
    fn fill(&mut self, free_share: u32) {
        let usable = self.pool.usable();
        let held = usable - (usable / free_share).max(1);
        while self.held.len() < held as usize {
            self.held.push(self.pool.acquire(self.random.pick()).expect("a free slot"));
        }
    }

    /// Some of the slots that are held.
    fn sample(&mut self) -> Vec<Slot> {
        let count = self.held.len().min(TURNOVER);
        for place in 0..count {
            let other = place + self.random.below(self.held.len() - place);
            self.held.swap(place, other);
        }
        self.held.drain(..count).collect()
    }
}

/// Takes a slot and gives it back.
fn pairs(pool: &Pool, count: u64, random: &mut Random) {
    for _ in 0..count {
        if let Some(slot) = pool.acquire(random.pick()) {
            pool.release(black_box(slot));
        }
    }
}

/// Gives back one of these slots and takes another.
fn turnover(pool: &Pool, count: u64, held: &mut [Slot], random: &mut Random) {
    for _ in 0..count {
        let place = random.below(held.len());
        pool.release(held[place]);
        if let Some(slot) = pool.acquire(random.pick()) {
            held[place] = slot;
        }
    }
}

/// As much memory as the bits of a pool.
struct Bare(Box<[AtomicU64]>);

impl Bare {
    fn new(addresses: u32) -> Bare {
        Bare((0..addresses).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(&self, random: &mut Random) -> (usize, u64) {
        let draw = random.draw();
        let word = usize::try_from(((draw >> 32) * self.0.len() as u64) >> 32).unwrap_or(0);
        (word, 1 << (draw % 64))
    }

    /// Sets a bit and clears it.
    fn pairs(&self, count: u64, random: &mut Random) {
        for _ in 0..count {
            let (word, bit) = self.place(random);
            self.0[word].fetch_or(bit, Ordering::AcqRel);
            self.0[black_box(word)].fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Clears one of these bits and sets another.
    fn turnover(&self, count: u64, held: &mut [(usize, u64)], random: &mut Random) {
        for _ in 0..count {
            let at = random.below(held.len());
            let (word, bit) = held[at];
            self.0[word].fetch_and(!bit, Ordering::AcqRel);
            let (word, bit) = self.place(random);
            self.0[word].fetch_or(bit, Ordering::AcqRel);
            held[at] = (word, bit);
        }
    }
}

pub(crate) fn by_fill(c: &mut Criterion) {
    for (slots, addresses) in POOLS {
        if is_quick() && slots == "64k" {
            continue;
        }
        let mut group = c.benchmark_group(format!("allocation/{slots}"));
        group.throughput(Throughput::Elements(1));
        let bare = OnceLock::new();
        let bare = || bare.get_or_init(|| Bare::new(addresses));
        group.bench_function("pair/bare", |b| {
            let mut random = Random(2);
            b.iter_custom(|count| timed(|| bare().pairs(count, &mut random)));
        });
        group.bench_function("turnover/bare", |b| {
            let mut random = Random(3);
            let mut held: Vec<_> = (0..TURNOVER).map(|_| bare().place(&mut random)).collect();
            b.iter_custom(|count| timed(|| bare().turnover(count, &mut held, &mut random)));
        });
        let mut filling = Filling::new(addresses);
        for (fill, free_share) in FILLS {
            group.bench_function(BenchmarkId::new("pair", fill), |b| {
                filling.fill(free_share);
                let mut random = Random(2);
                b.iter_custom(|count| timed(|| pairs(&filling.pool, count, &mut random)));
            });
            if free_share == 1 {
                continue;
            }
            group.bench_function(BenchmarkId::new("turnover", fill), |b| {
                filling.fill(free_share);
                let (mut held, mut random) = (filling.sample(), Random(3));
                b.iter_custom(|count| {
                    timed(|| turnover(&filling.pool, count, &mut held, &mut random))
                });
                filling.held.append(&mut held);
            });
        }
        group.bench_function("refuse/100", |b| {
            let mut random = Random(4);
            filling.fill(1 << 31);
            let last = filling.pool.acquire(random.pick());
            b.iter(|| black_box(filling.pool.acquire(random.pick())));
            if let Some(slot) = last {
                filling.pool.release(slot);
            }
        });
        group.finish();
    }
}

pub(crate) fn by_threads(c: &mut Criterion) {
    let (slots, addresses) = POOLS[1];
    let mut group = c.benchmark_group(format!("allocation/{slots} by threads"));
    let bare = OnceLock::new();
    let bare = || bare.get_or_init(|| Bare::new(addresses));
    let seed = |thread: usize| Random(thread as u64 + 1);
    for threads in [1, 2] {
        group.throughput(Throughput::Elements(threads as u64));
        group.bench_function(BenchmarkId::new("pair/bare", threads), |b| {
            b.iter_custom(|count| {
                together(0..threads, |thread, _| timed(|| bare().pairs(count, &mut seed(thread))))
            });
        });
    }
    let mut filling = Filling::new(addresses);
    for (fill, free_share) in FILLS {
        for threads in [1, 2] {
            group.throughput(Throughput::Elements(threads as u64));
            group.bench_function(BenchmarkId::new(format!("pair/{fill}"), threads), |b| {
                filling.fill(free_share);
                b.iter_custom(|count| {
                    together(0..threads, |thread, _| {
                        timed(|| pairs(&filling.pool, count, &mut seed(thread)))
                    })
                });
            });
        }
    }
    group.finish();
}
