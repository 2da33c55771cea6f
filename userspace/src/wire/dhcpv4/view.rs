//! A DHCPv4 message that has been checked.

use std::net::Ipv4Addr;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

use super::{
    BOOT_REPLY, BOOT_REQUEST, FIXED_LENGTH, HARDWARE_LENGTH_MAX, MAGIC_COOKIE, MessageType,
    OPTION_CLIENT_ID, OPTION_LEASE_TIME, OPTION_MAX_MESSAGE_SIZE, OPTION_MESSAGE_TYPE,
    OPTION_OVERLOAD, OPTION_PARAMETER_REQUEST_LIST, OPTION_PORT_PARAMS, OPTION_REBINDING_TIME,
    OPTION_RELAY_INFORMATION, OPTION_RENEWAL_TIME, OPTION_REQUESTED_ADDRESS, OPTION_SERVER_ID,
    Options, Value,
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
    /// Some remembered option came in several pieces: the first pieces below do not suffice.
    split: bool,
    requested_address: Option<Ipv4Addr>,
    server_id: Option<Ipv4Addr>,
    first: FirstPieces<'a>,
}

/// Where the first piece of each option stands that a server or client decides by.
#[derive(Clone, Copy, Debug, Default)]
struct FirstPieces<'a> {
    requested_address: Option<&'a [u8]>,
    lease_time: Option<&'a [u8]>,
    server_id: Option<&'a [u8]>,
    parameter_request_list: Option<&'a [u8]>,
    max_message_size: Option<&'a [u8]>,
    renewal_time: Option<&'a [u8]>,
    rebinding_time: Option<&'a [u8]>,
    client_id: Option<&'a [u8]>,
    relay_information: Option<&'a [u8]>,
    port_params: Option<&'a [u8]>,
}

/// What the one pass over the options finds.
#[derive(Default)]
struct Pass<'a> {
    kind: Option<MessageType>,
    split: bool,
    first: FirstPieces<'a>,
}

impl<'a> Pass<'a> {
    #[inline]
    fn see(&mut self, code: u8, piece: &'a [u8]) -> Result<(), Malformed> {
        let place = match code {
            OPTION_MESSAGE_TYPE => return self.see_kind(piece),
            OPTION_REQUESTED_ADDRESS => &mut self.first.requested_address,
            OPTION_LEASE_TIME => &mut self.first.lease_time,
            OPTION_SERVER_ID => &mut self.first.server_id,
            OPTION_PARAMETER_REQUEST_LIST => &mut self.first.parameter_request_list,
            OPTION_MAX_MESSAGE_SIZE => &mut self.first.max_message_size,
            OPTION_RENEWAL_TIME => &mut self.first.renewal_time,
            OPTION_REBINDING_TIME => &mut self.first.rebinding_time,
            OPTION_CLIENT_ID => &mut self.first.client_id,
            OPTION_RELAY_INFORMATION => &mut self.first.relay_information,
            OPTION_PORT_PARAMS => &mut self.first.port_params,
            _ => return Ok(()),
        };
        match place {
            Some(_) => self.split = true,
            None => *place = Some(piece),
        }
        Ok(())
    }

    /// The message type is one octet, so it cannot come in pieces: a second instance is a mistake.
    #[inline]
    fn see_kind(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        let &[number] = piece else { return Err(Malformed::BadMessageType) };
        let kind = MessageType::from_number(number).ok_or(Malformed::BadMessageType)?;
        match self.kind.replace(kind) {
            None => Ok(()),
            Some(_) => Err(Malformed::BadMessageType),
        }
    }
}

/// Option 52 of the field `options`, the only field where it counts.
#[derive(Default)]
enum OverloadSeen {
    #[default]
    Absent,
    Valid(Overload),
    /// Of a length or value that RFC 2132 §9.3 does not know, or there twice.
    Bad,
}

impl OverloadSeen {
    fn see(&mut self, piece: &[u8]) {
        let overload = match piece {
            &[number] => Overload::from_number(number),
            _ => None,
        };
        *self = match (&self, overload) {
            (OverloadSeen::Absent, Some(overload)) => OverloadSeen::Valid(overload),
            _ => OverloadSeen::Bad,
        };
    }
}

impl<'a> View<'a> {
    /// Checks a message that a client sent.
    pub fn parse_request(message: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse(message, BOOT_REQUEST)
    }

    /// Checks a message that a server sent.
    pub fn parse_reply(message: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse(message, BOOT_REPLY)
    }

    #[inline]
    fn parse(message: &'a [u8], op: u8) -> Result<Self, Malformed> {
        let (fixed, options) =
            Fixed::ref_from_prefix(message).map_err(|_| Malformed::Dhcpv4Short)?;
        if fixed.op != op {
            return Err(Malformed::BadOp);
        }
        if fixed.hardware_length > HARDWARE_LENGTH_MAX {
            return Err(Malformed::BadHardwareLength);
        }
        if fixed.cookie != MAGIC_COOKIE {
            return Err(Malformed::BadCookie);
        }
        let mut pass = Pass::default();
        let mut overload = OverloadSeen::default();
        let mut field = Field::new(options);
        for (code, piece) in field.by_ref() {
            if code == OPTION_OVERLOAD {
                overload.see(piece);
            } else {
                pass.see(code, piece)?;
            }
        }
        if !field.is_exhausted() {
            return Err(Malformed::OptionOverrun);
        }
        let overload_ignored = matches!(overload, OverloadSeen::Bad);
        let overload = match overload {
            OverloadSeen::Valid(overload) => {
                see_overloaded(message, overload, &mut pass)?;
                overload
            }
            OverloadSeen::Absent | OverloadSeen::Bad => Overload::default(),
        };
        let kind = pass.kind.ok_or(Malformed::NoMessageType)?;
        let (split, first) = (pass.split, pass.first);
        let (requested_address, server_id) = (None, None);
        let mut view = Self {
            fixed,
            message,
            kind,
            overload,
            overload_ignored,
            split,
            requested_address,
            server_id,
            first,
        };
        view.check_lengths()?;
        Ok(view)
    }

    /// The options that decide what a message means must have the length that their RFC gives them.
    /// Of others a wrong length only means that they are not there.
    #[inline]
    fn check_lengths(&mut self) -> Result<(), Malformed> {
        let address = |value: Option<Value<'_>>| match value {
            None => Ok(None),
            Some(value) => match value.to_array::<4>() {
                Some(octets) => Ok(Some(Ipv4Addr::from(octets))),
                None => Err(Malformed::BadOptionLength),
            },
        };
        let first = self.first;
        self.requested_address =
            address(self.value(OPTION_REQUESTED_ADDRESS, first.requested_address))?;
        self.server_id = address(self.value(OPTION_SERVER_ID, first.server_id))?;
        match self.client_identifier() {
            Some(identifier) if identifier.is_empty() => Err(Malformed::BadOptionLength),
            _ => Ok(()),
        }
    }

    /// The value of a remembered option.
    #[inline]
    fn value(&self, code: u8, first: Option<&'a [u8]>) -> Option<Value<'a>> {
        if self.split { self.option(code) } else { first.map(Value::whole) }
    }

    /// A remembered option of four octets.
    #[inline]
    fn four_octets(&self, code: u8, first: Option<&'a [u8]>) -> Option<u32> {
        self.value(code, first)?.to_array().map(u32::from_be_bytes)
    }

    /// DHCP Message Type (53).
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
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.requested_address
    }

    /// IP Address Lease Time (51), in seconds; 0xffffffff is for ever.
    pub fn lease_seconds(&self) -> Option<u32> {
        self.four_octets(OPTION_LEASE_TIME, self.first.lease_time)
    }

    /// Server Identifier (54).
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.server_id
    }

    /// Renewal Time, T1 (58), in seconds.
    pub fn renewal_seconds(&self) -> Option<u32> {
        self.four_octets(OPTION_RENEWAL_TIME, self.first.renewal_time)
    }

    /// Rebinding Time, T2 (59), in seconds.
    pub fn rebinding_seconds(&self) -> Option<u32> {
        self.four_octets(OPTION_REBINDING_TIME, self.first.rebinding_time)
    }

    /// Maximum DHCP Message Size (57) as it was sent, below the legal minimum of 576 too.
    pub fn max_message_size(&self) -> Option<u16> {
        let value = self.value(OPTION_MAX_MESSAGE_SIZE, self.first.max_message_size)?;
        value.to_array().map(u16::from_be_bytes)
    }

    /// Client Identifier (61), not empty.
    pub fn client_identifier(&self) -> Option<Value<'a>> {
        self.value(OPTION_CLIENT_ID, self.first.client_id)
    }

    /// Parameter Request List (55), not empty.
    pub fn parameter_request_list(&self) -> Option<Value<'a>> {
        self.value(OPTION_PARAMETER_REQUEST_LIST, self.first.parameter_request_list)
            .filter(|list| !list.is_empty())
    }

    /// Whether the client asks for the option `code`.
    pub fn requests(&self, code: u8) -> bool {
        self.value(OPTION_PARAMETER_REQUEST_LIST, self.first.parameter_request_list)
            .is_some_and(|list| list.contains(code))
    }

    /// Option 159 (RFC 7618 §9).
    pub fn port_params(&self) -> PortParamsField {
        match self.value(OPTION_PORT_PARAMS, self.first.port_params) {
            None => PortParamsField::Absent,
            Some(value) => match value.to_array().and_then(PortParams::decode) {
                Some(params) => PortParamsField::Present(params),
                None => PortParamsField::Invalid,
            },
        }
    }

    /// Relay Agent Information (82), if it has room for a sub-option (RFC 3046 §2.0).
    pub fn relay_agent_information(&self) -> Option<Value<'a>> {
        self.value(OPTION_RELAY_INFORMATION, self.first.relay_information)
            .filter(|value| value.len() >= 2)
    }

    /// Any option but Pad, End and Option Overload. Goes over all of them again: for what is needed
    /// rarely.
    pub fn option(&self, code: u8) -> Option<Value<'a>> {
        Value::gather(code, self.options())
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

/// Goes over the options in `file` and `sname`. Option Overload does not count there: no recursion.
#[cold]
fn see_overloaded<'a>(
    message: &'a [u8],
    overload: Overload,
    pass: &mut Pass<'a>,
) -> Result<(), Malformed> {
    let mut options = Options::overloaded(message, overload);
    for (code, piece) in options.by_ref() {
        pass.see(code, piece)?;
    }
    if options.is_exhausted() { Ok(()) } else { Err(Malformed::OptionOverrun) }
}
