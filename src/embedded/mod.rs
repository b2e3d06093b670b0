//! EC2, and the little of CloudWatch that is needed, in memory: what demo, simulation and tests run on.
//!
//! It answers as real EC2 does where an emulator for tests would not: an Elastic IP that already sits on the private
//! address is displaced, termination drops the association, reads lag behind changes, calls are throttled. It has no
//! clock and no randomness of its own: every call is given the time, and the same seed and calls give the same answers.
//!
//! A scene is built with the `add_…` functions at the time last given to [`Ec2::advance`]; [`Ec2::settle`] then lets it
//! count as old, so that stale reads do not show an empty world.
//!
//! - [`ec2`] is the world, its calls, its operators and the truth about it.
//! - [`faults`] is what can go wrong, as [`faults::Rule`]s.
//! - [`seam`] is the only place that knows the words of [`crate::core`]. The rest knows nothing of the core, so that
//!   what is checked against the world's truth is checked independently.

pub mod ec2;
pub mod faults;
pub mod seam;
mod versions;

#[cfg(test)]
mod tests;

pub use ec2::Ec2;
pub use faults::{Fault, Rule};
pub use seam::EmbeddedCloud;
