//! Figures as text: medians, spreads, tables.

use std::time::Duration;

/// Figures of one thing, several times measured.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Takes them in any order.
    pub fn new(figures: impl IntoIterator<Item = f64>) -> Sample {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Sample(figures)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn median(&self) -> f64 {
        match self.0.as_slice() {
            [] => f64::NAN,
            all if all.len() % 2 == 1 => all[all.len() / 2],
            all => f64::midpoint(all[all.len() / 2 - 1], all[all.len() / 2]),
        }
    }

    pub fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    /// Median, least and most, with `digits` after the point.
    pub fn text(&self, digits: usize) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median(), self.least(), self.most())
    }
}

/// In milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// A table as Markdown; the first column is text, the others stand to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rule = std::iter::once("---").chain(std::iter::repeat_n("---:", head.len() - 1)).collect::<Vec<_>>();
    let mut lines = vec![format!("| {} |", head.join(" | ")), format!("| {} |", rule.join(" | "))];
    lines.extend(rows.iter().map(|row| format!("| {} |", row.join(" | "))));
    lines.join("\n")
}

/// A number with its thousands apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
