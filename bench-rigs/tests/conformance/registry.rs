//! Cases and the tests that show them.
//!
//! A section's module has `pub const CASES: &[Case]`, a line for each test:
//!
//! ```text
//! pub const CASES: &[Case] = &[
//!     server("D01", discover_is_offered_a_port_set),       // fn(Bench): in this process and as datagrams
//!     engine_only("D13", TIME, an_expired_tuple_comes_back), // fn(Bench): why not as datagrams
//!     codec("P01", psid_one_of_six_bits),                  // fn()
//!     client("K01", nothing_is_sent_without_option_88),    // fn()
//! ];
//! ```
//!
//! The test of case D01 against the engine is named `case-D01 engine`, and so on. A case that is shown in two columns
//! has two lines.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex},
};

use libtest_mimic::Trial;

use crate::lab::Bench;

/// Why a case about time does not run against the daemon.
pub const TIME: &str = "time must move";

/// Where a case is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Functions of the library in this process: codec, configuration, engine.
    Engine,
    /// The server's program.
    Daemon,
    /// The client: its machine in this process, or its program.
    Client,
}

impl Column {
    pub const ALL: [Column; 3] = [Column::Engine, Column::Daemon, Column::Client];

    pub fn name(self) -> &'static str {
        match self {
            Column::Engine => "engine",
            Column::Daemon => "daemon",
            Column::Client => "client",
        }
    }
}

/// What a test calls.
#[derive(Clone, Copy)]
enum Body {
    /// One function for engine and daemon.
    Server(fn(Bench)),
    Plain(fn()),
}

/// A test or two that show a case.
#[derive(Clone, Copy)]
pub struct Case {
    pub id: &'static str,
    columns: &'static [Column],
    /// Why it does not run where one would expect it.
    pub remark: Option<&'static str>,
    body: Body,
}

/// A case of the server's, in this process and against the daemon.
pub const fn server(id: &'static str, body: fn(Bench)) -> Case {
    let columns = &[Column::Engine, Column::Daemon];
    Case { id, columns, remark: None, body: Body::Server(body) }
}

/// A case of the server's that cannot run against the daemon, and why.
pub const fn engine_only(id: &'static str, why: &'static str, body: fn(Bench)) -> Case {
    Case { id, columns: &[Column::Engine], remark: Some(why), body: Body::Server(body) }
}

/// A case that only the daemon can show, and why.
pub const fn daemon_only(id: &'static str, why: &'static str, body: fn(Bench)) -> Case {
    Case { id, columns: &[Column::Daemon], remark: Some(why), body: Body::Server(body) }
}

/// A case of encoding, decoding or configuration, which needs no server.
pub const fn codec(id: &'static str, body: fn()) -> Case {
    Case { id, columns: &[Column::Engine], remark: None, body: Body::Plain(body) }
}

/// A case of the client's.
pub const fn client(id: &'static str, body: fn()) -> Case {
    Case { id, columns: &[Column::Client], remark: None, body: Body::Plain(body) }
}

impl Case {
    /// The same, with something that a reader of the matrix should know.
    #[must_use]
    pub const fn remark(mut self, remark: &'static str) -> Self {
        self.remark = Some(remark);
        self
    }
}

/// Whether each test has passed.
pub type Results = Arc<Mutex<BTreeMap<(&'static str, Column), bool>>>;

/// The tests of all cases. What becomes of each is written into `results`.
pub fn trials(cases: &[Case], results: &Results) -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in cases {
        for &column in case.columns {
            let (case, results) = (*case, Arc::clone(results));
            let name = format!("case-{} {}", case.id, column.name());
            trials.push(Trial::test(name, move || {
                let run = AssertUnwindSafe(|| run(case, column));
                let outcome = catch_unwind(run);
                results.lock().unwrap().insert((case.id, column), outcome.is_ok());
                outcome.map_err(|payload| resume_unwind(payload))
            }));
        }
    }
    trials
}

fn run(case: Case, column: Column) {
    match (case.body, column) {
        (Body::Plain(body), _) => body(),
        (Body::Server(body), Column::Daemon) => body(Bench::Daemon),
        (Body::Server(body), _) => body(Bench::Engine),
    }
}
