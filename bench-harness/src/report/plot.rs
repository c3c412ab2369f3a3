//! The little drawing that reports need: scales, axes, markers in SVG, and small graphics for cells.
//!
//! Colours and fonts are in the style sheet, so that pictures follow light and dark. Coordinates have one decimal: the same
//! run gives the same bytes.

use maud::{Markup, html};

use super::study::Ratio;
use crate::statistics::Interval;

/// Different looks of markers, told apart without colour too.
pub const LOOKS: usize = 40;

/// Maps values to coordinates.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Smallest and largest value.
    pub values: (f64, f64),
    /// Their coordinates.
    pub at: (f64, f64),
    /// Whether equal factors are equal distances.
    pub log: bool,
}

impl Scale {
    /// The coordinate of a value.
    pub fn to(&self, value: f64) -> f64 {
        let f = |x: f64| if self.log { x.ln() } else { x };
        let part = (f(value) - f(self.values.0)) / (f(self.values.1) - f(self.values.0));
        self.at.0 + part * (self.at.1 - self.at.0)
    }

    /// Round values inside: 1, 2, 5 of each decade, or the whole numbers.
    pub fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.values;
        if !self.log {
            return (low.ceil() as i64..=high.floor() as i64).map(|x| x as f64).collect();
        }
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let many = decades.clone().count() > 4;
        let of = |decade: i32| [1.0, 2.0, 5.0].map(|x: f64| x * 10f64.powi(decade));
        let all: Vec<f64> = decades.flat_map(of).filter(|x| (low..=high).contains(x)).collect();
        all.into_iter().filter(|x| !many || format!("{x:e}").starts_with('1')).collect()
    }
}

/// A rectangle with two axes, inside a picture.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Of the whole picture.
    pub size: (f64, f64),
    /// To the right.
    pub x: Scale,
    /// Upwards.
    pub y: Scale,
}

impl Frame {
    /// The picture, with room for labels on the left and below.
    pub fn new(size: (f64, f64), (x, x_log): ((f64, f64), bool), (y, y_log): ((f64, f64), bool)) -> Self {
        let x = Scale { values: x, at: (58.0, size.0 - 14.0), log: x_log };
        let y = Scale { values: y, at: (size.1 - 48.0, 14.0), log: y_log };
        Self { size, x, y }
    }

    /// Puts grid, labels and the content into a picture that a screen reader names.
    pub fn draw(&self, title: &str, [x_label, y_label]: [&str; 2], content: &Markup) -> Markup {
        let (left, right) = self.x.at;
        let (bottom, top) = self.y.at;
        html! {
            div.scroll tabindex="0" role="region" aria-label=(title) {
                svg.chart viewBox=(format!("0 0 {} {}", self.size.0, self.size.1)) role="img" aria-label=(title) {
                    @for tick in self.x.ticks() {
                        (line("grid", [self.x.to(tick), bottom], [self.x.to(tick), top]))
                        text x=(c(self.x.to(tick))) y=(c(bottom + 17.0)) text-anchor="middle" { (number(tick)) }
                    }
                    @for tick in self.y.ticks() {
                        (line("grid", [left, self.y.to(tick)], [right, self.y.to(tick)]))
                        text x=(c(left - 7.0)) y=(c(self.y.to(tick) + 4.0)) text-anchor="end" { (number(tick)) }
                    }
                    (line("axis", [left, bottom], [right, bottom]))
                    (line("axis", [left, bottom], [left, top]))
                    text.label x=(c((left + right) / 2.0)) y=(c(self.size.1 - 8.0)) text-anchor="middle" { (x_label) }
                    text.label transform=(format!("translate(14 {}) rotate(-90)", c((bottom + top) / 2.0)))
                        text-anchor="middle" { (y_label) }
                    (content)
                }
            }
        }
    }
}

/// A coordinate.
pub fn c(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A tick's label.
fn number(x: f64) -> String {
    let text = format!("{x:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A straight line.
pub fn line(class: &str, from: [f64; 2], to: [f64; 2]) -> Markup {
    html! { line.(class) x1=(c(from[0])) y1=(c(from[1])) x2=(c(to[0])) y2=(c(to[1])) {} }
}

/// A marker in the look of a number; words appear on hover.
pub fn marker(look: usize, class: &str, [x, y]: [f64; 2], words: Option<&str>) -> Markup {
    let r = 4.5;
    let path = |points: &[[f64; 2]]| {
        let all = points.iter().map(|[dx, dy]| format!("{} {}", c(x + r * dx), c(y + r * dy)));
        format!("M{}Z", all.collect::<Vec<_>>().join("L"))
    };
    let d = match look % 5 {
        0 => format!("M{} {}a{r} {r} 0 1 0 9 0a{r} {r} 0 1 0-9 0Z", c(x - r), c(y)),
        1 => path(&[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
        2 => path(&[[0.0, -1.2], [1.2, 0.0], [0.0, 1.2], [-1.2, 0.0]]),
        3 => path(&[[0.0, -1.1], [1.1, 0.9], [-1.1, 0.9]]),
        _ => path(&[[0.0, 1.1], [1.1, -0.9], [-1.1, -0.9]]),
    };
    html! {
        path.{ "c" (look % 8) }.(class) d=(d) { @if let Some(words) = words { title { (words) } } }
    }
}

/// Names of series with their markers; each can be switched off on the page.
pub fn legend(chart: &str, series: &[(usize, &str)]) -> Markup {
    html! {
        div.legend {
            @for &(look, name) in series {
                label {
                    input type="checkbox" checked data-series=(format!("{chart}-{look}"));
                    svg width="14" height="14" aria-hidden="true" { (marker(look, "", [7.0, 7.0], None)) }
                    (name)
                }
            }
        }
    }
}

/// A ratio on a strip from 0 to a little more than 1, so that an interval around the best is seen.
pub fn strip(ratio: &Ratio) -> Markup {
    let at = ratio.estimate;
    strip_between(ratio.interval().map_or([at; 3], Interval::to_array), 0.0, 1.1)
}

/// An interval on a strip with 1 in the middle.
pub fn strip_around_one([estimate, low, high]: [f64; 3], half_width: f64) -> Markup {
    strip_between([estimate, low, high], 1.0 - half_width, 1.0 + half_width)
}

/// A dot, its interval, and a line at 1.
fn strip_between([estimate, low, high]: [f64; 3], from: f64, to: f64) -> Markup {
    let part = |x: f64| format!("{:.1}%", 100.0 * ((x - from) / (to - from)).clamp(0.0, 1.0));
    let style = format!("--x:{};--l:{};--h:{};--one:{}", part(estimate), part(low), part(high), part(1.0));
    html! { i.strip style=(style) {} }
}

/// Bars one above the other, as parts of a common maximum; the first in the first colour.
pub fn bars(values: &[f64], most: f64) -> Markup {
    html! {
        span.bars {
            @for value in values {
                i style=(format!("width:{:.1}%", (100.0 * value / most).clamp(if *value > 0.0 { 0.5 } else { 0.0 }, 100.0))) {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_map_their_ends() {
        let log = Scale { values: (1.0, 100.0), at: (10.0, 30.0), log: true };
        assert_eq!([1.0, 10.0, 100.0].map(|x| log.to(x).round()), [10.0, 20.0, 30.0]);
        assert_eq!(log.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(Scale { values: (0.02, 2000.0), ..log }.ticks(), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        let linear = Scale { values: (0.0, 2.5), at: (100.0, 0.0), log: false };
        assert_eq!(linear.to(1.25), 50.0);
        assert_eq!(linear.ticks(), [0.0, 1.0, 2.0]);
    }

    #[test]
    fn labels_are_short() {
        assert_eq!([0.0001, 0.5, 10.0, 2000.0].map(number), ["0.0001", "0.5", "10", "2000"]);
        assert_eq!([c(3.0), c(3.06), c(-0.04)], ["3", "3.1", "-0"]);
    }
}
