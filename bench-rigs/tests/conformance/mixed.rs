//! X01-X11, the server's side: shared and whole addresses beside each other.

use crate::{
    dora::{assert_of_p1, p1},
    lab::{Bench, Lab},
    packet::{Ports, Tuple},
    query::{Client, L1, L3, L4},
    registry::{Case, server},
};

pub const CASES: &[Case] = &[
    server("X01", a_capable_client_shares),
    server("X02", an_incapable_client_gets_nothing_shared),
    server("X03", each_server_offers_what_it_has),
    server("X04", a_capable_client_takes_a_whole_address),
    server("X05", an_incapable_client_gets_whole_addresses_only),
    server("X06", nothing_whole_is_left),
    server("X07", nothing_shared_is_left),
    server("X08", a_server_that_ignores_sharing),
    server("X09", a_whole_offer_is_taken_with_a_hint),
    server("X10", ports_without_the_code_in_the_list),
    server("X11", a_whole_lease_stays_whole),
];

/// The whole address of L4.
const F4: [u8; 4] = [203, 0, 113, 40];

fn whole(address: [u8; 4]) -> Tuple {
    Tuple { address: address.into(), ports: None }
}

/// A lease on L4 that is the whole address there is.
#[track_caller]
fn obtains_f4(lab: &mut Lab, client: &Client) {
    assert_eq!(lab.obtain(client).tuple(), whole(F4));
}

fn a_capable_client_shares(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let ack = lab.obtain(&client);
    assert_of_p1(&ack);
    lab.assert_holds(&client, ack.tuple());
}

fn an_incapable_client_gets_nothing_shared(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1).incapable();
    lab.expect_discard("no-159-in-prl", &client.discover());
    lab.expect_discard("no-159-in-prl", &client.select_tuple(whole([192, 0, 2, 18])));
    lab.expect_discard("no-159-in-prl", &client.reboot(whole([192, 0, 2, 18])));
}

/// One server has shared addresses on the link, another whole ones; each offers its own to the same client.
fn each_server_offers_what_it_has(bench: Bench) {
    let client = Client::on(L1, 1);
    let shared = bench.lab().offer(&client.discover());
    assert_of_p1(&shared);
    let mut other = bench.lab_with(|setup| {
        setup.set("link.0.match", toml::Value::Array(vec![]));
        setup.push("link.2.match", "{ source = \"2001:db8:1::/64\" }");
        setup.push("link.0.match", "{ source = \"2001:db8:5::/64\" }");
    });
    let offer = other.offer(&client.discover());
    assert_eq!(offer.ports(), None);
    assert_eq!(offer.message.yiaddr.octets()[..3], [203, 0, 113]);
    // The one that is not chosen stays silent and takes its offer back.
    let chosen = client.select(&offer).set(54, &[198, 51, 100, 254]);
    assert_eq!(other.silent(&chosen), ["not-our-server-id"]);
    assert!(other.active().is_empty());
}

fn a_capable_client_takes_a_whole_address(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L3, 1);
    let offer = lab.offer(&client.discover());
    let ack = lab.ack(&client.select(&offer));
    assert!(!offer.has(159) && !ack.has(159));
    assert!((10..=12).map(|last| whole([203, 0, 113, last])).any(|tuple| tuple == ack.tuple()));
    lab.assert_holds(&client, ack.tuple());
}

fn an_incapable_client_gets_whole_addresses_only(bench: Bench) {
    let mut lab = bench.lab();
    obtains_f4(&mut lab, &Client::on(L4, 1).incapable());
}

fn nothing_whole_is_left(bench: Bench) {
    let mut lab = bench.lab();
    obtains_f4(&mut lab, &Client::on(L4, 1).incapable());
    lab.expect_discard("pool-exhausted", &Client::on(L4, 2).incapable().discover());
    assert!(lab.obtain(&Client::on(L4, 3)).has(159));
}

fn nothing_shared_is_left(bench: Bench) {
    let mut lab = bench.lab();
    for number in 1..=63 {
        let (address, _) = lab.obtain(&Client::on(L4, number)).shared();
        assert_eq!(address.octets(), [192, 0, 2, 40]);
    }
    obtains_f4(&mut lab, &Client::on(L4, 64));
    lab.expect_discard("pool-exhausted", &Client::on(L4, 65).discover());
}

fn a_server_that_ignores_sharing(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("policy.ignore-159", true));
    obtains_f4(&mut lab, &Client::on(L4, 1));
    lab.expect_discard("pool-exhausted", &Client::on(L4, 2).discover());
}

fn a_whole_offer_is_taken_with_a_hint(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("link.3.prefer", "full"));
    let client = Client::on(L4, 1);
    let hint = Some(Ports::new(0, 6, 0));
    let offer = lab.offer(&client.discover().ports(hint));
    assert_eq!(offer.tuple(), whole(F4));
    let query = client.select(&offer).ports(hint);
    assert!(query.option(55).unwrap().contains(&159));
    assert_eq!(lab.ack(&query).tuple(), whole(F4));
    lab.assert_holds(&client, whole(F4));
}

fn ports_without_the_code_in_the_list(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L4, 1).incapable();
    let ports = Some(Ports::new(0, 6, 7));
    let offer = lab.offer(&client.discover().ports(ports));
    assert_eq!(offer.tuple(), whole(F4));
    assert_eq!(lab.ack(&client.select(&offer).ports(ports)).tuple(), whole(F4));
    let wanted = Tuple { address: [192, 0, 2, 40].into(), ..p1(18, 7) };
    let other = Client::on(L4, 2).incapable().discover_for(wanted);
    lab.expect_discard("pool-exhausted", &other);
}

fn a_whole_lease_stays_whole(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("lease.early-renewal-percent", 0));
    let client = Client::on(L4, 1);
    obtains_f4(&mut lab, &client.clone().incapable());
    // Now it knows of sharing and asks for it: its lease stays what it is.
    let hint = Some(Ports::new(0, 6, 0));
    for query in [client.renew(whole(F4)), client.renew(whole(F4)).ports(hint)] {
        assert_eq!(lab.ack(&query).tuple(), whole(F4));
    }
    assert_eq!(lab.offer(&client.discover()).tuple(), whole(F4));
    lab.assert_holds(&client, whole(F4));
}
