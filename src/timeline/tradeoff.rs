//! What the two pictures of a trade-off share.

use super::TradePoint;

/// So many lines of a grid, about.
const GRID_LINES: f64 = 5.0;
/// The most lines of a grid.
const MAX_GRID_LINES: u32 = 12;

/// Whether no other policy is better in one respect and as good in the other.
pub fn is_best(point: &TradePoint, points: &[TradePoint]) -> bool {
    let Some(outage) = point.outage_ms else { return false };
    !points.iter().any(|other| {
        other.outage_ms.is_some_and(|faster| {
            let (calm, calmer) = (point.needless_per_day, other.needless_per_day);
            (faster < outage && calmer <= calm) || (faster <= outage && calmer < calm)
        })
    })
}

/// An axis from zero to a round value.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// Where it ends; above zero.
    pub end: f64,
    /// The values that have a line.
    pub lines: Vec<f64>,
}

impl Scale {
    /// With room for `most`.
    pub fn to(most: f64) -> Scale {
        let most = if most.is_finite() && most > 1e-6 { most } else { 1.0 };
        let rough = most / GRID_LINES;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|n| n * power >= rough).unwrap_or(10.0) * power;
        let count = ((most / step).ceil() as u32).clamp(1, MAX_GRID_LINES);
        Scale { end: f64::from(count) * step, lines: (0..=count).map(|n| f64::from(n) * step).collect() }
    }
}

/// A number with as many digits as matter.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 1.0 => 1,
        v if v >= 0.01 => 3,
        _ => 6,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_value() {
        assert_eq!(Scale::to(3.7), Scale { end: 4.0, lines: vec![0.0, 1.0, 2.0, 3.0, 4.0] });
        for most in [0.0, f64::NAN, f64::INFINITY, 1e-9, 4.2e9] {
            let scale = Scale::to(most);
            assert!(scale.end > 0.0 && scale.lines.len() < 15, "{scale:?}");
        }
    }

    #[test]
    fn the_best_are_those_that_nobody_beats() {
        let point = |outage_ms, needless_per_day| TradePoint {
            name: String::new(),
            outage_ms,
            needless_per_day,
            current: false,
        };
        let points = [
            point(Some(1_000), 4.0),
            point(Some(2_000), 1.0),
            point(Some(2_500), 1.0),
            point(Some(900), 9.0),
            point(None, 0.0),
        ];
        let best: Vec<bool> = points.iter().map(|one| is_best(one, &points)).collect();
        assert_eq!(best, [true, true, false, true, false]);
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let texts: Vec<_> = [0.0, 0.05, 1.25, 12.0, 1_234.5].into_iter().map(number).collect();
        assert_eq!(texts, ["0", "0.05", "1.2", "12", "1234"]);
    }
}
