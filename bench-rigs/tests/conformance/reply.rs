//! What the server sent, and what must be true of every reply of its.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    packet::{
        ACK, COOKIE, DHCPV4_MESSAGE, Level, Message, NAK, OFFER, OPTION_REQUEST, Options6, Ports,
        RESPONSE, Tuple, decode_options6,
    },
    query::{Query, SERVER_ID},
};

/// A datagram of the server's, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub destination_port: u16,
    /// The UDP payload.
    pub payload: Vec<u8>,
    /// Levels of Relay-reply, the outermost first.
    pub relays: Vec<Level>,
    /// Of the DHCPV4-RESPONSE.
    pub flags: [u8; 3],
    /// DHCPv6 options beside option 87.
    pub options6: Options6,
    pub message: Message,
    /// Octets of the DHCPv4 message.
    pub message_length: usize,
}

impl Reply {
    /// Takes a datagram apart. Fails the test if it is no DHCPV4-RESPONSE with exactly one DHCPv4 message.
    pub fn read(source: Ipv6Addr, to: (Ipv6Addr, u16), payload: &[u8]) -> Self {
        let (mut relays, mut inner) = (Vec::new(), payload.to_vec());
        while let Some((level, next)) = Level::unwrap_reply(&inner) {
            relays.push(level);
            inner = next;
        }
        assert_eq!(inner[0], RESPONSE, "type of {inner:02x?}");
        let (messages, options6): (Options6, Options6) =
            decode_options6(&inner[4..]).into_iter().partition(|(code, _)| *code == DHCPV4_MESSAGE);
        let [(_, message)] = &messages[..] else { panic!("{} options 87", messages.len()) };
        Self {
            source,
            destination: to.0,
            destination_port: to.1,
            payload: payload.to_vec(),
            relays,
            flags: inner[1..4].try_into().unwrap(),
            options6,
            message: Message::read(message),
            message_length: message.len(),
        }
    }

    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.message.options.iter().find(|(known, _)| *known == code).map(|(_, value)| &value[..])
    }

    pub fn has(&self, code: u8) -> bool {
        self.option(code).is_some()
    }

    /// The codes of the options in their order.
    pub fn codes(&self) -> Vec<u8> {
        self.message.options.iter().map(|(code, _)| *code).collect()
    }

    /// Option 53.
    pub fn kind(&self) -> u8 {
        self.option(53).expect("option 53")[0]
    }

    /// An option of four octets.
    pub fn number(&self, code: u8) -> Option<u32> {
        self.option(code).map(|value| u32::from_be_bytes(value.try_into().unwrap()))
    }

    /// Option 51, in seconds.
    pub fn lease_seconds(&self) -> u32 {
        self.number(51).expect("option 51")
    }

    pub fn ports(&self) -> Option<Ports> {
        self.option(159).map(Ports::read)
    }

    /// yiaddr and option 159.
    pub fn tuple(&self) -> Tuple {
        Tuple { address: self.message.yiaddr, ports: self.ports() }
    }

    /// yiaddr and option 159, which must be there.
    pub fn shared(&self) -> (Ipv4Addr, Ports) {
        (self.message.yiaddr, self.ports().expect("option 159"))
    }

    /// Asserts what RFC 7341 §6, RFC 2131 Table 3, RFC 6842 §3 and RFC 7618 §8 say of every reply to `query`.
    pub fn assert_lawful(&self, query: &Query) {
        assert_eq!(self.flags, [0; 3], "RFC 7341 §6.4: response flags");
        let asked = requested_options6(query);
        for (code, _) in &self.options6 {
            assert!(
                [90, 137].contains(code) && asked.contains(code),
                "RFC 7341 §6.2: option {code}"
            );
        }
        let (asked, said) = (&query.message, &self.message);
        assert_eq!((said.op, said.hops, said.secs), (2, 0, 0), "RFC 2131 Table 3: op, hops, secs");
        assert_eq!(said.cookie, COOKIE);
        assert_eq!(said.xid, asked.xid);
        assert_eq!((said.htype, said.hlen, said.chaddr), (asked.htype, asked.hlen, asked.chaddr));
        assert_eq!(said.giaddr, asked.giaddr);
        let broadcast = self.kind() == NAK && !asked.giaddr.is_unspecified();
        let flags = if broadcast { asked.flags | 0x8000 } else { asked.flags };
        assert_eq!(said.flags, flags, "RFC 2131 Table 3, §4.3.2: flags");
        assert_eq!(self.option(61), joined(query, 61).as_deref(), "RFC 6842 §3: option 61");
        assert_eq!(self.option(54), Some(&SERVER_ID.octets()[..]), "RFC 2131 Table 3: option 54");
        for code in [50, 55, 57] {
            assert!(!self.has(code), "RFC 2131 Table 3: option {code} in a reply");
        }
        assert_eq!(said.tail[0], 255);
        assert!(said.tail[1..].iter().all(|octet| *octet == 0), "after END: {:02x?}", said.tail);
        let listed = joined(query, 55).unwrap_or_default();
        if self.has(159) {
            assert!(listed.contains(&159), "RFC 7618 §8: option 159 for a client that lists none");
            assert_eq!(self.option(159).unwrap().len(), 4);
        }
        let codes = self.codes();
        let distinct: std::collections::BTreeSet<u8> = codes.iter().copied().collect();
        assert_eq!(distinct.len(), codes.len(), "RFC 2132 §9.8: an option twice in {codes:?}");
        match self.kind() {
            OFFER => {
                assert!(said.ciaddr.is_unspecified(), "RFC 2131 Table 3: ciaddr of an OFFER");
                assert!(!said.yiaddr.is_unspecified() && self.has(51));
            }
            ACK => assert_eq!(said.ciaddr, asked.ciaddr, "RFC 2131 Table 3: ciaddr of an ACK"),
            NAK => {
                assert!(said.ciaddr.is_unspecified() && said.yiaddr.is_unspecified());
                let allowed = [53, 54, 56, 60, 61, 82];
                let alien = codes.iter().find(|code| !allowed.contains(code));
                assert_eq!(alien, None, "RFC 2131 Table 3: options of a NAK: {codes:?}");
            }
            kind => panic!("a reply of type {kind}"),
        }
        self.assert_way_back(query);
    }

    /// RFC 7341 §11, RFC 8415 §19.3: back to where it came from, through the same relays.
    fn assert_way_back(&self, query: &Query) {
        assert_eq!(self.destination, query.source, "where the reply goes");
        if !query.destination.is_multicast() {
            assert_eq!(self.source, query.destination, "where the reply comes from");
        }
        assert_eq!(self.relays.len(), query.relays.len(), "levels of relays");
        for (back, forth) in self.relays.iter().zip(&query.relays) {
            let (back, forth) =
                ((back.hops, back.link, back.peer), (forth.hops, forth.link, forth.peer));
            assert_eq!(back, forth, "RFC 8415 §19.3: hop-count, link-address, peer-address");
        }
    }
}

/// What the Option Request option of a query lists (RFC 8539 §5).
fn requested_options6(query: &Query) -> Vec<u16> {
    let all = query.before.iter().chain(&query.after);
    let lists = all.filter(|(code, _)| *code == OPTION_REQUEST);
    lists
        .flat_map(|(_, value)| value.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])))
        .collect()
}

/// All instances of a DHCPv4 option put together (RFC 3396 §7).
fn joined(query: &Query, code: u8) -> Option<Vec<u8>> {
    let mut instances = query.message.options.iter().filter(|(known, _)| *known == code).peekable();
    instances.peek()?;
    Some(instances.flat_map(|(_, value)| value.clone()).collect())
}
