//! Any sequence of datagrams: random lives of a few clients with fields spoiled at random. The fuzzer calls the same
//! check with octets of its own.

mod common;

#[path = "checks/engine.rs"]
mod engine;

use std::{fs, path::Path};

use common::{Query, SERVER_ID, Server, network, params};
use engine::step;
use portlease::{
    engine::{Reading, Reply, Verdict},
    lease::{
        client::Records,
        promise::{LaneId, Promise},
        record::Record,
    },
    wire::{datagram::Datagram, dhcpv4::MessageType},
};
use proptest::{collection::vec, prelude::*, sample::select};
use zerocopy::IntoBytes;

/// A query whose fields are right often enough that leases come and go.
fn query() -> impl Strategy<Value = Query> {
    let kinds = vec![
        MessageType::Discover,
        MessageType::Request,
        MessageType::Request,
        MessageType::Request,
        MessageType::Release,
        MessageType::Decline,
        MessageType::Inform,
    ];
    let addresses = vec![
        "192.0.2.18",
        "198.51.100.1",
        "203.0.113.10",
        "192.0.2.40",
        "203.0.113.40",
        "10.0.0.1",
    ];
    let address = || prop::option::weighted(0.6, select(addresses.clone()));
    let sets = vec![
        (0, 2, 1),
        (0, 2, 2),
        (0, 2, 3),
        (6, 1, 0),
        (6, 1, 1),
        (0, 1, 1),
        (0, 2, 0),
        (0, 0, 0),
    ];
    let set = prop::option::weighted(0.7, select(sets));
    let shape = (any::<bool>(), prop::bool::weighted(0.3), prop::bool::weighted(0.9));
    (select(kinds), 1..5_u8, 1..=4_u16, address(), address(), set, prop::bool::weighted(0.4), shape)
        .prop_map(
            |(kind, client, link, requested, ciaddr, set, ours, (unicast, relayed, capable))| {
                let query = Query {
                    unicast,
                    relayed,
                    requested: requested.map(|text| text.parse().unwrap()),
                    ciaddr: ciaddr
                        .map_or(std::net::Ipv4Addr::UNSPECIFIED, |text| text.parse().unwrap()),
                    server_id: ours.then_some(SERVER_ID),
                    params: set.map(|(offset, length, psid)| params(offset, length, psid)),
                    ..Query::new(kind, client, link)
                };
                if capable { query } else { query.without_159() }
            },
        )
}

/// An Information-request that asks for servers.
const INFORMATION: [u8; 10] = [11, 0xab, 0xcd, 0xef, 0, 6, 0, 2, 0, 88];

/// A step: a query, perhaps with one octet spoiled, or now and then an Information-request.
fn any_step() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![20 => query_step(), 1 => Just(step(0, 1, &INFORMATION))]
}

fn query_step() -> impl Strategy<Value = Vec<u8>> {
    let spoil = prop::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()));
    let switches = prop_oneof![8 => Just(0), 1 => Just(engine::RICH)];
    let softwire = prop::option::weighted(0.4, 1..4_u8);
    (query(), 0..8_u8, spoil, switches, softwire).prop_map(
        |(query, pause, spoil, switches, end)| {
            let query = Query { softwire: end.map(|end| vec![end; 16]), ..query };
            let mut payload = query.octets();
            if let Some((at, octet)) = spoil {
                let at = at.index(payload.len());
                payload[at] = octet;
            }
            let mut step = step(pause, u8::try_from(query.link).unwrap(), &payload);
            step[0] |= switches;
            step
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn no_sequence_of_datagrams_breaks_the_server(
        steps in vec(any_step(), 1..40),
        switches in select(vec![0, engine::LENIENT, engine::RICH, engine::LENIENT | engine::RICH]),
    ) {
        let mut input = steps.concat();
        input[0] |= switches;
        engine::conversation(&input);
    }
}

/// What becomes of the payloads of one burst, one after the other: all that a verdict says, and the reply's octets.
fn answers(server: &Server, payloads: &[(Vec<u8>, u16)], in_steps: bool) -> Vec<(String, Vec<u8>)> {
    let datagrams: Vec<_> = payloads
        .iter()
        .map(|(payload, link)| {
            let peer = network(*link);
            Datagram { peer, peer_port: 546, local: peer, interface: 1, payload }
        })
        .collect();
    let engine = &server.engine;
    let readings: Vec<_> = datagrams.iter().map(|datagram| engine.read(datagram)).collect();
    if in_steps {
        for reading in &readings {
            engine.approach(reading);
        }
    }
    let mut sequence = 1;
    let mut answer = |(datagram, reading): (&Datagram<'_>, &Reading<'_>)| {
        let mut out = [0; 1500];
        let promise = Promise { lane: LaneId(0), sequence };
        let mut room = Records::default();
        let answered;
        let verdict = if in_steps {
            engine.decide(server.now, reading, promise, &mut room, &mut out)
        } else {
            answered = engine.answer(server.now, datagram, promise, &mut out);
            match &answered {
                Verdict::Promise { records, .. } => answered.with(&records[..]),
                Verdict::Ignore(_) | Verdict::Reply(_) => answered.with(&[][..]),
            }
        };
        let (records, reply): (&[Record], _) = match verdict {
            Verdict::Ignore(_) => (&[], None),
            Verdict::Reply(reply) => (&[], Some(reply)),
            Verdict::Promise { records, reply } => (records, reply),
        };
        sequence += records.len() as u64;
        let length = reply.map_or(0, Reply::length);
        (format!("{verdict:?}"), [records.as_bytes(), &out[..length]].concat())
    };
    datagrams.iter().zip(&readings).map(&mut answer).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// A burst is read before the first of it is answered. What one answer changes, the next must see.
    #[test]
    fn a_burst_in_steps_is_answered_as_one_by_one(queries in vec(query(), 1..64)) {
        let payloads: Vec<_> = queries.iter().map(|query| (query.octets(), query.link)).collect();
        let [mut one, mut two] = [Server::reference(), Server::reference()];
        for _ in 0..2 {
            prop_assert_eq!(answers(&one, &payloads, false), answers(&two, &payloads, true));
            one.advance(61);
            two.advance(61);
        }
    }
}

#[test]
fn kept_sequences_stay_harmless() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/engine");
    let mut sequences = 0;
    for entry in fs::read_dir(folder).unwrap() {
        engine::conversation(&fs::read(entry.unwrap().path()).unwrap());
        sequences += 1;
    }
    assert!(sequences > 0);
}

/// The conversations that the fuzzer starts from. `engine-life` in the regressions is one of them.
#[test]
fn a_whole_life_is_a_sequence() {
    let discover = Query::discover(1, 1);
    let ours = Some(SERVER_ID);
    let lease = |psid: u16| Query {
        requested: Some("192.0.2.18".parse().unwrap()),
        params: Some(params(0, 2, psid)),
        server_id: ours,
        ..Query::new(MessageType::Request, 1, 1)
    };
    let renew = Query {
        server_id: None,
        requested: None,
        ciaddr: "192.0.2.18".parse().unwrap(),
        unicast: true,
        ..lease(2)
    };
    let release = Query {
        kind: MessageType::Release,
        server_id: ours,
        parameter_list: vec![],
        ..renew.clone()
    };
    let relayed = Query { relayed: true, ..Query::discover(2, 1) };
    let life: Vec<u8> =
        [(&discover, 0), (&lease(1), 0), (&lease(2), 2), (&renew, 5), (&release, 3), (&relayed, 4)]
            .iter()
            .flat_map(|(query, pause)| step(*pause, 1, &query.octets()))
            .collect();
    engine::conversation(&life);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/engine/life");
    assert_eq!(fs::read(kept).unwrap(), life, "the fuzzer's seed is what this test says");
}
