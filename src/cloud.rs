//! The seam to EC2 and CloudWatch: what can be asked and done, and nothing of how.
//!
//! Architecture invariant: what stands behind it keeps no state that matters, retries nothing, and interprets nothing.

use crate::core::model::{Act, CloudError, Look, Seen};

/// EC2 and CloudWatch, real or embedded.
///
/// One call, one attempt (a [`Look`] may take several pages): retries are the core's. Every call ends by itself, within a few
/// seconds, in an answer or an error; what an error left behind is unknown.
#[expect(async_fn_in_trait, reason = "driven on one thread: no future has to be Send")]
pub trait Cloud {
    /// Where that is, for people: Region and endpoint. Empty where there is nothing to say of it.
    fn place(&self) -> String {
        String::new()
    }

    /// Asks.
    async fn look(&self, look: Look) -> Result<Seen, CloudError>;

    /// Changes something, or with `dry_run` asks whether it may: `Ok` then means that it would be allowed.
    async fn act(&self, act: Act) -> Result<(), CloudError>;
}
