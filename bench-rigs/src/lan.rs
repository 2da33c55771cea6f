//! A link with many on it: a switch in a namespace of its own, and a host at each of its ports.

use std::net::Ipv6Addr;

use crate::{
    error::{Result, RigError},
    netns::Netns,
    veth::{self, End},
};

/// The switch. Hosts live as long as they like; their links go with either end.
#[derive(Debug)]
pub struct Lan {
    switch: Netns,
    ports: u8,
}

/// A host: a namespace with one interface on the link.
#[derive(Debug)]
pub struct Host {
    /// Where its processes run.
    pub namespace: Netns,
    interface: String,
    mac: [u8; 6],
}

impl Lan {
    /// A switch without hosts. It forwards at once and floods every group, so that nothing of a test waits for a
    /// spanning tree or for listener reports.
    pub fn new() -> Result<Self> {
        let switch = Netns::new("switch")?;
        switch.ip("link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        switch.set_ipv6(&["switch.disable_ipv6=1"])?;
        switch.ip("link set switch up")?;
        Ok(Self { switch, ports: 0 })
    }

    /// A new host at a port of its own. `role` is the readable end of its namespace's name.
    pub fn join(&mut self, role: &str, interface: &str) -> Result<Host> {
        self.ports =
            self.ports.checked_add(1).ok_or_else(|| RigError::unexpected("the switch is full"))?;
        let (number, port) = (self.ports, format!("port-{}", self.ports));
        let namespace = Netns::new(role)?;
        let host =
            Host { namespace, interface: interface.to_owned(), mac: [2, 0, 0, 1, 0, number] };
        let port = End { namespace: &self.switch, name: &port, mac: [2, 0, 0, 1, 1, number] };
        veth::connect(port, host.end(), 1)?;
        self.switch.ip(&format!("link set {} master switch", port.name))?;
        Ok(host)
    }
}

impl Host {
    /// Its end of the link.
    pub fn end(&self) -> End<'_> {
        End { namespace: &self.namespace, name: &self.interface, mac: self.mac }
    }

    /// The name of its interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Gives it an address, with a prefix length that says who else is on the link.
    pub fn add_address(&self, address: Ipv6Addr, prefix_length: u8) -> Result<()> {
        self.end().add_address(&format!("{address}/{prefix_length}"))
    }
}
