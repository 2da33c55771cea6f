//! The text of the nftables rules that keep an address to its ports, and of those that keep everything in.
//!
//! Three chains guard the softwire. `translate` gives each flow that leaves a port, or for pings an identifier, of the
//! set. `outward` comes after every translation, ours and others', and drops what bears anything else: no mistake
//! before it can let a foreign port out. `inward` comes before the kernel tracks the packet, and drops what is for
//! ports that are not ours. A second table keeps the address out of ARP on all links.
//!
//! The kernel itself closes the softwire when the lease ends, even if nobody is there any more to tell it so: the
//! address stands in a set with that timeout.

use std::{fmt::Write as _, net::Ipv4Addr, ops::RangeInclusive};

use crate::client::lease::Assignment;

/// Ranges up to which a flow is first given a range by where it comes from. With more of them the maps get long.
const HASHED_RANGES_MAX: usize = 255;

/// Ranges that are tried that way before one is taken in turn.
const HASHED_TRIES: u32 = 4;

/// Longest timeout of the address that is asked of the kernel, in seconds: three years.
const TIMEOUT_SECONDS_MAX: u64 = 100_000_000;

/// The softwire that the rules are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// Its name, of letters, digits, `-`, `_` and `.` alone.
    interface: String,
    /// Makes the choice of ranges another one at each start (RFC 6056).
    seed: u32,
}

impl Guard {
    /// A guard for an interface whose name has been checked.
    pub(super) fn new(interface: &str, seed: u32) -> Self {
        Guard { interface: interface.to_owned(), seed }
    }

    /// The name of both tables.
    pub(super) fn table(&self) -> String {
        format!("portlease_{}", self.interface)
    }

    /// Removes what stands, in the same transaction as what follows.
    pub(super) fn none(&self) -> String {
        let table = self.table();
        // To add first makes the removal work where there is nothing.
        ["ip", "arp"]
            .map(|family| format!("add table {family} {table}\ndelete table {family} {table}\n"))
            .concat()
    }

    /// Lets no IPv4 packet pass, either way.
    pub(super) fn closed(&self) -> String {
        let Guard { interface, .. } = self;
        let table = self.table();
        format!(
            "{}\
             table ip {table} {{\n\
             \tchain outward {{\n\
             \t\ttype filter hook postrouting priority 250\n\
             \t\toifname \"{interface}\" counter drop comment \"no lease\"\n\
             \t}}\n\
             \tchain inward {{\n\
             \t\ttype filter hook prerouting priority raw\n\
             \t\tiifname \"{interface}\" counter drop comment \"no lease\"\n\
             \t}}\n\
             }}\n\
             {}",
            self.none(),
            self.arp(None)
        )
    }

    /// Lets exactly what was leased pass, for so many seconds; `None` is without end.
    pub(super) fn open(&self, assignment: Assignment, seconds: Option<u64>) -> String {
        let mut text = self.none();
        text.push_str("table ip ");
        text.push_str(&self.table());
        text.push_str(" {\n");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\tcomment \"{assignment}\"");
        let element = element(assignment.address, seconds);
        let _ = writeln!(
            text,
            "\tset address {{\n\t\ttype ipv4_addr\n\t\tflags timeout\n\t\telements = {{ {element} }}\n\t}}"
        );
        let ranges = merged(&assignment.port_ranges());
        let limited = assignment.port_params.is_some_and(|_| ranges != [0..=u16::MAX]);
        if limited {
            put_sets(&mut text, &ranges);
        }
        self.put_translate(&mut text, assignment, &ranges, limited);
        self.put_outward(&mut text, assignment, limited);
        self.put_inward(&mut text, assignment, limited);
        text.push_str("}\n");
        text.push_str(&self.arp(Some(assignment.address)));
        text
    }

    /// Gives the address more time. The rules stay as they are, and so does every flow.
    pub(super) fn extended(&self, address: Ipv4Addr, seconds: Option<u64>) -> String {
        let table = self.table();
        let element = element(address, seconds);
        format!("flush set ip {table} address\nadd element ip {table} address {{ {element} }}\n")
    }

    /// req-C26 (RFC 7618 §7.1): the shared address never appears in ARP, on whatever link.
    fn arp(&self, address: Option<Ipv4Addr>) -> String {
        let mut chains = String::new();
        for (hook, direction) in [("input", "iifname"), ("output", "oifname")] {
            let interface = &self.interface;
            let _ = writeln!(chains, "\tchain {hook} {{\n\t\ttype filter hook {hook} priority 0");
            let _ = writeln!(chains, "\t\t{direction} \"{interface}\" counter drop");
            for end in address.iter().flat_map(|_| ["saddr", "daddr"]) {
                let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
                let _ = writeln!(chains, "\t\tarp {end} ip {address} counter drop");
            }
            chains.push_str("\t}\n");
        }
        format!("table arp {} {{\n{chains}}}\n", self.table())
    }

    /// req-C29 (RFC 7618 §7.1, RFC 5508 §3.1): what leaves is given a port or an identifier of the set.
    ///
    /// The kernel looks for a free number in one range, so with several ranges one has to be chosen. The same inside
    /// address and port choose the same range as long as that has room for flows to this destination: then they keep
    /// their outside port whomever they speak to (RFC 4787 REQ-1), which games and calls rely on. After a few of
    /// these, ranges are taken in turn. If that one is full as well, the kernel drops the packet, and its repetition
    /// gets the next range.
    fn put_translate(
        &self,
        text: &mut String,
        assignment: Assignment,
        ranges: &[RangeInclusive<u16>],
        limited: bool,
    ) {
        let Guard { interface, seed } = self;
        let address = assignment.address;
        let tries = if limited { hashed_tries(ranges) } else { 0 };
        for number in 0..tries {
            let seed = seed.wrapping_add(number);
            let range = format!("jhash ip saddr . th sport mod {} seed {seed}", ranges.len());
            let room = ranges.first().map_or(0, |range| range.clone().count());
            let _ = writeln!(
                text,
                "\tchain try{number} {{\n\
                 \t\tmeta l4proto {{ tcp, udp }} add @busy {{ {range} . meta l4proto . ip daddr . th dport \
                 ct count over {room} }} return\n\
                 \t\tmeta l4proto {{ tcp, udp }} snat ip to {range} map {{ {} }}\n\
                 \t}}",
                numbered(address, ranges)
            );
        }
        let _ = writeln!(
            text,
            "\tchain translate {{\n\
             \t\ttype nat hook postrouting priority srcnat - 10\n\
             \t\toifname != \"{interface}\" accept"
        );
        for number in 0..tries {
            let _ = writeln!(text, "\t\tjump try{number}");
        }
        if limited {
            // Identifiers of pings count only if others hold the rest of them.
            let echo = if assignment.is_shared() { ", icmp" } else { "" };
            let target = match ranges {
                [range] => format!("{address}:{}", written(range)),
                _ => format!(
                    "numgen inc mod {} map {{ {} }}",
                    ranges.len(),
                    numbered(address, ranges)
                ),
            };
            let _ = writeln!(text, "\t\tmeta l4proto {{ tcp, udp{echo} }} snat ip to {target}");
        }
        if !assignment.is_shared() {
            let _ = writeln!(text, "\t\tsnat ip to {address}");
        }
        text.push_str("\t}\n");
    }

    /// req-C29 (RFC 7618 §7.1): nothing leaves but by leased ports, whatever happened before.
    fn put_outward(&self, text: &mut String, assignment: Assignment, limited: bool) {
        let interface = &self.interface;
        let _ = writeln!(
            text,
            "\tchain outward {{\n\
             \t\ttype filter hook postrouting priority 250\n\
             \t\toifname != \"{interface}\" accept\n\
             \t\tip saddr != @address counter drop comment \"not translated\""
        );
        put_limits(text, assignment, limited, &OUTWARD);
    }

    /// req-C29 (RFC 7618 §7.1): nothing comes in but to leased ports.
    fn put_inward(&self, text: &mut String, assignment: Assignment, limited: bool) {
        let interface = &self.interface;
        let _ = writeln!(
            text,
            "\tchain inward {{\n\
             \t\ttype filter hook prerouting priority raw\n\
             \t\tiifname != \"{interface}\" accept\n\
             \t\tip daddr != @address counter drop comment \"not for us\""
        );
        put_limits(text, assignment, limited, &INWARD);
    }
}

/// The ports, the same numbers as identifiers of pings, and who uses which range.
fn put_sets(text: &mut String, ranges: &[RangeInclusive<u16>]) {
    let elements: Vec<_> = ranges.iter().map(written).collect();
    let elements = elements.join(", ");
    for (name, kind) in [("ports", "type inet_service"), ("numbers", "typeof icmp id")] {
        let _ = writeln!(
            text,
            "\tset {name} {{\n\t\t{kind}\n\t\tflags interval\n\t\telements = {{ {elements} }}\n\t}}"
        );
    }
    if hashed_tries(ranges) > 0 {
        text.push_str(
            "\tset busy {\n\t\ttype mark . inet_proto . ipv4_addr . inet_service\n\
             \t\tflags dynamic\n\t\tsize 65535\n\t}\n",
        );
    }
}

/// Where a packet of one direction bears our address and our port. An ICMP error quotes a packet of the other
/// direction: there they stand so many bits behind the beginning of the ICMP header.
struct Places {
    port: &'static str,
    /// The chain for errors.
    quoting: &'static str,
    quoted_address: u32,
    quoted_port: u32,
}

const OUTWARD: Places =
    Places { port: "sport", quoting: "outward_errors", quoted_address: 192, quoted_port: 240 };
const INWARD: Places =
    Places { port: "dport", quoting: "inward_errors", quoted_address: 160, quoted_port: 224 };

/// The rest of a chain: which ports pass.
fn put_limits(text: &mut String, assignment: Assignment, limited: bool, places: &Places) {
    let Places { port, quoting, quoted_address, quoted_port } = places;
    if assignment.is_shared() {
        let _ = writeln!(
            text,
            "\t\tmeta l4proto {{ tcp, udp }} th {port} @ports accept\n\
             \t\ticmp type {{ echo-request, echo-reply }} icmp id @numbers accept\n\
             \t\ticmp type {{ destination-unreachable, time-exceeded, parameter-problem }} jump {quoting}\n\
             \t\tcounter drop comment \"no port of the set\"\n\t}}"
        );
        let address = assignment.address.to_bits();
        // 0x45 is a header without options; an error that quotes another one is dropped. 6 and 17 are TCP and UDP,
        // 1 is ICMP, of which 0 and 8 are pings.
        let _ = writeln!(
            text,
            "\tchain {quoting} {{\n\
             \t\t@th,64,8 != 0x45 return\n\
             \t\t@th,{quoted_address},32 != {address:#010x} return\n\
             \t\t@th,136,8 {{ 6, 17 }} @th,{quoted_port},16 @numbers accept\n\
             \t\t@th,136,8 1 @th,224,8 {{ 0, 8 }} @th,256,16 @numbers accept\n\t}}"
        );
        return;
    }
    if limited {
        let _ = writeln!(
            text,
            "\t\tmeta l4proto {{ tcp, udp }} th {port} != @ports counter drop \
             comment \"no port of the set\""
        );
    }
    text.push_str("\t}\n");
}

/// How many ranges are tried by hash.
fn hashed_tries(ranges: &[RangeInclusive<u16>]) -> u32 {
    if (2..=HASHED_RANGES_MAX).contains(&ranges.len()) { HASHED_TRIES } else { 0 }
}

/// Ranges that touch each other as one.
fn merged(ranges: &[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(*range.start()) => {
                *last = *last.start()..=*range.end();
            }
            _ => merged.push(range.clone()),
        }
    }
    merged
}

/// An element of the set of addresses.
fn element(address: Ipv4Addr, seconds: Option<u64>) -> String {
    match seconds {
        // The kernel takes 0 for no timeout at all.
        Some(seconds) => {
            format!("{address} timeout {}s", seconds.clamp(1, TIMEOUT_SECONDS_MAX))
        }
        None => address.to_string(),
    }
}

fn written(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

/// A map from numbers to ranges of the address.
fn numbered(address: Ipv4Addr, ranges: &[RangeInclusive<u16>]) -> String {
    let numbered = ranges.iter().enumerate();
    let pairs =
        numbered.map(|(number, range)| format!("{number} : {address} . {}", written(range)));
    pairs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
