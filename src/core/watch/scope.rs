//! What woke the watch: which clusters that is about, and what it announces of their nodes.
//!
//! Architecture invariant: a trigger moves nothing. It widens the scope, or is noted of a node; what EC2 shows decides.

use std::time::Duration;

use crate::core::event::{TaggedResource, Trigger};
use crate::core::model::InstanceId;
use crate::core::snapshot::Cluster;
use crate::core::tags::{self, BeatStatus, Check, Heartbeat, Keys, Leaving};
use crate::core::time::Time;

use super::Watch;
use super::cluster::{NOTICE_BELIEVED, Watched};
use super::command::Command;

impl Watch {
    /// A tag event that can't change anything: not worth a single call.
    pub(super) fn concerns_nobody(&self, trigger: &Trigger) -> bool {
        let Trigger::Tag { resource, changed, tags } = trigger else { return false };
        let keys = &self.settings.keys;
        let configured = changed.iter().any(|key| keys.is_configuration(key));
        let beat = changed.iter().any(|key| key == &keys.heartbeat)
            && tags
                .get(&keys.heartbeat)
                .and_then(|text| Heartbeat::parse(text).ok())
                .is_some_and(|beat| beat.status != BeatStatus::Ok);
        matches!(resource, TaggedResource::Other) || !(configured || beat)
    }

    /// Whether any trigger is about this cluster.
    pub(super) fn in_scope(&self, cluster: &Cluster) -> bool {
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
}

/// Whether a trigger is about this cluster.
fn concerns(trigger: &Trigger, command: Option<&Command>, cluster: &Cluster, keys: &Keys) -> bool {
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
            let named =
                || tags.get(&keys.cluster).is_some_and(|text| tags::cluster_names(text).0.contains(&cluster.name));
            match resource {
                TaggedResource::Instance(id) => has(id) || named(),
                TaggedResource::Address(id) => cluster.addresses.iter().any(|address| &address.id == id) || named(),
                TaggedResource::Other => false,
            }
        }
        Trigger::Command(_) => command.is_some_and(|command| command.concerns(cluster)),
    }
}

/// What a trigger announced of a cluster's nodes.
pub(super) fn notice(watched: &mut Watched, trigger: &Trigger, now: Time) {
    let mut leave = |id: &InstanceId, kind: &str, at: Option<Time>, spot: bool| {
        let Some(node) = watched.cluster.nodes.get(id) else { return };
        let at = at.unwrap_or(now);
        // Late by more than its own announcement's term: it did not come to pass, or was of an earlier life. Auto Scaling terminates all
        // that it says it will, and lets a hook wait for hours.
        let stale = spot && now.since(at) >= NOTICE_BELIEVED || !node.in_this_life(at);
        if !stale {
            let until = spot.then(|| (at + Duration::from_secs(120)).whole_second());
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
