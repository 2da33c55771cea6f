//! The machine that was measured on, and what was measured: everything that a figure depends on.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Result, RigError};

/// Names and values, in the order in which a report shows them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(pub Vec<(String, String)>);

impl Facts {
    /// Reads them. What cannot be found out is said to be unknown.
    pub fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).ok();
        let cpu = file("/proc/cpuinfo").map(|text| processor(&text));
        let memory = file("/proc/meminfo").and_then(|text| meminfo(&text, "MemTotal"));
        let pages = file("/sys/kernel/mm/transparent_hugepage/enabled");
        let pages = pages.as_deref().and_then(selected).map(str::to_owned);
        let release = file("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
        let system = file("/etc/os-release").and_then(|text| value(&text, "PRETTY_NAME"));
        let named = [
            ("processor", cpu),
            ("cores", std::thread::available_parallelism().ok().map(|n| n.to_string())),
            ("memory", memory),
            ("transparent huge pages", pages),
            ("hypervisor", said("systemd-detect-virt", &["--vm"])),
            ("kernel", release),
            ("softirq time inside of system calls", Some(softirq_time())),
            ("system", system),
            ("portlease", commit()),
            ("rustc", said("rustc", &["--version"])),
            ("Kea", said("kea-dhcp4", &["-v"])),
        ];
        let known = |(name, fact): (&str, Option<String>)| {
            (name.to_owned(), fact.unwrap_or_else(|| "unknown".to_owned()))
        };
        Self(named.into_iter().map(known).collect())
    }

    /// One more.
    pub fn add(&mut self, name: &str, fact: impl Into<String>) {
        self.0.push((name.to_owned(), fact.into()));
    }
}

/// What a program says in its first line.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The commit that was built, and whether something was changed since.
fn commit() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).display().to_string();
    // The checkout may be another user's.
    let git = |arguments: &[&str]| {
        let safe = ["-c", "safe.directory=*", "-C", &folder];
        said("git", &[&safe, arguments].concat())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if changed { format!("{commit} with changes") } else { commit })
}

/// Whether the kernel takes the time of softirqs out of the threads that they interrupt.
fn softirq_time() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let plain = fs::read_to_string(format!("/boot/config-{}", release.trim())).ok();
    let config = plain.or_else(|| said_all("zcat", &["/proc/config.gz"]));
    let answer = match config {
        None => "unknown: the kernel's configuration is not to be had",
        Some(text) if text.lines().any(|line| line == "CONFIG_IRQ_TIME_ACCOUNTING=y") => {
            "not counted as the thread's (CONFIG_IRQ_TIME_ACCOUNTING=y)"
        }
        Some(_) => "counted as the thread's (no CONFIG_IRQ_TIME_ACCOUNTING)",
    };
    answer.to_owned()
}

fn said_all(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The model of the first processor in `/proc/cpuinfo`, with what tells models of one name apart.
fn processor(cpuinfo: &str) -> String {
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let keys: BTreeMap<&str, &str> = first
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let of = |key| keys.get(key).copied().unwrap_or("unknown");
    format!("{}, family {}, model {}", of("model name"), of("cpu family"), of("model"))
}

fn meminfo(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(format!("{:.1} GiB", kib / 1024.0 / 1024.0))
}

/// The value of a shell assignment, unquoted.
fn value(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim_matches('"').to_owned())
}

/// The word in brackets.
fn selected(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

/// Memory of a process, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// In RAM, shared pages in full.
    pub resident: f64,
    /// In RAM, shared pages by their share.
    pub proportional: f64,
    /// Of it in huge pages.
    pub huge: f64,
}

impl Memory {
    /// Of all these processes together. One that has ended is an error: nothing would look like little.
    pub fn of(processes: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for process in processes {
            let path = format!("/proc/{process}/smaps_rollup");
            let text = fs::read_to_string(&path).doing(format!("read {path}"))?;
            let one = Self::parse(&text);
            if one.resident == 0.0 {
                return Err(RigError::unexpected(format!("process {process} has ended")));
            }
            sum.resident += one.resident;
            sum.proportional += one.proportional;
            sum.huge += one.huge;
        }
        Ok(sum)
    }

    /// Reads `/proc/PID/smaps_rollup`.
    fn parse(text: &str) -> Self {
        let octets = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            kib.unwrap_or(0.0) * 1024.0
        };
        Self {
            resident: octets("Rss:"),
            proportional: octets("Pss:"),
            huge: octets("AnonHugePages:") + octets("Private_Hugetlb:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let cpuinfo = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\n\
            processor\t: 1\nmodel name\t: other\n";
        assert_eq!(processor(cpuinfo), "AMD EPYC, family 26, model 2");
        assert_eq!(meminfo("MemTotal:       25165824 kB\n", "MemTotal").unwrap(), "24.0 GiB");
        assert_eq!(selected("always [madvise] never\n"), Some("madvise"));
        assert_eq!(value("A=1\nPRETTY_NAME=\"Debian\"\n", "PRETTY_NAME").unwrap(), "Debian");
        let text = "5566-7788 ---p 0 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1024 kB\n\
            Pss_Dirty: 7 kB\nAnonHugePages:   2048 kB\n";
        let memory = Memory { resident: 2_097_152.0, proportional: 1_048_576.0, huge: 2_097_152.0 };
        assert_eq!(Memory::parse(text), memory);
    }

    #[test]
    fn this_machine_has_a_processor_and_a_kernel() {
        let facts = Facts::read();
        assert!(facts.0.iter().any(|(name, fact)| name == "kernel" && fact != "unknown"));
        assert!(facts.0.iter().any(|(name, fact)| name == "processor" && fact.contains("family")));
    }
}
