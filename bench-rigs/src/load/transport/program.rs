//! The XDP program of a load. It has two parts, told apart by the interface that a frame seems to come from:
//!
//! - What comes in at the load's interface: UDP datagrams over IPv6 to our port go to the AF_XDP socket of their queue,
//!   everything else to the kernel.
//! - Frames of the kernel's own ([`LiveFrames`](crate::sys::LiveFrames)), which seem to come from the loopback
//!   interface: each gets the length and the octets of the next slot of an array, and is redirected out of the load's
//!   interface.
//!
//! They are one program since the kernel knows a program that is on an interface, and runs it without first making
//! itself acquainted with it, which would take milliseconds each time.

/// What the program works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// The UDP port that datagrams come to.
    pub(super) port: u16,
    /// The map of sockets by queue.
    pub(super) sockets: i32,
    /// The array of frames to send, and the map that holds the interface; none: nothing is sent this way.
    pub(super) outlet: Option<(i32, i32)>,
}

/// Slots of the array, a power of two.
pub(super) const SLOTS: usize = 256;
/// Octets of a slot, as a power of two.
const SLOT_SHIFT: i32 = 11;
/// Octets of a slot. In its first four is the length of its frame.
pub(super) const SLOT_OCTETS: usize = 1 << SLOT_SHIFT;
/// Where the frame begins in its slot.
pub(super) const FRAME_AT: usize = 16;
/// Octets of a frame.
pub(super) const FRAME_OCTETS_MIN: usize = 60;
pub(super) const FRAME_OCTETS_MAX: usize = 1514;
/// Before the slots is as much room as a slot has: there stand the number of the next slot, and the octets that each
/// frame of the kernel's has at first.
pub(super) const NEXT_AT: usize = 0;
pub(super) const FIRST_OCTETS_AT: usize = 4;

// Operations.
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const ADD_REGISTER: u8 = 0x0f;
const SUBTRACT_REGISTER: u8 = 0x1f;
const AND: u8 = 0x57;
const SHIFT_LEFT: u8 = 0x67;
const LOAD_32: u8 = 0x61;
const LOAD_16: u8 = 0x69;
const LOAD_8: u8 = 0x71;
const STORE_32: u8 = 0x63;
const LOAD_64_IMMEDIATE: u8 = 0x18;
const JUMP_IF_GREATER: u8 = 0x2d;
const JUMP_IF_ABOVE: u8 = 0x25;
const JUMP_IF_BELOW: u8 = 0xa5;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// Marks an immediate value as the descriptor of a map (`BPF_PSEUDO_MAP_FD`).
const MAP: u8 = 1;
/// Marks it as that of a map whose only value is meant (`BPF_PSEUDO_MAP_VALUE`).
const MAP_VALUE: u8 = 2;

// Helpers, as the kernel numbers them.
const REDIRECT_MAP: i32 = 51;
const ADJUST_TAIL: i32 = 65;
const STORE_OCTETS: i32 = 190;

// Verdicts.
const DROP: i32 = 1;
const PASS: i32 = 2;

/// `struct xdp_md`: where the fields are that are read.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const INGRESS_INTERFACE: i16 = 12;
const QUEUE: i16 = 16;

/// The loopback interface has this number in every namespace.
const LOOPBACK: i32 = 1;

/// One instruction, as the kernel lays it out. `offset` counts instructions in jumps, octets in loads and stores.
fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(to & 15) << 8
        | u64::from(from & 15) << 12
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// The program.
pub(super) fn write(places: &Places) -> Vec<u64> {
    let steering = steer(places.port, places.sockets);
    let mut program = vec![instruction(COPY, 6, 1, 0, 0)];
    if let Some((array, device)) = places.outlet {
        let sending = send(array, device);
        program.push(instruction(LOAD_32, 1, 6, INGRESS_INTERFACE, 0));
        let beyond = i16::try_from(sending.len()).unwrap_or(i16::MAX);
        program.push(instruction(JUMP_UNLESS_EQUAL, 1, 0, beyond, LOOPBACK));
        program.extend(sending);
    }
    program.extend(steering);
    program
}

/// Gives datagrams to `port` to their queue's socket, and everything else to the kernel.
fn steer(port: u16, sockets: i32) -> [u64; 19] {
    // Loads give 16 bits in the machine's order, while the packet has them in the network's.
    let as_loaded = |value: u16| i32::from(value.to_be());
    [
        // r2 = data, r3 = data_end; both end of header and of packet are compared before any access.
        instruction(LOAD_32, 2, 6, DATA, 0),
        instruction(LOAD_32, 3, 6, DATA_END, 0),
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
        // Redirect to the socket of the queue; pass if the map has none.
        instruction(LOAD_64_IMMEDIATE, 1, MAP, 0, sockets),
        0,
        instruction(LOAD_32, 2, 6, QUEUE, 0),
        instruction(SET, 3, 0, 0, PASS),
        instruction(CALL, 0, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(SET, 0, 0, 0, PASS),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// Makes the frame in hand that of the next slot, and redirects it.
fn send(array: i32, device: i32) -> [u64; 33] {
    let at = |octets: usize| i16::try_from(octets).unwrap_or(i16::MAX);
    let value = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    [
        // r7 = the array, r8 = the number of the next slot, which is counted on.
        instruction(LOAD_64_IMMEDIATE, 7, MAP_VALUE, 0, array),
        0,
        instruction(LOAD_32, 8, 7, at(NEXT_AT), 0),
        instruction(COPY, 1, 8, 0, 0),
        instruction(ADD, 1, 0, 0, 1),
        instruction(STORE_32, 7, 1, at(NEXT_AT), 0),
        instruction(LOAD_32, 5, 7, at(FIRST_OCTETS_AT), 0),
        // r7 = the place of one slot less, r9 = the length of its frame.
        instruction(AND, 8, 0, 0, value(SLOTS - 1)),
        instruction(SHIFT_LEFT, 8, 0, 0, SLOT_SHIFT),
        instruction(ADD_REGISTER, 7, 8, 0, 0),
        instruction(LOAD_32, 9, 7, at(SLOT_OCTETS), 0),
        instruction(JUMP_IF_ABOVE, 9, 0, 19, value(FRAME_OCTETS_MAX)),
        instruction(JUMP_IF_BELOW, 9, 0, 18, value(FRAME_OCTETS_MIN)),
        // bpf_xdp_adjust_tail(context, length - octets at first)
        instruction(COPY, 1, 6, 0, 0),
        instruction(COPY, 2, 9, 0, 0),
        instruction(SUBTRACT_REGISTER, 2, 5, 0, 0),
        instruction(CALL, 0, 0, 0, ADJUST_TAIL),
        instruction(JUMP_UNLESS_EQUAL, 0, 0, 13, 0),
        // bpf_xdp_store_bytes(context, 0, frame, length)
        instruction(COPY, 1, 6, 0, 0),
        instruction(SET, 2, 0, 0, 0),
        instruction(COPY, 3, 7, 0, 0),
        instruction(ADD, 3, 0, 0, value(SLOT_OCTETS + FRAME_AT)),
        instruction(COPY, 4, 9, 0, 0),
        instruction(CALL, 0, 0, 0, STORE_OCTETS),
        instruction(JUMP_UNLESS_EQUAL, 0, 0, 6, 0),
        // bpf_redirect_map(device, 0, 0)
        instruction(LOAD_64_IMMEDIATE, 1, MAP, 0, device),
        0,
        instruction(SET, 2, 0, 0, 0),
        instruction(SET, 3, 0, 0, 0),
        instruction(CALL, 0, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(SET, 0, 0, 0, DROP),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}
