//! The log is complete enough to be fed back: the same watch, given what its own log recorded, decides the same.

use std::collections::{BTreeMap, VecDeque};

use eipwatch::core::log::Record;
use eipwatch::core::model::{
    Act, Address, Alarm, AllocationId, Answer, CloudError, Instance, InstanceId, InstanceStatus, Look, ProbeTarget,
    Scheme, Seen,
};
use eipwatch::core::tags::Keys;
use eipwatch::core::time::Time;
use eipwatch::core::watch::{Effect, Input, Settings, Watch};
use eipwatch::embedded::ec2::{Api, Place};
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::sim::world::{Behaviour, spot_event};
use std::time::Duration;

use super::{A, B, Scene};

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
    statuses: BTreeMap<InstanceId, InstanceStatus>,
    alarms: BTreeMap<String, Alarm>,
    latency: Duration,
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
                Record::Call { at, asked, act, error } => tape.calls.push_back((act, at.since(asked), error)),
                _ => {}
            }
        }
        tape
    }

    fn take(&mut self, seen: Seen, gone: &[String]) {
        match seen {
            Seen::Addresses(list) => self.addresses.extend(list.into_iter().map(|of| (of.id.clone(), of))),
            Seen::Instances(list) => self.instances.extend(list.into_iter().map(|of| (of.id.clone(), of))),
            Seen::Status(list) => self.statuses.extend(list.into_iter().map(|of| (of.id.clone(), of))),
            Seen::Alarms(list) => self.alarms.extend(list.into_iter().map(|of| (of.name.clone(), of))),
            Seen::InstanceTags(_) | Seen::Interfaces(_) => {}
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
        let path = if &*target.path == "/" { "" } else { &*target.path };
        let scheme = match target.scheme {
            Scheme::Tcp => "tcp",
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let check = format!("{scheme}:{}{path}", target.port);
        let owner = self.instances.values().find(|of| {
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
        match self.calls.iter().position(|(of, ..)| of == act).and_then(|at| self.calls.remove(at)) {
            Some((_, took, Some(error))) => (now + took, Err(error)),
            Some((_, took, None)) => (now + took, Ok(())),
            None => (now, Ok(())),
        }
    }
}

/// Runs a watch anew on what its log recorded.
fn replay(log: &[Record]) -> Vec<Record> {
    let Some(Record::Start { at, triggers, watch_ms, deadline, manual, shard, prefix, .. }) = log.first() else {
        panic!("a log begins with its start")
    };
    let settings =
        Settings { keys: Keys::new(prefix), watch: Duration::from_millis(*watch_ms), manual: *manual, shard: *shard };
    let mut tape = Tape::of(log);
    let mut watch = Watch::new(triggers.clone(), settings, *at, *deadline);
    let mut inputs: BTreeMap<(Time, u64), Input> = BTreeMap::new();
    let (mut now, mut number) = (*at, 0);
    let mut told = Vec::new();
    for _ in 0..1_000_000 {
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
        let Some(wake) = watch.next_wake() else { return told };
        match inputs.first_key_value() {
            Some(((at, _), _)) if *at <= wake => {
                let ((at, _), input) = inputs.pop_first().expect("it is there");
                now = now.max(at);
                watch.feed(input, now);
            }
            _ => now = now.max(wake),
        }
    }
    panic!("the replay does not end")
}

/// What was decided and moved, and when.
fn decisions(log: &[Record]) -> Vec<String> {
    let of = |record: &Record| match record {
        Record::Decision { at, address, decision, .. } => {
            Some(format!("{} {address} {:?} {} {:?}", at.as_millis(), decision.kind, decision.why, decision.to))
        }
        Record::Verdict { at, node, to, .. } => Some(format!("{} {node} {to:?}", at.as_millis())),
        Record::Move { at, address, result, .. } => {
            Some(format!("{} {address} moved {:?} {}", at.as_millis(), result.to, result.ok))
        }
        _ => None,
    };
    log.iter().filter_map(of).collect()
}

/// A recorded run, fed back, gives identical verdicts, decisions and moves, at the same times.
#[test]
fn a_recorded_run_fed_back_gives_identical_decisions() {
    type Trouble = fn(&mut Scene);
    let fixed = Rule::new(Fault::Latency { min_ms: 40, max_ms: 40 });
    let troubles: [(&str, Trouble); 9] = [
        ("a dead service", |scene| scene.refuse(A)),
        ("a hung node", |scene| scene.service(A, Behaviour::Silent)),
        ("a node that flaps", |scene| scene.service(A, Behaviour::Flap { up_ms: 1_700, down_ms: 2_300 })),
        ("a stopped node", |scene| scene.stop_node(A)),
        ("a drain", |scene| scene.tag_node(A, "mode", "drain")),
        ("a move by hand", |scene| scene.by_hand(0, Some(B))),
        ("an address taken away", |scene| scene.by_hand(0, None)),
        ("a disrupted zone", |scene| {
            scene.refuse(A);
            scene.ec2.faults_mut().push(Rule::new(Fault::Zone { zone: "eu-west-1a".to_owned(), unnamed: true }));
        }),
        ("failing calls", |scene| {
            scene.refuse(A);
            scene.ec2.faults_mut().push(Rule::error("InternalError").chance(300));
            scene.ec2.faults_mut().push(Rule::error("RequestLimitExceeded").on(Api::AssociateAddress).chance(500));
        }),
    ];
    let mut moved = 0;
    for (name, trouble) in troubles {
        let mut scene = Scene::seasoned(2, 3);
        scene.ec2.faults_mut().push(fixed.clone());
        let at_ms = scene.now_ms() + 12_345;
        scene.at(at_ms, move |world| {
            let mut inner = Scene { world: std::mem::replace(world, eipwatch::sim::world::World::new(0)) };
            trouble(&mut inner);
            *world = inner.world;
        });
        let told = scene.watch(55);
        let log = scene.log(told.handle);
        moved += log.iter().filter(|record| matches!(record, Record::Move { .. })).count();
        assert_eq!(decisions(&replay(log)), decisions(log), "{name}");
    }
    assert!(moved >= 12, "{moved} moves");
}

/// The same of events, stale reads and heartbeats.
#[test]
fn recorded_events_and_stale_reads_fed_back_give_identical_decisions() {
    let mut scene = Scene::pair();
    // Calls that take no time at all would leave two readings of one moment in the log.
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 40, max_ms: 40 }));
    let spot = spot_event(&scene.node(A), scene.now_ms());
    let told = scene.send(&spot);
    assert_eq!(decisions(&replay(scene.log(told.handle))), decisions(scene.log(told.handle)));
    let mut scene = Scene::seasoned(1, 3);
    scene.tag_address(0, "check", "heartbeat http:8080/health");
    for n in 0..3 {
        let id = scene.node(n);
        scene.start_agent(&id, 5_000, 0);
    }
    scene.ec2.faults_mut().push(Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 6_000 }));
    let now_ms = scene.now_ms();
    scene.at(now_ms + 9_000, |world| world.service(&world.node(A), Behaviour::Refuse));
    scene.at(now_ms + 40_000, |world| {
        let (ip, c, now_ms) = (world.address(0), world.node(2), world.now().as_millis());
        world.ec2.move_by_hand(&ip, Place::Instance(&c), now_ms);
    });
    let told = scene.watch(55);
    let log = scene.log(told.handle);
    assert!(log.iter().any(|record| matches!(record, Record::Move { .. })));
    assert_eq!(decisions(&replay(log)), decisions(log));
}
