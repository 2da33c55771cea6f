//! Values as operators write them: times, counts, address and port ranges, prefixes, identifiers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::engine::policy::Prefix;
use crate::lease::record::NEVER;

/// What is wrong with a value. The message around it says which value, and what is allowed.
type Parsed<T> = Result<T, String>;

/// Seconds a unit of time stands for, longest first.
const TIMES: [(char, u32); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// What a unit multiplies a count by, greatest first.
const SCALES: [(char, u64); 3] = [('G', 1_000_000_000), ('M', 1_000_000), ('k', 1000)];

/// A time such as `90s` or `1h`, in seconds.
pub(super) fn seconds(text: &str) -> Parsed<u32> {
    let unit = text.chars().last().and_then(|last| TIMES.iter().find(|(unit, _)| *unit == last));
    let Some(&(unit, seconds)) = unit else {
        return Err("a time needs a unit, one of s, m, h, d, w".to_owned());
    };
    let number = text.strip_suffix(unit).unwrap_or(text);
    let number: u32 = number.parse().map_err(|_| format!("'{number}' is not a whole number"))?;
    number.checked_mul(seconds).ok_or_else(|| "more seconds than 32 bits hold".to_owned())
}

/// `seconds` as the configuration has it, in the largest unit that needs no fraction.
pub(super) fn show_seconds(seconds: u32) -> String {
    if seconds == NEVER {
        return "infinite".to_owned();
    }
    let even = |(_, unit): &&(char, u32)| seconds.is_multiple_of(*unit) && seconds >= *unit;
    match TIMES.iter().find(even) {
        Some((unit, length)) => format!("{}{unit}", seconds / length),
        None => "0s".to_owned(),
    }
}

/// A count such as `500k` or `1M`.
pub(super) fn count(text: &str) -> Parsed<u64> {
    let scale = text.chars().last().and_then(|last| SCALES.iter().find(|(unit, _)| *unit == last));
    let (number, scale) = match scale {
        Some(&(unit, scale)) => (text.strip_suffix(unit).unwrap_or(text), scale),
        None => (text, 1),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("'{number}' is not a whole number; units are k, M and G"))?;
    number.checked_mul(scale).ok_or_else(|| "more than 64 bits hold".to_owned())
}

/// Addresses that clients can have: `192.0.2.1`, `192.0.2.1-192.0.2.9` or `192.0.2.0/28`.
pub(super) fn addresses(text: &str) -> Parsed<RangeInclusive<Ipv4Addr>> {
    let address = |text: &str| -> Parsed<Ipv4Addr> {
        let text = text.trim();
        text.parse().map_err(|_| format!("'{text}' is not an IPv4 address"))
    };
    let range = if let Some((first, length)) = text.split_once('/') {
        let first = address(first)?;
        let length: u32 = length.parse().map_err(|_| format!("'{length}' is no prefix length"))?;
        if length > 32 {
            return Err(format!("prefix length {length} is more than 32"));
        }
        let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
        if u32::from(first) & hosts != 0 {
            let prefix = Ipv4Addr::from(u32::from(first) & !hosts);
            return Err(format!("host bits are set; the prefix is {prefix}/{length}"));
        }
        first..=Ipv4Addr::from(u32::from(first) | hosts)
    } else if let Some((first, last)) = text.split_once('-') {
        address(first)?..=address(last)?
    } else {
        let only = address(text)?;
        only..=only
    };
    if range.is_empty() {
        return Err(format!("reversed: {} comes after {}", range.start(), range.end()));
    }
    match not_for_clients(&range) {
        Some(what) => Err(format!("meets {what}, which no client can use")),
        None => Ok(range),
    }
}

/// The reserved block that `range` meets, if any (RFC 6890, RFC 5771, RFC 1112 §4).
pub(super) fn not_for_clients(range: &RangeInclusive<Ipv4Addr>) -> Option<&'static str> {
    const BLOCKS: [(u8, u8, &str); 3] = [
        (0, 0, "0.0.0.0/8 (this network)"),
        (127, 127, "127.0.0.0/8 (loopback)"),
        (224, 255, "224.0.0.0/3 (multicast and reserved)"),
    ];
    let (first, last) = (range.start().octets()[0], range.end().octets()[0]);
    BLOCKS.iter().find(|(low, high, _)| first <= *high && last >= *low).map(|block| block.2)
}

/// Ports such as `5060` or `0-1023`.
pub(super) fn ports(text: &str) -> Parsed<RangeInclusive<u16>> {
    let port = |text: &str| -> Parsed<u16> {
        let text = text.trim();
        text.parse().map_err(|_| format!("'{text}' is not a port (0 to 65535)"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    if range.is_empty() {
        return Err(format!("reversed: {} comes after {}", range.start(), range.end()));
    }
    Ok(range)
}

/// An IPv6 prefix, or one address.
pub(super) fn prefix(text: &str) -> Parsed<Prefix> {
    let (address, length) = text.split_once('/').unwrap_or((text, "128"));
    let address: Ipv6Addr =
        address.parse().map_err(|_| format!("'{address}' is not an IPv6 address"))?;
    let length: u8 = length.parse().map_err(|_| format!("'{length}' is no prefix length"))?;
    if length > 128 {
        return Err(format!("prefix length {length} is more than 128"));
    }
    let hosts = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
    if u128::from(address) & hosts != 0 {
        let prefix = Ipv6Addr::from(u128::from(address) & !hosts);
        return Err(format!("host bits are set; the prefix is {prefix}/{length}"));
    }
    Ok(Prefix { address, length })
}

/// Opaque octets: text as it is, or hexadecimal digits after `0x`.
pub(super) fn octets(text: &str) -> Parsed<Vec<u8>> {
    let Some(digits) = text.strip_prefix("0x") else { return Ok(text.as_bytes().to_vec()) };
    if !digits.len().is_multiple_of(2) {
        return Err(format!("{} hexadecimal digits; an octet has two", digits.len()));
    }
    let octet = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'))
    };
    let octets: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(octet).collect();
    octets.ok_or_else(|| "not hexadecimal after 0x".to_owned())
}

/// Octets of hexadecimal digits, with or without `0x` before them.
pub(super) fn hexadecimal(text: &str) -> Parsed<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    octets(&format!("0x{digits}")).map_err(|what| what.replace(" after 0x", ""))
}

/// An IPv6 address that packets can be sent to.
pub(super) fn destination(text: &str) -> Parsed<Ipv6Addr> {
    let address: Ipv6Addr = text.parse().map_err(|_| "not an IPv6 address".to_owned())?;
    let nowhere =
        address.is_unspecified() || address.is_loopback() || address.to_ipv4_mapped().is_some();
    if nowhere { Err("an address that nobody can be reached at".to_owned()) } else { Ok(address) }
}

/// The octets of a Remote-Id option (RFC 8415 §21.20): an enterprise number, a colon, [`octets`].
pub(super) fn remote_id(text: &str) -> Parsed<Vec<u8>> {
    let Some((enterprise, identifier)) = text.split_once(':') else {
        return Err("no enterprise number".to_owned());
    };
    let enterprise: u32 =
        enterprise.parse().map_err(|_| format!("'{enterprise}' is no enterprise number"))?;
    let mut value = enterprise.to_be_bytes().to_vec();
    value.extend(octets(identifier)?);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_and_counts_need_whole_numbers_and_known_units() {
        assert_eq!(seconds("1h"), Ok(3600));
        assert_eq!(seconds("60s"), Ok(60));
        assert_eq!(seconds("2w"), Ok(1_209_600));
        for wrong in ["", "60", "h", "1.5h", "-1s", "1y", "9999999w", "1 h", "1ü"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(count("1M"), Ok(1_000_000));
        assert_eq!(count("500k"), Ok(500_000));
        assert_eq!(count("17"), Ok(17));
        for wrong in ["", "M", "1K", "1.5M", "-1", "99999999999999999G"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_are_inclusive_and_prefixes_have_no_host_bits() {
        let range = addresses("192.0.2.18-192.0.2.19").unwrap();
        assert_eq!(range.end().octets()[3], 19);
        let prefix = addresses("198.51.100.16/28").unwrap();
        assert_eq!(prefix.end().octets()[3], 31);
        assert_eq!(addresses("203.0.113.7").unwrap().start(), &Ipv4Addr::new(203, 0, 113, 7));
        for wrong in ["198.51.100.17/28", "192.0.2.9-192.0.2.1", "10.0.0.0/33", "10.0.0", "::1"] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
        for reserved in ["0.0.0.0/0", "127.0.0.1", "223.255.255.255-224.0.0.1", "255.255.255.255"] {
            assert!(addresses(reserved).unwrap_err().contains("no client can use"), "{reserved}");
        }
        assert_eq!(ports("0-1023"), Ok(0..=1023));
        assert_eq!(ports("5060"), Ok(5060..=5060));
        assert!(ports("2-1").is_err() && ports("65536").is_err());
    }

    #[test]
    fn identifiers_are_text_or_hexadecimal() {
        assert_eq!(octets("port 7"), Ok(b"port 7".to_vec()));
        assert_eq!(octets("0x00ff"), Ok(vec![0, 255]));
        assert!(octets("0x0").is_err() && octets("0x+1").is_err() && octets("0xgg").is_err());
        assert!(octets("0xü").is_err());
        assert_eq!(hexadecimal("0004ff"), Ok(vec![0, 4, 255]));
        assert_eq!(hexadecimal("0x0004ff"), Ok(vec![0, 4, 255]));
        assert!(hexadecimal("4").is_err() && hexadecimal("00:04").is_err());
        assert!(destination("ff05::1:3").is_ok() && destination("2001:db8::1").is_ok());
        for nowhere in ["::", "::1", "::ffff:192.0.2.1", "192.0.2.1"] {
            assert!(destination(nowhere).is_err(), "{nowhere}");
        }
        assert_eq!(remote_id("9:ab"), Ok(vec![0, 0, 0, 9, b'a', b'b']));
        assert!(remote_id("ab").is_err());
    }

    proptest! {
        #[test]
        fn seconds_read_what_they_show(value in 0..NEVER) {
            prop_assert_eq!(seconds(&show_seconds(value)), Ok(value));
        }

        #[test]
        fn a_prefix_is_taken_only_without_host_bits(bits: u128, length in 0_u8..=128) {
            let parsed = prefix(&format!("{}/{length}", Ipv6Addr::from(bits)));
            let hosts = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            prop_assert_eq!(parsed.is_ok(), bits & hosts == 0);
        }
    }
}
