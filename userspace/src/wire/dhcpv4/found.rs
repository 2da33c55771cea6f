//! The one pass over a message's options.

use super::{
    MessageType, OPTION_CLIENT_ID, OPTION_LEASE_TIME, OPTION_MAX_MESSAGE_SIZE, OPTION_MESSAGE_TYPE,
    OPTION_OVERLOAD, OPTION_PARAMETER_REQUEST_LIST, OPTION_PORT_PARAMS, OPTION_REBINDING_TIME,
    OPTION_RELAY_INFORMATION, OPTION_RENEWAL_TIME, OPTION_REQUESTED_ADDRESS, OPTION_SERVER_ID,
    OPTION_SOFTWIRE_SOURCE, options::Field,
};
/// Places for pieces: a power of two, so that none is out of bounds.
const PLACES: usize = 16;

/// The options that a server or a client decides by; each has a place of its own.
const CODES: [u8; 13] = [
    OPTION_MESSAGE_TYPE,
    OPTION_OVERLOAD,
    OPTION_REQUESTED_ADDRESS,
    OPTION_LEASE_TIME,
    OPTION_SERVER_ID,
    OPTION_PARAMETER_REQUEST_LIST,
    OPTION_MAX_MESSAGE_SIZE,
    OPTION_RENEWAL_TIME,
    OPTION_REBINDING_TIME,
    OPTION_CLIENT_ID,
    OPTION_RELAY_INFORMATION,
    OPTION_PORT_PARAMS,
    OPTION_SOFTWIRE_SOURCE,
];

/// The place of every option that nobody asks for.
const ELSEWHERE: u8 = 15;

/// The place of each code. A table: what a client sends says nothing to a branch predictor.
#[expect(clippy::cast_possible_truncation, reason = "there are few")]
#[cfg_attr(
    not(test),
    expect(clippy::as_conversions, clippy::indexing_slicing, reason = "done by the compiler")
)]
static PLACE_OF: [u8; 256] = {
    let mut places = [ELSEWHERE; 256];
    let mut place = 0;
    while place < CODES.len() {
        places[CODES[place] as usize] = place as u8;
        place += 1;
    }
    places
};

#[inline]
fn place_of(code: u8) -> u8 {
    PLACE_OF.get(usize::from(code)).copied().unwrap_or(ELSEWHERE)
}

/// Where the content of an option stands in its message; at 0, where none can be, if it is not there.
#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    start: u16,
    length: u16,
}

/// For each option that counts, where it stands in the message.
///
/// Places and not slices: a whole burst of messages is read before the first of them is answered, and what is kept of
/// each is small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces([Piece; PLACES]);

/// How a message's field `options` was.
pub(super) struct Pass {
    /// It could be read up to its end.
    pub(super) is_whole: bool,
    /// Every option that counts stands in one piece, and nowhere else in the message.
    pub(super) is_usual: bool,
}

impl Pieces {
    /// Of no message.
    pub(super) const NONE: Pieces = Pieces([Piece { start: 0, length: 0 }; PLACES]);

    /// Goes once over the field `options` of `message`, as far as it can be read.
    #[inline]
    pub(super) fn find(&mut self, message: &[u8]) -> Pass {
        *self = Self::NONE;
        // Bits of the places of options that came more than once.
        let mut repeated = 0_u16;
        let mut field = Field::main(message);
        while let Some((code, content)) = field.next() {
            let place = place_of(code);
            let end = message.len().wrapping_sub(field.left());
            let start = end.wrapping_sub(content.len());
            if let Some(piece) = self.0.get_mut(usize::from(place) % PLACES) {
                repeated |= u16::from(piece.start != 0) << (place & 15);
                // What does not fit is in no usual message.
                piece.start = u16::try_from(start).unwrap_or(u16::MAX);
                piece.length = u16::try_from(content.len()).unwrap_or(u16::MAX);
            }
        }
        let is_usual = repeated & !(1 << ELSEWHERE) == 0
            && self.get(message, OPTION_OVERLOAD).is_none()
            && u16::try_from(message.len()).is_ok();
        Pass { is_whole: field.is_exhausted(), is_usual }
    }

    /// The content of the option `code` in the message that was gone over.
    #[inline]
    pub(super) fn get<'a>(&self, message: &'a [u8], code: u8) -> Option<&'a [u8]> {
        let piece = self.0.get(usize::from(place_of(code)) % PLACES)?;
        if piece.start == 0 {
            return None;
        }
        message.get(usize::from(piece.start)..)?.get(..usize::from(piece.length))
    }
}

/// The content of DHCP Message Type, if it is one (RFC 2132 §9.6).
#[inline]
pub(super) fn message_type(content: &[u8]) -> Option<MessageType> {
    match content {
        &[number] => MessageType::from_number(number),
        _ => None,
    }
}
