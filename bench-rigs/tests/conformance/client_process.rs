//! K01-K03, K15, K21-K25, K28, K34: what the client's program does in the world: which way its queries go, what it
//! remembers, what it tells whom. Where time must move, the machine is tested in the same case.

use std::{net::Ipv6Addr, time::Duration};

use bench_rigs::{
    daemon::Process,
    stage::{SERVER, Stage},
    sys::Signal,
};
use portlease::client::{
    machine::{Action, Loss, Memory},
    session::Event,
};

use crate::{
    client_discovery::without_the_option_nothing_is_asked,
    client_keep::{another_source_begins_anew, at_t1_it_is_renewed},
    client_messages::{Answer, of_63_ranges},
    client_rig::{IDENTIFIER, Rig, assignment, config},
    client_world::{
        Desk, Heard, OTHER_SOURCE, PATIENCE, SECOND_ADDRESS, SOURCE, assert_tells, event,
        ipv4_addresses, move_client, start,
    },
    packet::{DISCOVER, REQUEST, Tuple},
    registry::{Case, client},
};

pub const CASES: &[Case] = &[
    client("K01", no_servers),
    client("K02", servers_of_the_link),
    client("K03", named_servers),
    client("K15", t1),
    client("K21", shutdown),
    client("K22", a_restart_at_the_same_source),
    client("K23", a_restart_at_another_source),
    client("K24", the_source_changes),
    client("K25", nothing_works),
    client("K28", answers_from_anywhere),
];

const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

fn held() -> Tuple {
    of_63_ranges(0x34)
}

fn stage() -> (Stage, Desk) {
    let stage = Stage::new(1).unwrap();
    let desk = Desk::open(&stage);
    (stage, desk)
}

/// A client that asks [`SERVER`] by unicast and holds a lease.
fn bound(stage: &Stage, desk: &mut Desk, arguments: &[&str]) -> Process {
    let server = SERVER.to_string();
    let client = start(stage, &[&["--server", &server], arguments].concat());
    desk.lease(held(), &Answer::ack(held()));
    assert_tells(&event(&client, "obtained", 0), held());
    client
}

fn no_servers() {
    without_the_option_nothing_is_asked();
    let (stage, mut desk) = stage();
    let client = start(&stage, &[]);
    desk.tell(None);
    client.wait_for("no DHCP 4o6 servers", 0, PATIENCE).unwrap();
    client.signal(Signal::User1).unwrap();
    assert!(desk.queries(Duration::from_secs(3)).is_empty());
}

fn servers_of_the_link() {
    let (stage, mut desk) = stage();
    let _client = start(&stage, &[]);
    desk.tell(Some(&[]));
    let discover = desk.query();
    discover.asked().assert_discover();
    let link_local = stage.clients_end().link_local();
    assert_eq!((discover.source(), discover.destination()), (link_local, GROUP));
    desk.answer(&discover, &Answer::offer(held()));
    let request = desk.query();
    assert_eq!((request.source(), request.destination()), (link_local, GROUP));
}

/// Asserts that these are one transmission to both servers, from an address that both can answer.
#[track_caller]
fn assert_one_to_each(heard: &[Heard]) {
    let mut to: Vec<_> = heard.iter().map(Heard::destination).collect();
    to.sort();
    assert_eq!(to, [SERVER, SECOND_ADDRESS], "once each");
    assert!(heard.iter().all(|one| one.payload() == heard[0].payload()), "the same octets");
    assert!(heard.iter().all(|one| one.source() == SOURCE));
}

/// The next transmission: all that comes within a moment of the first.
fn transmission(desk: &mut Desk) -> Vec<Heard> {
    let mut heard = vec![desk.query()];
    heard.extend(desk.queries(Duration::from_millis(500)));
    heard
}

fn named_servers() {
    let (stage, mut desk) = stage();
    let _client = start(&stage, &[]);
    desk.tell(Some(&[SERVER, SECOND_ADDRESS, SERVER]));
    let first = transmission(&mut desk);
    assert_one_to_each(&first);
    let second = transmission(&mut desk);
    assert_one_to_each(&second);
    assert!([&first, &second].iter().all(|heard| heard[0].asked().kind() == DISCOVER));
    desk.answer(&second[0], &Answer::offer(held()));
    let request = transmission(&mut desk);
    assert_one_to_each(&request);
    assert_eq!(request[0].asked().kind(), REQUEST);
}

fn t1() {
    at_t1_it_is_renewed();
    let (stage, mut desk) = stage();
    let client = start(&stage, &[]);
    desk.tell(Some(&[SERVER, SECOND_ADDRESS]));
    let discover = transmission(&mut desk);
    desk.answer(&discover[0], &Answer::offer(held()));
    let request = transmission(&mut desk);
    let ack = Answer::ack(held()).lasting(60).times(2, 50);
    desk.answer(&request[0], &ack);
    event(&client, "obtained", 0);
    let renewal = transmission(&mut desk);
    assert_one_to_each(&renewal);
    renewal[0].asked().assert_extends(held(), true);
    desk.answer_from(&renewal[1], SECOND_ADDRESS, &ack);
    event(&client, "renewed", 0);
}

fn shutdown() {
    let mut rig = Rig::bound(held());
    let lease = *rig.session.lease().unwrap();
    rig.handle(Event::Release);
    assert_eq!(rig.take_events(), [Action::Lost(lease, Loss::Released), Action::Stopped]);
    let sent = rig.take_sent();
    let [release] = &sent[..] else { panic!("{sent:?}") };
    release.asked.assert_releases(held(), &IDENTIFIER);
    assert_eq!(rig.session.deadline(), None);

    let (stage, mut desk) = stage();
    let server = SERVER.to_string();
    let mut client = start(&stage, &["--server", &server]);
    let discover = desk.lease(held(), &Answer::ack(held()));
    event(&client, "obtained", 0);
    let status = client.terminate(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    let release = desk.query();
    release.asked().assert_releases(held(), discover.option(61).unwrap());
    assert_eq!(release.destination(), SERVER);
    assert_tells(&event(&client, "released", 0), held());
}

/// A client that is gone without a word, and its state file.
fn left_behind(stage: &Stage, desk: &mut Desk) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    let mut client = bound(stage, desk, &["--state", file.to_str().unwrap()]);
    client.kill().unwrap();
    folder
}

fn restarted(stage: &Stage, folder: &tempfile::TempDir) -> Process {
    let file = folder.path().join("state.json");
    start(stage, &["--server", &SERVER.to_string(), "--state", file.to_str().unwrap()])
}

fn a_restart_at_the_same_source() {
    let mut rig = Rig::start(config(), Memory::Lease(assignment(held())), 1);
    let reboot = rig.next_sent();
    reboot.asked.assert_reboots(held());
    rig.hear(&Answer::ack(held()).to(&reboot.asked));
    assert!(matches!(rig.events[..], [Action::Obtained(_)]), "{:?}", rig.events);

    let (stage, mut desk) = stage();
    let folder = left_behind(&stage, &mut desk);
    let client = restarted(&stage, &folder);
    let reboot = desk.query();
    reboot.asked().assert_reboots(held());
    assert_eq!(reboot.source(), SOURCE);
    desk.answer(&reboot, &Answer::ack(held()));
    assert_tells(&event(&client, "obtained", 0), held());
}

fn a_restart_at_another_source() {
    let (stage, mut desk) = stage();
    let folder = left_behind(&stage, &mut desk);
    move_client(&stage);
    let _client = restarted(&stage, &folder);
    let discover = desk.query();
    discover.asked().assert_discover();
    assert_eq!(discover.source(), OTHER_SOURCE);
    let asked = discover.asked();
    assert_eq!((asked.address(50), asked.ports()), (Some(held().address), held().ports));
}

fn the_source_changes() {
    another_source_begins_anew();
    let (stage, mut desk) = stage();
    let client = bound(&stage, &mut desk, &[]);
    move_client(&stage);
    assert_eq!(event(&client, "lost", 0)["reason"], "source-changed");
    let discover = desk.query();
    discover.asked().assert_discover();
    assert_eq!(discover.source(), OTHER_SOURCE);
}

fn nothing_works() {
    let (stage, mut desk) = stage();
    let mut client = start(&stage, &["--multicast", "--timeout", "3"]);
    desk.query().asked().assert_discover();
    assert_eq!(ipv4_addresses(&stage), [""; 0]);
    let status = client.wait_exit(PATIENCE).unwrap();
    assert!(!status.success() && client.log().contains("no lease"), "{}", client.log());
    assert_eq!(ipv4_addresses(&stage), [""; 0], "no 169.254/16, nor any other");
    desk.assert_no_arp();
}

fn answers_from_anywhere() {
    let (stage, mut desk) = stage();
    let client = start(&stage, &["--multicast"]);
    let discover = desk.query();
    assert_eq!(discover.destination(), GROUP);
    let [one, two] = ["fe80::dead:beef", "2001:db8:99::1"].map(|text| text.parse().unwrap());
    desk.answer_from(&discover, one, &Answer::offer(held()));
    let request = desk.query();
    assert_eq!(request.asked().kind(), REQUEST);
    // Of another client, and of another exchange: not accepted, wherever they come from.
    let xid = request.asked().message.xid;
    desk.answer(&request, &Answer::nak().identified_by(&[255, 9, 9, 9, 9, 0, 3, 9]));
    desk.answer(&request, &Answer::nak().xid(xid ^ 1));
    desk.answer_from(&request, two, &Answer::ack(held()));
    assert_tells(&event(&client, "obtained", 0), held());
}
