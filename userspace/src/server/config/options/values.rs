//! The content of options: from values of the configuration to octets, and back for a person to read.

use std::net::Ipv4Addr;

use toml::{Table, Value};

use super::names::Kind;

/// What is wrong with a value.
type Encoded = Result<Vec<u8>, String>;

/// Octets of a label, and of a whole name with its lengths (RFC 1035 §3.1).
const LABEL_LENGTH_MAX: usize = 63;
const NAME_LENGTH_MAX: usize = 255;

/// The two bits that mark a pointer to an earlier name (RFC 1035 §4.1.4).
const POINTER: u16 = 0xc000;

/// The first octet of SIP servers that are given by name, and by address (RFC 3361 §3).
const SIP_NAMES: u8 = 0;
const SIP_ADDRESSES: u8 = 1;

/// What an operator may write for an option of this kind.
pub(super) fn allowed(kind: Kind) -> &'static str {
    match kind {
        Kind::Octets => "hexadecimal digits such as \"0102ff\"",
        Kind::Text => "ASCII text",
        Kind::Flag => "true or false",
        Kind::U8 => "0 to 255",
        Kind::U16 => "0 to 65535",
        Kind::U16s => "numbers such as [1500, 576]",
        Kind::U32 => "0 to 4294967295",
        Kind::I32 => "-2147483648 to 2147483647",
        Kind::Address => "an IPv4 address such as \"192.0.2.1\"",
        Kind::Addresses => "IPv4 addresses such as [\"192.0.2.1\", \"192.0.2.2\"]",
        Kind::HostRoutes => "routes such as [\"198.51.100.7 via 192.0.2.1\"]",
        Kind::Routes => "routes such as [\"198.51.100.0/24 via 192.0.2.1\"]",
        Kind::Domains => "domain names such as [\"example.net\"]",
        Kind::SipServers => "domain names or IPv4 addresses, not both",
        Kind::PcpServers => "IPv4 addresses; several of one server as a list within the list",
    }
}

/// The octets of `value` as an option of this kind.
pub(super) fn encode(kind: Kind, value: &Value) -> Encoded {
    match kind {
        Kind::Octets => hexadecimal(text(value)?),
        Kind::Text => ascii(text(value)?),
        Kind::Flag => match value {
            Value::Boolean(on) => Ok(vec![u8::from(*on)]),
            other => Err(mismatch("a flag", other)),
        },
        Kind::U8 => number(value).map(|number: u8| vec![number]),
        Kind::U16 => number(value).map(|number: u16| number.to_be_bytes().to_vec()),
        Kind::U16s => each(value, |value| encode(Kind::U16, value)),
        Kind::U32 => number(value).map(|number: u32| number.to_be_bytes().to_vec()),
        Kind::I32 => number(value).map(|number: i32| number.to_be_bytes().to_vec()),
        Kind::Address => address(value),
        Kind::Addresses => each(value, address),
        Kind::HostRoutes => each(value, |value| route(text(value)?, host)),
        Kind::Routes => each(value, |value| route(text(value)?, significant)),
        Kind::Domains => domains(list(value)),
        Kind::SipServers => sip_servers(list(value)),
        Kind::PcpServers => each(value, |server| {
            let addresses = each(server, address)?;
            let length = u8::try_from(addresses.len()).map_err(|_| "too many addresses")?;
            Ok([vec![length], addresses].concat())
        }),
    }
}

/// The octets of `{ type = …, value = … }`.
pub(super) fn encode_typed(table: &Table) -> Encoded {
    if let Some(key) = table.keys().find(|key| !["type", "value"].contains(&key.as_str())) {
        return Err(format!("'{key}' is no key of a typed value"));
    }
    let (Some(Value::String(name)), Some(value)) = (table.get("type"), table.get("value")) else {
        return Err("a typed value has a type and a value".to_owned());
    };
    let kind = match name.as_str() {
        "octets" => Kind::Octets,
        "text" => Kind::Text,
        "flag" => Kind::Flag,
        "u8" => Kind::U8,
        "u16" => Kind::U16,
        "u32" => Kind::U32,
        "i32" => Kind::I32,
        "address" | "addresses" => Kind::Address,
        _ => return Err(format!("'{name}' is no type")),
    };
    match kind {
        // A list of texts would not be told apart again.
        Kind::Text | Kind::Octets => encode(kind, value),
        _ => each(value, |value| encode(kind, value)),
    }
}

/// Whether `content` has a length that an option of this kind can have.
pub(super) fn fits(kind: Kind, content: &[u8]) -> bool {
    let multiple = |of: usize| !content.is_empty() && content.len().is_multiple_of(of);
    match kind {
        Kind::Flag => matches!(content, [0 | 1]),
        Kind::U8 => content.len() == 1,
        Kind::U16 => content.len() == 2,
        Kind::U16s => multiple(2),
        Kind::U32 | Kind::I32 | Kind::Address => content.len() == 4,
        Kind::Addresses => multiple(4),
        Kind::HostRoutes => multiple(8),
        _ => !content.is_empty(),
    }
}

/// `content` for a person to read.
pub(super) fn show(kind: Kind, content: &[u8]) -> String {
    let (fours, _) = content.as_chunks::<4>();
    let addresses = || join(fours.iter().map(|octets| Ipv4Addr::from(*octets).to_string()));
    match (kind, content) {
        (Kind::Text, _) => format!("\"{}\"", String::from_utf8_lossy(content)),
        (Kind::Flag, [flag]) => (*flag != 0).to_string(),
        (Kind::U8, [number]) => number.to_string(),
        (Kind::U16 | Kind::U16s, _) => {
            let (twos, _) = content.as_chunks::<2>();
            join(twos.iter().map(|octets| u16::from_be_bytes(*octets).to_string()))
        }
        (Kind::U32, &[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]).to_string(),
        (Kind::I32, &[a, b, c, d]) => i32::from_be_bytes([a, b, c, d]).to_string(),
        (Kind::Address | Kind::Addresses | Kind::HostRoutes, _) => addresses(),
        _ => content.iter().fold("0x".to_owned(), |text, octet| format!("{text}{octet:02x}")),
    }
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn mismatch(wanted: &str, seen: &Value) -> String {
    format!("{} where {wanted} is expected", article(seen.type_str()))
}

fn article(noun: &str) -> String {
    if noun.starts_with(['a', 'i']) { format!("an {noun}") } else { format!("a {noun}") }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| mismatch("text in double quotes", value))
}

fn number<N: TryFrom<i64>>(value: &Value) -> Result<N, String> {
    let number = value.as_integer().ok_or_else(|| mismatch("a whole number", value))?;
    N::try_from(number).map_err(|_| format!("{number} is out of range"))
}

/// A list, or one thing in place of a list of one.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// What `encode` makes of each of them, one after the other.
fn each(value: &Value, encode: impl Fn(&Value) -> Encoded) -> Encoded {
    let parts = list(value).iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.concat())
}

fn ascii(text: &str) -> Encoded {
    match text.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        Some(strange) => Err(format!("{strange:?} is no printable ASCII character")),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// Digits, perhaps after `0x`, perhaps with colons between octets.
fn hexadecimal(text: &str) -> Encoded {
    let digits: String = text.strip_prefix("0x").unwrap_or(text).replace(':', "");
    if let Some(strange) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("{strange:?} is no hexadecimal digit"));
    }
    if !digits.len().is_multiple_of(2) {
        return Err(format!("{} hexadecimal digits; an octet has two", digits.len()));
    }
    let octet = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
    (0..digits.len()).step_by(2).map(octet).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn parse_address(text: &str) -> Result<Ipv4Addr, String> {
    match text.parse() {
        Ok(Ipv4Addr::UNSPECIFIED) => Err("0.0.0.0 is no address".to_owned()),
        Ok(address) => Ok(address),
        Err(_) => Err(format!("'{text}' is not an IPv4 address")),
    }
}

fn address(value: &Value) -> Encoded {
    Ok(parse_address(text(value)?)?.octets().to_vec())
}

/// `DESTINATION via ROUTER`.
fn route(text: &str, destination: impl Fn(&str) -> Encoded) -> Encoded {
    let Some((to, router)) = text.split_once(" via ") else {
        return Err(format!("'{text}' is no route"));
    };
    // RFC 3442: 0.0.0.0 stands for a destination on the link itself.
    let router = router.trim().parse::<Ipv4Addr>();
    let router = router.map_err(|_| format!("'{text}' has no router's IPv4 address"))?;
    Ok([destination(to.trim())?, router.octets().to_vec()].concat())
}

fn host(text: &str) -> Encoded {
    Ok(parse_address(text)?.octets().to_vec())
}

/// The length of a prefix and those of its octets that count (RFC 3442).
fn significant(text: &str) -> Encoded {
    let Some((address, length)) = text.split_once('/') else {
        return Err(format!("'{text}' is no prefix"));
    };
    let address: Ipv4Addr =
        address.parse().map_err(|_| format!("'{address}' is not an IPv4 address"))?;
    let length: u8 = length.parse().map_err(|_| format!("'{length}' is no prefix length"))?;
    if length > 32 {
        return Err(format!("prefix length {length} is more than 32"));
    }
    if address.to_bits() & u32::MAX.checked_shr(u32::from(length)).unwrap_or(0) != 0 {
        return Err(format!("{text} has host bits"));
    }
    let octets = address.octets();
    Ok([&[length], &octets[..usize::from(length.div_ceil(8))]].concat())
}

/// The labels of a domain name, each after its length, without the root.
fn labels(name: &str) -> Result<Vec<Vec<u8>>, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let right = !label.is_empty()
            && label.len() <= LABEL_LENGTH_MAX
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
        let length = u8::try_from(label.len()).ok().filter(|_| right);
        let length = length.ok_or_else(|| format!("'{name}' is no domain name"))?;
        Ok([&[length], label.as_bytes()].concat())
    };
    let labels = name.split('.').map(label).collect::<Result<Vec<_>, String>>()?;
    if labels.iter().map(Vec::len).sum::<usize>() + 1 > NAME_LENGTH_MAX {
        return Err(format!("'{name}' is longer than a domain name can be"));
    }
    Ok(labels)
}

/// Names one after the other, each pointing back to where its ending has been said (RFC 3397 §2).
fn domains(names: &[Value]) -> Encoded {
    let mut octets: Vec<u8> = Vec::new();
    let mut said: Vec<(Vec<Vec<u8>>, u16)> = Vec::new();
    for name in names {
        let labels = labels(text(name)?)?;
        let mut pointer = None;
        for at in 0..labels.len() {
            let ending = &labels[at..];
            pointer = said.iter().find(|(known, _)| known == ending).map(|(_, place)| *place);
            if pointer.is_some() {
                break;
            }
            if let Some(place) = u16::try_from(octets.len()).ok().filter(|at| *at < POINTER) {
                said.push((ending.to_vec(), place));
            }
            octets.extend(&labels[at]);
        }
        match pointer {
            Some(place) => octets.extend((POINTER | place).to_be_bytes()),
            None => octets.push(0),
        }
    }
    Ok(octets)
}

fn sip_servers(servers: &[Value]) -> Encoded {
    let texts = servers.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<Ipv4Addr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        let mut octets = vec![SIP_NAMES];
        for name in &texts {
            octets.extend(labels(name)?.concat());
            octets.push(0);
        }
        return Ok(octets);
    }
    if addresses.len() < texts.len() {
        return Err("names and addresses in one list".to_owned());
    }
    let addresses = addresses.iter().flat_map(Ipv4Addr::octets);
    Ok(std::iter::once(SIP_ADDRESSES).chain(addresses).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(toml: &str) -> Value {
        toml::from_str::<Table>(&format!("v = {toml}")).unwrap().remove("v").unwrap()
    }

    fn octets(kind: Kind, toml: &str) -> Vec<u8> {
        encode(kind, &value(toml)).unwrap_or_else(|what| panic!("{toml}: {what}"))
    }

    #[test]
    fn plain_values() {
        assert_eq!(octets(Kind::Octets, "\"0x01:02:ff\""), [1, 2, 255]);
        assert_eq!(octets(Kind::Text, "\"tftp.example\""), b"tftp.example");
        assert_eq!(octets(Kind::Flag, "true"), [1]);
        assert_eq!(octets(Kind::U16, "1400"), [5, 120]);
        assert_eq!(octets(Kind::U16s, "[1500, 576]"), [5, 220, 2, 64]);
        assert_eq!(octets(Kind::I32, "-3600"), [255, 255, 241, 240]);
        assert_eq!(octets(Kind::Addresses, "\"192.0.2.1\""), [192, 0, 2, 1]);
        assert_eq!(octets(Kind::Addresses, "[\"1.2.3.4\", \"5.6.7.8\"]"), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn routes_have_the_form_of_their_rfcs() {
        let host = "[\"198.51.100.7 via 192.0.2.1\"]";
        assert_eq!(octets(Kind::HostRoutes, host), [198, 51, 100, 7, 192, 0, 2, 1]);
        // RFC 3442: only the significant octets of the destination.
        let routes = "[\"0.0.0.0/0 via 192.0.2.1\", \"10.17.0.0/16 via 0.0.0.0\"]";
        let expected = [0, 192, 0, 2, 1, 16, 10, 17, 0, 0, 0, 0];
        assert_eq!(octets(Kind::Routes, routes), expected);
        assert_eq!(octets(Kind::Routes, "\"10.1.2.3/32 via 9.9.9.9\"").len(), 9);
        for wrong in ["10.0.0.1/8 via 1.1.1.1", "10.0.0.0/33 via 1.1.1.1", "10.0.0.0/8", "x via y"]
        {
            assert!(encode(Kind::Routes, &Value::from(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn domain_names_share_their_endings() {
        // The example of RFC 3397 §2, without its split into two options.
        let list = "[\"eng.apple.com.\", \"marketing.apple.com\"]";
        let expected = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
        assert_eq!(octets(Kind::Domains, list), expected);
        assert_eq!(
            octets(Kind::Domains, "[\"a.b\", \"b\", \"a.b\"]"),
            b"\x01a\x01b\x00\xc0\x02\xc0\x00"
        );
        for wrong in ["", ".", "a..b", "-\u{e9}.net", &"x".repeat(64), &"abcdefg.".repeat(40)] {
            assert!(encode(Kind::Domains, &Value::from(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers_by_name_and_by_address() {
        assert_eq!(octets(Kind::SipServers, "[\"192.0.2.5\"]"), [1, 192, 0, 2, 5]);
        assert_eq!(octets(Kind::SipServers, "[\"s.example\"]"), b"\x00\x01s\x07example\x00");
        assert!(encode(Kind::SipServers, &value("[\"s.example\", \"192.0.2.5\"]")).is_err());
        // RFC 7291 §4: a length before the addresses of each server.
        let servers = "[\"1.1.1.1\", [\"2.2.2.2\", \"3.3.3.3\"]]";
        assert_eq!(octets(Kind::PcpServers, servers), [4, 1, 1, 1, 1, 8, 2, 2, 2, 2, 3, 3, 3, 3]);
    }

    #[test]
    fn typed_values_and_lists_of_them() {
        let typed = |toml: &str| encode_typed(value(toml).as_table().unwrap());
        assert_eq!(typed("{ type = \"u16\", value = [1, 2] }"), Ok(vec![0, 1, 0, 2]));
        assert_eq!(typed("{ type = \"text\", value = \"http://p/\" }"), Ok(b"http://p/".to_vec()));
        assert_eq!(typed("{ type = \"addresses\", value = [\"1.2.3.4\"] }"), Ok(vec![1, 2, 3, 4]));
        for wrong in [
            "{ type = \"u8\", value = 256 }",
            "{ type = \"u64\", value = 1 }",
            "{ type = \"text\", value = [\"a\", \"b\"] }",
            "{ type = \"text\" }",
            "{ type = \"text\", value = \"a\", always = true }",
        ] {
            assert!(typed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_what_was_written() {
        for (kind, toml, shown) in [
            (Kind::Addresses, "[\"1.2.3.4\", \"5.6.7.8\"]", "1.2.3.4, 5.6.7.8"),
            (Kind::Text, "\"a b\"", "\"a b\""),
            (Kind::U16, "1400", "1400"),
            (Kind::I32, "-1", "-1"),
            (Kind::Flag, "false", "false"),
            (Kind::Octets, "\"00ff\"", "0x00ff"),
        ] {
            let octets = octets(kind, toml);
            assert!(fits(kind, &octets));
            assert_eq!(show(kind, &octets), shown);
        }
    }
}
