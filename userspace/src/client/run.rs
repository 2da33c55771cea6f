//! The client as a process: it gives the machine a clock, sockets, signals, a state file and a voice.

use std::{
    io::{self, Write},
    net::{Ipv6Addr, SocketAddrV6},
    process::ExitCode,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::{Handle, Signals},
};
use tracing::{debug, info, warn};

use super::{
    apply::{Applier, Scene},
    discovery, identify,
    lease::{Assignment, Lease},
    machine::{Action, Config, Loss, Note},
    messages::Sender,
    options::SoftwireSource,
    output::{Happening, Reading, Reporter},
    received::Received,
    servers::Servers,
    servers_file::ServersFile,
    session::{self, Event, Session, Source},
    sockets::{Heard, Route, Sockets},
    softwire,
    state::{SavedLease, State, StateFile},
    timers::Moment,
};
pub use super::{error::ClientError, options::Arguments};
use crate::{
    net::{link::Interface, sys::boottime},
    wire::dhcpv6::{OPTION_S46_BIND_PREFIX, OPTION_S46_BR},
};

/// Datagrams and signals that wait for the loop.
const QUEUE_LENGTH: usize = 64;

/// What reaches the loop from its threads.
enum Input {
    Heard(Heard),
    Signal(i32),
}

impl From<Heard> for Input {
    fn from(heard: Heard) -> Self {
        Input::Heard(heard)
    }
}

/// Whether the loop goes on.
enum Step {
    Continue,
    Exit(ExitCode),
}

/// Runs the client until a signal ends it or, with `--once`, until it has a lease. Prints leases to standard output
/// and logs through `tracing`.
pub fn run(arguments: &Arguments) -> Result<ExitCode, ClientError> {
    let (sender, inputs) = mpsc::sync_channel(QUEUE_LENGTH);
    let _signals = SignalThread::start(sender.clone())?;
    Client::new(arguments, sender, inputs, io::stdout())?.run()
}

/// The machine's clock and the wall clock.
fn read_clocks() -> Reading {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Reading { now: Moment(milliseconds(boottime())), unix_ms: milliseconds(unix) }
}

/// Turns signals into input. Ends when dropped.
struct SignalThread(Handle);

impl SignalThread {
    fn start(sender: SyncSender<Input>) -> Result<Self, ClientError> {
        let fail = |source| ClientError::System { what: "handling signals", source };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(fail)?;
        let handle = signals.handle();
        let forward = move || {
            for signal in signals.forever() {
                if sender.send(Input::Signal(signal)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(forward).map_err(fail)?;
        Ok(SignalThread(handle))
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// How far the client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The session has not begun.
    Waiting,
    /// It has, but there are no servers, or there is no way to them.
    Begun,
    /// Queries leave.
    Asking,
}

struct Client<'a, W> {
    arguments: &'a Arguments,
    who: Sender,
    file: Option<StateFile>,
    state: State,
    sockets: Sockets,
    /// Where DHCPv4 servers come from, if another program writes that down.
    servers_file: Option<ServersFile>,
    /// Whom queries go to.
    servers: Option<Servers>,
    /// Where queries leave from.
    sources: Vec<Ipv6Addr>,
    /// Where Information-requests leave from.
    link_local: Option<Ipv6Addr>,
    /// The interface's number and its addresses.
    index: u32,
    addresses: Vec<Ipv6Addr>,
    progress: Progress,
    /// What is in the way was said.
    complained: bool,
    sender: SyncSender<Input>,
    inputs: Receiver<Input>,
    reporter: Reporter<W>,
    applier: Applier,
    /// What else came with the last ACK.
    received: Received,
    /// When to give up; only until there is a lease.
    give_up_at: Option<Moment>,
    next_check: Moment,
    stopping: bool,
}

impl<'a, W: Write> Client<'a, W> {
    fn new(
        arguments: &'a Arguments,
        sender: SyncSender<Input>,
        inputs: Receiver<Input>,
        out: W,
    ) -> Result<Self, ClientError> {
        let interface = Interface::read(&arguments.interface)?;
        let file = arguments.state.as_deref().map(StateFile::new);
        let saved = file.as_ref().map(StateFile::read).transpose()?.flatten();
        let (who, state) = identify::identify(arguments, &interface, saved)?;
        // Now rather than after the first lease: a file that cannot be written is the operator's to mend.
        file.as_ref().map(|file| file.write(&state)).transpose()?;
        let now = read_clocks().now;
        Ok(Client {
            arguments,
            who,
            file,
            state,
            sockets: Sockets::new(&arguments.interface, arguments.port),
            servers_file: arguments.servers_file.as_deref().map(ServersFile::new),
            servers: None,
            sources: Vec::new(),
            link_local: None,
            index: interface.index,
            addresses: interface.addresses,
            progress: Progress::Waiting,
            complained: false,
            sender,
            inputs,
            reporter: Reporter::new(arguments.output, out),
            applier: Applier::start(&arguments.apply, &arguments.interface)?,
            received: Received::default(),
            give_up_at: arguments.timeout.map(|timeout| now.plus(timeout)),
            next_check: now,
            stopping: false,
        })
    }

    /// Where the servers come from.
    fn source(&self) -> Source {
        let arguments = self.arguments;
        if arguments.servers_file.is_some() {
            Source::Told
        } else if arguments.multicast || !arguments.servers.is_empty() {
            Source::Fixed(Servers::new(arguments.servers.iter().copied()))
        } else {
            let extra = if arguments.softwire_source.is_some() {
                vec![OPTION_S46_BR, OPTION_S46_BIND_PREFIX]
            } else {
                Vec::new()
            };
            let usual = discovery::Config::new(self.state.duid());
            Source::Discovery(discovery::Config { extra, ..usual })
        }
    }

    fn session(&self, at: Reading) -> Result<Session, ClientError> {
        let arguments = self.arguments;
        let saved = self.state.lease.as_ref();
        let softwire = arguments.softwire_source.map(|source| softwire::Config {
            source: match source {
                SoftwireSource::Auto => None,
                SoftwireSource::Address(address) => Some(address),
            },
            addresses: self.addresses.clone(),
            remembered: saved.and_then(SavedLease::softwire),
        });
        let machine = Config {
            mode: arguments.mode,
            full_first_tries: arguments.full_first_tries,
            requested_options: arguments.request_options.clone(),
            psid_length: arguments.psid_len,
            initial_delay: arguments.initial_delay.0.clone(),
            offer_wait: arguments.offer_wait(1),
            softwire,
            ..Config::new(self.who.clone())
        };
        let seed = getrandom::u64().map_err(|error| ClientError::System {
            what: "drawing random numbers",
            source: io::Error::other(error.to_string()),
        })?;
        let source = self.source();
        let config = session::Config { machine, source, on_loss: arguments.on_loss };
        Ok(Session::new(config, seed, at.now))
    }

    /// The loop.
    fn run(&mut self) -> Result<ExitCode, ClientError> {
        let mut session = self.session(read_clocks())?;
        loop {
            if let Step::Exit(code) = self.check(&mut session)? {
                return Ok(code);
            }
            let step = match self.wait(session.deadline())? {
                None => self.feed(&mut session, Event::Timer),
                Some(Input::Heard(Heard::Datagram(octets))) => {
                    self.feed(&mut session, Event::Datagram(&octets))
                }
                Some(Input::Heard(Heard::Failed(error))) => {
                    warn!("reading from the network: {error}; opening the sockets anew");
                    self.reopen();
                    Step::Continue
                }
                Some(Input::Signal(SIGUSR1)) => {
                    info!("asked to renew now");
                    self.feed(&mut session, Event::RenewNow)
                }
                Some(Input::Signal(_)) => self.stop(&mut session),
            };
            if let Step::Exit(code) = step {
                return Ok(code);
            }
        }
    }

    /// Waits for input until `deadline`, the next look at the addresses or the end of patience. `None`: it was time.
    fn wait(&self, deadline: Option<Moment>) -> Result<Option<Input>, ClientError> {
        let now = read_clocks().now;
        let give_up_at = self.give_up_at;
        if give_up_at.is_some_and(|moment| moment <= now) {
            let seconds = self.arguments.timeout.unwrap_or_default().as_secs_f64();
            return Err(ClientError::Timeout { seconds });
        }
        let until = [deadline, give_up_at].into_iter().flatten().fold(self.next_check, Moment::min);
        Ok(self.inputs.recv_timeout(until.since(now)).ok())
    }

    /// Gives the session an event and does what it asks for.
    fn feed(&mut self, session: &mut Session, event: Event<'_>) -> Step {
        let at = read_clocks();
        let mut actions = Vec::new();
        session.handle(at.now, event, &mut actions);
        let grants = |action: &Action| {
            matches!(action, Action::Obtained(_) | Action::Renewed(_) | Action::Changed { .. })
        };
        if let (Event::Datagram(octets), true) = (event, actions.iter().any(grants)) {
            self.received = Received::read(octets);
        }
        for action in actions {
            if let exit @ Step::Exit(_) = self.perform(&action, at) {
                return exit;
            }
        }
        Step::Continue
    }

    // req-C30 (RFC 7618 §7.1): these are all the addresses there are; without a lease there is none, and
    // none is made up.
    fn perform(&mut self, action: &Action, at: Reading) -> Step {
        match action {
            Action::Send(octets) => self.note_failures(self.sockets.send(octets)),
            Action::Inform(octets) => self.note_failures(self.sockets.inform(octets)),
            Action::Servers(servers) => self.follow_servers(servers.clone()),
            Action::NativeStop => self.report_native(true),
            Action::NativeStart => self.report_native(false),
            Action::Obtained(lease) => {
                self.give_up_at = None;
                self.keep(lease, at);
                self.follow(Happening::Obtained, lease, None, at);
                if self.arguments.once {
                    return Step::Exit(ExitCode::SUCCESS);
                }
            }
            Action::Renewed(lease) => {
                self.keep(lease, at);
                self.follow(Happening::Renewed, lease, None, at);
            }
            Action::Changed { from, to } => {
                self.keep(to, at);
                self.follow(Happening::Changed, to, Some(from.assignment), at);
            }
            Action::Lost(lease, loss) => {
                if matches!(loss, Loss::Released | Loss::Refused | Loss::OtherSoftwire) {
                    self.state.lease = None;
                    self.save();
                }
                self.follow(Happening::Lost(*loss), lease, None, at);
            }
            Action::Log(note) => log(note),
            Action::Stopped => return Step::Exit(self.code_without_lease()),
        }
        Step::Continue
    }

    fn note_failures(&mut self, failures: Vec<(SocketAddrV6, io::Error)>) {
        for (destination, error) in failures {
            // It is sent again in time. Perhaps the interface has other addresses now.
            warn!("sending to {destination}: {error}");
            self.next_check = Moment::default();
        }
    }

    fn follow_servers(&mut self, servers: Option<Servers>) {
        self.servers = servers;
        self.progress = Progress::Begun;
        self.complained = false;
        self.next_check = Moment::default();
    }

    fn report_native(&mut self, stops: bool) {
        self.applier.tell_native(stops);
        if let Err(error) = self.reporter.report_native(stops, &self.arguments.interface) {
            warn!("writing to standard output: {error}");
        }
    }

    /// Remembers a lease before anybody hears of it.
    fn keep(&mut self, lease: &Lease, at: Reading) {
        let sources = self.sources.clone();
        self.state.lease = Some(SavedLease::new(lease, at.unix_seconds(lease.began), sources));
        self.save();
    }

    fn save(&self) {
        // The lease is good without the file; only a restart would begin from nothing.
        if let Some(Err(error)) = self.file.as_ref().map(|file| file.write(&self.state)) {
            warn!("{error}");
        }
    }

    /// Brings the machine into accordance with the lease, and tells about it.
    fn follow(&mut self, what: Happening, lease: &Lease, former: Option<Assignment>, at: Reading) {
        self.applier.follow(&Scene { what, lease, former, received: &self.received, at });
        self.report(what, lease, at);
    }

    fn report(&mut self, what: Happening, lease: &Lease, at: Reading) {
        if let Err(error) = self.reporter.report(what, lease, &self.received, at) {
            warn!("writing to standard output: {error}");
        }
    }

    /// Ends the client, with a RELEASE unless that is not wanted. A second signal does not wait for it.
    fn stop(&mut self, session: &mut Session) -> Step {
        if self.stopping || self.arguments.no_release || self.arguments.once {
            return Step::Exit(self.code_without_lease());
        }
        self.stopping = true;
        self.feed(session, Event::Release)
    }

    /// To be ended by a signal is a success, unless a lease was all that was wanted.
    fn code_without_lease(&self) -> ExitCode {
        if self.arguments.once { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Routes for a person.
fn described(routes: &[Route]) -> String {
    let one = |route: &Route| format!("{} from {}", route.destination.ip(), route.source);
    routes.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn log(note: &Note) {
    match note {
        Note::Sending(_) | Note::Ignored(_) | Note::Throttled | Note::Discovery(_) => {
            debug!("{note}");
        }
        Note::Offered(_) | Note::NoAnswer | Note::AsksForSharing | Note::NotOffered => {
            info!("{note}");
        }
        Note::Refused | Note::Unacceptable | Note::Differs { .. } | Note::OtherSoftwire { .. } => {
            warn!("{note}");
        }
    }
}

mod look;

#[cfg(test)]
mod tests;
