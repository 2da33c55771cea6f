//! What there is to know about a network interface, and what changes about it while we serve on it.
//!
//! Facts are polled: an interface that goes down, vanishes or changes its queues is an event of minutes, and
//! whoever serves on it looks once a second.

use std::{
    fmt, fs, io,
    net::Ipv6Addr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::sys;

/// Where the kernel lists IPv6 addresses: those of the calling thread's network namespace.
const ADDRESS_FILE: &str = "/proc/thread-self/net/if_inet6";

/// What is known of an interface at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its number in this network namespace. Another one under the same name is another interface.
    pub index: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The longest IPv6 packet that it carries, in octets.
    pub mtu: u32,
    /// Receive queues in use.
    pub queues: u32,
    /// Whether it is administratively up.
    pub is_up: bool,
    /// Whether it has a carrier.
    pub is_running: bool,
    /// Its usable IPv6 addresses; deprecated ones (RFC 4862 §5.5.4) come last.
    pub addresses: Vec<Ipv6Addr>,
}

/// An interface cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is none of that name.
    #[error("no interface {name:?}: this machine has {present}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        present: String,
    },
    /// It has no Ethernet hardware address.
    #[error("interface {name}: hardware type {kind}, but only Ethernet (1) can be served")]
    NotEthernet {
        /// Its name.
        name: String,
        /// Its `ARPHRD_` type.
        kind: u16,
    },
    /// The kernel does not answer.
    #[error("interface {name}: {operation}: {source}")]
    Io {
        /// Its name.
        name: String,
        /// What was asked.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An interface of any kind, and its addresses: what whoever only speaks on it needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number in this network namespace. Another one under the same name is another interface.
    pub index: u32,
    /// Its ARP hardware type; 1 is Ethernet.
    pub kind: u16,
    /// Its hardware address. Tunnels and the like have none.
    pub mac: Option<[u8; 6]>,
    /// Its usable IPv6 addresses; deprecated ones (RFC 4862 §5.5.4) come last.
    pub addresses: Vec<Ipv6Addr>,
}

impl Interface {
    /// Reads what there is to know of interface `name`.
    pub fn read(name: &str) -> Result<Self, LinkError> {
        let link = sys::InterfaceControl::open(name).map_err(failed(name, "open a socket"))?;
        let index = link.index().map_err(failed(name, "index"))?;
        let address = link.hardware_address().map_err(failed(name, "hardware address"))?;
        let (kind, mac) = address;
        let list = fs::read_to_string(ADDRESS_FILE).map_err(failed(name, "list addresses"))?;
        Ok(Self {
            name: name.to_owned(),
            index,
            kind,
            mac: (kind == libc::ARPHRD_ETHER).then_some(mac),
            addresses: parse_addresses(&list, index),
        })
    }
}

/// Says which operation on interface `name` failed, or that there is no such interface.
fn failed(name: &str, operation: &'static str) -> impl FnOnce(io::Error) -> LinkError {
    move |source| match source.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => unknown(name),
        _ => LinkError::Io { name: name.to_owned(), operation, source },
    }
}

impl Facts {
    /// Reads the facts of interface `name`.
    pub fn read(name: &str) -> Result<Self, LinkError> {
        let Interface { name, index, kind, mac, addresses } = Interface::read(name)?;
        let Some(mac) = mac else { return Err(LinkError::NotEthernet { name, kind }) };
        let link = sys::InterfaceControl::open(&name).map_err(failed(&name, "open a socket"))?;
        let flags = link.flags().map_err(failed(&name, "flags"))?;
        Ok(Self {
            index,
            mac,
            mtu: link.mtu().map_err(failed(&name, "MTU"))?,
            queues: link.receive_queues().map_err(failed(&name, "count queues"))?,
            is_up: flags & libc::IFF_UP != 0,
            is_running: flags & libc::IFF_RUNNING != 0,
            addresses,
            name,
        })
    }

    /// What the ports need to know.
    pub fn reach(&self) -> Reach {
        let is_global = |address: &&Ipv6Addr| !address.is_unicast_link_local();
        Reach {
            mac: self.mac,
            mtu: self.mtu,
            link_local: self.addresses.iter().find(|a| a.is_unicast_link_local()).copied(),
            global: self.addresses.iter().find(is_global).copied(),
        }
    }

    /// How these facts differ from `earlier` ones of the same name.
    pub fn changes_since(&self, earlier: &Facts) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut note = |changed: bool, change: Change| {
            if changed {
                changes.push(change);
            }
        };
        if self.index != earlier.index {
            note(true, Change::Replaced { from: earlier.index, to: self.index });
        }
        note(self.is_up && !earlier.is_up, Change::Up);
        note(!self.is_up && earlier.is_up, Change::Down);
        if self.is_up && earlier.is_up {
            note(self.is_running && !earlier.is_running, Change::Carrier);
            note(!self.is_running && earlier.is_running, Change::NoCarrier);
        }
        let queues = Change::Queues { from: earlier.queues, to: self.queues };
        note(self.queues != earlier.queues, queues);
        note(self.mac != earlier.mac, Change::Mac { to: self.mac });
        note(self.mtu != earlier.mtu, Change::Mtu { from: earlier.mtu, to: self.mtu });
        note(self.addresses != earlier.addresses, Change::Addresses);
        changes
    }
}

fn unknown(name: &str) -> LinkError {
    let present = names().unwrap_or_default().join(", ");
    LinkError::Unknown { name: name.to_owned(), present }
}

/// Names of all interfaces of this network namespace.
pub fn names() -> io::Result<Vec<String>> {
    let list = fs::read_to_string("/proc/thread-self/net/dev")?;
    // Two lines of headings, then `name: counters`.
    let names = list.lines().skip(2).filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}

/// Addresses of interface `index` in a list as the kernel writes it: address, index, prefix length, scope and flags
/// in hexadecimal, then the name.
fn parse_addresses(list: &str, index: u32) -> Vec<Ipv6Addr> {
    const TENTATIVE: u32 = 0x40;
    const DEPRECATED: u32 = 0x20;
    const OPTIMISTIC: u32 = 0x04;
    const DAD_FAILED: u32 = 0x08;
    let mut addresses = Vec::new();
    for line in list.lines() {
        let mut fields = line.split_ascii_whitespace();
        let address = fields.next().and_then(|field| u128::from_str_radix(field, 16).ok());
        let mut number = || fields.next().and_then(|field| u32::from_str_radix(field, 16).ok());
        let (Some(address), Some(interface)) = (address, number()) else { continue };
        let (Some(_prefix), Some(_scope), Some(flags)) = (number(), number(), number()) else {
            continue;
        };
        let is_tentative = flags & TENTATIVE != 0 && flags & OPTIMISTIC == 0;
        if interface == index && !is_tentative && flags & DAD_FAILED == 0 {
            addresses.push((flags & DEPRECATED != 0, Ipv6Addr::from(address)));
        }
    }
    addresses.sort_by_key(|&(is_deprecated, _)| is_deprecated);
    addresses.into_iter().map(|(_, address)| address).collect()
}

/// Something that has changed about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It does not exist any more: program and sockets on it are gone for good.
    Vanished,
    /// It exists again, or for the first time.
    Appeared,
    /// Another interface has taken its name: program and sockets on the old one are gone for good.
    Replaced {
        /// The number before.
        from: u32,
        /// The number now.
        to: u32,
    },
    /// Set up: what was attached works again by itself.
    Up,
    /// Set down: nothing is received or sent, and nothing is lost but packets.
    Down,
    /// The carrier is back.
    Carrier,
    /// The carrier is lost.
    NoCarrier,
    /// The number of receive queues has changed. A queue without an AF_XDP socket is served by the UDP socket.
    Queues {
        /// The number before.
        from: u32,
        /// The number now.
        to: u32,
    },
    /// The hardware address has changed.
    Mac {
        /// The address now.
        to: [u8; 6],
    },
    /// The MTU has changed.
    Mtu {
        /// Octets before.
        from: u32,
        /// Octets now.
        to: u32,
    },
    /// IPv6 addresses came or went.
    Addresses,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Vanished => f.write_str("has vanished"),
            Change::Appeared => f.write_str("has appeared"),
            Change::Replaced { from, to } => {
                write!(f, "was replaced by another of its name (index {from}, now {to})")
            }
            Change::Up => f.write_str("is up"),
            Change::Down => f.write_str("is down"),
            Change::Carrier => f.write_str("has a carrier"),
            Change::NoCarrier => f.write_str("has no carrier"),
            Change::Queues { from, to } => write!(f, "had {from} queues and now has {to}"),
            Change::Mac { to } => {
                f.write_str("has a new MAC ")?;
                let mut separator = "";
                to.iter().try_for_each(|octet| {
                    write!(f, "{}{octet:02x}", std::mem::replace(&mut separator, ":"))
                })
            }
            Change::Mtu { from, to } => write!(f, "had an MTU of {from} and now has {to}"),
            Change::Addresses => f.write_str("has other IPv6 addresses"),
        }
    }
}

/// Follows one interface.
#[derive(Debug)]
pub struct Watch {
    name: String,
    last: Option<Facts>,
}

impl Watch {
    /// Follows the interface of which `facts` were read.
    pub fn new(facts: Facts) -> Self {
        Self { name: facts.name.clone(), last: Some(facts) }
    }

    /// What is known of it; `None` while it does not exist.
    pub fn facts(&self) -> Option<&Facts> {
        self.last.as_ref()
    }

    /// Looks again, and returns what has changed since the last look.
    ///
    /// # Errors
    ///
    /// The kernel does not answer. That the interface is gone is no error, but [`Change::Vanished`].
    pub fn poll(&mut self) -> Result<Vec<Change>, LinkError> {
        let now = match Facts::read(&self.name) {
            Ok(facts) => Some(facts),
            Err(LinkError::Unknown { .. }) => None,
            Err(error) => return Err(error),
        };
        let changes = match (&self.last, &now) {
            (Some(last), Some(now)) => now.changes_since(last),
            (Some(_), None) => vec![Change::Vanished],
            (None, Some(_)) => vec![Change::Appeared],
            (None, None) => Vec::new(),
        };
        self.last = now;
        Ok(changes)
    }
}

/// What a port needs to know about its interface to answer on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The hardware address.
    pub mac: [u8; 6],
    /// The longest IPv6 packet, in octets.
    pub mtu: u32,
    /// The link-local address.
    pub link_local: Option<Ipv6Addr>,
    /// A global or unique local address.
    pub global: Option<Ipv6Addr>,
}

impl Reach {
    /// The source of a reply to a message that `peer` has sent to `local`: that same address if it is a unicast
    /// one; else the link-local address towards a link-local peer, and a global one towards any other.
    pub fn source_for(&self, local: Ipv6Addr, peer: Ipv6Addr) -> Option<Ipv6Addr> {
        if !local.is_multicast() {
            Some(local)
        } else if peer.is_unicast_link_local() {
            self.link_local
        } else {
            self.global
        }
    }
}

/// The current [`Reach`] of an interface, published by whoever watches it to the ports that serve on it.
#[derive(Debug)]
pub struct Published {
    edition: AtomicU64,
    reach: Mutex<Reach>,
}

impl Published {
    /// Publishes `reach` for the first time.
    pub fn new(reach: Reach) -> Self {
        Self { edition: AtomicU64::new(0), reach: Mutex::new(reach) }
    }

    /// Publishes another.
    pub fn publish(&self, reach: Reach) {
        let mut current = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != reach {
            *current = reach;
            self.edition.fetch_add(1, Ordering::Release);
        }
    }

    /// The current one, and its edition.
    pub(super) fn read(&self) -> (u64, Reach) {
        let reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        (self.edition.load(Ordering::Acquire), *reach)
    }

    /// Replaces `seen` if it is not the current edition.
    pub(super) fn refresh(&self, seen: &mut (u64, Reach)) {
        if self.edition.load(Ordering::Acquire) != seen.0 {
            *seen = self.read();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "eth0".to_owned(),
            index: 7,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            queues: 4,
            is_up: true,
            is_running: true,
            addresses: vec!["fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        }
    }

    #[test]
    fn only_usable_addresses_of_the_interface_are_listed_deprecated_ones_last() {
        let list = "\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000009 07 40 00 a0     eth0
20010db8000000000000000000000002 07 40 00 80     eth0
20010db8000000000000000000000003 07 40 00 c0     eth0
20010db8000000000000000000000004 07 40 00 88     eth0
20010db8000000000000000000000005 07 40 00 c4     eth0
fe800000000000000000000000000001 07 40 20 80     eth0
fe800000000000000000000000000001 08 40 20 80     eth1
nonsense
";
        let expected = ["2001:db8::2", "2001:db8::5", "fe80::1", "2001:db8::9"];
        assert_eq!(parse_addresses(list, 7), expected.map(|a| a.parse::<Ipv6Addr>().unwrap()));
    }

    #[test]
    fn every_change_is_told_once() {
        let before = facts();
        assert_eq!(before.changes_since(&before), []);
        let tell = |edit: fn(&mut Facts)| {
            let mut after = facts();
            edit(&mut after);
            after.changes_since(&before)
        };
        assert_eq!(tell(|f| f.is_up = false), [Change::Down]);
        assert_eq!(tell(|f| (f.is_up, f.is_running) = (false, false)), [Change::Down]);
        assert_eq!(tell(|f| f.is_running = false), [Change::NoCarrier]);
        assert_eq!(tell(|f| f.queues = 2), [Change::Queues { from: 4, to: 2 }]);
        assert_eq!(tell(|f| f.index = 9), [Change::Replaced { from: 7, to: 9 }]);
        assert_eq!(tell(|f| f.mtu = 9000), [Change::Mtu { from: 1500, to: 9000 }]);
        assert_eq!(tell(|f| f.mac[5] = 2), [Change::Mac { to: [2, 0, 0, 0, 0, 2] }]);
        assert_eq!(tell(|f| f.mac[5] = 2)[0].to_string(), "has a new MAC 02:00:00:00:00:02");
        assert_eq!(tell(|f| f.addresses.clear()), [Change::Addresses]);
        let mut down = facts();
        down.is_up = false;
        assert_eq!(before.changes_since(&down), [Change::Up]);
    }

    #[test]
    fn replies_leave_from_where_the_query_was_sent_to() {
        let reach = facts().reach();
        let [server, group, relay, client]: [Ipv6Addr; 4] =
            ["2001:db8:ffff::547", "ff02::1:2", "2001:db8::2", "fe80::2"]
                .map(|a| a.parse().unwrap());
        assert_eq!(reach.source_for(server, relay), Some(server));
        assert_eq!(reach.source_for(server, client), Some(server));
        assert_eq!(reach.source_for(group, client), "fe80::1".parse().ok());
        assert_eq!(reach.source_for(group, relay), "2001:db8::1".parse().ok());
        assert_eq!(Reach { global: None, ..reach }.source_for(group, relay), None);
    }

    #[test]
    fn a_reader_sees_what_was_published_last() {
        let published = Published::new(facts().reach());
        let mut seen = published.read();
        published.refresh(&mut seen);
        assert_eq!(seen, (0, facts().reach()));
        let other = Reach { mtu: 1280, ..facts().reach() };
        published.publish(other);
        published.publish(other);
        published.refresh(&mut seen);
        assert_eq!(seen, (1, other));
    }

    #[test]
    fn what_is_no_ethernet_interface_is_refused_by_name() {
        assert!(names().unwrap().iter().any(|name| name == "lo"));
        let error = Facts::read("lo").unwrap_err();
        assert!(matches!(error, LinkError::NotEthernet { .. }), "{error}");
        let error = Facts::read("pln-none").unwrap_err().to_string();
        assert!(error.contains("pln-none") && error.contains("lo"), "{error}");
        let error = Facts::read("a-name-of-more-than-fifteen-octets").unwrap_err();
        assert!(matches!(error, LinkError::Unknown { .. }), "{error}");
    }

    #[test]
    fn an_interface_without_a_hardware_address_can_be_spoken_on_but_not_served() {
        let loopback = Interface::read("lo").unwrap();
        assert!(loopback.index > 0);
        assert_eq!((loopback.mac, loopback.kind), (None, libc::ARPHRD_LOOPBACK));
        assert!(matches!(Facts::read("lo"), Err(LinkError::NotEthernet { kind: 772, .. })));
        for name in ["no-such-one", "", "../net/lo"] {
            let error = Interface::read(name).unwrap_err();
            assert!(matches!(error, LinkError::Unknown { .. }), "{name:?}: {error}");
        }
    }
}
