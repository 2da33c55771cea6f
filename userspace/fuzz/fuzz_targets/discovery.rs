//! Any answers to a client that looks for servers.
#![no_main]

#[path = "../../tests/checks/client.rs"]
#[expect(dead_code, reason = "each target takes its own check")]
mod client;

libfuzzer_sys::fuzz_target!(|input: &[u8]| client::search(input));
