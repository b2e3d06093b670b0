//! An invocation run again on what its own log recorded: the same verdicts, decisions and moves, at the same times.
//!
//! What the log does not have is rebuilt: an unchanged reading as the last one was, a passed probe as slow as the slowest of its run.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::core::log::Record;
use crate::core::model::{
    Act, Address, Alarm, AllocationId, Answer, CloudError, Instance, InstanceId, InstanceStatus, Look, ProbeTarget,
    Seen,
};
use crate::core::tags::{Check, Keys};
use crate::core::time::Time;
use crate::core::watch::{Effect, Input, Settings, Watch};

/// How often one invocation is polled at most.
pub const MAX_STEPS: u32 = 1_000_000;

/// Why an invocation cannot be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// There is nothing to start from.
    #[error("the log does not begin with the start of an invocation")]
    NoStart,
    /// Something in the log does not fit.
    #[error("the replay does not end: the log is not whole")]
    NoEnd,
}

/// A probe's check as its tag writes it.
pub fn check_of(target: &ProbeTarget) -> String {
    Check::Probe { scheme: target.scheme, port: target.port, path: target.path.clone() }.to_string()
}

/// A call that changed something, as it was recorded: when it was asked and answered.
type Done = (Act, Duration, Option<CloudError>);
/// A reading, as it was recorded: the question, when it was answered, and what was new, or the error.
type Read = (Look, Time, Result<Vec<(Seen, Vec<String>)>, CloudError>);

/// What a log says of the world, in the order of asking.
#[derive(Default)]
struct Tape {
    reads: BTreeMap<Time, Vec<Read>>,
    failed: Vec<(Time, ProbeTarget, Time, Answer)>,
    /// Node, check, since, until, the slowest, answer.
    passes: Vec<(InstanceId, String, Time, Time, Duration, Answer)>,
    calls: VecDeque<Done>,
    addresses: BTreeMap<AllocationId, Address>,
    instances: BTreeMap<InstanceId, Instance>,
    /// As they were last shown, whether they still are or not: probes go on.
    probed: BTreeMap<InstanceId, Instance>,
    statuses: BTreeMap<InstanceId, InstanceStatus>,
    alarms: BTreeMap<String, Alarm>,
    latency: Duration,
    /// The tag that a member carries.
    cluster_key: String,
}

impl Tape {
    fn of(log: &[Record]) -> Tape {
        let mut tape = Tape::default();
        for record in log {
            match record.clone() {
                Record::Reading { at, asked, look, changed, gone } => {
                    let reads = tape.reads.entry(asked).or_default();
                    match reads.iter_mut().find(|(of, ..)| *of == look) {
                        Some((_, _, Ok(parts))) => parts.push((changed, gone)),
                        _ => reads.push((look, at, Ok(vec![(changed, gone)]))),
                    }
                }
                Record::ReadingFailed { at, asked, look, error } => {
                    tape.reads.entry(asked).or_default().push((look, at, Err(error)));
                }
                Record::Probe { at, started, target, answer, .. } => tape.failed.push((started, target, at, answer)),
                Record::Passes { at, since, node, check, slowest_ms, answer, .. } => {
                    tape.passes.push((node, check, since, at, Duration::from_millis(slowest_ms), answer));
                }
                Record::Start { prefix, .. } => tape.cluster_key = Keys::new(&prefix).cluster,
                Record::Call { at, asked, act, error } => tape.calls.push_back((act, at.since(asked), error)),
                _ => {}
            }
        }
        tape
    }

    fn take(&mut self, seen: Seen, gone: &[String]) {
        match seen {
            Seen::Addresses(list) => self.addresses.extend(list.into_iter().map(|of| (of.id.clone(), of))),
            Seen::Instances(list) => {
                for of in &list {
                    if of.ends_status(self.instances.get(&of.id)) {
                        self.statuses.remove(&of.id);
                    }
                }
                self.probed.extend(list.iter().map(|of| (of.id.clone(), of.clone())));
                self.instances.extend(list.into_iter().map(|of| (of.id.clone(), of)));
            }
            Seen::Status(list) => self.statuses.extend(list.into_iter().map(|of| (of.id.clone(), of))),
            Seen::Alarms(list) => self.alarms.extend(list.into_iter().map(|of| (of.name.clone(), of))),
            // A search drops the members that it does not name.
            Seen::InstanceTags(named) => {
                let key = &self.cluster_key;
                self.instances.retain(|id, of| named.contains_key(id) || !of.tags.contains_key(key));
            }
            Seen::Interfaces(_) => {}
        }
        for id in gone {
            self.addresses.remove(&AllocationId::from(id.as_str()));
            self.instances.remove(&InstanceId::from(id.as_str()));
            self.statuses.remove(&InstanceId::from(id.as_str()));
            self.alarms.remove(id);
        }
    }

    fn look(&mut self, now: Time, look: &Look) -> (Time, Result<Seen, CloudError>) {
        let recorded = self.reads.get_mut(&now).and_then(|reads| {
            let at = reads.iter().position(|(of, ..)| of == look)?;
            Some(reads.remove(at))
        });
        let mut at = now + self.latency;
        let mut whole = None;
        if let Some((_, answered, result)) = recorded {
            self.latency = answered.since(now);
            at = answered;
            match result {
                Err(error) => return (at, Err(error)),
                Ok(parts) => {
                    for (seen, gone) in parts {
                        if matches!(seen, Seen::InstanceTags(_) | Seen::Interfaces(_)) {
                            whole = Some(seen.clone());
                        }
                        self.take(seen, &gone);
                    }
                }
            }
        }
        let seen = match look {
            Look::Addresses => Seen::Addresses(self.addresses.values().cloned().collect()),
            Look::Instances(_) => Seen::Instances(self.instances.values().cloned().collect()),
            Look::InstancesById(ids) => {
                Seen::Instances(ids.iter().filter_map(|id| self.instances.get(id).cloned()).collect())
            }
            Look::Status(_) => Seen::Status(self.statuses.values().cloned().collect()),
            Look::Alarms(_) => Seen::Alarms(self.alarms.values().cloned().collect()),
            Look::InstanceTags(_) => whole.unwrap_or(Seen::InstanceTags(BTreeMap::new())),
            Look::Interfaces(_) => whole.unwrap_or(Seen::Interfaces(Vec::new())),
        };
        (at, Ok(seen))
    }

    fn probe(&mut self, now: Time, target: &ProbeTarget) -> (Time, Answer) {
        if let Some(at) = self.failed.iter().position(|(started, of, ..)| *started == now && of == target) {
            let (_, _, at, answer) = self.failed.remove(at);
            return (at, answer);
        }
        let check = check_of(target);
        let owner = self.probed.values().find(|of| {
            of.public_ip == Some(target.ip) || of.interfaces.iter().any(|nic| nic.private_ips.contains(&target.ip))
        });
        let passed = self.passes.iter().find(|(node, of, since, until, ..)| {
            owner.is_some_and(|owner| owner.id == *node) && *of == check && *since <= now && now <= *until
        });
        match passed {
            Some((.., slowest, answer)) => (now + *slowest, answer.clone()),
            // Nothing was made of its answer.
            None => (now + target.timeout, Answer::TimedOut),
        }
    }

    fn call(&mut self, now: Time, act: &Act) -> (Time, Result<(), CloudError>) {
        match self.calls.iter().position(|(of, ..)| is_same(of, act)).and_then(|at| self.calls.remove(at)) {
            Some((_, took, Some(error))) => (now + took, Err(error)),
            Some((_, took, None)) => (now + took, Ok(())),
            None => (now, Ok(())),
        }
    }
}

/// Whether two calls are the same, also where a log from before 2026-11-28 does not say that an address is only taken from nobody.
fn is_same(of: &Act, act: &Act) -> bool {
    let mut of = of.clone();
    if let (Act::Associate { only_if_unheld: logged, .. }, Act::Associate { only_if_unheld, .. }) = (&mut of, act) {
        *logged |= *only_if_unheld;
    }
    of == *act
}

/// Runs a watch anew on what its log recorded.
///
/// # Errors
/// The log does not begin with its start, or the watch does not end.
pub fn again(log: &[Record]) -> Result<Vec<Record>, Odd> {
    let Some(Record::Start { at, triggers, watch_ms, deadline, manual, shard, prefix, .. }) = log.first() else {
        return Err(Odd::NoStart);
    };
    let settings =
        Settings { keys: Keys::new(prefix), watch: Duration::from_millis(*watch_ms), manual: *manual, shard: *shard };
    let mut tape = Tape::of(log);
    let mut watch = Watch::new(triggers.clone(), settings, *at, *deadline);
    let mut inputs: BTreeMap<(Time, u64), Input> = BTreeMap::new();
    let (mut now, mut number) = (*at, 0);
    let mut told = Vec::new();
    for _ in 0..MAX_STEPS {
        for effect in watch.poll(now) {
            number += 1;
            let (at, input) = match effect {
                Effect::Log(record) => {
                    told.push(record);
                    continue;
                }
                Effect::Look(id, look) => {
                    let (at, answer) = tape.look(now, &look);
                    (at, Input::Looked(id, answer))
                }
                Effect::Probe(id, target) => {
                    let (at, answer) = tape.probe(now, &target);
                    (at, Input::Probed(id, answer))
                }
                Effect::Act(id, act) => {
                    let (at, answer) = tape.call(now, &act);
                    (at, Input::Acted(id, answer))
                }
            };
            inputs.insert((at.max(now), number), input);
        }
        let Some(wake) = watch.next_wake() else { return Ok(told) };
        match inputs.first_key_value() {
            Some(((at, _), _)) if *at <= wake => {
                if let Some(((at, _), input)) = inputs.pop_first() {
                    now = now.max(at);
                    watch.feed(input, now);
                }
            }
            _ => now = now.max(wake),
        }
    }
    Err(Odd::NoEnd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_before_does_not_say_what_is_taken_from_nobody() {
        let associate = |only_if_unheld| Act::Associate {
            address: "eipalloc-1".into(),
            interface: "eni-1".into(),
            private_ip: std::net::Ipv4Addr::LOCALHOST,
            only_if_unheld,
            dry_run: false,
        };
        assert!(is_same(&associate(false), &associate(true)) && is_same(&associate(true), &associate(true)));
        assert!(!is_same(&associate(true), &associate(false)));
        let mut written = serde_json::to_value(associate(true)).unwrap();
        written["associate"].as_object_mut().unwrap().remove("only_if_unheld");
        assert_eq!(serde_json::from_value::<Act>(written).unwrap(), associate(false));
    }
}
