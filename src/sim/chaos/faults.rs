//! The faults: what strikes, and how it ends.

use serde_json::{Value, json};

use crate::embedded::ec2::{
    Alarm, AlarmState, Api, Check, CheckKind, Error, Id, InstanceSpec, Limit, Place, Request, ScheduledEvent, State,
    tags,
};
use crate::embedded::faults::{Fault, Rule, Shown};
use crate::sim::check::Role;
use crate::sim::world::{Behaviour, Death, Handle, SERVES, START_MS};
use crate::sim::world::{lifecycle_event, schedule_event, spot_event, state_event, tag_event};

use super::{Chaos, Player, RANDOM_CALLER, ZONES, pick};

/// Every kind of fault, by name.
pub const KINDS: [&str; 63] = [
    "agent-dead",
    "agent-fails",
    "agent-leaves",
    "agent-throttled",
    "alarm",
    "api-cut-off",
    "api-down",
    "api-error-after",
    "api-errors",
    "api-hollow",
    "api-late",
    "api-lost-answer",
    "api-lost-request",
    "api-slow",
    "clock-skew",
    "cluster-tag-lost",
    "command-dry-run",
    "command-force",
    "command-move",
    "command-status",
    "crash",
    "crash-all",
    "drain",
    "edit-health",
    "edit-policy",
    "edit-state",
    "event-old",
    "event-twice",
    "flap",
    "hand-move",
    "hand-remove",
    "hand-to-outsider",
    "hang",
    "impaired",
    "kill",
    "kill-after-act",
    "kill-before-act",
    "lifecycle",
    "loose-interface",
    "manual",
    "not-permitted",
    "occupied",
    "omitted",
    "overlap",
    "partition",
    "partition-one",
    "prefer",
    "reboot",
    "scheduled-event",
    "silent",
    "slow",
    "spot",
    "stale-associations",
    "stale-states",
    "stale-tags",
    "status-500",
    "stop",
    "terminate",
    "throttle",
    "told-to-stop",
    "wipe-tags",
    "zone",
    "zone-down",
];

/// With so many instances none is ended any more; what was announced before is kept.
const MAX_LAUNCHED: usize = 60;

/// Whether a fault befalls all clusters at once.
pub(super) fn is_everybodys(kind: &str) -> bool {
    let prefixes = ["api-", "stale-", "kill", "zone"];
    prefixes.iter().any(|prefix| kind.starts_with(prefix))
        || matches!(kind, "throttle" | "not-permitted" | "overlap" | "told-to-stop")
}

/// What ends by itself.
#[derive(Clone, Debug)]
pub(super) enum Undo {
    Service(Id),
    Mend(Id),
    MendOne(Handle, Id),
    Start(Id),
    Replace,
    Status(Id),
    Unschedule(Id),
    Terminate(Id),
    Agent(Id),
    Alarm,
    Member(Id),
    Active(Id),
    Auto(Id),
    Prefer(Id),
    Policy,
    Unoccupy(Id),
    Home(Id),
    Crash(Id),
    Quiet,
    ZoneUp(Vec<Id>),
}

/// The faults.
impl Chaos {
    fn later(&mut self, in_ms: u64, undo: Undo) {
        self.undone += 1;
        self.tell(format!("  until {:.3}: {undo:?}", (self.world.now_ms() + in_ms) as f64 / 1_000.0));
        self.undo.insert((self.world.now_ms() + in_ms, self.undone), (self.at, undo));
    }

    fn nodes(&self) -> Vec<Id> {
        self.team().map(|team| team.nodes.clone()).unwrap_or_default()
    }

    fn addresses(&self) -> Vec<Id> {
        self.team().map(|team| team.addresses.clone()).unwrap_or_default()
    }

    fn beats(&self) -> bool {
        self.team().is_some_and(|team| team.beats)
    }

    fn some_address(&mut self) -> Id {
        let all = self.addresses();
        all.get(self.rng.usize(0..all.len().max(1))).cloned().unwrap_or_default()
    }

    /// A running node of the cluster, the holder more often than not.
    fn some_node(&mut self) -> Option<Id> {
        let address = self.some_address();
        let holder = self.world.ec2.holder(&address).cloned();
        let runs = |id: &Id| self.world.ec2.state(id) == Some(State::Running);
        let running: Vec<Id> = self.nodes().into_iter().filter(runs).collect();
        if let Some(holder) = holder.filter(|id| running.contains(id))
            && self.rng.u8(0..10) < 6
        {
            return Some(holder);
        }
        running.get(self.rng.usize(0..running.len().max(1))).cloned()
    }

    /// A running node that somebody could put an address on.
    fn some_place(&mut self) -> Option<Id> {
        self.some_node().filter(|id| !self.elsewhere.contains(id))
    }

    fn some_running_invocation(&mut self) -> Option<Handle> {
        let running: Vec<Handle> = self.world.running().collect();
        running.get(self.rng.usize(0..running.len().max(1))).copied()
    }

    fn rule(&mut self, rule: Rule, for_ms: std::ops::Range<u64>) -> bool {
        let for_ms = self.rng.u64(for_ms);
        let now_ms = self.now_abs();
        self.world.ec2.faults_mut().push(rule.between(now_ms, now_ms + for_ms));
        true
    }

    /// Sends an event, if anybody listens. Says how often it will come.
    fn send(&mut self, payload: &Value) -> u32 {
        let mut times = 0;
        if self.watched() && self.rng.u8(0..4) != 0 {
            for _ in 0..=u8::from(self.rng.u8(0..4) == 0) {
                let in_ms = self.rng.u64(100..4_000);
                self.invoke(payload, in_ms, Role::Auto);
                times += 1;
            }
        }
        times
    }

    fn broken(&mut self, behaviour: Behaviour) -> bool {
        let Some(node) = self.some_node() else { return false };
        self.world.service(&node, behaviour);
        let for_ms = self.rng.u64(500..60_000);
        self.later(for_ms, Undo::Service(node));
        true
    }

    fn mode_event(&mut self, resource: &Id, kind: &str) {
        let all = self.world.ec2.tags(resource).cloned().unwrap_or_default();
        let event = tag_event(resource, kind, &["eipwatch:mode"], &all, self.world.now_ms());
        self.send(&event);
    }

    pub(super) fn alarm(&mut self, on: Option<Id>) {
        let now_ms = self.now_abs();
        let at = self.at;
        let Some(team) = self.teams.get_mut(at) else { return };
        let Some(name) = team.alarm.clone() else { return };
        let instances = on.clone().or_else(|| team.nodes.first().cloned()).into_iter().collect();
        let state = if on.is_some() { AlarmState::Alarm } else { AlarmState::Ok };
        self.world.ec2.set_alarm(Alarm { name, state, instances }, now_ms);
        team.alarm_on = on;
    }

    fn watched(&self) -> bool {
        self.life.player == Player::Eipwatch
    }

    /// Lets a fault strike. False: there was nothing for it to strike.
    pub(super) fn strike(&mut self, kind: &str) -> bool {
        let now_ms = self.world.now_ms();
        let now_abs = self.now_abs();
        match kind {
            // Each of them is replaced.
            "terminate" | "spot" | "lifecycle" if self.world.nodes.len() >= MAX_LAUNCHED => false,
            "crash" => self.broken(Behaviour::Refuse),
            "hang" => self.broken(Behaviour::Hang),
            "silent" => self.broken(Behaviour::Silent),
            "status-500" => self.broken(Behaviour::Status(500)),
            "slow" => {
                let timeout_ms = self.team().map_or(1_000, |team| team.bounds.timeout_ms);
                let latency_ms = self.rng.u64(timeout_ms / 2..timeout_ms * 2);
                self.broken(Behaviour::Serve { latency_ms })
            }
            "flap" => {
                let (up_ms, down_ms) = (self.rng.u64(200..6_000), self.rng.u64(200..6_000));
                self.broken(Behaviour::Flap { up_ms, down_ms })
            }
            "crash-all" => {
                let nodes = self.nodes();
                let for_ms = self.rng.u64(2_000..40_000);
                for node in nodes {
                    self.world.service(&node, Behaviour::Refuse);
                    self.later(for_ms, Undo::Service(node));
                }
                true
            }
            "partition" => {
                let Some(node) = self.some_node() else { return false };
                self.world.cut(None, &node, true);
                let for_ms = self.rng.u64(500..40_000);
                self.later(for_ms, Undo::Mend(node));
                true
            }
            "partition-one" => {
                let (Some(node), Some(handle)) = (self.some_node(), self.some_running_invocation()) else {
                    return false;
                };
                self.world.cut(Some(handle), &node, true);
                self.harmed.insert(handle);
                let for_ms = self.rng.u64(500..40_000);
                self.later(for_ms, Undo::MendOne(handle, node));
                true
            }
            "stop" => {
                let Some(node) = self.some_node() else { return false };
                self.world.ec2.stop_instance(&node, now_abs);
                self.announced.remove(&node);
                let for_ms = self.rng.u64(9_000..60_000);
                self.later(for_ms, Undo::Start(node));
                true
            }
            "terminate" => {
                let Some(node) = self.some_node() else { return false };
                self.terminate(&node);
                true
            }
            "reboot" => {
                let Some(node) = self.some_node() else { return false };
                let away_ms = self.rng.u64(2_000..40_000);
                self.world.reboot(&node, away_ms);
                self.impaired.remove(&node);
                true
            }
            "impaired" => {
                let Some(node) = self.some_node() else { return false };
                let kinds = [CheckKind::System, CheckKind::Instance, CheckKind::Ebs, CheckKind::Application];
                let kind = kinds.get(self.rng.usize(0..kinds.len())).copied().unwrap_or(CheckKind::System);
                self.world.ec2.set_status(&node, kind, Check::Impaired, now_abs);
                self.impaired.insert(node.clone());
                let for_ms = self.rng.u64(10_000..90_000);
                self.later(for_ms, Undo::Status(node));
                true
            }
            "scheduled-event" => {
                // One that is announced at short notice cannot be told from one that an `undrain` of these minutes has put an end to.
                let node = self.some_node().filter(|node| !self.undrained.contains(node));
                let Some(node) = node else { return false };
                let begins_ms = now_abs + self.rng.u64(0..900_000);
                let event = ScheduledEvent {
                    code: "system-maintenance".to_owned(),
                    description: "planned".to_owned(),
                    not_before_ms: Some(begins_ms),
                    not_after_ms: None,
                };
                self.world.ec2.schedule_events(&node, vec![event], now_abs);
                self.booked.insert(node.clone(), begins_ms);
                let for_ms = self.rng.u64(30_000..120_000);
                self.later(for_ms, Undo::Unschedule(node));
                true
            }
            "spot" | "lifecycle" => {
                let Some(node) = self.some_node() else { return false };
                let event = if kind == "spot" { spot_event(&node, now_ms) } else { lifecycle_event(&node, now_ms) };
                self.announced.insert(node.clone());
                self.send(&event);
                self.later(120_000, Undo::Terminate(node));
                true
            }
            "throttle" => {
                // Somebody else in the account has emptied the buckets, and leaves one call of each a second.
                for api in Api::ALL {
                    let limit = Limit { refill_per_s: 1, ..api.default_limit() };
                    self.world.ec2.settings.limits.insert(api, limit);
                }
                self.world.ec2.empty_buckets(now_abs);
                let for_ms = self.rng.u64(10_000..60_000);
                // Only so that the judges know.
                let until_ms = now_abs + for_ms;
                let mark = Rule::new(Fault::Latency { min_ms: 0, max_ms: 0 }).between(now_abs, until_ms);
                self.world.ec2.faults_mut().push(mark);
                self.later(for_ms, Undo::Quiet);
                true
            }
            "api-errors" => {
                let code = ["InternalError", "Unavailable", "RequestLimitExceeded"].get(self.rng.usize(0..3)).copied();
                let per_mille = self.rng.u32(100..900);
                self.rule(Rule::error(code.unwrap_or("InternalError")).chance(per_mille), 3_000..40_000)
            }
            "api-error-after" => {
                self.rule(Rule::new(Fault::ErrorAfter(Error::injected("InternalError"))).chance(600), 5_000..40_000)
            }
            "api-lost-request" => self.rule(Rule::new(Fault::LostRequest).chance(500), 5_000..30_000),
            "api-lost-answer" => self.rule(Rule::new(Fault::LostAnswer).chance(500), 5_000..30_000),
            "api-late" => {
                let by_ms = self.rng.u64(100..3_000);
                self.rule(Rule::new(Fault::Late { by_ms }).on(Api::AssociateAddress).on(Api::CreateTags), 5_000..40_000)
            }
            "api-hollow" => self.rule(Rule::new(Fault::Hollow).on(Api::AssociateAddress).chance(700), 5_000..40_000),
            "api-slow" => self.rule(Rule::new(Fault::Latency { min_ms: 500, max_ms: 6_000 }), 5_000..40_000),
            "api-down" => self.rule(Rule::error("Unavailable"), 15_000..25_000),
            "api-cut-off" => {
                let Some(handle) = self.some_running_invocation() else { return false };
                self.harmed.insert(handle);
                self.rule(Rule::new(Fault::LostRequest).by(handle), 5_000..60_000)
            }
            "not-permitted" => self.rule(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress), 5_000..40_000),
            "stale-associations" | "stale-states" | "stale-tags" => {
                let what = match kind {
                    "stale-associations" => Shown::Associations,
                    "stale-states" => Shown::States,
                    _ => Shown::Tags,
                };
                let up_to_ms = self.rng.u64(500..5_000);
                self.rule(Rule::new(Fault::Stale { what, up_to_ms }).chance(700), 10_000..90_000)
            }
            "omitted" => {
                let Some(node) = self.some_node() else { return false };
                self.rule(Rule::new(Fault::Omit(node)).on(Api::DescribeInstances), 3_000..40_000)
            }
            "zone" => {
                let zone = pick(&mut self.rng, &ZONES);
                let unnamed = self.rng.bool();
                self.rule(Rule::new(Fault::Zone { zone: zone.to_owned(), unnamed }), 10_000..60_000)
            }
            "zone-down" => {
                // What EC2 cannot describe is dead besides, in every cluster.
                let zone = pick(&mut self.rng, &ZONES);
                let for_ms = self.rng.u64(10_000..60_000);
                let there = |id: &&Id| self.world.ec2.zone(id).is_some_and(|of| **of == *zone);
                let nodes: Vec<Id> = self.world.nodes.iter().filter(there).cloned().collect();
                for node in &nodes {
                    self.world.cut(None, node, true);
                }
                self.later(for_ms, Undo::ZoneUp(nodes));
                let unnamed = self.rng.bool();
                let fault = Fault::Zone { zone: zone.to_owned(), unnamed };
                self.world.ec2.faults_mut().push(Rule::new(fault).between(now_abs, now_abs + for_ms));
                true
            }
            "kill" | "kill-before-act" | "kill-after-act" => {
                let Some(handle) = self.some_running_invocation() else { return false };
                let death = match kind {
                    "kill" => Death::AfterEffects(self.rng.u64(1..60)),
                    "kill-before-act" => Death::BeforeAct,
                    _ => Death::AfterAct,
                };
                self.world.kill(handle, death);
                self.harmed.insert(handle);
                true
            }
            "told-to-stop" => {
                let Some(handle) = self.some_running_invocation() else { return false };
                self.world.stop(handle);
                self.harmed.insert(handle);
                true
            }
            "overlap" => {
                if !self.watched() {
                    return false;
                }
                for _ in 0..self.rng.u8(1..4) {
                    let in_ms = self.rng.u64(0..800);
                    self.invoke(&schedule_event(), in_ms, Role::Auto);
                }
                true
            }
            _ => self.strike_by_hand(kind),
        }
    }

    /// Faults that people, programs and agents make.
    fn strike_by_hand(&mut self, kind: &str) -> bool {
        let now_ms = self.world.now_ms();
        let now_abs = self.now_abs();
        match kind {
            "wipe-tags" => {
                for address in self.addresses() {
                    self.world.untag(&address, "state");
                }
                let beats = self.beats();
                let health = self.health_keys();
                for node in self.nodes() {
                    health.iter().for_each(|key| self.world.untag(&node, key));
                    if beats {
                        self.world.untag(&node, "heartbeat");
                    }
                }
                true
            }
            "edit-state" => {
                let address = self.some_address();
                let (Some(one), Some(other)) = (self.some_node(), self.some_node()) else { return false };
                let holder = self.world.ec2.holder(&address).cloned().unwrap_or_default();
                let at = |ms: u64| crate::core::time::Time::from_millis(ms);
                let text = match self.rng.u8(0..6) {
                    0 => "holder=".to_owned(),
                    1 => format!("holder={one} since={} why=holder-unhealthy", at(now_abs - 3_600_000)),
                    2 => format!("holder={one} since={} from={holder} why=holder-gone", at(now_abs)),
                    3 => format!("holder={one} since={} from={holder} why=failback", at(now_abs + 86_400_000 * 400)),
                    4 => {
                        let then = at(now_abs - 1_000);
                        format!(
                            "holder={holder} since={then} from={other} why=holder-unhealthy moves={then}/{then}/{then}/{then}/{then}"
                        )
                    }
                    _ => "do not touch, Tuesday".to_owned(),
                };
                self.world.tag(&address, "state", &text);
                self.tell(format!("{address}: state is edited: {text}"));
                true
            }
            "edit-health" => {
                let Some(node) = self.some_node() else { return false };
                let at = crate::core::time::Time::from_millis(now_abs - 60_000);
                let text = match self.rng.u8(0..4) {
                    0 => format!("verdict=healthy since={at}"),
                    1 => format!("verdict=unhealthy since={at} why=http"),
                    2 => format!("verdict=gone since={at}"),
                    _ => "verdict=".to_owned(),
                };
                let key = pick(&mut self.rng, &[0, 1]);
                let key = self.health_keys().get(key).cloned().unwrap_or_else(|| "health".to_owned());
                self.world.tag(&node, &key, &text);
                self.judge(|checker| checker.health_forged(&node, now_abs));
                true
            }
            "edit-policy" => {
                // What cannot be read has its default; the rest stays as it was.
                let text = self.team().map(|team| format!("{} bogus=1", team.policy)).unwrap_or_default();
                for address in self.addresses() {
                    self.world.tag(&address, "policy", &text);
                }
                self.later(20_000, Undo::Policy);
                true
            }
            "cluster-tag-lost" => {
                let Some(node) = self.some_node() else { return false };
                self.world.untag(&node, "cluster");
                let for_ms = self.rng.u64(3_000..60_000);
                self.later(for_ms, Undo::Member(node));
                true
            }
            "hand-move" => {
                let address = self.some_address();
                let Some(node) = self.some_place() else { return false };
                self.world.ec2.move_by_hand(&address, Place::Instance(&node), now_abs)
            }
            "hand-remove" => {
                let address = self.some_address();
                self.world.ec2.move_by_hand(&address, Place::Nowhere, now_abs)
            }
            "hand-to-outsider" => {
                let address = self.some_address();
                let for_ms = self.rng.u64(5_000..60_000);
                self.later(for_ms, Undo::Home(address.clone()));
                // An instance and a NAT gateway take turns, without chance: what else befalls a seed stays what it was.
                let turn = self.life.seed + self.faults.get(kind).copied().unwrap_or_default();
                let gateway = self.world.ec2.interfaces_of(&self.gateway).next().filter(|_| turn % 2 == 1).cloned();
                match gateway.and_then(|nic| Some((nic.id, *nic.private_ips.first()?))) {
                    Some((id, ip)) => self.world.ec2.move_by_hand(&address, Place::Interface(&id, ip), now_abs),
                    None => self.world.ec2.move_by_hand(&address, Place::Instance(&self.outsider), now_abs),
                }
            }
            "loose-interface" => {
                let address = self.some_address();
                let Some(node) = self.some_place() else { return false };
                let Some((interface, ip)) = self.world.add_interface(&node) else { return false };
                self.world.ec2.move_by_hand(&address, Place::Interface(&interface, ip), now_abs);
                self.world.detach(&interface);
                true
            }
            "occupied" => {
                // Every free private address of every node but the holders' own.
                let all = self.world.addresses.clone();
                let taken: Vec<_> = all.iter().filter_map(|id| self.world.ec2.association(id)).cloned().collect();
                let mut places = Vec::new();
                for node in &self.nodes() {
                    for nic in self.world.ec2.interfaces_of(node) {
                        for ip in &nic.private_ips {
                            if !taken.iter().any(|at| at.interface == nic.id && at.private_ip == *ip) {
                                places.push((nic.id.clone(), *ip));
                            }
                        }
                    }
                }
                let for_ms = self.rng.u64(10_000..60_000);
                for (interface, ip) in places {
                    let other = self.world.ec2.add_address(tags([]));
                    self.world.ec2.move_by_hand(&other, Place::Interface(&interface, ip), now_abs);
                    self.later(for_ms, Undo::Unoccupy(other));
                }
                if let Some(node) = self.some_node()
                    && self.rng.bool()
                {
                    self.later(4_000, Undo::Crash(node));
                }
                true
            }
            "drain" => {
                let Some(node) = self.some_node() else { return false };
                if self.rng.bool() && self.watched() {
                    self.invoke(&json!({"action": "drain", "node": &*node}), 0, Role::Auto);
                } else {
                    let garbage = self.rng.u8(0..4) == 0;
                    self.world.tag(&node, "mode", if garbage { "maintenance" } else { "drain" });
                    self.mode_event(&node, "instance");
                }
                let for_ms = self.rng.u64(10_000..90_000);
                self.later(for_ms, Undo::Active(node));
                true
            }
            "manual" => {
                let address = self.some_address();
                let until = crate::core::time::Time::from_millis(now_abs + 30_000);
                let name = self.team_name();
                match self.rng.u8(0..4) {
                    0 if self.watched() => {
                        self.invoke(&json!({"action": "pause", "cluster": name}), 0, Role::Auto);
                    }
                    1 => self.world.tag(&address, "mode", &format!("manual until={until}")),
                    2 => self.world.tag(&address, "mode", "hands off"),
                    _ => self.world.tag(&address, "mode", "manual"),
                }
                self.mode_event(&address, "elastic-ip");
                let for_ms = self.rng.u64(10_000..60_000);
                for address in self.addresses() {
                    self.later(for_ms, Undo::Auto(address));
                }
                true
            }
            "command-move" | "command-force" => {
                if !self.watched() {
                    return false;
                }
                let address = self.some_address();
                let ip = self.world.ec2.elastic_ip(&address).map(|ip| ip.to_string());
                let nodes = self.nodes();
                let name = self.team_name();
                let to = nodes.get(self.rng.usize(0..nodes.len().max(1))).cloned().unwrap_or_default();
                let force = kind == "command-force";
                let to = (force || self.rng.bool()).then_some(&*to);
                let payload = json!({"action": "move", "cluster": name, "address": ip, "force": force, "to": to});
                self.invoke(&payload, 0, if force { Role::Force } else { Role::Command });
                if force {
                    self.later(60_000, Undo::Auto(address));
                }
                true
            }
            "command-status" | "command-dry-run" => {
                if !self.watched() {
                    return false;
                }
                let address = self.some_address();
                let ip = self.world.ec2.elastic_ip(&address).map(|ip| ip.to_string());
                let name = self.team_name();
                let payload = match (kind, self.rng.bool()) {
                    ("command-status", _) => json!({"action": "status"}),
                    (_, true) => json!({"action": "sweep", "dry_run": true}),
                    (_, false) => json!({"action": "move", "cluster": name, "address": ip, "dry_run": true}),
                };
                self.invoke(&payload, 0, Role::Reader);
                true
            }
            "prefer" => {
                let address = self.some_address();
                let Some(node) = self.some_node() else { return false };
                self.world.tag(&address, "prefer", &node);
                let for_ms = self.rng.u64(20_000..120_000);
                self.later(for_ms, Undo::Prefer(address));
                true
            }
            "event-old" => {
                // Of an earlier life of the instance, or too old to be believed.
                let Some(node) = self.some_node() else { return false };
                let launched_ms = self.world.ec2.launched_ms(&node).unwrap_or(START_MS).saturating_sub(START_MS);
                let earlier_ms =
                    if launched_ms > 0 { launched_ms.checked_sub(2_000) } else { now_ms.checked_sub(70_000) };
                let Some(at_ms) = earlier_ms else { return false };
                let state = if self.rng.bool() { State::Stopped } else { State::Stopping };
                self.send(&state_event(&node, state, at_ms)) > 0
            }
            "event-twice" => {
                let Some(change) = self.world.ec2.state_changes().back().cloned() else { return false };
                let at_ms = change.at_ms.saturating_sub(START_MS);
                let event = state_event(&change.instance, change.state, at_ms);
                self.send(&event) + self.send(&event) >= 2
            }
            "agent-dead" | "agent-fails" | "agent-leaves" | "clock-skew" => {
                if !self.beats() {
                    return false;
                }
                let Some(node) = self.some_node() else { return false };
                let skew_ms = self.rng.i64(-600_000..600_000);
                let Some(agent) = self.world.agents.get_mut(&node) else { return false };
                match kind {
                    "agent-dead" => agent.alive = false,
                    "agent-fails" => agent.status = "fail",
                    "agent-leaves" => agent.status = "leaving",
                    _ => agent.skew_ms = skew_ms,
                }
                let for_ms = self.rng.u64(5_000..60_000);
                self.later(for_ms, Undo::Agent(node));
                true
            }
            "agent-throttled" => {
                if !self.beats() {
                    return false;
                }
                let Some(node) = self.some_node() else { return false };
                let Some(agent) = self.world.agent_caller(&node) else { return false };
                let refused = Rule::error("RequestLimitExceeded").on(Api::CreateTags).by(agent);
                self.rule(refused, 5_000..60_000)
            }
            "alarm" => {
                if self.team().is_none_or(|team| team.alarm.is_none() || team.alarm_on.is_some()) {
                    return false;
                }
                let node = self.some_node();
                self.alarm(node);
                let for_ms = self.rng.u64(5_000..60_000);
                self.later(for_ms, Undo::Alarm);
                true
            }
            _ => false,
        }
    }

    /// Where the health of the cluster's nodes may be recorded.
    fn health_keys(&self) -> [String; 2] {
        let name = self.team_name();
        ["health".to_owned(), format!("health:{name}")]
    }

    fn terminate(&mut self, node: &Id) {
        let now_ms = self.now_abs();
        if self.world.ec2.terminate_instance(node, now_ms) {
            self.announced.remove(node);
            let in_ms = self.rng.u64(5_000..40_000);
            self.later(in_ms, Undo::Replace);
        }
    }

    /// `resting`: at once and for good, by hand.
    pub(super) fn put_right(&mut self, undo: Undo, resting: bool) {
        let now_ms = self.now_abs();
        match undo {
            Undo::Service(node) => self.world.service(&node, SERVES),
            Undo::Mend(node) => self.world.cut(None, &node, false),
            Undo::MendOne(handle, node) => self.world.cut(Some(handle), &node, false),
            Undo::Start(node) => match self.world.ec2.state(&node) {
                Some(State::Stopped) => {
                    self.world.ec2.start_instance(&node, now_ms);
                    self.announced.remove(&node);
                    self.impaired.remove(&node);
                }
                Some(State::Stopping) => self.later(1_000, Undo::Start(node)),
                _ => {}
            },
            Undo::Replace => {
                let Some(team) = self.team() else { return };
                let (name, count) = (team.name, team.addresses.len());
                let node = self.world.add_node_of(name, InstanceSpec::default());
                for _ in 1..count {
                    self.world.add_private_ip(&node);
                }
                self.member.insert(node.clone(), name.to_owned());
                let at = self.at;
                if let Some(team) = self.teams.get_mut(at) {
                    team.nodes.push(node.clone());
                }
                if self.beats() {
                    self.world.start_agent(&node, 5_000, 0);
                }
            }
            Undo::Status(node) => {
                for kind in [CheckKind::System, CheckKind::Instance, CheckKind::Ebs] {
                    self.world.ec2.set_status(&node, kind, Check::Ok, now_ms);
                }
                self.world.ec2.set_status(&node, CheckKind::Application, Check::NotApplicable, now_ms);
                self.impaired.remove(&node);
            }
            Undo::Unschedule(node) => {
                self.world.ec2.schedule_events(&node, Vec::new(), now_ms);
                self.booked.remove(&node);
            }
            Undo::Terminate(node) => {
                if self.announced.contains(&node) {
                    self.terminate(&node);
                }
            }
            Undo::Agent(node) => {
                if let Some(agent) = self.world.agents.get_mut(&node) {
                    agent.alive = true;
                    agent.status = "ok";
                    agent.skew_ms = 0;
                }
            }
            Undo::Alarm => self.alarm(None),
            Undo::Member(node) => {
                let text = self.member.get(&node).cloned().unwrap_or_default();
                self.world.tag(&node, "cluster", &text);
            }
            Undo::Active(node) if self.watched() && !resting && self.rng.bool() => {
                self.invoke(&json!({"action": "undrain", "node": &*node}), 0, Role::Auto);
                self.undrained.insert(node.clone());
                let now_ms = self.now_abs();
                for team in &mut self.teams {
                    team.checker.undrained(&node, now_ms);
                }
                // Where the command fails, a person helps.
                self.later(10_000, Undo::Active(node));
            }
            Undo::Active(node) => self.world.tag(&node, "mode", "active"),
            Undo::Auto(address) if self.watched() && !resting && self.rng.bool() => {
                let name = self.team_name();
                self.invoke(&json!({"action": "resume", "cluster": name}), 0, Role::Auto);
                self.later(10_000, Undo::Auto(address));
            }
            Undo::Auto(address) => self.world.tag(&address, "mode", "auto"),
            Undo::Prefer(address) => match self.prefer.get(&address).cloned() {
                Some(node) => self.world.tag(&address, "prefer", &node),
                None => self.world.untag(&address, "prefer"),
            },
            Undo::Policy => {
                let policy = self.team().map(|team| team.policy.clone()).unwrap_or_default();
                for address in self.addresses() {
                    self.world.tag(&address, "policy", &policy);
                }
            }
            Undo::Quiet => self.world.ec2.settings.limits.clear(),
            Undo::ZoneUp(nodes) => nodes.iter().for_each(|node| self.world.cut(None, node, false)),
            Undo::Unoccupy(other) => {
                self.world.ec2.move_by_hand(&other, Place::Nowhere, now_ms);
            }
            Undo::Home(address) => {
                let away = self
                    .world
                    .ec2
                    .association(&address)
                    .is_some_and(|at| at.instance.as_ref() == Some(&self.outsider) || at.interface == self.gateway);
                if away && let Some(node) = self.some_place() {
                    self.world.ec2.move_by_hand(&address, Place::Instance(&node), now_ms);
                }
            }
            Undo::Crash(node) => {
                self.world.service(&node, Behaviour::Refuse);
                self.later(20_000, Undo::Service(node));
            }
        }
    }

    pub(super) fn move_at_random(&mut self) {
        self.random_moves_ms = self.world.now_ms() + 20_000;
        self.at = self.rng.usize(0..self.teams.len().max(1));
        let address = self.some_address();
        let nodes = self.nodes();
        let node = nodes.get(self.rng.usize(0..nodes.len().max(1))).cloned().unwrap_or_default();
        let Some(interface) = self.world.ec2.primary_interface(&node) else { return };
        let ip = self.world.ec2.interfaces_of(&interface).next().and_then(|nic| nic.private_ips.first().copied());
        let Some(private_ip) = ip else { return };
        let request = Request::AssociateAddress {
            allocation: address,
            interface,
            private_ip,
            allow_reassociation: true,
            dry_run: false,
        };
        let now_ms = self.now_abs();
        drop(self.world.ec2.call(RANDOM_CALLER, &request, now_ms));
        self.look(true);
    }
}
