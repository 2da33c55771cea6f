//! One link, servers and clients at it.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::{Duration, Instant},
};

use portlease::engine::reason::Reason;
use tempfile::TempDir;

use crate::{
    capture::Capture,
    daemon::{Config, Counters, Daemon, folder_on_disk},
    error::{Doing as _, Result, RigError},
    heard::{Heard, read},
    kea::{self, Kea},
    lan::{Host, Lan},
    stage::SERVER_INTERFACE,
};

/// The interface of a client.
pub const WAN: &str = "wan";

/// The interface of a server of ours.
pub const SERVER: &str = SERVER_INTERFACE;

/// How long anything may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Server identifier of ours.
pub const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// Server identifier of another one of ours.
pub const TWO: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);

/// Unicast address of ours.
pub const ONE_AT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x547);
/// Unicast address of another one of ours.
pub const TWO_AT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x548);
/// Unicast address of Kea.
pub const KEA_AT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x549);
/// Address of a client.
pub const CLIENT_AT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);

/// A pool of two addresses in shares of 1,024 ports.
pub const SHARED: &str = "addresses = [\"192.0.2.18-192.0.2.19\"]\npsid-len = 6";

/// A pool of two whole addresses.
pub const FULL: &str = "addresses = [\"203.0.113.10-203.0.113.11\"]";

/// A link with a client, and a folder for what everybody writes.
pub struct Scene {
    /// The link.
    pub lan: Lan,
    /// Where clients run.
    pub client: Host,
    /// For configurations, logs and captures.
    pub folder: TempDir,
}

/// A server of ours at the link.
pub struct Ours {
    /// Its process.
    pub daemon: Daemon,
    /// Where it runs.
    pub host: Host,
    folder: PathBuf,
}

/// Kea at the link. Its host goes after its processes.
pub struct Theirs {
    _kea: Kea,
    _host: Host,
    leases: PathBuf,
}

impl Scene {
    /// A link with a client's host and nobody else.
    pub fn new() -> Result<Self> {
        let mut lan = Lan::new()?;
        let client = lan.join("client", WAN)?;
        client.add_address(CLIENT_AT, 64)?;
        Ok(Self { lan, client, folder: folder_on_disk("interop-")? })
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// A server of ours over native XDP with these pools, for everybody on the link.
    pub fn ours(&mut self, server_id: Ipv4Addr, at: Ipv6Addr, pools: &[&str]) -> Result<Ours> {
        self.ours_with(server_id, at, pools, |_| {})
    }

    /// The same, with changes.
    pub fn ours_with(
        &mut self,
        server_id: Ipv4Addr,
        at: Ipv6Addr,
        pools: &[&str],
        change: impl FnOnce(&mut Config),
    ) -> Result<Ours> {
        let host = self.lan.join("server", SERVER)?;
        host.add_address(at, 64)?;
        let mut config = Config { server_id, ..Config::new(SERVER, at, "xdp-native") };
        config.links = link(pools);
        change(&mut config);
        let folder = self.folder(&server_id.to_string())?;
        let daemon = Daemon::start(&host.namespace, &config, &folder)?;
        Ok(Ours { daemon, host, folder })
    }

    /// Kea with its pool of whole addresses.
    pub fn kea(&mut self) -> Result<Theirs> {
        let host = self.lan.join("kea", "kea-srv")?;
        host.add_address(KEA_AT, 64)?;
        let folder = self.folder("kea")?;
        let kea = Kea::start(&kea::Setup {
            namespace: &host.namespace,
            interface: host.interface(),
            address: KEA_AT,
            folder: &folder,
            threads: 0,
        })?;
        Ok(Theirs { _kea: kea, _host: host, leases: folder.join("leases4.csv") })
    }

    /// Begins to listen at the client's interface.
    pub fn listen(&self) -> Result<Capture> {
        let file = self.folder.path().join(format!("{}.pcap", fastrand::u64(..)));
        Capture::start(&self.client.namespace, WAN, file)
    }

    /// The IPv4 addresses of the client's host, apart from its loopback.
    pub fn ipv4_addresses(&self) -> Result<Vec<String>> {
        let text = self.client.namespace.ip("-4 -oneline address show scope global")?;
        let more = self.client.namespace.ip("-4 -oneline address show scope link")?;
        Ok(text.lines().chain(more.lines()).map(str::to_owned).collect())
    }
}

impl Theirs {
    /// Waits until the lease of an address was given back, by Kea's own file, in which the last line counts: address,
    /// hardware address, client identifier, lifetime, and so on. The lifetime is 0 then.
    pub fn wait_released(&self, address: Ipv4Addr) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text =
                std::fs::read_to_string(&self.leases).doing(self.leases.display().to_string())?;
            let line = text.lines().rfind(|line| line.starts_with(&format!("{address},")));
            if line.and_then(|line| line.split(',').nth(3)) == Some("0") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(RigError::unexpected(format!("{address} is leased still:\n{text}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Ours {
    /// Ends it, if it runs, and starts it anew with another configuration on the same host.
    pub fn restart(&mut self, config: &Config) -> Result<()> {
        if self.daemon.process().is_running() {
            self.daemon.kill()?;
        }
        self.daemon = Daemon::start(&self.host.namespace, config, &self.folder)?;
        Ok(())
    }

    /// The reasons for which it has said nothing since `before`, and how often.
    pub fn silences(&self, before: &Counters) -> Result<Vec<(String, u64)>> {
        Ok(silences(&self.daemon.counters()?, before))
    }
}

/// The reasons for which a server has said nothing between two readings of its counters, and how often.
pub fn silences(counters: &Counters, before: &Counters) -> Vec<(String, u64)> {
    let mut since = counters.since(before);
    since.retain(|(name, _)| Reason::all().any(|reason| reason.name() == name));
    since
}

/// A `[[link]]` for everybody on the link, with these pools.
pub fn link(pools: &[&str]) -> String {
    let head = format!(
        "[[link]]\nname = \"access\"\nmatch = [{{ interface = \"{SERVER}\" }}, \
         {{ link-address = \"2001:db8:1::/64\" }}, {{ source = \"2001:db8:1::/64\" }}]\n"
    );
    pools.iter().enumerate().fold(head, |text, (number, pool)| {
        format!("{text}[[link.pool]]\nname = \"P{number}\"\n{pool}\n")
    })
}

/// Waits until what was heard satisfies, and gives it.
pub fn hear(capture: &Capture, enough: impl Fn(&[Heard]) -> bool) -> Result<Vec<Heard>> {
    capture.wait(PATIENCE, |frames| enough(&read(frames))).map(|frames| read(&frames))
}
