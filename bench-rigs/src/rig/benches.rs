//! Criterion benches as a part of a run: runs the programs and reads what they have written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::{
    measure::Figures,
    scenario::{Bench, Scenario},
    statistics::Turn,
};
use crate::{
    error::{Doing as _, Result, RigError},
    interrupt, sys,
};

/// Who the turns of benches are of.
pub const CRITERION: &str = "criterion";

/// What criterion writes about a bench.
#[derive(Deserialize)]
struct Identity {
    full_id: String,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
enum Throughput {
    Elements(u64),
    #[serde(other)]
    Other,
}

/// What criterion found: nanoseconds of an iteration.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// Where the bench programs lie, by name.
#[derive(Clone, Debug, Default)]
pub struct Programs(pub Vec<(String, PathBuf)>);

impl Programs {
    fn path(&self, name: &str) -> Result<&Path> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, path)| path.as_path()).ok_or_else(|| {
            RigError::unexpected(format!(
                "no bench program `{name}`: give --bench-program {name}=PATH, as `make rig` does"
            ))
        })
    }
}

/// Runs the benches of a scenario, on all cores, all of them and then all again, and gives a turn for each. Criterion's
/// own files go to `home`.
pub fn run(
    scenario: &Scenario,
    programs: &Programs,
    home: &Path,
    quick: bool,
) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    let repetitions = scenario.extent(quick).repetitions;
    for repetition in 1..=repetitions {
        // What an earlier run has left there would be read with it.
        let _ = fs::remove_dir_all(home);
        run_once(&scenario.benches, programs, home, quick, repetitions > 1)?;
        turns.extend(read(&scenario.name, repetition, home)?);
    }
    Ok(turns)
}

/// Runs the benches of a scenario once. Of several runs, in turn, each may be `short`: their median says more than one
/// long one, which meets whatever else the machine does just then.
fn run_once(
    benches: &[Bench],
    programs: &Programs,
    home: &Path,
    quick: bool,
    short: bool,
) -> Result<()> {
    for bench in benches {
        interrupt::check()?;
        let mut command = Command::new(programs.path(&bench.program)?);
        command.args(["--bench", "--noplot", &bench.filter]).env("CRITERION_HOME", home);
        // Fewer sizes when there is no time, but never so short that only noise is seen.
        if quick {
            command.env("QUICK", "1");
        } else {
            command.env_remove("QUICK");
        }
        command.args(if quick || short {
            ["--warm-up-time", "0.5", "--measurement-time", "1", "--sample-size", "20"]
        } else {
            ["--warm-up-time", "1", "--measurement-time", "3", "--sample-size", "30"]
        });
        // What a bench says goes to the terminal: it is the progress that people look at.
        command.stdin(Stdio::null()).current_dir(env!("CARGO_MANIFEST_DIR"));
        run_on_all_cores(command)?;
    }
    Ok(())
}

fn run_on_all_cores(mut command: Command) -> Result<()> {
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| {
            sys::unpin().doing("bind to all cores")?;
            let shown = format!("{command:?}");
            let status = command.status().doing(format!("run {shown}"))?;
            if status.success() {
                return Ok(());
            }
            Err(RigError::Command { command: shown, outcome: status.to_string() })
        });
        runner.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}

/// Reads what criterion has left below `home`.
fn read(scenario: &str, repetition: u32, home: &Path) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    let mut folders = vec![home.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).doing(folder.display())? {
            let path = entry.doing(folder.display())?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
        if folder.ends_with("new") {
            turns.extend(read_one(scenario, repetition, &folder)?);
        }
    }
    turns.sort_by(|one, other| one.measure.cmp(&other.measure));
    Ok(turns)
}

fn read_one(scenario: &str, repetition: u32, folder: &Path) -> Result<Option<Turn>> {
    let (names, estimates) = (folder.join("benchmark.json"), folder.join("estimates.json"));
    if !names.is_file() || !estimates.is_file() {
        return Ok(None);
    }
    let identity: Identity = parse(&names)?;
    let estimates: Estimates = parse(&estimates)?;
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let elements = match identity.throughput {
        Some(Throughput::Elements(elements)) => elements as f64,
        Some(Throughput::Other) | None => 1.0,
    };
    let figures: Figures = [
        ("ns", estimates.median.point_estimate),
        ("ns_low", estimates.median.confidence_interval.lower_bound),
        ("ns_high", estimates.median.confidence_interval.upper_bound),
        ("elements", elements),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    Ok(Some(Turn {
        scenario: scenario.to_owned(),
        server: CRITERION.to_owned(),
        measure: identity.full_id,
        repetition,
        figures,
    }))
}

fn parse<T: for<'d> Deserialize<'d>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).doing(format!("read {}", path.display()))?;
    serde_json::from_str(&text)
        .map_err(|error| RigError::unexpected(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criterion_has_written_is_found_by_name() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("engine_leases/DORA/1000/new");
        fs::create_dir_all(&folder).unwrap();
        let names = r#"{"group_id":"engine/leases","function_id":"DORA","value_str":"1000",
            "throughput":{"Elements":2},"full_id":"engine/leases/DORA/1000","directory_name":"x"}"#;
        fs::write(folder.join("benchmark.json"), names).unwrap();
        let estimates = r#"{"mean":{"confidence_interval":{"confidence_level":0.95,
            "lower_bound":1.0,"upper_bound":3.0},"point_estimate":9.0,"standard_error":0.1},
            "median":{"confidence_interval":{"confidence_level":0.95,"lower_bound":100.0,
            "upper_bound":120.0},"point_estimate":110.0,"standard_error":0.1}}"#;
        fs::write(folder.join("estimates.json"), estimates).unwrap();
        fs::create_dir_all(home.path().join("engine_leases/DORA/1000/base")).unwrap();

        let turns = read("engine", 3, home.path()).unwrap();
        assert_eq!(turns.len(), 1);
        assert_eq!(turns[0].measure, "engine/leases/DORA/1000");
        assert_eq!((turns[0].figures["ns"], turns[0].figures["elements"]), (110.0, 2.0));
        assert_eq!(turns[0].repetition, 3);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Programs::default().path("engine").unwrap_err().to_string();
        assert!(error.contains("engine=PATH"), "{error}");
    }
}
