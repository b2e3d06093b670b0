//! What wakes the function: every payload of the contract, read tolerantly where AWS wrote it and strictly where a
//! person did.
//!
//! The envelope decides what a payload is (`detail-type` and `source`, `alarmData`, `Records`, `action`, `shard`), and
//! only then is that one kind read. Events of AWS are read field by field, never as a whole: a field that is not needed
//! may be missing or of any type. Kinds are never tried in turn, since a loose one would accept the events of another.
//!
//! Architecture invariant: what a payload means for a cluster is not known here. Nothing is looked up, and no event is trusted for more than it says.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{AllocationId, ClusterName, InstanceId, InstanceState, Tags};
use super::tags::{cluster_name, instance_id, quote};
use super::time::Time;

/// SNS records in one payload. SNS sends one.
pub const MAX_SNS_RECORDS: usize = 10;
/// Length of an SNS message: SNS's own limit.
pub const MAX_SNS_MESSAGE_BYTES: usize = 256 * 1024;
/// Instances, metrics and dimensions that are read of one event. What is beyond is left to the next scheduled sweep.
pub const MAX_INSTANCES: usize = 1_000;
/// Tags and changed tag keys that are read of one event; EC2 allows 50 on a resource, beside AWS's own.
pub const MAX_TAGS: usize = 200;
/// The shortest and the longest pause, `for` of the command `pause`.
pub const PAUSE_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
/// The most parts that the clusters can be divided into.
pub const MAX_SHARDS: u16 = 1_024;

/// How much is kept of a field's name or a word of AWS.
const MAX_WORD_CHARS: usize = 80;

/// One thing that woke the function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A schedule: watch all clusters, or those of a shard.
    Schedule {
        /// Given in the payload, ahead of `EIPWATCH_SHARD`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<Shard>,
    },
    /// An instance changed its state.
    InstanceState {
        /// The instance.
        instance: InstanceId,
        /// Never [`InstanceState::Unknown`].
        state: InstanceState,
        /// When, if the event says so readably.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Time>,
    },
    /// EC2 will take a Spot instance back in about two minutes.
    Spot {
        /// The instance.
        instance: InstanceId,
        /// `terminate`, `stop`, `hibernate`; `unknown` where the event does not say.
        action: String,
        /// When it was announced, if the event says so readably.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Time>,
    },
    /// EC2 may take a Spot instance back; nothing is decided yet.
    Rebalance {
        /// The instance.
        instance: InstanceId,
    },
    /// An Auto Scaling group is about to terminate an instance.
    Lifecycle {
        /// The instance.
        instance: InstanceId,
        /// When it was announced, if the event says so readably.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Time>,
    },
    /// AWS has planned something for instances. The truth is what DescribeInstanceStatus shows.
    Health {
        /// The instances, each once, at least one.
        instances: Vec<InstanceId>,
        /// The event's type code; empty where there is none.
        code: String,
    },
    /// A CloudWatch alarm changed its state, to whatever: the state to go by is the one CloudWatch shows when asked.
    Alarm {
        /// The alarm's name.
        name: String,
        /// From `InstanceId` dimensions, each once; none for a composite alarm.
        instances: Vec<InstanceId>,
    },
    /// Tags of a resource changed.
    Tag {
        /// The resource.
        resource: TaggedResource,
        /// The keys that were added, changed or removed.
        changed: Vec<String>,
        /// All tags of the resource after the change.
        tags: Tags,
    },
    /// Somebody asked.
    #[serde(rename = "manual")]
    Command(Command),
}

impl Trigger {
    /// As the answer's `trigger` names it.
    pub fn name(&self) -> &'static str {
        match self {
            Trigger::Schedule { .. } => "schedule",
            Trigger::InstanceState { .. } => "instance-state",
            Trigger::Spot { .. } => "spot",
            Trigger::Rebalance { .. } => "rebalance",
            Trigger::Lifecycle { .. } => "lifecycle",
            Trigger::Health { .. } => "health",
            Trigger::Alarm { .. } => "alarm",
            Trigger::Tag { .. } => "tag",
            Trigger::Command(_) => "manual",
        }
    }
}

/// What carries the tags that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaggedResource {
    /// An EC2 instance.
    Instance(InstanceId),
    /// An Elastic IP.
    Address(AllocationId),
    /// Something that no cluster is made of.
    Other,
}

/// A manual command. Serialised, it is the payload that it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// Observe and report; write and move nothing.
    Status {
        /// `None`: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<ClusterName>,
    },
    /// One sweep now.
    Sweep {
        /// `None`: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<ClusterName>,
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
    },
    /// Move an address.
    Move {
        /// `None`: the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<ClusterName>,
        /// `None`: the only one of the cluster.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
        /// `None`: the best candidate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<InstanceId>,
        /// Even if `to` is no candidate.
        #[serde(default)]
        force: bool,
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
    },
    /// Take a node out of service.
    Drain {
        /// The node.
        node: InstanceId,
    },
    /// Take a node back into service.
    Undrain {
        /// The node.
        node: InstanceId,
    },
    /// Let nothing move by itself.
    Pause {
        /// `None`: the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<ClusterName>,
        /// Within [`PAUSE_RANGE`]; `None`: until `resume`.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "duration_word")]
        r#for: Option<Duration>,
    },
    /// Let addresses move by themselves again.
    Resume {
        /// `None`: the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<ClusterName>,
    },
}

/// One part of all clusters, `0/4`: those whose name's FNV-1a hash of 64 bits, modulo 4, is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u16,
    count: u16,
}

impl Shard {
    /// Reads `INDEX/COUNT`, where INDEX is below COUNT and COUNT is 1 to [`MAX_SHARDS`].
    ///
    /// # Errors
    /// A fragment that names the text and says what it should be.
    pub fn parse(text: &str) -> Result<Shard, String> {
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse::<u16>().ok(),
            false => None,
        };
        text.trim()
            .split_once('/')
            .and_then(|(index, count)| Some(Shard { index: number(index)?, count: number(count)? }))
            .filter(|shard| shard.index < shard.count && shard.count <= MAX_SHARDS)
            .ok_or_else(|| {
                format!(
                    "{} is not a shard INDEX/COUNT such as 0/4, INDEX below COUNT, COUNT 1 to {MAX_SHARDS}",
                    quote(text)
                )
            })
    }

    /// Which part.
    pub fn index(self) -> u16 {
        self.index
    }

    /// Of how many.
    pub fn count(self) -> u16 {
        self.count
    }

    /// Whether the cluster belongs to this part.
    pub fn covers(&self, cluster: &ClusterName) -> bool {
        fnv1a_64(cluster.as_str().as_bytes()) % u64::from(self.count) == u64::from(self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> String {
        shard.to_string()
    }
}

impl TryFrom<String> for Shard {
    type Error = String;
    fn try_from(text: String) -> Result<Shard, String> {
        Shard::parse(&text)
    }
}

/// The FNV-1a hash of 64 bits, as draft-eastlake-fnv defines it; the contract names it, so it never changes.
fn fnv1a_64(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// What to do with a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// At least one; several only for several SNS records.
    Run(Vec<Trigger>),
    /// Succeed and do nothing: an error would only be retried. The text says what it was, or which field is missing.
    Ignored(String),
}

/// A payload that is none of the contract's, or a command that is not written as it should be. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {problem}. Nothing was changed. A correct payload: {example}")]
pub struct BadRequest {
    /// The field at fault, as the payload names it.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// A payload that is right.
    pub example: String,
}

impl BadRequest {
    /// From its parts, for what only shows once EC2 has been read: a `cluster` that does not exist, or is needed.
    pub fn new(field: impl Into<String>, problem: impl Into<String>, example: impl Into<String>) -> BadRequest {
        BadRequest { field: field.into(), problem: problem.into(), example: example.into() }
    }
}

/// Reads what the function, or a command of the command line, was given.
///
/// # Errors
/// [`BadRequest`] if it is none of the contract's payloads, a command or a shard not written as it should be, or
/// `Records` of another service than SNS. An event of EventBridge fails only for its `shard`: a schedule that watches
/// nothing must not look well. What SNS carries fails as it would by itself, but only if nothing beside it can be run.
pub fn parse(payload: &Value) -> Result<Request, BadRequest> {
    let read = match (Kind::of(payload), payload.get("Records")) {
        (Some(kind), _) => read(kind, payload),
        (None, Some(records)) => return sns(records),
        (None, None) => Err(Miss::Bad(unrecognised(payload))),
    };
    match read {
        Ok(trigger) => Ok(Request::Run(vec![trigger])),
        Err(Miss::Ignored(text)) => Ok(Request::Ignored(text)),
        Err(Miss::Bad(bad)) => Err(bad),
    }
}

/// What a payload is, by its envelope alone.
#[derive(Clone, Copy)]
enum Kind {
    Event(&'static EventType),
    ForeignEvent,
    AlarmCall,
    Command,
    Shard,
}

impl Kind {
    fn of(payload: &Value) -> Option<Kind> {
        let has = |field: &str| payload.get(field).is_some_and(|value| !value.is_null());
        if let Some(detail_type) = text(payload, "/detail-type") {
            // Documentation prints some events without `source`, and people send them so.
            let known = EVENT_TYPES.iter().find(|known| known.detail_type == detail_type);
            return match known {
                Some(known) => Some(Kind::Event(known)),
                None => text(payload, "/source").map(|_| Kind::ForeignEvent),
            };
        }
        let kinds = [("alarmData", Kind::AlarmCall), ("action", Kind::Command), ("shard", Kind::Shard)];
        kinds.into_iter().find(|(field, _)| has(field)).map(|(_, kind)| kind)
    }
}

/// Why a payload gives no trigger.
enum Miss {
    Ignored(String),
    Bad(BadRequest),
}

fn ignored<T>(text: String) -> Result<T, Miss> {
    Err(Miss::Ignored(text))
}

fn read(kind: Kind, payload: &Value) -> Result<Trigger, Miss> {
    match kind {
        Kind::Event(event) => {
            expect_source(payload, event.detail_type, event.sources)?;
            (event.read)(payload)
        }
        Kind::ForeignEvent => ignored(format!(
            "an event {} from {} is nothing that this function acts on",
            quote(text(payload, "/detail-type").unwrap_or_default()),
            quote(text(payload, "/source").unwrap_or_default()),
        )),
        Kind::AlarmCall => {
            expect_source(payload, "alarm's call", &[CLOUDWATCH])?;
            alarm(payload, "/alarmData")
        }
        Kind::Command => command(payload).map(Trigger::Command).map_err(Miss::Bad),
        Kind::Shard => {
            if let Some(field) = fields(payload).map(|(field, _)| field).find(|field| *field != "shard") {
                let problem = "not a field of a schedule's payload beside `shard`: it has no other";
                return Err(Miss::Bad(BadRequest::new(cut(field), problem, SHARD_EXAMPLE)));
            }
            schedule(payload)
        }
    }
}

const SCHEDULE_EXAMPLE: &str = r#"{"source":"aws.events","detail-type":"Scheduled Event","detail":{}}"#;
const SHARD_EXAMPLE: &str = r#"{"shard":"0/4"}"#;
const SNS_EXAMPLE: &str = r#"{"Records":[{"EventSource":"aws:sns","Sns":{"Message":"{\"action\":\"status\"}"}}]}"#;
const STATUS_EXAMPLE: &str = r#"{"action":"status"}"#;

fn unrecognised(payload: &Value) -> BadRequest {
    if !payload.is_object() {
        return BadRequest::new("payload", "not a JSON object", STATUS_EXAMPLE);
    }
    if payload.get("source").is_some_and(|source| !source.is_null()) {
        let problem = "missing or not a text, and an event is told by it";
        return BadRequest::new("detail-type", problem, SCHEDULE_EXAMPLE);
    }
    if payload.get("detail-type").is_some_and(|detail_type| !detail_type.is_null()) {
        return BadRequest::new("source", "missing or not a text, and an event is told by it", SCHEDULE_EXAMPLE);
    }
    let names: Vec<String> = fields(payload).take(5).map(|(name, _)| quote(name)).collect();
    let found = match names.is_empty() {
        true => "the payload is empty".to_owned(),
        false => format!("the payload begins with {}", names.join(", ")),
    };
    let problem = format!("missing, and this is no event of AWS either: {found}. An action is one of {}", actions());
    BadRequest::new("action", problem, STATUS_EXAMPLE)
}

// Events of EventBridge.

/// One kind of event: where it comes from, and how it is read.
struct EventType {
    detail_type: &'static str,
    sources: &'static [&'static str],
    read: fn(&Value) -> Result<Trigger, Miss>,
}

const CLOUDWATCH: &str = "aws.cloudwatch";

static EVENT_TYPES: [EventType; 8] = [
    EventType { detail_type: "Scheduled Event", sources: &["aws.events", "aws.scheduler"], read: schedule },
    EventType { detail_type: "EC2 Instance State-change Notification", sources: &["aws.ec2"], read: instance_state },
    EventType { detail_type: "EC2 Spot Instance Interruption Warning", sources: &["aws.ec2"], read: spot },
    EventType { detail_type: "EC2 Instance Rebalance Recommendation", sources: &["aws.ec2"], read: rebalance },
    EventType {
        detail_type: "EC2 Instance-terminate Lifecycle Action",
        sources: &["aws.autoscaling"],
        read: lifecycle,
    },
    EventType { detail_type: "AWS Health Event", sources: &["aws.health"], read: health },
    EventType {
        detail_type: "CloudWatch Alarm State Change",
        sources: &[CLOUDWATCH],
        read: |payload| alarm(payload, "/detail"),
    },
    EventType { detail_type: "Tag Change on Resource", sources: &["aws.tag"], read: tag },
];

/// Anybody may put an event with any detail-type on a bus, but not under a source of AWS.
fn expect_source(payload: &Value, what: &str, expected: &[&str]) -> Result<(), Miss> {
    let found = match payload.get("source") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::String(source)) if expected.contains(&source.as_str()) => return Ok(()),
        Some(Value::String(source)) => quote(source),
        Some(_) => "something that is not a text".to_owned(),
    };
    ignored(format!("`source` of this {what} is {found}; only {} is acted on", expected.join(" or ")))
}

fn schedule(payload: &Value) -> Result<Trigger, Miss> {
    let shard = match payload.get("shard") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(Shard::parse(text)),
        Some(_) => Some(Err("not a text".to_owned())),
    };
    match shard.transpose() {
        Ok(shard) => Ok(Trigger::Schedule { shard }),
        Err(problem) => Err(Miss::Bad(BadRequest::new("shard", problem, SHARD_EXAMPLE))),
    }
}

fn instance_state(payload: &Value) -> Result<Trigger, Miss> {
    let instance = detail_instance(payload, "instance-id")?;
    let Some(word) = text(payload, "/detail/state") else {
        return ignored(format!("`detail.state` of the state change of {instance} is missing or not a text"));
    };
    match InstanceState::parse(word) {
        InstanceState::Unknown => {
            ignored(format!("`detail.state` of the state change of {instance} is {}, no known state", quote(word)))
        }
        state => Ok(Trigger::InstanceState { instance, state, at: time(payload) }),
    }
}

fn spot(payload: &Value) -> Result<Trigger, Miss> {
    let instance = detail_instance(payload, "instance-id")?;
    // The instance is taken away whatever the word: its absence must not lose the warning.
    let action = text(payload, "/detail/instance-action").map_or_else(|| "unknown".to_owned(), |word| cut(word.trim()));
    Ok(Trigger::Spot { instance, action, at: time(payload) })
}

fn rebalance(payload: &Value) -> Result<Trigger, Miss> {
    Ok(Trigger::Rebalance { instance: detail_instance(payload, "instance-id")? })
}

fn lifecycle(payload: &Value) -> Result<Trigger, Miss> {
    Ok(Trigger::Lifecycle { instance: detail_instance(payload, "EC2InstanceId")?, at: time(payload) })
}

fn health(payload: &Value) -> Result<Trigger, Miss> {
    for (field, wanted) in [("service", "EC2"), ("eventTypeCategory", "scheduledChange")] {
        match text(payload, &format!("/detail/{field}")) {
            Some(found) if found == wanted => {}
            Some(found) => {
                return ignored(format!(
                    "`detail.{field}` of this Health event is {}; only {wanted} is acted on",
                    quote(found)
                ));
            }
            None => return ignored(format!("`detail.{field}` of this Health event is missing or not a text")),
        }
    }
    let entities = list(payload, "/detail/affectedEntities").filter_map(|entity| text(entity, "/entityValue"));
    let resources = list(payload, "/resources").filter_map(Value::as_str);
    let instances = each_once(entities.chain(resources).filter_map(|resource| match tagged_resource(resource) {
        TaggedResource::Instance(instance) => Some(instance),
        _ => None,
    }));
    let code = cut(text(payload, "/detail/eventTypeCode").unwrap_or_default());
    match instances.is_empty() {
        true => {
            let which = quote(&code);
            ignored(format!(
                "neither `detail.affectedEntities` nor `resources` of Health event {which} names an instance"
            ))
        }
        false => Ok(Trigger::Health { instances, code }),
    }
}

/// An alarm as EventBridge tells it (`detail`) and as it calls the function itself (`alarmData`): the same within.
fn alarm(payload: &Value, at: &str) -> Result<Trigger, Miss> {
    let alarm = payload.pointer(at).unwrap_or(&Value::Null);
    let Some(name) = text(alarm, "/alarmName").filter(|name| !name.is_empty()) else {
        let field = at.trim_start_matches('/');
        return ignored(format!("`{field}.alarmName` of this alarm is missing or not a text"));
    };
    // Those of metric math have an `expression` and no `metricStat`.
    let dimensions =
        list(alarm, "/configuration/metrics").filter_map(|metric| metric.pointer("/metricStat/metric/dimensions"));
    Ok(Trigger::Alarm { name: name.to_owned(), instances: each_once(dimensions.flat_map(instance_dimensions)) })
}

/// An alarm as SNS carries it, for which it has names of its own.
fn alarm_by_sns(message: &Value) -> Option<Trigger> {
    let name = text(message, "/AlarmName").filter(|name| !name.is_empty())?;
    text(message, "/NewStateValue")?;
    let metrics =
        list(message, "/Trigger/Metrics").filter_map(|metric| metric.pointer("/MetricStat/Metric/Dimensions"));
    let dimensions = message.pointer("/Trigger/Dimensions").into_iter().chain(metrics);
    Some(Trigger::Alarm { name: name.to_owned(), instances: each_once(dimensions.flat_map(instance_dimensions)) })
}

/// The instances among a metric's dimensions: a map, or a list of names and values. Values that are no ids are skipped.
fn instance_dimensions(dimensions: &Value) -> Vec<InstanceId> {
    let of_map = dimensions.get("InstanceId").and_then(Value::as_str);
    let of_list = list(dimensions, "")
        .filter(|dimension| text(dimension, "/name").or(text(dimension, "/Name")) == Some("InstanceId"))
        .filter_map(|dimension| text(dimension, "/value").or(text(dimension, "/Value")));
    of_map.into_iter().chain(of_list).filter_map(|value| instance_id(value).ok()).collect()
}

fn tag(payload: &Value) -> Result<Trigger, Miss> {
    let Some(resource) = list(payload, "/resources").find_map(Value::as_str) else {
        return ignored("`resources` of this tag change is missing or names nothing".to_owned());
    };
    if !payload.pointer("/detail/changed-tag-keys").is_some_and(Value::is_array) {
        return ignored(format!(
            "`detail.changed-tag-keys` of the tag change of {} is missing or not a list",
            quote(resource)
        ));
    }
    let keys = list(payload, "/detail/changed-tag-keys").filter_map(Value::as_str);
    let changed = keys.take(MAX_TAGS).map(str::to_owned).collect();
    let tags = payload.pointer("/detail/tags").map_or_else(BTreeMap::new, |tags| {
        let texts = fields(tags).filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        texts.take(MAX_TAGS).collect()
    });
    Ok(Trigger::Tag { resource: tagged_resource(resource), changed, tags })
}

/// From an ARN of EC2 or a bare id.
fn tagged_resource(text: &str) -> TaggedResource {
    let text = text.trim();
    let id = match text.strip_prefix("arn:") {
        // arn:PARTITION:ec2:REGION:ACCOUNT:TYPE/ID
        Some(arn) if arn.split(':').nth(1) == Some("ec2") => arn.rsplit('/').next().unwrap_or_default(),
        Some(_) => return TaggedResource::Other,
        None => text,
    };
    match instance_id(id) {
        Ok(instance) => TaggedResource::Instance(instance),
        Err(_) if id.starts_with("eipalloc-") => TaggedResource::Address(AllocationId::from(id)),
        Err(_) => TaggedResource::Other,
    }
}

// SNS.

fn sns(records: &Value) -> Result<Request, BadRequest> {
    let count = records.as_array().map_or(0, Vec::len);
    if !(1..=MAX_SNS_RECORDS).contains(&count) {
        let problem = format!("not a list of 1 to {MAX_SNS_RECORDS} SNS records");
        return Err(BadRequest::new("Records", problem, SNS_EXAMPLE));
    }
    let mut triggers = Vec::new();
    let mut ignored = Vec::new();
    let mut bad = None;
    for (index, record) in list(records, "").enumerate() {
        let field = format!("Records[{index}].Sns.Message");
        let Some(message) = text(record, "/Sns/Message") else {
            let problem = "missing or not a text: of all that comes as `Records`, only messages of SNS are understood";
            return Err(BadRequest::new(field, problem, SNS_EXAMPLE));
        };
        match sns_message(message) {
            Ok(trigger) => triggers.push(trigger),
            Err(Miss::Ignored(text)) => ignored.push(format!("{field}: {text}")),
            Err(Miss::Bad(problem)) => {
                let field = if problem.field.is_empty() { field } else { format!("{field}: {}", problem.field) };
                bad.get_or_insert(BadRequest { field, ..problem });
            }
        }
    }
    match bad {
        _ if !triggers.is_empty() => Ok(Request::Run(triggers)),
        Some(bad) => Err(bad),
        None => Ok(Request::Ignored(ignored.join("; "))),
    }
}

fn sns_message(message: &str) -> Result<Trigger, Miss> {
    let bad = |problem: String| Err(Miss::Bad(BadRequest::new("", problem, SNS_EXAMPLE)));
    if message.len() > MAX_SNS_MESSAGE_BYTES {
        return bad(format!("a message of {} bytes; at most {MAX_SNS_MESSAGE_BYTES} are read", message.len()));
    }
    let Ok(inside) = serde_json::from_str::<Value>(message) else {
        return bad(format!("{} is not JSON, so no event", quote(message)));
    };
    if let Some(trigger) = alarm_by_sns(&inside) {
        return Ok(trigger);
    }
    match Kind::of(&inside) {
        Some(kind) => read(kind, &inside),
        None => bad(format!("{} is no event that this function knows", quote(message))),
    }
}

// Commands.

const ACTIONS: [(&str, &[&str], &str); 7] = [
    ("status", &["cluster"], STATUS_EXAMPLE),
    ("sweep", &["cluster", "dry_run"], r#"{"action":"sweep","dry_run":false}"#),
    (
        "move",
        &["cluster", "address", "to", "force", "dry_run"],
        r#"{"action":"move","cluster":"web","address":"203.0.113.7","to":"i-1234567890abcdef0","force":false,"dry_run":false}"#,
    ),
    ("drain", &["node"], r#"{"action":"drain","node":"i-1234567890abcdef0"}"#),
    ("undrain", &["node"], r#"{"action":"undrain","node":"i-1234567890abcdef0"}"#),
    ("pause", &["cluster", "for"], r#"{"action":"pause","cluster":"web","for":"2h"}"#),
    ("resume", &["cluster"], r#"{"action":"resume","cluster":"web"}"#),
];

fn actions() -> String {
    ACTIONS.map(|(action, ..)| action).join(", ")
}

fn command(payload: &Value) -> Result<Command, BadRequest> {
    let word = match payload.get("action") {
        Some(Value::String(word)) => word.as_str(),
        _ => {
            return Err(BadRequest::new("action", format!("not a text; it is one of {}", actions()), STATUS_EXAMPLE));
        }
    };
    let Some((action, names, example)) = ACTIONS.into_iter().find(|(action, ..)| *action == word) else {
        let problem = format!("{} is not an action; it is one of {}", quote(word), actions());
        return Err(BadRequest::new("action", problem, STATUS_EXAMPLE));
    };
    let known = |field: &str| field == "action" || names.contains(&field);
    if let Some((unknown, _)) = fields(payload).find(|(field, _)| !known(field)) {
        let problem = format!("not a field of {action}, which has {}", names.join(", "));
        return Err(BadRequest::new(cut(unknown), problem, example));
    }
    let fields = Fields { payload, example };
    Ok(match action {
        "status" => Command::Status { cluster: fields.cluster()? },
        "sweep" => Command::Sweep { cluster: fields.cluster()?, dry_run: fields.flag("dry_run")? },
        "move" => Command::Move {
            cluster: fields.cluster()?,
            address: fields.read("address", |text| {
                text.parse().map_err(|_| format!("{} is not an IPv4 address such as 203.0.113.7", quote(text)))
            })?,
            to: fields.read("to", instance_id)?,
            force: fields.flag("force")?,
            dry_run: fields.flag("dry_run")?,
        },
        "drain" => Command::Drain { node: fields.node()? },
        "undrain" => Command::Undrain { node: fields.node()? },
        "pause" => Command::Pause { cluster: fields.cluster()?, r#for: fields.read("for", pause_duration)? },
        _ => Command::Resume { cluster: fields.cluster()? },
    })
}

/// A command's fields. One that is `null` is as if absent.
struct Fields<'a> {
    payload: &'a Value,
    example: &'static str,
}

impl Fields<'_> {
    fn bad(&self, field: &str, problem: impl Into<String>) -> BadRequest {
        BadRequest::new(field, problem, self.example)
    }

    fn read<T>(&self, field: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, BadRequest> {
        match self.payload.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => parse(text).map(Some).map_err(|problem| self.bad(field, problem)),
            Some(other) => Err(self.bad(field, format!("{}, not a text", json_type(other)))),
        }
    }

    fn cluster(&self) -> Result<Option<ClusterName>, BadRequest> {
        self.read("cluster", cluster_name)
    }

    fn node(&self) -> Result<InstanceId, BadRequest> {
        self.read("node", instance_id)?.ok_or_else(|| self.bad("node", "missing"))
    }

    fn flag(&self, field: &str) -> Result<bool, BadRequest> {
        match self.payload.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.bad(field, format!("{}, not true or false", json_type(other)))),
        }
    }
}

/// Reads `for` of the command `pause`.
///
/// # Errors
/// A fragment that names the text and says what it should be.
pub fn pause_duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("{} is not a duration of 1s to 30 days, such as 2h", quote(text));
    humantime::parse_duration(text).ok().filter(|pause| PAUSE_RANGE.contains(pause)).ok_or_else(problem)
}

/// A pause as the payload writes it.
mod duration_word {
    use super::{Duration, pause_duration};
    use crate::core::time::duration_text;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_str(&duration_text(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| pause_duration(&text).map_err(Error::custom)).transpose()
    }
}

// Reading JSON that may be anything.

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// The elements of a list; none where there is no list.
fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default().iter().take(MAX_INSTANCES)
}

/// The fields of an object; none where there is no object.
fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn detail_instance(payload: &Value, field: &str) -> Result<InstanceId, Miss> {
    match text(payload, &format!("/detail/{field}")).map(instance_id) {
        Some(Ok(instance)) => Ok(instance),
        Some(Err(problem)) => ignored(format!("`detail.{field}` of this event: {problem}")),
        None => ignored(format!("`detail.{field}` of this event is missing or not a text")),
    }
}

/// The envelope's time. Documentation's placeholders and other unreadable ones are as good as none.
fn time(payload: &Value) -> Option<Time> {
    text(payload, "/time").and_then(|text| Time::parse(text.trim()))
}

fn each_once(instances: impl Iterator<Item = InstanceId>) -> Vec<InstanceId> {
    let mut once = Vec::new();
    for instance in instances.take(MAX_INSTANCES) {
        if !once.contains(&instance) {
            once.push(instance);
        }
    }
    once
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_WORD_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Map;
    use std::path::Path;

    use aws_lambda_events::autoscaling::AutoScalingEvent;
    use aws_lambda_events::cloudwatch_alarms::{
        CloudWatchAlarmData, CloudWatchCompositeAlarm, CloudWatchMetricAlarm, CloudWatchMetricAlarmConfiguration,
    };
    use aws_lambda_events::cloudwatch_events::{ec2, health as aws_health, tag as aws_tag};
    use aws_lambda_events::eventbridge::EventBridgeEvent;
    use aws_lambda_events::sns::{CloudWatchAlarmPayload, SnsEvent};
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    const A: &str = "i-1234567890abcdef0";
    const B: &str = "i-0abcdef1234567890";

    /// All files of `events/`, by name without `.json`.
    fn samples() -> Map<String, Value> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("events");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| {
                let text = std::fs::read_to_string(&path).unwrap();
                let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                (path.file_stem().unwrap().to_str().unwrap().to_owned(), value)
            })
            .collect()
    }

    fn sample(name: &str) -> Value {
        samples().remove(name).unwrap_or_else(|| panic!("events/{name}.json is missing"))
    }

    /// A sample with one place changed, or removed where `value` is null.
    fn with(mut payload: Value, pointer: &str, value: Value) -> Value {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = payload.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(parent.remove(field)),
            value => drop(parent.insert(field.to_owned(), value)),
        }
        payload
    }

    fn one(payload: &Value) -> Trigger {
        match parse(payload) {
            Ok(Request::Run(triggers)) if triggers.len() == 1 => triggers.into_iter().next().unwrap(),
            other => panic!("{other:?} from {payload}"),
        }
    }

    fn ignored_text(payload: &Value) -> String {
        match parse(payload) {
            Ok(Request::Ignored(text)) => text,
            other => panic!("{other:?} from {payload}"),
        }
    }

    fn bad(payload: &Value) -> BadRequest {
        match parse(payload) {
            Err(bad) => bad,
            other => panic!("{other:?} from {payload}"),
        }
    }

    fn sns_of(message: &Value) -> Value {
        json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": message.to_string()}}]})
    }

    fn ids(ids: &[&str]) -> Vec<InstanceId> {
        ids.iter().map(|id| InstanceId::from(*id)).collect()
    }

    fn web() -> Option<ClusterName> {
        Some(ClusterName::from("web"))
    }

    fn alarm_of(name: &str, instances: &[&str]) -> Trigger {
        Trigger::Alarm { name: name.to_owned(), instances: ids(instances) }
    }

    fn tags_of(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// What each file of `events/` is; `None` where it is ignored.
    fn expected() -> Map<&'static str, Option<Trigger>> {
        let at = Time::parse("2026-11-22T07:30:00Z");
        let instance = || InstanceId::from(A);
        let state = |state| Trigger::InstanceState { instance: instance(), state, at };
        let spot = || Trigger::Spot { instance: instance(), action: "terminate".to_owned(), at };
        let tag = |resource, key: &str, tags: &[(&str, &str)]| Trigger::Tag {
            resource,
            changed: vec![key.to_owned()],
            tags: tags_of(tags),
        };
        let heartbeat = "seq=118 at=2026-11-22T07:29:59Z status=fail every=5s why=http:8080/health";
        let command = |command| Some(Trigger::Command(command));
        Map::from([
            ("schedule", Some(Trigger::Schedule { shard: None })),
            ("schedule-scheduler", Some(Trigger::Schedule { shard: None })),
            ("schedule-shard", Some(Trigger::Schedule { shard: Some(Shard { index: 0, count: 4 }) })),
            ("instance-running", Some(state(InstanceState::Running))),
            ("instance-stopping", Some(state(InstanceState::Stopping))),
            ("instance-terminated", Some(state(InstanceState::Terminated))),
            ("spot-interruption", Some(spot())),
            ("rebalance-recommendation", Some(Trigger::Rebalance { instance: instance() })),
            ("lifecycle-terminate", Some(Trigger::Lifecycle { instance: instance(), at })),
            (
                "health-scheduled-change",
                Some(Trigger::Health {
                    instances: ids(&[A]),
                    code: "AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED".to_owned(),
                }),
            ),
            ("alarm-state-change", Some(alarm_of("web-1-status", &[A]))),
            ("alarm-state-change-metric-math", Some(alarm_of("web-status", &[A, B]))),
            ("alarm-state-change-composite", Some(alarm_of("web-any", &[]))),
            ("alarm-direct", Some(alarm_of("web-1-status", &[A]))),
            ("alarm-direct-composite", Some(alarm_of("web-any", &[]))),
            (
                "tag-instance-drain",
                Some(tag(
                    TaggedResource::Instance(instance()),
                    "eipwatch:mode",
                    &[("Name", "web-1"), ("eipwatch:cluster", "web"), ("eipwatch:mode", "drain")],
                )),
            ),
            (
                "tag-instance-heartbeat-fail",
                Some(tag(
                    TaggedResource::Instance(instance()),
                    "eipwatch:heartbeat",
                    &[("Name", "web-1"), ("eipwatch:cluster", "web"), ("eipwatch:heartbeat", heartbeat)],
                )),
            ),
            (
                "tag-address-policy",
                Some(tag(
                    TaggedResource::Address(AllocationId::from("eipalloc-0123456789abcdef0")),
                    "eipwatch:policy",
                    &[
                        ("eipwatch:cluster", "web"),
                        ("eipwatch:check", "http:8080/health"),
                        ("eipwatch:policy", "fall=2 rise=2"),
                    ],
                )),
            ),
            ("sns-alarm", Some(alarm_of("web-1-status", &[A]))),
            ("sns-alarm-metric-math", Some(alarm_of("web-status", &[A, B]))),
            ("sns-alarm-composite", Some(alarm_of("web-any", &[]))),
            ("sns-spot-interruption", Some(spot())),
            ("sns-not-ours", None),
            ("other-event", None),
            ("status", command(Command::Status { cluster: None })),
            ("sweep", command(Command::Sweep { cluster: None, dry_run: false })),
            ("sweep-dry-run", command(Command::Sweep { cluster: web(), dry_run: true })),
            (
                "move",
                command(Command::Move {
                    cluster: web(),
                    address: Some(Ipv4Addr::new(203, 0, 113, 7)),
                    to: Some(InstanceId::from(B)),
                    force: false,
                    dry_run: false,
                }),
            ),
            (
                "move-dry-run",
                command(Command::Move { cluster: web(), address: None, to: None, force: false, dry_run: true }),
            ),
            ("drain", command(Command::Drain { node: instance() })),
            ("undrain", command(Command::Undrain { node: instance() })),
            ("pause", command(Command::Pause { cluster: web(), r#for: Some(Duration::from_secs(7_200)) })),
            ("resume", command(Command::Resume { cluster: web() })),
        ])
    }

    #[test]
    fn every_sample_is_what_its_name_says() {
        let samples = samples();
        let expected = expected();
        assert_eq!(
            samples.keys().map(String::as_str).collect::<Vec<_>>(),
            expected.keys().copied().collect::<Vec<_>>(),
            "the files of events/ and what is expected of them"
        );
        for (name, trigger) in expected {
            let read = parse(samples.get(name).unwrap());
            match trigger {
                Some(trigger) => assert_eq!(read, Ok(Request::Run(vec![trigger])), "{name}"),
                None => assert!(matches!(read, Ok(Request::Ignored(_))), "{name}: {read:?}"),
            }
        }
    }

    #[test]
    fn every_sample_has_its_row_in_the_readme() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("events/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        for name in samples().keys() {
            assert!(readme.contains(&format!("`{name}.json`")), "{name}.json is not in events/README.md");
        }
    }

    #[test]
    fn triggers_have_the_names_of_the_answer_and_survive_the_log() {
        for (name, trigger) in expected().into_iter().filter_map(|(name, trigger)| Some((name, trigger?))) {
            let kind = match name.strip_prefix("sns-").unwrap_or(name).split('-').next().unwrap() {
                "instance" => "instance-state",
                kind @ ("schedule" | "spot" | "rebalance" | "lifecycle" | "health" | "alarm" | "tag") => kind,
                _ => "manual",
            };
            assert_eq!(trigger.name(), kind, "{name}");
            let logged = serde_json::to_value(&trigger).unwrap();
            assert_eq!(logged.as_object().unwrap().keys().collect::<Vec<_>>(), [kind], "{name}");
            assert_eq!(serde_json::from_value::<Trigger>(logged).unwrap(), trigger, "{name}");
        }
    }

    #[test]
    fn a_command_serialises_into_the_payload_it_came_from() {
        for trigger in expected().into_values().flatten() {
            if let Trigger::Command(command) = trigger {
                let payload = serde_json::to_value(&command).unwrap();
                assert_eq!(one(&payload), Trigger::Command(command), "{payload}");
            }
        }
    }

    // Wild variations of AWS's events.

    #[test]
    fn a_state_change_needs_neither_version_nor_source_nor_a_readable_time() {
        let sample = sample("instance-stopping");
        let trigger = one(&sample);
        for field in ["/version", "/id", "/source", "/resources", "/account", "/region"] {
            assert_eq!(one(&with(sample.clone(), field, Value::Null)), trigger, "without {field}");
        }
        let spaced = with(
            with(sample.clone(), "/detail/instance-id", json!(format!(" {A}"))),
            "/detail/state",
            json!("stopping "),
        );
        assert_eq!(one(&spaced), trigger);
        for time in [json!("yyyy-mm-ddThh:mm:ssZ"), json!(1), Value::Null] {
            let Trigger::InstanceState { at, state, .. } = one(&with(sample.clone(), "/time", time)) else { panic!() };
            assert_eq!((at, state), (None, InstanceState::Stopping));
        }
    }

    #[test]
    fn all_six_states_are_read() {
        for word in ["pending", "running", "shutting-down", "stopping", "stopped", "terminated"] {
            let Trigger::InstanceState { state, .. } =
                one(&with(sample("instance-running"), "/detail/state", json!(word)))
            else {
                panic!()
            };
            assert_eq!(state.as_str(), word);
        }
    }

    #[test]
    fn a_known_event_without_what_it_is_about_is_ignored_and_the_field_named() {
        for (name, field) in [
            ("instance-stopping", "instance-id"),
            ("instance-stopping", "state"),
            ("spot-interruption", "instance-id"),
            ("rebalance-recommendation", "instance-id"),
            ("lifecycle-terminate", "EC2InstanceId"),
            ("health-scheduled-change", "service"),
            ("health-scheduled-change", "eventTypeCategory"),
            ("alarm-state-change", "alarmName"),
            ("tag-instance-drain", "changed-tag-keys"),
        ] {
            for value in [Value::Null, json!(7), json!({})] {
                let text = ignored_text(&with(sample(name), &format!("/detail/{field}"), value));
                assert!(text.contains(&format!("`detail.{field}`")), "{name}: {text}");
            }
            assert!(ignored_text(&with(sample(name), "/detail", json!("{}"))).contains("`detail."), "{name}");
        }
        let text = ignored_text(&with(sample("alarm-direct"), "/alarmData/alarmName", Value::Null));
        assert!(text.contains("`alarmData.alarmName`"), "{text}");
        let text = ignored_text(&with(sample("tag-instance-drain"), "/resources", Value::Null));
        assert!(text.contains("`resources`"), "{text}");
        let text = ignored_text(&with(sample("instance-stopping"), "/detail/state", json!("rebooting")));
        assert!(text.contains("`detail.state`") && text.contains("'rebooting'"), "{text}");
        let text = ignored_text(&with(sample("spot-interruption"), "/detail/instance-id", json!("mi-1")));
        assert!(text.contains("`detail.instance-id`") && text.contains("'mi-1'"), "{text}");
    }

    #[test]
    fn a_spot_warning_without_its_action_is_still_one() {
        let Trigger::Spot { action, .. } =
            one(&with(sample("spot-interruption"), "/detail/instance-action", Value::Null))
        else {
            panic!()
        };
        assert_eq!(action, "unknown");
    }

    #[test]
    fn health_names_instances_as_ids_or_arns_in_either_place() {
        let sample = sample("health-scheduled-change");
        let trigger = one(&sample);
        let arn = json!(format!("arn:aws-cn:ec2:cn-north-1:123456789012:instance/{A}"));
        assert_eq!(one(&with(sample.clone(), "/resources", Value::Null)), trigger);
        assert_eq!(one(&with(sample.clone(), "/detail/affectedEntities", Value::Null)), trigger);
        assert_eq!(one(&with(sample.clone(), "/resources", json!([arn]))), trigger, "each once");
        let entities = json!([{"entityValue": arn}, {"entityValue": "vol-1"}, {"entityValue": B}, 3, {}]);
        let Trigger::Health { instances, .. } = one(&with(sample.clone(), "/detail/affectedEntities", entities)) else {
            panic!()
        };
        assert_eq!(instances, ids(&[A, B]));
        let none = with(with(sample.clone(), "/resources", json!(["h-1"])), "/detail/affectedEntities", json!([]));
        assert!(ignored_text(&none).contains("`detail.affectedEntities`"));
        assert!(ignored_text(&with(sample.clone(), "/detail/service", json!("RDS"))).contains("'RDS'"));
        let issue = with(sample, "/detail/eventTypeCategory", json!("issue"));
        assert!(ignored_text(&issue).contains("'issue'"));
    }

    #[test]
    fn tag_changes_come_in_any_version_and_shape() {
        let sample = sample("tag-instance-drain");
        let trigger = one(&sample);
        for version in [json!(3), json!(4.0), json!("5"), Value::Null] {
            assert_eq!(one(&with(sample.clone(), "/detail/version", version)), trigger);
        }
        // As the guide of Organizations prints it: no source, no id, no time.
        let printed = ["/source", "/id", "/time", "/account", "/version"]
            .iter()
            .fold(sample.clone(), |payload, field| with(payload, field, Value::Null));
        assert_eq!(one(&printed), trigger);
        let Trigger::Tag { tags, .. } = one(&with(sample.clone(), "/detail/tags", Value::Null)) else { panic!() };
        assert!(tags.is_empty(), "the last tag was removed");
        for (resource, read) in [
            ("arn:aws:ec2:eu-west-1:123456789012:volume/vol-01234567890abcdef", TaggedResource::Other),
            ("arn:aws:s3:::web/i-1234567890abcdef0", TaggedResource::Other),
            (
                "arn:aws:ec2:eu-west-1:123456789012:eip-allocation/eipalloc-1",
                TaggedResource::Address("eipalloc-1".into()),
            ),
            (A, TaggedResource::Instance(A.into())),
        ] {
            let Trigger::Tag { resource, .. } = one(&with(sample.clone(), "/resources", json!([resource]))) else {
                panic!()
            };
            assert_eq!(resource, read);
        }
    }

    #[test]
    fn an_alarm_names_each_instance_once_and_only_ids() {
        let metrics = |ids: &[&str]| -> Value {
            let of = |id: &&str| json!({"metricStat": {"metric": {"dimensions": {"InstanceId": id}}}});
            ids.iter().map(of).chain([json!({"expression": "m1+m2"})]).collect()
        };
        let twice =
            with(sample("alarm-direct"), "/alarmData/configuration/metrics", metrics(&[A, B, A, "TestInstance"]));
        assert_eq!(one(&twice), alarm_of("web-1-status", &[A, B]));
        let without = with(sample("alarm-state-change"), "/detail/configuration", Value::Null);
        assert_eq!(one(&without), alarm_of("web-1-status", &[]));
        let ok = with(sample("alarm-direct"), "/alarmData/state", json!({"value": "OK"}));
        assert_eq!(one(&ok), alarm_of("web-1-status", &[A]), "a recovery is a reason to look, too");
    }

    #[test]
    fn an_event_of_another_source_is_ignored() {
        for name in [
            "schedule",
            "instance-stopping",
            "spot-interruption",
            "alarm-state-change",
            "tag-instance-drain",
            "alarm-direct",
        ] {
            let expected = sample(name)["source"].as_str().unwrap().to_owned();
            for source in [json!("my.tests"), json!(["aws.ec2"])] {
                let text = ignored_text(&with(sample(name), "/source", source));
                assert!(text.contains("`source`") && text.contains(&expected), "{name}: {text}");
            }
        }
        assert!(ignored_text(&sample("other-event")).contains("'EBS Volume Notification'"));
    }

    // Schedules and shards.

    #[test]
    fn a_schedule_may_carry_a_shard() {
        let shard = Some(Shard { index: 3, count: 4 });
        for name in ["schedule", "schedule-scheduler"] {
            assert_eq!(one(&with(sample(name), "/shard", json!("3/4"))), Trigger::Schedule { shard });
        }
        // A schedule that watches nothing must show in the error metric.
        for payload in [json!({"shard": "4/4"}), json!({"shard": 1}), with(sample("schedule"), "/shard", json!("x"))] {
            assert_eq!(bad(&payload).field, "shard", "{payload}");
        }
        assert_eq!(bad(&json!({"shard": "0/4", "dry_run": true})).field, "dry_run");
    }

    #[test]
    fn shards_are_read_exactly() {
        for (text, index, count) in [("0/1", 0, 1), ("3/4", 3, 4), (" 1023/1024 ", 1023, 1024)] {
            let shard = Shard::parse(text).unwrap();
            assert_eq!((shard.index(), shard.count()), (index, count));
            assert_eq!(Shard::parse(&shard.to_string()), Ok(shard));
        }
        for text in ["", "/", "1", "4/4", "0/0", "0/1025", "-1/4", "+1/4", "0/4/8", "0 / 4", "a/b", "0/99999999"] {
            let problem = Shard::parse(text).unwrap_err();
            assert!(problem.contains("0/4"), "{problem}");
            assert!(serde_json::from_value::<Shard>(json!(text)).is_err());
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // Test vectors of draft-eastlake-fnv, FNV-1a of 64 bits.
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("b", 0xaf63_df4c_8601_f1a5),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a_64(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn every_cluster_is_in_one_shard() {
        // 0x85944171f73967e8 modulo 4 is 0.
        assert!(Shard::parse("0/4").unwrap().covers(&ClusterName::from("foobar")));
        for cluster in ["web", "db", "a", "b"].map(ClusterName::from) {
            let covering = (0..7).filter(|index| Shard { index: *index, count: 7 }.covers(&cluster)).count();
            assert_eq!(covering, 1, "{cluster}");
        }
    }

    // SNS.

    #[test]
    fn sns_carries_every_event_and_command() {
        for (name, payload) in samples() {
            if name.starts_with("sns-") || name == "other-event" {
                continue;
            }
            assert_eq!(parse(&sns_of(&payload)), parse(&payload), "{name}");
        }
    }

    #[test]
    fn an_event_of_somebody_else_in_sns_is_ignored_and_told() {
        for payload in [sample("sns-not-ours"), sns_of(&sample("other-event"))] {
            let text = ignored_text(&payload);
            assert!(text.starts_with("Records[0].Sns.Message: an event '"), "{text}");
            assert!(text.len() < 400, "{text}");
        }
    }

    #[test]
    fn what_is_nothing_is_nothing_in_sns_either() {
        let sns = |message: &str| json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": message}}]});
        let long = json!({"action": "status", "x": "y".repeat(MAX_SNS_MESSAGE_BYTES)}).to_string();
        for (message, says) in [
            ("Hello\r\nworld!", "Hello"),
            (r#""text""#, "no event"),
            ("[1]", "no event"),
            (r#"{"AlarmName":"web"}"#, "no event"),
            (r#"{"detail-type":"Scheduled"}"#, "no event"),
            (r#"{"source":"aws.ec2"}"#, "no event"),
            (&sns(r#"{"action":"status"}"#).to_string(), "no event"),
            (&long, "262144"),
        ] {
            let refused = bad(&sns(message));
            assert_eq!(refused.field, "Records[0].Sns.Message");
            assert!(refused.problem.contains(says) && refused.problem.len() < 400, "{refused}");
        }
        assert_eq!(bad(&sns(r#"{"action":"opened","number":5}"#)).field, "Records[0].Sns.Message: action");
    }

    #[test]
    fn a_mistyped_command_in_sns_fails_unless_something_beside_it_runs() {
        let command = sns_of(&json!({"action": "move", "dryrun": true}));
        let refused = bad(&command);
        assert_eq!(refused.field, "Records[0].Sns.Message: dryrun");
        let mut both = command;
        both["Records"].as_array_mut().unwrap().push(sample("sns-spot-interruption")["Records"][0].clone());
        assert_eq!(one(&both).name(), "spot");
    }

    #[test]
    fn several_records_run_in_order_and_are_bounded() {
        let record = |payload: &Value| sns_of(payload)["Records"][0].clone();
        let records = [sample("spot-interruption"), json!("Hello"), sample("alarm-direct")];
        let payload = json!({"Records": records.iter().map(record).collect::<Vec<_>>()});
        let Ok(Request::Run(triggers)) = parse(&payload) else { panic!() };
        assert_eq!(triggers.iter().map(Trigger::name).collect::<Vec<_>>(), ["spot", "alarm"]);
        let many = json!({"Records": vec![record(&json!({"action": "status"})); MAX_SNS_RECORDS + 1]});
        for payload in [many, json!({"Records": []}), json!({"Records": {}}), json!({"Records": null})] {
            assert_eq!(bad(&payload).field, "Records");
        }
        let queue = json!({"Records": [{"eventSource": "aws:sqs", "body": "{}"}]});
        assert_eq!(bad(&queue).field, "Records[0].Sns.Message");
    }

    // Commands, and what is nothing.

    #[test]
    fn a_command_is_read_strictly() {
        for (payload, field, says) in [
            (json!({"action": "move", "dryrun": true}), "dryrun", "cluster, address, to, force, dry_run"),
            (json!({"action": "move", "dryrun": null}), "dryrun", "cluster, address, to, force, dry_run"),
            (json!({"action": "status", "dry_run": true}), "dry_run", "cluster"),
            (json!({"action": "move", "dry_run": "true"}), "dry_run", "a text, not true or false"),
            (json!({"action": "move", "force": 1}), "force", "a number, not true or false"),
            (json!({"action": "move", "to": "web-1"}), "to", "'web-1'"),
            (json!({"action": "move", "to": 5}), "to", "a number, not a text"),
            (json!({"action": "move", "address": "203.0.113.700"}), "address", "'203.0.113.700'"),
            (json!({"action": "move", "address": "2001:db8::1"}), "address", "IPv4"),
            (json!({"action": "move", "cluster": ["web"]}), "cluster", "a list, not a text"),
            (json!({"action": "sweep", "cluster": "a b"}), "cluster", "'a b'"),
            (json!({"action": "sweep", "cluster": ""}), "cluster", "cluster name"),
            (json!({"action": "drain"}), "node", "missing"),
            (json!({"action": "undrain", "node": null}), "node", "missing"),
            (json!({"action": "pause", "for": "2 hours ago"}), "for", "'2 hours ago'"),
            (json!({"action": "pause", "for": "999ms"}), "for", "1s to 30 days"),
            (json!({"action": "pause", "for": "31days"}), "for", "1s to 30 days"),
            (json!({"action": "pause", "for": 7200}), "for", "a number, not a text"),
            (json!({"action": "stauts"}), "action", "status, sweep, move, drain, undrain, pause, resume"),
            (json!({"action": 1}), "action", "status, sweep, move, drain, undrain, pause, resume"),
            (json!({"action": "status", "shard": "0/4"}), "shard", "cluster"),
        ] {
            let bad = bad(&payload);
            assert_eq!(bad.field, field, "{payload}");
            assert!(bad.problem.contains(says), "{bad}");
            assert!(bad.to_string().starts_with(&format!("`{field}`: ")), "{bad}");
            if field != "action" {
                assert_eq!(one(&serde_json::from_str(&bad.example).unwrap()).name(), "manual");
                assert!(bad.example.contains(payload["action"].as_str().unwrap()), "{bad}");
            }
        }
    }

    #[test]
    fn null_is_as_if_absent_and_limits_are_inside() {
        let nulls =
            json!({"action": "move", "cluster": null, "address": null, "to": null, "force": null, "dry_run": null});
        assert_eq!(one(&nulls), one(&json!({"action": "move"})));
        assert_eq!(one(&json!({"action": "pause", "for": null})), one(&json!({"action": "pause"})));
        for (text, seconds) in [("1s", 1), ("30days", 30 * 86_400), ("1h 30m", 5_400)] {
            let Trigger::Command(Command::Pause { r#for, .. }) = one(&json!({"action": "pause", "for": text})) else {
                panic!()
            };
            assert_eq!(r#for, Some(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn what_is_nothing_is_a_bad_request() {
        for (payload, field) in [
            (json!({"key1": "value1", "key2": "value2"}), "action"),
            (json!({}), "action"),
            (json!({"action": null}), "action"),
            (Value::Null, "payload"),
            (json!([{"action": "status"}]), "payload"),
            (json!("status"), "payload"),
            (json!({"source": "aws.ec2"}), "detail-type"),
            (json!({"source": "aws.ec2", "detail-type": 4}), "detail-type"),
            (json!({"detail-type": "Some Other Event"}), "source"),
        ] {
            assert_eq!(bad(&payload).field, field, "{payload}");
        }
        let console_default = bad(&json!({"key1": "value1"})).to_string();
        assert!(console_default.contains("'key1'") && console_default.contains(STATUS_EXAMPLE), "{console_default}");
    }

    #[test]
    fn every_example_runs() {
        let examples = ACTIONS.map(|(.., example)| example);
        for example in examples.into_iter().chain([SCHEDULE_EXAMPLE, SHARD_EXAMPLE, SNS_EXAMPLE]) {
            one(&serde_json::from_str(example).unwrap());
        }
    }

    // Anything.

    fn any_json() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            prop::sample::select(vec![
                "source",
                "detail-type",
                "detail",
                "alarmData",
                "action",
                "shard",
                "Records",
                "Sns",
                "Message",
                "resources",
                "aws.ec2",
                "aws.tag",
                "aws.health",
                "move",
                "pause",
                "for",
                "node",
                "to",
                "0/4",
                "EC2",
                "scheduledChange",
                A,
                "AlarmName",
                "NewStateValue",
                "Trigger",
                "{\"action\":\"drain\"}",
                "Tag Change on Resource",
                "tags",
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            word.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(word.clone(), inner, 0..6).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    /// All places in a JSON value, as pointers.
    fn places(value: &Value, at: &str, all: &mut Vec<String>) {
        all.push(at.to_owned());
        let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
        match value {
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), all));
            }
            Value::Object(map) => {
                map.iter().for_each(|(key, item)| places(item, &format!("{at}/{}", escape(key)), all))
            }
            _ => {}
        }
    }

    fn holds(payload: &Value) {
        match parse(payload) {
            Ok(Request::Run(triggers)) => assert!(!triggers.is_empty()),
            Ok(Request::Ignored(text)) => assert!(!text.is_empty()),
            Err(bad) => {
                assert!(bad.to_string().contains(&bad.example));
                one(&serde_json::from_str(&bad.example).unwrap());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_json_panics_and_every_refusal_shows_a_payload_that_runs(payload in any_json()) {
            holds(&payload);
            holds(&sns_of(&payload));
        }

        #[test]
        fn no_damaged_sample_panics(
            file in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), put in any_json(),
        ) {
            let mut payload = file.get(&samples().into_values().collect::<Vec<_>>()).clone();
            let mut all = Vec::new();
            places(&payload, "", &mut all);
            *payload.pointer_mut(place.get(&all[..]).as_str()).unwrap() = put;
            holds(&payload);
            // An event of AWS that is still marked as one never fails, whatever is inside.
            let marked = ["/detail-type", "/source"].iter().all(|field| text(&payload, field).is_some());
            if marked && payload.get("shard").is_none() {
                prop_assert!(parse(&payload).is_ok());
            }
        }
    }

    // A second reader: aws_lambda_events.

    fn theirs<T: DeserializeOwned>(payload: &Value) -> Result<T, String> {
        serde_json::from_value(payload.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_second_reader_agrees_where_it_reads_at_all() {
        for name in ["instance-running", "instance-stopping", "instance-terminated"] {
            let read: EventBridgeEvent<ec2::InstanceStateChange> = theirs(&sample(name)).unwrap();
            let Trigger::InstanceState { instance, state, .. } = one(&sample(name)) else { panic!() };
            assert_eq!(
                (read.detail.instance_id.as_str(), read.detail.state.as_str()),
                (instance.as_str(), state.as_str())
            );
        }
        let read: AutoScalingEvent = theirs(&sample("lifecycle-terminate")).unwrap();
        assert_eq!(read.detail["EC2InstanceId"], A);
        let read: CloudWatchMetricAlarm = theirs(&sample("alarm-direct")).unwrap();
        let instance = &read.alarm_data.configuration.metrics[0].metric_stat.metric.dimensions["InstanceId"];
        assert_eq!(one(&sample("alarm-direct")), alarm_of(&read.alarm_data.alarm_name, &[instance]));
        let read: EventBridgeEvent<CloudWatchAlarmData<CloudWatchMetricAlarmConfiguration>> =
            theirs(&sample("alarm-state-change")).unwrap();
        let instance = &read.detail.configuration.metrics[0].metric_stat.metric.dimensions["InstanceId"];
        assert_eq!(one(&sample("alarm-state-change")), alarm_of(&read.detail.alarm_name, &[instance]));
        for name in ["sns-alarm", "sns-alarm-metric-math"] {
            let read: SnsEvent = theirs(&sample(name)).unwrap();
            let read: CloudWatchAlarmPayload = serde_json::from_str(&read.records[0].sns.message).unwrap();
            let math = read.trigger.metrics.iter().filter_map(|metric| metric.metric_stat.as_ref());
            let dimensions = read.trigger.dimensions.iter().chain(math.flat_map(|stat| &stat.metric.dimensions));
            let instances: Vec<&str> = dimensions.map(|dimension| dimension.value.as_str()).collect();
            assert_eq!(one(&sample(name)), alarm_of(&read.alarm_name, &instances), "{name}");
        }
        for name in ["schedule", "schedule-scheduler"] {
            let read: EventBridgeEvent = theirs(&sample(name)).unwrap();
            assert_eq!(read.detail_type, "Scheduled Event");
        }
    }

    /// Why the function does not use that crate. If one of these changes, a newer version of it may have become useful.
    #[test]
    fn the_second_reader_refuses_or_misreads_some_samples() {
        type MetricAlarm = EventBridgeEvent<CloudWatchAlarmData<CloudWatchMetricAlarmConfiguration>>;
        let refused = |what: &str, read: Result<(), String>, says: &str| {
            let error = read.expect_err(what);
            assert!(error.contains(says), "{what}: {error}");
        };
        let read = theirs::<MetricAlarm>(&sample("alarm-state-change-metric-math")).map(drop);
        refused("metric math", read, "metricStat");
        let read = theirs::<CloudWatchCompositeAlarm>(&sample("alarm-direct-composite")).map(drop);
        refused("a composite alarm without suppressor", read, "actionsSuppressor");
        let read = theirs::<EventBridgeEvent<aws_health::Event>>(&sample("health-scheduled-change")).map(drop);
        refused("a Health event without end", read, "endTime");
        let read = theirs::<EventBridgeEvent<aws_tag::TagChangeOnResource>>(&sample("tag-instance-drain")).map(drop);
        refused("a tag change of version 5.0", read, "floating point");
        let SnsEvent { records, .. } = theirs(&sample("sns-alarm-composite")).unwrap();
        let read = serde_json::from_str::<CloudWatchAlarmPayload>(&records[0].sns.message).map(drop);
        refused("a composite alarm by SNS", read.map_err(|error| error.to_string()), "Trigger");
        // And it takes an event of EventBridge for an alarm's direct call, with nothing in it.
        let read: CloudWatchMetricAlarm = theirs(&sample("alarm-state-change")).unwrap();
        assert_eq!(read.alarm_data.alarm_name, "");
    }
}
