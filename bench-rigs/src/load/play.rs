//! The phases of a plan, one after another, and searches among them.

use std::time::Duration;

use super::{
    Amount, Backoff, Control, Load, Pace, Pacing, Phase, PhaseReport, PhaseSpec, Plan, Scene,
    Spacing, Summary, Trial, Work, report::BUSY_SHARE_MAX, search,
};
use crate::error::{Result, RigError};

/// A trial shorter than this says nothing.
const TRIAL_SECONDS_MIN: f64 = 0.2;

/// Share of the clients without a lease that a trial may need: the last ones are hard to find for chance.
const VACANT_SHARE: f64 = 0.95;

impl Scene {
    /// What its clients do.
    pub const fn work(self) -> Work {
        match self {
            Scene::New | Scene::Avalanche => Work::New,
            Scene::Renew => Work::Renew,
            Scene::Rebind => Work::Rebind,
            Scene::Reboot | Scene::RebootStorm => Work::Reboot,
            Scene::Release | Scene::ReleaseStorm => Work::Release,
            Scene::Mixed => Work::Mixed,
        }
    }
}

/// Plays all phases of a plan, or until `control` stops it, and gives what was found.
///
/// # Errors
/// If packets can no longer be sent or received.
pub fn play(plan: &Plan, load: &mut Load, control: &Control) -> Result<Summary> {
    let mut reports = Vec::new();
    for phase in &plan.phases {
        if control.is_over() {
            break;
        }
        let pacing = plan.pacing_of(phase);
        let mut report = match plan.pace(pacing) {
            Some(pace) => play_phase(plan, load, control, phase, pace)?,
            None => find_highest(plan, load, control, phase.scene)?,
        };
        report.phase = phase.scene.to_string();
        report.pace = pacing.to_string();
        reports.push(report);
    }
    let mut summary = load.summary();
    summary.phases = reports;
    let scenario = serde_json::to_value(&plan.scenario).unwrap_or_default();
    if let serde_json::Value::Object(said) = scenario {
        summary.scenario = said.into_iter().filter(|(_, value)| !value.is_null()).collect();
    }
    Ok(summary)
}

fn play_phase(
    plan: &Plan,
    load: &mut Load,
    control: &Control,
    phase: &PhaseSpec,
    pace: Pace,
) -> Result<PhaseReport> {
    load.set_pace(pace);
    load.set_backoff(plan.backoff_of(phase.scene));
    let (exchanges, lasts) = match phase.amount {
        Amount::EachOnce => (None, None),
        Amount::Exchanges(number) => (Some(number), None),
        Amount::Seconds(seconds) => (None, Some(Duration::from_secs_f64(seconds))),
    };
    load.run(Phase { work: phase.scene.work(), exchanges, lasts }, control)
}

/// Searches the highest rate. The report is that of the last good trial, with all trials beside it.
fn find_highest(
    plan: &Plan,
    load: &mut Load,
    control: &Control,
    scene: Scene,
) -> Result<PhaseReport> {
    let mut best: Option<PhaseReport> = None;
    let mut last: Option<PhaseReport> = None;
    let found = search(&plan.search, |rate| {
        if control.is_over() {
            return Err(RigError::unexpected("interrupted in the middle of a search"));
        }
        if scene.work() == Work::New {
            make_room(plan, load, control, rate)?;
        }
        let (trial, report) = try_rate(plan, load, control, scene, rate)?;
        if trial.good {
            best = Some(report);
        } else {
            last = Some(report);
        }
        Ok(trial)
    })?;
    let mut report = match best.or(last) {
        Some(report) => report,
        None => load.run(Phase { work: scene.work(), exchanges: Some(0), lasts: None }, control)?,
    };
    report.search = Some(found);
    Ok(report)
}

/// Lets clients give up their leases if too few are left without one for a trial.
fn make_room(plan: &Plan, load: &mut Load, control: &Control, rate: f64) -> Result<()> {
    let options = &plan.search;
    let needed = rate * (options.trial_seconds + options.warm_up_seconds);
    if f64::from(load.vacant()) * VACANT_SHARE >= needed {
        return Ok(());
    }
    load.set_pace(Pace::Open { rate: plan.options.release_rate, spacing: Spacing::Fixed });
    load.run(Phase { work: Work::Release, exchanges: None, lasts: None }, control)?;
    Ok(())
}

/// Warms up, measures, and judges.
fn try_rate(
    plan: &Plan,
    load: &mut Load,
    control: &Control,
    scene: Scene,
    rate: f64,
) -> Result<(Trial, PhaseReport)> {
    let options = &plan.search;
    let mut run = |seconds: f64, backoff: Backoff| {
        // New leases need clients without one: of a small population a trial is short.
        let room = match scene.work() {
            Work::New => f64::from(load.vacant()) * VACANT_SHARE / rate,
            _ => f64::INFINITY,
        };
        let lasts = seconds.min(room).max(TRIAL_SECONDS_MIN);
        load.set_pace(plan.pace(Pacing::Rate(rate)).unwrap_or(Pace::Burst));
        load.set_backoff(backoff);
        let phase = Phase {
            work: scene.work(),
            exchanges: None,
            lasts: Some(Duration::from_secs_f64(lasts)),
        };
        load.run(phase, control)
    };
    let once = Backoff::Fixed { timeout: plan.late, tries: Some(1) };
    if options.warm_up_seconds > 0.0 {
        run(options.warm_up_seconds, once)?;
    }
    let report = run(options.trial_seconds, once)?;
    let offered = report.offered_rate;
    let generator_limited = offered < 0.97 * rate || report.generator_busy_share >= BUSY_SHARE_MAX;
    let loss_percent = report.loss_percent();
    let trial = Trial {
        rate,
        offered,
        completed: report.rate,
        loss_percent,
        p50_us: report.latency.p50_us,
        p99_us: report.latency.p99_us,
        generator_busy: report.generator_busy_share,
        generator_limited,
        good: report.completed > 0
            && loss_percent <= options.loss_percent
            && offered >= 0.97 * rate,
    };
    Ok((trial, report))
}
