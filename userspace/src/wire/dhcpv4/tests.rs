//! DHCPv4 messages: split options, overloaded fields, and what hostile clients send.

use std::net::Ipv4Addr;

use super::*;
use crate::wire::{Malformed, portparams::PortParams, writer::Writer};

const DISCOVER: &[u8] = &[53, 1, 1];

/// A request with these octets as its options field.
fn request(options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; FIXED_LENGTH];
    message[0] = BOOT_REQUEST;
    message[236..].copy_from_slice(&MAGIC_COOKIE);
    message.extend_from_slice(options);
    message
}

/// A DISCOVER with these octets behind its message type.
fn discover(options: &[u8]) -> Vec<u8> {
    request(&[DISCOVER, options].concat())
}

fn fault(message: &[u8]) -> Malformed {
    View::parse_request(message).map(drop).expect_err("malformed")
}

/// What `ask` says of a DISCOVER with `options`.
fn ask<T>(options: &[u8], ask: impl FnOnce(View<'_>) -> T) -> T {
    ask(View::parse_request(&discover(options)).expect("a valid message"))
}

fn octets(value: Option<Value<'_>>) -> Option<Vec<u8>> {
    value.map(|value| value.pieces().flatten().copied().collect())
}

#[test]
fn the_fixed_fields_are_where_rfc_2131_puts_them() {
    let header = Header {
        op: BOOT_REQUEST,
        hardware_type: 1,
        hardware_length: 6,
        xid: 0x0102_0304,
        seconds: 0x0506,
        flags: 0x8007,
        ciaddr: Ipv4Addr::new(10, 0, 0, 1),
        yiaddr: Ipv4Addr::new(10, 0, 0, 2),
        siaddr: Ipv4Addr::new(10, 0, 0, 3),
        giaddr: Ipv4Addr::new(10, 0, 0, 4),
        chaddr: [7; 16],
    };
    let mut buffer = [0xee; 300];
    let mut w = Writer::new(&mut buffer);
    header.emit(&mut w);
    put_message_type(&mut w, MessageType::Inform);
    put_end(&mut w);
    let length = w.finish().unwrap();
    assert_eq!(buffer[..12], [1, 1, 6, 0, 1, 2, 3, 4, 5, 6, 0x80, 7]);
    assert!(buffer[44..236].iter().all(|&octet| octet == 0), "sname and file are empty");
    let view = View::parse_request(&buffer[..length]).unwrap();
    assert_eq!(view.kind(), MessageType::Inform);
    assert_eq!((view.hardware_type(), view.hardware_length()), (1, 6));
    assert_eq!((view.xid(), view.seconds(), view.flags()), (0x0102_0304, 0x0506, 0x8007));
    assert_eq!(view.ciaddr(), header.ciaddr);
    assert_eq!(view.yiaddr(), header.yiaddr);
    assert_eq!(view.siaddr(), header.siaddr);
    assert_eq!(view.giaddr(), header.giaddr);
    assert_eq!((view.chaddr(), view.hardware_address()), (&[7; 16], &[7; 6][..]));
}

#[test]
fn what_is_no_dhcp_request_is_refused() {
    // case-B04.
    for length in 0..FIXED_LENGTH {
        assert_eq!(fault(&discover(&[])[..length]), Malformed::Dhcpv4Short, "{length} octets");
    }
    // case-B08.
    for at in 236..FIXED_LENGTH {
        let mut message = discover(&[]);
        message[at] ^= 1;
        assert_eq!(fault(&message), Malformed::BadCookie);
    }
    // case-B12.
    for op in [0, BOOT_REPLY, 255] {
        let mut message = discover(&[]);
        message[0] = op;
        assert_eq!(fault(&message), Malformed::BadOp);
        assert_eq!(View::parse_reply(&message).is_ok(), op == BOOT_REPLY);
    }
    // case-B13.
    for (length, good) in [(0, true), (16, true), (17, false), (255, false)] {
        let mut message = discover(&[]);
        message[2] = length;
        let parsed = View::parse_request(&message).map(|view| view.hardware_address().len());
        let expected =
            if good { Ok(usize::from(length)) } else { Err(Malformed::BadHardwareLength) };
        assert_eq!(parsed, expected);
    }
}

#[test]
fn the_message_type_is_one_known_octet_once() {
    // case-B09.
    assert_eq!(fault(&request(&[])), Malformed::NoMessageType);
    assert_eq!(fault(&request(&[END])), Malformed::NoMessageType);
    assert_eq!(fault(&request(&[END, 53, 1, 1])), Malformed::NoMessageType);
    // case-B10, case-B11: also where the second instance is empty or in another field.
    for options in [
        &[53, 0][..],
        &[53, 2, 1, 1],
        &[53, 1, 0],
        &[53, 1, 14],
        &[53, 1, 200],
        &[53, 1, 1, 53, 1, 1],
        &[53, 1, 1, 53, 0],
    ] {
        assert_eq!(fault(&request(options)), Malformed::BadMessageType, "{options:?}");
    }
    for (number, kind) in (1..).zip(MessageType::ALL) {
        let message = request(&[53, 1, number, END]);
        assert_eq!(View::parse_request(&message).unwrap().kind(), *kind);
        assert_eq!((kind.number(), MessageType::from_number(number)), (number, Some(*kind)));
    }
}

#[test]
fn an_option_stays_in_its_field() {
    // case-B14, case-B25 with M12.
    for options in [&[61][..], &[61, 1], &[61, 3, 0, 0], &[159, 4, 0, 6], &[12, 255, 1]] {
        assert_eq!(fault(&discover(options)), Malformed::OptionOverrun, "{options:?}");
    }
    // case-B19: `file` ends where the cookie begins.
    let mut message = discover(&[52, 1, 1, END]);
    message[235] = 61;
    assert_eq!(fault(&message), Malformed::OptionOverrun);
    message[234..236].copy_from_slice(&[61, 1]);
    assert_eq!(fault(&message), Malformed::OptionOverrun);
    message[233..236].copy_from_slice(&[61, 1, 9]);
    let view = View::parse_request(&message).unwrap();
    assert_eq!(octets(view.client_identifier()).as_deref(), Some(&[9][..]));
    // `sname` ends where `file` begins.
    let mut message = discover(&[52, 1, 2, END]);
    message[106..109].copy_from_slice(&[61, 1, 9]);
    assert_eq!(fault(&message), Malformed::OptionOverrun);
}

#[test]
fn end_is_not_needed_and_pads_are_skipped() {
    // case-B15, case-B16.
    assert!(View::parse_request(&discover(&[])).is_ok());
    let pads = [PAD; 312];
    assert!(View::parse_request(&request(&[&pads[..], DISCOVER, &pads, &[END]].concat())).is_ok());
    assert_eq!(fault(&request(&[&pads[..], &[END]].concat())), Malformed::NoMessageType);
    // What follows End is not looked at.
    assert!(ask(&[END, 61], |view| view.client_identifier().is_none()));
}

#[test]
fn a_wrong_overload_is_as_good_as_none() {
    // case-B17.
    for overload in
        [&[52, 1, 0][..], &[52, 1, 4], &[52, 1, 255], &[52, 2, 1, 1], &[52, 0], &[52, 1, 1, 52, 0]]
    {
        let mut message = discover(overload);
        message[108..111].copy_from_slice(&[61, 1, 9]);
        let view = View::parse_request(&message).unwrap();
        assert!(view.overload_ignored(), "{overload:?}");
        assert!(view.client_identifier().is_none(), "{overload:?}");
    }
    assert!(!ask(&[52, 1, 3], |view| view.overload_ignored()));
    assert!(!ask(&[], |view| view.overload_ignored()));
}

#[test]
fn fields_are_read_in_order_and_once() {
    // case-P21: options, file, sname.
    let mut message = discover(&[12, 1, b'a', 52, 1, 3, END]);
    message[44..48].copy_from_slice(&[12, 1, b'c', END]);
    message[108..112].copy_from_slice(&[12, 1, b'b', END]);
    let view = View::parse_request(&message).unwrap();
    assert_eq!(octets(view.option(12)).as_deref(), Some(&b"abc"[..]));
    // Neither field without its bit.
    for (overload, expected) in [(1, &b"ab"[..]), (2, b"ac")] {
        message[248] = overload;
        let view = View::parse_request(&message).unwrap();
        assert_eq!(octets(view.option(12)).as_deref(), Some(expected), "overload {overload}");
    }
    // case-B18: an overload in `file` is none.
    message[248] = 1;
    message[108..112].copy_from_slice(&[52, 1, 2, END]);
    let view = View::parse_request(&message).unwrap();
    assert_eq!(octets(view.option(12)).as_deref(), Some(&b"a"[..]));
    assert!(!view.overload_ignored());
}

#[test]
fn a_message_type_may_stand_in_an_overloaded_field() {
    let mut message = request(&[52, 1, 2, END]);
    message[44..48].copy_from_slice(&[53, 1, 8, END]);
    assert_eq!(View::parse_request(&message).unwrap().kind(), MessageType::Inform);
    message[240..243].copy_from_slice(&[52, 1, 1]);
    assert_eq!(fault(&message), Malformed::NoMessageType);
}

#[test]
fn pieces_are_one_value() {
    // case-P18: 8 + 7 octets of a client identifier, another option between.
    let identifier = [255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
    let options =
        [&[61, 8], &identifier[..8], &[12, 1, 1, 61, 7], &identifier[8..], &[END]].concat();
    let message = discover(&options);
    let view = View::parse_request(&message).unwrap();
    let value = view.client_identifier().unwrap();
    assert_eq!((value.len(), value.contiguous()), (15, None));
    assert_eq!(value.pieces().count(), 2);
    assert_eq!(value, Value::whole(&identifier));
    let mut copy = [0; 15];
    assert_eq!(value.copy_to(&mut copy), Some(15));
    assert_eq!(copy, identifier);
    assert_eq!(value.copy_to(&mut [0; 14]), None);
    let mut buffer = [0; 32];
    let mut w = Writer::new(&mut buffer);
    put_value(&mut w, OPTION_CLIENT_ID, &value);
    assert_eq!(w.written(), [&[61, 15], &identifier[..]].concat());
}

#[test]
fn port_params_may_be_split_and_may_be_wrong() {
    let psid_one = PortParamsField::Present(PortParams { offset: 0, psid_length: 6, psid: 1 });
    let none = PortParamsField::Present(PortParams { offset: 0, psid_length: 0, psid: 0 });
    for (name, options, expected) in [
        ("nothing", &[][..], PortParamsField::Absent),
        ("M1", &[159, 3, 0, 6, 4], PortParamsField::Invalid),
        ("M2", &[159, 5, 0, 6, 4, 0, 0], PortParamsField::Invalid),
        ("M3", &[159, 4, 16, 6, 4, 0], PortParamsField::Invalid),
        ("M4", &[159, 4, 0, 17, 255, 255], PortParamsField::Invalid),
        ("M5", &[159, 4, 10, 8, 1, 0], PortParamsField::Invalid),
        ("M6", &[159, 4, 0, 6, 4, 1], PortParamsField::Invalid),
        ("M7", &[159, 4, 0, 6, 4, 0, 159, 4, 0, 6, 4, 0], PortParamsField::Invalid),
        // case-P19.
        ("M8", &[159, 2, 0, 6, 159, 2, 4, 0], psid_one),
        ("M9", &[159, 4, 0, 0, 0x12, 0x34], none),
        (
            "M10",
            &[159, 4, 6, 10, 255, 0xc0],
            PortParamsField::Present(PortParams { offset: 6, psid_length: 10, psid: 1023 }),
        ),
        ("M11", &[159, 0], PortParamsField::Invalid),
    ] {
        assert_eq!(ask(options, |view| view.port_params()), expected, "{name}");
    }
    // case-P20: half in `options`, half in `file`.
    let mut message = discover(&[159, 2, 0, 6, 52, 1, 1, END]);
    message[108..112].copy_from_slice(&[159, 2, 4, 0]);
    assert_eq!(View::parse_request(&message).unwrap().port_params(), psid_one);
}

#[test]
fn deciding_options_of_a_wrong_length_spoil_the_message() {
    for options in [
        &[50, 3, 1, 2, 3][..],
        &[50, 0],
        &[50, 5, 1, 2, 3, 4, 5],
        &[50, 4, 1, 2, 3, 4, 50, 4, 1, 2, 3, 4],
        // case-B30.
        &[54, 3, 1, 2, 3],
        &[54, 4, 1, 2, 3, 4, 54, 1, 5],
        // case-B27.
        &[61, 0],
        &[61, 0, 61, 0],
    ] {
        assert_eq!(fault(&discover(options)), Malformed::BadOptionLength, "{options:?}");
    }
    let address = Some(Ipv4Addr::new(1, 2, 3, 4));
    assert_eq!(ask(&[50, 4, 1, 2, 3, 4], |view| view.requested_address()), address);
    assert_eq!(ask(&[50, 1, 1, 50, 3, 2, 3, 4], |view| view.requested_address()), address);
    assert_eq!(ask(&[54, 2, 1, 2, 54, 2, 3, 4], |view| view.server_id()), address);
    assert_eq!(ask(&[], |view| (view.requested_address(), view.server_id())), (None, None));
}

#[test]
fn other_options_of_a_wrong_length_are_not_there() {
    for code in [51, 58, 59] {
        let time = |view: View<'_>| match code {
            51 => view.lease_seconds(),
            58 => view.renewal_seconds(),
            _ => view.rebinding_seconds(),
        };
        assert_eq!(ask(&[code, 4, 0, 0, 0x0e, 0x10], time), Some(3600));
        assert_eq!(ask(&[code, 4, 255, 255, 255, 255], time), Some(u32::MAX));
        assert_eq!(ask(&[code, 2, 0, 0, code, 2, 0x0e, 0x10], time), Some(3600));
        for wrong in [&[code, 0][..], &[code, 3, 0, 0, 0], &[code, 5, 0, 0, 0, 0, 0]] {
            assert_eq!(ask(wrong, time), None, "{wrong:?}");
        }
        assert_eq!(ask(&[], time), None);
    }
    // case-B38: what is below the minimum is told as it is.
    for (options, size) in [
        (&[57, 2, 0, 0][..], Some(0)),
        (&[57, 2, 2, 63], Some(575)),
        (&[57, 2, 255, 255], Some(65535)),
        (&[57, 1, 9], None),
        (&[57, 2, 1, 1, 57, 2, 1, 1], None),
    ] {
        assert_eq!(ask(options, |view| view.max_message_size()), size, "{options:?}");
    }
    let relay = |view: View<'_>| octets(view.relay_agent_information());
    for message in [&[82, 0][..], &[82, 1, 1]] {
        assert!(ask(message, |view| view.relay_agent_information().is_none()));
    }
    let message = discover(&[82, 3, 1, 1, 9]);
    assert_eq!(relay(View::parse_request(&message).unwrap()), Some(vec![1, 1, 9]));
}

#[test]
fn a_parameter_request_list_is_asked_by_code() {
    // case-B26.
    assert!(ask(&[55, 0], |view| view.parameter_request_list().is_none() && !view.requests(0)));
    let long = [&[55, 255][..], &[159; 255]].concat();
    assert!(ask(&long, |view| view.requests(159) && !view.requests(1)));
    let split = &[55, 2, 1, 3, 55, 1, 159];
    assert!(ask(split, |view| [1, 3, 159].iter().all(|&code| view.requests(code))));
    assert!(ask(split, |view| !view.requests(55) && !view.requests(6)));
    assert!(ask(&[], |view| !view.requests(159) && view.parameter_request_list().is_none()));
}

#[test]
fn client_identifiers_are_opaque() {
    // case-B27.
    for length in [1, 2, 255] {
        let identifier = vec![7; usize::from(length)];
        let message = discover(&[&[61, length], &identifier[..]].concat());
        let view = View::parse_request(&message).unwrap();
        assert_eq!(view.client_identifier().unwrap().contiguous(), Some(&identifier[..]));
    }
}

#[test]
fn long_values_are_split_and_put_together() {
    for length in [0, 1, 254, 255, 256, 510, 511, 2000] {
        let content: Vec<u8> = (0..=250).cycle().take(length).collect();
        let mut buffer = vec![0; 4096];
        let mut w = Writer::new(&mut buffer);
        put_message_type(&mut w, MessageType::Discover);
        put_option(&mut w, 43, &content);
        put_end(&mut w);
        let end = w.finish().unwrap();
        assert_eq!(end, 3 + length + 2 * length.div_ceil(255).max(1) + 1);
        let message = request(&buffer[..end]);
        let view = View::parse_request(&message).unwrap();
        let value = view.option(43).unwrap();
        assert_eq!((value.len(), value.is_empty()), (length, length == 0));
        assert_eq!(octets(Some(value)), Some(content));
    }
}

/// No option 87 holds such a message, but whoever has one in memory may read it.
#[test]
fn options_beyond_the_reach_of_two_octets_are_read_as_well() {
    for pads in [65_000, 65_535, 70_000] {
        let rest = [vec![0; pads], vec![61, 3, 9, 8, 7, 55, 2, 51, 159, 255]].concat();
        ask(&rest, |view| {
            assert_eq!(octets(view.client_identifier()), Some(vec![9, 8, 7]), "{pads}");
            assert_eq!(octets(view.parameter_request_list()), Some(vec![51, 159]), "{pads}");
            assert_eq!(view.kind(), MessageType::Discover);
        });
        let cut = [vec![0; pads], vec![61, 3, 9]].concat();
        assert_eq!(fault(&discover(&cut)), Malformed::OptionOverrun, "{pads}");
    }
}

#[test]
fn padding_reaches_the_minimum_of_bootp_and_no_further() {
    for (before, expected) in [(0, 300), (299, 300), (300, 300), (301, 301)] {
        let mut buffer = [0xee; 400];
        let mut w = Writer::new(&mut buffer);
        w.zeros(40);
        let start = w.len();
        w.zeros(before);
        pad_to(&mut w, start, BOOTP_LENGTH_MIN);
        assert_eq!(w.len() - start, expected);
    }
}

#[test]
fn a_message_full_of_the_smallest_options_is_read_in_one_go() {
    // case-B31: 32,000 empty pieces of one option, and all of them are one value.
    let options: Vec<u8> = [60, 0].repeat(32_000);
    let message = discover(&options);
    let view = View::parse_request(&message).unwrap();
    assert!(view.option(60).unwrap().is_empty());
    let pieces: Vec<u8> = [61, 1, 9].repeat(21_000);
    let message = discover(&pieces);
    let view = View::parse_request(&message).unwrap();
    assert_eq!(view.client_identifier().unwrap().len(), 21_000);
}
