//! A client over a real UDP socket: obtains a lease from one server, prints it and gives it back.
//!
//! What a program needs that has its own event loop, its own sockets and its own idea of how addresses are
//! configured: the machine says what to send and until when to wait, and takes in whatever comes.
//!
//! ```text
//! cargo run --example client_udp -- 2001:db8:ffff::547
//! ```
//!
//! Servers answer to UDP port 546, which takes a privilege to bind. A second argument names another port of the
//! server's and speaks from any port, which works with a server that has `reply-to-source-port = true`.

use std::{
    error::Error,
    io::{self, Write},
    net::{Ipv6Addr, UdpSocket},
    time::{Duration, Instant},
};

use portlease::{
    client::{
        identity,
        machine::{Action, Config, Event, Machine, Memory},
        messages::{HardwareAddress, Sender},
        timers::Moment,
    },
    wire::dhcpv6::{CLIENT_PORT, SERVER_PORT},
};

/// How long the server may stay silent.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client with a random identity, which nobody will recognize again.
fn machine(now: Moment) -> Result<Machine, Box<dyn Error>> {
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid)?;
    let duid = identity::random_duid(uuid);
    let identifier = identity::identifier(0, &duid).ok_or("the DUID is too long")?;
    let sender = Sender { identifier, hardware: HardwareAddress::default() };
    let config = Config {
        // One client in a shell starts no storm.
        initial_delay: Duration::ZERO..=Duration::ZERO,
        ..Config::new(sender)
    };
    Ok(Machine::new(config, Memory::Nothing, getrandom::u64()?, now))
}

/// Obtains a lease and gives it back.
pub fn converse(socket: &UdpSocket, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let clock = || Moment(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mut machine = machine(clock())?;
    let mut actions = Vec::new();
    machine.handle(clock(), Event::Start, &mut actions);
    let mut buffer = [0; 2048];
    loop {
        let mut obtained = false;
        for action in actions.drain(..) {
            match action {
                Action::Send(octets) => {
                    socket.send(&octets)?;
                }
                Action::Obtained(lease) => {
                    writeln!(out, "obtained {}", lease.assignment)?;
                    for range in lease.assignment.port_ranges() {
                        writeln!(out, "  ports {}-{}", range.start(), range.end())?;
                    }
                    obtained = true;
                }
                Action::Lost(lease, loss) => writeln!(out, "lost {}: {loss:?}", lease.assignment)?,
                Action::Log(note) => writeln!(out, "  {note}")?,
                Action::Stopped => return Ok(()),
                other => writeln!(out, "{other:?}")?,
            }
        }
        if obtained {
            machine.handle(clock(), Event::Release, &mut actions);
            continue;
        }
        if began.elapsed() > PATIENCE {
            return Err("no lease".into());
        }
        let wait = machine.deadline().map_or(PATIENCE, |deadline| deadline.since(clock()));
        socket.set_read_timeout(Some(wait.clamp(Duration::from_millis(1), PATIENCE)))?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                machine.handle(clock(), Event::Datagram(datagram), &mut actions);
            }
            Err(error) if is_timeout(&error) => {
                machine.handle(clock(), Event::Timer, &mut actions);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let server: Ipv6Addr = arguments.next().ok_or("which server? (an IPv6 address)")?.parse()?;
    let port = arguments.next().map(|port| port.parse::<u16>()).transpose()?;
    let local = if port.is_some() { 0 } else { CLIENT_PORT };
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, local))?;
    socket.connect((server, port.unwrap_or(SERVER_PORT)))?;
    converse(&socket, &mut std::io::stdout().lock())
}
