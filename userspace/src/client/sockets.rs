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
use crate::net::{client::client_socket, link::Interface};

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

/// A route to every server. `None` as long as one of them has no usable source address.
pub(super) fn routes(interface: &Interface, servers: &[Ipv6Addr], port: u16) -> Option<Vec<Route>> {
    servers.iter().map(|&server| route(interface, server, port)).collect()
}

/// The way to one server, or to one group of them.
///
/// req-C4 (RFC 7341 §9): from a link-local address to groups, and else from one of fitting scope.
pub(super) fn route(interface: &Interface, server: Ipv6Addr, port: u16) -> Option<Route> {
    let local = server.is_unicast_link_local() || server.is_multicast();
    let scope = if local { interface.index } else { 0 };
    let destination = SocketAddrV6::new(server, port, 0, scope);
    let source = if local {
        interface.addresses.iter().copied().find(Ipv6Addr::is_unicast_link_local)?
    } else {
        preferred_source(&interface.name, destination)?
    };
    let source_scope = if source.is_unicast_link_local() { interface.index } else { 0 };
    Some(Route { source, source_scope, destination })
}

/// The address that the kernel would send from by this interface (RFC 6724). No packet leaves for it.
fn preferred_source(device: &str, destination: SocketAddrV6) -> Option<Ipv6Addr> {
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0);
    let probe = client_socket(device, any, false).ok()?;
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
        device: &str,
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
        let local = SocketAddrV6::new(address, port, 0, scope);
        let socket = match client_socket(device, local, false) {
            // A DHCPv6 client that has the port on all addresses speaks from the link-local one; if it
            // allows that, what comes to this one can be ours.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && scope == 0 => {
                client_socket(device, local, true)
            }
            outcome => outcome,
        };
        let socket = socket.map_err(fail)?;
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
    device: String,
    port: u16,
    /// To the DHCPv6 servers of the link.
    information: Option<Route>,
    /// To the servers that queries go to.
    routes: Vec<Route>,
    listeners: Vec<Listener>,
}

impl Sockets {
    /// None yet; all that come will be bound to this interface and this UDP port.
    pub(super) fn new(device: &str, port: u16) -> Self {
        let device = device.to_owned();
        Sockets { device, port, information: None, routes: Vec::new(), listeners: Vec::new() }
    }

    /// The present routes of queries.
    pub(super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Changes over to other routes. What is heard from now on goes to `heard`.
    pub(super) fn follow<T: From<Heard> + Send + 'static>(
        &mut self,
        information: Option<Route>,
        routes: Vec<Route>,
        heard: &SyncSender<T>,
    ) -> Result<(), ClientError> {
        let all = || routes.iter().chain(&information);
        self.listeners.retain(|listener| all().any(|route| is_from(route, listener)));
        for route in all() {
            if !self.listeners.iter().any(|listener| is_from(route, listener)) {
                self.listeners.push(Listener::open(&self.device, route, self.port, heard)?);
            }
        }
        self.information = information;
        self.routes = routes;
        Ok(())
    }

    /// Closes the sockets, so that [`follow`](Self::follow) opens all of them anew.
    pub(super) fn close(&mut self) {
        self.information = None;
        self.routes.clear();
        self.listeners.clear();
    }

    /// Sends a datagram to every server: the same octets to each.
    /// Each failure is reported; none keeps the others back.
    pub(super) fn send(&self, octets: &[u8]) -> Vec<(SocketAddrV6, io::Error)> {
        self.send_by(&self.routes, octets)
    }

    /// Sends a datagram to the DHCPv6 servers of the link.
    pub(super) fn inform(&self, octets: &[u8]) -> Vec<(SocketAddrV6, io::Error)> {
        self.send_by(self.information.as_slice(), octets)
    }

    fn send_by(&self, routes: &[Route], octets: &[u8]) -> Vec<(SocketAddrV6, io::Error)> {
        let send = |route: &Route| {
            let listener = self.listeners.iter().find(|listener| is_from(route, listener));
            let outcome = match listener {
                Some(listener) => listener.socket.send_to(octets, route.destination),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            outcome.err().map(|error| (route.destination, error))
        };
        routes.iter().filter_map(send).collect()
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
    fn c4_groups_are_spoken_to_from_a_link_local_address() {
        let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
        let addresses = vec!["2001:db8::1".parse().unwrap(), link_local];
        let interface = Interface { name: "lo".into(), index: 1, kind: 1, mac: None, addresses };
        for server in ["ff02::1:2", "ff05::1:3", "fe80::2"] {
            let route = route(&interface, server.parse().unwrap(), 547).unwrap();
            assert_eq!((route.source, route.source_scope), (link_local, 1), "{server}");
            assert_eq!(route.destination.scope_id(), 1, "{server}");
        }
        let without = Interface { addresses: Vec::new(), ..interface };
        assert_eq!(route(&without, "ff02::1:2".parse().unwrap(), 547), None);
    }

    #[test]
    fn a_datagram_goes_to_every_server_once_and_the_answer_comes_back() {
        let interface = Interface::read("lo").unwrap();
        let server = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let routes = routes(&interface, &[Ipv6Addr::LOCALHOST], port).unwrap();
        assert_eq!(sources(&routes), [Ipv6Addr::LOCALHOST]);
        let (sender, receiver) = sync_channel::<Heard>(8);
        let mut sockets = Sockets::new("lo", 0);
        sockets.follow(None, routes.clone(), &sender).unwrap();
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
        sockets.follow(None, routes, &sender).unwrap();
        assert_eq!(Arc::as_ptr(&sockets.listeners[0].socket), before);
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let destination = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 547, 0, 0);
        let route = Route { source: Ipv6Addr::LOCALHOST, source_scope: 0, destination };
        let (sender, _receiver) = sync_channel::<Heard>(1);
        let error = Sockets::new("lo", port).follow(None, vec![route], &sender).unwrap_err();
        assert!(matches!(error, ClientError::PortTaken { port: named, .. } if named == port));
    }
}
