//! INFORM, which is about options only, and DECLINE, which takes a tuple out of use.

mod common;

use std::net::Ipv4Addr;

use common::{
    Answer, L1, L2, L3, L4, Query, Received, SERVER_ID, Server, client_identifier, params,
};
use portlease::{
    engine::options::OptionSet,
    lease::record::State,
    wire::{dhcpv4::MessageType, portparams::PortParams},
};

/// An INFORM of a client that has `address`.
fn inform(client: u8, link: u16, address: &str) -> Query {
    Query {
        unicast: true,
        ciaddr: address.parse().unwrap(),
        ..Query::new(MessageType::Inform, client, link)
    }
}

/// A DECLINE of what was leased or offered.
fn decline(client: u8, link: u16, tuple: &Received) -> Query {
    Query {
        kind: MessageType::Decline,
        server_id: Some(SERVER_ID),
        parameter_list: Vec::new(),
        ..Query::select(client, link, tuple)
    }
}

#[track_caller]
fn done(answer: &Answer) {
    assert!(matches!(answer, Answer::Done), "{answer:?}");
}

#[test]
fn l11_an_inform_is_acknowledged_without_a_lease() {
    let mut server = Server::reference();
    for link in [L3, L4] {
        for query in
            [inform(1, link, "203.0.113.10"), inform(1, link, "203.0.113.10").without_159()]
        {
            let ack = server.send(&query).ack();
            assert_eq!(ack.ciaddr, Ipv4Addr::new(203, 0, 113, 10));
            assert!(ack.address.is_unspecified() && ack.params.is_none());
            assert_eq!([ack.lease_seconds, ack.renewal_seconds, ack.rebinding_seconds], [None; 3]);
            assert_eq!(ack.server_id, Some(SERVER_ID));
            assert_eq!(ack.client_identifier, Some(client_identifier(1)));
        }
    }
    assert_eq!((server.active(), server.journal.len()), (0, 0));
}

#[test]
fn l12_an_inform_where_only_shared_addresses_are() {
    let mut server = Server::reference();
    server.send(&inform(1, L1, "10.0.0.1").without_159()).silent("no-159-in-prl");
    assert_eq!(server.send(&inform(1, L1, "10.0.0.1")).ack().params, None);
    let mut lenient = Server::with(|policy| policy.answer_inform_without_159 = true);
    lenient.send(&inform(1, L1, "10.0.0.1").without_159()).ack();
}

#[test]
fn an_inform_gets_the_options_of_its_address_or_of_its_link() {
    let mut server = Server::with(|policy| {
        policy.links[2].options = OptionSet::new([(6, [1; 4])]);
        policy.pool_options = vec![OptionSet::new([(6, [2; 4])]); 5];
    });
    let mut told = |address| {
        let ack = server.send(&inform(1, L3, address)).ack();
        let at = ack.octets.windows(2).rposition(|pair| pair == [6, 4]).unwrap();
        ack.octets[at + 2..at + 6].to_vec()
    };
    assert_eq!(told("203.0.113.11"), [2; 4]);
    assert_eq!(told("10.0.0.1"), [1; 4]);
    assert_eq!(told("192.0.2.18"), [1; 4], "a pool of another link");
    assert_eq!(told("0.0.0.0"), [1; 4]);
}

#[test]
fn l08_a_declined_tuple_is_nobodys_and_its_neighbours_go_on() {
    let mut server = Server::reference();
    let (lease, others) = (server.obtain(1, L1), server.obtain(2, L1));
    done(&server.send(&decline(1, L1, &lease)));
    assert_eq!(server.journal.last().unwrap().state(), Some(State::Quarantined));
    assert_eq!(server.active(), 1);
    server.send(&Query::renew(2, L1, &others)).ack();
    let asking = |client| Query {
        requested: Some(lease.address),
        params: lease.params.map(|params| params.encode().to_vec()),
        ..Query::discover(client, L1)
    };
    for client in [1, 3] {
        let offer = server.send(&asking(client)).offer();
        assert_ne!(offer.tuple(), lease.tuple());
        server.send(&Query::select(client, L1, &lease)).nak();
    }
    server.send(&Query::renew(1, L1, &lease)).nak();
    server.advance(86_390);
    assert_ne!(server.send(&asking(3)).offer().tuple(), lease.tuple());
    server.advance(20);
    assert_eq!(server.send(&asking(4)).offer().tuple(), lease.tuple());
}

#[test]
fn an_offer_may_be_declined_too_and_a_whole_address() {
    let mut server = Server::reference();
    let offer = server.send(&Query::discover(1, L2)).offer();
    done(&server.send(&decline(1, L2, &offer)));
    assert_ne!(server.send(&Query::discover(1, L2)).offer().tuple(), offer.tuple());
    let lease = server.obtain(1, L3);
    done(&server.send(&Query { params: Some(params(0, 6, 9)), ..decline(1, L3, &lease) }));
    assert_ne!(server.obtain(1, L3).tuple(), lease.tuple());
}

#[test]
fn a_decline_without_option_159_means_the_only_thing_that_the_client_has_there() {
    let bare = |tuple: &Received| Query { params: None, ..decline(1, L1, tuple) };
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let other = if lease.address.octets()[3] == 18 { 19 } else { 18 };
    let elsewhere = Received { address: Ipv4Addr::new(192, 0, 2, other), ..lease.clone() };
    server.send(&bare(&elsewhere)).silent("decline-mismatch");
    done(&server.send(&bare(&lease)));
    server.send(&bare(&lease)).silent("decline-mismatch");
    let offer = server.send(&Query::discover(1, L1)).offer();
    done(&server.send(&bare(&offer)));
}

#[test]
fn l09_what_is_not_the_clients_it_cannot_decline() {
    let mut server = Server::reference();
    let (lease, others) = (server.obtain(1, L1), server.obtain(2, L1));
    let query = decline(1, L1, &lease);
    server.send(&decline(1, L1, &others)).silent("decline-mismatch");
    let set = lease.params.unwrap();
    let free = PortParams {
        psid: (1..64).find(|psid| ![set.psid, others.params.unwrap().psid].contains(psid)).unwrap(),
        ..set
    };
    let free = Received { params: Some(free), ..lease.clone() };
    server.send(&decline(1, L1, &free)).silent("decline-mismatch");
    server.send(&decline(3, L1, &lease)).silent("decline-mismatch");
    for (octets, reason) in [
        (params(6, 8, 7), "decline-mismatch"),
        (params(0, 6, 0), "decline-mismatch"),
        (vec![0, 6, 4, 1], "bad-portparams"),
    ] {
        server.send(&Query { params: Some(octets), ..query.clone() }).silent(reason);
    }
    server.send(&Query { requested: None, ..query.clone() }).silent("decline-mismatch");
    let foreign = Some(Ipv4Addr::new(10, 0, 0, 1));
    server.send(&Query { requested: foreign, ..query.clone() }).silent("not-our-address");
    for server_id in [None, foreign] {
        server.send(&Query { server_id, ..query.clone() }).silent("not-our-server-id");
    }
    assert_eq!((server.active(), server.journal.len()), (2, 2));
}

#[test]
fn an_expired_or_released_lease_is_not_declined() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    done(&server.send(&Query::release(1, L1, &lease)));
    server.send(&decline(1, L1, &lease)).silent("decline-mismatch");
    let lease = server.obtain(2, L1);
    server.advance(3700);
    server.send(&decline(2, L1, &lease)).silent("decline-mismatch");
}

#[test]
fn l10_a_client_that_declines_one_after_the_other_is_stopped() {
    let mut server = Server::reference();
    let mut taken = 0;
    for _ in 0..10 {
        let offer = server.send(&Query::discover(1, L1)).offer();
        match server.send(&decline(1, L1, &offer)) {
            Answer::Done => taken += 1,
            answer => answer.silent("rate-limit"),
        }
    }
    assert_eq!(taken, 4);
    // Many names at one place are stopped, too; another place is not.
    let query = |client, link| Query { relayed: true, ..Query::discover(client, link) };
    let mut tried = |link: u16| {
        let decline = |server: &mut Server, client| {
            let offer = server.send(&query(client, link)).offer();
            server.send(&Query { relayed: true, ..decline(client, link, &offer) })
        };
        (10..30).filter(|client| matches!(decline(&mut server, *client), Answer::Done)).count()
    };
    assert_eq!((tried(L1), tried(L2)), (8, 8));
}
