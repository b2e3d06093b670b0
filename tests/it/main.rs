//! The integration tests: one binary, so that it is linked once.
//!
//! `tidy` reads the sources and runs everywhere. The rest drives the real `eipwatch-lambda` from outside: `harness` plays
//! Lambda, EC2, CloudWatch and the nodes, and the tests assert what a user would notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[cfg(all(feature = "aws", target_os = "linux"))]
mod agent;
#[cfg(feature = "aws")]
mod faults;
#[cfg(feature = "aws")]
mod first_light;
#[cfg(feature = "aws")]
mod harness;
#[cfg(feature = "aws")]
mod infra;
mod reference;
mod scenarios;
mod tidy;
