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
    html! {
        section #tradeoff {
            h2 { "Speed against needless moves" }
            p { (tidy(&trade_off.text, MAX_TEXT_CHARS)) " To the left clients wait less after a failure; further down fewer moves are for nothing. No policy is better than those on the line in both." }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="group" aria-label="Each policy by the outage after a failure and the needless moves a day; the table beneath tells the same" {
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
                @for (point, s) in &moved {
                    @let told = format!("{}: outage {}, {} needless moves a day", tidy(&point.name, MAX_NAME_CHARS), length(point.outage_ms.unwrap_or_default()), number(point.needless_per_day));
                    @let kind = if point.current { "point current" } else if is_best(point, points) { "point on" } else { "point" };
                    g class=(kind) tabindex="0" role="img" aria-label=(told) transform={ "translate(" (place(x(*s))) " " (place(y(point.needless_per_day))) ")" } {
                        @if point.current { path d="M0-8 8 0 0 8-8 0Z" { } } @else { circle r="5" { } }
                        @if point.current || is_best(point, points) { text x="10" y="-7" { (tidy(&point.name, MAX_NAME_CHARS)) } }
                    }
                }
            }
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
