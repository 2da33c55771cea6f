//! Any octets as a UDP payload that a server gets.
#![no_main]

#[path = "../../tests/checks/mod.rs"]
#[expect(dead_code, reason = "each target takes its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|payload: &[u8]| checks::query(payload));
