//! DHCPINFORM: a client that has its address otherwise asks for options only (RFC 2131 §3.4, §4.3.5).

use super::{
    Decided, Engine, Verdict, exchange::Exchange, options::OptionSet, reason::Refusal, reply,
};
use crate::lease::record::Tuple;

/// An ACK with what the client asks for. No lease is looked up, none is given.
///
/// req-S44 (RFC 7618 §8.1): where only shared addresses are, a list without option 159 is discarded, unless the
/// policy wants it answered.
pub(super) fn answer(engine: &Engine, exchange: &Exchange<'_>, out: &mut [u8]) -> Decided {
    let shared_only = engine.link(exchange.link).full.is_empty();
    let answered = exchange.is_capable() || engine.policy.answer_inform_without_159;
    if shared_only && !answered {
        return Err(Refusal::No159InPrl.into());
    }
    let options = options(engine, exchange);
    Ok(Verdict::Reply(reply::information(&engine.policy, exchange, options, out)?))
}

/// The options of the pool that has the client's address, if that is one of its link; else those of the link.
fn options<'e>(engine: &'e Engine, exchange: &Exchange<'_>) -> &'e OptionSet {
    let (pools, address) = (engine.leases.pools(), exchange.message.ciaddr());
    match pools.locate(address).filter(|pool| pools.link_of(*pool) == exchange.link) {
        Some(pool) => engine.policy.options_of(pool, Tuple::whole(address)),
        None => &engine.link(exchange.link).options,
    }
}
