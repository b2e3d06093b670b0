//! eipwatch keeps an Elastic IP on a healthy EC2 instance.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(target_os = "linux")]
pub mod agent;
#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod cloud;
pub mod core;
pub mod demo;
pub mod drive;
pub mod embedded;
pub mod env;
#[cfg(feature = "aws")]
pub mod lambda;
#[cfg(feature = "aws")]
pub mod logging;
pub mod probe;
pub mod sim;
