//! Who a client is: a keyed hash of its identity, and that identity's place in the table of bindings.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::Ipv6Addr,
};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::wire::writer::Writer;

/// Numbers a link of the configuration. Never leaves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u16);

/// What the octets of an identity are (RFC 2131 §4.2, RFC 4361 §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKind {
    /// Option 61, opaque.
    ClientIdentifier,
    /// `htype` and `chaddr`, where option 61 is missing.
    HardwareAddress,
    /// Remote-Id of the relay closest to the client: no client's identity, but what a reservation can name.
    RemoteId,
}

/// The secret under which identities are hashed. Made once, kept in the log: no client can aim at a bucket.
#[derive(Clone, Copy)]
pub struct IdentitySecret(pub [u8; 16]);

impl IdentitySecret {
    /// The identity of a client, the same at every start of the server and on every link.
    pub fn identify(&self, kind: IdentityKind, octets: &[u8]) -> ClientIdentity {
        self.identify_pieces(kind, std::iter::once(octets))
    }

    /// The same for octets that stand in several places (RFC 3396): only their concatenation counts.
    pub fn identify_pieces<'a>(
        &self,
        kind: IdentityKind,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> ClientIdentity {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(kind as u8);
        pieces.for_each(|piece| hasher.write(piece));
        ClientIdentity(hasher.finish128().as_u128())
    }

    /// A UUID for this server, the same at every start over the same log (RFC 9562 §5.8: version 8).
    pub fn server_uuid(&self) -> [u8; 16] {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        // Begins with no octet that a kind of identity has.
        hasher.write(b"server UUID");
        let mut octets = hasher.finish128().as_u128().to_be_bytes();
        octets[6] = octets[6] & 0x0f | 0x80;
        octets[8] = octets[8] & 0x3f | 0x80;
        octets
    }
}

/// A client, wherever it is. This is what records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIdentity(pub u128);

impl ClientIdentity {
    /// A client on a link: one lease each.
    pub fn on(self, link: LinkId) -> BindingKey {
        BindingKey(self.0.wrapping_add(STRIDE.wrapping_mul(u128::from(link.0))))
    }
}

impl IdentitySecret {
    /// The site that `pieces` name, the same at every start of the server. Each piece counts for itself: what ends
    /// one cannot begin the next.
    pub fn identify_site(&self, pieces: &[&[u8]]) -> SiteId {
        // Most names fit here, and one call hashes sooner than seven.
        let mut room = [0; 128];
        let mut w = Writer::new(&mut room);
        w.u8(SITE);
        for piece in pieces {
            w.array(piece.len().to_ne_bytes());
            w.bytes(piece);
        }
        let mut hasher = SipHasher13::new_with_key(&self.0);
        if w.overflowed() {
            hasher.write_u8(SITE);
            for piece in pieces {
                hasher.write_usize(piece.len());
                hasher.write(piece);
            }
        } else {
            hasher.write(w.written());
        }
        SiteId(u64::try_from(hasher.finish128().as_u128() >> 64).unwrap_or(0))
    }
}

/// Tells the hashes of sites from those of clients, which begin with an [`IdentityKind`].
const SITE: u8 = 0x80;

/// A customer's site: where a line ends, whoever is behind it. A keyed hash, which records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SiteId(pub u64);

impl SiteId {
    /// Nobody knows where: such clients are not counted.
    pub const UNKNOWN: SiteId = SiteId(0);

    /// The site's key among the sites of all links; 0 if it is not known. In memory only.
    pub(super) fn on(self, link: LinkId) -> u64 {
        let key = self.0.wrapping_add(SITE_STRIDE.wrapping_mul(u64::from(link.0)));
        if self == Self::UNKNOWN { 0 } else { key }
    }

    /// The site of a key, given the link that the key was made for.
    pub(super) fn of(key: u64, link: LinkId) -> SiteId {
        SiteId(key.wrapping_sub(SITE_STRIDE.wrapping_mul(u64::from(link.0))))
    }
}

/// Odd, so that links differ.
const SITE_STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// An IPv6 source address that a message came from, to be told from others: a hash, since an entry has no room for the
/// address. In memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(pub(super) u64);

/// What sources are hashed with. Made anew at each start, and seen by nobody: no client can choose an address that is
/// taken for another's.
#[derive(Clone, Copy)]
pub(super) struct SourceSecret([u64; 2]);

impl SourceSecret {
    pub(super) fn new() -> SourceSecret {
        let random = RandomState::new();
        SourceSecret([random.hash_one(0), random.hash_one(1)])
    }

    /// The two halves of a product of two sums: as uniform as a keyed hash of two words has to be.
    pub(super) fn source(self, address: Ipv6Addr) -> Source {
        let [first, second] = self.0;
        let (high, low) = halves(address.to_bits());
        let (high, low) = halves(u128::from(high ^ first) * u128::from(low ^ second));
        Source(high ^ low)
    }
}

/// Odd, so that links differ; the sum stays as uniform as the keyed hash.
const STRIDE: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// req-S34 (RFC 7618 §6): with the tuple that is bound it identifies a lease in every message.
///
/// The key of a binding: a client on a link. In memory only, since it holds a link's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BindingKey(pub u128);

impl BindingKey {
    /// The client, given the link that the key was made for.
    pub fn identity(self, link: LinkId) -> ClientIdentity {
        ClientIdentity(self.0.wrapping_sub(STRIDE.wrapping_mul(u128::from(link.0))))
    }

    /// The low half: chooses the shard.
    pub(super) fn low(self) -> u64 {
        halves(self.0).1
    }

    /// The high half: chooses the place in the shard.
    pub(super) fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

/// The high half and the low half.
fn halves(number: u128) -> (u64, u64) {
    let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
    ((number >> 64) as u64, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_differ_by_secret_link_and_where_pieces_end() {
        let secret = IdentitySecret([7; 16]);
        let site = secret.identify_site(&[b"ge-0", b"1"]);
        assert_eq!(site, secret.identify_site(&[b"ge-0", b"1"]));
        assert_ne!(site, secret.identify_site(&[b"ge-", b"01"]));
        assert_ne!(site, IdentitySecret([8; 16]).identify_site(&[b"ge-0", b"1"]));
        assert_ne!(site.on(LinkId(0)), site.on(LinkId(1)));
        assert_eq!(SiteId::of(site.on(LinkId(9)), LinkId(9)), site);
        assert_eq!(SiteId::UNKNOWN.on(LinkId(9)), 0);
    }

    /// Records bear sites: a long name and a short one have to stay what they were.
    #[test]
    fn a_site_s_hash_is_that_of_its_pieces_and_their_lengths_however_long_they_are() {
        let secret = IdentitySecret([7; 16]);
        for length in [0, 1, 100, 110, 111, 112, 300] {
            let long = vec![9; length];
            let mut hasher = SipHasher13::new_with_key(&secret.0);
            let octets =
                [&[SITE][..], &1_u64.to_le_bytes(), &[1], &(length as u64).to_le_bytes(), &long];
            hasher.write(&octets.concat());
            let expected = SiteId((hasher.finish128().as_u128() >> 64) as u64);
            assert_eq!(secret.identify_site(&[&[1], &long]), expected, "{length}");
        }
    }

    #[test]
    fn identities_differ_by_secret_kind_octets_and_link() {
        let secret = IdentitySecret([7; 16]);
        let one = secret.identify(IdentityKind::ClientIdentifier, b"one");
        assert_eq!(one, secret.identify(IdentityKind::ClientIdentifier, b"one"));
        assert_ne!(one, secret.identify(IdentityKind::HardwareAddress, b"one"));
        assert_ne!(one, secret.identify(IdentityKind::ClientIdentifier, b"two"));
        assert_ne!(one, IdentitySecret([8; 16]).identify(IdentityKind::ClientIdentifier, b"one"));
        assert_ne!(one.on(LinkId(0)), one.on(LinkId(1)));
        let pieces = [&b"o"[..], b"", b"ne"].into_iter();
        assert_eq!(one, secret.identify_pieces(IdentityKind::ClientIdentifier, pieces));
    }

    #[test]
    fn a_server_s_uuid_follows_from_its_secret_alone() {
        let uuid = IdentitySecret([7; 16]).server_uuid();
        assert_eq!(uuid, IdentitySecret([7; 16]).server_uuid());
        assert_ne!(uuid, IdentitySecret([8; 16]).server_uuid());
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 2), "version 8, variant of RFC 9562");
    }
}
