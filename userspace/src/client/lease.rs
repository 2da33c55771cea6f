//! A lease as its holder sees it.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    time::Duration,
};

use super::timers::{Moment, fuzzed};
use crate::wire::portparams::PortParams;

/// The lease time that never ends (RFC 2131 §3.3).
pub const INFINITE: u32 = u32::MAX;

/// What is leased: an address and, if it is shared, which ports of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The IPv4 address.
    pub address: Ipv4Addr,
    /// The port set; `None` is the whole address.
    pub port_params: Option<PortParams>,
}

impl Assignment {
    /// Whether others hold ports of the same address.
    pub fn is_shared(self) -> bool {
        self.port_params.is_some_and(|params| params.psid_length > 0)
    }

    /// The port ranges that may be used, lowest first (RFC 7597 §5.1).
    pub fn port_ranges(self) -> Vec<RangeInclusive<u16>> {
        match self.port_params {
            Some(params) => params.ports().ranges().collect(),
            None => vec![0..=u16::MAX],
        }
    }

    /// How many ports may be used.
    pub fn port_count(self) -> u32 {
        self.port_params.map_or(1 << 16, |params| params.ports().port_count())
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        let Some(PortParams { offset, psid_length, psid }) = self.port_params else {
            return Ok(());
        };
        write!(f, " PSID {psid} (offset {offset}, length {psid_length})")
    }
}

/// The times of a lease in seconds, as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Duration of the lease; [`INFINITE`] never ends.
    pub lease_seconds: u32,
    /// T1, the time to renew with its server.
    pub renewal_seconds: u32,
    /// T2, the time to rebind with any server.
    pub rebinding_seconds: u32,
}

impl Terms {
    /// The server's times if 0 < T1 < T2 < lease, else the defaults: half and seven eighths of the lease
    /// (RFC 2131 §4.4.5).
    pub fn sane(lease: u32, renewal: Option<u32>, rebinding: Option<u32>) -> Terms {
        let default = Terms {
            lease_seconds: lease,
            renewal_seconds: lease / 2,
            rebinding_seconds: lease - lease.div_ceil(8),
        };
        let given = Terms {
            lease_seconds: lease,
            renewal_seconds: renewal.unwrap_or(default.renewal_seconds),
            rebinding_seconds: rebinding.unwrap_or(default.rebinding_seconds),
        };
        let ordered = 0 < given.renewal_seconds
            && given.renewal_seconds < given.rebinding_seconds
            && given.rebinding_seconds < lease;
        if ordered { given } else { default }
    }

    /// How long the lease lasts; `None` is forever.
    pub fn duration(&self) -> Option<Duration> {
        let seconds = self.lease_seconds;
        (seconds != INFINITE).then(|| Duration::from_secs(seconds.into()))
    }
}

/// The most addresses that a [`Few`] keeps.
const FEW: usize = 4;

/// A list of up to four addresses, in order; what comes after the fourth is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few<T>([Option<T>; FEW]);

impl<T: Copy> Few<T> {
    /// The addresses.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.0.iter().copied().flatten()
    }

    /// The first, which comes first for a reason.
    pub fn first(&self) -> Option<T> {
        self.iter().next()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Few([const { None }; FEW])
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut few = Few::default();
        for (place, item) in few.0.iter_mut().zip(items) {
            *place = Some(item);
        }
        few
    }
}

/// What a lease brings besides the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Network {
    /// Option 1.
    pub subnet_mask: Option<Ipv4Addr>,
    /// Option 3.
    pub routers: Few<Ipv4Addr>,
    /// Option 6.
    pub dns_servers: Few<Ipv4Addr>,
}

/// The tunnel of a lease (RFC 8539).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softwire {
    /// Where the client's end is: the address that the server acknowledged in option 109.
    pub source: Ipv6Addr,
    /// Where the operator's end is (option 90). The first is to be used; others stand by.
    pub border_relays: Few<Ipv6Addr>,
}

/// An acknowledged lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub assignment: Assignment,
    /// The server that acknowledged it, option 54.
    pub server_id: Ipv4Addr,
    /// Its times in seconds, before the fuzz.
    pub terms: Terms,
    /// When the REQUEST that it answers was sent: the times count from here (RFC 2131 §4.4.1).
    pub began: Moment,
    /// When to renew, fuzz included; `None` is never.
    pub renew_at: Option<Moment>,
    /// When to rebind, fuzz included; `None` is never.
    pub rebind_at: Option<Moment>,
    /// When it ends; `None` is never.
    pub expires_at: Option<Moment>,
    /// What came with it.
    pub network: Network,
    /// Its tunnel; `None` unless the client was told to agree on one.
    pub softwire: Option<Softwire>,
}

impl Lease {
    /// A lease whose REQUEST was sent at `began`. T1 and T2 are moved by a little, so that clients which started
    /// together do not renew together (RFC 2131 §4.4.5).
    pub fn new(
        assignment: Assignment,
        server_id: Ipv4Addr,
        terms: Terms,
        began: Moment,
        random: &mut fastrand::Rng,
    ) -> Lease {
        let mut lease = Lease {
            assignment,
            server_id,
            terms,
            began,
            renew_at: None,
            rebind_at: None,
            expires_at: None,
            network: Network::default(),
            softwire: None,
        };
        let Some(whole) = terms.duration() else { return lease };
        let renewal = Duration::from_secs(terms.renewal_seconds.into());
        let rebinding = Duration::from_secs(terms.rebinding_seconds.into());
        let between = rebinding.saturating_sub(renewal);
        // The room keeps the order: what moves by a twentieth of the nearer gap cannot cross it.
        let renewal = fuzzed(renewal, renewal.min(between), random);
        let rebinding_room = between.min(whole.saturating_sub(rebinding));
        let rebinding = fuzzed(rebinding, rebinding_room, random);
        lease.renew_at = Some(began.plus(renewal));
        lease.rebind_at = Some(began.plus(rebinding));
        lease.expires_at = Some(began.plus(whole));
        lease
    }

    /// Whether the lease has ended.
    pub fn is_over(&self, now: Moment) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(lease_seconds: u32, renewal_seconds: u32, rebinding_seconds: u32) -> Terms {
        Terms { lease_seconds, renewal_seconds, rebinding_seconds }
    }

    #[test]
    fn k29_times_out_of_order_are_replaced_by_the_defaults() {
        assert_eq!(Terms::sane(3600, Some(600), Some(900)), terms(3600, 600, 900));
        assert_eq!(Terms::sane(3600, None, None), terms(3600, 1800, 3150));
        assert_eq!(Terms::sane(3600, Some(3200), Some(3150)), terms(3600, 1800, 3150), "T1 > T2");
        assert_eq!(
            Terms::sane(3600, Some(1800), Some(3600)),
            terms(3600, 1800, 3150),
            "T2 = lease"
        );
        assert_eq!(Terms::sane(3600, Some(0), Some(900)), terms(3600, 1800, 3150), "T1 = 0");
        assert_eq!(Terms::sane(3600, Some(3300), None), terms(3600, 1800, 3150), "T1 > default T2");
        assert_eq!(Terms::sane(3600, Some(100), None), terms(3600, 100, 3150));
    }

    #[test]
    fn the_times_stay_in_order_and_near_their_values_whatever_the_fuzz() {
        let assignment = Assignment { address: Ipv4Addr::new(192, 0, 2, 1), port_params: None };
        let mut random = fastrand::Rng::with_seed(3);
        for lease in [1, 2, 7, 60, 3600, 86_400, u32::MAX - 1] {
            for _ in 0..200 {
                let terms = Terms::sane(lease, None, None);
                let server = Ipv4Addr::LOCALHOST;
                let lease = Lease::new(assignment, server, terms, Moment(9), &mut random);
                let (renew, rebind) = (lease.renew_at.unwrap(), lease.rebind_at.unwrap());
                let end = lease.expires_at.unwrap();
                assert!(renew <= rebind && rebind < end, "{lease:?}");
                assert_eq!(end.since(lease.began).as_secs(), u64::from(terms.lease_seconds));
                let nominal = Duration::from_secs(terms.renewal_seconds.into());
                assert!(renew.since(lease.began).abs_diff(nominal) <= nominal / 20, "{lease:?}");
            }
        }
    }

    #[test]
    fn a_list_of_few_keeps_the_first_four() {
        let few: Few<u8> = (1..=6).collect();
        assert_eq!((few.iter().collect::<Vec<_>>(), few.first()), (vec![1, 2, 3, 4], Some(1)));
        assert!(!few.is_empty() && Few::<u8>::default().is_empty());
    }

    #[test]
    fn k31_the_port_ranges_of_offset_6_and_length_8_are_63() {
        let params = PortParams { offset: 6, psid_length: 8, psid: 0x34 };
        let assignment =
            Assignment { address: Ipv4Addr::new(192, 0, 2, 1), port_params: Some(params) };
        let ranges = assignment.port_ranges();
        assert_eq!((ranges.len(), assignment.port_count()), (63, 252));
        assert_eq!((ranges[0].clone(), ranges[62].clone()), (1232..=1235, 64720..=64723));
        assert!(ranges.iter().all(|range| range.clone().count() == 4));
        assert!(assignment.is_shared());
    }

    #[test]
    fn a_length_of_zero_is_the_whole_address_without_the_ports_below_the_offset() {
        let params = PortParams { offset: 6, psid_length: 0, psid: 0 };
        let assignment =
            Assignment { address: Ipv4Addr::new(192, 0, 2, 1), port_params: Some(params) };
        assert!(!assignment.is_shared());
        assert_eq!(assignment.port_count(), 64_512);
    }
}
