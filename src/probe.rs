//! The seam to the nodes: one probe, from outside, over a new connection.

use crate::core::model::{Answer, ProbeTarget};

/// Whoever asks nodes whether they serve.
#[expect(async_fn_in_trait, reason = "driven on one thread: no future has to be Send")]
pub trait Prober {
    /// Makes one probe. Ends within the target's `timeout`, whatever the node does.
    async fn probe(&self, target: ProbeTarget) -> Answer;
}
