//! Which of the four kinds of DHCPREQUEST a message is (RFC 2131 §4.3.2, Table 4; RFC 7341 §8).

use std::net::Ipv4Addr;

use crate::wire::dhcpv4::View;

/// The client's state, as its message shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestState {
    /// It chose an offer: of the server `server_id`, for `address`.
    Selecting { server_id: Ipv4Addr, address: Ipv4Addr },
    /// It remembers `address` from before its reboot.
    InitReboot { address: Ipv4Addr },
    /// It extends its lease with the server that granted it.
    Renewing { address: Ipv4Addr },
    /// It extends its lease with whoever can.
    Rebinding { address: Ipv4Addr },
}

/// Reads the state from options 54 and 50, `ciaddr` and the U flag.
///
/// req-S6 (RFC 7341 §8): that flag alone tells renewing from rebinding.
/// `None` if they contradict each other; `lenient` overlooks an option 50 that repeats `ciaddr`.
pub(super) fn request_state(
    message: &View<'_>,
    unicast: bool,
    lenient: bool,
) -> Option<RequestState> {
    let state =
        state_of(message.server_id(), message.requested_address(), message.ciaddr(), unicast)?;
    let repeated = !message.ciaddr().is_unspecified() && message.requested_address().is_some();
    (lenient || !repeated).then_some(state)
}

fn state_of(
    server_id: Option<Ipv4Addr>,
    requested: Option<Ipv4Addr>,
    ciaddr: Ipv4Addr,
    unicast: bool,
) -> Option<RequestState> {
    let bound = (!ciaddr.is_unspecified()).then_some(ciaddr);
    match (server_id, requested, bound) {
        (Some(server_id), Some(address), None) => {
            Some(RequestState::Selecting { server_id, address })
        }
        (None, Some(address), None) => Some(RequestState::InitReboot { address }),
        // RFC 2131 Table 4 has no option 50 here; one that repeats ciaddr does no harm.
        (None, requested, Some(address)) if requested.is_none_or(|same| same == address) => {
            Some(if unicast {
                RequestState::Renewing { address }
            } else {
                RequestState::Rebinding { address }
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let (ours, a, b) =
            (Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(2, 2, 2, 2));
        let none = Ipv4Addr::UNSPECIFIED;
        let selecting = Some(RequestState::Selecting { server_id: ours, address: a });
        let rebooting = Some(RequestState::InitReboot { address: a });
        let renewing = Some(RequestState::Renewing { address: a });
        let rebinding = Some(RequestState::Rebinding { address: a });
        for (server_id, requested, ciaddr, unicast, expected) in [
            (Some(ours), Some(a), none, false, selecting),
            (Some(ours), Some(a), none, true, selecting),
            (Some(ours), Some(a), a, false, None),
            (Some(ours), None, a, true, None),
            (Some(ours), None, none, false, None),
            (None, Some(a), none, false, rebooting),
            (None, Some(a), none, true, rebooting),
            (None, None, a, true, renewing),
            (None, None, a, false, rebinding),
            (None, Some(a), a, true, renewing),
            (None, Some(a), a, false, rebinding),
            (None, Some(b), a, true, None),
            (None, Some(b), a, false, None),
            (None, None, none, true, None),
            (None, None, none, false, None),
        ] {
            assert_eq!(state_of(server_id, requested, ciaddr, unicast), expected);
        }
    }
}
