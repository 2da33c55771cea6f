//! One simulated client for tests: says one message at a time, over a socket of its own, and waits for the answer.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    time::{Duration, Instant},
};

use portlease::wire::{
    dhcpv4::MessageType,
    dhcpv6::{CLIENT_PORT, RelayForward, SERVER_PORT},
};

use crate::{
    error::{Doing as _, Result, RigError},
    message::{Answer, Identity, Lease, Message},
    netns::Netns,
    sys::{self, Binding},
};

/// How long an answer may take. A loaded machine is slow; a silent server costs this in each test for silence.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Transmissions of a message that must be answered.
const TRIES: u32 = 4;

/// Where a talker stands: a socket, the server that it speaks to, and the relays around it.
#[derive(Debug)]
pub struct Talker<'r> {
    socket: UdpSocket,
    server: SocketAddrV6,
    relays: Vec<RelayForward<'r>>,
}

impl<'r> Talker<'r> {
    /// A direct client at `source`, which speaks from port 546.
    pub fn direct(namespace: &Netns, source: Ipv6Addr, server: SocketAddrV6) -> Result<Self> {
        Self::open(namespace, SocketAddrV6::new(source, CLIENT_PORT, 0, 0), server, Vec::new())
    }

    /// The outermost of a chain of relays, which speaks from port 547.
    pub fn relayed(
        namespace: &Netns,
        source: Ipv6Addr,
        server: SocketAddrV6,
        relays: Vec<RelayForward<'r>>,
    ) -> Result<Self> {
        Self::open(namespace, SocketAddrV6::new(source, SERVER_PORT, 0, 0), server, relays)
    }

    /// Any of them, from any port.
    pub fn open(
        namespace: &Netns,
        source: SocketAddrV6,
        server: SocketAddrV6,
        relays: Vec<RelayForward<'r>>,
    ) -> Result<Self> {
        // Any address of the clients' prefix will do, whether or not an interface has it.
        let binding =
            Binding { address: source, foreign: true, interface: None, receive_buffer: None };
        let socket = namespace
            .enter(|| sys::udp_socket(&binding))?
            .doing(format!("bind a socket to {source}"))?;
        Ok(Self { socket, server, relays })
    }

    /// Sends octets as they are.
    pub fn send(&self, payload: &[u8]) -> Result<()> {
        self.socket.send_to(payload, self.server).doing(format!("send to {}", self.server))?;
        Ok(())
    }

    /// The next datagram, or `None` if none comes in time.
    pub fn receive(&self, timeout: Duration) -> Result<Option<(Vec<u8>, SocketAddrV6)>> {
        let deadline = Instant::now() + timeout;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left)).doing("set a timeout")?;
            match self.socket.recv_from(&mut buffer) {
                Ok((length, std::net::SocketAddr::V6(from))) => {
                    buffer.truncate(length);
                    return Ok(Some((buffer, from)));
                }
                Ok(_) => {}
                Err(error) if sys::would_block(&error) => {}
                Err(error) => return Err(error).doing("receive an answer"),
            }
        }
    }

    /// Sends a message once and gives the payload that answers its transaction, if one comes.
    pub fn ask_once(&self, identity: &Identity, message: &Message<'_>) -> Result<Option<Vec<u8>>> {
        self.send(&message.to_payload(&self.relays))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((payload, _)) = self.receive(left)? else { return Ok(None) };
            if read(&payload, identity).is_some_and(|answer| answer.xid == message.xid) {
                return Ok(Some(payload));
            }
        }
    }

    /// Sends a message until it is answered, and reads the answer.
    pub fn ask(&self, identity: &Identity, message: &Message<'_>) -> Result<Answer> {
        for _ in 0..TRIES {
            if let Some(payload) = self.ask_once(identity, message)? {
                return read(&payload, identity)
                    .ok_or_else(|| RigError::unexpected("an answer that cannot be read"));
            }
        }
        Err(RigError::unexpected(format!(
            "no answer to a {:?} from {} after {TRIES} tries",
            message.kind, self.server
        )))
    }

    /// Sends a message that must stay unanswered.
    pub fn expect_silence(&self, identity: &Identity, message: &Message<'_>) -> Result<()> {
        match self.ask_once(identity, message)? {
            None => Ok(()),
            Some(payload) => {
                let answer = read(&payload, identity);
                Err(RigError::unexpected(format!("{message:?} was answered: {answer:?}")))
            }
        }
    }

    /// Obtains a lease: DISCOVER, OFFER, REQUEST, ACK.
    pub fn obtain(&self, identity: &Identity) -> Result<Lease> {
        let xid = fastrand::u32(..);
        let offer = self.ask(identity, &Message::discover(identity, xid))?;
        expect(&offer, MessageType::Offer)?;
        let answer = self.ask(identity, &Message::select(identity, xid, &offer.lease))?;
        expect(&answer, MessageType::Ack)?;
        if answer.lease.tuple() != offer.lease.tuple() {
            return Err(RigError::unexpected(format!(
                "offered {:?}, but acknowledged {:?}",
                offer.lease, answer.lease
            )));
        }
        Ok(answer.lease)
    }

    /// Sends a REQUEST for a lease that must be acknowledged with the same tuple.
    pub fn extend(
        &self,
        identity: &Identity,
        message: &Message<'_>,
        lease: &Lease,
    ) -> Result<Lease> {
        let answer = self.ask(identity, message)?;
        expect(&answer, MessageType::Ack)?;
        if answer.lease.tuple() != lease.tuple() {
            return Err(RigError::unexpected(format!(
                "held {lease:?}, but was extended {:?}",
                answer.lease
            )));
        }
        Ok(answer.lease)
    }

    /// The port that the talker's socket is bound to, and its address.
    pub fn local(&self) -> io::Result<std::net::SocketAddr> {
        self.socket.local_addr()
    }
}

/// Reads an answer to this client.
pub fn read(payload: &[u8], identity: &Identity) -> Option<Answer> {
    Answer::read(payload, |_| Some(*identity))
}

/// Fails unless the answer is of this kind and returns the client's identifier.
pub fn expect(answer: &Answer, kind: MessageType) -> Result<()> {
    if answer.kind == kind && answer.same_identifier && !answer.invalid_ports {
        return Ok(());
    }
    Err(RigError::unexpected(format!("expected {kind:?} with our identifier, got {answer:?}")))
}
