//! portlease: dynamic allocation of shared IPv4 addresses (RFC 7618) over DHCPv4-over-DHCPv6 (RFC 7341).
//!
//! The layers, top to bottom. A module uses only what stands below it; `tests/tidy.rs` keeps it so:
//! `server → net, journal, engine → lease → wire`.
//!
//! - [`server`]: threads, configuration, the operator.
//! - [`client`]: the other side of the conversation, a state machine and its sockets.
//! - [`net`]: the world: AF_XDP, UDP sockets, interfaces. All `unsafe` code is here, but for hints about memory.
//! - [`journal`]: makes promises durable before they leave.
//! - [`engine`]: decides; one pure function from datagram to verdict.
//! - [`lease`]: who holds what: lock-free bitmaps of port sets and sharded bindings.
//! - [`wire`]: octets to values and back.

// The product reports, counts or aborts by decision; it never panics by accident. Tests may.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

#[cfg(not(feature = "loom"))]
pub mod client;
pub mod engine;
pub mod journal;
pub mod lease;
mod memory;
#[cfg(not(feature = "loom"))]
pub mod net;
#[cfg(not(feature = "loom"))]
pub mod server;
mod sync;
pub mod wire;
