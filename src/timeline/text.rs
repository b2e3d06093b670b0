//! A timeline in the terminal: lanes of characters, and the same in words. Readable without colour.

use super::marks::{ClusterMarks, Look, Mark, Marks, RunMarks};
use super::told;
use super::tradeoff::{self, is_best};
use super::words::{self, Clock, MAX_NAME_CHARS, View, count, length, ms_between, tidy};
use super::{Incident, NearMisses, Timeline, TradeOff};
use crate::cli::paint::Tone;
use crate::cli::render::Page;
use crate::core::tags::Verdict;

/// The most incidents that are drawn; the list tells of more.
const MAX_PICTURES: usize = 8;
/// The most incidents of a run that are listed.
const MAX_LISTED: usize = 40;
/// The most rows of figures.
const MAX_FIGURES: usize = 60;
/// The most rows of each list of near misses.
const MAX_NEAR: usize = 8;
/// The lanes' names.
const LABEL_COLUMNS: usize = 17;
/// The least room for lanes.
const MIN_PLOT_COLUMNS: usize = 20;
/// Lines of the trade-off's plot.
const PLOT_LINES: usize = 12;

/// The picture, at most as wide as the page.
pub fn render(timeline: &Timeline, page: Page) -> String {
    let marks = Marks::of(timeline, None);
    let mut text = Text { timeline, page, clock: Clock::of(timeline.from, timeline.to), out: String::new() };
    text.head();
    text.figures();
    text.pictures(&marks);
    if let Some(trade_off) = &timeline.trade_off {
        text.trade_off(trade_off);
    }
    if let Some(near) = &timeline.near {
        text.near(near);
    }
    let notes: Vec<&String> = timeline.notes.iter().chain(&marks.left_out).collect();
    if !notes.is_empty() {
        text.heading("What to know before believing it");
        for note in notes {
            text.say("  - ", None, note);
        }
    }
    text.out
}

struct Text<'a> {
    timeline: &'a Timeline,
    page: Page,
    clock: Clock,
    out: String,
}

impl Text<'_> {
    fn say(&mut self, first: &str, tone: Option<Tone>, text: &str) {
        self.page.wrap(&mut self.out, first, tone, text);
    }

    fn heading(&mut self, text: &str) {
        self.out.push('\n');
        self.say("", Some(Tone::Strong), text);
    }

    fn head(&mut self) {
        let (from, to) = (self.timeline.from, self.timeline.to);
        self.say("", Some(Tone::Strong), &self.timeline.title);
        self.say(
            "",
            None,
            &format!("{} to {} UTC, {}", words::full(from), words::full(to), length(ms_between(from, to))),
        );
        let several = self.timeline.runs.len() > 1;
        for (place, run) in self.timeline.runs.iter().enumerate() {
            if place > 0 && run.incidents.is_empty() {
                continue;
            }
            let of = if several { format!(", {}", tidy(&run.name, MAX_NAME_CHARS)) } else { String::new() };
            self.heading(&format!("{}{of}", count(run.incidents.len(), "incident", "incidents")));
            for (number, incident) in run.incidents.iter().take(MAX_LISTED).enumerate() {
                let first = format!("  {}. {}  ", number + 1, self.clock.second(incident.from));
                self.say(&first, None, &incident.title);
            }
            if run.incidents.len() > MAX_LISTED {
                self.say("  ", None, &format!("and {} more", run.incidents.len() - MAX_LISTED));
            }
        }
    }

    fn figures(&mut self) {
        const HEADS: [&str; 7] = ["detection", "outages", "together", "longest", "moves", "needless", "in vain"];
        self.heading("Figures");
        let rows: Vec<_> = self
            .timeline
            .runs
            .iter()
            .take(MAX_FIGURES)
            .map(|run| (tidy(&run.name, MAX_NAME_CHARS), words::figures(&run.figures)))
            .collect();
        let widths: Vec<usize> = HEADS
            .iter()
            .enumerate()
            .map(|(column, head)| {
                let cells = rows.iter().filter_map(|(_, row)| row.get(column)).map(|cell| cell.chars().count());
                cells.chain([head.len()]).max().unwrap_or_default()
            })
            .collect();
        let taken: usize = widths.iter().map(|width| width + 2).sum::<usize>() + 2;
        let room = self.page.width.saturating_sub(taken).max(8);
        let line = |name: &str, cells: &[String]| {
            let cells: String = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}")).collect();
            format!("  {:<room$}{cells}\n", cut(name, room))
        };
        let heads: Vec<String> = HEADS.iter().map(ToString::to_string).collect();
        self.out.push_str(&line("", &heads));
        for (name, cells) in &rows {
            self.out.push_str(&line(name, cells));
        }
        let more = self.timeline.runs.len().saturating_sub(MAX_FIGURES);
        if more > 0 {
            self.say("  ", None, &format!("and {more} runs more"));
        }
        for run in self.timeline.runs.iter().take(MAX_FIGURES).filter(|run| !run.text.trim().is_empty()) {
            self.say("  ", None, &format!("{}: {}", tidy(&run.name, MAX_NAME_CHARS), run.text));
        }
    }

    fn pictures(&mut self, marks: &Marks) {
        let whole = View::whole(self.timeline);
        let mut drawn = false;
        let first = self.timeline.runs.iter().enumerate().find(|(_, run)| !run.incidents.is_empty());
        let incidents: Vec<(usize, &Incident)> = first
            .map(|(number, run)| run.incidents.iter().take(MAX_PICTURES).map(|incident| (number, incident)).collect())
            .unwrap_or_default();
        // All of it first, where an incident shows only a small part.
        if !incidents.iter().any(|(_, incident)| View::around(incident, self.timeline).width_ms * 2 > whole.width_ms) {
            self.heading("All of it");
            let (shown, quiet): (Vec<_>, Vec<_>) =
                marks.clusters.iter().partition(|one| one.has_incident || incidents.is_empty());
            for cluster in shown {
                self.lanes(cluster, whole, incidents.is_empty());
                drawn = true;
            }
            if !quiet.is_empty() {
                let names: Vec<&str> = quiet.iter().map(|one| one.cluster.as_str()).collect();
                self.say("  ", None, &format!("Without incidents: {}", names.join(", ")));
            }
        }
        for (number, (run, incident)) in incidents.iter().enumerate() {
            let cluster = marks.clusters.iter().find(|one| one.cluster == tidy(&incident.cluster, MAX_NAME_CHARS));
            let Some(cluster) = cluster else { continue };
            self.heading(&format!("{}. {}", number + 1, incident.title));
            self.lanes(cluster, View::around(incident, self.timeline), true);
            drawn = true;
            if let Some(lanes) = cluster.runs.iter().find(|one| one.run == *run) {
                self.told(incident, lanes);
            }
        }
        if drawn {
            self.out.push('\n');
            self.say("  ", Some(Tone::Faint), LEGEND);
        }
    }

    /// The lanes of a cluster, run by run beneath one axis.
    fn lanes(&mut self, cluster: &ClusterMarks, view: View, nodes: bool) {
        let several = self.timeline.runs.len() > 1;
        let plot = Plot { view, columns: self.page.width.saturating_sub(LABEL_COLUMNS + 1).max(MIN_PLOT_COLUMNS) };
        if self.timeline.runs.iter().any(|run| run.clusters.len() > 1) {
            self.say("  ", None, &format!("cluster {}", cluster.cluster));
        }
        self.line("", plot.axis(self.clock).into_iter().map(|c| (c, Tone::Faint)));
        for run in &cluster.runs {
            if several {
                let name =
                    self.timeline.runs.get(run.run).map(|run| tidy(&run.name, MAX_NAME_CHARS)).unwrap_or_default();
                self.say("", None, &format!("{name}:"));
            }
            for address in &run.addresses {
                self.line(&address.public_ip, plot.cells(&address.held));
                if address.outages.iter().any(|mark| plot.shows(mark)) {
                    self.line("  no service", plot.cells(&address.outages));
                }
                if nodes && address.decisions.iter().any(|mark| plot.shows(mark)) {
                    self.line("  decided", plot.cells(&address.decisions));
                }
            }
            for node in run.nodes.iter().filter(|_| nodes) {
                self.line(&format!("{} {}", node.name.letter, node.name.name), plot.cells(&node.verdicts));
                if node.evidence.iter().any(|mark| plot.shows(mark)) {
                    self.line("  seen", plot.cells(&node.evidence));
                }
            }
        }
        if !nodes {
            let names: Vec<String> = cluster
                .runs
                .first()
                .map(|run| run.nodes.iter().map(|node| format!("{} {}", node.name.letter, node.name.name)).collect())
                .unwrap_or_default();
            self.say("  ", Some(Tone::Faint), &names.join(", "));
        }
    }

    fn line(&mut self, label: &str, cells: impl IntoIterator<Item = (char, Tone)>) {
        self.out.push_str(&format!("{:<LABEL_COLUMNS$} ", cut(label, LABEL_COLUMNS)));
        let cells: Vec<(char, Tone)> = cells.into_iter().collect();
        let end = cells.iter().rposition(|(c, _)| *c != ' ').map_or(0, |last| last + 1);
        for row in cells.get(..end).unwrap_or_default().chunk_by(|one, next| one.1 == next.1) {
            let text: String = row.iter().map(|(c, _)| c).collect();
            let tone = row.first().map_or(Tone::Faint, |(_, tone)| *tone);
            if tone == Tone::Faint {
                self.out.push_str(&text)
            } else {
                self.out.push_str(&self.page.paint.paint(tone, text).to_string())
            }
        }
        let kept = self.out.trim_end_matches(' ').len();
        self.out.truncate(kept);
        self.out.push('\n');
    }

    fn told(&mut self, incident: &Incident, lanes: &RunMarks) {
        let (rows, more) = told::rows(incident, lanes);
        for row in rows {
            let times = if row.count > 1 { format!(" × {}", row.count) } else { String::new() };
            let until = row.to.map(|to| format!(", until {}", self.clock.precise(to))).unwrap_or_default();
            let vetoes = if row.vetoes.is_empty() { String::new() } else { format!(" ({})", row.vetoes.join("; ")) };
            let why = if row.text.is_empty() { String::new() } else { format!(": {}", row.text) };
            let text = format!("{}: {}{times}{until}{why}{vetoes}", row.of, row.what);
            self.say(&format!("  {}  ", self.clock.precise(row.at)), tone_of_row(row.look), &text);
        }
        if more > 0 {
            self.say("  ", None, &format!("and {more} rows more"));
        }
    }

    fn trade_off(&mut self, trade_off: &TradeOff) {
        self.heading("Speed against needless moves");
        self.say("  ", None, &trade_off.text);
        let points: Vec<(f64, f64, usize)> = trade_off
            .points
            .iter()
            .enumerate()
            .filter_map(|(index, point)| Some((point.outage_ms? as f64 / 1000.0, point.needless_per_day, index)))
            .collect();
        let x_scale = tradeoff::Scale::to(points.iter().map(|point| point.0).fold(0.0, f64::max));
        let y_scale = tradeoff::Scale::to(points.iter().map(|point| point.1).fold(0.0, f64::max));
        const Y_COLUMNS: usize = 9;
        let place_of = |y: f64| PLOT_LINES.saturating_sub((y / y_scale.end * PLOT_LINES as f64).round() as usize);
        let columns = self.page.width.saturating_sub(Y_COLUMNS + 1).max(MIN_PLOT_COLUMNS);
        let mut grid = vec![vec![' '; columns]; PLOT_LINES + 1];
        let mut letters = ('a'..='z').chain('A'..='Z');
        let mut named = Vec::new();
        let mut sorted = points.clone();
        // What is on the line is drawn last, from the fastest on.
        let best = |index: usize| trade_off.points.get(index).is_some_and(|point| is_best(point, &trade_off.points));
        let current = |index: usize| trade_off.points.get(index).is_some_and(|point| point.current);
        sorted.sort_by(|one, next| {
            (current(one.2), best(one.2)).cmp(&(current(next.2), best(next.2))).then(one.0.total_cmp(&next.0))
        });
        for (x, y, index) in sorted {
            let sign = match (current(index), best(index)) {
                (true, _) => '@',
                (false, true) => letters.next().unwrap_or('+'),
                (false, false) => '.',
            };
            if sign != '.' {
                named.push((sign, index));
            }
            let column = (x / x_scale.end * (columns - 1) as f64).round() as usize;
            let line = place_of(y);
            if let Some(cell) = grid.get_mut(line).and_then(|line| line.get_mut(column)) {
                *cell = sign;
            }
        }
        self.say("", None, "needless moves a day");
        for (line, cells) in grid.iter().enumerate() {
            let beside = y_scale.lines.iter().find(|value| place_of(**value) == line);
            let label = beside.map(|value| tradeoff::number(*value)).unwrap_or_default();
            let cells: String = cells.iter().collect();
            self.out.push_str(format!("{label:>Y_COLUMNS$}|{cells}").trim_end());
            self.out.push('\n');
        }
        self.out.push_str(&format!("{:>Y_COLUMNS$}+{}\n", "", "-".repeat(columns)));
        let end = format!("{} s", tradeoff::number(x_scale.end));
        let middle = "median outage";
        self.out.push_str(&format!(
            "{:>Y_COLUMNS$} 0{middle:^room$}{end}\n",
            "",
            room = columns.saturating_sub(1 + end.len())
        ));
        for (sign, index) in named {
            let Some(point) = trade_off.points.get(index) else { continue };
            let outage = point.outage_ms.map_or_else(|| "never moved".to_owned(), length);
            let text = format!(
                "{}: outage {outage}, {} needless moves a day",
                tidy(&point.name, MAX_NAME_CHARS),
                tradeoff::number(point.needless_per_day)
            );
            self.say(&format!("  {sign} "), None, &text);
        }
        self.say(
            "  ",
            Some(Tone::Faint),
            "Letters: no policy is better in both. @ what the others are compared with. Dots: others.",
        );
    }

    fn near(&mut self, near: &NearMisses) {
        let name = |name: &Option<String>, id: &str| tidy(name.as_deref().unwrap_or(id), MAX_NAME_CHARS);
        self.heading("Near misses");
        for one in near.streaks.iter().take(MAX_NEAR) {
            let text = format!(
                "{} failed {} of {} times in {}: {}",
                name(&one.name, &one.node),
                one.fails,
                one.fall,
                length(ms_between(one.from, one.to)),
                one.text
            );
            self.say(&format!("  {}  ", self.clock.second(one.from)), None, &format!("{}, {}", text, one.check));
        }
        for one in near.slow.iter().take(MAX_NEAR) {
            let text = format!(
                "{} answered {} after {}, of {} allowed",
                name(&one.name, &one.node),
                one.check,
                length(one.took_ms),
                length(one.timeout_ms)
            );
            self.say(&format!("  {}  ", self.clock.second(one.at)), None, &text);
        }
        if near.streaks.is_empty() && near.slow.is_empty() {
            self.say("  ", None, "None.");
        }
        for one in &near.suggestions {
            let policy = if one.policy.is_empty() { "all defaults" } else { &one.policy };
            let word = if one.current { "the policy in force is right" } else { "suggested" };
            let tone = (!one.current).then_some(Tone::Odd);
            self.say("  ", tone, &format!("cluster {}: {word}: {policy}. {}", one.cluster, one.text));
        }
    }
}

const LEGEND: &str = "Address: the letter of the node that holds it, - nobody, @ no node of the cluster; # no service; > a move decided, | held up, : another decision. \
    Node: . healthy, s suspect, U unhealthy, ? unknown, G gone. Seen: F something was done to it, x a probe failed, + probes passed, * something else.";

/// Cut to so many columns.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}~")
}

fn tone_of_row(look: Look) -> Option<Tone> {
    match look {
        Look::Outage | Look::Fault | Look::Verdict(Verdict::Unhealthy | Verdict::Gone) => Some(Tone::Bad),
        Look::Blocked | Look::Verdict(Verdict::Suspect) => Some(Tone::Odd),
        Look::Move | Look::Holder(_) => Some(Tone::Strong),
        _ => None,
    }
}

struct Plot {
    view: View,
    columns: usize,
}

impl Plot {
    fn shows(&self, mark: &Mark) -> bool {
        mark.from <= self.view.to() && mark.to >= self.view.from
    }

    fn column(&self, ms: u64) -> usize {
        let column = u128::from(ms) * self.columns as u128 / u128::from(self.view.width_ms);
        usize::try_from(column).unwrap_or(usize::MAX).min(self.columns - 1)
    }

    /// What matters most stands where several share a column; of equals, the later.
    fn cells(&self, marks: &[Mark]) -> Vec<(char, Tone)> {
        let mut cells: Vec<(u8, char, Tone)> = vec![(0, ' ', Tone::Faint); self.columns];
        for mark in marks.iter().filter(|mark| self.shows(mark)) {
            let (weight, sign, tone) = sign(mark);
            let first = self.column(ms_between(self.view.from, mark.from));
            let last_ms = ms_between(self.view.from, mark.to).saturating_sub(u64::from(mark.to > mark.from));
            let last = self.column(last_ms).max(first);
            for cell in cells.iter_mut().take(last + 1).skip(first) {
                if weight >= cell.0 {
                    *cell = (weight, sign, tone);
                }
            }
        }
        cells.into_iter().map(|(_, sign, tone)| (sign, tone)).collect()
    }

    fn axis(&self, clock: Clock) -> Vec<char> {
        let room = clock.precise(self.view.from).len() + 3;
        let (times, step_ms) = self.view.ticks((self.columns / room) as u64);
        let mut line = vec![' '; self.columns];
        for time in times {
            let text = clock.label(time, step_ms);
            let at = self.column(ms_between(self.view.from, time));
            let free = at + text.len() < self.columns && (at == 0 || line.get(at - 1) == Some(&' '));
            for (cell, c) in line.iter_mut().skip(at).zip(std::iter::once('|').chain(text.chars())).filter(|_| free) {
                *cell = c;
            }
        }
        line
    }
}

/// How much a mark matters, its character and its colour.
fn sign(mark: &Mark) -> (u8, char, Tone) {
    match mark.look {
        Look::Holder(index) => (1, ('A'..='Z').chain('a'..='z').nth(index).unwrap_or('*'), Tone::Strong),
        Look::Stranger => (1, '@', Tone::Odd),
        Look::Nobody => (2, '-', Tone::Bad),
        Look::Outage => (1, '#', Tone::Bad),
        Look::Verdict(Verdict::Healthy) => (1, '.', Tone::Faint),
        Look::Verdict(Verdict::Unknown) => (2, '?', Tone::Odd),
        Look::Verdict(Verdict::Suspect) => (3, 's', Tone::Odd),
        Look::Verdict(Verdict::Unhealthy) => (4, 'U', Tone::Bad),
        Look::Verdict(Verdict::Gone) => (5, 'G', Tone::Bad),
        Look::Move => (4, '>', Tone::Strong),
        Look::Blocked => (3, '|', Tone::Odd),
        Look::Stay => (2, ':', Tone::Faint),
        Look::Fault => (5, 'F', Tone::Bad),
        Look::Failed => (4, 'x', Tone::Bad),
        Look::Passed => (1, '+', Tone::Faint),
        Look::Note | Look::Mixed => (2, '*', Tone::Faint),
    }
}
