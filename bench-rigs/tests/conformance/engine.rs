//! The engine in this process: leases, a log and a clock that the test moves.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use bench_rigs::{daemon::folder_on_disk, stage::SERVER};
use portlease::{
    engine::{Engine, Verdict},
    journal::LeaseLog,
    lease::{
        promise::{LaneId, Promise, Watermarks},
        record::Record,
        stamp::Now,
    },
    server::{
        Options,
        metrics::{Counters, Snapshot},
        store,
    },
    wire::datagram,
};
use tempfile::TempDir;

use crate::{
    lab::{Backend, Outcome, Sent, Store, remark_names},
    packet::Datagram,
    setup::Setup,
};

/// Octets that a reply may have: what an Ethernet frame leaves for it.
const REPLY_LENGTH_MAX: usize = 1500 - 40 - 8;

/// The interface that everything comes in by.
const INTERFACE: u32 = 1;

/// The server in this process.
pub struct EngineBackend {
    setup: Setup,
    engine: Engine,
    log: Box<dyn LeaseLog>,
    watermarks: Arc<Watermarks>,
    now: Now,
    /// All that the log was given, and what it gave back at birth.
    records: Vec<Record>,
    /// Records of this life.
    promised: u64,
    folder: Option<TempDir>,
}

impl EngineBackend {
    pub fn new(mut setup: Setup, store: Store) -> Self {
        let folder = (store == Store::Ring).then(|| folder_on_disk("conformance-").unwrap());
        match &folder {
            Some(folder) => setup.store_in(folder.path()),
            None => setup.set("store.kind", "memory"),
        }
        let watermarks = Arc::new(Watermarks::new(1));
        let (engine, log, now, records) = open(&setup, &watermarks);
        Self { setup, engine, log, watermarks, now, records, promised: 0, folder }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The server's time.
    pub fn time(&self) -> Now {
        self.now
    }

    /// Makes what was promised durable, as the journal does before a reply leaves.
    fn settle(&mut self, records: &[Record]) {
        self.log.commit(records, self.now).unwrap();
        self.records.extend(records);
        self.promised += records.len() as u64;
        self.watermarks.publish(LaneId(0), self.promised);
    }
}

/// Opens the store as the daemon does; the clock may be behind the records, for the test has moved it.
fn open(
    setup: &Setup,
    watermarks: &Arc<Watermarks>,
) -> (Engine, Box<dyn LeaseLog>, Now, Vec<Record>) {
    let mut compiled = setup.compile().unwrap_or_else(|problems| panic!("{problems}"));
    compiled.resolve(|_| Some(INTERFACE), String::new).unwrap();
    let (_events, received) = mpsc::channel();
    let options = Options { accept_clock: true, ..Options::default() };
    let opened = store::open(&compiled, Arc::clone(watermarks), options, &received);
    let opened = opened.unwrap().expect("a store that opens");
    let now = opened.clock.now();
    let engine = Engine::new(compiled.policy, opened.leases, opened.secret);
    (engine, opened.log, now, Vec::new())
}

/// What a worker counts of a verdict besides, by the names that an operator sees.
fn remarks(count: impl FnOnce(&Counters)) -> BTreeMap<String, u64> {
    let (counters, mut snapshot) = (Counters::default(), Snapshot::default());
    count(&counters);
    snapshot.add_worker(&counters);
    let values = remark_names().map(|name| (name.to_owned(), snapshot.get(name)));
    values.filter(|(_, value)| *value > 0).collect()
}

impl Backend for EngineBackend {
    fn deliver(&mut self, datagram: &Datagram) -> Outcome {
        let seen = datagram::Datagram {
            peer: datagram.source,
            peer_port: datagram.source_port,
            local: datagram.destination,
            interface: INTERFACE,
            payload: &datagram.payload,
        };
        let promise = Promise { lane: LaneId(0), sequence: self.promised + 1 };
        let mut out = vec![0; REPLY_LENGTH_MAX];
        let verdict = self.engine.answer(self.now, &seen, promise, &mut out);
        let mut outcome = Outcome::default();
        let reply = match verdict {
            Verdict::Ignore(reason) => {
                outcome.counted = BTreeMap::from([(reason.name().to_owned(), 1)]);
                None
            }
            Verdict::Reply(reply) => Some(reply),
            Verdict::Promise { records, reply } => {
                self.settle(&records);
                if reply.is_none() {
                    outcome.remarks = remarks(|counters| counters.silent(&records));
                }
                reply
            }
        };
        self.engine.leases().check_invariants().unwrap();
        if let Some(reply) = &reply {
            outcome.remarks = remarks(|counters| counters.reply(reply));
        }
        outcome.sent = reply
            .into_iter()
            .map(|reply| Sent {
                // A port answers a multicast query from an address of the interface.
                source: if seen.local.is_multicast() { SERVER } else { seen.local },
                destination: datagram.source,
                destination_port: reply.port(),
                payload: out[..reply.length()].to_vec(),
            })
            .collect();
        outcome
    }

    fn state(&mut self) -> Vec<String> {
        let records = self.records.iter().map(|record| format!("{record:?}"));
        records.chain(self.engine.leases().image()).collect()
    }

    fn records(&mut self) -> Vec<Record> {
        self.records.clone()
    }

    fn wait(&mut self, seconds: u64) {
        self.now.0 += seconds * 1000;
        self.engine.leases().sweep_all(self.now);
        self.engine.leases().check_invariants().unwrap();
    }

    fn now(&self) -> u32 {
        self.now.seconds()
    }

    fn crash(&mut self, change: &mut dyn FnMut(&mut Setup)) {
        change(&mut self.setup);
        assert!(self.folder.is_some(), "a store that survives");
        // The new log cannot be opened while the old one is.
        self.log = Box::new(portlease::journal::MemoryLog::new().unwrap());
        self.watermarks = Arc::new(Watermarks::new(1));
        (self.engine, self.log, self.now, _) = open(&self.setup, &self.watermarks);
        self.promised = 0;
    }

    fn log(&mut self) -> String {
        String::new()
    }

    fn other_frames(&mut self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}
