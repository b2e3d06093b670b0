//! The world around the function: Lambda, EC2 behind a proxy that can fail, CloudWatch, and nodes on loopback addresses.

pub mod cloudwatch;
mod http;
pub mod moto;
pub mod node;
pub mod proxy;
pub mod runtime_api;
mod self_test;
pub mod world;
