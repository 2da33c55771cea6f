//! What criterion measures: the engine and the allocation alone.

use super::{Draft, Limit, Line, Outcome, Unit, beside};
use crate::rig::{
    benches::CRITERION,
    statistics::{Of, Spread, Turns},
};

/// Nanoseconds of a message for the engine alone.
pub(super) fn engine(turns: &Turns) -> Vec<Line> {
    fn bench(name: &str) -> Of<'_> {
        Of("engine", CRITERION, name)
    }
    // Bounds of a single run are shown, too.
    let ns = |name: &str| {
        let spread = turns.nanoseconds(bench(name))?;
        Some(Spread { count: spread.count.max(2), ..spread })
    };
    let draft = |number, what, limit, aim, unit| Draft {
        number,
        what,
        scenario: "engine",
        limit,
        aim,
        unit,
    };
    let most = |limit| Limit::AtMost(limit);
    let growth = |kind: &str| {
        let few = format!("engine/leases/{kind}/1000");
        let many = format!("engine/leases/{kind}/10000000");
        turns.ratio(bench(&many), bench(&few), "ns")
    };
    vec![
        draft(
            "P3",
            "engine alone, a message of DORA, direct, 1 M leases",
            most(300.0),
            Some(most(200.0)),
            Unit::Nanoseconds,
        )
        .judge(ns("engine/direct/DORA")),
        draft(
            "P3",
            "engine alone, a renewal, direct, 1 M leases",
            most(300.0),
            Some(most(150.0)),
            Unit::Nanoseconds,
        )
        .judge(ns("engine/direct/RENEW")),
        draft("P9", "a message of DORA with 10 M leases against 1 k", most(3.0), None, Unit::Times)
            .judge(growth("DORA")),
        draft("P9", "a renewal with 10 M leases against 1 k", most(3.0), None, Unit::Times)
            .judge(growth("RENEW")),
    ]
}

/// The engine on two cores against one.
pub(super) fn threads(turns: &Turns) -> Vec<Line> {
    let line = |what, kind: &str| {
        // Nanoseconds of a message of each thread.
        let of = |bench: &str| -> Option<Spread> {
            let (one, two) =
                (format!("engine/threads/{kind}/1"), format!("engine/threads/{bench}/2"));
            let of = |name| (Of("threads", CRITERION, name), "ns");
            turns.paired(of(&one), of(&two), |one, two| 2.0 * one / two)
        };
        let draft = Draft {
            number: "P5",
            what,
            scenario: "threads",
            limit: Limit::AtLeast(1.9),
            aim: None,
            unit: Unit::Times,
        };
        let mut line = draft.judge(of(kind));
        let apart = of(&format!("{kind} apart")).map(|spread| Unit::Times.spread(spread));
        line.ceiling = beside("two engines that share nothing", apart);
        line
    };
    vec![
        line("two cores against one, engine alone, DORA", "DORA"),
        line("two cores against one, engine alone, renewals", "RENEW"),
    ]
}

/// Port sets: ours against bare atomics, and full pools against empty ones.
pub(super) fn allocation(turns: &Turns) -> Vec<Line> {
    // Within one repetition.
    let ratio = |one: &str, other: &str| {
        let of = |name| Of("engine", CRITERION, name);
        turns.ratio(of(one), of(other), "ns").map(|spread| spread.median)
    };
    let (mut to_bare, mut to_empty, mut missing) = (Vec::new(), Vec::new(), 0);
    for slots in ["64k", "1M", "16M"] {
        let bare = format!("allocation/{slots}/pair/bare");
        let empty = format!("allocation/{slots}/pair/0");
        for fill in ["0", "50", "90", "99", "99.9", "99.99"] {
            let pair = format!("allocation/{slots}/pair/{fill}");
            let (bare, empty) = (ratio(&pair, &bare), ratio(&pair, &empty));
            missing += i32::from(bare.is_none() && empty.is_none());
            to_bare.extend(bare);
            to_empty.extend(empty);
        }
    }
    // The worst of them is what counts.
    let worst = |ratios: Vec<f64>| {
        Spread::of(ratios).map(|spread| Spread { median: spread.greatest, ..spread })
    };
    let draft = |what, limit| Draft {
        number: "P4",
        what,
        scenario: "engine",
        limit: Limit::AtMost(limit),
        aim: None,
        unit: Unit::Times,
    };
    let mut lines = vec![
        draft("allocate and release a port set against a bare pair of atomics: the worst pool and fill", 2.0)
            .judge(worst(to_bare)),
        draft("the same, up to 99.99 % full against empty: the worst", 1.5).judge(worst(to_empty)),
    ];
    for line in lines.iter_mut().filter(|line| line.outcome != Outcome::NotMeasured) {
        let said = format!("{missing} of 18 pools and fills were not measured");
        line.reservation = (missing > 0).then_some(said);
    }
    lines
}
