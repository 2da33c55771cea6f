//! Values that people write, on a command line and in a scenario file alike: rates, paces, phases, mixes.

use std::{fmt, str::FromStr};

/// Reads and writes a type in TOML and JSON as the text that people write.
macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

as_text!(Pacing, PhaseSpec, Mix, PortRange, Mac);

/// A number with an optional `k` or `M` behind it, above zero.
fn number(text: &str) -> Option<f64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1e3),
        b'M' => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let value = digits.parse::<f64>().ok()? * factor;
    (value.is_finite() && value > 0.0).then_some(value)
}

/// A whole number with an optional `k` or `M` behind it, above zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was found to be whole, above zero and below 2^53"
)]
pub(super) fn count(text: &str) -> Option<u64> {
    let value = number(text)?;
    (value.fract() == 0.0 && value < 9e15).then_some(value as u64)
}

/// A number of clients on a command line, as in `100000`, `100k` or `10M`.
///
/// # Errors
/// What was expected instead.
pub fn clients(text: &str) -> Result<u32, String> {
    let bad = || format!("`{text}` is no number of clients, as in 10000, 100k or 10M");
    u32::try_from(count(text).ok_or_else(bad)?).map_err(|_| bad())
}

/// When the exchanges of a phase start, or that the highest rate is to be found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// Closed loop: this many exchanges under way at all times. `window:256`
    Window(usize),
    /// Open loop: this many exchanges a second. `rate:20000`
    Rate(f64),
    /// Open loop whose rate grows (or falls) steadily. `ramp:1000-50000/30s`
    Ramp {
        /// Exchanges a second at the start.
        from: f64,
        /// Exchanges a second at the end, and after it.
        to: f64,
        /// How long that takes.
        seconds: f64,
    },
    /// Everybody at once. `burst`
    Burst,
    /// Looks for the highest rate that loses little enough. `search`
    Search,
}

impl FromStr for Pacing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || {
            format!(
                "`{text}` is no pace: window:256, rate:20000, ramp:1000-50000/30s, burst or search"
            )
        };
        let ramp = |value: &str| {
            let (rates, time) = value.split_once('/')?;
            let (from, to) = rates.split_once('-')?;
            let seconds = number(time.strip_suffix('s')?)?;
            Some(Self::Ramp { from: number(from)?, to: number(to)?, seconds })
        };
        let pacing = match text.split_once(':') {
            None if text == "burst" => Some(Self::Burst),
            None if text == "search" => Some(Self::Search),
            Some(("window", value)) => {
                count(value).and_then(|size| usize::try_from(size).ok()).map(Self::Window)
            }
            Some(("rate", value)) => number(value).map(Self::Rate),
            Some(("ramp", value)) => ramp(value),
            _ => None,
        };
        pacing.ok_or_else(bad)
    }
}

impl fmt::Display for Pacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window(size) => write!(f, "window:{size}"),
            Self::Rate(rate) => write!(f, "rate:{rate}"),
            Self::Ramp { from, to, seconds } => write!(f, "ramp:{from}-{to}/{seconds}s"),
            Self::Burst => f.write_str("burst"),
            Self::Search => f.write_str("search"),
        }
    }
}

/// What the clients of a phase do, as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Clients without a lease obtain one.
    New,
    /// Clients extend their leases through their server.
    Renew,
    /// Clients extend their leases through any server.
    Rebind,
    /// Clients restart and ask for the lease they had.
    Reboot,
    /// Clients give up their leases.
    Release,
    /// Clients do what the weights of the mix say.
    Mixed,
    /// All clients restart at once.
    RebootStorm,
    /// All clients give up their leases at once.
    ReleaseStorm,
    /// All clients without a lease start at once and back off as RFC 2131 §4.1 says.
    Avalanche,
}

impl Scene {
    /// All of them, with their names.
    const NAMES: [(&'static str, Scene); 9] = [
        ("new", Scene::New),
        ("renew", Scene::Renew),
        ("rebind", Scene::Rebind),
        ("reboot", Scene::Reboot),
        ("release", Scene::Release),
        ("mixed", Scene::Mixed),
        ("reboot-storm", Scene::RebootStorm),
        ("release-storm", Scene::ReleaseStorm),
        ("avalanche", Scene::Avalanche),
    ];

    /// Whether all clients start at once unless a pace is given.
    pub const fn is_storm(self) -> bool {
        matches!(self, Self::RebootStorm | Self::ReleaseStorm | Self::Avalanche)
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES.iter().find(|(_, scene)| scene == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl FromStr for Scene {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "dora" {
            return Ok(Self::New);
        }
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|&(_, scene)| scene).ok_or_else(|| {
            let all: Vec<_> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            format!("`{text}` is no phase: {}", all.join(", "))
        })
    }
}

/// How long a phase lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Until each client that can has done it once.
    EachOnce,
    /// This many exchanges.
    Exchanges(u64),
    /// This many seconds; what is under way then is still finished.
    Seconds(f64),
}

/// A phase of a run, as in `renew`, `mixed=500k`, `renew=30s@rate:20k`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseSpec {
    /// What the clients do.
    pub scene: Scene,
    /// How long.
    pub amount: Amount,
    /// When exchanges start; none for the pace of the whole run, or the storm's.
    pub pacing: Option<Pacing>,
}

impl FromStr for PhaseSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, pacing) = match text.split_once('@') {
            None => (text, None),
            Some((rest, pacing)) => (rest, Some(pacing.parse()?)),
        };
        let (name, amount) = match rest.split_once('=') {
            None => (rest, Amount::EachOnce),
            Some((name, amount)) => {
                let read = match amount.strip_suffix('s') {
                    Some(seconds) => number(seconds).map(Amount::Seconds),
                    None => count(amount).map(Amount::Exchanges),
                };
                let bad = || {
                    format!(
                        "`{amount}` is neither a number of exchanges nor a time, as in \
                         renew=100000 or renew=30s"
                    )
                };
                (name, read.ok_or_else(bad)?)
            }
        };
        Ok(Self { scene: name.parse()?, amount, pacing })
    }
}

impl fmt::Display for PhaseSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scene.fmt(f)?;
        match self.amount {
            Amount::EachOnce => {}
            Amount::Exchanges(number) => write!(f, "={number}")?,
            Amount::Seconds(seconds) => write!(f, "={seconds}s")?,
        }
        match &self.pacing {
            None => Ok(()),
            Some(pacing) => write!(f, "@{pacing}"),
        }
    }
}

/// How often clients do what in mixed work, as in `new=50,renew=40,release=10`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// Weight of new leases.
    pub new: u32,
    /// Weight of renewals.
    pub renew: u32,
    /// Weight of rebindings.
    pub rebind: u32,
    /// Weight of restarts.
    pub reboot: u32,
    /// Weight of releases.
    pub release: u32,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |part: &str| {
            format!(
                "`{part}` is no share of a mix: new, renew, rebind, reboot or release, `=`, and a \
                 weight below 1000000, as in new=50,renew=40,release=10"
            )
        };
        let mut mix = Self::default();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or_else(|| bad(part))?;
            let weight = weight.parse().ok().filter(|&weight| weight < 1_000_000);
            let weight: u32 = weight.ok_or_else(|| bad(part))?;
            match name.trim() {
                "new" => mix.new = weight,
                "renew" => mix.renew = weight,
                "rebind" => mix.rebind = weight,
                "reboot" => mix.reboot = weight,
                "release" => mix.release = weight,
                _ => return Err(bad(part)),
            }
        }
        if mix == Self::default() {
            return Err(format!("`{text}`: at least one weight must be above 0"));
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { new, renew, rebind, reboot, release } = self;
        write!(f, "new={new},renew={renew},rebind={rebind},reboot={reboot},release={release}")
    }
}

/// Ports from the first to the last, as in `0-1023`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.parse().ok()?, last: last.parse().ok()? })
        });
        range
            .filter(|range| range.first <= range.last)
            .ok_or_else(|| format!("`{text}` is not a range of ports, as in 0-1023"))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// An Ethernet address, as in `02:00:00:00:ff:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("`{text}` is no Ethernet address, as in 02:00:00:00:ff:01");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = self.0.map(|octet| format!("{octet:02x}"));
        f.write_str(&octets.join(":"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same<T: FromStr<Err = String> + fmt::Display>(text: &str) {
        assert_eq!(text.parse::<T>().map(|value| value.to_string()), Ok(text.to_owned()));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["window:64", "rate:20000", "ramp:1000-50000/30s", "burst", "search"] {
            same::<Pacing>(text);
        }
        for text in ["new", "renew=100", "mixed=2.5s", "reboot-storm", "renew=3s@rate:2000"] {
            same::<PhaseSpec>(text);
        }
        same::<Mix>("new=50,renew=40,rebind=0,reboot=0,release=10");
        same::<PortRange>("0-1023");
        same::<Mac>("02:00:00:00:ff:01");
        assert_eq!("rate:1.5M".parse(), Ok(Pacing::Rate(1_500_000.0)));
        assert_eq!("dora=10k".parse::<PhaseSpec>().unwrap().amount, Amount::Exchanges(10_000));
        assert_eq!(clients("10M"), Ok(10_000_000));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_what_was_expected() {
        for text in ["rate:0", "rate:nan", "window:1.5", "window", "ramp:1-2", "fast"] {
            let error = text.parse::<Pacing>().unwrap_err();
            assert!(error.contains(text) && error.contains("rate:20000"), "{error}");
        }
        let error = "steal".parse::<PhaseSpec>().unwrap_err();
        assert!(error.contains("steal") && error.contains("avalanche"), "{error}");
        assert!("new=many".parse::<PhaseSpec>().unwrap_err().contains("`many`"));
        assert!("new=5@slow".parse::<PhaseSpec>().unwrap_err().contains("`slow`"));
        assert!("new=50,steal=10".parse::<Mix>().unwrap_err().contains("`steal=10`"));
        assert!("new=0".parse::<Mix>().unwrap_err().contains("above 0"));
        assert!("9-1".parse::<PortRange>().is_err() && "5".parse::<PortRange>().is_err());
        assert!("02:00:00:00:ff".parse::<Mac>().is_err() && "2:0:0:0:0:0".parse::<Mac>().is_err());
        assert!(clients("5G").unwrap_err().contains("10M"));
    }
}
