//! Virtual time: one queue of events drives production watches against the embedded EC2, simulated nodes and agents.
//!
//! Times of this module's functions are milliseconds since the world's [`START_MS`], unless a name says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::core::event::{self, Trigger};
use crate::core::log::Record;
use crate::core::model::{Answer, ProbeTarget, Scheme};
use crate::core::report::Report;
use crate::core::tags::longest_pause;
use crate::core::time::{Time, millis};
use crate::core::watch::{Effect, Ending, Input, Settings, Watch};
use crate::embedded::ec2::{Call, Ec2, Id, InstanceSpec, Place, Plan, Request, Response, State, Tags, tags};
use crate::embedded::seam;

use super::check::Shown;

/// When a world begins: 2026-11-22T07:30:00Z, in milliseconds since 1970.
pub const START_MS: u64 = 1_795_332_600_000;
/// How long before the start the first instances were launched, in milliseconds.
pub const UP_FOR_MS: u64 = 86_400_000;
/// How often a watch may ask to be polled at once, without anything new, before it counts as spinning.
pub const MAX_SPINS: u32 = 100;
/// How many effects a watch may have in one moment: with answers that take no time, more means that it asks without end.
pub const MAX_EFFECTS_AT_ONCE: u32 = 20_000;
/// How long [`World::run`] goes on at most, in milliseconds.
pub const MAX_RUN_MS: u64 = 3_600_000;
/// The port that services have unless another is named.
pub const PORT: u16 = 8080;
/// Callers from this number on are agents.
pub const AGENTS_FROM: u32 = 1 << 30;
/// An event that takes longer is late, in milliseconds: a quiet watch has read by then what the event says.
const EVENT_LATE_MS: u64 = 5_000;

/// How a service answers a probe that starts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// 200, after so long; a slow service is one that takes long.
    Serve {
        /// Milliseconds.
        latency_ms: u64,
    },
    /// This status code, at once.
    Status(u16),
    /// Nobody listens.
    Refuse,
    /// The connection is accepted, and nothing comes.
    Hang,
    /// Nothing at all comes back: the host is dead or cut off.
    Silent,
    /// In turn serving and refusing.
    Flap {
        /// Milliseconds of serving.
        up_ms: u64,
        /// Milliseconds of refusing.
        down_ms: u64,
    },
}

/// A service that answers at once.
pub const SERVES: Behaviour = Behaviour::Serve { latency_ms: 0 };

/// What becomes of the events that EventBridge delivers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The shortest delay, in milliseconds.
    pub min_ms: u64,
    /// The longest delay: with different delays events overtake each other.
    pub max_ms: u64,
    /// How many of a thousand are lost.
    pub lost_per_mille: u32,
    /// How many of a thousand come twice.
    pub doubled_per_mille: u32,
}

/// An agent on a node, which writes its heartbeat into the node's tags.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Milliseconds between two heartbeats.
    pub every_ms: u64,
    /// By how much the node's clock is wrong, in milliseconds.
    pub skew_ms: i64,
    /// The last number written.
    pub seq: u64,
    /// `ok`, `fail`, `leaving`.
    pub status: &'static str,
    /// Whether it runs.
    pub alive: bool,
    /// When EC2 last took what it wrote.
    pub written_ms: u64,
    /// How many times in a row EC2 has not.
    pub failures: u32,
}

/// An invocation, by the number by which the record of calls knows its caller.
pub type Handle = u32;

/// Something that is done to the world at a time.
pub type Action = Box<dyn FnOnce(&mut World)>;

enum Event {
    Invoke(Handle),
    Wake(Handle),
    Run(Handle, u64, Box<(Request, Plan)>),
    /// With what was asked and what that shows, of calls to EC2 that succeeded.
    Answer(Handle, Box<(Input, Option<(Request, Response)>)>),
    /// With the node that was asked, if the target was one.
    Probed(Handle, u64, Answer, Option<Id>),
    Beat(Id),
    Act(Action),
}

/// When an invocation dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Once it has had so many effects more.
    AfterEffects(u64),
    /// When it is about to change something.
    BeforeAct,
    /// When it has just sent what changes something.
    AfterAct,
}

impl Death {
    /// The name that [`World::met`] counts it by.
    fn name(self) -> &'static str {
        match self {
            Death::AfterEffects(_) => "killed",
            Death::BeforeAct => "killed-before-act",
            Death::AfterAct => "killed-after-act",
        }
    }
}

struct Run {
    triggers: Vec<Trigger>,
    settings: Settings,
    time_limit_ms: u64,
    watch: Option<Watch>,
    ending: Option<Ending>,
    ended_ms: Option<u64>,
    started_ms: u64,
    death: Option<Death>,
    shown: Shown,
    /// The nodes whose probe has passed.
    passed: BTreeSet<Id>,
    wake_ms: Option<u64>,
    spins: u32,
    /// How many effects it has had in this moment.
    effects: (u64, u32),
    log: Vec<Record>,
}

/// A world in virtual time.
pub struct World {
    /// EC2: truth, operators, faults. Its times are milliseconds since 1970: see [`World::now_ms`] and [`START_MS`].
    pub ec2: Ec2,
    /// What invocations are set up with from now on. A scheduled one watches for 55 s, as the templates set it.
    pub settings: Settings,
    /// The time limit of invocations from now on, in milliseconds.
    pub time_limit_ms: u64,
    /// How state changes are announced; `None`: not at all.
    pub delivery: Option<Delivery>,
    /// How long after it runs an instance's service starts, in milliseconds.
    pub boot_ms: u64,
    /// What every probe takes at least, in milliseconds.
    pub network_ms: u64,
    /// Whether the invocations' log records are kept.
    pub keep_logs: bool,
    /// Agents by instance.
    pub agents: BTreeMap<Id, Agent>,
    /// How often each reason was decided on, by the contract's word.
    pub whys: BTreeMap<&'static str, u64>,
    /// What no watch may do: spin, outlive its deadline.
    pub misbehaved: Vec<String>,
    /// What watches asked for against what EC2 had shown them: when, which rule, what.
    pub objections: Vec<(u64, &'static str, String)>,
    /// How often what was set up befell an event or an invocation: lost, late, doubled, overtaken, killed.
    pub met: BTreeMap<&'static str, u64>,
    /// How many probes were made.
    pub probes: u64,
    /// The most probes that were on their way at once.
    pub most_probes: u64,
    probes_open: u64,
    /// Chance for this module's users and for deliveries.
    pub rng: fastrand::Rng,
    /// The cluster's nodes in the order of adding.
    pub nodes: Vec<Id>,
    /// The cluster's addresses in the order of adding.
    pub addresses: Vec<Id>,
    now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    actions_open: usize,
    services: BTreeMap<(Id, u16), (Behaviour, u64)>,
    owners: BTreeMap<Ipv4Addr, Id>,
    answers_from_ms: BTreeMap<Id, u64>,
    cut: BTreeSet<(Option<Handle>, Id)>,
    runs: Vec<Run>,
    active: usize,
    /// The invocations that run now, and those that have ended since they were last asked for.
    running: BTreeSet<Handle>,
    ended: Vec<Handle>,
    announced: usize,
    /// When the last event of each instance arrives.
    told_ms: BTreeMap<Id, u64>,
}

/// Building, and what operators and chance do.
impl World {
    /// An empty world.
    pub fn new(seed: u64) -> World {
        let mut ec2 = Ec2::new(seed);
        ec2.advance(START_MS - UP_FOR_MS);
        World {
            ec2,
            settings: Settings { watch: std::time::Duration::from_secs(55), ..Settings::default() },
            time_limit_ms: 118_000,
            delivery: None,
            boot_ms: 0,
            network_ms: 0,
            keep_logs: true,
            agents: BTreeMap::new(),
            whys: BTreeMap::new(),
            misbehaved: Vec::new(),
            objections: Vec::new(),
            met: BTreeMap::new(),
            probes: 0,
            most_probes: 0,
            probes_open: 0,
            rng: fastrand::Rng::with_seed(seed ^ 0x5eed),
            nodes: Vec::new(),
            addresses: Vec::new(),
            now_ms: START_MS,
            events: BTreeMap::new(),
            sequence: 0,
            actions_open: 0,
            services: BTreeMap::new(),
            owners: BTreeMap::new(),
            answers_from_ms: BTreeMap::new(),
            cut: BTreeSet::new(),
            runs: Vec::new(),
            active: 0,
            running: BTreeSet::new(),
            ended: Vec::new(),
            announced: 0,
            told_ms: BTreeMap::new(),
        }
    }

    /// The usual cluster: `web`, one address, two nodes in two zones that serve on port 8080, the address on the first.
    /// Nothing is remembered yet.
    pub fn pair() -> World {
        World::cluster(1, 2)
    }

    /// Cluster `web` with some addresses on its first node, some nodes, and the check `http:8080/health`.
    /// A node has a private address for each of the cluster's.
    pub fn cluster(addresses: usize, nodes: usize) -> World {
        World::cluster_of_seed(1, addresses, nodes)
    }

    /// The same with chance of its own: the times and the ages of answers, where a rule leaves them open.
    pub fn cluster_of_seed(seed: u64, addresses: usize, nodes: usize) -> World {
        let mut world = World::new(seed);
        for _ in 0..nodes {
            world.add_node();
        }
        for _ in 0..addresses {
            world.add_address();
        }
        world.settle();
        world
    }

    /// Launches a node of the cluster, in the zones in turn; its service serves. Before [`World::settle`] it counts as long running.
    pub fn add_node(&mut self) -> Id {
        self.add_node_of("web", InstanceSpec::default())
    }

    /// The same for any cluster, or several. Tags and age are set here, and in the Region's own border group the zone.
    pub fn add_node_of(&mut self, cluster: &str, spec: InstanceSpec) -> Id {
        let usual = spec.border_group == InstanceSpec::default().border_group;
        let zone = match self.nodes.len() % 3 {
            _ if !usual => spec.zone.as_str(),
            0 => "eu-west-1a",
            1 => "eu-west-1b",
            _ => "eu-west-1c",
        };
        let zone = zone.to_owned();
        let first = cluster.split(' ').next().unwrap_or_default();
        let name = format!("{first}-{}", self.nodes.len() + 1);
        self.launch(InstanceSpec { zone, tags: tags([("eipwatch:cluster", cluster), ("Name", &name)]), ..spec })
    }

    /// The same with a zone and tags of the caller's choosing.
    pub fn launch(&mut self, spec: InstanceSpec) -> Id {
        let id = self.ec2.add_instance(InstanceSpec { pending: self.announced > 0, ..spec });
        for nic in self.ec2.interfaces_of(&id) {
            for ip in &nic.private_ips {
                self.owners.insert(*ip, id.clone());
            }
        }
        self.nodes.push(id.clone());
        self.service(&id, SERVES);
        id
    }

    /// Gives a node one more private address.
    pub fn add_private_ip(&mut self, node: &Id) -> Option<Ipv4Addr> {
        let nic = self.ec2.primary_interface(node)?;
        let ip = self.ec2.add_private_ip(&nic, None)?;
        self.owners.insert(ip, node.clone());
        Some(ip)
    }

    /// Gives a node one more interface, and says which and its private address.
    pub fn add_interface(&mut self, node: &Id) -> Option<(Id, Ipv4Addr)> {
        let id = self.ec2.add_interface(node, 1)?;
        let ip = *self.ec2.interfaces_of(&id).next()?.private_ips.first()?;
        self.owners.insert(ip, node.clone());
        Some((id, ip))
    }

    /// Detaches an interface: nothing answers behind it any more.
    pub fn detach(&mut self, interface: &Id) {
        self.ec2.detach_interface(interface, self.now_ms);
        for nic in self.ec2.interfaces_of(interface) {
            for ip in &nic.private_ips {
                self.owners.remove(ip);
            }
        }
    }

    /// Allocates an address of the cluster, on the first node; every node gets a private address for it.
    pub fn add_address(&mut self) -> Id {
        let (nodes, another) = (self.nodes.clone(), !self.addresses.is_empty());
        self.add_address_of("web", &nodes, another)
    }

    /// The same for any cluster and its nodes; with none it is on nothing. `another`: their first private addresses are taken, so each gets one more.
    pub fn add_address_of(&mut self, cluster: &str, nodes: &[Id], another: bool) -> Id {
        let id = self.ec2.add_address(tags([("eipwatch:cluster", cluster), ("eipwatch:check", "http:8080/health")]));
        for (n, node) in nodes.iter().enumerate() {
            let ip = if another { self.add_private_ip(node) } else { None };
            if n == 0 {
                let now_ms = self.ec2.now_ms();
                match (ip, self.ec2.primary_interface(node)) {
                    (Some(ip), Some(nic)) => self.ec2.move_by_hand(&id, Place::Interface(&nic, ip), now_ms),
                    _ => self.ec2.move_by_hand(&id, Place::Instance(node), now_ms),
                };
            }
        }
        self.addresses.push(id.clone());
        id
    }

    /// Lets everything that was built count as old.
    pub fn settle(&mut self) {
        self.ec2.advance(self.now_ms);
        self.ec2.settle();
        self.announced = self.ec2.state_changes().len();
    }

    /// A node by its number.
    pub fn node(&self, number: usize) -> Id {
        self.nodes.get(number).cloned().unwrap_or_default()
    }

    /// An address by its number.
    pub fn address(&self, number: usize) -> Id {
        self.addresses.get(number).cloned().unwrap_or_default()
    }

    /// Sets one of eipwatch's tags, the prefix left out.
    pub fn tag(&mut self, resource: &Id, key: &str, value: &str) {
        let all = Tags::from([(format!("eipwatch:{key}"), value.to_owned())]);
        self.ec2.set_tags(resource, all, self.now_ms);
    }

    /// Removes one of eipwatch's tags, the prefix left out.
    pub fn untag(&mut self, resource: &Id, key: &str) {
        self.ec2.remove_tag(resource, &format!("eipwatch:{key}"), self.now_ms);
    }

    /// Sets how a node's service on [`PORT`] answers from now on.
    pub fn service(&mut self, node: &Id, behaviour: Behaviour) {
        self.service_on(node, PORT, behaviour);
    }

    /// Sets how a node's service on a port answers from now on.
    pub fn service_on(&mut self, node: &Id, port: u16, behaviour: Behaviour) {
        self.services.insert((node.clone(), port), (behaviour, self.now_ms));
    }

    /// How a node's service on [`PORT`] answers a probe that starts now, whoever asks; partitions are left out.
    pub fn answers(&self, node: &Id) -> Behaviour {
        if self.ec2.state(node) != Some(State::Running) {
            return Behaviour::Silent;
        }
        if self.answers_from_ms.get(node).is_some_and(|from_ms| self.now_ms < *from_ms) {
            return Behaviour::Refuse;
        }
        self.behaviour(node, PORT)
    }

    /// Whether a node's service on [`PORT`] comes and goes.
    pub fn flaps(&self, node: &Id) -> bool {
        matches!(self.services.get(&(node.clone(), PORT)), Some((Behaviour::Flap { .. }, _)))
    }

    fn behaviour(&self, node: &Id, port: u16) -> Behaviour {
        match self.services.get(&(node.clone(), port)) {
            None => Behaviour::Refuse,
            Some((Behaviour::Flap { up_ms, down_ms }, since_ms)) => {
                let phase_ms = self.now_ms.saturating_sub(*since_ms) % (up_ms + down_ms).max(1);
                if phase_ms < *up_ms { SERVES } else { Behaviour::Refuse }
            }
            Some((behaviour, _)) => *behaviour,
        }
    }

    /// Cuts the way from an invocation, or from all, to a node, or mends it.
    pub fn cut(&mut self, from: Option<Handle>, node: &Id, is_cut: bool) {
        if is_cut {
            self.cut.insert((from, node.clone()));
        } else {
            self.cut.remove(&(from, node.clone()));
        }
    }

    /// Whether the way from all invocations to a node is cut.
    pub fn is_cut(&self, node: &Id) -> bool {
        self.cut.contains(&(None, node.clone()))
    }

    /// Whether the way from some running invocation to a node is cut.
    pub fn is_cut_from_some(&self, node: &Id) -> bool {
        self.cut.iter().any(|(from, to)| to == node && from.is_some_and(|handle| self.is_running(handle)))
    }

    /// Mends every way.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// Reboots a node: its service is away for so long.
    pub fn reboot(&mut self, node: &Id, away_ms: u64) {
        if self.ec2.reboot_instance(node, self.now_ms) {
            self.answers_from_ms.insert(node.clone(), self.now_ms + away_ms);
        }
    }

    /// Starts an agent on a node.
    pub fn start_agent(&mut self, node: &Id, every_ms: u64, skew_ms: i64) {
        let seq = self.agents.get(node).map_or(0, |agent| agent.seq);
        let new = !self.agents.contains_key(node);
        let written_ms = self.now_ms();
        self.agents
            .insert(node.clone(), Agent { every_ms, skew_ms, seq, status: "ok", alive: true, written_ms, failures: 0 });
        if new {
            self.push(self.now_ms, Event::Beat(node.clone()));
        }
    }
}

/// Time.
impl World {
    /// The present.
    pub fn now_ms(&self) -> u64 {
        self.now_ms - START_MS
    }

    /// The present, as the core has it.
    pub fn now(&self) -> Time {
        Time::from_millis(self.now_ms)
    }

    /// Does something at a time.
    pub fn at(&mut self, at_ms: u64, action: impl FnOnce(&mut World) + 'static) {
        self.actions_open += 1;
        self.push(START_MS + at_ms, Event::Act(Box::new(action)));
    }

    /// An invocation with a payload. A payload that starts nothing ends at once.
    pub fn invoke(&mut self, payload: &Value, at_ms: u64) -> Handle {
        let triggers = match event::parse(payload) {
            Ok(event::Request::Run(triggers)) => triggers,
            Ok(event::Request::Ignored(_)) => Vec::new(),
            Err(bad) => {
                self.misbehaved.push(format!("a payload was refused: {bad}"));
                Vec::new()
            }
        };
        let run = Run {
            triggers,
            settings: self.settings.clone(),
            time_limit_ms: self.time_limit_ms,
            watch: None,
            ending: None,
            ended_ms: None,
            started_ms: at_ms,
            death: None,
            shown: Shown::default(),
            passed: BTreeSet::new(),
            wake_ms: None,
            spins: 0,
            effects: (0, 0),
            log: Vec::new(),
        };
        let handle = Handle::try_from(self.runs.len()).unwrap_or(Handle::MAX);
        self.runs.push(run);
        self.active += 1;
        self.push(START_MS + at_ms, Event::Invoke(handle));
        handle
    }

    /// A scheduled invocation.
    pub fn scheduled(&mut self, at_ms: u64) -> Handle {
        self.invoke(&schedule_event(), at_ms)
    }

    /// Lets an invocation die: nothing that comes later reaches it, what was sent stays sent.
    pub fn kill(&mut self, handle: Handle, death: Death) {
        if let Some(run) = self.run_mut(handle) {
            run.death = Some(death);
        }
    }

    /// Lambda tells an invocation to end soon.
    pub fn stop(&mut self, handle: Handle) {
        self.feed(handle, Input::Stop);
    }

    /// Lets time pass until then.
    pub fn run_until(&mut self, at_ms: u64) {
        let until_ms = START_MS + at_ms;
        while self.step(until_ms) {}
        self.now_ms = self.now_ms.max(until_ms);
        self.ec2.advance(self.now_ms);
    }

    /// Lets time pass until every invocation has ended and every action was done, or [`MAX_RUN_MS`] are over.
    pub fn run(&mut self) {
        let until_ms = self.now_ms.saturating_add(MAX_RUN_MS);
        while (self.active > 0 || self.actions_open > 0) && self.step(until_ms) {}
    }

    fn push(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at_ms.max(self.now_ms), self.sequence), event);
    }

    /// Lets the next thing happen, unless it is after then. False: there was none.
    pub fn step_until(&mut self, at_ms: u64) -> bool {
        self.step(START_MS + at_ms)
    }

    /// The next thing that happens, unless it is after `until_ms`.
    fn step(&mut self, until_ms: u64) -> bool {
        if self.announced < self.ec2.state_changes().len() {
            self.announce();
        }
        let event_ms = self.events.first_key_value().map(|((at_ms, _), _)| *at_ms);
        let change_ms = self.ec2.next_change_ms();
        let Some(next_ms) = [event_ms, change_ms].into_iter().flatten().min() else { return false };
        if next_ms > until_ms {
            return false;
        }
        self.now_ms = self.now_ms.max(next_ms);
        self.ec2.advance(self.now_ms);
        if event_ms != Some(next_ms) {
            return true;
        }
        let Some((_, event)) = self.events.pop_first() else { return false };
        match event {
            Event::Invoke(handle) => self.start(handle),
            Event::Wake(handle) => {
                let now_ms = self.now_ms;
                if self.run_mut(handle).is_some_and(|run| run.wake_ms == Some(now_ms)) {
                    self.poll(handle, false);
                }
            }
            Event::Run(handle, id, call) => {
                let (request, plan) = *call;
                let answer = self.ec2.run(&plan, &request, self.now_ms);
                let shown = answer.as_ref().ok().map(|response| (request.clone(), response.clone()));
                let input = if matches!(request, Request::AssociateAddress { .. } | Request::CreateTags { .. }) {
                    Input::Acted(id, seam::acted(answer))
                } else {
                    Input::Looked(id, seam::seen(answer))
                };
                self.push(plan.answer_at_ms, Event::Answer(handle, Box::new((input, shown))));
            }
            Event::Answer(handle, answer) => {
                let (input, shown) = *answer;
                let now_ms = self.now_ms;
                if let Some((request, response)) = shown
                    && let Some(run) = self.run_mut(handle)
                {
                    run.shown.take(&request, &response, now_ms);
                }
                self.feed(handle, input);
            }
            Event::Probed(handle, id, answer, node) => {
                self.probes_open -= 1;
                let passed = matches!(answer, Answer::Connected | Answer::Status(200..=399));
                if let Some(node) = node.filter(|_| passed)
                    && let Some(run) = self.run_mut(handle)
                    && !run.passed.contains(&node)
                {
                    run.passed.insert(node);
                }
                self.feed(handle, Input::Probed(id, answer));
            }
            Event::Beat(node) => self.beat(&node),
            Event::Act(action) => {
                self.actions_open -= 1;
                action(self);
            }
        }
        true
    }

    fn run_mut(&mut self, handle: Handle) -> Option<&mut Run> {
        self.runs.get_mut(usize::try_from(handle).ok()?)
    }

    fn start(&mut self, handle: Handle) {
        let now = self.now();
        let Some(run) = self.run_mut(handle) else { return };
        if run.triggers.is_empty() {
            run.ended_ms = Some(now.as_millis() - START_MS);
            self.active -= 1;
            self.ended.push(handle);
            return;
        }
        let deadline = now + std::time::Duration::from_millis(run.time_limit_ms);
        run.watch = Some(Watch::new(run.triggers.clone(), run.settings.clone(), now, deadline));
        self.running.insert(handle);
        self.poll(handle, true);
    }

    fn feed(&mut self, handle: Handle, input: Input) {
        let now = self.now();
        let Some(watch) = self.run_mut(handle).and_then(|run| run.watch.as_mut()) else { return };
        watch.feed(input, now);
        self.poll(handle, true);
    }

    /// Polls as the driver does: after everything that came in, and when the watch asked for it.
    fn poll(&mut self, handle: Handle, news: bool) {
        let now = self.now();
        let now_ms = self.now_ms;
        let keep_logs = self.keep_logs;
        let Some(run) = usize::try_from(handle).ok().and_then(|at| self.runs.get_mut(at)) else { return };
        let Some(watch) = run.watch.as_mut() else { return };
        let mut effects = watch.poll(now);
        let mut killed = false;
        for (at, effect) in effects.iter().enumerate() {
            if matches!(effect, Effect::Log(_)) {
                continue;
            }
            let acts = matches!(effect, Effect::Act(..));
            killed = match &mut run.death {
                Some(Death::AfterEffects(left)) => {
                    *left = left.saturating_sub(1);
                    *left == 0
                }
                Some(Death::BeforeAct | Death::AfterAct) => acts,
                None => false,
            };
            if killed && run.death != Some(Death::AfterAct) {
                effects.truncate(at);
                break;
            }
            if let Effect::Act(_, act) = effect
                && let Some((rule, text)) = run.shown.objection(&seam::act_request(act), now_ms)
            {
                self.objections.push((now_ms, rule, format!("caller {handle}: {text}")));
            }
            if killed {
                effects.truncate(at + 1);
                break;
            }
        }
        let ending = watch.ending().cloned();
        let wake_ms = watch.next_wake().map(|at| at.as_millis());
        if let Some(death) = run.death.filter(|_| killed) {
            *self.met.entry(death.name()).or_default() += 1;
        }
        let mut complaint = None;
        let asked = effects.iter().filter(|effect| !matches!(effect, Effect::Log(_))).count();
        let asked = u32::try_from(asked).unwrap_or(u32::MAX);
        let before = if run.effects.0 == now_ms { run.effects.1 } else { 0 };
        run.effects = (now_ms, before.saturating_add(asked));
        if run.effects.1 > MAX_EFFECTS_AT_ONCE {
            complaint = Some(format!("invocation {handle} asks without end at {} ms: {effects:?}", now_ms - START_MS));
            killed = true;
        }
        if killed || ending.is_some() {
            run.watch = None;
            run.shown = Shown::default();
            run.ended_ms = Some(now_ms - START_MS);
            run.ending = ending;
            self.active -= 1;
            self.running.remove(&handle);
            self.ended.push(handle);
        } else {
            // Polled again and again in the same moment, whether it has effects each time or not.
            run.spins = if !news && wake_ms.is_some_and(|at_ms| at_ms <= now_ms) { run.spins + 1 } else { 0 };
            let mut at_ms = wake_ms.unwrap_or(now_ms + 1_000).max(now_ms);
            if run.spins > MAX_SPINS {
                complaint = Some(format!("invocation {handle} spins at {} ms: {effects:?}", now_ms - START_MS));
                at_ms = now_ms + 1_000;
                run.spins = 0;
            }
            run.wake_ms = Some(at_ms);
            self.push(at_ms, Event::Wake(handle));
        }
        self.misbehaved.extend(complaint);
        for effect in effects {
            match effect {
                Effect::Log(record) => {
                    if let Record::Decision { decision, .. } = &record {
                        *self.whys.entry(decision.why.as_str()).or_default() += 1;
                        if let Some(would) = &decision.would {
                            *self.whys.entry(would.why.as_str()).or_default() += 1;
                        }
                    }
                    if keep_logs && let Some(run) = self.run_mut(handle) {
                        run.log.push(record);
                    }
                }
                Effect::Look(id, look) => self.call(handle, id, seam::look_request(&look)),
                Effect::Act(id, act) => self.call(handle, id, seam::act_request(&act)),
                Effect::Probe(id, target) => self.probe(handle, id, &target),
            }
        }
    }

    fn call(&mut self, handle: Handle, id: u64, request: Request) {
        let plan = self.ec2.plan(handle, &request, self.now_ms);
        self.push(plan.effect_at_ms, Event::Run(handle, id, Box::new((request, plan))));
    }

    fn probe(&mut self, handle: Handle, id: u64, target: &ProbeTarget) {
        self.probes += 1;
        self.probes_open += 1;
        self.most_probes = self.most_probes.max(self.probes_open);
        let limit_ms = u64::try_from(target.timeout.as_millis()).unwrap_or(u64::MAX);
        let node = self.owner(target);
        let behaviour = node.as_ref().map_or(Behaviour::Silent, |node| self.asked(handle, node, target.port));
        let (answer, after_ms) = match behaviour {
            Behaviour::Serve { latency_ms } => {
                let status = if target.scheme == Scheme::Tcp { Answer::Connected } else { Answer::Status(200) };
                (status, if target.scheme == Scheme::Tcp { 0 } else { latency_ms })
            }
            Behaviour::Status(_) if target.scheme == Scheme::Tcp => (Answer::Connected, 0),
            Behaviour::Status(code) => (Answer::Status(code), 0),
            Behaviour::Hang if target.scheme == Scheme::Tcp => (Answer::Connected, 0),
            Behaviour::Refuse | Behaviour::Flap { .. } => (Answer::Refused, 0),
            Behaviour::Hang | Behaviour::Silent => (Answer::TimedOut, limit_ms),
        };
        let after_ms = after_ms.saturating_add(self.network_ms);
        let (answer, after_ms) = if after_ms >= limit_ms { (Answer::TimedOut, limit_ms) } else { (answer, after_ms) };
        self.push(self.now_ms + after_ms, Event::Probed(handle, id, answer, node));
    }

    /// Whose address is probed.
    fn owner(&self, target: &ProbeTarget) -> Option<Id> {
        let public = || self.nodes.iter().find(|id| self.ec2.public_ip(id) == Some(target.ip));
        self.owners.get(&target.ip).or_else(public).cloned()
    }

    fn asked(&self, handle: Handle, node: &Id, port: u16) -> Behaviour {
        let is_cut = || {
            let from = |from| self.cut.contains(&(from, node.clone()));
            from(None) || from(Some(handle))
        };
        if (!self.cut.is_empty() && is_cut()) || self.ec2.state(node) != Some(State::Running) {
            return Behaviour::Silent;
        }
        if self.answers_from_ms.get(node).is_some_and(|from_ms| self.now_ms < *from_ms) {
            return Behaviour::Refuse;
        }
        self.behaviour(node, port)
    }

    /// By which number the record of calls knows a node's agent.
    pub fn agent_caller(&self, node: &Id) -> Option<u32> {
        let number = self.nodes.iter().position(|id| id == node)?;
        Some(AGENTS_FROM.saturating_add(u32::try_from(number).ok()?))
    }

    fn beat(&mut self, node: &Id) {
        let caller = self.agent_caller(node).unwrap_or(AGENTS_FROM);
        let Some(agent) = self.agents.get_mut(node) else { return };
        let every_ms = agent.every_ms.max(1);
        let mut pause_ms = every_ms;
        if agent.alive && self.ec2.state(node) == Some(State::Running) {
            agent.seq += 1;
            let at = Time::from_millis(self.now_ms.saturating_add_signed(agent.skew_ms));
            let value =
                format!("seq={} at={at} status={} every={}s", agent.seq, agent.status, every_ms.div_ceil(1_000));
            let request = Request::CreateTags {
                resources: vec![node.clone()],
                tags: vec![("eipwatch:heartbeat".to_owned(), value)],
                dry_run: false,
            };
            let taken = self.ec2.call(caller, &request, self.now_ms).is_ok();
            let now_ms = self.now_ms();
            if let Some(agent) = self.agents.get_mut(node) {
                agent.failures = if taken { 0 } else { agent.failures + 1 };
                if taken {
                    agent.written_ms = now_ms;
                }
                // The real one pauses for up to so long.
                if agent.failures > 2 {
                    pause_ms = millis(longest_pause(Duration::from_millis(every_ms)));
                }
            }
        }
        self.push(self.now_ms + pause_ms, Event::Beat(node.clone()));
    }

    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    /// What EventBridge says of state changes, and what follows for the services.
    fn announce(&mut self) {
        while let Some(change) = self.ec2.state_changes().get(self.announced).cloned() {
            self.announced += 1;
            if change.state == State::Running {
                self.answers_from_ms.insert(change.instance.clone(), change.at_ms + self.boot_ms);
            }
            let Some(delivery) = self.delivery else { continue };
            let mut times = 1;
            if self.rng.u32(0..1_000) < delivery.lost_per_mille {
                times = 0;
                self.meet("event-lost");
            } else if self.rng.u32(0..1_000) < delivery.doubled_per_mille {
                times = 2;
                self.meet("event-doubled");
            }
            for _ in 0..times {
                let delay_ms = self.rng.u64(delivery.min_ms..=delivery.max_ms.max(delivery.min_ms));
                if delay_ms > EVENT_LATE_MS {
                    self.meet("event-late");
                }
                let arrives_ms = change.at_ms + delay_ms;
                let last_ms = self.told_ms.entry(change.instance.clone()).or_default();
                let overtaken = arrives_ms < *last_ms;
                *last_ms = arrives_ms.max(*last_ms);
                if overtaken {
                    self.meet("event-overtaken");
                }
                let payload = state_event(&change.instance, change.state, change.at_ms - START_MS);
                self.invoke(&payload, change.at_ms - START_MS + delay_ms);
            }
        }
    }
}

/// What became of it.
impl World {
    /// The number of an address's holder among the cluster's nodes.
    pub fn holder(&self, address: &Id) -> Option<usize> {
        let holder = self.ec2.holder(address)?;
        self.nodes.iter().position(|id| id == holder)
    }

    /// What an invocation answered, once it has ended.
    pub fn report(&self, handle: Handle) -> Option<&Report> {
        match self.runs.get(usize::try_from(handle).ok()?)?.ending.as_ref()? {
            Ending::Report(report) => Some(report),
            Ending::BadRequest(_) => None,
        }
    }

    /// How an invocation ended.
    pub fn ending(&self, handle: Handle) -> Option<&Ending> {
        self.runs.get(usize::try_from(handle).ok()?)?.ending.as_ref()
    }

    /// When an invocation was sent.
    pub fn started_ms(&self, handle: Handle) -> Option<u64> {
        Some(self.runs.get(usize::try_from(handle).ok()?)?.started_ms)
    }

    /// When an invocation ended or was killed.
    pub fn ended_ms(&self, handle: Handle) -> Option<u64> {
        self.runs.get(usize::try_from(handle).ok()?)?.ended_ms
    }

    /// What an invocation told its log.
    pub fn log(&self, handle: Handle) -> &[Record] {
        usize::try_from(handle).ok().and_then(|at| self.runs.get(at)).map_or(&[], |run| &run.log)
    }

    /// How many invocations there were.
    pub fn invocations(&self) -> usize {
        self.runs.len()
    }

    /// The invocations that are running.
    pub fn running(&self) -> impl Iterator<Item = Handle> {
        self.running.iter().copied()
    }

    /// Takes the invocations that have ended since this was last asked.
    pub fn take_ended(&mut self) -> Vec<Handle> {
        std::mem::take(&mut self.ended)
    }

    /// Whether some invocation has ended that nobody has asked for.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// When a service that boots answers next.
    pub fn next_boot_ms(&self) -> Option<u64> {
        self.answers_from_ms.values().copied().filter(|at_ms| *at_ms > self.now_ms).min().map(|at_ms| at_ms - START_MS)
    }

    /// Whether a probe of a node has passed in an invocation.
    pub fn has_passed(&self, handle: Handle, node: &Id) -> bool {
        usize::try_from(handle).ok().and_then(|at| self.runs.get(at)).is_some_and(|run| run.passed.contains(node))
    }

    /// Whether an invocation is running.
    pub fn is_running(&self, handle: Handle) -> bool {
        usize::try_from(handle).ok().and_then(|at| self.runs.get(at)).is_some_and(|run| run.watch.is_some())
    }

    /// The calls to EC2 and their times, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = (u64, &Call)> {
        self.ec2.calls().iter().map(|call| (call.at_ms.saturating_sub(START_MS), call))
    }

    /// Where an address has been since the start: when, and the node's number.
    pub fn moves(&self, address: &Id) -> Vec<(u64, Option<usize>)> {
        let of = self.ec2.history().iter().filter(|it| it.allocation == *address && it.at_ms >= START_MS);
        of.map(|it| {
            let holder = it.association.as_ref().and_then(|at| at.instance.as_ref());
            (it.at_ms - START_MS, holder.and_then(|holder| self.nodes.iter().position(|id| id == holder)))
        })
        .collect()
    }
}

fn rfc3339(at_ms: u64) -> String {
    Time::from_millis(START_MS + at_ms).to_string()
}

/// What an EventBridge schedule sends.
pub fn schedule_event() -> Value {
    json!({"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}})
}

/// What EventBridge says of an instance's state.
pub fn state_event(instance: &str, state: State, at_ms: u64) -> Value {
    json!({
        "version": "0",
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "time": rfc3339(at_ms),
        "detail": {"instance-id": instance, "state": state.as_str()},
    })
}

/// A Spot interruption warning.
pub fn spot_event(instance: &str, at_ms: u64) -> Value {
    json!({
        "version": "0",
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "source": "aws.ec2",
        "time": rfc3339(at_ms),
        "detail": {"instance-id": instance, "instance-action": "terminate"},
    })
}

/// An Auto Scaling group is about to terminate an instance.
pub fn lifecycle_event(instance: &str, at_ms: u64) -> Value {
    json!({
        "version": "0",
        "detail-type": "EC2 Instance-terminate Lifecycle Action",
        "source": "aws.autoscaling",
        "time": rfc3339(at_ms),
        "detail": {
            "EC2InstanceId": instance,
            "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
            "AutoScalingGroupName": "web",
            "LifecycleHookName": "drain",
            "LifecycleActionToken": "0",
        },
    })
}

/// Tags of a resource changed. `kind` is `instance` or `elastic-ip`.
pub fn tag_event(resource: &str, kind: &str, changed: &[&str], all: &Tags, at_ms: u64) -> Value {
    json!({
        "version": "0",
        "detail-type": "Tag Change on Resource",
        "source": "aws.tag",
        "time": rfc3339(at_ms),
        "resources": [format!("arn:aws:ec2:eu-west-1:123456789012:{kind}/{resource}")],
        "detail": {"changed-tag-keys": changed, "service": "ec2", "resource-type": kind, "tags": all},
    })
}
