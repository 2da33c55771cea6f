//! What a run found: a table for people, JSON for programs.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Ledger, Work};

/// Latencies are kept in microseconds up to a minute, to three digits.
const LATENCY_MAX: u64 = 60_000_000;

/// Counts of a phase while it runs.
pub(super) struct Tally {
    pub(super) work: Work,
    pub(super) started: u64,
    pub(super) completed: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    pub(super) retransmitted: u64,
    pub(super) late: u64,
    pub(super) latency: Histogram<u64>,
}

impl Tally {
    pub(super) fn new(work: Work) -> Self {
        // The bounds are constants that the histogram accepts; the fallback has none.
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX, 3)
            .unwrap_or_else(|_| unreachable!("constant bounds"));
        Self {
            work,
            started: 0,
            completed: 0,
            refused: 0,
            unanswered: 0,
            retransmitted: 0,
            late: 0,
            latency,
        }
    }

    pub(super) fn complete(&mut self, latency: Duration) {
        self.completed += 1;
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX));
    }

    pub(super) fn report(&self, elapsed: Duration, generator: Duration) -> PhaseReport {
        let at = |quantile| self.latency.value_at_quantile(quantile);
        let seconds = elapsed.as_secs_f64();
        PhaseReport {
            phase: self.work.to_string(),
            seconds,
            started: self.started,
            completed: self.completed,
            refused: self.refused,
            unanswered: self.unanswered,
            retransmitted: self.retransmitted,
            late: self.late,
            rate: ratio(self.completed, seconds),
            generator_cpu_seconds: generator.as_secs_f64(),
            latency_us_p50: at(0.5),
            latency_us_p90: at(0.9),
            latency_us_p99: at(0.99),
            latency_us_p999: at(0.999),
            latency_us_max: self.latency.max(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people; counts stay far below 2^52")]
fn ratio(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// One phase of a run.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// The kind of work.
    pub phase: String,
    /// How long it took.
    pub seconds: f64,
    /// Exchanges begun.
    pub started: u64,
    /// Exchanges that ended as they should; a release ends when it is sent.
    pub completed: u64,
    /// Exchanges that ended in a NAK.
    pub refused: u64,
    /// Exchanges without an answer after all tries.
    pub unanswered: u64,
    /// Messages sent again.
    pub retransmitted: u64,
    /// Answers to what nobody waits for any more: to a retransmitted message, or a second server's.
    pub late: u64,
    /// Completed exchanges per second.
    pub rate: f64,
    /// Processor time that this generator needed.
    pub generator_cpu_seconds: f64,
    /// Half of the exchanges took no longer than this, in microseconds from when they were due.
    pub latency_us_p50: u64,
    /// Nine of ten.
    pub latency_us_p90: u64,
    /// Ninety-nine of a hundred.
    pub latency_us_p99: u64,
    /// All but one of a thousand.
    pub latency_us_p999: u64,
    /// The slowest.
    pub latency_us_max: u64,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Its phases, in order.
    pub phases: Vec<PhaseReport>,
    /// Leases that the clients hold at the end.
    pub leases: usize,
    /// Contradictions, by name.
    pub violations: Vec<(String, u64)>,
    /// The first of them, in words.
    pub first_violation: Option<String>,
    /// Datagrams that the kernel of the generator refused to send.
    pub send_refused: u64,
    /// Datagrams received that were no DHCPv4-response.
    pub unreadable: u64,
}

impl Summary {
    pub(super) fn new(
        phases: Vec<PhaseReport>,
        ledger: &Ledger,
        send_refused: u64,
        unreadable: u64,
    ) -> Self {
        Self {
            phases,
            leases: ledger.len(),
            violations: ledger
                .violations()
                .map(|(name, count)| (name.to_string(), count))
                .collect(),
            first_violation: ledger.first_violation().map(str::to_owned),
            send_refused,
            unreadable,
        }
    }

    /// Whether an answer contradicted another one or the protocol.
    pub fn violated(&self) -> bool {
        !self.violations.is_empty()
    }

    /// Exchanges that ended without an answer.
    pub fn unanswered(&self) -> u64 {
        self.phases.iter().map(|phase| phase.unanswered).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:>10} {:>8} {:>10} {:>7} {:>8} {:>7} {:>8} {:>8} {:>8} {:>8}",
            "phase",
            "completed",
            "seconds",
            "per second",
            "refused",
            "unansw.",
            "again",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "max us",
        )?;
        for phase in &self.phases {
            writeln!(
                f,
                "{:<8} {:>10} {:>8.2} {:>10.0} {:>7} {:>8} {:>7} {:>8} {:>8} {:>8} {:>8}",
                phase.phase,
                phase.completed,
                phase.seconds,
                phase.rate,
                phase.refused,
                phase.unanswered,
                phase.retransmitted,
                phase.latency_us_p50,
                phase.latency_us_p99,
                phase.latency_us_p999,
                phase.latency_us_max,
            )?;
        }
        writeln!(f, "leases held: {}", self.leases)?;
        if self.violations.is_empty() {
            writeln!(f, "violations: none")?;
        }
        for (name, count) in &self.violations {
            writeln!(f, "VIOLATION {name}: {count}")?;
        }
        if let Some(first) = &self.first_violation {
            writeln!(f, "the first: {first}")?;
        }
        Ok(())
    }
}
