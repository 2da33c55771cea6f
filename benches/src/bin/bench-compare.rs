//! Builds the benches of two commits and runs them by turns on this machine: which have become slower?

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result, bail, ensure};
use benches::compare::{Report, Rounds};
use clap::Parser;
use serde_json::Value;

/// What is compared if nothing else is asked for: something of each layer, in a few minutes.
const FILTER: &str =
    "^(wire/|allocation/1M/pair|bindings/[a-z]+/1000000|engine/direct/|journal/commit/(64|4096)$)";

/// Compares the benches of the working tree with those of another commit, run by turns on this machine, and names
/// those that have become slower (exit status 1; 2 if they could not be compared).
#[derive(Debug, Parser)]
#[command(name = "bench-compare")]
struct Arguments {
    /// The commit to compare with. By default where the branch left main; on main the last commit, or the one before
    /// it if nothing has been changed since.
    #[arg(long)]
    base: Option<String>,
    /// How often each side is run.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// How long each bench is measured in each round.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    time: f64,
    /// The least change that counts, in per cent. What scatters more has to change more.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    margin: f64,
    /// Only the benches whose names match this regular expression.
    #[arg(default_value = FILTER)]
    filter: String,
}

/// One side: its bench programs, and what they have measured.
struct Side {
    name: &'static str,
    root: PathBuf,
    programs: Vec<(String, PathBuf)>,
    rounds: Rounds,
}

/// A checkout of the base. Removed when dropped.
struct Worktree<'r> {
    repository: &'r Path,
    path: PathBuf,
}

impl<'r> Worktree<'r> {
    fn new(repository: &'r Path, path: PathBuf, commit: &str) -> Result<Worktree<'r>> {
        let worktree = Worktree { repository, path };
        // What a killed run has left.
        worktree.remove();
        let path = worktree.path.to_string_lossy().into_owned();
        git(repository, &["worktree", "add", "--detach", "--force", &path, commit])?;
        Ok(worktree)
    }

    fn remove(&self) {
        let path = self.path.to_string_lossy();
        // If there is none, nothing has to be removed.
        let _ = git(self.repository, &["worktree", "remove", "--force", &path]);
        let _ = fs::remove_dir_all(&self.path);
        let _ = git(self.repository, &["worktree", "prune"]);
    }
}

impl Drop for Worktree<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// One of them at least has become slower.
const SLOWER: u8 = 1;

/// There was nothing to compare.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(report) => {
            print!("{}", report.text());
            if report.slower().next().is_some() {
                ExitCode::from(SLOWER)
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("bench-compare: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Builds both sides, and lets them run by turns.
fn compare(arguments: &Arguments) -> Result<Report> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let root = PathBuf::from(git(Path::new("."), &["rev-parse", "--show-toplevel"])?);
    let base = match &arguments.base {
        Some(base) => base.clone(),
        None => default_base(&root)?,
    };
    let commit = git(&root, &["rev-parse", "--short", &format!("{base}^{{commit}}")])?;
    let work = target(&root).join("bench-compare");
    fs::create_dir_all(&work)?;
    let worktree = Worktree::new(&root, work.join("base"), &commit)?;
    // Cargo names what it builds by its place in a workspace: in one folder each side would overwrite the other.
    let mut base = Side::build("base", worktree.path.clone(), &work.join("target"))?;
    let mut head = Side::build("head", root.clone(), &target(&root))?;
    if let Some((_, path)) = base.programs.iter().find(|program| head.programs.contains(program)) {
        bail!("both sides would run {}", path.display());
    }
    println!("base {commit}, head the working tree; {} rounds by turns", arguments.rounds);
    for round in 0..arguments.rounds {
        let names: Vec<String> = head.programs.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            let turn = if round % 2 == 0 { [&mut base, &mut head] } else { [&mut head, &mut base] };
            for side in turn {
                ensure!(!interrupted.load(Ordering::Relaxed), "interrupted");
                eprintln!("round {} of {}: {name}, {}", round + 1, arguments.rounds, side.name);
                side.run(&name, arguments, &work.join("criterion"), round)?;
            }
        }
    }
    drop(worktree);
    ensure!(!head.rounds.is_empty(), "no bench matches {}", arguments.filter);
    Ok(Report::new(&base.rounds, &head.rounds, arguments.margin / 100.0))
}

/// Where the branch left main; on main the last commit, or the one before it if nothing has been changed since.
fn default_base(root: &Path) -> Result<String> {
    let head = git(root, &["rev-parse", "HEAD"])?;
    let fork = ["main", "origin/main"]
        .into_iter()
        .find_map(|main| git(root, &["merge-base", "HEAD", main]).ok());
    match fork {
        Some(fork) if fork != head => Ok(fork),
        _ if !git(root, &["status", "--porcelain", "--untracked-files=no"])?.is_empty() => Ok(head),
        _ => Ok("HEAD~1".to_owned()),
    }
}

/// Cargo's target folder.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path))
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output();
    let output = output.context("cannot run git")?;
    let failure = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), failure.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Side {
    fn build(name: &'static str, root: PathBuf, target: &Path) -> Result<Side> {
        eprintln!("building the {name}");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args([
            "bench",
            "--package",
            "benches",
            "--no-run",
            "--message-format=json",
            "--quiet",
        ]);
        build.current_dir(&root).env("CARGO_TARGET_DIR", target).stderr(Stdio::inherit());
        let output = build.output().context("cannot run cargo")?;
        ensure!(output.status.success(), "the benches of the {name} do not build");
        let programs: Vec<_> = output
            .stdout
            .split(|&octet| octet == b'\n')
            .filter_map(|line| program(&serde_json::from_slice(line).ok()?))
            .collect();
        ensure!(!programs.is_empty(), "the {name} has no benches");
        Ok(Side { name, root, programs, rounds: Rounds::new() })
    }

    /// Runs a bench program, if this side has it, and notes its medians.
    fn run(&mut self, name: &str, arguments: &Arguments, home: &Path, round: u32) -> Result<()> {
        let Some((_, program)) = self.programs.iter().find(|(other, _)| other == name) else {
            return Ok(());
        };
        if home.exists() {
            fs::remove_dir_all(home)?;
        }
        let time = arguments.time.to_string();
        let status = Command::new(program)
            .args(["--bench", "--noplot", "--quiet", "--sample-size", "10"])
            .args(["--warm-up-time", &time, "--measurement-time", &time, &arguments.filter])
            .current_dir(self.root.join("benches"))
            .env("CRITERION_HOME", home)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let status = status.with_context(|| format!("cannot run {}", program.display()))?;
        if !status.success() {
            bail!("the {name} benches of the {} end with {status}", self.name);
        }
        for (bench, median) in medians(home)? {
            self.rounds.entry(bench).or_default().insert(round, median);
        }
        if home.exists() {
            fs::remove_dir_all(home)?;
        }
        Ok(())
    }
}

/// The name and the path of a bench program that cargo says it has built.
fn program(message: &Value) -> Option<(String, PathBuf)> {
    let target = message.get("target")?;
    let is_bench = target.get("kind")?.as_array()?.iter().any(|kind| kind == "bench");
    let name = target.get("name")?.as_str()?;
    let executable = message.get("executable")?.as_str()?;
    is_bench.then(|| (name.to_owned(), PathBuf::from(executable)))
}

/// The medians that criterion has written anywhere under `folder`, in nanoseconds, by the benches' names.
fn medians(folder: &Path) -> Result<Vec<(String, f64)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && path.ends_with("new") {
                let (bench, estimates) =
                    (read(&path.join("benchmark.json"))?, read(&path.join("estimates.json"))?);
                let name = bench.get("full_id").and_then(Value::as_str);
                let median = estimates.pointer("/median/point_estimate").and_then(Value::as_f64);
                found.extend(name.map(str::to_owned).zip(median));
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("cannot parse {}", path.display()))
}
