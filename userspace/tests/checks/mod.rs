//! What must hold for any octets at all. Property tests and fuzz targets call the same functions;
//! each panics if what it checks does not hold.
//!
//! The DHCPv4 reader is compared with a second one ([`naive`]) that follows RFC 2131 and RFC 3396
//! by copying everything it sees: slow, but with nothing to get wrong.

pub(crate) mod frames;
pub(crate) mod naive;

use portlease::wire::{
    dhcpv4::{self, Header, MessageType, PortParamsField, View},
    dhcpv6::{
        self, InformationRequest, Relay, Relays, Reply, Request, Response,
        softwire::{self, BindPrefix},
    },
    identity::ClientIdentifier,
    portparams::PortParams,
    writer::Writer,
};

/// Options that are read one by one, and one code that none has.
const SOME_CODES: [u8; 4] = [1, 82, 159, 254];

/// Any UDP payload sent to a server.
pub(crate) fn query(payload: &[u8]) {
    let query = match Request::parse(payload) {
        Ok(Request::Query(query)) => query,
        Ok(Request::Information(asked)) => return information(&asked, payload.len()),
        Err(_) => return request(payload),
    };
    check_relays(query.relays);
    request(query.message);
    // The envelope of a response is never longer than that of its query: nothing to amplify.
    let room = payload.len();
    let mut buffer = vec![0xee; room];
    let mut w = Writer::new(&mut buffer);
    let envelope = dhcpv6::begin_response(&mut w, query.relays);
    w.bytes(query.message);
    envelope.finish(&mut w);
    let length = w.finish().expect("a response with the same message fits where its query was");
    let response = Response::parse(&buffer[..length]).expect("a response that can be read");
    assert_eq!(response.message, query.message);
    check_relays(response.relays);
    assert_eq!(response.relays.levels(), query.relays.levels());
    for (forward, reply) in query.relays.iter().zip(response.relays) {
        check_echo(forward, reply);
    }
}

/// An Information-request that was read from a payload of `length` octets.
fn information(asked: &InformationRequest<'_>, length: usize) {
    check_relays(asked.relays);
    let mut buffer = vec![0xee; length];
    let mut w = Writer::new(&mut buffer);
    let envelope = dhcpv6::begin_reply(&mut w, asked.relays, asked.transaction);
    if let Some(client) = asked.client_id {
        dhcpv6::put_option(&mut w, dhcpv6::OPTION_CLIENT_ID, client);
    }
    envelope.finish(&mut w);
    let length = w.finish().expect("a reply with nothing new fits where its request was");
    let reply = Reply::parse(&buffer[..length]).expect("a reply that can be read");
    assert_eq!(reply.transaction, asked.transaction);
    assert_eq!(reply.option(dhcpv6::OPTION_CLIENT_ID), asked.client_id);
    check_relays(reply.relays);
    assert_eq!(reply.relays.levels(), asked.relays.levels());
    for (forward, back) in asked.relays.iter().zip(reply.relays) {
        check_echo(forward, back);
    }
}

/// Any UDP payload sent to a client or a relay.
pub(crate) fn reply(payload: &[u8]) {
    let message = match Response::parse(payload) {
        Ok(response) => {
            check_relays(response.relays);
            response.message
        }
        Err(_) => payload,
    };
    if let Ok(reply) = Reply::parse(payload) {
        check_relays(reply.relays);
        for (code, content) in reply.options() {
            assert!(reply.option(code).is_some());
            read_softwire(code, content);
        }
    }
    let parsed = View::parse_reply(message);
    check_view(parsed.as_ref().ok(), naive::read(message, dhcpv4::BOOT_REPLY).as_ref());
    if let Some(addresses) = dhcpv6::server_addresses(payload) {
        assert_eq!(addresses.len() * 16, payload.len());
    }
}

/// Any octets in the place of an option's content: what is read is written as it was.
fn read_softwire(code: u16, content: &[u8]) {
    let mut buffer = [0; 32];
    let mut w = Writer::new(&mut buffer);
    match code {
        dhcpv6::OPTION_S46_BR => {
            let Some(relay) = softwire::border_relay(content) else { return };
            softwire::put_border_relays(&mut w, &[relay]);
            assert_eq!(&w.written()[4..], content);
        }
        dhcpv6::OPTION_S46_BIND_PREFIX => {
            let Some(prefix) = BindPrefix::parse(content) else { return };
            assert!(prefix.contains(prefix.address()));
            softwire::put_bind_prefix(&mut w, prefix);
            assert_eq!(w.written().len(), content.len() + 4);
            assert_eq!(BindPrefix::parse(&w.written()[4..]), Some(prefix));
        }
        _ => {}
    }
}

/// Any octets in the place of a DHCPv4 request.
pub(crate) fn request(message: &[u8]) {
    let parsed = View::parse_request(message);
    let naive = naive::read(message, dhcpv4::BOOT_REQUEST);
    check_view(parsed.as_ref().ok(), naive.as_ref());
    if let (Ok(view), Some(naive)) = (&parsed, &naive) {
        check_emitted(view, naive, message.len());
    }
}

fn check_relays(relays: Relays<'_>) {
    assert_eq!(relays.iter().count(), relays.levels());
    assert!(relays.levels() <= dhcpv6::RELAY_LEVELS_MAX);
    assert_eq!(relays.is_empty(), relays.outermost().is_none());
    assert_eq!(relays.is_empty(), relays.innermost().is_none());
    if let Some(link) = relays.path().link_address {
        assert!(!link.is_unspecified() && !link.is_multicast());
        assert!(relays.iter().any(|relay| relay.link_address() == link));
    }
    let port = relays.outermost().and_then(|relay| relay.option(dhcpv6::OPTION_RELAY_PORT));
    assert_eq!(relays.relay_port(), port.is_some());
    for relay in relays {
        let mut options = relay.options();
        assert!(options.by_ref().any(|(code, _)| code == dhcpv6::OPTION_RELAY_MESSAGE));
        options.by_ref().for_each(drop);
        assert!(options.is_exhausted(), "what was checked has no loose end");
        assert_eq!(relay.interface_id(), relay.option(dhcpv6::OPTION_INTERFACE_ID));
        assert_eq!(relay.remote_id(), relay.option(dhcpv6::OPTION_REMOTE_ID));
    }
}

fn check_echo(forward: Relay<'_>, reply: Relay<'_>) {
    assert_eq!(reply.hop_count(), forward.hop_count());
    assert_eq!(reply.link_address(), forward.link_address());
    assert_eq!(reply.peer_address(), forward.peer_address());
    assert_eq!(reply.interface_id(), forward.interface_id());
    for code in [dhcpv6::OPTION_RELAY_PORT, dhcpv6::OPTION_INTERFACE_ID] {
        assert_eq!(reply.option(code), forward.option(code));
        assert!(reply.options().filter(|&(seen, _)| seen == code).count() <= 1);
    }
    let wanted = forward.option(dhcpv6::OPTION_ECHO_REQUEST).unwrap_or_default();
    for (code, content) in reply.options() {
        let asked = wanted.chunks(2).any(|wanted| wanted == code.to_be_bytes());
        match code {
            dhcpv6::OPTION_RELAY_MESSAGE
            | dhcpv6::OPTION_INTERFACE_ID
            | dhcpv6::OPTION_RELAY_PORT => {}
            _ => assert!(asked, "option {code} is not for the reply"),
        }
        let same = |option| option == (code, content);
        assert!(code == dhcpv6::OPTION_RELAY_MESSAGE || forward.options().any(same));
    }
    let last = reply.options().last().map(|(code, _)| code);
    assert_eq!(last, Some(dhcpv6::OPTION_RELAY_MESSAGE));
}

/// Compares what the view says with what the naive reader has seen.
fn check_view(view: Option<&View<'_>>, naive: Option<&naive::Message>) {
    assert_eq!(view.is_some(), naive.is_some(), "the readers disagree: {view:?}, {naive:?}");
    let (Some(view), Some(naive)) = (view, naive) else { return };
    let array4 = |code| naive.get(code).and_then(|value| value.try_into().ok());
    let four = |code| array4(code).map(u32::from_be_bytes);
    assert_eq!(naive.get(dhcpv4::OPTION_MESSAGE_TYPE), Some(&[view.kind().number()][..]));
    assert_eq!(view.requested_address(), array4(dhcpv4::OPTION_REQUESTED_ADDRESS).map(Into::into));
    assert_eq!(view.server_id(), array4(dhcpv4::OPTION_SERVER_ID).map(Into::into));
    assert_eq!(view.lease_seconds(), four(dhcpv4::OPTION_LEASE_TIME));
    assert_eq!(view.renewal_seconds(), four(dhcpv4::OPTION_RENEWAL_TIME));
    assert_eq!(view.rebinding_seconds(), four(dhcpv4::OPTION_REBINDING_TIME));
    let size = naive.get(dhcpv4::OPTION_MAX_MESSAGE_SIZE).and_then(|value| value.try_into().ok());
    assert_eq!(view.max_message_size(), size.map(u16::from_be_bytes));
    assert_eq!(view.overload_ignored(), naive.overload_ignored);
    let fixed = naive.fixed;
    assert_eq!((view.hardware_type(), view.hardware_length()), (fixed[1], fixed[2]));
    assert_eq!(view.hardware_address(), &fixed[28..][..usize::from(fixed[2])]);
    assert_eq!(view.chaddr(), &fixed[28..44]);
    assert_eq!(view.xid().to_be_bytes(), fixed[4..8]);
    assert_eq!(view.seconds().to_be_bytes(), fixed[8..10]);
    assert_eq!(view.flags().to_be_bytes(), fixed[10..12]);
    let addresses = [view.ciaddr(), view.yiaddr(), view.siaddr(), view.giaddr()];
    assert_eq!(addresses.map(|address| address.octets()).concat(), fixed[12..28]);
    let params = match naive.get(dhcpv4::OPTION_PORT_PARAMS) {
        None => PortParamsField::Absent,
        Some(value) => match value.try_into().ok().and_then(PortParams::decode) {
            None => PortParamsField::Invalid,
            Some(params) => PortParamsField::Present(params),
        },
    };
    assert_eq!(view.port_params(), params);
    check_values(view, naive);
}

fn check_values(view: &View<'_>, naive: &naive::Message) {
    let list = naive.get(dhcpv4::OPTION_PARAMETER_REQUEST_LIST).filter(|list| !list.is_empty());
    let relay = naive.get(dhcpv4::OPTION_RELAY_INFORMATION).filter(|value| value.len() >= 2);
    let identifier = naive.get(dhcpv4::OPTION_CLIENT_ID);
    for (value, expected) in [
        (view.parameter_request_list(), list),
        (view.relay_agent_information(), relay),
        (view.client_identifier(), identifier),
    ] {
        check_value(value.as_ref(), expected);
    }
    for code in SOME_CODES {
        assert_eq!(view.requests(code), list.is_some_and(|list| list.contains(&code)));
        check_value(view.option(code).as_ref(), naive.get(code));
    }
    for code in naive.codes() {
        check_value(view.option(code).as_ref(), naive.get(code));
    }
    if let Some(identifier) = identifier.and_then(ClientIdentifier::parse) {
        let mut buffer = [0; 256];
        let length = identifier.build(&mut buffer).expect("what was read can be written");
        assert_eq!(naive.get(dhcpv4::OPTION_CLIENT_ID), Some(&buffer[..length]));
        assert!(identifier.to_string().starts_with("iaid "));
    }
}

fn check_value(value: Option<&dhcpv4::Value<'_>>, expected: Option<&[u8]>) {
    assert_eq!(value.is_some(), expected.is_some());
    let (Some(value), Some(expected)) = (value, expected) else { return };
    assert_eq!((value.len(), value.is_empty()), (expected.len(), expected.is_empty()));
    assert!(value.contiguous().is_none_or(|octets| octets == expected));
    let mut buffer = vec![0; expected.len()];
    assert_eq!(value.copy_to(&mut buffer), Some(expected.len()));
    assert_eq!(buffer, expected);
    if let Some(short) = expected.len().checked_sub(1) {
        assert_eq!(value.copy_to(&mut buffer[..short]), None);
    }
    assert!(value.pieces().all(|piece| piece.len() <= 255));
    assert_eq!(*value, dhcpv4::Value::whole(expected));
}

/// Writes a reply with every option of the request and reads it.
fn check_emitted(view: &View<'_>, naive: &naive::Message, length: usize) {
    let header = Header {
        op: dhcpv4::BOOT_REPLY,
        hardware_type: view.hardware_type(),
        hardware_length: view.hardware_length(),
        xid: view.xid(),
        seconds: view.seconds(),
        flags: view.flags(),
        ciaddr: view.ciaddr(),
        yiaddr: view.yiaddr(),
        siaddr: view.siaddr(),
        giaddr: view.giaddr(),
        chaddr: *view.chaddr(),
    };
    // Options of sname and file move behind the cookie.
    let mut buffer = vec![0xee; length + 256];
    let mut w = Writer::new(&mut buffer);
    header.emit(&mut w);
    dhcpv4::put_message_type(&mut w, MessageType::Offer);
    let codes = || naive.codes().filter(|&code| code != dhcpv4::OPTION_MESSAGE_TYPE);
    for code in codes() {
        dhcpv4::put_value(&mut w, code, &view.option(code).expect("the naive reader saw it"));
    }
    dhcpv4::put_end(&mut w);
    dhcpv4::pad_to(&mut w, 0, dhcpv4::BOOTP_LENGTH_MIN);
    let length = w.finish().expect("in as few instances as it takes, it is not longer");
    assert!(length >= dhcpv4::BOOTP_LENGTH_MIN);
    let written = naive::read(&buffer[..length], dhcpv4::BOOT_REPLY).expect("readable");
    assert_eq!(written.get(dhcpv4::OPTION_MESSAGE_TYPE), Some(&[2][..]));
    for code in codes() {
        assert_eq!(written.get(code), naive.get(code), "option {code}");
    }
    let view = View::parse_reply(&buffer[..length]);
    check_view(view.as_ref().ok(), Some(&written));
}
