//! From what was said of a load to what is done: defaults, and complaints that name the flag.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use portlease::wire::dhcpv6::{ALL_RELAYS_AND_SERVERS, SERVER_PORT};

use super::{
    Amount, Backend, BackendName, Mac, Mix, Options, Pace, Pacing, PhaseSpec, Place, PortRange,
    RelayPlace, Scenario, Scene, SearchOptions, Spacing, XdpPlace, backoff::Backoff,
    fleet::CLIENTS_MAX,
};
use crate::{
    error::{Doing as _, Result, RigError},
    sys,
};

/// Levels of relays at the most (RFC 8415 §7.6, `HOP_COUNT_LIMIT`).
const RELAY_LEVELS_MAX: usize = 9;

/// What a load is, with nothing left open.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name in reports.
    pub name: String,
    /// Clients, places and checks.
    pub options: Options,
    /// The phases, in order.
    pub phases: Vec<PhaseSpec>,
    /// What the scenario said, for reports.
    pub scenario: Scenario,
    pacing: Pacing,
    spacing: Spacing,
    time_scale: f64,
    pub(super) search: SearchOptions,
    /// An exchange of a trial that takes longer counts as lost.
    pub(super) late: Duration,
}

fn usage(flag: &str, expected: impl std::fmt::Display) -> RigError {
    RigError::unexpected(format!("{flag}: {expected}"))
}

/// A number above zero, or a complaint.
fn positive(flag: &str, value: Option<f64>, default: f64) -> Result<f64> {
    let value = value.unwrap_or(default);
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(usage(flag, format_args!("{value} is not above 0")))
}

impl Plan {
    /// Fills in the defaults and checks that everything fits together. Interfaces are looked up in the network
    /// namespace of the calling thread.
    ///
    /// # Errors
    /// Names the flag and what was expected.
    pub fn new(scenario: &Scenario) -> Result<Self> {
        let said = scenario;
        let clients = said.clients.unwrap_or(10_000);
        if clients == 0 || clients > CLIENTS_MAX {
            return Err(usage("--clients", format_args!("expected 1 to {CLIENTS_MAX}")));
        }
        let time_scale = positive("--time-scale", said.time_scale, 1.0)?;
        let pacing = said.pace.unwrap_or(Pacing::Window(256));
        let spacing = said.spacing.unwrap_or_default();
        let phases = match &said.phases {
            Some(phases) => phases.clone(),
            None => ["new", "renew", "release"].iter().flat_map(|phase| phase.parse()).collect(),
        };
        if phases.is_empty() {
            return Err(usage("--phases", "expected at least one"));
        }
        let searches = |phase: &PhaseSpec| phase.pacing.unwrap_or(pacing) == Pacing::Search;
        let is_found_by_search = |scene| matches!(scene, Scene::Release | Scene::ReleaseStorm);
        let unfit = phases.iter().find(|phase| {
            (phase.pacing == Some(Pacing::Search) && is_found_by_search(phase.scene))
                || (searches(phase) && phase.amount != Amount::EachOnce)
        });
        if let Some(phase) = unfit {
            return Err(usage(
                "--phases",
                format_args!(
                    "`{phase}`: a search needs answers and sets its own length: expected new, \
                     renew, rebind, reboot or mixed, without a count or a time"
                ),
            ));
        }
        let release_rate = positive("--release-rate", said.release_rate, 20_000.0)?;
        let late = positive("--late-ms", said.late_ms, 100.0)?;
        Ok(Self {
            name: said.name.clone().unwrap_or_else(|| "perf4o6".to_owned()),
            options: Options {
                place: place(said)?,
                backend: backend(said)?,
                clients,
                seed: said.seed.unwrap_or(1),
                sharing: !said.no_option_159.unwrap_or(false),
                pace: Pace::Closed { window: 256 },
                backoff: plain_backoff(said, time_scale),
                release_rate,
                reserved: reserved(said),
                server_id: said.server_id,
                mix: said.mix.unwrap_or(Mix::even()),
                progress: true,
            },
            phases,
            pacing,
            spacing,
            time_scale,
            search: search_options(said)?,
            late: Duration::from_secs_f64(late / 1000.0),
            scenario: said.clone(),
        })
    }

    /// The pace of a phase as it was said, or as its scene suggests.
    pub(super) fn pacing_of(&self, phase: &PhaseSpec) -> Pacing {
        match (phase.pacing, phase.scene) {
            (Some(pacing), _) => pacing,
            (None, scene) if scene.is_storm() => Pacing::Burst,
            (None, Scene::Release) => Pacing::Rate(self.options.release_rate),
            (None, _) => self.pacing,
        }
    }

    /// The pace that a text stands for; none for a search.
    pub(super) fn pace(&self, pacing: Pacing) -> Option<Pace> {
        let spacing = self.spacing;
        match pacing {
            Pacing::Window(window) => Some(Pace::Closed { window }),
            Pacing::Rate(rate) => Some(Pace::Open { rate, spacing }),
            Pacing::Ramp { from, to, seconds } => Some(Pace::Ramp { from, to, seconds, spacing }),
            Pacing::Burst => Some(Pace::Burst),
            Pacing::Search => None,
        }
    }

    /// When messages of a phase are sent again.
    pub(super) fn backoff_of(&self, scene: Scene) -> Backoff {
        if scene == Scene::Avalanche {
            let tries = self.scenario.tries.unwrap_or(5);
            return Backoff::rfc2131(self.time_scale, (tries > 0).then_some(tries));
        }
        self.options.backoff
    }
}

fn plain_backoff(said: &Scenario, time_scale: f64) -> Backoff {
    let tries = |default| Some(said.tries.unwrap_or(default)).filter(|&tries| tries > 0);
    if said.back_off.unwrap_or(false) {
        return Backoff::rfc2131(time_scale, tries(5));
    }
    let timeout = Duration::from_millis(said.timeout_ms.unwrap_or(1000).max(1));
    Backoff::Fixed { timeout, tries: tries(4) }
}

fn reserved(said: &Scenario) -> Vec<std::ops::RangeInclusive<u16>> {
    let well_known = [PortRange { first: 0, last: 1023 }];
    let ranges = said.reserved.as_deref().unwrap_or(&well_known);
    ranges.iter().map(|range| range.first..=range.last).collect()
}

fn search_options(said: &Scenario) -> Result<SearchOptions> {
    let default = SearchOptions::default();
    Ok(SearchOptions {
        loss_percent: said.loss_percent.unwrap_or(default.loss_percent).max(0.0),
        from: positive("--search-from", said.search_from, default.from)?,
        trial_seconds: positive("--trial-seconds", said.trial_seconds, default.trial_seconds)?,
        warm_up_seconds: said.warm_up_seconds.unwrap_or(default.warm_up_seconds).max(0.0),
        precision_percent: positive(
            "--precision-percent",
            said.precision_percent,
            default.precision_percent,
        )?,
    })
}

fn backend(said: &Scenario) -> Result<Backend> {
    if said.backend.unwrap_or_default() == BackendName::Udp {
        return Ok(Backend::Udp);
    }
    let interface = said.interface.clone();
    Ok(Backend::Xdp(XdpPlace {
        interface: interface.ok_or_else(|| usage("--backend xdp", "expected --interface NAME"))?,
        attach: said.attach.unwrap_or_default(),
        transmit: said.transmit.unwrap_or_default(),
        server_mac: said.server_mac.map(|Mac(octets)| octets),
        queues: said.queues,
    }))
}

fn place(said: &Scenario) -> Result<Place> {
    let scope = match &said.interface {
        Some(name) => sys::interface_index(name).doing(format_args!("--interface {name}"))?,
        None => 0,
    };
    let needs_interface = |flag| {
        let missing = usage(flag, "expected --interface NAME beside it");
        if scope == 0 { Err(missing) } else { Ok(scope) }
    };
    let server = match (said.server, said.multicast.unwrap_or(false)) {
        (Some(_), true) => return Err(usage("--multicast", "not beside --server")),
        (None, false) => {
            return Err(usage("--server", "expected an IPv6 address, or --multicast"));
        }
        (None, true) => {
            let scope = needs_interface("--multicast")?;
            SocketAddrV6::new(ALL_RELAYS_AND_SERVERS, SERVER_PORT, 0, scope)
        }
        (Some(address), false) if address.is_unicast_link_local() => {
            let scope = needs_interface("--server with a link-local address")?;
            SocketAddrV6::new(address, SERVER_PORT, 0, scope)
        }
        (Some(address), false) => SocketAddrV6::new(address, SERVER_PORT, 0, 0),
    };
    Ok(Place {
        server,
        sources: sources(said)?,
        foreign: said.foreign_sources.unwrap_or(false),
        interface: said.interface.clone(),
        relay: relay(said)?,
    })
}

fn sources(said: &Scenario) -> Result<Vec<Ipv6Addr>> {
    let listed = said.source.as_deref().unwrap_or_default();
    let Some(&first) = listed.first() else {
        return Err(usage("--source", "expected an address that clients or relays send from"));
    };
    match said.sources.unwrap_or(1) {
        0 => Err(usage("--sources", "0 is not above 0")),
        1 => Ok(listed.to_vec()),
        _ if listed.len() > 1 => Err(usage("--sources", "counts on from one --source only")),
        count => Ok((0..count.into())
            .map(|n| Ipv6Addr::from_bits(first.to_bits().wrapping_add(n)))
            .collect()),
    }
}

fn relay(said: &Scenario) -> Result<Option<RelayPlace>> {
    let Some(link_address) = said.relay else {
        let asked = said.relay_step.is_some()
            || said.relay_levels.is_some()
            || said.interface_id.unwrap_or(false);
        let flags = "--relay-step, --relay-levels, --interface-id";
        return if asked { Err(usage(flags, "expected --relay beside them")) } else { Ok(None) };
    };
    let levels = said.relay_levels.unwrap_or(1);
    if !(1..=RELAY_LEVELS_MAX).contains(&levels) {
        return Err(usage("--relay-levels", format_args!("expected 1 to {RELAY_LEVELS_MAX}")));
    }
    if said.relay_step.is_some_and(|step| !(1..=128).contains(&step)) {
        return Err(usage("--relay-step", "expected a prefix length of 1 to 128"));
    }
    Ok(Some(RelayPlace {
        link_address,
        link_step: said.relay_step,
        levels,
        interface_id: said.interface_id.unwrap_or(false),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Scenario {
        let start = "server = \"2001:db8::547\"\nsource = [\"2001:db8:1::10\"]\n";
        toml::from_str(&format!("{start}{text}")).unwrap()
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let plan = Plan::new(&scenario("")).unwrap();
        let phases: Vec<_> = plan.phases.iter().map(ToString::to_string).collect();
        assert_eq!(phases, ["new", "renew", "release"]);
        let pacings: Vec<_> = plan.phases.iter().map(|phase| plan.pacing_of(phase)).collect();
        assert_eq!(pacings, [Pacing::Window(256), Pacing::Window(256), Pacing::Rate(20_000.0)]);
        assert_eq!(plan.options.reserved, [0..=1023]);
        let storm = "phases = [\"avalanche\", \"reboot-storm@rate:5\"]\ntime-scale = 0.5";
        let plan = Plan::new(&scenario(storm)).unwrap();
        assert_eq!(plan.pacing_of(&plan.phases[0]), Pacing::Burst);
        assert_eq!(plan.pacing_of(&plan.phases[1]), Pacing::Rate(5.0));
        assert_eq!(plan.backoff_of(Scene::Avalanche), Backoff::rfc2131(0.5, Some(5)));
        assert_eq!(plan.backoff_of(Scene::RebootStorm), plan.options.backoff);
    }

    #[test]
    fn sources_and_relays_count_on() {
        let plan = Plan::new(&scenario("sources = 3\nrelay = \"2001:db8:7::1\"\nrelay-step = 64"));
        let place = plan.unwrap().options.place;
        assert_eq!(place.sources[2], "2001:db8:1::12".parse::<Ipv6Addr>().unwrap());
        let relay = place.relay.unwrap();
        assert_eq!(relay.link_address_of(0), "2001:db8:7::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(relay.link_address_of(2), "2001:db8:7:2::1".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn complaints_name_the_flag() {
        for (text, flag) in [
            ("clients = 0", "--clients"),
            ("clients = 20000000", "--clients"),
            ("sources = 0", "--sources"),
            ("multicast = true", "--multicast"),
            ("relay-step = 64", "--relay"),
            ("relay = \"::1\"\nrelay-levels = 10", "--relay-levels"),
            ("relay = \"::1\"\nrelay-step = 0", "--relay-step"),
            ("time-scale = 0.0", "--time-scale"),
            ("release-rate = -1.0", "--release-rate"),
            ("phases = [\"release@search\"]", "--phases"),
            ("backend = \"xdp\"", "--backend"),
            ("interface = \"no such\"", "--interface"),
        ] {
            let error = Plan::new(&scenario(text)).unwrap_err().to_string();
            assert!(error.contains(flag), "{text}: {error}");
        }
        assert!(Plan::new(&Scenario::default()).unwrap_err().to_string().contains("--server"));
    }
}
