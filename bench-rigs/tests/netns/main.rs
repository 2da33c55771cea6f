//! The real daemon on real interfaces, in namespaces: three datapaths, direct and relayed, and all that a network
//! can do to them. Needs root; fails without it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod apply;
mod conversations;
mod frames;
mod home;
mod hostile;
mod information;
mod load;
mod measuring;
mod neighbours;
mod operation;
mod relays;
mod scene;
mod storms;
