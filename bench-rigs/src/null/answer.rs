//! A fixed answer: the bare minimum that a client of RFC 7618 takes for an OFFER or an ACK.

use std::net::Ipv4Addr;

use portlease::{
    net::{Disposal, Handler},
    wire::{
        datagram::Datagram,
        dhcpv4::{self, Header, MessageType, View},
        dhcpv6::{self, CLIENT_PORT, Query, SERVER_PORT},
        portparams::PortParams,
        writer::Writer,
    },
};

/// What it says of itself in option 54.
const SERVER_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// The first address that it "leases", in bits.
const FIRST_ADDRESS: u32 = 0x0a00_0000;

/// 64 port sets an address, of which the first holds the well-known ports.
const PSID_LENGTH: u8 = 6;
const PSIDS_LEASED: u32 = 63;

/// How long it "leases" for, in seconds.
const LEASE_SECONDS: u32 = 3600;

/// Where the template is patched: the fields of RFC 2131 §2, then the value of option 53, which comes first, and that
/// of the PSID in option 159, which follows it.
const XID: usize = 4;
const CIADDR: usize = 12;
const YIADDR: usize = 16;
const CHADDR: usize = 28;
const MESSAGE_TYPE: usize = 242;
const PSID: usize = 247;

/// Octets of the longest template.
const TEMPLATE_LENGTH_MAX: usize = 320;

/// Answers every DISCOVER with an OFFER and every REQUEST with an ACK.
///
/// The tuple follows from the client's number, which `perf4o6` puts into the IAID of its
/// identifiers: none is given to two clients of one population, a renewal keeps its own, and nothing
/// has to be remembered.
#[derive(Debug)]
pub struct Fixed {
    template: Vec<u8>,
}

impl Default for Fixed {
    fn default() -> Self {
        let mut template = vec![0; TEMPLATE_LENGTH_MAX];
        let mut w = Writer::new(&mut template);
        let header = Header {
            op: dhcpv4::BOOT_REPLY,
            hardware_type: 1,
            hardware_length: 6,
            xid: 0,
            seconds: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: [0; 16],
        };
        header.emit(&mut w);
        dhcpv4::put_message_type(&mut w, MessageType::Offer);
        let ports = PortParams { offset: 0, psid_length: PSID_LENGTH, psid: 0 };
        dhcpv4::put_port_params(&mut w, ports);
        dhcpv4::put_address(&mut w, 54, SERVER_ID);
        dhcpv4::put_u32(&mut w, 51, LEASE_SECONDS);
        dhcpv4::put_u32(&mut w, 58, LEASE_SECONDS / 2);
        dhcpv4::put_u32(&mut w, 59, LEASE_SECONDS / 8 * 7);
        let length = w.len();
        template.truncate(length);
        Self { template }
    }
}

impl Fixed {
    /// Writes the answer to a query; its length and the UDP port it goes to. `None` for what is no DISCOVER or REQUEST
    /// of a simulated client.
    fn write(&self, datagram: &Datagram<'_>, out: &mut [u8]) -> Option<(usize, u16)> {
        let query = Query::parse(datagram.payload).ok()?;
        let message = View::parse_request(query.message).ok()?;
        let kind = match message.kind() {
            MessageType::Discover => MessageType::Offer,
            MessageType::Request => MessageType::Ack,
            _ => return None,
        };
        let identifier = message.client_identifier()?.contiguous()?;
        let number = u32::from_be_bytes(identifier.get(1..5)?.try_into().ok()?);
        let address = FIRST_ADDRESS.wrapping_add(number / PSIDS_LEASED);
        // Port sets of so few bits lie left-aligned in the field (RFC 7618 §9).
        let ports = PortParams {
            offset: 0,
            psid_length: PSID_LENGTH,
            psid: u16::try_from(1 + number % PSIDS_LEASED).ok()?,
        };
        let [_, _, psid @ ..] = ports.encode();

        let mut w = Writer::new(out);
        let envelope = dhcpv6::begin_response(&mut w, query.relays);
        let start = w.len();
        w.bytes(&self.template);
        dhcpv4::put_option(&mut w, 61, identifier);
        dhcpv4::put_end(&mut w);
        envelope.finish(&mut w);
        let length = w.finish()?;

        let reply = out.get_mut(start..length)?;
        let mut patch = |at: usize, octets: &[u8]| {
            reply.get_mut(at..at + octets.len()).map(|place| place.copy_from_slice(octets))
        };
        patch(XID, &message.xid().to_be_bytes())?;
        if kind == MessageType::Ack {
            patch(CIADDR, &message.ciaddr().octets())?;
        }
        patch(YIADDR, &address.to_be_bytes())?;
        patch(CHADDR, message.chaddr())?;
        patch(MESSAGE_TYPE, &[kind.number()])?;
        patch(PSID, &psid)?;
        let port = if query.relays.is_empty() { CLIENT_PORT } else { SERVER_PORT };
        Some((length, port))
    }
}

impl<R> Handler<R> for Fixed {
    type Reading<'a> = Datagram<'a>;

    fn read<'a>(&self, datagram: &Datagram<'a>, reading: &mut Datagram<'a>) {
        *reading = *datagram;
    }

    fn approach(&self, _datagram: &Datagram<'_>) {}

    fn answer(&mut self, datagram: &Datagram<'_>, out: &mut [u8]) -> Disposal {
        match self.write(datagram, out) {
            Some((length, port)) => Disposal::Send { length, port },
            None => Disposal::Discard,
        }
    }

    /// Nothing waits here.
    fn park(&mut self, _reply: R) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::{Answer, Identity, Lease, Message, relay_at},
        stage::{CLIENT, LINK, SERVER},
    };

    fn ask(message: &Message<'_>, relayed: bool) -> Option<(Answer, u16)> {
        let relays = [relay_at(LINK, CLIENT)];
        let payload = message.to_payload(if relayed { &relays } else { &[] });
        let datagram = Datagram {
            peer: CLIENT,
            peer_port: CLIENT_PORT,
            local: SERVER,
            interface: 1,
            payload: &payload,
        };
        let mut out = [0; 1024];
        let (length, port) = Fixed::default().write(&datagram, &mut out)?;
        let identity = |_| Some(Identity::new(1, 4711));
        Some((Answer::read(&out[..length], identity).unwrap(), port))
    }

    fn lease_of(number: u32) -> Lease {
        let identity = Identity::new(1, number);
        ask(&Message::discover(&identity, 1), false).unwrap().0.lease
    }

    #[test]
    fn an_offer_and_its_ack_bear_the_same_tuple_and_what_a_client_checks() {
        let identity = Identity::new(1, 4711);
        let (offer, port) = ask(&Message::discover(&identity, 0x1234_5678), false).unwrap();
        assert_eq!((offer.kind, offer.xid, port), (MessageType::Offer, 0x1234_5678, CLIENT_PORT));
        assert!(offer.same_identifier && !offer.invalid_ports);
        assert_eq!(offer.lease.lease_seconds, LEASE_SECONDS);
        assert!(offer.renewal_seconds < offer.rebinding_seconds);
        let (ack, _) = ask(&Message::select(&identity, 9, &offer.lease), false).unwrap();
        assert_eq!((ack.kind, ack.lease), (MessageType::Ack, offer.lease));
        let (renewed, _) = ask(&Message::renew(&identity, 10, &offer.lease), false).unwrap();
        assert_eq!(renewed.lease.tuple(), offer.lease.tuple());
    }

    #[test]
    fn an_answer_goes_back_through_the_relays() {
        let identity = Identity::new(1, 4711);
        let (offer, port) = ask(&Message::discover(&identity, 1), true).unwrap();
        assert_eq!((offer.relay_levels, port), (1, SERVER_PORT));
    }

    #[test]
    fn no_two_clients_have_one_tuple_and_none_has_well_known_ports() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..1000 {
            let (address, ports) = lease_of(number).tuple();
            assert!(!ports.unwrap().ports().intersects(&(0..=1023)), "{number}");
            assert!(seen.insert((address, ports.unwrap().psid)), "{number}");
        }
    }

    #[test]
    fn what_is_no_request_for_a_lease_is_not_answered() {
        let identity = Identity::new(1, 4711);
        assert!(ask(&Message::release(&identity, 1, &lease_of(4711)), false).is_none());
        let nameless = Message { identifier: None, ..Message::discover(&identity, 1) };
        assert!(ask(&nameless, false).is_none());
    }
}
