//! The load's XDP program on its interface, with what the program works on.

use std::os::fd::{AsFd as _, BorrowedFd};

use super::{
    live::Outlet,
    program::{self, Places},
};
use crate::{
    error::{Doing as _, Result},
    sys::{self, SocketMap, XdpFlags, XdpLink},
};

/// The program on its interface with its map of sockets.
#[derive(Debug)]
pub(super) struct Steering {
    // First, so that the program is off the interface before its map is closed.
    _link: XdpLink,
    sockets: SocketMap,
}

impl Steering {
    /// Attaches it for datagrams to `port`. Until [`admit`](Self::admit) everything of a queue passes. With an outlet,
    /// it also sends.
    pub(super) fn attach(
        interface: &str,
        port: u16,
        queues: u32,
        flags: XdpFlags,
        outlet: Option<&mut Outlet>,
    ) -> Result<Self> {
        let sockets = SocketMap::new(queues).doing("make a map of AF_XDP sockets")?;
        let places = Places {
            port,
            sockets: sockets.number(),
            outlet: outlet.as_deref().map(Outlet::numbers),
        };
        let program = sys::load_xdp(&program::write(&places)).doing("load an XDP program")?;
        let link = XdpLink::attach(interface, program.as_fd(), flags)
            .doing(format_args!("attach an XDP program to {interface}"))?;
        if let Some(outlet) = outlet {
            outlet.run_by(program);
        }
        Ok(Self { _link: link, sockets })
    }

    /// Gives the datagrams of a queue to a socket.
    pub(super) fn admit(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<()> {
        self.sockets.set(queue, socket).doing(format_args!("steer queue {queue} to its socket"))
    }
}
