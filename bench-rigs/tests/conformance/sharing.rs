//! H01-H13 without H04: how many share an address, which configurations are refused, and what rests after a release.

use std::{collections::BTreeSet, process::Command};

use bench_rigs::daemon::{folder_on_disk, portlease_binary};

use crate::{
    dora::{assert_of_p1, p1},
    lab::{Bench, Lab},
    packet::{INTERFACE_ID, Level, Tuple},
    query::{Client, L1},
    registry::{Case, TIME, daemon_only, engine_only, server},
    setup::Setup,
};

pub const CASES: &[Case] = &[
    server("H01", two_addresses_for_126_clients),
    server("H02", none_for_the_127th),
    engine_only("H03", TIME, neighbours_are_independent),
    server("H05", a_large_offset),
    server("H06", impossible_geometries),
    server("H07", one_address_cut_in_two_ways),
    server("H08", one_address_shared_and_whole),
    server("H09", more_reserved_ports),
    server("H10", system_ports_on_demand),
    daemon_only("H11", "the server has no probe to enable", nothing_is_probed),
    server("H12", a_released_tuple_rests),
    server("H13", a_site_with_as_much_as_it_may_have),
];

/// Leases to 126 clients, in their order.
fn fill(lab: &mut Lab) -> Vec<Tuple> {
    (1..=126)
        .map(|number| {
            let ack = lab.obtain(&Client::on(L1, number));
            assert_of_p1(&ack);
            ack.tuple()
        })
        .collect()
}

fn two_addresses_for_126_clients(bench: Bench) {
    let mut lab = bench.lab();
    let tuples = fill(&mut lab);
    // RFC 7618 §10.1: nobody can tell the next one from the last.
    let psid = |tuple: &Tuple| tuple.ports.unwrap().psid;
    let follows = |pair: &&[Tuple]| psid(&pair[1]) == psid(&pair[0]) + 1;
    assert!(tuples.windows(2).filter(follows).count() < 20, "one after the other: {tuples:?}");
    let tuples: BTreeSet<Tuple> = tuples.into_iter().collect();
    assert_eq!(tuples.len(), 126, "all of them distinct");
    for last in [18, 19] {
        let of_address = tuples.iter().filter(|tuple| tuple.address.octets() == [192, 0, 2, last]);
        assert_eq!(of_address.count(), 63);
    }
    assert_eq!(lab.active().len(), 126);
}

fn none_for_the_127th(bench: Bench) {
    let mut lab = bench.lab();
    fill(&mut lab);
    lab.expect_discard("pool-exhausted", &Client::on(L1, 127).discover());
}

fn neighbours_are_independent(bench: Bench) {
    let mut lab = bench.lab();
    let clients = [1, 2, 3].map(|number| Client::on(L1, number));
    let tuples = [p1(18, 5), p1(18, 6), p1(18, 7)];
    for (client, tuple) in clients.iter().zip(tuples) {
        lab.obtain_tuple(client, tuple);
    }
    // One renews, one releases, one does nothing.
    lab.wait(2000);
    lab.ack(&clients[0].renew(tuples[0]));
    lab.silent(&clients[1].release(tuples[1]));
    let active = lab.active();
    assert!(active.contains_key(&tuples[0]) && active.contains_key(&tuples[2]));
    assert!(!active.contains_key(&tuples[1]));
    lab.wait(2000);
    assert_eq!(lab.active().into_keys().collect::<Vec<_>>(), [tuples[0]]);
    lab.assert_holds(&clients[0], tuples[0]);
}

/// What is said of a configuration that is refused: by the compiler of configurations, or by `portlease check`.
fn refusal(bench: Bench, change: impl FnOnce(&mut Setup)) -> Option<String> {
    let mut setup = Setup::reference();
    change(&mut setup);
    if bench == Bench::Engine {
        return setup.compile().err();
    }
    let folder = folder_on_disk("conformance-").unwrap();
    let path = folder.path().join("portlease.toml");
    std::fs::write(&path, setup.text()).unwrap();
    let mut check = Command::new(portlease_binary().unwrap());
    let output = check.arg("check").arg("--config").arg(&path).output().unwrap();
    match output.status.code() {
        Some(0) => None,
        Some(2) => Some(String::from_utf8(output.stderr).unwrap()),
        other => panic!("exit code {other:?}"),
    }
}

/// Asserts that a configuration is refused, and that what is said names these.
#[track_caller]
fn assert_refused(bench: Bench, named: &[&str], change: impl FnOnce(&mut Setup)) {
    let said = refusal(bench, change).expect("a refusal");
    for name in named {
        assert!(said.contains(name), "`{name}` in: {said}");
    }
}

fn a_large_offset(bench: Bench) {
    let offset = |setup: &mut Setup| setup.set("link.1.pool.0.psid-offset", 8);
    assert_refused(bench, &["psid-offset", "8", "allow-system-ports"], offset);
    let allowed = refusal(bench, |setup| {
        offset(setup);
        setup.set("policy.allow-system-ports", true);
    });
    assert_eq!(allowed, None);
}

fn impossible_geometries(bench: Bench) {
    let mut shapes = Vec::new();
    for (offset, length, named) in [(6, 11, "16"), (16, 0, "psid-offset"), (0, 17, "psid-len")] {
        for allow in [false, true] {
            shapes.push((offset, length, named, allow));
        }
    }
    for (offset, length, named, allow) in shapes {
        assert_refused(bench, &[named, "allowed"], |setup| {
            setup.set("link.1.pool.0.psid-offset", offset);
            setup.set("link.1.pool.0.psid-len", length);
            setup.set("policy.allow-system-ports", allow);
        });
    }
}

fn one_address_cut_in_two_ways(bench: Bench) {
    let addresses = || toml::Value::from(vec!["192.0.2.19"]);
    assert_refused(bench, &["192.0.2.19", "P1", "one pool"], |setup| {
        setup.set("link.1.pool.0.addresses", addresses());
    });
}

fn one_address_shared_and_whole(bench: Bench) {
    let addresses = || toml::Value::from(vec!["192.0.2.40"]);
    assert_refused(bench, &["192.0.2.40", "P4", "one pool"], |setup| {
        setup.set("link.3.pool.1.addresses", addresses());
    });
}

/// PSID 4 has the ports 4096 to 5119.
fn more_reserved_ports(bench: Bench) {
    let mut lab = bench.lab_with(|setup| {
        setup.set("link.0.pool.0.addresses", toml::Value::from(vec!["192.0.2.19"]));
        setup.set("link.0.pool.0.reserved-ports", toml::Value::from(vec!["5060-5061"]));
    });
    assert_ne!(lab.offer(&Client::on(L1, 1).discover_for(p1(19, 4))).tuple(), p1(19, 4));
    let leased: BTreeSet<u16> =
        (1..=62).map(|number| lab.obtain(&Client::on(L1, number)).ports().unwrap().psid).collect();
    assert_eq!(leased, (1..64).filter(|psid| *psid != 4).collect());
    lab.expect_discard("pool-exhausted", &Client::on(L1, 63).discover());
}

fn system_ports_on_demand(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("policy.allow-system-ports", true));
    let client = Client::on(L1, 1);
    assert_eq!(lab.obtain_tuple(&client, p1(19, 0)).tuple(), p1(19, 0));
}

/// A tuple is leased, given up and leased again: no echo request and no ARP is seen meanwhile.
fn nothing_is_probed(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("lease.hold-down", "0s"));
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let lease = lab.obtain(&one).tuple();
    lab.silent(&one.release(lease));
    lab.wait(1);
    lab.obtain(&two);
    lab.wait(1);
    let kinds: BTreeSet<[u8; 2]> =
        lab.other_frames().iter().map(|frame| [frame[12], frame[13]]).collect();
    for (protocol, kind) in [("IPv4", [8, 0]), ("ARP", [8, 6])] {
        assert!(!kinds.contains(&kind), "the server sent a frame of {protocol}");
    }
}

fn a_released_tuple_rests(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let lease = lab.obtain(&one).tuple();
    lab.silent(&one.release(lease));
    assert_ne!(lab.offer(&two.discover_for(lease)).tuple(), lease);
    lab.nak_without_change(&two.select_tuple(lease));
    assert_eq!(lab.obtain(&one).tuple(), lease);
}

fn a_site_with_as_much_as_it_may_have(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("policy.max-leases-per-site", 2));
    let at = |number: u16, port: &[u8]| {
        let relay = Level::new(0, "2001:db8:1::1", "fe80::1").with(INTERFACE_ID, port);
        Client::on(L1, number).behind(vec![relay])
    };
    let lease = lab.obtain(&at(1, b"ge-1")).tuple();
    lab.obtain(&at(2, b"ge-1"));
    lab.expect_discard("site-limit", &at(3, b"ge-1").discover());
    // Who has a lease goes on; other sites are served; what is given up makes room.
    lab.ack(&at(1, b"ge-1").renew(lease));
    lab.obtain(&at(4, b"ge-2"));
    lab.silent(&at(1, b"ge-1").release(lease));
    lab.obtain(&at(3, b"ge-1"));
}
