//! What the server offers: the four steps of RFC 7618 §8, the table of clients and pools, and what an OFFER holds.

mod common;

use std::{collections::BTreeSet, net::Ipv4Addr};

use common::{L1, L2, L3, L4, Query, SERVER_ID, Server, client_identifier, params};
use portlease::{
    engine::policy::{Prefer, PsidChoice},
    wire::portparams::PortParams,
};

const A18: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 18);
const A19: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 19);

/// A DISCOVER that asks for an address and a port set of the first link.
fn asking(client: u8, address: Ipv4Addr, psid: u16) -> Query {
    Query {
        requested: Some(address),
        params: Some(params(0, 6, psid)),
        ..Query::discover(client, L1)
    }
}

fn tuple(address: Ipv4Addr, psid: u16) -> (Ipv4Addr, Option<PortParams>) {
    (address, Some(PortParams { offset: 0, psid_length: 6, psid }))
}

#[test]
fn d01_an_offer_bears_address_port_set_times_and_identity() {
    let mut server = Server::reference();
    let query = Query { flags: 0x8000, seconds: 9, ..Query::discover(1, L1) };
    let offer = server.send(&query).offer();
    assert!(offer.address == A18 || offer.address == A19);
    let set = offer.params.unwrap();
    assert_eq!((set.offset, set.psid_length), (0, 6));
    assert!((1..64).contains(&set.psid));
    assert_eq!(offer.lease_seconds, Some(3600));
    assert_eq!((offer.renewal_seconds, offer.rebinding_seconds), (Some(1800), Some(3150)));
    assert_eq!(offer.server_id, Some(SERVER_ID));
    assert_eq!(offer.client_identifier, Some(client_identifier(1)));
    assert_eq!((offer.xid, offer.flags, offer.seconds), (0x1122_3344, 0x8000, 0));
    assert_eq!(offer.port, 546);
    // RFC 7341 §6.4: all flags of a DHCPv4-response are 0.
    assert_eq!(offer.octets[..4], [21, 0, 0, 0]);
    assert!(server.journal.is_empty(), "an offer is not a promise");
}

#[test]
fn d02_a_repeated_discover_gets_the_same_tuple() {
    let mut server = Server::reference();
    let first = server.send(&Query::discover(1, L1)).offer();
    server.advance(50);
    let again = Query { xid: 7, ..Query::discover(1, L1) };
    assert_eq!(server.send(&again).offer().tuple(), first.tuple());
    // The hold began anew: after 50 more seconds the offer still stands.
    server.advance(50);
    assert_eq!(server.send(&Query::select(1, L1, &first)).ack().tuple(), first.tuple());
}

#[test]
fn d05_d06_a_size_hint_is_a_wish() {
    let mut server = Server::reference();
    for (client, length) in [(1, 6), (2, 8)] {
        let query = Query { params: Some(params(0, length, 0)), ..Query::discover(client, L1) };
        assert_eq!(server.send(&query).offer().params.unwrap().psid_length, 6);
    }
}

#[test]
fn d07_to_d10_a_requested_tuple_is_given_if_it_is_free_and_ours() {
    let mut server = Server::reference();
    let offer = server.send(&asking(1, A19, 7)).offer();
    assert_eq!(offer.tuple(), tuple(A19, 7));
    server.send(&Query::select(1, L1, &offer)).ack();
    assert_ne!(server.send(&asking(2, A19, 7)).offer().tuple(), tuple(A19, 7), "taken");
    assert_ne!(server.send(&asking(3, A19, 0)).offer().params.unwrap().psid, 0, "reserved");
    let other = Query { params: Some(params(6, 8, 7)), ..asking(4, A19, 7) };
    assert_eq!(server.send(&other).offer().params.unwrap().psid_length, 6, "not the pool's");
}

#[test]
fn d11_an_address_alone_is_a_preference() {
    let mut server = Server::reference();
    for client in 1..=20 {
        let query = Query { requested: Some(A19), ..Query::discover(client, L1) };
        assert_eq!(server.send(&query).offer().address, A19);
    }
}

#[test]
fn d12_the_current_lease_comes_before_what_is_asked() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let psid = lease.params.unwrap().psid % 63 + 1;
    assert_eq!(server.send(&asking(1, A18, psid)).offer().tuple(), lease.tuple());
}

#[test]
fn d12_the_offer_of_a_current_lease_tells_what_is_left_of_it() {
    let mut server = Server::reference();
    server.obtain(1, L1);
    server.advance(600);
    assert_eq!(server.send(&Query::discover(1, L1)).offer().lease_seconds, Some(3000));
    let asked = Query { lease_seconds: Some(1200), ..Query::discover(1, L1) };
    assert_eq!(server.send(&asked).offer().lease_seconds, Some(1200));
}

#[test]
fn d13_d15_the_previous_tuple_comes_before_what_is_asked() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    for seconds in [3700, 4000] {
        server.advance(seconds);
        let psid = lease.params.unwrap().psid % 63 + 1;
        assert_eq!(server.send(&asking(1, A18, psid)).offer().tuple(), lease.tuple());
    }
}

#[test]
fn d14_a_previous_tuple_that_is_another_clients_is_gone() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    server.advance(4000);
    let (address, set) = (lease.address, lease.params.unwrap());
    let offer = server.send(&asking(2, address, set.psid)).offer();
    assert_eq!(offer.tuple(), lease.tuple());
    server.send(&Query::select(2, L1, &offer)).ack();
    assert_ne!(server.send(&Query::discover(1, L1)).offer().tuple(), lease.tuple());
}

#[test]
fn d24_d25_lease_times_are_granted_within_policy() {
    let mut server = Server::with(|policy| policy.times.lease_seconds_max = 3600);
    for (asked, granted) in [(600, 600), (u32::MAX, 3600), (1, 60)] {
        let query = Query { lease_seconds: Some(asked), ..Query::discover(1, L1) };
        assert_eq!(server.send(&query).offer().lease_seconds, Some(granted));
    }
}

#[test]
fn d27_no_client_identifier_no_shared_address() {
    let mut server = Server::reference();
    let anonymous = |link| Query { client_identifier: None, ..Query::discover(1, link) };
    server.send(&anonymous(L1)).silent("no-client-id");
    assert_eq!(server.send(&anonymous(L4)).offer().params, None, "a whole address instead");
    assert_eq!(server.send(&anonymous(L3)).offer().client_identifier, None, "none is invented");
    let nobody = Query { hardware: Vec::new(), ..anonymous(L3) };
    server.send(&nobody).silent("no-client-id");
    let short = Query { client_identifier: Some(vec![1]), ..Query::discover(1, L1) };
    server.send(&short).silent("no-client-id");
}

#[test]
fn d28_d29_the_client_identifier_is_the_client() {
    let mut server = Server::reference();
    let first = server.obtain(1, L1);
    let twin = Query { hardware: vec![2, 0, 0, 0, 0, 1], ..Query::discover(2, L1) };
    assert_ne!(server.send(&twin).offer().tuple(), first.tuple());
    let moved = Query { hardware: vec![2, 0, 0, 0, 9, 9], ..Query::discover(1, L1) };
    assert_eq!(server.send(&moved).offer().tuple(), first.tuple());
}

#[test]
fn h01_h02_sixty_three_clients_share_an_address_and_the_next_gets_nothing() {
    let mut server = Server::reference();
    let mut tuples = BTreeSet::new();
    for client in 1..=126 {
        let lease = server.obtain(client, L1);
        assert_ne!(lease.params.unwrap().psid, 0);
        tuples.insert((lease.address, lease.params.unwrap().psid));
    }
    assert_eq!(tuples.len(), 126);
    server.send(&Query::discover(127, L1)).silent("pool-exhausted");
    server.obtain(127, L2);
}

#[test]
fn h12_a_released_tuple_rests_for_its_last_holder() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let _: () = match server.send(&Query::release(1, L1, &lease)) {
        common::Answer::Done => (),
        other => panic!("{other:?}"),
    };
    let (address, psid) = (lease.address, lease.params.unwrap().psid);
    assert_ne!(server.send(&asking(2, address, psid)).offer().tuple(), lease.tuple());
    assert_eq!(server.send(&Query::discover(1, L1)).offer().tuple(), lease.tuple());
    server.advance(200);
    assert_eq!(server.send(&asking(3, address, psid)).offer().tuple(), lease.tuple());
}

#[test]
fn x02_only_shared_addresses_and_a_client_that_cannot_share() {
    let mut server = Server::reference();
    server.send(&Query::discover(1, L1).without_159()).silent("no-159-in-prl");
    let lease = server.obtain(2, L1);
    for request in [Query::select, Query::reboot, Query::renew, Query::rebind] {
        server.send(&request(2, L1, &lease).without_159()).silent("no-159-in-prl");
    }
}

#[test]
fn x04_x05_whole_addresses_bear_no_option_159() {
    let mut server = Server::reference();
    assert_eq!(server.obtain(1, L3).params, None);
    let plain = Query::discover(2, L4).without_159();
    let offer = server.send(&plain).offer();
    assert_eq!(offer.tuple(), (Ipv4Addr::new(203, 0, 113, 40), None));
    let select = Query::select(2, L4, &offer).without_159();
    assert_eq!(server.send(&select).ack().params, None);
    // X06: the whole addresses are exhausted, and port sets that are free are none for this client.
    server.send(&Query::discover(3, L4).without_159()).silent("pool-exhausted");
}

#[test]
fn x07_the_other_kind_when_the_preferred_one_is_exhausted() {
    for prefer in [Prefer::Shared, Prefer::Full] {
        let mut server = Server::with(|policy| policy.links[3].prefer = prefer);
        let shared = (1..=64).filter(|client| server.obtain(*client, L4).params.is_some()).count();
        assert_eq!(shared, 63);
        let first = Server::with(|policy| policy.links[3].prefer = prefer).obtain(1, L4);
        assert_eq!(first.params.is_some(), prefer == Prefer::Shared);
    }
}

#[test]
fn x08_ignore_159_serves_whole_addresses_only() {
    let mut server = Server::with(|policy| policy.ignore_159 = true);
    assert_eq!(server.obtain(1, L4).params, None);
    server.send(&Query::discover(1, L1)).silent("no-159-in-prl");
}

#[test]
fn x06_port_sets_are_not_handed_out_in_order() {
    let psids = |choice| {
        let mut server = Server::with(|policy| policy.psid_choice = choice);
        (1..=20).map(|client| server.obtain(client, L1).params.unwrap().psid).collect::<Vec<_>>()
    };
    let in_order: Vec<u16> = (1..=20).collect();
    assert_eq!(psids(PsidChoice::Sequential), in_order);
    let random = psids(PsidChoice::Random);
    let neighbours = random.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
    assert!(neighbours < 5, "{random:?}");
}

#[test]
fn b20_b21_a_malformed_option_159_is_no_hint() {
    let mut server = Server::reference();
    for (client, octets) in [
        (1, vec![0, 6, 4]),
        (2, vec![0, 6, 4, 0, 0]),
        (3, Vec::new()),
        (4, vec![16, 6, 4, 0]),
        (5, vec![0, 17, 255, 255]),
        (6, vec![10, 8, 1, 0]),
        (7, vec![0, 6, 4, 1]),
    ] {
        let query =
            Query { requested: Some(A18), params: Some(octets), ..Query::discover(client, L1) };
        assert!(server.send(&query).offer().params.is_some());
    }
}

#[test]
fn b28_addresses_that_nobody_can_have_are_no_request() {
    let mut server = Server::reference();
    for address in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST] {
        let query = Query { requested: Some(address), ..Query::discover(1, L1) };
        server.send(&query).offer();
    }
}

#[test]
fn a_stranger_on_no_link_gets_nothing() {
    let mut server = Server::reference();
    server.send(&Query::discover(1, 9)).silent("no-attachment");
    server.deliver(&Query::discover(1, L1).octets(), "::".parse().unwrap()).silent("bad-source");
}

#[test]
fn offers_are_bounded_and_lapse() {
    let mut server = Server::reference();
    for client in 1..=126 {
        server.send(&Query::discover(client, L1)).offer();
    }
    server.send(&Query::discover(127, L1)).silent("pool-exhausted");
    server.advance(61);
    assert_eq!(server.engine.leases().offers(), 0);
    server.send(&Query::discover(127, L1)).offer();
}
