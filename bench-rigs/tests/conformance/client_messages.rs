//! What the client asks, taken apart octet by octet, and what a server may answer, right or wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::packet::{
    ACK, COOKIE, DHCPV4_MESSAGE, DISCOVER, Message, NAK, OFFER, OPTION_REQUEST, Options6, Ports,
    QUERY, RELEASE, REQUEST, RESPONSE, Tuple, decode_options6, encode_options6, shared,
};

/// DHCPv6 options of which only clients hear or speak.
pub const CLIENT_ID: u16 = 1;
pub const SERVER_ID: u16 = 2;
pub const INFORMATION_REFRESH_TIME: u16 = 32;
pub const SERVERS_4O6: u16 = 88;

/// Message types of stateless DHCPv6 (RFC 8415 §7.3).
pub const INFORMATION_REQUEST: u8 = 11;
const REPLY: u8 = 7;

/// Who answers unless a case says otherwise, and who else there is.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 253);

/// The shared address of the reference configuration with a port set that is not contiguous.
pub fn of_63_ranges(psid: u16) -> Tuple {
    shared([192, 0, 2, 18], 6, 8, psid)
}

/// The same address, whole.
pub fn whole() -> Tuple {
    Tuple { address: Ipv4Addr::new(192, 0, 2, 18), ports: None }
}

/// A DHCPV4-QUERY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub payload: Vec<u8>,
    flags: [u8; 3],
    /// DHCPv6 options beside option 87.
    pub options6: Options6,
    pub message: Message,
}

impl Asked {
    /// Takes a query apart, and asserts what is true of every query of a client's: RFC 7341 §6.2, §6.3 and §9,
    /// RFC 4361 §6.1, RFC 2131 §4.1 and Table 5.
    #[track_caller]
    pub fn read(payload: &[u8]) -> Self {
        assert_eq!(payload[0], QUERY, "type of {payload:02x?}");
        let (messages, options6): (Options6, Options6) = decode_options6(&payload[4..])
            .into_iter()
            .partition(|(code, _)| *code == DHCPV4_MESSAGE);
        let [(_, message)] = &messages[..] else { panic!("{} options 87", messages.len()) };
        let flags = payload[1..4].try_into().unwrap();
        let message = Message::read(message);
        let asked = Self { payload: payload.to_vec(), flags, options6, message };
        asked.assert_lawful();
        asked
    }

    #[track_caller]
    fn assert_lawful(&self) {
        assert!(matches!(self.flags, [0 | 0x80, 0, 0]), "RFC 7341 §6.3: {:02x?}", self.flags);
        let alien = self.options6.iter().find(|(code, _)| *code != OPTION_REQUEST);
        assert_eq!(alien, None, "RFC 7341 §6.2: options beside 87");
        assert!(!self.requested6().contains(&SERVERS_4O6), "RFC 7341 §9: 88 in a query");
        let said = &self.message;
        assert_eq!((said.op, said.hops, said.cookie), (1, 0, COOKIE));
        assert_eq!(
            (said.yiaddr, said.siaddr, said.giaddr),
            ([0; 4].into(), [0; 4].into(), [0; 4].into())
        );
        assert_eq!(said.tail, [255], "END");
        let [255, _, _, _, _, duid @ ..] = self.option(61).expect("option 61") else {
            panic!("RFC 4361 §6.1: {:02x?}", self.option(61))
        };
        assert!((3..=130).contains(&duid.len()));
        assert_eq!(self.has(55), self.kind() != RELEASE, "RFC 2131 Table 5: option 55");
    }

    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.message.options.iter().find(|(known, _)| *known == code).map(|(_, value)| &value[..])
    }

    pub fn has(&self, code: u8) -> bool {
        self.option(code).is_some()
    }

    /// Option 53.
    pub fn kind(&self) -> u8 {
        self.option(53).expect("option 53")[0]
    }

    /// Whether flag U is set.
    pub fn unicast(&self) -> bool {
        self.flags[0] == 0x80
    }

    /// An option that is an address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.option(code).map(|value| <[u8; 4]>::try_from(value).unwrap().into())
    }

    pub fn ports(&self) -> Option<Ports> {
        self.option(159).map(Ports::read)
    }

    /// Whether option 55 lists code 159.
    pub fn is_capable(&self) -> bool {
        self.option(55).is_some_and(|codes| codes.contains(&159))
    }

    /// The codes of option 6 beside option 87.
    pub fn requested6(&self) -> Vec<u16> {
        let lists = self.options6.iter().filter(|(code, _)| *code == OPTION_REQUEST);
        let octets = lists.flat_map(|(_, value)| value.chunks(2));
        octets.map(|two| u16::from_be_bytes(two.try_into().unwrap())).collect()
    }

    /// Option 109.
    pub fn softwire(&self) -> Option<Ipv6Addr> {
        self.option(109).map(|value| <[u8; 16]>::try_from(value).unwrap().into())
    }

    /// A DISCOVER as RFC 2131 Table 5 has it: neither server nor address is known.
    #[track_caller]
    pub fn assert_discover(&self) {
        assert_eq!((self.kind(), self.unicast(), self.has(54)), (DISCOVER, false, false));
        assert!(self.message.ciaddr.is_unspecified());
    }

    /// The REQUEST that extends this lease: `unicast` in RENEWING, not in REBINDING (RFC 2131 Table 4, RFC 7618 §7).
    #[track_caller]
    pub fn assert_extends(&self, lease: Tuple, unicast: bool) {
        assert_eq!((self.kind(), self.unicast()), (REQUEST, unicast), "{self:?}");
        assert_eq!((self.message.ciaddr, self.ports()), (lease.address, lease.ports));
        assert!(!self.has(50) && !self.has(54), "{self:?}");
        assert!(self.is_capable());
    }

    /// The REQUEST of INIT-REBOOT (RFC 2131 Table 4, RFC 7618 §6).
    #[track_caller]
    pub fn assert_reboots(&self, lease: Tuple) {
        assert_eq!((self.kind(), self.unicast(), self.has(54)), (REQUEST, false, false));
        assert!(self.message.ciaddr.is_unspecified());
        assert_eq!((self.address(50), self.ports()), (Some(lease.address), lease.ports));
        assert!(self.is_capable());
    }

    /// The RELEASE of a lease (RFC 7618 §6 step 6, RFC 2131 Table 5).
    #[track_caller]
    pub fn assert_releases(&self, lease: Tuple, identifier: &[u8]) {
        assert_eq!((self.kind(), self.unicast()), (RELEASE, true));
        assert_eq!((self.message.ciaddr, self.ports()), (lease.address, lease.ports));
        assert_eq!((self.address(54), self.option(61)), (Some(SERVER), Some(identifier)));
        assert!(!self.has(50) && !self.has(55) && !self.has(109), "{self:?}");
    }
}

/// What a server says to a query; all of it can be changed.
#[derive(Clone, Debug)]
pub struct Answer {
    kind: u8,
    yiaddr: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
    /// In place of the query's.
    xid: Option<u32>,
    /// In place of the query's option 61.
    identifier: Option<Vec<u8>>,
    flags: [u8; 3],
    beside: Options6,
}

impl Answer {
    fn new(kind: u8, tuple: Tuple) -> Self {
        let mut answer = Answer {
            kind,
            yiaddr: tuple.address,
            options: Vec::new(),
            xid: None,
            identifier: None,
            flags: [0; 3],
            beside: Vec::new(),
        };
        answer = answer.with(54, &SERVER.octets());
        match tuple.ports {
            Some(ports) => answer.with(159, &ports.octets()),
            None => answer,
        }
    }

    /// An OFFER for an hour.
    pub fn offer(tuple: Tuple) -> Self {
        Self::new(OFFER, tuple).lasting(3600)
    }

    /// An ACK for an hour.
    pub fn ack(tuple: Tuple) -> Self {
        Self::new(ACK, tuple).lasting(3600)
    }

    pub fn nak() -> Self {
        Self::new(NAK, Tuple { address: Ipv4Addr::UNSPECIFIED, ports: None })
    }

    /// Option 51.
    #[must_use]
    pub fn lasting(self, seconds: u32) -> Self {
        self.without(51).with(51, &seconds.to_be_bytes())
    }

    /// Options 58 and 59.
    #[must_use]
    pub fn times(self, renewal: u32, rebinding: u32) -> Self {
        self.with(58, &renewal.to_be_bytes()).with(59, &rebinding.to_be_bytes())
    }

    /// Option 54.
    #[must_use]
    pub fn by(self, server: Ipv4Addr) -> Self {
        self.without(54).with(54, &server.octets())
    }

    /// One more instance of an option.
    #[must_use]
    pub fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self
    }

    #[must_use]
    pub fn without(mut self, code: u8) -> Self {
        self.options.retain(|(known, _)| *known != code);
        self
    }

    #[must_use]
    pub fn xid(self, xid: u32) -> Self {
        Self { xid: Some(xid), ..self }
    }

    #[must_use]
    pub fn identified_by(self, identifier: &[u8]) -> Self {
        Self { identifier: Some(identifier.to_vec()), ..self }
    }

    #[must_use]
    pub fn flags(self, flags: [u8; 3]) -> Self {
        Self { flags, ..self }
    }

    /// A DHCPv6 option beside option 87.
    #[must_use]
    pub fn beside(mut self, code: u16, value: &[u8]) -> Self {
        self.beside.push((code, value.to_vec()));
        self
    }

    /// The DHCPv4 message.
    pub fn message(&self, asked: &Asked) -> Vec<u8> {
        let query = &asked.message;
        let mut options = vec![(53, vec![self.kind])];
        options.extend(self.options.clone());
        let identifier = self.identifier.as_deref().or(asked.option(61));
        options.extend(identifier.map(|identifier| (61, identifier.to_vec())));
        let message = Message {
            op: 2,
            xid: self.xid.unwrap_or(query.xid),
            secs: 0,
            ciaddr: if self.kind == ACK { query.ciaddr } else { Ipv4Addr::UNSPECIFIED },
            yiaddr: self.yiaddr,
            options,
            ..query.clone()
        };
        message.octets()
    }

    /// The UDP payload that answers a query.
    pub fn to(&self, asked: &Asked) -> Vec<u8> {
        self.around(&[self.message(asked)])
    }

    /// The DHCPV4-RESPONSE around these contents of option 87.
    pub fn around(&self, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![RESPONSE];
        payload.extend(self.flags);
        let inside = messages.iter().map(|message| (DHCPV4_MESSAGE, message.clone()));
        let options: Options6 = inside.chain(self.beside.clone()).collect();
        payload.extend(encode_options6(&options));
        payload
    }
}

/// The Reply to an Information-request: with these servers in option 88, with an empty one, or without.
pub fn information(request: &[u8], servers: Option<&[Ipv6Addr]>) -> Vec<u8> {
    assert_eq!(request[0], INFORMATION_REQUEST, "type of {request:02x?}");
    let asked = decode_options6(&request[4..]);
    let value = |wanted: u16| asked.iter().find(|(code, _)| *code == wanted).map(|(_, v)| v);
    let list = value(OPTION_REQUEST).expect("option 6");
    assert!(list.chunks(2).any(|code| code == SERVERS_4O6.to_be_bytes()), "RFC 7341 §5");
    let mut options: Options6 = vec![(SERVER_ID, vec![0, 3, 0, 1, 2, 0, 0, 0, 0xff, 1])];
    options.extend(value(CLIENT_ID).map(|duid| (CLIENT_ID, duid.clone())));
    options.push((INFORMATION_REFRESH_TIME, 600_u32.to_be_bytes().to_vec()));
    if let Some(servers) = servers {
        options.push((SERVERS_4O6, servers.iter().flat_map(Ipv6Addr::octets).collect()));
    }
    let mut payload = vec![REPLY, request[1], request[2], request[3]];
    payload.extend(encode_options6(&options));
    payload
}
