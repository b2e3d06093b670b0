//! What happened in a stretch of time, lane by lane: made by `simulate`, `replay` and `drill`, shown as text, JSON or a page.
//!
//! Architecture invariant: plain data. Who makes one knows nothing of how it is shown, and who shows one adds nothing to it.

pub mod build;
pub mod marks;
pub mod page;
pub mod text;
pub mod told;
pub mod tradeoff;
pub mod words;

use serde::Serialize;

use crate::core::tags::Verdict;
use crate::core::time::Time;

/// A stretch of time, told once for each policy that is compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    /// What this is, in a line: the scenario's name, the log's.
    pub title: String,
    /// What a reader must know before believing it: what is approximate, and how; what the log does not tell.
    pub notes: Vec<String>,
    /// When it begins.
    pub from: Time,
    /// When it ends.
    pub to: Time,
    /// As it was, and under other policies. The first is what the others are compared with.
    pub runs: Vec<Run>,
    /// Speed against needless moves, where many policies were tried.
    pub trade_off: Option<TradeOff>,
    /// How near a log came to moves that were not made.
    pub near: Option<NearMisses>,
}

/// Where a cluster came close to a move, and what follows for its policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearMisses {
    /// The longest failing streaks below `fall`, the longest first.
    pub streaks: Vec<Streak>,
    /// The slowest answers below `timeout`, the slowest first.
    pub slow: Vec<SlowAnswer>,
    /// A policy for each cluster, by name.
    pub suggestions: Vec<Suggestion>,
}

/// Probes that failed in a row, and did not make their node unhealthy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Streak {
    /// Of which cluster.
    pub cluster: String,
    /// The instance.
    pub node: String,
    /// Its `Name` tag.
    pub name: Option<String>,
    /// The check as its tag writes it.
    pub check: String,
    /// When the first was started.
    pub from: Time,
    /// When the last was answered.
    pub to: Time,
    /// How many.
    pub fails: u32,
    /// How many it would have taken.
    pub fall: u32,
    /// What they met, in a few words.
    pub text: String,
}

/// An answer that came late, and in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlowAnswer {
    /// Of which cluster.
    pub cluster: String,
    /// The instance.
    pub node: String,
    /// Its `Name` tag.
    pub name: Option<String>,
    /// The check as its tag writes it.
    pub check: String,
    /// About when it was asked.
    pub at: Time,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How long it might have taken, in milliseconds.
    pub timeout_ms: u64,
}

/// A policy that the log speaks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suggestion {
    /// For which cluster.
    pub cluster: String,
    /// The value for the tag `eipwatch:policy`; empty where all defaults are right.
    pub policy: String,
    /// Whether it is the one in force.
    pub current: bool,
    /// Why, in a sentence or some.
    pub text: String,
}

/// What speed costs: each policy that was tried, by how long clients wait and how often an address moves for nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TradeOff {
    /// Under what this was counted, in a line: the stated rate of transient faults, for how long, how many failures.
    pub text: String,
    /// One for each policy that was tried, in the order of trying.
    pub points: Vec<TradePoint>,
}

/// One policy of a [`TradeOff`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TradePoint {
    /// What distinguishes it: `fall=2 interval=500ms`.
    pub name: String,
    /// The median outage after a failure, in milliseconds; `None`: the address never moved.
    pub outage_ms: Option<u64>,
    /// Needless moves a day.
    pub needless_per_day: f64,
    /// Whether it is the one that the others are compared with.
    pub current: bool,
}

/// The same stretch of time under one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// What distinguishes it: `as it was`, `fall=2`.
    pub name: String,
    /// What it comes to, against the first, in a sentence: `It would have moved 0.5 s earlier, and twice for nothing.`
    pub text: String,
    /// What it comes to.
    pub figures: Figures,
    /// Cluster by cluster, by name.
    pub clusters: Vec<ClusterLanes>,
    /// What a reader wants to see first, in the order of time.
    pub incidents: Vec<Incident>,
}

/// What a run comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// From each fault of a holder, or the first sign of it, to the decision to move, in milliseconds.
    pub detect_ms: Vec<u64>,
    /// How long each outage was, in milliseconds.
    pub outage_ms: Vec<u64>,
    /// Moves that EC2 showed.
    pub moves: u32,
    /// Of these, off a holder that served, or would have served again by itself within the time that the move took.
    pub needless: u32,
    /// Moves that were tried in vain.
    pub failed: u32,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterLanes {
    /// Its name.
    pub cluster: String,
    /// Its addresses.
    pub addresses: Vec<AddressLane>,
    /// Its nodes.
    pub nodes: Vec<NodeLane>,
}

/// Who held an address, and what was decided about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AddressLane {
    /// The address that the world knows.
    pub public_ip: String,
    /// In the order of time, without overlap.
    pub held: Vec<Hold>,
    /// When clients were not served, as far as is known.
    pub outages: Vec<Outage>,
    /// Decisions other than that all is well.
    pub decisions: Vec<Moment>,
}

/// An address with one holder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hold {
    /// Since when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// The node's id; `None`: nobody.
    pub node: Option<String>,
    /// Why it came there, in the contract's word; `None`: it was there already.
    pub why: Option<String>,
    /// The same in a sentence.
    pub text: String,
}

/// A time without service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outage {
    /// Since when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// What was the matter.
    pub text: String,
}

/// Something at a point in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// When.
    pub at: Time,
    /// What, in a word: a `why` of the contract, `fault`, `probe-failed`, `passed`, `notice`, `reading`.
    pub kind: String,
    /// In a sentence.
    pub text: String,
    /// What speaks against each node, where something was decided.
    pub vetoes: Vec<String>,
}

/// What was thought of a node, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeLane {
    /// Its instance id.
    pub id: String,
    /// Its `Name` tag.
    pub name: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// In the order of time, without overlap.
    pub verdicts: Vec<Stretch>,
    /// Failed probes, readings, notices; in a simulation also what was done to it (`fault`).
    pub evidence: Vec<Moment>,
}

/// A node with one verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stretch {
    /// Since when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// What its checks added up to.
    pub verdict: Verdict,
    /// Beside it: `draining`, `leaving (spot)`.
    pub beside: Option<String>,
    /// Why.
    pub text: String,
}

/// Something that a reader wants to see first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// When it began.
    pub from: Time,
    /// When it was over.
    pub to: Time,
    /// Of which cluster.
    pub cluster: String,
    /// In a line: `web-1 unhealthy: 203.0.113.7 moved to web-2 in 1.6 s`.
    pub title: String,
}
