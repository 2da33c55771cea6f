//! Line charts as SVG that adapt to light and dark pages.
//!
//! Written here because the crates that draw charts put colours into attributes, where a page's colour scheme cannot
//! change them.

use std::fmt::Write as _;

/// Size of a chart, and of the area inside the axes, in pixels.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 838.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 378.0;

/// Colours of the lines on light and on dark ground; told apart also by people who see no red or green.
const COLOURS: [(&str, &str); 8] = [
    ("#0b62c4", "#6cb2ff"),
    ("#c2410c", "#ff9d5c"),
    ("#0f7b5f", "#46d3a6"),
    ("#8b3fb8", "#d49bff"),
    ("#a16207", "#f2c94c"),
    ("#b4235a", "#ff8fb8"),
    ("#3f6b16", "#a3d977"),
    ("#475569", "#a8b5c7"),
];

/// How an axis maps values to places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps are equally far apart.
    Linear,
    /// Equal factors are equally far apart. Values must be above zero.
    Logarithmic,
    /// Percentiles as HDR plots have them: 90, 99, 99.9 ... equally far apart. Values are percentages below 100.
    Percentile,
}

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is on it, with its unit.
    pub label: String,
    /// How values become places.
    pub scale: Scale,
}

impl Axis {
    /// An axis with a label and its unit.
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale }
    }
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it stands for, in the legend.
    pub name: String,
    /// Points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Drawn in dashes.
    pub dashed: bool,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Its headline.
    pub title: String,
    /// What is below the headline: of what, from when.
    pub subtitle: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
}

/// An axis with its ends: from values to pixels.
struct Ruler {
    scale: Scale,
    from: f64,
    to: f64,
    pixel_from: f64,
    pixel_to: f64,
    ticks: Vec<(f64, String)>,
}

impl Ruler {
    fn new(scale: Scale, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let (from, to, ticks) = match scale {
            Scale::Linear => linear(low, high),
            Scale::Logarithmic => logarithmic(low, high),
            Scale::Percentile => percentile(high),
        };
        Self { scale, from, to, pixel_from: pixels.0, pixel_to: pixels.1, ticks }
    }

    fn at(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(self.from).log10(),
            Scale::Percentile => nines(value),
        };
        let (from, to) = (place(self.from), place(self.to));
        let share = ((place(value) - from) / (to - from)).clamp(0.0, 1.0);
        self.pixel_from + share * (self.pixel_to - self.pixel_from)
    }
}

/// 0 for 0 %, 1 for 90 %, 2 for 99 %, and so on.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent.min(99.999_999_9) / 100.0).log10()
}

/// Ends and ticks of a linear axis from zero (or below it).
fn linear(low: f64, high: f64) -> (f64, f64, Vec<(f64, String)>) {
    let low = low.min(0.0);
    let span = if high > low { high - low } else { 1.0 };
    let power = 10_f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| span / step <= 6.0)
        .unwrap_or(10.0 * power);
    let (from, steps) = ((low / step).floor() * step, (span / step).ceil());
    let ticks = (0..20).map(f64::from).take_while(|&tick| tick <= steps);
    let ticks = ticks.map(|tick| from + tick * step).map(|at| (at, human(at))).collect();
    (from, from + steps * step, ticks)
}

/// Ends and ticks of a logarithmic axis: powers of ten, and 2 and 5 between them if there are few.
fn logarithmic(low: f64, high: f64) -> (f64, f64, Vec<(f64, String)>) {
    let (low, high) = (low.max(1e-9), high.max(1e-9));
    let floor = |value: f64| 10_f64.powf(value.log10().floor());
    let factors: &[f64] = if high / low < 2000.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut ticks = Vec::new();
    let mut power = floor(low);
    while power <= 10.0 * high && ticks.len() < 60 {
        ticks.extend(factors.iter().map(|factor| factor * power));
        power *= 10.0;
    }
    let first = ticks.iter().rposition(|&tick| tick <= low).unwrap_or(0);
    let last = ticks.iter().position(|&tick| tick >= high).unwrap_or(ticks.len() - 1);
    let last = if last > first { last } else { (first + 1).min(ticks.len() - 1) };
    let (from, to) = (ticks[first], ticks[last]);
    (from, to, ticks[first..=last].iter().map(|&at| (at, human(at))).collect())
}

/// Ends and ticks of a percentile axis that shows everything up to `high`.
fn percentile(high: f64) -> (f64, f64, Vec<(f64, String)>) {
    let all = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999, 99.99999];
    let last = all.iter().position(|&tick| tick >= high).unwrap_or(all.len() - 1).max(2);
    let to = if high > 50.0 { high.min(all[last]) } else { 90.0 };
    let ticks = all.iter().filter(|&&tick| tick <= to).map(|&at| (at, format!("{at}%")));
    (0.0, to, ticks.collect())
}

/// A number with at most one unit prefix.
pub(crate) fn human(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        big if big >= 1e6 => (value / 1e6, "M"),
        big if big >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text == "-0" { "0" } else { text })
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The style of a chart: one set of colours for light and one for dark ground.
pub(crate) fn style() -> String {
    let mut style = String::from(
        "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;\
         font-size:12px;fill:#475569}.title{font-size:17px;font-weight:600;fill:#0f172a}\
         .sub{fill:#64748b}.ground{fill:#ffffff}.grid{stroke:#e2e8f0;stroke-width:1}\
         .axis{stroke:#94a3b8;stroke-width:1}.line{fill:none;stroke-width:2;\
         stroke-linejoin:round;stroke-linecap:round}.dashed{stroke-dasharray:6 5}",
    );
    for (number, (light, _)) in COLOURS.iter().enumerate() {
        let _ = write!(style, ".c{number}{{stroke:{light}}}");
    }
    style.push_str(
        "@media (prefers-color-scheme:dark){text{fill:#a8b5c7}.title{fill:#f1f5f9}\
         .sub{fill:#94a3b8}.ground{fill:#0f172a}.grid{stroke:#263349}.axis{stroke:#64748b}",
    );
    for (number, (_, dark)) in COLOURS.iter().enumerate() {
        let _ = write!(style, ".c{number}{{stroke:{dark}}}");
    }
    style.push('}');
    style
}

impl Chart {
    /// The chart as a document of its own.
    pub fn to_svg(&self) -> String {
        let values = |pick: fn(&(f64, f64)) -> f64| {
            self.lines.iter().flat_map(|line| &line.points).map(pick)
        };
        let x = Ruler::new(self.x.scale, values(|point| point.0), (LEFT, RIGHT));
        let y = Ruler::new(self.y.scale, values(|point| point.1), (BOTTOM, TOP));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n\
             <style>{style}</style>\n\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n\
             <text class=\"title\" x=\"20\" y=\"30\">{title}</text>\n\
             <text class=\"sub\" x=\"20\" y=\"50\">{subtitle}</text>\n",
            title = escape(&self.title),
            subtitle = escape(&self.subtitle),
            style = style(),
        );
        self.draw_axes(&mut svg, &x, &y);
        for (number, line) in self.lines.iter().enumerate() {
            let class = line_class(number, line);
            let _ = write!(svg, "<polyline class=\"{class}\" points=\"");
            for &(at, value) in &line.points {
                let _ = write!(svg, "{:.1},{:.1} ", x.at(at), y.at(value));
            }
            svg.push_str("\"/>\n");
        }
        self.draw_legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String, x: &Ruler, y: &Ruler) {
        let mut free_from = f64::NEG_INFINITY;
        for (value, text) in &x.ticks {
            let at = x.at(*value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>"
            );
            if at >= free_from {
                let _ = writeln!(
                    svg,
                    "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                    BOTTOM + 18.0
                );
                free_from = at + 46.0;
            }
        }
        for (value, text) in &y.ticks {
            let at = y.at(*value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        let (middle_x, middle_y) = (f64::midpoint(LEFT, RIGHT), f64::midpoint(TOP, BOTTOM));
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\n\
             <line class=\"axis\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\n\
             <text x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(20 {middle_y}) rotate(-90)\" text-anchor=\"middle\">{}\
             </text>",
            BOTTOM + 36.0,
            escape(&self.x.label),
            escape(&self.y.label),
        );
    }

    /// The legend: below the chart, from left to right.
    fn draw_legend(&self, svg: &mut String) {
        let mut at = LEFT;
        let y = HEIGHT - 14.0;
        for (number, line) in self.lines.iter().enumerate() {
            let class = line_class(number, line);
            let _ = writeln!(
                svg,
                "<line class=\"{class}\" x1=\"{at}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>\
                 <text x=\"{}\" y=\"{y}\">{}</text>",
                at + 22.0,
                y - 4.0,
                y - 4.0,
                at + 28.0,
                escape(&line.name)
            );
            let letters = u32::try_from(line.name.chars().count()).unwrap_or(u32::MAX);
            at += 28.0 + 7.0 * f64::from(letters) + 18.0;
        }
    }
}

fn line_class(number: usize, line: &Line) -> String {
    let dashed = if line.dashed { " dashed" } else { "" };
    format!("line c{}{dashed}", number % COLOURS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(x: Scale, y: Scale, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "Latency <of> new & old".to_owned(),
            subtitle: "a server".to_owned(),
            x: Axis::new("percentile", x),
            y: Axis::new("µs", y),
            lines: vec![
                Line { name: "new".to_owned(), points, dashed: false },
                Line { name: "limit".to_owned(), points: vec![(0.0, 5.0)], dashed: true },
            ],
        }
    }

    /// Fails unless every element is closed in the right order and no text holds a bare `<` or `&`.
    pub(crate) fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.split_whitespace().next().unwrap();
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            let entities = text.matches('&').count();
            let known = ["&amp;", "&lt;", "&gt;", "&quot;"];
            assert_eq!(entities, known.iter().map(|one| text.matches(one).count()).sum::<usize>());
        }
        assert!(open.is_empty(), "{open:?} still open");
    }

    fn points_of(svg: &str) -> Vec<(f64, f64)> {
        let text = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let point = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        text.split_whitespace().map(point).collect()
    }

    #[test]
    fn a_chart_is_well_formed_and_holds_every_point_inside_its_axes() {
        let points: Vec<_> = (0..200).map(f64::from).map(|n| (n / 2.0, 10.0 + n * n)).collect();
        for x in [Scale::Linear, Scale::Percentile] {
            for y in [Scale::Linear, Scale::Logarithmic] {
                let svg = chart(x, y, points.clone()).to_svg();
                assert_well_formed(&svg);
                let drawn = points_of(&svg);
                assert_eq!(drawn.len(), 200);
                assert!(
                    drawn
                        .iter()
                        .all(|&(x, y)| (LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y))
                );
                assert!(
                    drawn.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1)
                );
                assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("&lt;of&gt;"));
            }
        }
    }

    #[test]
    fn percentiles_are_as_far_apart_as_their_nines() {
        let points = vec![(0.0, 1.0), (90.0, 2.0), (99.0, 3.0), (99.9, 4.0)];
        let drawn = points_of(&chart(Scale::Percentile, Scale::Linear, points).to_svg());
        let gaps: Vec<f64> = drawn.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(gaps.iter().all(|gap| (gap - gaps[0]).abs() < 0.3), "{gaps:?}");
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let (from, to, ticks) = linear(3.0, 41_000.0);
        assert!(from <= 0.0 && to >= 41_000.0 && (4..=8).contains(&ticks.len()), "{ticks:?}");
        let (from, to, ticks) = logarithmic(37.0, 8200.0);
        assert!(from <= 37.0 && to >= 8200.0, "{ticks:?}");
        assert_eq!(ticks[0].1, "20");
        let (from, to, _) = logarithmic(5.0, 5.0);
        assert!(from < to);
        assert_eq!(human(12_500.0), "12.5k");
        assert_eq!(human(2e6), "2M");
    }

    #[test]
    fn a_chart_without_points_is_a_chart() {
        assert_well_formed(&chart(Scale::Linear, Scale::Logarithmic, Vec::new()).to_svg());
    }
}
