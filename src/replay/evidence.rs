//! What a log knows of a node at a time: from its failed probes and its runs of passed ones.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::log::Record;
use crate::core::model::{Answer, InstanceId};
use crate::core::time::{Time, millis};
use crate::timeline::build::Down;

/// How many failed probes in a row make an outage: a single one may be the network's or the prober's.
pub const MIN_FAILS_OF_OUTAGE: usize = 2;
/// A probe at the time of a run's slowest one, give or take so much, is as slow.
const SLOWEST_LASTS: Duration = Duration::from_millis(500);
/// How many runs may overlap, of watches that run beside each other.
const MAX_OVERLAP: usize = 8;

/// A failed probe, or a run of passed ones.
#[derive(Clone, Debug, PartialEq)]
struct Seg {
    /// When the first probe was started.
    from: Time,
    /// When the last one of a run was answered; of a failed probe, when it was started.
    to: Time,
    /// Of a failed probe, when it was answered.
    answered: Time,
    passes: bool,
    slowest: Duration,
    slowest_at: Option<Time>,
    mean: Duration,
    answer: Answer,
}

/// One check of one node.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    segs: Vec<Seg>,
}

/// All checks of all nodes.
pub type AllEvidence = BTreeMap<(InstanceId, String), Evidence>;

impl Evidence {
    /// Takes a record in; those that are no probes change nothing.
    pub fn take(all: &mut AllEvidence, record: &Record) {
        match record {
            Record::Probe { at, started, node, check, answer, ok: Some(false), .. } => {
                let seg = Seg {
                    from: *started,
                    to: *started,
                    answered: *at,
                    passes: false,
                    slowest: at.since(*started),
                    slowest_at: None,
                    mean: at.since(*started),
                    answer: answer.clone(),
                };
                all.entry((node.clone(), check.clone())).or_default().segs.push(seg);
            }
            Record::Passes { at, since, node, check, slowest_ms, slowest_at, mean_ms, answer, .. } => {
                let seg = Seg {
                    from: *since,
                    to: *at,
                    answered: *at,
                    passes: true,
                    slowest: Duration::from_millis(*slowest_ms),
                    slowest_at: *slowest_at,
                    mean: Duration::from_millis(mean_ms.unwrap_or(*slowest_ms)),
                    answer: answer.clone(),
                };
                all.entry((node.clone(), check.clone())).or_default().segs.push(seg);
            }
            _ => {}
        }
    }

    /// To be called once all is in.
    pub fn settle(&mut self) {
        self.segs.sort_by_key(|seg| seg.from);
    }

    /// What a probe would have brought back that starts then, and after how long. `None`: nothing is known at all.
    pub fn ask(&self, at: Time, timeout: Duration) -> Option<(Duration, Answer)> {
        let seg = self.at(at)?;
        if !seg.passes {
            return Some(match seg.answer {
                Answer::TimedOut => (timeout, Answer::TimedOut),
                _ if seg.slowest >= timeout => (timeout, Answer::TimedOut),
                ref answer => (seg.slowest, answer.clone()),
            });
        }
        let slow = seg.slowest_at.is_some_and(|of| of.since(at).max(at.since(of)) < SLOWEST_LASTS);
        let took = if slow { seg.slowest } else { seg.mean };
        Some(if took >= timeout { (timeout, Answer::TimedOut) } else { (took, seg.answer.clone()) })
    }

    /// What is known of that moment: a failed probe of just then, a run of passed ones around it, or whatever is nearer, what was
    /// seen before it or after.
    fn at(&self, at: Time) -> Option<&Seg> {
        let next = self.segs.partition_point(|seg| seg.from <= at);
        let before = self.segs.get(next.saturating_sub(MAX_OVERLAP)..next).unwrap_or_default();
        if let Some(exact) = before.iter().rev().find(|seg| !seg.passes && seg.from == at) {
            return Some(exact);
        }
        let failed_last = before.iter().rev().find(|seg| !seg.passes);
        if let Some(run) = before.iter().rev().find(|seg| seg.passes && at <= seg.to)
            // Of two watches at once, the one that saw it fail a moment ago is right.
            && failed_last.is_none_or(|failed| failed.from < run.from || at.since(failed.from) > SLOWEST_LASTS)
        {
            return Some(run);
        }
        let earlier = before.iter().max_by_key(|seg| seg.to);
        match (earlier, self.segs.get(next)) {
            (Some(one), Some(other)) if one.passes == other.passes => Some(one),
            (Some(one), Some(other)) => Some(if at.since(one.to) <= other.from.since(at) { one } else { other }),
            (one, other) => one.or(other),
        }
    }

    /// When it failed, for at least [`MIN_FAILS_OF_OUTAGE`] probes: from half-way between what was seen before and after.
    pub fn downs(&self, check: &str, end: Time) -> Vec<Down> {
        let mut found = Vec::new();
        let mut passed: Option<Time> = None;
        let mut streak: Vec<&Seg> = Vec::new();
        let half = |from: Time, to: Time| from + to.since(from) / 2;
        let mut close = |streak: &mut Vec<&Seg>, passed: Option<Time>, next: Option<Time>| {
            if let (Some(first), Some(last)) = (streak.first(), streak.last())
                && streak.len() >= MIN_FAILS_OF_OUTAGE
            {
                let from = passed.map_or(first.from, |passed| half(passed.min(first.from), first.from));
                let to = next.map_or(end, |next| half(last.from, next.max(last.from)));
                found.push(Down {
                    from,
                    to,
                    text: format!("{check} {}", crate::timeline::build::in_words(&first.answer)),
                });
            }
            streak.clear();
        };
        for seg in &self.segs {
            if seg.passes {
                close(&mut streak, passed, Some(seg.from));
                passed = Some(passed.map_or(seg.to, |passed| passed.max(seg.to)));
            } else if passed.is_none_or(|passed| seg.from >= passed) {
                streak.push(seg);
            }
        }
        close(&mut streak, passed, None);
        found
    }

    /// Streaks of failures: start of the first probe, answer to the last, how many, what they met; and whether a pass followed.
    pub fn streaks(&self) -> Vec<(Time, Time, u32, &Answer, bool)> {
        let mut found: Vec<(Time, Time, u32, &Answer, bool)> = Vec::new();
        let mut running = false;
        for seg in &self.segs {
            match found.last_mut() {
                Some(last) if running && !seg.passes => {
                    last.1 = last.1.max(seg.answered);
                    last.2 += 1;
                }
                Some(last) if running => {
                    last.4 = true;
                    running = false;
                }
                _ if !seg.passes => {
                    found.push((seg.from, seg.answered, 1, &seg.answer, false));
                    running = true;
                }
                _ => {}
            }
        }
        found
    }

    /// The slowest answer of each run, in milliseconds, and about when it was asked.
    pub fn slowest(&self) -> impl Iterator<Item = (u64, Time)> {
        self.segs.iter().filter(|seg| seg.passes).map(|seg| (millis(seg.slowest), seg.slowest_at.unwrap_or(seg.from)))
    }
}

/// Bad times put together, without overlap.
pub fn joined(mut downs: Vec<Down>) -> Vec<Down> {
    downs.sort_by_key(|down| down.from);
    let mut joined: Vec<Down> = Vec::new();
    for down in downs {
        match joined.last_mut() {
            Some(last) if down.from <= last.to => {
                last.to = last.to.max(down.to);
                if !last.text.contains(&down.text) {
                    last.text = format!("{}, {}", last.text, down.text);
                }
            }
            _ => joined.push(down),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{ClusterName, ProbeTarget, Scheme};

    fn at(ms: u64) -> Time {
        Time::from_millis(1_000_000 + ms)
    }

    fn failed(started: u64, took: u64, answer: Answer) -> Record {
        let target = ProbeTarget {
            scheme: Scheme::Tcp,
            ip: [10, 0, 0, 1].into(),
            port: 80,
            path: "".into(),
            host: None,
            timeout: Duration::from_secs(1),
        };
        Record::Probe {
            at: at(started + took),
            started: at(started),
            cluster: ClusterName::from("web"),
            node: InstanceId::from("i-1"),
            check: "tcp:80".to_owned(),
            target,
            answer,
            ok: Some(false),
        }
    }

    fn passed(from: u64, to: u64, slowest: (u64, u64)) -> Record {
        Record::Passes {
            at: at(to),
            since: at(from),
            cluster: ClusterName::from("web"),
            node: InstanceId::from("i-1"),
            check: "tcp:80".to_owned(),
            count: 9,
            slowest_ms: slowest.1,
            slowest_at: Some(at(slowest.0)),
            mean_ms: Some(3),
            answer: Answer::Connected,
        }
    }

    fn of(records: &[Record]) -> Evidence {
        let mut all = AllEvidence::new();
        records.iter().for_each(|record| Evidence::take(&mut all, record));
        let mut evidence = all.into_values().next().unwrap();
        evidence.settle();
        evidence
    }

    #[test]
    fn it_passes_in_runs_fails_between_failures_and_turns_half_way() {
        let evidence = of(&[
            passed(0, 9_000, (4_000, 700)),
            failed(10_000, 5, Answer::Refused),
            failed(10_500, 5, Answer::Refused),
            passed(14_500, 20_000, (15_000, 9)),
        ]);
        let second = Duration::from_secs(1);
        let passes = |ms: u64| evidence.ask(at(ms), second).unwrap().1 == Answer::Connected;
        for (ms, expected) in [
            (100, true),
            (9_400, true),
            (9_600, false),
            (10_200, false),
            (12_400, false),
            (12_600, true),
            (30_000, true),
        ] {
            assert_eq!(passes(ms), expected, "{ms}");
        }
        assert_eq!(evidence.ask(at(10_000), second), Some((Duration::from_millis(5), Answer::Refused)));
        assert_eq!(evidence.ask(at(4_100), second), Some((Duration::from_millis(700), Answer::Connected)));
        assert_eq!(evidence.ask(at(2_000), second), Some((Duration::from_millis(3), Answer::Connected)));
        let short = Duration::from_millis(200);
        assert_eq!(
            evidence.ask(at(4_100), short),
            Some((short, Answer::TimedOut)),
            "the slowest would not have passed"
        );
        let downs = evidence.downs("tcp:80", at(40_000));
        assert_eq!(downs, [Down { from: at(9_500), to: at(12_500), text: "tcp:80 refused".to_owned() }]);
        assert_eq!(evidence.streaks(), [(at(10_000), at(10_505), 2, &Answer::Refused, true)]);
        assert_eq!(Evidence::default().ask(at(0), second), None);
    }

    #[test]
    fn one_lost_probe_is_no_outage_and_an_unended_one_lasts() {
        let lost = of(&[passed(0, 9_000, (0, 1)), failed(10_000, 5, Answer::TimedOut), passed(10_500, 20_000, (0, 1))]);
        assert_eq!(lost.downs("tcp:80", at(40_000)), []);
        let dead = of(&[failed(10_000, 1_000, Answer::TimedOut), failed(10_500, 1_000, Answer::TimedOut)]);
        assert_eq!(dead.downs("tcp:80", at(40_000))[0].to, at(40_000));
        // A longer time limit would have failed as well, as far as is known; and later.
        let long = Duration::from_secs(3);
        assert_eq!(dead.ask(at(10_500), long), Some((long, Answer::TimedOut)));
    }
}
