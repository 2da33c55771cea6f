//! Stateless DHCPv6: the Information-request and the Reply to it (RFC 8415 §18.2.6, §18.3.6).

use super::{
    Malformed, OPTION_CLIENT_ID, OPTION_IA_NA, OPTION_IA_PD, OPTION_IA_TA, OPTION_REQUEST,
    OPTION_SERVER_ID, OptionRequest, Options, RELAY_REPLY, REPLY, Relays, Unwrapped, unwrap,
};

/// An Information-request, as it came through any number of relays.
#[derive(Clone, Copy, Debug)]
pub struct InformationRequest<'a> {
    /// What the Reply repeats.
    pub transaction: [u8; 3],
    /// The client's DUID, if it says it (RFC 8415 §18.2.6: it should).
    pub client_id: Option<&'a [u8]>,
    /// The DUID of the server that is to answer, if the client speaks to one.
    pub server_id: Option<&'a [u8]>,
    /// Whether there is an Identity Association, which has no place here (RFC 8415 §16.12).
    pub has_identity_association: bool,
    /// What the client wants to know.
    pub requested: OptionRequest<'a>,
    /// The relays that forwarded it; empty if the client sent it directly.
    pub relays: Relays<'a>,
}

impl<'a> InformationRequest<'a> {
    /// Of each option that may be there once, the first counts.
    pub(super) fn read(unwrapped: Unwrapped<'a>) -> Result<Self, Malformed> {
        let Unwrapped { relays, header, options, .. } = unwrapped;
        let mut request = Self {
            transaction: header,
            client_id: None,
            server_id: None,
            has_identity_association: false,
            requested: OptionRequest::default(),
            relays,
        };
        let mut requested = None;
        let mut options = Options::new(options);
        for (code, content) in options.by_ref() {
            match code {
                OPTION_CLIENT_ID => {
                    request.client_id.get_or_insert(content);
                }
                OPTION_SERVER_ID => {
                    request.server_id.get_or_insert(content);
                }
                OPTION_REQUEST => {
                    requested.get_or_insert(OptionRequest::new(content));
                }
                OPTION_IA_NA | OPTION_IA_TA | OPTION_IA_PD => {
                    request.has_identity_association = true;
                }
                _ => {}
            }
        }
        request.requested = requested.unwrap_or_default();
        if options.is_exhausted() { Ok(request) } else { Err(Malformed::TruncatedTlv) }
    }
}

/// A Reply, as a client gets it (no relays) or as a relay gets it.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The transaction of the message that it answers.
    pub transaction: [u8; 3],
    /// The Relay-reply levels around it.
    pub relays: Relays<'a>,
    options: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads a UDP payload that was sent to a client or a relay.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let Unwrapped { relays, kind, header, options } = unwrap(payload, RELAY_REPLY)?;
        if kind != REPLY {
            return Err(Malformed::UnknownType);
        }
        let mut all = Options::new(options);
        all.by_ref().for_each(drop);
        if !all.is_exhausted() {
            return Err(Malformed::TruncatedTlv);
        }
        Ok(Self { transaction: header, relays, options })
    }

    /// All options, in order.
    pub fn options(&self) -> Options<'a> {
        Options::new(self.options)
    }

    /// The content of the first option of that code.
    pub fn option(&self, code: u16) -> Option<&'a [u8]> {
        self.options().find(|&(seen, _)| seen == code).map(|(_, content)| content)
    }
}
