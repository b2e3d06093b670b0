//! The watch in virtual time: worlds in which everything can go wrong, and an independent judge of what it made of them.
//!
//! - [`world`] runs production [`Watch`](crate::core::watch::Watch)es against the embedded EC2 and simulated nodes. It decides nothing
//!   and judges nothing.
//! - [`chaos`] makes a world and its misfortunes out of a seed: one to four clusters under the same watches.
//! - [`check`] judges each cluster by EC2's truth and the nodes' services alone: it knows nothing of the core.
//!
//! Architecture invariant: no wall clock, no I/O, no thread. The same seed and the same actions give the same trace.

pub mod chaos;
pub mod check;
pub mod world;
