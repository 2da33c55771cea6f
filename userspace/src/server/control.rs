//! The control thread: signals, the watch over interfaces and over what must move, and the counters.

use std::io::Write as _;
use std::sync::{
    Arc,
    mpsc::{Receiver, RecvTimeoutError},
};
use std::time::Duration;

use tracing::{error, info, warn};

use crate::{
    engine::reason::Refusal,
    journal::{Distribution, Journal, Statistics},
    lease::{Leases, pool::PoolId, stamp::Now},
    net::PortError,
};

use super::{
    clock::Clock,
    crew::Crew,
    metrics::Snapshot,
    signals::Event,
    sites::Sites,
    sweep::Pace,
    vigil::{Remark, Sight, Vigil},
};

/// How often it looks around.
const LOOK_MILLISECONDS: u64 = 1000;

/// The line after the last counter.
const COUNTERS_END: &str = "end of counters";

/// Pools that are named when one has run dry: the fullest.
const POOLS_NAMED_MAX: usize = 5;

/// What serves, and what it can be asked.
pub struct Scene {
    /// Who holds what.
    pub leases: Arc<Leases>,
    /// Tells the time.
    pub clock: Clock,
    /// The pace of the sweep.
    pub pace: Arc<Pace>,
    /// The workers.
    pub crew: Crew,
    /// The interfaces.
    pub sites: Sites,
}

/// Everything that lives as long as the server serves.
pub struct Control {
    scene: Scene,
    journal: Journal,
    vigil: Vigil,
}

impl Control {
    /// In charge of all that.
    pub fn new(scene: Scene, journal: Journal) -> Self {
        Self { scene, journal, vigil: Vigil::default() }
    }

    /// Returns when told to stop.
    pub fn run(&mut self, events: &Receiver<Event>) {
        let clock = self.scene.clock;
        let mut next_look = clock.now().0 + LOOK_MILLISECONDS;
        loop {
            let wait = next_look.saturating_sub(clock.now().0);
            match events.recv_timeout(Duration::from_millis(wait)) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Event::Show) => self.scene.show(&self.journal.statistics()),
                Ok(Event::Ended { berth, edition, outcome }) => {
                    self.ended(berth, edition, outcome.err());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = clock.now();
            if now.0 >= next_look {
                next_look = now.0 + LOOK_MILLISECONDS;
                self.look(now);
            }
        }
    }

    /// Drains the workers, makes durable what is left, shows the counters, and detaches.
    pub fn finish(self) {
        let Control { mut scene, journal, .. } = self;
        scene.crew.stop_all();
        let statistics = journal.stop();
        scene.show(&statistics);
        drop(scene);
        info!("stopped: {} records are durable, everything is detached", statistics.records);
    }

    fn ended(&mut self, berth: usize, edition: u64, error: Option<PortError>) {
        let Scene { crew, sites, .. } = &mut self.scene;
        let Some(name) = crew.ended(berth, edition) else { return };
        let reason = error.map_or("nobody told it to".to_owned(), |error| error.to_string());
        error!("worker {name} has ended: {reason}");
        crew.stop([berth]);
        sites.lost(berth, crew);
    }

    /// Once a second.
    fn look(&mut self, now: Now) {
        let Scene { crew, sites, pace, .. } = &mut self.scene;
        sites.look(crew, now);
        let (waiting, durable) = crew.waiting_and_durable();
        let (workers, sweep_lag_permille) = (crew.turns(), pace.lag_permille(now));
        let counters = &self.scene.snapshot(&self.journal.statistics());
        let sight = Sight { workers: &workers, waiting, durable, sweep_lag_permille, counters };
        for remark in self.vigil.look(now, &sight) {
            self.scene.say(&remark);
        }
    }
}

impl Scene {
    fn say(&self, remark: &Remark) {
        match remark {
            Remark::WorkerStuck { .. } | Remark::JournalStuck { .. } => error!("{remark}"),
            Remark::Counted { name, .. } if *name == Refusal::PoolExhausted.name() => {
                // What has ended since the last sweep is free after this one.
                self.pace.hurry();
                warn!("{remark}; {}", self.fill());
            }
            Remark::SweepLags { .. } | Remark::Counted { .. } => warn!("{remark}"),
        }
    }

    /// How full the pools are, the fullest first.
    fn fill(&self) -> String {
        let mut pools: Vec<_> = self.pools().collect();
        pools.sort_by_key(|(_, held, usable)| usable.saturating_sub(*held));
        let pools = pools.iter().take(POOLS_NAMED_MAX);
        let pools = pools.map(|(name, held, usable)| format!("{name} {held} of {usable}"));
        format!("held: {}", pools.collect::<Vec<_>>().join(", "))
    }

    /// Name, held slots and usable slots of each pool.
    fn pools(&self) -> impl Iterator<Item = (&str, u32, u32)> {
        let pools = self.leases.pools();
        (0..pools.len()).filter_map(|index| u16::try_from(index).ok()).map(|index| {
            let pool = pools.get(PoolId(index));
            (pool.name(), pool.held(), pool.usable())
        })
    }

    fn show(&self, journal: &Statistics) {
        let mut counters = self.snapshot(journal);
        self.count_leases(&mut counters);
        let mut out = std::io::stdout().lock();
        let shown = writeln!(out, "{counters}{COUNTERS_END}").and_then(|()| out.flush());
        if let Err(error) = shown {
            warn!("cannot write the counters: {error}");
        }
    }

    fn snapshot(&self, journal: &Statistics) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.crew.count_into(&mut snapshot);
        self.sites.count_into(&mut snapshot);
        snapshot.add("journal-commits", journal.commits);
        snapshot.add("journal-records", journal.records);
        snapshot.add("journal-largest-batch", journal.largest_batch);
        add_distribution(&mut snapshot, "journal-sync", &journal.sync);
        add_distribution(&mut snapshot, "journal-wake", &journal.wake);
        snapshot.add("offers-outstanding", u64::from(self.leases.offers()));
        snapshot.add("sweep-rounds", self.pace.rounds());
        for (name, held, usable) in self.pools() {
            let name = name.replace(char::is_whitespace, "_");
            snapshot.add(format!("pool-{name}-held"), u64::from(held));
            snapshot.add(format!("pool-{name}-usable"), u64::from(usable));
        }
        snapshot
    }

    /// Goes through the whole table, so only when somebody asks.
    fn count_leases(&self, snapshot: &mut Snapshot) {
        let census = self.leases.census(self.clock.now());
        snapshot.add("leases-active", census.active as u64);
        snapshot.add("leases-held-down", census.held_down as u64);
        snapshot.add("leases-resting", census.resting as u64);
        snapshot.add("leases-remembered", census.past as u64);
    }
}

fn add_distribution(snapshot: &mut Snapshot, name: &str, distribution: &Distribution) {
    for (quantile, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        let microseconds = distribution.quantile(share).as_micros();
        let value = u64::try_from(microseconds).unwrap_or(u64::MAX);
        snapshot.add(format!("{name}-{quantile}-us"), value);
    }
}
