//! One cluster through an invocation: its probes, verdicts, decisions and records.
//!
//! Architecture invariant: it wants, the watch does. Pacing, ids and the limits over all clusters are not known here, so that no cluster
//! can hold up another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::decide::{
    self, AddressMemory, Decision, EXTERNAL, Kind, LOOSE_FOR, Question, Ruling, Since, Why, is_stale, remembered,
};
use crate::core::log::Record;
use crate::core::model::{AllocationId, Answer, InstanceId, InstanceState, ProbeTarget, ROUND};
use crate::core::policy::{Policy, Via};
use crate::core::report::MoveReport;
use crate::core::snapshot::{Cluster, ClusterAddress, Facts, Holder, Node, Taken};
use crate::core::tags::{Check, Health, Keys, Leaving, State, Undrained, Verdict, plain};
use crate::core::time::{Time, millis};
use crate::core::verdict::{self, Case, Finding, Probing, Pulse};

use super::looks::{BACKOFF_MAX_URGENT, GIVEN_UP_FOR, Looks};
use super::moving::Moving;

/// How far apart two reads must show a holder that we did not choose before it is adopted: another invocation may be about to record it.
pub const ADOPT_AFTER: Duration = Duration::from_secs(3);
/// How old addresses may be while a failing holder is about to be judged: where probes are quick, the move need not wait for a read.
pub const FRESH_WHEN_FAILING: Duration = Duration::from_millis(400);
/// How long the first reading of status checks is waited for once everything else was read.
pub const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// How long before its health tag is found to be wrong a node must have been read for that to be written, as far as it can be.
pub const READ_BEFORE_HEALTH: Duration = Duration::from_secs(1);
/// How long before it is written a health tag's node must have been read, however long it has been wrong.
pub const NODES_BEFORE_HEALTH: Duration = Duration::from_secs(6);
/// How long a tag that could not be written is left alone.
pub const TAG_LEFT_ALONE: Duration = Duration::from_secs(60);
/// How old a spot instance's announcement may be before it is only a hint: what it announced would have happened by then.
pub const NOTICE_BELIEVED: Duration = Duration::from_secs(600);
/// How long what was read of an interface that is attached to something else is believed.
pub const INTERFACE_BELIEVED: Duration = Duration::from_secs(30);
/// How many notes on a cluster are kept: somebody may write garbage over and over.
const MAX_NOTES: usize = 100;
/// How much of the failing evidence the health tag carries, in characters.
const WHY_CHARS: usize = 80;

/// Runs of passed probes, counted for the log.
#[derive(Clone, Debug)]
struct Passes {
    since: Time,
    at: Time,
    count: u32,
    slowest: Duration,
    slowest_at: Time,
    total: Duration,
    answer: Answer,
}

/// What an invocation remembers of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeMemory {
    pub probes: BTreeMap<Check, Probing>,
    passes: BTreeMap<Check, Passes>,
    pulse: Option<Pulse>,
    /// When it was launched, as far as was shown.
    launched: Option<Time>,
    /// Since when it is known to run.
    running_since: Option<Time>,
    pub gone_event: Option<(InstanceState, Time)>,
    pub notice: Option<Leaving>,
    pub undrained: Option<Undrained>,
    /// Whether `undrain` has put an end to something: only that is worth remembering.
    overruled: bool,
    verdict: Option<Verdict>,
    /// Since when its health tag says something else than it should.
    differs_since: Option<Time>,
    recording: bool,
    left_alone_until: Option<Time>,
    /// It was settled once after the watch's time.
    rested: bool,
}

/// What a step of a cluster wants done.
#[derive(Debug, Default)]
pub struct Wants {
    pub probes: Vec<(InstanceId, Check, ProbeTarget)>,
    pub health: Vec<(InstanceId, String, Health)>,
    pub states: Vec<(AllocationId, State)>,
    pub moves: Vec<AllocationId>,
    pub log: Vec<Record>,
    /// Some probe that is due has to wait for others to end.
    pub starved: bool,
}

/// A move that is about to be sent.
#[derive(Clone, Debug)]
pub struct Intent {
    pub from: Option<InstanceId>,
    pub why: Why,
    /// Since when it has been wanted for that reason, off that holder. `None`: it has been put off meanwhile.
    pub since: Option<Time>,
}

/// What a step may rely on.
pub struct Surroundings<'a> {
    pub facts: &'a Facts,
    pub looks: &'a mut Looks,
    pub taken: &'a Taken<'a>,
    pub manual: bool,
    /// Whether anything may be written or moved.
    pub writes: bool,
    /// When everything but status checks was first read.
    pub first_read: Option<Time>,
    /// When the invocation must have ended.
    pub deadline: Time,
    /// Whether it ends as soon as every cluster is at rest.
    pub over: bool,
    /// How many probes may be started.
    pub probes_left: usize,
    pub now: Time,
}

/// A cluster in scope.
#[derive(Clone, Debug)]
pub struct Watched {
    pub cluster: Cluster,
    pub nodes: BTreeMap<InstanceId, NodeMemory>,
    pub findings: BTreeMap<InstanceId, Finding>,
    pub since: BTreeMap<InstanceId, Since>,
    pub memory: BTreeMap<AllocationId, AddressMemory>,
    /// Who held each address when it was last looked at, or got it from here.
    pub held: BTreeMap<AllocationId, InstanceId>,
    pub moving: BTreeMap<AllocationId, Moving>,
    pub rulings: Vec<Ruling>,
    pub decisions: BTreeMap<AllocationId, Decision>,
    pub moves: BTreeMap<AllocationId, Vec<MoveReport>>,
    logged: BTreeMap<AllocationId, Decision>,
    /// The moves that are about to be sent.
    pub intended: BTreeMap<AllocationId, Intent>,
    pub notes: Vec<String>,
    /// When it is to be looked at again, its probes apart.
    wake: Option<Time>,
    /// When the next probe is due or over its time.
    probes_wake: Option<Time>,
    pub at_rest: bool,
    /// What was decided stands until something is read, a probe tells something new, or `wake` comes.
    calm: bool,
    /// Since when probes of it wait for others to end.
    pub starved_since: Option<Time>,
    pub dirty: bool,
    /// While a command's own tag is being written, or dry runs: nothing is moved.
    pub hold: bool,
    /// The moves that EC2 was asked about in a dry run.
    pub asked_if_allowed: BTreeSet<(AllocationId, InstanceId)>,
}

impl Watched {
    pub fn new(cluster: Cluster) -> Watched {
        Watched {
            cluster,
            nodes: BTreeMap::new(),
            findings: BTreeMap::new(),
            since: BTreeMap::new(),
            memory: BTreeMap::new(),
            held: BTreeMap::new(),
            moving: BTreeMap::new(),
            rulings: Vec::new(),
            decisions: BTreeMap::new(),
            moves: BTreeMap::new(),
            logged: BTreeMap::new(),
            intended: BTreeMap::new(),
            notes: Vec::new(),
            wake: None,
            probes_wake: None,
            at_rest: false,
            calm: false,
            starved_since: None,
            dirty: true,
            hold: false,
            asked_if_allowed: BTreeSet::new(),
        }
    }

    fn wake_at(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Takes in what a probe brought back.
    pub fn probed(
        &mut self,
        id: u64,
        node: &InstanceId,
        check: &Check,
        answer: &Answer,
        now: Time,
        log: &mut Vec<Record>,
    ) {
        let policy = &self.cluster.policy;
        if let Some(memory) = self.nodes.get_mut(node)
            && let Some(probing) = memory.probes.get_mut(check)
        {
            let target = probing.target().cloned();
            let steady = probing.steady();
            if let (Some(judged), Some(target)) = (probing.answer(id, answer, policy, now), target) {
                let name = &self.cluster.name;
                self.dirty |= judged.ok.is_none() || steady.is_none() || probing.steady() != steady;
                tell_probe(memory, name, node, check, target, &judged, answer, now, log);
            }
        }
    }

    /// Looks at what may have changed, and says what is wanted: at everything, or while it is calm at its probes alone.
    pub fn step(&mut self, around: &mut Surroundings<'_>) -> Wants {
        let now = around.now;
        let mut wants = Wants::default();
        if self.only_probes(now) {
            self.start_probes(around, &mut wants);
            return wants;
        }
        self.wake = None;
        self.dirty = false;
        self.judge(around, &mut wants);
        self.start_probes(around, &mut wants);
        self.rule(around, &mut wants);
        self.record_health(around, &mut wants);
        self.adopt(around, &mut wants);
        let unrecorded =
            |address: &ClusterAddress| self.memory.get(&address.id).is_some_and(|memory| memory.unrecorded.is_some());
        let adopting = around.writes && self.cluster.addresses.iter().any(unrecorded);
        let busy = !self.moving.is_empty() || adopting || !wants.moves.is_empty();
        self.at_rest = !busy && self.is_settled(around.over, now);
        for ruling in &self.rulings {
            if let Some(at) = ruling.again_at.filter(|at| *at > now) {
                self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
            }
        }
        self.calm = self.at_rest && self.is_lasting(now);
        wants
    }

    /// Whether nothing is waited for: each node has come to a verdict, and every address to a decision. Among many nodes some are always in
    /// doubt: after the watch's time a new doubt of one that holds nothing puts off the end no more.
    fn is_settled(&mut self, over: bool, now: Time) -> bool {
        let held = self.cluster.addresses.iter().filter_map(|address| self.holder_now(address, now));
        // An outsider is not looked at.
        let holders: BTreeSet<InstanceId> = held.filter(|id| self.cluster.nodes.contains_key(id)).collect();
        let mut all = true;
        // One that starts, or of a state that is not known here, is not asked.
        for id in self.cluster.nodes.values().filter(|node| is_probed(node)).map(|node| &node.id) {
            let settled = self.findings.get(id).is_some_and(|finding| finding.settled);
            let Some(memory) = self.nodes.get_mut(id) else { return false };
            memory.rested |= settled && over;
            all &= settled || memory.rested && !holders.contains(id);
        }
        let well = |id: &InstanceId| {
            self.findings.get(id).is_some_and(|finding| finding.settled && finding.verdict == Verdict::Healthy)
        };
        let stays = |ruling: &Ruling| {
            let decision = ruling.decision.would.as_deref().unwrap_or(&ruling.decision);
            decision.kind == Kind::Stay && decision.why == Why::Healthy && ruling.reading_wanted.is_none()
        };
        all && self.rulings.iter().all(|ruling| !ruling.pending || over && stays(ruling) && holders.iter().all(well))
    }

    /// When it has to be looked at although nothing new came in.
    pub fn next_wake(&self) -> Option<Time> {
        [self.wake, self.probes_wake].into_iter().flatten().min()
    }

    fn only_probes(&self, now: Time) -> bool {
        let over = |probing: &Probing| probing.expires().is_some_and(|at| at <= now);
        self.calm
            && !self.dirty
            && self.wake.is_none_or(|at| at > now)
            && !self.nodes.values().flat_map(|memory| memory.probes.values()).any(over)
    }

    /// Whether every address stays where it is for a reason that lasts, and nothing that is known of a node ends or begins by itself.
    fn is_lasting(&self, now: Time) -> bool {
        let stays = |decision: &Decision| {
            decision.kind == Kind::Stay && matches!(decision.why, Why::Healthy | Why::NoCandidate | Why::Outsider)
        };
        let lasts = |ruling: &Ruling| {
            let decision = &ruling.decision;
            ruling.plan.is_none() && stays(decision.would.as_deref().unwrap_or(decision))
        };
        let told = |node: &Node| {
            node.status.as_ref().is_some_and(|status| !status.scheduled.is_empty())
                || self.nodes.get(&node.id).is_none_or(|memory| {
                    memory.gone_event.is_some() || memory.left_alone_until.is_some_and(|until| until > now)
                })
        };
        self.rulings.iter().all(lasts) && !self.cluster.nodes.values().any(told)
    }

    fn judge(&mut self, around: &mut Surroundings<'_>, wants: &mut Wants) {
        let now = around.now;
        // Nodes that were forgotten with their probes come back as unknown ones.
        let known = &self.cluster.nodes;
        self.nodes.retain(|id, _| known.contains_key(id));
        self.findings.retain(|id, _| known.contains_key(id));
        self.since.retain(|id, _| known.contains_key(id));
        self.ask_new_holders(now);
        for node in self.cluster.nodes.values_mut() {
            // A time to come was not written by us.
            node.health.take_if(|health| {
                let noticed = health.notice().map(|notice| notice.noticed);
                let times = [Some(health.since), noticed, health.undrained.map(|it| it.at)];
                times.into_iter().flatten().any(|at| at.since(now) >= decide::SETTLING)
            });
        }
        let read_at = |id: &InstanceId| around.facts.seen_at(id);
        let first_read = around.first_read.unwrap_or(now);
        // Who was there at the first reading has always been.
        let first = self.findings.is_empty() && now.since(first_read) < STATUS_PATIENCE;
        let appeared = if first { Time::default() } else { now };
        for node in self.cluster.nodes.values() {
            let memory = match self.nodes.get_mut(&node.id) {
                Some(memory) => memory,
                None => self.nodes.entry(node.id.clone()).or_default(),
            };
            if let (Some(before), Some(launched)) = (memory.launched, node.launched)
                && before != launched
            {
                // What was learnt of it belongs to an earlier life.
                memory.probes.clear();
                memory.pulse = None;
                memory.verdict = None;
                memory.running_since = None;
                memory.rested = false;
                self.since.remove(&node.id);
            }
            memory.launched = node.launched.or(memory.launched);
            let runs = node.state == Some(InstanceState::Running);
            memory.running_since = if runs { memory.running_since.or(Some(appeared)) } else { None };
            if let Some(beat) = node.heartbeat.as_ref().filter(|_| !node.missing) {
                let asked = around.looks.node_asked(&node.id).unwrap_or(now);
                let read_at = read_at(&node.id).unwrap_or(now);
                memory.pulse = Some(Pulse::read(memory.pulse, beat, asked, read_at, appeared));
            }
        }
        let statuses_asked = around.looks.status.asked;
        let believed = self.believed_public(now);
        let mut wake: Option<Time> = None;
        let ids: Vec<InstanceId> = self.cluster.nodes.keys().cloned().collect();
        for id in &ids {
            let Some(node) = self.cluster.nodes.get(id) else { continue };
            let peers = self.nodes.iter().filter(|(peer, _)| *peer != id).filter_map(|(_, memory)| memory.pulse);
            let peers: Vec<Pulse> = peers.filter(|pulse| pulse.advanced).collect();
            let Some(memory) = self.nodes.get_mut(id) else { continue };
            // One that runs since later, or since the very millisecond in which it was asked for, is in no answer yet.
            let since = memory.running_since.unwrap_or_default();
            let shown = statuses_asked.is_some_and(|at| at > since);
            let patience_ends = since.max(first_read) + STATUS_PATIENCE;
            let status_read = shown || around.looks.status.given_up || now >= patience_ends;
            if !status_read {
                wake = Some(wake.map_or(patience_ends, |wake: Time| wake.min(patience_ends)));
                around.looks.want_status(since + Duration::from_millis(1));
            }
            let policy = &self.cluster.policy;
            aim(node, believed.get(id).unwrap_or(&node.probe_ip.as_ref().ok().copied()).as_ref(), memory, policy);
            let mut expired = Vec::new();
            for (check, probing) in &mut memory.probes {
                if probing.expires().is_none_or(|at| at > now) {
                    continue;
                }
                let target = probing.target().cloned();
                for judged in probing.expire(policy, now) {
                    if let Some(target) = target.clone() {
                        let (name, answer) = (&self.cluster.name, Answer::TimedOut);
                        expired.push(probe_record(name, id, check, target, &judged, &answer, now));
                    }
                }
            }
            // What they put an end to came before them.
            flush_passes(memory, &self.cluster.name, id, &mut wants.log);
            wants.log.extend(expired);
            let holder = self.cluster.addresses.iter().any(|address| address.holder.instance() == Some(id));
            let case = Case {
                policy,
                probes: &memory.probes,
                pulse: memory.pulse,
                peers: &peers,
                read_at: read_at(id),
                asked_at: around.looks.node_asked(id),
                alarms: &around.facts.alarms,
                alarms_told: &around.looks.alarm_names.told,
                gone_event: memory.gone_event,
                holder,
                status_read,
                deadline: around.deadline,
            };
            let mut finding = verdict::judge(node, case, now);
            let beating = memory.pulse.is_some_and(|pulse| pulse.advanced);
            finding.leaving = verdict::leaving(node, memory.notice.as_ref(), memory.undrained, beating, now);
            memory.overruled |= memory.undrained.is_some()
                && finding.leaving.is_none()
                && verdict::leaving(node, memory.notice.as_ref(), None, beating, now).is_some();
            if finding.stopped
                && let Some(pulse) = &mut memory.pulse
            {
                pulse.stopped = true;
            }
            if let Some(at) = finding.look_again {
                // In longer steps a peer's heartbeats between two looks would seem lost.
                let asked = around.looks.node_asked(id).unwrap_or(now);
                around.looks.want_node(id, at.min(asked + ROUND).max(now));
            }
            let before = memory.verdict;
            if before != Some(finding.verdict)
                && (finding.settled || finding.verdict == Verdict::Suspect || before.is_some())
            {
                let remembered = node.health.as_ref().filter(|health| {
                    before.is_none() && health.verdict == finding.verdict && node.in_this_life(health.since)
                });
                let since = match (self.since.get(id), remembered) {
                    // A doubt that came to nothing leaves the verdict as old as it was, but no longer steady.
                    (Some(old), _) if back_from_doubt(before, finding.verdict) => {
                        Since { verdict: old.verdict, steady: now }
                    }
                    (_, Some(health)) => Since { verdict: health.since, steady: health.since },
                    (Some(old), None) if finding.verdict == Verdict::Suspect => {
                        Since { verdict: old.verdict, steady: now }
                    }
                    // It was healthy until now, as far as is remembered of this life.
                    (None, None) if finding.verdict == Verdict::Suspect => {
                        let health = node.health.as_ref().filter(|health| node.in_this_life(health.since));
                        Since { verdict: health.map_or(now, |health| health.since), steady: now }
                    }
                    _ => Since { verdict: now, steady: now },
                };
                self.since.insert(id.clone(), since);
                if remembered.is_none() || before.is_some() {
                    wants.log.push(Record::Verdict {
                        at: now,
                        cluster: self.cluster.name.clone(),
                        node: id.clone(),
                        from: before,
                        to: finding.verdict,
                        why: finding.why(),
                    });
                }
                memory.verdict = Some(finding.verdict);
            }
            if finding.wavering
                && let Some(since) = self.since.get_mut(id)
            {
                since.steady = now;
            }
            self.findings.insert(id.clone(), finding);
        }
        if let Some(at) = wake {
            self.wake_at(at);
        }
    }

    /// Whoever moved an address to a node that fails here may have seen it recover: it is asked once more before it is left.
    fn ask_new_holders(&mut self, now: Time) {
        for address in &self.cluster.addresses {
            let Some(holder) = self.holder_now(address, now) else { continue };
            let before = self.held.insert(address.id.clone(), holder.clone());
            if self.cluster.nodes.get(&holder).is_some_and(is_probed)
                && before.is_some_and(|before| before != holder)
                && let Some(memory) = self.nodes.get_mut(&holder)
            {
                memory.probes.values_mut().for_each(|probing| probing.ask_anew(now));
            }
        }
    }

    fn start_probes(&mut self, around: &mut Surroundings<'_>, wants: &mut Wants) {
        let now = around.now;
        let policy = &self.cluster.policy;
        let mut wake: Option<Time> = None;
        let mut soon = |at: Time| wake = Some(wake.map_or(at, |wake: Time| wake.min(at)));
        let mut due_now = Vec::new();
        for (id, memory) in &self.nodes {
            let runs = self.cluster.nodes.get(id).is_some_and(is_probed);
            for (check, probing) in &memory.probes {
                if let Some(at) = probing.expires() {
                    soon(at);
                }
                let Some(due) = probing.next_start(policy).filter(|_| runs) else { continue };
                match probing.target() {
                    _ if due > now => soon(due),
                    Some(target) => due_now.push((due, id, check, target)),
                    None => {}
                }
            }
        }
        if due_now.len() > around.probes_left {
            // Who waits longest is first.
            due_now.sort_by_key(|(due, ..)| *due);
            due_now.truncate(around.probes_left);
            wants.starved = true;
        }
        wants
            .probes
            .extend(due_now.into_iter().map(|(_, id, check, target)| (id.clone(), check.clone(), target.clone())));
        self.probes_wake = wake;
    }

    /// Notes a probe as started, and when to look at it again.
    pub fn started(&mut self, id: u64, node: &InstanceId, check: &Check, now: Time) {
        let policy = &self.cluster.policy;
        let Some(probing) = self.nodes.get_mut(node).and_then(|memory| memory.probes.get_mut(check)) else { return };
        probing.start(id, now);
        for at in [probing.expires(), probing.next_start(policy)].into_iter().flatten() {
            self.probes_wake = Some(self.probes_wake.map_or(at, |wake| wake.min(at)));
        }
    }

    fn rule(&mut self, around: &mut Surroundings<'_>, wants: &mut Wants) {
        let now = around.now;
        let looks = &around.looks;
        // What may be read, and has not been yet, is older than any move.
        let statuses_from = (!looks.status.is_hopeless()).then(|| looks.status.asked.unwrap_or_default());
        let alarms = self.cluster.nodes.values().flat_map(|node| node.checks.iter()).filter_map(|check| match check {
            Check::Alarm(name) => Some(looks.alarm_names.told(name.as_ref())),
            _ => None,
        });
        let told: Vec<Option<Time>> = alarms.collect();
        let has_alarms = !told.is_empty();
        // Those that were never told anything of leave their node's finding unread, or were given up.
        let alarms_from = told.into_iter().flatten().min();
        let readable_alarms_from = alarms_from.filter(|_| !looks.alarms.is_hopeless());
        let addresses_from = looks.addresses.asked.unwrap_or(now);
        let oldest = |times: [Option<Time>; 3]| times.into_iter().flatten().min().unwrap_or_default();
        let facts_from = oldest([looks.instances.asked, statuses_from.or(looks.status.asked), alarms_from]);
        let readable_from = oldest([looks.instances.asked, statuses_from, readable_alarms_from]);
        for address in &self.cluster.addresses {
            let memory = self.memory.entry(address.id.clone()).or_default();
            let moving = self.moving.contains_key(&address.id);
            memory.unrecorded = unrecorded(address, memory, now).filter(|_| !moving).map(|(id, ..)| {
                let since = memory.unrecorded.as_ref().filter(|(of, _)| *of == id).map(|(_, since)| *since);
                (id, since.unwrap_or(addresses_from))
            });
            let gone = |id: &InstanceId| self.findings.get(id).is_some_and(|finding| finding.verdict == Verdict::Gone);
            let state = remembered(address, Some(memory));
            let needs_rescue = match &address.holder {
                Holder::Nobody => true,
                Holder::Node(_) => decide::holder(&self.cluster, address, state, now).is_some_and(gone),
                Holder::Loose(interface, read) => {
                    memory.loose(interface).is_some_and(|since| read.since(since) >= LOOSE_FOR)
                }
                _ => false,
            };
            memory.rescue_since = if needs_rescue { memory.rescue_since.or(Some(now)) } else { None };
            memory.unclear_since = match &address.holder {
                // An answer that leaves it out counts, none that fails to come.
                Holder::Unclear(interface) if around.looks.interfaces.error.is_none() => {
                    let told = around.looks.interfaces.asked.is_some_and(|asked| asked >= addresses_from);
                    let since = memory.unclear_since.take().filter(|(of, _)| of == interface);
                    since.or_else(|| told.then(|| (interface.clone(), now)))
                }
                _ => None,
            };
            match &address.holder {
                Holder::Loose(interface, read) => {
                    // Another interface than before is seen for the first time.
                    let since = memory.loose(interface).unwrap_or(*read);
                    memory.loose_since = Some((interface.clone(), since));
                    let again = since + LOOSE_FOR;
                    // It counts once a reading that was made then shows it still so.
                    if *read < again {
                        around.looks.want_interface(interface, again.max(now));
                        // It may be gone by then, and the address with it: what EC2 leaves out has been asked about since.
                        let in_vain =
                            around.looks.interfaces.asked.is_some_and(|asked| asked >= addresses_from.max(again));
                        if in_vain || around.facts.addresses_at.is_none_or(|at| at < again) {
                            around.looks.want_addresses(again.max(addresses_from + BACKOFF_MAX_URGENT).max(now));
                        }
                    }
                }
                Holder::Unclear(interface)
                    if !around.looks.interfaces.is_hopeless()
                        && memory.unclear_since.as_ref().is_none_or(|(_, since)| now.since(*since) < LOOSE_FOR) =>
                {
                    around.looks.want_interface(interface, now);
                    // It may be gone, and the address with it.
                    if around.looks.interfaces.asked.is_some_and(|asked| asked >= addresses_from) {
                        around.looks.want_addresses((addresses_from + BACKOFF_MAX_URGENT).max(now));
                    }
                }
                // No sweep waits for what may not be read, or is not told in time; a watch tries it again.
                Holder::Unclear(interface) if around.looks.repeats() => {
                    around.looks.want_interface(interface, now + GIVEN_UP_FOR);
                }
                // What belonged to something else may have been let go of since: EC2 calls a terminated node's in use for a while.
                Holder::Outsider { instance: None, .. } if around.looks.repeats() => {
                    memory.loose_since = None;
                    if let Some((interface, read)) = around.facts.interface_of(&address.id) {
                        around.looks.want_interface(interface, (read + INTERFACE_BELIEVED).max(now));
                    }
                }
                _ => memory.loose_since = None,
            }
        }
        self.rulings = decide::decide(Question {
            cluster: &self.cluster,
            findings: &self.findings,
            since: &self.since,
            memory: &self.memory,
            taken: around.taken,
            facts_from,
            readable_from,
            nodes_from: around.looks.instances.asked.unwrap_or_default(),
            unreadable: around.looks.interfaces.error.as_ref().filter(|error| error.is_hopeless()),
            manual: around.manual,
            now,
        });
        if let Some(at) = self.rulings.iter().filter_map(|ruling| ruling.reading_wanted).max() {
            around.looks.want_of_nodes(at, has_alarms);
        }
        let waits_for_holder = |address: &ClusterAddress| {
            let pending = self.rulings.iter().any(|ruling| ruling.address == address.id && ruling.pending);
            let state = remembered(address, self.memory.get(&address.id));
            pending && decide::unseen_move(&self.cluster, address, state, now).is_some()
        };
        if self.cluster.addresses.iter().any(waits_for_holder) {
            around.looks.want_addresses((addresses_from + BACKOFF_MAX_URGENT).max(now));
        }
        let about_to_fail =
            self.cluster.addresses.iter().any(|address| {
                address.holder.instance().and_then(|id| self.nodes.get(id)).is_some_and(|memory| {
                    memory.probes.values().any(|probing| probing.about_to_fall(&self.cluster.policy))
                })
            });
        if about_to_fail
            && around.writes
            && around.facts.addresses_at.is_none_or(|at| now.since(at) >= FRESH_WHEN_FAILING)
        {
            around.looks.want_addresses(now);
        }
        let rulings = std::mem::take(&mut self.rulings);
        for ruling in &rulings {
            let id = &ruling.address;
            if ruling.pending {
                if let Some(intent) = self.intended.get_mut(id) {
                    // What is decided after that is decided anew.
                    intent.since = None;
                }
                continue;
            }
            if self.moving.contains_key(id) {
                continue;
            }
            let address = self.cluster.addresses.iter().find(|address| &address.id == id);
            let holder = address.and_then(|address| self.holder_now(address, now));
            let shown = address.and_then(|address| address.holder.instance());
            let intended = self.intended.remove(id);
            if let Some(Intent { from, .. }) = &intended
                && *from != holder
                && from.as_ref() != shown
                && let Some(address) = address
            {
                // Decided on an older reading than the one before the move.
                let decision = moved_elsewhere(address.public_ip, &self.held_by(address, now));
                self.tell_decision(id, &decision, now, wants);
                self.decisions.insert(id.clone(), decision);
                let memory = self.memory.entry(id.clone()).or_default();
                if memory.order.take_if(|order| order.to.is_none()).is_some() {
                    // It was to leave a holder that it has left.
                    self.dirty = true;
                    continue;
                }
            }
            self.tell_decision(id, &ruling.decision, now, wants);
            self.note_decision(id, &ruling.decision);
            if let Some(plan) = ruling.plan.as_ref().filter(|_| around.writes && !self.hold) {
                let same = |before: &Intent| before.why == plan.why && before.from == plan.from;
                let since = intended.filter(same).and_then(|before| before.since).unwrap_or(now);
                let intent = Intent { from: plan.from.clone(), why: plan.why, since: Some(since) };
                self.intended.insert(id.clone(), intent);
                wants.moves.push(id.clone());
            }
        }
        self.rulings = rulings;
    }

    fn tell_decision(&mut self, id: &AllocationId, decision: &Decision, now: Time, wants: &mut Wants) {
        let last = self.logged.get(id);
        let well = || decision.kind == Kind::Stay && decision.why == Why::Healthy;
        let known = last.map_or_else(well, |last| same(last, decision));
        if !known {
            wants.log.push(Record::Decision {
                at: now,
                cluster: self.cluster.name.clone(),
                address: id.clone(),
                decision: decision.clone(),
            });
            self.logged.insert(id.clone(), decision.clone());
        }
    }

    /// Keeps the last decision that was not to stay, or else the last. A move that was never begun does not count: it was decided on an
    /// older reading, and dropped.
    fn note_decision(&mut self, id: &AllocationId, decision: &Decision) {
        let last = self.decisions.get(id);
        let keep = decision.kind == Kind::Stay
            && last.is_some_and(|last| match last.kind {
                Kind::Stay => last.why == Why::MovedElsewhere,
                Kind::Move => self.moves.contains_key(id),
                Kind::Blocked => true,
            });
        if !keep && last != Some(decision) {
            self.decisions.insert(id.clone(), decision.clone());
        }
    }

    fn record_health(&mut self, around: &mut Surroundings<'_>, wants: &mut Wants) {
        if !around.writes {
            return;
        }
        let now = around.now;
        for (id, node) in &self.cluster.nodes {
            let (Some(finding), Some(since), Some(memory)) =
                (self.findings.get(id), self.since.get(id), self.nodes.get_mut(id))
            else {
                continue;
            };
            let may = node.member
                && !matches!(
                    node.state,
                    None | Some(InstanceState::ShuttingDown | InstanceState::Terminated | InstanceState::Unknown)
                )
                && !memory.recording
                && memory.left_alone_until.is_none_or(|until| now >= until);
            if !may {
                memory.differs_since = None;
                continue;
            }
            // A doubt meanwhile makes what was read no older.
            if !finding.settled || finding.verdict == Verdict::Suspect {
                continue;
            }
            let old = node.health.as_ref();
            // What put an end to an announcement says nothing of a later life.
            let overruling = memory.undrained.filter(|it| memory.overruled && node.in_this_life(it.at));
            let undrained =
                overruling.or(old.and_then(|health| health.undrained)).filter(|undrain| node.in_this_life(undrain.at));
            // What was written in an earlier life is no memory of this one, however alike: `stable` would begin anew in each invocation. A
            // clock behind EC2's cannot mend that.
            let of_this_life = |at: Time| node.in_this_life(at) || !node.in_this_life(since.verdict);
            let same = old.is_some_and(|old| {
                // One of an earlier life, written by who did not know of this one, would stand there for good. (Agents and EC2 repeat
                // theirs.)
                let void = old.notice().is_some_and(|of| !of_this_life(of.noticed));
                old.verdict == finding.verdict
                    && of_this_life(old.since)
                    && !void
                    && old.leaving.as_ref().map(|of| &of.kind) == finding.leaving.as_ref().map(|of| &of.kind)
                    && (overruling.is_none() || old.undrained == overruling)
            });
            if same {
                memory.differs_since = None;
                continue;
            }
            // Another invocation may have written down an announcement that nobody repeats.
            let differs_since = *memory.differs_since.get_or_insert(now);
            let read_from = differs_since.max(now - NODES_BEFORE_HEALTH) - READ_BEFORE_HEALTH;
            if !around.looks.instances.failing() && around.looks.node_asked(id).is_none_or(|asked| asked < read_from) {
                around.looks.want_node(id, now);
                continue;
            }
            memory.differs_since = None;
            let why = (finding.verdict != Verdict::Healthy).then(|| plain(&finding.why(), WHY_CHARS));
            let health = Health {
                verdict: finding.verdict,
                since: since.verdict.whole_second(),
                why,
                leaving: finding.leaving.clone(),
                undrained,
            };
            memory.recording = true;
            wants.health.push((id.clone(), health.to_string(), health));
        }
    }

    /// What could not be read of the tags that are about to be written over stays in the answer: nobody could find it afterwards.
    pub fn keep_garbled_memory(&mut self, keys: &Keys) {
        let ours = |problem: &&String| problem.starts_with(&keys.state) || problem.starts_with(&keys.health);
        for problem in self.cluster.problems.iter().filter(ours) {
            if !self.notes.contains(problem) && self.notes.len() < MAX_NOTES {
                self.notes.push(problem.clone());
            }
        }
    }

    /// A health tag was written, or given up.
    pub fn recorded_health(&mut self, id: &InstanceId, health: &Health, written: bool, now: Time) {
        if let Some(memory) = self.nodes.get_mut(id) {
            memory.recording = false;
            memory.left_alone_until = (!written).then(|| now + TAG_LEFT_ALONE);
        }
        if written && let Some(node) = self.cluster.nodes.get_mut(id) {
            node.health = Some(health.clone());
        }
    }

    /// A health tag is not written after all: what it should say is decided afresh.
    pub fn forget_recording(&mut self, id: &InstanceId) {
        if let Some(memory) = self.nodes.get_mut(id) {
            memory.recording = false;
        }
        self.dirty = true;
    }

    /// A holder that somebody else chose is taken as it is, and remembered.
    fn adopt(&mut self, around: &mut Surroundings<'_>, wants: &mut Wants) {
        if !around.writes {
            return;
        }
        let now = around.now;
        let asked = around.looks.addresses.asked;
        for address in &self.cluster.addresses {
            let Some(memory) = self.memory.get_mut(&address.id) else { continue };
            let Some((_, first)) = memory.unrecorded else { continue };
            if asked.is_none_or(|asked| asked < first + ADOPT_AFTER) {
                around.looks.want_addresses((first + ADOPT_AFTER).max(now));
                continue;
            }
            let Some((holder, from, mut moves)) = unrecorded(address, memory, now) else { continue };
            memory.unrecorded = None;
            moves.push(now.whole_second());
            let adopted =
                State { holder, since: now.whole_second(), from: Some(from), why: EXTERNAL.to_owned(), moves };
            memory.made(adopted.clone(), address.state.as_ref());
            wants.states.push((address.id.clone(), adopted));
            self.dirty = true;
        }
    }

    /// Every probe of these nodes ends with the invocation: the runs of successes are told.
    pub fn finish(&mut self, log: &mut Vec<Record>) {
        for (id, memory) in &mut self.nodes {
            for (check, passes) in std::mem::take(&mut memory.passes) {
                log.push(passes_record(&self.cluster.name, id, &check, &passes));
            }
        }
    }

    /// The longest streak of failed probes of a node in this invocation.
    pub fn longest_fails(&self, id: &InstanceId) -> u32 {
        self.nodes
            .get(id)
            .and_then(|memory| memory.probes.values().map(|probing| probing.longest_fails).max())
            .unwrap_or_default()
    }

    /// When the first sign of the holder's failure was seen.
    pub fn failing_since(&self, id: Option<&InstanceId>) -> Option<Time> {
        self.nodes.get(id?)?.probes.values().filter_map(|probing| probing.failing_since).min()
    }

    /// Who holds an address, a stale read of it put right.
    pub fn holder_now(&self, address: &ClusterAddress, now: Time) -> Option<InstanceId> {
        decide::holder(&self.cluster, address, remembered(address, self.memory.get(&address.id)), now).cloned()
    }

    /// The same for people, whatever holds it.
    pub fn held_by(&self, address: &ClusterAddress, now: Time) -> String {
        let holder = self.holder_now(address, now);
        holder.map_or_else(|| self.cluster.holder_text(&address.holder), |id| self.cluster.label(&id))
    }

    /// With `via=public`: where nodes are probed whose address an old reading shows on another. It is the new holder's.
    fn believed_public(&self, now: Time) -> BTreeMap<InstanceId, Option<Ipv4Addr>> {
        let addresses = || self.cluster.addresses.iter().filter(|_| self.cluster.policy.via == Via::Public);
        let held_by = |id: &InstanceId| addresses().find(|address| self.holder_now(address, now).as_ref() == Some(id));
        let parties = addresses().map(|address| [self.holder_now(address, now), address.holder.instance().cloned()]);
        let differ = parties.filter(|[holder, shown]| holder != shown).flatten().flatten();
        differ.map(|id| (id.clone(), held_by(&id).map(|address| address.public_ip))).collect()
    }

    /// Nodes that could receive an address of the cluster now.
    pub fn candidates(&self) -> BTreeSet<InstanceId> {
        self.rulings.iter().flat_map(|ruling| ruling.candidates.iter().cloned()).collect()
    }
}

/// What is said when a decision is dropped because its address is no longer where it was, but `who` holds it.
pub fn moved_elsewhere(ip: Ipv4Addr, who: &str) -> Decision {
    Decision {
        kind: Kind::Stay,
        to: None,
        why: Why::MovedElsewhere,
        text: format!(
            "{ip} is now held by {who}: another invocation or somebody moved it meanwhile. The decision to move it is dropped."
        ),
        vetoes: Vec::new(),
        would: None,
    }
}

/// A holder that no record names: who it is, who held it before, and the moves on record.
fn unrecorded(
    address: &ClusterAddress,
    memory: &mut AddressMemory,
    now: Time,
) -> Option<(InstanceId, InstanceId, Vec<Time>)> {
    let Holder::Node(id) = &address.holder else { return None };
    let (before, moves) = match remembered(address, Some(memory)) {
        Some(state) if is_stale(&address.holder, Some(state), now) => return None,
        Some(state) => (state.holder.clone(), state.moves.clone()),
        // No tag says who held it before, but this invocation has seen it.
        None => (memory.first_holder.get_or_insert_with(|| id.clone()).clone(), Vec::new()),
    };
    (before != *id).then(|| (id.clone(), before, moves))
}

/// Whether it runs, for all that is known.
fn is_probed(node: &Node) -> bool {
    matches!(node.state, None | Some(InstanceState::Running))
}

fn back_from_doubt(before: Option<Verdict>, now: Verdict) -> bool {
    before == Some(Verdict::Suspect) && now == Verdict::Healthy
}

/// Whether two decisions are the same but for what they say to people.
fn same(one: &Decision, other: &Decision) -> bool {
    let would = |decision: &Decision| decision.would.as_ref().map(|would| (would.kind, would.why, would.to.clone()));
    (one.kind, one.why, &one.to) == (other.kind, other.why, &other.to) && would(one) == would(other)
}

/// `ip`: where it is probed, if anywhere.
fn aim(node: &Node, ip: Option<&Ipv4Addr>, memory: &mut NodeMemory, policy: &Policy) {
    let of_this_life = node.health.as_ref().filter(|health| node.in_this_life(health.since));
    let remembered = of_this_life.map(|health| health.verdict);
    memory.probes.retain(|check, _| node.checks.contains(check));
    for check in node.checks.iter() {
        let Check::Probe { scheme, port, path } = check else { continue };
        let aimed = |target: &ProbeTarget| {
            Some(&target.ip) == ip && target.host == policy.host && target.timeout == policy.timeout
        };
        if memory.probes.get(check).and_then(Probing::target).is_some_and(aimed) {
            continue;
        }
        let probing = memory.probes.entry(check.clone()).or_insert_with(|| Probing::new(check, remembered));
        probing.aim(ip.map(|ip| ProbeTarget {
            scheme: *scheme,
            ip: *ip,
            port: *port,
            path: path.clone(),
            host: policy.host.clone(),
            timeout: policy.timeout,
        }));
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one log line")]
fn tell_probe(
    memory: &mut NodeMemory,
    cluster: &crate::core::model::ClusterName,
    node: &InstanceId,
    check: &Check,
    target: ProbeTarget,
    judged: &verdict::Judged,
    answer: &Answer,
    now: Time,
    log: &mut Vec<Record>,
) {
    if judged.ok == Some(true) {
        let took = now.since(judged.started);
        let passes = memory.passes.entry(check.clone()).or_insert_with(|| Passes {
            since: judged.started,
            at: now,
            count: 0,
            slowest: took,
            slowest_at: judged.started,
            total: Duration::ZERO,
            answer: answer.clone(),
        });
        passes.at = now;
        passes.count = passes.count.saturating_add(1);
        passes.total = passes.total.saturating_add(took);
        if took > passes.slowest {
            (passes.slowest, passes.slowest_at) = (took, judged.started);
        }
        passes.answer = answer.clone();
        return;
    }
    flush_one(memory, cluster, node, check, log);
    log.push(probe_record(cluster, node, check, target, judged, answer, now));
}

fn flush_one(
    memory: &mut NodeMemory,
    cluster: &crate::core::model::ClusterName,
    node: &InstanceId,
    check: &Check,
    log: &mut Vec<Record>,
) {
    if let Some(passes) = memory.passes.remove(check) {
        log.push(passes_record(cluster, node, check, &passes));
    }
}

/// A probe that has just timed out ends a run of successes.
fn flush_passes(
    memory: &mut NodeMemory,
    cluster: &crate::core::model::ClusterName,
    node: &InstanceId,
    log: &mut Vec<Record>,
) {
    let ended: Vec<Check> = memory
        .passes
        .keys()
        .filter(|check| memory.probes.get(*check).is_none_or(|probing| probing.failing_since.is_some()))
        .cloned()
        .collect();
    for check in ended {
        flush_one(memory, cluster, node, &check, log);
    }
}

fn passes_record(
    cluster: &crate::core::model::ClusterName,
    node: &InstanceId,
    check: &Check,
    passes: &Passes,
) -> Record {
    Record::Passes {
        at: passes.at,
        since: passes.since,
        cluster: cluster.clone(),
        node: node.clone(),
        check: check.to_string(),
        count: passes.count,
        slowest_ms: millis(passes.slowest),
        slowest_at: Some(passes.slowest_at),
        mean_ms: Some(millis(passes.total / passes.count.max(1))),
        answer: passes.answer.clone(),
    }
}

fn probe_record(
    cluster: &crate::core::model::ClusterName,
    node: &InstanceId,
    check: &Check,
    target: ProbeTarget,
    judged: &verdict::Judged,
    answer: &Answer,
    now: Time,
) -> Record {
    Record::Probe {
        at: now,
        started: judged.started,
        cluster: cluster.clone(),
        node: node.clone(),
        check: check.to_string(),
        target,
        answer: answer.clone(),
        ok: judged.ok,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::decide::tests::Scene;
    use crate::core::model::{InstanceStatus, ScheduledEvent, Scheme, StatusCheck};

    /// All is well, and looked at: the address is on `i-1`, beside `i-2` and `i-3`.
    fn watched() -> Watched {
        let scene = Scene::new();
        let mut watched = Watched::new(scene.cluster.clone());
        watched.nodes = scene.cluster.nodes.keys().map(|id| (id.clone(), NodeMemory::default())).collect();
        watched.rulings = vec![scene.rule()];
        watched.findings = scene.findings;
        watched
    }

    fn now() -> Time {
        Time::from_millis(1_000_000)
    }

    fn settle(watched: &mut Watched, id: &str, settled: bool) {
        watched.findings.get_mut(&InstanceId::from(id)).unwrap().settled = settled;
    }

    #[test]
    fn a_new_doubt_of_one_that_holds_nothing_puts_off_no_end() {
        let mut watched = watched();
        assert!(watched.is_settled(false, now()), "nothing is open");
        settle(&mut watched, "i-2", false);
        assert!(!watched.is_settled(true, now()), "it has never been settled since the watch's time was over");
        settle(&mut watched, "i-2", true);
        assert!(watched.is_settled(true, now()));
        for (id, ends) in [("i-2", true), ("i-1", false)] {
            settle(&mut watched, id, false);
            assert_eq!(watched.is_settled(true, now()), ends, "{id}");
            settle(&mut watched, id, true);
        }
    }

    #[test]
    fn what_a_healthy_holder_waits_for_puts_off_no_end() {
        let mut watched = watched();
        watched.rulings[0].pending = true;
        assert!(!watched.is_settled(false, now()), "there is time");
        assert!(watched.is_settled(true, now()));
        let ruling = watched.rulings[0].clone();
        watched.rulings[0].reading_wanted = Some(now());
        assert!(!watched.is_settled(true, now()), "a reading is waited for");
        watched.rulings[0] = ruling.clone();
        watched.rulings[0].decision.why = Why::Settling;
        assert!(!watched.is_settled(true, now()), "it settles");
        watched.rulings[0] = ruling.clone();
        watched.rulings[0].decision.kind = Kind::Blocked;
        assert!(!watched.is_settled(true, now()), "it is blocked");
        watched.rulings[0] = ruling;
        watched.findings.get_mut(&InstanceId::from("i-1")).unwrap().verdict = Verdict::Suspect;
        assert!(!watched.is_settled(true, now()), "the holder has begun to fail");
    }

    #[test]
    fn what_lasts_is_not_judged_anew_at_each_probe() {
        let mut watched = watched();
        assert!(watched.is_lasting(now()));
        let id = InstanceId::from("i-2");
        let status = |scheduled| InstanceStatus {
            id: id.clone(),
            system: StatusCheck::Ok,
            instance: StatusCheck::Ok,
            ebs: StatusCheck::Ok,
            application: StatusCheck::Ok,
            scheduled,
        };
        let event = ScheduledEvent {
            code: "instance-stop".to_owned(),
            description: String::new(),
            not_before: None,
            not_after: None,
        };
        let tell = |watched: &mut Watched, scheduled| {
            watched.cluster.nodes.get_mut(&id).unwrap().status = Some(Arc::new(status(scheduled)));
        };
        tell(&mut watched, vec![event]);
        assert!(!watched.is_lasting(now()), "what is scheduled begins by itself");
        tell(&mut watched, vec![]);
        let memory = watched.nodes.get_mut(&id).unwrap();
        memory.left_alone_until = Some(now() + Duration::from_millis(1));
        assert!(!watched.is_lasting(now()), "its tag is written again then");
        watched.nodes.get_mut(&id).unwrap().left_alone_until = Some(now());
        assert!(watched.is_lasting(now()));
        watched.rulings[0].decision.why = Why::Settling;
        assert!(!watched.is_lasting(now()), "that ends by itself");
    }

    #[test]
    fn while_it_is_calm_only_probes_are_looked_at() {
        let mut watched = watched();
        (watched.calm, watched.dirty) = (true, false);
        assert!(watched.only_probes(now()));
        watched.wake = Some(now() + Duration::from_millis(1));
        assert!(watched.only_probes(now()));
        watched.wake = Some(now());
        assert!(!watched.only_probes(now()), "it is time");
        watched.wake = None;
        let check = Check::Probe { scheme: Scheme::Tcp, port: 80, path: "".into() };
        let mut probing = Probing::new(&check, None);
        probing.aim(Some(ProbeTarget {
            scheme: Scheme::Tcp,
            ip: Ipv4Addr::new(10, 0, 0, 2),
            port: 80,
            path: "".into(),
            host: None,
            timeout: Duration::from_secs(1),
        }));
        probing.start(1, now());
        watched.nodes.get_mut(&InstanceId::from("i-2")).unwrap().probes.insert(check, probing);
        assert!(watched.only_probes(now() + Duration::from_millis(999)));
        assert!(!watched.only_probes(now() + Duration::from_secs(1)), "a probe's time is up");
    }
}
