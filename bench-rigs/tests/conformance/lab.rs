//! The laboratory: a server under test, and what can be asked of it. A case is one function over it, whether the
//! server is the engine in this process or the daemon in a namespace.

use std::{collections::BTreeMap, net::Ipv6Addr};

use portlease::{
    engine::remark::Remark,
    lease::record::{Record, State},
};

use crate::{
    daemon::DaemonBackend,
    engine::EngineBackend,
    packet::{ACK, Datagram, NAK, OFFER, Ports, Tuple},
    query::{Client, Query},
    reply::Reply,
    setup::Setup,
};

/// Where a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bench {
    /// The engine, its leases and a log, in this process. Time is the test's.
    Engine,
    /// `portlease run` in a network namespace, by datagrams over a virtual link. Time is everybody's.
    Daemon,
}

impl Bench {
    /// A server with the reference configuration.
    pub fn lab(self) -> Lab {
        self.lab_with(|_| {})
    }

    /// A server with changes to the reference configuration.
    pub fn lab_with(self, change: impl FnOnce(&mut Setup)) -> Lab {
        let mut setup = Setup::reference();
        change(&mut setup);
        match self {
            Bench::Engine => Lab::of(EngineBackend::new(setup, Store::Memory)),
            Bench::Daemon => Lab::of(DaemonBackend::new(setup)),
        }
    }

    /// A server that can be killed and started again, with the reference configuration.
    pub fn lab_on_disk(self) -> Lab {
        match self {
            Bench::Engine => Lab::of(EngineBackend::new(Setup::reference(), Store::Ring)),
            Bench::Daemon => self.lab(),
        }
    }
}

/// Where an engine in this process keeps its records. A daemon always has a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Memory,
    Ring,
}

/// A datagram that the server has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub destination_port: u16,
    pub payload: Vec<u8>,
}

/// Names of the counters of what is remarkable about a query or its reply.
pub fn remark_names() -> impl Iterator<Item = &'static str> {
    Remark::ALL.iter().map(|remark| remark.name()).chain(["tuples-declined"])
}

/// What came of a datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// All that the server sent.
    pub sent: Vec<Sent>,
    /// Counters of reasons for silence that rose, with by how much.
    pub counted: BTreeMap<String, u64>,
    /// Counters of what is remarkable about a reply that rose.
    pub remarks: BTreeMap<String, u64>,
}

/// A server under test.
pub trait Backend {
    /// Delivers a datagram and waits until the server is done with it.
    fn deliver(&mut self, datagram: &Datagram) -> Outcome;
    /// Everything that can be known of leases and offers, in a comparable form.
    fn state(&mut self) -> Vec<String>;
    /// All durable records, superseded ones included.
    fn records(&mut self) -> Vec<Record>;
    /// Lets time pass.
    fn wait(&mut self, seconds: u64);
    /// The server's time, in seconds since the epoch.
    fn now(&self) -> u32;
    /// Ends the server at once, without a chance to finish anything, and starts it again with a changed configuration.
    fn crash(&mut self, change: &mut dyn FnMut(&mut Setup));
    /// What the server has logged.
    fn log(&mut self) -> String;
    /// Frames that were seen on the link and are no datagrams of the server's port.
    fn other_frames(&mut self) -> Vec<Vec<u8>>;
}

/// What the newest durable record of a tuple says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub tuple: Tuple,
    /// The first octets of the client's identity.
    pub client: Vec<u8>,
    pub state: State,
    /// End, in seconds since the epoch.
    pub expires: u32,
    pub source: Ipv6Addr,
    /// Where the client's softwire begins (RFC 8539).
    pub softwire: Option<Ipv6Addr>,
    /// Orders the records of a tuple.
    pub stamp: u64,
}

pub struct Lab(Box<dyn Backend>);

impl Lab {
    /// A lab around a server.
    pub fn of(backend: impl Backend + 'static) -> Self {
        Self(Box::new(backend))
    }

    /// Delivers anything.
    pub fn deliver(&mut self, datagram: impl Into<Datagram>) -> Outcome {
        self.0.deliver(&datagram.into())
    }

    /// Sends a query; its reply has been held against what every reply must be.
    pub fn send(&mut self, query: &Query) -> Option<Reply> {
        self.send_and_count(query).map(|(reply, _)| reply)
    }

    /// As [`send`](Self::send), with the counters of what is remarkable about the reply.
    pub fn send_and_count(&mut self, query: &Query) -> Option<(Reply, Vec<(String, u64)>)> {
        let outcome = self.deliver(query);
        let reply = match &outcome.sent[..] {
            [] => return None,
            [sent] => sent,
            several => panic!("{} datagrams in reply to one", several.len()),
        };
        assert!(outcome.counted.is_empty(), "answered, and counted as {:?}", outcome.counted);
        let to = (reply.destination, reply.destination_port);
        let reply = Reply::read(reply.source, to, &reply.payload);
        reply.assert_lawful(query);
        Some((reply, outcome.remarks.into_iter().collect()))
    }

    #[track_caller]
    fn expect(&mut self, query: &Query, kind: u8) -> Reply {
        match self.send(query) {
            Some(reply) => {
                assert_eq!(reply.kind(), kind, "type of {reply:?}");
                reply
            }
            None => panic!("expected a reply of type {kind}, got none"),
        }
    }

    #[track_caller]
    pub fn offer(&mut self, query: &Query) -> Reply {
        self.expect(query, OFFER)
    }

    #[track_caller]
    pub fn ack(&mut self, query: &Query) -> Reply {
        self.expect(query, ACK)
    }

    #[track_caller]
    pub fn nak(&mut self, query: &Query) -> Reply {
        self.expect(query, NAK)
    }

    /// The server must discard this: one counter of this name rises by one, no datagram, nothing else changes.
    #[track_caller]
    pub fn expect_discard(&mut self, counter: &str, datagram: impl Into<Datagram>) {
        let before = self.0.state();
        let outcome = self.deliver(datagram);
        assert_eq!(outcome.sent, [], "a datagram that must be discarded was answered");
        let rose: Vec<_> = outcome.counted.into_iter().collect();
        assert_eq!(rose, [(counter.to_owned(), 1)], "what was counted");
        similar(&before, &self.0.state());
    }

    /// The server must NAK this and change nothing.
    #[track_caller]
    pub fn nak_without_change(&mut self, query: &Query) -> Reply {
        let before = self.0.records();
        let reply = self.nak(query);
        assert_eq!(before, self.0.records(), "a NAK must not change a lease");
        reply
    }

    /// The server must not answer this, but may act on it. Gives what was counted as a reason for silence.
    #[track_caller]
    pub fn silent(&mut self, query: &Query) -> Vec<String> {
        let outcome = self.deliver(query);
        assert_eq!(outcome.sent, [], "expected silence");
        assert!(outcome.counted.values().sum::<u64>() <= 1, "counted: {:?}", outcome.counted);
        outcome.counted.into_keys().collect()
    }

    /// DISCOVER, OFFER, REQUEST, ACK.
    #[track_caller]
    pub fn obtain(&mut self, client: &Client) -> Reply {
        let offer = self.offer(&client.discover());
        let ack = self.ack(&client.select(&offer));
        assert_eq!(ack.tuple(), offer.tuple());
        ack
    }

    /// As [`obtain`](Self::obtain), for this very tuple.
    #[track_caller]
    pub fn obtain_tuple(&mut self, client: &Client, tuple: Tuple) -> Reply {
        let offer = self.offer(&client.discover_for(tuple));
        assert_eq!(offer.tuple(), tuple, "the tuple that was asked for");
        self.ack(&client.select(&offer))
    }

    pub fn wait(&mut self, seconds: u64) {
        self.0.wait(seconds);
    }

    /// Kills the server and starts it again.
    pub fn crash(&mut self) {
        self.0.crash(&mut |_| {});
    }

    /// Kills the server and starts it again with a changed configuration.
    pub fn restart_with(&mut self, mut change: impl FnMut(&mut Setup)) {
        self.0.crash(&mut change);
    }

    pub fn log(&mut self) -> String {
        self.0.log()
    }

    pub fn other_frames(&mut self) -> Vec<Vec<u8>> {
        self.0.other_frames()
    }

    /// Everything that can be known of leases and offers.
    pub fn state(&mut self) -> Vec<String> {
        self.0.state()
    }

    /// What is durable of a tuple.
    pub fn durable(&mut self, tuple: Tuple) -> Option<Lease> {
        self.durable_leases().remove(&tuple)
    }

    /// What is durable, by tuple.
    pub fn durable_leases(&mut self) -> BTreeMap<Tuple, Lease> {
        let mut leases: BTreeMap<Tuple, Lease> = BTreeMap::new();
        for record in self.0.records() {
            let lease = Lease::read(&record);
            if leases.get(&lease.tuple).is_none_or(|known| known.stamp <= lease.stamp) {
                leases.insert(lease.tuple, lease);
            }
        }
        leases
    }

    /// Tuples whose leases run, with the clients that hold them.
    pub fn active(&mut self) -> BTreeMap<Tuple, Vec<u8>> {
        let now = self.0.now();
        let leases = self.durable_leases().into_iter();
        let running = leases.filter(|(_, lease)| {
            lease.state == State::Bound && (lease.expires == u32::MAX || lease.expires > now)
        });
        running.map(|(tuple, lease)| (tuple, lease.client)).collect()
    }

    /// Asserts that this client, and nobody else, holds this tuple.
    #[track_caller]
    pub fn assert_holds(&mut self, client: &Client, tuple: Tuple) {
        let holder = self.active().remove(&tuple);
        assert_eq!(holder.as_ref(), client.identifier.as_ref(), "who holds {tuple:?}");
    }
}

impl Lease {
    fn read(record: &Record) -> Self {
        let tuple = record.tuple();
        let ports = (tuple.psid_length != 0).then_some(Ports::new(
            tuple.offset,
            tuple.psid_length,
            tuple.psid,
        ));
        Self {
            tuple: Tuple { address: tuple.address, ports },
            client: record.client().to_vec(),
            state: record.state().expect("a record of this version"),
            expires: record.expires(),
            source: record.source(),
            softwire: record.softwire().map(|softwire| softwire.address),
            stamp: record.stamp().0,
        }
    }
}

/// Asserts that two states are equal; shows only what differs.
#[track_caller]
fn similar(before: &[String], after: &[String]) {
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let come: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(gone.is_empty() && come.is_empty(), "state was {gone:#?}, became {come:#?}");
    assert_eq!(before.len(), after.len());
}
