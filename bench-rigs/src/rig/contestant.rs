//! Who is measured, and how each is started: on a core of its own, with all its threads, and counted.

use std::{fmt, path::Path, str::FromStr, time::Duration};

use crate::{
    daemon::{self, Config, Daemon, Process},
    error::{Doing as _, Result, RigError},
    kea::{self, Kea},
    load::Transmit,
    null::Datapath,
    stage::{SERVER, SERVER_INTERFACE, Stage},
    sys,
};

use super::accounting::Account;

/// The core of the server and all its threads.
pub const SERVER_CORE: usize = 0;

/// The core of the generator.
pub const GENERATOR_CORE: usize = 1;

/// How long a null server may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Who can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The server of this repository, every lease synced before its ACK.
    Portlease(Datapath),
    /// `null4o6`: the same datapath without a lease policy and a log.
    Null(Datapath),
    /// `null4o6 --echo`: the same datapath without a protocol.
    Echo(Datapath),
    /// Kea's two daemons, leases in memory and a file that is not synced.
    Kea,
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, datapath) = text.split_once(' ').unwrap_or((text, ""));
        match name {
            "portlease" => Ok(Who::Portlease(datapath.parse()?)),
            "null" => Ok(Who::Null(datapath.parse()?)),
            "echo" => Ok(Who::Echo(datapath.parse()?)),
            "kea" if datapath.is_empty() => Ok(Who::Kea),
            _ => Err(format!(
                "`{text}` is no server: `kea`, or `portlease`, `null` or `echo` with a datapath, as in \
                 `portlease xdp-native`"
            )),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Portlease(datapath) => write!(f, "portlease {datapath}"),
            Who::Null(datapath) => write!(f, "null {datapath}"),
            Who::Echo(datapath) => write!(f, "echo {datapath}"),
            Who::Kea => f.write_str("kea"),
        }
    }
}

impl Who {
    /// Whether it knows option 159.
    pub fn shares(self) -> bool {
        self != Who::Kea
    }

    /// How the generator sends to it, so that its own ceiling is as high as can be.
    pub fn transmit(self) -> Transmit {
        match self {
            Who::Portlease(Datapath::Native) | Who::Null(Datapath::Native) => Transmit::LiveFrames,
            _ => Transmit::Socket,
        }
    }

    /// More new leases a second than it will ever serve: as many clients a second must be there.
    pub fn clients_per_second(self) -> f64 {
        match self {
            Who::Kea => 30_000.0,
            Who::Portlease(_) => 400_000.0,
            Who::Null(_) | Who::Echo(_) => 500_000.0,
        }
    }
}

/// The processes of a server at work. They end when it is dropped.
#[derive(Debug)]
enum Processes {
    Portlease(Daemon),
    Kea(Kea),
    Null(Process),
}

/// A server at work.
#[derive(Debug)]
pub struct Contestant {
    processes: Processes,
    /// Last, so that the processes have ended when it goes.
    account: Account,
}

/// Where a server is started.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Its host.
    pub stage: &'a Stage,
    /// Where its files lie. What it finds there it goes on with.
    pub folder: &'a Path,
    /// How many clients it must have addresses for.
    pub clients: u32,
    /// The core for all its threads; none: all cores.
    pub core: Option<usize>,
}

impl Contestant {
    /// Starts it and waits until it serves.
    pub fn start(who: Who, site: Site<'_>) -> Result<Self> {
        let mut contestant = Self::spawn(who, site)?;
        if let Processes::Portlease(daemon) = &mut contestant.processes {
            daemon.wait_ready()?;
        }
        Ok(contestant)
    }

    /// Starts it. Ours may not serve yet.
    pub fn spawn(who: Who, site: Site<'_>) -> Result<Self> {
        // A process inherits the cores of the thread that starts it, and hands them on to its threads.
        let processes = std::thread::scope(|scope| {
            let starter = scope.spawn(|| {
                match site.core {
                    Some(core) => sys::pin(core).doing(format!("bind to core {core}"))?,
                    None => sys::unpin().doing("bind to all cores")?,
                }
                processes(who, site)
            });
            starter.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
        })?;
        let mut account = Account::new();
        for id in processes.ids() {
            account.add(id)?;
        }
        Ok(Self { processes, account })
    }

    /// What it costs.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Ends it at once, as a failure of the machine would.
    pub fn kill(&mut self) -> Result<()> {
        match &mut self.processes {
            Processes::Portlease(daemon) => daemon.kill(),
            Processes::Null(process) => process.kill(),
            Processes::Kea(kea) => kea.dhcp6.kill().and_then(|()| kea.dhcp4.kill()),
        }
    }
}

impl Processes {
    fn ids(&self) -> Vec<u32> {
        match self {
            Processes::Portlease(daemon) => vec![daemon.id()],
            Processes::Kea(kea) => vec![kea.dhcp4.id(), kea.dhcp6.id()],
            Processes::Null(process) => vec![process.id()],
        }
    }
}

fn processes(who: Who, site: Site<'_>) -> Result<Processes> {
    match who {
        Who::Kea => {
            let setup = kea::Setup {
                namespace: &site.stage.server,
                interface: SERVER_INTERFACE,
                address: SERVER,
                folder: site.folder,
                threads: 0,
            };
            Kea::start(&setup).map(Processes::Kea)
        }
        Who::Portlease(datapath) => {
            let datapath = datapath.to_string();
            let config = Config {
                store: Some(site.folder.join("store")),
                server: format!("cpus = [{SERVER_CORE}]\n"),
                ..Config::new(SERVER_INTERFACE, SERVER, &datapath).for_clients(site.clients)
            };
            Daemon::spawn(&site.stage.server, &config, site.folder).map(Processes::Portlease)
        }
        Who::Null(datapath) => null(site, datapath, false),
        Who::Echo(datapath) => null(site, datapath, true),
    }
}

fn null(site: Site<'_>, datapath: Datapath, echo: bool) -> Result<Processes> {
    let mut command = site.stage.server.command(daemon::sibling_binary("bench-rigs", "null4o6")?);
    command.args(["--interface", SERVER_INTERFACE, "--listen", &SERVER.to_string()]);
    command.args(["--datapath", &datapath.to_string()]);
    if echo {
        command.arg("--echo");
    }
    let process = Process::start("null4o6", command)?;
    process.wait_for("ready: ", 0, START_TIMEOUT)?;
    Ok(Processes::Null(process))
}

/// Fails unless the machine has a core for each side.
pub fn require_cores() -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > GENERATOR_CORE {
        return Ok(());
    }
    Err(RigError::unexpected(format!(
        "the rig needs a core for the server and one for the generator; this machine has {cores}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_as_it_is_shown() {
        for name in ["portlease xdp-native", "null xdp-generic", "echo socket", "kea"] {
            assert_eq!(name.parse::<Who>().unwrap().to_string(), name);
        }
        for name in ["dnsmasq", "portlease", "null fast", "kea socket"] {
            assert!(name.parse::<Who>().is_err(), "{name}");
        }
    }
}
