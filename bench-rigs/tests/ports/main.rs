//! The ports without the server: AF_XDP and UDP sockets on real interfaces, with a handler that mirrors. Needs root;
//! fails without it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod interfaces;
mod rig;
mod steering;
mod udp;
mod xdp;
