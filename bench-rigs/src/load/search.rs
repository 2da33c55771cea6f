//! The search for the highest rate that loses little enough: it doubles, then halves the bracket.

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Trials of one search at the most.
const TRIALS_MAX: usize = 48;

/// As narrow as this, in percent of its lower end, is a bracket whose upper end is the generator's limit: nothing is
/// learnt of the server by measuring the generator more closely.
const GENERATOR_PRECISION_PERCENT: f64 = 10.0;

/// What a search looks for, and how carefully.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchOptions {
    /// A rate is good if no more than this share of its exchanges is lost or late, in percent.
    pub loss_percent: f64,
    /// Rate of the first trial, in exchanges a second.
    pub from: f64,
    /// Measured time of a trial, in seconds.
    pub trial_seconds: f64,
    /// Time at the rate before the measured part, in seconds.
    pub warm_up_seconds: f64,
    /// The search ends when the bracket is narrower than this, in percent of its lower end.
    pub precision_percent: f64,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            loss_percent: 0.1,
            from: 1000.0,
            trial_seconds: 3.0,
            warm_up_seconds: 0.5,
            precision_percent: 2.0,
        }
    }
}

/// One trial at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Exchanges a second that were to start.
    pub rate: f64,
    /// Exchanges a second that did start.
    pub offered: f64,
    /// Exchanges a second that were completed.
    pub completed: f64,
    /// Share of the exchanges that were lost or late, in percent.
    pub loss_percent: f64,
    /// Half of the exchanges took no longer than this, in microseconds from when they were due.
    pub p50_us: u64,
    /// Ninety-nine of a hundred.
    pub p99_us: u64,
    /// Share of its core that the generator was busy.
    pub generator_busy: f64,
    /// The generator itself started less than 99 % of what was due.
    pub generator_limited: bool,
    /// Whether the loss was small enough and the rate was offered in full.
    pub good: bool,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The highest good rate, in exchanges a second; none if not even the lowest trial was good.
    pub rate: Option<f64>,
    /// The lowest rate above it that was not good; none if the generator was the limit throughout.
    pub too_high: Option<f64>,
    /// The generator was the limit at the upper end: the server may do more.
    pub generator_limited: bool,
    /// All trials, in order.
    pub trials: Vec<Trial>,
}

/// What is known while a search goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Bracket {
    /// The highest rate below `bad` that was good.
    good: Option<f64>,
    /// The lowest rate that was not.
    bad: Option<f64>,
    /// It was not good since the generator could not offer it.
    is_generator_limited: bool,
}

impl Bracket {
    /// The next rate to try; none when the bracket is narrow or its lower end has left sense.
    fn next(self, options: &SearchOptions) -> Option<f64> {
        match (self.good, self.bad) {
            (None, None) => Some(options.from),
            (Some(good), None) => Some(2.0 * good),
            (None, Some(bad)) => (bad > 2.0).then_some(bad / 2.0),
            (Some(good), Some(bad)) => {
                let percent = if self.is_generator_limited {
                    options.precision_percent.max(GENERATOR_PRECISION_PERCENT)
                } else {
                    options.precision_percent
                };
                let is_narrow = bad - good <= good * percent / 100.0;
                (!is_narrow).then_some(f64::midpoint(good, bad))
            }
        }
    }

    /// A rate was not good, as the last of these trials says.
    fn fail(&mut self, rate: f64, trials: &[Trial]) {
        self.bad = Some(rate);
        self.is_generator_limited = trials.last().is_some_and(|one| one.generator_limited);
    }

    /// Takes back that a rate was good: the next lower one that was counts.
    fn fall_below(&mut self, rate: f64, trials: &[Trial]) {
        self.fail(rate, trials);
        let below = trials.iter().filter(|one| one.good && one.rate < rate).map(|one| one.rate);
        self.good = below.max_by(f64::total_cmp);
    }
}

/// Finds the highest rate at which `trial` is good.
///
/// Noise has two barriers. A rate that was not good is tried again before it counts as too high: a hiccup of a shared
/// machine must not halve the result. And the rate that is reported has to be good once more at the end, or the
/// search goes on below it.
///
/// # Errors
/// Those of `trial`.
pub fn search(
    options: &SearchOptions,
    mut trial: impl FnMut(f64) -> Result<Trial>,
) -> Result<Found> {
    let mut trials = Vec::new();
    let mut bracket = Bracket::default();
    while trials.len() < TRIALS_MAX {
        if let Some(rate) = bracket.next(options) {
            // A mistake while the rate still doubles costs most.
            let attempts = if bracket.bad.is_none() { 3 } else { 2 };
            if try_often(attempts, rate, &mut trial, &mut trials)? {
                bracket.good = Some(rate);
            } else {
                bracket.fail(rate, &trials);
            }
        } else {
            let Some(rate) = bracket.good else { break };
            if try_often(2, rate, &mut trial, &mut trials)? {
                break;
            }
            bracket.fall_below(rate, &trials);
        }
    }
    let is_above = |one: &&Trial| bracket.bad.is_some_and(|bad| one.rate >= bad);
    Ok(Found {
        rate: bracket.good,
        too_high: bracket.bad,
        generator_limited: trials.iter().filter(is_above).any(|one| one.generator_limited),
        trials,
    })
}

/// Tries a rate until it is good, but only so often, and not again if the generator could not offer it.
fn try_often(
    attempts: usize,
    rate: f64,
    trial: &mut impl FnMut(f64) -> Result<Trial>,
    trials: &mut Vec<Trial>,
) -> Result<bool> {
    for _ in 0..attempts {
        let one = trial(rate)?;
        trials.push(one);
        if one.good || one.generator_limited {
            return Ok(one.good);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that completes so many exchanges a second and loses the rest.
    fn serve(capacity: f64, rate: f64) -> Trial {
        let completed = rate.min(capacity);
        let loss_percent = 100.0 * (rate - completed) / rate;
        Trial {
            rate,
            offered: rate,
            completed,
            loss_percent,
            p50_us: 100,
            p99_us: 500,
            generator_busy: 0.3,
            generator_limited: false,
            good: loss_percent <= 0.1,
        }
    }

    #[test]
    fn the_capacity_of_a_server_is_found_from_below_and_from_above() {
        for (capacity, from) in [(43_210.0, 1000.0), (43_210.0, 500_000.0), (900.0, 1000.0)] {
            let options = SearchOptions { from, ..SearchOptions::default() };
            let found = search(&options, |rate| Ok(serve(capacity, rate))).unwrap();
            let rate = found.rate.unwrap();
            assert!((capacity * 0.979..=capacity * 1.002).contains(&rate), "{rate} of {capacity}");
            assert!(found.trials.len() <= 32, "{} trials", found.trials.len());
            assert!(found.too_high.unwrap() > rate);
        }
    }

    #[test]
    fn hiccups_do_not_halve_the_result() {
        let rate_of = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let noisy = |rate: f64| {
                // One trial in ten meets a hiccup; the others see a capacity that varies by 2 %.
                let hiccup = random.u32(..10) == 0;
                let capacity = 40_000.0 * (0.98 + 0.04 * random.f64());
                Ok(serve(if hiccup { 500.0 } else { capacity }, rate))
            };
            search(&SearchOptions::default(), noisy).unwrap().rate.unwrap()
        };
        let rates: Vec<f64> = (0..200).map(rate_of).collect();
        assert!(rates.iter().all(|&rate| rate <= 41_000.0), "{rates:?}");
        let right = rates.iter().filter(|&&rate| rate >= 35_000.0).count();
        assert!(right >= 180, "{right} of 200: {rates:?}");
    }

    #[test]
    fn luck_is_not_believed() {
        let mut times = std::collections::HashMap::new();
        let lucky_once = |rate: f64| {
            let count = times.entry(rate.to_bits()).or_insert(0);
            *count += 1;
            let capacity = if *count == 1 { 11_000.0 } else { 10_000.0 };
            Ok(serve(capacity, rate))
        };
        let rate = search(&SearchOptions::default(), lucky_once).unwrap().rate.unwrap();
        assert!((9_700.0..=10_020.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_dead_server_ends_the_search_without_a_rate() {
        let found = search(&SearchOptions::default(), |rate| Ok(serve(0.0, rate))).unwrap();
        assert_eq!(found.rate, None);
        assert!(found.trials.len() <= TRIALS_MAX);
    }

    #[test]
    fn a_generator_that_was_the_limit_is_told() {
        let weak = |rate: f64| {
            let limited = rate > 50_000.0;
            let trial = serve(1e9, rate);
            Ok(Trial { generator_limited: limited, good: trial.good && !limited, ..trial })
        };
        let found = search(&SearchOptions::default(), weak).unwrap();
        let rate = found.rate.unwrap();
        assert!(found.generator_limited && (45_000.0..=50_000.0).contains(&rate), "{rate}");
        // Seven to double, three to halve, one to be sure: the generator is not measured to two percent.
        assert!(found.trials.len() <= 11, "{} trials", found.trials.len());
    }
}
