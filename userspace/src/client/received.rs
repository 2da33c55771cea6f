//! The options of an ACK, for whoever configures more than the lease: by the user's wish, and with the user's care.
//!
//! Nothing here is checked but the framing: a server, or whoever poses as one, chooses the octets.

use std::net::Ipv4Addr;

use crate::wire::{
    dhcpv4::{self, View},
    dhcpv6::Response,
};

/// Options that are the lease, or say how the exchange is to be understood, not how the host is to be configured.
const OF_THE_EXCHANGE: [u8; 9] = [
    dhcpv4::OPTION_LEASE_TIME,
    dhcpv4::OPTION_OVERLOAD,
    dhcpv4::OPTION_MESSAGE_TYPE,
    dhcpv4::OPTION_SERVER_ID,
    dhcpv4::OPTION_RENEWAL_TIME,
    dhcpv4::OPTION_REBINDING_TIME,
    dhcpv4::OPTION_CLIENT_ID,
    dhcpv4::OPTION_RELAY_INFORMATION,
    dhcpv4::OPTION_PORT_PARAMS,
];

/// Domain Name (RFC 2132 §3.17).
const OPTION_DOMAIN_NAME: u8 = 15;

/// Interface MTU (RFC 2132 §5.1).
const OPTION_INTERFACE_MTU: u8 = 26;

/// The least MTU that IPv4 knows (RFC 791).
const MTU_MIN: u16 = 68;

/// Longest domain name in text.
const NAME_LENGTH_MAX: usize = 253;

/// Options by code, ascending, each put together from its pieces (RFC 3396).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Received(Vec<(u8, Vec<u8>)>);

impl Received {
    /// The options of the DHCPv4 reply in a DHCPv4-response. None if it is not one.
    pub fn read(datagram: &[u8]) -> Self {
        let Ok(response) = Response::parse(datagram) else { return Self::default() };
        let Ok(view) = View::parse_reply(response.message) else { return Self::default() };
        let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
        for (code, piece) in view.options() {
            if OF_THE_EXCHANGE.contains(&code) {
                continue;
            }
            match options.binary_search_by_key(&code, |(code, _)| *code) {
                Ok(at) => options[at].1.extend(piece),
                Err(at) => options.insert(at, (code, piece.to_vec())),
            }
        }
        Received(options)
    }

    /// All of them, by code.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(code, octets)| (*code, octets.as_slice()))
    }

    /// Content of one option.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        let at = self.0.binary_search_by_key(&code, |(code, _)| *code).ok()?;
        self.0.get(at).map(|(_, octets)| octets.as_slice())
    }

    /// An option that is a list of addresses; none if its length is not a multiple of four.
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        match self.get(code).unwrap_or_default().as_chunks::<4>() {
            (addresses, []) => addresses.iter().copied().map(Ipv4Addr::from).collect(),
            _ => Vec::new(),
        }
    }

    /// The domain name, if it is one: letters, digits, hyphens and underscores between dots. Anything else could
    /// mean something to a shell or to a file of settings.
    pub fn domain_name(&self) -> Option<&str> {
        let octets = self.get(OPTION_DOMAIN_NAME)?;
        // Some servers end texts with a zero (RFC 2132 §2 forbids them to, and tells clients to bear it).
        let end = octets.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
        let name = std::str::from_utf8(octets.get(..end)?).ok()?;
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        (starts && name.len() <= NAME_LENGTH_MAX && name.chars().all(is_fine)).then_some(name)
    }

    /// The MTU, if it is a legal one.
    pub fn mtu(&self) -> Option<u16> {
        let octets = self.get(OPTION_INTERFACE_MTU)?.as_array()?;
        Some(u16::from_be_bytes(*octets)).filter(|&mtu| mtu >= MTU_MIN)
    }
}

#[cfg(test)]
pub(in crate::client) mod tests {
    use super::*;
    use crate::wire::{
        dhcpv4::{Header, MessageType},
        dhcpv6::{self, Relays},
        writer::Writer,
    };

    /// A datagram with an ACK of these options.
    pub(in crate::client) fn ack(options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut buffer = [0; 1500];
        let mut w = Writer::new(&mut buffer);
        let envelope = dhcpv6::begin_response(&mut w, Relays::NONE);
        Header::default().emit(&mut w);
        dhcpv4::put_message_type(&mut w, MessageType::Ack);
        for (code, octets) in options {
            dhcpv4::put_option(&mut w, *code, octets);
        }
        dhcpv4::put_end(&mut w);
        envelope.finish(&mut w);
        w.written().to_vec()
    }

    #[test]
    fn options_come_by_code_and_whole() {
        let read = Received::read(&ack(&[
            (119, b"abc"),
            (6, &[192, 0, 2, 53, 192, 0, 2, 54]),
            (26, &[5, 0]),
            (51, &[0, 0, 0, 60]),
            (119, b"def"),
        ]));
        let codes: Vec<_> = read.iter().map(|(code, _)| code).collect();
        assert_eq!(codes, [6, 26, 119]);
        assert_eq!(read.get(119), Some(&b"abcdef"[..]));
        assert_eq!(read.addresses(6), [Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)]);
        assert_eq!((read.mtu(), read.addresses(26), read.get(1)), (Some(1280), Vec::new(), None));
    }

    #[test]
    fn a_domain_name_is_one_or_is_left_out() {
        let name =
            |octets: &[u8]| Received::read(&ack(&[(15, octets)])).domain_name().map(str::to_owned);
        assert_eq!(name(b"home.example").as_deref(), Some("home.example"));
        assert_eq!(name(b"home.example\0").as_deref(), Some("home.example"));
        let long = [b'a'; 254];
        let bad: [&[u8]; 7] =
            [b"$(reboot)", b"a b", b"a\nnameserver 6.6.6.6", b"-e", b"\xff\xfe", b"\0", &long];
        for octets in bad {
            assert_eq!(name(octets), None, "{octets:?}");
        }
    }

    #[test]
    fn nonsense_has_no_options() {
        assert_eq!(Received::read(&[]), Received::default());
        assert_eq!(Received::read(&[21, 0, 0, 0, 0, 87, 0, 2, 1, 2]), Received::default());
        assert_eq!(Received::read(&ack(&[(26, &[0, 67])])).mtu(), None);
        assert_eq!(Received::read(&ack(&[(26, &[5])])).mtu(), None);
    }
}
