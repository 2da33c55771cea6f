//! DHCPv4-over-DHCPv6 messages, octet by octet: an encoder that can be told to be wrong, and a decoder of its own.
//!
//! Nothing of the product's codec is used here, so that no mistake of its can agree with itself.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Message types of DHCPv6 (RFC 8415 §7.3, RFC 7341 §6).
pub const RELAY_FORWARD: u8 = 12;
pub const RELAY_REPLY: u8 = 13;
pub const QUERY: u8 = 20;
pub const RESPONSE: u8 = 21;

/// Options of DHCPv6.
pub const OPTION_REQUEST: u16 = 6;
pub const RELAY_MESSAGE: u16 = 9;
pub const INTERFACE_ID: u16 = 18;
pub const REMOTE_ID: u16 = 37;
pub const ECHO_REQUEST: u16 = 43;
pub const CLIENT_LINK_LAYER: u16 = 79;
pub const DHCPV4_MESSAGE: u16 = 87;
pub const S46_BR: u16 = 90;
pub const RELAY_PORT: u16 = 135;
pub const S46_BIND_PREFIX: u16 = 137;

/// Message types of DHCPv4 (RFC 2132 §9.6).
pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;
pub const RELEASE: u8 = 7;
pub const INFORM: u8 = 8;

/// The magic cookie (RFC 2131 §3).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Content of option 159, as it stands on the wire (RFC 7618 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    pub offset: u8,
    pub length: u8,
    pub psid: u16,
}

impl Ports {
    pub const fn new(offset: u8, length: u8, psid: u16) -> Self {
        Self { offset, length, psid }
    }

    /// The four octets, the PSID at the left end.
    pub fn octets(self) -> [u8; 4] {
        let field = u32::from(self.psid) << (16 - u32::from(self.length));
        let [_, _, high, low] = field.to_be_bytes();
        [self.offset, self.length, high, low]
    }

    /// Reads the four octets; fails the test if they are not well formed.
    pub fn read(octets: &[u8]) -> Self {
        let [offset, length, high, low] = octets else { panic!("option 159: {octets:02x?}") };
        assert!(*offset <= 15 && *length <= 16 && offset + length <= 16, "{octets:02x?}");
        let field = u32::from(u16::from_be_bytes([*high, *low]));
        let psid = field >> (16 - u32::from(*length));
        assert_eq!(psid << (16 - u32::from(*length)), field, "padding in {octets:02x?}");
        Self { offset: *offset, length: *length, psid: u16::try_from(psid).unwrap() }
    }
}

/// What is leased: an address, and the ports of it if it is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    pub address: Ipv4Addr,
    pub ports: Option<Ports>,
}

/// A shared tuple.
pub fn shared(address: [u8; 4], offset: u8, length: u8, psid: u16) -> Tuple {
    let ports = Some(Ports { offset, length, psid });
    Tuple { address: address.into(), ports }
}

/// A DHCPv4 message (RFC 2131 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub op: u8,
    pub htype: u8,
    pub hlen: u8,
    pub hops: u8,
    pub xid: u32,
    pub secs: u16,
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: [u8; 16],
    pub sname: [u8; 64],
    pub file: [u8; 128],
    pub cookie: [u8; 4],
    /// In their order; END is written after them.
    pub options: Vec<(u8, Vec<u8>)>,
    /// The octets after the last option: END, unless the test wants something else.
    pub tail: Vec<u8>,
}

impl Message {
    /// The octets. A value of more than 255 is split (RFC 3396 §4).
    pub fn octets(&self) -> Vec<u8> {
        let mut out = vec![self.op, self.htype, self.hlen, self.hops];
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.chaddr);
        out.extend(self.sname);
        out.extend(self.file);
        out.extend(self.cookie);
        out.extend(encode_options(&self.options));
        out.extend(&self.tail);
        out
    }

    /// Reads a message without overload, as servers send it; fails the test if it is not one.
    pub fn read(octets: &[u8]) -> Self {
        assert!(octets.len() >= 240, "a DHCPv4 message of {} octets", octets.len());
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&octets[at..at + 4]).unwrap());
        let word = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        let (options, rest) = decode_options(&octets[240..]);
        Self {
            op: octets[0],
            htype: octets[1],
            hlen: octets[2],
            hops: octets[3],
            xid: u32::from_be_bytes(octets[4..8].try_into().unwrap()),
            secs: word(8),
            flags: word(10),
            ciaddr: address(12),
            yiaddr: address(16),
            siaddr: address(20),
            giaddr: address(24),
            chaddr: octets[28..44].try_into().unwrap(),
            sname: octets[44..108].try_into().unwrap(),
            file: octets[108..236].try_into().unwrap(),
            cookie: octets[236..240].try_into().unwrap(),
            options,
            tail: rest.to_vec(),
        }
    }
}

/// Options of DHCPv4, without END.
pub fn encode_options(options: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (code, value) in options {
        if value.is_empty() {
            out.extend([*code, 0]);
        }
        for piece in value.chunks(255) {
            out.extend([*code, u8::try_from(piece.len()).unwrap()]);
            out.extend(piece);
        }
    }
    out
}

/// Options up to END, which must be there, and what follows it with END itself. Instances of a code are put together
/// only if a piece is 255 octets long: elsewhere a server must not repeat a code.
fn decode_options(mut octets: &[u8]) -> (Vec<(u8, Vec<u8>)>, &[u8]) {
    let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
    loop {
        match *octets {
            [] => panic!("no END in a reply"),
            [255, ..] => return (options, octets),
            [0, ref rest @ ..] => octets = rest,
            [_] => panic!("an option without a length"),
            [code, length, ref rest @ ..] => {
                let (value, rest) = rest.split_at(usize::from(length));
                match options.last_mut() {
                    Some((last, known)) if *last == code && known.len() % 255 == 0 => {
                        known.extend(value);
                    }
                    _ => options.push((code, value.to_vec())),
                }
                octets = rest;
            }
        }
    }
}

/// Options of DHCPv6.
pub type Options6 = Vec<(u16, Vec<u8>)>;

pub fn encode_options6(options: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (code, value) in options {
        out.extend(code.to_be_bytes());
        out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        out.extend(value);
    }
    out
}

pub fn decode_options6(mut octets: &[u8]) -> Options6 {
    let mut options = Vec::new();
    while let [a, b, c, d, rest @ ..] = octets {
        let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        options.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        octets = rest;
    }
    assert!(octets.is_empty(), "{} octets after the last DHCPv6 option", octets.len());
    options
}

/// One level of relays (RFC 8415 §9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    pub hops: u8,
    pub link: Ipv6Addr,
    pub peer: Ipv6Addr,
    /// Options before the relayed message.
    pub options: Options6,
}

impl Level {
    /// A relay that gives `link` as its link-address and heard from `peer`.
    pub fn new(hops: u8, link: &str, peer: &str) -> Self {
        let (link, peer) = (link.parse().unwrap(), peer.parse().unwrap());
        Self { hops, link, peer, options: Vec::new() }
    }

    #[must_use]
    pub fn with(mut self, code: u16, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self
    }

    /// The level around `inner`, as a message of type `kind`.
    pub fn around(&self, kind: u8, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, self.hops];
        out.extend(self.link.octets());
        out.extend(self.peer.octets());
        out.extend(encode_options6(&self.options));
        out.extend(encode_options6(&[(RELAY_MESSAGE, inner.to_vec())]));
        out
    }

    /// Takes the outermost level of Relay-reply off, if there is one.
    pub fn unwrap_reply(octets: &[u8]) -> Option<(Self, Vec<u8>)> {
        if octets.first() != Some(&RELAY_REPLY) {
            return None;
        }
        let address =
            |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&octets[at..at + 16]).unwrap());
        let options = decode_options6(&octets[34..]);
        let (inner, options): (Options6, Options6) =
            options.into_iter().partition(|(code, _)| *code == RELAY_MESSAGE);
        let [(_, inner)] = &inner[..] else { panic!("{} relayed messages", inner.len()) };
        let level = Self { hops: octets[1], link: address(2), peer: address(18), options };
        Some((level, inner.clone()))
    }
}

/// A UDP datagram to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub source: Ipv6Addr,
    pub source_port: u16,
    pub destination: Ipv6Addr,
    pub payload: Vec<u8>,
}
