//! The answer of an invocation, and its metrics.
//!
//! Architecture invariant: plain data. Metrics are made of the answer alone, so that the two cannot disagree.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::decide::{Decision, Why};
use super::model::{AllocationId, ClusterName, InstanceId};
use super::tags::Verdict;
use super::time::Time;
use super::verdict::Evidence;

/// What an invocation answers. The contract fixes its form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What woke it.
    pub trigger: String,
    /// Whether everything that was decided or asked for was done.
    pub ok: bool,
    /// What was not, in a sentence.
    pub error: Option<String>,
    /// Whether it only said what it would do.
    pub dry_run: bool,
    /// How many sweeps there were: 1, or in a watch one for each time that EC2 was read in full; 0 if it never was.
    pub sweeps: u32,
    /// Cluster by cluster, by name.
    pub clusters: Vec<ClusterReport>,
    /// What is odd, beyond any cluster.
    pub problems: Vec<String>,
    /// Whether EC2 could be read at all.
    #[serde(skip)]
    pub observed: bool,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// Its name.
    pub cluster: ClusterName,
    /// Whether some candidate could take each address if its holder failed now.
    pub ready: bool,
    /// Its addresses, by allocation id.
    pub addresses: Vec<AddressReport>,
    /// Its nodes, by instance id.
    pub nodes: Vec<NodeReport>,
    /// What is odd.
    pub problems: Vec<String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    /// The address that the world knows.
    pub public_ip: Ipv4Addr,
    /// Its allocation.
    pub allocation_id: AllocationId,
    /// The mode in force.
    pub mode: String,
    /// Who holds it at the end.
    pub holder: Option<InstanceId>,
    /// The last decision that was not to stay, or else the last.
    pub decision: Option<Decision>,
    /// All moves that were made or tried.
    pub moves: Vec<MoveReport>,
}

/// One move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    /// From whom.
    pub from: Option<InstanceId>,
    /// To whom.
    pub to: InstanceId,
    /// Why.
    pub why: Why,
    /// Whether EC2, asked again, showed the new holder.
    pub ok: bool,
    /// From the call to the reading that showed it, or to giving up.
    pub took_ms: u64,
    /// What went wrong, with AWS's own code.
    pub error: Option<String>,
    /// Given up because somebody else moved it, or because it was no longer needed: no failure.
    #[serde(skip)]
    pub benign: bool,
    /// From the first failed probe, or the first sign, to the decision.
    #[serde(skip)]
    pub detect_ms: Option<u64>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its instance id.
    pub id: InstanceId,
    /// Its `Name` tag.
    pub name: Option<String>,
    /// Its zone.
    pub az: Option<String>,
    /// What its checks add up to.
    pub verdict: Verdict,
    /// Since when.
    pub since: Option<String>,
    /// `active`, `drain`; what cannot be read is `null`.
    pub mode: Option<String>,
    /// What announced that it will stop.
    pub leaving: Option<String>,
    /// Whether it could receive an address of the cluster now.
    pub candidate: bool,
    /// Its priority.
    pub priority: u16,
    /// Check by check.
    pub evidence: Vec<Evidence>,
    /// The longest streak of failed probes.
    #[serde(skip)]
    pub longest_fail_streak: u32,
}

/// What only metrics need to know of an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// From start to end.
    pub took_ms: u64,
    /// Calls to AWS.
    pub api_calls: u64,
}

/// The namespace of all metrics.
pub const NAMESPACE: &str = "EipWatch";

/// Metrics of an invocation, named and with their CloudWatch unit.
pub const METRICS: &[(&str, &str)] =
    &[("Sweeps", "Count"), ("SweepMillis", "Milliseconds"), ("Problems", "Count"), ("ApiCalls", "Count")];

/// Metrics with the dimension `Cluster`.
pub const CLUSTER_METRICS: &[(&str, &str)] = &[
    ("HealthyNodes", "Count"),
    ("Candidates", "Count"),
    ("Ready", "Count"),
    ("Paused", "Count"),
    ("Moves", "Count"),
    ("MoveFailures", "Count"),
    ("Blocked", "Count"),
    ("Outsiders", "Count"),
    ("DetectMillis", "Milliseconds"),
    ("MoveMillis", "Milliseconds"),
    ("LongestFailStreak", "Count"),
];

impl Report {
    /// The moves that were decided and not made.
    pub fn failed_moves(&self) -> impl Iterator<Item = (&ClusterReport, &AddressReport, &MoveReport)> {
        self.clusters.iter().flat_map(|cluster| {
            cluster.addresses.iter().filter_map(move |address| {
                let last = address.moves.iter().rev().find(|tried| !tried.benign)?;
                (!last.ok).then_some((cluster, address, last))
            })
        })
    }

    /// What was measured: of the invocation, then of each cluster. Every way to publish metrics begins here.
    pub fn measured(&self, effort: Effort) -> Vec<Measured<'_>> {
        let problems = self.problems.len() + self.clusters.iter().map(|cluster| cluster.problems.len()).sum::<usize>();
        let of_all = [
            Amount::One(u64::from(self.sweeps)),
            Amount::One(effort.took_ms / u64::from(self.sweeps.max(1))),
            Amount::of(problems),
            Amount::One(effort.api_calls),
        ];
        let mut all = vec![Measured { cluster: None, amounts: named(METRICS, of_all) }];
        all.extend(self.clusters.iter().map(ClusterReport::measured));
        all
    }

    /// The metrics as lines of CloudWatch's Embedded Metric Format: one for the invocation, one for each cluster.
    pub fn metrics(&self, effort: Effort, now: Time) -> Vec<Value> {
        self.measured(effort).iter().map(|measured| emf(now, measured)).collect()
    }
}

impl ClusterReport {
    fn measured(&self) -> Measured<'_> {
        let moves = || self.addresses.iter().flat_map(|address| &address.moves);
        let count = |is: &dyn Fn(&AddressReport) -> bool| {
            Amount::of(self.addresses.iter().filter(|address| is(address)).count())
        };
        let decided = |why: Why| {
            move |address: &AddressReport| {
                address.decision.as_ref().is_some_and(|decision| {
                    decision.why == why || decision.would.as_ref().is_some_and(|would| would.why == why)
                })
            }
        };
        let blocked = |address: &AddressReport| {
            address.decision.as_ref().is_some_and(|decision| decision.kind == super::decide::Kind::Blocked)
        };
        let amounts = [
            Amount::of(self.nodes.iter().filter(|node| node.verdict == Verdict::Healthy).count()),
            Amount::of(self.nodes.iter().filter(|node| node.candidate).count()),
            Amount::One(u64::from(self.ready)),
            count(&|address| address.mode != "auto"),
            Amount::of(moves().filter(|made| made.ok).count()),
            Amount::of(moves().filter(|made| !made.ok && !made.benign).count()),
            count(&blocked),
            count(&decided(Why::Outsider)),
            Amount::Each(moves().filter_map(|made| made.detect_ms).collect()),
            Amount::Each(moves().filter(|made| made.ok).map(|made| made.took_ms).collect()),
            Amount::One(self.nodes.iter().map(|node| u64::from(node.longest_fail_streak)).max().unwrap_or_default()),
        ];
        Measured { cluster: Some(&self.cluster), amounts: named(CLUSTER_METRICS, amounts) }
    }
}

/// How much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A number.
    One(u64),
    /// A value for each time that it happened.
    Each(Vec<u64>),
}

impl Amount {
    fn of(count: usize) -> Amount {
        Amount::One(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

/// What was measured of an invocation, or of one cluster in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured<'a> {
    /// The cluster; `None`: the invocation.
    pub cluster: Option<&'a ClusterName>,
    /// By name and unit, in the order of [`METRICS`] or [`CLUSTER_METRICS`].
    pub amounts: Vec<(&'static str, &'static str, Amount)>,
}

fn named<const N: usize>(
    names: &'static [(&'static str, &'static str)],
    amounts: [Amount; N],
) -> Vec<(&'static str, &'static str, Amount)> {
    names.iter().zip(amounts).map(|((name, unit), amount)| (*name, *unit, amount)).collect()
}

fn emf(now: Time, measured: &Measured<'_>) -> Value {
    let value = |amount: &Amount| match amount {
        Amount::One(number) => Some(json!(number)),
        Amount::Each(list) => (!list.is_empty()).then(|| json!(list)),
    };
    let present: Vec<_> =
        measured.amounts.iter().filter_map(|(name, unit, amount)| Some((*name, *unit, value(amount)?))).collect();
    let definitions: Vec<Value> = present.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let dimensions = if measured.cluster.is_some() { json!([["Cluster"]]) } else { json!([[]]) };
    let mut line = json!({
        "_aws": {
            "Timestamp": now.as_millis(),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": definitions}]
        }
    });
    if let Some(object) = line.as_object_mut() {
        if let Some(cluster) = measured.cluster {
            object.insert("Cluster".to_owned(), json!(cluster.as_str()));
        }
        for (name, _, value) in present {
            object.insert(name.to_owned(), value);
        }
    }
    line
}
