//! What was measured, turn by turn, and what can be said of several turns together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One measurement of one server: figures by name, with the unit in the name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The scenario's name.
    pub scenario: String,
    /// Who was measured.
    pub server: String,
    /// What was measured, such as `new` or `renew`.
    pub measure: String,
    /// The repetition, from 1 on. Turns of one repetition were measured one after another.
    pub repetition: u32,
    /// The figures.
    pub figures: BTreeMap<String, f64>,
}

/// Median, least and greatest of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The one in the middle; of an even number the mean of the two.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// How many there were.
    pub count: usize,
}

impl Spread {
    /// Of these figures; `None` if there are none.
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, greatest) = (*figures.first()?, *figures.last()?);
        let (low, high) = (figures.get((figures.len() - 1) / 2)?, figures.get(figures.len() / 2)?);
        Some(Self { median: (low + high) / 2.0, least, greatest, count: figures.len() })
    }

    /// The same after `change`, which grows with its argument.
    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            median: change(self.median),
            least: change(self.least),
            greatest: change(self.greatest),
            count: self.count,
        }
    }
}

/// All turns of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Turns(pub Vec<Turn>);

/// Whose figures are meant: scenario, server, measure.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a>(pub &'a str, pub &'a str, pub &'a str);

impl Turns {
    /// The turns that are meant, in order.
    pub fn of(&self, of: Of<'_>) -> impl Iterator<Item = &Turn> {
        self.0.iter().filter(move |turn| {
            (turn.scenario.as_str(), turn.server.as_str(), turn.measure.as_str())
                == (of.0, of.1, of.2)
        })
    }

    /// Those that `keep` keeps.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Turn) -> bool) -> Turns {
        Turns(self.0.iter().filter(|turn| keep(turn)).cloned().collect())
    }

    /// A figure over all repetitions.
    pub fn spread(&self, of: Of<'_>, figure: &str) -> Option<Spread> {
        Spread::of(self.of(of).filter_map(|turn| turn.figures.get(figure).copied()).collect())
    }

    /// Nanoseconds of a bench over all repetitions; of a single one, between the bounds of criterion.
    pub fn nanoseconds(&self, of: Of<'_>) -> Option<Spread> {
        let spread = self.spread(of, "ns")?;
        if spread.count > 1 {
            return Some(spread);
        }
        let bound = |name| self.median(of, name).unwrap_or(spread.median);
        Some(Spread { least: bound("ns_low"), greatest: bound("ns_high"), ..spread })
    }

    /// The median of a figure over all repetitions.
    pub fn median(&self, of: Of<'_>, figure: &str) -> Option<f64> {
        self.spread(of, figure).map(|spread| spread.median)
    }

    /// `combine` over a figure of one and a figure of another, each pair of the same repetition.
    pub fn paired(
        &self,
        (one, one_figure): (Of<'_>, &str),
        (other, other_figure): (Of<'_>, &str),
        combine: impl Fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let pairs = self.of(one).filter_map(|turn| {
            let mut others = self.of(other);
            let twin = others.find(|other| other.repetition == turn.repetition)?;
            Some(combine(*turn.figures.get(one_figure)?, *twin.figures.get(other_figure)?))
        });
        Spread::of(pairs.filter(|value| value.is_finite()).collect())
    }

    /// The ratio of the same figure of two, each within one repetition.
    pub fn ratio(&self, one: Of<'_>, other: Of<'_>, figure: &str) -> Option<Spread> {
        self.paired((one, figure), (other, figure), |one, other| one / other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(server: &str, repetition: u32, rate: f64) -> Turn {
        Turn {
            scenario: "dora".to_owned(),
            server: server.to_owned(),
            measure: "new".to_owned(),
            repetition,
            figures: BTreeMap::from([("rate".to_owned(), rate)]),
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![]), None);
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (spread.median, spread.least, spread.greatest, spread.count),
            (2.0, 1.0, 3.0, 3)
        );
        let even = Spread { median: 2.5, least: 1.0, greatest: 4.0, count: 2 };
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(even));
        let twice = Spread { median: 4.0, least: 2.0, greatest: 6.0, count: 3 };
        assert_eq!(spread.map(|x| 2.0 * x), twice);
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        // The machine was twice as fast in the second repetition: ratios do not see it, ratios of medians would.
        let turns = Turns(vec![
            turn("ours", 1, 10.0),
            turn("null", 1, 20.0),
            turn("ours", 2, 20.0),
            turn("null", 2, 40.0),
            turn("ours", 3, 99.0),
        ]);
        let of = |server| Of("dora", server, "new");
        let ratio = turns.ratio(of("ours"), of("null"), "rate").unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.greatest, ratio.count), (0.5, 0.5, 0.5, 2));
        assert_eq!(turns.median(of("ours"), "rate"), Some(20.0));
        assert_eq!(turns.spread(of("kea"), "rate"), None);
        assert_eq!(turns.ratio(of("ours"), of("kea"), "rate"), None);
    }
}
