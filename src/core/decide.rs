//! What should happen to each address of a cluster, and why: a pure function of what is known.
//!
//! [`decide`] neither waits nor acts. It says when it is too early to say (`pending`), what speaks against every node (`vetoes`), and
//! with a move the exact place (`plan`), so that whoever acts has no choices left.
//!
//! For each address: an order of the command `move` first; else what holds the address decides which rule applies. Nobody, an interface
//! attached to nothing, or a holder that is gone: `rescue`. A holder that is leaving or drained: `evict`. An unhealthy one: `failover`, which asks
//! the `brake`. Any other: `keep`, which asks for a `failback`. Last, the mode and what EC2 has forbidden may turn a move into a stay or a block.
//!
//! Architecture invariant: the same question gives the same answer. No node is a target but by `rate`, which lists every objection.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{AllocationId, CloudError, InstanceId, InstanceState, InterfaceId};
use super::policy::Via;
use super::snapshot::{Cluster, ClusterAddress, Holder, Node, Slot, Taken};
use super::tags::{AddressMode, NodeMode, State, Verdict};
use super::time::{Time, duration_text};
use super::verdict::Finding;

/// For how long after a verified move a read that shows the previous holder is taken as stale.
pub const SETTLING: Duration = Duration::from_secs(30);
/// How long a rescue waits at most for running nodes to settle before it takes the best there is.
pub const LAST_RESORT_AFTER: Duration = Duration::from_secs(5);
/// How long a move that has waited for the brake, or a failback that has fallen due, waits for its nodes to be read once more.
pub const READ_AFTER_WAIT: Duration = Duration::from_secs(3);
/// How often it is looked whether a target has been seen since the address was moved away from it.
pub const SEEN_SINCE_EVERY: Duration = Duration::from_millis(250);
/// How long before a move that nothing is urgent about nodes must have been asked for.
pub const NODES_BEFORE_CHOICE: Duration = Duration::from_secs(12);
/// How far apart an interface must be seen attached to nothing before its address is free for rescue, and how long one of which EC2 tells
/// nothing is asked about before its address is left alone.
pub const LOOSE_FOR: Duration = Duration::from_secs(10);

/// After so many nodes to which AWS does not allow the move it is taken for forbidden to all.
pub const MAX_FORBIDDEN: usize = 5;

/// What kind of decision it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing is to be done.
    Stay,
    /// The address is to go to another node.
    Move,
    /// It should go, but may not.
    Blocked,
}

/// Why: the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Move: nobody holds the address.
    NoHolder,
    /// Move: the holder is stopped, terminated, or about to be.
    HolderGone,
    /// Move: the holder has been announced to stop.
    HolderLeaving,
    /// Move: the holder is drained.
    HolderDraining,
    /// Move: the holder fails its checks.
    HolderUnhealthy,
    /// Move: back to the preferred node.
    Failback,
    /// Move: by command.
    Manual,
    /// Move: nobody is a candidate, but there is nothing to lose.
    LastResort,
    /// Stay: all is well.
    Healthy,
    /// Stay: nobody may take the address.
    NoCandidate,
    /// Stay: nothing moves by itself.
    ManualMode,
    /// Stay: something outside the cluster holds it.
    Outsider,
    /// Stay: the read is older than the last move.
    Settling,
    /// Stay: somebody else moved it meanwhile.
    MovedElsewhere,
    /// Blocked: the brake.
    MaxMoves,
    /// Blocked: every private address is occupied.
    NoFreePrivateAddress,
    /// Blocked: AWS refuses it to the watcher.
    NotPermitted,
    /// Blocked: a command that asked for what is not allowed.
    Refused,
}

impl Why {
    /// Every reason, as the contract lists them: for moves, for staying, for blocks.
    pub const ALL: [Why; 18] = [
        Why::NoHolder,
        Why::HolderGone,
        Why::HolderLeaving,
        Why::HolderDraining,
        Why::HolderUnhealthy,
        Why::Failback,
        Why::Manual,
        Why::LastResort,
        Why::Healthy,
        Why::NoCandidate,
        Why::ManualMode,
        Why::Outsider,
        Why::Settling,
        Why::MovedElsewhere,
        Why::MaxMoves,
        Why::NoFreePrivateAddress,
        Why::NotPermitted,
        Why::Refused,
    ];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::NoHolder => "no-holder",
            Why::HolderGone => "holder-gone",
            Why::HolderLeaving => "holder-leaving",
            Why::HolderDraining => "holder-draining",
            Why::HolderUnhealthy => "holder-unhealthy",
            Why::Failback => "failback",
            Why::Manual => "manual",
            Why::LastResort => "last-resort",
            Why::Healthy => "healthy",
            Why::NoCandidate => "no-candidate",
            Why::ManualMode => "manual-mode",
            Why::Outsider => "outsider",
            Why::Settling => "settling",
            Why::MovedElsewhere => "moved-elsewhere",
            Why::MaxMoves => "max-moves",
            Why::NoFreePrivateAddress => "no-free-private-address",
            Why::NotPermitted => "not-permitted",
            Why::Refused => "refused",
        }
    }

    /// Whether moves for this reason are counted by the brake.
    pub fn counted(self) -> bool {
        matches!(self, Why::HolderUnhealthy | Why::Failback)
    }

    /// Whether the holder need not fail: nothing is lost by a wait.
    pub fn can_wait(self) -> bool {
        matches!(self, Why::HolderLeaving | Why::HolderDraining | Why::Failback)
    }

    /// Whether the address has no living holder: such moves come first, and nothing holds them back.
    pub fn rescue(self) -> bool {
        matches!(self, Why::NoHolder | Why::HolderGone | Why::LastResort)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long after a move its traffic may still go to the holder before: about 5 s by field reports. Who probes the address itself
/// (`via=public`) learns nothing of the new holder until then.
pub const TRAFFIC_FOLLOWS: Duration = Duration::from_secs(10);

/// `why=` of a state tag for a move that others made.
pub const EXTERNAL: &str = "external";

/// A decision, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Stay, move or blocked.
    pub kind: Kind,
    /// The node to move to.
    pub to: Option<InstanceId>,
    /// The contract's word for the reason.
    pub why: Why,
    /// One sentence for people.
    pub text: String,
    /// What speaks against each node that is no candidate.
    pub vetoes: Vec<String>,
    /// In manual mode: what it would have been.
    pub would: Option<Box<Decision>>,
}

/// What an invocation remembers of an address.
#[derive(Clone, Debug, Default)]
pub struct AddressMemory {
    /// The state as this invocation last made or adopted it; newer than the tag's until the tag is written.
    pub state: Option<State>,
    /// Those known when that was made that are at most [`SETTLING`] older, or later: a tag that shows one of them is no news. Times in tags
    /// are whole seconds, and any other of its second is newer.
    pub earlier: Vec<State>,
    /// The node that held it when this invocation first saw it, where no state said so.
    pub first_holder: Option<InstanceId>,
    /// Nodes that EC2 refused in this invocation, and why.
    pub refused: BTreeMap<InstanceId, String>,
    /// Nodes to which AWS does not allow this caller to move it, and what it says: another may do.
    pub forbidden: BTreeMap<InstanceId, String>,
    /// Set once the address can't be moved in this invocation at all.
    pub barred: Option<String>,
    /// Since when it has needed a rescue.
    pub rescue_since: Option<Time>,
    /// Who holds it although no record says so, and when the first reading that showed that was asked for.
    pub unrecorded: Option<(InstanceId, Time)>,
    /// The interface that it sits on, and since when that is known to be attached to nothing.
    pub loose_since: Option<(InterfaceId, Time)>,
    /// The interface that it sits on, and since when it is asked in vain what that is.
    pub unclear_since: Option<(InterfaceId, Time)>,
    /// A command to move it.
    pub order: Option<Order>,
}

impl AddressMemory {
    /// Takes what was made or adopted just now for the newest, newer than what the tag shows.
    pub fn made(&mut self, state: State, shown: Option<&State>) {
        self.earlier.extend(self.state.take().into_iter().chain(shown.cloned()));
        self.earlier.retain(|earlier| state.since.since(earlier.since) <= SETTLING);
        self.state = Some(state);
    }

    /// AWS does not allow this caller to move it to this node.
    pub fn forbid(&mut self, to: InstanceId, why: String) {
        self.forbidden.insert(to, why.clone());
        if self.forbidden.len() >= MAX_FORBIDDEN {
            self.barred = Some(why);
        }
    }

    /// Whether this tag was known when the state in memory was made.
    fn is_earlier(&self, tag: &State) -> bool {
        // How many moves they name may differ: the tag keeps fewer.
        let alike = |earlier: &State| {
            let same = earlier.since.whole_second() == tag.since.whole_second();
            same && earlier.holder == tag.holder && earlier.from == tag.from
        };
        self.earlier.iter().any(alike)
    }

    /// Since when this interface is known to be attached to nothing.
    pub fn loose(&self, interface: &InterfaceId) -> Option<Time> {
        self.loose_since.as_ref().filter(|(of, _)| of == interface).map(|(_, since)| *since)
    }
}

/// A command to move an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where to; `None`: to the best candidate.
    pub to: Option<InstanceId>,
    /// Even to a node that is no candidate.
    pub force: bool,
}

/// Since when a node's verdict holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Since when the verdict is what it is.
    pub verdict: Time,
    /// Since when nothing has spoken against it.
    pub steady: Time,
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The cluster as EC2 showed it.
    pub cluster: &'a Cluster,
    /// What is known of its nodes.
    pub findings: &'a BTreeMap<InstanceId, Finding>,
    /// Since when that has been so.
    pub since: &'a BTreeMap<InstanceId, Since>,
    /// What is remembered of its addresses.
    pub memory: &'a BTreeMap<AllocationId, AddressMemory>,
    /// Which private addresses are taken, moves on their way included.
    pub taken: &'a Taken<'a>,
    /// When the nodes, their status checks and alarms were asked for last, the oldest of these: what happened since is not known.
    pub facts_from: Time,
    /// The same without what EC2 or CloudWatch does not let be read any more: that is not waited for without end.
    pub readable_from: Time,
    /// When the nodes were asked for that are known.
    pub nodes_from: Time,
    /// Why interfaces may not be read, if so.
    pub unreadable: Option<&'a CloudError>,
    /// `EIPWATCH_MODE=manual`.
    pub manual: bool,
    /// The present.
    pub now: Time,
}

/// A move, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who holds the address, as far as is known.
    pub from: Option<InstanceId>,
    /// Who shall.
    pub to: InstanceId,
    /// Where exactly.
    pub slot: Slot,
    /// Why.
    pub why: Why,
    /// To a node that is no candidate, by `force`: the address's mode becomes manual.
    pub forced: bool,
}

/// A decision for one address, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Which address.
    pub address: AllocationId,
    /// The decision.
    pub decision: Decision,
    /// It is too early: some verdict that matters is not settled. Nothing is moved, and the sweep goes on.
    pub pending: bool,
    /// When it has to be asked again although nothing new was seen.
    pub again_at: Option<Time>,
    /// Nodes, their status checks and alarms are to be read then, or later.
    pub reading_wanted: Option<Time>,
    /// The move, if it is one and may be made.
    pub plan: Option<Plan>,
    /// It should go to where EC2 shows it, by what may be an old answer: as if it were on its way there.
    pub back: bool,
    /// Who could take the address now, the best first.
    pub candidates: Vec<InstanceId>,
}

/// What is remembered of an address: this invocation's memory or the tag, whichever is newer; but a hand's of the same time.
pub fn remembered<'a>(address: &'a ClusterAddress, memory: Option<&'a AddressMemory>) -> Option<&'a State> {
    let own = memory.and_then(|memory| Some((memory.state.as_ref()?, memory)));
    match (own, &address.state) {
        (Some((own, memory)), Some(tag)) => {
            let same_second = tag.since == own.since.whole_second();
            let newer = tag.since > own.since || same_second && tag.holder != own.holder || is_by_hand(tag, own);
            Some(if newer && !memory.is_earlier(tag) { tag } else { own })
        }
        (Some((own, _)), None) => Some(own),
        (None, tag) => tag.as_ref(),
    }
}

/// Whether a hand has moved it to the same node at the same time, by this record: then the move is the hand's, and no failback undoes it.
pub fn is_by_hand(record: &State, own: &State) -> bool {
    let by_hand = record.why == Why::Manual.as_str() && own.why != record.why;
    let same = (&record.holder, &record.from) == (&own.holder, &own.from);
    by_hand && same && own.since.since(record.since) < SETTLING
}

/// Whether a read that shows `shown` is older than the last move.
pub fn is_stale(shown: &Holder, state: Option<&State>, now: Time) -> bool {
    state.is_some_and(|state| state.from.is_some() && may_have_moved(shown, state, now))
}

/// The last move, if the reading is older than that: then whom it went to is believed, as long as that is a node.
pub fn unseen_move<'a>(
    cluster: &Cluster,
    address: &ClusterAddress,
    state: Option<&'a State>,
    now: Time,
) -> Option<&'a State> {
    let is_unseen = |state: &&State| is_stale(&address.holder, Some(state), now);
    state.filter(is_unseen).filter(|state| cluster.nodes.contains_key(&state.holder))
}

/// Who holds an address, an old answer put right.
pub fn holder<'a>(
    cluster: &Cluster,
    address: &'a ClusterAddress,
    state: Option<&'a State>,
    now: Time,
) -> Option<&'a InstanceId> {
    let unseen = unseen_move(cluster, address, state, now);
    unseen.map(|state| &state.holder).or_else(|| address.holder.instance())
}

/// Whether a read that shows `shown` may be older than the last move: that of an address that nobody held may have been undone as well.
fn may_have_moved(shown: &Holder, state: &State, now: Time) -> bool {
    now.since(state.since) < SETTLING
        // A time to come was not written by us.
        && state.since.since(now) < SETTLING
        && shown.instance() == state.from.as_ref()
        && shown.instance() != Some(&state.holder)
}

/// Who held it last by the record; where there is none, who did when this invocation first saw it.
fn last_known_holder<'a>(state: Option<&'a State>, memory: Option<&'a AddressMemory>) -> Option<&'a InstanceId> {
    state.map(|state| &state.holder).or_else(|| memory?.first_holder.as_ref())
}

/// When the address was last moved, as far as that is remembered. A time to come was not written by us.
pub fn last_move(state: Option<&State>, now: Time) -> Option<Time> {
    state.map(|state| state.since).filter(|since| since.since(now) < SETTLING)
}

/// Decides for all addresses of a cluster, in order of allocation id, each taking its private address from those left.
pub fn decide(question: Question<'_>) -> Vec<Ruling> {
    let mut held: BTreeMap<&InstanceId, usize> = BTreeMap::new();
    let mut taken = question.taken.clone();
    for address in &question.cluster.addresses {
        let state = remembered(address, question.memory.get(&address.id));
        // As the ruling will have it: an old answer tells nothing of who holds how many.
        if let Some(id) = holder(question.cluster, address, state, question.now) {
            *held.entry(id).or_default() += 1;
        }
        let stays = question.manual || address.mode.in_force(question.now) != AddressMode::Auto;
        if let Some(state) = state.filter(|state| may_have_moved(&address.holder, state, question.now))
            && (state.from.is_some() || !stays)
            && let Some(node) = question.cluster.nodes.get(&state.holder)
            && let Ok(slot) = node.slot_for(&address.id, &taken)
        {
            // Whoever moved it there has chosen so, too.
            taken.give(slot, address.id.clone());
        }
    }
    let mut rulings = Vec::with_capacity(question.cluster.addresses.len());
    for address in &question.cluster.addresses {
        let ruling = Asked { question, address, held: &held, taken: &taken, allowed_only: false }.rule();
        let settled_move = ruling.decision.kind == Kind::Move;
        let plan = ruling.plan.as_ref().filter(|_| settled_move);
        if let Some(plan) = plan {
            taken.give(plan.slot.clone(), address.id.clone());
        }
        let goes_back = address.holder.instance().filter(|_| ruling.back);
        if let Some(to) = plan.map(|plan| &plan.to).or(goes_back) {
            if let Some((id, _)) = question.cluster.nodes.get_key_value(to) {
                *held.entry(id).or_default() += 1;
            }
            let state = remembered(address, question.memory.get(&address.id));
            let holder = holder(question.cluster, address, state, question.now);
            if let Some(count) = holder.and_then(|id| held.get_mut(id)) {
                *count = count.saturating_sub(1);
            }
        }
        rulings.push(ruling);
    }
    rulings
}

struct Asked<'a> {
    question: Question<'a>,
    address: &'a ClusterAddress,
    held: &'a BTreeMap<&'a InstanceId, usize>,
    taken: &'a Taken<'a>,
    /// Only nodes that AWS has not forbidden are asked about.
    allowed_only: bool,
}

/// A node as a target for one address.
struct Rated<'a> {
    node: &'a Node,
    /// Its place, if it is a candidate; else what speaks against it.
    slot: Result<Slot, Veto>,
    /// It may become a candidate within moments.
    promising: bool,
    /// Its verdict is settled.
    settled: bool,
}

/// What the moves on record say of another one.
struct Brake {
    /// How many there were, for people.
    text: String,
    /// When they hold back another no longer.
    until: Time,
}

struct Veto {
    text: String,
    /// Nothing but the lack of a free private address.
    only_slot: bool,
}

/// How much a running node that is no candidate is worth when there is nothing to lose; the smallest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Resort {
    Draining,
    Unknown,
    Unhealthy,
    Leaving,
}

impl<'a> Asked<'a> {
    fn memory(&self) -> Option<&'a AddressMemory> {
        self.question.memory.get(&self.address.id)
    }

    fn finding(&self, id: &InstanceId) -> Option<&'a Finding> {
        self.question.findings.get(id)
    }

    /// Why AWS does not allow the move to this node, if it does not.
    fn forbidden(&self, id: &InstanceId) -> Option<&'a String> {
        self.memory()?.forbidden.get(id)
    }

    fn label(&self, id: &InstanceId) -> String {
        self.question.cluster.label(id)
    }

    fn rank(&self, node: &Node) -> (bool, Reverse<u16>, usize, InstanceId) {
        let preferred = self.address.prefer.as_ref() == Some(&node.id);
        let held = self.held.get(&node.id).copied().unwrap_or_default();
        (!preferred, Reverse(node.priority), held, node.id.clone())
    }

    /// Every node but the holder, the best first.
    fn rated(&self, holder: Option<&InstanceId>) -> Vec<Rated<'a>> {
        let mut nodes: Vec<&'a Node> =
            self.question.cluster.nodes.values().filter(|node| Some(&node.id) != holder).collect();
        nodes.sort_by_cached_key(|node| self.rank(node));
        nodes.into_iter().map(|node| self.rate(node)).collect()
    }

    fn rate(&self, node: &'a Node) -> Rated<'a> {
        let finding = self.finding(&node.id);
        let slot = node.slot_for(&self.address.id, self.taken);
        let (lasting, passing) = self.objections(node, finding);
        let settled = finding.is_some_and(|finding| finding.settled);
        let promising =
            lasting.is_empty() && !settled && slot.is_ok() && finding.is_some_and(|finding| finding.promising);
        let mut against = lasting;
        against.extend(passing);
        let only_slot = against.is_empty();
        let slot = match slot {
            Ok(slot) if against.is_empty() => Ok(slot),
            Ok(_) => Err(Veto { text: against.join(", "), only_slot: false }),
            Err(why) => {
                against.push(why);
                Err(Veto { text: against.join(", "), only_slot })
            }
        };
        Rated { node, slot, promising, settled }
    }

    /// What speaks against a node as a candidate: what will not change by itself within moments, and what may.
    fn objections(&self, node: &Node, finding: Option<&Finding>) -> (Vec<String>, Vec<String>) {
        let mut lasting = Vec::new();
        let mut passing = Vec::new();
        if !node.member {
            lasting.push("it has lost its cluster tag".to_owned());
        }
        match node.state {
            Some(InstanceState::Running) => {}
            Some(state) => lasting.push(state.as_str().to_owned()),
            None => lasting.push("EC2 cannot describe it now".to_owned()),
        }
        match node.mode {
            NodeMode::Active => {}
            NodeMode::Drain => lasting.push("drain".to_owned()),
            NodeMode::Unreadable => lasting.push("its mode cannot be read".to_owned()),
        }
        if !self.same_border_group(node) {
            lasting.push(format!(
                "in network border group {}, the address in {}",
                node.border_group().unwrap_or_default(),
                self.address.border_group.as_deref().unwrap_or_default()
            ));
        }
        if let Some(why) = self.memory().and_then(|memory| memory.refused.get(&node.id)) {
            lasting.push(format!("EC2 refused it: {why}"));
        }
        if self.allowed_only
            && let Some(why) = self.forbidden(&node.id)
        {
            lasting.push(format!("AWS does not allow the move to it: {why}"));
        }
        match finding {
            None => passing.push("not looked at yet".to_owned()),
            Some(finding) => {
                if let Some(leaving) = &finding.leaving {
                    lasting.push(format!("leaving ({})", leaving.kind));
                }
                if finding.impaired {
                    lasting.push("a status check is impaired".to_owned());
                }
                if finding.verdict == Verdict::Gone {
                    if node.state == Some(InstanceState::Running) {
                        lasting.push("gone, says EC2's event".to_owned());
                    }
                } else if finding.verdict != Verdict::Healthy {
                    let (verdict, why) = (finding.verdict.as_str(), finding.why());
                    passing.push(if why == verdict { why } else { format!("{verdict}: {why}") });
                } else if !finding.probes_passed {
                    passing.push("not every probe of it has passed yet".to_owned());
                } else if finding.unread {
                    passing.push("its status checks and alarms are being read".to_owned());
                }
            }
        }
        (lasting, passing)
    }

    fn same_border_group(&self, node: &Node) -> bool {
        match (&self.address.border_group, node.border_group()) {
            (Some(address), Some(node)) => address == node,
            _ => true,
        }
    }

    fn ruling(&self, decision: Decision, rated: &[Rated<'_>]) -> Ruling {
        Ruling {
            address: self.address.id.clone(),
            decision,
            pending: false,
            again_at: None,
            reading_wanted: None,
            plan: None,
            back: false,
            candidates: rated
                .iter()
                .filter(|rated| rated.slot.is_ok() && self.forbidden(&rated.node.id).is_none())
                .map(|rated| rated.node.id.clone())
                .collect(),
        }
    }

    fn decision(&self, kind: Kind, why: Why, text: String, rated: &[Rated<'_>]) -> Decision {
        let vetoes = rated
            .iter()
            .filter_map(|rated| Some(format!("{}: {}", rated.node.id, rated.slot.as_ref().err()?.text)))
            .collect();
        Decision { kind, to: None, why, text, vetoes, would: None }
    }

    fn stay(&self, why: Why, text: String, rated: &[Rated<'_>]) -> Ruling {
        self.ruling(self.decision(Kind::Stay, why, text, rated), rated)
    }

    fn blocked(&self, why: Why, text: String, rated: &[Rated<'_>]) -> Ruling {
        self.ruling(self.decision(Kind::Blocked, why, text, rated), rated)
    }

    fn go(
        &self,
        from: Option<&InstanceId>,
        to: &Node,
        slot: Slot,
        why: Why,
        text: String,
        rated: &[Rated<'_>],
    ) -> Ruling {
        let decision = Decision { to: Some(to.id.clone()), ..self.decision(Kind::Move, why, text, rated) };
        let plan = Plan { from: from.cloned(), to: to.id.clone(), slot, why, forced: false };
        Ruling { plan: Some(plan), ..self.ruling(decision, rated) }
    }

    fn rule(&self) -> Ruling {
        let mode = self.address.mode.in_force(self.question.now);
        let order = self.memory().and_then(|memory| memory.order.as_ref());
        let rule = |asked: &Self| match order {
            Some(order) => asked.rule_order(order),
            None => asked.rule_auto(),
        };
        // Who names a node means that one.
        let allowed_only = order.is_none_or(|order| order.to.is_none());
        let mut ruling = rule(&Asked { allowed_only, ..*self });
        let forbidden = self.memory().map(|memory| &memory.forbidden).filter(|forbidden| !forbidden.is_empty());
        // What the brake holds back goes elsewhere in time.
        let elsewhere = ruling.plan.is_some() || ruling.pending || ruling.decision.why == Why::MaxMoves;
        if let Some(forbidden) = forbidden
            && allowed_only
            && !elsewhere
        {
            // Nowhere else: if it would go to one of these, that is the reason why it does not.
            let all = rule(self);
            if all.plan.as_ref().is_some_and(|plan| forbidden.contains_key(&plan.to)) {
                ruling = all;
            }
        }
        if order.is_none() && (self.question.manual || mode != AddressMode::Auto) {
            let by = if self.question.manual {
                "EIPWATCH_MODE is manual".to_owned()
            } else {
                format!("the address is in mode {mode}")
            };
            let text = format!("{by}: nothing moves by itself. Otherwise: {}", ruling.decision.text);
            (ruling.plan, ruling.back) = (None, false);
            ruling.decision = Decision {
                kind: Kind::Stay,
                to: None,
                why: Why::ManualMode,
                text,
                vetoes: ruling.decision.vetoes.clone(),
                would: Some(Box::new(ruling.decision)),
            };
        } else if let Some(plan) = &ruling.plan
            && let Some(why) =
                self.memory().and_then(|memory| memory.forbidden.get(&plan.to).or(memory.barred.as_ref()))
        {
            let cure = self.cure(why, plan);
            ruling.plan = None;
            ruling.decision.kind = Kind::Blocked;
            ruling.decision.text = format!("{} But AWS refuses the move: {why}{cure}", ruling.decision.text);
            ruling.decision.why = Why::NotPermitted;
        }
        if let Some(expiry) = self.address.mode.until().filter(|expiry| *expiry > self.question.now) {
            ruling.again_at = Some(ruling.again_at.map_or(expiry, |at| at.min(expiry)));
        }
        ruling
    }

    /// What lets a move be made that AWS does not allow, where that is known.
    fn cure(&self, why: &str, plan: &Plan) -> String {
        if ["InvalidAllocationID.", "InvalidElasticIpID.", "InvalidAddress"].iter().any(|code| why.starts_with(code)) {
            return format!(
                ". DescribeAddresses lists the address and AssociateAddress does not find it; no other node was tried. A new one is found within moments, and the next sweep tries again. If it goes on: aws ec2 describe-addresses --allocation-ids {}; if that does not find it either, it was released and cannot be moved.",
                self.address.id
            );
        }
        if !["UnauthorizedOperation", "AccessDenied"].iter().any(|code| why.starts_with(code)) {
            return String::new();
        }
        let (address, to, interface) = (&self.address.id, &plan.to, &plan.slot.interface);
        format!(
            ". The role needs ec2:AssociateAddress on {address}, {to} and {interface}. The shipped policy allows that where address and instance carry the cluster tag and the node is in its VPC; else add {{\"Effect\":\"Allow\",\"Action\":\"ec2:AssociateAddress\",\"Resource\":\"*\"}}."
        )
    }

    fn rule_auto(&self) -> Ruling {
        let now = self.question.now;
        let ip = self.address.public_ip;
        let state = remembered(self.address, self.memory());
        let shown = &self.address.holder;
        let settling = unseen_move(self.question.cluster, self.address, state, now);
        let holder = match (settling, shown) {
            (Some(state), _) => &state.holder,
            (None, Holder::Node(id)) => id,
            (None, Holder::Nobody) => {
                let rated = self.rated(None);
                return self.rescue(None, Why::NoHolder, format!("Nobody holds {ip}"), &rated);
            }
            (None, Holder::Loose(interface, read)) => {
                let rated = self.rated(None);
                let since = self.memory().and_then(|memory| memory.loose(interface)).unwrap_or(*read);
                let text = format!("{ip} sits on interface {interface}, which is attached to nothing");
                if read.since(since) >= LOOSE_FOR {
                    return self.rescue(None, Why::HolderGone, text, &rated);
                }
                let mut ruling = self.stay(
                    Why::Settling,
                    format!(
                        "{text}. That may pass: it is looked at again at {}, and if that is still so, the address goes to a node that can take it.",
                        since + LOOSE_FOR
                    ),
                    &rated,
                );
                // Its interface is read at that time, and then it is decided.
                ruling.pending = true;
                return ruling;
            }
            (None, Holder::Unclear(interface)) => {
                let rated = self.rated(None);
                if let Some(why) = self.question.unreadable {
                    let text = format!(
                        "{ip} sits on interface {interface}, which belongs to no instance; what it is cannot be read ({why}): it is left alone. If a permission is missing: ec2:DescribeNetworkInterfaces."
                    );
                    return self.stay(Why::Outsider, text, &rated);
                }
                let Some(until) = self.unclear_until() else {
                    let text = format!(
                        "{ip} sits on interface {interface}, which belongs to no instance, and of which EC2 tells nothing: it is left alone."
                    );
                    return self.stay(Why::Outsider, text, &rated);
                };
                let text = format!(
                    "{ip} sits on interface {interface}, which belongs to no instance; what it is has not been read yet."
                );
                return Ruling { pending: true, again_at: Some(until), ..self.stay(Why::Outsider, text, &rated) };
            }
            (None, Holder::Outsider { what, .. }) => {
                let rated = self.rated(None);
                return self.stay(
                    Why::Outsider,
                    format!("{ip} is held by {what}, outside the cluster: it is left alone."),
                    &rated,
                );
            }
        };
        let rated = self.rated(Some(holder));
        let Some(finding) = self.finding(holder) else {
            let mut ruling = self.stay(
                Why::Healthy,
                format!("{} holds {ip} and has not been looked at yet.", self.label(holder)),
                &rated,
            );
            ruling.pending = true;
            return ruling;
        };
        let node = self.question.cluster.nodes.get(holder);
        let who = self.label(holder);
        let drained = node.is_some_and(|node| node.mode == NodeMode::Drain);
        let may_be_old = finding.leaving.is_some() || drained || finding.by_reading;
        let before_the_move = self.shown_from(state).filter(|at| may_be_old && self.question.facts_from < *at);
        let went_before = node.is_some_and(|node| node.state.is_some_and(InstanceState::is_gone))
            && self.shown_from(state).is_some_and(|at| self.question.nodes_from < at);
        let read_until = |at: Time| self.memory().and_then(|of| of.rescue_since).unwrap_or(at) + LAST_RESORT_AFTER;
        let mut ruling = if let Some(at) = self.shown_from(state).filter(|at| went_before && now < read_until(*at)) {
            let until = read_until(at);
            let text = format!(
                "{ip} came to {who} only now, but {who} was last read before that, as gone: the nodes are read once more, until {until} at the latest, and then it is decided."
            );
            Ruling {
                pending: true,
                reading_wanted: Some(at),
                again_at: Some(until),
                ..self.stay(Why::Settling, text, &rated)
            }
        } else if finding.verdict == Verdict::Gone {
            let how = finding.evidence.first().map(|evidence| evidence.text.clone()).unwrap_or_default();
            self.rescue(Some(holder), Why::HolderGone, format!("{who}, which holds {ip}, is gone ({how})"), &rated)
        } else if node.is_some_and(|node| node.missing) {
            // The next reading shows it again, or that it is of the cluster no longer.
            self.keep(holder, finding, &who, state, &rated)
        } else if let Some(at) = before_the_move.filter(|at| now.since(*at) < SETTLING) {
            // Whoever moved it here knew more of its nodes.
            let text = format!(
                "{ip} came to {who} only now, and what is held against {who} was read before that: the nodes are read once more, until {} at the latest.",
                at + SETTLING
            );
            Ruling {
                pending: true,
                reading_wanted: Some(at),
                // If they cannot be, it is decided without.
                again_at: Some(at + SETTLING),
                ..self.stay(Why::Settling, text, &rated)
            }
        } else if let Some(leaving) = &finding.leaving {
            let until = leaving.until.map(|until| format!(", {until}")).unwrap_or_default();
            self.evict(
                holder,
                Why::HolderLeaving,
                format!("{who}, which holds {ip}, is leaving ({}{until})", leaving.kind),
                &rated,
            )
        } else if drained && let Some(at) = self.nodes_too_old() {
            // It can wait until EC2 answers, and may be called off.
            Ruling { pending: true, reading_wanted: Some(at), ..self.keep(holder, finding, &who, state, &rated) }
        } else if drained {
            self.evict(holder, Why::HolderDraining, format!("{who}, which holds {ip}, is drained"), &rated)
        } else if let Some(until) = self.old_traffic_until(finding, state).filter(|until| now < *until) {
            let text = format!(
                "{who}, which holds {ip}, fails its checks ({}), but got the address only now. With via=public it is the address that is probed, and traffic may still go to the previous holder. It keeps the address until {until}; if it still fails then, the address moves on by itself as from any holder that fails.",
                finding.why()
            );
            Ruling { pending: true, again_at: Some(until), ..self.stay(Why::Settling, text, &rated) }
        } else if finding.verdict == Verdict::Unhealthy {
            self.failover(
                holder,
                finding,
                &format!("{who}, which holds {ip}, is unhealthy ({})", finding.why()),
                &rated,
            )
        } else {
            self.keep(holder, finding, &who, state, &rated)
        };
        if let Some(state) = settling {
            let until = state.since + SETTLING;
            ruling.again_at = Some(ruling.again_at.map_or(until, |at| at.min(until)));
            // The stale read shows the previous holder. If that is where it should go, the next read will tell where it is.
            let back = ruling.plan.as_ref().is_some_and(|plan| Some(&plan.to) == shown.instance());
            if ruling.decision.kind == Kind::Stay || back {
                ruling.decision = self.decision(Kind::Stay, Why::Settling, self.settling_text(state), &rated);
                ruling.plan = None;
                (ruling.pending, ruling.back) = (ruling.pending || back, back);
            }
        }
        ruling
    }

    fn settling_text(&self, state: &State) -> String {
        format!(
            "{} was moved to {} at {}. EC2 still shows it on {}: that is taken for an old answer, as EC2 lags after a move. If it still says so at {}, it is believed.",
            self.address.public_ip,
            self.label(&state.holder),
            state.since,
            self.address.holder.instance().map(|id| self.label(id)).unwrap_or_default(),
            state.since + SETTLING
        )
    }

    /// The best candidate; `Err(true)`: a better one, or any at all, may appear within moments.
    fn best<'r>(rated: &'r [Rated<'a>]) -> Result<(&'r Rated<'a>, Slot), bool> {
        for one in rated {
            match &one.slot {
                Ok(slot) => return Ok((one, slot.clone())),
                Err(_) if one.promising => return Err(true),
                Err(_) => {}
            }
        }
        Err(rated.iter().any(|one| !one.settled && one.node.state == Some(InstanceState::Running)))
    }

    /// Nobody to take it: says whether that is only for want of a private address.
    fn nobody(&self, text: &str, rated: &[Rated<'_>]) -> Ruling {
        if rated.iter().any(|one| one.slot.as_ref().is_err_and(|veto| veto.only_slot)) {
            let text = format!(
                "{text}, but no healthy node has a free private address for it. Give one a secondary private address, or disassociate an Elastic IP that it can spare."
            );
            return self.blocked(Why::NoFreePrivateAddress, text, rated);
        }
        self.stay(Why::NoCandidate, format!("{text}, but no other node may take it: it stays where it is."), rated)
    }

    fn rescue(&self, holder: Option<&InstanceId>, why: Why, text: String, rated: &[Rated<'a>]) -> Ruling {
        let now = self.question.now;
        let since = self.memory().and_then(|memory| memory.rescue_since).unwrap_or(now);
        let patience_ends = since + LAST_RESORT_AFTER;
        let waited = now >= patience_ends;
        let wait = |ruling: Ruling| Ruling { pending: true, again_at: Some(patience_ends), ..ruling };
        let to_candidate = |one: &Rated<'a>, slot: Slot| {
            let text = format!("{text}: it goes to {}, the best candidate.", self.label(&one.node.id));
            self.go(holder, one.node, slot, why, text, rated)
        };
        match Self::best(rated) {
            Ok((one, slot)) => return to_candidate(one, slot),
            Err(true) if !waited => {
                return wait(self.stay(Why::NoCandidate, format!("{text}; its nodes are being asked."), rated));
            }
            Err(_) => {}
        }
        if let Some((one, slot)) = rated.iter().find_map(|one| Some((one, one.slot.as_ref().ok()?.clone()))) {
            return to_candidate(one, slot);
        }
        // Nothing to lose: the best running node, candidate or not.
        let mut resorts: Vec<(Resort, &Rated<'a>)> =
            rated.iter().filter_map(|one| Some((self.resort(one)?, one))).collect();
        resorts.sort_by_key(|(resort, _)| *resort);
        let free =
            resorts.iter().find_map(|(_, one)| Some((one.node, one.node.slot_for(&self.address.id, self.taken).ok()?)));
        match free {
            Some((node, slot)) => {
                let state = self.finding(&node.id).map(|finding| finding.why()).unwrap_or_default();
                let text = format!(
                    "{text}, and no node is a candidate: {} is the best that runs ({state}), and there is nothing to lose.",
                    self.label(&node.id)
                );
                self.go(holder, node, slot, Why::LastResort, text, rated)
            }
            None if !resorts.is_empty() => {
                let text = format!(
                    "{text}, but no running node has a free private address for it. Give one a secondary private address, or disassociate an Elastic IP that it can spare."
                );
                self.blocked(Why::NoFreePrivateAddress, text, rated)
            }
            None if rated.iter().any(|one| one.node.state == Some(InstanceState::Running)) => {
                self.stay(Why::NoCandidate, format!("{text}, and none of the nodes that run can take it: the vetoes say why. Mend one, or start another."), rated)
            }
            None => {
                self.stay(Why::NoCandidate, format!("{text}, and no other node of the cluster runs. Start one."), rated)
            }
        }
    }

    fn resort(&self, one: &Rated<'_>) -> Option<Resort> {
        let node = one.node;
        let finding = self.finding(&node.id)?;
        let may = node.member
            && node.state == Some(InstanceState::Running)
            && finding.verdict != Verdict::Gone
            && self.same_border_group(node)
            && self.memory().is_none_or(|memory| !memory.refused.contains_key(&node.id))
            && !(self.allowed_only && self.forbidden(&node.id).is_some());
        let resort = if finding.leaving.is_some() {
            Resort::Leaving
        } else if finding.verdict == Verdict::Unhealthy || finding.impaired {
            Resort::Unhealthy
        } else if finding.verdict != Verdict::Healthy || !finding.probes_passed {
            Resort::Unknown
        } else {
            Resort::Draining
        };
        may.then_some(resort)
    }

    fn evict(&self, holder: &InstanceId, why: Why, text: String, rated: &[Rated<'a>]) -> Ruling {
        match Self::best(rated) {
            Ok((one, slot)) => {
                let text = format!("{text}: it goes to {}, the best candidate.", self.label(&one.node.id));
                self.go(Some(holder), one.node, slot, why, text, rated)
            }
            Err(pending) => Ruling { pending, ..self.nobody(&text, rated) },
        }
    }

    fn failover(&self, holder: &InstanceId, finding: &Finding, text: &str, rated: &[Rated<'a>]) -> Ruling {
        let (one, slot) = match Self::best(rated) {
            Ok(best) => best,
            Err(pending) => return Ruling { pending: pending || !finding.settled, ..self.nobody(text, rated) },
        };
        if !finding.settled {
            return Ruling {
                pending: true,
                ..self.stay(Why::Healthy, format!("{text}, but not for certain yet."), rated)
            };
        }
        if let Some(left) = self.unseen_since_left(holder, one.node) {
            let until = left + READ_AFTER_WAIT;
            let target = self.label(&one.node.id);
            let text = format!(
                "{text}. {} came from {target} only now, and {target}, the best candidate, was last looked at before that: it is looked at once more, until {until} at the latest, and then it is decided.",
                self.address.public_ip
            );
            return Ruling {
                pending: true,
                reading_wanted: Some(left),
                again_at: Some(until.min(self.question.now + SEEN_SINCE_EVERY)),
                ..self.stay(Why::Settling, text, rated)
            };
        }
        if let Some(brake) = self.brake() {
            let policy = &self.question.cluster.policy;
            let now = self.question.now;
            let steady = |id: &InstanceId| self.question.since.get(id).map_or(now, |since| since.steady);
            let steady = steady(holder).max(steady(&one.node.id));
            let ready_at = (steady + policy.stable).min(brake.until);
            if now < ready_at {
                let text = format!(
                    "{text}, and KEEPS it for now: {}. It moves once {} has failed and {} has passed for {} without a break, or enough of these moves are older than {}: at {ready_at} at the earliest. To move it now: eipwatch move --address {}.",
                    brake.text,
                    self.label(holder),
                    self.label(&one.node.id),
                    duration_text(policy.stable),
                    duration_text(policy.window),
                    self.address.public_ip
                );
                return Ruling { again_at: Some(ready_at), ..self.blocked(Why::MaxMoves, text, rated) };
            }
            // Watches that have waited for the same moment must not choose by what each read long before it.
            let waited = ready_at > steady;
            if waited && now.since(ready_at) < READ_AFTER_WAIT && self.question.readable_from < ready_at {
                let text = format!(
                    "{text}; {}, but that holds it back no longer: the nodes are read once more, and it moves if that shows the same.",
                    brake.text
                );
                return Ruling {
                    pending: true,
                    reading_wanted: Some(ready_at),
                    // If they cannot be, it moves without.
                    again_at: Some(ready_at + READ_AFTER_WAIT),
                    ..self.blocked(Why::MaxMoves, text, rated)
                };
            }
        }
        let text = format!("{text}: it goes to {}, the best candidate.", self.label(&one.node.id));
        self.go(Some(holder), one.node, slot, Why::HolderUnhealthy, text, rated)
    }

    /// When the address has left a target that has not been seen since, if that was just now: whoever moved it away may know more of it.
    fn unseen_since_left(&self, holder: &InstanceId, target: &Node) -> Option<Time> {
        let now = self.question.now;
        let state = remembered(self.address, self.memory());
        let left = match state {
            Some(state) if &state.holder == holder => {
                // A hand, or a failback, leaves what is well.
                let left_well = [Why::Manual, Why::Failback].iter().any(|why| state.why == why.as_str());
                !left_well && state.from.as_ref() == Some(&target.id)
            }
            _ => last_known_holder(state, self.memory()) == Some(&target.id),
        };
        // A time to come would be waited for too long.
        let at = self.shown_from(state).filter(|at| left && *at <= now + Duration::from_secs(1))?;
        // Whose next probe would come too late is not waited for.
        let probed_from = self.finding(&target.id).and_then(|finding| finding.probed_from);
        let probed_from = probed_from.filter(|_| self.question.cluster.policy.interval < READ_AFTER_WAIT);
        let seen = self.question.readable_from >= at && probed_from.is_none_or(|from| from >= at);
        (!seen && now < at + READ_AFTER_WAIT).then_some(at)
    }

    /// Until when an answer is waited for about the interface that the address sits on, if it still is.
    fn unclear_until(&self) -> Option<Time> {
        let now = self.question.now;
        let since = self.memory().and_then(|memory| memory.unclear_since.as_ref()).map_or(now, |(_, since)| *since);
        Some(since + LOOSE_FOR).filter(|until| now < *until)
    }

    /// Until when probes of the address itself may tell of its last holder.
    fn old_traffic_until(&self, finding: &Finding, state: Option<&State>) -> Option<Time> {
        let public = self.question.cluster.policy.via == Via::Public;
        let told_by_probes = finding.verdict == Verdict::Unhealthy && !finding.by_reading;
        self.shown_from(state).filter(|_| public && told_by_probes).map(|at| at + TRAFFIC_FOLLOWS)
    }

    /// From when on nodes must have been read for a move that nothing is urgent about, if they have not been.
    fn nodes_too_old(&self) -> Option<Time> {
        let from = self.question.now - NODES_BEFORE_CHOICE;
        (self.question.nodes_from < from).then_some(from)
    }

    /// From when on a reading of the nodes shows what the last move may have been made for. Times in tags are whole seconds.
    fn shown_from(&self, state: Option<&State>) -> Option<Time> {
        let recorded = last_move(state, self.question.now).map(|at| at + Duration::from_secs(1));
        let unrecorded = self.memory().and_then(|memory| memory.unrecorded.as_ref()).map(|(_, since)| *since);
        recorded.max(unrecorded)
    }

    /// How the moves within the window have been used up, now or once before.
    fn brake(&self) -> Option<Brake> {
        let policy = &self.question.cluster.policy;
        let state = remembered(self.address, self.memory())?;
        let now = self.question.now;
        // A time to come was not written by us.
        let mut moves: Vec<Time> = state.moves.iter().copied().filter(|at| at.since(now) < SETTLING).collect();
        let limit = usize::try_from(policy.max_moves).unwrap_or(usize::MAX);
        moves.sort_unstable_by_key(|at| Reverse(*at));
        let until = *moves.get(limit.saturating_sub(1))? + policy.window;
        let within = moves.iter().filter(|at| now.since(**at) < policy.window).count().max(limit);
        let times = if within == 1 { "once".to_owned() } else { format!("{within} times") };
        let text = format!("the address has moved {times} within {} (max_moves={limit})", duration_text(policy.window));
        Some(Brake { text, until })
    }

    fn keep(
        &self,
        holder: &InstanceId,
        finding: &Finding,
        who: &str,
        state: Option<&State>,
        rated: &[Rated<'a>],
    ) -> Ruling {
        let ip = self.address.public_ip;
        let text = match finding.verdict {
            Verdict::Healthy => format!("{who} holds {ip} and is healthy{}.", self.since(holder, state)),
            Verdict::Suspect => {
                format!("{who} holds {ip}; it began to fail ({}), and is being asked again.", finding.why())
            }
            _ => format!("{who} holds {ip}; whether it is healthy is not known, so it keeps it."),
        };
        let mut stay = self.stay(Why::Healthy, text, rated);
        // One that is starting is not asked: the next sweep sees what becomes of it.
        let asked =
            self.question.cluster.nodes.get(holder).is_none_or(|node| node.state != Some(InstanceState::Pending));
        stay.pending = (asked && !finding.settled)
            || rated.iter().any(|one| !one.settled && one.node.state == Some(InstanceState::Running));
        self.failback(holder, finding, who, state, rated, &stay).unwrap_or(stay)
    }

    /// Since when a holder holds the address, and why, as far as that is remembered.
    fn since(&self, holder: &InstanceId, state: Option<&State>) -> String {
        let Some(State { since, from, why, .. }) = state.filter(|state| &state.holder == holder) else {
            return String::new();
        };
        let why = if why == EXTERNAL { "moved by others" } else { why };
        match from {
            Some(from) => format!("; it came from {} at {since} ({why})", self.label(from)),
            None => format!("; it came at {since} ({why})"),
        }
    }

    fn failback(
        &self,
        holder: &InstanceId,
        finding: &Finding,
        who: &str,
        state: Option<&State>,
        rated: &[Rated<'a>],
        stay: &Ruling,
    ) -> Option<Ruling> {
        let now = self.question.now;
        let policy = &self.question.cluster.policy;
        let ip = self.address.public_ip;
        if !policy.failback || finding.verdict != Verdict::Healthy || !finding.settled {
            return None;
        }
        // What somebody moved by hand stays, and so does what is not where the watcher left it, or first saw it.
        let by_others = state.is_some_and(|state| state.why == EXTERNAL || state.why == Why::Manual.as_str())
            || last_known_holder(state, self.memory()).is_some_and(|known| known != holder);
        if by_others {
            return None;
        }
        // One whose tags EC2 does not show has no rank to be compared with, and is left only when it fails.
        let current = self.question.cluster.nodes.get(holder).filter(|node| node.member)?;
        let one = rated.iter().find(|one| one.slot.is_ok())?;
        let outranks = {
            let (one, current) = (self.rank(one.node), self.rank(current));
            (one.0, one.1) < (current.0, current.1)
        };
        if !outranks || !one.settled {
            return None;
        }
        let slot = one.slot.as_ref().ok()?.clone();
        let healthy_since = self.question.since.get(&one.node.id)?.verdict;
        if let Some(at) = self.nodes_too_old() {
            return Some(Ruling { reading_wanted: Some(at), ..stay.clone() });
        }
        // What moved it may have been something about the preferred node.
        if let Some(at) = self.shown_from(state).filter(|at| self.question.readable_from < *at) {
            return Some(Ruling { reading_wanted: Some(at), ..stay.clone() });
        }
        let moved = last_move(state, now);
        let ready_at = moved.map_or(healthy_since, |moved| moved.max(healthy_since)) + policy.stable;
        if now < ready_at {
            return Some(Ruling { again_at: Some(ready_at), ..stay.clone() });
        }
        let brake = self.brake();
        let due = brake.as_ref().map_or(ready_at, |brake| brake.until.max(ready_at));
        let back = self.label(&one.node.id);
        if let Some(Brake { text: used_up, until }) = brake.filter(|brake| now < brake.until) {
            let text = format!(
                "Nothing is wrong: {who} holds {ip} and is healthy. {back} is preferred and healthy again, but {used_up}: it goes back at {until} at the earliest."
            );
            return Some(Ruling { again_at: Some(until), ..self.blocked(Why::MaxMoves, text, rated) });
        }
        // What was read before that moment may be over: the node may be drained or leaving since.
        if now.since(due) < READ_AFTER_WAIT && self.question.readable_from < due {
            let until = due + READ_AFTER_WAIT;
            return Some(Ruling { pending: true, reading_wanted: Some(due), again_at: Some(until), ..stay.clone() });
        }
        let text = format!(
            "{who} holds {ip} and is healthy, but {back} is preferred and has been healthy since {healthy_since}: it goes back."
        );
        Some(self.go(Some(holder), one.node, slot, Why::Failback, text, rated))
    }

    fn rule_order(&self, order: &Order) -> Ruling {
        let ip = self.address.public_ip;
        let now = self.question.now;
        let state = remembered(self.address, self.memory());
        if let Some(state) = unseen_move(self.question.cluster, self.address, state, now) {
            let rated = self.rated(Some(&state.holder));
            let until = state.since + SETTLING;
            let text = format!("{} The command waits for that, and is decided on then.", self.settling_text(state));
            return Ruling { pending: true, again_at: Some(until), ..self.stay(Why::Settling, text, &rated) };
        }
        let holder = match &self.address.holder {
            // What is no instance needs the address for itself. From an instance outside the cluster a command may take it back.
            Holder::Outsider { instance: None, what } => {
                let rated = self.rated(None);
                let text =
                    format!("{ip} is held by {what}, outside the cluster: it is left alone. Disassociate it first.");
                return self.blocked(Why::Refused, text, &rated);
            }
            Holder::Unclear(interface) => {
                let rated = self.rated(None);
                if let Some(why) = self.question.unreadable {
                    let text = format!(
                        "{ip} sits on interface {interface}, and what that is cannot be read ({why}): it is left alone. Disassociate it first; if a permission is missing: ec2:DescribeNetworkInterfaces."
                    );
                    return self.blocked(Why::Refused, text, &rated);
                }
                let Some(until) = self.unclear_until() else {
                    let text = format!(
                        "{ip} sits on interface {interface}, of which EC2 tells nothing: it is left alone. Disassociate it first."
                    );
                    return self.blocked(Why::Refused, text, &rated);
                };
                let text = format!("What holds {ip} is being asked.");
                return Ruling { pending: true, again_at: Some(until), ..self.stay(Why::Outsider, text, &rated) };
            }
            other => other.instance(),
        };
        let rated = self.rated(holder);
        let Some(to) = &order.to else {
            return match Self::best(&rated) {
                Ok((one, slot)) => {
                    let text = format!("By command, {ip} goes to {}, the best candidate.", self.label(&one.node.id));
                    self.go(holder, one.node, slot, Why::Manual, text, &rated)
                }
                Err(pending) => {
                    let text = format!("No node may take {ip}. Name one with `to`, and `force` if it must be.");
                    Ruling { pending, ..self.blocked(Why::Refused, text, &rated) }
                }
            };
        };
        if Some(to) == holder {
            return self.stay(Why::Healthy, format!("{} holds {ip} already.", self.label(to)), &rated);
        }
        let Some(one) = rated.iter().find(|one| &one.node.id == to) else {
            let nodes: Vec<String> = self.question.cluster.nodes.keys().map(ToString::to_string).collect();
            let text = format!(
                "{to} is no node of cluster {}: its nodes are {}.",
                self.question.cluster.name,
                nodes.join(", ")
            );
            return self.blocked(Why::Refused, text, &rated);
        };
        let who = self.label(to);
        match &one.slot {
            Ok(slot) => {
                self.go(holder, one.node, slot.clone(), Why::Manual, format!("By command, {ip} goes to {who}."), &rated)
            }
            Err(_) if !one.settled && one.node.state == Some(InstanceState::Running) => {
                let mut ruling = self.stay(Why::NoCandidate, format!("{who} is being asked."), &rated);
                ruling.pending = true;
                ruling
            }
            Err(veto) if !order.force => {
                let text = format!(
                    "{who} is no candidate: {}. Nothing was moved. `force` moves it all the same, and sets the address's mode to manual.",
                    veto.text
                );
                self.blocked(Why::Refused, text, &rated)
            }
            Err(_) => match one.node.slot_for(&self.address.id, self.taken) {
                Err(why) => {
                    let text =
                        format!("{who} cannot take {ip}: {why}. No Elastic IP is ever displaced, not even by force.");
                    self.blocked(Why::NoFreePrivateAddress, text, &rated)
                }
                Ok(slot) => {
                    let text = format!(
                        "By force, {ip} goes to {who}, which is no candidate; the address's mode becomes manual, or the next sweep would undo it."
                    );
                    let mut ruling = self.go(holder, one.node, slot, Why::Manual, text, &rated);
                    if let Some(plan) = &mut ruling.plan {
                        plan.forced = true;
                    }
                    ruling
                }
            },
        }
    }
}

#[cfg(test)]
pub(in crate::core) mod tests;
