//! What the clients were told, and what must therefore be true. Knows nothing of how the server keeps it.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::Ipv6Addr,
};

use portlease::{
    lease::{
        client::Holding,
        key::{ClientIdentity, LinkId, SiteId},
        record::{NEVER, Record, State, Tuple, lasts},
        stamp::{Now, Stamp},
    },
    wire::dhcpv4::MessageType,
};

use super::{
    client::{Client, Message, tuple_of},
    plan::{Durations, overlap, short},
    process::{Parked, Process, Worker},
};
use crate::common::Received;

/// What must never be false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// An acknowledged lease that is neither over nor given up survives every crash: its client can renew it.
    LeaseSurvives,
    /// No port is promised to two clients at once.
    OneHolder,
    /// An offered tuple is not given to another client while the offer lasts, but over a crash.
    OfferHolds,
    /// A bit is held exactly if somebody holds its slot, and the server does not find itself in contradiction.
    BitsAreTrue,
    /// A tuple that was given up goes to nobody but its last holder before the hold-down is over.
    FormerRests,
    /// A declined tuple goes to nobody before its time is over.
    DeclinedRests,
    /// An ACK promises no more than its durable record.
    RecordCoversAck,
    /// No ACK leaves before its record is durable.
    DurableFirst,
    /// A tuple that is reserved for one client is given to no other.
    ReservedIsKept,
    /// No two clients' softwires begin at one address.
    SoftwireIsUnique,
    /// A client gets no lease at a site whose limit other clients' leases have reached.
    SiteIsLimited,
}

/// An invariant that does not hold, and how that was noticed.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} does not hold: {}", self.invariant, self.text)
    }
}

impl Invariant {
    pub fn broken<T>(self, text: impl fmt::Display) -> Result<T, Violation> {
        Err(Violation { invariant: self, text: text.to_string() })
    }
}

/// When a lease ends that never ends.
const ENDLESS: u64 = u64::MAX / 4;

/// When a lease of `seconds` from `begin` on ends, in milliseconds.
pub fn end_of(begin: u64, seconds: u32) -> u64 {
    if seconds == NEVER { ENDLESS } else { begin + u64::from(seconds) * 1000 }
}

/// Whether a record that ends at the second `expires` covers a lease until `end`.
fn covers(expires: u32, end: u64) -> bool {
    expires == NEVER || u64::from(expires) * 1000 >= end
}

/// A client uses a tuple, or has used it.
#[derive(Clone, Copy, Debug)]
struct Use {
    client: usize,
    tuple: Tuple,
    /// In milliseconds.
    end: u64,
    /// Where its softwire begins, as the server has acknowledged.
    softwire: Option<Ipv6Addr>,
}

/// A lease that runs, as records have it.
#[derive(Clone, Copy, Debug)]
struct Lease {
    identity: ClientIdentity,
    link: Option<LinkId>,
    site: SiteId,
}

#[derive(Clone, Copy, Debug)]
struct Declined {
    tuple: Tuple,
    until: u32,
    stamp: Stamp,
}

/// All that was ever told to anybody.
#[derive(Debug)]
pub struct Oracle {
    durations: Durations,
    uses: Vec<Use>,
    /// Of each client: tuple, and the second in which the offer lapses.
    offers: Vec<Option<(Tuple, u32)>>,
    declined: Vec<Declined>,
    /// Records of which the journal has said that they are durable, or that were read back.
    durable: HashSet<(Tuple, u64)>,
    /// Of the durable records of a lease, the greatest stamp, and the end in seconds that it goes with.
    covered: HashMap<(Tuple, ClientIdentity), (Stamp, u32)>,
    /// What the server that runs has read back and recorded since.
    records: Vec<Record>,
    /// Of the server that runs: whose a tuple is and nobody else's.
    reserved: Option<(ClientIdentity, Tuple)>,
}

impl Oracle {
    pub fn new(clients: usize, durations: Durations) -> Oracle {
        Oracle {
            durations,
            uses: Vec::new(),
            offers: vec![None; clients],
            declined: Vec::new(),
            durable: HashSet::new(),
            covered: HashMap::new(),
            records: Vec::new(),
            reserved: None,
        }
    }

    /// This record is on the disk for good.
    pub fn is_durable(&mut self, record: &Record) {
        self.durable.insert((record.tuple(), record.stamp().0));
        if record.state() == Some(State::Bound) {
            let newest = self.covered.entry((record.tuple(), record.identity())).or_default();
            *newest = (record.stamp(), record.expires()).max(*newest);
        }
    }

    /// What was held in memory only is gone: a server begins with what it has read back.
    pub fn begins_with(&mut self, found: &[Record], reserved: Option<(ClientIdentity, Tuple)>) {
        self.records = found.to_vec();
        self.reserved = reserved;
        self.offers.fill(None);
        let durable = &self.durable;
        self.declined.retain(|declined| durable.contains(&(declined.tuple, declined.stamp.0)));
    }

    /// Whether any client uses a tuple now.
    pub fn has_uses(&self, now: Now) -> bool {
        self.uses.iter().any(|used| used.end > now.0)
    }

    fn uses(&self, client: usize, tuple: Tuple, now: Now) -> bool {
        let this = |used: &Use| used.client == client && used.tuple == tuple && used.end > now.0;
        self.uses.iter().any(this)
    }

    /// The server has taken `tuple` for `client`: may it?
    fn takes(&self, client: usize, tuple: Tuple, now: Now) -> Result<(), Violation> {
        let hold_down = u64::from(self.durations.hold_down) * 1000;
        for used in &self.uses {
            if used.client == client || used.end + hold_down <= now.0 {
                continue;
            }
            if overlap(used.tuple, tuple) {
                let broken =
                    if used.end > now.0 { Invariant::OneHolder } else { Invariant::FormerRests };
                return broken.broken(format_args!(
                    "{} is taken for client {client}: {used:?}",
                    short(tuple)
                ));
            }
        }
        for declined in &self.declined {
            if declined.until > now.seconds() && overlap(declined.tuple, tuple) {
                return Invariant::DeclinedRests.broken(format_args!(
                    "{} is taken for client {client}: {declined:?}",
                    short(tuple)
                ));
            }
        }
        for (other, offer) in self.offers.iter().enumerate() {
            if let Some((offered, until)) = *offer
                && other != client
                && until > now.seconds()
                && overlap(offered, tuple)
            {
                return Invariant::OfferHolds.broken(format_args!(
                    "{} is taken for client {client}: offered to client {other} until {until} s",
                    short(tuple)
                ));
            }
        }
        Ok(())
    }

    /// Whether the tuple is not reserved for another.
    fn may_have(&self, identity: ClientIdentity, tuple: Tuple) -> Result<(), Violation> {
        match self.reserved {
            Some((owner, reserved)) if reserved == tuple && owner != identity => {
                Invariant::ReservedIsKept.broken(format_args!(
                    "{} is given to {identity:?} and reserved for {owner:?}",
                    short(tuple)
                ))
            }
            _ => Ok(()),
        }
    }

    /// An OFFER leaves.
    pub fn offered(
        &mut self,
        client: usize,
        identity: ClientIdentity,
        tuple: Tuple,
        now: Now,
    ) -> Result<(), Violation> {
        self.may_have(identity, tuple)?;
        self.takes(client, tuple, now)?;
        self.offers[client] = Some((tuple, now.seconds() + self.durations.offer_hold));
        Ok(())
    }

    /// The client has told the server that it wants another's offer.
    pub fn offer_ends(&mut self, client: usize) {
        self.offers[client] = None;
    }

    /// The server has made a record, durable or not.
    pub fn recorded(&mut self, client: usize, record: &Record, now: Now) -> Result<(), Violation> {
        let (tuple, stamp) = (record.tuple(), record.stamp());
        self.records.push(*record);
        match record.state() {
            Some(State::Bound) => {
                self.may_have(record.identity(), tuple)?;
                self.takes(client, tuple, now)?;
                self.offers[client] = None;
            }
            Some(State::Quarantined) => {
                let until = now.seconds() + self.durations.decline_hold;
                self.declined.push(Declined { tuple, until, stamp });
                self.offers[client] = None;
            }
            // Who gives a tuple up does not wait for it to be offered either.
            _ => self.offers[client] = self.offers[client].filter(|(offered, _)| *offered != tuple),
        }
        Ok(())
    }

    /// The server is about to lease a tuple: may the client have it, as far as its site is concerned?
    pub fn admits(
        &self,
        process: &Process,
        record: &Record,
        limit: u32,
        now: Now,
    ) -> Result<(), Violation> {
        if limit == 0 || record.state() != Some(State::Bound) {
            return Ok(());
        }
        let mut leases = self.leases(process, now);
        leases.retain(|it| it.link == link_of(process, record.tuple()) && it.site == record.site());
        let others = leases.iter().filter(|it| it.identity != record.identity()).count();
        let is_new = others == leases.len();
        if !is_new || others < limit as usize {
            return Ok(());
        }
        Invariant::SiteIsLimited.broken(format_args!(
            "{} is leased at {:?}, where {others} others have leases of at most {limit}",
            short(record.tuple()),
            record.site()
        ))
    }

    /// The leases that the server knows of and that run, one a client and link. Not all of them: what a client has that
    /// has declined something since is not told by its newest record.
    fn leases(&self, process: &Process, now: Now) -> Vec<Lease> {
        let mut newest: HashMap<Tuple, &Record> = HashMap::new();
        for record in &self.records {
            let known = newest.entry(record.tuple()).or_insert(record);
            if known.stamp() < record.stamp() {
                *known = record;
            }
        }
        let mut leases: HashMap<(ClientIdentity, LinkId), &Record> = HashMap::new();
        for record in newest.into_values() {
            let served = is_served(process, record.tuple());
            let Some(link) = link_of(process, record.tuple()).filter(|_| served) else { continue };
            let known = leases.entry((record.identity(), link)).or_insert(record);
            if known.stamp() < record.stamp() {
                *known = record;
            }
        }
        let runs = |record: &Record| {
            record.state() == Some(State::Bound) && lasts(record.expires(), process.clock(now))
        };
        let leases = leases.into_iter().filter(|(_, record)| runs(record));
        leases
            .map(|((identity, link), record)| Lease {
                identity,
                link: Some(link),
                site: record.site(),
            })
            .collect()
    }

    /// An ACK that was parked leaves.
    pub fn unparked(worker: &Worker, parked: &Parked) -> Result<(), Violation> {
        if worker.durable < parked.sequence {
            return Invariant::DurableFirst.broken(format_args!(
                "the ACK {:08x} leaves, its record is number {} of {:?}, of which {} are durable",
                parked.reply.xid,
                parked.sequence,
                worker.lane.id(),
                worker.durable
            ));
        }
        Ok(())
    }

    /// An ACK leaves that was not parked.
    pub fn repeated(
        &self,
        process: &Process,
        client: &Client,
        reply: &Received,
        now: Now,
    ) -> Result<(), Violation> {
        let tuple = tuple_of(reply);
        match binding(process, client, tuple, now) {
            Some(binding) if self.durable.contains(&(tuple, binding.stamp.0)) => Ok(()),
            binding => Invariant::DurableFirst.broken(format_args!(
                "the ACK {:08x} of {} leaves without a record, and {binding:?} is not durable",
                reply.xid,
                short(tuple)
            )),
        }
    }

    /// An ACK leaves, one way or the other. `awaited`: its client will take it, if it arrives.
    pub fn acknowledged(
        &mut self,
        client: usize,
        identity: ClientIdentity,
        reply: &Received,
        awaited: bool,
        now: Now,
    ) -> Result<(), Violation> {
        let tuple = tuple_of(reply);
        let end = end_of(now.0, reply.lease_seconds.unwrap_or(0));
        if !awaited {
            return Ok(());
        }
        self.is_covered(tuple, identity, end)?;
        self.takes(client, tuple, now)?;
        self.tunnels(client, reply, now)?;
        let softwire = reply.softwire;
        match self.find(client, tuple) {
            Some(used) => (used.end, used.softwire) = (used.end.max(end), softwire),
            None => self.uses.push(Use { client, tuple, end, softwire }),
        }
        Ok(())
    }

    /// Whether the client may have its softwire begin where the ACK says.
    fn tunnels(&self, client: usize, reply: &Received, now: Now) -> Result<(), Violation> {
        let Some(address) = reply.softwire else { return Ok(()) };
        let same = |used: &&Use| {
            used.client != client && used.end > now.0 && used.softwire == Some(address)
        };
        match self.uses.iter().find(same) {
            None => Ok(()),
            Some(used) => Invariant::SoftwireIsUnique.broken(format_args!(
                "client {client} is told that its softwire begins at {address}: {used:?}"
            )),
        }
    }

    /// The client wants its softwire to begin at `address`, if it says so, and nowhere else.
    pub fn redirects(&mut self, client: usize, address: Option<&[u8]>) {
        let differs = |it: &Ipv6Addr| address.is_some_and(|wanted| it.octets() != wanted);
        for used in self.uses.iter_mut().filter(|used| used.client == client) {
            used.softwire = used.softwire.filter(|softwire| !differs(softwire));
        }
    }

    /// A client has got its ACK and uses the tuple until `end`, by its own clock.
    pub fn taken(
        &mut self,
        client: usize,
        identity: ClientIdentity,
        tuple: Tuple,
        end: u64,
    ) -> Result<(), Violation> {
        self.is_covered(tuple, identity, end)?;
        match self.find(client, tuple) {
            Some(used) => used.end = end,
            None => self.uses.push(Use { client, tuple, end, softwire: None }),
        }
        Ok(())
    }

    fn find(&mut self, client: usize, tuple: Tuple) -> Option<&mut Use> {
        self.uses.iter_mut().find(|used| used.client == client && used.tuple == tuple)
    }

    fn is_covered(
        &self,
        tuple: Tuple,
        identity: ClientIdentity,
        end: u64,
    ) -> Result<(), Violation> {
        let (_, recorded) = self.covered.get(&(tuple, identity)).copied().unwrap_or_default();
        if covers(recorded, end) {
            return Ok(());
        }
        Invariant::RecordCoversAck.broken(format_args!(
            "{} is promised until {end} ms, its durable record ends at {recorded} s",
            short(tuple)
        ))
    }

    /// The client uses nothing any more, but perhaps `kept`.
    pub fn gives_up(&mut self, client: usize, kept: Option<Tuple>, now: Now) {
        for used in &mut self.uses {
            if used.client == client && Some(used.tuple) != kept {
                used.end = used.end.min(now.0);
            }
        }
    }

    /// When something is over, in milliseconds.
    pub fn ends(&self) -> Vec<u64> {
        let hold_down = u64::from(self.durations.hold_down) * 1000;
        let uses = self.uses.iter().flat_map(|used| [used.end, used.end + hold_down]);
        let offers = self.offers.iter().flatten().map(|(_, until)| u64::from(*until) * 1000);
        let declined = self.declined.iter().map(|declined| u64::from(declined.until) * 1000);
        uses.chain(offers).chain(declined).filter(|end| *end < ENDLESS).collect()
    }

    /// Forgets what is over and of no consequence.
    pub fn prune(&mut self, now: Now) {
        let hold_down = u64::from(self.durations.hold_down) * 1000;
        self.uses.retain(|used| used.end + hold_down > now.0);
        self.declined.retain(|declined| declined.until > now.seconds());
    }

    /// Whether the server knows of every lease in use what its client knows.
    pub fn survives(
        &self,
        process: &Process,
        clients: &[Client],
        now: Now,
    ) -> Result<(), Violation> {
        for used in self.uses.iter().filter(|used| used.end > now.0) {
            if !is_served(process, used.tuple) {
                continue;
            }
            let found = binding(process, &clients[used.client], used.tuple, now);
            let keeps = found.is_some_and(|binding| {
                process.engine.leases().pools().tuple_of(binding.at) == used.tuple
                    && binding.holding == Holding::Active
                    && covers(binding.expires, used.end)
            });
            if !keeps {
                return Invariant::LeaseSurvives
                    .broken(format_args!("{used:?}, but the server has {found:?}"));
            }
        }
        Ok(())
    }

    /// A client has asked to keep what it uses: was it heard?
    pub fn extended(
        &self,
        process: &Process,
        (client, identity): (usize, ClientIdentity),
        message: &Message,
        answer: Result<MessageType, &str>,
        now: Now,
    ) -> Result<(), Violation> {
        let Some(tuple) = message.wanted() else { return Ok(()) };
        let must = self.uses(client, tuple, now)
            && hears(process, message, tuple)
            && self.may_have(identity, tuple).is_ok()
            && answer != Err("saddr-conflict");
        if !must || answer == Ok(MessageType::Ack) {
            return Ok(());
        }
        Invariant::LeaseSurvives
            .broken(format_args!("client {client} says {message} and hears {answer:?}"))
    }
}

/// The link whose pool has the tuple's address.
fn link_of(process: &Process, tuple: Tuple) -> Option<LinkId> {
    let pools = process.engine.leases().pools();
    pools.locate(tuple.address).map(|pool| pools.link_of(pool))
}

/// Whether a pool of this configuration has the tuple.
fn is_served(process: &Process, tuple: Tuple) -> bool {
    let pools = process.engine.leases().pools();
    let Some(at) = pools.locate_tuple(tuple) else { return false };
    !pools.get(at.pool).geometry().is_reserved(tuple.psid)
}

/// Whether the configuration lets the server extend the tuple for this message. One that names no present address is
/// heard on the tuple's own link only.
fn hears(process: &Process, message: &Message, tuple: Tuple) -> bool {
    let engine = &process.engine;
    is_served(process, tuple)
        && (!message.query.ciaddr.is_unspecified()
            || engine.leases().pools().locate(tuple.address).is_some_and(|pool| {
                let link = engine.leases().pools().link_of(pool);
                let name = &engine.policy().links[usize::from(link.0)].name;
                *name == format!("L{}", message.query.link)
            }))
}

/// What the server knows of the client on the tuple's link.
fn binding(
    process: &Process,
    client: &Client,
    tuple: Tuple,
    now: Now,
) -> Option<portlease::lease::client::Binding> {
    let leases = process.engine.leases();
    let at = leases.pools().locate_tuple(tuple)?;
    let key = client.identity.on(leases.pools().link_of(at.pool));
    leases.lock(key).binding(process.clock(now))
}
