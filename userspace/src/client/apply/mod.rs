//! What the client does to the machine it runs on, if it is told to: runs a script (`--script`), and confines an
//! interface to the leased ports (`--apply nftables`).

mod command;
mod environment;
mod nftables;
mod rules;
mod script;

use std::{io, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tracing::{error, warn};

use environment::{Occasion, Variables};
use nftables::Softwire;
use script::Script;

use super::{
    lease::{Assignment, Lease},
    output::{Happening, Reading},
    received::Received,
    timers::Moment,
};
use crate::net::link::LinkError;

/// Longest name of an interface.
const NAME_LENGTH_MAX: usize = 15;

/// What enforces the port set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Enforcer {
    /// The packet filter of the Linux kernel, by the programs `nft` and `ip`.
    Nftables,
}

/// The part of the command line that is about this.
#[derive(Args, Clone, Debug)]
pub struct ApplyArguments {
    /// Program to run at each event of the lease, with all there is to know in its environment
    #[arg(long, value_name = "PROGRAM")]
    pub script: Option<PathBuf>,

    /// How long a run of the script may take before it is killed, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = super::options::seconds,
          default_value = "10", requires = "script")]
    pub script_timeout: Duration,

    /// Put the leased address on the softwire and keep its traffic to the leased ports
    #[arg(long, value_enum, value_name = "HOW", requires = "softwire", conflicts_with = "once")]
    pub apply: Option<Enforcer>,

    /// The point-to-point interface that IPv4 leaves by: a tunnel, or what stands for one
    #[arg(long, value_name = "NAME", value_parser = softwire_name, requires = "apply")]
    pub softwire: Option<String>,

    /// Also route all IPv4 through the softwire, unless there is a default route
    #[arg(long, requires = "apply")]
    pub route: bool,
}

/// A name that can stand in a rule as it is.
fn softwire_name(name: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_LENGTH_MAX || !name.chars().all(fine) {
        return Err("expected 1 to 15 letters, digits, '-', '_' or '.'".to_owned());
    }
    Ok(name.to_owned())
}

/// Why the machine could not be changed as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// There is no such interface.
    #[error("--softwire: {0}")]
    Interface(#[from] LinkError),
    /// IPv4 would leave on the very link on which the servers are asked.
    #[error(
        "--softwire {0}: that is the interface on which the servers are asked; a shared address belongs on a \
         point-to-point link"
    )]
    SameInterface(String),
    /// A program cannot be started.
    #[error(
        "running {program}: {problem}; --apply nftables needs the programs nft and ip (packages nftables and iproute2)"
    )]
    Start {
        /// Its name.
        program: &'static str,
        /// What the system says.
        problem: io::Error,
    },
    /// A program says no.
    #[error("{command}: {said}; --apply nftables needs CAP_NET_ADMIN and nftables in the kernel")]
    Failed {
        /// What was run.
        command: String,
        /// The first line of what it said.
        said: String,
    },
    /// A program did not come to an end.
    #[error("{command}: no end within {seconds} s")]
    TooLong {
        /// What was run.
        command: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The system has no random numbers.
    #[error("drawing random numbers: {0}")]
    Random(getrandom::Error),
    /// The script's thread cannot be started.
    #[error("running the script: {0}")]
    Thread(io::Error),
}

/// An event of a lease.
pub(super) struct Scene<'a> {
    /// What happened.
    pub(super) what: Happening,
    /// To which lease. What is over is over, but the script wants to know what it was.
    pub(super) lease: &'a Lease,
    /// What it was before it changed.
    pub(super) former: Option<Assignment>,
    /// The options of the last ACK.
    pub(super) received: &'a Received,
    /// When.
    pub(super) at: Reading,
}

/// All that is to be kept in accordance with the lease.
#[derive(Debug)]
pub(super) struct Applier {
    interface: String,
    // The rules go before the script hears that the client stops.
    softwire: Option<Softwire>,
    script: Option<Script>,
    softwire_name: Option<String>,
    /// Whether the present trouble with the softwire was logged.
    complained: bool,
}

impl Applier {
    /// Prepares what is asked for. Nothing passes the softwire from now on until there is a lease.
    pub(super) fn start(arguments: &ApplyArguments, interface: &str) -> Result<Self, ApplyError> {
        let softwire = match &arguments.softwire {
            // req-X4 (RFC 7618 §2): not on a medium that others share.
            Some(name) if name == interface => {
                return Err(ApplyError::SameInterface(name.clone()));
            }
            Some(name) => {
                let seed = getrandom::u32().map_err(ApplyError::Random)?;
                Some(Softwire::open(name, arguments.route, seed)?)
            }
            None => None,
        };
        let script = arguments.script.as_deref();
        let script = script.map(|program| Script::start(program, arguments.script_timeout));
        Ok(Applier {
            interface: interface.to_owned(),
            softwire,
            script: script.transpose().map_err(ApplyError::Thread)?,
            softwire_name: arguments.softwire.clone(),
            complained: false,
        })
    }

    /// Follows an event. Whoever hears of a lease from here on finds its rules in place.
    pub(super) fn follow(&mut self, scene: &Scene<'_>) {
        let &Scene { what, lease, former, received, at } = scene;
        let holds = !matches!(what, Happening::Lost(_));
        if let Some(softwire) = &mut self.softwire {
            let outcome = if holds { softwire.hold(lease, at.now.0) } else { softwire.let_go() };
            self.complained = outcome.is_err();
            if let Err(problem) = outcome {
                error!("{problem}");
            }
        }
        let Some(script) = &self.script else { return };
        let mut variables = self.variables(what.into());
        variables.put_lease(lease, |moment| at.unix_seconds(moment));
        if let Some(former) = former {
            variables.put_former(former);
        }
        if holds {
            variables.put_received(received);
        }
        script.tell(variables, what == Happening::Renewed);
    }

    /// req-C11 (RFC 7341 §9): plain DHCPv4 on the interface has to stop, or may start again. Who runs it is the
    /// script's to know.
    pub(super) fn tell_native(&self, stops: bool) {
        let occasion = if stops { Occasion::NativeStop } else { Occasion::NativeStart };
        if let Some(script) = &self.script {
            script.tell(self.variables(occasion), false);
        }
    }

    /// Tries again what failed. To be called every few seconds.
    pub(super) fn look_after(&mut self, now: Moment) {
        let Some(softwire) = &mut self.softwire else { return };
        match softwire.look_after(now.0) {
            Ok(()) => self.complained = false,
            Err(_) if self.complained => {}
            Err(problem) => {
                warn!("{problem}; trying again every few seconds");
                self.complained = true;
            }
        }
    }

    fn variables(&self, occasion: Occasion) -> Variables {
        let mut variables = Variables::new(occasion, &self.interface);
        if let Some(name) = &self.softwire_name {
            variables.put("SOFTWIRE", name);
        }
        variables
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.softwire = None;
        if let Some(script) = &self.script {
            script.tell(self.variables(Occasion::Stop), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_softwires_name_can_stand_in_a_rule() {
        for good in ["sw0", "lw4o6-wan.100", "a_b"] {
            assert_eq!(softwire_name(good), Ok(good.to_owned()));
        }
        for bad in ["", "sw*", "a b", "a\"b", "sw0;", "sixteen-letters-"] {
            assert!(softwire_name(bad).is_err(), "{bad}");
        }
    }
}
