//! Who the client is: a DUID and an IAID, in the form of RFC 4361.

use std::fmt::Write as _;

use crate::wire::identity::{ClientIdentifier, IDENTIFIER_LENGTH_MAX};

/// DUID type of a link-layer address (RFC 8415 §11.4).
const DUID_LL: u16 = 3;

/// DUID type of a UUID (RFC 6355 §4).
const DUID_UUID: u16 = 4;

/// The DUID of a machine with a link-layer address of this hardware type (1 is Ethernet).
pub fn link_layer_duid(hardware_type: u16, address: &[u8]) -> Vec<u8> {
    let mut duid = Vec::with_capacity(4 + address.len());
    duid.extend(DUID_LL.to_be_bytes());
    duid.extend(hardware_type.to_be_bytes());
    duid.extend(address);
    duid
}

/// The DUID of a machine without any, from 16 random octets. Worth keeping: the next one differs.
pub fn random_duid(mut uuid: [u8; 16]) -> Vec<u8> {
    // RFC 9562 §5.4: version 4, variant 10.
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let mut duid = Vec::with_capacity(18);
    duid.extend(DUID_UUID.to_be_bytes());
    duid.extend(uuid);
    duid
}

/// An IAID that stays with the interface: the last four octets of its address, or else its index.
pub fn interface_iaid(mac: Option<[u8; 6]>, index: u32) -> u32 {
    mac.map_or(index, |[_, _, a, b, c, d]| u32::from_be_bytes([a, b, c, d]))
}

/// Content of option 61. `None` if the DUID is shorter than 3 octets or longer than 130.
pub fn identifier(iaid: u32, duid: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; IDENTIFIER_LENGTH_MAX];
    let length = ClientIdentifier { iaid, duid }.build(&mut buffer)?;
    buffer.get(..length).map(<[u8]>::to_vec)
}

/// Octets from pairs of hexadecimal digits; colons and hyphens may stand between the pairs.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|c| !matches!(c, ':' | '-')).collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(format!("{} hexadecimal digits, expected pairs of them", digits.len()));
    }
    let value = |digit: char| digit.to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            &[high, low] => value(high).zip(value(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| "expected hexadecimal digits 0-9, a-f only".to_owned())
}

/// Octets as hexadecimal digits, without separators.
pub fn to_hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_255_then_the_iaid_then_the_duid() {
        let duid = link_layer_duid(1, &[2, 0, 0, 0, 0, 1]);
        assert_eq!(to_hex(&duid), "00030001020000000001");
        assert_eq!(to_hex(&identifier(1, &duid).unwrap()), "ff0000000100030001020000000001");
        assert_eq!(identifier(1, &[0, 3]), None);
        assert_eq!(identifier(1, &[0; 131]), None);
    }

    #[test]
    fn a_random_duid_is_a_uuid_of_version_4() {
        assert_eq!(to_hex(&random_duid([0xff; 16])), "0004ffffffffffff4fffbfffffffffffffff");
        assert_eq!(to_hex(&random_duid([0; 16])), "000400000000000040008000000000000000");
    }

    #[test]
    fn the_iaid_is_the_end_of_the_address_or_the_index() {
        assert_eq!(interface_iaid(Some([2, 0, 0, 0, 1, 2]), 9), 0x102);
        assert_eq!(interface_iaid(None, 9), 9);
    }

    #[test]
    fn hexadecimal_is_read_with_and_without_separators_and_nothing_else() {
        assert_eq!(from_hex("00:0a-Ff"), Ok(vec![0, 10, 255]));
        assert_eq!(from_hex("000aff"), Ok(vec![0, 10, 255]));
        assert!(from_hex("0").is_err());
        assert!(from_hex("").is_err());
        assert!(from_hex("0g").is_err());
        assert!(from_hex("+1").is_err());
    }
}
