//! I01-I09: clients that restart with the lease that they remember.

use portlease::engine::remark::Remark;

use crate::{
    dora::p1,
    lab::Bench,
    packet::{ACK, INTERFACE_ID, Level, Tuple},
    query::{Client, L1, L2, address},
    registry::{Case, TIME, engine_only, server},
};

pub const CASES: &[Case] = &[
    server("I01", the_remembered_lease_is_acknowledged),
    server("I02", other_ports_of_the_address),
    server("I03", nothing_is_said_to_a_stranger),
    server("I04", the_address_of_another_link),
    server("I05", without_ports),
    engine_only("I06", TIME, a_lease_that_has_ended),
    engine_only("I07", TIME, a_lease_that_is_somebody_elses_now),
    server("I08", another_source),
    server("I09", a_refusal_goes_back_through_the_relays),
];

fn the_remembered_lease_is_acknowledged(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let ack = lab.ack(&client.reboot(lease));
    assert_eq!(ack.tuple(), lease);
    assert!(ack.has(159) && ack.has(51));
    lab.assert_holds(&client, lease);
}

fn other_ports_of_the_address(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    lab.obtain_tuple(&client, p1(18, 9));
    lab.nak_without_change(&client.reboot(p1(18, 10)));
    lab.assert_holds(&client, p1(18, 9));
}

fn nothing_is_said_to_a_stranger(bench: Bench) {
    let mut lab = bench.lab();
    lab.expect_discard("unknown-client", &Client::on(L1, 1).reboot(p1(18, 9)));
    lab.obtain_tuple(&Client::on(L1, 2), p1(18, 10));
    lab.expect_discard("unknown-client", &Client::on(L1, 1).reboot(p1(18, 10)));
}

/// It has moved from L1 to L2.
fn the_address_of_another_link(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("server.authoritative", true));
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let moved = Client { source: address(L2, 0x10), ..client };
    lab.nak_without_change(&moved.reboot(lease));
}

fn without_ports(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    lab.nak_without_change(&client.reboot(Tuple { ports: None, ..lease }));
    lab.assert_holds(&client, lease);
}

fn a_lease_that_has_ended(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    for seconds in [3650, 4000] {
        lab.wait(seconds);
        assert!(lab.active().is_empty());
        assert_eq!(lab.ack(&client.reboot(lease)).tuple(), lease);
        lab.assert_holds(&client, lease);
    }
}

fn a_lease_that_is_somebody_elses_now(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let lease = lab.obtain(&one).tuple();
    lab.wait(4000);
    lab.obtain_tuple(&two, lease);
    lab.nak_without_change(&one.reboot(lease));
    lab.assert_holds(&two, lease);
}

fn another_source(bench: Bench) {
    let client = Client::on(L1, 1);
    let moved = Client { source: address(L1, 0x77), ..client.clone() };
    let mut strict = bench.lab_with(|setup| setup.set("policy.bind-source", "nak"));
    let lease = strict.obtain(&client).tuple();
    strict.nak_without_change(&moved.reboot(lease));
    assert_eq!(strict.ack(&client.reboot(lease)).tuple(), lease);

    let mut lab = bench.lab();
    let lease = lab.obtain(&client).tuple();
    let (ack, remarks) = lab.send_and_count(&moved.reboot(lease)).expect("an ACK");
    assert_eq!((ack.kind(), ack.tuple()), (ACK, lease));
    assert_eq!(remarks, [(Remark::Moved.name().to_owned(), 1)]);
    assert_eq!(lab.durable(lease).unwrap().source, moved.source);
    if bench == Bench::Daemon {
        lab.wait(2);
        assert!(lab.log().contains(Remark::Moved.name()), "a remark in: {}", lab.log());
    }
}

/// The chain and the flag are held against the query in `Reply::assert_lawful`; here it is said what they are.
fn a_refusal_goes_back_through_the_relays(bench: Bench) {
    let mut lab = bench.lab();
    let relays = vec![
        Level::new(1, "::", "2001:db8:ffff::b"),
        Level::new(0, "2001:db8:1::1", "fe80::1").with(INTERFACE_ID, b"ge-0"),
    ];
    let client = Client::on(L1, 1).behind(relays);
    lab.obtain_tuple(&client, p1(18, 9));
    let nak = lab.nak_without_change(&client.reboot(p1(18, 10)));
    assert_eq!(nak.relays.len(), 2);
    assert_eq!(nak.relays[1].options, [(INTERFACE_ID, b"ge-0".to_vec())]);
    assert_eq!((nak.destination_port, nak.message.flags), (547, 0));
    let nak = lab.nak_without_change(&client.reboot(p1(18, 10)).giaddr([10, 0, 0, 1]));
    assert_eq!(nak.message.flags, 0x8000);
}
