//! The world around the function: Lambda, EC2 behind a proxy that can fail, CloudWatch, and nodes on loopback addresses.

pub mod cloudwatch;
pub mod http;
#[cfg(target_os = "linux")]
pub mod imds;
pub mod moto;
pub mod node;
pub mod proxy;
pub mod runtime_api;
mod self_test;
pub mod world;
