//! Nanoseconds a message of the engine alone, in memory, worked in bursts as a worker does: by message, by number of
//! leases held, and by threads. A table on standard output; not a criterion bench, since worlds of millions of leases
//! take longer to make than to measure.
//!
//! `cargo bench -p benches --bench bursts -- [--leases 1000,1000000] [--threads 1,2] [--runs 5]`

use std::{
    hint::black_box,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use benches::{Message, policy};
use portlease::{
    engine::{Engine, Verdict, policy::Times},
    lease::{
        Features, Leases, Settings,
        geometry::PoolSpec,
        key::{IdentitySecret, LinkId},
        promise::{LaneId, Promise, Watermarks},
        stamp::Now,
    },
    wire::{
        datagram::Datagram,
        dhcpv4::{MessageType, View},
        dhcpv6::Response,
        portparams::PortParams,
    },
};

/// Datagrams of a burst, as of a worker's.
const BURST: usize = 64;

/// Octets of a reply's buffer.
const ROOM: usize = 1500;

/// Seconds of a lease: longer than a bench, so that none runs out in the middle.
const LEASE_SECONDS: u32 = 1_000_000;

/// When a world begins, in milliseconds.
const START: u64 = 1_800_000_000_000;

/// Messages that are measured of each kind in each run, if there are as many clients.
const MESSAGES: usize = 1 << 16;

/// Octets of a template and where the client's number stands in them.
struct Template {
    octets: Vec<u8>,
    client: Vec<usize>,
    address: Vec<usize>,
    psid: Vec<usize>,
}

const CLIENT_MARK: u32 = 0xc11e_a7a5;
const ADDRESS_MARK: u32 = 0x5ade_c0de;

impl Template {
    fn new(message: &Message, relayed: bool) -> Template {
        let octets = message.octets(relayed);
        let places = |mark: &[u8]| -> Vec<usize> {
            let windows = octets.windows(mark.len()).enumerate();
            windows.filter(|(_, window)| *window == mark).map(|(at, _)| at).collect()
        };
        let client = places(&CLIENT_MARK.to_be_bytes());
        let address = places(&ADDRESS_MARK.to_be_bytes());
        // Option 159: offset 0, six bits of PSID.
        let psid = places(&[159, 4, 0, 6]).into_iter().map(|at| at + 4).collect();
        Template { octets, client, address, psid }
    }

    fn write(&self, client: u32, tuple: Option<(u32, u16)>, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.octets);
        for &at in &self.client {
            buffer[at..at + 4].copy_from_slice(&client.to_be_bytes());
        }
        let Some((address, psid)) = tuple else { return };
        for &at in &self.address {
            buffer[at..at + 4].copy_from_slice(&address.to_be_bytes());
        }
        for &at in &self.psid {
            buffer[at..at + 2].copy_from_slice(&(psid << 10).to_be_bytes());
        }
    }
}

struct Templates {
    discover: Template,
    select: Template,
    renew: Template,
    release: Template,
}

impl Templates {
    fn new(relayed: bool) -> Templates {
        let params = PortParams { offset: 0, psid_length: 6, psid: 63 };
        let address = Ipv4Addr::from(ADDRESS_MARK);
        let server = Some(policy().server_id);
        let of = |kind| Message::new(kind, CLIENT_MARK);
        let discover = of(MessageType::Discover);
        let select = Message {
            server_id: server,
            requested: Some(address),
            params: Some(params),
            ..of(MessageType::Request)
        };
        let renew = Message {
            ciaddr: address,
            params: Some(params),
            unicast: true,
            ..of(MessageType::Request)
        };
        let release = Message { kind: MessageType::Release, server_id: server, ..renew.clone() };
        let make = |message| Template::new(message, relayed);
        Templates {
            discover: make(&discover),
            select: make(&select),
            renew: make(&renew),
            release: make(&release),
        }
    }
}

/// An engine with room for a quarter more clients than hold leases.
struct World {
    engine: Engine,
    watermarks: Arc<Watermarks>,
    templates: Templates,
    now: AtomicU64,
}

/// One thread's burst and what it promises.
struct Hand<'w> {
    world: &'w World,
    lane: LaneId,
    sequence: u64,
    queries: Vec<Vec<u8>>,
    replies: Vec<[u8; ROOM]>,
    lengths: Vec<usize>,
    random: u64,
}

impl World {
    fn new(clients: u32, lanes: usize, features: Features) -> World {
        let capacity = clients + clients / 4 + 4 * u32::try_from(MESSAGES).unwrap();
        let addresses = capacity / 63 * 5 / 4 + 64;
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let pool = PoolSpec {
            name: "pool".to_owned(),
            link: LinkId(0),
            ranges: vec![Ipv4Addr::from(first)..=Ipv4Addr::from(first + addresses - 1)],
            offset: 0,
            psid_length: 6,
            reserved_ports: vec![0..=1023],
        };
        let watermarks = Arc::new(Watermarks::new(lanes));
        let settings = Settings {
            capacity: capacity as usize,
            offers_max: u32::MAX,
            hold_down_seconds: 1,
            decline_hold_seconds: 86400,
            watermarks: Arc::clone(&watermarks),
            shards: None,
            features,
        };
        let leases = Leases::new(&[pool], settings).expect("the pool fits");
        let mut policy = policy();
        policy.times = Times {
            lease_seconds: LEASE_SECONDS,
            lease_seconds_max: LEASE_SECONDS,
            offer_hold_seconds: 60,
            hold_down_seconds: 1,
            decline_hold_seconds: 86400,
            early_renewal_percent: 10,
        };
        let engine = Engine::new(policy, Arc::new(leases), IdentitySecret([7; 16]));
        let relayed = std::env::args().any(|word| word == "--relayed");
        let (templates, now) = (Templates::new(relayed), AtomicU64::new(START));
        World { engine, watermarks, templates, now }
    }

    fn now(&self) -> Now {
        Now(self.now.load(Ordering::Relaxed))
    }

    fn pass(&self, milliseconds: u64) {
        self.now.fetch_add(milliseconds, Ordering::Relaxed);
    }

    fn hand(&self, lane: u16) -> Hand<'_> {
        Hand {
            world: self,
            lane: LaneId(lane),
            sequence: 1,
            queries: (0..BURST).map(|_| Vec::with_capacity(ROOM)).collect(),
            replies: vec![[0; ROOM]; BURST],
            lengths: vec![0; BURST],
            random: 0x9e37_79b9_7f4a_7c15 ^ u64::from(lane),
        }
    }
}

fn datagram(payload: &[u8]) -> Datagram<'_> {
    let peer = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    Datagram { peer, peer_port: 547, local: peer, interface: 1, payload }
}

impl Hand<'_> {
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Answers the first `count` queries; how long that took.
    fn burst(&mut self, count: usize) -> Duration {
        let world = self.world;
        let now = world.now();
        let begin = Instant::now();
        for at in 0..count {
            let datagram = datagram(&self.queries[at]);
            let promise = Promise { lane: self.lane, sequence: self.sequence };
            let verdict = world.engine.answer(now, &datagram, promise, &mut self.replies[at]);
            self.lengths[at] = match verdict {
                Verdict::Ignore(_) => 0,
                Verdict::Reply(reply) => reply.length,
                Verdict::Promise { records, reply } => {
                    self.sequence += records.len() as u64;
                    black_box(&*records);
                    reply.map_or(1, |reply| reply.length)
                }
            };
        }
        let took = begin.elapsed();
        world.watermarks.publish(self.lane, self.sequence - 1);
        took
    }

    fn check(&self, count: usize, what: &str) {
        let silent = self.lengths[..count].iter().filter(|length| **length == 0).count();
        assert_eq!(silent, 0, "{what}: {silent} of {count} were not answered");
    }

    /// The tuple in reply `at`.
    fn tuple(&self, at: usize) -> (u32, u16) {
        let response = Response::parse(&self.replies[at][..self.lengths[at]]).expect("a response");
        let reply = View::parse_reply(response.message).expect("a reply");
        let params = reply.port_params().present().expect("ports");
        (u32::from(reply.yiaddr()), params.psid)
    }

    /// DISCOVER and REQUEST of these clients; how long each took.
    fn obtain(&mut self, clients: &[u32], tuples: &mut Vec<(u32, u16)>) -> [Duration; 2] {
        let mut took = [Duration::ZERO; 2];
        for clients in clients.chunks(BURST) {
            let count = clients.len();
            for (query, client) in self.queries.iter_mut().zip(clients) {
                self.world.templates.discover.write(*client, None, query);
            }
            took[0] += self.burst(count);
            self.check(count, "discover");
            let first = tuples.len();
            tuples.extend((0..count).map(|at| self.tuple(at)));
            for ((query, client), tuple) in
                self.queries.iter_mut().zip(clients).zip(&tuples[first..])
            {
                self.world.templates.select.write(*client, Some(*tuple), query);
            }
            took[1] += self.burst(count);
            self.check(count, "select");
        }
        took
    }

    fn each(
        &mut self,
        clients: &[(u32, (u32, u16))],
        template: impl Fn(&Templates) -> &Template,
    ) -> Duration {
        let mut took = Duration::ZERO;
        for clients in clients.chunks(BURST) {
            for (query, (client, tuple)) in self.queries.iter_mut().zip(clients) {
                template(&self.world.templates).write(*client, Some(*tuple), query);
            }
            took += self.burst(clients.len());
            self.check(clients.len(), "each");
        }
        took
    }
}

fn list(name: &str, default: &[usize]) -> Vec<usize> {
    let words: Vec<String> = std::env::args().collect();
    let found = words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    found.map_or_else(
        || default.to_vec(),
        |text| text.split(',').map(|n| n.parse().unwrap()).collect(),
    )
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const KINDS: [&str; 7] =
    ["discover", "select", "renew", "early", "release", "churn discover", "churn select"];

fn resident_octets() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0
}

/// Measures one thread over its share of the clients. Results: nanoseconds a message of each kind, by run.
fn measure(
    hand: &mut Hand<'_>,
    held: &[(u32, (u32, u16))],
    runs: usize,
    barrier: &Barrier,
    base: u32,
    leader: bool,
) -> Vec<[f64; 7]> {
    let world = hand.world;
    let mut results = Vec::new();
    let mut fresh = base;
    let visitors = (held.len() / 4).clamp(512, MESSAGES);
    let mut next = 0;
    let per = |took: Duration, count: usize| took.as_nanos() as f64 / count as f64;
    let wait = |milliseconds: u64| {
        barrier.wait();
        if leader {
            world.pass(milliseconds);
        }
        barrier.wait();
    };
    for run in 0..runs * 2 {
        let churn = run >= runs;
        if run == runs {
            // Fill the table with clients that are only remembered.
            let room = world.engine.leases().places() / 2;
            let rounds = if list("--churn", &[1])[0] == 1 { (room / visitors).min(60) } else { 0 };
            for _ in 0..rounds {
                let clients: Vec<u32> = (0..visitors as u32).map(|n| fresh + n).collect();
                fresh += visitors as u32;
                let mut tuples = Vec::new();
                hand.obtain(&clients, &mut tuples);
                let pairs: Vec<_> = clients.into_iter().zip(tuples).collect();
                hand.each(&pairs, |t| &t.release);
                wait(3000);
                if leader {
                    world.engine.leases().sweep_all(world.now());
                }
                barrier.wait();
            }
        }
        if churn && list("--churn", &[1])[0] == 0 {
            break;
        }
        let mut row = [0.0; 7];
        let clients: Vec<u32> = (0..visitors as u32).map(|n| fresh + n).collect();
        fresh += visitors as u32;
        let mut tuples = Vec::with_capacity(visitors);
        barrier.wait();
        let took = hand.obtain(&clients, &mut tuples);
        let first = if churn { 5 } else { 0 };
        row[first] = per(took[0], visitors);
        row[first + 1] = per(took[1], visitors);
        let pairs: Vec<_> = clients.into_iter().zip(tuples).collect();
        barrier.wait();
        row[4] = per(hand.each(&pairs, |t| &t.release), visitors);
        wait(3000);
        if leader {
            world.engine.leases().sweep_all(world.now());
        }
        barrier.wait();
        if !churn {
            // Random clients; each once in a pass, and time passes between passes.
            let (mut took, mut early, mut count) = (Duration::ZERO, Duration::ZERO, 0);
            while count < MESSAGES {
                if next + BURST > held.len() {
                    next = 0;
                }
                if next == 0 {
                    wait(500_000_000);
                }
                let step = (held.len() - next).min(MESSAGES - count).min(4096);
                let pairs: Vec<_> = held[next..next + step].to_vec();
                took += hand.each(&pairs, |t| &t.renew);
                early += hand.each(&pairs, |t| &t.renew);
                next += step;
                count += step;
            }
            row[2] = per(took, count);
            row[3] = per(early, count);
        }
        results.push(row);
    }
    results
}

fn main() {
    let runs = list("--runs", &[5])[0];
    let features = if std::env::args().any(|word| word == "--featured") {
        Features { leases_per_site_max: 1 << 30, softwires: true, withheld: Vec::new() }
    } else {
        Features::default()
    };
    println!("{:>9} {:>3}  {}", "leases", "thr", KINDS.map(|kind| format!("{kind:>15}")).join(""));
    for leases in list("--leases", &[1_000, 10_000, 100_000, 1_000_000]) {
        for threads in list("--threads", &[1]) {
            let before = resident_octets();
            let world = World::new(leases as u32, threads, features.clone());
            let mut held: Vec<Vec<(u32, (u32, u16))>> = Vec::new();
            for thread in 0..threads {
                let share = (leases / threads) as u32;
                let clients: Vec<u32> = (0..share).map(|n| thread as u32 * share + n).collect();
                let mut tuples = Vec::with_capacity(clients.len());
                let mut hand = world.hand(thread as u16);
                hand.obtain(&clients, &mut tuples);
                let mut pairs: Vec<_> = clients.into_iter().zip(tuples).collect();
                for at in (1..pairs.len()).rev() {
                    let other = (hand.random() % (at as u64 + 1)) as usize;
                    pairs.swap(at, other);
                }
                held.push(pairs);
            }
            let octets = (resident_octets() - before) / leases as f64;
            let barrier = Barrier::new(threads);
            let results: Vec<Vec<[f64; 7]>> = std::thread::scope(|scope| {
                let spawned: Vec<_> = held
                    .iter()
                    .enumerate()
                    .map(|(thread, held)| {
                        let (world, barrier) = (&world, &barrier);
                        scope.spawn(move || {
                            let mut hand = world.hand(thread as u16);
                            hand.sequence = 1 << 40;
                            let base = 1 << 28 | (thread as u32) << 26;
                            measure(&mut hand, held, runs, barrier, base, thread == 0)
                        })
                    })
                    .collect();
                spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let cells: Vec<String> = (0..7)
                .map(|kind| {
                    // Of several threads the mean of their medians.
                    let mut sum = (0.0, 0.0, 0.0);
                    for thread in &results {
                        let mut values: Vec<f64> =
                            thread.iter().map(|row| row[kind]).filter(|v| *v > 0.0).collect();
                        if values.is_empty() {
                            continue;
                        }
                        let m = median(&mut values);
                        sum = (sum.0 + m, sum.1 + values[0], sum.2 + values[values.len() - 1]);
                    }
                    let n = results.len() as f64;
                    format!("{:>5.0} {:>4.0}-{:<4.0}", sum.0 / n, sum.1 / n, sum.2 / n)
                })
                .collect();
            println!(
                "{leases:>9} {threads:>3}  {}   table {} RSS {octets:.0}/lease",
                cells.join(""),
                world.engine.leases().table_octets() / leases
            );
        }
    }
}
