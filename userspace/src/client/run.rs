//! The client as a process: it gives the machine a clock, sockets, signals, a state file and a voice.

use std::{
    io::{self, Write},
    net::Ipv6Addr,
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

pub use super::{error::ClientError, options::Arguments};
use super::{
    identify,
    lease::Lease,
    machine::{Action, Config, Event, Loss, Machine, Note},
    messages::Sender,
    output::{Happening, Reading, Reporter},
    sockets::{self, Heard, Route, Sockets},
    state::{SavedLease, State, StateFile},
    timers::Moment,
};
use crate::net::{link::Interface, sys::boottime};

/// How often the addresses of the interface are looked at.
const SOURCE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The same as long as there is none to send from.
const SOURCE_WAIT_INTERVAL: Duration = Duration::from_millis(200);

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

struct Client<'a, W> {
    arguments: &'a Arguments,
    who: Sender,
    file: Option<StateFile>,
    state: State,
    sockets: Sockets,
    /// Where queries leave from.
    sources: Vec<Ipv6Addr>,
    /// Whether the present routes are all there; while they are not, that was said once.
    reachable: bool,
    sender: SyncSender<Input>,
    inputs: Receiver<Input>,
    reporter: Reporter<W>,
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
            sockets: Sockets::new(arguments.port),
            sources: Vec::new(),
            reachable: true,
            sender,
            inputs,
            reporter: Reporter::new(arguments.output, out),
            give_up_at: arguments.timeout.map(|timeout| now.plus(timeout)),
            next_check: now.plus(SOURCE_CHECK_INTERVAL),
            stopping: false,
        })
    }

    fn run(&mut self) -> Result<ExitCode, ClientError> {
        match self.wait_for_source()? {
            Step::Exit(code) => Ok(code),
            Step::Continue => self.converse(),
        }
    }

    /// The present routes. `None` as long as there is no source address for all of them.
    fn routes(&self) -> Result<Option<Vec<Route>>, ClientError> {
        let interface = Interface::read(&self.arguments.interface)?;
        let arguments = self.arguments;
        Ok(sockets::routes(&interface, &arguments.servers, arguments.server_port))
    }

    /// Waits until the interface has an address to send from, and opens the sockets.
    fn wait_for_source(&mut self) -> Result<Step, ClientError> {
        loop {
            if let Some(routes) = self.routes()? {
                info!("asking {}", described(&routes));
                self.sources = sockets::sources(&routes);
                self.sockets.follow(routes, &self.sender)?;
                self.reachable = true;
                return Ok(Step::Continue);
            }
            if self.reachable {
                info!("waiting for an IPv6 address on {} to send from", self.arguments.interface);
                self.reachable = false;
            }
            let retry_at = read_clocks().now.plus(SOURCE_WAIT_INTERVAL);
            match self.wait(Some(retry_at))? {
                Some(Input::Signal(SIGINT | SIGTERM)) => {
                    return Ok(Step::Exit(self.code_without_lease()));
                }
                Some(Input::Signal(_) | Input::Heard(_)) | None => {}
            }
        }
    }

    fn machine(&self, at: Reading) -> Result<Machine, ClientError> {
        let destinations = u32::try_from(self.sockets.routes().len()).unwrap_or(u32::MAX);
        let config = Config {
            sender: self.who.clone(),
            mode: self.arguments.mode,
            psid_length: self.arguments.psid_len,
            destinations,
            initial_delay: self.arguments.initial_delay.0.clone(),
            offer_wait: self.arguments.offer_wait(destinations),
        };
        let memory = self.state.memory(self.arguments.request, &self.sources, at.unix_ms / 1000);
        let seed = getrandom::u64().map_err(|error| ClientError::System {
            what: "drawing random numbers",
            source: io::Error::other(error.to_string()),
        })?;
        Ok(Machine::new(config, memory, seed, at.now))
    }

    /// The loop.
    fn converse(&mut self) -> Result<ExitCode, ClientError> {
        let mut machine = self.machine(read_clocks())?;
        let mut step = self.feed(&mut machine, Event::Start);
        loop {
            if let Step::Exit(code) = step {
                return Ok(code);
            }
            if let Step::Exit(code) = self.check_source(&mut machine) {
                return Ok(code);
            }
            step = match self.wait(machine.deadline())? {
                None => self.feed(&mut machine, Event::Timer),
                Some(Input::Heard(Heard::Datagram(octets))) => {
                    self.feed(&mut machine, Event::Datagram(&octets))
                }
                Some(Input::Heard(Heard::Failed(error))) => {
                    warn!("reading from the network: {error}; opening the sockets anew");
                    self.sockets.close();
                    self.next_check = Moment::default();
                    Step::Continue
                }
                Some(Input::Signal(SIGUSR1)) => {
                    info!("asked to renew now");
                    self.feed(&mut machine, Event::RenewNow)
                }
                Some(Input::Signal(_)) => self.stop(&mut machine),
            };
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

    /// Gives the machine an event and does what it asks for.
    fn feed(&mut self, machine: &mut Machine, event: Event<'_>) -> Step {
        let at = read_clocks();
        let mut actions = Vec::new();
        machine.handle(at.now, event, &mut actions);
        for action in actions {
            if let exit @ Step::Exit(_) = self.perform(&action, at) {
                return exit;
            }
        }
        Step::Continue
    }

    fn perform(&mut self, action: &Action, at: Reading) -> Step {
        match action {
            Action::Send(octets) => self.send(octets),
            Action::Obtained(lease) => {
                self.give_up_at = None;
                self.keep(lease, at);
                self.report(Happening::Obtained, lease, at);
                if self.arguments.once {
                    return Step::Exit(ExitCode::SUCCESS);
                }
            }
            Action::Renewed(lease) => {
                self.keep(lease, at);
                self.report(Happening::Renewed, lease, at);
            }
            Action::Changed { to, .. } => {
                self.keep(to, at);
                self.report(Happening::Changed, to, at);
            }
            Action::Lost(lease, loss) => {
                if matches!(loss, Loss::Released | Loss::Refused) {
                    self.state.lease = None;
                    self.save();
                }
                self.report(Happening::Lost(*loss), lease, at);
            }
            Action::Log(note) => log(note),
            Action::Stopped => return Step::Exit(self.code_without_lease()),
        }
        Step::Continue
    }

    fn send(&mut self, octets: &[u8]) {
        for (destination, error) in self.sockets.send(octets) {
            // It is sent again in time. Perhaps the interface has other addresses now.
            warn!("sending to {destination}: {error}");
            self.next_check = Moment::default();
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

    fn report(&mut self, what: Happening, lease: &Lease, at: Reading) {
        if let Err(error) = self.reporter.report(what, lease, at) {
            warn!("writing to standard output: {error}");
        }
    }

    /// Ends the client, with a RELEASE unless that is not wanted. A second signal does not wait for it.
    fn stop(&mut self, machine: &mut Machine) -> Step {
        if self.stopping || self.arguments.no_release || self.arguments.once {
            return Step::Exit(self.code_without_lease());
        }
        self.stopping = true;
        self.feed(machine, Event::Release)
    }

    /// To be ended by a signal is a success, unless a lease was all that was wanted.
    fn code_without_lease(&self) -> ExitCode {
        if self.arguments.once { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    /// Looks whether queries still leave from the same address (RFC 7618 §7).
    fn check_source(&mut self, machine: &mut Machine) -> Step {
        let now = read_clocks().now;
        if now < self.next_check {
            return Step::Continue;
        }
        self.next_check = now.plus(SOURCE_CHECK_INTERVAL);
        match self.renew_routes() {
            Ok(true) => {
                info!("queries leave by another address now: {}", described(self.sockets.routes()));
                self.feed(machine, Event::SourceChanged)
            }
            Ok(false) => Step::Continue,
            Err(error) => {
                if self.reachable {
                    warn!("{error}; waiting for it to pass");
                    self.reachable = false;
                }
                Step::Continue
            }
        }
    }

    /// Finds the present routes and follows them. Returns whether they begin at another address than before. An
    /// address that is gone is missed only when another has come: interfaces go down and come up again.
    fn renew_routes(&mut self) -> Result<bool, ClientError> {
        let Some(routes) = self.routes()? else {
            let interface = self.arguments.interface.clone();
            return Err(ClientError::NoSource { interface });
        };
        let sources = sockets::sources(&routes);
        self.sockets.follow(routes, &self.sender)?;
        if !self.reachable {
            info!("asking {}", described(self.sockets.routes()));
            self.reachable = true;
        }
        let changed = self.sources != sources;
        self.sources = sources;
        Ok(changed)
    }
}

/// Routes for a person.
fn described(routes: &[Route]) -> String {
    let one = |route: &Route| format!("{} from {}", route.destination.ip(), route.source);
    routes.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn log(note: &Note) {
    match note {
        Note::Sending(_) | Note::Ignored(_) | Note::Throttled => debug!("{note}"),
        Note::Offered(_) | Note::NoAnswer => info!("{note}"),
        Note::Refused | Note::Unacceptable | Note::Differs { .. } => warn!("{note}"),
    }
}

#[cfg(test)]
mod tests;
