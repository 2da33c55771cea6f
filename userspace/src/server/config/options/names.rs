//! Options that operators know by name, and those that are not theirs to set.

/// What the content of an option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Opaque.
    Octets,
    /// NVT ASCII (RFC 2132 §2).
    Text,
    /// One octet, 0 or 1.
    Flag,
    /// A number of one octet.
    U8,
    /// A number of two octets.
    U16,
    /// One or more numbers of two octets.
    U16s,
    /// A number of four octets.
    U32,
    /// A signed number of four octets.
    I32,
    /// One IPv4 address.
    Address,
    /// One or more IPv4 addresses.
    Addresses,
    /// Pairs of destination and router (RFC 2132 §5.8).
    HostRoutes,
    /// Prefixes and routers (RFC 3442).
    Routes,
    /// Domain names, compressed (RFC 3397).
    Domains,
    /// Addresses or domain names of SIP servers (RFC 3361).
    SipServers,
    /// PCP servers, each with one or more addresses (RFC 7291 §4).
    PcpServers,
}

/// An option with a name.
pub(super) struct Known {
    pub code: u8,
    pub name: &'static str,
    pub kind: Kind,
}

macro_rules! known {
    ($($code:literal $name:literal $kind:ident,)*) => {
        /// Options by name. Some have two names; the first is the one that is shown.
        pub(super) const KNOWN: &[Known] =
            &[$(Known { code: $code, name: $name, kind: Kind::$kind },)*];
    };
}

known! {
    1 "subnet-mask" Address,
    2 "time-offset" I32,
    3 "routers" Addresses,
    4 "time-servers" Addresses,
    5 "name-servers" Addresses,
    6 "domain-name-servers" Addresses,
    7 "log-servers" Addresses,
    9 "lpr-servers" Addresses,
    12 "host-name" Text,
    13 "boot-size" U16,
    15 "domain-name" Text,
    17 "root-path" Text,
    19 "ip-forwarding" Flag,
    23 "default-ip-ttl" U8,
    25 "path-mtu-plateau-table" U16s,
    26 "interface-mtu" U16,
    28 "broadcast-address" Address,
    31 "router-discovery" Flag,
    33 "static-routes" HostRoutes,
    37 "default-tcp-ttl" U8,
    38 "tcp-keepalive-interval" U32,
    40 "nis-domain" Text,
    41 "nis-servers" Addresses,
    42 "ntp-servers" Addresses,
    43 "vendor-specific-information" Octets,
    43 "vendor-encapsulated-options" Octets,
    44 "netbios-name-servers" Addresses,
    45 "netbios-dd-server" Addresses,
    46 "netbios-node-type" U8,
    47 "netbios-scope" Text,
    66 "tftp-server-name" Text,
    67 "boot-file-name" Text,
    67 "bootfile-name" Text,
    69 "smtp-server" Addresses,
    70 "pop-server" Addresses,
    72 "www-server" Addresses,
    100 "posix-timezone" Text,
    100 "pcode" Text,
    101 "tzdb-timezone" Text,
    101 "tcode" Text,
    108 "v6-only-preferred" U32,
    114 "captive-portal" Text,
    114 "v4-captive-portal" Text,
    119 "domain-search" Domains,
    120 "sip-servers" SipServers,
    121 "classless-static-routes" Routes,
    138 "capwap-ac-v4" Addresses,
    150 "tftp-server-addresses" Addresses,
    158 "pcp-servers" PcpServers,
}

/// The option of this name or code.
pub(super) fn by_name(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// The option of this code, if it has a name.
pub(super) fn by_code(code: u8) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.code == code)
}

/// Why an option cannot be configured: it is no option, the server itself sets it, or only others send it.
pub(super) fn not_configurable(code: u8) -> Option<&'static str> {
    Some(match code {
        0 | 255 => "is padding or the end of the options, and has no content",
        50 | 55 | 57 => "is for clients to send, never for a server (RFC 2131 Table 3)",
        51 => "is the lease time, which follows from [lease] time and max-time",
        52 => "says where in the message options are, which the server arranges",
        53 => "is the message type",
        54 => "is the server identifier, which server.server-id sets",
        56 => "is the message of a NAK",
        58 | 59 => "is T1 or T2, which follow from the lease time (RFC 2131 §4.4.5)",
        61 => "is the client identifier, which goes back as it came (RFC 6842 §3)",
        80 => "is Rapid Commit, which this server does not do (RFC 4039)",
        81 => "is the client's name, which the server would have to agree on (RFC 4702)",
        82 => "is the relay's, and goes back as it came (RFC 3046 §2.2)",
        90 => "is authentication, which differs in every message (RFC 3118)",
        91 | 92 | 151..=157 => "is for answers to lease queries (RFC 4388, RFC 6926)",
        93 | 94 | 97 => "is for clients that boot by PXE to send (RFC 4578)",
        109 => "is a tunnel's source, which the client names (RFC 8539)",
        118 => "is the client's choice of a subnet (RFC 3011)",
        145 => "is a nonce for each client (RFC 6704)",
        159 => "is the port set of a lease, which follows from its pool (RFC 7618 §9)",
        _ => return None,
    })
}

/// The name that is most like `text`, if one is.
pub(super) fn like(text: &str) -> Option<&'static str> {
    let near = KNOWN.iter().map(|known| (distance(text, known.name), known.name)).min()?;
    (near.0 <= text.len() / 3).then_some(near.1)
}

/// How many octets must be added, dropped or replaced to make `one` of `other` (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, left) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, right) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_none_is_the_servers_own() {
        let names: BTreeSet<&str> = KNOWN.iter().map(|known| known.name).collect();
        assert_eq!(names.len(), KNOWN.len());
        for known in KNOWN {
            assert_eq!(not_configurable(known.code), None, "{}", known.name);
            assert_eq!(by_code(known.code).map(|first| first.kind), Some(known.kind));
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        assert_eq!(like("domain-name-server"), Some("domain-name-servers"));
        assert_eq!(like("ntp-server"), Some("ntp-servers"));
        assert_eq!(like("colour"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
