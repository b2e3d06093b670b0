//! The core: what was seen goes in, what to do comes out. No clock, no I/O, no AWS, nothing random.
#![cfg_attr(not(test), deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types))]

pub mod decide;
pub mod event;
pub mod log;
pub mod model;
pub mod policy;
pub mod report;
pub mod snapshot;
pub mod tags;
pub mod time;
pub mod verdict;
pub mod watch;
