//! `portlease client` as a process, and what it prints.

use std::net::Ipv4Addr;

use portlease::wire::portparams::PortParams;
use serde::Deserialize;

use crate::{
    daemon::{Process, portlease_binary},
    error::{Result, RigError},
    lan::Host,
    scene::{PATIENCE, WAN},
    shell,
    sys::Signal,
};

/// A line that the client printed about its lease.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Told {
    /// `obtained`, `renewed`, and so on.
    pub event: String,
    /// What is leased.
    pub address: Ipv4Addr,
    /// Whether others hold ports of it.
    pub shared: bool,
    psid: Option<u16>,
    offset: Option<u8>,
    psid_length: Option<u8>,
    /// How many ports are leased.
    pub port_count: u32,
    /// Option 54.
    pub server_id: Ipv4Addr,
    /// Option 51.
    pub lease_seconds: u32,
}

impl Told {
    /// Option 159.
    pub fn ports(&self) -> Option<PortParams> {
        let (psid, offset, psid_length) = (self.psid?, self.offset?, self.psid_length?);
        Some(PortParams { offset, psid_length, psid })
    }

    /// What a renewal must keep: address, ports and server.
    pub fn tuple(&self) -> (Ipv4Addr, Option<PortParams>, Ipv4Addr) {
        (self.address, self.ports(), self.server_id)
    }
}

/// A running client.
pub struct Subscriber {
    /// Its process.
    pub process: Process,
    heard: usize,
}

impl Subscriber {
    /// Starts it on a host. It asks by multicast unless it is told of a server.
    pub fn start(host: &Host, arguments: &str) -> Result<Self> {
        let told = arguments.contains("--server");
        Self::run(host, if told { "" } else { "--multicast" }, arguments)
    }

    /// Starts it on a host. It asks the network for its servers (option 88).
    pub fn discover(host: &Host, arguments: &str) -> Result<Self> {
        Self::run(host, "", arguments)
    }

    /// It begins at once, and waits two seconds for the offers of all servers.
    fn run(host: &Host, servers: &str, arguments: &str) -> Result<Self> {
        let mut command = host.namespace.command(portlease_binary()?);
        command.args(["client", "--interface", WAN, "--output", "json"]);
        command.args(["--initial-delay", "0", "--offer-wait", "2"]);
        command.args(shell::words(servers)).args(shell::words(arguments));
        Ok(Self { process: Process::start("portlease client", command)?, heard: 0 })
    }

    /// Waits for the next event of this name.
    pub fn told(&mut self, event: &str) -> Result<Told> {
        let line =
            self.process.wait_for(&format!("\"event\":\"{event}\""), self.heard, PATIENCE)?;
        self.heard = self.process.log_length();
        serde_json::from_str(&line)
            .map_err(|error| RigError::unexpected(format!("the client printed {line}: {error}")))
    }

    /// Asks it to renew now and waits until it has.
    pub fn renew(&mut self) -> Result<Told> {
        self.heard = self.process.log_length();
        self.process.signal(Signal::User1)?;
        self.told("renewed")
    }

    /// Ends it, with a RELEASE unless it was told otherwise. Gives all that it has written.
    pub fn leave(mut self) -> Result<String> {
        let status = self.process.terminate(PATIENCE)?;
        if status.success() {
            return Ok(self.process.log());
        }
        Err(RigError::unexpected(format!("the client: {status}; {}", self.process.log())))
    }

    /// Waits until it gives up, and gives all that it has written.
    pub fn fail(mut self) -> Result<String> {
        let status = self.process.wait_exit(PATIENCE)?;
        let log = self.process.log();
        if status.success() || log.contains("\"event\"") {
            return Err(RigError::unexpected(format!("the client succeeded: {status}; {log}")));
        }
        Ok(log)
    }
}
