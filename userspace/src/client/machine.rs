//! The client's state machine (RFC 2131 §4.4, RFC 7618 §7) without I/O: events go in, actions come out.
//!
//! It knows no socket and no clock. Whoever drives it says what time it is, wakes it at [`Machine::deadline`] and
//! does what it asks for. Nothing it hears can make it panic, and nothing but an ACK to its own REQUEST gives it a
//! lease.

use std::net::Ipv6Addr;

pub use super::events::{Action, Config, Event, FULL_FIRST_TRIES, Loss, Memory, Note, OnLoss};
use super::{
    choose::{self, Mode},
    lease::{Assignment, Lease},
    messages::{self, Message, Purpose},
    phase::{After, Exchange, Phase},
    replies::{Ignored, Reply},
    softwire::Tunnel,
    timers::{self, Moment, TokenBucket},
};

/// Moves of the machine at one moment. From any state it takes fewer to one that waits.
const STEPS_MAX: usize = 16;

/// The state machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) config: Config,
    memory: Memory,
    /// What DISCOVERs ask for.
    pub(super) wanted: Option<Assignment>,
    pub(super) phase: Phase,
    /// In [`Mode::FullFirst`]: nobody answered a client that knows nothing of sharing.
    asks_for_sharing: bool,
    pub(super) tunnel: Option<Tunnel>,
    bucket: TokenBucket,
    pub(super) random: fastrand::Rng,
}

impl Machine {
    /// A machine that waits for [`Event::Start`]. `seed` makes its `xid`s and delays.
    pub fn new(config: Config, memory: Memory, seed: u64, now: Moment) -> Self {
        let tunnel = config.softwire.as_ref().map(Tunnel::new);
        Machine {
            config,
            memory,
            wanted: None,
            phase: Phase::Idle,
            asks_for_sharing: false,
            tunnel,
            bucket: TokenBucket::new(now),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// When [`Event::Timer`] is due; `None`: not before something else happens.
    pub fn deadline(&self) -> Option<Moment> {
        let phase = self.phase.deadline();
        [phase, self.softwire_retry_at()].into_iter().flatten().min()
    }

    /// When a lease whose softwire the server has elsewhere is to be extended again.
    fn softwire_retry_at(&self) -> Option<Moment> {
        let bound = matches!(self.phase, Phase::Bound(_));
        self.tunnel.as_ref().filter(|_| bound).and_then(Tunnel::retry_at)
    }

    /// What the client takes at present. [`Mode::FullFirst`] is two modes one after the other.
    pub(super) fn mode(&self) -> Mode {
        match (self.config.mode, self.asks_for_sharing) {
            (Mode::FullFirst, false) => Mode::FullOnly,
            (Mode::FullFirst, true) => Mode::PreferFull,
            (mode, _) => mode,
        }
    }

    /// Replaces what is remembered of the last run. It counts at the next [`Event::Start`].
    pub fn remember(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// Takes one datagram out of what the interface may send, or says when it may.
    pub(super) fn charge(&mut self, now: Moment) -> Result<(), Moment> {
        self.bucket.take(now, 1)
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
            Event::Addresses(addresses) => self.follow_addresses(now, addresses),
            Event::Enabled(destinations) => self.enable(destinations),
            Event::Disabled(on_loss) => self.disable(on_loss, actions),
        }
        self.advance(now, actions);
    }

    fn start(&mut self, now: Moment) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        match self.memory {
            // req-C28 (RFC 7618 §6, §7): only the same IPv6 source confirms a lease; the driver says so
            // by what it remembers, and Event::SourceChanged takes it back.
            Memory::Lease(assignment) if self.config.mode.accepts(assignment) => {
                self.asks_for_sharing = assignment.port_params.is_some();
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
        if let Phase::Fading(lease) = self.phase {
            // req-C2 (RFC 7341 §9): not even a RELEASE may be sent.
            actions.push(Action::Lost(lease, Loss::Withdrawn));
            actions.push(Action::Stopped);
            self.phase = Phase::Stopped;
        } else if let Some(&lease) = self.phase.lease() {
            actions.push(Action::Lost(lease, Loss::Released));
            let exchange = self.new_exchange(now);
            self.phase = Phase::Releasing(exchange, lease, After::Stop);
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
            // req-C28 (RFC 7618 §6, §7): another source, for whatever reason: from the start.
            Phase::Bound(lease) | Phase::Renewing(_, lease) | Phase::Rebinding(_, lease) => {
                let lease = *lease;
                self.lose(now, lease, Loss::SourceChanged, actions);
            }
            Phase::Fading(lease) => {
                let lease = *lease;
                self.lose(now, lease, Loss::SourceChanged, actions);
                self.rest(Memory::Wish(lease.assignment));
            }
            Phase::Init { .. } | Phase::Releasing(..) | Phase::Stopped => {}
        }
    }

    /// Waits for [`Event::Start`] again.
    fn rest(&mut self, memory: Memory) {
        self.memory = memory;
        self.phase = Phase::Idle;
    }

    fn enable(&mut self, destinations: u32) {
        self.config.destinations = destinations;
        if let Phase::Fading(lease) = self.phase {
            self.phase = Phase::Bound(lease);
        }
    }

    /// req-C2 (RFC 7341 §9): without option 88 there is neither request nor renewal.
    fn disable(&mut self, on_loss: OnLoss, actions: &mut Vec<Action>) {
        match (&self.phase, self.phase.lease()) {
            (Phase::Idle | Phase::Stopped, _) => {}
            (Phase::Releasing(_, _, After::Stop), _) => {
                actions.push(Action::Stopped);
                self.phase = Phase::Stopped;
            }
            (_, Some(&lease)) if on_loss == OnLoss::LeaseEnd => self.phase = Phase::Fading(lease),
            (_, Some(&lease)) => {
                actions.push(Action::Lost(lease, Loss::Withdrawn));
                self.rest(Memory::Wish(lease.assignment));
            }
            (&Phase::Rebooting { assignment, .. }, None) => self.rest(Memory::Lease(assignment)),
            (_, None) => self.rest(self.wanted.map_or(Memory::Nothing, Memory::Wish)),
        }
    }

    /// req-C41 (RFC 8539 §7.2): another end of the softwire is told at once, in a REQUEST.
    fn follow_addresses(&mut self, now: Moment, addresses: &[Ipv6Addr]) {
        if self.tunnel.as_mut().is_some_and(|tunnel| tunnel.follow(addresses)) {
            self.renew_now(now);
        }
    }

    /// Does all that is due.
    fn advance(&mut self, now: Moment, actions: &mut Vec<Action>) {
        for _ in 0..STEPS_MAX {
            if self.deadline().is_none_or(|deadline| deadline > now) {
                return;
            }
            self.step(now, actions);
        }
    }

    /// Does one thing that is due.
    fn step(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let mode = self.config.mode;
        match &mut self.phase {
            Phase::Idle | Phase::Stopped => {}
            Phase::Init { .. } => {
                self.asks_for_sharing = false;
                let exchange = self.new_exchange(now);
                self.select(exchange);
            }
            Phase::Selecting { close_at: Some(_), .. } => self.choose(now),
            Phase::Selecting { exchange, .. }
                if mode == Mode::FullFirst
                    && !self.asks_for_sharing
                    && exchange.tries >= self.config.full_first_tries =>
            {
                let began = exchange.began;
                self.asks_for_sharing = true;
                actions.push(Action::Log(Note::AsksForSharing));
                let exchange = Exchange { began, ..self.new_exchange(now) };
                self.select(exchange);
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
            Phase::Fading(lease) => {
                let lease = *lease;
                self.lose(now, lease, Loss::Expired, actions);
                self.rest(Memory::Wish(lease.assignment));
            }
        }
    }

    fn select(&mut self, exchange: Exchange) {
        self.phase = Phase::Selecting { exchange, offers: Vec::new(), close_at: None };
    }

    /// The window is closed: takes the best of the offers.
    fn choose(&mut self, now: Moment) {
        let (mode, wanted) = (self.mode(), self.wanted);
        let Phase::Selecting { exchange, offers, close_at } = &mut self.phase else { return };
        // There is one: only what is acceptable is collected.
        let Some(offer) = choose::best(mode, wanted, offers) else {
            *close_at = None;
            return;
        };
        let exchange = exchange.following(now);
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.select(&offer.ends);
        }
        self.phase = Phase::Requesting { exchange, offer };
    }

    /// What is due while there is a lease, the gravest first.
    fn keep(&mut self, now: Moment, lease: Lease, actions: &mut Vec<Action>) {
        let rebind = lease.rebind_at.is_some_and(|moment| moment <= now);
        // req-C34 (RFC 2131 §4.4.5): whatever else is due, a lease that is over is not used.
        if lease.is_over(now) {
            self.lose(now, lease, Loss::Expired, actions);
        } else if rebind && !matches!(self.phase, Phase::Rebinding(..)) {
            self.phase = Phase::Rebinding(self.new_exchange(now), lease);
        } else if matches!(self.phase, Phase::Bound(_)) {
            if let Some(tunnel) = &mut self.tunnel {
                tunnel.retrying();
            }
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

    pub(super) fn new_exchange(&mut self, now: Moment) -> Exchange {
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
            Phase::Idle
            | Phase::Init { .. }
            | Phase::Bound(_)
            | Phase::Fading(_)
            | Phase::Stopped => None,
            Phase::Selecting { .. } => Some(Purpose::Discover {
                wanted: self.wanted.filter(|&wanted| self.mode().accepts(wanted)),
                psid_length: self.config.psid_length.filter(|_| self.mode().asks_for_port_params()),
            }),
            Phase::Requesting { offer, .. } => {
                Some(Purpose::Select { offered: offer.assignment, server_id: offer.server_id })
            }
            Phase::Rebooting { assignment, .. } => Some(Purpose::Reboot(*assignment)),
            Phase::Renewing(_, lease) => Some(Purpose::Renew(lease.assignment)),
            Phase::Rebinding(_, lease) => Some(Purpose::Rebind(lease.assignment)),
            Phase::Releasing(_, lease, _) => {
                Some(Purpose::Release { assignment: lease.assignment, server_id: lease.server_id })
            }
        }
    }

    /// Sends the message of the exchange under way and plans its repetition; or plans it for when the rate limit
    /// allows it.
    fn transmit(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(purpose) = self.purpose() else { return };
        let sharing = self.mode().asks_for_port_params();
        let Some(exchange) = self.phase.exchange_mut() else { return };
        // req-C37 (RFC 8415 §14.1): twenty datagrams at once, and in twenty seconds.
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
        let message = Message {
            sender: &self.config.sender,
            purpose,
            sharing,
            requested_options: &self.config.requested_options,
            tunneling: self.tunnel.is_some(),
            softwire_source: self.tunnel.as_ref().and_then(Tunnel::source),
            xid,
            seconds,
        };
        actions.push(Action::Send(messages::compose(&message)));
        match self.phase {
            Phase::Releasing(_, _, After::Stop) => {
                self.phase = Phase::Stopped;
                actions.push(Action::Stopped);
            }
            Phase::Releasing(_, _, After::Restart) => {
                self.phase = Phase::Init { until: now.plus(timers::RESTART_DELAY) };
            }
            _ => {}
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
