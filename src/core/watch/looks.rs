//! When to ask EC2 and CloudWatch what, and what to do when they do not answer.
//!
//! Addresses and instances are read side by side, at their pace; what a decision needs sooner is asked for sooner. What fails is asked
//! again with backoff: the two that nothing can be done without until the deadline, the others a few times.
//!
//! Architecture invariant: it knows when to ask, not what the answers mean.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::model::{CloudError, Failure, Instance, InstanceId, InterfaceId, Look, MAX_IDS, ROUND, Seen, Tags};
use crate::core::snapshot::Facts;
use crate::core::tags::Keys;
use crate::core::time::Time;

/// Time between two reads of status checks. They change once a minute.
pub const STATUS_EVERY: Duration = Duration::from_secs(30);
/// Time between two reads of alarms. Their shortest period is 10 s, and their changes are events besides.
pub const ALARMS_EVERY: Duration = Duration::from_secs(20);
/// The first wait after a call that failed; it doubles.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest wait between two tries.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The longest wait while an address is about to move.
pub const BACKOFF_MAX_URGENT: Duration = Duration::from_secs(1);
/// How often a read is tried that can be done without.
pub const MAX_OPTIONAL_TRIES: u32 = 3;
/// How long it is then done without, where it may be had again: something may be decided on what it told last.
pub const GIVEN_UP_FOR: Duration = Duration::from_secs(10);
/// How often in a row a read that nothing can be done without may be refused, where it was allowed before.
pub const MAX_REFUSALS: u32 = 5;
/// How often DescribeInstances fails before instances are asked for one by one.
pub const TRIES_BEFORE_BISECTING: u32 = 2;
/// The most calls of one search for the instances that can still be described.
pub const MAX_BISECT_CALLS: u32 = 64;
/// How many of them are made at once.
const MAX_BISECT_AT_ONCE: usize = 4;

/// The wait before try number `failures + 1`.
pub fn backoff(failures: u32, longest: Duration) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest)
}

/// One kind of read.
#[derive(Clone, Debug, Default)]
pub struct Routine {
    due: Option<Time>,
    in_flight: Option<(u64, Time)>,
    taken_id: Option<u64>,
    answers: u32,
    failures: u32,
    /// How many of the last answers in a row said that it is not allowed.
    refusals: u32,
    /// After a failure, or an answer that tells nothing: whoever wants it sooner has to wait until then.
    held_until: Option<Time>,
    /// When the last answer was asked for.
    pub asked: Option<Time>,
    /// The number of that question: numbers only grow.
    pub asked_id: Option<u64>,
    /// The last error, until an answer comes.
    pub error: Option<CloudError>,
    /// It has been given up for now.
    pub given_up: bool,
}

impl Routine {
    /// Whether the last answer was an error that asking again does not help.
    pub fn is_hopeless(&self) -> bool {
        self.error.as_ref().is_some_and(CloudError::is_hopeless)
    }

    /// An answer that is asked for at `at` or later; one that is on its way may be that.
    fn want(&mut self, at: Time) {
        if self.in_flight.is_some_and(|(_, asked)| asked >= at) {
            return;
        }
        let at = self.held_until.map_or(at, |until| at.max(until));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn take(&mut self, id: u64) -> Option<Time> {
        let (of, asked) = self.in_flight?;
        (of == id).then(|| {
            self.in_flight = None;
            self.taken_id = Some(id);
            asked
        })
    }

    fn answered(&mut self, asked: Time) {
        self.answers = self.answers.saturating_add(1);
        self.asked = Some(asked);
        self.asked_id = self.taken_id;
        self.failures = 0;
        self.refusals = 0;
        self.held_until = None;
        self.error = None;
        self.given_up = false;
    }

    fn failed(&mut self, error: CloudError, now: Time, longest: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.error = Some(error);
        self.held_until = Some(now + backoff(self.failures, longest));
        // Whoever wanted it meanwhile waits, too.
        self.due = self.held_until;
    }

    /// Whether the last try failed.
    pub fn failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether an answer is on its way.
    pub fn busy(&self) -> bool {
        self.in_flight.is_some()
    }
}

/// Things that are asked for by name, in parts that one call takes.
#[derive(Clone, Debug)]
pub struct Named<T> {
    /// Those to be asked for.
    pub names: BTreeSet<T>,
    /// What is left of them in this round; the last part is next.
    parts: Vec<Vec<T>>,
    /// When what was last told of each was asked for; `None`: it was given up.
    pub told: BTreeMap<T, Option<Time>>,
}

impl<T> Default for Named<T> {
    fn default() -> Named<T> {
        Named { names: BTreeSet::new(), parts: Vec::new(), told: BTreeMap::new() }
    }
}

impl<T: Clone + Ord> Named<T> {
    /// Names them anew; new ones are asked for at once.
    fn want(&mut self, names: BTreeSet<T>, routine: &mut Routine, now: Time) {
        if !names.is_subset(&self.names) {
            routine.want(now);
        }
        if names.is_empty() {
            routine.due = None;
            if !routine.busy() {
                self.parts.clear();
            }
        }
        self.told.retain(|name, _| names.contains(name));
        self.names = names;
    }

    /// The part that is next, in a new round if there is none left.
    fn next(&mut self) -> Option<Vec<T>> {
        if self.parts.is_empty() {
            let all: Vec<T> = self.names.iter().cloned().collect();
            self.parts = all.chunks(MAX_IDS).map(<[T]>::to_vec).collect();
        }
        self.parts.last().cloned()
    }

    /// Takes out the part that was asked for.
    fn take(&mut self) -> Vec<T> {
        self.parts.pop().unwrap_or_default()
    }

    fn tell(&mut self, part: Vec<T>, at: Option<Time>) {
        let names = &self.names;
        self.told.extend(part.into_iter().filter(|name| names.contains(name)).map(|name| (name, at)));
    }

    fn give_up_untold(&mut self) {
        for name in &self.names {
            self.told.entry(name.clone()).or_default();
        }
    }

    /// When what was last told of one was asked for.
    pub fn told<Q: Ord + ?Sized>(&self, name: &Q) -> Option<Time>
    where
        T: std::borrow::Borrow<Q>,
    {
        self.told.get(name).copied().flatten()
    }

    /// Whether something is left to be asked at once: of this round, or because it came up meanwhile.
    fn more(&self) -> bool {
        !self.parts.is_empty() || self.names.iter().any(|name| !self.told.contains_key(name))
    }
}

/// What is left when DescribeInstances fails: ids by DescribeTags, then by id, halving what fails.
#[derive(Clone, Debug)]
enum Search {
    Tags(u64, Time),
    Ids {
        asked: Time,
        /// When the tags were read: a heartbeat among them is no newer than that.
        tags_at: Time,
        tags: BTreeMap<InstanceId, Tags>,
        todo: Vec<Vec<InstanceId>>,
        in_flight: BTreeMap<u64, Vec<InstanceId>>,
        /// With the time when each was read.
        found: Vec<(Instance, Time)>,
        calls: u32,
    },
}

/// The reads of one invocation.
#[derive(Clone, Debug)]
pub struct Looks {
    /// DescribeAddresses.
    pub addresses: Routine,
    /// DescribeInstances.
    pub instances: Routine,
    /// DescribeInstanceStatus.
    pub status: Routine,
    /// DescribeAlarms.
    pub alarms: Routine,
    /// DescribeNetworkInterfaces.
    pub interfaces: Routine,
    strays: Routine,
    search: Option<Search>,
    searching: bool,
    status_by_id: bool,
    /// Holders without a cluster tag, to be asked for by id.
    pub stray_ids: Named<InstanceId>,
    /// Alarms that checks name.
    pub alarm_names: Named<String>,
    interface_ids: BTreeSet<InterfaceId>,
    repeat: bool,
    urgent: bool,
    /// In a watch, how often addresses and instances were read in full.
    pub rounds: u32,
}

/// What came of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// New facts.
    Facts,
    /// A search has ended: all that it found has been taken in at once.
    Searched,
    /// Nothing yet: more calls follow, or it failed and will be tried again.
    Nothing,
    /// The error that makes observing impossible for this caller.
    Fatal(CloudError),
}

impl Looks {
    /// All reads are due at once; with `repeat` they come again at their pace.
    pub fn new(now: Time, repeat: bool) -> Looks {
        let due = || Routine { due: Some(now), ..Routine::default() };
        Looks {
            addresses: due(),
            instances: due(),
            status: due(),
            alarms: Routine::default(),
            interfaces: Routine::default(),
            strays: Routine::default(),
            search: None,
            searching: false,
            status_by_id: false,
            stray_ids: Named::default(),
            alarm_names: Named::default(),
            interface_ids: BTreeSet::new(),
            repeat,
            urgent: false,
            rounds: 0,
        }
    }

    /// Whether rounds come at their pace.
    pub fn repeats(&self) -> bool {
        self.repeat
    }

    /// No more rounds at their pace.
    pub fn stop_repeating(&mut self, now: Time) {
        self.repeat = false;
        let paced =
            [&mut self.addresses, &mut self.instances, &mut self.status, &mut self.alarms, &mut self.interfaces];
        for routine in paced {
            if routine.due.is_some_and(|due| due > now) && routine.error.is_none() {
                routine.due = None;
            }
        }
    }

    /// Asks for addresses no later than `at`.
    pub fn want_addresses(&mut self, at: Time) {
        self.addresses.want(at);
    }

    /// Whether addresses have been read more than once, and no newer answer is on its way.
    pub fn addresses_read_again(&self) -> bool {
        self.addresses.answers > 1 && !self.addresses.busy()
    }

    /// Asks for instances no later than `at`.
    pub fn want_instances(&mut self, at: Time) {
        self.instances.want(at);
    }

    /// Asks for status checks no later than `at`.
    pub fn want_status(&mut self, at: Time) {
        self.status.want(at);
    }

    /// Asks what these interfaces are, no later than `at`. While an answer is on its way it is waited for.
    pub fn want_interface(&mut self, id: &InterfaceId, at: Time) {
        if self.interfaces.busy() {
            return;
        }
        self.interface_ids.insert(id.clone());
        // One that EC2 does not know is left out of every answer: it is asked for again, but not at once.
        let paced = self.interfaces.asked.map_or(at, |asked| at.max(asked + BACKOFF_MAX_URGENT));
        self.interfaces.want(paced);
    }

    /// Names the alarms to be read; new ones are read at once.
    pub fn want_alarms(&mut self, names: BTreeSet<String>, now: Time) {
        self.alarm_names.want(names, &mut self.alarms, now);
        if self.alarms.given_up {
            // They are not waited for, as little as the others.
            self.alarm_names.give_up_untold();
        }
    }

    /// Has all that tells of nodes asked for at `at` or later, where it has not been. What was given up is tried again at its own pace,
    /// unless it cannot be had at all.
    pub fn want_of_nodes(&mut self, at: Time, alarms: bool) {
        for (routine, wanted) in [(&mut self.instances, true), (&mut self.status, true), (&mut self.alarms, alarms)] {
            if wanted && !routine.is_hopeless() && routine.asked.is_none_or(|asked| asked < at) {
                routine.want(at);
            }
        }
    }

    /// Names the holders to be read by id; new ones are read at once.
    pub fn want_strays(&mut self, ids: BTreeSet<InstanceId>, now: Time) {
        self.stray_ids.want(ids, &mut self.strays, now);
    }

    /// When what EC2 last told of a node was asked for, whether it showed it or not: a holder that is no member is asked for by id, as
    /// long as that can be had.
    pub fn node_asked(&self, id: &InstanceId) -> Option<Time> {
        if self.by_id(id) { self.stray_ids.told(id) } else { self.instances.asked }
    }

    /// Asks for a node again no later than `at`.
    pub fn want_node(&mut self, id: &InstanceId, at: Time) {
        if self.by_id(id) {
            self.strays.want(at);
        } else {
            self.instances.want(at);
        }
    }

    fn by_id(&self, id: &InstanceId) -> bool {
        self.stray_ids.names.contains(id) && self.stray_ids.told.get(id) != Some(&None)
    }

    /// Whether the nodes that EC2 can still describe are being searched for, or are about to be.
    pub fn may_find_nodes(&self) -> bool {
        let before = self.instances.failing() && self.instances.failures < TRIES_BEFORE_BISECTING;
        self.search.is_some() || before && self.instances.error.as_ref().is_some_and(is_worth_a_search)
    }

    /// While an address is about to move, failed reads are tried again sooner.
    pub fn set_urgent(&mut self, urgent: bool) {
        self.urgent = urgent;
    }

    fn longest_backoff(&self) -> Duration {
        if self.urgent { BACKOFF_MAX_URGENT } else { BACKOFF_MAX }
    }

    /// Whether nothing is being asked, and nothing has to be before a sweep may end. What is due has been asked for.
    pub fn quiet(&self) -> bool {
        let rests = |routine: &Routine, given_up: bool| !routine.busy() && (given_up || routine.due.is_none());
        let needed = [&self.addresses, &self.instances, &self.interfaces, &self.strays];
        // What is given up of these is tried again if the sweep goes on, and not waited for.
        let paced = [&self.status, &self.alarms];
        self.search.is_none()
            && needed.iter().all(|routine| rests(routine, false))
            && paced.iter().all(|routine| rests(routine, routine.given_up))
    }

    /// When there is something to ask next.
    pub fn next_wake(&self) -> Option<Time> {
        let routines = [&self.addresses, &self.instances, &self.status, &self.alarms, &self.interfaces, &self.strays];
        let mut wake: Option<Time> = None;
        for routine in routines {
            let held = std::ptr::eq(routine, &raw const self.instances) && self.search.is_some();
            if !routine.busy() && !held {
                wake = [wake, routine.due].into_iter().flatten().min();
            }
        }
        wake
    }

    /// The questions that are due now.
    pub fn ask(&mut self, now: Time, facts: &Facts, keys: &Keys, new_id: &mut impl FnMut() -> u64) -> Vec<(u64, Look)> {
        let mut asks = Vec::new();
        let due = |routine: &Routine| !routine.busy() && routine.due.is_some_and(|due| due <= now);
        let mut ask = |routine: &mut Routine, look: Look, asks: &mut Vec<(u64, Look)>| {
            let id = new_id();
            routine.due = None;
            routine.in_flight = Some((id, now));
            asks.push((id, look));
            id
        };
        if due(&self.addresses) {
            ask(&mut self.addresses, Look::Addresses, &mut asks);
        }
        if self.search.is_none() && due(&self.instances) {
            ask(&mut self.instances, Look::Instances(keys.cluster.clone()), &mut asks);
        }
        if due(&self.status) {
            let running: Vec<InstanceId> = facts.instances.keys().take(MAX_IDS + 1).cloned().collect();
            let ids = if self.status_by_id && running.len() <= MAX_IDS { running } else { Vec::new() };
            ask(&mut self.status, Look::Status(ids), &mut asks);
        }
        if due(&self.alarms)
            && let Some(names) = self.alarm_names.next()
        {
            ask(&mut self.alarms, Look::Alarms(names), &mut asks);
        }
        if due(&self.interfaces) {
            let ids: Vec<InterfaceId> = self.interface_ids.iter().take(MAX_IDS).cloned().collect();
            ask(&mut self.interfaces, Look::Interfaces(ids), &mut asks);
        }
        if due(&self.strays)
            && let Some(ids) = self.stray_ids.next()
        {
            ask(&mut self.strays, Look::InstancesById(ids), &mut asks);
        }
        if let Some(Search::Ids { todo, in_flight, calls, .. }) = &mut self.search {
            while in_flight.len() < MAX_BISECT_AT_ONCE
                && *calls < MAX_BISECT_CALLS
                && let Some(ids) = todo.pop()
            {
                let id = new_id();
                *calls += 1;
                in_flight.insert(id, ids.clone());
                asks.push((id, Look::InstancesById(ids)));
            }
        }
        asks
    }

    /// Takes in an answer.
    pub fn take(
        &mut self,
        id: u64,
        answer: Result<Seen, CloudError>,
        facts: &mut Facts,
        keys: &Keys,
        now: Time,
        new_id: &mut impl FnMut() -> u64,
    ) -> (Outcome, Option<(u64, Look)>) {
        let longest = self.longest_backoff();
        if let Some(asked) = self.addresses.take(id) {
            let outcome = match answer {
                Ok(Seen::Addresses(list)) => {
                    facts.take_addresses(list, now);
                    self.addresses.answered(asked);
                    if self.repeat {
                        self.addresses.want(asked + ROUND);
                    }
                    Outcome::Facts
                }
                Ok(_) => Outcome::Nothing,
                Err(error) => essential(&mut self.addresses, error, now, longest),
            };
            return (outcome, None);
        }
        if let Some(asked) = self.instances.take(id) {
            return self.take_instances(asked, answer, facts, keys, now, new_id);
        }
        if self.search.is_some()
            && let Some(outcome) = self.take_search(id, &answer, facts, now)
        {
            return (outcome, None);
        }
        let outcome = if let Some(asked) = self.status.take(id) {
            let by_id_failed =
                self.status_by_id && matches!(&answer, Err(error) if error.failure == Failure::TargetUnusable);
            if by_id_failed {
                // A node that EC2 has forgotten fails the whole call: ask for all.
                self.status_by_id = false;
                self.status.want(now);
                return (Outcome::Nothing, None);
            }
            // Where all of them cannot be had, those of our nodes may be.
            self.status_by_id = answer.is_ok() || !self.status_by_id;
            optional(&mut self.status, answer, asked, facts, now, (self.repeat.then_some(STATUS_EVERY), GIVEN_UP_FOR))
        } else if let Some(asked) = self.alarms.take(id) {
            self.take_alarms(asked, answer, facts, now)
        } else if let Some(asked) = self.interfaces.take(id) {
            let asked_for = std::mem::take(&mut self.interface_ids);
            let outcome = optional(&mut self.interfaces, answer, asked, facts, now, (None, BACKOFF_MAX_URGENT));
            if self.interfaces.due.is_some() {
                self.interface_ids.extend(asked_for);
            }
            outcome
        } else if let Some(asked) = self.strays.take(id) {
            self.take_strays(asked, answer, facts, now)
        } else {
            Outcome::Nothing
        };
        (outcome, None)
    }

    /// Takes in one part of the alarms: it tells of no other.
    fn take_alarms(&mut self, asked: Time, answer: Result<Seen, CloudError>, facts: &mut Facts, now: Time) -> Outcome {
        let part = self.alarm_names.take();
        let ok = answer.is_ok();
        if ok {
            // What an answer leaves out is no more.
            for name in &part {
                facts.alarms.remove(name);
            }
        }
        let pace = (self.repeat.then_some(ALARMS_EVERY), GIVEN_UP_FOR);
        let outcome = optional(&mut self.alarms, answer, asked, facts, now, pace);
        if ok {
            self.alarm_names.tell(part, Some(asked));
            if self.alarm_names.more() {
                self.alarms.want(now);
            }
        } else if self.alarms.given_up {
            // What was told of them before counts on. A watch goes on with the other parts, and the next round has all again: one that
            // always fails must not hide the others.
            self.alarm_names.give_up_untold();
        } else {
            self.alarm_names.parts.push(part);
        }
        // All that is known of alarms is as old as the oldest of it.
        let told = self.alarm_names.names.iter().map(|name| self.alarm_names.told(name));
        self.alarms.asked = told.min().flatten();
        if self.alarm_names.names.is_empty() {
            self.alarms.due = None;
        }
        outcome
    }

    /// Takes in one part of the holders that are asked for by id.
    fn take_strays(&mut self, asked: Time, answer: Result<Seen, CloudError>, facts: &mut Facts, now: Time) -> Outcome {
        let part = self.stray_ids.take();
        let failure = answer.as_ref().err().map(|error| error.failure);
        let outcome = optional(&mut self.strays, answer, asked, facts, now, (None, BACKOFF_MAX_URGENT));
        match failure {
            None => self.stray_ids.tell(part, Some(asked)),
            Some(_) if !self.strays.given_up => self.stray_ids.parts.push(part),
            Some(failure) if part.len() == 1 || matches!(failure, Failure::NotPermitted | Failure::Throttled) => {
                self.stray_ids.tell(part, None);
            }
            // One of them is at fault: each for itself.
            Some(_) => self.stray_ids.parts.extend(part.into_iter().map(|id| vec![id])),
        }
        if self.stray_ids.more() {
            self.strays.want(now);
        }
        if self.stray_ids.names.is_empty() {
            self.strays.due = None;
        }
        outcome
    }

    fn take_instances(
        &mut self,
        asked: Time,
        answer: Result<Seen, CloudError>,
        facts: &mut Facts,
        keys: &Keys,
        now: Time,
        new_id: &mut impl FnMut() -> u64,
    ) -> (Outcome, Option<(u64, Look)>) {
        match answer {
            Ok(Seen::Instances(list)) => {
                facts.take_instances(list, &self.stray_ids.names, now);
                self.searching = false;
                self.finish_round(asked, now);
                (Outcome::Facts, None)
            }
            Ok(_) => (Outcome::Nothing, None),
            Err(error) => {
                let search = is_worth_a_search(&error)
                    && (self.searching || self.instances.failures + 1 >= TRIES_BEFORE_BISECTING);
                let longest = self.longest_backoff();
                let outcome = essential(&mut self.instances, error, now, longest);
                if search && outcome == Outcome::Nothing {
                    let id = new_id();
                    self.searching = true;
                    self.search = Some(Search::Tags(id, asked));
                    return (outcome, Some((id, Look::InstanceTags(keys.prefix.clone()))));
                }
                (outcome, None)
            }
        }
    }

    fn finish_round(&mut self, asked: Time, now: Time) {
        self.instances.answered(asked);
        self.instances.due = None;
        if self.repeat {
            // Without addresses it is no sweep.
            if self.addresses.error.is_none() {
                self.rounds = self.rounds.saturating_add(1);
            }
            self.instances.want(asked + ROUND);
        }
        if !self.stray_ids.names.is_empty() {
            self.strays.want(now);
        }
    }

    fn take_search(
        &mut self,
        id: u64,
        answer: &Result<Seen, CloudError>,
        facts: &mut Facts,
        now: Time,
    ) -> Option<Outcome> {
        match &mut self.search {
            Some(Search::Tags(of, asked)) if *of == id => {
                let asked = *asked;
                self.search = match answer {
                    Ok(Seen::InstanceTags(tags)) => {
                        let ids: Vec<InstanceId> = tags.keys().cloned().collect();
                        let todo = ids.chunks(MAX_IDS).map(<[InstanceId]>::to_vec).collect();
                        Some(Search::Ids {
                            asked,
                            tags_at: now,
                            tags: tags.clone(),
                            todo,
                            in_flight: BTreeMap::new(),
                            found: Vec::new(),
                            calls: 0,
                        })
                    }
                    // DescribeInstances itself is tried again after its backoff.
                    _ => None,
                };
            }
            Some(Search::Ids { todo, in_flight, found, calls, .. }) if in_flight.contains_key(&id) => {
                let ids = in_flight.remove(&id).unwrap_or_default();
                match answer {
                    Ok(Seen::Instances(list)) => found.extend(list.iter().map(|instance| (instance.clone(), now))),
                    Ok(_) => {}
                    Err(error) if error.failure == Failure::Throttled => {
                        // No more calls now: what has not been described is unknown until the next round.
                        *calls = MAX_BISECT_CALLS;
                    }
                    Err(_) if ids.len() > 1 => {
                        let (left, right) = ids.split_at(ids.len() / 2);
                        todo.push(right.to_vec());
                        todo.push(left.to_vec());
                    }
                    Err(_) => {}
                }
            }
            _ => return None,
        }
        if let Some(Search::Ids { todo, in_flight, calls, .. }) = &self.search {
            if !in_flight.is_empty() || (!todo.is_empty() && *calls < MAX_BISECT_CALLS) {
                return Some(Outcome::Nothing);
            }
        } else {
            return Some(Outcome::Nothing);
        }
        let Some(Search::Ids { asked, tags_at, tags, found, .. }) = self.search.take() else {
            return Some(Outcome::Nothing);
        };
        if found.is_empty() && !tags.is_empty() && facts.instances.values().any(|sighting| sighting.described) {
            // Where EC2 describes none it tells nothing of any: what is known stands, as when it answers nothing at all.
            let again = asked + ROUND;
            self.instances.held_until = Some(again);
            self.instances.due = Some(again);
            return Some(Outcome::Nothing);
        }
        // A holder that is asked for by id may have been meanwhile.
        let newer = |facts: &Facts, id: &InstanceId, at: Time| facts.seen_at(id).is_some_and(|seen| seen > at);
        facts.instances.retain(|id, _| tags.contains_key(id) || self.stray_ids.names.contains(id));
        let described: BTreeSet<InstanceId> = found.iter().map(|(instance, _)| instance.id.clone()).collect();
        for (id, seen) in tags {
            if !described.contains(&id) && !newer(facts, &id, tags_at) {
                facts.take_undescribed(&id, seen, tags_at);
            }
        }
        for (instance, read_at) in found {
            if !newer(facts, &instance.id, read_at) {
                facts.take_described(vec![instance], read_at);
            }
        }
        facts.instances_at = Some(now);
        let error = self.instances.error.take();
        self.finish_round(asked, now);
        // Still an error to tell people about.
        self.instances.error = error.filter(|_| facts.instances.values().any(|sighting| !sighting.described));
        if !self.repeat {
            self.instances.due = None;
        }
        Some(Outcome::Searched)
    }
}

fn essential(routine: &mut Routine, error: CloudError, now: Time, longest: Duration) -> Outcome {
    let refused = error.failure == Failure::NotPermitted;
    routine.refusals = if refused { routine.refusals + 1 } else { 0 };
    // Where it was allowed before, credentials or a policy may be about to change.
    let for_good = routine.answers == 0 && error.is_hopeless();
    if refused && (for_good || routine.refusals >= MAX_REFUSALS) {
        routine.error = Some(error.clone());
        routine.given_up = true;
        return Outcome::Fatal(error);
    }
    routine.failed(error, now, longest);
    Outcome::Nothing
}

/// Whether nodes asked for by id may be described where the question for all met this.
fn is_worth_a_search(error: &CloudError) -> bool {
    !matches!(error.failure, Failure::Throttled | Failure::NotPermitted)
}

/// Takes in a read that can be done without: its pace, and for how long it is given up.
fn optional(
    routine: &mut Routine,
    answer: Result<Seen, CloudError>,
    asked: Time,
    facts: &mut Facts,
    now: Time,
    (again, pause): (Option<Duration>, Duration),
) -> Outcome {
    match answer {
        Ok(seen) => {
            facts.take(seen, now);
            routine.answered(asked);
            if let Some(pace) = again {
                routine.want(asked + pace);
            }
        }
        Err(error) => {
            let hopeless = error.is_hopeless();
            routine.failed(error, now, BACKOFF_MAX_URGENT);
            if hopeless || routine.failures >= MAX_OPTIONAL_TRIES {
                routine.given_up = true;
                routine.held_until = Some(now + pause);
                routine.due = again.map(|pace| now + if hopeless { pace } else { pace.min(pause) });
                routine.failures = 0;
            }
        }
    }
    Outcome::Facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decide::tests::running;
    use crate::core::model::InstanceState;

    fn ids(last: &mut u64) -> impl FnMut() -> u64 {
        || {
            *last += 1;
            *last
        }
    }

    /// The reads of a watch, and what they have shown.
    struct Desk {
        looks: Looks,
        facts: Facts,
        keys: Keys,
        last_id: u64,
    }

    impl Desk {
        /// After the first readings, which showed nothing.
        fn new() -> Desk {
            let (looks, keys) = (Looks::new(at(0), true), Keys::new("eipwatch:"));
            let mut desk = Desk { looks, facts: Facts::default(), keys, last_id: 0 };
            desk.read(0);
            desk
        }

        fn ask(&mut self, ms: u64) -> Vec<(u64, Look)> {
            self.looks.ask(at(ms), &self.facts, &self.keys, &mut ids(&mut self.last_id))
        }

        /// Takes in an answer; the call that follows at once.
        fn answer(&mut self, id: u64, answer: Result<Seen, CloudError>, ms: u64) -> Option<u64> {
            let new_id = &mut ids(&mut self.last_id);
            let (_, next) = self.looks.take(id, answer, &mut self.facts, &self.keys, at(ms), new_id);
            next.map(|(id, _)| id)
        }

        /// All that is due is asked for, and answered by nothing.
        fn read(&mut self, ms: u64) {
            for (id, look) in self.ask(ms) {
                let nothing = match look {
                    Look::Addresses => Seen::Addresses(vec![]),
                    Look::Status(_) => Seen::Status(vec![]),
                    _ => Seen::Instances(vec![]),
                };
                self.answer(id, Ok(nothing), ms);
            }
        }

        fn want_strays(&mut self, names: &[&str], ms: u64) {
            self.looks.want_strays(names.iter().map(|name| InstanceId::from(*name)).collect(), at(ms));
        }

        /// The call that names holders without their tag, and whom it names.
        fn strays(&mut self, ms: u64) -> Option<(u64, Vec<String>)> {
            self.ask(ms).into_iter().find_map(|(id, look)| match look {
                Look::InstancesById(ids) => Some((id, ids.iter().map(ToString::to_string).collect())),
                _ => None,
            })
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn failed() -> Result<Seen, CloudError> {
        Err(CloudError::from_code("InternalError", "down", true))
    }

    fn shown(number: u8, state: InstanceState) -> Result<Seen, CloudError> {
        let instance = Instance { state, ..Instance::clone(&running(number).interfaces) };
        Ok(Seen::Instances(vec![instance]))
    }

    #[test]
    fn whom_nobody_names_any_more_is_not_asked_for() {
        let mut desk = Desk::new();
        desk.want_strays(&["i-1"], 0);
        let (id, _) = desk.strays(0).unwrap();
        desk.answer(id, failed(), 0);
        desk.want_strays(&[], 100);
        desk.want_strays(&["i-2"], 100);
        assert_eq!(desk.strays(200).unwrap().1, ["i-2"], "what was left of the round before");
        // While the answer is on its way it is the answer for whoever names it again.
        let mut desk = Desk::new();
        desk.want_strays(&["i-1"], 0);
        let (id, _) = desk.strays(0).unwrap();
        desk.want_strays(&[], 0);
        desk.want_strays(&["i-1"], 0);
        desk.answer(id, shown(1, InstanceState::Running), 0);
        assert_eq!(desk.strays(0), None);
    }

    #[test]
    fn more_than_a_call_can_name_are_all_asked_for_in_each_round() {
        let mut desk = Desk::new();
        let all: Vec<String> = (0..MAX_IDS + 30).map(|n| format!("i-{n:03}")).collect();
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        desk.want_strays(&names, 0);
        for round_ms in [0, 5_000, 10_000] {
            let mut asked = Vec::new();
            while let Some((id, part)) = desk.strays(round_ms) {
                asked.extend(part);
                desk.answer(id, Ok(Seen::Instances(vec![])), round_ms);
            }
            asked.sort();
            assert_eq!(asked, all, "{round_ms}");
            desk.read(round_ms + 5_000);
        }
        // Nor is one left out that comes up in the moment of the call.
        let mut desk = Desk::new();
        desk.want_strays(&["i-1"], 0);
        let (id, _) = desk.strays(0).unwrap();
        desk.want_strays(&["i-1", "i-2"], 0);
        desk.answer(id, shown(1, InstanceState::Running), 0);
        assert_eq!(desk.strays(0).unwrap().1, ["i-1", "i-2"]);
    }

    #[test]
    fn a_call_that_fails_is_made_again_before_it_is_taken_apart() {
        let mut desk = Desk::new();
        desk.want_strays(&["i-1", "i-2"], 0);
        for ms in [0, 200, 600] {
            let (id, part) = desk.strays(ms).unwrap();
            assert_eq!(part, ["i-1", "i-2"], "{ms}");
            desk.answer(id, failed(), ms);
        }
        assert_eq!(desk.strays(1_599), None);
        for (number, name) in [(2, "i-2"), (1, "i-1")] {
            let (id, part) = desk.strays(1_600).unwrap();
            assert_eq!(part, [name]);
            desk.answer(id, shown(number, InstanceState::Running), 1_600);
        }
        assert_eq!(desk.strays(1_600), None);
    }

    /// A holder may be asked for by id while a search for all nodes goes on: the later answer counts, also where the search had none.
    #[test]
    fn a_search_hides_nothing_that_was_read_since() {
        for found in [true, false] {
            let mut desk = Desk::new();
            let mut tags_call = None;
            for ms in [5_000, 5_200] {
                let asked = desk.ask(ms);
                let (id, _) = asked.iter().find(|(_, look)| matches!(look, Look::Instances(_))).unwrap();
                tags_call = desk.answer(*id, failed(), ms);
            }
            let both = ["i-1", "i-2"].map(|id| (InstanceId::from(id), Tags::new()));
            desk.answer(tags_call.unwrap(), Ok(Seen::InstanceTags(both.into())), 5_300);
            let (search, both) = desk.strays(5_300).unwrap();
            assert_eq!(both, ["i-1", "i-2"]);
            desk.answer(search, failed(), 5_300);
            desk.want_strays(&["i-1"], 5_300);
            // The holder's, and the search's two.
            let calls: Vec<u64> = desk.ask(5_300).into_iter().map(|(id, _)| id).collect();
            assert_eq!(calls.len(), 3);
            desk.answer(calls[1], if found { shown(1, InstanceState::Running) } else { failed() }, 5_400);
            desk.answer(calls[0], shown(1, InstanceState::Stopping), 5_500);
            desk.answer(calls[2], shown(2, InstanceState::Running), 5_600);
            assert!(!desk.looks.may_find_nodes(), "it is over");
            let sighting = &desk.facts.instances[&InstanceId::from("i-1")];
            let state = sighting.instance.as_ref().map(|instance| instance.state);
            assert_eq!((sighting.described, state), (true, Some(InstanceState::Stopping)), "found {found}");
        }
    }
}
