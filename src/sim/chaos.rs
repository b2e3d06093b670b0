//! Worlds and their misfortunes, out of a seed.
//!
//! A life alternates between trouble, in which faults of all kinds strike, and rest, in which everything that interfered has ended and
//! the address must come to where it belongs and stay. The same seed lives the same life.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::core::log::Record;
use crate::core::watch::Ending;
use crate::embedded::ec2::{
    Alarm, AlarmState, Api, Check, CheckKind, Error, Id, Place, Request, ScheduledEvent, State, tags,
};
use crate::embedded::faults::{Fault, Rule, Shown};

use super::check::{Bounds, Checker, Claim, Condition, NodeView, Role, Violation};
use super::world::{AGENTS_FROM, Behaviour, Death, Delivery, Handle, SERVES, START_MS, World};
use super::world::{lifecycle_event, schedule_event, spot_event, state_event, tag_event};

/// Every kind of fault, by name.
pub const KINDS: [&str; 52] = [
    "agent-dead",
    "agent-fails",
    "agent-leaves",
    "alarm",
    "api-cut-off",
    "api-down",
    "api-error-after",
    "api-errors",
    "api-hollow",
    "api-late",
    "api-lost-answer",
    "api-lost-request",
    "api-slow",
    "clock-skew",
    "cluster-tag-lost",
    "command-force",
    "command-move",
    "crash",
    "crash-all",
    "drain",
    "edit-health",
    "edit-policy",
    "edit-state",
    "event-old",
    "event-twice",
    "flap",
    "hand-move",
    "hand-remove",
    "hand-to-outsider",
    "hang",
    "impaired",
    "kill",
    "kill-before-act",
    "kill-after-act",
    "loose-interface",
    "manual",
    "not-permitted",
    "occupied",
    "omitted",
    "overlap",
    "partition",
    "partition-one",
    "reboot",
    "scheduled-event",
    "silent",
    "slow",
    "spot",
    "stale-associations",
    "stale-states",
    "stale-tags",
    "stop",
    "terminate",
];

/// More of them, which strike by themselves or together with others.
pub const MORE_KINDS: [&str; 5] = ["lifecycle", "status-500", "throttle", "wipe-tags", "zone"];

/// Every reason that a decision can have.
pub const WHYS: [&str; 18] = [
    "no-holder",
    "holder-gone",
    "holder-leaving",
    "holder-draining",
    "holder-unhealthy",
    "failback",
    "manual",
    "last-resort",
    "healthy",
    "no-candidate",
    "manual-mode",
    "outsider",
    "settling",
    "moved-elsewhere",
    "max-moves",
    "no-free-private-address",
    "not-permitted",
    "refused",
];

/// How long rest lasts before it is judged, in milliseconds: the next schedule (60 s), the longest window of the brake (120 s) and `stable` (30 s).
pub const REST_MS: u64 = 300_000;
/// How long before its end nothing may be changed any more.
pub const STILL_MS: u64 = 70_000;
/// The time between two faults, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 1_500..25_000;
/// The most instances that a life launches.
const MAX_LAUNCHED: usize = 40;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// The production watch.
    Eipwatch,
    /// Nobody: the address never moves.
    Never,
    /// One that moves the address to some node now and then.
    Random,
}

/// How a life is lived.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// The seed.
    pub seed: u64,
    /// Who watches.
    pub player: Player,
    /// How long trouble lasts, in milliseconds.
    pub trouble_ms: u64,
    /// How often trouble and rest take turns.
    pub rounds: u32,
    /// Whether to keep what happened, for people.
    pub told: bool,
}

impl Life {
    /// Ten simulated minutes of eipwatch.
    pub fn short(seed: u64) -> Life {
        Life { seed, player: Player::Eipwatch, trouble_ms: 300_000, rounds: 1, told: false }
    }
}

/// What came of one life or of many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Lives.
    pub lives: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Moves that watches made.
    pub moves: u64,
    /// Of these, off a holder that was not well.
    pub necessary: u64,
    /// Times that an address was not well at the beginning of rest, and was at its end.
    pub recoveries: u64,
    /// Probes.
    pub probes: u64,
    /// Invocations.
    pub invocations: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each reason was decided on.
    pub whys: BTreeMap<&'static str, u64>,
    /// Broken rules, by seed.
    pub violations: Vec<(u64, Violation)>,
    /// What happened, where it was to be told.
    pub timeline: Vec<(u64, String)>,
}

impl Tally {
    /// Adds another's figures.
    pub fn add(&mut self, other: Tally) {
        self.lives += other.lives;
        self.simulated_ms += other.simulated_ms;
        self.moves += other.moves;
        self.necessary += other.necessary;
        self.recoveries += other.recoveries;
        self.probes += other.probes;
        self.invocations += other.invocations;
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (why, count) in other.whys {
            *self.whys.entry(why).or_default() += count;
        }
        self.violations.extend(other.violations);
    }

    /// Simulated hours.
    pub fn hours(&self) -> f64 {
        self.simulated_ms as f64 / 3_600_000.0
    }

    /// What was to be met and was not: kinds of faults, reasons, recovery, enough of all.
    pub fn never_met(&self) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        for kind in KINDS.iter().chain(&MORE_KINDS).filter(|kind| !self.faults.contains_key(*kind)) {
            missing.push(format!("no fault of the kind {kind}"));
        }
        for why in WHYS.iter().filter(|why| !self.whys.contains_key(*why)) {
            missing.push(format!("no decision for the reason {why}"));
        }
        let faults: u64 = self.faults.values().sum();
        if (faults as f64) < 20.0 * self.hours() {
            missing.push(format!("only {faults} faults in {:.1} h", self.hours()));
        }
        if (self.necessary as f64) < self.hours() {
            missing.push(format!("only {} necessary moves in {:.1} h", self.necessary, self.hours()));
        }
        if self.recoveries == 0 {
            missing.push("no recovery".to_owned());
        }
        missing
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let faults: u64 = self.faults.values().sum();
        writeln!(
            f,
            "{} lives, {:.1} simulated hours, {} invocations, {} probes, {faults} faults, {} moves ({} necessary), {} recoveries, {} broken rules",
            self.lives,
            self.hours(),
            self.invocations,
            self.probes,
            self.moves,
            self.necessary,
            self.recoveries,
            self.violations.len()
        )?;
        let list = |all: &BTreeMap<&'static str, u64>| {
            all.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "faults: {}", list(&self.faults))?;
        write!(f, "decisions: {}", list(&self.whys))
    }
}

/// What ends by itself.
#[derive(Clone, Debug)]
enum Undo {
    Service(Id),
    Mend(Id),
    MendOne(Handle, Id),
    Start(Id),
    Replace,
    Status(Id),
    Unschedule(Id),
    Terminate(Id),
    Agent(Id),
    Alarm,
    Member(Id),
    Active(Id),
    Auto(Id),
    Policy,
    Unoccupy(Id),
    Home(Id),
    Crash(Id),
}

struct Chaos {
    life: Life,
    world: World,
    checker: Checker,
    rng: fastrand::Rng,
    bounds: Bounds,
    policy: String,
    checks: String,
    probed: bool,
    beats: bool,
    alarmed: bool,
    kinds: Vec<&'static str>,
    size: usize,
    outsider: Id,
    undo: BTreeMap<(u64, u64), Undo>,
    undone: u64,
    announced: BTreeMap<Id, u64>,
    impaired: BTreeMap<Id, ()>,
    alarm_on: Option<Id>,
    faults: BTreeMap<&'static str, u64>,
    timeline: Vec<(u64, String)>,
    open: Vec<Handle>,
    known: usize,
    marks: (usize, usize, usize, usize),
    looked_ms: u64,
    recoveries: u64,
    random_moves_ms: u64,
}

/// Lives one life.
pub fn live(life: Life) -> Tally {
    let mut chaos = Chaos::new(life);
    for _ in 0..life.rounds {
        chaos.trouble();
        chaos.rest();
    }
    chaos.tally()
}

impl Chaos {
    fn new(life: Life) -> Chaos {
        let mut rng = fastrand::Rng::with_seed(life.seed);
        let mut world = World::new(life.seed);
        world.keep_logs = life.told;
        let size = rng.usize(2..=4);
        let addresses = if rng.u8(0..3) == 0 { 2 } else { 1 };
        for _ in 0..size {
            world.add_node();
        }
        for _ in 0..addresses {
            world.add_address();
        }
        let outsider = world.ec2.add_instance(crate::embedded::ec2::InstanceSpec::default());
        let pick = |rng: &mut fastrand::Rng, all: &[u64]| all.get(rng.usize(0..all.len())).copied().unwrap_or_default();
        let (interval_ms, fast_ms) = (1_000, pick(&mut rng, &[250, 500, 500]));
        let timeout_ms = pick(&mut rng, &[500, 1_000, 1_000, 2_000]);
        let (fall, rise) = (pick(&mut rng, &[2, 3, 3, 4]), pick(&mut rng, &[1, 2, 2, 3]));
        let stable_ms = pick(&mut rng, &[0, 5_000, 10_000, 30_000]);
        let failback = rng.u8(0..3) == 0;
        let (max_moves, window_ms) = (rng.usize(1..=4), 60_000 * rng.u64(1..=2));
        let policy = format!(
            "fast={fast_ms}ms timeout={timeout_ms}ms fall={fall} rise={rise} stable={}s failback={} max_moves={} window={}m",
            stable_ms / 1_000,
            if failback { "auto" } else { "off" },
            max_moves,
            window_ms / 60_000
        );
        let probed = rng.u8(0..12) != 0;
        let beats = probed && rng.u8(0..5) == 0;
        let alarmed = probed && rng.u8(0..5) == 0;
        let mut checks = if probed { "http:8080/health".to_owned() } else { "ec2".to_owned() };
        if beats {
            checks.push_str(" heartbeat");
        }
        if alarmed {
            checks.push_str(" alarm:busy");
        }
        if checks == "ec2" {
            checks.clear();
        }
        let mut kinds: Vec<&'static str> = KINDS.iter().chain(&MORE_KINDS).copied().collect();
        rng.shuffle(&mut kinds);
        kinds.truncate(rng.usize(6..=20));
        let ec2_ms = pick(&mut rng, &[0, 40, 120]);
        if ec2_ms > 0 {
            world.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 10, max_ms: ec2_ms }));
        }
        let has = |prefix: &str| kinds.iter().any(|kind| kind.starts_with(prefix));
        // A quiet watch reads every 5 s.
        let slack_ms = 7_000
            + if has("api-") { 8_000 } else { 0 }
            + if has("stale-") { 6_000 } else { 0 }
            + if has("throttle") || has("not-permitted") { 3_000 } else { 0 };
        let paced_ms = if !probed {
            35_000
        } else if alarmed {
            25_000
        } else {
            0
        };
        let bounds = Bounds {
            interval_ms,
            fast_ms,
            timeout_ms,
            fall,
            rise,
            stable_ms,
            failback,
            max_moves,
            window_ms,
            slack_ms,
            paced_ms,
        };
        world.network_ms = pick(&mut rng, &[0, 2, 20]);
        world.boot_ms = pick(&mut rng, &[0, 2_000, 8_000]);
        world.ec2.settings.stopping_ms = 8_000;
        world.ec2.settings.pending_ms = 5_000;
        world.ec2.settings.shutting_down_ms = pick(&mut rng, &[3_000, 12_000]);
        world.ec2.settings.monotonic_reads = rng.bool();
        if rng.u8(0..4) != 0 {
            world.delivery = Some(Delivery {
                min_ms: 50,
                max_ms: pick(&mut rng, &[300, 2_000, 15_000]),
                lost_per_mille: pick32(&mut rng, &[0, 100, 500]),
                doubled_per_mille: pick32(&mut rng, &[0, 200]),
            });
        }
        for (number, node) in world.nodes.clone().iter().enumerate() {
            if rng.u8(0..3) == 0 {
                world.tag(node, "priority", &(50 * (number + 1)).to_string());
            }
            if beats {
                world.start_agent(node, 5_000, 0);
            }
        }
        for address in world.addresses.clone() {
            world.tag(&address, "policy", &policy);
            if checks.is_empty() {
                world.untag(&address, "check");
            } else {
                world.tag(&address, "check", &checks);
            }
            if rng.u8(0..4) == 0 {
                let node = world.node(rng.usize(0..size));
                world.tag(&address, "prefer", &node);
            }
        }
        world.settle();
        let checker = Checker::new(bounds, &world.ec2, &[], START_MS);
        let mut this = Chaos {
            life,
            checker,
            rng,
            bounds,
            policy,
            checks,
            probed,
            beats,
            alarmed,
            kinds,
            size,
            outsider,
            undo: BTreeMap::new(),
            undone: 0,
            announced: BTreeMap::new(),
            impaired: BTreeMap::new(),
            alarm_on: None,
            faults: BTreeMap::new(),
            timeline: Vec::new(),
            open: Vec::new(),
            known: 0,
            marks: (0, 0, 0, 0),
            looked_ms: 0,
            recoveries: 0,
            random_moves_ms: 0,
            world,
        };
        if this.alarmed {
            this.alarm(None);
        }
        let views = this.views();
        this.checker = Checker::new(bounds, &this.world.ec2, &views, START_MS);
        let told = format!(
            "seed {}: {} nodes, {} addresses, check '{}', policy '{}', slack {} ms, faults {:?}",
            life.seed, this.size, addresses, this.checks, this.policy, bounds.slack_ms, this.kinds
        );
        this.tell(told);
        if life.player == Player::Eipwatch {
            let minutes = u64::from(life.rounds) * (life.trouble_ms + REST_MS) / 60_000;
            let (twice, sweeps) = (this.rng.u8(0..6) == 0, this.rng.u8(0..6) == 0);
            if sweeps {
                this.world.settings.watch = std::time::Duration::ZERO;
            }
            for minute in 0..minutes {
                for _ in 0..=u8::from(twice) {
                    let at_ms = minute * 60_000 + this.rng.u64(0..3_000);
                    this.world.scheduled(at_ms);
                }
            }
        }
        this
    }

    fn tell(&mut self, text: String) {
        if self.life.told {
            self.timeline.push((self.world.now_ms(), text));
        }
    }

    fn trouble(&mut self) {
        let end_ms = self.world.now_ms() + self.life.trouble_ms;
        loop {
            let pause_ms = self.rng.u64(PAUSE_MS);
            let next_ms = (self.world.now_ms() + pause_ms).min(end_ms);
            self.pass(next_ms);
            if next_ms >= end_ms {
                return;
            }
            // Misfortunes seldom come singly.
            for _ in 0..if self.rng.u8(0..4) == 0 { 2 } else { 1 } {
                let kind = self.kinds.get(self.rng.usize(0..self.kinds.len().max(1))).copied().unwrap_or("crash");
                if self.strike(kind) {
                    *self.faults.entry(kind).or_default() += 1;
                    self.tell(format!("fault: {kind}"));
                    if matches!(kind, "wipe-tags" | "edit-state" | "command-move" | "command-force") {
                        self.checker.memory_lost(self.now_abs());
                    }
                    self.happened();
                }
            }
        }
    }

    /// Ends everything that interferes, lets the watch put things right, and judges.
    fn rest(&mut self) {
        let begin_ms = self.world.now_ms();
        let manual = self.rng.u8(0..8) == 0;
        let well = self.checker.all_well();
        for (_, undo) in std::mem::take(&mut self.undo) {
            if !matches!(undo, Undo::Home(_)) {
                self.put_right(undo);
            }
        }
        self.world.ec2.faults_mut().retain(|rule| matches!(rule.fault, Fault::Latency { min_ms: 10, .. }));
        self.world.mend();
        if manual {
            let addresses = self.world.addresses.clone();
            for address in addresses {
                self.world.tag(&address, "mode", "manual");
            }
        }
        self.tell(format!("rest{}", if manual { ", in manual mode" } else { "" }));
        self.happened();
        let end_ms = begin_ms + REST_MS;
        self.pass(end_ms - STILL_MS);
        let before = self.world.calls().count();
        self.pass(end_ms);
        let now_ms = START_MS + end_ms;
        let views = self.views();
        self.checker.observe(&self.world.ec2, &views, now_ms);
        let judged = self.checker.judge_rest(&self.world.ec2, now_ms);
        if judged > 0 && !well && self.checker.all_well() {
            self.recoveries += 1;
        }
        let restless: Vec<(u64, String)> = self
            .world
            .calls()
            .skip(before)
            .filter(|(_, call)| call.api.changes() && call.caller < AGENTS_FROM)
            .map(|(at_ms, call)| (at_ms, format!("caller {}: {:?}", call.caller, call.change)))
            .collect();
        for (at_ms, text) in restless {
            self.checker.object(START_MS + at_ms, "restless", text);
        }
        for handle in 0..u32::try_from(self.world.invocations()).unwrap_or_default() {
            let late = self.world.started_ms(handle).is_some_and(|at_ms| at_ms >= end_ms - STILL_MS);
            if late && let Some(report) = self.world.report(handle).filter(|report| !report.ok) {
                let text = format!("invocation {handle}: {:?}", report.error);
                self.checker.object(now_ms, "fails at rest", text);
            }
        }
        if manual {
            let addresses = self.world.addresses.clone();
            for address in addresses {
                self.world.untag(&address, "mode");
            }
        }
    }

    /// Lets time pass, and looks at everything that may be judged.
    fn pass(&mut self, until_ms: u64) {
        loop {
            let next_undo_ms = self.undo.first_key_value().map(|((at_ms, _), _)| *at_ms);
            let target_ms = next_undo_ms.unwrap_or(until_ms).min(until_ms);
            while self.world.step_until(target_ms) {
                self.look(false);
                if self.life.player == Player::Random && self.world.now_ms() >= self.random_moves_ms {
                    self.move_at_random();
                }
            }
            self.world.run_until(target_ms);
            if self.life.player == Player::Random && target_ms >= self.random_moves_ms {
                self.move_at_random();
            }
            self.look(true);
            match self.undo.first_entry().filter(|entry| entry.key().0 <= target_ms) {
                Some(entry) => {
                    let undo = entry.remove();
                    self.tell(format!("over: {undo:?}"));
                    self.put_right(undo);
                    self.happened();
                }
                None if target_ms >= until_ms => return,
                None => {}
            }
        }
    }

    /// Something was done to the world: judge what was before, then look at what is.
    fn happened(&mut self) {
        let now_ms = START_MS + self.world.now_ms();
        let from_ms = now_ms;
        self.world.ec2.faults_mut().retain(|rule| rule.until_ms > from_ms);
        let faulty =
            self.world.ec2.faults_mut().iter().any(|rule| !matches!(rule.fault, Fault::Latency { min_ms: 10, .. }));
        let views = self.views();
        self.checker.observe(&self.world.ec2, &views, now_ms);
        self.checker.api_faulty(faulty, now_ms);
        self.checker.disturbed(now_ms);
        self.look(true);
    }

    fn look(&mut self, always: bool) {
        let now_ms = self.world.now_ms();
        let marks = (
            self.world.ec2.history().len(),
            self.world.ec2.state_changes().len(),
            self.world.objections.len(),
            self.world.misbehaved.len(),
        );
        if !always && marks == self.marks && now_ms < self.looked_ms + 500 {
            return;
        }
        let states_changed = marks.1 != self.marks.1;
        self.marks = marks;
        self.looked_ms = now_ms;
        let views = self.views();
        self.checker.observe(&self.world.ec2, &views, START_MS + now_ms);
        let faulty =
            self.world.ec2.faults_mut().iter().any(|rule| {
                rule.until_ms > START_MS + now_ms && !matches!(rule.fault, Fault::Latency { min_ms: 10, .. })
            });
        self.checker.api_faulty(faulty, START_MS + now_ms);
        if states_changed {
            self.checker.disturbed(START_MS + now_ms);
        }
        for (at_ms, rule, text) in std::mem::take(&mut self.world.objections) {
            self.checker.object(at_ms, rule, text);
        }
        for text in std::mem::take(&mut self.world.misbehaved) {
            self.checker.object(START_MS + now_ms, "misbehaves", text);
        }
        self.marks.2 = 0;
        self.marks.3 = 0;
        for handle in self.known..self.world.invocations() {
            self.open.extend(Handle::try_from(handle));
        }
        self.known = self.world.invocations();
        let ended: Vec<Handle> =
            self.open.iter().copied().filter(|handle| self.world.ended_ms(*handle).is_some()).collect();
        self.open.retain(|handle| !ended.contains(handle));
        for handle in ended {
            self.judge_report(handle);
        }
    }

    fn judge_report(&mut self, handle: Handle) {
        let (Some(started_ms), Some(ended_ms)) = (self.world.started_ms(handle), self.world.ended_ms(handle)) else {
            return;
        };
        let mut claims = Vec::new();
        if let Some(Ending::Report(report)) = self.world.ending(handle) {
            for address in report.clusters.iter().flat_map(|cluster| &cluster.addresses) {
                for made in address.moves.iter().filter(|made| made.ok) {
                    claims.push(Claim {
                        caller: handle,
                        started_ms: START_MS + started_ms,
                        ended_ms: START_MS + ended_ms,
                        allocation: Id::from(address.allocation_id.as_str()),
                        to: Id::from(made.to.as_str()),
                    });
                }
            }
        }
        for claim in claims {
            self.checker.judge_claim(&self.world.ec2, &claim);
        }
        if ended_ms.saturating_sub(started_ms) > self.world.time_limit_ms {
            let text = format!("invocation {handle} went on for {} ms", ended_ms - started_ms);
            self.checker.object(START_MS + ended_ms, "outlives its deadline", text);
        }
    }

    fn views(&self) -> Vec<NodeView> {
        let launched = self.world.nodes.iter().filter(|id| self.world.ec2.state(id).is_some());
        launched
            .map(|id| NodeView {
                id: id.clone(),
                condition: self.condition(id),
                impaired: self.impaired.contains_key(id),
                announced: self.announced.contains_key(id),
            })
            .collect()
    }

    fn condition(&self, id: &Id) -> Condition {
        let runs = self.world.ec2.state(id) == Some(State::Running);
        if !runs {
            return Condition::Bad;
        }
        if !self.probed {
            return if self.impaired.contains_key(id) { Condition::Bad } else { Condition::Good };
        }
        if self.alarm_on.as_ref() == Some(id) || self.world.is_cut(id) {
            return Condition::Bad;
        }
        let slow = |latency_ms: u64| latency_ms + self.world.network_ms >= self.bounds.timeout_ms;
        let service = match self.world.answers(id) {
            Behaviour::Serve { latency_ms } if !slow(latency_ms) => Condition::Good,
            Behaviour::Flap { .. } => Condition::Unclear,
            Behaviour::Status(code) if code < 400 => Condition::Good,
            _ => Condition::Bad,
        };
        if service == Condition::Good {
            let beating = || {
                let agent = self.world.agents.get(id).is_some_and(|agent| agent.alive && agent.status == "ok");
                let tag = self.world.ec2.tags(id).and_then(|tags| tags.get("eipwatch:heartbeat"));
                agent && tag.is_some_and(|text| text.contains("status=ok"))
            };
            if self.world.is_cut_from_some(id) || (self.beats && !beating()) {
                return Condition::Unclear;
            }
        }
        service
    }

    fn tally(mut self) -> Tally {
        let mut timeline = std::mem::take(&mut self.timeline);
        if self.life.told {
            self.tell_world(&mut timeline);
        }
        let violations = std::mem::take(&mut self.checker.violations);
        if self.life.told {
            for it in &violations {
                timeline.push((it.at_ms.saturating_sub(START_MS), format!("BROKEN: {}: {}", it.rule, it.text)));
            }
        }
        timeline.sort_by_key(|(at_ms, _)| *at_ms);
        Tally {
            lives: 1,
            simulated_ms: self.world.now_ms(),
            moves: self.checker.moves,
            necessary: self.checker.necessary,
            recoveries: self.recoveries,
            probes: self.world.probes,
            invocations: self.world.invocations() as u64,
            faults: self.faults,
            whys: std::mem::take(&mut self.world.whys),
            violations: violations.into_iter().map(|violation| (self.life.seed, violation)).collect(),
            timeline,
        }
    }

    fn tell_world(&self, timeline: &mut Vec<(u64, String)>) {
        for placed in self.world.ec2.history() {
            let to = placed.association.as_ref().map(|at| format!("{:?} {}", at.instance, at.private_ip));
            let text = format!("EC2: {} is on {} ({:?})", placed.allocation, to.unwrap_or_default(), placed.cause);
            timeline.push((placed.at_ms.saturating_sub(START_MS), text));
        }
        for change in self.world.ec2.state_changes() {
            let text = format!("EC2: {} {}", change.instance, change.state.as_str());
            timeline.push((change.at_ms.saturating_sub(START_MS), text));
        }
        for (at_ms, call) in self.world.calls() {
            if call.api.changes() && call.caller < AGENTS_FROM {
                let text = match call.change.as_deref() {
                    Some(Request::CreateTags { resources, tags, .. }) => format!("{resources:?} {tags:?}"),
                    Some(Request::AssociateAddress { allocation, interface, private_ip, .. }) => {
                        format!("{allocation} to {interface} {private_ip}")
                    }
                    _ => String::new(),
                };
                let how = call.code.unwrap_or(if call.changed { "changed" } else { "no change" });
                timeline.push((at_ms, format!("  {}: {:?} {text}: {how}", call.caller, call.api)));
            }
        }
        for handle in 0..u32::try_from(self.world.invocations()).unwrap_or_default() {
            for record in self.world.log(handle) {
                let told = match record {
                    Record::Start { at, triggers, .. } => {
                        let names: Vec<&str> = triggers.iter().map(crate::core::event::Trigger::name).collect();
                        Some((at, format!("begins: {}", names.join(" "))))
                    }
                    Record::Verdict { at, node, from, to, why, .. } => {
                        Some((at, format!("{node}: {from:?} -> {to:?}: {why}")))
                    }
                    Record::Decision { at, decision, address, .. } => {
                        Some((at, format!("{address}: {:?} {}: {}", decision.kind, decision.why, decision.text)))
                    }
                    Record::Move { at, result, .. } => {
                        Some((at, format!("move to {} ok={} {:?}", result.to, result.ok, result.error)))
                    }
                    Record::ReadingFailed { at, look, error, .. } => Some((at, format!("{look:?}: {error}"))),
                    Record::End { at, report } => Some((at, format!("ends: ok={} {:?}", report.ok, report.error))),
                    _ => None,
                };
                if let Some((at, text)) = told {
                    timeline.push((at.as_millis().saturating_sub(START_MS), format!("  {handle}: {text}")));
                }
            }
        }
    }
}

fn pick32(rng: &mut fastrand::Rng, all: &[u32]) -> u32 {
    all.get(rng.usize(0..all.len().max(1))).copied().unwrap_or_default()
}

/// The faults.
impl Chaos {
    fn now_abs(&self) -> u64 {
        START_MS + self.world.now_ms()
    }

    fn later(&mut self, in_ms: u64, undo: Undo) {
        self.undone += 1;
        self.undo.insert((self.world.now_ms() + in_ms, self.undone), undo);
    }

    fn some_address(&mut self) -> Id {
        let at = self.rng.usize(0..self.world.addresses.len().max(1));
        self.world.address(at)
    }

    /// A running node, the holder more often than not.
    fn some_node(&mut self) -> Option<Id> {
        let address = self.some_address();
        let holder = self.world.ec2.holder(&address).cloned();
        let running: Vec<Id> =
            self.world.nodes.iter().filter(|id| self.world.ec2.state(id) == Some(State::Running)).cloned().collect();
        if let Some(holder) = holder.filter(|id| running.contains(id))
            && self.rng.u8(0..10) < 6
        {
            return Some(holder);
        }
        running.get(self.rng.usize(0..running.len().max(1))).cloned()
    }

    fn some_running_invocation(&mut self) -> Option<Handle> {
        let running: Vec<Handle> = self.open.iter().copied().filter(|handle| self.world.is_running(*handle)).collect();
        running.get(self.rng.usize(0..running.len().max(1))).copied()
    }

    fn rule(&mut self, rule: Rule, for_ms: std::ops::Range<u64>) -> bool {
        let for_ms = self.rng.u64(for_ms);
        let now_ms = self.now_abs();
        self.world.ec2.faults_mut().push(rule.between(now_ms, now_ms + for_ms));
        true
    }

    fn invoke(&mut self, payload: &Value, in_ms: u64, role: Role) -> Handle {
        let handle = self.world.invoke(payload, self.world.now_ms() + in_ms);
        self.checker.role(handle, role);
        handle
    }

    /// Sends an event, if anybody listens.
    fn send(&mut self, payload: &Value) {
        if self.life.player == Player::Eipwatch && self.rng.u8(0..4) != 0 {
            for _ in 0..=u8::from(self.rng.u8(0..4) == 0) {
                let in_ms = self.rng.u64(100..4_000);
                self.invoke(payload, in_ms, Role::Auto);
            }
        }
    }

    fn broken(&mut self, behaviour: Behaviour) -> bool {
        let Some(node) = self.some_node() else { return false };
        self.world.service(&node, behaviour);
        let for_ms = self.rng.u64(500..60_000);
        self.later(for_ms, Undo::Service(node));
        true
    }

    fn mode_event(&mut self, resource: &Id, kind: &str) {
        let all = self.world.ec2.tags(resource).cloned().unwrap_or_default();
        let event = tag_event(resource, kind, &["eipwatch:mode"], &all, self.world.now_ms());
        self.send(&event);
    }

    fn alarm(&mut self, on: Option<Id>) {
        let now_ms = self.now_abs();
        let instances = on.clone().or_else(|| self.world.nodes.first().cloned()).into_iter().collect();
        let state = if on.is_some() { AlarmState::Alarm } else { AlarmState::Ok };
        self.world.ec2.set_alarm(Alarm { name: "busy".to_owned(), state, instances }, now_ms);
        self.alarm_on = on;
    }

    /// Lets a fault strike. False: there was nothing for it to strike.
    fn strike(&mut self, kind: &str) -> bool {
        let now_ms = self.world.now_ms();
        let now_abs = self.now_abs();
        match kind {
            "crash" => self.broken(Behaviour::Refuse),
            "hang" => self.broken(Behaviour::Hang),
            "silent" => self.broken(Behaviour::Silent),
            "status-500" => self.broken(Behaviour::Status(500)),
            "slow" => {
                let latency_ms = self.rng.u64(self.bounds.timeout_ms / 2..self.bounds.timeout_ms * 2);
                self.broken(Behaviour::Serve { latency_ms })
            }
            "flap" => {
                let (up_ms, down_ms) = (self.rng.u64(200..6_000), self.rng.u64(200..6_000));
                self.broken(Behaviour::Flap { up_ms, down_ms })
            }
            "crash-all" => {
                let nodes = self.world.nodes.clone();
                let for_ms = self.rng.u64(2_000..40_000);
                for node in nodes {
                    self.world.service(&node, Behaviour::Refuse);
                    self.later(for_ms, Undo::Service(node));
                }
                true
            }
            "partition" => {
                let Some(node) = self.some_node() else { return false };
                self.world.cut(None, &node, true);
                let for_ms = self.rng.u64(500..40_000);
                self.later(for_ms, Undo::Mend(node));
                true
            }
            "partition-one" => {
                let (Some(node), Some(handle)) = (self.some_node(), self.some_running_invocation()) else {
                    return false;
                };
                self.world.cut(Some(handle), &node, true);
                let for_ms = self.rng.u64(500..40_000);
                self.later(for_ms, Undo::MendOne(handle, node));
                true
            }
            "stop" => {
                let Some(node) = self.some_node() else { return false };
                self.world.ec2.stop_instance(&node, now_abs);
                self.announced.remove(&node);
                let for_ms = self.rng.u64(9_000..60_000);
                self.later(for_ms, Undo::Start(node));
                true
            }
            "terminate" => {
                let Some(node) = self.some_node() else { return false };
                self.terminate(&node);
                true
            }
            "reboot" => {
                let Some(node) = self.some_node() else { return false };
                let away_ms = self.rng.u64(2_000..40_000);
                self.world.reboot(&node, away_ms);
                true
            }
            "impaired" => {
                let Some(node) = self.some_node() else { return false };
                let kinds = [CheckKind::System, CheckKind::Instance, CheckKind::Ebs, CheckKind::Application];
                let kind = kinds.get(self.rng.usize(0..kinds.len())).copied().unwrap_or(CheckKind::System);
                self.world.ec2.set_status(&node, kind, Check::Impaired, now_abs);
                self.impaired.insert(node.clone(), ());
                let for_ms = self.rng.u64(10_000..90_000);
                self.later(for_ms, Undo::Status(node));
                true
            }
            "scheduled-event" => {
                let Some(node) = self.some_node() else { return false };
                let event = ScheduledEvent {
                    code: "system-maintenance".to_owned(),
                    description: "planned".to_owned(),
                    not_before_ms: Some(now_abs + self.rng.u64(0..900_000)),
                    not_after_ms: None,
                };
                self.world.ec2.schedule_events(&node, vec![event], now_abs);
                self.announced.insert(node.clone(), 0);
                let for_ms = self.rng.u64(30_000..120_000);
                self.later(for_ms, Undo::Unschedule(node));
                true
            }
            "spot" | "lifecycle" => {
                let Some(node) = self.some_node() else { return false };
                let event = if kind == "spot" { spot_event(&node, now_ms) } else { lifecycle_event(&node, now_ms) };
                self.announced.insert(node.clone(), 0);
                self.send(&event);
                self.later(120_000, Undo::Terminate(node));
                true
            }
            "throttle" => {
                self.rule(Rule::new(Fault::Throttle), 10_000..60_000) && {
                    // Others in the account use up most of it.
                    for api in Api::ALL {
                        let limit = crate::embedded::ec2::Limit { capacity: 3, refill_per_s: 1 };
                        self.world.ec2.settings.limits.insert(api, limit);
                    }
                    true
                }
            }
            "api-errors" => {
                let code = ["InternalError", "Unavailable", "RequestLimitExceeded"].get(self.rng.usize(0..3)).copied();
                let per_mille = self.rng.u32(100..900);
                self.rule(Rule::error(code.unwrap_or("InternalError")).chance(per_mille), 3_000..40_000)
            }
            "api-error-after" => {
                self.rule(Rule::new(Fault::ErrorAfter(Error::injected("InternalError"))).chance(600), 5_000..40_000)
            }
            "api-lost-request" => self.rule(Rule::new(Fault::LostRequest).chance(500), 5_000..30_000),
            "api-lost-answer" => self.rule(Rule::new(Fault::LostAnswer).chance(500), 5_000..30_000),
            "api-late" => {
                let by_ms = self.rng.u64(100..3_000);
                self.rule(Rule::new(Fault::Late { by_ms }).on(Api::AssociateAddress).on(Api::CreateTags), 5_000..40_000)
            }
            "api-hollow" => self.rule(Rule::new(Fault::Hollow).on(Api::AssociateAddress).chance(700), 5_000..40_000),
            "api-slow" => self.rule(Rule::new(Fault::Latency { min_ms: 500, max_ms: 6_000 }), 5_000..40_000),
            "api-down" => self.rule(Rule::error("Unavailable"), 15_000..25_000),
            "api-cut-off" => {
                let Some(handle) = self.some_running_invocation() else { return false };
                self.rule(Rule::new(Fault::LostRequest).by(handle), 5_000..60_000)
            }
            "not-permitted" => self.rule(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress), 5_000..40_000),
            "stale-associations" | "stale-states" | "stale-tags" => {
                let what = match kind {
                    "stale-associations" => Shown::Associations,
                    "stale-states" => Shown::States,
                    _ => Shown::Tags,
                };
                let up_to_ms = self.rng.u64(500..5_000);
                self.rule(Rule::new(Fault::Stale { what, up_to_ms }).chance(700), 10_000..90_000)
            }
            "omitted" => {
                let Some(node) = self.some_node() else { return false };
                self.rule(Rule::new(Fault::Omit(node)).on(Api::DescribeInstances), 3_000..40_000)
            }
            "zone" => {
                let zone = if self.rng.bool() { "eu-west-1a" } else { "eu-west-1b" };
                let unnamed = self.rng.bool();
                self.rule(Rule::new(Fault::Zone { zone: zone.to_owned(), unnamed }), 10_000..60_000)
            }
            "kill" | "kill-before-act" | "kill-after-act" => {
                let Some(handle) = self.some_running_invocation() else { return false };
                let death = match kind {
                    "kill" => Death::AfterEffects(self.rng.u64(1..60)),
                    "kill-before-act" => Death::BeforeAct,
                    _ => Death::AfterAct,
                };
                self.world.kill(handle, death);
                true
            }
            "overlap" => {
                if self.life.player != Player::Eipwatch {
                    return false;
                }
                for _ in 0..self.rng.u8(1..4) {
                    let in_ms = self.rng.u64(0..800);
                    self.invoke(&schedule_event(), in_ms, Role::Auto);
                }
                true
            }
            _ => self.strike_by_hand(kind),
        }
    }

    /// Faults that people, programs and agents make.
    fn strike_by_hand(&mut self, kind: &str) -> bool {
        let now_ms = self.world.now_ms();
        let now_abs = self.now_abs();
        match kind {
            "wipe-tags" => {
                for address in self.world.addresses.clone() {
                    self.world.untag(&address, "state");
                }
                for node in self.world.nodes.clone() {
                    self.world.untag(&node, "health");
                    if self.beats {
                        self.world.untag(&node, "heartbeat");
                    }
                }
                true
            }
            "edit-state" => {
                let address = self.some_address();
                let (Some(one), Some(other)) = (self.some_node(), self.some_node()) else { return false };
                let holder = self.world.ec2.holder(&address).cloned().unwrap_or_default();
                let at = |ms: u64| crate::core::time::Time::from_millis(ms);
                let text = match self.rng.u8(0..6) {
                    0 => "holder=".to_owned(),
                    1 => format!("holder={one} since={} why=holder-unhealthy", at(now_abs - 3_600_000)),
                    2 => format!("holder={one} since={} from={holder} why=holder-gone", at(now_abs)),
                    3 => format!("holder={one} since={} from={holder} why=failback", at(now_abs + 86_400_000 * 400)),
                    4 => {
                        let then = at(now_abs - 1_000);
                        format!(
                            "holder={holder} since={then} from={other} why=holder-unhealthy moves={then}/{then}/{then}/{then}/{then}"
                        )
                    }
                    _ => "do not touch, Tuesday".to_owned(),
                };
                self.world.tag(&address, "state", &text);
                self.tell(format!("{address}: state is edited: {text}"));
                true
            }
            "edit-health" => {
                let Some(node) = self.some_node() else { return false };
                let at = crate::core::time::Time::from_millis(now_abs - 60_000);
                let text = match self.rng.u8(0..4) {
                    0 => format!("verdict=healthy since={at}"),
                    1 => format!("verdict=unhealthy since={at} why=http"),
                    2 => format!("verdict=gone since={at}"),
                    _ => "verdict=".to_owned(),
                };
                self.world.tag(&node, "health", &text);
                true
            }
            "edit-policy" => {
                // What cannot be read has its default; the rest stays as it was.
                for address in self.world.addresses.clone() {
                    let text = format!("{} bogus=1", self.policy);
                    self.world.tag(&address, "policy", &text);
                }
                self.later(20_000, Undo::Policy);
                true
            }
            "cluster-tag-lost" => {
                let Some(node) = self.some_node() else { return false };
                self.world.untag(&node, "cluster");
                let for_ms = self.rng.u64(3_000..60_000);
                self.later(for_ms, Undo::Member(node));
                true
            }
            "hand-move" => {
                let address = self.some_address();
                let Some(node) = self.some_node() else { return false };
                self.world.ec2.move_by_hand(&address, Place::Instance(&node), now_abs)
            }
            "hand-remove" => {
                let address = self.some_address();
                self.world.ec2.move_by_hand(&address, Place::Nowhere, now_abs)
            }
            "hand-to-outsider" => {
                let address = self.some_address();
                let outsider = self.outsider.clone();
                let for_ms = self.rng.u64(5_000..60_000);
                self.later(for_ms, Undo::Home(address.clone()));
                self.world.ec2.move_by_hand(&address, Place::Instance(&outsider), now_abs)
            }
            "loose-interface" => {
                let address = self.some_address();
                let Some(node) = self.some_node() else { return false };
                let Some((interface, ip)) = self.world.add_interface(&node) else { return false };
                self.world.ec2.move_by_hand(&address, Place::Interface(&interface, ip), now_abs);
                self.world.detach(&interface);
                true
            }
            "occupied" => {
                // Every free private address of every node but the holders' own.
                let taken: Vec<_> =
                    self.world.addresses.iter().filter_map(|id| self.world.ec2.association(id)).cloned().collect();
                let mut places = Vec::new();
                for node in &self.world.nodes {
                    for nic in self.world.ec2.interfaces_of(node) {
                        for ip in &nic.private_ips {
                            if !taken.iter().any(|at| at.interface == nic.id && at.private_ip == *ip) {
                                places.push((nic.id.clone(), *ip));
                            }
                        }
                    }
                }
                let for_ms = self.rng.u64(10_000..60_000);
                for (interface, ip) in places {
                    let other = self.world.ec2.add_address(tags([]));
                    self.world.ec2.move_by_hand(&other, Place::Interface(&interface, ip), now_abs);
                    self.later(for_ms, Undo::Unoccupy(other));
                }
                if let Some(node) = self.some_node()
                    && self.rng.bool()
                {
                    self.later(4_000, Undo::Crash(node));
                }
                true
            }
            "drain" => {
                let Some(node) = self.some_node() else { return false };
                if self.rng.bool() && self.life.player == Player::Eipwatch {
                    self.invoke(&json!({"action": "drain", "node": &*node}), 0, Role::Auto);
                } else {
                    let garbage = self.rng.u8(0..4) == 0;
                    self.world.tag(&node, "mode", if garbage { "maintenance" } else { "drain" });
                    self.mode_event(&node, "instance");
                }
                let for_ms = self.rng.u64(10_000..90_000);
                self.later(for_ms, Undo::Active(node));
                true
            }
            "manual" => {
                let address = self.some_address();
                let until = crate::core::time::Time::from_millis(now_abs + 30_000);
                match self.rng.u8(0..4) {
                    0 if self.life.player == Player::Eipwatch => {
                        self.invoke(&json!({"action": "pause", "cluster": "web"}), 0, Role::Auto);
                    }
                    1 => self.world.tag(&address, "mode", &format!("manual until={until}")),
                    2 => self.world.tag(&address, "mode", "hands off"),
                    _ => self.world.tag(&address, "mode", "manual"),
                }
                self.mode_event(&address, "elastic-ip");
                let for_ms = self.rng.u64(10_000..60_000);
                for address in self.world.addresses.clone() {
                    self.later(for_ms, Undo::Auto(address));
                }
                true
            }
            "command-move" | "command-force" => {
                if self.life.player != Player::Eipwatch {
                    return false;
                }
                let address = self.some_address();
                let ip = self.world.ec2.elastic_ip(&address).map(|ip| ip.to_string());
                let nodes = self.world.nodes.clone();
                let to = nodes.get(self.rng.usize(0..nodes.len().max(1))).cloned().unwrap_or_default();
                let force = kind == "command-force";
                let to = (force || self.rng.bool()).then_some(&*to);
                let payload = json!({"action": "move", "cluster": "web", "address": ip, "force": force, "to": to});
                self.invoke(&payload, 0, if force { Role::Force } else { Role::Command });
                if force {
                    self.later(60_000, Undo::Auto(address));
                }
                true
            }
            "event-old" => {
                // Of an earlier life of the instance, or too old to be believed.
                let Some(node) = self.some_node() else { return false };
                let launched_ms = self.world.ec2.launched_ms(&node).unwrap_or(START_MS).saturating_sub(START_MS);
                let earlier_ms =
                    if launched_ms > 0 { launched_ms.checked_sub(2_000) } else { now_ms.checked_sub(70_000) };
                let Some(at_ms) = earlier_ms else { return false };
                let state = if self.rng.bool() { State::Stopped } else { State::Stopping };
                self.send(&state_event(&node, state, at_ms));
                true
            }
            "event-twice" => {
                let Some(change) = self.world.ec2.state_changes().back().cloned() else { return false };
                for _ in 0..2 {
                    self.send(&state_event(&change.instance, change.state, change.at_ms.saturating_sub(START_MS)));
                }
                true
            }
            "agent-dead" | "agent-fails" | "agent-leaves" | "clock-skew" => {
                if !self.beats {
                    return false;
                }
                let Some(node) = self.some_node() else { return false };
                let skew_ms = self.rng.i64(-600_000..600_000);
                let Some(agent) = self.world.agents.get_mut(&node) else { return false };
                match kind {
                    "agent-dead" => agent.alive = false,
                    "agent-fails" => agent.status = "fail",
                    "agent-leaves" => agent.status = "leaving",
                    _ => agent.skew_ms = skew_ms,
                }
                let for_ms = self.rng.u64(5_000..60_000);
                self.later(for_ms, Undo::Agent(node));
                true
            }
            "alarm" => {
                if !self.alarmed || self.alarm_on.is_some() {
                    return false;
                }
                let node = self.some_node();
                self.alarm(node);
                let for_ms = self.rng.u64(5_000..60_000);
                self.later(for_ms, Undo::Alarm);
                true
            }
            _ => false,
        }
    }

    fn terminate(&mut self, node: &Id) {
        let now_ms = self.now_abs();
        if self.world.nodes.len() < MAX_LAUNCHED && self.world.ec2.terminate_instance(node, now_ms) {
            self.announced.remove(node);
            let in_ms = self.rng.u64(5_000..40_000);
            self.later(in_ms, Undo::Replace);
        }
    }

    fn put_right(&mut self, undo: Undo) {
        let now_ms = self.now_abs();
        match undo {
            Undo::Service(node) => self.world.service(&node, SERVES),
            Undo::Mend(node) => self.world.cut(None, &node, false),
            Undo::MendOne(handle, node) => self.world.cut(Some(handle), &node, false),
            Undo::Start(node) => match self.world.ec2.state(&node) {
                Some(State::Stopped) => {
                    self.world.ec2.start_instance(&node, now_ms);
                    self.announced.remove(&node);
                }
                Some(State::Stopping) => self.later(1_000, Undo::Start(node)),
                _ => {}
            },
            Undo::Replace => {
                let node = self.world.add_node();
                for _ in 1..self.world.addresses.len() {
                    self.world.add_private_ip(&node);
                }
                if self.beats {
                    self.world.start_agent(&node, 5_000, 0);
                }
            }
            Undo::Status(node) => {
                for kind in [CheckKind::System, CheckKind::Instance, CheckKind::Ebs] {
                    self.world.ec2.set_status(&node, kind, Check::Ok, now_ms);
                }
                self.world.ec2.set_status(&node, CheckKind::Application, Check::NotApplicable, now_ms);
                self.impaired.remove(&node);
            }
            Undo::Unschedule(node) => {
                self.world.ec2.schedule_events(&node, Vec::new(), now_ms);
                self.announced.remove(&node);
            }
            Undo::Terminate(node) => {
                if self.announced.contains_key(&node) {
                    self.terminate(&node);
                }
            }
            Undo::Agent(node) => {
                if let Some(agent) = self.world.agents.get_mut(&node) {
                    agent.alive = true;
                    agent.status = "ok";
                    agent.skew_ms = 0;
                }
            }
            Undo::Alarm => self.alarm(None),
            Undo::Member(node) => self.world.tag(&node, "cluster", "web"),
            Undo::Active(node) => self.world.tag(&node, "mode", "active"),
            Undo::Auto(address) => self.world.tag(&address, "mode", "auto"),
            Undo::Policy => {
                let policy = self.policy.clone();
                for address in self.world.addresses.clone() {
                    self.world.tag(&address, "policy", &policy);
                }
            }
            Undo::Unoccupy(other) => {
                self.world.ec2.move_by_hand(&other, Place::Nowhere, now_ms);
            }
            Undo::Home(address) => {
                let outsider = self.outsider.clone();
                if self.world.ec2.holder(&address) == Some(&outsider)
                    && let Some(node) = self.some_node()
                {
                    self.world.ec2.move_by_hand(&address, Place::Instance(&node), now_ms);
                }
            }
            Undo::Crash(node) => {
                self.world.service(&node, Behaviour::Refuse);
                self.later(20_000, Undo::Service(node));
            }
        }
    }

    fn move_at_random(&mut self) {
        self.random_moves_ms = self.world.now_ms() + 20_000;
        let address = self.some_address();
        let at = self.rng.usize(0..self.world.nodes.len().max(1));
        let node = self.world.node(at);
        let Some(interface) = self.world.ec2.primary_interface(&node) else { return };
        let ip = self.world.ec2.interfaces_of(&interface).next().and_then(|nic| nic.private_ips.first().copied());
        let Some(private_ip) = ip else { return };
        let request = Request::AssociateAddress {
            allocation: address,
            interface,
            private_ip,
            allow_reassociation: true,
            dry_run: false,
        };
        let now_ms = self.now_abs();
        drop(self.world.ec2.call(AGENTS_FROM - 1, &request, now_ms));
        self.look(true);
    }
}
