//! The client's state machine and the server's engine talk to each other, in virtual time: what each is tested for
//! alone must also fit together.
#![expect(clippy::unwrap_used, reason = "a test says with a panic that it fails")]

#[path = "../common/mod.rs"]
mod common;
mod stories;
mod weather;
mod world;
