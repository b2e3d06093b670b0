//! What one watch was shown, and what may be asked for with it: the contract's rules, written down a second time.
//!
//! Nothing of the core is used here. A watch is judged by its own inputs, so that there is no slack: what it could not know is not held
//! against it, and what it was shown is.

use std::collections::BTreeMap;
use std::sync::Arc;

use eipwatch::embedded::ec2::{Address, Filter, Id, Instance, Request, Response, State};

/// For how long a read that shows the holder before a verified move is stale.
const SETTLING_MS: u64 = 30_000;
/// How old the reading before a move may be.
const READ_BEFORE_MOVE_MS: u64 = 1_000;
/// How long a state-change event counts.
const EVENT_COUNTS_MS: u64 = 60_000;

/// The brake's window.
const WINDOW_MS: u64 = 60_000;

/// How far apart two invocations may have recorded the same move.
const SAME_MOVE_MS: u64 = 2_500;

/// Every rule that is judged.
pub const RULES: [&str; 24] = [
    "acts on a stale read",
    "claims what it did not do",
    "counts more moves than there were",
    "displaces",
    "failback too soon",
    "failback undoes others' move",
    "fails at rest",
    "ignores the brake",
    "last resort before a candidate",
    "misbehaves",
    "moves blindly",
    "moves in manual mode",
    "moves off a healthy holder",
    "moves off an outsider",
    "moves to where it is",
    "not rescued",
    "remembers another holder",
    "remembers what never was",
    "restless",
    "retries after a third holder",
    "sends again blindly",
    "sends twice at once",
    "to no candidate",
    "too many moves",
];

/// The figures of a world's policy that are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub fall: u32,
    pub rise: u32,
    pub stable_ms: u64,
    pub failback: bool,
    pub max_moves: usize,
    pub probed: bool,
}

/// What a watch was told when it began.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// An event said at this time that this node stops.
    pub stopped: Option<(Id, u64)>,
    /// An announcement: this node will stop.
    pub leaving: Option<Id>,
    /// A command to move the address; with `force`.
    pub command: Option<bool>,
    /// It only reports.
    pub reads_only: bool,
}

/// A node's probes as one watch saw them, in the order of their starts.
#[derive(Clone, Debug, Default)]
struct Streak {
    passes: u32,
    fails: u32,
    up: Option<bool>,
    passed: bool,
    judged_ms: Option<u64>,
    failing_ms: Option<u64>,
    passing_ms: Option<u64>,
}

/// A call to move the address.
#[derive(Clone, Debug)]
struct Sent {
    from: Option<Id>,
    to: Id,
    asked_ms: u64,
    /// The address left the target less than 30 s before: a read that shows it there may be older, and proves nothing after an error.
    returns: bool,
    failed: bool,
    counted: bool,
    answered_ms: Option<u64>,
    /// Whether a reading that was asked for after the answer has come.
    looked: bool,
}

/// A move of its own that EC2 has shown.
#[derive(Clone, Debug)]
struct Own {
    at_ms: u64,
    from: Option<Id>,
    to: Id,
}

/// What EC2 and the nodes have shown one watch.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    told: Told,
    addresses: Option<(u64, Arc<Vec<Address>>)>,
    instances: BTreeMap<Id, Instance>,
    missing: Vec<Id>,
    streaks: BTreeMap<Id, Streak>,
    own: Option<Own>,
    sent: Option<Sent>,
    counted_ms: Vec<u64>,
    /// Nodes that EC2 refused, or to which it does not let the watch move anything: no candidates any more.
    refused: Vec<Id>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Command,
    Rescue,
    Leaving,
    Draining,
    Unhealthy,
    Failback,
    None,
}

/// What is remembered in a state tag.
struct Remembered<'a> {
    holder: &'a str,
    from: Option<&'a str>,
    why: &'a str,
    since_ms: u64,
    moves_ms: Vec<u64>,
}

fn time_ms(text: &str) -> Option<u64> {
    let at = humantime::parse_rfc3339(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(at.as_millis()).ok()
}

fn remembered(address: &Address) -> Option<Remembered<'_>> {
    let text = address.tags.get("eipwatch:state")?;
    let get = |key: &str| text.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    Some(Remembered {
        holder: get("holder")?,
        from: get("from"),
        why: get("why").unwrap_or_default(),
        since_ms: time_ms(get("since")?)?,
        moves_ms: get("moves").into_iter().flat_map(|list| list.split('/')).filter_map(time_ms).collect(),
    })
}

impl Seen {
    /// Nothing has been shown yet.
    pub fn new(told: Told) -> Seen {
        Seen { told, ..Seen::default() }
    }

    /// A probe of a node starts.
    pub fn probes(&mut self, node: &Id) {
        if !self.streaks.contains_key(node) {
            let health = self.instances.get(node).and_then(|it| it.tags.get("eipwatch:health"));
            let well = health.is_some_and(|text| text.starts_with("verdict=healthy"));
            self.streaks.insert(node.clone(), Streak { up: well.then_some(true), ..Streak::default() });
        }
    }

    /// A probe of a node has come back. One that started before the last that was judged tells nothing.
    pub fn probed(&mut self, node: &Id, started_ms: u64, ok: bool, policy: &Policy) {
        let Some(streak) = self.streaks.get_mut(node) else { return };
        if streak.judged_ms.is_some_and(|judged| started_ms < judged) {
            return;
        }
        streak.judged_ms = Some(started_ms);
        if ok {
            streak.passes += 1;
            streak.fails = 0;
            streak.failing_ms = None;
            streak.passing_ms.get_or_insert(started_ms);
            streak.passed = true;
            if streak.passes >= policy.rise {
                streak.up = Some(true);
            }
        } else {
            streak.fails += 1;
            streak.passes = 0;
            streak.passing_ms = None;
            streak.failing_ms.get_or_insert(started_ms);
            if streak.fails >= policy.fall {
                streak.up = Some(false);
            }
        }
    }

    /// An answer of EC2 that shows something has come.
    pub fn shown(&mut self, request: &Request, response: &Response, asked_ms: u64, now_ms: u64) {
        match (request, response) {
            (_, Response::Addresses(all)) => {
                self.addresses = Some((now_ms, Arc::new(all.clone())));
                let Some(sent) = &mut self.sent else { return };
                let after = sent.answered_ms.is_some_and(|answered_ms| asked_ms >= answered_ms);
                sent.looked |= after;
                let shows = all.first().and_then(|it| it.association.as_ref()?.instance.clone());
                if after && shows.as_ref() == Some(&sent.to) && !(sent.returns && sent.failed) {
                    // Another watch may have made and recorded the same move.
                    let same = all.first().and_then(remembered).is_some_and(|it| {
                        it.holder == &*sent.to
                            && it.from == sent.from.as_deref()
                            && sent.asked_ms.saturating_sub(it.since_ms) < SETTLING_MS
                    });
                    self.own = Some(Own { at_ms: now_ms, from: sent.from.clone(), to: sent.to.clone() });
                    if sent.counted && !same {
                        self.counted_ms.push(now_ms);
                    }
                    self.sent = None;
                }
            }
            (Request::DescribeInstances(Filter::TagKey(_)), Response::Instances(all)) => {
                self.missing =
                    self.instances.keys().filter(|id| !all.iter().any(|it| it.id == **id)).cloned().collect();
                self.instances.extend(all.iter().map(|it| (it.id.clone(), it.clone())));
            }
            (_, Response::Instances(all)) => {
                self.missing.retain(|id| !all.iter().any(|it| it.id == *id));
                self.instances.extend(all.iter().map(|it| (it.id.clone(), it.clone())));
            }
            _ => {}
        }
    }

    /// Its call to move the address was answered.
    pub fn answered(&mut self, code: Option<&str>, now_ms: u64) {
        if matches!(
            code,
            Some("IncorrectInstanceState" | "InvalidNetworkInterfaceID.NotFound" | "UnauthorizedOperation")
        ) {
            self.refused.extend(self.sent.take().map(|sent| sent.to));
        } else if code == Some("RequestLimitExceeded") {
            self.sent = None;
        } else if let Some(sent) = &mut self.sent {
            sent.answered_ms = Some(now_ms);
            sent.failed = code.is_some();
        }
    }

    fn state(&self, node: &Id) -> Option<State> {
        self.instances.get(node).filter(|_| !self.missing.contains(node)).map(|it| it.state)
    }

    fn tag(&self, node: &Id, key: &str) -> Option<&str> {
        self.instances.get(node)?.tags.get(key).map(String::as_str)
    }

    fn gone(&self, node: &Id, now_ms: u64) -> bool {
        let shown = matches!(
            self.state(node),
            Some(State::Stopping | State::Stopped | State::ShuttingDown | State::Terminated)
        );
        let launched_ms = self.instances.get(node).map_or(0, |it| it.launched_ms / 1_000 * 1_000);
        let event = self.told.stopped.as_ref().is_some_and(|(of, at_ms)| {
            of == node && now_ms.saturating_sub(*at_ms) < EVENT_COUNTS_MS && *at_ms >= launched_ms
        });
        shown || event
    }

    /// Since when a node has failed: as this watch saw it, or as its health tag remembers it.
    fn failing_ms(&self, node: &Id) -> Option<u64> {
        let own_ms = self.streaks.get(node).and_then(|streak| streak.failing_ms);
        own_ms.into_iter().chain(self.recorded_ms(node, "verdict=unhealthy ")).min()
    }

    /// Since when a node has passed, in the same way.
    fn passing_ms(&self, node: &Id) -> Option<u64> {
        let own_ms = self.streaks.get(node).and_then(|streak| streak.passing_ms);
        own_ms.into_iter().chain(self.recorded_ms(node, "verdict=healthy ")).min()
    }

    /// Since when a node's health tag says so.
    fn recorded_ms(&self, node: &Id, verdict: &str) -> Option<u64> {
        let health = self.tag(node, "eipwatch:health").filter(|text| text.starts_with(verdict))?;
        time_ms(health.split(' ').find_map(|word| word.strip_prefix("since="))?)
    }

    /// The node that has this interface, as far as it was shown.
    pub fn owner(&self, interface: &Id) -> Option<&Id> {
        let has = |it: &&Instance| it.interfaces.iter().any(|nic| nic.id == *interface);
        self.instances.values().find(has).map(|it| &it.id)
    }

    fn leaving(&self, node: &Id) -> bool {
        self.told.leaving.as_ref() == Some(node)
            || self.tag(node, "eipwatch:health").is_some_and(|text| text.contains(" leaving="))
    }

    fn candidate(&self, node: &Id, policy: &Policy, now_ms: u64) -> bool {
        let streak = self.streaks.get(node);
        self.state(node) == Some(State::Running)
            && !self.refused.contains(node)
            && self.tag(node, "eipwatch:cluster") == Some("web")
            && self.tag(node, "eipwatch:mode").is_none_or(|mode| mode == "active")
            && !self.leaving(node)
            && !self.gone(node, now_ms)
            && (!policy.probed
                || streak.is_some_and(|streak| streak.up == Some(true) && streak.fails == 0 && streak.passed))
    }

    /// The watch asks for the address to be put there now: which rules that breaks.
    pub fn asks_to_move(&mut self, request: &Request, target: &Id, policy: &Policy, now_ms: u64) -> Vec<&'static str> {
        let Request::AssociateAddress { allocation, interface, private_ip, dry_run: false, .. } = request else {
            return Vec::new();
        };
        let mut broken = Vec::new();
        if self.told.reads_only {
            broken.push("misbehaves");
        }
        let Some((read_ms, addresses)) = self.addresses.clone() else { return vec!["moves blindly"] };
        if now_ms.saturating_sub(read_ms) > READ_BEFORE_MOVE_MS {
            broken.push("moves blindly");
        }
        let Some(address) = addresses.iter().find(|it| it.id == *allocation) else { return vec!["moves blindly"] };
        let there = |it: &&Address| {
            it.association.as_ref().is_some_and(|at| at.interface == *interface && at.private_ip == *private_ip)
        };
        match addresses.iter().find(there) {
            Some(other) if other.id != *allocation => broken.push("displaces"),
            Some(_) => broken.push("moves to where it is"),
            None => {}
        }
        match &self.sent {
            Some(Sent { answered_ms: None, .. }) => broken.push("sends twice at once"),
            Some(Sent { looked: false, .. }) => broken.push("sends again blindly"),
            _ => {}
        }
        let shown = address.association.as_ref().and_then(|at| at.instance.clone());
        let state = remembered(address);
        // What a reading shows that is older than the last move is not where the address is.
        let by_tag = state.as_ref().filter(|it| {
            now_ms.saturating_sub(it.since_ms) < SETTLING_MS && it.from.is_some() && it.from == shown.as_deref()
        });
        let by_own = self
            .own
            .as_ref()
            .filter(|own| now_ms.saturating_sub(own.at_ms) < SETTLING_MS && own.from == shown && shown.is_some());
        let believed = match (by_own, by_tag) {
            (Some(own), Some(tag)) if tag.since_ms > own.at_ms => Some(Id::from(tag.holder)),
            (Some(own), _) => Some(own.to.clone()),
            (None, Some(tag)) => Some(Id::from(tag.holder)),
            (None, None) => shown.clone(),
        };
        if believed.as_ref() == Some(target) && shown.as_ref() != Some(target) {
            broken.push("acts on a stale read");
        }
        // A command moves it from where it was then: once a third holds it, it is at its end. A watch decides anew instead.
        let third = |sent: &Sent| believed.is_some() && believed != sent.from && believed.as_ref() != Some(&sent.to);
        if self.told.command.is_some() && self.sent.as_ref().is_some_and(third) {
            broken.push("retries after a third holder");
        }
        let left =
            |at_ms: u64, from: Option<&str>| now_ms.saturating_sub(at_ms) < SETTLING_MS && from == Some(&**target);
        let returns = state.as_ref().is_some_and(|it| left(it.since_ms, it.from))
            || self.own.as_ref().is_some_and(|own| left(own.at_ms, own.from.as_deref()));
        let reason = self.reason(&believed, target, address, state.as_ref(), policy, now_ms, &mut broken);
        if reason == Reason::None {
            broken.push("moves off a healthy holder");
        }
        let manual = address.tags.get("eipwatch:mode").is_some_and(|mode| mode != "auto");
        if manual && reason != Reason::Command {
            broken.push("moves in manual mode");
        }
        if !self.candidate(target, policy, now_ms) {
            let others = self.instances.keys().filter(|id| *id != target && Some(*id) != believed.as_ref());
            if reason == Reason::Rescue && self.state(target) == Some(State::Running) {
                let free = |id: &&Id| self.has_free_place(id, address, &addresses);
                if others.filter(free).any(|id| self.candidate(id, policy, now_ms)) {
                    broken.push("last resort before a candidate");
                }
            } else if self.told.command != Some(true) {
                broken.push("to no candidate");
            }
        }
        let counted = matches!(reason, Reason::Unhealthy | Reason::Failback);
        if counted {
            let mut moves_ms = state.as_ref().map(|it| it.moves_ms.clone()).unwrap_or_default();
            // An own move that another watch has recorded, too, is one move.
            let own = |at_ms: &&u64| !moves_ms.iter().any(|tagged_ms| tagged_ms.abs_diff(**at_ms) < SAME_MOVE_MS);
            let own: Vec<u64> = self.counted_ms.iter().filter(own).copied().collect();
            moves_ms.extend(own);
            moves_ms.retain(|at_ms| now_ms.saturating_sub(*at_ms) < WINDOW_MS);
            let failing_ms = believed.as_ref().and_then(|id| self.failing_ms(id)).unwrap_or(now_ms);
            let lasted = now_ms.saturating_sub(failing_ms) >= policy.stable_ms;
            if moves_ms.len() >= policy.max_moves && (reason == Reason::Failback || !lasted) {
                broken.push("ignores the brake");
            }
        }
        self.sent = Some(Sent {
            from: believed,
            to: target.clone(),
            asked_ms: now_ms,
            returns,
            failed: false,
            counted,
            answered_ms: None,
            looked: false,
        });
        broken
    }

    #[expect(clippy::too_many_arguments, reason = "one judgement, in two parts")]
    fn reason(
        &self,
        holder: &Option<Id>,
        target: &Id,
        address: &Address,
        state: Option<&Remembered<'_>>,
        policy: &Policy,
        now_ms: u64,
        broken: &mut Vec<&'static str>,
    ) -> Reason {
        if self.told.command.is_some() {
            return Reason::Command;
        }
        let Some(holder) = holder else { return Reason::Rescue };
        let member = self.tag(holder, "eipwatch:cluster") == Some("web");
        if !member && state.is_none_or(|it| it.holder != &**holder) {
            broken.push("moves off an outsider");
        }
        if self.gone(holder, now_ms) {
            return Reason::Rescue;
        }
        if self.leaving(holder) {
            return Reason::Leaving;
        }
        if self.tag(holder, "eipwatch:mode") == Some("drain") {
            return Reason::Draining;
        }
        if policy.probed && self.streaks.get(holder).is_some_and(|streak| streak.up == Some(false)) {
            return Reason::Unhealthy;
        }
        let preferred = address.tags.get("eipwatch:prefer").is_some_and(|id| id == &**target);
        if !policy.failback || !preferred {
            return Reason::None;
        }
        let own_since_ms = self.own.as_ref().map_or(0, |own| own.at_ms);
        let tagged = state.filter(|it| it.since_ms >= own_since_ms / 1_000 * 1_000);
        if tagged.is_some_and(|it| matches!(it.why, "external" | "manual")) {
            broken.push("failback undoes others' move");
        }
        let moved_ms = tagged.map_or(own_since_ms, |it| it.since_ms);
        let well_ms = self.passing_ms(target).filter(|_| policy.probed).unwrap_or_default();
        if now_ms < moved_ms.max(well_ms) + policy.stable_ms {
            broken.push("failback too soon");
        }
        Reason::Failback
    }

    /// Whether a node has a private address that no other Elastic IP sits on.
    fn has_free_place(&self, node: &Id, address: &Address, addresses: &[Address]) -> bool {
        let Some(nic) = self.instances.get(node).and_then(|it| it.interfaces.first()) else { return false };
        let taken = |ip| {
            addresses.iter().any(|it| {
                it.id != address.id
                    && it.association.as_ref().is_some_and(|at| at.interface == nic.id && at.private_ip == ip)
            })
        };
        nic.private_ips.iter().any(|ip| !taken(*ip))
    }
}
