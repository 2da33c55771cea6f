//! Threads, configuration, the operator.

pub mod clock;
pub mod config;
pub mod crew;
pub mod metrics;
pub mod signals;
pub mod sweep;
pub mod vigil;
pub mod worker;
