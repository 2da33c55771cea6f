//! DHCPREQUEST: the four truth tables of a lease's life (RFC 2131 §4.3.2, RFC 7618 §6 to §8).

use std::net::Ipv4Addr;

use super::{
    Decided, Engine, Room,
    commit::commit,
    exchange::Exchange,
    objection::{Objection, nak},
    policy::BindSource,
    reason::Refusal,
    remark::Remark,
    request_state::{RequestState, request_state},
    times,
};
use crate::{
    lease::{
        client::{Binding, Client, Holding, Standing},
        key::LinkId,
        pool::PoolId,
        pools::{Location, Pools},
        record::Tuple,
    },
    wire::dhcpv4::PortParamsField,
};

/// What a row of a truth table says.
enum Decision {
    /// Lease this tuple to the client, whether it has it already or not.
    Grant(Location),
    /// The client's notion of its lease is wrong, and we are the one to say so.
    Nak(Objection),
    /// Not ours to answer.
    Silent(Refusal),
}

/// What the client means: an address, the pool that has it, and what it says of it.
#[derive(Clone, Copy)]
struct Meant {
    address: Ipv4Addr,
    pool: Option<PoolId>,
    named: Named,
}

/// The tuple that the client means: an address, and option 159 where the address is a shared one.
#[derive(Clone, Copy)]
pub(super) enum Named {
    /// An address of none of our pools.
    Elsewhere,
    /// A tuple of a pool.
    Slot(Location),
    /// A shared address of a pool, with an offset, a length or a PSID that the pool does not have.
    NoSlot,
    /// A shared address without option 159.
    Bare,
    /// A shared address with a malformed option 159.
    Invalid,
}

pub(super) fn answer(engine: &Engine, exchange: &Exchange<'_>, room: &mut Room<'_>) -> Decided {
    let lenient = engine.policy.accept_renew_with_50;
    let state = request_state(exchange.message, exchange.unicast, lenient);
    let state = state.ok_or(Refusal::BadRequest)?;
    let pools = engine.leases.pools();
    let (RequestState::Selecting { address, .. }
    | RequestState::InitReboot { address }
    | RequestState::Renewing { address }
    | RequestState::Rebinding { address }) = state;
    let pool = pools.locate(address);
    let link = match state {
        RequestState::Selecting { .. } | RequestState::InitReboot { .. } => exchange.link,
        // A renewal may come by another path than the lease did: the tuple says where it belongs.
        RequestState::Renewing { .. } | RequestState::Rebinding { .. } => {
            pool.map_or(exchange.link, |pool| pools.link_of(pool))
        }
    };
    let selects = matches!(state, RequestState::Selecting { .. });
    let meant = Meant { address, pool, named: named(pools, exchange, pool, address) };
    let mut client = engine.lock(exchange, link);
    let decision = match state {
        RequestState::Selecting { server_id, .. } => {
            if exchange.unicast {
                exchange.remark(Remark::UnicastSelecting);
            }
            selecting(engine, exchange, &mut client, server_id, meant)
        }
        RequestState::InitReboot { .. } => init_reboot(engine, exchange, &client, meant),
        RequestState::Renewing { .. } => {
            extending(engine, exchange, &client, meant, Refusal::NotOurAddress.into())
        }
        RequestState::Rebinding { .. } => {
            extending(engine, exchange, &client, meant, not_ours(engine))
        }
    };
    match decision {
        Decision::Grant(at) if !selects && !may_go_on(engine, exchange, &client, at) => {
            nak(engine, exchange, Objection::Over, room.octets)
        }
        Decision::Grant(at) => commit(engine, exchange, &mut client, at, room),
        Decision::Nak(objection) => nak(engine, exchange, objection, room.octets),
        Decision::Silent(refusal) => Err(refusal.into()),
    }
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        Decision::Silent(refusal)
    }
}

/// req-S68 (RFC 2131 §4.3.2): of a client that we do not know we say nothing, unless we are the authority here.
fn unknown_client(engine: &Engine) -> Decision {
    if engine.policy.authoritative {
        Decision::Nak(Objection::UnknownClient)
    } else {
        Refusal::UnknownClient.into()
    }
}

/// req-S69 (RFC 2131 §3.2): an address that is no pool's here may be another server's lease.
///
/// req-S70 (RFC 2131 §4.3.2): a rebinding client is refused only by the authority.
fn not_ours(engine: &Engine) -> Decision {
    if engine.policy.authoritative {
        Decision::Nak(Objection::WrongNetwork)
    } else {
        Refusal::NotOurAddress.into()
    }
}

/// RFC 7618 §8.1: where only shared addresses are, a request without option 159 in its list is discarded.
fn is_discarded(engine: &Engine, exchange: &Exchange<'_>, link: LinkId) -> bool {
    !exchange.is_capable() && engine.link(link).full.is_empty()
}

/// Option 159 in a message about a whole address is ignored.
///
/// `pool` is the one that has the address.
pub(super) fn named(
    pools: &Pools,
    exchange: &Exchange<'_>,
    pool: Option<PoolId>,
    address: Ipv4Addr,
) -> Named {
    let Some(pool) = pool else { return Named::Elsewhere };
    let geometry = pools.get(pool).geometry();
    let tuple = if geometry.is_shared() {
        match exchange.message.port_params() {
            PortParamsField::Present(params) => super::tuple(address, params),
            PortParamsField::Absent => return Named::Bare,
            PortParamsField::Invalid => return Named::Invalid,
        }
    } else {
        Tuple::whole(address)
    };
    geometry.slot_of(tuple).map_or(Named::NoSlot, |slot| Named::Slot(Location { pool, slot }))
}

/// The client chose an offer.
fn selecting(
    engine: &Engine,
    exchange: &Exchange<'_>,
    client: &mut Client<'_>,
    server_id: Ipv4Addr,
    meant: Meant,
) -> Decision {
    if !engine.policy.is_server_id(Some(server_id)) {
        client.drop_offer();
        return Refusal::NotOurServerId.into();
    }
    if is_discarded(engine, exchange, exchange.link) {
        return Refusal::No159InPrl.into();
    }
    let pools = engine.leases.pools();
    let at = match meant.named {
        Named::Slot(at) => at,
        Named::Bare | Named::Invalid => return Decision::Nak(Objection::NoPorts),
        Named::NoSlot | Named::Elsewhere => return Decision::Nak(Objection::NoSuchTuple),
    };
    if pools.link_of(at.pool) != exchange.link {
        return Decision::Nak(Objection::NoSuchTuple);
    }
    if pools.get(at.pool).geometry().is_shared() {
        if !exchange.client.can_share {
            return Refusal::NoClientId.into();
        }
        // req-S35 (RFC 7618 §8): without option 159 in its list the ACK may not bear it.
        let served = exchange.is_capable()
            && (!engine.policy.ignore_159 || client.standing(at, exchange.now) == Standing::Active);
        if !served {
            return Decision::Nak(Objection::Incapable);
        }
    }
    Decision::Grant(at)
}

/// The client remembers a lease from before its reboot.
fn init_reboot(
    engine: &Engine,
    exchange: &Exchange<'_>,
    client: &Client<'_>,
    meant: Meant,
) -> Decision {
    if is_discarded(engine, exchange, exchange.link) {
        return Refusal::No159InPrl.into();
    }
    let pools = engine.leases.pools();
    let binding = client.binding(exchange.now);
    if let Named::Slot(at) = meant.named
        && binding.is_none_or(|binding| binding.at != at)
        && is_reserved(engine, exchange, client, at)
    {
        return Decision::Grant(at);
    }
    let Some(binding) = binding else {
        return if meant.pool.is_some() {
            unknown_client(engine)
        } else {
            Refusal::UnknownClient.into()
        };
    };
    if meant.pool.is_none_or(|pool| pools.link_of(pool) != exchange.link) {
        return not_ours(engine);
    }
    match meant.named {
        Named::Slot(at) if at == binding.at => {
            if pools.get(at.pool).geometry().is_shared() && !exchange.is_capable() {
                return Refusal::No159InPrl.into();
            }
            // RFC 7618 §7: a client at another source has to start with a DISCOVER.
            if binding.holding == Holding::Active
                && binding.source != engine.leases.source(exchange.source)
            {
                match engine.policy.bind_source {
                    BindSource::Log => exchange.remark(Remark::Moved),
                    BindSource::Nak => return Decision::Nak(Objection::Moved),
                }
            }
            Decision::Grant(at)
        }
        Named::Bare | Named::Invalid => Decision::Nak(Objection::NoPorts),
        Named::Slot(_) | Named::NoSlot | Named::Elsewhere => Decision::Nak(Objection::AnotherLease),
    }
}

/// The client extends its lease: with us, or, in REBINDING, with anybody. They differ in what to say of an address
/// that is not in our pools.
fn extending(
    engine: &Engine,
    exchange: &Exchange<'_>,
    client: &Client<'_>,
    meant: Meant,
    elsewhere: Decision,
) -> Decision {
    let pools = engine.leases.pools();
    let Some(pool) = meant.pool else { return elsewhere };
    if pools.get(pool).geometry().is_shared() {
        if !exchange.is_capable() {
            return Refusal::No159InPrl.into();
        }
        if !exchange.client.can_share {
            return Refusal::UnknownClient.into();
        }
    }
    let binding = client.binding(exchange.now);
    let owns = |binding: &Binding| {
        binding.holding == Holding::Active && pools.tuple_of(binding.at).address == meant.address
    };
    let owned = || binding.filter(owns);
    match meant.named {
        Named::Slot(at) => match binding {
            Some(binding) if binding.at == at => Decision::Grant(at),
            _ if owned().is_none() && is_reserved(engine, exchange, client, at) => {
                Decision::Grant(at)
            }
            _ if client.standing(at, exchange.now) == Standing::Taken => {
                if binding.is_none() && exchange.client.hardware {
                    // req-S60 (RFC 2131 §4.2): it may be the client's own, under the identifier that is missing here.
                    return unknown_client(engine);
                }
                if client.is_anothers(at) {
                    exchange.remark(Remark::ClaimsAnothers);
                }
                Decision::Nak(Objection::Taken)
            }
            Some(_) => Decision::Nak(Objection::AnotherLease),
            None => unknown_client(engine),
        },
        Named::Bare => match owned() {
            Some(binding) if engine.policy.accept_renew_without_159 => Decision::Grant(binding.at),
            _ if binding.is_some() => Decision::Nak(Objection::NoPorts),
            _ => unknown_client(engine),
        },
        Named::NoSlot if binding.is_some() => Decision::Nak(Objection::AnotherLease),
        Named::Invalid if owned().is_some() => Decision::Nak(Objection::NoPorts),
        Named::Invalid => Refusal::BadPortParams.into(),
        Named::NoSlot | Named::Elsewhere => unknown_client(engine),
    }
}

/// Whether a client that does not come for a new lease may have `at`: always, where leases are extended; otherwise only
/// as long as what it was promised runs.
fn may_go_on(engine: &Engine, exchange: &Exchange<'_>, client: &Client<'_>, at: Location) -> bool {
    let left = || times::seconds_left(client.binding(exchange.now), at, exchange.now);
    engine.policy.extend_leases || left().is_some()
}

/// Whether this tuple is reserved for the client, which knows of it though there may be no record, and can use it. A
/// reservation is as good as a record: what the client says is what the operator has written.
fn is_reserved(
    engine: &Engine,
    exchange: &Exchange<'_>,
    client: &Client<'_>,
    at: Location,
) -> bool {
    let shared = engine.leases.pools().get(at.pool).geometry().is_shared();
    let usable = !shared || exchange.is_capable() && exchange.client.can_share;
    usable && client.entitlement() == Some(at)
}
