//! Decisions: one function from datagram to verdict, and one file a message.

pub mod choose;
pub mod policy;
pub mod reason;
pub mod times;
