//! `eipwatch doctor`: could an address move right now, how long would it take, and what stands in the way.
//!
//! Reads and probes as `status` does, and asks EC2 by DryRun whether each address might be moved. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;

use super::ask::{Backend, Failed, Here};
use super::paint::Tone;
use super::render::{Page, clean};
use super::standing::Standing;
use crate::cloud::Cloud;
use crate::core::decide::{Kind, Why};
use crate::core::event::Command;
use crate::core::model::{CloudError, ClusterName, Look};
use crate::core::policy::Policy;
use crate::core::report::{AddressReport, ClusterReport};
use crate::core::snapshot::{self, Cluster, Facts, Node, Taken};
use crate::core::tags::{Check, Verdict};
use crate::core::time::{Time, duration_text};
use crate::drive::{Clock, SystemClock};
use crate::probe::Prober;

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
    /// Whether every address could move right now.
    pub could_move: bool,
    /// From a service's death to the decision, at most, in milliseconds; `None` where nothing is probed.
    pub detect_dead_ms: Option<u64>,
    /// The same of a service that hangs.
    pub detect_hung_ms: Option<u64>,
    /// All that was looked at.
    pub findings: Vec<Finding>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnoses {
    /// Whether nothing fails anywhere.
    pub ok: bool,
    /// Cluster by cluster.
    pub clusters: Vec<Diagnosis>,
    /// What is odd beyond any cluster.
    pub problems: Vec<String>,
}

impl Diagnoses {
    /// How it stands: warnings alone are no alarm.
    pub fn standing(&self) -> Standing {
        if self.ok { Standing::Well } else { Standing::Attention }
    }
}

/// Looks at one cluster, or at all.
///
/// # Errors
/// EC2 could not be read, or there is no such cluster.
pub async fn examine<C: Cloud, P: Prober>(
    here: &Here<C, P>,
    cluster: Option<ClusterName>,
) -> Result<Diagnoses, Failed> {
    let report = here.ask(&Command::Status { cluster }).await?;
    if !report.ok {
        return Err(Failed::NoAnswer(report.error.unwrap_or_else(|| "EC2 could not be observed".to_owned())));
    }
    let now = SystemClock::start().now();
    let (facts, clusters) = read(here, now)
        .await
        .map_err(|error| Failed::NoAnswer(format!("EC2 could not be read: {error}. Nothing was changed")))?;
    let mut diagnoses = Vec::new();
    for of in &report.clusters {
        let Some(cluster) = clusters.get(&of.cluster) else { continue };
        let mut found = Found(Vec::new());
        tags(&mut found, of);
        nodes(&mut found, of, cluster, now);
        addresses(&mut found, of, cluster, &facts);
        let mut could_move = !of.addresses.is_empty();
        for address in &of.addresses {
            could_move &= rehearse(here, &mut found, of, address).await?;
        }
        let (dead, hung) = times(&mut found, cluster);
        diagnoses.push(Diagnosis {
            cluster: of.cluster.clone(),
            could_move,
            detect_dead_ms: dead.map(millis),
            detect_hung_ms: hung.map(millis),
            findings: found.0,
        });
    }
    let ok = diagnoses.iter().all(|one| one.could_move && one.findings.iter().all(|found| found.level != Level::Fail));
    Ok(Diagnoses { ok, clusters: diagnoses, problems: report.problems })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

async fn read<C: Cloud, P>(
    here: &Here<C, P>,
    now: Time,
) -> Result<(Facts, BTreeMap<ClusterName, Cluster>), CloudError> {
    let keys = &here.settings.keys;
    let mut facts = Facts::default();
    for look in [Look::Addresses, Look::Instances(keys.cluster.clone()), Look::Status(Vec::new())] {
        facts.take(here.cloud.look(look).await?, now);
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
        let planned = node.status.iter().flat_map(|status| &status.scheduled);
        for event in planned {
            if event.description.starts_with("[Completed]") || event.description.starts_with("[Canceled]") {
                continue;
            }
            let at = event.not_before.map_or_else(|| "some time".to_owned(), |at| at.to_string());
            found.warn(
                "scheduled",
                format!("AWS has planned {} for {name} at {at}", event.code),
                "Move the address away before, at a time of your choosing: eipwatch drain.",
            );
        }
        let holds = of.addresses.iter().any(|address| address.holder.as_ref() == Some(&node.id));
        if !holds && node.state.is_some() && node.interfaces.public_ip.is_none() {
            found.warn(
                "egress",
                format!("{name} has no public address of its own while it does not hold the Elastic IP"),
                "If it needs the internet then, give it a NAT gateway, or a subnet that assigns public addresses.",
            );
        }
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
    let occupancy = facts.occupancy();
    let taken = Taken::new(&occupancy, None);
    for address in &cluster.addresses {
        let ip = address.public_ip;
        for node in cluster.nodes.values().filter(|node| node.member) {
            let name = name_of(node);
            if let (Some(of), Some(there)) = (&address.border_group, node.border_group())
                && of != there
            {
                found.fail(
                    "border-group",
                    format!("{ip} belongs to {of}, {name} to {there}"),
                    "An Elastic IP moves within one network border group only.",
                );
            }
            if address.holder.instance() == Some(&node.id) || node.state.is_none() {
                continue;
            }
            if let Err(why) = node.slot_for(&address.id, &taken) {
                let cure = "Give its primary interface one more private address.";
                found.fail("private-address", format!("{name} has no place for {ip}: {why}"), cure);
            }
        }
    }
    for address in of.addresses.iter().filter(|address| address.mode != "auto") {
        let cure = format!("When it may move again: eipwatch resume {}.", cluster.name);
        found.warn(
            "mode",
            format!("{} is in mode {}: it does not move by itself", address.public_ip, address.mode),
            cure,
        );
    }
}

/// Asks whether the address could move now: a move as a dry run, which has EC2 say whether it would be allowed.
async fn rehearse(
    backend: &impl Backend,
    found: &mut Found,
    of: &ClusterReport,
    address: &AddressReport,
) -> Result<bool, Failed> {
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
            let to = decision.to.as_ref().map(ToString::to_string).unwrap_or_default();
            found.pass("move", format!("{ip} could go to {to} now, and EC2 would allow it"));
            Ok(true)
        }
        Some(decision) => {
            let mut text = format!("{ip} could not move: {}", decision.text);
            for veto in &decision.vetoes {
                text.push_str(&format!(" {veto}."));
            }
            let cure = match decision.why {
                Why::NotPermitted => {
                    "Allow ec2:AssociateAddress on the address, the instances and their interfaces, as the template's policy does."
                }
                Why::Outsider => {
                    "Find out who associated it there; disassociate it if it should be the cluster's again."
                }
                _ => "See what speaks against each node.",
            };
            found.fail("move", text, cure);
            Ok(false)
        }
        None => {
            let why = report.error.unwrap_or_else(|| "no decision".to_owned());
            found.fail("move", format!("{ip} could not move: {why}"), "Try again.");
            Ok(false)
        }
    }
}

/// How long detection takes at most, by the policy: a service that refuses, one that hangs.
fn times(found: &mut Found, cluster: &Cluster) -> (Option<Duration>, Option<Duration>) {
    let policy = &cluster.policy;
    let probed =
        cluster.nodes.values().any(|node| node.checks.iter().any(|check| matches!(check, Check::Probe { .. })));
    if !probed {
        return (None, None);
    }
    if policy.fast > policy.interval {
        found.warn(
            "policy",
            format!("fast={} is slower than interval={}", duration_text(policy.fast), duration_text(policy.interval)),
            "A failing service is asked again at `fast`: set it below `interval`.",
        );
    }
    let dead = policy.interval + policy.fast * policy.fall.saturating_sub(1);
    let hung = dead + policy.timeout;
    found.pass(
        "time",
        format!(
            "in a watch, a dead service is found after at most {}, one that hangs after {}; then the move itself",
            duration_text(dead),
            duration_text(hung)
        ),
    );
    (Some(dead), Some(hung))
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
        let (tone, text) = match one.could_move {
            true => (Tone::Good, "It could move right now."),
            false => (Tone::Bad, "It could NOT move right now."),
        };
        page.wrap(&mut out, "  ", Some(tone), text);
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
    use crate::cli::paint::Paint;
    use crate::core::model::{Answer, ProbeTarget};
    use crate::core::watch::Settings;
    use crate::embedded::ec2::{Api, Id, InstanceSpec, Place, tags};
    use crate::embedded::{Ec2, EmbeddedCloud, Rule};

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
        Scene { world, address, nodes }
    }

    fn diagnose(scene: Scene, down: Option<Ipv4Addr>) -> Diagnoses {
        let clock = SystemClock::start();
        let world = Rc::new(RefCell::new(scene.world));
        let cloud = EmbeddedCloud::new(world.clone(), 1, move || clock.now().as_millis());
        let here = Here { cloud, prober: AllBut(down), settings: Settings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let diagnoses = runtime.block_on(examine(&here, None)).unwrap();
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
        assert!(web.findings.iter().all(|found| found.level == Level::Pass), "{:#?}", web.findings);
        assert_eq!(diagnoses.standing(), Standing::Well);
        let text = render(&diagnoses, Page { paint: Paint::PLAIN, width: 80 });
        assert!(text.starts_with("web\n  pass tags: every tag can be read\n"), "{text}");
        assert!(text.ends_with("  It could move right now.\n\n"), "{text}");
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
        let mut scene = scene();
        scene.world.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress));
        let diagnoses = diagnose(scene, None);
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
