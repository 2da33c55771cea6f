//! The matrix: every case, where it was shown, and who asks for it. The same run writes the same text anywhere.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    catalogue::{Catalogue, Listed},
    registry::{Case, Column},
};

const HEAD: &str = "\
# Conformance

<!-- Written by `make conformance`; `make test` fails while it is not what the run gives. -->

Each case of the checklist is a test that bears its id and asserts all that is expected. A discard means: exactly one
counter with that reason rises by one, nothing is sent, and no lease, offer or record changes.

- *Engine*: the codec, the configuration, or the engine with its leases and a log, in the test's process. Its clock is
  the test's, so cases in which time must move run here.
- *Daemon*: `portlease run` in a network namespace, with real datagrams over a virtual link, by XDP where that runs. Its
  counters are those that it shows the operator, its leases are read out of the log on the disk.
- *Client*: the client's machine, or `portlease client` itself.

`cargo test --package bench-rigs --test conformance -- case-D07` runs one case; the configuration that the cases change
is [`reference.toml`](../bench-rigs/conformance/reference.toml), the list itself is
[`cases.toml`](../bench-rigs/conformance/cases.toml).

\"cap\" is a client that lists option 159. V1 to V12 are the [messages](../userspace/tests/vectors) that all tests
share, M1 to M12 the options 159 at the head of `cases.toml`.
Where the source says \"decision\", the RFCs leave it open.
";

/// Results of one run, by case and column.
pub type Passed = BTreeMap<(&'static str, Column), bool>;

/// What a run has shown.
pub struct Matrix<'a> {
    pub catalogue: &'a Catalogue,
    pub cases: &'a [Case],
    pub passed: &'a Passed,
}

impl Matrix<'_> {
    /// Cases that no test shows.
    pub fn missing(&self) -> Vec<&str> {
        let shown = |listed: &&Listed| self.cases.iter().any(|case| case.id == listed.id);
        let missing = self.catalogue.cases().filter(|listed| !shown(listed));
        missing.map(|listed| listed.id.as_str()).collect()
    }

    fn cell(&self, id: &str, column: Column) -> &'static str {
        match self.passed.iter().find(|((known, at), _)| *known == id && *at == column) {
            Some((_, true)) => "pass",
            Some((_, false)) => "**FAIL**",
            None => "",
        }
    }

    fn remark(&self, id: &str) -> String {
        let own = self.cases.iter().filter(|case| case.id == id);
        let remarks: Vec<&str> = own.clone().filter_map(|case| case.remark).collect();
        if own.count() == 0 { "missing".to_owned() } else { remarks.join("; ") }
    }

    fn count(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.catalogue.cases().filter(|listed| wanted(&listed.id)).count()
    }

    /// The whole page.
    pub fn page(&self) -> String {
        let mut page = HEAD.to_owned();
        writeln!(page, "\n| column | cases shown |\n|---|---|").unwrap();
        for column in Column::ALL {
            let shown = self.count(|id| self.cell(id, column) == "pass");
            writeln!(page, "| {} | {shown} |", column.name()).unwrap();
        }
        let all = self.count(|id| Column::ALL.iter().any(|at| self.cell(id, *at) == "pass"));
        writeln!(page, "| any of them | {all} of {} |", self.count(|_| true)).unwrap();
        writeln!(page, "\nNot applicable: none.").unwrap();
        for section in &self.catalogue.section {
            writeln!(page, "\n## {}\n", section.title).unwrap();
            writeln!(
                page,
                "| case | input | expected | engine | daemon | client | source | remark |"
            )
            .unwrap();
            writeln!(page, "|---|---|---|---|---|---|---|---|").unwrap();
            for Listed { id, input, expected, source } in &section.case {
                let [engine, daemon, client] = Column::ALL.map(|column| self.cell(id, column));
                let remark = self.remark(id);
                let cells = [id, input, expected, engine, daemon, client, source, &remark];
                let cells = cells.map(|cell| cell.replace('|', "\\|"));
                writeln!(page, "| {} |", cells.join(" | ")).unwrap();
            }
        }
        page
    }

    /// A line for each case, for a terminal.
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        writeln!(lines, "case  engine  daemon  client  source").unwrap();
        for listed in self.catalogue.cases() {
            let [engine, daemon, client] =
                Column::ALL.map(|column| match self.cell(&listed.id, column) {
                    "" => "-",
                    "pass" => "pass",
                    _ => "FAIL",
                });
            let remark = self.remark(&listed.id);
            let remark = if remark.is_empty() { remark } else { format!(" ({remark})") };
            let source = &listed.source;
            writeln!(lines, "{:5} {engine:7} {daemon:7} {client:7} {source}{remark}", listed.id)
                .unwrap();
        }
        lines
    }
}
