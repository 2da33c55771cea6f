//! Limits of customer sites: leases and offers, and queries a second (RFC 7618 §10).

mod common;

use common::{Answer, L1, L2, L4, Query, Server, reference_pools};
use portlease::{
    engine::policy::SitePolicy,
    lease::{Features, record::Record},
};

fn limit_of(leases_per_site_max: u32) -> Features {
    Features { leases_per_site_max, ..Features::default() }
}

fn limited(leases_per_site_max: u32) -> Server {
    Server::featuring(&reference_pools(), limit_of(leases_per_site_max), |_| {})
}

/// A client behind the relay of the line `line`.
fn on_line(line: &str, query: Query) -> Query {
    Query { relayed: true, interface_id: Some(line.as_bytes().to_vec()), ..query }
}

fn discover(line: &str, client: u8) -> Query {
    on_line(line, Query::discover(client, L1))
}

/// A whole lease for a client of a line.
fn obtain(server: &mut Server, line: &str, client: u8) -> common::Received {
    let offer = server.send(&discover(line, client)).offer();
    server.send(&on_line(line, Query::select(client, L1, &offer))).ack()
}

#[test]
fn the_third_client_of_a_site_of_two_gets_no_offer() {
    let mut server = limited(2);
    let first = obtain(&mut server, "line", 1);
    obtain(&mut server, "line", 2);
    server.send(&discover("line", 3)).silent("site-limit");
    // Others are not concerned: another line, the same line's name under another relay, a direct client.
    obtain(&mut server, "other", 4);
    server.send(&on_line("line", Query::discover(5, L2))).offer();
    server.send(&Query::discover(6, L1)).offer();
    // Who has a lease goes on with it and is offered it again.
    server.send(&on_line("line", Query::renew(1, L1, &first))).ack();
    assert_eq!(server.send(&discover("line", 1)).offer().tuple(), first.tuple());
    // A lease that ends makes room at once, though its tuple rests.
    server.send(&on_line("line", Query::release(1, L1, &first)));
    obtain(&mut server, "line", 3);
    server.send(&discover("line", 1)).silent("site-limit");
}

#[test]
fn a_request_without_an_offer_is_refused_at_a_full_site() {
    let mut server = limited(1);
    let lease = obtain(&mut server, "line", 1);
    let mut params = lease.params.unwrap();
    params.psid = params.psid % 63 + 1;
    let offer = common::Received { params: Some(params), ..lease };
    let select = Query::select(2, L1, &offer);
    server.send(&on_line("line", select.clone())).nak();
    server.send(&on_line("other", select)).ack();
}

#[test]
fn offers_count_until_they_lapse() {
    let mut server = limited(2);
    server.send(&discover("line", 1)).offer();
    server.send(&discover("line", 2)).offer();
    server.send(&discover("line", 1)).offer();
    server.send(&discover("line", 3)).silent("site-limit");
    server.advance(61);
    server.send(&discover("line", 3)).offer();
    // A client that takes another server's offer has none of ours.
    let offer = server.send(&discover("line", 4)).offer();
    server.send(&discover("line", 5)).silent("site-limit");
    let elsewhere =
        Query { server_id: Some("192.0.2.99".parse().unwrap()), ..Query::select(4, L1, &offer) };
    server.send(&on_line("line", elsewhere)).silent("not-our-server-id");
    server.send(&discover("line", 5)).offer();
}

#[test]
fn a_flood_from_one_site_leaves_the_pool_to_others() {
    let mut server = limited(4);
    for round in 0..20_u8 {
        for client in 0..=255 {
            let query =
                Query { client_identifier: Some(vec![0, round, client]), ..discover("line", 1) };
            match server.send(&query) {
                Answer::Reply(_) | Answer::Silent("site-limit") => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(server.engine.leases().offers(), 4);
    for client in 0..122 {
        obtain(&mut server, &format!("line {client}"), client);
    }
    server.send(&discover("line 122", 122)).silent("pool-exhausted");
}

/// Leases that are released at once are held down, and would drain the pool in two minutes.
#[test]
fn coming_and_going_does_not_drain_a_pool() {
    let mut server = limited(2);
    let mut refused = 0;
    for client in 0..100 {
        match server.send(&discover("line", client)) {
            Answer::Reply(offer) => {
                let lease = server.send(&on_line("line", Query::select(client, L1, &offer))).ack();
                server.send(&on_line("line", Query::release(client, L1, &lease)));
            }
            other => {
                other.silent("site-limit");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 92, "eight tuples of one site rest");
    server.advance(121);
    obtain(&mut server, "line", 100);
}

#[test]
fn a_lease_that_moves_to_another_line_counts_there() {
    let mut server = limited(1);
    let lease = obtain(&mut server, "line", 1);
    server.advance(1800);
    server.send(&on_line("new line", Query::renew(1, L1, &lease))).ack();
    server.send(&discover("new line", 2)).silent("site-limit");
    let second = obtain(&mut server, "line", 2);
    // Where there is no room the lease goes on where it was.
    server.advance(1800);
    server.send(&on_line("new line", Query::renew(2, L1, &second))).ack();
    server.send(&discover("line", 3)).silent("site-limit");
    let sites: Vec<_> = server.journal.iter().map(Record::site).collect();
    assert_eq!((sites[0], sites[2]), (sites[2], sites[3]));
    assert_ne!(sites[0], sites[1]);
}

#[test]
fn a_restart_counts_what_was_leased() {
    let mut server = limited(2);
    obtain(&mut server, "line", 1);
    let gone = obtain(&mut server, "line", 2);
    server.send(&on_line("line", Query::release(2, L1, &gone)));
    obtain(&mut server, "line", 3);
    let mut server = server.restarted(limit_of(2));
    server.send(&discover("line", 4)).silent("site-limit");
    server.send(&discover("line", 2)).silent("site-limit");
    obtain(&mut server, "other", 4);
    server.advance(4000);
    server.send(&discover("line", 4)).offer();
    // A limit that is lower than what is leased takes no lease away.
    let mut server = server.restarted(limit_of(1));
    server.send(&discover("line", 4)).offer();
}

#[test]
fn direct_clients_of_a_prefix_are_a_site() {
    let features = limit_of(1);
    for (length, together) in [(48, true), (64, true), (128, false)] {
        let change = |policy: &mut portlease::engine::policy::Policy| {
            policy.sites.prefix_length = length;
        };
        let mut server = Server::featuring(&reference_pools(), features.clone(), change);
        server.obtain(1, L1);
        match server.send(&Query::discover(2, L1)) {
            Answer::Silent(reason) => assert!(together && reason == "site-limit"),
            other => assert!(!together, "{other:?}"),
        }
        server.obtain(1, L4);
    }
}

#[test]
fn a_site_that_asks_too_often_is_not_heard_for_a_while() {
    let sites = SitePolicy { queries_per_second: 2, ..SitePolicy::default() };
    let mut server = Server::with(|policy| policy.sites = sites);
    for _ in 0..20 {
        server.send(&discover("line", 1)).offer();
    }
    server.send(&discover("line", 1)).silent("rate-limit");
    server.send(&discover("line", 2)).silent("rate-limit");
    server.send(&discover("other", 3)).offer();
    server.now.0 += 500;
    server.send(&discover("line", 2)).offer();
    server.send(&discover("line", 2)).silent("rate-limit");
}
