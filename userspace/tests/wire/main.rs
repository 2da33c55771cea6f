//! The wire from outside: reference messages, properties over a great many packets, and other
//! people's codecs.
#![expect(clippy::unwrap_used, reason = "a test says with a panic that it fails")]

#[path = "../checks/mod.rs"]
mod checks;
mod information;
mod oracles;
mod packets;
mod properties;
mod references;
mod regressions;
#[path = "../vectors/mod.rs"]
mod vectors;
