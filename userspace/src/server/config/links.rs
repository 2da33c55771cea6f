//! Links: how their clients are told from others', and the pools that serve them.

use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use crate::engine::{
    options::{NO_OPTIONS, OptionSet},
    policy::{Link, Match, Prefer},
};
use crate::lease::{
    geometry::{Geometry, PoolSpec},
    key::LinkId,
    pool::PoolId,
};

use super::addresses::{Addresses, Stretch};
use super::file::{self, File};
use super::options::{self, Level};
use super::report::Problems;
use super::{InterfaceMatch, Named, units};

/// The system ports: reserved unless the policy allows them (RFC 7618 §9, RFC 6335 §6).
const SYSTEM_PORTS: RangeInclusive<u16> = 0..=1023;

/// From this offset on, every port set has ports below 1024 (RFC 7597 §5.1: the first 2^(16-a) are left out).
const OFFSET_WITH_SYSTEM_PORTS: u8 = 7;

/// Octets of a link's or pool's name.
const NAME_LENGTH_MAX: usize = 64;

/// All links, with what their matches and pools came to.
#[derive(Default)]
#[expect(clippy::struct_field_names, reason = "a link is the word of the policy, too")]
pub(super) struct Links {
    pub(super) links: Vec<Link>,
    pub(super) matches: Vec<(Match, LinkId)>,
    pub(super) pools: Vec<PoolSpec>,
    /// Options that come with leases of a pool, by its number.
    pub(super) pool_options: Vec<OptionSet>,
    pub(super) interface_matches: Vec<InterfaceMatch>,
    clients: u64,
}

/// What the compilation of links works with.
struct Context<'c, 'p> {
    problems: &'c mut Problems<'p>,
    notices: &'c mut Vec<String>,
    interfaces: &'c [Named],
    allow_system_ports: bool,
    /// Options for everybody.
    options: OptionSet,
    addresses: Addresses,
    match_spans: Vec<Range<usize>>,
    /// Of each pool its table, and what gives it its shape.
    pool_spans: Vec<(Range<usize>, Range<usize>)>,
}

/// Compiles all links of `file`.
pub(super) fn compile(
    file: &File,
    interfaces: &[Named],
    problems: &mut Problems<'_>,
    notices: &mut Vec<String>,
) -> Links {
    let policy = file.policy.as_ref().map(Spanned::get_ref);
    let options = Level::compile(&file.options, problems).within(&NO_OPTIONS);
    let mut context = Context {
        problems,
        notices,
        interfaces,
        allow_system_ports: policy.is_some_and(|policy| policy.allow_system_ports),
        options,
        addresses: Addresses::default(),
        match_spans: Vec::new(),
        pool_spans: Vec::new(),
    };
    let mut links = Links::default();
    if file.link.is_empty() {
        context.problems.add_missing("no [[link]]", "one [[link]] or more, each with a pool");
    }
    for written in &file.link {
        links.add_link(written, &mut context);
    }
    let Context { addresses, problems, pool_spans, .. } = context;
    addresses.check(problems);
    if problems.is_empty() {
        links.measure(&pool_spans, problems);
    }
    links
}

impl Links {
    /// How many clients all pools serve together.
    pub(super) fn clients(&self) -> u64 {
        self.clients
    }

    /// Says so if the server's identifier is an address that clients are given.
    pub(super) fn check_server_id(&self, server_id: Ipv4Addr, notices: &mut Vec<String>) {
        let holds = |pool: &&PoolSpec| pool.ranges.iter().any(|range| range.contains(&server_id));
        if let Some(pool) = self.pools.iter().find(holds) {
            let name = &pool.name;
            notices.push(format!("server-id {server_id} is an address of pool {name}"));
        }
    }

    /// Counts the clients that each pool serves, once nothing else is wrong.
    fn measure(&mut self, spans: &[(Range<usize>, Range<usize>)], problems: &mut Problems<'_>) {
        for (pool, (_, shape)) in self.pools.iter().zip(spans) {
            match Geometry::new(pool) {
                Ok(geometry) => self.clients += u64::from(geometry.usable_slots()),
                Err(error) => {
                    let allowed = "a pool with port sets that can be leased";
                    problems.add(shape.clone(), error, allowed);
                }
            }
        }
    }

    fn add_link(&mut self, written: &Spanned<file::Link>, context: &mut Context<'_, '_>) {
        let (span, link) = (written.span(), written.get_ref());
        let Ok(id) = u16::try_from(self.links.len()).map(LinkId) else {
            return context.problems.add(span, "too many links", "at most 65536");
        };
        let name = name(link.name.as_ref(), &span, context);
        if let Some(other) = &link.name
            && self.links.iter().any(|link| link.name == name)
        {
            context.problems.add(other.span(), "another link has this name", "unique names");
        }
        let prefer = [("shared", Prefer::Shared), ("full", Prefer::Full)];
        let prefer = context.problems.choose(link.prefer.as_ref(), &prefer);
        if link.matches.is_empty() {
            let what = "match is missing: no client would be on this link";
            let allowed = "match = [{ link-address = \"2001:db8:1::/64\" }] or the like";
            context.problems.add(span.clone(), what, allowed);
        }
        for table in &link.matches {
            self.add_match(table, id, &name, context);
        }
        if link.pool.is_empty() {
            context.problems.add(span, "no pool", "one [[link.pool]] or more");
        }
        let options = Level::compile(&link.options, context.problems).within(&context.options);
        self.links.push(Link { name, shared: Vec::new(), full: Vec::new(), prefer, options });
        for pool in &link.pool {
            self.add_pool(pool, id, context);
        }
    }

    fn add_match(
        &mut self,
        written: &Spanned<file::Match>,
        link: LinkId,
        link_name: &str,
        context: &mut Context<'_, '_>,
    ) {
        const PREFIX: &str = "an IPv6 prefix such as 2001:db8:1::/64, or one address";
        const OCTETS: &str = "text, or hexadecimal digits after 0x";
        const REMOTE: &str = "an enterprise number, a colon, and text or hexadecimal after 0x";
        let (span, table) = (written.span(), written.get_ref());
        let problems = &mut *context.problems;
        let compiled = Match {
            link_address: table
                .link_address
                .as_ref()
                .and_then(|value| problems.read(value, PREFIX, units::prefix)),
            source: table
                .source
                .as_ref()
                .and_then(|value| problems.read(value, PREFIX, units::prefix)),
            // No interface has index 0: until `Compiled::resolve` this fits nothing.
            interface: table.interface.as_ref().map(|_| 0),
            interface_id: table
                .interface_id
                .as_ref()
                .and_then(|value| problems.read(value, OCTETS, units::octets)),
            remote_id: table
                .remote_id
                .as_ref()
                .and_then(|value| problems.read(value, REMOTE, units::remote_id)),
        };
        if let Some(value) = &table.interface {
            let name = value.get_ref().clone();
            if !context.interfaces.iter().any(|interface| interface.name == name) {
                let names: Vec<&str> =
                    context.interfaces.iter().map(|interface| interface.name.as_str()).collect();
                let what = "not one of server.interfaces";
                problems.add(value.span(), what, &names.join(", "));
            }
            let interface = Named { name, place: problems.place(&value.span()) };
            self.interface_matches.push(InterfaceMatch { index: self.matches.len(), interface });
        }
        if compiled.link_address.is_none()
            && compiled.source.is_none()
            && (compiled.interface_id.is_some() || compiled.remote_id.is_some())
        {
            context.notices.push(format!(
                "link {link_name} matches a relay's identifier whatever its link-address is; \
                 identifiers are unique only together with one (RFC 7969)"
            ));
        }
        self.check_match_repeated(&compiled, table, &span, context);
        context.match_spans.push(span);
        self.matches.push((compiled, link));
    }

    fn check_match_repeated(
        &self,
        compiled: &Match,
        table: &file::Match,
        span: &Range<usize>,
        context: &mut Context<'_, '_>,
    ) {
        let interface_of = |index: usize| {
            let of = |wanted: &&InterfaceMatch| wanted.index == index;
            self.interface_matches.iter().find(of).map(|wanted| wanted.interface.name.as_str())
        };
        let interface = table.interface.as_ref().map(|name| name.get_ref().as_str());
        let same = |(index, other): &(usize, &(Match, LinkId))| {
            other.0 == *compiled && interface_of(*index) == interface
        };
        if context.problems.is_empty()
            && let Some((index, (_, other))) = self.matches.iter().enumerate().find(same)
        {
            let link = self.links.get(usize::from(other.0)).map_or("this link", |link| &link.name);
            let place = context.problems.place(&context.match_spans[index]);
            let what = format!("the same match as in {link} ({place})");
            context.problems.add(span.clone(), what, "each match once");
        }
    }

    fn add_pool(
        &mut self,
        written: &Spanned<file::Pool>,
        link: LinkId,
        context: &mut Context<'_, '_>,
    ) {
        let (span, pool) = (written.span(), written.get_ref());
        let Ok(id) = u16::try_from(self.pools.len()).map(PoolId) else {
            return context.problems.add(span, "too many pools", "at most 65536");
        };
        let name = name(pool.name.as_ref(), &span, context);
        if let Some(other) = &pool.name
            && let Some(index) = self.pools.iter().position(|pool| pool.name == name)
        {
            let place = context.problems.place(&context.pool_spans[index].0);
            let what = format!("another pool has this name ({place})");
            context.problems.add(other.span(), what, "unique names");
        }
        let (offset, psid_length) = context.port_bits(&span, pool);
        let ranges = context.ranges(&name, pool, &span, offset, psid_length);
        let reserved_ports = context.reserved_ports(pool, psid_length);
        let spec = PoolSpec { name, link, ranges, offset, psid_length, reserved_ports };
        let link = &mut self.links[usize::from(link.0)];
        let options = Level::compile(&pool.options, context.problems).within(&link.options);
        let options = if psid_length == 0 { options } else { options::for_shared(&options) };
        context.notices.extend(options::notices(&spec.name, psid_length != 0, &options));
        self.pool_options.push(options);
        if psid_length == 0 {
            link.full.push(id);
        } else {
            link.shared.push(id);
        }
        let shape = pool.psid_len.as_ref().map_or(span.clone(), Spanned::span);
        context.pool_spans.push((span, shape));
        self.pools.push(spec);
    }
}

impl Context<'_, '_> {
    /// Offset and PSID length of a pool (RFC 7597 §5.1): `a`, `k`, and both together within 16 bits.
    fn port_bits(&mut self, span: &Range<usize>, pool: &file::Pool) -> (u8, u8) {
        let mut bits = |value: Option<&Spanned<i64>>, max: u8| {
            let value = value?;
            let number = u8::try_from(*value.get_ref()).ok().filter(|bits| *bits <= max);
            if number.is_none() {
                self.problems.add(value.span(), "out of range", &format!("0 to {max}"));
            }
            number
        };
        let offset = bits(pool.psid_offset.as_ref(), 15).unwrap_or(0);
        let length = bits(pool.psid_len.as_ref(), 16).unwrap_or(0);
        let Some(written) = &pool.psid_offset else { return (offset, length) };
        let at = pool.psid_len.as_ref().map_or(span.clone(), Spanned::span);
        if pool.psid_len.is_none() && offset > 0 {
            let what = "an offset without psid-len, in a pool of full addresses";
            self.problems.add(written.span(), what, "psid-len beside it, or no psid-offset");
        } else if offset + length > 16 {
            let what = format!("psid-offset {offset} and this are more than the 16 bits of a port");
            self.problems.add(at, what, &format!("0 to {}", 16 - offset));
        }
        if offset >= OFFSET_WITH_SYSTEM_PORTS && !self.allow_system_ports {
            let what = "every port set would have ports below 1024";
            let allowed = "0 to 6, or up to 15 with policy.allow-system-ports = true";
            self.problems.add(written.span(), what, allowed);
        }
        (offset, length)
    }

    fn ranges(
        &mut self,
        name: &str,
        pool: &file::Pool,
        span: &Range<usize>,
        offset: u8,
        psid_length: u8,
    ) -> Vec<RangeInclusive<Ipv4Addr>> {
        const ALLOWED: &str = "192.0.2.1, 192.0.2.1-192.0.2.9 or 192.0.2.0/28";
        if pool.addresses.is_empty() {
            self.problems.add(span.clone(), "no addresses", ALLOWED);
        }
        let mut ranges = Vec::new();
        for written in &pool.addresses {
            let Some(range) = self.problems.read(written, ALLOWED, units::addresses) else {
                continue;
            };
            self.addresses.add(Stretch {
                first: *range.start(),
                last: *range.end(),
                pool: name.to_owned(),
                offset,
                psid_length,
                span: written.span(),
            });
            ranges.push(range);
        }
        ranges
    }

    /// The listed ports, and the system ports unless the policy allows them.
    // req-S42 (RFC 7618 §9): sets with well-known ports are leased only if that is configured.
    fn reserved_ports(&mut self, pool: &file::Pool, psid_length: u8) -> Vec<RangeInclusive<u16>> {
        let mut reserved = Vec::new();
        for written in pool.reserved_ports.iter().flatten() {
            let allowed = "ports such as 5060 or 0-1023";
            reserved.extend(self.problems.read(written, allowed, units::ports));
            if psid_length == 0 {
                let what = "a pool of full addresses leases all ports of them";
                self.problems.add(written.span(), what, "psid-len beside it, or no reserved-ports");
            }
        }
        if psid_length > 0 && !self.allow_system_ports && !reserved.contains(&SYSTEM_PORTS) {
            reserved.insert(0, SYSTEM_PORTS);
        }
        reserved
    }
}

fn name(
    written: Option<&Spanned<String>>,
    span: &Range<usize>,
    context: &mut Context<'_, '_>,
) -> String {
    const ALLOWED: &str = "a name of 1 to 64 octets without control characters";
    let Some(written) = written else {
        context.problems.add(span.clone(), "name is missing", ALLOWED);
        return String::new();
    };
    let name = written.get_ref();
    if name.is_empty() || name.len() > NAME_LENGTH_MAX || name.contains(char::is_control) {
        context.problems.add(written.span(), "not a name", ALLOWED);
    }
    name.clone()
}
