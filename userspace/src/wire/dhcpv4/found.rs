//! The one pass over a message's options.

use super::{
    MessageType, OPTION_CLIENT_ID, OPTION_LEASE_TIME, OPTION_MAX_MESSAGE_SIZE, OPTION_MESSAGE_TYPE,
    OPTION_OVERLOAD, OPTION_PARAMETER_REQUEST_LIST, OPTION_PORT_PARAMS, OPTION_REBINDING_TIME,
    OPTION_RELAY_INFORMATION, OPTION_RENEWAL_TIME, OPTION_REQUESTED_ADDRESS, OPTION_SERVER_ID,
    OPTION_SOFTWIRE_SOURCE,
};
use crate::wire::Malformed;

/// The options that a server or a client decides by: for each its content, or one piece of it.
///
/// It is made, passed and kept by value. No reference to it is handed out while it is being made,
/// so the compiler keeps its fields apart and never copies it whole: that copy would cost more than
/// the pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found<'a> {
    /// DHCP Message Type.
    pub(super) kind: Option<MessageType>,
    /// Some option came in several pieces: the pieces below are not the whole.
    pub(super) split: bool,
    pub(super) overload: Option<&'a [u8]>,
    pub(super) requested_address: Option<&'a [u8]>,
    pub(super) lease_time: Option<&'a [u8]>,
    pub(super) server_id: Option<&'a [u8]>,
    pub(super) parameter_request_list: Option<&'a [u8]>,
    pub(super) max_message_size: Option<&'a [u8]>,
    pub(super) renewal_time: Option<&'a [u8]>,
    pub(super) rebinding_time: Option<&'a [u8]>,
    pub(super) client_id: Option<&'a [u8]>,
    pub(super) relay_information: Option<&'a [u8]>,
    pub(super) port_params: Option<&'a [u8]>,
    pub(super) softwire_source: Option<&'a [u8]>,
}

impl<'a> Found<'a> {
    /// Goes over `options` once.
    #[inline]
    pub(super) fn over(
        options: &mut impl Iterator<Item = (u8, &'a [u8])>,
    ) -> Result<Self, Malformed> {
        let mut found = Self::default();
        for (code, piece) in options {
            let earlier = match code {
                OPTION_MESSAGE_TYPE => {
                    // One octet cannot come in pieces: a second instance is a mistake.
                    let kind = message_type(piece).filter(|_| found.kind.is_none());
                    found.kind = Some(kind.ok_or(Malformed::BadMessageType)?);
                    None
                }
                OPTION_OVERLOAD => found.overload.replace(piece),
                OPTION_REQUESTED_ADDRESS => found.requested_address.replace(piece),
                OPTION_LEASE_TIME => found.lease_time.replace(piece),
                OPTION_SERVER_ID => found.server_id.replace(piece),
                OPTION_PARAMETER_REQUEST_LIST => found.parameter_request_list.replace(piece),
                OPTION_MAX_MESSAGE_SIZE => found.max_message_size.replace(piece),
                OPTION_RENEWAL_TIME => found.renewal_time.replace(piece),
                OPTION_REBINDING_TIME => found.rebinding_time.replace(piece),
                OPTION_CLIENT_ID => found.client_id.replace(piece),
                OPTION_RELAY_INFORMATION => found.relay_information.replace(piece),
                OPTION_PORT_PARAMS => found.port_params.replace(piece),
                OPTION_SOFTWIRE_SOURCE => found.softwire_source.replace(piece),
                _ => None,
            };
            found.split |= earlier.is_some();
        }
        Ok(found)
    }
}

/// The content of DHCP Message Type, if it is one (RFC 2132 §9.6).
#[inline]
fn message_type(content: &[u8]) -> Option<MessageType> {
    match content {
        &[number] => MessageType::from_number(number),
        _ => None,
    }
}
