//! How times, lengths and names are written for people, in the page and in the terminal alike.

use std::time::Duration;

use super::{ClusterLanes, Figures, Incident, Run, Timeline};
use crate::cli::render::clean;
use crate::core::time::Time;

/// The longest sentence that is shown whole, in characters.
pub const MAX_TEXT_CHARS: usize = 400;
/// The longest name that is shown whole, in characters.
pub const MAX_NAME_CHARS: usize = 80;

/// A text from outside, fit to be shown: one line, nothing that steers a terminal or turns the direction of writing, cut at `limit` characters.
pub fn tidy(text: &str, limit: usize) -> String {
    let cleaned = clean(text);
    match cleaned.char_indices().nth(limit) {
        Some((at, _)) => format!("{} …", cleaned.get(..at).unwrap_or_default().trim_end()),
        None => cleaned,
    }
}

/// A length of time in two units at most: `250 ms`, `1.6 s`, `2 min 5 s`, `3 h 12 min`, `2 d 4 h`.
pub fn length(ms: u64) -> String {
    let two = |large: u64, unit: &str, small: u64, part: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {part}"),
    };
    let s = ms / 1_000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 if ms % 1_000 < 50 => format!("{s} s"),
        1_000..60_000 => format!("{:.1} s", Duration::from_millis(ms).as_secs_f64()),
        60_000..3_600_000 => two(s / 60, "min", s % 60, "s"),
        3_600_000..86_400_000 => two(s / 3_600, "h", s % 3_600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

const DAY_MS: u64 = 86_400_000;

/// How the points of one timeline are written.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    dated: bool,
}

impl Clock {
    /// With the date where the days differ.
    pub fn of(from: Time, to: Time) -> Clock {
        // Midnight ends a day.
        let last = to.as_millis().saturating_sub(1).max(from.as_millis());
        Clock { dated: from.as_millis() / DAY_MS != last / DAY_MS }
    }

    /// `07:30:01.250`, or `11-22 07:30:01.250`.
    pub fn precise(self, at: Time) -> String {
        self.cut(at, 23)
    }

    /// `07:30`, `07:30:01` or `07:30:01.200`: what matters between labels so many milliseconds apart. Where days differ, midnight is a date.
    pub fn label(self, at: Time, step_ms: u64) -> String {
        if self.dated && at.as_millis().is_multiple_of(DAY_MS) {
            return at.to_string().get(5..10).unwrap_or_default().to_owned();
        }
        let to = match step_ms {
            0..1_000 => 23,
            1_000..60_000 => 19,
            _ => 16,
        };
        Clock { dated: false }.cut(at, to)
    }

    /// `07:30:01`, or `11-22 07:30:01`.
    pub fn second(self, at: Time) -> String {
        self.cut(at, 19)
    }

    fn cut(self, at: Time, to: usize) -> String {
        let text = at.precise().to_string();
        let from = if self.dated { 5 } else { 11 };
        text.get(from..to).unwrap_or(&text).replace('T', " ")
    }

    /// `07:30:01.250 to 07:30:02.850`.
    pub fn range(self, from: Time, to: Time) -> String {
        // One date is enough for both.
        let until = Clock { dated: self.dated && from.as_millis() / DAY_MS != to.as_millis() / DAY_MS };
        format!("{} to {}", self.precise(from), until.precise(to))
    }

    /// `07:30:01.250 to 07:30:02.850, 1.6 s`.
    pub fn between(self, from: Time, to: Time) -> String {
        format!("{}, {}", self.range(from, to), length(ms_between(from, to)))
    }
}

/// The date and the second: `2026-11-22 07:30:00`.
pub fn full(at: Time) -> String {
    at.to_string().replace('T', " ").replace('Z', "")
}

/// Milliseconds from one to the other; zero if the other comes first.
pub fn ms_between(from: Time, to: Time) -> u64 {
    to.as_millis().saturating_sub(from.as_millis())
}

/// Steps between two labels of a time axis, in milliseconds.
const STEPS_MS: [u64; 22] = [
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
];

/// A part of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its beginning.
    pub from: Time,
    /// Its length, in milliseconds; never zero.
    pub width_ms: u64,
}

/// The least that is shown around an incident, in milliseconds.
const MIN_VIEW_MS: u64 = 12_000;
/// A view has a third of the incident's length more, before it and after it.
const MARGIN_PARTS: u64 = 3;

impl View {
    /// All of it.
    pub fn whole(timeline: &Timeline) -> View {
        View { from: timeline.from, width_ms: ms_between(timeline.from, timeline.to).max(1) }
    }

    /// An incident with a margin.
    pub fn around(incident: &Incident, timeline: &Timeline) -> View {
        let whole = View::whole(timeline);
        let inside = |time: Time| ms_between(timeline.from, time).min(whole.width_ms);
        let (from, to) = (inside(incident.from), inside(incident.to));
        let inner = to.saturating_sub(from);
        let width_ms = (inner + 2 * inner / MARGIN_PARTS).max(MIN_VIEW_MS).min(whole.width_ms);
        let from_ms = from.saturating_sub(width_ms.saturating_sub(inner) / 2).min(whole.width_ms - width_ms);
        View { from: timeline.from + Duration::from_millis(from_ms), width_ms }
    }

    /// Its end.
    pub fn to(self) -> Time {
        self.from + Duration::from_millis(self.width_ms)
    }

    /// Round times within it, at most so many and one, and the milliseconds between two.
    pub fn ticks(self, most: u64) -> (Vec<Time>, u64) {
        let step = STEPS_MS.into_iter().find(|step| self.width_ms / step <= most).unwrap_or(self.width_ms);
        let first = self.from.as_millis().div_ceil(step) * step;
        let times = (0..=most).map(|n| Time::from_millis(first + n * step)).take_while(|time| *time <= self.to());
        (times.collect(), step)
    }
}

/// The middle one; of two in the middle the lower.
pub fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// The columns of the figures.
pub const FIGURES: [&str; 7] =
    ["detection", "outages", "together", "longest", "moves", "of these needless", "tried in vain"];

/// A run's figures, in the order of [`FIGURES`].
pub fn figures(figures: &Figures) -> [String; 7] {
    let Figures { detect_ms, outage_ms, moves, needless, failed } = figures;
    let or_none = |ms: Option<u64>| ms.map_or_else(|| "none".to_owned(), length);
    [
        or_none(median(detect_ms)),
        outage_ms.len().to_string(),
        or_none((!outage_ms.is_empty()).then(|| outage_ms.iter().sum())),
        or_none(outage_ms.iter().max().copied()),
        moves.to_string(),
        needless.to_string(),
        failed.to_string(),
    ]
}

/// `1 move`, `2 moves`.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A node as it is called throughout: a letter that fits where no name does, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// Its instance id.
    pub id: String,
    /// `A` to `Z`, then `a` to `z`, then `*`.
    pub letter: char,
    /// Its place among the cluster's nodes.
    pub index: usize,
    /// Its `Name` tag, with the id where another node has the same; without one, the id.
    pub name: String,
}

/// The nodes of a cluster, of all runs, in the order in which they come.
pub fn node_names(cluster: &str, runs: &[Run]) -> Vec<NodeName> {
    let lanes = runs.iter().flat_map(|run| &run.clusters).filter(|lanes: &&ClusterLanes| lanes.cluster == cluster);
    let mut nodes: Vec<(&str, Option<&str>)> = Vec::new();
    for node in lanes.flat_map(|lanes| &lanes.nodes) {
        if !nodes.iter().any(|(id, _)| *id == node.id) {
            nodes.push((&node.id, node.name.as_deref().filter(|name| !name.trim().is_empty())));
        }
    }
    let letters = ('A'..='Z').chain('a'..='z').chain(std::iter::repeat('*'));
    let named = |(index, (&(id, name), letter)): (usize, (&(&str, Option<&str>), char))| {
        let shared = nodes.iter().filter(|(_, other)| *other == name).count() > 1;
        let name = match name {
            Some(name) if shared => format!("{} {id}", tidy(name, MAX_NAME_CHARS)),
            Some(name) => name.to_owned(),
            None => id.to_owned(),
        };
        NodeName { id: id.to_owned(), letter, index, name: tidy(&name, MAX_NAME_CHARS) }
    };
    nodes.iter().zip(letters).enumerate().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_two_units_at_most() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_640, "1.6 s"),
            (60_000, "1 min"),
            (125_400, "2 min 5 s"),
            (3_600_000 + 720_000, "1 h 12 min"),
            (86_400_000 * 2, "2 d"),
        ] {
            assert_eq!(length(ms), text);
        }
    }

    #[test]
    fn times_have_a_date_only_where_the_days_differ() {
        let at = |text| Time::parse(text).unwrap();
        let (from, to) = (at("2026-11-22T07:30:00Z"), at("2026-11-22T07:30:01.250Z"));
        assert_eq!(Clock::of(from, to).between(from, to), "07:30:00.000 to 07:30:01.250, 1.2 s");
        assert_eq!(Clock::of(from, at("2026-11-23T00:00:00Z")).second(from), "07:30:00");
        let dated = Clock::of(from, at("2026-11-23T00:00:01Z"));
        assert_eq!(dated.second(from), "11-22 07:30:00");
        assert_eq!(dated.between(from, to), "11-22 07:30:00.000 to 07:30:01.250, 1.2 s");
        assert_eq!(
            (dated.label(from, 1_000), dated.label(at("2026-11-23T00:00:00Z"), 60_000)),
            ("07:30:00".to_owned(), "11-23".to_owned())
        );
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(tidy("a\u{202e}b\nc", 10), "a?b c");
        assert_eq!(tidy("äöüß", 3), "äöü …");
    }
}
