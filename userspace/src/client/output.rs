//! What the client tells its user: one block of text or one line of JSON an event, on standard output.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::Serialize;

use super::{
    identity,
    lease::{INFINITE, Lease},
    machine::Loss,
    received::Received,
    timers::Moment,
};

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The machine's clock and the wall clock, read at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The machine's clock.
    pub(super) now: Moment,
    /// Milliseconds since the Unix epoch.
    pub(super) unix_ms: u64,
}

impl Reading {
    /// A moment in seconds since the Unix epoch, as the wall clock stands now.
    pub(super) fn unix_seconds(self, moment: Moment) -> u64 {
        let behind = self.now.0.saturating_sub(moment.0);
        let ahead = moment.0.saturating_sub(self.now.0);
        self.unix_ms.saturating_add(ahead).saturating_sub(behind) / 1000
    }
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// There is one.
    Obtained,
    /// It goes on.
    Renewed,
    /// It goes on with other ports.
    Changed,
    /// It is over.
    Lost(Loss),
}

impl Happening {
    fn name(self) -> &'static str {
        match self {
            Happening::Obtained => "obtained",
            Happening::Renewed => "renewed",
            Happening::Changed => "changed",
            Happening::Lost(Loss::Released) => "released",
            Happening::Lost(_) => "lost",
        }
    }

    fn reason(self) -> Option<&'static str> {
        match self {
            Happening::Lost(Loss::Expired) => Some("expired"),
            Happening::Lost(Loss::Refused) => Some("refused"),
            Happening::Lost(Loss::SourceChanged) => Some("source-changed"),
            Happening::Lost(Loss::Withdrawn) => Some("withdrawn"),
            Happening::Lost(Loss::OtherSoftwire) => Some("other-softwire"),
            _ => None,
        }
    }
}

/// One line of JSON. Times are seconds, absolute ones since the Unix epoch; what never comes is `null`.
#[derive(Serialize)]
struct Line {
    /// `obtained`, `renewed`, `changed`, `lost` or `released`.
    event: &'static str,
    /// Why a lease was lost: `expired`, `refused`, `source-changed`, `withdrawn` or `other-softwire`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    address: Ipv4Addr,
    /// Whether others hold ports of the address.
    shared: bool,
    /// The port set and how it is cut; `null` for a whole address.
    psid: Option<u16>,
    offset: Option<u8>,
    psid_length: Option<u8>,
    /// First and last port of each range.
    port_ranges: Vec<(u16, u16)>,
    port_count: u32,
    subnet_mask: Option<Ipv4Addr>,
    routers: Vec<Ipv4Addr>,
    dns_servers: Vec<Ipv4Addr>,
    /// Both ends of the tunnel, if they were agreed on.
    softwire_source: Option<Ipv6Addr>,
    border_relays: Vec<Ipv6Addr>,
    /// What else the ACK brought, by code, in hexadecimal.
    options: BTreeMap<u8, String>,
    server_id: Ipv4Addr,
    /// 4294967295 never ends.
    lease_seconds: u32,
    renew_seconds: Option<u32>,
    rebind_seconds: Option<u32>,
    obtained_at: u64,
    renew_at: Option<u64>,
    rebind_at: Option<u64>,
    expires_at: Option<u64>,
}

/// The line of JSON about plain DHCPv4.
#[derive(Serialize)]
struct NativeLine<'a> {
    /// `native-stop` or `native-start`.
    event: &'static str,
    interface: &'a str,
}

/// Writes events.
pub(super) struct Reporter<W> {
    format: Format,
    out: W,
}

impl<W: Write> Reporter<W> {
    /// A reporter that writes to `out`.
    pub(super) fn new(format: Format, out: W) -> Self {
        Reporter { format, out }
    }

    /// Writes that plain DHCPv4 on the interface has to stop, or may start again.
    pub(super) fn report_native(&mut self, stops: bool, interface: &str) -> io::Result<()> {
        let event = if stops { "native-stop" } else { "native-start" };
        let mut text = match self.format {
            Format::Text => format!("{event} {interface}"),
            Format::Json => serde_json::to_string(&NativeLine { event, interface })?,
        };
        text.push('\n');
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes one event and sees to it that it leaves at once.
    pub(super) fn report(
        &mut self,
        what: Happening,
        lease: &Lease,
        received: &Received,
        at: Reading,
    ) -> io::Result<()> {
        let mut text = match self.format {
            Format::Text => describe(what, lease),
            Format::Json => serde_json::to_string(&line(what, lease, received, at))?,
        };
        text.push('\n');
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

fn line(what: Happening, lease: &Lease, received: &Received, at: Reading) -> Line {
    let holds = !matches!(what, Happening::Lost(_));
    let options = received.iter().filter(|_| holds);
    let params = lease.assignment.port_params;
    let ranges = lease.assignment.port_ranges();
    let ends = lease.terms.lease_seconds != INFINITE;
    let unix = |moment: Option<Moment>| moment.map(|moment| at.unix_seconds(moment));
    Line {
        event: what.name(),
        reason: what.reason(),
        address: lease.assignment.address,
        shared: lease.assignment.is_shared(),
        psid: params.map(|params| params.psid),
        offset: params.map(|params| params.offset),
        psid_length: params.map(|params| params.psid_length),
        port_ranges: ranges.iter().map(|range| (*range.start(), *range.end())).collect(),
        port_count: lease.assignment.port_count(),
        subnet_mask: lease.network.subnet_mask,
        routers: lease.network.routers.iter().collect(),
        dns_servers: lease.network.dns_servers.iter().collect(),
        softwire_source: lease.softwire.map(|softwire| softwire.source),
        border_relays: lease
            .softwire
            .map_or_else(Vec::new, |softwire| softwire.border_relays.iter().collect()),
        options: options.map(|(code, octets)| (code, identity::to_hex(octets))).collect(),
        server_id: lease.server_id,
        lease_seconds: lease.terms.lease_seconds,
        renew_seconds: ends.then_some(lease.terms.renewal_seconds),
        rebind_seconds: ends.then_some(lease.terms.rebinding_seconds),
        obtained_at: at.unix_seconds(lease.began),
        renew_at: unix(lease.renew_at),
        rebind_at: unix(lease.rebind_at),
        expires_at: unix(lease.expires_at),
    }
}

/// Ranges that a person gets to see before the rest is only counted.
const RANGES_SHOWN: usize = 3;

fn describe(what: Happening, lease: &Lease) -> String {
    let mut text = format!("{} {}", what.name(), lease.assignment);
    // Writing to a String cannot fail.
    if let Some(reason) = what.reason() {
        let _ = write!(text, ": {reason}");
    }
    if matches!(what, Happening::Lost(_)) {
        return text;
    }
    let ranges = lease.assignment.port_ranges();
    let _ = write!(text, "\n  {} ports:", lease.assignment.port_count());
    for range in ranges.iter().take(RANGES_SHOWN) {
        let _ = write!(text, " {}-{}", range.start(), range.end());
    }
    if let (Some(last), true) = (ranges.last(), ranges.len() > RANGES_SHOWN) {
        let _ = write!(text, " ... {}-{} ({} ranges)", last.start(), last.end(), ranges.len());
    }
    if let Some(softwire) = lease.softwire {
        let _ = write!(text, "\n  softwire from {}", softwire.source);
        for relay in softwire.border_relays.iter() {
            let _ = write!(text, " to {relay}");
        }
    }
    let terms = lease.terms;
    if terms.lease_seconds == INFINITE {
        let _ = write!(text, "\n  lease without end, server {}", lease.server_id);
    } else {
        let _ = write!(
            text,
            "\n  lease {} s, renew after {} s, rebind after {} s, server {}",
            terms.lease_seconds, terms.renewal_seconds, terms.rebinding_seconds, lease.server_id
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        client::{
            lease::{Assignment, Softwire, Terms},
            received,
        },
        wire::portparams::PortParams,
    };

    fn lease(port_params: Option<PortParams>, lease_seconds: u32) -> Lease {
        let assignment = Assignment { address: Ipv4Addr::new(192, 0, 2, 18), port_params };
        let mut random = fastrand::Rng::with_seed(1);
        let terms = Terms::sane(lease_seconds, None, None);
        let server = Ipv4Addr::new(192, 0, 2, 254);
        let mut lease = Lease::new(assignment, server, terms, Moment(5000), &mut random);
        // Without the fuzz, so that the text is the same at every run.
        if lease_seconds != INFINITE {
            lease.renew_at = Some(Moment(5000 + u64::from(terms.renewal_seconds) * 1000));
            lease.rebind_at = Some(Moment(5000 + u64::from(terms.rebinding_seconds) * 1000));
        }
        lease
    }

    fn softwire() -> Softwire {
        let border_relays = ["2001:db8::b1".parse().unwrap()].into_iter().collect();
        Softwire { source: "2001:db8::2".parse().unwrap(), border_relays }
    }

    fn written(format: Format, what: Happening, lease: &Lease) -> String {
        let mut out = Vec::new();
        let at = Reading { now: Moment(7000), unix_ms: 1_700_000_002_500 };
        let received = Received::read(&received::tests::ack(&[(26, &[5, 0])]));
        Reporter::new(format, &mut out).report(what, lease, &received, at).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_shared_lease_reads_well() {
        let lease = lease(PortParams::new(6, 8, 0x34), 3600);
        insta::assert_snapshot!(written(Format::Text, Happening::Obtained, &lease), @r"
        obtained 192.0.2.18 PSID 52 (offset 6, length 8)
          252 ports: 1232-1235 2256-2259 3280-3283 ... 64720-64723 (63 ranges)
          lease 3600 s, renew after 1800 s, rebind after 3150 s, server 192.0.2.254
        ");
        let tunneled = Lease { softwire: Some(softwire()), ..lease };
        let text = written(Format::Text, Happening::Obtained, &tunneled);
        assert!(text.contains("\n  softwire from 2001:db8::2 to 2001:db8::b1\n"), "{text}");
        let lost = written(Format::Text, Happening::Lost(Loss::Expired), &lease);
        assert_eq!(lost, "lost 192.0.2.18 PSID 52 (offset 6, length 8): expired\n");
    }

    #[test]
    fn a_whole_address_without_end_reads_well() {
        let lease = lease(None, INFINITE);
        insta::assert_snapshot!(written(Format::Text, Happening::Renewed, &lease), @r"
        renewed 192.0.2.18
          65536 ports: 0-65535
          lease without end, server 192.0.2.254
        ");
    }

    fn parsed(what: Happening, lease: &Lease) -> serde_json::Value {
        let text = written(Format::Json, what, lease);
        assert_eq!(text.matches('\n').count(), 1, "one line an event");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_of_json_has_ports_and_times() {
        let mut lease = lease(PortParams::new(0, 6, 1), 3600);
        lease.network.dns_servers = [Ipv4Addr::new(192, 0, 2, 53)].into_iter().collect();
        lease.softwire = Some(softwire());
        let expected = json!({
            "event": "obtained", "address": "192.0.2.18", "shared": true,
            "psid": 1, "offset": 0, "psid_length": 6,
            "port_ranges": [[1024, 2047]], "port_count": 1024, "server_id": "192.0.2.254",
            "subnet_mask": null, "routers": [], "dns_servers": ["192.0.2.53"],
            "softwire_source": "2001:db8::2", "border_relays": ["2001:db8::b1"],
            "options": { "26": "0500" },
            "lease_seconds": 3600, "renew_seconds": 1800, "rebind_seconds": 3150,
            "obtained_at": 1_700_000_000, "renew_at": 1_700_001_800,
            "rebind_at": 1_700_003_150, "expires_at": 1_700_003_600,
        });
        assert_eq!(parsed(Happening::Obtained, &lease), expected);
        let lost = parsed(Happening::Lost(Loss::Refused), &lease);
        assert_eq!((&lost["event"], &lost["reason"]), (&json!("lost"), &json!("refused")));
        let released = parsed(Happening::Lost(Loss::Released), &lease);
        assert_eq!((&released["event"], &released["reason"]), (&json!("released"), &json!(null)));
    }

    #[test]
    fn plain_dhcpv4_is_told_to_stop_and_that_it_may_start() {
        let written = |format, stops| {
            let mut out = Vec::new();
            Reporter::new(format, &mut out).report_native(stops, "wan").unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(Format::Text, true), "native-stop wan\n");
        let line = "{\"event\":\"native-start\",\"interface\":\"wan\"}\n";
        assert_eq!(written(Format::Json, false), line);
    }

    #[test]
    fn what_a_whole_address_without_end_has_not_is_null() {
        let parsed = parsed(Happening::Obtained, &lease(None, INFINITE));
        for key in ["psid", "offset", "psid_length", "renew_at", "rebind_at", "expires_at"] {
            assert_eq!(parsed[key], json!(null), "{key}");
        }
        assert_eq!(parsed["shared"], json!(false));
        assert_eq!(parsed["lease_seconds"], json!(4_294_967_295_u32));
    }
}
