//! What the kernel side and the user side agree on: the steering decision, the names and sizes of the maps, and
//! the counters.
//!
//! The program takes from an interface exactly the packets that the server answers, and passes everything else to
//! the kernel: transit traffic, ordinary DHCPv6, and also what it cannot decide within its bounds, so that the
//! server's UDP socket gets it. [`classify`](classify::classify) is one function for both sides; the tests run it
//! on the host, and compare.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod classify;

/// Name of the program in the object.
pub const PROGRAM: &str = "steer";

/// Name of the map from queue to AF_XDP socket.
pub const SOCKETS: &str = "SOCKETS";
/// The most queues that an interface may have.
pub const QUEUES_MAX: u32 = 256;

/// Name of the set of unicast addresses on which the server listens, in network order.
pub const LISTEN: &str = "LISTEN";
/// The most addresses in that set.
pub const LISTEN_MAX: u32 = 256;

/// Name of the array whose only element is the interface's MAC address, followed by two octets of zero.
pub const INTERFACE: &str = "INTERFACE";

/// Name of the per-CPU array of counters; a [`Counter`] is an index.
pub const COUNTERS: &str = "COUNTERS";

/// What became of a packet. Every packet increments exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Counter {
    /// Given to the AF_XDP socket of its queue.
    Steered,
    /// Ours, but its queue has no socket: passed.
    NoSocket,
    /// To another station, or to a group that is not IPv6 multicast: passed.
    ForeignMac,
    /// Not IPv6, or behind more than two VLAN tags: passed.
    NotIpv6,
    /// The IPv6 header is not followed by UDP: other protocols, extension headers, fragments: passed.
    NotUdp,
    /// To an address on which the server does not listen: passed.
    NotOurAddress,
    /// To another UDP port: passed.
    NotOurPort,
    /// DHCPv6, but not a DHCPv4-query, nor a Relay-forward around one: passed.
    NotQuery,
    /// A chain of relays that goes on beyond the bounds of the walk: passed.
    TooDeep,
    /// Ends, or an option of it does, in the middle of something: passed.
    Truncated,
}

impl Counter {
    /// All variants, in the order of their indices.
    pub const ALL: [Counter; 10] = [
        Counter::Steered,
        Counter::NoSocket,
        Counter::ForeignMac,
        Counter::NotIpv6,
        Counter::NotUdp,
        Counter::NotOurAddress,
        Counter::NotOurPort,
        Counter::NotQuery,
        Counter::TooDeep,
        Counter::Truncated,
    ];

    /// The number of counters.
    pub const COUNT: u32 = 10;

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Counter::Steered => "steered",
            Counter::NoSocket => "pass-no-socket",
            Counter::ForeignMac => "pass-foreign-mac",
            Counter::NotIpv6 => "pass-not-ipv6",
            Counter::NotUdp => "pass-not-udp",
            Counter::NotOurAddress => "pass-not-our-address",
            Counter::NotOurPort => "pass-not-our-port",
            Counter::NotQuery => "pass-not-query",
            Counter::TooDeep => "pass-too-deep",
            Counter::Truncated => "pass-truncated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_names_of_counters_are_dense_and_distinct() {
        assert_eq!(Counter::ALL.len(), Counter::COUNT as usize);
        for (index, counter) in (0..).zip(Counter::ALL) {
            assert_eq!(counter as u32, index);
            assert_eq!(Counter::ALL.iter().filter(|c| c.name() == counter.name()).count(), 1);
        }
    }
}
