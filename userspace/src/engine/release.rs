//! DHCPRELEASE: the lease ends now, and the tuple rests for its last holder (RFC 7618 §8, RFC 2131 §4.3.4).

use super::{Decided, Engine, Room, Verdict, exchange::Exchange, reason::Refusal};
use crate::{
    lease::{client::Holding, record::Tuple},
    wire::dhcpv4::PortParamsField,
};

/// Never a reply. A RELEASE carries no parameter request list (RFC 2131 Table 5), so none is asked for.
///
/// req-S40 (RFC 7618 §8): looked up by address and port set, ended if it is this client's, and of
/// req-S74 (RFC 2131 §4.3.4) remembered for it.
pub(super) fn answer(engine: &Engine, exchange: &Exchange<'_>, room: &mut Room<'_>) -> Decided {
    if !engine.policy.is_server_id(exchange.message.server_id()) {
        return Err(Refusal::NotOurServerId.into());
    }
    let address = exchange.message.ciaddr();
    let pools = engine.leases.pools();
    let pool = pools.locate(address).ok_or(Refusal::NotOurAddress)?;
    let whole = !pools.get(pool).geometry().is_shared();
    let tuple = match exchange.message.port_params() {
        _ if whole => Some(Tuple::whole(address)),
        PortParamsField::Present(params) => Some(super::tuple(address, params)),
        // A client has one lease on a link: its address is enough to know which.
        PortParamsField::Absent if engine.policy.accept_release_without_159 => None,
        PortParamsField::Absent => return Err(Refusal::ReleaseMismatch.into()),
        PortParamsField::Invalid => return Err(Refusal::BadPortParams.into()),
    };
    // req-S40 (RFC 7618 §8): found by address and port set, and ended only if it is this client's.
    let mut client = engine.lock(exchange, pools.link_of(pool));
    let binding = client
        .binding(exchange.now)
        .filter(|binding| {
            let leased = pools.tuple_of(binding.at);
            leased.address == address && tuple.is_none_or(|tuple| tuple == leased)
        })
        .ok_or(Refusal::ReleaseMismatch)?;
    if binding.holding != Holding::Active {
        return Err(Refusal::ReleaseRepeated.into());
    }
    let record = client
        .release(&exchange.holder(), exchange.promise, exchange.now)
        .ok_or(Refusal::ReleaseRepeated)?;
    *room.records = record.into();
    Ok(Verdict::Promise { records: (), reply: None })
}
