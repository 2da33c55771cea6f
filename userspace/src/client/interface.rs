//! The interface that the client speaks on, and its IPv6 addresses, as the kernel's text files tell them.

use std::{fs, io, net::Ipv6Addr};

use super::error::ClientError;

/// Where the kernel lists the IPv6 addresses of this network namespace.
const ADDRESS_FILE: &str = "/proc/net/if_inet6";

/// `IFA_F_DADFAILED`: somebody else has the address.
const FLAG_DUPLICATE: u8 = 0x08;

/// `IFA_F_TENTATIVE`: duplicate address detection goes on.
const FLAG_TENTATIVE: u8 = 0x40;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its name.
    pub(super) name: String,
    /// The kernel's number for it. Another one after it was removed and made again.
    pub(super) index: u32,
    /// ARP hardware type (1 is Ethernet).
    pub(super) hardware_type: u16,
    /// Its link-layer address; empty if it has none, as a tunnel.
    pub(super) address: Vec<u8>,
}

impl Interface {
    /// The interface of that name in this network namespace.
    pub(super) fn find(name: &str) -> Result<Self, ClientError> {
        let fail = |source| ClientError::Interface { name: name.to_owned(), source };
        // A name with a slash would be a path out of the folder.
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "not a name")));
        }
        let read = |key: &str| fs::read_to_string(format!("/sys/class/net/{name}/{key}"));
        let number = |key: &str| {
            let text = read(key)?;
            text.trim().parse::<u32>().map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{key} {text:?}: {error}"))
            })
        };
        let index = number("ifindex").map_err(fail)?;
        let kind = number("type").map_err(fail)?;
        // Tunnels show the IPv4 or IPv6 address of their end here, or nothing: only 6 octets are a MAC.
        let address = read("address")
            .ok()
            .and_then(|text| super::identity::from_hex(text.trim()).ok())
            .filter(|octets| octets.len() == 6 && octets.iter().any(|&octet| octet != 0));
        Ok(Interface {
            name: name.to_owned(),
            index,
            hardware_type: u16::try_from(kind).unwrap_or(u16::MAX),
            address: address.unwrap_or_default(),
        })
    }
}

/// An IPv6 address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The address.
    pub(super) ip: Ipv6Addr,
    /// The interface that has it.
    pub(super) index: u32,
    /// Whether it can be used as a source.
    pub(super) usable: bool,
}

/// All IPv6 addresses of this network namespace.
pub(super) fn addresses() -> Result<Vec<Address>, ClientError> {
    let text = fs::read_to_string(ADDRESS_FILE)
        .map_err(|source| ClientError::Addresses { path: ADDRESS_FILE, source })?;
    Ok(text.lines().filter_map(parse_line).collect())
}

/// Reads `fe80...0001 02 40 20 80 eth0`: address, index, prefix length, scope, flags, name.
fn parse_line(line: &str) -> Option<Address> {
    let mut words = line.split_ascii_whitespace();
    let ip = u128::from_str_radix(words.next()?, 16).ok()?;
    let index = u32::from_str_radix(words.next()?, 16).ok()?;
    let flags = u32::from_str_radix(words.nth(2)?, 16).ok()?;
    let unusable = u32::from(FLAG_TENTATIVE | FLAG_DUPLICATE);
    Some(Address { ip: ip.into(), index, usable: flags & unusable == 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read_and_tentative_addresses_are_not_usable() {
        let line = "fe80000000000000f0d0a1fffeb2c3d4 0c 40 20 80     eth0";
        let ip = "fe80::f0d0:a1ff:feb2:c3d4".parse().unwrap();
        assert_eq!(parse_line(line), Some(Address { ip, index: 12, usable: true }));
        assert!(!parse_line(&line.replace(" 80 ", " c0 ")).unwrap().usable, "tentative");
        assert!(!parse_line(&line.replace(" 80 ", " 88 ")).unwrap().usable, "duplicate");
        assert_eq!(parse_line("nonsense"), None);
        assert_eq!(parse_line(""), None);
    }

    #[test]
    fn the_loopback_has_an_index_and_no_address_and_others_are_refused_by_name() {
        let loopback = Interface::find("lo").unwrap();
        assert!(loopback.index > 0 && loopback.address.is_empty());
        for name in ["no-such-one", "", "..", "../net/lo"] {
            let error = Interface::find(name).unwrap_err().to_string();
            assert!(error.contains(&format!("interface {name}:")), "{error}");
        }
    }
}
