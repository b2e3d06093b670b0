//! `eipwatch replay`: a log, from a file, standard input or CloudWatch Logs, shown and decided again.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use super::timeline::Wrong;
use crate::core::model::ClusterName;
use crate::core::time::Time;
use crate::replay::read::{Log, MAX_LINE_BYTES, MAX_RECORDS, Reader};
use crate::replay::{MAX_POLICIES, replay};
use crate::timeline::Timeline;

/// What is to be replayed.
#[derive(Debug, Default)]
pub struct Order {
    /// Policies to decide again under.
    pub policies: Vec<String>,
    /// Only this cluster.
    pub cluster: Option<ClusterName>,
    /// Only from then on.
    pub from: Option<Time>,
    /// Only until then.
    pub to: Option<Time>,
    /// Only the last so much of it.
    pub since: Option<Duration>,
}

/// Reads a log from a file, or from standard input (`-`).
///
/// # Errors
/// It cannot be read.
pub fn log_of(name: &str) -> Result<Log, Wrong> {
    if name == "-" {
        return lines(std::io::stdin().lock(), "standard input");
    }
    let file = std::fs::File::open(Path::new(name)).map_err(|error| {
        Wrong::Typed(format!(
            "{name} cannot be read: {error}. A log is a file, - for standard input, or --function NAME"
        ))
    })?;
    lines(BufReader::with_capacity(1 << 18, file), name)
}

fn lines(mut from: impl BufRead, name: &str) -> Result<Log, Wrong> {
    let mut reader = Reader::default();
    let mut line = Vec::new();
    // Bounded by the records that a reader takes, and by the end of the file.
    while !reader.is_full() {
        line.clear();
        let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
        let read = from.by_ref().take(limit).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Wrong::Failed(format!("{name} cannot be read to its end: {error}")))?;
        if read == 0 {
            break;
        }
        reader.line(&String::from_utf8_lossy(&line), None);
    }
    if reader.is_full() {
        eprintln!("eipwatch: {name} has more than {MAX_RECORDS} records; what comes after is left out");
    }
    Ok(reader.end())
}

/// Replays a log.
///
/// # Errors
/// There is nothing in it.
pub fn run(mut log: Log, order: &Order, name: &str) -> Result<Timeline, Wrong> {
    if order.policies.len() > MAX_POLICIES {
        return Err(Wrong::Typed(format!("more than {MAX_POLICIES} policies were given")));
    }
    let from = match (order.since, log.ends()) {
        (Some(since), Some(ends)) => Some(ends - since),
        _ => order.from,
    };
    let before = log.invocations.len();
    log.within(from, order.to);
    if before > 0 && log.invocations.is_empty() {
        let times = match (from, order.to) {
            (Some(from), Some(to)) => format!("from {from} to {to}"),
            (Some(from), None) => format!("from {from} on"),
            (None, Some(to)) => format!("before {to}"),
            (None, None) => String::new(),
        };
        return Err(Wrong::Typed(format!("{name}: none of its {before} invocations began {times}")));
    }
    let shown = replay(&log, &order.policies, order.cluster.as_ref(), name)
        .map_err(|unusable| Wrong::Failed(format!("{name}: {unusable}")))?;
    if let Some(cluster) = &order.cluster
        && shown.runs.first().is_none_or(|run| run.clusters.is_empty())
    {
        return Err(Wrong::Typed(format!("{name}: the cluster {cluster} is not in it")));
    }
    Ok(shown)
}
