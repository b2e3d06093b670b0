//! The trade-off between speed and needless moves, as points.

use maud::{Markup, html};

use super::super::tradeoff::{Scale, is_best, number};
use super::super::words::{MAX_NAME_CHARS, MAX_TEXT_CHARS, length, tidy};
use super::super::{TradeOff, TradePoint};

/// The most policies that are drawn and told.
const MAX_POINTS: usize = 400;
/// The drawing's size, in its own units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Room for the axes' labels.
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 44.0;
const MARGIN: f64 = 18.0;
/// About how wide a letter of a label is, and how high its line.
const LETTER: f64 = 7.4;
const LINE: f64 = 15.0;

/// Where a label is written: beside its point, or not at all where another is in the way.
struct Label {
    x: f64,
    y: f64,
    class: &'static str,
}

/// Places labels, one after the other.
#[derive(Default)]
struct Labels(Vec<(f64, f64, f64, f64)>);

impl Labels {
    fn place(&mut self, text: &str, x: f64, y: f64) -> Option<Label> {
        let width = text.chars().count() as f64 * LETTER;
        let right = (x + 10.0, x + 10.0 + width, "");
        let left = (x - 10.0 - width, x - 10.0, "end");
        for (from, to, class) in [right, left] {
            for up in [-7.0, 14.0, -22.0, 29.0] {
                let (top, bottom) = (y + up - LINE + 4.0, y + up + 4.0);
                let inside = from >= LEFT && to <= WIDTH && top >= 0.0 && bottom <= HEIGHT - BOTTOM;
                let free = !self.0.iter().any(|(l, r, t, b)| from < *r && to > *l && top < *b && bottom > *t);
                if inside && free {
                    self.0.push((from, to, top, bottom));
                    return Some(Label { x: if class.is_empty() { 10.0 } else { -10.0 }, y: up, class });
                }
            }
        }
        None
    }

    /// A point is in the way of labels.
    fn keep_free(&mut self, x: f64, y: f64) {
        self.0.push((x - 6.0, x + 6.0, y - 6.0, y + 6.0));
    }
}

/// The drawing, and the same as a table.
pub fn section(trade_off: &TradeOff) -> Markup {
    let points = trade_off.points.get(..MAX_POINTS).unwrap_or(&trade_off.points);
    let moved: Vec<(&TradePoint, f64)> =
        points.iter().filter_map(|point| Some((point, point.outage_ms? as f64 / 1000.0))).collect();
    let x_scale = Scale::to(moved.iter().map(|(_, s)| *s).fold(0.0, f64::max));
    let y_scale = Scale::to(moved.iter().map(|(point, _)| point.needless_per_day).fold(0.0, f64::max));
    let x = |s: f64| LEFT + s / x_scale.end * (WIDTH - LEFT - MARGIN);
    let y = |n: f64| HEIGHT - BOTTOM - n / y_scale.end * (HEIGHT - BOTTOM - MARGIN);
    let place = |value: f64| format!("{value:.1}");
    let mut best: Vec<&(&TradePoint, f64)> = moved.iter().filter(|(point, _)| is_best(point, points)).collect();
    best.sort_by(|one, next| one.1.total_cmp(&next.1));
    let line: Vec<String> =
        best.iter().map(|(point, s)| format!("{:.1},{:.1}", x(*s), y(point.needless_per_day))).collect();
    let mut labels = Labels::default();
    moved.iter().for_each(|(point, s)| labels.keep_free(x(*s), y(point.needless_per_day)));
    // The one that the others are compared with is named in any case, and drawn last.
    let mut order: Vec<&(&TradePoint, f64)> = moved.iter().collect();
    order.sort_by(|one, next| {
        next.0
            .current
            .cmp(&one.0.current)
            .then(is_best(next.0, points).cmp(&is_best(one.0, points)))
            .then(one.1.total_cmp(&next.1))
    });
    let mut drawn: Vec<_> = order
        .into_iter()
        .map(|(point, s)| {
            let name = tidy(&point.name, MAX_NAME_CHARS);
            let (x, y) = (x(*s), y(point.needless_per_day));
            let named = point.current || is_best(point, points);
            (*point, x, y, named.then(|| labels.place(&name, x, y)).flatten().map(|label| (label, name)))
        })
        .collect();
    drawn.reverse();
    html! {
        section #tradeoff {
            h2 { "Speed against needless moves" }
            p { (tidy(&trade_off.text, MAX_TEXT_CHARS)) " To the left clients wait less after a failure; further down fewer moves are for nothing. No policy is better than those on the line in both." }
            div.wide { svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="group" aria-label="Each policy by the outage after a failure and the needless moves a day; the table beneath tells the same" {
                @for value in &y_scale.lines {
                    line.grid x1=(place(LEFT)) x2=(place(WIDTH - MARGIN)) y1=(place(y(*value))) y2=(place(y(*value))) { }
                    text.end x=(place(LEFT - 8.0)) y=(place(y(*value) + 4.0)) { (number(*value)) }
                }
                @for value in &x_scale.lines {
                    line.grid y1=(place(MARGIN)) y2=(place(HEIGHT - BOTTOM)) x1=(place(x(*value))) x2=(place(x(*value))) { }
                    text.middle x=(place(x(*value))) y=(place(HEIGHT - BOTTOM + 18.0)) { (number(*value)) }
                }
                text.middle x=(place((LEFT + WIDTH - MARGIN) / 2.0)) y=(place(HEIGHT - 6.0)) { "median outage, seconds" }
                text.middle x=(place(-(HEIGHT - BOTTOM) / 2.0)) y="14" transform="rotate(-90)" { "needless moves a day" }
                polyline.best points=(line.join(" ")) { }
                @for (point, x, y, label) in &drawn {
                    @let told = format!("{}: outage {}, {} needless moves a day", tidy(&point.name, MAX_NAME_CHARS), length(point.outage_ms.unwrap_or_default()), number(point.needless_per_day));
                    @let kind = if point.current { "point current" } else if is_best(point, points) { "point on" } else { "point" };
                    g class=(kind) tabindex="0" role="img" aria-label=(told) transform={ "translate(" (place(*x)) " " (place(*y)) ")" } {
                        @if point.current { path d="M0-8 8 0 0 8-8 0Z" { } } @else { circle r="5" { } }
                        @if let Some((label, name)) = label { text class=(label.class) x=(label.x) y=(label.y) { (name) } }
                    }
                }
            } }
            div.panel hidden { }
            details {
                summary { "The same as a table" }
                div.wide {
                    table {
                        thead { tr { th scope="col" { "policy" } th scope="col" { "median outage" } th scope="col" { "needless moves a day" } th scope="col" { "" } } }
                        tbody {
                            @for point in points {
                                tr {
                                    th scope="row" { (tidy(&point.name, MAX_NAME_CHARS)) }
                                    td { @if let Some(ms) = point.outage_ms { (length(ms)) } @else { "never moved" } }
                                    td { (number(point.needless_per_day)) }
                                    td { @if point.current { "compared with " } @if is_best(point, points) { "on the line" } }
                                }
                            }
                        }
                    }
                }
            }
            @if trade_off.points.len() > MAX_POINTS { p { "and " (trade_off.points.len() - MAX_POINTS) " policies more" } }
        }
    }
}
