//! DHCPDISCOVER: which tuple to offer (RFC 7618 §8, RFC 2131 §4.3.1).

use super::{
    Decided, Engine, Verdict,
    exchange::Exchange,
    policy::{Link, Prefer, PsidChoice},
    reason::Refusal,
    reply::{self, Terms},
    times::{self, LEASE_SECONDS_MIN},
};
use crate::{
    lease::{
        client::{Client, Holding, Offer, OfferError},
        key::BindingKey,
        pool::{Pick, PoolId},
        pools::{Location, Pools},
        record::Tuple,
    },
    wire::dhcpv4::{MessageType, PortParamsField},
};

// req-S31 (RFC 7618 §6): an OFFER of a shared address bears one of its sets that is free.
// req-S79 (RFC 2131 §2.2): nothing is probed; who answers at a shared address is another of its clients.
pub(super) fn answer(engine: &Engine, exchange: &Exchange<'_>, out: &mut [u8]) -> Decided {
    let link = engine.link(exchange.link);
    let usable = Usable::of(engine, exchange, link)?;
    let mut client = engine.lock(exchange, exchange.link);
    let offer = choose(engine, exchange, &usable, &mut client)
        .map_err(|error| match error {
            OfferError::SiteFull => Refusal::SiteLimit,
            OfferError::OffersExhausted => Refusal::OffersExhausted,
            OfferError::TableFull => Refusal::TableFull,
        })?
        .ok_or(Refusal::PoolExhausted)?;
    let seconds = offered_seconds(engine, exchange, &client, &offer);
    drop(client);
    let terms = Terms { pool: offer.at.pool, tuple: offer.tuple, seconds, softwire: None };
    Ok(Verdict::Reply(reply::lease(&engine.policy, exchange, MessageType::Offer, terms, out)?))
}

/// Asks for the memory of the slot that a client's first DISCOVER will probably be answered with.
#[inline]
pub(super) fn approach(engine: &Engine, client: BindingKey, link: &Link) {
    let (first, second) = match link.prefer {
        Prefer::Shared => (&link.shared, &link.full),
        Prefer::Full => (&link.full, &link.shared),
    };
    if let Some(pool) = first.first().or(second.first()) {
        engine.leases.pools().get(*pool).approach_any(pick(engine, client));
    }
}

/// Where the search for a slot of this client begins.
#[inline]
fn pick(engine: &Engine, client: BindingKey) -> Pick {
    match engine.policy.psid_choice {
        // req-X6 (RFC 7618 §10.1): the key is a keyed hash, and nobody outside can tell where the search starts.
        PsidChoice::Random => Pick::Random((client.0 >> 64) as u64),
        PsidChoice::Sequential => Pick::Lowest,
    }
}

/// The pools that may serve this client, the preferred kind first.
struct Usable<'a> {
    pools: &'a Pools,
    first: &'a [PoolId],
    second: &'a [PoolId],
    /// The size it hints at: 159 with a PSID length and nothing else (RFC 7618 §7).
    psid_length: Option<u8>,
}

impl<'a> Usable<'a> {
    /// The table of clients and pools: a client that does not list option 159, or has no identifier that a shared
    /// binding needs, never gets a shared address.
    // req-S43 (RFC 7618 §8.1): a client that does not list option 159 is served from full pools only.
    // req-S44 (RFC 7618 §8.1): and where there are none, it is not served.
    // req-S45 (RFC 7618 §8.1): `ignore-159` makes every client such a client.
    fn of(engine: &'a Engine, exchange: &Exchange<'_>, link: &'a Link) -> Result<Self, Refusal> {
        let capable = exchange.is_capable() && !engine.policy.ignore_159;
        let shared: &[PoolId] =
            if capable && exchange.client.can_share { &link.shared } else { &[] };
        if shared.is_empty() && link.full.is_empty() {
            return Err(if exchange.is_capable() && !exchange.client.can_share {
                Refusal::NoClientId
            } else {
                Refusal::No159InPrl
            });
        }
        let (first, second) = match link.prefer {
            Prefer::Shared => (shared, &*link.full),
            Prefer::Full => (&*link.full, shared),
        };
        let psid_length = match exchange.message.port_params() {
            PortParamsField::Present(hint) if hint.psid_length != 0 => Some(hint.psid_length),
            _ => None,
        };
        Ok(Self { pools: engine.leases.pools(), first, second, psid_length })
    }

    fn has(&self, pool: PoolId) -> bool {
        self.first.contains(&pool) || self.second.contains(&pool)
    }

    // req-S32 (RFC 7618 §6): a set of the size that the client hints at, if there is one.
    /// All of them, of each kind those of the hinted size first. A size that is not there is no reason to fail.
    fn in_order(&self) -> impl Iterator<Item = PoolId> {
        let fits = move |pool: PoolId| {
            let length = self.pools.get(pool).geometry().psid_length();
            self.psid_length.is_none_or(|hint| hint == length)
        };
        [self.first, self.second].into_iter().flat_map(move |pools| {
            let fitting = pools.iter().copied().filter(move |pool| fits(*pool));
            fitting.chain(pools.iter().copied().filter(move |pool| !fits(*pool)))
        })
    }
}

/// req-S38 (RFC 7618 §8): the current tuple, the previous one, the requested one, a new one.
///
/// These four bullets, in their order. `None` if every pool is exhausted.
fn choose(
    engine: &Engine,
    exchange: &Exchange<'_>,
    usable: &Usable<'_>,
    client: &mut Client<'_>,
) -> Result<Option<Offer>, OfferError> {
    let now = exchange.now;
    let until = now.seconds().saturating_add(engine.policy.times.offer_hold_seconds);
    let binding = client.binding(now);
    let active = binding.filter(|binding| binding.holding == Holding::Active);
    let offered = client.offer(now).map(|offer| offer.at);

    let current = active.map(|binding| binding.at).or(offered);
    let previous = binding.map(|binding| binding.at);
    let requested = requested(exchange, usable);
    // A reservation is the operator's word and comes before the four bullets.
    let wanted = [client.entitlement(), current, previous, requested];
    for at in wanted.into_iter().flatten() {
        if usable.has(at.pool)
            && let Some(offer) = client.offer_slot(at, until, now)?
        {
            return Ok(Some(offer));
        }
    }

    let pick = pick(engine, exchange.key());
    if let Some(address) = exchange.message.requested_address()
        && let Some(pool) = usable.pools.locate(address)
        && usable.has(pool)
        && let Some(offer) = client.offer_address(address, pool, pick, until, now)?
    {
        return Ok(Some(offer));
    }
    for pool in usable.in_order() {
        if let Some(offer) = client.offer_any(pool, pick, until, now)? {
            return Ok(Some(offer));
        }
    }
    Ok(None)
}

/// The tuple that options 50 and 159 ask for, if it is one of a pool. For a whole address option 50 is enough.
fn requested(exchange: &Exchange<'_>, usable: &Usable<'_>) -> Option<Location> {
    let address = exchange.message.requested_address()?;
    let pool = usable.pools.locate(address)?;
    if !usable.pools.get(pool).geometry().is_shared() {
        return usable.pools.locate_tuple(Tuple::whole(address));
    }
    let PortParamsField::Present(params) = exchange.message.port_params() else { return None };
    usable.pools.locate_tuple(super::tuple(address, params))
}

/// req-S71 (RFC 2131 §4.3.1): what the client asks for, else what is left of the lease it has, else the usual time.
fn offered_seconds(
    engine: &Engine,
    exchange: &Exchange<'_>,
    client: &Client<'_>,
    offer: &Offer,
) -> u32 {
    let asked = exchange.message.lease_seconds();
    let granted = times::granted_seconds(&engine.policy.times, asked);
    let left = times::seconds_left(client.binding(exchange.now), offer.at, exchange.now);
    match left {
        Some(left) if !engine.policy.extend_leases => granted.min(left),
        Some(left) if asked.is_none() => left.max(LEASE_SECONDS_MIN),
        _ => granted,
    }
}
