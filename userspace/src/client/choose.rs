//! Which of several offers is taken (RFC 7618 §5, §6 step 3).

use std::{cmp::Reverse, net::Ipv4Addr};

use super::{lease::Assignment, softwire::Ends};

/// What kind of address the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// A whole address if one is offered, else a shared one.
    #[default]
    PreferFull,
    /// A shared address if one is offered, else a whole one.
    PreferShared,
    /// A shared address or none.
    SharedOnly,
    /// A whole address or none. Option 159 is never asked for.
    FullOnly,
    /// First as a client that knows nothing of sharing, and only when nobody answers that as one that
    /// does. Not in RFC 7618, but in the talks that led to it.
    FullFirst,
}

impl Mode {
    /// Whether an address of this kind is of any use.
    pub fn accepts(self, assignment: Assignment) -> bool {
        match self {
            Mode::PreferFull | Mode::PreferShared | Mode::FullFirst => true,
            Mode::SharedOnly => assignment.is_shared(),
            // Option 159 was not asked for: who sends it all the same has not understood.
            Mode::FullOnly => assignment.port_params.is_none(),
        }
    }

    /// Whether option 159 stands in the parameter request list.
    pub fn asks_for_port_params(self) -> bool {
        self != Mode::FullOnly
    }
}

/// An OFFER that could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is offered.
    pub assignment: Assignment,
    /// Who offers it, option 54.
    pub server_id: Ipv4Addr,
    /// Ends of a softwire that came beside it (RFC 8539).
    pub ends: Ends,
}

/// The best of `offers`.
///
/// req-C22 (RFC 7618 §5, §6 step 3): a whole address unless configured otherwise. Of the kind that the
/// mode prefers, then exactly what was asked for, then the one with the most ports, then the earliest.
pub fn best(mode: Mode, wanted: Option<Assignment>, offers: &[Offer]) -> Option<Offer> {
    let acceptable = offers.iter().filter(|offer| mode.accepts(offer.assignment));
    let rank = |offer: &&Offer| {
        let shared = offer.assignment.is_shared();
        let preferred = shared == matches!(mode, Mode::PreferShared | Mode::SharedOnly);
        let as_wanted = wanted == Some(offer.assignment);
        Reverse((preferred, as_wanted, offer.assignment.port_count()))
    };
    // `min_by_key` keeps the first of equals: the earliest offer.
    acceptable.min_by_key(rank).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::portparams::PortParams;

    fn offer(last: u8, psid_length: Option<u8>) -> Offer {
        let port_params =
            psid_length.map(|psid_length| PortParams { offset: 0, psid_length, psid: 1 });
        Offer {
            assignment: Assignment { address: Ipv4Addr::new(192, 0, 2, last), port_params },
            server_id: Ipv4Addr::new(198, 51, 100, last),
            ends: Ends::default(),
        }
    }

    #[test]
    fn k09_each_mode_takes_its_kind_and_then_the_most_ports() {
        let (small, large, full) = (offer(1, Some(8)), offer(2, Some(4)), offer(3, None));
        let all = [small, large, full];
        assert_eq!(best(Mode::PreferFull, None, &all), Some(full));
        assert_eq!(best(Mode::PreferShared, None, &all), Some(large));
        assert_eq!(best(Mode::SharedOnly, None, &all), Some(large));
        assert_eq!(best(Mode::FullOnly, None, &all), Some(full));
        assert_eq!(best(Mode::PreferFull, None, &[small, large]), Some(large));
        assert_eq!(best(Mode::PreferShared, None, &[full]), Some(full));
        assert_eq!(best(Mode::SharedOnly, None, &[full]), None);
        assert_eq!(best(Mode::FullOnly, None, &[small]), None);
        assert_eq!(best(Mode::PreferFull, None, &[]), None);
    }

    #[test]
    fn what_was_asked_for_wins_within_its_kind_and_the_earliest_among_equals() {
        let (small, large, full) = (offer(1, Some(8)), offer(2, Some(4)), offer(3, None));
        let wanted = Some(small.assignment);
        assert_eq!(best(Mode::PreferShared, wanted, &[large, small, full]), Some(small));
        assert_eq!(best(Mode::PreferFull, wanted, &[large, small, full]), Some(full));
        let twin = offer(4, Some(4));
        assert_eq!(best(Mode::PreferShared, None, &[large, twin]), Some(large));
    }
}
