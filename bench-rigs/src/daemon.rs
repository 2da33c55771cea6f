//! The real daemon in a namespace: started with a configuration, watched by its log, ended when dropped.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader, Read},
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    error::{Doing as _, Result, RigError},
    netns::Netns,
    sys::{self, Signal},
};

/// What the daemon logs when it serves.
const READY: &str = "ready: ";

/// How long a daemon may take to serve: recovery of a large log on a busy disk included.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);

/// How long it may take to drain and exit.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A configuration file of the daemon, by what the rigs vary. Displayed as TOML.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interfaces to serve.
    pub interfaces: Vec<String>,
    /// Unicast addresses to serve.
    pub listen: Vec<Ipv6Addr>,
    /// DHCPv4 server identifier (option 54).
    pub server_id: Ipv4Addr,
    /// `xdp-native`, `xdp-generic`, `socket` or `auto`.
    pub datapath: String,
    /// The ordinary socket on port 547.
    pub udp: bool,
    /// Folder of the ring log; without one nothing is kept.
    pub store: Option<PathBuf>,
    /// Leases that the log has room for.
    pub capacity: u32,
    /// Octets of the log's file; by default as many as the daemon gives it for that capacity.
    pub ring_octets: Option<u64>,
    /// How long a lease is.
    pub lease_seconds: u32,
    /// How long a freed port set waits.
    pub hold_down_seconds: u32,
    /// More keys of the `[server]` table.
    pub server: String,
    /// The `[[link]]` tables.
    pub links: String,
}

impl Config {
    /// One interface, one address, no store, the links of the reference configuration that need neither relay
    /// nor a second interface.
    pub fn new(interface: &str, listen: Ipv6Addr, datapath: &str) -> Self {
        Self {
            interfaces: vec![interface.to_owned()],
            listen: vec![listen],
            server_id: Ipv4Addr::new(192, 0, 2, 254),
            datapath: datapath.to_owned(),
            udp: true,
            store: None,
            capacity: 10_000,
            ring_octets: None,
            lease_seconds: 3600,
            hold_down_seconds: 120,
            server: String::new(),
            links: link("L1", "2001:db8:1::/64", &["192.0.2.18-192.0.2.19"], 0, 6),
        }
    }
}

impl Config {
    /// The same with one pool from 10.0.0.0 on that serves at least this many clients, 63 an address, and room in the
    /// store for all of them.
    #[must_use]
    pub fn for_clients(self, clients: u32) -> Self {
        let addresses = clients.div_ceil(63).max(1);
        let last = Ipv4Addr::from_bits(0x0a00_0000 + addresses - 1);
        let links = link("L1", "2001:db8:1::/64", &[&format!("10.0.0.0-{last}")], 0, 6);
        Self { links, capacity: addresses * 63, ..self }
    }
}

/// A `[[link]]` table with one shared pool, for clients with a link-address or a source in `prefix`.
pub fn link(name: &str, prefix: &str, addresses: &[&str], offset: u8, psid_length: u8) -> String {
    let addresses = addresses.iter().map(|range| format!("\"{range}\"")).collect::<Vec<_>>();
    format!(
        "[[link]]\nname = \"{name}\"\n\
         match = [{{ link-address = \"{prefix}\" }}, {{ source = \"{prefix}\" }}]\n\
         [[link.pool]]\nname = \"{name}-shared\"\naddresses = [{}]\n\
         psid-offset = {offset}\npsid-len = {psid_length}\n",
        addresses.join(", "),
    )
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |words: Vec<String>| {
            words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "[server]\ninterfaces = [{}]", quoted(self.interfaces.clone()))?;
        let listen = self.listen.iter().map(Ipv6Addr::to_string).collect();
        writeln!(f, "listen = [{}]\nserver-id = \"{}\"", quoted(listen), self.server_id)?;
        writeln!(f, "datapath = \"{}\"\nudp = {}\n{}", self.datapath, self.udp, self.server)?;
        match &self.store {
            None => writeln!(f, "[store]\nkind = \"memory\"")?,
            Some(path) => {
                writeln!(f, "[store]\nkind = \"ring\"\npath = \"{}\"", path.display())?;
            }
        }
        writeln!(f, "capacity = {}", self.capacity)?;
        if let Some(octets) = self.ring_octets {
            writeln!(f, "ring-octets = {octets}")?;
        }
        writeln!(f, "[lease]\ntime = \"{}s\"", self.lease_seconds)?;
        writeln!(f, "hold-down = \"{}s\"", self.hold_down_seconds)?;
        write!(f, "{}", self.links)
    }
}

/// The lines that a process has written so far.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// How long the last lines of a process that has ended may take. Its children may hold its output for longer.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);

impl Log {
    fn collect(self: &Arc<Self>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                log.grown.notify_all();
            }
        })
    }

    /// Waits until `found` says of the lines from `from` on that they are what is waited for.
    fn wait<T>(
        &self,
        from: usize,
        timeout: Duration,
        mut found: impl FnMut(&[String]) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = found(lines.get(from..).unwrap_or_default()) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            lines = self.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn len(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

/// The daemon's counters by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Counters(Vec<(String, u64)>);

/// Only what has moved: there are many.
impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|&(_, value)| value > 0)).finish()
    }
}

impl Counters {
    /// The sum of all counters of this name; a name may appear once for each interface or worker.
    pub fn get(&self, name: &str) -> u64 {
        self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value).sum()
    }

    /// The names whose counters differ from `before`, with by how much.
    pub fn since(&self, before: &Counters) -> Vec<(String, u64)> {
        let mut names: Vec<&String> = self.0.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| (name.clone(), self.get(name).saturating_sub(before.get(name))))
            .filter(|&(_, difference)| difference > 0)
            .collect()
    }

    /// All names and values, as they were written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// A running process, ended when dropped, with all that it has written.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
    collectors: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a command whose output is collected.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(format!("start {name}"))?;
        let log = Arc::new(Log::default());
        let output = child.stdout.take().map(|stream| log.collect(stream));
        let errors = child.stderr.take().map(|stream| log.collect(stream));
        let collectors = output.into_iter().chain(errors).collect();
        Ok(Self { name: name.to_owned(), child, log, collectors })
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        sys::signal(self.id(), signal).doing(format!("send {signal:?} to {}", self.name))
    }

    /// All lines so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The number of lines so far: a place from which to wait.
    pub fn log_length(&self) -> usize {
        self.log.len()
    }

    /// Waits for a line that contains `text`, from the line number `from` on, and gives it.
    pub fn wait_for(&self, text: &str, from: usize, timeout: Duration) -> Result<String> {
        let found = self
            .log
            .wait(from, timeout, |lines| lines.iter().find(|line| line.contains(text)).cloned());
        found.ok_or_else(|| {
            RigError::unexpected(format!(
                "{} did not say `{text}` within {timeout:?}; it said:\n{}",
                self.name,
                self.log()
            ))
        })
    }

    /// Waits until all is collected that it wrote before it ended.
    fn wait_last_lines(&self) {
        let deadline = Instant::now() + LAST_LINES_TIMEOUT;
        while !self.collectors.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it has ended by itself and all that it wrote is in the log.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.child.try_wait().doing(format!("wait for {}", self.name))?;
            if let Some(status) = status {
                self.wait_last_lines();
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(RigError::unexpected(format!(
                    "{} still runs after {timeout:?}; it said:\n{}",
                    self.name,
                    self.log()
                )));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it runs. If not, all that it wrote is in the log.
    pub fn is_running(&mut self) -> bool {
        let runs = matches!(self.child.try_wait(), Ok(None));
        if !runs {
            self.wait_last_lines();
        }
        runs
    }

    /// Ends it at once and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.child.wait().doing(format!("wait for {}", self.name))?;
        self.wait_last_lines();
        Ok(())
    }

    /// Asks it to finish, and waits until it has.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::Terminate)?;
        self.wait_exit(timeout)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that is gone already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
}

impl Daemon {
    /// Starts the daemon with a configuration that is written into `folder`. It may not serve yet.
    pub fn spawn(namespace: &Netns, config: &Config, folder: &Path) -> Result<Self> {
        let path = folder.join("portlease.toml");
        fs::write(&path, config.to_string()).doing(format!("write {}", path.display()))?;
        Self::spawn_with(namespace, &path, &[])
    }

    /// Starts the daemon with a configuration file and more arguments. It may not serve yet.
    pub fn spawn_with(namespace: &Netns, config: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = namespace.command(portlease_binary()?);
        command.arg("run").arg("--config").arg(config).args(arguments);
        Ok(Self { process: Process::start("portlease run", command)? })
    }

    /// Starts the daemon and waits until it serves.
    pub fn start(namespace: &Netns, config: &Config, folder: &Path) -> Result<Self> {
        let mut daemon = Self::spawn(namespace, config, folder)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// Waits until it serves. Fails at once if it exits instead.
    pub fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let step = Duration::from_millis(20);
            if self.process.wait_for(READY, 0, step).is_ok() {
                return Ok(());
            }
            if !self.process.is_running() || Instant::now() > deadline {
                return Err(RigError::unexpected(format!(
                    "the daemon did not get ready; it said:\n{}",
                    self.process.log()
                )));
            }
        }
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its process: signals, log and exit.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All lines so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks for the counters (SIGUSR1) and reads them.
    pub fn counters(&self) -> Result<Counters> {
        let from = self.process.log_length();
        self.process.signal(Signal::User1)?;
        let complete = |lines: &[String]| {
            let end = lines.iter().position(|line| line == COUNTERS_END)?;
            Some(Counters(lines[..end].iter().filter_map(|line| read_counter(line)).collect()))
        };
        self.process.log.wait(from, COUNTERS_TIMEOUT, complete).ok_or_else(|| {
            RigError::unexpected(format!("no counters after SIGUSR1; it said:\n{}", self.log()))
        })
    }

    /// The counters once `enough` says that what was waited for has happened, or after a while as they are.
    pub fn counters_when(&self, enough: impl Fn(&Counters) -> bool) -> Result<Counters> {
        let deadline = Instant::now() + COUNTERS_TIMEOUT;
        loop {
            let counters = self.counters()?;
            if enough(&counters) || Instant::now() > deadline {
                return Ok(counters);
            }
        }
    }

    /// Drains it (SIGTERM) and waits until it has exited.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate(STOP_TIMEOUT)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
}

/// The line after the last counter.
const COUNTERS_END: &str = "end of counters";

/// How long counters may take to be written.
const COUNTERS_TIMEOUT: Duration = Duration::from_secs(5);

/// A counter from a line `name value`.
fn read_counter(line: &str) -> Option<(String, u64)> {
    let (name, value) = line.trim().rsplit_once(' ')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.{}=\",:".contains(c);
    (!name.is_empty() && name.chars().all(is_name))
        .then(|| Some((name.to_owned(), value.parse().ok()?)))?
}

/// The `portlease` program: the one that the environment variable `PORTLEASE` names, or the one beside this
/// program in the target folder (`target/debug` or `target/release`), built by cargo first if it is not there.
pub fn portlease_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PORTLEASE") {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            let path = path.display();
            Err(RigError::unexpected(format!("PORTLEASE names {path}, which is no file")))
        };
    }
    sibling_binary("portlease", "portlease")
}

/// A program of the workspace beside this one, built if it is missing.
pub fn sibling_binary(package: &str, name: &str) -> Result<PathBuf> {
    let folder = target_folder()?;
    let path = folder.join(name);
    if !path.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--package", package, "--bin", name]);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            command.arg("--release");
        }
        crate::shell::output_of(command)?;
    }
    if path.is_file() {
        return Ok(path);
    }
    Err(RigError::unexpected(format!("cargo built {name}, but not at {}", path.display())))
}

/// The folder of the profile that this program was built in: `target/debug` or `target/release`.
pub fn target_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().doing("find this program's own file")?;
    let folder = program.parent().unwrap_or(Path::new("."));
    // Tests lie one folder deeper than programs.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_path_buf())
}

/// A folder on a real file system (the target folder's), so that what is synced there is on a disk.
pub fn folder_on_disk(name: &str) -> Result<tempfile::TempDir> {
    let base = target_folder()?;
    tempfile::Builder::new()
        .prefix(name)
        .tempdir_in(&base)
        .doing(format!("make a folder in {}", base.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_lines_of_name_and_value() {
        assert_eq!(read_counter("pool-exhausted 7"), Some(("pool-exhausted".to_owned(), 7)));
        assert_eq!(read_counter("2026-01-01 INFO ready"), None);
        assert_eq!(read_counter("listening on port 547"), None);
        let before = Counters(vec![("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let after = Counters(vec![("a".to_owned(), 1), ("b".to_owned(), 3), ("b".to_owned(), 4)]);
        assert_eq!(after.since(&before), [("b".to_owned(), 5)]);
    }
}
