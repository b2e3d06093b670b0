//! The whole of an invocation as a state machine without I/O: it is fed what was seen and says what to do next.
//!
//! Whoever drives it calls [`Watch::poll`] and carries out the effects, feeds what comes of them, and polls again at
//! [`Watch::next_wake`]. It never waits, never reads a clock and never fails: what goes wrong is in its [`Report`].
//!
//! Architecture invariant: there is no second way to a move. Whatever woke the watch only widens the scope, adds a notice or an order;
//! what moves is what [`super::decide`] says of the clusters as EC2 shows them.

mod answer;
mod cluster;
mod command;
mod looks;
mod moves;
mod moving;
mod scope;
mod tagging;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{BadRequest, Shard, Trigger};
use super::log::{Before, Record};
use super::model::{Act, AllocationId, Answer, CloudError, ClusterName, Failure, InstanceId, Look, ProbeTarget, Seen};
use super::report::{Effort, Report};
use super::snapshot::{self, Facts, Reservation, Slot, Taken};
use super::tags::{Check, Keys};
use super::time::Time;

use cluster::{Surroundings, Watched};
use command::Command;
use looks::{Looks, Outcome};
use moving::{Moving, Phase};
use tagging::{Purpose, TagWrite};

/// What a problem begins with where EC2 did not tell whether it would allow a move.
pub const DRY_RUN_FAILED: &str = "a dry run of the move failed";

pub use crate::core::model::ROUND;
pub use cluster::{ADOPT_AFTER, NOTICE_BELIEVED};
pub use looks::STATUS_EVERY;
pub use moves::{ASSOCIATE_BURST, ASSOCIATE_PER_SECOND};
pub use moving::VERIFY_FOR;
pub use tagging::{MAX_RESOURCES, MAX_TAG_TRIES, MAX_TAGGING};

/// How long what is on its way may take to end, once the watch was told to stop.
pub const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// The most probes on their way at once: the function has 1,024 descriptors.
pub const MAX_PROBES: usize = 600;

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
enum Doing {
    Associate(ClusterName, AllocationId),
    DryRun(ClusterName, AllocationId, InstanceId),
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
    /// Where each address was when it was last seen to be anywhere.
    last_places: BTreeMap<AllocationId, Slot>,
    tokens: u32,
    refilled: Time,
    held_until: Option<Time>,
    throttles: u32,
    tags: Vec<(Time, TagWrite)>,
    problems: BTreeSet<String>,
    fatal: Option<CloudError>,
    failure: Option<String>,
    /// Addresses whose move was sent, and of which it was not known at the end whether it was made.
    in_doubt: BTreeSet<AllocationId>,
    api_calls: u64,
    last_id: u64,
    out: Vec<Effect>,
    ending: Option<Ending>,
}

/// What is said of commands that came together with another.
fn one_command_only(left_out: usize) -> String {
    format!(
        "an invocation carries out one command: of those that came in one event the first was taken, and {left_out} NOT carried out: send what followed again, each by itself"
    )
}

impl Watch {
    /// An invocation that begins `now` and must have ended at `deadline`.
    pub fn new(triggers: Vec<Trigger>, settings: Settings, now: Time, deadline: Time) -> Watch {
        let scheduled = triggers.iter().any(|trigger| matches!(trigger, Trigger::Schedule { .. }));
        let watch = if scheduled { settings.watch } else { Duration::ZERO };
        let mut commands = triggers.iter().filter_map(Command::of);
        let command = commands.next();
        let left_out = commands.count();
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
            last_places: BTreeMap::new(),
            tokens: ASSOCIATE_BURST,
            refilled: now,
            held_until: None,
            throttles: 0,
            tags: Vec::new(),
            problems: (left_out > 0).then(|| one_command_only(left_out)).into_iter().collect(),
            fatal: None,
            failure: None,
            in_doubt: BTreeSet::new(),
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
                self.deadline = self.deadline.min(now + STOPPED_WITHIN);
                self.unseen_until = self.unseen_until.min(self.deadline);
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
        let end = self.looks.repeats().then_some(self.ends);
        [timers, tags, moves, end.filter(|_| !self.stopped), self.looks.next_wake(), Some(self.must_end_at())]
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
            && self.looks.quiet()
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
        let (failed, part) = match &answer {
            Err(error) => (Some(error.clone()), None),
            Ok(seen) => (None, before.part(seen, &self.facts)),
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
        let mut changed = part.is_some();
        match failed {
            Some(error) => self.out.push(Effect::Log(Record::ReadingFailed { at: now, asked, look, error })),
            None => {
                let (differs, lines) = before.changes(&self.facts, part, &look, asked, now);
                changed |= differs;
                self.out.extend(lines.into_iter().map(Effect::Log));
            }
        }
        match outcome {
            Outcome::Nothing => {}
            Outcome::Fatal(error) => self.fatal = Some(error),
            Outcome::Searched => self.rebuild(now),
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
        self.last_places.extend(self.occupancy.iter().map(|(slot, id)| (id.clone(), slot.clone())));
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
        let named: BTreeSet<ClusterName> = found.keys().cloned().collect();
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
                        scope::notice(&mut watched, trigger, now);
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
        // A cluster whose last tag was removed is no more. A move on its way is seen to its end, and what was moved is told.
        self.clusters
            .retain(|name, watched| named.contains(name) || !watched.moving.is_empty() || !watched.moves.is_empty());
        for (name, watched) in self.clusters.iter_mut().filter(|(name, _)| !named.contains(*name)) {
            // Nothing is decided there any more.
            watched.cluster.nodes.clear();
            watched.cluster.addresses.clear();
            watched.dirty = true;
            self.timers.insert((now, name.clone()));
        }
        self.restless.retain(|name| self.clusters.contains_key(name));
        self.looks.want_alarms(alarms, now);
        self.looks.want_strays(strays, now);
        if first && let Some(command) = &mut self.command {
            for (resource, key, value) in command.writes(now) {
                self.tags.push((now, TagWrite::new(resource, key, value, Purpose::Command)));
            }
            if !self.tags.is_empty() {
                for watched in self.clusters.values_mut() {
                    watched.hold = true;
                }
            }
        }
    }

    /// Reserves no longer what nobody is on its way to, and who came there has had for long, or has left for a third place.
    fn release_places(&mut self, now: Time) {
        if self.reserved.is_empty() {
            return;
        }
        let (places, clusters) = (&self.last_places, &self.clusters);
        self.reserved.retain(|slot, reservation| {
            let third = |at: &&Slot| *at != slot && reservation.from.as_ref() != Some(*at);
            let kept = reservation.until > now && places.get(&reservation.by).filter(third).is_none();
            kept || clusters.values().any(|watched| watched.moving.contains_key(&reservation.by))
        });
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
        for name in &due {
            if self.clusters.get(name).is_some_and(|watched| !watched.moving.is_empty())
                && let Some(mut watched) = self.clusters.remove(name)
            {
                self.progress_moves(&mut watched, now);
                self.clusters.insert(name.clone(), watched);
            }
        }
        self.release_places(now);
        let taken = Taken::new(&self.occupancy, Some(&self.reserved));
        let (mut healths, mut states) = (Vec::new(), Vec::new());
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
                deadline: self.deadline,
                over: now >= self.ends,
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
            healths.extend(wants.health.into_iter().map(|(node, value, health)| (name.clone(), node, value, health)));
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
                    // What it was begun for may have become worse.
                    let mut rulings = watched.rulings.iter().filter(|ruling| &ruling.address == address);
                    let plan = rulings.find_map(|ruling| ruling.plan.as_ref()).unwrap_or(&moving.plan);
                    self.wanted.insert((!plan.why.rescue(), address.clone(), name.clone()));
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
        for (name, node, value, health) in healths {
            self.record_health(&name, &node, value, health, now);
        }
        for (name, address, state) in states {
            self.record_state(&name, &address, state, now);
        }
        if self.dry_run {
            self.ask_if_allowed(now);
        }
        self.looks.set_urgent(!self.wanted.is_empty() || self.moves_open > 0);
    }

    fn acted(&mut self, id: u64, result: Result<(), CloudError>, now: Time) {
        let Some((asked, act, doing)) = self.doing.remove(&id) else { return };
        self.out.push(Effect::Log(Record::Call { at: now, asked, act, error: result.as_ref().err().cloned() }));
        match doing {
            Doing::Tag(write) => self.tagged(write, result, now),
            Doing::DryRun(name, address, to) => {
                if let Err(error) = result
                    && let Some(watched) = self.clusters.get_mut(&name)
                {
                    let memory = watched.memory.entry(address).or_default();
                    if error.failure == Failure::NotPermitted {
                        memory.forbid(to, error.to_string());
                    } else {
                        watched.notes.push(format!("{DRY_RUN_FAILED}: {error}"));
                    }
                    watched.dirty = true;
                    self.timers.insert((now, name));
                }
            }
            Doing::Associate(name, address) => self.associated(name, address, result, now),
        }
    }

    /// What put an end to it while there was something on its way.
    fn ended_by(&self) -> &'static str {
        if self.stopped {
            "the watch was stopped"
        } else if self.fatal.is_some() {
            "EC2 refused to be read"
        } else {
            "the invocation's time was up"
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
                let moving = watched.moving.get(&id);
                if moving.is_some_and(Moving::is_in_doubt) {
                    self.in_doubt.insert(id.clone());
                }
                let error = moving.and_then(Moving::trouble).cloned();
                let why = self.ended_by();
                let error = error.map_or_else(
                    || format!("{why} before EC2 showed the new holder"),
                    |error| format!("{error}; then {why}"),
                );
                self.ended(&mut watched, &id, Some(error), false, now);
            }
            self.clusters.insert(name, watched);
        }
        let sent = self.doing.values().filter_map(|(_, _, doing)| match doing {
            Doing::Tag(write) => Some((write.clone(), true)),
            _ => None,
        });
        let sent: Vec<(TagWrite, bool)> = sent.collect();
        for (write, sent) in std::mem::take(&mut self.tags).into_iter().map(|(_, write)| (write, false)).chain(sent) {
            let (known, what) = if sent {
                (", as far as is known", "may be written: it had no answer when")
            } else {
                ("", "was not written:")
            };
            let forced = write.of.iter().any(|of| matches!(of, Purpose::Force(_)));
            let next = if forced && sent {
                " If it is written, the address does not fail over by itself until `eipwatch resume`."
            } else {
                ""
            };
            let error = write.error.as_ref();
            let (before, after) = if sent {
                (String::new(), error.map_or_else(String::new, |error| format!(" (the try before: {error})")))
            } else {
                (error.map_or_else(String::new, |error| format!("{error}; then ")), String::new())
            };
            // Whoever finds no record of a move takes it for one by others.
            let own_move = write
                .of
                .iter()
                .any(|of| matches!(of, Purpose::State(.., state) if state.why != crate::core::decide::EXTERNAL));
            let moved = if own_move {
                ". The move that it tells of was made; it may go on record as one by others, and then the address does not go back by itself"
            } else {
                ""
            };
            for resource in &write.resources {
                let text = format!("{} on {resource} {what} {before}{}{after}{moved}", write.key, self.ended_by());
                if write.is_ordered() && self.failure.is_none() {
                    self.failure = Some(format!("{}{known}: {text}. Nothing was moved.{next}", self.not_done()));
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
                message: format!("call {id} had no answer when {}", self.ended_by()),
            };
            self.out.push(Effect::Log(Record::Call { at: now, asked, act, error: Some(error) }));
        }
        self.out.push(Effect::Log(Record::End { at: now, report: report.clone() }));
        self.ending = Some(Ending::Report(report));
    }
}
