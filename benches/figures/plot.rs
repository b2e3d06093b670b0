//! A picture of growth: lines over logarithmic axes, as SVG.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Room for the axis on the left, and for the names of the lines on the right.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;
/// To be told apart on white and by those who see few colours.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#555555"];
/// How near the names may come to each other.
const LINE: f64 = 16.0;

/// Draws them; what is not above zero is left out.
pub fn log_log(x_name: &str, lines: &[(&str, Vec<(f64, f64)>)]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied()).filter(|(_, y)| *y > 0.0);
    let range = |of: fn((f64, f64)) -> f64| {
        let logs = points().map(|point| of(point).log10());
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(low, high), log| (low.min(log), high.max(log)));
        (low.floor(), high.ceil().max(low.floor() + 1.0))
    };
    let ((x_low, x_high), (y_low, y_high)) = (range(|point| point.0), range(|point| point.1));
    let x = |value: f64| LEFT + (value.log10() - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value.log10() - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let powers = |low: f64, high: f64| (low as i32..=high as i32).map(|power| 10_f64.powi(power));
    // A line across the picture at each power of ten, and its number beside it.
    let mut tick = |line: String, value: f64, at: (f64, f64), anchor: &str| {
        let (left, top) = at;
        let _ = writeln!(
            svg,
            "<path d=\"{line}\" stroke=\"#ddd\"/><text x=\"{left:.1}\" y=\"{top:.1}\" text-anchor=\"{anchor}\">{value}</text>"
        );
    };
    for value in powers(x_low, x_high) {
        let line = format!("M{:.1} {TOP}V{:.1}", x(value), HEIGHT - BOTTOM);
        tick(line, value, (x(value), HEIGHT - BOTTOM + 16.0), "middle");
    }
    for value in powers(y_low, y_high) {
        let line = format!("M{LEFT} {:.1}H{:.1}", y(value), WIDTH - RIGHT);
        tick(line, value, (LEFT - 6.0, y(value) + 4.0), "end");
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0
    );
    // Names beside the lines' ends, from the top, none over another.
    let end = |points: &[(f64, f64)]| points.iter().rev().find(|(_, y)| *y > 0.0).map_or(HEIGHT, |point| y(point.1));
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|a, b| end(&lines[*a].1).total_cmp(&end(&lines[*b].1)));
    let mut free = TOP;
    for index in order {
        let ((name, points), colour) = (&lines[index], COLOURS[index % COLOURS.len()]);
        let shown: Vec<_> = points.iter().filter(|(_, y)| *y > 0.0).map(|point| (x(point.0), y(point.1))).collect();
        let path = shown.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        for (x, y) in &shown {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let at = end(points).max(free);
        free = at + LINE;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            WIDTH - RIGHT + 10.0,
            at + 4.0
        );
    }
    svg + "</svg>\n"
}
