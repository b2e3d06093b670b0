//! What the agent does and when: it is fed what was seen and says what to do next, as the core does.
//!
//! Architecture invariant: no clock, no I/O, nothing random. The time and the jitter are given; what is kept does not grow.
//!
//! The pace, which is all that EC2 feels of the agent: a write that is due by `every` comes at least `every` after the
//! one before it, whether that succeeded or failed, and each change of status adds at most one more. Failures only
//! ever make it slower. Leaving, said once in a life, may try a few times more within [`FAREWELL_MS`].

use std::fmt;
use std::time::Duration;

use crate::core::model::CloudError;
use crate::core::tags::{BeatStatus, Heartbeat, MAX_BACKOFF};
use crate::core::time::Time;

/// How often the metadata is asked for a spot interruption. AWS recommends every 5 seconds.
pub const SPOT_EVERY_MS: u64 = 5_000;

/// How long a goodbye may take, all of it, before the agent gives up on it: the machine does not wait.
pub const FAREWELL_MS: u64 = 2_000;

/// The pause after a goodbye's first failed attempt; it doubles.
const FAREWELL_PAUSE_MS: u64 = 250;

/// The longest pause between two attempts to read the instance's id. The metadata service is on the machine's own host.
const MAX_IDENTIFY_PAUSE_MS: u64 = 30_000;

/// The most that jitter adds to `every`. The watcher takes a second look at a heartbeat 1 s after `every`.
const MAX_JITTER_MS: u64 = 500;

/// The soonest that a change of status which could not be written is tried again.
const CHANGE_RETRY_MS: u64 = 1_000;

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The checks, by the names they are configured by.
    pub checks: Vec<String>,
    /// Time between two runs of a check; half of it while its result differs from what it stands at.
    pub interval: Duration,
    /// Time between two heartbeats.
    pub every: Duration,
    /// Consecutive failures after which a check fails.
    pub fall: u32,
    /// Consecutive passes after which it passes.
    pub rise: u32,
    /// End after the first write, whether it succeeds or not.
    pub once: bool,
}

/// The present, as whoever drives the agent knows it.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// Never runs backwards; everything is timed by it.
    pub now: Time,
    /// The machine's clock, right or wrong: what a heartbeat carries.
    pub wall: Time,
    /// Any number from 0 to 1000, a new one each time.
    pub jitter_permille: u16,
}

/// What is to be done. Every one of them but [`Effect::Log`] is answered by the [`Input`] named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Run the check of this position: [`Input::Checked`].
    Check(usize),
    /// Find out which instance this is: [`Input::Identified`].
    Identify,
    /// Ask whether a spot interruption is announced: [`Input::Spot`].
    AskSpot,
    /// See whether `eipwatch-agent leave` was run on this machine: [`Input::AskedToLeave`].
    LookForLeave,
    /// Write the heartbeat: [`Input::Wrote`] with the same number.
    Write(u64, Heartbeat),
    /// Tell people.
    Log(Line),
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Input {
    /// A check has run.
    Checked(usize, Reading),
    /// The instance is known, by this name for the log; or why not.
    Identified(Result<String, String>),
    /// The announcement of a spot interruption, if there is one; or why that is not known.
    Spot(Result<Option<String>, String>),
    /// Whether somebody asked this node to leave.
    AskedToLeave(bool),
    /// The write of this number has ended.
    Wrote(u64, Result<(), CloudError>),
    /// End, and before that announce leaving for the reason given.
    Stop {
        /// `None`: a restart announces nothing.
        announce: Option<String>,
    },
}

/// What a check brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `None`: it could not be made, and tells nothing.
    pub ok: Option<bool>,
    /// In a few words.
    pub text: String,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something does not work.
    Warning,
    /// Something has changed.
    Info,
}

/// A line of the log. Each says a change; nothing is said twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// One sentence or two.
    pub text: String,
}

/// How the agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was stopped, and had nothing to announce.
    Stopped,
    /// Its last heartbeat is written: with `once`, or of leaving.
    Written(Heartbeat),
    /// Its last heartbeat could not be written, and why.
    GaveUp(String),
}

/// What a check stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    Up,
    Down,
}

#[derive(Clone, Debug)]
struct Watched {
    name: String,
    due: Time,
    /// When the run under way began.
    running: Option<Time>,
    passes: u32,
    fails: u32,
    readings: u32,
    /// How often in a row it could not be asked.
    silences: u32,
    standing: Standing,
    text: String,
    not_asked: Option<String>,
}

/// A question to the metadata service.
#[derive(Clone, Debug)]
struct Asking {
    due: Time,
    running: bool,
    failures: u32,
    trouble: Option<String>,
}

/// A write under way.
#[derive(Clone, Debug)]
struct Attempt {
    number: u64,
    at: Time,
    beat: Heartbeat,
    jitter_permille: u64,
    /// By `every`, not only by a change of status.
    scheduled: bool,
}

/// Whether somebody asked this node to leave is looked at before each write, however lately it was: an `ok` written after
/// another's `leaving` would take that back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    None,
    Asked,
    Answered,
}

#[derive(Clone, Debug)]
struct Farewell {
    why: String,
    until: Time,
    pause: Duration,
}

/// The agent, without the machine around it.
#[derive(Clone, Debug)]
pub struct Beat {
    settings: Settings,
    checks: Vec<Watched>,
    identified: bool,
    identify: Asking,
    spot: Asking,
    leave_due: Time,
    /// For the write that is due.
    look: Look,
    spot_notice: Option<String>,
    asked_to_leave: bool,
    farewell: Option<Farewell>,
    seq: u64,
    number: u64,
    writing: Option<Attempt>,
    /// The status last attempted to write.
    tried: Option<BeatStatus>,
    /// The status last written.
    told: Option<BeatStatus>,
    next_write: Time,
    failures: u32,
    trouble: Option<String>,
    lines: Vec<Line>,
    ending: Option<Ending>,
}

impl Beat {
    /// An agent that starts now.
    pub fn new(settings: Settings, now: Time) -> Beat {
        let watched = |name: &String| Watched {
            name: name.clone(),
            due: now,
            running: None,
            passes: 0,
            fails: 0,
            readings: 0,
            silences: 0,
            standing: Standing::Unknown,
            text: String::new(),
            not_asked: None,
        };
        let asking = Asking { due: now, running: false, failures: 0, trouble: None };
        Beat {
            checks: settings.checks.iter().map(watched).collect(),
            settings,
            identified: false,
            identify: asking.clone(),
            spot: asking,
            leave_due: now,
            look: Look::None,
            spot_notice: None,
            asked_to_leave: false,
            farewell: None,
            seq: 0,
            number: 0,
            writing: None,
            tried: None,
            told: None,
            next_write: now,
            failures: 0,
            trouble: None,
            lines: Vec::new(),
            ending: None,
        }
    }

    /// An agent that only says goodbye.
    pub fn goodbye(settings: Settings, why: String, now: Time) -> Beat {
        let mut beat = Beat::new(Settings { checks: Vec::new(), ..settings }, now);
        beat.feed(Input::Stop { announce: Some(why) }, now);
        beat
    }

    /// How it ended, once it has.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// What the node is now, and why if it is not `ok`; `None`: not known yet.
    pub fn status(&self) -> Option<(BeatStatus, Option<String>)> {
        if let Some(farewell) = &self.farewell {
            return Some((BeatStatus::Leaving, Some(farewell.why.clone())));
        }
        if let Some(notice) = &self.spot_notice {
            return Some((BeatStatus::Leaving, Some(notice.clone())));
        }
        if self.asked_to_leave {
            return Some((BeatStatus::Leaving, Some("asked to leave".to_owned())));
        }
        let down: Vec<String> = self
            .checks
            .iter()
            .filter(|check| check.standing == Standing::Down)
            .map(|check| format!("{} {}", check.name, check.text))
            .collect();
        if !down.is_empty() {
            return Some((BeatStatus::Fail, Some(down.join(", "))));
        }
        let up = self.checks.iter().all(|check| check.standing == Standing::Up);
        up.then_some((BeatStatus::Ok, None))
    }

    /// Takes in what came of an effect, or the wish to end.
    pub fn feed(&mut self, input: Input, now: Time) {
        match input {
            Input::Checked(index, reading) => self.checked(index, reading, now),
            Input::Identified(read) => self.identified(read, now),
            Input::Spot(read) => self.spot(read),
            Input::AskedToLeave(asked) => {
                self.asked_to_leave = asked;
                if self.look == Look::Asked {
                    self.look = Look::Answered;
                }
            }
            Input::Wrote(number, result) => self.wrote(number, result, now),
            Input::Stop { announce } => self.stop(announce, now),
        }
    }

    /// What is to be done now.
    pub fn poll(&mut self, present: Present) -> Vec<Effect> {
        let now = present.now;
        let mut effects = Vec::new();
        if self.ending.is_none() {
            if self.farewell.is_none() {
                self.poll_checks(now, &mut effects);
            }
            if !self.identified && !self.identify.running && now >= self.identify.due {
                self.identify.running = true;
                effects.push(Effect::Identify);
            }
            self.poll_write(present, &mut effects);
            if let Some(farewell) = self.farewell.as_ref().filter(|farewell| now >= farewell.until) {
                let late = || format!("no answer of EC2 within {} ms", FAREWELL_MS);
                let why = self.trouble.clone().or(self.identify.trouble.clone()).unwrap_or_else(late);
                let text = format!("leaving ({}) could not be announced in time: {why}", farewell.why);
                self.end(Ending::GaveUp(text));
            }
        }
        effects.extend(self.lines.drain(..).map(Effect::Log));
        effects
    }

    /// When to poll again at the latest, if nothing is fed before.
    pub fn next_wake(&self) -> Time {
        let identify = (!self.identified && !self.identify.running).then_some(self.identify.due);
        let write = (self.identified && self.writing.is_none() && self.status().is_some()).then_some(self.next_write);
        let common = identify.into_iter().chain(write);
        match &self.farewell {
            Some(farewell) => common.fold(farewell.until, Time::min),
            None => {
                let checks = self.checks.iter().filter(|check| check.running.is_none()).map(|check| check.due);
                let spot = (!self.spot.running).then_some(self.spot.due);
                common.chain(checks).chain(spot).fold(self.leave_due, Time::min)
            }
        }
    }

    fn poll_checks(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for (index, check) in self.checks.iter_mut().enumerate() {
            if check.running.is_none() && now >= check.due {
                check.running = Some(now);
                effects.push(Effect::Check(index));
            }
        }
        if !self.spot.running && now >= self.spot.due {
            self.spot.running = true;
            self.spot.due = now + Duration::from_millis(SPOT_EVERY_MS);
            effects.push(Effect::AskSpot);
        }
        if now >= self.leave_due {
            self.leave_due = now + self.settings.interval;
            effects.push(Effect::LookForLeave);
        }
    }

    fn poll_write(&mut self, present: Present, effects: &mut Vec<Effect>) {
        let now = present.now;
        if !self.identified || self.writing.is_some() {
            return;
        }
        let Some((status, why)) = self.status() else { return };
        let changed = self.tried != Some(status);
        let scheduled = now >= self.next_write;
        if !changed && !scheduled {
            return;
        }
        if self.farewell.is_none() && self.look != Look::Answered {
            if self.look == Look::None {
                self.look = Look::Asked;
                effects.push(Effect::LookForLeave);
            }
            return;
        }
        self.look = Look::None;
        if changed {
            let level = if status == BeatStatus::Ok { Level::Info } else { Level::Warning };
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            self.say(level, format!("status is {}{why}", word(status)));
        }
        // Milliseconds since 1970: larger than what an earlier run wrote, without having to read that. Where the clock
        // was set back it still differs, and advances from there.
        self.seq = self.seq.saturating_add(1).max(present.wall.as_millis());
        self.number = self.number.wrapping_add(1);
        let beat =
            Heartbeat { seq: self.seq, at: present.wall.whole_second(), status, every: self.settings.every, why };
        self.tried = Some(status);
        self.writing = Some(Attempt {
            number: self.number,
            at: now,
            beat: beat.clone(),
            jitter_permille: u64::from(present.jitter_permille.min(1000)),
            scheduled,
        });
        effects.push(Effect::Write(self.number, beat));
    }

    fn checked(&mut self, index: usize, reading: Reading, now: Time) {
        let Settings { interval, fall, rise, once, .. } = self.settings;
        let patience = 2 * fall.saturating_add(rise);
        let Some(check) = self.checks.get_mut(index) else { return };
        let started = check.running.take().unwrap_or(now);
        let before = check.standing;
        let not_asked = check.not_asked.take();
        match reading.ok {
            None => {
                check.not_asked = Some(reading.text);
                check.silences = check.silences.saturating_add(1);
            }
            Some(ok) => {
                check.silences = 0;
                check.passes = if ok { check.passes.saturating_add(1) } else { 0 };
                check.fails = if ok { 0 } else { check.fails.saturating_add(1) };
                check.readings = check.readings.saturating_add(1);
                check.text = reading.text;
                // One that goes to and fro without end does not serve.
                let restless = before == Standing::Unknown && check.readings >= patience;
                if check.passes >= rise {
                    check.standing = Standing::Up;
                } else if check.fails >= fall || restless {
                    check.standing = Standing::Down;
                }
            }
        }
        let changing = match check.standing {
            Standing::Unknown => true,
            Standing::Up => check.fails > 0,
            Standing::Down => check.passes > 0,
        };
        check.due = (started + if changing { interval / 2 } else { interval }).max(now);
        let (standing, name, text) = (check.standing, check.name.clone(), check.text.clone());
        let silences = check.silences;
        let silent = check.not_asked.clone().filter(|_| not_asked.is_none());
        if let Some(why) = silent {
            self.say(Level::Warning, format!("{name} could not be asked ({why}); that says nothing of this node"));
        }
        if once && silences >= patience {
            self.end(Ending::GaveUp(format!("nothing was written, because {name} could not be asked")));
        }
        match standing {
            _ if standing == before => {}
            Standing::Up => self.say(Level::Info, format!("{name} passes: {text}")),
            _ => self.say(Level::Warning, format!("{name} fails: {text}")),
        }
    }

    fn identified(&mut self, read: Result<String, String>, now: Time) {
        self.identify.running = false;
        match read {
            Ok(name) => {
                self.identified = true;
                self.identify.trouble = None;
                self.say(Level::Info, format!("this is {name}"));
            }
            Err(why) => {
                let pause_ms = if self.farewell.is_some() {
                    FAREWELL_PAUSE_MS
                } else {
                    doubled(1_000, self.identify.failures, MAX_IDENTIFY_PAUSE_MS)
                };
                self.identify.failures = self.identify.failures.saturating_add(1);
                self.identify.due = now + Duration::from_millis(pause_ms);
                let text = format!("this instance is not known yet, so nothing is written: {why}");
                if self.settings.once {
                    self.end(Ending::GaveUp(text));
                } else if change(&mut self.identify.trouble, Some(why)) && self.farewell.is_none() {
                    self.say(Level::Warning, format!("{}. It is asked again", text.trim_end_matches('.')));
                }
            }
        }
    }

    fn spot(&mut self, read: Result<Option<String>, String>) {
        self.spot.running = false;
        match read {
            Ok(notice) => {
                if change(&mut self.spot.trouble, None) {
                    self.say(Level::Info, "the instance's metadata answers again".to_owned());
                }
                if self.spot_notice.is_some() && notice.is_none() {
                    self.say(Level::Info, "the spot interruption is no longer announced".to_owned());
                }
                self.spot_notice = notice;
            }
            Err(why) => {
                if change(&mut self.spot.trouble, Some(why.clone())) {
                    self.say(
                        Level::Warning,
                        format!(
                            "a spot interruption would go unnoticed: {}. It is asked again",
                            why.trim_end_matches('.')
                        ),
                    );
                }
            }
        }
    }

    fn wrote(&mut self, number: u64, result: Result<(), CloudError>, now: Time) {
        // An attempt that a goodbye has overtaken tells nothing.
        let Some(attempt) = self.writing.take_if(|attempt| attempt.number == number) else { return };
        let last = self.settings.once || self.farewell.is_some();
        match result {
            Ok(()) => {
                self.told = Some(attempt.beat.status);
                if change(&mut self.trouble, None) {
                    self.say(Level::Info, "the heartbeat is written again".to_owned());
                }
                self.failures = 0;
                self.next_write = attempt.at + pace(self.settings.every, attempt.jitter_permille);
                if last {
                    self.end(Ending::Written(attempt.beat));
                }
            }
            Err(error) => {
                let pause = if attempt.scheduled {
                    self.failures = self.failures.saturating_add(1);
                    backoff(self.settings.every, self.failures, attempt.jitter_permille)
                } else {
                    // Its own credit is spent: the next one is that of `every`, where that is due anyway.
                    let soonest = Duration::from_millis(CHANGE_RETRY_MS);
                    stretched(soonest, attempt.jitter_permille).max(self.next_write.since(attempt.at))
                };
                self.next_write = (attempt.at + pause).max(now);
                let text = error.to_string();
                // AWS ends its sentences; what is said here goes on.
                let text = text.trim_end_matches('.').to_owned();
                if let Some(farewell) = &mut self.farewell {
                    let hopeless = error.is_hopeless();
                    self.next_write = now + farewell.pause;
                    farewell.pause *= 2;
                    let why = farewell.why.clone();
                    self.trouble = Some(text.clone());
                    if hopeless {
                        self.end(Ending::GaveUp(format!("leaving ({why}) could not be announced: {text}")));
                    }
                } else if last {
                    self.end(Ending::GaveUp(format!("the heartbeat could not be written: {text}")));
                } else if change(&mut self.trouble, Some(error.code.clone())) {
                    let hint = match error.code.as_str() {
                        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
                            " The instance's role needs the agent's policy, which allows it this one tag on itself."
                        }
                        _ => "",
                    };
                    let text =
                        format!("the heartbeat could not be written: {text}. It is tried again, more slowly.{hint}");
                    self.say(Level::Warning, text);
                }
            }
        }
    }

    fn stop(&mut self, announce: Option<String>, now: Time) {
        let Some(why) = announce else { return self.end(Ending::Stopped) };
        if self.farewell.is_some() {
            return;
        }
        if self.told == Some(BeatStatus::Leaving) && self.tried == self.told {
            return self.end(Ending::Stopped);
        }
        self.farewell = Some(Farewell {
            why,
            until: now + Duration::from_millis(FAREWELL_MS),
            pause: Duration::from_millis(FAREWELL_PAUSE_MS),
        });
        self.trouble = None;
        self.writing = None;
        self.next_write = now;
        self.identify.due = now;
    }

    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    fn say(&mut self, level: Level, text: String) {
        self.lines.push(Line { level, text });
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A status as the tag writes it.
pub fn word(status: BeatStatus) -> &'static str {
    match status {
        BeatStatus::Ok => "ok",
        BeatStatus::Fail => "fail",
        BeatStatus::Leaving => "leaving",
    }
}

/// Sets what is wrong, and says whether that is news.
fn change(known: &mut Option<String>, new: Option<String>) -> bool {
    let news = *known != new;
    *known = new;
    news
}

/// `first_ms`, doubled `times`, at most `max_ms`.
fn doubled(first_ms: u64, times: u32, max_ms: u64) -> u64 {
    first_ms.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX)).min(max_ms)
}

/// From one heartbeat to the next: never less than `every`, and at most a tenth or [`MAX_JITTER_MS`] more.
fn pace(every: Duration, jitter_permille: u64) -> Duration {
    let room = (every / 10).min(Duration::from_millis(MAX_JITTER_MS));
    every + room.mul_f64(fraction(jitter_permille))
}

/// After this many failures in a row. The first two cost little more than the pace itself, so that a node gets three
/// attempts within a usual `deadtime`. No pause is longer than `longest_pause`: others that go on for so long speak against
/// this node.
fn backoff(every: Duration, failures: u32, jitter_permille: u64) -> Duration {
    let half = every.min(MAX_BACKOFF) / 2;
    let least = if failures <= 2 { every } else { every + half };
    least + half.mul_f64(fraction(jitter_permille))
}

/// Up to half as long again.
fn stretched(pause: Duration, jitter_permille: u64) -> Duration {
    pause + (pause / 2).mul_f64(fraction(jitter_permille))
}

fn fraction(permille: u64) -> f64 {
    // At most 1000, so nothing is lost.
    f64::from(u16::try_from(permille).unwrap_or(1000)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Failure;
    use crate::core::tags::longest_pause;

    const START_MS: u64 = 1_795_330_000_000;

    fn at(ms: u64) -> Time {
        Time::from_millis(START_MS + ms)
    }

    /// A machine in virtual time.
    struct Machine {
        beat: Beat,
        now: Time,
        /// How far the machine's clock is off.
        wall_ahead: Duration,
        /// What each check answers.
        checks: Vec<Option<bool>>,
        metadata: Result<(), String>,
        spot: Result<Option<String>, String>,
        asked_to_leave: bool,
        ec2: Result<(), CloudError>,
        ec2_takes: Duration,
        /// To come.
        inputs: Vec<(Time, Input)>,
        writes: Vec<(Time, Heartbeat)>,
        lines: Vec<String>,
        check_starts: Vec<Time>,
        jitter: u16,
        /// Whether writes, lines and starts are kept.
        records: bool,
    }

    fn settings(checks: usize) -> Settings {
        Settings {
            checks: (0..checks).map(|index| format!("tcp:{}", 80 + index)).collect(),
            interval: Duration::from_secs(1),
            every: Duration::from_secs(5),
            fall: 2,
            rise: 2,
            once: false,
        }
    }

    fn machine(settings: Settings) -> Machine {
        let checks = vec![Some(true); settings.checks.len()];
        of(Beat::new(settings, at(0)), checks)
    }

    fn of(beat: Beat, checks: Vec<Option<bool>>) -> Machine {
        Machine {
            beat,
            now: at(0),
            wall_ahead: Duration::ZERO,
            checks,
            metadata: Ok(()),
            spot: Ok(None),
            asked_to_leave: false,
            ec2: Ok(()),
            ec2_takes: Duration::from_millis(50),
            inputs: Vec::new(),
            writes: Vec::new(),
            lines: Vec::new(),
            check_starts: Vec::new(),
            jitter: 0,
            records: true,
        }
    }

    impl Machine {
        /// Until this many milliseconds after the start, or the end of the agent.
        fn until(&mut self, ms: u64) {
            let end = at(ms);
            loop {
                self.jitter = (self.jitter + 379) % 1001;
                let wall = self.now + self.wall_ahead;
                let effects = self.beat.poll(Present { now: self.now, wall, jitter_permille: self.jitter });
                for effect in effects {
                    self.carry_out(effect);
                }
                if self.beat.ending().is_some() {
                    return;
                }
                let coming = self.inputs.iter().map(|(at, _)| *at).min();
                let next = coming.into_iter().fold(self.beat.next_wake(), Time::min);
                if next > end {
                    self.now = end;
                    return;
                }
                self.now = self.now.max(next);
                let now = self.now;
                let (due, later) = std::mem::take(&mut self.inputs).into_iter().partition(|(at, _)| *at <= now);
                self.inputs = later;
                let due: Vec<(Time, Input)> = due;
                for (_, input) in due {
                    self.beat.feed(input, now);
                }
            }
        }

        fn carry_out(&mut self, effect: Effect) {
            let soon = self.now + Duration::from_millis(3);
            match effect {
                Effect::Check(index) => {
                    if self.records {
                        self.check_starts.push(self.now);
                    }
                    let ok = self.checks[index];
                    let text = if ok == Some(true) { "connected" } else { "refused" }.to_owned();
                    self.inputs.push((soon, Input::Checked(index, Reading { ok, text })));
                }
                Effect::Identify => {
                    let read = self.metadata.clone().map(|()| "i-1 in eu-west-1".to_owned());
                    self.inputs.push((soon, Input::Identified(read)));
                }
                Effect::AskSpot => self.inputs.push((soon, Input::Spot(self.spot.clone()))),
                Effect::LookForLeave => self.inputs.push((self.now, Input::AskedToLeave(self.asked_to_leave))),
                Effect::Write(number, beat) => {
                    if self.records {
                        self.writes.push((self.now, beat));
                    }
                    self.inputs.push((self.now + self.ec2_takes, Input::Wrote(number, self.ec2.clone())));
                }
                Effect::Log(line) => {
                    if self.records {
                        self.lines.push(line.text);
                    }
                }
            }
        }

        fn status_writes(&self) -> Vec<BeatStatus> {
            self.writes.iter().map(|(_, beat)| beat.status).collect()
        }

        fn last(&self) -> &Heartbeat {
            &self.writes.last().expect("something was written").1
        }

        fn lines_with(&self, part: &str) -> usize {
            self.lines.iter().filter(|line| line.contains(part)).count()
        }
    }

    fn fault(failure: Failure, code: &str) -> Result<(), CloudError> {
        Err(CloudError { failure, code: code.to_owned(), message: "says the test".to_owned() })
    }

    #[test]
    fn a_healthy_node_writes_at_its_pace_and_no_faster() {
        let mut machine = machine(settings(1));
        machine.until(600_000);
        assert!(machine.writes[0].0 <= at(1_000), "the first one comes as soon as the check has passed twice");
        for pair in machine.writes.windows(2) {
            let gap_ms = pair[1].0.since(pair[0].0).as_millis();
            assert!((5_000..=5_500).contains(&gap_ms), "{gap_ms} ms");
            assert!(pair[1].1.seq > pair[0].1.seq);
        }
        assert!(machine.writes.len() >= 600 / 6);
        assert_eq!(machine.last().status, BeatStatus::Ok);
        assert_eq!(machine.last().why, None);
        assert_eq!(machine.lines, ["this is i-1 in eu-west-1", "tcp:80 passes: connected", "status is ok"]);
        let gaps: Vec<u128> =
            machine.check_starts.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).skip(1).collect();
        assert!(gaps.iter().all(|gap| *gap == 1_000), "{gaps:?}");
    }

    #[test]
    fn nothing_is_said_before_it_is_known() {
        let mut machine = machine(settings(2));
        machine.checks[1] = None;
        machine.until(60_000);
        assert_eq!(machine.writes, []);
        assert_eq!(machine.lines_with("tcp:81 could not be asked (refused)"), 1);
        machine.checks[1] = Some(true);
        machine.until(62_000);
        assert_eq!(machine.status_writes(), [BeatStatus::Ok]);
    }

    #[test]
    fn a_check_that_never_settles_does_not_pass() {
        let mut machine = machine(settings(1));
        for ms in 0..100 {
            machine.checks[0] = Some(ms % 2 == 0);
            machine.until(ms * 500);
        }
        assert_eq!(machine.writes[0].1.status, BeatStatus::Fail);
    }

    #[test]
    fn a_change_of_status_is_written_at_once() {
        let mut machine = machine(settings(2));
        machine.until(20_000);
        let before = machine.writes.len();
        machine.checks[1] = Some(false);
        machine.until(22_000);
        let (when, beat) = &machine.writes[before];
        assert!(*when <= at(21_600), "two failures, the second one half an interval after the first: {when:?}");
        assert_eq!(beat.status, BeatStatus::Fail);
        assert_eq!(beat.why.as_deref(), Some("tcp:81 refused"));
        machine.checks[1] = Some(true);
        machine.until(24_000);
        assert_eq!(machine.last().status, BeatStatus::Ok);
        assert_eq!(machine.lines_with("status is fail: tcp:81 refused"), 1);
    }

    #[test]
    fn one_failure_changes_nothing() {
        let mut machine = machine(settings(1));
        machine.until(20_000);
        machine.checks[0] = Some(false);
        let before = machine.check_starts.len();
        let mut ms = 20_000;
        while machine.check_starts.len() == before {
            ms += 50;
            machine.until(ms);
        }
        machine.checks[0] = Some(true);
        machine.until(60_000);
        assert!(machine.status_writes().iter().all(|status| *status == BeatStatus::Ok));
    }

    #[test]
    fn no_pause_is_longer_than_the_watcher_believes() {
        for (every_s, longest_s) in [(1, 2), (5, 10), (10, 20), (30, 40), (60, 70)] {
            let every = Duration::from_secs(every_s);
            assert_eq!(longest_pause(every), Duration::from_secs(longest_s));
            for failures in [1, 2, 3, u32::MAX] {
                assert!(
                    backoff(every, failures, 0) >= every && backoff(every, failures, 1_000) <= longest_pause(every)
                );
            }
            assert!(backoff(every, 3, 0) > backoff(every, 1, 0));
        }
    }

    #[test]
    fn failures_only_ever_make_it_slower() {
        for (failure, code) in [
            (Failure::Throttled, "RequestLimitExceeded"),
            (Failure::Transient, "Timeout"),
            (Failure::NotPermitted, "UnauthorizedOperation"),
            (Failure::NotPermitted, "NoCredentials"),
        ] {
            let mut machine = machine(settings(1));
            machine.until(60_000);
            let before = machine.writes.len();
            machine.ec2 = fault(failure, code);
            machine.until(1_260_000);
            let attempts = &machine.writes[before..];
            for pair in attempts.windows(2) {
                assert!(pair[1].0.since(pair[0].0) >= Duration::from_secs(5));
            }
            assert!((120..=160).contains(&attempts.len()), "{} attempts in 20 min", attempts.len());
            let within_deadtime = attempts.iter().filter(|(when, _)| *when <= at(60_000 + 20_000)).count();
            assert!(within_deadtime >= 2, "{within_deadtime} attempts in the first 20 s");
            assert_eq!(machine.lines_with("the heartbeat could not be written"), 1, "{:?}", machine.lines);
            let hinted = usize::from(code == "UnauthorizedOperation");
            assert_eq!(machine.lines_with("needs the agent's policy"), hinted, "{code}");
            // And back to the pace at once, when it works again.
            machine.ec2 = Ok(());
            machine.until(1_260_000 + 91_000);
            let healed = machine.writes.len();
            machine.until(1_260_000 + 91_000 + 60_000);
            assert!(machine.writes.len() - healed >= 10);
            assert_eq!(machine.lines_with("the heartbeat is written again"), 1);
        }
    }

    #[test]
    fn whatever_happens_there_is_one_write_an_every_and_one_a_change() {
        for failing in [false, true] {
            let mut machine = machine(settings(1));
            if failing {
                machine.ec2 = fault(Failure::Throttled, "RequestLimitExceeded");
            }
            let mut changes = 0;
            let mut known = None;
            for step in 0..2_000_u64 {
                machine.checks[0] = Some(step % 10 < 5);
                machine.until(step * 500);
                let status = machine.beat.status().map(|(status, _)| status);
                changes += u64::from(status != known);
                known = status;
            }
            let written = machine.writes.len() as u64;
            assert!(changes > 100);
            assert!(written <= 1_000_000 / 5_000 + 1 + changes, "{written} writes for {changes} changes");
            assert!(written >= changes / 2, "{written} writes for {changes} changes");
        }
    }

    #[test]
    fn a_slow_ec2_does_not_stack_up_writes() {
        let mut machine = machine(settings(1));
        machine.ec2_takes = Duration::from_secs(30);
        machine.until(300_000);
        assert!(machine.writes.len() <= 11, "{}", machine.writes.len());
    }

    #[test]
    fn without_metadata_it_waits_and_says_so_once() {
        let mut machine = machine(settings(1));
        machine.metadata = Err("connection refused".to_owned());
        machine.until(600_000);
        assert_eq!(machine.writes, []);
        assert_eq!(machine.lines_with("this instance is not known yet"), 1);
        machine.metadata = Ok(());
        machine.until(631_000);
        assert!(!machine.writes.is_empty());
    }

    #[test]
    fn a_spot_notice_is_leaving_until_it_is_withdrawn() {
        let mut machine = machine(settings(1));
        machine.until(20_000);
        machine.spot = Ok(Some("spot terminate at 2026-11-22T08:22:00Z".to_owned()));
        machine.until(25_100);
        assert_eq!(machine.last().status, BeatStatus::Leaving);
        assert_eq!(machine.last().why.as_deref(), Some("spot terminate at 2026-11-22T08:22:00Z"));
        // A metadata service that falls silent takes nothing back.
        machine.spot = Err("no answer".to_owned());
        machine.until(60_000);
        assert_eq!(machine.last().status, BeatStatus::Leaving);
        assert_eq!(machine.lines_with("would go unnoticed"), 1);
        machine.spot = Ok(None);
        machine.until(66_000);
        assert_eq!(machine.last().status, BeatStatus::Ok);
    }

    #[test]
    fn asked_to_leave_it_keeps_saying_so() {
        let mut machine = machine(settings(1));
        machine.until(20_000);
        let before = machine.writes.len();
        machine.asked_to_leave = true;
        machine.until(21_100);
        assert_eq!(machine.last().status, BeatStatus::Leaving);
        machine.checks[0] = Some(false);
        machine.until(60_000);
        assert!(machine.writes[before..].iter().all(|(_, beat)| beat.status == BeatStatus::Leaving));
        assert!(machine.writes.len() - before >= 7, "a node that leaves still beats");
    }

    #[test]
    fn no_heartbeat_takes_back_a_leave_that_was_asked_for_before_it() {
        for ms in (20_000..26_000).step_by(37) {
            let mut machine = machine(settings(1));
            machine.until(ms);
            let before = machine.writes.len();
            machine.asked_to_leave = true;
            machine.until(ms + 20_000);
            assert!(machine.writes.len() > before + 2);
            let after = &machine.status_writes()[before..];
            assert!(after.iter().all(|status| *status == BeatStatus::Leaving), "{ms}: {after:?}");
        }
    }

    #[test]
    fn a_restart_announces_nothing() {
        let mut machine = machine(settings(1));
        machine.until(20_000);
        let before = machine.writes.len();
        machine.inputs.push((at(20_000), Input::Stop { announce: None }));
        machine.until(30_000);
        assert_eq!(machine.beat.ending(), Some(&Ending::Stopped));
        assert_eq!(machine.writes.len(), before);
        // And the next one goes on with larger numbers, without having read any, though its clock is the same.
        let last = machine.last().seq;
        let mut next = of(Beat::new(settings(1), at(20_000)), vec![Some(true)]);
        next.now = at(20_000);
        next.until(22_000);
        assert!(next.last().seq > last);
    }

    fn stopped_with(ec2: Result<(), CloudError>, takes_ms: u64) -> Machine {
        let mut machine = machine(settings(1));
        machine.until(20_000);
        machine.writes.clear();
        machine.ec2 = ec2;
        machine.ec2_takes = Duration::from_millis(takes_ms);
        machine.inputs.push((at(20_000), Input::Stop { announce: Some("the agent was stopped".to_owned()) }));
        machine.until(60_000);
        machine
    }

    #[test]
    fn a_goodbye_is_said_within_two_seconds_or_given_up() {
        let machine = stopped_with(Ok(()), 1_500);
        assert_eq!(machine.status_writes(), [BeatStatus::Leaving]);
        assert_eq!(machine.writes[0].0, at(20_000));
        assert!(matches!(machine.beat.ending(), Some(Ending::Written(beat)) if beat.status == BeatStatus::Leaving));

        let machine = stopped_with(Ok(()), 4_000);
        assert_eq!(machine.now, at(22_000));
        assert!(matches!(machine.beat.ending(), Some(Ending::GaveUp(why)) if why.contains("no answer of EC2")));

        let machine = stopped_with(fault(Failure::Throttled, "RequestLimitExceeded"), 20);
        assert_eq!(machine.now, at(22_000));
        assert!((2..=4).contains(&machine.writes.len()), "{}", machine.writes.len());
        assert!(matches!(machine.beat.ending(), Some(Ending::GaveUp(why)) if why.contains("RequestLimitExceeded")));

        let machine = stopped_with(fault(Failure::NotPermitted, "UnauthorizedOperation"), 20);
        assert_eq!(machine.writes.len(), 1, "asking again does not help");
        assert!(machine.now < at(20_100));

        let machine = stopped_with(fault(Failure::NotPermitted, "AuthFailure"), 20);
        assert!((2..=4).contains(&machine.writes.len()), "these credentials may come to be known");
    }

    #[test]
    fn a_goodbye_overtakes_a_heartbeat_that_hangs() {
        let mut machine = machine(settings(1));
        machine.ec2_takes = Duration::from_secs(4);
        machine.until(1_500);
        assert_eq!(machine.writes.len(), 1);
        machine.ec2_takes = Duration::from_millis(100);
        machine.inputs.push((at(1_500), Input::Stop { announce: Some("stop".to_owned()) }));
        machine.until(60_000);
        assert_eq!(machine.last().status, BeatStatus::Leaving);
        assert_eq!(machine.now, at(1_600));
    }

    #[test]
    fn a_goodbye_alone_finds_out_who_it_is_and_says_it() {
        let mut machine = of(Beat::goodbye(settings(1), "maintenance".to_owned(), at(0)), vec![Some(true)]);
        machine.until(60_000);
        assert_eq!(machine.status_writes(), [BeatStatus::Leaving]);
        assert_eq!(machine.last().why.as_deref(), Some("maintenance"));
        assert_eq!(machine.check_starts, []);

        let mut machine = of(Beat::goodbye(settings(1), "maintenance".to_owned(), at(0)), vec![]);
        machine.metadata = Err("connection refused".to_owned());
        machine.until(60_000);
        assert_eq!(machine.now, at(FAREWELL_MS));
        assert!(matches!(machine.beat.ending(), Some(Ending::GaveUp(why)) if why.contains("connection refused")));
    }

    #[test]
    fn once_is_once() {
        let mut machine = machine(Settings { once: true, ..settings(1) });
        machine.until(60_000);
        assert_eq!(machine.writes.len(), 1);
        assert!(matches!(machine.beat.ending(), Some(Ending::Written(_))));

        let mut failing = super::tests::machine(Settings { once: true, ..settings(1) });
        failing.ec2 = fault(Failure::Throttled, "RequestLimitExceeded");
        failing.until(60_000);
        assert_eq!(failing.writes.len(), 1);
        assert!(matches!(failing.beat.ending(), Some(Ending::GaveUp(_))));

        let mut silent = super::tests::machine(Settings { once: true, ..settings(1) });
        silent.checks[0] = None;
        silent.until(60_000);
        assert!(matches!(silent.beat.ending(), Some(Ending::GaveUp(why)) if why.contains("tcp:80 could not be asked")));
    }

    #[test]
    fn a_clock_that_is_wrong_changes_neither_pace_nor_order() {
        let mut machine = machine(settings(1));
        machine.wall_ahead = Duration::from_secs(3_600);
        machine.until(60_000);
        let before = machine.writes.len();
        assert_eq!(machine.last().at, machine.writes[before - 1].0.whole_second() + Duration::from_secs(3_600));
        // Somebody sets it right.
        machine.wall_ahead = Duration::ZERO;
        machine.until(120_000);
        assert!(machine.writes.len() - before >= 10);
        assert!(machine.writes.windows(2).all(|pair| pair[1].1.seq > pair[0].1.seq));
    }

    /// A million heartbeats, with everything going wrong now and then.
    fn a_million() -> Machine {
        let mut machine = machine(settings(2));
        machine.records = false;
        let run = |machine: &mut Machine, from: u64, to: u64| {
            for round in from..to {
                machine.checks[1] = Some(round % 100 != 7);
                machine.ec2 =
                    if round % 1000 < 20 { fault(Failure::Throttled, &format!("Code{}", round % 7)) } else { Ok(()) };
                machine.spot = if round % 500 == 3 { Err(format!("failed {round}")) } else { Ok(None) };
                machine.until(round * 5_500);
            }
        };
        run(&mut machine, 0, 10_000);
        let before = resident_bytes();
        run(&mut machine, 10_000, 1_100_000);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 1 << 20, "{grown} bytes");
        machine
    }

    fn resident_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Alone in its process, where nothing else takes memory: started by the test below.
    #[test]
    #[ignore = "run by a_million_heartbeats_take_no_memory"]
    fn a_million_heartbeats_alone() {
        let machine = a_million();
        assert!(machine.beat.number >= 1_000_000, "{} writes", machine.beat.number);
    }

    #[test]
    fn a_million_heartbeats_take_no_memory() {
        let name = "agent::beat::tests::a_million_heartbeats_alone";
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--test-threads=1"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
    }
}
