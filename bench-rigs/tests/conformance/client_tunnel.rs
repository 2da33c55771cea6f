//! W01-W07, the client's side: it agrees with its server on where its softwire begins (RFC 8539 §7).

use std::{collections::BTreeSet, net::Ipv6Addr};

use portlease::client::{
    lease::Lease,
    machine::{Action, Config, Loss, Memory, Note},
    session::Event,
    softwire,
};

use crate::{
    client_messages::{Answer, Asked, of_63_ranges},
    client_rig::{Rig, SECOND, SEEDS, Sent, assignment, config},
    packet::{DISCOVER, RELEASE, REQUEST, S46_BIND_PREFIX, S46_BR, Tuple},
    registry::{Case, client},
};

pub const CASES: &[Case] = &[
    client("W01", the_query_asks_for_both_ends),
    client("W02", the_request_names_its_end),
    client("W03", another_end),
    client("W04", too_soon_for_the_server),
    client("W05", somebody_elses_end),
    client("W06", somebody_elses_end_at_a_renewal),
    client("W07", neighbours_of_one_address),
];

/// Option 109.
const SOFTWIRE: u8 = 109;

const ONE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const TWO: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
const RELAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xb1);

/// `2001:db8:2::/48`
const PREFIX_OF_TWO: &[u8] = &[48, 0x20, 1, 0xd, 0xb8, 0, 2];

fn held() -> Tuple {
    of_63_ranges(0x34)
}

/// A client with these addresses, that uses the first that will do.
fn with_addresses(addresses: &[Ipv6Addr]) -> Config {
    let addresses = addresses.to_vec();
    let softwire = softwire::Config { source: None, addresses, remembered: None };
    Config { softwire: Some(softwire), ..config() }
}

fn offer(tuple: Tuple) -> Answer {
    Answer::offer(tuple).beside(S46_BR, &RELAY.octets())
}

fn ack(tuple: Tuple, end: Ipv6Addr) -> Answer {
    Answer::ack(tuple).with(SOFTWIRE, &end.octets())
}

fn lease_of(rig: &Rig) -> Lease {
    *rig.session.lease().expect("a lease")
}

/// Where the lease's softwire begins, as the client uses it.
fn begins(rig: &Rig) -> Ipv6Addr {
    lease_of(rig).softwire.expect("a softwire").source
}

/// A client that holds a lease whose softwire begins at [`ONE`].
fn bound(seed: u64) -> Rig {
    let mut rig = Rig::start(with_addresses(&[ONE]), Memory::Nothing, seed);
    rig.obtain(&offer(held()), &ack(held(), ONE));
    assert_eq!(begins(&rig), ONE);
    rig
}

/// A client that has told its server of another end, [`TWO`], and what it sent.
fn moved(seed: u64) -> (Rig, Sent) {
    let mut rig = bound(seed);
    rig.run_for(10 * SECOND);
    let now = rig.now;
    rig.handle(Event::Addresses(&[TWO]));
    let request = rig.next_sent();
    assert_eq!(request.at, now, "at once");
    assert_names(&request.asked, TWO);
    request.asked.assert_extends(held(), true);
    (rig, request)
}

#[track_caller]
fn assert_names(asked: &Asked, end: Ipv6Addr) {
    assert_eq!((asked.kind(), asked.softwire()), (REQUEST, Some(end)));
    assert_eq!(asked.requested6(), [S46_BR, S46_BIND_PREFIX]);
}

fn the_query_asks_for_both_ends() {
    let mut rig = Rig::start(with_addresses(&[ONE, TWO]), Memory::Nothing, 1);
    let discover = rig.next_sent().asked;
    assert_eq!(discover.kind(), DISCOVER);
    assert_eq!(discover.requested6(), [S46_BR, S46_BIND_PREFIX]);
    assert_eq!(discover.softwire(), None, "109 is for REQUESTs");
    // Without the other end an OFFER is of no use, and neither is one without an address for this end.
    let plain = Answer::offer(held());
    rig.ignores(&plain.to(&discover));
    rig.ignores(&plain.clone().beside(S46_BR, &RELAY.octets()[..15]).to(&discover));
    rig.ignores(&plain.clone().beside(S46_BR, &[0; 16]).to(&discover));
    let nowhere = offer(held()).beside(S46_BIND_PREFIX, &[48, 0x20, 1, 0xd, 0xb8, 0, 9]);
    rig.ignores(&nowhere.to(&discover));
    // The prefix says which address begins the softwire.
    rig.hear(&offer(held()).beside(S46_BIND_PREFIX, PREFIX_OF_TWO).to(&discover));
    assert_names(&rig.next_sent().asked, TWO);
    // A client that wants no softwire does not ask.
    assert_eq!(Rig::fresh().next_sent().asked.requested6(), [0; 0]);
}

fn the_request_names_its_end() {
    let mut rig = Rig::start(with_addresses(&[ONE]), Memory::Nothing, 1);
    let discover = rig.next_sent();
    rig.hear(&offer(held()).to(&discover.asked));
    let request = rig.next_sent();
    assert_names(&request.asked, ONE);
    rig.hear(&ack(held(), ONE).to(&request.asked));
    let softwire = lease_of(&rig).softwire.unwrap();
    assert_eq!(softwire.source, ONE);
    assert_eq!(softwire.border_relays.iter().collect::<Vec<_>>(), [RELAY]);
    // In each extension, in no RELEASE.
    let renewal = rig.next_sent();
    assert_names(&renewal.asked, ONE);
    rig.hear(&ack(held(), ONE).to(&renewal.asked));
    rig.handle(Event::Release);
    let release = rig.next_sent().asked;
    assert_eq!((release.kind(), release.softwire()), (RELEASE, None));
    assert_eq!(release.requested6(), [0; 0]);
}

fn another_end() {
    let (mut rig, request) = moved(1);
    let from = lease_of(&rig);
    rig.hear(&ack(held(), TWO).to(&request.asked));
    let [Action::Changed { from: former, to }] = rig.events[..] else { panic!("{:?}", rig.events) };
    assert_eq!((former, to.assignment), (from, assignment(held())));
    assert_eq!(begins(&rig), TWO);
    assert_names(&rig.next_sent().asked, TWO);
}

/// RFC 8539 §8.1 lets a server be silent, or repeat what it has.
fn too_soon_for_the_server() {
    let (mut rig, request) = moved(1);
    let lease = lease_of(&rig);
    let again = rig.next_sent();
    assert_names(&again.asked, TWO);
    assert!(again.seconds_after(&request) >= 60.0, "{}", again.seconds_after(&request));
    assert_eq!((rig.take_events(), lease_of(&rig)), (vec![], lease), "the lease stays");

    let mut waits = BTreeSet::new();
    for seed in SEEDS {
        let (mut rig, request) = moved(seed);
        rig.hear(&ack(held(), ONE).to(&request.asked));
        let answered = rig.now;
        assert!(matches!(rig.take_events()[..], [Action::Renewed(_)]));
        let logged = Note::OtherSoftwire { requested: TWO, acknowledged: ONE };
        assert!(rig.notes.contains(&logged), "{:?}", rig.notes);
        assert_eq!(begins(&rig), ONE, "as the server has it");
        let again = rig.next_sent();
        waits.insert(again.at.since(answered));
        assert_names(&again.asked, TWO);
        rig.hear(&ack(held(), TWO).to(&again.asked));
        assert!(matches!(rig.take_events()[..], [Action::Changed { .. }]));
        assert_eq!(begins(&rig), TWO);
    }
    let (shortest, longest) = (*waits.first().unwrap(), *waits.last().unwrap());
    assert!(
        shortest >= 60 * SECOND && longest > shortest + 10 * SECOND,
        "RFC 8539 §7.5: {shortest:?}, {longest:?}"
    );
}

fn somebody_elses_end() {
    let mut rig = Rig::start(with_addresses(&[ONE]), Memory::Nothing, 1);
    let discover = rig.next_sent();
    rig.hear(&offer(held()).to(&discover.asked));
    let request = rig.next_sent();
    assert_names(&request.asked, ONE);
    rig.hear(&Answer::nak().to(&request.asked));
    assert_eq!((rig.take_events(), rig.session.lease()), (vec![], None));
    assert!(rig.notes.contains(&Note::Refused));
    let next = rig.next_sent();
    next.asked.assert_discover();
    assert!(next.seconds_after(&request) >= 1.0, "not in a tight circle");
}

/// A server that goes on to keep the former end is left.
fn somebody_elses_end_at_a_renewal() {
    let (mut rig, request) = moved(1);
    rig.hear(&ack(held(), ONE).to(&request.asked));
    rig.take_events();
    let again = rig.next_sent();
    rig.hear(&ack(held(), ONE).to(&again.asked));
    assert!(matches!(rig.take_events()[..], [Action::Lost(_, Loss::OtherSoftwire)]));
    assert_eq!(rig.session.lease(), None);
    let release = rig.next_sent();
    assert_eq!((release.asked.kind(), release.at), (RELEASE, again.at));
    let discover = rig.next_sent();
    discover.asked.assert_discover();
    assert!(discover.seconds_after(&release) >= 10.0);
}

/// Two clients share an address; each has an end and a port set of its own.
fn neighbours_of_one_address() {
    let ends = [(of_63_ranges(0x34), ONE), (of_63_ranges(0x35), TWO)];
    let leases = ends.map(|(tuple, end)| {
        let mut rig = Rig::start(with_addresses(&[end]), Memory::Nothing, 1);
        rig.obtain(&offer(tuple), &ack(tuple, end));
        let renewal = rig.next_sent();
        renewal.asked.assert_extends(tuple, true);
        assert_names(&renewal.asked, end);
        rig.hear(&ack(tuple, end).to(&renewal.asked));
        (begins(&rig), lease_of(&rig).assignment)
    });
    assert_eq!(leases, ends.map(|(tuple, end)| (end, assignment(tuple))));
}
