//! The tags, read and written: the whole of the configuration, and all that is remembered.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{InstanceId, Scheme};
use super::time::Time;

/// One question put to a node, beside `ec2`, which always applies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Check {
    /// `tcp:PORT`, `http:PORT/PATH`, `https:PORT/PATH`.
    Probe {
        /// What is asked.
        scheme: Scheme,
        /// The port.
        port: u16,
        /// With its leading `/`; empty for `tcp`, `/` where the tag has none.
        path: Arc<str>,
    },
    /// `heartbeat`.
    Heartbeat,
    /// `alarm:NAME`.
    Alarm(Arc<str>),
}

/// `eipwatch:mode` of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressMode {
    /// It moves by itself.
    #[default]
    Auto,
    /// Nothing moves by itself, until the time given if there is one.
    Manual {
        /// When it becomes `auto` again.
        until: Option<Time>,
    },
}

/// `eipwatch:mode` of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeMode {
    /// It may hold addresses.
    #[default]
    Active,
    /// It loses its addresses as soon as a candidate can take them.
    Drain,
    /// What the tag says cannot be read: no candidate, but not evicted.
    Unreadable,
}

/// What checks add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It serves.
    Healthy,
    /// A probe began to fail. Never written to a tag.
    Suspect,
    /// It does not serve.
    Unhealthy,
    /// Not enough is known.
    Unknown,
    /// It is stopping, stopped or terminated, or says so.
    Gone,
}

/// `eipwatch:state` of an address: what the watcher last made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The node that held it.
    pub holder: InstanceId,
    /// Since when.
    pub since: Time,
    /// The node that held it before; `none` in the tag where nobody did.
    pub from: Option<InstanceId>,
    /// Why it moved: one of the contract's words, or `external`.
    pub why: String,
    /// When it moved by itself (or was moved by others), oldest first: what the brake counts. At most [`MAX_MOVES_KEPT`].
    pub moves: Vec<Time>,
}

/// How many moves the state tag remembers: the largest `max_moves`.
pub const MAX_MOVES_KEPT: usize = 5;

/// `eipwatch:health` of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Since when.
    pub since: Time,
    /// The failing evidence, in tag characters.
    pub why: Option<String>,
    /// What announced that the node will stop.
    pub leaving: Option<Leaving>,
    /// `undrain` was said then: what was announced before counts no more.
    pub undrained: Option<Undrained>,
}

/// An announcement that a node will stop: `leaving=KIND until=T noticed=T`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaving {
    /// `spot`, `asg`, `agent`, or the code of a scheduled event.
    pub kind: String,
    /// When it stops, or the maintenance ends, where that is known.
    pub until: Option<Time>,
    /// When it was announced: an instance launched later is another life.
    pub noticed: Time,
}

/// `undrained=T`, and `undrained-seq=N` where the node's agent had announced its leaving in heartbeat N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undrained {
    /// When `undrain` was said.
    pub at: Time,
    /// The heartbeat that was overruled.
    pub seq: Option<u64>,
}

/// What a node's agent says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeatStatus {
    /// All local checks pass.
    Ok,
    /// One of them fails.
    Fail,
    /// The machine is about to stop.
    Leaving,
}

/// `eipwatch:heartbeat` of a node, written by its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Advances with every write.
    pub seq: u64,
    /// The node's own clock: proves nothing.
    pub at: Time,
    /// What the agent says.
    pub status: BeatStatus,
    /// How often it means to write.
    pub every: Duration,
    /// Why, where it is not `ok`.
    pub why: Option<String>,
}
