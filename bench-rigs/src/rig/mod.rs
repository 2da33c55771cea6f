//! The rig: servers side by side on one machine, turn by turn, and a report that anybody can repeat.
//!
//! A [`scenario`] says what is measured of whom. Each turn starts a server ([`contestant`]) on a link of its own, all
//! its threads on one core, the generator on another, and counts what it costs ([`accounting`]). The figures of all
//! turns ([`statistics`]) become the verdicts on the [`targets`] and a [`report`].

pub mod accounting;
pub mod benches;
pub mod contestant;
pub mod disk;
pub mod machine;
pub mod measure;
pub mod report;
pub mod restart;
pub mod scenario;
pub mod statistics;
pub mod targets;
