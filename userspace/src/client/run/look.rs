//! What the client looks at now and then: who the servers are, the interface's addresses, the ways out.

use std::{io::Write, time::Duration};

use tracing::{info, warn};

use super::{Client, ClientError, Progress, Step, described, read_clocks};
use crate::{
    client::{
        servers_file::Content,
        session::{Event, Session},
        sockets::{self, Route},
        timers::Moment,
    },
    net::link::Interface,
    wire::dhcpv6::ALL_RELAYS_AND_SERVERS,
};

/// How often the world is looked at: the addresses of the interface, the servers file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The same as long as something is waited for.
const WAIT_INTERVAL: Duration = Duration::from_millis(200);

impl<W: Write> Client<'_, W> {
    /// Looks, when it is time, what has changed about the world: the servers, the interface, the way out.
    pub(super) fn check(&mut self, session: &mut Session) -> Result<Step, ClientError> {
        while read_clocks().now >= self.next_check {
            self.next_check = Moment(u64::MAX);
            self.applier.look_after(read_clocks().now);
            let step = match self.look(session) {
                Ok(step) => step,
                // What never worked is the operator's to mend; what did comes back, perhaps.
                Err(error) if self.is_fatal(&error, session) => return Err(error),
                Err(error) => {
                    self.complain(&format!("{error}; waiting for it to pass"));
                    Step::Continue
                }
            };
            if let exit @ Step::Exit(_) = step {
                return Ok(exit);
            }
            let interval = if self.is_settled() { CHECK_INTERVAL } else { WAIT_INTERVAL };
            self.next_check = self.next_check.min(read_clocks().now.plus(interval));
        }
        Ok(Step::Continue)
    }

    fn is_fatal(&self, error: &ClientError, session: &Session) -> bool {
        match (error, self.progress) {
            (_, Progress::Waiting) => true,
            // Interfaces come and go.
            (ClientError::Interface(_), _) | (_, Progress::Asking) => false,
            (_, Progress::Begun) => session.lease().is_none(),
        }
    }

    /// Closes the sockets, to open them anew and ask anew who the servers are.
    pub(super) fn reopen(&mut self) {
        self.sockets.close();
        self.link_local = None;
        self.next_check = Moment::default();
    }

    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            warn!("{what}");
        }
    }

    /// Whether nothing is being waited for but news.
    fn is_settled(&self) -> bool {
        match self.progress {
            Progress::Waiting => false,
            Progress::Begun => self.servers.is_none(),
            Progress::Asking => true,
        }
    }

    fn look(&mut self, session: &mut Session) -> Result<Step, ClientError> {
        let interface = Interface::read(&self.arguments.interface)?;
        if std::mem::replace(&mut self.index, interface.index) != interface.index {
            // Another interface of the same name: the sockets belong to the former one.
            self.reopen();
            self.next_check = Moment(u64::MAX);
        }
        if self.addresses != interface.addresses {
            self.addresses.clone_from(&interface.addresses);
            if let exit @ Step::Exit(_) = self.feed(session, Event::Addresses(&interface.addresses))
            {
                return Ok(exit);
            }
        }
        let steps = [Self::look_for_servers, Self::look_for_ways];
        for step in steps {
            if let exit @ Step::Exit(_) = step(self, session, &interface)? {
                return Ok(exit);
            }
        }
        Ok(Step::Continue)
    }

    /// Sees to it that the servers are asked for, or reads who they are.
    fn look_for_servers(
        &mut self,
        session: &mut Session,
        interface: &Interface,
    ) -> Result<Step, ClientError> {
        if let Some(file) = &mut self.servers_file {
            let content = match file.read() {
                Err(error) if self.progress == Progress::Waiting => return Err(error.into()),
                // Half of a file must not cost a lease.
                Err(error) => {
                    warn!("servers file {error}; going by what it said before");
                    Content::Same
                }
                Ok(content) => content,
            };
            self.begin();
            return Ok(match content {
                Content::Same => Step::Continue,
                Content::Absent => self.feed(session, Event::Servers(None)),
                Content::Present(servers) => self.feed(session, Event::Servers(Some(&servers))),
            });
        }
        if !self.discovers() {
            let begins = self.begin();
            return Ok(if begins { self.feed(session, Event::Start) } else { Step::Continue });
        }
        let Some(route) = self.information_route(interface) else {
            self.complain(&format!("waiting for a link-local address on {}", interface.name));
            // When one is there again, it may be another link's.
            self.link_local = None;
            return Ok(Step::Continue);
        };
        let former = self.link_local.replace(route.source);
        if former == self.link_local {
            return Ok(Step::Continue);
        }
        self.sockets.follow(Some(route), self.sockets.routes().to_vec(), &self.sender)?;
        // req-C1 (RFC 7341 §5): there is an address to ask from, and a network to ask.
        let event = if self.begin() { Event::Start } else { Event::Again };
        Ok(self.feed(session, event))
    }

    /// The session begins. Returns whether it had not.
    fn begin(&mut self) -> bool {
        let waited = self.progress == Progress::Waiting;
        if waited {
            self.progress = Progress::Begun;
        }
        waited
    }

    fn discovers(&self) -> bool {
        let arguments = self.arguments;
        !arguments.multicast && arguments.servers.is_empty() && arguments.servers_file.is_none()
    }

    fn information_route(&self, interface: &Interface) -> Option<Route> {
        let port = self.arguments.server_port;
        sockets::route(interface, ALL_RELAYS_AND_SERVERS, port).filter(|_| self.discovers())
    }

    /// Finds the ways to the servers and whether they begin at another address than before. An address that is gone
    /// is missed only when another has come: interfaces go down and come up again.
    fn look_for_ways(
        &mut self,
        session: &mut Session,
        interface: &Interface,
    ) -> Result<Step, ClientError> {
        let information = self.information_route(interface);
        let Some(servers) = &self.servers else {
            self.sockets.follow(information, Vec::new(), &self.sender)?;
            return Ok(Step::Continue);
        };
        let port = self.arguments.server_port;
        let Some(routes) = sockets::routes(interface, servers.addresses(), port) else {
            self.complain(&format!(
                "waiting for an IPv6 address on {} from which {servers} can be asked",
                interface.name
            ));
            return Ok(Step::Continue);
        };
        let sources = sockets::sources(&routes);
        let destinations = u32::try_from(routes.len()).unwrap_or(u32::MAX);
        self.sockets.follow(information, routes, &self.sender)?;
        self.complained = false;
        let former = std::mem::replace(&mut self.sources, sources);
        if !former.is_empty() && former != self.sources {
            info!("queries leave by another address now: {}", described(self.sockets.routes()));
            // req-C28 (RFC 7618 §6, §7): then the lease is not renewed, but asked for anew.
            if let exit @ Step::Exit(_) = self.feed(session, Event::SourceChanged) {
                return Ok(exit);
            }
        }
        if std::mem::replace(&mut self.progress, Progress::Asking) == Progress::Asking {
            return Ok(Step::Continue);
        }
        info!("asking {}", described(self.sockets.routes()));
        let unix_seconds = read_clocks().unix_ms / 1000;
        let memory = self.state.memory(self.arguments.request, &self.sources, unix_seconds);
        let offer_wait = self.arguments.offer_wait(destinations);
        Ok(self.feed(session, Event::Reachable { destinations, memory, offer_wait }))
    }
}
