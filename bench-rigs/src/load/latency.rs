//! Latencies of a phase, by what was answered, and what happened when.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies are kept up to ten minutes, to three digits.
const LATENCY_MAX_US: u64 = 600_000_000;

/// Percentiles are listed in steps of this many to each halving of the rest.
const STEPS_PER_HALVING: u32 = 5;

/// What an answer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// OFFER after DISCOVER, from when the exchange was due.
    Offer,
    /// ACK after the REQUEST for an offer, from when the OFFER came.
    Ack,
    /// ACK after a renewal, from when it was due.
    Renewed,
    /// ACK after a rebinding, from when it was due.
    Rebound,
    /// ACK after a restart, from when it was due.
    Rebooted,
    /// NAK after any REQUEST, from when that was due.
    Nak,
}

impl AnswerKind {
    /// All of them.
    pub const ALL: [AnswerKind; 6] =
        [Self::Offer, Self::Ack, Self::Renewed, Self::Rebound, Self::Rebooted, Self::Nak];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Ack => "ack",
            Self::Renewed => "renew-ack",
            Self::Rebound => "rebind-ack",
            Self::Rebooted => "reboot-ack",
            Self::Nak => "nak",
        }
    }
}

impl fmt::Display for AnswerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Latencies of one kind, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        // The bounds are constants that the histogram accepts.
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3);
        Self(histogram.unwrap_or_else(|_| unreachable!("constant bounds")))
    }

    pub(super) fn record(&mut self, latency_us: u32) {
        self.0.saturating_record(u64::from(latency_us).max(1));
    }

    pub(super) fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    pub(super) fn report(&self) -> LatencyReport {
        let distribution = self.0.iter_quantiles(STEPS_PER_HALVING).map(|step| {
            let percentile = rounded(100.0 * step.quantile_iterated_to());
            (percentile, step.value_iterated_to())
        });
        LatencyReport {
            count: self.0.len(),
            mean_us: rounded(self.0.mean()),
            stdev_us: rounded(self.0.stdev()),
            min_us: if self.0.is_empty() { 0 } else { self.0.min() },
            p50_us: self.at(0.5),
            p90_us: self.at(0.9),
            p99_us: self.at(0.99),
            p999_us: self.at(0.999),
            p9999_us: self.at(0.9999),
            max_us: self.0.max(),
            distribution: distribution.take_while(|&(percentile, _)| percentile < 100.0).collect(),
        }
    }
}

/// To six places: more would be noise, and not every reader of JSON brings it back as it was.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Latencies in microseconds, to three digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyReport {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Their standard deviation.
    pub stdev_us: f64,
    /// The fastest.
    pub min_us: u64,
    /// Half of them took no longer than this.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// Ninety-nine of a hundred.
    pub p99_us: u64,
    /// All but one of a thousand.
    pub p999_us: u64,
    /// All but one of ten thousand.
    pub p9999_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// Percentiles below 100 with their latency, closer together towards the slow end.
    pub distribution: Vec<(f64, u64)>,
}

/// Intervals of a timeline at the most; then each two become one.
const INTERVALS_MAX: usize = 600;

/// Length of an interval at the start.
const INTERVAL_US: u64 = 20_000;

/// What happened in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Exchanges begun.
    pub started: u64,
    /// Exchanges that ended as they should.
    pub completed: u64,
    /// Messages sent again.
    pub retransmitted: u64,
}

/// What happened when: counts by interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Length of each interval, in microseconds. The last one may be shorter.
    pub interval_us: u64,
    /// The intervals, from the phase's start.
    pub intervals: Vec<Interval>,
}

/// A timeline in the making, fed with running totals.
#[derive(Debug)]
pub(super) struct Recorder {
    timeline: Timeline,
    seen: Interval,
    began_us: u64,
    /// When the interval in hand ends.
    pub(super) edge_us: u64,
}

impl Recorder {
    pub(super) fn new(began_us: u64) -> Self {
        let timeline = Timeline { interval_us: INTERVAL_US, intervals: Vec::new() };
        let edge_us = began_us + INTERVAL_US;
        Self { timeline, seen: Interval::default(), began_us, edge_us }
    }

    /// Closes the interval in hand and those that passed without a call. `total` counts from the start.
    pub(super) fn close(&mut self, now_us: u64, total: Interval) {
        self.push(total);
        while self.edge_us <= now_us {
            self.timeline.intervals.push(Interval::default());
            self.settle();
        }
    }

    fn push(&mut self, total: Interval) {
        self.timeline.intervals.push(Interval {
            started: total.started - self.seen.started,
            completed: total.completed - self.seen.completed,
            retransmitted: total.retransmitted - self.seen.retransmitted,
        });
        self.seen = total;
        self.settle();
    }

    /// Merges intervals if they have become too many, and sets the next edge.
    fn settle(&mut self) {
        let timeline = &mut self.timeline;
        if timeline.intervals.len() >= INTERVALS_MAX {
            let merged = timeline.intervals.chunks(2).map(|pair| {
                pair.iter().fold(Interval::default(), |sum, one| Interval {
                    started: sum.started + one.started,
                    completed: sum.completed + one.completed,
                    retransmitted: sum.retransmitted + one.retransmitted,
                })
            });
            timeline.intervals = merged.collect();
            timeline.interval_us *= 2;
        }
        let next = timeline.intervals.len() as u64 + 1;
        self.edge_us = self.began_us + next * timeline.interval_us;
    }

    /// The timeline with what is still in hand.
    pub(super) fn finish(&mut self, now_us: u64, total: Interval) -> Timeline {
        if now_us >= self.edge_us {
            self.close(now_us, total);
        }
        if total != self.seen {
            self.push(total);
        }
        self.timeline.clone()
    }
}

/// Reports by the name of what was answered, without those that never were.
pub(super) fn by_kind(kinds: &[Latencies]) -> BTreeMap<String, LatencyReport> {
    let reports = AnswerKind::ALL.iter().zip(kinds);
    let reports = reports.map(|(kind, latencies)| (kind.to_string(), latencies.report()));
    reports.filter(|(_, report)| report.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.report(), LatencyReport::default());
        (1..=10_000).for_each(|latency| latencies.record(latency));
        let report = latencies.report();
        assert_eq!(report.count, 10_000);
        assert!(report.p50_us.abs_diff(5_000) <= 5 && report.p999_us.abs_diff(9_990) <= 10);
        let listed = &report.distribution;
        assert!(listed.len() > 30 && listed.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(listed.iter().all(|&(percentile, _)| percentile < 100.0));
        latencies.record(u32::MAX);
        assert!(latencies.report().max_us >= LATENCY_MAX_US);
    }

    #[test]
    fn a_timeline_loses_nothing_when_it_grows_coarser() {
        let mut recorder = Recorder::new(5);
        let total = |step: u64| Interval { started: 3 * step, completed: step, retransmitted: 0 };
        let mut edges = 0;
        for step in 1..=100_000 {
            let now = 5 + step * 997;
            if now >= recorder.edge_us {
                recorder.close(now, total(step));
                edges += 1;
            }
        }
        let timeline = recorder.finish(5 + 100_000 * 997, total(100_000));
        assert!(timeline.intervals.len() < INTERVALS_MAX && edges > 600);
        assert_eq!(timeline.intervals.iter().map(|one| one.started).sum::<u64>(), 300_000);
        let all: u64 = timeline.interval_us * timeline.intervals.len() as u64;
        assert!((99_700_000..99_700_000 + 2 * timeline.interval_us).contains(&all), "{all}");
        // Full intervals are alike, since the work was steady.
        let middle = timeline.intervals[100].completed;
        assert!(timeline.intervals[50].completed.abs_diff(middle) <= 1);
    }

    #[test]
    fn time_that_passes_without_a_look_leaves_empty_intervals() {
        let mut recorder = Recorder::new(0);
        let total = Interval { started: 1, completed: 0, retransmitted: 0 };
        recorder.close(5 * INTERVAL_US, total);
        let timeline = recorder.finish(5 * INTERVAL_US, total);
        let started: Vec<u64> = timeline.intervals.iter().map(|one| one.started).collect();
        assert_eq!(started, [1, 0, 0, 0, 0]);
    }
}
