//! Decisions: one function from datagram to verdict, and one file a message.
//!
//! [`Engine::answer`] is pure with respect to the world: octets and a time in, a verdict and octets out. AF_XDP
//! ports, UDP sockets, tests and fuzzers call the same function. It never blocks but on the lock of one shard of
//! bindings, allocates nothing and reads no clock.

pub mod choose;
mod commit;
mod decline;
mod discover;
mod essentials;
mod exchange;
mod fill;
mod inform;
mod information;
mod objection;
pub mod options;
pub mod policy;
mod rate;
mod reading;
pub mod reason;
mod release;
pub mod remark;
mod reply;
mod request;
mod request_state;
mod reservations;
mod site;
pub mod times;

use std::{cell::Cell, net::Ipv4Addr, sync::Arc};

use self::{
    choose::Chooser,
    exchange::{Exchange, Identified, Scratch, identifying_octets},
    policy::{Link, Policy},
    rate::RateLimit,
    reading::Content,
    reason::{Reason, Refusal},
    reservations::Directory,
    site::Sites,
};
use crate::{
    lease::{
        Claims, Leases,
        client::{Client, Records},
        key::{IdentitySecret, LinkId, SiteId},
        promise::Promise,
        record::{Record, Tuple},
        stamp::Now,
    },
    wire::{datagram::Datagram, dhcpv4::MessageType, portparams::PortParams},
};

pub use self::{
    reading::Reading,
    reply::{Reply, ReplyKind},
};

/// What becomes of a datagram. `R` are records: as they are, or where they are.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<R = Records> {
    /// Nothing is sent. The reason is to be counted.
    Ignore(Reason),
    /// The reply may leave at once: it promises nothing that is not durable already.
    Reply(Reply),
    /// The records go to the journal, and the reply, if there is one, waits until they are durable.
    Promise {
        /// One record, or two if the client moves from one tuple to another.
        records: R,
        /// The reply that waits. A RELEASE and a DECLINE have none.
        reply: Option<Reply>,
    },
}

impl<R> Verdict<R> {
    /// The same verdict with the records `records`, if it has any.
    pub fn with<S>(self, records: S) -> Verdict<S> {
        match self {
            Verdict::Ignore(reason) => Verdict::Ignore(reason),
            Verdict::Reply(reply) => Verdict::Reply(reply),
            Verdict::Promise { reply, .. } => Verdict::Promise { records, reply },
        }
    }
}

/// What comes of a message, while its records are where the caller wants them.
type Decided = Result<Verdict<()>, Reason>;

/// Where an answer is written: the octets of the reply, and what it promises.
struct Room<'r> {
    octets: &'r mut [u8],
    records: &'r mut Records,
}

/// The server's mind: a policy, the leases, and the secret that identities are hashed with.
pub struct Engine {
    policy: Policy,
    chooser: Chooser,
    leases: Arc<Leases>,
    secret: IdentitySecret,
    information: Option<information::Service>,
    rates: Option<RateLimit>,
    declines: RateLimit,
    sites: Sites,
    /// Whether it matters of a query that leaves no record which site it came from.
    counts_sites: bool,
    reservations: Directory,
}

impl Engine {
    /// An engine that decides by `policy` over `leases`. The pools that the policy's links name are those of
    /// `leases`, and `secret` is the one that the leases' identities were made with.
    pub fn new(policy: Policy, leases: Arc<Leases>, secret: IdentitySecret) -> Engine {
        let chooser = Chooser::new(&policy.matches);
        let information = information::Service::new(&policy, &secret);
        let sites = Sites::new(secret, policy.sites.prefix_length);
        let rates = RateLimit::new(policy.sites.queries_per_second);
        let declines = RateLimit::of_declines();
        let counts_sites = rates.is_some() || leases.limits_sites();
        let reservations = Directory::new(&policy.reservations, leases.pools(), &secret);
        Engine {
            policy,
            chooser,
            leases,
            secret,
            information,
            rates,
            declines,
            sites,
            counts_sites,
            reservations,
        }
    }

    /// The DUID of Replies; none if no Information-request is answered.
    pub fn server_duid(&self) -> Option<&[u8]> {
        self.information.as_ref().map(information::Service::duid)
    }

    /// The leases it decides over.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The policy it decides by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Answers one datagram at the time `now`. `promise` is the place in the worker's lane that the first record of
    /// the verdict will get. The reply is written to the start of `out`; if that is too small, the datagram is
    /// ignored and nothing is promised.
    ///
    /// [`read`](Self::read) and [`decide`](Self::decide) in one.
    pub fn answer(
        &self,
        now: Now,
        datagram: &Datagram<'_>,
        promise: Promise,
        out: &mut [u8],
    ) -> Verdict {
        let mut records = Records::default();
        let verdict = self.decide(now, &self.read(datagram), promise, &mut records, out).with(());
        verdict.with(records)
    }

    /// Answers a datagram that has been read, whenever that was. Its records are written to `records`.
    pub fn decide<'r>(
        &self,
        now: Now,
        reading: &Reading<'_>,
        promise: Promise,
        records: &'r mut Records,
        out: &mut [u8],
    ) -> Verdict<&'r [Record]> {
        let datagram = &reading.datagram;
        let mut room = Room { octets: out, records: &mut *records };
        let decided = match &reading.content {
            Ok(Content::Query(query)) => {
                self.decide_query(now, datagram, query, promise, &mut room)
            }
            Ok(Content::Information(request)) => {
                information::answer(self, now, datagram, request, room.octets)
            }
            Err(reason) => Err(*reason),
        };
        decided.unwrap_or_else(Verdict::Ignore).with(records)
    }

    fn decide_query(
        &self,
        now: Now,
        datagram: &Datagram<'_>,
        query: &reading::Query<'_>,
        promise: Promise,
        room: &mut Room<'_>,
    ) -> Decided {
        let message = &query.message;
        self.admit(now, query.site, query.link)?;
        let Identified { identity, hardware, can_share } = query.client?;
        let mut scratch: Scratch;
        let identifier = message.client_identifier();
        let octets = if let Some(octets) = identifier.and_then(|value| value.contiguous()) {
            octets
        } else {
            scratch = [0; 255];
            identifying_octets(message, &mut scratch)
        };
        let exchange = Exchange {
            now,
            datagram,
            relays: query.envelope.relays,
            remarks: Cell::new(query.remarks),
            unicast: query.envelope.unicast,
            requested: query.envelope.requested,
            message,
            link: query.link,
            source: query.source,
            client: exchange::Client { identity, octets, hardware, can_share },
            site: query.site,
            promise,
        };
        match message.kind() {
            MessageType::Discover => discover::answer(self, &exchange, room.octets),
            MessageType::Request => request::answer(self, &exchange, room),
            MessageType::Release => release::answer(self, &exchange, room),
            MessageType::Decline => decline::answer(self, &exchange, room),
            MessageType::Inform => inform::answer(self, &exchange, room.octets),
            MessageType::Offer | MessageType::Ack | MessageType::Nak => {
                Err(Refusal::ServerMessage.into())
            }
            _ => Err(Refusal::NotServed.into()),
        }
    }

    /// req-X2 (RFC 7618 §10): a site that asks too often is not heard.
    #[inline]
    fn admit(&self, now: Now, site: SiteId, link: LinkId) -> Result<(), Refusal> {
        match &self.rates {
            Some(rates) if !rates.admits(site, link, now) => Err(Refusal::RateLimit),
            _ => Ok(()),
        }
    }

    /// Locks what the sender of a query has on `link`. Lock no other client meanwhile.
    fn lock(&self, exchange: &Exchange<'_>, link: LinkId) -> Client<'_> {
        let entitled = self.reservations.find(exchange, link, &self.secret);
        let claims = Claims { site: exchange.site, entitled };
        self.leases.lock_with(exchange.client.identity.on(link), claims)
    }

    /// The link of a number that the chooser gave, or that a pool of this configuration has.
    fn link(&self, link: LinkId) -> &Link {
        &self.policy.links[usize::from(link.0)]
    }
}

/// The tuple of an address and the content of option 159.
fn tuple(address: Ipv4Addr, params: PortParams) -> Tuple {
    let PortParams { offset, psid_length, psid } = params;
    Tuple { address, offset, psid_length, psid }
}
