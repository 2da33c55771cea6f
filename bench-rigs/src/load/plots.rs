//! The charts of a run: latency over percentile, and rate over time.

use std::{fs, path::Path};

use super::{
    latency::{Interval, LatencyReport},
    report::{PhaseReport, Summary},
};
use crate::{
    error::{Doing as _, Result},
    plot::{Axis, Chart, Line, Scale},
};

/// Writes the charts of a run into a folder, which is made if it is not there: `latency.svg` with the exchanges of all
/// phases, and for each phase its latency by what was answered and its rate over time. Gives the files' names.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write_plots(folder: &Path, title: &str, summary: &Summary) -> Result<Vec<String>> {
    fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
    let mut charts = vec![("latency.svg".to_owned(), latency_of_phases(title, summary))];
    for (number, phase) in (1..).zip(&summary.phases) {
        let name = |what| format!("{number}-{}-{what}.svg", phase.phase);
        charts.push((name("latency"), latency_of_phase(title, phase)));
        charts.push((name("rate"), rate_over_time(title, phase)));
    }
    charts
        .into_iter()
        .map(|(name, chart)| {
            let path = folder.join(&name);
            fs::write(&path, chart.to_svg()).doing(format!("write {}", path.display()))?;
            Ok(name)
        })
        .collect()
}

fn latency_of_phases(title: &str, summary: &Summary) -> Chart {
    let lines = summary.phases.iter().map(|phase| line(&phase.phase, &phase.latency));
    latency_chart(format!("{title}: latency of exchanges"), "all phases".to_owned(), lines)
}

fn latency_of_phase(title: &str, phase: &PhaseReport) -> Chart {
    let whole = std::iter::once(line("exchange", &phase.latency));
    let answers = phase.answers.iter().map(|(name, report)| line(name, report));
    latency_chart(
        format!("{title}: latency of {}", phase.phase),
        subtitle(phase),
        whole.chain(answers),
    )
}

fn latency_chart(title: String, subtitle: String, lines: impl Iterator<Item = Line>) -> Chart {
    Chart {
        title,
        subtitle,
        x: Axis::new("percentile", Scale::Percentile),
        y: Axis::new("latency from when it was due, µs", Scale::Logarithmic),
        lines: lines.filter(|line| !line.points.is_empty()).collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 microseconds")]
fn line(name: &str, report: &LatencyReport) -> Line {
    let points =
        report.distribution.iter().map(|&(percentile, latency)| (percentile, latency as f64));
    Line { name: name.to_owned(), points: points.collect(), dashed: false }
}

/// Picks a count of an interval.
type Count = fn(&Interval) -> u64;

#[expect(clippy::cast_precision_loss, reason = "counts and times of a chart are far below 2^52")]
fn rate_over_time(title: &str, phase: &PhaseReport) -> Chart {
    let timeline = &phase.timeline;
    let length = timeline.interval_us as f64 / 1e6;
    let mut lines = Vec::new();
    let kinds: [(&str, bool, Count); 3] = [
        ("completed", false, |one| one.completed),
        ("started", true, |one| one.started),
        ("sent again", false, |one| one.retransmitted),
    ];
    for (name, dashed, pick) in kinds {
        let points = timeline.intervals.iter().enumerate().map(|(number, one)| {
            let from = number as f64 * length;
            // The last interval ends with the phase.
            let until = (from + length).min(phase.seconds).max(from + length / 10.0);
            (f64::midpoint(from, until), pick(one) as f64 / (until - from))
        });
        let points: Vec<_> = points.collect();
        if name == "completed" || points.iter().any(|&(_, rate)| rate > 0.0) {
            lines.push(Line { name: name.to_owned(), points, dashed });
        }
    }
    Chart {
        title: format!("{title}: rate of {}", phase.phase),
        subtitle: subtitle(phase),
        x: Axis::new("time since the phase began, s", Scale::Linear),
        y: Axis::new("exchanges a second", Scale::Linear),
        lines,
    }
}

fn subtitle(phase: &PhaseReport) -> String {
    let PhaseReport { pace, completed, seconds, unanswered, .. } = phase;
    let lost = if *unanswered > 0 { format!(", {unanswered} unanswered") } else { String::new() };
    let limit = if phase.is_generator_limited() { "; LIMITED BY THE GENERATOR" } else { "" };
    format!("{pace}: {completed} exchanges in {seconds:.2} s{lost}{limit}")
}
