//! perf4o6: a load generator for DHCPv4-over-DHCPv6 servers that remembers every promise.

use std::{
    fs,
    net::SocketAddrV6,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use bench_rigs::{
    interrupt,
    load::{Control, Load, Plan, Scenario, Summary, WrongCapture, play, write_plots},
    sys,
};
use clap::Parser;

const ABOUT_END: &str = "\
Phases:
  new            clients without a lease obtain one: DISCOVER, OFFER, REQUEST, ACK (also: dora)
  renew, rebind  clients extend their leases, with and without the U flag
  reboot         clients restart and ask for what they had (INIT-REBOOT)
  release        clients give their leases up; nothing answers
  mixed          what --mix says, by clients drawn at random
  reboot-storm   everybody restarts at once; release-storm: everybody leaves at once
  avalanche      everybody starts at once and backs off as RFC 2131 says

Exit codes:
  0  everything was answered and nothing contradicted
  1  an answer contradicted another one or the protocol
  2  usage, a scenario file, or the system
  3  exchanges stayed unanswered

Examples:
  perf4o6 --server 2001:db8:ffff::547 --source 2001:db8:1::10 --clients 100k
  perf4o6 --server 2001:db8:ffff::547 --source 2001:db8:1::10 --phases new,renew=30s@rate:20k
  perf4o6 --multicast --interface eth1 --source fe80::1 --phases avalanche --time-scale 0.01
  perf4o6 --server 2001:db8:ffff::547 --source 2001:db8:1::10 --phases new,renew@search
  perf4o6 --scenario storm.toml --plots out --json out/result.json";

/// Plays very many DHCPv4-over-DHCPv6 clients (RFC 7341, RFC 7618), measures how a server answers, and holds every
/// answer against what was acknowledged before.
///
/// Checked: no (address, PSID) is held by two clients, no two geometries on one address, no reserved port, an
/// extension keeps its tuple and is never refused, transaction, client identifier, server identifier and times.
#[derive(Debug, Parser)]
#[command(name = "perf4o6", version, after_help = ABOUT_END)]
struct Arguments {
    /// Read the load from a TOML file: keys are the flags of all groups but Output; flags given beside it win
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,

    #[command(flatten)]
    load: Scenario,

    /// Remember leases here: read at the start if it exists, written at the end
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    leases: Option<PathBuf>,

    /// Write the result here as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    json: Option<PathBuf>,

    /// Write charts into this folder: latency over percentile, rate over time (SVG)
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    plots: Option<PathBuf>,

    /// Write every answer that was a contradiction or unreadable here (pcap, at most 16 MiB)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    wrong: Option<PathBuf>,

    /// Bind to this core
    #[arg(long, value_name = "N", help_heading = "Output")]
    cpu: Option<usize>,

    /// Show no progress
    #[arg(long, short, help_heading = "Output")]
    quiet: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(summary) if summary.violated() => ExitCode::from(1),
        Ok(summary) if summary.unanswered() > 0 => ExitCode::from(3),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf4o6: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<Summary> {
    let scenario = match &arguments.scenario {
        Some(path) => arguments.load.over(&Scenario::read(path)?)?,
        None => arguments.load.clone(),
    };
    let mut plan = Plan::new(&scenario)?;
    plan.options.progress = !arguments.quiet;
    if let Some(core) = arguments.cpu {
        sys::pin(core).with_context(|| format!("--cpu {core}"))?;
    }
    let control = Control::default();
    interrupt::catch()?;
    let mut load = Load::new(plan.options.clone())?;
    if let Some(path) = arguments.leases.as_ref().filter(|path| path.exists()) {
        load.recall(path)?;
    }
    if let Some(path) = &arguments.wrong {
        load.capture_wrong(begin_capture(path, &plan)?);
    }
    let summary = play(&plan, &mut load, &control)?;
    print!("{summary}");
    if let Some(path) = &arguments.leases {
        load.save(path)?;
    }
    if let Some(capture) = load.wrong()? {
        let (written, left_off) = capture.counts();
        println!("{}: {written} wrong answers, {left_off} left off", capture.path().display());
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&summary)?;
        fs::write(path, text).with_context(|| format!("--json {}", path.display()))?;
    }
    if let Some(folder) = &arguments.plots {
        let names = write_plots(folder, &plan.name, &summary)?;
        println!("{}: {}", folder.display(), names.join(", "));
    }
    Ok(summary)
}

fn begin_capture(path: &Path, plan: &Plan) -> anyhow::Result<WrongCapture> {
    let place = &plan.options.place;
    let port = if place.relay.is_some() { 547 } else { 546 };
    let first = place.sources.first().copied().context("--source: expected an address")?;
    let to = SocketAddrV6::new(first, port, 0, 0);
    Ok(WrongCapture::create(path, place.server, to)?)
}
