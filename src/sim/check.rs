//! The judge: what must always be true, read off EC2's truth and the nodes' services.
//!
//! Architecture invariant: nothing of `crate::core` is imported, read or called here. What the watcher did to EC2 counts, not what it
//! thinks; what it wrote down counts where a promise is about memory. Times are milliseconds since 1970, as the embedded EC2 has them.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::embedded::ec2::{Api, Association, Call, Cause, Ec2, Filter, Id, Placed, Request, Response, State, Tags};

/// How old a reading of addresses may be when one is moved.
const READ_BEFORE_MOVE_MS: u64 = 1_000;
/// How long a caller may take a read that shows another tag than it wrote as stale.
const OWN_WRITES_BELIEVED_MS: u64 = 30_000;
/// How long a state-change event speaks against what EC2 shows.
const EVENT_BELIEVED_MS: u64 = 60_000;
/// How old what is known of nodes may be while calls fail: as old as an invocation can be.
const WATCH_LIFE_MS: u64 = 120_000;
/// How long after a move a read that shows the previous holder is taken as stale.
const SETTLING_MS: u64 = 30_000;
/// How far apart an interface must be seen attached to nothing before its address is taken.
const LOOSE_FOR_MS: u64 = 10_000;
/// How old what is known of status checks and scheduled events may be.
const STATUS_AGE_MS: u64 = 35_000;
/// How many moves more than there were may be on record where watches raced: who came second counts what it did not see made.
const COUNTED_BY_RACING: usize = 2;
/// How long it may take until it shows that a node cannot be described: two tries, and a search by id, at the pace of a quiet watch.
const SEARCHED_MS: u64 = 10_000;
/// How long a rescue may wait for nodes to settle.
const LAST_RESORT_MS: u64 = 5_000;
/// How long a watch has from knowing enough to having moved an address, in an EC2 that does what it is told.
const TO_MOVE_MS: u64 = 15_000;
/// Once this many rules were found broken there is no point in going on.
pub const MAX_VIOLATIONS: usize = 20;

/// What a node's service would answer whoever asks, all its other checks included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Every check passes, whoever asks.
    Good,
    /// Some pass and some fail, or it depends on who asks.
    Unclear,
    /// A check fails, whoever asks.
    Bad,
}

/// What may make a node [`Condition::Bad`], each with whether it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BadBy {
    /// Its alarm says so.
    pub alarm: bool,
    /// Its agent does.
    pub agent: bool,
    /// It does not run.
    pub stopped: bool,
    /// Its service answers nobody, or ill.
    pub service: bool,
}

impl BadBy {
    fn ways(self) -> [bool; 4] {
        [self.alarm, self.agent, self.stopped, self.service]
    }
}

/// A node's truth beyond EC2.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The instance.
    pub id: Id,
    /// What its service is like.
    pub condition: Condition,
    /// What makes it bad: each is found out by itself.
    pub bad_by: BadBy,
    /// Whether a status check is impaired.
    pub impaired: bool,
    /// Whether it was announced that it will stop, as far as anybody was told.
    pub announced: bool,
    /// Whether EC2 has scheduled an event for it.
    pub scheduled: bool,
    /// Whether one begins soon enough for the node to be left for it.
    pub due: bool,
    /// Whether it is in another network border group than the addresses.
    pub elsewhere: bool,
    /// Whether its zone is disrupted, so that EC2 describes others but not it.
    pub undescribed: bool,
    /// Whether its application check says impaired though it was started anew since: whether EC2 lets it outlive that nobody knows, so that
    /// such a node may be taken and may be left out.
    pub outlived: bool,
}

/// The world at a moment.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// EC2's truth.
    pub ec2: &'a Ec2,
    /// The truth of the cluster's nodes beyond it.
    pub views: &'a [NodeView],
    /// Whether a probe of a node has passed in a caller's invocation.
    pub passed: &'a dyn Fn(u32, &Id) -> bool,
    /// When a caller's invocation began.
    pub began_ms: &'a dyn Fn(u32) -> Option<u64>,
    /// Since when a watch of the cluster has run that nothing has harmed; `None`: there is none.
    pub watched_since_ms: Option<u64>,
    /// The present.
    pub now_ms: u64,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sweeps by itself.
    Auto,
    /// Was told to move an address, to a candidate.
    Command,
    /// Was told to move an address, to whatever node.
    Force,
    /// Only reports.
    Reader,
}

/// The policy of the world, and how long the truth may take to be seen in it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From probe to probe.
    pub interval_ms: u64,
    /// From probe to probe while a verdict changes.
    pub fast_ms: u64,
    /// A probe's limit.
    pub timeout_ms: u64,
    /// Failures until unhealthy.
    pub fall: u64,
    /// Passes until healthy.
    pub rise: u64,
    /// How long the preferred node must have been well.
    pub stable_ms: u64,
    /// Whether addresses go back by themselves.
    pub failback: bool,
    /// Moves within the window before the brake.
    pub max_moves: usize,
    /// The window.
    pub window_ms: u64,
    /// How far what a caller sees or does may lag behind the truth: staleness, answers' times, effects that come late.
    pub slack_ms: u64,
    /// How much older still readings may be that have a pace of their own: status checks, alarms.
    pub paced_ms: u64,
}

impl Bounds {
    /// How long a node must have been good for no watch to think ill of it any more.
    pub fn forgiven_ms(&self) -> u64 {
        self.slack_ms
            + self.paced_ms
            + (self.rise + 1) * self.interval_ms
            + self.fall * self.fast_ms
            + 2 * self.timeout_ms
            + 2_000
    }

    /// How long a node must have been bad for no watch to think well of it any more.
    pub fn found_out_ms(&self) -> u64 {
        self.slack_ms + self.paced_ms + self.interval_ms + self.timeout_ms + self.fall * self.fast_ms
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at_ms: u64,
    /// Which rule, in short.
    pub rule: &'static str,
    /// What happened.
    pub text: String,
}

/// A value and since when it has been so.
#[derive(Clone, Debug)]
struct Steady<T> {
    value: T,
    since_ms: u64,
}

impl<T: PartialEq> Steady<T> {
    /// What has been so from the beginning is old.
    fn new(value: T) -> Steady<T> {
        Steady { value, since_ms: 0 }
    }

    fn update(&mut self, value: T, now_ms: u64) {
        if self.value != value {
            *self = Steady { value, since_ms: now_ms };
        }
    }

    /// Whether it has been so for longer than that.
    fn long(&self, value: &T, for_ms: u64, now_ms: u64) -> bool {
        self.value == *value && now_ms.saturating_sub(self.since_ms) > for_ms
    }
}

#[derive(Clone, Debug)]
struct NodeTruth {
    condition: Steady<Condition>,
    /// How long it was good when it last ceased to be, and when that was.
    was_good_ms: u64,
    good_until_ms: u64,
    bad_by: [Steady<bool>; 4],
    /// When what its health tag tells was made up last: since when it has failed or passed.
    health_forged_ms: u64,
    running: Steady<bool>,
    member: Steady<bool>,
    /// Its mode is `active`.
    active: Steady<bool>,
    /// Its mode is `drain`: one that cannot be read keeps it from being a candidate, and moves nothing.
    drained: bool,
    /// Announced, in whatever way.
    announced: Steady<bool>,
    scheduled: Steady<bool>,
    due: Steady<bool>,
    undescribed: Steady<bool>,
    outlived: Steady<bool>,
    /// When somebody last took back what was announced of it: a scheduled event that was known then counts no more.
    undrained_ms: u64,
    /// Written where every sweep reads it.
    on_record: Steady<bool>,
    impaired: Steady<bool>,
    priority: Steady<u32>,
    elsewhere: bool,
}

#[derive(Clone, Debug)]
struct AddressTruth {
    association: Option<Association>,
    placed_ms: u64,
    /// When it came to its holder.
    came_ms: u64,
    /// Whom it was taken from, and when.
    taken: Vec<(Option<Id>, u64)>,
    cause: Cause,
    manual: Steady<bool>,
    /// When its pause ends by itself.
    paused_until_ms: Option<u64>,
    /// Pauses that were changed before their end: when that would have been, and when they were changed.
    paused_on_ms: Vec<(u64, u64)>,
    state: Steady<Option<String>>,
    prefer: Steady<Option<String>>,
    /// But for what took effect late, and what was decided before the last move or order could be seen.
    moves_since_disturbance: u32,
    /// What took effect late since then.
    late_since_disturbance: u32,
    /// Who has moved it since then without being able to know of the last move or order: each once.
    blind_since_disturbance: BTreeSet<u32>,
    /// It sits on an interface that is attached to nothing.
    loose: bool,
    /// And that interface was taken from an instance that ran.
    from_running: bool,
    /// Its holder is not well although another node could take it.
    waits: Steady<bool>,
    /// When watches moved it off a holder that ran, was active and announced nothing, and which.
    counted: Vec<(u64, u32)>,
    /// The moves that its state has ever told of.
    told_ms: BTreeSet<u64>,
    /// When its state last told anew that it came from an instance.
    told_left_ms: BTreeMap<Id, u64>,
}

impl AddressTruth {
    /// Moves are counted from here on.
    fn begin_anew(&mut self) {
        (self.moves_since_disturbance, self.late_since_disturbance) = (0, 0);
        self.blind_since_disturbance.clear();
    }
}

/// Judges one cluster of a world.
#[derive(Debug)]
pub struct Checker {
    name: String,
    health_keys: [String; 2],
    bounds: Bounds,
    nodes: BTreeMap<Id, NodeTruth>,
    addresses: BTreeMap<Id, AddressTruth>,
    roles: BTreeMap<u32, Role>,
    history_read: usize,
    /// When a state last named an instance as holder.
    named_ms: BTreeMap<Id, u64>,
    /// When each allocation was placed last, of whatever cluster or none.
    placed_ms: BTreeMap<Id, u64>,
    start_ms: u64,
    /// Whether calls to EC2 are being interfered with.
    api_faulty: Steady<bool>,
    disturbed_ms: u64,
    /// When tags that the watch wrote were wiped or edited last.
    memory_lost_ms: u64,
    /// When a command was given that ends the brake.
    brake_ended_ms: u64,
    /// What was found.
    pub violations: Vec<Violation>,
    /// Moves made by watches.
    pub moves: u64,
    /// Of these, by a watch's own decision, and from nobody or off a holder that was gone, bad, drained or leaving.
    pub necessary: u64,
}

impl NodeTruth {
    /// Whether its addresses have to leave it though it may be well: it is drained, or on record as leaving in this life.
    fn is_to_be_left(&self) -> bool {
        self.drained || self.on_record.value && self.on_record.since_ms >= self.running.since_ms
    }
}

/// A caller's calls of this kind that reached EC2 since then, the newest first.
fn calls_since(ec2: &Ec2, caller: u32, api: Api, since_ms: u64) -> impl Iterator<Item = &Call> {
    let recent = ec2.calls().iter().rev().take_while(move |call| call.at_ms >= since_ms);
    recent.filter(move |call| call.caller == caller && call.api == api)
}

/// Whether the last reading of addresses by which a caller made this move, if it was not too old to move by, reached EC2 before the address
/// came to where it was then: within a millisecond by the order of the calls.
fn read_before_it_came(ec2: &Ec2, caller: u32, sent_ms: u64, placed: &Placed, came_ms: u64) -> bool {
    let moved = |call: &Call| {
        let of = |change: &Request| matches!(change, Request::AssociateAddress { allocation, .. } if *allocation == placed.allocation);
        call.changed && call.change.as_deref().is_some_and(of)
    };
    let oldest_ms = sent_ms.saturating_sub(READ_BEFORE_MOVE_MS);
    let recent = ec2.calls().iter().rev().take_while(|call| call.at_ms >= oldest_ms);
    let own = |call: &Call| call.caller == caller && call.at_ms == placed.at_ms && moved(call);
    let until_own = recent.clone().position(own).map_or(0, |at| at + 1);
    let mut came = false;
    for call in recent.skip(until_own) {
        let reads = call.api == Api::DescribeAddresses && call.code.is_none() && call.at_ms <= sent_ms;
        if call.caller == caller && reads {
            return call.at_ms < came_ms || came;
        }
        came |= call.caller != caller && call.at_ms == came_ms && moved(call);
    }
    false
}

/// Whether EC2 had too many calls to tell a caller of instances, at some time since then.
fn throttled_since(ec2: &Ec2, caller: u32, since_ms: u64) -> bool {
    let mut asked = calls_since(ec2, caller, Api::DescribeInstances, since_ms);
    asked.any(|call| call.code == Some("RequestLimitExceeded"))
}

impl Checker {
    /// Judges from `now_ms` on; what is found then is as it always was.
    pub fn new(name: &str, bounds: Bounds, ec2: &Ec2, views: &[NodeView], now_ms: u64) -> Checker {
        let mut this = Checker {
            name: name.to_owned(),
            health_keys: ["eipwatch:health".to_owned(), format!("eipwatch:health:{name}")],
            bounds,
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            roles: BTreeMap::new(),
            history_read: ec2.history().len(),
            named_ms: BTreeMap::new(),
            placed_ms: BTreeMap::new(),
            start_ms: now_ms,
            api_faulty: Steady::new(false),
            disturbed_ms: now_ms,
            memory_lost_ms: 0,
            brake_ended_ms: 0,
            violations: Vec::new(),
            moves: 0,
            necessary: 0,
        };
        this.look(ec2, views, now_ms);
        this
    }

    /// Somebody takes a node's announcement back by command.
    pub fn undrained(&mut self, node: &Id, now_ms: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.on_record.since_ms = now_ms;
            node.undrained_ms = now_ms;
        }
    }

    /// Says what a caller was asked for; who is not named sweeps by itself.
    pub fn role(&mut self, caller: u32, role: Role) {
        self.roles.insert(caller, role);
    }

    /// Something happened to the world that watches did not do.
    pub fn disturbed(&mut self, now_ms: u64) {
        self.disturbed_ms = now_ms;
        self.addresses.values_mut().for_each(AddressTruth::begin_anew);
    }

    /// Somebody wiped or edited what watches remember.
    pub fn memory_lost(&mut self, now_ms: u64) {
        self.memory_lost_ms = now_ms;
    }

    /// Somebody edited what is remembered of a node's health.
    pub fn health_forged(&mut self, node: &Id, now_ms: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.health_forged_ms = now_ms;
        }
    }

    /// Somebody commands a move, which ends the brake.
    pub fn brake_ended(&mut self, now_ms: u64) {
        self.brake_ended_ms = now_ms;
    }

    /// Whether calls are being interfered with now.
    pub fn api_faulty(&mut self, faulty: bool, now_ms: u64) {
        self.api_faulty.update(faulty, now_ms);
    }

    /// A rule that was found broken elsewhere.
    pub fn object(&mut self, at_ms: u64, rule: &'static str, text: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { at_ms, rule, text });
        }
    }

    /// Looks at the world after something may have happened.
    pub fn observe(&mut self, moment: &Moment<'_>) {
        self.look(moment.ec2, moment.views, moment.now_ms);
        let new: Vec<Placed> = moment.ec2.history().range(self.history_read..).cloned().collect();
        self.history_read += new.len();
        for (at, placed) in new.iter().enumerate() {
            self.placed(placed, new.get(at + 1), moment);
        }
        self.judge_waiting(moment);
    }

    fn look(&mut self, ec2: &Ec2, views: &[NodeView], now_ms: u64) {
        let mut ordered = false;
        for view in views {
            let empty = Tags::new();
            let tags = ec2.tags(&view.id).unwrap_or(&empty);
            let get = |key: &str| tags.get(key).map(String::as_str);
            // What EC2 and agents repeat is not gone by the memory of it.
            let remembered = |text: &str| text.contains(" leaving=spot") || text.contains(" leaving=asg");
            let health_leaves = self.health_keys.iter().any(|key| get(key).is_some_and(remembered));
            let beat = get("eipwatch:heartbeat").filter(|text| text.contains("status=leaving"));
            // An undrain overrules what the agent said until it says more.
            let overruled = |text: &str| {
                let seq = text.split(' ').find_map(|word| word.strip_prefix("seq="));
                let word = format!("undrained-seq={}", seq.unwrap_or_default());
                self.health_keys.iter().any(|key| get(key).is_some_and(|text| text.split(' ').any(|of| of == word)))
            };
            let agent_leaves = beat.is_some_and(|text| !overruled(text));
            let on_record = health_leaves || agent_leaves;
            let running = ec2.state(&view.id) == Some(State::Running);
            let member = get("eipwatch:cluster").is_some_and(|text| text.split(' ').any(|word| word == self.name));
            let active = get("eipwatch:mode").is_none_or(|text| text == "active");
            let drained = get("eipwatch:mode") == Some("drain");
            let priority = get("eipwatch:priority").and_then(|text| text.parse().ok()).unwrap_or(100);
            let announced = view.announced || on_record;
            // EC2 shows status checks of running instances only.
            let impaired = view.impaired && running;
            match self.nodes.get_mut(&view.id) {
                Some(node) => {
                    if node.condition.value == Condition::Good && view.condition != Condition::Good {
                        node.was_good_ms = now_ms.saturating_sub(node.condition.since_ms);
                        node.good_until_ms = now_ms;
                    }
                    node.condition.update(view.condition, now_ms);
                    // Bad in another way is to be found out anew.
                    for (way, bad) in node.bad_by.iter_mut().zip(view.bad_by.ways()) {
                        way.update(bad, now_ms);
                    }
                    let longest_ms = node.bad_by.iter().filter(|way| way.value).map(|way| way.since_ms).min();
                    node.condition.since_ms = node.condition.since_ms.max(longest_ms.unwrap_or_default());
                    node.running.update(running, now_ms);
                    node.member.update(member, now_ms);
                    // An operator's order, whoever carries it out, and however late.
                    ordered |= node.active.value != active;
                    node.active.update(active, now_ms);
                    node.drained = drained;
                    node.announced.update(announced, now_ms);
                    node.scheduled.update(view.scheduled, now_ms);
                    node.due.update(view.due, now_ms);
                    node.undescribed.update(view.undescribed, now_ms);
                    node.outlived.update(view.outlived, now_ms);
                    node.on_record.update(on_record, now_ms);
                    node.impaired.update(impaired, now_ms);
                    node.priority.update(priority, now_ms);
                }
                None => {
                    let since_ms = if now_ms == self.start_ms { 0 } else { now_ms };
                    let node = NodeTruth {
                        condition: Steady { value: view.condition, since_ms },
                        was_good_ms: 0,
                        good_until_ms: 0,
                        bad_by: view.bad_by.ways().map(|value| Steady { value, since_ms }),
                        health_forged_ms: 0,
                        running: Steady { value: running, since_ms },
                        member: Steady { value: member, since_ms },
                        active: Steady { value: active, since_ms },
                        announced: Steady { value: announced, since_ms },
                        scheduled: Steady { value: view.scheduled, since_ms },
                        due: Steady { value: view.due, since_ms },
                        undescribed: Steady { value: view.undescribed, since_ms },
                        outlived: Steady { value: view.outlived, since_ms },
                        undrained_ms: 0,
                        drained,
                        on_record: Steady { value: on_record, since_ms },
                        impaired: Steady { value: impaired, since_ms },
                        priority: Steady { value: priority, since_ms },
                        elsewhere: view.elsewhere,
                    };
                    self.nodes.insert(view.id.clone(), node);
                }
            }
        }
        if ordered {
            self.disturbed(now_ms);
        }
        let of_the_cluster = |id: &&Id| {
            ec2.tags(id).is_some_and(|tags| tags.get("eipwatch:cluster").is_some_and(|name| *name == self.name))
        };
        for id in ec2.address_ids().filter(of_the_cluster) {
            let empty = Tags::new();
            let tags = ec2.tags(id).unwrap_or(&empty);
            let paused_until_ms = tags.get("eipwatch:mode").and_then(|text| paused_until_ms(text));
            let over = paused_until_ms.is_some_and(|until_ms| until_ms <= now_ms);
            let manual = tags.get("eipwatch:mode").is_some_and(|text| text != "auto") && !over;
            let state = tags.get("eipwatch:state").cloned();
            let prefer = tags.get("eipwatch:prefer").cloned();
            let named =
                state.as_deref().and_then(|text| text.strip_prefix("holder=")).and_then(|text| text.split(' ').next());
            self.named_ms.extend(named.map(|id| (Id::from(id), now_ms)));
            match self.addresses.get_mut(id) {
                Some(address) => {
                    // A pause that was over before another began: there may have been no step between the two.
                    if let Some(until_ms) = address.paused_until_ms.filter(|until_ms| *until_ms <= now_ms) {
                        address.manual.update(false, until_ms);
                    }
                    address.manual.update(manual, now_ms);
                    if let Some(until_ms) = address.paused_until_ms
                        && paused_until_ms != address.paused_until_ms
                        && until_ms > now_ms
                    {
                        address.paused_on_ms.push((until_ms, now_ms));
                    }
                    address.paused_until_ms = paused_until_ms;
                    if address.state.value != state {
                        address.told_ms.extend(state.iter().flat_map(|text| told_moves_ms(text)));
                        let words = state.iter().flat_map(|text| text.split(' '));
                        let left = words.filter_map(|word| word.strip_prefix("from=")).map(|id| (Id::from(id), now_ms));
                        address.told_left_ms.extend(left);
                    }
                    address.state.update(state, now_ms);
                    address.prefer.update(prefer, now_ms);
                }
                None => {
                    let address = AddressTruth {
                        association: ec2.association(id).cloned(),
                        placed_ms: 0,
                        came_ms: 0,
                        taken: Vec::new(),
                        cause: Cause::Attachment,
                        manual: Steady::new(manual),
                        paused_until_ms,
                        paused_on_ms: Vec::new(),
                        state: Steady::new(state),
                        prefer: Steady::new(prefer),
                        moves_since_disturbance: 0,
                        late_since_disturbance: 0,
                        blind_since_disturbance: BTreeSet::new(),
                        loose: false,
                        from_running: false,
                        waits: Steady { value: false, since_ms: now_ms },
                        counted: Vec::new(),
                        told_ms: BTreeSet::new(),
                        told_left_ms: BTreeMap::new(),
                    };
                    self.addresses.insert(id.clone(), address);
                }
            }
        }
    }

    fn placed(&mut self, placed: &Placed, next: Option<&Placed>, moment: &Moment<'_>) {
        if let Cause::Displaced { by } = &placed.cause
            && self.addresses.contains_key(by)
            && let Some(Placed { cause: Cause::Call { caller, .. }, .. }) = next
        {
            let since_ms = self.placed_ms.get(&placed.allocation).copied().unwrap_or_default();
            if moment.now_ms.saturating_sub(since_ms) > self.bounds.slack_ms + READ_BEFORE_MOVE_MS {
                let text = format!("caller {caller} moved {by} onto the place of {}", placed.allocation);
                self.object(placed.at_ms, "displaces", text);
            }
        }
        if let Cause::Call { caller, sent_ms } = placed.cause {
            self.judge_move(placed, caller, sent_ms, moment);
        }
        self.placed_ms.insert(placed.allocation.clone(), placed.at_ms);
        let nodes = &self.nodes;
        if let Some(address) = self.addresses.get_mut(&placed.allocation) {
            let holder = |at: &Option<Association>| at.as_ref().and_then(|at| at.instance.clone());
            let ran = holder(&address.association).and_then(|id| nodes.get(&id)).is_some_and(|node| node.running.value);
            address.loose = placed.cause == Cause::Attachment && holder(&placed.association).is_none();
            address.from_running = address.loose && ran;
            // Another place on the same instance is no move.
            if holder(&address.association) != holder(&placed.association) {
                address.cause = placed.cause.clone();
                address.came_ms = placed.at_ms;
                address.taken.push((holder(&address.association), placed.at_ms));
            }
            address.association = placed.association.clone();
            address.placed_ms = placed.at_ms;
        }
    }

    fn judge_move(&mut self, placed: &Placed, caller: u32, sent_ms: u64, moment: &Moment<'_>) {
        let now_ms = placed.at_ms;
        let bounds = self.bounds;
        let slack_ms = bounds.slack_ms;
        let role = self.roles.get(&caller).copied().unwrap_or(Role::Auto);
        let to = placed.association.as_ref().and_then(|at| at.instance.clone()).unwrap_or_default();
        let recent = |since_ms: u64| now_ms.saturating_sub(since_ms) <= slack_ms;
        let ordered_off = self.nodes.get(&to).is_some_and(|node| !node.active.value && recent(node.active.since_ms));
        // Another cluster's has another judge.
        let Some(address) = self.addresses.get_mut(&placed.allocation) else { return };
        self.moves += 1;
        // What was on its way before, or has its effect after its caller gave up on it, is nobody's decision of now.
        let late = sent_ms <= self.disturbed_ms || now_ms > sent_ms + moment.ec2.settings.timeout_ms;
        // EC2 moves whatever it is told to: who sent its call before the last move took effect, or has read the address before that and
        // not since, cannot have known of it, nor of an order that was carried out moments ago who moves it to that very node.
        let unseen =
            sent_ms < address.came_ms || read_before_it_came(moment.ec2, caller, sent_ms, placed, address.came_ms);
        let blind = !late
            && matches!(address.cause, Cause::Call { caller: before, .. } if before != caller)
            && (unseen || ordered_off)
            && address.blind_since_disturbance.insert(caller);
        let from = address.association.as_ref().and_then(|at| at.instance.clone());
        let holder = from.as_ref().and_then(|id| self.nodes.get(id)).cloned();
        let target = self.nodes.get(&to).cloned();
        // Nor does a move count for which there was reason before the last disturbance, to a node that this has harmed and no watch has found out
        // yet: what it leads to is another.
        let reason_ms = match (&address.association, &holder) {
            (None, _) => 0,
            (Some(_), Some(node)) if !node.running.value => node.running.since_ms,
            (Some(_), Some(node)) if node.condition.value == Condition::Bad => node.condition.since_ms,
            _ => now_ms,
        };
        let harmed = |node: &NodeTruth| {
            node.condition.value == Condition::Bad
                && node.condition.since_ms >= self.disturbed_ms
                && !node.condition.long(&Condition::Bad, bounds.found_out_ms(), now_ms)
        };
        let in_vain = reason_ms.max(address.came_ms) < self.disturbed_ms && target.as_ref().is_some_and(harmed);
        address.moves_since_disturbance += u32::from(!late && !blind && !in_vain);
        address.late_since_disturbance += u32::from(late);
        let moves = address.moves_since_disturbance;
        let address = address.clone();
        let who =
            format!("caller {caller} moved {} from {} to {to}", placed.allocation, from.as_deref().unwrap_or("-"));

        // An old answer may show a pause that is over, and was made longer before that.
        let seems_over = |(until_ms, changed_ms): &(u64, u64)| *until_ms <= now_ms && recent(*changed_ms);
        let paused = address.manual.long(&true, slack_ms, now_ms) && !address.paused_on_ms.iter().any(seems_over);
        if role == Role::Auto && paused {
            self.object(now_ms, "moves in manual mode", who.clone());
        }
        let reads_fine = self.api_faulty.long(&false, slack_ms, now_ms);
        // While calls fail, what is known grows old.
        let age_ms = if reads_fine { 0 } else { WATCH_LIFE_MS };
        // Whoever moves it back to where it was moments ago has that taken for an old reading, unless it is on record.
        let left = |(last, at_ms): &(Option<Id>, u64)| *last == from && at_ms + SETTLING_MS + slack_ms > now_ms;
        let just_left = from.is_some() && address.taken.iter().any(left);
        let recorded_there = remembers(&address, from.as_ref()) && !recent(address.state.since_ms);
        let just_recorded = from.as_ref().and_then(|from| address.told_left_ms.get(from));
        let just_recorded = just_recorded.is_some_and(|at_ms| at_ms + SETTLING_MS + slack_ms > now_ms);
        let taken_for_stale = (just_left || just_recorded) && !recorded_there;
        // Who forges or wipes the memory of a move a moment ago has another node taken for the holder.
        let forged = self.memory_lost_ms + SETTLING_MS + slack_ms > now_ms;
        // It is judged by whom it may be believed to be on: whom the record names, or anybody.
        let believed =
            |id: &Id| forged || taken_for_stale && (remembers(&address, Some(id)) || recent(address.state.since_ms));
        // What is on an instance that is no node, or on another service's interface, is left alone.
        let outsider = match (&address.association, &from) {
            (Some(_), Some(id)) => {
                let node = self.nodes.get(id);
                let no_node = node.is_none_or(|node| node.member.long(&false, slack_ms + age_ms, now_ms));
                // Whom a state named while this watch may have read it has been a node.
                let named = self.named_ms.get(id).is_some_and(|at_ms| at_ms + WATCH_LIFE_MS > now_ms);
                no_node && !named
            }
            (Some(_), None) => !address.loose,
            (None, _) => false,
        };
        if outsider && role == Role::Auto && !recent(address.placed_ms) && !taken_for_stale {
            self.object(now_ms, "moves off an outsider", who.clone());
        }

        // There is nothing to lose: nobody holds it, or who does is gone.
        let may_be_gone =
            |node: &NodeTruth| !node.running.value || now_ms.saturating_sub(node.running.since_ms) <= slack_ms + age_ms;
        let rescue = match (&address.association, &holder) {
            (None, _) => true,
            (Some(_), None) => address.loose,
            (Some(_), Some(node)) => may_be_gone(node),
        } || recent(address.placed_ms)
            || self.nodes.iter().any(|(id, node)| believed(id) && may_be_gone(node));
        if role == Role::Auto
            && address.from_running
            && reads_fine
            && (1_500..LOOSE_FOR_MS).contains(&now_ms.saturating_sub(address.placed_ms))
        {
            self.object(now_ms, "takes a loose interface too soon", who.clone());
        }
        if !rescue && role != Role::Force {
            if !(moment.passed)(caller, &to) {
                self.object(
                    now_ms,
                    "to no candidate",
                    format!("{who}, of which no probe has passed in that invocation"),
                );
            }
            match &target {
                None => self.object(now_ms, "to no node", who.clone()),
                Some(node) => {
                    let slack_ms = slack_ms + age_ms;
                    let found_out_ms = bounds.found_out_ms() + slack_ms - bounds.slack_ms;
                    let reads_fine = self.api_faulty.long(&false, EVENT_BELIEVED_MS, now_ms);
                    let mut against = Vec::new();
                    if node.elsewhere {
                        against.push("is in another border group");
                    }
                    if node.running.long(&false, slack_ms, now_ms) {
                        against.push("does not run");
                    }
                    let search_ms = bounds.slack_ms + SEARCHED_MS;
                    if node.undescribed.long(&true, search_ms, now_ms)
                        && !throttled_since(moment.ec2, caller, now_ms.saturating_sub(search_ms))
                    {
                        against.push("cannot be described");
                    }
                    if node.member.long(&false, slack_ms, now_ms) {
                        against.push("is no member");
                    }
                    if node.active.long(&false, slack_ms, now_ms) {
                        against.push("is not active");
                    }
                    // What was announced is over once it is started anew.
                    let in_this_life = node.on_record.since_ms >= node.running.since_ms;
                    if node.on_record.long(&true, slack_ms, now_ms) && in_this_life {
                        against.push("is leaving");
                    }
                    let overruled = node.undrained_ms >= node.due.since_ms;
                    if reads_fine
                        && !overruled
                        && node.due.long(&true, slack_ms + bounds.paced_ms + STATUS_AGE_MS, now_ms)
                    {
                        against.push("is scheduled to stop");
                    }
                    if node.condition.long(&Condition::Bad, found_out_ms, now_ms) {
                        against.push("fails its checks");
                    }
                    if reads_fine && node.impaired.long(&true, slack_ms + bounds.paced_ms + STATUS_AGE_MS, now_ms) {
                        against.push("is impaired");
                    }
                    if !against.is_empty() {
                        self.object(now_ms, "to no candidate", format!("{who}, which {}", against.join(", ")));
                    }
                }
            }
        } else if role != Role::Force
            && target.as_ref().is_none_or(|node| node.running.long(&false, slack_ms + EVENT_BELIEVED_MS, now_ms))
        {
            self.object(now_ms, "rescued to what does not run", who.clone());
        } else if role == Role::Auto
            && self.api_faulty.long(&false, WATCH_LIFE_MS, now_ms)
            && target.as_ref().is_some_and(|node| node.condition.long(&Condition::Bad, bounds.found_out_ms(), now_ms))
            && let Some(better) = self.someone_fit(moment.ec2, &[&to], bounds.forgiven_ms() + LAST_RESORT_MS, now_ms)
            // A place of its that has only just become free need not have been seen.
            && !moment.ec2.history().iter().rev().take_while(|it| recent(it.at_ms)).any(|it| {
                let before = moment.ec2.association_at(&it.allocation, it.at_ms.saturating_sub(1));
                before.and_then(|at| at.instance.as_ref()) == Some(&better)
            })
        {
            self.object(now_ms, "rescued to a worse node", format!("{who}, though {better} could take it"));
        }

        let forgiven_ms = bounds.forgiven_ms() + age_ms;
        let is_well = |node: &NodeTruth| {
            node.running.long(&true, slack_ms + age_ms, now_ms)
                && node.condition.long(&Condition::Good, forgiven_ms, now_ms)
                && node.active.long(&true, slack_ms + age_ms, now_ms)
                && node.announced.long(&false, slack_ms + age_ms, now_ms)
                && node.scheduled.long(&false, slack_ms + age_ms + STATUS_AGE_MS, now_ms)
        };
        let well = holder.as_ref().is_some_and(is_well)
            && self.nodes.iter().filter(|(id, _)| believed(id)).all(|(_, node)| is_well(node));
        // By the truth of now: what a watch may only have believed, and what it was told to do, made no move necessary.
        let needed = match (&address.association, &holder) {
            (None, _) => true,
            (Some(_), None) => address.loose,
            (Some(_), Some(node)) => {
                !node.running.value
                    || node.condition.value == Condition::Bad
                    || !node.active.value
                    || node.announced.value
                    || node.due.value
            }
        };
        if role == Role::Auto && needed {
            self.necessary += 1;
        }
        if well && role == Role::Auto && !recent(address.placed_ms) && !forged && !taken_for_stale {
            let rank =
                |id: &Id, node: &NodeTruth| (address.prefer.value.as_deref() == Some(&**id), node.priority.value);
            let outranks = match (&from, &holder, &target) {
                (Some(from), Some(holder), Some(target)) => {
                    rank(&to, target) > rank(from, holder)
                        || [holder.priority.since_ms, target.priority.since_ms, address.prefer.since_ms]
                            .into_iter()
                            .any(recent)
                }
                _ => false,
            };
            // What a command's invocation did for another reason than the command is its own.
            let by_command = |by: &u32| {
                matches!(self.roles.get(by), Some(Role::Command | Role::Force))
                    && address.state.value.as_ref().is_some_and(|text| text.contains(" why=manual"))
            };
            let by_others = match &address.cause {
                Cause::Operator | Cause::Displaced { .. } => true,
                Cause::Call { caller, .. } => by_command(caller),
                _ => false,
            };
            let remembered = address.state.value.as_ref().is_some_and(|text| text.contains("holder="))
                && !recent(address.state.since_ms)
                && self.memory_lost_ms < address.state.since_ms;
            // Somebody may have brought it back to where the watch left it: the memory says no more than that.
            let left_there = from.as_ref().is_some_and(|from| {
                let text = address.state.value.as_deref().unwrap_or_default();
                text.starts_with(&format!("holder={from} "))
                    && !text.contains(" why=external")
                    && !text.contains(" why=manual")
            });
            let by_others = by_others && !left_there;
            // What came by others and is on no record may have come long ago, for all that a watch can know that has not seen it come;
            // what a watch moved that died before it could write the first record, too.
            let saw = (moment.began_ms)(caller).is_some_and(|at_ms| at_ms + slack_ms < address.came_ms);
            let known = address.state.since_ms >= address.came_ms
                || matches!(address.cause, Cause::Call { caller: by, .. } if by == caller || saw || names_a_holder(&address));
            if !bounds.failback || !outranks {
                self.object(now_ms, "moves off a healthy holder", who.clone());
            } else if by_others && remembered {
                self.object(now_ms, "failback undoes others' move", who.clone());
            } else if now_ms.saturating_sub(address.came_ms) + slack_ms < bounds.stable_ms && known {
                self.object(now_ms, "failback too soon", who.clone());
            }
        }
        // The brake, as far as memory survives: whoever decides has read what was moved before.
        let by_checks = role == Role::Auto
            && !rescue
            && !taken_for_stale
            && holder.as_ref().is_some_and(|node| {
                node.active.long(&true, slack_ms, now_ms)
                    && node.announced.long(&false, slack_ms, now_ms)
                    && node.scheduled.long(&false, slack_ms + STATUS_AGE_MS, now_ms)
            });
        if by_checks {
            let within = |at_ms: u64| now_ms.saturating_sub(at_ms) + 2 * slack_ms < bounds.window_ms;
            // A watch that died before it could write it down has left no memory of it.
            let told = |at_ms: u64| address.told_ms.range(at_ms.saturating_sub(slack_ms)..=at_ms + slack_ms).next();
            let known = |at_ms: u64, by: u32| by == caller || told(at_ms).is_some();
            let counts = |(at_ms, by): &&(u64, u32)| within(*at_ms) && !recent(*at_ms) && known(*at_ms, *by);
            let remembered = address.counted.iter().filter(counts).count();
            // From probe to probe it may have become well unseen.
            let unseen_ms = slack_ms + bounds.paced_ms + bounds.interval_ms + bounds.timeout_ms;
            let failed_lately = holder.as_ref().is_some_and(|node| {
                node.condition.long(&Condition::Good, unseen_ms, now_ms)
                    // While nobody watched it may have been well for long, for all that is remembered.
                    || node.condition.value == Condition::Bad
                        && node.was_good_ms > unseen_ms
                        && moment.watched_since_ms.is_some_and(|since_ms| since_ms + unseen_ms < node.good_until_ms)
                        && now_ms.saturating_sub(node.good_until_ms) + slack_ms < bounds.stable_ms
            });
            let forged_ms = [&holder, &target].into_iter().flatten().map(|node| node.health_forged_ms).max();
            let touched_ms = self.memory_lost_ms.max(self.brake_ended_ms).max(forged_ms.unwrap_or_default());
            let memory_whole = touched_ms + bounds.window_ms < now_ms;
            if remembered >= bounds.max_moves && failed_lately && reads_fine && memory_whole {
                let text = format!("{who}: {remembered} moves within the window before");
                self.object(now_ms, "ignores the brake", text);
            }
            if let Some(address) = self.addresses.get_mut(&placed.allocation) {
                address.counted.push((now_ms, caller));
            }
        }
        // One, one more by racing, one more where a place may be raced for, and one that puts right what came late; calls that fail add to
        // them.
        let raced = u32::from(self.places_are_scarce(moment.ec2));
        let allowed =
            2 + raced + u32::from(bounds.failback) + address.late_since_disturbance + if reads_fine { 0 } else { 5 };
        // What becomes of a node later than the last disturbance is one more.
        let changes = |of: &Steady<Condition>| recent(of.since_ms) && of.since_ms > self.disturbed_ms;
        let unclear =
            self.nodes.values().any(|node| node.condition.value == Condition::Unclear || changes(&node.condition));
        if role != Role::Auto
            && let Some(address) = self.addresses.get_mut(&placed.allocation)
        {
            address.begin_anew();
        }
        if moves > allowed && !unclear {
            let text = format!("{who}: {moves} moves since the last disturbance at {}", self.disturbed_ms);
            self.object(now_ms, "too many moves", text);
        }
    }

    /// Whether an address may find its place on a node taken: by another of the cluster, or by one that is none of its.
    fn places_are_scarce(&self, ec2: &Ec2) -> bool {
        let on_node = |at: &Association| at.instance.as_ref().is_some_and(|id| self.nodes.contains_key(id));
        let foreign = |id: &&Id| !self.addresses.contains_key(*id);
        self.addresses.len() > 1 || ec2.address_ids().filter(foreign).filter_map(|id| ec2.association(id)).any(on_node)
    }

    /// A node that has been fit to take an address for so long, and has a free place for it.
    fn someone_fit(&self, ec2: &Ec2, but: &[&Id], for_ms: u64, now_ms: u64) -> Option<Id> {
        let fit = |node: &NodeTruth| {
            !node.elsewhere
                && node.running.long(&true, for_ms, now_ms)
                && node.member.long(&true, for_ms, now_ms)
                && node.active.long(&true, for_ms, now_ms)
                && node.announced.long(&false, for_ms, now_ms)
                && node.scheduled.long(&false, for_ms + STATUS_AGE_MS, now_ms)
                && node.impaired.long(&false, for_ms + STATUS_AGE_MS, now_ms)
                && node.outlived.long(&false, for_ms + STATUS_AGE_MS, now_ms)
                && node.condition.long(&Condition::Good, for_ms, now_ms)
        };
        let all = self.nodes.iter().filter(|(id, node)| !but.contains(id) && fit(node));
        all.map(|(id, _)| id).find(|id| has_room(ec2, id)).cloned()
    }

    /// The moves within the window, of whatever kind, or those that the tag says there were: the brake may be on. It holds an address on a
    /// node that runs and stays, and on no other.
    fn may_brake(&self, ec2: &Ec2, allocation: &Id, address: &AddressTruth, now_ms: u64) -> bool {
        let holder = address.association.as_ref().and_then(|at| at.instance.as_ref());
        if !holder.and_then(|id| self.nodes.get(id)).is_some_and(|node| node.running.value && !node.is_to_be_left()) {
            return false;
        }
        let within = |at_ms: u64| now_ms.saturating_sub(at_ms) <= self.bounds.window_ms + self.bounds.slack_ms;
        let placed = ec2.history().iter().filter(|it| it.allocation == *allocation && within(it.at_ms)).count();
        let told = address.state.value.as_deref().map(told_moves_ms).unwrap_or_default();
        placed.max(told.into_iter().filter(|at_ms| within(*at_ms)).count()) >= self.bounds.max_moves
    }

    /// While a watch runs that nothing has harmed, and EC2 does what it is told, no address waits on a node that is not well while
    /// another could take it.
    fn judge_waiting(&mut self, moment: &Moment<'_>) {
        let now_ms = moment.now_ms;
        let bounds = self.bounds;
        let mut found: Vec<(Id, bool)> = Vec::new();
        for (id, address) in &self.addresses {
            let holder = address.association.as_ref().and_then(|at| at.instance.as_ref());
            let ill = match (&address.association, holder.map(|id| self.nodes.get(id))) {
                (None, _) => true,
                // Without its tag it is an outsider, unless the address remembers it.
                (Some(_), Some(Some(node))) if !node.member.value && !remembers(address, holder) => false,
                (Some(_), Some(Some(node))) => {
                    !node.running.value || node.condition.value == Condition::Bad || node.is_to_be_left()
                }
                // Nothing's interface may be an outsider's; another instance is one.
                (Some(_), _) => false,
            };
            let ill = ill && !address.manual.value;
            let but: Vec<&Id> = holder.into_iter().collect();
            // What the brake may hold waits from when it may no more.
            let waits = ill
                && self.someone_fit(moment.ec2, &but, bounds.forgiven_ms(), now_ms).is_some()
                && !self.may_brake(moment.ec2, id, address, now_ms);
            found.push((id.clone(), waits));
        }
        let bound_ms = bounds.found_out_ms() + TO_MOVE_MS;
        let Some(since_ms) = moment.watched_since_ms else {
            for (id, waits) in found {
                self.waits(&id, waits, now_ms);
            }
            return;
        };
        let watched_ms = now_ms.saturating_sub(since_ms);
        // What EC2 refused once counts for the whole invocation.
        let clean = self.api_faulty.long(&false, watched_ms + bounds.slack_ms, now_ms);
        for (id, waits) in found {
            self.waits(&id, waits, now_ms);
            let Some(address) = self.addresses.get(&id).cloned() else { continue };
            let long = address.waits.long(&true, bound_ms, now_ms)
                && address.manual.long(&false, bound_ms, now_ms)
                && now_ms.saturating_sub(address.placed_ms) > bound_ms + SETTLING_MS
                && now_ms.saturating_sub(self.memory_lost_ms) > bound_ms + SETTLING_MS;
            if !long || watched_ms <= bound_ms || !clean {
                continue;
            }
            let but: Vec<&Id> = address.association.iter().filter_map(|at| at.instance.as_ref()).collect();
            // One that was started in the meantime may have been refused before.
            let could = self.someone_fit(moment.ec2, &but, bounds.forgiven_ms().max(watched_ms), now_ms);
            if let Some(could) = could {
                let on = but.first().map_or("nobody", |id| id);
                let text = format!(
                    "{id} has been on {on} for {} ms, though {could} could take it",
                    now_ms - address.waits.since_ms
                );
                self.object(now_ms, "left unrescued", text);
                self.waits(&id, false, now_ms);
            }
        }
    }

    fn waits(&mut self, id: &Id, waits: bool, now_ms: u64) {
        if let Some(address) = self.addresses.get_mut(id) {
            address.waits.update(waits, now_ms);
        }
    }

    /// Everything that interfered has ended, and an invocation has begun since that had time to see it: unless the brake may be on, every
    /// address must be on a node that is well.
    pub fn judge_recovery(&mut self, ec2: &Ec2, now_ms: u64) {
        let all: Vec<(Id, AddressTruth)> = self.addresses.iter().map(|(id, it)| (id.clone(), it.clone())).collect();
        for (id, address) in all {
            if !self.may_brake(ec2, &id, &address, now_ms)
                && let Some(text) = self.not_rescued(ec2, &id, &address)
            {
                self.object(now_ms, "not rescued in time", text);
            }
        }
    }

    /// What is wrong with where an address is, if it should be elsewhere.
    fn not_rescued(&self, ec2: &Ec2, id: &Id, address: &AddressTruth) -> Option<String> {
        if self.is_others(address) {
            return None;
        }
        let holder = address.association.as_ref().and_then(|at| at.instance.as_ref());
        let fit = |node: &NodeTruth| {
            node.running.value
                && node.member.value
                && node.active.value
                && !node.announced.value
                && !node.scheduled.value
                && !node.impaired.value
                && !node.elsewhere
                && node.condition.value == Condition::Good
        };
        let well = holder.and_then(|id| self.nodes.get(id)).is_some_and(|node| {
            node.running.value
                && node.condition.value == Condition::Good
                && node.active.value
                && !node.announced.value
                && !node.scheduled.value
        });
        let could: Vec<&Id> =
            self.nodes.iter().filter(|(id, node)| fit(node) && has_room(ec2, id)).map(|(id, _)| id).collect();
        let on = holder.map_or("nobody", |id| id);
        (!well && !could.is_empty()).then(|| format!("{id} is on {on}, though {could:?} could take it"))
    }

    /// In manual mode, or on something that is none of the cluster's.
    fn is_others(&self, address: &AddressTruth) -> bool {
        let holder = address.association.as_ref().and_then(|at| at.instance.as_ref());
        let no_node = |id: &Id| self.nodes.get(id).is_none_or(|node| !node.member.value && !remembers(address, holder));
        let on_other = match (&address.association, holder) {
            (None, _) => false,
            (Some(_), Some(id)) => no_node(id),
            (Some(_), None) => !address.loose,
        };
        address.manual.value || on_other
    }

    /// Everything that interfered has ended long ago: the address must be where it belongs.
    pub fn judge_rest(&mut self, ec2: &Ec2, now_ms: u64) {
        let all: Vec<(Id, AddressTruth)> = self.addresses.iter().map(|(id, it)| (id.clone(), it.clone())).collect();
        for (id, address) in all {
            if self.is_others(&address) {
                continue;
            }
            if let Some(text) = self.not_rescued(ec2, &id, &address) {
                self.object(now_ms, "not rescued", text);
            }
            let holder = address.association.as_ref().and_then(|at| at.instance.clone());
            if let (Some(text), Some(holder)) = (&address.state.value, &holder)
                && text.starts_with("holder=i-")
                && text.contains(" why=")
                && [" from=i-", " from=none "].iter().any(|from| text.contains(from))
                && !text.starts_with(&format!("holder={holder} "))
            {
                self.object(now_ms, "remembers another holder", format!("{id} is on {holder}, its state says {text}"));
            }
        }
    }

    /// The addresses that are on no node that is well now.
    pub fn ill(&self) -> Vec<Id> {
        self.addresses.iter().filter(|(_, address)| !self.on_well_node(address)).map(|(id, _)| id.clone()).collect()
    }

    /// How many of these are well now, by what a watch did since then.
    pub fn recovered(&self, ill: &[Id], since_ms: u64) -> u64 {
        let by_a_watch = |it: &&AddressTruth| matches!(it.cause, Cause::Call { .. }) && it.came_ms >= since_ms;
        let moved = ill.iter().filter_map(|id| self.addresses.get(id)).filter(by_a_watch);
        moved.map(|address| u64::from(self.on_well_node(address))).sum()
    }

    fn on_well_node(&self, address: &AddressTruth) -> bool {
        let holder = address.association.as_ref().and_then(|at| at.instance.as_ref());
        holder
            .and_then(|id| self.nodes.get(id))
            .is_some_and(|node| node.running.value && node.condition.value == Condition::Good && node.active.value)
    }

    /// A watch asks to move an address. Off another service's interface EC2 lets nobody move it, so that only the call shows it.
    pub fn judge_attempt(&mut self, caller: u32, allocation: &Id, at_ms: u64) {
        let role = self.roles.get(&caller).copied().unwrap_or(Role::Auto);
        let Some(address) = self.addresses.get(allocation) else { return };
        let on_service = address.association.as_ref().is_some_and(|at| at.instance.is_none()) && !address.loose;
        if role == Role::Auto && on_service && at_ms.saturating_sub(address.placed_ms) > self.bounds.slack_ms {
            let text = format!("caller {caller} asks to move {allocation} off another service's interface");
            self.object(at_ms, "moves off an outsider", text);
        }
    }

    /// An invocation said that it moved an address: it must have been there while the invocation ran.
    pub fn judge_claim(&mut self, ec2: &Ec2, claim: &Claim) {
        let from_ms = claim.started_ms.saturating_sub(self.bounds.slack_ms);
        if !was_there(ec2, &claim.allocation, claim.to.as_ref(), from_ms, claim.ended_ms) {
            let text = format!("caller {} says it moved {} to {:?}", claim.caller, claim.allocation, claim.to);
            self.object(claim.ended_ms, "claims what it did not do", text);
        }
    }

    /// An invocation said who holds an address at its end: so it must have been not long before.
    pub fn judge_holder(&mut self, ec2: &Ec2, claim: &Claim) {
        let reads_fine = self.api_faulty.long(&false, claim.ended_ms - claim.started_ms, claim.ended_ms);
        let age_ms = SETTLING_MS + self.bounds.slack_ms + if reads_fine { 0 } else { WATCH_LIFE_MS };
        // Whoever edits the memory may make it say that a move was made a moment ago.
        let edited = self.memory_lost_ms + WATCH_LIFE_MS > claim.ended_ms;
        if !edited
            && !was_there(
                ec2,
                &claim.allocation,
                claim.to.as_ref(),
                claim.ended_ms.saturating_sub(age_ms),
                claim.ended_ms,
            )
        {
            let text = format!("caller {} says that {:?} holds {}", claim.caller, claim.to, claim.allocation);
            self.object(claim.ended_ms, "reports a holder that it was not", text);
        }
    }

    /// An invocation wrote into an address's tag who holds it: so it must have been while the invocation ran.
    pub fn judge_record(&mut self, ec2: &Ec2, caller: u32, allocation: &Id, value: &str, at_ms: u64) {
        let Some(holder) = value.strip_prefix("holder=").and_then(|rest| rest.split(' ').next()) else { return };
        let holder = Id::from(holder);
        if !was_there(ec2, allocation, Some(&holder), at_ms.saturating_sub(WATCH_LIFE_MS), at_ms) {
            let text = format!("caller {caller} writes on {allocation}: {value}");
            self.object(at_ms, "records what was not", text);
        }
        // No more moves are counted than there were.
        let told = value.split_once(" moves=").map_or("", |(_, moves)| moves);
        let told = told.split('/').filter(|time| !time.is_empty()).count();
        // Another place on the same instance is a move to whoever did not see the first.
        let made = ec2.history().iter().filter(|it| it.allocation == *allocation && it.at_ms > self.start_ms).count();
        if self.memory_lost_ms == 0 && told > made + COUNTED_BY_RACING {
            let text = format!("caller {caller} writes on {allocation}, which was moved {made} times: {value}");
            self.object(at_ms, "counts moves that were not", text);
        }
    }
}

/// Whether an address was on an instance, or on none, at some time within a stretch.
fn was_there(ec2: &Ec2, allocation: &Id, holder: Option<&Id>, from_ms: u64, to_ms: u64) -> bool {
    let there = |at: Option<&Association>| at.and_then(|at| at.instance.as_ref()) == holder;
    let within = |it: &&Placed| it.allocation == *allocation && (from_ms..=to_ms).contains(&it.at_ms);
    there(ec2.association_at(allocation, from_ms))
        || ec2.history().iter().filter(within).any(|it| there(it.association.as_ref()))
}

/// Whether an address's state names some holder, as one that can be read does.
fn names_a_holder(address: &AddressTruth) -> bool {
    address.state.value.as_deref().is_some_and(|text| text.starts_with("holder=i-"))
}

/// Whether an address's state names that holder.
fn remembers(address: &AddressTruth, holder: Option<&Id>) -> bool {
    let text = address.state.value.as_deref().unwrap_or_default();
    holder.is_some_and(|id| text.starts_with(&format!("holder={id} ")))
}

/// When a mode tag's pause ends by itself, in milliseconds since 1970.
fn paused_until_ms(text: &str) -> Option<u64> {
    let until = humantime::parse_rfc3339(text.strip_prefix("manual until=")?).ok()?;
    u64::try_from(until.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// The moves that a state tag tells of.
fn told_moves_ms(state: &str) -> Vec<u64> {
    let moves = state.split_once(" moves=").map_or("", |(_, moves)| moves).split('/');
    let times = moves.filter_map(|time| humantime::parse_rfc3339(time).ok());
    let since_1970 = times.filter_map(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since_1970.filter_map(|time| u64::try_from(time.as_millis()).ok()).collect()
}

/// Whether a private address of a node's primary interface is free.
fn has_room(ec2: &Ec2, id: &Id) -> bool {
    let Some(primary) = ec2.primary_interface(id) else { return false };
    let Some(nic) = ec2.interfaces_of(&primary).next() else { return false };
    let taken: BTreeSet<Ipv4Addr> = ec2
        .address_ids()
        .filter_map(|id| ec2.association(id))
        .filter(|at| at.interface == nic.id)
        .map(|at| at.private_ip)
        .collect();
    nic.private_ips.iter().any(|ip| !taken.contains(ip))
}

/// What an invocation answered of an address.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which invocation.
    pub caller: u32,
    /// When it began.
    pub started_ms: u64,
    /// When it answered.
    pub ended_ms: u64,
    /// Which address.
    pub allocation: Id,
    /// Which node; `None`: none.
    pub to: Option<Id>,
}

/// Where an address is, and its tags.
type Whereabouts = (Option<(Id, Ipv4Addr)>, Arc<Tags>);

/// What EC2 has shown one caller: what it then asks for is measured by it.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    addresses: BTreeMap<Id, Whereabouts>,
    read_ms: Option<u64>,
    instances: BTreeMap<Id, Arc<Tags>>,
    /// What the caller wrote itself, and when: a read may be taken as older than that.
    written_ms: BTreeMap<(Id, String), u64>,
}

impl Shown {
    /// Takes in an answer as it reaches the caller.
    pub fn take(&mut self, request: &Request, response: &Response, now_ms: u64) {
        match response {
            Response::Tagged => {
                let Request::CreateTags { resources, tags, .. } = request else { return };
                for id in resources {
                    self.written_ms.extend(tags.iter().map(|(key, _)| ((id.clone(), key.clone()), now_ms)));
                    let of_address = self.addresses.get_mut(id).map(|(_, shown)| shown);
                    if let Some(shown) = of_address.or_else(|| self.instances.get_mut(id)) {
                        Arc::make_mut(shown).extend(tags.iter().cloned());
                    }
                }
            }
            Response::Addresses(all) => {
                self.read_ms = Some(now_ms);
                let place = |at: &Association| (at.interface.clone(), at.private_ip);
                self.addresses = all
                    .iter()
                    .map(|it| (it.id.clone(), (it.association.as_ref().map(place), it.tags.clone())))
                    .collect();
            }
            Response::Instances(all) if matches!(request, Request::DescribeInstances(Filter::TagKey(_))) => {
                self.instances = all.iter().map(|it| (it.id.clone(), it.tags.clone())).collect();
            }
            // By id they are asked for in parts, which count when the last has come: what is known of them meanwhile is open.
            Response::Instances(all) => self.instances.retain(|id, _| !all.iter().any(|it| it.id == *id)),
            Response::Tags(_) => self.instances.clear(),
            _ => {}
        }
    }

    /// What speaks against asking for this now, by what was shown: which rule, and why.
    pub fn objection(&self, request: &Request, now_ms: u64) -> Option<(&'static str, String)> {
        match request {
            Request::AssociateAddress { allocation, interface, private_ip, dry_run: false, .. } => {
                let Some(read_ms) = self.read_ms else {
                    return Some(("moves blindly", format!("{allocation} was never read")));
                };
                let age_ms = now_ms.saturating_sub(read_ms);
                if age_ms > READ_BEFORE_MOVE_MS {
                    return Some(("moves blindly", format!("{allocation} was read {age_ms} ms before")));
                }
                let target = (interface.clone(), *private_ip);
                let on_target = |(_, (at, _)): &(&Id, &Whereabouts)| at.as_ref() == Some(&target);
                let (id, _) = self.addresses.iter().find(on_target)?;
                if id == allocation {
                    Some((
                        "changes nothing",
                        format!("{allocation} is shown where it is to go: {interface} {private_ip}"),
                    ))
                } else {
                    Some(("displaces", format!("{id} is shown where {allocation} is to go: {interface} {private_ip}")))
                }
            }
            Request::CreateTags { resources, tags, dry_run: false } => {
                let shown = |id: &Id| self.addresses.get(id).map(|(_, tags)| tags).or_else(|| self.instances.get(id));
                let doubted = |id: &Id, key: &String| {
                    let written_ms = self.written_ms.get(&(id.clone(), key.clone()));
                    written_ms.is_some_and(|at_ms| now_ms.saturating_sub(*at_ms) < OWN_WRITES_BELIEVED_MS)
                };
                let same = resources.iter().find(|id| {
                    !tags.iter().any(|(key, _)| doubted(id, key))
                        && shown(id).is_some_and(|shown| tags.iter().all(|(key, value)| shown.get(key) == Some(value)))
                })?;
                Some(("changes nothing", format!("{tags:?} is shown on {same} already")))
            }
            _ => None,
        }
    }
}
