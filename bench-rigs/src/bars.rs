//! Horizontal bars as SVG, each with a line from the least to the greatest of what it stands for.

use std::fmt::Write as _;

use crate::plot::{escape, human, style};

/// Size of the chart, and where bars begin and end, in pixels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 260.0;
const RIGHT: f64 = 770.0;
const TOP: f64 = 70.0;
const STEP: f64 = 24.0;
const THICKNESS: f64 = 14.0;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The least.
    pub from: f64,
    /// The greatest.
    pub to: f64,
    /// Bars of one group have one colour.
    pub group: usize,
}

/// A chart of bars.
#[derive(Clone, Debug)]
pub struct Bars {
    /// Its headline.
    pub title: String,
    /// What is below the headline.
    pub subtitle: String,
    /// The bars, from top to bottom.
    pub bars: Vec<Bar>,
}

impl Bars {
    /// The chart as a document of its own.
    pub fn to_svg(&self) -> String {
        let greatest = self.bars.iter().map(|bar| bar.to.max(bar.value)).fold(1e-9, f64::max);
        let at = |value: f64| LEFT + (RIGHT - LEFT) * (value / greatest).clamp(0.0, 1.0);
        let mut rows = String::new();
        let mut y = TOP;
        for bar in &self.bars {
            let middle = y + THICKNESS / 2.0;
            let colour = bar.group % 8;
            let _ = writeln!(
                rows,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                 <line class=\"c{colour}\" stroke-width=\"{THICKNESS}\" x1=\"{LEFT}\" x2=\"{:.1}\" \
                 y1=\"{middle}\" y2=\"{middle}\"/>\
                 <line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                middle + 4.0,
                escape(&bar.name),
                at(bar.value),
                at(bar.from),
                at(bar.to),
                at(bar.value.max(bar.to)) + 8.0,
                middle + 4.0,
                human(bar.value),
            );
            y += STEP;
        }
        let height = y + 12.0;
        let (title, subtitle) = (escape(&self.title), escape(&self.subtitle));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n<style>{}</style>\n\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
             <text class=\"title\" x=\"20\" y=\"30\">{title}</text>\n\
             <text class=\"sub\" x=\"20\" y=\"50\">{subtitle}</text>\n{rows}</svg>\n",
            style(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |name: &str, value| Bar {
            name: name.to_owned(),
            value,
            from: value,
            to: value,
            group: 0,
        };
        let chart = Bars {
            title: "a < b".to_owned(),
            subtitle: String::new(),
            bars: vec![bar("half", 50.0), bar("all", 100.0)],
        };
        let svg = chart.to_svg();
        let ends: Vec<f64> = svg
            .split("stroke-width=\"14\"")
            .skip(1)
            .map(|rest| rest.split("x2=\"").nth(1).unwrap().split('"').next().unwrap())
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(ends, [f64::midpoint(LEFT, RIGHT), RIGHT]);
        assert!(svg.contains("a &lt; b") && svg.contains(">half<"));
    }
}
