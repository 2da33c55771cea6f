//! What can keep the client from running.

use std::{io, net::Ipv6Addr, path::PathBuf};

use super::{apply::ApplyError, servers_file::ServersFileError};
use crate::net::link::LinkError;

/// Why the client cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no such interface, or the kernel does not tell about it.
    #[error(transparent)]
    Interface(#[from] LinkError),
    /// The softwire or the script cannot be prepared.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Queries have no address to leave from.
    #[error("interface {interface}: no IPv6 address from which the servers can be asked")]
    NoSource {
        /// Its name.
        interface: String,
    },
    /// A socket cannot be bound: no privilege.
    #[error(
        "binding UDP port {port} of {address}: permission denied; ports below \
         net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE (run as root, or \
         `setcap cap_net_bind_service=+ep` the binary)"
    )]
    Privilege {
        /// The local address.
        address: Ipv6Addr,
        /// The local port.
        port: u16,
    },
    /// A socket cannot be bound: it is taken.
    #[error(
        "binding UDP port {port} of {address}: in use; another DHCPv6 client listens there \
         (`ss -ulpn 'sport = :{port}'` shows which). Let that one ask for option 88 and write the \
         addresses to a file for --servers-file, or name the servers with --server: queries to \
         addresses that are not link-local leave by another address"
    )]
    PortTaken {
        /// The local address.
        address: Ipv6Addr,
        /// The local port.
        port: u16,
    },
    /// A socket cannot be bound for another reason, or not be used.
    #[error("UDP port {port} of {address}: {source}")]
    Socket {
        /// The local address.
        address: Ipv6Addr,
        /// The local port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The state file cannot be read or written.
    #[error("state file {}: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The state file is not one.
    #[error(
        "state file {}: {reason}; remove it to start afresh, as another client to the server",
        path.display()
    )]
    StateContent {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// The file with the servers is not one.
    #[error("servers file {0}")]
    ServersFile(#[from] ServersFileError),
    /// Option 61 would be too short or too long.
    #[error("the {what} has {length} octets, expected {expected}")]
    IdentityLength {
        /// Which identity.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        expected: &'static str,
    },
    /// Signals or random numbers are not to be had.
    #[error("{what}: {source}")]
    System {
        /// What for.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// `--timeout` has passed.
    #[error("no lease within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: f64,
    },
}
