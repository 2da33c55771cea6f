//! Serving one interface by one thread, as a worker of the daemon does, with whatever handler.

use std::{
    fmt,
    net::Ipv6Addr,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use portlease::net::{
    Handler, Port,
    link::{Facts, Published},
    steer::{Mode, Steering},
    sys::WakeFd,
    udp::{UdpOptions, UdpPort},
    xdp::{XdpOptions, XdpPort},
};

use crate::error::{Result, RigError};

/// Most datagrams of a burst, as the daemon's workers take.
const BURST_MAX: usize = 64;

/// How long an idle server looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// The longest sleep, and the time between two looks at the port's statistics.
const TICK: Duration = Duration::from_millis(100);

/// The way that packets take between the interface and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// AF_XDP, the program in the driver.
    Native,
    /// AF_XDP, the program in the network stack.
    Generic,
    /// A UDP socket.
    Socket,
}

impl FromStr for Datapath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "xdp-native" => Ok(Datapath::Native),
            "xdp-generic" => Ok(Datapath::Generic),
            "socket" => Ok(Datapath::Socket),
            _ => Err(format!("`{text}` is no datapath: xdp-native, xdp-generic or socket")),
        }
    }
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Datapath::Native => "xdp-native",
            Datapath::Generic => "xdp-generic",
            Datapath::Socket => "socket",
        })
    }
}

/// What is served.
#[derive(Clone, Debug)]
pub struct Setup {
    /// An interface of the calling thread's network namespace; its queue 0.
    pub interface: String,
    /// The unicast address beside the two multicast groups.
    pub listen: Ipv6Addr,
    /// How.
    pub datapath: Datapath,
}

/// Opens the interface, calls `ready`, and serves until `stop` says so; `stop` is asked at least ten times a second,
/// and never for each packet. Gives the handler back.
pub fn run<H>(
    setup: &Setup,
    mut handler: H,
    ready: impl FnOnce(),
    stop: impl FnMut() -> bool,
) -> Result<H>
where
    H: Handler<<XdpPort as Port>::Reply> + Handler<<UdpPort as Port>::Reply>,
{
    let facts = Facts::read(&setup.interface).map_err(told)?;
    let published = Arc::new(Published::new(facts.reach()));
    let mode = match setup.datapath {
        Datapath::Native => Mode::Native,
        Datapath::Generic => Mode::Generic,
        Datapath::Socket => {
            let served = [(facts, published)];
            let port = UdpPort::open(&served, &[setup.listen], UdpOptions::default());
            let mut port = port.map_err(told)?;
            ready();
            return serve(&mut port, &mut handler, stop).map(|()| handler);
        }
    };
    let mut steering = Steering::attach(&facts, &[setup.listen], &[mode]).map_err(told)?;
    let port = XdpPort::open(&facts, 0, mode, XdpOptions::default(), published);
    let mut port = port.map_err(told)?;
    steering.admit(0, port.socket()).map_err(told)?;
    ready();
    serve(&mut port, &mut handler, stop).map(|()| handler)
}

fn told(error: impl fmt::Display) -> RigError {
    RigError::unexpected(error.to_string())
}

/// Receives, answers and sends, to completion and in this order; looks again for a moment before it sleeps.
fn serve<P, H>(port: &mut P, handler: &mut H, mut stop: impl FnMut() -> bool) -> Result<()>
where
    P: Port,
    H: Handler<P::Reply>,
{
    let wake = WakeFd::new().map_err(told)?;
    let tick_ms = u32::try_from(TICK.as_millis()).unwrap_or(u32::MAX);
    let mut ticked = Instant::now();
    let mut idle_since: Option<Instant> = None;
    loop {
        let taken = port.burst(BURST_MAX.min(port.capacity()), handler);
        port.flush().map_err(told)?;
        let now = Instant::now();
        if now - ticked >= TICK {
            ticked = now;
            port.tick();
            if stop() {
                return Ok(());
            }
        }
        if taken > 0 {
            idle_since = None;
        } else if now - *idle_since.get_or_insert(now) < SPIN {
            std::hint::spin_loop();
        } else {
            idle_since = None;
            port.wait(tick_ms, &wake).map_err(told)?;
        }
    }
}
