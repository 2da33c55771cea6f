//! H04 and B36: very many messages, straight to the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bench_rigs::stage::SERVER;
use portlease::{
    engine::{Engine, Verdict},
    lease::{
        promise::{LaneId, Promise},
        record::Record,
        stamp::Now,
    },
    wire::datagram,
};

use crate::{
    dora::assert_of_p1,
    engine::EngineBackend,
    lab::{Bench, Store},
    packet::{Datagram, INTERFACE_ID, Level, Tuple},
    query::{Client, L1, Query},
    registry::{Case, engine_only},
    reply::Reply,
    setup::Setup,
};

pub const CASES: &[Case] = &[
    engine_only("H04", "threads call the engine", a_thousand_clients_on_eight_threads),
    engine_only("B36", "a million messages go to the engine", a_site_that_floods),
];

/// What the engine makes of a datagram, and the reply.
fn answer(engine: &Engine, now: Now, sequence: u64, datagram: &Datagram) -> (Verdict, Vec<u8>) {
    let seen = datagram::Datagram {
        peer: datagram.source,
        peer_port: datagram.source_port,
        local: datagram.destination,
        interface: 1,
        payload: &datagram.payload,
    };
    let mut out = vec![0; 1452];
    let verdict = engine.answer(now, &seen, Promise { lane: LaneId(0), sequence }, &mut out);
    (verdict, out)
}

/// What one of the threads of H04 does for one client: both messages, with what they promise put on record.
fn obtain_beside_others(
    (engine, now): (&Engine, Now),
    client: &Client,
    promised: &AtomicU64,
    records: &Mutex<Vec<Record>>,
) -> Tuple {
    let ask = |query: &Query| -> Reply {
        let datagram = query.datagram();
        let sequence = promised.fetch_add(2, Ordering::Relaxed);
        let (verdict, out) = answer(engine, now, sequence, &datagram);
        let reply = match verdict {
            Verdict::Reply(reply) => reply,
            Verdict::Promise { records: new, reply } => {
                records.lock().unwrap().extend(new.iter());
                reply.expect("a reply to a REQUEST")
            }
            Verdict::Ignore(reason) => panic!("{}", reason.name()),
        };
        let reply = Reply::read(SERVER, (datagram.source, reply.port()), &out[..reply.length()]);
        reply.assert_lawful(query);
        reply
    };
    let offer = ask(&client.discover());
    let ack = ask(&client.select(&offer));
    assert_eq!((ack.kind(), ack.tuple()), (5, offer.tuple()));
    ack.tuple()
}

fn a_thousand_clients_on_eight_threads(_: Bench) {
    const THREADS: u16 = 8;
    const CLIENTS: u16 = 1000;
    let mut setup = Setup::reference();
    // 1008 tuples: at the end there is hardly any choice, and threads meet.
    setup.set("link.0.pool.0.addresses", toml::Value::from(vec!["10.0.0.0/28"]));
    setup.set("store.capacity", 2000);
    let server = EngineBackend::new(setup, Store::Memory);
    let (promised, records) = (AtomicU64::new(1), Mutex::default());
    let tuples: Vec<Tuple> = std::thread::scope(|scope| {
        let work = |thread: u16| {
            let server = (server.engine(), server.time());
            let (promised, records) = (&promised, &records);
            move || {
                let own = (0..CLIENTS).filter(|number| number % THREADS == thread);
                let lease = |number| {
                    obtain_beside_others(server, &Client::on(L1, number), promised, records)
                };
                own.map(lease).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<&Tuple> = tuples.iter().collect();
    assert_eq!(distinct.len(), usize::from(CLIENTS), "a tuple was leased twice");
    let mut holders = BTreeMap::new();
    for record in records.into_inner().unwrap() {
        let other = holders.insert(record.tuple().packed(), record.identity());
        assert!(other.is_none_or(|other| other == record.identity()), "{record:?}");
    }
    assert_eq!(holders.len(), usize::from(CLIENTS));
    server.engine().leases().check_invariants().unwrap();
}

/// A client behind a port of the one relay there is: the port is the site.
fn at_port(number: u16, port: &[u8]) -> Client {
    let relay = Level::new(0, "2001:db8:1::1", "fe80::1").with(INTERFACE_ID, port);
    Client::on(L1, number).behind(vec![relay])
}

/// A million DISCOVERs of one site, each with another identifier. Gives how many got which answer.
fn flood(engine: &Engine, now: Now) -> BTreeMap<&'static str, u32> {
    const MESSAGES: u32 = 1_000_000;
    let mut random = fastrand::Rng::with_seed(7618);
    let marked = at_port(1, b"ge-1").identified_by(Some(&[0xa5; 15]));
    let mut datagram = marked.discover().datagram();
    let mark = datagram.payload.windows(15).position(|octets| octets == [0xa5; 15]).unwrap();
    let mut outcomes = BTreeMap::new();
    for _ in 0..MESSAGES {
        datagram.payload[mark..mark + 15].fill_with(|| random.u8(..));
        let name = match answer(engine, now, 1, &datagram).0 {
            Verdict::Ignore(reason) => reason.name(),
            Verdict::Reply(_) => "offered",
            Verdict::Promise { .. } => panic!("a promise for a DISCOVER"),
        };
        *outcomes.entry(name).or_default() += 1;
    }
    outcomes
}

fn a_site_that_floods(_: Bench) {
    let limited = |key: &str, value: i64| {
        let mut setup = Setup::reference();
        setup.set(key, value);
        let server = EngineBackend::new(setup, Store::Memory);
        let outcomes = flood(server.engine(), server.time());
        (crate::lab::Lab::of(server), outcomes)
    };
    // What it may have is all that it gets, and others go on at once.
    let (mut lab, outcomes) = limited("policy.max-leases-per-site", 4);
    assert_eq!(outcomes, BTreeMap::from([("offered", 4), ("site-limit", 999_996)]));
    assert_of_p1(&lab.obtain(&at_port(2, b"ge-2")));
    lab.expect_discard("site-limit", &at_port(3, b"ge-1").discover());
    // Its offers lapse, and with them its share is free again.
    lab.wait(61);
    assert_of_p1(&lab.obtain(&at_port(3, b"ge-1")));

    // How often it may ask bounds what it costs: at first ten seconds' worth of questions.
    let (mut lab, outcomes) = limited("policy.queries-per-site", 5);
    assert_eq!(outcomes, BTreeMap::from([("offered", 50), ("rate-limit", 999_950)]));
    assert_of_p1(&lab.obtain(&at_port(2, b"ge-2")));

    // Without any limit it gets all that there is, but only until its offers lapse.
    let (mut lab, outcomes) = limited("policy.max-leases-per-site", 0);
    assert_eq!(outcomes, BTreeMap::from([("offered", 126), ("pool-exhausted", 999_874)]));
    lab.expect_discard("pool-exhausted", &at_port(2, b"ge-2").discover());
    lab.wait(61);
    assert_of_p1(&lab.obtain(&at_port(2, b"ge-2")));
}
