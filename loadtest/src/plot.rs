//! Plots as SVG: just what the report needs, readable without scripts and without fonts of its own.
//!
//! Colours are classes (`s0` to `s7`), so that the page's style sheet decides what they are in light
//! and in dark.

use std::fmt::Write as _;

/// Width of a plot, in its own units.
const WIDTH: f64 = 720.0;
/// Height of a plot.
const HEIGHT: f64 = 300.0;
/// Room for the labels of the vertical axis.
const LEFT: f64 = 62.0;
/// Room at the right edge.
const RIGHT: f64 = 28.0;
/// Room above.
const TOP: f64 = 14.0;
/// Room for the labels of the horizontal axis.
const BOTTOM: f64 = 44.0;

/// A plot in the making: axes are drawn first, then what is in it.
#[derive(Debug)]
pub struct Plot {
    svg: String,
    x: (f64, f64),
    y: (f64, f64),
}

/// Text as it may stand in markup.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What no markup may hold.
            character if character.is_control() && character != '\n' => {}
            character => escaped.push(character),
        }
    }
    escaped
}

/// Numbers that a person would put at an axis: at most about `count` steps of 1, 2 or 5 times a
/// power of ten.
#[must_use]
pub fn ticks(from: f64, to: f64, count: usize) -> Vec<f64> {
    let span = to - from;
    if !span.is_finite() || span <= 0.0 {
        return vec![from];
    }
    let rough = span / count.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power);
    let first = (from / step).ceil();
    (0..=4 * count).map(|n| (first + n as f64) * step).take_while(|at| *at <= to + 1e-9).collect()
}

impl Plot {
    /// Axes over two ranges. `x_ticks` are places with their labels.
    #[must_use]
    pub fn new(
        title: &str,
        (x_title, x, x_ticks): (&str, (f64, f64), &[(f64, String)]),
        (y_title, y): (&str, (f64, f64)),
    ) -> Self {
        let widened =
            |(from, to): (f64, f64)| if to > from { (from, to) } else { (from, from + 1.0) };
        let mut plot = Self { svg: String::new(), x: widened(x), y: widened(y) };
        let label = escape(title);
        plot.push(&format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">"
        ));
        for at in ticks(plot.y.0, plot.y.1, 5) {
            let y = plot.y_of(at);
            let (end, label) = (WIDTH - RIGHT, short(at));
            plot.push(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                LEFT - 6.0,
                y + 4.0,
            ));
        }
        for (at, label) in x_ticks {
            let (x, bottom) = (plot.x_of(*at), HEIGHT - BOTTOM);
            plot.push(&format!(
                "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 4.0,
                bottom + 17.0,
                escape(label),
            ));
        }
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        let height = f64::midpoint(TOP, HEIGHT - BOTTOM);
        plot.push(&format!(
            "<text class=\"x\" x=\"{middle}\" y=\"{:.1}\">{}</text>\
             <text class=\"x\" transform=\"translate(13 {height}) rotate(-90)\">{}</text>",
            HEIGHT - 8.0,
            escape(x_title),
            escape(y_title),
        ));
        plot
    }

    /// A line through points.
    pub fn line(&mut self, class: &str, name: &str, points: &[(f64, f64)]) {
        let places: Vec<String> = points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .map(|(x, y)| format!("{:.1},{:.1}", self.x_of(*x), self.y_of(*y)))
            .collect();
        let (places, name) = (places.join(" "), escape(name));
        self.push(&format!(
            "<polyline class=\"line {class}\" points=\"{places}\"><title>{name}</title></polyline>"
        ));
    }

    /// A dot, or a cross for what went wrong.
    pub fn dot(&mut self, (x, y): (f64, f64), is_cross: bool, class: &str, name: &str) {
        let (x, y, name) = (self.x_of(x), self.y_of(y), escape(name));
        if is_cross {
            let (left, right, top, bottom) = (x - 4.0, x + 4.0, y - 4.0, y + 4.0);
            self.push(&format!(
                "<path class=\"cross\" d=\"M{left:.1} {top:.1}L{right:.1} {bottom:.1}\
                 M{left:.1} {bottom:.1}L{right:.1} {top:.1}\"><title>{name}</title></path>"
            ));
        } else {
            self.push(&format!(
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\">\
                 <title>{name}</title></circle>"
            ));
        }
    }

    /// A filled box between two corners.
    pub fn bar(&mut self, class: &str, name: &str, (x0, y0): (f64, f64), (x1, y1): (f64, f64)) {
        let (left, right) = (self.x_of(x0), self.x_of(x1));
        let (top, bottom) = (self.y_of(y1), self.y_of(y0));
        self.push(&format!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
             height=\"{:.1}\"><title>{}</title></rect>",
            (right - left).max(0.0),
            (bottom - top).max(0.0),
            escape(name),
        ));
    }

    /// A dashed line across, with its name at its end.
    pub fn limit(&mut self, y: f64, name: &str) {
        let (at, end) = (self.y_of(y), WIDTH - RIGHT);
        self.push(&format!(
            "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"end\" x=\"{end}\" y=\"{:.1}\">{}</text>",
            at - 5.0,
            escape(name),
        ));
    }

    /// A line from top to bottom.
    pub fn mark(&mut self, x: f64, name: &str) {
        let (at, bottom) = (self.x_of(x), HEIGHT - BOTTOM);
        self.push(&format!(
            "<line class=\"error\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\">\
             <title>{}</title></line>",
            escape(name),
        ));
    }

    /// Text in the plot, above a place.
    pub fn note(&mut self, (x, y): (f64, f64), text: &str) {
        let (x, y) = (self.x_of(x), self.y_of(y) - 4.0);
        self.push(&format!("<text class=\"x\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(text)));
    }

    /// The whole picture.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }

    fn push(&mut self, markup: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.svg, "{markup}");
    }

    fn x_of(&self, value: f64) -> f64 {
        place(value, self.x, LEFT, WIDTH - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        place(value, self.y, HEIGHT - BOTTOM, TOP)
    }
}

/// Where a value lies between two ends of an axis; beyond them at the end.
fn place(value: f64, (from, to): (f64, f64), begin: f64, end: f64) -> f64 {
    let share = ((value - from) / (to - from)).clamp(0.0, 1.0);
    begin + if share.is_finite() { share } else { 0.0 } * (end - begin)
}

/// A number without a needless fraction.
fn short(value: f64) -> String {
    if value.fract().abs() < 1e-9 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        assert_eq!(ticks(0.0, 4300.0, 5), [0.0, 1000.0, 2000.0, 3000.0, 4000.0]);
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(3.0, 3.0, 5), [3.0]);
        assert_eq!(ticks(0.0, f64::NAN, 5), [0.0]);
    }

    #[test]
    fn what_lies_outside_is_drawn_at_the_edge_and_nothing_is_not_a_number() {
        let mut plot = Plot::new("a", ("x", (0.0, 10.0), &[]), ("y", (0.0, 0.0)));
        plot.dot((f64::NAN, 1e9), false, "s0", "far");
        plot.line("s1", "l", &[(0.0, 0.0), (f64::NAN, 1.0), (20.0, -5.0)]);
        let svg = plot.finish();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.contains("points=\"62.0,256.0 692.0,256.0\""), "{svg}");
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<b a=\"1\">&'\u{1}"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
    }
}
