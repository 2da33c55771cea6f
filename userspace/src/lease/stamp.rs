//! Time as the leases know it, and the stamps that order the records of a slot.

use super::rules::{Rule, holds};

/// The server's clock: milliseconds since the Unix epoch.
///
/// It is the wall clock at the process's birth plus the time since boot that has passed, so that a step of the
/// wall clock changes no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now(pub u64);

impl Now {
    /// Whole seconds since the Unix epoch. Saturates in 2106.
    pub fn seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }

    /// Whether promises may be made by a clock that is born now, when the log's greatest stamp is `greatest`. A clock
    /// behind the log was stepped back: what it promises would be over too early once it is right again.
    pub fn follows(self, greatest: Stamp) -> bool {
        self.0 >= greatest.0 || !holds(Rule::ClockCatchesUp)
    }
}

/// Orders the records of one slot: of two, the greater stamp is the truth.
///
/// A hybrid clock: milliseconds since the epoch, or one more than the slot's last stamp if that is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The stamp of a record made now for a slot whose last record bore `last`.
    #[must_use]
    pub fn after(last: Stamp, now: Now) -> Stamp {
        Stamp(if holds(Rule::StampsRise) { now.0.max(last.0 + 1) } else { now.0 })
    }

    /// When a hold-down that began with the record is over, in seconds since the epoch, rounded up.
    pub fn hold_end(self, hold_down_seconds: u32) -> u32 {
        let end = self.0.div_ceil(1000).saturating_add(u64::from(hold_down_seconds));
        u32::try_from(end).unwrap_or(u32::MAX)
    }

    /// When the record was made, in whole seconds since the epoch.
    pub fn seconds(self) -> u32 {
        Now(self.0).seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_exceeds_the_last_and_follows_the_clock() {
        assert_eq!(Stamp::after(Stamp(5), Now(9)), Stamp(9));
        assert_eq!(Stamp::after(Stamp(9), Now(9)), Stamp(10));
        assert_eq!(Stamp::after(Stamp(20), Now(9)), Stamp(21));
    }
}
