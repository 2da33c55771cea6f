//! A line of the table of targets: what it says, and how it ended.

use crate::rig::statistics::Spread;

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Also what was aimed at beyond the limit.
    AimReached,
    /// Within the limit.
    Met,
    /// Outside.
    FallsShort,
    /// Measured, but not of the server: the generator was the limit, or the clients ran out.
    DoesNotCount,
    /// Not in this run.
    NotMeasured,
}

impl Outcome {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::AimReached => "met, aim reached",
            Outcome::Met => "met",
            Outcome::FallsShort => "**falls short**",
            Outcome::DoesNotCount => "does not count",
            Outcome::NotMeasured => "not measured",
        }
    }
}

/// On which side of its limit a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Limit::AtLeast(limit) => value >= limit,
            Limit::AtMost(limit) => value <= limit,
        }
    }

    pub(super) fn words(self, unit: Unit) -> String {
        match self {
            Limit::AtLeast(limit) => format!("≥ {}", unit.show(limit)),
            Limit::AtMost(limit) => format!("≤ {}", unit.show(limit)),
        }
    }
}

/// How figures of a line are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A factor.
    Times,
    /// A share, shown in percent.
    Percent,
    /// Microseconds.
    Microseconds,
    /// Microseconds, shown in milliseconds.
    Milliseconds,
    /// Nanoseconds.
    Nanoseconds,
    /// Seconds.
    Seconds,
    /// Octets.
    Octets,
    /// Something a second.
    PerSecond,
}

impl Unit {
    /// A figure with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Times => format!("{value:.2} ×"),
            Unit::Percent => format!("{:.0} %", 100.0 * value),
            Unit::Microseconds => format!("{value:.2} µs"),
            Unit::Milliseconds => format!("{:.2} ms", value / 1e3),
            Unit::Nanoseconds => format!("{value:.0} ns"),
            Unit::Seconds => format!("{value:.2} s"),
            Unit::Octets => format!("{value:.0}"),
            Unit::PerSecond => thousands(value),
        }
    }

    /// Median and, in brackets, least and greatest.
    pub fn spread(self, spread: Spread) -> String {
        let Spread { median, least, greatest, count } = spread;
        if count < 2 {
            return self.show(median);
        }
        format!("{} ({} – {})", self.show(median), self.bare(least), self.bare(greatest))
    }

    /// A figure without its unit.
    fn bare(self, value: f64) -> String {
        let shown = self.show(value);
        shown.split(' ').next().unwrap_or_default().to_owned()
    }
}

/// A whole number with its thousands set apart.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits.as_str()),
    };
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

/// A line of the table of targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its number.
    pub number: &'static str,
    /// What is measured.
    pub what: String,
    /// The limit and the aim, in words.
    pub target: String,
    /// What was measured.
    pub measured: String,
    /// What another server shows in the same run.
    pub peer: String,
    /// What nothing on this machine can exceed.
    pub ceiling: String,
    /// The scenario that measures it.
    pub scenario: &'static str,
    /// The end of it.
    pub outcome: Outcome,
    /// Why it may not count.
    pub reservation: Option<String>,
}

/// A line in the making.
pub(super) struct Draft {
    pub(super) number: &'static str,
    pub(super) what: &'static str,
    pub(super) scenario: &'static str,
    pub(super) limit: Limit,
    pub(super) aim: Option<Limit>,
    pub(super) unit: Unit,
}

impl Draft {
    pub(super) fn judge(self, measured: Option<Spread>) -> Line {
        let outcome = match (measured, self.aim) {
            (None, _) => Outcome::NotMeasured,
            (Some(spread), Some(aim)) if aim.holds(spread.median) => Outcome::AimReached,
            (Some(spread), _) if self.limit.holds(spread.median) => Outcome::Met,
            (Some(_), _) => Outcome::FallsShort,
        };
        let aim = self.aim.map(|aim| format!(", aim {}", aim.words(self.unit)));
        Line {
            number: self.number,
            what: self.what.to_owned(),
            target: format!("{}{}", self.limit.words(self.unit), aim.unwrap_or_default()),
            measured: measured.map_or("–".to_owned(), |spread| self.unit.spread(spread)),
            peer: String::new(),
            ceiling: String::new(),
            scenario: self.scenario,
            outcome,
            reservation: None,
        }
    }
}
