//! The loop at work: the real engine, leases and journal, with queues in memory where a network would be.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Condvar, Mutex, atomic::AtomicU32};
use std::thread::JoinHandle;

use crossbeam_queue::SegQueue;

use super::*;
use crate::engine::reason::{Reason, Refusal};
use crate::journal::{Hooks, Journal, LeaseLog, LogError, MemoryLog, RecoveryReport};
use crate::lease::promise::{LaneId, Watermarks};
use crate::net::counters::{Event, NetCounters};
use crate::server::testing;
use crate::wire::{
    Malformed,
    dhcpv4::{self, BOOT_REQUEST, Header, MessageType, View},
    dhcpv6::{self, Response},
    portparams::PortParams,
    writer::Writer,
};

/// What goes to and fro: payloads without a network around them.
#[derive(Default)]
struct Wires {
    queries: SegQueue<Vec<u8>>,
    replies: SegQueue<Vec<u8>>,
    /// How full the kernel's room is said to be.
    waiting_percent: AtomicU32,
    /// The interface vanishes with the first reply that waits.
    doomed: AtomicBool,
}

/// A port whose network is two queues. Its buffers are as few as those of a real one.
struct QueuePort {
    wires: Arc<Wires>,
    blank: Vec<Vec<u8>>,
    /// Buffers in all.
    buffers: usize,
    ready: VecDeque<(Vec<u8>, usize)>,
    counters: Arc<NetCounters>,
}

impl QueuePort {
    fn new(wires: Arc<Wires>, buffers: usize) -> Self {
        let blank = vec![vec![0; 1452]; buffers];
        Self { wires, blank, buffers, ready: VecDeque::new(), counters: Arc::default() }
    }
}

impl Port for QueuePort {
    type Reply = (Vec<u8>, usize);

    fn capacity(&self) -> usize {
        self.blank.len()
    }

    fn burst<H: Handler<Self::Reply>>(&mut self, limit: usize, handler: &mut H) -> usize {
        let mut taken = 0;
        while taken < limit && !self.blank.is_empty() {
            let Some(payload) = self.wires.queries.pop() else { break };
            let Some(mut out) = self.blank.pop() else { break };
            taken += 1;
            self.counters.count(Event::Received);
            let datagram = Datagram {
                peer: "2001:db8:1::7".parse().unwrap(),
                peer_port: 546,
                local: "2001:db8:ffff::547".parse().unwrap(),
                interface: 1,
                payload: &payload,
            };
            let mut reading = H::Reading::default();
            handler.read(&datagram, &mut reading);
            handler.approach(&reading);
            match handler.answer(&reading, &mut out) {
                Disposal::Discard => self.blank.push(out),
                Disposal::Send { length, .. } => self.ready.push_back((out, length)),
                Disposal::Park { length, .. } => handler.park((out, length)),
            }
        }
        taken
    }

    fn waiting_percent(&mut self) -> u32 {
        self.wires.waiting_percent.load(Ordering::Relaxed)
    }

    fn send(&mut self, reply: Self::Reply) {
        self.ready.push_back(reply);
    }

    fn discard(&mut self, reply: Self::Reply) {
        self.blank.push(reply.0);
    }

    fn flush(&mut self) -> Result<(), PortError> {
        if self.wires.doomed.load(Ordering::Relaxed) && self.blank.len() < self.buffers {
            let source = std::io::Error::from_raw_os_error(libc::ENXIO);
            return Err(PortError { operation: "send", interface: "eth1".to_owned(), source });
        }
        while let Some((buffer, length)) = self.ready.pop_front() {
            self.wires.replies.push(buffer[..length].to_vec());
            self.blank.push(buffer);
            self.counters.count(Event::Sent);
        }
        Ok(())
    }

    fn has_outstanding(&self) -> bool {
        !self.ready.is_empty()
    }

    fn wait(&mut self, timeout_ms: u32, wake: &WakeFd) -> Result<(), PortError> {
        if self.wires.queries.is_empty() {
            wake.wait(timeout_ms);
        }
        Ok(())
    }

    fn tick(&mut self) {}

    fn counters(&self) -> &Arc<NetCounters> {
        &self.counters
    }
}

/// A disk that writes only while its gate is open.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, open: bool) {
        *self.open.lock().unwrap() = open;
        self.changed.notify_all();
    }
}

struct GatedLog(Arc<Gate>);

impl LeaseLog for GatedLog {
    fn recover(&mut self, each: &mut dyn FnMut(&Record)) -> Result<RecoveryReport, LogError> {
        MemoryLog::new()?.recover(each)
    }

    fn commit(&mut self, _batch: &[Record], _now: Now) -> Result<(), LogError> {
        let open = self.0.open.lock().unwrap();
        drop(self.0.changed.wait_while(open, |open| !*open).unwrap());
        Ok(())
    }
}

/// A worker with all that is around it.
struct House {
    wires: Arc<Wires>,
    gate: Arc<Gate>,
    around: Surroundings,
    worker: Option<JoinHandle<()>>,
    journal: Option<Journal>,
}

impl House {
    fn new(lane_records: usize, buffers: usize) -> Self {
        let watermarks = Arc::new(Watermarks::new(1));
        let engine = testing::engine(watermarks.clone());
        let (clock, gate, wires) = (Clock::new(), Arc::<Gate>::default(), Arc::<Wires>::default());
        let wake = Arc::new(WakeFd::new().unwrap());
        let bell = wake.clone();
        let bell = Box::new(move || bell.ring());
        let lane = Arc::new(Lane::new(LaneId(0), lane_records, watermarks, bell));
        let log = Box::new(GatedLog(gate.clone()));
        let journal =
            Journal::spawn(vec![lane.clone()], log, move || clock.now(), Hooks::default());
        let around = Surroundings {
            pace: Arc::new(Pace::new(engine.leases().shards(), clock.now())),
            engine,
            clock,
            stop: Arc::default(),
            lane,
            shares_core: true,
            wake,
            counters: Arc::default(),
        };
        let mut worker = Worker::new(QueuePort::new(wires.clone(), buffers), around.clone());
        let worker = std::thread::spawn(move || worker.run().unwrap());
        Self { wires, gate, around, worker: Some(worker), journal: Some(journal.unwrap()) }
    }

    fn send(&self, query: Vec<u8>) {
        self.wires.queries.push(query);
        self.around.wake.ring();
    }

    /// Waits until `found` finds something. Gives up when that cannot be a matter of speed any more.
    fn wait_for<T>(found: impl Fn() -> Option<T>) -> T {
        let begin = boottime();
        loop {
            if let Some(found) = found() {
                return found;
            }
            let waited = boottime().saturating_sub(begin);
            assert!(waited < Duration::from_mins(1), "nothing happens any more");
            std::thread::yield_now();
        }
    }

    fn reply(&self) -> Reply {
        Reply::read(&Self::wait_for(|| self.wires.replies.pop()))
    }

    fn wait_until(&self, tally: Tally, count: u64) {
        Self::wait_for(|| (self.around.counters.get(tally) >= count).then_some(()));
    }

    fn wait_until_ended(&self) {
        let worker = self.worker.as_ref().unwrap();
        Self::wait_for(|| worker.is_finished().then_some(()));
    }

    fn stop(&self) {
        self.around.stop.store(true, Ordering::Release);
        self.around.wake.ring();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
        self.gate.set(true);
        self.worker.take().unwrap().join().unwrap();
        drop(self.journal.take());
        if std::thread::panicking() {
            return;
        }
        let counters = &self.around.counters;
        assert_eq!(counters.get(Tally::LaneFull), 0);
        // What waits when a port dies goes with it, if its record was not durable just before.
        let lost_max = u64::from(self.wires.doomed.load(Ordering::Relaxed));
        let waiting = counters.get(Tally::Parked) - counters.get(Tally::Unparked);
        assert!(waiting <= lost_max, "{waiting}");
    }
}

/// A reply, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reply {
    kind: MessageType,
    xid: u32,
    address: Ipv4Addr,
    params: Option<PortParams>,
}

impl Reply {
    fn read(octets: &[u8]) -> Self {
        let view = View::parse_reply(Response::parse(octets).unwrap().message).unwrap();
        let params = view.port_params().present();
        Self { kind: view.kind(), xid: view.xid(), address: view.yiaddr(), params }
    }
}

/// A query of client number `client`, with what `options` adds.
fn query(client: u32, kind: MessageType, options: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut octets = vec![0; 600];
    let mut w = Writer::new(&mut octets);
    let envelope = dhcpv6::begin_query(&mut w, false);
    Header { op: BOOT_REQUEST, xid: client, ..Header::default() }.emit(&mut w);
    dhcpv4::put_message_type(&mut w, kind);
    dhcpv4::put_option(&mut w, dhcpv4::OPTION_CLIENT_ID, &client.to_be_bytes());
    dhcpv4::put_option(
        &mut w,
        dhcpv4::OPTION_PARAMETER_REQUEST_LIST,
        &[dhcpv4::OPTION_PORT_PARAMS],
    );
    options(&mut w);
    dhcpv4::put_end(&mut w);
    envelope.finish(&mut w);
    let length = w.finish().unwrap();
    octets.truncate(length);
    octets
}

fn discover(client: u32) -> Vec<u8> {
    query(client, MessageType::Discover, |w| {
        dhcpv4::put_port_params(w, PortParams { offset: 0, psid_length: 0, psid: 0 });
    })
}

fn select(offer: Reply) -> Vec<u8> {
    query(offer.xid, MessageType::Request, |w| {
        dhcpv4::put_address(w, dhcpv4::OPTION_REQUESTED_ADDRESS, offer.address);
        dhcpv4::put_address(w, dhcpv4::OPTION_SERVER_ID, Ipv4Addr::new(192, 0, 2, 254));
        dhcpv4::put_port_params(w, offer.params.unwrap());
    })
}

#[test]
fn an_offer_leaves_at_once_and_an_ack_when_its_record_is_durable() {
    let house = House::new(64, 64);
    house.send(discover(1));
    let offer = house.reply();
    assert_eq!(offer.kind, MessageType::Offer);
    house.send(select(offer));
    house.wait_until(Tally::Parked, 1);
    // Whatever happens meanwhile, the ACK must not be among it.
    house.send(discover(2));
    assert_eq!(house.reply().kind, MessageType::Offer);
    assert!(house.wires.replies.is_empty());
    house.gate.set(true);
    let ack = house.reply();
    assert_eq!((ack.kind, ack.xid), (MessageType::Ack, 1));
    assert_eq!((ack.address, ack.params), (offer.address, offer.params));
}

/// As if the journal had been called so late that there is no time for another call, ever.
fn just_called() -> Gathering {
    let mut gathering = Gathering::new(true);
    gathering.push();
    assert!(gathering.is_due(Duration::MAX, true, false));
    gathering
}

#[test]
fn a_worker_lets_records_gather_until_it_is_time_to_call_the_journal() {
    let house = House::new(512, 512);
    house.stop();
    house.gate.set(true);
    house.wait_until_ended();
    let mut worker = Worker::new(QueuePort::new(house.wires.clone(), 512), house.around.clone());
    worker.gathering = just_called();
    house.wires.queries.push(discover(1));
    worker.turn().unwrap();
    assert!(!worker.gathering.waits(), "an offer is no record");
    house.wires.queries.push(select(house.reply()));
    worker.turn().unwrap();
    assert!(worker.gathering.waits());
    worker.turn().unwrap();
    assert!(worker.gathering.waits(), "it is not time yet");
    worker.gathering = Gathering::new(true);
    worker.gathering.push();
    worker.turn().unwrap();
    assert!(!worker.gathering.waits());
    House::wait_for(|| (house.around.lane.durable() == 1).then_some(()));
    worker.turn().unwrap();
    assert_eq!(house.reply().kind, MessageType::Ack);
}

#[test]
fn a_worker_whose_port_dies_leaves_nothing_that_is_not_made_durable() {
    let house = House::new(64, 64);
    house.stop();
    house.gate.set(true);
    house.wait_until_ended();
    let around = Surroundings { stop: Arc::default(), ..house.around.clone() };
    let mut worker = Worker::new(QueuePort::new(house.wires.clone(), 64), around);
    house.wires.queries.push(discover(1));
    worker.turn().unwrap();
    house.wires.queries.push(select(house.reply()));
    worker.gathering = just_called();
    house.wires.doomed.store(true, Ordering::Relaxed);
    assert!(worker.run().is_err(), "there is no port any more");
    House::wait_for(|| (house.around.lane.durable() == 1).then_some(()));
}

#[test]
fn with_too_much_to_do_who_has_begun_goes_first_and_who_begins_is_counted() {
    let house = House::new(64, 64);
    house.gate.set(true);
    house.send(discover(1));
    let offer = house.reply();
    let shed = |percent: u32, client: u32| {
        house.wires.waiting_percent.store(percent, Ordering::Relaxed);
        let (before, offers) = (counted(&house, Tally::Shed), counted(&house, Tally::Offers));
        house.send(discover(client));
        House::wait_for(|| {
            let shed = counted(&house, Tally::Shed) > before;
            (shed || counted(&house, Tally::Offers) > offers).then_some(shed)
        })
    };
    assert!(!shed(SHED_FROM_PERCENT - 1, 2));
    assert!(shed(SHED_FROM_PERCENT, 3));
    house.reply();
    house.send(select(offer));
    assert_eq!(house.reply().kind, MessageType::Ack, "what has begun is finished");
    assert!(shed(SHED_UNTIL_PERCENT, 3), "a little room is not enough");
    assert!(!shed(SHED_UNTIL_PERCENT - 1, 3));
    assert_eq!(house.reply().kind, MessageType::Offer);
    // Each of the two that were shed, and none of the four others.
    assert_eq!(counted(&house, Tally::Shed), 2);
    assert_eq!(counted(&house, Tally::Datagrams), 4);
}

fn counted(house: &House, tally: Tally) -> u64 {
    house.around.counters.get(tally)
}

#[test]
fn told_to_stop_a_worker_still_sends_what_it_has_promised() {
    let house = House::new(64, 64);
    house.send(discover(1));
    house.send(select(house.reply()));
    house.wait_until(Tally::Parked, 1);
    house.stop();
    house.gate.set(true);
    assert_eq!(house.reply().kind, MessageType::Ack);
}

#[test]
fn a_slow_disk_makes_clients_wait_and_loses_none_of_them() {
    const CLIENTS: u32 = 100;
    // Room for bursts of two at most: far less than what the clients want.
    let house = House::new(4, 64);
    house.gate.set(true);
    (0..CLIENTS).for_each(|client| house.send(discover(client)));
    let offers: Vec<Reply> = (0..CLIENTS).map(|_| house.reply()).collect();
    house.gate.set(false);
    for offer in offers {
        house.send(select(offer));
    }
    house.wait_until(Tally::Stalls, 1);
    house.gate.set(true);
    let mut acks: Vec<Reply> = (0..CLIENTS).map(|_| house.reply()).collect();
    assert!(acks.iter().all(|ack| ack.kind == MessageType::Ack));
    let tuple = |reply: &Reply| (reply.address, reply.params.map(|params| params.psid));
    acks.sort_by_key(tuple);
    acks.dedup_by_key(|ack| tuple(ack));
    assert_eq!(acks.len(), CLIENTS as usize, "a tuple was leased twice");
}

#[test]
fn what_gets_no_answer_is_counted_by_its_reason() {
    let house = House::new(64, 64);
    house.send(vec![1, 2, 3]);
    // RFC 2131 Table 5: neither a requested address nor an own one.
    house.send(query(9, MessageType::Request, |_| ()));
    let counted = |reason: Reason| house.around.counters.get_reason(reason);
    House::wait_for(|| (counted(Refusal::BadRequest.into()) == 1).then_some(()));
    assert_eq!(counted(Malformed::ShortHeader.into()), 1);
    assert_eq!(house.around.counters.get(Tally::Datagrams), 2);
    assert!(house.wires.replies.is_empty());
}

#[test]
fn an_idle_worker_sweeps_the_whole_table_when_asked_to() {
    let house = House::new(64, 64);
    house.around.pace.hurry();
    let shards = house.around.engine.leases().shards() as u64;
    house.wait_until(Tally::Swept, shards);
}
