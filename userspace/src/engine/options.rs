//! DHCPv4 options of the configuration, encoded once when it is read and only copied afterwards (RFC 2132, RFC 3396).
//!
//! Options are configured at four levels: for everybody, for a link, for a pool, for a reservation. The levels are
//! merged before anything is served, so that each pool, each link and each reservation has one ready set.

use crate::wire::{dhcpv4, writer::Writer};

/// Codes of DHCPv4 options: a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes([u64; 4]);

impl Codes {
    const fn place(code: u8) -> (usize, u64) {
        ((code >> 6) as usize, 1 << (code & 63))
    }

    /// Whether `code` is one of them.
    pub const fn contains(&self, code: u8) -> bool {
        let (word, bit) = Self::place(code);
        self.0[word] & bit != 0
    }

    /// Adds `code`.
    pub const fn insert(&mut self, code: u8) {
        let (word, bit) = Self::place(code);
        self.0[word] |= bit;
    }

    /// Takes `code` out. Whether it was one of them.
    pub const fn remove(&mut self, code: u8) -> bool {
        let was = self.contains(code);
        let (word, bit) = Self::place(code);
        self.0[word] &= !bit;
        was
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// Where an option stands among the octets of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    code: u8,
    start: usize,
    end: usize,
}

/// Options with their values, as they stand in a message: code, length, content, split where it is longer than 255
/// octets (RFC 3396 §4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionSet {
    codes: Codes,
    /// In the order of codes.
    places: Vec<Place>,
    octets: Vec<u8>,
}

/// No options.
pub static NO_OPTIONS: OptionSet =
    OptionSet { codes: Codes([0; 4]), places: Vec::new(), octets: Vec::new() };

impl OptionSet {
    /// Encodes `options`: code and content, in octets. Of several with one code the last one counts.
    pub fn new<V: AsRef<[u8]>>(options: impl IntoIterator<Item = (u8, V)>) -> OptionSet {
        let mut encoded: Vec<(u8, Vec<u8>)> = Vec::new();
        for (code, content) in options {
            let content = content.as_ref();
            let mut octets = vec![0; content.len() + 2 * content.len().div_ceil(255).max(1)];
            let mut w = Writer::new(&mut octets);
            dhcpv4::put_option(&mut w, code, content);
            encoded.retain(|(other, _)| *other != code);
            encoded.push((code, octets));
        }
        Self::from_encoded(encoded)
    }

    fn from_encoded(mut encoded: Vec<(u8, Vec<u8>)>) -> OptionSet {
        encoded.sort_by_key(|(code, _)| *code);
        let (mut codes, mut places, mut octets) = (Codes::default(), Vec::new(), Vec::new());
        for (code, option) in encoded {
            codes.insert(code);
            let start = octets.len();
            octets.extend(option);
            places.push(Place { code, start, end: octets.len() });
        }
        OptionSet { codes, places, octets }
    }

    /// These options and those of `inner`, a narrower level, which wins where both have one.
    #[must_use]
    pub fn overlaid(&self, inner: &OptionSet) -> OptionSet {
        let kept = self.iter().filter(|(code, _)| !inner.codes.contains(*code));
        let options = kept.chain(inner.iter()).map(|(code, option)| (code, option.to_vec()));
        Self::from_encoded(options.collect())
    }

    /// These options but for `codes`.
    #[must_use]
    pub fn without(&self, codes: Codes) -> OptionSet {
        let kept = self.iter().filter(|(code, _)| !codes.contains(*code));
        Self::from_encoded(kept.map(|(code, option)| (code, option.to_vec())).collect())
    }

    /// Which options there are.
    pub fn codes(&self) -> Codes {
        self.codes
    }

    /// The option `code` as it stands in a message; nothing if it is not configured.
    pub fn encoded(&self, code: u8) -> &[u8] {
        let place = self.places.binary_search_by_key(&code, |place| place.code);
        let place = place.ok().and_then(|at| self.places.get(at));
        place.and_then(|place| self.octets.get(place.start..place.end)).unwrap_or_default()
    }

    /// Codes, and the options as they stand in a message, in the order of codes.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.places.iter().map(|place| (place.code, self.encoded(place.code)))
    }

    /// The content of the option `code` in one piece.
    pub fn content(&self, code: u8) -> Option<Vec<u8>> {
        let mut rest = self.codes.contains(code).then(|| self.encoded(code))?;
        let mut content = Vec::new();
        while let [_, length, after @ ..] = rest {
            let (piece, after) = after.split_at_checked(usize::from(*length))?;
            content.extend(piece);
            rest = after;
        }
        Some(content)
    }

    /// Octets of all of them together, codes and lengths included.
    pub fn octets(&self) -> usize {
        self.octets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_kept_in_the_form_of_a_message() {
        let set = OptionSet::new([(42, vec![1, 2, 3, 4]), (6, vec![9, 9, 9, 9]), (80, vec![])]);
        assert_eq!(set.encoded(42), [42, 4, 1, 2, 3, 4]);
        assert_eq!(set.encoded(80), [80, 0]);
        assert!(set.encoded(7).is_empty());
        assert_eq!(set.iter().map(|(code, _)| code).collect::<Vec<_>>(), [6, 42, 80]);
        assert_eq!((set.content(6), set.content(7)), (Some(vec![9, 9, 9, 9]), None));
        assert_eq!(set.octets(), 14);
        assert!(NO_OPTIONS.is_empty() && NO_OPTIONS.codes().is_empty());
    }

    #[test]
    fn a_long_value_is_split_and_read_back_whole() {
        let content: Vec<u8> = (0..=255).chain(0..=255).collect();
        let set = OptionSet::new([(43, &content)]);
        let encoded = set.encoded(43);
        assert_eq!((encoded.len(), &encoded[..2]), (512 + 6, &[43, 255][..]));
        assert_eq!((&encoded[257..259], &encoded[514..516]), (&[43, 255][..], &[43, 2][..]));
        assert_eq!(set.content(43), Some(content));
    }

    #[test]
    fn the_narrower_level_wins() {
        let outer = OptionSet::new([(6, [1]), (15, [2])]);
        let inner = OptionSet::new([(6, [3]), (42, [4])]);
        let both = outer.overlaid(&inner);
        assert_eq!(both, OptionSet::new([(6, [3]), (15, [2]), (42, [4])]));
        assert_eq!(OptionSet::new([(6, [1]), (6, [3])]).content(6), Some(vec![3]));
        assert_eq!(outer.overlaid(&NO_OPTIONS), outer);
        assert_eq!(both.without(inner.codes()), OptionSet::new([(15, [2])]));
    }

    #[test]
    fn codes_come_and_go() {
        let mut codes = Codes::default();
        for code in [0, 63, 64, 159, 255] {
            assert!(!codes.contains(code));
            codes.insert(code);
            assert!(codes.contains(code));
        }
        assert!(codes.remove(159) && !codes.remove(159) && codes.contains(64));
    }
}
