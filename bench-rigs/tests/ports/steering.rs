//! What is steered, what is left alone, and what remains after us.

use std::{
    io::{BufRead, BufReader, Read},
    net::{Ipv6Addr, UdpSocket},
    process::Stdio,
    time::Instant,
};

use bench_rigs::stage::{CLIENT, LINK, SERVER, SERVER_INTERFACE, Stage};
use portlease::{
    net::{
        link::Facts,
        steer::{Mode, SteerError, Steering},
        udp::Membership,
    },
    wire::{dhcpv6::ALL_RELAYS_AND_SERVERS, writer::Writer},
};

use crate::rig::{PATIENCE, SILENCE, Station, XdpRig, facts, frame, to_group};

const SOLICIT: &[u8] = &[1, 0xaa, 0xbb, 0xcc, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 9];

/// An address of the server's host on which we do not listen.
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x99);

/// `message` in a Relay-forward.
fn relayed(message: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut w = Writer::new(&mut buffer);
    w.bytes(&[12, 0]);
    w.bytes(&LINK.octets());
    w.bytes(&CLIENT.octets());
    portlease::wire::dhcpv6::put_option(&mut w, 18, b"port 1");
    portlease::wire::dhcpv6::put_option(&mut w, 9, message);
    let length = w.finish().unwrap();
    buffer[..length].to_vec()
}

#[test]
fn other_programs_of_the_host_get_what_is_theirs_and_nothing_of_ours() {
    for mode in [Mode::Native, Mode::Generic] {
        let stage = Stage::new(1).unwrap();
        stage.server_end().add_address(&format!("{OTHER}/64")).unwrap();
        let mut rig = XdpRig::new(&stage, mode);
        let facts = facts(&stage);
        let _membership = stage.server.enter(|| Membership::join(&facts)).unwrap().unwrap();
        let listener = stage.server.enter(|| UdpSocket::bind(("::", 547)).unwrap()).unwrap();
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        let station = Station::new(&stage);

        let mut theirs = Vec::new();
        for payload in [SOLICIT.to_vec(), relayed(SOLICIT), relayed(&relayed(SOLICIT))] {
            for mut asked in [frame(b""), to_group(b"", ALL_RELAYS_AND_SERVERS)] {
                asked.payload.clone_from(&payload);
                theirs.push(asked);
            }
        }
        let mut elsewhere = frame(b"a query to another address of this host");
        elsewhere.destination = OTHER;
        theirs.push(elsewhere);
        for asked in &theirs {
            station.send(asked);
            let mut buffer = [0; 1_500];
            let (length, from) = listener.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], asked.payload);
            assert_eq!(from.ip(), asked.source);
        }
        assert!(rig.mirror.seen.is_empty());

        let ours = [
            frame(b"to the server").payload,
            relayed(&frame(b"relayed").payload),
            relayed(&relayed(&frame(b"relayed twice").payload)),
        ];
        for payload in &ours {
            for mut asked in [frame(b""), to_group(b"", ALL_RELAYS_AND_SERVERS)] {
                asked.payload.clone_from(payload);
                station.send(&asked);
            }
        }
        rig.serve(2 * ours.len());
        listener.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(listener.recv_from(&mut [0; 16]).is_err());
    }
}

#[test]
fn a_program_that_is_there_already_is_left_alone_and_named() {
    let stage = Stage::new(1).unwrap();
    let facts = facts(&stage);
    for first in [Mode::Native, Mode::Generic] {
        stage
            .server
            .enter(|| {
                let owner = Steering::attach(&facts, &[SERVER], &[first]).unwrap();
                for modes in [&[Mode::Native, Mode::Generic][..], &[Mode::Generic]] {
                    let Err(error) = Steering::attach(&facts, &[SERVER], modes) else {
                        panic!("two programs on one interface");
                    };
                    assert!(matches!(error, SteerError::ForeignProgram { .. }), "{error}");
                    assert!(error.to_string().contains(SERVER_INTERFACE), "{error}");
                }
                drop(owner);
                Steering::attach(&facts, &[SERVER], &[first]).unwrap();
            })
            .unwrap();
    }
}

#[test]
fn an_interface_without_native_mode_is_steered_in_generic_mode() {
    // veth takes no program in its driver while its peer has more transmit queues than it has receive queues.
    let stage = Stage::new(1).unwrap();
    let shape = "link add plodd numrxqueues 1 numtxqueues 1 type veth peer name plpeer numrxqueues 4 numtxqueues 4";
    stage.server.ip(shape).unwrap();
    stage.server.ip("link set plpeer up").unwrap();
    stage.server.ip("link set plodd up").unwrap();
    stage
        .server
        .enter(|| {
            let facts = Facts::read("plodd").unwrap();
            let modes = [Mode::Native, Mode::Generic];
            let steering = Steering::attach(&facts, &[SERVER], &modes).unwrap();
            assert_eq!(steering.mode(), Mode::Generic);
            assert!(matches!(
                steering.fallbacks(),
                [SteerError::Unsupported { mode: Mode::Native, .. }]
            ));
        })
        .unwrap();
}

/// Whether a program is attached to the served interface.
fn is_attached(stage: &Stage) -> bool {
    stage.server.ip(&format!("link show dev {SERVER_INTERFACE}")).unwrap().contains("prog/xdp")
}

/// Set for the process that [`the_program_goes_with_its_process`] starts.
const HOLDER: &str = "PORTS_TEST_HOLDER";

#[test]
fn hold_the_program_until_killed() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    let facts = Facts::read(SERVER_INTERFACE).unwrap();
    let _steering = Steering::attach(&facts, &[SERVER], &[Mode::Native]).unwrap();
    println!("attached");
    // Until whoever waits for us is gone, or we are.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn the_program_goes_with_its_process() {
    let stage = Stage::new(1).unwrap();
    assert!(!is_attached(&stage));
    let mut command = stage.server.command(std::env::current_exe().unwrap());
    command.args(["--exact", "steering::hold_the_program_until_killed", "--nocapture"]);
    command.env(HOLDER, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().unwrap();
    let output = BufReader::new(holder.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line.ends_with("attached")));
    assert!(is_attached(&stage));
    // SIGKILL. `ip netns exec` has become the program.
    holder.kill().unwrap();
    holder.wait().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while is_attached(&stage) {
        assert!(Instant::now() < deadline, "the program is still attached");
    }
    // Nothing is in the way of the next one.
    let facts = facts(&stage);
    stage
        .server
        .enter(|| {
            let steering = Steering::attach(&facts, &[SERVER], &[Mode::Native]).unwrap();
            assert!(is_attached(&stage));
            drop(steering);
        })
        .unwrap();
    assert!(!is_attached(&stage));
}
