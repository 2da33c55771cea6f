//! The sockets of a load: batches out, batches in, relay headers around what leaves if the clients sit behind relays.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd as _, RawFd},
    time::Duration,
};

use portlease::wire::{
    dhcpv6::{CLIENT_PORT, RelayForward, SERVER_PORT},
    writer::Writer,
};

use crate::{
    error::{Doing as _, Result},
    message::{Message, relay_at},
    sys::{self, Batch, Binding},
};

/// Where the clients of a load sit and where their server is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The server: one of its addresses, or `ff02::1:2` with the interface as its scope.
    pub server: SocketAddrV6,
    /// Where packets come from: one socket for each. Clients are spread over them.
    pub sources: Vec<Ipv6Addr>,
    /// The sources are not addresses of this host; a local route for their prefix brings the answers in.
    pub foreign: bool,
    /// The interface of all sockets, where addresses alone do not tell.
    pub interface: Option<String>,
    /// Clients sit behind relays: each socket is one, sends from port 547 and wraps what it sends.
    pub relay: Option<RelayPlace>,
}

/// The relays of a load.
#[derive(Clone, Debug)]
pub struct RelayPlace {
    /// Link-address of the relay next to the clients; decides their pool.
    pub link_address: Ipv6Addr,
    /// Levels of Relay-forward around each query.
    pub levels: usize,
    /// Adds an Interface-Id, one for each client.
    pub interface_id: bool,
}

/// Octets of receive buffer of each socket: a burst of some ten thousand answers.
const RECEIVE_BUFFER: u32 = 16 << 20;

/// Open sockets with a batch each.
pub(super) struct Transport {
    place: Place,
    sockets: Vec<(UdpSocket, Batch)>,
    raw: Vec<RawFd>,
    incoming: Batch,
    /// Datagrams that the kernel refused to send.
    pub(super) refused: u64,
}

impl Transport {
    pub(super) fn open(place: Place) -> Result<Self> {
        let port = if place.relay.is_some() { SERVER_PORT } else { CLIENT_PORT };
        let mut sockets = Vec::new();
        for &source in &place.sources {
            let scope = if source.is_unicast_link_local() { place.server.scope_id() } else { 0 };
            let binding = Binding {
                address: SocketAddrV6::new(source, port, 0, scope),
                foreign: place.foreign,
                interface: place.interface.as_deref(),
                receive_buffer: Some(RECEIVE_BUFFER),
            };
            let socket = sys::udp_socket(&binding)
                .doing(format_args!("bind a socket to port {port} of {source}"))?;
            sockets.push((socket, Batch::new()));
        }
        let raw = sockets.iter().map(|(socket, _)| socket.as_raw_fd()).collect();
        Ok(Self { place, sockets, raw, incoming: Batch::new(), refused: 0 })
    }

    /// Puts a message of a client into the batch of its socket; a full batch leaves at once.
    pub(super) fn send(&mut self, client: u32, message: &Message<'_>) -> Result<()> {
        let number = client as usize % self.sockets.len();
        let Some((socket, batch)) = self.sockets.get_mut(number) else { return Ok(()) };
        let relay = self.place.relay.as_ref();
        batch.add(self.place.server, |buffer| {
            let mut w = Writer::new(buffer);
            match relay {
                None => message.emit(&mut w, &[]),
                Some(relay) => emit_relayed(&mut w, message, relay, client),
            }
            w.finish()
        });
        if batch.is_full() {
            self.refused += flush(socket, batch)?;
        }
        Ok(())
    }

    /// Sends what the batches hold.
    pub(super) fn flush(&mut self) -> Result<()> {
        for (socket, batch) in &mut self.sockets {
            if !batch.is_empty() {
                self.refused += flush(socket, batch)?;
            }
        }
        Ok(())
    }

    /// Receives one batch from each socket and hands every datagram to `each`. Gives their number.
    pub(super) fn receive(&mut self, mut each: impl FnMut(&[u8])) -> Result<usize> {
        let mut total = 0;
        for (socket, _) in &self.sockets {
            total += self.incoming.receive(socket).doing("receive answers")?;
            self.incoming.datagrams().for_each(&mut each);
        }
        Ok(total)
    }

    pub(super) fn wait(&self, timeout: Duration) -> Result<()> {
        sys::wait_readable(&self.raw, timeout).doing("wait for answers")?;
        Ok(())
    }
}

/// Sends a batch; gives the number of datagrams that were refused. A server that is down for a moment closes its
/// port, and an interface its link: both are loss, from which retransmission recovers.
fn flush(socket: &UdpSocket, batch: &mut Batch) -> Result<u64> {
    let (all, sent) = batch.send_counted(socket);
    match sent {
        Ok(count) => Ok((all - count) as u64),
        Err(error) if is_loss(&error) => Ok(all as u64),
        Err(error) => Err(error).doing("send queries"),
    }
}

fn is_loss(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    ) || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENODEV | libc::ENXIO))
}

fn emit_relayed(w: &mut Writer<'_>, message: &Message<'_>, relay: &RelayPlace, client: u32) {
    let peer = Ipv6Addr::from_bits((0xfe80 << 112) | (0x02ff_0000 << 32) | u128::from(client));
    let mut interface_id = *b"subscriber 00000000";
    for (at, nibble) in interface_id[11..].iter_mut().zip((0..8).rev()) {
        *at = b"0123456789abcdef"[(client >> (4 * nibble) & 15) as usize];
    }
    let inner = RelayForward {
        interface_id: relay.interface_id.then_some(&interface_id),
        ..relay_at(relay.link_address, peer)
    };
    let levels = relay.levels.max(1);
    let mut chain = [inner; LEVELS_MAX];
    let levels = levels.min(LEVELS_MAX);
    for (at, level) in chain[..levels].iter_mut().enumerate() {
        let hops = levels - 1 - at;
        if hops > 0 {
            // What an outer relay says: who it heard it from. It need not say where the client is.
            *level = relay_at(Ipv6Addr::UNSPECIFIED, relay.link_address);
        }
        level.hop_count = hops.to_le_bytes()[0];
    }
    message.emit(w, &chain[..levels]);
}

/// Levels of relays that a load can put around a query (RFC 8415 §7.6, `HOP_COUNT_LIMIT`).
const LEVELS_MAX: usize = 9;
