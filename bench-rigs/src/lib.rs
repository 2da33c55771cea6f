//! Rigs: the real daemon on real (veth) interfaces, in namespaces that clean up after themselves.
//!
//! - [`netns`], [`veth`], [`lan`], [`daemon`]: guards. What they make goes away when they are dropped, also in a panic;
//!   what a killed run left behind goes away when the next one starts.
//! - [`message`], [`exchange`]: one simulated client, for tests that look at single messages.
//! - [`frame`]: raw Ethernet frames, for what no socket would send.
//! - [`load`]: very many simulated clients, which remember every ACK: `perf4o6` and the crash rig.
//! - [`scene`], [`subscriber`], [`heard`]: a link with servers, `portlease client` as a process, what they said.
//! - [`relay`]: a DHCPv6 relay agent (RFC 8415 §19).
//! - [`plot`]: line charts as SVG.
//! - [`capture`], [`pcap`]: what crosses an interface, with the DHCPv4 messages laid bare. [`kea`]: another server.
//!
//! Everything here needs root and the tools `ip` and `ethtool`. All `unsafe` code is in [`sys`].

pub mod bars;
pub mod capture;
pub mod crash;
pub mod daemon;
pub mod error;
pub mod exchange;
pub mod frame;
pub mod heard;
pub mod interrupt;
pub mod kea;
pub mod lan;
pub mod load;
pub mod message;
pub mod netns;
pub mod null;
pub mod pcap;
pub mod plot;
pub mod relay;
pub mod restart;
pub mod rig;
pub mod scene;
pub mod shell;
pub mod stage;
pub mod store;
pub mod subscriber;
pub mod sys;
pub mod veth;
