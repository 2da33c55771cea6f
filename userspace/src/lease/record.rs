//! The record: 128 octets that say everything about one slot. Everything a worker promises leaves as one.
//!
//! Replaying records in any order gives the same state, because each is the whole image of its slot and the
//! greatest stamp wins.

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{
    FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64, U128},
};

use super::{
    key::{ClientIdentity, SiteId},
    stamp::{Now, Stamp},
};

/// Octets of a [`Record`], in memory and in the log.
pub const RECORD_LENGTH: usize = 128;

/// Octets of a client identifier that a record has room for. RFC 4361 identifiers are 8 to 135 long.
pub const CLIENT_LENGTH_MAX: usize = 44;

/// `expires` of a lease that never ends (RFC 2131 §3.3).
pub const NEVER: u32 = u32::MAX;

/// Whether what ends at `end`, in seconds since the epoch, is not over at `now`.
pub fn lasts(end: u32, now: Now) -> bool {
    end == NEVER || end > now.seconds()
}

/// What a record says of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Leased until `expires`.
    Bound,
    /// Given up: released, or left for another slot. Held for its last client until the hold-down is over.
    Former,
    /// Declined (RFC 2131 §4.3.3): held for nobody until `expires`.
    Quarantined,
}

/// req-S39 (RFC 7618 §8): both parts of what is leased travel, change and end together.
///
/// What is leased: an address, and the ports of it. The same in a record whatever the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// The shared or whole address.
    pub address: Ipv4Addr,
    /// Offset bits, `a` of RFC 7597 §5.1.
    pub offset: u8,
    /// Bits of the PSID, `k`; 0 is a whole address.
    pub psid_length: u8,
    /// The port set, right-aligned: 0 to 2^k - 1.
    pub psid: u16,
}

impl Tuple {
    /// A whole address: no offset, no PSID.
    pub fn whole(address: Ipv4Addr) -> Tuple {
        Tuple { address, offset: 0, psid_length: 0, psid: 0 }
    }

    /// The ports that are leased, ascending; all of them for a whole address (RFC 7597 §5.1).
    pub fn ports(self) -> impl Iterator<Item = u16> {
        let (offset, psid_length) = (u32::from(self.offset), u32::from(self.psid_length));
        let tail = 16_u32.saturating_sub(offset + psid_length);
        let first = u32::from(offset > 0);
        (first..1 << offset).flat_map(move |head| {
            let start = head << (16 - offset) | u32::from(self.psid) << tail;
            (start..start + (1 << tail)).filter_map(|port| u16::try_from(port).ok())
        })
    }

    /// The tuple as one integer, for maps.
    pub fn packed(self) -> u64 {
        u64::from(u32::from(self.address)) << 32
            | u64::from(self.offset) << 24
            | u64::from(self.psid_length) << 16
            | u64::from(self.psid)
    }
}

/// The full image of one slot, as it is written to the log. All integers are little-endian.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    stamp: U64,
    identity: U128,
    expires: U32,
    address: U32,
    offset: u8,
    psid_length: u8,
    psid: U16,
    state: u8,
    flags: u8,
    client_length: U16,
    source: [u8; 16],
    softwire: [u8; 16],
    softwire_changed: U32,
    site: U64,
    client: [u8; CLIENT_LENGTH_MAX],
}

/// The identity is `htype` and `chaddr`, not option 61.
const FLAG_HARDWARE: u8 = 1;

const _: () = assert!(size_of::<Record>() == RECORD_LENGTH);

/// A record's content, named and typed: what [`Record::new`] takes.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Orders this record among those of its slot.
    pub stamp: Stamp,
    /// The client.
    pub identity: ClientIdentity,
    /// What is leased.
    pub tuple: Tuple,
    /// What becomes of it.
    pub state: State,
    /// End of the lease or of the quarantine, in seconds since the epoch; [`NEVER`] for an infinite lease.
    pub expires: u32,
    /// IPv6 address the client's message came from, or the innermost relay's peer-address.
    pub source: Ipv6Addr,
    /// Octets of the identity; of longer ones the first [`CLIENT_LENGTH_MAX`] are kept.
    pub client: &'a [u8],
    /// Whether `client` is `htype` and `chaddr` in place of option 61.
    pub hardware: bool,
    /// Where the client is, as far as that is known.
    pub site: SiteId,
    /// The other end of the client's softwire, if the lease has one.
    pub softwire: Option<Softwire>,
}

/// The IPv6 address that a client's softwire begins at (RFC 8539 §4), and since when.
///
/// req-S95 (RFC 7596 §4): it stands in one record with address, port set and end of the lease. That is the whole
/// binding of a tunnel's other end, and neither part of it can outlive another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softwire {
    /// The address, never the unspecified one.
    pub address: Ipv6Addr,
    /// When the lease got it, in seconds since the epoch.
    pub changed: u32,
}

impl Record {
    /// A record with this content.
    pub fn new(content: &Content<'_>) -> Record {
        let mut record = Record::new_zeroed();
        record.fill(content);
        record
    }

    /// Makes this the record with this content. In place: a record is too large to be handed from one to the next.
    #[inline]
    pub(super) fn fill(&mut self, content: &Content<'_>) {
        self.stamp = content.stamp.0.into();
        self.identity = content.identity.0.into();
        self.expires = content.expires.into();
        self.address = u32::from(content.tuple.address).into();
        self.offset = content.tuple.offset;
        self.psid_length = content.tuple.psid_length;
        self.psid = content.tuple.psid.into();
        self.state = match content.state {
            State::Bound => 1,
            State::Former => 2,
            State::Quarantined => 3,
        };
        self.flags = if content.hardware { FLAG_HARDWARE } else { 0 };
        self.client_length = u16::try_from(content.client.len()).unwrap_or(u16::MAX).into();
        self.source = content.source.octets();
        self.softwire = content.softwire.map_or([0; 16], |softwire| softwire.address.octets());
        self.softwire_changed = content.softwire.map_or(0, |softwire| softwire.changed).into();
        self.site = content.site.0.into();
        let (kept, rest) = self.client.split_at_mut(content.client.len().min(CLIENT_LENGTH_MAX));
        kept.copy_from_slice(&content.client[..kept.len()]);
        rest.fill(0);
    }

    /// Orders this record among those of its slot.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp.get())
    }

    /// The client.
    pub fn identity(&self) -> ClientIdentity {
        ClientIdentity(self.identity.get())
    }

    /// What is leased.
    pub fn tuple(&self) -> Tuple {
        Tuple {
            address: Ipv4Addr::from(self.address.get()),
            offset: self.offset,
            psid_length: self.psid_length,
            psid: self.psid.get(),
        }
    }

    /// What becomes of the slot; `None` in a record of a later version.
    pub fn state(&self) -> Option<State> {
        match self.state {
            1 => Some(State::Bound),
            2 => Some(State::Former),
            3 => Some(State::Quarantined),
            _ => None,
        }
    }

    /// End of the lease or of the quarantine, in seconds since the epoch.
    pub fn expires(&self) -> u32 {
        self.expires.get()
    }

    /// Whether the record keeps its slot from other clients at `now`. If not, it is over and may be forgotten.
    pub fn keeps_slot(&self, now: Now, hold_down_seconds: u32) -> bool {
        let end = match self.state() {
            Some(State::Bound) => self.expires().saturating_add(hold_down_seconds),
            Some(State::Former) => self.stamp().hold_end(hold_down_seconds),
            Some(State::Quarantined) => self.expires(),
            // Of a later version: nobody knows.
            None => NEVER,
        };
        lasts(end, now)
    }

    /// IPv6 address the client's message came from.
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.source)
    }

    /// The identity's octets, or the first of them if it is longer than [`CLIENT_LENGTH_MAX`].
    pub fn client(&self) -> &[u8] {
        &self.client[..usize::from(self.client_length.get()).min(CLIENT_LENGTH_MAX)]
    }

    /// Where the client was when it got or last extended the lease.
    pub fn site(&self) -> SiteId {
        SiteId(self.site.get())
    }

    /// The other end of the client's softwire, if the lease has one.
    pub fn softwire(&self) -> Option<Softwire> {
        let address = Ipv6Addr::from(self.softwire);
        let changed = self.softwire_changed.get();
        (!address.is_unspecified()).then_some(Softwire { address, changed })
    }

    /// Whether [`client`](Self::client) is `htype` and `chaddr` in place of option 61.
    pub fn hardware(&self) -> bool {
        self.flags & FLAG_HARDWARE != 0
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("stamp", &self.stamp())
            .field("identity", &self.identity())
            .field("tuple", &self.tuple())
            .field("state", &self.state())
            .field("expires", &self.expires())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The journal forgets what does not keep its slot: a moment too early, and a restart gives the slot away.
    #[test]
    fn a_record_keeps_its_slot_as_long_as_anybody_may_rely_on_it() {
        let keeps = |state, expires, milliseconds| {
            let content = Content {
                stamp: Stamp(50_400),
                identity: ClientIdentity(1),
                tuple: Tuple::whole(Ipv4Addr::new(192, 0, 2, 18)),
                state,
                expires,
                source: Ipv6Addr::LOCALHOST,
                client: &[],
                hardware: false,
                site: SiteId::UNKNOWN,
                softwire: None,
            };
            Record::new(&content).keeps_slot(Now(milliseconds), 120)
        };
        assert!(keeps(State::Bound, 100, 219_999) && !keeps(State::Bound, 100, 220_000));
        // Given up at 50.4 s, kept for 120 s: not free at 170 s yet.
        assert!(keeps(State::Former, 900, 170_400) && !keeps(State::Former, 900, 171_000));
        assert!(keeps(State::Quarantined, 100, 99_999) && !keeps(State::Quarantined, 100, 100_000));
        for state in [State::Bound, State::Quarantined] {
            assert!(keeps(state, NEVER, u64::from(NEVER) * 1000 + 500_000), "{state:?} for ever");
        }
    }

    #[test]
    fn a_record_gives_back_what_it_was_made_of() {
        let long = [9_u8; 60];
        let softwire = Softwire { address: "2001:db8::109".parse().unwrap(), changed: 12 };
        for client in [&b"client"[..], &long] {
            let content = Content {
                stamp: Stamp(17),
                identity: ClientIdentity(u128::MAX - 3),
                tuple: Tuple {
                    address: Ipv4Addr::new(192, 0, 2, 18),
                    offset: 6,
                    psid_length: 8,
                    psid: 0x34,
                },
                state: State::Former,
                expires: 99,
                source: "2001:db8::1".parse().unwrap(),
                client,
                hardware: true,
                site: SiteId(23),
                softwire: (client == long).then_some(softwire),
            };
            let record = Record::new(&content);
            let again = Record::read_from_bytes(record.as_bytes()).unwrap();
            assert_eq!(again.stamp(), content.stamp);
            assert_eq!(again.identity(), content.identity);
            assert_eq!(again.tuple(), content.tuple);
            assert_eq!(again.state(), Some(State::Former));
            assert_eq!(again.expires(), 99);
            assert_eq!(again.source(), content.source);
            assert_eq!(again.client(), &client[..client.len().min(CLIENT_LENGTH_MAX)]);
            assert!(again.hardware());
            assert_eq!((again.site(), again.softwire()), (content.site, content.softwire));
        }
    }
}
