//! The XDP program: gives the server's packets to the AF_XDP socket of their queue, and counts.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{Array, HashMap, PerCpuArray, XskMap},
    programs::XdpContext,
};
use xdp_ebpf::{
    Counter, LISTEN_MAX, QUEUES_MAX,
    classify::{Cursor, Site, Verdict, classify},
};

#[map]
static SOCKETS: XskMap = XskMap::with_max_entries(QUEUES_MAX, 0);
#[map]
static LISTEN: HashMap<[u8; 16], u8> = HashMap::with_max_entries(LISTEN_MAX, 0);
#[map]
static INTERFACE: Array<[u8; 8]> = Array::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// Declared as the kernel knows it; no helper that we call demands it.
// SAFETY: the loader looks for a section of this name, and nothing else in the object has it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

struct Packet {
    start: usize,
    end: usize,
}

impl Cursor for Packet {
    #[inline(always)]
    fn octets<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        const { assert!(N > 1) }
        let from = self.start + at;
        if from + N > self.end {
            return None;
        }
        // SAFETY: the octets lie between the packet's start and end, as the verifier checks too; an array of
        // octets needs no alignment.
        Some(unsafe { *(from as *const [u8; N]) })
    }
}

struct Maps;

impl Site for Maps {
    #[inline(always)]
    fn mac(&self) -> [u8; 6] {
        match INTERFACE.get(0) {
            Some(&[a, b, c, d, e, f, _, _]) => [a, b, c, d, e, f],
            None => [0; 6],
        }
    }

    #[inline(always)]
    fn listens(&self, address: &[u8; 16]) -> bool {
        // SAFETY: the value is not looked at, so it does not matter that it may change meanwhile.
        unsafe { LISTEN.get(address) }.is_some()
    }
}

/// Entry point.
#[xdp]
fn steer(context: XdpContext) -> u32 {
    let packet = Packet { start: context.data(), end: context.data_end() };
    let (action, counter) = match classify(&packet, &Maps) {
        Verdict::Pass(counter) => (xdp_action::XDP_PASS, counter),
        Verdict::Take => {
            // SAFETY: the kernel gives a valid context for as long as the program runs.
            let queue = unsafe { (*context.ctx).rx_queue_index };
            match SOCKETS.redirect(queue, u64::from(xdp_action::XDP_PASS)) {
                Ok(action) => (action, Counter::Steered),
                Err(action) => (action, Counter::NoSocket),
            }
        }
    };
    count(counter);
    action
}

#[inline(always)]
fn count(counter: Counter) {
    if let Some(total) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the element is this CPU's own, and the program is not preempted by itself on one CPU.
        unsafe { *total += 1 };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the verifier accepts no path into a loop without end.
    loop {}
}
