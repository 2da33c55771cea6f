//! A client and a server in one process, without a network and without waiting: the client finds its server by
//! option 88, obtains a share of an address, renews it at half of its time and gives it back.
//!
//! Both sides are state machines that do no I/O. Whoever drives them carries octets from one to the other and says
//! what time it is. Here that is a loop of a few lines, and an hour passes in a millisecond.
//!
//! ```text
//! cargo run --example client_machine
//! ```

use std::{io::Write, net::Ipv6Addr, sync::Arc};

use portlease::{
    client::{
        discovery, identity,
        lease::Lease,
        machine::{self, Action, Memory},
        messages::{HardwareAddress, Sender},
        servers::Servers,
        session::{Config, Event, Session, Source},
        timers::Moment,
    },
    engine::{Engine, Verdict},
    lease::{
        Leases, Settings,
        key::IdentitySecret,
        promise::{LaneId, Promise, Watermarks},
        stamp::Now,
    },
    server::config::Compiled,
    wire::{datagram::Datagram, dhcpv6::ALL_RELAYS_AND_SERVERS},
};

/// What the server serves: 63 shares of one address, for whoever is in `2001:db8:1::/64`.
const CONFIGURATION: &str = r#"
[server]
interfaces = ["lan"]
listen = ["2001:db8:ffff::547"]
server-id = "192.0.2.254"
[store]
kind = "memory"
capacity = "100"
[information]
servers = ["2001:db8:ffff::547"]
[[link]]
name = "access"
match = [{ source = "2001:db8:1::/64" }, { source = "fe80::/10" }]
[[link.pool]]
name = "shared"
addresses = ["192.0.2.18"]
psid-len = 6
"#;

/// Where the client is.
const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
const CLIENT_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10);

/// The clock of both sides: seconds since the beginning, and the wall clock of the server's leases.
const START_UNIX_MS: u64 = 1_800_000_000_000;

/// A server whose promises are durable at once, because nothing here outlives the process.
struct Server {
    engine: Engine,
    watermarks: Arc<Watermarks>,
    promises: u64,
}

impl Server {
    fn new() -> Result<Self, String> {
        let compiled = Compiled::parse("example.toml", CONFIGURATION)
            .map_err(|report| format!("the configuration:\n{report}"))?;
        let watermarks = Arc::new(Watermarks::new(1));
        let settings = Settings {
            capacity: compiled.plan.capacity,
            offers_max: compiled.plan.offers_max,
            hold_down_seconds: compiled.policy.times.hold_down_seconds,
            decline_hold_seconds: compiled.policy.times.decline_hold_seconds,
            watermarks: Arc::clone(&watermarks),
            shards: None,
            features: compiled.plan.features,
        };
        let leases = Leases::new(&compiled.pools, settings).map_err(|error| error.to_string())?;
        // A real server draws it once and keeps it with its leases.
        let secret = IdentitySecret([7; 16]);
        let engine = Engine::new(compiled.policy, Arc::new(leases), secret);
        Ok(Server { engine, watermarks, promises: 0 })
    }

    /// Answers one UDP payload, or stays silent.
    fn answer(
        &mut self,
        now: Moment,
        peer: Ipv6Addr,
        local: Ipv6Addr,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let datagram = Datagram { peer, peer_port: 546, local, interface: 1, payload };
        let promise = Promise { lane: LaneId(0), sequence: self.promises + 1 };
        let mut out = [0; 1500];
        let reply =
            match self.engine.answer(Now(START_UNIX_MS + now.0), &datagram, promise, &mut out) {
                Verdict::Ignore(_) => None,
                Verdict::Reply(reply) => Some(reply),
                Verdict::Promise { records, reply } => {
                    // A real server writes the records to its log and lets the reply wait until they are synced.
                    self.promises += records.iter().count() as u64;
                    self.watermarks.publish(LaneId(0), self.promises);
                    reply
                }
            };
        reply.and_then(|reply| out.get(..reply.length())).map(<[u8]>::to_vec)
    }
}

fn client() -> Result<Session, String> {
    let mac = [2, 0, 0, 0, 0, 1];
    let duid = identity::link_layer_duid(1, &mac);
    let identifier = identity::identifier(1, &duid).ok_or("the DUID is too long")?;
    let hardware = HardwareAddress::new(1, &mac).ok_or("the address is too long")?;
    let config = Config {
        machine: machine::Config::new(Sender { identifier, hardware }),
        source: Source::Discovery(discovery::Config::new(Some(duid))),
        on_loss: machine::OnLoss::LeaseEnd,
    };
    Ok(Session::new(config, 42, Moment(0)))
}

/// Everything that happens until the client has stopped.
pub fn converse(out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let (mut server, mut client, mut now) = (Server::new()?, client()?, Moment(0));
    let mut line = |now: Moment, text: &str| {
        let _ = writeln!(out, "{:>7.1} s  {text}", now.since(Moment(0)).as_secs_f64());
    };
    let told = |what: &str, lease: &Lease| format!("{what} {}", lease.assignment);
    let mut actions = Vec::new();
    client.handle(now, Event::Start, &mut actions);
    loop {
        // What an action leads to goes behind those that wait already.
        let mut waiting: std::collections::VecDeque<_> = actions.drain(..).collect();
        while let Some(action) = waiting.pop_front() {
            let mut heard = None;
            match action {
                Action::Inform(octets) => {
                    line(now, "client asks the link for servers");
                    heard = server.answer(now, CLIENT_LINK_LOCAL, ALL_RELAYS_AND_SERVERS, &octets);
                }
                Action::Servers(Some(servers)) => {
                    line(now, &format!("client is told to ask {servers}"));
                    // A real driver opens a socket first, and waits for an address if need be.
                    let destinations = u32::try_from(servers.addresses().len())?;
                    let offer_wait = std::time::Duration::from_secs(1);
                    let memory = Memory::Nothing;
                    let reachable = Event::Reachable { destinations, offer_wait, memory };
                    client.handle(now, reachable, &mut actions);
                }
                Action::Send(octets) => {
                    for address in client.servers().into_iter().flat_map(Servers::addresses) {
                        heard = server.answer(now, CLIENT, *address, &octets);
                    }
                }
                Action::Obtained(lease) => line(now, &told("obtained", &lease)),
                Action::Renewed(lease) => {
                    line(now, &told("renewed", &lease));
                    client.handle(now, Event::Release, &mut actions);
                }
                Action::Lost(lease, _) => line(now, &told("gave back", &lease)),
                Action::Stopped => return Ok(()),
                Action::Log(note) => line(now, &format!("  {note}")),
                other => line(now, &format!("{other:?}")),
            }
            if let Some(octets) = heard {
                client.handle(now, Event::Datagram(&octets), &mut actions);
            }
            waiting.extend(actions.drain(..));
        }
        // Nothing more happens at this moment: on to the next.
        now = client.deadline().ok_or("the client waits for nothing")?;
        client.handle(now, Event::Timer, &mut actions);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    converse(&mut std::io::stdout().lock())
}
