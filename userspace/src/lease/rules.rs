//! The rules that keep promises, by name, so that the simulation can switch each off and see that it is missed.
//!
//! Each is kept by the one line of code that asks [`holds`]. Without the feature `sim` the answer is a constant and
//! nothing of this is left in the program.

/// What keeps the promises of a server that crashes. The numbers are those of the design's eight rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// 1: of two records of a tuple the one with the greater stamp is the truth.
    GreaterStampWins,
    /// 1: of two live tuples of one client, recovery keeps the newer as its lease.
    NewerLeaseWins,
    /// 2: an ACK leaves only after its record is durable.
    AcksWait,
    /// 2: a repeated REQUEST is answered out of its record only if that is durable.
    RepetitionsWait,
    /// 3: a stamp exceeds the tuple's last stamp, whoever held it.
    StampsRise,
    /// 4: nothing is served while the clock is behind the log.
    ClockCatchesUp,
    /// 5: a renewal never moves an expiry backwards.
    ExpiriesRise,
    /// 5: a record holds a lease longer than its ACK says.
    RecordsOutlastAcks,
    /// 6: an ACK that has waited too long is dropped.
    StaleAcksDrop,
    /// 7: a tuple that was given up rests for its last holder.
    FormerTuplesRest,
    /// 7: a declined tuple rests for nobody.
    DeclinedTuplesRest,
    /// 7: what rests goes on to rest after a restart.
    RestsOutliveRestarts,
    /// 8: the log's tail moves only past what is copied.
    TailWaitsForCopies,
    /// 8: the log copies the record with the greatest stamp of a tuple.
    GreatestStampIsCopied,
    /// An offered tuple is held until the offer lapses.
    OffersHold,
    /// Ports of a lease that no pool covers any more are nobody's until it is over.
    OutsideLeasesHold,
    /// A site has no more leases and offers than its limit.
    SitesAreLimited,
    /// What a site has counts after a restart, too.
    SitesOutliveRestarts,
    /// A reserved tuple goes to nobody but its client.
    ReservationsHold,
    /// No two leases that run have their softwires begin at one address.
    SoftwiresAreUnique,
    /// Where softwires begin is known after a restart, too.
    SoftwiresOutliveRestarts,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 21] = [
        Rule::GreaterStampWins,
        Rule::NewerLeaseWins,
        Rule::AcksWait,
        Rule::RepetitionsWait,
        Rule::StampsRise,
        Rule::ClockCatchesUp,
        Rule::ExpiriesRise,
        Rule::RecordsOutlastAcks,
        Rule::StaleAcksDrop,
        Rule::FormerTuplesRest,
        Rule::DeclinedTuplesRest,
        Rule::RestsOutliveRestarts,
        Rule::TailWaitsForCopies,
        Rule::GreatestStampIsCopied,
        Rule::OffersHold,
        Rule::OutsideLeasesHold,
        Rule::SitesAreLimited,
        Rule::SitesOutliveRestarts,
        Rule::ReservationsHold,
        Rule::SoftwiresAreUnique,
        Rule::SoftwiresOutliveRestarts,
    ];
}

/// Whether the rule is in force: always.
#[cfg(not(feature = "sim"))]
#[expect(clippy::inline_always, reason = "it has to vanish, in every build")]
#[inline(always)]
pub(crate) const fn holds(_rule: Rule) -> bool {
    true
}

#[cfg(feature = "sim")]
pub use switch::without;

#[cfg(feature = "sim")]
pub(crate) use switch::holds;

#[cfg(feature = "sim")]
mod switch {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static BROKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// Whether the rule is in force on this thread.
    pub(crate) fn holds(rule: Rule) -> bool {
        BROKEN.get() != Some(rule)
    }

    /// Runs `body` on this thread while nobody keeps `rule`; with `None` all rules are kept.
    pub fn without<T>(rule: Option<Rule>, body: impl FnOnce() -> T) -> T {
        struct Restore(Option<Rule>);
        impl Drop for Restore {
            fn drop(&mut self) {
                BROKEN.set(self.0);
            }
        }
        let _restore = Restore(BROKEN.replace(rule));
        body()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_rule_is_off_only_within_and_only_here() {
            without(Some(Rule::AcksWait), || {
                assert!(!holds(Rule::AcksWait) && holds(Rule::StampsRise));
                without(None, || assert!(holds(Rule::AcksWait)));
                assert!(std::thread::spawn(|| holds(Rule::AcksWait)).join().unwrap());
                assert!(!holds(Rule::AcksWait));
            });
            assert!(Rule::ALL.into_iter().all(holds));
        }
    }
}
