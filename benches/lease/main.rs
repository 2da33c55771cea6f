//! How long it takes to find a free slot and to give it back, and to find and extend a client's lease.

mod allocation;
mod bindings;

use criterion::{criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = allocation::by_fill, allocation::by_threads, bindings::by_leases, bindings::by_threads
}
criterion_main!(benches);
