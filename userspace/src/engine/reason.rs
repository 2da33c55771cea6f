//! Every way to say no. Each is a counter, and every datagram that gets no answer increments exactly one.

use crate::wire::Malformed;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a well-formed query got no answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$doc])* $variant,)* }

        impl Refusal {
            /// All variants, in the order of their discriminants.
            pub const ALL: &[Refusal] = &[$(Refusal::$variant,)*];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Refusal::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// From UDP port 0 or the unspecified address: no answer could arrive.
    BadSource = "bad-source",
    /// A message that only servers send.
    ServerMessage = "server-msg",
    /// A message type that this server does not serve: neither of a client's nor of a server's usual ones.
    NotServed = "not-served",
    /// The fields of a REQUEST contradict each other (RFC 2131 Table 4, Table 5).
    BadRequest = "bad-request",
    /// No client identifier and no hardware address: nobody to lease to.
    NoClientId = "no-client-id",
    /// No link of the configuration fits where the packet came from.
    NoAttachment = "no-attachment",
    /// The client does not list option 159 and only shared addresses are here (RFC 7618 §8.1).
    No159InPrl = "no-159-in-prl",
    /// Every tuple of every pool that may serve the client is taken or held down.
    PoolExhausted = "pool-exhausted",
    /// The customer site has as many leases and offers as it may (RFC 7618 §10).
    SiteLimit = "site-limit",
    /// The customer site asks more often than it may, or client or site decline too much (RFC 7618 §10).
    RateLimit = "rate-limit",
    /// As many offers are outstanding as the server allows.
    OffersExhausted = "offers-exhausted",
    /// The table of bindings has no room left where the client's binding would go.
    TableFull = "table-full",
    /// The client moved from tuple to tuple until all that it left are held down.
    MovesExhausted = "moves-exhausted",
    /// The client selected another server, or speaks to one that we are not.
    NotOurServerId = "not-our-server-id",
    /// An address of no pool of ours: another server's lease.
    NotOurAddress = "not-our-address",
    /// Nothing is known of this client and we are not authoritative (RFC 2131 §4.3.2).
    UnknownClient = "unknown-client",
    /// The tuple in the message is not the client's.
    TupleMismatch = "tuple-mismatch",
    /// Option 159 is malformed where a silent discard is due.
    BadPortParams = "bad-portparams",
    /// A RELEASE of something that the client does not hold.
    ReleaseMismatch = "release-mismatch",
    /// A RELEASE of a lease that had already ended.
    ReleaseRepeated = "release-repeated",
    /// A DECLINE of something that is neither leased nor offered to the client.
    DeclineMismatch = "decline-mismatch",
    /// An Information-request, and the configuration says nothing about those.
    InformationOff = "information-off",
    /// An Information-request for another server (RFC 8415 §16.12).
    InformationOtherServer = "information-other-server",
    /// An Information-request with an Identity Association, which it may not have (RFC 8415 §16.12).
    InformationWithIa = "information-with-ia",
    /// An Information-request that its client sent to a unicast address (RFC 8415 §16).
    InformationUnicast = "information-unicast",
    /// The softwire address of the REQUEST is another lease's (RFC 8539 §8.2).
    SaddrConflict = "saddr-conflict",
    /// The reply does not fit the frame.
    ReplyTooLarge = "reply-too-large",
}

/// Why a datagram got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is not a DHCPv4-over-DHCPv6 query.
    Malformed(Malformed),
    /// It is one, and we decline to answer.
    Refused(Refusal),
}

impl Reason {
    /// The number of reasons; [`index`](Self::index) is below it.
    pub const COUNT: usize = Malformed::ALL.len() + Refusal::ALL.len();

    /// A dense index for arrays of counters.
    pub const fn index(self) -> usize {
        match self {
            Reason::Malformed(malformed) => malformed as usize,
            Reason::Refused(refusal) => Malformed::ALL.len() + refusal as usize,
        }
    }

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Malformed(malformed) => malformed.name(),
            Reason::Refused(refusal) => refusal.name(),
        }
    }

    /// All reasons, in the order of their indices.
    pub fn all() -> impl Iterator<Item = Reason> {
        let malformed = Malformed::ALL.iter().map(|&malformed| Reason::Malformed(malformed));
        malformed.chain(Refusal::ALL.iter().map(|&refusal| Reason::Refused(refusal)))
    }
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        Reason::Malformed(malformed)
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Reason::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_index_and_name() {
        let indices: Vec<usize> = Reason::all().map(Reason::index).collect();
        assert_eq!(indices, (0..Reason::COUNT).collect::<Vec<_>>());
        let names: BTreeSet<&str> = Reason::all().map(Reason::name).collect();
        assert_eq!(names.len(), Reason::COUNT);
    }
}
