//! `eipwatch replay`: a log shown as a timeline, and decided again under another policy.
//!
//! - [`read`] finds the records in a log, [`again`] runs one invocation on exactly what it recorded.
//! - [`known`] and [`evidence`] put a whole log together: what EC2 and the nodes were like at a time. [`elsewise`] runs production watches
//!   on that, under another policy.
//! - [`near`] looks for what almost happened.
//!
//! Architecture invariant: nothing is judged or decided here but by [`crate::core::watch::Watch`]; and nothing is asked of anybody.

pub mod again;
pub mod elsewise;
pub mod evidence;
pub mod known;
pub mod near;
pub mod read;

use std::collections::BTreeMap;

use crate::core::log::Record;
use crate::core::model::{ClusterName, InstanceId, InstanceState, Look};
use crate::core::tags::Verdict;
use crate::core::time::{Time, millis};
use crate::timeline::build::{Builder, Down, Downs, against, alone};
use crate::timeline::words::length;
use crate::timeline::{Run, Timeline};
use known::Known;
use read::{Entry, Log};

/// The most policies under which one log is decided again.
pub const MAX_POLICIES: usize = 10;
/// Moves of a replay and of the log that are no further apart are the same, in milliseconds.
const SAME_MOVE_MS: u64 = 5_000;

/// Why a log cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is nothing of eipwatch in it.
    #[error(
        "no invocation of eipwatch is in it, in {lines} lines{hint}. A record looks like this: {{\"timestamp\":\"…\",\"level\":\"INFO\",\"event\":\"start\",…}}"
    )]
    Empty {
        /// How many lines were read.
        lines: u64,
        /// What else was found.
        hint: String,
    },
}

/// Shows a log, and decides it again under each of the policies.
///
/// # Errors
/// There is nothing to show.
pub fn replay(log: &Log, policies: &[String], only: Option<&ClusterName>, name: &str) -> Result<Timeline, Unusable> {
    let Some(to) = log.ends().filter(|_| !log.invocations.is_empty()) else {
        let hint = log.notes().first().map(|note| format!(" ({})", note.trim_end_matches('.'))).unwrap_or_default();
        return Err(Unusable::Empty { lines: log.lines, hint });
    };
    let known = Known::of(log);
    let downs = downs(log, &known, to);
    let mut builder = Builder::new(only.cloned());
    let mut last = BTreeMap::new();
    for (_, number, entry) in log.by_time() {
        match entry {
            // Every invocation begins with the same picture again; where addresses are may have changed meanwhile.
            Entry::Reading { body, .. }
                if body.look != Look::Addresses
                    && last.insert(&body.look, body).is_some_and(|before| std::sync::Arc::ptr_eq(before, body)) => {}
            Entry::Reading { at, asked, body } => builder.reading(*at, *asked, &body.look, &body.changed, &body.gone),
            Entry::Other(record) => builder.take(number, record),
        }
    }
    let (from, _) = builder.times();
    let invocations = builder.invocations();
    let blindness = builder.blindness();
    let mut was = builder.finish("as it was".to_owned(), to, &downs, None);
    was.text = alone(&was);
    let mut notes = vec![format!("{invocations} invocations in {}.", length(millis(to.since(from))))];
    notes.extend(log.notes());
    notes.extend(blindness);
    notes.push(
        "The log does not know what clients saw: an outage is told where at least two probes of the holder failed in a row, from half-way \
         between the last that passed and the first that failed. A move is needless if the node that it left passed when it took effect."
            .to_owned(),
    );
    let mut runs = vec![was];
    if !policies.is_empty() {
        let same = decided_again(log, &known, "", only, &downs, to).0;
        notes.push(calibration(runs.first(), &same));
        notes.push(
            "Under another policy probes start at other times. Their answers are what the log knows of the node then: failed between two \
             failed probes, passed within a run of passed ones, and where it turns, half-way between what was seen before and after; a passed \
             probe is as slow as its run in the mean, the slowest at its time. So times are right to about the interval of the log's probes, \
             and a failure that ended between two of them is not known."
                .to_owned(),
        );
    }
    for pairs in policies.iter().take(MAX_POLICIES) {
        let (mut run, again) = decided_again(log, &known, pairs, only, &downs, to);
        if let Some(was) = runs.first() {
            run.text = against(was, &run);
        }
        notes.push(format!(
            "{pairs}: {again} of {invocations} invocations were run again; in the others nothing could have been decided otherwise."
        ));
        runs.push(run);
    }
    let near = near::misses(&known, to, to.since(from), only);
    let title = format!("{name}, {from} to {to}");
    Ok(Timeline { title, notes, from, to, runs, trade_off: None, near: Some(near) })
}

fn decided_again(
    log: &Log,
    known: &Known,
    pairs: &str,
    only: Option<&ClusterName>,
    downs: &Downs,
    to: Time,
) -> (Run, u64) {
    let otherwise = elsewise::decide_again(log, known, pairs, only);
    let mut builder = Builder::new(only.cloned());
    for (_, number, record) in &otherwise.records {
        builder.take(*number, record);
    }
    (builder.finish(pairs.to_owned(), to, downs, None), otherwise.run)
}

/// How far a replay can be believed: by what it makes of the policy that was in force.
fn calibration(was: Option<&Run>, same: &Run) -> String {
    let moves = |run: &Run| -> Vec<Time> {
        let lanes = run.clusters.iter().flat_map(|cluster| &cluster.addresses);
        let made = lanes.flat_map(|lane| &lane.held).filter(|hold| hold.why.is_some()).map(|hold| hold.from);
        let mut made: Vec<Time> = made.collect();
        made.sort_unstable();
        made
    };
    let (was, same) = (was.map(moves).unwrap_or_default(), moves(same));
    let apart = |one: &Time, other: &Time| millis(one.since(*other).max(other.since(*one)));
    let furthest = was.iter().zip(&same).map(|(one, other)| apart(one, other)).max().unwrap_or_default();
    match (was.len(), same.len()) {
        (0, 0) => {
            "As a check, it was decided again under the policy that was in force: it moves nothing, as in the log."
                .to_owned()
        }
        (one, other) if one == other && furthest <= SAME_MOVE_MS => {
            format!(
                "As a check, it was decided again under the policy that was in force: it makes the same moves, at most {} apart.",
                length(furthest)
            )
        }
        (one, other) => format!(
            "Take what is said of other policies with care: decided again under the policy that was in force, it makes {other} moves where the log has {one}{}.",
            if one == other { format!(", up to {} apart", length(furthest)) } else { String::new() }
        ),
    }
}

/// When which node did not serve, as far as the log knows.
fn downs(log: &Log, known: &Known, end: Time) -> Downs {
    let mut all: BTreeMap<InstanceId, Vec<Down>> = BTreeMap::new();
    for ((node, check), evidence) in &known.evidence {
        all.entry(node.clone()).or_default().extend(evidence.downs(check, end));
    }
    for node in known.instance_ids() {
        let mut gone: Option<(Time, InstanceState)> = None;
        let mut found = Vec::new();
        let down =
            |from: Time, state: InstanceState, to: Time| Down { from, to, text: format!("it was {}", state.as_str()) };
        for (at, state) in known.states(&node) {
            match (gone, state.is_gone()) {
                (None, true) => gone = Some((at, state)),
                (Some((from, was)), false) => {
                    found.push(down(from, was, at));
                    gone = None;
                }
                _ => {}
            }
        }
        found.extend(gone.map(|(from, state)| down(from, state, end)));
        all.entry(node).or_default().extend(found);
    }
    // Of a node without probes only the verdict is known.
    let mut unhealthy: BTreeMap<InstanceId, (Time, String)> = BTreeMap::new();
    for (_, _, entry) in log.by_time() {
        let Entry::Other(Record::Verdict { at, node, to, why, .. }) = entry else { continue };
        if known.evidence.keys().any(|(of, _)| of == node) {
            continue;
        }
        if *to == Verdict::Unhealthy {
            unhealthy.entry(node.clone()).or_insert_with(|| (*at, why.clone()));
        } else if let Some((from, text)) = unhealthy.remove(node) {
            all.entry(node.clone()).or_default().push(Down { from, to: *at, text });
        }
    }
    for (node, (from, text)) in unhealthy {
        all.entry(node).or_default().push(Down { from, to: end, text });
    }
    all.into_iter().map(|(node, downs)| (node, evidence::joined(downs))).collect()
}
