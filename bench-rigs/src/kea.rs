//! Kea as a peer: its two daemons serving DHCPv4-over-DHCPv6 from whole addresses (it cannot share them).
//!
//! What it takes to make Kea serve DHCPv4-over-DHCPv6 at all: an IPv4 address on the interface, a DHCPv6 subnet that
//! holds the clients' source, and the same prefix as `4o6-subnet` of the DHCPv4 subnet.

use std::{fs, path::Path, time::Duration};

use serde_json::json;

use crate::{
    daemon::Process,
    error::{Doing as _, Result},
    netns::Netns,
};

/// Both daemons of Kea.
#[derive(Debug)]
pub struct Kea {
    /// kea-dhcp4, which decides.
    pub dhcp4: Process,
    /// kea-dhcp6, which owns the DHCPv6 port.
    pub dhcp6: Process,
}

impl Kea {
    /// Starts both in a namespace, with their files in `folder`, and waits until they serve. `threads` is the number
    /// of packet threads of each; 0 is single-threaded operation.
    pub fn start(namespace: &Netns, interface: &str, folder: &Path, threads: u32) -> Result<Self> {
        namespace.ip(&format!("addr replace 10.0.0.1/8 dev {interface}"))?;
        let start = |name: &str, config: serde_json::Value, ready: &str| -> Result<Process> {
            let path = folder.join(format!("{name}.json"));
            fs::write(&path, config.to_string()).doing(format!("write {}", path.display()))?;
            let mut command = namespace.command(name);
            command
                .arg("-c")
                .arg(&path)
                .env("KEA_PIDFILE_DIR", folder)
                .env("KEA_LOCKFILE_DIR", folder);
            let process = Process::start(name, command)?;
            process.wait_for(ready, 0, Duration::from_secs(20))?;
            Ok(process)
        };
        let dhcp4 = start("kea-dhcp4", dhcp4(interface, folder, threads), "DHCP4_STARTED")?;
        let dhcp6 = start("kea-dhcp6", dhcp6(interface, folder, threads), "DHCP6_STARTED")?;
        Ok(Self { dhcp4, dhcp6 })
    }
}

fn threading(threads: u32) -> serde_json::Value {
    json!({ "enable-multi-threading": threads > 0, "thread-pool-size": threads,
            "packet-queue-size": 1024 })
}

/// Starts are logged, leases are not: a line for each would be half of the work.
fn loggers(name: &str) -> serde_json::Value {
    let output = json!([{ "output": "stdout", "flush": true }]);
    json!([{ "name": name, "severity": "INFO", "output_options": output },
           { "name": format!("{name}.leases"), "severity": "WARN", "output_options": output }])
}

fn dhcp4(interface: &str, folder: &Path, threads: u32) -> serde_json::Value {
    json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": [interface], "dhcp-socket-type": "udp" },
        "lease-database": { "type": "memfile", "persist": true, "lfc-interval": 0,
                            "name": folder.join("leases4.csv") },
        "multi-threading": threading(threads),
        "dhcp4o6-port": 6767,
        "valid-lifetime": 3600,
        "renew-timer": 1800,
        "rebind-timer": 3150,
        "subnet4": [{
            "id": 1,
            "subnet": "10.0.0.0/8",
            "pools": [{ "pool": "10.1.0.0-10.16.255.255" }],
            "4o6-interface": interface,
            "4o6-subnet": "2001:db8:1::/64",
        }],
        "loggers": loggers("kea-dhcp4"),
    } })
}

fn dhcp6(interface: &str, folder: &Path, threads: u32) -> serde_json::Value {
    json!({ "Dhcp6": {
        "interfaces-config": { "interfaces": [format!("{interface}/{}", crate::stage::SERVER)] },
        "lease-database": { "type": "memfile", "persist": true, "lfc-interval": 0,
                            "name": folder.join("leases6.csv") },
        "multi-threading": threading(threads),
        "dhcp4o6-port": 6767,
        // Or it writes one into a system folder that may not exist.
        "server-id": { "type": "EN", "enterprise-id": 2495, "identifier": "0123456789abcdef",
                       "persist": false },
        "preferred-lifetime": 3000,
        "valid-lifetime": 4000,
        "subnet6": [{
            "id": 1,
            "subnet": "2001:db8:1::/64",
            "interface": interface,
        }],
        "loggers": loggers("kea-dhcp6"),
    } })
}
