//! What a server costs: processor time of its processes, and of the softirqs in which the kernel works for it.

use std::{fs, time::Duration};

use crate::error::{Doing as _, Result};

/// Processor time up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of all threads of the processes.
    pub processes: Duration,
    /// In softirqs, on all cores, for whomever.
    pub softirq: Duration,
}

impl Usage {
    /// Reads it for these processes.
    pub fn of(processes: &[u32]) -> Result<Self> {
        let mut usage = Self { softirq: softirq()?, ..Self::default() };
        for process in processes {
            usage.processes += threads(*process)?;
        }
        Ok(usage)
    }

    /// What was used between two moments.
    #[must_use]
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            processes: self.processes.saturating_sub(before.processes),
            softirq: self.softirq.saturating_sub(before.softirq),
        }
    }
}

/// Time that the threads of a process have run, to the nanosecond.
fn threads(process: u32) -> Result<Duration> {
    let folder = format!("/proc/{process}/task");
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(&folder).doing(&folder)? {
        let path = thread.doing(&folder)?.path().join("schedstat");
        let text = fs::read_to_string(&path).doing(path.display())?;
        let run = text.split_whitespace().next().and_then(|word| word.parse().ok());
        sum += Duration::from_nanos(run.unwrap_or(0));
    }
    Ok(sum)
}

/// Time in softirqs on all cores, in the kernel's ticks of 10 ms.
fn softirq() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").doing("/proc/stat")?;
    let ticks = text
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))
        .and_then(|line| line.split_whitespace().nth(6))
        .and_then(|word| word.parse().ok());
    Ok(Duration::from_millis(10 * ticks.unwrap_or(0)))
}
