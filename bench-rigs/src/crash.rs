//! The ordeal: the daemon is killed again and again under load, some times while it recovers, and after each kill
//! every lease that it ever acknowledged must renew with the same ports.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use crate::{
    daemon::{Config, Daemon},
    error::{Doing as _, Result, RigError},
    interrupt,
    load::{Backend, Backoff, Control, Load, Mix, Options, Pace, Phase, Place, Summary, Work},
    stage::{CLIENT, SERVER, SERVER_INTERFACE, Stage},
};

/// Octets of a record in the log.
const RECORD_LENGTH: u64 = 128;

/// Records that the log has room for, for each port set of the pool: so few that it comes round often, and enough for
/// all that may be held at a time.
const RECORDS_PER_PORT_SET: u64 = 2;

/// How long the load may take for the ACKs between two kills.
const ACKS_TIMEOUT: Duration = Duration::from_mins(5);

/// What the daemon is put through.
#[derive(Clone, Debug)]
pub struct Ordeal {
    /// Kills under load.
    pub kills: u32,
    /// ACKs before each kill, at least; up to twice as many, drawn at random.
    pub acknowledged_min: u64,
    /// Clients; the pool is sized for twice as many, and the log for two records a port set of that pool.
    pub clients: u32,
    /// Share of the starts that are killed once more before they serve.
    pub recovery_kill_share: f64,
    /// `xdp-native`, `xdp-generic` or `socket`.
    pub datapath: String,
    /// Folder on a real file system, in which the store is made.
    pub folder: PathBuf,
}

/// One kill.
#[derive(Clone, Debug)]
pub struct Blow {
    /// ACKs since the last one.
    pub acknowledged: u64,
    /// Starts that were killed before they served.
    pub recovery_kills: u32,
    /// From the last start to service.
    pub start: Duration,
    /// Leases that were acknowledged before and renewed after it.
    pub renewed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Each kill.
    pub blows: Vec<Blow>,
    /// All that the clients saw.
    pub summary: Summary,
    /// Octets of the log's file.
    pub log_octets: u64,
    /// Records that must have been written: one for each lease that was made. There were more.
    pub records_min: u64,
    /// Leases that did not renew.
    pub lost: u64,
}

impl Outcome {
    /// How often the log came round, at least.
    pub fn wraps_min(&self) -> u64 {
        self.records_min * RECORD_LENGTH / self.log_octets.max(1)
    }

    /// Starts that were killed before they served.
    pub fn recovery_kills(&self) -> u32 {
        self.blows.iter().map(|blow| blow.recovery_kills).sum()
    }

    /// Whether nothing that was acknowledged was lost or given twice.
    pub fn kept_every_promise(&self) -> bool {
        !self.summary.violated() && self.lost == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acknowledged: u64 = self.blows.iter().map(|blow| blow.acknowledged).sum();
        let renewed: u64 = self.blows.iter().map(|blow| blow.renewed).sum();
        let slowest = self.blows.iter().map(|blow| blow.start).max().unwrap_or_default();
        writeln!(f, "SIGKILLs under load           {:>10}", self.blows.len())?;
        writeln!(f, "SIGKILLs during recovery      {:>10}", self.recovery_kills())?;
        writeln!(f, "ACKs                          {acknowledged:>10}")?;
        writeln!(f, "log                           {:>10} octets", self.log_octets)?;
        writeln!(f, "log came round, at least      {:>10} times", self.wraps_min())?;
        writeln!(f, "slowest start                 {:>10} ms", slowest.as_millis())?;
        writeln!(f, "leases renewed after kills    {renewed:>10}")?;
        writeln!(f, "acknowledged and then lost    {:>10}", self.lost)?;
        let twice = self.summary.violations.get("held-twice").copied().unwrap_or(0);
        writeln!(f, "tuples held by two            {twice:>10}")?;
        for (name, count) in &self.summary.violations {
            writeln!(f, "VIOLATION {name:<20}{count:>10}")?;
        }
        match &self.summary.first_violation {
            Some(first) => writeln!(f, "the first: {first}"),
            None => Ok(()),
        }
    }
}

impl Ordeal {
    /// Runs it. `tell` hears of every kill.
    pub fn run(&self, mut tell: impl FnMut(u32, &Blow)) -> Result<Outcome> {
        let stage = Stage::new(2)?;
        let files = tempfile::Builder::new()
            .prefix("crash-")
            .tempdir_in(&self.folder)
            .doing(format!("make a folder in {}", self.folder.display()))?;
        let config = self.config(&files.path().join("store"));
        let mut load = stage.clients.enter(|| Load::new(self.load(&stage)))??;
        let mut daemon = Daemon::start(&stage.server, &config, files.path())?;
        let mut outcome = Outcome {
            blows: Vec::new(),
            summary: load.summary(),
            log_octets: 0,
            records_min: 0,
            lost: 0,
        };
        for number in 1..=self.kills {
            let control = Control::default();
            let mixed = Phase { work: Work::Mixed, exchanges: Some(u64::MAX), lasts: None };
            let blow = thread::scope(|scope| {
                let loading = scope.spawn(|| load.run(mixed, &control));
                let blow = self.strike(&stage, &config, files.path(), &mut daemon, &control);
                control.stop.store(true, Ordering::Relaxed);
                let loaded =
                    loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                loaded.and(blow)
            });
            let mut blow = blow?;
            outcome.records_min += control.bound.load(Ordering::Relaxed);
            // Only now, with nothing else under way: every lease, one by one.
            let all = Phase { work: Work::Renew, exchanges: None, lasts: None };
            let renewed = load.run(all, &Control::default())?;
            blow.renewed = renewed.completed;
            outcome.lost += renewed.started - renewed.completed;
            tell(number, &blow);
            outcome.blows.push(blow);
        }
        outcome.summary = load.summary();
        outcome.log_octets = largest_file(&files.path().join("store"))?;
        let status = daemon.stop()?;
        if !status.success() {
            let log = daemon.log();
            return Err(RigError::unexpected(format!("the last stop: {status}; {log}")));
        }
        Ok(outcome)
    }

    /// Waits for the ACKs, kills the daemon, and starts it again until it serves.
    fn strike(
        &self,
        stage: &Stage,
        config: &Config,
        folder: &Path,
        daemon: &mut Daemon,
        control: &Control,
    ) -> Result<Blow> {
        let wanted = fastrand::u64(self.acknowledged_min..=2 * self.acknowledged_min);
        interrupt::wait_until("ACKs before a kill", ACKS_TIMEOUT, || {
            if !daemon.process().is_running() {
                let log = daemon.log();
                return Err(RigError::unexpected(format!("the daemon ended by itself:\n{log}")));
            }
            Ok(control.acknowledged.load(Ordering::Relaxed) >= wanted)
        })?;
        daemon.kill()?;
        let acknowledged = control.acknowledged.load(Ordering::Relaxed);
        let mut recovery_kills = 0;
        let mut usual = Duration::from_millis(100);
        loop {
            let begun = Instant::now();
            *daemon = Daemon::spawn(&stage.server, config, folder)?;
            if fastrand::f64() < self.recovery_kill_share && recovery_kills < 3 {
                thread::sleep(usual.mul_f64(fastrand::f64()));
                daemon.kill()?;
                recovery_kills += 1;
                continue;
            }
            daemon.wait_ready()?;
            usual = begun.elapsed();
            return Ok(Blow { acknowledged, recovery_kills, start: usual, renewed: 0 });
        }
    }

    fn config(&self, store: &Path) -> Config {
        let base = Config::new(SERVER_INTERFACE, SERVER, &self.datapath);
        let config = base.for_clients(2 * self.clients);
        let octets = u64::from(config.capacity) * RECORDS_PER_PORT_SET * RECORD_LENGTH;
        Config { store: Some(store.to_path_buf()), ring_octets: Some(octets), ..config }
    }

    fn load(&self, stage: &Stage) -> Options {
        Options {
            place: Place {
                server: stage.unicast(),
                sources: vec![CLIENT],
                foreign: false,
                interface: None,
                relay: None,
            },
            backend: Backend::Udp,
            clients: self.clients,
            seed: 1,
            sharing: true,
            pace: Pace::Closed { window: 128 },
            // Restarts take a while, and a client does not give up for that.
            backoff: Backoff::Fixed { timeout: Duration::from_millis(400), tries: None },
            reserved: vec![0..=1023],
            server_id: None,
            release_rate: 20_000.0,
            mix: Mix::even(),
            progress: false,
        }
    }
}

fn largest_file(folder: &Path) -> Result<u64> {
    let doing = || format!("look into {}", folder.display());
    let mut largest = 0;
    for entry in fs::read_dir(folder).doing(doing())? {
        let facts = entry.and_then(|entry| entry.metadata()).doing(doing())?;
        largest = largest.max(facts.len());
    }
    Ok(largest)
}
