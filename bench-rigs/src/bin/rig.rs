//! rig: servers side by side, turn by turn, and a report with the targets and whether they are met.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use bench_rigs::{
    daemon, interrupt, netns,
    rig::{
        accounting::Account,
        benches::{self, Programs},
        contestant::{self, Who},
        machine::Facts,
        measure::{self, Measured},
        report::{PAGE, Run},
        restart,
        scenario::{self, Kind, Scenario, TRIAL_SECONDS},
        statistics::{Turn, Turns},
        targets::thousands,
    },
};
use clap::Parser;

const EXAMPLE: &str = "Example, after a release build of the workspace:\n  rig --scenario dora --quick \
    --output target/rig\n`make rig` builds, installs what is missing and runs all scenarios.";

/// Measures servers side by side: portlease by native XDP, generic XDP and socket, Kea, and servers that do next to
/// nothing, which show what the machine can do. Writes PERFORMANCE.md, plots and all figures.
#[derive(Debug, Parser)]
#[command(name = "rig", version, after_help = EXAMPLE)]
struct Arguments {
    /// Scenarios, by the names of their files or as paths; all of the folder if none is named
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    scenario: Vec<String>,

    /// Folder of the scenario files
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))]
    scenarios: PathBuf,

    /// Shorter and fewer turns: less than eight minutes in all
    #[arg(long)]
    quick: bool,

    /// Folder for PERFORMANCE.md and performance/
    #[arg(long, value_name = "FOLDER", default_value = "target/rig")]
    output: PathBuf,

    /// A program with criterion benches; may be repeated
    #[arg(long, value_name = "NAME=PATH", value_parser = bench_program)]
    bench_program: Vec<(String, PathBuf)>,

    /// The command to name in the report
    #[arg(long, value_name = "TEXT", default_value = "make rig")]
    command: String,

    /// Only write the report again, from the turns.json of an earlier run
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Only say what would be measured, and how long it would take
    #[arg(long)]
    list: bool,
}

fn bench_program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=PATH")?;
    // The benches run in another folder than this one.
    let path = std::path::absolute(path).map_err(|error| format!("{path}: {error}"))?;
    Ok((name.to_owned(), path))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(path) = &arguments.from {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let run: Run = serde_json::from_str(&text)?;
        return Ok(run.write(&arguments.output)?);
    }
    let scenarios = chosen(&arguments)?;
    announce(&scenarios, arguments.quick);
    if arguments.list {
        return Ok(());
    }
    netns::require_root()?;
    contestant::require_cores()?;
    interrupt::catch()?;
    let facts = facts()?;
    measure::take_place()?;
    let began = Instant::now();
    let mut rig = Rig { turns: Turns::default(), facts, quick: arguments.quick, began };
    let programs = Programs(arguments.bench_program.clone());
    for scenario in &scenarios {
        rig.run(scenario, &programs).with_context(|| format!("scenario {}", scenario.name))?;
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    rig.facts.add("the whole run took", format!("{minutes:.1} min"));
    let run = Run {
        command: arguments.command.clone(),
        quick: arguments.quick,
        facts: rig.facts,
        scenarios: scenarios.iter().map(|one| (one.name.clone(), one.title.clone())).collect(),
        turns: rig.turns,
    };
    run.write(&arguments.output)?;
    println!("{}", run.to_markdown(&[]));
    println!("written: {}", arguments.output.join(PAGE).display());
    Ok(())
}

/// The scenarios that were asked for.
fn chosen(arguments: &Arguments) -> anyhow::Result<Vec<Scenario>> {
    let all = scenario::read_all(&arguments.scenarios)?;
    if arguments.scenario.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        if Path::new(name).extension().is_some() {
            return Ok(Scenario::read(Path::new(name))?);
        }
        let known = all.iter().find(|one| one.name == *name).cloned();
        known.with_context(|| {
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            format!("no scenario `{name}`: there are {}", names.join(", "))
        })
    };
    arguments.scenario.iter().map(find).collect()
}

/// Says what will be measured and how long it will take.
fn announce(scenarios: &[Scenario], quick: bool) {
    let mut total = 0.0;
    for one in scenarios {
        let seconds = one.estimate_s(quick);
        total += seconds;
        eprintln!("{:<10} about {:>4.0} s  {}", one.name, seconds, one.title);
    }
    eprintln!(
        "{:<10} about {:>4.1} min on a machine with nothing else to do",
        "in all",
        total / 60.0
    );
}

/// What the report says of the machine, as it is before this thread is bound to a core.
fn facts() -> anyhow::Result<Facts> {
    let mut facts = Facts::read();
    facts.add("processor time by", Account::new().method());
    let folder = measure::folder()?;
    let sync = measure::disk_alone(folder.path())?;
    let text = format!("p50 {:.0} µs, p99 {:.0} µs", sync.p50_us, sync.p99_us);
    facts.add("disk, 4 KiB write and fdatasync", text);
    Ok(facts)
}

/// A run in progress.
struct Rig {
    turns: Turns,
    facts: Facts,
    quick: bool,
    began: Instant,
}

impl Rig {
    fn run(&mut self, scenario: &Scenario, programs: &Programs) -> anyhow::Result<()> {
        match scenario.kind {
            Kind::Benches => {
                let home = daemon::target_folder()?.join("rig-criterion");
                let turns = benches::run(scenario, programs, &home, self.quick)?;
                self.turns.0.extend(turns);
                Ok(())
            }
            Kind::Restart => self.restarts(scenario),
            Kind::Exchanges | Kind::Latency | Kind::Overload => self.rounds(scenario),
        }
    }

    /// A B C A B C, each with the window that suits it best.
    fn rounds(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        let extent = scenario.extent(self.quick);
        let mut windows = Vec::new();
        for &who in &scenario.servers {
            let window = measure::best_window(who, &scenario.windows, TRIAL_SECONDS)?;
            if scenario.windows.len() > 1 {
                self.say(scenario, who, &format!("window {window}"));
            }
            windows.push(window);
        }
        for repetition in 1..=extent.repetitions {
            for (&who, &window) in scenario.servers.iter().zip(&windows) {
                interrupt::check()?;
                let measured = match scenario.kind {
                    Kind::Latency => measure::latency(who, window, extent.seconds),
                    Kind::Overload => measure::overload(who, window, extent.seconds),
                    _ => measure::exchanges(who, window, extent.seconds),
                }?;
                for one in measured {
                    self.take(scenario, who, repetition, one, None);
                }
            }
        }
        Ok(())
    }

    fn restarts(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        let extent = scenario.extent(self.quick);
        for &leases in &extent.leases {
            for &who in &scenario.servers {
                if who == Who::Kea && extent.leases.first() != Some(&leases) {
                    continue;
                }
                let leases = if who == Who::Kea { leases.min(extent.kea_leases) } else { leases };
                restart::restart(who, leases, extent.repetitions, |start, measured| {
                    self.take(scenario, who, start, measured, Some(leases));
                })?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        scenario: &Scenario,
        who: Who,
        repetition: u32,
        (measure, figures): Measured,
        leases: Option<u32>,
    ) {
        let measure = match leases {
            Some(leases) => format!("{measure} {leases}"),
            None => measure.to_owned(),
        };
        let figure = |name: &str| figures.get(name).copied();
        let shown = figure("rate").map(|rate| format!("{} a second", thousands(rate)));
        let shown = shown.or(figure("first_reply_s").map(|time| format!("{time:.3} s")));
        let shown =
            shown.or(figure("octets_per_lease").map(|octets| format!("{octets:.0} octets")));
        let text = format!("{repetition}: {measure}: {}", shown.unwrap_or_default());
        self.say(scenario, who, &text);
        self.turns.0.push(Turn {
            scenario: scenario.name.clone(),
            server: who.to_string(),
            measure,
            repetition,
            figures,
        });
    }

    fn say(&self, scenario: &Scenario, who: Who, text: &str) {
        let seconds = self.began.elapsed().as_secs();
        eprintln!("{seconds:>5} s  {:<9} {:<22} {text}", scenario.name, who.to_string());
    }
}
