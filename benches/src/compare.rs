//! Whether a bench has become slower, told from rounds that were run by turns: base, head, head, base, and so on.
//!
//! What is compared is the ratio of the two medians of a round, since what disturbs a machine lasts longer than that.
//! The median of the ratios counts as a change if it is further from 1 than a margin: several standard errors of that
//! median, as the rounds' spread tells them, and never less than what the layout of a program alone does.

use std::{collections::BTreeMap, fmt::Write as _};

/// The medians of one side: of each bench by its name, and by the number of the round, in nanoseconds.
pub type Rounds = BTreeMap<String, BTreeMap<u32, f64>>;

/// How many standard errors of the median are taken for noise. With five rounds their estimate is itself rough.
const ERRORS: f64 = 4.0;

/// A median absolute deviation, times this, is the standard deviation of what is normally distributed.
const DEVIATION: f64 = 1.4826;

/// A median's standard error, by that of the mean.
const OF_MEDIAN: f64 = 1.2533;

/// What became of a bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Within the margin.
    Same,
    /// Slower by more than the margin.
    Slower,
    /// Faster by more than the margin.
    Faster,
}

/// Both sides of one bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The bench.
    pub name: String,
    /// The median of the base's rounds, in nanoseconds.
    pub base: f64,
    /// The median of the head's rounds, in nanoseconds.
    pub head: f64,
    /// The median of the rounds' ratios, less 1.
    pub change: f64,
    /// What a change has to exceed.
    pub margin: f64,
}

impl Comparison {
    /// Compares rounds that were run by turns; `None` without a round that both sides have.
    pub fn new(
        name: &str,
        base: &BTreeMap<u32, f64>,
        head: &BTreeMap<u32, f64>,
        margin_min: f64,
    ) -> Option<Comparison> {
        let pairs = base.iter().filter_map(|(round, base)| Some((*base, *head.get(round)?)));
        let (base, head): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let ratios: Vec<f64> = base.iter().zip(&head).map(|(base, head)| head / base).collect();
        let ratio = median(&ratios)?;
        let margin = margin_min.max(ERRORS * standard_error(&ratios, ratio));
        let (base, head) = (median(&base)?, median(&head)?);
        Some(Comparison { name: name.to_owned(), base, head, change: ratio - 1.0, margin })
    }

    /// What became of it.
    pub fn finding(&self) -> Finding {
        if self.change > self.margin {
            Finding::Slower
        } else if self.change < -self.margin {
            Finding::Faster
        } else {
            Finding::Same
        }
    }
}

/// The median; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The standard error of the median of `values`, by their median absolute deviation.
fn standard_error(values: &[f64], center: f64) -> f64 {
    let deviations: Vec<f64> = values.iter().map(|value| (value - center).abs()).collect();
    let rounds = u32::try_from(values.len()).map_or(f64::MAX, f64::from);
    median(&deviations).map_or(0.0, |mad| OF_MEDIAN * DEVIATION * mad / rounds.sqrt())
}

/// Both sides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Benches that both sides have, by name.
    pub compared: Vec<Comparison>,
    /// Benches that only the base has.
    pub only_base: Vec<String>,
    /// Benches that only the head has.
    pub only_head: Vec<String>,
}

impl Report {
    /// Compares all benches.
    pub fn new(base: &Rounds, head: &Rounds, margin_min: f64) -> Report {
        let only = |side: &Rounds, other: &Rounds| {
            side.keys().filter(|name| !other.contains_key(*name)).cloned().collect()
        };
        let both = base.iter().filter_map(|(name, base)| Some((name, base, head.get(name)?)));
        let compared =
            both.filter_map(|(name, base, head)| Comparison::new(name, base, head, margin_min));
        Report {
            compared: compared.collect(),
            only_base: only(base, head),
            only_head: only(head, base),
        }
    }

    /// Benches that have become slower.
    pub fn slower(&self) -> impl Iterator<Item = &Comparison> {
        self.compared.iter().filter(|one| one.finding() == Finding::Slower)
    }

    /// A table of all benches, and what stands out, in words.
    pub fn text(&self) -> String {
        let width = self.compared.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
        let mut text = format!(
            "{:width$}  {:>9}  {:>9}  {:>7}  {:>6}\n",
            "bench", "base", "head", "change", "margin"
        );
        for one in &self.compared {
            let mark = match one.finding() {
                Finding::Same => "",
                Finding::Slower => "  slower",
                Finding::Faster => "  faster",
            };
            let (base, head) = (time(one.base), time(one.head));
            let (change, margin) = (one.change * 100.0, one.margin * 100.0);
            let name = &one.name;
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "{name:width$}  {base:>9}  {head:>9}  {change:>+6.1}%  {margin:>5.1}%{mark}"
            );
        }
        for (side, names) in [("base", &self.only_base), ("head", &self.only_head)] {
            if !names.is_empty() {
                let _ = writeln!(text, "\nonly the {side} has: {}", names.join(", "));
            }
        }
        text.push('\n');
        for one in self.slower() {
            let (change, margin) = (one.change * 100.0, one.margin * 100.0);
            let name = &one.name;
            let _ = writeln!(text, "REGRESSED {name}: {change:+.1} %, margin {margin:.1} %");
        }
        if self.slower().next().is_none() {
            let _ = writeln!(text, "none of {} benches has become slower", self.compared.len());
        }
        text
    }
}

/// Nanoseconds in the unit that fits.
fn time(nanoseconds: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    let unit = units.into_iter().find(|(size, _)| nanoseconds >= *size);
    let (size, name) = unit.unwrap_or((1.0, "ns"));
    format!("{:.2} {name}", nanoseconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// `rounds` medians around `center`, off by up to `noise` of it either way.
    fn rounds(random: &mut Random, rounds: usize, center: f64, noise: f64) -> Vec<f64> {
        let steps = |draw: usize| f64::from(u32::try_from(draw).unwrap()) / 500.0 - 1.0;
        (0..rounds).map(|_| center * (1.0 + noise * steps(random.below(1001)))).collect()
    }

    fn finding(base: &[f64], head: &[f64]) -> Finding {
        Comparison::new("bench", &numbered(base), &numbered(head), 0.05).unwrap().finding()
    }

    fn numbered(medians: &[f64]) -> BTreeMap<u32, f64> {
        (0..).zip(medians.iter().copied()).collect()
    }

    #[test]
    fn a_round_that_one_side_lacks_shifts_no_other() {
        let base = BTreeMap::from([(0, 10.0), (1, 20.0), (2, 40.0)]);
        let head = BTreeMap::from([(1, 20.0), (2, 40.0)]);
        let compared = Comparison::new("bench", &base, &head, 0.05).unwrap();
        assert_eq!((compared.change, compared.finding()), (0.0, Finding::Same));
    }

    #[test]
    fn identical_rounds_are_the_same() {
        let values = [10.0, 11.0, 10.5, 30.0, 10.2];
        assert_eq!(finding(&values, &values), Finding::Same);
    }

    #[test]
    fn a_fifth_slower_is_named_and_a_fifth_faster_too() {
        let mut random = Random(1);
        for _ in 0..1000 {
            let base = rounds(&mut random, 5, 100.0, 0.02);
            let head = rounds(&mut random, 5, 120.0, 0.02);
            assert_eq!(finding(&base, &head), Finding::Slower, "{base:?} {head:?}");
            assert_eq!(finding(&head, &base), Finding::Faster, "{base:?} {head:?}");
        }
    }

    #[test]
    fn noise_is_no_change() {
        let mut random = Random(2);
        let falsely = (0..2000).filter(|_| {
            let base = rounds(&mut random, 7, 100.0, 0.3);
            let head = rounds(&mut random, 7, 100.0, 0.3);
            finding(&base, &head) != Finding::Same
        });
        let falsely = falsely.count();
        assert!(falsely < 100, "{falsely} of 2000");
    }

    #[test]
    fn a_machine_that_slows_down_for_some_rounds_disturbs_neither_side() {
        let base = [100.0, 101.0, 180.0, 182.0, 99.0];
        let head = [100.5, 100.0, 181.0, 180.0, 100.0];
        assert_eq!(finding(&base, &head), Finding::Same);
    }

    #[test]
    fn less_than_the_smallest_margin_is_the_same() {
        assert_eq!(finding(&[100.0; 5], &[104.0; 5]), Finding::Same);
        assert_eq!(finding(&[100.0; 5], &[106.0; 5]), Finding::Slower);
    }

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert!(Comparison::new("bench", &numbered(&[]), &numbered(&[1.0]), 0.05).is_none());
    }

    #[test]
    fn a_report_names_what_is_slower_and_lists_what_one_side_lacks() {
        let side = |benches: &[(&str, f64)]| -> Rounds {
            benches.iter().map(|&(name, time)| (name.to_owned(), numbered(&[time; 5]))).collect()
        };
        let base = side(&[("old", 1.0), ("same", 10.0), ("worse", 1000.0)]);
        let head = side(&[("new", 1.0), ("same", 10.0), ("worse", 1200.0)]);
        let report = Report::new(&base, &head, 0.05);
        assert_eq!(
            (&*report.only_base, &*report.only_head),
            (&["old".into()][..], &["new".into()][..])
        );
        assert_eq!(report.slower().map(|one| &*one.name).collect::<Vec<_>>(), ["worse"]);
        let text = report.text();
        assert!(text.contains("REGRESSED worse: +20.0 %, margin 5.0 %"), "{text}");
        assert!(text.contains("only the base has: old") && text.contains("only the head has: new"));
        assert!(text.contains("1.20 µs") && !text.contains("REGRESSED same"), "{text}");
        let text = Report::new(&head, &head, 0.05).text();
        assert!(text.contains("none of 3 benches has become slower"), "{text}");
    }
}
