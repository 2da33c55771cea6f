//! When a message is sent again: after a fixed time, or backing off as RFC 2131 §4.1 says.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

/// When a message is sent again, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Always after the same time.
    Fixed {
        /// How long a transmission waits for its answer.
        timeout: Duration,
        /// Transmissions before the exchange is given up; none: never.
        tries: Option<u32>,
    },
    /// After times that double up to a limit, each a little longer or shorter by chance.
    Rfc2131 {
        /// The first wait, without chance.
        first: Duration,
        /// The longest wait, without chance.
        most: Duration,
        /// How much longer or shorter chance makes a wait.
        jitter: Duration,
        /// Transmissions before the exchange is given up; none: never.
        tries: Option<u32>,
    },
}

impl Backoff {
    /// 4, 8, 16, 32, 64 s, each plus or minus 1 s, all times multiplied by `scale`.
    pub fn rfc2131(scale: f64, tries: Option<u32>) -> Self {
        let seconds = |seconds: u32| Duration::from_secs_f64(f64::from(seconds) * scale);
        Self::Rfc2131 { first: seconds(4), most: seconds(64), jitter: seconds(1), tries }
    }

    /// How long the transmission of this number (from 1) waits for its answer, in microseconds.
    pub fn wait_us(&self, transmission: u32, random: &mut fastrand::Rng) -> u32 {
        let micros = |time: &Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX / 2);
        match self {
            Self::Fixed { timeout, .. } => micros(timeout),
            Self::Rfc2131 { first, most, jitter, .. } => {
                let doublings = transmission.saturating_sub(1).min(16);
                let wait = first.saturating_mul(1 << doublings).min(*most);
                let (wait, jitter) = (micros(&wait), micros(jitter));
                wait.saturating_add(random.u32(0..=jitter.saturating_mul(2))).saturating_sub(jitter)
            }
        }
    }

    /// Whether a message that was sent so often is given up instead of being sent again.
    pub fn is_exhausted(&self, transmissions: u32) -> bool {
        let (Self::Fixed { tries, .. } | Self::Rfc2131 { tries, .. }) = self;
        tries.is_some_and(|tries| transmissions >= tries)
    }
}

/// When to look after which client: in the order in which it was said while all waits are alike, else sorted.
#[derive(Debug)]
pub(super) enum Deadlines {
    /// All waits are alike.
    Queue(VecDeque<(u64, u32)>),
    /// Waits differ.
    Sorted(BinaryHeap<Reverse<(u64, u32)>>),
}

impl Deadlines {
    pub(super) fn new(backoff: &Backoff) -> Self {
        match backoff {
            Backoff::Fixed { .. } => Self::Queue(VecDeque::new()),
            Backoff::Rfc2131 { .. } => Self::Sorted(BinaryHeap::new()),
        }
    }

    /// Remembers to look after a client at this time.
    pub(super) fn push(&mut self, at_us: u64, client: u32) {
        match self {
            Self::Queue(queue) => queue.push_back((at_us, client)),
            Self::Sorted(heap) => heap.push(Reverse((at_us, client))),
        }
    }

    /// The first deadline that is over, taken out.
    pub(super) fn pop_due(&mut self, now_us: u64) -> Option<(u64, u32)> {
        let &(at_us, _) = match self {
            Self::Queue(queue) => queue.front()?,
            Self::Sorted(heap) => &heap.peek()?.0,
        };
        if at_us > now_us {
            return None;
        }
        self.pop()
    }

    /// The first deadline, taken out.
    pub(super) fn pop(&mut self) -> Option<(u64, u32)> {
        match self {
            Self::Queue(queue) => queue.pop_front(),
            Self::Sorted(heap) => heap.pop().map(|Reverse(first)| first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_64_seconds_and_chance_moves_each_by_up_to_one() {
        let backoff = Backoff::rfc2131(1.0, Some(5));
        let mut random = fastrand::Rng::with_seed(3);
        for (transmission, seconds) in (1..).zip([4_u32, 8, 16, 32, 64, 64]) {
            let (mut least, mut most) = (u32::MAX, 0);
            for _ in 0..10_000 {
                let wait = backoff.wait_us(transmission, &mut random);
                (least, most) = (least.min(wait), most.max(wait));
            }
            let (low, high) = ((seconds - 1) * 1_000_000, (seconds + 1) * 1_000_000);
            assert!(least >= low && least < low + 5_000, "{least} for {seconds} s");
            assert!(most <= high && most > high - 5_000, "{most} for {seconds} s");
        }
        assert!(!backoff.is_exhausted(4) && backoff.is_exhausted(5));
    }

    #[test]
    fn a_scale_shortens_waits_and_chance_alike() {
        let backoff = Backoff::rfc2131(0.01, None);
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..1000 {
            assert!((30_000..=50_000).contains(&backoff.wait_us(1, &mut random)));
            assert!((630_000..=650_000).contains(&backoff.wait_us(9, &mut random)));
        }
        assert!(!backoff.is_exhausted(1000));
    }

    #[test]
    fn deadlines_come_when_they_are_over_and_the_earliest_first() {
        let fixed = Backoff::Fixed { timeout: Duration::from_secs(1), tries: None };
        for (backoff, given) in [(fixed, [3, 5, 9]), (Backoff::rfc2131(1.0, None), [9, 3, 5])] {
            let mut deadlines = Deadlines::new(&backoff);
            for at in given {
                deadlines.push(at, 7);
            }
            assert_eq!(deadlines.pop_due(2), None);
            assert_eq!(deadlines.pop_due(5), Some((3, 7)));
            assert_eq!(deadlines.pop_due(5), Some((5, 7)));
            assert_eq!(deadlines.pop_due(5), None);
            assert_eq!(deadlines.pop(), Some((9, 7)));
        }
    }

    #[test]
    fn a_fixed_wait_is_fixed() {
        let backoff = Backoff::Fixed { timeout: Duration::from_millis(7), tries: Some(2) };
        let mut random = fastrand::Rng::new();
        assert_eq!(
            (backoff.wait_us(1, &mut random), backoff.wait_us(9, &mut random)),
            (7000, 7000)
        );
        assert!(!backoff.is_exhausted(1) && backoff.is_exhausted(2));
    }
}
