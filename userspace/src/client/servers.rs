//! Which servers there are: what option 88 says (RFC 7341 §7.2), from wherever it comes.

use std::{fmt, net::Ipv6Addr};

use super::timers::BURST;
use crate::wire::dhcpv6::{self, ALL_RELAYS_AND_SERVERS};

/// The servers that one transmission goes to: no more than may be sent at once, so that a rogue
/// DHCPv6 server can make nobody flood anybody.
pub const SERVERS_MAX: usize = BURST as usize;

/// Where DHCPv4-queries go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// To whoever listens to `ff02::1:2` on the link.
    Group,
    /// To each of these addresses: at least one, none of them twice, [`SERVERS_MAX`] at most.
    Named(Vec<Ipv6Addr>),
}

impl Servers {
    /// The servers of a list of addresses in order of preference; none at all is the group.
    pub fn new(addresses: impl IntoIterator<Item = Ipv6Addr>) -> Servers {
        let mut kept = Vec::new();
        for address in addresses {
            // req-X1 (RFC 7341 §12): all but the first instance of an address are ignored.
            if kept.len() < SERVERS_MAX && !address.is_unspecified() && !kept.contains(&address) {
                kept.push(address);
            }
        }
        // req-C3 (RFC 7341 §9): an empty option means the group.
        if kept.is_empty() { Servers::Group } else { Servers::Named(kept) }
    }

    /// Reads the content of option 88. `None` if its length is not that of a list of addresses, or if
    /// none of them is one: then it counts as not received.
    pub fn parse(content: &[u8]) -> Option<Servers> {
        let servers = Servers::new(dhcpv6::server_addresses(content)?);
        (content.is_empty() || servers != Servers::Group).then_some(servers)
    }

    /// The addresses that a query is sent to.
    pub fn addresses(&self) -> &[Ipv6Addr] {
        match self {
            Servers::Group => &[ALL_RELAYS_AND_SERVERS],
            Servers::Named(addresses) => addresses,
        }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.addresses().iter().try_for_each(|address| {
            write!(f, "{}{address}", std::mem::replace(&mut separator, ", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(addresses: &[&str]) -> Vec<u8> {
        let octets = |address: &&str| address.parse::<Ipv6Addr>().unwrap().octets();
        addresses.iter().flat_map(octets).collect()
    }

    #[test]
    fn k02_an_empty_option_is_the_group() {
        assert_eq!(Servers::parse(&[]), Some(Servers::Group));
        assert_eq!(Servers::Group.addresses(), [ALL_RELAYS_AND_SERVERS]);
    }

    #[test]
    fn k03_repeated_addresses_count_once_and_not_too_many_are_taken() {
        let (a, b) = ("2001:db8::a", "2001:db8::b");
        let servers = Servers::parse(&octets(&[a, b, a, b, a])).unwrap();
        assert_eq!(servers.to_string(), "2001:db8::a, 2001:db8::b");
        let many = (1..=40_u128).map(Ipv6Addr::from_bits);
        assert_eq!(Servers::new(many).addresses().len(), SERVERS_MAX);
    }

    #[test]
    fn an_option_of_another_length_counts_as_not_received() {
        for length in [1, 15, 17, 31] {
            assert_eq!(Servers::parse(&vec![1; length]), None, "{length} octets");
        }
        assert_eq!(Servers::parse(&[0; 16]), None, "the unspecified address is nobody's");
    }
}
