//! A bare echo: two ends of a link throw the same packets back and forth, each over a port of the real datapath.
//!
//! Nothing is parsed beyond the UDP header and nothing is decided, so the rate is that of the kernel and of the port
//! alone. The generator is a second echo, which costs what the first one costs.

use std::time::{Duration, Instant};

use portlease::{
    net::{Disposal, Handler},
    wire::{datagram::Datagram, dhcpv6::SERVER_PORT},
};

use super::serve::{Setup, run};
use crate::{
    error::{Doing as _, Result},
    frame::Frame,
    interrupt,
    message::{Identity, Message},
    stage::{CLIENT, CLIENT_INTERFACE, CLIENT_MAC, SERVER, SERVER_MAC},
    sys::FrameSocket,
};

/// Sends every datagram back as it came, to the servers' port, where the other end listens too.
#[derive(Debug, Default)]
pub struct Mirror {
    /// Datagrams that were sent back.
    pub echoed: u64,
}

impl<R> Handler<R> for Mirror {
    type Reading<'a> = Datagram<'a>;

    fn read<'a>(&self, datagram: &Datagram<'a>, reading: &mut Datagram<'a>) {
        *reading = *datagram;
    }

    fn approach(&self, _datagram: &Datagram<'_>) {}

    fn answer(&mut self, datagram: &Datagram<'_>, out: &mut [u8]) -> Disposal {
        let length = datagram.payload.len();
        let Some(out) = out.get_mut(..length) else { return Disposal::Discard };
        out.copy_from_slice(datagram.payload);
        self.echoed += 1;
        Disposal::Send { length, port: SERVER_PORT }
    }

    /// Nothing waits here.
    fn park(&mut self, _reply: R) {}
}

/// What the clients' end of an echo saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounce {
    /// Packets that came back and were sent again.
    pub packets: u64,
    /// For how long, in seconds.
    pub seconds: f64,
    /// Processor time of this end's thread, in seconds.
    pub cpu_seconds: f64,
    /// Octets of each frame, from the Ethernet header on.
    pub frame_octets: usize,
}

/// Plays the clients' end of an echo in the calling thread's namespace: throws `window` packets to the server's end,
/// sends back whatever comes, and counts for `duration` once the first have come. Each is a REQUEST as the load sends
/// them, so that its length is that of real traffic.
pub fn bounce(setup: &Setup, window: usize, duration: Duration) -> Result<Bounce> {
    let identity = Identity::new(1, 1);
    let lease = crate::message::Lease {
        address: std::net::Ipv4Addr::new(10, 0, 0, 1),
        ports: portlease::wire::portparams::PortParams::new(0, 6, 1),
        server: std::net::Ipv4Addr::new(192, 0, 2, 254),
        lease_seconds: 3600,
    };
    let frame = Frame {
        destination_mac: SERVER_MAC,
        source_mac: CLIENT_MAC,
        tags: Vec::new(),
        source: CLIENT,
        destination: SERVER,
        source_port: SERVER_PORT,
        destination_port: SERVER_PORT,
        checksum: None,
        payload: Message::select(&identity, 1, &lease).to_payload(&[]),
    }
    .build();
    let thrower = FrameSocket::open(CLIENT_INTERFACE).doing("open a frame socket")?;
    let throw = || {
        // A full queue loses some: the window is then a little smaller.
        (0..window).for_each(|_| drop(thrower.send(&frame)));
    };
    let began = std::cell::Cell::new(None);
    let ready = || {
        throw();
        began.set(Some((Instant::now(), crate::sys::thread_time())));
    };
    let stop = || {
        interrupt::check().is_err()
            || began.get().is_some_and(|(since, _)| since.elapsed() >= duration)
    };
    let mirror = run(setup, Mirror::default(), ready, stop)?;
    interrupt::check()?;
    let (since, cpu) = began.get().unwrap_or((Instant::now(), Duration::ZERO));
    Ok(Bounce {
        packets: mirror.echoed,
        seconds: since.elapsed().as_secs_f64(),
        cpu_seconds: crate::sys::thread_time().saturating_sub(cpu).as_secs_f64(),
        frame_octets: frame.len(),
    })
}
