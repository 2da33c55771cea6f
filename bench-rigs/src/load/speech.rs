//! What a client's message looks like when it leaves: as it is, or inside the Relay-forwards of its relays.

use std::net::Ipv6Addr;

use portlease::wire::{dhcpv6::RelayForward, writer::Writer};

use super::RelayPlace;
use crate::message::{Message, relay_at};

/// Writes the DHCPv6 payload of a client's message, as from the relay of a number if there are relays. Gives its
/// length.
pub(super) fn emit(
    buffer: &mut [u8],
    message: &Message<'_>,
    relay: Option<(&RelayPlace, u32)>,
    client: u32,
) -> Option<usize> {
    let mut w = Writer::new(buffer);
    match relay {
        None => message.emit(&mut w, &[]),
        Some((relay, number)) => {
            let link_address = relay.link_address_of(number);
            emit_relayed(&mut w, message, relay, link_address, client);
        }
    }
    w.finish()
}

/// A client's number in hexadecimal, as an Interface-Id spells it.
pub(super) fn spelt(client: u32) -> [[u8; 4]; 2] {
    let digit = |nibble: u32| b"0123456789abcdef"[(client >> (4 * nibble) & 15) as usize];
    [[7, 6, 5, 4].map(digit), [3, 2, 1, 0].map(digit)]
}

fn emit_relayed(
    w: &mut Writer<'_>,
    message: &Message<'_>,
    relay: &RelayPlace,
    link_address: Ipv6Addr,
    client: u32,
) {
    let peer = Ipv6Addr::from_bits((0xfe80 << 112) | (0x02ff_0000 << 32) | u128::from(client));
    let mut interface_id = *b"subscriber 00000000";
    let [high, low] = spelt(client);
    interface_id[11..15].copy_from_slice(&high);
    interface_id[15..].copy_from_slice(&low);
    let inner = RelayForward {
        interface_id: relay.interface_id.then_some(&interface_id),
        ..relay_at(link_address, peer)
    };
    let levels = relay.levels.max(1);
    let mut chain = [inner; LEVELS_MAX];
    let levels = levels.min(LEVELS_MAX);
    for (at, level) in chain[..levels].iter_mut().enumerate() {
        let hops = levels - 1 - at;
        if hops > 0 {
            // What an outer relay says: who it heard it from. It need not say where the client is.
            *level = relay_at(Ipv6Addr::UNSPECIFIED, link_address);
        }
        level.hop_count = hops.to_le_bytes()[0];
    }
    message.emit(w, &chain[..levels]);
}

/// Levels of relays that a load can put around a query (RFC 8415 §7.6, `HOP_COUNT_LIMIT`).
const LEVELS_MAX: usize = 9;
