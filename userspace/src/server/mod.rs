//! Threads, configuration, the operator: birth and death of everything, in order.
//!
//! - [`config`]: what the operator wants, checked and compiled.
//! - [`store`]: the lease log, opened and read back.
//! - [`worker`]: one a queue; receives, answers, promises, sends. [`crew`] has their threads.
//! - [`sites`]: the interfaces; attaches, follows what becomes of them, and attaches again.
//! - [`control`]: signals, the watch over what must move ([`vigil`]), and the counters ([`metrics`]).

pub mod clock;
pub mod config;
pub mod control;
pub mod crew;
mod datapath;
mod gather;
pub mod metrics;
pub mod signals;
pub mod sites;
pub mod store;
pub mod sweep;
#[cfg(test)]
mod testing;
pub mod vigil;
pub mod worker;

use std::io;
use std::sync::{Arc, mpsc};

use tracing::{info, warn};

use crate::{
    journal::{Hooks, Journal},
    lease::promise::Watermarks,
    net::{
        link::{self, Facts, LinkError},
        sys,
    },
};

use self::{
    config::{Compiled, ConfigError, Datapath},
    control::{Control, Scene},
    crew::Crew,
    signals::SignalThread,
    sites::{SiteError, Sites},
    store::{Opened, StoreError},
    sweep::Pace,
};

/// The journal's priority in the real-time class: enough to pass all that is not real-time.
const JOURNAL_PRIORITY: i32 = 1;

/// What the operator accepts at this start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A part of the log that is unreadable.
    pub accept_loss: bool,
    /// A clock that is behind the last lease.
    pub accept_clock: bool,
}

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration does not fit this machine.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An interface.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing can be received.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// What the configuration asks for needs more than the process may.
    #[error(
        "datapath = \"{datapath}\" needs the capabilities {missing}, which this process has not"
    )]
    Privileges {
        /// As configured.
        datapath: Datapath,
        /// Their names.
        missing: String,
    },
    /// The system refuses something that it never should.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl RunError {
    /// Whether the configuration is to be changed.
    pub fn is_configuration(&self) -> bool {
        matches!(self, RunError::Config(_))
    }
}

fn refused(action: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { action, source }
}

/// Serves until SIGTERM or SIGINT, then drains, detaches and returns.
pub fn run(mut compiled: Compiled, options: Options) -> Result<(), RunError> {
    abort_on_panic();
    let (sender, events) = mpsc::channel();
    let signals = SignalThread::start(sender.clone()).map_err(refused("handle signals"))?;
    for notice in &compiled.plan.notices {
        warn!("{notice}");
    }
    compiled.resolve(interface_index, present_interfaces)?;
    check_privileges(compiled.plan.datapath)?;
    let named = compiled.plan.interfaces.iter();
    let facts = named.map(|named| Facts::read(&named.name)).collect::<Result<Vec<_>, _>>()?;
    let berths = sites::berths(&facts);

    let watermarks = Arc::new(Watermarks::new(berths));
    let Some(opened) = store::open(&compiled, watermarks.clone(), options, &events)? else {
        return Ok(());
    };
    let Opened { log, leases, secret, clock } = opened;
    let pace = Arc::new(Pace::new(leases.shards(), clock.now()));
    let cpus = sites::journal_cpus(&facts, &compiled.plan);
    let crew = Crew::new(watermarks, clock, pace.clone(), sender, cpus.clone());
    let mut crew = crew.map_err(refused("make the workers' bells"))?;
    let hooks = Hooks { on_start: Box::new(move || favour_journal(&cpus)), ..Hooks::default() };
    let journal = Journal::spawn(crew.lanes(), log, move || clock.now(), hooks);
    let journal = journal.map_err(refused("start the journal"))?;
    let mut sites = Sites::new(facts, compiled, leases.clone(), secret);
    sites.open(&mut crew)?;
    if let Some(duid) = sites.server_duid() {
        let duid = duid.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
        info!("information-requests are answered, as server DUID {duid}");
    }
    info!("ready: {}", describe(&sites, &crew));

    let mut control = Control::new(Scene { leases, clock, pace, crew, sites }, journal);
    control.run(&events);
    info!("stopping: nothing more is received; what was promised is made durable and sent");
    control.finish();
    drop(signals);
    Ok(())
}

/// Fails before anything is touched if XDP is a must and cannot be.
fn check_privileges(datapath: Datapath) -> Result<(), RunError> {
    let missing = sys::missing_capabilities(&sys::XDP_CAPABILITIES);
    let must = matches!(datapath, Datapath::Native | Datapath::Generic);
    if must && !missing.is_empty() {
        return Err(RunError::Privileges { datapath, missing: missing.join(", ") });
    }
    Ok(())
}

fn describe(sites: &Sites, crew: &Crew) -> String {
    let policy = sites.policy();
    let pools: usize = policy.links.iter().map(|link| link.shared.len() + link.full.len()).sum();
    format!("{} workers serve {} links with {pools} pools", crew.working(), policy.links.len())
}

fn interface_index(name: &str) -> Option<u32> {
    Facts::read(name).ok().map(|facts| facts.index)
}

fn present_interfaces() -> String {
    link::names().unwrap_or_default().join(", ")
}

/// What a thread has not finished when it panics is not known: the log has the truth, and a restart reads it.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// The journal is the one that everybody waits for: measured, a busy core lets a thread of the normal class commit
/// 260 times a second and a real-time one 12,000 times. Its class does not care whom it interrupts, so it has to be
/// told which cores the workers leave free.
fn favour_journal(cpus: &[usize]) {
    if let Err(error) = sys::pin_to_cpus(cpus) {
        warn!("the journal runs on any core, also on those of workers: {error}");
    }
    if let Err(error) = sys::set_round_robin(JOURNAL_PRIORITY) {
        warn!(
            "the journal has no real-time priority ({error}): replies take longer on busy cores; \
             CAP_SYS_NICE gives it"
        );
    }
}
