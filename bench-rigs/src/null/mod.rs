//! Servers that do next to nothing, over the datapath of the real one: what they reach, no server on it can exceed.
//!
//! [`Fixed`] answers every DISCOVER and REQUEST from a template, without a policy, a lease or a log. [`Mirror`] sends
//! every datagram back as it came.

mod answer;
mod echo;
mod serve;

pub use answer::Fixed;
pub use echo::{Bounce, Mirror, bounce};
pub use serve::{Datapath, Setup, run};
