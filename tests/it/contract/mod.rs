//! The contract, line by line, in virtual time. `docs/contract-tests.md` says which test holds which line.
//!
//! A [`Scene`] is a world whose nodes are called A, B, C and whose results are told in a few words: `move holder-gone to B` is a
//! decision, `associate B` and `tag health A` are calls that change something.

mod checks;
mod commands;
mod events;
mod places;
mod replay;
mod rules;
mod scale;
mod table;
mod tags;
mod trouble;
mod whys;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use eipwatch::core::decide::Decision;
use eipwatch::core::log::Record;
use eipwatch::core::report::{AddressReport, ClusterReport, NodeReport, Report};
use eipwatch::core::time::Time;
use eipwatch::core::watch::Ending;
use eipwatch::embedded::ec2::{
    Alarm, AlarmState, Api, Call, Check, CheckKind, Id, Place, Request, ScheduledEvent, Tags,
};
use eipwatch::embedded::faults::Rule;
use eipwatch::sim::world::{Agent, Behaviour, Handle, SERVES, START_MS, World};
use serde_json::Value;

/// Nodes and addresses by number.
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// A world, told in a few words.
struct Scene {
    world: World,
}

impl Deref for Scene {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// What an invocation answered, and what it changed.
struct Told {
    handle: Handle,
    report: Report,
    /// The calls that changed something or tried to, of all callers meanwhile.
    calls: Vec<String>,
    began_ms: u64,
    ended_ms: u64,
}

impl Scene {
    /// Some addresses on A, and so many nodes; nothing is remembered yet.
    fn new(addresses: usize, nodes: usize) -> Scene {
        Scene { world: World::cluster(addresses, nodes) }
    }

    /// The address on A, and so many nodes, in a world of its own chance.
    fn of_seed(seed: u64, nodes: usize) -> Scene {
        Scene { world: World::cluster_of_seed(seed, 1, nodes) }
    }

    /// The same as [`Scene::new`] after a first watch, a minute later: healthy nodes are remembered.
    fn seasoned(addresses: usize, nodes: usize) -> Scene {
        let mut scene = Scene::new(addresses, nodes);
        scene.season();
        scene
    }

    /// A and B, the address on A, both remembered as healthy.
    fn pair() -> Scene {
        Scene::seasoned(1, 2)
    }

    /// Nodes with agents that beat every 5 s, and this check; after a first watch, a minute later.
    fn beating(nodes: usize, check: &str) -> Scene {
        let mut scene = Scene::new(1, nodes);
        scene.tag_address(0, "check", check);
        for n in 0..nodes {
            scene.start_agent(n, 0);
        }
        scene.season();
        scene
    }

    /// A first watch; a minute later.
    fn season(&mut self) {
        let at_ms = self.now_ms();
        self.watch(20);
        self.world.run_until(at_ms + 60_000);
    }

    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms() + ms;
        self.world.run_until(until_ms);
    }

    /// Does something so many milliseconds from now.
    fn after(&mut self, ms: u64, action: impl FnOnce(&mut Scene) + 'static) {
        let at_ms = self.now_ms() + ms;
        self.world.at(at_ms, |world| {
            let mut scene = Scene { world: std::mem::replace(world, World::new(0)) };
            action(&mut scene);
            *world = scene.world;
        });
    }

    fn epoch_ms(&self) -> u64 {
        START_MS + self.now_ms()
    }

    /// A time so many seconds from now, as tags write it.
    fn time_in(&self, seconds: i64) -> String {
        Time::from_millis(self.epoch_ms().saturating_add_signed(seconds * 1_000)).to_string()
    }

    /// One sweep, as a schedule makes it.
    fn sweep(&mut self) -> Told {
        self.watch(0)
    }

    /// A scheduled watch of so many seconds.
    fn watch(&mut self, seconds: u64) -> Told {
        self.tell(&eipwatch::sim::world::schedule_event(), seconds)
    }

    /// A scheduled watch of so many seconds that is told to stop after so many milliseconds.
    fn stopped(&mut self, seconds: u64, ms: u64) -> Told {
        let handle = Handle::try_from(self.invocations()).expect("a number");
        self.after(ms, move |scene| scene.stop(handle));
        self.watch(seconds)
    }

    /// A command or an event, now.
    fn send(&mut self, payload: &Value) -> Told {
        self.tell(payload, 0)
    }

    fn tell(&mut self, payload: &Value, seconds: u64) -> Told {
        let began_ms = self.now_ms();
        self.world.settings.watch = Duration::from_secs(seconds);
        let handle = self.world.invoke(payload, began_ms);
        let before = self.world.ec2.calls().len();
        self.world.run();
        let calls = self.changes_from(before);
        let ended_ms = self.world.ended_ms(handle).expect("it ended");
        let told = Told { handle, report: self.answer(handle), calls, began_ms, ended_ms };
        assert_eq!(self.world.misbehaved, Vec::<String>::new());
        told
    }

    /// What an invocation answered.
    fn answer(&self, handle: Handle) -> Report {
        self.world.report(handle).cloned().unwrap_or_else(|| panic!("no answer: {:?}", self.world.ending(handle)))
    }

    /// How a command was refused.
    fn bad_request(&mut self, payload: &Value) -> String {
        let now_ms = self.now_ms();
        let handle = self.world.invoke(payload, now_ms);
        self.world.run();
        match self.world.ending(handle) {
            Some(Ending::BadRequest(bad)) => bad.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The calls from the n-th on that changed something or tried to.
    fn changes_from(&self, n: usize) -> Vec<String> {
        let of = |call: &Call| Some(self.change(call.change.as_deref()?, call.code));
        self.world.ec2.calls().iter().skip(n).filter_map(of).flatten().collect()
    }

    /// All calls so far that changed something or tried to.
    fn changes(&self) -> Vec<String> {
        self.changes_from(0)
    }

    /// A tag that one call writes on several resources counts as several.
    fn change(&self, request: &Request, code: Option<&str>) -> Vec<String> {
        let texts = match request {
            Request::AssociateAddress { interface, dry_run, .. } => {
                let of = |id: &&Id| self.world.ec2.interfaces_of(id).any(|nic| nic.id == *interface);
                let to = self.world.nodes.iter().find(of).map_or_else(|| "?".to_owned(), |id| self.name(id));
                vec![format!("{} {to}", if *dry_run { "ask" } else { "associate" })]
            }
            Request::CreateTags { resources, tags, .. } => {
                let key = tags.first().map(|(key, _)| key.strip_prefix("eipwatch:").unwrap_or(key)).unwrap_or_default();
                resources.iter().map(|id| format!("tag {key} {}", self.name(id))).collect()
            }
            other => vec![format!("{:?}", other.api())],
        };
        let error = code.map_or_else(String::new, |code| format!(": {code}"));
        texts.into_iter().map(|text| format!("{text}{error}")).collect()
    }

    /// A node's letter, an address's number.
    fn name(&self, id: &str) -> String {
        let letter = |n: usize| char::from(b'A' + u8::try_from(n.min(25)).unwrap_or(25)).to_string();
        let node = self.world.nodes.iter().position(|node| **node == *id).map(letter);
        let address = || self.world.addresses.iter().position(|address| **address == *id).map(|n| n.to_string());
        node.or_else(address).unwrap_or_else(|| id.to_owned())
    }

    /// Who holds an address by EC2's own truth: a letter; `-`: nobody; else what it is.
    fn holder(&self, number: usize) -> String {
        match self.world.ec2.association(&self.world.address(number)) {
            None => "-".to_owned(),
            Some(at) => at.instance.as_ref().map_or_else(|| at.interface.to_string(), |id| self.name(id)),
        }
    }

    fn refuse(&mut self, node: usize) {
        self.service(node, Behaviour::Refuse);
    }

    fn serve(&mut self, node: usize) {
        self.service(node, SERVES);
    }

    fn service(&mut self, node: usize, behaviour: Behaviour) {
        let id = self.world.node(node);
        self.world.service(&id, behaviour);
    }

    fn tag_node(&mut self, node: usize, key: &str, value: &str) {
        let id = self.world.node(node);
        self.world.tag(&id, key, value);
    }

    fn untag_node(&mut self, node: usize, key: &str) {
        let id = self.world.node(node);
        self.world.untag(&id, key);
    }

    fn tag_address(&mut self, address: usize, key: &str, value: &str) {
        let id = self.world.address(address);
        self.world.tag(&id, key, value);
    }

    /// One of eipwatch's tags of a node; empty where there is none.
    fn node_tag(&self, node: usize, key: &str) -> String {
        self.tag_of(&self.world.node(node), key)
    }

    fn address_tag(&self, address: usize, key: &str) -> String {
        self.tag_of(&self.world.address(address), key)
    }

    fn tag_of(&self, id: &str, key: &str) -> String {
        self.world.ec2.tags(id).and_then(|tags| tags.get(&format!("eipwatch:{key}"))).cloned().unwrap_or_default()
    }

    fn stop_node(&mut self, node: usize) {
        let (id, now_ms) = (self.world.node(node), self.epoch_ms());
        assert!(self.world.ec2.stop_instance(&id, now_ms));
    }

    fn terminate_node(&mut self, node: usize) {
        let (id, now_ms) = (self.world.node(node), self.epoch_ms());
        assert!(self.world.ec2.terminate_instance(&id, now_ms));
    }

    fn start_node(&mut self, node: usize) {
        let (id, now_ms) = (self.world.node(node), self.epoch_ms());
        assert!(self.world.ec2.start_instance(&id, now_ms));
    }

    /// From now on instances stop and start within so many milliseconds.
    fn stop_and_start_within(&mut self, ms: u64) {
        (self.world.ec2.settings.stopping_ms, self.world.ec2.settings.pending_ms) = (ms, ms);
    }

    /// A status check of a node says so from now on.
    fn status(&mut self, node: usize, kind: CheckKind, says: Check) {
        let (id, now_ms) = (self.world.node(node), self.epoch_ms());
        assert!(self.world.ec2.set_status(&id, kind, says, now_ms));
    }

    /// Starts an agent on a node, which beats every 5 s from now on; its clock is wrong by so much.
    fn start_agent(&mut self, node: usize, skew_ms: i64) {
        let id = self.world.node(node);
        self.world.start_agent(&id, 5_000, skew_ms);
    }

    fn agent(&mut self, node: usize) -> &mut Agent {
        let id = self.world.node(node);
        self.world.agents.get_mut(&id).expect("an agent")
    }

    /// A node's heartbeat tag, as an agent would write it at a time so many seconds from now.
    fn beat(&mut self, node: usize, seq: u64, status: &str, at_in_s: i64) {
        let value = format!("seq={seq} at={} status={status} every=5s", self.time_in(at_in_s));
        self.tag_node(node, "heartbeat", &value);
    }

    /// Somebody moves an address by hand, to a node or nowhere.
    fn by_hand(&mut self, address: usize, node: Option<usize>) {
        let (id, now_ms) = (self.world.address(address), self.epoch_ms());
        let node = node.map(|number| self.world.node(number));
        let place = node.as_ref().map_or(Place::Nowhere, |id| Place::Instance(id));
        assert!(self.world.ec2.move_by_hand(&id, place, now_ms));
    }

    fn public_ip(&self, address: usize) -> String {
        self.world.ec2.elastic_ip(&self.world.address(address)).map(|ip| ip.to_string()).unwrap_or_default()
    }

    /// Where the first address has been since the start.
    fn been(&self) -> Vec<Option<usize>> {
        self.world.moves(&self.world.address(0)).into_iter().map(|(_, to)| to).collect()
    }

    /// How long after an invocation began the first address was moved last, in milliseconds.
    #[track_caller]
    fn moved_after_ms(&self, told: &Told) -> u64 {
        self.world.moves(&self.world.address(0)).last().expect("moved").0 - told.began_ms
    }

    /// When calls were made during an invocation, in milliseconds after its begin.
    fn calls_to(&self, api: Api, told: &Told) -> Vec<u64> {
        let during = told.began_ms..=told.ended_ms;
        let calls = self.world.calls().filter(|(at_ms, call)| call.api == api && during.contains(at_ms));
        calls.map(|(at_ms, _)| at_ms - told.began_ms).collect()
    }

    /// What an answer decided of the n-th address: `move holder-gone to B`.
    fn says(&self, told: &Told, address: usize) -> String {
        told.address(address).decision.as_ref().map_or_else(|| "nothing".to_owned(), |decision| self.words(decision))
    }

    fn words(&self, decision: &Decision) -> String {
        let kind = format!("{:?}", decision.kind).to_lowercase();
        let to = decision.to.as_ref().map_or_else(String::new, |id| format!(" to {}", self.name(id.as_str())));
        let would = decision.would.as_ref().map_or_else(String::new, |would| format!(" ({})", self.words(would)));
        format!("{kind} {}{to}{would}", decision.why)
    }

    /// What an invocation decided one after the other, as its log tells.
    fn decided(&self, handle: Handle) -> Vec<String> {
        let of = |record: &Record| match record {
            Record::Decision { decision, .. } => Some(self.words(decision)),
            _ => None,
        };
        self.world.log(handle).iter().filter_map(of).collect()
    }

    /// EC2 writes no tags for so many milliseconds.
    fn no_tags_for(&mut self, ms: u64) {
        let from_ms = self.epoch_ms();
        let rule = Rule::error("InternalError").on(Api::CreateTags).between(from_ms, from_ms + ms);
        self.world.ec2.faults_mut().push(rule);
    }

    /// EC2 has scheduled an event of a node, from and until so many seconds from now.
    fn schedule(&mut self, node: usize, description: &str, from_s: i64, to_s: i64) {
        let (id, now_ms) = (self.world.node(node), self.epoch_ms());
        let event = ScheduledEvent {
            code: "system-reboot".to_owned(),
            description: description.to_owned(),
            not_before_ms: Some(now_ms.saturating_add_signed(from_s * 1_000)),
            not_after_ms: Some(now_ms.saturating_add_signed(to_s * 1_000)),
        };
        assert!(self.world.ec2.schedule_events(&id, vec![event], now_ms));
    }

    /// EC2 has taken back what it has scheduled of a node.
    fn unschedule(&mut self, node: usize) {
        let (id, now_ms) = (self.world.node(node), self.epoch_ms());
        assert!(self.world.ec2.schedule_events(&id, Vec::new(), now_ms));
    }

    /// What CloudWatch says of the alarm `High.Load`, whose dimension names these nodes.
    fn alarm(&mut self, state: AlarmState, nodes: &[usize]) {
        let instances = nodes.iter().map(|n| self.node(*n)).collect();
        let now_ms = self.epoch_ms();
        self.world.ec2.set_alarm(Alarm { name: "High.Load".to_owned(), state, instances }, now_ms);
    }

    /// Lets an address's state tag tell of a move.
    fn remember(&mut self, address: usize, holder: usize, from: Option<usize>, why: &str, seconds_ago: i64) {
        let from = from.map_or_else(|| "none".to_owned(), |from| self.node(from).to_string());
        let (holder, since) = (self.node(holder), self.time_in(-seconds_ago));
        self.tag_address(address, "state", &format!("holder={holder} since={since} from={from} why={why} moves="));
    }

    /// One more Elastic IP, of no cluster and on nothing.
    fn another_address(&mut self) {
        let id = self.world.ec2.add_address(Tags::new());
        self.world.addresses.push(id);
    }

    /// Somebody puts an address on this interface by hand.
    fn onto(&mut self, address: usize, interface: &Id) {
        let (id, now_ms) = (self.world.address(address), self.epoch_ms());
        let ip = self.world.ec2.interfaces_of(interface).next().expect("an interface").private_ips[0];
        assert!(self.world.ec2.move_by_hand(&id, Place::Interface(interface, ip), now_ms));
    }

    /// Puts an address on an interface of A that is then attached to nothing.
    fn loose(&mut self, address: usize) -> Id {
        let a = self.node(A);
        let (nic, _) = self.world.add_interface(&a).expect("a second interface");
        self.onto(address, &nic);
        self.world.detach(&nic);
        nic
    }

    /// What it decided of the first address, and who holds that by EC2's own truth.
    #[track_caller]
    fn ends(&self, told: &Told, says: &str, holder: &str) {
        assert_eq!((self.says(told, 0), self.holder(0)), (says.to_owned(), holder.to_owned()), "{}", told.text());
    }

    /// Nobody has moved the first address since the start.
    #[track_caller]
    fn unmoved(&self) {
        let moves = self.world.moves(&self.world.address(0));
        assert!(moves.is_empty(), "{moves:?}");
    }

    /// One sweep that must decide so, move so, and end with this holder.
    #[track_caller]
    fn expect(&mut self, says: &str, calls: &[&str], holder: &str) -> Told {
        let told = self.sweep();
        self.check(&told, says, calls, holder);
        told
    }

    /// An event or command that must decide so, move so, and end with this holder.
    #[track_caller]
    fn expect_of(&mut self, payload: &Value, says: &str, calls: &[&str], holder: &str) -> Told {
        let told = self.send(payload);
        self.check(&told, says, calls, holder);
        told
    }

    #[track_caller]
    fn check(&self, told: &Told, says: &str, calls: &[&str], holder: &str) {
        let text = told.address(0).decision.as_ref().map(|decision| decision.text.clone()).unwrap_or_default();
        // Tags are written beside the move: their order says nothing.
        let sorted = |mut calls: Vec<String>| {
            calls.sort();
            calls
        };
        let expected = sorted(calls.iter().map(ToString::to_string).collect());
        let found = (self.says(told, 0), sorted(told.calls.clone()), self.holder(0));
        assert_eq!(found, (says.to_owned(), expected, holder.to_owned()), "{text} {:?}", told.report.error);
        let shown = told.address(0).holder.as_ref().map(|id| self.name(id.as_str()));
        if holder.len() == 1 && holder != "-" {
            assert_eq!(shown.as_deref(), Some(holder), "the answer's own holder");
        }
    }
}

impl Told {
    fn cluster(&self) -> &ClusterReport {
        self.report.clusters.first().expect("a cluster")
    }

    fn address(&self, n: usize) -> &AddressReport {
        self.cluster().addresses.get(n).expect("an address")
    }

    fn node(&self, n: usize) -> &NodeReport {
        self.cluster().nodes.get(n).expect("a node")
    }

    /// A node's verdict and what its checks said, for the check that begins so.
    fn evidence(&self, node: usize, check: &str) -> (Option<bool>, String) {
        let found = self.node(node).evidence.iter().find(|evidence| evidence.check.starts_with(check));
        found.map(|evidence| (evidence.ok, evidence.text.clone())).unwrap_or_else(|| (None, "no such check".to_owned()))
    }

    /// All problems, one a line.
    fn problems(&self) -> String {
        let of = self.report.clusters.iter().flat_map(|cluster| &cluster.problems);
        of.chain(&self.report.problems).cloned().collect::<Vec<_>>().join("\n")
    }

    fn text(&self) -> &str {
        self.address(0).decision.as_ref().map_or("", |decision| &decision.text)
    }

    fn took_ms(&self) -> u64 {
        self.ended_ms - self.began_ms
    }

    #[track_caller]
    fn problem(&self, part: &str) {
        assert!(self.problems().contains(part), "no problem says {part:?}:\n{}", self.problems());
    }
}
