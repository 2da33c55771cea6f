//! An engine over a population, and a worker that answers in bursts as the server's do.
//!
//! Messages are written before the clock starts and come from all clients in turn, so that what is measured is the
//! engine on packets that are in the cache and on leases that are not.

use std::time::Duration;

use arrayvec::ArrayVec;
use portlease::{
    engine::{
        Engine, Reading, Reply, Verdict,
        options::OptionSet,
        policy::{Link, Match, Policy, Prefer, Times},
    },
    lease::{
        client::Records,
        promise::{LaneId, Promise},
        stamp::Now,
    },
    wire::{datagram::Datagram, dhcpv4::View, dhcpv6::Response},
};

use crate::{
    BURST, LEASE_SECONDS, START,
    message::{self, MESSAGE_MAX, SERVER_ID, Wish},
    population::{DECLINE_HOLD_SECONDS, LINK, POOL, Population, SECRET, SOURCE, identity},
    timing::{Clock, passing},
};

/// An engine with one link and one pool of shared addresses.
pub struct World {
    /// The engine.
    pub engine: Engine,
    /// Its clients.
    pub population: Population,
}

impl World {
    /// An engine of whose leases `clients` clients have one each.
    pub fn new(clients: u32) -> World {
        let population = Population::new(clients);
        let engine = Engine::new(policy(), population.leases.clone(), SECRET);
        World { engine, population }
    }
}

/// A request of a client that has a lease, on its behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Extends the lease after half of its time: with a record.
    Renew,
    /// Extends it right after it was extended: answered out of the durable record.
    RenewEarly,
    /// Extends it, from any server.
    Rebind,
    /// Confirms it after a reboot.
    Reboot,
    /// Gives it up.
    Release,
}

/// Messages that wait, and room for their replies.
struct Burst {
    messages: Vec<[u8; MESSAGE_MAX]>,
    lengths: Vec<usize>,
    replies: Vec<[u8; MESSAGE_MAX]>,
    replied: Vec<usize>,
}

/// One of a world's workers, who share its clients evenly.
pub struct Worker<'w> {
    world: &'w World,
    number: u32,
    workers: u32,
    relayed: bool,
    bursts: Vec<Burst>,
    /// The next record's place in the lane.
    sequence: u64,
    now: Now,
    /// Requests so far that have extended a lease, the next in turn of which is due.
    turn: u64,
    /// How far back the last ones were that had renewed lately.
    glance: u64,
    /// Visitors that have come.
    visits: u32,
    clock: Clock,
}

impl<'w> Worker<'w> {
    /// Worker `number` of `workers`, whose clients are behind a relay or not, with `bursts` bursts prepared before
    /// the clock starts.
    ///
    /// # Panics
    ///
    /// If there are more workers than lanes.
    pub fn new(
        world: &'w World,
        (number, workers): (usize, usize),
        relayed: bool,
        bursts: usize,
    ) -> Worker<'w> {
        let burst = || Burst {
            messages: vec![[0; MESSAGE_MAX]; BURST],
            lengths: Vec::with_capacity(BURST),
            replies: vec![[0; MESSAGE_MAX]; BURST],
            replied: Vec::with_capacity(BURST),
        };
        let bursts = std::iter::repeat_with(burst).take(bursts).collect();
        let number = u32::try_from(number).expect("a lane");
        let workers = u32::try_from(workers).expect("a lane");
        // Half of the first leases' time is over.
        let now = Now(START.0 + HALF_MILLISECONDS);
        Worker {
            world,
            number,
            workers,
            relayed,
            bursts,
            sequence: 1,
            now,
            turn: 0,
            glance: 0,
            visits: 0,
            clock: passing,
        }
    }

    /// The same worker, whose answers are timed by `clock`.
    #[must_use]
    pub fn timed_by(self, clock: Clock) -> Self {
        Worker { clock, ..self }
    }

    /// The time at which the next messages come.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Lets so much time pass in which nobody says anything.
    pub fn wait(&mut self, seconds: u32) {
        self.now.0 += u64::from(seconds) * 1000;
    }

    fn mine(&self) -> u64 {
        u64::from(self.world.population.clients / self.workers).max(1)
    }

    /// The client at a place of this worker's order.
    fn client(&self, place: u64) -> u32 {
        let workers = u64::from(self.workers);
        self.world.population.client(place % self.mine() * workers + u64::from(self.number))
    }

    /// The place of the first of `count` clients who have renewed lately.
    fn recent(&mut self, count: u64) -> u64 {
        self.glance = (self.glance + count) % (self.mine() / 10).max(count);
        self.turn.saturating_sub(count + self.glance)
    }

    /// The place of the first of `count` clients half of whose time is over, which it is now.
    fn due(&mut self, count: u64) -> u64 {
        self.now.0 += HALF_MILLISECONDS * count / self.mine() + 1;
        self.turn += count;
        self.turn - count
    }

    /// Answers `count` requests of clients in turn; `meet` is called before each measured piece. The time of that.
    ///
    /// # Panics
    ///
    /// If one is not answered as it should be.
    pub fn ask(&mut self, ask: Ask, count: u64, meet: &dyn Fn()) -> Duration {
        if ask == Ask::RenewEarly && self.turn < self.mine() {
            self.ask(Ask::Renew, self.mine() - self.turn, &|| ());
        }
        let mut total = Duration::ZERO;
        let mut left = count;
        while left > 0 {
            let messages = left.min((self.bursts.len() * BURST) as u64).min(self.mine());
            left -= messages;
            let first =
                if ask == Ask::RenewEarly { self.recent(messages) } else { self.due(messages) };
            let wishes = (first..first + messages).map(|place| {
                let client = self.client(place);
                let slot = self.world.population.slots[client as usize];
                let wish = match ask {
                    Ask::Renew | Ask::RenewEarly => Wish::Renew(slot),
                    Ask::Rebind => Wish::Rebind(slot),
                    Ask::Reboot => Wish::Reboot(slot),
                    Ask::Release => Wish::Release(slot),
                };
                (client, wish)
            });
            let wishes: Vec<_> = wishes.collect();
            self.prepare(&wishes);
            meet();
            let promises = if ask == Ask::RenewEarly { 0 } else { wishes.len() };
            total += self.answer(promises);
            if ask == Ask::Release {
                for &(client, _) in &wishes {
                    let population = &self.world.population;
                    population.renew(identity(client), population.home(client), self.now);
                }
            }
        }
        total
    }

    /// Takes `count` clients that were never here from DISCOVER to lease. The times of the DISCOVERs and of the
    /// REQUESTs.
    ///
    /// # Panics
    ///
    /// If one gets no lease.
    pub fn welcome(&mut self, count: u64, meet: &dyn Fn()) -> (Duration, Duration) {
        let (mut discovers, mut selects) = (Duration::ZERO, Duration::ZERO);
        let mut left = count;
        while left > 0 {
            let room = u64::from(self.visitors() - self.visits);
            let messages = left.min((self.bursts.len() * BURST) as u64).min(room);
            left -= messages;
            let first = self.world.population.clients + self.number * self.visitors() + self.visits;
            self.visits += u32::try_from(messages).unwrap_or(0);
            let clients =
                first..self.world.population.clients + self.number * self.visitors() + self.visits;
            let wishes: Vec<_> = clients.map(|client| (client, Wish::Discover)).collect();
            self.prepare(&wishes);
            meet();
            discovers += self.answer(0);
            let wishes: Vec<_> = self.offers(&wishes);
            self.prepare(&wishes);
            meet();
            selects += self.answer(wishes.len());
            if self.visits == self.visitors() {
                self.dismiss();
            }
        }
        (discovers, selects)
    }

    fn visitors(&self) -> u32 {
        let visitors = self.world.population.visitors / self.workers;
        // No burst but a full one.
        visitors - visitors % u32::try_from(BURST).unwrap_or(1)
    }

    /// Forgets all visitors.
    pub fn dismiss(&mut self) {
        let first = self.world.population.clients + self.number * self.visitors();
        self.now = self.world.population.forget(first..first + self.visits, self.now);
        self.visits = 0;
    }

    /// What the clients of offers that were just made ask for.
    fn offers(&self, wishes: &[(u32, Wish)]) -> Vec<(u32, Wish)> {
        let replies = self.bursts.iter().flat_map(|burst| burst.replies.iter().zip(&burst.replied));
        let select =
            |(&(client, _), (reply, &length)): (&(u32, Wish), (&[u8; MESSAGE_MAX], &usize))| {
                let response = Response::parse(&reply[..length]).expect("a response");
                let offer = View::parse_reply(response.message).expect("an offer");
                let params = offer.port_params().present().expect("ports");
                (client, Wish::Select(message::slot(offer.yiaddr(), params)))
            };
        wishes.iter().zip(replies).map(select).collect()
    }

    /// Writes the messages that come next.
    fn prepare(&mut self, wishes: &[(u32, Wish)]) {
        for burst in &mut self.bursts {
            burst.lengths.clear();
            burst.replied.clear();
        }
        for (burst, wishes) in self.bursts.iter_mut().zip(wishes.chunks(BURST)) {
            for (buffer, &(client, wish)) in burst.messages.iter_mut().zip(wishes) {
                burst.lengths.push(message::write(buffer, client, wish, self.relayed));
            }
        }
    }

    /// Answers the messages that wait, of which `expected` must lead to a record; each burst's records are durable at
    /// its end. The time of that.
    fn answer(&mut self, expected: usize) -> Duration {
        let mut promised = 0;
        let start = (self.clock)();
        for burst in &mut self.bursts {
            promised += answer_burst(self.world, self.number, &mut self.sequence, self.now, burst);
        }
        let time = (self.clock)().saturating_sub(start);
        assert_eq!(promised, expected, "messages that led to a record");
        time
    }
}

/// Half of a lease.
const HALF_MILLISECONDS: u64 = LEASE_SECONDS as u64 * 500;

/// Answers a burst in the steps in which a worker does. How many of its messages led to a record.
fn answer_burst(
    world: &World,
    number: u32,
    sequence: &mut u64,
    now: Now,
    burst: &mut Burst,
) -> usize {
    let lane = LaneId(u16::try_from(number).unwrap_or(0));
    let mut readings = ArrayVec::<Reading<'_>, BURST>::new();
    for (message, &length) in burst.messages.iter().zip(&burst.lengths) {
        let payload = message.get(..length).unwrap_or_default();
        let datagram =
            Datagram { peer: SOURCE, peer_port: 546, local: SOURCE, interface: 1, payload };
        readings.push(Reading::default());
        if let Some(reading) = readings.last_mut() {
            world.engine.read_into(&datagram, reading);
        }
    }
    for reading in &readings {
        world.engine.approach(reading);
    }
    let (mut promised, mut records) = (0, Records::default());
    for (reading, out) in readings.iter().zip(&mut burst.replies) {
        let promise = Promise { lane, sequence: *sequence };
        let reply = match world.engine.decide(now, reading, promise, &mut records, out) {
            Verdict::Ignore(reason) => panic!("ignored: {reason:?}"),
            Verdict::Reply(reply) => Some(reply),
            Verdict::Promise { records, reply } => {
                *sequence += records.len() as u64;
                promised += 1;
                reply
            }
        };
        burst.replied.push(reply.map_or(0, Reply::length));
    }
    world.population.watermarks.publish(lane, *sequence - 1);
    promised
}

fn policy() -> Policy {
    let times = Times {
        lease_seconds: LEASE_SECONDS,
        lease_seconds_max: LEASE_SECONDS,
        offer_hold_seconds: 60,
        hold_down_seconds: 120,
        decline_hold_seconds: DECLINE_HOLD_SECONDS,
        early_renewal_percent: 10,
    };
    let link = Link {
        name: "link".to_owned(),
        shared: vec![POOL],
        full: Vec::new(),
        prefer: Prefer::Shared,
        options: OptionSet::default(),
    };
    Policy::new(SERVER_ID, times, vec![link], vec![(Match::default(), LINK)])
}
