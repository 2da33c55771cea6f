//! Records for the tests of this module.

use std::net::Ipv4Addr;

use crate::lease::{
    key::{ClientIdentity, SiteId},
    record::{Content, NEVER, Record, State, Tuple},
    stamp::Stamp,
};

/// The tuple number `slot` of a pool of 64 shares an address.
pub(super) fn tuple(slot: u32) -> Tuple {
    Tuple {
        address: Ipv4Addr::from(0xC000_0200 + (slot >> 6)),
        offset: 0,
        psid_length: 6,
        psid: u16::try_from(slot & 63).unwrap(),
    }
}

/// A lease of the tuple number `slot` that never ends.
pub(super) fn record(slot: u32, stamp: u64) -> Record {
    record_until(slot, stamp, State::Bound, NEVER)
}

/// What becomes of the tuple number `slot`, until `expires`.
pub(super) fn record_until(slot: u32, stamp: u64, state: State, expires: u32) -> Record {
    let client = stamp.to_le_bytes();
    Record::new(&Content {
        stamp: Stamp(stamp),
        identity: ClientIdentity(u128::from(stamp) << 32 | u128::from(slot)),
        tuple: tuple(slot),
        state,
        expires,
        source: "2001:db8::1".parse().unwrap(),
        client: &client,
        hardware: false,
        site: SiteId::UNKNOWN,
        softwire: None,
    })
}
