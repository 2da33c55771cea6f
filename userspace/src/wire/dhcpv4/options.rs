//! Walking over DHCPv4 options: three fields, pieces, and values put together again.

use super::{END, PAD};

/// Where the options field begins, and where `sname` and `file` stand before it (RFC 2131 §2).
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS_START: usize = super::FIXED_LENGTH;

/// Which of the fixed fields hold options too (RFC 2132 §9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overload {
    file: bool,
    sname: bool,
}

impl Overload {
    /// Neither.
    pub(super) const NONE: Overload = Overload { file: false, sname: false };

    /// Reads the value of option 52. `None` if it is none that RFC 2132 §9.3 knows.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self { file: true, sname: false }),
            2 => Some(Self { file: false, sname: true }),
            3 => Some(Self { file: true, sname: true }),
            _ => None,
        }
    }
}

/// The pieces of options in one field: their codes and contents, without Pad and up to End.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    rest: &'a [u8],
}

impl<'a> Field<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// The field `options` of a message.
    pub(super) fn main(message: &'a [u8]) -> Self {
        Self::new(message.get(OPTIONS_START..).unwrap_or_default())
    }

    /// The field `file` of a message.
    pub(super) fn file(message: &'a [u8]) -> Self {
        Self::new(message.get(FILE).unwrap_or_default())
    }

    /// The field `sname` of a message.
    pub(super) fn sname(message: &'a [u8]) -> Self {
        Self::new(message.get(SNAME).unwrap_or_default())
    }

    /// Octets that are still to be looked at. After End they are none.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// After the iterator has ended: whether it came to End or the end of the field and not to an
    /// option that runs past it.
    #[inline]
    pub(super) fn is_exhausted(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Field<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&code, rest) = self.rest.split_first()?;
            match code {
                PAD => self.rest = rest,
                END => {
                    self.rest = &[];
                    return None;
                }
                _ => {
                    let (&length, rest) = rest.split_first()?;
                    let (content, rest) = rest.split_at_checked(usize::from(length))?;
                    self.rest = rest;
                    return Some((code, content));
                }
            }
        }
    }
}

/// The pieces of all options of a message, in the order in which they are put together.
///
/// req-S77 (RFC 3396 §7): split options are one; overloaded fields follow `options`, first `file`, then `sname`.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    current: Field<'a>,
    file: Field<'a>,
    sname: Field<'a>,
}

impl<'a> Options<'a> {
    pub(super) fn new(message: &'a [u8], overload: Overload) -> Self {
        let nothing = Field::new(&[]);
        Self {
            current: Field::main(message),
            file: if overload.file { Field::file(message) } else { nothing.clone() },
            sname: if overload.sname { Field::sname(message) } else { nothing },
        }
    }

    /// After the iterator has ended: whether no field had an option that ran past it.
    pub(super) fn is_exhausted(&self) -> bool {
        self.current.is_exhausted() && self.file.is_exhausted() && self.sname.is_exhausted()
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.current.next() {
                return Some(piece);
            }
            if !self.current.is_exhausted() {
                return None;
            }
            let nothing = Field::new(&[]);
            let file = std::mem::replace(&mut self.file, nothing.clone());
            self.current = if file.is_exhausted() {
                std::mem::replace(&mut self.sname, nothing)
            } else {
                file
            };
            if self.current.is_exhausted() {
                return None;
            }
        }
    }
}

/// The value of an option. It borrows from the packet, so it may be in several pieces (RFC 3396).
#[derive(Clone, Debug)]
pub struct Value<'a> {
    first: &'a [u8],
    others: Option<Others<'a>>,
}

/// Where the other pieces of an option are: behind the first one, somewhere in the message.
#[derive(Clone, Copy, Debug)]
struct Others<'a> {
    code: u8,
    overload: Overload,
    message: &'a [u8],
}

impl<'a> Others<'a> {
    /// All pieces, the first one too.
    fn and_first(self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let options = Options::new(self.message, self.overload);
        options.filter(move |&(seen, _)| seen == self.code).map(|(_, piece)| piece)
    }
}

impl<'a> Value<'a> {
    /// A value in one piece.
    #[inline]
    pub fn whole(octets: &'a [u8]) -> Self {
        Self { first: octets, others: None }
    }

    /// All pieces of the option `code` in a message. `None` if there are none.
    pub(super) fn gather(code: u8, message: &'a [u8], overload: Overload) -> Option<Self> {
        let others = Others { code, overload, message };
        let mut pieces = others.and_first();
        let first = pieces.next()?;
        Some(Self { first, others: pieces.next().map(|_| others) })
    }

    /// The number of octets.
    #[inline]
    pub fn len(&self) -> usize {
        match self.others {
            None => self.first.len(),
            Some(_) => self.pieces().map(<[u8]>::len).sum(),
        }
    }

    /// Whether there are no octets.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces in order. None is longer than 255 octets.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        std::iter::once(self.first).chain(self.others().into_iter().flatten())
    }

    /// The first piece, which most often is the only one.
    #[inline]
    pub fn first(&self) -> &'a [u8] {
        self.first
    }

    /// The other pieces, if there are any.
    #[inline]
    pub fn others(&self) -> Option<impl Iterator<Item = &'a [u8]> + Clone + use<'a>> {
        self.others.map(|others| others.and_first().skip(1))
    }

    /// The octets, if they are in one piece.
    #[inline]
    pub fn contiguous(&self) -> Option<&'a [u8]> {
        self.others.is_none().then_some(self.first)
    }

    /// Copies the octets to the beginning of `buffer` and returns their number. `None` if they do
    /// not fit.
    pub fn copy_to(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut length: usize = 0;
        for piece in self.pieces() {
            let end = length.checked_add(piece.len())?;
            buffer.get_mut(length..end)?.copy_from_slice(piece);
            length = end;
        }
        Some(length)
    }

    /// The octets as an array, if there are exactly as many.
    pub fn to_array<const N: usize>(&self) -> Option<[u8; N]> {
        if let Some(octets) = self.contiguous() {
            return octets.as_array().copied();
        }
        let mut array = [0; N];
        (self.copy_to(&mut array)? == N).then_some(array)
    }

    /// Whether `octet` is one of the octets.
    pub fn contains(&self, octet: u8) -> bool {
        match self.contiguous() {
            Some(octets) => octets.contains(&octet),
            None => self.pieces().any(|piece| piece.contains(&octet)),
        }
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.contiguous(), other.contiguous()) {
            (Some(one), Some(two)) => one == two,
            _ => self.pieces().flatten().eq(other.pieces().flatten()),
        }
    }
}

impl Eq for Value<'_> {}
