//! The client's end of a softwire (RFC 8539 §7): which address it is, and whether the server agrees.

use std::{net::Ipv6Addr, time::Duration};

use super::{
    lease::{Few, Softwire},
    timers::{Moment, between},
};
use crate::wire::dhcpv6::{
    OPTION_S46_BIND_PREFIX, OPTION_S46_BR, Options,
    softwire::{BindPrefix, border_relay},
};

/// The least wait before a server that acknowledged another address is asked again (RFC 8539 §7.5).
const RETRY_DELAY_MIN: Duration = Duration::from_mins(1);

/// The longest, so that clients that fell out with their server together do not return together.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(90);

/// REQUESTs that a server may answer with another address before its lease is given back.
const DISAGREEMENTS_MAX: u32 = 2;

/// How the client's end of the softwire is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address that it has to be; `None` takes a suitable one of [`addresses`](Self::addresses).
    pub source: Option<Ipv6Addr>,
    /// The interface's addresses, in order of preference.
    pub addresses: Vec<Ipv6Addr>,
    /// What was agreed on before a restart, for the REQUEST that confirms the lease.
    pub remembered: Option<Softwire>,
}

/// What a response said beside option 87.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ends {
    /// Border relays: the valid ones among options 90.
    pub border_relays: Few<Ipv6Addr>,
    /// Option 137; `None` if it is absent or to be ignored.
    pub bind_prefix: Option<BindPrefix>,
}

impl Ends {
    /// Reads the options of a response.
    pub fn read(options: &Options<'_>) -> Self {
        // req-C43 (RFC 8539 §7.4): a prefix that contradicts itself is ignored, as if it had not come.
        let prefix = |(_, content): (u16, &[u8])| BindPrefix::parse(content);
        Ends {
            border_relays: options
                .clone()
                .filter(|&(code, _)| code == OPTION_S46_BR)
                .filter_map(|(_, content)| border_relay(content))
                .collect(),
            bind_prefix: options
                .clone()
                .find(|&(code, _)| code == OPTION_S46_BIND_PREFIX)
                .and_then(prefix),
        }
    }
}

/// The client's end, as the machine knows it.
#[derive(Clone, Debug)]
pub(super) struct Tunnel {
    fixed: Option<Ipv6Addr>,
    addresses: Vec<Ipv6Addr>,
    bind_prefix: Option<BindPrefix>,
    border_relays: Few<Ipv6Addr>,
    /// What REQUESTs say in option 109.
    source: Option<Ipv6Addr>,
    /// ACKs in a row with another address than was asked for.
    disagreements: u32,
    /// When to ask for it again.
    retry_at: Option<Moment>,
}

/// What becomes of a lease whose ACK was read.
pub(super) enum Verdict {
    /// Use it.
    Agreed(Softwire),
    /// Use it as the server has it, and ask again later.
    Differs(Softwire),
    /// Give it back.
    GiveUp(Softwire),
}

impl Tunnel {
    pub(super) fn new(config: &Config) -> Self {
        let mut tunnel = Tunnel {
            fixed: config.source,
            addresses: config.addresses.clone(),
            bind_prefix: None,
            border_relays: config
                .remembered
                .map(|softwire| softwire.border_relays)
                .unwrap_or_default(),
            source: config.remembered.map(|softwire| softwire.source),
            disagreements: 0,
            retry_at: None,
        };
        tunnel.source = tunnel.choose(None);
        tunnel
    }

    /// What REQUESTs say in option 109.
    pub(super) fn source(&self) -> Option<Ipv6Addr> {
        self.source
    }

    /// When to ask again for what the server did not acknowledge.
    pub(super) fn retry_at(&self) -> Option<Moment> {
        self.retry_at
    }

    /// The retry is under way.
    pub(super) fn retrying(&mut self) {
        self.retry_at = None;
    }

    /// The address for a prefix: the one that there is if it will do, else the first that will.
    fn choose(&self, prefix: Option<BindPrefix>) -> Option<Ipv6Addr> {
        let suits = |address: &Ipv6Addr| {
            let scope = !(address.is_unicast_link_local()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_unspecified());
            scope && prefix.is_none_or(|prefix| prefix.contains(*address))
        };
        if self.fixed.is_some() {
            return self.fixed;
        }
        let current = self.source.filter(|source| self.addresses.contains(source));
        current.filter(suits).or_else(|| self.addresses.iter().copied().find(suits))
    }

    /// Whether an offer that came with these ends can be taken: there is another end, and an address
    /// for this one.
    pub(super) fn suits(&self, ends: &Ends) -> bool {
        !ends.border_relays.is_empty() && self.choose(ends.bind_prefix).is_some()
    }

    /// An offer was chosen: its REQUEST bears an address that suits it.
    pub(super) fn select(&mut self, ends: &Ends) {
        self.bind_prefix = ends.bind_prefix;
        self.border_relays = ends.border_relays;
        self.source = self.choose(self.bind_prefix);
        self.disagreements = 0;
        self.retry_at = None;
    }

    /// The interface has other addresses. Returns whether REQUESTs bear another one now.
    pub(super) fn follow(&mut self, addresses: &[Ipv6Addr]) -> bool {
        self.addresses = addresses.to_vec();
        // Without any that would do the former one stays: interfaces go down and come up again.
        let chosen = self.choose(self.bind_prefix).or(self.source);
        std::mem::replace(&mut self.source, chosen) != chosen
    }

    /// Compares what an ACK says with what was asked for. `None`: there is no address to speak of.
    pub(super) fn judge(
        &mut self,
        acknowledged: Option<Ipv6Addr>,
        ends: &Ends,
        now: Moment,
        random: &mut fastrand::Rng,
    ) -> Option<Verdict> {
        if !ends.border_relays.is_empty() {
            self.border_relays = ends.border_relays;
        }
        let requested = self.source?;
        // A server that says nothing was not asked to keep it elsewhere, either.
        let source = acknowledged.unwrap_or(requested);
        let softwire = Softwire { source, border_relays: self.border_relays };
        if source == requested {
            self.disagreements = 0;
            self.retry_at = None;
            return Some(Verdict::Agreed(softwire));
        }
        // req-C42 (RFC 8539 §7.5): ask again after a random while, then give it up.
        self.disagreements += 1;
        if self.disagreements >= DISAGREEMENTS_MAX {
            self.disagreements = 0;
            self.retry_at = None;
            return Some(Verdict::GiveUp(softwire));
        }
        self.retry_at = Some(now.plus(between(RETRY_DELAY_MIN, RETRY_DELAY_MAX, random)));
        Some(Verdict::Differs(softwire))
    }
}
