//! What must hold for any frame.

use std::net::Ipv6Addr;

use portlease::wire::frame::{self, FrameFault, Taken};

const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const OWN_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);

/// Any octets in the place of a frame; then the same with its lengths and its checksum mended, so
/// that what lies behind them is reached.
pub(crate) fn frame(octets: &[u8]) {
    // Whatever it says: what must hold for it holds.
    check(octets).ok();
    let mut mended = octets.to_vec();
    if let Some(ip) = mend(&mut mended) {
        let from_many = mended[6] & 1 != 0 || mended[ip + 8] == 0xff;
        let expected = if from_many { Err(FrameFault::GroupSource) } else { Ok(()) };
        assert_eq!(check(&mended), expected);
    }
}

fn check(octets: &[u8]) -> Result<(), FrameFault> {
    let taken = frame::dissect(octets);
    let to: [u8; 6] = octets.first_chunk().copied().unwrap_or_default();
    for own in [to, OWN_MAC] {
        let ours = to == own || to[..2] == [0x33, 0x33];
        match frame::take_apart(octets, &own) {
            Ok(same) => assert!(ours && taken == Ok(same) && same.destination_port == 547),
            Err(FrameFault::ForeignMac) => assert!(!ours),
            Err(FrameFault::WrongPort) => assert!(taken.is_ok_and(|t| t.destination_port != 547)),
            Err(fault) => assert_eq!(taken, Err(fault)),
        }
    }
    let taken = taken?;
    check_way_back(octets, &taken);
    Ok(())
}

fn check_way_back(octets: &[u8], taken: &Taken<'_>) {
    let start = frame::headroom(taken);
    assert!(start <= frame::HEADROOM_MAX);
    assert_eq!(taken.payload, &octets[start..][..taken.payload.len()]);
    let reply: Vec<u8> = taken.payload.iter().rev().copied().collect();
    let mut out = vec![0xee; start + reply.len() + 1];
    out[start..][..reply.len()].copy_from_slice(&reply);
    let wrap = |out: &mut [u8]| {
        frame::wrap(out, octets, reply.len(), OWN_ADDRESS, taken.source_port, &OWN_MAC)
    };
    let length = wrap(&mut out).expect("a reply as long as its query fits");
    assert_eq!((length, out[length]), (start + reply.len(), 0xee));
    let back = frame::dissect(&out[..length]).expect("a frame that others can read");
    assert_eq!(back.payload, reply);
    assert_eq!((back.source, back.destination), (OWN_ADDRESS, taken.source));
    assert_eq!((back.source_port, back.destination_port), (547, taken.source_port));
    assert_eq!((back.source_mac, back.destination_mac), (OWN_MAC, taken.source_mac));
    assert_eq!(out[12..start - 48], octets[12..start - 48], "the same tags");
    assert_eq!(wrap(&mut out[..length - 1]), None);
}

/// Where the IPv6 header begins.
fn ip_at(frame: &[u8]) -> Option<usize> {
    let mut at = 12;
    for _ in 0..2 {
        if matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
            at += 4;
        }
    }
    (frame.get(at..at + 2)? == [0x86, 0xdd]).then_some(at + 2)
}

/// Makes the lengths and the checksum of a frame right, if it has room for the headers, and says
/// where the IPv6 header begins.
fn mend(frame: &mut [u8]) -> Option<usize> {
    let ip = ip_at(frame)?;
    let udp = ip + 40;
    let length = frame.len().checked_sub(udp).filter(|length| *length >= 8)?;
    let length = u16::try_from(length).ok()?.to_be_bytes();
    frame[ip] = 0x60;
    frame[ip + 4..ip + 6].copy_from_slice(&length);
    frame[ip + 6] = 17;
    frame[udp + 4..udp + 6].copy_from_slice(&length);
    frame[udp + 6..udp + 8].fill(0);
    // RFC 1071 §4.1, RFC 8200 §8.1: the sum over addresses, length, next header and segment.
    let covered = [&frame[ip + 8..], &length, &[0, 17]];
    let words = covered[0].chunks(2).chain(covered[1..].iter().copied());
    let sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |octet| u64::from(*octet)))
        .sum();
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    let checksum = match u16::try_from(folded) {
        Ok(0xffff) => 0xffff,
        Ok(sum) => !sum,
        Err(_) => unreachable!("a sum of at most 2^32 folds to 16 bits in four steps"),
    };
    frame[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
    Some(ip)
}
