//! Worlds and their misfortunes, out of a seed.
//!
//! A life alternates between trouble, in which faults of all kinds strike, and rest, in which everything that interfered has ended and
//! every address must come to where it belongs and stay. Several clusters live side by side under the same watches, each with its own
//! policy and its own judge: what befalls one must not disturb the others. The same seed lives the same life.

mod faults;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{UnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::{Value, json};

use crate::core::watch::Ending;
use crate::embedded::ec2::{Call, Check, Id, InstanceSpec, Request, State};
use crate::embedded::faults::{Fault, Rule};

use super::check::{BadBy, Bounds, Checker, Claim, Condition, Moment, NodeView, Role, Violation};
use super::world::{AGENTS_FROM, Agent, Behaviour, Delivery, Handle, START_MS, World, schedule_event};
use faults::Undo;

pub use faults::KINDS;

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

/// What has to befall calls, events and invocations, beside the kinds of faults: that a fault was set up does not say that it struck.
/// By the names of [`Fault::name`] and [`World::met`].
pub const MET: [&str; 21] = [
    "InternalError",
    "RequestLimitExceeded",
    "Unavailable",
    "UnauthorizedOperation",
    "error-after",
    "event-doubled",
    "event-late",
    "event-lost",
    "event-overtaken",
    "hollow",
    "killed",
    "killed-after-act",
    "killed-before-act",
    "late",
    "latency",
    "lost-answer",
    "lost-request",
    "omit",
    "stale",
    "throttled",
    "zone",
];

/// How long rest lasts before it is judged, in milliseconds: the next schedule (60 s), the longest window of the brake (120 s) and `stable` (30 s).
pub const REST_MS: u64 = 300_000;
/// How long before its end nothing may be changed any more.
pub const STILL_MS: u64 = 70_000;
/// The longest that it takes until an invocation begins that nothing has harmed, in milliseconds: the schedule's minute and its delay.
pub const NEXT_SCHEDULE_MS: u64 = 63_000;
/// The shortest time between two faults, in milliseconds.
const PAUSE_MS: u64 = 1_500;
/// The longest, where there is one cluster; where there are more it is shared.
const LONGEST_PAUSE_MS: u64 = 25_000;
/// How often the judges look even though nothing was changed, in milliseconds.
const LOOK_EVERY_MS: u64 = 5_000;
/// How long before a scheduled event its node is left.
const LEFT_BEFORE_EVENT_MS: u64 = 600_000;
/// How late a heartbeat may be before it counts as missing, in milliseconds.
const BEAT_LATE_MS: u64 = 500;
/// By which number the record of calls knows the player that moves at random.
const RANDOM_CALLER: u32 = AGENTS_FROM - 1;
/// The clusters, in the order in which a life has them.
const NAMES: [&str; 4] = ["web", "db", "mail", "dns"];
/// The zones that nodes are launched in.
const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];
/// Where no node may take an address from: a Local Zone's border group.
const ELSEWHERE: &str = "eu-west-1-lhr-1";

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
    /// The same, each cluster counted for itself.
    pub clusters_ms: u64,
    /// Of that, where a watch probes every second: the others have no probe, or are swept once a minute.
    pub probed_ms: u64,
    /// Moves that watches made.
    pub moves: u64,
    /// Of these, by a watch's own decision, and from nobody or off a holder that was gone, bad, drained or leaving.
    pub necessary: u64,
    /// Addresses that were not well when everything that interfered had ended, and that a watch moved to a node that was.
    pub recoveries: u64,
    /// Probes.
    pub probes: u64,
    /// Invocations.
    pub invocations: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often what was set up befell a call, an event or an invocation, by name.
    pub met: BTreeMap<&'static str, u64>,
    /// How often each reason was decided on.
    pub whys: BTreeMap<&'static str, u64>,
    /// Broken rules, by seed.
    pub violations: Vec<(u64, Violation)>,
    /// What happened, where it was to be told.
    pub timeline: Vec<(u64, String)>,
}

fn add(sums: &mut BTreeMap<&'static str, u64>, counts: &BTreeMap<&'static str, u64>) {
    for (name, count) in counts {
        *sums.entry(name).or_default() += count;
    }
}

impl Tally {
    /// Adds another's figures.
    pub fn add(&mut self, other: Tally) {
        self.lives += other.lives;
        self.simulated_ms += other.simulated_ms;
        self.clusters_ms += other.clusters_ms;
        self.probed_ms += other.probed_ms;
        self.moves += other.moves;
        self.necessary += other.necessary;
        self.recoveries += other.recoveries;
        self.probes += other.probes;
        self.invocations += other.invocations;
        add(&mut self.faults, &other.faults);
        add(&mut self.met, &other.met);
        add(&mut self.whys, &other.whys);
        self.violations.extend(other.violations);
    }

    /// Simulated hours, each cluster counted for itself.
    pub fn hours(&self) -> f64 {
        self.clusters_ms as f64 / 3_600_000.0
    }

    /// Of these, the hours in which a watch probed every second.
    pub fn probed_hours(&self) -> f64 {
        self.probed_ms as f64 / 3_600_000.0
    }

    /// What was to be met and was not: kinds of faults, what they do, reasons, recovery, enough of all.
    pub fn never_met(&self) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        for kind in KINDS.iter().filter(|kind| !self.faults.contains_key(*kind)) {
            missing.push(format!("no fault of the kind {kind}"));
        }
        for what in MET.iter().filter(|what| !self.met.contains_key(*what)) {
            missing.push(format!("nothing befell that is counted as {what}"));
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
            "{} lives, {:.1} simulated cluster-hours ({:.1} at one-second probing; {:.1} hours, {:.1} clusters side by side), {} invocations, {} probes, {faults} faults, {} moves ({} necessary), {} recoveries, {} broken rules",
            self.lives,
            self.hours(),
            self.probed_hours(),
            self.simulated_ms as f64 / 3_600_000.0,
            self.clusters_ms as f64 / self.simulated_ms.max(1) as f64,
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
        writeln!(f, "met: {}", list(&self.met))?;
        write!(f, "decisions: {}", list(&self.whys))
    }
}

/// One cluster of a life, and its judge.
struct Team {
    name: &'static str,
    checker: Checker,
    bounds: Bounds,
    policy: String,
    checks: String,
    probed: bool,
    beats: bool,
    /// The alarm that it checks.
    alarm: Option<String>,
    alarm_on: Option<Id>,
    nodes: Vec<Id>,
    addresses: Vec<Id>,
}

struct Chaos {
    life: Life,
    world: World,
    rng: fastrand::Rng,
    teams: Vec<Team>,
    /// The cluster that is struck, or whose misfortune ends.
    at: usize,
    kinds: Vec<&'static str>,
    outsider: Id,
    /// A NAT gateway's interface: no instance at all, and still somebody's.
    gateway: Id,
    /// The cluster tags of nodes.
    member: BTreeMap<Id, String>,
    /// Nodes in another network border group: EC2 lets no address go there.
    elsewhere: BTreeSet<Id>,
    prefer: BTreeMap<Id, String>,
    undo: BTreeMap<(u64, u64), (usize, Undo)>,
    undone: u64,
    announced: BTreeSet<Id>,
    /// Nodes that EC2 has scheduled an event for, and when it begins.
    booked: BTreeMap<Id, u64>,
    impaired: BTreeSet<Id>,
    /// Nodes of which a command has said that nothing announced holds any more.
    undrained: BTreeSet<Id>,
    faults: BTreeMap<&'static str, u64>,
    timeline: Vec<(u64, String)>,
    /// Broken rules that concern no single cluster.
    violations: Vec<Violation>,
    /// Scheduled invocations, and the shard that each has.
    scheduled: BTreeMap<Handle, Option<(u64, u64)>>,
    /// Those that were killed, cut off or told to stop: nobody relies on them.
    harmed: BTreeSet<Handle>,
    readers: BTreeSet<Handle>,
    /// Those that were told to set a mode.
    ordered: BTreeSet<Handle>,
    calls_read: usize,
    /// The version of EC2's truth, and the number of state changes, that was looked at last.
    marks: (u64, usize),
    /// When to look again though nothing was changed: something ends or begins by itself.
    look_at_ms: u64,
    recoveries: u64,
    random_moves_ms: u64,
}

/// Lives one life. One that panics has broken a rule, too: what is known of it then is its seed.
pub fn live(life: Life) -> Tally {
    guarded(life.seed, || {
        let mut chaos = Chaos::new(life);
        for _ in 0..life.rounds {
            chaos.trouble();
            chaos.rest();
        }
        chaos.tally()
    })
}

fn guarded(seed: u64, lived: impl FnOnce() -> Tally + UnwindSafe) -> Tally {
    catch_unwind(lived).unwrap_or_else(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let text = words.unwrap_or("without a word").to_owned();
        let timeline = vec![(0, format!("BROKEN: panics: {text}"))];
        let violations = vec![(seed, Violation { at_ms: 0, rule: "panics", text })];
        Tally { lives: 1, violations, timeline, ..Tally::default() }
    })
}

fn pick<T: Copy + Default>(rng: &mut fastrand::Rng, all: &[T]) -> T {
    all.get(rng.usize(0..all.len().max(1))).copied().unwrap_or_default()
}

/// Building.
impl Chaos {
    fn new(life: Life) -> Chaos {
        let mut rng = fastrand::Rng::with_seed(life.seed);
        let mut world = World::new(life.seed);
        world.keep_logs = life.told;
        let outsider = world.ec2.add_instance(InstanceSpec::default());
        let mut kinds: Vec<&'static str> = KINDS.to_vec();
        rng.shuffle(&mut kinds);
        kinds.truncate(rng.usize(6..=20));
        // AWS's token buckets are there in every life; the calls take as long as they take.
        world.ec2.faults_mut().push(Rule::new(Fault::Throttle));
        let ec2_ms = pick(&mut rng, &[0, 40, 120]);
        if ec2_ms > 0 {
            world.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: LATENCY_MIN_MS, max_ms: ec2_ms }));
        }
        world.network_ms = pick(&mut rng, &[0, 2, 20]);
        world.boot_ms = pick(&mut rng, &[0, 2_000, 8_000]);
        world.time_limit_ms = pick(&mut rng, &[118_000, 118_000, 58_000, 30_000]);
        world.ec2.settings.stopping_ms = 8_000;
        world.ec2.settings.pending_ms = 5_000;
        world.ec2.settings.shutting_down_ms = pick(&mut rng, &[3_000, 12_000]);
        world.ec2.settings.monotonic_reads = rng.bool();
        if rng.u8(0..4) != 0 {
            world.delivery = Some(Delivery {
                min_ms: 50,
                max_ms: pick(&mut rng, &[300, 2_000, 15_000]),
                lost_per_mille: pick(&mut rng, &[0, 100, 500]),
                doubled_per_mille: pick(&mut rng, &[0, 200]),
            });
        }
        if life.player != Player::Eipwatch {
            // Each event would start the production watch.
            world.delivery = None;
        }
        let mut this = Chaos {
            life,
            rng,
            teams: Vec::new(),
            at: 0,
            kinds,
            outsider,
            gateway: Id::default(),
            member: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            prefer: BTreeMap::new(),
            undo: BTreeMap::new(),
            undone: 0,
            announced: BTreeSet::new(),
            booked: BTreeMap::new(),
            impaired: BTreeSet::new(),
            undrained: BTreeSet::new(),
            faults: BTreeMap::new(),
            timeline: Vec::new(),
            violations: Vec::new(),
            scheduled: BTreeMap::new(),
            harmed: BTreeSet::new(),
            readers: BTreeSet::new(),
            ordered: BTreeSet::new(),
            calls_read: 0,
            marks: (0, 0),
            look_at_ms: 0,
            recoveries: 0,
            random_moves_ms: 0,
            world,
        };
        let clusters = pick(&mut this.rng, &[1, 1, 2, 3, 4]);
        for name in NAMES.into_iter().take(clusters) {
            this.add_team(name);
        }
        this.gateway = this.world.ec2.nat_gateway_interface();
        this.world.settle();
        for at in 0..this.teams.len() {
            this.at = at;
            if this.team().is_some_and(|team| team.alarm.is_some()) {
                this.alarm(None);
            }
            let views = this.views(at);
            let ec2 = &this.world.ec2;
            if let Some(team) = this.teams.get_mut(at) {
                team.checker = Checker::new(team.name, team.bounds, ec2, &views, START_MS);
            }
        }
        this.tell_teams();
        if life.player == Player::Eipwatch {
            this.schedule();
        }
        this
    }

    /// A cluster with a policy, checks and nodes of its own, its addresses on its first node.
    fn add_team(&mut self, name: &'static str) {
        let number = self.teams.len();
        let size = self.rng.usize(2..=4);
        let mut nodes: Vec<Id> = Vec::new();
        // One node in two clusters.
        if number == 1 && self.rng.u8(0..4) == 0 {
            let of_the_first = self.teams.first().and_then(|team| team.nodes.get(1)).cloned();
            if let Some(node) = of_the_first {
                let both = format!("{} {name}", NAMES.first().copied().unwrap_or_default());
                self.world.tag(&node, "cluster", &both);
                self.member.insert(node.clone(), both);
                nodes.push(node);
            }
        }
        while nodes.len() < size {
            let id = self.world.add_node_of(name, InstanceSpec::default());
            self.member.insert(id.clone(), name.to_owned());
            nodes.push(id);
        }
        if self.rng.u8(0..6) == 0 {
            let (border_group, zone) = (ELSEWHERE.to_owned(), format!("{ELSEWHERE}a"));
            let spec = InstanceSpec { border_group, zone, ..InstanceSpec::default() };
            let id = self.world.add_node_of(name, spec);
            self.member.insert(id.clone(), name.to_owned());
            self.elsewhere.insert(id.clone());
            nodes.push(id);
        }
        // The address begins on a node of this cluster alone; the first private address of a shared one is the other cluster's.
        let is_shared = |id: &Id| self.member.get(id).is_some_and(|text| text.contains(' '));
        let shared = nodes.iter().any(is_shared);
        let mut home: Vec<Id> = nodes.iter().filter(|id| !self.elsewhere.contains(*id)).cloned().collect();
        home.sort_by_key(is_shared);
        let count = if self.rng.u8(0..3) == 0 { 2 } else { 1 };
        let addresses: Vec<Id> = (0..count).map(|n| self.world.add_address_of(name, &home, n > 0 || shared)).collect();

        let rng = &mut self.rng;
        let (interval_ms, fast_ms) = (1_000, pick(rng, &[250, 500, 500]));
        let timeout_ms = pick(rng, &[500, 1_000, 1_000, 2_000]);
        let (fall, rise) = (pick(rng, &[2, 3, 3, 4]), pick(rng, &[1, 2, 2, 3]));
        let stable_ms = pick(rng, &[0, 5_000, 10_000, 30_000]);
        let failback = rng.u8(0..3) == 0;
        let (max_moves, window_ms) = (rng.usize(1..=4), 60_000 * rng.u64(1..=2));
        let deadtime_ms = 12_000;
        let policy = format!(
            "fast={fast_ms}ms timeout={timeout_ms}ms fall={fall} rise={rise} deadtime={}s stable={}s failback={} max_moves={max_moves} window={}m",
            deadtime_ms / 1_000,
            stable_ms / 1_000,
            if failback { "auto" } else { "off" },
            window_ms / 60_000
        );
        let probed = rng.u8(0..9) != 0;
        let beats = rng.u8(0..5) == 0 || (!probed && rng.bool());
        let alarmed = probed && rng.u8(0..5) == 0;
        let mut words: Vec<String> = Vec::new();
        if probed {
            words.push("http:8080/health".to_owned());
        }
        if beats {
            words.push("heartbeat".to_owned());
        }
        let alarm = alarmed.then(|| format!("{name}-busy"));
        words.extend(alarm.as_ref().map(|alarm| format!("alarm:{alarm}")));
        let checks = words.join(" ");
        for (number, node) in nodes.iter().enumerate() {
            if self.rng.u8(0..3) == 0 {
                self.world.tag(node, "priority", &(50 * (number + 1)).to_string());
            }
            if beats {
                self.world.start_agent(node, 5_000, 0);
            }
        }
        for address in &addresses {
            self.world.tag(address, "policy", &policy);
            if checks.is_empty() {
                self.world.untag(address, "check");
            } else {
                self.world.tag(address, "check", &checks);
            }
            if self.rng.u8(0..4) == 0 {
                let node = nodes.get(self.rng.usize(0..nodes.len().max(1))).cloned().unwrap_or_default();
                self.world.tag(address, "prefer", &node);
                self.prefer.insert(address.clone(), node.to_string());
            }
        }
        let has = |prefix: &str| self.kinds.iter().any(|kind| kind.starts_with(prefix));
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
        let checker = Checker::new(name, bounds, &self.world.ec2, &[], START_MS);
        self.teams.push(Team {
            name,
            checker,
            bounds,
            policy,
            checks,
            probed,
            beats,
            alarm,
            alarm_on: None,
            nodes,
            addresses,
        });
    }

    /// The invocations that EventBridge's schedules make: one a minute, in some lives two, in some one for each of two shards.
    fn schedule(&mut self) {
        let minutes = u64::from(self.life.rounds) * (self.life.trouble_ms + REST_MS) / 60_000;
        let (twice, sweeps) = (self.rng.u8(0..6) == 0, self.rng.u8(0..6) == 0);
        let shards = if self.teams.len() > 1 && self.rng.u8(0..4) == 0 { 2 } else { 1 };
        if sweeps {
            self.world.settings.watch = Duration::ZERO;
        }
        for minute in 0..minutes {
            for _ in 0..=u8::from(twice) {
                for shard in 0..shards {
                    let at_ms = minute * 60_000 + self.rng.u64(0..3_000);
                    let shard = (shards > 1).then_some((shard, shards));
                    let payload =
                        shard.map_or_else(schedule_event, |(shard, of)| json!({"shard": format!("{shard}/{of}")}));
                    let handle = self.world.invoke(&payload, at_ms);
                    self.scheduled.insert(handle, shard);
                    if sweeps {
                        self.harmed.insert(handle);
                    }
                }
            }
        }
    }
}

/// Every call to EC2 takes at least so long in lives where calls take time; other rules of latency are faults.
const LATENCY_MIN_MS: u64 = 10;

/// Whether a rule is the way of the world, no fault of EC2 that watches meet.
fn is_usual(rule: &Rule) -> bool {
    matches!(rule.fault, Fault::Latency { min_ms: LATENCY_MIN_MS, .. } | Fault::Throttle)
        || rule.caller.is_some_and(|caller| caller >= AGENTS_FROM)
}

/// `EIPWATCH_SHARD`'s hash, FNV-1a with 64 bits, written down once more: the judge takes nobody's word.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Living.
impl Chaos {
    /// The cluster that is struck.
    fn team(&self) -> Option<&Team> {
        self.teams.get(self.at)
    }

    fn team_name(&self) -> &'static str {
        self.team().map(|team| team.name).unwrap_or_default()
    }

    fn trouble(&mut self) {
        let end_ms = self.world.now_ms() + self.life.trouble_ms;
        let longest_ms = LONGEST_PAUSE_MS / self.teams.len().max(1) as u64 + PAUSE_MS;
        loop {
            let pause_ms = self.rng.u64(PAUSE_MS..longest_ms);
            let next_ms = (self.world.now_ms() + pause_ms).min(end_ms);
            self.pass(next_ms);
            if next_ms >= end_ms {
                return;
            }
            // Misfortunes seldom come singly.
            for _ in 0..if self.rng.u8(0..4) == 0 { 2 } else { 1 } {
                let kind = pick(&mut self.rng, &self.kinds);
                self.at = self.rng.usize(0..self.teams.len());
                // What befalls all clusters at once does so no more often because there are more of them.
                if faults::is_everybodys(kind) && self.rng.usize(0..self.teams.len()) != 0 {
                    continue;
                }
                if self.strike(kind) {
                    *self.faults.entry(kind).or_default() += 1;
                    let name = self.team_name();
                    self.tell(format!("fault: {kind} ({name})"));
                    let now_ms = self.now_abs();
                    match kind {
                        "wipe-tags" | "edit-state" => self.judge(|checker| checker.memory_lost(now_ms)),
                        "command-move" | "command-force" => self.judge(|checker| checker.brake_ended(now_ms)),
                        _ => {}
                    }
                    self.happened(faults::is_everybodys(kind));
                }
            }
        }
    }

    /// Does something with the judge of the cluster that is struck.
    fn judge(&mut self, with: impl FnOnce(&mut Checker)) {
        if let Some(team) = self.teams.get_mut(self.at) {
            with(&mut team.checker);
        }
    }

    /// Ends everything that interferes, lets the watch put things right, and judges.
    fn rest(&mut self) {
        let begin_ms = self.world.now_ms();
        let manual = self.rng.u8(0..8) == 0;
        for (_, (at, undo)) in std::mem::take(&mut self.undo) {
            if !matches!(undo, Undo::Home(_)) {
                self.at = at;
                self.put_right(undo, true);
            }
        }
        self.world.ec2.faults_mut().retain(is_usual);
        self.world.ec2.faults_mut().retain(|rule| rule.caller.is_none());
        self.world.mend();
        let addresses = self.world.addresses.clone();
        if manual {
            for address in &addresses {
                self.world.tag(address, "mode", "manual");
            }
        }
        self.tell(format!("rest{}", if manual { ", in manual mode" } else { "" }));
        self.happened(true);
        // What is well now has been put right with everything else, and is no watch's recovery.
        let ill: Vec<Vec<Id>> = self.teams.iter().map(|team| team.checker.ill()).collect();
        // First what need not wait for a brake, then everything.
        for at in 0..self.teams.len() {
            let recovered_ms = self.teams.get(at).map_or(0, |team| NEXT_SCHEDULE_MS + team.bounds.forgiven_ms());
            self.pass((begin_ms + recovered_ms).max(self.world.now_ms()));
            let now_ms = self.now_abs();
            if let Some(team) = self.teams.get_mut(at) {
                team.checker.judge_recovery(&self.world.ec2, now_ms);
            }
        }
        let end_ms = begin_ms + REST_MS;
        self.pass(end_ms - STILL_MS);
        let before = self.world.ec2.calls().len();
        self.pass(end_ms);
        let now_ms = START_MS + end_ms;
        for (at, ill) in ill.iter().enumerate() {
            self.observe(at, now_ms);
            let Some(team) = self.teams.get_mut(at) else { continue };
            team.checker.judge_rest(&self.world.ec2, now_ms);
            self.recoveries += team.checker.recovered(ill, START_MS + begin_ms);
        }
        let changes = |call: &&Call| call.api.changes() && call.caller < AGENTS_FROM;
        let restless: Vec<Violation> = self
            .world
            .ec2
            .calls()
            .range(before.min(self.world.ec2.calls().len())..)
            .filter(changes)
            .map(|call| {
                let text = format!("caller {}: {:?}", call.caller, call.change);
                Violation { at_ms: call.at_ms, rule: "restless", text }
            })
            .collect();
        self.violations.extend(restless);
        for handle in 0..u32::try_from(self.world.invocations()).unwrap_or_default() {
            let late = self.world.started_ms(handle).is_some_and(|at_ms| at_ms >= end_ms - STILL_MS);
            if late && let Some(report) = self.world.report(handle).filter(|report| !report.ok) {
                let text = format!("invocation {handle}: {:?}", report.error);
                self.violations.push(Violation { at_ms: now_ms, rule: "fails at rest", text });
            }
        }
        if manual {
            for address in &addresses {
                self.world.untag(address, "mode");
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
                    let (at, undo) = entry.remove();
                    self.at = at;
                    let name = self.team_name();
                    self.tell(format!("over: {undo:?} ({name})"));
                    self.put_right(undo, false);
                    self.happened(false);
                }
                None if target_ms >= until_ms => return,
                None => {}
            }
        }
    }

    /// Something was done to the world, to one cluster or to all: judge what was before, then look at what is.
    fn happened(&mut self, to_all: bool) {
        let now_ms = self.now_abs();
        self.world.ec2.faults_mut().retain(|rule| rule.until_ms > now_ms);
        let faulty = !self.world.ec2.faults_mut().iter().all(is_usual);
        let to_all = to_all || self.member.values().any(|text| text.contains(' '));
        for at in 0..self.teams.len() {
            self.observe(at, now_ms);
            let Some(team) = self.teams.get_mut(at) else { continue };
            team.checker.api_faulty(faulty, now_ms);
            if to_all || at == self.at {
                team.checker.disturbed(now_ms);
            }
        }
        self.look(true);
    }

    fn look(&mut self, always: bool) {
        let now_ms = self.world.now_ms();
        let marks = (self.world.ec2.version(), self.world.ec2.state_changes().len());
        let news = !self.world.objections.is_empty() || !self.world.misbehaved.is_empty() || self.world.has_ended();
        if !always && !news && marks == self.marks && now_ms < self.look_at_ms {
            return;
        }
        let now_abs = START_MS + now_ms;
        let mut next_ms = self.world.next_boot_ms().unwrap_or(u64::MAX).min(now_ms + LOOK_EVERY_MS);
        let mut faulty = false;
        for rule in self.world.ec2.faults_mut().iter().filter(|rule| rule.until_ms > now_abs) {
            faulty |= !is_usual(rule);
            next_ms = next_ms.min(rule.until_ms.saturating_sub(START_MS));
        }
        self.look_at_ms = next_ms;
        let changed_states: Vec<Id> =
            self.world.ec2.state_changes().range(self.marks.1..).map(|change| change.instance.clone()).collect();
        for at in 0..self.teams.len() {
            self.observe(at, now_abs);
            let Some(team) = self.teams.get_mut(at) else { continue };
            team.checker.api_faulty(faulty, now_abs);
            if team.nodes.iter().any(|id| changed_states.contains(id)) {
                team.checker.disturbed(now_abs);
            }
        }
        self.marks = marks;
        for (at_ms, rule, text) in std::mem::take(&mut self.world.objections) {
            self.violations.push(Violation { at_ms, rule, text });
        }
        for text in std::mem::take(&mut self.world.misbehaved) {
            self.violations.push(Violation { at_ms: now_abs, rule: "misbehaves", text });
        }
        self.read_calls();
        for handle in self.world.take_ended() {
            self.judge_report(handle);
        }
    }

    /// Lets a cluster's judge look at the world.
    fn observe(&mut self, at: usize, now_ms: u64) {
        let views = self.views(at);
        let watched_since_ms = self.watched_since_ms(at);
        let Some(team) = self.teams.get_mut(at) else { return };
        let world = &self.world;
        // The random player probes nothing: that alone would condemn each of its moves, and its targets would never be looked at.
        let passed = |caller: u32, node: &Id| !team.probed || caller == RANDOM_CALLER || world.has_passed(caller, node);
        let began_ms = |caller: u32| world.started_ms(caller).map(|at_ms| START_MS + at_ms);
        let moment =
            Moment { ec2: &world.ec2, views: &views, passed: &passed, began_ms: &began_ms, watched_since_ms, now_ms };
        team.checker.observe(&moment);
    }

    /// Since when a watch has run that nothing has harmed and that covers this cluster.
    fn watched_since_ms(&self, at: usize) -> Option<u64> {
        let name = self.teams.get(at)?.name;
        let covers = |handle: &Handle| {
            self.scheduled
                .get(handle)
                .is_some_and(|shard| shard.is_none_or(|(shard, of)| fnv1a(name) % of.max(1) == shard))
        };
        let whole = self.world.running().filter(|handle| covers(handle) && !self.harmed.contains(handle));
        whole.filter_map(|handle| self.world.started_ms(handle)).min().map(|at_ms| START_MS + at_ms)
    }

    /// What no call of a watch may be, whatever it is for.
    fn read_calls(&mut self) {
        let all = self.world.ec2.calls();
        let new: Vec<Call> =
            all.range(self.calls_read.min(all.len())..).filter(|it| it.api.changes()).cloned().collect();
        self.calls_read = all.len();
        for call in new.into_iter().filter(|call| call.caller < AGENTS_FROM) {
            let Some(change) = call.change.as_deref() else { continue };
            let tries_only = matches!(
                change,
                Request::AssociateAddress { dry_run: true, .. } | Request::CreateTags { dry_run: true, .. }
            );
            if self.readers.contains(&call.caller) && !tries_only {
                let text = format!("caller {} was only to report: {change:?}", call.caller);
                self.violations.push(Violation { at_ms: call.at_ms, rule: "a reader changes", text });
            }
            if let Request::AssociateAddress { allocation, .. } = change {
                match self.teams.iter_mut().find(|team| team.addresses.contains(allocation)) {
                    Some(_) if tries_only => {}
                    Some(team) => team.checker.judge_attempt(call.caller, allocation, call.at_ms),
                    None => {
                        let text = format!("caller {} moves {allocation}, which is none of the clusters'", call.caller);
                        self.violations.push(Violation { at_ms: call.at_ms, rule: "foreign address", text });
                    }
                }
            }
            if let Request::CreateTags { resources, tags, .. } = change {
                // A mode is an operator's.
                if tags.iter().any(|(key, _)| key == "eipwatch:mode") && !self.ordered.contains(&call.caller) {
                    let text = format!("caller {} was told to set no mode: {change:?}", call.caller);
                    self.violations.push(Violation { at_ms: call.at_ms, rule: "orders by itself", text });
                }
                for (resource, (_, value)) in resources
                    .iter()
                    .flat_map(|id| tags.iter().map(move |tag| (id, tag)))
                    .filter(|(_, (key, _))| key == "eipwatch:state")
                {
                    for team in self.teams.iter_mut().filter(|team| team.addresses.contains(resource)) {
                        team.checker.judge_record(&self.world.ec2, call.caller, resource, value, call.at_ms);
                    }
                }
            }
        }
    }

    fn judge_report(&mut self, handle: Handle) {
        let (Some(started_ms), Some(ended_ms)) = (self.world.started_ms(handle), self.world.ended_ms(handle)) else {
            return;
        };
        if ended_ms.saturating_sub(started_ms) > self.world.time_limit_ms {
            let text = format!("invocation {handle} went on for {} ms", ended_ms - started_ms);
            self.violations.push(Violation { at_ms: START_MS + ended_ms, rule: "outlives its deadline", text });
        }
        let Some(Ending::Report(report)) = self.world.ending(handle) else { return };
        let dry = report.dry_run;
        for cluster in &report.clusters {
            let Some(team) = self.teams.iter_mut().find(|team| team.name == cluster.cluster.as_str()) else { continue };
            for address in &cluster.addresses {
                let claim = |to: Option<&str>| Claim {
                    caller: handle,
                    started_ms: START_MS + started_ms,
                    ended_ms: START_MS + ended_ms,
                    allocation: Id::from(address.allocation_id.as_str()),
                    to: to.map(Id::from),
                };
                for made in address.moves.iter().filter(|made| made.ok && !dry) {
                    team.checker.judge_claim(&self.world.ec2, &claim(Some(made.to.as_str())));
                }
                let holder = address.holder.as_ref().map(|id| id.as_str());
                team.checker.judge_holder(&self.world.ec2, &claim(holder));
            }
        }
    }

    fn views(&self, at: usize) -> Vec<NodeView> {
        let Some(team) = self.teams.get(at) else { return Vec::new() };
        let launched = team.nodes.iter().filter(|id| self.world.ec2.state(id).is_some());
        let zones = self.zones_in_the_dark();
        launched
            .map(|id| (id, self.bad_by(team, id)))
            .map(|(id, bad_by)| NodeView {
                id: id.clone(),
                condition: self.condition(team, id, bad_by),
                bad_by,
                impaired: self.impaired.contains(id),
                announced: self.announced.contains(id),
                scheduled: self.booked.contains_key(id),
                due: self.booked.get(id).is_some_and(|at_ms| self.now_abs() + LEFT_BEFORE_EVENT_MS >= *at_ms),
                elsewhere: self.elsewhere.contains(id),
                undescribed: self.world.ec2.zone(id).is_some_and(|zone| zones.contains(&&**zone)),
                outlived: !self.impaired.contains(id) && self.world.ec2.application_check(id) == Some(Check::Impaired),
            })
            .collect()
    }

    /// The zones whose instances EC2 cannot describe, as long as that is all that is wrong with it, and others can be described.
    fn zones_in_the_dark(&self) -> Vec<&str> {
        let (now_ms, ec2) = (self.now_abs(), &self.world.ec2);
        let mut zones = Vec::new();
        for rule in ec2.faults().iter().filter(|rule| (rule.from_ms..rule.until_ms).contains(&now_ms)) {
            match &rule.fault {
                Fault::Zone { zone, unnamed: true } => zones.push(zone.as_str()),
                _ if is_usual(rule) => {}
                _ => return Vec::new(),
            }
        }
        // Of nodes that EC2 does not show at all a search finds none.
        let shown = |id: &&Id| {
            ec2.state(id).is_some_and(|state| state != State::Terminated)
                && ec2.tags(id).is_some_and(|tags| tags.contains_key("eipwatch:cluster"))
        };
        let mut nodes = self.teams.iter().flat_map(|team| &team.nodes).filter(shown);
        let seen = nodes.any(|id| ec2.zone(id).is_some_and(|zone| !zones.contains(&&**zone)));
        if seen { zones } else { Vec::new() }
    }

    /// What makes a node bad.
    fn bad_by(&self, team: &Team, id: &Id) -> BadBy {
        BadBy {
            alarm: team.alarm_on.as_ref() == Some(id),
            agent: team.beats && self.beating(id).is_some() && self.agent_says(id, "status=fail"),
            stopped: self.world.ec2.state(id) != Some(State::Running),
            service: team.probed && (self.world.is_cut(id) || !self.serves(team, id)),
        }
    }

    /// An agent that goes on writing.
    fn beating(&self, id: &Id) -> Option<&Agent> {
        let now_ms = self.world.now_ms();
        let beats = |agent: &&Agent| agent.alive && now_ms <= agent.written_ms + agent.every_ms + BEAT_LATE_MS;
        self.world.agents.get(id).filter(beats)
    }

    /// Whether the agent's tag says so.
    fn agent_says(&self, id: &Id, status: &str) -> bool {
        let tag = self.world.ec2.tags(id).and_then(|tags| tags.get("eipwatch:heartbeat"));
        tag.is_some_and(|text| text.contains(status))
    }

    /// Whether a node's service answers well, and in time.
    fn serves(&self, team: &Team, id: &Id) -> bool {
        match self.world.answers(id) {
            Behaviour::Serve { latency_ms } => latency_ms + self.world.network_ms < team.bounds.timeout_ms,
            Behaviour::Status(code) => code < 400,
            _ => false,
        }
    }

    fn condition(&self, team: &Team, id: &Id, bad_by: BadBy) -> Condition {
        if bad_by.stopped || bad_by.agent {
            return Condition::Bad;
        }
        let beats_well =
            || self.beating(id).is_some_and(|agent| agent.status == "ok") && self.agent_says(id, "status=ok");
        if !team.probed {
            // A heartbeat that has stopped says something only beside another that goes on.
            return match (team.beats, self.impaired.contains(id)) {
                (true, _) if !beats_well() => Condition::Unclear,
                (true, _) | (false, false) => Condition::Good,
                (false, true) => Condition::Bad,
            };
        }
        if bad_by.alarm || self.world.is_cut(id) {
            return Condition::Bad;
        }
        if self.world.flaps(id) {
            return Condition::Unclear;
        }
        if bad_by.service {
            return Condition::Bad;
        }
        if self.world.is_cut_from_some(id) || (team.beats && !beats_well()) {
            return Condition::Unclear;
        }
        Condition::Good
    }

    fn tally(mut self) -> Tally {
        let mut timeline = std::mem::take(&mut self.timeline);
        if self.life.told {
            self.tell_world(&mut timeline);
        }
        let mut violations = std::mem::take(&mut self.violations);
        violations.extend(self.teams.iter_mut().flat_map(|team| std::mem::take(&mut team.checker.violations)));
        violations.sort_by_key(|it| it.at_ms);
        if self.life.told {
            for it in &violations {
                timeline.push((it.at_ms.saturating_sub(START_MS), format!("BROKEN: {}: {}", it.rule, it.text)));
            }
        }
        timeline.sort_by_key(|(at_ms, _)| *at_ms);
        let simulated_ms = self.world.now_ms();
        let watched = self.life.player == Player::Eipwatch && !self.world.settings.watch.is_zero();
        let probed = self.teams.iter().filter(|team| watched && team.probed).count();
        let mut met = std::mem::take(&mut self.world.met);
        add(&mut met, self.world.ec2.met());
        Tally {
            lives: 1,
            simulated_ms,
            clusters_ms: simulated_ms * self.teams.len() as u64,
            probed_ms: simulated_ms * probed as u64,
            moves: self.teams.iter().map(|team| team.checker.moves).sum(),
            necessary: self.teams.iter().map(|team| team.checker.necessary).sum(),
            recoveries: self.recoveries,
            probes: self.world.probes,
            invocations: self.world.invocations() as u64,
            faults: self.faults,
            met,
            whys: std::mem::take(&mut self.world.whys),
            violations: violations.into_iter().map(|violation| (self.life.seed, violation)).collect(),
            timeline,
        }
    }

    fn now_abs(&self) -> u64 {
        START_MS + self.world.now_ms()
    }

    fn invoke(&mut self, payload: &Value, in_ms: u64, role: Role) -> Handle {
        let handle = self.world.invoke(payload, self.world.now_ms() + in_ms);
        if role == Role::Reader {
            self.readers.insert(handle);
        }
        if payload.get("action").is_some() && role != Role::Reader {
            self.ordered.insert(handle);
        }
        for team in &mut self.teams {
            team.checker.role(handle, role);
        }
        handle
    }
}
