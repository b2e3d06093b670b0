//! The core: what was seen goes in, what to do comes out. No clock, no I/O, no AWS, nothing random.

pub mod event;
pub mod model;
pub mod policy;
pub mod tags;
pub mod time;
