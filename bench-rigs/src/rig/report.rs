//! The report: the table of targets, a table for each scenario, plots, and all turns as JSON.
//!
//! What is generated stands between two markers of a page whose other parts are written by hand and
//! kept.

use std::{fmt::Write as _, fs, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    benches::CRITERION,
    machine::Facts,
    statistics::{Of, Spread, Turn, Turns},
    targets::{self, Line, Unit, thousands},
};
use crate::{
    bars::{Bar, Bars},
    error::{Doing as _, Result, RigError},
    plot::{Axis, Chart, Line as PlotLine, Scale},
};

/// Around what is generated.
const BEGIN: &str = "<!-- rig: generated from here on -->";
const END: &str = "<!-- rig: generated up to here -->";

/// The page as it is without anything written by hand.
const BLANK_PAGE: &str = include_str!("page.md");

/// The page's name, and that of the folder beside it.
pub const PAGE: &str = "PERFORMANCE.md";
const FOLDER: &str = "performance";

/// All that a run has found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The command that repeats it.
    pub command: String,
    /// Short measurements.
    pub quick: bool,
    /// The machine and what was measured.
    pub facts: Facts,
    /// The scenarios, by name, with their headlines.
    pub scenarios: Vec<(String, String)>,
    /// Every turn.
    pub turns: Turns,
}

impl Run {
    /// Writes the page, the plots and the turns below `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let inner = folder.join(FOLDER);
        fs::create_dir_all(&inner).doing(format!("make {}", inner.display()))?;
        let mut drawn = Vec::new();
        for (name, svg) in self.plots() {
            let path = inner.join(format!("{name}.svg"));
            fs::write(&path, svg).doing(format!("write {}", path.display()))?;
            drawn.push(name);
        }
        let path = inner.join("turns.json");
        fs::write(&path, self.to_json()?).doing(format!("write {}", path.display()))?;
        let path = folder.join(PAGE);
        let before = fs::read_to_string(&path).unwrap_or_else(|_| BLANK_PAGE.to_owned());
        let page = replace_generated(&before, &self.to_markdown(&drawn))?;
        fs::write(&path, page).doing(format!("write {}", path.display()))
    }

    /// All of it, one line a turn.
    fn to_json(&self) -> Result<String> {
        let wrong = |error| RigError::unexpected(format!("write turns as JSON: {error}"));
        let mut text =
            serde_json::to_string_pretty(&Run { turns: Turns::default(), ..self.clone() })
                .map_err(wrong)?;
        let turns: Vec<String> = self
            .turns
            .0
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        let list = format!("\"turns\": [\n{}\n  ]", turns.join(",\n"));
        text = text.replace("\"turns\": []", &list);
        Ok(text + "\n")
    }

    /// The generated part of the page.
    pub fn to_markdown(&self, plots: &[&str]) -> String {
        let mut text = String::new();
        self.put_targets(&mut text);
        for (name, title) in &self.scenarios {
            let _ = writeln!(text, "\n## {title}\n");
            match name.as_str() {
                "dora" => self.put_exchanges(&mut text, name, plots),
                "latency" => self.put_latency(&mut text, name, plots),
                "overload" => self.put_overload(&mut text, name),
                "restart" => self.put_restart(&mut text, name),
                "engine" => self.put_benches(&mut text, name, plots),
                "threads" => self.put_benches(&mut text, name, &[]),
                _ => self.put_exchanges(&mut text, name, &[]),
            }
        }
        self.put_machine(&mut text);
        text
    }

    fn put_targets(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "## Targets\n\nMedians, with the least and the greatest in brackets; ratios within one \
             repetition. `{}` gave them{}; each line alone: the command in the last column.\n",
            self.command,
            if self.quick { ", with short measurements" } else { "" }
        );
        table(
            text,
            &["", "what", "target", "measured", "", "beside it", "ceiling", "command"],
            targets::judge(&self.turns).iter().map(|line| {
                let Line { number, what, target, measured, peer, ceiling, scenario, .. } = line;
                let outcome = match &line.reservation {
                    Some(reason) => format!("{}; {reason}", line.outcome.words()),
                    None => line.outcome.words().to_owned(),
                };
                let command = format!("`make rig SCENARIO={scenario}`");
                let cells = [*number, what, target, measured, &outcome, peer, ceiling, &command];
                cells.map(str::to_owned).to_vec()
            }),
        );
    }

    /// Who was measured in a scenario, in the order of the turns.
    fn servers(&self, scenario: &str) -> Vec<&str> {
        distinct(self.turns_of(scenario).map(|turn| turn.server.as_str()))
    }

    fn turns_of(&self, scenario: &str) -> impl Iterator<Item = &Turn> {
        self.turns.0.iter().filter(move |turn| turn.scenario == scenario)
    }

    fn shown(&self, of: Of<'_>, figure: &str, unit: Unit) -> String {
        self.turns.spread(of, figure).map_or("–".to_owned(), |spread| unit.spread(spread))
    }

    fn single(&self, of: Of<'_>, figure: &str, unit: Unit) -> String {
        self.turns.median(of, figure).map_or("–".to_owned(), |median| unit.show(median))
    }

    fn put_exchanges(&self, text: &mut String, name: &str, plots: &[&str]) {
        for (measure, headline) in [("new", "New leases"), ("renew", "Renewals")] {
            let _ = writeln!(text, "### {headline}\n");
            let rows = self.servers(name).into_iter().filter_map(|server| {
                let of = Of(name, server, measure);
                self.turns.of(of).next()?;
                Some(vec![
                    server.to_owned(),
                    self.single(of, "window", Unit::Octets),
                    self.shown(of, "rate", Unit::PerSecond),
                    self.shown(of, "cpu_us", Unit::Microseconds),
                    self.single(of, "user_us", Unit::Microseconds),
                    self.single(of, "kernel_us", Unit::Microseconds),
                    self.single(of, "beside_us", Unit::Microseconds),
                    self.single(of, "busy_share", Unit::Percent),
                    self.single(of, "generator_margin", Unit::Times),
                    self.single(of, "p99_us", Unit::Milliseconds),
                    targets::reservation(&self.turns, of).unwrap_or_else(|| "counts".to_owned()),
                ])
            });
            table(
                text,
                &[
                    "server",
                    "window",
                    "a second",
                    "processor time each",
                    "user",
                    "kernel",
                    "core beside",
                    "core busy",
                    "generator could",
                    "p99",
                    "",
                ],
                rows,
            );
            text.push('\n');
        }
        self.put_echo(text, name);
        Self::put_picture(text, plots, "rates", "New leases and renewals a second");
    }

    fn put_echo(&self, text: &mut String, name: &str) {
        for server in self.servers(name) {
            let of = Of(name, server, "packets");
            if self.turns.of(of).next().is_none() {
                continue;
            }
            let _ = writeln!(
                text,
                "A bare {server}, frames of {} octets, {} under way: {} packets a second, {} of \
                 processor time each, core {} busy. A four-message exchange is two packets each way.\n",
                self.single(of, "frame_octets", Unit::Octets),
                self.single(of, "window", Unit::Octets),
                self.shown(of, "rate", Unit::PerSecond),
                self.single(of, "cpu_us", Unit::Microseconds),
                self.single(of, "busy_share", Unit::Percent),
            );
        }
    }

    fn put_picture(text: &mut String, plots: &[&str], name: &str, title: &str) {
        if plots.contains(&name) {
            let _ = writeln!(text, "![{title}]({FOLDER}/{name}.svg)");
        }
    }

    fn put_latency(&self, text: &mut String, name: &str, plots: &[&str]) {
        let mut rows = Vec::new();
        for server in self.servers(name) {
            for (measure, load) in [("half", "half of its peak"), ("idle", "200 a second")] {
                let of = Of(name, server, measure);
                rows.push(vec![
                    server.to_owned(),
                    load.to_owned(),
                    self.single(of, "rate", Unit::PerSecond),
                    self.shown(of, "p50_us", Unit::Milliseconds),
                    self.shown(of, "p99_us", Unit::Milliseconds),
                    self.shown(of, "p999_us", Unit::Milliseconds),
                    self.shown(of, "sync_p50_us", Unit::Milliseconds),
                    self.shown(of, "sync_p99_us", Unit::Milliseconds),
                ]);
            }
        }
        let heads = [
            "server",
            "offered",
            "a second",
            "p50",
            "p99",
            "p99.9",
            "disk sync p50",
            "disk sync p99",
        ];
        table(text, &heads, rows.into_iter());
        text.push('\n');
        Self::put_picture(text, plots, "latency", "Latency at half of the peak");
    }

    fn put_overload(&self, text: &mut String, name: &str) {
        let rows = self.servers(name).into_iter().map(|server| {
            let of = Of(name, server, "double");
            let mib = |figure| {
                let octets = self.turns.median(of, figure);
                octets.map_or("–".to_owned(), |octets| {
                    format!("{:.0} MiB", octets / f64::from(1 << 20))
                })
            };
            vec![
                server.to_owned(),
                self.shown(of, "peak", Unit::PerSecond),
                self.shown(of, "offered", Unit::PerSecond),
                self.shown(of, "rate", Unit::PerSecond),
                self.shown(of, "kept_share", Unit::Percent),
                mib("resident_before"),
                mib("resident_after"),
                self.single(of, "p99_us", Unit::Milliseconds),
                self.single(of, "generator_busy", Unit::Percent),
            ]
        });
        let heads = [
            "server",
            "peak a second",
            "offered",
            "completed",
            "of the peak",
            "RSS before",
            "RSS after",
            "p99 of those",
            "generator busy",
        ];
        table(text, &heads, rows);
    }

    fn put_restart(&self, text: &mut String, name: &str) {
        let mut rows = Vec::new();
        let mut seen = Vec::new();
        for turn in self.turns.0.iter().filter(|turn| turn.scenario == name) {
            let Some(leases) = turn.measure.strip_prefix("restart ") else { continue };
            let key = (turn.server.as_str(), leases);
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let (memory, restart) = (format!("memory {leases}"), format!("restart {leases}"));
            let (memory, restart) =
                (Of(name, &turn.server, &memory), Of(name, &turn.server, &restart));
            rows.push(vec![
                turn.server.clone(),
                leases.parse().map_or(leases.to_owned(), thousands),
                self.single(memory, "octets_per_lease", Unit::Octets),
                self.single(memory, "growth_octets_per_lease", Unit::Octets),
                self.single(memory, "huge_page_share", Unit::Percent),
                self.single(restart, "octets_per_lease", Unit::Octets),
                self.shown(restart, "first_reply_s", Unit::Seconds),
                self.shown(restart, "direct_read_s", Unit::Seconds),
                self.single(restart, "file_octets", Unit::PerSecond),
            ]);
        }
        let heads = [
            "server",
            "leases",
            "RSS a lease",
            "growth from empty",
            "in huge pages",
            "RSS a lease after the start",
            "start to first reply",
            "direct read",
            "octets read",
        ];
        table(text, &heads, rows.into_iter());
    }

    fn put_benches(&self, text: &mut String, name: &str, plots: &[&str]) {
        let measures = distinct(self.turns_of(name).map(|turn| turn.measure.as_str()));
        let rows = measures.iter().filter_map(|measure| {
            let of = Of(name, CRITERION, measure);
            let Spread { median, least, greatest, count } = self.turns.nanoseconds(of)?;
            let range = format!("{least:.1} – {greatest:.1}");
            Some(vec![format!("`{measure}`"), format!("{median:.1}"), range, count.to_string()])
        });
        let range = "95 % of the median; of several turns least – greatest";
        table(text, &["bench", "ns", range, "turns"], rows);
        text.push('\n');
        Self::put_picture(text, plots, "growth", "Time of a message over the number of leases");
    }

    fn put_machine(&self, text: &mut String) {
        let _ = writeln!(text, "\n## Machine and versions\n");
        let rows = self.facts.0.iter().map(|(name, fact)| vec![name.clone(), fact.clone()]);
        table(text, &["", ""], rows);
        let _ = writeln!(
            text,
            "\nEvery turn with all its figures: [{FOLDER}/turns.json]({FOLDER}/turns.json)."
        );
    }

    /// The plots that there are figures for.
    fn plots(&self) -> Vec<(&'static str, String)> {
        let mut plots = Vec::new();
        plots.extend(self.plot_rates().map(|svg| ("rates", svg)));
        plots.extend(self.plot_latency().map(|svg| ("latency", svg)));
        plots.extend(self.plot_growth().map(|svg| ("growth", svg)));
        plots
    }

    fn plot_rates(&self) -> Option<String> {
        let mut bars = Vec::new();
        for (measure, what) in [("new", "new"), ("renew", "renewals")] {
            for server in self.servers("dora") {
                let spread = self.turns.spread(Of("dora", server, measure), "rate");
                bars.extend(spread.map(|spread| Bar {
                    name: format!("{server}, {what}"),
                    value: spread.median,
                    from: spread.least,
                    to: spread.greatest,
                    group: usize::from(measure == "renew"),
                }));
            }
        }
        (!bars.is_empty()).then(|| {
            Bars {
                title: "Exchanges a second".to_owned(),
                subtitle: "Median, and from the least to the greatest of all turns".to_owned(),
                bars,
            }
            .to_svg()
        })
    }

    fn plot_latency(&self) -> Option<String> {
        let mut lines = Vec::new();
        for server in self.servers("latency") {
            for (measure, load, dashed) in [("half", "half", false), ("idle", "idle", true)] {
                let of = Of("latency", server, measure);
                let quantiles =
                    [(50.0, "p50_us"), (90.0, "p90_us"), (99.0, "p99_us"), (99.9, "p999_us")];
                let points: Vec<_> = quantiles
                    .into_iter()
                    .filter_map(|(at, figure)| Some((at, self.turns.median(of, figure)? / 1e3)))
                    .collect();
                if !points.is_empty() {
                    lines.push(PlotLine { name: format!("{server}, {load}"), points, dashed });
                }
            }
        }
        (!lines.is_empty()).then(|| {
            Chart {
                title: "Latency of new leases at half of the peak rate, and idle".to_owned(),
                subtitle: "Four messages, counted from when the exchange was due".to_owned(),
                x: Axis::new("percentile", Scale::Percentile),
                y: Axis::new("ms", Scale::Logarithmic),
                lines,
            }
            .to_svg()
        })
    }

    fn plot_growth(&self) -> Option<String> {
        let mut lines = Vec::new();
        for kind in ["DORA", "RENEW"] {
            let prefix = format!("engine/leases/{kind}/");
            let mut points: Vec<(f64, f64)> = self
                .turns
                .0
                .iter()
                .filter(|turn| turn.server == CRITERION)
                .filter_map(|turn| {
                    let leases = turn.measure.strip_prefix(&prefix)?.parse().ok()?;
                    Some((leases, turn.figures.get("ns").copied()?))
                })
                .collect();
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            if !points.is_empty() {
                lines.push(PlotLine { name: kind.to_owned(), points, dashed: false });
            }
        }
        (!lines.is_empty()).then(|| {
            Chart {
                title: "Time of a message over the number of leases".to_owned(),
                subtitle: "The engine alone, in memory, one core".to_owned(),
                x: Axis::new("leases", Scale::Logarithmic),
                y: Axis::new("ns", Scale::Linear),
                lines,
            }
            .to_svg()
        })
    }
}

/// A Markdown table.
fn table(text: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |", heads.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(heads.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

/// The page with another generated part.
fn replace_generated(page: &str, generated: &str) -> Result<String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| {
        RigError::unexpected(format!("{PAGE} has lost its markers `{BEGIN}` and `{END}`"))
    })?;
    Ok(format!("{before}{BEGIN}\n\n{generated}\n{END}{after}"))
}

/// Each name once, in the order in which they come first.
fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::statistics::Turn;

    fn turn(scenario: &str, server: &str, measure: &str, figures: &[(&str, f64)]) -> Turn {
        Turn {
            scenario: scenario.to_owned(),
            server: server.to_owned(),
            measure: measure.to_owned(),
            repetition: 1,
            figures: figures.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    fn run() -> Run {
        let rate = |rate| {
            [
                ("rate", rate),
                ("window", 256.0),
                ("cpu_us", 5.5),
                ("user_us", 1.25),
                ("busy_share", 0.99),
                ("generator_margin", 1.5),
            ]
        };
        Run {
            command: "make rig QUICK=1".to_owned(),
            quick: true,
            facts: Facts(vec![("kernel".to_owned(), "6.18".to_owned())]),
            scenarios: vec![
                ("dora".to_owned(), "New leases".to_owned()),
                ("latency".to_owned(), "Latency".to_owned()),
                ("restart".to_owned(), "Restart".to_owned()),
                ("engine".to_owned(), "Engine".to_owned()),
            ],
            turns: Turns(vec![
                turn("dora", "portlease xdp-native", "new", &rate(150_000.0)),
                turn("dora", "null xdp-native", "new", &rate(200_000.0)),
                turn("dora", "echo xdp-native", "packets", &[("rate", 600_000.0)]),
                turn(
                    "latency",
                    "portlease xdp-native",
                    "half",
                    &[("p50_us", 250.0), ("p99_us", 900.0)],
                ),
                turn("restart", "kea", "restart 100000", &[("first_reply_s", 1.5)]),
                turn("engine", CRITERION, "engine/leases/DORA/1000", &[("ns", 120.0)]),
            ]),
        }
    }

    #[test]
    fn the_page_tells_targets_scenarios_and_machine() {
        let text = run().to_markdown(&["rates", "latency"]);
        for expected in [
            "| P1 | new leases a second, of the null server's | ≥ 75 %, aim ≥ 90 % | 75 % | met |",
            "| portlease xdp-native | 256 | 150,000 | 5.50 µs | 1.25 µs |",
            "600,000 packets a second",
            "| portlease xdp-native | half of its peak |",
            "| kea | 100,000 |",
            "`engine/leases/DORA/1000` | 120.0 |",
            "| kernel | 6.18 |",
            "![Latency at half of the peak](performance/latency.svg)",
            "`make rig SCENARIO=restart`",
            "with short measurements",
        ] {
            assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
        }
        let targets = text.lines().filter(|line| line.starts_with("| P"));
        assert!(targets.clone().count() >= 10);
        assert!(targets.clone().all(|line| line.matches('|').count() == 9), "{text}");
    }

    #[test]
    fn what_was_written_by_hand_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        run().write(folder.path()).unwrap();
        let path = folder.path().join(PAGE);
        let page = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{page}\nby hand\n")).unwrap();
        run().write(folder.path()).unwrap();
        let again = fs::read_to_string(&path).unwrap();
        assert!(again.ends_with("\nby hand\n") && again.matches("| P1 |").count() == 3, "{again}");
        for name in ["rates.svg", "latency.svg", "growth.svg"] {
            let svg = fs::read_to_string(folder.path().join(FOLDER).join(name)).unwrap();
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{name}");
        }
        fs::write(&path, "no markers").unwrap();
        assert!(run().write(folder.path()).unwrap_err().to_string().contains("markers"));
    }

    #[test]
    fn all_turns_can_be_read_again() {
        let text = run().to_json().unwrap();
        let read: Run = serde_json::from_str(&text).unwrap();
        assert_eq!(read.turns.0, run().turns.0);
        assert_eq!(text.lines().filter(|line| line.contains("\"scenario\":")).count(), 6);
    }
}
