//! Clients: what they use, what they say and what they take for an answer (RFC 2131 §4.4).

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use portlease::{
    lease::{
        key::{ClientIdentity, IdentityKind},
        record::{NEVER, Tuple},
    },
    wire::dhcpv4::MessageType,
};

use super::plan::{LINKS, Plan, short};
use crate::common::{self, Query, Received, SECRET, SERVER_ID, client_identifier};

/// What a message tells the server that it must not hear after something newer: there are no numbers in it that would
/// tell the newer from the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The client wants this tuple and no other.
    Wants(Tuple),
    /// The client leaves what it has.
    Leaves,
    /// Nothing that would matter.
    Nothing,
}

/// A message, and what it means.
#[derive(Clone, Debug)]
pub struct Message {
    pub query: Query,
    pub telling: Telling,
}

impl Message {
    /// The tuple that the client wants to get or keep.
    pub fn wanted(&self) -> Option<Tuple> {
        match self.telling {
            Telling::Wants(tuple) => Some(tuple),
            _ => None,
        }
    }

    /// Whether the client says that it will not take our offer.
    pub fn rejects(&self) -> bool {
        self.query.server_id.is_some_and(|id| id != SERVER_ID)
    }

    /// Whether this may be said while `earlier` may still arrive.
    pub fn may_follow(&self, earlier: &Message) -> bool {
        self.telling == Telling::Nothing
            || earlier.telling == Telling::Nothing
            || self.telling == earlier.telling && self.query.softwire == earlier.query.softwire
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = &self.query;
        write!(f, "{:?} {:08x}", query.kind, query.xid)?;
        if let Some(tuple) = self.wanted() {
            write!(f, " {}", short(tuple))?;
        }
        if let Some(end) = query.softwire.as_ref().and_then(|octets| octets.last()) {
            write!(f, " softwire {end}")?;
        }
        let phrases = [
            (query.unicast, "unicast"),
            (query.relayed, "relayed"),
            (!query.ciaddr.is_unspecified(), "from ciaddr"),
            (query.server_id == Some(SERVER_ID), "to us"),
            (self.rejects(), "to another server"),
        ];
        phrases.iter().filter(|(said, _)| *said).try_for_each(|(_, phrase)| write!(f, ", {phrase}"))
    }
}

/// A message that the client expects an answer to.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub message: Message,
    /// When it was sent last, in milliseconds: a lease is counted from there.
    pub sent: u64,
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    number: u8,
    pub link: u16,
    /// Whether it is one that takes whole addresses only, and has no client identifier.
    legacy: bool,
    pub identity: ClientIdentity,
    /// What it uses now.
    pub lease: Option<Tuple>,
    /// What it used last: a client that reboots remembers it.
    former: Option<Tuple>,
    pub offer: Option<Tuple>,
    pub transaction: Option<Transaction>,
}

impl Client {
    pub fn new(number: u8, link: u16, legacy: bool) -> Client {
        let query = Query::new(MessageType::Discover, number, link);
        let identity = if legacy {
            let octets = [&[1], &query.hardware[..]].concat();
            SECRET.identify(IdentityKind::HardwareAddress, &octets)
        } else {
            SECRET.identify(IdentityKind::ClientIdentifier, &client_identifier(number))
        };
        let (lease, former, offer, transaction) = (None, None, None, None);
        Client { number, link, legacy, identity, lease, former, offer, transaction }
    }

    fn query(&self, kind: MessageType) -> Query {
        let query = Query::new(kind, self.number, self.link);
        if self.legacy { Query { client_identifier: None, ..query }.without_159() } else { query }
    }

    /// The message that this client would send now; `None` if it has nothing to say.
    pub fn speak(&self, plan: &Plan, random: &mut fastrand::Rng) -> Option<Message> {
        let turn = random.u32(0..100);
        let message = match (self.offer, self.lease) {
            (Some(tuple), _) if random.u32(0..10) < 6 => self.select(tuple, SERVER_ID),
            (_, Some(tuple)) => match turn {
                0..35 => self.extend(tuple, true),
                35..50 => self.extend(tuple, false),
                50..60 => self.reboot(tuple),
                60..75 => self.release(tuple),
                75..90 => self.select(plan.any_tuple(self.link, random), SERVER_ID),
                _ => self.discover(None),
            },
            (_, None) => match (turn, self.former, self.offer) {
                (0..10, Some(tuple), _) => self.reboot(tuple),
                (10..15, Some(tuple), _) => self.extend(tuple, random.bool()),
                (15..20, _, Some(tuple)) => self.select(tuple, Ipv4Addr::new(192, 0, 2, 99)),
                (20..45, ..) => self.select(plan.any_tuple(self.link, random), SERVER_ID),
                (45..60, ..) => self.discover(Some(plan.any_tuple(self.link, random))),
                (60..99, ..) => self.discover(None),
                _ => return None,
            },
        };
        Some(on_some_way(message, random))
    }

    fn discover(&self, hint: Option<Tuple>) -> Message {
        let query = self.query(MessageType::Discover);
        let query = match hint {
            Some(tuple) => Query { requested: Some(tuple.address), params: params(tuple), ..query },
            None => query,
        };
        Message { query, telling: Telling::Nothing }
    }

    fn select(&self, tuple: Tuple, server_id: Ipv4Addr) -> Message {
        let query = Query {
            requested: Some(tuple.address),
            params: params(tuple),
            server_id: Some(server_id),
            ..self.query(MessageType::Request)
        };
        let ours = server_id == SERVER_ID;
        Message { query, telling: if ours { Telling::Wants(tuple) } else { Telling::Nothing } }
    }

    fn reboot(&self, tuple: Tuple) -> Message {
        let Message { query, telling } = self.select(tuple, SERVER_ID);
        Message { query: Query { server_id: None, ..query }, telling }
    }

    fn extend(&self, tuple: Tuple, unicast: bool) -> Message {
        let query = Query {
            ciaddr: tuple.address,
            params: params(tuple),
            unicast,
            ..self.query(MessageType::Request)
        };
        Message { query, telling: Telling::Wants(tuple) }
    }

    fn release(&self, tuple: Tuple) -> Message {
        let query = Query {
            kind: MessageType::Release,
            server_id: Some(SERVER_ID),
            ..self.extend(tuple, true).query
        };
        Message { query, telling: Telling::Leaves }
    }

    /// Whether the reply is one to the last message, and fits it. Any other is ignored.
    pub fn awaits(&self, reply: &Received) -> bool {
        let Some(Transaction { message, .. }) = &self.transaction else { return false };
        reply.xid == message.query.xid
            && match reply.kind {
                MessageType::Offer => message.query.kind == MessageType::Discover,
                MessageType::Ack => message.wanted() == Some(tuple_of(reply)),
                MessageType::Nak => message.query.kind == MessageType::Request,
                _ => false,
            }
    }

    /// The client stops using what it has.
    pub fn leave(&mut self) {
        self.former = self.lease.take().or(self.former);
    }

    /// It dies and is born again, perhaps elsewhere, with nothing but a memory of what it had.
    pub fn forget(&mut self, link: u16) {
        self.leave();
        (self.offer, self.transaction, self.link) = (None, None, link);
    }
}

/// Through a relay or directly; and what it asks for.
fn on_some_way(mut message: Message, random: &mut fastrand::Rng) -> Message {
    let query = &mut message.query;
    query.relayed = random.u32(0..4) == 0;
    query.xid = random.u32(..);
    if query.kind == MessageType::Request {
        query.softwire = random.bool().then(|| any_softwire(random));
    }
    query.lease_seconds = match random.u32(0..40) {
        0..13 => Some(random.u32(60..=200)),
        13 => Some(NEVER),
        _ => None,
    };
    if !query.ciaddr.is_unspecified() && random.u32(0..4) == 0 {
        // A renewal may come by another path than the lease did.
        query.link = LINKS[random.usize(0..LINKS.len())];
    }
    message
}

/// One of few addresses that softwires begin at.
fn any_softwire(random: &mut fastrand::Rng) -> Vec<u8> {
    Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, random.u16(1..5)).octets().to_vec()
}

/// The octets of option 159; none for a whole address.
fn params(tuple: Tuple) -> Option<Vec<u8>> {
    let Tuple { offset, psid_length, psid, .. } = tuple;
    (psid_length > 0).then(|| common::params(offset, psid_length, psid))
}

/// What a reply is about.
pub fn tuple_of(reply: &Received) -> Tuple {
    reply.params.map_or(Tuple::whole(reply.address), |params| Tuple {
        address: reply.address,
        offset: params.offset,
        psid_length: params.psid_length,
        psid: params.psid,
    })
}
