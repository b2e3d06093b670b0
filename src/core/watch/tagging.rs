//! The tags that a watch writes: health, state, and what commands set. They are tried again, and decided afresh when others wrote.
//!
//! Architecture invariant: a tag is written because something was decided or seen, never to find out.

use std::collections::BTreeMap;

use crate::core::decide::{EXTERNAL, SETTLING, is_by_hand, remembered};
use crate::core::model::{Act, AllocationId, CloudError, ClusterName, InstanceId};
use crate::core::snapshot::{self, Facts};
use crate::core::tags::{Health, State};
use crate::core::time::Time;

use super::cluster::Watched;
use super::looks::{BACKOFF_MAX, backoff};
use super::{Doing, Effect, Watch};

/// How many CreateTags are on their way at once.
pub const MAX_TAGGING: usize = 10;
/// How often a health tag is tried before it is left alone for a while. Others are tried until the invocation's deadline.
pub const MAX_TAG_TRIES: u32 = 6;
/// How many resources one CreateTags names.
pub const MAX_RESOURCES: usize = 50;

/// A tag that is to be written, on one resource or alike on several.
#[derive(Clone)]
pub struct TagWrite {
    pub resources: Vec<String>,
    pub key: String,
    pub value: String,
    pub tries: u32,
    /// What the last try brought, where that was an error.
    pub error: Option<String>,
    /// One for each resource.
    pub of: Vec<Purpose>,
}

impl TagWrite {
    /// One that has not been tried.
    pub fn new(resource: String, key: String, value: String, of: Purpose) -> TagWrite {
        TagWrite { resources: vec![resource], key, value, tries: 0, error: None, of: vec![of] }
    }

    /// Whether a command is not carried out without it.
    pub fn is_ordered(&self) -> bool {
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
        newest: impl Fn(&ClusterName, &AllocationId) -> Option<State>,
    ) -> Option<TagWrite> {
        let key = self.key.clone();
        self.take_out(|resource, of| match of {
            Purpose::Health(.., before) => facts.tag(resource, &key) != before.as_ref(),
            Purpose::State(name, id, state) => newest(name, id).is_some_and(|newest| overtakes(&newest, state)),
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
        let (key, value, error) = (self.key.clone(), self.value.clone(), self.error.clone());
        Some(TagWrite { resources, key, value, tries: self.tries, error, of })
    }
}

/// Whether what is on record was made after this one.
fn overtakes(newest: &State, state: &State) -> bool {
    let later = newest.since > state.since || newest.since == state.since && newest.holder != state.holder;
    // Who saw it before it was on record took it for a move by others.
    let same = newest.why == EXTERNAL && (&newest.holder, &newest.from) == (&state.holder, &state.from);
    later && !(same && newest.since.since(state.since) < SETTLING) || is_by_hand(newest, state)
}

/// The newest that is known of an address, by memory or tag, as a tag would say it.
fn newest_record(
    clusters: &BTreeMap<ClusterName, Watched>,
    name: &ClusterName,
    id: &AllocationId,
    now: Time,
) -> Option<State> {
    let watched = clusters.get(name)?;
    let address = watched.cluster.addresses.iter().find(|address| &address.id == id)?;
    let state = remembered(address, watched.memory.get(id))?;
    // A time to come was not written by us.
    (state.since <= now).then(|| State { since: state.since.whole_second(), ..state.clone() })
}

/// What a tag is written for.
#[derive(Clone)]
pub enum Purpose {
    /// With what stood there when it was decided on.
    Health(ClusterName, InstanceId, Health, Option<String>),
    State(ClusterName, AllocationId, State),
    /// A command's own: the invocation has failed if it cannot be written.
    Command,
    /// The mode of an address that is about to be moved by force.
    Force(AllocationId),
}

impl Watch {
    /// A health tag that is to be written; several that say the same are one call.
    pub(super) fn record_health(
        &mut self,
        name: &ClusterName,
        node: &InstanceId,
        value: String,
        health: Health,
        now: Time,
    ) {
        let nodes = self.clusters.get(name).map(|watched| &watched.cluster.nodes);
        let shared = nodes.and_then(|nodes| nodes.get(node)).is_some_and(|node| node.shared);
        let key = self.settings.keys.health_of(shared.then_some(name));
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
            None => self.tags.push((now, TagWrite::new(node.to_string(), key, value, purpose))),
        }
    }

    /// A state tag that is to be written before all others.
    pub(super) fn record_state(&mut self, name: &ClusterName, address: &AllocationId, state: State, now: Time) {
        let key = self.settings.keys.state.clone();
        let value = state.to_string();
        let write =
            TagWrite::new(address.to_string(), key, value, Purpose::State(name.clone(), address.clone(), state));
        self.tags.insert(0, (now, write));
    }

    /// How many CreateTags are on their way.
    pub(super) fn tagging(&self) -> usize {
        self.doing.values().filter(|(_, _, doing)| matches!(doing, Doing::Tag(_))).count()
    }

    /// Writes the tags that are due, and have not been written meanwhile.
    pub(super) fn write_tags(&mut self, now: Time) {
        let mut room = MAX_TAGGING.saturating_sub(self.tagging());
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tags).into_iter().partition(|(at, _)| *at <= now);
        self.tags = later;
        let mut all_written = Vec::new();
        for (at, mut write) in due {
            if room == 0 {
                self.tags.push((at, write));
                continue;
            }
            // Written meanwhile: by another invocation, or by a try that was taken to have failed.
            all_written.extend(write.written(&self.facts));
            let clusters = &self.clusters;
            let newest = |name: &ClusterName, id: &AllocationId| newest_record(clusters, name, id, now);
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
        for write in all_written {
            self.settle_tags(&write, true, now);
        }
    }

    /// Takes in the answer to one.
    pub(super) fn tagged(&mut self, mut write: TagWrite, result: Result<(), CloudError>, now: Time) {
        match result {
            Ok(()) => {
                let believed =
                    if write.is_ordered() { snapshot::ORDERS_BELIEVED } else { snapshot::OWN_WRITES_BELIEVED };
                for (resource, of) in write.resources.iter().zip(&write.of) {
                    // An answer that is late stands for no more than what it wrote: a newer record is not hidden by it.
                    let late = matches!(of, Purpose::State(name, id, state)
                        if newest_record(&self.clusters, name, id, now).is_some_and(|newest| overtakes(&newest, state)));
                    if !late {
                        self.facts.wrote(resource, &write.key, &write.value, believed, now);
                    }
                }
                self.settle_tags(&write, true, now);
            }
            Err(error) => {
                // What a health tag tells can be seen anew; what was done, or is to be done, nobody else can write down.
                let lasting = write.of.iter().any(|of| !matches!(of, Purpose::Health(..)));
                let again = !error.is_hopeless() && (lasting || write.tries < MAX_TAG_TRIES);
                if again {
                    write.error = Some(error.to_string());
                    let at = now + backoff(write.tries, BACKOFF_MAX);
                    self.tags.push((at, write));
                } else if write.resources.len() > 1 {
                    // One of them is at fault: each for itself.
                    for (resource, of) in write.resources.drain(..).zip(write.of.drain(..)) {
                        let single = TagWrite::new(resource, write.key.clone(), write.value.clone(), of);
                        self.tags.push((now, single));
                    }
                } else {
                    let resource = write.resources.first().cloned().unwrap_or_default();
                    let cure = if error.code == "UnauthorizedOperation" {
                        format!(
                            ". The role needs ec2:CreateTags on {resource}; the shipped one may write only on what carries {}: does it still?",
                            self.settings.keys.cluster
                        )
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
                // What it says is remembered since it was decided.
                Purpose::State(..) | Purpose::Command | Purpose::Force(_) => {}
            }
        }
        if write.is_ordered() {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Address, Tags};

    /// i-1 to i-2 at 100 s, or what is changed of that.
    fn state() -> State {
        State {
            holder: "i-2".into(),
            since: Time::from_millis(100_000),
            from: Some("i-1".into()),
            why: "holder-gone".to_owned(),
            moves: vec![],
        }
    }

    fn write() -> TagWrite {
        let id = AllocationId::from("eipalloc-1");
        let purpose = Purpose::State("web".into(), id.clone(), state());
        TagWrite::new(id.to_string(), "eipwatch:state".to_owned(), state().to_string(), purpose)
    }

    #[test]
    fn a_record_that_is_newer_is_not_written_over() {
        let at = |s: u64| Time::from_millis(s * 1_000);
        let others = |since| State { holder: "i-3".into(), since: at(since), ..state() };
        let external = |since| State { why: EXTERNAL.to_owned(), since: at(since), ..state() };
        let by_hand = |since| State { why: "manual".to_owned(), since: at(since), ..state() };
        for (newest, gives_way) in [
            (state(), false),
            (others(99), false),
            (others(100), true),
            (others(101), true),
            // Who saw it before it was on record took it for a move by others; half a minute later it was one.
            (external(101), false),
            (external(129), false),
            (external(130), true),
            (State { holder: "i-3".into(), ..external(101) }, true),
            (State { since: at(101), ..state() }, true),
            // What a hand moved there at the same time is the hand's.
            (by_hand(99), true),
            (by_hand(71), true),
            (by_hand(70), false),
            (State { holder: "i-3".into(), ..by_hand(99) }, false),
        ] {
            let taken_out = write().outdated(&Facts::default(), |_, _| Some(newest.clone()));
            assert_eq!(taken_out.is_some(), gives_way, "{newest}");
        }
    }

    #[test]
    fn what_is_there_already_is_not_written() {
        let mut facts = Facts::default();
        let mut shown = |value: String| {
            let tags: Tags = [("eipwatch:state".to_owned(), value)].into_iter().collect();
            let address = Address {
                id: "eipalloc-1".into(),
                public_ip: std::net::Ipv4Addr::new(203, 0, 113, 1),
                border_group: None,
                association: None,
                tags,
            };
            facts.take_addresses(vec![address], Time::from_millis(0));
            write().written(&facts).is_some()
        };
        assert!(!shown("something else".to_owned()));
        assert!(shown(state().to_string()));
    }
}
