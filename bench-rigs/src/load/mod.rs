//! Very many simulated clients on a few UDP or AF_XDP sockets. They remember every ACK, and every later answer is held
//! against that memory: no tuple twice, no reserved port, nothing acknowledged and then lost.

mod answers;
mod backoff;
mod effort;
mod fleet;
mod latency;
mod ledger;
mod memory;
mod mix;
mod pace;
mod plan;
mod play;
mod plots;
mod progress;
mod report;
mod run;
mod scenario;
mod search;
mod speech;
mod template;
mod text;
mod transport;
mod wrong;

pub use backoff::Backoff;
pub use latency::{AnswerKind, Interval, LatencyReport, Timeline};
pub use ledger::{Ledger, Violation};
pub use pace::{Pace, Pacer};
pub use plan::Plan;
pub use play::play;
pub use plots::write_plots;
pub use report::{BUSY_SHARE_MAX, HEADROOM_MIN, PhaseReport, SCHEMA, Summary};
pub use run::{Control, Load, Options};
pub use scenario::{BackendName, Scenario, Spacing};
pub use search::{Found, SearchOptions, Trial, search};
pub use text::{Amount, Mac, Mix, Pacing, PhaseSpec, PortRange, Scene};
pub use transport::{Attach, Backend, Place, RelayPlace, Transmit, XdpPlace, parse_mac};
pub use wrong::{CAPTURE_OCTETS_MAX, WrongCapture};

use std::{fmt, str::FromStr, time::Duration};

/// What the clients of a phase do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Clients without a lease obtain one: DISCOVER, OFFER, REQUEST, ACK.
    New,
    /// Clients with a lease renew it: REQUEST with the U flag, ACK with the same tuple.
    Renew,
    /// As renew, without the U flag.
    Rebind,
    /// Clients with a lease start again: REQUEST with option 50, ACK with the same tuple.
    Reboot,
    /// Clients with a lease give it up. Nothing answers.
    Release,
    /// Clients drawn at random do what the weights of the mix say.
    Mixed,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::New => "new",
            Work::Renew => "renew",
            Work::Rebind => "rebind",
            Work::Reboot => "reboot",
            Work::Release => "release",
            Work::Mixed => "mixed",
        })
    }
}

/// A phase of a run: a kind of work, and how many exchanges of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What the clients do.
    pub work: Work,
    /// How many exchanges; without a number as many as the time allows, or without that one for each client that can
    /// do it.
    pub exchanges: Option<u64>,
    /// Nothing starts after so long.
    pub lasts: Option<Duration>,
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, exchanges) = match text.split_once('=') {
            None => (text, None),
            Some((name, number)) => {
                let number = number.parse().map_err(|_| {
                    format!("`{number}` is not a number of exchanges, as in `renew=100000`")
                })?;
                (name, Some(number))
            }
        };
        let work = match name {
            "new" => Work::New,
            "renew" => Work::Renew,
            "rebind" => Work::Rebind,
            "reboot" => Work::Reboot,
            "release" => Work::Release,
            "mixed" => Work::Mixed,
            other => {
                return Err(format!(
                    "`{other}` is no phase: new, renew, rebind, reboot, release or mixed"
                ));
            }
        };
        Ok(Self { work, exchanges, lasts: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_read_with_and_without_a_number() {
        let read = |text: &str| text.parse::<Phase>();
        assert_eq!(read("new"), Ok(Phase { work: Work::New, exchanges: None, lasts: None }));
        let exchanges = Some(500);
        assert_eq!(read("mixed=500"), Ok(Phase { work: Work::Mixed, exchanges, lasts: None }));
        assert!(read("steal").unwrap_err().contains("steal"));
        assert!(read("new=many").unwrap_err().contains("many"));
    }
}
