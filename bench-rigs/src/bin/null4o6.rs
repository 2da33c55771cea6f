//! null4o6: a server that decides nothing, as the ceiling of the datapath.

use std::net::Ipv6Addr;

use bench_rigs::{
    interrupt,
    null::{Datapath, Fixed, Mirror, Setup, run},
    sys,
};
use clap::Parser;

/// Answers DISCOVER and REQUEST over the datapath of the real server from a template: no policy, no leases, no log. No
/// server over this datapath can be faster. Its tuples follow from the client numbers that perf4o6 puts into
/// identifiers; it is of no use to real clients.
///
/// Says `ready` when it serves, and ends at SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(name = "null4o6", version)]
struct Arguments {
    /// Interface to serve; its first queue
    #[arg(long)]
    interface: String,

    /// Unicast address to serve
    #[arg(long)]
    listen: Ipv6Addr,

    /// xdp-native, xdp-generic or socket
    #[arg(long, default_value = "xdp-native")]
    datapath: Datapath,

    /// Send every datagram back as it came, to port 547, instead of answering
    #[arg(long)]
    echo: bool,

    /// Bind to this core
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    interrupt::catch()?;
    if let Some(core) = arguments.cpu {
        sys::pin(core)?;
    }
    let Arguments { interface, listen, datapath, echo, .. } = arguments;
    let setup = Setup { interface, listen, datapath };
    let ready = || println!("ready: {datapath} on {}", setup.interface);
    let stop = || interrupt::check().is_err();
    if echo {
        run(&setup, Mirror::default(), ready, stop)?;
    } else {
        run(&setup, Fixed::default(), ready, stop)?;
    }
    Ok(())
}
