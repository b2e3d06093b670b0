//! Manual commands: what they name, and what they change before a sweep.
//!
//! Architecture invariant: a command moves nothing. It writes a mode or leaves an order, and [`decide`](crate::core::decide) does the rest.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::decide::Order;
use crate::core::event::{self, BadRequest, Trigger};
use crate::core::model::{AllocationId, ClusterName, InstanceId};
use crate::core::snapshot::Cluster;
use crate::core::tags::{AddressMode, BeatStatus, Keys, NodeMode, Undrained};
use crate::core::time::Time;

use super::cluster::Watched;

/// How many names an error lists.
const MAX_LISTED: usize = 20;

/// A command, its names resolved against what EC2 showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Status {
        cluster: Option<ClusterName>,
    },
    Sweep {
        cluster: Option<ClusterName>,
        dry_run: bool,
    },
    Move {
        cluster: Option<ClusterName>,
        address: Option<Ipv4Addr>,
        id: Option<AllocationId>,
        order: Order,
        dry_run: bool,
    },
    /// `drain` and `undrain`.
    Mode {
        node: InstanceId,
        mode: NodeMode,
        undrained: Option<Undrained>,
        write: Option<String>,
    },
    /// `pause` and `resume`: the addresses whose mode tag is to be written, and the value.
    Pause {
        cluster: Option<ClusterName>,
        mode: Pausing,
        writes: Vec<(AllocationId, String, String)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pausing {
    Pause(Option<Duration>),
    Resume,
}

impl Command {
    pub fn of(trigger: &Trigger) -> Option<Command> {
        let Trigger::Command(command) = trigger else { return None };
        Some(match command.clone() {
            event::Command::Status { cluster } => Command::Status { cluster },
            event::Command::Sweep { cluster, dry_run } => Command::Sweep { cluster, dry_run },
            event::Command::Move { cluster, address, to, force, dry_run } => {
                Command::Move { cluster, address, id: None, order: Order { to, force }, dry_run }
            }
            event::Command::Drain { node } => {
                Command::Mode { node, mode: NodeMode::Drain, undrained: None, write: None }
            }
            event::Command::Undrain { node } => {
                Command::Mode { node, mode: NodeMode::Active, undrained: None, write: None }
            }
            event::Command::Pause { cluster, r#for } => {
                Command::Pause { cluster, mode: Pausing::Pause(r#for), writes: Vec::new() }
            }
            event::Command::Resume { cluster } => Command::Pause { cluster, mode: Pausing::Resume, writes: Vec::new() },
        })
    }

    pub fn dry_run(&self) -> bool {
        matches!(self, Command::Sweep { dry_run: true, .. } | Command::Move { dry_run: true, .. })
    }

    pub fn is_move(&self) -> bool {
        matches!(self, Command::Move { .. })
    }

    /// Finds what the command names, or says what there is.
    pub fn resolve(
        &mut self,
        found: &BTreeMap<ClusterName, Cluster>,
        keys: &Keys,
        now: Time,
    ) -> Result<(), BadRequest> {
        match self {
            Command::Status { cluster: Some(name) } => the_cluster(Some(name), found, "status").map(|_| ()),
            Command::Sweep { cluster: Some(name), .. } => the_cluster(Some(name), found, "sweep").map(|_| ()),
            Command::Status { cluster: None } | Command::Sweep { cluster: None, .. } => Ok(()),
            Command::Move { cluster, address, id, .. } => {
                // An address names its cluster, too.
                let by_address =
                    address.and_then(|ip| found.values().find(|of| of.addresses.iter().any(|one| one.public_ip == ip)));
                let of = match (&cluster, by_address) {
                    (None, Some(of)) => of,
                    _ => the_cluster(cluster.as_ref(), found, "move")?,
                };
                let one = match (*address, of.addresses.as_slice()) {
                    (Some(ip), all) => all.iter().find(|one| one.public_ip == ip),
                    (None, [one]) => Some(one),
                    (None, _) => None,
                };
                let Some(one) = one else {
                    let listed = list(of.addresses.iter().map(|one| one.public_ip.to_string()));
                    let problem = match address {
                        Some(ip) => format!("{ip} is no address of cluster {}; its addresses are {listed}", of.name),
                        None => format!("cluster {} has several addresses or none ({listed}): name one", of.name),
                    };
                    return Err(BadRequest::new(
                        "address",
                        problem,
                        r#"{"action":"move","cluster":"web","address":"203.0.113.7"}"#,
                    ));
                };
                *id = Some(one.id.clone());
                *cluster = Some(of.name.clone());
                Ok(())
            }
            Command::Mode { node, mode, undrained, write } => {
                let Some(of) = found.values().find_map(|cluster| cluster.nodes.get(node).filter(|node| node.member))
                else {
                    let nodes = list(found.values().flat_map(|cluster| cluster.nodes.keys()).map(ToString::to_string));
                    let action = if *mode == NodeMode::Drain { "drain" } else { "undrain" };
                    let problem = format!("{node} is a node of no cluster; the nodes are {nodes}");
                    return Err(BadRequest::new(
                        "node",
                        problem,
                        format!(r#"{{"action":"{action}","node":"i-0123456789abcdef0"}}"#),
                    ));
                };
                if of.mode != *mode {
                    *write = Some(keys.mode.clone());
                }
                // Whether there is anything to put an end to shows once status checks are read.
                if *mode == NodeMode::Active {
                    let seq =
                        of.heartbeat.as_ref().filter(|beat| beat.status == BeatStatus::Leaving).map(|beat| beat.seq);
                    *undrained = Some(Undrained { at: now.whole_second(), seq });
                }
                Ok(())
            }
            Command::Pause { cluster, mode, writes } => {
                let action = if matches!(mode, Pausing::Resume) { "resume" } else { "pause" };
                let of = the_cluster(cluster.as_ref(), found, action)?;
                let value = match mode {
                    Pausing::Pause(length) => {
                        AddressMode::Manual { until: length.map(|length| (now + length).whole_second()) }
                    }
                    Pausing::Resume => AddressMode::Auto,
                };
                *writes = of
                    .addresses
                    .iter()
                    .filter(|address| address.mode != value)
                    .map(|address| (address.id.clone(), keys.mode.clone(), value.to_string()))
                    .collect();
                *cluster = Some(of.name.clone());
                Ok(())
            }
        }
    }

    /// That it was not carried out: a sentence that goes on. `several`: whether a cluster has more addresses than one, some of which
    /// may have got their mode.
    pub fn not_done(&self, several: impl Fn(&ClusterName) -> bool) -> String {
        let of = |cluster: &Option<ClusterName>| {
            cluster.as_ref().map_or_else(|| "The cluster".to_owned(), ToString::to_string)
        };
        match self {
            Command::Status { cluster } | Command::Sweep { cluster, dry_run: true } => match cluster {
                Some(name) => format!("Nothing is known of {name}"),
                None => "Nothing is known of any cluster".to_owned(),
            },
            Command::Move { dry_run: true, .. } => "What the move would do is NOT known".to_owned(),
            Command::Sweep { cluster, .. } => format!("{} was NOT swept", of(cluster)),
            Command::Move { cluster, address, order, .. } => {
                let what = match (address, cluster) {
                    (Some(ip), _) => ip.to_string(),
                    (None, Some(name)) => format!("The address of {name}"),
                    (None, None) => "The address".to_owned(),
                };
                let to = order.to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
                format!("{what} was NOT moved{to}")
            }
            Command::Mode { node, mode: NodeMode::Drain, .. } => format!("{node} was NOT drained"),
            Command::Mode { node, .. } => format!("{node} was NOT undrained"),
            Command::Pause { cluster, mode, .. } => {
                let what = if matches!(mode, Pausing::Resume) { "resumed" } else { "paused" };
                let whole = if cluster.as_ref().is_some_and(several) { " as a whole" } else { "" };
                format!("{} was NOT {what}{whole}", of(cluster))
            }
        }
    }

    pub fn concerns(&self, cluster: &Cluster) -> bool {
        match self {
            Command::Status { cluster: name } | Command::Sweep { cluster: name, .. } => {
                name.as_ref().is_none_or(|name| name == &cluster.name)
            }
            Command::Move { cluster: name, .. } | Command::Pause { cluster: name, .. } => {
                name.as_ref() == Some(&cluster.name)
            }
            Command::Mode { node, .. } => cluster.nodes.contains_key(node),
        }
    }

    /// Tells a cluster in scope what the command asks of it.
    pub fn apply(&self, watched: &mut Watched) {
        match self {
            Command::Move { id: Some(id), order, .. } => {
                watched.memory.entry(id.clone()).or_default().order = Some(order.clone());
            }
            Command::Mode { node, undrained: Some(undrained), .. } => {
                watched.nodes.entry(node.clone()).or_default().undrained = Some(*undrained);
            }
            _ => {}
        }
    }

    /// The tags to be written before the sweep: resource, key, value. Each is asked for once.
    pub fn writes(&mut self, _now: Time) -> Vec<(String, String, String)> {
        match self {
            Command::Mode { node, mode, write, .. } => {
                write.take().map(|key| (node.to_string(), key, mode.as_str().to_owned())).into_iter().collect()
            }
            Command::Pause { writes, .. } => std::mem::take(writes)
                .into_iter()
                .map(|(address, key, value)| (address.to_string(), key, value))
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn the_cluster<'a>(
    name: Option<&ClusterName>,
    found: &'a BTreeMap<ClusterName, Cluster>,
    action: &str,
) -> Result<&'a Cluster, BadRequest> {
    let example = format!(r#"{{"action":"{action}","cluster":"web"}}"#);
    let names = || list(found.keys().map(ToString::to_string));
    match name {
        Some(name) => found.get(name).ok_or_else(|| {
            BadRequest::new("cluster", format!("there is no cluster {name}; there are: {}", names()), example)
        }),
        None => {
            let mut all = found.values();
            match (all.next(), all.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(BadRequest::new(
                    "cluster",
                    "there is no cluster: no Elastic IP and no instance carries the cluster tag",
                    example,
                )),
                _ => Err(BadRequest::new(
                    "cluster",
                    format!("there are several clusters, name one: {}", names()),
                    example,
                )),
            }
        }
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = names.collect();
    let more = all.len().saturating_sub(MAX_LISTED);
    all.truncate(MAX_LISTED);
    match (all.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => all.join(", "),
        (false, more) => format!("{} and {more} more", all.join(", ")),
    }
}
