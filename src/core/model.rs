//! The words of the seams: what EC2 and CloudWatch can be asked and told, what they show, what a probe is.
//!
//! Plain data, as raw as it came. What it means for a cluster is [`super::snapshot`]'s to say.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Time;

/// Time between two reads of addresses and instances in a quiet watch.
pub const ROUND: Duration = Duration::from_secs(5);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// As EC2 writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// An EC2 instance, `i-…`.
    InstanceId
);
id!(
    /// An Elastic IP's allocation, `eipalloc-…`.
    AllocationId
);
id!(
    /// A network interface, `eni-…`.
    InterfaceId
);
id!(
    /// A cluster's name, `[A-Za-z0-9._-]{1,64}`; [`super::tags::cluster_name`] is the way in for text from outside.
    ClusterName
);

/// All tags of a resource, as they stand.
pub type Tags = BTreeMap<String, String>;

/// An Elastic IP as DescribeAddresses shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Its allocation.
    pub id: AllocationId,
    /// The address that the world knows.
    pub public_ip: Ipv4Addr,
    /// The zones it may be used in; `None` where EC2 does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub border_group: Option<String>,
    /// Where it is; `None`: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<Association>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
}

/// What an Elastic IP is associated with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Association {
    /// The instance, if what carries it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The network interface; missing only from emulators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceId>,
    /// The private address behind it; missing only from emulators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<Ipv4Addr>,
}

/// An instance's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// It is being launched or started.
    Pending,
    /// It runs.
    Running,
    /// It is about to be terminated.
    ShuttingDown,
    /// It is about to be stopped or hibernated.
    Stopping,
    /// It is stopped; it can be started again.
    Stopped,
    /// It is gone for good.
    Terminated,
    /// A state that this version does not know.
    Unknown,
}

impl InstanceState {
    /// From EC2's own word, with the spaces that some events carry.
    pub fn parse(text: &str) -> InstanceState {
        match text.trim() {
            "pending" => InstanceState::Pending,
            "running" => InstanceState::Running,
            "shutting-down" => InstanceState::ShuttingDown,
            "stopping" => InstanceState::Stopping,
            "stopped" => InstanceState::Stopped,
            "terminated" => InstanceState::Terminated,
            _ => InstanceState::Unknown,
        }
    }

    /// EC2's own word.
    pub fn as_str(self) -> &'static str {
        match self {
            InstanceState::Pending => "pending",
            InstanceState::Running => "running",
            InstanceState::ShuttingDown => "shutting-down",
            InstanceState::Stopping => "stopping",
            InstanceState::Stopped => "stopped",
            InstanceState::Terminated => "terminated",
            InstanceState::Unknown => "unknown",
        }
    }

    /// Whether it is positive evidence that the instance serves nobody any more.
    pub fn is_gone(self) -> bool {
        matches!(
            self,
            InstanceState::ShuttingDown | InstanceState::Stopping | InstanceState::Stopped | InstanceState::Terminated
        )
    }
}

/// An instance as DescribeInstances shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its state.
    pub state: InstanceState,
    /// When it was last launched or started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched: Option<Time>,
    /// Its availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The address that the world can reach it by, whoever gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<Ipv4Addr>,
    /// Its network interfaces, in the order of device index.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

impl Instance {
    /// Whether what status checks told of it, while it was as `known`, counts no more: they are asked of what runs, and begin anew with each
    /// launch.
    pub fn ends_status(&self, known: Option<&Instance>) -> bool {
        self.state != InstanceState::Running || known.is_some_and(|known| known.launched != self.launched)
    }
}

/// A network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its id.
    pub id: InterfaceId,
    /// Position on its network card; the primary interface has index 0 on card 0.
    #[serde(default)]
    pub device_index: u32,
    /// The network card.
    #[serde(default)]
    pub card_index: u32,
    /// Its private IPv4 addresses, the primary one first.
    #[serde(default)]
    pub private_ips: Vec<Ipv4Addr>,
}

/// One of the status checks that DescribeInstanceStatus reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusCheck {
    /// It passes.
    Ok,
    /// It fails.
    Impaired,
    /// `initializing`, `insufficient-data`, `not-applicable`, `suppressed`, or absent: it tells nothing.
    #[default]
    Silent,
}

impl StatusCheck {
    /// From EC2's own word.
    pub fn parse(text: &str) -> StatusCheck {
        match text.trim() {
            "ok" => StatusCheck::Ok,
            "impaired" => StatusCheck::Impaired,
            _ => StatusCheck::Silent,
        }
    }
}

/// What DescribeInstanceStatus shows of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// The instance.
    pub id: InstanceId,
    /// The host's check.
    #[serde(default)]
    pub system: StatusCheck,
    /// The instance's own check.
    #[serde(default)]
    pub instance: StatusCheck,
    /// The attached EBS volumes' check.
    #[serde(default)]
    pub ebs: StatusCheck,
    /// The native application check.
    #[serde(default)]
    pub application: StatusCheck,
    /// What AWS has planned for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduled: Vec<ScheduledEvent>,
}

impl InstanceStatus {
    /// The checks that are impaired, by the words that EC2's console uses.
    pub fn impaired(&self) -> Vec<&'static str> {
        [
            ("system", self.system),
            ("instance", self.instance),
            ("attached EBS", self.ebs),
            ("application", self.application),
        ]
        .into_iter()
        .filter(|(_, check)| *check == StatusCheck::Impaired)
        .map(|(name, _)| name)
        .collect()
    }
}

/// A scheduled event of an instance: reboot, stop, retirement, maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledEvent {
    /// EC2's code, such as `instance-retirement`.
    pub code: String,
    /// EC2's sentence; one that begins with `[Completed]` or `[Canceled]` is over.
    #[serde(default)]
    pub description: String,
    /// The earliest start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// The latest end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// A CloudWatch alarm, metric or composite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// Whether its state is ALARM.
    pub in_alarm: bool,
    /// The state as CloudWatch writes it: `OK`, `ALARM`, `INSUFFICIENT_DATA`.
    pub state: String,
    /// The `InstanceId` dimensions of its metrics, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceId>,
}

/// A network interface that carries an Elastic IP but belongs to no instance, as DescribeNetworkInterfaces shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LooseInterface {
    /// Its id.
    pub id: InterfaceId,
    /// Whether anything is attached to it: an instance, a gateway, a service.
    pub attached: bool,
    /// What it is, for people: `nat_gateway`, or the description.
    #[serde(default)]
    pub kind: String,
}

/// A question to EC2 or CloudWatch. One question may take several pages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// DescribeAddresses, all of the Region: a move has to know who else sits on a private address.
    Addresses,
    /// DescribeInstances that carry the tag key given.
    Instances(String),
    /// DescribeInstances of these ids, at most [`MAX_IDS`]. Naming one in a disrupted zone may fail the whole call.
    InstancesById(Vec<InstanceId>),
    /// DescribeInstanceStatus of running instances: of these ids (at most [`MAX_IDS`]), or of all in the Region when empty.
    Status(Vec<InstanceId>),
    /// DescribeTags of instances whose tag keys begin with this prefix: what is left in a zone's disruption.
    InstanceTags(String),
    /// DescribeNetworkInterfaces of these ids; ids that EC2 does not know are left out of the answer.
    Interfaces(Vec<InterfaceId>),
    /// CloudWatch DescribeAlarms of these names, at most [`MAX_IDS`].
    Alarms(Vec<String>),
}

/// How many ids or names one call may name. DescribeInstanceStatus and DescribeAlarms set it.
pub const MAX_IDS: usize = 100;

/// An answer to a [`Look`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// To [`Look::Addresses`].
    Addresses(Vec<Address>),
    /// To [`Look::Instances`] and [`Look::InstancesById`].
    Instances(Vec<Instance>),
    /// To [`Look::Status`].
    Status(Vec<InstanceStatus>),
    /// To [`Look::InstanceTags`].
    InstanceTags(BTreeMap<InstanceId, Tags>),
    /// To [`Look::Interfaces`].
    Interfaces(Vec<LooseInterface>),
    /// To [`Look::Alarms`].
    Alarms(Vec<Alarm>),
}

/// Something that changes EC2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// AssociateAddress.
    Associate {
        /// Which address.
        address: AllocationId,
        /// The interface to carry it.
        interface: InterfaceId,
        /// The private address of that interface to carry it.
        private_ip: Ipv4Addr,
        /// Not if somebody holds it by then (AllowReassociation is false).
        #[serde(default)]
        only_if_unheld: bool,
        /// Only ask whether it would be allowed.
        dry_run: bool,
    },
    /// CreateTags: one tag on some resources.
    Tag {
        /// Instance or allocation ids.
        resources: Vec<String>,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
}

/// How a call to AWS failed, as far as it matters for what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Too many calls, or somebody else is changing the same thing: wait, then again.
    Throttled,
    /// The service's fault, or no answer at all. Whether a change took effect is unknown.
    Transient,
    /// The caller may not do this. Asking again does not help, but for credentials that may come to be known.
    NotPermitted,
    /// The target cannot take the address: try another candidate.
    TargetUnusable,
    /// The address was to be taken only if nobody holds it, and somebody does by now, or its place carries another Elastic IP: see who.
    Held,
    /// The address no longer exists.
    AddressGone,
    /// The request named something that does not exist, or was malformed. Asking again does not help.
    Invalid,
}

/// A call to AWS that failed. Nothing is known of its effect: look again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CloudError {
    /// What to do about it.
    pub failure: Failure,
    /// AWS's own error code, or `Timeout`, `Connect`, `Response`, `NoCredentials`, `Request`.
    pub code: String,
    /// AWS's own sentence.
    pub message: String,
}

impl CloudError {
    /// Whether it is of no use to try the same again.
    pub fn is_hopeless(&self) -> bool {
        !matches!(self.failure, Failure::Throttled | Failure::Transient) && !self.is_of_credentials()
    }

    /// Whether EC2 does not know the credentials: it has been seen not to know good ones for a moment.
    pub fn is_of_credentials(&self) -> bool {
        self.code == "AuthFailure"
    }

    /// Sorts AWS's error codes into [`Failure`]s, by the codes that the EC2 API reference lists. What is not listed is
    /// taken as [`Failure::Transient`] where the service is at fault (`server_fault`, an HTTP status of 500 and above), else [`Failure::Invalid`].
    pub fn from_code(code: &str, message: &str, server_fault: bool) -> CloudError {
        let failure = match code {
            "RequestLimitExceeded"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "ConcurrentTagAccess"
            | "SlowDown"
            | "RequestThrottled"
            | "EC2ThrottledException" => Failure::Throttled,
            "UnauthorizedOperation"
            | "AuthFailure"
            | "AccessDenied"
            | "AccessDeniedException"
            | "Blocked"
            | "OptInRequired"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "OperationNotPermitted"
            | "PendingVerification"
            | "ExpiredToken"
            | "RequestExpired"
            | "SignatureDoesNotMatch" => Failure::NotPermitted,
            "InvalidAllocationID.NotFound"
            | "InvalidElasticIpID.NotFound"
            | "InvalidAddress.NotFound"
            | "InvalidAddressID.NotFound" => Failure::AddressGone,
            "IncorrectInstanceState"
            | "IncorrectState"
            | "InvalidNetworkInterfaceID.NotFound"
            | "InvalidNetworkInterface.NotFound"
            | "Gateway.NotAttached"
            | "InvalidPrivateIPAddress"
            | "InvalidPrivateIpAddress.NotFound"
            | "InvalidNetworkInterface.InUse" => Failure::TargetUnusable,
            "Resource.AlreadyAssociated" => Failure::Held,
            _ if code.starts_with("InvalidInstanceID") => Failure::TargetUnusable,
            "InternalError"
            | "InternalFailure"
            | "Unavailable"
            | "ServiceUnavailable"
            | "InternalServiceFault"
            | "RequestTimeout" => Failure::Transient,
            _ if server_fault => Failure::Transient,
            _ => Failure::Invalid,
        };
        CloudError { failure, code: code.to_owned(), message: message.to_owned() }
    }
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// A connection is accepted.
    Tcp,
    /// A GET is answered.
    Http,
    /// The same over TLS, whatever the certificate.
    Https,
}

impl Scheme {
    /// As checks write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp",
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// A probe to be made, complete: whoever makes it knows nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProbeTarget {
    /// What is asked.
    pub scheme: Scheme,
    /// Where.
    pub ip: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// The request's path, beginning with `/`; empty for `tcp`.
    pub path: Arc<str>,
    /// Host header and TLS server name; `None`: the address.
    pub host: Option<Arc<str>>,
    /// The time limit for all of it: connecting, TLS, the status line.
    pub timeout: Duration,
}

/// What a probe brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The connection was accepted (`tcp`).
    Connected,
    /// The status code of the answer (`http`, `https`).
    Status(u16),
    /// Nobody listens: refused, reset.
    Refused,
    /// Nothing within the time limit.
    TimedOut,
    /// Anything else, in a few words: `TLS: …`, `not HTTP`, `no route`.
    Failed(String),
    /// The prober itself could not ask (no descriptors, no memory, no permission): it tells nothing about the node.
    NotAsked(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do_about_them() {
        let cases = [
            ("RequestLimitExceeded", Failure::Throttled),
            ("UnauthorizedOperation", Failure::NotPermitted),
            ("InvalidAllocationID.NotFound", Failure::AddressGone),
            ("IncorrectInstanceState", Failure::TargetUnusable),
            ("InvalidInstanceID.NotFound", Failure::TargetUnusable),
            ("Resource.AlreadyAssociated", Failure::Held),
            ("InternalError", Failure::Transient),
            ("InvalidParameterValue", Failure::Invalid),
        ];
        for (code, failure) in cases {
            assert_eq!(CloudError::from_code(code, "", false).failure, failure, "{code}");
        }
    }
}
