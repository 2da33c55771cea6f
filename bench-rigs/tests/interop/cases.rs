//! The four cases of compatibility that the working group drew up: clients that can share an address and clients that
//! cannot, servers that can and servers that cannot.

use bench_rigs::{daemon::Config, kea};
use portlease::wire::dhcpv4::MessageType::{Ack, Discover, Offer, Release, Request};

use crate::{
    heard::{answers_to_last, count},
    scene::{FULL, KEA_AT, ONE, ONE_AT, SERVER, SHARED, Scene, hear, link},
    subscriber::Subscriber,
};

/// case-X01: the client can share, the server shares.
#[test]
fn case_1_a_capable_client_gets_ports_of_a_shared_address() {
    let mut scene = Scene::new().unwrap();
    let ours = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let capture = scene.listen().unwrap();
    let mut client = Subscriber::start(&scene.client, "").unwrap();
    let obtained = client.told("obtained").unwrap();
    assert!(["192.0.2.18", "192.0.2.19"].contains(&obtained.address.to_string().as_str()));
    let ports = obtained.ports().expect("a port set");
    assert_eq!((ports.offset, ports.psid_length, obtained.port_count), (0, 6, 1024));
    assert!(obtained.shared && ports.psid > 0, "{obtained:?}");
    assert_eq!(client.renew().unwrap().tuple(), obtained.tuple());
    client.leave().unwrap();
    let heard = hear(&capture, |heard| count(heard, Release) == 1).unwrap();
    let said: Vec<_> = heard.iter().map(|one| (one.kind, one.flagged, one.ports)).collect();
    let told = Some(ports);
    assert_eq!(
        said,
        [
            (Discover, false, None),
            (Offer, false, told),
            (Request, false, told),
            (Ack, false, told),
            (Request, true, told),
            (Ack, false, told),
            (Release, true, told),
        ]
    );
    assert!(heard.iter().all(|one| one.lists_159 == matches!(one.kind, Discover | Request)));
    let counters = ours.daemon.counters().unwrap();
    assert_eq!((counters.get("acks"), counters.get("leases-held-down")), (2, 1), "{counters:?}");
}

/// case-X02: the client cannot share, and the server has nothing else. Neither a DISCOVER nor a REQUEST is answered;
/// the client fails and makes no address up.
#[test]
fn case_2_a_client_that_lists_no_159_gets_nothing_where_all_is_shared() {
    let mut scene = Scene::new().unwrap();
    let mut ours = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let before = ours.daemon.counters().unwrap();
    let capture = scene.listen().unwrap();
    let client = Subscriber::start(&scene.client, "--mode full-only --timeout 6").unwrap();
    let log = client.fail().unwrap();
    assert!(log.contains("no lease"), "{log}");
    let heard = hear(&capture, |heard| heard.len() >= 2).unwrap();
    assert_eq!(heard.len(), count(&heard, Discover), "{heard:?}");
    assert!(heard.iter().all(|one| !one.lists_159 && !one.reply));
    let silences = ours.silences(&before).unwrap();
    assert_eq!(silences, [("no-159-in-prl".to_owned(), heard.len() as u64)]);

    // A client that has a whole address already, and comes back after its server shares all it has: a REQUEST.
    let state = scene.folder.path().join("state.json");
    let arguments = format!("--mode full-only --no-release --state {}", state.display());
    let with =
        |pools: &[&str]| Config { links: link(pools), ..Config::new(SERVER, ONE_AT, "xdp-native") };
    ours.restart(&with(&[SHARED, FULL])).unwrap();
    let mut client = Subscriber::start(&scene.client, &arguments).unwrap();
    assert!(!client.told("obtained").unwrap().shared);
    client.leave().unwrap();
    ours.restart(&with(&[SHARED])).unwrap();
    let before = ours.daemon.counters().unwrap();
    let capture = scene.listen().unwrap();
    let client = Subscriber::start(&scene.client, &format!("{arguments} --timeout 6")).unwrap();
    client.fail().unwrap();
    let heard = hear(&capture, |heard| heard.len() >= 2).unwrap();
    assert_eq!(heard.len(), count(&heard, Request), "{heard:?}");
    let silences = ours.silences(&before).unwrap();
    assert_eq!(silences, [("no-159-in-prl".to_owned(), heard.len() as u64)]);
    assert_eq!(scene.ipv4_addresses().unwrap(), [""; 0], "no 169.254/16, nor any other");
}

/// The working group's slides let a client ask as if it could not share, and say that it can only when nobody answers;
/// RFC 7618 dropped that, `--mode full-first` has it.
#[test]
fn a_client_that_first_asks_without_159_gets_what_there_is() {
    let mut scene = Scene::new().unwrap();
    let ours = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let before = ours.daemon.counters().unwrap();
    let arguments = "--mode full-first --full-first-tries 1";
    let mut client = Subscriber::start(&scene.client, arguments).unwrap();
    assert!(client.told("obtained").unwrap().shared, "{}", client.process.log());
    client.leave().unwrap();
    assert_eq!(ours.silences(&before).unwrap(), [("no-159-in-prl".to_owned(), 1)]);

    let _theirs = scene.kea().unwrap();
    let capture = scene.listen().unwrap();
    let mut client = Subscriber::start(&scene.client, arguments).unwrap();
    assert_eq!(client.told("obtained").unwrap().server_id, kea::SERVER_ID);
    client.leave().unwrap();
    let heard = hear(&capture, |heard| count(heard, Release) == 1).unwrap();
    assert!(heard.iter().all(|one| !one.lists_159 && one.ports.is_none()), "{heard:?}");
}

/// case-X03: the client can share; one server shares, the other, Kea, has whole addresses. Both offer.
#[test]
fn case_3_two_servers_offer_and_the_mode_decides() {
    let mut scene = Scene::new().unwrap();
    let ours = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let _theirs = scene.kea().unwrap();
    for (mode, expected, shared) in
        [("", kea::SERVER_ID, false), ("--mode prefer-shared", ONE, true)]
    {
        let before = ours.daemon.counters().unwrap();
        let capture = scene.listen().unwrap();
        let mut client = Subscriber::start(&scene.client, mode).unwrap();
        let obtained = client.told("obtained").unwrap();
        assert_eq!((obtained.server_id, obtained.shared), (expected, shared), "{mode}");
        let log = client.process.log();
        for server in [ONE, kea::SERVER_ID] {
            assert!(log.contains(&format!("{server} offers")), "{mode}: {log}");
        }
        let renewed = client.renew().unwrap();
        assert_eq!(renewed.tuple(), obtained.tuple());
        client.leave().unwrap();

        let heard = hear(&capture, |heard| count(heard, Release) == 1).unwrap();
        let offers: Vec<_> = heard.iter().filter(|one| one.kind == Offer).collect();
        assert_eq!(offers.len(), 2, "{mode}: {heard:?}");
        for offer in offers {
            assert_eq!(offer.ports.is_some(), offer.server == Some(ONE), "{mode}: {offer:?}");
        }
        // The other server says nothing to the REQUEST, to the renewal and to the RELEASE.
        assert_eq!((count(&heard, Request), count(&heard, Ack)), (2, 2), "{mode}: {heard:?}");
        assert!(
            heard.iter().filter(|one| one.kind == Ack).all(|one| one.server == Some(expected)),
            "{mode}: {heard:?}"
        );
        assert_eq!(answers_to_last(&heard, Request), [(Ack, expected)], "{mode}");
        let silences = ours.silences(&before).unwrap();
        if shared {
            assert_eq!(silences, []);
        } else {
            let expected = [("not-our-address", 1), ("not-our-server-id", 2)];
            assert_eq!(silences, expected.map(|(name, times)| (name.to_owned(), times)));
        }
    }
}

/// case-X04, case-X12: the client can share, the only server, Kea, cannot.
#[test]
fn case_4_a_capable_client_gets_a_whole_address_from_a_server_that_cannot_share() {
    let mut scene = Scene::new().unwrap();
    let theirs = scene.kea().unwrap();
    // By multicast, and by an address of option 88.
    for server in [String::new(), format!("--server {KEA_AT}")] {
        let capture = scene.listen().unwrap();
        let mut client = Subscriber::start(&scene.client, &server).unwrap();
        let obtained = client.told("obtained").unwrap();
        assert!(!obtained.shared && obtained.ports().is_none());
        assert_eq!((obtained.server_id, obtained.port_count), (kea::SERVER_ID, 65536));
        assert_eq!(obtained.lease_seconds, kea::LEASE_SECONDS);
        assert!((kea::POOL.0..=kea::POOL.1).contains(&obtained.address));
        assert_eq!(client.renew().unwrap().tuple(), obtained.tuple());
        client.leave().unwrap();
        let heard = hear(&capture, |heard| count(heard, Release) == 1).unwrap();
        assert!(heard.iter().all(|one| one.ports.is_none()), "{heard:?}");
        let asked = heard.iter().filter(|one| matches!(one.kind, Discover | Request));
        assert!(asked.clone().count() == 3 && asked.clone().all(|one| one.lists_159));
        // What Kea does otherwise than RFC 7341 §6.4, and a client must bear: flag U of the query comes back.
        let flagged: Vec<_> = heard.iter().filter(|one| one.reply).map(|one| one.flagged).collect();
        assert_eq!(flagged, [false, false, true], "OFFER, ACK, ACK to the renewal: {heard:?}");
        theirs.wait_released(obtained.address).unwrap();
    }
    assert_eq!(scene.ipv4_addresses().unwrap(), [""; 0]);
}
