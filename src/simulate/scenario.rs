//! A scenario file: clusters, nodes, faults and for how long, in TOML.
//!
//! Read strictly: it was written by a person who wants to know where it is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::core::policy::{self, Policy};
use crate::core::tags::{self, Check};
use crate::embedded::faults::Api;

/// The longest that a scenario lasts.
pub const MAX_DURATION: Duration = Duration::from_secs(8 * 86_400);
/// The most clusters of one scenario.
pub const MAX_CLUSTERS: usize = 50;
/// The most nodes of one scenario.
pub const MAX_NODES: usize = 200;
/// The most addresses of one cluster.
pub const MAX_ADDRESSES: usize = 10;
/// The most faults of one scenario, each time of a repeated one counted.
pub const MAX_FAULTS: usize = 10_000;
/// The largest scenario file.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// What is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}. Write it like this:\n\n{example}")]
pub struct BadScenario {
    /// Where: the key, as the file writes it.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// A piece of a file that is right.
    pub example: String,
}

const FAULT_EXAMPLE: &str =
    "    [[fault]]\n    at = \"1m10s\"\n    what = \"dead-service\"\n    node = \"web-1\"\n    for = \"30s\"\n";
const CLUSTER_EXAMPLE: &str =
    "    [[cluster]]\n    name = \"web\"\n    check = \"http:8080/health\"\n    policy = \"fall=2 timeout=500ms\"\n";
const NODE_EXAMPLE: &str = "    [[node]]\n    name = \"web-1\"\n    zone = \"eu-west-1a\"\n";
const TRANSIENT_EXAMPLE: &str =
    "    [transient]\n    per_hour = 20\n    length = \"100ms to 3s\"\n    what = \"cut\"\n";

fn bad(key: impl Into<String>, problem: impl Into<String>, example: &str) -> BadScenario {
    BadScenario { key: key.into(), problem: problem.into(), example: example.to_owned() }
}

/// A scenario, read and found right.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// In a line.
    pub title: String,
    /// In some sentences.
    pub text: String,
    /// How long it lasts.
    pub duration_ms: u64,
    /// What chance is made of.
    pub seed: u64,
    /// Between two scheduled invocations.
    pub every_ms: u64,
    /// How long each of them watches.
    pub watch_ms: u64,
    /// What a call to EC2 takes.
    pub latency_ms: (u64, u64),
    /// What a probe takes.
    pub network_ms: u64,
    /// How long after its instance runs a service starts.
    pub boot_ms: u64,
    /// How long EventBridge takes to deliver an event; `None`: there are no events.
    pub events_ms: Option<(u64, u64)>,
    /// The clusters.
    pub clusters: Vec<ClusterOf>,
    /// The nodes, in the order of the file.
    pub nodes: Vec<NodeOf>,
    /// What happens, by time.
    pub faults: Vec<FaultOf>,
    /// What happens by chance.
    pub transient: Option<Transient>,
    /// Policies that the file compares.
    pub policies: Vec<String>,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOf {
    /// Its name.
    pub name: String,
    /// How many addresses.
    pub addresses: usize,
    /// The value of `eipwatch:check`.
    pub check: String,
    /// The port that its first probe asks.
    pub port: u16,
    /// The value of `eipwatch:policy`.
    pub policy: String,
    /// The value of `eipwatch:mode`.
    pub mode: String,
    /// The node that it prefers.
    pub prefer: Option<String>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOf {
    /// Its name.
    pub name: String,
    /// The position of its cluster.
    pub cluster: usize,
    /// Its zone.
    pub zone: String,
    /// The value of `eipwatch:priority`.
    pub priority: Option<u16>,
    /// Between two heartbeats of its agent, if it has one.
    pub agent_ms: Option<u64>,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultOf {
    /// When.
    pub at_ms: u64,
    /// Until when, if it ends by itself.
    pub until_ms: Option<u64>,
    /// What.
    pub what: What,
    /// To which nodes, by position.
    pub nodes: Vec<usize>,
    /// Or to whoever holds the first address of this cluster then.
    pub holder_of: Option<usize>,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The machine answers nobody any more; EC2 says `running`, and later `impaired`.
    Crash,
    /// The service is not there: connections are refused.
    DeadService,
    /// The service accepts and never answers.
    Hang,
    /// The service answers with this status.
    Status(u16),
    /// The service takes so long.
    Slow(u64),
    /// The service comes and goes.
    Flap {
        /// So long it refuses.
        down_ms: u64,
        /// So long it serves.
        up_ms: u64,
    },
    /// The function cannot reach the node; clients can.
    Cut,
    /// The zone: its nodes answer nobody, and EC2 cannot describe them.
    Zone(String),
    /// EC2's API fails with this code, so often of a thousand.
    Api {
        /// AWS's error code.
        error: &'static str,
        /// Which calls; empty: all.
        calls: Vec<Api>,
        /// Of a thousand.
        per_mille: u32,
    },
    /// It is rebooted.
    Reboot,
    /// It is stopped; started again at the end.
    Stop,
    /// It is terminated.
    Terminate,
    /// EC2 takes it back in two minutes: a Spot warning, then the end.
    Spot,
    /// Somebody drains it; undrains it at the end.
    Drain,
    /// Somebody moves the cluster's addresses to it, past eipwatch.
    ByHand,
    /// Somebody has eipwatch move the cluster's address to it.
    Move,
}

/// All words for [`What`], and what each means, as `eipwatch simulate --help` and the documentation list them.
pub const WHATS: [(&str, &str); 16] = [
    ("crash", "the machine answers nobody any more; after 2 minutes EC2's status checks see it"),
    ("dead-service", "connections are refused"),
    ("hang", "connections are accepted, and nothing comes"),
    ("error", "the service answers with `status` (503)"),
    ("slow", "the service takes `latency`"),
    ("flap", "the service refuses for `down`, then serves for `up`, and so on"),
    ("cut", "the function cannot reach the node; clients can"),
    ("zone-loss", "the nodes of `zone` answer nobody, and EC2 cannot describe them"),
    ("api-outage", "EC2's `calls` (all) fail with `error` (InternalError), `chance` (1.0) of them"),
    ("reboot", "the machine reboots: its service is away"),
    ("stop", "the instance is stopped, and started again at the end"),
    ("terminate", "the instance is terminated"),
    ("spot", "a Spot interruption warning, and two minutes later the end"),
    ("drain", "somebody drains it, and undrains it at the end"),
    ("by-hand", "somebody moves the cluster's addresses to it, past eipwatch"),
    ("move", "somebody has eipwatch move the cluster's addresses to it"),
];

/// Faults by chance, short ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Transient {
    /// How many an hour and node, in the mean.
    pub per_hour: f64,
    /// The shortest, in milliseconds.
    pub min_ms: u64,
    /// The longest, in milliseconds; short ones are as much more frequent as they are shorter.
    pub max_ms: u64,
    /// What they are.
    pub what: What,
    /// The file's word for it.
    pub word: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: Option<String>,
    text: Option<String>,
    duration: Option<String>,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    cluster: Vec<FileCluster>,
    #[serde(default)]
    node: Vec<FileNode>,
    #[serde(default)]
    fault: Vec<FileFault>,
    transient: Option<FileTransient>,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    world: FileWorld,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWorld {
    every: Option<String>,
    watch: Option<String>,
    latency: Option<String>,
    network: Option<String>,
    boot: Option<String>,
    events: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCluster {
    name: String,
    addresses: Option<usize>,
    check: Option<String>,
    policy: Option<String>,
    mode: Option<String>,
    prefer: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    name: String,
    cluster: Option<String>,
    zone: Option<String>,
    priority: Option<u16>,
    agent: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFault {
    at: String,
    what: String,
    node: Option<Names>,
    r#for: Option<String>,
    every: Option<String>,
    status: Option<u16>,
    latency: Option<String>,
    up: Option<String>,
    down: Option<String>,
    zone: Option<String>,
    error: Option<String>,
    calls: Option<Vec<String>>,
    chance: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTransient {
    per_hour: f64,
    length: Option<String>,
    what: Option<String>,
}

/// Reads a length of time, such as `90s` or `1m30s`.
fn time(key: &str, text: &str, example: &str) -> Result<u64, BadScenario> {
    let read = humantime::parse_duration(text.trim()).ok().filter(|time| *time <= MAX_DURATION);
    let problem = || {
        let limit = humantime::format_duration(MAX_DURATION);
        bad(
            key,
            format!("{} is no length of time up to {limit}, such as 500ms, 30s or 1m10s", tags::quote(text)),
            example,
        )
    };
    read.map(crate::core::time::millis).ok_or_else(problem)
}

/// Reads `20ms to 60ms`, or one length of time.
fn range(key: &str, text: &str, example: &str) -> Result<(u64, u64), BadScenario> {
    let (low, high) = text.split_once(" to ").unwrap_or((text, text));
    let (low, high) = (time(key, low, example)?, time(key, high, example)?);
    if low > high {
        return Err(bad(key, format!("{} ends before it begins", tags::quote(text)), example));
    }
    Ok((low, high))
}

/// Reads the value of a policy; a part that cannot be used is an error here.
///
/// # Errors
/// What is wrong with it.
pub fn policy_of(text: &str) -> Result<Policy, String> {
    match policy::parse(text) {
        (policy, problems) if problems.is_empty() => Ok(policy),
        (_, problems) => {
            // What a tag would have instead is of no use to somebody who can put it right.
            let first = problems.first().map(|problem| policy::only_what_is_wrong(problem)).unwrap_or_default();
            Err(first.to_owned())
        }
    }
}

/// Reads a scenario.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(text: &str) -> Result<Scenario, BadScenario> {
    if text.len() > MAX_FILE_BYTES {
        return Err(bad("the file", format!("it is larger than {} KiB", MAX_FILE_BYTES >> 10), CLUSTER_EXAMPLE));
    }
    let file: File = toml::from_str(text).map_err(|error| unreadable(text, &error))?;
    let all_nodes = "    duration = \"5m\"\n";
    let duration_ms = match &file.duration {
        None => return Err(bad("duration", "it is missing: how long the scenario lasts", all_nodes)),
        Some(text) => time("duration", text, all_nodes)?,
    };
    if duration_ms == 0 {
        return Err(bad("duration", "it is zero", all_nodes));
    }
    let world = file.world;
    let of_world = |key: &str, value: &Option<String>, default_ms: u64| match value {
        None => Ok(default_ms),
        Some(text) => time(&format!("world.{key}"), text, &format!("    [world]\n    {key} = \"1s\"\n")),
    };
    let every_ms = of_world("every", &world.every, 60_000)?.max(1_000);
    let clusters = clusters(file.cluster)?;
    let nodes = nodes(file.node, &clusters)?;
    let mut scenario = Scenario {
        title: file.title.unwrap_or_else(|| "a scenario".to_owned()),
        text: file.text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "),
        duration_ms,
        seed: file.seed,
        every_ms,
        watch_ms: of_world("watch", &world.watch, 55_000)?.min(every_ms),
        latency_ms: match &world.latency {
            None => (20, 60),
            Some(text) => range("world.latency", text, "    [world]\n    latency = \"20ms to 60ms\"\n")?,
        },
        network_ms: of_world("network", &world.network, 1)?,
        boot_ms: of_world("boot", &world.boot, 20_000)?,
        events_ms: match world.events.as_deref() {
            Some("none") => None,
            None => Some((300, 1_500)),
            Some(text) => Some(range("world.events", text, "    [world]\n    events = \"300ms to 1500ms\"\n")?),
        },
        clusters,
        nodes,
        faults: Vec::new(),
        transient: None,
        policies: file.policies,
    };
    for (index, text) in scenario.policies.iter().enumerate() {
        policy_of(text).map_err(|problem| {
            bad(format!("policies[{index}]"), problem, "    policies = [\"fall=2\", \"fall=5 interval=2s\"]\n")
        })?;
    }
    for (index, fault) in file.fault.into_iter().enumerate() {
        read_fault(&mut scenario, index, fault)?;
    }
    scenario.faults.sort_by_key(|fault| fault.at_ms);
    scenario.transient = file.transient.map(transient).transpose()?;
    Ok(scenario)
}

/// What TOML says, in one line, and what would be right there.
fn unreadable(text: &str, error: &toml::de::Error) -> BadScenario {
    let start = error.span().map(|span| span.start).unwrap_or_default();
    let before = text.get(..start).unwrap_or_default();
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n') || before.is_empty())
        - usize::from(before.is_empty());
    let whole = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
    // The table that it stands in says which example helps.
    let table = before.lines().chain([whole]).rev().find(|line| line.trim_start().starts_with('[')).unwrap_or_default();
    let example = if table.contains("fault") {
        FAULT_EXAMPLE
    } else if table.contains("node") {
        NODE_EXAMPLE
    } else if table.contains("transient") {
        TRANSIENT_EXAMPLE
    } else {
        CLUSTER_EXAMPLE
    };
    let key = whole.split('=').next().map(str::trim).filter(|key| !key.is_empty()).unwrap_or("the file");
    let message = error.message().trim().replace('\n', " ");
    bad(format!("line {line}, {key}"), message, example)
}

fn clusters(list: Vec<FileCluster>) -> Result<Vec<ClusterOf>, BadScenario> {
    let mut clusters: Vec<ClusterOf> = Vec::new();
    let list = if list.is_empty() {
        vec![FileCluster {
            name: "web".to_owned(),
            addresses: None,
            check: None,
            policy: None,
            mode: None,
            prefer: None,
        }]
    } else {
        list
    };
    if list.len() > MAX_CLUSTERS {
        return Err(bad("cluster", format!("there are more than {MAX_CLUSTERS}"), CLUSTER_EXAMPLE));
    }
    for cluster in list {
        let key = |name: &str| format!("cluster.{name} of {}", tags::quote(&cluster.name));
        tags::cluster_name(&cluster.name).map_err(|problem| bad("cluster.name", problem, CLUSTER_EXAMPLE))?;
        if clusters.iter().any(|one| one.name == cluster.name) {
            return Err(bad("cluster.name", format!("{} is there twice", tags::quote(&cluster.name)), CLUSTER_EXAMPLE));
        }
        let addresses = cluster.addresses.unwrap_or(1);
        if !(1..=MAX_ADDRESSES).contains(&addresses) {
            return Err(bad(key("addresses"), format!("{addresses} is not 1 to {MAX_ADDRESSES}"), CLUSTER_EXAMPLE));
        }
        let check = cluster.check.clone().unwrap_or_else(|| "http:8080/health".to_owned());
        let (checks, problems) = tags::checks(&check);
        if let Some(problem) = problems.first() {
            return Err(bad(key("check"), problem.clone(), CLUSTER_EXAMPLE));
        }
        let port = checks.iter().find_map(|check| match check {
            Check::Probe { port, .. } => Some(*port),
            _ => None,
        });
        let policy = cluster.policy.clone().unwrap_or_default();
        policy_of(&policy).map_err(|problem| bad(key("policy"), problem, CLUSTER_EXAMPLE))?;
        let mode = cluster.mode.clone().unwrap_or_default();
        if !mode.is_empty() {
            tags::AddressMode::parse(&mode).map_err(|problem| bad(key("mode"), problem, CLUSTER_EXAMPLE))?;
        }
        clusters.push(ClusterOf {
            name: cluster.name,
            addresses,
            check,
            port: port.unwrap_or(crate::sim::world::PORT),
            policy,
            mode,
            prefer: cluster.prefer,
        });
    }
    Ok(clusters)
}

fn nodes(list: Vec<FileNode>, clusters: &[ClusterOf]) -> Result<Vec<NodeOf>, BadScenario> {
    const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];
    let mut nodes: Vec<NodeOf> = Vec::new();
    let default =
        |name: &str| FileNode { name: name.to_owned(), cluster: None, zone: None, priority: None, agent: None };
    let list = if list.is_empty() { vec![default("web-1"), default("web-2")] } else { list };
    if list.len() > MAX_NODES {
        return Err(bad("node", format!("there are more than {MAX_NODES}"), NODE_EXAMPLE));
    }
    let mut names = BTreeSet::new();
    for node in list {
        if node.name.is_empty() || !names.insert(node.name.clone()) {
            return Err(bad(
                "node.name",
                format!("{} is empty, or there twice", tags::quote(&node.name)),
                NODE_EXAMPLE,
            ));
        }
        let cluster = match &node.cluster {
            None => 0,
            Some(name) => clusters.iter().position(|one| one.name == *name).ok_or_else(|| {
                let there: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
                let key = format!("node.cluster of {}", tags::quote(&node.name));
                bad(
                    key,
                    format!("there is no cluster {}; there are: {}", tags::quote(name), there.join(", ")),
                    NODE_EXAMPLE,
                )
            })?,
        };
        let in_turn = nodes.iter().filter(|one| one.cluster == cluster).count();
        let zone =
            node.zone.unwrap_or_else(|| ZONES.get(in_turn % ZONES.len()).copied().unwrap_or_default().to_owned());
        let agent_ms = match &node.agent {
            None => None,
            Some(text) => Some(
                time(
                    &format!("node.agent of {}", tags::quote(&node.name)),
                    text,
                    "    [[node]]\n    name = \"web-1\"\n    agent = \"5s\"\n",
                )?
                .max(1_000),
            ),
        };
        nodes.push(NodeOf { name: node.name, cluster, zone, priority: node.priority, agent_ms });
    }
    for (index, cluster) in clusters.iter().enumerate() {
        let of_it: Vec<&NodeOf> = nodes.iter().filter(|node| node.cluster == index).collect();
        if of_it.is_empty() {
            return Err(bad("node", format!("the cluster {} has none", cluster.name), NODE_EXAMPLE));
        }
        if let Some(prefer) = cluster.prefer.as_ref().filter(|prefer| !of_it.iter().any(|node| node.name == **prefer)) {
            let key = format!("cluster.prefer of {}", tags::quote(&cluster.name));
            return Err(bad(key, format!("it has no node {}", tags::quote(prefer)), CLUSTER_EXAMPLE));
        }
    }
    Ok(nodes)
}

const API_EXAMPLE: &str = "    [[fault]]\n    at = \"1m\"\n    what = \"api-outage\"\n    calls = [\"DescribeInstances\", \"AssociateAddress\"]\n    error = \"InternalError\"\n    for = \"2m\"\n";

/// The error codes that the simulated EC2 can be made to answer.
const ERRORS: [&str; 6] = [
    "InternalError",
    "Unavailable",
    "RequestLimitExceeded",
    "UnauthorizedOperation",
    "IncorrectInstanceState",
    "InvalidAllocationID.NotFound",
];

fn read_fault(scenario: &mut Scenario, index: usize, fault: FileFault) -> Result<(), BadScenario> {
    let key = |name: &str| format!("fault[{index}].{name}");
    let at_ms = time(&key("at"), &fault.at, FAULT_EXAMPLE)?;
    if at_ms >= scenario.duration_ms {
        let limit = humantime::format_duration(Duration::from_millis(scenario.duration_ms));
        return Err(bad(
            key("at"),
            format!("{} is not before the end of the scenario, {limit}", fault.at),
            FAULT_EXAMPLE,
        ));
    }
    let length_ms = fault.r#for.as_ref().map(|text| time(&key("for"), text, FAULT_EXAMPLE)).transpose()?;
    let optional = |name: &str, value: &Option<String>, default_ms: u64| match value {
        None => Ok(default_ms),
        Some(text) => time(&key(name), text, FAULT_EXAMPLE),
    };
    let what = match fault.what.as_str() {
        "crash" => What::Crash,
        "dead-service" => What::DeadService,
        "hang" => What::Hang,
        "error" => What::Status(fault.status.unwrap_or(503)),
        "slow" => What::Slow(optional("latency", &fault.latency, 3_000)?),
        "flap" => What::Flap {
            down_ms: optional("down", &fault.down, 2_000)?.max(100),
            up_ms: optional("up", &fault.up, 2_000)?.max(100),
        },
        "cut" => What::Cut,
        "zone-loss" => match &fault.zone {
            Some(zone) if scenario.nodes.iter().any(|node| node.zone == *zone) => What::Zone(zone.clone()),
            Some(zone) => {
                return Err(bad(
                    key("zone"),
                    format!("no node is in {}", tags::quote(zone)),
                    "    [[fault]]\n    at = \"1m10s\"\n    what = \"zone-loss\"\n    zone = \"eu-west-1a\"\n",
                ));
            }
            None => {
                return Err(bad(
                    key("zone"),
                    "it is missing: the zone that is lost",
                    "    [[fault]]\n    at = \"1m10s\"\n    what = \"zone-loss\"\n    zone = \"eu-west-1a\"\n",
                ));
            }
        },
        "api-outage" => {
            let word = fault.error.as_deref().unwrap_or("InternalError");
            let error = ERRORS.into_iter().find(|known| *known == word).ok_or_else(|| {
                bad(key("error"), format!("{} is none of {}", tags::quote(word), ERRORS.join(", ")), API_EXAMPLE)
            })?;
            let mut calls = Vec::new();
            for name in fault.calls.iter().flatten() {
                let call = Api::ALL.into_iter().find(|api| format!("{api:?}") == *name).ok_or_else(|| {
                    let all: Vec<String> = Api::ALL.iter().map(|api| format!("{api:?}")).collect();
                    bad(key("calls"), format!("{} is none of {}", tags::quote(name), all.join(", ")), API_EXAMPLE)
                })?;
                calls.push(call);
            }
            let chance = fault.chance.unwrap_or(1.0);
            if !(0.0..=1.0).contains(&chance) {
                return Err(bad(key("chance"), format!("{chance} is not 0.0 to 1.0"), API_EXAMPLE));
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
            let per_mille = (chance * 1_000.0).round() as u32;
            What::Api { error, calls, per_mille }
        }
        "reboot" => What::Reboot,
        "stop" => What::Stop,
        "terminate" => What::Terminate,
        "spot" => What::Spot,
        "drain" => What::Drain,
        "by-hand" => What::ByHand,
        "move" => What::Move,
        other => {
            let all: Vec<&str> = WHATS.iter().map(|(word, _)| *word).collect();
            return Err(bad(
                key("what"),
                format!("{} is none of {}", tags::quote(other), all.join(", ")),
                FAULT_EXAMPLE,
            ));
        }
    };
    let service =
        matches!(what, What::Crash | What::DeadService | What::Hang | What::Status(_) | What::Slow(_) | What::Cut);
    let mut holder_of = None;
    let nodes = match (&what, &fault.node) {
        (_, Some(Names::One(name))) if *name == "holder" || name.starts_with("holder of ") => {
            if !service {
                let problem = format!("{} needs a node's name: who holds the address is only known then", fault.what);
                return Err(bad(key("node"), problem, FAULT_EXAMPLE));
            }
            let cluster = name.strip_prefix("holder of ");
            let at = cluster.map_or(Some(0), |name| scenario.clusters.iter().position(|one| one.name == name));
            holder_of = Some(at.ok_or_else(|| {
                bad(key("node"), format!("there is no such cluster: {}", tags::quote(name)), FAULT_EXAMPLE)
            })?);
            Vec::new()
        }
        (What::Zone(zone), None) => {
            scenario.nodes.iter().enumerate().filter(|(_, node)| node.zone == *zone).map(|(at, _)| at).collect()
        }
        (What::Zone(_) | What::Api { .. }, Some(_)) => {
            return Err(bad(key("node"), format!("{} does not name nodes", fault.what), FAULT_EXAMPLE));
        }
        (What::Api { .. }, None) => Vec::new(),
        (_, None) => return Err(bad(key("node"), "it is missing: the node, or a list of nodes", FAULT_EXAMPLE)),
        (_, Some(names)) => {
            let names = match names {
                Names::One(name) => vec![name.clone()],
                Names::Many(names) => names.clone(),
            };
            let mut found = Vec::new();
            for name in names {
                let at = scenario.nodes.iter().position(|node| node.name == name).ok_or_else(|| {
                    let all: Vec<&str> = scenario.nodes.iter().map(|node| node.name.as_str()).take(10).collect();
                    bad(
                        key("node"),
                        format!("there is no node {}; there are: {}", tags::quote(&name), all.join(", ")),
                        FAULT_EXAMPLE,
                    )
                })?;
                found.push(at);
            }
            found
        }
    };
    let every_ms = fault.every.as_ref().map(|text| time(&key("every"), text, FAULT_EXAMPLE)).transpose()?;
    if let (Some(every_ms), Some(length_ms)) = (every_ms, length_ms)
        && every_ms <= length_ms
    {
        return Err(bad(key("every"), "it comes again before it is over", FAULT_EXAMPLE));
    }
    if every_ms == Some(0) {
        return Err(bad(key("every"), "it is zero", FAULT_EXAMPLE));
    }
    let mut at_ms = at_ms;
    loop {
        if scenario.faults.len() >= MAX_FAULTS {
            return Err(bad("fault", format!("there are more than {MAX_FAULTS}"), FAULT_EXAMPLE));
        }
        let until_ms = length_ms.map(|length_ms| at_ms + length_ms);
        scenario.faults.push(FaultOf { at_ms, until_ms, what: what.clone(), nodes: nodes.clone(), holder_of });
        match every_ms {
            Some(every_ms) if at_ms + every_ms < scenario.duration_ms => at_ms += every_ms,
            _ => return Ok(()),
        }
    }
}

fn transient(file: FileTransient) -> Result<Transient, BadScenario> {
    if !(file.per_hour > 0.0 && file.per_hour <= 3_600.0) {
        return Err(bad(
            "transient.per_hour",
            format!("{} is not above 0 and at most 3600", file.per_hour),
            TRANSIENT_EXAMPLE,
        ));
    }
    let length = file.length.as_deref().unwrap_or("100ms to 3s");
    let (min_ms, max_ms) = range("transient.length", length, TRANSIENT_EXAMPLE)?;
    let word = file.what.unwrap_or_else(|| "cut".to_owned());
    let what = match word.as_str() {
        "cut" => What::Cut,
        "hang" => What::Hang,
        "dead-service" => What::DeadService,
        other => {
            let problem = format!("{} is none of cut, hang, dead-service", tags::quote(other));
            return Err(bad("transient.what", problem, TRANSIENT_EXAMPLE));
        }
    };
    Ok(Transient { per_hour: file.per_hour, min_ms: min_ms.max(1), max_ms: max_ms.max(1), what, word })
}
