//! What the machine does with the three answers that there are: OFFER, ACK and NAK.

use std::net::Ipv4Addr;

use super::{
    choose::Offer,
    lease::{Assignment, Lease, Terms},
    machine::{Action, Loss, Machine, Note},
    phase::{After, Phase},
    replies::{Grant, Ignored},
    softwire::{Tunnel, Verdict},
    timers::{Moment, RESTART_DELAY},
};
use crate::wire::dhcpv4::{MessageType, PortParamsField};

/// Offers that are weighed against each other; later ones are ignored.
const OFFERS_MAX: usize = 16;

/// Why what an ACK gives cannot be used.
enum Unusable {
    /// Option 159 contradicts itself.
    BadPortParams,
    /// Another address, the whole address in place of a port set, or a kind that is not wanted.
    Other,
}

impl Machine {
    /// Collects an OFFER. The first one opens the window in which better ones may come.
    pub(super) fn take_offer(
        &mut self,
        now: Moment,
        grant: &Grant,
        actions: &mut Vec<Action>,
    ) -> Result<(), Ignored> {
        if !matches!(self.phase, Phase::Selecting { .. }) {
            return Err(Ignored::Unexpected(MessageType::Offer));
        }
        let port_params = match grant.port_params {
            PortParamsField::Absent => None,
            PortParamsField::Present(params) => Some(params),
            PortParamsField::Invalid => return Err(Ignored::BadPortParams),
        };
        let assignment = Assignment { address: grant.address, port_params };
        let mode = self.mode();
        let Phase::Selecting { offers, close_at, .. } = &mut self.phase else {
            return Err(Ignored::Unexpected(MessageType::Offer));
        };
        if !mode.accepts(assignment) {
            return Err(Ignored::UnwantedKind);
        }
        // req-C40 (RFC 8539 §7.1): an OFFER is of use only with the other end of the softwire.
        if self.tunnel.as_ref().is_some_and(|tunnel| !tunnel.suits(&grant.ends)) {
            return Err(Ignored::NoSoftwire);
        }
        let offer = Offer { assignment, server_id: grant.server_id, ends: grant.ends };
        // A server's later offer replaces its earlier one, which it no longer holds for us.
        let full = offers.len() >= OFFERS_MAX;
        match offers.iter_mut().find(|earlier| earlier.server_id == offer.server_id) {
            Some(earlier) => *earlier = offer,
            None if full => return Err(Ignored::TooManyOffers),
            None => offers.push(offer),
        }
        close_at.get_or_insert(now.plus(self.config.offer_wait));
        actions.push(Action::Log(Note::Offered(offer)));
        Ok(())
    }

    /// Takes an ACK as the lease that was asked for, or as its extension.
    pub(super) fn take_ack(
        &mut self,
        now: Moment,
        grant: &Grant,
        actions: &mut Vec<Action>,
    ) -> Result<(), Ignored> {
        let (requested, current) = match &self.phase {
            Phase::Requesting { offer, .. } if offer.server_id != grant.server_id => {
                return Err(Ignored::OtherServer(grant.server_id));
            }
            Phase::Requesting { offer, .. } => (offer.assignment, None),
            Phase::Rebooting { assignment, .. } => (*assignment, None),
            Phase::Renewing(_, lease) | Phase::Rebinding(_, lease) => {
                (lease.assignment, Some(*lease))
            }
            _ => return Err(Ignored::Unexpected(MessageType::Ack)),
        };
        let acknowledged = match (self.usable(grant, requested), current) {
            (Ok(acknowledged), _) => acknowledged,
            // What we hold stays ours until it ends, whatever else is sent.
            (Err(Unusable::BadPortParams), Some(_)) => return Err(Ignored::BadPortParams),
            (Err(Unusable::Other), Some(_)) => return Err(Ignored::OtherAssignment),
            (Err(_), None) => {
                // req-C36 (RFC 2131 §3.1): ten seconds at least, lest an unfit server be asked and asked.
                actions.push(Action::Log(Note::Unacceptable));
                self.wanted = None;
                self.phase = Phase::Init { until: now.plus(RESTART_DELAY) };
                return Ok(());
            }
        };
        let Some(began) = self.phase.exchange().and_then(|exchange| exchange.first_sent) else {
            return Err(Ignored::Unexpected(MessageType::Ack));
        };
        let terms =
            Terms::sane(grant.lease_seconds, grant.renewal_seconds, grant.rebinding_seconds);
        if terms.duration().is_some_and(|duration| began.plus(duration) <= now) {
            return Err(Ignored::TooLate);
        }
        let mut lease = Lease::new(acknowledged, grant.server_id, terms, began, &mut self.random);
        lease.network = grant.network;
        let verdict = self.tunnel.as_mut().and_then(|tunnel| {
            tunnel.judge(grant.softwire_source, &grant.ends, now, &mut self.random)
        });
        match verdict {
            None => {}
            Some(Verdict::Agreed(softwire)) => lease.softwire = Some(softwire),
            Some(Verdict::Differs(softwire)) => {
                lease.softwire = Some(softwire);
                let requested = self.tunnel.as_ref().and_then(Tunnel::source);
                actions.extend(requested.map(|requested| {
                    let acknowledged = softwire.source;
                    Action::Log(Note::OtherSoftwire { requested, acknowledged })
                }));
            }
            Some(Verdict::GiveUp(softwire)) => {
                self.give_back(now, Lease { softwire: Some(softwire), ..lease }, current, actions);
                return Ok(());
            }
        }
        if acknowledged != requested {
            actions.push(Action::Log(Note::Differs { requested, acknowledged }));
        }
        actions.push(match current {
            None => Action::Obtained(lease),
            Some(from) if acknowledged != requested || from.softwire != lease.softwire => {
                Action::Changed { from, to: lease }
            }
            Some(_) => Action::Renewed(lease),
        });
        self.wanted = Some(acknowledged);
        // req-C26 (RFC 7618 §6 step 5, §7): no probe whether somebody else uses it. Others do.
        self.phase = Phase::Bound(lease);
        Ok(())
    }

    /// Releases a lease whose softwire the server has elsewhere, and starts again (RFC 8539 §7.5).
    fn give_back(
        &mut self,
        now: Moment,
        lease: Lease,
        current: Option<Lease>,
        actions: &mut Vec<Action>,
    ) {
        if let Some(current) = current {
            actions.push(Action::Lost(current, Loss::OtherSoftwire));
        }
        self.wanted = None;
        let exchange = self.new_exchange(now);
        self.phase = Phase::Releasing(exchange, lease, After::Restart);
    }

    /// What an ACK gives, if it can be used in place of what was asked for. Another port set of the same address
    /// can: what is explicit counts. The whole address where ports were offered cannot: others hold the rest.
    ///
    /// req-C25 (RFC 7618 §7): the PSID of the ACK is the PSID that is used.
    /// req-C24 (RFC 7618 §7): a whole address is used whole if neither OFFER nor ACK spoke of ports.
    fn usable(&self, grant: &Grant, requested: Assignment) -> Result<Assignment, Unusable> {
        let port_params = match grant.port_params {
            PortParamsField::Invalid => return Err(Unusable::BadPortParams),
            PortParamsField::Absent if requested.port_params.is_some() => {
                return Err(Unusable::Other);
            }
            PortParamsField::Absent => None,
            PortParamsField::Present(params) => Some(params),
        };
        let assignment = Assignment { address: grant.address, port_params };
        let same_address = assignment.address == requested.address;
        if same_address && self.mode().accepts(assignment) {
            Ok(assignment)
        } else {
            Err(Unusable::Other)
        }
    }

    /// req-C35 (RFC 2131 §3.1): a refusal, and the client starts again.
    pub(super) fn take_nak(
        &mut self,
        now: Moment,
        server_id: Ipv4Addr,
        actions: &mut Vec<Action>,
    ) -> Result<(), Ignored> {
        match &self.phase {
            Phase::Requesting { offer, .. } if offer.server_id != server_id => {
                return Err(Ignored::OtherServer(server_id));
            }
            Phase::Requesting { .. } => {
                // At random, so that a server which refuses what it offers is not asked in a tight circle.
                self.wait_at_random(now);
            }
            Phase::Rebooting { .. } => self.phase = Phase::Init { until: now },
            Phase::Renewing(_, lease) | Phase::Rebinding(_, lease) => {
                let lease = *lease;
                self.lose(now, lease, Loss::Refused, actions);
                return Ok(());
            }
            _ => return Err(Ignored::Unexpected(MessageType::Nak)),
        }
        self.wanted = None;
        actions.push(Action::Log(Note::Refused));
        Ok(())
    }
}
