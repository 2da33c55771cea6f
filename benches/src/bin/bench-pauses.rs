//! How long the longest pause of a worker is: bursts of messages, and the sweep that a busy worker does between them,
//! while nothing is over and while every lease is.

use std::time::{Duration, Instant};

use benches::{
    BURST,
    timing::{Clock, passing, working},
    world::{Ask, Worker, World},
};
use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;

/// Shards that a busy worker sweeps after each burst.
const SWEPT: usize = 4;

/// Turns between two rounds of the table in which everything is over.
const TURNS: u64 = 50_000;

/// Nanoseconds beyond which pauses are no longer told apart.
const LONGEST: u64 = 60_000_000_000;

/// Longer than a lease and its hold-down.
const OVER_SECONDS: u32 = 2 * benches::LEASE_SECONDS;

/// Prints how long bursts of 64 messages and the sweep between them take, and the longest of each. Half of the
/// messages extend leases, a quarter are DISCOVERs of new clients, and a quarter their REQUESTs. By turns, no lease is
/// over, and all are at once.
#[derive(Debug, Parser)]
#[command(name = "bench-pauses")]
struct Arguments {
    /// Leases that are held at the beginning.
    #[arg(long, default_value_t = 1_000_000)]
    leases: u32,
    /// For how long.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The clock: time that passes, which has in it whatever else the machine does, or the processor time of the
    /// thread.
    #[arg(long, default_value = "working")]
    clock: Time,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Time {
    Passing,
    Working,
}

/// What is timed, and how long it took each time, in nanoseconds.
struct Pauses(&'static str, Histogram<u64>);

impl Pauses {
    fn new(name: &'static str) -> Pauses {
        Pauses(name, Histogram::new_with_max(LONGEST, 3).expect("bounds that there are"))
    }

    fn note(&mut self, time: Duration) {
        self.1.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn print(&self) {
        let micros = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6;
        let Pauses(name, times) = self;
        let at = |quantile| micros(times.value_at_quantile(quantile));
        println!(
            "{name:32} {:>10} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            times.len(),
            at(0.5),
            at(0.99),
            at(0.9999),
            micros(times.max())
        );
    }
}

/// A worker that sweeps.
struct Sweeper<'w> {
    world: &'w World,
    worker: Worker<'w>,
    clock: Clock,
    next: usize,
}

impl Sweeper<'_> {
    /// Sweeps the next few shards. The time of that.
    fn sweep(&mut self) -> Duration {
        let leases = &self.world.population.leases;
        let start = (self.clock)();
        for _ in 0..SWEPT {
            leases.sweep(self.next, self.worker.now());
            self.next = (self.next + 1) % leases.shards();
        }
        (self.clock)().saturating_sub(start)
    }

    /// Turns of a day: half of the messages extend leases, the others are of new clients.
    fn usual(&mut self, turns: u64, bursts: &mut Pauses, sweeps: &mut Pauses) {
        for _ in 0..turns / 4 {
            let (discovers, selects) = self.worker.welcome(BURST as u64, &|| ());
            for time in [discovers, selects, self.extend(), self.extend()] {
                bursts.note(time);
                sweeps.note(self.sweep());
            }
        }
    }

    /// Leases are extended while the table is swept, every other lease of which is over, for as long as that takes.
    /// Then all are extended.
    fn over(&mut self, bursts: &mut Pauses, sweeps: &mut Pauses) {
        self.worker.dismiss();
        self.worker.wait(OVER_SECONDS);
        let turns = self.world.population.leases.shards().div_ceil(SWEPT) as u64;
        for _ in 0..turns {
            bursts.note(self.extend());
            sweeps.note(self.sweep());
        }
        let clients = u64::from(self.world.population.clients);
        self.worker.ask(Ask::Renew, clients.saturating_sub(turns * BURST as u64), &|| ());
    }

    fn extend(&mut self) -> Duration {
        self.worker.ask(Ask::Renew, BURST as u64, &|| ())
    }
}

fn main() {
    let arguments = Arguments::parse();
    let clock = match arguments.clock {
        Time::Passing => passing,
        Time::Working => working,
    };
    let world = World::new(arguments.leases);
    let worker = Worker::new(&world, (0, 1), false, 1).timed_by(clock);
    let mut sweeper = Sweeper { world: &world, worker, clock, next: 0 };
    let mut usual = [Pauses::new("burst"), Pauses::new("sweep")];
    let mut over = [Pauses::new("burst, all leases over"), Pauses::new("sweep, all leases over")];
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(arguments.seconds) {
        let [bursts, sweeps] = &mut usual;
        sweeper.usual(TURNS, bursts, sweeps);
        let [bursts, sweeps] = &mut over;
        sweeper.over(bursts, sweeps);
    }
    println!(
        "{:32} {:>10} {:>9} {:>9} {:>9} {:>9}",
        "microseconds", "times", "p50", "p99", "p99.99", "longest"
    );
    usual.iter().chain(&over).for_each(Pauses::print);
}
