//! The page's picture in words.

use maud::{Markup, html};

use super::super::marks::Mark;
use super::super::told;
use super::super::words::{MAX_NAME_CHARS, count, length, tidy};
use super::{Page, class};

/// The most incidents that are told, those of the first run first.
const MAX_TOLD: usize = 60;
/// The most holders of an address that are told.
const MAX_HOLDERS: usize = 60;

pub fn section(page: &Page<'_>) -> Markup {
    html! {
        section #words {
            h2 { "The same in words" }
            @for (number, (run, incident)) in page.incidents().enumerate().take(MAX_TOLD) {
                @let marks = page.marks.clusters.iter().find(|one| one.cluster == tidy(&incident.cluster, MAX_NAME_CHARS));
                @let marks = marks.and_then(|cluster| cluster.runs.iter().find(|one| one.run == run));
                @if let Some(marks) = marks {
                    @let (rows, more) = told::rows(incident, marks);
                    div.incident #{ "incident-" (number + 1) } {
                        h3 {
                            (number + 1) ". " (tidy(&incident.title, MAX_NAME_CHARS * 2)) " "
                            small { @if page.timeline.runs.len() > 1 { (page.run_name(run)) ", " } "cluster " (tidy(&incident.cluster, MAX_NAME_CHARS)) ", " (page.clock.between(incident.from, incident.to)) }
                        }
                        div.wide { table {
                            thead { tr { th scope="col" { "when" } th scope="col" { "of" } th scope="col" { "what" } th scope="col" { "why" } } }
                            tbody { @for row in &rows { tr class=(class(row.look)) {
                                td { @if let Some(to) = row.to { (page.clock.range(row.at, to)) } @else { (page.clock.precise(row.at)) } }
                                td { (row.of) }
                                td { b { (row.what) } @if row.count > 1 { " × " (row.count) } }
                                td { (row.text) @for veto in &row.vetoes { br; small { (veto) } } }
                            } } }
                        } }
                        @if more > 0 { p { "and " (more) " rows more" } }
                    }
                }
            }
            @let untold = page.incidents().count().saturating_sub(MAX_TOLD);
            @if untold > 0 { p { "and " (count(untold, "incident", "incidents")) " more; --json tells all" } }
            h3 { "Who held which address" }
            @for cluster in &page.marks.clusters {
                @for run in &cluster.runs {
                    @for address in &run.addresses {
                        (holders(page, &cluster.cluster, if cluster.runs.len() > 1 { Some(page.run_name(run.run)) } else { None }, &address.public_ip, &address.held, &address.outages))
                    }
                }
            }
        }
    }
}

fn holders(page: &Page<'_>, cluster: &str, run: Option<String>, ip: &str, held: &[Mark], outages: &[Mark]) -> Markup {
    let lost: u64 = outages.iter().map(|mark| mark.lasted_ms).sum();
    html! {
        h4 { (ip) " " small { "cluster " (cluster) @if let Some(run) = run { ", " (run) } @if !outages.is_empty() { ", without service " (length(lost)) } } }
        ul {
            @for mark in held.iter().take(MAX_HOLDERS) { li { b { (mark.label) } " " (page.clock.between(mark.from, mark.to)) ". " (mark.text) } }
            @if held.len() > MAX_HOLDERS { li { "and " (held.len() - MAX_HOLDERS) " more" } }
        }
    }
}
