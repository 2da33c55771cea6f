//! Any text as a configuration.
#![no_main]

#[path = "../../tests/checks/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| config::text(input));
