//! How much memory a lease takes, and how long a server takes from its start to its first reply.

use std::{
    net::{SocketAddrV6, UdpSocket},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use portlease::wire::{dhcpv4::MessageType, dhcpv6::CLIENT_PORT};

use super::{
    contestant::{Contestant, Site, Who},
    disk,
    machine::Memory,
    measure::{self, Figures, Measured},
};
use crate::{
    daemon,
    error::{Doing as _, Result, RigError},
    interrupt,
    load::{Control, Load, Pace, Work},
    message::{Answer, Identity, Lease, Message},
    stage::{CLIENT, Stage},
    sys::{self, Binding},
};

/// Exchanges under way while leases are made.
const WINDOW: usize = 256;

/// How long the first reply may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// Time between two questions to a server that does not answer yet.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// How long memory is left alone before it is read: journal and sweep come to rest.
const SETTLE: Duration = Duration::from_secs(1);

/// Makes so many leases, reads the memory that they take, then kills the server and times its starts.
///
/// Each start is cold: the page cache is dropped, as after a start of the machine. Beside each the same files are read
/// from end to end by direct I/O. The server may use all cores. `each` gets the figures of every start.
pub fn restart(
    who: Who,
    leases: u32,
    starts: u32,
    mut each: impl FnMut(u32, Measured),
) -> Result<()> {
    let stage = Stage::new(1)?;
    let folder = daemon::folder_on_disk("rig-")?;
    let site = Site { stage: &stage, folder: folder.path(), clients: leases, core: None };
    let mut server = Contestant::start(who, site)?;
    let empty = Memory::of(server.account().processes())?;
    let known = fill(&stage, who, leases)?;
    thread::sleep(SETTLE);
    let full = Memory::of(server.account().processes())?;
    each(1, ("memory", memory_figures(leases, empty, full)));
    server.kill()?;
    drop(server);
    for start in 1..=starts {
        interrupt::check()?;
        let figures = one_start(&known, leases, site, &stage)?;
        each(start, ("restart", figures));
    }
    Ok(())
}

/// A lease that the server must know after each start.
struct Known {
    who: Who,
    identity: Identity,
    lease: Lease,
}

/// Gives every client a lease, and tells one of them.
fn fill(stage: &Stage, who: Who, leases: u32) -> Result<Known> {
    let options = measure::options(stage, who, leases, Pace::Closed { window: WINDOW });
    let mut load = stage.clients.enter(|| Load::new(options))??;
    let phase = crate::load::Phase { work: Work::New, exchanges: None, lasts: None };
    load.run(phase, &Control::default())?;
    let summary = load.summary();
    if summary.violated() || summary.leases < leases as usize * 99 / 100 {
        return Err(RigError::unexpected(format!("{who} did not lease to all:\n{summary}")));
    }
    let middle = load.leases().nth(summary.leases / 2);
    let (number, lease) =
        middle.ok_or_else(|| RigError::unexpected(format!("{who} has leased nothing")))?;
    Ok(Known { who, identity: Identity::new(measure::SEED, number), lease })
}

fn memory_figures(leases: u32, empty: Memory, full: Memory) -> Figures {
    let each = |octets: f64| octets / f64::from(leases);
    [
        ("leases", f64::from(leases)),
        ("resident", full.resident),
        ("resident_empty", empty.resident),
        ("octets_per_lease", each(full.resident)),
        ("proportional_octets_per_lease", each(full.proportional)),
        ("growth_octets_per_lease", each(full.resident - empty.resident)),
        ("huge_page_share", full.huge / full.resident.max(1.0)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn one_start(known: &Known, leases: u32, site: Site<'_>, stage: &Stage) -> Result<Figures> {
    let who = known.who;
    let files = lease_files(who, site)?;
    disk::forget_cached()?;
    let (read_s, octets) = disk::read_time(&files)?;
    disk::forget_cached()?;
    let began = Instant::now();
    let (first_reply_s, resident) = thread::scope(|scope| {
        let starter = scope.spawn(move || Contestant::spawn(who, site));
        let replied = stage.clients.enter(|| first_reply(known, stage.unicast(), began));
        let server = starter.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload));
        let mut server = server?;
        let replied = replied??;
        let resident = Memory::of(server.account().processes())?.resident;
        server.kill()?;
        Ok::<_, RigError>((replied.as_secs_f64(), resident))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "octets of files, far below 2^52")]
    let octets = octets as f64;
    Ok([
        ("leases", f64::from(leases)),
        ("first_reply_s", first_reply_s),
        ("direct_read_s", read_s),
        ("above_read_s", first_reply_s - read_s),
        ("file_octets", octets),
        ("resident", resident),
        ("octets_per_lease", resident / f64::from(leases)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into())
}

/// The files that hold the leases.
fn lease_files(who: Who, site: Site<'_>) -> Result<Vec<PathBuf>> {
    let files = match who {
        Who::Kea => disk::files_in(site.folder)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
            .collect(),
        _ => disk::files_in(&site.folder.join("store"))?,
    };
    Ok(files)
}

/// Has a client renew its lease until the server acknowledges just that; the time since `began`. Only who has recovered
/// the lease can.
fn first_reply(known: &Known, server: SocketAddrV6, began: Instant) -> Result<Duration> {
    let binding = Binding {
        address: SocketAddrV6::new(CLIENT, CLIENT_PORT, 0, 0),
        foreign: false,
        interface: None,
        receive_buffer: None,
    };
    let socket: UdpSocket = sys::udp_socket(&binding).doing("bind the asking socket")?;
    socket.set_read_timeout(Some(ASK_EVERY)).doing("set the time between questions")?;
    let &Known { who, identity, lease } = known;
    let renewal = Message::renew(&identity, 0x5151_5151, &lease);
    let renewal = if who.shares() { renewal } else { renewal.without_sharing() };
    let question = renewal.to_payload(&[]);
    let mut buffer = [0; 1500];
    while began.elapsed() < PATIENCE {
        interrupt::check()?;
        // A port that is closed as yet shows as an error of the next call.
        let _ = socket.send_to(&question, server);
        match socket.recv(&mut buffer) {
            Ok(length) => match Answer::read(&buffer[..length], |_| Some(identity)) {
                Some(answer)
                    if answer.kind == MessageType::Ack && answer.lease.tuple() == lease.tuple() =>
                {
                    return Ok(began.elapsed());
                }
                Some(answer) => {
                    return Err(RigError::unexpected(format!(
                        "{who} does not know the lease {lease:?} after a start: {answer:?}"
                    )));
                }
                None => {}
            },
            Err(error) if sys::would_block(&error) => thread::sleep(Duration::from_micros(200)),
            Err(error) => return Err(error).doing("wait for the first reply"),
        }
    }
    Err(RigError::unexpected(format!("no reply within {PATIENCE:?} of a start")))
}
