//! What can go wrong, as rules that can be added and taken away at any time.

use super::ec2::{Error, Id};

/// A call of EC2's or CloudWatch's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "AWS's own names")]
pub enum Api {
    DescribeAddresses,
    DescribeInstances,
    DescribeInstanceStatus,
    DescribeTags,
    DescribeNetworkInterfaces,
    DescribeAlarms,
    AssociateAddress,
    CreateTags,
}

impl Api {
    /// All of them.
    pub const ALL: [Api; 8] = [
        Api::DescribeAddresses,
        Api::DescribeInstances,
        Api::DescribeInstanceStatus,
        Api::DescribeTags,
        Api::DescribeNetworkInterfaces,
        Api::DescribeAlarms,
        Api::AssociateAddress,
        Api::CreateTags,
    ];

    /// Whether it changes anything.
    pub fn changes(self) -> bool {
        matches!(self, Api::AssociateAddress | Api::CreateTags)
    }

    /// AWS's own figures, per account and Region: the EC2 Developer Guide's request throttling tables, and CloudWatch's
    /// quota of 9 DescribeAlarms a second. Each call has a bucket of its own.
    pub fn default_limit(self) -> Limit {
        let (capacity, refill_per_s) = match self {
            Api::AssociateAddress => (50, 5),
            Api::CreateTags => (100, 10),
            Api::DescribeAlarms => (9, 9),
            _ => (100, 20),
        };
        Limit { capacity, refill_per_s }
    }
}

/// A token bucket's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Calls that a full bucket allows at once.
    pub capacity: u64,
    /// Calls that come back each second.
    pub refill_per_s: u64,
}

/// A token bucket, counted in thousandths of a call.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    millis: u64,
    at_ms: u64,
}

impl Bucket {
    pub fn full(limit: Limit, now_ms: u64) -> Bucket {
        Bucket { millis: limit.capacity.saturating_mul(1_000), at_ms: now_ms }
    }

    pub fn empty(now_ms: u64) -> Bucket {
        Bucket { millis: 0, at_ms: now_ms }
    }

    /// Takes so many calls, or nothing and answers false.
    pub fn take(&mut self, limit: Limit, calls: u64, now_ms: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        let refilled = self.millis.saturating_add(elapsed_ms.saturating_mul(limit.refill_per_s));
        self.millis = refilled.min(limit.capacity.saturating_mul(1_000));
        self.at_ms = self.at_ms.max(now_ms);
        match self.millis.checked_sub(calls.saturating_mul(1_000)) {
            Some(left) => {
                self.millis = left;
                true
            }
            None => false,
        }
    }
}

/// What can lag behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// Which address is where, and the instances' public addresses.
    Associations,
    /// Instances' states and launch times.
    States,
    /// Tags.
    Tags,
}

/// A kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call takes so long, evenly distributed. Several such rules add up. What takes longer than the client waits takes effect nevertheless.
    Latency {
        /// At least, in milliseconds.
        min_ms: u64,
        /// At most, in milliseconds.
        max_ms: u64,
    },
    /// The calls take from the account's token buckets; an empty one answers `RequestLimitExceeded`.
    Throttle,
    /// The call is refused with this error, without effect. On a DryRun only what a DryRun can meet: errors of permission and throttling, and the service's own.
    Error(Error),
    /// The call takes effect, and answers with this error.
    ErrorAfter(Error),
    /// The request never arrives; the client gives up at its time limit.
    LostRequest,
    /// The answer never arrives; what was asked took effect.
    LostAnswer,
    /// The client gives up, and so many milliseconds later the request takes effect after all.
    Late {
        /// Milliseconds after the client's time limit.
        by_ms: u64,
    },
    /// A change is answered with success and does nothing.
    Hollow,
    /// A zone is disrupted: DescribeInstances and DescribeInstanceStatus answer `InternalError` if they name an instance there.
    Zone {
        /// The zone.
        zone: String,
        /// Whether they fail too if they name no instance at all.
        unnamed: bool,
    },
    /// Reads show a moment up to so many milliseconds ago, at most [`super::ec2::MAX_STALENESS_MS`].
    Stale {
        /// What lags.
        what: Shown,
        /// By how much at most, in milliseconds.
        up_to_ms: u64,
    },
    /// Reads succeed and leave this resource out.
    Omit(Id),
}

impl Fault {
    /// The name that [`super::Ec2::met`] counts it by: an error's is its code.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Latency { .. } => "latency",
            Fault::Throttle => "throttled",
            Fault::Error(error) => error.code,
            Fault::ErrorAfter(_) => "error-after",
            Fault::LostRequest => "lost-request",
            Fault::LostAnswer => "lost-answer",
            Fault::Late { .. } => "late",
            Fault::Hollow => "hollow",
            Fault::Zone { .. } => "zone",
            Fault::Stale { .. } => "stale",
            Fault::Omit(_) => "omit",
        }
    }
}

/// A fault, and the calls that it befalls: all, unless narrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What goes wrong.
    pub fault: Fault,
    /// Of these calls; empty: of all.
    pub apis: Vec<Api>,
    /// From this moment on, in milliseconds.
    pub from_ms: u64,
    /// Before this moment, in milliseconds.
    pub until_ms: u64,
    /// To so many calls of a thousand.
    pub per_mille: u32,
    /// Only where the request names this resource: by its id, or an instance by one of its interfaces.
    pub target: Option<Id>,
    /// Only for this caller: a watcher cut off from AWS.
    pub caller: Option<u32>,
}

impl Rule {
    /// A fault of every call, until it is narrowed or taken away.
    pub fn new(fault: Fault) -> Rule {
        Rule { fault, apis: Vec::new(), from_ms: 0, until_ms: u64::MAX, per_mille: 1_000, target: None, caller: None }
    }

    /// An error by AWS's code. Those that are the service's own fault get status 500 or 503, the others 400.
    pub fn error(code: &'static str) -> Rule {
        Rule::new(Fault::Error(Error::injected(code)))
    }

    /// Narrows it to a call, or to one more.
    #[must_use]
    pub fn on(mut self, api: Api) -> Rule {
        self.apis.push(api);
        self
    }

    /// Narrows it to a time, in milliseconds; the end does not belong to it.
    #[must_use]
    pub fn between(self, from_ms: u64, until_ms: u64) -> Rule {
        Rule { from_ms, until_ms, ..self }
    }

    /// Narrows it to so many calls of a thousand, by chance.
    #[must_use]
    pub fn chance(self, per_mille: u32) -> Rule {
        Rule { per_mille, ..self }
    }

    /// Narrows it to requests that name this resource.
    #[must_use]
    pub fn naming(self, id: &str) -> Rule {
        Rule { target: Some(Id::from(id)), ..self }
    }

    /// Narrows it to one caller.
    #[must_use]
    pub fn by(self, caller: u32) -> Rule {
        Rule { caller: Some(caller), ..self }
    }
}
