//! What is remarkable about a query that is answered all the same, or about its answer. Each is a counter.

macro_rules! remarks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something to be counted beside the answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Remark { $($(#[$doc])* $variant,)* }

        impl Remark {
            /// All variants, in the order of their discriminants.
            pub const ALL: &[Remark] = &[$(Remark::$variant,)*];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Remark::$variant => $name,)* }
            }
        }
    };
}

remarks! {
    /// The reply had no room for configured options that the client asked for.
    OptionsOmitted = "options-omitted",
    /// The reply had no room for the relay's Relay Agent Information (RFC 3046 §2.2).
    RelayInformationOmitted = "relay-info-omitted",
    /// A relay names nobody as its peer; the answer may go no further than to that relay.
    StrangePeer = "strange-peer-address",
    /// An Option Overload that makes no sense; the message was read as if it were not there (RFC 2132 §9.3).
    BadOverload = "bad-overload",
    /// Flag U on a REQUEST that a client would have to broadcast over IPv4 (RFC 7341 §8).
    UnicastSelecting = "unicast-selecting",
    /// A client rebooted at another IPv6 source address than its lease is from (RFC 7618 §7).
    Moved = "source-changed",
    /// A client wants to extend what is another's: a mistake, or somebody who pretends to be somebody else.
    ClaimsAnothers = "claimed-anothers-lease",
}

/// Several remarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remarks(u8);

const _: () = assert!(Remark::ALL.len() <= 8);

impl Remarks {
    /// None.
    pub const NONE: Remarks = Remarks(0);

    /// A bit for each.
    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    /// Those of the bits.
    pub(super) const fn from_bits(bits: u8) -> Remarks {
        Remarks(bits)
    }

    /// These and `remark`.
    #[must_use]
    pub const fn and(self, remark: Remark) -> Remarks {
        Remarks(self.0 | 1 << remark as u8)
    }

    /// These, and `remark` if it applies.
    #[must_use]
    pub const fn and_if(self, applies: bool, remark: Remark) -> Remarks {
        if applies { self.and(remark) } else { self }
    }

    /// Whether `remark` is one of them.
    pub const fn has(self, remark: Remark) -> bool {
        self.0 & 1 << remark as u8 != 0
    }

    /// Whether there is nothing to say.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Remark> {
        Remark::ALL.iter().copied().filter(move |remark| self.has(*remark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_add_up() {
        let none = Remarks::default();
        assert!(none.is_empty() && none.and_if(false, Remark::Moved).is_empty());
        let two = none.and(Remark::Moved).and_if(true, Remark::StrangePeer).and(Remark::Moved);
        assert!(two.has(Remark::Moved) && !two.has(Remark::BadOverload));
        assert_eq!(two.iter().collect::<Vec<_>>(), [Remark::StrangePeer, Remark::Moved]);
    }
}
