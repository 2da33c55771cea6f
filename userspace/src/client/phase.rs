//! The states of RFC 2131 §4.4 (Figure 5) and what each remembers.

use super::{
    choose::Offer,
    lease::{Assignment, Lease},
    timers::Moment,
};

/// A series of transmissions that wait for one answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// `xid` of what was sent last.
    pub(super) xid: u32,
    /// When the client began to try: `secs` counts from here.
    pub(super) began: Moment,
    /// `secs` of what was sent last.
    pub(super) seconds: u16,
    /// Transmissions so far.
    pub(super) tries: u32,
    /// First transmission with this `xid`. The lease that answers it begins here.
    pub(super) first_sent: Option<Moment>,
    /// When to send next.
    pub(super) transmit_at: Moment,
}

impl Exchange {
    /// One that is due at once.
    pub(super) fn new(xid: u32, now: Moment) -> Self {
        Exchange { xid, began: now, seconds: 0, tries: 0, first_sent: None, transmit_at: now }
    }

    /// The one that follows a DISCOVER: the REQUEST bears the same `xid` and `secs` (RFC 2131 §3.1).
    pub(super) fn following(&self, now: Moment) -> Self {
        Exchange { tries: 0, first_sent: None, transmit_at: now, ..self.clone() }
    }

    /// `secs`, saturating.
    pub(super) fn elapsed(&self, now: Moment) -> u16 {
        u16::try_from(now.since(self.began).as_secs()).unwrap_or(u16::MAX)
    }
}

/// What comes after a RELEASE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing.
    Stop,
    /// Another DISCOVER.
    Restart,
}

/// Where the client stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Not started.
    Idle,
    /// INIT: waiting to send the first DISCOVER.
    Init {
        /// When.
        until: Moment,
    },
    /// SELECTING: DISCOVER was sent, offers are collected.
    Selecting {
        /// The DISCOVER.
        exchange: Exchange,
        /// Offers so far, in order of arrival.
        offers: Vec<Offer>,
        /// When the best of them is taken; `None` as long as there is none.
        close_at: Option<Moment>,
    },
    /// REQUESTING: an offer was taken.
    Requesting {
        /// The REQUEST.
        exchange: Exchange,
        /// The offer.
        offer: Offer,
    },
    /// REBOOTING: what was leased before a restart is asked for again.
    Rebooting {
        /// The REQUEST.
        exchange: Exchange,
        /// What it asks for.
        assignment: Assignment,
    },
    /// BOUND.
    Bound(Lease),
    /// RENEWING.
    Renewing(Exchange, Lease),
    /// REBINDING.
    Rebinding(Exchange, Lease),
    /// BOUND, but nothing may be sent: the lease runs out.
    Fading(Lease),
    /// The RELEASE is on its way.
    Releasing(Exchange, Lease, After),
    /// It is over.
    Stopped,
}

impl Phase {
    /// The series of transmissions that is under way.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        match self {
            Phase::Selecting { exchange, .. }
            | Phase::Requesting { exchange, .. }
            | Phase::Rebooting { exchange, .. }
            | Phase::Renewing(exchange, _)
            | Phase::Rebinding(exchange, _)
            | Phase::Releasing(exchange, ..) => Some(exchange),
            Phase::Idle
            | Phase::Init { .. }
            | Phase::Bound(_)
            | Phase::Fading(_)
            | Phase::Stopped => None,
        }
    }

    /// The same, to change it.
    pub(super) fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match self {
            Phase::Selecting { exchange, .. }
            | Phase::Requesting { exchange, .. }
            | Phase::Rebooting { exchange, .. }
            | Phase::Renewing(exchange, _)
            | Phase::Rebinding(exchange, _)
            | Phase::Releasing(exchange, ..) => Some(exchange),
            Phase::Idle
            | Phase::Init { .. }
            | Phase::Bound(_)
            | Phase::Fading(_)
            | Phase::Stopped => None,
        }
    }

    /// The lease that is in use.
    pub(super) fn lease(&self) -> Option<&Lease> {
        match self {
            Phase::Bound(lease)
            | Phase::Renewing(_, lease)
            | Phase::Rebinding(_, lease)
            | Phase::Fading(lease) => Some(lease),
            _ => None,
        }
    }

    /// When something is due. `None`: nothing but an event moves it.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self {
            Phase::Idle | Phase::Stopped => None,
            Phase::Init { until } => Some(*until),
            Phase::Selecting { close_at: Some(close_at), .. } => Some(*close_at),
            Phase::Selecting { exchange, close_at: None, .. }
            | Phase::Requesting { exchange, .. }
            | Phase::Rebooting { exchange, .. }
            | Phase::Releasing(exchange, ..) => Some(exchange.transmit_at),
            Phase::Bound(lease) => earliest([lease.renew_at, lease.rebind_at, lease.expires_at]),
            Phase::Fading(lease) => lease.expires_at,
            Phase::Renewing(exchange, lease) => {
                earliest([Some(exchange.transmit_at), lease.rebind_at, lease.expires_at])
            }
            Phase::Rebinding(exchange, lease) => {
                earliest([Some(exchange.transmit_at), lease.expires_at, None])
            }
        }
    }
}

fn earliest(moments: [Option<Moment>; 3]) -> Option<Moment> {
    moments.into_iter().flatten().min()
}
