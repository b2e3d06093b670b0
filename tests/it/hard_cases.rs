//! The file of hard cases: `tests/scenarios/*.txt`, each a story and, below it, what came of it.
//!
//! A story says in its first lines what it shows, which sentence of the thirteen rules (`rule:`) or which system's failure
//! (`weakness:`), and then what happens when. [`play`] lives it in virtual time with the production watch, and what it tells is compared
//! with what stands below the line of `=`. `EIPWATCH_RENEW=1` writes it anew; read what changed before you commit it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eipwatch::core::decide::Kind;
use eipwatch::core::log::Record;
use eipwatch::core::watch::Ending;
use eipwatch::embedded::ec2::{
    Api, Cause, Check, CheckKind, Error, Id, InstanceSpec, Place, Request, ScheduledEvent, State, tags,
};
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::sim::world::{Behaviour, Death, Handle, SERVES, START_MS, World};
use eipwatch::sim::world::{lifecycle_event, schedule_event, spot_event, state_event};
use serde_json::{Value, json};

/// What separates a story from what came of it.
const RULER: &str = "====";
/// How long a watch lasts, as the templates set it.
const WATCH: Duration = Duration::from_secs(55);
/// The order of what happens within a millisecond.
const STORY: u8 = 0;
const BEGINS: u8 = 1;
const SEEN: u8 = 2;
const DECIDED: u8 = 3;
const CALLED: u8 = 4;
const PLACED: u8 = 5;
const VERIFIED: u8 = 6;
const RECORDED: u8 = 7;
const STAYS: u8 = 8;
const ENDS: u8 = 9;
/// What begins a line that tells of what no watch may do, in no story.
const WRONG: &str = "WRONG:";
/// The variable that has the files written anew.
const RENEW: &str = "EIPWATCH_RENEW";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// Every story, by the name of its file.
fn stories() -> BTreeMap<String, String> {
    let files = fs::read_dir(folder()).expect("tests/scenarios").map(|entry| entry.expect("an entry").path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a story"))
        })
        .collect()
}

#[test]
fn every_hard_case_ends_as_it_is_written() {
    let mut differ = Vec::new();
    for (name, text) in stories() {
        let story = text.split(RULER).next().unwrap_or_default().trim_end();
        let whole = format!("{story}\n\n{RULER}\n{}", play(&name, story));
        if whole == text {
            continue;
        }
        let wrong = whole.lines().find(|line| line.starts_with(WRONG));
        if wrong.is_none() && std::env::var_os(RENEW).is_some() {
            fs::write(folder().join(format!("{name}.txt")), &whole).expect("written");
            continue;
        }
        let first = text.lines().zip(whole.lines()).find(|(old, new)| old != new);
        let (old, new) = first.unwrap_or(("(less)", "(more)"));
        differ.push(format!("{name}.txt:\n  written: {old}\n  now:     {new}\n  {}", wrong.unwrap_or_default()));
    }
    assert!(
        differ.is_empty(),
        "{} hard cases end otherwise than written:\n{}\nIf that is right: {RENEW}=1 cargo test --no-default-features --test it hard_cases, and read the difference.",
        differ.len(),
        differ.join("\n")
    );
}

/// The rows of README's table under a heading: all cells but the last, joined, and the last.
fn rows<'a>(readme: &'a str, heading: &str) -> BTreeMap<String, &'a str> {
    let (_, below) = readme.split_once(heading).expect(heading);
    let table = below.lines().skip_while(|line| !line.starts_with("| --- |")).skip(1);
    table
        .take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let (shown_by, sentence) = cells.split_last().expect("cells");
            (sentence.join(". "), *shown_by)
        })
        .collect()
}

#[test]
fn every_sentence_of_the_rules_and_every_failure_of_other_systems_has_a_hard_case() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("tests/scenarios/README.md");
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/contract");
    let tests: String = fs::read_dir(contract)
        .expect("tests/it/contract")
        .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("a source"))
        .collect();
    let stories = stories();
    for (heading, prefix) in
        [("## The rules, sentence by sentence", "rule: "), ("## Failures of other systems", "weakness: ")]
    {
        let mut quoted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, text) in &stories {
            for sentence in text.lines().filter_map(|line| line.strip_prefix(prefix)) {
                quoted.entry(sentence).or_default().insert(name);
            }
        }
        let table = rows(&readme, heading);
        let unknown: Vec<_> = quoted.keys().filter(|sentence| !table.contains_key(**sentence)).collect();
        assert!(unknown.is_empty(), "not in README.md: {unknown:#?}");
        for (sentence, shown_by) in table {
            let (held, shown): (BTreeSet<&str>, BTreeSet<&str>) =
                shown_by.split(", ").filter(|name| !name.is_empty()).partition(|name| name.starts_with('`'));
            assert!(!held.is_empty() || !shown.is_empty(), "nothing shows: {sentence}");
            assert_eq!(quoted.get(&*sentence).cloned().unwrap_or_default(), shown, "stories that quote: {sentence}");
            for name in held.iter().map(|name| name.trim_matches('`')) {
                assert!(tests.contains(&format!("#[test]\nfn {name}()")), "no contract test: {name}");
            }
        }
    }
    let numbers: BTreeSet<String> =
        rows(&readme, "## The rules").keys().filter_map(|of| Some(of.split_once(". ")?.0.to_owned())).collect();
    assert_eq!(numbers, (1..=13).map(|rule: u32| rule.to_string()).collect());
}

/// A story as it is lived.
struct Stage {
    world: World,
    names: Vec<String>,
    outsider: Option<Id>,
    /// When the story began, in the world's time.
    zero_ms: u64,
    /// When, in which order within the millisecond, what.
    lines: Vec<(u64, u8, String)>,
    labels: BTreeMap<Handle, String>,
}

/// Lives a story, and tells it.
fn play(name: &str, story: &str) -> String {
    let mut lines = story.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    let mut setup: BTreeMap<&str, &str> = BTreeMap::new();
    let mut acts: Vec<(u64, &str)> = Vec::new();
    lines.next();
    for line in lines {
        let timed = line.split_once(' ').and_then(|(at, rest)| Some((clock(at)?, rest)));
        match (timed, line.split_once(": ")) {
            (Some(act), _) => acts.push(act),
            (None, Some((key, value))) => {
                setup.insert(key, value);
            }
            (None, None) => panic!("{name}: '{line}' is neither `key: value` nor `M:SS what happens`"),
        }
    }
    acts.sort_by_key(|(at_ms, _)| *at_ms);
    let mut stage = Stage::new(&setup);
    for (at_ms, what) in acts {
        stage.world.run_until(stage.zero_ms + at_ms);
        if what == "end" {
            return stage.tell();
        }
        stage.lines.push((stage.zero_ms + at_ms, STORY, format!("* {what}")));
        let words: Vec<&str> = what.split_whitespace().collect();
        stage.act(&words).unwrap_or_else(|| panic!("{name}: nobody understands '{what}'"));
    }
    panic!("{name}: no line says when it ends: `M:SS end`");
}

/// `1:02.500` in milliseconds.
fn clock(text: &str) -> Option<u64> {
    let (minutes, seconds) = text.split_once(':')?;
    let (seconds, millis) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let millis: u64 = format!("{millis:0<3}").parse().ok()?;
    Some(minutes.parse::<u64>().ok()? * 60_000 + seconds.parse::<u64>().ok()? * 1_000 + millis)
}

fn millis(text: &str) -> Option<u64> {
    u64::try_from(humantime::parse_duration(text).ok()?.as_millis()).ok()
}

impl Stage {
    fn new(setup: &BTreeMap<&str, &str>) -> Stage {
        let get = |key: &str, or: &'static str| setup.get(key).map_or(or.to_owned(), |text| (*text).to_owned());
        let names: Vec<String> = get("nodes", "a b").split_whitespace().map(str::to_owned).collect();
        let holders: Vec<String> = get("address on", "a").split_whitespace().map(str::to_owned).collect();
        let mut world = World::cluster(holders.len(), names.len());
        for (number, name) in names.iter().enumerate() {
            let node = world.node(number);
            world.ec2.set_tags(&node, tags([("Name", name)]), START_MS);
        }
        let mut stage = Stage { world, names, outsider: None, zero_ms: 0, lines: Vec::new(), labels: BTreeMap::new() };
        for (number, holder) in holders.iter().enumerate() {
            let address = stage.world.address(number);
            if let Some(node) = stage.node(holder).filter(|_| holder != "a") {
                stage.world.ec2.move_by_hand(&address, Place::Instance(&node), START_MS);
            }
            match setup.get("check") {
                Some(&"ec2") => stage.world.untag(&address, "check"),
                Some(check) => stage.world.tag(&address, "check", check),
                None => {}
            }
            if let Some(policy) = setup.get("policy") {
                stage.world.tag(&address, "policy", policy);
            }
            if let Some(prefer) = setup.get("prefer").and_then(|name| stage.node(name)) {
                stage.world.tag(&address, "prefer", &prefer);
            }
        }
        if let Some(members) = setup.get("cluster db") {
            let mut nodes = Vec::new();
            for name in members.split_whitespace() {
                let node = stage.world.add_node_of("db", InstanceSpec::default());
                stage.world.ec2.set_tags(&node, tags([("Name", name)]), START_MS);
                stage.names.push(name.to_owned());
                nodes.push(node);
            }
            stage.world.add_address_of("db", &nodes, false);
        }
        for name in get("agents", "").split_whitespace() {
            let node = stage.node(name).expect("a node with an agent");
            stage.world.start_agent(&node, 5_000, 0);
        }
        stage.world.settle();
        if let Some(calls_ms) = setup.get("calls take").and_then(|text| millis(text)) {
            stage.world.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: calls_ms, max_ms: calls_ms }));
        }
        if get("memory", "a minute of watching") != "none" {
            stage.world.settings.watch = Duration::from_secs(20);
            stage.world.scheduled(0);
            stage.world.run_until(60_000);
            stage.zero_ms = 60_000;
        }
        stage.world.settings.watch = WATCH;
        stage
    }

    fn node(&self, name: &str) -> Option<Id> {
        let number = self.names.iter().position(|of| of == name)?;
        Some(self.world.node(number))
    }

    fn now_ms(&self) -> u64 {
        self.world.now_ms()
    }

    fn epoch_ms(&self) -> u64 {
        START_MS + self.now_ms()
    }

    fn invoke(&mut self, kind: &str, payload: &Value, at_ms: u64) -> Handle {
        let handle = self.world.invoke(payload, at_ms);
        let label = format!("{kind} {}", self.labels.len() + 1);
        self.labels.insert(handle, label);
        handle
    }

    /// The invocation that the story calls by this number.
    fn number(&self, text: &str) -> Option<Handle> {
        let number: usize = text.parse().ok()?;
        self.labels.keys().nth(number.checked_sub(1)?).copied()
    }

    /// A resource by its name: a node, `address`, `address2`.
    fn resource(&self, name: &str) -> Option<Id> {
        let number = match name {
            "address" => 0,
            "address2" => 1,
            _ => return self.node(name),
        };
        Some(self.world.address(number))
    }

    fn act(&mut self, words: &[&str]) -> Option<()> {
        let now_ms = self.now_ms();
        let epoch_ms = self.epoch_ms();
        match words {
            ["watch"] => drop(self.invoke("watch", &schedule_event(), now_ms)),
            ["watch", "every", "minute", "for", minutes] => {
                for minute in 0..minutes.parse().ok()? {
                    self.invoke("watch", &schedule_event(), now_ms + minute * 60_000);
                }
            }
            ["sweep"] => {
                self.world.settings.watch = Duration::ZERO;
                self.invoke("sweep", &schedule_event(), now_ms);
                self.world.settings.watch = WATCH;
            }
            ["watch", number, "is", "killed", rest @ ..] => {
                let death = match rest {
                    [] => Death::AfterEffects(1),
                    ["before", "its", "next", "change"] => Death::BeforeAct,
                    ["after", "its", "next", "change"] => Death::AfterAct,
                    _ => return None,
                };
                self.world.kill(self.number(number)?, death);
            }
            ["watch", number, "cannot", "reach", node] => {
                let (handle, node) = (self.number(number)?, self.node(node)?);
                self.world.cut(Some(handle), &node, true);
            }
            ["watch", number, "reaches", node, "again"] => {
                let (handle, node) = (self.number(number)?, self.node(node)?);
                self.world.cut(Some(handle), &node, false);
            }
            ["nobody", "reaches", node] => self.world.cut(None, &self.node(node)?, true),
            ["everybody", "reaches", node, "again"] => self.world.cut(None, &self.node(node)?, false),
            ["event:", node, "is", state, rest @ ..] => {
                let node = self.node(node)?;
                let states = [State::Stopping, State::Stopped, State::ShuttingDown, State::Terminated, State::Running];
                let state = states.into_iter().find(|of| of.as_str() == *state)?;
                let at_ms = match rest {
                    [] => now_ms,
                    ["of", age, "ago"] => now_ms - millis(age)?,
                    _ => return None,
                };
                self.invoke("event", &state_event(&node, state, at_ms), now_ms);
            }
            ["event:", "spot", "warning", "for", node] => {
                let node = self.node(node)?;
                self.invoke("event", &spot_event(&node, now_ms), now_ms);
            }
            ["event:", "lifecycle", "hook", "for", node] => {
                let node = self.node(node)?;
                self.invoke("event", &lifecycle_event(&node, now_ms), now_ms);
            }
            ["command", rest @ ..] => {
                let payload = self.command(rest)?;
                self.invoke("command", &payload, now_ms);
            }
            ["by", "hand:", rest @ ..] => self.by_hand(rest)?,
            ["EC2", rest @ ..] => {
                let rule = self.rule(rest)?;
                self.world.ec2.faults_mut().push(rule);
            }
            ["zone", zone, "is", "disrupted", "for", time] => {
                let fault = Fault::Zone { zone: (*zone).to_owned(), unnamed: true };
                self.world.ec2.faults_mut().push(Rule::new(fault).between(epoch_ms, epoch_ms + millis(time)?));
            }
            ["agent", "of", node, verb @ ..] => {
                let node = self.node(node)?;
                let agent = self.world.agents.get_mut(&node)?;
                match verb {
                    ["stops"] => agent.alive = false,
                    ["says", "fail"] => agent.status = "fail",
                    ["says", "leaving"] => agent.status = "leaving",
                    ["says", "ok"] => (agent.alive, agent.status) = (true, "ok"),
                    ["is", "an", "hour", "fast"] => agent.skew_ms = 3_600_000,
                    _ => return None,
                }
            }
            [resource, "is", "tagged", key, value @ ..] => {
                let id = self.resource(resource)?;
                let value = self.ids(&value.join(" "));
                self.world.tag(&id, key, &value);
            }
            [resource, "loses", "its", "tag", key] => {
                let id = self.resource(resource)?;
                self.world.untag(&id, key);
            }
            [node, rest @ ..] => {
                let node = self.node(node)?;
                self.do_to(&node, rest)?;
            }
            [] => return None,
        }
        Some(())
    }

    fn do_to(&mut self, node: &Id, verb: &[&str]) -> Option<()> {
        let epoch_ms = self.epoch_ms();
        let behaviour = match verb {
            ["serves"] => SERVES,
            ["refuses"] => Behaviour::Refuse,
            ["hangs"] => Behaviour::Hang,
            ["is", "silent"] => Behaviour::Silent,
            ["answers", code] => Behaviour::Status(code.parse().ok()?),
            ["takes", time] => Behaviour::Serve { latency_ms: millis(time)? },
            ["flaps:", up, "up,", down, "down"] => Behaviour::Flap { up_ms: millis(up)?, down_ms: millis(down)? },
            ["is", "stopped"] => return self.world.ec2.stop_instance(node, epoch_ms).then_some(()),
            ["is", "started"] => return self.world.ec2.start_instance(node, epoch_ms).then_some(()),
            ["is", "terminated"] => return self.world.ec2.terminate_instance(node, epoch_ms).then_some(()),
            ["reboots", "for", time] => {
                self.world.reboot(node, millis(time)?);
                return Some(());
            }
            ["is", word @ ("impaired" | "unimpaired")] => {
                let check = if *word == "impaired" { Check::Impaired } else { Check::Ok };
                return self.world.ec2.set_status(node, CheckKind::System, check, epoch_ms).then_some(());
            }
            ["has", "maintenance", "in", time] => {
                let event = ScheduledEvent {
                    code: "system-maintenance".to_owned(),
                    description: "planned".to_owned(),
                    not_before_ms: Some(epoch_ms + millis(time)?),
                    not_after_ms: None,
                };
                return self.world.ec2.schedule_events(node, vec![event], epoch_ms).then_some(());
            }
            _ => return None,
        };
        self.world.service(node, behaviour);
        Some(())
    }

    fn by_hand(&mut self, words: &[&str]) -> Option<()> {
        let epoch_ms = self.epoch_ms();
        match words {
            ["another", "address", "is", "put", "on", "every", "free", "place", "of", node] => {
                let node = self.node(node)?;
                let ours: Vec<_> =
                    self.world.addresses.iter().filter_map(|id| self.world.ec2.association(id)).cloned().collect();
                let nics: Vec<_> = self.world.ec2.interfaces_of(&node).cloned().collect();
                for nic in nics {
                    for ip in nic.private_ips {
                        if !ours.iter().any(|at| at.interface == nic.id && at.private_ip == ip) {
                            let other = self.world.ec2.add_address(tags([]));
                            self.world.ec2.move_by_hand(&other, Place::Interface(&nic.id, ip), epoch_ms);
                        }
                    }
                }
            }
            [address, "goes", "to", "nobody"] => {
                let address = self.resource(address)?;
                self.world.ec2.move_by_hand(&address, Place::Nowhere, epoch_ms);
            }
            [address, "goes", "to", "an", "outsider"] => {
                let address = self.resource(address)?;
                let outsider = self.world.ec2.add_instance(InstanceSpec::default());
                self.world.ec2.move_by_hand(&address, Place::Instance(&outsider), epoch_ms);
                self.outsider = Some(outsider);
            }
            [address, "goes", "to", "a", "NAT", "gateway"] => {
                let address = self.resource(address)?;
                let gateway = self.world.ec2.nat_gateway_interface();
                let ip = *self.world.ec2.interfaces_of(&gateway).next()?.private_ips.first()?;
                self.world.ec2.move_by_hand(&address, Place::Interface(&gateway, ip), epoch_ms);
            }
            [address, "goes", "to", "an", "interface", "that", "is", "detached", "from", node] => {
                let (address, node) = (self.resource(address)?, self.node(node)?);
                let (interface, ip) = self.world.add_interface(&node)?;
                self.world.ec2.move_by_hand(&address, Place::Interface(&interface, ip), epoch_ms);
                self.world.detach(&interface);
            }
            [address, "goes", "to", node] => {
                let (address, node) = (self.resource(address)?, self.node(node)?);
                self.world.ec2.move_by_hand(&address, Place::Instance(&node), epoch_ms);
            }
            _ => return None,
        }
        Some(())
    }

    /// `command move address to b force` and the like.
    fn command(&self, words: &[&str]) -> Option<Value> {
        let ip =
            |name: &str| self.resource(name).and_then(|id| self.world.ec2.elastic_ip(&id)).map(|ip| ip.to_string());
        let cluster = |name: &str| {
            let of = self.resource(name).and_then(|id| self.world.ec2.tags(&id)?.get("eipwatch:cluster").cloned());
            of.unwrap_or_default()
        };
        Some(match words {
            ["move", address] => json!({"action": "move", "cluster": cluster(address), "address": ip(address)?}),
            ["move", address, "to", node] => {
                json!({"action": "move", "cluster": cluster(address), "address": ip(address)?, "to": &*self.node(node)?})
            }
            ["move", address, "to", node, "by", "force"] => {
                let to = self.node(node)?;
                json!({"action": "move", "cluster": cluster(address), "address": ip(address)?, "to": &*to, "force": true})
            }
            [verb @ ("drain" | "undrain"), node] => json!({"action": verb, "node": &*self.node(node)?}),
            ["pause", "for", time] => json!({"action": "pause", "cluster": "web", "for": time}),
            [verb @ ("pause" | "resume")] => json!({"action": verb, "cluster": "web"}),
            [verb @ ("pause" | "resume"), cluster] => json!({"action": verb, "cluster": cluster}),
            ["status"] => json!({"action": "status"}),
            _ => return None,
        })
    }

    /// `EC2 answers CODE to APIS for 20s` and the like.
    fn rule(&self, words: &[&str]) -> Option<Rule> {
        let at = words.iter().rposition(|word| *word == "for")?;
        let (what, time) = words.split_at(at);
        let until_ms = self.epoch_ms() + millis(time.get(1)?)?;
        let (what, apis) = match what.iter().position(|word| *word == "to" || *word == "of") {
            Some(at) => (&what[..at], &what[at + 1..]),
            None => (what, &[][..]),
        };
        let codes =
            ["Unavailable", "InternalError", "RequestLimitExceeded", "UnauthorizedOperation", "IncorrectInstanceState"];
        let code = |text: &str| codes.into_iter().find(|code| *code == text);
        let fault = match what {
            ["answers", text] => Fault::Error(Error::injected(code(text)?)),
            ["does", "it", "and", "answers", text] => Fault::ErrorAfter(Error::injected(code(text)?)),
            ["loses", "the", "requests"] => Fault::LostRequest,
            ["loses", "the", "answers"] => Fault::LostAnswer,
            ["only", "pretends"] => Fault::Hollow,
            ["shows", "old", "associations"] => Fault::Stale { what: Shown::Associations, up_to_ms: 5_000 },
            ["shows", "associations", "at", "most", age, "old"] => {
                Fault::Stale { what: Shown::Associations, up_to_ms: millis(age)? }
            }
            ["shows", "old", "states"] => Fault::Stale { what: Shown::States, up_to_ms: 5_000 },
            ["does", "not", "mention", node] => Fault::Omit(self.node(node)?),
            _ => return None,
        };
        let mut rule = Rule::new(fault).between(self.epoch_ms(), until_ms);
        match apis {
            ["watch", number] => rule = rule.by(self.number(number)?),
            apis => {
                for api in apis {
                    rule = rule.on(Api::ALL.into_iter().find(|of| format!("{of:?}") == *api)?);
                }
            }
        }
        Some(rule)
    }

    /// Node names in braces as ids: `holder={b}`.
    fn ids(&self, text: &str) -> String {
        self.names.iter().enumerate().fold(text.to_owned(), |text, (number, name)| {
            text.replace(&format!("{{{name}}}"), &self.world.node(number))
        })
    }

    /// Ids as names.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (number, name) in self.names.iter().enumerate() {
            let id = self.world.node(number);
            text = text.replace(&format!("{name} ({id})"), name);
            text = text.replace(&format!("en{id}"), &format!("the interface of {name}")).replace(&*id, name);
        }
        for (number, id) in self.world.addresses.iter().enumerate() {
            text = text.replace(&**id, &address_name(number));
        }
        if let Some(outsider) = &self.outsider {
            text = text.replace(&**outsider, "the outsider");
        }
        text
    }

    fn label(&self, handle: Handle) -> String {
        self.labels.get(&handle).cloned().unwrap_or_else(|| "the first watch".to_owned())
    }

    /// What came of it.
    fn tell(mut self) -> String {
        let mut lines = std::mem::take(&mut self.lines);
        for placed in self.world.ec2.displacements() {
            lines.push((placed.at_ms.saturating_sub(START_MS), PLACED, "EC2: another address is DISPLACED".to_owned()));
        }
        for placed in self.world.ec2.history() {
            let Some(number) = self.world.addresses.iter().position(|id| *id == placed.allocation) else { continue };
            let on = match &placed.association {
                None => "nobody".to_owned(),
                Some(at) => at.instance.as_ref().map_or("no instance".to_owned(), |id| id.to_string()),
            };
            let at_ms = placed.at_ms.saturating_sub(START_MS);
            let rank = if matches!(placed.cause, Cause::Call { .. }) { PLACED } else { STORY };
            lines.push((at_ms, rank, self.plain(&format!("EC2: {} is on {on}", address_name(number)))));
        }
        for (at_ms, call) in self.world.calls() {
            let who = self.label(call.caller);
            match call.change.as_deref() {
                Some(Request::AssociateAddress { allocation, .. }) => {
                    let how = call.code.unwrap_or(if call.changed { "done" } else { "nothing is done" });
                    lines.push((
                        at_ms,
                        CALLED,
                        self.plain(&format!("{who} calls AssociateAddress for {allocation}: {how}")),
                    ));
                }
                Some(Request::CreateTags { resources, tags, .. }) if self.labels.contains_key(&call.caller) => {
                    let how = match call.code {
                        Some(code) => format!(" ({code})"),
                        None if call.changed => String::new(),
                        None => " (as it was)".to_owned(),
                    };
                    for (key, value) in tags {
                        let on = resources.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(" ");
                        lines.push((at_ms, RECORDED, self.plain(&format!("{who} tags {on}: {key} {value}{how}"))));
                    }
                }
                _ => {}
            }
        }
        for handle in self.labels.keys().copied() {
            let mut log = self.world.log(handle);
            while let [record, later @ ..] = log {
                log = later;
                let moves = |it: &Record| {
                    it.at() == record.at()
                        && matches!(it, Record::Decision { decision, .. } if decision.kind == Kind::Move)
                };
                // Who stays stays after a move, but for what was decided before it.
                let told = self.record(handle, record).map(|(at_ms, rank, text)| match rank {
                    STAYS if later.iter().any(moves) => (at_ms, SEEN, text),
                    rank => (at_ms, rank, text),
                });
                lines.extend(told);
            }
            if let Some(Ending::BadRequest(bad)) = self.world.ending(handle) {
                let at_ms = self.world.ended_ms(handle).unwrap_or_default();
                lines.push((at_ms, ENDS, self.plain(&format!("{} ends: {bad}", self.label(handle)))));
            } else if let (None, Some(at_ms)) = (self.world.ending(handle), self.world.ended_ms(handle)) {
                lines.push((at_ms, ENDS, format!("{} is dead", self.label(handle))));
            }
        }
        lines.retain(|(at_ms, ..)| *at_ms >= self.zero_ms);
        lines.sort_by_key(|(at_ms, rank, _)| (*at_ms, *rank));
        let mut told: String =
            together(lines).iter().map(|(at_ms, text)| format!("{} {text}\n", time(at_ms - self.zero_ms))).collect();
        for (number, id) in self.world.addresses.iter().enumerate() {
            let on = self.world.ec2.association(id).map_or("nobody".to_owned(), |at| {
                at.instance.as_ref().map_or("no instance".to_owned(), |id| id.to_string())
            });
            told.push_str(&self.plain(&format!("At the end {} is on {on}.\n", address_name(number))));
        }
        for (at_ms, rule, text) in &self.world.objections {
            told.push_str(&format!("{WRONG} {} {rule}: {text}\n", time(at_ms.saturating_sub(START_MS + self.zero_ms))));
        }
        for text in &self.world.misbehaved {
            told.push_str(&format!("{WRONG} {text}\n"));
        }
        told
    }

    fn record(&self, handle: Handle, record: &Record) -> Option<(u64, u8, String)> {
        let who = self.label(handle);
        let (at, rank, text) = match record {
            Record::Start { at, .. } => (at, BEGINS, format!("{who} begins")),
            Record::ReadingFailed { at, look, error, .. } => {
                let what = format!("{look:?}");
                let what = match what.split(['(', ' ']).next().unwrap_or_default() {
                    "InstancesById" => "some instances".to_owned(),
                    what => what.to_lowercase(),
                };
                (at, SEEN, format!("{who} cannot read {what}: {}", error.code))
            }
            Record::Verdict { at, node, to, why, .. } => {
                let why = if why == to.as_str() { String::new() } else { format!(": {why}") };
                (at, SEEN, format!("{who}: {node} is {}{why}", to.as_str()))
            }
            Record::Decision { at, address, decision, .. } => {
                let to = decision.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
                let kind = format!("{:?}", decision.kind).to_lowercase();
                let rank = if kind == "move" { DECIDED } else { STAYS };
                (at, rank, format!("{who} on {address}: {kind}{to}, {}: {}", decision.why, decision.text))
            }
            Record::Move { at, address, result, .. } => {
                let how =
                    result.error.as_ref().map_or("EC2 shows it".to_owned(), |error| format!("it failed: {error}"));
                (at, VERIFIED, format!("{who}: {address} to {}: {how}", result.to))
            }
            Record::End { at, report } => {
                let how = report.error.as_ref().map_or("all well".to_owned(), |error| format!("it failed: {error}"));
                (at, ENDS, format!("{who} ends: {how}"))
            }
            _ => return None,
        };
        Some((at.as_millis() - START_MS, rank, self.plain(&text)))
    }
}

/// The same failure again and again is told once, with how often.
fn together(lines: Vec<(u64, u8, String)>) -> Vec<(u64, String)> {
    let fails = |text: &str| {
        let refused = text.contains(" tags ") && text.ends_with(')') && !text.ends_with("(as it was)");
        refused || text.contains(" cannot read ") || (text.contains(" calls ") && !text.ends_with("done"))
    };
    let mut told: Vec<(u64, String, usize)> = Vec::new();
    for (at_ms, _, text) in lines {
        match told.iter_mut().find(|(_, of, _)| fails(of) && *of == text) {
            Some((_, _, times)) => *times += 1,
            None => told.push((at_ms, text, 1)),
        }
    }
    let often = |(at_ms, text, times): (u64, String, usize)| match times {
        1 => (at_ms, text),
        times => (at_ms, format!("{text} ({times} times from now on)")),
    };
    told.into_iter().map(often).collect()
}

/// Milliseconds as `1:02.500`.
fn time(ms: u64) -> String {
    format!("{}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}

fn address_name(number: usize) -> String {
    if number == 0 { "address".to_owned() } else { format!("address{}", number + 1) }
}
