//! How long a server takes from its start to its first reply, beside the time that reading its store takes.

use std::{
    fs::{self, OpenOptions},
    net::Ipv4Addr,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    daemon::{Config, Process, STOP_TIMEOUT},
    error::{Doing as _, Result, RigError},
    exchange::Talker,
    message::{Identity, Message},
    stage::{CLIENT, SERVER, SERVER_INTERFACE, Stage},
    store::Store,
};

/// A client asks this often until it is answered.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// How long a start may take.
const START_MAX: Duration = Duration::from_mins(2);

/// Octets that a direct read takes at a time, and their alignment.
const READ_OCTETS: usize = 4 << 20;
const ALIGNMENT: usize = 4096;

/// The option 54 of the server.
const SERVER_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// What is started, and on what.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The servers, started in turns.
    pub programs: Vec<PathBuf>,
    /// Leases in the store; with 0 there is no store yet, and the server makes it.
    pub clients: u32,
    /// `store.capacity`, if it is more than there are leases.
    pub capacity: u32,
    /// Records of each lease.
    pub rounds: u32,
    /// How often each server is started.
    pub runs: u32,
    /// As configured.
    pub datapath: String,
    /// Where the store is made.
    pub folder: PathBuf,
}

/// One start.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// A direct read of the store just before, in seconds; 0 without a store.
    pub read_seconds: f64,
    /// From the start of the process to the first reply that a client has heard, in seconds.
    pub reply_seconds: f64,
    /// Resident octets of the process then.
    pub resident_octets: u64,
    /// What it has said.
    #[serde(skip)]
    pub log: String,
}

impl Restart {
    /// Makes the store and starts each server as often as asked. `tell` hears of every start.
    pub fn run(&self, mut tell: impl FnMut(&Start)) -> Result<Vec<Start>> {
        let stage = Stage::new(1)?;
        let folder = tempfile::Builder::new()
            .prefix("restart-")
            .tempdir_in(&self.folder)
            .doing(format!("make a folder in {}", self.folder.display()))?;
        let directory = folder.path().join("store");
        let config = Config {
            store: Some(directory.clone()),
            lease_seconds: 86_400,
            ..Config::new(SERVER_INTERFACE, SERVER, &self.datapath)
                .for_clients(self.clients.max(self.capacity))
        };
        let path = folder.path().join("portlease.toml");
        fs::write(&path, config.to_string()).doing(format!("write {}", path.display()))?;
        let store = Store {
            capacity: config.capacity,
            rounds: self.rounds,
            ..Store::of(self.clients, CLIENT)
        };
        if self.clients > 0 {
            store.make(&directory)?;
        }
        let mut starts = Vec::new();
        for _ in 0..self.runs {
            for program in &self.programs {
                if self.clients == 0 && directory.exists() {
                    fs::remove_dir_all(&directory).doing("remove the store")?;
                }
                let start = self.start(&stage, program, &path, &store, &directory)?;
                tell(&start);
                starts.push(start);
            }
        }
        Ok(starts)
    }

    fn start(
        &self,
        stage: &Stage,
        program: &Path,
        config: &Path,
        store: &Store,
        directory: &Path,
    ) -> Result<Start> {
        let read_seconds = match self.clients {
            0 => 0.0,
            _ => read_directly(&directory.join("leases.ring"))?.as_secs_f64(),
        };
        let talker = Talker::direct(&stage.clients, CLIENT, stage.unicast())?;
        let identity = Identity::new(store.seed, fastrand::u32(..self.clients.max(1)));
        let number = u32::from_be_bytes(identity.identifier[1..5].try_into().unwrap_or_default());
        let lease = store.lease(number, SERVER_ID);
        let message = match self.clients {
            0 => Message::discover(&identity, fastrand::u32(..)),
            _ => Message::renew(&identity, fastrand::u32(..), &lease),
        };
        let mut command = stage.server.command(program);
        command.arg("run").arg("--config").arg(config);
        let begun = Instant::now();
        let mut server = Process::start("portlease run", command)?;
        let reply = first_reply(&talker, &identity, &message, &mut server)?;
        server.wait_for("ready: ", 0, START_MAX)?;
        let reply_seconds = (reply - begun).as_secs_f64();
        let resident_octets = resident(server.id())?;
        let log = server.log();
        server.terminate(STOP_TIMEOUT)?;
        Ok(Start {
            program: program.to_path_buf(),
            read_seconds,
            reply_seconds,
            resident_octets,
            log,
        })
    }
}

/// When the server has answered.
fn first_reply(
    talker: &Talker<'_>,
    identity: &Identity,
    message: &Message<'_>,
    server: &mut Process,
) -> Result<Instant> {
    let payload = message.to_payload(&[]);
    let deadline = Instant::now() + START_MAX;
    while Instant::now() < deadline {
        talker.send(&payload)?;
        if let Some((answer, _)) = talker.receive(ASK_EVERY)?
            && crate::exchange::read(&answer, identity).is_some_and(|a| a.xid == message.xid)
        {
            return Ok(Instant::now());
        }
        if !server.is_running() {
            break;
        }
    }
    Err(RigError::unexpected(format!("the server does not answer; it said:\n{}", server.log())))
}

/// How long it takes to read a file past the cache, from front to end.
pub fn read_directly(path: &Path) -> Result<Duration> {
    let doing = || format!("read {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_DIRECT).open(path).doing(doing())?;
    let mut memory = vec![0_u8; READ_OCTETS + ALIGNMENT];
    let first = memory.as_ptr().align_offset(ALIGNMENT);
    let buffer = memory.get_mut(first..first + READ_OCTETS).unwrap_or_default();
    let begun = Instant::now();
    let mut offset = 0;
    loop {
        match file.read_at(buffer, offset).doing(doing())? {
            0 => return Ok(begun.elapsed()),
            read => offset += read as u64,
        }
    }
}

/// Octets of a process that are in memory.
pub fn resident(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).doing(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilo = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilo.map(|kilo| kilo * 1024).ok_or_else(|| RigError::unexpected(format!("{path}: no VmRSS")))
}
