//! How long it takes to make records durable, by the size of the batch, and to read them back after a restart.
//!
//! On a real file, written directly, in cargo's target folder: run it where the lease log will be.

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    io::Read as _,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use benches::{
    LEASE_SECONDS, START,
    population::{SOURCE, identity},
    timing::timed,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use portlease::{
    journal::{Access, BATCH_RECORDS, LeaseLog as _, Options, RingLog},
    lease::{
        key::SiteId,
        record::{Content, Record, State, Tuple},
        stamp::Stamp,
    },
};
use tempfile::TempDir;

/// Leases of the log that is written to.
const LEASES: u32 = 100_000;

fn options(leases: u32) -> Options {
    Options {
        capacity_leases: leases.into(),
        hold_down_seconds: 120,
        accept_loss: false,
        ring_octets: None,
    }
}

/// A folder on the disk that cargo builds on.
fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder in cargo's target folder")
}

fn record(client: u32, stamp: u64) -> Record {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    Record::new(&Content {
        stamp: Stamp(stamp),
        identity: identity(client),
        tuple: Tuple {
            address: Ipv4Addr::from(first + client / 64),
            offset: 0,
            psid_length: 6,
            psid: u16::try_from(client % 64).unwrap_or(0),
        },
        state: State::Bound,
        expires: START.seconds() + LEASE_SECONDS,
        source: SOURCE,
        client: b"identifier",
        hardware: false,
        site: SiteId::UNKNOWN,
        softwire: None,
    })
}

/// A log with a record of each of `leases` leases.
fn written(folder: &Path, leases: u32) -> RingLog {
    let mut log = RingLog::open(folder, options(leases)).expect("a log");
    log.recover(&mut |_| ()).expect("an empty log");
    let clients: Vec<u32> = (0..leases).collect();
    for clients in clients.chunks(BATCH_RECORDS) {
        let batch: Vec<_> = clients.iter().map(|&client| record(client, 1)).collect();
        log.commit(&batch, START).expect("a commit");
    }
    log
}

fn commit(c: &mut Criterion) {
    let folder = folder();
    let mut log = written(folder.path(), LEASES);
    let mut group = c.benchmark_group("journal/commit");
    let mut stamp = 1;
    for size in [1, 8, 64, 512, BATCH_RECORDS] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            let mut batch = Vec::with_capacity(size);
            b.iter_custom(|count| {
                let mut total = Duration::ZERO;
                for _ in 0..count {
                    stamp += 1;
                    batch.clear();
                    // Renewals of all leases in turn, so that the log has to clean up behind itself.
                    let first = u32::try_from(stamp * size as u64 % u64::from(LEASES)).unwrap_or(0);
                    let clients = (first..).take(size).map(|client| client % LEASES);
                    batch.extend(clients.map(|client| record(client, stamp)));
                    total += timed(|| log.commit(&batch, START).expect("a commit"));
                }
                total
            });
        });
    }
    group.finish();
}

/// Reads a file past the cache, a megabyte at a time. How long that takes.
fn read_directly(path: &Path) -> Duration {
    const PIECE: usize = 1 << 20;
    const ALIGNMENT: usize = 4096;
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    let mut file = direct.or_else(|_| File::open(path)).expect("the log's file");
    let mut buffer = vec![0; PIECE + ALIGNMENT];
    let first = buffer.as_ptr().align_offset(ALIGNMENT);
    let piece = &mut buffer[first..first + PIECE];
    let start = Instant::now();
    while file.read(piece).expect("the log's file") > 0 {
        black_box(&piece);
    }
    start.elapsed()
}

fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal/recovery");
    group.sample_size(10);
    for leases in benches::sizes(&[100_000, 1_000_000]) {
        let folder = folder();
        drop(written(folder.path(), leases));
        group.throughput(Throughput::Elements(leases.into()));
        group.bench_function(BenchmarkId::new("read alone", leases), |b| {
            b.iter_custom(|count| (0..count).map(|_| read_directly(&ring(folder.path()))).sum());
        });
        group.bench_function(BenchmarkId::new("open and recover", leases), |b| {
            b.iter_custom(|count| {
                let recover = |_| {
                    let start = Instant::now();
                    let mut log = RingLog::open(folder.path(), options(leases)).expect("a log");
                    let mut records = 0;
                    let report = log.recover(&mut |record| {
                        black_box(record);
                        records += 1;
                    });
                    let time = start.elapsed();
                    let access = report.expect("a whole log").access;
                    assert!(records >= leases, "{records} records");
                    assert!(access == Access::Direct, "the log is not written directly");
                    time
                };
                (0..count).map(recover).sum()
            });
        });
    }
    group.finish();
}

fn ring(folder: &Path) -> std::path::PathBuf {
    folder.join("leases.ring")
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = commit, recovery
}
criterion_main!(benches);
