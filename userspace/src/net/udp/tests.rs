//! The UDP port on the loopback interface.

use std::{
    net::{SocketAddrV6, UdpSocket},
    time::Duration,
};

use super::*;

/// Answers with the payload reversed; parks what begins with `p`, discards what begins with `d`.
#[derive(Default)]
struct Mirror {
    parked: Vec<UdpReply>,
    seen: Vec<(Ipv6Addr, u16, Ipv6Addr, usize)>,
}

impl Handler<UdpReply> for Mirror {
    type Reading<'a> = Datagram<'a>;

    fn read<'a>(&self, datagram: &Datagram<'a>, reading: &mut Datagram<'a>) {
        *reading = *datagram;
    }

    fn approach(&self, _datagram: &Datagram<'_>) {}

    fn answer(&mut self, datagram: &Datagram<'_>, out: &mut [u8]) -> Disposal {
        let length = datagram.payload.len();
        self.seen.push((datagram.peer, datagram.peer_port, datagram.local, length));
        for (to, from) in out.iter_mut().zip(datagram.payload.iter().rev()) {
            *to = *from;
        }
        match datagram.payload.first() {
            Some(b'd') => Disposal::Discard,
            Some(b'p') => Disposal::Park { length, port: datagram.peer_port },
            _ => Disposal::Send { length, port: datagram.peer_port },
        }
    }

    fn park(&mut self, reply: UdpReply) {
        self.parked.push(reply);
    }
}

/// The loopback interface as if it were one to serve on.
fn loopback() -> (Facts, Arc<Published>) {
    let facts = Facts {
        name: "lo".to_owned(),
        index: 1,
        mac: [0; 6],
        mtu: 65_536,
        queues: 1,
        is_up: true,
        is_running: true,
        addresses: vec![Ipv6Addr::LOCALHOST],
    };
    let published = Arc::new(Published::new(facts.reach()));
    (facts, published)
}

fn open(port: u16, listen: &[Ipv6Addr], replies: usize) -> UdpPort {
    UdpPort::open(&[loopback()], listen, UdpOptions { port, replies }).unwrap()
}

fn client(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    socket.connect(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; DATAGRAM_LENGTH_MAX];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn replies_go_back_at_once_or_when_they_are_released() {
    let mut port = open(15_547, &[Ipv6Addr::LOCALHOST], 4);
    let client = client(15_547);
    let mut mirror = Mirror::default();
    for payload in [&b"abc"[..], b"park", b"drop", b"pxy"] {
        client.send(payload).unwrap();
    }
    let wake = WakeFd::new().unwrap();
    port.wait(10_000, &wake).unwrap();
    assert_eq!(port.burst(64, &mut mirror), 4);
    assert_eq!(mirror.seen[0].2, Ipv6Addr::LOCALHOST);
    assert_eq!(mirror.seen[0].1, client.local_addr().unwrap().port());
    assert_eq!(port.capacity(), 1);
    port.flush().unwrap();
    assert_eq!(received(&client), b"cba");
    assert_eq!((port.capacity(), mirror.parked.len()), (2, 2));
    port.discard(mirror.parked.pop().unwrap());
    port.send(mirror.parked.pop().unwrap());
    assert!(port.has_outstanding());
    port.flush().unwrap();
    assert!(!port.has_outstanding());
    assert_eq!(received(&client), b"krap");
    assert_eq!(port.capacity(), 4);
    let counters = port.counters();
    assert_eq!((counters.get(Event::Received), counters.get(Event::Sent)), (4, 2));
}

#[test]
fn no_more_is_taken_than_can_be_answered() {
    let mut port = open(15_548, &[Ipv6Addr::LOCALHOST], 2);
    let client = client(15_548);
    let mut mirror = Mirror::default();
    for payload in [b"p1", b"p2", b"p3"] {
        client.send(payload).unwrap();
    }
    assert_eq!(port.burst(64, &mut mirror), 2);
    assert_eq!(port.burst(64, &mut mirror), 0);
    port.send(mirror.parked.remove(0));
    port.flush().unwrap();
    assert_eq!(port.burst(64, &mut mirror), 1);
    assert_eq!(mirror.seen.len(), 3);
}

#[test]
fn what_is_too_long_or_not_for_us_is_counted_and_dropped() {
    let elsewhere = "2001:db8::1".parse().unwrap();
    let mut port = open(15_549, &[elsewhere], 4);
    let client = client(15_549);
    let mut mirror = Mirror::default();
    client.send(b"abc").unwrap();
    client.send(&vec![b'x'; DATAGRAM_LENGTH_MAX + 1]).unwrap();
    assert_eq!(port.burst(64, &mut mirror), 2);
    assert!(mirror.seen.is_empty());
    assert_eq!(port.capacity(), 4);
    assert_eq!(port.counters().get(Event::NotOurDestination), 1);
    assert_eq!(port.counters().get(Event::TooLong), 1);
}

#[test]
fn a_bell_ends_the_wait() {
    let mut port = open(15_550, &[], 1);
    let wake = WakeFd::new().unwrap();
    wake.ring();
    port.wait(3_600_000, &wake).unwrap();
    // It was reset: this wait ends by itself.
    port.wait(0, &wake).unwrap();
}

#[test]
fn a_reply_of_another_port_is_not_sent() {
    let mut port = open(15_551, &[Ipv6Addr::LOCALHOST], 1);
    let mut other = open(15_552, &[Ipv6Addr::LOCALHOST], 1);
    client(15_551).send(b"p").unwrap();
    let mut mirror = Mirror::default();
    assert_eq!(port.burst(1, &mut mirror), 1);
    other.send(mirror.parked.pop().unwrap());
    assert!(!other.has_outstanding());
    assert_eq!(other.counters().get(Event::ForeignReply), 1);
}

#[test]
fn a_port_that_is_taken_says_how_to_share_it() {
    let _owner = open(15_553, &[], 1);
    let options = UdpOptions { port: 15_553, replies: 1 };
    let Err(error) = UdpPort::open(&[loopback()], &[], options) else {
        panic!("two sockets on one port");
    };
    let text = error.to_string();
    assert!(text.contains("15553 of lo is taken") && text.contains("udp = false"), "{text}");
}

#[test]
fn groups_can_be_joined_without_a_port() {
    let (facts, _) = loopback();
    Membership::join(&facts).unwrap();
    let nowhere = Facts { index: 4_000_000, ..facts };
    assert!(Membership::join(&nowhere).is_err());
}
