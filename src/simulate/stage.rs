//! A scenario put on the stage: its world, its misfortunes, and the truth about who served whom.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::json;

use super::scenario::{Scenario, What};
use crate::core::model::{AllocationId, InstanceId};
use crate::core::time::Time;
use crate::embedded::ec2::{Check, CheckKind, Id, InstanceSpec, Place, State, Tags};
use crate::embedded::faults::{Fault, Rule};
use crate::sim::world::{Behaviour, Delivery, PORT, SERVES, START_MS, World, spot_event};
use crate::timeline::build::{Down, Downs, Held};
use crate::timeline::words::length;

/// How long a client waits for an answer, in milliseconds: a slower service does not serve.
pub const CLIENT_PATIENCE_MS: u64 = 1_000;
/// How long after a crash EC2's instance status check is impaired, in milliseconds.
const IMPAIRED_AFTER_MS: u64 = 120_000;
/// How long a reboot takes where the scenario does not say, in milliseconds.
const REBOOT_MS: u64 = 40_000;
/// How long before its end a Spot instance is warned, in milliseconds.
const SPOT_WARNING_MS: u64 = 120_000;
/// How long an instance takes to stop, and a little more, in milliseconds.
const STOPPED_AFTER_MS: u64 = 21_000;
/// The most short faults that chance brings into one scenario.
pub const MAX_TRANSIENTS: usize = 200_000;

/// What befalls the nodes' services at the moment, by the number of the fault: the newest one shows.
#[derive(Default)]
struct Afflictions {
    services: Vec<BTreeMap<usize, Behaviour>>,
    cuts: Vec<usize>,
    /// What was done to whoever held the address then.
    done: Vec<(Time, Option<InstanceId>, String)>,
    /// Counts what may have changed what clients see.
    changes: u64,
}

#[derive(Clone)]
struct Shared(Rc<RefCell<Afflictions>>);

/// A node on the stage.
#[derive(Clone)]
struct Actor {
    index: usize,
    id: Id,
    port: u16,
}

impl Shared {
    fn changed(&self) {
        self.0.borrow_mut().changes += 1;
    }

    fn changes(&self) -> u64 {
        self.0.borrow().changes
    }

    fn service(&self, world: &mut World, actor: &Actor, fault: usize, behaviour: Option<Behaviour>) {
        let shown = {
            let mut all = self.0.borrow_mut();
            all.changes += 1;
            let Some(of_node) = all.services.get_mut(actor.index) else { return };
            match behaviour {
                Some(behaviour) => of_node.insert(fault, behaviour),
                None => of_node.remove(&fault),
            };
            of_node.last_key_value().map_or(SERVES, |(_, behaviour)| *behaviour)
        };
        world.service_on(&actor.id, actor.port, shown);
        if actor.port != PORT {
            world.service(&actor.id, shown);
        }
    }

    fn cut(&self, world: &mut World, actor: &Actor, is_cut: bool) {
        let left = {
            let mut all = self.0.borrow_mut();
            let Some(count) = all.cuts.get_mut(actor.index) else { return };
            *count = if is_cut { *count + 1 } else { count.saturating_sub(1) };
            *count
        };
        world.cut(None, &actor.id, left > 0);
    }
}

/// What a world came to.
pub struct Staged {
    /// The world at the end, with all logs.
    pub world: World,
    /// When which node did not serve.
    pub downs: Downs,
    /// Who held which address.
    pub held: Held,
    /// What was done: when, to which node (`None`: to EC2 itself), in words.
    pub done: Vec<(Time, Option<InstanceId>, String)>,
    /// The end.
    pub to: Time,
}

/// Plays a scenario under the policies given, one for each cluster.
pub fn play(scenario: &Scenario, policies: &[String]) -> Staged {
    let mut stage = Stage::new(scenario, policies);
    stage.plan();
    stage.run()
}

struct Stage<'a> {
    scenario: &'a Scenario,
    world: World,
    shared: Shared,
    actors: Vec<Actor>,
    /// By cluster.
    addresses: Vec<Vec<Id>>,
    done: Vec<(Time, Option<InstanceId>, String)>,
}

impl<'a> Stage<'a> {
    fn new(scenario: &'a Scenario, policies: &[String]) -> Stage<'a> {
        let mut world = World::new(scenario.seed);
        world.settings.watch = std::time::Duration::from_millis(scenario.watch_ms);
        world.boot_ms = scenario.boot_ms;
        world.network_ms = scenario.network_ms;
        world.delivery = scenario.events_ms.map(|(min_ms, max_ms)| Delivery {
            min_ms,
            max_ms,
            lost_per_mille: 0,
            doubled_per_mille: 0,
        });
        let mut actors = Vec::new();
        for (index, node) in scenario.nodes.iter().enumerate() {
            let cluster = scenario.clusters.get(node.cluster);
            let name = cluster.map(|cluster| cluster.name.clone()).unwrap_or_default();
            let mut tags = Tags::from([("eipwatch:cluster".to_owned(), name), ("Name".to_owned(), node.name.clone())]);
            if let Some(priority) = node.priority {
                tags.insert("eipwatch:priority".to_owned(), priority.to_string());
            }
            let id = world.launch(InstanceSpec { zone: node.zone.clone(), tags, ..InstanceSpec::default() });
            let port = cluster.map_or(PORT, |cluster| cluster.port);
            world.service_on(&id, port, SERVES);
            actors.push(Actor { index, id, port });
        }
        let mut addresses = Vec::new();
        for (index, cluster) in scenario.clusters.iter().enumerate() {
            let mut of_cluster = Vec::new();
            let here: Vec<Actor> = actors
                .iter()
                .filter(|actor| scenario.nodes.get(actor.index).is_some_and(|node| node.cluster == index))
                .cloned()
                .collect();
            for number in 0..cluster.addresses {
                let mut tags = Tags::from([
                    ("eipwatch:cluster".to_owned(), cluster.name.clone()),
                    ("eipwatch:check".to_owned(), cluster.check.clone()),
                ]);
                let policy = policies.get(index).filter(|policy| !policy.is_empty());
                tags.extend(policy.map(|policy| ("eipwatch:policy".to_owned(), policy.clone())));
                if !cluster.mode.is_empty() {
                    tags.insert("eipwatch:mode".to_owned(), cluster.mode.clone());
                }
                let named = |name: &String| {
                    here.iter().find(|actor| scenario.nodes.get(actor.index).is_some_and(|node| node.name == *name))
                };
                let prefer = cluster.prefer.as_ref().and_then(named);
                tags.extend(prefer.map(|actor| ("eipwatch:prefer".to_owned(), actor.id.to_string())));
                let id = world.ec2.add_address(tags);
                for (at, actor) in here.iter().enumerate() {
                    let ip = if number == 0 { None } else { world.add_private_ip(&actor.id) };
                    if at > 0 {
                        continue;
                    }
                    let now_ms = world.ec2.now_ms();
                    match (ip, world.ec2.primary_interface(&actor.id)) {
                        (Some(ip), Some(nic)) => world.ec2.move_by_hand(&id, Place::Interface(&nic, ip), now_ms),
                        _ => world.ec2.move_by_hand(&id, Place::Instance(&actor.id), now_ms),
                    };
                }
                of_cluster.push(id);
            }
            addresses.push(of_cluster);
        }
        world.settle();
        let (min_ms, max_ms) = scenario.latency_ms;
        world.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms, max_ms }));
        for (actor, node) in actors.iter().zip(&scenario.nodes) {
            if let Some(every_ms) = node.agent_ms {
                world.start_agent(&actor.id, every_ms, 0);
            }
        }
        let afflictions = Afflictions {
            services: vec![BTreeMap::new(); actors.len()],
            cuts: vec![0; actors.len()],
            done: Vec::new(),
            changes: 0,
        };
        Stage {
            scenario,
            world,
            shared: Shared(Rc::new(RefCell::new(afflictions))),
            actors,
            addresses,
            done: Vec::new(),
        }
    }

    fn tell(&mut self, at_ms: u64, node: Option<&Actor>, text: String) {
        let node = node.map(|actor| InstanceId::from(&*actor.id));
        self.done.push((Time::from_millis(START_MS + at_ms), node, text));
    }

    /// Writes everything into the world's calendar.
    fn plan(&mut self) {
        let scenario = self.scenario;
        let mut at_ms = 0;
        while at_ms < scenario.duration_ms {
            self.world.scheduled(at_ms);
            at_ms += scenario.every_ms;
        }
        for (number, fault) in scenario.faults.iter().enumerate() {
            let actors: Vec<Actor> = fault.nodes.iter().filter_map(|at| self.actors.get(*at).cloned()).collect();
            match &fault.what {
                What::Api { error, calls, per_mille } => {
                    let end_ms = fault.until_ms.unwrap_or(scenario.duration_ms);
                    let mut rule =
                        Rule::error(error).between(START_MS + fault.at_ms, START_MS + end_ms).chance(*per_mille);
                    rule.apis.clone_from(calls);
                    self.world.ec2.faults_mut().push(rule);
                    let which = if calls.is_empty() {
                        "every call".to_owned()
                    } else {
                        calls.iter().map(|call| format!("{call:?}")).collect::<Vec<_>>().join(", ")
                    };
                    let share = if *per_mille == 1_000 { String::new() } else { format!(", {} of 1000", per_mille) };
                    self.tell(fault.at_ms, None, format!("EC2's API answers {which} with {error}{share}."));
                    self.tell(end_ms, None, "EC2's API answers again.".to_owned());
                }
                What::Zone(zone) => {
                    let end_ms = fault.until_ms.unwrap_or(scenario.duration_ms);
                    let rule = Rule::new(Fault::Zone { zone: zone.clone(), unnamed: true });
                    self.world.ec2.faults_mut().push(rule.between(START_MS + fault.at_ms, START_MS + end_ms));
                    self.tell(fault.at_ms, None, format!("The zone {zone} is lost."));
                }
                _ => {}
            }
            for actor in actors {
                self.befall(number, fault.at_ms, fault.until_ms, &fault.what, &actor);
            }
            if let Some(cluster) = fault.holder_of {
                self.befall_holder(number, fault.at_ms, fault.until_ms, &fault.what, cluster);
            }
        }
        self.plan_transients();
    }

    fn plan_transients(&mut self) {
        let Some(transient) = &self.scenario.transient else { return };
        let mut rng = fastrand::Rng::with_seed(self.scenario.seed ^ 0x7a6e);
        let mean_ms = 3_600_000.0 / transient.per_hour;
        let mut number = self.scenario.faults.len();
        for actor in self.actors.clone() {
            let mut at = 0.0_f64;
            loop {
                // Times between events that come independently of each other, and lengths of which short ones are more frequent.
                at += -(1.0 - rng.f64()).ln() * mean_ms;
                let ratio = transient.max_ms as f64 / transient.min_ms as f64;
                let lasts = transient.min_ms as f64 * ratio.powf(rng.f64());
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "positive, and days at most"
                )]
                let (at_ms, length_ms) = (at as u64, (lasts as u64).max(1));
                if at_ms >= self.scenario.duration_ms || number >= self.scenario.faults.len() + MAX_TRANSIENTS {
                    break;
                }
                self.befall(number, at_ms, Some(at_ms + length_ms), &transient.what, &actor);
                number += 1;
            }
        }
    }

    /// Who is down does not beat.
    fn agent_stops(&mut self, node: &Id, at_ms: u64, until_ms: Option<u64>) {
        for (at_ms, alive) in [(Some(at_ms), false), (until_ms, true)] {
            let (Some(at_ms), node) = (at_ms, node.clone()) else { continue };
            self.world.at(at_ms, move |world| {
                if let Some(agent) = world.agents.get_mut(&node) {
                    agent.alive = alive;
                }
            });
        }
    }

    fn befall(&mut self, number: usize, at_ms: u64, until_ms: Option<u64>, what: &What, actor: &Actor) {
        let shared = self.shared.clone();
        let it = actor.clone();
        let lasts = until_ms.map(|until_ms| format!(" for {}", length(until_ms - at_ms))).unwrap_or_default();
        let service = |stage: &mut Stage<'_>, behaviour: Behaviour, text: &str| {
            let (begin, end) = (shared.clone(), shared.clone());
            let (one, other) = (it.clone(), it.clone());
            stage.world.at(at_ms, move |world| begin.service(world, &one, number, Some(behaviour)));
            if let Some(until_ms) = until_ms {
                stage.world.at(until_ms, move |world| end.service(world, &other, number, None));
            }
            stage.tell(at_ms, Some(&it), format!("{text}{lasts}."));
        };
        match what {
            What::DeadService => service(self, Behaviour::Refuse, "Its service is gone"),
            What::Hang => service(self, Behaviour::Hang, "Its service hangs"),
            What::Status(code) => service(self, Behaviour::Status(*code), &format!("Its service answers {code}")),
            What::Slow(latency_ms) => {
                let slow = Behaviour::Serve { latency_ms: *latency_ms };
                service(self, slow, &format!("Its service takes {}", length(*latency_ms)));
            }
            What::Zone(_) => {
                service(self, Behaviour::Silent, "It is lost with its zone");
                self.agent_stops(&actor.id, at_ms, until_ms);
            }
            What::Crash => {
                service(self, Behaviour::Silent, "The machine crashes");
                self.agent_stops(&actor.id, at_ms, until_ms);
                let crashed = until_ms.is_none_or(|until_ms| until_ms > at_ms + IMPAIRED_AFTER_MS);
                if crashed {
                    let (one, other) = (actor.id.clone(), actor.id.clone());
                    self.world.at(at_ms + IMPAIRED_AFTER_MS, move |world| {
                        let now_ms = world.now().as_millis();
                        world.ec2.set_status(&one, CheckKind::Instance, Check::Impaired, now_ms);
                    });
                    if let Some(until_ms) = until_ms {
                        self.world.at(until_ms, move |world| {
                            let now_ms = world.now().as_millis();
                            world.ec2.set_status(&other, CheckKind::Instance, Check::Ok, now_ms);
                        });
                    }
                }
            }
            What::Flap { down_ms, up_ms } => {
                let end_ms = until_ms.unwrap_or(self.scenario.duration_ms).min(self.scenario.duration_ms);
                flip(&mut self.world, shared, actor.clone(), number, at_ms, end_ms, (*down_ms, *up_ms));
                let text = format!("Its service flaps, {} down and {} up{lasts}.", length(*down_ms), length(*up_ms));
                self.tell(at_ms, Some(actor), text);
            }
            What::Cut => {
                let (end, one, other) = (shared.clone(), actor.clone(), actor.clone());
                self.world.at(at_ms, move |world| shared.cut(world, &one, true));
                if let Some(until_ms) = until_ms {
                    self.world.at(until_ms, move |world| end.cut(world, &other, false));
                }
                self.tell(at_ms, Some(actor), format!("The function cannot reach it{lasts}; clients can."));
            }
            What::Reboot => {
                let away_ms = until_ms.map_or(REBOOT_MS, |until_ms| until_ms - at_ms);
                let id = actor.id.clone();
                let (begin, end) = (shared.clone(), shared);
                self.world.at(at_ms, move |world| {
                    world.reboot(&id, away_ms);
                    begin.changed();
                });
                self.world.at(at_ms + away_ms, move |_| end.changed());
                self.tell(at_ms, Some(actor), format!("It is rebooted: its service is away for {}.", length(away_ms)));
            }
            What::Stop => {
                let (one, other) = (actor.id.clone(), actor.id.clone());
                self.world.at(at_ms, move |world| {
                    let now_ms = world.now().as_millis();
                    world.ec2.stop_instance(&one, now_ms);
                });
                if let Some(until_ms) = until_ms {
                    self.world.at(until_ms.max(at_ms + STOPPED_AFTER_MS), move |world| {
                        let now_ms = world.now().as_millis();
                        world.ec2.start_instance(&other, now_ms);
                    });
                }
                self.tell(at_ms, Some(actor), format!("Somebody stops it{lasts}."));
            }
            What::Terminate => self.terminate(at_ms, actor, "Somebody terminates it."),
            What::Spot => {
                let id = actor.id.clone();
                self.world.at(at_ms, move |world| {
                    let now_ms = world.now_ms();
                    world.invoke(&spot_event(&id, now_ms), now_ms + 500);
                });
                self.tell(at_ms, Some(actor), "EC2 warns that it will take it back in 2 minutes.".to_owned());
                self.terminate(at_ms + SPOT_WARNING_MS, actor, "EC2 takes it back.");
            }
            What::Drain => {
                self.command(at_ms, json!({"action": "drain", "node": &*actor.id}));
                if let Some(until_ms) = until_ms {
                    self.command(until_ms, json!({"action": "undrain", "node": &*actor.id}));
                }
            }
            What::Move | What::ByHand => {
                let cluster = self.scenario.nodes.get(actor.index).map_or(0, |node| node.cluster);
                let name = self.scenario.clusters.get(cluster).map(|cluster| cluster.name.clone()).unwrap_or_default();
                let addresses = self.addresses.get(cluster).cloned().unwrap_or_default();
                if *what == What::Move {
                    for address in addresses {
                        let ip = self.world.ec2.elastic_ip(&address).map(|ip| ip.to_string()).unwrap_or_default();
                        let payload = json!({"action": "move", "cluster": name, "address": ip, "to": &*actor.id});
                        self.command(at_ms, payload);
                    }
                    return;
                }
                let id = actor.id.clone();
                self.world.at(at_ms, move |world| {
                    let now_ms = world.now().as_millis();
                    let Some(nic) = world.ec2.primary_interface(&id) else { return };
                    let of_it = world.ec2.interfaces_of(&id).find(|one| one.id == nic);
                    let ips = of_it.map(|nic| nic.private_ips.clone()).unwrap_or_default();
                    for (address, ip) in addresses.iter().zip(ips) {
                        world.ec2.move_by_hand(address, Place::Interface(&nic, ip), now_ms);
                    }
                });
                self.tell(at_ms, Some(actor), "Somebody moves the addresses to it, past eipwatch.".to_owned());
            }
            What::Api { .. } => {}
        }
    }

    /// The same to whoever holds the cluster's first address when it happens.
    fn befall_holder(&mut self, number: usize, at_ms: u64, until_ms: Option<u64>, what: &What, cluster: usize) {
        let Some(address) = self.addresses.get(cluster).and_then(|addresses| addresses.first()).cloned() else {
            return;
        };
        let (actors, shared) = (self.actors.clone(), self.shared.clone());
        let (behaviour, text) = match what {
            What::DeadService => (Some(Behaviour::Refuse), "Its service is gone"),
            What::Hang => (Some(Behaviour::Hang), "Its service hangs"),
            What::Status(code) => (Some(Behaviour::Status(*code)), "Its service answers with an error"),
            What::Slow(latency_ms) => (Some(Behaviour::Serve { latency_ms: *latency_ms }), "Its service is slow"),
            What::Cut => (None, "The function cannot reach it; clients can"),
            _ => (Some(Behaviour::Silent), "The machine crashes"),
        };
        let lasts = until_ms.map(|until_ms| format!(" for {}", length(until_ms - at_ms))).unwrap_or_default();
        let text = format!("{text}{lasts}.");
        self.world.at(at_ms, move |world| {
            let Some(actor) =
                world.ec2.holder(&address).and_then(|id| actors.iter().find(|actor| actor.id == *id)).cloned()
            else {
                return;
            };
            shared.0.borrow_mut().done.push((world.now(), Some(InstanceId::from(&*actor.id)), text));
            match behaviour {
                Some(behaviour) => shared.service(world, &actor, number, Some(behaviour)),
                None => shared.cut(world, &actor, true),
            }
            if let Some(until_ms) = until_ms {
                world.at(until_ms, move |world| match behaviour {
                    Some(_) => shared.service(world, &actor, number, None),
                    None => shared.cut(world, &actor, false),
                });
            }
        });
    }

    fn terminate(&mut self, at_ms: u64, actor: &Actor, text: &str) {
        let id = actor.id.clone();
        self.world.at(at_ms, move |world| {
            let now_ms = world.now().as_millis();
            world.ec2.terminate_instance(&id, now_ms);
        });
        self.tell(at_ms, Some(actor), text.to_owned());
    }

    fn command(&mut self, at_ms: u64, payload: serde_json::Value) {
        if at_ms < self.scenario.duration_ms {
            self.world.invoke(&payload, at_ms);
        }
    }

    /// Lets it all happen.
    fn run(mut self) -> Staged {
        let end_ms = self.scenario.duration_ms;
        let mut truth = Truth { since: vec![None; self.actors.len()], downs: Downs::new() };
        let mut seen = (0, 0);
        // Bounded by the calendar: every step takes something out of it, or time on.
        while self.world.step_until(end_ms) {
            let now = (self.shared.changes(), self.world.ec2.state_changes().len());
            if now != seen {
                truth.look(&self.world, &self.actors);
                if now.1 != seen.1 {
                    // A service starts some time after its instance runs.
                    let (boot_ms, now_ms) = (self.world.boot_ms, self.world.now_ms());
                    let shared = self.shared.clone();
                    self.world.at(now_ms + boot_ms, move |_| shared.changed());
                }
                seen = now;
            }
        }
        self.world.run_until(end_ms);
        let to = Time::from_millis(START_MS + end_ms);
        truth.end(&self.actors, to);
        let mut held = Held::new();
        for placed in self.world.ec2.history() {
            let holder = placed.association.as_ref().and_then(|at| at.instance.as_deref()).map(InstanceId::from);
            let changes = held.entry(AllocationId::from(&*placed.allocation)).or_default();
            let at = Time::from_millis(placed.at_ms);
            if placed.at_ms <= START_MS {
                changes.clear();
            }
            if changes.last().is_none_or(|(_, last)| *last != holder) {
                changes.push((at, holder));
            }
        }
        self.done.append(&mut self.shared.0.borrow_mut().done);
        Staged { world: self.world, downs: truth.downs, held, done: self.done, to }
    }
}

/// Who serves, as clients would find it.
struct Truth {
    since: Vec<Option<(Time, String)>>,
    downs: Downs,
}

impl Truth {
    fn look(&mut self, world: &World, actors: &[Actor]) {
        let now = world.now();
        for actor in actors {
            let text = ailment(world, &actor.id);
            let Some(before) = self.since.get_mut(actor.index) else { continue };
            if before.as_ref().map(|(_, text)| text) == text.as_ref() {
                continue;
            }
            let after = text.map(|text| (now, text));
            if let Some((from, text)) = std::mem::replace(before, after) {
                let id = InstanceId::from(&*actor.id);
                self.downs.entry(id).or_default().push(Down { from, to: now, text });
            }
        }
    }

    fn end(&mut self, actors: &[Actor], to: Time) {
        for actor in actors {
            if let Some((from, text)) = self.since.get_mut(actor.index).and_then(Option::take) {
                let id = InstanceId::from(&*actor.id);
                self.downs.entry(id).or_default().push(Down { from, to, text });
            }
        }
        for downs in self.downs.values_mut() {
            downs.retain(|down| down.from < down.to);
        }
    }
}

/// Why a node serves nobody; `None`: it serves.
fn ailment(world: &World, id: &Id) -> Option<String> {
    match world.ec2.state(id) {
        Some(State::Running) => {}
        Some(state) => return Some(format!("it is {}", state.as_str())),
        None => return Some("it does not exist any more".to_owned()),
    }
    match world.answers(id) {
        Behaviour::Serve { latency_ms } if latency_ms >= CLIENT_PATIENCE_MS => {
            Some(format!("its service takes {}", length(latency_ms)))
        }
        Behaviour::Serve { .. } => None,
        Behaviour::Status(code) if (200..400).contains(&code) => None,
        Behaviour::Status(code) => Some(format!("its service answers {code}")),
        Behaviour::Refuse | Behaviour::Flap { .. } => Some("its service refuses connections".to_owned()),
        Behaviour::Hang => Some("its service hangs".to_owned()),
        Behaviour::Silent => Some("it answers nobody".to_owned()),
    }
}

/// A service goes, comes back, and goes again.
fn flip(world: &mut World, shared: Shared, actor: Actor, number: usize, at_ms: u64, end_ms: u64, times: (u64, u64)) {
    world.at(at_ms, move |world| {
        shared.service(world, &actor, number, Some(Behaviour::Refuse));
        let up_ms = (at_ms + times.0).min(end_ms);
        let (again, it) = (shared.clone(), actor.clone());
        world.at(up_ms, move |world| again.service(world, &it, number, None));
        let next_ms = up_ms + times.1;
        if next_ms < end_ms {
            flip(world, shared, actor, number, next_ms, end_ms, times);
        }
    });
}
