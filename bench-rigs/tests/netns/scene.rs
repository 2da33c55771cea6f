//! What every test here begins with.

use std::net::Ipv6Addr;

use bench_rigs::{
    daemon::{Config, Daemon},
    error::Result,
    exchange::Talker,
    message::relay_at,
    stage::{CLIENT, LINK, RELAY, SERVER, SERVER_INTERFACE, Stage},
};
use portlease::{engine::reason::Reason, wire::dhcpv6::RelayForward};
use tempfile::TempDir;

/// The three datapaths, by their names in the configuration.
pub const DATAPATHS: [&str; 3] = ["xdp-native", "xdp-generic", "socket"];

/// Both that use XDP.
pub const XDP: [&str; 2] = ["xdp-native", "xdp-generic"];

/// Queues of the link: more than one, so that more than one worker serves.
pub const QUEUES: u32 = 2;

/// A stage with a daemon on it.
pub struct Scene {
    pub daemon: Daemon,
    pub stage: Stage,
    pub folder: TempDir,
}

impl Scene {
    /// A daemon without a store, configured like the reference.
    pub fn new(datapath: &str) -> Result<Self> {
        Self::with(datapath, |_| {})
    }

    /// The same, with changes.
    pub fn with(datapath: &str, change: impl FnOnce(&mut Config)) -> Result<Self> {
        let stage = Stage::new(QUEUES)?;
        let folder = folder()?;
        let mut config = Config::new(SERVER_INTERFACE, SERVER, datapath);
        change(&mut config);
        let daemon = Daemon::start(&stage.server, &config, folder.path())?;
        Ok(Self { daemon, stage, folder })
    }

    /// A direct client.
    pub fn direct(&self) -> Result<Talker<'static>> {
        Talker::direct(&self.stage.clients, CLIENT, self.stage.unicast())
    }

    /// A client behind two relays.
    pub fn relayed(&self) -> Result<Talker<'static>> {
        Talker::relayed(&self.stage.clients, RELAY, self.stage.unicast(), two_relays())
    }

    /// Direct or relayed.
    pub fn talker(&self, relayed: bool) -> Result<Talker<'static>> {
        if relayed { self.relayed() } else { self.direct() }
    }

    /// Datagrams that sockets of the server's host received, by the kernel's own count.
    pub fn socket_datagrams(&self) -> Result<u64> {
        self.kernel_counter("Udp6InDatagrams")
    }

    /// A counter of `/proc/net/snmp6` in the server's namespace.
    pub fn kernel_counter(&self, name: &str) -> Result<u64> {
        let text = self.stage.server.run("cat /proc/net/snmp6")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Ok(value.unwrap_or(0))
    }
}

/// A folder for configuration and store.
pub fn folder() -> Result<TempDir> {
    bench_rigs::daemon::folder_on_disk("netns-")
}

/// Two levels of relays around a client: the outer one says nothing of the link, the inner one everything.
pub fn two_relays() -> Vec<RelayForward<'static>> {
    let peer = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xfe00, 1);
    let outer = relay_at(Ipv6Addr::UNSPECIFIED, "2001:db8:ffff::b".parse().unwrap());
    let inner = RelayForward {
        interface_id: Some(b"ge-0/0/1.100"),
        remote_id: Some(b"\0\0\x7d\xb7cust-0001"),
        client_link_layer: Some(&[0, 1, 2, 0, 0, 0, 0, 1]),
        ..relay_at(LINK, peer)
    };
    vec![RelayForward { hop_count: 1, ..outer }, inner]
}

/// The names of all reasons for which the engine says nothing.
pub fn reasons() -> Vec<&'static str> {
    Reason::all().map(Reason::name).collect()
}
