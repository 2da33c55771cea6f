//! Kea as a peer: its two daemons serving DHCPv4-over-DHCPv6 from whole addresses (it cannot share them), or the one
//! for DHCPv6 alone.
//!
//! What it takes to make Kea serve DHCPv4-over-DHCPv6 at all: an IPv4 address on the interface, a DHCPv6 subnet that
//! holds the clients' source, and the same prefix as `4o6-subnet` of the DHCPv4 subnet.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    daemon::Process,
    error::{Doing as _, Result},
    netns::Netns,
};

/// The IPv4 address of Kea's interface, which is its server identifier.
pub const SERVER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The first and the last address that Kea leases.
pub const POOL: (Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(10, 1, 0, 0), Ipv4Addr::new(10, 16, 255, 255));

/// How long Kea leases for, in seconds.
pub const LEASE_SECONDS: u32 = 3600;

/// How long a daemon may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Where Kea serves.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// On which host.
    pub namespace: &'a Netns,
    /// On which interface.
    pub interface: &'a str,
    /// To which unicast address queries go, besides `ff02::1:2`.
    pub address: Ipv6Addr,
    /// Where its configuration and its leases lie.
    pub folder: &'a Path,
    /// Packet threads of each daemon; 0 is single-threaded operation.
    pub threads: u32,
}

/// Both daemons of Kea.
#[derive(Debug)]
pub struct Kea {
    /// kea-dhcp4, which decides.
    pub dhcp4: Process,
    /// kea-dhcp6, which owns the DHCPv6 port.
    pub dhcp6: Process,
}

impl Kea {
    /// Starts both and waits until they serve.
    pub fn start(setup: &Setup<'_>) -> Result<Self> {
        setup.namespace.ip(&format!("addr replace {SERVER_ID}/8 dev {}", setup.interface))?;
        let dhcp4 = setup.start("kea-dhcp4", &dhcp4(setup), "DHCP4_STARTED")?;
        let mut config = dhcp6(setup);
        config["Dhcp6"]["dhcp4o6-port"] = json!(PORT);
        let dhcp6 = setup.start("kea-dhcp6", &config, "DHCP6_STARTED")?;
        Ok(Self { dhcp4, dhcp6 })
    }
}

/// Starts kea-dhcp6 alone, an ordinary DHCPv6 server that leases addresses and tells clients by option 88 where
/// DHCPv4 over DHCPv6 is served; no addresses mean `ff02::1:2`.
pub fn start_dhcp6(setup: &Setup<'_>, servers: &[Ipv6Addr]) -> Result<Process> {
    let list: Vec<_> = servers.iter().map(Ipv6Addr::to_string).collect();
    let mut config = dhcp6(setup);
    config["Dhcp6"]["option-data"] = json!([
        { "name": "dhcp4o6-server-addr", "data": list.join(", ") },
        { "name": "information-refresh-time", "data": "86400" },
    ]);
    config["Dhcp6"]["subnet6"][0]["pools"] = json!([{ "pool": "2001:db8:1:0:1::/80" }]);
    setup.start("kea-dhcp6", &config, "DHCP6_STARTED")
}

/// UDP port on which the two daemons talk to each other, the next one included.
const PORT: u16 = 6767;

impl Setup<'_> {
    fn start(&self, name: &str, config: &Value, ready: &str) -> Result<Process> {
        let path = self.folder.join(format!("{name}.json"));
        fs::write(&path, config.to_string()).doing(format!("write {}", path.display()))?;
        let mut command = self.namespace.command(name);
        command
            .arg("-c")
            .arg(&path)
            .env("KEA_PIDFILE_DIR", self.folder)
            .env("KEA_LOCKFILE_DIR", self.folder);
        let process = Process::start(name, command)?;
        process.wait_for(ready, 0, START_TIMEOUT)?;
        Ok(process)
    }

    fn threading(&self) -> Value {
        json!({ "enable-multi-threading": self.threads > 0, "thread-pool-size": self.threads,
                "packet-queue-size": 1024 })
    }

    fn leases(&self, name: &str) -> Value {
        json!({ "type": "memfile", "persist": true, "lfc-interval": 0,
                "name": self.folder.join(name) })
    }
}

/// Starts are logged, leases are not: a line for each would be half of the work.
fn loggers(name: &str) -> Value {
    let output = json!([{ "output": "stdout", "flush": true }]);
    json!([{ "name": name, "severity": "INFO", "output_options": output },
           { "name": format!("{name}.leases"), "severity": "WARN", "output_options": output }])
}

fn dhcp4(setup: &Setup<'_>) -> Value {
    json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": [setup.interface], "dhcp-socket-type": "udp" },
        "lease-database": setup.leases("leases4.csv"),
        "multi-threading": setup.threading(),
        "dhcp4o6-port": PORT,
        "valid-lifetime": LEASE_SECONDS,
        "renew-timer": LEASE_SECONDS / 2,
        "rebind-timer": LEASE_SECONDS / 8 * 7,
        "subnet4": [{
            "id": 1,
            "subnet": "10.0.0.0/8",
            "pools": [{ "pool": format!("{}-{}", POOL.0, POOL.1) }],
            "4o6-interface": setup.interface,
            "4o6-subnet": "2001:db8:1::/64",
        }],
        "loggers": loggers("kea-dhcp4"),
    } })
}

fn dhcp6(setup: &Setup<'_>) -> Value {
    json!({ "Dhcp6": {
        "interfaces-config": { "interfaces": [format!("{}/{}", setup.interface, setup.address)] },
        "lease-database": setup.leases("leases6.csv"),
        "multi-threading": setup.threading(),
        // Or it writes one into a system folder that may not exist.
        "server-id": { "type": "EN", "enterprise-id": 2495, "identifier": "0123456789abcdef",
                       "persist": false },
        "preferred-lifetime": 3000,
        "valid-lifetime": 4000,
        "subnet6": [{
            "id": 1,
            "subnet": "2001:db8:1::/64",
            "interface": setup.interface,
        }],
        "loggers": loggers("kea-dhcp6"),
    } })
}
