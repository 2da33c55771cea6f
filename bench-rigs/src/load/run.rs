//! The run of a load: starts exchanges at their time, asks again, and hands answers on.

use std::{
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{
    Mix, Pace, Pacer, Phase, PhaseReport, Spacing, Summary, Work, WrongCapture,
    backoff::{Backoff, Deadlines},
    effort::Effort,
    fleet::{CLIENTS_MAX, Client, Fleet, Step},
    ledger::Ledger,
    memory,
    progress::{Progress, Snapshot},
    report::Tally,
    template::{Phrase, Templates},
    transport::{Backend, Place, Transport},
};
use crate::{
    error::{Result, RigError},
    interrupt,
    message::Lease,
    sys,
};

/// With nothing due sooner, answers are looked for so often.
const WAIT_MAX_US: u64 = 1000;

/// What is due so soon is waited for awake: to wake up takes about as long.
const AWAKE_US: u64 = 60;

/// How long answers are looked for before the generator sleeps: to wake it costs the server.
const LOOK_US: u64 = 50;

/// In a closed loop messages are held back until so many leave together, but no longer than this: whoever is asked for
/// all it can do is not kept waiting by it.
const GATHER: usize = 64;
const GATHER_US: u64 = 40;

/// What a load consists of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients and server are.
    pub place: Place,
    /// How datagrams leave and come in.
    pub backend: Backend,
    /// Number of clients.
    pub clients: u32,
    /// Which population, and which randomness: other seeds have other identities, transactions and times.
    pub seed: u8,
    /// Clients know option 159.
    pub sharing: bool,
    /// When exchanges start.
    pub pace: Pace,
    /// When messages are sent again.
    pub backoff: Backoff,
    /// Ports that must never be leased.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// The only server identifier that may appear; none: the first one that does.
    pub server_id: Option<Ipv4Addr>,
    /// Releases a second where the pace is a window: nothing answers them, so nothing else would hold them back.
    pub release_rate: f64,
    /// What clients do in mixed work.
    pub mix: Mix,
    /// Shows a line while it runs.
    pub progress: bool,
}

/// Talks to a load that runs on another thread.
#[derive(Debug, Default)]
pub struct Control {
    /// Starts nothing new; what is under way is finished. An [interrupt] says the same.
    pub stop: AtomicBool,
    /// ACKs received so far.
    pub acknowledged: AtomicU64,
    /// Those of them that made a lease where there was none: each stands in the log as a record of its own.
    pub bound: AtomicU64,
}

impl Control {
    /// Whether nothing new is to be started.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || interrupt::was_noted()
    }
}

/// Clients, their memory and their sockets.
pub struct Load {
    pub(super) options: Options,
    pub(super) fleet: Fleet,
    pub(super) ledger: Ledger,
    pub(super) transport: Transport,
    templates: Templates,
    pub(super) server: Option<Ipv4Addr>,
    pub(super) unreadable: u64,
    pub(super) wrong: Option<WrongCapture>,
    /// Times are counted from here.
    clock: Instant,
    reports: Vec<PhaseReport>,
    random: fastrand::Rng,
}

/// The state of one phase.
pub(super) struct Running<'c> {
    pub(super) tally: Tally,
    pub(super) control: &'c Control,
    /// A deadline counts only while it is still its client's.
    deadlines: Deadlines,
    pacer: Pacer,
    pub(super) under_way: usize,
    wanted: u64,
    /// Since when messages have been held back to leave together, if they may be.
    gathers: bool,
    gathering_since: Option<u64>,
}

impl Load {
    /// Makes the clients and opens their sockets, in the network namespace of the calling thread.
    pub fn new(options: Options) -> Result<Self> {
        if options.clients == 0 || options.clients > CLIENTS_MAX {
            return Err(RigError::unexpected(format!(
                "{} clients: expected 1 to {CLIENTS_MAX}",
                options.clients
            )));
        }
        let mut random = fastrand::Rng::with_seed(options.seed.into());
        let mut ledger = Ledger::new(options.reserved.clone());
        ledger.reserve(options.clients as usize);
        Ok(Self {
            fleet: Fleet::new(options.clients, options.seed, random.u32(..)),
            ledger,
            transport: Transport::open(&options.place, &options.backend)?,
            templates: Templates::new(
                options.seed,
                options.sharing,
                options.place.relay.clone(),
                options.place.sources.len(),
            ),
            server: options.server_id,
            unreadable: 0,
            wrong: None,
            clock: Instant::now(),
            reports: Vec::new(),
            random,
            options,
        })
    }

    /// Sets when exchanges of the next phases start.
    pub fn set_pace(&mut self, pace: Pace) {
        self.options.pace = pace;
    }

    /// Sets when messages of the next phases are sent again.
    pub fn set_backoff(&mut self, backoff: Backoff) {
        self.options.backoff = backoff;
    }

    /// From now on every wrong answer goes into this capture.
    pub fn capture_wrong(&mut self, capture: WrongCapture) {
        self.wrong = Some(capture);
    }

    /// The capture of wrong answers, with all that is in it written.
    pub fn wrong(&mut self) -> Result<Option<&WrongCapture>> {
        if let Some(capture) = &mut self.wrong {
            capture.flush()?;
        }
        Ok(self.wrong.as_ref())
    }

    /// Clients that hold no lease.
    pub fn vacant(&self) -> u32 {
        self.fleet.vacant()
    }

    /// The time, in microseconds since the load was made.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A time of ours as others count it.
    pub(super) fn instant(&self, at_us: u64) -> Instant {
        self.clock + Duration::from_micros(at_us)
    }

    /// Gives the clients the leases of an earlier run.
    pub fn recall(&mut self, path: &Path) -> Result<()> {
        let (seed, leases) = memory::load(path)?;
        if seed != self.fleet.seed() {
            let ours = self.fleet.seed();
            let path = path.display();
            return Err(RigError::unexpected(format!(
                "{path} holds the leases of seed {seed}, but these clients are of seed {ours}"
            )));
        }
        let now = self.clock;
        for (number, lease) in leases {
            let count = self.fleet.len();
            let client = self.fleet.get_mut(number).ok_or_else(|| {
                RigError::unexpected(format!("{}: client {number} of {count}", path.display()))
            })?;
            client.hold(&lease);
            self.ledger.acknowledge(number, &lease, now);
        }
        Ok(())
    }

    /// Writes the leases that the clients hold.
    pub fn save(&self, path: &Path) -> Result<()> {
        memory::save(path, self.fleet.seed(), self.fleet.leases())
    }

    /// What the clients were told.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The leases that clients hold, with the clients' numbers.
    pub fn leases(&self) -> impl Iterator<Item = (u32, Lease)> {
        self.fleet.leases()
    }

    /// All that was found so far.
    pub fn summary(&self) -> Summary {
        let refused = self.transport.refused();
        Summary::new(self.reports.clone(), &self.ledger, refused, self.unreadable)
    }

    /// Runs a phase to its end, or until `control` stops it.
    pub fn run(&mut self, phase: Phase, control: &Control) -> Result<PhaseReport> {
        let mut effort = Effort::new();
        let began_us = self.now_us();
        let mut running = self.prepare(phase, control, began_us);
        let mut progress = Progress::new(began_us, self.options.progress);
        let patience_us = 4 * u64::from(self.options.backoff.wait_us(1, &mut self.random));
        let mut stopped: Option<u64> = None;
        let (mut worked, mut last_us, mut busy_us) = (true, began_us, began_us);
        loop {
            let received = self.receive(&mut running)?;
            let now = self.now_us();
            if !worked && received == 0 {
                effort.idle_us += now - last_us;
            }
            last_us = now;
            if control.is_over() {
                running.wanted = running.tally.started;
                let since = *stopped.get_or_insert(now);
                if now - since > patience_us {
                    self.abandon(&mut running);
                }
            }
            let sent = self.start_due(&mut running, now)? + self.send_again(&mut running, now)?;
            let flushed = self.send_gathered(&mut running, now)?;
            running.tally.tick(now);
            if running.under_way == 0 && running.tally.started >= running.wanted {
                break;
            }
            if now >= progress.next_us {
                progress.show(now, &self.snapshot(&running));
            }
            worked = flushed || received + sent > 0;
            if worked {
                busy_us = now;
            } else if now - busy_us >= LOOK_US && running.gathering_since.is_none() {
                self.wait(&running, now)?;
                effort.asleep_us += self.now_us() - now;
            }
        }
        self.transport.flush()?;
        progress.end();
        let now = self.now_us();
        let elapsed = Duration::from_micros(now - began_us);
        let report = running.tally.report(now, elapsed, effort.spent());
        self.reports.push(report.clone());
        Ok(report)
    }

    fn prepare<'c>(&mut self, phase: Phase, control: &'c Control, began_us: u64) -> Running<'c> {
        self.fleet.line_up();
        let (vacant, holding) = (self.fleet.vacant_idle(), self.fleet.holding_idle());
        let able = match phase.work {
            Work::New => vacant,
            Work::Mixed => vacant + holding,
            _ => holding,
        };
        let whatever_fits = if phase.lasts.is_some() { u64::MAX } else { able as u64 };
        let pace = match (phase.work, self.options.pace) {
            (Work::Release, Pace::Closed { .. }) => {
                Pace::Open { rate: self.options.release_rate, spacing: Spacing::Fixed }
            }
            (_, pace) => pace,
        };
        let lasts = phase.lasts.map(|lasts| u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX));
        Running {
            tally: Tally::new(phase.work, began_us),
            control,
            deadlines: Deadlines::new(&self.options.backoff),
            pacer: Pacer::new(&pace, began_us, lasts, self.random.u64(..)),
            under_way: 0,
            wanted: phase.exchanges.unwrap_or(whatever_fits),
            gathers: matches!(pace, Pace::Closed { .. }),
            gathering_since: None,
        }
    }

    /// Sends what was written, unless it is to wait for more. Whether anything may have been sent.
    fn send_gathered(&mut self, running: &mut Running<'_>, now: u64) -> Result<bool> {
        let written = self.transport.gathering();
        if running.gathers && (1..GATHER).contains(&written) {
            let since = *running.gathering_since.get_or_insert(now);
            if now - since < GATHER_US {
                return Ok(false);
            }
        }
        running.gathering_since = None;
        self.transport.flush()?;
        Ok(written > 0)
    }

    /// Waits for answers, but not beyond the next exchange that is due.
    fn wait(&self, running: &Running<'_>, now: u64) -> Result<()> {
        let next = running.pacer.next_us(now).filter(|_| running.tally.started < running.wanted);
        let wait = next.map_or(WAIT_MAX_US, |next| next.saturating_sub(now).min(WAIT_MAX_US));
        let wait = wait.saturating_sub(AWAKE_US);
        if wait > 0 {
            self.transport.wait(Duration::from_micros(wait))?;
        }
        Ok(())
    }

    /// The next client, and what it does: in turn, or at random in mixed work.
    fn choose(&mut self, running: &Running<'_>) -> Option<(u32, Work)> {
        let work = running.tally.work;
        if work != Work::Mixed {
            return Some((self.fleet.take(work != Work::New, None)?, work));
        }
        let (vacant, holding) = (self.fleet.vacant_idle() > 0, self.fleet.holding_idle() > 0);
        let work = self.options.mix.draw(&mut self.random, vacant, holding)?;
        Some((self.fleet.take(work != Work::New, Some(&mut self.random))?, work))
    }

    fn start_due(&mut self, running: &mut Running<'_>, now: u64) -> Result<usize> {
        let mut started = 0;
        while running.tally.started < running.wanted && started < sys::BATCH {
            let Some(scheduled) = running.pacer.due(now, running.under_way) else { break };
            let Some((number, work)) = self.choose(running) else {
                // Everyone able is busy, or nobody is able any more.
                if running.under_way == 0 {
                    running.wanted = running.tally.started;
                }
                break;
            };
            running.pacer.advance();
            self.start(running, number, work, scheduled, now)?;
            started += 1;
        }
        if running.pacer.is_over(now) {
            running.wanted = running.tally.started;
        }
        Ok(started)
    }

    fn start(
        &mut self,
        running: &mut Running<'_>,
        number: u32,
        work: Work,
        scheduled: u64,
        now: u64,
    ) -> Result<()> {
        let Some(client) = self.fleet.get_mut(number) else { return Ok(()) };
        client.round = client.round.wrapping_add(1);
        client.tries = 0;
        client.scheduled_us = wrapped(scheduled);
        client.asked_us = wrapped(scheduled);
        running.tally.begin(now);
        running.under_way += 1;
        client.step = match (work, client.has_lease()) {
            (Work::Release, true) => return self.release(running, number, scheduled, now),
            (Work::Rebind, true) => Step::Rebound,
            (Work::Reboot, true) => Step::Rebooted,
            (_, true) => Step::Renewed,
            (_, false) => Step::Offer,
        };
        self.transmit(running, number, now)
    }

    /// Sends the message that a client's step calls for, and remembers to look after it.
    pub(super) fn transmit(
        &mut self,
        running: &mut Running<'_>,
        number: u32,
        now: u64,
    ) -> Result<()> {
        let xid = self.fleet.xid(number);
        let Some(client) = self.fleet.get_mut(number) else { return Ok(()) };
        client.tries = client.tries.saturating_add(1);
        let wait = self.options.backoff.wait_us(client.tries.into(), &mut self.random);
        let deadline = now + u64::from(wait);
        client.deadline_us = wrapped(deadline);
        let phrase = match client.step {
            Step::Idle => return Ok(()),
            Step::Offer => Phrase::Discover,
            Step::Selected => Phrase::Select,
            Step::Renewed => Phrase::Renew,
            Step::Rebound => Phrase::Rebind,
            Step::Rebooted => Phrase::Reboot,
        };
        let known = client.known();
        running.deadlines.push(deadline, number);
        let templates = &mut self.templates;
        self.transport
            .send(number, |buffer| templates.write(buffer, phrase, number, xid, known.as_ref()))
    }

    /// Gives a lease up. Nothing answers, so that is all.
    fn release(
        &mut self,
        running: &mut Running<'_>,
        number: u32,
        scheduled: u64,
        now: u64,
    ) -> Result<()> {
        let xid = self.fleet.xid(number);
        let held = self.fleet.get_mut(number).and_then(Client::give_up);
        if let Some(lease) = &held {
            self.ledger.forget(number, lease);
        }
        self.rest(running, number);
        running.tally.complete(micros_between(wrapped(scheduled), now));
        let templates = &mut self.templates;
        self.transport.send(number, |buffer| {
            templates.write(buffer, Phrase::Release, number, xid, held.as_ref())
        })
    }

    /// A client has nothing under way any more.
    pub(super) fn rest(&mut self, running: &mut Running<'_>, number: u32) {
        running.under_way -= 1;
        self.fleet.rest(number);
    }

    fn send_again(&mut self, running: &mut Running<'_>, now: u64) -> Result<usize> {
        let mut sent = 0;
        while sent < sys::BATCH
            && let Some((due, number)) = running.deadlines.pop_due(now)
        {
            let Some(client) = self.fleet.get_mut(number) else { continue };
            if client.step == Step::Idle || client.deadline_us != wrapped(due) {
                continue;
            }
            if self.options.backoff.is_exhausted(client.tries.into()) {
                self.rest(running, number);
                running.tally.unanswered += 1;
                continue;
            }
            running.tally.retransmitted += 1;
            self.transmit(running, number, now)?;
            sent += 1;
        }
        Ok(sent)
    }

    /// Gives up all that is under way.
    fn abandon(&mut self, running: &mut Running<'_>) {
        while let Some((_, number)) = running.deadlines.pop() {
            if self.fleet.get(number).is_some_and(|client| client.step != Step::Idle) {
                self.rest(running, number);
                running.tally.unanswered += 1;
            }
        }
    }

    fn snapshot(&self, running: &Running<'_>) -> Snapshot {
        let tally = &running.tally;
        Snapshot {
            phase: tally.work,
            completed: tally.completed,
            wanted: (running.wanted < u64::MAX).then_some(running.wanted),
            under_way: running.under_way,
            unanswered: tally.unanswered,
            refused: tally.refused,
            retransmitted: tally.retransmitted,
            p99_us: tally.p99_us(),
            leases: self.ledger.len(),
            violations: self.ledger.violation_count(),
        }
    }
}

/// A time as clients remember it.
pub(super) fn wrapped(at_us: u64) -> u32 {
    u32::try_from(at_us & u64::from(u32::MAX)).unwrap_or_default()
}

/// Microseconds from a time that a client remembers to a later one less than 71 minutes after it; 0 if it is earlier,
/// by at most half of that.
pub(super) fn micros_between(from_us: u32, until_us: u64) -> u32 {
    let between = wrapped(until_us).wrapping_sub(from_us);
    if between.cast_signed() < 0 && between.cast_signed() > -1_000_000 { 0 } else { between }
}
