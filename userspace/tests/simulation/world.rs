//! A history: clients, a network, a server on a disk, and chance.

use std::net::Ipv6Addr;

use portlease::{
    journal::{Options, RingLog, fault::FaultyDisk},
    lease::{client::Holder, stamp::Now},
    wire::dhcpv4::MessageType,
};

use super::{
    client::{Client, Message, Telling, Transaction, tuple_of},
    oracle::{Invariant, Oracle, Violation, end_of},
    plan::{LINKS, Plan, short},
    process::Process,
};
use crate::common::{Received, START};

/// Steps of a history.
const STEPS: usize = 800;

/// A datagram that is older than this is lost, in milliseconds. Without such an end a client could never be sure that
/// its server will not hear something that it said long ago, and the protocol has no number that would tell.
const DATAGRAM_LIFE: u64 = 2000;

/// Datagrams under way at most.
const UNDER_WAY_MAX: usize = 24;

/// Something on its way, to the server or to a client.
#[derive(Clone, Debug)]
struct Flight {
    client: usize,
    sent: u64,
    cargo: Cargo,
}

/// What is under way.
#[derive(Clone, Debug)]
pub(super) enum Cargo {
    Ask { message: Message, payload: Vec<u8>, source: Ipv6Addr },
    Answer(Received),
}

/// Everything.
pub struct World<'t> {
    pub(super) random: fastrand::Rng,
    pub(super) now: Now,
    /// The time is a multiple of so many milliseconds: where all is whole seconds, more happens in one instant.
    tick: u64,
    pub(super) plan: Plan,
    pub(super) options: Options,
    pub(super) disk: FaultyDisk,
    /// A failure is due at some write or sync to come.
    pub(super) doomed: bool,
    pub(super) process: Option<Process>,
    /// What the wall clock shows at every start of a machine that forgets the time, until somebody sets it, in
    /// milliseconds.
    pub(super) clock_begins_at: Option<u64>,
    pub(super) clients: Vec<Client>,
    flights: Vec<Flight>,
    pub(super) oracle: Oracle,
    /// What happened, if anybody wants to know.
    trace: Option<&'t mut Vec<String>>,
}

impl<'t> World<'t> {
    fn new(seed: u64, trace: Option<&'t mut Vec<String>>) -> World<'t> {
        let mut random = fastrand::Rng::with_seed(seed);
        let plan = Plan::new(&mut random);
        let options = Options {
            capacity_leases: 100,
            hold_down_seconds: plan.durations.hold_down,
            accept_loss: false,
            // The smallest there is, so that it comes round often.
            ring_octets: Some(0),
        };
        let disk = FaultyDisk::new(options.octets(), random.u64(..));
        RingLog::create(disk.clone(), options).unwrap();
        let client = |number: u8| match number {
            1..=4 => Client::new(number, 1, false),
            5 => Client::new(number, 1, true),
            _ => Client::new(number, 2, false),
        };
        let clients: Vec<Client> = (1..=7).map(client).collect();
        World {
            now: START,
            tick: *random.choice(&[1, 1, 1000]).unwrap(),
            oracle: Oracle::new(clients.len(), plan.durations),
            plan,
            options,
            disk: disk.after_power_failure(),
            doomed: false,
            process: None,
            clock_begins_at: None,
            clients,
            flights: Vec::new(),
            trace,
            random,
        }
    }

    /// Lives through the history of `seed`. `trace` gets a line for all that happens.
    pub fn live(seed: u64, trace: Option<&'t mut Vec<String>>) -> Result<(), Violation> {
        let mut world = World::new(seed, trace);
        (0..STEPS).try_for_each(|_| {
            world.step()?;
            world.check()
        })
    }

    pub(super) fn log(&mut self, text: impl FnOnce(&Self) -> String) {
        if let Some(trace) = self.trace.take() {
            trace.push(format!("{:>9} ms  {}", self.now.0 - START.0, text(self)));
            self.trace = Some(trace);
        }
    }

    fn step(&mut self) -> Result<(), Violation> {
        match self.random.u32(0..1000) {
            0..220 => self.client_speaks(),
            220..540 => return self.datagram_arrives(),
            540..700 => return self.worker_settles(),
            700..845 => return self.journal_commits(),
            845..860 => return self.ring_comes_round(),
            860..900 => self.server_sweeps(),
            900..980 => self.time_passes(),
            980..988 => return self.client_declines(),
            988..994 => self.disk_is_doomed(),
            _ => {
                if self.process.is_some() {
                    self.crash("killed");
                }
            }
        }
        if self.process.is_none() && self.random.u32(0..3) == 0 {
            return self.server_starts();
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Violation> {
        self.oracle.prune(self.now);
        let Some(process) = &self.process else { return Ok(()) };
        if let Err(error) = process.engine.leases().check_invariants() {
            return Invariant::BitsAreTrue.broken(error);
        }
        self.oracle.survives(process, &self.clients, self.now)
    }

    fn time_passes(&mut self) {
        self.now.0 = match self.random.u32(0..20) {
            0..12 => self.now.0 + self.random.u64(1..900),
            12..16 => self.now.0 + self.random.u64(900..5000),
            16..18 => self.now.0 + self.random.u64(10_000..90_000),
            // Whatever is wrong is wrong where something ends.
            _ => {
                let ends = self.oracle.ends();
                let end = self.random.choice(ends).unwrap_or(0) + self.random.u64(0..200);
                self.now.0.max(end.saturating_sub(self.random.u64(0..1200)))
            }
        };
        self.now.0 = self.now.0.next_multiple_of(self.tick);
        let oldest = self.now.0 - DATAGRAM_LIFE;
        self.flights.retain(|flight| flight.sent >= oldest);
    }

    // Clients and their network.

    fn client_speaks(&mut self) {
        let at = self.random.usize(0..self.clients.len());
        if let Some(transaction) = &self.clients[at].transaction {
            let patience = self.random.u64(0..8000);
            match self.random.u32(0..4) {
                _ if transaction.sent + patience < self.now.0 => {}
                0 => return self.client_repeats(at),
                _ => return,
            }
        }
        if self.random.u32(0..50) == 0 {
            // Nobody hears of it.
            self.log(|_| format!("client {at} forgets"));
            let here = self.clients[at].link;
            let moves = self.random.u32(0..3) == 0;
            let link = if moves { LINKS[self.random.usize(0..LINKS.len())] } else { here };
            self.clients[at].forget(link);
            self.oracle.gives_up(at, None, self.now);
            return;
        }
        let Some(message) = self.clients[at].speak(&self.plan, &mut self.random) else { return };
        if !self.may_say(at, &message) {
            return;
        }
        self.log(|_| format!("client {at} says {message}"));
        let client = &mut self.clients[at];
        match message.telling {
            Telling::Wants(tuple) => {
                if client.lease != Some(tuple) {
                    client.leave();
                }
                self.oracle.gives_up(at, Some(tuple), self.now);
            }
            Telling::Leaves => {
                client.leave();
                self.oracle.gives_up(at, None, self.now);
            }
            Telling::Nothing => {}
        }
        self.oracle.redirects(at, message.query.softwire.as_deref());
        let client = &mut self.clients[at];
        if message.query.server_id.is_some() {
            client.offer = None;
        }
        self.send(at, &message);
        self.clients[at].transaction = Some(Transaction { message, sent: self.now.0 });
    }

    fn client_repeats(&mut self, at: usize) {
        let Some(transaction) = &self.clients[at].transaction else { return };
        let message = transaction.message.clone();
        if !self.may_say(at, &message) {
            return;
        }
        self.log(|_| format!("client {at} repeats {message}"));
        self.send(at, &message);
        self.clients[at].transaction = Some(Transaction { message, sent: self.now.0 });
    }

    /// Whether nothing is under way that would undo this if it came later.
    fn may_say(&self, at: usize, message: &Message) -> bool {
        self.flights.iter().filter(|flight| flight.client == at).all(|flight| match &flight.cargo {
            Cargo::Ask { message: earlier, .. } => message.may_follow(earlier),
            Cargo::Answer(_) => true,
        })
    }

    fn send(&mut self, client: usize, message: &Message) {
        let (payload, source) = (message.query.octets(), message.query.source());
        self.launch(client, Cargo::Ask { message: message.clone(), payload, source });
    }

    pub(super) fn launch(&mut self, client: usize, cargo: Cargo) {
        if self.flights.len() < UNDER_WAY_MAX {
            self.flights.push(Flight { client, sent: self.now.0, cargo });
        }
    }

    /// Some datagram arrives, perhaps not for the last time, or is lost.
    fn datagram_arrives(&mut self) -> Result<(), Violation> {
        if self.flights.is_empty() {
            return Ok(());
        }
        let at = self.random.usize(0..self.flights.len());
        let flight = match self.random.u32(0..10) {
            0 => {
                self.flights.swap_remove(at);
                return Ok(());
            }
            1 | 2 => self.flights[at].clone(),
            _ => self.flights.swap_remove(at),
        };
        match flight.cargo {
            Cargo::Ask { message, payload, source } => {
                self.server_answers(flight.client, &message, &payload, source)
            }
            Cargo::Answer(reply) => self.client_hears(flight.client, &reply),
        }
    }

    fn client_hears(&mut self, at: usize, reply: &Received) -> Result<(), Violation> {
        let client = &mut self.clients[at];
        if !client.awaits(reply) {
            return Ok(());
        }
        let Some(transaction) = client.transaction.take() else { return Ok(()) };
        let tuple = tuple_of(reply);
        match reply.kind {
            MessageType::Offer => client.offer = Some(tuple),
            MessageType::Ack => {
                client.leave();
                client.lease = Some(tuple);
                let end = end_of(transaction.sent, reply.lease_seconds.unwrap_or(0));
                let identity = client.identity;
                self.oracle.gives_up(at, Some(tuple), self.now);
                self.oracle.taken(at, identity, tuple, end)?;
            }
            _ => {
                client.leave();
                client.offer = None;
                self.oracle.gives_up(at, None, self.now);
            }
        }
        self.log(|_| format!("client {at} takes {:?} {}", reply.kind, short(tuple)));
        Ok(())
    }

    /// A client finds its tuple in use by another.
    fn client_declines(&mut self) -> Result<(), Violation> {
        let at = self.random.usize(0..self.clients.len());
        let Some(process) = &self.process else { return Ok(()) };
        let worker = &process.workers[self.random.usize(0..process.workers.len())];
        let (leases, now) = (process.engine.leases(), process.clock(self.now));
        let client = &mut self.clients[at];
        let Some(tuple) = client.offer.or(client.lease) else { return Ok(()) };
        let Some(place) = leases.pools().locate_tuple(tuple) else { return Ok(()) };
        if worker.lane.room() == 0 {
            return Ok(());
        }
        let holder = Holder {
            identity: client.identity,
            client: b"whatever",
            hardware: false,
            source: Ipv6Addr::LOCALHOST,
            softwire: None,
        };
        let mut guard = leases.lock(holder.identity.on(leases.pools().link_of(place.pool)));
        let Ok(record) = guard.quarantine(place, &holder, now) else {
            return Ok(());
        };
        drop(guard);
        worker.lane.push(record).unwrap();
        client.leave();
        (client.offer, client.transaction) = (None, None);
        self.oracle.gives_up(at, None, self.now);
        self.log(|_| format!("client {at} declines {}", short(tuple)));
        self.oracle.recorded(at, &record, self.now)
    }
}
