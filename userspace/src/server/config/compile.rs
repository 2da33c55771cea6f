//! From the file as written to policy, pools and plan. Everything that is wrong is gathered on the way.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use toml::Spanned;

use crate::engine::policy::{BindSource, Policy, PsidChoice, SitePolicy, Times};
use crate::engine::times::LEASE_SECONDS_MIN;
use crate::lease::{Features, record::NEVER};

use super::file::{Count, File, Lease};
use super::links::{self, Links};
use super::report::{Problems, Report};
use super::{Compiled, Datapath, Named, Plan, Store, information, reservations, softwire, units};

/// Ten years. Expiry is kept in 32-bit seconds since 1970, which end in 2106.
pub(super) const LEASE_SECONDS_MAX: u32 = 3650 * 86_400;

/// The greatest limit of a site's leases.
const LEASES_PER_SITE_MAX: u32 = 1_000_000;

/// The most queries a second of a site that can be a limit.
const QUERIES_PER_SITE_MAX: u32 = 1_000_000;

/// Leases that a store can be told to hold.
const CAPACITY_MAX: u64 = 256_000_000;

/// Octets that a log can be told to have.
const RING_OCTETS_MAX: u64 = 1 << 40;

/// Longest interface name (`IFNAMSIZ` less its terminator).
const INTERFACE_LENGTH_MAX: usize = 15;

/// Unicast addresses that the steering program has room for.
pub(super) const LISTEN_MAX: usize = 64;

/// A REQUEST this early in the lease is answered out of the record that is there.
const EARLY_RENEWAL_PERCENT: u8 = 10;

const SERVER_ID: &str = "a unicast IPv4 address such as 192.0.2.254";

const TIME: &str = "a time such as 90s, 30m, 1h, 1d";

impl Problems<'_> {
    /// The value as `parse` reads it; what it says is wrong otherwise is noted.
    pub(super) fn read<T>(
        &mut self,
        value: &Spanned<String>,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(what) => {
                self.add(value.span(), what, allowed);
                None
            }
        }
    }

    /// One of `choices`, the first if nothing is written.
    pub(super) fn choose<T: Copy>(
        &mut self,
        value: Option<&Spanned<String>>,
        choices: &[(&str, T)],
    ) -> T {
        let Some(value) = value else { return choices[0].1 };
        let chosen = choices.iter().find(|(name, _)| name == value.get_ref());
        if chosen.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.add(value.span(), "unknown value", &names.join(", "));
        }
        chosen.unwrap_or(&choices[0]).1
    }

    /// A time between `min` and `max` seconds, `default` if nothing is written. A lease may be infinite.
    pub(super) fn time(
        &mut self,
        value: Option<&Spanned<String>>,
        (min, max): (u32, u32),
        default: u32,
    ) -> u32 {
        let Some(value) = value else { return default };
        if max == LEASE_SECONDS_MAX && value.get_ref() == "infinite" {
            return NEVER;
        }
        let Some(seconds) = self.read(value, TIME, units::seconds) else { return default };
        let (least, most) = (units::show_seconds(min), units::show_seconds(max));
        if seconds < min {
            self.add(value.span(), "too short", &format!("{least} to {most}"));
        } else if seconds > max {
            self.add(value.span(), "too long", &format!("{least} to {most}"));
        }
        seconds
    }

    /// A plain number between `min` and `max`, `default` if nothing is written.
    fn number(
        &mut self,
        value: Option<&Spanned<i64>>,
        (min, max): (u32, u32),
        default: u32,
    ) -> u32 {
        let Some(value) = value else { return default };
        let number = u32::try_from(*value.get_ref()).ok();
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.add(value.span(), "out of range", &format!("{min} to {max}"));
        }
        number.unwrap_or(default)
    }

    /// A number of things between 1 and `max`, `default` if nothing is written.
    fn count(&mut self, value: Option<&Spanned<Count>>, max: u64, default: u64) -> u64 {
        const ALLOWED: &str = "a number such as 1000, \"500k\", \"1M\"";
        let Some(value) = value else { return default };
        let count = match value.get_ref() {
            Count::Plain(number) => u64::try_from(*number).map_err(|_| "negative".to_owned()),
            Count::Scaled(text) => units::count(text),
        };
        match count {
            Ok(count) if (1..=max).contains(&count) => count,
            Ok(count) => {
                self.add(value.span(), format!("{count} is out of range"), &format!("1 to {max}"));
                default
            }
            Err(what) => {
                self.add(value.span(), what, ALLOWED);
                default
            }
        }
    }
}

/// Compiles `file`, or reports all that is wrong with it.
pub(super) fn compile(file: &File, mut problems: Problems<'_>) -> Result<Compiled, Report> {
    let mut notices = Vec::new();
    let (server_id, mut plan) = server(file, &mut problems);
    let times = times(file, &mut problems);
    admin(file, &mut problems, &mut notices);
    let links = links::compile(file, &plan.interfaces, &mut problems, &mut notices);
    store(file, &mut plan, &links, &mut problems, &mut notices);
    links.check_server_id(server_id, &mut notices);
    let mut policy = policy(file, server_id, times, &links, &mut problems);
    policy.softwire = softwire::compile(file, &mut problems, &mut notices);
    policy.information = information::compile(file, &plan, &mut problems, &mut notices);
    policy.server_duid = information::duid(file, &mut problems, &mut notices);
    plan.features = features(file, &mut problems);
    plan.features.softwires = policy.softwire.is_some();
    let reserved = reservations::compile(file, &links, &mut problems);
    plan.features.withheld = reserved.tuples();
    (policy.reservations, policy.reservation_options) = (reserved.list, reserved.options);
    if !problems.is_empty() {
        return Err(problems.into_report());
    }
    plan.interface_matches = links.interface_matches;
    plan.notices = notices;
    Ok(Compiled { policy, pools: links.pools, plan })
}

fn server(file: &File, problems: &mut Problems<'_>) -> (Ipv4Addr, Plan) {
    let mut plan = Plan {
        interfaces: Vec::new(),
        listen: Vec::new(),
        datapath: Datapath::Auto,
        udp: true,
        cpus: Vec::new(),
        store: Store::Memory,
        ring_octets: None,
        capacity: 0,
        offers_max: 0,
        features: Features::default(),
        interface_matches: Vec::new(),
        notices: Vec::new(),
    };
    let Some(section) = &file.server else {
        problems.add_missing("no [server]", "a section with interfaces and server-id");
        return (Ipv4Addr::UNSPECIFIED, plan);
    };
    let server = section.get_ref();
    plan.interfaces = interfaces(section.span(), server.interfaces.as_ref(), problems);
    plan.listen = listen(&server.listen, problems);
    plan.datapath = problems.choose(
        server.datapath.as_ref(),
        &[
            ("auto", Datapath::Auto),
            ("xdp-native", Datapath::Native),
            ("xdp-generic", Datapath::Generic),
            ("socket", Datapath::Socket),
        ],
    );
    plan.udp = server.udp.as_ref().is_none_or(|udp| *udp.get_ref());
    if let (Some(udp), false, Datapath::Socket) = (&server.udp, plan.udp, plan.datapath) {
        let what = "datapath = \"socket\" needs the socket";
        problems.add(udp.span(), what, "true, or a datapath of auto, xdp-native or xdp-generic");
    }
    for cpu in server.cpus.iter().flat_map(Spanned::get_ref) {
        match usize::try_from(*cpu.get_ref()) {
            Ok(number @ 0..1024) => plan.cpus.push(number),
            _ => problems.add(cpu.span(), "not the number of a core", "0 to 1023"),
        }
    }
    let server_id =
        server.server_id.as_ref().and_then(|value| problems.read(value, SERVER_ID, identifier));
    if server.server_id.is_none() {
        problems.add(section.span(), "server-id is missing", SERVER_ID);
    }
    (server_id.unwrap_or(Ipv4Addr::UNSPECIFIED), plan)
}

/// A server identifier: one address that a client could send to.
fn identifier(text: &str) -> Result<Ipv4Addr, String> {
    let range = units::addresses(text)?;
    let single = range.start() == range.end();
    single.then_some(*range.start()).ok_or_else(|| "more than one address".to_owned())
}

fn other_server_ids(file: &File, problems: &mut Problems<'_>) -> Vec<Ipv4Addr> {
    let written = file.server.iter().flat_map(|server| &server.get_ref().other_server_ids);
    written.filter_map(|value| problems.read(value, SERVER_ID, identifier)).collect()
}

fn interfaces(
    section: std::ops::Range<usize>,
    written: Option<&Spanned<Vec<Spanned<String>>>>,
    problems: &mut Problems<'_>,
) -> Vec<Named> {
    const ALLOWED: &str = "a list of interface names such as [\"eth1\"]";
    let Some(written) = written else {
        problems.add(section, "interfaces is missing", ALLOWED);
        return Vec::new();
    };
    if written.get_ref().is_empty() {
        problems.add(written.span(), "no interface", ALLOWED);
    }
    let mut interfaces: Vec<Named> = Vec::new();
    for name in written.get_ref() {
        let text = name.get_ref();
        if text.is_empty() || text.len() > INTERFACE_LENGTH_MAX {
            problems.add(name.span(), "not an interface name", "1 to 15 octets");
        } else if interfaces.iter().any(|other| other.name == *text) {
            problems.add(name.span(), "named twice", "each interface once");
        }
        interfaces.push(Named { name: text.clone(), place: problems.place(&name.span()) });
    }
    interfaces
}

fn listen(written: &[Spanned<String>], problems: &mut Problems<'_>) -> Vec<Ipv6Addr> {
    const ALLOWED: &str = "unicast IPv6 addresses of this server, each once";
    let mut listen = Vec::new();
    for value in written {
        let address = problems.read(value, ALLOWED, |text| {
            let address: Ipv6Addr = text.parse().map_err(|_| "not an IPv6 address".to_owned())?;
            let strange = address.is_multicast()
                || address.is_unspecified()
                || address.is_loopback()
                || address.to_ipv4_mapped().is_some();
            if strange { Err("not a unicast address".to_owned()) } else { Ok(address) }
        });
        if let Some(address) = address {
            if listen.contains(&address) {
                problems.add(value.span(), "listed twice", ALLOWED);
            }
            listen.push(address);
        }
    }
    if let Some(beyond) = written.get(LISTEN_MAX) {
        let allowed = format!("at most {LISTEN_MAX} addresses");
        problems.add(beyond.span(), format!("{} addresses", written.len()), &allowed);
    }
    listen
}

fn store(
    file: &File,
    plan: &mut Plan,
    links: &Links,
    problems: &mut Problems<'_>,
    notices: &mut Vec<String>,
) {
    const MEMORY: &str = "store.kind is memory: a restart of the server forgets every lease";
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Ring,
        Memory,
        Etcd,
    }
    let written = file.store.as_ref().map(Spanned::get_ref);
    let kind = written.and_then(|store| store.kind.as_ref());
    let choices = [("ring", Kind::Ring), ("memory", Kind::Memory), ("etcd", Kind::Etcd)];
    let path = written.and_then(|store| store.path.as_ref());
    if let Some(path) = path.filter(|path| path.get_ref().is_empty()) {
        problems.add(path.span(), "empty", "a directory such as /var/lib/portlease");
    }
    let path = path.map_or("/var/lib/portlease", |path| path.get_ref());
    plan.store = match problems.choose(kind, &choices) {
        Kind::Ring => Store::Ring(PathBuf::from(path)),
        Kind::Memory => {
            notices.push(MEMORY.to_owned());
            Store::Memory
        }
        Kind::Etcd => {
            if let Some(kind) = kind {
                problems.add(kind.span(), "not built into this version", "ring, memory");
            }
            Store::Memory
        }
    };
    let written_capacity = written.and_then(|store| store.capacity.as_ref());
    let capacity = problems.count(written_capacity, CAPACITY_MAX, 1_000_000);
    let needed = links.clients();
    if capacity < needed && problems.is_empty() {
        let allowed = format!("{needed} to {CAPACITY_MAX}");
        let what = format!("too small: the pools serve {needed} clients");
        match written_capacity {
            Some(written) => problems.add(written.span(), what, &allowed),
            None => problems.add_missing(format!("store.capacity = {capacity}: {what}"), &allowed),
        }
    }
    plan.ring_octets = written
        .and_then(|store| store.ring_octets.as_ref())
        .map(|octets| problems.count(Some(octets), RING_OCTETS_MAX, 0));
    plan.capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
    let offers = file.lease.as_ref().and_then(|lease| lease.get_ref().offers_max.as_ref());
    let offers = problems.count(offers, capacity, (capacity / 4).max(1024).min(capacity));
    plan.offers_max = u32::try_from(offers).unwrap_or(u32::MAX);
}

fn admin(file: &File, problems: &mut Problems<'_>, notices: &mut Vec<String>) {
    let Some(admin) = file.admin.as_ref().map(Spanned::get_ref) else { return };
    if let Some(socket) = admin.socket.as_ref().filter(|socket| socket.get_ref().is_empty()) {
        problems.add(socket.span(), "empty", "a path such as /run/portlease/admin.sock");
    }
    if let Some(listen) = &admin.listen {
        problems.read(listen, "an address and a port such as [::1]:9547", super::socket_address);
    }
    notices.push("[admin] is accepted, but this version does not serve it".to_owned());
}

fn times(file: &File, problems: &mut Problems<'_>) -> Times {
    const DAY: u32 = 86_400;
    let lease = file.lease.as_ref().map(Spanned::get_ref);
    let lease_bounds = (LEASE_SECONDS_MIN, LEASE_SECONDS_MAX);
    let time = lease.and_then(|lease| lease.time.as_ref());
    let lease_seconds = problems.time(time, lease_bounds, 3600);
    let max_time = lease.and_then(|lease| lease.max_time.as_ref());
    let lease_seconds_max = problems.time(max_time, lease_bounds, lease_seconds.max(DAY));
    if lease_seconds_max < lease_seconds {
        let shortest = units::show_seconds(lease_seconds);
        let what = format!("shorter than lease.time, which is {shortest}");
        let allowed = format!("{shortest} or more");
        match max_time {
            Some(written) => problems.add(written.span(), what, &allowed),
            None => problems.add_missing(format!("lease.max-time: {what}"), &allowed),
        }
    }
    let offer = lease.and_then(|lease| lease.offer_hold.as_ref());
    let hold = lease.and_then(|lease| lease.hold_down.as_ref());
    let decline = lease.and_then(|lease| lease.decline_hold.as_ref());
    Times {
        lease_seconds,
        lease_seconds_max,
        offer_hold_seconds: problems.time(offer, (1, 3600), 60),
        hold_down_seconds: problems.time(hold, (0, 30 * DAY), 120),
        decline_hold_seconds: problems.time(decline, (1, 365 * DAY), DAY),
        early_renewal_percent: early_renewal(lease, problems),
    }
}

fn early_renewal(lease: Option<&Lease>, problems: &mut Problems<'_>) -> u8 {
    let Some(value) = lease.and_then(|lease| lease.early_renewal_percent.as_ref()) else {
        return EARLY_RENEWAL_PERCENT;
    };
    // From T1 on, a client renews in time (RFC 2131 §4.4.5).
    let percent = u8::try_from(*value.get_ref()).ok().filter(|percent| *percent < 50);
    if percent.is_none() {
        problems.add(value.span(), "out of range", "0 to 49 (percent of the lease)");
    }
    percent.unwrap_or(EARLY_RENEWAL_PERCENT)
}

fn policy(
    file: &File,
    server_id: Ipv4Addr,
    times: Times,
    links: &Links,
    problems: &mut Problems<'_>,
) -> Policy {
    let default = super::file::Policy::default();
    let written = file.policy.as_ref().map_or(&default, Spanned::get_ref);
    let renew = [("nak", false), ("accept", true)];
    let bind = [("log", BindSource::Log), ("nak", BindSource::Nak)];
    let repeated = [("accept", true), ("ignore", false)];
    let release = [("ignore", false), ("accept", true)];
    let choice = [("random", PsidChoice::Random), ("sequential", PsidChoice::Sequential)];
    Policy {
        other_server_ids: other_server_ids(file, problems),
        authoritative: file.server.as_ref().is_some_and(|server| server.get_ref().authoritative),
        pool_options: links.pool_options.clone(),
        extend_leases: written.extend_leases.unwrap_or(true),
        answer_inform_without_159: written.answer_inform_without_159,
        accept_renew_without_159: problems.choose(written.renew_without_159.as_ref(), &renew),
        accept_renew_with_50: problems.choose(written.renew_with_50.as_ref(), &repeated),
        accept_release_without_159: problems.choose(written.release_without_159.as_ref(), &release),
        bind_source: problems.choose(written.bind_source.as_ref(), &bind),
        ignore_159: written.ignore_159,
        psid_choice: problems.choose(written.psid_choice.as_ref(), &choice),
        sites: sites(written, problems),
        reply_to_source_port: written.reply_to_source_port,
        pad_to_300: written.pad_to_300,
        ..Policy::new(server_id, times, links.links.clone(), links.matches.clone())
    }
}

fn sites(written: &super::file::Policy, problems: &mut Problems<'_>) -> SitePolicy {
    let default = SitePolicy::default();
    let length = written.site_prefix_len.as_ref();
    let length = problems.number(length, (1, 128), default.prefix_length.into());
    let queries = written.queries_per_site.as_ref();
    SitePolicy {
        prefix_length: u8::try_from(length).unwrap_or(default.prefix_length),
        queries_per_second: problems.number(queries, (0, QUERIES_PER_SITE_MAX), 0),
    }
}

/// What the leases do besides leasing.
fn features(file: &File, problems: &mut Problems<'_>) -> Features {
    let written = file.policy.as_ref().map(Spanned::get_ref);
    let limit = written.and_then(|policy| policy.max_leases_per_site.as_ref());
    Features {
        leases_per_site_max: problems.number(limit, (0, LEASES_PER_SITE_MAX), 0),
        ..Features::default()
    }
}
