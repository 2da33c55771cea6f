//! What the [machine](super::machine) is told and what it says: its configuration, events and actions.

use std::{fmt, net::Ipv6Addr, ops::RangeInclusive, time::Duration};

use super::{
    choose::{Mode, Offer},
    discovery,
    lease::{Assignment, Lease},
    messages::{Purpose, Sender},
    replies::Ignored,
    servers::Servers,
    softwire,
};

/// How the client behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub sender: Sender,
    /// What kind of address it wants.
    pub mode: Mode,
    /// DISCOVERs without option 159 that nobody answers before one with it, in [`Mode::FullFirst`].
    pub full_first_tries: u32,
    /// The PSID length that it would like, 1 to 16. Servers need not heed it.
    pub psid_length: Option<u8>,
    /// Options to ask for besides those that every client asks for (option 55). What comes is in
    /// [`Received`](super::received::Received).
    pub requested_options: Vec<u8>,
    /// Datagrams that one transmission takes: one a server, or one to the multicast group.
    pub destinations: u32,
    /// Bounds of the random wait before the first DISCOVER (RFC 2131 §4.4.1: 1 to 10 seconds).
    pub initial_delay: RangeInclusive<Duration>,
    /// How long better offers are waited for after the first.
    pub offer_wait: Duration,
    /// How a softwire's end is agreed on (RFC 8539); `None` does not speak of it.
    pub softwire: Option<softwire::Config>,
}

impl Config {
    /// What the RFCs recommend, for this client and one server.
    pub fn new(sender: Sender) -> Self {
        Config {
            sender,
            mode: Mode::default(),
            full_first_tries: FULL_FIRST_TRIES,
            psid_length: None,
            requested_options: Vec::new(),
            destinations: 1,
            // req-C36 (RFC 2131 §4.4.1): one to ten seconds, at random.
            initial_delay: Duration::from_secs(1)..=Duration::from_secs(10),
            offer_wait: Duration::from_secs(1),
            softwire: None,
        }
    }
}

/// The usual [`Config::full_first_tries`]: 12 seconds without an answer.
pub const FULL_FIRST_TRIES: u32 = 2;

/// What the client remembers of its last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Memory {
    /// Nothing: it starts with a plain DISCOVER.
    #[default]
    Nothing,
    /// What it would like to have, again perhaps: its DISCOVER asks for it.
    Wish(Assignment),
    /// A lease that goes on, at an unchanged IPv6 source: it starts in INIT-REBOOT.
    Lease(Assignment),
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
    /// Give the lease back and stop.
    Release,
    /// Extend the lease now.
    RenewNow,
    /// The IPv6 source address of the queries is another one now (RFC 7618 §7).
    SourceChanged,
    /// The interface has these addresses now, in order of preference: one of them may be the
    /// softwire's (RFC 8539 §7.2).
    Addresses(&'a [Ipv6Addr]),
    /// A transmission takes so many datagrams now. A machine that was [disabled](Event::Disabled)
    /// goes on.
    Enabled(u32),
    /// There are no servers any more: nothing may be sent (RFC 7341 §9).
    Disabled(OnLoss),
}

/// What becomes of a lease when the network no longer offers DHCPv4 over DHCPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnLoss {
    /// It is over at once.
    Now,
    /// It is used until it ends, and not extended.
    #[default]
    LeaseEnd,
}

/// What the driver has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there are a handful a minute, and none is kept")]
pub enum Action {
    /// Send this UDP payload once to every destination.
    Send(Vec<u8>),
    /// There is a lease: use it.
    Obtained(Lease),
    /// The lease goes on.
    Renewed(Lease),
    /// The lease goes on with other ports or through another softwire: flush whatever depends on the
    /// former ones.
    ///
    /// req-C38 (RFC 7596 §5.1): translations of the former ports are of no more use.
    Changed {
        /// Until now.
        from: Lease,
        /// From now on.
        to: Lease,
    },
    /// The lease is over: stop using it at once.
    Lost(Lease, Loss),
    /// Something to log.
    Log(Note),
    /// The machine has stopped. Nothing follows.
    Stopped,
    /// Send this UDP payload, an Information-request, once to `ff02::1:2` from a link-local address.
    /// Only a [session](super::session) asks for it, and for the three that follow.
    Inform(Vec<u8>),
    /// Queries go to these servers from now on; to none, if there are none. Whoever drives the session
    /// says [`Reachable`](super::session::Event::Reachable) when there is a way to them.
    Servers(Option<Servers>),
    /// The network offers DHCPv4 over DHCPv6: plain DHCPv4 on this interface has to stop, and what it
    /// configured to go (RFC 7341 §9). Its lease may be released.
    NativeStop,
    /// The network does not offer it any more: plain DHCPv4 may start again.
    NativeStart,
}

/// Why a lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nobody extended it in time.
    Expired,
    /// A server refused to extend it.
    Refused,
    /// The IPv6 source address changed.
    SourceChanged,
    /// It was given back.
    Released,
    /// The network no longer offers DHCPv4 over DHCPv6.
    Withdrawn,
    /// The server keeps another softwire address for it than the client uses: it is given back.
    OtherSoftwire,
}

/// Worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A message leaves.
    Sending(Purpose),
    /// A datagram was no answer.
    Ignored(Ignored),
    /// An offer is weighed.
    Offered(Offer),
    /// A transmission waits, because the rate limit is reached.
    Throttled,
    /// A REQUEST was repeated as often as it may be: the client starts again.
    NoAnswer,
    /// A server refused a REQUEST: the client starts again.
    Refused,
    /// An ACK cannot be used: the client starts again after a while.
    Unacceptable,
    /// An ACK gives other ports than were asked for. It counts.
    Differs {
        /// What was asked for.
        requested: Assignment,
        /// What the ACK says.
        acknowledged: Assignment,
    },
    /// An ACK gives another softwire address than was asked for: it is asked for again later.
    OtherSoftwire {
        /// What was asked for.
        requested: Ipv6Addr,
        /// What the ACK says.
        acknowledged: Ipv6Addr,
    },
    /// Nobody answers a client that knows nothing of sharing: option 159 is asked for now.
    AsksForSharing,
    /// The network does not offer DHCPv4 over DHCPv6: no query is sent.
    NotOffered,
    /// About the search for servers.
    Discovery(discovery::Note),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Sending(purpose) => write!(f, "sending {purpose}"),
            Note::Ignored(reason) => write!(f, "ignoring a datagram: {reason}"),
            Note::Offered(offer) => write!(f, "{} offers {}", offer.server_id, offer.assignment),
            Note::Throttled => f.write_str("the rate limit is reached: waiting"),
            Note::NoAnswer => f.write_str("no answer to the REQUEST: starting again"),
            Note::Refused => f.write_str("the REQUEST was refused: starting again"),
            Note::Unacceptable => f.write_str(
                "the ACK is not for what was asked for and cannot be used: starting again in a while",
            ),
            Note::Differs { requested, acknowledged } => {
                write!(f, "the ACK is for {acknowledged} in place of {requested}: using that")
            }
            Note::OtherSoftwire { requested, acknowledged } => write!(
                f,
                "the server keeps softwire address {acknowledged} in place of {requested}: asking \
                 again in a while"
            ),
            Note::AsksForSharing => f.write_str("no whole address is offered: asking for shared ones"),
            Note::NotOffered => {
                f.write_str("the network offers no DHCP 4o6 servers (option 88): not asking for IPv4")
            }
            Note::Discovery(note) => write!(f, "{note}"),
        }
    }
}
