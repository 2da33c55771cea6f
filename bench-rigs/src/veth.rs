//! Pairs of virtual Ethernet interfaces between two namespaces.

use std::net::Ipv6Addr;

use crate::{
    error::{Doing as _, Result},
    netns::Netns,
};

/// One end of a pair: a name in a namespace, with a fixed hardware address.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where it lies.
    pub namespace: &'a Netns,
    /// Its name, at most 15 octets.
    pub name: &'a str,
    /// Its hardware address. The link-local address follows from it (RFC 4291 App. A).
    pub mac: [u8; 6],
}

impl End<'_> {
    /// The link-local address that the kernel makes of the hardware address.
    pub fn link_local(&self) -> Ipv6Addr {
        link_local_of(self.mac)
    }

    /// Adds an address, ready at once.
    pub fn add_address(&self, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.namespace.ip(&format!("addr add {address} dev {} {nodad}", self.name))?;
        Ok(())
    }

    /// Routes a prefix straight onto the link.
    pub fn add_route(&self, prefix: &str) -> Result<()> {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        self.namespace.ip(&format!("{family} route replace {prefix} dev {}", self.name))?;
        Ok(())
    }

    /// Tells that `address` lives behind `mac`, so that no packet ever waits for a neighbour solicitation.
    pub fn add_neighbour(&self, address: &str, mac: [u8; 6]) -> Result<()> {
        let mac = text_of(mac);
        self.namespace
            .ip(&format!("neigh replace {address} lladdr {mac} dev {} nud permanent", self.name))?;
        Ok(())
    }

    /// The interface's number in its namespace.
    pub fn index(&self) -> Result<u32> {
        let name = self.name.to_owned();
        self.namespace.enter(move || crate::sys::interface_index(&name))?.doing(self.name)
    }
}

/// Makes the pair, both ends up and each other's link-local neighbours, with `queues` queues each way.
///
/// Transmit checksum offload is off at both ends: a datagram of a kernel socket would otherwise cross the pair with
/// only a pseudo-header checksum in it, which an AF_XDP receiver sees as wrong.
pub fn connect(a: End<'_>, b: End<'_>, queues: u32) -> Result<()> {
    let shape = format!("numrxqueues {queues} numtxqueues {queues}");
    a.namespace.ip(&format!(
        "link add {} address {} {shape} type veth peer name {} address {} netns {} {shape}",
        a.name,
        text_of(a.mac),
        b.name,
        text_of(b.mac),
        b.namespace.name(),
    ))?;
    for (end, peer) in [(a, b), (b, a)] {
        let name = end.name;
        let keys = ["accept_dad=0", "router_solicitations=0", "keep_addr_on_down=1"];
        let keys = keys.map(|key| format!("{name}.{key}"));
        end.namespace.set_ipv6(&keys.each_ref().map(String::as_str))?;
        end.namespace.run(&format!("ethtool -K {name} tx off"))?;
        end.namespace.ip(&format!("link set {name} up"))?;
        end.add_neighbour(&peer.link_local().to_string(), peer.mac)?;
    }
    Ok(())
}

/// A hardware address as `ip` reads it.
pub fn text_of(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The modified EUI-64 link-local address of a hardware address (RFC 4291 App. A).
pub fn link_local_of(mac: [u8; 6]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&[mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]]);
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_makes_its_link_local_address() {
        let mac = [0x02, 0, 0, 0, 0, 0x01];
        assert_eq!(link_local_of(mac), "fe80::ff:fe00:1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(text_of(mac), "02:00:00:00:00:01");
    }
}
