//! What a run found: for people as a table, for programs as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Ledger, Work,
    latency::{AnswerKind, Interval, Latencies, LatencyReport, Recorder, Timeline, by_kind},
    search::Found,
};

/// Version of the JSON: it changes when a field changes its meaning or goes.
pub const SCHEMA: u32 = 3;

/// A generator that was busier than this was the bottleneck, whatever else is said.
pub const BUSY_SHARE_MAX: f64 = 0.95;

/// The generator's own ceiling must exceed the rate by this factor, or the rate tells of the generator.
pub const HEADROOM_MIN: f64 = 1.3;

/// Counts of a phase while it runs.
pub(super) struct Tally {
    pub(super) work: Work,
    pub(super) started: u64,
    pub(super) completed: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    pub(super) retransmitted: u64,
    pub(super) late: u64,
    began_us: u64,
    /// When the last exchange was begun, and how many had been completed by then.
    last_begun: (u64, u64),
    latency: Latencies,
    kinds: [Latencies; AnswerKind::ALL.len()],
    recorder: Recorder,
}

impl Tally {
    /// An empty tally of a phase that begins at `began_us`.
    pub(super) fn new(work: Work, began_us: u64) -> Self {
        Self {
            work,
            started: 0,
            completed: 0,
            refused: 0,
            unanswered: 0,
            retransmitted: 0,
            late: 0,
            began_us,
            last_begun: (began_us, 0),
            latency: Latencies::new(),
            kinds: AnswerKind::ALL.map(|_| Latencies::new()),
            recorder: Recorder::new(began_us),
        }
    }

    /// An exchange is begun.
    pub(super) fn begin(&mut self, now_us: u64) {
        self.started += 1;
        self.last_begun = (now_us, self.completed);
    }

    /// An exchange ended as it should, so long after it was due.
    pub(super) fn complete(&mut self, latency_us: u32) {
        self.completed += 1;
        self.latency.record(latency_us);
    }

    /// An answer came that somebody waited for.
    pub(super) fn answered(&mut self, kind: AnswerKind, latency_us: u32) {
        if let Some(latencies) = self.kinds.get_mut(kind as usize) {
            latencies.record(latency_us);
        }
    }

    /// Time passes: called once a turn of the loop.
    pub(super) fn tick(&mut self, now_us: u64) {
        if now_us >= self.recorder.edge_us {
            let total = self.total();
            self.recorder.close(now_us, total);
        }
    }

    /// Ninety-nine of a hundred exchanges so far took no longer than this.
    pub(super) fn p99_us(&self) -> u64 {
        self.latency.at(0.99)
    }

    fn total(&self) -> Interval {
        Interval {
            started: self.started,
            completed: self.completed,
            retransmitted: self.retransmitted,
        }
    }

    /// What there is to say of the phase, which ended at `now_us`. Of the processor time that the generator spent, the
    /// second figure was of use.
    pub(super) fn report(
        &mut self,
        now_us: u64,
        elapsed: Duration,
        (spent, of_use): (Duration, Duration),
    ) -> PhaseReport {
        let seconds = elapsed.as_secs_f64();
        let (last_us, completed) = self.last_begun;
        let beginning = Duration::from_micros(last_us - self.began_us).as_secs_f64();
        let overall = ratio(self.completed, seconds);
        let busy = (of_use.as_secs_f64() / seconds.max(1e-6)).min(1.0);
        let total = self.total();
        PhaseReport {
            phase: self.work.to_string(),
            pace: String::new(),
            seconds,
            started: self.started,
            completed: self.completed,
            refused: self.refused,
            unanswered: self.unanswered,
            retransmitted: self.retransmitted,
            late: self.late,
            rate: overall.max(ratio(completed, beginning)),
            offered_rate: ratio(self.started, beginning),
            generator_cpu_seconds: spent.as_secs_f64(),
            generator_busy_share: busy,
            generator_ceiling_per_second: if busy > 0.0 { overall / busy } else { 0.0 },
            latency: self.latency.report(),
            answers: by_kind(&self.kinds),
            timeline: self.recorder.finish(now_us, total),
            search: None,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people; counts stay far below 2^52")]
fn ratio(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// One phase of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// What the clients did.
    pub phase: String,
    /// When exchanges started, as on the command line.
    pub pace: String,
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
    /// Completed exchanges per second: of the whole phase, or up to the beginning of its last exchange if that is more.
    /// The time in which lost answers are waited for says nothing of a server's rate.
    pub rate: f64,
    /// Exchanges begun per second, up to the last one.
    pub offered_rate: f64,
    /// Processor time that the generator needed.
    pub generator_cpu_seconds: f64,
    /// Share of its core that the generator used, without the time in which it looked for answers and found none.
    pub generator_busy_share: f64,
    /// Completed exchanges per second that the generator could have done with a core of its own, estimated from this
    /// phase: what it completed, by the time for which it was busy. 0 if it did nothing.
    pub generator_ceiling_per_second: f64,
    /// Latency of whole exchanges, from when they were due.
    pub latency: LatencyReport,
    /// Latency by what was answered.
    pub answers: BTreeMap<String, LatencyReport>,
    /// What happened when.
    pub timeline: Timeline,
    /// The trials, if the phase was a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<Found>,
}

impl PhaseReport {
    /// Whether the figures may tell of the generator instead of the server.
    pub fn is_generator_limited(&self) -> bool {
        self.generator_busy_share >= BUSY_SHARE_MAX
            || (self.generator_ceiling_per_second > 0.0
                && self.generator_ceiling_per_second < HEADROOM_MIN * self.rate)
    }

    /// Share of what was started that had not ended as it should, in percent.
    pub fn loss_percent(&self) -> f64 {
        100.0 * ratio(self.unanswered + self.refused, 1.0) / ratio(self.started.max(1), 1.0)
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this form.
    pub schema: u32,
    /// Version of the generator.
    pub generator_version: String,
    /// What was asked for, in the words of a scenario file.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub scenario: serde_json::Map<String, serde_json::Value>,
    /// Its phases, in order.
    pub phases: Vec<PhaseReport>,
    /// Leases that the clients hold at the end.
    pub leases: usize,
    /// Contradictions, by name.
    pub violations: BTreeMap<String, u64>,
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
        let violations = ledger.violations().map(|(name, count)| (name.to_string(), count));
        Self {
            schema: SCHEMA,
            generator_version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: serde_json::Map::new(),
            phases,
            leases: ledger.len(),
            violations: violations.collect(),
            first_violation: ledger.first_violation().map(str::to_owned),
            send_refused,
            unreadable,
        }
    }

    /// Whether an answer contradicted another one or the protocol.
    pub fn violated(&self) -> bool {
        !self.violations.is_empty()
    }

    /// Exchanges that ended without an answer, apart from those of trials that were to find a limit.
    pub fn unanswered(&self) -> u64 {
        let plain = self.phases.iter().filter(|phase| phase.search.is_none());
        plain.map(|phase| phase.unanswered).sum()
    }

    fn write_phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14} {:<20} {:>10} {:>8} {:>10} {:>8} {:>8} {:>8} {:>9} {:>6} {:>10}",
            "phase",
            "pace",
            "completed",
            "seconds",
            "per second",
            "refused",
            "unansw.",
            "again",
            "late",
            "busy",
            "ceiling"
        )?;
        for phase in &self.phases {
            writeln!(
                f,
                "{:<14} {:<20} {:>10} {:>8.2} {:>10.0} {:>8} {:>8} {:>8} {:>9} {:>5.0}% {:>10.0}",
                phase.phase,
                phase.pace,
                phase.completed,
                phase.seconds,
                phase.rate,
                phase.refused,
                phase.unanswered,
                phase.retransmitted,
                phase.late,
                100.0 * phase.generator_busy_share,
                phase.generator_ceiling_per_second,
            )?;
        }
        Ok(())
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14} {:<12} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
            "latency, us", "of", "count", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"
        )?;
        for phase in &self.phases {
            let whole = std::iter::once(("exchange", &phase.latency));
            let answers = phase.answers.iter().map(|(name, report)| (name.as_str(), report));
            for (name, latency) in whole.chain(answers).filter(|(_, latency)| latency.count > 0) {
                writeln!(
                    f,
                    "{:<14} {:<12} {:>10} {:>9.0} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
                    phase.phase,
                    name,
                    latency.count,
                    latency.mean_us,
                    latency.p50_us,
                    latency.p90_us,
                    latency.p99_us,
                    latency.p999_us,
                    latency.p9999_us,
                    latency.max_us,
                )?;
            }
        }
        Ok(())
    }
}

fn write_search(f: &mut fmt::Formatter<'_>, phase: &str, found: &Found) -> fmt::Result {
    writeln!(
        f,
        "{phase}: {:>10} {:>10} {:>10} {:>8} {:>9} {:>9} {:>6}",
        "offered/s", "started/s", "done/s", "loss", "p50 us", "p99 us", "busy"
    )?;
    for one in &found.trials {
        let verdict = match (one.good, one.generator_limited) {
            (true, _) => "good",
            (false, true) => "the generator was the limit",
            (false, false) => "too high",
        };
        writeln!(
            f,
            "{:width$}  {:>10.0} {:>10.0} {:>10.0} {:>7.3}% {:>9} {:>9} {:>5.0}%  {verdict}",
            "",
            one.rate,
            one.offered,
            one.completed,
            one.loss_percent,
            one.p50_us,
            one.p99_us,
            100.0 * one.generator_busy,
            width = phase.len(),
        )?;
    }
    match found.rate {
        Some(rate) => writeln!(f, "{phase}: highest rate found: {rate:.0} exchanges a second")?,
        None => writeln!(f, "{phase}: no rate was good")?,
    }
    if found.generator_limited {
        writeln!(f, "!!! {phase}: the search ended at what the GENERATOR can do")?;
    }
    Ok(())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_phases(f)?;
        writeln!(f)?;
        self.write_latencies(f)?;
        writeln!(f)?;
        for phase in &self.phases {
            if let Some(found) = &phase.search {
                write_search(f, &phase.phase, found)?;
            } else if phase.is_generator_limited() {
                writeln!(
                    f,
                    "!!! {}: the GENERATOR was the bottleneck ({:.0} % busy, ceiling {:.0}/s for \
                     {:.0}/s): these figures do not tell what the server can do",
                    phase.phase,
                    100.0 * phase.generator_busy_share,
                    phase.generator_ceiling_per_second,
                    phase.rate,
                )?;
            }
        }
        writeln!(f, "leases held: {}", self.leases)?;
        if self.send_refused > 0 {
            writeln!(f, "datagrams that were not sent: {}", self.send_refused)?;
        }
        if self.unreadable > 0 {
            writeln!(f, "answers that were no DHCPv4-response: {}", self.unreadable)?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let mut tally = Tally::new(Work::New, 0);
        for number in 1..=1000 {
            tally.begin(u64::from(number) * 1000 - 1000);
            tally.complete(number);
            tally.answered(AnswerKind::Offer, number / 2);
            tally.tick(u64::from(number) * 1000);
        }
        let report = tally.report(
            1_000_000,
            Duration::from_secs(1),
            (Duration::from_millis(700), Duration::from_millis(500)),
        );
        Summary::new(vec![report], &Ledger::new(Vec::new()), 3, 0)
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let summary = summary();
        let text = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary);
        assert!(text.contains("\"schema\":3") && text.contains("\"offer\""), "{text}");
        let intervals = &summary.phases[0].timeline.intervals;
        assert_eq!(intervals.iter().map(|one| one.completed).sum::<u64>(), 1000);
    }

    #[test]
    fn waiting_for_lost_answers_is_no_part_of_a_rate() {
        let close = |one: f64, other: f64| (one / other - 1.0).abs() < 0.01;
        let idle = (Duration::ZERO, Duration::ZERO);
        let mut tally = Tally::new(Work::New, 5_000_000);
        for number in 0..1000 {
            tally.begin(5_000_000 + number * 1000);
            // The last one's answer is lost, and it asks again in vain.
            if number < 999 {
                tally.complete(300);
            }
        }
        let report = tally.report(10_000_000, Duration::from_secs(5), idle);
        assert!(close(report.rate, 1000.0) && close(report.offered_rate, 1000.0), "{report:?}");
        // All at once: nothing is completed when the last one begins, and the whole phase counts.
        let mut tally = Tally::new(Work::New, 0);
        (0..1000).for_each(|_| tally.begin(10));
        (0..1000).for_each(|_| tally.complete(400));
        let report = tally.report(2_000_000, Duration::from_secs(2), idle);
        assert!(close(report.rate, 500.0), "{report:?}");
    }

    #[test]
    fn the_table_says_loudly_that_the_generator_was_the_bottleneck() {
        let mut summary = summary();
        assert!((summary.phases[0].generator_ceiling_per_second - 2000.0).abs() < 1.0);
        assert!(!summary.to_string().contains("GENERATOR"), "{summary}");
        summary.phases[0].generator_ceiling_per_second = 1299.0;
        assert!(summary.to_string().contains("GENERATOR was the bottleneck"), "{summary}");
        summary.phases[0].generator_ceiling_per_second = 5000.0;
        summary.phases[0].generator_busy_share = 0.95;
        assert!(summary.to_string().contains("GENERATOR was the bottleneck"), "{summary}");
    }
}
