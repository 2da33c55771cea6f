//! peers: our server and Kea on one machine in one session, turn by turn.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use bench_rigs::{
    daemon::{self, Config, Daemon, Process},
    error::Result,
    interrupt,
    kea::{self, Kea},
    load::{Backend, Backoff, Control, Load, Mix, Options, Pace, PhaseReport, Place},
    netns,
    stage::{CLIENT, SERVER, SERVER_INTERFACE, Stage},
    sys,
    usage::Usage,
};
use clap::Parser;
use serde::Serialize;

/// Lets our server (native XDP and socket, each with durable commits) and Kea (its two daemons, memfile without sync)
/// serve the same clients in turn, and prints exchanges a second and processor time an exchange.
///
/// The generator has core 1 to itself as far as the scheduler lets it; servers may use both cores. Kea leases whole
/// addresses, since it cannot share them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Clients; each obtains a lease, then renews it
    #[arg(long, default_value_t = 50_000)]
    clients: u32,

    /// Turns of each server; the median is shown
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// Exchanges under way at a time
    #[arg(long, default_value_t = 64)]
    window: usize,

    /// Which servers, in turn; null-xdp-native, null-xdp-generic and null-socket are null4o6
    #[arg(long, value_delimiter = ',', default_value = "xdp-native,xdp-generic,socket,kea")]
    servers: Vec<String>,

    /// Write all turns here as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One phase of one turn.
#[derive(Clone, Debug, Serialize)]
struct Turn {
    server: String,
    /// Processor time of the server's threads for an exchange.
    server_us: f64,
    /// Processor time of the kernel's softirqs for an exchange, on all cores.
    softirq_us: f64,
    /// Share of its core that the generator used.
    generator_share: f64,
    #[serde(flatten)]
    report: PhaseReport,
}

/// A server at work.
enum Server {
    Ours(Daemon),
    Kea(Kea),
    Null(Process),
}

impl Server {
    fn start(name: &str, stage: &Stage, folder: &std::path::Path, clients: u32) -> Result<Self> {
        if name == "kea" {
            let setup = kea::Setup {
                namespace: &stage.server,
                interface: SERVER_INTERFACE,
                address: SERVER,
                folder,
                threads: 0,
            };
            return Kea::start(&setup).map(Server::Kea);
        }
        if let Some(datapath) = name.strip_prefix("null-") {
            let mut command =
                stage.server.command(daemon::sibling_binary("bench-rigs", "null4o6")?);
            command.args(["--interface", SERVER_INTERFACE, "--listen", &SERVER.to_string()]);
            command.args(["--datapath", datapath, "--cpu", "0"]);
            let process = Process::start("null4o6", command)?;
            process.wait_for("ready", 0, Duration::from_secs(5))?;
            return Ok(Server::Null(process));
        }
        let config = Config {
            store: Some(folder.join("store")),
            server: "cpus = [0]\n".to_owned(),
            ..Config::new(SERVER_INTERFACE, SERVER, name).for_clients(clients)
        };
        Daemon::start(&stage.server, &config, folder).map(Server::Ours)
    }

    fn processes(&mut self) -> Vec<u32> {
        match self {
            Server::Ours(daemon) => vec![daemon.process().id()],
            Server::Kea(kea) => vec![kea.dhcp4.id(), kea.dhcp6.id()],
            Server::Null(process) => vec![process.id()],
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    netns::require_root()?;
    interrupt::catch()?;
    sys::pin(1).context("bind to core 1")?;
    let mut turns = Vec::new();
    for round in 1..=arguments.rounds {
        for server in &arguments.servers {
            interrupt::check()?;
            eprintln!("round {round}: {server}");
            turns.extend(turn(server, &arguments)?);
        }
    }
    show(&turns, &arguments.servers);
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_string_pretty(&turns)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// One server, from start to stop, on a stage of its own.
fn turn(name: &str, arguments: &Arguments) -> anyhow::Result<Vec<Turn>> {
    let stage = Stage::new(1)?;
    let folder = daemon::folder_on_disk("peers-")?;
    let mut server = Server::start(name, &stage, folder.path(), arguments.clients)?;
    let processes = server.processes();
    let mut load = stage.clients.enter(|| Load::new(options(name, &stage, arguments)))??;
    let mut turns = Vec::new();
    for phase in ["new", "renew"] {
        let phase = phase.parse().map_err(anyhow::Error::msg)?;
        let before = Usage::of(&processes)?;
        let report = load.run(phase, &Control::default())?;
        let usage = Usage::of(&processes)?.since(before);
        turns.push(Turn {
            server: name.to_owned(),
            server_us: share(usage.processes, report.completed),
            softirq_us: share(usage.softirq, report.completed),
            generator_share: report.generator_cpu_seconds / report.seconds,
            report,
        });
    }
    let summary = load.summary();
    anyhow::ensure!(!summary.violated(), "{name}: {summary}");
    Ok(turns)
}

fn options(name: &str, stage: &Stage, arguments: &Arguments) -> Options {
    Options {
        place: Place {
            server: stage.unicast(),
            sources: vec![CLIENT],
            foreign: false,
            interface: None,
            relay: None,
        },
        backend: Backend::Udp,
        clients: arguments.clients,
        seed: 1,
        sharing: name != "kea",
        pace: Pace::Closed { window: arguments.window },
        backoff: Backoff::Fixed { timeout: Duration::from_secs(1), tries: Some(5) },
        reserved: vec![0..=1023],
        server_id: None,
        release_rate: 10_000.0,
        mix: Mix::even(),
        progress: false,
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds for people")]
fn share(time: Duration, exchanges: u64) -> f64 {
    time.as_secs_f64() * 1e6 / exchanges.max(1) as f64
}

/// The median of each figure over the rounds.
fn show(turns: &[Turn], servers: &[String]) {
    println!(
        "{:<12} {:<6} {:>12} {:>14} {:>15} {:>10} {:>8} {:>8} {:>8}",
        "server",
        "phase",
        "exchanges/s",
        "server us/exch",
        "softirq us/exch",
        "generator",
        "p50 us",
        "p99 us",
        "again"
    );
    for phase in ["new", "renew"] {
        for server in servers {
            let mine: Vec<&Turn> = turns
                .iter()
                .filter(|turn| turn.server == *server && turn.report.phase == phase)
                .collect();
            let median = |figure: fn(&Turn) -> f64| {
                let mut figures: Vec<f64> = mine.iter().map(|turn| figure(turn)).collect();
                figures.sort_by(f64::total_cmp);
                figures.get(figures.len() / 2).copied().unwrap_or(0.0)
            };
            let again: u64 = mine.iter().map(|turn| turn.report.retransmitted).sum();
            println!(
                "{server:<12} {phase:<6} {:>12.0} {:>14.1} {:>15.1} {:>9.0}% {:>8.0} {:>8.0} {again:>8}",
                median(|turn| turn.report.rate),
                median(|turn| turn.server_us),
                median(|turn| turn.softirq_us),
                100.0 * median(|turn| turn.generator_share),
                median(|turn| f64::from(u32::try_from(turn.report.latency.p50_us).unwrap_or(0))),
                median(|turn| f64::from(u32::try_from(turn.report.latency.p99_us).unwrap_or(0))),
            );
        }
    }
}
