//! The other side of the conversation: a client that obtains, keeps and releases a shared IPv4 address
//! (RFC 7618) over DHCPv4-over-DHCPv6 (RFC 7341).
//!
//! [`machine`] is the protocol without I/O: events go in, actions come out, time is a number. Everything that
//! touches the world stands around it: [`run`] has the loop, and the files below it know interfaces, sockets,
//! the state file and the output.

mod answers;
pub mod apply;
pub mod choose;
pub mod discovery;
pub mod error;
mod events;
mod identify;
pub mod identity;
pub mod lease;
pub mod machine;
pub mod messages;
pub mod options;
mod output;
mod phase;
pub mod received;
pub mod replies;
pub mod run;
pub mod servers;
pub mod servers_file;
pub mod session;
mod sockets;
pub mod softwire;
mod state;
pub mod timers;

#[cfg(test)]
mod tests;
