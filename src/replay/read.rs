//! The function's log as people have it: a file of CloudWatch's, `aws logs tail`, or the lines themselves.
//!
//! What is no record of the watch (Lambda's own lines, metrics, the SDK's) is passed over; what begins as one and cannot be read is counted.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::core::log::Record;
use crate::core::model::{Look, Seen};
use crate::core::time::Time;

/// The longest line that is read: CloudWatch's own limit for an event is 1 MiB.
pub const MAX_LINE_BYTES: usize = 2 << 20;
/// The most records of one log.
pub const MAX_RECORDS: usize = 5_000_000;
/// How many different readings are remembered, so that the same one is read once.
const MAX_BODIES: usize = 50_000;

/// What a reading tells, shared by all that tell the same.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Body {
    /// The question.
    pub look: Look,
    /// What is new or changed.
    pub changed: Seen,
    /// The ids that are gone.
    pub gone: Vec<String>,
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// [`Record::Reading`].
    Reading {
        /// When it was answered.
        at: Time,
        /// When it was asked.
        asked: Time,
        /// What it tells.
        body: Arc<Body>,
    },
    /// Any other.
    Other(Record),
}

impl Entry {
    /// When it was told.
    pub fn at(&self) -> Time {
        match self {
            Entry::Reading { at, .. } => *at,
            Entry::Other(record) => record.at(),
        }
    }
}

impl From<Record> for Entry {
    fn from(record: Record) -> Entry {
        match record {
            Record::Reading { at, asked, look, changed, gone } => {
                Entry::Reading { at, asked, body: Arc::new(Body { look, changed, gone }) }
            }
            other => Entry::Other(other),
        }
    }
}

/// One invocation, in its own order, the start first.
pub type Invocation = Vec<Entry>;

/// A log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Its invocations, by start.
    pub invocations: Vec<Invocation>,
    /// Lines that were read.
    pub lines: u64,
    /// Lines that begin as records and cannot be read.
    pub unreadable: u64,
    /// Records of an invocation whose start is missing.
    pub headless: u64,
    /// Invocations whose end is missing.
    pub endless: u64,
    /// Invocations that overlap others in a log that does not say whose lines are whose.
    pub mixed: u64,
    /// Invocations that say that they failed without a report.
    pub failed: u64,
}

/// Reads lines one by one.
#[derive(Debug, Default)]
pub struct Reader {
    log: Log,
    records: usize,
    full: bool,
    /// By request or stream, the invocation that runs there: its position.
    open: HashMap<String, usize>,
    bodies: HashMap<String, Arc<Body>>,
}

#[derive(Deserialize)]
struct Times {
    at: Time,
    asked: Time,
}

/// A line of an export whose events are JSON objects around the message.
#[derive(Deserialize)]
struct Wrapped {
    #[serde(alias = "@message")]
    message: String,
    #[serde(default, alias = "logStreamName", alias = "@logStream")]
    stream: Option<String>,
}

const EVENTS: [&str; 10] =
    ["start", "reading", "reading-failed", "probe", "passes", "verdict", "decision", "call", "move", "end"];

/// The word after `"event":`, if the object has one near its beginning.
fn event_of(json: &str) -> Option<&str> {
    let (_, rest) = json.split_once("\"event\":")?;
    rest.trim_start().strip_prefix('"')?.split('"').next()
}

/// A field's text, where it is a plain string.
fn word<'a>(json: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(field)?;
    rest.trim_start().strip_prefix('"')?.split('"').next()
}

impl Reader {
    /// Whether no more is taken in.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Takes a line in. `stream`: the log stream that it is known to be of.
    pub fn line(&mut self, line: &str, stream: Option<&str>) {
        self.log.lines += 1;
        let Some(brace) = line.find('{') else { return };
        let (before, json) = line.split_at_checked(brace).unwrap_or(("", line));
        // `aws logs tail` writes time and stream before the message.
        let told = before.split_whitespace().rfind(|part| part.contains('[') && part.contains(']'));
        let stream = stream.or(told);
        let json = json.trim_end();
        let Some(event) = event_of(json) else {
            // An export that wraps each message.
            if (json.contains("\"message\"") || json.contains("\"@message\""))
                && json.contains("\\\"event\\\"")
                && let Ok(wrapped) = serde_json::from_str::<Wrapped>(json.trim_end_matches(','))
            {
                self.log.lines -= 1;
                self.line(&wrapped.message, wrapped.stream.as_deref().or(stream));
            }
            return;
        };
        if event == "failed" {
            self.log.failed += 1;
            return;
        }
        if !EVENTS.contains(&event) {
            return;
        }
        let request = word(json, "\"request_id\":");
        let entry = if event == "reading" { self.reading(json) } else { record(json) };
        match entry {
            Some(entry) => self.place(entry, request.or(stream)),
            None => self.log.unreadable += 1,
        }
    }

    /// The same reading is told at the beginning of every invocation: it is read once.
    fn reading(&mut self, json: &str) -> Option<Entry> {
        let (head, tail) = match json.find("\"look\":") {
            Some(at) => json.split_at_checked(at)?,
            None => return record(json),
        };
        // In the order in which the function writes them: what stands before `look` are times alone.
        let mut times = head.trim_end().trim_end_matches(',').to_owned();
        times.push('}');
        let Ok(Times { at, asked }) = serde_json::from_str::<Times>(&times) else { return record(json) };
        if let Some(body) = self.bodies.get(tail) {
            return Some(Entry::Reading { at, asked, body: body.clone() });
        }
        let body: Body = serde_json::from_str(&format!("{{{tail}")).ok()?;
        let body = Arc::new(body);
        if self.bodies.len() < MAX_BODIES {
            self.bodies.insert(tail.to_owned(), body.clone());
        }
        Some(Entry::Reading { at, asked, body })
    }

    fn place(&mut self, entry: Entry, whose: Option<&str>) {
        if self.records >= MAX_RECORDS {
            self.full = true;
            return;
        }
        self.records += 1;
        let starts = matches!(entry, Entry::Other(Record::Start { .. }));
        let ends = matches!(entry, Entry::Other(Record::End { .. }));
        let whose = whose.unwrap_or_default();
        if starts {
            self.log.mixed += u64::from(whose.is_empty() && self.open.contains_key(whose));
            self.open.insert(whose.to_owned(), self.log.invocations.len());
            self.log.invocations.push(vec![entry]);
            return;
        }
        match self.open.get(whose).and_then(|at| self.log.invocations.get_mut(*at)) {
            Some(invocation) => invocation.push(entry),
            None => {
                self.log.headless += 1;
                return;
            }
        }
        if ends {
            self.open.remove(whose);
        }
    }

    /// All that was read.
    pub fn end(mut self) -> Log {
        let ended = |invocation: &&Invocation| matches!(invocation.last(), Some(Entry::Other(Record::End { .. })));
        self.log.endless = self.log.invocations.iter().filter(|one| !ended(one)).count() as u64;
        self.log.invocations.sort_by_key(|invocation| invocation.first().map(Entry::at));
        self.log
    }
}

fn record(json: &str) -> Option<Entry> {
    let mut record: Record = serde_json::from_str(json).ok()?;
    if let Record::End { report, .. } = &mut record {
        // The log itself has the evidence.
        for node in report.clusters.iter_mut().flat_map(|cluster| &mut cluster.nodes) {
            node.evidence = Vec::new();
        }
    }
    Some(Entry::from(record))
}

impl Log {
    /// Only what was told within a time, whole invocations that began then.
    pub fn within(&mut self, from: Option<Time>, to: Option<Time>) {
        self.invocations.retain(|invocation| {
            let at = invocation.first().map(Entry::at).unwrap_or_default();
            from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to)
        });
    }

    /// The end of the last record.
    pub fn ends(&self) -> Option<Time> {
        self.invocations.iter().flatten().map(Entry::at).max()
    }

    /// All records in the order of time, each with its invocation's number.
    pub fn by_time(&self) -> Vec<(Time, u32, &Entry)> {
        let mut all: Vec<(Time, u32, &Entry)> = Vec::new();
        for (number, invocation) in self.invocations.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            all.extend(invocation.iter().map(|entry| (entry.at(), number, entry)));
        }
        all.sort_by_key(|(at, number, _)| (*at, *number));
        all
    }

    /// What people should know of how it was read.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |count: u64, one: &str, many: &str| {
            if count > 0 {
                notes.push(format!("{count} {}.", if count == 1 { one } else { many }));
            }
        };
        note(
            self.unreadable,
            "line of the log begins as a record and cannot be read",
            "lines of the log begin as records and cannot be read",
        );
        note(
            self.headless,
            "record is of an invocation whose start the log lacks, and was left out",
            "records are of invocations whose start the log lacks, and were left out",
        );
        note(self.endless, "invocation has no end in the log", "invocations have no end in the log");
        note(
            self.mixed,
            "invocation began before the one before it had ended, and the lines do not say whose they are: they may be mixed up",
            "invocations began before the ones before them had ended, and the lines do not say whose they are: they may be mixed up",
        );
        note(
            self.failed,
            "invocation failed before it watched anything",
            "invocations failed before they watched anything",
        );
        notes
    }
}
