//! Frames: each way to be none of ours, and the way back.

use super::*;

const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0, 1, 0, 2];

const SERVICE_TAG: [u8; 4] = [0x88, 0xa8, 0x00, 0x64];
const CUSTOMER_TAG: [u8; 4] = [0x81, 0x00, 0xe0, 0x0a];

fn peer() -> Ipv6Addr {
    "fe80::1".parse().unwrap()
}

fn group() -> Ipv6Addr {
    "ff02::1:2".parse().unwrap()
}

/// A frame to the server with these tags before its Ethernet type and this payload.
fn frame(tags: &[[u8; 4]], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + UDP_LENGTH).unwrap().to_be_bytes();
    let mut segment = [[2, 34, 2, 35, length[0], length[1], 0, 0].as_slice(), payload].concat();
    let checksum = checksum::udp(peer(), group(), &segment);
    segment[6..8].copy_from_slice(&checksum.to_be_bytes());
    [
        &GROUP_MAC[..],
        &PEER_MAC,
        tags.as_flattened(),
        &[0x86, 0xdd],
        &[0x60, 0, 0, 0, length[0], length[1], NEXT_UDP, 255],
        &peer().octets(),
        &group().octets(),
        &segment,
    ]
    .concat()
}

fn plain() -> Vec<u8> {
    frame(&[], b"a DHCPv6 message")
}

fn fault(frame: &[u8]) -> FrameFault {
    take_apart(frame, &OWN_MAC).expect_err("not for us")
}

/// A plain frame with the octet at `at` replaced, and its checksum not.
fn with(at: usize, octet: u8) -> Vec<u8> {
    let mut frame = plain();
    frame[at] = octet;
    frame
}

#[test]
fn a_datagram_is_taken_out_of_its_frame() {
    let tags = [SERVICE_TAG, CUSTOMER_TAG];
    for count in 0..=VLAN_TAGS_MAX {
        for payload in [&b""[..], b"x", b"a DHCPv6 message"] {
            let frame = frame(&tags[..count], payload);
            let taken = take_apart(&frame, &OWN_MAC).unwrap();
            assert_eq!(taken.payload, payload);
            assert_eq!((taken.source, taken.destination), (peer(), group()));
            assert_eq!((taken.source_port, taken.destination_port), (546, 547));
            assert_eq!((taken.source_mac, taken.destination_mac), (PEER_MAC, GROUP_MAC));
            assert_eq!(taken.header_length, 62 + 4 * count);
            assert!(headroom(&taken) <= HEADROOM_MAX);
        }
    }
    // One tag of the kind that stands outside is a tag too.
    assert!(take_apart(&frame(&[SERVICE_TAG], b"x"), &OWN_MAC).is_ok());
}

#[test]
fn padding_of_ethernet_is_not_payload() {
    let mut frame = frame(&[], b"x");
    frame.resize(70, 0xee);
    assert_eq!(take_apart(&frame, &OWN_MAC).unwrap().payload, b"x");
}

#[test]
fn a_frame_that_ends_early_is_refused() {
    for tags in [&[][..], &[CUSTOMER_TAG], &[SERVICE_TAG, CUSTOMER_TAG]] {
        let frame = frame(tags, b"a DHCPv6 message");
        let headers = 62 + 4 * tags.len();
        for length in 0..frame.len() {
            let expected =
                if length < headers { FrameFault::TooShort } else { FrameFault::LengthMismatch };
            assert_eq!(fault(&frame[..length]), expected, "{length} octets");
        }
    }
}

#[test]
fn only_our_address_and_groups_are_ours() {
    let mut frame = plain();
    frame[..6].copy_from_slice(&OWN_MAC);
    assert!(take_apart(&frame, &OWN_MAC).is_ok());
    for foreign in [PEER_MAC, [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x34, 0, 0, 0, 1]] {
        frame[..6].copy_from_slice(&foreign);
        assert_eq!(fault(&frame), FrameFault::ForeignMac);
        assert!(dissect(&frame).is_ok(), "but it is a datagram");
    }
}

#[test]
fn an_answer_never_goes_to_many() {
    assert_eq!(fault(&with(6, 3)), FrameFault::GroupSource);
    let mut frame = plain();
    frame[22..38].copy_from_slice(&group().octets());
    assert_eq!(fault(&frame), FrameFault::GroupSource);
}

#[test]
fn other_protocols_are_named() {
    assert_eq!(fault(&with(13, 0x00)), FrameFault::NotIpv6);
    assert_eq!(fault(&with(14, 0x45)), FrameFault::NotIpv6);
    let three = [SERVICE_TAG, CUSTOMER_TAG, CUSTOMER_TAG];
    assert_eq!(fault(&frame(&three, b"x")), FrameFault::NotIpv6);
    assert_eq!(fault(&with(20, 6)), FrameFault::NotUdp);
    assert_eq!(fault(&with(20, 58)), FrameFault::NotUdp);
    assert_eq!(fault(&with(20, 44)), FrameFault::Fragment);
    for header in [0, 43, 51, 60, 135] {
        assert_eq!(fault(&with(20, header)), FrameFault::ExtensionHeader, "{header}");
    }
}

#[test]
fn only_port_547_is_ours() {
    let mut frame = plain();
    // Ports swapped: the checksum stays right.
    let [a, b, c, d] = [frame[54], frame[55], frame[56], frame[57]];
    frame[54..58].copy_from_slice(&[c, d, a, b]);
    assert_eq!(fault(&frame), FrameFault::WrongPort);
    assert_eq!(dissect(&frame).unwrap().destination_port, 546);
}

#[test]
fn lengths_must_agree() {
    // IPv6 payload: shorter than a UDP header, one less and one more than UDP says.
    for length in [0, 7, 23, 25] {
        assert_eq!(fault(&with(19, length)), FrameFault::LengthMismatch, "IPv6 {length}");
    }
    for length in [0, 7, 23, 25] {
        assert_eq!(fault(&with(59, length)), FrameFault::LengthMismatch, "UDP {length}");
    }
    let mut longer = with(19, 25);
    longer.push(0);
    assert_eq!(fault(&longer), FrameFault::LengthMismatch);
}

#[test]
fn a_checksum_is_there_and_right() {
    let mut none = plain();
    none[60..62].fill(0);
    assert_eq!(fault(&none), FrameFault::ZeroChecksum);
    let whole = plain();
    // Every bit that the checksum covers: addresses, ports, payload, the checksum itself.
    for at in (23..54).chain(54..56).chain(60..whole.len()) {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert!(take_apart(&flipped, &OWN_MAC).is_err(), "bit {bit} of octet {at}");
        }
    }
    assert_eq!(fault(&with(62, 0)), FrameFault::BadChecksum);
}

#[test]
fn a_reply_goes_back_the_way_its_request_came() {
    let tags = [SERVICE_TAG, CUSTOMER_TAG];
    let own: Ipv6Addr = "fe80::fe".parse().unwrap();
    for count in 0..=VLAN_TAGS_MAX {
        let request = frame(&tags[..count], b"a query");
        let start = headroom(&take_apart(&request, &OWN_MAC).unwrap());
        let reply = b"a longer response";
        let mut out = [0xee; 200];
        out[start..start + reply.len()].copy_from_slice(reply);
        let length = wrap(&mut out, &request, reply.len(), own, 546, &OWN_MAC).unwrap();
        assert_eq!(length, start + reply.len());
        let taken = dissect(&out[..length]).unwrap();
        assert_eq!(taken.payload, reply);
        assert_eq!((taken.source, taken.destination), (own, peer()));
        assert_eq!((taken.source_port, taken.destination_port), (547, 546));
        assert_eq!((taken.source_mac, taken.destination_mac), (OWN_MAC, PEER_MAC));
        assert_eq!(out[12..12 + 4 * count], request[12..12 + 4 * count], "the tags");
        assert_eq!(out[start - 48..start - 44], [0x60, 0, 0, 0], "no class, no label");
        assert!(out[length..].iter().all(|&octet| octet == 0xee), "nothing behind");
    }
}

#[test]
fn a_reply_that_does_not_fit_is_not_wrapped() {
    let request = frame(&[CUSTOMER_TAG], b"a query");
    let wrapped =
        |room: usize, payload| wrap(&mut vec![0; room], &request, payload, peer(), 546, &OWN_MAC);
    assert_eq!(wrapped(66 + 17, 17), Some(66 + 17));
    for room in 0..66 + 17 {
        assert_eq!(wrapped(room, 17), None, "room for {room}");
    }
    assert_eq!(wrapped(1 << 17, 65_535 - 8), Some(66 + 65_535 - 8));
    assert_eq!(wrapped(1 << 17, 65_535 - 7), None);
    assert_eq!(wrapped(100, usize::MAX), None);
    assert_eq!(wrap(&mut [0; 100], &request[..40], 1, peer(), 546, &OWN_MAC), None);
}

#[test]
fn faults_have_names_of_their_own() {
    let mut names: Vec<_> = FrameFault::ALL.iter().map(|fault| fault.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FrameFault::ALL.len());
}
