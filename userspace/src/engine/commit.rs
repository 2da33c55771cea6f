//! Leasing what a REQUEST asks for: the ACK, the record, and where the softwire begins (RFC 2131 §3.1, RFC 8539 §8).

use std::net::Ipv6Addr;

use super::{
    Decided, Engine, Room, Verdict,
    exchange::Exchange,
    objection::{Objection, nak},
    policy::SoftwireConflict,
    reason::{Reason, Refusal},
    reply::{self, Terms},
    times,
};
use crate::{
    lease::{
        client::{Client, GrantError, Holder, Holding},
        pools::Location,
    },
    wire::dhcpv4::MessageType,
};

/// A softwire address that was free may be another's by the time that it is claimed, and then is not free.
const ATTEMPTS: usize = 2;

/// What becomes of the address in option 109.
enum Softwire {
    /// The lease gets it.
    New(Ipv6Addr),
    /// The lease goes on with what it has, if it has any.
    Kept(Option<Ipv6Addr>),
    /// It is another's, and the client has no lease: it gets none.
    Refused,
    /// It is another's, and the client is not told.
    Dropped,
}

/// Leases `at` to the client.
pub(super) fn commit(
    engine: &Engine,
    exchange: &Exchange<'_>,
    client: &mut Client<'_>,
    at: Location,
    room: &mut Room<'_>,
) -> Decided {
    if client.is_barred_from(at) {
        return nak(engine, exchange, Objection::Taken, room.octets);
    }
    for _ in 0..ATTEMPTS {
        let softwire = softwire(engine, exchange, client);
        match softwire {
            Softwire::Refused => {
                return nak(engine, exchange, Objection::SoftwireTaken, room.octets);
            }
            Softwire::Dropped => break,
            Softwire::New(_) | Softwire::Kept(_) => {}
        }
        let objection = match grant(engine, exchange, client, at, &softwire, room)? {
            Ok(verdict) => return Ok(verdict),
            Err(GrantError::SoftwireTaken) => continue,
            // req-S67 (RFC 2131 §3.1): what is requested cannot be satisfied.
            Err(GrantError::Taken) => Objection::Taken,
            Err(GrantError::SiteFull) => Objection::SiteFull,
            Err(GrantError::TableFull) => return Err(Refusal::TableFull.into()),
            Err(GrantError::Crowded) => return Err(Refusal::MovesExhausted.into()),
        };
        return nak(engine, exchange, objection, room.octets);
    }
    Err(Refusal::SaddrConflict.into())
}

/// What the softwire address of this REQUEST comes to: nothing, where softwires are not configured.
// req-X5 (RFC 8539 §9): only the client's own lease, found by its identifier and its tuple, is ever changed.
fn softwire(engine: &Engine, exchange: &Exchange<'_>, client: &Client<'_>) -> Softwire {
    let now = exchange.now;
    let Some(policy) = &engine.policy.softwire else { return Softwire::Kept(None) };
    let lease = client.binding(now).filter(|binding| binding.holding == Holding::Active);
    let stored = lease.and_then(|lease| lease.softwire);
    let kept = Softwire::Kept(stored.map(|stored| stored.address));
    let asked = exchange.message.softwire_source().filter(|address| is_usable(*address));
    let Some(asked) = asked else { return kept };
    if stored.is_some_and(|stored| stored.address == asked) {
        return kept;
    }
    // req-S93 (RFC 8539 §8.2): another's is not stored; who has no lease hears a NAK.
    if !client.may_have_softwire(asked, exchange.client.identity, now) {
        return match (lease, policy.conflict) {
            (None, _) => Softwire::Refused,
            (Some(_), SoftwireConflict::Existing) => kept,
            (Some(_), SoftwireConflict::Drop) => Softwire::Dropped,
        };
    }
    // req-S92 (RFC 8539 §8.1): another one is stored, but not too soon after the last.
    let since = |changed: u32| now.seconds().saturating_sub(changed);
    match stored {
        Some(stored) if since(stored.changed) < policy.update_interval_seconds => kept,
        _ => Softwire::New(asked),
    }
}

/// Whether packets can be sent to a softwire that begins at `address`.
fn is_usable(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || address.is_unicast_link_local())
}

/// The ACK is written first: a reply that cannot be sent must promise nothing.
fn grant(
    engine: &Engine,
    exchange: &Exchange<'_>,
    client: &mut Client<'_>,
    at: Location,
    softwire: &Softwire,
    room: &mut Room<'_>,
) -> Result<Result<Verdict<()>, GrantError>, Reason> {
    let tuple = engine.leases.pools().tuple_of(at);
    let term = Term::of(engine, exchange, client, at);
    let (new, told) = match *softwire {
        Softwire::New(address) => (Some(address), Some(address)),
        Softwire::Kept(address) => (None, address),
        Softwire::Refused | Softwire::Dropped => (None, None),
    };
    // req-S91 (RFC 8539 §8): every ACK of a lease that has one bears it.
    let terms = Terms { pool: at.pool, tuple, seconds: term.seconds, softwire: told };
    let reply = reply::lease(&engine.policy, exchange, MessageType::Ack, terms, room.octets)?;
    if term.is_recorded && new.is_none() {
        return Ok(Ok(Verdict::Reply(reply)));
    }
    // req-S65 (RFC 2131 §3.1): the reply waits until the record of the binding is durable.
    // req-S90 (RFC 8539 §8): it is stored with the lease, and recorded with it.
    let holder = Holder { softwire: new, ..exchange.holder() };
    let (promise, now) = (exchange.promise, exchange.now);
    let granted = client.grant_into(at, term.expires, &holder, promise, now, room.records);
    Ok(granted.map(|_| Verdict::Promise { records: (), reply: Some(reply) }))
}

/// How long a lease is.
struct Term {
    /// What the client is told.
    seconds: u32,
    /// What the record says.
    expires: u32,
    /// It says so already, and is durable: nothing but the expiry of a new one would differ.
    is_recorded: bool,
}

impl Term {
    /// The time of a lease of `at`: what the client asks for within the bounds, from now on. Or what remains of the
    /// lease that it has, if that is so young that it needs no new record, or if leases are not extended (RFC 2131
    /// §4.3.2).
    ///
    /// A repeated REQUEST is one of a young lease.
    fn of(engine: &Engine, exchange: &Exchange<'_>, client: &Client<'_>, at: Location) -> Term {
        let (policy, now) = (&engine.policy, exchange.now);
        let usual = times::granted_seconds(&policy.times, exchange.message.lease_seconds());
        let expires = times::recorded_expiry(now, usual);
        let anew = Term { seconds: usual, expires, is_recorded: false };
        let Some(lease) = client.binding(now) else { return anew };
        let Some(left) = times::seconds_left(Some(lease), at, now) else { return anew };
        let same = lease.source == engine.leases.source(exchange.source)
            && engine.leases.keeps(lease.promise);
        let young = times::is_early(&policy.times, usual, left);
        if policy.extend_leases && !(same && young) {
            return anew;
        }
        Term { seconds: left.min(usual), expires: lease.expires, is_recorded: same }
    }
}
