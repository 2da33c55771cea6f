//! Conformance: each case of `conformance/cases.toml` is a test that bears its id.
//!
//! A case of the server's is one function over a [`lab`], which has the engine in this process or the daemon in a
//! network namespace behind it (needs root). After a whole run the matrix is held against `docs/CONFORMANCE.md`.
//! With the environment variable `CONFORMANCE_MATRIX` the matrix is shown, and written to the file that it names.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod catalogue;
mod client_compatibility;
mod client_discovery;
mod client_keep;
mod client_messages;
mod client_obtain;
mod client_process;
mod client_rig;
mod client_softwire;
mod client_tunnel;
mod client_world;
mod daemon;
mod dora;
mod dora_detail;
mod encoding;
mod ending;
mod engine;
mod extending;
mod flood;
mod hostile;
mod lab;
mod malformed;
mod matrix;
mod mixed;
mod packet;
mod query;
mod rebooting;
mod registry;
mod relays;
mod reply;
mod setup;
mod sharing;
mod softwires;

/// The home that the tests of the client's rules play in as well.
#[expect(dead_code, reason = "the other tests of a home use the rest")]
#[path = "../netns/home.rs"]
mod home;

use std::{path::Path, process::ExitCode};

use libtest_mimic::Arguments;

use crate::{
    catalogue::Catalogue,
    matrix::Matrix,
    registry::{Case, Results},
};

/// Daemons wait for the disk and the kernel; more than this many at a time disturb each other on a small machine.
const THREADS: usize = 2;

/// All tests, by section.
const SECTIONS: &[&[Case]] = &[
    encoding::CASES,
    dora::CASES,
    dora_detail::CASES,
    sharing::CASES,
    extending::CASES,
    ending::CASES,
    rebooting::CASES,
    mixed::CASES,
    relays::CASES,
    malformed::CASES,
    hostile::CASES,
    flood::CASES,
    softwires::CASES,
    client_compatibility::CASES,
    client_process::CASES,
    client_obtain::CASES,
    client_keep::CASES,
    client_discovery::CASES,
    client_softwire::CASES,
    client_tunnel::CASES,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let catalogue = Catalogue::load();
    let cases: Vec<Case> = SECTIONS.concat();
    for case in &cases {
        assert!(catalogue.cases().any(|listed| listed.id == case.id), "{} is not listed", case.id);
    }
    let results = Results::default();
    let trials = registry::trials(&cases, &results);
    let planned = trials.len();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let passed = results.lock().unwrap().clone();
    if arguments.list || passed.len() < planned {
        return conclusion.exit_code();
    }
    let matrix = Matrix { catalogue: &catalogue, cases: &cases, passed: &passed };
    let whole = judge(&matrix);
    if conclusion.has_failed() { conclusion.exit_code() } else { whole }
}

/// After a run of all tests: is every case shown, and does the page say so?
fn judge(matrix: &Matrix<'_>) -> ExitCode {
    let missing = matrix.missing();
    let page = matrix.page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFORMANCE.md");
    let up_to_date = match std::env::var_os("CONFORMANCE_MATRIX") {
        Some(path) => {
            println!("{}", matrix.lines());
            std::fs::write(path, page).unwrap();
            true
        }
        None => std::fs::read_to_string(path).unwrap_or_default() == page,
    };
    if !missing.is_empty() {
        eprintln!("{} cases are not shown: {}", missing.len(), missing.join(" "));
    }
    if !up_to_date {
        eprintln!("docs/CONFORMANCE.md is not what this run gives: `make conformance` writes it");
    }
    if missing.is_empty() && up_to_date { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
