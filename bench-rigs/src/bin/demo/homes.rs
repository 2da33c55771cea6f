//! The clients, one real process in each home.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, time::Instant};

use bench_rigs::{
    daemon::{Process, portlease_binary},
    error::{Result, RigError},
    interrupt,
    sys::Signal,
};
use portlease::wire::portparams::PortParams;
use serde::Deserialize;

use crate::{
    PATIENCE,
    town::{Town, WAN},
};

/// A shared address, as a client prints it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Shared {
    /// The home's number, from 1.
    #[serde(default)]
    pub(crate) home: usize,
    pub(crate) address: Ipv4Addr,
    pub(crate) psid: u16,
    pub(crate) psid_length: u8,
    pub(crate) offset: u8,
    pub(crate) port_ranges: Vec<(u16, u16)>,
}

impl Shared {
    /// What must not change.
    pub(crate) fn tuple(&self) -> (Ipv4Addr, PortParams) {
        let Self { offset, psid_length, psid, .. } = *self;
        (self.address, PortParams { offset, psid_length, psid })
    }

    pub(crate) fn first(&self) -> u16 {
        self.port_ranges.first().map_or(0, |range| range.0)
    }

    pub(crate) fn last(&self) -> u16 {
        self.port_ranges.last().map_or(0, |range| range.1)
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ports {}-{}", self.address, self.first(), self.last())
    }
}

/// All clients.
pub(crate) struct Homes {
    clients: Vec<Process>,
    /// Lines that each had written before it was last asked for something.
    heard: Vec<usize>,
}

impl Homes {
    /// Starts a client in each home. They ask for a server by multicast, and find the relay.
    pub(crate) fn open(town: &Town) -> Result<Self> {
        let program = portlease_binary()?;
        let mut clients = Vec::new();
        for (home, number) in town.homes.iter().zip(1..) {
            interrupt::check()?;
            let mut command = home.command(&program);
            command.args(["client", "--interface", WAN, "--multicast", "--output", "json"]);
            command.args(["--initial-delay", "0-1"]);
            clients.push(Process::start(&format!("the client of home {number}"), command)?);
        }
        let heard = vec![0; clients.len()];
        Ok(Self { clients, heard })
    }

    /// What each got.
    pub(crate) fn obtained(&mut self) -> Result<Vec<Shared>> {
        self.hear("obtained")
    }

    /// Asks each to renew now.
    pub(crate) fn ask_to_renew(&mut self) -> Result<()> {
        self.clients.iter().try_for_each(|client| client.signal(Signal::User1))
    }

    /// What each has after it renewed.
    pub(crate) fn renewed(&mut self) -> Result<Vec<Shared>> {
        self.hear("renewed")
    }

    /// Waits for an event of every client and reads it.
    fn hear(&mut self, event: &str) -> Result<Vec<Shared>> {
        let word = format!("\"event\":\"{event}\"");
        let mut all = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            let line = wait_for(client, &word, self.heard[number])?;
            let mut shared: Shared = serde_json::from_str(&line).map_err(|error| {
                RigError::unexpected(format!("a client printed {line}: {error}"))
            })?;
            shared.home = number + 1;
            all.push(shared);
        }
        self.heard = self.clients.iter().map(Process::log_length).collect();
        Ok(all)
    }

    /// Stops every client, which gives its lease back.
    pub(crate) fn release(mut self) -> Result<()> {
        for client in &self.clients {
            client.signal(Signal::Terminate)?;
        }
        for (client, &from) in self.clients.iter_mut().zip(&self.heard) {
            let status = client.wait_exit(PATIENCE)?;
            wait_for(client, "\"event\":\"released\"", from)?;
            if !status.success() {
                return Err(RigError::unexpected(format!("a client: {status}; {}", client.log())));
            }
        }
        Ok(())
    }
}

/// Waits for a line, not longer than an interrupt takes to be noticed.
fn wait_for(process: &Process, text: &str, from: usize) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        interrupt::check()?;
        match process.wait_for(text, from, std::time::Duration::from_millis(200)) {
            Err(_) if Instant::now() < deadline => {}
            other => return other,
        }
    }
}

/// Two homes on one address.
pub(crate) fn neighbours(homes: &[Shared]) -> Result<(usize, usize)> {
    (0..homes.len())
        .flat_map(|one| (one + 1..homes.len()).map(move |two| (one, two)))
        .find(|&(one, two)| homes[one].address == homes[two].address)
        .ok_or_else(|| RigError::unexpected("no two homes share an address"))
}

/// Nobody has what another has, and nobody has a well-known port.
pub(crate) fn check(homes: &[Shared]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for home in homes {
        let (address, ports) = home.tuple();
        let told: Vec<_> = home.port_ranges.iter().map(|&(first, last)| first..=last).collect();
        let meant: Vec<_> = ports.ports().ranges().collect();
        if told != meant || home.first() < 1024 {
            return Err(RigError::unexpected(format!(
                "home {}: {home}, but PSID {} means {meant:?}",
                home.home, home.psid
            )));
        }
        if !seen.insert((address, home.psid)) {
            return Err(RigError::unexpected(format!(
                "home {} has {home}, as another has",
                home.home
            )));
        }
    }
    Ok(())
}
