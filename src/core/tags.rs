//! The tags, read and written: the whole of the configuration, and all that is remembered.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{ClusterName, InstanceId, Scheme};
use super::policy::{duration, whole_u64};
use super::time::{Time, duration_text};

/// The longest tag value, in characters. Source: EC2 User Guide, "Tag your Amazon EC2 resources", restrictions.
const MAX_VALUE_CHARS: usize = 256;

/// The most words of a value that are read; no tag holds more, at two characters each.
const MAX_WORDS: usize = MAX_VALUE_CHARS / 2;

/// The most clusters of one node. Each may need a health tag of its own, and EC2 allows 50 tags a resource.
const MAX_CLUSTERS_PER_NODE: usize = 32;

/// The longest prefix of the tag keys, so that the longest key has EC2's 128 characters at most.
const MAX_PREFIX_CHARS: usize = 57;

/// The most characters of what somebody wrote that a problem repeats.
const MAX_QUOTED_CHARS: usize = 64;

/// The longest id that is written; EC2's instance ids have 19 characters.
const MAX_ID_CHARS: usize = 42;

/// The longest kind of leaving that is written; EC2's longest event code, `instance-retirement`, has 19 characters.
const MAX_KIND_CHARS: usize = 32;

/// The longest time between two heartbeats that is believed: the largest `deadtime`.
const MAX_EVERY: Duration = Duration::from_secs(3600);

/// The most that an agent's pause after failed writes is longer than its pace. It is never more than twice the pace, either.
pub const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// The longest pause of an agent that writes `every` so long, and whose writes fail.
pub fn longest_pause(every: Duration) -> Duration {
    every + every.min(MAX_BACKOFF)
}

/// How often an agent writes, where its heartbeat does not say.
const DEFAULT_EVERY: Duration = Duration::from_secs(5);

/// What a time looks like, for problems.
const NOT_A_TIME: &str = "is not a time such as 2026-11-22T09:00:00Z";

/// The same of `moves`.
const NOT_TIMES: &str = "holds something that is not a time such as 2026-11-22T09:00:00Z";

/// One question put to a node, beside `ec2`, which always applies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Check {
    /// `tcp:PORT`, `http:PORT/PATH`, `https:PORT/PATH`.
    Probe {
        /// What is asked.
        scheme: Scheme,
        /// The port.
        port: u16,
        /// With its leading `/`; empty for `tcp`, `/` where the tag has none.
        path: Arc<str>,
    },
    /// `heartbeat`.
    Heartbeat,
    /// `alarm:NAME`.
    Alarm(Arc<str>),
}

/// `eipwatch:mode` of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressMode {
    /// It moves by itself.
    #[default]
    Auto,
    /// Nothing moves by itself, until the time given if there is one.
    Manual {
        /// When it becomes `auto` again.
        until: Option<Time>,
    },
    /// It cannot be read: taken as `manual`, without an end.
    Unreadable,
}

/// `eipwatch:mode` of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeMode {
    /// It may hold addresses.
    #[default]
    Active,
    /// It loses its addresses as soon as a candidate can take them.
    Drain,
    /// What the tag says cannot be read: no candidate, but not evicted.
    Unreadable,
}

/// What checks add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It serves.
    Healthy,
    /// A probe began to fail. Never written to a tag.
    Suspect,
    /// It does not serve.
    Unhealthy,
    /// Not enough is known.
    Unknown,
    /// It is stopping, stopped or terminated, or says so.
    Gone,
}

/// `eipwatch:state` of an address: what the watcher last made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The node that held it.
    pub holder: InstanceId,
    /// Since when.
    pub since: Time,
    /// The node that held it before; `none` in the tag where nobody did.
    pub from: Option<InstanceId>,
    /// Why it moved: one of the contract's words, or `external`.
    pub why: String,
    /// When it moved by itself (or was moved by others), oldest first: what the brake counts. The tag keeps the last [`MAX_MOVES_KEPT`].
    pub moves: Vec<Time>,
}

/// How many moves the state tag remembers: the largest `max_moves`.
pub const MAX_MOVES_KEPT: usize = 5;

/// `eipwatch:health` of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Since when.
    pub since: Time,
    /// The failing evidence, in tag characters.
    pub why: Option<String>,
    /// What announced that the node will stop.
    pub leaving: Option<Leaving>,
    /// `undrain` was said then: what was announced before counts no more.
    pub undrained: Option<Undrained>,
}

/// An announcement that a node will stop: `leaving=KIND until=T noticed=T`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaving {
    /// `spot`, `asg`, `agent`, or the code of a scheduled event.
    pub kind: String,
    /// When it stops, or the maintenance ends, where that is known.
    pub until: Option<Time>,
    /// When it was announced: an instance launched later is another life.
    pub noticed: Time,
}

/// `undrained=T`, and `undrained-seq=N` where the node's agent had announced its leaving in heartbeat N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undrained {
    /// When `undrain` was said.
    pub at: Time,
    /// The heartbeat that was overruled.
    pub seq: Option<u64>,
}

/// What a node's agent says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeatStatus {
    /// All local checks pass.
    Ok,
    /// One of them fails.
    Fail,
    /// The machine is about to stop.
    Leaving,
}

/// `eipwatch:heartbeat` of a node, written by its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Advances with every write.
    pub seq: u64,
    /// The node's own clock: proves nothing.
    pub at: Time,
    /// What the agent says.
    pub status: BeatStatus,
    /// How often it means to write.
    pub every: Duration,
    /// Why, where it is not `ok`.
    pub why: Option<String>,
}

/// The prefix of all tag keys where none is configured.
pub const DEFAULT_PREFIX: &str = "eipwatch:";

/// The priority of a node whose tag does not say.
pub const DEFAULT_PRIORITY: u16 = 100;

/// The largest priority.
const MAX_PRIORITY: u16 = 1000;

/// The tag keys under one prefix, made once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What all of them begin with, the colon included if there is one.
    pub prefix: String,
    /// The cluster of an address, the clusters of a node.
    pub cluster: String,
    /// The checks of a cluster, or of a node.
    pub check: String,
    /// The policy, on an address.
    pub policy: String,
    /// The mode of an address, or of a node.
    pub mode: String,
    /// The instance that an address belongs on.
    pub prefer: String,
    /// A node's priority.
    pub priority: String,
    /// The private address of a node that is to carry the Elastic IP.
    pub address: String,
    /// What the watcher remembers of an address.
    pub state: String,
    /// What the watcher remembers of a node in one cluster; see [`Keys::health_of`].
    pub health: String,
    /// What a node's agent says.
    pub heartbeat: String,
}

impl Keys {
    /// The keys under a prefix that [`prefix`] accepts.
    pub fn new(prefix: &str) -> Keys {
        let key = |name: &str| format!("{prefix}{name}");
        Keys {
            prefix: prefix.to_owned(),
            cluster: key("cluster"),
            check: key("check"),
            policy: key("policy"),
            mode: key("mode"),
            prefer: key("prefer"),
            priority: key("priority"),
            address: key("address"),
            state: key("state"),
            health: key("health"),
            heartbeat: key("heartbeat"),
        }
    }

    /// The key of a node's health: with the cluster's name where the node is in several clusters, else (`None`) without.
    pub fn health_of(&self, cluster: Option<&ClusterName>) -> String {
        match cluster {
            Some(cluster) => format!("{}:{cluster}", self.health),
            None => self.health.clone(),
        }
    }

    /// Whether a key is one that people write, as opposed to what the software remembers.
    pub fn is_configuration(&self, key: &str) -> bool {
        [&self.cluster, &self.check, &self.policy, &self.mode, &self.prefer, &self.priority, &self.address]
            .into_iter()
            .any(|own| own == key)
    }
}

/// Reads `EIPWATCH_TAG_PREFIX`: 1 to 57 of the characters that tags may carry, taken as it stands.
///
/// # Errors
/// A fragment that names the prefix and what is wrong with it.
pub fn prefix(text: &str) -> Result<String, String> {
    let reserved = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
    match text.len() {
        0 => Err("'' is empty; a tag prefix has 1 to 57 characters".to_owned()),
        _ if reserved => Err(format!("{} begins with aws:, which AWS keeps for itself", quote(text))),
        _ if !text.chars().all(is_tag_char) => Err(format!("{} {}", quote(text), foreign(text))),
        length if length > MAX_PREFIX_CHARS => {
            Err(format!("{} is longer than {MAX_PREFIX_CHARS} characters", quote(text)))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Whether a tag can hold it: at most 256 letters (of ASCII), digits, spaces and `+ - = . _ : / @`.
pub fn fits(value: &str) -> bool {
    value.len() <= MAX_VALUE_CHARS && value.chars().all(is_tag_char)
}

/// Any text in the characters of a tag and without spaces, cut to `max` characters.
///
/// What a tag cannot hold becomes `_`, one for a whole run of it, none at the ends. What is plain already stays as it is.
pub fn plain(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut gap = false;
    for c in text.chars() {
        if !is_plain_char(c) {
            gap = !out.is_empty();
            continue;
        }
        if gap && c != '_' && !out.ends_with('_') {
            // A gap is only worth writing with something behind it.
            if out.len() + 2 > max {
                break;
            }
            out.push('_');
        }
        gap = false;
        if out.len() >= max {
            break;
        }
        out.push(c);
    }
    out
}

fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+-=._:/@".contains(c)
}

fn is_tag_char(c: char) -> bool {
    c == ' ' || is_plain_char(c)
}

/// What is wrong with a text that holds more than tags may carry.
fn foreign(text: &str) -> String {
    let found = text.chars().find(|c| !is_tag_char(*c)).map(|c| quote(c.encode_utf8(&mut [0; 4])));
    format!("holds {}; tags carry letters, digits and + - = . _ : / @", found.unwrap_or_default())
}

/// The words of a value.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().take(MAX_WORDS)
}

/// What somebody wrote, fit to be repeated in a sentence.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_QUOTED_CHARS) + 5);
    out.push('\'');
    for (index, c) in text.chars().enumerate() {
        if index == MAX_QUOTED_CHARS {
            out.push('…');
            break;
        }
        out.push(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    }
    out.push('\'');
    out
}

/// Adds what was written to the reason why it will not do.
fn named<T>(text: &str, read: Result<T, &'static str>) -> Result<T, String> {
    read.map_err(|reason| format!("{} {reason}", quote(text)))
}

fn read_time(text: &str) -> Result<Time, &'static str> {
    Time::parse(text).ok_or(NOT_A_TIME)
}

fn read_seq(text: &str) -> Result<u64, &'static str> {
    // The largest number is what a larger one is read as: no agent counts that far.
    whole_u64(text).filter(|number| *number < u64::MAX).ok_or("is not a whole number that fits 64 bits")
}

fn read_id(text: &str) -> Result<InstanceId, &'static str> {
    // EC2 writes 8 or 17 hexadecimal digits; emulators and scenarios are less strict.
    const MAX_DIGITS: usize = 40;
    let digits = text.strip_prefix("i-").unwrap_or_default();
    let good = (1..=MAX_DIGITS).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if good { Ok(InstanceId::from(text)) } else { Err("is not an instance id such as i-0123456789abcdef0") }
}

/// Reads one cluster name, without the spaces around it.
///
/// # Errors
/// A fragment that names it.
pub fn cluster_name(text: &str) -> Result<ClusterName, String> {
    const MAX_NAME_CHARS: usize = 64;
    let name = text.trim();
    let good = (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if good {
        Ok(ClusterName::from(name))
    } else {
        Err(format!("{} is not a cluster name of 1 to 64 letters, digits and . _ -", quote(name)))
    }
}

/// Reads a node's cluster names, separated by spaces: each once, in the order in which they stand.
///
/// What cannot be read, and what comes after the 32nd name, gives a problem (a fragment that names it) and is left out.
pub fn cluster_names(text: &str) -> (Vec<ClusterName>, Vec<String>) {
    let mut names = Vec::new();
    let mut problems = Vec::new();
    for word in words(text) {
        match cluster_name(word) {
            Ok(name) if names.contains(&name) => {}
            Ok(_) if names.len() == MAX_CLUSTERS_PER_NODE => {
                problems.push(format!("{} is beyond the {MAX_CLUSTERS_PER_NODE} clusters of a node", quote(word)));
                break;
            }
            Ok(name) => names.push(name),
            Err(problem) => problems.push(problem),
        }
    }
    (names, problems)
}

/// Reads a list of checks, separated by spaces: each once, in the order in which they stand. `ec2` adds nothing.
///
/// What cannot be read gives a problem (a fragment that names it) and is left out.
pub fn checks(text: &str) -> (Vec<Check>, Vec<String>) {
    let mut checks = Vec::new();
    let mut problems = Vec::new();
    for word in words(text).filter(|word| *word != "ec2") {
        match check(word) {
            Ok(check) if checks.contains(&check) => {}
            Ok(check) => checks.push(check),
            Err(problem) => problems.push(problem),
        }
    }
    (checks, problems)
}

fn check(word: &str) -> Result<Check, String> {
    if word == "heartbeat" {
        return Ok(Check::Heartbeat);
    }
    if !fits(word) {
        let reason = if word.chars().all(is_tag_char) { "is too long".to_owned() } else { foreign(word) };
        return Err(format!("{} {reason}", quote(word)));
    }
    let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
    let scheme = match kind {
        "tcp" => Scheme::Tcp,
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "alarm" if rest.is_empty() => return Err(format!("{} lacks the alarm's name", quote(word))),
        "alarm" => return Ok(Check::Alarm(Arc::from(rest))),
        _ => {
            return Err(format!(
                "{} is not a check such as tcp:5432, http:8080/health, https:443/, heartbeat or alarm:NAME",
                quote(word)
            ));
        }
    };
    let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = whole_u64(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let Some(port) = port else {
        return Err(format!("{} lacks a port from 1 to 65535 after '{kind}:'", quote(word)));
    };
    let path = match scheme {
        Scheme::Tcp if !path.is_empty() => {
            return Err(format!("{} has a path, which tcp cannot ask for; write tcp:{port}", quote(word)));
        }
        Scheme::Tcp => "",
        Scheme::Http | Scheme::Https if path.is_empty() => "/",
        Scheme::Http | Scheme::Https => path,
    };
    Ok(Check::Probe { scheme, port, path: Arc::from(path) })
}

impl fmt::Display for Check {
    /// As the tag writes it: `http:PORT/PATH`, the path `/` included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Probe { scheme, port, path } => write!(f, "{}:{port}{path}", scheme.as_str()),
            Check::Heartbeat => f.write_str("heartbeat"),
            Check::Alarm(name) => write!(f, "alarm:{name}"),
        }
    }
}

impl AddressMode {
    /// Reads `auto`, `manual` or `manual until=2026-11-22T09:00:00Z`.
    ///
    /// # Errors
    /// A fragment that names what cannot be read. The address is then [`AddressMode::Unreadable`].
    pub fn parse(text: &str) -> Result<AddressMode, String> {
        let mut words = words(text);
        let mode = words.next().unwrap_or_default();
        let more = words.next();
        if let Some(third) = words.next() {
            return Err(format!("{} is one word too many", quote(third)));
        }
        match (mode, more) {
            ("auto", None) => Ok(AddressMode::Auto),
            ("auto", Some(word)) => Err(format!("{} cannot follow auto", quote(word))),
            ("manual", None) => Ok(AddressMode::Manual { until: None }),
            ("manual", Some(word)) => match word.strip_prefix("until=") {
                Some(until) => Ok(AddressMode::Manual { until: Some(named(word, read_time(until))?.whole_second()) }),
                None => Err(format!("{} is not until=TIME", quote(word))),
            },
            _ => Err(format!("{} is neither auto nor manual", quote(mode))),
        }
    }

    /// When a pause ends, or has ended.
    #[must_use]
    pub fn until(self) -> Option<Time> {
        match self {
            AddressMode::Manual { until } => until,
            AddressMode::Auto | AddressMode::Unreadable => None,
        }
    }

    /// What it amounts to now: `manual` whose time has come is `auto`, and what cannot be read `manual`.
    #[must_use]
    pub fn in_force(self, now: Time) -> AddressMode {
        match self {
            AddressMode::Manual { until: Some(until) } if until <= now => AddressMode::Auto,
            AddressMode::Unreadable => AddressMode::Manual { until: None },
            mode => mode,
        }
    }
}

impl fmt::Display for AddressMode {
    /// As the tag writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressMode::Auto => f.write_str("auto"),
            AddressMode::Manual { until: None } | AddressMode::Unreadable => f.write_str("manual"),
            AddressMode::Manual { until: Some(until) } => write!(f, "manual until={until}"),
        }
    }
}

impl NodeMode {
    /// Reads `active` or `drain`.
    ///
    /// # Errors
    /// A fragment that names what cannot be read. The node is then to be taken as [`NodeMode::Unreadable`].
    pub fn parse(text: &str) -> Result<NodeMode, String> {
        match text.trim() {
            "active" => Ok(NodeMode::Active),
            "drain" => Ok(NodeMode::Drain),
            other => Err(format!("{} is neither active nor drain", quote(other))),
        }
    }

    /// As the tag writes it; `unreadable` is never written.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeMode::Active => "active",
            NodeMode::Drain => "drain",
            NodeMode::Unreadable => "unreadable",
        }
    }
}

/// Reads a node's priority, 0 to 1000; higher is preferred.
///
/// # Errors
/// A fragment that names it. The node then has [`DEFAULT_PRIORITY`].
pub fn priority(text: &str) -> Result<u16, String> {
    let text = text.trim();
    let read = match whole_u64(text) {
        None => Err("is not a whole number"),
        Some(number) => u16::try_from(number).ok().filter(|number| *number <= MAX_PRIORITY).ok_or("is above 1000"),
    };
    named(text, read)
}

/// Reads the private IPv4 address that is to carry the Elastic IP.
///
/// # Errors
/// A fragment that names it.
pub fn private_address(text: &str) -> Result<Ipv4Addr, String> {
    let text = text.trim();
    named(text, text.parse().map_err(|_| "is not an IPv4 address"))
}

/// Reads the instance that an address belongs on.
///
/// # Errors
/// A fragment that names it.
pub fn prefer(text: &str) -> Result<InstanceId, String> {
    instance_id(text)
}

/// Reads an instance id, without the spaces around it: `i-` and lower-case letters or digits.
///
/// # Errors
/// A fragment that names it.
pub fn instance_id(text: &str) -> Result<InstanceId, String> {
    let text = text.trim();
    named(text, read_id(text))
}

impl Verdict {
    /// As tags and answers write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Suspect => "suspect",
            Verdict::Unhealthy => "unhealthy",
            Verdict::Unknown => "unknown",
            Verdict::Gone => "gone",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// A fragment that names it.
    pub fn parse(text: &str) -> Result<Verdict, String> {
        let text = text.trim();
        named(text, Verdict::read(text))
    }

    fn read(text: &str) -> Result<Verdict, &'static str> {
        match text {
            "healthy" => Ok(Verdict::Healthy),
            "suspect" => Ok(Verdict::Suspect),
            "unhealthy" => Ok(Verdict::Unhealthy),
            "unknown" => Ok(Verdict::Unknown),
            "gone" => Ok(Verdict::Gone),
            _ => Err("is none of healthy, suspect, unhealthy, unknown, gone"),
        }
    }
}

/// A value made of `key=value` pairs, in whatever order; keys that are not asked for are let be.
struct Pairs<'a>(Vec<Pair<'a>>);

struct Pair<'a> {
    whole: &'a str,
    key: &'a str,
    value: &'a str,
}

impl<'a> Pairs<'a> {
    /// Accepts nothing but pairs.
    fn of(text: &'a str) -> Result<Pairs<'a>, String> {
        let pair = |whole: &'a str| match whole.split_once('=') {
            Some((key, value)) => Ok(Pair { whole, key, value }),
            None => Err(format!("{} is not key=value", quote(whole))),
        };
        words(text).map(pair).collect::<Result<_, _>>().map(Pairs)
    }

    /// The value of a key, if it is there.
    fn get<T>(&self, key: &str, read: impl FnOnce(&'a str) -> Result<T, &'static str>) -> Result<Option<T>, String> {
        let mut found = self.0.iter().filter(|pair| pair.key == key);
        let Some(pair) = found.next() else { return Ok(None) };
        match found.next() {
            Some(second) => Err(format!("{} comes a second time", quote(second.whole))),
            None => named(pair.whole, read(pair.value)).map(Some),
        }
    }

    /// The value of a key that must be there.
    fn need<T>(&self, key: &str, read: impl FnOnce(&'a str) -> Result<T, &'static str>) -> Result<T, String> {
        self.get(key, read)?.ok_or_else(|| format!("'{key}=' is missing"))
    }

    /// A reason, `None` where there is none.
    fn why(&self) -> Result<Option<String>, String> {
        let why = self.get("why", |value| Ok(value.to_owned()))?;
        Ok(why.filter(|why| !why.is_empty()))
    }
}

/// Writes `head`, then as much of the reason as a tag has room for, then `tail`.
fn write_with_why(f: &mut fmt::Formatter<'_>, head: &str, why: Option<&str>, tail: &str) -> fmt::Result {
    const BEFORE: &str = " why=";
    f.write_str(head)?;
    if let Some(why) = why {
        let room = MAX_VALUE_CHARS.saturating_sub(head.len() + BEFORE.len() + tail.len());
        let why = plain(why, room);
        if !why.is_empty() {
            write!(f, "{BEFORE}{why}")?;
        }
    }
    f.write_str(tail)
}

impl State {
    /// Reads the value, whatever the order of its pairs; keys that this version does not know are let be.
    ///
    /// `holder` and `since` must be there. Of `moves` the last [`MAX_MOVES_KEPT`] count.
    ///
    /// # Errors
    /// A fragment that names the pair that cannot be read, or is missing.
    pub fn parse(text: &str) -> Result<State, String> {
        let pairs = Pairs::of(text)?;
        Ok(State {
            holder: pairs.need("holder", read_id)?,
            since: pairs.need("since", read_time)?,
            from: pairs.get("from", |id| if id == "none" { Ok(None) } else { read_id(id).map(Some) })?.flatten(),
            why: pairs.why()?.unwrap_or_default(),
            moves: pairs.get("moves", read_moves)?.unwrap_or_default(),
        })
    }
}

fn read_moves(text: &str) -> Result<Vec<Time>, &'static str> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut moves =
        text.rsplit('/').take(MAX_MOVES_KEPT).map(Time::parse).collect::<Option<Vec<_>>>().ok_or(NOT_TIMES)?;
    // Somebody may have edited it.
    moves.sort_unstable();
    Ok(moves)
}

impl fmt::Display for State {
    /// As the tag writes it: `holder=i-… since=… from=i-… why=… moves=T/T/T`, the last [`MAX_MOVES_KEPT`] moves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: &InstanceId| plain(id.as_str(), MAX_ID_CHARS);
        let from = self.from.as_ref().map_or_else(|| "none".to_owned(), id);
        let head = format!("holder={} since={} from={from}", id(&self.holder), self.since);
        let mut tail = " moves=".to_owned();
        for (index, time) in self.moves.iter().rev().take(MAX_MOVES_KEPT).rev().enumerate() {
            if index > 0 {
                tail.push('/');
            }
            tail.push_str(&time.to_string());
        }
        write_with_why(f, &head, Some(&self.why), &tail)
    }
}

/// The kind of what a node's agent announces.
pub const AGENT: &str = "agent";
/// Announcements that only the health tag remembers: agents and EC2 repeat theirs.
const NOTICES: [&str; 2] = ["spot", "asg"];

impl Health {
    /// The announcement in it, if nobody else repeats that.
    pub fn notice(&self) -> Option<&Leaving> {
        self.leaving.as_ref().filter(|leaving| NOTICES.contains(&leaving.kind.as_str()))
    }

    /// Reads the value, whatever the order of its pairs; keys that this version does not know are let be.
    ///
    /// `verdict` and `since` must be there. Where a leaving lacks `noticed`, it was noticed `since`.
    ///
    /// # Errors
    /// A fragment that names the pair that cannot be read, or is missing. `suspect` is never written, so it is one.
    pub fn parse(text: &str) -> Result<Health, String> {
        let pairs = Pairs::of(text)?;
        let verdict = pairs.need("verdict", |word| match Verdict::read(word) {
            Ok(Verdict::Suspect) | Err(_) => Err("is none of healthy, unhealthy, unknown, gone"),
            verdict => verdict,
        })?;
        let since = pairs.need("since", read_time)?;
        let kind = pairs.get("leaving", |kind| if kind.is_empty() { Err("is empty") } else { Ok(kind.to_owned()) })?;
        let until = pairs.get("until", read_time)?;
        let noticed = pairs.get("noticed", read_time)?;
        let undrained = pairs.get("undrained", read_time)?;
        let seq = pairs.get("undrained-seq", read_seq)?;
        Ok(Health {
            verdict,
            since,
            why: pairs.why()?,
            leaving: kind.map(|kind| Leaving { kind, until, noticed: noticed.unwrap_or(since) }),
            undrained: undrained.map(|at| Undrained { at, seq }),
        })
    }
}

impl fmt::Display for Health {
    /// As the tag writes it: `verdict=… since=…`, then `why=…`, `leaving=… until=… noticed=…`,
    /// `undrained=… undrained-seq=…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let head = format!("verdict={} since={}", self.verdict.as_str(), self.since);
        let mut tail = String::new();
        if let Some(Leaving { kind, until, noticed }) = &self.leaving {
            let kind = plain(kind, MAX_KIND_CHARS);
            write!(tail, " leaving={}", if kind.is_empty() { "unknown" } else { &kind })?;
            if let Some(until) = until {
                write!(tail, " until={until}")?;
            }
            write!(tail, " noticed={noticed}")?;
        }
        if let Some(Undrained { at, seq }) = &self.undrained {
            write!(tail, " undrained={at}")?;
            if let Some(seq) = seq {
                write!(tail, " undrained-seq={seq}")?;
            }
        }
        write_with_why(f, &head, self.why.as_deref(), &tail)
    }
}

impl BeatStatus {
    fn as_str(self) -> &'static str {
        match self {
            BeatStatus::Ok => "ok",
            BeatStatus::Fail => "fail",
            BeatStatus::Leaving => "leaving",
        }
    }
}

impl Heartbeat {
    /// Reads the value, whatever the order of its pairs; keys that this version does not know are let be.
    ///
    /// `seq`, `at` and `status` must be there; without `every` it is 5 seconds. An `every` above one hour, the largest
    /// `deadtime`, is an error: the wait for a second look would never end.
    ///
    /// # Errors
    /// A fragment that names the pair that cannot be read, or is missing.
    pub fn parse(text: &str) -> Result<Heartbeat, String> {
        let pairs = Pairs::of(text)?;
        Ok(Heartbeat {
            seq: pairs.need("seq", read_seq)?,
            at: pairs.need("at", read_time)?,
            status: pairs.need("status", |word| match word {
                "ok" => Ok(BeatStatus::Ok),
                "fail" => Ok(BeatStatus::Fail),
                "leaving" => Ok(BeatStatus::Leaving),
                _ => Err("is none of ok, fail, leaving"),
            })?,
            every: pairs.get("every", read_every)?.unwrap_or(DEFAULT_EVERY),
            why: pairs.why()?,
        })
    }
}

fn read_every(text: &str) -> Result<Duration, &'static str> {
    match duration(text) {
        None => Err("is not a duration such as 5s"),
        Some(every) if every > MAX_EVERY => Err("is above 1h"),
        Some(every) => Ok(every),
    }
}

impl fmt::Display for Heartbeat {
    /// As the tag writes it: `seq=… at=… status=… every=5s`, then `why=…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, every) = (self.status.as_str(), duration_text(self.every));
        let head = format!("seq={} at={} status={status} every={every}", self.seq, self.at);
        write_with_why(f, &head, self.why.as_deref(), "")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    fn id(text: &str) -> InstanceId {
        InstanceId::from(text)
    }

    fn probe(scheme: Scheme, port: u16, path: &str) -> Check {
        Check::Probe { scheme, port, path: path.into() }
    }

    #[test]
    fn keys_stand_under_their_prefix() {
        let keys = Keys::new(DEFAULT_PREFIX);
        assert_eq!(keys.cluster, "eipwatch:cluster");
        assert_eq!(keys.heartbeat, "eipwatch:heartbeat");
        assert_eq!(keys.health_of(None), "eipwatch:health");
        assert_eq!(keys.health_of(Some(&"web".into())), "eipwatch:health:web");
        assert_eq!(Keys::new("ha-").mode, "ha-mode");
    }

    #[test]
    fn what_the_software_writes_is_no_configuration() {
        let keys = Keys::new(DEFAULT_PREFIX);
        for name in ["cluster", "check", "policy", "mode", "prefer", "priority", "address"] {
            assert!(keys.is_configuration(&format!("eipwatch:{name}")), "{name}");
        }
        for key in
            ["eipwatch:state", "eipwatch:health", "eipwatch:health:web", "eipwatch:heartbeat", "mode", "Name", ""]
        {
            assert!(!keys.is_configuration(key), "{key}");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefix("eipwatch:").as_deref(), Ok("eipwatch:"));
        assert_eq!(prefix("team/ha").as_deref(), Ok("team/ha"));
        let longest = "p".repeat(57);
        assert_eq!(prefix(&longest), Ok(longest.clone()));
        assert_eq!(prefix("").unwrap_err(), "'' is empty; a tag prefix has 1 to 57 characters");
        assert_eq!(prefix(&format!("{longest}p")).unwrap_err(), format!("'{longest}p' is longer than 57 characters"));
        assert_eq!(prefix("aws:x").unwrap_err(), "'aws:x' begins with aws:, which AWS keeps for itself");
        assert!(prefix("AWS:x").is_err());
        assert_eq!(prefix("a*").unwrap_err(), "'a*' holds '*'; tags carry letters, digits and + - = . _ : / @");
        // The longest key of all is as long as EC2 allows.
        let cluster = cluster_name(&"c".repeat(64)).unwrap();
        assert_eq!(Keys::new(&longest).health_of(Some(&cluster)).len(), 128);
    }

    #[test]
    fn cluster_names_once_and_in_order() {
        let (names, problems) = cluster_names(" web  db web a/b Db-1._ ");
        assert_eq!(names, [ClusterName::from("web"), "db".into(), "Db-1._".into()]);
        assert_eq!(problems, ["'a/b' is not a cluster name of 1 to 64 letters, digits and . _ -"]);
        assert_eq!(cluster_names(""), (vec![], vec![]));
        assert_eq!(cluster_name(" web ").unwrap().as_str(), "web");
        assert!(cluster_name("web db").is_err() && cluster_name("").is_err() && cluster_name("b\u{fc}cher").is_err());
        assert!(cluster_name(&"c".repeat(64)).is_ok() && cluster_name(&"c".repeat(65)).is_err());
    }

    #[test]
    fn a_node_is_in_32_clusters_at_most() {
        let text: Vec<_> = (0..40).map(|index| format!("c{index}")).collect();
        let (names, problems) = cluster_names(&text.join(" "));
        assert_eq!(names.len(), 32);
        assert_eq!(problems, ["'c32' is beyond the 32 clusters of a node"]);
    }

    #[test]
    fn all_kinds_of_checks() {
        let (read, problems) = checks(
            "ec2 tcp:5432 http:8080/health https:443 http:80/ heartbeat alarm:web-cpu:high http:80 ec2 tcp:65535",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            read,
            [
                probe(Scheme::Tcp, 5432, ""),
                probe(Scheme::Http, 8080, "/health"),
                probe(Scheme::Https, 443, "/"),
                probe(Scheme::Http, 80, "/"),
                Check::Heartbeat,
                Check::Alarm("web-cpu:high".into()),
                probe(Scheme::Tcp, 65535, ""),
            ]
        );
        let written: Vec<_> = read.iter().map(Check::to_string).collect();
        assert_eq!(
            written.join(" "),
            "tcp:5432 http:8080/health https:443/ http:80/ heartbeat alarm:web-cpu:high tcp:65535"
        );
        assert_eq!(checks("ec2"), (vec![], vec![]));
        assert_eq!(checks(""), (vec![], vec![]));
    }

    #[test]
    fn of_checks_the_readable_ones_apply() {
        let (read, problems) = checks("tcp:0 heartbeat htp:80");
        assert_eq!(read, [Check::Heartbeat]);
        assert_eq!(
            problems,
            [
                "'tcp:0' lacks a port from 1 to 65535 after 'tcp:'",
                "'htp:80' is not a check such as tcp:5432, http:8080/health, https:443/, heartbeat or alarm:NAME",
            ]
        );
        for (text, reason) in [
            ("tcp:65536", "lacks a port"),
            ("tcp", "lacks a port"),
            ("tcp:+80", "lacks a port"),
            ("http:/health", "lacks a port"),
            ("http:80health", "lacks a port"),
            ("http://10.0.0.1/", "lacks a port"),
            ("tcp:80/", "has a path, which tcp cannot ask for; write tcp:80"),
            ("alarm:", "lacks the alarm's name"),
            ("alarm", "lacks the alarm's name"),
            ("alarm:cpu(high)", "holds '('; tags carry"),
            ("http:80/a?b", "holds '?'; tags carry"),
            ("http:80/a\u{1}b", "holds '\u{fffd}'; tags carry"),
            ("http:80/\u{e4}", "holds '\u{e4}'; tags carry"),
            ("heartbeat:5", "is not a check"),
            ("HTTP:80", "is not a check"),
            (&format!("http:80/{}", "a".repeat(249)), "is too long"),
        ] {
            let (read, problems) = checks(text);
            assert!(read.is_empty(), "{text}");
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(reason), "{text}: {problems:?}");
        }
    }

    #[test]
    fn modes_of_an_address() {
        let until = time("2026-11-22T09:00:00Z");
        let paused = AddressMode::Manual { until: Some(until) };
        assert_eq!(
            AddressMode::parse("manual until=2026-11-22T09:00:00.9Z"),
            Ok(paused),
            "to the second, as it is written"
        );
        for (text, mode) in [
            ("auto", AddressMode::Auto),
            ("manual", AddressMode::Manual { until: None }),
            ("manual until=2026-11-22T09:00:00Z", paused),
        ] {
            assert_eq!(AddressMode::parse(text), Ok(mode));
            assert_eq!(mode.to_string(), text);
        }
        assert_eq!(AddressMode::parse("  manual   "), Ok(AddressMode::Manual { until: None }));
        for (text, problem) in [
            ("", "'' is neither auto nor manual"),
            ("manul", "'manul' is neither auto nor manual"),
            ("Auto", "'Auto' is neither auto nor manual"),
            ("auto until=2026-11-22T09:00:00Z", "'until=2026-11-22T09:00:00Z' cannot follow auto"),
            ("manual until=noon", "'until=noon' is not a time such as 2026-11-22T09:00:00Z"),
            (
                "manual until=2026-02-30T09:00:00Z",
                "'until=2026-02-30T09:00:00Z' is not a time such as 2026-11-22T09:00:00Z",
            ),
            ("manual for=2h", "'for=2h' is not until=TIME"),
            ("manual until=2026-11-22 09:00", "'09:00' is one word too many"),
        ] {
            assert_eq!(AddressMode::parse(text).unwrap_err(), problem);
        }
    }

    #[test]
    fn a_pause_ends_when_its_time_has_come() {
        let until = time("2026-11-22T09:00:00Z");
        let paused = AddressMode::Manual { until: Some(until) };
        assert_eq!(paused.in_force(until - Duration::from_millis(1)), paused);
        assert_eq!(paused.in_force(until), AddressMode::Auto);
        let manual = AddressMode::Manual { until: None };
        assert_eq!(manual.in_force(Time::from_millis(u64::MAX)), manual);
        assert_eq!(AddressMode::Auto.in_force(until), AddressMode::Auto);
    }

    #[test]
    fn modes_of_a_node() {
        for mode in [NodeMode::Active, NodeMode::Drain] {
            assert_eq!(NodeMode::parse(mode.as_str()), Ok(mode));
        }
        assert_eq!(NodeMode::parse(" drain "), Ok(NodeMode::Drain));
        assert_eq!(NodeMode::parse("drian").unwrap_err(), "'drian' is neither active nor drain");
        assert!(NodeMode::parse("unreadable").is_err() && NodeMode::parse("").is_err());
    }

    #[test]
    fn single_values_of_a_node() {
        assert_eq!(priority("0"), Ok(0));
        assert_eq!(priority(" 1000 "), Ok(1000));
        assert_eq!(priority("1001").unwrap_err(), "'1001' is above 1000");
        assert_eq!(priority("99999999999999999999").unwrap_err(), "'99999999999999999999' is above 1000");
        for text in ["", "-1", "+1", "1.5", "high"] {
            assert_eq!(priority(text).unwrap_err(), format!("'{text}' is not a whole number"));
        }
        assert_eq!(private_address(" 10.0.1.20 "), Ok(Ipv4Addr::new(10, 0, 1, 20)));
        assert_eq!(private_address("10.0.1").unwrap_err(), "'10.0.1' is not an IPv4 address");
        assert!(private_address("fd00::1").is_err());
        assert_eq!(instance_id(" i-0123456789abcdef0 "), Ok(id("i-0123456789abcdef0")));
        assert_eq!(prefer("i-1"), Ok(id("i-1")));
        let longest = format!("i-{}", "a".repeat(40));
        assert_eq!(instance_id(&longest), Ok(id(&longest)));
        for text in ["", "i-", "i-0A", "i-0 1", "eni-1", "web-1", "i-\u{e4}", &format!("{longest}a")] {
            assert_eq!(
                instance_id(text).unwrap_err(),
                format!("'{text}' is not an instance id such as i-0123456789abcdef0")
            );
        }
    }

    #[test]
    fn verdicts() {
        use Verdict::*;
        for verdict in [Healthy, Suspect, Unhealthy, Unknown, Gone] {
            assert_eq!(Verdict::parse(verdict.as_str()), Ok(verdict));
        }
        assert_eq!(Verdict::parse("ill").unwrap_err(), "'ill' is none of healthy, suspect, unhealthy, unknown, gone");
    }

    const STATE: &str = "holder=i-0a since=2026-11-22T07:30:00Z from=i-0b why=holder-unhealthy \
                         moves=2026-11-22T07:20:00Z/2026-11-22T07:30:00Z";

    #[test]
    fn a_state_is_read_and_written() {
        let state = State {
            holder: id("i-0a"),
            since: time("2026-11-22T07:30:00Z"),
            from: Some(id("i-0b")),
            why: "holder-unhealthy".to_owned(),
            moves: vec![time("2026-11-22T07:20:00Z"), time("2026-11-22T07:30:00Z")],
        };
        assert_eq!(State::parse(STATE), Ok(state.clone()));
        assert_eq!(state.to_string(), STATE);
        let backwards: Vec<_> = STATE.split(' ').rev().chain(["later=addition"]).collect();
        assert_eq!(State::parse(&backwards.join("  ")), Ok(state.clone()));

        let first = State { from: None, moves: vec![], why: "external".to_owned(), ..state };
        let text = "holder=i-0a since=2026-11-22T07:30:00Z from=none why=external moves=";
        assert_eq!(first.to_string(), text);
        assert_eq!(State::parse(text), Ok(first.clone()));
        assert_eq!(State::parse("holder=i-0a since=2026-11-22T07:30:00Z why=external"), Ok(first));
    }

    #[test]
    fn a_state_keeps_the_last_five_moves_in_order() {
        let times: Vec<_> = (1..=7).map(|minute| time(&format!("2026-11-22T07:0{minute}:00Z"))).collect();
        let mut state = State::parse(STATE).unwrap();
        state.moves = times.clone();
        assert_eq!(State::parse(&state.to_string()).unwrap().moves, times[2..]);
        let edited = "holder=i-0a since=2026-11-22T07:30:00Z moves=2026-11-22T07:30:00Z/2026-11-22T07:20:00Z";
        assert!(State::parse(edited).unwrap().moves.is_sorted());
    }

    #[test]
    fn a_state_that_cannot_be_read_says_where() {
        for (text, problem) in [
            ("", "'holder=' is missing"),
            ("holder=i-0a", "'since=' is missing"),
            ("since=2026-11-22T07:30:00Z", "'holder=' is missing"),
            ("hello", "'hello' is not key=value"),
            ("holder=web-1", "'holder=web-1' is not an instance id such as i-0123456789abcdef0"),
            ("holder=i-0a since=now", "'since=now' is not a time such as 2026-11-22T09:00:00Z"),
            ("holder=i-0a holder=i-0b since=2026-11-22T07:30:00Z", "'holder=i-0b' comes a second time"),
            (
                "holder=i-0a since=2026-11-22T07:30:00Z from=nobody",
                "'from=nobody' is not an instance id such as i-0123456789abcdef0",
            ),
            (
                "holder=i-0a since=2026-11-22T07:30:00Z moves=2026-11-22T07:30:00Z/",
                "'moves=2026-11-22T07:30:00Z/' holds something that is not a time such as 2026-11-22T09:00:00Z",
            ),
        ] {
            assert_eq!(State::parse(text).unwrap_err(), problem);
        }
    }

    #[test]
    fn a_health_is_read_and_written() {
        let (t1, t2, t3) = (time("2026-11-22T07:30:00Z"), time("2026-11-22T07:32:00Z"), time("2026-11-22T07:29:00Z"));
        let plain = Health { verdict: Verdict::Healthy, since: t1, why: None, leaving: None, undrained: None };
        let full = Health {
            verdict: Verdict::Unhealthy,
            why: Some("http:8080/health:_503".to_owned()),
            leaving: Some(Leaving { kind: "spot".to_owned(), until: Some(t2), noticed: t3 }),
            undrained: Some(Undrained { at: t2, seq: Some(7) }),
            ..plain.clone()
        };
        for (health, text) in [
            (&plain, "verdict=healthy since=2026-11-22T07:30:00Z"),
            (
                &full,
                "verdict=unhealthy since=2026-11-22T07:30:00Z why=http:8080/health:_503 leaving=spot \
                 until=2026-11-22T07:32:00Z noticed=2026-11-22T07:29:00Z undrained=2026-11-22T07:32:00Z undrained-seq=7",
            ),
        ] {
            assert_eq!(&health.to_string(), text);
            assert_eq!(Health::parse(text).as_ref(), Ok(health));
            let backwards: Vec<_> = text.split(' ').rev().chain(["later=addition"]).collect();
            assert_eq!(Health::parse(&backwards.join(" ")).as_ref(), Ok(health));
        }
        let edited = Health::parse("verdict=gone since=2026-11-22T07:30:00Z leaving=asg").unwrap();
        assert_eq!(edited.leaving, Some(Leaving { kind: "asg".to_owned(), until: None, noticed: t1 }));
    }

    #[test]
    fn a_health_that_cannot_be_read_says_where() {
        let since = "since=2026-11-22T07:30:00Z";
        for (text, problem) in [
            (since.to_owned(), "'verdict=' is missing"),
            ("verdict=healthy".to_owned(), "'since=' is missing"),
            (format!("verdict=suspect {since}"), "'verdict=suspect' is none of healthy, unhealthy, unknown, gone"),
            (format!("verdict=gone {since} leaving="), "'leaving=' is empty"),
            (
                format!("verdict=gone {since} leaving=spot until=soon"),
                "'until=soon' is not a time such as 2026-11-22T09:00:00Z",
            ),
            (
                format!("verdict=gone {since} undrained={} undrained-seq=x", &since[6..]),
                "'undrained-seq=x' is not a whole number that fits 64 bits",
            ),
        ] {
            assert_eq!(Health::parse(&text).unwrap_err(), problem);
        }
    }

    #[test]
    fn a_heartbeat_is_read_and_written() {
        let beat = Heartbeat {
            seq: 42,
            at: time("2026-11-22T07:30:00Z"),
            status: BeatStatus::Fail,
            every: Duration::from_secs(5),
            why: Some("unit:nginx.service_inactive".to_owned()),
        };
        let text = "seq=42 at=2026-11-22T07:30:00Z status=fail every=5s why=unit:nginx.service_inactive";
        assert_eq!(beat.to_string(), text);
        assert_eq!(Heartbeat::parse(text), Ok(beat));
        let short = Heartbeat::parse("status=ok seq=1 at=2026-11-22T07:30:00Z").unwrap();
        assert_eq!((short.every, short.why, short.status), (Duration::from_secs(5), None, BeatStatus::Ok));
    }

    #[test]
    fn a_heartbeat_that_cannot_be_read_says_where() {
        let rest = "at=2026-11-22T07:30:00Z status=ok";
        for (text, problem) in [
            (rest.to_owned(), "'seq=' is missing"),
            ("seq=1 status=ok".to_owned(), "'at=' is missing"),
            ("seq=1 at=2026-11-22T07:30:00Z".to_owned(), "'status=' is missing"),
            (format!("seq=-1 {rest}"), "'seq=-1' is not a whole number that fits 64 bits"),
            (
                format!("seq=18446744073709551616 {rest}"),
                "'seq=18446744073709551616' is not a whole number that fits 64 bits",
            ),
            (format!("seq=1 {rest} every=5"), "'every=5' is not a duration such as 5s"),
            (format!("seq=1 {rest} every=61m"), "'every=61m' is above 1h"),
            ("seq=1 at=2026-11-22T07:30:00Z status=fine".to_owned(), "'status=fine' is none of ok, fail, leaving"),
        ] {
            assert_eq!(Heartbeat::parse(&text).unwrap_err(), problem);
        }
    }

    #[test]
    fn plain_text() {
        for (text, max, expected) in [
            ("connection refused (os error 111)", 80, "connection_refused_os_error_111"),
            ("http:8080/health: 503 in 3 ms", 80, "http:8080/health:_503_in_3_ms"),
            ("already_plain--a__b", 80, "already_plain--a__b"),
            (" a _ b ", 80, "a_b"),
            ("\u{1f4a5}", 80, ""),
            ("abc def", 5, "abc_d"),
            ("abc def", 4, "abc"),
            ("abc", 0, ""),
        ] {
            assert_eq!(plain(text, max), expected, "{text}");
        }
    }

    #[test]
    fn what_fits_a_tag() {
        assert!(fits("") && fits("Az09 +-=._:/@") && fits(&"a".repeat(256)));
        assert!(!fits(&"a".repeat(257)));
        for text in ["a,b", "a*b", "(a)", "a\tb", "a\nb", "\u{e4}", "\u{661}", "a;b", "'"] {
            assert!(!fits(text), "{text}");
        }
    }

    #[test]
    fn problems_repeat_only_what_can_be_read() {
        let problem = NodeMode::parse(&format!("a\n{}", "b".repeat(300))).unwrap_err();
        assert_eq!(problem, format!("'a\u{fffd}{}…' is neither active nor drain", "b".repeat(62)));
    }

    fn second() -> impl Strategy<Value = Time> {
        (0..=u64::from(u32::MAX) * 50).prop_map(|s| Time::from_millis(s * 1000))
    }

    fn good_id() -> impl Strategy<Value = InstanceId> {
        prop_oneof!["i-[0-9a-f]{17}", "i-[0-9a-z]{1,40}"].prop_map(InstanceId::from)
    }

    fn good_why() -> impl Strategy<Value = String> {
        "[a-z][a-z0-9:/._=@+-]{0,15}"
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop::sample::select(vec![Verdict::Healthy, Verdict::Unhealthy, Verdict::Unknown, Verdict::Gone])
    }

    fn status() -> impl Strategy<Value = BeatStatus> {
        prop::sample::select(vec![BeatStatus::Ok, BeatStatus::Fail, BeatStatus::Leaving])
    }

    fn good_state() -> impl Strategy<Value = State> {
        let moves = prop::collection::vec(second(), 0..=MAX_MOVES_KEPT);
        (good_id(), second(), prop::option::of(good_id()), good_why(), moves).prop_map(
            |(holder, since, from, why, mut moves)| {
                moves.sort();
                State { holder, since, from, why, moves }
            },
        )
    }

    fn good_health() -> impl Strategy<Value = Health> {
        let leaving = ("[a-z-]{1,32}", prop::option::of(second()), second());
        let leaving = leaving.prop_map(|(kind, until, noticed)| Leaving { kind, until, noticed });
        let undrained = (second(), prop::option::of(0..u64::MAX)).prop_map(|(at, seq)| Undrained { at, seq });
        (verdict(), second(), prop::option::of(good_why()), prop::option::of(leaving), prop::option::of(undrained))
            .prop_map(|(verdict, since, why, leaving, undrained)| Health { verdict, since, why, leaving, undrained })
    }

    /// Words that come near to what is read, and anything at all.
    fn any_text() -> impl Strategy<Value = String> {
        let words = "((holder|since|from|why|moves|verdict|leaving|until|noticed|undrained|undrained-seq|seq|at|status|\
                     every)=(i-0a|2026-11-22T07:30:00Z|healthy|suspect|ok|5s|7|/|\\PC)? ?){0,12}";
        let checks = "((tcp|http|https|alarm|ec2|heartbeat|manual|auto)[: ]?[0-9]{0,6}/?[a-z?\u{e4} ]{0,3} ?){0,9}";
        prop_oneof![".*", "(\\PC|[ \t\n\u{0}-\u{1f}]){0,300}", words, checks]
    }

    proptest! {
        #[test]
        fn states_round_trip(state in good_state()) {
            let text = state.to_string();
            prop_assert!(fits(&text));
            prop_assert_eq!(State::parse(&text), Ok(state));
        }

        #[test]
        fn healths_round_trip(health in good_health()) {
            let text = health.to_string();
            prop_assert!(fits(&text));
            prop_assert_eq!(Health::parse(&text), Ok(health));
        }

        #[test]
        fn heartbeats_round_trip(
            seq in 0..u64::MAX,
            at in second(),
            status in status(),
            every_ms in 0..=3_600_000u64,
            why in prop::option::of(good_why()),
        ) {
            let beat = Heartbeat { seq, at, status, every: Duration::from_millis(every_ms), why };
            prop_assert_eq!(Heartbeat::parse(&beat.to_string()), Ok(beat));
        }

        #[test]
        fn modes_round_trip(until in second()) {
            let mode = AddressMode::Manual { until: Some(until) };
            prop_assert_eq!(AddressMode::parse(&mode.to_string()), Ok(mode));
        }

        /// Whatever is inside, every pair that must be there is there, and can be read again.
        #[test]
        fn what_is_written_fits_a_tag_and_can_be_read(
            holder in good_id(), from in prop_oneof![good_id(), any::<String>().prop_map(InstanceId::from)],
            at in any::<u64>().prop_map(Time::from_millis),
            moves in prop::collection::vec(any::<u64>().prop_map(Time::from_millis), 0..9),
            why in prop_oneof!["\\PC{0,400}", "[a-z]{0,400}"], kind in prop_oneof![".{0,80}", "[a-z]{0,400}"],
            seq in any::<u64>(), verdict in verdict(), status in status(), every in any::<Duration>(),
        ) {
            let given = Some(holder.clone());
            let state = State { holder: holder.clone(), since: at, from: given, why: why.clone(), moves };
            let text = state.to_string();
            prop_assert!(fits(&text), "{}", text);
            let read = State::parse(&text);
            prop_assert_eq!(read.map(|read| (read.holder, read.moves.len())), Ok((holder, state.moves.len().min(5))));
            let text = State { holder: from.clone(), from: Some(from), ..state }.to_string();
            prop_assert!(fits(&text), "{}", text);

            let leaving = Some(Leaving { kind, until: Some(at), noticed: at });
            let undrained = Some(Undrained { at, seq: Some(seq) });
            let health = Health { verdict, since: at, why: Some(why.clone()), leaving, undrained };
            let text = health.to_string();
            prop_assert!(fits(&text), "{}", text);
            let read = Health::parse(&text).map(|read| (read.verdict, read.leaving.is_some()));
            prop_assert!(seq == u64::MAX || read == Ok((verdict, true)), "{}", text);

            let text = Heartbeat { seq, at, status, every, why: Some(why) }.to_string();
            prop_assert!(fits(&text), "{}", text);
        }

        #[test]
        fn plain_text_fits_and_stays(text in ".{0,300}", max in 0..300usize) {
            let once = plain(&text, max);
            prop_assert!(once.len() <= max && !once.contains(' ') && once.chars().all(is_tag_char));
            prop_assert_eq!(&plain(&once, max), &once);
        }

        #[test]
        fn checks_round_trip(text in any_text()) {
            let (read, _) = checks(&text);
            let written: Vec<_> = read.iter().map(Check::to_string).collect();
            prop_assert_eq!(checks(&written.join(" ")), (read.clone(), vec![]));
            for check in read {
                prop_assert!(fits(&check.to_string()));
                if let Check::Probe { scheme, path, .. } = check {
                    let safe = path.bytes().all(|byte| byte.is_ascii_graphic());
                    prop_assert!(safe && (scheme == Scheme::Tcp) == path.is_empty());
                    prop_assert!(path.is_empty() || path.starts_with('/'));
                }
            }
        }

        #[test]
        fn no_text_is_too_strange_to_be_read_or_refused(text in any_text()) {
            let problems = [
                prefix(&text).err(),
                cluster_name(&text).err(),
                AddressMode::parse(&text).err(),
                NodeMode::parse(&text).err(),
                priority(&text).err(),
                private_address(&text).err(),
                prefer(&text).err(),
                Verdict::parse(&text).err(),
                State::parse(&text).err(),
                Health::parse(&text).err(),
                Heartbeat::parse(&text).err(),
            ];
            for problem in problems.into_iter().flatten().chain(cluster_names(&text).1).chain(checks(&text).1) {
                prop_assert!(problem.starts_with('\''), "{}", problem);
                prop_assert!(problem.chars().count() <= 200 && !problem.contains(char::is_control), "{}", problem);
            }
            // What was read once is what is read after it has been written.
            if let Ok(state) = State::parse(&text) {
                let seconds = state.moves.iter().map(|time| time.whole_second()).collect();
                prop_assert_eq!(State::parse(&state.to_string()).map(|read| read.moves), Ok(seconds));
            }
        }
    }
}
