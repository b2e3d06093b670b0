//! A small world that branches: production watches on the embedded EC2, and at every turn all that may go wrong.
//!
//! Time is coarse and certain: a call takes effect after [`HALF_MS`] and is answered after as much again, a probe after [`PROBE_MS`].
//! What is not certain is which call meets which [`Fate`], and what is done to the world when ([`Deed`]): there a state of the model ends,
//! and every [`Step`] leads to another. Between two such turns everything follows from what was before.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use eipwatch::core::decide::Why;
use eipwatch::core::event;
use eipwatch::core::log::Record;
use eipwatch::core::model::{Answer, ProbeTarget};
use eipwatch::core::report::Report;
use eipwatch::core::time::Time;
use eipwatch::core::watch::{Effect, Ending, Input, Settings, Watch};
use eipwatch::embedded::ec2::{Api, Ec2, Error, Id, Place, Request, Response, State, Tags};
use eipwatch::embedded::seam;
use eipwatch::sim::world::{START_MS, World, schedule_event, spot_event, state_event};
use serde_json::json;

use super::judge::{Policy, Seen, Told};

/// From a call to its effect, and from there to its answer.
pub const HALF_MS: u64 = 100;
/// From a probe to its answer.
pub const PROBE_MS: u64 = 50;
/// A probe's limit.
const TIMEOUT_MS: u64 = 1_000;
/// How long a slow node takes to answer.
const SLUGGISH_MS: u64 = 700;
/// How much longer a slow call takes to be answered.
const SLOW_MS: u64 = 700;
/// How long after it was answered with an error a late call takes effect.
const LATE_MS: u64 = 2_500;
/// How long a change can be missing from reads.
const STALE_MS: u64 = 10_000;
/// How long an invocation may go on after its watch.
const GRACE_MS: u64 = 15_000;
/// From the last invocation to the first of those that must put everything right, and on to the next: no read is stale any more.
const REST_MS: u64 = 31_000;
/// How long the first of them watches.
const REST_WATCH_MS: u64 = 12_000;
/// How often a watch may be polled in one moment.
const MAX_POLLS_AT_ONCE: u32 = 500;
/// When a world begins: late enough after the simulation's own beginning for an instance to have been started anew.
const BEGIN_MS: u64 = START_MS + 100_000;
/// How many turns one step takes at most.
const MAX_TURNS: u32 = 20_000;

/// Something that happens to the world. Nodes are named by number; the address starts on node 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// A service no longer listens.
    Die(usize),
    /// A service accepts, and answers nothing.
    Hang(usize),
    /// A service answers late, in time.
    Slow(usize),
    /// A service is well again.
    Heal(usize),
    /// An instance is stopped.
    Stop(usize),
    /// An instance is terminated: soon nobody holds its address.
    Terminate(usize),
    /// A node is drained, by its tag.
    Drain(usize),
    /// A node loses its cluster tag.
    Untag(usize),
    /// Somebody moves the address by hand.
    Hand(usize),
    /// Somebody takes the address off.
    Remove,
    /// Somebody gives the address to an instance outside the cluster.
    GiveAway,
    /// Another Elastic IP is put on this node's private address.
    Occupy(usize),
    /// The address's mode is set to manual.
    Pause,
    /// What is remembered of the address is wiped.
    Forget,
}

/// What a call to EC2 can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// An error, without effect.
    Fails,
    /// It takes effect, and is answered with an error.
    FailsAfter,
    /// It is answered with an error, and takes effect long after.
    Late,
    /// It takes effect at once, and is answered late.
    Slow,
    /// It shows what was before the last change.
    Stale,
    /// It is answered with success, without effect.
    Hollow,
    /// Throttled.
    Throttled,
    /// The caller may not do it.
    Denied,
    /// The target cannot take the address.
    Refused,
    /// The watch dies, and the call never arrives.
    DieBefore,
    /// The call takes effect, and the watch dies.
    DieAfter,
}

/// One way to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// All goes well.
    Well,
    /// The call meets this.
    Meets(Fate),
    /// This is done to the world.
    Done(Deed),
}

/// What wakes an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wakes {
    Nothing,
    /// The schedule: it watches.
    Schedule,
    /// An event that says that node 0 was stopped so long before the world began.
    Stopped {
        ago_ms: u64,
    },
    /// Node 0 will be taken back.
    Spot,
    /// The command to move the address to a node.
    Move {
        to: usize,
        force: bool,
    },
    /// The command to report.
    Status,
}

/// A world to be explored.
#[derive(Clone, Debug)]
pub struct Setup {
    pub name: &'static str,
    pub nodes: usize,
    pub policy: Policy,
    /// Beside the cluster's tags, on the address: key without prefix, value; `@0` stands for node 0, `-30` for half a minute ago.
    pub tags: &'static [(&'static str, &'static str)],
    /// Who holds the address at the beginning.
    pub holder: usize,
    /// How long before the world's beginning node 0 was launched.
    pub launched_ago_ms: u64,
    /// What wakes the first watch, at the beginning.
    pub first: Wakes,
    /// What may wake the second, and when.
    pub second: &'static [(Wakes, u64)],
    /// How long scheduled watches go on.
    pub watch_ms: u64,
    /// What may be done to the world, at which times, and how often at most.
    pub deeds: &'static [Deed],
    pub at_ms: &'static [u64],
    pub deeds_left: u8,
    /// What calls may meet, and how often at most.
    pub addresses: &'static [Fate],
    pub instances: &'static [Fate],
    pub moves: &'static [Fate],
    pub states: &'static [Fate],
    pub faults_left: u8,
    /// How many moves are due without any deed.
    pub moves_due: u32,
    /// The reasons for decisions that must be met.
    pub whys: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Service {
    Serves,
    Refuses,
    Hangs,
    Sluggish,
}

#[derive(Clone, Debug)]
enum Event {
    Start(usize),
    Tick(usize),
    Arrives { by: usize, id: u64, request: Arc<Request>, asked_ms: u64 },
    Answer { by: usize, answer: Arc<Answered>, print: u64 },
    Probed { by: usize, id: u64, node: usize, started_ms: u64, answer: Answer },
    Late { by: usize, request: Arc<Request> },
}

#[derive(Debug)]
struct Answered {
    input: Input,
    request: Arc<Request>,
    response: Result<Response, &'static str>,
    asked_ms: u64,
}

#[derive(Clone)]
struct Seat {
    watch: Option<Watch>,
    wakes: Wakes,
    /// All inputs and their times so far: they make the watch what it is.
    print: u64,
    wake_ms: Option<u64>,
    polls: (u64, u32),
    started_ms: u64,
    deadline_ms: u64,
    seen: Seen,
}

#[derive(Clone, Debug)]
enum Open {
    World(usize),
    Call { by: usize, id: u64, request: Arc<Request>, asked_ms: u64 },
}

/// A state of the model.
#[derive(Clone)]
pub struct Branch {
    setup: Arc<Setup>,
    nodes: Arc<Vec<Id>>,
    owners: Arc<BTreeMap<Ipv4Addr, usize>>,
    address: Id,
    outsider: Id,
    now_ms: u64,
    ec2: Ec2,
    /// As EC2 was before the last change of an association, and of an instance, and when that was.
    before: [Option<(u64, Arc<Ec2>)>; 2],
    services: Vec<Service>,
    seats: [Seat; 2],
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    open: Option<Open>,
    deeds_left: u8,
    faults_left: u8,
    /// Where the address has been since when, by the number of the node.
    history: Vec<(u64, Option<usize>)>,
    moves: u32,
    /// How many moves one watch alone would make at most, and what came out of its time.
    moves_alone: u32,
    /// How many moves the state tag may count.
    countable: usize,
    changes: u32,
    /// Reasons that were decided on, by their place in [`Why::ALL`].
    pub whys: u32,
    /// Which watches moved the address.
    pub movers: [bool; 2],
    pub broken: Vec<(&'static str, String)>,
    resting: bool,
    pub rested: bool,
    /// What happened, for people.
    pub told: Option<Vec<(u64, String)>>,
}

fn mix(print: u64, of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (print, of).hash(&mut hasher);
    hasher.finish()
}

/// What is so in EC2, as far as it differs between states.
fn truth(ec2: &Ec2) -> u64 {
    let mut hasher = DefaultHasher::new();
    for id in ec2.address_ids() {
        let at = ec2.association(id);
        (id, at.map(|at| (&at.instance, &at.interface, at.private_ip)), ec2.tags(id)).hash(&mut hasher);
    }
    for id in ec2.instance_ids() {
        (id, ec2.state(id).map(State::as_str), ec2.launched_ms(id), ec2.tags(id)).hash(&mut hasher);
    }
    hasher.finish()
}

impl Hash for Branch {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.now_ms, truth(&self.ec2), &self.services, &self.history).hash(hasher);
        for before in &self.before {
            let recent = before.as_ref().filter(|(at_ms, _)| self.now_ms < at_ms + STALE_MS);
            recent.map(|(at_ms, ec2)| (*at_ms, truth(ec2))).hash(hasher);
        }
        for seat in &self.seats {
            (seat.watch.as_ref().map(|_| seat.print), seat.wakes, seat.wake_ms).hash(hasher);
        }
        for ((at_ms, _), event) in &self.queue {
            at_ms.hash(hasher);
            match event {
                Event::Start(by) => (0, *by, 0, 0).hash(hasher),
                Event::Tick(at) => (1, *at, 0, 0).hash(hasher),
                // Who is dead is not known by its inputs any more, but what it sent stays sent.
                Event::Arrives { by, request, .. } if self.seats[*by].watch.is_none() => {
                    (6, *by, mix(0, format!("{request:?}")), 0).hash(hasher);
                }
                Event::Arrives { by, id, asked_ms, .. } => (2, *by, *id, *asked_ms).hash(hasher),
                Event::Answer { by, .. } | Event::Probed { by, .. } if self.seats[*by].watch.is_none() => {}
                Event::Answer { by, print, .. } => (3, *by, *print, 0).hash(hasher),
                Event::Probed { by, id, node, answer, .. } => {
                    (4, *by, *id, u64::from(matches!(answer, Answer::Status(_))) * 100 + *node as u64).hash(hasher);
                }
                Event::Late { by, request } => {
                    (5, *by, mix(0, format!("{request:?}")), 0).hash(hasher);
                }
            }
        }
        let open = match &self.open {
            None => 0,
            Some(Open::World(at)) => 1 + *at as u64,
            Some(Open::Call { by, id, .. }) => mix(1, (by, id)),
        };
        (open, self.deeds_left, self.faults_left, self.moves, self.moves_alone, self.whys, self.movers).hash(hasher);
        (self.broken.len(), self.rested).hash(hasher);
    }
}

impl PartialEq for Branch {
    fn eq(&self, other: &Branch) -> bool {
        let print = |it: &Branch| mix(0, it);
        print(self) == print(other)
    }
}

impl std::fmt::Debug for Branch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {} ms: {:?}, open {:?}", self.now_ms - BEGIN_MS, self.broken, self.open)
    }
}

impl Branch {
    /// The beginning of a world; several, where the second watch may be woken by this or that.
    pub fn beginnings(setup: &Arc<Setup>, told: bool) -> Vec<Branch> {
        setup.second.iter().map(|(wakes, at_ms)| Branch::new(setup, *wakes, *at_ms, told)).collect()
    }

    fn new(setup: &Arc<Setup>, second: Wakes, second_ms: u64, told: bool) -> Branch {
        let world = World::cluster(1, setup.nodes);
        let mut ec2 = world.ec2;
        let nodes = world.nodes;
        let address = world.addresses[0].clone();
        let outsider = ec2.add_instance(eipwatch::embedded::ec2::InstanceSpec::default());
        let owners = nodes.iter().enumerate().flat_map(|(number, node)| {
            let ips: Vec<Ipv4Addr> = ec2.interfaces_of(node).flat_map(|nic| nic.private_ips.clone()).collect();
            ips.into_iter().map(move |ip| (ip, number))
        });
        let owners: BTreeMap<Ipv4Addr, usize> = owners.collect();
        let launched_ms = BEGIN_MS - setup.launched_ago_ms;
        if setup.launched_ago_ms < 90_000 {
            // It was stopped, and started again.
            ec2.settings.stopping_ms = 1;
            ec2.settings.pending_ms = 1;
            ec2.settings.initializing_ms = 1;
            assert!(ec2.stop_instance(&nodes[0], launched_ms - 10));
            assert!(ec2.start_instance(&nodes[0], launched_ms));
        }
        ec2.advance(BEGIN_MS);
        if setup.holder != 0 {
            assert!(ec2.move_by_hand(&address, Place::Instance(&nodes[setup.holder]), BEGIN_MS));
        }
        ec2.settings.stopping_ms = 4_000;
        ec2.settings.shutting_down_ms = 3_000;
        let Policy { fall, rise, stable_ms, failback, max_moves, probed } = setup.policy;
        let policy = format!(
            "interval=1s fast=500ms timeout=1s fall={fall} rise={rise} stable={}s max_moves={max_moves} window=1m failback={}",
            stable_ms / 1_000,
            if failback { "auto" } else { "off" }
        );
        let mut all = Tags::from([("eipwatch:policy".to_owned(), policy)]);
        for (key, value) in setup.tags {
            let words = value.split(' ').map(|word| {
                let (key, value) = word.split_once('=').map_or(("", word), |(key, value)| (key, value));
                let value = match (value.strip_prefix('@'), value.strip_prefix('-')) {
                    (Some(number), _) => nodes[number.parse::<usize>().unwrap()].to_string(),
                    (_, Some(ago_s)) => Time::from_millis(BEGIN_MS - 1_000 * ago_s.parse::<u64>().unwrap()).to_string(),
                    _ => value.to_owned(),
                };
                if key.is_empty() { value } else { format!("{key}={value}") }
            });
            all.insert(format!("eipwatch:{key}"), words.collect::<Vec<_>>().join(" "));
        }
        ec2.set_tags(&address, all, BEGIN_MS);
        if !probed {
            ec2.remove_tag(&address, "eipwatch:check", BEGIN_MS);
        }
        ec2.settle();
        ec2.take_calls();
        let seat = |wakes| Seat {
            watch: None,
            wakes,
            print: 0,
            wake_ms: None,
            polls: (0, 0),
            started_ms: 0,
            deadline_ms: u64::MAX,
            seen: Seen::default(),
        };
        let mut this = Branch {
            services: vec![Service::Serves; nodes.len()],
            nodes: Arc::new(nodes),
            owners: Arc::new(owners),
            address,
            outsider,
            now_ms: BEGIN_MS,
            before: [None, None],
            seats: [seat(setup.first), seat(second)],
            queue: BTreeMap::new(),
            queued: 0,
            open: None,
            deeds_left: setup.deeds_left,
            faults_left: setup.faults_left,
            history: vec![(BEGIN_MS, None)],
            moves: 0,
            moves_alone: setup.moves_due,
            countable: setup.tags.iter().map(|(_, value)| value.matches("moves=").count()).sum(),
            changes: 0,
            whys: 0,
            movers: [false; 2],
            broken: Vec::new(),
            resting: false,
            rested: false,
            told: told.then(Vec::new),
            setup: setup.clone(),
            ec2,
        };
        this.history = vec![(BEGIN_MS, this.holder())];
        this.push(BEGIN_MS, Event::Start(0));
        if second != Wakes::Nothing {
            this.push(BEGIN_MS + second_ms, Event::Start(1));
        }
        if let Some(at_ms) = setup.at_ms.first() {
            this.push(BEGIN_MS + at_ms, Event::Tick(0));
        }
        this.go_on();
        this
    }

    fn tell(&mut self, text: impl FnOnce(&Branch) -> String) {
        if self.told.is_some() {
            let line = (self.now_ms - BEGIN_MS, text(self));
            self.told.iter_mut().for_each(|told| told.push(line.clone()));
        }
    }

    fn object(&mut self, rule: &'static str, text: String) {
        self.tell(|_| format!("BROKEN: {rule}: {text}"));
        self.broken.push((rule, text));
    }

    fn push(&mut self, at_ms: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at_ms, self.queued), event);
    }

    fn holder(&self) -> Option<usize> {
        let holder = self.ec2.holder(&self.address)?;
        self.nodes.iter().position(|id| id == holder)
    }

    /// The ways to go on from here.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        match &self.open {
            None => {}
            Some(Open::World(_)) => {
                steps.push(Step::Well);
                steps.extend(self.deeds().into_iter().map(Step::Done));
            }
            Some(Open::Call { request, .. }) => {
                steps.push(Step::Well);
                steps.extend(self.fates(request).into_iter().map(Step::Meets));
            }
        }
        steps
    }

    /// The state that a step leads to.
    pub fn after(&self, step: Step) -> Branch {
        let mut this = self.clone();
        match (this.open.take(), step) {
            (Some(Open::Call { by, id, request, asked_ms }), Step::Meets(fate)) => {
                this.faults_left -= 1;
                this.carry_out(by, id, request, asked_ms, Some(fate));
            }
            (Some(Open::Call { by, id, request, asked_ms }), _) => this.carry_out(by, id, request, asked_ms, None),
            (Some(Open::World(_)), Step::Done(deed)) => {
                this.deeds_left -= 1;
                this.done(deed);
            }
            _ => {}
        }
        this.go_on();
        this
    }

    /// Lets everything happen that is certain.
    fn go_on(&mut self) {
        let mut turns = 0;
        while self.open.is_none() && !self.rested && self.broken.is_empty() {
            turns += 1;
            if turns > MAX_TURNS {
                self.object("misbehaves", "it never comes to an end".to_owned());
            } else if !self.turn() {
                self.rest();
                self.rested = true;
            }
        }
    }

    /// The next thing that happens. False: there is none.
    fn turn(&mut self) -> bool {
        let event_ms = self.queue.first_key_value().map(|((at_ms, _), _)| *at_ms);
        let wake = (0..2).filter_map(|by| Some((self.seats[by].wake_ms?, by))).min();
        let at_ms = [event_ms, wake.map(|(at_ms, _)| at_ms)].into_iter().flatten().min();
        let Some(at_ms) = at_ms else { return false };
        self.now_ms = self.now_ms.max(at_ms);
        self.advance();
        if event_ms.is_some_and(|event_ms| wake.is_none_or(|(wake_ms, _)| event_ms <= wake_ms)) {
            if let Some((_, event)) = self.queue.pop_first() {
                self.happens(event);
            }
        } else if let Some((_, by)) = wake {
            self.poll(by);
        }
        true
    }

    /// Time passes in EC2; a termination takes the address off.
    fn advance(&mut self) {
        let holder = self.holder();
        let before = self.ec2.next_change_ms().is_some_and(|at_ms| at_ms <= self.now_ms).then(|| self.ec2.clone());
        self.ec2.advance(self.now_ms);
        if let Some(before) = before {
            let before = Arc::new(before);
            self.before[1] = Some((self.now_ms, before.clone()));
            if self.holder() != holder {
                self.before[0] = Some((self.now_ms, before));
                self.placed();
            }
        }
    }

    fn placed(&mut self) {
        let holder = self.holder();
        self.history.push((self.now_ms, holder));
        self.countable += 1;
        self.tell(|it| format!("EC2: the address is on {:?}", it.ec2.holder(&it.address)));
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Start(by) => self.start(by),
            Event::Tick(at) => {
                let next = self.setup.at_ms.get(at + 1).map(|at_ms| BEGIN_MS + at_ms);
                let watched = self.seats.iter().any(|seat| seat.watch.is_some())
                    || self.queue.values().any(|event| matches!(event, Event::Start(_)));
                if self.deeds_left > 0 && watched {
                    if let Some(next_ms) = next {
                        self.push(next_ms, Event::Tick(at + 1));
                    }
                    if !self.deeds().is_empty() {
                        self.open = Some(Open::World(at));
                    }
                }
            }
            Event::Arrives { by, id, request, asked_ms } => {
                if !self.fates(&request).is_empty() && self.seats[by].watch.is_some() {
                    self.open = Some(Open::Call { by, id, request, asked_ms });
                } else {
                    self.carry_out(by, id, request, asked_ms, None);
                }
            }
            Event::Answer { by, answer, print } => {
                let now_ms = self.now_ms;
                let seen = &mut self.seats[by].seen;
                match (&*answer.request, &answer.response) {
                    (Request::AssociateAddress { dry_run: false, .. }, response) => {
                        seen.answered(response.as_ref().err().copied(), now_ms);
                    }
                    (request, Ok(response)) => seen.shown(request, response, answer.asked_ms, now_ms),
                    _ => {}
                }
                self.feed(by, answer.input.clone(), print);
            }
            Event::Probed { by, id, node, started_ms, answer } => {
                let ok = matches!(answer, Answer::Status(200));
                let (policy, of) = (self.setup.policy, self.nodes[node].clone());
                self.seats[by].seen.probed(&of, started_ms, ok, &policy);
                self.feed(by, Input::Probed(id, answer), mix(id, ok));
            }
            Event::Late { by, request } => {
                self.tell(|_| format!("the call of {by} takes effect after all"));
                // It comes out of its time, and has to be put right.
                self.moves_alone += 2;
                drop(self.effect(by, &request));
            }
        }
    }

    fn start(&mut self, by: usize) {
        let zero = |ago_ms: u64| BEGIN_MS.saturating_sub(ago_ms);
        let node = self.nodes[0].clone();
        let mut told = Told::default();
        let payload = match self.seats[by].wakes {
            Wakes::Nothing => return,
            Wakes::Schedule => schedule_event(),
            Wakes::Stopped { ago_ms } => {
                told.stopped = Some((node.clone(), zero(ago_ms) / 1_000 * 1_000));
                let mut payload = state_event(&node, State::Stopped, BEGIN_MS - START_MS);
                payload["time"] = json!(Time::from_millis(zero(ago_ms)).to_string());
                payload
            }
            Wakes::Spot => {
                told.leaving = Some(node.clone());
                spot_event(&node, BEGIN_MS - START_MS)
            }
            Wakes::Move { to, force } => {
                told.command = Some(force);
                json!({"action": "move", "to": &*self.nodes[to], "force": force})
            }
            Wakes::Status => {
                told.reads_only = true;
                json!({"action": "status"})
            }
        };
        let Ok(event::Request::Run(triggers)) = event::parse(&payload) else {
            return self.object("misbehaves", format!("refuses {payload}"));
        };
        self.begin(by, triggers, self.setup.watch_ms, told);
    }

    fn begin(&mut self, by: usize, triggers: Vec<event::Trigger>, watch_ms: u64, told: Told) {
        let settings = Settings { watch: Duration::from_millis(watch_ms), ..Settings::default() };
        let now = Time::from_millis(self.now_ms);
        let deadline_ms = self.now_ms + watch_ms + GRACE_MS;
        let seat = &mut self.seats[by];
        seat.watch = Some(Watch::new(triggers, settings, now, Time::from_millis(deadline_ms)));
        seat.print = mix(seat.print, self.now_ms);
        seat.started_ms = self.now_ms;
        seat.deadline_ms = deadline_ms;
        seat.seen = Seen::new(told);
        self.tell(|it| format!("{by} begins: {:?}", it.seats[by].wakes));
        self.poll(by);
    }

    fn feed(&mut self, by: usize, input: Input, print: u64) {
        let now_ms = self.now_ms;
        let seat = &mut self.seats[by];
        let Some(watch) = &mut seat.watch else { return };
        seat.print = mix(seat.print, (now_ms, print));
        watch.feed(input, Time::from_millis(now_ms));
        self.poll(by);
    }

    /// Polls as the driver does: after everything that came in, and when the watch asked for it.
    fn poll(&mut self, by: usize) {
        let now_ms = self.now_ms;
        let seat = &mut self.seats[by];
        let Some(watch) = &mut seat.watch else {
            seat.wake_ms = None;
            return;
        };
        let effects = watch.poll(Time::from_millis(now_ms));
        let ending = watch.ending().cloned();
        seat.wake_ms = watch.next_wake().map(|at| at.as_millis().max(now_ms));
        seat.polls = if seat.polls.0 == now_ms { (now_ms, seat.polls.1 + 1) } else { (now_ms, 1) };
        let spins = seat.polls.1 > MAX_POLLS_AT_ONCE;
        let late = now_ms > seat.deadline_ms;
        if ending.is_some() {
            seat.watch = None;
            seat.wake_ms = None;
        }
        for effect in effects {
            match effect {
                Effect::Log(record) => self.logged(by, &record),
                Effect::Look(id, look) => self.asks(by, id, seam::look_request(&look)),
                Effect::Act(id, act) => self.asks(by, id, seam::act_request(&act)),
                Effect::Probe(id, target) => self.probe(by, id, &target),
            }
        }
        match ending {
            Some(Ending::Report(report)) => self.reported(by, &report),
            Some(Ending::BadRequest(bad)) => self.object("misbehaves", format!("{by} refuses: {bad}")),
            None if spins => self.object("misbehaves", format!("{by} spins")),
            None if late => self.object("misbehaves", format!("{by} outlives its deadline")),
            None => {}
        }
    }

    fn met(&mut self, why: Why) {
        if let Some(at) = Why::ALL.iter().position(|it| *it == why) {
            self.whys |= 1 << at;
        }
    }

    fn logged(&mut self, by: usize, record: &Record) {
        let text = match record {
            Record::Decision { decision, .. } => {
                self.met(decision.why);
                if let Some(would) = &decision.would {
                    self.met(would.why);
                }
                Some(format!("{by}: {:?} {}: {}", decision.kind, decision.why, decision.text))
            }
            Record::Verdict { node, from, to, why, .. } => Some(format!("{by}: {node}: {from:?} -> {to:?}: {why}")),
            Record::Move { result, at, .. } => {
                let node = self.nodes.iter().position(|id| **id == *result.to.as_str());
                if result.ok && !self.was_there(node, at.as_millis() - result.took_ms) {
                    self.object("claims what it did not do", format!("{by} logs that it moved it to {}", result.to));
                }
                Some(format!("{by}: move to {} ok={} {:?}", result.to, result.ok, result.error))
            }
            Record::Call { act, error, .. } => Some(format!("{by}: answered: {act:?} {error:?}")),
            _ => None,
        };
        if let Some(text) = text {
            self.tell(|_| text);
        }
    }

    fn reported(&mut self, by: usize, report: &Report) {
        self.tell(|_| format!("{by} ends: ok={} {:?}", report.ok, report.error));
        if self.resting && !report.ok {
            self.object("fails at rest", format!("{by}: {:?}", report.error));
        }
        for address in report.clusters.iter().flat_map(|cluster| &cluster.addresses) {
            if let Some(decision) = &address.decision {
                self.met(decision.why);
            }
            for made in address.moves.iter().filter(|made| made.ok) {
                let node = self.nodes.iter().position(|id| **id == *made.to.as_str());
                if !self.was_there(node, self.seats[by].started_ms) {
                    self.object("claims what it did not do", format!("{by} says that it moved it to {}", made.to));
                }
            }
        }
    }

    /// Whether the address was on this node at some time since then.
    fn was_there(&self, node: Option<usize>, since_ms: u64) -> bool {
        let then = self.history.iter().rev().find(|(at_ms, _)| *at_ms <= since_ms).map(|(_, holder)| *holder);
        then == Some(node) || self.history.iter().any(|(at_ms, holder)| *at_ms >= since_ms && *holder == node)
    }

    fn asks(&mut self, by: usize, id: u64, request: Request) {
        let now_ms = self.now_ms;
        if let Request::AssociateAddress { interface, .. } = &request {
            let Some(target) = self.seats[by].seen.owner(interface).cloned() else {
                return self.object("to no candidate", format!("{by} moves it to {interface}, which is no node's"));
            };
            let broken = self.seats[by].seen.asks_to_move(&request, &target, &self.setup.policy, now_ms);
            self.tell(|_| format!("{by}: asks to move it to {target}"));
            for rule in broken {
                self.object(rule, format!("{by} moves it to {target}"));
            }
        }
        if let Request::CreateTags { resources, tags, .. } = &request {
            self.tell(|_| format!("{by}: writes {resources:?} {tags:?}"));
            for (key, value) in tags {
                let holder = value.split(' ').next().and_then(|word| word.strip_prefix("holder="));
                if let (true, Some(holder)) = (key == "eipwatch:state", holder) {
                    let node = self.nodes.iter().position(|id| **id == *holder);
                    if !self.was_there(node, self.seats[by].started_ms) {
                        self.object("remembers what never was", format!("{by} writes {value}"));
                    }
                    let moves = value.split(' ').find_map(|word| word.strip_prefix("moves=")).unwrap_or_default();
                    let counted = moves.split('/').filter(|at| !at.is_empty()).count();
                    if counted > self.countable {
                        let text = format!("{by} writes {value}, after {} in all", self.countable);
                        self.object("counts more moves than there were", text);
                    }
                }
            }
        }
        let event = Event::Arrives { by, id, request: Arc::new(request), asked_ms: now_ms };
        self.push(now_ms + HALF_MS, event);
    }

    fn probe(&mut self, by: usize, id: u64, target: &ProbeTarget) {
        let Some(node) = self.owners.get(&target.ip).copied() else { return };
        let of = self.nodes[node].clone();
        let running = self.ec2.state(&of) == Some(State::Running);
        let (answer, after_ms) = match self.services[node] {
            _ if !running => (Answer::TimedOut, TIMEOUT_MS),
            Service::Serves => (Answer::Status(200), PROBE_MS),
            Service::Refuses => (Answer::Refused, PROBE_MS),
            Service::Hangs => (Answer::TimedOut, TIMEOUT_MS),
            Service::Sluggish => (Answer::Status(200), SLUGGISH_MS),
        };
        self.seats[by].seen.probes(&of);
        self.push(self.now_ms + after_ms, Event::Probed { by, id, node, started_ms: self.now_ms, answer });
    }

    /// What this call may meet now.
    fn fates(&self, request: &Request) -> Vec<Fate> {
        if self.faults_left == 0 {
            return Vec::new();
        }
        let of_state = |tags: &[(String, String)]| tags.iter().any(|(key, _)| key == "eipwatch:state");
        let (fates, before) = match request {
            Request::DescribeAddresses => (self.setup.addresses, &self.before[0]),
            Request::DescribeInstances(_) => (self.setup.instances, &self.before[1]),
            Request::AssociateAddress { .. } => (self.setup.moves, &None),
            Request::CreateTags { tags, .. } if of_state(tags) => (self.setup.states, &None),
            _ => return Vec::new(),
        };
        let stale = before.as_ref().is_some_and(|(at_ms, _)| self.now_ms < at_ms + STALE_MS);
        fates.iter().copied().filter(|fate| *fate != Fate::Stale || stale).collect()
    }

    fn carry_out(&mut self, by: usize, id: u64, request: Arc<Request>, asked_ms: u64, fate: Option<Fate>) {
        if let Some(fate) = fate {
            self.tell(|_| format!("{by}: {:?} meets {fate:?}", request.api()));
        }
        let error = |code: &'static str| Err(Error::injected(code));
        let mut after_ms = HALF_MS;
        let response = match fate {
            None => self.effect(by, &request),
            Some(Fate::Slow) => {
                after_ms = SLOW_MS;
                self.effect(by, &request)
            }
            Some(Fate::Fails) => error("InternalError"),
            Some(Fate::FailsAfter) => {
                drop(self.effect(by, &request));
                error("InternalError")
            }
            Some(Fate::Late) => {
                self.push(self.now_ms + LATE_MS, Event::Late { by, request: request.clone() });
                error("InternalError")
            }
            Some(Fate::Stale) => {
                let before =
                    if matches!(*request, Request::DescribeAddresses) { &self.before[0] } else { &self.before[1] };
                let Some((_, before)) = before else { return };
                // At its own time: what happens by itself later has not happened in it.
                Ec2::clone(before).call(0, &request, 0)
            }
            Some(Fate::Hollow) => Ok(Response::Associated("eipassoc-0".into())),
            Some(Fate::Throttled) => error("RequestLimitExceeded"),
            Some(Fate::Denied) => error("UnauthorizedOperation"),
            Some(Fate::Refused) => error("IncorrectInstanceState"),
            Some(Fate::DieBefore) => {
                self.seats[by].watch = None;
                self.seats[by].wake_ms = None;
                return;
            }
            Some(Fate::DieAfter) => {
                drop(self.effect(by, &request));
                self.seats[by].watch = None;
                self.seats[by].wake_ms = None;
                return;
            }
        };
        let input = match *request {
            Request::AssociateAddress { .. } | Request::CreateTags { .. } => {
                Input::Acted(id, seam::acted(response.clone()))
            }
            _ => Input::Looked(id, seam::seen(response.clone())),
        };
        let shows = match (fate, &self.before) {
            (Some(Fate::Stale), [Some((_, before)), _]) if request.api() == Api::DescribeAddresses => truth(before),
            (Some(Fate::Stale), [_, Some((_, before))]) => truth(before),
            _ => truth(&self.ec2),
        };
        let response = response.map_err(|error| error.code);
        let answer = Arc::new(Answered { input, request, response, asked_ms });
        self.push(self.now_ms + after_ms, Event::Answer { by, answer, print: mix(shows, (id, fate)) });
    }

    /// A call takes effect.
    fn effect(&mut self, by: usize, request: &Request) -> Result<Response, Error> {
        if !request.api().changes() {
            let answer = self.ec2.call(0, request, self.now_ms);
            self.ec2.take_calls();
            return answer;
        }
        self.changes += 1;
        let moves = matches!(request, Request::AssociateAddress { dry_run: false, .. });
        let before = moves.then(|| self.ec2.clone());
        let was = self.holder();
        let answer = self.ec2.call(u32::try_from(by).unwrap_or_default(), request, self.now_ms);
        self.ec2.take_calls();
        if let Some(before) = before
            && self.holder() != was
        {
            self.before[0] = Some((self.now_ms, Arc::new(before)));
            self.movers[by] = true;
            self.moves += 1;
            self.placed();
            // One by racing.
            if self.moves > self.moves_alone + 1 {
                let text = format!("{} moves, where one watch alone makes {} at most", self.moves, self.moves_alone);
                self.object("too many moves", text);
            }
        }
        answer
    }

    /// What may be done to the world now, and would change it.
    fn deeds(&self) -> Vec<Deed> {
        let running = |number: &usize| self.ec2.state(&self.nodes[*number]) == Some(State::Running);
        let tag = |id: &Id, key: &str| self.ec2.tags(id).and_then(|tags| tags.get(key)).cloned();
        let may = |deed: &Deed| match deed {
            Deed::Die(number) => self.services[*number] != Service::Refuses && running(number),
            Deed::Hang(number) => self.services[*number] != Service::Hangs && running(number),
            Deed::Slow(number) => self.services[*number] != Service::Sluggish && running(number),
            Deed::Heal(number) => self.services[*number] != Service::Serves,
            Deed::Stop(number) | Deed::Terminate(number) => running(number),
            Deed::Drain(number) => tag(&self.nodes[*number], "eipwatch:mode").is_none(),
            Deed::Untag(number) => tag(&self.nodes[*number], "eipwatch:cluster").is_some(),
            Deed::Hand(number) => {
                self.holder() != Some(*number) && running(number) && self.ec2.address_ids().count() == 1
            }
            Deed::Remove | Deed::GiveAway => self.holder().is_some(),
            Deed::Occupy(number) => self.holder() != Some(*number) && self.ec2.address_ids().count() == 1,
            Deed::Pause => tag(&self.address, "eipwatch:mode").is_none(),
            Deed::Forget => tag(&self.address, "eipwatch:state").is_some(),
        };
        if self.deeds_left == 0 { Vec::new() } else { self.setup.deeds.iter().copied().filter(may).collect() }
    }

    fn done(&mut self, deed: Deed) {
        self.tell(|_| format!("done: {deed:?}"));
        self.moves_alone += 1;
        let now_ms = self.now_ms;
        let before = Arc::new(self.ec2.clone());
        let was = self.holder();
        let address = self.address.clone();
        let node = |number: usize| self.nodes[number].clone();
        let one = |key: &str, value: &str| Tags::from([(format!("eipwatch:{key}"), value.to_owned())]);
        let changed = match deed {
            Deed::Die(number) => {
                self.services[number] = Service::Refuses;
                return;
            }
            Deed::Hang(number) => {
                self.services[number] = Service::Hangs;
                return;
            }
            Deed::Slow(number) => {
                self.services[number] = Service::Sluggish;
                return;
            }
            Deed::Heal(number) => {
                self.services[number] = Service::Serves;
                return;
            }
            Deed::Stop(number) => self.ec2.stop_instance(&node(number), now_ms),
            Deed::Terminate(number) => self.ec2.terminate_instance(&node(number), now_ms),
            Deed::Drain(number) => self.ec2.set_tags(&node(number), one("mode", "drain"), now_ms),
            Deed::Untag(number) => self.ec2.remove_tag(&node(number), "eipwatch:cluster", now_ms),
            Deed::Hand(number) => self.ec2.move_by_hand(&address, Place::Instance(&node(number)), now_ms),
            Deed::Remove => self.ec2.move_by_hand(&address, Place::Nowhere, now_ms),
            Deed::GiveAway => self.ec2.move_by_hand(&address, Place::Instance(&self.outsider), now_ms),
            Deed::Occupy(number) => {
                let other = self.ec2.add_address(Tags::new());
                self.ec2.move_by_hand(&other, Place::Instance(&node(number)), now_ms)
            }
            Deed::Pause => self.ec2.set_tags(&address, one("mode", "manual"), now_ms),
            Deed::Forget => self.ec2.remove_tag(&address, "eipwatch:state", now_ms),
        };
        assert!(changed, "{deed:?}");
        let of_address = matches!(
            deed,
            Deed::Hand(_) | Deed::Remove | Deed::GiveAway | Deed::Occupy(_) | Deed::Pause | Deed::Forget
        );
        self.before[usize::from(!of_address)] = Some((now_ms, before));
        if self.holder() != was {
            self.placed();
        }
    }

    /// Nothing goes wrong any more: a watch must put everything right, and the next has nothing to do.
    fn rest(&mut self) {
        self.deeds_left = 0;
        self.faults_left = 0;
        self.resting = true;
        for round in 0..2_u32 {
            self.now_ms += REST_MS;
            self.moves_alone += 1;
            self.advance();
            let changes = self.changes;
            let Ok(event::Request::Run(triggers)) = event::parse(&schedule_event()) else { return };
            let stable_ms = self.setup.policy.stable_ms;
            self.begin(0, triggers, if round == 0 { REST_WATCH_MS + stable_ms } else { 0 }, Told::default());
            let mut turns = 0;
            while self.broken.is_empty() && turns < MAX_TURNS && self.turn() {
                turns += 1;
            }
            if round == 1 && self.changes != changes {
                self.object("restless", format!("{} calls, though nothing was to be done", self.changes - changes));
            }
        }
        if self.broken.is_empty() {
            self.judge_rest();
        }
    }

    fn judge_rest(&mut self) {
        let tag = |id: &Id, key: &str| self.ec2.tags(id).and_then(|tags| tags.get(key)).cloned();
        let holder = self.holder();
        if tag(&self.address, "eipwatch:mode").is_some() || self.ec2.holder(&self.address) == Some(&self.outsider) {
            return;
        }
        let runs = |number: usize| self.ec2.state(&self.nodes[number]) == Some(State::Running);
        let serves = |number: usize| {
            !self.setup.policy.probed || matches!(self.services[number], Service::Serves | Service::Sluggish)
        };
        let leaves =
            |number: usize| tag(&self.nodes[number], "eipwatch:health").is_some_and(|it| it.contains(" leaving="));
        let active = |number: usize| tag(&self.nodes[number], "eipwatch:mode").is_none();
        let member = |number: usize| tag(&self.nodes[number], "eipwatch:cluster").is_some();
        let free = |number: usize| {
            self.ec2.interfaces_of(&self.nodes[number]).flat_map(|nic| &nic.private_ips).any(|ip| {
                self.ec2
                    .address_ids()
                    .all(|id| *id == self.address || self.ec2.association(id).is_none_or(|at| at.private_ip != *ip))
            })
        };
        let well = |number: usize| runs(number) && serves(number) && active(number) && !leaves(number);
        let could: Vec<usize> =
            (0..self.nodes.len()).filter(|number| well(*number) && member(*number) && free(*number)).collect();
        let left =
            holder.is_none() && (0..self.nodes.len()).any(|number| runs(number) && member(number) && free(number));
        let state = tag(&self.address, "eipwatch:state");
        let says = state.as_deref().and_then(|text| text.split(' ').next()?.strip_prefix("holder="));
        let says = says.map(|id| self.nodes.iter().position(|node| **node == *id));
        if holder.is_some_and(|number| !member(number)) && says != Some(holder) {
            // It lost its tag, and nothing names it: an outsider.
            return;
        }
        let stuck = (!holder.is_some_and(well) && !could.is_empty()) || left;
        if stuck {
            self.object("not rescued", format!("it is on {holder:?}; {could:?} could take it"));
        }
        if says.is_some_and(|node| node != holder) {
            self.object("remembers another holder", format!("it is on {holder:?}, its state says {state:?}"));
        }
    }
}
