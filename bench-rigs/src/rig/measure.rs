//! One turn of one server: sets the scene, starts it, loads it, and reads what it did and what it cost.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    accounting::Spent,
    contestant::{Contestant, GENERATOR_CORE, SERVER_CORE, Site, Who},
    disk::{self, SyncTime},
    machine::Memory,
};
use crate::{
    daemon,
    error::{Doing as _, Result, RigError},
    interrupt,
    load::{
        Attach, Backend, Backoff, Control, Interval, Load, Mix, Options, Pace, Phase, PhaseReport,
        Place, Spacing, Timeline, Work, XdpPlace,
    },
    null::{self, Datapath, Setup},
    stage::{CLIENT, CLIENT_INTERFACE, SERVER_MAC, Stage},
    sys,
};

/// Figures of one measurement by name, the unit in the name.
pub type Figures = BTreeMap<String, f64>;

/// A measurement: what was measured, and its figures.
pub type Measured = (&'static str, Figures);

/// An unanswered message is sent again after this.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Transmissions of a message before its exchange is given up.
const TRIES: u32 = 4;

/// How long the peak rate is looked for where it is only a means.
const PEAK: Duration = Duration::from_millis(1500);

/// The population of all clients.
pub const SEED: u8 = 1;

/// Exchanges a second of a server that has next to nothing to do.
const IDLE_RATE: f64 = 200.0;

/// How long the disk alone is measured beside a server.
const DISK: Duration = Duration::from_millis(500);

/// A server on a stage of its own, with a folder on the disk, and clients.
pub struct Scene {
    who: Who,
    /// First, so that the sockets are closed before the interfaces go.
    load: Load,
    contestant: Contestant,
    folder: tempfile::TempDir,
    _stage: Stage,
}

impl Scene {
    /// Sets the scene for so many clients, who send a message so often at most.
    pub fn set(who: Who, clients: u32, pace: Pace, tries: u32) -> Result<Self> {
        let stage = Stage::new(1)?;
        let folder = daemon::folder_on_disk("rig-")?;
        let core = Some(SERVER_CORE);
        let site = Site { stage: &stage, folder: folder.path(), clients, core };
        let contestant = Contestant::start(who, site)?;
        let backoff = Backoff::Fixed { timeout: TIMEOUT, tries: Some(tries) };
        let options = Options { backoff, ..options(&stage, who, clients, pace) };
        let load = stage.clients.enter(|| Load::new(options))??;
        Ok(Self { who, load, contestant, folder, _stage: stage })
    }

    /// Lets the clients do one kind of work for so long, and reads what it took.
    fn run(&mut self, work: Work, pace: Pace, duration: Duration) -> Result<(PhaseReport, Spent)> {
        interrupt::check()?;
        self.load.set_pace(pace);
        let before = self.contestant.account().read(SERVER_CORE)?;
        let report = run_for(&mut self.load, work, duration)?;
        if report.completed == 0 {
            let who = self.who;
            return Err(RigError::unexpected(format!(
                "{who} has answered nothing in {duration:?}"
            )));
        }
        let spent = self.contestant.account().read(SERVER_CORE)?.since(&before);
        Ok((report, spent))
    }

    /// The new leases a second that it can do, with a closed loop.
    fn peak(&mut self, window: usize) -> Result<f64> {
        Ok(self.run(Work::New, Pace::Closed { window }, PEAK)?.0.rate)
    }

    /// Fails if the server has contradicted itself or the protocol.
    fn end(self) -> Result<()> {
        let summary = self.load.summary();
        if summary.violated() {
            let who = self.who;
            return Err(RigError::unexpected(format!("{who} has broken promises:\n{summary}")));
        }
        Ok(())
    }
}

/// What the clients of a rig are.
pub fn options(stage: &Stage, who: Who, clients: u32, pace: Pace) -> Options {
    Options {
        place: Place {
            server: stage.unicast(),
            sources: vec![CLIENT],
            foreign: false,
            interface: None,
            relay: None,
        },
        backend: Backend::Xdp(XdpPlace {
            interface: CLIENT_INTERFACE.to_owned(),
            attach: Attach::Auto,
            transmit: who.transmit(),
            server_mac: Some(SERVER_MAC),
            queues: None,
        }),
        clients,
        seed: SEED,
        sharing: who.shares(),
        pace,
        backoff: Backoff::Fixed { timeout: TIMEOUT, tries: Some(TRIES) },
        reserved: vec![0..=1023],
        server_id: None,
        release_rate: 10_000.0,
        mix: Mix::default(),
        progress: false,
    }
}

/// Runs a phase until its time is over; what is under way then is finished. Fails if it was interrupted.
fn run_for(load: &mut Load, work: Work, duration: Duration) -> Result<PhaseReport> {
    let phase = Phase { work, exchanges: None, lasts: Some(duration) };
    let report = load.run(phase, &Control::default())?;
    interrupt::check()?;
    Ok(report)
}

/// Exchanges in a closed loop: new leases, then renewals, each for so many seconds.
pub fn exchanges(who: Who, window: usize, seconds: f64) -> Result<Vec<Measured>> {
    if let Who::Echo(datapath) = who {
        return echo(datapath, window, seconds).map(|figures| vec![("packets", figures)]);
    }
    let mut scene = Scene::set(who, clients_for(who, seconds), Pace::Closed { window }, TRIES)?;
    let pace = Pace::Closed { window };
    let duration = Duration::from_secs_f64(seconds);
    let (new, new_spent) = scene.run(Work::New, pace, duration)?;
    let (renew, renew_spent) = scene.run(Work::Renew, pace, duration)?;
    scene.end()?;
    let figures = |report: &PhaseReport, spent| {
        let mut figures = exchange_figures(report, spent);
        figures.insert("window".to_owned(), number(window as u64));
        // The clients ran out before the time was over.
        let is_short = report.seconds < 0.98 * seconds;
        figures.insert("ran_out".to_owned(), f64::from(u8::from(is_short)));
        figures
    };
    Ok(vec![("new", figures(&new, new_spent)), ("renew", figures(&renew, renew_spent))])
}

/// Clients for a closed loop of new leases that lasts so long.
fn clients_for(who: Who, seconds: f64) -> u32 {
    clients(who.clients_per_second() * seconds)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn clients(wanted: f64) -> u32 {
    wanted.clamp(10_000.0, 10_000_000.0) as u32
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

fn exchange_figures(report: &PhaseReport, spent: Spent) -> Figures {
    let each = |microseconds: f64| microseconds / number(report.completed.max(1));
    let ceiling = report.generator_ceiling_per_second;
    let figures = [
        ("rate", report.rate),
        ("completed", number(report.completed)),
        ("offered", report.offered_rate),
        ("threads_us", each(spent.threads_us)),
        ("user_us", each(spent.user_us)),
        ("kernel_us", each(spent.threads_us - spent.user_us)),
        ("beside_us", each(spent.beside_us)),
        ("cpu_us", each(spent.threads_us + spent.beside_us)),
        ("softirq_sampled_us", each(spent.softirq_us)),
        ("busy_share", spent.busy_share),
        ("generator_ceiling", ceiling),
        ("generator_margin", ceiling / report.rate.max(1.0)),
        ("retransmitted", number(report.retransmitted)),
        ("unanswered", number(report.unanswered)),
        ("refused", number(report.refused)),
        ("p50_us", number(report.latency.p50_us)),
        ("p90_us", number(report.latency.p90_us)),
        ("p99_us", number(report.latency.p99_us)),
        ("p999_us", number(report.latency.p999_us)),
    ];
    named(&figures)
}

fn named(figures: &[(&str, f64)]) -> Figures {
    figures.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

/// Packets thrown back and forth.
fn echo(datapath: Datapath, window: usize, seconds: f64) -> Result<Figures> {
    let stage = Stage::new(1)?;
    let folder = daemon::folder_on_disk("rig-")?;
    let core = Some(SERVER_CORE);
    let site = Site { stage: &stage, folder: folder.path(), clients: 1, core };
    let contestant = Contestant::start(Who::Echo(datapath), site)?;
    let setup = Setup { interface: CLIENT_INTERFACE.to_owned(), listen: CLIENT, datapath };
    let before = contestant.account().read(SERVER_CORE)?;
    let duration = Duration::from_secs_f64(seconds);
    let bounced = stage.clients.enter(|| null::bounce(&setup, window, duration))??;
    let spent = contestant.account().read(SERVER_CORE)?.since(&before);
    let packets = number(bounced.packets.max(1));
    Ok(named(&[
        ("rate", packets / bounced.seconds),
        ("cpu_us", (spent.threads_us + spent.beside_us) / packets),
        ("user_us", spent.user_us / packets),
        ("busy_share", spent.busy_share),
        ("frame_octets", number(bounced.frame_octets as u64)),
        ("window", number(window as u64)),
    ]))
}

/// Latency of new leases at half of the peak rate that the same server has just shown, and when there is next to
/// nothing to do, with the disk's own sync time before and after.
pub fn latency(who: Who, window: usize, seconds: f64) -> Result<Vec<Measured>> {
    let all = clients_for(who, PEAK.as_secs_f64() + seconds / 2.0);
    let mut scene = Scene::set(who, all, Pace::Closed { window }, TRIES)?;
    let idle = Pace::Open { rate: IDLE_RATE, spacing: Spacing::Poisson };
    let (idle, idle_spent) = scene.run(Work::New, idle, PEAK)?;
    let peak = scene.peak(window)?;
    let before = disk::sync_time(scene.folder.path(), DISK)?;
    let half = Pace::Open { rate: peak / 2.0, spacing: Spacing::Poisson };
    let (busy, spent) = scene.run(Work::New, half, Duration::from_secs_f64(seconds))?;
    let after = disk::sync_time(scene.folder.path(), DISK)?;
    scene.end()?;
    let figures = |report, spent| {
        let mut figures = exchange_figures(report, spent);
        add_sync(&mut figures, before, after);
        figures.insert("peak".to_owned(), peak);
        figures
    };
    Ok(vec![("half", figures(&busy, spent)), ("idle", figures(&idle, idle_spent))])
}

fn add_sync(figures: &mut Figures, before: SyncTime, after: SyncTime) {
    let p50 = f64::midpoint(before.p50_us, after.p50_us);
    let p99 = f64::midpoint(before.p99_us, after.p99_us);
    figures.insert("sync_p50_us".to_owned(), p50);
    figures.insert("sync_p99_us".to_owned(), p99);
}

/// New leases while twice the peak rate is offered, by clients that do not ask again.
pub fn overload(who: Who, window: usize, seconds: f64) -> Result<Vec<Measured>> {
    let all = clients_for(who, PEAK.as_secs_f64() + 2.0 * seconds);
    let mut scene = Scene::set(who, all, Pace::Closed { window }, 1)?;
    let peak = scene.peak(window)?;
    let processes = scene.contestant.account().processes().to_vec();
    let before = Memory::of(&processes)?;
    let double = Pace::Open { rate: 2.0 * peak, spacing: Spacing::Poisson };
    let (report, spent) = scene.run(Work::New, double, Duration::from_secs_f64(seconds))?;
    let after = Memory::of(&processes)?;
    scene.end()?;
    let mut figures = exchange_figures(&report, spent);
    // What is answered after the last exchange was begun, or waited for in vain, is no part of the rate.
    let (offering, within) = within(&report.timeline, seconds.min(report.seconds));
    let completed = number(within.completed) / offering;
    let more = [
        ("peak", peak),
        ("rate", completed),
        ("offered", number(within.started) / offering),
        ("kept_share", completed / peak),
        ("offered_share", number(within.started) / offering / peak),
        ("late", number(report.completed - within.completed)),
        // It was busy while it offered, and idle while it waited for what was lost.
        ("generator_busy", (report.generator_busy_share * report.seconds / offering).min(1.0)),
        ("resident_before", before.resident),
        ("resident_after", after.resident),
    ];
    figures.extend(named(&more));
    Ok(vec![("double", figures)])
}

/// The whole intervals of a timeline within so many seconds from its start: how long they are, and what happened in
/// them.
fn within(timeline: &Timeline, seconds: f64) -> (f64, Interval) {
    let length = Duration::from_micros(timeline.interval_us).as_secs_f64();
    let mut sum = Interval::default();
    let mut covered = 0.0;
    for interval in &timeline.intervals {
        if covered + length > seconds + length / 2.0 {
            break;
        }
        covered += length;
        sum.started += interval.started;
        sum.completed += interval.completed;
        sum.retransmitted += interval.retransmitted;
    }
    (covered.max(length), sum)
}

/// The window of these with the highest rate of new leases, or of packets of an echo, by a short trial of each.
pub fn best_window(who: Who, windows: &[usize], seconds: f64) -> Result<usize> {
    let mut best = (0.0, windows.first().copied().unwrap_or(1));
    if windows.len() < 2 {
        return Ok(best.1);
    }
    for &window in windows {
        let measured = exchanges(who, window, seconds)?;
        // A server that loses requests is no faster for it.
        let rate = measured.first().and_then(|(_, figures)| figures.get("rate").copied());
        if let Some(rate) = rate.filter(|&rate| rate > best.0) {
            best = (rate, window);
        }
    }
    Ok(best.1)
}

/// Binds the generator, which is this thread, to its core.
pub fn take_place() -> Result<()> {
    sys::pin(GENERATOR_CORE).doing(format!("bind to core {GENERATOR_CORE}"))
}

/// A folder for a server's files, on the disk that holds this program.
pub fn folder() -> Result<tempfile::TempDir> {
    daemon::folder_on_disk("rig-")
}

/// The disk's sync time, for the report.
pub fn disk_alone(folder: &Path) -> Result<SyncTime> {
    disk::sync_time(folder, DISK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_late_is_no_part_of_a_rate() {
        let interval = |started, completed| Interval { started, completed, retransmitted: 0 };
        let intervals = vec![interval(10, 5), interval(10, 8), interval(0, 6), interval(0, 1)];
        let timeline = Timeline { interval_us: 20_000, intervals };
        let (seconds, sum) = within(&timeline, 0.041);
        assert_eq!((sum.started, sum.completed), (20, 13));
        assert!((seconds - 0.04).abs() < 1e-9);
    }
}
