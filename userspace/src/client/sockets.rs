//! Where queries leave from and go to (RFC 7341 §9), and the sockets for it.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::Duration,
};

use super::error::ClientError;
use crate::{net::link::Interface, wire::dhcpv6::ALL_RELAYS_AND_SERVERS};

/// How long a socket that is no longer needed may go on listening.
const LISTEN_INTERVAL: Duration = Duration::from_secs(1);

/// The largest UDP payload.
const DATAGRAM_LENGTH_MAX: usize = 65_535;

/// One destination, and the address that queries to it come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Source address.
    pub(super) source: Ipv6Addr,
    /// Interface index if the source is link-local, else 0.
    pub(super) source_scope: u32,
    /// Where to.
    pub(super) destination: SocketAddrV6,
}

/// What a socket heard.
pub(super) enum Heard {
    /// A UDP payload.
    Datagram(Vec<u8>),
    /// The socket cannot be read any more.
    Failed(io::Error),
}

/// The servers without their repetitions (RFC 7341 §12: "MUST ignore all but the first instance").
pub(super) fn unique(servers: &[Ipv6Addr]) -> Vec<Ipv6Addr> {
    let mut kept = Vec::with_capacity(servers.len());
    for server in servers {
        if !kept.contains(server) {
            kept.push(*server);
        }
    }
    kept
}

/// A route to every server, or to `ff02::1:2` if none is named. `None` as long as one of them has no usable source
/// address.
pub(super) fn routes(interface: &Interface, servers: &[Ipv6Addr], port: u16) -> Option<Vec<Route>> {
    let link_local = interface.addresses.iter().find(|ip| ip.is_unicast_link_local());
    let route = |server: Ipv6Addr| {
        let local = server.is_unicast_link_local() || is_link_scope_group(server);
        let scope = if local { interface.index } else { 0 };
        let destination = SocketAddrV6::new(server, port, 0, scope);
        if local {
            // RFC 7341 §9: from a link-local address to the group.
            let source = *link_local?;
            return Some(Route { source, source_scope: interface.index, destination });
        }
        let source = preferred_source(destination)?;
        let scope = if source.is_unicast_link_local() { interface.index } else { 0 };
        Some(Route { source, source_scope: scope, destination })
    };
    if servers.is_empty() {
        return route(ALL_RELAYS_AND_SERVERS).map(|route| vec![route]);
    }
    unique(servers).into_iter().map(route).collect()
}

fn is_link_scope_group(address: Ipv6Addr) -> bool {
    address.octets().first() == Some(&0xff) && address.octets().get(1).is_some_and(|o| o & 15 == 2)
}

/// The address that the kernel would send from (RFC 6724). No packet leaves for it.
fn preferred_source(destination: SocketAddrV6) -> Option<Ipv6Addr> {
    let probe = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    probe.connect(destination).ok()?;
    match probe.local_addr().ok()? {
        SocketAddr::V6(local) => Some(*local.ip()),
        SocketAddr::V4(_) => None,
    }
}

/// The distinct source addresses of `routes`, in ascending order.
pub(super) fn sources(routes: &[Route]) -> Vec<Ipv6Addr> {
    let mut sources: Vec<Ipv6Addr> = routes.iter().map(|route| route.source).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

/// A bound socket and the thread that listens on it. Dropped, both end soon after.
struct Listener {
    source: Ipv6Addr,
    scope: u32,
    socket: Arc<UdpSocket>,
    stop: Arc<AtomicBool>,
}

impl Listener {
    fn open<T: From<Heard> + Send + 'static>(
        route: &Route,
        port: u16,
        heard: &SyncSender<T>,
    ) -> Result<Self, ClientError> {
        let (address, scope) = (route.source, route.source_scope);
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Privilege { address, port },
            io::ErrorKind::AddrInUse => ClientError::PortTaken { address, port },
            _ => ClientError::Socket { address, port, source },
        };
        let socket = UdpSocket::bind(SocketAddrV6::new(address, port, 0, scope)).map_err(fail)?;
        socket.set_read_timeout(Some(LISTEN_INTERVAL)).map_err(fail)?;
        let (socket, stop) = (Arc::new(socket), Arc::new(AtomicBool::new(false)));
        let listener = Listener {
            source: address,
            scope,
            socket: Arc::clone(&socket),
            stop: Arc::clone(&stop),
        };
        let heard = heard.clone();
        thread::Builder::new()
            .name("listen".into())
            .spawn(move || listen(&socket, &stop, &heard))
            .map_err(fail)?;
        Ok(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Passes on what comes in, until it is told to stop or nobody takes it any more.
fn listen<T: From<Heard>>(socket: &UdpSocket, stop: &AtomicBool, heard: &SyncSender<T>) {
    let mut buffer = vec![0; DATAGRAM_LENGTH_MAX];
    while !stop.load(Ordering::Relaxed) {
        let message = match socket.recv(&mut buffer) {
            Ok(length) => Heard::Datagram(buffer.get(..length).unwrap_or_default().to_vec()),
            Err(error) if is_passing(&error) => continue,
            Err(error) => {
                // The driver opens another one; going round and round on a broken one helps nobody.
                let _ = heard.send(Heard::Failed(error).into());
                return;
            }
        };
        if heard.send(message.into()).is_err() {
            return;
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted | ConnectionRefused)
}

/// The sockets of all routes: one a source address.
pub(super) struct Sockets {
    port: u16,
    routes: Vec<Route>,
    listeners: Vec<Listener>,
}

impl Sockets {
    /// None yet; all that come will be bound to this UDP port.
    pub(super) fn new(port: u16) -> Self {
        Sockets { port, routes: Vec::new(), listeners: Vec::new() }
    }

    /// The present routes.
    pub(super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Changes over to other routes. What is heard from now on goes to `heard`.
    pub(super) fn follow<T: From<Heard> + Send + 'static>(
        &mut self,
        routes: Vec<Route>,
        heard: &SyncSender<T>,
    ) -> Result<(), ClientError> {
        self.listeners.retain(|listener| routes.iter().any(|route| is_from(route, listener)));
        for route in &routes {
            if !self.listeners.iter().any(|listener| is_from(route, listener)) {
                self.listeners.push(Listener::open(route, self.port, heard)?);
            }
        }
        self.routes = routes;
        Ok(())
    }

    /// Closes the sockets, so that [`follow`](Self::follow) opens all of them anew.
    pub(super) fn close(&mut self) {
        self.routes.clear();
        self.listeners.clear();
    }

    /// Sends a datagram to every destination. Each failure is reported; none keeps the others back.
    pub(super) fn send(&self, octets: &[u8]) -> Vec<(SocketAddrV6, io::Error)> {
        let send = |route: &Route| {
            let listener = self.listeners.iter().find(|listener| is_from(route, listener));
            let outcome = match listener {
                Some(listener) => listener.socket.send_to(octets, route.destination),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            outcome.err().map(|error| (route.destination, error))
        };
        self.routes.iter().filter_map(send).collect()
    }
}

fn is_from(route: &Route, listener: &Listener) -> bool {
    (route.source, route.source_scope) == (listener.source, listener.scope)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn k03_a_server_that_is_named_twice_is_asked_once() {
        let (a, b) = ("2001:db8::a".parse().unwrap(), "2001:db8::b".parse().unwrap());
        assert_eq!(unique(&[a, b, a]), [a, b]);
        assert_eq!(unique(&[]), [] as [Ipv6Addr; 0]);
    }

    #[test]
    fn k02_the_group_of_all_servers_is_of_link_scope() {
        assert!(is_link_scope_group(ALL_RELAYS_AND_SERVERS));
        assert!(!is_link_scope_group("ff05::1:3".parse().unwrap()));
        assert!(!is_link_scope_group("fe80::2".parse().unwrap()));
    }

    #[test]
    fn a_datagram_goes_to_every_server_once_and_the_answer_comes_back() {
        let interface = Interface::read("lo").unwrap();
        let server = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let servers = [Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST];
        let routes = routes(&interface, &servers, port).unwrap();
        assert_eq!(sources(&routes), [Ipv6Addr::LOCALHOST]);
        let (sender, receiver) = sync_channel::<Heard>(8);
        let mut sockets = Sockets::new(0);
        sockets.follow(routes.clone(), &sender).unwrap();
        assert!(sockets.send(b"query").is_empty());
        let mut buffer = [0; 64];
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"query");
        server.send_to(b"response", peer).unwrap();
        assert!(
            matches!(receiver.recv().unwrap(), Heard::Datagram(octets) if octets == b"response")
        );
        server.set_nonblocking(true).unwrap();
        assert!(server.recv_from(&mut buffer).is_err(), "sent twice");
        // The same source: the socket stays.
        let before = Arc::as_ptr(&sockets.listeners[0].socket);
        sockets.follow(routes, &sender).unwrap();
        assert_eq!(Arc::as_ptr(&sockets.listeners[0].socket), before);
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let destination = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 547, 0, 0);
        let route = Route { source: Ipv6Addr::LOCALHOST, source_scope: 0, destination };
        let (sender, _receiver) = sync_channel::<Heard>(1);
        let error = Sockets::new(port).follow(vec![route], &sender).unwrap_err();
        assert!(matches!(error, ClientError::PortTaken { port: named, .. } if named == port));
    }
}
