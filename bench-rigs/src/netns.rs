//! Network namespaces that go away.
//!
//! A name carries the process that made it: `rig<pid>-<number>-<role>`. A namespace whose process is dead was left
//! behind by a run that was killed, and is removed, with all that runs inside, when the next run makes its first.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use crate::{
    error::{Doing as _, Result, RigError},
    shell, sys,
};

/// Where `ip netns` keeps the handles.
const FOLDER: &str = "/run/netns";

/// What all our names start with.
const PREFIX: &str = "rig";

/// A network namespace, removed on drop together with every process inside.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// A new namespace with its loopback up. `role` is the readable end of its name.
    ///
    /// Fails with a clear message without root: nothing here can be tested without it.
    pub fn new(role: &str) -> Result<Self> {
        static SWEEP: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        require_root()?;
        SWEEP.call_once(remove_leftovers);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        shell::run(&format!("ip netns add {name}"))?;
        let namespace = Self { name };
        // No duplicate address detection, no solicitations: addresses work at once and captures stay quiet.
        let keys = ["all.accept_dad=0", "default.accept_dad=0", "default.router_solicitations=0"];
        namespace.set_ipv6(&keys)?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command line inside, to its end.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = shell::words(line);
        let program = words.next().ok_or_else(|| RigError::unexpected("an empty command line"))?;
        let mut command = self.command(program);
        command.args(words);
        shell::output_of(command)
    }

    /// Runs `ip -n <name> …`.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        shell::run(&format!("ip -n {} {arguments}", self.name))
    }

    /// Sets keys below `net.ipv6.conf`, such as `all.forwarding=1`.
    pub fn set_ipv6(&self, keys: &[&str]) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(|key| format!("net.ipv6.conf.{key}")).collect();
        self.run(&format!("sysctl -qw {}", keys.join(" ")))?;
        Ok(())
    }

    /// A command that will run inside, and sees the interfaces of the namespace in `/sys`. It becomes the leader of
    /// a process group of its own, so that an interrupt at the terminal reaches the rig alone.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref()).process_group(0);
        command
    }

    /// Runs `body` on a thread inside the namespace. Sockets made there stay there, wherever they are used.
    pub fn enter<R: Send>(&self, body: impl FnOnce() -> R + Send) -> Result<R> {
        enter_by_name(&self.name, body)
    }
}

/// Runs `body` on a thread inside the namespace of this name, as [`Netns::enter`] does.
pub fn enter_by_name<R: Send>(name: &str, body: impl FnOnce() -> R + Send) -> Result<R> {
    let path = Path::new(FOLDER).join(name);
    let handle = File::open(&path).doing(format!("open {}", path.display()))?;
    thread::scope(|scope| {
        let inside = scope.spawn(move || {
            sys::enter_network_namespace(&handle).doing("enter a network namespace")?;
            Ok(body())
        });
        inside.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Fails unless the process may make namespaces.
pub fn require_root() -> Result<()> {
    if sys::effective_user() == 0 {
        return Ok(());
    }
    Err(RigError::unexpected(
        "the rigs need root to make network namespaces and interfaces: run them through `make test`, \
         `make demo` or sudo",
    ))
}

/// Kills what runs inside a namespace and removes it. Its interfaces go with it.
fn remove(name: &str) {
    // Nothing sensible can be done about a failure here; the next run's sweep tries again.
    if let Ok(inside) = shell::run(&format!("ip netns pids {name}")) {
        for process in inside.split_whitespace().filter_map(|word| word.parse().ok()) {
            let _ = sys::signal(process, sys::Signal::Kill);
        }
    }
    let _ = shell::run(&format!("ip netns del {name}"));
}

/// Removes the namespaces of runs that are dead.
fn remove_leftovers() {
    let Ok(folder) = fs::read_dir(FOLDER) else { return };
    for entry in folder.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner_of(&name).is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            remove(&name);
        }
    }
}

/// The process that made the namespace of this name, if it is one of ours.
fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner_and_foreign_names_tell_none() {
        assert_eq!(owner_of("rig4711-0-server"), Some(4711));
        assert_eq!(owner_of("rigging-0-server"), None);
        assert_eq!(owner_of("production"), None);
    }
}
