//! A worker: receives, answers, promises, sends, to completion and in this order, on a core of its own.
//!
//! A burst is never longer than what can be promised and built: two records a datagram have to fit the lane, and
//! each reply needs a blank buffer and a place among those that wait. So nothing overflows and nothing is allocated.
//! A reply that promises something waits until its record is durable; nothing else waits.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::{
    engine::{Engine, Reading, Verdict},
    journal::{Awaiting, Lane},
    lease::{client::Records, record::Record, stamp::Now},
    net::{
        Disposal, Handler, Port, PortError,
        sys::{WakeFd, boottime},
    },
    wire::datagram::Datagram,
};

use super::{
    clock::Clock,
    gather::Gathering,
    metrics::{Counters, Tally},
    sweep::Pace,
};

/// Most datagrams of a burst: enough to share the cost of a clock read and a system call.
pub const BURST_MAX: usize = 64;

/// Most replies of a worker that wait for the journal.
pub const AWAITING_MAX: usize = 8192;

/// Records that a datagram can promise: a move is two.
const RECORDS_PER_DATAGRAM: usize = 2;

/// How long an idle worker looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// From which share of the kernel's room on, in percent, clients that begin are not heard, and until which. Where the
/// room is full, the kernel drops REQUESTs like DISCOVERs, and each REQUEST has cost an OFFER.
const SHED_FROM_PERCENT: u32 = 60;
const SHED_UNTIL_PERCENT: u32 = 40;

/// The longest sleep, and the time between two looks at the port's statistics.
const TICK_MILLISECONDS: u32 = 100;

/// Shards swept after a burst, and by an idle worker before it sleeps.
const SWEPT_BUSY: usize = 4;
const SWEPT_IDLE: usize = 256;

/// When told to stop, a worker waits this long for the journal: no reply may be older.
const DRAIN_MILLISECONDS: u64 = 3000;

/// What a worker shares with others.
#[derive(Clone)]
pub struct Surroundings {
    /// Decides.
    pub engine: Arc<Engine>,
    /// Tells the time.
    pub clock: Clock,
    /// Hands out shards to sweep.
    pub pace: Arc<Pace>,
    /// Set when the server goes down or the port is to be closed.
    pub stop: Arc<AtomicBool>,
    /// This worker's way to the journal.
    pub lane: Arc<Lane>,
    /// The journal may run on this worker's core.
    pub shares_core: bool,
    /// Ends this worker's sleep.
    pub wake: Arc<WakeFd>,
    /// What this worker counts.
    pub counters: Arc<CachePadded<Counters>>,
}

/// One port and whoever serves it.
pub struct Worker<P: Port> {
    port: P,
    desk: Desk<P::Reply>,
    ticked: Now,
    idle_since: Option<Duration>,
    gathering: Gathering,
}

/// Where datagrams are answered: the handler of the port's bursts.
struct Desk<R> {
    around: Surroundings,
    awaiting: Awaiting<R>,
    /// The burst's time, read once its first datagram is there: since boot, and as leases know it.
    now: Option<(Duration, Now)>,
    /// The record that the reply about to be parked waits for; whether any was pushed in this burst.
    pushed: Option<u64>,
    /// More waits than can be answered: clients that begin are not heard.
    sheds: bool,
}

impl<R> Desk<R> {
    fn now(&mut self) -> (Duration, Now) {
        *self.now.get_or_insert_with(|| {
            let uptime = boottime();
            (uptime, self.around.clock.at(uptime))
        })
    }

    /// Hands the records over to the journal. False if the lane is full, which the size of bursts excludes.
    fn promise(&mut self, records: &[Record]) -> bool {
        for &record in records {
            let Ok(sequence) = self.around.lane.push(record) else {
                self.around.counters.count(Tally::LaneFull);
                return false;
            };
            self.pushed = Some(sequence);
            self.around.counters.count(Tally::Records);
        }
        true
    }
}

impl<R> Handler<R> for Desk<R> {
    type Reading<'a> = Reading<'a>;

    #[inline]
    fn read<'a>(&self, datagram: &Datagram<'a>, reading: &mut Reading<'a>) {
        self.around.engine.read_into(datagram, reading);
    }

    fn approach(&self, reading: &Reading<'_>) {
        self.around.engine.approach(reading);
    }

    fn answer(&mut self, reading: &Reading<'_>, out: &mut [u8]) -> Disposal {
        if self.sheds && reading.begins() {
            self.around.counters.count(Tally::Shed);
            return Disposal::Discard;
        }
        let (_, now) = self.now();
        self.around.counters.count(Tally::Datagrams);
        let (promise, mut records) = (self.around.lane.next(), Records::default());
        match self.around.engine.decide(now, reading, promise, &mut records, out) {
            Verdict::Ignore(reason) => {
                self.around.counters.refused(reason);
                Disposal::Discard
            }
            Verdict::Reply(reply) => {
                self.around.counters.reply(&reply);
                Disposal::Send { length: reply.length(), port: reply.port() }
            }
            Verdict::Promise { records, reply } => match (self.promise(records), reply) {
                (true, Some(reply)) => {
                    self.around.counters.reply(&reply);
                    Disposal::Park { length: reply.length(), port: reply.port() }
                }
                (true, None) => {
                    self.around.counters.silent(records);
                    Disposal::Discard
                }
                (false, _) => Disposal::Discard,
            },
        }
    }

    fn park(&mut self, reply: R) {
        let ((_, now), sequence) = (self.now(), self.pushed.unwrap_or_default());
        self.around.counters.count(Tally::Parked);
        let parked = self.awaiting.push(sequence, now, reply);
        debug_assert!(parked.is_ok(), "a burst is no longer than there is room");
    }
}

impl<P: Port> Worker<P> {
    /// A worker that serves `port`. Its memory is taken here: call it on the worker's own core.
    pub fn new(port: P, around: Surroundings) -> Self {
        let ticked = around.clock.now();
        let awaiting = Awaiting::with_capacity(AWAITING_MAX);
        let gathering = Gathering::new(around.shares_core);
        let desk = Desk { around, awaiting, now: None, pushed: None, sheds: false };
        Self { port, desk, ticked, idle_since: None, gathering }
    }

    /// Serves until told to stop, then sends what is still promised.
    ///
    /// # Errors
    ///
    /// The port is of no use any more: its interface is gone.
    pub fn run(&mut self) -> Result<(), PortError> {
        let outcome = self.serve();
        // Memory must not be ahead of the disk for long, and nobody else may come to call for what was pushed last.
        self.desk.around.lane.ring_journal();
        outcome
    }

    fn serve(&mut self) -> Result<(), PortError> {
        while !self.desk.around.stop.load(Ordering::Acquire) {
            let taken = self.turn()?;
            if taken > 0 {
                self.idle_since = None;
            } else {
                self.rest()?;
            }
        }
        self.drain()
    }

    /// One turn: receive and answer, hand over, send what is durable, flush, sweep. Says how many were received.
    fn turn(&mut self) -> Result<usize, PortError> {
        let limit = self.limit();
        self.desk.now = None;
        self.desk.pushed = None;
        let shed_from = if self.desk.sheds { SHED_UNTIL_PERCENT } else { SHED_FROM_PERCENT };
        self.desk.sheds = self.port.waiting_percent() >= shed_from;
        let taken = if limit > 0 { self.port.burst(limit, &mut self.desk) } else { 0 };
        let (uptime, now) = self.desk.now();
        self.hand_over(uptime, taken == 0);
        if taken > 0 {
            self.desk.around.counters.count(Tally::Bursts);
        }
        self.settle(now);
        self.port.flush()?;
        self.sweep(now, if taken > 0 { SWEPT_BUSY } else { SWEPT_IDLE });
        if now.0.saturating_sub(self.ticked.0) >= u64::from(TICK_MILLISECONDS) {
            self.ticked = now;
            self.port.tick();
        }
        self.desk.around.counters.turn();
        Ok(taken)
    }

    /// Calls the journal for what was promised, when it is time.
    fn hand_over(&mut self, uptime: Duration, idle: bool) {
        if self.desk.pushed.is_some() {
            self.gathering.push();
        }
        let short_of_room = self.limit() < BURST_MAX;
        if self.gathering.is_due(uptime, idle, short_of_room) {
            self.desk.around.lane.ring_journal();
        }
    }

    /// How many datagrams can be taken: each may push two records, build one reply and park it.
    fn limit(&self) -> usize {
        let promises = self.desk.around.lane.room() / RECORDS_PER_DATAGRAM;
        BURST_MAX.min(promises).min(self.desk.awaiting.room()).min(self.port.capacity())
    }

    fn settle(&mut self, now: Now) {
        let durable = self.desk.around.lane.durable();
        if self.desk.awaiting.is_empty() {
            return;
        }
        let (mut sent, mut stale) = (0, 0);
        let port = std::cell::RefCell::new(&mut self.port);
        self.desk.awaiting.settle(
            durable,
            now,
            |reply| {
                sent += 1;
                port.borrow_mut().send(reply);
            },
            |reply| {
                stale += 1;
                port.borrow_mut().discard(reply);
            },
        );
        self.desk.around.counters.add(Tally::Unparked, sent);
        self.desk.around.counters.add(Tally::Stale, stale);
    }

    fn sweep(&self, now: Now, most: usize) {
        let around = &self.desk.around;
        for _ in 0..most {
            let Some(shard) = around.pace.next(now) else { return };
            let swept = around.engine.leases().sweep(shard, now);
            around.counters.count(if swept { Tally::Swept } else { Tally::SweptBusy });
        }
    }

    /// Nothing to do: looks again for a moment, then sleeps until there is something. While the kernel has not taken
    /// all replies, the port makes the sleep a short one.
    fn rest(&mut self) -> Result<(), PortError> {
        let (now, _) = self.desk.now();
        let idle_since = *self.idle_since.get_or_insert(now);
        if self.gathering.waits() || now.saturating_sub(idle_since) < SPIN {
            std::thread::yield_now();
            return Ok(());
        }
        self.idle_since = None;
        self.sleep()
    }

    fn sleep(&mut self) -> Result<(), PortError> {
        let around = &self.desk.around;
        if !around.lane.fall_asleep() {
            return Ok(());
        }
        let rested = if self.limit() == 0 {
            // There may well be something to receive, but no room for it before the journal has moved.
            around.counters.count(Tally::Stalls);
            around.wake.wait(TICK_MILLISECONDS);
            Ok(())
        } else {
            around.counters.count(Tally::Sleeps);
            self.port.wait(TICK_MILLISECONDS, &around.wake)
        };
        around.lane.woke();
        rested
    }

    /// Receives nothing any more, and sends what becomes durable within the time that a reply may wait.
    fn drain(&mut self) -> Result<(), PortError> {
        let begin = self.desk.around.clock.now();
        self.desk.around.lane.ring_journal();
        loop {
            let now = self.desk.around.clock.now();
            self.settle(now);
            self.port.flush()?;
            let waiting = !self.desk.awaiting.is_empty();
            if !waiting && !self.port.has_outstanding() {
                return Ok(());
            }
            if now.0.saturating_sub(begin.0) > DRAIN_MILLISECONDS {
                return Ok(());
            }
            let around = &self.desk.around;
            if self.port.has_outstanding() {
                std::thread::yield_now();
            } else if around.lane.fall_asleep() {
                around.wake.wait(TICK_MILLISECONDS);
                around.lane.woke();
            }
        }
    }
}

#[cfg(test)]
mod tests;
