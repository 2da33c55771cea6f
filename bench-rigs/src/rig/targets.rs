//! What the server shall reach, and whether it did: every line with its limit, its peer and its ceiling.

use super::statistics::{Of, Spread, Turn, Turns};

const OURS: &str = "portlease xdp-native";
const NULL: &str = "null xdp-native";
const ECHO: &str = "echo xdp-native";
const KEA: &str = "kea";

/// Share of its core that a server must use for its rate to be its own.
pub const BUSY_SHARE_MIN: f64 = 0.95;

/// Of the peak what must have been offered for an overload to be one of twice the peak.
pub const OFFERED_SHARE_MIN: f64 = 1.9;

/// How many times the rate shown the generator must be able to do.
pub const GENERATOR_MARGIN_MIN: f64 = 1.3;

mod layers;
mod line;

use line::Draft;
pub use line::{Limit, Line, Outcome, Unit, thousands};

/// Why the rate of a turn is not the server's own.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// The server waited.
    idle: bool,
    /// The generator could not do much more.
    limited: bool,
    /// The clients ran out before the time was over.
    short: bool,
}

impl Faults {
    fn of(turn: &Turn) -> Faults {
        let figure = |name: &str| turn.figures.get(name).copied();
        let below = |name: &str, least| figure(name).is_some_and(|figure| figure < least);
        Faults {
            idle: below("busy_share", BUSY_SHARE_MIN),
            limited: below("generator_margin", GENERATOR_MARGIN_MIN),
            short: figure("ran_out").is_some_and(|figure| figure > 0.0),
        }
    }

    fn any(self) -> bool {
        self.idle || self.limited || self.short
    }
}

/// Why turns do not count as a server's own rate, if some do not.
pub fn reservation(turns: &Turns, of: Of<'_>) -> Option<String> {
    let (mut all, mut good, mut idle, mut limited, mut short) = (0, 0, 0, 0, 0);
    for faults in turns.of(of).map(Faults::of) {
        all += 1;
        good += u32::from(!faults.any());
        idle += u32::from(faults.idle);
        limited += u32::from(faults.limited);
        short += u32::from(faults.short);
    }
    let mut reasons = Vec::new();
    if idle > 0 {
        let busy = turns.median(of, "busy_share").unwrap_or(0.0);
        reasons.push(format!(
            "the server's core was less than 95 % busy in {idle} of {all} turns (median {:.0} %)",
            100.0 * busy
        ));
    }
    if limited > 0 {
        let margin = turns.median(of, "generator_margin").unwrap_or(0.0);
        reasons.push(format!(
            "the generator's ceiling was less than 1.3 × the rate in {limited} of {all} turns \
             (median {margin:.2} ×)"
        ));
    }
    if short > 0 {
        reasons.push(format!("the clients ran out in {short} of {all} turns"));
    }
    let verdict = match good {
        0 => "does not count".to_owned(),
        _ => format!("{good} of {all} turns count"),
    };
    (!reasons.is_empty()).then(|| format!("{verdict}: {}", reasons.join("; ")))
}

/// `what` with its figures, or nothing where nothing was measured.
fn beside(what: &str, shown: Option<String>) -> String {
    shown.map_or(String::new(), |shown| format!("{what} {shown}"))
}

/// Judges all targets on what was measured.
pub fn judge(turns: &Turns) -> Vec<Line> {
    let mut lines = Vec::new();
    lines.extend(rate(turns));
    lines.extend(cost(turns));
    lines.extend(layers::engine(turns));
    lines.extend(layers::threads(turns));
    lines.extend(layers::allocation(turns));
    lines.extend(latency(turns));
    lines.extend(memory(turns));
    lines.extend(restart(turns));
    lines.extend(overload(turns));
    lines.sort_by_key(|line| line.number.trim_start_matches('P').parse().unwrap_or(0));
    lines
}

/// Judges a relation of rates by the turns that count; if none of its pairs does, it is shown and does not count.
fn judge_rates(draft: Draft, turns: &Turns, relation: impl Fn(&Turns) -> Option<Spread>) -> Line {
    if let Some(spread) = relation(&turns.only(|turn| !Faults::of(turn).any())) {
        return draft.judge(Some(spread));
    }
    let line = draft.judge(relation(turns));
    match line.outcome {
        Outcome::NotMeasured => line,
        _ => Line { outcome: Outcome::DoesNotCount, ..line },
    }
}

/// All reservations of some, each with a word before it.
fn together(of: &[(&str, Option<String>)]) -> Option<String> {
    let said = of.iter().filter_map(|(who, said)| said.as_ref().map(|said| format!("{who}{said}")));
    let said: Vec<_> = said.collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// New leases a second.
fn rate(turns: &Turns) -> Vec<Line> {
    let dora = |server| Of("dora", server, "new");
    let echo = Of("dora", ECHO, "packets");
    let shown = |of| turns.spread(of, "rate").map(|rate| Unit::PerSecond.spread(rate));
    let draft =
        |what, limit, aim, unit| Draft { number: "P1", what, scenario: "dora", limit, aim, unit };
    let of_null = |turns: &Turns| turns.ratio(dora(OURS), dora(NULL), "rate");
    let of_echo = |turns: &Turns| {
        turns.paired((dora(NULL), "rate"), (echo, "rate"), |null, echo| null / (echo / 2.0))
    };
    let of_kea = |turns: &Turns| turns.ratio(dora(OURS), dora(KEA), "rate");
    let percent = |limit| Limit::AtLeast(limit);
    let first = draft(
        "new leases a second, of the null server's",
        percent(0.75),
        Some(percent(0.9)),
        Unit::Percent,
    );
    let mut first = judge_rates(first, turns, of_null);
    first.ceiling = beside("null server", shown(dora(NULL)));
    first.peer = beside("ours", shown(dora(OURS)));
    let null_reservation = reservation(turns, dora(NULL));
    let said = [("", reservation(turns, dora(OURS))), ("the null server's: ", null_reservation)];
    first.reservation = together(&said);
    let second = draft(
        "the null server's, of half of the packets of a bare echo",
        percent(0.6),
        None,
        Unit::Percent,
    );
    let mut second = judge_rates(second, turns, of_echo);
    second.ceiling = beside("echo", shown(echo));
    let above = of_echo(turns).is_some_and(|spread| spread.median > 1.0);
    let above = above.then(|| "the echo is slower than the null server, and no ceiling".to_owned());
    let said = [("", reservation(turns, dora(NULL))), ("", above)];
    second.reservation = together(&said);
    let third = draft(
        "new leases a second, times Kea's",
        Limit::AtLeast(8.0),
        Some(Limit::AtLeast(10.0)),
        Unit::Times,
    );
    let mut third = judge_rates(third, turns, of_kea);
    third.peer = beside("Kea", shown(dora(KEA)));
    let said = [("", reservation(turns, dora(OURS))), ("Kea's: ", reservation(turns, dora(KEA)))];
    third.reservation = together(&said);
    vec![first, second, third]
}

/// Processor time of a new lease.
fn cost(turns: &Turns) -> Vec<Line> {
    let dora = |server| Of("dora", server, "new");
    let draft = |what, limit, aim| Draft {
        number: "P2",
        what,
        scenario: "dora",
        limit: Limit::AtMost(limit),
        aim,
        unit: Unit::Microseconds,
    };
    let of = |server, figure| turns.spread(dora(server), figure);
    let shown = |server, figure| of(server, figure).map(|spread| Unit::Microseconds.spread(spread));
    let mut all = draft(
        "processor time of a new lease, all threads and their core",
        6.0,
        Some(Limit::AtMost(5.2)),
    )
    .judge(of(OURS, "cpu_us"));
    all.peer = beside("Kea", shown(KEA, "cpu_us"));
    all.ceiling = beside("null server", shown(NULL, "cpu_us"));
    let mut own = draft("of which our own code (user time)", 1.5, None).judge(of(OURS, "user_us"));
    own.peer = beside("Kea", shown(KEA, "user_us"));
    own.ceiling = beside("null server", shown(NULL, "user_us"));
    vec![all, own]
}

/// Latency at half of the peak, above the disk's.
fn latency(turns: &Turns) -> Vec<Line> {
    let half = |server| Of("latency", server, "half");
    let above = |figure, sync| {
        turns.paired((half(OURS), figure), (half(OURS), sync), |latency, sync| latency - sync)
    };
    let shown = |server, figure| {
        turns.spread(half(server), figure).map(|spread| Unit::Milliseconds.spread(spread))
    };
    let draft = |what, limit| Draft {
        number: "P6",
        what,
        scenario: "latency",
        limit: Limit::AtMost(limit),
        aim: None,
        unit: Unit::Milliseconds,
    };
    let mut lines = Vec::new();
    for (what, figure, sync, limit) in [
        ("p50 at half of the peak, above the disk's own sync", "p50_us", "sync_p50_us", 300.0),
        ("p99 at half of the peak, above the disk's own sync", "p99_us", "sync_p99_us", 1000.0),
    ] {
        let mut line = draft(what, limit).judge(above(figure, sync));
        line.peer = beside("Kea, without sync,", shown(KEA, figure));
        line.ceiling =
            [beside("disk", shown(OURS, sync)), beside("null server", shown(NULL, figure))]
                .join(" ");
        line.reservation = latency_reservation(turns, figure, sync, limit);
        lines.push(line);
    }
    lines
}

/// Why latency at half of the peak may be something else: another load, exchanges without an answer, which no latency
/// tells of, or a machine on which a server that does nothing is no better.
fn latency_reservation(turns: &Turns, figure: &str, sync: &str, limit: f64) -> Option<String> {
    let half = |server| Of("latency", server, "half");
    let of = |figure| turns.median(half(OURS), figure);
    let mut said = Vec::new();
    if let (Some(offered), Some(peak)) = (of("offered"), of("peak"))
        && offered < 0.97 * peak / 2.0
    {
        said.push(format!("only {:.0} % of the peak was offered", 100.0 * offered / peak));
    }
    if let (Some(completed), Some(unanswered)) = (of("completed"), of("unanswered"))
        && unanswered > completed / 1000.0
    {
        said.push(format!("{unanswered:.0} exchanges found no answer"));
    }
    if let (Some(null), Some(sync)) = (turns.median(half(NULL), figure), of(sync))
        && null - sync > limit
    {
        said.push("beyond the limit already for the null server".to_owned());
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// Octets of a lease.
fn memory(turns: &Turns) -> Vec<Line> {
    let line = |leases: &str, what, limit| {
        let measure = format!("memory {leases}");
        let spread = turns.spread(Of("restart", OURS, &measure), "octets_per_lease");
        let draft = Draft {
            number: "P7",
            what,
            scenario: "restart",
            limit: Limit::AtMost(limit),
            aim: None,
            unit: Unit::Octets,
        };
        Line { peer: kea_memory(turns), ..draft.judge(spread) }
    };
    vec![
        line("1000000", "octets of memory (RSS) a lease, 1 M leases", 256.0),
        line("10000000", "octets of memory (RSS) a lease, 10 M leases", 192.0),
    ]
}

/// What Kea's leases take, with the number that it was given.
fn kea_memory(turns: &Turns) -> String {
    let mut shown = turns.0.iter().filter(|turn| {
        turn.scenario == "restart" && turn.server == KEA && turn.measure.starts_with("memory ")
    });
    shown.next_back().map_or(String::new(), |turn| {
        let figure = |name: &str| turn.figures.get(name).copied().unwrap_or(0.0);
        let (octets, leases) = (figure("octets_per_lease"), figure("leases"));
        format!("Kea {octets:.0} at {}", thousands(leases))
    })
}

/// Seconds from a start to the first reply.
fn restart(turns: &Turns) -> Vec<Line> {
    let line = |leases: &str, what, limit| {
        let measure = format!("restart {leases}");
        let of = Of("restart", OURS, &measure);
        let draft = Draft {
            number: "P8",
            what,
            scenario: "restart",
            limit: Limit::AtMost(limit),
            aim: None,
            unit: Unit::Seconds,
        };
        let shown = |figure| turns.spread(of, figure).map(|spread| Unit::Seconds.spread(spread));
        let mut line = draft.judge(turns.spread(of, "above_read_s"));
        line.ceiling = beside("direct read", shown("direct_read_s"));
        line.peer = kea_restart(turns);
        line
    };
    vec![
        line("1000000", "start to first reply above a direct read of the file, 1 M leases", 0.3),
        line("10000000", "start to first reply above a direct read of the file, 10 M leases", 3.0),
    ]
}

/// Kea's start, with the number of leases that it was given.
fn kea_restart(turns: &Turns) -> String {
    let mut measures: Vec<&str> = turns
        .0
        .iter()
        .filter(|turn| turn.scenario == "restart" && turn.server == KEA)
        .filter_map(|turn| turn.measure.strip_prefix("restart "))
        .collect();
    measures.sort_by_key(|leases| leases.len());
    measures.last().map_or(String::new(), |leases| {
        let measure = format!("restart {leases}");
        let start = turns.spread(Of("restart", KEA, &measure), "first_reply_s");
        let leases = leases.parse().unwrap_or(0.0);
        format!(
            "Kea {} in all with {}",
            start.map(|spread| Unit::Seconds.spread(spread)).unwrap_or_default(),
            thousands(leases)
        )
    })
}

/// Why an overload is less than it should be: the generator could not offer twice the peak. How busy it was matters
/// only where it could not.
fn overload_reservation(turns: &Turns, of: Of<'_>) -> Option<String> {
    let offered = turns.median(of, "offered_share")?;
    let busy = turns.median(of, "generator_busy")?;
    (offered < OFFERED_SHARE_MIN).then(|| {
        format!(
            "only {:.0} % of the peak was offered, by a generator that was {:.0} % busy",
            100.0 * offered,
            100.0 * busy.min(1.0)
        )
    })
}

/// What is left of the peak under twice the peak.
fn overload(turns: &Turns) -> Vec<Line> {
    let double = |server| Of("overload", server, "double");
    let shown = |server, figure: &str| {
        turns.spread(double(server), figure).map(|spread| Unit::Percent.spread(spread))
    };
    let draft = |what, limit| Draft {
        number: "P10",
        what,
        scenario: "overload",
        limit,
        aim: None,
        unit: Unit::Percent,
    };
    let mut kept = draft(
        "of the peak is still completed while twice the peak is offered",
        Limit::AtLeast(0.9),
    )
    .judge(turns.spread(double(OURS), "kept_share"));
    kept.peer = beside("Kea", shown(KEA, "kept_share"));
    kept.ceiling = beside("of the peak, offered", shown(OURS, "offered_share"));
    kept.reservation = overload_reservation(turns, double(OURS));
    let growth = turns.paired(
        (double(OURS), "resident_after"),
        (double(OURS), "resident_before"),
        |after, before| after / before,
    );
    let bounded =
        draft("memory (RSS) after the overload, of before", Limit::AtMost(1.5)).judge(growth);
    let bounded = Line { reservation: kept.reservation.clone(), ..bounded };
    vec![kept, bounded]
}

#[cfg(test)]
mod tests;
