//! What workers count, and how it is shown: one `name value` line for each counter.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    engine::{Reply, ReplyKind, reason::Reason, remark::Remark},
    lease::record::{Record, State},
    wire::dhcpv4::MessageType,
};

macro_rules! tallies {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that a worker does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Tally { $($(#[$doc])* $variant,)* }

        impl Tally {
            /// All variants, in the order of their discriminants.
            pub const ALL: &[Tally] = &[$(Tally::$variant,)*];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Tally::$variant => $name,)* }
            }
        }
    };
}

tallies! {
    /// A datagram went to the engine. Each ends as a reply, a promise without a reply, or a reason.
    Datagrams = "datagrams",
    /// An OFFER was made.
    Offers = "offers",
    /// An ACK was made; it leaves when its record is durable.
    Acks = "acks",
    /// A NAK was made.
    Naks = "naks",
    /// A Reply to an Information-request was made.
    Informations = "information-replies",
    /// A client has declined a tuple, which rests for nobody now.
    Declined = "tuples-declined",
    /// A promise was made that needs no reply: a RELEASE or a DECLINE.
    Silent = "promises-without-reply",
    /// A record went to the journal.
    Records = "records",
    /// A reply was parked until its record is durable.
    Parked = "replies-parked",
    /// A parked reply went out.
    Unparked = "replies-unparked",
    /// A parked reply was dropped: its record took longer than three seconds, and the client has asked again.
    Stale = "replies-stale",
    /// A record found its lane full, and its reply was dropped.
    LaneFull = "lane-full",
    /// A DISCOVER was not heard, since so much waited that the kernel would soon have dropped whatever comes.
    Shed = "discovers-shed",
    /// Datagrams were received, one or more at a time.
    Bursts = "bursts",
    /// A worker had nothing to do and slept.
    Sleeps = "sleeps",
    /// A worker could take nothing, because its lane or all its frames waited for the journal.
    Stalls = "stalls",
    /// A shard of the table was swept.
    Swept = "shards-swept",
    /// A shard was to be swept, but a client's message was being answered in it.
    SweptBusy = "shards-busy",
}

/// Counters of one worker. Only the worker writes; anyone may read.
#[derive(Debug)]
pub struct Counters {
    tallies: [AtomicU64; Tally::ALL.len()],
    remarks: [AtomicU64; Remark::ALL.len()],
    reasons: [AtomicU64; Reason::COUNT],
    /// Times that the worker went through its loop: stands still if the worker does.
    turns: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            tallies: [const { AtomicU64::new(0) }; Tally::ALL.len()],
            remarks: [const { AtomicU64::new(0) }; Remark::ALL.len()],
            reasons: [const { AtomicU64::new(0) }; Reason::COUNT],
            turns: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Counts one of something.
    pub fn count(&self, tally: Tally) {
        self.add(tally, 1);
    }

    /// Counts several of something.
    pub fn add(&self, tally: Tally, times: u64) {
        increase(&self.tallies[tally as usize], times);
    }

    /// Counts a reply by its type, and what is remarkable about it.
    pub fn reply(&self, reply: &Reply) {
        for remark in reply.remarks().iter() {
            increase(&self.remarks[remark as usize], 1);
        }
        self.count(match reply.kind() {
            ReplyKind::Dhcpv4(MessageType::Offer) => Tally::Offers,
            ReplyKind::Dhcpv4(MessageType::Nak) => Tally::Naks,
            ReplyKind::Dhcpv4(_) => Tally::Acks,
            ReplyKind::Information => Tally::Informations,
        });
    }

    /// Counts a promise without a reply.
    pub fn silent(&self, records: &[Record]) {
        self.count(Tally::Silent);
        if records.iter().any(|record| record.state() == Some(State::Quarantined)) {
            self.count(Tally::Declined);
        }
    }

    /// Counts a datagram that got no answer.
    pub fn refused(&self, reason: Reason) {
        increase(&self.reasons[reason.index()], 1);
    }

    /// Counts a turn of the loop.
    pub fn turn(&self) {
        increase(&self.turns, 1);
    }

    /// How often the loop has turned.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// How often something was done.
    pub fn get(&self, tally: Tally) -> u64 {
        self.tallies[tally as usize].load(Ordering::Relaxed)
    }

    /// How often there was this remark.
    pub fn get_remark(&self, remark: Remark) -> u64 {
        self.remarks[remark as usize].load(Ordering::Relaxed)
    }

    /// How often there was this reason.
    pub fn get_reason(&self, reason: impl Into<Reason>) -> u64 {
        self.reasons[reason.into().index()].load(Ordering::Relaxed)
    }
}

/// There is one writer, so a plain load and store do what a locked addition would cost more for.
fn increase(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// Names and values at one moment. Values of the same name add up; names keep the order in which they came.
#[derive(Debug, Default)]
pub struct Snapshot(Vec<(String, u64)>);

impl Snapshot {
    /// Adds `value` to what `name` has.
    pub fn add(&mut self, name: impl Into<String> + AsRef<str>, value: u64) {
        match self.0.iter_mut().find(|(known, _)| known == name.as_ref()) {
            Some((_, sum)) => *sum = sum.saturating_add(value),
            None => self.0.push((name.into(), value)),
        }
    }

    /// Adds all counters of a worker.
    pub fn add_worker(&mut self, counters: &Counters) {
        for &tally in Tally::ALL {
            self.add(tally.name(), counters.get(tally));
        }
        for &remark in Remark::ALL {
            self.add(remark.name(), counters.get_remark(remark));
        }
        for reason in Reason::all() {
            self.add(reason.name(), counters.get_reason(reason));
        }
    }

    /// Adds all of another one.
    pub fn add_all(&mut self, other: &Snapshot) {
        other.0.iter().for_each(|(name, value)| self.add(name.as_str(), *value));
    }

    /// What `name` has; 0 if there is none.
    pub fn get(&self, name: &str) -> u64 {
        self.0.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::{reason::Refusal, remark::Remarks};

    #[test]
    fn workers_add_up_name_by_name() {
        let (one, two) = (Counters::default(), Counters::default());
        one.count(Tally::Datagrams);
        two.add(Tally::Datagrams, 2);
        let remarks = Remarks::default().and(Remark::StrangePeer).and(Remark::Moved);
        two.reply(&Reply::new(0, 0, ReplyKind::Dhcpv4(MessageType::Nak), remarks));
        two.refused(Refusal::PoolExhausted.into());
        let mut snapshot = Snapshot::default();
        snapshot.add_worker(&one);
        snapshot.add_worker(&two);
        assert_eq!(snapshot.get("datagrams"), 3);
        assert_eq!(snapshot.get("naks"), 1);
        assert_eq!(snapshot.get("strange-peer-address"), 1);
        assert_eq!(snapshot.get("source-changed"), 1);
        assert_eq!(snapshot.get("options-omitted"), 0);
        assert_eq!(snapshot.get("pool-exhausted"), 1);
        let text = snapshot.to_string();
        assert!(text.contains("\ndatagrams 3\n") || text.starts_with("datagrams 3\n"), "{text}");
        let names = Tally::ALL.len() + Remark::ALL.len() + Reason::COUNT;
        assert_eq!(text.lines().count(), names);
    }

    #[test]
    fn no_two_counters_have_one_name() {
        let tallies = Tally::ALL.iter().map(|tally| tally.name());
        let events = crate::net::counters::Event::ALL.iter().map(|event| event.name());
        let remarks = Remark::ALL.iter().map(|remark| remark.name());
        let reasons = Reason::all().map(Reason::name);
        let names: Vec<&str> = tallies.chain(events).chain(remarks).chain(reasons).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
