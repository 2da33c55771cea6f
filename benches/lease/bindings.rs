//! Clients' leases in the table: by how many there are, and by how many threads look for them.

use std::{cell::LazyCell, hint::black_box, time::Duration};

use benches::{
    BURST, START,
    population::{Population, identity, offer},
    random::Random,
    sizes,
    timing::{timed, together},
};
use criterion::{BenchmarkId, Criterion, Throughput};
use portlease::lease::{key::ClientIdentity, stamp::Now};

const SIZES: [u32; 6] = [1_000, 10_000, 100_000, 1_000_000, 4_000_000, 10_000_000];

/// Does `work` for `count` clients, a burst at a time. The time of it, without that of telling who they are.
fn in_bursts(
    count: u64,
    mut next: impl FnMut() -> u32,
    mut work: impl FnMut(u32, ClientIdentity),
) -> Duration {
    let mut burst = Vec::with_capacity(BURST);
    let mut total = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let clients = left.min(BURST as u64);
        left -= clients;
        burst.clear();
        burst.extend((0..clients).map(|_| next()).map(|client| (client, identity(client))));
        total += timed(|| {
            for &(client, identity) in &burst {
                work(client, identity);
            }
        });
    }
    total
}

pub(crate) fn by_leases(c: &mut Criterion) {
    for size in sizes(&SIZES) {
        let table = LazyCell::new(|| Population::new(size));
        let mut group = c.benchmark_group("bindings");
        group.throughput(Throughput::Elements(1));
        let mut random = Random(5);
        let mut any = || u32::try_from(random.below(size as usize)).unwrap_or(0);
        group.bench_function(BenchmarkId::new("lock", size), |b| {
            LazyCell::force(&table);
            let lock = |_, identity| drop(black_box(table.lock(identity)));
            b.iter_custom(|count| in_bursts(count, &mut any, lock));
        });
        group.bench_function(BenchmarkId::new("find", size), |b| {
            let find = |_, identity| {
                black_box(table.lock(identity).binding(START));
            };
            b.iter_custom(|count| in_bursts(count, &mut any, find));
        });
        let mut now = START;
        group.bench_function(BenchmarkId::new("renew", size), |b| {
            b.iter_custom(|count| {
                in_bursts(count, &mut any, |client, identity| {
                    now = Now(now.0 + 1);
                    table.renew(identity, table.home(client), now);
                })
            });
        });
        group.bench_function(BenchmarkId::new("insert", size), |b| {
            b.iter_custom(|count| insert(&table, count, &mut now));
        });
        if size == 1_000_000 {
            group.throughput(Throughput::Elements(size.into()));
            group.bench_function(BenchmarkId::new("sweep", size), |b| {
                b.iter(|| table.leases.sweep_all(now));
            });
        }
        group.finish();
    }
}

/// Offers random slots to clients that were never here.
fn insert(table: &Population, count: u64, now: &mut Now) -> Duration {
    let mut random = Random(6);
    let mut total = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let visitors = left.min(u64::from(table.visitors));
        left -= visitors;
        let last = table.clients + u32::try_from(visitors).unwrap_or(0);
        let mut newcomers = table.clients..last;
        let next = || newcomers.next().unwrap_or(u32::MAX);
        total += in_bursts(visitors, next, |_, identity| {
            black_box(offer(&mut table.lock(identity), &mut random, *now));
        });
        *now = table.forget(table.clients..last, *now);
    }
    total
}

pub(crate) fn by_threads(c: &mut Criterion) {
    const SIZE: u32 = 1_000_000;
    let table = LazyCell::new(|| Population::new(SIZE));
    let mut group = c.benchmark_group("bindings by threads");
    for threads in [1, 2] {
        group.throughput(Throughput::Elements(threads));
        group.bench_function(BenchmarkId::new("renew", threads), |b| {
            let table: &Population = &table;
            b.iter_custom(|count| {
                together(0..usize::try_from(threads).unwrap_or(1), |thread, _| {
                    let mut random = Random(thread as u64 + 7);
                    let any = || u32::try_from(random.below(SIZE as usize)).unwrap_or(0);
                    in_bursts(count, any, |client, identity| {
                        table.renew(identity, table.home(client), START);
                    })
                })
            });
        });
    }
    group.finish();
}
