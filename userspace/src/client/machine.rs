//! The client's state machine (RFC 2131 §4.4, RFC 7618 §7) without I/O: events go in, actions come out.
//!
//! It knows no socket and no clock. Whoever drives it says what time it is, wakes it at [`Machine::deadline`] and
//! does what it asks for. Nothing it hears can make it panic, and nothing but an ACK to its own REQUEST gives it a
//! lease.

use std::{fmt, ops::RangeInclusive, time::Duration};

use super::{
    choose::{self, Mode, Offer},
    lease::{Assignment, Lease},
    messages::{self, Purpose, Sender},
    phase::{Exchange, Phase},
    replies::{Ignored, Reply},
    timers::{self, Moment, TokenBucket},
};

/// Moves of the machine at one moment. From any state it takes fewer to one that waits.
const STEPS_MAX: usize = 16;

/// How the client behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub sender: Sender,
    /// What kind of address it wants.
    pub mode: Mode,
    /// The PSID length that it would like, 1 to 16. Servers need not heed it.
    pub psid_length: Option<u8>,
    /// Datagrams that one transmission takes: one a server, or one to the multicast group.
    pub destinations: u32,
    /// Bounds of the random wait before the first DISCOVER (RFC 2131 §4.4.1: 1 to 10 seconds).
    pub initial_delay: RangeInclusive<Duration>,
    /// How long better offers are waited for after the first.
    pub offer_wait: Duration,
}

/// What the client remembers of its last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Memory {
    /// Nothing: it starts with a plain DISCOVER.
    #[default]
    Nothing,
    /// What it would like to have, again perhaps: its DISCOVER asks for it.
    Wish(Assignment),
    /// A lease that goes on, at an unchanged IPv6 source: it starts in INIT-REBOOT.
    Lease(Assignment),
}

/// What happens to the machine.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Begin.
    Start,
    /// A UDP payload came in.
    Datagram(&'a [u8]),
    /// The deadline has come. Early or superfluous calls do no harm.
    Timer,
    /// Give the lease back and stop.
    Release,
    /// Extend the lease now.
    RenewNow,
    /// The IPv6 source address of the queries is another one now (RFC 7618 §7).
    SourceChanged,
}

/// What the driver has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there are a handful a minute, and none is kept")]
pub enum Action {
    /// Send this UDP payload once to every destination.
    Send(Vec<u8>),
    /// There is a lease: use it.
    Obtained(Lease),
    /// The lease goes on.
    Renewed(Lease),
    /// The lease goes on with other ports: flush whatever depends on the former ones (RFC 7596 §5.1).
    Changed {
        /// Until now.
        from: Lease,
        /// From now on.
        to: Lease,
    },
    /// The lease is over: stop using it at once.
    Lost(Lease, Loss),
    /// Something to log.
    Log(Note),
    /// The machine has stopped. Nothing follows.
    Stopped,
}

/// Why a lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nobody extended it in time.
    Expired,
    /// A server refused to extend it.
    Refused,
    /// The IPv6 source address changed.
    SourceChanged,
    /// It was given back.
    Released,
}

/// Worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A message leaves.
    Sending(Purpose),
    /// A datagram was no answer.
    Ignored(Ignored),
    /// An offer is weighed.
    Offered(Offer),
    /// A transmission waits, because the rate limit is reached.
    Throttled,
    /// A REQUEST was repeated as often as it may be: the client starts again.
    NoAnswer,
    /// A server refused a REQUEST: the client starts again.
    Refused,
    /// An ACK cannot be used: the client starts again after a while.
    Unacceptable,
    /// An ACK gives other ports than were asked for. It counts.
    Differs {
        /// What was asked for.
        requested: Assignment,
        /// What the ACK says.
        acknowledged: Assignment,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Sending(purpose) => write!(f, "sending {purpose}"),
            Note::Ignored(reason) => write!(f, "ignoring a datagram: {reason}"),
            Note::Offered(offer) => write!(f, "{} offers {}", offer.server_id, offer.assignment),
            Note::Throttled => f.write_str("the rate limit is reached: waiting"),
            Note::NoAnswer => f.write_str("no answer to the REQUEST: starting again"),
            Note::Refused => f.write_str("the REQUEST was refused: starting again"),
            Note::Unacceptable => f.write_str(
                "the ACK is not for what was asked for and cannot be used: starting again in a while",
            ),
            Note::Differs { requested, acknowledged } => {
                write!(f, "the ACK is for {acknowledged} in place of {requested}: using that")
            }
        }
    }
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) config: Config,
    memory: Memory,
    /// What DISCOVERs ask for.
    pub(super) wanted: Option<Assignment>,
    pub(super) phase: Phase,
    bucket: TokenBucket,
    pub(super) random: fastrand::Rng,
}

impl Machine {
    /// A machine that waits for [`Event::Start`]. `seed` makes its `xid`s and delays.
    pub fn new(config: Config, memory: Memory, seed: u64, now: Moment) -> Self {
        Machine {
            config,
            memory,
            wanted: None,
            phase: Phase::Idle,
            bucket: TokenBucket::new(now),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// When [`Event::Timer`] is due; `None`: not before something else happens.
    pub fn deadline(&self) -> Option<Moment> {
        self.phase.deadline()
    }

    /// The lease that is in use.
    pub fn lease(&self) -> Option<&Lease> {
        self.phase.lease()
    }

    /// Takes an event in and appends what is to be done. `now` never goes back from call to call.
    pub fn handle(&mut self, now: Moment, event: Event<'_>, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        // What was due before the event comes before it: an ACK does not revive a lease that has ended.
        self.advance(now, actions);
        match event {
            Event::Start => self.start(now),
            Event::Timer => return,
            Event::Datagram(octets) => self.receive(now, octets, actions),
            Event::Release => self.release(now, actions),
            Event::RenewNow => self.renew_now(now),
            Event::SourceChanged => self.leave_source(now, actions),
        }
        self.advance(now, actions);
    }

    fn start(&mut self, now: Moment) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        match self.memory {
            Memory::Lease(assignment) if self.config.mode.accepts(assignment) => {
                self.wanted = Some(assignment);
                let exchange = self.new_exchange(now);
                self.phase = Phase::Rebooting { exchange, assignment };
            }
            Memory::Lease(assignment) | Memory::Wish(assignment) => {
                self.wanted = Some(assignment);
                self.wait_at_random(now);
            }
            Memory::Nothing => self.wait_at_random(now),
        }
    }

    fn release(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Some(&lease) = self.phase.lease() {
            actions.push(Action::Lost(lease, Loss::Released));
            self.phase = Phase::Releasing(self.new_exchange(now), lease);
        } else if !matches!(self.phase, Phase::Releasing(..) | Phase::Stopped) {
            self.phase = Phase::Stopped;
            actions.push(Action::Stopped);
        }
    }

    fn renew_now(&mut self, now: Moment) {
        match &mut self.phase {
            Phase::Bound(lease) => {
                let lease = *lease;
                self.phase = Phase::Renewing(self.new_exchange(now), lease);
            }
            Phase::Renewing(exchange, _) | Phase::Rebinding(exchange, _) => {
                exchange.transmit_at = now;
            }
            _ => {}
        }
    }

    fn leave_source(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match &self.phase {
            Phase::Idle => {
                if let Memory::Lease(assignment) = self.memory {
                    self.memory = Memory::Wish(assignment);
                }
            }
            Phase::Selecting { .. } | Phase::Requesting { .. } | Phase::Rebooting { .. } => {
                self.phase = Phase::Init { until: now };
            }
            Phase::Bound(lease) | Phase::Renewing(_, lease) | Phase::Rebinding(_, lease) => {
                let lease = *lease;
                self.lose(now, lease, Loss::SourceChanged, actions);
            }
            Phase::Init { .. } | Phase::Releasing(..) | Phase::Stopped => {}
        }
    }

    /// Does all that is due.
    fn advance(&mut self, now: Moment, actions: &mut Vec<Action>) {
        for _ in 0..STEPS_MAX {
            if self.phase.deadline().is_none_or(|deadline| deadline > now) {
                return;
            }
            self.step(now, actions);
        }
    }

    /// Does one thing that is due.
    fn step(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Idle | Phase::Stopped => {}
            Phase::Init { .. } => {
                let exchange = self.new_exchange(now);
                self.phase = Phase::Selecting { exchange, offers: Vec::new(), close_at: None };
            }
            Phase::Selecting { exchange, offers, close_at: close_at @ Some(_) } => {
                match choose::best(self.config.mode, self.wanted, offers) {
                    Some(offer) => {
                        let exchange = exchange.following(now);
                        self.phase = Phase::Requesting { exchange, offer };
                    }
                    // Cannot be: only what is acceptable is collected.
                    None => *close_at = None,
                }
            }
            Phase::Requesting { exchange, .. } | Phase::Rebooting { exchange, .. }
                if exchange.tries >= timers::REQUEST_TRIES =>
            {
                actions.push(Action::Log(Note::NoAnswer));
                self.phase = Phase::Init { until: now };
            }
            Phase::Selecting { .. }
            | Phase::Requesting { .. }
            | Phase::Rebooting { .. }
            | Phase::Releasing(..) => self.transmit(now, actions),
            Phase::Bound(lease) | Phase::Renewing(_, lease) | Phase::Rebinding(_, lease) => {
                let lease = *lease;
                self.keep(now, lease, actions);
            }
        }
    }

    /// What is due while there is a lease, the gravest first.
    fn keep(&mut self, now: Moment, lease: Lease, actions: &mut Vec<Action>) {
        let rebind = lease.rebind_at.is_some_and(|moment| moment <= now);
        if lease.is_over(now) {
            self.lose(now, lease, Loss::Expired, actions);
        } else if rebind && !matches!(self.phase, Phase::Rebinding(..)) {
            self.phase = Phase::Rebinding(self.new_exchange(now), lease);
        } else if matches!(self.phase, Phase::Bound(_)) {
            self.phase = Phase::Renewing(self.new_exchange(now), lease);
        } else {
            self.transmit(now, actions);
        }
    }

    pub(super) fn lose(
        &mut self,
        now: Moment,
        lease: Lease,
        loss: Loss,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Lost(lease, loss));
        self.wanted = (loss != Loss::Refused).then_some(lease.assignment);
        self.phase = Phase::Init { until: now };
    }

    fn new_exchange(&mut self, now: Moment) -> Exchange {
        Exchange::new(self.random.u32(..), now)
    }

    pub(super) fn wait_at_random(&mut self, now: Moment) {
        let bounds = &self.config.initial_delay;
        let delay = timers::between(*bounds.start(), *bounds.end(), &mut self.random);
        self.phase = Phase::Init { until: now.plus(delay) };
    }

    /// What the exchange under way is for.
    fn purpose(&self) -> Option<Purpose> {
        match &self.phase {
            Phase::Idle | Phase::Init { .. } | Phase::Bound(_) | Phase::Stopped => None,
            Phase::Selecting { .. } => Some(Purpose::Discover {
                wanted: self.wanted.filter(|&wanted| self.config.mode.accepts(wanted)),
                psid_length: self
                    .config
                    .psid_length
                    .filter(|_| self.config.mode.asks_for_port_params()),
            }),
            Phase::Requesting { offer, .. } => {
                Some(Purpose::Select { offered: offer.assignment, server_id: offer.server_id })
            }
            Phase::Rebooting { assignment, .. } => Some(Purpose::Reboot(*assignment)),
            Phase::Renewing(_, lease) => Some(Purpose::Renew(lease.assignment)),
            Phase::Rebinding(_, lease) => Some(Purpose::Rebind(lease.assignment)),
            Phase::Releasing(_, lease) => {
                Some(Purpose::Release { assignment: lease.assignment, server_id: lease.server_id })
            }
        }
    }

    /// Sends the message of the exchange under way and plans its repetition; or plans it for when the rate limit
    /// allows it.
    fn transmit(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(purpose) = self.purpose() else { return };
        let Some(exchange) = self.phase.exchange_mut() else { return };
        if let Err(ready) = self.bucket.take(now, self.config.destinations) {
            exchange.transmit_at = ready;
            actions.push(Action::Log(Note::Throttled));
            return;
        }
        let extends = matches!(purpose, Purpose::Renew(_) | Purpose::Rebind(_));
        if extends && exchange.tries > 0 {
            // The answer then says which transmission it answers, and from when its lease counts.
            exchange.xid = self.random.u32(..);
            exchange.first_sent = None;
        }
        if !matches!(purpose, Purpose::Select { .. }) {
            exchange.seconds = exchange.elapsed(now);
        }
        exchange.tries += 1;
        exchange.first_sent.get_or_insert(now);
        let (xid, seconds, tries) = (exchange.xid, exchange.seconds, exchange.tries);
        let wait = match &self.phase {
            Phase::Renewing(_, lease) => timers::renewal_interval(now, lease.rebind_at),
            Phase::Rebinding(_, lease) => timers::renewal_interval(now, lease.expires_at),
            _ => timers::backoff(tries, &mut self.random),
        };
        if let Some(exchange) = self.phase.exchange_mut() {
            exchange.transmit_at = now.plus(wait);
        }
        actions.push(Action::Log(Note::Sending(purpose)));
        let sharing = self.config.mode.asks_for_port_params();
        let octets = messages::compose(&self.config.sender, sharing, purpose, xid, seconds);
        actions.push(Action::Send(octets));
        if matches!(purpose, Purpose::Release { .. }) {
            self.phase = Phase::Stopped;
            actions.push(Action::Stopped);
        }
    }

    fn receive(&mut self, now: Moment, octets: &[u8], actions: &mut Vec<Action>) {
        let ignored = |reason| Action::Log(Note::Ignored(reason));
        // Before anything was sent, or when nothing is asked for, nothing can be an answer.
        let asked = self.phase.exchange().filter(|exchange| exchange.first_sent.is_some());
        let Some(xid) = asked.map(|exchange| exchange.xid) else {
            actions.push(ignored(Ignored::OtherTransaction));
            return;
        };
        let outcome = match Reply::read(octets, &self.config.sender, xid) {
            Ok(Reply::Offer(grant)) => self.take_offer(now, &grant, actions),
            Ok(Reply::Ack(grant)) => self.take_ack(now, &grant, actions),
            Ok(Reply::Nak(server_id)) => self.take_nak(now, server_id, actions),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = outcome {
            actions.push(ignored(reason));
        }
    }
}
