//! The real daemon on real interfaces, in namespaces: three datapaths, direct and relayed, and all that a network
//! can do to them. Needs root; fails without it.

mod conversations;
mod frames;
mod hostile;
mod neighbours;
mod operation;
mod scene;
