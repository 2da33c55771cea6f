//! L01-L07: RELEASE.

use portlease::lease::record::State;

use crate::{
    dora::p1,
    lab::{Bench, Lab},
    packet::Tuple,
    query::{Client, L1},
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
