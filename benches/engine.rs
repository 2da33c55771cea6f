//! How long a decision takes, octets in to octets out: by message, by number of leases, direct and relayed.

use std::hint::black_box;

use benches::{LEASE_SECONDS, Life, START, World};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use portlease::lease::stamp::Now;

/// A world in which `clients` hold leases, and the messages of `sample` of them, spread over all.
fn crowded(clients: u32, relayed: bool) -> (World, Vec<Life>) {
    let mut world = World::new(clients);
    let stride = clients.div_ceil(10_000);
    let mut lives = Vec::new();
    for client in 0..clients {
        let life = world.obtain(client, relayed, START);
        if client % stride == 0 {
            lives.push(life);
        }
    }
    (world, lives)
}

fn messages(c: &mut Criterion) {
    for clients in [1_000, 100_000, 1_000_000] {
        for relayed in [false, true] {
            let path = if relayed { "relayed" } else { "direct" };
            let (mut world, lives) = crowded(clients, relayed);
            let mut group = c.benchmark_group(format!("engine/{path}"));
            group.throughput(Throughput::Elements(1));
            let mut out = [0; 1500];
            let mut next = (0..lives.len()).cycle();

            // Time runs, so that each renewal comes half a lease after the last one of its client.
            let mut now = START;
            let step = u64::from(LEASE_SECONDS) * 500 / lives.len() as u64 + 1;
            group.bench_function(BenchmarkId::new("renew", clients), |b| {
                b.iter(|| {
                    now = Now(now.0 + step);
                    let life = &lives[next.next().unwrap_or_default()];
                    black_box(world.answer(now, &life.renew, &mut out))
                });
            });
            group.bench_function(BenchmarkId::new("renew early", clients), |b| {
                b.iter(|| {
                    let life = &lives[next.next().unwrap_or_default()];
                    black_box(world.answer(now, &life.renew, &mut out))
                });
            });
            group.bench_function(BenchmarkId::new("discover", clients), |b| {
                b.iter(|| {
                    let life = &lives[next.next().unwrap_or_default()];
                    black_box(world.answer(now, &life.discover, &mut out))
                });
            });
            group.throughput(Throughput::Elements(3));
            group.bench_function(BenchmarkId::new("release discover select", clients), |b| {
                b.iter(|| {
                    let life = &lives[next.next().unwrap_or_default()];
                    for payload in [&life.release, &life.discover, &life.select] {
                        black_box(world.answer(now, payload, &mut out));
                    }
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, messages);
criterion_main!(benches);
