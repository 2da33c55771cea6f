//! K15-K20, K24, K29, K33: how a client keeps a lease and when it gives it up. In the client's machine, so that time
//! can move.

use portlease::client::{
    lease::{Lease, Terms},
    machine::{Action, Loss, Memory, Note},
    session::Event,
    timers::Moment,
};

use crate::{
    client_messages::{Answer, OTHER_SERVER, of_63_ranges, whole},
    client_rig::{IDENTIFIER, Rig, SECOND, SEEDS, assignment, config},
    packet::Tuple,
    registry::{Case, client},
};

pub const CASES: &[Case] = &[
    client("K16", rebinding),
    client("K17", renewals_are_repeated),
    client("K19", a_renewal_is_refused),
    client("K20", somebody_else_is_refused),
    client("K29", times_out_of_order),
    client("K33", a_lease_without_end),
];

fn held() -> Tuple {
    of_63_ranges(0x34)
}

fn lease_of(rig: &Rig) -> Lease {
    *rig.session.lease().expect("a lease")
}

/// At T1 through the server that gave it (req-C27, req-C33).
pub fn at_t1_it_is_renewed() {
    for seed in SEEDS {
        for tuple in [held(), whole()] {
            let mut rig = Rig::start(config(), Memory::Nothing, seed);
            let ack = Answer::ack(tuple).times(1000, 3000);
            let lease = rig.obtain(&Answer::offer(tuple), &ack);
            let renewal = rig.next_sent();
            let waited = renewal.at.since(lease.began).as_secs_f64();
            assert!((waited - 1000.0).abs() <= 50.0, "T1 is 1000 s, with a little fuzz: {waited}");
            renewal.asked.assert_extends(tuple, true);
            assert_eq!(renewal.asked.option(61), Some(&IDENTIFIER[..]));
            rig.hear(&ack.to(&renewal.asked));
            let [Action::Renewed(renewed)] = rig.events[..] else { panic!("{:?}", rig.events) };
            assert_eq!(renewed.began, renewal.at, "RFC 2131 §4.4.5: from when it was sent");
        }
    }
}

fn rebinding() {
    let mut rig = Rig::bound(held());
    let lease = lease_of(&rig);
    loop {
        let sent = rig.next_sent();
        if sent.at >= lease.rebind_at.unwrap() {
            assert_eq!(Some(sent.at), lease.rebind_at, "at T2, whatever was waited for");
            sent.asked.assert_extends(held(), false);
            // Any server may answer now.
            rig.hear(&Answer::ack(held()).by(OTHER_SERVER).to(&sent.asked));
            break;
        }
        sent.asked.assert_extends(held(), true);
    }
    let [Action::Renewed(renewed)] = rig.events[..] else { panic!("{:?}", rig.events) };
    assert_eq!(renewed.server_id, OTHER_SERVER);
}

/// 1000 s before T2 the first, and then each after half of what is left.
fn renewals_are_repeated() {
    let mut rig =
        Rig::bound_by(&Answer::ack(held()).lasting(100_000).times(20_000, 50_000), held());
    let rebind_at = lease_of(&rig).rebind_at.unwrap();
    let first = rebind_at.0 - 1_000_000;
    // What was sent at T1 and after it does not matter here: a renewal that is wanted now begins the count.
    rig.run_until(Moment(first));
    rig.take_sent();
    rig.handle(Event::RenewNow);
    let times: Vec<u64> = (0..5)
        .map(|_| {
            let sent = rig.next_sent();
            sent.asked.assert_extends(held(), true);
            sent.at.0 - first
        })
        .collect();
    assert_eq!(times, [0, 500_000, 750_000, 875_000, 937_500], "milliseconds");
    // Half of the rest would be 31 s.
    let last = rig.next_sent();
    assert_eq!(last.at.0 - first, 997_500);
    let rebinding = rig.next_sent();
    assert_eq!(rebinding.at, rebind_at);
    rebinding.asked.assert_extends(held(), false);
    // In REBINDING alike, by what is left of the lease.
    let expires_at = lease_of(&rig).expires_at.unwrap();
    let next = rig.next_sent();
    assert_eq!(next.at.since(rebinding.at), expires_at.since(rebinding.at) / 2);
}

/// The machine's part: the address is lost in the very moment, and the next message is a DISCOVER.
pub fn an_expired_lease_is_lost_at_once() {
    for tuple in [held(), whole()] {
        let mut rig = Rig::bound(tuple);
        let lease = lease_of(&rig);
        let end = lease.expires_at.unwrap();
        assert_eq!(end.since(lease.began), 3600 * SECOND);
        rig.run_until(Moment(end.0 - 1));
        assert_eq!((rig.take_events(), rig.session.lease()), (vec![], Some(&lease)));
        let late = rig.take_sent().pop().expect("REBINDING");
        // An answer that comes too late is none.
        rig.now = end;
        rig.hear(&Answer::ack(tuple).to(&late.asked));
        assert_eq!(rig.take_events(), [Action::Lost(lease, Loss::Expired)]);
        assert_eq!(rig.session.lease(), None);
        rig.next_sent().asked.assert_discover();
    }
}

fn a_renewal_is_refused() {
    let mut rig = Rig::bound(held());
    let lease = lease_of(&rig);
    let renewal = rig.next_sent();
    rig.hear(&Answer::nak().to(&renewal.asked));
    assert_eq!(rig.take_events(), [Action::Lost(lease, Loss::Refused)]);
    assert_eq!(rig.session.lease(), None);
    let discover = rig.next_sent().asked;
    discover.assert_discover();
    assert!(!discover.has(50) && !discover.has(159), "what was refused is not asked for again");
}

fn somebody_else_is_refused() {
    let mut other = IDENTIFIER;
    other[14] ^= 1;
    let nak = Answer::nak().identified_by(&other);
    // In RENEWING.
    let mut rig = Rig::bound(held());
    let renewal = rig.next_sent();
    rig.ignores(&nak.to(&renewal.asked));
    assert!(rig.session.lease().is_some());
    // In REQUESTING.
    let mut rig = Rig::fresh();
    let discover = rig.next_sent();
    rig.hear(&Answer::offer(held()).to(&discover.asked));
    let request = rig.next_sent();
    rig.ignores(&nak.to(&request.asked));
    // In REBOOTING.
    let mut rig = Rig::start(config(), Memory::Lease(assignment(held())), 1);
    let reboot = rig.next_sent();
    rig.ignores(&nak.to(&reboot.asked));
}

/// The machine's part: another source, for whatever reason, and the client begins anew.
pub fn another_source_begins_anew() {
    for renewing in [false, true] {
        let mut rig = Rig::bound(held());
        let lease = lease_of(&rig);
        if renewing {
            rig.next_sent();
        }
        rig.handle(Event::SourceChanged);
        assert_eq!(rig.take_events(), [Action::Lost(lease, Loss::SourceChanged)]);
        let discover = rig.next_sent().asked;
        discover.assert_discover();
        assert_eq!(discover.ports(), held().ports, "it may ask for the same again");
    }
}

fn times_out_of_order() {
    let default = Terms { lease_seconds: 3600, renewal_seconds: 1800, rebinding_seconds: 3150 };
    for (renewal, rebinding) in
        [(3200, 3150), (1800, 3700), (1800, 3600), (2000, 2000), (4000, 5000), (0, 3000)]
    {
        for seed in SEEDS.take(20) {
            let mut rig = Rig::start(config(), Memory::Nothing, seed);
            let ack = Answer::ack(held()).times(renewal, rebinding);
            let lease = rig.obtain(&Answer::offer(held()), &ack);
            assert_eq!(lease.terms, default, "T1 {renewal}, T2 {rebinding}");
            let after = |moment: Option<Moment>| moment.unwrap().since(lease.began).as_secs_f64();
            let (renew, rebind) = (after(lease.renew_at), after(lease.rebind_at));
            assert!((renew - 1800.0).abs() <= 90.0 && (rebind - 3150.0).abs() <= 90.0);
            assert_eq!(lease.expires_at, Some(lease.began.plus(3600 * SECOND)));
        }
    }
    // What is in order counts.
    let ack = Answer::ack(held()).times(100, 200);
    let terms = lease_of(&Rig::bound_by(&ack, held())).terms;
    assert_eq!((terms.renewal_seconds, terms.rebinding_seconds), (100, 200));
}

fn a_lease_without_end() {
    let ack = Answer::ack(held()).lasting(u32::MAX).times(10, 20);
    let mut rig = Rig::bound_by(&ack, held());
    let lease = lease_of(&rig);
    assert_eq!((lease.renew_at, lease.rebind_at, lease.expires_at), (None, None, None));
    assert_eq!(rig.session.deadline(), None);
    rig.run_for(100 * 365 * 86_400 * SECOND);
    assert!(rig.take_sent().is_empty() && rig.take_events().is_empty());
    assert!(!rig.notes.iter().any(|note| matches!(note, Note::Sending(_))));
    assert_eq!(rig.session.lease(), Some(&lease));
}
