//! What an answer means for whoever asked: the exit status.

use crate::core::decide::{Decision, Kind, Why};
use crate::core::report::{AddressReport, ClusterReport, NodeReport, Report};
use crate::core::tags::Verdict;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All is well, or what was asked for was done.
    Well,
    /// A cluster needs attention.
    Attention,
    /// It failed.
    Failed,
}

impl Standing {
    /// The exit status.
    pub fn code(self) -> u8 {
        match self {
            Standing::Well => 0,
            Standing::Failed => 1,
            Standing::Attention => 3,
        }
    }
}

/// How an answer stands. `asked_to_change`: the command was to change something; then it is not measured by what else is odd.
pub fn of(report: &Report, asked_to_change: bool) -> Standing {
    if !report.ok {
        return Standing::Failed;
    }
    let observed = report.clusters.iter().any(|cluster| cluster_needs_attention(cluster, asked_to_change));
    if observed || (!asked_to_change && !report.problems.is_empty()) { Standing::Attention } else { Standing::Well }
}

/// Whether somebody should look at a cluster. After a move that succeeded only its addresses are looked at: that the
/// node it left is unhealthy is why it moved.
pub fn cluster_needs_attention(cluster: &ClusterReport, addresses_only: bool) -> bool {
    if cluster.addresses.iter().any(|address| address_needs_attention(address, addresses_only)) {
        return true;
    }
    let moved = cluster.addresses.iter().flat_map(|address| &address.moves).any(|made| made.ok);
    if addresses_only || moved {
        return false;
    }
    !cluster.ready || !cluster.problems.is_empty() || cluster.nodes.iter().any(node_needs_attention)
}

fn address_needs_attention(address: &AddressReport, asked_to_change: bool) -> bool {
    let concerning = |decision: &Decision| match decision.kind {
        Kind::Blocked => true,
        Kind::Stay => matches!(decision.why, Why::NoCandidate | Why::Outsider),
        // Decided, but only told.
        Kind::Move => address.moves.is_empty() && !asked_to_change,
    };
    let decision = address.decision.as_ref();
    address.holder.is_none()
        || decision.is_some_and(concerning)
        || decision.and_then(|decision| decision.would.as_deref()).is_some_and(|would| would.kind != Kind::Stay)
}

/// Whether somebody should look at a node. One that is drained or leaving may be down.
pub fn node_needs_attention(node: &NodeReport) -> bool {
    let expected = node.mode.as_deref() == Some("drain") || node.leaving.is_some();
    match node.verdict {
        Verdict::Healthy => node.mode.is_none(),
        Verdict::Suspect => true,
        Verdict::Unhealthy | Verdict::Unknown | Verdict::Gone => !expected,
    }
}
