//! Any life of a log, and leases of whatever it gives back.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/checks/recovery.rs"]
#[expect(dead_code, reason = "the builder of steps is for tests")]
mod recovery;

libfuzzer_sys::fuzz_target!(|input: &[u8]| recovery::log(input));
