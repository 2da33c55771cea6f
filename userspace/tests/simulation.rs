//! Promises survive: random histories of the real engine, lease and journal code, each on one thread and from one
//! seed, with clients that lose patience, a network that loses, repeats and reorders, a disk that fails at any write,
//! restarts with other pools, and clocks that are wrong. After every step the [`Oracle`](simulation::oracle) looks
//! whether what clients were told is still true.
//!
//! `SIMULATION_SEED=17 cargo test --test simulation every_promise` tells the history of seed 17, and
//! `SIMULATION_HISTORIES=1000000` asks for more of them than usual.

mod common;

mod simulation {
    pub mod client;
    pub mod oracle;
    pub mod plan;
    pub mod process;
    mod serving;
    pub mod world;
}

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use portlease::lease::rules::{Rule, without};
use simulation::{
    oracle::{Invariant, Violation},
    world::World,
};

/// Histories that hold if nobody asks for another number.
const HISTORIES: u64 = 20_000;

/// A rule that is switched off is missed within so many histories.
const HISTORIES_WITHOUT: u64 = 5000;

/// Steps of a trace that are shown.
const STEPS_SHOWN: usize = 80;

/// A history that went wrong.
#[derive(Debug)]
struct Failure {
    seed: u64,
    violation: Violation,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

thread_local! {
    /// What a panic in a history says; `None` outside of histories.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics in histories are kept to be told later, not printed.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let kept =
                PANIC.with_borrow_mut(|text| text.as_mut().map(|text| *text = info.to_string()));
            if kept.is_none() {
                print(info);
            }
        }));
    });
}

/// Lives through a history. A panic of the product is a server that has found itself in contradiction.
fn live(seed: u64, trace: Option<&mut Vec<String>>) -> Result<(), Violation> {
    keep_panics();
    PANIC.set(Some(String::new()));
    let lived = panic::catch_unwind(AssertUnwindSafe(|| World::live(seed, trace)));
    let said = PANIC.take().unwrap_or_default();
    lived.unwrap_or_else(|_| Invariant::BitsAreTrue.broken(said))
}

/// A history below `histories` that goes wrong, in the way that is `wanted`, if one is, while nobody keeps `rule`; and
/// how many were begun.
fn search(histories: u64, rule: Option<Rule>, wanted: Option<Invariant>) -> (Option<Failure>, u64) {
    let (next, found) = (AtomicU64::new(0), Mutex::new(None));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        while found.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= histories {
                break;
            }
            if let Err(violation) = without(rule, || live(seed, None))
                && wanted.is_none_or(|wanted| wanted == violation.invariant)
            {
                found.lock().unwrap().get_or_insert(Failure { seed, violation });
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    (found.into_inner().unwrap(), next.into_inner().min(histories))
}

/// What happened in the history of `seed`, as far as it went, and what went wrong.
fn story(seed: u64) -> (Vec<String>, Result<(), Violation>) {
    let mut trace = Vec::new();
    let outcome = live(seed, Some(&mut trace));
    (trace, outcome)
}

#[test]
fn every_promise_is_kept() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let (trace, outcome) = story(seed);
        eprintln!("{}", trace.join("\n"));
        if let Err(violation) = outcome {
            panic!("seed {seed}: {violation}");
        }
        return;
    }
    let histories = number("SIMULATION_HISTORIES").unwrap_or(HISTORIES);
    if let (Some(Failure { seed, violation }), _) = search(histories, None, None) {
        let (trace, _) = story(seed);
        let shown = trace.len().saturating_sub(STEPS_SHOWN);
        let last = trace[shown..].join("\n");
        panic!("{last}\n{violation}\nSIMULATION_SEED={seed} tells it all");
    }
}

/// What clients notice when a rule is not kept.
fn missed_as(rule: Rule) -> Invariant {
    match rule {
        Rule::GreaterStampWins
        | Rule::NewerLeaseWins
        | Rule::StampsRise
        | Rule::ExpiriesRise
        | Rule::TailWaitsForCopies
        | Rule::GreatestStampIsCopied => Invariant::LeaseSurvives,
        Rule::AcksWait | Rule::RepetitionsWait => Invariant::DurableFirst,
        Rule::ClockCatchesUp | Rule::RecordsOutlastAcks | Rule::StaleAcksDrop => {
            Invariant::RecordCoversAck
        }
        Rule::FormerTuplesRest | Rule::RestsOutliveRestarts => Invariant::FormerRests,
        Rule::DeclinedTuplesRest => Invariant::DeclinedRests,
        Rule::OffersHold => Invariant::OfferHolds,
        Rule::OutsideLeasesHold => Invariant::OneHolder,
        Rule::SitesAreLimited | Rule::SitesOutliveRestarts => Invariant::SiteIsLimited,
        Rule::ReservationsHold => Invariant::ReservedIsKept,
        Rule::SoftwiresAreUnique | Rule::SoftwiresOutliveRestarts => Invariant::SoftwireIsUnique,
    }
}

#[test]
fn every_rule_is_missed() {
    for rule in Rule::ALL {
        let wanted = missed_as(rule);
        let (failure, begun) = search(HISTORIES_WITHOUT, Some(rule), Some(wanted));
        let Some(Failure { seed, violation }) = failure else {
            panic!("without {rule:?} nobody missed {wanted:?} in {begun} histories");
        };
        eprintln!("without {rule:?}, after {begun} histories, in seed {seed}: {violation}");
    }
}

#[test]
fn a_seed_is_one_history() {
    let mut told = 0;
    for seed in 0..20 {
        let (first, second) = (story(seed), story(seed));
        assert_eq!(first.0, second.0, "seed {seed} tells two histories");
        told += first.0.len();
    }
    assert!(told > 0, "nothing happens");
}
