//! How long it takes to find a free slot, by how full its pool is, and to find and extend a client's lease, by how
//! many there are; alone and with as many threads as there are cores.

use std::{
    hint::black_box,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

use benches::{LEASE_SECONDS, START};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use portlease::lease::{
    Features, Leases, Settings,
    client::Holder,
    geometry::PoolSpec,
    key::{ClientIdentity, IdentityKind, IdentitySecret, LinkId},
    pool::{Pick, Pool, PoolId},
    promise::{LaneId, Promise, Watermarks},
    stamp::Now,
};

/// Clients of an address: 64 port sets, the first of which is reserved.
const SHARES: u32 = 63;

/// The cheapest generator that leads anywhere (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick(&mut self) -> Pick {
        Pick::Random(self.next())
    }
}

fn spec(addresses: u32) -> PoolSpec {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    PoolSpec {
        name: "pool".to_owned(),
        link: LinkId(0),
        ranges: vec![Ipv4Addr::from(first)..=Ipv4Addr::from(first + addresses - 1)],
        offset: 0,
        psid_length: 6,
        reserved_ports: vec![0..=1023],
    }
}

/// A pool of which all but one in `free_share` slots are held.
fn filled(addresses: u32, free_share: u32) -> Pool {
    let pool = Pool::new(&spec(addresses)).expect("the pool has a shape");
    let mut random = Random(1);
    for _ in 0..pool.usable() - (pool.usable() / free_share).max(1) {
        pool.acquire(random.pick()).expect("a free slot");
    }
    pool
}

/// Takes slots and gives them back.
fn pairs(pool: &Pool, count: u64, random: &mut Random) {
    for _ in 0..count {
        if let Some(slot) = pool.acquire(random.pick()) {
            pool.release(black_box(slot));
        }
    }
}

fn pool_by_fill(c: &mut Criterion) {
    for addresses in [16_u32, 16_384, 262_144] {
        let mut group = c.benchmark_group(format!("pool/{} slots", addresses * 64));
        group.throughput(Throughput::Elements(1));
        // One in one is an empty pool: it gets its tenth below. The smallest pool has no ten-thousandth part.
        for (fill, free_share) in [("10", 1), ("90", 10), ("99", 100), ("99.99", 10_000)] {
            if addresses * SHARES < free_share {
                continue;
            }
            let pool = filled(addresses, free_share);
            let mut random = Random(2);
            while pool.held() < pool.usable() / 10 {
                pool.acquire(random.pick()).expect("a free slot");
            }
            group.bench_function(BenchmarkId::new("acquire and release", fill), |b| {
                b.iter(|| pairs(&pool, 1, &mut random));
            });
        }
        let full = filled(addresses, u32::MAX);
        let mut random = Random(3);
        full.acquire(random.pick());
        group.bench_function(BenchmarkId::new("refuse", "100"), |b| {
            b.iter(|| black_box(full.acquire(random.pick())));
        });
        group.finish();
    }
}

/// How long `threads` take to do `work` at once, which gets its thread's number.
fn together(threads: u64, work: impl Fn(u64) + Sync) -> Duration {
    let barrier = Barrier::new(usize::try_from(threads).expect("few threads") + 1);
    std::thread::scope(|scope| {
        let (barrier, work) = (&barrier, &work);
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    barrier.wait();
                    work(thread);
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for worker in workers {
            worker.join().expect("the work ends");
        }
        start.elapsed()
    })
}

fn pool_by_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool by threads");
    for (fill, free_share) in [("90", 10), ("99.99", 10_000)] {
        let pool = filled(16_384, free_share);
        for threads in [1, 2, 4] {
            group.throughput(Throughput::Elements(threads));
            group.bench_function(BenchmarkId::new(fill, threads), |b| {
                b.iter_custom(|count| {
                    together(threads, |thread| pairs(&pool, count, &mut Random(thread + 1)))
                });
            });
        }
    }
    group.finish();
}

/// Leases of `count` clients, and who they are.
struct Table {
    leases: Leases,
    clients: Vec<ClientIdentity>,
}

impl Table {
    fn new(count: u32) -> Table {
        let settings = Settings {
            capacity: count as usize,
            offers_max: u32::MAX,
            hold_down_seconds: 120,
            decline_hold_seconds: 86_400,
            watermarks: Arc::new(Watermarks::new(1)),
            shards: None,
            features: Features::default(),
        };
        let specs = [spec(count / SHARES + 64)];
        let leases = Leases::new(&specs, settings).expect("the pool has a shape");
        let secret = IdentitySecret([9; 16]);
        let identify =
            |client: u32| secret.identify(IdentityKind::ClientIdentifier, &client.to_be_bytes());
        let table = Table { leases, clients: (0..count).map(identify).collect() };
        let mut random = Random(4);
        for &client in &table.clients {
            table.obtain(client, random.pick(), START);
        }
        table
    }

    fn any(&self, random: &mut Random) -> ClientIdentity {
        let index = random.next() % self.clients.len() as u64;
        self.clients[usize::try_from(index).unwrap_or_default()]
    }

    /// An offer and its lease.
    fn obtain(&self, client: ClientIdentity, pick: Pick, now: Now) {
        let mut locked = self.leases.lock(client.on(LinkId(0)));
        let until = now.seconds() + 60;
        let offer = locked.offer_any(PoolId(0), pick, until, now).expect("room for an offer");
        let at = offer.expect("a free slot").at;
        let expires = now.seconds() + LEASE_SECONDS;
        black_box(locked.grant(at, expires, &holder(client), PROMISE, now)).expect("a lease");
    }

    /// Extends the client's lease, with a record.
    fn renew(&self, client: ClientIdentity, now: Now) {
        let mut locked = self.leases.lock(client.on(LinkId(0)));
        let at = locked.binding(now).expect("a binding").at;
        let expires = now.seconds() + LEASE_SECONDS;
        black_box(locked.grant(at, expires, &holder(client), PROMISE, now)).expect("a lease");
    }
}

const PROMISE: Promise = Promise { lane: LaneId(0), sequence: 1 };

fn holder(identity: ClientIdentity) -> Holder<'static> {
    let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    Holder { identity, client: b"identifier", hardware: false, source, softwire: None }
}

fn clients(c: &mut Criterion) {
    for count in [10_000, 1_000_000, 4_000_000] {
        let table = Table::new(count);
        let mut group = c.benchmark_group(format!("clients/{count}"));
        let mut random = Random(5);
        let mut now = START;
        group.throughput(Throughput::Elements(1));
        group.bench_function("find", |b| {
            b.iter(|| {
                let key = table.any(&mut random).on(LinkId(0));
                black_box(table.leases.lock(key).binding(now))
            });
        });
        group.bench_function("renew", |b| {
            b.iter(|| {
                now = Now(now.0 + 1);
                table.renew(table.any(&mut random), now);
            });
        });
        for threads in [1, 2, 4] {
            group.throughput(Throughput::Elements(threads));
            group.bench_function(BenchmarkId::new("renew by threads", threads), |b| {
                b.iter_custom(|count| {
                    together(threads, |thread| {
                        let mut random = Random(thread + 6);
                        for _ in 0..count {
                            table.renew(table.any(&mut random), now);
                        }
                    })
                });
            });
        }
        group.throughput(Throughput::Elements(count.into()));
        group.sample_size(20);
        group.bench_function("sweep", |b| b.iter(|| table.leases.sweep_all(now)));
        group.finish();
    }
}

criterion_group!(benches, pool_by_fill, pool_by_threads, clients);
criterion_main!(benches);
