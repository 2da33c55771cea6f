//! X01-X04 and X12 with real processes on both sides: the four cases of compatibility that the working group drew up.
//! Clients that can share an address and clients that cannot, servers that can and servers that cannot.

use bench_rigs::{
    daemon::Config,
    heard::{Heard, answers_to_last, count},
    kea,
    scene::{FULL, KEA_AT, ONE, ONE_AT, SERVER, SHARED, Scene, hear, link},
    subscriber::{Subscriber, Told},
};
use portlease::wire::dhcpv4::MessageType::{Ack, Discover, Offer, Release, Request};

use crate::registry::{Case, client};

pub const CASES: &[Case] = &[
    client("X01", a_capable_client_gets_ports),
    client("X02", a_client_that_cannot_share_gets_nothing),
    client("X03", the_mode_decides).remark("client: the other server is Kea"),
    client("X04", a_capable_client_gets_a_whole_address),
    client("X12", kea_cannot_share),
];

/// The client can share, the server shares.
fn a_capable_client_gets_ports() {
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

/// The client cannot share, and the server has nothing else. Neither a DISCOVER nor a REQUEST is answered;
/// the client fails and makes no address up.
fn a_client_that_cannot_share_gets_nothing() {
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
pub fn whole_first() {
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

/// The client can share; one server shares, the other, Kea, has whole addresses. Both offer.
fn the_mode_decides() {
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

/// The client can share, the only server has whole addresses.
fn a_capable_client_gets_a_whole_address() {
    let mut scene = Scene::new().unwrap();
    let ours = scene.ours(ONE, ONE_AT, &[FULL]).unwrap();
    let (obtained, heard) = lives_with_a_whole_address(&scene, "");
    assert_eq!(obtained.server_id, ONE);
    assert_eq!(obtained.address.octets()[..3], [203, 0, 113]);
    assert!(heard.iter().filter(|one| one.reply).all(|one| !one.flagged), "{heard:?}");
    let counters = ours.daemon.counters().unwrap();
    assert_eq!((counters.get("acks"), counters.get("leases-bound")), (2, 0), "{counters:?}");
}

/// The same with a server that knows nothing of sharing.
fn kea_cannot_share() {
    let mut scene = Scene::new().unwrap();
    let theirs = scene.kea().unwrap();
    // By multicast, and by an address of option 88.
    for server in [String::new(), format!("--server {KEA_AT}")] {
        let (obtained, heard) = lives_with_a_whole_address(&scene, &server);
        assert_eq!(obtained.server_id, kea::SERVER_ID);
        assert_eq!(obtained.lease_seconds, kea::LEASE_SECONDS);
        assert!((kea::POOL.0..=kea::POOL.1).contains(&obtained.address));
        // What Kea does otherwise than RFC 7341 §6.4, and a client must bear: flag U of the query comes back.
        let flagged: Vec<_> = heard.iter().filter(|one| one.reply).map(|one| one.flagged).collect();
        assert_eq!(flagged, [false, false, true], "OFFER, ACK, ACK to the renewal: {heard:?}");
        theirs.wait_released(obtained.address).unwrap();
    }
}

/// A client that can share obtains, renews and releases a whole address. Gives its lease and what was said.
fn lives_with_a_whole_address(scene: &Scene, arguments: &str) -> (Told, Vec<Heard>) {
    let capture = scene.listen().unwrap();
    let mut client = Subscriber::start(&scene.client, arguments).unwrap();
    let obtained = client.told("obtained").unwrap();
    assert!(!obtained.shared && obtained.ports().is_none());
    assert_eq!(obtained.port_count, 65536);
    assert_eq!(client.renew().unwrap().tuple(), obtained.tuple());
    client.leave().unwrap();
    let heard = hear(&capture, |heard| count(heard, Release) == 1).unwrap();
    assert!(heard.iter().all(|one| one.ports.is_none()), "{heard:?}");
    let asked = heard.iter().filter(|one| matches!(one.kind, Discover | Request));
    assert!(asked.clone().count() == 3 && asked.clone().all(|one| one.lists_159));
    assert_eq!(
        scene.ipv4_addresses().unwrap(),
        [""; 0],
        "it only tells; nothing was to be applied"
    );
    (obtained, heard)
}
