//! What a script gets to know: names and values of its environment.
//!
//! Every value that a server can choose is a number, an address, hexadecimal digits or a checked domain name: there
//! is nothing in it that a shell could take for something else.

use std::{fmt::Display, net::Ipv4Addr};

use crate::{
    client::{
        identity,
        lease::{Assignment, Lease},
        machine::Loss,
        output::Happening,
        received::Received,
        timers::Moment,
    },
    wire::dhcpv4,
};

/// What all names begin with.
pub(super) const PREFIX: &str = "PORTLEASE_";

/// Longest value. The kernel starts no program with a longer one than twice that.
const VALUE_LENGTH_MAX: usize = 1 << 16;

/// What a script is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// There is a lease.
    Bound,
    /// It goes on.
    Renewed,
    /// It goes on with other ports.
    Changed,
    /// It ended.
    Expired,
    /// The server took it back.
    Refused,
    /// The client left the IPv6 address from which it was leased.
    SourceChanged,
    /// It was given back.
    Released,
    /// The network no longer offers DHCPv4 over DHCPv6.
    Withdrawn,
    /// The server insists on another softwire address.
    OtherSoftwire,
    /// Plain DHCPv4 on the interface has to stop.
    NativeStop,
    /// It may start again.
    NativeStart,
    /// The client ends.
    Stop,
}

impl Occasion {
    /// Its name, the value of `PORTLEASE_EVENT`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Occasion::Bound => "bound",
            Occasion::Renewed => "renewed",
            Occasion::Changed => "changed",
            Occasion::Expired => "expired",
            Occasion::Refused => "refused",
            Occasion::SourceChanged => "source-changed",
            Occasion::Released => "released",
            Occasion::Withdrawn => "withdrawn",
            Occasion::OtherSoftwire => "other-softwire",
            Occasion::NativeStop => "native-stop",
            Occasion::NativeStart => "native-start",
            Occasion::Stop => "stop",
        }
    }
}

impl From<Happening> for Occasion {
    fn from(what: Happening) -> Self {
        match what {
            Happening::Obtained => Occasion::Bound,
            Happening::Renewed => Occasion::Renewed,
            Happening::Changed => Occasion::Changed,
            Happening::Lost(Loss::Expired) => Occasion::Expired,
            Happening::Lost(Loss::Refused) => Occasion::Refused,
            Happening::Lost(Loss::SourceChanged) => Occasion::SourceChanged,
            Happening::Lost(Loss::Released) => Occasion::Released,
            Happening::Lost(Loss::Withdrawn) => Occasion::Withdrawn,
            Happening::Lost(Loss::OtherSoftwire) => Occasion::OtherSoftwire,
        }
    }
}

/// Names, without [`PREFIX`], and values.
#[derive(Clone, Debug)]
pub(super) struct Variables {
    event: &'static str,
    list: Vec<(String, String)>,
}

impl Variables {
    /// Those that every event has.
    pub(super) fn new(occasion: Occasion, interface: &str) -> Self {
        let mut variables = Variables { event: occasion.name(), list: Vec::new() };
        variables.put("EVENT", occasion.name());
        variables.put("INTERFACE", interface);
        variables
    }

    /// The event's name.
    pub(super) fn event(&self) -> &'static str {
        self.event
    }

    /// Names as the script sees them, and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (String, &str)> {
        self.list.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value.as_str()))
    }

    /// Adds a value, unless it is too long for an environment.
    pub(super) fn put(&mut self, name: impl Into<String>, value: impl Display) {
        let value = value.to_string();
        if value.len() <= VALUE_LENGTH_MAX {
            self.list.push((name.into(), value));
        }
    }

    /// Adds a value that may not be there. Then there is no variable.
    fn put_some<T: Display>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn put_list<T: Display>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
        if !values.is_empty() {
            self.put(name, values.join(" "));
        }
    }

    /// A lease. `unix_seconds` says when a moment is by the wall clock.
    pub(super) fn put_lease(&mut self, lease: &Lease, unix_seconds: impl Fn(Moment) -> u64) {
        self.put_assignment("", lease.assignment);
        self.put("SERVER_ID", lease.server_id);
        self.put("LEASE_SECONDS", lease.terms.lease_seconds);
        if lease.expires_at.is_some() {
            self.put("RENEW_SECONDS", lease.terms.renewal_seconds);
            self.put("REBIND_SECONDS", lease.terms.rebinding_seconds);
        }
        self.put_some("EXPIRES_AT", lease.expires_at.map(unix_seconds));
        if let Some(softwire) = lease.softwire {
            self.put("SOFTWIRE_SOURCE", softwire.source);
            self.put_list("BORDER_RELAYS", softwire.border_relays.iter());
        }
    }

    /// What was leased before a change.
    pub(super) fn put_former(&mut self, former: Assignment) {
        self.put_assignment("OLD_", former);
    }

    fn put_assignment(&mut self, prefix: &str, assignment: Assignment) {
        self.put(format!("{prefix}ADDRESS"), assignment.address);
        self.put(format!("{prefix}SHARED"), u8::from(assignment.is_shared()));
        if let Some(params) = assignment.port_params {
            self.put(format!("{prefix}PSID"), params.psid);
            self.put(format!("{prefix}PSID_LENGTH"), params.psid_length);
            self.put(format!("{prefix}PSID_OFFSET"), params.offset);
        }
        let ranges = assignment.port_ranges();
        let ranges = ranges.iter().map(|range| format!("{}-{}", range.start(), range.end()));
        self.put_list(&format!("{prefix}PORT_RANGES"), ranges);
        self.put(format!("{prefix}PORT_COUNT"), assignment.port_count());
    }

    /// What came with a lease.
    pub(super) fn put_received(&mut self, received: &Received) {
        let first = |addresses: Vec<Ipv4Addr>| addresses.into_iter().next();
        self.put_some("SUBNET_MASK", first(received.addresses(dhcpv4::OPTION_SUBNET_MASK)));
        self.put_list("ROUTERS", received.addresses(dhcpv4::OPTION_ROUTER));
        self.put_list("DNS_SERVERS", received.addresses(dhcpv4::OPTION_DNS_SERVERS));
        self.put_some("DOMAIN_NAME", received.domain_name());
        self.put_some("MTU", received.mtu());
        for (code, octets) in received.iter() {
            self.put(format!("OPTION_{code}"), identity::to_hex(octets));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{
            lease::{Few, Softwire, Terms},
            received,
        },
        wire::portparams::PortParams,
    };

    fn lease(seconds: u32) -> Lease {
        let assignment = Assignment {
            address: Ipv4Addr::new(192, 0, 2, 18),
            port_params: PortParams::new(0, 6, 1),
        };
        let terms = Terms::sane(seconds, None, None);
        let mut random = fastrand::Rng::with_seed(1);
        let server = Ipv4Addr::new(192, 0, 2, 254);
        Lease::new(assignment, server, terms, Moment(5000), &mut random)
    }

    fn shown(variables: &Variables) -> String {
        variables.iter().flat_map(|(name, value)| [name, format!("={value}\n")]).collect()
    }

    #[test]
    fn a_lease_and_its_options_are_all_there() {
        let mut variables = Variables::new(Occasion::Changed, "eth0");
        let mut lease = lease(3600);
        let border_relays: Few<_> = ["2001:db8::b1".parse().unwrap()].into_iter().collect();
        lease.softwire = Some(Softwire { source: "2001:db8::1".parse().unwrap(), border_relays });
        variables.put_lease(&lease, |moment| moment.0 / 1000);
        let former = PortParams::new(0, 6, 2);
        variables.put_former(Assignment { port_params: former, ..lease.assignment });
        let ack = received::tests::ack(&[
            (6, &[192, 0, 2, 53, 192, 0, 2, 54]),
            (15, b"home.example"),
            (26, &[5, 0]),
        ]);
        variables.put_received(&Received::read(&ack));
        insta::assert_snapshot!(shown(&variables), @r#"
        PORTLEASE_EVENT=changed
        PORTLEASE_INTERFACE=eth0
        PORTLEASE_ADDRESS=192.0.2.18
        PORTLEASE_SHARED=1
        PORTLEASE_PSID=1
        PORTLEASE_PSID_LENGTH=6
        PORTLEASE_PSID_OFFSET=0
        PORTLEASE_PORT_RANGES=1024-2047
        PORTLEASE_PORT_COUNT=1024
        PORTLEASE_SERVER_ID=192.0.2.254
        PORTLEASE_LEASE_SECONDS=3600
        PORTLEASE_RENEW_SECONDS=1800
        PORTLEASE_REBIND_SECONDS=3150
        PORTLEASE_EXPIRES_AT=3605
        PORTLEASE_SOFTWIRE_SOURCE=2001:db8::1
        PORTLEASE_BORDER_RELAYS=2001:db8::b1
        PORTLEASE_OLD_ADDRESS=192.0.2.18
        PORTLEASE_OLD_SHARED=1
        PORTLEASE_OLD_PSID=2
        PORTLEASE_OLD_PSID_LENGTH=6
        PORTLEASE_OLD_PSID_OFFSET=0
        PORTLEASE_OLD_PORT_RANGES=2048-3071
        PORTLEASE_OLD_PORT_COUNT=1024
        PORTLEASE_DNS_SERVERS=192.0.2.53 192.0.2.54
        PORTLEASE_DOMAIN_NAME=home.example
        PORTLEASE_MTU=1280
        PORTLEASE_OPTION_6=c0000235c0000236
        PORTLEASE_OPTION_15=686f6d652e6578616d706c65
        PORTLEASE_OPTION_26=0500
        "#);
    }

    #[test]
    fn nothing_that_a_shell_could_misread_passes() {
        let mut variables = Variables::new(Occasion::Bound, "eth0");
        let hostile = b"$(reboot); `id` \n\"'\\ x=y & | <\0\xff";
        let options: Vec<(u8, &[u8])> = [1, 3, 6, 12, 15, 26, 56, 114, 252]
            .into_iter()
            .map(|code| (code, &hostile[..]))
            .collect();
        variables.put_received(&Received::read(&received::tests::ack(&options)));
        let fine = |c: char| c.is_ascii_alphanumeric() || "_-.: ".contains(c);
        assert!(variables.iter().all(|(name, value)| name.chars().chain(value.chars()).all(fine)));
        assert_eq!(variables.iter().filter(|(name, _)| name.contains("OPTION_")).count(), 9);
        assert!(!shown(&variables).contains("DOMAIN_NAME"));
    }

    #[test]
    fn what_never_comes_has_no_variable_and_what_is_too_long_neither() {
        let mut variables = Variables::new(Occasion::Bound, "eth0");
        variables.put_lease(&lease(u32::MAX), |moment| moment.0);
        let text = shown(&variables);
        assert!(text.contains("PORTLEASE_LEASE_SECONDS=4294967295\n"));
        for name in ["RENEW_SECONDS", "REBIND_SECONDS", "EXPIRES_AT", "SOFTWIRE", "DNS_SERVERS"] {
            assert!(!text.contains(name), "{name}");
        }
        let mut variables = Variables::new(Occasion::Bound, "eth0");
        let port_params = PortParams::new(15, 1, 1);
        variables.put_former(Assignment { port_params, ..lease(60).assignment });
        let text = shown(&variables);
        assert!(text.contains("PORTLEASE_OLD_PORT_COUNT=32767\n"));
        assert!(!text.contains("PORT_RANGES"), "32767 ranges: they follow from the PSID");
    }
}
