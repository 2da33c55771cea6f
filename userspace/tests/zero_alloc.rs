//! The hot path takes no memory: a million answers, and not one call of the allocator.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::Ipv6Addr,
};

use common::{L1, L3, Query, SERVER_ID, Server, client_identifier, network, reference_pools};
use portlease::{
    engine::{
        Verdict,
        options::OptionSet,
        policy::{Information, Reservation, ReservedFor, Softwire},
    },
    lease::{
        Features,
        key::LinkId,
        promise::{LaneId, Promise},
        record::Tuple,
    },
    wire::{
        datagram::Datagram,
        dhcpv4::MessageType,
        dhcpv6::{self, RelayForward},
        writer::Writer,
    },
};

thread_local! {
    /// Calls of the allocator by this thread. The test runner's own threads do not count.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory of the caller's,
// and a `Cell` in a constant-initialised thread local allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promise about `pointer` and `layout` is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The messages of one client's life, and what they are answered with.
struct Life {
    source: Ipv6Addr,
    messages: Vec<Vec<u8>>,
}

/// A client that comes, renews and goes, over and over. All its messages are known beforehand, since it gets the
/// same tuple each time. Its softwire moves when it renews.
fn life(server: &mut Server, client: u8, link: u16, relayed: bool) -> Life {
    let discover = Query { relayed, ..Query::discover(client, link) };
    let offer = server.send(&discover).offer();
    let end = |last| Some(Ipv6Addr::new(0x2001, 0xdb8, link, 9, 0, 0, last, client.into()));
    let softwire = |last| end(last).map(|address| address.octets().to_vec());
    let select = Query { relayed, softwire: softwire(1), ..Query::select(client, link, &offer) };
    let lease = server.send(&select).ack();
    let renew = Query {
        relayed,
        lease_seconds: Some(7200),
        softwire: softwire(2),
        ..Query::renew(client, link, &lease)
    };
    let release = Query { relayed, ..Query::release(client, link, &lease) };
    server.send(&release);
    let queries = [&discover, &select, &select, &renew, &release];
    Life {
        source: discover.source(),
        messages: queries.iter().map(|query| query.octets()).collect(),
    }
}

/// A client that asks for configuration only, through a relay.
fn newcomer() -> Life {
    let mut buffer = [0; 200];
    let mut w = Writer::new(&mut buffer);
    let relay = RelayForward {
        hop_count: 0,
        link_address: network(L1),
        peer_address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        interface_id: Some(b"ge-0/0/1"),
        remote_id: None,
        client_link_layer: None,
    };
    let envelope = dhcpv6::begin_information_request(&mut w, &[relay], [1, 2, 3]);
    dhcpv6::put_option(&mut w, dhcpv6::OPTION_REQUEST, &[0, 88, 0, 32]);
    envelope.finish(&mut w);
    Life { source: network(L1), messages: vec![w.written().to_vec()] }
}

/// A client that asks for options only, of which it can read some, through a DHCPv4 relay; and one that wants to keep
/// what it does not have.
fn asker() -> Life {
    let agent = vec![1, 4, b'g', b'e', b'-', b'0'];
    let inform = |size: u16| Query {
        ciaddr: "203.0.113.10".parse().unwrap(),
        parameter_list: vec![43, 3, 1, 6, 6, 51, 224],
        extra: vec![(57, size.to_be_bytes().to_vec()), (82, agent.clone())],
        ..Query::new(MessageType::Inform, 200, L3)
    };
    let stranger = Query {
        requested: Some("192.0.2.1".parse().unwrap()),
        server_id: Some(SERVER_ID),
        ..Query::new(MessageType::Request, 201, L3)
    };
    let queries = [inform(576), inform(1500), stranger];
    Life { source: network(L3), messages: queries.iter().map(Query::octets).collect() }
}

/// A server that does everything that can be configured.
fn busy_server() -> Server {
    let address = "192.0.2.19".parse().unwrap();
    let tuple = |psid| Tuple { address, offset: 0, psid_length: 6, psid };
    let reservation =
        |client, psid| Reservation { link: LinkId(L1 - 1), client, tuple: tuple(psid) };
    let reservations = [
        reservation(ReservedFor::ClientIdentifier(client_identifier(1)), 7),
        reservation(ReservedFor::RemoteId(b"nobody".to_vec()), 8),
    ];
    let features = Features {
        leases_per_site_max: 1000,
        softwires: true,
        withheld: reservations.iter().map(|reservation| reservation.tuple).collect(),
    };
    Server::featuring(&reference_pools(), features, |policy| {
        let relay = "2001:db8::b1".parse().unwrap();
        policy.sites.queries_per_second = 1_000_000_000;
        let options = [(1, vec![255; 4]), (3, vec![1; 4]), (6, vec![2; 8]), (43, vec![3; 300])];
        policy.pool_options = vec![OptionSet::new(options.clone()); 5];
        policy.links.iter_mut().for_each(|link| link.options = OptionSet::new(options.clone()));
        policy.reservations = reservations.to_vec();
        policy.softwire = Some(Softwire {
            border_relays: vec![relay],
            update_interval_seconds: 0,
            ..Softwire::default()
        });
        policy.information = Some(Information { servers: vec![relay], ..Information::default() });
    })
}

#[test]
fn a_million_answers_allocate_nothing() {
    answer_a_million(Server::reference(), &[]);
}

#[test]
fn nor_do_answers_of_a_server_that_does_everything() {
    answer_a_million(busy_server(), &[newcomer(), asker()]);
}

#[test]
fn declines_allocate_nothing() {
    let mut server = Server::reference();
    let mut declines = Vec::new();
    for client in 1..=4 {
        let lease = server.obtain(client, L1);
        let select = Query::select(client, L1, &lease);
        let decline = Query { kind: MessageType::Decline, parameter_list: Vec::new(), ..select };
        declines.push((decline.octets(), decline.source()));
    }
    let mut out = [0; 1500];
    let before = CALLS.with(Cell::get);
    for (sequence, (payload, peer)) in (100..).zip(&declines) {
        let (peer, promise) = (*peer, Promise { lane: LaneId(0), sequence });
        let datagram = Datagram { peer, peer_port: 546, local: peer, interface: 1, payload };
        let verdict = server.engine.answer(server.now, &datagram, promise, &mut out);
        assert!(matches!(verdict, Verdict::Promise { reply: None, .. }));
    }
    assert_eq!(CALLS.with(Cell::get) - before, 0, "calls of the allocator");
}

fn answer_a_million(mut server: Server, others: &[Life]) {
    let mut lives = Vec::new();
    for client in 1..=100 {
        lives.push(life(&mut server, client, L1, client % 2 == 0));
    }
    for client in 1..=3 {
        lives.push(life(&mut server, client, L3, client == 2));
    }
    let mut out = [0; 1500];
    let (mut replies, mut promises, mut ignored) = (0_u32, 0_u32, 0_u32);
    let mut sequence = 10_000;
    let before = CALLS.with(Cell::get);
    while replies + promises + ignored < 1_000_000 {
        server.now.0 += 1;
        for life in lives.iter().chain(others) {
            for payload in &life.messages {
                let datagram = Datagram {
                    peer: life.source,
                    peer_port: 546,
                    local: life.source,
                    interface: 1,
                    payload,
                };
                let promise = Promise { lane: LaneId(0), sequence };
                match server.engine.answer(server.now, &datagram, promise, &mut out) {
                    Verdict::Ignore(_) => ignored += 1,
                    Verdict::Reply(_) => replies += 1,
                    Verdict::Promise { records, .. } => {
                        promises += 1;
                        sequence += records.len() as u64;
                    }
                }
            }
        }
        server.engine.leases().sweep_all(server.now);
    }
    assert_eq!(CALLS.with(Cell::get) - before, 0, "calls of the allocator");
    assert_eq!(ignored, 0);
    assert!(replies > 100_000 && promises > 100_000, "{replies} replies, {promises} promises");
    drop(std::hint::black_box(Box::new(0)));
    assert!(CALLS.with(Cell::get) > before, "the counter counts");
}
