//! What happens to packets below the engine, counted by name.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::frame::FrameFault;

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that happens to a packet, or to a port, below the engine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Event { $($(#[$doc])* $variant,)* }

        impl Event {
            /// All variants, in the order of their discriminants.
            pub const ALL: &[Event] = &[$(Event::$variant,)*];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Event::$variant => $name,)* }
            }
        }
    };
}

events! {
    /// A frame or datagram came from the kernel, sound or not.
    Received = "rx",
    /// A reply was handed to the kernel.
    Sent = "tx",
    /// Replies had to wait for room in the transmit ring or in the socket's buffer.
    TransmitFull = "tx-full",
    /// The kernel refused one reply (no route, no neighbour, address gone) and it was dropped.
    TransmitFailed = "tx-failed",
    /// There was no buffer for the reply, and the query was dropped. The size of bursts excludes it.
    NoBlank = "no-blank",
    /// A reply longer than the port can send was dropped.
    ReplyTooLarge = "reply-over-mtu",
    /// A datagram longer than the receive buffer was dropped.
    TooLong = "rx-too-long",
    /// To an address that is none of ours.
    NotOurDestination = "not-our-destination",
    /// No address of the interface can be the source of the reply.
    NoSourceAddress = "no-source-address",
    /// A reply of another port, or of one that was closed, was dropped.
    ForeignReply = "foreign-reply",
    /// The kernel dropped a frame because the receive ring was full.
    ReceiveRingFull = "rx-ring-full",
    /// The kernel dropped a frame because it had no empty one, or the frame was too long.
    ReceiveDropped = "rx-dropped",
    /// The kernel refused a descriptor.
    InvalidDescriptor = "invalid-descriptor",
}

/// Counters of one port. Only the port's own thread writes; anyone may read.
#[derive(Debug, Default)]
pub struct NetCounters {
    events: [AtomicU64; Event::ALL.len()],
    faults: [AtomicU64; FrameFault::ALL.len()],
}

impl NetCounters {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts `event` once.
    pub fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Counts `event` `times` times.
    pub fn add(&self, event: Event, times: u64) {
        increase(&self.events[event as usize], times);
    }

    /// Counts a frame that is not for us.
    pub fn count_fault(&self, fault: FrameFault) {
        increase(&self.faults[fault as usize], 1);
    }

    /// How many frames had this fault.
    pub fn fault(&self, fault: FrameFault) -> u64 {
        self.faults[fault as usize].load(Ordering::Relaxed)
    }

    /// Takes over a total that somebody else, the kernel, has counted.
    pub fn set(&self, event: Event, total: u64) {
        self.events[event as usize].store(total, Ordering::Relaxed);
    }

    /// How often `event` has happened.
    pub fn get(&self, event: Event) -> u64 {
        self.events[event as usize].load(Ordering::Relaxed)
    }

    /// Names and values of all counters.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let events = Event::ALL.iter().map(|&event| (event.name(), self.get(event)));
        let faults = FrameFault::ALL.iter().map(|&fault| (fault.name(), self.fault(fault)));
        events.chain(faults)
    }
}

/// There is one writer, so a plain load and store do what a locked addition would cost more for.
fn increase(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_event_has_its_own_counter_and_name() {
        let counters = NetCounters::new();
        for (times, &event) in (1..).zip(Event::ALL) {
            counters.add(event, times);
        }
        for &fault in FrameFault::ALL {
            counters.count_fault(fault);
        }
        for (times, &event) in (1..).zip(Event::ALL) {
            assert_eq!(counters.get(event), times);
        }
        assert!(FrameFault::ALL.iter().all(|&fault| counters.fault(fault) == 1));
        let names: BTreeSet<&str> = counters.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Event::ALL.len() + FrameFault::ALL.len());
    }
}
