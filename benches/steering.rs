//! How long the XDP program takes for a packet, as the kernel measures it (`BPF_PROG_TEST_RUN`). Needs root.

use std::{net::Ipv6Addr, time::Duration};

use benches::message::{Wish, octets};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portlease::{net::steer::Program, wire::checksum};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x547);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);

/// Packets in one call of the kernel.
const REPEAT: u32 = 10_000;

/// An Ethernet frame with a UDP segment, in VLANs or not.
fn frame(tags: &[u16], port: u16, message: &[u8]) -> Vec<u8> {
    let mut frame = [&MAC[..], &[2, 0, 0, 0, 0, 9]].concat();
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 42]);
    }
    let length = u16::try_from(message.len() + 8).unwrap_or(u16::MAX).to_be_bytes();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], 17, 64]);
    frame.extend(CLIENT.octets());
    frame.extend(SERVER.octets());
    let ports = [546_u16.to_be_bytes(), port.to_be_bytes()].concat();
    let mut segment = [&ports[..], &length, &[0, 0], message].concat();
    let sum = checksum::udp(CLIENT, SERVER, &segment).to_be_bytes();
    segment[6..8].copy_from_slice(&sum);
    frame.extend(segment);
    frame
}

fn steering(c: &mut Criterion) {
    let mut program = match Program::load() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("steering is not measured: {error}; run `sudo make bench` or be root");
            return;
        }
    };
    program.set_mac(MAC).and_then(|()| program.set_listen(&[SERVER])).expect("the program's maps");
    let direct = octets(1, Wish::Discover, false);
    let relayed = octets(1, Wish::Discover, true);
    let mut group = c.benchmark_group("steering");
    group.throughput(Throughput::Elements(1));
    for (name, frame) in [
        ("direct", frame(&[], 547, &direct)),
        ("relayed", frame(&[], 547, &relayed)),
        ("two tags", frame(&[0x88a8, 0x8100], 547, &direct)),
        ("another port", frame(&[], 443, &direct)),
    ] {
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                // The kernel tells the mean of so many runs.
                let (_, mean) = program.run(&frame, REPEAT).expect("a run");
                mean.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
                    .max(Duration::from_nanos(1))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = steering
}
criterion_main!(benches);
