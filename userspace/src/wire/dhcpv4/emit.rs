//! Writing DHCPv4 messages.

use std::net::Ipv4Addr;

use zerocopy::FromBytes;

use super::{
    BOOT_REPLY, END, FIXED_LENGTH, MAGIC_COOKIE, MessageType, OPTION_MESSAGE_TYPE,
    OPTION_PORT_PARAMS, OPTION_SERVER_ID, Value, view::Fixed,
};
use crate::wire::{portparams::PortParams, writer::Writer};

/// The most octets that one instance of an option holds.
const PIECE_LENGTH_MAX: usize = 255;

/// The fixed fields of a message. `sname` and `file` are empty and `hops` is 0, as in every message
/// of a client or server of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1 request, 2 reply.
    pub op: u8,
    /// Type of the hardware address.
    pub hardware_type: u8,
    /// Octets of `chaddr` that count.
    pub hardware_length: u8,
    /// Transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub seconds: u16,
    /// Flags, [`FLAG_BROADCAST`](super::FLAG_BROADCAST).
    pub flags: u16,
    /// The address that the client has.
    pub ciaddr: Ipv4Addr,
    /// The address that the client gets.
    pub yiaddr: Ipv4Addr,
    /// The next server.
    pub siaddr: Ipv4Addr,
    /// The IPv4 relay.
    pub giaddr: Ipv4Addr,
    /// Hardware address.
    pub chaddr: [u8; 16],
}

impl Default for Header {
    fn default() -> Self {
        Self {
            op: BOOT_REPLY,
            hardware_type: 0,
            hardware_length: 0,
            xid: 0,
            seconds: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: [0; 16],
        }
    }
}

impl Header {
    /// Writes the 236 octets and the magic cookie; options follow.
    #[inline]
    pub fn emit(&self, w: &mut Writer<'_>) {
        if let Some(place) = w.reserve() {
            self.write(place);
        }
    }

    /// Writes the same, and the first two options of a server's message: its type and the server's
    /// identifier.
    #[inline]
    pub fn emit_reply(&self, w: &mut Writer<'_>, kind: MessageType, server_id: Ipv4Addr) {
        const OPTIONS_LENGTH: usize = 9;
        let place = w.reserve::<{ FIXED_LENGTH + OPTIONS_LENGTH }>();
        let Some((fixed, options)) = place.and_then(|place| place.split_first_chunk_mut()) else {
            return;
        };
        self.write(fixed);
        if let Some(options) = options.first_chunk_mut::<OPTIONS_LENGTH>() {
            let [first, second, third, fourth] = server_id.octets();
            *options = [
                OPTION_MESSAGE_TYPE,
                1,
                kind.number(),
                OPTION_SERVER_ID,
                4,
                first,
                second,
                third,
                fourth,
            ];
        }
    }

    #[inline]
    fn write(&self, place: &mut [u8; FIXED_LENGTH]) {
        place.fill(0);
        let Ok(fixed) = Fixed::mut_from_bytes(place) else { return };
        fixed.op = self.op;
        fixed.hardware_type = self.hardware_type;
        fixed.hardware_length = self.hardware_length;
        fixed.xid.set(self.xid);
        fixed.seconds.set(self.seconds);
        fixed.flags.set(self.flags);
        fixed.ciaddr = self.ciaddr.octets();
        fixed.yiaddr = self.yiaddr.octets();
        fixed.siaddr = self.siaddr.octets();
        fixed.giaddr = self.giaddr.octets();
        fixed.chaddr = self.chaddr;
        fixed.cookie = MAGIC_COOKIE;
    }
}

/// An option of any length; more than 255 octets are split (RFC 3396 §4).
#[inline]
pub fn put_option(w: &mut Writer<'_>, code: u8, content: &[u8]) {
    match u8::try_from(content.len()) {
        Ok(length) => put_piece(w, code, length, content),
        Err(_) => put_pieces(w, code, &Value::whole(content)),
    }
}

/// An option's value as it was received, in as few instances as it takes.
#[inline]
pub fn put_value(w: &mut Writer<'_>, code: u8, value: &Value<'_>) {
    if let Some(octets) = value.contiguous()
        && let Ok(length) = u8::try_from(octets.len())
    {
        put_piece(w, code, length, octets);
    } else {
        put_pieces(w, code, value);
    }
}

/// A whole option, or one piece: one check for room.
#[inline]
fn put_piece(w: &mut Writer<'_>, code: u8, length: u8, content: &[u8]) {
    if let Some([first, second, place @ ..]) = w.reserve_slice(2 + content.len()) {
        (*first, *second) = (code, length);
        place.copy_from_slice(content);
    }
}

/// The same for a value in pieces, or too long for one instance.
#[cold]
fn put_pieces(w: &mut Writer<'_>, code: u8, value: &Value<'_>) {
    let mut left = value.len();
    let mut open = 0;
    if left == 0 {
        w.array([code, 0]);
    }
    for mut piece in value.pieces() {
        while !piece.is_empty() {
            if open == 0 {
                open = left.min(PIECE_LENGTH_MAX);
                w.array([code, u8::try_from(open).unwrap_or(u8::MAX)]);
            }
            let (now, later) = piece.split_at_checked(open).unwrap_or((piece, &[]));
            w.bytes(now);
            open = open.saturating_sub(now.len());
            left = left.saturating_sub(now.len());
            piece = later;
        }
    }
}

/// An option of one octet.
#[inline]
pub fn put_u8(w: &mut Writer<'_>, code: u8, value: u8) {
    w.array([code, 1, value]);
}

/// An option of two octets.
#[inline]
pub fn put_u16(w: &mut Writer<'_>, code: u8, value: u16) {
    let [high, low] = value.to_be_bytes();
    w.array([code, 2, high, low]);
}

/// An option of four octets, such as a time in seconds.
#[inline]
pub fn put_u32(w: &mut Writer<'_>, code: u8, value: u32) {
    put_four(w, code, value.to_be_bytes());
}

/// An option of four octets: one check for room.
#[inline]
fn put_four(w: &mut Writer<'_>, code: u8, octets: [u8; 4]) {
    let [first, second, third, fourth] = octets;
    w.array([code, 4, first, second, third, fourth]);
}

/// An option that is one address.
#[inline]
pub fn put_address(w: &mut Writer<'_>, code: u8, address: Ipv4Addr) {
    put_u32(w, code, address.to_bits());
}

/// DHCP Message Type.
#[inline]
pub fn put_message_type(w: &mut Writer<'_>, kind: MessageType) {
    put_u8(w, OPTION_MESSAGE_TYPE, kind.number());
}

/// Option 159 (RFC 7618 §9).
#[inline]
pub fn put_port_params(w: &mut Writer<'_>, params: PortParams) {
    put_four(w, OPTION_PORT_PARAMS, params.encode());
}

/// End. It comes last, but for padding.
#[inline]
pub fn put_end(w: &mut Writer<'_>) {
    w.u8(END);
}

/// Pads the message that began at `start` to at least `length` octets. Comes after [`put_end`].
pub fn pad_to(w: &mut Writer<'_>, start: usize, length: usize) {
    let written = w.len().saturating_sub(start);
    w.zeros(length.saturating_sub(written));
}
