//! How long a decision takes, octets in to octets out: by message, by number of leases, on one and two cores.
//!
//! In bursts, as the server's workers do it. All records are durable at once: what a disk costs is the journal's bench.

use std::{cell::LazyCell, time::Duration};

use benches::{
    sizes,
    timing::together,
    world::{Ask, Worker, World},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Leases that are held while each kind of message is measured.
const LEASES: u32 = 1_000_000;

const SIZES: [u32; 6] = [1_000, 10_000, 100_000, 1_000_000, 4_000_000, 10_000_000];

/// Bursts that each of several threads prepares before all of them start at once.
const TRAIN: usize = 16;

const ASKS: [(&str, Ask); 5] = [
    ("RENEW", Ask::Renew),
    ("RENEW early", Ask::RenewEarly),
    ("REBIND", Ask::Rebind),
    ("REBOOT", Ask::Reboot),
    ("RELEASE", Ask::Release),
];

/// The mean time of the two messages of `count` clients that were never here.
fn welcome(worker: &mut Worker<'_>, count: u64, meet: &dyn Fn()) -> Duration {
    let (discovers, selects) = worker.welcome(count, meet);
    (discovers + selects) / 2
}

fn by_message(c: &mut Criterion) {
    for (path, relayed) in [("direct", false), ("relayed", true)] {
        let world = LazyCell::new(|| World::new(LEASES));
        let mut worker = LazyCell::new(|| Worker::new(&world, (0, 1), relayed, 1));
        let mut group = c.benchmark_group(format!("engine/{path}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("DISCOVER", |b| {
            LazyCell::force(&worker);
            b.iter_custom(|count| worker.welcome(count, &|| ()).0);
        });
        group.bench_function("SELECT", |b| {
            b.iter_custom(|count| worker.welcome(count, &|| ()).1);
        });
        group.bench_function("DORA", |b| {
            b.iter_custom(|count| welcome(&mut worker, count, &|| ()));
        });
        for (name, ask) in ASKS {
            group.bench_function(name, |b| {
                b.iter_custom(|count| worker.ask(ask, count, &|| ()));
            });
        }
        group.finish();
    }
}

fn by_leases(c: &mut Criterion) {
    for size in sizes(&SIZES) {
        let world = LazyCell::new(|| World::new(size));
        let mut worker = LazyCell::new(|| Worker::new(&world, (0, 1), false, 1));
        let mut group = c.benchmark_group("engine/leases");
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("DORA", size), |b| {
            LazyCell::force(&worker);
            b.iter_custom(|count| welcome(&mut worker, count, &|| ()));
        });
        group.bench_function(BenchmarkId::new("RENEW", size), |b| {
            b.iter_custom(|count| worker.ask(Ask::Renew, count, &|| ()));
        });
        group.finish();
    }
}

fn by_threads(c: &mut Criterion) {
    for threads in [1, 2] {
        let world = LazyCell::new(|| World::new(LEASES));
        let mut crew = LazyCell::new(|| {
            let worker = |thread| Worker::new(&world, (thread, threads), false, TRAIN);
            (0..threads).map(worker).collect::<Vec<_>>()
        });
        let mut group = c.benchmark_group("engine/threads");
        group.throughput(Throughput::Elements(threads as u64));
        group.bench_function(BenchmarkId::new("DORA", threads), |b| {
            LazyCell::force(&crew);
            b.iter_custom(|count| {
                together(crew.iter_mut(), |worker, meeting| {
                    welcome(worker, count, &|| meeting.wait())
                })
            });
        });
        group.bench_function(BenchmarkId::new("RENEW", threads), |b| {
            b.iter_custom(|count| {
                together(crew.iter_mut(), |worker, meeting| {
                    worker.ask(Ask::Renew, count, &|| meeting.wait())
                })
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = by_message, by_leases, by_threads
}
criterion_main!(benches);
