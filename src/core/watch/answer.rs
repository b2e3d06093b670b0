//! What an invocation answers: the report, and whether it has failed, in words for people.
//!
//! Architecture invariant: it only tells. Nothing is decided or changed here.

use std::collections::BTreeSet;

use crate::core::decide::{Kind, Why};
use crate::core::event::Trigger;
use crate::core::model::{AllocationId, ClusterName, InstanceId};
use crate::core::report::{AddressReport, ClusterReport, NodeReport, Report};
use crate::core::tags::{AddressMode, NodeMode, Verdict};
use crate::core::time::Time;

use super::Watch;
use super::cluster::Watched;
use super::command::Command;

/// What whoever gave a command is told to do while EC2 shows nothing.
const ONCE_IT_ANSWERS: &str = "Type it again once EC2 answers.";

impl Watch {
    /// The answer, as far as there is one.
    pub(super) fn report(&self, now: Time) -> Report {
        let clusters: Vec<ClusterReport> =
            self.clusters.values().map(|watched| self.cluster_report(watched, now)).collect();
        let mut problems: Vec<String> = self.loose_problems.clone();
        problems.extend(self.problems.iter().cloned());
        for (what, routine) in [
            ("DescribeAddresses", &self.looks.addresses),
            ("DescribeInstances", &self.looks.instances),
            ("DescribeInstanceStatus", &self.looks.status),
            ("DescribeAlarms", &self.looks.alarms),
            ("DescribeNetworkInterfaces", &self.looks.interfaces),
        ] {
            if let Some(error) = &routine.error {
                problems.push(format!("{what} failed: {error}"));
            }
        }
        let mut report = Report {
            trigger: self.triggers.first().map_or("manual", Trigger::name).to_owned(),
            ok: true,
            error: None,
            dry_run: self.dry_run,
            // What reads again without watching is one sweep.
            sweeps: self.first_read.map_or(0, |_| self.looks.rounds.max(1)),
            clusters,
            problems,
            observed: self.first_read.is_some(),
        };
        report.error = self.what_failed(&report, now);
        report.ok = report.error.is_none();
        report
    }

    fn what_failed(&self, report: &Report, now: Time) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(failure.clone());
        }
        if let Some(error) = &self.fatal {
            const CURE: &str = "Check the role's permissions and credentials";
            let undone = self.undone(
                report,
                &format!("{CURE}, then type it again."),
                &format!("Nothing more is moved. {CURE}."),
            );
            let open = self.open_move(report, now);
            return Some(format!("EC2 does not let eipwatch observe: {error}. {undone}{open}"));
        }
        if self.first_read.is_none() && !self.triggers.iter().all(|trigger| self.concerns_nobody(trigger)) {
            let error = self.looks.addresses.error.as_ref().or(self.looks.instances.error.as_ref());
            let why = error.map_or_else(|| "no answer in time".to_owned(), ToString::to_string);
            let whose = self.addresses_clusters();
            let undone = self.undone(report, ONCE_IT_ANSWERS, "Nothing was moved; the next sweep tries again.");
            return Some(format!("EC2 could not be observed{whose}: {why}. {undone}"));
        }
        if let (Some(error), Some(at)) = (&self.looks.addresses.error, self.facts.addresses_at) {
            let names: Vec<&str> = self.clusters.keys().map(ClusterName::as_str).collect();
            let undone = self.undone(report, ONCE_IT_ANSWERS, "The next sweep looks again.");
            let (names, open) = (names.join(", "), self.open_move(report, now));
            return Some(format!("EC2 could not be observed for {names} since {at}: {error}. {undone}{open}"));
        }
        self.unmade(report, None, now).or_else(|| self.order_lost(now))
    }

    /// What was being moved while nothing could be observed, as one more sentence; of what a command ordered enough has been said.
    fn open_move(&self, report: &Report, now: Time) -> String {
        let ordered = match &self.command {
            Some(Command::Move { id, .. }) => id.as_ref(),
            _ => None,
        };
        self.unmade(report, ordered, now).map_or_else(String::new, |unmade| format!(" {unmade}"))
    }

    /// The mode that a command's force has left an address in, as a sentence that goes on.
    fn forced_mode(&self, address: &AddressReport) -> Option<String> {
        let forced = matches!(&self.command, Some(Command::Move { order, .. }) if order.force);
        (forced && !self.settings.manual && address.mode.starts_with("manual")).then(|| {
            format!(
                "Its mode is {}: it does not fail over by itself, off a dead node neither, until `eipwatch resume`",
                address.mode
            )
        })
    }

    /// A move that was decided on or asked for, and not made, of any address but one.
    fn unmade(&self, report: &Report, but: Option<&AllocationId>, now: Time) -> Option<String> {
        let mut failed = report.failed_moves();
        if let Some((cluster, address, failed)) = failed.find(|(_, address, _)| Some(&address.allocation_id) != but) {
            let error = failed.error.as_deref().unwrap_or("EC2 does not show it");
            let label = |id: &InstanceId| {
                self.clusters.get(&cluster.cluster).map_or_else(|| id.to_string(), |of| of.cluster.label(id))
            };
            let in_doubt = self.in_doubt.contains(&address.allocation_id);
            let held = |holder: &&InstanceId| Some(*holder) == failed.from.as_ref() && !in_doubt;
            let holder = address.holder.as_ref().filter(held);
            let holder = holder.map_or_else(String::new, |holder| format!(", EC2 still shows it on {}", label(holder)));
            let (name, ip, to) = (&cluster.cluster, address.public_ip, label(&failed.to));
            let mode = self.forced_mode(address).map_or_else(String::new, |mode| format!(". {mode}"));
            let what = if in_doubt { "may have been moved" } else { "was NOT moved" };
            let from = failed.from.as_ref().filter(|_| in_doubt);
            let from = from.map_or_else(String::new, |from| format!(" from {}", label(from)));
            return Some(format!("{name}: {ip} {what} to {to}{from}{holder}: {error}{mode}"));
        }
        for watched in self.clusters.values() {
            let name = &watched.cluster.name;
            for ruling in watched.rulings.iter().filter(|ruling| Some(&ruling.address) != but) {
                let decision = &ruling.decision;
                let commanded =
                    matches!(&self.command, Some(Command::Move { id, .. }) if id.as_ref() == Some(&ruling.address));
                if decision.kind == Kind::Blocked && (decision.why == Why::NotPermitted || commanded) {
                    return Some(format!("{name}: {}", decision.text));
                }
                let over = self.stopped || self.fatal.is_some() || now >= self.deadline;
                if !over || !self.writes || watched.hold {
                    continue;
                }
                let ordered = watched.memory.get(&ruling.address).is_some_and(|memory| memory.order.is_some());
                let (why, text) = (self.ended_by(), &decision.text);
                let next = match (ordered, &self.fatal) {
                    (true, _) => " Type it again if it should still be moved.",
                    (false, None) => " The next sweep decides anew.",
                    // Nor will the next.
                    (false, Some(_)) => "",
                };
                if ruling.plan.is_some() {
                    let error =
                        self.looks.addresses.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
                    return Some(format!(
                        "{name}: NOT moved: {why} before the move could be sent{error}. It was decided: {text}{next}"
                    ));
                }
                if ruling.pending && ordered {
                    return Some(format!("{name}: NOT moved: {why} before that could be decided: {text}{next}"));
                }
            }
        }
        None
    }

    /// What a command asked for and was not done, as a sentence that goes on.
    pub(super) fn not_done(&self) -> String {
        let Some(command) = &self.command else { return "It was NOT done".to_owned() };
        let several = |name: &ClusterName| self.clusters.get(name).is_some_and(|of| of.cluster.addresses.len() > 1);
        command.not_done(several)
    }

    /// What was left undone because EC2 could not be read, and what to do: `again` for a command, `sweep` where nobody gave one.
    fn undone(&self, report: &Report, again: &str, sweep: &str) -> String {
        let Some(command) = &self.command else { return sweep.to_owned() };
        let ordered = |id: &Option<AllocationId>| {
            let mut all = report.clusters.iter().flat_map(|of| &of.addresses);
            all.find(|address| Some(&address.allocation_id) == id.as_ref())
        };
        match command {
            _ if self.first_read.is_none() => format!("{}; nothing was changed. {again}", self.not_done()),
            Command::Move { id, .. } if ordered(id).is_some_and(|of| of.moves.iter().any(|made| made.ok)) => {
                format!("The move was made before that. {sweep}")
            }
            Command::Move { id: Some(id), .. } if self.in_doubt.contains(id) => {
                "The move was sent, and may have been made: look before you type it again.".to_owned()
            }
            Command::Move { id, .. } => {
                let mode = ordered(id).and_then(|address| self.forced_mode(address));
                let mode = mode.map_or_else(String::new, |mode| format!(" {mode}."));
                format!("{}. {again}{mode}", self.not_done())
            }
            // Whether it has put an end to an announcement is told by a health tag, which may not be written yet.
            Command::Mode { node, mode: NodeMode::Active, .. } => {
                format!("Whether {node} is undrained is not known: look, and type it again if it is not.")
            }
            Command::Mode { .. } | Command::Pause { .. } => {
                format!("The mode is written; whether all that follows from it was done is not known. {sweep}")
            }
            Command::Status { .. } | Command::Sweep { .. } => again.to_owned(),
        }
    }

    /// A command `move` whose address ends elsewhere than was asked.
    fn order_lost(&self, now: Time) -> Option<String> {
        let Some(Command::Move { cluster: Some(name), id: Some(id), order, dry_run: false, .. }) = &self.command else {
            return None;
        };
        let lost = || {
            let ip = self.facts.addresses.get(id).map_or_else(String::new, |of| format!("{} ", of.public_ip));
            Some(format!("{name}: {ip}({id}) is no longer in the cluster. Look where it is before you type it again."))
        };
        let Some(watched) = self.clusters.get(name) else { return lost() };
        let Some(address) = watched.cluster.addresses.iter().find(|address| &address.id == id) else { return lost() };
        let made = watched.moves.get(id).and_then(|moves| moves.last());
        let elsewhere = watched.decisions.get(id).is_some_and(|decision| decision.why == Why::MovedElsewhere);
        let asked = order.to.as_ref().or_else(|| made.map(|made| &made.to));
        let there = asked.is_some() && watched.holder_now(address, now).as_ref() == asked;
        if there || (asked.is_none() && !elsewhere) {
            return None;
        }
        let (ip, who) = (address.public_ip, watched.held_by(address, now));
        let to = asked.map_or_else(String::new, |to| format!(" to {}", watched.cluster.label(to)));
        let moved = made.is_some_and(|made| made.ok && asked == Some(&made.to));
        let text = if moved { "was moved" } else { "was NOT moved" };
        let by = if moved || elsewhere { ". Another invocation or somebody moved it meanwhile" } else { "" };
        Some(format!("{name}: {ip} {text}{to}, but is held by {who}{by}. Type it again if it should still be moved."))
    }

    /// The clusters that addresses name, where nothing more than addresses could be read.
    fn addresses_clusters(&self) -> String {
        let tags = self.facts.addresses.values().filter_map(|address| address.tags.get(&self.settings.keys.cluster));
        let names: BTreeSet<&str> = tags.map(String::as_str).collect();
        if names.is_empty() {
            String::new()
        } else {
            format!(" for {}", names.into_iter().collect::<Vec<_>>().join(", "))
        }
    }

    fn cluster_report(&self, watched: &Watched, now: Time) -> ClusterReport {
        let candidates = watched.candidates();
        let addresses = watched
            .cluster
            .addresses
            .iter()
            .map(|address| {
                let mode =
                    if self.settings.manual { AddressMode::Manual { until: None } } else { address.mode.in_force(now) };
                AddressReport {
                    public_ip: address.public_ip,
                    allocation_id: address.id.clone(),
                    mode: mode.to_string(),
                    holder: watched.holder_now(address, now),
                    decision: watched
                        .decisions
                        .get(&address.id)
                        .or(watched
                            .rulings
                            .iter()
                            .find(|ruling| ruling.address == address.id)
                            .map(|ruling| &ruling.decision))
                        .cloned(),
                    moves: watched.moves.get(&address.id).cloned().unwrap_or_default(),
                }
            })
            .collect();
        let mut problems = watched.cluster.problems.clone();
        problems.extend(watched.notes.iter().cloned());
        let nodes = watched
            .cluster
            .nodes
            .values()
            .map(|node| {
                let finding = watched.findings.get(&node.id);
                if let Some(finding) = finding {
                    problems.extend(finding.problems.iter().cloned());
                }
                NodeReport {
                    id: node.id.clone(),
                    name: node.name.clone(),
                    az: node.zone.clone(),
                    verdict: finding.map_or(Verdict::Unknown, |finding| finding.verdict),
                    since: watched.since.get(&node.id).map(|since| since.verdict.to_string()),
                    mode: (node.mode != NodeMode::Unreadable).then(|| node.mode.as_str().to_owned()),
                    leaving: finding.and_then(|finding| finding.leaving.as_ref()).map(|leaving| leaving.kind.clone()),
                    candidate: candidates.contains(&node.id),
                    priority: node.priority,
                    evidence: finding.map(|finding| finding.evidence.clone()).unwrap_or_default(),
                    longest_fail_streak: watched.longest_fails(&node.id),
                }
            })
            .collect();
        for (id, moves) in &watched.moves {
            if watched.cluster.addresses.iter().any(|address| address.id == *id) {
                continue;
            }
            for made in moves {
                let what = match made.ok {
                    true => "was moved",
                    false if self.in_doubt.contains(id) => "may have been moved",
                    false if made.benign => "was not moved by this invocation",
                    false => "was NOT moved",
                };
                let error = made.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
                problems.push(format!(
                    "{id} {what} to {}{error}, and is no longer in cluster {}: that cluster watches and rescues it no more. Where it is: aws ec2 describe-addresses --allocation-ids {id}. If it should be watched again: aws ec2 create-tags --resources {id} --tags Key={},Value={}",
                    made.to, watched.cluster.name, self.settings.keys.cluster, watched.cluster.name
                ));
            }
        }
        let mut seen = BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        ClusterReport {
            cluster: watched.cluster.name.clone(),
            ready: !watched.rulings.is_empty() && watched.rulings.iter().all(|ruling| !ruling.candidates.is_empty()),
            addresses,
            nodes,
            problems,
        }
    }
}
