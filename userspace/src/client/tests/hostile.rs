//! Whatever comes in: no panic, and no lease but what an ACK to our own REQUEST says.

use proptest::prelude::*;

use super::*;
use crate::wire::dhcpv6::Response;

/// One thing that may happen.
#[derive(Clone, Debug)]
enum Happening {
    /// Octets that mean nothing.
    Noise(Vec<u8>),
    /// A true answer to the latest query, with some of its octets changed and its end cut off.
    Answer { kind: u8, psid: u16, changes: Vec<(usize, u8)>, cut: usize },
    /// Time passes, in seconds.
    Wait(u32),
    /// The driver says something.
    Told(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    let changes = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec((0_usize..320, any::<u8>()), 1..4),
    ];
    let cut = prop_oneof![4 => Just(0_usize), 1 => 0_usize..300];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..400).prop_map(Happening::Noise),
        8 => (0_u8..10, 0x30_u16..0x38, changes, cut).prop_map(|(kind, psid, changes, cut)| {
            Happening::Answer { kind, psid, changes, cut }
        }),
        3 => (0_u32..3000).prop_map(Happening::Wait),
        1 => (0_u8..8).prop_map(Happening::Told),
    ]
}

fn answer(kind: u8, psid: u16) -> Answer {
    let port_params = PortParams::new(6, 8, psid);
    let assignment = Assignment { address: ADDRESS, port_params };
    match kind {
        0..4 => Answer::offer(assignment),
        4..8 => Answer::ack(assignment),
        8 => Answer::nak(),
        _ => Answer::ack(whole()),
    }
}

/// Asserts that every lease in the events is what this datagram acknowledges.
fn assert_acknowledged(bench: &Bench, datagram: &[u8], query: &Sent) {
    for event in &bench.events {
        let lease = match event {
            Action::Obtained(lease) | Action::Renewed(lease) => lease,
            Action::Changed { to, .. } => to,
            _ => continue,
        };
        let response = Response::parse(datagram).unwrap();
        let view = View::parse_reply(response.message).unwrap();
        assert_eq!(view.kind(), MessageType::Ack);
        assert_eq!((view.xid(), query.kind()), (query.view().xid(), MessageType::Request));
        assert_eq!(view.yiaddr(), lease.assignment.address);
        assert_eq!(view.port_params().present(), lease.assignment.port_params);
        assert_eq!(view.lease_seconds(), Some(lease.terms.lease_seconds));
        assert!(lease.began <= bench.now && !lease.is_over(bench.now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn nothing_but_an_ack_makes_a_lease(
        seed in any::<u64>(),
        remembers in any::<bool>(),
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let memory = if remembers { Memory::Lease(shared()) } else { Memory::Nothing };
        let mut bench = Bench::start_seeded(config(), memory, seed);
        let mut latest = bench.next_sent();
        let mut offered = true;
        for happening in happenings {
            let mut datagram = Vec::new();
            offered = match happening {
                Happening::Told(2 | 3) => false,
                Happening::Told(4 | 5) => true,
                _ => offered,
            };
            match happening {
                Happening::Noise(octets) => datagram = octets,
                Happening::Answer { kind, psid, changes, cut } => {
                    datagram = answer(kind, psid).to(&latest);
                    for (at, octet) in changes {
                        if let Some(place) = datagram.get_mut(at) {
                            *place = octet;
                        }
                    }
                    datagram.truncate(datagram.len() - cut.min(datagram.len()));
                }
                Happening::Wait(seconds) => bench.run_for(seconds * SECOND),
                Happening::Told(0) => bench.handle(Event::SourceChanged),
                Happening::Told(1) => bench.handle(Event::Release),
                Happening::Told(2) => bench.handle(Event::Disabled(OnLoss::Now)),
                Happening::Told(3) => bench.handle(Event::Disabled(OnLoss::LeaseEnd)),
                Happening::Told(4 | 5) => {
                    bench.handle(Event::Enabled(2));
                    bench.handle(Event::Start);
                }
                Happening::Told(_) => bench.handle(Event::RenewNow),
            }
            assert!(!bench.events.iter().any(is_gain), "a lease without a datagram");
            bench.events.clear();
            if !datagram.is_empty() {
                bench.hear(&datagram);
                assert_acknowledged(&bench, &datagram, &latest);
                bench.events.clear();
            }
            // The window of the offers closes, so that a REQUEST follows.
            if bench.sent.is_empty() {
                bench.run_for(SECOND);
                bench.events.clear();
            }
            assert!(offered || bench.sent.is_empty(), "nothing is sent where nobody offers it");
            latest = bench.sent.pop().unwrap_or(latest);
            bench.sent.clear();
        }
    }
}

fn is_gain(event: &Action) -> bool {
    matches!(event, Action::Obtained(_) | Action::Renewed(_) | Action::Changed { .. })
}

#[test]
fn the_property_test_reaches_leases() {
    // Its own proof that it is not vacuous: a plain run of it obtains, renews and changes.
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&answer(0, 0x30).to(&discover));
    let request = bench.next_sent();
    let ack = answer(4, 0x31).to(&request);
    bench.hear(&ack);
    assert_eq!(bench.events.iter().filter(|event| is_gain(event)).count(), 1);
    assert_acknowledged(&bench, &ack, &request);
}
