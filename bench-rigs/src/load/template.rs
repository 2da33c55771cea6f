//! Messages that are written once. What a client says for itself - transaction, identity, address, port set, server -
//! is put into a copy, and the checksum is computed from what was put in.
//!
//! Where those places are is found by looking: a message is written with values that occur nowhere else, and searched
//! for them. So templates need not know how a message is laid out, nor how many relays are around it.

use std::net::Ipv4Addr;

use portlease::wire::{checksum::Sum, portparams::PortParams};

use super::{RelayPlace, speech, transport::Written};
use crate::message::{Identity, Lease, Message};

/// What a client can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phrase {
    /// DISCOVER.
    Discover,
    /// REQUEST for an offer.
    Select,
    /// REQUEST to extend with the U flag.
    Renew,
    /// REQUEST to extend without the U flag.
    Rebind,
    /// REQUEST after a restart.
    Reboot,
    /// RELEASE.
    Release,
}

impl Phrase {
    const COUNT: usize = 6;

    /// The message, written anew.
    fn message<'a>(self, identity: &'a Identity, xid: u32, lease: &Lease) -> Message<'a> {
        match self {
            Self::Discover => Message::discover(identity, xid),
            Self::Select => Message::select(identity, xid, lease),
            Self::Renew => Message::renew(identity, xid, lease),
            Self::Rebind => Message::rebind(identity, xid, lease),
            Self::Reboot => Message::reboot(identity, xid, lease),
            Self::Release => Message::release(identity, xid, lease),
        }
    }
}

/// The lease of what speaks of none.
const NO_LEASE: Lease = Lease {
    address: Ipv4Addr::UNSPECIFIED,
    ports: None,
    server: Ipv4Addr::UNSPECIFIED,
    lease_seconds: 0,
};

/// Values that occur nowhere else in a message: those of the client that templates are made of.
const PROBE: u32 = 0x005a_c3e1;
const PROBE_XID: u32 = 0x9b4d_7c2f;
const PROBE_LEASE: Lease = Lease {
    address: Ipv4Addr::new(0xa7, 0xf3, 0x6b, 0x91),
    ports: None,
    server: Ipv4Addr::new(0xb9, 0x2e, 0x5d, 0xc6),
    lease_seconds: 0,
};
const PROBE_PORTS: PortParams = PortParams { offset: 6, psid_length: 10, psid: 0x2b5 };
/// A client's number as an Interface-Id spells it.
const PROBE_SPELT: &[u8; 8] = b"005ac3e1";

/// All that the clients of a load say.
#[derive(Debug)]
pub(super) struct Templates {
    seed: u8,
    sharing: bool,
    relay: Option<RelayPlace>,
    sources: u32,
    /// For each source that differs, each phrase without and with a port set. Made when first needed.
    made: Vec<Option<Template>>,
}

impl Templates {
    /// For clients of this population, behind these relays if there are any, at this many sources.
    pub(super) fn new(seed: u8, sharing: bool, relay: Option<RelayPlace>, sources: usize) -> Self {
        let sources = u32::try_from(sources).unwrap_or(u32::MAX).max(1);
        let kinds = if relay.is_some() { sources as usize } else { 1 };
        let made = (0..kinds * Phrase::COUNT * 2).map(|_| None).collect();
        Self { seed, sharing, relay, sources, made }
    }

    /// Writes what a client says of a lease. A DISCOVER says nothing of any.
    #[inline]
    pub(super) fn write(
        &mut self,
        buffer: &mut [u8],
        phrase: Phrase,
        client: u32,
        xid: u32,
        lease: Option<&Lease>,
    ) -> Option<Written> {
        let source = if self.relay.is_some() { client % self.sources } else { 0 };
        let lease = lease.unwrap_or(&NO_LEASE);
        let ports = lease.ports.filter(|_| self.sharing && phrase != Phrase::Discover);
        let at = (source as usize * Phrase::COUNT + phrase as usize) * 2;
        let slot = self.made.get_mut(at + usize::from(ports.is_some()))?;
        if slot.is_none() {
            let (relay, shared) = (self.relay.as_ref(), ports.is_some());
            *slot = Template::make(phrase, self.seed, self.sharing, shared, relay, source);
        }
        slot.as_ref()?.write(buffer, client, xid, lease, ports)
    }
}

/// Places of four octets in a message.
type Places = Vec<u16>;

/// One message with nothing in the places that differ.
#[derive(Debug)]
struct Template {
    octets: Vec<u8>,
    /// The sum of it all.
    sum: u16,
    /// Where the client's number stands, and where it stands spelt.
    numbers: Places,
    spelt: Places,
    xids: Places,
    addresses: Places,
    servers: Places,
    ports: Places,
}

impl Template {
    fn make(
        phrase: Phrase,
        seed: u8,
        sharing: bool,
        shared: bool,
        relay: Option<&RelayPlace>,
        source: u32,
    ) -> Option<Self> {
        let identity = Identity::new(seed, PROBE);
        let lease = Lease { ports: shared.then_some(PROBE_PORTS), ..PROBE_LEASE };
        let mut octets = vec![0; 4096];
        let message = phrase.message(&identity, PROBE_XID, &lease);
        let message = if sharing { message } else { message.without_sharing() };
        let length =
            speech::emit(&mut octets, &message, relay.map(|relay| (relay, source)), PROBE)?;
        octets.truncate(length);
        let spelt = take_out(&mut octets, PROBE_SPELT);
        let numbers = take_out(&mut octets, &PROBE.to_be_bytes());
        let xids = take_out(&mut octets, &PROBE_XID.to_be_bytes());
        let addresses = take_out(&mut octets, &PROBE_LEASE.address.octets());
        let servers = take_out(&mut octets, &PROBE_LEASE.server.octets());
        let ports = take_out(&mut octets, &PROBE_PORTS.encode());
        let sum = Sum::new().over(&octets).fold();
        Some(Self { octets, sum, numbers, spelt, xids, addresses, servers, ports })
    }

    #[inline]
    fn write(
        &self,
        buffer: &mut [u8],
        client: u32,
        xid: u32,
        lease: &Lease,
        ports: Option<PortParams>,
    ) -> Option<Written> {
        let length = self.octets.len();
        let buffer = buffer.get_mut(..length)?;
        buffer.copy_from_slice(&self.octets);
        let mut sum = u32::from(self.sum);
        sum += put(buffer, &self.numbers, client.to_be_bytes());
        sum += put(buffer, &self.xids, xid.to_be_bytes());
        sum += put(buffer, &self.addresses, lease.address.octets());
        sum += put(buffer, &self.servers, lease.server.octets());
        if let Some(ports) = ports {
            sum += put(buffer, &self.ports, ports.encode());
        }
        if let Some(&at) = self.spelt.first() {
            let [high, low] = speech::spelt(client);
            sum += put(buffer, &[at], high) + put(buffer, &[at + 4], low);
        }
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX);
        Some(Written { length, sum })
    }
}

/// Finds all places of a pattern, and leaves zeros there.
fn take_out(octets: &mut [u8], pattern: &[u8]) -> Places {
    let mut places = Places::new();
    for at in 0..octets.len().saturating_sub(pattern.len() - 1) {
        let here = &mut octets[at..at + pattern.len()];
        if here == pattern {
            here.fill(0);
            places.push(u16::try_from(at).unwrap_or(u16::MAX));
        }
    }
    places
}

/// Puts four octets into each of some places that were zero. Gives what that adds to the sum.
#[inline]
fn put(buffer: &mut [u8], places: &[u16], value: [u8; 4]) -> u32 {
    let [a, b, c, d] = value.map(u32::from);
    let mut sum = 0;
    for &at in places {
        let at = usize::from(at);
        if let Some(place) = buffer.get_mut(at..at + 4) {
            place.copy_from_slice(&value);
            // An octet counts 256-fold at even places (RFC 1071 §1).
            let (high, low) = if at.is_multiple_of(2) { (a + c, b + d) } else { (b + d, a + c) };
            sum += (high << 8) + low;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHRASES: [Phrase; Phrase::COUNT] = [
        Phrase::Discover,
        Phrase::Select,
        Phrase::Renew,
        Phrase::Rebind,
        Phrase::Reboot,
        Phrase::Release,
    ];

    fn random_lease(random: &mut fastrand::Rng) -> Lease {
        let psid_length = random.u8(1..=16);
        let psid = u16::try_from(random.u32(..1 << psid_length)).unwrap();
        let offset = random.u8(0..=16 - psid_length);
        Lease {
            address: Ipv4Addr::from_bits(random.u32(..)),
            ports: random.bool().then_some(PortParams { offset, psid_length, psid }),
            server: Ipv4Addr::from_bits(random.u32(..)),
            lease_seconds: random.u32(..),
        }
    }

    /// Every phrase of many clients equals what the slow emitter writes, and so does its sum.
    fn compare(sharing: bool, relay: Option<&RelayPlace>) {
        let mut random = fastrand::Rng::with_seed(7);
        let mut templates = Templates::new(9, sharing, relay.cloned(), 3);
        for _ in 0..500 {
            let client = random.u32(..1 << 24);
            let (xid, lease) = (random.u32(..), random_lease(&mut random));
            for phrase in PHRASES {
                let identity = Identity::new(9, client);
                let message = phrase.message(&identity, xid, &lease);
                let message = if sharing { message } else { message.without_sharing() };
                let (mut slow, mut fast) = ([0; 1500], [0xee; 1500]);
                let through = relay.map(|relay| (relay, client % 3));
                let length = speech::emit(&mut slow, &message, through, client).unwrap();
                let said = (phrase != Phrase::Discover).then_some(&lease);
                let written = templates.write(&mut fast, phrase, client, xid, said).unwrap();
                assert_eq!(fast[..written.length], slow[..length], "{phrase:?} of {client}");
                let sum = Written::sum_up(&slow, length).unwrap().sum;
                assert_eq!(written.sum, sum, "{phrase:?} of {client}");
            }
        }
    }

    #[test]
    fn templates_of_direct_clients_equal_messages_written_anew() {
        compare(true, None);
        compare(false, None);
    }

    #[test]
    fn templates_behind_relays_equal_messages_written_anew() {
        for (levels, interface_id) in [(1, false), (1, true), (3, true), (9, true)] {
            let link_address = "2001:db8:1::1".parse().unwrap();
            let link_step = Some(64);
            compare(true, Some(&RelayPlace { link_address, link_step, levels, interface_id }));
        }
    }

    #[test]
    fn a_buffer_that_is_too_short_takes_nothing() {
        let mut templates = Templates::new(1, true, None, 1);
        assert_eq!(templates.write(&mut [0; 100], Phrase::Discover, 1, 2, None), None);
    }
}
