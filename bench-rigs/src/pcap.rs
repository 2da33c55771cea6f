//! Captures: reads those of tcpdump, and writes the DHCPv4 messages of their option 87 as IPv4/UDP packets, so that
//! a decoder that knows DHCPv4 but not RFC 7341 shows them.

use std::{fs, path::Path, time::Duration};

use portlease::wire::dhcpv6::{Query, Response};

use crate::{
    error::{Doing as _, Result, RigError},
    frame::Frame,
};

/// First word of a capture with microseconds, as a little-endian machine writes it.
const MAGIC: u32 = 0xa1b2_c3d4;

/// Packets that begin with an IP header (`LINKTYPE_RAW`).
const LINK_RAW: u32 = 101;

/// Packets that begin with an Ethernet header.
pub const LINK_ETHERNET: u32 = 1;

/// A captured packet: seconds, microseconds, octets.
type Packet = (u32, u32, Vec<u8>);

/// Reads the Ethernet frames of a capture.
pub fn read(path: &Path) -> Result<Vec<Packet>> {
    let octets = fs::read(path).doing(format!("read {}", path.display()))?;
    parse(&octets).ok_or_else(|| {
        RigError::unexpected(format!(
            "{} is no capture of Ethernet frames in the classic format",
            path.display()
        ))
    })
}

fn parse(octets: &[u8]) -> Option<Vec<Packet>> {
    let (header, mut rest) = octets.split_first_chunk::<24>()?;
    let word = |octets: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(octets.get(at..at + 4)?.try_into().ok()?))
    };
    if word(header, 0)? != MAGIC || word(header, 20)? != LINK_ETHERNET {
        return None;
    }
    let mut packets = Vec::new();
    // A capture that was cut off in the middle of a packet ends before it.
    while let Some((record, after)) = rest.split_first_chunk::<16>() {
        let length = usize::try_from(word(record, 8)?).ok()?;
        let Some((packet, after)) = after.split_at_checked(length) else { break };
        packets.push((word(record, 0)?, word(record, 4)?, packet.to_vec()));
        rest = after;
    }
    Some(packets)
}

/// The header of a capture with packets of this link type.
pub fn header(link: u32) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(MAGIC.to_le_bytes());
    octets.extend([2, 0, 4, 0]);
    octets.extend([0; 8]);
    octets.extend(65_536_u32.to_le_bytes());
    octets.extend(link.to_le_bytes());
    octets
}

/// A packet of a capture, with its time since 1970.
pub fn record(at: Duration, packet: &[u8]) -> Vec<u8> {
    let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut octets = Vec::with_capacity(16 + packet.len());
    octets.extend(seconds.to_le_bytes());
    octets.extend(at.subsec_micros().to_le_bytes());
    octets.extend(length);
    octets.extend(length);
    octets.extend(packet);
    octets
}

/// Writes IP packets as a capture.
fn write(path: &Path, packets: &[Packet]) -> Result<()> {
    let mut octets = header(LINK_RAW);
    for &(seconds, microseconds, ref packet) in packets {
        let at = Duration::new(seconds.into(), microseconds.saturating_mul(1000));
        octets.extend(record(at, packet));
    }
    fs::write(path, octets).doing(format!("write {}", path.display()))
}

/// Writes the DHCPv4 messages inside a capture as packets of their own. Gives their number.
pub fn unwrap(from: &Path, to: &Path) -> Result<usize> {
    let mut inner = Vec::new();
    for (seconds, microseconds, octets) in read(from)? {
        let Some(frame) = Frame::read(&octets) else { continue };
        let packet = if let Ok(query) = Query::parse(&frame.payload) {
            ipv4([0, 0, 0, 0], 68, [255; 4], 67, query.message)
        } else if let Ok(response) = Response::parse(&frame.payload) {
            ipv4([192, 0, 2, 254], 67, [255; 4], 68, response.message)
        } else {
            continue;
        };
        inner.push((seconds, microseconds, packet));
    }
    write(to, &inner)?;
    Ok(inner.len())
}

/// A UDP datagram over IPv4, without a UDP checksum (RFC 768 allows it).
fn ipv4(from: [u8; 4], from_port: u16, to: [u8; 4], to_port: u16, payload: &[u8]) -> Vec<u8> {
    let length = |extra: usize| u16::try_from(payload.len() + extra).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0];
    packet.extend(length(28).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    let (words, _) = packet.as_chunks::<2>();
    let sum: u32 = words.iter().map(|&word| u32::from(u16::from_be_bytes(word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(from_port.to_be_bytes());
    packet.extend(to_port.to_be_bytes());
    packet.extend(length(8).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::message::{Identity, Lease, Message, relay_at};

    #[test]
    fn the_inner_message_of_a_relayed_query_becomes_a_packet() {
        let identity = Identity::new(0, 1);
        let address = Ipv4Addr::new(192, 0, 2, 18);
        let lease = Lease { address, ports: None, server: address, lease_seconds: 60 };
        let relay = relay_at("2001:db8::1".parse().unwrap(), "fe80::1".parse().unwrap());
        let frame = Frame {
            destination_mac: [2; 6],
            source_mac: [4; 6],
            tags: Vec::new(),
            source: "fe80::1".parse().unwrap(),
            destination: "ff02::1:2".parse().unwrap(),
            source_port: 547,
            destination_port: 547,
            checksum: None,
            payload: Message::renew(&identity, 9, &lease).to_payload(&[relay]),
        };
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = (folder.path().join("outer"), folder.path().join("inner"));
        write(&outer, &[(1, 2, frame.build())]).unwrap();
        // What `write` makes has another link type; the reader wants Ethernet.
        let mut octets = fs::read(&outer).unwrap();
        octets[20..24].copy_from_slice(&LINK_ETHERNET.to_le_bytes());
        fs::write(&outer, octets).unwrap();
        assert_eq!(unwrap(&outer, &inner).unwrap(), 1);
        let packet = &fs::read(&inner).unwrap()[40..];
        assert_eq!(packet[0], 0x45);
        assert_eq!(packet[28..29], [1]);
        assert_eq!(packet[40..44], address.octets());
    }
}
