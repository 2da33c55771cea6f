//! Interfaces: what is attached to each, and what is done when one goes down, comes up, vanishes or changes.
//!
//! A site is served by XDP, by the ordinary socket, or not at all, and once a second it is looked at whether that is
//! still so. What can be mended without a restart is mended: an interface that comes back is attached again.

use std::ops::Range;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::{
    engine::{Engine, policy::Policy},
    lease::{Leases, key::IdentitySecret, stamp::Now},
    net::{
        link::{Change, Facts, Published, Watch},
        sys::allowed_cpus,
        udp::{Membership, UdpError, UdpOptions, UdpPort},
    },
};

use super::{
    config::{Compiled, Datapath, Plan},
    crew::Crew,
    datapath::{self, Attached, Wanted},
    metrics::Snapshot,
};

/// Between two attempts to serve what could not be served.
const RETRY_MILLISECONDS: u64 = 10_000;

/// Why nothing can be received.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The interface cannot be served by XDP, and by nothing else may it be.
    #[error("interface {interface} cannot be served: {reasons}; {hint}")]
    NotAttached {
        /// Its name.
        interface: String,
        /// What was tried and why it failed.
        reasons: String,
        /// What could be changed.
        hint: &'static str,
    },
    /// The ordinary socket, or membership in the multicast groups.
    #[error(transparent)]
    Socket(#[from] UdpError),
    /// A worker's thread.
    #[error("cannot start a worker: {0}")]
    Thread(#[from] std::io::Error),
}

/// How a site is served.
enum Service {
    /// By AF_XDP sockets; what XDP passes on goes to the ordinary socket, if there is one.
    Xdp(Box<Attached>),
    /// By the ordinary socket alone.
    Socket,
    /// Not at all: it is down, gone, or could not be attached when last tried.
    Nothing,
}

/// An interface.
struct Site {
    watch: Watch,
    name: String,
    /// What its ports know of it.
    published: Arc<Published>,
    /// Berths of its queues.
    berths: Range<usize>,
    service: Service,
    /// Membership in the multicast groups where no ordinary socket has it, lest the interface filter them.
    membership: Option<Membership>,
}

/// All interfaces, and the ordinary socket.
pub struct Sites {
    all: Vec<Site>,
    compiled: Compiled,
    leases: Arc<Leases>,
    secret: IdentitySecret,
    engine: Arc<Engine>,
    /// Cores that workers may have.
    cpus: Vec<usize>,
    /// What could not be served is not tried again before.
    retry_at: Now,
    /// Counters of programs that were detached.
    detached: Snapshot,
}

/// How many berths the interfaces need: one a queue, and one for the ordinary socket.
pub fn berths(facts: &[Facts]) -> usize {
    facts.iter().map(|facts| facts.queues as usize).sum::<usize>() + 1
}

/// Cores for the workers of queues: those that the plan names, else all that this process may use.
fn worker_cpus(plan: &Plan) -> Vec<usize> {
    match &plan.cpus[..] {
        [] => allowed_cpus().unwrap_or_default(),
        cpus => cpus.to_vec(),
    }
}

/// The core of the worker in `berth`.
fn cpu_of(berth: usize, cpus: &[usize]) -> Option<usize> {
    cpus.get(berth % cpus.len().max(1)).copied()
}

/// Cores that the journal may run on: those of this process that no queue of `facts` needs, and all if there are none.
pub fn journal_cpus(facts: &[Facts], plan: &Plan) -> Vec<usize> {
    let allowed = allowed_cpus().unwrap_or_default();
    let queues = if plan.datapath == Datapath::Socket { 0 } else { berths(facts) - 1 };
    let cpus = worker_cpus(plan);
    free_of(&allowed, (0..queues).filter_map(|berth| cpu_of(berth, &cpus)))
}

/// Those of `allowed` that are not `taken`, or all of them.
fn free_of(allowed: &[usize], taken: impl Iterator<Item = usize>) -> Vec<usize> {
    let taken: Vec<usize> = taken.collect();
    let free: Vec<usize> = allowed.iter().copied().filter(|cpu| !taken.contains(cpu)).collect();
    if free.is_empty() { allowed.to_vec() } else { free }
}

impl Sites {
    /// The interfaces of `facts`, which are those of the plan, none of them served yet.
    pub fn new(
        facts: Vec<Facts>,
        compiled: Compiled,
        leases: Arc<Leases>,
        secret: IdentitySecret,
    ) -> Self {
        let engine = Engine::new(compiled.policy.clone(), leases.clone(), secret);
        let mut first = 0;
        let site = |facts: Facts| {
            let berths = first..first + facts.queues as usize;
            first = berths.end;
            Site {
                name: facts.name.clone(),
                published: Arc::new(Published::new(facts.reach())),
                watch: Watch::new(facts),
                berths,
                service: Service::Nothing,
                membership: None,
            }
        };
        let all = facts.into_iter().map(site).collect();
        let cpus = worker_cpus(&compiled.plan);
        let (engine, detached) = (Arc::new(engine), Snapshot::default());
        Self { all, compiled, leases, secret, engine, cpus, retry_at: Now(0), detached }
    }

    /// Attaches everything and starts the workers, at birth: what does not work is an error.
    pub fn open(&mut self, crew: &mut Crew) -> Result<(), SiteError> {
        // First, because it is what another server on this host would be in the way of.
        self.open_socket(crew)?;
        for index in 0..self.all.len() {
            if self.all[index].is_up() {
                self.attach(index, crew)?;
            } else {
                let name = &self.all[index].name;
                warn!("interface {name} is down; it will be served when it comes up");
            }
        }
        Ok(())
    }

    /// Attaches one interface by XDP, or leaves it to the ordinary socket.
    fn attach(&mut self, index: usize, crew: &mut Crew) -> Result<(), SiteError> {
        let (plan, site) = (&self.compiled.plan, &mut self.all[index]);
        let Some(facts) = site.watch.facts().cloned() else { return Ok(()) };
        let name = &facts.name;
        if plan.datapath == Datapath::Socket {
            info!("interface {name}: by the ordinary socket, as configured");
            site.service = Service::Socket;
            return Ok(());
        }
        if !plan.udp && site.membership.is_none() {
            site.membership = Some(Membership::join(&facts)?);
        }
        let cpus: Vec<Option<usize>> = site
            .berths
            .clone()
            .take(facts.queues as usize)
            .map(|berth| cpu_of(berth, &self.cpus))
            .collect();
        let wanted = Wanted {
            facts: &facts,
            published: &site.published,
            listen: &plan.listen,
            datapath: plan.datapath,
            cpus: &cpus,
        };
        let (attached, ports) = match datapath::attach(&wanted) {
            Ok(attached) => attached,
            Err(reasons) if plan.datapath == Datapath::Auto && plan.udp => {
                warn!("interface {name}: falling back to the ordinary socket: {reasons}");
                site.service = Service::Socket;
                return Ok(());
            }
            Err(reasons) => {
                let hint = if plan.udp {
                    "server.datapath = \"auto\" would fall back to the ordinary socket"
                } else {
                    "server.udp = true would let the ordinary socket serve it"
                };
                return Err(SiteError::NotAttached { interface: facts.name, reasons, hint });
            }
        };
        let on = if cpus.len() == 1 { "queue on core" } else { "queues on cores" };
        let cores: Vec<String> =
            cpus.iter().map(|cpu| cpu.map_or("any".to_owned(), |cpu| cpu.to_string())).collect();
        info!(
            "interface {name}: attached by {}, {}, {} {on} {}",
            attached.mode(),
            datapath::copies(&ports),
            cpus.len(),
            cores.join(", ")
        );
        site.service = Service::Xdp(Box::new(attached));
        for ((berth, cpu), port) in site.berths.clone().zip(cpus).zip(ports) {
            let worker = format!("{name}/{}", berth - site.berths.start);
            crew.start(berth, &worker, cpu, self.engine.clone(), port)?;
        }
        Ok(())
    }

    /// Opens the ordinary socket on all interfaces that exist, and starts its worker.
    fn open_socket(&mut self, crew: &mut Crew) -> Result<(), SiteError> {
        if !self.compiled.plan.udp {
            info!("ordinary socket: off, port 547 is left to another server");
            return Ok(());
        }
        let facts = self
            .all
            .iter()
            .filter_map(|site| Some((site.watch.facts()?.clone(), Arc::clone(&site.published))));
        let facts: Vec<_> = facts.collect();
        if facts.is_empty() {
            return Ok(());
        }
        let port = UdpPort::open(&facts, &self.compiled.plan.listen, UdpOptions::default())?;
        let names: Vec<&str> = facts.iter().map(|(facts, _)| facts.name.as_str()).collect();
        info!("ordinary socket: port 547 on {}", names.join(", "));
        crew.start(self.socket_berth(), "socket", None, self.engine.clone(), port)?;
        Ok(())
    }

    /// What is decided by.
    pub fn policy(&self) -> &Policy {
        self.engine.policy()
    }

    /// The DUID in replies to Information-requests; none if they are not answered.
    pub fn server_duid(&self) -> Option<&[u8]> {
        self.engine.server_duid()
    }

    fn socket_berth(&self) -> usize {
        self.all.last().map_or(0, |site| site.berths.end)
    }

    /// A worker has ended by itself: its site, or the socket, is opened again soon.
    pub fn lost(&mut self, berth: usize, crew: &mut Crew) {
        if let Some(index) = self.all.iter().position(|site| site.berths.contains(&berth)) {
            self.detach(index, crew);
        }
    }

    /// Looks what has become of the interfaces, and does something about it.
    pub fn look(&mut self, crew: &mut Crew, now: Now) {
        for index in 0..self.all.len() {
            match self.all[index].watch.poll() {
                Ok(changes) => {
                    for change in changes {
                        self.follow(index, &change, crew);
                    }
                }
                Err(error) => warn!("{error}"),
            }
        }
        if now >= self.retry_at {
            self.mend(crew, now);
        }
    }

    fn follow(&mut self, index: usize, change: &Change, crew: &mut Crew) {
        let site = &mut self.all[index];
        let name = site.name.clone();
        if let Some(facts) = site.watch.facts() {
            site.published.publish(facts.reach());
        }
        match change {
            Change::Vanished => {
                error!("interface {name} {change}: it is not served until it is back");
                self.detach(index, crew);
                self.renew_socket(crew);
            }
            Change::Appeared | Change::Replaced { .. } | Change::Queues { .. } => {
                warn!("interface {name} {change}: attaching it again");
                self.detach(index, crew);
                self.renew_socket(crew);
            }
            Change::Down => warn!("interface {name} {change}: nothing is received there"),
            Change::NoCarrier => warn!("interface {name} {change}"),
            Change::Mac { to } => {
                warn!("interface {name} {change}");
                if let Service::Xdp(attached) = &mut site.service
                    && let Err(error) = attached.set_mac(*to)
                {
                    error!("interface {name}: {error}");
                }
            }
            Change::Up | Change::Carrier | Change::Mtu { .. } | Change::Addresses => {
                info!("interface {name} {change}");
            }
        }
    }

    /// Stops the workers of a site and takes the program off it.
    fn detach(&mut self, index: usize, crew: &mut Crew) {
        let site = &mut self.all[index];
        crew.stop(site.berths.clone());
        if let Service::Xdp(attached) = std::mem::replace(&mut site.service, Service::Nothing) {
            attached.count_into(&mut self.detached);
        }
        site.membership = None;
        self.retry_at = Now(0);
    }

    /// The ordinary socket has a part on each interface: it is closed here, and opened with those that are there.
    fn renew_socket(&mut self, crew: &mut Crew) {
        crew.stop([self.socket_berth()]);
        self.retry_at = Now(0);
    }

    /// Serves again what can be served again. What cannot is tried again later.
    fn mend(&mut self, crew: &mut Crew, now: Now) {
        let waits = |site: &Site| matches!(site.service, Service::Nothing) && site.is_up();
        let waiting: Vec<usize> =
            (0..self.all.len()).filter(|index| waits(&self.all[*index])).collect();
        let exists = self.all.iter().any(|site| site.watch.facts().is_some());
        let no_socket = self.compiled.plan.udp && exists && !crew.is_working(self.socket_berth());
        if waiting.is_empty() && !no_socket {
            return;
        }
        self.know_interfaces();
        let mut problems = Vec::new();
        for index in waiting {
            problems.extend(self.attach(index, crew).err());
        }
        if no_socket {
            problems.extend(self.open_socket(crew).err());
        }
        for problem in problems {
            error!("{problem}; trying again in {} s", RETRY_MILLISECONDS / 1000);
            self.retry_at = Now(now.0 + RETRY_MILLISECONDS);
        }
    }

    /// Makes the matches by interface right again: one that came back has another index.
    fn know_interfaces(&mut self) {
        let index_of = |name: &str| {
            let site = self.all.iter().find(|site| site.name == name)?;
            // Of one that is away nothing can come: no interface has this index.
            Some(site.watch.facts().map_or(u32::MAX, |facts| facts.index))
        };
        let known = self.compiled.resolve(index_of, String::new);
        debug_assert!(known.is_ok(), "all interfaces of the configuration are sites");
        let policy = self.compiled.policy.clone();
        self.engine = Arc::new(Engine::new(policy, self.leases.clone(), self.secret));
    }

    /// Adds what the programs have counted.
    pub fn count_into(&self, snapshot: &mut Snapshot) {
        snapshot.add_all(&self.detached);
        for site in &self.all {
            if let Service::Xdp(attached) = &site.service {
                attached.count_into(snapshot);
            }
        }
    }
}

impl Site {
    fn is_up(&self) -> bool {
        self.watch.facts().is_some_and(|facts| facts.is_up)
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        for site in &mut self.all {
            if let Service::Xdp(_) = std::mem::replace(&mut site.service, Service::Nothing) {
                info!("interface {}: detached", site.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_the_cores_that_workers_leave_or_all() {
        assert_eq!(free_of(&[0, 1, 2], [0, 2].into_iter()), [1]);
        assert_eq!(free_of(&[0, 1], [0, 1].into_iter()), [0, 1]);
        assert_eq!(free_of(&[4], std::iter::empty()), [4]);
    }
}
