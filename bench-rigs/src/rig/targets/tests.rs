//! Verdicts on figures that were made up.

use super::*;
use crate::rig::{benches::CRITERION, statistics::Turn};
use Outcome::{AimReached, DoesNotCount, FallsShort, Met, NotMeasured};

fn turn(server: &str, measure: &str, figures: &[(&str, f64)]) -> Turn {
    let scenario = match server {
        CRITERION if measure.starts_with("engine/threads") => "threads",
        CRITERION => "engine",
        _ => "dora",
    };
    Turn {
        scenario: scenario.to_owned(),
        server: server.to_owned(),
        measure: measure.to_owned(),
        repetition: 1,
        figures: figures.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn outcome_of(turns: &Turns, number: &str) -> Vec<Outcome> {
    judge(turns).into_iter().filter(|line| line.number == number).map(|line| line.outcome).collect()
}

#[test]
fn nothing_measured_is_nothing_judged() {
    let lines = judge(&Turns::default());
    assert!(lines.iter().all(|line| line.outcome == Outcome::NotMeasured));
    for number in 1..=10 {
        assert!(lines.iter().any(|line| line.number == format!("P{number}")), "P{number}");
    }
    assert_eq!(lines.first().unwrap().number, "P1");
    assert_eq!(lines.last().unwrap().number, "P10");
}

#[test]
fn rates_are_judged_against_null_echo_and_kea() {
    let turns = |ours| {
        Turns(vec![
            turn(OURS, "new", &[("rate", ours), ("cpu_us", 5.6), ("user_us", 1.6)]),
            turn(NULL, "new", &[("rate", 200.0)]),
            turn(ECHO, "packets", &[("rate", 600.0)]),
            turn(KEA, "new", &[("rate", 17.0)]),
        ])
    };
    assert_eq!(outcome_of(&turns(185.0), "P1"), [AimReached, Met, AimReached]);
    assert_eq!(outcome_of(&turns(160.0), "P1"), [Met, Met, Met]);
    assert_eq!(outcome_of(&turns(100.0), "P1"), [FallsShort, Met, FallsShort]);
    assert_eq!(outcome_of(&turns(100.0), "P2"), [Met, FallsShort]);
}

#[test]
fn a_rate_that_is_not_the_servers_own_is_told() {
    let of = Of("dora", OURS, "new");
    let figures =
        |busy, margin| [("rate", 1.0), ("busy_share", busy), ("generator_margin", margin)];
    let good = Turns(vec![turn(OURS, "new", &figures(0.97, 1.4))]);
    assert_eq!(reservation(&good, of), None);
    let idle = Turns(vec![turn(OURS, "new", &figures(0.9, 1.4))]);
    assert!(reservation(&idle, of).unwrap().contains("median 90 %"));
    let both = Turns([good.0.clone(), idle.0].concat());
    assert!(reservation(&both, of).unwrap().starts_with("1 of 2 turns count: "));
    let limited = Turns(vec![turn(OURS, "new", &figures(0.99, 1.1))]);
    assert!(reservation(&limited, of).unwrap().contains("1 of 1 turns (median 1.10 ×)"));
}

#[test]
fn rates_that_do_not_count_are_not_judged() {
    let turns = |null_margin: f64, repetition| {
        let figures = |rate, margin| {
            [("rate", rate), ("busy_share", 0.99), ("generator_margin", margin), ("ran_out", 0.0)]
        };
        let ours = turn(OURS, "new", &figures(160.0, 1.6));
        let null = turn(NULL, "new", &figures(200.0, null_margin));
        [ours, null].map(|turn| Turn { repetition, ..turn })
    };
    let first = |turns: Turns| judge(&turns).remove(0);
    let line = first(Turns(turns(1.1, 1).into()));
    assert_eq!(line.outcome, DoesNotCount);
    assert!(line.reservation.unwrap().contains("the null server's: does not count"));
    // One of two pairs counts, and it alone is judged.
    let mut both = Turns([turns(1.5, 1), turns(1.1, 2)].concat());
    both.0[2].figures.insert("rate".to_owned(), 10.0);
    let line = first(both.clone());
    assert_eq!((line.outcome, line.measured.as_str()), (Met, "80 %"));
    both.0[1].figures.insert("ran_out".to_owned(), 1.0);
    let line = first(both);
    assert_eq!(line.outcome, DoesNotCount);
    assert!(line.reservation.unwrap().contains("the clients ran out in 1 of 2 turns"));
}

#[test]
fn an_echo_that_is_slower_than_the_null_server_is_told() {
    let turns = |echo| {
        Turns(vec![turn(NULL, "new", &[("rate", 200.0)]), turn(ECHO, "packets", &[("rate", echo)])])
    };
    assert_eq!(judge(&turns(500.0))[1].reservation, None);
    assert!(judge(&turns(300.0))[1].reservation.as_ref().unwrap().contains("no ceiling"));
}

#[test]
fn a_latency_of_another_load_is_told() {
    let turns = |offered: f64, unanswered: f64, null: f64| {
        let ours = [
            ("offered", offered),
            ("peak", 200.0),
            ("completed", 1000.0),
            ("unanswered", unanswered),
            ("p99_us", 900.0),
            ("sync_p99_us", 100.0),
        ];
        let turns = vec![turn(OURS, "half", &ours), turn(NULL, "half", &[("p99_us", null)])];
        let all = turns.into_iter().map(|turn| Turn { scenario: "latency".to_owned(), ..turn });
        latency_reservation(&Turns(all.collect()), "p99_us", "sync_p99_us", 1000.0)
    };
    assert_eq!(turns(100.0, 0.0, 500.0), None);
    assert!(turns(80.0, 0.0, 500.0).unwrap().contains("only 40 % of the peak"));
    assert!(turns(100.0, 2.0, 500.0).unwrap().contains("2 exchanges found no answer"));
    assert!(turns(100.0, 0.0, 1200.0).unwrap().contains("null server"));
}

#[test]
fn an_overload_that_was_none_is_told() {
    let of = Of("dora", OURS, "double");
    let turns = |offered, busy| {
        Turns(vec![turn(OURS, "double", &[("offered_share", offered), ("generator_busy", busy)])])
    };
    assert_eq!(overload_reservation(&turns(2.0, 1.0), of), None);
    assert!(overload_reservation(&turns(1.7, 0.8), of).unwrap().contains("170 %"));
}

#[test]
fn benches_are_judged_by_their_names() {
    let bench =
        |name: &str, ns| turn(CRITERION, name, &[("ns", ns), ("ns_low", ns), ("ns_high", ns)]);
    let turns = Turns(vec![
        bench("engine/direct/DORA", 250.0),
        bench("engine/threads/DORA/1", 300.0),
        bench("engine/threads/DORA/2", 310.0),
        bench("engine/threads/DORA apart/2", 400.0),
        bench("engine/leases/DORA/1000", 100.0),
        bench("engine/leases/DORA/10000000", 400.0),
        bench("allocation/64k/pair/bare", 10.0),
        bench("allocation/64k/pair/0", 15.0),
        bench("allocation/64k/pair/99.99", 24.0),
    ]);
    assert_eq!(outcome_of(&turns, "P3"), [Met, NotMeasured]);
    assert_eq!(outcome_of(&turns, "P5"), [Met, NotMeasured]);
    let apart = judge(&turns).into_iter().find(|line| line.number == "P5").unwrap().ceiling;
    assert!(apart.contains("share nothing 1.50"), "{apart}");
    assert_eq!(outcome_of(&turns, "P9"), [FallsShort, NotMeasured]);
    assert_eq!(outcome_of(&turns, "P4"), [FallsShort, FallsShort]);
}

#[test]
fn figures_are_written_for_people() {
    assert_eq!(thousands(1_234_567.4), "1,234,567");
    assert_eq!(thousands(-999.0), "-999");
    let spread = Spread::of(vec![0.5, 0.75, 0.25]).unwrap();
    assert_eq!(Unit::Percent.spread(spread), "50 % (25 – 75)");
    assert_eq!(Unit::Milliseconds.show(1500.0), "1.50 ms");
    assert_eq!(Limit::AtMost(2.0).words(Unit::Times), "≤ 2.00 ×");
}
