//! Two homes on one address use it: each translates what it sends to its own ports (as RFC 7596 §5.1 demands), and a
//! border router, in place of an lwAFTR, finds the way back by the port alone.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use bench_rigs::{
    error::{Doing as _, Result, RigError},
    interrupt,
    netns::Netns,
    veth::{self, End},
};

use crate::{homes::Shared, story::Story, town::Town};

/// A host on the Internet.
const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);

/// Where it listens.
const WORLD_PORT: u16 = 4500;

/// A computer inside each home. Both homes use the same private address, as homes do.
const INSIDE: &str = "10.64.0.1";

/// Conversations from each home, each from a port of its own choice.
const CONVERSATIONS: usize = 200;

/// The two homes, the border router and the world.
pub(crate) struct Border {
    _router: Netns,
    world: Netns,
    homes: [(usize, Shared); 2],
    handles: [String; 2],
}

impl Border {
    /// Connects two homes, by their position, to the world.
    pub(crate) fn build(town: &Town, homes: [(usize, &Shared); 2]) -> Result<Self> {
        let border = Netns::new("border")?;
        let world = Netns::new("world")?;
        let inner = End { namespace: &border, name: "world", mac: [2, 0, 0, 0, 9, 1] };
        let outer = End { namespace: &world, name: "border", mac: [2, 0, 0, 0, 9, 2] };
        veth::connect(inner, outer, 1)?;
        inner.add_address("198.51.100.1/24")?;
        outer.add_address(&format!("{WORLD}/24"))?;
        world.ip("route add default via 198.51.100.1")?;
        border.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0")?;
        nft(&border, "add table ip softwires")?;
        nft(
            &border,
            "add chain ip softwires back { type filter hook prerouting priority -150 ; }",
        )?;
        for ((position, shared), number) in homes.into_iter().zip(1..) {
            let Some(home) = town.homes.get(position) else { continue };
            connect_home(home, &border, shared, number)?;
        }
        Ok(Self {
            _router: border,
            world,
            handles: homes.map(|(position, _)| {
                town.homes.get(position).map_or_else(String::new, |home| home.name().to_owned())
            }),
            homes: homes.map(|(position, shared)| (position, shared.clone())),
        })
    }

    /// Both homes talk to the world at the same time; the world tells which ports it saw.
    pub(crate) fn exchange(&self, story: &Story) -> Result<()> {
        let binding = SocketAddrV4::new(WORLD, WORLD_PORT);
        let world = self.world.enter(|| UdpSocket::bind(binding))?.doing("listen in the world")?;
        world.set_read_timeout(Some(Duration::from_millis(100))).doing("set a timeout")?;
        let stop = AtomicBool::new(false);
        let (seen, answered) = thread::scope(|scope| {
            let listening = scope.spawn(|| listen(&world, &stop));
            let talking: Vec<_> = (0..2)
                .map(|number| scope.spawn(move || talk(&self.handles[number], number)))
                .collect();
            let answered: Result<Vec<usize>> =
                talking.into_iter().map(|one| one.join().unwrap_or_else(|_| failed())).collect();
            stop.store(true, Ordering::Relaxed);
            let seen = listening.join().unwrap_or_else(|_| failed());
            (seen, answered)
        });
        interrupt::check()?;
        self.judge(story, &seen?, &answered?)
    }

    fn judge(
        &self,
        story: &Story,
        seen: &BTreeMap<(usize, SocketAddrV4), u32>,
        answered: &[usize],
    ) -> Result<()> {
        for (number, (_, shared)) in self.homes.iter().enumerate() {
            let from: Vec<_> =
                seen.keys().filter(|(home, _)| *home == number).map(|(_, from)| *from).collect();
            let ports = shared.tuple().1.ports();
            let outside = from
                .iter()
                .filter(|from| *from.ip() != shared.address || !ports.contains(from.port()))
                .count();
            let lowest = from.iter().map(SocketAddrV4::port).min().unwrap_or(0);
            let highest = from.iter().map(SocketAddrV4::port).max().unwrap_or(0);
            let line = format!(
                "home {:<3} ({shared}): {} conversations, {} answered; the world saw {} ports of \
                 {}, from {lowest} to {highest}; outside its set: {outside}",
                shared.home,
                CONVERSATIONS,
                answered[number],
                from.len(),
                shared.address,
            );
            if outside > 0 || from.is_empty() || answered[number] < CONVERSATIONS {
                return Err(RigError::unexpected(line));
            }
            story.say(&line);
        }
        Ok(())
    }
}

fn failed<T>() -> Result<T> {
    Err(RigError::unexpected("a thread of the traffic failed"))
}

/// Runs nft with one argument, which holds blanks.
fn nft(namespace: &Netns, rule: &str) -> Result<()> {
    let mut command = namespace.command("nft");
    command.arg(rule);
    bench_rigs::shell::output_of(command).map(drop)
}

/// A home's IPv4 side: the shared address on a link to the border (in place of a softwire), and translation of all
/// that leaves to the leased ports.
fn connect_home(home: &Netns, border: &Netns, shared: &Shared, number: u8) -> Result<()> {
    let port = format!("home-{number}");
    let inside = End { namespace: home, name: "softwire", mac: [2, 0, 0, 0, 8, number] };
    let outside = End { namespace: border, name: &port, mac: [2, 0, 0, 0, 7, number] };
    veth::connect(inside, outside, 1)?;
    let address = shared.address;
    inside.add_address(&format!("{address}/32"))?;
    home.ip(&format!("addr add {INSIDE}/32 dev lo"))?;
    home.ip("route add default dev softwire")?;
    inside.add_neighbour(&WORLD.to_string(), outside.mac)?;
    nft(home, "add table ip lease")?;
    nft(home, "add chain ip lease out { type nat hook postrouting priority 100 ; }")?;
    let (first, last) = (shared.first(), shared.last());
    for protocol in ["udp", "tcp"] {
        nft(
            home,
            &format!(
                "add rule ip lease out oifname softwire meta l4proto {protocol} \
                 snat to {address}:{first}-{last}"
            ),
        )?;
    }
    // The way back: to the link whose home holds the port. Proxy ARP answers for nobody here; neighbours are fixed.
    let table = 100 + u32::from(number);
    nft(
        border,
        &format!(
            "add rule ip softwires back ip daddr {address} udp dport {first}-{last} \
             meta mark set {number}"
        ),
    )?;
    border.ip(&format!("rule add fwmark {number} lookup {table}"))?;
    border.ip(&format!("route add default dev {port} table {table}"))?;
    outside.add_neighbour(&address.to_string(), inside.mac)?;
    Ok(())
}

/// The world: sends back what it gets, and notes who it came from.
fn listen(socket: &UdpSocket, stop: &AtomicBool) -> Result<BTreeMap<(usize, SocketAddrV4), u32>> {
    let mut seen = BTreeMap::new();
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, SocketAddr::V4(from))) => {
                *seen.entry((usize::from(buffer[0]), from)).or_insert(0) += 1;
                socket.send_to(&buffer[..length], from).doing("answer")?;
            }
            Ok(_) => {}
            Err(error) if bench_rigs::sys::would_block(&error) => {}
            Err(error) => return Err(error).doing("listen in the world"),
        }
    }
    Ok(seen)
}

/// A home: many sockets, each with a port that the kernel picks, outside of the leased ones as likely as not. Gives
/// the number of those that were answered.
fn talk(namespace: &str, number: usize) -> Result<usize> {
    let open = || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((INSIDE, 0))?;
        socket.connect((WORLD, WORLD_PORT))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        Ok(socket)
    };
    let sockets = bench_rigs::netns::enter_by_name(namespace, || {
        (0..CONVERSATIONS).map(|_| open()).collect::<std::io::Result<Vec<_>>>()
    })?
    .doing("open sockets in a home")?;
    let mark = number.to_le_bytes()[0];
    let mut answered = 0;
    for socket in &sockets {
        let mut buffer = [0; 64];
        // Datagrams may get lost on a busy machine; three tries, as any client would.
        let heard = (0..3).any(|_| {
            socket.send(&[mark; 32]).is_ok()
                && socket.recv(&mut buffer).is_ok_and(|length| length == 32)
        });
        answered += usize::from(heard);
    }
    Ok(answered)
}
