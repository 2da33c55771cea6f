//! Many clients in bad weather: datagrams are lost and repeated, clients come, go and restart, and at no time do two
//! of them use the same ports. `World::hold` asserts that whenever a client gets a lease.

use portlease::{
    client::machine::{Event, Memory},
    engine::policy::BindSource,
};

use crate::{
    common::{L1, L2, Server},
    world::{Manner, World},
};

/// Histories. Each is some hours of a dozen clients.
const HISTORIES: u64 = 30;

const CLIENTS: usize = 12;

fn live_through(seed: u64) -> World {
    let mut random = fastrand::Rng::with_seed(seed);
    let strict = random.bool();
    let server = Server::with(|policy| {
        policy.bind_source = if strict { BindSource::Nak } else { BindSource::Log };
        policy.authoritative = random.bool();
        policy.times.lease_seconds = random.u32(120..4000);
    });
    let mut world = World::new(vec![server]);
    let mut weather = random.fork();
    let (lost, repeated) = (random.u8(0..50), random.u8(0..30));
    world.weather = Box::new(move || match weather.u8(0..100) {
        roll if roll < lost => 0,
        roll if roll < lost + repeated => 2,
        _ => 1,
    });
    for _ in 0..CLIENTS {
        world.add(Manner::on(if random.bool() { L1 } else { L2 }));
    }
    for _ in 0..100 {
        world.run_for(random.u64(0..300));
        let node = random.usize(0..CLIENTS);
        let lease = world.nodes[node].lease;
        match random.u8(0..10) {
            0..3 => world.tell(node, Event::RenewNow),
            3 => world.tell(node, Event::SourceChanged),
            4 | 5 => {
                let remembered = lease.map(|lease| lease.assignment);
                let memory = match remembered {
                    Some(assignment) if random.bool() => Memory::Lease(assignment),
                    Some(assignment) if random.bool() => Memory::Wish(assignment),
                    _ => Memory::Nothing,
                };
                let manner = Manner { memory, ..Manner::on(world.link(node)) };
                world.restart(node, manner);
            }
            6 => {
                world.tell(node, Event::Release);
                let manner = Manner::on(world.link(node));
                world.restart(node, manner);
            }
            7 => world.sites[0].up = random.u8(0..4) > 0,
            _ => {}
        }
        world.story();
    }
    world
}

#[test]
fn in_any_weather_nobody_shares_ports_and_afterwards_everybody_has_some() {
    for seed in 0..HISTORIES {
        let mut world = live_through(seed);
        world.sites[0].up = true;
        world.weather = Box::new(|| 1);
        world.run_for(8000);
        let leased = world.nodes.iter().filter(|node| node.lease.is_some()).count();
        assert_eq!(leased, CLIENTS, "seed {seed}");
        let server = &world.sites[0].server;
        assert_eq!(server.active(), CLIENTS, "seed {seed}: what they hold is what it has leased");
    }
}
