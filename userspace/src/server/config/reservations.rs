//! `[[link.reservation]]`: tuples that are kept for one client each.

use std::net::Ipv4Addr;
use std::ops::Range;

use toml::Spanned;

use crate::engine::options::OptionSet;
use crate::engine::policy::{Reservation, ReservedFor};
use crate::lease::{
    geometry::{Geometry, PoolSpec},
    key::LinkId,
    record::Tuple,
};

use super::file::{self, File};
use super::links::Links;
use super::options::Level;
use super::report::Problems;
use super::units;

const CLIENT_ID: &str = "option 61 of the client in hexadecimal, 2 to 255 octets";
const REMOTE_ID: &str = "an enterprise number, a colon, and text or hexadecimal after 0x";
const ADDRESS: &str = "an address of a pool of this link";

/// Octets of a client identifier (RFC 2132 §9.14; 255 is all that one option holds).
const CLIENT_ID_LENGTHS: std::ops::RangeInclusive<usize> = 2..=255;

/// What is reserved, and the options that come with it.
#[derive(Default)]
pub(super) struct Reservations {
    pub(super) list: Vec<Reservation>,
    /// In the order of tuples.
    pub(super) options: Vec<(Tuple, OptionSet)>,
    spans: Vec<Range<usize>>,
}

/// Compiles the reservations of all links.
pub(super) fn compile(file: &File, links: &Links, problems: &mut Problems<'_>) -> Reservations {
    let mut reservations = Reservations::default();
    for (id, link) in (0..=u16::MAX).map(LinkId).zip(&file.link) {
        for written in &link.get_ref().reservation {
            reservations.add(id, written, links, problems);
        }
    }
    reservations.options.sort_by_key(|(tuple, _)| *tuple);
    reservations
}

impl Reservations {
    /// All tuples.
    pub(super) fn tuples(&self) -> Vec<Tuple> {
        self.list.iter().map(|reservation| reservation.tuple).collect()
    }

    fn add(
        &mut self,
        link: LinkId,
        written: &Spanned<file::Reservation>,
        links: &Links,
        problems: &mut Problems<'_>,
    ) {
        let (span, table) = (written.span(), written.get_ref());
        let client = client(table, &span, problems);
        let tuple = tuple(table, &span, link, links, problems);
        let level = Level::compile(&table.options, problems);
        let (Some(client), Some((pool, tuple))) = (client, tuple) else { return };
        let reservation = Reservation { link, client, tuple };
        let others = || self.list.iter().zip(&self.spans);
        if let Some((_, other)) = others().find(|(other, _)| other.tuple == tuple) {
            let what = format!("reserved already ({})", problems.place(other));
            problems.add(at_address(table, &span), what, "each tuple for one client");
        }
        let same = |other: &Reservation| other.link == link && other.client == reservation.client;
        if let Some((_, other)) = others().find(|(other, _)| same(other)) {
            let what = format!("has a reservation on this link ({})", problems.place(other));
            problems.add(at_client(table, &span), what, "each client once on a link");
        }
        if !table.options.is_empty()
            && let Some(outer) = links.pool_options.get(pool)
        {
            self.options.push((tuple, level.within(outer)));
        }
        self.list.push(reservation);
        self.spans.push(span);
    }
}

fn at_client(table: &file::Reservation, span: &Range<usize>) -> Range<usize> {
    let value = table.client_id.as_ref().or(table.remote_id.as_ref());
    value.map_or(span.clone(), Spanned::span)
}

fn at_address(table: &file::Reservation, span: &Range<usize>) -> Range<usize> {
    table.address.as_ref().map_or(span.clone(), Spanned::span)
}

/// Whom it is for: exactly one of the two keys.
fn client(
    table: &file::Reservation,
    span: &Range<usize>,
    problems: &mut Problems<'_>,
) -> Option<ReservedFor> {
    match (&table.client_id, &table.remote_id) {
        (Some(value), None) => {
            problems.read(value, CLIENT_ID, client_id).map(ReservedFor::ClientIdentifier)
        }
        (None, Some(value)) => {
            problems.read(value, REMOTE_ID, units::remote_id).map(ReservedFor::RemoteId)
        }
        (Some(_), Some(second)) => {
            let allowed = "one of client-id and remote-id";
            problems.add(second.span(), "beside client-id", allowed);
            None
        }
        (None, None) => {
            let allowed = "client-id or remote-id";
            problems.add(span.clone(), "nobody to reserve for", allowed);
            None
        }
    }
}

/// The octets of a client identifier, in hexadecimal.
fn client_id(text: &str) -> Result<Vec<u8>, String> {
    let octets = units::octets(&format!("0x{}", text.strip_prefix("0x").unwrap_or(text)));
    let octets = octets.map_err(|what| what.replace(" after 0x", ""))?;
    if CLIENT_ID_LENGTHS.contains(&octets.len()) {
        Ok(octets)
    } else {
        Err(format!("its length is {}", octets.len()))
    }
}

/// What is reserved, and the number of the pool that has it.
fn tuple(
    table: &file::Reservation,
    span: &Range<usize>,
    link: LinkId,
    links: &Links,
    problems: &mut Problems<'_>,
) -> Option<(usize, Tuple)> {
    let Some(written) = &table.address else {
        problems.add(span.clone(), "address is missing", ADDRESS);
        return None;
    };
    let address: Ipv4Addr = problems.read(written, ADDRESS, |text| {
        text.parse().map_err(|_| "not an IPv4 address".to_owned())
    })?;
    let has = |pool: &PoolSpec| pool.ranges.iter().any(|range| range.contains(&address));
    let mut pools = links.pools.iter().enumerate().filter(|(_, pool)| has(pool));
    let Some((number, pool)) = pools.clone().find(|(_, pool)| pool.link == link) else {
        let what = match pools.next() {
            Some((_, other)) => format!("in pool {} of another link", other.name),
            None => "in no pool".to_owned(),
        };
        problems.add(written.span(), what, ADDRESS);
        return None;
    };
    let psid = psid(table, written, pool, problems)?;
    let PoolSpec { offset, psid_length, .. } = *pool;
    let tuple = Tuple { address, offset, psid_length, psid };
    Some((number, if psid_length == 0 { Tuple::whole(address) } else { tuple }))
}

/// The PSID, where the pool has PSIDs: one that it leases.
fn psid(
    table: &file::Reservation,
    address: &Spanned<String>,
    pool: &PoolSpec,
    problems: &mut Problems<'_>,
) -> Option<u16> {
    let name = &pool.name;
    let Some(written) = &table.psid else {
        if pool.psid_length != 0 {
            let what = format!("a shared address of pool {name}, and psid is missing");
            problems.add(address.span(), what, "psid beside it, or an address of a full pool");
            return None;
        }
        return Some(0);
    };
    if pool.psid_length == 0 {
        let what = format!("pool {name} has full addresses");
        problems.add(written.span(), what, "no psid, or an address of a shared pool");
        return None;
    }
    // A pool without a shape has been reported.
    let geometry = Geometry::new(pool).ok()?;
    let last = geometry.psids() - 1;
    let number = u32::try_from(*written.get_ref()).ok().filter(|psid| *psid <= last);
    let number = number.and_then(|psid| u16::try_from(psid).ok());
    let Some(psid) = number else {
        problems.add(written.span(), "out of range", &format!("0 to {last}"));
        return None;
    };
    if geometry.is_reserved(psid) {
        let what = format!("its ports are reserved in pool {name}");
        problems.add(written.span(), what, "a PSID that the pool leases");
        return None;
    }
    Some(psid)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::Compiled;
    use super::*;

    /// Line 12 begins what is reserved on the first link.
    const POOLS: &str = r#"[server]
interfaces = ["eth1"]
server-id = "192.0.2.254"
[[link]]
name = "L1"
match = [{}]
pool = [
  { name = "P1", addresses = ["192.0.2.18-192.0.2.19"], psid-len = 6 },
  { name = "F1", addresses = ["203.0.113.1-203.0.113.9"] },
  { name = "G1", addresses = ["198.51.100.1"], psid-len = 2, psid-offset = 6 },
]
"#;

    const SECOND: &str = r#"[[link]]
name = "L2"
match = [{ source = "2001:db8:2::/64" }]
[[link.pool]]
name = "P2"
addresses = ["192.0.2.40"]
psid-len = 6
"#;

    fn parse(tables: &str) -> Result<Compiled, String> {
        let text = format!("{POOLS}{tables}{SECOND}");
        Compiled::parse("F", &text).map_err(|report| report.to_string())
    }

    /// What is said of one reservation with these lines.
    fn said(lines: &str) -> String {
        match parse(&format!("[[link.reservation]]\n{lines}\n")) {
            Ok(compiled) => format!("no problem:\n{compiled}"),
            Err(report) => report,
        }
    }

    #[test]
    fn a_reservation_is_a_client_and_a_tuple_of_its_link() {
        let compiled = parse(
            "[[link.reservation]]\nclient-id = \"ff00000001\"\naddress = \"192.0.2.18\"\npsid = 7\n\
             [[link.reservation]]\nremote-id = \"9:cust-1\"\naddress = \"203.0.113.5\"\n\
             [[link.reservation]]\nclient-id = \"0x0102\"\naddress = \"198.51.100.1\"\npsid = 3\n",
        )
        .unwrap();
        let [first, second, third] = &compiled.policy.reservations[..] else { panic!() };
        assert_eq!(first.client, ReservedFor::ClientIdentifier(vec![255, 0, 0, 0, 1]));
        let (offset, psid_length) = (0, 6);
        let address = Ipv4Addr::new(192, 0, 2, 18);
        assert_eq!(first.tuple, Tuple { address, offset, psid_length, psid: 7 });
        assert_eq!(second.client, ReservedFor::RemoteId(b"\0\0\0\x09cust-1".to_vec()));
        assert_eq!(second.tuple, Tuple::whole(Ipv4Addr::new(203, 0, 113, 5)));
        assert_eq!((third.tuple.offset, third.tuple.psid), (6, 3));
        let tuples: Vec<_> = compiled.policy.reservations.iter().map(|it| it.tuple).collect();
        assert_eq!(compiled.plan.features.withheld, tuples);
        let shown = compiled.to_string();
        let from = shown.find("  reserved  ").unwrap();
        assert_snapshot!(&shown[from..shown.find("\nlink L2").unwrap()], @r#"
        reserved  192.0.2.18 psid 7 for client-id ff00000001
        reserved  203.0.113.5 for remote-id 0x00000009637573742d31
        reserved  198.51.100.1 psid 3 for client-id 0102
        "#);
    }

    #[test]
    fn options_of_a_reservation_are_within_those_of_its_pool() {
        let compiled = parse(
            "[link.options]\ndomain-name-servers = [\"192.0.2.53\"]\nrouters = [\"192.0.2.1\"]\n\
             [[link.reservation]]\nclient-id = \"0102\"\naddress = \"203.0.113.5\"\n\
             options = { domain-name-servers = [\"192.0.2.54\"] }\n\
             [[link.reservation]]\nclient-id = \"0103\"\naddress = \"203.0.113.4\"\n",
        )
        .unwrap();
        let [(tuple, options)] = &compiled.policy.reservation_options[..] else { panic!() };
        assert_eq!(tuple.address, Ipv4Addr::new(203, 0, 113, 5));
        assert_eq!(options.content(6), Some(vec![192, 0, 2, 54]));
        assert_eq!(options.content(3), Some(vec![192, 0, 2, 1]));
    }

    #[test]
    fn what_cannot_be_reserved_is_named() {
        let client = "client-id = \"0102\"\n";
        assert_snapshot!(said("address = \"192.0.2.18\"\npsid = 7"), @r#"
        F:12: link.reservation: nobody to reserve for
          allowed: client-id or remote-id
        "#);
        assert_snapshot!(said("client-id = \"0102\"\nremote-id = \"9:a\"\naddress = \"192.0.2.18\"\npsid = 7"), @r#"
        F:14: link.reservation.remote-id = "9:a": beside client-id
          allowed: one of client-id and remote-id
        "#);
        assert_snapshot!(said("client-id = \"01 2\"\naddress = \"203.0.113.5\""), @r#"
        F:13: link.reservation.client-id = "01 2": not hexadecimal
          allowed: option 61 of the client in hexadecimal, 2 to 255 octets
        "#);
        assert_snapshot!(said("client-id = \"01\"\naddress = \"203.0.113.5\""), @r#"
        F:13: link.reservation.client-id = "01": its length is 1
          allowed: option 61 of the client in hexadecimal, 2 to 255 octets
        "#);
        assert_snapshot!(said(client), @r#"
        F:12: link.reservation: address is missing
          allowed: an address of a pool of this link
        "#);
        assert_snapshot!(said(&format!("{client}address = \"192.0.2.40\"\npsid = 7")), @r#"
        F:14: link.reservation.address = "192.0.2.40": in pool P2 of another link
          allowed: an address of a pool of this link
        "#);
        assert_snapshot!(said(&format!("{client}address = \"192.0.2.41\"\npsid = 7")), @r#"
        F:14: link.reservation.address = "192.0.2.41": in no pool
          allowed: an address of a pool of this link
        "#);
        assert_snapshot!(said(&format!("{client}address = \"192.0.2.18\"")), @r#"
        F:14: link.reservation.address = "192.0.2.18": a shared address of pool P1, and psid is missing
          allowed: psid beside it, or an address of a full pool
        "#);
        assert_snapshot!(said(&format!("{client}address = \"192.0.2.18\"\npsid = 64")), @r#"
        F:15: link.reservation.psid = 64: out of range
          allowed: 0 to 63
        "#);
        assert_snapshot!(said(&format!("{client}address = \"192.0.2.18\"\npsid = 0")), @r#"
        F:15: link.reservation.psid = 0: its ports are reserved in pool P1
          allowed: a PSID that the pool leases
        "#);
        assert_snapshot!(said(&format!("{client}address = \"203.0.113.5\"\npsid = 1")), @r#"
        F:15: link.reservation.psid = 1: pool F1 has full addresses
          allowed: no psid, or an address of a shared pool
        "#);
    }

    #[test]
    fn a_tuple_and_a_client_are_reserved_once() {
        let one =
            "[[link.reservation]]\nclient-id = \"0102\"\naddress = \"192.0.2.18\"\npsid = 7\n";
        let told = |from: &str, to: &str| {
            let other = one.replacen(from, to, 1);
            parse(&format!("{one}{other}")).unwrap_err()
        };
        assert_snapshot!(told("0102", "0103"), @r#"
        F:18: link.reservation.address = "192.0.2.18": reserved already (F:12)
          allowed: each tuple for one client
        "#);
        assert_snapshot!(told("psid = 7", "psid = 8"), @r#"
        F:17: link.reservation.client-id = "0102": has a reservation on this link (F:12)
          allowed: each client once on a link
        "#);
    }
}
