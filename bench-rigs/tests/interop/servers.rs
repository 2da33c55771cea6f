//! Two of our servers and one client on a link: the client takes what its mode says and renews with whom it took it
//! from; the other says nothing, and its counters say why.

use std::net::{Ipv4Addr, SocketAddrV6};

use bench_rigs::{
    daemon::Counters,
    exchange::{Talker, expect},
    message::{Identity, Lease, Message},
};
use portlease::wire::{
    dhcpv4::MessageType::{Ack, Offer, Release, Request},
    dhcpv6::SERVER_PORT,
};

use crate::{
    heard::{answers_to_last, count},
    scene::{CLIENT_AT, FULL, ONE, ONE_AT, Ours, SHARED, Scene, TWO, TWO_AT, hear},
    subscriber::{Subscriber, Told},
};

/// One address in two shares, of which the lower holds the well-known ports: there is exactly one to lease.
const ONLY_ONE: &str = "addresses = [\"192.0.2.40\"]\npsid-len = 1";

/// Shares of 4,096 ports.
const LARGER: &str = "addresses = [\"198.51.100.7\"]\npsid-len = 4";

/// What the server that was not chosen has to say of the client's REQUEST, of its renewal and of its RELEASE.
const SILENCES: [(&str, u64); 2] = [("not-our-address", 1), ("not-our-server-id", 2)];

fn expect_silences(loser: &Ours, before: &Counters) {
    let silences = loser.silences(before).unwrap();
    assert_eq!(silences, SILENCES.map(|(name, times)| (name.to_owned(), times)));
}

/// A client with these arguments obtains, renews and releases; it must take the offer of `winner`. Gives its lease.
fn live(scene: &Scene, arguments: &str, winner: Ipv4Addr) -> Told {
    let capture = scene.listen().unwrap();
    let mut client = Subscriber::start(&scene.client, arguments).unwrap();
    let obtained = client.told("obtained").unwrap();
    assert_eq!(obtained.server_id, winner, "{}", client.process.log());
    assert_eq!(client.renew().unwrap().tuple(), obtained.tuple());
    let renewed = hear(&capture, |heard| count(heard, Ack) >= 2).unwrap();
    assert_eq!(count(&renewed, Offer), 2, "both offer: {renewed:?}");
    assert_eq!(answers_to_last(&renewed, Request), [(Ack, winner)]);
    client.leave().unwrap();
    let heard = hear(&capture, |heard| count(heard, Release) >= 1).unwrap();
    let others = heard.iter().filter(|one| one.reply && one.server != Some(winner));
    assert_eq!(others.map(|one| one.kind).collect::<Vec<_>>(), [Offer], "{heard:?}");
    obtained
}

/// One shares, the other has whole addresses.
#[test]
fn a_client_takes_what_its_mode_says() {
    let mut scene = Scene::new().unwrap();
    let shared = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let full = scene.ours(TWO, TWO_AT, &[FULL]).unwrap();
    for (mode, winner, loser) in [
        ("", TWO, &shared),
        ("--mode prefer-shared", ONE, &full),
        ("--mode prefer-full", TWO, &shared),
    ] {
        let before = loser.daemon.counters().unwrap();
        let obtained = live(&scene, mode, winner);
        assert_eq!(obtained.shared, winner == ONE, "{mode}: {obtained:?}");
        expect_silences(loser, &before);
    }
}

/// The only port set of a server that was not chosen goes to the next who asks, although it would have been held for
/// the client for a minute.
#[test]
fn what_was_offered_in_vain_is_free_at_once() {
    let mut scene = Scene::new().unwrap();
    let shared = scene.ours(ONE, ONE_AT, &[ONLY_ONE]).unwrap();
    let _full = scene.ours(TWO, TWO_AT, &[FULL]).unwrap();
    let server = SocketAddrV6::new(ONE_AT, SERVER_PORT, 0, 0);
    let talker = Talker::direct(&scene.client.namespace, CLIENT_AT, server).unwrap();
    let (early, late) = (Identity::new(0, 1), Identity::new(0, 2));
    let offer = talker.ask(&early, &Message::discover(&early, 1)).unwrap();
    expect(&offer, Offer).unwrap();
    let before = shared.daemon.counters().unwrap();
    talker.expect_silence(&late, &Message::discover(&late, 2)).unwrap();
    assert_eq!(shared.silences(&before).unwrap(), [("pool-exhausted".to_owned(), 1)]);
    // Its holder takes another server's offer, and says so to all of them.
    let elsewhere = Lease { server: TWO, ..offer.lease };
    talker.expect_silence(&early, &Message::select(&early, 1, &elsewhere)).unwrap();

    let obtained = live(&scene, "", TWO);
    assert!(!obtained.shared, "{obtained:?}");
    let again = talker.ask(&late, &Message::discover(&late, 3)).unwrap();
    expect(&again, Offer).unwrap();
    assert_eq!(again.lease.tuple(), offer.lease.tuple());
}

/// Both share: the client takes the larger port set.
#[test]
fn of_two_shared_offers_the_one_with_more_ports_is_taken() {
    let mut scene = Scene::new().unwrap();
    let small = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let _large = scene.ours(TWO, TWO_AT, &[LARGER]).unwrap();
    for arguments in ["", "--mode prefer-shared", "--mode shared-only"] {
        let before = small.daemon.counters().unwrap();
        let obtained = live(&scene, arguments, TWO);
        assert_eq!((obtained.shared, obtained.port_count), (true, 4096), "{arguments}");
        expect_silences(&small, &before);
    }
}

/// Asked by unicast, as option 88 with several addresses wants it, both hear everything too.
#[test]
fn servers_that_are_asked_one_by_one_are_told_apart_too() {
    let mut scene = Scene::new().unwrap();
    let small = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let _large = scene.ours(TWO, TWO_AT, &[LARGER]).unwrap();
    let before = small.daemon.counters().unwrap();
    let obtained = live(&scene, &format!("--server {ONE_AT} --server {TWO_AT}"), TWO);
    assert_eq!(obtained.port_count, 4096);
    expect_silences(&small, &before);
}
