//! `--apply nftables`: the leased address on the softwire, and rules that keep it to the leased ports.
//!
//! Uses the programs `nft` and `ip`, as an operator would, so that what is done can be read in their output.

use std::{net::Ipv4Addr, time::Duration};

use tracing::{info, warn};

use super::{ApplyError, command, rules::Guard};
use crate::{
    client::lease::{Assignment, Lease},
    net::{conntrack, link::Interface},
};

/// How long `nft` and `ip` may take; rules of thousands of ranges take a second.
const PROGRAM_LIMIT: Duration = Duration::from_secs(20);

/// The hardware type of Ethernet, in `ARPHRD_` numbers.
const ETHERNET: u16 = 1;

/// A softwire interface under our rules. Dropped, it is as it was: no address, no rules.
#[derive(Debug)]
pub(super) struct Softwire {
    name: String,
    guard: Guard,
    /// Whether a default route leads through it.
    with_route: bool,
    /// What it is set up for. `None`: nothing passes.
    held: Option<Assignment>,
    /// What it should be set up for: differs as long as that fails.
    wanted: Option<Wanted>,
    /// The number of the interface that has the address. Another one under the same name has not.
    index: u32,
    /// Whether ARP was on.
    had_arp: bool,
}

/// A lease that is to be used, and for how long.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    assignment: Assignment,
    /// `None`: without end.
    ends_at_ms: Option<u64>,
}

impl Softwire {
    /// Takes the interface over: what a client that was killed left there is removed, and nothing passes until there
    /// is a lease.
    pub(super) fn open(name: &str, with_route: bool, seed: u32) -> Result<Self, ApplyError> {
        let interface = Interface::read(name)?;
        let guard = Guard::new(name, seed);
        let left = leftover(&guard);
        // req-C30 (RFC 7618 §7.1): without a lease there is no IPv4 here at all, link-local included.
        nft(guard.closed())?;
        let mut softwire = Softwire {
            name: name.to_owned(),
            guard,
            with_route,
            held: None,
            wanted: None,
            index: interface.index,
            had_arp: false,
        };
        for address in left {
            info!("removing {address} from {name}, which a client that was killed left there");
            softwire.remove_address(address);
        }
        if interface.kind == ETHERNET {
            softwire.silence_arp()?;
        }
        Ok(softwire)
    }

    /// req-C26 (RFC 7618 §7): an interface that stands for a tunnel and speaks Ethernet sends no ARP for it.
    fn silence_arp(&mut self) -> Result<(), ApplyError> {
        let shown = ip(["-oneline", "link", "show", "dev", &self.name])?;
        self.had_arp = !shown.contains("NOARP");
        if self.had_arp {
            info!("switching ARP off on {}: the far end is all there is", self.name);
            ip(["link", "set", "dev", &self.name, "arp", "off"])?;
        }
        Ok(())
    }

    /// Uses a lease, in place of what was used until now.
    pub(super) fn hold(&mut self, lease: &Lease, now_ms: u64) -> Result<(), ApplyError> {
        let ends_at_ms = lease.expires_at.map(|end| end.0);
        self.wanted = Some(Wanted { assignment: lease.assignment, ends_at_ms });
        self.settle(now_ms)
    }

    /// Tries again what failed, and sets an interface up that is there anew.
    pub(super) fn look_after(&mut self, now_ms: u64) -> Result<(), ApplyError> {
        let Some(wanted) = self.wanted else { return Ok(()) };
        let Ok(interface) = Interface::read(&self.name) else { return Ok(()) };
        let is_new = interface.index != self.index;
        if !is_new && self.held == Some(wanted.assignment) {
            return Ok(());
        }
        if is_new && interface.kind == ETHERNET {
            self.silence_arp()?;
        }
        self.held = None;
        self.index = interface.index;
        self.settle(now_ms)?;
        info!("{} is set up for {}", self.name, wanted.assignment);
        Ok(())
    }

    fn settle(&mut self, now_ms: u64) -> Result<(), ApplyError> {
        let Some(Wanted { assignment, ends_at_ms }) = self.wanted else { return Ok(()) };
        let left_ms = ends_at_ms.map(|end| end.saturating_sub(now_ms));
        // A lease that ended is the machine's to give up, and it does so by the same clock.
        let seconds = left_ms.map(|left| left.div_ceil(1000));
        if self.held == Some(assignment) {
            nft(self.guard.extended(assignment.address, seconds))?;
            return self.put_address(assignment.address, seconds);
        }
        // req-C25 (RFC 7618 §7): exactly these ports, and before the address can be used.
        let opened = nft(self.guard.open(assignment, seconds));
        if let Some(former) = self.held.take() {
            if opened.is_err() || former.address != assignment.address {
                self.remove_address(former.address);
            }
            if opened.is_err() {
                // Its ports are not ours any more.
                let _ = nft(self.guard.closed());
            }
            // req-C38 (RFC 7596 §5.1): translations to what was leased before are forgotten.
            forget(former.address);
        }
        opened?;
        ip(["link", "set", "dev", &self.name, "up"])?;
        self.put_address(assignment.address, seconds)?;
        if self.with_route {
            self.put_route(assignment.address)?;
        }
        self.held = Some(assignment);
        Ok(())
    }

    /// req-C34 (RFC 2131 §4.4.5): stops using what is held, at once. Goes on when a step fails, and then says which.
    pub(super) fn let_go(&mut self) -> Result<(), ApplyError> {
        let wanted = self.wanted.take();
        let closed = nft(self.guard.closed());
        let addresses = [self.held.take(), wanted.map(|wanted| wanted.assignment)];
        let mut addresses: Vec<_> =
            addresses.into_iter().flatten().map(|assignment| assignment.address).collect();
        addresses.dedup();
        for address in addresses {
            self.remove_address(address);
            forget(address);
        }
        closed
    }

    /// The address as the only one of its network: no neighbour is looked for. The kernel takes it away by itself
    /// when the lease ends.
    fn put_address(&self, address: Ipv4Addr, seconds: Option<u64>) -> Result<(), ApplyError> {
        let whole = format!("{address}/32");
        // The kernel counts in 32 bits, and the greatest number is for ever.
        let time = seconds.map_or("forever".to_owned(), |seconds| {
            seconds.clamp(1, u64::from(u32::MAX - 1)).to_string()
        });
        let name = &self.name;
        ip(["address", "replace", &whole, "dev", name, "valid_lft", &time, "preferred_lft", &time])
            .map(drop)
    }

    fn put_route(&self, address: Ipv4Addr) -> Result<(), ApplyError> {
        let source = address.to_string();
        let route = ["-4", "route", "add", "default", "dev", &self.name, "src", &source];
        match ip(route) {
            Err(ApplyError::Failed { said, .. }) if said.contains("File exists") => {
                warn!("there is a default route already: {} gets none", self.name);
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }

    /// Takes an address away, and with it the routes whose source it is.
    fn remove_address(&self, address: Ipv4Addr) {
        let whole = format!("{address}/32");
        // It went with its interface, or at the end of its lease, or was never there.
        let _ = ip(["address", "del", &whole, "dev", &self.name]);
    }
}

impl Drop for Softwire {
    fn drop(&mut self) {
        if let Err(error) = self.let_go() {
            warn!("{error}");
        }
        if self.had_arp {
            // The interface may be gone.
            let _ = ip(["link", "set", "dev", &self.name, "arp", "on"]);
        }
        if let Err(error) = nft(self.guard.none()) {
            warn!("{error}");
        }
    }
}

/// Makes the kernel forget all flows of an address. Without that they are dropped at the softwire until they time out.
fn forget(address: Ipv4Addr) {
    match conntrack::forget(address) {
        Ok(0) => {}
        Ok(count) => info!("forgot {count} flows of {address}"),
        Err(error) => warn!("forgetting the flows of {address}: {error}"),
    }
}

/// The addresses in the rules that stand already.
fn leftover(guard: &Guard) -> Vec<Ipv4Addr> {
    let table = guard.table();
    let list = ["--json", "list", "set", "ip", &table, "address"];
    // Usually there is no such table, which is an error of nft's.
    let Ok(listed) = run("nft", list, String::new()) else { return Vec::new() };
    addresses_of(&listed)
}

/// The addresses of a set that `nft --json` listed.
fn addresses_of(listed: &str) -> Vec<Ipv4Addr> {
    let Ok(listed) = serde_json::from_str::<serde_json::Value>(listed) else { return Vec::new() };
    let objects = listed["nftables"].as_array().into_iter().flatten();
    let elements = objects.filter_map(|object| object["set"]["elem"].as_array()).flatten();
    // With a timeout an element is an object that has the value inside.
    let values = elements.map(|element| element["elem"].get("val").unwrap_or(element));
    values.filter_map(|value| value.as_str()?.parse().ok()).collect()
}

/// Gives `nft` a transaction: all of it is done, or nothing.
fn nft(text: String) -> Result<(), ApplyError> {
    run("nft", ["-f", "-"], text).map(drop)
}

fn ip<const N: usize>(arguments: [&str; N]) -> Result<String, ApplyError> {
    run("ip", arguments, String::new())
}

/// Runs a program that has to succeed, and gives its output.
fn run<const N: usize>(
    program: &'static str,
    arguments: [&str; N],
    input: String,
) -> Result<String, ApplyError> {
    let shown = format!("{program} {}", arguments.join(" "));
    let outcome = command::run(command::command(program, arguments), input, PROGRAM_LIMIT)
        .map_err(|problem| ApplyError::Start { program, problem })?;
    match outcome.status {
        Some(status) if status.success() => Ok(outcome.output),
        Some(status) => {
            let said = outcome.errors.lines().next().unwrap_or_default().trim();
            let said = if said.is_empty() { status.to_string() } else { said.to_owned() };
            Err(ApplyError::Failed { command: shown, said })
        }
        None => Err(ApplyError::TooLong { command: shown, seconds: PROGRAM_LIMIT.as_secs() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_timeout() {
        let plain = r#"{"nftables": [{"metainfo": {}}, {"set": {"elem": ["192.0.2.18"]}}]}"#;
        let timed = r#"{"nftables": [{"set": {"elem":
            [{"elem": {"val": "192.0.2.19", "timeout": 60, "expires": 7}}]}}]}"#;
        assert_eq!(addresses_of(plain), [Ipv4Addr::new(192, 0, 2, 18)]);
        assert_eq!(addresses_of(timed), [Ipv4Addr::new(192, 0, 2, 19)]);
        for other in [
            "",
            "{}",
            r#"{"nftables": [{"set": {}}]}"#,
            r#"{"nftables": [{"set": {"elem": [7]}}]}"#,
        ] {
            assert!(addresses_of(other).is_empty(), "{other}");
        }
    }
}
