//! Conversations with their whole exchange: seconds since the beginning, who, what. `#n` numbers transactions,
//! `192.0.2.18[1/6]` is PSID 1 of six bits at that address, `U` the unicast flag.

use portlease::{
    client::{
        choose::Mode,
        lease::Assignment,
        machine::{Event, Memory},
    },
    engine::policy::PsidChoice,
};

use crate::{
    common::{L1, L3, L4, Server, pool, reference_pools},
    world::{Manner, World, tuple},
};

/// The reference server, which takes port sets in order so that the stories can be told.
fn server() -> Server {
    Server::with(|policy| policy.psid_choice = PsidChoice::Sequential)
}

fn world() -> World {
    World::new(vec![server()])
}

#[test]
fn a_lease_is_obtained_and_renewed() {
    let mut world = world();
    let client = world.add(Manner::on(L1));
    world.run_until_leased(client);
    insta::assert_snapshot!(world.story(), @r"
    0 client 1: DISCOVER #1
    0   server 1: OFFER #1 192.0.2.18[1/6] for 3600 s
    1 client 1: REQUEST #1 wants 192.0.2.18[1/6] of 192.0.2.254
    1   server 1: ACK #1 192.0.2.18[1/6] for 3600 s
    1 client 1: obtained 192.0.2.18[1/6]
    ");
    world.run_for(2000);
    insta::assert_snapshot!(world.story(), @r"
    1735 client 1: REQUEST U #2 has 192.0.2.18[1/6]
    1735   server 1: ACK #2 192.0.2.18[1/6] for 3600 s
    1735 client 1: renewed 192.0.2.18[1/6]
    ");
}

#[test]
fn a_server_that_was_down_at_t1_is_found_at_t2() {
    let mut world = world();
    let client = world.add(Manner::on(L1));
    let first = world.run_until_leased(client);
    world.story();
    world.sites[0].up = false;
    world.run_for(3100);
    world.sites[0].up = true;
    // It stays down for the client until the next try, which is in REBINDING.
    world.run_for(100);
    insta::assert_snapshot!(world.story(), @r"
    1735 client 1: REQUEST U #2 has 192.0.2.18[1/6]
    1735   server 1: never hears it
    2449 client 1: REQUEST U #3 has 192.0.2.18[1/6] since 714 s
    2449   server 1: never hears it
    2806 client 1: REQUEST U #4 has 192.0.2.18[1/6] since 1071 s
    2806   server 1: never hears it
    2985 client 1: REQUEST U #5 has 192.0.2.18[1/6] since 1250 s
    2985   server 1: never hears it
    3074 client 1: REQUEST U #6 has 192.0.2.18[1/6] since 1339 s
    3074   server 1: never hears it
    3134 client 1: REQUEST U #7 has 192.0.2.18[1/6] since 1399 s
    3134   server 1: ACK #7 192.0.2.18[1/6] for 3600 s
    3134 client 1: renewed 192.0.2.18[1/6]
    ");
    let rebound = world.nodes[client].lease.unwrap();
    assert_eq!(rebound.assignment, first.assignment);
    assert!(rebound.expires_at > first.expires_at);
}

#[test]
fn a_lease_that_nobody_extends_ends_and_is_asked_for_again() {
    let mut world = world();
    let client = world.add(Manner::on(L1));
    let first = world.run_until_leased(client);
    world.sites[0].up = false;
    world.run_for(3590);
    world.story();
    world.run_for(20);
    assert_eq!(world.nodes[client].lease, None);
    world.sites[0].up = true;
    let again = world.run_until_leased(client);
    insta::assert_snapshot!(world.story(), @r"
    3601 client 1: lost 192.0.2.18[1/6]: Expired
    3601 client 1: DISCOVER #12 wants 192.0.2.18[1/6]
    3601   server 1: never hears it
    3605 client 1: DISCOVER #12 wants 192.0.2.18[1/6] since 4 s
    3605   server 1: never hears it
    3613 client 1: DISCOVER #12 wants 192.0.2.18[1/6] since 12 s
    3613   server 1: OFFER #12 192.0.2.18[1/6] for 3600 s
    3614 client 1: REQUEST #12 wants 192.0.2.18[1/6] of 192.0.2.254 since 12 s
    3614   server 1: ACK #12 192.0.2.18[1/6] for 3600 s
    3614 client 1: obtained 192.0.2.18[1/6]
    ");
    assert_eq!(again.assignment, first.assignment);
}

#[test]
fn what_is_released_is_nobody_elses_for_a_while() {
    let mut world = world();
    let first = world.add(Manner::on(L1));
    let lease = world.run_until_leased(first);
    world.story();
    world.tell(first, Event::Release);
    assert!(world.nodes[first].stopped && world.nodes[first].lease.is_none());
    let second = world.add(Manner::on(L1));
    let other = world.run_until_leased(second);
    insta::assert_snapshot!(world.story(), @r"
    1 client 1: lost 192.0.2.18[1/6]: Released
    1 client 1: RELEASE U #2 has 192.0.2.18[1/6] of 192.0.2.254
    1   server 1: silent: done
    1 client 1: stopped
    1 client 2: DISCOVER #3
    1   server 1: OFFER #3 192.0.2.18[2/6] for 3600 s
    2 client 2: REQUEST #3 wants 192.0.2.18[2/6] of 192.0.2.254
    2   server 1: ACK #3 192.0.2.18[2/6] for 3600 s
    2 client 2: obtained 192.0.2.18[2/6]
    ");
    assert_ne!(other.assignment, lease.assignment);
    world.run_for(121);
    let third = world.add(Manner::on(L1));
    assert_eq!(world.run_until_leased(third).assignment, lease.assignment);
}

#[test]
fn a_restarted_client_confirms_its_lease() {
    let mut world = world();
    let client = world.add(Manner::on(L1));
    let lease = world.run_until_leased(client);
    world.story();
    let memory = Memory::Lease(lease.assignment);
    world.restart(client, Manner { memory, ..Manner::on(L1) });
    insta::assert_snapshot!(world.story(), @r"
    1 client 1: restarts
    1 client 1: REQUEST #2 wants 192.0.2.18[1/6]
    1   server 1: ACK #2 192.0.2.18[1/6] for 3600 s
    1 client 1: obtained 192.0.2.18[1/6]
    ");
    assert_eq!(world.nodes[client].lease.unwrap().assignment, lease.assignment);
}

#[test]
fn a_client_that_restarts_from_another_source_asks_for_the_same_and_gets_it() {
    let mut world = world();
    let client = world.add(Manner::on(L1));
    let lease = world.run_until_leased(client);
    world.story();
    world.tell(client, Event::SourceChanged);
    let again = world.run_until_leased(client);
    insta::assert_snapshot!(world.story(), @r"
    1 client 1: lost 192.0.2.18[1/6]: SourceChanged
    1 client 1: DISCOVER #2 wants 192.0.2.18[1/6]
    1   server 1: OFFER #2 192.0.2.18[1/6] for 3600 s
    2 client 1: REQUEST #2 wants 192.0.2.18[1/6] of 192.0.2.254
    2   server 1: ACK #2 192.0.2.18[1/6] for 3599 s
    2 client 1: obtained 192.0.2.18[1/6]
    ");
    assert_eq!(again.assignment, lease.assignment);
}

#[test]
fn a_restart_with_a_wrong_port_set_is_refused_and_begins_anew() {
    let mut world = world();
    let client = world.add(Manner::on(L1));
    let lease = world.run_until_leased(client);
    world.story();
    let mut wrong = lease.assignment;
    wrong.port_params.as_mut().unwrap().psid = 9;
    world.restart(client, Manner { memory: Memory::Lease(wrong), ..Manner::on(L1) });
    let again = world.run_until_leased(client);
    insta::assert_snapshot!(world.story(), @r"
    1 client 1: restarts
    1 client 1: REQUEST #2 wants 192.0.2.18[9/6]
    1   server 1: NAK #2
    1 client 1: DISCOVER #3
    1   server 1: OFFER #3 192.0.2.18[1/6] for 3600 s
    2 client 1: REQUEST #3 wants 192.0.2.18[1/6] of 192.0.2.254
    2   server 1: ACK #3 192.0.2.18[1/6] for 3599 s
    2 client 1: obtained 192.0.2.18[1/6]
    ");
    assert_eq!(again.assignment, lease.assignment, "the server remembers better");
}

#[test]
fn a_renewal_of_what_was_given_to_another_is_refused() {
    let mut world = world();
    let first = world.add(Manner::on(L1));
    let lease = world.run_until_leased(first);
    // A server that has forgotten everything gives the same port set to somebody else.
    world.nodes[first].lease = None;
    world.sites[0].server = server();
    let second = world.add(Manner::on(L1));
    assert_eq!(world.run_until_leased(second).assignment, lease.assignment);
    world.story();
    world.tell(first, Event::RenewNow);
    let other = world.run_until_leased(first);
    insta::assert_snapshot!(world.story(), @r"
    2 client 1: REQUEST U #3 has 192.0.2.18[1/6]
    2   server 1: NAK #3
    2 client 1: lost 192.0.2.18[1/6]: Refused
    2 client 1: DISCOVER #4
    2   server 1: OFFER #4 192.0.2.18[2/6] for 3600 s
    3 client 1: REQUEST #4 wants 192.0.2.18[2/6] of 192.0.2.254
    3   server 1: ACK #4 192.0.2.18[2/6] for 3600 s
    3 client 1: obtained 192.0.2.18[2/6]
    ");
    assert_ne!(other.assignment, lease.assignment);
}

#[test]
fn of_two_servers_the_chosen_one_leases_and_the_other_is_silent() {
    let mut others = reference_pools();
    others[0] = pool("P1", L1, ("192.0.2.20", "192.0.2.21"), 0, 6);
    let second = Server::serving(&others, |policy| {
        policy.psid_choice = PsidChoice::Sequential;
        policy.server_id = "192.0.2.253".parse().unwrap();
    });
    let mut world = World::new(vec![server(), second]);
    let client = world.add(Manner::on(L1));
    world.run_until_leased(client);
    world.tell(client, Event::RenewNow);
    world.tell(client, Event::Release);
    insta::assert_snapshot!(world.story(), @r"
    0 client 1: DISCOVER #1
    0   server 1: OFFER #1 192.0.2.18[1/6] for 3600 s
    0   server 2: OFFER #1 192.0.2.20[1/6] for 3600 s
    1 client 1: REQUEST #1 wants 192.0.2.18[1/6] of 192.0.2.254
    1   server 1: ACK #1 192.0.2.18[1/6] for 3600 s
    1   server 2: silent: not-our-server-id
    1 client 1: obtained 192.0.2.18[1/6]
    1 client 1: REQUEST U #2 has 192.0.2.18[1/6]
    1   server 1: ACK #2 192.0.2.18[1/6] for 3600 s
    1   server 2: silent: not-our-address
    1 client 1: renewed 192.0.2.18[1/6]
    1 client 1: lost 192.0.2.18[1/6]: Released
    1 client 1: RELEASE U #3 has 192.0.2.18[1/6] of 192.0.2.254
    1   server 1: silent: done
    1   server 2: silent: not-our-server-id
    1 client 1: stopped
    ");
    world.run_for(61);
    for site in &world.sites {
        assert_eq!(site.server.active(), 0, "nobody holds anything for the client any more");
    }
}

#[test]
fn a_lost_ack_is_repeated() {
    let mut world = world();
    let mut copies = [1, 1, 1, 0].into_iter();
    world.weather = Box::new(move || copies.next().unwrap_or(1));
    let client = world.add(Manner::on(L1));
    let lease = world.run_until_leased(client);
    insta::assert_snapshot!(world.story(), @r"
    0 client 1: DISCOVER #1
    0   server 1: OFFER #1 192.0.2.18[1/6] for 3600 s
    1 client 1: REQUEST #1 wants 192.0.2.18[1/6] of 192.0.2.254
    1   server 1: ACK #1 192.0.2.18[1/6] for 3600 s (lost)
    6 client 1: REQUEST #1 wants 192.0.2.18[1/6] of 192.0.2.254
    6   server 1: ACK #1 192.0.2.18[1/6] for 3596 s
    6 client 1: obtained 192.0.2.18[1/6]
    ");
    assert_eq!(world.sites[0].server.active(), 1);
    // The server's hour ends no earlier than the client's.
    let end = lease.expires_at.unwrap();
    let binding_end = world.sites[0].server.journal.last().unwrap().expires();
    assert!(u64::from(binding_end) * 1000 + 999 >= end.0);
}

#[test]
fn datagrams_that_come_twice_change_nothing() {
    let mut world = world();
    world.weather = Box::new(|| 2);
    let client = world.add(Manner::on(L1));
    world.run_until_leased(client);
    insta::assert_snapshot!(world.story(), @r"
    0 client 1: DISCOVER #1
    0   server 1: OFFER #1 192.0.2.18[1/6] for 3600 s
    0   server 1: OFFER #1 192.0.2.18[1/6] for 3600 s
    1 client 1: REQUEST #1 wants 192.0.2.18[1/6] of 192.0.2.254
    1   server 1: ACK #1 192.0.2.18[1/6] for 3600 s
    1   server 1: ACK #1 192.0.2.18[1/6] for 3600 s
    1 client 1: obtained 192.0.2.18[1/6]
    ");
    world.run_for(2000);
    world.tell(client, Event::Release);
    assert_eq!(world.sites[0].server.active(), 0);
}

#[test]
fn the_127th_client_of_two_addresses_waits_for_one_to_leave() {
    let mut world = world();
    let clients: Vec<usize> = (0..127).map(|_| world.add(Manner::on(L1))).collect();
    world.run_for(10);
    let leased = clients.iter().filter(|&&client| world.nodes[client].lease.is_some()).count();
    assert_eq!(leased, 126);
    assert!(world.story().contains("silent: pool-exhausted"));
    let waiting = *clients.iter().find(|&&client| world.nodes[client].lease.is_none()).unwrap();
    let freed = world.nodes[clients[5]].lease.unwrap();
    world.tell(clients[5], Event::Release);
    let lease = world.run_until_leased(waiting);
    assert_eq!(lease.assignment, freed.assignment);
    let reserved =
        |lease: &Assignment| lease.port_ranges().iter().any(|range| *range.start() < 1024);
    let held = world.nodes.iter().filter_map(|node| node.lease);
    assert!(!held.map(|lease| lease.assignment).any(|lease| reserved(&lease)));
}

#[test]
fn each_mode_gets_its_kind_where_there_are_both() {
    let mut world = world();
    let modes = [Mode::PreferFull, Mode::SharedOnly, Mode::FullOnly];
    let leases = modes.map(|mode| {
        let client = world.add(Manner { mode, ..Manner::on(L4) });
        world.run_until_leased(client).assignment
    });
    // One server makes one offer: what it prefers, the client that prefers otherwise takes too.
    assert_eq!(leases.map(tuple), ["192.0.2.40[1/6]", "192.0.2.40[2/6]", "203.0.113.40"]);
    let whole = world.add(Manner { mode: Mode::PreferShared, ..Manner::on(L3) });
    assert_eq!(tuple(world.run_until_leased(whole).assignment), "203.0.113.10");
}

#[test]
fn a_client_that_cannot_share_gets_nothing_where_all_is_shared() {
    let mut world = world();
    let client = world.add(Manner { mode: Mode::FullOnly, ..Manner::on(L1) });
    world.run_for(60);
    assert_eq!(world.nodes[client].lease, None);
    insta::assert_snapshot!(world.story(), @r"
     0 client 1: DISCOVER #1
     0   server 1: silent: no-159-in-prl
     3 client 1: DISCOVER #1 since 3 s
     3   server 1: silent: no-159-in-prl
    12 client 1: DISCOVER #1 since 12 s
    12   server 1: silent: no-159-in-prl
    27 client 1: DISCOVER #1 since 27 s
    27   server 1: silent: no-159-in-prl
    60 client 1: DISCOVER #1 since 59 s
    60   server 1: silent: no-159-in-prl
    ");
}
