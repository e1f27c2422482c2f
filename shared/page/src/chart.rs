//! Curves and bars as SVG. Colours are classes of the style sheet, so that they follow light and dark.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use crate::layout::text;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 38.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 22.0;
/// As many colours as the style sheet has.
pub const COLOURS: usize = 8;

/// One point of a curve; `error` is half of the bar that stands around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub error: Option<f64>,
}

#[derive(Debug, Clone)]
pub struct Curve {
    pub name: String,
    /// Which colour, below [`COLOURS`].
    pub colour: usize,
    pub points: Vec<Point>,
    /// Drawn faintly, behind the others.
    pub faint: bool,
}

/// Curves over whole numbers such as rounds.
#[derive(Debug)]
pub struct Chart<'a> {
    /// What it shows, for those who do not see it.
    pub label: &'a str,
    pub curves: Vec<Curve>,
    /// The range that is shown at least.
    pub at_least: (f64, f64),
    /// A line that must not be passed, and its name.
    pub limit: Option<(f64, String)>,
    /// An area between two curves: x, lower, upper.
    pub band: Vec<(f64, f64, f64)>,
    pub format: fn(f64) -> String,
    pub x_name: &'a str,
}

struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn x(&self, x: f64) -> f64 {
        let part = (x - self.x.0) / (self.x.1 - self.x.0).max(1e-9);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, y: f64) -> f64 {
        let part = (y - self.y.0) / (self.y.1 - self.y.0).max(1e-12);
        HEIGHT - BOTTOM - part.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }
}

/// Round numbers within a range, about four of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 4.0;
    if !raw.is_finite() || raw <= 0.0 {
        return vec![low];
    }
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(raw);
    let first = (low / step).ceil();
    let last = (high / step + 1e-9).floor();
    (0..=(last - first).max(0.0) as usize)
        .map(|index| (first + index as f64) * step)
        .collect()
}

impl Chart<'_> {
    fn scale(&self) -> Option<Scale> {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let mut x = (f64::INFINITY, f64::NEG_INFINITY);
        let mut y = self.at_least;
        for point in points().filter(|point| point.y.is_finite()) {
            x = (x.0.min(point.x), x.1.max(point.x));
            let error = point.error.unwrap_or(0.0);
            y = (y.0.min(point.y - error), y.1.max(point.y + error));
        }
        if let Some((limit, _)) = self.limit {
            y.1 = y.1.max(limit * 1.05);
        }
        if !x.0.is_finite() {
            return None;
        }
        // One point stands in the middle.
        if (x.1 - x.0).abs() < f64::EPSILON {
            x = (x.0 - 1.0, x.1 + 1.0);
        }
        Some(Scale { x, y })
    }

    /// The figure with its legend; `None` where there is nothing to show.
    pub fn draw(&self) -> Option<Markup> {
        let scale = self.scale()?;
        let many = self.curves.iter().map(|curve| curve.points.len()).max()? > 40;
        let y_ticks = ticks(scale.y.0, scale.y.1);
        let x_ticks: Vec<f64> = ticks(scale.x.0, scale.x.1)
            .into_iter()
            .filter(|tick| tick.fract() == 0.0)
            .collect();
        Some(html! {
            figure.chart {
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.label) {
                    @for tick in &y_ticks {
                        @let y = scale.y(*tick);
                        line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(y)) y2=(short(y)) {}
                        text.tick x=(LEFT - 6.0) y=(short(y + 3.5)) text-anchor="end" { ((self.format)(*tick)) }
                    }
                    @for tick in &x_ticks {
                        text.tick x=(short(scale.x(*tick))) y=(HEIGHT - 6.0) text-anchor="middle" { (tick) }
                    }
                    @if !self.band.is_empty() { path.band d=(self.band_path(&scale)) {} }
                    @if let Some((limit, _)) = &self.limit {
                        line.limit x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(scale.y(*limit))) y2=(short(scale.y(*limit))) {}
                    }
                    @for curve in &self.curves {
                        g class=(format!("c{}{}", curve.colour % COLOURS, if curve.faint { " faint" } else { "" })) {
                            @let errors = error_path(curve, &scale);
                            @if !errors.is_empty() { path.error d=(errors) {} }
                            path.line d=(line_path(curve, &scale)) {}
                            @if !many && !curve.faint {
                                @for point in curve.points.iter().filter(|point| point.y.is_finite()) {
                                    circle cx=(short(scale.x(point.x))) cy=(short(scale.y(point.y))) r="2.6" {
                                        title { (self.describe(curve, point)) }
                                    }
                                }
                            }
                        }
                    }
                }
                figcaption.legend {
                    @for curve in self.curves.iter().filter(|curve| !curve.faint) {
                        span class=(format!("key c{}", curve.colour % COLOURS)) {
                            span.swatch aria-hidden="true" {}
                            (text(&curve.name))
                            @if let Some(last) = curve.points.last() {
                                " " b { ((self.format)(last.y)) }
                                @if let Some(error) = last.error { span.muted { " ± " ((self.format)(error)) } }
                            }
                        }
                    }
                    @if let Some((_, name)) = &self.limit { span.key.limit { span.swatch aria-hidden="true" {} (name) } }
                    @if !self.band.is_empty() { span.key.area { span.swatch aria-hidden="true" {} "middle half" } }
                }
            }
        })
    }

    fn describe(&self, curve: &Curve, point: &Point) -> String {
        let error = point.error.map(self.format);
        let error = error.map_or_else(String::new, |error| format!(" ± {error}"));
        let name = text(&curve.name);
        let value = (self.format)(point.y);
        format!("{name}, {} {}: {value}{error}", self.x_name, point.x)
    }

    fn band_path(&self, scale: &Scale) -> String {
        let upper = self.band.iter().map(|(x, _, upper)| (*x, *upper));
        let lower = self.band.iter().rev().map(|(x, lower, _)| (*x, *lower));
        let mut path = String::new();
        for (index, (x, y)) in upper.chain(lower).enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{} {}", short(scale.x(x)), short(scale.y(y)));
        }
        path.push('Z');
        path
    }
}

fn line_path(curve: &Curve, scale: &Scale) -> String {
    let mut path = String::new();
    for point in curve.points.iter().filter(|point| point.y.is_finite()) {
        let letter = if path.is_empty() { 'M' } else { 'L' };
        let (x, y) = (short(scale.x(point.x)), short(scale.y(point.y)));
        let _ = write!(path, "{letter}{x} {y}");
    }
    path
}

fn error_path(curve: &Curve, scale: &Scale) -> String {
    let mut path = String::new();
    for point in curve.points.iter().filter(|point| point.y.is_finite()) {
        let Some(error) = point.error.filter(|error| error.is_finite()) else {
            continue;
        };
        let x = short(scale.x(point.x));
        let (low, high) = (
            short(scale.y(point.y - error)),
            short(scale.y(point.y + error)),
        );
        let _ = write!(path, "M{x} {low}V{high}");
    }
    path
}

/// One digit behind the point is finer than any screen.
fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Bars over whole numbers, such as bytes by round.
pub fn bars(label: &str, values: &[(u32, f64)], format: fn(f64) -> String) -> Option<Markup> {
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (first, last) = (values.first()?.0, values.last()?.0);
    let scale = Scale {
        x: (f64::from(first) - 0.5, f64::from(last) + 0.5),
        y: (0.0, most.max(1e-9)),
    };
    let step = (WIDTH - LEFT - RIGHT) / values.len().max(1) as f64;
    let width = (step * 0.7).clamp(0.8, 28.0);
    let mut path = String::new();
    for (x, value) in values {
        let (x, y) = (scale.x(f64::from(*x)) - width / 2.0, scale.y(*value));
        let _ = write!(
            path,
            "M{} {}h{}V{}h-{}Z",
            short(x),
            short(y),
            short(width),
            HEIGHT - BOTTOM,
            short(width)
        );
    }
    Some(html! {
        figure.chart {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
                @for tick in ticks(0.0, scale.y.1) {
                    @let y = scale.y(tick);
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(y)) y2=(short(y)) {}
                    text.tick x=(LEFT - 6.0) y=(short(y + 3.5)) text-anchor="end" { (format(tick)) }
                }
                @for tick in ticks(scale.x.0, scale.x.1).into_iter().filter(|tick| tick.fract() == 0.0) {
                    text.tick x=(short(scale.x(tick))) y=(HEIGHT - 6.0) text-anchor="middle" { (tick) }
                }
                g.c0 { path.fill d=(PreEscaped(path)) {} }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(values: &[f64], error: Option<f64>) -> Curve {
        let point = |(index, y): (usize, &f64)| Point {
            x: index as f64,
            y: *y,
            error,
        };
        Curve {
            name: "<b>\u{202e}".to_owned(),
            colour: 0,
            points: values.iter().enumerate().map(point).collect(),
            faint: false,
        }
    }

    fn chart(curves: Vec<Curve>) -> Chart<'static> {
        Chart {
            label: "F1",
            curves,
            at_least: (0.0, 1.0),
            limit: None,
            band: Vec::new(),
            format: |value| format!("{value:.2}"),
            x_name: "version",
        }
    }

    #[test]
    fn figures_of_any_kind_are_drawn_within_the_picture() {
        assert!(chart(Vec::new()).draw().is_none());
        assert!(chart(vec![curve(&[], None)]).draw().is_none());
        for values in [
            vec![0.5],
            vec![0.1, f64::NAN, 0.9],
            vec![f64::INFINITY, 1.0],
        ] {
            let drawn = chart(vec![curve(&values, Some(0.2))]).draw();
            let text = drawn.expect("a figure").into_string();
            assert!(!text.contains("NaN") && !text.contains("inf\""), "{text}");
            assert!(
                text.contains("&lt;b&gt;") && !text.contains('\u{202e}'),
                "{text}"
            );
        }
        let drawn = chart(vec![curve(&[0.5, 0.6], Some(0.1))]).draw();
        assert!(
            drawn
                .expect("a figure")
                .into_string()
                .contains("class=\"error\"")
        );
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        for (low, high) in [(0.0, 8.0), (0.2, 0.9), (1.0, 300.0), (0.0, 1e9)] {
            let found = ticks(low, high);
            assert!((2..=6).contains(&found.len()), "{found:?}");
        }
        assert_eq!(ticks(1.0, 1.0), [1.0]);
    }
}
