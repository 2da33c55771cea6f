//! UDP sockets: batches out, batches in.

use std::{
    io,
    net::{SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd as _, RawFd},
    time::Duration,
};

use super::{Place, Written};
use crate::{
    error::{Doing as _, Result},
    sys::{self, Batch, Binding},
};

/// Octets of receive buffer of each socket: a burst of some ten thousand answers.
const RECEIVE_BUFFER: u32 = 16 << 20;

/// Open sockets with a batch each.
pub(in super::super) struct UdpTransport {
    server: SocketAddrV6,
    sockets: Vec<(UdpSocket, Batch)>,
    raw: Vec<RawFd>,
    incoming: Batch,
    /// Datagrams that the kernel refused to send.
    pub(super) refused: u64,
}

impl UdpTransport {
    pub(super) fn open(place: &Place) -> Result<Self> {
        let port = place.port();
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
        Ok(Self { server: place.server, sockets, raw, incoming: Batch::new(), refused: 0 })
    }

    /// Puts a message of a client into the batch of its socket; a full batch leaves at once.
    pub(super) fn send(
        &mut self,
        client: u32,
        fill: impl FnOnce(&mut [u8]) -> Option<Written>,
    ) -> Result<()> {
        let number = client as usize % self.sockets.len();
        let Some((socket, batch)) = self.sockets.get_mut(number) else { return Ok(()) };
        batch.add(self.server, |buffer| fill(buffer).map(|written| written.length));
        if batch.is_full() {
            self.refused += flush(socket, batch)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        for (socket, batch) in &mut self.sockets {
            if !batch.is_empty() {
                self.refused += flush(socket, batch)?;
            }
        }
        Ok(())
    }

    pub(super) fn inlets(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn receive(&mut self, inlet: usize) -> Result<usize> {
        let Some((socket, _)) = self.sockets.get(inlet) else { return Ok(0) };
        self.incoming.receive(socket).doing("receive answers")
    }

    pub(super) fn received(&self, at: usize) -> Option<&[u8]> {
        self.incoming.datagram(at)
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
