//! The committed XDP object in the kernel, against `classify` on the host: same frames, same verdicts, same counters.
//!
//! Needs root (`CAP_BPF`, `CAP_NET_ADMIN`) and no network interface. Without the privilege it fails.
#![cfg(feature = "xdp")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on stops")]

use std::{collections::HashSet, net::Ipv6Addr};

use caps::{CapSet, Capability};
use portlease::{
    net::steer::Program,
    wire::{
        checksum,
        dhcpv6::{self, RelayForward},
        writer::Writer,
    },
};
use xdp_ebpf::{
    Counter,
    classify::{Site, Verdict, classify},
};

#[path = "vectors/mod.rs"]
mod vectors;

const XDP_PASS: u32 = 2;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0, 1, 0, 2];
const SERVERS: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x547),
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
];
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// `BPF_PROG_TEST_RUN` takes no frame that is shorter than an Ethernet header or does not fit a page.
const FRAME_LENGTHS: std::ops::RangeInclusive<usize> = 14..=3_000;

struct Here;

impl Site for Here {
    fn mac(&self) -> [u8; 6] {
        MAC
    }
    fn listens(&self, address: &[u8; 16]) -> bool {
        SERVERS.contains(&(*address).into())
    }
}

fn loaded() -> Program {
    let mut program = Program::load().unwrap_or_else(|error| panic!("{error}"));
    program.set_mac(MAC).unwrap();
    // Set twice, so that what is taken back is gone.
    program.set_listen(&[CLIENT, SERVERS[1]]).unwrap();
    program.set_listen(&SERVERS).unwrap();
    program
}

/// An Ethernet frame around `message`.
fn frame(mac: [u8; 6], tags: &[u16], destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut frame = [&mac[..], &[2, 0, 0, 0, 0, 9]].concat();
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 42]);
    }
    let length = u16::try_from(message.len() + 8).unwrap().to_be_bytes();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], 17, 64]);
    frame.extend(CLIENT.octets());
    frame.extend(destination.octets());
    let mut segment = [&[2, 34, 2, 35][..], &length, &[0, 0], message].concat();
    let sum = checksum::udp(CLIENT, destination, &segment).to_be_bytes();
    segment[6..8].copy_from_slice(&sum);
    frame.extend(segment);
    frame
}

/// `message` inside `levels` Relay-forwards, each with `before` options in front of the Relay Message option.
fn relayed(message: &[u8], levels: usize, before: usize) -> Vec<u8> {
    (0..levels).fold(message.to_vec(), |message, level| {
        let mut buffer = vec![0; message.len() + 64 + before * 12];
        let mut w = Writer::new(&mut buffer);
        w.u8(12);
        w.u8(u8::try_from(level).unwrap_or(u8::MAX));
        w.bytes(&SERVERS[0].octets());
        w.bytes(&CLIENT.octets());
        for _ in 0..before {
            dhcpv6::put_option(&mut w, 18, b"port 17");
        }
        dhcpv6::put_option(&mut w, 9, &message);
        let length = w.finish().unwrap();
        buffer.truncate(length);
        buffer
    })
}

/// A loaded program, and what its counters must read.
struct Bench {
    program: Program,
    expected: [u64; Counter::COUNT as usize],
}

impl Bench {
    fn new() -> Self {
        Self { program: loaded(), expected: [0; Counter::COUNT as usize] }
    }

    /// Runs `frame` in the kernel and on the host and compares. Returns the verdict.
    fn compare(&mut self, frame: &[u8]) -> Verdict {
        let verdict = classify(frame, &Here);
        // No queue has a socket, so what is taken falls through to the kernel too, and is counted as that.
        let counter = match verdict {
            Verdict::Take => Counter::NoSocket,
            Verdict::Pass(counter) => counter,
        };
        self.expected[counter as usize] += 1;
        let (action, _) = self.program.run(frame, 1).unwrap_or_else(|error| panic!("{error}"));
        let total = self.program.total(counter).unwrap();
        let expected = self.expected[counter as usize];
        assert_eq!((action, total), (XDP_PASS, expected), "{verdict:?} of {frame:02x?}");
        verdict
    }

    /// That no other counter has moved meanwhile.
    fn check_totals(&self) {
        let totals = self.program.totals().unwrap();
        assert_eq!(Counter::ALL.map(|counter| totals.get(counter)), self.expected);
    }
}

fn any_message(rng: &mut fastrand::Rng) -> Vec<u8> {
    let (_, vector) = vectors::ALL[rng.usize(..vectors::ALL.len())];
    let innermost = match rng.u8(..8) {
        0 => (0..rng.usize(..80)).map(|_| rng.u8(..)).collect(),
        1 => vec![1, 0, 0, 1, 0, 1, 0, 4, 1, 2, 3, 4],
        2 => vec![20, 0, 0, 0],
        _ => vectors::octets(vector),
    };
    match rng.u8(..4) {
        0 => innermost,
        1 => relayed(&innermost, rng.usize(..40), 0),
        2 => relayed(&innermost, 1, rng.usize(..100)),
        _ => relayed(&innermost, rng.usize(..9), rng.usize(..13)),
    }
}

fn any_frame(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mac = match rng.u8(..16) {
        0 => [2, 0, 0, 0, 0, 2],
        1..6 => GROUP_MAC,
        _ => MAC,
    };
    let destinations =
        [SERVERS[0], SERVERS[1], dhcpv6::ALL_RELAYS_AND_SERVERS, dhcpv6::ALL_SERVERS, CLIENT];
    let count = rng.choice([0, 0, 0, 0, 1, 1, 2, 3]).unwrap();
    let tags: Vec<u16> = (0..count).map(|_| rng.choice([0x8100, 0x88a8]).unwrap()).collect();
    let mut message = any_message(rng);
    message.truncate(2_800);
    let destination = rng.choice(destinations).unwrap();
    let mut frame = frame(mac, &tags, destination, &message);
    // Hostile: a few octets replaced, mostly where lengths and types are; or cut; or padded.
    for _ in 0..rng.choice([0, 0, 0, 1, 2, 5]).unwrap() {
        let at = rng.usize(..frame.len());
        frame[at] = *rng.choice(&[0, 1, 9, 12, 20, 0xff]).unwrap();
    }
    match rng.u8(..8) {
        0 => frame.truncate(rng.usize(14..frame.len().max(15))),
        1 => frame.extend(std::iter::repeat_n(0, rng.usize(..64))),
        _ => {}
    }
    frame.resize(frame.len().clamp(*FRAME_LENGTHS.start(), *FRAME_LENGTHS.end()), 0);
    frame
}

#[test]
fn kernel_and_host_agree_on_anything() {
    let mut bench = Bench::new();
    let mut rng = fastrand::Rng::with_seed(7618);
    for _ in 0..24_000 {
        bench.compare(&any_frame(&mut rng));
    }
    for _ in 0..4_000 {
        let length = rng.usize(FRAME_LENGTHS);
        let mut noise: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
        if rng.bool() {
            noise[..6].copy_from_slice(&MAC);
        }
        bench.compare(&noise);
    }
    bench.check_totals();
    // The frames above must have met every fate, or they prove little. No queue had a socket.
    for counter in Counter::ALL.into_iter().filter(|&counter| counter != Counter::Steered) {
        let times = bench.expected[counter as usize];
        assert!(times > 20, "only {times} x {}", counter.name());
    }
}

#[test]
fn the_reference_messages_go_where_they_belong() {
    let mut bench = Bench::new();
    for (name, hex) in vectors::ALL {
        let message = vectors::octets(hex);
        let expected = match message[0] {
            12 | 20 => Verdict::Take,
            _ => Verdict::Pass(Counter::NotQuery),
        };
        for destination in [SERVERS[0], dhcpv6::ALL_RELAYS_AND_SERVERS, dhcpv6::ALL_SERVERS] {
            for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
                let frame = frame(MAC, tags, destination, &message);
                assert_eq!(bench.compare(&frame), expected, "{name}");
            }
        }
    }
}

#[test]
fn the_kernel_follows_relays_as_deep_as_promised() {
    let mut bench = Bench::new();
    for (innermost, expected) in [
        (&[20, 0, 0, 0, 0, 87, 0, 0][..], Verdict::Take),
        (&[1, 0, 0, 1, 0, 1, 0, 0], Verdict::Pass(Counter::NotQuery)),
    ] {
        for levels in 0..=8 {
            for before in 0..=8 {
                let message = relayed(innermost, levels, before);
                let frame = frame(MAC, &[0x88a8, 0x8100], SERVERS[0], &message);
                let verdict = bench.compare(&frame);
                assert_eq!(verdict, expected, "{levels} levels of {before} options");
            }
        }
    }
    // What relays of the wire layer build is what relays build.
    let relay = RelayForward {
        hop_count: 0,
        link_address: SERVERS[0],
        peer_address: CLIENT,
        interface_id: Some(b"1/2"),
        remote_id: Some(b"\0\0\0\x09x"),
        client_link_layer: None,
    };
    let mut buffer = [0; 1_500];
    let mut w = Writer::new(&mut buffer);
    let envelope = dhcpv6::begin_relayed_query(&mut w, &[relay, relay, relay, relay], true);
    w.zeros(240);
    envelope.finish(&mut w);
    let length = w.finish().unwrap();
    let frame = frame(MAC, &[], SERVERS[1], &buffer[..length]);
    assert_eq!(bench.compare(&frame), Verdict::Take);
}

#[test]
fn the_capabilities_that_are_named_are_needed_and_enough() {
    const ENOUGH: [Capability; 3] =
        [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN];
    let load_with = |capabilities: &'static [Capability]| {
        let load = move || {
            let kept: HashSet<Capability> = capabilities.iter().copied().collect();
            caps::set(None, CapSet::Effective, &kept).unwrap();
            Program::load().map(drop)
        };
        // Capabilities are a thread's own.
        std::thread::spawn(load).join().unwrap()
    };
    load_with(&ENOUGH).unwrap();
    for (missing, kept) in [
        ("CAP_NET_ADMIN", &ENOUGH[..2]),
        ("CAP_BPF", &ENOUGH[1..]),
        ("CAP_PERFMON", &[Capability::CAP_BPF, Capability::CAP_NET_ADMIN]),
    ] {
        let error = load_with(kept).unwrap_err().to_string();
        assert!(error.contains("not permitted") && error.contains(missing), "{missing}: {error}");
    }
}
