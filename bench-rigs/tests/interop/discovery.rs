//! The client finds its servers by stateless DHCPv6 (option 88): from us, and from Kea's DHCPv6 server, which knows
//! nothing of shared addresses.

use bench_rigs::{
    capture::expect_well_formed,
    daemon::{Config, Counters},
    kea,
};
use portlease::wire::dhcpv4::MessageType::{Discover, Release};

use crate::{
    decode::table,
    heard::{count, read},
    scene::{FULL, KEA_AT, ONE, ONE_AT, PATIENCE, SHARED, Scene, TWO, TWO_AT, hear},
    subscriber::Subscriber,
};

/// Obtains, renews and releases with a client that is told of no server.
fn live(scene: &Scene, server: std::net::Ipv4Addr) -> Subscriber {
    let mut client = Subscriber::discover(&scene.client, "").unwrap();
    let obtained = client.told("obtained").unwrap();
    assert_eq!(obtained.server_id, server, "{}", client.process.log());
    assert_eq!(client.renew().unwrap().tuple(), obtained.tuple());
    client
}

/// We tell, and we serve. What the client asks is decoded by tshark.
#[test]
fn the_client_finds_us_by_our_own_information() {
    let mut scene = Scene::new().unwrap();
    let tell = |config: &mut Config| {
        let text = format!("[information]\nservers = [\"{ONE_AT}\"]\nrefresh = \"2h\"\n");
        config.links.push_str(&text);
    };
    let _ours = scene.ours_with(ONE, ONE_AT, &[SHARED], tell).unwrap();
    let capture = scene.listen().unwrap();
    live(&scene, ONE).leave().unwrap();
    let heard = hear(&capture, |heard| count(heard, Release) == 1).unwrap();
    assert!(heard.iter().filter(|one| !one.reply).all(|one| one.from == crate::scene::CLIENT_AT));
    let file = capture.stop().unwrap();
    expect_well_formed(&file).unwrap();
    let rows = table(&file, &["dhcpv6.msgtype", "dhcpv6.requested_option_code"]).unwrap();
    assert_eq!(rows[0][0], "11", "before anything else, an Information-request: {rows:?}");
    let codes: Vec<_> = rows[0][1].split(',').collect();
    assert!(codes.contains(&"88") && codes.contains(&"32"), "{codes:?}");
    assert_eq!(rows[1][0], "7");
}

/// Kea tells, we serve, each on a host of its own.
#[test]
fn the_client_finds_us_through_kea() {
    let mut scene = Scene::new().unwrap();
    let ours = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    // Who asks by multicast would hear of this one too; whom Kea does not name is not asked.
    let unnamed = scene.ours(TWO, TWO_AT, &[FULL]).unwrap();
    let host = scene.lan.join("kea", "kea-srv").unwrap();
    host.add_address(KEA_AT, 64).unwrap();
    let setup = kea::Setup {
        namespace: &host.namespace,
        interface: host.interface(),
        address: KEA_AT,
        folder: scene.folder.path(),
        threads: 0,
    };
    let _kea = kea::start_dhcp6(&setup, &[ONE_AT]).unwrap();
    let capture = scene.listen().unwrap();
    live(&scene, ONE).leave().unwrap();
    hear(&capture, |heard| count(heard, Release) == 1).unwrap();
    assert_eq!(ours.daemon.counters().unwrap().get("offers"), 1);
    // All that it hears is what the client asks everybody, and that is Kea's to answer.
    let silences = unnamed.silences(&Counters::default()).unwrap();
    assert!(silences.iter().all(|(name, _)| name == "information-off"), "{silences:?}");
    assert_eq!(unnamed.daemon.counters().unwrap().get("offers"), 0);
}

/// Kea tells and we serve on one host and one port; Kea says that queries go to the group.
#[test]
fn the_client_finds_us_through_kea_on_our_own_port() {
    let mut scene = Scene::new().unwrap();
    let leave_port = |config: &mut Config| config.udp = false;
    let ours = scene.ours_with(ONE, ONE_AT, &[SHARED], leave_port).unwrap();
    let setup = kea::Setup {
        namespace: &ours.host.namespace,
        interface: ours.host.interface(),
        address: ONE_AT,
        folder: scene.folder.path(),
        threads: 0,
    };
    let _kea = kea::start_dhcp6(&setup, &[]).unwrap();
    let capture = scene.listen().unwrap();
    live(&scene, ONE).leave().unwrap();
    let heard = hear(&capture, |heard| count(heard, Release) == 1).unwrap();
    let discover = heard.iter().find(|one| one.kind == Discover).unwrap();
    assert!(discover.from.is_unicast_link_local(), "RFC 7341 §9: from a link-local address");
}

/// Nobody tells of a server: the client asks no server, although one is there (RFC 7341 §5).
#[test]
fn without_option_88_no_query_is_sent() {
    let mut scene = Scene::new().unwrap();
    let _ours = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let capture = scene.listen().unwrap();
    let client = Subscriber::discover(&scene.client, "--timeout 5").unwrap();
    client.fail().unwrap();
    let frames = capture.wait(PATIENCE, |frames| frames.len() >= 2).unwrap();
    assert_eq!(read(&frames), []);
}
