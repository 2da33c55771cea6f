//! Any octets as an Ethernet frame: as they come, and with their lengths and checksum mended.
#![no_main]

#[path = "../../tests/checks/mod.rs"]
#[expect(dead_code, reason = "each target takes its own check")]
mod checks;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| checks::frames::frame(frame));
