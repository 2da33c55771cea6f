//! When exchanges start: as answers come back, at a rate, along a ramp, or all at once.

use super::Spacing;

/// When the exchanges of a phase start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as fewer than this many are under way. Latencies then count from when an exchange could start.
    Closed {
        /// Exchanges under way at a time.
        window: usize,
    },
    /// At a rate, whether or not earlier ones have ended. Latencies count from when an exchange was due.
    Open {
        /// Exchanges a second.
        rate: f64,
        /// Gaps between them.
        spacing: Spacing,
    },
    /// At a rate that changes steadily and then stays.
    Ramp {
        /// Exchanges a second at the start.
        from: f64,
        /// Exchanges a second at the end.
        to: f64,
        /// How long the change takes.
        seconds: f64,
        /// Gaps between exchanges.
        spacing: Spacing,
    },
    /// Everything is due at the start. Latencies count from there.
    Burst,
}

impl Pace {
    /// The rate at which it starts, as far as it has one.
    pub fn rate(&self) -> Option<f64> {
        match *self {
            Pace::Open { rate, .. } => Some(rate),
            Pace::Ramp { from, .. } => Some(from),
            Pace::Closed { .. } | Pace::Burst => None,
        }
    }
}

/// Tells when the next exchange of a phase is due. All times are in microseconds.
#[derive(Debug)]
pub struct Pacer {
    pace: Pace,
    random: fastrand::Rng,
    began_us: u64,
    /// Exchanges that were to have started by the time that is next; fractions come from random gaps.
    expected: f64,
    next_us: u64,
    /// Nothing is due from here on.
    end_us: Option<u64>,
}

impl Pacer {
    /// A pacer of a phase that begins at `began_us` and, if it is bounded in time, starts nothing after `lasts_us`.
    /// The same seed gives the same times.
    pub fn new(pace: &Pace, began_us: u64, lasts_us: Option<u64>, seed: u64) -> Self {
        let mut pacer = Self {
            pace: *pace,
            random: fastrand::Rng::with_seed(seed),
            began_us,
            expected: 0.0,
            next_us: began_us,
            end_us: lasts_us.map(|lasts| began_us.saturating_add(lasts)),
        };
        // With random gaps the first exchange is one gap away as well, or every phase would begin too fast.
        if pacer.spacing() == Some(Spacing::Poisson) {
            pacer.advance();
        }
        pacer
    }

    /// When the next exchange was due, if it may start now.
    pub fn due(&mut self, now_us: u64, under_way: usize) -> Option<u64> {
        let due = match self.pace {
            Pace::Closed { window } => (under_way < window).then_some(now_us)?,
            Pace::Open { .. } | Pace::Ramp { .. } | Pace::Burst => self.next_us,
        };
        (due <= now_us && self.end_us.is_none_or(|end| due < end)).then_some(due)
    }

    /// The exchange that was due has started.
    pub fn advance(&mut self) {
        let Some(spacing) = self.spacing() else { return };
        self.expected += match spacing {
            Spacing::Fixed => 1.0,
            // Exponentially distributed with mean one; the logarithm never sees a zero.
            Spacing::Poisson => -(1.0 - self.random.f64()).ln(),
        };
        self.next_us = self.began_us.saturating_add(micros(self.seconds_until(self.expected)));
    }

    /// When it is worth looking again if no answer comes; none if only an answer can make room.
    pub fn next_us(&self, now_us: u64) -> Option<u64> {
        match self.pace {
            Pace::Closed { .. } => self.end_us,
            Pace::Open { .. } | Pace::Ramp { .. } | Pace::Burst => Some(self.next_us.max(now_us)),
        }
    }

    /// Whether the time of the phase is over: nothing is due any more.
    pub fn is_over(&self, now_us: u64) -> bool {
        let next = match self.pace {
            Pace::Closed { .. } => now_us,
            Pace::Open { .. } | Pace::Ramp { .. } | Pace::Burst => self.next_us,
        };
        self.end_us.is_some_and(|end| next >= end && now_us >= end)
    }

    fn spacing(&self) -> Option<Spacing> {
        match self.pace {
            Pace::Open { spacing, .. } | Pace::Ramp { spacing, .. } => Some(spacing),
            Pace::Closed { .. } | Pace::Burst => None,
        }
    }

    /// Seconds from the start until this many exchanges are to have started: the inverse of the rate's integral.
    fn seconds_until(&self, count: f64) -> f64 {
        match self.pace {
            Pace::Open { rate, .. } => count / rate,
            Pace::Ramp { from, to, seconds, .. } => {
                let in_ramp = f64::midpoint(from, to) * seconds;
                if count >= in_ramp {
                    return seconds + (count - in_ramp) / to;
                }
                // from t + (to - from) t^2 / (2 seconds) = count, solved without a difference of near values.
                let growth = (to - from) / seconds;
                2.0 * count / (from + (from * from + 2.0 * growth * count).max(0.0).sqrt())
            }
            Pace::Closed { .. } | Pace::Burst => 0.0,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds are not negative, and a cast from f64 saturates"
)]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "the counts of a test are small")]
mod tests {
    use super::*;

    /// Due times until `until_us`.
    fn times(pace: Pace, seed: u64, until_us: u64) -> Vec<u64> {
        let mut pacer = Pacer::new(&pace, 1000, None, seed);
        let mut times = Vec::new();
        while let Some(due) = pacer.due(1000 + until_us, 0) {
            times.push(due - 1000);
            pacer.advance();
        }
        times
    }

    #[test]
    fn fixed_spacing_is_fixed_and_keeps_no_rounding() {
        let pace = Pace::Open { rate: 3.0, spacing: Spacing::Fixed };
        let times = times(pace, 0, 3_600_000_000);
        assert_eq!(times.len(), 10_801);
        assert_eq!((times[0], times[1], times[3]), (0, 333_333, 1_000_000));
        assert_eq!(times[10_800], 3_600_000_000);
    }

    #[test]
    fn random_gaps_have_mean_and_deviation_of_a_poisson_process_and_follow_the_seed() {
        let pace = Pace::Open { rate: 1000.0, spacing: Spacing::Poisson };
        let one = times(pace, 7, 100_000_000);
        assert_eq!(one, times(pace, 7, 100_000_000));
        assert_ne!(one, times(pace, 8, 100_000_000));
        // 100,000 are expected; four standard deviations are 1,265.
        assert!((98_735..=101_265).contains(&one.len()), "{}", one.len());
        let gaps: Vec<f64> = one.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{} {mean}", variance.sqrt());
    }

    #[test]
    fn a_ramp_starts_as_many_as_its_integral_says() {
        for (from, to) in [(1000.0, 5000.0), (5000.0, 1000.0), (2000.0, 2000.0)] {
            let pace = Pace::Ramp { from, to, seconds: 10.0, spacing: Spacing::Fixed };
            let times = times(pace, 0, 12_000_000);
            let until =
                |seconds: f64| times.iter().filter(|&&at| at < micros(seconds)).count() as f64;
            for seconds in [2.0, 5.0, 10.0] {
                let integral = from * seconds + (to - from) * seconds * seconds / 20.0;
                assert!((until(seconds) - integral).abs() <= 2.0, "{from} to {to}: {seconds} s");
            }
            // It stays where it ended.
            assert!((until(12.0) - until(10.0) - 2.0 * to).abs() <= 2.0);
        }
    }

    #[test]
    fn a_window_waits_for_room_and_a_burst_for_nothing() {
        let mut closed = Pacer::new(&Pace::Closed { window: 2 }, 0, None, 0);
        assert_eq!(closed.due(5, 1), Some(5));
        assert_eq!(closed.due(5, 2), None);
        assert_eq!(closed.next_us(5), None);
        let mut burst = Pacer::new(&Pace::Burst, 3, None, 0);
        burst.advance();
        assert_eq!(burst.due(900, 1_000_000), Some(3));
    }

    #[test]
    fn nothing_is_due_after_the_end() {
        let pace = Pace::Open { rate: 10.0, spacing: Spacing::Fixed };
        let mut pacer = Pacer::new(&pace, 0, Some(1_000_000), 0);
        let mut started = 0;
        while pacer.due(5_000_000, 0).is_some() {
            pacer.advance();
            started += 1;
        }
        assert_eq!(started, 10);
        assert!(pacer.is_over(5_000_000));
        let mut closed = Pacer::new(&Pace::Closed { window: 9 }, 0, Some(10), 0);
        assert_eq!((closed.due(9, 0), closed.due(10, 0)), (Some(9), None));
        assert!(!closed.is_over(9) && closed.is_over(10));
    }
}
