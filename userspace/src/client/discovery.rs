//! Finding the servers by stateless DHCPv6 (RFC 7341 §5, §9; RFC 8415 §18.2.6), without I/O: an
//! Information-request that asks for option 88, and again when what was learned is too old.
//!
//! Like the [machine](super::machine) it knows no socket and no clock: whoever drives it says what
//! time it is, wakes it at [`Discovery::deadline`] and does what it asks for.

use std::{fmt, time::Duration};

use super::{
    servers::Servers,
    timers::{Moment, between},
};
use crate::wire::{
    Malformed,
    dhcpv6::{
        self, OPTION_4O6_SERVER, OPTION_CLIENT_ID, OPTION_ELAPSED_TIME, OPTION_INF_MAX_RT,
        OPTION_INFORMATION_REFRESH_TIME, OPTION_REQUEST, OPTION_SERVER_ID, OPTION_STATUS_CODE,
        Reply,
    },
    writer::Writer,
};

/// The longest random wait before a first Information-request (RFC 8415 §7.6, `INF_MAX_DELAY`).
pub const FIRST_DELAY_MAX: Duration = Duration::from_secs(1);

/// The wait for a Reply to the first transmission (RFC 8415 §7.6, `INF_TIMEOUT`).
const TIMEOUT: Duration = Duration::from_secs(1);

/// The longest wait between transmissions unless a server says otherwise (`INF_MAX_RT`).
const TIMEOUT_MAX: Duration = Duration::from_hours(1);

/// What a server may say that it is, in seconds (RFC 8415 §21.25).
const TIMEOUT_MAX_RANGE: std::ops::RangeInclusive<u32> = 60..=86_400;

/// After how many seconds to ask again if the server does not say it (RFC 8415 §7.6,
/// `IRT_DEFAULT`).
const REFRESH_DEFAULT: u32 = 86_400;

/// The least that a server can ask for (RFC 8415 §7.6, `IRT_MINIMUM`).
const REFRESH_MIN: u32 = 600;

/// What a server says that need not be asked again.
const REFRESH_NEVER: u32 = u32::MAX;

/// How long an answer with option 88 is waited for after one without it: several DHCPv6 servers may
/// be on a link, and not all of them know.
pub const REPLY_WAIT: Duration = Duration::from_secs(1);

/// Room for an Information-request: the longest DUID and 64 codes.
const BUFFER_LENGTH: usize = 512;

/// The most additional options that are asked for.
const EXTRA_MAX: usize = 32;

/// How to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The client's DUID, 3 to 130 octets; `None` asks anonymously (RFC 8415 §18.2.6 allows it).
    pub duid: Option<Vec<u8>>,
    /// Codes of options to ask for besides 88, 32 and 83; 32 at most.
    pub extra: Vec<u16>,
    /// How long an answer with option 88 is waited for after one without it.
    pub reply_wait: Duration,
    /// The longest random wait before the first transmission.
    pub first_delay_max: Duration,
}

impl Config {
    /// What RFC 8415 says, for this client.
    pub fn new(duid: Option<Vec<u8>>) -> Self {
        Config { duid, extra: Vec::new(), reply_wait: REPLY_WAIT, first_delay_max: FIRST_DELAY_MAX }
    }
}

/// What a Reply said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Information {
    /// Option 88. `None`: DHCPv4 over DHCPv6 is not to be used.
    pub servers: Option<Servers>,
    /// Code and content of the options of [`Config::extra`] that came, in order.
    pub extra: Vec<(u16, Vec<u8>)>,
    /// After how long it is asked for again; `None` is never.
    pub refresh: Option<Duration>,
}

/// What happens to the machine.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Begin.
    Start,
    /// A UDP payload came in.
    Datagram(&'a [u8]),
    /// The deadline has come. Early or superfluous calls do no harm.
    Timer,
    /// The client may be on another link: ask again now (RFC 8415 §18.2.12).
    Again,
}

/// What the driver has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this UDP payload to `ff02::1:2`, port 547, from a link-local address and port 546.
    Send(Vec<u8>),
    /// A server has answered. This replaces whatever was learned before.
    Learned(Information),
    /// Something to log.
    Log(Note),
}

/// Worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// An Information-request leaves.
    Asking,
    /// A datagram was no answer.
    Ignored(Ignored),
    /// A Reply without option 88, or with one that cannot be read: another one is waited for.
    NoServers,
}

/// Why a datagram was not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// It is not a Reply.
    Malformed(Malformed),
    /// It is for a relay.
    Relayed,
    /// Nothing is asked for at present, or something else.
    OtherTransaction,
    /// No server says that it sent it (RFC 8415 §16.10).
    NoServerId,
    /// It is for another client (RFC 8415 §16.10).
    OtherClient,
    /// The server could not answer; this is its status (RFC 8415 §21.13).
    Status(u16),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Asking => f.write_str("sending Information-request"),
            Note::Ignored(reason) => write!(f, "ignoring a DHCPv6 message: {reason}"),
            Note::NoServers => f.write_str("a DHCPv6 server knows no DHCP 4o6 servers (option 88)"),
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::Malformed(malformed) => write!(f, "malformed: {malformed}"),
            Ignored::Relayed => f.write_str("a Relay-reply"),
            Ignored::OtherTransaction => f.write_str("another transaction"),
            Ignored::NoServerId => f.write_str("no server identifier"),
            Ignored::OtherClient => f.write_str("another client's identifier"),
            Ignored::Status(code) => write!(f, "the server reports status {code}"),
        }
    }
}

/// An Information-request that waits for its Reply.
#[derive(Clone, Debug)]
struct Exchange {
    transaction: [u8; 3],
    /// First transmission; `None` before it.
    began: Option<Moment>,
    /// The wait that follows the latest transmission.
    timeout: Duration,
    transmit_at: Moment,
    /// An answer without option 88, and until when a better one is waited for.
    poor: Option<(Information, Moment)>,
}

#[derive(Clone, Debug)]
enum Phase {
    Idle,
    Asking(Exchange),
    /// `None`: what is known is good for ever.
    Settled {
        refresh_at: Option<Moment>,
    },
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Discovery {
    config: Config,
    phase: Phase,
    timeout_max: Duration,
    random: fastrand::Rng,
}

impl Discovery {
    /// A machine that waits for [`Event::Start`]. `seed` makes its transactions and delays.
    pub fn new(config: Config, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Discovery { config, phase: Phase::Idle, timeout_max: TIMEOUT_MAX, random }
    }

    /// When [`Event::Timer`] is due; `None`: not before something else happens.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Asking(Exchange { poor: Some((_, until)), .. }) => Some(*until),
            Phase::Asking(exchange) => Some(exchange.transmit_at),
            Phase::Settled { refresh_at } => *refresh_at,
        }
    }

    /// Whether the next [`Event::Timer`] that is due sends something.
    pub(super) fn is_to_send(&self) -> bool {
        matches!(&self.phase, Phase::Asking(Exchange { poor: None, .. }))
    }

    /// Takes an event in and appends what is to be done. `now` never goes back from call to call.
    pub fn handle(&mut self, now: Moment, event: Event<'_>, actions: &mut Vec<Action>) {
        match event {
            Event::Start if matches!(self.phase, Phase::Idle) => self.ask(now),
            Event::Again if !matches!(self.phase, Phase::Idle) => self.ask(now),
            Event::Start | Event::Again => {}
            Event::Timer => self.advance(now, actions),
            Event::Datagram(octets) => {
                if let Err(reason) = self.receive(now, octets, actions) {
                    actions.push(Action::Log(Note::Ignored(reason)));
                }
            }
        }
    }

    /// Begins to ask, after a random wait (RFC 8415 §18.2.6: MUST, so that a link that comes up does
    /// not hear all its clients at once).
    fn ask(&mut self, now: Moment) {
        let delay = between(Duration::ZERO, self.config.first_delay_max, &mut self.random);
        let [_, transaction @ ..] = self.random.u32(..).to_be_bytes();
        self.phase = Phase::Asking(Exchange {
            transaction,
            began: None,
            timeout: Duration::ZERO,
            transmit_at: now.plus(delay),
            poor: None,
        });
    }

    fn advance(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match &mut self.phase {
            Phase::Idle => {}
            // req-C12 (RFC 7341 §9): what stateless DHCPv6 said is asked for again in time.
            Phase::Settled { .. } => self.ask(now),
            Phase::Asking(exchange) => match exchange.poor.take() {
                Some((information, _)) => self.settle(now, information, actions),
                None => self.transmit(now, actions),
            },
        }
    }

    fn transmit(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Asking(exchange) = &mut self.phase else { return };
        let first = exchange.began.is_none();
        let began = *exchange.began.get_or_insert(now);
        // RFC 8415 §15: 1 s, then twice as long each time, never much longer than the longest.
        let nominal = if first { TIMEOUT } else { exchange.timeout.saturating_mul(2) };
        let nominal = if first { nominal } else { nominal.min(self.timeout_max) };
        exchange.timeout = between(nominal * 9 / 10, nominal * 11 / 10, &mut self.random);
        exchange.transmit_at = now.plus(exchange.timeout);
        let hundredths = u16::try_from(now.since(began).as_millis() / 10).unwrap_or(u16::MAX);
        let octets = compose(&self.config, exchange.transaction, hundredths);
        actions.push(Action::Log(Note::Asking));
        actions.push(Action::Send(octets));
    }

    fn receive(
        &mut self,
        now: Moment,
        octets: &[u8],
        actions: &mut Vec<Action>,
    ) -> Result<(), Ignored> {
        let reply = Reply::parse(octets).map_err(Ignored::Malformed)?;
        let Phase::Asking(exchange) = &mut self.phase else {
            return Err(Ignored::OtherTransaction);
        };
        if exchange.began.is_none() || reply.transaction != exchange.transaction {
            return Err(Ignored::OtherTransaction);
        }
        check(&self.config, &reply)?;
        if let Some(limit) = number(&reply, OPTION_INF_MAX_RT)
            && TIMEOUT_MAX_RANGE.contains(&limit)
        {
            self.timeout_max = Duration::from_secs(limit.into());
        }
        let information = read(&self.config, &reply);
        if information.servers.is_some() || self.config.reply_wait.is_zero() {
            self.settle(now, information, actions);
        } else {
            actions.push(Action::Log(Note::NoServers));
            exchange.poor.get_or_insert((information, now.plus(self.config.reply_wait)));
        }
        Ok(())
    }

    fn settle(&mut self, now: Moment, information: Information, actions: &mut Vec<Action>) {
        let refresh_at = information.refresh.map(|refresh| now.plus(refresh));
        self.phase = Phase::Settled { refresh_at };
        actions.push(Action::Learned(information));
    }
}

/// Whether a Reply to our transaction may be believed (RFC 8415 §16.10).
fn check(config: &Config, reply: &Reply<'_>) -> Result<(), Ignored> {
    if !reply.relays.is_empty() {
        return Err(Ignored::Relayed);
    }
    if reply.option(OPTION_SERVER_ID).is_none_or(<[u8]>::is_empty) {
        return Err(Ignored::NoServerId);
    }
    if reply.option(OPTION_CLIENT_ID) != config.duid.as_deref() {
        return Err(Ignored::OtherClient);
    }
    let status = reply.option(OPTION_STATUS_CODE).and_then(<[u8]>::first_chunk);
    match status.map_or(0, |code| u16::from_be_bytes(*code)) {
        0 => Ok(()),
        code => Err(Ignored::Status(code)),
    }
}

/// The value of an option of four octets.
fn number(reply: &Reply<'_>, code: u16) -> Option<u32> {
    reply.option(code).and_then(|content| content.try_into().ok()).map(u32::from_be_bytes)
}

fn read(config: &Config, reply: &Reply<'_>) -> Information {
    let refresh = number(reply, OPTION_INFORMATION_REFRESH_TIME).unwrap_or(REFRESH_DEFAULT);
    let wanted = |&(code, _): &(u16, &[u8])| config.extra.contains(&code);
    Information {
        servers: reply.option(OPTION_4O6_SERVER).and_then(Servers::parse),
        extra: reply
            .options()
            .filter(wanted)
            .map(|(code, content)| (code, content.to_vec()))
            .collect(),
        refresh: (refresh != REFRESH_NEVER)
            .then(|| Duration::from_secs(refresh.max(REFRESH_MIN).into())),
    }
}

/// The whole Information-request: the payload of one UDP datagram. `hundredths` is the time since the
/// first transmission in hundredths of a second.
fn compose(config: &Config, transaction: [u8; 3], hundredths: u16) -> Vec<u8> {
    let mut buffer = [0; BUFFER_LENGTH];
    let mut w = Writer::new(&mut buffer);
    let envelope = dhcpv6::begin_information_request(&mut w, &[], transaction);
    if let Some(duid) = &config.duid {
        dhcpv6::put_option(&mut w, OPTION_CLIENT_ID, duid);
    }
    dhcpv6::put_option(&mut w, OPTION_ELAPSED_TIME, &hundredths.to_be_bytes());
    // req-C1 (RFC 7341 §5): every Information-request asks for option 88.
    let usual = [OPTION_4O6_SERVER, OPTION_INFORMATION_REFRESH_TIME, OPTION_INF_MAX_RT];
    let codes = usual.iter().chain(config.extra.iter().take(EXTRA_MAX));
    let list: Vec<u8> = codes.flat_map(|code| code.to_be_bytes()).collect();
    dhcpv6::put_option(&mut w, OPTION_REQUEST, &list);
    envelope.finish(&mut w);
    w.written().to_vec()
}
