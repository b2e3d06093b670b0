//! A timeline as one HTML page: no network, no font, no script but its own.
//!
//! Marks are boxes placed by two numbers, `--a` and `--b`, in milliseconds since the timeline's beginning; the picture has `--f` and `--w`, where
//! it begins and how much it shows. So zooming is two numbers, nothing is drawn twice, and text is not stretched, as it would be in an SVG of such
//! a scale: a day holds an outage of a second 86,400 times. Without its script the page shows the first incident, and tells the others in words.
//!
//! Architecture invariant: text is escaped by its type. `verbatim` takes constants only, and nothing else makes markup of text.

mod near;
mod scatter;
mod told;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::marks::{ClusterMarks, Look, Mark, Marks, RunMarks, verdict_word};
use super::words::{self, Clock, MAX_NAME_CHARS, MAX_TEXT_CHARS, NodeName, View, count, length, ms_between, tidy};
use super::{Incident, Timeline};
use crate::core::time::Time;

/// The largest page, in bytes. What repeats is folded until it fits.
pub const MAX_PAGE_BYTES: usize = 1_000_000;
/// About so many marks are on a page.
const MAX_MARKS: usize = 4_000;
/// So often a quarter of the marks is folded away where the page is too large still.
const MAX_TRIES: u32 = 16;
/// So many incidents are seen at once; the list of more scrolls.
const MAX_SEEN: usize = 6;
/// So many numbers of incidents have room above each other.
const MAX_NUMBERED: usize = 14;
/// So many times of incidents are seen at once.
const MAX_BRIEF: usize = 16;
/// The most runs beside the first whose incidents are seen without a click.
const MAX_RUNS_SEEN: usize = 3;
/// The most incidents of a run that are listed.
const MAX_INCIDENTS: usize = 60;
/// The most runs in the table of figures.
const MAX_RUNS_TOLD: usize = 200;
/// The most addresses whose end is told at the top.
const MAX_NOW: usize = 6;
/// The most notes.
const MAX_NOTES: usize = 40;
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// So many labels fit the narrowest screen.
const MAX_TICKS: u64 = 5;

/// The page.
pub fn render(timeline: &Timeline) -> String {
    let mut budget = MAX_MARKS;
    let mut page = Page::of(timeline, budget).whole().into_string();
    for _ in 0..MAX_TRIES {
        if page.len() <= MAX_PAGE_BYTES {
            break;
        }
        budget = budget / 4 * 3;
        page = Page::of(timeline, budget).whole().into_string();
    }
    page
}

/// Text that is markup already: only what was written here.
fn verbatim(text: &'static str) -> PreEscaped<&'static str> {
    PreEscaped(text)
}

struct Page<'a> {
    timeline: &'a Timeline,
    marks: Marks,
    clock: Clock,
    length_ms: u64,
}

impl<'a> Page<'a> {
    fn of(timeline: &'a Timeline, budget: usize) -> Page<'a> {
        Page {
            timeline,
            marks: Marks::of(timeline, Some(budget)),
            clock: Clock::of(timeline.from, timeline.to),
            length_ms: ms_between(timeline.from, timeline.to).max(1),
        }
    }

    /// Milliseconds since the beginning.
    fn at(&self, time: Time) -> u64 {
        ms_between(self.timeline.from, time).min(self.length_ms)
    }

    fn run_name(&self, run: usize) -> String {
        self.timeline.runs.get(run).map(|run| tidy(&run.name, MAX_NAME_CHARS)).unwrap_or_default()
    }

    /// All incidents that are listed: the run's number, the incident.
    fn incidents(&self) -> impl Iterator<Item = (usize, &'a Incident)> {
        let runs = self.timeline.runs.iter().enumerate();
        runs.flat_map(|(number, run)| run.incidents.iter().take(MAX_INCIDENTS).map(move |incident| (number, incident)))
    }

    /// Who holds what at the end, and how long nobody was served: of the first run.
    fn now(&self) -> Markup {
        let shown = self.marks.clusters.iter().filter(|one| one.has_incident || !self.has_incidents());
        let addresses = shown.filter_map(|cluster| cluster.runs.first()).flat_map(|run| &run.addresses).take(MAX_NOW);
        html! {
            ul.now {
                @for address in addresses {
                    @if let Some(last) = address.held.last() {
                        @let lost: u64 = address.outages.iter().map(|mark| mark.lasted_ms).sum();
                        li {
                            b { (address.public_ip) } " is held by " b { (last.label) } " at the end. "
                            @if lost > 0 { "Without service for " b { (length(lost)) } ", " (count(address.outages.iter().map(|mark| mark.count).sum(), "time", "times")) "." } @else { "No time without service is known." }
                        }
                    }
                }
            }
        }
    }

    fn has_incidents(&self) -> bool {
        self.incidents().next().is_some()
    }

    fn first_shown(&self) -> View {
        let first = self.incidents().next();
        first.map_or_else(|| View::whole(self.timeline), |(_, incident)| View::around(incident, self.timeline))
    }

    fn whole(&self) -> Markup {
        let title = tidy(&self.timeline.title, MAX_TEXT_CHARS);
        let (from, to) = (self.timeline.from, self.timeline.to);
        let style = verbatim(STYLE);
        let script = verbatim(SCRIPT);
        // No script but this one would run, even if somebody found a way to put one in.
        let hash = base64(ring::digest::digest(&ring::digest::SHA256, SCRIPT.as_bytes()).as_ref());
        let policy = format!(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
        );
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta http-equiv="Content-Security-Policy" content=(policy);
                    title { (title) " - eipwatch" }
                    style { (style) }
                }
                body {
                    header {
                        h1 { (title) }
                        p.range { (words::full(from)) " to " (words::full(to)) " UTC, " (length(ms_between(from, to))) }
                        (self.now())
                    }
                    main {
                        (self.incident_list())
                        (self.picture())
                        (self.figures())
                        @if let Some(trade_off) = &self.timeline.trade_off { (scatter::section(trade_off)) }
                        @if let Some(near) = &self.timeline.near { (near::section(near, self.clock)) }
                        (told::section(self))
                        (self.notes())
                    }
                    footer { "Made by eipwatch " (env!("CARGO_PKG_VERSION")) ". All times are UTC." }
                    script { (script) }
                }
            }
        }
    }

    /// Those of the first run in full; of others, which the picture has beneath it, the times.
    fn incident_list(&self) -> Markup {
        let incidents: Vec<(usize, usize, &Incident)> =
            self.incidents().enumerate().map(|(number, (run, incident))| (number + 1, run, incident)).collect();
        let of = |run: usize| incidents.iter().filter(move |(_, of, _)| *of == run);
        let several = self.timeline.runs.len() > 1;
        html! {
            section #incidents {
                @if let Some(run) = self.timeline.runs.first() {
                    h2 { (count(run.incidents.len(), "incident", "incidents")) @if several { " " small { (self.run_name(0)) } } }
                    @if run.incidents.is_empty() { p { "Nothing happened that would need to be looked at." } }
                    ol.many[run.incidents.len() > MAX_SEEN] { @for (number, _, incident) in of(0) { li { (self.incident_link(*number, 0, incident)) } } }
                    @if run.incidents.len() > MAX_INCIDENTS { p { "and " (run.incidents.len() - MAX_INCIDENTS) " more" } }
                }
                @let others: Vec<_> = self.timeline.runs.iter().enumerate().skip(1).filter(|(_, run)| !run.incidents.is_empty()).take(MAX_RUNS_TOLD).collect();
                @let lists = html! {
                    @for (place, run) in &others {
                        div.other {
                            b { (self.run_name(*place)) } ": " (count(run.incidents.len(), "incident", "incidents")) " "
                            ol.brief.many[run.incidents.len() > MAX_BRIEF] { @for (number, _, incident) in of(*place) { li { (self.incident_link(*number, *place, incident)) } } }
                            @if run.incidents.len() > MAX_INCIDENTS { " and " (run.incidents.len() - MAX_INCIDENTS) " more" }
                        }
                    }
                };
                @if others.len() > MAX_RUNS_SEEN {
                    details { summary { "Incidents under " (others.len()) " other policies" } (lists) }
                } @else { (lists) }
            }
        }
    }

    /// Whether clients were not served in it.
    fn is_lost(&self, run: usize, incident: &Incident) -> bool {
        let run = self.timeline.runs.get(run);
        let clusters = run.into_iter().flat_map(|run| &run.clusters).filter(|lanes| lanes.cluster == incident.cluster);
        clusters
            .flat_map(|lanes| &lanes.addresses)
            .flat_map(|address| &address.outages)
            .any(|outage| outage.from <= incident.to && outage.to >= incident.from)
    }

    fn incident_link(&self, number: usize, run: usize, incident: &Incident) -> Markup {
        let shown = View::around(incident, self.timeline);
        let title = tidy(&incident.title, MAX_TEXT_CHARS);
        let brief = run > 0;
        html! {
            a.lost[self.is_lost(run, incident)] href={ "#incident-" (number) } data-f=(self.at(shown.from)) data-w=(shown.width_ms) data-run=(run) {
                time datetime=(incident.from) { (self.clock.second(incident.from)) }
                @if brief { span.hidden { " " (title) } } @else {
                    " " span { (title) }
                    " " small { (tidy(&incident.cluster, MAX_NAME_CHARS)) ", " (length(ms_between(incident.from, incident.to))) }
                }
            }
        }
    }

    fn figures(&self) -> Markup {
        let runs = &self.timeline.runs;
        html! {
            section #figures {
                h2 { "Figures" }
                div.wide {
                    table {
                        thead { tr { th scope="col" { "run" } @for name in words::FIGURES { th scope="col" { (name) } } } }
                        tbody {
                            @for run in runs.iter().take(MAX_RUNS_TOLD) {
                                tr {
                                    th scope="row" { (tidy(&run.name, MAX_NAME_CHARS)) }
                                    @for (name, figure) in words::FIGURES.iter().zip(words::figures(&run.figures)) { td data-name=(name) { (figure) } }
                                }
                            }
                        }
                    }
                }
                @if runs.len() > MAX_RUNS_TOLD { p { "and " (runs.len() - MAX_RUNS_TOLD) " runs more" } }
                p.small { "Detection: the median from the first sign of a holder's fault to the decision to move. Needless: off a holder that served, or would have served again by then." }
                @for run in runs.iter().take(MAX_RUNS_TOLD) {
                    @if !run.text.trim().is_empty() { p.text { b { (tidy(&run.name, MAX_NAME_CHARS)) } ": " (tidy(&run.text, MAX_TEXT_CHARS)) } }
                }
            }
        }
    }

    fn notes(&self) -> Markup {
        let notes: Vec<String> =
            self.timeline.notes.iter().take(MAX_NOTES).map(|note| tidy(note, 2 * MAX_TEXT_CHARS)).collect();
        html! {
            @if !notes.is_empty() || !self.marks.left_out.is_empty() {
                section #notes {
                    h2 { "What to know before believing it" }
                    ul {
                        @for note in &notes { li { (note) } }
                        @if self.timeline.notes.len() > MAX_NOTES { li { "and " (self.timeline.notes.len() - MAX_NOTES) " notes more" } }
                        @for text in &self.marks.left_out { li.folded { (text) } }
                    }
                }
            }
        }
    }

    fn picture(&self) -> Markup {
        let shown = self.first_shown();
        let from_ms = self.timeline.from.as_millis();
        html! {
            section #picture style={ "--f:" (self.at(shown.from)) ";--w:" (shown.width_ms) ";--all:" (self.length_ms) } data-from=(from_ms) {
                h2 { "What happened when" }
                div.tools role="group" aria-label="What is shown" {
                    span.shown { (self.clock.between(shown.from, shown.to())) }
                }
                (self.overview())
                div.lanes {
                    div.axis aria-hidden="true" { @for tick in self.ticks(shown) { (tick) } }
                    @let (shown, others): (Vec<_>, Vec<_>) = self.marks.clusters.iter().partition(|one| one.has_incident || !self.has_incidents());
                    @for cluster in shown { (self.cluster(cluster)) }
                    @if !others.is_empty() {
                        details.others {
                            summary { (count(others.len(), "cluster", "clusters")) " without incidents" }
                            @for cluster in others { (self.cluster(cluster)) }
                        }
                    }
                }
                div.panel hidden { }
                (legend())
            }
        }
    }

    /// The whole stretch in a line, with what is shown of it.
    fn overview(&self) -> Markup {
        let outages =
            self.marks.clusters.iter().flat_map(|cluster| cluster.runs.first()).flat_map(|run| &run.addresses);
        html! {
            div.overview {
                div.window aria-hidden="true" { }
                @for mark in outages.flat_map(|address| &address.outages) {
                    div.lost aria-hidden="true" style=(span(self.at(mark.from), self.at(mark.to))) { }
                }
                @for (number, (run, incident)) in self.incidents().enumerate() {
                    @if run == 0 {
                        a href={ "#incident-" (number + 1) } style=(span(self.at(incident.from), self.at(incident.to)))
                            aria-label={ "incident " (number + 1) } tabindex="-1" { @if self.incidents().count() <= MAX_NUMBERED { (number + 1) } }
                    }
                }
            }
        }
    }

    fn ticks(&self, shown: View) -> Vec<Markup> {
        let (times, step_ms) = shown.ticks(MAX_TICKS);
        let text = |at| self.clock.label(at, step_ms);
        times.into_iter().map(|at| html! { div.tick style={ "--a:" (self.at(at)) } { span { (text(at)) } } }).collect()
    }

    fn cluster(&self, cluster: &ClusterMarks) -> Markup {
        html! {
            section.cluster {
                @if cluster.runs.len() == 1 { h3 { "Cluster " (cluster.cluster) } }
                @for run in &cluster.runs { (self.run(run, (cluster.runs.len() > 1).then_some(&cluster.cluster))) }
            }
        }
    }

    fn run(&self, run: &RunMarks, of: Option<&String>) -> Markup {
        let name = self.run_name(run.run);
        html! {
            div.run data-run=(run.run) {
                @if let Some(cluster) = of { h3 { (name) " " small { "cluster " (cluster) } } }
                @for address in &run.addresses {
                    div.row.address {
                        div.label { b { (address.public_ip) } }
                        div.tracks {
                            (self.track("held", &format!("who holds {}", address.public_ip), &address.held))
                            @if !address.outages.is_empty() { (self.track("outages", &format!("when {} did not serve", address.public_ip), &address.outages)) }
                            @if !address.decisions.is_empty() { (self.track("decisions", &format!("what was decided about {}", address.public_ip), &address.decisions)) }
                        }
                    }
                }
                @for node in &run.nodes {
                    div.row.node {
                        div.label {
                            (letter(&node.name)) " " b { (node.name.name) }
                            small { @if node.name.name != node.name.id { (tidy(&node.name.id, MAX_NAME_CHARS)) " " } @if let Some(zone) = &node.zone { (zone) } }
                        }
                        div.tracks {
                            (self.track("verdicts", &format!("what was thought of {}", node.name.name), &node.verdicts))
                            @if !node.evidence.is_empty() { (self.track("evidence", &format!("what was seen of {}", node.name.name), &node.evidence)) }
                        }
                    }
                }
            }
        }
    }

    fn track(&self, class: &'static str, name: &str, marks: &[Mark]) -> Markup {
        html! {
            div class={ "track " (class) } role="group" aria-label=(name) {
                @for mark in marks { (self.mark(mark)) }
            }
        }
    }

    fn mark(&self, mark: &Mark) -> Markup {
        let point = mark.from == mark.to && is_moment(mark.look);
        let class = format!(
            "{} {}{}",
            if point { "m" } else { "s" },
            class(mark.look),
            if mark.count > 1 { " many" } else { "" }
        );
        let style =
            if point { format!("--a:{}", self.at(mark.from)) } else { span(self.at(mark.from), self.at(mark.to)) };
        let time = if point { self.clock.precise(mark.from) } else { self.clock.between(mark.from, mark.to) };
        html! {
            button type="button" class=(class) style=(style) {
                b { (mark.label) } " " i { (time) } " " span { (mark.text) }
                @for veto in &mark.vetoes { " " small { (veto) } }
            }
        }
    }
}

/// As a Content-Security-Policy has it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let all =
            (0..3).fold(0_usize, |all, place| all << 8 | usize::from(group.get(place).copied().unwrap_or_default()));
        let digit = move |place: usize| {
            let digit = DIGITS.get(all >> (18 - 6 * place) & 63).copied().unwrap_or_default();
            if place > group.len() { '=' } else { char::from(digit) }
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn span(from_ms: u64, to_ms: u64) -> String {
    format!("--a:{from_ms};--b:{to_ms}")
}

fn letter(name: &NodeName) -> Markup {
    html! { span class={ "letter " (class(Look::Holder(name.index))) } { (name.letter) } }
}

/// Whether it is a point in time by nature.
fn is_moment(look: Look) -> bool {
    !matches!(look, Look::Holder(_) | Look::Stranger | Look::Nobody | Look::Outage | Look::Verdict(_))
}

/// How many looks nodes have; beyond that they begin again.
const NODE_LOOKS: usize = 6;

fn class(look: Look) -> String {
    let word = match look {
        Look::Holder(index) => return format!("n{}", index % NODE_LOOKS),
        Look::Stranger => "stranger",
        Look::Nobody => "nobody",
        Look::Outage => "outage",
        Look::Verdict(verdict) => verdict_word(verdict),
        Look::Move => "move",
        Look::Blocked => "blocked",
        Look::Stay => "stay",
        Look::Fault => "fault",
        Look::Failed => "failed",
        Look::Passed => "passed",
        Look::Note => "note",
        Look::Mixed => "mixed",
    };
    word.to_owned()
}

fn legend() -> Markup {
    let stretches = ["outage", "nobody", "healthy", "suspect", "unhealthy", "unknown", "gone"];
    let moments = [
        (Look::Move, "a move was decided"),
        (Look::Blocked, "a move was held up"),
        (Look::Stay, "another decision"),
        (Look::Fault, "something was done to the node"),
        (Look::Failed, "a probe failed"),
        (Look::Passed, "probes passed"),
        (Look::Note, "a reading, a notice"),
    ];
    html! {
        ul.legend aria-label="What the signs mean" {
            @for word in stretches { li { span class={ "s " (word) } { } " " @if word == "outage" { "no service" } @else { (word) } } }
            @for (look, text) in moments { li { span class={ "m " (class(look)) } { } " " (text) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_rfc_4648_has_it() {
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
