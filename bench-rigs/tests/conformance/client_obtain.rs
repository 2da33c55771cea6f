//! K05-K13, K26, K27, K30: how a client asks, which answers count, and what it takes of them. In the client's machine,
//! so that time can move.

use std::collections::BTreeSet;

use portlease::client::{
    choose::Mode,
    machine::{Action, Config, Memory, Note},
};

use crate::{
    client_messages::{Answer, Asked, OTHER_SERVER, SERVER, of_63_ranges, whole},
    client_rig::{IDENTIFIER, Rig, SECOND, SEEDS, Sent, assignment, config},
    packet::{REQUEST, Tuple, shared},
    registry::{Case, client},
};

pub const CASES: &[Case] = &[
    client("K05", the_first_discover),
    client("K06", nobody_answers),
    client("K07", offers_that_are_none),
    client("K08", offers_with_bad_port_parameters),
    client("K09", several_offers),
    client("K10", the_request_takes_the_offer),
    client("K11", the_ack_has_other_ports),
    client("K12", the_ack_has_no_ports),
    client("K13", a_whole_address),
    client("K26", flags_of_responses_are_ignored),
    client("K27", responses_without_one_message),
    client("K30", whole_first),
];

/// M3 to M7: contents of option 159, an instance each.
const M3_TO_M7: &[&[&[u8]]] = &[
    &[&[0x10, 0x06, 0x04, 0x00]],
    &[&[0x00, 0x11, 0xff, 0xff]],
    &[&[0x0a, 0x08, 0x01, 0x00]],
    &[&[0x00, 0x06, 0x04, 0x01]],
    &[&[0x00, 0x06, 0x04, 0x00], &[0x00, 0x06, 0x04, 0x00]],
];

fn the_first_discover() {
    let mut delays = BTreeSet::new();
    for seed in SEEDS {
        let mut rig = Rig::start(config(), Memory::Nothing, seed);
        let started = rig.now;
        let first = rig.next_sent();
        first.asked.assert_discover();
        assert_eq!(first.asked.option(61), Some(&IDENTIFIER[..]), "type 255, IAID, DUID");
        assert!(first.asked.is_capable());
        assert!(!first.asked.has(50) && !first.asked.has(159), "no wish");
        assert_eq!(first.asked.message.secs, 0);
        delays.insert(first.at.since(started));
    }
    let (least, most) = (*delays.first().unwrap(), *delays.last().unwrap());
    assert!(least >= SECOND && most <= 10 * SECOND, "{least:?} to {most:?}");
    assert!(least < 2 * SECOND && most > 9 * SECOND, "at random: {least:?} to {most:?}");
}

fn nobody_answers() {
    let nominal = [4.0, 8.0, 16.0, 32.0, 64.0, 64.0, 64.0];
    let mut deviations = [(f64::MAX, f64::MIN); 7];
    for seed in SEEDS {
        let mut rig = Rig::start(config(), Memory::Nothing, seed);
        let mut last = rig.next_sent();
        for (nominal, (least, most)) in nominal.into_iter().zip(&mut deviations) {
            let next = rig.next_sent();
            next.asked.assert_discover();
            let deviation = next.seconds_after(&last) - nominal;
            assert!(deviation.abs() <= 1.0, "{nominal} s: {deviation} s off");
            (*least, *most) = (least.min(deviation), most.max(deviation));
            last = next;
        }
    }
    for (least, most) in deviations {
        assert!(least < -0.5 && most > 0.5, "at random: {least} to {most}");
    }
}

/// A client whose DISCOVER has left.
fn selecting() -> (Rig, Asked) {
    let mut rig = Rig::fresh();
    let discover = rig.next_sent();
    (rig, discover.asked)
}

/// After offers that were ignored a sound one is still taken.
#[track_caller]
fn takes_a_sound_offer(mut rig: Rig, discover: &Asked) {
    rig.hear(&Answer::offer(of_63_ranges(0x34)).to(discover));
    assert_eq!(rig.next_sent().asked.kind(), REQUEST);
}

fn offers_that_are_none() {
    let offer = Answer::offer(of_63_ranges(0x34));
    let (mut rig, discover) = selecting();
    let other_xid = offer.clone().xid(discover.message.xid ^ 1);
    let mut other = IDENTIFIER;
    other[14] ^= 1;
    for spoilt in [
        other_xid,
        offer.clone().identified_by(&other),
        offer.clone().identified_by(&IDENTIFIER[..14]),
        offer.clone().without(54),
        offer.clone().without(51),
    ] {
        rig.ignores(&spoilt.to(&discover));
    }
    takes_a_sound_offer(rig, &discover);
}

fn offers_with_bad_port_parameters() {
    let (mut rig, discover) = selecting();
    for instances in M3_TO_M7 {
        let offer = Answer::offer(of_63_ranges(0x34)).without(159);
        let offer = instances.iter().fold(offer, |offer, value| offer.with(159, value));
        rig.ignores(&offer.to(&discover));
    }
    takes_a_sound_offer(rig, &discover);
}

/// Gives what the REQUEST is for after these offers, of which each comes from a server of its own.
fn chosen(mode: Mode, offers: &[Tuple]) -> Tuple {
    let mut rig = Rig::start(Config { mode, ..config() }, Memory::Nothing, 1);
    let discover = rig.next_sent().asked;
    for (number, &tuple) in (1..).zip(offers) {
        rig.hear(&Answer::offer(tuple).by([198, 51, 100, number].into()).to(&discover));
    }
    let request = rig.next_sent().asked;
    assert_eq!(request.kind(), REQUEST);
    let tuple = Tuple { address: request.address(50).unwrap(), ports: request.ports() };
    let index = offers.iter().position(|offer| *offer == tuple).expect("one of the offers");
    let server = [198, 51, 100, u8::try_from(index + 1).unwrap()].into();
    assert_eq!(request.address(54), Some(server), "who offered it");
    tuple
}

fn several_offers() {
    let small = shared([192, 0, 2, 19], 0, 8, 9);
    let large = shared([192, 0, 2, 20], 0, 4, 3);
    for offers in [[small, whole(), large], [large, small, whole()], [whole(), large, small]] {
        assert_eq!(chosen(Mode::default(), &offers), whole());
        assert_eq!(chosen(Mode::PreferShared, &offers), large, "4096 ports against 256");
    }
    assert_eq!(chosen(Mode::default(), &[small, large]), large);
}

fn the_request_takes_the_offer() {
    let mut rig = Rig::fresh();
    rig.next_sent();
    // The second DISCOVER, so that `secs` is not zero.
    let discover = rig.next_sent();
    assert!((3..=6).contains(&discover.asked.message.secs), "{}", discover.asked.message.secs);
    let tuple = of_63_ranges(0x34);
    rig.hear(&Answer::offer(tuple).to(&discover.asked));
    let request = rig.next_sent();
    let (asked, said) = (&discover.asked, &request.asked);
    assert_eq!((said.kind(), said.unicast()), (REQUEST, false));
    assert_eq!((said.address(54), said.address(50)), (Some(SERVER), Some(tuple.address)));
    assert_eq!(said.option(159), Some(&[6, 8, 0x34, 0][..]), "as it was offered");
    assert_eq!((said.message.xid, said.message.secs), (asked.message.xid, asked.message.secs));
    assert_eq!((said.option(55), said.option(61)), (asked.option(55), asked.option(61)));
    assert!(said.is_capable() && said.message.ciaddr.is_unspecified());
    // Repeated, it is the same to the last octet.
    assert_eq!(rig.next_sent().asked.payload, said.payload);
}

/// A client whose REQUEST for an offer of this has left.
fn requesting(tuple: Tuple) -> (Rig, Sent) {
    let mut rig = Rig::fresh();
    let discover = rig.next_sent();
    rig.hear(&Answer::offer(tuple).to(&discover.asked));
    let request = rig.next_sent();
    assert_eq!(request.asked.kind(), REQUEST);
    (rig, request)
}

fn the_ack_has_other_ports() {
    let (offered, acknowledged) = (of_63_ranges(0x34), of_63_ranges(0x35));
    let (mut rig, request) = requesting(offered);
    rig.hear(&Answer::ack(acknowledged).to(&request.asked));
    let [Action::Obtained(lease)] = rig.events[..] else { panic!("{:?}", rig.events) };
    assert_eq!(lease.assignment, assignment(acknowledged));
    let logged =
        Note::Differs { requested: assignment(offered), acknowledged: assignment(acknowledged) };
    assert!(rig.notes.contains(&logged), "{:?}", rig.notes);
    assert!(logged.to_string().contains("PSID 53"), "{logged}");
    // And from now on it is what the client holds.
    rig.next_sent().asked.assert_extends(acknowledged, true);
}

fn the_ack_has_no_ports() {
    let (mut rig, request) = requesting(of_63_ranges(0x34));
    rig.hear(&Answer::ack(whole()).to(&request.asked));
    assert_eq!((rig.take_events(), rig.session.lease()), (vec![], None));
    assert!(rig.notes.contains(&Note::Unacceptable), "{:?}", rig.notes);
    let refused = rig.now;
    let discover = rig.next_sent();
    discover.asked.assert_discover();
    assert!(discover.at.since(refused) >= 10 * SECOND);
}

fn a_whole_address() {
    let (mut rig, request) = requesting(whole());
    assert!(request.asked.is_capable() && !request.asked.has(159));
    rig.hear(&Answer::ack(whole()).to(&request.asked));
    let [Action::Obtained(lease)] = rig.events[..] else { panic!("{:?}", rig.events) };
    assert_eq!(lease.assignment, assignment(whole()));
    assert_eq!(lease.assignment.port_ranges(), [0..=u16::MAX]);
}

fn flags_of_responses_are_ignored() {
    let tuple = of_63_ranges(0x34);
    for flags in [[0xff; 3], [0x80, 0, 0]] {
        let mut rig = Rig::fresh();
        rig.obtain(&Answer::offer(tuple).flags(flags), &Answer::ack(tuple).flags(flags));
        let renewal = rig.next_sent();
        rig.hear(&Answer::ack(tuple).flags(flags).to(&renewal.asked));
        assert!(matches!(rig.events[..], [Action::Renewed(_)]), "{:?}", rig.events);
    }
}

fn responses_without_one_message() {
    let (mut rig, discover) = selecting();
    let offer = Answer::offer(of_63_ranges(0x34));
    let message = offer.message(&discover);
    rig.ignores(&offer.around(&[message.clone(), message.clone()]));
    rig.ignores(&offer.around(&[message.clone(), vec![0; 10]]));
    rig.ignores(&offer.around(&[message[..10].to_vec()]));
    rig.ignores(&offer.around(&[]));
    takes_a_sound_offer(rig, &discover);
    let (mut rig, request) = requesting(of_63_ranges(0x34));
    let ack = Answer::ack(of_63_ranges(0x34));
    let message = ack.message(&request.asked);
    rig.ignores(&ack.around(&[message.clone(), message.clone()]));
    rig.ignores(&ack.around(&[message[..10].to_vec()]));
}

fn whole_first() {
    crate::client_compatibility::whole_first();
    for tries in [1, 2, 4] {
        let mut changed = config();
        (changed.mode, changed.full_first_tries) = (Mode::FullFirst, tries);
        let mut rig = Rig::start(changed, Memory::Nothing, u64::from(tries));
        let mut last: Option<Sent> = None;
        for (number, nominal) in (0..tries).zip([0.0, 4.0, 8.0, 16.0]) {
            let sent = rig.next_sent();
            sent.asked.assert_discover();
            assert!(!sent.asked.is_capable() && !sent.asked.has(159), "{number} of {tries}");
            let waited = last.map_or(0.0, |last| sent.seconds_after(&last));
            assert!((waited - nominal).abs() <= 1.0, "{waited}");
            last = Some(sent);
        }
        let sharing = rig.next_sent();
        sharing.asked.assert_discover();
        assert!(sharing.asked.is_capable(), "after {tries}");
        assert!(sharing.seconds_after(&last.unwrap()) >= 3.0, "the last was waited for as well");
        rig.hear(&Answer::offer(of_63_ranges(0x34)).to(&sharing.asked));
        let request = rig.next_sent().asked;
        assert_eq!((request.kind(), request.ports()), (REQUEST, of_63_ranges(0x34).ports));
    }
    // Who is answered at once never asks for ports, and takes none.
    let mut rig = Rig::start(Config { mode: Mode::FullFirst, ..config() }, Memory::Nothing, 1);
    let discover = rig.next_sent().asked;
    rig.ignores(&Answer::offer(of_63_ranges(0x34)).to(&discover));
    rig.hear(&Answer::offer(whole()).by(OTHER_SERVER).to(&discover));
    let request = rig.next_sent().asked;
    assert!(request.kind() == REQUEST && !request.is_capable());
}
