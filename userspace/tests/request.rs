//! The truth tables of a REQUEST in its four states, and of a RELEASE.

mod common;

use std::net::Ipv4Addr;

use common::{Answer, L1, L2, L3, L4, Query, Received, Server, params};
use portlease::{engine::policy::BindSource, wire::portparams::PortParams};

/// The lease, but with another port set.
fn with_psid(lease: &Received, psid: u16) -> Received {
    let params = lease.params.map(|params| PortParams { psid, ..params });
    Received { params, ..lease.clone() }
}

/// A PSID of the first pool that is not reserved and not that of `lease`.
fn another_psid(lease: &Received) -> u16 {
    lease.params.unwrap().psid % 63 + 1
}

fn lease_of(address: &str, psid: u16) -> Received {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    Received { address: address.parse().unwrap(), ..with_psid(&lease, psid) }
}

#[test]
fn d03_d04_an_ack_repeats_the_offer_and_a_repeated_request_the_ack() {
    let mut server = Server::reference();
    let offer = server.send(&Query::discover(1, L1)).offer();
    let select = Query::select(1, L1, &offer);
    let ack = server.send(&select).ack();
    assert_eq!(ack.tuple(), offer.tuple());
    assert_eq!(ack.lease_seconds, Some(3600));
    assert_eq!(server.journal.len(), 1);
    assert_eq!(server.send(&select).ack(), ack);
    assert_eq!(server.journal.len(), 1, "a repetition is answered out of its record");
    assert_eq!(server.active(), 1);
}

#[test]
fn d16_another_server_was_chosen_and_our_offer_is_dropped() {
    let mut server = Server::reference();
    let offer = server.send(&Query::discover(1, L1)).offer();
    assert_eq!(server.engine.leases().offers(), 1);
    let theirs =
        Query { server_id: Some(Ipv4Addr::new(9, 9, 9, 9)), ..Query::select(1, L1, &offer) };
    server.send(&theirs).silent("not-our-server-id");
    assert_eq!(server.engine.leases().offers(), 0);
}

#[test]
fn d17_to_d19_selecting_something_that_was_not_offered() {
    let mut server = Server::reference();
    let taken = server.obtain(2, L1);
    let offer = server.send(&Query::discover(1, L1)).offer();
    let select = Query::select(1, L1, &offer);
    server.send(&Query { params: None, ..select.clone() }).nak();
    server.send(&Query::select(1, L1, &taken)).nak();
    server.send(&select.clone().without_159()).silent("no-159-in-prl");
    for octets in [params(0, 6, 0), params(6, 8, 7), params(0, 0, 0), vec![0, 6, 4, 1], vec![1]] {
        server.send(&Query { params: Some(octets), ..select.clone() }).nak();
    }
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 40)] {
        server.send(&Query { requested: Some(address), ..select.clone() }).nak();
    }
    assert_eq!(server.active(), 1);
    server.send(&select).ack();
}

#[test]
fn a_free_tuple_may_be_selected_without_or_beside_an_offer() {
    let mut server = Server::reference();
    let offer = server.send(&Query::discover(1, L1)).offer();
    let other = with_psid(&offer, another_psid(&offer));
    assert_eq!(server.send(&Query::select(1, L1, &other)).ack().tuple(), other.tuple());
    assert_eq!(server.engine.leases().offers(), 0, "the offer is dropped");
    assert_eq!(server.send(&Query::select(2, L1, &offer)).ack().tuple(), offer.tuple());
}

#[test]
fn d20_d21_after_the_offer_lapsed() {
    let mut server = Server::reference();
    let offer = server.send(&Query::discover(1, L1)).offer();
    server.advance(100);
    server.send(&Query::select(1, L1, &offer)).ack();
    let offer = server.send(&Query::discover(2, L1)).offer();
    server.advance(100);
    server.send(&Query::select(3, L1, &offer)).ack();
    server.send(&Query::select(2, L1, &offer)).nak();
}

#[test]
fn a_client_that_selects_another_tuple_moves() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let other = with_psid(&lease, another_psid(&lease));
    assert_eq!(server.send(&Query::select(1, L1, &other)).ack().tuple(), other.tuple());
    assert_eq!(server.journal.len(), 3, "one record for the new tuple and one for the old");
    assert_eq!(server.active(), 1);
    server.send(&Query::select(2, L1, &lease)).nak();
    server.advance(130);
    server.send(&Query::select(2, L1, &lease)).ack();
}

#[test]
fn selecting_on_a_link_with_both_kinds() {
    let mut server = Server::reference();
    let full = server.send(&Query::discover(1, L4).without_159()).offer();
    // X09: option 159 in the list, and data of it, do not matter for a whole address.
    let select = Query { params: Some(params(0, 6, 9)), ..Query::select(1, L4, &full) };
    assert_eq!(server.send(&select).ack().params, None);
    // A shared tuple cannot be acknowledged to a client that does not list 159.
    let shared = server.send(&Query::discover(2, L4)).offer();
    server.send(&Query::select(2, L4, &shared).without_159()).nak();
}

#[test]
fn n01_n02_an_extension_in_time() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    for request in [Query::renew, Query::rebind] {
        server.advance(1800);
        let before = server.journal.len();
        let ack = server.send(&request(1, L1, &lease)).ack();
        assert_eq!(ack.tuple(), lease.tuple());
        assert_eq!(ack.lease_seconds, Some(3600));
        assert_eq!(ack.ciaddr, lease.address);
        assert_eq!(server.journal.len(), before + 1);
    }
    server.advance(3500);
    server.send(&Query::renew(1, L1, &lease)).ack();
}

#[test]
fn n03_n04_n13_an_extension_of_another_port_set() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let others = server.obtain(2, L1);
    for request in [Query::renew, Query::rebind] {
        server.send(&request(1, L1, &with_psid(&lease, another_psid(&lease)))).nak();
        server.send(&request(1, L1, &others)).nak();
        let wrong = Query { params: Some(params(1, 6, 7)), ..request(1, L1, &lease) };
        server.send(&wrong).nak();
        let padding = Query { params: Some(vec![0, 6, 4, 1]), ..request(1, L1, &lease) };
        server.send(&padding).nak();
        // Somebody who was never here, and whose tuple is another's.
        server.send(&request(3, L1, &lease)).nak();
    }
    assert_eq!(server.journal.len(), 2);
    server.send(&Query::renew(2, L1, &others)).ack();
}

#[test]
fn n05_an_extension_without_option_159() {
    let bare = |lease: &Received| Query { params: None, ..Query::renew(1, L1, lease) };
    let mut strict = Server::reference();
    let lease = strict.obtain(1, L1);
    strict.send(&bare(&lease)).nak();
    let mut lenient = Server::with(|policy| policy.accept_renew_without_159 = true);
    let lease = lenient.obtain(1, L1);
    assert_eq!(lenient.send(&bare(&lease)).ack().tuple(), lease.tuple());
    lenient.send(&bare(&lease).without_159()).silent("no-159-in-prl");
    lenient.send(&Query { client: 2, ..bare(&lease) }).ack();
}

#[test]
fn n07_n08_an_extension_of_an_address_that_is_not_ours() {
    let foreign = lease_of("10.0.0.1", 5);
    let mut server = Server::reference();
    server.send(&Query::renew(1, L1, &foreign)).silent("not-our-address");
    server.send(&Query::rebind(1, L1, &foreign)).silent("not-our-address");
    let mut server = Server::with(|policy| policy.authoritative = true);
    server.send(&Query::renew(1, L1, &foreign)).silent("not-our-address");
    server.send(&Query::rebind(1, L1, &foreign)).nak();
}

#[test]
fn an_extension_of_a_free_tuple_by_a_stranger() {
    let free = lease_of("192.0.2.19", 5);
    for request in [Query::renew, Query::rebind] {
        Server::reference().send(&request(9, L1, &free)).silent("unknown-client");
        Server::with(|policy| policy.authoritative = true).send(&request(9, L1, &free)).nak();
        let broken = Query { params: Some(vec![0, 6, 4, 1]), ..request(9, L1, &free) };
        Server::reference().send(&broken).silent("bad-portparams");
    }
}

#[test]
fn n09_n10_fields_that_contradict_each_other() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let renew = Query::renew(1, L1, &lease);
    let server_id = lease.server_id;
    server.send(&Query { server_id, ..renew.clone() }).silent("bad-request");
    server
        .send(&Query { requested: Some(Ipv4Addr::LOCALHOST), ..renew.clone() })
        .silent("bad-request");
    server.send(&Query { requested: Some(lease.address), ..renew.clone() }).ack();
    server.send(&Query { ciaddr: Ipv4Addr::UNSPECIFIED, ..renew }).silent("bad-request");
}

#[test]
fn n11_n12_an_extension_that_comes_too_late() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    for seconds in [3700, 10_000] {
        server.advance(seconds);
        server.send(&Query::renew(1, L1, &lease)).ack();
    }
    server.advance(4000);
    server.send(&Query::select(2, L1, &lease)).ack();
    server.send(&Query::renew(1, L1, &lease)).nak();
}

#[test]
fn n14_an_extension_by_another_path() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    server.advance(1800);
    server.send(&Query::renew(1, L2, &lease)).ack();
    let relayed = Query { relayed: true, ..Query::renew(1, L1, &lease) };
    let ack = server.send(&relayed).ack();
    assert_eq!(ack.port, 547);
    assert_eq!(
        server.journal.last().unwrap().source(),
        "fe80::1".parse::<std::net::Ipv6Addr>().unwrap()
    );
}

#[test]
fn n15_n18_x11_whole_addresses() {
    let mut server = Server::reference();
    let full = server.send(&Query::discover(1, L4).without_159()).offer();
    let lease = server.send(&Query::select(1, L4, &full)).ack();
    server.advance(1800);
    assert_eq!(server.send(&Query::renew(1, L4, &lease)).ack().params, None);
    let anonymous = Query { client_identifier: None, ..Query::renew(1, L4, &lease) };
    server.send(&anonymous).silent("unknown-client");
    let shared = server.obtain(1, L1);
    let anonymous = Query { client_identifier: None, ..Query::renew(1, L1, &shared) };
    server.send(&anonymous).silent("unknown-client");
}

#[test]
fn n17_an_early_extension_is_answered_and_promises_no_more_than_is_recorded() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    server.advance(300);
    let ack = server.send(&Query::renew(1, L1, &lease)).ack();
    assert_eq!((ack.lease_seconds, ack.renewal_seconds), (Some(3300), Some(1650)));
    assert_eq!(server.journal.len(), 1);
    server.advance(100);
    assert_eq!(server.send(&Query::renew(1, L1, &lease)).ack().lease_seconds, Some(3600));
    assert_eq!(server.journal.len(), 2);
}

#[test]
fn a_recorded_expiry_never_moves_backwards() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let recorded = server.journal[0].expires();
    server.advance(1000);
    let short = Query { lease_seconds: Some(60), ..Query::renew(1, L1, &lease) };
    assert_eq!(server.send(&short).ack().lease_seconds, Some(60));
    assert!(server.journal.last().unwrap().expires() >= recorded);
}

#[test]
fn i01_i02_i05_a_reboot() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    assert_eq!(server.send(&Query::reboot(1, L1, &lease)).ack().tuple(), lease.tuple());
    server.send(&Query::reboot(1, L1, &with_psid(&lease, another_psid(&lease)))).nak();
    server.send(&Query { params: None, ..Query::reboot(1, L1, &lease) }).nak();
    let unicast = Query { unicast: true, ..Query::reboot(1, L1, &lease) };
    server.send(&unicast).ack();
}

#[test]
fn i03_i04_a_reboot_of_a_stranger_or_elsewhere() {
    let ours = lease_of("192.0.2.19", 5);
    let foreign = lease_of("10.0.0.1", 5);
    let mut server = Server::reference();
    server.send(&Query::reboot(9, L1, &ours)).silent("unknown-client");
    server.obtain(1, L1);
    server.send(&Query::reboot(1, L1, &foreign)).silent("not-our-address");
    let elsewhere = Received { address: Ipv4Addr::new(198, 51, 100, 1), ..ours.clone() };
    server.send(&Query::reboot(1, L1, &elsewhere)).silent("not-our-address");
    let mut server = Server::with(|policy| policy.authoritative = true);
    server.send(&Query::reboot(9, L1, &ours)).nak();
    server.send(&Query::reboot(9, L1, &foreign)).silent("unknown-client");
    server.obtain(1, L1);
    server.send(&Query::reboot(1, L1, &elsewhere)).nak();
}

#[test]
fn i06_i07_a_reboot_after_the_lease_ended() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    server.advance(4000);
    server.send(&Query::reboot(1, L1, &lease)).ack();
    server.advance(4000);
    server.send(&Query::select(2, L1, &lease)).ack();
    server.send(&Query::reboot(1, L1, &lease)).nak();
}

#[test]
fn i08_a_reboot_from_another_source() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let moved = Query { relayed: true, ..Query::reboot(1, L1, &lease) };
    server.send(&moved).ack();
    let mut server = Server::with(|policy| policy.bind_source = BindSource::Nak);
    let lease = server.obtain(1, L1);
    let moved = Query { relayed: true, ..Query::reboot(1, L1, &lease) };
    let nak = server.send(&moved).nak();
    // I09: through relays like any reply; BROADCAST only towards a DHCPv4 relay.
    assert_eq!((nak.port, nak.octets[0], nak.flags), (547, 13, 0));
    let agent = Query { giaddr: Ipv4Addr::new(10, 0, 0, 1), ..moved };
    assert_eq!(server.send(&agent).nak().flags, 0x8000);
}

#[test]
fn l01_to_l07_releases() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let others = server.obtain(2, L1);
    let release = Query::release(1, L1, &lease);
    server.send(&Query::release(1, L1, &others)).silent("release-mismatch");
    server.send(&Query { params: None, ..release.clone() }).silent("release-mismatch");
    server
        .send(&Query { params: Some(vec![0, 6, 4, 1]), ..release.clone() })
        .silent("bad-portparams");
    for server_id in [None, Some(Ipv4Addr::new(9, 9, 9, 9))] {
        server.send(&Query { server_id, ..release.clone() }).silent("not-our-server-id");
    }
    let elsewhere = Query { ciaddr: Ipv4Addr::LOCALHOST, ..release.clone() };
    server.send(&elsewhere).silent("not-our-address");
    assert_eq!(server.active(), 2);
    let unflagged = Query { unicast: false, ..release.clone() };
    assert!(matches!(server.send(&unflagged), Answer::Done));
    assert_eq!(server.active(), 1);
    server.send(&release).silent("release-repeated");
    assert_eq!(server.send(&Query::discover(1, L1)).offer().tuple(), lease.tuple());
    server.send(&Query::renew(2, L1, &others)).ack();
}

#[test]
fn a_whole_address_is_released_whatever_option_159_says() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L3);
    let release = Query { params: Some(vec![9]), ..Query::release(1, L3, &lease) };
    assert!(matches!(server.send(&release), Answer::Done));
    assert_eq!(server.active(), 0);
}

#[test]
fn an_ack_waits_for_a_record_when_the_last_one_is_not_durable() {
    let mut server = Server::reference();
    let offer = server.send(&Query::discover(1, L1)).offer();
    let select = Query::select(1, L1, &offer);
    let first = server.promise_without_commit(&select);
    let second = server.promise_without_commit(&select);
    assert!(first && second, "both must wait");
    server.commit();
    assert!(!server.promise_without_commit(&select), "now the record is durable");
}

#[test]
fn messages_that_are_not_served_are_counted() {
    use portlease::wire::dhcpv4::MessageType::{Ack, ForceRenew, LeaseQuery, Nak, Offer};
    let mut server = Server::reference();
    for (kind, reason) in [
        (ForceRenew, "not-served"),
        (LeaseQuery, "not-served"),
        (Offer, "server-msg"),
        (Ack, "server-msg"),
        (Nak, "server-msg"),
    ] {
        server.send(&Query::new(kind, 1, L1)).silent(reason);
    }
}

#[test]
fn a_reply_that_does_not_fit_promises_nothing() {
    let mut server = Server::reference();
    let offer = server.send(&Query::discover(1, L1)).offer();
    assert_eq!(server.refuse_for_room(&Query::select(1, L1, &offer), 200), "reply-too-large");
    assert_eq!(server.active(), 0);
}
