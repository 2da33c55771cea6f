//! Our server and our client with software that others wrote: Kea, tshark, scapy, dhcproto; and two of our servers
//! beside each other. Real processes in namespaces. Needs root, and fails without anything that it needs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod beside;
mod cases;
mod decode;
mod dhcproto;
mod discovery;
mod heard;
mod information;
mod scapy;
mod scene;
mod servers;
mod softwire;
mod subscriber;
