//! What a run shows of itself while it goes on: one line that overwrites itself, or a line a second in a log.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
};

use super::Work;

/// Between two lines on a terminal, and in a log.
const TERMINAL_US: u64 = 200_000;
const LOG_US: u64 = 1_000_000;

/// Columns of a line on a terminal, so that it does not wrap.
const COLUMNS: usize = 118;

/// What a line says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub(super) phase: Work,
    pub(super) completed: u64,
    pub(super) wanted: Option<u64>,
    pub(super) under_way: usize,
    pub(super) unanswered: u64,
    pub(super) refused: u64,
    pub(super) retransmitted: u64,
    pub(super) p99_us: u64,
    pub(super) leases: usize,
    pub(super) violations: u64,
}

/// Shows the progress of one phase on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    began_us: u64,
    pub(super) next_us: u64,
    last: (u64, u64),
    shown: bool,
}

impl Progress {
    /// Progress that is shown (or never) from `now_us` on.
    pub(super) fn new(now_us: u64, wanted: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let step = if terminal { TERMINAL_US } else { LOG_US };
        let next_us = if wanted { now_us + step } else { u64::MAX };
        Self { terminal, began_us: now_us, next_us, last: (now_us, 0), shown: false }
    }

    /// Shows a line, and when the next one is due.
    pub(super) fn show(&mut self, now_us: u64, snapshot: &Snapshot) {
        let line = self.line(now_us, snapshot);
        let mut out = std::io::stderr().lock();
        // Nothing can be done about a standard error that is gone.
        let _ = if self.terminal {
            let cut: String = line.chars().take(COLUMNS).collect();
            write!(out, "\r\x1b[K{cut}").and_then(|()| out.flush())
        } else {
            writeln!(out, "{line}")
        };
        self.shown = true;
        self.last = (now_us, snapshot.completed);
        self.next_us = now_us + if self.terminal { TERMINAL_US } else { LOG_US };
    }

    fn line(&self, now_us: u64, snapshot: &Snapshot) -> String {
        let (then_us, then) = self.last;
        let rate = snapshot.completed.saturating_sub(then) * 1_000_000 / (now_us - then_us).max(1);
        let of = snapshot.wanted.map_or(String::new(), |wanted| format!(" of {wanted}"));
        let seconds = (now_us - self.began_us) / 100_000;
        let mut line = format!(
            "{:>4}.{} s  {}: {}{of} done, {rate}/s, p99 {} us, {} under way, {} leases",
            seconds / 10,
            seconds % 10,
            snapshot.phase,
            snapshot.completed,
            snapshot.p99_us,
            snapshot.under_way,
            snapshot.leases,
        );
        let troubles = [
            (snapshot.violations, "VIOLATIONS"),
            (snapshot.retransmitted, "sent again"),
            (snapshot.unanswered, "unanswered"),
            (snapshot.refused, "refused"),
        ];
        for (count, what) in troubles.into_iter().filter(|&(count, _)| count > 0) {
            let _ = write!(line, ", {count} {what}");
        }
        line
    }

    /// Takes the line away from a terminal: what follows is the result.
    pub(super) fn end(&mut self) {
        if self.terminal && self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rate_since_the_last_and_troubles_only_if_there_are_some() {
        let mut progress = Progress::new(1_000_000, true);
        let snapshot = Snapshot {
            phase: Work::New,
            completed: 600,
            wanted: Some(1000),
            under_way: 100,
            unanswered: 0,
            refused: 0,
            retransmitted: 7,
            p99_us: 250,
            leases: 600,
            violations: 0,
        };
        progress.last = (2_000_000, 100);
        let line = progress.line(3_000_000, &snapshot);
        assert!(line.contains("2.0 s  new: 600 of 1000 done, 500/s, p99 250 us"), "{line}");
        assert!(line.contains("7 sent again") && !line.contains("unanswered"), "{line}");
        assert_eq!(Progress::new(0, false).next_us, u64::MAX);
    }
}
