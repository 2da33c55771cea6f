//! Workloads shared by the benches: leases of a chosen number of clients, an engine over them, and what they send.

pub mod compare;
pub mod message;
pub mod population;
pub mod random;
pub mod timing;
pub mod world;

use std::time::Duration;

use criterion::Criterion;
use portlease::lease::stamp::Now;

/// The server's allocator: how it lays out a table decides what its memory costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// When every workload begins, in milliseconds.
pub const START: Now = Now(1_800_000_000_000);

/// Seconds of a lease: long beside the time that passes in a workload.
pub const LEASE_SECONDS: u32 = 86_400;

/// Packets that a worker takes at a time.
pub const BURST: usize = 64;

/// The most leases of a quick run.
const QUICK_MAX: u32 = 1_000_000;

/// Whether `QUICK` is set: a look rather than a measurement.
pub fn is_quick() -> bool {
    std::env::var_os("QUICK").is_some_and(|value| !value.is_empty() && value != "0")
}

/// How long each bench is measured. Options of the command line (`--measurement-time`) win.
pub fn criterion() -> Criterion {
    let (samples, warm_up, measurement) = if is_quick() { (10, 50, 200) } else { (20, 300, 1000) };
    Criterion::default()
        .without_plots()
        .sample_size(samples)
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measurement))
}

/// The numbers of leases to measure at: without the large ones if the run is to be quick.
pub fn sizes(all: &[u32]) -> Vec<u32> {
    all.iter().copied().filter(|&size| !is_quick() || size <= QUICK_MAX).collect()
}
