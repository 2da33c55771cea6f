//! What a load is, in the same words on a command line and in a scenario file.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{
    text::{self, Mac, Mix, Pacing, PhaseSpec, PortRange},
    transport::{Attach, Transmit},
};
use crate::error::{Doing as _, Result, RigError};

/// How packets leave and arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendName {
    /// UDP sockets of the kernel, one for each source.
    #[default]
    Udp,
    /// AF_XDP: whole frames, past the kernel's network stack.
    Xdp,
}

/// Between exchanges of an open loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spacing {
    /// Random gaps, as of clients that do not know of each other: exponentially distributed.
    #[default]
    Poisson,
    /// Equal gaps.
    Fixed,
}

/// A load, as far as somebody has said it. What is not said has its default.
///
/// The fields are those of the command line of `perf4o6` and the keys of a scenario file.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// Name in reports
    #[arg(long, value_name = "TEXT", help_heading = "What happens")]
    pub name: Option<String>,

    /// Unicast address of the server
    #[arg(long, value_name = "ADDRESS", help_heading = "Where", conflicts_with = "multicast")]
    pub server: Option<Ipv6Addr>,

    /// Send to all relays and servers of --interface instead of to --server
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL",
        hide_possible_values = true, help_heading = "Where"
    )]
    pub multicast: Option<bool>,

    /// Interface to send through; needed for multicast, link-local servers and --backend xdp
    #[arg(long, value_name = "NAME", help_heading = "Where")]
    pub interface: Option<String>,

    /// Address that clients (behind --relay: the first relay) send from; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "Where")]
    pub source: Option<Vec<Ipv6Addr>>,

    /// Use this many consecutive addresses from --source on, so that RSS spreads them [default: 1]
    #[arg(long, value_name = "N", help_heading = "Where")]
    pub sources: Option<u32>,

    /// The sources are not addresses of this host (needs `ip -6 route add local PREFIX dev lo`)
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL",
        hide_possible_values = true, help_heading = "Where"
    )]
    pub foreign_sources: Option<bool>,

    /// udp: sockets of the kernel; xdp: AF_XDP, several times faster [default: udp]
    #[arg(long, value_name = "KIND", help_heading = "Where")]
    pub backend: Option<BackendName>,

    /// How the XDP program that fetches the answers attaches [default: auto]
    #[arg(long, value_name = "MODE", help_heading = "Where")]
    pub attach: Option<Attach>,

    /// With --backend xdp: how frames leave. live-frames costs half as much on virtual links, if the program of
    /// the other end is in its driver too [default: socket]
    #[arg(long, value_name = "KIND", help_heading = "Where")]
    pub transmit: Option<Transmit>,

    /// With --backend xdp: Ethernet address of the server or its router, if it cannot be resolved
    #[arg(long, value_name = "MAC", help_heading = "Where")]
    pub server_mac: Option<Mac>,

    /// With --backend xdp: queues of the interface to use [default: all]
    #[arg(long, value_name = "N", help_heading = "Where")]
    pub queues: Option<u32>,

    /// Clients sit behind relays: wrap queries with this link-address, send them from port 547
    #[arg(long, value_name = "LINK-ADDRESS", help_heading = "Relays")]
    pub relay: Option<Ipv6Addr>,

    /// Each source is a relay; the link-address of the next is one prefix of this length further.
    /// 128: the next address; without it all relays have one link-address
    #[arg(long, value_name = "LENGTH", help_heading = "Relays")]
    pub relay_step: Option<u8>,

    /// Levels of relays around each query, up to 9 [default: 1]
    #[arg(long, value_name = "N", help_heading = "Relays")]
    pub relay_levels: Option<usize>,

    /// The innermost relay adds an Interface-Id for each client
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true,
        help_heading = "Relays"
    )]
    pub interface_id: Option<bool>,

    /// Number of clients, up to 10M [default: 10000]
    #[arg(long, value_name = "N", value_parser = text::clients, help_heading = "Clients")]
    pub clients: Option<u32>,

    /// Population and randomness: the same seed gives the same clients, transactions and times,
    /// another seed other clients (0-255) [default: 1]
    #[arg(long, value_name = "N", help_heading = "Clients")]
    pub seed: Option<u8>,

    /// Clients that do not know option 159, for servers that lease whole addresses (Kea)
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL",
        hide_possible_values = true, help_heading = "Clients"
    )]
    pub no_option_159: Option<bool>,

    /// What happens, in order: new, renew, rebind, reboot, release, mixed, reboot-storm,
    /// release-storm, avalanche; each may have =COUNT exchanges or =SECONDSs, and @PACE of its own
    /// [default: new,renew,release]
    #[arg(long, value_name = "PHASE", value_delimiter = ',', help_heading = "What happens")]
    pub phases: Option<Vec<PhaseSpec>>,

    /// Weights of what clients do in `mixed`: new=50,renew=40,release=10
    /// [default: new=50,renew=25,release=25]
    #[arg(long, value_name = "WEIGHTS", help_heading = "What happens")]
    pub mix: Option<Mix>,

    /// window:N exchanges under way at a time (closed loop); rate:N exchanges a second or
    /// ramp:FROM-TO/SECONDSs (open loop); burst: all at once; search: find the highest rate
    /// [default: window:256]
    #[arg(long, value_name = "PACE", help_heading = "When")]
    pub pace: Option<Pacing>,

    /// Gaps between exchanges of an open loop [default: poisson]
    #[arg(long, value_name = "KIND", help_heading = "When")]
    pub spacing: Option<Spacing>,

    /// Releases a second, where a phase has no pace of its own; nothing answers them
    /// [default: 20000]
    #[arg(long, value_name = "N", help_heading = "When")]
    pub release_rate: Option<f64>,

    /// Milliseconds after which an unanswered message is sent again [default: 1000]
    #[arg(long, value_name = "MS", help_heading = "When")]
    pub timeout_ms: Option<u64>,

    /// Transmissions of a message before its exchange is given up; 0: never given up
    /// [default: 4, with back-off 5]
    #[arg(long, value_name = "N", help_heading = "When")]
    pub tries: Option<u32>,

    /// Send again after 4, 8, 16, 32, 64 s, each +-1 s (RFC 2131 §4.1), in all phases; an
    /// avalanche always does
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL",
        hide_possible_values = true, help_heading = "When"
    )]
    pub back_off: Option<bool>,

    /// Times of the back-off are multiplied by this: 0.01 turns 4 s into 40 ms [default: 1]
    #[arg(long, value_name = "FACTOR", help_heading = "When")]
    pub time_scale: Option<f64>,

    /// A rate is good if no more than this share of its exchanges is lost or late [default: 0.1]
    #[arg(long, value_name = "PERCENT", help_heading = "Search")]
    pub loss_percent: Option<f64>,

    /// Rate of the first trial [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub search_from: Option<f64>,

    /// Measured time of each trial [default: 3]
    #[arg(long, value_name = "S", help_heading = "Search")]
    pub trial_seconds: Option<f64>,

    /// Milliseconds after which an exchange of a trial counts as lost [default: 100]
    #[arg(long, value_name = "MS", help_heading = "Search")]
    pub late_ms: Option<f64>,

    /// Time at the rate before a trial counts [default: 0.5]
    #[arg(long, value_name = "S", help_heading = "Search")]
    pub warm_up_seconds: Option<f64>,

    /// The search ends when the bracket is narrower than this [default: 2]
    #[arg(long, value_name = "PERCENT", help_heading = "Search")]
    pub precision_percent: Option<f64>,

    /// Ports that must never be leased [default: 0-1023]
    #[arg(long, value_name = "FIRST-LAST", value_delimiter = ',', help_heading = "Checks")]
    pub reserved: Option<Vec<PortRange>>,

    /// The only server identifier that may appear [default: the first one that does]
    #[arg(long, value_name = "ADDRESS", help_heading = "Checks")]
    pub server_id: Option<Ipv4Addr>,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// Names the file, the line and the key of what is wrong, and what was expected.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).doing(format!("read {}", path.display()))?;
        Self::parse(&text).map_err(|error| {
            RigError::unexpected(format!("{}: {}", path.display(), error.to_string().trim_end()))
        })
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// These values where there are some, else those of `below`.
    ///
    /// # Errors
    /// Never for scenarios that were read or given on a command line.
    pub fn over(&self, below: &Self) -> Result<Self> {
        let table = |scenario: &Self| toml::Table::try_from(scenario);
        let merged = table(below).and_then(|mut merged| {
            merged.extend(table(self)?);
            Ok(merged)
        });
        merged
            .map_err(|error| error.to_string())
            .and_then(|merged| merged.try_into().map_err(|error| error.to_string()))
            .map_err(RigError::unexpected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::text::{Amount, Scene};

    const STORM: &str = r#"
        name = "reboot storm"
        server = "2001:db8:ffff::547"
        source = ["2001:db8:1::10"]
        clients = 100000
        phases = ["new", "renew=30s@ramp:1000-50000/30s", "reboot-storm"]
        mix = "new=50,renew=40,release=10"
        spacing = "fixed"
        reserved = ["0-1023", "4000-4001"]
    "#;

    #[test]
    fn a_scenario_is_read_and_written_and_read_again() {
        let scenario = Scenario::parse(STORM).unwrap();
        let phases = scenario.phases.clone().unwrap();
        assert_eq!(phases[1].amount, Amount::Seconds(30.0));
        assert_eq!(phases[2].scene, Scene::RebootStorm);
        assert_eq!(scenario.mix.unwrap().renew, 40);
        let written = toml::to_string(&scenario).unwrap();
        assert_eq!(Scenario::parse(&written).unwrap(), scenario);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("storm.toml");
        let error_of = |text: &str| {
            fs::write(&path, text).unwrap();
            let error = Scenario::read(&path).unwrap_err().to_string();
            assert!(error.contains("storm.toml"), "{error}");
            error
        };
        let error = error_of("clients = 5\nclints = 6\n");
        assert!(error.contains("line 2") && error.contains("clints"), "{error}");
        let error = error_of("\n\nphases = [\"new\", \"steal\"]\n");
        assert!(error.contains("line 3") && error.contains("`steal` is no phase"), "{error}");
        let error = error_of("clients = 5\npace = \"fast\"\n");
        assert!(error.contains("line 2") && error.contains("rate:20000"), "{error}");
        let error = error_of("seed = 300\n");
        assert!(error.contains("line 1") && error.contains("seed"), "{error}");
        assert!(
            Scenario::read(&folder.path().join("none")).unwrap_err().to_string().contains("none")
        );
    }

    #[test]
    fn what_the_command_line_says_goes_before_the_file() {
        let file = Scenario::parse(STORM).unwrap();
        let flags = Scenario { clients: Some(7), seed: Some(9), ..Scenario::default() };
        let both = flags.over(&file).unwrap();
        assert_eq!((both.clients, both.seed), (Some(7), Some(9)));
        assert_eq!((both.phases, both.spacing), (file.phases, file.spacing));
    }
}
