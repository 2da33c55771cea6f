//! perf4o6: a load generator for DHCPv4-over-DHCPv6 servers that remembers every promise.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    ops::RangeInclusive,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bench_rigs::{
    load::{
        Attach, Backend, Control, Load, Options, Pace, Phase, Place, RelayPlace, XdpPlace,
        parse_mac,
    },
    sys,
};
use clap::Parser;
use portlease::wire::dhcpv6::{ALL_RELAYS_AND_SERVERS, SERVER_PORT};

const EXAMPLE: &str = "Example: perf4o6 --server 2001:db8:ffff::547 --source 2001:db8:1::10 \
    --clients 100000 --phases new,renew,mixed=500000,release --window 256 --json result.json";

/// Plays very many DHCPv4-over-DHCPv6 clients, measures how a server answers them, and holds every answer against
/// what it acknowledged before.
///
/// Checked: no (address, PSID) is held by two clients, no two geometries on one address, no reserved port, an
/// extension keeps its tuple and is never refused, transaction, client identifier, server identifier and times.
/// Exits with 1 if anything contradicts, with 3 if exchanges stayed unanswered.
#[derive(Debug, Parser)]
#[command(name = "perf4o6", version, after_help = EXAMPLE)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
struct Arguments {
    /// Unicast address of the server
    #[arg(long, required_unless_present = "multicast")]
    server: Option<Ipv6Addr>,

    /// Send to the multicast group of relays and servers on --interface instead of to an address
    #[arg(long, requires = "interface", conflicts_with = "server")]
    multicast: bool,

    /// Interface of all sockets
    #[arg(long)]
    interface: Option<String>,

    /// Address that clients (or with --relay: relays) send from; one socket for each, clients are spread over them
    #[arg(long, required = true, value_name = "ADDRESS")]
    source: Vec<Ipv6Addr>,

    /// Send and receive frames through AF_XDP on --interface instead of through UDP sockets
    #[arg(long, requires = "interface")]
    xdp: bool,

    /// Where the XDP program that picks the answers runs: auto, native or generic
    #[arg(long, default_value = "auto", requires = "xdp")]
    attach: Attach,

    /// Hardware address of the server or of the router to it, with --xdp; without it, asked of the neighbour table
    #[arg(long, requires = "xdp", value_parser = hardware_address)]
    server_mac: Option<[u8; 6]>,

    /// Queues of the interface to use with --xdp, from the first; without it all
    #[arg(long, requires = "xdp")]
    queues: Option<u32>,

    /// The sources are not addresses of this host (needs `ip -6 route add local PREFIX dev lo`)
    #[arg(long)]
    foreign_sources: bool,

    /// Wrap queries as relays with this link-address, sent from port 547
    #[arg(long, value_name = "LINK-ADDRESS")]
    relay: Option<Ipv6Addr>,

    /// Levels of relays, up to 9
    #[arg(long, default_value_t = 1, requires = "relay")]
    relay_levels: usize,

    /// Add an Interface-Id for each client at the innermost relay
    #[arg(long, requires = "relay")]
    interface_id: bool,

    /// Number of clients
    #[arg(long, default_value_t = 10_000)]
    clients: u32,

    /// Which population: clients of another seed have other identities
    #[arg(long, default_value_t = 1)]
    seed: u8,

    /// What to do, in order: new, renew, rebind, reboot, release, mixed; each with =COUNT exchanges, without it one
    /// for each client that can
    #[arg(long, value_delimiter = ',', default_value = "new,renew,release")]
    phases: Vec<Phase>,

    /// Exchanges under way at a time
    #[arg(long, default_value_t = 256)]
    window: usize,

    /// Start this many exchanges a second, whether or not earlier ones have ended (open loop; at most --window are
    /// under way); without it, as fast as the window allows (closed loop)
    #[arg(long)]
    rate: Option<f64>,

    /// Releases a second; nothing answers them
    #[arg(long, default_value_t = 20_000.0)]
    release_rate: f64,

    /// Share of renewals among what clients with a lease do in `mixed`; the others release
    #[arg(long, default_value_t = 0.5)]
    renew_share: f64,

    /// Milliseconds after which an unanswered message is sent again
    #[arg(long, default_value_t = 1000)]
    timeout_ms: u64,

    /// Transmissions of a message before its exchange is given up; 0: never given up
    #[arg(long, default_value_t = 4)]
    tries: u32,

    /// Clients that do not know option 159, for servers without RFC 7618
    #[arg(long)]
    no_option_159: bool,

    /// Ports that must never be leased
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range, default_value = "0-1023")]
    reserved: Vec<RangeInclusive<u16>>,

    /// The only server identifier that may appear; without it the first one that does
    #[arg(long)]
    server_id: Option<Ipv4Addr>,

    /// Remember leases here: read at the start if it exists, written at the end
    #[arg(long, value_name = "FILE")]
    leases: Option<PathBuf>,

    /// Write the result here as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Bind to this core
    #[arg(long)]
    cpu: Option<usize>,

    /// No line a second
    #[arg(long, short)]
    quiet: bool,
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let bad = || format!("`{text}` is not a range of ports, as in 0-1023");
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    Ok(first.parse().map_err(|_| bad())?..=last.parse().map_err(|_| bad())?)
}

fn hardware_address(text: &str) -> Result<[u8; 6], String> {
    parse_mac(text)
        .ok_or_else(|| format!("`{text}` is no hardware address, as in 02:00:00:00:00:01"))
}

impl Arguments {
    fn backend(&self) -> Backend {
        match &self.interface {
            Some(interface) if self.xdp => Backend::Xdp(XdpPlace {
                interface: interface.clone(),
                attach: self.attach,
                server_mac: self.server_mac,
                queues: self.queues,
            }),
            _ => Backend::Udp,
        }
    }

    fn place(&self) -> anyhow::Result<Place> {
        let scope = match &self.interface {
            Some(name) => {
                sys::interface_index(name).with_context(|| format!("interface {name}"))?
            }
            None => 0,
        };
        let server = match self.server {
            Some(address) if address.is_unicast_link_local() => {
                SocketAddrV6::new(address, SERVER_PORT, 0, scope)
            }
            Some(address) => SocketAddrV6::new(address, SERVER_PORT, 0, 0),
            None => SocketAddrV6::new(ALL_RELAYS_AND_SERVERS, SERVER_PORT, 0, scope),
        };
        Ok(Place {
            server,
            sources: self.source.clone(),
            foreign: self.foreign_sources,
            interface: self.interface.clone(),
            relay: self.relay.map(|link_address| RelayPlace {
                link_address,
                levels: self.relay_levels,
                interface_id: self.interface_id,
            }),
        })
    }

    fn options(&self) -> anyhow::Result<Options> {
        if self.rate.is_some_and(|rate| rate <= 0.0) || self.release_rate <= 0.0 {
            bail!("--rate and --release-rate must be greater than 0");
        }
        let window = self.window.max(1);
        Ok(Options {
            place: self.place()?,
            backend: self.backend(),
            clients: self.clients,
            seed: self.seed,
            sharing: !self.no_option_159,
            pace: match self.rate {
                Some(rate) => Pace::Open { rate, window },
                None => Pace::Closed { window },
            },
            timeout: Duration::from_millis(self.timeout_ms),
            tries: (self.tries > 0).then_some(self.tries),
            reserved: self.reserved.clone(),
            server_id: self.server_id,
            release_rate: self.release_rate,
            renew_share: self.renew_share,
            progress: !self.quiet,
        })
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(core) = arguments.cpu {
        sys::pin(core).with_context(|| format!("bind to core {core}"))?;
    }
    let mut load = Load::new(arguments.options()?)?;
    if let Some(path) = arguments.leases.as_ref().filter(|path| path.exists()) {
        load.recall(path)?;
    }
    let control = Control::default();
    for &phase in &arguments.phases {
        load.run(phase, &control)?;
    }
    if let Some(path) = &arguments.leases {
        load.save(path)?;
    }
    let summary = load.summary();
    print!("{summary}");
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&summary)?;
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(match (summary.violated(), summary.unanswered()) {
        (true, _) => ExitCode::from(1),
        (false, 1..) => ExitCode::from(3),
        (false, 0) => ExitCode::SUCCESS,
    })
}
