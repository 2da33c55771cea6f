//! Scenario files: what is measured of whom, how often and for how long.

use std::{fs, path::Path};

use serde::Deserialize;

use super::contestant::Who;
use crate::error::{Doing as _, Result, RigError};

/// What a scenario measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Exchanges a second in a closed loop: new leases, then renewals; processor time for each.
    /// An echo bounces packets.
    Exchanges,
    /// Latency of new leases at half of the peak rate, and when there is next to nothing to do.
    Latency,
    /// New leases completed while twice the peak rate is offered.
    Overload,
    /// Memory for each lease, and the time from a start to the first reply with so many leases.
    Restart,
    /// Criterion benches of single layers.
    Benches,
}

/// How much of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Extent {
    /// Turns of each server or bench, one after another: A B C A B C.
    pub repetitions: u32,
    /// Seconds of each measurement in a turn; of benches, of a turn of them all.
    #[serde(default)]
    pub seconds: f64,
    /// Numbers of leases, in `restart`.
    #[serde(default)]
    pub leases: Vec<u32>,
    /// The most leases of Kea, which takes long to make them.
    #[serde(default)]
    pub kea_leases: u32,
}

/// A program with criterion benches, and which of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bench {
    /// The bench target of the package `benches`.
    pub program: String,
    /// A regular expression that the benches' names match.
    pub filter: String,
}

/// A scenario file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// A headline.
    pub title: String,
    /// What it measures.
    pub kind: Kind,
    /// Whom, in turn.
    pub servers: Vec<Who>,
    /// Exchanges under way at a time; of several the one with the highest rate is used for each server.
    pub windows: Vec<usize>,
    /// Benches to run.
    pub benches: Vec<Bench>,
    /// How much, when there is time.
    pub full: Extent,
    /// How much, when there is none.
    pub quick: Extent,
}

/// The keys of a file.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Keys {
    title: String,
    kind: Kind,
    #[serde(default)]
    servers: Vec<String>,
    #[serde(default)]
    windows: Vec<usize>,
    #[serde(default)]
    bench: Vec<Bench>,
    full: Extent,
    quick: Extent,
}

impl Scenario {
    /// Reads a scenario file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).doing(format!("read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(name, &text)
            .map_err(|error| RigError::unexpected(format!("{}: {error}", path.display())))
    }

    fn parse(name: String, text: &str) -> Result<Self, String> {
        let keys: Keys = toml::from_str(text).map_err(|error| error.to_string())?;
        let servers: Vec<Who> =
            keys.servers.iter().map(|server| server.parse()).collect::<Result<_, String>>()?;
        let scenario = Self {
            name,
            title: keys.title,
            kind: keys.kind,
            servers,
            windows: keys.windows,
            benches: keys.bench,
            full: keys.full,
            quick: keys.quick,
        };
        scenario.check().map(|()| scenario)
    }

    fn check(&self) -> Result<(), String> {
        let needs_servers = self.kind != Kind::Benches;
        if needs_servers == self.servers.is_empty() {
            return Err("`servers` must name those to measure, and benches have none".to_owned());
        }
        if needs_servers != self.benches.is_empty() {
            return Err("`[[bench]]` belongs to the kind `benches`, and only there".to_owned());
        }
        let needs_window = needs_servers && self.kind != Kind::Restart;
        if needs_window && (self.windows.is_empty() || self.windows.contains(&0)) {
            return Err("`windows` must list one or more numbers above 0".to_owned());
        }
        for extent in [&self.full, &self.quick] {
            if extent.repetitions == 0 {
                return Err("`repetitions` must be above 0".to_owned());
            }
            if self.kind == Kind::Restart && extent.leases.is_empty() {
                return Err("`leases` must list numbers of leases".to_owned());
            }
            if self.kind != Kind::Restart && extent.seconds <= 0.0 {
                return Err("`seconds` must be above 0".to_owned());
            }
        }
        Ok(())
    }

    /// How much of it this time.
    pub fn extent(&self, quick: bool) -> &Extent {
        if quick { &self.quick } else { &self.full }
    }

    /// About how long it will take, in seconds, before a server's own slowness.
    pub fn estimate_s(&self, quick: bool) -> f64 {
        let extent = self.extent(quick);
        let turns = f64::from(extent.repetitions) * count(self.servers.len());
        match self.kind {
            Kind::Exchanges => {
                let trials = if self.windows.len() > 1 { self.windows.len() } else { 0 };
                let searching =
                    count(trials) * count(self.servers.len()) * (TRIAL_SECONDS + START_SECONDS);
                searching + turns * (2.0 * extent.seconds + START_SECONDS)
            }
            Kind::Latency => turns * (extent.seconds + 5.5 + START_SECONDS),
            Kind::Overload => turns * (extent.seconds + 3.0 + START_SECONDS),
            Kind::Restart => self.servers.iter().map(|&who| restart_s(who, extent)).sum(),
            Kind::Benches => f64::from(extent.repetitions) * extent.seconds,
        }
    }
}

/// Seconds of a trial of one window.
pub const TRIAL_SECONDS: f64 = 1.0;

/// What it takes to set a scene and start a server, in seconds.
const START_SECONDS: f64 = 1.2;

fn restart_s(who: Who, extent: &Extent) -> f64 {
    let mut sum = 0.0;
    for &leases in &extent.leases {
        let leases = if who == Who::Kea { leases.min(extent.kea_leases) } else { leases };
        let (a_second, recovered) =
            if who == Who::Kea { (15_000.0, 80_000.0) } else { (100_000.0, 2_000_000.0) };
        let restarts = f64::from(extent.repetitions) * (0.7 + f64::from(leases) / recovered);
        sum += START_SECONDS + f64::from(leases) / a_second + restarts;
    }
    sum
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn count(number: usize) -> f64 {
    number as f64
}

/// All scenario files of a folder, by name.
pub fn read_all(folder: &Path) -> Result<Vec<Scenario>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).doing(folder.display())? {
        let path = entry.doing(folder.display())?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Scenario::read(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::null::Datapath;

    const FILE: &str = "title = \"T\"\nkind = \"exchanges\"\nservers = [\"kea\", \"null socket\"]\n\
        windows = [64, 256]\n[full]\nrepetitions = 5\nseconds = 4.0\n[quick]\nrepetitions = 2\n\
        seconds = 1.0\n";

    #[test]
    fn a_file_is_read() {
        let scenario = Scenario::parse("dora".to_owned(), FILE).unwrap();
        assert_eq!(scenario.servers, [Who::Kea, Who::Null(Datapath::Socket)]);
        assert_eq!(scenario.extent(true).repetitions, 2);
        let (full, quick) = (scenario.estimate_s(false), scenario.estimate_s(true));
        assert!(
            full > 5.0 * 2.0 * 8.0 && quick > 2.0 * 2.0 * 2.0 && quick < full,
            "{full} {quick}"
        );
    }

    #[test]
    fn mistakes_are_named() {
        let error = |from: &str, to: &str| {
            Scenario::parse("x".to_owned(), &FILE.replace(from, to)).unwrap_err()
        };
        assert!(error("kind = \"exchanges\"", "kind = \"race\"").contains("race"));
        assert!(error("null socket", "nobody").contains("`nobody` is no server"));
        assert!(error("windows = [64, 256]", "windows = []").contains("windows"));
        assert!(error("repetitions = 2", "repetitions = 0").contains("repetitions"));
        assert!(error("seconds = 4.0", "secs = 4.0").contains("secs"));
        assert!(error("exchanges", "restart").contains("leases"));
    }

    #[test]
    fn the_files_of_the_repository_are_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let all = read_all(&folder).unwrap();
        assert!(all.iter().any(|scenario| scenario.name == "dora"));
        let quick: f64 = all.iter().map(|scenario| scenario.estimate_s(true)).sum();
        assert!(quick < 480.0, "a quick run takes {quick:.0} s, more than eight minutes");
        let full: f64 = all.iter().map(|scenario| scenario.estimate_s(false)).sum();
        assert!(full < 1500.0, "a full run takes {full:.0} s, more than twenty-five minutes");
        assert!(
            all.iter()
                .all(|scenario| scenario.full.repetitions >= 5 || scenario.kind == Kind::Benches)
        );
    }
}
