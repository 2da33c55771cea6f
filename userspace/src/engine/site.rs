//! Which customer site a packet came from (RFC 7969 §3.2, RFC 7618 §10).
//!
//! A relay's identifier of the line, together with the link-address that it is unique under: Interface-Id, which a
//! relay at the line adds, before Remote-Id. Where neither is, the prefix that a site gets; a link-local address says
//! nothing of a prefix and stands for itself. Only a relay or the network's own ingress filter can vouch for these:
//! nothing in the DHCPv4 message counts.

use std::net::Ipv6Addr;

use super::{choose::Attachment, policy::Prefix};
use crate::lease::key::{AddressesAsSites, IdentitySecret, SiteId};

/// What a site is known by.
const BY_INTERFACE_ID: u8 = 1;
const BY_REMOTE_ID: u8 = 2;
const BY_ADDRESS: u8 = 3;

/// Tells sites apart.
pub(super) struct Sites {
    secret: IdentitySecret,
    /// Bits of an address that all of a site have in common.
    prefix_length: u8,
    /// Of clients without a relay.
    direct: AddressesAsSites,
}

impl Sites {
    /// Sites under `secret`. A site without relay information is `prefix_length` bits of its address.
    pub(super) fn new(secret: IdentitySecret, prefix_length: u8) -> Self {
        let direct = secret.addresses_as_sites(BY_ADDRESS, Ipv6Addr::UNSPECIFIED);
        Self { secret, prefix_length, direct }
    }

    /// The site of `attachment`.
    #[inline]
    pub(super) fn identify(&self, attachment: &Attachment<'_>) -> SiteId {
        let link_address = attachment.link_address.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let of = |kind: u8, name: &[u8]| self.secret.identify_site(kind, link_address, name);
        match (attachment.interface_id, attachment.remote_id) {
            (Some(identifier), _) => of(BY_INTERFACE_ID, identifier),
            (None, Some(identifier)) => of(BY_REMOTE_ID, identifier),
            (None, None) => {
                let address = self.common(attachment.source);
                if link_address.is_unspecified() {
                    self.direct.identify(address)
                } else {
                    of(BY_ADDRESS, &address.octets())
                }
            }
        }
    }

    /// What all of a site have in common.
    #[inline]
    fn common(&self, source: Ipv6Addr) -> Ipv6Addr {
        if source.is_unicast_link_local() {
            source
        } else {
            Prefix::of(source, self.prefix_length).address
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECT: Attachment<'_> = Attachment {
        link_address: None,
        source: Ipv6Addr::new(0x2001, 0xdb8, 1, 0x1200, 0, 0, 0, 1),
        relayed: false,
        interface: 1,
        interface_id: None,
        remote_id: None,
    };

    fn site(attachment: &Attachment<'_>, prefix_length: u8) -> SiteId {
        Sites::new(IdentitySecret([7; 16]), prefix_length).identify(attachment)
    }

    #[test]
    fn a_direct_client_is_of_the_site_of_its_prefix() {
        let at = |text: &str| Attachment { source: text.parse().unwrap(), ..DIRECT };
        let (near, far) = (at("2001:db8:1:1200::9"), at("2001:db8:1:12ff::1"));
        assert_eq!(site(&DIRECT, 64), site(&near, 64));
        assert_ne!(site(&DIRECT, 64), site(&far, 64));
        assert_eq!(site(&DIRECT, 56), site(&far, 56));
        assert_ne!(site(&DIRECT, 128), site(&near, 128));
        // Link-local addresses have a prefix in common that says nothing.
        assert_ne!(site(&at("fe80::1"), 64), site(&at("fe80::2"), 64));
    }

    #[test]
    fn an_identifier_counts_under_its_link_address_and_before_the_source() {
        let relayed = Attachment {
            link_address: Some("2001:db8:1::1".parse().unwrap()),
            interface_id: Some(b"ge-0"),
            relayed: true,
            ..DIRECT
        };
        let elsewhere = Attachment { source: "fe80::7".parse().unwrap(), ..relayed };
        assert_eq!(site(&relayed, 64), site(&elsewhere, 64), "whatever the client calls itself");
        let other = Attachment { interface_id: Some(b"ge-1"), ..relayed };
        assert_ne!(site(&relayed, 64), site(&other, 64));
        let other = Attachment { link_address: Some("2001:db8:2::1".parse().unwrap()), ..relayed };
        assert_ne!(site(&relayed, 64), site(&other, 64));
        let remote = Attachment { interface_id: None, remote_id: Some(b"ge-0"), ..relayed };
        assert_ne!(site(&relayed, 64), site(&remote, 64));
        // The line's own identifier is the narrower one.
        let both = Attachment { remote_id: Some(b"anything"), ..relayed };
        assert_eq!(site(&relayed, 64), site(&both, 64));
    }
}
