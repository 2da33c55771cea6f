//! How long it takes to read a query and to write what goes around its answer.

use std::hint::black_box;

use benches::message::{Wish, octets};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portlease::wire::{
    checksum::Sum,
    dhcpv4::View,
    dhcpv6::{self, Query},
    writer::Writer,
};

fn queries(c: &mut Criterion) {
    for (path, relayed) in [("direct", false), ("relayed", true)] {
        let payload = octets(1, Wish::Discover, relayed);
        let mut group = c.benchmark_group(format!("wire/{path}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("parse envelope", |b| {
            b.iter(|| black_box(Query::parse(black_box(&payload))));
        });
        let message = Query::parse(&payload).map(|query| query.message).unwrap_or_default();
        group.bench_function("parse message", |b| {
            b.iter(|| black_box(View::parse_request(black_box(message))));
        });
        let mut out = [0; 1500];
        group.bench_function("emit envelope", |b| {
            let Ok(query) = Query::parse(&payload) else { return };
            b.iter(|| {
                let mut w = Writer::new(&mut out);
                let envelope = dhcpv6::begin_response(&mut w, black_box(query.relays));
                w.bytes(black_box(query.message));
                envelope.finish(&mut w);
                black_box(w.finish())
            });
        });
        group.finish();
    }
}

fn sums(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/checksum");
    for length in [64, 384, 1500] {
        let octets = vec![0xa5_u8; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(length.to_string(), |b| {
            b.iter(|| black_box(Sum::default().over(black_box(&octets)).fold()));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = queries, sums
}
criterion_main!(benches);
