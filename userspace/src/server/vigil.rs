//! What the control thread looks at once a second: that everything moves, and which counters deserve a word.

use std::fmt;

use hashbrown::HashMap;

use crate::lease::stamp::Now;

use super::metrics::Snapshot;

/// A worker turns at least every 100 ms, a journal with work commits in milliseconds.
const STUCK_MILLISECONDS: u64 = 3000;

/// The same thing is said again after this time at the earliest.
const REPEAT_MILLISECONDS: u64 = 60_000;

/// The sweep may be this far behind, in thousandths of the table.
const SWEEP_LAG_PERMILLE: u64 = 1000;

/// Counters that an operator wants to hear about when they rise, and what they mean.
const REMARKABLE: &[(&str, &str)] = &[
    ("pool-exhausted", "all tuples that may serve these clients are leased or held down"),
    (
        "tuples-declined",
        "clients say that what they were given is in use elsewhere; it rests for lease.decline-hold",
    ),
    ("claimed-anothers-lease", "clients want to extend leases of others: mistaken, or pretending"),
    ("release-mismatch", "clients release what they do not hold: mistaken, or pretending"),
    ("decline-mismatch", "clients decline what they were not given: mistaken, or pretending"),
    ("relay-info-omitted", "replies had no room for option 82, which their relays may insist on"),
    ("offers-exhausted", "more offers are outstanding than lease.offers-max allows"),
    ("table-full", "store.capacity is too small for the clients that were seen lately"),
    // req-S5 (RFC 7341 §11): the administrator hears of it; the packet's way pays nothing for that.
    ("no-dhcpv4-msg", "DHCPv4-queries came without a DHCPv4 message: a client or relay is broken"),
    (
        "strange-peer-address",
        "a relay says that messages came to it from no possible address: its answers are lost there",
    ),
    (
        "source-changed",
        "clients reboot with their leases at another IPv6 source; policy.bind-source tells what to do",
    ),
    ("replies-stale", "the journal took longer than 3 s: compare journal-sync and journal-wake"),
    ("lane-full", "a lane overflowed, which its worker's bursts should exclude"),
    ("no-source-address", "an interface has no address from which such clients can be answered"),
    ("reply-over-mtu", "replies were longer than the interface carries"),
    ("rx-ring-full", "a worker does not keep up with its queue"),
    (
        "discovers-shed",
        "more comes than can be answered: exchanges that have begun go first, and new clients ask again",
    ),
    (
        "frame-bad-checksum",
        "wrong UDP checksums; a local sender behind veth needs `ethtool -K SENDER tx off`",
    ),
];

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A worker's loop stands still.
    WorkerStuck {
        /// Its name.
        worker: String,
        /// For how long.
        seconds: u64,
    },
    /// Records wait, and none becomes durable.
    JournalStuck {
        /// For how long.
        seconds: u64,
        /// How many wait.
        records: u64,
    },
    /// Expired leases are swept too slowly.
    SweepLags {
        /// How far behind, in thousandths of the table.
        permille: u64,
    },
    /// A remarkable counter has risen.
    Counted {
        /// Its name.
        name: &'static str,
        /// By how much, since it was last spoken of.
        times: u64,
        /// What it means.
        meaning: &'static str,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::WorkerStuck { worker, seconds } => {
                write!(f, "worker {worker} has not moved for {seconds} s")
            }
            Remark::JournalStuck { seconds, records } => {
                write!(f, "{records} records wait, and the journal has not moved for {seconds} s")
            }
            Remark::SweepLags { permille } => {
                write!(f, "the sweep of expired leases is behind by {permille}/1000 of the table")
            }
            Remark::Counted { name, times, meaning } => {
                write!(f, "{name}: {times} more; {meaning}")
            }
        }
    }
}

/// What is seen at one moment.
#[derive(Debug)]
pub struct Sight<'a> {
    /// Names of the workers that should run, and how often each has turned.
    pub workers: &'a [(String, u64)],
    /// Records that wait for the journal.
    pub waiting: u64,
    /// Records that are durable.
    pub durable: u64,
    /// See [`Pace::lag_permille`](super::sweep::Pace::lag_permille).
    pub sweep_lag_permille: u64,
    /// All counters.
    pub counters: &'a Snapshot,
}

/// Something that should change, and since when it has not.
#[derive(Clone, Copy, Debug)]
struct Movement {
    value: u64,
    since: Now,
}

/// Remembers what was seen and what was said.
#[derive(Debug, Default)]
pub struct Vigil {
    movements: HashMap<String, Movement>,
    counted: HashMap<&'static str, u64>,
    said: HashMap<String, Now>,
}

impl Vigil {
    /// What is worth saying about `sight`, and was not said just now.
    pub fn look(&mut self, now: Now, sight: &Sight<'_>) -> Vec<Remark> {
        let mut remarks = Vec::new();
        for (worker, turns) in sight.workers {
            let seconds = self.stands_still(worker, *turns, now);
            if let Some(seconds) = seconds.filter(|_| self.may_say(worker, now)) {
                remarks.push(Remark::WorkerStuck { worker: worker.clone(), seconds });
            }
        }
        // A journal without work stands still by right: count that as movement.
        let moved = if sight.waiting == 0 { now.0 } else { sight.durable };
        let seconds = self.stands_still("journal", moved, now);
        if let Some(seconds) = seconds.filter(|_| self.may_say("journal", now)) {
            remarks.push(Remark::JournalStuck { seconds, records: sight.waiting });
        }
        let permille = sight.sweep_lag_permille;
        if permille > SWEEP_LAG_PERMILLE && self.may_say("sweep", now) {
            remarks.push(Remark::SweepLags { permille });
        }
        for &(name, meaning) in REMARKABLE {
            let value = sight.counters.get(name);
            let before = self.counted.get(name).copied().unwrap_or(0);
            if value > before && self.may_say(name, now) {
                self.counted.insert(name, value);
                remarks.push(Remark::Counted { name, times: value - before, meaning });
            }
        }
        remarks
    }

    /// For how many seconds `value` has been the same, once that is too long.
    fn stands_still(&mut self, name: &str, value: u64, now: Now) -> Option<u64> {
        let movement = self.movements.entry_ref(name).or_insert(Movement { value, since: now });
        if movement.value != value {
            *movement = Movement { value, since: now };
        }
        let passed = now.0.saturating_sub(movement.since.0);
        (passed >= STUCK_MILLISECONDS).then_some(passed / 1000)
    }

    fn may_say(&mut self, what: &str, now: Now) -> bool {
        let just_said = |said: &Now| now.0.saturating_sub(said.0) < REPEAT_MILLISECONDS;
        if self.said.get(what).is_some_and(just_said) {
            return false;
        }
        self.said.insert(what.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{self, reason::Reason},
        net::counters::Event,
        server::metrics::Tally,
        wire::frame::FrameFault,
    };

    fn sight<'a>(workers: &'a [(String, u64)], counters: &'a Snapshot) -> Sight<'a> {
        Sight { workers, waiting: 0, durable: 0, sweep_lag_permille: 0, counters }
    }

    #[test]
    fn a_worker_that_stands_still_is_named_once_a_minute() {
        let mut vigil = Vigil::default();
        let counters = Snapshot::default();
        let workers = |turns| [("a".to_owned(), turns), ("b".to_owned(), 7)];
        assert_eq!(vigil.look(Now(0), &sight(&workers(1), &counters)), []);
        assert_eq!(vigil.look(Now(2000), &sight(&workers(2), &counters)), []);
        let remarks = vigil.look(Now(4000), &sight(&workers(3), &counters));
        assert_eq!(remarks, [Remark::WorkerStuck { worker: "b".to_owned(), seconds: 4 }]);
        assert_eq!(vigil.look(Now(5000), &sight(&workers(4), &counters)), []);
        assert_eq!(vigil.look(Now(64_000), &sight(&workers(5), &counters)).len(), 1);
    }

    #[test]
    fn a_journal_may_rest_but_not_with_records_waiting() {
        let mut vigil = Vigil::default();
        let counters = Snapshot::default();
        let idle = sight(&[], &counters);
        for second in 0..10 {
            assert_eq!(vigil.look(Now(second * 1000), &idle), []);
        }
        let stuck = Sight { waiting: 5, durable: 100, ..sight(&[], &counters) };
        assert_eq!(vigil.look(Now(10_000), &stuck), []);
        let remarks = vigil.look(Now(13_000), &stuck);
        assert_eq!(remarks, [Remark::JournalStuck { seconds: 3, records: 5 }]);
    }

    #[test]
    fn counters_are_spoken_of_when_they_have_risen_and_with_what_was_not_said() {
        let mut vigil = Vigil::default();
        let mut counters = Snapshot::default();
        counters.add("pool-exhausted", 3);
        let times = |remarks: Vec<Remark>| match remarks[..] {
            [Remark::Counted { name: "pool-exhausted", times, .. }] => Some(times),
            _ => None,
        };
        assert_eq!(times(vigil.look(Now(0), &sight(&[], &counters))), Some(3));
        counters.add("pool-exhausted", 2);
        assert_eq!(times(vigil.look(Now(1000), &sight(&[], &counters))), None);
        assert_eq!(times(vigil.look(Now(60_000), &sight(&[], &counters))), Some(2));
        assert_eq!(times(vigil.look(Now(200_000), &sight(&[], &counters))), None);
    }

    #[test]
    fn what_is_remarkable_is_counted_under_that_name() {
        let tallies = Tally::ALL.iter().map(|tally| tally.name());
        let events = Event::ALL.iter().map(|event| event.name());
        let remarks = engine::remark::Remark::ALL.iter().map(|remark| remark.name());
        let faults = FrameFault::ALL.iter().map(|fault| fault.name());
        let counted: Vec<_> = tallies.chain(events).chain(remarks).chain(faults).collect();
        let reasons: Vec<_> = Reason::all().map(Reason::name).collect();
        for (name, _) in REMARKABLE {
            assert!(counted.contains(name) || reasons.contains(name), "nothing counts {name}");
        }
    }

    #[test]
    fn a_late_sweep_is_noticed() {
        let counters = Snapshot::default();
        let late = Sight { sweep_lag_permille: 1500, ..sight(&[], &counters) };
        let remarks = Vigil::default().look(Now(0), &late);
        assert_eq!(remarks, [Remark::SweepLags { permille: 1500 }]);
    }
}
