//! Why a REQUEST is refused, in the words that the NAK says (RFC 2131 §4.3.1, Table 3: option 56 SHOULD be there).

use super::{Decided, Engine, Verdict, exchange::Exchange, reply};

/// What is wrong with a REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// Another client has it, or it is held back from this one.
    Taken,
    /// It is none that a pool of the client's link has.
    NoSuchTuple,
    /// The client has another one.
    AnotherLease,
    /// A shared address without option 159, or with one that makes no sense.
    NoPorts,
    /// The client cannot be told of ports.
    Incapable,
    /// Nothing is known of this client, and this server would know.
    UnknownClient,
    /// The address belongs elsewhere, and this server would know.
    WrongNetwork,
    /// The client speaks from another IPv6 source than before its reboot.
    Moved,
    /// The lease is over, and leases are not extended.
    Over,
    /// The customer site has as many leases as it may.
    SiteFull,
    /// The softwire address is that of another lease.
    SoftwireTaken,
}

impl Objection {
    /// The content of option 56: NVT ASCII, for a person who reads the client's log.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Objection::Taken => "in use by another client",
            Objection::NoSuchTuple => "not an address and port set of this link",
            Objection::AnotherLease => "the lease of this client is another one",
            Objection::NoPorts => "a shared address needs a valid option 159",
            Objection::Incapable => "a shared address needs option 159 in the list of option 55",
            Objection::UnknownClient => "no lease of this client is known",
            Objection::WrongNetwork => "not an address of this network",
            Objection::Moved => "the IPv6 source has changed; start with a DISCOVER",
            Objection::Over => "the lease is over and is not extended",
            Objection::SiteFull => "this site has as many leases as it may",
            Objection::SoftwireTaken => "the softwire address of option 109 is in use",
        }
    }
}

/// A NAK that says why.
pub(super) fn nak(
    engine: &Engine,
    exchange: &Exchange<'_>,
    objection: Objection,
    out: &mut [u8],
) -> Decided {
    Ok(Verdict::Reply(reply::refusal(&engine.policy, exchange, objection, out)?))
}
