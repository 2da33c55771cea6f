//! Any sequence of datagrams to a server with state.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/checks/engine.rs"]
#[expect(dead_code, reason = "the builder of steps is for tests")]
mod engine;

libfuzzer_sys::fuzz_target!(|input: &[u8]| engine::conversation(input));
