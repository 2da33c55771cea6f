//! The configuration, in two steps: the file as written, then what it means.
//!
//! The first step ([`file`]) knows names and types only. All validation is in the second, which gathers everything
//! that is wrong and names file, line, key, value and what is allowed ([`Report`]).

mod addresses;
mod compile;
mod describe;
mod file;
mod information;
mod links;
mod options;
mod report;
mod reservations;
mod softwire;
mod units;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize as _;

use crate::engine::policy::Policy;
use crate::lease::{Features, geometry::PoolSpec};

pub use self::report::{Problem, Report};
use self::report::{Problems, Source};

/// What the configuration means: for the engine, for the leases, and for the threads around them.
#[derive(Debug)]
pub struct Compiled {
    /// What the engine decides by. Matches by interface fit nothing before [`resolve`](Self::resolve).
    pub policy: Policy,
    /// The pools; a [`PoolId`](crate::lease::pool::PoolId) is an index.
    pub pools: Vec<PoolSpec>,
    /// What to start.
    pub plan: Plan,
}

/// What to start: interfaces, ports, store.
#[derive(Debug)]
pub struct Plan {
    /// Interfaces to serve on.
    pub interfaces: Vec<Named>,
    /// Unicast addresses on which queries are accepted, besides the multicast groups.
    pub listen: Vec<Ipv6Addr>,
    /// How packets come in.
    pub datapath: Datapath,
    /// Whether the ordinary socket on port 547 is opened.
    pub udp: bool,
    /// A core for each worker, in the order of workers; empty for one by queue.
    pub cpus: Vec<usize>,
    /// Where promises are kept.
    pub store: Store,
    /// The size of the log in octets; by default what `capacity` needs.
    pub ring_octets: Option<u64>,
    /// How many leases there can be.
    pub capacity: usize,
    /// How many offers may be outstanding.
    pub offers_max: u32,
    /// What the leases do besides leasing.
    pub features: Features,
    /// Matches of links that name an interface, whose index is known only on the machine that serves.
    interface_matches: Vec<InterfaceMatch>,
    /// What is accepted but has no effect, or deserves a second look.
    pub notices: Vec<String>,
}

/// A name in the configuration and where it stands there: `portlease.toml:7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// File and line.
    pub place: String,
}

/// Which match of the policy waits for which interface's index.
#[derive(Clone, Debug)]
struct InterfaceMatch {
    index: usize,
    interface: Named,
}

/// How packets come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The fastest that works: native XDP, then generic XDP, then the socket.
    Auto,
    /// XDP in the interface's driver, or nothing.
    Native,
    /// XDP in the kernel's generic receive path, or nothing.
    Generic,
    /// The ordinary socket only.
    Socket,
}

/// Where promises are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// The embedded log, in this directory.
    Ring(PathBuf),
    /// Nowhere: a restart forgets every lease.
    Memory,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file can be read, and is wrong.
    #[error("{0}")]
    Invalid(Report),
    /// A match or the server names an interface that this machine does not have.
    #[error("{place}: interface '{name}' is not on this machine; it has {present}")]
    UnknownInterface {
        /// File and line.
        place: String,
        /// The interface.
        name: String,
        /// The interfaces that are there.
        present: String,
    },
}

impl Compiled {
    /// Reads and compiles the file at `path`.
    pub fn load(path: &Path) -> Result<Compiled, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text).map_err(ConfigError::Invalid),
            Err(error) => Err(ConfigError::Unreadable { path: name, error }),
        }
    }

    /// Compiles `text`, which goes by `name` in messages.
    pub fn parse(name: &str, text: &str) -> Result<Compiled, Report> {
        let mut problems = Problems::new(Source { name, text })?;
        let file = toml::Deserializer::parse(text).and_then(file::File::deserialize);
        match file {
            Ok(file) => compile::compile(&file, problems),
            Err(error) => {
                problems.add_error(&error);
                Err(problems.into_report())
            }
        }
    }

    /// Gives the matches by interface the index that the kernel has for its name.
    ///
    /// `index_of` looks a name up; `present` names what is there, for the message when it is not.
    pub fn resolve(
        &mut self,
        index_of: impl Fn(&str) -> Option<u32>,
        present: impl Fn() -> String,
    ) -> Result<(), ConfigError> {
        for interface in &self.plan.interfaces {
            if index_of(&interface.name).is_none() {
                return Err(interface.unknown(present()));
            }
        }
        for wanted in &self.plan.interface_matches {
            let index = index_of(&wanted.interface.name);
            let index = index.ok_or_else(|| wanted.interface.unknown(present()))?;
            self.policy.matches[wanted.index].0.interface = Some(index);
        }
        Ok(())
    }
}

impl Named {
    /// Says that this interface is not among those that are `present`.
    pub fn unknown(&self, present: String) -> ConfigError {
        let Named { name, place } = self.clone();
        ConfigError::UnknownInterface { place, name, present }
    }
}

/// Whether `text` is an address and a TCP port.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an address and a port".to_owned())
}

#[cfg(test)]
mod tests;
