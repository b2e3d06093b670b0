//! A life, told to people.

use crate::core::log::Record;
use crate::embedded::ec2::Request;
use crate::sim::world::{AGENTS_FROM, START_MS};

use super::Chaos;

impl Chaos {
    pub(super) fn tell(&mut self, text: String) {
        if self.life.told {
            self.timeline.push((self.world.now_ms(), text));
        }
    }

    /// What the seed made.
    pub(super) fn tell_teams(&mut self) {
        self.tell(format!("seed {}: faults {:?}", self.life.seed, self.kinds));
        let lines: Vec<String> = self
            .teams
            .iter()
            .map(|team| {
                format!(
                    "{}: nodes {:?}, addresses {:?}, check '{}', policy '{}', slack {} ms",
                    team.name, team.nodes, team.addresses, team.checks, team.policy, team.bounds.slack_ms
                )
            })
            .collect();
        lines.into_iter().for_each(|line| self.tell(line));
    }

    pub(super) fn tell_world(&self, timeline: &mut Vec<(u64, String)>) {
        for placed in self.world.ec2.history() {
            let to = placed.association.as_ref().map(|at| format!("{:?} {}", at.instance, at.private_ip));
            let text = format!("EC2: {} is on {} ({:?})", placed.allocation, to.unwrap_or_default(), placed.cause);
            timeline.push((placed.at_ms.saturating_sub(START_MS), text));
        }
        for change in self.world.ec2.state_changes() {
            let text = format!("EC2: {} {}", change.instance, change.state.as_str());
            timeline.push((change.at_ms.saturating_sub(START_MS), text));
        }
        for (at_ms, call) in self.world.calls() {
            if call.api.changes() && call.caller < AGENTS_FROM {
                let text = match call.change.as_deref() {
                    Some(Request::CreateTags { resources, tags, .. }) => format!("{resources:?} {tags:?}"),
                    Some(Request::AssociateAddress { allocation, interface, private_ip, .. }) => {
                        format!("{allocation} to {interface} {private_ip}")
                    }
                    _ => String::new(),
                };
                let how = call.code.unwrap_or(if call.changed { "changed" } else { "no change" });
                timeline.push((at_ms, format!("  {}: {:?} {text}: {how}", call.caller, call.api)));
            }
        }
        for handle in 0..u32::try_from(self.world.invocations()).unwrap_or_default() {
            for record in self.world.log(handle) {
                let told = match record {
                    Record::Start { at, triggers, .. } => {
                        let names: Vec<&str> = triggers.iter().map(crate::core::event::Trigger::name).collect();
                        Some((at, format!("begins: {}", names.join(" "))))
                    }
                    Record::Verdict { at, node, from, to, why, .. } => {
                        Some((at, format!("{node}: {from:?} -> {to:?}: {why}")))
                    }
                    Record::Decision { at, decision, address, .. } => {
                        Some((at, format!("{address}: {:?} {}: {}", decision.kind, decision.why, decision.text)))
                    }
                    Record::Move { at, result, .. } => {
                        Some((at, format!("move to {} ok={} {:?}", result.to, result.ok, result.error)))
                    }
                    Record::ReadingFailed { at, look, error, .. } => Some((at, format!("{look:?}: {error}"))),
                    Record::End { at, report } => Some((at, format!("ends: ok={} {:?}", report.ok, report.error))),
                    _ => None,
                };
                if let Some((at, text)) = told {
                    timeline.push((at.as_millis().saturating_sub(START_MS), format!("  {handle}: {text}")));
                }
            }
        }
    }
}
