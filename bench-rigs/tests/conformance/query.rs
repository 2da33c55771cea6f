//! What clients and relays send: sound messages, and ways to spoil them.

use std::net::{Ipv4Addr, Ipv6Addr};

use bench_rigs::stage::{RELAY, SERVER};

use crate::{
    packet::{
        COOKIE, DECLINE, DHCPV4_MESSAGE, DISCOVER, Datagram, INFORM, Level, Message, Options6,
        Ports, QUERY, RELAY_FORWARD, RELEASE, REQUEST, Tuple, encode_options6,
    },
    reply::Reply,
};

/// The server identifier of the reference configuration.
pub const SERVER_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// Links of the reference configuration, by the third group of their prefix.
pub const L1: u16 = 1;
pub const L2: u16 = 2;
pub const L3: u16 = 3;
pub const L4: u16 = 4;

/// What a client that can share asks for.
pub const CAPABLE: &[u8] = &[1, 3, 6, 51, 58, 59, 159];

/// `2001:db8:LINK::HOST`
pub fn address(link: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, link, 0, 0, 0, 0, host)
}

/// A client: an identity and a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Option 61; none for a client that sends none.
    pub identifier: Option<Vec<u8>>,
    pub hardware: Vec<u8>,
    pub source: Ipv6Addr,
    /// Relays before it, the outermost first.
    pub relays: Vec<Level>,
    /// Option 55.
    pub parameters: Vec<u8>,
}

impl Client {
    /// The client of this number on a link: capable, direct, with an RFC 4361 identifier.
    pub fn on(link: u16, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        let hardware = vec![2, 0, 0, 0, high, low];
        let mut identifier = vec![255, 0, 0, 0, 1, 0, 3, 0, 1];
        identifier.extend(&hardware);
        Self {
            identifier: Some(identifier),
            hardware,
            source: address(link, 0x1000 + number),
            relays: Vec::new(),
            parameters: CAPABLE.to_vec(),
        }
    }

    /// The same behind these relays, the outermost first.
    #[must_use]
    pub fn behind(mut self, relays: Vec<Level>) -> Self {
        self.relays = relays;
        self
    }

    /// The same, not knowing option 159.
    #[must_use]
    pub fn incapable(mut self) -> Self {
        self.parameters.retain(|code| *code != 159);
        self
    }

    #[must_use]
    pub fn identified_by(mut self, identifier: Option<&[u8]>) -> Self {
        self.identifier = identifier.map(<[u8]>::to_vec);
        self
    }

    /// A message of this client's with what all of them have.
    fn message(&self, kind: u8) -> Query {
        let mut chaddr = [0; 16];
        chaddr[..self.hardware.len()].copy_from_slice(&self.hardware);
        let nobody = Ipv4Addr::UNSPECIFIED;
        let mut options = vec![(53, vec![kind])];
        options.extend(self.identifier.clone().map(|identifier| (61, identifier)));
        let message = Message {
            op: 1,
            htype: 1,
            hlen: u8::try_from(self.hardware.len()).unwrap(),
            hops: 0,
            xid: 0x1122_3344,
            secs: 0,
            flags: 0,
            ciaddr: nobody,
            yiaddr: nobody,
            siaddr: nobody,
            giaddr: nobody,
            chaddr,
            sname: [0; 64],
            file: [0; 128],
            cookie: COOKIE,
            options,
            tail: vec![255],
        };
        let relayed = !self.relays.is_empty();
        Query {
            source: if relayed { RELAY } else { self.source },
            source_port: if relayed { 547 } else { 546 },
            destination: SERVER,
            relays: self.relays.clone(),
            flags: [0; 3],
            before: Vec::new(),
            after: Vec::new(),
            message,
        }
    }

    pub fn discover(&self) -> Query {
        self.message(DISCOVER).set(55, &self.parameters)
    }

    /// DISCOVER for this very tuple (RFC 7618 §7).
    pub fn discover_for(&self, tuple: Tuple) -> Query {
        self.discover().set(50, &tuple.address.octets()).ports(tuple.ports)
    }

    /// The REQUEST that chooses an offer (RFC 2131 §4.3.2).
    pub fn select(&self, offer: &Reply) -> Query {
        self.select_tuple(offer.tuple()).set(54, offer.option(54).unwrap())
    }

    /// The REQUEST that chooses a tuple of ours, offered or not.
    pub fn select_tuple(&self, tuple: Tuple) -> Query {
        self.message(REQUEST)
            .set(54, &SERVER_ID.octets())
            .set(50, &tuple.address.octets())
            .set(55, &self.parameters)
            .ports(tuple.ports)
    }

    /// The REQUEST of a client that restarts.
    pub fn reboot(&self, tuple: Tuple) -> Query {
        self.select_tuple(tuple).without(54)
    }

    /// The REQUEST that extends a lease through its server.
    pub fn renew(&self, tuple: Tuple) -> Query {
        self.rebind(tuple).unicast()
    }

    /// The REQUEST that extends a lease through any server.
    pub fn rebind(&self, tuple: Tuple) -> Query {
        let mut query = self.message(REQUEST).set(55, &self.parameters).ports(tuple.ports);
        query.message.ciaddr = tuple.address;
        query
    }

    pub fn release(&self, tuple: Tuple) -> Query {
        let mut query = self.message(RELEASE).set(54, &SERVER_ID.octets()).ports(tuple.ports);
        query.message.ciaddr = tuple.address;
        query.unicast()
    }

    pub fn decline(&self, tuple: Tuple) -> Query {
        self.message(DECLINE)
            .set(54, &SERVER_ID.octets())
            .set(50, &tuple.address.octets())
            .ports(tuple.ports)
    }

    pub fn inform(&self, address: Ipv4Addr) -> Query {
        let mut query = self.message(INFORM).set(55, &self.parameters);
        query.message.ciaddr = address;
        query.unicast()
    }
}

/// A message with all that is around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub source: Ipv6Addr,
    pub source_port: u16,
    pub destination: Ipv6Addr,
    /// The outermost first.
    pub relays: Vec<Level>,
    /// Of the DHCPV4-QUERY; U is the highest bit (RFC 7341 §6.3).
    pub flags: [u8; 3],
    /// DHCPv6 options before option 87.
    pub before: Options6,
    /// DHCPv6 options after option 87.
    pub after: Options6,
    pub message: Message,
}

impl Query {
    /// Sets U: over IPv4 this would have been unicast.
    #[must_use]
    pub fn unicast(mut self) -> Self {
        self.flags[0] |= 0x80;
        self
    }

    #[must_use]
    pub fn from(self, source: Ipv6Addr) -> Self {
        Self { source, ..self }
    }

    #[must_use]
    pub fn to(self, destination: &str) -> Self {
        Self { destination: destination.parse().unwrap(), ..self }
    }

    #[must_use]
    pub fn port(self, source_port: u16) -> Self {
        Self { source_port, ..self }
    }

    #[must_use]
    pub fn xid(mut self, xid: u32) -> Self {
        self.message.xid = xid;
        self
    }

    #[must_use]
    pub fn giaddr(mut self, address: [u8; 4]) -> Self {
        self.message.giaddr = address.into();
        self
    }

    /// Gives a DHCPv4 option this value, in its place or as the last one.
    #[must_use]
    pub fn set(mut self, code: u8, value: &[u8]) -> Self {
        match self.message.options.iter_mut().find(|(known, _)| *known == code) {
            Some((_, known)) => *known = value.to_vec(),
            None => self.message.options.push((code, value.to_vec())),
        }
        self
    }

    /// One more instance of a DHCPv4 option.
    #[must_use]
    pub fn add(mut self, code: u8, value: &[u8]) -> Self {
        self.message.options.push((code, value.to_vec()));
        self
    }

    #[must_use]
    pub fn without(mut self, code: u8) -> Self {
        self.message.options.retain(|(known, _)| *known != code);
        self
    }

    /// Option 159 with this content, or without it.
    #[must_use]
    pub fn ports(self, ports: Option<Ports>) -> Self {
        match ports {
            Some(ports) => self.set(159, &ports.octets()),
            None => self.without(159),
        }
    }

    /// The octets of option 159, right or wrong.
    #[must_use]
    pub fn raw_ports(self, octets: &[u8]) -> Self {
        self.set(159, octets)
    }

    /// Option 55.
    #[must_use]
    pub fn parameters(self, codes: &[u8]) -> Self {
        self.set(55, codes)
    }

    /// Option 55 without code 159.
    #[must_use]
    pub fn not_listing_ports(self) -> Self {
        let codes = self.option(55).unwrap_or_default().to_vec();
        self.parameters(&codes.into_iter().filter(|code| *code != 159).collect::<Vec<_>>())
    }

    /// The first instance of a DHCPv4 option.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.message.options.iter().find(|(known, _)| *known == code).map(|(_, value)| &value[..])
    }

    /// Another octet than the right one, by a change of the whole UDP payload.
    pub fn spoilt(&self, change: impl FnOnce(&mut Vec<u8>)) -> Datagram {
        let mut datagram = self.datagram();
        change(&mut datagram.payload);
        datagram
    }

    /// The same way with other content than a DHCPv4-query.
    pub fn replaced_by(&self, payload: &[u8]) -> Datagram {
        self.spoilt(|octets| *octets = payload.to_vec())
    }

    /// The DHCPV4-QUERY around this DHCPv4 message.
    pub fn envelope(&self, message: &[u8]) -> Vec<u8> {
        let mut payload = vec![QUERY];
        payload.extend(self.flags);
        payload.extend(encode_options6(&self.before));
        payload.extend(encode_options6(&[(DHCPV4_MESSAGE, message.to_vec())]));
        payload.extend(encode_options6(&self.after));
        payload
    }

    /// This UDP payload within the relays.
    pub fn relayed(&self, payload: Vec<u8>) -> Vec<u8> {
        self.relays.iter().rev().fold(payload, |inner, level| level.around(RELAY_FORWARD, &inner))
    }

    pub fn datagram(&self) -> Datagram {
        Datagram {
            source: self.source,
            source_port: self.source_port,
            destination: self.destination,
            payload: self.relayed(self.envelope(&self.message.octets())),
        }
    }
}

impl std::convert::From<&Query> for Datagram {
    fn from(query: &Query) -> Self {
        query.datagram()
    }
}

impl std::convert::From<&Datagram> for Datagram {
    fn from(datagram: &Datagram) -> Self {
        datagram.clone()
    }
}
