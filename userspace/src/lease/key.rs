//! Who a client is: a keyed hash of its identity, and that identity's place in the table of bindings.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::Ipv6Addr,
};

use siphasher::sip128::{Hasher128, SipHasher13};

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

    /// The site of a name of this kind, which is unique under `link_address`. The same at every start of the server.
    pub fn identify_site(&self, kind: u8, link_address: Ipv6Addr, name: &[u8]) -> SiteId {
        let mut hasher = self.begin_site(kind, link_address, name.len());
        hasher.write(name);
        SiteId(halves(hasher.finish128().as_u128()).0)
    }

    /// Identifies sites of this kind whose names are addresses, unique under `link_address`.
    pub fn addresses_as_sites(&self, kind: u8, link_address: Ipv6Addr) -> AddressesAsSites {
        AddressesAsSites(self.begin_site(kind, link_address, size_of::<Ipv6Addr>()))
    }

    /// Hashes all of a site but its name. The length of each part counts, too: what ends one cannot begin the next.
    #[inline]
    fn begin_site(&self, kind: u8, link_address: Ipv6Addr, length: usize) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(SITE);
        hasher.write_usize(1);
        hasher.write_u8(kind);
        hasher.write_usize(size_of::<Ipv6Addr>());
        write_address(&mut hasher, link_address);
        hasher.write_usize(length);
        hasher
    }

    /// A UUID for this server, the same at every start over the same log (RFC 9562 §5.8: version 8).
    pub fn server_uuid(&self) -> [u8; 16] {
        // Begins with no octet that a kind of identity has.
        let mut octets = self.hash(b"server UUID").to_be_bytes();
        octets[6] = octets[6] & 0x0f | 0x80;
        octets[8] = octets[8] & 0x3f | 0x80;
        octets
    }

    #[inline]
    fn hash(&self, octets: &[u8]) -> u128 {
        SipHasher13::new_with_key(&self.0).hash(octets).as_u128()
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

/// Identifies sites by an address alone. What the hashes of all of them begin with is hashed once.
#[derive(Clone, Copy)]
pub struct AddressesAsSites(SipHasher13);

impl AddressesAsSites {
    /// The site of an address.
    #[inline]
    pub fn identify(&self, address: Ipv6Addr) -> SiteId {
        let mut hasher = self.0;
        write_address(&mut hasher, address);
        SiteId(halves(hasher.finish128().as_u128()).0)
    }
}

/// Hashes the octets of an address, in registers.
#[inline]
fn write_address(hasher: &mut SipHasher13, address: Ipv6Addr) {
    let (last, first) = halves(address.to_bits().swap_bytes());
    hasher.write_u64(first);
    hasher.write_u64(last);
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
    fn sites_differ_by_secret_link_kind_and_where_parts_end() {
        let secret = IdentitySecret([7; 16]);
        let address = Ipv6Addr::LOCALHOST;
        let site = secret.identify_site(1, address, b"ge-0");
        assert_eq!(site, secret.identify_site(1, address, b"ge-0"));
        assert_ne!(site, secret.identify_site(2, address, b"ge-0"));
        assert_ne!(site, secret.identify_site(1, Ipv6Addr::UNSPECIFIED, b"ge-0"));
        assert_ne!(site, secret.identify_site(1, address, b"ge-0\0"));
        assert_ne!(site, IdentitySecret([8; 16]).identify_site(1, address, b"ge-0"));
        assert_ne!(site.on(LinkId(0)), site.on(LinkId(1)));
        assert_eq!(SiteId::of(site.on(LinkId(9)), LinkId(9)), site);
        assert_eq!(SiteId::UNKNOWN.on(LinkId(9)), 0);
    }

    /// Records bear sites and identities: those of long names and of short ones have to stay what they were.
    #[test]
    fn hashes_are_of_the_octets_and_lengths_however_long_they_are() {
        let secret = IdentitySecret([7; 16]);
        let hash = |octets: &[u8]| {
            let mut hasher = SipHasher13::new_with_key(&secret.0);
            octets.chunks(5).for_each(|piece| hasher.write(piece));
            hasher.finish128().as_u128()
        };
        let address = Ipv6Addr::LOCALHOST;
        for length in [0, 1, 16, 62, 63, 64, 84, 85, 86, 87, 300] {
            let long: Vec<u8> = (0..=u8::MAX).cycle().skip(9).take(length).collect();
            let head = [&[SITE][..], &1_u64.to_le_bytes(), &[3], &16_u64.to_le_bytes()].concat();
            let site = [&head, &address.octets()[..], &(length as u64).to_le_bytes(), &long];
            let expected = SiteId((hash(&site.concat()) >> 64) as u64);
            assert_eq!(secret.identify_site(3, address, &long), expected, "{length}");
            if let Ok(octets) = <[u8; 16]>::try_from(&long[..]) {
                let addresses = secret.addresses_as_sites(3, address);
                assert_eq!(addresses.identify(Ipv6Addr::from(octets)), expected);
            }
            let kind = IdentityKind::HardwareAddress;
            let expected = ClientIdentity(hash(&[&[kind as u8], &long[..]].concat()));
            assert_eq!(secret.identify(kind, &long), expected, "{length}");
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
