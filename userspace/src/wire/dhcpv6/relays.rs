//! The chain of relays that a message came through.

use std::net::Ipv6Addr;

use super::{
    OPTION_CLIENT_LINK_LAYER, OPTION_INTERFACE_ID, OPTION_RELAY_MESSAGE, OPTION_RELAY_PORT,
    OPTION_REMOTE_ID, Options, RELAY_HEADER_LENGTH,
};

/// The relay levels of one message, outermost first. It has been checked to its end.
///
/// A copy is three words, however many levels there are; each walk over the levels is linear in the
/// message.
#[derive(Clone, Copy, Debug)]
pub struct Relays<'a> {
    outermost: &'a [u8],
    levels: usize,
}

impl<'a> Relays<'a> {
    /// No relay: what a client sent directly.
    pub const NONE: Relays<'static> = Relays { outermost: &[], levels: 0 };

    /// `outermost` begins with `levels` relay messages one inside the other, all of them checked.
    pub(super) fn new(outermost: &'a [u8], levels: usize) -> Self {
        Self { outermost, levels }
    }

    /// Whether the client sent the message directly.
    pub fn is_empty(self) -> bool {
        self.levels == 0
    }

    /// The number of levels, at most [`RELAY_LEVELS_MAX`](super::RELAY_LEVELS_MAX).
    pub fn levels(self) -> usize {
        self.levels
    }

    /// The levels, outermost to innermost.
    pub fn iter(self) -> RelayIter<'a> {
        RelayIter { message: self.outermost, levels: self.levels }
    }

    /// The level that was added by the relay closest to the server.
    pub fn outermost(self) -> Option<Relay<'a>> {
        self.iter().next()
    }

    /// The level that was added by the relay closest to the client.
    pub fn innermost(self) -> Option<Relay<'a>> {
        self.iter().last()
    }

    /// What the chain as a whole says, in one walk.
    #[inline]
    pub fn path(self) -> Path<'a> {
        let mut path = Path { innermost: None, link_address: None, has_strange_peer: false };
        for relay in self {
            let (link, peer) = (relay.link_address(), relay.peer_address());
            if !(link.is_unspecified() || link.is_multicast() || link.is_unicast_link_local()) {
                path.link_address = Some(link);
            }
            path.has_strange_peer |= peer.is_unspecified() || peer.is_multicast();
            path.innermost = Some(relay);
        }
        path
    }

    /// Hardware type (2 octets) and link-layer address of the client, as the relay closest to the
    /// client says (RFC 6939 §6). Those that other relays tell of are their own neighbours'.
    pub fn client_link_layer(self) -> Option<&'a [u8]> {
        self.innermost()?.option(OPTION_CLIENT_LINK_LAYER)
    }

    /// Whether the outermost level carries the Relay Source Port option: then the reply goes to the
    /// UDP source port of the packet (RFC 8357 §5.2).
    pub fn relay_port(self) -> bool {
        self.outermost().is_some_and(|relay| relay.option(OPTION_RELAY_PORT).is_some())
    }
}

/// What a chain of relays says of the way that a message took.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// The level that was added by the relay closest to the client; none if there is no relay.
    pub innermost: Option<Relay<'a>>,
    /// The link-address that says where the client is: the innermost that is neither unspecified,
    /// nor link-local, nor multicast. A relay leaves it out if it knows none (an LDRA of RFC 6221),
    /// or if the relay before it has an address of its own (RFC 8415 §19.1.2).
    pub link_address: Option<Ipv6Addr>,
    /// Whether a relay had its message from an address that nobody can have: unspecified, or
    /// multicast. The answer goes back all the same, and there it will end.
    pub has_strange_peer: bool,
}

impl<'a> IntoIterator for Relays<'a> {
    type Item = Relay<'a>;
    type IntoIter = RelayIter<'a>;

    fn into_iter(self) -> RelayIter<'a> {
        self.iter()
    }
}

/// The levels of a [`Relays`], outermost to innermost.
#[derive(Clone, Debug)]
pub struct RelayIter<'a> {
    message: &'a [u8],
    levels: usize,
}

impl<'a> Iterator for RelayIter<'a> {
    type Item = Relay<'a>;

    fn next(&mut self) -> Option<Relay<'a>> {
        self.levels = self.levels.checked_sub(1)?;
        let (header, options) = self.message.split_first_chunk()?;
        let relay = Relay { header, options };
        self.message = match self.levels {
            0 => &[],
            _ => relay.option(OPTION_RELAY_MESSAGE).unwrap_or_default(),
        };
        Some(relay)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.levels))
    }
}

/// One level of Relay-forward or Relay-reply (RFC 8415 §9).
#[derive(Clone, Copy, Debug)]
pub struct Relay<'a> {
    header: &'a [u8; RELAY_HEADER_LENGTH],
    options: &'a [u8],
}

impl<'a> Relay<'a> {
    /// Relays between this one and the client.
    pub fn hop_count(self) -> u8 {
        let [_, hop_count, ..] = self.header;
        *hop_count
    }

    /// An address of the link on which the client is; unspecified if the relay left that to others.
    pub fn link_address(self) -> Ipv6Addr {
        let [_, _, addresses @ ..] = self.header;
        Ipv6Addr::from(*addresses.first_chunk().unwrap_or(&[0; 16]))
    }

    /// Where the relay got the message from.
    pub fn peer_address(self) -> Ipv6Addr {
        Ipv6Addr::from(*self.header.last_chunk().unwrap_or(&[0; 16]))
    }

    /// The header but for the message type: hop-count, link-address, peer-address, as a reply
    /// repeats them.
    pub(super) fn copied(self) -> [u8; RELAY_HEADER_LENGTH - 1] {
        let [_, copied @ ..] = self.header;
        *copied
    }

    /// The options of this level, the Relay Message option among them.
    pub fn options(self) -> Options<'a> {
        Options::new(self.options)
    }

    /// The first option of that code. A second one would be a mistake of the relay's (RFC 8415
    /// §21).
    pub fn option(self, code: u16) -> Option<&'a [u8]> {
        self.options().find(|&(seen, _)| seen == code).map(|(_, content)| content)
    }

    /// Interface-Id, as opaque as it is, possibly empty (RFC 8415 §21.18).
    pub fn interface_id(self) -> Option<&'a [u8]> {
        self.option(OPTION_INTERFACE_ID)
    }

    /// Remote-ID with its enterprise number, as one string (RFC 4649 §5).
    pub fn remote_id(self) -> Option<&'a [u8]> {
        self.option(OPTION_REMOTE_ID)
    }
}
