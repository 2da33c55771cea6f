//! The command line of `portlease client`.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use super::{
    apply::ApplyArguments,
    choose::Mode,
    identity,
    lease::Assignment,
    machine::{FULL_FIRST_TRIES, OnLoss},
    output::Format,
};
use crate::wire::{
    dhcpv6::{CLIENT_PORT, SERVER_PORT},
    portparams::PortParams,
};

/// How long better offers are waited for if one server is asked.
const OFFER_WAIT_ONE: Duration = Duration::from_secs(1);

/// The same if several are.
const OFFER_WAIT_SEVERAL: Duration = Duration::from_secs(3);

/// Obtains, keeps and releases an IPv4 address, shared or whole, over IPv6.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Arguments {
    // req-X7 (RFC 7341 §12): only there, because whoever answers there can switch IPv4 on and off.
    /// Interface to speak on: one that leads to the operator, for whoever answers there decides over IPv4
    #[arg(long, value_name = "NAME")]
    pub interface: String,

    /// IPv6 address of a server; may be repeated. Without this and the two that follow, the network is asked for
    /// its servers by stateless DHCPv6 (option 88)
    #[arg(long = "server", value_name = "ADDRESS", group = "source")]
    pub servers: Vec<Ipv6Addr>,

    /// Ask all servers on the link by multicast
    #[arg(long, group = "source")]
    pub multicast: bool,

    /// File with the addresses of option 88 as another DHCPv6 client received it, one a line: read again when it
    /// changes. Without an address, option 88 is absent; `multicast` is an option without addresses
    #[arg(long, value_name = "FILE", group = "source")]
    pub servers_file: Option<PathBuf>,

    /// What becomes of a lease when the network offers no servers any more
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub on_loss: OnLoss,

    /// Obtain a lease, print it and exit without giving it back
    #[arg(long)]
    pub once: bool,

    /// Give up and exit with an error if there is no lease after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Do not give the lease back at exit
    #[arg(long)]
    pub no_release: bool,

    /// Which kind of address to take
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,

    /// With --mode full-first: messages without option 159 that nobody answers before one with it
    #[arg(long, value_name = "N", default_value_t = FULL_FIRST_TRIES,
          value_parser = clap::value_parser!(u32).range(1..=20))]
    pub full_first_tries: u32,

    /// Agree with the server on the address at which the softwire starts (RFC 8539): `auto` takes one of the
    /// interface's, by the prefix that the server names
    #[arg(long, value_name = "auto|ADDRESS", value_parser = softwire_source)]
    pub softwire_source: Option<SoftwireSource>,

    /// Ask for a port set of this PSID length
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub psid_len: Option<u8>,

    /// Ask for this DHCPv4 option too, by its number; may be repeated. What comes is in the JSON output and in the
    /// script's environment
    #[arg(long = "request-option", value_name = "CODE", value_parser = option_code)]
    pub request_options: Vec<u8>,

    /// Ask for this address, or for this port set of it: ADDRESS[/PSID/LENGTH[/OFFSET]]
    #[arg(long, value_name = "ADDRESS[/…]", value_parser = assignment)]
    pub request: Option<Assignment>,

    /// Client identifier (option 61), in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = octets, conflicts_with_all = ["duid", "iaid"])]
    pub client_id: Option<Octets>,

    /// DUID in hexadecimal, in place of one made from the interface's address
    #[arg(long, value_name = "HEX", value_parser = octets)]
    pub duid: Option<Octets>,

    /// IAID, in place of one made from the interface's address
    #[arg(long, value_name = "NUMBER")]
    pub iaid: Option<u32>,

    /// Be another client each time: a random identifier, no hardware address (RFC 7844)
    #[arg(long, conflicts_with_all = ["client_id", "duid", "iaid", "state"])]
    pub anonymous: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,

    /// File that keeps identity and lease over a restart
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Random wait before the first message, in seconds: MIN-MAX or a single number
    #[arg(long, value_name = "SECONDS", value_parser = delay, default_value = "1-10")]
    pub initial_delay: Delay,

    /// How long to wait for better offers after the first, in seconds [default: 1, or 3 with several servers]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub offer_wait: Option<Duration>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment would become the help of the arguments")]
    pub apply: ApplyArguments,

    /// UDP port to speak from; servers answer to 546 unless they are told otherwise
    #[arg(long, value_name = "PORT", default_value_t = CLIENT_PORT, hide_short_help = true)]
    pub port: u16,

    /// UDP port of the servers
    #[arg(long, value_name = "PORT", default_value_t = SERVER_PORT, hide_short_help = true)]
    pub server_port: u16,
}

impl Arguments {
    /// How long better offers are waited for.
    pub(super) fn offer_wait(&self, destinations: u32) -> Duration {
        let usual = if destinations > 1 { OFFER_WAIT_SEVERAL } else { OFFER_WAIT_ONE };
        self.offer_wait.unwrap_or(usual)
    }
}

/// How the client's end of the softwire is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftwireSource {
    /// One of the interface's addresses.
    Auto,
    /// This one.
    Address(Ipv6Addr),
}

fn softwire_source(text: &str) -> Result<SoftwireSource, String> {
    if text == "auto" {
        return Ok(SoftwireSource::Auto);
    }
    let address = text.parse::<Ipv6Addr>().ok();
    let is_usable = |address: &Ipv6Addr| !(address.is_multicast() || address.is_unspecified());
    let address = address.filter(is_usable).ok_or("expected `auto` or an IPv6 address")?;
    Ok(SoftwireSource::Address(address))
}

/// Octets that were written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Octets(pub Vec<u8>);

/// Bounds of a random wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay(pub RangeInclusive<Duration>);

fn octets(text: &str) -> Result<Octets, String> {
    identity::from_hex(text).map(Octets)
}

fn option_code(text: &str) -> Result<u8, String> {
    match text.parse() {
        // Pad and End, what says how messages are read, and what has arguments of its own.
        Ok(0 | 50..=57 | 61 | 82 | 109 | 159 | 255) => {
            Err("that option is not one that a client may ask for at will".to_owned())
        }
        Ok(code) => Ok(code),
        Err(_) => Err("expected the number of an option, 1 to 254".to_owned()),
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "expected 0 seconds or more".to_owned())
}

fn delay(text: &str) -> Result<Delay, String> {
    let (shortest, longest) = text.split_once('-').unwrap_or((text, text));
    let (shortest, longest) = (seconds(shortest)?, seconds(longest)?);
    if shortest > longest {
        return Err("expected the lesser number first".to_owned());
    }
    Ok(Delay(shortest..=longest))
}

fn assignment(text: &str) -> Result<Assignment, String> {
    let mut parts = text.split('/');
    let address = parts.next().and_then(|part| part.parse::<Ipv4Addr>().ok());
    let address = address.ok_or("expected an IPv4 address first")?;
    let numbers: Option<Vec<u16>> = parts.map(|part| part.parse().ok()).collect();
    let (psid, length, offset) = match numbers.as_deref() {
        Some(&[]) => return Ok(Assignment { address, port_params: None }),
        Some(&[psid, length]) => (psid, length, 0),
        Some(&[psid, length, offset]) => (psid, length, offset),
        _ => return Err("expected ADDRESS or ADDRESS/PSID/LENGTH[/OFFSET]".to_owned()),
    };
    let params = u8::try_from(offset)
        .ok()
        .zip(u8::try_from(length).ok())
        .and_then(|(offset, length)| PortParams::new(offset, length, psid))
        .filter(|params| params.psid_length > 0);
    let params = params.ok_or(
        "expected a length of 1 to 16, an offset of at most 15, together at most 16, and a PSID \
         below 2^length",
    )?;
    Ok(Assignment { address, port_params: Some(params) })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, String> {
        let words = ["client"].into_iter().chain(line.split_whitespace());
        let parsed = Line::try_parse_from(words).map_err(|error| error.to_string());
        parsed.map(|line| line.arguments)
    }

    #[test]
    fn an_interface_is_enough_and_must_be() {
        let arguments = parse("--interface eth0").unwrap();
        assert_eq!((arguments.port, arguments.server_port), (546, 547));
        let initial = Duration::from_secs(1)..=Duration::from_secs(10);
        assert_eq!(arguments.initial_delay, Delay(initial));
        assert_eq!(arguments.offer_wait(1), Duration::from_secs(1));
        assert_eq!(arguments.offer_wait(2), Duration::from_secs(3));
        assert_eq!((arguments.mode, arguments.on_loss), (Mode::PreferFull, OnLoss::LeaseEnd));
        assert!(parse("--interface a --server ::1 --server ::2").is_ok());
        assert!(parse("").unwrap_err().contains("--interface"));
    }

    #[test]
    fn a_wish_is_an_address_or_a_port_set() {
        let address = Ipv4Addr::new(192, 0, 2, 18);
        let port_params = PortParams::new(6, 8, 52);
        assert_eq!(assignment("192.0.2.18"), Ok(Assignment { address, port_params: None }));
        assert_eq!(assignment("192.0.2.18/52/8/6"), Ok(Assignment { address, port_params }));
        assert!(assignment("192.0.2.18/1/6").unwrap().is_shared());
        for bad in ["", "192.0.2", "192.0.2.18/1", "192.0.2.18/64/6", "192.0.2.18/1/12/6"] {
            assert!(assignment(bad).is_err(), "{bad}");
        }
        assert!(assignment("192.0.2.18/0/0").is_err(), "that is the whole address");
        assert!(assignment("192.0.2.18/1/6/0/0").is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (line, expected) in [
            ("--interface a --client-id ff00 --duid 000301", "cannot be used with"),
            ("--interface a --initial-delay 5-1", "lesser number first"),
            ("--interface a --offer-wait=-1", "0 seconds or more"),
            ("--interface a --psid-len 17", "17 is not in 1..=16"),
            ("--interface a --client-id f", "pairs"),
            ("--interface a --anonymous --state s", "cannot be used with"),
            ("--interface a --multicast --server ::1", "cannot be used with"),
            ("--interface a --servers-file f --server ::1", "cannot be used with"),
            ("--interface a --softwire-source ff02::1", "`auto` or an IPv6 address"),
            ("--interface a --server 192.0.2.1", "invalid IPv6 address"),
            ("--interface a --request-option 159", "not one that a client may ask for"),
            ("--interface a --request-option 256", "number of an option"),
            ("--interface a --apply nftables", "--softwire"),
            ("--interface a --softwire b", "--apply"),
            ("--interface a --apply nftables --softwire b --once", "cannot be used with"),
            ("--interface a --script-timeout 5", "--script"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
