//! How the story is told.

use std::{
    fmt::Arguments,
    io::{self, Stdout, Write as _},
    time::Instant,
};

use bench_rigs::daemon::Counters;

use crate::homes::Shared;

/// Columns of the table of homes.
const COLUMNS: usize = 5;

/// The teller, with a clock.
pub(crate) struct Story {
    begun: Instant,
    out: Stdout,
}

impl Story {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), out: io::stdout() }
    }

    /// One line. Who closes the other end misses the rest of the story; it is still carried out.
    fn line(&self, text: Arguments<'_>) {
        let _ = writeln!(self.out.lock(), "{text}");
    }

    pub(crate) fn chapter(&mut self, title: &str) {
        self.line(format_args!("\n=== {title} [{:.1} s]", self.begun.elapsed().as_secs_f64()));
    }

    pub(crate) fn say(&self, text: &str) {
        self.line(format_args!("{text}"));
    }

    /// What a program said, indented, without the times.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            let words = line.split_once("Z ").map_or(line, |(_, rest)| rest);
            self.line(format_args!("  | {}", words.trim()));
        }
    }

    /// Who got which address and ports, on one screen.
    pub(crate) fn table(&self, homes: &[Shared]) {
        let mut addresses: Vec<_> = homes.iter().map(|home| home.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            let mut here: Vec<_> = homes.iter().filter(|home| home.address == address).collect();
            here.sort_by_key(|home| home.psid);
            self.line(format_args!("{address} is shared by {} homes:", here.len()));
            for row in here.chunks(COLUMNS) {
                let row: Vec<_> = row
                    .iter()
                    .map(|home| {
                        format!("home {:<3} {:>5}-{:<5}", home.home, home.first(), home.last())
                    })
                    .collect();
                self.line(format_args!("  {}", row.join("  ")));
            }
        }
    }

    /// The counters that are not zero.
    pub(crate) fn counters(&self, counters: &Counters) {
        let moved: Vec<_> = counters
            .iter()
            .filter(|&(_, value)| value > 0)
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        for row in moved.chunks(COLUMNS) {
            self.line(format_args!("  {}", row.join("  ")));
        }
    }

    pub(crate) fn end(&self) {
        self.line(format_args!(
            "\nEverything was as told, in {:.0} s.",
            self.begun.elapsed().as_secs_f64()
        ));
    }
}
