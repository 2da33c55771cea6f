//! A DHCPv4 message that has been checked.

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

use super::{
    BOOT_REPLY, BOOT_REQUEST, FIXED_LENGTH, HARDWARE_LENGTH_MAX, MAGIC_COOKIE, MessageType,
    OPTION_CLIENT_ID, OPTION_LEASE_TIME, OPTION_MAX_MESSAGE_SIZE, OPTION_MESSAGE_TYPE,
    OPTION_OVERLOAD, OPTION_PARAMETER_REQUEST_LIST, OPTION_PORT_PARAMS, OPTION_REBINDING_TIME,
    OPTION_RELAY_INFORMATION, OPTION_RENEWAL_TIME, OPTION_REQUESTED_ADDRESS, OPTION_SERVER_ID,
    OPTION_SOFTWIRE_SOURCE, Options, Value,
    found::{Pieces, message_type},
    options::{Field, Overload},
};
use crate::wire::{Malformed, portparams::PortParams};

/// The fixed fields and the cookie (RFC 2131 §2).
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Fixed {
    pub(super) op: u8,
    pub(super) hardware_type: u8,
    pub(super) hardware_length: u8,
    pub(super) hops: u8,
    pub(super) xid: U32,
    pub(super) seconds: U16,
    pub(super) flags: U16,
    pub(super) ciaddr: [u8; 4],
    pub(super) yiaddr: [u8; 4],
    pub(super) siaddr: [u8; 4],
    pub(super) giaddr: [u8; 4],
    pub(super) chaddr: [u8; 16],
    pub(super) sname: [u8; 64],
    pub(super) file: [u8; 128],
    pub(super) cookie: [u8; 4],
}

const _: () = assert!(size_of::<Fixed>() == FIXED_LENGTH);

/// Checks the options that have one length, or some, whatever the message says, by the octets of each.
#[inline]
fn check_lengths(length: impl Fn(u8) -> Option<usize>) -> Result<(), Malformed> {
    if length(OPTION_REQUESTED_ADDRESS).is_some_and(|length| length != ADDRESS_LENGTH)
        || length(OPTION_SERVER_ID).is_some_and(|length| length != ADDRESS_LENGTH)
        || length(OPTION_CLIENT_ID) == Some(0)
    {
        return Err(Malformed::BadOptionLength);
    }
    Ok(())
}

/// Octets of an option that is one address.
const ADDRESS_LENGTH: usize = 4;

/// Option 159, as a client may send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortParamsField {
    /// Not there.
    Absent,
    /// There, but of the wrong length or contradicting itself.
    Invalid,
    /// There.
    Present(PortParams),
}

impl PortParamsField {
    /// The parameters, if they are there and valid.
    pub fn present(self) -> Option<PortParams> {
        match self {
            PortParamsField::Present(params) => Some(params),
            PortParamsField::Absent | PortParamsField::Invalid => None,
        }
    }
}

/// A DHCPv4 message that has been checked from end to end: every accessor is total.
#[derive(Clone, Debug)]
pub struct View<'a> {
    fixed: &'a Fixed,
    message: &'a [u8],
    kind: MessageType,
    overload: Overload,
    overload_ignored: bool,
    /// Every option is in one piece, and `pieces` says where. If not, they are put together when asked for.
    is_usual: bool,
    pieces: Pieces,
}

/// Fixed fields of no message.
static NOTHING: Fixed = Fixed {
    op: 0,
    hardware_type: 0,
    hardware_length: 0,
    hops: 0,
    xid: U32::ZERO,
    seconds: U16::ZERO,
    flags: U16::ZERO,
    ciaddr: [0; 4],
    yiaddr: [0; 4],
    siaddr: [0; 4],
    giaddr: [0; 4],
    chaddr: [0; 16],
    sname: [0; 64],
    file: [0; 128],
    cookie: [0; 4],
};

impl<'a> View<'a> {
    /// A view of no message, to [read](Self::read_request) one into.
    pub(crate) const BLANK: View<'static> = View {
        fixed: &NOTHING,
        message: &[],
        kind: MessageType::Discover,
        overload: Overload::NONE,
        overload_ignored: false,
        is_usual: true,
        pieces: Pieces::NONE,
    };

    /// Checks a message that a client sent.
    #[inline]
    pub fn parse_request(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut view = Self::BLANK;
        view.read(message, BOOT_REQUEST)?;
        Ok(view)
    }

    /// Checks a message that a server sent.
    #[inline]
    pub fn parse_reply(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut view = Self::BLANK;
        view.read(message, BOOT_REPLY)?;
        Ok(view)
    }

    /// Checks a message that a client sent, and makes this a view of it. In place, since a view that is handed from one
    /// to the next is copied right after it was written, for which a processor has to wait. After an error it is of no
    /// use.
    #[inline]
    pub(crate) fn read_request(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        self.read(message, BOOT_REQUEST)
    }

    #[inline]
    fn read(&mut self, message: &'a [u8], op: u8) -> Result<(), Malformed> {
        let (fixed, _) = Fixed::ref_from_prefix(message).map_err(|_| Malformed::Dhcpv4Short)?;
        if fixed.op != op {
            return Err(Malformed::BadOp);
        }
        if fixed.hardware_length > HARDWARE_LENGTH_MAX {
            return Err(Malformed::BadHardwareLength);
        }
        if fixed.cookie != MAGIC_COOKIE {
            return Err(Malformed::BadCookie);
        }
        self.fixed = fixed;
        self.message = message;
        let pass = self.pieces.find(message);
        if !pass.is_usual {
            return self.read_rare(message);
        }
        let kind = self.piece(OPTION_MESSAGE_TYPE).map(message_type);
        if kind == Some(None) {
            return Err(Malformed::BadMessageType);
        }
        if !pass.is_whole {
            return Err(Malformed::OptionOverrun);
        }
        self.kind = kind.flatten().ok_or(Malformed::NoMessageType)?;
        self.overload = Overload::NONE;
        self.overload_ignored = false;
        self.is_usual = true;
        let length = |code| self.piece(code).map(<[u8]>::len);
        check_lengths(length)
    }

    /// The same for a message with options in several pieces or in other fields. Apart, so that the
    /// usual message does not pay for it.
    ///
    /// Option Overload counts in the field `options` only; if it makes no sense the message is read
    /// as if it were not there (RFC 2132 §9.3).
    #[cold]
    fn read_rare(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        let mut overloads = Field::main(message).filter(|&(code, _)| code == OPTION_OVERLOAD);
        let (overload, overload_ignored) = match (overloads.next(), overloads.next()) {
            (None, _) => (Overload::NONE, false),
            (Some((_, &[number])), None) => match Overload::from_number(number) {
                Some(overload) => (overload, false),
                None => (Overload::NONE, true),
            },
            _ => (Overload::NONE, true),
        };
        let mut options = Options::new(message, overload);
        let mut kind = None;
        for (_, content) in options.by_ref().filter(|&(code, _)| code == OPTION_MESSAGE_TYPE) {
            // One octet cannot come in pieces: a second instance is a mistake.
            let only = message_type(content).filter(|_| kind.is_none());
            kind = Some(only.ok_or(Malformed::BadMessageType)?);
        }
        if !options.is_exhausted() {
            return Err(Malformed::OptionOverrun);
        }
        self.kind = kind.ok_or(Malformed::NoMessageType)?;
        self.overload = overload;
        self.overload_ignored = overload_ignored;
        self.is_usual = false;
        check_lengths(|code| self.option(code).map(|value| value.len()))
    }

    /// An option in one piece. Only of a usual message.
    #[inline]
    fn piece(&self, code: u8) -> Option<&'a [u8]> {
        self.pieces.get(self.message, code)
    }

    /// The value of a remembered option.
    #[inline]
    fn value(&self, code: u8) -> Option<Value<'a>> {
        if self.is_usual { self.piece(code).map(Value::whole) } else { self.option(code) }
    }

    /// A remembered option of `N` octets, without making a [`Value`] of it where it is in one
    /// piece.
    #[inline]
    fn array<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        if self.is_usual {
            self.piece(code)?.as_array().copied()
        } else {
            self.array_of_pieces(code)
        }
    }

    #[cold]
    fn array_of_pieces<const N: usize>(&self, code: u8) -> Option<[u8; N]> {
        self.option(code)?.to_array()
    }

    /// A remembered option of four octets.
    #[inline]
    fn four_octets(&self, code: u8) -> Option<u32> {
        self.array(code).map(u32::from_be_bytes)
    }

    /// DHCP Message Type (53).
    #[inline]
    pub fn kind(&self) -> MessageType {
        self.kind
    }

    /// `htype`.
    pub fn hardware_type(&self) -> u8 {
        self.fixed.hardware_type
    }

    /// `hlen`, at most 16.
    pub fn hardware_length(&self) -> u8 {
        self.fixed.hardware_length
    }

    /// The octets of `chaddr` that count.
    pub fn hardware_address(&self) -> &'a [u8] {
        let length = usize::from(self.fixed.hardware_length);
        self.fixed.chaddr.get(..length).unwrap_or_default()
    }

    /// All of `chaddr`.
    pub fn chaddr(&self) -> &'a [u8; 16] {
        &self.fixed.chaddr
    }

    /// `xid`.
    pub fn xid(&self) -> u32 {
        self.fixed.xid.get()
    }

    /// `secs`: seconds since the client began.
    pub fn seconds(&self) -> u16 {
        self.fixed.seconds.get()
    }

    /// `flags`.
    pub fn flags(&self) -> u16 {
        self.fixed.flags.get()
    }

    /// The address that the client has.
    pub fn ciaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.fixed.ciaddr)
    }

    /// The address that the client gets.
    pub fn yiaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.fixed.yiaddr)
    }

    /// The next server.
    pub fn siaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.fixed.siaddr)
    }

    /// The IPv4 relay.
    pub fn giaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.fixed.giaddr)
    }

    /// Requested IP Address (50).
    #[inline]
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.array(OPTION_REQUESTED_ADDRESS).map(Ipv4Addr::from_octets)
    }

    /// IP Address Lease Time (51), in seconds; 0xffffffff is for ever.
    #[inline]
    pub fn lease_seconds(&self) -> Option<u32> {
        self.four_octets(OPTION_LEASE_TIME)
    }

    /// Server Identifier (54).
    #[inline]
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.array(OPTION_SERVER_ID).map(Ipv4Addr::from_octets)
    }

    /// Renewal Time, T1 (58), in seconds.
    pub fn renewal_seconds(&self) -> Option<u32> {
        self.four_octets(OPTION_RENEWAL_TIME)
    }

    /// Rebinding Time, T2 (59), in seconds.
    pub fn rebinding_seconds(&self) -> Option<u32> {
        self.four_octets(OPTION_REBINDING_TIME)
    }

    /// Maximum DHCP Message Size (57) as it was sent, below the legal minimum of 576 too.
    #[inline]
    pub fn max_message_size(&self) -> Option<u16> {
        let octets = self.array(OPTION_MAX_MESSAGE_SIZE);
        octets.map(u16::from_be_bytes)
    }

    /// Client Identifier (61), not empty.
    #[inline]
    pub fn client_identifier(&self) -> Option<Value<'a>> {
        self.value(OPTION_CLIENT_ID)
    }

    /// Parameter Request List (55), not empty.
    #[inline]
    pub fn parameter_request_list(&self) -> Option<Value<'a>> {
        self.value(OPTION_PARAMETER_REQUEST_LIST).filter(|list| !list.is_empty())
    }

    /// Whether the client asks for the option `code`.
    #[inline]
    pub fn requests(&self, code: u8) -> bool {
        if self.is_usual {
            self.piece(OPTION_PARAMETER_REQUEST_LIST).is_some_and(|list| list.contains(&code))
        } else {
            self.option(OPTION_PARAMETER_REQUEST_LIST).is_some_and(|list| list.contains(code))
        }
    }

    /// Option 159 (RFC 7618 §9).
    #[inline]
    pub fn port_params(&self) -> PortParamsField {
        let octets = if self.is_usual {
            self.piece(OPTION_PORT_PARAMS).map(|piece| piece.as_array().copied())
        } else {
            self.option(OPTION_PORT_PARAMS).map(|value| value.to_array())
        };
        match octets.map(|octets| octets.and_then(PortParams::decode)) {
            None => PortParamsField::Absent,
            Some(Some(params)) => PortParamsField::Present(params),
            Some(None) => PortParamsField::Invalid,
        }
    }

    /// The softwire's IPv6 source address (109); none if it is not 16 octets (RFC 8539 §6.2).
    pub fn softwire_source(&self) -> Option<Ipv6Addr> {
        let octets = self.array(OPTION_SOFTWIRE_SOURCE);
        octets.map(Ipv6Addr::from_octets)
    }

    /// Relay Agent Information (82), if it has room for a sub-option (RFC 3046 §2.0).
    #[inline]
    pub fn relay_agent_information(&self) -> Option<Value<'a>> {
        self.value(OPTION_RELAY_INFORMATION).filter(|value| value.len() >= 2)
    }

    /// Any option but Pad, End and Option Overload. Goes over all of them again: for what is needed
    /// rarely.
    #[cold]
    pub fn option(&self, code: u8) -> Option<Value<'a>> {
        Value::gather(code, self.message, self.overload)
    }

    /// All pieces of all options, in the order in which RFC 3396 §5 puts them together.
    pub fn options(&self) -> Options<'a> {
        Options::new(self.message, self.overload)
    }

    /// Whether there was an Option Overload (52) that makes no sense. The message was read as if it
    /// were not there.
    pub fn overload_ignored(&self) -> bool {
        self.overload_ignored
    }
}
