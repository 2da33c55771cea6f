//! The XDP program of a load: it gives UDP datagrams over IPv6 to one port to the AF_XDP socket of their queue, and
//! everything else to the kernel.

use std::os::fd::BorrowedFd;

use crate::{
    error::{Doing as _, Result},
    sys::{SocketMap, XdpFlags, XdpProgram},
};

/// `XDP_PASS`.
const PASS: i32 = 2;
/// `bpf_redirect_map` among the kernel's helpers.
const REDIRECT_MAP: i32 = 51;
/// Marks an immediate value as the descriptor of a map (`BPF_PSEUDO_MAP_FD`).
const MAP: u8 = 1;

/// The program on its interface with its map of sockets.
#[derive(Debug)]
pub(super) struct Steering {
    // First, so that the program is off the interface before its map is closed.
    _program: XdpProgram,
    sockets: SocketMap,
}

impl Steering {
    /// Attaches it for datagrams to `port`. Until [`admit`](Self::admit) everything of a queue passes.
    pub(super) fn attach(interface: &str, port: u16, queues: u32, flags: XdpFlags) -> Result<Self> {
        let sockets = SocketMap::new(queues).doing("make a map of AF_XDP sockets")?;
        let program = XdpProgram::attach(interface, &program(port, sockets.number()), flags)
            .doing(format_args!("attach an XDP program to {interface}"))?;
        Ok(Self { _program: program, sockets })
    }

    /// Gives the datagrams of a queue to a socket.
    pub(super) fn admit(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<()> {
        self.sockets.set(queue, socket).doing(format_args!("steer queue {queue} to its socket"))
    }
}

/// One instruction of eBPF, as the kernel lays it out.
fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(to & 15) << 8
        | u64::from(from & 15) << 12
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// The program for this UDP destination port and this map.
fn program(port: u16, map: i32) -> [u64; 20] {
    const COPY: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const ADD: u8 = 0x07;
    const LOAD_32: u8 = 0x61;
    const LOAD_16: u8 = 0x69;
    const LOAD_8: u8 = 0x71;
    const LOAD_64_IMMEDIATE: u8 = 0x18;
    const JUMP_IF_GREATER: u8 = 0x2d;
    const JUMP_UNLESS_EQUAL: u8 = 0x55;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    // Loads give 16 bits in the machine's order, while the packet has them in the network's.
    let as_loaded = |value: u16| i32::from(value.to_be());
    [
        instruction(COPY, 6, 1, 0, 0),
        // r2 = data, r3 = data_end; both end of header and of packet are compared before any access.
        instruction(LOAD_32, 2, 1, 0, 0),
        instruction(LOAD_32, 3, 1, 4, 0),
        instruction(COPY, 4, 2, 0, 0),
        instruction(ADD, 4, 0, 0, 62),
        instruction(JUMP_IF_GREATER, 4, 3, 12, 0),
        // EtherType, next header, UDP destination port.
        instruction(LOAD_16, 5, 2, 12, 0),
        instruction(JUMP_UNLESS_EQUAL, 5, 0, 10, as_loaded(0x86dd)),
        instruction(LOAD_8, 5, 2, 20, 0),
        instruction(JUMP_UNLESS_EQUAL, 5, 0, 8, 17),
        instruction(LOAD_16, 5, 2, 56, 0),
        instruction(JUMP_UNLESS_EQUAL, 5, 0, 6, as_loaded(port)),
        // Redirect to the socket of ctx->rx_queue_index; pass if the map has none.
        instruction(LOAD_64_IMMEDIATE, 1, MAP, 0, map),
        0,
        instruction(LOAD_32, 2, 6, 16, 0),
        instruction(SET, 3, 0, 0, PASS),
        instruction(CALL, 0, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(SET, 0, 0, 0, PASS),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}
