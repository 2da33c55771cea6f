//! The compiled configuration, for a person to read: what `portlease check` prints.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::engine::policy::{
    BindSource, Link, Match, Prefer, Prefix, PsidChoice, Reservation, ReservedFor, SoftwireConflict,
};
use crate::lease::geometry::{Geometry, PoolSpec};
use crate::lease::key::LinkId;
use crate::lease::pool::PoolId;
use crate::lease::record::NEVER;
use crate::wire::dhcpv6::softwire::{BindPrefix, Binding};

use super::units::show_seconds;
use super::{Compiled, Datapath, Store, options};

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Datapath::Auto => "auto",
            Datapath::Native => "xdp-native",
            Datapath::Generic => "xdp-generic",
            Datapath::Socket => "socket",
        })
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Store::Ring(path) => write!(f, "ring in {}", path.display()),
            Store::Memory => f.write_str("memory"),
        }
    }
}

impl fmt::Display for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show_server(f)?;
        self.show_policy(f)?;
        self.show_softwire(f)?;
        self.show_information(f)?;
        for (index, link) in self.policy.links.iter().enumerate() {
            self.show_link(f, index, link)?;
        }
        Ok(())
    }
}

impl Compiled {
    fn show_server(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        let interfaces = list(plan.interfaces.iter().map(|interface| &interface.name));
        writeln!(f, "interfaces  {interfaces}")?;
        let groups = ["ff02::1:2".to_owned(), "ff05::1:3".to_owned()];
        let listen = plan.listen.iter().map(ToString::to_string).chain(groups);
        writeln!(f, "addresses   {}", list(listen))?;
        let udp = if plan.udp { "on" } else { "off: port 547 is left to another server" };
        writeln!(f, "datapath    {}; ordinary socket {udp}", plan.datapath)?;
        if !plan.cpus.is_empty() {
            writeln!(f, "cores       {}", list(&plan.cpus))?;
        }
        let identifiers = std::iter::once(&self.policy.server_id);
        let identifiers = identifiers.chain(&self.policy.other_server_ids);
        writeln!(f, "server-id   {}", list(identifiers))?;
        let (capacity, offers) = (plan.capacity, plan.offers_max);
        writeln!(f, "store       {}; {capacity} leases, {offers} offers at a time", plan.store)?;
        let times = &self.policy.times;
        writeln!(
            f,
            "times       lease {}, at most {}; held: offers {}, freed {}, declined {}",
            show_seconds(times.lease_seconds),
            show_seconds(times.lease_seconds_max),
            show_seconds(times.offer_hold_seconds),
            show_seconds(times.hold_down_seconds),
            show_seconds(times.decline_hold_seconds),
        )
    }

    fn show_policy(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = &self.policy;
        let unknown = if policy.authoritative { "answered with a NAK" } else { "not answered" };
        writeln!(f, "policy      unknown clients: {unknown}")?;
        let renew = if policy.accept_renew_without_159 { "extended" } else { "refused" };
        writeln!(f, "            renewals without option 159: {renew}")?;
        let moved = match policy.bind_source {
            BindSource::Log => "served and counted",
            BindSource::Nak => "refused",
        };
        writeln!(f, "            reboots from another source: {moved}")?;
        let choice = match policy.psid_choice {
            PsidChoice::Random => "at random",
            PsidChoice::Sequential => "lowest first",
        };
        writeln!(f, "            port sets are picked {choice}")?;
        self.show_sites(f)?;
        let options = [
            (
                !policy.extend_leases,
                "leases are not extended: a renewal gets the time that remains",
            ),
            (!policy.accept_renew_with_50, "renewals with option 50 are not answered"),
            (policy.accept_release_without_159, "releases need no option 159"),
            (policy.answer_inform_without_159, "an INFORM is answered without option 159, too"),
            (policy.ignore_159, "option 159 is ignored: full addresses only"),
            (policy.reply_to_source_port, "replies go to the client's UDP source port"),
            (policy.pad_to_300, "DHCPv4 messages are padded to 300 octets"),
        ];
        for (_, text) in options.iter().filter(|(on, _)| *on) {
            writeln!(f, "            {text}")?;
        }
        Ok(())
    }

    fn show_sites(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, sites) = (self.plan.features.leases_per_site_max, &self.policy.sites);
        let queries = sites.queries_per_second;
        if limit == 0 && queries == 0 {
            return writeln!(f, "            sites are not limited");
        }
        let limit = if limit == 0 { "any number of".to_owned() } else { limit.to_string() };
        let queries = match queries {
            0 => "any number of".to_owned(),
            queries => format!("{queries} (at once {})", u64::from(queries) * 10),
        };
        writeln!(
            f,
            "            each site (identifier at its relay, or /{}): {limit} leases, {queries} queries a second",
            sites.prefix_length
        )
    }

    fn show_softwire(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(softwire) = &self.policy.softwire else { return Ok(()) };
        writeln!(f, "softwires   border relays: {}", list_or_none(&softwire.border_relays))?;
        if let Some(prefix) = softwire.bind_prefix {
            writeln!(f, "            addresses in {}", show_bind_prefix(prefix))?;
        }
        let conflict = match softwire.conflict {
            SoftwireConflict::Existing => "answered with its own",
            SoftwireConflict::Drop => "not answered",
        };
        writeln!(
            f,
            "            a lease gets another address after {}; who asks for another's is {conflict}",
            show_seconds(softwire.update_interval_seconds)
        )
    }

    fn show_information(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(information) = &self.policy.information else { return Ok(()) };
        let servers = match &information.servers[..] {
            [] => "ff02::1:2 (an empty option 88)".to_owned(),
            servers => list(servers),
        };
        let again = match information.refresh_seconds {
            NEVER => "never asked again".to_owned(),
            seconds => format!("asked again after {}", show_seconds(seconds)),
        };
        writeln!(f, "information servers {servers}; {again}")?;
        if let Some(seconds) = information.retry_seconds_max {
            writeln!(f, "            retries at most {} apart", show_seconds(seconds))?;
        }
        if !information.border_relays.is_empty() {
            writeln!(f, "            border relays {}", list(&information.border_relays))?;
        }
        if let Some(lightweight) = &information.lightweight {
            let relays = list(&lightweight.border_relays);
            let bind = lightweight.binding.as_ref().map(show_binding).unwrap_or_default();
            writeln!(f, "            lightweight 4over6: border relays {relays}{bind}")?;
        }
        if !information.priority.is_empty() {
            writeln!(f, "            priority {}", list(&information.priority))?;
        }
        let duid = self.policy.server_duid.as_deref().map(show_hexadecimal);
        writeln!(
            f,
            "            server DUID {}",
            duid.unwrap_or("made of the store's secret".into())
        )
    }

    fn show_link(&self, f: &mut fmt::Formatter<'_>, index: usize, link: &Link) -> fmt::Result {
        let prefer = match link.prefer {
            Prefer::Shared => "shared",
            Prefer::Full => "full",
        };
        let both = !link.shared.is_empty() && !link.full.is_empty();
        let prefer = if both { format!(" (prefers {prefer})") } else { String::new() };
        writeln!(f, "\nlink {}{prefer}", link.name)?;
        let of_link = |(_, (_, id)): &(usize, &(Match, LinkId))| usize::from(id.0) == index;
        for (at, (table, _)) in self.policy.matches.iter().enumerate().filter(of_link) {
            writeln!(f, "  clients   {}", self.show_match(at, table))?;
        }
        for pool in link.shared.iter().chain(&link.full) {
            self.show_pool(f, *pool)?;
        }
        self.show_reservations(f, index)
    }

    fn show_reservations(&self, f: &mut fmt::Formatter<'_>, link: usize) -> fmt::Result {
        let of_link = |it: &&Reservation| usize::from(it.link.0) == link;
        for Reservation { client, tuple, .. } in self.policy.reservations.iter().filter(of_link) {
            let psid = match tuple.psid_length {
                0 => String::new(),
                _ => format!(" psid {}", tuple.psid),
            };
            let client = match client {
                ReservedFor::ClientIdentifier(octets) => octets
                    .iter()
                    .fold("client-id ".to_owned(), |text, octet| format!("{text}{octet:02x}")),
                ReservedFor::RemoteId(octets) => format!("remote-id {}", show_octets(octets)),
            };
            writeln!(f, "  reserved  {}{psid} for {client}", tuple.address)?;
        }
        Ok(())
    }

    fn show_match(&self, index: usize, table: &Match) -> String {
        let prefix = |prefix: Prefix| format!("{}/{}", prefix.address, prefix.length);
        let wanted = self.plan.interface_matches.iter().find(|wanted| wanted.index == index);
        let keys = [
            ("link-address", table.link_address.map(prefix)),
            ("source", table.source.map(prefix)),
            ("interface", wanted.map(|wanted| wanted.interface.name.clone())),
            ("interface-id", table.interface_id.as_deref().map(show_octets)),
            ("remote-id", table.remote_id.as_deref().map(show_octets)),
        ];
        let given = keys.into_iter().filter_map(|(key, value)| Some(format!("{key} {}", value?)));
        let given = given.collect::<Vec<_>>().join(" and ");
        if given.is_empty() { "all that no other link matches".to_owned() } else { given }
    }

    fn show_pool(&self, f: &mut fmt::Formatter<'_>, id: PoolId) -> fmt::Result {
        let spec = &self.pools[usize::from(id.0)];
        let ranges = list(spec.ranges.iter().map(show_range));
        let Ok(geometry) = Geometry::new(spec) else { return Err(fmt::Error) };
        let (addresses, clients) = (geometry.addresses(), geometry.usable_slots());
        if spec.psid_length == 0 {
            writeln!(f, "  pool {}: full addresses {ranges}", spec.name)?;
            writeln!(f, "    {clients} clients, one an address")?;
            return self.show_options(f, id);
        }
        writeln!(f, "  pool {}: shared addresses {ranges}", spec.name)?;
        let (sets, ports, per_set) = shares(spec);
        let reserved: Vec<u16> = geometry.reserved_psids().collect();
        let usable = sets - u32::try_from(reserved.len()).unwrap_or(sets);
        let noun = if addresses == 1 { "address" } else { "addresses" };
        writeln!(
            f,
            "    {addresses} {noun} x {usable} port sets = {clients} clients; sharing ratio 1:{usable}"
        )?;
        writeln!(
            f,
            "    psid-offset {}, psid-len {}: {sets} port sets of {ports} ports in {per_set}",
            spec.offset, spec.psid_length
        )?;
        let ports = list(spec.reserved_ports.iter().map(|range| show(range.start(), range.end())));
        let ports = if ports.is_empty() { "none".to_owned() } else { ports };
        writeln!(f, "    reserved ports {ports}: PSIDs {}", show_runs(&reserved))?;
        self.show_options(f, id)
    }

    fn show_options(&self, f: &mut fmt::Formatter<'_>, id: PoolId) -> fmt::Result {
        match self.policy.pool_options.get(usize::from(id.0)) {
            Some(set) if !set.is_empty() => writeln!(f, "    options {}", options::show(set)),
            _ => Ok(()),
        }
    }
}

/// Port sets of an address, ports of a set, and in how many ranges they lie (RFC 7597 §5.1).
fn shares(spec: &PoolSpec) -> (u32, u32, String) {
    let ranges = if spec.offset == 0 { 1 } else { (1_u32 << spec.offset) - 1 };
    let contiguous = 16_u32.saturating_sub(u32::from(spec.offset) + u32::from(spec.psid_length));
    let words = if ranges == 1 { "1 range".to_owned() } else { format!("{ranges} ranges") };
    (1 << spec.psid_length, ranges << contiguous, words)
}

fn show_binding(binding: &Binding) -> String {
    let prefix = show_bind_prefix(binding.prefix);
    let ports = binding
        .ports
        .map(|ports| format!(" psid {}/{} offset {}", ports.psid, ports.psid_length, ports.offset));
    format!("; {}{} at {prefix}", binding.address, ports.unwrap_or_default())
}

fn show_bind_prefix(prefix: BindPrefix) -> String {
    format!("{}/{}", prefix.address(), prefix.length())
}

fn show_hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
}

fn list_or_none<T: ToString>(items: &[T]) -> String {
    if items.is_empty() { "none".to_owned() } else { list(items.iter().map(T::to_string)) }
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn show(first: &(impl fmt::Display + PartialEq), last: &(impl fmt::Display + PartialEq)) -> String {
    format!("{first}-{last}")
}

fn show_range(range: &RangeInclusive<Ipv4Addr>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        show(range.start(), range.end())
    }
}

/// Text where it is text, else hexadecimal.
fn show_octets(octets: &[u8]) -> String {
    let text = std::str::from_utf8(octets).ok().filter(|text| !text.contains(char::is_control));
    match text {
        Some(text) => format!("\"{text}\""),
        None => octets.iter().fold("0x".to_owned(), |text, octet| format!("{text}{octet:02x}")),
    }
}

/// Ascending numbers as `0-3, 17`.
fn show_runs(numbers: &[u16]) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    if runs.is_empty() {
        return "none".to_owned();
    }
    list(runs.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }))
}
