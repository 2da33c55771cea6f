//! relay6: a DHCPv6 relay agent (RFC 8415 §19), one link for each client.

use std::{
    net::Ipv6Addr,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Context as _;
use bench_rigs::relay::{Relay, RelayOptions};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Relays DHCPv6 between clients and a server until it is stopped, with the client's interface as Interface-Id.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Interface towards the server
    #[arg(long)]
    upstream: String,

    /// Address of the server
    #[arg(long)]
    server: Ipv6Addr,

    /// Interfaces towards clients
    #[arg(long, required = true, value_delimiter = ',')]
    downstream: Vec<String>,

    /// Address that tells the server where the clients are
    #[arg(long)]
    link_address: Ipv6Addr,
}

fn main() -> anyhow::Result<()> {
    let Arguments { upstream, server, downstream, link_address } = Arguments::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("catch signals")?;
    }
    let relay = Relay::open(&RelayOptions { upstream, server, downstream, link_address })?;
    println!("relaying");
    let passed = relay.run(&stop)?;
    println!("{} forward, {} back, {} discarded", passed.forward, passed.back, passed.discarded);
    Ok(())
}
