//! What a timeline's lanes show, as rows of words: for those who do not see the picture, and for print.

use super::Incident;
use super::marks::{Look, Mark, RunMarks};
use super::words::ms_between;
use crate::core::time::Time;

/// The most rows of one incident.
pub const MAX_ROWS: usize = 60;
/// What is told beside an incident, before it and after it, in milliseconds.
const BESIDE_MS: u64 = 3_000;

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When.
    pub at: Time,
    /// Until when, where that is told: an outage.
    pub to: Option<Time>,
    /// Of what: an address, a node.
    pub of: String,
    /// What it looks like.
    pub look: Look,
    /// In a word or two.
    pub what: String,
    /// In a sentence.
    pub text: String,
    /// What speaks against each node.
    pub vetoes: Vec<String>,
    /// How many alike, one after the other.
    pub count: usize,
}

/// What happened in an incident, in the order of time, and how many rows more there were.
pub fn rows(incident: &Incident, run: &RunMarks) -> (Vec<Row>, usize) {
    let from_ms = incident.from.as_millis().saturating_sub(BESIDE_MS);
    let to_ms = incident.to.as_millis().saturating_add(BESIDE_MS);
    let mut rows: Vec<Row> = Vec::new();
    let mut add = |of: &str, marks: &[Mark]| {
        let begins = |mark: &&Mark| (from_ms..=to_ms).contains(&mark.from.as_millis()) && mark.look != Look::Passed;
        rows.extend(marks.iter().filter(begins).map(|mark| row(of, mark)));
    };
    for node in &run.nodes {
        add(&node.name.name, &node.evidence);
        add(&node.name.name, changes(&node.verdicts));
    }
    for address in &run.addresses {
        add(&address.public_ip, &address.outages);
        add(&address.public_ip, &address.decisions);
        add(&address.public_ip, changes(&address.held));
    }
    rows.sort_by_key(|row| row.at);
    // Whoever holds an address since a decision holds it for the reason that was just told.
    let decided: Vec<(String, String)> =
        rows.iter().filter(|row| row.look == Look::Move).map(|row| (row.of.clone(), row.text.clone())).collect();
    for row in rows.iter_mut().filter(|row| matches!(row.look, Look::Holder(_))) {
        if decided.iter().any(|(of, text)| *of == row.of && row.text.ends_with(text.as_str())) {
            row.text = String::new();
        }
    }
    let mut short: Vec<Row> = Vec::new();
    for row in rows {
        match short.last_mut() {
            Some(last) if last.of == row.of && last.what == row.what && last.text == row.text => {
                last.count += row.count;
                last.to = Some(row.to.unwrap_or(row.at));
            }
            _ => short.push(row),
        }
    }
    let more = short.len().saturating_sub(MAX_ROWS);
    short.truncate(MAX_ROWS);
    (short, more)
}

/// Without the first, which is no change.
fn changes(marks: &[Mark]) -> &[Mark] {
    marks.get(1..).unwrap_or_default()
}

fn row(of: &str, mark: &Mark) -> Row {
    let what = match mark.look {
        Look::Holder(_) | Look::Stranger => format!("held by {}", mark.label),
        Look::Nobody => "held by nobody".to_owned(),
        _ => mark.label.clone(),
    };
    let to = (mark.look == Look::Outage && ms_between(mark.from, mark.to) > 0).then_some(mark.to);
    Row {
        at: mark.from,
        to,
        of: of.to_owned(),
        look: mark.look,
        what,
        text: mark.text.clone(),
        vetoes: mark.vetoes.clone(),
        // What a folded mark stands for, it says itself.
        count: 1,
    }
}
