//! The examples do what they say.

mod common;

#[path = "../examples/client_machine.rs"]
#[expect(dead_code, reason = "its main writes to standard output")]
mod client_machine;

#[path = "../examples/client_udp.rs"]
#[expect(dead_code, reason = "its main reads the command line")]
mod client_udp;

use std::{
    net::{Ipv6Addr, UdpSocket},
    thread,
    time::Duration,
};

use common::Server;
use portlease::{
    engine::policy::{Match, Prefix},
    lease::key::LinkId,
};

#[test]
fn the_machines_converse_for_half_an_hour_in_a_moment() {
    let mut out = Vec::new();
    client_machine::converse(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let words =
        ["asks the link", "told to ask 2001:db8:ffff::547", "obtained", "renewed", "gave back"];
    let places: Vec<_> = words.iter().map(|word| text.find(word).expect(word)).collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(text.matches("obtained 192.0.2.18 PSID").count(), 1, "{text}");
}

#[test]
fn a_client_over_a_real_socket_obtains_and_gives_back() {
    let server = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = server.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let everybody = Match {
            source: Some(Prefix { address: Ipv6Addr::UNSPECIFIED, length: 0 }),
            ..Match::default()
        };
        let mut engine = Server::with(|policy| policy.matches.push((everybody, LinkId(0))));
        let mut buffer = [0; 2048];
        // DISCOVER, REQUEST and RELEASE.
        for _ in 0..3 {
            let (length, peer) = server.recv_from(&mut buffer).unwrap();
            let answer = engine.deliver(&buffer[..length], Ipv6Addr::LOCALHOST);
            if let common::Answer::Reply(reply) = answer {
                server.send_to(&reply.octets, peer).unwrap();
            }
        }
        engine.active()
    });
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    socket.connect(address).unwrap();
    let mut out = Vec::new();
    client_udp::converse(&socket, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("obtained 192.0.2.1") && text.contains(": Released"), "{text}");
    assert_eq!(text.matches("\n  ports ").count(), 1, "one range: {text}");
    assert_eq!(serving.join().unwrap(), 0, "nothing is leased any more");
}
