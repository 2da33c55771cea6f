//! What must hold of a server for any sequence of datagrams, at any times.
//!
//! An input is a list of steps: an octet that says how much time passes and which link the datagram comes from, its
//! length in two octets, and its payload. A fuzzer cuts and joins them as it likes.

use std::collections::HashMap;

use portlease::{
    engine::policy::{Information, Policy, Reservation, ReservedFor, SitePolicy, Softwire},
    lease::{
        Features,
        key::{ClientIdentity, LinkId},
        record::{Record, State, Tuple},
    },
    wire::{dhcpv4::MessageType, dhcpv6},
};

use crate::common::{Answer, Received, Server, client_identifier, network, pool};

/// How long before a datagram comes, in seconds, by the low three bits of its step's octet.
const PAUSES: [u64; 8] = [0, 0, 1, 61, 130, 1800, 3700, 90_000];

/// Seconds that a freed tuple rests in the reference configuration.
const HOLD_DOWN_SECONDS: u64 = 120;

/// In the first octet of an input: the server lets much pass.
pub(crate) const LENIENT: u8 = 0x40;

/// In the first octet of an input: the server does all that it can. In a later one: it was restarted before.
pub(crate) const RICH: u8 = 0x80;

/// One step, as the octets of an input.
pub(crate) fn step(pause: u8, link: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a datagram");
    let [high, low] = length.to_be_bytes();
    [&[pause & 7 | (link & 7) << 3, high, low], payload].concat()
}

/// The first step of an input and the rest.
fn take_step(input: &[u8]) -> Option<(u64, u16, &[u8], &[u8])> {
    let (&[head, high, low], rest) = input.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (payload, rest) = rest.split_at(length);
    Some((PAUSES[usize::from(head & 7)], u16::from(head >> 3 & 7), payload, rest))
}

/// A server with a few tuples, so that a short conversation can exhaust them.
fn small_server(features: Features, change: impl FnOnce(&mut Policy)) -> Server {
    let pools = [
        pool("P1", 1, ("192.0.2.18", "192.0.2.18"), 0, 2),
        pool("P2", 2, ("198.51.100.1", "198.51.100.1"), 6, 1),
        pool("F", 3, ("203.0.113.10", "203.0.113.11"), 0, 0),
        pool("P4", 4, ("192.0.2.40", "192.0.2.40"), 0, 1),
        pool("F4", 4, ("203.0.113.40", "203.0.113.40"), 0, 0),
    ];
    Server::featuring(&pools, features, change)
}

/// What is reserved in a rich server.
fn reserved() -> Tuple {
    let address = "192.0.2.18".parse().expect("an address");
    Tuple { address, offset: 0, psid_length: 2, psid: 3 }
}

fn features(rich: bool) -> Features {
    if !rich {
        return Features::default();
    }
    Features { leases_per_site_max: 2, softwires: true, withheld: vec![reserved()] }
}

/// A policy that serves everything.
fn enrich(policy: &mut Policy) {
    policy.softwire = Some(Softwire {
        border_relays: vec!["2001:db8::b1".parse().expect("an address")],
        ..Softwire::default()
    });
    policy.information = Some(Information { refresh_seconds: 600, ..Information::default() });
    policy.sites = SitePolicy { queries_per_second: 5, ..SitePolicy::default() };
    let client = ReservedFor::ClientIdentifier(client_identifier(1));
    policy.reservations = vec![Reservation { link: LinkId(0), client, tuple: reserved() }];
}

/// Any sequence of datagrams to a server.
pub(crate) fn conversation(input: &[u8]) {
    let switched = |bit| input.first().is_some_and(|octet| octet & bit != 0);
    let (lenient, rich) = (switched(LENIENT), switched(RICH));
    let mut server = small_server(features(rich), |policy| {
        policy.authoritative = lenient;
        policy.accept_renew_without_159 = lenient;
        policy.accept_renew_with_50 = lenient;
        policy.accept_release_without_159 = lenient;
        policy.answer_inform_without_159 = lenient;
        if rich {
            enrich(policy);
        }
    });
    let mut holders = HashMap::new();
    let mut rest = input;
    while let Some((pause, link, payload, after)) = take_step(rest) {
        if rest.len() < input.len() && rest.first().is_some_and(|octet| octet & RICH != 0) {
            server = server.restarted(features(rich));
        }
        rest = after;
        if pause > 0 {
            server.advance(pause);
        }
        let written = server.journal.len();
        let answer = server.deliver(payload, network(link));
        let promised = server.journal[written..].to_vec();
        for record in &promised {
            check_holder(&mut holders, record, server.now.0 / 1000);
            let withheld = rich && record.tuple() == reserved();
            assert!(!withheld || record.client() == client_identifier(1), "{record:?}");
        }
        match answer {
            Answer::Reply(reply) => check_reply(&reply, &promised),
            Answer::Information(octets) => {
                assert!(rich && promised.is_empty());
                dhcpv6::Reply::parse(&octets).expect("a Reply that can be read");
            }
            Answer::Silent(_) | Answer::Done => {}
        }
    }
}

/// Who held a tuple last, and until when nobody else may.
type Holders = HashMap<Tuple, (ClientIdentity, u64)>;

/// No tuple goes to another client before its lease and its hold-down are over.
fn check_holder(holders: &mut Holders, record: &Record, now_seconds: u64) {
    let until = match record.state().expect("a known state") {
        State::Bound => u64::from(record.expires()) + HOLD_DOWN_SECONDS,
        State::Former | State::Quarantined => now_seconds + HOLD_DOWN_SECONDS,
    };
    let before = holders.insert(record.tuple(), (record.identity(), until));
    if let Some((identity, until)) = before {
        assert!(identity == record.identity() || until <= now_seconds, "{record:?} too early");
    }
}

/// An ACK says what its record says, and a NAK says nothing.
fn check_reply(reply: &Received, promised: &[Record]) {
    match reply.kind {
        // Of an INFORM.
        MessageType::Ack if reply.address.is_unspecified() => {
            let times = [reply.lease_seconds, reply.renewal_seconds, reply.rebinding_seconds];
            assert_eq!(times, [None; 3]);
            assert!(reply.params.is_none() && promised.is_empty(), "{reply:?}");
        }
        MessageType::Offer | MessageType::Ack => {
            assert!(!reply.address.is_unspecified());
            let seconds = reply.lease_seconds.expect("a lease time");
            let (renewal, rebinding) =
                (reply.renewal_seconds.expect("T1"), reply.rebinding_seconds.expect("T2"));
            assert!(renewal < rebinding && rebinding < seconds, "{reply:?}");
        }
        MessageType::Nak => assert!(reply.params.is_none() && promised.is_empty()),
        other => panic!("a server sent {other:?}"),
    }
    if let Some(record) = promised.first() {
        assert_eq!(reply.kind, MessageType::Ack);
        let tuple = record.tuple();
        assert_eq!(record.state(), Some(State::Bound));
        assert_eq!(reply.address, tuple.address);
        let psid = reply.params.map_or((0, 0), |params| (params.psid_length, params.psid));
        assert_eq!(psid, (tuple.psid_length, tuple.psid));
    }
}
