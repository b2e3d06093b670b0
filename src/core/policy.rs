//! The policy of a cluster: how it is probed, when a verdict changes, what holds a move back.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which of a node's addresses is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The private address that carries, or would carry, the Elastic IP.
    #[default]
    Private,
    /// The node's public address.
    Public,
}

/// HTTP status codes that pass, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

/// The value of `eipwatch:policy`, complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Time between two probes of a node in a watch.
    pub interval: Duration,
    /// Time between the starts of probes while a verdict is changing; and how long a probe may stay unanswered before the
    /// next one is started beside it.
    pub fast: Duration,
    /// One probe's time limit.
    pub timeout: Duration,
    /// Consecutive failed probes to become unhealthy, per check.
    pub fall: u32,
    /// Consecutive passed probes to become healthy, per check.
    pub rise: u32,
    /// A heartbeat that has not advanced for so long has stopped.
    pub deadtime: Duration,
    /// HTTP status codes that pass.
    pub expect: StatusRange,
    /// Host header and TLS server name; `None`: the address probed.
    pub host: Option<Arc<str>>,
    /// The address probed.
    pub via: Via,
    /// Whether the address goes back to the preferred node by itself.
    pub failback: bool,
    /// How long the preferred node must have been healthy, and the last move past, before a failback; and how long the
    /// evidence must hold when `max_moves` is used up.
    pub stable: Duration,
    /// Automatic failovers and failbacks within `window` before the brake.
    pub max_moves: u32,
    /// The brake's window.
    pub window: Duration,
}
