//! DHCPDECLINE: the client says that what it was given is in use elsewhere (RFC 2131 §4.3.3).
//!
//! Of a shared address only the client's own port set is taken out of use: the other clients of the address have
//! nothing to do with it.

use std::net::Ipv4Addr;

use super::{
    Decided, Engine, Room, Verdict,
    exchange::Exchange,
    reason::Refusal,
    request::{Named, named},
};
use crate::lease::{
    client::{Client, Holding, QuarantineError, Standing},
    pools::{Location, Pools},
    stamp::Now,
};

/// Never a reply. A DECLINE carries no parameter request list (RFC 2131 Table 5), so none is asked for.
///
/// req-S73 (RFC 2131 §4.3.3): the tuple is nobody's until the decline-hold is over, and the operator hears of it.
pub(super) fn answer(engine: &Engine, exchange: &Exchange<'_>, room: &mut Room<'_>) -> Decided {
    if !engine.policy.is_server_id(exchange.message.server_id()) {
        return Err(Refusal::NotOurServerId.into());
    }
    let address = exchange.message.requested_address().ok_or(Refusal::DeclineMismatch)?;
    let pools = engine.leases.pools();
    let pool = pools.locate(address).ok_or(Refusal::NotOurAddress)?;
    let link = pools.link_of(pool);
    let mut client = engine.lock(exchange, link);
    let at = match named(pools, exchange, Some(pool), address) {
        Named::Slot(at) => Some(at),
        Named::Bare => only_one(pools, &client, address, exchange.now),
        Named::Invalid => return Err(Refusal::BadPortParams.into()),
        Named::NoSlot | Named::Elsewhere => None,
    };
    let standing = |at: &Location| client.standing(*at, exchange.now);
    let at = at.filter(|at| matches!(standing(at), Standing::Active | Standing::Offered));
    let at = at.ok_or(Refusal::DeclineMismatch)?;
    // req-X2 (RFC 7618 §10): nobody drains a pool by declining, neither under one name nor under many.
    if !engine.declines.admits(exchange.site, link, exchange.now) {
        return Err(Refusal::RateLimit.into());
    }
    match client.quarantine(at, &exchange.holder(), exchange.now) {
        Ok(record) => {
            *room.records = record.into();
            Ok(Verdict::Promise { records: (), reply: None })
        }
        Err(QuarantineError::NotHeld) => Err(Refusal::DeclineMismatch.into()),
        Err(QuarantineError::Crowded) => Err(Refusal::RateLimit.into()),
        Err(QuarantineError::TableFull) => Err(Refusal::TableFull.into()),
    }
}

/// What the client has at `address`, a lease or an offer, if that is only one thing.
fn only_one(pools: &Pools, client: &Client<'_>, address: Ipv4Addr, now: Now) -> Option<Location> {
    let leased = client.binding(now).filter(|binding| binding.holding == Holding::Active);
    let leased = leased.filter(|binding| pools.tuple_of(binding.at).address == address);
    let offered = client.offer(now).filter(|offer| offer.tuple.address == address);
    match (leased.map(|binding| binding.at), offered.map(|offer| offer.at)) {
        (Some(leased), Some(offered)) => (leased == offered).then_some(leased),
        (leased, offered) => leased.or(offered),
    }
}
