//! A client made of scapy's encoders against the daemon, direct and through relays; scapy reads the answers.

use std::{net::Ipv4Addr, path::Path};

use bench_rigs::shell;
use portlease::wire::portparams::PortParams;
use serde::Deserialize;

use crate::scene::{CLIENT_AT, ONE, ONE_AT, SHARED, Scene};

/// Debian's own interpreter, which Debian's scapy is for.
pub const PYTHON: &str = "/usr/bin/python3";

/// What scapy reads of an answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Answer {
    kind: u8,
    ciaddr: Ipv4Addr,
    yiaddr: Ipv4Addr,
    server: Ipv4Addr,
    lease: u32,
    times: [u32; 2],
    same_identifier: bool,
    same_hardware: bool,
    ports: [u8; 4],
    /// Hop count, link-address, peer-address and Interface-Id of each level, the outermost first.
    relays: Vec<(u8, String, String, Option<String>)>,
}

const OFFER: u8 = 2;
const ACK: u8 = 5;

fn converse(path: &str) -> Vec<Answer> {
    let mut scene = Scene::new().unwrap();
    let ours = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let before = ours.daemon.counters().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/scapy_client.py");
    let mut command = scene.client.namespace.command(PYTHON);
    command.arg(script).args([CLIENT_AT.to_string(), ONE_AT.to_string(), path.to_owned()]);
    let output = shell::output_of(command).unwrap();
    let answers = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ours.silences(&before).unwrap(), [], "every message of scapy's is understood");
    answers
}

/// DORA, renewal, rebinding, RELEASE, DORA: what scapy read of the answers is what we meant.
fn check(answers: &[Answer]) {
    let kinds: Vec<_> = answers.iter().map(|answer| answer.kind).collect();
    assert_eq!(kinds, [OFFER, ACK, ACK, ACK, OFFER, ACK]);
    let address = answers[0].yiaddr;
    assert!(["192.0.2.18", "192.0.2.19"].contains(&address.to_string().as_str()));
    let content = answers[0].ports;
    let ports = PortParams::decode(content).expect("option 159");
    assert_eq!((ports.offset, ports.psid_length), (0, 6));
    assert!(ports.psid > 0);
    for (number, answer) in answers.iter().enumerate() {
        // After its RELEASE the client gets what it had.
        assert_eq!((answer.yiaddr, answer.ports), (address, content), "answer {number}");
        let in_use = [2, 3].contains(&number);
        assert_eq!(answer.ciaddr, if in_use { address } else { Ipv4Addr::UNSPECIFIED });
        assert_eq!(answer.server, ONE);
        // An early renewal does not make a lease longer; whole seconds may have passed by then.
        let lease = answer.lease;
        assert!(
            (if in_use { 3590 } else { 3600 }..=3600).contains(&lease),
            "answer {number}: {lease}"
        );
        assert_eq!(answer.times, [lease / 2, lease * 7 / 8], "answer {number}");
        assert!(answer.same_identifier && answer.same_hardware, "answer {number}: {answer:?}");
    }
}

#[test]
fn scapy_obtains_renews_and_releases() {
    let answers = converse("direct");
    check(&answers);
    assert!(answers.iter().all(|answer| answer.relays.is_empty()));
}

#[test]
fn scapy_does_so_through_two_relays() {
    let answers = converse("relayed");
    check(&answers);
    let outer = (1, "::".to_owned(), "2001:db8:1::b".to_owned(), None);
    let inner =
        (0, "2001:db8:1::1".to_owned(), "fe80::2a".to_owned(), Some("ge-0/0/1.100".to_owned()));
    for answer in answers {
        assert_eq!(answer.relays, [outer.clone(), inner.clone()]);
    }
}
