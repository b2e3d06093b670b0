//! `eipwatch doctor`: could an address move right now, how long would it take, and what stands in the way.
//!
//! Reads and probes as `status` does, and asks EC2 by DryRun whether each address might be moved. Changes nothing. With
//! `--function` it is the function that observes and asks, and what surrounds the nodes is read with the operator's own
//! credentials all the same.

mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;

use super::ask::{Backend, Failed};
use super::paint::Tone;
use super::render::{Page, clean, label};
use super::standing::Standing;
use crate::cloud::Cloud;
use crate::core::decide::EXTERNAL;
use crate::core::decide::{Kind, Why};
use crate::core::event::Command;
use crate::core::model::InstanceId;
use crate::core::model::{CloudError, ClusterName, Look};
use crate::core::policy::Policy;
use crate::core::report::{AddressReport, ClusterReport};
use crate::core::snapshot::{self, Cluster, ClusterAddress, Facts, Node, Taken};
use crate::core::tags::{AddressMode, Check, Keys, Verdict};
use crate::core::time::{Time, duration_text};
use crate::core::watch::{DRY_RUN_FAILED, ROUND};
use crate::env;
use crate::network::{Function, Network};

/// Addresses that are rehearsed at once; each reads EC2 and probes its cluster.
const MAX_REHEARSALS: usize = 8;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Pass,
    /// It may hurt one day.
    Warn,
    /// A failover would not work, or does not.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What was looked at.
    pub check: &'static str,
    /// What was found.
    pub text: String,
    /// What to do.
    pub cure: Option<String>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Its name.
    pub cluster: ClusterName,
    /// Whether every address could move right now; `false`, too, where that is not known: `outlook` says which.
    pub could_move: bool,
    /// From a service's death to the decision, at most, in milliseconds; `None` where nothing is probed.
    pub detect_dead_ms: Option<u64>,
    /// The same of a service that hangs.
    pub detect_hung_ms: Option<u64>,
    /// Whether it could move right now, and how long it would take, in words.
    pub outlook: String,
    /// All that was looked at.
    pub findings: Vec<Finding>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnoses {
    /// Whether nothing fails anywhere, and every address is known to be able to move.
    pub ok: bool,
    /// Cluster by cluster.
    pub clusters: Vec<Diagnosis>,
    /// What is odd beyond any cluster.
    pub problems: Vec<String>,
}

impl Diagnoses {
    /// How it stands: warnings alone are no alarm, but for what it was asked above all.
    pub fn standing(&self) -> Standing {
        if self.ok { Standing::Well } else { Standing::Attention }
    }
}

/// Whom to ask.
pub struct Sources<'a, B, C> {
    /// Who observes, and who asks whether a move would be allowed: this process, or the deployed function.
    pub backend: &'a B,
    /// EC2, with the operator's own credentials.
    pub cloud: &'a C,
    /// How this process names tags, where the function does not say.
    pub keys: Keys,
    /// The deployed function, if one was named; `Err`: why its configuration cannot be read.
    pub function: Option<Result<Function, String>>,
}

impl<B, C> Sources<'_, B, C> {
    fn function(&self) -> Option<&Function> {
        self.function.as_ref().and_then(|function| function.as_ref().ok())
    }

    /// A variable of the function's environment.
    fn variable(&self, name: &str) -> Option<&str> {
        self.function()?.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn keys(&self) -> Keys {
        self.variable(env::TAG_PREFIX).map_or_else(|| self.keys.clone(), Keys::new)
    }
}

/// Looks at one cluster, or at all.
///
/// # Errors
/// EC2 could not be read, or there is no such cluster.
pub async fn examine<B: Backend, C: Cloud + Network>(
    from: &Sources<'_, B, C>,
    cluster: Option<ClusterName>,
    now: Time,
) -> Result<Diagnoses, Failed> {
    let report = from.backend.ask(&Command::Status { cluster }).await?;
    if !report.ok {
        return Err(Failed::NoAnswer(report.error.unwrap_or_else(|| "EC2 could not be observed".to_owned())));
    }
    let keys = from.keys();
    let (facts, clusters) = read(from.cloud, &keys, now)
        .await
        .map_err(|error| Failed::NoAnswer(format!("EC2 could not be read: {error}. Nothing was changed")))?;
    let wanted: BTreeSet<&ClusterName> = report.clusters.iter().map(|of| &of.cluster).collect();
    let paths = network::read(from, &clusters, &wanted).await;
    let all = report.clusters.iter().flat_map(|of| of.addresses.iter().map(move |address| (of, address)));
    let all = futures_util::stream::iter(all).map(|(of, address)| async move {
        Ok(((&of.cluster, address.public_ip), rehearse(from.backend, of, address).await?))
    });
    let all: Vec<Result<_, Failed>> = all.buffered(MAX_REHEARSALS).collect().await;
    let mut rehearsals: BTreeMap<_, _> = all.into_iter().collect::<Result<_, Failed>>()?;
    let mut diagnoses = Vec::new();
    for of in &report.clusters {
        let Some(cluster) = clusters.get(&of.cluster) else { continue };
        let mut found = Found(Vec::new());
        tags(&mut found, of);
        nodes(&mut found, of, cluster, now);
        addresses(&mut found, of, cluster, &facts);
        network::look(&mut found, from, cluster, &facts, &paths);
        for address in &cluster.addresses {
            managers(&mut found, address, &facts);
        }
        policy(&mut found, from, cluster);
        let mut targets = Vec::new();
        for address in &of.addresses {
            let rehearsed = rehearsals.remove(&(&of.cluster, address.public_ip));
            let (its, target) = rehearsed.unwrap_or((Found(Vec::new()), None));
            found.0.extend(its.0);
            targets.push(target);
        }
        if from.function.is_none() {
            may_tag(&mut found, from.cloud, &keys, cluster).await;
        }
        // Without a target it fails.
        let worst = worst_move(&found.0);
        let (unknown, could_move) = (worst == Some(Level::Warn), worst == Some(Level::Pass));
        let probed = probed(cluster);
        diagnoses.push(Diagnosis {
            cluster: of.cluster.clone(),
            could_move,
            detect_dead_ms: probed.then(|| millis(dead(&cluster.policy))),
            detect_hung_ms: probed.then(|| millis(hung(&cluster.policy))),
            outlook: if unknown {
                "Whether it could move right now is not known.".to_owned()
            } else {
                outlook(from, cluster, could_move, &targets)
            },
            findings: found.0,
        });
    }
    let ok = diagnoses.iter().all(|one| one.could_move && one.findings.iter().all(|found| found.level != Level::Fail));
    Ok(Diagnoses { ok, clusters: diagnoses, problems: report.problems })
}

/// The worst that was found of whether addresses could move: a failure is known, whatever is not known of another.
fn worst_move(found: &[Finding]) -> Option<Level> {
    found.iter().filter(|one| one.check == "move").map(|one| one.level).max()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

async fn read<C: Cloud>(
    cloud: &C,
    keys: &Keys,
    now: Time,
) -> Result<(Facts, BTreeMap<ClusterName, Cluster>), CloudError> {
    let mut facts = Facts::default();
    for look in [Look::Addresses, Look::Instances(keys.cluster.clone()), Look::Status(Vec::new())] {
        facts.take(cloud.look(look).await?, now);
    }
    let (clusters, _) = snapshot::clusters(&facts, keys);
    Ok((facts, clusters))
}

struct Found(Vec<Finding>);

impl Found {
    fn pass(&mut self, check: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Pass, check, text: text.into(), cure: None });
    }

    fn warn(&mut self, check: &'static str, text: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Finding { level: Level::Warn, check, text: text.into(), cure: Some(cure.into()) });
    }

    fn fail(&mut self, check: &'static str, text: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Finding { level: Level::Fail, check, text: text.into(), cure: Some(cure.into()) });
    }
}

fn tags(found: &mut Found, of: &ClusterReport) {
    if of.problems.is_empty() {
        found.pass("tags", "every tag can be read");
    }
    for problem in &of.problems {
        found.warn("tags", problem, "Correct the tag, or what it is about.");
    }
}

fn name_of(node: &Node) -> String {
    match &node.name {
        Some(name) => format!("{name} ({})", node.id),
        None => node.id.to_string(),
    }
}

fn nodes(found: &mut Found, of: &ClusterReport, cluster: &Cluster, now: Time) {
    let members: Vec<&Node> = cluster.nodes.values().filter(|node| node.member).collect();
    match members.len() {
        0 | 1 => found.fail(
            "nodes",
            format!("{} node carries the cluster's tag", members.len()),
            format!("Tag at least two instances with the cluster's name, {}.", cluster.name),
        ),
        count => found.pass("nodes", format!("{count} nodes")),
    }
    let zones: BTreeSet<&str> = members.iter().filter_map(|node| node.zone.as_deref()).collect();
    match zones.len() {
        0 => {}
        1 if members.len() > 1 => found.warn(
            "zones",
            format!("all nodes are in {}", zones.first().copied().unwrap_or_default()),
            "Put one node into another Availability Zone: a zone can fail as a whole.",
        ),
        count => found.pass("zones", format!("nodes in {count} zones")),
    }
    for node in &of.nodes {
        let text: Vec<String> = node
            .evidence
            .iter()
            .filter(|one| node.verdict == Verdict::Healthy || one.ok != Some(true))
            .map(|one| format!("{}: {}", one.check, one.text))
            .collect();
        let name = node.name.as_deref().map_or_else(|| node.id.to_string(), |name| format!("{name} ({})", node.id));
        let text = format!("{name} is {}: {}", node.verdict.as_str(), text.join("; "));
        let cure = "Mend the service; if it serves its users, see that this machine, and the function, may reach the port checked.";
        match node.verdict {
            Verdict::Healthy => found.pass("health", text),
            Verdict::Unhealthy => found.fail("health", text, cure),
            Verdict::Gone => found.fail("health", text, "Start it, or take its cluster tag away."),
            Verdict::Suspect | Verdict::Unknown => found.warn("health", text, cure),
        }
    }
    let mut planned = false;
    for node in &members {
        let name = name_of(node);
        if node.checks.is_empty() {
            found.warn(
                "checks",
                format!("{name} is checked by EC2's own status checks alone: a dead service is never noticed"),
                "Tag the address with a check of the service, such as eipwatch:check=http:8080/health.",
            );
        }
        if node.checks.contains(&Check::Heartbeat) {
            heartbeat(found, node, &cluster.policy, now);
        }
        for event in node.status.iter().flat_map(|status| &status.scheduled) {
            if event.description.starts_with("[Completed]") || event.description.starts_with("[Canceled]") {
                continue;
            }
            let at = event.not_before.map_or_else(|| "some time".to_owned(), |at| at.to_string());
            planned = true;
            found.warn(
                "scheduled",
                format!("AWS has planned {} for {name} at {at}", event.code),
                "Move the address away before, at a time of your choosing: eipwatch drain.",
            );
        }
    }
    if !planned {
        found.pass("scheduled", "AWS has planned nothing for the nodes");
    }
}

fn heartbeat(found: &mut Found, node: &Node, policy: &Policy, now: Time) {
    let name = name_of(node);
    let cure = "See on the node: systemctl status eipwatch-agent.";
    match &node.heartbeat {
        None => {
            found.fail("heartbeat", format!("{name} has never sent one"), "Install and start eipwatch-agent there.")
        }
        // The node's clock is not ours: only a gap well beyond the limit is told.
        Some(beat) if now.since(beat.at) > policy.deadtime + policy.deadtime => {
            found.warn("heartbeat", format!("{name} sent its last at {}, by its own clock", beat.at), cure)
        }
        Some(_) => found.pass("heartbeat", format!("{name} sends them")),
    }
}

fn addresses(found: &mut Found, of: &ClusterReport, cluster: &Cluster, facts: &Facts) {
    if of.addresses.is_empty() {
        found.fail(
            "address",
            "no Elastic IP carries the cluster's tag",
            format!("Tag the Elastic IP with the cluster's name, {}.", cluster.name),
        );
    }
    for address in &cluster.addresses {
        places(found, cluster, address, facts);
    }
    for address in of.addresses.iter().filter(|address| address.mode != "auto") {
        let tagged = cluster.addresses.iter().find(|one| one.public_ip == address.public_ip).map(|one| &one.mode);
        let cure = match tagged {
            Some(AddressMode::Auto) => {
                format!("It is {}=manual that says so: deploy with Mode=auto when it may move again.", env::MODE)
            }
            _ => format!("When it may move again: eipwatch resume {}.", cluster.name),
        };
        found.warn(
            "mode",
            format!("{} is in mode {}: it does not move by itself", address.public_ip, address.mode),
            cure,
        );
    }
}

/// Who could carry the address at all, healthy or not.
fn places(found: &mut Found, cluster: &Cluster, address: &ClusterAddress, facts: &Facts) {
    let ip = address.public_ip;
    let occupancy = facts.occupancy();
    let taken = Taken::new(&occupancy, None);
    let (mut with, mut without, mut same) = (Vec::new(), Vec::new(), true);
    for node in cluster.nodes.values().filter(|node| node.member) {
        let name = name_of(node);
        if let (Some(of), Some(there)) = (&address.border_group, node.border_group())
            && of != there
        {
            same = false;
            found.fail(
                "border-group",
                format!("{ip} belongs to {of}, {name} to {there}"),
                "An Elastic IP moves within one network border group only.",
            );
        }
        if address.holder.instance() == Some(&node.id) || node.state.is_none() {
            continue;
        }
        match node.slot_for(&address.id, &taken) {
            Ok(_) => with.push(name),
            Err(why) => without.push(format!("{name} has none: {why}")),
        }
    }
    if same && let Some(of) = &address.border_group {
        found.pass("border-group", format!("{ip} and all nodes belong to {of}"));
    }
    match (with.is_empty(), without.is_empty()) {
        (true, true) => {}
        (true, false) => found.fail(
            "private-address",
            format!("no other node has a free private address for {ip}: {}", without.join("; ")),
            "Give the primary interface of one of them one more private address.",
        ),
        // As with a spare that stands by for nodes that work, each with an address of its own.
        (false, _) => {
            let without = without.iter().map(|why| format!("; {why}")).collect::<String>();
            found.pass("private-address", format!("{} could carry {ip}{without}", with.join(", ")));
        }
    }
}

/// Asks whether the address could move now: a move as a dry run, which has EC2 say whether it would be allowed.
async fn rehearse(
    backend: &impl Backend,
    of: &ClusterReport,
    address: &AddressReport,
) -> Result<(Found, Option<InstanceId>), Failed> {
    let mut found = Found(Vec::new());
    let ip: Ipv4Addr = address.public_ip;
    let command =
        Command::Move { cluster: Some(of.cluster.clone()), address: Some(ip), to: None, force: false, dry_run: true };
    let report = backend.ask(&command).await?;
    let decision = report
        .clusters
        .iter()
        .flat_map(|cluster| &cluster.addresses)
        .find(|one| one.public_ip == ip)
        .and_then(|one| one.decision.as_ref());
    match decision {
        Some(decision) if decision.kind == Kind::Move => {
            let to = decision.to.clone().unwrap_or_else(|| InstanceId::from(""));
            let mut problems = report.clusters.iter().flat_map(|cluster| &cluster.problems);
            if let Some(problem) = problems.find(|problem| problem.starts_with(DRY_RUN_FAILED)) {
                let text = format!("whether EC2 would allow {ip} to go to {} is not known: {problem}", label(of, &to));
                found.warn("move", text, "Nothing was moved. RequestLimitExceeded, Throttling, Timeout, Connect, Response, InternalError, InternalFailure, Unavailable, ServiceUnavailable: ask again in a minute. Any other code is a refusal that a failover may meet, too: infra/RUNBOOK.md#move-failed.");
                return Ok((found, Some(to)));
            }
            found.pass("move", format!("{ip} could go to {} now, and EC2 would allow it", label(of, &to)));
            Ok((found, Some(to)))
        }
        Some(decision) => {
            let mut text = format!("{ip} could not move: {}", decision.text);
            for veto in &decision.vetoes {
                text.push_str(&format!(" {veto}."));
            }
            let cure = match decision.why {
                Why::NotPermitted => {
                    "UnauthorizedOperation: allow ec2:AssociateAddress on the address, the instances and their interfaces, as the template's policy does. What another code means: infra/RUNBOOK.md#move-failed."
                }
                Why::Outsider => {
                    "Find out who associated it there; disassociate it if it should be the cluster's again."
                }
                _ => "See what speaks against each node.",
            };
            found.fail("move", text, cure);
            Ok((found, None))
        }
        None => {
            let why = report.error.unwrap_or_else(|| "no decision".to_owned());
            found.warn("move", format!("whether {ip} could move is not known: {why}"), "Nothing was moved. Try again.");
            Ok((found, None))
        }
    }
}

/// Asks by DryRun whether what is remembered could be written.
async fn may_tag<C: Network>(found: &mut Found, cloud: &C, keys: &Keys, cluster: &Cluster) {
    let addresses: Vec<String> = cluster.addresses.iter().map(|address| address.id.to_string()).collect();
    let nodes: Vec<String> =
        cluster.nodes.values().filter(|node| node.member).map(|node| node.id.to_string()).collect();
    let shared = cluster.nodes.values().any(|node| node.shared);
    let health = keys.health_of(shared.then_some(&cluster.name));
    for (resources, key) in [(addresses, keys.state.clone()), (nodes, health)] {
        if resources.is_empty() {
            continue;
        }
        let listed = resources.join(", ");
        match cloud.may_tag(&resources, &key).await {
            Ok(()) => found.pass("memory", format!("{key} could be written on {listed}")),
            Err(error) => found.warn(
                "memory",
                format!("{key} could not be written on {listed}: {error}. Moves succeed without it; what is remembered of them does not survive"),
                "Allow ec2:CreateTags for this key, as the template's policy does.",
            ),
        }
    }
}

/// The words by which tags say that something manages a resource, without punctuation.
const MANAGED_BY: [&str; 3] = ["managedby", "provisionedby", "createdby"];

/// Who else may move the address: what shows in its tags. A script on a node shows nowhere.
fn managers(found: &mut Found, address: &ClusterAddress, facts: &Facts) {
    let ip = address.public_ip;
    let tags = facts.addresses.get(&address.id).map(|address| &address.tags);
    let mut others = Vec::new();
    for (key, value) in tags.into_iter().flatten() {
        let plain: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        if key == "aws:cloudformation:stack-name" {
            others.push((
                format!("{ip} belongs to the CloudFormation stack {value}"),
                "See that the template does not associate it (AWS::EC2::EIPAssociation, or InstanceId of AWS::EC2::EIP): an update would move it back.",
            ));
        } else if MANAGED_BY.contains(&plain.as_str()) {
            others.push((
                format!("{ip} is managed by {value}, as its tag {key} says"),
                "See that it does not associate the address (in Terraform: no aws_eip_association, no instance): it would move it back.",
            ));
        } else if key.starts_with("kubernetes.io/cluster/") {
            others.push((
                format!("{ip} belongs to a Kubernetes cluster, as its tag {key} says"),
                "See that no controller there moves it.",
            ));
        }
    }
    if let Some(state) = address.state.as_ref().filter(|state| state.why == EXTERNAL) {
        others.push((
            format!("{ip} was last moved by something else than eipwatch, at {}", state.since),
            "If nobody did it by hand, find what did (CloudTrail, AssociateAddress): two managers undo each other's moves.",
        ));
    }
    if others.is_empty() {
        found.pass(
            "managers",
            format!("nothing else is seen to manage {ip}; a script on a node, such as keepalived's, would not show"),
        );
    }
    for (text, cure) in others {
        found.warn("managers", text, cure);
    }
}

fn probed(cluster: &Cluster) -> bool {
    cluster.nodes.values().any(|node| node.checks.iter().any(|check| matches!(check, Check::Probe { .. })))
}

/// From a service's death to the verdict, at most: it refuses at once.
pub fn dead(policy: &Policy) -> Duration {
    policy.interval + policy.fast * policy.fall.saturating_sub(1)
}

/// The same of a service that accepts and answers nothing.
pub fn hung(policy: &Policy) -> Duration {
    dead(policy) + policy.timeout
}

/// How many heartbeats in a row may be lost without harm: two.
const BEATS_PER_DEADTIME: u32 = 3;

/// Whether times and limits fit each other.
fn policy<B, C>(found: &mut Found, from: &Sources<'_, B, C>, cluster: &Cluster) {
    let policy = &cluster.policy;
    let before = found.0.len();
    if probed(cluster) && policy.fast > policy.interval {
        found.warn(
            "policy",
            format!("fast={} is slower than interval={}", duration_text(policy.fast), duration_text(policy.interval)),
            "A failing service is asked again at `fast`: set it below `interval`.",
        );
    }
    let slowest = cluster.nodes.values().filter_map(|node| node.heartbeat.as_ref()).map(|beat| beat.every).max();
    if let Some(every) = slowest
        && policy.deadtime < every * BEATS_PER_DEADTIME
    {
        found.warn(
            "policy",
            format!(
                "deadtime={} is less than three heartbeats, which come every {}",
                duration_text(policy.deadtime),
                duration_text(every)
            ),
            "Set deadtime to three times the agents' `every`, or more. Better five: then two lost writes do no harm.",
        );
    }
    if policy.failback && policy.stable < dead(policy) {
        found.warn(
            "policy",
            format!(
                "failback=auto with stable={} goes back sooner than a failure is noticed: it may flap",
                duration_text(policy.stable)
            ),
            "Leave `stable` at 60s or more.",
        );
    }
    if policy.stable > policy.window {
        found.warn(
            "policy",
            format!(
                "stable={} is longer than window={}: the brake ends before it could let go",
                duration_text(policy.stable),
                duration_text(policy.window)
            ),
            "Set `stable` below `window`.",
        );
    }
    if let Some(function) = from.function() {
        let watch_s = watch_seconds(from);
        if function.timeout_s > 0 && function.timeout_s < watch_s + LEAST_OVERTIME_S {
            found.warn(
                "policy",
                format!("the function watches for {watch_s} s and is ended by Lambda after {} s: a late move might be cut off", function.timeout_s),
                "Set its Timeout to twice EIPWATCH_WATCH_SECONDS, as the template does.",
            );
        }
    }
    if found.0.len() == before {
        found.pass("policy", "its times fit each other");
    }
}

/// What a watch needs beyond its time to finish a move that was decided in its last second.
const LEAST_OVERTIME_S: u64 = 30;

fn watch_seconds<B, C>(from: &Sources<'_, B, C>) -> u64 {
    from.variable(env::WATCH_SECONDS).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The answer to "could it move right now, and how long would it take?".
fn outlook<B, C>(
    from: &Sources<'_, B, C>,
    cluster: &Cluster,
    could_move: bool,
    targets: &[Option<InstanceId>],
) -> String {
    let policy = &cluster.policy;
    let mut text = match (could_move, targets) {
        (false, _) => return "It could NOT move right now.".to_owned(),
        (true, [Some(to)]) => {
            let to = cluster.nodes.get(to).map_or_else(|| to.to_string(), name_of);
            format!("It could move right now, to {to}.")
        }
        (true, _) => "They could move right now.".to_owned(),
    };
    let beats = cluster.nodes.values().any(|node| node.checks.contains(&Check::Heartbeat));
    if probed(cluster) {
        let (dead, hung) = (duration_text(dead(policy)), duration_text(hung(policy)));
        text.push_str(&format!(
            " In a watch a dead service is left after at most {dead}, one that hangs after {hung}."
        ));
    } else if beats {
        let silent = duration_text(policy.deadtime + ROUND);
        text.push_str(&format!(
            " What an agent says of its node counts within {}; one that falls silent, after about {silent}.",
            duration_text(ROUND)
        ));
    } else {
        text.push_str(" Only what EC2 itself sees counts: a stopped instance within seconds, an impaired one after 2 to 4 minutes, a dead service never.");
    }
    if from.function().is_some() && watch_seconds(from) == 0 {
        text.push_str(" The function does not watch (EIPWATCH_WATCH_SECONDS=0): up to a minute comes on top.");
    }
    text.push_str(" Then comes the move: EC2's answer, and 1 to 6 s until traffic follows, by field reports.");
    text
}

/// The answer for people.
pub fn render(diagnoses: &Diagnoses, page: Page) -> String {
    let mut out = String::new();
    for one in &diagnoses.clusters {
        out.push_str(&format!("{}\n", page.paint.paint(Tone::Strong, clean(one.cluster.as_str()))));
        for found in &one.findings {
            let (tone, word) = match found.level {
                Level::Pass => (Tone::Good, "pass"),
                Level::Warn => (Tone::Odd, "warn"),
                Level::Fail => (Tone::Bad, "FAIL"),
            };
            // The colour goes on the word alone; blanks of the same width carry the wrapping.
            let mut lines = String::new();
            page.wrap(&mut lines, "       ", None, &format!("{}: {}", found.check, found.text));
            out.push_str(&format!("  {}{}", page.paint.paint(tone, word), lines.get(6..).unwrap_or_default()));
            if let Some(cure) = &found.cure {
                page.wrap(&mut out, "       -> ", None, cure);
            }
        }
        let tone = match worst_move(&one.findings) {
            Some(Level::Pass) => Tone::Good,
            Some(Level::Fail) => Tone::Bad,
            _ => Tone::Odd,
        };
        page.wrap(&mut out, "  ", Some(tone), &one.outlook);
        out.push('\n');
    }
    for problem in &diagnoses.problems {
        page.wrap(&mut out, "problem: ", Some(Tone::Odd), problem);
    }
    if diagnoses.clusters.is_empty() {
        page.wrap(
            &mut out,
            "",
            None,
            "No cluster: tag an Elastic IP and at least two instances with eipwatch:cluster=NAME.",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::cli::ask::Here;
    use crate::cli::paint::Paint;
    use crate::core::model::{Answer, ProbeTarget};
    use crate::core::watch::Settings;
    use crate::drive::{Clock, SystemClock};
    use crate::embedded::ec2::{Api, Id, InstanceSpec, Place, tags};
    use crate::embedded::{Ec2, EmbeddedCloud, Rule, seam};
    use crate::network::{Attached, Block, Peer, Permission, Route, RouteTable, SecurityGroup};
    use crate::probe::Prober;

    /// Every node serves but this one.
    struct AllBut(Option<Ipv4Addr>);
    impl Prober for AllBut {
        async fn probe(&self, target: ProbeTarget) -> Answer {
            if self.0 == Some(target.ip) { Answer::Refused } else { Answer::Status(200) }
        }
    }

    struct Scene {
        world: Ec2,
        address: Id,
        nodes: [Id; 2],
        net: Net,
        function: Option<Result<Function, String>>,
    }

    /// The network, which tests may change. The nodes' interfaces are the embedded EC2's.
    #[derive(Clone)]
    struct Net {
        world: Option<Rc<RefCell<Ec2>>>,
        /// Groups of each interface, in order; the embedded EC2's where there are none.
        groups_of: Vec<Vec<&'static str>>,
        function_ips: Vec<Ipv4Addr>,
        groups: Vec<SecurityGroup>,
        tables: Result<Vec<RouteTable>, CloudError>,
        may_tag: Result<(), CloudError>,
    }

    struct Both {
        cloud: Box<dyn Fn(Look) -> Result<crate::core::model::Seen, CloudError>>,
        net: Net,
    }

    impl Cloud for Both {
        async fn look(&self, look: Look) -> Result<crate::core::model::Seen, CloudError> {
            (self.cloud)(look)
        }
        async fn act(&self, _: crate::core::model::Act) -> Result<(), CloudError> {
            panic!("doctor changes nothing")
        }
    }

    impl Network for Both {
        async fn interfaces(&self, ids: &[crate::core::model::InterfaceId]) -> Result<Vec<Attached>, CloudError> {
            let world = self.net.world.as_ref().unwrap().borrow();
            let mut all = seam::attached(&world, ids);
            for (one, groups) in all.iter_mut().zip(&self.net.groups_of) {
                one.groups = groups.iter().map(|group| (*group).to_owned()).collect();
            }
            Ok(all)
        }
        async fn interfaces_in(&self, _: &BTreeSet<String>) -> Result<Vec<Attached>, CloudError> {
            Ok(vec![Attached {
                id: "eni-function".into(),
                vpc: "vpc-00000000000000001".to_owned(),
                subnet: "subnet-function".to_owned(),
                kind: "lambda".to_owned(),
                groups: BTreeSet::new(),
                ips: self.net.function_ips.iter().map(|ip| (*ip, None)).collect(),
            }])
        }
        async fn security_groups(&self, _: &BTreeSet<String>) -> Result<Vec<SecurityGroup>, CloudError> {
            Ok(self.net.groups.clone())
        }
        async fn route_tables(&self, _: &BTreeSet<String>) -> Result<Vec<RouteTable>, CloudError> {
            self.net.tables.clone()
        }
        async fn may_tag(&self, _: &[String], _: &str) -> Result<(), CloudError> {
            self.net.may_tag.clone()
        }
    }

    const IPS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2)];

    fn scene() -> Scene {
        let mut world = Ec2::new(1);
        world.advance(SystemClock::start().now().as_millis() - 600_000);
        let policy = "interval=100ms fast=50ms";
        let cluster = ("eipwatch:cluster", "web");
        let address = world.add_address(tags([cluster, ("eipwatch:check", "http:80/"), ("eipwatch:policy", policy)]));
        let nodes = ["eu-west-1a", "eu-west-1b"].map(|zone| zone.to_owned());
        let [a, b] = nodes;
        let mut add = |zone: String, ip: Ipv4Addr| {
            world.add_instance(InstanceSpec {
                zone,
                private_ips: vec![ip],
                tags: tags([cluster]),
                ..Default::default()
            })
        };
        let nodes = [add(a, IPS[0]), add(b, IPS[1])];
        world.move_by_hand(&address, Place::Instance(&nodes[0]), world.now_ms());
        world.settle();
        let net = Net {
            world: None,
            groups_of: Vec::new(),
            function_ips: vec![Ipv4Addr::new(10, 9, 0, 5)],
            groups: seam::security_groups(),
            tables: Ok(seam::route_tables()),
            may_tag: Ok(()),
        };
        Scene { world, address, nodes, net, function: None }
    }

    fn diagnose(scene: Scene, down: Option<Ipv4Addr>) -> Diagnoses {
        let clock = SystemClock::start();
        let world = Rc::new(RefCell::new(scene.world));
        let cloud = EmbeddedCloud::new(world.clone(), 1, move || clock.now().as_millis());
        let backend = Here { cloud, prober: AllBut(down), settings: Settings::default() };
        let (seen, mut net) = (world.clone(), scene.net);
        net.world = Some(world.clone());
        let look = move |look: Look| seam::answer(&mut seen.borrow_mut(), 2, &look, clock.now().as_millis());
        let cloud = Both { cloud: Box::new(look), net };
        let keys = Settings::default().keys;
        let from = Sources { backend: &backend, cloud: &cloud, keys, function: scene.function };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let diagnoses = runtime.block_on(examine(&from, None, clock.now())).unwrap();
        assert!(world.borrow().calls().iter().all(|call| !call.changed), "nothing was changed");
        assert_eq!(world.borrow().holder(&scene.address), Some(&scene.nodes[0]));
        diagnoses
    }

    fn worst<'a>(diagnoses: &'a Diagnoses, check: &str) -> &'a Finding {
        let of = diagnoses.clusters[0].findings.iter().filter(|found| found.check == check);
        of.max_by_key(|found| found.level).unwrap_or_else(|| panic!("nothing about {check}: {diagnoses:#?}"))
    }

    #[test]
    fn a_pair_that_is_well_could_move() {
        let diagnoses = diagnose(scene(), None);
        let web = &diagnoses.clusters[0];
        assert!(diagnoses.ok && web.could_move, "{diagnoses:#?}");
        assert_eq!((web.detect_dead_ms, web.detect_hung_ms), (Some(200), Some(1_200)));
        let odd: Vec<_> =
            web.findings.iter().filter(|found| found.level != Level::Pass).map(|found| found.check).collect();
        assert_eq!(odd, ["let-in", "egress"], "no function was named; the holder's only public address: {web:#?}");
        assert_eq!(diagnoses.standing(), Standing::Well);
        for width in [60, 80, 100] {
            let text = render(&diagnoses, Page { paint: Paint::PLAIN, width });
            assert!(text.starts_with("web\n  pass tags: every tag can be read\n"), "{text}");
            assert!(text.contains("\n  It could move right now, to i-"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        }
    }

    fn function() -> Function {
        Function {
            name: "eipwatch".to_owned(),
            vpc: Some("vpc-00000000000000001".to_owned()),
            groups: BTreeSet::from(["sg-function".to_owned()]),
            timeout_s: 120,
            variables: BTreeMap::from([(env::WATCH_SECONDS.to_owned(), "55".to_owned())]),
        }
    }

    fn group(id: &str, ingress: Vec<Permission>, egress: Vec<Permission>) -> SecurityGroup {
        SecurityGroup { id: id.to_owned(), ingress, egress }
    }

    fn on(port: u16, peer: Peer) -> Vec<Permission> {
        vec![Permission { ports: Some((port, port)), peers: vec![peer] }]
    }

    #[test]
    fn whether_the_function_is_let_in_is_followed_both_ways() {
        let named = |id: &str| Peer::Group(id.to_owned());
        let all = || Peer::Block(Block::ALL);
        let look = |nodes: SecurityGroup, of_function: SecurityGroup| {
            let mut scene = scene();
            scene.net.groups_of = vec![vec!["sg-nodes"]; 2];
            scene.net.groups = vec![nodes, of_function];
            scene.function = Some(Ok(function()));
            worst(&diagnose(scene, None), "let-in").clone()
        };
        let lets_out = || group("sg-function", vec![], on(80, named("sg-nodes")));
        let well = look(group("sg-nodes", on(80, named("sg-function")), vec![]), lets_out());
        assert_eq!(well.level, Level::Pass, "{well:#?}");
        let block = Peer::Block(Block::parse("10.9.0.0/24").unwrap());
        assert_eq!(look(group("sg-nodes", on(80, block), vec![]), lets_out()).level, Level::Pass, "by where it is");
        let other_port = look(group("sg-nodes", on(443, all()), vec![]), lets_out());
        assert_eq!(other_port.level, Level::Fail);
        let cure = "aws ec2 authorize-security-group-ingress --group-id sg-nodes --protocol tcp --port 80 --source-group sg-function";
        assert_eq!(other_port.cure.as_deref(), Some(cure));
        let shut = look(group("sg-nodes", on(80, all()), vec![]), group("sg-function", vec![], on(443, all())));
        assert!(shut.level == Level::Fail && shut.text.contains("lets nothing out"), "{shut:#?}");
    }

    #[test]
    fn what_surrounds_the_function_is_looked_at() {
        let with = |change: &dyn Fn(&mut Function)| {
            let mut scene = scene();
            let mut function = function();
            change(&mut function);
            scene.function = Some(Ok(function));
            diagnose(scene, None)
        };
        let outside = with(&|function| function.vpc = None);
        assert!(worst(&outside, "let-in").text.contains("is in no VPC"), "{outside:#?}");
        assert!(!outside.ok);
        let short = with(&|function| function.timeout_s = 60);
        assert_eq!(worst(&short, "policy").level, Level::Warn, "{short:#?}");
        let sweeps = with(&|function| function.variables.clear());
        assert!(sweeps.clusters[0].outlook.contains("does not watch"), "{sweeps:#?}");
        let renamed =
            with(&|function| drop(function.variables.insert(env::TAG_PREFIX.to_owned(), "other:".to_owned())));
        assert_eq!(renamed.clusters, [], "the function's prefix counts, not this process's: {renamed:#?}");
        let mut scene = scene();
        scene.function = Some(Err("AccessDeniedException".to_owned()));
        let unread = worst(&diagnose(scene, None), "let-in").clone();
        assert!(unread.level == Level::Warn && unread.text.contains("AccessDeniedException"), "{unread:#?}");
    }

    #[test]
    fn a_private_subnet_is_a_black_hole() {
        let mut scene = scene();
        let private = RouteTable {
            id: "rtb-private".to_owned(),
            main: false,
            subnets: BTreeSet::from(["subnet-eu-west-1b".to_owned()]),
            routes: vec![Route { to: Block::ALL, via: "nat-1".to_owned(), active: true }],
            ..seam::route_tables().remove(0)
        };
        scene.net.tables.as_mut().unwrap().push(private);
        let peer = scene.nodes[1].to_string();
        let diagnoses = diagnose(scene, None);
        let found = worst(&diagnoses, "route");
        assert_eq!(found.level, Level::Fail);
        assert!(found.text.contains("rtb-private: 0.0.0.0/0 goes to nat-1"), "{found:#?}");
        assert!(found.text.starts_with(&peer), "the other one is well: {found:#?}");
        assert!(!diagnoses.ok && diagnoses.clusters[0].could_move, "EC2 would move it, and nobody would reach it");
    }

    #[test]
    fn what_may_not_be_read_is_said_and_is_no_alarm() {
        let mut scene = scene();
        let denied = CloudError::from_code("UnauthorizedOperation", "no", false);
        scene.net.tables = Err(denied.clone());
        scene.net.may_tag = Err(denied);
        let diagnoses = diagnose(scene, None);
        assert!(worst(&diagnoses, "route").cure.as_ref().unwrap().contains("ec2:DescribeRouteTables"));
        assert!(worst(&diagnoses, "memory").cure.as_ref().unwrap().contains("ec2:CreateTags"));
        assert!(diagnoses.ok);
    }

    /// What is found where EC2 refuses every move, with this code.
    fn refused(code: &'static str) -> Diagnoses {
        let mut scene = scene();
        scene.world.faults_mut().push(Rule::error(code).on(Api::AssociateAddress));
        diagnose(scene, None)
    }

    #[test]
    fn a_dry_run_that_failed_tells_nothing() {
        let diagnoses = refused("RequestLimitExceeded");
        let found = worst(&diagnoses, "move");
        assert!(
            found.level == Level::Warn && found.text.contains("is not known: a dry run of the move failed"),
            "{found:#?}"
        );
        let web = &diagnoses.clusters[0];
        assert_eq!((web.could_move, &*web.outlook), (false, "Whether it could move right now is not known."));
        // Of two addresses one cannot move: that is known.
        let mut scene = scene();
        let second = scene.world.add_address(tags([("eipwatch:cluster", "web")]));
        scene.world.settle();
        let throttled = Rule::error("RequestLimitExceeded").on(Api::AssociateAddress);
        let forbidden = Rule::error("UnauthorizedOperation").on(Api::AssociateAddress).naming(&second);
        scene.world.faults_mut().extend([forbidden, throttled]);
        let diagnoses = diagnose(scene, None);
        let web = &diagnoses.clusters[0];
        let moves = web.findings.iter().filter(|found| found.check == "move");
        let levels: BTreeSet<Level> = moves.map(|found| found.level).collect();
        assert_eq!(levels, BTreeSet::from([Level::Warn, Level::Fail]), "{web:#?}");
        assert_eq!(web.outlook, "It could NOT move right now.");
    }

    #[test]
    fn a_spare_is_enough_and_no_place_at_all_is_not() {
        let mut scene = scene();
        // Its one private address carries an address of its own.
        let own = scene.world.add_address(tags([("eipwatch:cluster", "web")]));
        scene.world.move_by_hand(&own, Place::Instance(&scene.nodes[1]), scene.world.now_ms());
        scene.world.settle();
        let diagnoses = diagnose(scene, None);
        let found = worst(&diagnoses, "private-address");
        assert!(found.level == Level::Fail && found.text.contains("carries another Elastic IP"), "{found:#?}");

        let mut scene = self::scene();
        let own = scene.world.add_address(tags([("eipwatch:cluster", "web")]));
        scene.world.move_by_hand(&own, Place::Instance(&scene.nodes[1]), scene.world.now_ms());
        let spare = InstanceSpec { tags: tags([("eipwatch:cluster", "web")]), ..Default::default() };
        scene.world.add_instance(spare);
        scene.world.settle();
        let diagnoses = diagnose(scene, None);
        assert_eq!(worst(&diagnoses, "private-address").level, Level::Pass, "{diagnoses:#?}");
        assert!(diagnoses.clusters[0].outlook.starts_with("They could move right now."), "{diagnoses:#?}");
    }

    #[test]
    fn what_aws_has_planned_is_told() {
        let mut scene = scene();
        let now_ms = scene.world.now_ms();
        let event = |description: &str| crate::embedded::ec2::ScheduledEvent {
            code: "system-reboot".to_owned(),
            description: description.to_owned(),
            not_before_ms: Some(now_ms + 86_400_000),
            not_after_ms: None,
        };
        scene.world.schedule_events(&scene.nodes[1], vec![event("[Completed] it was"), event("it will be")], now_ms);
        let diagnoses = diagnose(scene, None);
        let told: Vec<_> = diagnoses.clusters[0].findings.iter().filter(|one| one.check == "scheduled").collect();
        assert!(told.len() == 1 && told[0].level == Level::Warn && told[0].text.contains("system-reboot"), "{told:#?}");
    }

    #[test]
    fn nodes_that_admit_different_clients_are_told_apart() {
        let mut scene = scene();
        scene.net.groups_of = vec![vec!["sg-web", "sg-ssh"], vec!["sg-ssh"]];
        let diagnoses = diagnose(scene, None);
        let found = worst(&diagnoses, "clients");
        assert!(found.level == Level::Warn && found.text.contains("sg-ssh sg-web"), "{found:#?}");
    }

    #[test]
    fn who_else_manages_the_address_is_told() {
        for (key, value) in [("aws:cloudformation:stack-name", "net"), ("ManagedBy", "Terraform"), ("managed-by", "x")]
        {
            let mut scene = scene();
            let now_ms = scene.world.now_ms();
            let mut all = scene.world.tags(&scene.address).unwrap().clone();
            all.insert(key.to_owned(), value.to_owned());
            scene.world.set_tags(&scene.address, all, now_ms);
            scene.world.settle();
            let diagnoses = diagnose(scene, None);
            let found = worst(&diagnoses, "managers");
            assert!(found.level == Level::Warn && found.text.contains(value), "{found:#?}");
        }
    }

    #[test]
    fn times_that_do_not_fit_each_other_are_told() {
        for policy in ["interval=100ms fast=1s", "failback=auto stable=0s", "stable=2h window=10m"] {
            let mut scene = scene();
            let now_ms = scene.world.now_ms();
            let policy = tags([("eipwatch:cluster", "web"), ("eipwatch:check", "tcp:80"), ("eipwatch:policy", policy)]);
            scene.world.set_tags(&scene.address, policy, now_ms);
            scene.world.settle();
            let diagnoses = diagnose(scene, None);
            assert_eq!(worst(&diagnoses, "policy").level, Level::Warn, "{diagnoses:#?}");
        }
    }

    #[test]
    fn a_peer_that_is_down_is_found_and_nothing_could_move() {
        let diagnoses = diagnose(scene(), Some(IPS[1]));
        assert!(!diagnoses.ok && !diagnoses.clusters[0].could_move);
        assert_eq!(worst(&diagnoses, "health").level, Level::Fail);
        assert!(worst(&diagnoses, "health").text.contains("http:80/: refused"), "{diagnoses:#?}");
        assert_eq!(worst(&diagnoses, "move").level, Level::Fail);
        assert_eq!(diagnoses.standing(), Standing::Attention);
    }

    #[test]
    fn a_permission_that_is_missing_shows_before_it_is_needed() {
        let diagnoses = refused("UnauthorizedOperation");
        let found = worst(&diagnoses, "move");
        assert_eq!(found.level, Level::Fail);
        assert!(found.cure.as_ref().unwrap().contains("ec2:AssociateAddress"), "{found:#?}");
    }

    #[test]
    fn what_may_hurt_one_day_is_a_warning() {
        let mut scene = scene();
        let now_ms = scene.world.now_ms();
        let policy =
            tags([("eipwatch:cluster", "web"), ("eipwatch:mode", "manual"), ("eipwatch:policy", "fall=three")]);
        scene.world.set_tags(&scene.address, policy, now_ms);
        scene.world.remove_tag(&scene.address, "eipwatch:check", now_ms);
        scene.world.settle();
        let diagnoses = diagnose(scene, None);
        for check in ["tags", "checks", "mode"] {
            let found = worst(&diagnoses, check);
            assert_eq!((found.level, found.cure.is_some()), (Level::Warn, true), "{found:#?}");
        }
        assert!(diagnoses.ok, "warnings alone are no alarm: {diagnoses:#?}");
    }
}
