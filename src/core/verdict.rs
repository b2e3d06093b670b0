//! From evidence to verdicts: streaks of probes, heartbeats that advance or stop, status checks, alarms.
//!
//! Remembered health is only ever a head start for a node that was well: it never condemns one.
//!
//! Architecture invariant: a verdict says how a node is, never what should happen. Nothing here knows of moves or modes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{Alarm, Answer, InstanceState, ProbeTarget, ROUND};
use super::policy::Policy;
use super::snapshot::Node;
use super::tags::{AGENT, BeatStatus, Check, Heartbeat, Leaving, Undrained, Verdict, longest_pause};
use super::time::{Time, duration_text};

/// How long a state-change event counts as evidence against what DescribeInstances still shows.
pub const GONE_EVENT_BELIEVED: Duration = Duration::from_secs(60);
/// How long before its start a scheduled event makes a node leave.
pub const LEAVE_BEFORE_SCHEDULED: Duration = Duration::from_secs(600);
/// How far a second look at a heartbeat lies behind the first, beyond the agent's own pace.
pub const SECOND_LOOK_AFTER: Duration = Duration::from_secs(1);
/// How long EC2 may show a heartbeat of before.
pub const TAGS_LAG: Duration = Duration::from_secs(5);
/// What is said of a look that this invocation is too short for.
const AFTER_THIS: &str = "after this invocation, and the next looks afresh. If that recurs, let its agent beat more often (--every), or give the function more time";
/// The most probes of one check that are on their way at once, whatever the policy says.
pub const MAX_PROBES_PER_CHECK: usize = 20;

/// What one check says of a node, for people and for the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The check as its tag writes it.
    pub check: String,
    /// Passed, failed, or told nothing.
    pub ok: Option<bool>,
    /// In a few words.
    pub text: String,
}

/// What a check's streaks have established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    Up,
    Down,
}

/// The state of one probed check of one node.
#[derive(Clone, Debug)]
pub struct Probing {
    /// The target, if its address is known.
    target: Option<ProbeTarget>,
    /// What is known was learnt of this address.
    ip: Option<Ipv4Addr>,
    name: String,
    standing: Standing,
    /// Consecutive, since the last contrary result.
    passes: u32,
    fails: u32,
    /// Results since the standing last agreed with a result.
    wavering: u32,
    /// Whether it has passed in this invocation.
    pub passed: bool,
    judged_start: Option<Time>,
    /// From when on a probe must have started for it to count as down.
    asked_anew: Option<Time>,
    last_start: Option<Time>,
    in_flight: Vec<(u64, Time)>,
    last: Option<(bool, String)>,
    not_asked: Option<String>,
    /// When the streak of failures began, for the time of detection: the start of its first probe.
    pub failing_since: Option<Time>,
    /// The longest streak of failures in this invocation.
    pub longest_fails: u32,
}

/// A judged probe, to be told to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// When it was started.
    pub started: Time,
    /// Whether it passed; `None`: it could not be asked.
    pub ok: Option<bool>,
    /// In a few words.
    pub text: String,
}

impl Probing {
    /// A check that starts from what is remembered: a node that was healthy is so until it fails; of all others nothing is known.
    pub fn new(check: &Check, remembered: Option<Verdict>) -> Probing {
        let standing = if remembered == Some(Verdict::Healthy) { Standing::Up } else { Standing::Unknown };
        Probing {
            target: None,
            ip: None,
            name: check.to_string(),
            standing,
            passes: 0,
            fails: 0,
            wavering: 0,
            passed: false,
            judged_start: None,
            asked_anew: None,
            last_start: None,
            in_flight: Vec::new(),
            last: None,
            not_asked: None,
            failing_since: None,
            longest_fails: 0,
        }
    }

    /// Aims at `target`. Another address is another service: what was learnt of the old one is dropped.
    pub fn aim(&mut self, target: Option<ProbeTarget>) {
        let ip = target.as_ref().map(|target| target.ip);
        if self.ip.is_some_and(|old| ip.is_some_and(|new| new != old)) {
            let name = std::mem::take(&mut self.name);
            let longest_fails = self.longest_fails;
            *self = Probing { name, longest_fails, ..Probing::new(&Check::Heartbeat, None) };
        }
        if ip.is_none() {
            // The address may be another's by the time they are answered.
            self.in_flight.clear();
        }
        self.ip = ip.or(self.ip);
        self.target = target;
    }

    /// What it is aimed at.
    pub fn target(&self) -> Option<&ProbeTarget> {
        self.target.as_ref()
    }

    /// Whether one more failure would make its node unhealthy.
    pub fn about_to_fall(&self, policy: &Policy) -> bool {
        self.standing != Standing::Down && self.fails > 0 && self.fails + 1 >= policy.fall
    }

    /// What is established while nothing speaks against it: a result that leaves it so tells nothing new.
    pub fn steady(&self) -> Option<bool> {
        match self.standing {
            Standing::Up if self.passed && self.fails == 0 => Some(true),
            Standing::Down if self.surely_down() => Some(false),
            _ => None,
        }
    }

    /// Whether a streak is running that may change the standing, or nothing is established yet.
    fn changing(&self) -> bool {
        match self.standing {
            Standing::Unknown => true,
            Standing::Up => self.fails > 0 || !self.passed,
            Standing::Down => !self.surely_down(),
        }
    }

    /// Whether it is down, and nothing speaks for it.
    fn surely_down(&self) -> bool {
        self.standing == Standing::Down && self.passes == 0 && self.asked_anew.is_none()
    }

    /// What was learnt of it is older than a move by somebody who may have known better: if it is down, one more probe decides.
    pub fn ask_anew(&mut self, now: Time) {
        if self.target.is_some() {
            self.asked_anew.get_or_insert(now);
        }
    }

    /// Whether more probes are not waited for.
    pub fn settled(&self, policy: &Policy) -> bool {
        self.target.is_none() || self.exhausted(policy) || !self.changing()
    }

    fn exhausted(&self, policy: &Policy) -> bool {
        self.wavering >= 2 * (policy.fall + policy.rise)
    }

    /// Whether it may yet pass soon: nothing has failed, and no probe is overdue.
    pub fn promising(&self, policy: &Policy, now: Time) -> bool {
        let overdue = self.in_flight.iter().any(|(_, started)| now.since(*started) > policy.fast);
        self.target.is_some()
            && self.fails == 0
            && self.standing != Standing::Down
            && !overdue
            && !self.exhausted(policy)
    }

    /// When the next probe is due; `None`: as soon as one of those on their way ends.
    pub fn next_start(&self, policy: &Policy) -> Option<Time> {
        self.target.as_ref()?;
        let Some(last) = self.last_start else { return Some(Time::default()) };
        // Of a node that is down already, an unanswered probe is no news.
        let unanswered = !self.in_flight.is_empty() && self.standing != Standing::Down;
        let changing = self.changing() && !self.exhausted(policy);
        // More probes at once than a change takes would tell nothing more.
        let enough =
            usize::try_from(policy.fall.max(policy.rise)).unwrap_or(MAX_PROBES_PER_CHECK).min(MAX_PROBES_PER_CHECK);
        if self.in_flight.len() >= enough {
            return None;
        }
        let pace = if changing || unanswered { policy.fast.min(policy.interval) } else { policy.interval };
        Some(last + pace)
    }

    /// When the oldest probe on its way is over its time limit.
    pub fn expires(&self) -> Option<Time> {
        let timeout = self.target.as_ref()?.timeout;
        self.in_flight.first().map(|(_, started)| *started + timeout)
    }

    /// Starts a probe.
    pub fn start(&mut self, id: u64, now: Time) -> Option<ProbeTarget> {
        let target = self.target.clone()?;
        self.last_start = Some(now);
        self.in_flight.push((id, now));
        Some(target)
    }

    /// Fails the probes whose time is up.
    pub fn expire(&mut self, policy: &Policy, now: Time) -> Vec<Judged> {
        let mut judged = Vec::new();
        while let Some(end) = self.expires().filter(|end| *end <= now) {
            let (id, _) = self.in_flight.first().copied().unwrap_or_default();
            judged.extend(self.answer(id, &Answer::TimedOut, policy, end));
        }
        judged
    }

    /// Takes in what a probe brought back. One that started before the last that was judged tells nothing new.
    pub fn answer(&mut self, id: u64, answer: &Answer, policy: &Policy, now: Time) -> Option<Judged> {
        let at = self.in_flight.iter().position(|(of, _)| *of == id)?;
        let (_, started) = self.in_flight.remove(at);
        if self.judged_start.is_some_and(|judged| started < judged) {
            return None;
        }
        self.asked_anew.take_if(|from| started >= *from);
        let (ok, text) = read_answer(answer, policy, now.since(started));
        let Some(ok) = ok else {
            self.wavering = self.wavering.saturating_add(1);
            self.not_asked = Some(text.clone());
            return Some(Judged { started, ok: None, text });
        };
        self.judged_start = Some(started);
        self.not_asked = None;
        if ok {
            self.passes = self.passes.saturating_add(1);
            self.fails = 0;
            self.failing_since = None;
            self.passed = true;
            if self.passes >= policy.rise {
                self.standing = Standing::Up;
            }
        } else {
            self.fails = self.fails.saturating_add(1);
            self.longest_fails = self.longest_fails.max(self.fails);
            self.passes = 0;
            self.failing_since.get_or_insert(started);
            if self.fails >= policy.fall {
                self.standing = Standing::Down;
            }
        }
        self.wavering = if self.changing() { self.wavering.saturating_add(1) } else { 0 };
        self.last = Some((ok, text.clone()));
        Some(Judged { started, ok: Some(ok), text })
    }

    fn evidence(&self, policy: &Policy) -> Evidence {
        let (ok, text) = match (&self.last, &self.not_asked) {
            (_, Some(why)) => (None, why.clone()),
            (None, None) => (None, "no answer yet".to_owned()),
            (Some((ok, text)), None) => {
                let streak = match (self.standing, ok) {
                    (Standing::Up, false) => format!(" ({} of {} failures to fall)", self.fails, policy.fall),
                    (Standing::Down | Standing::Unknown, true) => {
                        format!(" ({} of {} passes to rise)", self.passes, policy.rise)
                    }
                    _ => String::new(),
                };
                (Some(*ok), format!("{text}{streak}"))
            }
        };
        Evidence { check: self.name.clone(), ok, text }
    }
}

fn read_answer(answer: &Answer, policy: &Policy, took: Duration) -> (Option<bool>, String) {
    let took_ms = took.as_millis();
    match answer {
        Answer::Connected => (Some(true), format!("connected in {took_ms} ms")),
        Answer::Status(code) => {
            let expected = (policy.expect.from..=policy.expect.to).contains(code);
            let unlike = if expected { String::new() } else { format!(", not {}", policy.expect) };
            (Some(expected), format!("{code} in {took_ms} ms{unlike}"))
        }
        Answer::Refused => (Some(false), "refused".to_owned()),
        Answer::TimedOut => (Some(false), format!("no answer in {}", duration_text(policy.timeout))),
        Answer::Failed(why) => (Some(false), why.clone()),
        Answer::NotAsked(why) => (None, format!("could not be asked: {why}")),
    }
}

/// What is remembered of a node's heartbeat within the invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The last number seen.
    pub seq: u64,
    /// When it was first seen.
    pub seen: Time,
    /// Whether a number was seen to follow another.
    pub advanced: bool,
    /// When the first reading was asked for that showed this number.
    first_asked: Time,
    /// The same of the last one.
    last_asked: Time,
    /// The same of the number before: this one was written after that.
    pub after: Time,
    /// When it was written, by its node's clock, of which only differences count.
    at: Time,
    /// Since when it goes on, as far as is known: when it was first seen again after one was lost. Who was there at the first reading has
    /// always gone on.
    going_since: Time,
    /// This number was taken as stopped: what its peers lose later takes that back no more.
    pub stopped: bool,
}

impl Pulse {
    /// Takes in a reading: `asked` is when it was asked for, `known` since when it is taken to go on if it is the first of its node.
    pub fn read(before: Option<Pulse>, beat: &Heartbeat, asked: Time, now: Time, known: Time) -> Pulse {
        let new = Pulse {
            seq: beat.seq,
            seen: now,
            advanced: false,
            first_asked: asked,
            last_asked: asked,
            after: Time::default(),
            at: beat.at,
            going_since: known,
            stopped: false,
        };
        match before {
            Some(pulse) if pulse.seq == beat.seq => Pulse { last_asked: asked, ..pulse },
            Some(pulse) => {
                let apart = beat.at.since(pulse.at).max(pulse.at.since(beat.at));
                let lost = apart >= longest_gap(beat.every);
                let going_since = if lost { now } else { pulse.going_since };
                Pulse { advanced: true, after: pulse.last_asked, going_since, ..new }
            }
            None => new,
        }
    }
}

/// How far two heartbeats that are shown one after the other can lie apart if none was lost, by times in whole seconds. Of quicker
/// ones than readings not all are shown.
fn longest_gap(every: Duration) -> Duration {
    if every < ROUND { every * 3 / 2 + ROUND + Duration::from_secs(1) } else { every * 2 - Duration::from_secs(1) }
}

/// All that a verdict rests on, beside the node itself.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The policy of its cluster.
    pub policy: &'a Policy,
    /// Its probes, by check.
    pub probes: &'a BTreeMap<Check, Probing>,
    /// Its heartbeat as followed so far.
    pub pulse: Option<Pulse>,
    /// The heartbeats of its peers that have been seen to advance.
    pub peers: &'a [Pulse],
    /// When the node was last read.
    pub read_at: Option<Time>,
    /// When EC2 was asked the question that could show the node and was answered last, whether that showed it or not.
    pub asked_at: Option<Time>,
    /// CloudWatch's answers.
    pub alarms: &'a BTreeMap<String, Alarm>,
    /// Every alarm that it was asked about, also those that it does not know, and when; `None`: it was given up on before it told.
    pub alarms_told: &'a BTreeMap<String, Option<Time>>,
    /// A state-change event that says it stops, and its time.
    pub gone_event: Option<(InstanceState, Time)>,
    /// Whether it holds an address.
    pub holder: bool,
    /// Whether status checks were read, or are not waited for any longer.
    pub status_read: bool,
    /// When the invocation must have ended: another look that would come later is none.
    pub deadline: Time,
}

/// What is known of a node now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What the checks add up to.
    pub verdict: Verdict,
    /// Whether more probes or another look are not waited for.
    pub settled: bool,
    /// Whether an unsettled verdict may yet become healthy soon.
    pub promising: bool,
    /// Whether every configured probe has passed in this invocation.
    pub probes_passed: bool,
    /// When the probes that were judged last were started, the oldest of these; `None`: none was.
    pub probed_from: Option<Time>,
    /// Whether a streak contrary to the verdict is running.
    pub wavering: bool,
    /// Whether a status check is impaired.
    pub impaired: bool,
    /// Whether it is unhealthy by what EC2 and CloudWatch showed, not by its probes.
    pub by_reading: bool,
    /// Whether status checks or alarms have not been read yet.
    pub unread: bool,
    /// What announced that it will stop.
    pub leaving: Option<Leaving>,
    /// Check by check.
    pub evidence: Vec<Evidence>,
    /// Whether its heartbeat is taken as stopped.
    pub stopped: bool,
    /// When another look at its heartbeat is due; it may be read before.
    pub look_again: Option<Time>,
    /// What is odd about it, for people.
    pub problems: Vec<String>,
}

impl Finding {
    /// The failing evidence in one line; what it is like if nothing fails.
    pub fn why(&self) -> String {
        let failing: Vec<String> = self
            .evidence
            .iter()
            .filter(|evidence| evidence.ok == Some(false))
            .map(|evidence| format!("{} {}", evidence.check, evidence.text))
            .collect();
        if failing.is_empty() { self.verdict.as_str().to_owned() } else { failing.join(", ") }
    }
}

/// Adds up the checks of a node.
pub fn judge(node: &Node, case: Case<'_>, now: Time) -> Finding {
    let mut evidence = Vec::with_capacity(1 + node.checks.len());
    let mut problems = Vec::new();
    let impaired: Vec<&str> = node.status.as_ref().map(|status| status.impaired()).unwrap_or_default();
    let event = case.gone_event.filter(|(_, at)| {
        // Of which life it tells is not known of a node that has yet to be shown.
        let in_this_life = node.shown && node.in_this_life(*at);
        now.since(*at) < GONE_EVENT_BELIEVED && at.since(now) < GONE_EVENT_BELIEVED && in_this_life
    });
    let gone = match (node.state, event) {
        (Some(state), _) if state.is_gone() => Some(state.as_str().to_owned()),
        (_, Some((state, _))) => Some(format!("{}, says EC2's event", state.as_str())),
        _ => None,
    };
    let ec2 = match (&gone, node.state) {
        (Some(text), _) => (Some(false), text.clone()),
        (None, Some(InstanceState::Running)) if !impaired.is_empty() => {
            (Some(false), format!("running, but its {} status is impaired", impaired.join(" and ")))
        }
        (None, Some(InstanceState::Running)) => (Some(true), "running".to_owned()),
        (None, Some(state)) => (None, state.as_str().to_owned()),
        (None, None) => (None, "EC2 cannot describe it now".to_owned()),
    };
    evidence.push(Evidence { check: "ec2".to_owned(), ok: ec2.0, text: ec2.1 });

    let has_probes = node.checks.iter().any(|check| matches!(check, Check::Probe { .. }));
    let mut passed_other = false;
    let mut failed = false;
    let mut by_probe = false;
    let mut down = false;
    let mut suspect = false;
    let mut unknown = false;
    let mut settled = true;
    let mut promising = true;
    let mut wavering = false;
    let mut probes_passed = true;
    let mut probed_from: Option<Time> = None;
    // One check that has failed for good is enough: the others cannot mend the verdict.
    let mut decisive = false;
    let mut unread = !case.status_read;
    let mut look_again = None;
    let mut stopped = false;
    for check in node.checks.iter() {
        match check {
            Check::Probe { .. } => {
                let Some(probing) = case.probes.get(check) else {
                    unknown = true;
                    probes_passed = false;
                    continue;
                };
                let mut item = probing.evidence(case.policy);
                if let (None, Err(why)) = (&probing.target, &node.probe_ip) {
                    item.text.clone_from(why);
                }
                probes_passed &= probing.passed;
                probed_from = probed_from.into_iter().chain(probing.judged_start).min();
                let done = probing.settled(case.policy);
                settled &= done;
                promising &= done || probing.promising(case.policy, now);
                wavering |= match probing.standing {
                    // A failure makes it suspect, or another check has failed it: neither is a break of that.
                    Standing::Up => false,
                    Standing::Down => probing.passes > 0,
                    Standing::Unknown => true,
                };
                match probing.standing {
                    // What is remembered is no evidence while the node cannot be asked.
                    Standing::Up if probing.target.is_none() => unknown = true,
                    Standing::Up if probing.fails > 0 => suspect = true,
                    Standing::Up => passed_other |= probing.passed,
                    Standing::Down => {
                        failed = true;
                        by_probe = true;
                        down |= probing.surely_down();
                    }
                    Standing::Unknown => unknown = true,
                }
                if let Some(why) = &probing.not_asked {
                    problems.push(format!("{}: {check} {why}; that says nothing of the node", node.id));
                }
                evidence.push(item);
            }
            Check::Heartbeat => {
                let beat = heartbeat(node, case, has_probes, now);
                stopped = beat.stopped;
                match beat.ok {
                    Some(true) => passed_other = true,
                    Some(false) => {
                        failed = true;
                        decisive = true;
                    }
                    None if beat.ignored => {}
                    None => unknown = true,
                }
                if let Some(at) = beat.look_again {
                    settled = false;
                    look_again = Some(at);
                }
                problems.extend(beat.problem.map(|text| format!("{}: {text}", node.id)));
                evidence.push(Evidence { check: check.to_string(), ok: beat.ok, text: beat.text });
            }
            Check::Alarm(name) => {
                let (ok, text) = alarm(node, case, name, &mut problems);
                failed |= ok == Some(false);
                decisive |= ok == Some(false);
                unread |= !case.alarms_told.contains_key(name.as_ref());
                evidence.push(Evidence { check: check.to_string(), ok, text });
            }
        }
    }

    decisive |= down;
    // One that EC2 cannot describe is judged by its probes alone.
    let failed = failed && (node.state.is_some() || by_probe);
    let verdict = if gone.is_some() {
        Verdict::Gone
    } else if node.missing {
        Verdict::Unknown
    } else if failed || (!impaired.is_empty() && node.state.is_some() && !passed_other && !suspect) {
        Verdict::Unhealthy
    } else if suspect {
        Verdict::Suspect
    } else {
        match node.state {
            Some(InstanceState::Running) if !unknown => Verdict::Healthy,
            // EC2 cannot describe it: a holder is judged by its probes, a peer is not known to run.
            None if case.holder && has_probes && !unknown => Verdict::Healthy,
            _ => Verdict::Unknown,
        }
    };
    Finding {
        verdict,
        settled: (settled && !unread) || (decisive && failed) || gone.is_some(),
        promising: promising && node.state == Some(InstanceState::Running) && gone.is_none() && !failed,
        probes_passed,
        probed_from,
        wavering,
        impaired: !impaired.is_empty(),
        by_reading: verdict == Verdict::Unhealthy && !down,
        unread,
        leaving: None,
        evidence,
        stopped,
        look_again: if gone.is_some() { None } else { look_again },
        problems,
    }
}

struct Beat {
    ok: Option<bool>,
    /// It told nothing, and nothing hangs on it.
    ignored: bool,
    text: String,
    problem: Option<String>,
    look_again: Option<Time>,
    stopped: bool,
}

fn heartbeat(node: &Node, case: Case<'_>, has_probes: bool, now: Time) -> Beat {
    let say = |ok, text: String| Beat { ok, ignored: false, text, problem: None, look_again: None, stopped: false };
    let (Some(beat), Some(pulse)) = (&node.heartbeat, case.pulse) else {
        return say(None, "none yet: is eipwatch-agent running there?".to_owned());
    };
    match beat.status {
        BeatStatus::Fail => {
            return say(
                Some(false),
                format!("its agent says fail{}", beat.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()),
            );
        }
        BeatStatus::Ok | BeatStatus::Leaving => {}
    }
    // Judged at the moment of the last reading: between readings nothing is known of it.
    let read_at = case.read_at.unwrap_or(now);
    let still = read_at.since(pulse.seen);
    let again = beat.every + SECOND_LOOK_AFTER;
    let deadtime = case.policy.deadtime.max(again);
    // Nothing to compare with: its own time is taken if it is likely, but stops counting as soon as there is more.
    let likely = node.in_this_life(beat.at) && pulse.seen.since(beat.at).max(beat.at.since(pulse.seen)) <= deadtime;
    if still < deadtime && pulse.advanced {
        return say(Some(true), format!("number {} came {} ago", beat.seq, seconds(still)));
    }
    if still < deadtime && likely {
        return say(Some(true), format!("number {} of {}", beat.seq, beat.at));
    }
    // What one more reading would tell: none if there is one of then.
    let look_at = |at: Time, follows: String, too_late: String| {
        // An answer that was asked for since and does not show the node was that look: another would tell no more.
        let due = case.asked_at.unwrap_or(read_at) < at;
        if !due && read_at >= at {
            return None;
        }
        let look_again = (due && at < case.deadline).then_some(at);
        let follows = match look_again {
            Some(_) => follows,
            None if due => too_late,
            None => "EC2 did not show the node in its last answer: it is not judged".to_owned(),
        };
        let text = format!("number {} of {}: {follows}", beat.seq, beat.at);
        Some(Beat { look_again, ..say(None, text) })
    };
    let second = pulse.seen + again;
    if !pulse.advanced
        && let Some(second) = look_at(
            second,
            format!("a second look follows, at {second}: until then it is not judged"),
            format!("whether it goes on is not known: the next is due {AFTER_THIS}"),
        )
    {
        return second;
    }
    let text = format!("stopped: number {} of {}, no other for {}", beat.seq, beat.at, seconds(still));
    if has_probes {
        let problem = Some(format!("its heartbeat has {text}; its probes decide"));
        return Beat { ignored: true, problem, ..say(None, text) };
    }
    if pulse.stopped {
        return Beat { stopped: true, ..say(Some(false), text) };
    }
    // Where all have stopped at once, the last to have been written says nothing of those whose turn had not come.
    let missed = pulse.first_asked + again;
    let of_this_life = pulse.advanced || likely;
    let meanwhile = |peer: &Pulse| if of_this_life { peer.after >= missed } else { peer.seen > pulse.seen };
    // Nor does the first that comes again after that: a peer has to go on until this one's turn has passed, too. And where nothing but two
    // looks speaks of it, the second may have shown what was before the first.
    let turn = longest_pause(beat.every);
    let third = deadtime.min((turn + SECOND_LOOK_AFTER).max(again + TAGS_LAG));
    let speaks_from = |peer: &Pulse| {
        let shown_by = peer.going_since + turn + TAGS_LAG;
        let may_go_on = peer.seen >= peer.going_since + turn || read_at < shown_by;
        let from = if of_this_life { shown_by } else { shown_by.max(pulse.seen + third) };
        (meanwhile(peer) && may_go_on).then_some(from)
    };
    if let Some(from) = case.peers.iter().filter_map(speaks_from).min() {
        let doubt = format!("no other for {}, but its agent may have been kept from writing", seconds(still));
        return look_at(
            from,
            format!("{doubt}: it is not judged until {from}"),
            format!("{doubt}: it is not judged until {from}, which is {AFTER_THIS}"),
        )
        .unwrap_or_else(|| Beat { stopped: true, ..say(Some(false), text) });
    }
    let problem = Some(format!(
        "its heartbeat has {text}, and no peer's speaks against it yet: the tags, not the node, may be at fault"
    ));
    Beat { problem, ..say(None, text) }
}

fn seconds(duration: Duration) -> String {
    duration_text(Duration::from_secs(duration.as_secs()))
}

fn alarm(node: &Node, case: Case<'_>, name: &str, problems: &mut Vec<String>) -> (Option<bool>, String) {
    match case.alarms_told.get(name) {
        Some(Some(_)) => {}
        Some(None) => return (None, "CloudWatch does not answer".to_owned()),
        None => return (None, "not read yet".to_owned()),
    }
    let Some(alarm) = case.alarms.get(name) else {
        problems.push(format!("alarm:{name}: CloudWatch knows no such alarm; it tells nothing"));
        return (None, "no such alarm".to_owned());
    };
    if alarm.instances.is_empty() && !node.has_own_checks {
        problems.push(format!(
            "alarm:{name} has no InstanceId dimension: it would condemn all nodes alike, and counts for none; put it on the node it is about"
        ));
        return (None, format!("{}, but names no instance", alarm.state));
    }
    if !alarm.instances.is_empty() && !alarm.instances.contains(&node.id) {
        return (None, "about another instance".to_owned());
    }
    (if alarm.in_alarm { Some(false) } else { None }, alarm.state.clone())
}

/// What announces at this moment that a node will stop.
///
/// In order: a notice that was heard or remembered, its agent's word, an event that EC2 has scheduled. Each ends when the instance is
/// launched anew, and by `undrain`.
///
/// `beating`: its heartbeat was seen to advance in this life, so that it is of this life, whatever its clock says. So it is where the
/// health tag remembers that it announced its leaving in this life: its clock may have been set back since.
pub fn leaving(
    node: &Node,
    notice: Option<&Leaving>,
    undrained: Option<Undrained>,
    beating: bool,
    now: Time,
) -> Option<Leaving> {
    let undrained = undrained.or(node.health.as_ref().and_then(|health| health.undrained));
    let this_life = |at: Time| node.in_this_life(at);
    let after_undrain = |at: Time| undrained.is_none_or(|undrain| at > undrain.at);
    let remembered = node.health.as_ref().and_then(|health| health.notice());
    let told = node.health.as_ref().and_then(|health| health.leaving.as_ref());
    let told_by_agent = told.filter(|told| told.kind == AGENT && this_life(told.noticed));
    // One that counts no more, delivered late, hides no other.
    let mut notices = notice.into_iter().chain(remembered);
    if let Some(notice) = notices.find(|notice| this_life(notice.noticed) && after_undrain(notice.noticed)) {
        return Some(notice.clone());
    }
    if let Some(beat) = &node.heartbeat
        && beat.status == BeatStatus::Leaving
        && (beating || this_life(beat.at) || told_by_agent.is_some())
        && undrained.and_then(|undrain| undrain.seq) != Some(beat.seq)
    {
        // By a time that tells those who read it later of which life it is.
        let times = [Some(beat.at), told_by_agent.map(|told| told.noticed), node.launched.map(Time::whole_second)];
        let noticed = times.into_iter().flatten().find(|at| this_life(*at)).unwrap_or(beat.at);
        return Some(Leaving { kind: AGENT.to_owned(), until: None, noticed });
    }
    let scheduled = node.status.as_ref()?.scheduled.iter().find(|event| {
        let over = event.description.starts_with("[Completed]") || event.description.starts_with("[Canceled]");
        let begun = event.not_before.is_some_and(|start| {
            now + LEAVE_BEFORE_SCHEDULED >= start && after_undrain(start - LEAVE_BEFORE_SCHEDULED)
        });
        !over && begun && event.not_after.is_none_or(|end| now <= end)
    })?;
    Some(Leaving {
        kind: scheduled.code.clone(),
        until: scheduled.not_after.or(scheduled.not_before),
        noticed: scheduled.not_before.map_or(now, |start| start - LEAVE_BEFORE_SCHEDULED),
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::core::model::Scheme;

    fn at(ip: u8) -> Option<ProbeTarget> {
        Some(ProbeTarget {
            scheme: Scheme::Tcp,
            ip: Ipv4Addr::new(10, 0, 0, ip),
            port: 5060,
            path: "".into(),
            host: None,
            timeout: Duration::from_secs(1),
        })
    }

    fn tcp() -> Check {
        Check::Probe { scheme: Scheme::Tcp, port: 5060, path: "".into() }
    }

    /// One probe, answered at once.
    fn ask(probing: &mut Probing, id: u64, answer: &Answer) {
        let now = Time::from_millis(id * 1_000);
        probing.start(id, now);
        probing.answer(id, answer, &Policy::default(), now).unwrap();
    }

    #[test]
    fn another_address_is_another_service_of_the_same_name() {
        let mut probing = Probing::new(&tcp(), None);
        probing.aim(at(1));
        ask(&mut probing, 1, &Answer::Refused);
        assert_eq!(probing.evidence(&Policy::default()).ok, Some(false));
        probing.aim(at(2));
        let evidence = probing.evidence(&Policy::default());
        assert_eq!((evidence.check.as_str(), evidence.ok), ("tcp:5060", None));
        assert_eq!(probing.longest_fails, 1, "of this invocation, wherever it was aimed");
        // The same where for a while there was none; what was asked before is not answered by the new one.
        ask(&mut probing, 8, &Answer::Connected);
        probing.start(9, Time::from_millis(9_000));
        probing.aim(None);
        assert_eq!(probing.answer(9, &Answer::Connected, &Policy::default(), Time::from_millis(9_500)), None);
        probing.aim(at(3));
        assert!(!probing.passed);
        assert_eq!(probing.evidence(&Policy::default()).ok, None);
    }

    #[test]
    fn what_is_established_is_steady_until_something_speaks_against_it() {
        let mut probing = Probing::new(&tcp(), Some(Verdict::Healthy));
        probing.aim(at(1));
        assert_eq!(probing.steady(), None, "remembered is not established");
        ask(&mut probing, 1, &Answer::Connected);
        assert_eq!(probing.steady(), Some(true));
        ask(&mut probing, 2, &Answer::Refused);
        assert_eq!(probing.steady(), None);
        for id in 3..=4 {
            ask(&mut probing, id, &Answer::Refused);
        }
        assert_eq!(probing.steady(), Some(false));
        ask(&mut probing, 5, &Answer::Connected);
        assert_eq!(probing.steady(), None);
    }

    #[test]
    fn one_that_flaps_is_settled_once_it_has_flapped_long_enough() {
        let policy = Policy::default();
        let mut probing = Probing::new(&tcp(), None);
        probing.aim(at(1));
        // Twice as many as it takes to fall and to rise.
        for id in 1..=10 {
            assert!(!probing.settled(&policy), "before answer {id}");
            assert_eq!(probing.promising(&policy, Time::from_millis(id * 1_000)), id % 2 == 1, "before answer {id}");
            ask(&mut probing, id, if id % 2 == 0 { &Answer::Connected } else { &Answer::Refused });
        }
        assert!(probing.settled(&policy));
        assert!(!probing.promising(&policy, Time::from_millis(11_000)));
    }

    #[test]
    fn one_that_does_not_answer_in_its_pace_promises_nothing() {
        let policy = Policy::default();
        let mut probing = Probing::new(&tcp(), None);
        probing.aim(at(1));
        probing.start(1, Time::from_millis(1_000));
        let due = Time::from_millis(1_000) + policy.fast;
        assert!(probing.promising(&policy, due));
        assert!(!probing.promising(&policy, due + Duration::from_millis(1)));
    }

    #[test]
    fn probes_that_began_at_once_all_count() {
        let policy = Policy::default();
        let mut probing = Probing::new(&tcp(), None);
        probing.aim(at(1));
        let now = Time::from_millis(1_000);
        probing.start(1, now);
        probing.start(2, now);
        assert!(probing.answer(1, &Answer::Connected, &policy, now).is_some());
        assert!(probing.answer(2, &Answer::Connected, &policy, now).is_some());
        // One that began before them tells nothing new.
        probing.start(3, Time::from_millis(999));
        assert_eq!(probing.answer(3, &Answer::Refused, &policy, now), None);
    }

    /// A probe that started before an address came to its node decides nothing alone, though it is the one that makes it fall.
    #[test]
    fn whoever_is_asked_anew_falls_by_a_probe_of_then_or_later() {
        let policy = Policy { fall: 2, ..Policy::default() };
        let mut probing = Probing::new(&tcp(), Some(Verdict::Healthy));
        probing.aim(at(1));
        let ms = Time::from_millis;
        probing.start(1, ms(0));
        probing.answer(1, &Answer::Refused, &policy, ms(10));
        probing.start(2, ms(500));
        probing.ask_anew(ms(700));
        probing.answer(2, &Answer::TimedOut, &policy, ms(1_500));
        assert!(!probing.settled(&policy) && !probing.surely_down());
        probing.start(3, ms(1_500));
        probing.answer(3, &Answer::Refused, &policy, ms(1_510));
        assert!(probing.settled(&policy) && probing.surely_down());
        // One that cannot be asked is not asked for ever.
        probing.ask_anew(ms(2_000));
        probing.start(4, ms(2_000));
        probing.answer(4, &Answer::NotAsked("no file descriptor".to_owned()), &policy, ms(2_010));
        assert!(probing.settled(&policy) && probing.surely_down());
    }

    #[test]
    fn it_says_how_far_it_is() {
        let policy = Policy { fall: 1, ..Policy::default() };
        let mut probing = Probing::new(&tcp(), None);
        probing.aim(at(1));
        assert!(!probing.about_to_fall(&policy), "nothing has failed");
        ask(&mut probing, 1, &Answer::Connected);
        assert_eq!(probing.evidence(&policy).text, "connected in 0 ms (1 of 2 passes to rise)");
    }

    /// A node that is judged at 10,000 s, when it has just been read.
    struct Scene {
        node: Node,
        policy: Policy,
        probes: BTreeMap<Check, Probing>,
        alarms: BTreeMap<String, Alarm>,
        told: BTreeMap<String, Option<Time>>,
    }

    fn ago(ms: u64) -> Time {
        Time::from_millis(10_000_000 - ms)
    }

    impl Scene {
        fn new(checks: &[Check]) -> Scene {
            let node = Node { checks: checks.into(), ..crate::core::decide::tests::running(1) };
            let probes = checks.iter().map(|check| {
                let mut probing = Probing::new(check, None);
                probing.aim(at(1));
                (check.clone(), probing)
            });
            let probes = probes.collect();
            Scene { node, policy: Policy::default(), probes, alarms: BTreeMap::new(), told: BTreeMap::new() }
        }

        /// Beat number 7 of that time, every 5 s.
        fn beating(at: Time) -> Scene {
            let mut scene = Scene::new(&[Check::Heartbeat]);
            let every = Duration::from_secs(5);
            scene.node.heartbeat = Some(Heartbeat { seq: 7, at, status: BeatStatus::Ok, every, why: None });
            scene
        }

        fn case(&self) -> Case<'_> {
            Case {
                policy: &self.policy,
                probes: &self.probes,
                pulse: None,
                peers: &[],
                read_at: Some(ago(0)),
                asked_at: Some(ago(0)),
                alarms: &self.alarms,
                alarms_told: &self.told,
                gone_event: None,
                holder: false,
                status_read: true,
                deadline: ago(0) + Duration::from_secs(60),
            }
        }

        fn judge(&self, case: Case<'_>) -> Finding {
            judge(&self.node, case, ago(0))
        }
    }

    #[test]
    fn an_event_that_says_it_stops_is_believed_for_a_minute() {
        let scene = Scene::new(&[]);
        let verdict = |at| {
            let gone_event = Some((InstanceState::Stopping, at));
            scene.judge(Case { gone_event, ..scene.case() }).verdict
        };
        let minute = Duration::from_secs(60);
        for (at, expected) in [
            (ago(59_999), Verdict::Gone),
            (ago(60_000), Verdict::Healthy),
            (ago(0) + minute - Duration::from_millis(1), Verdict::Gone),
            (ago(0) + minute, Verdict::Healthy),
        ] {
            assert_eq!(verdict(at), expected, "{at}");
        }
    }

    #[test]
    fn only_one_that_runs_and_answers_in_its_pace_promises_anything() {
        let other = Check::Probe { scheme: Scheme::Tcp, port: 5061, path: "".into() };
        let mut scene = Scene::new(&[tcp(), other.clone()]);
        for probing in scene.probes.values_mut() {
            probing.start(1, ago(100));
            probing.answer(1, &Answer::Connected, &Policy::default(), ago(90)).unwrap();
        }
        assert!(scene.judge(scene.case()).promising);
        scene.node.state = Some(InstanceState::Pending);
        assert!(!scene.judge(scene.case()).promising, "it does not run yet");
        scene.node.state = Some(InstanceState::Running);
        let gone_event = Some((InstanceState::Stopping, ago(0)));
        assert!(!scene.judge(Case { gone_event, ..scene.case() }).promising, "it is about to stop");
        let slow = scene.probes.get_mut(&other).unwrap();
        slow.start(2, ago(501));
        assert!(!scene.judge(scene.case()).promising, "one of two does not answer");
    }

    fn pulse(seen: Time, advanced: bool) -> Pulse {
        Pulse {
            seq: 7,
            seen,
            advanced,
            first_asked: seen,
            last_asked: seen,
            after: seen,
            at: seen,
            going_since: seen,
            stopped: false,
        }
    }

    #[test]
    fn a_number_that_follows_was_written_after_the_last_that_showed_the_one_before() {
        let beat =
            |seq| Heartbeat { seq, at: ago(0), status: BeatStatus::Ok, every: Duration::from_secs(5), why: None };
        let first = Pulse::read(None, &beat(7), ago(9_000), ago(8_900), ago(8_900));
        let again = Pulse::read(Some(first), &beat(7), ago(4_000), ago(3_900), ago(3_900));
        let next = Pulse::read(Some(again), &beat(8), ago(1_000), ago(900), ago(900));
        assert_eq!((next.advanced, next.after, next.seen), (true, ago(4_000), ago(900)));
    }

    /// A peer's, that has gone on for an hour.
    fn going_on(seen: Time, after: Time) -> Pulse {
        Pulse { after, going_since: ago(3_600_000), ..pulse(seen, true) }
    }

    #[test]
    fn a_heartbeat_goes_on_from_when_it_was_shown_again_after_one_was_lost() {
        // By a clock that is an hour slow.
        let read = |before, every_s: u64, written_s: u64, seen_s: u64| {
            let (at, seen) = (ago((3_600 + written_s) * 1_000), ago(seen_s * 1_000));
            let every = Duration::from_secs(every_s);
            let beat = Heartbeat { seq: 2_000 - written_s, at, status: BeatStatus::Ok, every, why: None };
            Some(Pulse::read(before, &beat, seen, seen, ago(598_000)))
        };
        let told = |pulse: Option<Pulse>| pulse.map(|pulse| (pulse.advanced, pulse.going_since));
        let known = ago(598_000);
        for (every_s, longest_gap_s) in [(1, 7), (4, 11), (5, 8), (10, 18), (60, 118)] {
            let again = read(read(None, every_s, 600, 598), every_s, 600, 593);
            assert_eq!(told(again), Some((false, known)));
            let whole = read(again, every_s, 600 - longest_gap_s, 600 - longest_gap_s);
            assert_eq!(told(whole), Some((true, known)), "every {every_s} s");
            let lost_s = 600 - longest_gap_s - 1;
            let one_lost = read(again, every_s, lost_s, lost_s);
            assert_eq!(told(one_lost), Some((true, ago(lost_s * 1_000))), "every {every_s} s");
            // So it is where its clock was set back meanwhile.
            let set_back = read(again, every_s, 600 + longest_gap_s + 1, lost_s);
            assert_eq!(told(set_back), Some((true, ago(lost_s * 1_000))), "every {every_s} s");
            let next = read(one_lost, every_s, lost_s - every_s, lost_s - every_s);
            assert_eq!(told(next), Some((true, ago(lost_s * 1_000))), "every {every_s} s");
        }
    }

    #[test]
    fn a_peers_heartbeat_is_believed_once_the_others_have_had_their_turn() {
        let seen = ago(60_000);
        let scene = Scene::beating(seen);
        let pulse = Some(pulse(seen, true));
        let told = |peers: &[Pulse], deadline_s| {
            let deadline = ago(0) + Duration::from_secs(deadline_s);
            let finding = scene.judge(Case { pulse, peers, deadline, ..scene.case() });
            (finding.verdict, finding.look_again)
        };
        let since = |ms| Pulse { going_since: ago(ms), ..going_on(ago(0), ago(5_000)) };
        assert_eq!(told(&[since(15_000)], 60), (Verdict::Unhealthy, None));
        assert_eq!(told(&[since(14_000)], 60), (Verdict::Unknown, Some(ago(0) + Duration::from_secs(1))));
        assert_eq!(told(&[since(14_000)], 1), (Verdict::Unknown, None));
        assert_eq!(told(&[since(14_000), since(15_000)], 60), (Verdict::Unhealthy, None), "one is enough");
        // It has to go on itself until then.
        let last_seen = |ms| Pulse { going_since: ago(20_000), ..going_on(ago(ms), ago(15_000)) };
        assert_eq!(told(&[last_seen(10_000)], 60), (Verdict::Unhealthy, None));
        assert_eq!(told(&[last_seen(10_001)], 60), (Verdict::Unknown, None));
        // Once it is taken as stopped, what a peer loses later takes nothing back.
        let case = Case { pulse, peers: &[since(15_000)], ..scene.case() };
        assert!(scene.judge(case).stopped);
        let stopped = pulse.map(|pulse| Pulse { stopped: true, ..pulse });
        let finding = scene.judge(Case { pulse: stopped, peers: &[since(0)], ..scene.case() });
        assert_eq!((finding.verdict, finding.stopped), (Verdict::Unhealthy, true));
    }

    #[test]
    fn a_heartbeat_may_take_a_second_more_than_its_interval() {
        let mut scene = Scene::beating(ago(25_000));
        if let Some(beat) = &mut scene.node.heartbeat {
            beat.every = Duration::from_secs(20);
        }
        for (seen, verdict) in [(ago(20_999), Verdict::Healthy), (ago(21_000), Verdict::Unknown)] {
            let pulse = Some(pulse(seen, true));
            assert_eq!(scene.judge(Case { pulse, ..scene.case() }).verdict, verdict);
        }
    }

    #[test]
    fn a_second_look_is_one_within_the_invocation() {
        // An hour old: what it says of itself counts for nothing.
        let scene = Scene::beating(ago(3_600_000));
        let seen = ago(2_000);
        let pulse = Some(pulse(seen, false));
        let again = ago(0) + Duration::from_secs(4);
        for (deadline, look_again, text) in [
            (again + Duration::from_millis(1), Some(again), "a second look follows"),
            (again, None, "the next is due after this invocation"),
        ] {
            let finding = scene.judge(Case { pulse, deadline, ..scene.case() });
            assert_eq!((finding.look_again, finding.settled), (look_again, look_again.is_none()));
            let told = finding.evidence.last().map(|evidence| evidence.text.clone()).unwrap_or_default();
            assert!(told.contains(text), "{told}");
        }
    }

    #[test]
    fn who_was_the_last_to_beat_condemns_nobody_whose_turn_had_not_come() {
        let seen = ago(30_000);
        let pulse = Some(pulse(seen, false));
        // Of this life, by its own time: a peer's must have been written when its next was overdue.
        let likely = Scene::beating(seen);
        for (peers_beat_after, verdict) in
            [(None, Verdict::Unknown), (Some(ago(24_001)), Verdict::Unknown), (Some(ago(24_000)), Verdict::Unhealthy)]
        {
            let peers: Vec<Pulse> = peers_beat_after.map(|after| going_on(ago(0), after)).into_iter().collect();
            let case = Case { pulse, peers: &peers, ..likely.case() };
            assert_eq!(likely.judge(case).verdict, verdict, "{peers_beat_after:?}");
        }
        // Of which life it is is not known: one that advances while it is looked at has to.
        let unlikely = Scene::beating(ago(3_600_000));
        for (peers_pulse, verdict) in [(seen, Verdict::Unknown), (seen + Duration::from_millis(1), Verdict::Unhealthy)]
        {
            let peers = [going_on(peers_pulse, seen)];
            let case = Case { pulse, peers: &peers, ..unlikely.case() };
            assert_eq!(unlikely.judge(case).verdict, verdict, "{peers_pulse}");
        }
    }

    #[test]
    fn an_answer_that_does_not_show_the_node_is_neither_look() {
        let scene = Scene::beating(ago(3_600_000));
        let seen = ago(30_000);
        let pulse = Some(pulse(seen, false));
        // The second is due after its interval and a second, the third 5 s later; EC2 was asked since, and when did it last show the node?
        let last_shown = [
            (ago(24_001), Verdict::Unknown),
            (ago(24_000), Verdict::Unknown),
            (ago(19_001), Verdict::Unknown),
            (ago(19_000), Verdict::Unhealthy),
        ];
        for (read_at, verdict) in last_shown {
            let asked_at = Some(ago(0));
            let peers = [going_on(ago(0), seen)];
            let case = Case { pulse, peers: &peers, read_at: Some(read_at), asked_at, ..scene.case() };
            let finding = scene.judge(case);
            assert_eq!(finding.verdict, verdict, "{read_at}");
            let told = finding.evidence.last().map(|evidence| evidence.text.clone()).unwrap_or_default();
            assert_eq!(told.contains("EC2 did not show the node"), verdict == Verdict::Unknown, "{told}");
        }
    }

    #[test]
    fn a_third_look_waits_for_the_longest_pause_and_for_what_ec2_may_show_late() {
        // A beat a second pauses for 2 s at the most, one every 20 s for 30 s. EC2 may show at the second look what was before the first.
        for (every_s, third_s) in [(1, 7), (20, 31)] {
            let mut scene = Scene::beating(ago(3_600_000));
            scene.policy.deadtime = Duration::from_secs(300);
            scene.node.heartbeat.as_mut().unwrap().every = Duration::from_secs(every_s);
            for (seen_s, verdict) in [(third_s - 1, Verdict::Unknown), (third_s, Verdict::Unhealthy)] {
                let seen = ago(seen_s * 1_000);
                let peers = [going_on(ago(0), seen)];
                let case = Case { pulse: Some(pulse(seen, false)), peers: &peers, ..scene.case() };
                let finding = scene.judge(case);
                let look_again = (verdict == Verdict::Unknown).then_some(ago(0) + Duration::from_secs(1));
                assert_eq!((finding.verdict, finding.look_again), (verdict, look_again), "{every_s}: {seen_s}");
            }
        }
    }

    #[test]
    fn a_third_look_that_is_due_too_late_is_told() {
        let scene = Scene::beating(ago(3_600_000));
        let seen = ago(8_000);
        let pulse = Some(pulse(seen, false));
        for (deadline_s, text) in [(4, "it is not judged until"), (3, "which is after this invocation")] {
            let deadline = ago(0) + Duration::from_secs(deadline_s);
            let peers = [going_on(ago(0), seen)];
            let case = Case { pulse, peers: &peers, deadline, ..scene.case() };
            let finding = scene.judge(case);
            assert_eq!(finding.verdict, Verdict::Unknown);
            let told = finding.evidence.last().map(|evidence| evidence.text.clone()).unwrap_or_default();
            assert!(told.contains(text), "{deadline_s}: {told}");
        }
    }
}
