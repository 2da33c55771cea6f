//! The words of a client's affairs: what it has, what is offered to it, and what came of asking for more.

use std::{net::Ipv6Addr, ops::Deref};

use zerocopy::FromZeros as _;

use super::{
    key::{ClientIdentity, Source},
    pools::Location,
    promise::Promise,
    record::{Content, Record, Softwire, Tuple},
    stamp::Stamp,
};

/// How a client holds the slot of its binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// The lease runs.
    Active,
    /// The lease is over; until the hold-down is, only this client gets the slot.
    Expired,
    /// The client released it; until the hold-down is over, only this client gets the slot.
    Former,
    /// The slot was given back. It is remembered, and may be another's by now.
    Past,
}

/// The slot that a client has or had last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Where it is.
    pub at: Location,
    /// How it is held.
    pub holding: Holding,
    /// End of the lease as recorded, in seconds since the epoch.
    pub expires: u32,
    /// The stamp of the slot's last record.
    pub stamp: Stamp,
    /// The last record in which this was promised.
    pub promise: Promise,
    /// Where the client's last message came from that was granted something: compare with
    /// [`Leases::source`](super::Leases::source).
    pub source: Source,
    /// The softwire of a lease that runs, if it has one.
    pub softwire: Option<Softwire>,
}

/// A slot that is held for a client that was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Where it is.
    pub at: Location,
    /// What is offered.
    pub tuple: Tuple,
    /// When the offer lapses, in seconds since the epoch.
    pub until: u32,
}

/// What a slot is to a client: a row of the truth tables for REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its lease, which runs.
    Active,
    /// Offered to it, and the offer is outstanding.
    Offered,
    /// It was its: expired, released or left. It is still kept for it and cannot be another's.
    Kept,
    /// Its last slot, which was given back and is free.
    Past,
    /// Nobody's, and not remembered as this client's.
    Free,
    /// Another's, reserved, quarantined, or held for a lease from outside the pools.
    Taken,
}

/// Who asks: what a record says of the client.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// The client; its key on the slot's link is the one that is locked.
    pub identity: ClientIdentity,
    /// The octets of the identity.
    pub client: &'a [u8],
    /// Whether those are `htype` and `chaddr` in place of option 61.
    pub hardware: bool,
    /// IPv6 address that the message came from, or the innermost relay's peer-address.
    pub source: Ipv6Addr,
    /// Where the softwire of a lease begins from now on; `None`: where it did (RFC 8539 §8).
    pub softwire: Option<Ipv6Addr>,
}

/// Why nothing was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferError {
    /// As many offers are outstanding as may be.
    OffersExhausted,
    /// The client's site has as many leases and offers as it may.
    SiteFull,
    /// The client's shard is full of clients that hold something.
    TableFull,
}

/// Why nothing was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// Another's, reserved, quarantined, or held for a lease from outside the pools.
    Taken,
    /// The client's site has as many leases and offers as it may.
    SiteFull,
    /// Another lease that runs has the softwire's address.
    SoftwireTaken,
    /// The client's shard is full of clients that hold something.
    TableFull,
    /// The client has left so many slots that are still held down that it may not leave another.
    Crowded,
}

/// Why a slot was not quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineError {
    /// It is neither leased nor offered to this client.
    NotHeld,
    /// The client's shard is full of clients that hold something.
    TableFull,
    /// The client has left or declined so many slots that it may not decline another.
    Crowded,
}

/// What was granted: the records that make it true.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// To be pushed in this order, into one lane.
    pub records: Records,
    /// End of the lease as recorded, in seconds since the epoch.
    pub expires: u32,
}

/// One record, or the two of a move, in the order in which they are pushed. By default none, and room for two.
#[derive(Clone, Copy, Debug)]
pub struct Records {
    records: [Record; 2],
    count: usize,
}

impl Default for Records {
    fn default() -> Records {
        Records { records: [Record::new_zeroed(); 2], count: 0 }
    }
}

impl Records {
    /// Makes this one record.
    pub(super) fn fill(&mut self, content: &Content<'_>) {
        self.records[0].fill(content);
        self.count = 1;
    }

    /// Makes this the two records of a move.
    pub(super) fn fill_pair(&mut self, first: &Content<'_>, second: &Content<'_>) {
        self.records[0].fill(first);
        self.records[1].fill(second);
        self.count = 2;
    }
}

impl From<Record> for Records {
    fn from(record: Record) -> Records {
        Records { records: [record, Record::new_zeroed()], count: 1 }
    }
}

impl Deref for Records {
    type Target = [Record];

    fn deref(&self) -> &[Record] {
        self.records.split_at(self.count).0
    }
}
