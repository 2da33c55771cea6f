//! Where a client is attached: from what the packet and its relays say to a link (RFC 7341 §11, RFC 7969 §3.2).
//!
//! First hit wins: an explicit Interface-Id or Remote-Id, the innermost usable link-address, the source address,
//! the receiving interface, a match without keys. Among prefixes the longest wins. Within one match all keys must
//! fit, since an identifier of a relay is unique only on its own link.

use std::net::Ipv6Addr;

use super::policy::{Match, Prefix};
use crate::lease::key::LinkId;

/// What a packet says about where its client is.
#[derive(Clone, Copy, Debug)]
pub struct Attachment<'a> {
    /// The innermost link-address that is neither unspecified nor link-local.
    pub link_address: Option<Ipv6Addr>,
    /// The innermost relay's peer-address, or the IPv6 source of a direct client.
    pub source: Ipv6Addr,
    /// Whether a relay says so.
    pub relayed: bool,
    /// The receiving interface's index.
    pub interface: u32,
    /// Interface-Id of the relay closest to the client.
    pub interface_id: Option<&'a [u8]>,
    /// Remote-Id of the relay closest to the client.
    pub remote_id: Option<&'a [u8]>,
}

impl Attachment<'_> {
    /// The source, if it says where the client is. A link-local address does so only of a client on
    /// a link of our own.
    fn locating_source(&self) -> Option<Ipv6Addr> {
        let source = self.source;
        let is_nowhere = source.is_unspecified()
            || source.is_multicast()
            || (self.relayed && source.is_unicast_link_local());
        (!is_nowhere).then_some(source)
    }

    fn fits(&self, rule: &Match) -> bool {
        fn key<T>(wanted: Option<T>, fits: impl FnOnce(T) -> bool) -> bool {
            wanted.is_none_or(fits)
        }
        key(rule.link_address, |prefix| self.link_address.is_some_and(|a| prefix.contains(a)))
            && key(rule.source, |prefix| self.locating_source().is_some_and(|a| prefix.contains(a)))
            && key(rule.interface, |index| index == self.interface)
            && key(rule.interface_id.as_deref(), |id| self.interface_id == Some(id))
            && key(rule.remote_id.as_deref(), |id| self.remote_id == Some(id))
    }
}

/// A match and the link it leads to.
type Rule = (Match, LinkId);

/// The matches of the configuration, arranged for look-up.
#[derive(Debug)]
pub struct Chooser {
    identified: Vec<Rule>,
    link_addresses: PrefixTable,
    sources: PrefixTable,
    interfaces: Vec<Rule>,
    default: Option<LinkId>,
}

impl Chooser {
    /// Arranges `matches`.
    pub fn new(matches: &[Rule]) -> Chooser {
        let mut chooser = Chooser {
            identified: Vec::new(),
            link_addresses: PrefixTable::default(),
            sources: PrefixTable::default(),
            interfaces: Vec::new(),
            default: None,
        };
        for rule in matches {
            let (keys, link) = rule;
            if keys.interface_id.is_some() || keys.remote_id.is_some() {
                chooser.identified.push(rule.clone());
            } else if let Some(prefix) = keys.link_address {
                chooser.link_addresses.insert(prefix, rule.clone());
            } else if let Some(prefix) = keys.source {
                chooser.sources.insert(prefix, rule.clone());
            } else if keys.interface.is_some() {
                chooser.interfaces.push(rule.clone());
            } else {
                chooser.default.get_or_insert(*link);
            }
        }
        chooser
    }

    /// The link that `attachment` belongs to.
    pub fn choose(&self, attachment: &Attachment<'_>) -> Option<LinkId> {
        let listed = |rules: &[Rule]| {
            rules.iter().find(|(keys, _)| attachment.fits(keys)).map(|(_, link)| *link)
        };
        listed(&self.identified)
            .or_else(|| self.link_addresses.find(attachment.link_address?, attachment))
            .or_else(|| self.sources.find(attachment.locating_source()?, attachment))
            .or_else(|| listed(&self.interfaces))
            .or(self.default)
    }
}

/// The rules of prefixes of one length, sorted by address.
type SameLength = Vec<(u128, Vec<Rule>)>;

/// Rules by prefix: one sorted list a prefix length, the longest first.
#[derive(Debug, Default)]
struct PrefixTable(Vec<(u8, SameLength)>);

impl PrefixTable {
    fn insert(&mut self, prefix: Prefix, rule: Rule) {
        let at = match self.0.binary_search_by(|(length, _)| prefix.length.cmp(length)) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (prefix.length, Vec::new()));
                at
            }
        };
        let Some((_, prefixes)) = self.0.get_mut(at) else { return };
        let address = masked(prefix.address, prefix.length);
        match prefixes.binary_search_by_key(&address, |(address, _)| *address) {
            Ok(at) => {
                if let Some((_, rules)) = prefixes.get_mut(at) {
                    rules.push(rule);
                }
            }
            Err(at) => prefixes.insert(at, (address, vec![rule])),
        }
    }

    fn find(&self, address: Ipv6Addr, attachment: &Attachment<'_>) -> Option<LinkId> {
        self.0.iter().find_map(|(length, prefixes)| {
            let address = masked(address, *length);
            let at = prefixes.binary_search_by_key(&address, |(address, _)| *address).ok()?;
            let (_, rules) = prefixes.get(at)?;
            rules.iter().find(|(keys, _)| attachment.fits(keys)).map(|(_, link)| *link)
        })
    }
}

/// The first `length` bits of `address`.
fn masked(address: Ipv6Addr, length: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
    u128::from(address) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
    }

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    const DIRECT: Attachment<'_> = Attachment {
        link_address: None,
        source: Ipv6Addr::LOCALHOST,
        relayed: false,
        interface: 1,
        interface_id: None,
        remote_id: None,
    };

    fn chooser() -> Chooser {
        let by_link = |text| Match { link_address: Some(prefix(text)), ..Match::default() };
        let by_source = |text| Match { source: Some(prefix(text)), ..Match::default() };
        let by_interface = Match { interface: Some(7), ..Match::default() };
        let by_id = Match { interface_id: Some(b"ge-0".to_vec()), ..by_link("2001:db8:1::/64") };
        Chooser::new(&[
            (by_link("2001:db8::/32"), LinkId(0)),
            (by_link("2001:db8:1::/64"), LinkId(1)),
            (by_source("2001:db8:2::/64"), LinkId(2)),
            (by_interface, LinkId(3)),
            (by_id, LinkId(4)),
        ])
    }

    #[test]
    fn the_longest_prefix_wins() {
        let at = |text| Attachment { link_address: Some(address(text)), ..DIRECT };
        assert_eq!(chooser().choose(&at("2001:db8:1::1")), Some(LinkId(1)));
        assert_eq!(chooser().choose(&at("2001:db8:9::1")), Some(LinkId(0)));
        assert_eq!(chooser().choose(&at("2001:db9::1")), None);
    }

    #[test]
    fn identifiers_come_before_link_addresses_before_sources_before_interfaces() {
        let all = Attachment {
            link_address: Some(address("2001:db8:1::1")),
            source: address("2001:db8:2::1"),
            relayed: true,
            interface: 7,
            interface_id: Some(b"ge-0"),
            remote_id: None,
        };
        assert_eq!(chooser().choose(&all), Some(LinkId(4)));
        let all = Attachment { interface_id: Some(b"ge-1"), ..all };
        assert_eq!(chooser().choose(&all), Some(LinkId(1)));
        let all = Attachment { link_address: None, ..all };
        assert_eq!(chooser().choose(&all), Some(LinkId(2)));
        let all = Attachment { source: address("2001:db8:3::1"), ..all };
        assert_eq!(chooser().choose(&all), Some(LinkId(3)));
        let all = Attachment { interface: 8, ..all };
        assert_eq!(chooser().choose(&all), None);
    }

    #[test]
    fn a_link_local_address_behind_a_relay_and_nobody_s_address_locate_nobody() {
        let by = |text| Match { source: Some(prefix(text)), ..Match::default() };
        let chooser = Chooser::new(&[(by("fe80::/10"), LinkId(0)), (by("::/0"), LinkId(1))]);
        let at = |text, relayed| Attachment { source: address(text), relayed, ..DIRECT };
        assert_eq!(chooser.choose(&at("fe80::1", false)), Some(LinkId(0)));
        assert_eq!(chooser.choose(&at("2001:db8::1", true)), Some(LinkId(1)));
        for nowhere in ["fe80::1", "::", "ff02::1"] {
            // case-R04: what remains is an identifier, the interface, or the default.
            assert_eq!(chooser.choose(&at(nowhere, true)), None, "{nowhere}");
        }
    }

    #[test]
    fn an_identifier_counts_only_where_its_other_keys_fit() {
        let elsewhere = Attachment {
            link_address: Some(address("2001:db8:9::1")),
            interface_id: Some(b"ge-0"),
            ..DIRECT
        };
        assert_eq!(chooser().choose(&elsewhere), Some(LinkId(0)));
    }

    #[test]
    fn a_match_without_keys_is_the_default() {
        let chooser = Chooser::new(&[(Match::default(), LinkId(5))]);
        assert_eq!(chooser.choose(&DIRECT), Some(LinkId(5)));
    }
}
