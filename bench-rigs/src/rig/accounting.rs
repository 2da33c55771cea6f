//! What a server costs: the processor time of its threads, and what its core did beside them.
//!
//! Threads: a cgroup (version 2) holds all processes of a server; its `cpu.stat` counts all their threads, those that
//! have ended included, to the microsecond, and splits user from kernel. Where there is no such file system, the
//! scheduler's own figures for each thread that is alive are added up.
//!
//! Beside them: softirqs that ran while no thread of the server did, kernel threads, and anything else that got onto
//! the core. Whether `cpu.stat` contains the softirqs that run inside a thread's system calls depends on how the kernel
//! was built: without `CONFIG_IRQ_TIME_ACCOUNTING` they are in the thread's time, and also in the softirq column of
//! `/proc/stat`, so that adding the two counts them twice. Therefore neither is added: what the core did in all is
//! taken from its idle time, and the threads' time is a part of it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::error::{Doing as _, Result, RigError};

/// What all our cgroups' names start with; then comes the process that made it.
const PREFIX: &str = "portlease-rig-";

/// `USER_HZ`: ticks a second in `/proc/stat`, on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where the processes of one server are counted. Removed on drop, when they have ended.
#[derive(Debug)]
pub struct Account {
    cgroup: Option<PathBuf>,
    processes: Vec<u32>,
}

impl Account {
    /// A new one, with a cgroup if the system has version 2 mounted and lets us make one.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = cgroup_mount().and_then(|mount| {
            remove_leftovers(&mount);
            let path = mount.join(format!("{PREFIX}{}-{number}", std::process::id()));
            fs::create_dir(&path).is_ok().then_some(path)
        });
        Self { cgroup, processes: Vec::new() }
    }

    /// How threads are counted, in words for the report.
    pub fn method(&self) -> &'static str {
        if self.cgroup.is_some() {
            "cgroup v2 cpu.stat"
        } else {
            "sum over /proc/PID/task (no cgroup v2 that this process may use)"
        }
    }

    /// Counts a process and all that it starts from now on.
    pub fn add(&mut self, process: u32) -> Result<()> {
        if let Some(path) = &self.cgroup {
            let file = path.join("cgroup.procs");
            fs::write(&file, process.to_string()).doing(file.display())?;
        }
        self.processes.push(process);
        Ok(())
    }

    /// The processes that were added.
    pub fn processes(&self) -> &[u32] {
        &self.processes
    }

    fn threads(&self) -> Result<Threads> {
        if let Some(path) = &self.cgroup {
            let file = path.join("cpu.stat");
            let text = fs::read_to_string(&file).doing(file.display())?;
            return Threads::of_cpu_stat(&text)
                .ok_or_else(|| RigError::unexpected(format!("{}: {text}", file.display())));
        }
        let mut sum = Threads::default();
        for &process in &self.processes {
            sum.add(threads_of(process)?);
        }
        Ok(sum)
    }

    /// What was used up to now, beside what the core did.
    pub fn read(&self, core: usize) -> Result<Reading> {
        let threads = self.threads()?;
        let text = fs::read_to_string("/proc/stat").doing("/proc/stat")?;
        let core = Core::of_stat(&text, core)
            .ok_or_else(|| RigError::unexpected(format!("/proc/stat knows no core {core}")))?;
        Ok(Reading { at: Instant::now(), threads, core })
    }
}

impl Default for Account {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Some(path) = &self.cgroup else { return };
        // The kernel needs a moment to clear away processes that were killed.
        for _ in 0..100 {
            if fs::remove_dir(path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where cgroup version 2 is mounted.
fn cgroup_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// Removes the cgroups of runs that are dead.
fn remove_leftovers(mount: &Path) {
    let Ok(folder) = fs::read_dir(mount) else { return };
    for entry in folder.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another run may be doing the same.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Processor time of threads up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Threads {
    /// In all, in microseconds.
    pub total_us: f64,
    /// In user mode: the server's own code. The kernel samples it by ticks and scales it to the total.
    pub user_us: f64,
}

impl Threads {
    /// Reads `cpu.stat` of a cgroup.
    pub fn of_cpu_stat(text: &str) -> Option<Self> {
        let figure = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(key, _)| *key == name)?.1.trim().parse::<f64>().ok()
        };
        Some(Self { total_us: figure("usage_usec")?, user_us: figure("user_usec")? })
    }

    fn add(&mut self, other: Threads) {
        self.total_us += other.total_us;
        self.user_us += other.user_us;
    }
}

/// The threads of a process that are alive: run time to the nanosecond, split by the process's sampled ticks.
fn threads_of(process: u32) -> Result<Threads> {
    let folder = format!("/proc/{process}/task");
    let mut total_us = 0.0;
    for thread in fs::read_dir(&folder).doing(&folder)? {
        let path = thread.doing(&folder)?.path().join("schedstat");
        let text = fs::read_to_string(&path).doing(path.display())?;
        let run: Option<f64> = text.split_whitespace().next().and_then(|word| word.parse().ok());
        total_us += run.unwrap_or(0.0) / 1e3;
    }
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).doing(&path)?;
    Ok(Threads { total_us, user_us: total_us * user_share(&text) })
}

/// The share of user time in a line of `/proc/PID/stat`, whose second field may contain blanks.
fn user_share(stat: &str) -> f64 {
    let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = behind.split_whitespace().skip(11).map(|word| word.parse().unwrap_or(0.0));
    let (user, kernel): (f64, f64) = (ticks.next().unwrap_or(0.0), ticks.next().unwrap_or(0.0));
    if user + kernel > 0.0 { user / (user + kernel) } else { 0.0 }
}

/// What a core has done up to a moment, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Core {
    /// Nothing, be it for want of work or while waiting for a disk. The kernel times it exactly.
    pub idle_s: f64,
    /// Stolen by the hypervisor.
    pub stolen_s: f64,
    /// In softirqs, sampled by ticks; those inside of system calls are in it.
    pub softirq_s: f64,
}

impl Core {
    /// Reads the line of a core in `/proc/stat`.
    pub fn of_stat(text: &str, core: usize) -> Option<Self> {
        let name = format!("cpu{core}");
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
        let seconds = |column: usize| ticks.get(column).map(|ticks| ticks / TICKS_PER_SECOND);
        Some(Self {
            idle_s: seconds(3)? + seconds(4)?,
            softirq_s: seconds(6)?,
            stolen_s: seconds(7)?,
        })
    }
}

/// One look at an account.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    at: Instant,
    threads: Threads,
    core: Core,
}

/// What was spent between two readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// Time between the two, in seconds.
    pub elapsed_s: f64,
    /// By all threads of the server, in microseconds.
    pub threads_us: f64,
    /// Of that in user mode.
    pub user_us: f64,
    /// By the core beside them, in microseconds: softirqs between threads, kernel threads, strangers.
    pub beside_us: f64,
    /// Share of the time in which the core was not idle.
    pub busy_share: f64,
    /// Softirqs on the core by the kernel's samples, in microseconds. Partly in the above.
    pub softirq_us: f64,
}

impl Reading {
    /// What was spent since an earlier reading.
    pub fn since(&self, before: &Reading) -> Spent {
        let elapsed_s = (self.at - before.at).as_secs_f64();
        let threads_us = self.threads.total_us - before.threads.total_us;
        let away_s =
            self.core.idle_s + self.core.stolen_s - before.core.idle_s - before.core.stolen_s;
        let busy_s = (elapsed_s - away_s).clamp(0.0, elapsed_s);
        Spent {
            elapsed_s,
            threads_us,
            user_us: self.threads.user_us - before.threads.user_us,
            beside_us: (busy_s * 1e6 - threads_us).max(0.0),
            busy_share: if elapsed_s > 0.0 { busy_s / elapsed_s } else { 0.0 },
            softirq_us: (self.core.softirq_s - before.core.softirq_s) * 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "\
cpu  200 0 100 900 10 0 50 3 0 0
cpu0 150 0 80 400 5 0 30 2 0 0
cpu1 50 0 20 500 5 0 20 1 0 0
cpu10 1 0 1 1 1 0 1 1 0 0
";

    #[test]
    fn cpu_stat_is_read_by_name() {
        let text = "usage_usec 5000\nuser_usec 1200\nsystem_usec 3800\nnr_periods 0\n";
        let threads = Threads::of_cpu_stat(text);
        assert_eq!(threads, Some(Threads { total_us: 5000.0, user_us: 1200.0 }));
        assert_eq!(Threads::of_cpu_stat("usage_usec 5000\n"), None);
    }

    #[test]
    fn the_line_of_one_core_is_read_and_no_other() {
        let core = Core { idle_s: 4.05, stolen_s: 0.02, softirq_s: 0.3 };
        assert_eq!(Core::of_stat(STAT, 0), Some(core));
        let other = Core { idle_s: 5.05, stolen_s: 0.01, softirq_s: 0.2 };
        assert_eq!(Core::of_stat(STAT, 1), Some(other));
        assert_eq!(Core::of_stat(STAT, 2), None);
    }

    #[test]
    fn what_the_core_did_beside_the_threads_is_counted_once() {
        let at = Instant::now();
        let reading = |seconds, total_us, idle_s| Reading {
            at: at + Duration::from_secs(seconds),
            threads: Threads { total_us, user_us: total_us / 4.0 },
            core: Core { idle_s, stolen_s: 0.0, softirq_s: idle_s },
        };
        // Ten seconds, of which one idle: nine busy, of which the threads had eight.
        let spent = reading(10, 8e6, 1.0).since(&reading(0, 0.0, 0.0));
        assert_eq!((spent.threads_us, spent.user_us), (8e6, 2e6));
        assert!((spent.beside_us - 1e6).abs() < 1.0, "{spent:?}");
        assert!((spent.busy_share - 0.9).abs() < 1e-9);
        // Threads that ran on another core too leave nothing beside them.
        let spent = reading(10, 12e6, 1.0).since(&reading(0, 0.0, 0.0));
        assert!(spent.beside_us.abs() < 1.0, "{spent:?}");
    }

    #[test]
    fn user_time_is_found_behind_a_name_with_blanks() {
        let line = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 30 90 0 0 20 0 1 0 5 6 7";
        assert!((user_share(line) - 0.25).abs() < 1e-9);
        assert!(user_share("").abs() < 1e-9);
    }
}
