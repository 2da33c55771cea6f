//! The usual scene: a server's namespace and a clients' namespace with one link between them.

use std::net::{Ipv6Addr, SocketAddrV6};

use portlease::wire::dhcpv6::{ALL_RELAYS_AND_SERVERS, SERVER_PORT};

use crate::{
    error::Result,
    netns::Netns,
    veth::{self, End},
};

/// The server's unicast address, as in the reference configuration.
pub const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x547);

/// A client's address on link L1 of the reference configuration.
pub const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);

/// A relay's address, on the server's link.
pub const RELAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xa);

/// A relay's address on link L1, which places its clients.
pub const LINK: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// The server's interface, as in the reference configuration.
pub const SERVER_INTERFACE: &str = "pl-srv";

/// The clients' interface.
pub const CLIENT_INTERFACE: &str = "clients";

/// Hardware address of the server's interface.
pub const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0xff, 0x01];

/// Hardware address of the clients' interface.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0xff, 0x02];

/// Two namespaces and the link between them.
#[derive(Debug)]
pub struct Stage {
    /// Where the server runs.
    pub server: Netns,
    /// Where clients and relays are.
    pub clients: Netns,
}

impl Stage {
    /// Sets the scene with a link of `queues` queues each way.
    ///
    /// Every address of `2001:db8:1::/64` is the clients', so that a load can spread over many.
    pub fn new(queues: u32) -> Result<Self> {
        let stage = Self { server: Netns::new("server")?, clients: Netns::new("clients")? };
        stage.clients.ip("-6 route add local 2001:db8:1::/64 dev lo")?;
        stage.connect(queues)?;
        Ok(stage)
    }

    /// Makes the link, also again after it was deleted.
    pub fn connect(&self, queues: u32) -> Result<()> {
        let (server, clients) = (self.server_end(), self.clients_end());
        veth::connect(server, clients, queues)?;
        server.add_address(&format!("{SERVER}/64"))?;
        clients.add_address(&format!("{RELAY}/64"))?;
        clients.add_address(&format!("{CLIENT}/64"))?;
        clients.add_neighbour(&SERVER.to_string(), SERVER_MAC)?;
        server.add_neighbour(&RELAY.to_string(), CLIENT_MAC)?;
        self.route_back()
    }

    /// Routes the clients' prefix to them. The kernel forgets it when the server's interface goes down.
    pub fn route_back(&self) -> Result<()> {
        let via = self.clients_end().link_local();
        self.server
            .ip(&format!("-6 route replace 2001:db8:1::/64 via {via} dev {SERVER_INTERFACE}"))?;
        Ok(())
    }

    /// The server's end of the link.
    pub fn server_end(&self) -> End<'_> {
        End { namespace: &self.server, name: SERVER_INTERFACE, mac: SERVER_MAC }
    }

    /// The clients' end of the link.
    pub fn clients_end(&self) -> End<'_> {
        End { namespace: &self.clients, name: CLIENT_INTERFACE, mac: CLIENT_MAC }
    }

    /// Where to send to for the server alone.
    pub fn unicast(&self) -> SocketAddrV6 {
        SocketAddrV6::new(SERVER, SERVER_PORT, 0, 0)
    }

    /// Where to send to for all servers of the link.
    pub fn multicast(&self) -> Result<SocketAddrV6> {
        let scope = self.clients_end().index()?;
        Ok(SocketAddrV6::new(ALL_RELAYS_AND_SERVERS, SERVER_PORT, 0, scope))
    }
}
