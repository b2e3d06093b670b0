//! The whole of an invocation as a state machine without I/O: it is fed what was seen and says what to do next.
//!
//! Whoever drives it calls [`Watch::poll`] and carries out the effects, feeds what comes of them, and polls again at
//! [`Watch::next_wake`]. It never waits, never reads a clock and never fails: what goes wrong is in its [`Report`].
//!
//! Architecture invariant: there is no second way to a move. Whatever woke the watch only widens the scope, adds a notice or an order;
//! what moves is what [`super::decide`] says of the clusters as EC2 shows them.

mod cluster;
mod command;
mod looks;
mod moving;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::decide::{self, Kind, Why, remembered};
use super::event::{BadRequest, Shard, Trigger};
use super::log::{Before, Record};
use super::model::{Act, AllocationId, Answer, CloudError, ClusterName, Failure, InstanceId, Look, ProbeTarget, Seen};
use super::report::{AddressReport, ClusterReport, Effort, NodeReport, Report};
use super::snapshot::{self, Facts, Holder, Reservation, Slot, Taken};
use super::tags::{AddressMode, Check, Health, Keys, NodeMode, State, Verdict};
use super::time::Time;

use cluster::{Surroundings, Watched, push_move};
use command::Command;
use looks::{BACKOFF_MAX, Looks, Outcome, backoff};
use moving::{MAX_TRIES, Moving, NODES_BEFORE_MOVE, Phase, Progress, READ_BEFORE_MOVE};

pub use cluster::{ADOPT_AFTER, NOTICE_BELIEVED};
pub use looks::{ROUND, STATUS_EVERY};
pub use moving::VERIFY_FOR;

/// The most probes on their way at once: the function has 1,024 descriptors.
pub const MAX_PROBES: usize = 600;
/// AssociateAddress: how many at once, and how many a second after that (EC2's own throttle, per account and Region).
pub const ASSOCIATE_BURST: u32 = 50;
/// See [`ASSOCIATE_BURST`].
pub const ASSOCIATE_PER_SECOND: u32 = 5;
/// How many CreateTags are on their way at once.
pub const MAX_TAGGING: usize = 10;
/// How often a tag is tried.
pub const MAX_TAG_TRIES: u32 = 6;
/// How many resources one CreateTags names.
pub const MAX_RESOURCES: usize = 50;
/// What whoever gave a command is told to do while EC2 shows nothing.
const ONCE_IT_ANSWERS: &str = "Type it again once EC2 answers.";

/// What the environment sets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The tags' names.
    pub keys: Keys,
    /// How long a scheduled invocation watches; zero: one sweep.
    pub watch: Duration,
    /// `EIPWATCH_MODE=manual`.
    pub manual: bool,
    /// `EIPWATCH_SHARD`.
    pub shard: Option<Shard>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { keys: Keys::new(super::tags::DEFAULT_PREFIX), watch: Duration::ZERO, manual: false, shard: None }
    }
}

/// What to do. Ids tie answers to questions.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask EC2 or CloudWatch.
    Look(u64, Look),
    /// Ask a node.
    Probe(u64, ProbeTarget),
    /// Change EC2.
    Act(u64, Act),
    /// Tell the log.
    Log(Record),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// To [`Effect::Look`].
    Looked(u64, Result<Seen, CloudError>),
    /// To [`Effect::Probe`].
    Probed(u64, Answer),
    /// To [`Effect::Act`].
    Acted(u64, Result<(), CloudError>),
    /// End soon: finish what is on its way, begin nothing.
    Stop,
}

/// How an invocation ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// With an answer.
    Report(Report),
    /// It asked for what does not exist, as only EC2 could show.
    BadRequest(BadRequest),
}

#[derive(Clone)]
struct TagWrite {
    resources: Vec<String>,
    key: String,
    value: String,
    tries: u32,
    of: Vec<Purpose>,
}

impl TagWrite {
    /// Whether a command is not carried out without it.
    fn is_ordered(&self) -> bool {
        self.of.iter().any(|of| matches!(of, Purpose::Command | Purpose::Force(_)))
    }

    /// Takes out the resources that carry the tag already.
    fn written(&mut self, facts: &Facts) -> Option<TagWrite> {
        let (key, value) = (self.key.clone(), self.value.clone());
        self.take_out(|resource, _| facts.shows_tag(resource, &key, &value))
    }

    /// Takes out what others have written over since it was decided on: it is decided afresh.
    fn outdated(
        &mut self,
        facts: &Facts,
        newest: impl Fn(&ClusterName, &AllocationId) -> Option<Time>,
    ) -> Option<TagWrite> {
        let key = self.key.clone();
        self.take_out(|resource, of| match of {
            Purpose::Health(.., before) => facts.tag(resource, &key) != before.as_ref(),
            Purpose::State(name, id, state) => newest(name, id).is_some_and(|newest| newest > state.since),
            Purpose::Command | Purpose::Force(_) => false,
        })
    }

    fn take_out(&mut self, which: impl Fn(&str, &Purpose) -> bool) -> Option<TagWrite> {
        let mut all = self.resources.iter().zip(&self.of);
        if !all.any(|(resource, of)| which(resource, of)) {
            return None;
        }
        let all = std::mem::take(&mut self.resources).into_iter().zip(std::mem::take(&mut self.of));
        let (out, left): (Vec<_>, Vec<_>) = all.partition(|(resource, of): &(String, Purpose)| which(resource, of));
        (self.resources, self.of) = left.into_iter().unzip();
        let (resources, of): (Vec<_>, Vec<_>) = out.into_iter().unzip();
        let (key, value, tries) = (self.key.clone(), self.value.clone(), self.tries);
        Some(TagWrite { resources, key, value, tries, of })
    }
}

/// What a tag is written for; one for each resource.
#[derive(Clone)]
enum Purpose {
    /// With what stood there when it was decided on.
    Health(ClusterName, InstanceId, Health, Option<String>),
    State(ClusterName, AllocationId, State),
    /// A command's own: the invocation has failed if it cannot be written.
    Command,
    /// The mode of an address that is about to be moved by force.
    Force(AllocationId),
}

#[derive(Clone)]
enum Doing {
    Associate(ClusterName, AllocationId),
    DryRun(ClusterName, AllocationId),
    Tag(TagWrite),
}

/// One invocation. A clone goes on from the same moment: so a model checker follows every way from there.
#[derive(Clone)]
pub struct Watch {
    settings: Settings,
    triggers: Vec<Trigger>,
    started: Time,
    ends: Time,
    deadline: Time,
    /// The deadline while EC2 has shown nothing.
    unseen_until: Time,
    stopped: bool,
    dry_run: bool,
    writes: bool,
    facts: Facts,
    looks: Looks,
    asked: BTreeMap<u64, (Time, Look)>,
    first_read: Option<Time>,
    scope: BTreeSet<ClusterName>,
    clusters: BTreeMap<ClusterName, Watched>,
    timers: BTreeSet<(Time, ClusterName)>,
    loose_problems: Vec<String>,
    command: Option<Command>,
    probes: BTreeMap<u64, (ClusterName, InstanceId, Check)>,
    doing: BTreeMap<u64, (Time, Act, Doing)>,
    wanted: BTreeSet<(bool, AllocationId, ClusterName)>,
    /// Moves on their way, in all clusters.
    moves_open: usize,
    restless: BTreeSet<ClusterName>,
    /// Clusters whose probes wait for others to end, and since when: who waits longest is next.
    starved: BTreeSet<(Time, ClusterName)>,
    occupancy: BTreeMap<Slot, AllocationId>,
    reserved: BTreeMap<Slot, Reservation>,
    tokens: u32,
    refilled: Time,
    held_until: Option<Time>,
    throttles: u32,
    tags: Vec<(Time, TagWrite)>,
    problems: BTreeSet<String>,
    fatal: Option<CloudError>,
    failure: Option<String>,
    api_calls: u64,
    last_id: u64,
    out: Vec<Effect>,
    ending: Option<Ending>,
}

impl Watch {
    /// An invocation that begins `now` and must have ended at `deadline`.
    pub fn new(triggers: Vec<Trigger>, settings: Settings, now: Time, deadline: Time) -> Watch {
        let scheduled = triggers.iter().any(|trigger| matches!(trigger, Trigger::Schedule { .. }));
        let watch = if scheduled { settings.watch } else { Duration::ZERO };
        let command = triggers.iter().find_map(Command::of);
        let dry_run = command.as_ref().is_some_and(Command::dry_run);
        let writes = !dry_run && !matches!(command, Some(Command::Status { .. }));
        let start = Record::Start {
            at: now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            triggers: triggers.clone(),
            watch_ms: u64::try_from(watch.as_millis()).unwrap_or(u64::MAX),
            deadline,
            manual: settings.manual,
            shard: settings.shard,
            prefix: settings.keys.prefix.clone(),
        };
        let mut this = Watch {
            looks: Looks::new(now, !watch.is_zero()),
            settings,
            started: now,
            ends: (now + watch).min(deadline),
            deadline,
            unseen_until: deadline,
            stopped: false,
            dry_run,
            writes,
            facts: Facts::default(),
            asked: BTreeMap::new(),
            first_read: None,
            scope: BTreeSet::new(),
            clusters: BTreeMap::new(),
            timers: BTreeSet::new(),
            loose_problems: Vec::new(),
            command,
            probes: BTreeMap::new(),
            doing: BTreeMap::new(),
            wanted: BTreeSet::new(),
            moves_open: 0,
            restless: BTreeSet::new(),
            starved: BTreeSet::new(),
            occupancy: BTreeMap::new(),
            reserved: BTreeMap::new(),
            tokens: ASSOCIATE_BURST,
            refilled: now,
            held_until: None,
            throttles: 0,
            tags: Vec::new(),
            problems: BTreeSet::new(),
            fatal: None,
            failure: None,
            api_calls: 0,
            last_id: 0,
            out: vec![Effect::Log(start)],
            ending: None,
            triggers,
        };
        if this.triggers.iter().all(|trigger| this.concerns_nobody(trigger)) {
            this.finish(now);
        }
        this
    }

    /// A tag event that can't change anything: not worth a single call.
    fn concerns_nobody(&self, trigger: &Trigger) -> bool {
        let Trigger::Tag { resource, changed, tags } = trigger else { return false };
        let keys = &self.settings.keys;
        let configured = changed.iter().any(|key| keys.is_configuration(key));
        let beat = changed.iter().any(|key| key == &keys.heartbeat)
            && tags
                .get(&keys.heartbeat)
                .and_then(|text| super::tags::Heartbeat::parse(text).ok())
                .is_some_and(|beat| beat.status != super::tags::BeatStatus::Ok);
        matches!(resource, super::event::TaggedResource::Other) || !(configured || beat)
    }

    /// Whether it has ended.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// What it took.
    pub fn effort(&self, now: Time) -> Effort {
        Effort {
            took_ms: u64::try_from(now.since(self.started).as_millis()).unwrap_or(u64::MAX),
            api_calls: self.api_calls,
        }
    }

    /// Takes in what came of an effect.
    pub fn feed(&mut self, input: Input, now: Time) {
        if self.ending.is_some() {
            return;
        }
        match input {
            Input::Looked(id, answer) => self.looked(id, answer, now),
            Input::Probed(id, answer) => {
                if let Some((name, node, check)) = self.probes.remove(&id)
                    && let Some(watched) = self.clusters.get_mut(&name)
                {
                    let mut log = Vec::new();
                    watched.probed(id, &node, &check, &answer, now, &mut log);
                    self.out.extend(log.into_iter().map(Effect::Log));
                    self.timers.insert((now, name));
                }
            }
            Input::Acted(id, result) => self.acted(id, result, now),
            Input::Stop => {
                self.stopped = true;
                self.ends = self.ends.min(now);
                // What waits to be sent is not sent any more.
                self.wake_all(now);
            }
        }
    }

    /// When it must be polled again even if nothing comes in; `None` only at its end.
    pub fn next_wake(&self) -> Option<Time> {
        if self.ending.is_some() {
            return None;
        }
        let timers = self.timers.first().map(|(at, _)| *at);
        let tags = if self.tagging() < MAX_TAGGING { self.tags.iter().map(|(at, _)| *at).min() } else { None };
        let moves = if self.wanted.is_empty() { None } else { self.move_possible_at() };
        let end = (self.ends > self.started).then_some(self.ends);
        [
            timers,
            tags,
            moves,
            end.filter(|_| !self.stopped && self.looks_repeat()),
            self.looks.next_wake(),
            Some(self.must_end_at()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Gives an EC2 that shows nothing at all no more than this, for people who wait for the answer. What it has shown once is waited
    /// for until the deadline.
    pub fn hurry(&mut self, patience: Duration) {
        self.unseen_until = self.deadline.min(self.started + patience);
    }

    fn must_end_at(&self) -> Time {
        if self.first_read.is_none() { self.unseen_until } else { self.deadline }
    }

    fn looks_repeat(&self) -> bool {
        self.looks.repeats()
    }

    /// Everything to be done now.
    pub fn poll(&mut self, now: Time) -> Vec<Effect> {
        if self.ending.is_none() {
            self.advance(now);
        }
        std::mem::take(&mut self.out)
    }

    fn advance(&mut self, now: Time) {
        if now >= self.must_end_at() || self.fatal.is_some() {
            self.finish(now);
            return;
        }
        if now >= self.ends && self.looks.repeats() {
            self.looks.stop_repeating(now);
            // What still waits for a reading asks for it again.
            self.wake_all(now);
        }
        let mut turn = BTreeSet::new();
        for _ in self.probes.len()..MAX_PROBES {
            let Some((_, name)) = self.starved.pop_first() else { break };
            self.timers.insert((now, name.clone()));
            turn.insert(name);
        }
        self.step_clusters(now, &turn);
        self.launch_moves(now);
        self.write_tags(now);
        self.ask(now);
        let over = now >= self.ends;
        let unread = self.first_read.is_none();
        if self.stopped && self.moves_open == 0 && self.doing.is_empty() && self.tags.is_empty() {
            self.finish(now);
            return;
        }
        if over
            && !unread
            && self.restless.is_empty()
            && self.timers.first().is_none_or(|(at, _)| *at > now)
            && self.wanted.is_empty()
            && self.doing.is_empty()
            && self.tags.is_empty()
            && self.looks.quiet(now)
        {
            self.finish(now);
        }
    }

    fn ask(&mut self, now: Time) {
        let last_id = &mut self.last_id;
        let mut new_id = || {
            *last_id += 1;
            *last_id
        };
        let asks = self.looks.ask(now, &self.facts, &self.settings.keys, &mut new_id);
        for (id, look) in asks {
            self.send_look(id, look, now);
        }
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn looked(&mut self, id: u64, answer: Result<Seen, CloudError>, now: Time) {
        let Some((asked, look)) = self.asked.remove(&id) else { return };
        let before = Before::of(&self.facts, &look);
        let (failed, whole) = match &answer {
            Err(error) => (Some(error.clone()), None),
            Ok(seen) => (None, matches!(look, Look::InstanceTags(_) | Look::Interfaces(_)).then(|| seen.clone())),
        };
        let last_id = &mut self.last_id;
        let mut new_id = || {
            *last_id += 1;
            *last_id
        };
        let (outcome, next) = self.looks.take(id, answer, &mut self.facts, &self.settings.keys, now, &mut new_id);
        if let Some((id, look)) = next {
            self.send_look(id, look, now);
        }
        let mut changed = whole.is_some();
        match failed {
            Some(error) => self.out.push(Effect::Log(Record::ReadingFailed { at: now, asked, look, error })),
            None => {
                let (differs, lines) = before.changes(&self.facts, whole, &look, asked, now);
                changed |= differs;
                self.out.extend(lines.into_iter().map(Effect::Log));
            }
        }
        match outcome {
            Outcome::Nothing => {}
            Outcome::Fatal(error) => self.fatal = Some(error),
            Outcome::Facts if changed || self.first_read.is_none() => self.rebuild(now),
            // Nothing new; but what waits for a reading has had one.
            Outcome::Facts => self.wake_all(now),
        }
    }

    /// Has every cluster looked at.
    fn wake_all(&mut self, now: Time) {
        for (name, watched) in &mut self.clusters {
            watched.dirty = true;
            self.timers.insert((now, name.clone()));
        }
    }

    fn send_look(&mut self, id: u64, look: Look, now: Time) {
        self.api_calls += 1;
        self.asked.insert(id, (now, look.clone()));
        self.out.push(Effect::Look(id, look));
    }

    /// Reads the clusters anew out of the facts.
    fn rebuild(&mut self, now: Time) {
        if self.facts.addresses_at.is_none() || self.facts.instances_at.is_none() {
            return;
        }
        let first = self.first_read.is_none();
        self.first_read.get_or_insert(now);
        self.occupancy = self.facts.occupancy();
        let places: BTreeMap<&AllocationId, &Slot> = self.occupancy.iter().map(|(slot, by)| (by, slot)).collect();
        let clusters = &self.clusters;
        // Who has moved on to a third place needs the reserved one no longer.
        self.reserved.retain(|slot, reservation| {
            let moving = || clusters.values().any(|watched| watched.moving.contains_key(&reservation.by));
            let third = |at: &&&Slot| **at != slot && reservation.from.as_ref() != Some(**at);
            places.get(&reservation.by).filter(third).is_none() || moving()
        });
        let (mut found, problems) = snapshot::clusters(&self.facts, &self.settings.keys);
        if self.command.is_some()
            && let Some(shard) = self.settings.shard
        {
            // A command on a cluster of another shard must not look as if it had been done.
            found.retain(|name, _| shard.covers(name));
        }
        self.loose_problems = problems;
        if first
            && let Some(command) = &mut self.command
            && let Err(bad) = command.resolve(&found, &self.settings.keys, now)
        {
            self.ending = Some(Ending::BadRequest(bad));
            return;
        }
        let mut alarms = BTreeSet::new();
        let mut strays = BTreeSet::new();
        for (name, cluster) in found {
            if !self.scope.contains(&name) {
                if !self.in_scope(&cluster) {
                    continue;
                }
                self.scope.insert(name.clone());
            }
            for node in cluster.nodes.values() {
                if !node.member {
                    strays.insert(node.id.clone());
                }
                for check in node.checks.iter() {
                    if let Check::Alarm(alarm) = check {
                        alarms.insert(alarm.to_string());
                    }
                }
            }
            let watched = match self.clusters.get_mut(&name) {
                Some(watched) => {
                    watched.keep_garbled_memory(&self.settings.keys);
                    watched.cluster = cluster;
                    watched
                }
                None => {
                    let mut watched = Watched::new(cluster);
                    for trigger in &self.triggers {
                        notice(&mut watched, trigger, now);
                    }
                    if let Some(command) = &self.command {
                        command.apply(&mut watched);
                    }
                    self.clusters.entry(name.clone()).or_insert(watched)
                }
            };
            watched.dirty = true;
            self.timers.insert((now, name));
        }
        // A cluster whose last tag was removed is no more.
        let alive: BTreeSet<ClusterName> =
            self.clusters.keys().filter(|name| self.timers.contains(&(now, (*name).clone()))).cloned().collect();
        self.clusters.retain(|name, watched| alive.contains(name) || !watched.moving.is_empty());
        self.restless.retain(|name| self.clusters.contains_key(name));
        self.looks.want_alarms(alarms, now);
        self.looks.want_strays(strays, now);
        if first && let Some(command) = &mut self.command {
            for (resource, key, value) in command.writes(now) {
                self.tags.push((
                    now,
                    TagWrite { resources: vec![resource], key, value, tries: 0, of: vec![Purpose::Command] },
                ));
            }
            if !self.tags.is_empty() {
                for watched in self.clusters.values_mut() {
                    watched.hold = true;
                }
            }
        }
    }

    fn in_scope(&self, cluster: &snapshot::Cluster) -> bool {
        let shard_of = |trigger: &Trigger| match trigger {
            Trigger::Schedule { shard: Some(shard) } => Some(*shard),
            _ => self.settings.shard,
        };
        let command = self.command.as_ref();
        self.triggers.iter().any(|trigger| {
            shard_of(trigger).is_none_or(|shard| shard.covers(&cluster.name))
                && concerns(trigger, command, cluster, &self.settings.keys)
        })
    }

    /// `turn`: the clusters whose probes have waited for others to end, and may be made now.
    fn step_clusters(&mut self, now: Time, turn: &BTreeSet<ClusterName>) {
        let mut due: BTreeSet<ClusterName> = BTreeSet::new();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, name)) = self.timers.pop_first()
        {
            due.insert(name);
        }
        if due.is_empty() {
            return;
        }
        self.reserved.retain(|_, reservation| reservation.until > now);
        for name in &due {
            if self.clusters.get(name).is_some_and(|watched| !watched.moving.is_empty())
                && let Some(mut watched) = self.clusters.remove(name)
            {
                self.progress_moves(&mut watched, now);
                self.clusters.insert(name.clone(), watched);
            }
        }
        let taken = Taken::new(&self.occupancy, Some(&self.reserved));
        let mut states = Vec::new();
        for name in due {
            let Some(watched) = self.clusters.get_mut(&name) else { continue };
            let its_turn = turn.contains(&name);
            let room = if self.starved.is_empty() || its_turn { MAX_PROBES } else { 0 };
            let mut around = Surroundings {
                facts: &self.facts,
                looks: &mut self.looks,
                taken: &taken,
                manual: self.settings.manual,
                writes: self.writes && self.failure.is_none(),
                first_read: self.first_read,
                probes_left: room.saturating_sub(self.probes.len()),
                now,
            };
            let wants = watched.step(&mut around);
            self.out.extend(wants.log.into_iter().map(Effect::Log));
            for (node, check, target) in wants.probes {
                self.last_id += 1;
                let id = self.last_id;
                watched.started(id, &node, &check, now);
                self.probes.insert(id, (name.clone(), node, check));
                self.out.push(Effect::Probe(id, target));
            }
            for (node, value, health) in wants.health {
                let shared = watched.cluster.nodes.get(&node).is_some_and(|node| node.shared);
                let key = self.settings.keys.health_of(shared.then_some(&name));
                let before = self.facts.tag(node.as_str(), &key).cloned();
                let purpose = Purpose::Health(name.clone(), node.clone(), health, before);
                let same = self.tags.iter_mut().find(|(at, write)| {
                    *at <= now
                        && write.tries == 0
                        && write.key == key
                        && write.value == value
                        && write.resources.len() < MAX_RESOURCES
                });
                match same {
                    Some((_, write)) => {
                        write.resources.push(node.to_string());
                        write.of.push(purpose);
                    }
                    None => self.tags.push((
                        now,
                        TagWrite { resources: vec![node.to_string()], key, value, tries: 0, of: vec![purpose] },
                    )),
                }
            }
            states.extend(wants.states.into_iter().map(|(address, state)| (name.clone(), address, state)));
            self.wanted.retain(|(_, _, of)| of != &name);
            for address in wants.moves {
                let rescue = watched
                    .rulings
                    .iter()
                    .find(|ruling| ruling.address == address)
                    .is_some_and(|ruling| ruling.decision.why.rescue());
                self.wanted.insert((!rescue, address, name.clone()));
            }
            for (address, moving) in &watched.moving {
                if let Phase::Waiting { not_before } = moving.phase
                    && not_before <= now
                {
                    self.wanted.insert((!moving.plan.why.rescue(), address.clone(), name.clone()));
                }
            }
            if let Some(at) = watched.next_wake().or(watched.dirty.then_some(now)) {
                self.timers.insert((at.max(now), name.clone()));
            }
            if watched.at_rest {
                self.restless.remove(&name);
            } else {
                self.restless.insert(name.clone());
            }
            if let Some(since) = watched.starved_since.take_if(|_| its_turn || !wants.starved) {
                self.starved.remove(&(since, name.clone()));
            }
            if wants.starved {
                let since = *watched.starved_since.get_or_insert(now);
                self.starved.insert((since, name));
            }
        }
        for (name, address, state) in states {
            self.record_state(&name, &address, state, now);
        }
        if self.dry_run {
            self.ask_if_allowed(now);
        }
        self.looks.set_urgent(!self.wanted.is_empty() || self.moves_open > 0);
    }

    /// What the newest reading says of the moves on their way.
    fn progress_moves(&mut self, watched: &mut Watched, now: Time) {
        let asked = self.looks.addresses.asked_id;
        let ids: Vec<AllocationId> = watched.moving.keys().cloned().collect();
        for id in ids {
            let shown = watched
                .cluster
                .addresses
                .iter()
                .find(|address| address.id == id)
                .map_or(Holder::Nobody, |address| address.holder.clone());
            let Some(moving) = watched.moving.get_mut(&id) else { continue };
            match moving.phase.clone() {
                Phase::Looking { .. } => match moving.seen(&shown, asked, now) {
                    Progress::LookAt(at) => {
                        self.looks.want_addresses(at.max(now));
                        if let Phase::Looking { until, .. } = moving.phase {
                            self.timers.insert((until, watched.cluster.name.clone()));
                        }
                    }
                    Progress::Arrived => self.arrived(watched, &id, now),
                    Progress::Again(at) => {
                        moving.phase = Phase::Waiting { not_before: at };
                        self.timers.insert((at, watched.cluster.name.clone()));
                    }
                    Progress::Never => {
                        let error = moving.never(&watched.cluster.holder_text(&shown));
                        self.ended(watched, &id, Some(error), false, now);
                    }
                    Progress::Elsewhere => self.moved_elsewhere(watched, &id, &shown, now),
                },
                Phase::Waiting { .. } if self.stopped => {
                    let error = moving.error.clone().map_or_else(String::new, |error| format!(" ({error})"));
                    let error = format!("the watch was stopped before the move was sent again{error}");
                    self.ended(watched, &id, Some(error), false, now);
                }
                Phase::Waiting { not_before } if now < not_before => {
                    self.timers.insert((not_before, watched.cluster.name.clone()));
                }
                Phase::Waiting { .. } | Phase::Sent { .. } => {}
            }
        }
    }

    fn arrived(&mut self, watched: &mut Watched, id: &AllocationId, now: Time) {
        let Some(moving) = watched.moving.get(id) else { return };
        let plan = moving.plan.clone();
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        let memory = watched.memory.get(id);
        let before = address.and_then(|address| remembered(address, memory));
        // Another invocation has made the same move at the same time, and recorded it: it counts once.
        let recorded = before.filter(|state| {
            let alike = state.holder == plan.to && plan.why != Why::Manual && moving.last_recorded != Some(state.since);
            let same = state.from == plan.from && moving.began.since(state.since) < decide::SETTLING;
            // Or brought it there from elsewhere, since this one was begun.
            let since = state.since >= moving.began.whole_second();
            alike && (same || since) && state.since.since(now) < decide::SETTLING
        });
        if let Some(state) = recorded.cloned() {
            let memory = watched.memory.entry(id.clone()).or_default();
            memory.state = Some(state);
            memory.order = None;
            self.ended(watched, id, None, false, now);
            return;
        }
        let mut moves = before.map(|state| state.moves.clone()).unwrap_or_default();
        let raced =
            before.is_some_and(|state| state.from == plan.from && moving.began.since(state.since) < decide::SETTLING);
        if let (Some(state), Some(from)) = (before, &plan.from)
            && &state.holder != from
            && state.since < moving.began.whole_second()
            && !raced
        {
            // Somebody else's move came before ours, and counts.
            push_move(&mut moves, moving.began);
        }
        if plan.why == Why::Manual {
            moves.clear();
        } else if plan.why.counted() {
            push_move(&mut moves, now);
        }
        let state = State {
            holder: plan.to.clone(),
            since: now.whole_second(),
            from: plan.from.clone(),
            why: plan.why.as_str().to_owned(),
            moves,
        };
        let memory = watched.memory.entry(id.clone()).or_default();
        memory.state = Some(State { since: now, ..state.clone() });
        memory.order = None;
        self.record_state(&watched.cluster.name, id, state, now);
        self.ended(watched, id, None, false, now);
        if self.command.as_ref().is_some_and(Command::is_move) {
            // What a command did is not undone by a decision in the same breath.
            watched.hold = true;
        }
    }

    fn ended(&mut self, watched: &mut Watched, id: &AllocationId, error: Option<String>, benign: bool, now: Time) {
        let Some(moving) = watched.moving.remove(id) else { return };
        self.moves_open = self.moves_open.saturating_sub(1);
        let report = moving.report(error, benign, now);
        let memory = watched.memory.entry(id.clone()).or_default();
        if report.ok {
            if let Some(reservation) = self.reserved.get_mut(&moving.plan.slot).filter(|of| of.by == *id) {
                reservation.until = now + decide::SETTLING;
            }
        } else {
            self.reserved.retain(|_, reservation| reservation.by != *id);
            if !benign && moving.plan.why == Why::Manual {
                // A command is tried to its end once, not again and again.
                memory.order = None;
                watched.hold = true;
            }
        }
        self.out.push(Effect::Log(Record::Move {
            at: now,
            cluster: watched.cluster.name.clone(),
            address: id.clone(),
            result: report.clone(),
        }));
        watched.moves.entry(id.clone()).or_default().push(report);
        watched.dirty = true;
    }

    fn moved_elsewhere(&mut self, watched: &mut Watched, id: &AllocationId, shown: &Holder, now: Time) {
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        let Some(address) = address.filter(|_| watched.moving.contains_key(id)) else { return };
        let decision = cluster::moved_elsewhere(address.public_ip, &watched.cluster.holder_text(shown));
        self.out.push(Effect::Log(Record::Decision {
            at: now,
            cluster: watched.cluster.name.clone(),
            address: id.clone(),
            decision: decision.clone(),
        }));
        watched.memory.entry(id.clone()).or_default().order = None;
        self.ended(watched, id, Some(decision.text.clone()), true, now);
        watched.decisions.insert(id.clone(), decision);
    }

    fn record_state(&mut self, name: &ClusterName, address: &AllocationId, state: State, now: Time) {
        // Only the newest state is worth writing.
        self.tags.retain(|(_, write)| {
            write.tries > 0 || !write.of.iter().any(|of| matches!(of, Purpose::State(_, id, _) if id == address))
        });
        let value = state.to_string();
        let write = TagWrite {
            resources: vec![address.to_string()],
            key: self.settings.keys.state.clone(),
            value,
            tries: 0,
            of: vec![Purpose::State(name.clone(), address.clone(), state)],
        };
        self.tags.insert(0, (now, write));
    }

    fn refill(&mut self, now: Time) {
        let per_token = 1000 / u64::from(ASSOCIATE_PER_SECOND);
        let passed = u64::try_from(now.since(self.refilled).as_millis()).unwrap_or(u64::MAX) / per_token;
        if passed > 0 {
            let gained = u32::try_from(passed).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(gained).min(ASSOCIATE_BURST);
            self.refilled += Duration::from_millis(passed.saturating_mul(per_token));
        }
    }

    fn move_possible_at(&self) -> Option<Time> {
        let held = self.held_until.filter(|until| *until > self.refilled);
        if self.tokens > 0 {
            held
        } else {
            Some(
                (self.refilled + Duration::from_millis(1000 / u64::from(ASSOCIATE_PER_SECOND)))
                    .max(held.unwrap_or_default()),
            )
        }
    }

    /// Sends the moves that are decided, those without a living holder first, at the pace that EC2 allows.
    fn launch_moves(&mut self, now: Time) {
        if self.wanted.is_empty() || self.stopped {
            self.wanted.clear();
            return;
        }
        self.refill(now);
        if self.held_until.is_some_and(|until| now < until) {
            return;
        }
        let nodes_old = self.facts.instances_at.is_none_or(|at| now.since(at) > NODES_BEFORE_MOVE);
        if self.facts.addresses_at.is_none_or(|at| now.since(at) > READ_BEFORE_MOVE) {
            self.looks.want_addresses(now);
            if nodes_old {
                self.looks.want_instances(now);
            }
            self.looks.set_urgent(true);
            return;
        }
        if nodes_old && !self.looks.instances.failing() {
            // Whoever was gone may be back, and whoever could take it may not any more. While EC2 does not answer, nothing waits for that.
            self.looks.want_instances(now);
            self.looks.set_urgent(true);
            return;
        }
        while self.tokens > 0 {
            if !self.next_is_read(now) {
                if !self.looks.addresses.busy() {
                    self.looks.want_addresses(now);
                }
                self.looks.set_urgent(true);
                return;
            }
            let Some((_, address, name)) = self.wanted.pop_first() else { break };
            let Some(mut watched) = self.clusters.remove(&name) else { continue };
            if self.launch(&mut watched, &address, now) {
                self.tokens -= 1;
            }
            self.clusters.insert(name, watched);
        }
    }

    /// Whether addresses were read as late as the next move asks for.
    fn next_is_read(&self, now: Time) -> bool {
        let Some((planned, id, name)) = self.wanted.first() else { return true };
        // Somebody holds it: it is read again, and the private address that it is to go to. A rescue is not held up for that.
        if *planned && !self.looks.addresses_read_again() {
            return false;
        }
        let Some(watched) = self.clusters.get(name) else { return true };
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        // A pause that is over may have been made longer in its last moments.
        let paused_until = address.and_then(|address| match address.mode {
            AddressMode::Manual { until } => until.filter(|until| *until <= now),
            AddressMode::Auto => None,
        });
        // Watches that race for a last resort need not choose alike: who comes later sees where it went.
        let resort = watched.intended.get(id).filter(|intent| intent.why == Why::LastResort);
        let read_since = paused_until.max(resort.map(|intent| intent.since));
        read_since.is_none_or(|since| self.looks.addresses.asked.is_some_and(|asked| asked >= since))
    }

    fn launch(&mut self, watched: &mut Watched, id: &AllocationId, now: Time) -> bool {
        let ruling = watched.rulings.iter().find(|ruling| &ruling.address == id && !ruling.pending);
        let plan = ruling.and_then(|ruling| ruling.plan.clone());
        let shown =
            watched.cluster.addresses.iter().find(|address| &address.id == id).map(|address| address.holder.clone());
        let holder = shown.as_ref().and_then(Holder::instance).cloned();
        if let Some(moving) = watched.moving.get(id) {
            if holder.as_ref() == Some(&moving.plan.to) {
                if moving.held_before == holder
                    && moving.error.is_some()
                    && let Some(moving) = watched.moving.get_mut(id)
                {
                    moving.doubt(self.last_id, now);
                } else {
                    self.arrived(watched, id, now);
                }
                self.timers.insert((now, watched.cluster.name.clone()));
                return false;
            }
            if let Some(shown) = &shown
                && moving.is_elsewhere(shown)
            {
                self.moved_elsewhere(watched, id, shown, now);
                self.timers.insert((now, watched.cluster.name.clone()));
                return false;
            }
            let same = plan.as_ref().is_some_and(|plan| plan.to == moving.plan.to);
            if !same || moving.tries >= MAX_TRIES {
                let error = moving.error.clone().unwrap_or_else(|| "it is no longer to be made".to_owned());
                self.ended(watched, id, Some(error), !same, now);
                self.timers.insert((now, watched.cluster.name.clone()));
                return false;
            }
        }
        let Some(plan) = plan else { return false };
        if self.reserved.get(&plan.slot).is_some_and(|reservation| &reservation.by != id) {
            // Another cluster of this node was first: it is decided again.
            self.timers.insert((now, watched.cluster.name.clone()));
            return false;
        }
        if plan.forced && !self.force_is_recorded(watched, id, now) {
            return false;
        }
        watched.intended.remove(id);
        let name = watched.cluster.name.clone();
        let detect = watched.failing_since(plan.from.as_ref()).map(|since| now.since(since));
        let slot = plan.slot.clone();
        let act_id = self.new_id();
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        let state = address.and_then(|address| remembered(address, watched.memory.get(id)));
        let stale = |of: &InstanceId| decide::is_stale(&Holder::Node(of.clone()), state, now);
        let held_before = state.and_then(|state| state.from.clone()).filter(stale);
        let last_recorded = state.map(|state| state.since);
        let moving = watched.moving.entry(id.clone()).or_insert_with(|| {
            self.moves_open += 1;
            Moving { held_before, last_recorded, ..Moving::new(plan, now, detect) }
        });
        moving.plan.slot = slot.clone();
        moving.sent(act_id);
        watched.at_rest = false;
        let from = self.occupancy.iter().find(|(_, by)| *by == id).map(|(slot, _)| slot.clone());
        let reservation = Reservation { by: id.clone(), until: now + decide::SETTLING, from };
        self.reserved.insert(slot.clone(), reservation);
        let act = Act::Associate {
            address: id.clone(),
            interface: slot.interface,
            private_ip: slot.private_ip,
            dry_run: false,
        };
        self.api_calls += 1;
        self.out.push(Effect::Act(act_id, act.clone()));
        self.doing.insert(act_id, (now, act, Doing::Associate(name, id.clone())));
        true
    }

    /// A forced move waits until the address's mode is manual: a sweep elsewhere would undo it.
    fn force_is_recorded(&mut self, watched: &Watched, id: &AllocationId, now: Time) -> bool {
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        if address.is_some_and(|address| matches!(address.mode.in_force(now), AddressMode::Manual { .. })) {
            return true;
        }
        let waiting = |of: &Purpose| matches!(of, Purpose::Force(address) if address == id);
        let queued = self.tags.iter().any(|(_, write)| write.of.iter().any(waiting));
        let sent =
            self.doing.values().any(|(_, _, doing)| matches!(doing, Doing::Tag(write) if write.of.iter().any(waiting)));
        if !queued && !sent {
            let value = AddressMode::Manual { until: None }.to_string();
            let key = self.settings.keys.mode.clone();
            let write = TagWrite {
                resources: vec![id.to_string()],
                key,
                value,
                tries: 0,
                of: vec![Purpose::Force(id.clone())],
            };
            self.tags.insert(0, (now, write));
        }
        false
    }

    /// Asks EC2 whether it would allow what a dry run has decided.
    fn ask_if_allowed(&mut self, now: Time) {
        let names: Vec<ClusterName> = self.clusters.keys().cloned().collect();
        for name in names {
            let Some(watched) = self.clusters.get_mut(&name) else { continue };
            let plans: Vec<(AllocationId, decide::Plan)> = watched
                .rulings
                .iter()
                .filter(|ruling| !ruling.pending)
                .filter_map(|ruling| Some((ruling.address.clone(), ruling.plan.clone()?)))
                .filter(|(id, _)| !watched.asked_if_allowed.contains(id))
                .collect();
            for (id, plan) in plans {
                watched.asked_if_allowed.insert(id.clone());
                self.last_id += 1;
                let act_id = self.last_id;
                let act = Act::Associate {
                    address: id.clone(),
                    interface: plan.slot.interface,
                    private_ip: plan.slot.private_ip,
                    dry_run: true,
                };
                self.api_calls += 1;
                self.out.push(Effect::Act(act_id, act.clone()));
                self.doing.insert(act_id, (now, act, Doing::DryRun(name.clone(), id)));
            }
        }
    }

    fn tagging(&self) -> usize {
        self.doing.values().filter(|(_, _, doing)| matches!(doing, Doing::Tag(_))).count()
    }

    fn write_tags(&mut self, now: Time) {
        let mut room = MAX_TAGGING.saturating_sub(self.tagging());
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tags).into_iter().partition(|(at, _)| *at <= now);
        self.tags = later;
        for (at, mut write) in due {
            if room == 0 {
                self.tags.push((at, write));
                continue;
            }
            // Written meanwhile: by another invocation, or by a try that was taken to have failed.
            if let Some(done) = write.written(&self.facts) {
                self.settle_tags(&done, true, now);
            }
            let clusters = &self.clusters;
            let newest = |name: &ClusterName, id: &AllocationId| {
                let watched = clusters.get(name)?;
                let address = watched.cluster.addresses.iter().find(|address| &address.id == id)?;
                let since = remembered(address, watched.memory.get(id))?.since.whole_second();
                (since <= now).then_some(since)
            };
            if let Some(dropped) = write.outdated(&self.facts, newest) {
                for of in &dropped.of {
                    if let Purpose::Health(name, node, ..) = of
                        && let Some(watched) = self.clusters.get_mut(name)
                    {
                        watched.forget_recording(node);
                        self.timers.insert((now, name.clone()));
                    }
                }
            }
            if write.resources.is_empty() {
                continue;
            }
            room -= 1;
            write.tries += 1;
            let id = self.new_id();
            let act =
                Act::Tag { resources: write.resources.clone(), key: write.key.clone(), value: write.value.clone() };
            self.api_calls += 1;
            self.out.push(Effect::Act(id, act.clone()));
            self.doing.insert(id, (now, act, Doing::Tag(write)));
        }
    }

    fn acted(&mut self, id: u64, result: Result<(), CloudError>, now: Time) {
        let Some((asked, act, doing)) = self.doing.remove(&id) else { return };
        self.out.push(Effect::Log(Record::Call { at: now, asked, act, error: result.as_ref().err().cloned() }));
        match doing {
            Doing::Tag(write) => self.tagged(write, result, now),
            Doing::DryRun(name, address) => {
                if let Err(error) = result
                    && let Some(watched) = self.clusters.get_mut(&name)
                {
                    let memory = watched.memory.entry(address).or_default();
                    if error.failure == Failure::NotPermitted {
                        memory.barred = Some(error.to_string());
                    } else {
                        watched.notes.push(format!("a dry run of the move failed: {error}"));
                    }
                    watched.dirty = true;
                    self.timers.insert((now, name));
                }
            }
            Doing::Associate(name, address) => {
                let Some(mut watched) = self.clusters.remove(&name) else { return };
                let throttled = result.as_ref().is_err_and(|error| error.failure == Failure::Throttled);
                if throttled {
                    // The bucket is not ours alone: it is empty, whatever we counted.
                    self.throttles = self.throttles.saturating_add(1);
                    self.tokens = 0;
                    self.refilled = now;
                    self.held_until = Some(now + backoff(self.throttles.min(3), looks::BACKOFF_MAX_URGENT));
                } else {
                    self.throttles = 0;
                }
                let failed =
                    watched.moving.get_mut(&address).and_then(|moving| moving.answered(result, self.last_id, now));
                if let Some(error) = failed {
                    let to = watched.moving.get(&address).map(|moving| moving.plan.to.clone());
                    let memory = watched.memory.entry(address.clone()).or_default();
                    match (error.failure, to) {
                        (Failure::NotPermitted | Failure::AddressGone, _) => memory.barred = Some(error.to_string()),
                        (_, Some(to)) => {
                            memory.refused.insert(to, error.to_string());
                        }
                        (_, None) => {}
                    }
                    self.ended(&mut watched, &address, Some(error.to_string()), false, now);
                }
                watched.dirty = true;
                self.timers.insert((now, name.clone()));
                self.clusters.insert(name, watched);
            }
        }
    }

    fn tagged(&mut self, mut write: TagWrite, result: Result<(), CloudError>, now: Time) {
        match result {
            Ok(()) => {
                let commanded = write.of.iter().any(|of| matches!(of, Purpose::Command | Purpose::Force(_)));
                let believed = if commanded { snapshot::ORDERS_BELIEVED } else { snapshot::OWN_WRITES_BELIEVED };
                for resource in &write.resources {
                    self.facts.wrote(resource, &write.key, &write.value, believed, now);
                }
                self.settle_tags(&write, true, now);
            }
            Err(error) => {
                let again =
                    matches!(error.failure, Failure::Throttled | Failure::Transient) && write.tries < MAX_TAG_TRIES;
                if again {
                    let at = now + backoff(write.tries, BACKOFF_MAX);
                    self.tags.push((at, write));
                } else if write.resources.len() > 1 {
                    // One of them is at fault: each for itself.
                    for (resource, of) in write.resources.drain(..).zip(write.of.drain(..)) {
                        let single = TagWrite {
                            resources: vec![resource],
                            key: write.key.clone(),
                            value: write.value.clone(),
                            tries: 0,
                            of: vec![of],
                        };
                        self.tags.push((now, single));
                    }
                } else {
                    let resource = write.resources.first().cloned().unwrap_or_default();
                    let cure = if error.code == "UnauthorizedOperation" {
                        format!(". The role needs ec2:CreateTags on {resource}")
                    } else {
                        String::new()
                    };
                    let text = format!("{} on {resource} could not be written: {error}{cure}", write.key);
                    if write.is_ordered() {
                        self.failure = Some(format!("{}: {text}. Nothing was moved.", self.not_done()));
                    } else {
                        self.problems.insert(text);
                    }
                    self.settle_tags(&write, false, now);
                }
            }
        }
    }

    fn settle_tags(&mut self, write: &TagWrite, written: bool, now: Time) {
        for of in &write.of {
            match of {
                Purpose::Health(name, node, health, _) => {
                    if let Some(watched) = self.clusters.get_mut(name) {
                        watched.recorded_health(node, health, written, now);
                        watched.dirty = true;
                        self.timers.insert((now, name.clone()));
                    }
                }
                Purpose::State(name, address, state) => {
                    if let Some(watched) = self.clusters.get_mut(name).filter(|_| written) {
                        watched.recorded_state(address, state);
                        watched.dirty = true;
                    }
                }
                Purpose::Command | Purpose::Force(_) => {}
            }
        }
        if write.of.iter().any(|of| matches!(of, Purpose::Command | Purpose::Force(_))) {
            let more = self.tags.iter().any(|(_, write)| write.of.iter().any(|of| matches!(of, Purpose::Command)))
                || self.doing.values().any(|(_, _, doing)| matches!(doing, Doing::Tag(write) if write.of.iter().any(|of| matches!(of, Purpose::Command))));
            if written && !more {
                for watched in self.clusters.values_mut() {
                    watched.hold = false;
                }
            }
            self.rebuild(now);
        }
    }

    fn finish(&mut self, now: Time) {
        let mut log = Vec::new();
        for watched in self.clusters.values_mut() {
            watched.finish(&mut log);
        }
        let names: Vec<ClusterName> = self.clusters.keys().cloned().collect();
        for name in names {
            let Some(mut watched) = self.clusters.remove(&name) else { continue };
            let open: Vec<AllocationId> = watched.moving.keys().cloned().collect();
            for id in open {
                let error = watched.moving.get(&id).and_then(|moving| moving.error.clone());
                let why = if self.stopped { "the watch was stopped" } else { "the invocation's time was up" };
                let error = error.map_or_else(
                    || format!("{why} before EC2 showed the new holder"),
                    |error| format!("{error}; then {why}"),
                );
                self.ended(&mut watched, &id, Some(error), false, now);
            }
            self.clusters.insert(name, watched);
        }
        let sent = self.doing.values().filter_map(|(_, _, doing)| match doing {
            Doing::Tag(write) if write.is_ordered() => Some((write.clone(), true)),
            _ => None,
        });
        let sent: Vec<(TagWrite, bool)> = sent.collect();
        for (write, sent) in std::mem::take(&mut self.tags).into_iter().map(|(_, write)| (write, false)).chain(sent) {
            let (known, what) = if sent {
                (", as far as is known", "may be written: it had no answer when")
            } else {
                ("", "was not written:")
            };
            for resource in &write.resources {
                let text = format!("{} on {resource} {what} the invocation's time was up", write.key);
                if write.is_ordered() && self.failure.is_none() {
                    self.failure = Some(format!("{}{known}: {text}. Nothing was moved.", self.not_done()));
                }
                self.problems.insert(text);
            }
        }
        self.out.extend(log.into_iter().map(Effect::Log));
        let report = self.report(now);
        for (id, (asked, act, _)) in std::mem::take(&mut self.doing) {
            let error = CloudError {
                failure: Failure::Transient,
                code: "Unanswered".to_owned(),
                message: format!("call {id} had no answer when the invocation's time was up"),
            };
            self.out.push(Effect::Log(Record::Call { at: now, asked, act, error: Some(error) }));
        }
        self.out.push(Effect::Log(Record::End { at: now, report: report.clone() }));
        self.ending = Some(Ending::Report(report));
    }

    fn report(&self, now: Time) -> Report {
        let clusters: Vec<ClusterReport> =
            self.clusters.values().map(|watched| self.cluster_report(watched, now)).collect();
        let mut problems: Vec<String> = self.loose_problems.clone();
        problems.extend(self.problems.iter().cloned());
        for (what, routine) in [
            ("DescribeAddresses", &self.looks.addresses),
            ("DescribeInstances", &self.looks.instances),
            ("DescribeInstanceStatus", &self.looks.status),
            ("DescribeAlarms", &self.looks.alarms),
        ] {
            if let Some(error) = &routine.error {
                problems.push(format!("{what} failed: {error}"));
            }
        }
        let mut report = Report {
            trigger: self.triggers.first().map_or("manual", Trigger::name).to_owned(),
            ok: true,
            error: None,
            dry_run: self.dry_run,
            sweeps: self.looks.rounds.max(u32::from(self.first_read.is_some())),
            clusters,
            problems,
            observed: self.first_read.is_some(),
        };
        report.error = self.what_failed(&report, now);
        report.ok = report.error.is_none();
        report
    }

    fn what_failed(&self, report: &Report, now: Time) -> Option<String> {
        if let Some(error) = &self.fatal {
            const CURE: &str = "Check the role's permissions and credentials";
            let undone = self.undone(
                report,
                &format!("{CURE}, then type it again."),
                &format!("Nothing more is moved. {CURE}."),
            );
            return Some(format!("EC2 does not let eipwatch observe: {error}. {undone}"));
        }
        if self.first_read.is_none() && !self.triggers.iter().all(|trigger| self.concerns_nobody(trigger)) {
            let error = self.looks.addresses.error.as_ref().or(self.looks.instances.error.as_ref());
            let why = error.map_or_else(|| "no answer in time".to_owned(), ToString::to_string);
            let whose = self.addresses_clusters();
            let undone = self.undone(report, ONCE_IT_ANSWERS, "Nothing was moved; the next sweep tries again.");
            return Some(format!("EC2 could not be observed{whose}: {why}. {undone}"));
        }
        if let (Some(error), Some(at)) = (&self.looks.addresses.error, self.facts.addresses_at) {
            let names: Vec<&str> = self.clusters.keys().map(ClusterName::as_str).collect();
            let undone = self.undone(report, ONCE_IT_ANSWERS, "The next sweep tries again.");
            return Some(format!("EC2 could not be observed for {} since {at}: {error}. {undone}", names.join(", ")));
        }
        if let Some(failure) = &self.failure {
            return Some(failure.clone());
        }
        if let Some((cluster, address, failed)) = report.failed_moves().next() {
            let error = failed.error.as_deref().unwrap_or("EC2 does not show it");
            let label = |id: &InstanceId| {
                self.clusters.get(&cluster.cluster).map_or_else(|| id.to_string(), |of| of.cluster.label(id))
            };
            let holder = address.holder.as_ref().filter(|holder| Some(*holder) == failed.from.as_ref());
            let holder = holder.map_or_else(String::new, |holder| format!(", EC2 still shows it on {}", label(holder)));
            let (ip, to) = (address.public_ip, label(&failed.to));
            return Some(format!("{}: {ip} was NOT moved to {to}{holder}: {error}", cluster.cluster));
        }
        for watched in self.clusters.values() {
            let name = &watched.cluster.name;
            for ruling in &watched.rulings {
                let decision = &ruling.decision;
                if decision.kind == Kind::Blocked
                    && (decision.why == Why::NotPermitted || self.command.as_ref().is_some_and(Command::is_move))
                {
                    return Some(format!("{name}: {}", decision.text));
                }
                let over = self.stopped || now >= self.deadline;
                if ruling.plan.is_some() && self.writes && !watched.hold && over {
                    let why = if self.stopped { "the watch was stopped" } else { "the invocation's time was up" };
                    let error =
                        self.looks.addresses.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
                    let text = &decision.text;
                    return Some(format!(
                        "{name}: NOT moved: {why} before the move could be sent{error}. It was decided: {text}"
                    ));
                }
            }
        }
        self.order_lost(now)
    }

    /// What a command asked for and was not done, as a sentence that goes on.
    fn not_done(&self) -> String {
        let Some(command) = &self.command else { return "It was NOT done".to_owned() };
        let several = |name: &ClusterName| self.clusters.get(name).is_some_and(|of| of.cluster.addresses.len() > 1);
        command.not_done(several)
    }

    /// What was left undone because EC2 could not be read, and what to do: `again` for a command, `sweep` where nobody gave one.
    fn undone(&self, report: &Report, again: &str, sweep: &str) -> String {
        let Some(command) = &self.command else { return sweep.to_owned() };
        let mut moves = report.clusters.iter().flat_map(|of| &of.addresses).flat_map(|of| &of.moves);
        let moved = moves.any(|made| made.ok);
        match command {
            _ if self.first_read.is_none() => format!("{}; nothing was changed. {again}", self.not_done()),
            _ if self.failure.is_some() => format!("{}. {again}", self.not_done()),
            Command::Move { .. } if moved => "The move was made before that.".to_owned(),
            Command::Move { .. } => format!("{}. {again}", self.not_done()),
            Command::Mode { .. } | Command::Pause { .. } => {
                "The mode is written; the next sweep does what follows from it.".to_owned()
            }
            Command::Status { .. } | Command::Sweep { .. } => again.to_owned(),
        }
    }

    /// A command `move` whose address ends elsewhere than was asked.
    fn order_lost(&self, now: Time) -> Option<String> {
        let Some(Command::Move { cluster: Some(name), id: Some(id), order, dry_run: false, .. }) = &self.command else {
            return None;
        };
        let lost =
            || Some(format!("{name}: {id} is no longer in the cluster. Look where it is before you type it again."));
        let Some(watched) = self.clusters.get(name) else { return lost() };
        let Some(address) = watched.cluster.addresses.iter().find(|address| &address.id == id) else { return lost() };
        let made = watched.moves.get(id).and_then(|moves| moves.last());
        let elsewhere = watched.decisions.get(id).is_some_and(|decision| decision.why == Why::MovedElsewhere);
        let asked = order.to.as_ref().or_else(|| made.map(|made| &made.to));
        let there = asked.is_some() && watched.holder_now(address, now).as_ref() == asked;
        if there || (asked.is_none() && !elsewhere) {
            return None;
        }
        let (ip, who) = (address.public_ip, watched.held_by(address, now));
        let to = asked.map_or_else(String::new, |to| format!(" to {}", watched.cluster.label(to)));
        let moved = made.is_some_and(|made| made.ok && asked == Some(&made.to));
        let text = if moved { "was moved" } else { "was NOT moved" };
        let by = if moved || elsewhere { ". Another invocation or somebody moved it meanwhile" } else { "" };
        Some(format!("{name}: {ip} {text}{to}, but is held by {who}{by}. Type it again if it should still be moved."))
    }

    /// The clusters that addresses name, where nothing more than addresses could be read.
    fn addresses_clusters(&self) -> String {
        let tags = self.facts.addresses.values().filter_map(|address| address.tags.get(&self.settings.keys.cluster));
        let names: BTreeSet<&str> = tags.map(String::as_str).collect();
        if names.is_empty() {
            String::new()
        } else {
            format!(" for {}", names.into_iter().collect::<Vec<_>>().join(", "))
        }
    }

    fn cluster_report(&self, watched: &Watched, now: Time) -> ClusterReport {
        let candidates = watched.candidates();
        let addresses = watched
            .cluster
            .addresses
            .iter()
            .map(|address| {
                let mode =
                    if self.settings.manual { AddressMode::Manual { until: None } } else { address.mode.in_force(now) };
                AddressReport {
                    public_ip: address.public_ip,
                    allocation_id: address.id.clone(),
                    mode: mode.to_string(),
                    holder: watched.holder_now(address, now),
                    decision: watched
                        .decisions
                        .get(&address.id)
                        .or(watched
                            .rulings
                            .iter()
                            .find(|ruling| ruling.address == address.id)
                            .map(|ruling| &ruling.decision))
                        .cloned(),
                    moves: watched.moves.get(&address.id).cloned().unwrap_or_default(),
                }
            })
            .collect();
        let mut problems = watched.cluster.problems.clone();
        problems.extend(watched.notes.iter().cloned());
        let nodes = watched
            .cluster
            .nodes
            .values()
            .map(|node| {
                let finding = watched.findings.get(&node.id);
                if let Some(finding) = finding {
                    problems.extend(finding.problems.iter().cloned());
                }
                NodeReport {
                    id: node.id.clone(),
                    name: node.name.clone(),
                    az: node.zone.clone(),
                    verdict: finding.map_or(Verdict::Unknown, |finding| finding.verdict),
                    since: watched.since.get(&node.id).map(|since| since.verdict.to_string()),
                    mode: (node.mode != NodeMode::Unreadable).then(|| node.mode.as_str().to_owned()),
                    leaving: finding.and_then(|finding| finding.leaving.as_ref()).map(|leaving| leaving.kind.clone()),
                    candidate: candidates.contains(&node.id),
                    priority: node.priority,
                    evidence: finding.map(|finding| finding.evidence.clone()).unwrap_or_default(),
                    longest_fail_streak: watched.longest_fails(&node.id),
                }
            })
            .collect();
        let mut seen = BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        ClusterReport {
            cluster: watched.cluster.name.clone(),
            ready: !watched.rulings.is_empty() && watched.rulings.iter().all(|ruling| !ruling.candidates.is_empty()),
            addresses,
            nodes,
            problems,
        }
    }
}

/// Whether a trigger is about this cluster.
fn concerns(trigger: &Trigger, command: Option<&Command>, cluster: &snapshot::Cluster, keys: &Keys) -> bool {
    let has = |id: &InstanceId| cluster.nodes.contains_key(id);
    match trigger {
        Trigger::Schedule { .. } => true,
        Trigger::InstanceState { instance, .. }
        | Trigger::Spot { instance, .. }
        | Trigger::Rebalance { instance }
        | Trigger::Lifecycle { instance, .. } => has(instance),
        Trigger::Health { instances, .. } => instances.iter().any(has),
        Trigger::Alarm { name, instances } => {
            let checks =
                |checks: &[Check]| checks.iter().any(|check| matches!(check, Check::Alarm(of) if of.as_ref() == name));
            instances.iter().any(has)
                || checks(&cluster.checks)
                || cluster.nodes.values().any(|node| checks(&node.checks))
        }
        Trigger::Tag { resource, tags, .. } => {
            let named = || {
                tags.get(&keys.cluster).is_some_and(|text| super::tags::cluster_names(text).0.contains(&cluster.name))
            };
            match resource {
                super::event::TaggedResource::Instance(id) => has(id) || named(),
                super::event::TaggedResource::Address(id) => {
                    cluster.addresses.iter().any(|address| &address.id == id) || named()
                }
                super::event::TaggedResource::Other => false,
            }
        }
        Trigger::Command(_) => command.is_some_and(|command| command.concerns(cluster)),
    }
}

/// What a trigger announced of a cluster's nodes.
fn notice(watched: &mut Watched, trigger: &Trigger, now: Time) {
    use super::tags::Leaving;
    let mut leave = |id: &InstanceId, kind: &str, at: Option<Time>, in_two_minutes: bool| {
        let Some(node) = watched.cluster.nodes.get(id) else { return };
        let at = at.unwrap_or(now);
        // Late by more than its own announcement's term: it did not come to pass, or was of an earlier life.
        let stale = now.since(at) >= NOTICE_BELIEVED || !node.in_this_life(at);
        if !stale {
            let until = in_two_minutes.then(|| (at + Duration::from_secs(120)).whole_second());
            let notice = Leaving { kind: kind.to_owned(), until, noticed: at.min(now).whole_second() };
            watched.nodes.entry(id.clone()).or_default().notice = Some(notice);
        }
    };
    match trigger {
        Trigger::InstanceState { instance, state, at: Some(at) } if state.is_gone() => {
            watched.nodes.entry(instance.clone()).or_default().gone_event = Some((*state, *at));
        }
        Trigger::Spot { instance, at, .. } => leave(instance, "spot", *at, true),
        Trigger::Lifecycle { instance, at } => leave(instance, "asg", *at, false),
        Trigger::Rebalance { instance } if watched.cluster.nodes.contains_key(instance) => {
            watched.notes.push(format!("{instance}: EC2 recommends a rebalance: the instance may be taken back soon. Nothing is done until that is announced"));
        }
        _ => {}
    }
}
