//! A timeline as marks in lanes, few enough to be shown: what repeats is folded, and says how much it stands for.

use std::collections::BTreeMap;

use super::words::{self, Clock, MAX_NAME_CHARS, MAX_TEXT_CHARS, NodeName, View, length, tidy};
use super::{AddressLane, ClusterLanes, Moment, NodeLane, Timeline};
use crate::core::tags::Verdict;
use crate::core::time::Time;

/// So many of one kind in a row are shown one by one.
pub const MAX_ALIKE: usize = 60;
/// Of more, so many at the beginning, and the last.
const FIRST_ALIKE: usize = 40;
/// What passed is no news: from the second on it is folded.
const MAX_PASSED: usize = 1;
/// The fewest marks that a lane may have, however many lanes there are.
const MIN_MARKS_PER_LANE: usize = 6;
/// The most marks that one lane has.
const MAX_MARKS_PER_LANE: usize = 500;
/// The most runs whose lanes are shown; the figures tell of all.
pub const MAX_RUNS: usize = 8;
/// The most clusters whose lanes are shown.
pub const MAX_CLUSTERS: usize = 30;
/// The most nodes of a cluster whose lanes are shown.
pub const MAX_NODES: usize = 24;
/// The most addresses of a cluster whose lanes are shown.
pub const MAX_ADDRESSES: usize = 24;
/// The most reasons against a node that a mark tells.
const MAX_VETOES: usize = 12;
/// Buckets in which marks are folded become twice as wide, so many times at most.
const MAX_DOUBLINGS: u32 = 48;
/// So many times that leaves incidents alone, and so many times more the first.
const SPARED_DOUBLINGS: u32 = 6;

/// What a mark is of: its look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Held by the cluster's node with this number.
    Holder(usize),
    /// Held by something that is no node of the cluster.
    Stranger,
    /// Held by nobody.
    Nobody,
    /// Clients were not served.
    Outage,
    /// What was thought of a node.
    Verdict(Verdict),
    /// A move was decided.
    Move,
    /// A move was wanted and held up.
    Blocked,
    /// Something else was decided.
    Stay,
    /// Something was done to the node.
    Fault,
    /// A probe failed.
    Failed,
    /// A probe passed.
    Passed,
    /// Anything else.
    Note,
    /// Different things, folded.
    Mixed,
}

/// Something with a place in time and a reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Since when.
    pub from: Time,
    /// Until when; the same for a point in time.
    pub to: Time,
    /// What it looks like.
    pub look: Look,
    /// In a word or two.
    pub label: String,
    /// In a sentence.
    pub text: String,
    /// What speaks against each node.
    pub vetoes: Vec<String>,
    /// How many it stands for.
    pub count: usize,
    /// Of what kinds these are.
    kinds: BTreeMap<String, usize>,
    /// How long those together lasted, in milliseconds.
    pub lasted_ms: u64,
}

/// The lanes of an address.
#[derive(Clone, Debug)]
pub struct AddressMarks {
    /// The address that the world knows.
    pub public_ip: String,
    /// Who holds it.
    pub held: Vec<Mark>,
    /// When nobody was served.
    pub outages: Vec<Mark>,
    /// What was decided.
    pub decisions: Vec<Mark>,
}

/// The lanes of a node.
#[derive(Clone, Debug)]
pub struct NodeMarks {
    /// What it is called.
    pub name: NodeName,
    /// Its zone.
    pub zone: Option<String>,
    /// What was thought of it.
    pub verdicts: Vec<Mark>,
    /// Why.
    pub evidence: Vec<Mark>,
}

/// One cluster in one run.
#[derive(Clone, Debug)]
pub struct RunMarks {
    /// The run's place in the timeline.
    pub run: usize,
    /// Its addresses.
    pub addresses: Vec<AddressMarks>,
    /// Its nodes.
    pub nodes: Vec<NodeMarks>,
}

/// One cluster in all runs.
#[derive(Clone, Debug)]
pub struct ClusterMarks {
    /// Its name.
    pub cluster: String,
    /// Whether an incident of any run is its.
    pub has_incident: bool,
    /// Run by run.
    pub runs: Vec<RunMarks>,
}

/// All lanes.
#[derive(Clone, Debug)]
pub struct Marks {
    /// Cluster by cluster; those with incidents first.
    pub clusters: Vec<ClusterMarks>,
    /// What is not shown, or shown folded: sentences for the reader.
    pub left_out: Vec<String>,
}

impl Marks {
    /// At most about `budget` marks; `None`: all there are, each by itself.
    pub fn of(timeline: &Timeline, budget: Option<usize>) -> Marks {
        let mut left_out = Vec::new();
        let names = cluster_names(timeline);
        let (shown, dropped) = names.split_at(names.len().min(MAX_CLUSTERS));
        if !dropped.is_empty() {
            left_out.push(format!("Lanes of {} clusters are not shown: {}.", dropped.len(), brief_list(dropped)));
        }
        if timeline.runs.len() > MAX_RUNS {
            let text = format!(
                "Lanes are shown of the first {MAX_RUNS} of {} runs; the figures tell of all.",
                timeline.runs.len()
            );
            left_out.push(text);
        }
        let lanes_of =
            |cluster: &str| timeline.runs.iter().take(MAX_RUNS).map(|run| find(run, cluster)).collect::<Vec<_>>();
        let lanes: usize = shown
            .iter()
            .flat_map(|name| lanes_of(name))
            .flatten()
            .map(|lanes| lanes.addresses.len().min(MAX_ADDRESSES) * 3 + lanes.nodes.len().min(MAX_NODES) * 2)
            .sum();
        let limit = budget.map(|budget| (budget / lanes.max(1)).clamp(MIN_MARKS_PER_LANE, MAX_MARKS_PER_LANE));
        let mut folded = 0;
        let mut clusters = Vec::new();
        for cluster in shown {
            let names = words::node_names(cluster, &timeline.runs);
            let mut runs = Vec::new();
            for (run, lanes) in lanes_of(cluster).into_iter().enumerate() {
                let (Some(lanes), Some(whole)) = (lanes, timeline.runs.get(run)) else { continue };
                let over =
                    lanes.nodes.len().saturating_sub(MAX_NODES) + lanes.addresses.len().saturating_sub(MAX_ADDRESSES);
                if over > 0 && run == 0 {
                    left_out.push(format!(
                        "Of cluster {} the first {MAX_ADDRESSES} addresses and {MAX_NODES} nodes are shown.",
                        tidy(cluster, MAX_NAME_CHARS)
                    ));
                }
                let mut fold = Fold {
                    limit,
                    clock: Clock::of(timeline.from, timeline.to),
                    incidents: whole
                        .incidents
                        .iter()
                        .filter(|one| one.cluster == *cluster)
                        .map(|one| View::around(one, timeline))
                        .collect(),
                    folded: 0,
                };
                runs.push(RunMarks {
                    run,
                    addresses: lanes
                        .addresses
                        .iter()
                        .take(MAX_ADDRESSES)
                        .map(|one| address(one, &names, &mut fold))
                        .collect(),
                    nodes: lanes.nodes.iter().take(MAX_NODES).map(|one| node(one, &names, &mut fold)).collect(),
                });
                folded += fold.folded;
            }
            let has_incident = timeline.runs.iter().flat_map(|run| &run.incidents).any(|one| one.cluster == *cluster);
            clusters.push(ClusterMarks { cluster: tidy(cluster, MAX_NAME_CHARS), has_incident, runs });
        }
        if folded > 0 {
            left_out.push(format!(
                "{folded} marks are folded into others, which say how many they stand for: probes that passed, long rows of the same, and what lies close together away from incidents."
            ));
        }
        Marks { clusters, left_out }
    }
}

fn find<'a>(run: &'a super::Run, cluster: &str) -> Option<&'a ClusterLanes> {
    run.clusters.iter().find(|lanes| lanes.cluster == cluster)
}

/// Those with incidents first, in the order of these.
fn cluster_names(timeline: &Timeline) -> Vec<&str> {
    let incidents = timeline.runs.iter().flat_map(|run| &run.incidents).map(|incident| incident.cluster.as_str());
    let all = timeline.runs.iter().flat_map(|run| &run.clusters).map(|lanes| lanes.cluster.as_str());
    let mut names: Vec<&str> = Vec::new();
    let known: Vec<&str> = all.clone().collect();
    for name in incidents.filter(|name| known.contains(name)).chain(all) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn brief_list(names: &[&str]) -> String {
    const MAX_NAMED: usize = 20;
    let named: Vec<_> = names.iter().take(MAX_NAMED).map(|name| tidy(name, MAX_NAME_CHARS)).collect();
    match names.len().saturating_sub(MAX_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn address(lane: &AddressLane, names: &[NodeName], fold: &mut Fold) -> AddressMarks {
    let held = lane.held.iter().map(|hold| {
        let (look, label) = match &hold.node {
            None => (Look::Nobody, "nobody".to_owned()),
            Some(id) => match names.iter().find(|name| name.id == *id) {
                Some(name) => (Look::Holder(name.index), format!("{} {}", name.letter, name.name)),
                None => (Look::Stranger, tidy(id, MAX_NAME_CHARS)),
            },
        };
        let why = hold.why.as_deref().map(|why| format!("{why}: ")).unwrap_or_default();
        mark(hold.from, hold.to, look, label, &format!("{why}{}", hold.text))
    });
    let outages = lane.outages.iter().map(|outage| {
        let label = format!("no service {}", length(words::ms_between(outage.from, outage.to)));
        mark(outage.from, outage.to, Look::Outage, label, &outage.text)
    });
    AddressMarks {
        public_ip: tidy(&lane.public_ip, MAX_NAME_CHARS),
        held: fold.stretches(held.collect()),
        outages: fold.stretches(outages.collect()),
        decisions: fold.moments(lane.decisions.iter().map(|one| moment(one, decision_look(&one.kind))).collect()),
    }
}

fn node(lane: &NodeLane, names: &[NodeName], fold: &mut Fold) -> NodeMarks {
    let verdicts = lane.verdicts.iter().map(|stretch| {
        let beside = stretch.beside.as_deref().map(|beside| format!(", {beside}")).unwrap_or_default();
        let label = format!("{}{beside}", verdict_word(stretch.verdict));
        mark(stretch.from, stretch.to, Look::Verdict(stretch.verdict), label, &stretch.text)
    });
    let name = names.iter().find(|name| name.id == lane.id).cloned();
    let unknown =
        || NodeName { id: lane.id.clone(), letter: '*', index: usize::MAX, name: tidy(&lane.id, MAX_NAME_CHARS) };
    NodeMarks {
        name: name.unwrap_or_else(unknown),
        zone: lane.zone.as_deref().map(|zone| tidy(zone, MAX_NAME_CHARS)),
        verdicts: fold.stretches(verdicts.collect()),
        evidence: fold.moments(lane.evidence.iter().map(|one| moment(one, evidence_look(&one.kind))).collect()),
    }
}

/// The verdict in the contract's word.
pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy => "healthy",
        Verdict::Suspect => "suspect",
        Verdict::Unhealthy => "unhealthy",
        Verdict::Unknown => "unknown",
        Verdict::Gone => "gone",
    }
}

fn decision_look(kind: &str) -> Look {
    match kind {
        "no-holder" | "holder-gone" | "holder-leaving" | "holder-draining" | "holder-unhealthy" | "failback"
        | "manual" | "last-resort" => Look::Move,
        "max-moves" | "no-free-private-address" | "not-permitted" | "refused" => Look::Blocked,
        _ => Look::Stay,
    }
}

fn evidence_look(kind: &str) -> Look {
    match kind {
        "fault" => Look::Fault,
        "probe-failed" => Look::Failed,
        "passed" => Look::Passed,
        _ => Look::Note,
    }
}

fn mark(from: Time, to: Time, look: Look, label: String, text: &str) -> Mark {
    let kind = if look == Look::Outage { "no service" } else { label.as_str() };
    Mark {
        from,
        to: to.max(from),
        look,
        kinds: BTreeMap::from([(kind.to_owned(), 1)]),
        label: tidy(&label, MAX_NAME_CHARS),
        text: tidy(text, MAX_TEXT_CHARS),
        vetoes: Vec::new(),
        count: 1,
        lasted_ms: words::ms_between(from, to),
    }
}

fn moment(one: &Moment, look: Look) -> Mark {
    let mut vetoes: Vec<_> = one.vetoes.iter().take(MAX_VETOES).map(|veto| tidy(veto, MAX_TEXT_CHARS)).collect();
    if one.vetoes.len() > MAX_VETOES {
        vetoes.push(format!("and {} more", one.vetoes.len() - MAX_VETOES));
    }
    Mark { vetoes, ..mark(one.at, one.at, look, one.kind.replace('-', " "), &one.text) }
}

struct Fold {
    limit: Option<usize>,
    clock: Clock,
    incidents: Vec<View>,
    folded: usize,
}

impl Fold {
    /// Points in time: first what repeats is folded, then as stretches.
    fn moments(&mut self, marks: Vec<Mark>) -> Vec<Mark> {
        if self.limit.is_none() {
            return marks;
        }
        let mut out: Vec<Mark> = Vec::new();
        for row in marks.chunk_by(|one, next| one.look == next.look && one.label == next.label) {
            let passed = row.first().is_some_and(|mark| mark.look == Look::Passed);
            let (most, first, last) = if passed { (MAX_PASSED, 0, 0) } else { (MAX_ALIKE, FIRST_ALIKE, 1) };
            if row.len() <= most {
                out.extend_from_slice(row);
                continue;
            }
            let (head, rest) = row.split_at(first);
            let (middle, tail) = rest.split_at(rest.len() - last);
            out.extend_from_slice(head);
            out.extend(as_one(middle));
            out.extend_from_slice(tail);
        }
        self.stretches(out)
    }

    /// What lies close together is folded, away from incidents if that suffices.
    fn stretches(&mut self, marks: Vec<Mark>) -> Vec<Mark> {
        let (Some(limit), Some(first), Some(last)) = (self.limit, marks.first(), marks.last()) else { return marks };
        let mut bucket_ms = (words::ms_between(first.from, last.to) / limit as u64).max(1);
        let mut few = marks.clone();
        for doubling in 0..MAX_DOUBLINGS {
            if few.len() <= limit {
                break;
            }
            // What surrounds an incident explains it. If that is too much, the first one's stays.
            let sparing = match doubling {
                0..SPARED_DOUBLINGS => self.incidents.len(),
                _ if doubling < 2 * SPARED_DOUBLINGS => 1,
                _ => 0,
            };
            let place = |mark: &Mark| {
                let spared =
                    self.incidents.iter().take(sparing).any(|view| mark.from <= view.to() && mark.to >= view.from);
                // What is spared shares a bucket with what begins in the same millisecond only.
                let bucket = words::ms_between(first.from, mark.from) / if spared { 1 } else { bucket_ms };
                (spared, bucket)
            };
            few = marks.chunk_by(|one, next| place(one) == place(next)).filter_map(as_one).collect();
            bucket_ms = bucket_ms.saturating_mul(2);
        }
        few.into_iter().map(|mark| self.told(mark)).collect()
    }

    /// A mark that stands for others says so.
    fn told(&mut self, mark: Mark) -> Mark {
        if mark.count == 1 {
            return mark;
        }
        self.folded += mark.count - 1;
        let kinds: Vec<_> = mark.kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
        let together =
            if mark.look == Look::Outage { format!(", together {}", length(mark.lasted_ms)) } else { String::new() };
        let text =
            format!("{} folded{together}. The first, at {}: {}", mark.count, self.clock.precise(mark.from), mark.text);
        Mark { label: tidy(&kinds.join(", "), MAX_NAME_CHARS), text: tidy(&text, MAX_TEXT_CHARS), ..mark }
    }
}

/// One mark in place of these, with the first's text.
fn as_one(marks: &[Mark]) -> Option<Mark> {
    let (first, rest) = marks.split_first()?;
    let mut one = first.clone();
    for mark in rest {
        one.to = one.to.max(mark.to);
        one.look = if one.look == mark.look { one.look } else { Look::Mixed };
        one.count += mark.count;
        one.lasted_ms += mark.lasted_ms;
        for (kind, count) in &mark.kinds {
            *one.kinds.entry(kind.clone()).or_default() += count;
        }
    }
    Some(one)
}
