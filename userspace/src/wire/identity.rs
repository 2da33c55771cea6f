//! Client identifiers in the form of RFC 4361: what the client makes and what an operator reads.
//!
//! To the server an identifier is opaque octets (RFC 2131 §4.2); nothing here decides anything.

use std::fmt;

use super::writer::Writer;

/// The type octet of an identifier made of an IAID and a DUID (RFC 4361 §6.1).
const TYPE_DUID: u8 = 255;

/// The shortest DUID: a type and one octet (RFC 8415 §11.1).
pub const DUID_LENGTH_MIN: usize = 3;

/// The longest DUID: a type and 128 octets (RFC 8415 §11.1).
pub const DUID_LENGTH_MAX: usize = 130;

/// The longest identifier of this form.
pub const IDENTIFIER_LENGTH_MAX: usize = 1 + 4 + DUID_LENGTH_MAX;

/// An identifier of the form `255, IAID, DUID` (RFC 4361 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIdentifier<'a> {
    /// Identity association: which of the client's interfaces.
    pub iaid: u32,
    /// DHCP unique identifier: which client.
    pub duid: &'a [u8],
}

impl<'a> ClientIdentifier<'a> {
    /// Reads the content of option 61. `None` if it has another form, which is legal too.
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        let (&[kind, a, b, c, d], duid) = octets.split_first_chunk()?;
        let fits = (DUID_LENGTH_MIN..=DUID_LENGTH_MAX).contains(&duid.len());
        (kind == TYPE_DUID && fits).then_some(Self { iaid: u32::from_be_bytes([a, b, c, d]), duid })
    }

    /// Writes the content of option 61 into `buffer` and returns its length; `None` if it does not
    /// fit or the DUID is shorter or longer than a DUID may be.
    pub fn build(self, buffer: &mut [u8]) -> Option<usize> {
        if !(DUID_LENGTH_MIN..=DUID_LENGTH_MAX).contains(&self.duid.len()) {
            return None;
        }
        let mut w = Writer::new(buffer);
        w.u8(TYPE_DUID);
        w.u32(self.iaid);
        w.bytes(self.duid);
        w.finish()
    }
}

impl fmt::Display for ClientIdentifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iaid {:08x} duid ", self.iaid)?;
        self.duid.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCTETS: [u8; 15] = [255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

    #[test]
    fn reads_and_writes_the_form_of_rfc_4361() {
        let identifier = ClientIdentifier::parse(&OCTETS).unwrap();
        assert_eq!(identifier.iaid, 1);
        assert_eq!(identifier.duid, &OCTETS[5..]);
        assert_eq!(identifier.to_string(), "iaid 00000001 duid 00030001020000000001");
        let mut buffer = [0; IDENTIFIER_LENGTH_MAX];
        assert_eq!(identifier.build(&mut buffer), Some(15));
        assert_eq!(buffer[..15], OCTETS);
    }

    #[test]
    fn other_forms_are_not_taken_for_it() {
        assert_eq!(ClientIdentifier::parse(&[]), None);
        assert_eq!(ClientIdentifier::parse(&[1, 2, 0, 0, 0, 0, 1]), None);
        assert_eq!(ClientIdentifier::parse(&OCTETS[..7]), None);
        assert!(ClientIdentifier::parse(&OCTETS[..8]).is_some());
        let mut long = [0; IDENTIFIER_LENGTH_MAX + 1];
        long[0] = TYPE_DUID;
        assert_eq!(ClientIdentifier::parse(&long), None);
        assert!(ClientIdentifier::parse(&long[..IDENTIFIER_LENGTH_MAX]).is_some());
    }

    #[test]
    fn an_impossible_duid_is_not_built() {
        let mut buffer = [0; 256];
        assert_eq!(ClientIdentifier { iaid: 1, duid: &[0, 3] }.build(&mut buffer), None);
        assert_eq!(ClientIdentifier { iaid: 1, duid: &[0; 131] }.build(&mut buffer), None);
        assert_eq!(ClientIdentifier { iaid: 1, duid: &[0; 130] }.build(&mut [0; 134]), None);
    }
}
