//! How near a log came to moves that were not made, and the policy that it speaks for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::known::Known;
use crate::core::model::{ClusterName, InstanceId};
use crate::core::policy::{self, Policy};
use crate::core::tags;
use crate::core::time::{Time, duration_text, millis};
use crate::timeline::build::in_words;
use crate::timeline::words::length;
use crate::timeline::{NearMisses, SlowAnswer, Streak, Suggestion};

/// How many of each kind are told.
pub const MAX_TOLD: usize = 10;
/// An answer that takes so small a part of its time limit is not slow.
const SLOW_SHARE: u64 = 10;
/// A node that serves again by itself within so long was not worth a move.
const PASSES_SOON: Duration = Duration::from_secs(5);
/// A log shorter than this says too little to make a policy quicker.
const ENOUGH: Duration = Duration::from_secs(86_400);
/// A time limit should be so many times what the slowest answer took.
const MARGIN: u64 = 3;
/// Time limits that are suggested, in milliseconds.
const TIMEOUTS_MS: [u64; 9] = [250, 500, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000];

/// What a cluster's log says in figures.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The longest streak after which the node was soon well by itself.
    longest: u32,
    /// How many such streaks.
    streaks: u32,
    /// Of these, how many took the node down.
    fell: u32,
    slowest_ms: u64,
    probed: bool,
}

/// Looks for near misses.
pub fn misses(known: &Known, at: Time, lasted: Duration, only: Option<&ClusterName>) -> NearMisses {
    let keys = known.keys();
    let mut policies: BTreeMap<ClusterName, Policy> = BTreeMap::new();
    for (address, _) in known.addresses(at) {
        let names = address.tags.get(&keys.cluster).map(|text| tags::cluster_names(text).0).unwrap_or_default();
        for name in names.into_iter().filter(|name| only.is_none_or(|only| only == name)) {
            // That of the smallest allocation id serves.
            policies.entry(name).or_insert_with(|| {
                policy::parse(address.tags.get(&keys.policy).map(String::as_str).unwrap_or_default()).0
            });
        }
    }
    let mut nodes: BTreeMap<InstanceId, (Option<String>, Vec<ClusterName>)> = BTreeMap::new();
    for (instance, _) in known.instances(at) {
        let names = instance.tags.get(&keys.cluster).map(|text| tags::cluster_names(text).0).unwrap_or_default();
        nodes.insert(instance.id.clone(), (instance.tags.get("Name").cloned(), names));
    }
    let mut all = NearMisses { streaks: Vec::new(), slow: Vec::new(), suggestions: Vec::new() };
    let mut seen: BTreeMap<ClusterName, Seen> = BTreeMap::new();
    let mut slow = Vec::new();
    for ((node, check), evidence) in &known.evidence {
        let Some((name, clusters)) = nodes.get(node) else { continue };
        for cluster in clusters {
            let Some(policy) = policies.get(cluster) else { continue };
            let figures = seen.entry(cluster.clone()).or_default();
            figures.probed = true;
            for (from, to, fails, answer, passed) in evidence.streaks() {
                let below = fails < policy.fall;
                if passed && (below || to.since(from) <= PASSES_SOON) {
                    figures.longest = figures.longest.max(fails);
                    figures.streaks += 1;
                    figures.fell += u32::from(!below);
                }
                if passed && below {
                    all.streaks.push(Streak {
                        cluster: cluster.to_string(),
                        node: node.to_string(),
                        name: name.clone(),
                        check: check.clone(),
                        from,
                        to,
                        fails,
                        fall: policy.fall,
                        text: in_words(answer),
                    });
                }
            }
            for (took_ms, at) in evidence.slowest() {
                figures.slowest_ms = figures.slowest_ms.max(took_ms);
                if took_ms.saturating_mul(SLOW_SHARE) >= millis(policy.timeout) {
                    slow.push((std::cmp::Reverse(took_ms), at, cluster, node, check));
                }
            }
        }
    }
    slow.sort_unstable();
    all.slow = slow
        .into_iter()
        .take(MAX_TOLD)
        .filter_map(|(std::cmp::Reverse(took_ms), at, cluster, node, check)| {
            Some(SlowAnswer {
                cluster: cluster.to_string(),
                node: node.to_string(),
                name: nodes.get(node)?.0.clone(),
                check: check.clone(),
                at,
                took_ms,
                timeout_ms: millis(policies.get(cluster)?.timeout),
            })
        })
        .collect();
    all.streaks.sort_by_key(|streak| (std::cmp::Reverse((streak.fails, streak.to.since(streak.from))), streak.from));
    all.streaks.truncate(MAX_TOLD);
    all.suggestions = policies
        .iter()
        .filter_map(|(cluster, policy)| {
            let figures = seen.get(cluster).filter(|figures| figures.probed)?;
            Some(suggest(cluster, policy, figures, lasted))
        })
        .collect();
    all
}

/// How long a node that hangs is held at most before a move is decided: until the first probe, to the start of the last, its time limit.
fn slowest_decision(policy: &Policy) -> Duration {
    policy.interval + policy.fast.min(policy.interval) * policy.fall.saturating_sub(1) + policy.timeout
}

fn suggest(cluster: &ClusterName, now: &Policy, seen: &Seen, lasted: Duration) -> Suggestion {
    let long_enough = lasted >= ENOUGH;
    let within = length(millis(lasted));
    let mut wanted = now.clone();
    let mut why = Vec::new();
    // One failure of margin above the longest streak that ended well.
    let fall = (seen.longest + 2).clamp(2, 20);
    let streaks = match seen.streaks {
        0 => "no probe failed but in failures that lasted".to_owned(),
        1 => {
            format!("1 streak of failures ended by itself; it had {} of the {} that fall takes", seen.longest, now.fall)
        }
        n => format!(
            "{n} streaks of failures ended by themselves; the longest had {}, and fall is {}",
            seen.longest, now.fall
        ),
    };
    match fall.cmp(&now.fall) {
        std::cmp::Ordering::Greater => {
            wanted.fall = fall;
            let fell = if seen.fell > 0 {
                format!(", and {} of them took a node down for nothing", seen.fell)
            } else {
                String::new()
            };
            why.push(format!("In {within} {streaks}{fell}: fall={fall} leaves one failure of margin."));
        }
        std::cmp::Ordering::Less if long_enough => {
            wanted.fall = fall;
            why.push(format!("In {within} {streaks}: fall={fall} is enough, and quicker."));
        }
        std::cmp::Ordering::Less => {
            why.push(format!("In {within} {streaks}; a day's log could say whether fall={fall} is enough."));
        }
        std::cmp::Ordering::Equal => why.push(format!("In {within} {streaks}: fall={fall} is right.")),
    }
    let enough_ms = seen.slowest_ms.saturating_mul(MARGIN);
    let timeout_ms = TIMEOUTS_MS.into_iter().find(|ms| *ms >= enough_ms).unwrap_or(30_000);
    let slowest = length(seen.slowest_ms);
    let (timeout, old) = (Duration::from_millis(timeout_ms), duration_text(now.timeout));
    let new = duration_text(timeout);
    match timeout.cmp(&now.timeout) {
        std::cmp::Ordering::Greater => {
            wanted.timeout = timeout;
            why.push(format!("The slowest answer took {slowest}, too near to the limit of {old}: timeout={new} is {MARGIN} times that."));
        }
        std::cmp::Ordering::Less if long_enough => {
            wanted.timeout = timeout;
            why.push(format!("The slowest answer took {slowest}: timeout={new} is still {MARGIN} times that, and finds a hung node sooner than {old}."));
        }
        _ => why.push(format!("The slowest answer took {slowest} of the {old} that it may take.")),
    }
    let current = wanted == *now;
    if !current {
        let (old, new) = (slowest_decision(now), slowest_decision(&wanted));
        let difference = length(millis(old.max(new) - old.min(new)));
        match new.cmp(&old) {
            std::cmp::Ordering::Less => why.push(format!("A hung node would be left up to {difference} sooner.")),
            std::cmp::Ordering::Greater => {
                why.push(format!("The price: a hung node would be left up to {difference} later."))
            }
            std::cmp::Ordering::Equal => {}
        }
    }
    Suggestion { cluster: cluster.to_string(), policy: wanted.differences(), current, text: why.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seen: Seen, hours: u64) -> Suggestion {
        suggest(&ClusterName::from("web"), &Policy::default(), &seen, Duration::from_secs(hours * 3_600))
    }

    #[test]
    fn a_policy_is_suggested_with_its_reason() {
        let quiet = Seen { slowest_ms: 40, probed: true, ..Seen::default() };
        let long = of(quiet, 100);
        assert_eq!(long.policy, "timeout=250ms fall=2");
        assert!(
            !long.current && long.text.contains("no probe failed") && long.text.contains("1.2 s sooner"),
            "{}",
            long.text
        );
        let short = of(quiet, 2);
        assert_eq!((short.policy.as_str(), short.current), ("", true), "two hours say too little");
        assert!(short.text.contains("a day's log"), "{}", short.text);

        let noisy = of(Seen { longest: 2, streaks: 5, slowest_ms: 700, probed: true, fell: 0 }, 2);
        assert_eq!(noisy.policy, "timeout=3s fall=4");
        assert!(
            noisy.text.contains("the longest had 2, and fall is 3") && noisy.text.contains("too near"),
            "{}",
            noisy.text
        );
        assert!(noisy.text.contains("2.5 s later"), "{}", noisy.text);

        let fits = of(Seen { longest: 1, streaks: 1, slowest_ms: 300, probed: true, fell: 0 }, 100);
        assert!(fits.current && fits.text.contains("fall=3 is right"), "{}", fits.text);
    }
}
