//! The integration tests: one binary, so that it is linked once.
//!
//! `tidy` and `reference` read the sources and the documents; `scenarios`, `hard_cases`, `contract`, `simulation`, `model` and `properties`
//! run the watch in virtual time, and `guide` shows it there: all of them work everywhere. The rest drives the real binaries from
//! outside: `harness` plays Lambda, EC2, CloudWatch, the metadata service and the nodes, and the tests assert what a user would notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[cfg(feature = "aws")]
mod agent;
#[cfg(feature = "aws")]
mod cli;
mod contract;
mod demo;
#[cfg(feature = "aws")]
mod faults;
#[cfg(feature = "aws")]
mod first_light;
mod guide;
mod hard_cases;
#[cfg(feature = "aws")]
mod harness;
#[cfg(feature = "aws")]
mod infra;
mod model;
mod page;
mod properties;
mod reference;
mod replay;
mod scenarios;
mod simulate;
mod simulation;
mod tidy;
