//! How long a decision takes, octets in to octets out: by message, by number of leases, on one and two cores.
//!
//! In bursts, as the server's workers do it, and in whole ones: what is asked of memory for one message comes while
//! others are worked on, so one message alone takes two or three times as long as one of many.
//!
//! All records are durable at once: what a disk costs is the journal's bench.

use std::{cell::LazyCell, time::Duration};

use benches::{
    BURST, sizes,
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

/// The time of `count` messages among whole bursts. Criterion asks for a few at a time of what seems to be slow.
fn in_bursts(count: u64, run: impl FnOnce(u64) -> Duration) -> Duration {
    let whole = count.next_multiple_of(BURST as u64);
    let share = |time: u128| time * u128::from(count) / u128::from(whole);
    Duration::from_nanos(u64::try_from(share(run(whole).as_nanos())).unwrap_or(u64::MAX))
}

/// The mean time of the two messages of `count` clients that were never here.
fn welcome(worker: &mut Worker<'_>, count: u64, meet: &dyn Fn()) -> Duration {
    in_bursts(count, |count| {
        let (discovers, selects) = worker.welcome(count, meet);
        (discovers + selects) / 2
    })
}

/// The time of `count` requests of clients that are here.
fn ask(worker: &mut Worker<'_>, ask: Ask, count: u64, meet: &dyn Fn()) -> Duration {
    in_bursts(count, |count| worker.ask(ask, count, meet))
}

fn by_message(c: &mut Criterion) {
    for (path, relayed) in [("direct", false), ("relayed", true)] {
        let world = LazyCell::new(|| World::new(LEASES));
        let mut worker = LazyCell::new(|| Worker::new(&world, (0, 1), relayed, 1));
        let mut group = c.benchmark_group(format!("engine/{path}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("DISCOVER", |b| {
            LazyCell::force(&worker);
            b.iter_custom(|count| in_bursts(count, |count| worker.welcome(count, &|| ()).0));
        });
        group.bench_function("SELECT", |b| {
            LazyCell::force(&worker);
            b.iter_custom(|count| in_bursts(count, |count| worker.welcome(count, &|| ()).1));
        });
        group.bench_function("DORA", |b| {
            LazyCell::force(&worker);
            b.iter_custom(|count| welcome(&mut worker, count, &|| ()));
        });
        for (name, kind) in ASKS {
            group.bench_function(name, |b| {
                LazyCell::force(&worker);
                b.iter_custom(|count| ask(&mut worker, kind, count, &|| ()));
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
            LazyCell::force(&worker);
            b.iter_custom(|count| ask(&mut worker, Ask::Renew, count, &|| ()));
        });
        group.finish();
    }
}

/// One engine for all threads, and beside it an engine for each: what the machine has to give.
fn by_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/threads");
    for (threads, engines, suffix) in [(1, 1, ""), (2, 1, ""), (2, 2, " apart")] {
        let worlds = LazyCell::new(|| {
            std::iter::repeat_with(|| World::new(LEASES)).take(engines).collect::<Vec<_>>()
        });
        let mut crew = LazyCell::new(|| {
            let worker = |thread| {
                let place = (thread / engines, threads / engines);
                Worker::new(&worlds[thread % engines], place, false, TRAIN)
            };
            (0..threads).map(worker).collect::<Vec<_>>()
        });
        group.throughput(Throughput::Elements(threads as u64));
        group.bench_function(BenchmarkId::new(format!("DORA{suffix}"), threads), |b| {
            LazyCell::force(&crew);
            b.iter_custom(|count| {
                together(crew.iter_mut(), |worker, meeting| {
                    welcome(worker, count, &|| meeting.wait())
                })
            });
        });
        group.bench_function(BenchmarkId::new(format!("RENEW{suffix}"), threads), |b| {
            LazyCell::force(&crew);
            b.iter_custom(|count| {
                together(crew.iter_mut(), |worker, meeting| {
                    ask(worker, Ask::Renew, count, &|| meeting.wait())
                })
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = by_message, by_leases, by_threads
}
criterion_main!(benches);
