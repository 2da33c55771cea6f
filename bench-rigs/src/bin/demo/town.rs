//! The stage: server, access node with the relay, homes.

use std::{fs, net::Ipv6Addr, path::Path, process::Command};

use bench_rigs::{
    daemon::{Config, Process, STOP_TIMEOUT, folder_on_disk, sibling_binary},
    error::{Doing as _, Result, RigError},
    interrupt,
    netns::Netns,
    stage::{LINK, RELAY, SERVER, SERVER_INTERFACE, SERVER_MAC},
    veth::{self, End},
};
use tempfile::TempDir;

use crate::PATIENCE;

/// The access node's interface towards the server.
pub(crate) const UPLINK: &str = "uplink";

/// A home's interface towards the access node.
pub(crate) const WAN: &str = "wan";

/// Namespaces and links.
pub(crate) struct Town {
    pub(crate) server: Netns,
    pub(crate) access: Netns,
    pub(crate) homes: Vec<Netns>,
    folder: TempDir,
}

/// The daemon's configuration: native XDP, a durable store, two addresses in shares of 1,024 ports.
pub(crate) fn config(folder: &Path) -> Config {
    Config {
        store: Some(folder.join("store")),
        ..Config::new(SERVER_INTERFACE, SERVER, "xdp-native")
    }
}

fn mac(kind: u8, number: usize) -> [u8; 6] {
    [0x02, 0, 0, 0, kind, number.to_le_bytes()[0]]
}

impl Town {
    /// Builds it all.
    pub(crate) fn build(count: usize) -> Result<Self> {
        let server = Netns::new("server")?;
        let access = Netns::new("access")?;
        let server_end = End { namespace: &server, name: SERVER_INTERFACE, mac: SERVER_MAC };
        let access_end = End { namespace: &access, name: UPLINK, mac: mac(1, 0) };
        veth::connect(server_end, access_end, 2)?;
        server_end.add_address(&format!("{SERVER}/64"))?;
        access_end.add_address(&format!("{RELAY}/64"))?;
        access_end.add_neighbour(&SERVER.to_string(), SERVER_MAC)?;
        server_end.add_neighbour(&RELAY.to_string(), access_end.mac)?;
        let mut homes = Vec::new();
        for number in 1..=count {
            interrupt::check()?;
            let home = Netns::new(&format!("home{number}"))?;
            let port = port_name(number);
            let access_end = End { namespace: &access, name: &port, mac: mac(2, number) };
            veth::connect(access_end, End { namespace: &home, name: WAN, mac: mac(3, number) }, 1)?;
            homes.push(home);
        }
        Ok(Self { server, access, homes, folder: folder_on_disk("demo-")? })
    }

    /// Where files of the run lie.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Datagrams that the kernel gave to sockets on the server's host, by its own count.
    pub(crate) fn socket_datagrams(&self) -> Result<u64> {
        let text = self.server.run("cat /proc/net/snmp6")?;
        let line = text.lines().find_map(|line| line.strip_prefix("Udp6InDatagrams"));
        line.and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| RigError::unexpected("no Udp6InDatagrams in /proc/net/snmp6"))
    }

    /// Starts the relay.
    pub(crate) fn start_relay(&self) -> Result<Process> {
        let mut command: Command = self.access.command(sibling_binary("bench-rigs", "relay6")?);
        let ports: Vec<_> = (1..=self.homes.len()).map(port_name).collect();
        let link: Ipv6Addr = LINK;
        command.args(["--upstream", UPLINK, "--downstream", &ports.join(",")]).args([
            "--server",
            &SERVER.to_string(),
            "--link-address",
            &link.to_string(),
        ]);
        let relay = Process::start("relay6", command)?;
        relay.wait_for("relaying", 0, PATIENCE)?;
        Ok(relay)
    }

    /// Copies captures and log to where they stay.
    pub(crate) fn keep(&self, folder: &Path, log: &str) -> Result<()> {
        let doing = || format!("write to {}", folder.display());
        fs::create_dir_all(folder).doing(doing())?;
        for name in ["outer.pcap", "inner.pcap"] {
            fs::copy(self.folder().join(name), folder.join(name)).doing(doing())?;
        }
        fs::write(folder.join("portlease.log"), log).doing(doing())
    }
}

/// The access node's interface towards a home.
pub(crate) fn port_name(number: usize) -> String {
    format!("port-{number}")
}

/// Stops the relay and gives the numbers of messages that it says it has passed forward and back.
pub(crate) fn stop_relay(mut relay: Process) -> Result<(usize, usize)> {
    let status = relay.terminate(STOP_TIMEOUT)?;
    let said = relay.wait_for("forward", 0, PATIENCE)?;
    let numbers: Vec<usize> =
        said.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [forward, back, 0] if status.success() => Ok((forward, back)),
        _ => Err(RigError::unexpected(format!("the relay: {status}, {said}"))),
    }
}
