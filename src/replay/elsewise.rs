//! The same stretch of time decided again under another policy: production watches, started as they were, on what the log knows.
//!
//! Where such a watch asks what the log did not ask, the answer is what the log knows of that time. What eipwatch itself did in the log
//! is left out: where addresses are, and what stands in its own tags, follows from what it does now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::again::check_of;
use super::known::Known;
use super::read::{Entry, Invocation, Log};
use crate::core::decide::{Kind, Why};
use crate::core::event::Trigger;
use crate::core::log::Record;
use crate::core::model::{
    Act, Address, AllocationId, Answer, Association, CloudError, ClusterName, Instance, InstanceId, InterfaceId, Look,
    ProbeTarget, Seen, Tags,
};
use crate::core::policy;
use crate::core::report::Report;
use crate::core::tags::{self, Keys, Verdict};
use crate::core::time::Time;
use crate::core::watch::{Effect, Ending, Input, Settings, Watch};
use crate::simulate::over;

/// How many things may happen in one invocation that is run again, in the mean.
const MAX_EVENTS_PER_INVOCATION: usize = 1_000_000;
/// After a move or a changed verdict under a policy that fails back, invocations are run again for so long beyond `stable`.
const FAILBACK_SEEN: Duration = Duration::from_secs(180);

/// What came of it.
#[derive(Debug, Default)]
pub struct Otherwise {
    /// What the watches told, by time, with their invocations' numbers.
    pub records: Vec<(Time, u32, Record)>,
    /// How many invocations were run again; in the others nothing could have been different.
    pub run: u64,
}

enum Event {
    Start(u32, Active),
    Wake(u32),
    Input(u32, Input, Option<Act>),
}

struct Running {
    active: Active,
    watch: Watch,
    wake: Option<Time>,
}

/// The world as it would be.
struct Elsewise<'a> {
    known: &'a Known,
    keys: Keys,
    pairs: &'a str,
    only: Option<&'a ClusterName>,
    /// Where eipwatch has put addresses.
    moved: BTreeMap<AllocationId, (Time, Association)>,
    /// What it has written.
    written: BTreeMap<(String, String), (Time, String)>,
    interfaces: BTreeMap<InterfaceId, InstanceId>,
    owners: BTreeMap<std::net::Ipv4Addr, InstanceId>,
}

/// Clusters in which something may be decided; `None`: in all.
type Active = Option<BTreeSet<ClusterName>>;

fn join(active: &mut Active, more: Active) {
    match (active.as_mut(), more) {
        (Some(names), Some(more)) => names.extend(more),
        (_, None) => *active = None,
        (None, _) => {}
    }
}

/// Where in an invocation, under any policy, something could be decided: where something failed, changed or was announced.
fn eventful(invocation: &Invocation, timeout: Duration, keys: &Keys) -> Active {
    if !matches!(invocation.last(), Some(Entry::Other(Record::End { .. }))) {
        return None;
    }
    let mut active = BTreeSet::new();
    // The first reading of its kind is told whether it is new or not; a later one is a change.
    let mut shown: BTreeMap<&Look, Vec<&Seen>> = BTreeMap::new();
    for entry in invocation {
        let record = match entry {
            Entry::Reading { body, .. } => {
                let before = shown.entry(&body.look).or_default();
                if !before.is_empty() && !body.gone.is_empty() {
                    return None;
                }
                if !before.is_empty() {
                    active.extend(changed(before, &body.changed, keys)?);
                }
                before.push(&body.changed);
                continue;
            }
            Entry::Other(record) => record,
        };
        match record {
            Record::Start { triggers, .. }
                if triggers.iter().any(|trigger| !matches!(trigger, Trigger::Schedule { .. })) =>
            {
                return None;
            }
            Record::ReadingFailed { .. } => return None,
            Record::Passes { slowest_ms, cluster, .. } if Duration::from_millis(*slowest_ms) >= timeout => {
                active.insert(cluster.clone());
            }
            Record::Probe { cluster, .. } | Record::Decision { cluster, .. } | Record::Move { cluster, .. } => {
                active.insert(cluster.clone());
            }
            Record::Verdict { to, from, cluster, .. } if from.is_some() || *to != Verdict::Healthy => {
                active.insert(cluster.clone());
            }
            Record::End { report, .. } => join_ill(&mut active, report)?,
            _ => {}
        }
    }
    Some(active)
}

/// The clusters of what differs from what the invocation was shown before, eipwatch's own tags and agents' heartbeats left out. `None`: any.
fn changed(before: &[&Seen], now: &Seen, keys: &Keys) -> Active {
    let clusters = |tags: &Tags| tags.get(&keys.cluster).map(|text| tags::cluster_names(text).0).unwrap_or_default();
    let mut found = BTreeSet::new();
    match now {
        Seen::Addresses(list) => {
            for one in list {
                let all = before.iter().rev().filter_map(|seen| match seen {
                    Seen::Addresses(list) => list.iter().find(|old| old.id == one.id),
                    _ => None,
                });
                let old = all.take(1).next()?;
                if (&old.association, plain_tags(&old.tags, keys)) != (&one.association, plain_tags(&one.tags, keys)) {
                    found.extend(clusters(&old.tags));
                    found.extend(clusters(&one.tags));
                }
            }
        }
        Seen::Instances(list) => {
            for one in list {
                let all = before.iter().rev().filter_map(|seen| match seen {
                    Seen::Instances(list) => list.iter().find(|old| old.id == one.id),
                    _ => None,
                });
                let old = all.take(1).next()?;
                if plain_instance(old, keys) != plain_instance(one, keys) {
                    found.extend(clusters(&old.tags));
                    found.extend(clusters(&one.tags));
                }
            }
        }
        _ => return None,
    }
    Some(found)
}

fn plain_tags(tags: &Tags, keys: &Keys) -> Tags {
    let own = |key: &String| *key == keys.state || *key == keys.heartbeat || key.starts_with(&keys.health);
    tags.iter().filter(|(key, _)| !own(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn plain_instance(instance: &Instance, keys: &Keys) -> Instance {
    Instance { tags: plain_tags(&instance.tags, keys), ..instance.clone() }
}

/// Adds the clusters in which not all is as it should be. `None`: it may be any.
fn join_ill(active: &mut BTreeSet<ClusterName>, report: &Report) -> Option<()> {
    if !report.ok {
        return None;
    }
    for cluster in &report.clusters {
        let stays = cluster.addresses.iter().all(|address| {
            address.decision.as_ref().is_none_or(|decision| decision.kind == Kind::Stay && decision.why == Why::Healthy)
        });
        if !stays || cluster.nodes.iter().any(|node| node.verdict != Verdict::Healthy) {
            active.insert(cluster.cluster.clone());
        }
    }
    Some(())
}

/// Runs a log again with these pairs over the policy of each cluster, or of one.
pub fn decide_again(log: &Log, known: &Known, pairs: &str, only: Option<&ClusterName>) -> Otherwise {
    let mut world = Elsewise {
        known,
        keys: known.keys(),
        pairs,
        only,
        moved: BTreeMap::new(),
        written: BTreeMap::new(),
        interfaces: BTreeMap::new(),
        owners: BTreeMap::new(),
    };
    let policy = policy::parse(pairs).0;
    // The shortest time limit that may be in force: the log's own is not known before it is read.
    let given = pairs.split_whitespace().any(|pair| pair.starts_with("timeout="));
    let timeout = if given { policy.timeout } else { Duration::MAX };
    let mut out = Otherwise::default();
    // A heartbeat that may stop sooner is not in the log as such.
    let all_count = pairs.split_whitespace().any(|pair| pair.starts_with("deadtime="));
    let mut restless: Active = None;
    let mut patient_until = Time::default();
    let mut previous: Option<&Invocation> = None;
    let mut events: BTreeMap<(Time, u64), Event> = BTreeMap::new();
    let mut running: BTreeMap<u32, Running> = BTreeMap::new();
    let mut sequence = 0_u64;
    let mut now = Time::default();
    let mut starts = log.invocations.iter().enumerate().peekable();
    let limit = MAX_EVENTS_PER_INVOCATION.saturating_mul(log.invocations.len());
    for _ in 0..limit {
        let next_event = events.first_key_value().map(|((at, _), _)| *at);
        let next_start = starts.peek().and_then(|(_, invocation)| invocation.first().map(Entry::at));
        let take_start = match (next_start, next_event) {
            (None, None) => break,
            (Some(start), Some(event)) => start <= event,
            (Some(_), None) => true,
            (None, Some(_)) => false,
        };
        if take_start {
            let Some((number, invocation)) = starts.next() else { break };
            let news = previous.and_then(|before| news(before, invocation, &world.keys));
            previous = Some(invocation);
            let at = invocation.first().map(Entry::at).unwrap_or_default();
            let mut active = eventful(invocation, timeout, &world.keys);
            join(&mut active, restless.clone());
            join(&mut active, news);
            if all_count || !running.is_empty() || at < patient_until {
                active = None;
            }
            if active.as_ref().is_some_and(BTreeSet::is_empty) {
                continue;
            }
            out.run += 1;
            sequence += 1;
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            events.insert((at, sequence), Event::Start(number, active));
            continue;
        }
        let Some(((at, _), event)) = events.pop_first() else { break };
        now = now.max(at);
        let number = match event {
            Event::Start(number, active) => {
                let start = usize::try_from(number).ok().and_then(|at| log.invocations.get(at)?.first());
                let Some(Entry::Other(Record::Start { triggers, watch_ms, deadline, manual, shard, prefix, .. })) =
                    start
                else {
                    continue;
                };
                let settings = Settings {
                    keys: Keys::new(prefix),
                    watch: Duration::from_millis(*watch_ms),
                    manual: *manual,
                    shard: *shard,
                };
                let watch = Watch::new(triggers.clone(), settings, now, *deadline);
                running.insert(number, Running { active, watch, wake: None });
                number
            }
            Event::Wake(number) => {
                if running.get(&number).is_none_or(|run| run.wake != Some(at)) {
                    continue;
                }
                number
            }
            Event::Input(number, mut input, act) => {
                if let Some(act) = &act
                    && world.refuses(act, now)
                {
                    let held = CloudError::from_code("Resource.AlreadyAssociated", "somebody holds it by now", false);
                    if let Input::Acted(_, answer) = &mut input {
                        *answer = Err(held);
                    }
                } else if let Some(act) = act {
                    world.done(&act, now);
                }
                let Some(run) = running.get_mut(&number) else { continue };
                run.watch.feed(input, now);
                number
            }
        };
        let Some(run) = running.get_mut(&number) else { continue };
        for effect in run.watch.poll(now) {
            let (at, event) = match effect {
                Effect::Log(record) => {
                    if let Record::Verdict { from: Some(_), .. } | Record::Move { .. } = &record {
                        patient_until = patient_until.max(world.patience(now));
                    }
                    out.records.push((record.at(), number, record));
                    continue;
                }
                Effect::Look(id, look) => {
                    let (took, answer) = world.look(now, &look, &run.active);
                    (now + took, Event::Input(number, Input::Looked(id, answer), None))
                }
                Effect::Probe(id, target) => {
                    let (took, answer) = world.probe(now, &target);
                    (now + took, Event::Input(number, Input::Probed(id, answer), None))
                }
                Effect::Act(id, act) => {
                    let (took, error) = world.known.call(&act, now);
                    let done = error.is_none().then(|| act.clone());
                    let answer = error.map_or(Ok(()), Err);
                    (now + took, Event::Input(number, Input::Acted(id, answer), done))
                }
            };
            sequence += 1;
            events.insert((at, sequence), event);
        }
        if let Some(ending) = run.watch.ending() {
            if let Ending::Report(report) = ending {
                let mut ill = BTreeSet::new();
                restless = join_ill(&mut ill, report).map(|()| ill);
            }
            running.remove(&number);
            continue;
        }
        if let Some(wake) = run.watch.next_wake() {
            let wake = wake.max(now);
            run.wake = Some(wake);
            sequence += 1;
            events.insert((wake, sequence), Event::Wake(number));
        }
    }
    out.records.sort_by_key(|(at, number, _)| (*at, *number));
    out
}

/// The clusters of which an invocation begins with another picture than the one before it began with, but for what eipwatch writes
/// itself. `None`: it may be any.
fn news(before: &Invocation, now: &Invocation, keys: &Keys) -> Active {
    let firsts = |invocation: &Invocation| {
        let mut firsts = BTreeMap::new();
        for entry in invocation {
            if let Entry::Reading { body, .. } = entry {
                firsts.entry(body.look.clone()).or_insert_with(|| body.clone());
            }
        }
        firsts
    };
    let (before, now) = (firsts(before), firsts(now));
    let mut active = BTreeSet::new();
    for (look, body) in &now {
        match before.get(look) {
            None if matches!(look, Look::Status(_)) => {}
            None => return None,
            Some(old) if std::sync::Arc::ptr_eq(old, body) || old.changed == body.changed => {}
            Some(old) => {
                active.extend(changed(&[&old.changed], &body.changed, keys)?);
                // What is no longer shown.
                active.extend(changed(&[&body.changed], &old.changed, keys)?);
            }
        }
    }
    Some(active)
}

impl Elsewise<'_> {
    /// Until when something may yet come of what has just changed.
    fn patience(&self, now: Time) -> Time {
        let policies = self.known.addresses(now).filter_map(|(address, _)| self.policy(address));
        let failing_back = policies.map(|text| policy::parse(&text).0).filter(|policy| policy.failback);
        failing_back.map(|policy| now + policy.stable + FAILBACK_SEEN).max().unwrap_or_default()
    }

    /// The policy tag that an address has now; `None`: none.
    fn policy(&self, address: &Address) -> Option<String> {
        let clusters = address.tags.get(&self.keys.cluster).map(|text| tags::cluster_names(text).0)?;
        let own = address.tags.get(&self.keys.policy).cloned();
        if self.only.is_some_and(|only| !clusters.contains(only)) {
            return own;
        }
        let text = over(own.as_deref().unwrap_or_default(), self.pairs);
        (!text.is_empty()).then_some(text)
    }

    /// What eipwatch has written stands where it was written last.
    fn with_own_tags(&self, resource: &str, shown: &Tags, first: Option<&Tags>, now: Time) -> Tags {
        let own = |key: &String| *key == self.keys.state || key.starts_with(&self.keys.health);
        let mut tags: Tags =
            shown.iter().filter(|(key, _)| !own(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        let before = first.into_iter().flatten().filter(|(key, _)| own(key));
        tags.extend(before.map(|(key, value)| (key.clone(), value.clone())));
        let from = (resource.to_owned(), String::new());
        for ((of, key), (at, value)) in self.written.range(from..).take_while(|((of, _), _)| of == resource) {
            debug_assert_eq!(of, resource);
            // A mode that a command of the log set: the log shows it, and what became of it later.
            if own(key) || (now.since(*at) < FAILBACK_SEEN && !tags.contains_key(key)) {
                tags.insert(key.clone(), value.clone());
            }
        }
        tags
    }

    fn association(&self, id: &AllocationId, now: Time) -> Option<Association> {
        let placed = self.known.placed(id, now);
        match (self.moved.get(id), placed) {
            (Some((at, own)), Some((since, _))) if at >= since => Some(own.clone()),
            (Some((_, own)), None) => Some(own.clone()),
            (_, placed) => placed.and_then(|(_, association)| association.clone()),
        }
    }

    /// Whether a resource's cluster is one of those.
    fn is_active(&self, tags: &Tags, active: &Active) -> bool {
        let (Some(active), Some(text)) = (active, tags.get(&self.keys.cluster)) else { return true };
        tags::cluster_names(text).0.iter().any(|name| active.contains(name))
    }

    fn addresses(&self, now: Time, active: &Active) -> Vec<Address> {
        let all = self.known.addresses(now).map(|(shown, first)| {
            let mut address = shown.as_ref().clone();
            address.association = self.association(&address.id, now);
            let policy = self.policy(&address);
            address.tags = self.with_own_tags(address.id.as_str(), &address.tags, first.map(|first| &first.tags), now);
            match policy {
                Some(policy) => address.tags.insert(self.keys.policy.clone(), policy),
                None => address.tags.remove(&self.keys.policy),
            };
            if !self.is_active(&address.tags, active) {
                // It still sits where it sits.
                address.tags.remove(&self.keys.cluster);
            }
            address
        });
        all.collect()
    }

    fn instances(&mut self, now: Time, active: &Active) -> Vec<Instance> {
        let addresses: Vec<(std::net::Ipv4Addr, Option<InstanceId>)> = self
            .known
            .addresses(now)
            .map(|(shown, _)| (shown.public_ip, self.association(&shown.id, now).and_then(|at| at.instance)))
            .collect();
        let all: Vec<Instance> = self
            .known
            .instances(now)
            .filter(|(shown, _)| self.is_active(&shown.tags, active))
            .map(|(shown, first)| {
                let mut instance = shown.as_ref().clone();
                let first = first.map(|first| &first.tags);
                instance.tags = self.with_own_tags(instance.id.as_str(), &instance.tags, first, now);
                // An Elastic IP is where it would be now.
                if let Some((ip, _)) = addresses.iter().find(|(_, holder)| holder.as_ref() == Some(&instance.id)) {
                    instance.public_ip = Some(*ip);
                } else if addresses.iter().any(|(ip, _)| instance.public_ip == Some(*ip)) {
                    instance.public_ip = None;
                }
                instance
            })
            .collect();
        for instance in &all {
            for nic in &instance.interfaces {
                self.interfaces.insert(nic.id.clone(), instance.id.clone());
                self.owners.extend(nic.private_ips.iter().map(|ip| (*ip, instance.id.clone())));
            }
            self.owners.extend(instance.public_ip.map(|ip| (ip, instance.id.clone())));
        }
        all
    }

    fn look(&mut self, now: Time, look: &Look, active: &Active) -> (Duration, Result<Seen, CloudError>) {
        if let Some((took, error)) = self.known.read_failure(look, now) {
            return (took, Err(error));
        }
        let seen = match look {
            Look::Addresses => Seen::Addresses(self.addresses(now, active)),
            Look::Instances(_) => Seen::Instances(self.instances(now, active)),
            Look::InstancesById(ids) => {
                let mut all = self.instances(now, active);
                all.retain(|instance| ids.contains(&instance.id));
                Seen::Instances(all)
            }
            Look::Status(_) => Seen::Status(self.known.statuses(now)),
            Look::Alarms(_) => Seen::Alarms(self.known.alarms(now)),
            Look::InstanceTags(_) => Seen::InstanceTags(self.known.tags(now)),
            Look::Interfaces(_) => Seen::Interfaces(self.known.interfaces(now)),
        };
        (self.known.latency(), Ok(seen))
    }

    fn probe(&self, now: Time, target: &ProbeTarget) -> (Duration, Answer) {
        let owner = self.owners.get(&target.ip).cloned();
        let evidence = owner.and_then(|owner| self.known.evidence.get(&(owner, check_of(target))));
        let known = evidence.and_then(|evidence| evidence.ask(now, target.timeout));
        // Of a node that was never probed so, nothing is known: no answer is the cautious one.
        known.unwrap_or((target.timeout, Answer::TimedOut))
    }

    /// Whether a call is refused as what it takes from nobody is held, elsewhere than where it is to go.
    fn refuses(&self, act: &Act, now: Time) -> bool {
        let Act::Associate { address, interface, private_ip, only_if_unheld: true, dry_run: false } = act else {
            return false;
        };
        self.association(address, now)
            .is_some_and(|at| (at.interface.as_ref(), at.private_ip) != (Some(interface), Some(*private_ip)))
    }

    /// What a call changes.
    fn done(&mut self, act: &Act, now: Time) {
        match act {
            Act::Associate { dry_run: true, .. } => {}
            Act::Associate { address, interface, private_ip, .. } => {
                let association = Association {
                    instance: self.interfaces.get(interface).cloned(),
                    interface: Some(interface.clone()),
                    private_ip: Some(*private_ip),
                };
                self.moved.insert(address.clone(), (now, association));
            }
            Act::Tag { resources, key, value } => {
                for resource in resources {
                    self.written.insert((resource.clone(), key.clone()), (now, value.clone()));
                }
            }
        }
    }
}
