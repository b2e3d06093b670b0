//! What a log knows of EC2 at a time: every reading put together, what eipwatch itself did left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::evidence::{AllEvidence, Evidence};
use super::read::{Entry, Log};
use crate::core::decide::SETTLING;
use crate::core::log::Record;
use crate::core::model::{
    Act, Address, Alarm, AllocationId, Association, CloudError, Failure, Instance, InstanceId, InstanceStatus,
    InterfaceId, Look, LooseInterface, Seen, Tags,
};
use crate::core::tags::{DEFAULT_PREFIX, Keys};
use crate::core::time::Time;

/// How long before and after a failed read of the log a read of the same kind fails as well.
const READ_FAILS_AROUND: Duration = Duration::from_secs(1);
/// How far a call of the log may be away to tell how another would have gone.
const CALL_TELLS_WITHIN: Duration = Duration::from_secs(30);
/// So long after a call of ours at most a reading shows for the first time what came of it.
const SEEN_WITHIN: Duration = Duration::from_secs(120);
/// How long a call or a read takes where the log has none.
const USUAL_LATENCY: Duration = Duration::from_millis(50);

/// Something that changes over time: since when it is what.
#[derive(Clone, Debug)]
struct Versions<T>(Vec<(Time, Option<Arc<T>>)>);

impl<T> Default for Versions<T> {
    fn default() -> Versions<T> {
        Versions(Vec::new())
    }
}

impl<T: PartialEq> Versions<T> {
    fn put(&mut self, at: Time, value: Option<Arc<T>>) {
        if self.0.last().is_none_or(|(_, last)| *last != value) {
            self.0.push((at, value));
        }
    }

    /// What it was then; before anything was read, what was read first.
    fn at(&self, at: Time) -> Option<&Arc<T>> {
        let index = self.0.partition_point(|(since, _)| *since <= at).saturating_sub(1);
        self.0.get(index)?.1.as_ref()
    }

    fn first(&self) -> Option<&Arc<T>> {
        self.0.first()?.1.as_ref()
    }
}

/// A call that changed something.
#[derive(Clone, Debug)]
struct Called {
    asked: Time,
    took: Duration,
    act: Act,
    error: Option<CloudError>,
}

/// All that a log tells of the world.
#[derive(Debug, Default)]
pub struct Known {
    keys: Option<Keys>,
    addresses: BTreeMap<AllocationId, Versions<Address>>,
    instances: BTreeMap<InstanceId, Versions<Instance>>,
    statuses: BTreeMap<InstanceId, Versions<InstanceStatus>>,
    alarms: BTreeMap<String, Versions<Alarm>>,
    interfaces: BTreeMap<InterfaceId, Versions<LooseInterface>>,
    tags: Versions<BTreeMap<InstanceId, Tags>>,
    /// Who put each address where, others than eipwatch: the first is where it was at the beginning.
    placed: BTreeMap<AllocationId, Vec<(Time, Option<Association>)>>,
    failed_reads: Vec<(Time, Duration, std::mem::Discriminant<Look>, CloudError)>,
    calls: Vec<Called>,
    latency: Option<Duration>,
    /// What probes brought back.
    pub evidence: AllEvidence,
}

impl Known {
    /// Puts a log together.
    pub fn of(log: &Log) -> Known {
        let mut known = Known::default();
        let all = log.by_time();
        let mut latencies = Vec::new();
        for (at, _, entry) in &all {
            match entry {
                Entry::Other(Record::Call { asked, act, error, .. }) => {
                    let (took, act, error) = (at.since(*asked), act.clone(), error.clone());
                    known.calls.push(Called { asked: *asked, took, act, error });
                }
                Entry::Other(Record::ReadingFailed { asked, look, error, .. }) => {
                    let kind = std::mem::discriminant(look);
                    known.failed_reads.push((*asked, at.since(*asked), kind, error.clone()));
                }
                Entry::Other(Record::Start { prefix, .. }) if known.keys.is_none() => {
                    known.keys = Some(Keys::new(prefix));
                }
                Entry::Other(record) => Evidence::take(&mut known.evidence, record),
                Entry::Reading { asked, .. } => latencies.push(at.since(*asked)),
            }
        }
        for evidence in known.evidence.values_mut() {
            evidence.settle();
        }
        known.failed_reads.sort_by_key(|(asked, ..)| *asked);
        known.calls.sort_by_key(|call| call.asked);
        latencies.sort_unstable();
        known.latency = latencies.get(latencies.len() / 2).copied();
        // Readings last: who has placed an address is only known with the calls.
        let mut readings: Vec<_> = all
            .iter()
            .filter_map(|(_, _, entry)| match entry {
                Entry::Reading { asked, body, at } => Some((*asked, *at, body)),
                Entry::Other(_) => None,
            })
            .collect();
        readings.sort_by_key(|(asked, at, _)| (*asked, *at));
        let mut last: BTreeMap<&Look, &Arc<super::read::Body>> = BTreeMap::new();
        for (asked, _, body) in readings {
            // Every invocation begins with the same picture again.
            if matches!(body.look, Look::InstanceTags(_)) {
                // It may have dropped some: the same picture again is news.
                last.retain(|look, _| !matches!(look, Look::Instances(_)));
            }
            let before = last.insert(&body.look, body);
            if before.is_none_or(|before| !Arc::ptr_eq(before, body)) {
                known.read(asked, body);
            }
        }
        known
    }

    /// The names of the tags.
    pub fn keys(&self) -> Keys {
        self.keys.clone().unwrap_or_else(|| Keys::new(DEFAULT_PREFIX))
    }

    fn read(&mut self, asked: Time, body: &super::read::Body) {
        match &body.changed {
            Seen::Addresses(list) => {
                for shown in list {
                    self.place(asked, shown);
                    let versions = self.addresses.entry(shown.id.clone()).or_default();
                    if versions.0.last().is_none_or(|(_, last)| last.as_deref() != Some(shown)) {
                        versions.put(asked, Some(Arc::new(shown.clone())));
                    }
                }
            }
            Seen::Instances(list) => {
                for shown in list {
                    let versions = self.instances.entry(shown.id.clone()).or_default();
                    let known = versions.0.last().and_then(|(_, last)| last.as_deref());
                    if shown.ends_status(known)
                        && let Some(statuses) = self.statuses.get_mut(&shown.id)
                    {
                        statuses.put(asked, None);
                    }
                    if versions.0.last().is_none_or(|(_, last)| last.as_deref() != Some(shown)) {
                        versions.put(asked, Some(Arc::new(shown.clone())));
                    }
                }
            }
            Seen::Status(list) => {
                for shown in list {
                    self.statuses.entry(shown.id.clone()).or_default().put(asked, Some(Arc::new(shown.clone())));
                }
            }
            Seen::Alarms(list) => {
                for shown in list {
                    self.alarms.entry(shown.name.clone()).or_default().put(asked, Some(Arc::new(shown.clone())));
                }
            }
            Seen::Interfaces(list) => {
                for shown in list {
                    self.interfaces.entry(shown.id.clone()).or_default().put(asked, Some(Arc::new(shown.clone())));
                }
            }
            Seen::InstanceTags(all) => {
                self.tags.put(asked, Some(Arc::new(all.clone())));
                // A search drops the members that it does not name.
                let key = self.keys().cluster;
                for (id, versions) in &mut self.instances {
                    let member = versions.0.last().and_then(|(_, last)| last.as_ref());
                    if member.is_some_and(|last| last.tags.contains_key(&key)) && !all.contains_key(id) {
                        versions.put(asked, None);
                    }
                }
            }
        }
        for id in &body.gone {
            match &body.changed {
                Seen::Addresses(_) => {
                    if let Some(versions) = self.addresses.get_mut(&AllocationId::from(id.as_str())) {
                        versions.put(asked, None);
                    }
                }
                Seen::Instances(_) => {
                    if let Some(versions) = self.instances.get_mut(&InstanceId::from(id.as_str())) {
                        versions.put(asked, None);
                    }
                }
                Seen::Status(_) => {
                    if let Some(versions) = self.statuses.get_mut(&InstanceId::from(id.as_str())) {
                        versions.put(asked, None);
                    }
                }
                Seen::Alarms(_) => {
                    if let Some(versions) = self.alarms.get_mut(id) {
                        versions.put(asked, None);
                    }
                }
                Seen::InstanceTags(_) | Seen::Interfaces(_) => {}
            }
        }
    }

    /// Whether somebody else than eipwatch has put the address where it is shown.
    fn place(&mut self, asked: Time, shown: &Address) {
        let last_shown = self
            .addresses
            .get(&shown.id)
            .and_then(|versions| versions.0.last())
            .map(|(_, last)| last.as_ref().and_then(|address| address.association.clone()));
        let placed = self.placed.entry(shown.id.clone()).or_default();
        let Some(last_shown) = last_shown else {
            placed.push((asked, shown.association.clone()));
            return;
        };
        if last_shown == shown.association {
            return;
        }
        let own = |call: &Called, interface: &Option<InterfaceId>| match &call.act {
            Act::Associate { address, interface: to, dry_run: false, .. } => {
                *address == shown.id && interface.as_ref() == Some(to)
            }
            _ => false,
        };
        let interface = shown.association.as_ref().and_then(|association| association.interface.clone());
        let recent = |call: &&Called| call.asked <= asked && asked.since(call.asked) < SEEN_WITHIN;
        let ours = self.calls.iter().rev().filter(recent).any(|call| own(call, &interface));
        // A reading shortly after a move of ours that shows anything else is older than that move.
        let stale = self.calls.iter().any(|call| {
            matches!(&call.act, Act::Associate { address, dry_run: false, .. } if *address == shown.id)
                && call.error.is_none()
                && call.asked <= asked
                && asked.since(call.asked) < SETTLING
        });
        if !ours && !stale {
            placed.push((asked, shown.association.clone()));
        }
    }

    /// How long reads take, as a rule.
    pub fn latency(&self) -> Duration {
        self.latency.unwrap_or(USUAL_LATENCY)
    }

    /// Where others than eipwatch had put it by then, and since when.
    pub fn placed(&self, id: &AllocationId, at: Time) -> Option<&(Time, Option<Association>)> {
        let placed = self.placed.get(id)?;
        let index = placed.partition_point(|(since, _)| *since <= at).saturating_sub(1);
        placed.get(index)
    }

    /// All addresses then; and of each what was read of it first, for what eipwatch itself had written by then.
    pub fn addresses(&self, at: Time) -> impl Iterator<Item = (&Arc<Address>, Option<&Arc<Address>>)> {
        self.addresses.values().filter_map(move |versions| Some((versions.at(at)?, versions.first())))
    }

    /// All instances then, in the same way.
    pub fn instances(&self, at: Time) -> impl Iterator<Item = (&Arc<Instance>, Option<&Arc<Instance>>)> {
        self.instances.values().filter_map(move |versions| Some((versions.at(at)?, versions.first())))
    }

    /// Since when an instance has not been running, or is running again.
    pub fn states(&self, id: &InstanceId) -> Vec<(Time, crate::core::model::InstanceState)> {
        let versions = self.instances.get(id).map_or(&[][..], |versions| versions.0.as_slice());
        versions.iter().filter_map(|(at, shown)| Some((*at, shown.as_ref()?.state))).collect()
    }

    /// Ids of all instances that were ever shown.
    pub fn instance_ids(&self) -> BTreeSet<InstanceId> {
        self.instances.keys().cloned().collect()
    }

    /// Status checks then.
    pub fn statuses(&self, at: Time) -> Vec<InstanceStatus> {
        self.statuses.values().filter_map(|versions| versions.at(at)).map(|one| one.as_ref().clone()).collect()
    }

    /// Alarms then.
    pub fn alarms(&self, at: Time) -> Vec<Alarm> {
        self.alarms.values().filter_map(|versions| versions.at(at)).map(|one| one.as_ref().clone()).collect()
    }

    /// Interfaces of no instance then.
    pub fn interfaces(&self, at: Time) -> Vec<LooseInterface> {
        self.interfaces.values().filter_map(|versions| versions.at(at)).map(|one| one.as_ref().clone()).collect()
    }

    /// What DescribeTags showed then.
    pub fn tags(&self, at: Time) -> BTreeMap<InstanceId, Tags> {
        self.tags.at(at).map(|all| all.as_ref().clone()).unwrap_or_default()
    }

    /// Whether a read of this kind failed then, how, and after how long.
    pub fn read_failure(&self, look: &Look, at: Time) -> Option<(Duration, CloudError)> {
        let kind = std::mem::discriminant(look);
        let from = self.failed_reads.partition_point(|(asked, ..)| *asked + READ_FAILS_AROUND < at);
        let around = self.failed_reads.get(from..).unwrap_or_default().iter();
        let nearest = around
            .take_while(|(asked, ..)| *asked <= at + READ_FAILS_AROUND)
            .filter(|(_, _, of, _)| *of == kind)
            .min_by_key(|(asked, ..)| asked.since(at).max(at.since(*asked)))?;
        Some((nearest.1, nearest.3.clone()))
    }

    /// How a call would have gone, and how long it would have taken: as the nearest of its kind in the log, if one is near.
    pub fn call(&self, act: &Act, at: Time) -> (Duration, Option<CloudError>) {
        let alike = |call: &&Called| match (&call.act, act) {
            (Act::Associate { address, dry_run, .. }, Act::Associate { address: of, dry_run: dry, .. }) => {
                // Whether somebody holds it is another question in another world.
                let held = call.error.as_ref().is_some_and(|error| error.failure == Failure::Held);
                address == of && dry_run == dry && !held
            }
            (Act::Tag { key, .. }, Act::Tag { key: of, .. }) => key == of,
            _ => false,
        };
        let distance = |call: &Called| call.asked.since(at).max(at.since(call.asked));
        let from = self.calls.partition_point(|call| call.asked + CALL_TELLS_WITHIN < at);
        let around = self.calls.get(from..).unwrap_or_default().iter();
        let nearest = around
            .take_while(|call| call.asked <= at + CALL_TELLS_WITHIN)
            .filter(alike)
            .min_by_key(|call| distance(call));
        nearest.map_or((self.latency(), None), |call| (call.took, call.error.clone()))
    }
}
