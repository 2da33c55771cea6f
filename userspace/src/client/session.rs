//! The whole client without I/O: it finds its servers ([`discovery`](super::discovery)) and leases from
//! them ([`machine`](super::machine)), and does not lease where nobody offers it.
//!
//! ```text
//! Start ──> Inform ──(Reply with option 88)──> Servers(Some) ──(Reachable)──> Send ... Obtained
//!                └───(Reply without it)──────> Servers(None): silence, and Inform again in time
//! ```
//!
//! The driver sends what [`Action::Inform`] and [`Action::Send`] say, opens a way to the servers of
//! [`Action::Servers`] and answers with [`Event::Reachable`] as soon as there is one.

use std::{net::Ipv6Addr, time::Duration};

use super::{
    discovery::{self, Discovery},
    lease::Lease,
    machine::{self, Action, Machine, Memory, Note, OnLoss},
    servers::Servers,
    timers::Moment,
};
use crate::wire::dhcpv6::REPLY;

/// Moves of the two machines at one moment. From any state they take fewer.
const STEPS_MAX: usize = 8;

/// Where the client knows its servers from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is told once and for all.
    Fixed(Servers),
    /// It asks by stateless DHCPv6.
    Discovery(discovery::Config),
    /// Another DHCPv6 client asks, and [`Event::Servers`] says what it hears.
    Told,
}

/// How the client behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// As the client of DHCPv4.
    pub machine: machine::Config,
    /// Where the servers come from.
    pub source: Source,
    /// What becomes of a lease when there are none any more.
    pub on_loss: OnLoss,
}

/// What happens to the session.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Begin.
    Start,
    /// A UDP payload came in on port 546, DHCPv6 or DHCPv4 over DHCPv6.
    Datagram(&'a [u8]),
    /// The deadline has come. Early or superfluous calls do no harm.
    Timer,
    /// Option 88 as somebody else received it; `None` if it was not there. Only with
    /// [`Source::Told`].
    Servers(Option<&'a Servers>),
    /// Queries can leave for the servers.
    Reachable {
        /// Datagrams that one transmission takes.
        destinations: u32,
        /// How long better offers are waited for after the first: longer if there are several.
        offer_wait: Duration,
        /// What is remembered of the last run, if this is the first time: whether a lease can be
        /// confirmed depends on the address that queries leave from.
        memory: Memory,
    },
    /// The client may be on another link: ask again for the servers.
    Again,
    /// Give the lease back and stop.
    Release,
    /// Extend the lease now.
    RenewNow,
    /// The IPv6 source address of the queries is another one now (RFC 7618 §7).
    SourceChanged,
    /// The interface has these addresses now, in order of preference.
    Addresses(&'a [Ipv6Addr]),
}

/// The client.
#[derive(Clone, Debug)]
pub struct Session {
    machine: Machine,
    source: Source,
    discovery: Option<Discovery>,
    servers: Option<Servers>,
    on_loss: OnLoss,
    /// The machine has been started at least once.
    begun: bool,
    stopped: bool,
    /// An Information-request waits for the rate limit.
    throttled_until: Option<Moment>,
}

impl Session {
    /// A client that waits for [`Event::Start`]. `seed` makes its transactions and delays.
    pub fn new(config: Config, seed: u64, now: Moment) -> Self {
        let discovery = match &config.source {
            // The two draw from different sequences.
            Source::Discovery(how) => Some(Discovery::new(how.clone(), !seed)),
            Source::Fixed(_) | Source::Told => None,
        };
        Session {
            machine: Machine::new(config.machine, Memory::Nothing, seed, now),
            source: config.source,
            discovery,
            servers: None,
            on_loss: config.on_loss,
            begun: false,
            stopped: false,
            throttled_until: None,
        }
    }

    /// When [`Event::Timer`] is due; `None`: not before something else happens.
    pub fn deadline(&self) -> Option<Moment> {
        [self.machine.deadline(), self.discovery_due()].into_iter().flatten().min()
    }

    /// The lease that is in use.
    pub fn lease(&self) -> Option<&Lease> {
        self.machine.lease()
    }

    /// The servers that are asked, if there are any.
    pub fn servers(&self) -> Option<&Servers> {
        self.servers.as_ref()
    }

    fn discovery_due(&self) -> Option<Moment> {
        let due = self.discovery.as_ref().filter(|_| !self.stopped)?.deadline()?;
        Some(self.throttled_until.map_or(due, |until| until.max(due)))
    }

    /// Takes an event in and appends what is to be done. `now` never goes back from call to call.
    pub fn handle(&mut self, now: Moment, event: Event<'_>, actions: &mut Vec<Action>) {
        if self.stopped {
            return;
        }
        match event {
            Event::Start => self.start(now, actions),
            Event::Datagram(octets @ [REPLY, ..]) if self.discovery.is_some() => {
                self.discover(now, discovery::Event::Datagram(octets), actions);
            }
            Event::Datagram(octets) => {
                self.lease_by(now, machine::Event::Datagram(octets), actions);
            }
            Event::Timer => self.lease_by(now, machine::Event::Timer, actions),
            Event::Servers(servers) if self.source == Source::Told => {
                self.learn(now, servers.cloned(), actions);
            }
            Event::Servers(_) => {}
            Event::Reachable { destinations, offer_wait, memory } => {
                self.machine.config.offer_wait = offer_wait;
                self.begin(now, destinations, memory, actions);
            }
            Event::Again => self.discover(now, discovery::Event::Again, actions),
            Event::Release => self.lease_by(now, machine::Event::Release, actions),
            Event::RenewNow => self.lease_by(now, machine::Event::RenewNow, actions),
            Event::SourceChanged => self.lease_by(now, machine::Event::SourceChanged, actions),
            Event::Addresses(addresses) => {
                self.lease_by(now, machine::Event::Addresses(addresses), actions);
            }
        }
        self.advance(now, actions);
    }

    fn start(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match &self.source {
            Source::Fixed(servers) => {
                let servers = servers.clone();
                self.servers = Some(servers.clone());
                actions.push(Action::Servers(Some(servers)));
            }
            Source::Discovery(_) => self.discover(now, discovery::Event::Start, actions),
            Source::Told => {}
        }
    }

    /// There is a way to the servers: the machine starts, or goes on.
    fn begin(&mut self, now: Moment, destinations: u32, memory: Memory, actions: &mut Vec<Action>) {
        if self.servers.is_none() {
            return;
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.machine.remember(memory);
        }
        self.lease_by(now, machine::Event::Enabled(destinations), actions);
        self.lease_by(now, machine::Event::Start, actions);
    }

    fn lease_by(&mut self, now: Moment, event: machine::Event<'_>, actions: &mut Vec<Action>) {
        self.machine.handle(now, event, actions);
        self.stopped |= actions.last() == Some(&Action::Stopped);
    }

    /// Does all that discovery has to do by now.
    fn advance(&mut self, now: Moment, actions: &mut Vec<Action>) {
        for _ in 0..STEPS_MAX {
            if self.discovery_due().is_none_or(|due| due > now) {
                return;
            }
            self.throttled_until = None;
            let is_to_send = self.discovery.as_ref().is_some_and(Discovery::is_to_send);
            // req-C37 (RFC 8415 §14.1): one limit for all that leaves by the interface.
            if is_to_send && let Err(ready) = self.machine.charge(now) {
                self.throttled_until = Some(ready);
                actions.push(Action::Log(Note::Throttled));
                return;
            }
            self.discover(now, discovery::Event::Timer, actions);
        }
    }

    fn discover(&mut self, now: Moment, event: discovery::Event<'_>, actions: &mut Vec<Action>) {
        let Some(discovery) = &mut self.discovery else { return };
        let mut said = Vec::new();
        discovery.handle(now, event, &mut said);
        for action in said {
            match action {
                discovery::Action::Send(octets) => actions.push(Action::Inform(octets)),
                discovery::Action::Log(note) => actions.push(Action::Log(Note::Discovery(note))),
                discovery::Action::Learned(information) => {
                    self.learn(now, information.servers, actions);
                }
            }
        }
    }

    /// Option 88 came, or did not.
    fn learn(&mut self, now: Moment, servers: Option<Servers>, actions: &mut Vec<Action>) {
        let had = std::mem::replace(&mut self.servers, servers.clone());
        match (had, servers) {
            (None, None) => actions.push(Action::Log(Note::NotOffered)),
            (had, Some(servers)) if had.as_ref() == Some(&servers) => {}
            (had, Some(servers)) => {
                if had.is_none() {
                    // req-C11 (RFC 7341 §9): plain DHCPv4 stops before the first query leaves.
                    actions.push(Action::NativeStop);
                }
                actions.push(Action::Servers(Some(servers)));
            }
            (Some(_), None) => {
                // req-C2 (RFC 7341 §9): no request and no renewal any more. Discovery goes on asking.
                actions.push(Action::Log(Note::NotOffered));
                self.lease_by(now, machine::Event::Disabled(self.on_loss), actions);
                if self.stopped {
                    return;
                }
                actions.push(Action::Servers(None));
                actions.push(Action::NativeStart);
            }
        }
    }
}
