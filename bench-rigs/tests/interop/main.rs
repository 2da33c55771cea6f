//! Our server and our client with software that others wrote: Kea, tshark, scapy, dhcproto; and two of our servers
//! beside each other. Real processes in namespaces. Needs root, and fails without anything that it needs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod beside;
mod decode;
mod dhcproto;
mod discovery;
mod information;
mod scapy;
mod servers;
mod softwire;

use bench_rigs::{heard, scene, subscriber};
