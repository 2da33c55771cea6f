//! The run of a load: starts exchanges at their time, answers answers, asks again, and checks everything.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use portlease::wire::dhcpv4::MessageType;

use super::{
    Phase, PhaseReport, Summary, Work,
    fleet::{CLIENTS_MAX, Fleet, Step},
    ledger::{Ledger, Violation},
    memory,
    report::Tally,
    speech,
    transport::{Backend, Place, Transport, Written},
};
use crate::{
    error::{Result, RigError},
    message::{Answer, Lease, Message},
    sys,
};

/// When exchanges start.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as fewer than this many are under way.
    Closed {
        /// Exchanges under way at a time.
        window: usize,
    },
    /// At a steady rate, whether or not earlier ones have ended; latencies count from when an exchange was due.
    Open {
        /// Exchanges a second.
        rate: f64,
        /// Even so no more than this many under way at a time.
        window: usize,
    },
}

/// What a load consists of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients and server are.
    pub place: Place,
    /// How datagrams leave and come in.
    pub backend: Backend,
    /// Number of clients.
    pub clients: u32,
    /// Which population: other seeds have other identities.
    pub seed: u8,
    /// Clients know option 159.
    pub sharing: bool,
    /// When exchanges start.
    pub pace: Pace,
    /// How long a message waits for its answer before it is sent again.
    pub timeout: Duration,
    /// Transmissions of a message before its exchange is given up; none: never.
    pub tries: Option<u32>,
    /// Ports that must never be leased.
    pub reserved: Vec<RangeInclusive<u16>>,
    /// The only server identifier that may appear; none: the first one that does.
    pub server_id: Option<Ipv4Addr>,
    /// Releases a second; nothing answers them, so nothing else holds them back.
    pub release_rate: f64,
    /// In mixed work, the share of extensions among what clients with a lease do; the others release.
    pub renew_share: f64,
    /// Prints a line a second.
    pub progress: bool,
}

/// Talks to a load that runs on another thread.
#[derive(Debug, Default)]
pub struct Control {
    /// Starts nothing new; what is under way is finished.
    pub stop: AtomicBool,
    /// ACKs received so far.
    pub acknowledged: AtomicU64,
    /// Those of them that made a lease where there was none: each stands in the log as a record of its own.
    pub bound: AtomicU64,
}

/// Clients, their memory and their sockets.
pub struct Load {
    options: Options,
    fleet: Fleet,
    ledger: Ledger,
    transport: Transport,
    server: Option<Ipv4Addr>,
    reports: Vec<PhaseReport>,
    unreadable: u64,
}

/// The state of one phase.
struct Running<'c> {
    tally: Tally,
    control: &'c Control,
    /// Deadlines of messages, in order. One counts only while it is still its client's.
    overdue: VecDeque<(Instant, u32)>,
    under_way: usize,
    wanted: u64,
    cursor: u32,
    began: Instant,
}

impl Running<'_> {
    /// When the next exchange is due at this rate.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn due(&self, rate: f64) -> Instant {
        self.began + Duration::from_secs_f64(self.tally.started as f64 / rate)
    }
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
        Ok(Self {
            fleet: Fleet::new(options.clients, options.seed, Instant::now()),
            ledger: Ledger::new(options.reserved.clone()),
            transport: Transport::open(&options.place, &options.backend)?,
            server: options.server_id,
            reports: Vec::new(),
            unreadable: 0,
            options,
        })
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
        let now = Instant::now();
        for (number, lease) in leases {
            let count = self.fleet.len();
            let client = self.fleet.get_mut(number).ok_or_else(|| {
                RigError::unexpected(format!("{}: client {number} of {count}", path.display()))
            })?;
            client.lease = Some(lease);
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
    pub fn leases(&self) -> impl Iterator<Item = (u32, &Lease)> {
        self.fleet.leases()
    }

    /// All that was found so far.
    pub fn summary(&self) -> Summary {
        let refused = self.transport.refused();
        Summary::new(self.reports.clone(), &self.ledger, refused, self.unreadable)
    }

    /// Runs a phase to its end, or until `control` stops it.
    pub fn run(&mut self, phase: Phase, control: &Control) -> Result<PhaseReport> {
        let able = (0..self.fleet.len()).filter(|&number| self.is_able(number, phase.work)).count();
        let cpu = sys::thread_time();
        let began = Instant::now();
        let mut running = Running {
            tally: Tally::new(phase.work),
            control,
            overdue: VecDeque::new(),
            under_way: 0,
            wanted: phase.exchanges.unwrap_or(able as u64),
            cursor: 0,
            began,
        };
        let mut next_line = began + Duration::from_secs(1);
        let mut stopped: Option<Instant> = None;
        loop {
            let received = self.receive(&mut running)?;
            let now = Instant::now();
            if control.stop.load(Ordering::Relaxed) {
                running.wanted = running.tally.started;
                let since = *stopped.get_or_insert(now);
                if now - since > 4 * self.options.timeout {
                    self.abandon(&mut running);
                }
            }
            let sent = self.start_due(&mut running, now)? + self.send_again(&mut running, now)?;
            self.transport.flush()?;
            if running.under_way == 0 && running.tally.started >= running.wanted {
                break;
            }
            if now >= next_line {
                next_line += Duration::from_secs(1);
                self.show(&running, now);
            }
            if received == 0 && sent == 0 {
                self.transport.wait(Duration::from_millis(1))?;
            }
        }
        let report = running.tally.report(began.elapsed(), sys::thread_time().saturating_sub(cpu));
        self.reports.push(report.clone());
        Ok(report)
    }

    /// Whether a client can do such an exchange now.
    fn is_able(&self, number: u32, work: Work) -> bool {
        self.fleet.get(number).is_some_and(|client| {
            client.step == Step::Idle
                && match work {
                    Work::New => client.lease.is_none(),
                    Work::Mixed => true,
                    _ => client.lease.is_some(),
                }
        })
    }

    /// The next client that can do such an exchange: in turn, or at random in mixed work.
    fn choose(&self, running: &mut Running<'_>) -> Option<u32> {
        let count = self.fleet.len();
        let work = running.tally.work;
        if work == Work::Mixed {
            running.cursor = fastrand::u32(..count);
        }
        for _ in 0..count {
            let number = running.cursor;
            running.cursor = (number + 1) % count;
            if self.is_able(number, work) {
                return Some(number);
            }
        }
        None
    }

    fn start_due(&mut self, running: &mut Running<'_>, now: Instant) -> Result<usize> {
        let (rate, window) = match (running.tally.work, self.options.pace) {
            (Work::Release, _) => (Some(self.options.release_rate), usize::MAX),
            (_, Pace::Closed { window }) => (None, window),
            (_, Pace::Open { rate, window }) => (Some(rate), window),
        };
        let mut started = 0;
        while running.tally.started < running.wanted
            && running.under_way < window
            && started < sys::BATCH
        {
            let scheduled = rate.map_or(now, |rate| running.due(rate));
            if scheduled > now {
                break;
            }
            let Some(number) = self.choose(running) else {
                // Everyone able is busy, or nobody is able any more.
                if running.under_way == 0 {
                    running.wanted = running.tally.started;
                }
                break;
            };
            self.start(running, number, scheduled, now)?;
            started += 1;
        }
        Ok(started)
    }

    fn start(
        &mut self,
        running: &mut Running<'_>,
        number: u32,
        scheduled: Instant,
        now: Instant,
    ) -> Result<()> {
        let mixed_renewal = fastrand::f64() < self.options.renew_share;
        let Some(client) = self.fleet.get_mut(number) else { return Ok(()) };
        client.round = client.round.wrapping_add(1);
        client.tries = 0;
        client.scheduled = scheduled;
        running.tally.started += 1;
        client.step = match (running.tally.work, client.lease) {
            (_, None) => Step::Offer,
            (Work::New | Work::Renew, Some(_)) => Step::Renewed,
            (Work::Rebind, Some(_)) => Step::Rebound,
            (Work::Reboot, Some(_)) => Step::Rebooted,
            (Work::Mixed, Some(_)) if mixed_renewal => Step::Renewed,
            (Work::Mixed | Work::Release, Some(lease)) => {
                client.lease = None;
                self.ledger.forget(number, &lease);
                running.tally.complete(now.saturating_duration_since(scheduled));
                let identity = self.fleet.identity(number);
                let message = Message::release(&identity, self.fleet.xid(number), &lease);
                return self.send(number, message);
            }
        };
        running.under_way += 1;
        self.transmit(running, number, now)
    }

    /// Sends the message that a client's step calls for, and remembers to look after it.
    fn transmit(&mut self, running: &mut Running<'_>, number: u32, now: Instant) -> Result<()> {
        let identity = self.fleet.identity(number);
        let xid = self.fleet.xid(number);
        let Some(client) = self.fleet.get_mut(number) else { return Ok(()) };
        let deadline = now + self.options.timeout;
        client.tries += 1;
        client.deadline = deadline;
        let message = match (client.step, &client.lease) {
            (Step::Offer, _) => Message::discover(&identity, xid),
            (Step::Selected(offer), _) => Message::select(&identity, xid, &offer),
            (Step::Renewed, Some(lease)) => Message::renew(&identity, xid, lease),
            (Step::Rebound, Some(lease)) => Message::rebind(&identity, xid, lease),
            (Step::Rebooted, Some(lease)) => Message::reboot(&identity, xid, lease),
            (Step::Idle | Step::Renewed | Step::Rebound | Step::Rebooted, _) => return Ok(()),
        };
        running.overdue.push_back((deadline, number));
        self.send(number, message)
    }

    /// Sends a message as a client with or without option 159 says it.
    fn send(&mut self, number: u32, message: Message<'_>) -> Result<()> {
        let message = if self.options.sharing { message } else { message.without_sharing() };
        let relay = self.options.place.relay.as_ref();
        self.transport.send(number, |buffer| {
            let length = speech::emit(buffer, &message, relay, number)?;
            Written::sum_up(buffer, length)
        })
    }

    fn send_again(&mut self, running: &mut Running<'_>, now: Instant) -> Result<usize> {
        let mut sent = 0;
        while sent < sys::BATCH
            && let Some(&(due, number)) = running.overdue.front()
            && due <= now
        {
            running.overdue.pop_front();
            let Some(client) = self.fleet.get_mut(number) else { continue };
            if client.step == Step::Idle || client.deadline != due {
                continue;
            }
            if self.options.tries.is_some_and(|tries| client.tries >= tries) {
                client.step = Step::Idle;
                running.under_way -= 1;
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
        for (_, number) in std::mem::take(&mut running.overdue) {
            if let Some(client) = self.fleet.get_mut(number).filter(|one| one.step != Step::Idle) {
                client.step = Step::Idle;
                running.under_way -= 1;
                running.tally.unanswered += 1;
            }
        }
    }

    fn receive(&mut self, running: &mut Running<'_>) -> Result<usize> {
        let mut total = 0;
        for inlet in 0..self.transport.inlets() {
            let count = self.transport.receive(inlet)?;
            total += count;
            let now = Instant::now();
            for at in 0..count {
                let fleet = &self.fleet;
                let known = |xid| Some(fleet.identity(fleet.client_of(xid).0));
                let payload = self.transport.received(at);
                match payload.and_then(|payload| Answer::read(payload, known)) {
                    Some(answer) => self.take(running, &answer, now)?,
                    None => self.unreadable += 1,
                }
            }
        }
        Ok(total)
    }

    /// What an answer does to its client.
    fn take(&mut self, running: &mut Running<'_>, answer: &Answer, now: Instant) -> Result<()> {
        let (number, round) = self.fleet.client_of(answer.xid);
        let Some(client) = self.fleet.get_mut(number).filter(|client| client.round == round) else {
            running.tally.late += 1;
            return Ok(());
        };
        match (client.step, answer.kind) {
            (Step::Idle, _) | (Step::Selected(_), MessageType::Offer) => running.tally.late += 1,
            (Step::Offer, MessageType::Offer) => {
                client.step = Step::Selected(answer.lease);
                client.tries = 0;
                self.check(number, answer);
                return self.transmit(running, number, now);
            }
            (Step::Selected(_), MessageType::Nak) => {
                client.step = Step::Idle;
                running.under_way -= 1;
                running.tally.refused += 1;
            }
            (Step::Selected(_), MessageType::Ack) => {
                running.control.bound.fetch_add(1, Ordering::Relaxed);
                self.acknowledge(running, number, answer, now);
            }
            (Step::Renewed | Step::Rebound | Step::Rebooted, MessageType::Ack) => {
                let held = client.lease;
                self.acknowledge(running, number, answer, now);
                if let Some(held) = held.filter(|held| held.tuple() != answer.lease.tuple()) {
                    self.ledger.forget(number, &held);
                    self.ledger.violate(Violation::TupleChanged, || {
                        format!("client {number} held {held:?} and was extended {:?}", answer.lease)
                    });
                }
            }
            (Step::Renewed | Step::Rebound | Step::Rebooted, MessageType::Nak) => {
                client.step = Step::Idle;
                running.under_way -= 1;
                running.tally.refused += 1;
                if let Some(lease) = client.lease.take() {
                    self.ledger.refuse(number, &lease, now);
                }
            }
            (step, kind) => {
                self.ledger.violate(Violation::Unasked, || {
                    format!("client {number}: {kind:?} while it waits in {step:?}")
                });
            }
        }
        Ok(())
    }

    /// Ends an exchange with an ACK.
    fn acknowledge(
        &mut self,
        running: &mut Running<'_>,
        number: u32,
        answer: &Answer,
        now: Instant,
    ) {
        running.control.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.check(number, answer);
        self.ledger.acknowledge(number, &answer.lease, now);
        let Some(client) = self.fleet.get_mut(number) else { return };
        client.step = Step::Idle;
        client.lease = Some(answer.lease);
        running.under_way -= 1;
        running.tally.complete(now.saturating_duration_since(client.scheduled));
    }

    /// Checks what every OFFER and ACK must fulfil.
    fn check(&mut self, number: u32, answer: &Answer) {
        if !answer.same_identifier {
            self.ledger.violate(Violation::Identifier, || format!("client {number}: {answer:?}"));
        }
        let server = *self.server.get_or_insert(answer.lease.server);
        if server != answer.lease.server {
            self.ledger.violate(Violation::ServerId, || {
                format!("client {number}: {} instead of {server}", answer.lease.server)
            });
        }
        if answer.invalid_ports {
            self.ledger.violate(Violation::PortParams, || format!("client {number}: {answer:?}"));
        }
        let lease = answer.lease.lease_seconds;
        let rebinding = answer.rebinding_seconds.unwrap_or(lease);
        let renewal = answer.renewal_seconds.unwrap_or(rebinding);
        if lease == 0 || rebinding > lease || renewal > rebinding {
            self.ledger.violate(Violation::Times, || format!("client {number}: {answer:?}"));
        }
    }

    fn show(&self, running: &Running<'_>, now: Instant) {
        if !self.options.progress {
            return;
        }
        let tally = &running.tally;
        eprintln!(
            "{:>5.0} s  {}: {} of {} done, {} under way, {} refused, {} unanswered, {} sent again, \
             {} leases, {} violations",
            (now - running.began).as_secs_f64(),
            tally.work,
            tally.completed,
            running.wanted,
            running.under_way,
            tally.refused,
            tally.unanswered,
            tally.retransmitted,
            self.ledger.len(),
            self.ledger.violation_count(),
        );
    }
}
