//! From log records to lanes: who held which address, what was thought of which node, and why.
//!
//! The same for a log that was read, for a replay and for a simulation: all three are the records of production watches.
//!
//! Architecture invariant: only records and what is given as true are looked at. Nothing is judged anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::words::{length, median};
use super::{AddressLane, ClusterLanes, Figures, Hold, Incident, Moment, NodeLane, Outage, Run, Stretch};
use crate::core::decide::{Decision, EXTERNAL, Kind, SETTLING, Why};
use crate::core::event::{Command, Trigger};
use crate::core::log::Record;
use crate::core::model::{
    Act, AllocationId, ClusterName, Failure, Instance, InstanceId, InstanceState, InstanceStatus, InterfaceId, Look,
    Seen,
};
use crate::core::report::{MoveReport, Report};
use crate::core::tags::{self, Keys, NodeMode, Verdict};
use crate::core::time::{Time, millis};

/// How many failed probes of one streak are told one by one; the rest are counted.
pub const MAX_PROBES_TOLD: u32 = 5;
/// Incidents of a cluster that are no further apart are one.
pub const ONE_INCIDENT: Duration = Duration::from_secs(30);
/// How long a failed call is not told again while it fails the same way.
const SAME_TROUBLE: Duration = Duration::from_secs(300);
/// Failed readings that are no further apart are one time in which EC2 could not be read.
const ONE_BLINDNESS: Duration = Duration::from_secs(30);
/// The same of what is refused for want of rights: nobody asks again before the next watch, and that is refused, too.
const ONE_REFUSAL: Duration = Duration::from_secs(120);
/// A time without readings that is as long is a note beside the timeline.
const BLINDNESS_NOTED: Duration = Duration::from_secs(10);
/// The most of these notes.
const MAX_BLINDNESS_NOTES: usize = 10;

/// A node that does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Since when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// What is the matter with it, in a few words: `http:8080/health refused`.
    pub text: String,
}

/// Each node's bad times, in the order of time and without overlap.
pub type Downs = BTreeMap<InstanceId, Vec<Down>>;

/// Since when an address has had a holder.
pub type Held = BTreeMap<AllocationId, Vec<(Time, Option<InstanceId>)>>;

/// A move, as it went.
#[derive(Clone, Debug)]
struct Moved {
    address: AllocationId,
    cluster: ClusterName,
    /// When it was decided, and in which words.
    decided: Time,
    text: String,
    /// When it was seen to have been made, or given up.
    at: Time,
    report: MoveReport,
    /// Not made, and no failure: somebody else had moved the address, or it was no longer needed.
    benign: bool,
}

impl Moved {
    fn off_a_failing_holder(&self) -> bool {
        matches!(self.report.why, Why::HolderUnhealthy | Why::HolderGone | Why::LastResort)
    }
}

#[derive(Debug, Default)]
struct AddressTold {
    public_ip: Option<Ipv4Addr>,
    clusters: Vec<ClusterName>,
    held: Vec<(Time, Option<InstanceId>)>,
    decisions: Vec<Moment>,
    /// The decision told last, and by which invocation.
    told: Option<Decision>,
    decided: Option<(Time, String)>,
    /// When it was decided to move it, each time.
    decided_at: Vec<Time>,
    left: Option<(InstanceId, Time)>,
    /// The interface that it sits on, where that belongs to no instance.
    on: Option<InterfaceId>,
}

/// A time in which something could not be read.
#[derive(Clone, Debug)]
struct Unread {
    /// What.
    of: &'static str,
    /// When the first reading that failed was asked for.
    from: Time,
    /// When the last one had failed.
    to: Time,
    tries: u32,
}

#[derive(Debug, Default)]
struct NodeTold {
    name: Option<String>,
    zone: Option<String>,
    state: Option<InstanceState>,
    impaired: Vec<&'static str>,
    draining: bool,
    seen: bool,
    /// What happened to the instance itself, in all of its clusters.
    moments: Vec<Moment>,
}

#[derive(Debug, Default)]
struct MemberTold {
    verdicts: Vec<(Time, Verdict, Option<String>, String)>,
    leaving: Option<String>,
    moments: Vec<Moment>,
    /// Streaks of failed probes that are running, by check: how many, and the last one.
    failing: BTreeMap<String, (u32, Time, String)>,
}

/// Takes records in, in the order of time, and gives lanes.
#[derive(Debug)]
pub struct Builder {
    only: Option<ClusterName>,
    keys: Keys,
    invocations: u64,
    from: Option<Time>,
    to: Time,
    addresses: BTreeMap<AllocationId, AddressTold>,
    nodes: BTreeMap<InstanceId, NodeTold>,
    members: BTreeMap<(ClusterName, InstanceId), MemberTold>,
    interfaces: BTreeMap<InterfaceId, InstanceId>,
    /// Interfaces of something that is no instance: a NAT gateway, another service.
    foreign: BTreeSet<InterfaceId>,
    moves: Vec<Moved>,
    /// Invocations in which something was decided about an address.
    open: BTreeMap<(u32, AllocationId), usize>,
    trouble: BTreeMap<String, Time>,
    unread: Vec<Unread>,
    /// Whether outages are told by what nodes did, and not by what was seen of them.
    exact: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            only: None,
            keys: Keys::new(tags::DEFAULT_PREFIX),
            invocations: 0,
            from: None,
            to: Time::default(),
            addresses: BTreeMap::new(),
            nodes: BTreeMap::new(),
            members: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            foreign: BTreeSet::new(),
            moves: Vec::new(),
            open: BTreeMap::new(),
            trouble: BTreeMap::new(),
            unread: Vec::new(),
            exact: false,
        }
    }
}

/// What is no instance and holds an address, by its interface.
fn stranger(interface: &InterfaceId) -> InstanceId {
    InstanceId::from(interface.as_str())
}

fn moment(at: Time, kind: &str, text: String) -> Moment {
    Moment { at, kind: kind.to_owned(), text, vetoes: Vec::new() }
}

impl Builder {
    /// Of one cluster, or of all.
    pub fn new(only: Option<ClusterName>) -> Builder {
        Builder { only, ..Builder::default() }
    }

    fn concerns(&self, record: &Record) -> bool {
        let cluster = match record {
            Record::Probe { cluster, .. }
            | Record::Passes { cluster, .. }
            | Record::Verdict { cluster, .. }
            | Record::Decision { cluster, .. }
            | Record::Move { cluster, .. } => cluster,
            _ => return true,
        };
        self.only.as_ref().is_none_or(|only| only == cluster)
    }

    /// How many invocations were told of.
    pub fn invocations(&self) -> u64 {
        self.invocations
    }

    /// From the first record to the last.
    pub fn times(&self) -> (Time, Time) {
        (self.from.unwrap_or(self.to), self.to)
    }

    /// How people call a node.
    fn label(&self, id: &InstanceId) -> String {
        self.nodes.get(id).and_then(|node| node.name.clone()).unwrap_or_else(|| id.to_string())
    }

    fn label_or_nobody(&self, id: Option<&InstanceId>) -> String {
        id.map_or_else(|| "nobody".to_owned(), |id| self.label(id))
    }

    /// The times in which EC2 could not be read: what happened then is known only from before and after.
    pub fn blindness(&self) -> Vec<String> {
        let blind = |unread: &&Unread| {
            matches!(unread.of, "addresses" | "instances") && unread.to.since(unread.from) >= BLINDNESS_NOTED
        };
        let told = |unread: &Unread| {
            let Unread { of, from, to, tries } = unread;
            format!(
                "EC2's {of} could not be read from {from} to {to}, in {tries} tries: what happened then is known only from before and after."
            )
        };
        self.unread.iter().filter(blind).take(MAX_BLINDNESS_NOTES).map(told).collect()
    }

    /// Tells of something that was done to a node, beside what its records say.
    pub fn fault(&mut self, at: Time, node: &InstanceId, text: String) {
        self.nodes.entry(node.clone()).or_default().moments.push(moment(at, "fault", text));
    }

    /// The same of all of a cluster's addresses: EC2 was at fault, or somebody moved one.
    pub fn fault_of_all(&mut self, at: Time, text: &str) {
        for address in self.addresses.values_mut() {
            address.decisions.push(moment(at, "fault", text.to_owned()));
        }
    }

    /// Takes one record in. Records of one invocation have one number; all come in the order of time.
    pub fn take(&mut self, invocation: u32, record: &Record) {
        if !self.concerns(record) {
            return;
        }
        let at = record.at();
        self.from.get_or_insert(at);
        self.to = self.to.max(at);
        match record {
            Record::Start { triggers, prefix, .. } => {
                self.invocations += 1;
                if *prefix != self.keys.prefix {
                    self.keys = Keys::new(prefix);
                }
                for trigger in triggers {
                    self.notice(at, trigger);
                }
            }
            Record::Reading { asked, look, changed, gone, .. } => self.reading(at, *asked, look, changed, gone),
            Record::ReadingFailed { asked, look, error, .. } => {
                let of = match look {
                    Look::Addresses => "addresses",
                    Look::Instances(_) | Look::InstancesById(_) => "instances",
                    Look::Status(_) => "status checks",
                    Look::InstanceTags(_) => "tags",
                    Look::Interfaces(_) => "interfaces",
                    Look::Alarms(_) => "alarms",
                };
                self.tell_trouble(at, "reading-failed", format!("{of} could not be read: {error}."));
                let last = self.unread.iter_mut().rev().find(|unread| unread.of == of);
                let one = if error.failure == Failure::NotPermitted { ONE_REFUSAL } else { ONE_BLINDNESS };
                match last.filter(|last| asked.since(last.to) <= one) {
                    Some(last) => (last.to, last.tries) = (last.to.max(at), last.tries.saturating_add(1)),
                    None => self.unread.push(Unread { of, from: *asked, to: at, tries: 1 }),
                }
            }
            Record::Probe { started, cluster, node, check, answer, ok, .. } => {
                let member = self.members.entry((cluster.clone(), node.clone())).or_default();
                if *ok == Some(true) {
                    return;
                }
                let text = format!("{check} {}", in_words(answer));
                let (count, ..) = member.failing.get(check).cloned().unwrap_or((0, *started, String::new()));
                let count = count.saturating_add(1);
                if count <= MAX_PROBES_TOLD {
                    let nth = if count == 1 { String::new() } else { format!(" ({count} in a row)") };
                    member.moments.push(moment(*started, "probe-failed", format!("{text}{nth}.")));
                }
                member.failing.insert(check.clone(), (count, at, text));
            }
            Record::Passes { since, cluster, node, check, answer, .. } => {
                let member = self.members.entry((cluster.clone(), node.clone())).or_default();
                if let Some((count, last, text)) = member.failing.remove(check) {
                    more(member, count, last, &text);
                    let text = format!("{check} passes again: {}.", in_words(answer));
                    member.moments.push(moment(*since, "passed", text));
                }
            }
            Record::Verdict { cluster, node, from, to, why, .. } => {
                let key = (cluster.clone(), node.clone());
                if let (None, Some(from)) = (self.members.get(&key).and_then(|member| member.verdicts.last()), from) {
                    let start = self.from.unwrap_or(at);
                    self.judged(&key, start, *from, from.as_str().to_owned());
                }
                let why = if *to == Verdict::Healthy { "All its checks pass.".to_owned() } else { format!("{why}.") };
                self.judged(&key, at, *to, why);
            }
            Record::Decision { cluster, address, decision, .. } => {
                self.decided(invocation, at, cluster, address, decision)
            }
            Record::Call { asked, act, error, .. } => {
                self.called(at, *asked, act, error.as_ref().map(ToString::to_string))
            }
            Record::Move { cluster, address, result, .. } => self.moved(invocation, at, cluster, address, result),
            Record::End { report, .. } => self.ended(invocation, at, report),
        }
    }

    fn notice(&mut self, at: Time, trigger: &Trigger) {
        let (nodes, text): (Vec<InstanceId>, String) = match trigger {
            Trigger::Schedule { .. } | Trigger::Tag { .. } => return,
            Trigger::InstanceState { instance, state, .. } => {
                (vec![instance.clone()], format!("EC2's event says that it is {}.", state.as_str()))
            }
            Trigger::Spot { instance, action, .. } => {
                (vec![instance.clone()], format!("EC2 announces that it will {action} this Spot instance."))
            }
            Trigger::Rebalance { instance } => {
                (vec![instance.clone()], "EC2 recommends a rebalance: it may be interrupted.".to_owned())
            }
            Trigger::Lifecycle { instance, .. } => {
                (vec![instance.clone()], "An Auto Scaling group is about to terminate it.".to_owned())
            }
            Trigger::Health { instances, code } => (instances.clone(), format!("AWS Health says {code}.")),
            Trigger::Alarm { name, instances } => (instances.clone(), format!("The alarm {name} changed its state.")),
            Trigger::Command(Command::Drain { node }) => (vec![node.clone()], "Somebody drains it.".to_owned()),
            Trigger::Command(Command::Undrain { node }) => {
                (vec![node.clone()], "Somebody takes it back into service.".to_owned())
            }
            Trigger::Command(Command::Status { .. } | Command::Sweep { .. }) => return,
            Trigger::Command(Command::Move { cluster, .. }) => {
                return self.tell_cluster(at, cluster.as_ref(), "Somebody asks for a move.");
            }
            Trigger::Command(Command::Pause { cluster, .. }) => {
                return self.tell_cluster(
                    at,
                    cluster.as_ref(),
                    "Somebody pauses the cluster: nothing moves by itself.",
                );
            }
            Trigger::Command(Command::Resume { cluster }) => {
                return self.tell_cluster(at, cluster.as_ref(), "Somebody lets the cluster's addresses move again.");
            }
        };
        for node in nodes {
            self.nodes.entry(node).or_default().moments.push(moment(at, "notice", text.clone()));
        }
    }

    fn tell_cluster(&mut self, at: Time, cluster: Option<&ClusterName>, text: &str) {
        let of = |address: &&mut AddressTold| cluster.is_none_or(|cluster| address.clusters.contains(cluster));
        for address in self.addresses.values_mut().filter(of) {
            address.decisions.push(moment(at, "notice", text.to_owned()));
        }
    }

    /// What befalls all, once as long as it stays the same.
    fn tell_trouble(&mut self, at: Time, kind: &str, text: String) {
        let last = self.trouble.insert(text.clone(), at);
        if last.is_some_and(|last| at.since(last) < SAME_TROUBLE) {
            return;
        }
        for address in self.addresses.values_mut() {
            address.decisions.push(moment(at, kind, text.clone()));
        }
    }

    /// Takes in what [`Record::Reading`] tells.
    pub fn reading(&mut self, at: Time, asked: Time, look: &Look, changed: &Seen, gone: &[String]) {
        match changed {
            Seen::Addresses(list) => {
                for shown in list {
                    let known = self.addresses.contains_key(&shown.id);
                    let clusters = shown.tags.get(&self.keys.cluster).map(|text| tags::cluster_names(text).0);
                    if clusters.is_none() && !known {
                        continue;
                    }
                    let told = self.addresses.entry(shown.id.clone()).or_default();
                    told.public_ip = Some(shown.public_ip);
                    told.clusters.extend(
                        clusters.into_iter().flatten().filter(|name| !told.clusters.contains(name)).collect::<Vec<_>>(),
                    );
                    let holder = shown.association.as_ref().and_then(|association| {
                        let owner = || self.interfaces.get(association.interface.as_ref()?).cloned();
                        let foreign = || self.foreign.get(association.interface.as_ref()?).map(stranger);
                        association.instance.clone().or_else(owner).or_else(foreign)
                    });
                    let on = shown.association.as_ref().filter(|_| holder.is_none());
                    told.on = on.and_then(|association| association.interface.clone());
                    let stale = told
                        .left
                        .as_ref()
                        .is_some_and(|(from, since)| at.since(*since) < SETTLING && holder.as_ref() == Some(from))
                        || told.held.last().is_some_and(|(since, _)| asked < *since);
                    if !stale {
                        hold(told, at, holder);
                    }
                }
            }
            Seen::Instances(list) => list.iter().for_each(|shown| self.instance(at, shown)),
            Seen::Status(list) => list.iter().for_each(|shown| self.status(at, shown)),
            Seen::Interfaces(list) => {
                for shown in list.iter().filter(|shown| shown.attached && !self.interfaces.contains_key(&shown.id)) {
                    self.foreign.insert(shown.id.clone());
                    for told in self.addresses.values_mut().filter(|told| told.on.as_ref() == Some(&shown.id)) {
                        // It has held it since the address was seen there: only what it is was not known yet.
                        if let Some((_, holder @ None)) = told.held.last_mut() {
                            *holder = Some(stranger(&shown.id));
                        }
                    }
                }
            }
            Seen::InstanceTags(_) | Seen::Alarms(_) => {}
        }
        if matches!(look, Look::Instances(_) | Look::InstancesById(_)) {
            for id in gone {
                if let Some(node) = self.nodes.get_mut(&InstanceId::from(id.as_str())) {
                    node.moments.push(moment(at, "reading", "EC2 no longer shows it among the nodes.".to_owned()));
                    node.state = None;
                }
            }
        }
    }

    fn instance(&mut self, at: Time, shown: &Instance) {
        for nic in &shown.interfaces {
            if self.interfaces.get(&nic.id) != Some(&shown.id) {
                self.interfaces.insert(nic.id.clone(), shown.id.clone());
            }
        }
        let node = self.nodes.entry(shown.id.clone()).or_default();
        node.name = shown.tags.get("Name").filter(|name| !name.is_empty()).cloned();
        node.zone.clone_from(&shown.zone);
        if node.seen && node.state != Some(shown.state) {
            node.moments.push(moment(at, "reading", format!("EC2 shows that it is {}.", shown.state.as_str())));
        }
        node.state = Some(shown.state);
        let drains =
            shown.tags.get(&self.keys.mode).and_then(|text| NodeMode::parse(text).ok()) == Some(NodeMode::Drain);
        if node.draining != drains && node.seen {
            let text = if drains { "Its mode is drain." } else { "Its mode is active." };
            node.moments.push(moment(at, "reading", text.to_owned()));
        }
        let changed = node.draining != drains;
        node.draining = drains;
        node.seen = true;
        let names = shown.tags.get(&self.keys.cluster).map(|text| tags::cluster_names(text).0).unwrap_or_default();
        for name in names {
            self.members.entry((name, shown.id.clone())).or_default();
        }
        if changed {
            self.beside(at, &shown.id);
        }
    }

    fn status(&mut self, at: Time, shown: &InstanceStatus) {
        let Some(node) = self.nodes.get_mut(&shown.id) else { return };
        let impaired = shown.impaired();
        if node.impaired != impaired {
            let text = match impaired.as_slice() {
                [] => "EC2's status checks pass again.".to_owned(),
                some => format!("EC2's {} status is impaired.", some.join(" and ")),
            };
            node.moments.push(moment(at, "reading", text));
            node.impaired = impaired;
        }
    }

    /// The verdict goes on, and what stands beside it has changed.
    fn beside(&mut self, at: Time, id: &InstanceId) {
        let keys: Vec<_> = self.members.keys().filter(|(_, node)| node == id).cloned().collect();
        for key in keys {
            let last = self.members.get(&key).and_then(|member| member.verdicts.last().cloned());
            if let Some((_, verdict, _, text)) = last {
                self.judged(&key, at, verdict, text);
            }
        }
    }

    fn judged(&mut self, key: &(ClusterName, InstanceId), at: Time, verdict: Verdict, text: String) {
        let draining = self.nodes.get(&key.1).is_some_and(|node| node.draining);
        let member = self.members.entry(key.clone()).or_default();
        let mut beside: Vec<String> = Vec::new();
        if draining {
            beside.push("draining".to_owned());
        }
        beside.extend(member.leaving.as_ref().map(|kind| format!("leaving ({kind})")));
        let beside = (!beside.is_empty()).then(|| beside.join(", "));
        let same = member.verdicts.last().is_some_and(|(_, last, by, _)| *last == verdict && *by == beside);
        if !same {
            member.verdicts.push((at, verdict, beside, text));
        }
    }

    fn decided(&mut self, invocation: u32, at: Time, cluster: &ClusterName, id: &AllocationId, decision: &Decision) {
        let told = self.addresses.entry(id.clone()).or_default();
        if !told.clusters.contains(cluster) {
            told.clusters.push(cluster.clone());
        }
        *self.open.entry((invocation, id.clone())).or_default() += 1;
        let well = decision.kind == Kind::Stay && decision.why == Why::Healthy;
        let same = told.told.as_ref().is_some_and(|last| {
            let would = |decision: &Decision| decision.would.as_ref().map(|would| (would.why, would.to.clone()));
            (last.kind, last.why, &last.to) == (decision.kind, decision.why, &decision.to)
                && would(last) == would(decision)
        });
        if decision.kind == Kind::Move {
            told.decided = Some((at, decision.text.clone()));
            told.decided_at.push(at);
        }
        if !same && !well {
            let would = decision.would.as_ref().map(|would| format!(" It would: {}", would.text)).unwrap_or_default();
            told.decisions.push(Moment {
                at,
                kind: decision.why.as_str().to_owned(),
                text: format!("{}{would}", decision.text),
                vetoes: decision.vetoes.clone(),
            });
        }
        told.told = (!well).then(|| decision.clone());
    }

    fn called(&mut self, at: Time, asked: Time, act: &Act, error: Option<String>) {
        match (act, error) {
            (Act::Associate { address, interface, dry_run: false, .. }, None) => {
                let owner = self.interfaces.get(interface).cloned();
                if let (Some(owner), Some(told)) = (owner, self.addresses.get_mut(address)) {
                    told.left = told.held.last().and_then(|(_, from)| from.clone()).map(|from| (from, at));
                    hold(told, at, Some(owner));
                }
            }
            (Act::Associate { address, dry_run: false, .. }, Some(error)) => {
                if let Some(told) = self.addresses.get_mut(address) {
                    told.decisions.push(moment(asked, "call-failed", format!("EC2 refused the move: {error}.")));
                }
            }
            (Act::Tag { key, .. }, Some(error)) => {
                self.tell_trouble(at, "call-failed", format!("The tag {key} could not be written: {error}."));
            }
            _ => {}
        }
    }

    fn moved(&mut self, _: u32, at: Time, cluster: &ClusterName, id: &AllocationId, report: &MoveReport) {
        let told = self.addresses.entry(id.clone()).or_default();
        let (decided, text) = told
            .decided
            .clone()
            .unwrap_or_else(|| (at - Duration::from_millis(report.took_ms), format!("Moved: {}.", report.why)));
        if report.ok {
            let seen = told.held.last().is_some_and(|(_, holder)| holder.as_ref() == Some(&report.to));
            if !seen {
                told.left = report.from.clone().map(|from| (from, at));
                hold(told, at, Some(report.to.clone()));
            }
        }
        self.moves.push(Moved {
            address: id.clone(),
            cluster: cluster.clone(),
            decided,
            text,
            at,
            report: report.clone(),
            benign: report.benign,
        });
    }

    fn ended(&mut self, invocation: u32, at: Time, report: &Report) {
        let only = self.only.clone();
        for cluster in report.clusters.iter().filter(|of| only.as_ref().is_none_or(|only| *only == of.cluster)) {
            for node in &cluster.nodes {
                let key = (cluster.cluster.clone(), node.id.clone());
                let member = self.members.entry(key.clone()).or_default();
                let first = member.verdicts.is_empty();
                let changed = member.leaving != node.leaving;
                member.leaving.clone_from(&node.leaving);
                if first {
                    // Nothing has changed since the log began.
                    let start = self.from.unwrap_or(at);
                    let text = match node.verdict {
                        Verdict::Healthy => "All its checks pass.".to_owned(),
                        verdict => format!("{}.", verdict.as_str()),
                    };
                    self.judged(&key, start, node.verdict, text);
                } else if changed {
                    self.beside(at, &node.id);
                }
            }
            for address in &cluster.addresses {
                if !self.open.contains_key(&(invocation, address.allocation_id.clone()))
                    && let Some(told) = self.addresses.get_mut(&address.allocation_id)
                {
                    told.told = None;
                }
            }
        }
        self.open.retain(|(of, _), _| *of != invocation);
        if report.ok {
            for made in self.moves.iter_mut().rev().take_while(|made| at.since(made.at) < SAME_TROUBLE) {
                made.benign |= !made.report.ok;
            }
        } else if let Some(error) = &report.error {
            self.tell_trouble(at, "failed", format!("The invocation failed: {error}"));
        }
    }

    /// The lanes until `to`. `downs` are the nodes' bad times; `held` overrules who held what, where that is known better than from records.
    pub fn finish(mut self, name: String, to: Time, downs: &Downs, held: Option<Held>) -> Run {
        let from = self.from.unwrap_or(to);
        self.exact = held.is_some();
        if let Some(held) = held {
            for (id, changes) in held {
                if let Some(told) = self.addresses.get_mut(&id) {
                    told.held = changes;
                }
            }
        }
        for Unread { of, from, to, tries } in self.unread.iter().filter(|unread| unread.tries > 1) {
            let text = format!("{of} could not be read from {from} to {to}, in {tries} tries.");
            for address in self.addresses.values_mut() {
                address.decisions.push(moment(*to, "reading-failed", text.clone()));
            }
        }
        let failing: Vec<_> = self
            .members
            .iter_mut()
            .flat_map(|(key, member)| std::mem::take(&mut member.failing).into_values().map(|one| (key.clone(), one)))
            .collect();
        for (key, (count, last, text)) in failing {
            if let Some(member) = self.members.get_mut(&key) {
                more(member, count, last, &text);
            }
        }
        let mut names: BTreeSet<ClusterName> = self.members.keys().map(|(name, _)| name.clone()).collect();
        names.extend(self.addresses.values().flat_map(|address| address.clusters.iter().cloned()));
        names.retain(|name| self.only.as_ref().is_none_or(|only| only == name));
        let mut figures = Figures::default();
        let mut incidents = Vec::new();
        let mut clusters = Vec::new();
        for name in names {
            let of_cluster: Vec<_> = self.addresses.iter().filter(|(_, told)| told.clusters.contains(&name)).collect();
            let mut addresses = Vec::new();
            for (id, told) in of_cluster {
                let held = self.holds(id, told, from, to);
                let outages = outages(&held, told, to, downs, |id| self.label_or_nobody(id));
                let ip = told.public_ip.map_or_else(|| id.to_string(), |ip| ip.to_string());
                self.incidents(&name, id, &ip, told, &outages, to, &mut incidents);
                figures.outage_ms.extend(outages.iter().map(|outage| millis(outage.to.since(outage.from))));
                addresses.push(AddressLane { public_ip: ip, held, outages, decisions: sorted(told.decisions.clone()) });
            }
            let members = self.members.iter().filter(|((of, _), _)| *of == name);
            let nodes = members.map(|((_, id), member)| self.node(id, member, from, to)).collect();
            clusters.push(ClusterLanes { cluster: name.to_string(), addresses, nodes });
        }
        for made in &self.moves {
            if !made.report.ok {
                figures.failed += u32::from(!made.benign);
                continue;
            }
            let Some(gone_at) = self.effect(made) else { continue };
            figures.moves += 1;
            let Some(left) = made.report.from.as_ref().filter(|_| made.off_a_failing_holder()) else { continue };
            let downs = downs.get(left).map_or(&[][..], Vec::as_slice);
            if !downs.iter().any(|down| down.from <= gone_at && gone_at < down.to) {
                figures.needless += 1;
            }
            let failed = downs.iter().rev().find(|down| down.from <= made.decided && made.decided <= down.to);
            figures.detect_ms.extend(failed.map(|down| {
                let decided = self.first_decided(made, left, gone_at, down.from);
                millis(decided.since(down.from))
            }));
        }
        incidents.sort_by(|one: &Incident, other| (one.from, &one.cluster).cmp(&(other.from, &other.cluster)));
        Run { name, text: String::new(), figures, clusters, incidents }
    }

    /// Whether what began then is dated by what was seen before and after a time without readings.
    fn begins_unseen(&self, at: Time) -> bool {
        let blind = |unread: &Unread| unread.of == "addresses" && unread.from <= at && at <= unread.to;
        !self.exact && self.unread.iter().any(blind)
    }

    /// When a move off `left` was first decided, since that holds the address and fails: what is refused or has no effect is decided again.
    fn first_decided(&self, made: &Moved, left: &InstanceId, gone_at: Time, failed_at: Time) -> Time {
        let Some(told) = self.addresses.get(&made.address) else { return made.decided };
        let took = |(at, holder): &&(Time, Option<InstanceId>)| *at < gone_at && holder.as_ref() == Some(left);
        let since = told.held.iter().rev().find(took).map_or(failed_at, |(at, _)| failed_at.max(*at));
        told.decided_at.iter().copied().find(|at| *at >= since).map_or(made.decided, |at| at.min(made.decided))
    }

    /// When a move took effect; `None`: it did not, or another one had been there before it.
    fn effect(&self, made: &Moved) -> Option<Time> {
        let changes = self.addresses.get(&made.address).map_or(&[][..], |told| told.held.as_slice());
        let arrived = |(at, holder): &&(Time, Option<InstanceId>)| {
            *at >= made.decided && *at <= made.at && holder.as_ref() == Some(&made.report.to)
        };
        changes.iter().find(arrived).map(|(at, _)| *at)
    }

    fn holds(&self, id: &AllocationId, told: &AddressTold, from: Time, to: Time) -> Vec<Hold> {
        let mut held: Vec<Hold> = Vec::new();
        for (index, (since, node)) in told.held.iter().enumerate() {
            let until = told.held.get(index + 1).map_or(to, |(next, _)| *next);
            let made = self.moves.iter().find(|made| {
                made.address == *id
                    && made.report.ok
                    && Some(&made.report.to) == node.as_ref()
                    && made.decided <= *since
                    && *since <= made.at
            });
            let (why, text) = match (index, made) {
                (_, Some(made)) => (Some(made.report.why.to_string()), made.text.clone()),
                (0, None) => (None, format!("{} holds it when this begins.", self.label_or_nobody(node.as_ref()))),
                (_, None) => {
                    let who = self.label_or_nobody(node.as_ref());
                    (Some(EXTERNAL.to_owned()), format!("Not eipwatch, but somebody else gave it to {who}."))
                }
            };
            let since = if index == 0 { from } else { *since };
            held.push(Hold {
                from: since,
                to: until.max(since),
                node: node.as_ref().map(ToString::to_string),
                why,
                text,
            });
        }
        held
    }

    fn node(&self, id: &InstanceId, member: &MemberTold, from: Time, to: Time) -> NodeLane {
        let told = self.nodes.get(id);
        let mut verdicts: Vec<Stretch> = Vec::new();
        for (index, (since, verdict, beside, text)) in member.verdicts.iter().enumerate() {
            let until = member.verdicts.get(index + 1).map_or(to, |(next, ..)| *next);
            let since = (*since).max(from);
            let (beside, text) = (beside.clone(), text.clone());
            verdicts.push(Stretch { from: since, to: until.max(since), verdict: *verdict, beside, text });
        }
        let mut evidence = member.moments.clone();
        evidence.extend(told.iter().flat_map(|told| told.moments.iter().cloned()));
        NodeLane {
            id: id.to_string(),
            name: told.and_then(|told| told.name.clone()),
            zone: told.and_then(|told| told.zone.clone()),
            verdicts,
            evidence: sorted(evidence),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what an incident is made of")]
    fn incidents(
        &self,
        cluster: &ClusterName,
        id: &AllocationId,
        ip: &str,
        told: &AddressTold,
        outages: &[Outage],
        to: Time,
        incidents: &mut Vec<Incident>,
    ) {
        let of_it = self.moves.iter().filter(|made| made.address == *id && made.cluster == *cluster && !made.benign);
        let moves: Vec<&Moved> = of_it.filter(|made| !made.report.ok || self.effect(made).is_some()).collect();
        let mut spans: Vec<(Time, Time)> = outages.iter().map(|outage| (outage.from, outage.to)).collect();
        spans.extend(moves.iter().map(|made| (made.decided, made.at)));
        spans.sort_unstable();
        let mut merged: Vec<(Time, Time)> = Vec::new();
        for (from, until) in spans {
            match merged.last_mut() {
                Some((_, end)) if from.since(*end) <= ONE_INCIDENT => *end = (*end).max(until),
                _ => merged.push((from, until)),
            }
        }
        for (from, until) in merged {
            let within: Vec<_> = moves.iter().filter(|made| made.decided >= from && made.at <= until).collect();
            let out: Vec<_> = outages.iter().filter(|outage| outage.from >= from && outage.to <= until).collect();
            let lost_ms: u64 = out.iter().map(|outage| millis(outage.to.since(outage.from))).sum();
            let unseen = out.first().is_some_and(|outage| self.begins_unseen(outage.from));
            let lost = match (lost_ms, until >= to) {
                (0, _) => "no outage".to_owned(),
                (ms, false) if unseen => {
                    format!("outage about {}, begun while EC2 could not be read", length(ms))
                }
                (ms, false) => format!("outage {}", length(ms)),
                (ms, true) => format!("outage at least {}, not over at the end", length(ms)),
            };
            let title = match (within.as_slice(), out.first()) {
                ([made], _) if made.report.ok => {
                    let to = self.label(&made.report.to);
                    format!("{ip} moved to {to} ({}), {lost}", made.report.why)
                }
                ([made], _) => {
                    format!("{ip} did not move to {} ({}), {lost}", self.label(&made.report.to), made.report.why)
                }
                ([], Some(outage)) => {
                    let last = told.decisions.iter().rev().find(|told| told.at <= until && told.at >= from);
                    let why = last.map(|told| format!(" ({})", told.kind)).unwrap_or_default();
                    format!("{ip} was not moved{why}, {lost}: {}", outage.text.trim_end_matches('.'))
                }
                ([], None) => continue,
                (many, _) => {
                    let made = many.iter().filter(|made| made.report.ok).count();
                    format!("{ip} moved {made} times of {} tries, {lost}", many.len())
                }
            };
            incidents.push(Incident { from, to: until, cluster: cluster.to_string(), title });
        }
    }
}

/// The rest of a streak, where there was more of it than was told.
fn more(member: &mut MemberTold, count: u32, last: Time, text: &str) {
    if count > MAX_PROBES_TOLD {
        member.moments.push(moment(
            last,
            "probe-failed",
            format!("{text}, and that was the last of {count} in a row."),
        ));
    }
}

fn hold(told: &mut AddressTold, at: Time, holder: Option<InstanceId>) {
    if told.held.last().is_none_or(|(_, last)| *last != holder) {
        told.held.push((at, holder));
    }
}

fn sorted(mut moments: Vec<Moment>) -> Vec<Moment> {
    moments.sort_by_key(|moment| moment.at);
    moments
}

/// When the holder did not serve, or there was none.
fn outages(
    held: &[Hold],
    told: &AddressTold,
    to: Time,
    downs: &Downs,
    label: impl Fn(Option<&InstanceId>) -> String,
) -> Vec<Outage> {
    let mut found: Vec<Outage> = Vec::new();
    let mut add = |from: Time, to: Time, text: String| {
        if to <= from {
            return;
        }
        match found.last_mut() {
            Some(last) if last.to >= from => {
                last.to = last.to.max(to);
                if !last.text.contains(&text) {
                    last.text = format!("{} {text}", last.text);
                }
            }
            _ => found.push(Outage { from, to, text }),
        }
    };
    for (hold, (_, node)) in held.iter().zip(&told.held) {
        match node {
            None => add(hold.from, hold.to, "Nobody held it.".to_owned()),
            Some(id) => {
                for down in downs.get(id).map_or(&[][..], Vec::as_slice) {
                    let text = format!("{}, which held it: {}.", label(Some(id)), down.text);
                    add(down.from.max(hold.from), down.to.min(hold.to).min(to), text);
                }
            }
        }
    }
    found
}

/// What a probe brought back, in a few words.
pub fn in_words(answer: &crate::core::model::Answer) -> String {
    use crate::core::model::Answer;
    match answer {
        Answer::Connected => "connected".to_owned(),
        Answer::Status(code) => format!("answered {code}"),
        Answer::Refused => "refused".to_owned(),
        Answer::TimedOut => "gave no answer in time".to_owned(),
        Answer::Failed(why) => why.clone(),
        Answer::NotAsked(why) => format!("could not be asked: {why}"),
    }
}

/// What a run comes to against the first one, in a sentence.
pub fn against(first: &Run, other: &Run) -> String {
    let sum = |list: &[u64]| list.iter().sum::<u64>();
    let (was, would) = (&first.figures, &other.figures);
    let mut parts = Vec::new();
    // The same failures, as far as both found them.
    let pairs: Vec<(u64, u64)> = was.detect_ms.iter().copied().zip(would.detect_ms.iter().copied()).collect();
    if !pairs.is_empty() && was.detect_ms.len() == would.detect_ms.len() {
        let (old, new) = (median(&was.detect_ms), median(&would.detect_ms));
        if let (Some(old), Some(new)) = (old, new) {
            let differs = |ms: u64, word: &str| format!("it would have decided {} {word}", length(ms));
            match old.cmp(&new) {
                std::cmp::Ordering::Greater => parts.push(differs(old - new, "earlier")),
                std::cmp::Ordering::Less => parts.push(differs(new - old, "later")),
                std::cmp::Ordering::Equal => parts.push("it would have decided as early".to_owned()),
            }
        }
    }
    let times = |n: u32| match n {
        0 => "not at all".to_owned(),
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    };
    if was.moves != would.moves {
        parts.push(format!("moved {} instead of {}", times(would.moves), times(was.moves)));
    }
    if was.needless != would.needless {
        let change = if would.needless > was.needless {
            format!("{} more for nothing", times(would.needless - was.needless))
        } else {
            format!("{} less for nothing", times(was.needless - would.needless))
        };
        parts.push(change);
    }
    let (old, new) = (sum(&was.outage_ms), sum(&would.outage_ms));
    if old != new {
        parts.push(format!("clients would have waited {} instead of {} in all", length(new), length(old)));
    }
    match parts.as_slice() {
        [] => format!("With {} nothing would have been different.", other.name),
        parts => format!("With {} {}.", other.name, parts.join(", ")),
    }
}

/// What a run comes to by itself.
pub fn alone(run: &Run) -> String {
    let figures = &run.figures;
    let outage: u64 = figures.outage_ms.iter().sum();
    let moves = match (figures.moves, figures.needless) {
        (0, _) => "No move".to_owned(),
        (1, 0) => "1 move".to_owned(),
        (1, _) => "1 move, and it was needless".to_owned(),
        (n, 0) => format!("{n} moves"),
        (n, needless) => format!("{n} moves, {needless} of them needless"),
    };
    let failed = if figures.failed == 0 { String::new() } else { format!(", {} that failed", figures.failed) };
    let detect = median(&figures.detect_ms).map(|ms| format!(", decided {} after the failure (median)", length(ms)));
    let lanes = || run.clusters.iter().flat_map(|cluster| &cluster.addresses);
    let ends = |lane: &super::AddressLane| lane.held.last().map(|hold| hold.to);
    // One that is not over at the end is longer than what was seen of it.
    let open = lanes().any(|lane| lane.outages.last().is_some_and(|outage| Some(outage.to) >= ends(lane)));
    let outage = match outage {
        0 => ", no outage".to_owned(),
        ms => format!(", outage {}{} in all", if open { "at least " } else { "" }, length(ms)),
    };
    format!("{moves}{failed}{}{outage}.", detect.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Address, Association, LooseInterface};

    /// What began while EC2 could not be read is told as about so long; and for how long it could not be read.
    #[test]
    fn an_outage_that_nobody_saw_begin_is_about_so_long() {
        let at = |s: u64| Time::from_millis(1_000_000 + s * 1_000);
        let told = |code: &str, when: [u64; 3]| {
            let mut builder = Builder { from: Some(at(0)), ..Builder::default() };
            let error = crate::core::model::CloudError::from_code(code, "down", code == "InternalError");
            for s in when {
                let look = Look::Addresses;
                let failed = Record::ReadingFailed { at: at(s), asked: at(s - 1), look, error: error.clone() };
                builder.take(0, &failed);
            }
            (builder.blindness(), [20, 100].map(|s| builder.begins_unseen(at(s))))
        };
        let expected = |to: u64| format!("could not be read from {} to {}, in 3 tries", at(9), at(to));
        let (notes, unseen) = told("InternalError", [10, 15, 30]);
        assert!(notes.len() == 1 && notes[0].contains(&expected(30)), "{notes:?}");
        assert_eq!(unseen, [true, false]);
        // What may not be read is asked for again by the next watch, a minute later.
        for code in ["UnauthorizedOperation", "AuthFailure"] {
            let (notes, unseen) = told(code, [10, 70, 130]);
            assert!(notes.len() == 1 && notes[0].contains(&expected(130)), "{code}: {notes:?}");
            assert_eq!(unseen, [true, true], "{code}");
        }
        assert_eq!(told("InternalError", [10, 70, 130]).0, Vec::<String>::new(), "it may have been read in between");
    }

    /// An address on a NAT gateway is held by that, from the first reading on, and not by nobody.
    #[test]
    fn what_is_no_instance_holds_an_address_all_the_same() {
        for (attached, expected) in [(true, Some("eni-9")), (false, None)] {
            let mut builder = Builder { from: Some(Time::from_millis(1_000_000)), ..Builder::default() };
            let at = |s: u64| Time::from_millis(1_000_000 + s * 1_000);
            let association = Association { interface: Some(InterfaceId::from("eni-9")), ..Association::default() };
            let address = Address {
                id: AllocationId::from("eipalloc-1"),
                public_ip: Ipv4Addr::new(203, 0, 113, 1),
                border_group: None,
                association: Some(association),
                tags: [("eipwatch:cluster".to_owned(), "web".to_owned())].into(),
            };
            builder.reading(at(1), at(1), &Look::Addresses, &Seen::Addresses(vec![address]), &[]);
            let loose = LooseInterface { id: InterfaceId::from("eni-9"), attached, kind: "nat_gateway".to_owned() };
            let look = Look::Interfaces(vec![InterfaceId::from("eni-9")]);
            builder.reading(at(2), at(2), &look, &Seen::Interfaces(vec![loose]), &[]);
            let run = builder.finish("as it was".to_owned(), at(60), &Downs::new(), None);
            let lane = &run.clusters[0].addresses[0];
            assert_eq!(lane.held[0].node.as_deref(), expected);
            assert_eq!(lane.outages.is_empty(), attached, "{:?}", lane.outages);
        }
    }
}
