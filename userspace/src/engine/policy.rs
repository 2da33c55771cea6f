//! The compiled, immutable configuration: what the engine decides by. Made by the server from the file as written.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::options::{NO_OPTIONS, OptionSet};
use crate::{
    lease::{key::LinkId, pool::PoolId, record::Tuple},
    wire::dhcpv6::softwire::{BindPrefix, Binding},
};

/// Which kind of lease a client that can take either gets first (RFC 7618 §8 leaves it to policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Prefer {
    /// A shared address, a whole one if those are exhausted.
    #[default]
    Shared,
    /// A whole address, a shared one if those are exhausted.
    Full,
}

/// How a new port set is picked from those that are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PsidChoice {
    /// Unpredictably (RFC 7618 §10.1, RFC 6056).
    #[default]
    Random,
    /// The lowest that is free.
    Sequential,
}

/// What to do when a client reboots from another IPv6 source address (RFC 7618 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BindSource {
    /// Serve it, count it (`source-changed`), and tell the operator.
    #[default]
    Log,
    /// Refuse it: the client has to start with a DISCOVER.
    Nak,
}

/// Lease times, all in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Granted to a client that asks for nothing.
    pub lease_seconds: u32,
    /// The most that a client may ask for.
    pub lease_seconds_max: u32,
    /// How long an offered tuple waits for its REQUEST.
    pub offer_hold_seconds: u32,
    /// How long a freed tuple waits before another client gets it (RFC 6888 REQ-8).
    pub hold_down_seconds: u32,
    /// How long a declined tuple is held for nobody.
    pub decline_hold_seconds: u32,
    /// A REQUEST within this share of the lease, counted from its last record, is answered out of that record:
    /// a flood of renewals does not become a flood of writes. 0 writes every time.
    pub early_renewal_percent: u8,
}

/// A place where clients are attached, and the pools that serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name in the configuration.
    pub name: String,
    /// Pools of shared addresses, in the order of preference.
    pub shared: Vec<PoolId>,
    /// Pools of whole addresses, in the order of preference.
    pub full: Vec<PoolId>,
    /// For clients that can take either.
    pub prefer: Prefer,
    /// Options for clients of which no more is known than that they are here.
    pub options: OptionSet,
}

/// An IPv6 prefix without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// First address.
    pub address: Ipv6Addr,
    /// Length in bits, 0 to 128.
    pub length: u8,
}

impl Prefix {
    /// The first `length` bits of `address`.
    pub fn of(address: Ipv6Addr, length: u8) -> Prefix {
        let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
        Prefix { address: Ipv6Addr::from(u128::from(address) & mask), length }
    }

    /// Whether `address` is inside.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        let differing = u128::from(self.address) ^ u128::from(address);
        self.length == 0 || differing >> (128 - u32::from(self.length.min(128))) == 0
    }
}

/// One table of a link's `match` list. Every key that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The innermost usable link-address of the relay chain.
    pub link_address: Option<Prefix>,
    /// The innermost relay's peer-address, or the IPv6 source of a direct client.
    pub source: Option<Prefix>,
    /// The receiving interface's index.
    pub interface: Option<u32>,
    /// The Interface-Id option of the relay closest to the client.
    pub interface_id: Option<Vec<u8>>,
    /// The Remote-Id option of the relay closest to the client, enterprise number included.
    pub remote_id: Option<Vec<u8>>,
}

/// What a client with a lease hears that asks for a softwire address of another's (RFC 8539 §8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SoftwireConflict {
    /// An ACK with the address that its lease has.
    #[default]
    Existing,
    /// Nothing.
    Drop,
}

/// Where the ends of softwires are (RFC 8539).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Softwire {
    /// Addresses of border relays: option 90 of a response.
    pub border_relays: Vec<Ipv6Addr>,
    /// Where clients shall take their softwire address from: option 137 of a response.
    pub bind_prefix: Option<BindPrefix>,
    /// A lease gets another softwire address only so many seconds after the last time.
    pub update_interval_seconds: u32,
    /// What a client hears that asks for an address that is another's.
    pub conflict: SoftwireConflict,
}

impl Default for Softwire {
    /// No end is told, and the times of RFC 8539 §8.1.
    fn default() -> Self {
        Self {
            border_relays: Vec::new(),
            bind_prefix: None,
            update_interval_seconds: 60,
            conflict: SoftwireConflict::default(),
        }
    }
}

/// What clients are told that ask for configuration only, by Information-request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Information {
    /// Servers for DHCPv4-queries, option 88; none: those that the multicast group reaches.
    pub servers: Vec<Ipv6Addr>,
    /// After how many seconds a client asks again: option 32.
    pub refresh_seconds: u32,
    /// The longest that a client waits between two attempts, in seconds: option 83.
    pub retry_seconds_max: Option<u32>,
    /// Addresses of border relays: option 90 at top level.
    pub border_relays: Vec<Ipv6Addr>,
    /// What a lightweight 4over6 client needs: option 96.
    pub lightweight: Option<Lightweight>,
    /// Softwire mechanisms by their option codes, the preferred one first: option 111.
    pub priority: Vec<u16>,
}

/// The content of option 96 (RFC 7598 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lightweight {
    /// Addresses of border relays, at least one.
    pub border_relays: Vec<Ipv6Addr>,
    /// The same for every client that asks.
    pub binding: Option<Binding>,
}

/// A tuple that only one client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The link that the client is on.
    pub link: LinkId,
    /// Whose it is.
    pub client: ReservedFor,
    /// The tuple, of a pool of the link.
    pub tuple: Tuple,
}

/// Whom a tuple is reserved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservedFor {
    /// The client with this identifier, the content of option 61.
    ClientIdentifier(Vec<u8>),
    /// Whoever is behind the relay, closest to the client, with this Remote-Id, enterprise number included.
    RemoteId(Vec<u8>),
}

/// Customer sites: how they are told apart, and how much each may ask (RFC 7618 §10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SitePolicy {
    /// Clients without a relay that says more are of one site if this many bits of their IPv6 address are the same.
    pub prefix_length: u8,
    /// Queries a second of one site that are looked at, with a burst of ten times as many; 0: all of them.
    pub queries_per_second: u32,
}

impl Default for SitePolicy {
    fn default() -> Self {
        Self { prefix_length: 64, queries_per_second: 0 }
    }
}

/// The whole compiled configuration of the engine.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent switch of the operator's"
)]
pub struct Policy {
    /// DHCPv4 server identifier, option 54.
    pub server_id: Ipv4Addr,
    /// Identifiers that messages to us may bear as well, since we had them or have those addresses, too.
    pub other_server_ids: Vec<Ipv4Addr>,
    /// Answer for clients and addresses that we do not know with a NAK instead of silence.
    pub authoritative: bool,
    /// Lease times.
    pub times: Times,
    /// Links; a [`LinkId`] is an index.
    pub links: Vec<Link>,
    /// Which packets belong to which link.
    pub matches: Vec<(Match, LinkId)>,
    /// Options that come with a lease of a pool, by its number; none for pools beyond the end.
    pub pool_options: Vec<OptionSet>,
    /// Tuples that are kept for clients of their own.
    pub reservations: Vec<Reservation>,
    /// Options that come with a reserved tuple in place of its pool's, in the order of tuples.
    pub reservation_options: Vec<(Tuple, OptionSet)>,
    /// Renewals move the end of a lease; otherwise they are answered with the time that remains (RFC 2131 §4.3.2).
    pub extend_leases: bool,
    /// Answer an INFORM without option 159 in its list also where only shared addresses are.
    pub answer_inform_without_159: bool,
    /// RENEWING without option 159 by the owner of exactly that address: extend it instead of a NAK.
    pub accept_renew_without_159: bool,
    /// RENEWING or REBINDING with an option 50 that repeats `ciaddr` (RFC 2131 Table 4 has none there): as if it were
    /// not there, instead of silence.
    pub accept_renew_with_50: bool,
    /// RELEASE of a shared address without option 159 by a client that has one lease there: as if it had named it,
    /// instead of silence.
    pub accept_release_without_159: bool,
    /// What to do when a client reboots from another source.
    pub bind_source: BindSource,
    /// Serve whole addresses only, whatever a client asks for (RFC 7618 §8.1).
    pub ignore_159: bool,
    /// How port sets are picked.
    pub psid_choice: PsidChoice,
    /// What responses say of softwires to clients that ask; none: nothing.
    pub softwire: Option<Softwire>,
    /// What Information-requests are answered with; none: they are not answered.
    pub information: Option<Information>,
    /// The DUID that Replies bear; none: one made of the store's secret.
    pub server_duid: Option<Vec<u8>>,
    /// Reply to a direct client's UDP source port instead of 546.
    pub reply_to_source_port: bool,
    /// Customer sites.
    pub sites: SitePolicy,
    /// Pad DHCPv4 messages to the 300 octets of BOOTP (RFC 1542 §2.1).
    pub pad_to_300: bool,
}

impl Policy {
    /// Serves `links`, and decides everything else as a configuration that says nothing of it.
    pub fn new(
        server_id: Ipv4Addr,
        times: Times,
        links: Vec<Link>,
        matches: Vec<(Match, LinkId)>,
    ) -> Policy {
        Policy {
            server_id,
            other_server_ids: Vec::new(),
            authoritative: false,
            times,
            links,
            matches,
            pool_options: Vec::new(),
            reservations: Vec::new(),
            reservation_options: Vec::new(),
            extend_leases: true,
            answer_inform_without_159: false,
            accept_renew_without_159: false,
            accept_renew_with_50: true,
            accept_release_without_159: false,
            bind_source: BindSource::default(),
            ignore_159: false,
            psid_choice: PsidChoice::default(),
            softwire: None,
            information: None,
            server_duid: None,
            reply_to_source_port: false,
            sites: SitePolicy::default(),
            pad_to_300: false,
        }
    }

    /// Whether a message with this server identifier is for us.
    ///
    /// req-S64 (RFC 2131 §4.1): a server with several addresses accepts any of them.
    pub fn is_server_id(&self, identifier: Option<Ipv4Addr>) -> bool {
        identifier.is_some_and(|id| id == self.server_id || self.other_server_ids.contains(&id))
    }

    /// Options that come with a lease of `tuple`, which is of `pool`.
    pub fn options_of(&self, pool: PoolId, tuple: Tuple) -> &OptionSet {
        let reserved = self.reservation_options.binary_search_by_key(&tuple, |(tuple, _)| *tuple);
        let reserved = reserved.ok().and_then(|at| self.reservation_options.get(at));
        match reserved {
            Some((_, options)) => options,
            None => self.pool_options.get(usize::from(pool.0)).unwrap_or(&NO_OPTIONS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_its_addresses_and_no_others() {
        let prefix = |address: &str, length| Prefix { address: address.parse().unwrap(), length };
        let net = prefix("2001:db8:1::", 64);
        assert!(net.contains("2001:db8:1::ffff".parse().unwrap()));
        assert!(!net.contains("2001:db8:1:1::".parse().unwrap()));
        assert!(prefix("::", 0).contains("2001:db8::1".parse().unwrap()));
        assert!(prefix("2001:db8::1", 128).contains("2001:db8::1".parse().unwrap()));
        assert!(!prefix("2001:db8::1", 128).contains("2001:db8::2".parse().unwrap()));
    }
}
