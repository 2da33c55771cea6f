//! L01-L12: RELEASE, DECLINE and INFORM.

use portlease::lease::record::State;

use crate::{
    dora::p1,
    lab::{Bench, Lab},
    packet::Tuple,
    query::{Client, L1, L3},
    registry::{Case, server},
};

pub const CASES: &[Case] = &[
    server("L01", a_release_ends_the_lease),
    server("L02", a_release_of_somebody_elses_ports),
    server("L03", a_release_without_ports),
    server("L04", a_release_to_another_server),
    server("L05", a_second_release),
    server("L06", the_tuple_comes_back_after_a_release),
    server("L07", a_release_without_the_unicast_flag),
    server("L08", a_declined_tuple),
    server("L09", declining_somebody_elses_ports),
    server("L10", declining_again_and_again),
    server("L11", an_inform_where_there_are_whole_addresses),
    server("L12", an_inform_where_there_are_none),
];

fn leased(lab: &mut Lab, client: &Client) -> Tuple {
    lab.obtain(client).tuple()
}

/// No reply, no reason for silence: it was done.
#[track_caller]
fn released(lab: &mut Lab, client: &Client, lease: Tuple, unicast: bool) {
    let mut query = client.release(lease);
    assert_eq!(query.option(55), None);
    if !unicast {
        query.flags = [0; 3];
    }
    assert!(lab.silent(&query).is_empty());
    assert!(lab.active().is_empty());
    assert_eq!(lab.durable(lease).unwrap().state, State::Former);
}

fn a_release_ends_the_lease(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = leased(&mut lab, &client);
    released(&mut lab, &client, lease, true);
}

fn a_release_of_somebody_elses_ports(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    lab.obtain_tuple(&one, p1(18, 9));
    lab.obtain_tuple(&two, p1(18, 10));
    lab.expect_discard("release-mismatch", &one.release(p1(18, 10)));
    lab.assert_holds(&two, p1(18, 10));
    lab.assert_holds(&one, p1(18, 9));
}

fn a_release_without_ports(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = leased(&mut lab, &client);
    lab.expect_discard("release-mismatch", &client.release(lease).without(159));
    lab.assert_holds(&client, lease);

    let mut lenient = bench.lab_with(|setup| setup.set("policy.release-without-159", "accept"));
    let lease = leased(&mut lenient, &client);
    assert!(lenient.silent(&client.release(lease).without(159)).is_empty());
    assert!(lenient.active().is_empty());
}

fn a_release_to_another_server(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = leased(&mut lab, &client);
    let elsewhere = client.release(lease).set(54, &[198, 51, 100, 254]);
    lab.expect_discard("not-our-server-id", &elsewhere);
    lab.expect_discard("not-our-server-id", &client.release(lease).without(54));
    lab.assert_holds(&client, lease);
}

fn a_second_release(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = leased(&mut lab, &client);
    released(&mut lab, &client, lease, true);
    lab.expect_discard("release-repeated", &client.release(lease));
    assert_eq!(lab.obtain(&client).tuple(), lease);
}

fn the_tuple_comes_back_after_a_release(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = leased(&mut lab, &client);
    released(&mut lab, &client, lease, true);
    assert_eq!(lab.offer(&client.discover()).tuple(), lease);
}

fn a_release_without_the_unicast_flag(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = leased(&mut lab, &client);
    released(&mut lab, &client, lease, false);
}

fn a_declined_tuple(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two, three) = (Client::on(L1, 1), Client::on(L1, 2), Client::on(L1, 3));
    lab.obtain_tuple(&one, p1(18, 9));
    lab.obtain_tuple(&two, p1(18, 10));
    let query = one.decline(p1(18, 9));
    assert_eq!(query.option(55), None);
    assert!(lab.silent(&query).is_empty());
    assert_eq!(lab.durable(p1(18, 9)).unwrap().state, State::Quarantined);
    // Its neighbours go on, and others join them; nobody gets it, not even who had it.
    lab.obtain_tuple(&Client::on(L1, 5), p1(18, 11));
    for client in [&one, &three] {
        assert_ne!(lab.offer(&client.discover_for(p1(18, 9))).tuple(), p1(18, 9));
        lab.nak_without_change(&client.select_tuple(p1(18, 9)));
    }
    assert_eq!(lab.ack(&two.renew(p1(18, 10))).tuple(), p1(18, 10));
    if bench == Bench::Daemon {
        lab.wait(2);
        assert!(lab.log().contains("tuples-declined"), "a remark in: {}", lab.log());
    } else {
        // After a day it is as good as any.
        lab.wait(86_400 + 1);
        lab.obtain_tuple(&Client::on(L1, 4), p1(18, 9));
    }
}

fn declining_somebody_elses_ports(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    lab.obtain_tuple(&one, p1(18, 9));
    lab.obtain_tuple(&two, p1(18, 10));
    lab.expect_discard("decline-mismatch", &one.decline(p1(18, 10)));
    lab.assert_holds(&one, p1(18, 9));
    lab.assert_holds(&two, p1(18, 10));
}

fn declining_again_and_again(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let mut taken = 0;
    for _ in 0..10 {
        let lease = lab.obtain(&client).tuple();
        match &lab.silent(&client.decline(lease))[..] {
            [] => taken += 1,
            counted => assert_eq!(counted, ["rate-limit"]),
        }
    }
    assert!((1..10).contains(&taken), "{taken} of 10 declines were believed");
    let leases = lab.durable_leases().into_values();
    let quarantined = leases.filter(|lease| lease.state == State::Quarantined).count();
    assert_eq!(quarantined, taken);
    // Almost all of the pool is still there for others.
    for number in 2..30 {
        lab.obtain(&Client::on(L1, number));
    }
}

fn an_inform_where_there_are_whole_addresses(bench: Bench) {
    let mut lab = bench.lab_with(|setup| {
        setup.set_toml("options.domain-name-servers", "[\"192.0.2.53\"]");
    });
    let before = lab.state();
    let address = [203, 0, 113, 200];
    let ack = lab.ack(&Client::on(L3, 1).inform(address.into()));
    assert!([51, 58, 59, 159].iter().all(|code| !ack.has(*code)), "{:?}", ack.codes());
    assert!(ack.message.yiaddr.is_unspecified());
    assert_eq!(ack.message.ciaddr.octets(), address);
    assert_eq!(ack.option(6), Some(&[192, 0, 2, 53][..]));
    assert_eq!(lab.state(), before, "an INFORM is no lease");
}

fn an_inform_where_there_are_none(bench: Bench) {
    let query = Client::on(L1, 1).incapable().inform([192, 0, 2, 18].into());
    bench.lab().expect_discard("no-159-in-prl", &query);
    let knob = "policy.answer-inform-without-159";
    let mut lab = bench.lab_with(|setup| setup.set(knob, true));
    let ack = lab.ack(&query);
    assert!(!ack.has(51) && !ack.has(159) && ack.message.yiaddr.is_unspecified());
}
