//! Options that tell a softwire where its ends are (RFC 7598, RFC 8539).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    OPTION_S46_BIND_PREFIX, OPTION_S46_BR, OPTION_S46_CONTAINER_LW, OPTION_S46_PORT_PARAMS,
    OPTION_S46_V4V6BIND, put_option,
};
use crate::wire::{portparams::PortParams, writer::Writer};

/// Bits of an IPv6 address.
const ADDRESS_BITS: u8 = 128;

/// Octets of an address, of a length and of port parameters: the most that a binding needs.
const BINDING_LENGTH_MAX: usize = 4 + 1 + 16 + 8;

/// An IPv6 prefix as options 92 and 137 carry it: a length in bits, and as many octets as hold
/// those. Host bits are always 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BindPrefix {
    address: Ipv6Addr,
    length: u8,
}

impl BindPrefix {
    /// The prefix of `length` bits that `address` is in; `None` if there are no such prefixes.
    pub fn new(address: Ipv6Addr, length: u8) -> Option<Self> {
        let hosts = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        let address = Ipv6Addr::from(u128::from(address) & !hosts);
        (length <= ADDRESS_BITS).then_some(Self { address, length })
    }

    /// Reads the content of option 137. `None` if the option is to be ignored.
    ///
    /// req-C43 (RFC 8539 §7.4): the length is at most 128 and the octets are as many as it needs;
    /// bits beyond it do not count.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let (&length, octets) = content.split_first()?;
        let mut address = [0; 16];
        if octets.len() != octets_of(length) {
            return None;
        }
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        Self::new(Ipv6Addr::from(address), length)
    }

    /// Its first address.
    pub fn address(self) -> Ipv6Addr {
        self.address
    }

    /// Its length in bits, 0 to 128.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether `address` is inside.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        Self::new(address, self.length) == Some(self)
    }

    fn emit(self, w: &mut Writer<'_>) {
        w.u8(self.length);
        w.bytes(self.address.octets().get(..octets_of(self.length)).unwrap_or_default());
    }
}

/// Octets that hold so many bits.
fn octets_of(bits: u8) -> usize {
    usize::from(bits).div_ceil(8)
}

/// Option 137, the prefix in which the client shall choose its softwire address (RFC 8539 §6.1).
pub fn put_bind_prefix(w: &mut Writer<'_>, prefix: BindPrefix) {
    w.u16(OPTION_S46_BIND_PREFIX);
    w.u16(u16::try_from(1 + octets_of(prefix.length)).unwrap_or(u16::MAX));
    prefix.emit(w);
}

/// Option 90, one for each border relay (RFC 7598 §4.2).
pub fn put_border_relays(w: &mut Writer<'_>, relays: &[Ipv6Addr]) {
    for relay in relays {
        put_option(w, OPTION_S46_BR, &relay.octets());
    }
}

/// The address in the content of option 90; `None` if the option is malformed or names no host.
pub fn border_relay(content: &[u8]) -> Option<Ipv6Addr> {
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?);
    let is_host = !(address.is_unspecified() || address.is_loopback() || address.is_multicast());
    is_host.then_some(address)
}

/// A binding of an IPv4 address to a prefix, of option 92.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The address, whole or shared.
    pub address: Ipv4Addr,
    /// Where the client's softwire begins.
    pub prefix: BindPrefix,
    /// Which ports of a shared address are the client's.
    pub ports: Option<PortParams>,
}

/// Option 96: what a lightweight 4over6 client needs. RFC 7598 §5.3 asks for one border relay at
/// least and allows one binding at most.
pub fn put_container_lw(w: &mut Writer<'_>, relays: &[Ipv6Addr], binding: Option<&Binding>) {
    w.u16(OPTION_S46_CONTAINER_LW);
    let at = w.len();
    w.u16(0);
    put_border_relays(w, relays);
    if let Some(binding) = binding {
        put_binding(w, binding);
    }
    match u16::try_from(w.len().saturating_sub(at).saturating_sub(size_of::<u16>())) {
        Ok(length) => w.patch_u16(at, length),
        Err(_) => w.overflow(),
    }
}

fn put_binding(w: &mut Writer<'_>, binding: &Binding) {
    let mut buffer = [0; BINDING_LENGTH_MAX];
    let mut content = Writer::new(&mut buffer);
    content.array(binding.address.octets());
    binding.prefix.emit(&mut content);
    if let Some(ports) = binding.ports {
        // Option 93 has the content of option 159 (RFC 7618 §9).
        put_option(&mut content, OPTION_S46_PORT_PARAMS, &ports.encode());
    }
    put_option(w, OPTION_S46_V4V6BIND, content.written());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str, length: u8) -> BindPrefix {
        BindPrefix::new(text.parse().unwrap(), length).unwrap()
    }

    /// What `put` writes.
    fn written(put: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut buffer = [0xee; 256];
        let mut w = Writer::new(&mut buffer);
        put(&mut w);
        w.written().to_vec()
    }

    #[test]
    fn a_bind_prefix_has_as_many_octets_as_its_length_needs() {
        for (text, length, octets) in [
            ("::", 0, &[][..]),
            ("2001:db8:1::", 48, &[0x20, 1, 0xd, 0xb8, 0, 1]),
            ("2001:db8:1:200::", 55, &[0x20, 1, 0xd, 0xb8, 0, 1, 2]),
            ("2001:db8:1:200::", 56, &[0x20, 1, 0xd, 0xb8, 0, 1, 2]),
            ("2001:db8:1:200::", 57, &[0x20, 1, 0xd, 0xb8, 0, 1, 2, 0]),
            ("2001:db8::1", 128, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            let octets = [&[length], octets].concat();
            let header = [0, 137, 0, u8::try_from(octets.len()).unwrap()];
            let written = written(|w| put_bind_prefix(w, prefix(text, length)));
            assert_eq!(written, [&header[..], &octets].concat(), "{text}/{length}");
            assert_eq!(BindPrefix::parse(&octets), Some(prefix(text, length)), "{text}/{length}");
        }
    }

    #[test]
    fn a_bind_prefix_of_a_wrong_length_is_ignored_and_host_bits_do_not_count() {
        let octets = [&[128][..], &[1; 16]].concat();
        assert!(BindPrefix::parse(&octets).is_some());
        for (length, count) in [(129, 16), (129, 17), (255, 32), (56, 6), (56, 8), (0, 1), (1, 0)] {
            let octets = [&[length][..], &vec![1; count]].concat();
            assert_eq!(BindPrefix::parse(&octets), None, "{length} bits in {count} octets");
        }
        assert_eq!(BindPrefix::parse(&[]), None);
        assert_eq!(BindPrefix::parse(&[4, 0x2f]), Some(prefix("2000::", 4)));
        assert_eq!(BindPrefix::new(Ipv6Addr::UNSPECIFIED, 129), None);
        assert_eq!(prefix("2001:db8:1:2ff::1", 56), prefix("2001:db8:1:200::", 56));
        assert!(prefix("2001:db8:1::", 48).contains("2001:db8:1:7::9".parse().unwrap()));
        assert!(!prefix("2001:db8:1::", 48).contains("2001:db8:2::".parse().unwrap()));
    }

    #[test]
    fn each_border_relay_has_an_option_of_its_own() {
        let relays = ["2001:db8::b1".parse().unwrap(), "2001:db8::b2".parse().unwrap()];
        let written = written(|w| put_border_relays(w, &relays));
        assert_eq!(written[..4], [0, 90, 0, 16]);
        assert_eq!(written[20..24], [0, 90, 0, 16]);
        assert_eq!(border_relay(&written[24..]), Some(relays[1]));
        assert_eq!(border_relay(&written[24..39]), None);
        for nobody in ["::", "::1", "ff02::1"] {
            let nobody: Ipv6Addr = nobody.parse().unwrap();
            assert_eq!(border_relay(&nobody.octets()), None);
        }
    }

    #[test]
    fn a_container_holds_relays_a_binding_and_its_ports() {
        let relay = "2001:db8::b1".parse().unwrap();
        let binding = Binding {
            address: Ipv4Addr::new(192, 0, 2, 18),
            prefix: prefix("2001:db8:1:200::", 56),
            ports: Some(PortParams { offset: 0, psid_length: 6, psid: 0x34 }),
        };
        let written = written(|w| put_container_lw(w, &[relay], Some(&binding)));
        let expected = [
            &[0, 96, 0, 20 + 4 + 12 + 8][..],
            &[0, 90, 0, 16],
            &relay.octets(),
            &[0, 92, 0, 12 + 8, 192, 0, 2, 18, 56, 0x20, 1, 0xd, 0xb8, 0, 1, 2],
            &[0, 93, 0, 4, 0, 6, 0xd0, 0],
        ];
        assert_eq!(written, expected.concat());
    }
}
