//! Raw Ethernet frames, for what no socket would send: VLAN tags, fragments, extension headers, wrong checksums.

use std::net::Ipv6Addr;

use portlease::wire::checksum;

/// `EtherType` of IPv6.
const IPV6: [u8; 2] = [0x86, 0xdd];

/// `EtherType` of a C-VLAN tag (IEEE 802.1Q).
pub const VLAN: [u8; 2] = [0x81, 0x00];

/// `EtherType` of an S-VLAN tag (IEEE 802.1ad).
pub const SERVICE_VLAN: [u8; 2] = [0x88, 0xa8];

/// IPv6 next header numbers (RFC 8200 §4).
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A UDP datagram over IPv6 over Ethernet, to be changed before it is built.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination and source of the Ethernet header.
    pub destination_mac: [u8; 6],
    /// Source of the Ethernet header.
    pub source_mac: [u8; 6],
    /// VLAN tags, outermost first: `EtherType` and tag control information.
    pub tags: Vec<([u8; 2], u16)>,
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// The checksum to write; none for the right one.
    pub checksum: Option<u16>,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The UDP header and payload.
    fn segment(&self) -> Vec<u8> {
        let length = u16::try_from(8 + self.payload.len()).unwrap_or(u16::MAX);
        let mut segment = Vec::with_capacity(8 + self.payload.len());
        segment.extend(self.source_port.to_be_bytes());
        segment.extend(self.destination_port.to_be_bytes());
        segment.extend(length.to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(&self.payload);
        let right = checksum::udp(self.source, self.destination, &segment);
        segment[6..8].copy_from_slice(&self.checksum.unwrap_or(right).to_be_bytes());
        segment
    }

    fn around(&self, next_header: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(64 + content.len());
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for (kind, control) in &self.tags {
            frame.extend(kind);
            frame.extend(control.to_be_bytes());
        }
        frame.extend(IPV6);
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes());
        frame.extend([next_header, 64]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(content);
        frame
    }

    /// The plain frame.
    pub fn build(&self) -> Vec<u8> {
        self.around(UDP, &self.segment())
    }

    /// With a Destination Options header of padding before UDP (RFC 8200 §4.6).
    pub fn build_with_extension_header(&self) -> Vec<u8> {
        let mut content = vec![UDP, 0, 1, 4, 0, 0, 0, 0];
        content.extend(self.segment());
        self.around(DESTINATION_OPTIONS, &content)
    }

    /// In fragments of at most `octets` octets of the datagram each (RFC 8200 §4.5).
    pub fn build_fragments(&self, octets: usize, identification: u32) -> Vec<Vec<u8>> {
        let segment = self.segment();
        let step = (octets / 8).max(1) * 8;
        let count = segment.len().div_ceil(step);
        let fragments = segment.chunks(step).enumerate().map(|(number, part)| {
            let offset = u16::try_from(number * step).unwrap_or(u16::MAX);
            let more = u16::from(number + 1 < count);
            let mut content = vec![UDP, 0];
            content.extend((offset | more).to_be_bytes());
            content.extend(identification.to_be_bytes());
            content.extend(part);
            self.around(FRAGMENT, &content)
        });
        fragments.collect()
    }

    /// Takes a received frame apart; `None` if it is no UDP datagram over IPv6 without extension headers.
    pub fn read(octets: &[u8]) -> Option<Self> {
        let (destination_mac, rest) = octets.split_first_chunk::<6>()?;
        let (source_mac, mut rest) = rest.split_first_chunk::<6>()?;
        let mut tags = Vec::new();
        loop {
            let (kind, after) = rest.split_first_chunk::<2>()?;
            rest = after;
            match *kind {
                IPV6 => break,
                VLAN | SERVICE_VLAN => {
                    let (control, after) = rest.split_first_chunk::<2>()?;
                    tags.push((*kind, u16::from_be_bytes(*control)));
                    rest = after;
                }
                _ => return None,
            }
        }
        let (header, rest) = rest.split_first_chunk::<40>()?;
        if header[6] != UDP {
            return None;
        }
        let address = |from: usize| -> Option<Ipv6Addr> {
            let octets: [u8; 16] = header.get(from..from + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets))
        };
        let segment = rest.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
        let (udp, payload) = segment.split_first_chunk::<8>()?;
        Some(Self {
            destination_mac: *destination_mac,
            source_mac: *source_mac,
            tags,
            source: address(8)?,
            destination: address(24)?,
            source_port: u16::from_be_bytes([udp[0], udp[1]]),
            destination_port: u16::from_be_bytes([udp[2], udp[3]]),
            checksum: Some(u16::from_be_bytes([udp[6], udp[7]])),
            payload: payload.to_vec(),
        })
    }

    /// Whether the checksum that was read is right.
    pub fn is_checksum_right(&self) -> bool {
        let segment = self.segment();
        self.checksum != Some(0)
            && checksum::udp_sum(self.source, self.destination, &segment) == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            tags: vec![(SERVICE_VLAN, 7), (VLAN, 100)],
            source: "fe80::1".parse().unwrap(),
            destination: "ff02::1:2".parse().unwrap(),
            source_port: 546,
            destination_port: 547,
            checksum: None,
            payload: b"some datagram".to_vec(),
        }
    }

    #[test]
    fn a_frame_is_read_as_it_was_built() {
        let read = Frame::read(&frame().build()).unwrap();
        assert!(read.is_checksum_right());
        assert_eq!(read.tags, frame().tags);
        assert_eq!(read.payload, frame().payload);
        let wrong = Frame { checksum: Some(0x1234), ..frame() };
        assert!(!Frame::read(&wrong.build()).unwrap().is_checksum_right());
        let none = Frame { checksum: Some(0), ..frame() };
        assert!(!Frame::read(&none.build()).unwrap().is_checksum_right());
    }

    #[test]
    fn fragments_cover_the_datagram_once() {
        let whole = frame().segment();
        let fragments = frame().build_fragments(8, 99);
        let parts: Vec<u8> = fragments.iter().flat_map(|part| part[70..].to_vec()).collect();
        assert_eq!(parts, whole);
        assert_eq!(fragments.len(), whole.len().div_ceil(8));
    }
}
