//! What the watch tells its log: enough to see why, and to run it again under another policy.
//!
//! Architecture invariant: a record is data that leaves; nothing reads the log to decide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decide::Decision;
use super::event::{Shard, Trigger};
use super::model::{Act, AllocationId, Answer, CloudError, ClusterName, Instance, InstanceId, Look, ProbeTarget, Seen};
use super::report::{MoveReport, Report};
use super::snapshot::{Facts, Sighting};
use super::tags::Verdict;
use super::time::Time;

/// How much a record matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For replay.
    Debug,
    /// What happens.
    Info,
    /// What should be looked at.
    Warn,
    /// What failed.
    Error,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    /// An invocation began.
    Start {
        /// The present.
        at: Time,
        /// Version of eipwatch.
        version: String,
        /// What woke it.
        triggers: Vec<Trigger>,
        /// How long it watches, in milliseconds; 0: one sweep.
        watch_ms: u64,
        /// When it must have ended.
        deadline: Time,
        /// Whether `EIPWATCH_MODE` is manual.
        manual: bool,
        /// The shard of the environment.
        shard: Option<Shard>,
        /// The prefix of the tags.
        prefix: String,
    },
    /// A reading was the first of its kind or differs from the one before: what is new or changed in it, and what is gone.
    Reading {
        /// When it was answered.
        at: Time,
        /// When it was asked.
        asked: Time,
        /// The question.
        look: Look,
        /// What is new or changed.
        changed: Seen,
        /// The ids that are no longer in it.
        gone: Vec<String>,
    },
    /// A reading failed.
    ReadingFailed {
        /// When.
        at: Time,
        /// When it was asked.
        asked: Time,
        /// The question.
        look: Look,
        /// How.
        error: CloudError,
    },
    /// A probe that did not pass, or the first to pass after one.
    Probe {
        /// When its answer came.
        at: Time,
        /// When it was started.
        started: Time,
        /// Of which cluster.
        cluster: ClusterName,
        /// Of which node.
        node: InstanceId,
        /// The check as its tag writes it.
        check: String,
        /// What was asked.
        target: ProbeTarget,
        /// What it brought back.
        answer: Answer,
        /// Whether it passed.
        ok: Option<bool>,
    },
    /// Passed probes in a row, counted.
    Passes {
        /// When the last was answered.
        at: Time,
        /// When the first was started.
        since: Time,
        /// Of which cluster.
        cluster: ClusterName,
        /// Of which node.
        node: InstanceId,
        /// The check as its tag writes it.
        check: String,
        /// How many.
        count: u32,
        /// The slowest, in milliseconds.
        slowest_ms: u64,
        /// When the slowest was started.
        #[serde(default)]
        slowest_at: Option<Time>,
        /// How long they took in the mean, in milliseconds.
        #[serde(default)]
        mean_ms: Option<u64>,
        /// What the last brought back.
        answer: Answer,
    },
    /// A verdict changed.
    Verdict {
        /// When.
        at: Time,
        /// Of which cluster.
        cluster: ClusterName,
        /// Of which node.
        node: InstanceId,
        /// From; `None`: nothing was known.
        from: Option<Verdict>,
        /// To.
        to: Verdict,
        /// Why.
        why: String,
    },
    /// A decision differs from the one before.
    Decision {
        /// When.
        at: Time,
        /// For which cluster.
        cluster: ClusterName,
        /// For which address.
        address: AllocationId,
        /// What was decided.
        decision: Decision,
    },
    /// A call that changes something was answered.
    Call {
        /// When it was answered.
        at: Time,
        /// When it was made.
        asked: Time,
        /// The call.
        act: Act,
        /// How it failed, if it did.
        error: Option<CloudError>,
    },
    /// A move ended, well or not.
    Move {
        /// When.
        at: Time,
        /// Of which cluster.
        cluster: ClusterName,
        /// Which address.
        address: AllocationId,
        /// How.
        result: MoveReport,
    },
    /// An invocation ended.
    End {
        /// When.
        at: Time,
        /// What it answers.
        report: Report,
    },
}

impl Record {
    /// When it was told, or what it tells of was seen.
    pub fn at(&self) -> Time {
        match self {
            Record::Start { at, .. }
            | Record::Reading { at, .. }
            | Record::ReadingFailed { at, .. }
            | Record::Probe { at, .. }
            | Record::Passes { at, .. }
            | Record::Verdict { at, .. }
            | Record::Decision { at, .. }
            | Record::Call { at, .. }
            | Record::Move { at, .. }
            | Record::End { at, .. } => *at,
        }
    }

    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Record::Start { .. } | Record::Reading { .. } | Record::Passes { .. } | Record::Verdict { .. } => {
                Level::Info
            }
            Record::Call { error: None, .. } | Record::Probe { ok: Some(true), .. } => Level::Info,
            Record::Probe { .. } | Record::ReadingFailed { .. } | Record::Call { error: Some(_), .. } => Level::Warn,
            Record::Decision { decision, .. } => match decision.kind {
                super::decide::Kind::Stay => Level::Info,
                super::decide::Kind::Move | super::decide::Kind::Blocked => Level::Warn,
            },
            Record::Move { result, .. } if result.ok || result.benign => Level::Warn,
            Record::Move { .. } => Level::Error,
            Record::End { report, .. } => {
                if report.ok {
                    Level::Info
                } else {
                    Level::Error
                }
            }
        }
    }
}

/// A record as the function writes it: one line, one JSON object.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it was written.
    pub timestamp: Time,
    /// How much it matters, in CloudWatch's words.
    pub level: &'static str,
    /// Lambda's name for the invocation: by it, records of invocations that run beside each other are told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The record.
    #[serde(flatten)]
    pub record: &'a Record,
}

impl<'a> Line<'a> {
    /// A record that is written now.
    pub fn new(record: &'a Record, request_id: Option<&'a str>, timestamp: Time) -> Line<'a> {
        let level = match record.level() {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        };
        Line { timestamp, level, request_id, record }
    }
}

/// The most resources that one line tells of: CloudWatch cuts long ones.
const MAX_RESOURCES_PER_LINE: usize = 50;

/// What of the facts a question is about, kept for comparison.
#[derive(Debug)]
pub enum Before {
    /// Elastic IPs.
    Addresses(BTreeMap<super::model::AllocationId, std::sync::Arc<super::model::Address>>, bool),
    /// Instances.
    Instances(BTreeMap<InstanceId, std::sync::Arc<Sighting>>, bool),
    /// Status checks.
    Statuses(BTreeMap<InstanceId, std::sync::Arc<super::model::InstanceStatus>>, bool),
    /// Alarms.
    Alarms(BTreeMap<String, super::model::Alarm>, bool),
    /// Answers that are told as they come.
    AsTold,
}

impl Before {
    /// What `look` is about.
    pub fn of(facts: &Facts, look: &Look) -> Before {
        match look {
            Look::Addresses => Before::Addresses(facts.addresses.clone(), facts.addresses_at.is_some()),
            Look::Instances(_) => Before::Instances(facts.instances.clone(), facts.instances_at.is_some()),
            Look::Status(_) => Before::Statuses(facts.statuses.clone(), facts.statuses_at.is_some()),
            Look::Alarms(_) => Before::Alarms(facts.alarms.clone(), facts.alarms_at.is_some()),
            Look::InstancesById(_) | Look::InstanceTags(_) | Look::Interfaces(_) => Before::AsTold,
        }
    }

    /// What is told of an answer as it comes: of instances asked for by id, those that are not as they were known. What a search finds is
    /// taken in at its end, but told by the call that found it.
    pub fn part(&self, seen: &Seen, facts: &Facts) -> Option<Seen> {
        match (self, seen) {
            (Before::AsTold, Seen::Instances(list)) => {
                let known = |instance: &&Instance| {
                    facts
                        .instances
                        .get(&instance.id)
                        .is_some_and(|sighting| sighting.described && sighting.instance.as_deref() == Some(*instance))
                };
                let new: Vec<Instance> = list.iter().filter(|instance| !known(instance)).cloned().collect();
                (!new.is_empty()).then_some(Seen::Instances(new))
            }
            (Before::AsTold, _) => Some(seen.clone()),
            _ => None,
        }
    }

    /// Whether anything differs now, and the lines that tell of it.
    pub fn changes(self, facts: &Facts, seen: Option<Seen>, look: &Look, asked: Time, at: Time) -> (bool, Vec<Record>) {
        let line = |changed: Seen, gone: Vec<String>| Record::Reading { at, asked, look: look.clone(), changed, gone };
        // What EC2 cannot describe differs without a line of its own: the readings that failed have told of it.
        let mut differs = false;
        let (parts, gone, known): (Vec<Seen>, Vec<String>, bool) = match self {
            Before::Addresses(old, known) => {
                let (new, gone) = differing(&old, &facts.addresses);
                let new: Vec<_> = new.into_iter().map(|address| address.as_ref().clone()).collect();
                (new.chunks(MAX_RESOURCES_PER_LINE).map(|part| Seen::Addresses(part.to_vec())).collect(), gone, known)
            }
            Before::Instances(old, known) => {
                let (new, forgotten) = differing(&old, &facts.instances);
                differs = !(new.is_empty() && forgotten.is_empty());
                // One that an answer leaves out is kept for a while, but gone from the answer.
                let shown = |of: &BTreeMap<InstanceId, std::sync::Arc<Sighting>>, id: &InstanceId| {
                    of.get(id).is_some_and(|sighting| !sighting.missing)
                };
                let gone = old.keys().filter(|id| shown(&old, id) && !shown(&facts.instances, id));
                let gone = gone.map(ToString::to_string).collect();
                let new: Vec<_> = new
                    .into_iter()
                    .filter_map(|sighting| sighting.described.then(|| sighting.instance.as_deref().cloned())?)
                    .collect();
                (new.chunks(MAX_RESOURCES_PER_LINE).map(|part| Seen::Instances(part.to_vec())).collect(), gone, known)
            }
            Before::Statuses(old, known) => {
                let (new, gone) = differing(&old, &facts.statuses);
                let new: Vec<_> = new.into_iter().map(|status| status.as_ref().clone()).collect();
                (new.chunks(MAX_RESOURCES_PER_LINE).map(|part| Seen::Status(part.to_vec())).collect(), gone, known)
            }
            Before::Alarms(old, known) => {
                let (new, gone) = differing(&old, &facts.alarms);
                let new: Vec<_> = new.into_iter().cloned().collect();
                (new.chunks(MAX_RESOURCES_PER_LINE).map(|part| Seen::Alarms(part.to_vec())).collect(), gone, known)
            }
            Before::AsTold => {
                let lines: Vec<Record> = match seen {
                    Some(Seen::Instances(list)) => list
                        .chunks(MAX_RESOURCES_PER_LINE)
                        .map(|part| line(Seen::Instances(part.to_vec()), Vec::new()))
                        .collect(),
                    seen => seen.map(|seen| line(seen, Vec::new())).into_iter().collect(),
                };
                return (!lines.is_empty(), lines);
            }
        };
        let mut gone = Some(gone);
        let mut lines: Vec<Record> =
            parts.into_iter().map(|part| line(part, gone.take().unwrap_or_default())).collect();
        // A first answer is told even when it is empty; so is one that only lost something.
        if lines.is_empty() && (!known || gone.as_ref().is_some_and(|gone| !gone.is_empty())) {
            let empty = match look {
                Look::Addresses => Seen::Addresses(Vec::new()),
                Look::Status(_) => Seen::Status(Vec::new()),
                Look::Alarms(_) => Seen::Alarms(Vec::new()),
                _ => Seen::Instances(Vec::new()),
            };
            lines.push(line(empty, gone.take().unwrap_or_default()));
        }
        (differs || !lines.is_empty(), lines)
    }
}

fn differing<'a, K: Ord + std::fmt::Display, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> (Vec<&'a V>, Vec<String>) {
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(*value)).map(|(_, value)| value).collect();
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(ToString::to_string).collect();
    (changed, gone)
}
