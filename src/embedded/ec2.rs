//! The world: addresses, interfaces, instances and alarms, what operators and time do to them, and the truth about it.
//!
//! The calls that clients make are in `ec2/calls.rs`; what AWS documents or the field reports is followed there.

mod calls;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

pub use super::versions::MAX_STALENESS_MS;
use super::versions::Versions;

pub use super::faults::{Api, Limit};
use super::faults::{Bucket, Rule, Shown};
pub use calls::{Filter, PAGE_SIZE, Plan, Request, Response};

/// An id or another short name, as EC2 writes it.
pub type Id = Arc<str>;

/// All tags of a resource.
pub type Tags = BTreeMap<String, String>;

/// Tags from literals.
pub fn tags<const N: usize>(pairs: [(&str, &str); N]) -> Tags {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// How many entries of each record are kept; the oldest go first.
pub const MAX_RECORDS: usize = 100_000;

/// An error as AWS answers it, or `Timeout` where the client gave up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} ({status}): {message}")]
pub struct Error {
    /// AWS's error code.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
    /// The HTTP status; 0 for `Timeout`.
    pub status: u16,
}

impl Error {
    /// An error with a status of the caller's choosing.
    pub fn new(code: &'static str, status: u16, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), status }
    }

    /// A client error, status 400.
    fn client(code: &'static str, message: impl Into<String>) -> Error {
        Error::new(code, 400, message)
    }

    /// An error made to order, with the status that AWS gives this code.
    pub fn injected(code: &'static str) -> Error {
        let status = match code {
            "InternalError" | "InternalFailure" => 500,
            "Unavailable" | "ServiceUnavailable" | "RequestLimitExceeded" => 503,
            "UnauthorizedOperation" => 403,
            _ => 400,
        };
        Error::new(code, status, "injected by a fault rule")
    }

    fn timeout() -> Error {
        Error::new("Timeout", 0, "no answer within the client's time limit")
    }
}

/// Durations of the world, limits, and how reads behave. Any of it can be changed at any time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a client waits for an answer.
    pub timeout_ms: u64,
    /// From pending to running.
    pub pending_ms: u64,
    /// From stopping to stopped.
    pub stopping_ms: u64,
    /// From shutting-down to terminated.
    pub shutting_down_ms: u64,
    /// From terminated to absent from every answer; AWS says about an hour.
    pub vanish_ms: u64,
    /// Until an instance that lost its Elastic IP has a new auto-assigned address; AWS says minutes.
    pub auto_assign_ms: u64,
    /// How long status checks say `initializing` after a launch, start or reboot.
    pub initializing_ms: u64,
    /// Whether stale reads of one caller never go back behind what it has read.
    pub monotonic_reads: bool,
    /// Other limits than AWS's for [`super::Fault::Throttle`].
    pub limits: BTreeMap<Api, Limit>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            timeout_ms: 5_000,
            pending_ms: 15_000,
            stopping_ms: 20_000,
            shutting_down_ms: 20_000,
            vanish_ms: 3_600_000,
            auto_assign_ms: 60_000,
            initializing_ms: 120_000,
            monotonic_reads: false,
            limits: BTreeMap::new(),
        }
    }
}

/// An instance's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's own names")]
pub enum State {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl State {
    /// EC2's own word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Running => "running",
            State::ShuttingDown => "shutting-down",
            State::Terminated => "terminated",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }
}

/// Where an Elastic IP is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// `eipassoc-…`, new with every association.
    pub id: Id,
    /// The instance that the interface is attached to.
    pub instance: Option<Id>,
    /// The interface.
    pub interface: Id,
    /// The private address behind it.
    pub private_ip: Ipv4Addr,
}

/// An Elastic IP, as DescribeAddresses shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `eipalloc-…`.
    pub id: Id,
    /// The address.
    pub public_ip: Ipv4Addr,
    /// The network border group.
    pub border_group: Id,
    /// Where it is.
    pub association: Option<Association>,
    /// Its tags.
    pub tags: Arc<Tags>,
}

/// An instance, as DescribeInstances shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`.
    pub id: Id,
    /// Its state.
    pub state: State,
    /// When it was launched or last started.
    pub launched_ms: u64,
    /// Its availability zone.
    pub zone: Id,
    /// The public address of its primary private address, Elastic or auto-assigned.
    pub public_ip: Option<Ipv4Addr>,
    /// Its interfaces, the primary one first.
    pub interfaces: Vec<NetworkInterface>,
    /// Its tags.
    pub tags: Arc<Tags>,
}

/// What an interface is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// An instance.
    Instance {
        /// Which.
        instance: Id,
        /// The network card.
        card_index: u32,
        /// The position on the card.
        device_index: u32,
        /// Whether it goes when the instance is terminated; so it does by default for the primary interface only.
        delete_on_termination: bool,
    },
    /// An AWS service, which alone may change what is on it.
    Service,
    /// Nothing.
    None,
}

/// A network interface, as DescribeNetworkInterfaces and DescribeInstances show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `eni-…`.
    pub id: Id,
    /// What it is attached to.
    pub attachment: Attachment,
    /// `interface`, `nat_gateway`.
    pub interface_type: &'static str,
    /// Its private addresses, the primary one first.
    pub private_ips: Vec<Ipv4Addr>,
    /// The network border group of its zone.
    pub border_group: Id,
}

/// What a status check says, as far as this world lets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's own names")]
pub enum Check {
    Ok,
    Impaired,
    Initializing,
    InsufficientData,
    NotApplicable,
    Suppressed,
}

impl Check {
    /// EC2's own word.
    pub fn as_str(self) -> &'static str {
        match self {
            Check::Ok => "ok",
            Check::Impaired => "impaired",
            Check::Initializing => "initializing",
            Check::InsufficientData => "insufficient-data",
            Check::NotApplicable => "not-applicable",
            Check::Suppressed => "suppressed",
        }
    }
}

/// Which status check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// The host's.
    System,
    /// The instance's.
    Instance,
    /// The attached EBS volumes'.
    Ebs,
    /// The native application check.
    Application,
}

/// Something that AWS has planned for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledEvent {
    /// Such as `instance-retirement`.
    pub code: String,
    /// A sentence; one that begins with `[Completed]` or `[Canceled]` is over.
    pub description: String,
    /// Earliest start.
    pub not_before_ms: Option<u64>,
    /// Latest end.
    pub not_after_ms: Option<u64>,
}

/// An instance's status checks, as DescribeInstanceStatus shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStatus {
    /// The instance.
    pub id: Id,
    /// The host's.
    pub system: Check,
    /// The instance's.
    pub instance: Check,
    /// The attached EBS volumes'.
    pub ebs: Check,
    /// The native application check.
    pub application: Check,
    /// What is planned for it.
    pub events: Vec<ScheduledEvent>,
}

/// An alarm's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "CloudWatch's own names")]
pub enum AlarmState {
    Ok,
    Alarm,
    InsufficientData,
}

impl AlarmState {
    /// CloudWatch's own word.
    pub fn as_str(self) -> &'static str {
        match self {
            AlarmState::Ok => "OK",
            AlarmState::Alarm => "ALARM",
            AlarmState::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}

/// A CloudWatch alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: AlarmState,
    /// The `InstanceId` dimensions of its metrics.
    pub instances: Vec<Id>,
}

/// What an instance is launched as.
#[derive(Clone, Debug)]
pub struct InstanceSpec {
    /// The availability zone.
    pub zone: String,
    /// The zone's network border group.
    pub border_group: String,
    /// The private addresses of its primary interface; empty: one is chosen.
    pub private_ips: Vec<Ipv4Addr>,
    /// Whether the subnet gives public addresses.
    pub auto_assign: bool,
    /// Its tags.
    pub tags: Tags,
    /// Whether it is only being launched; else it runs and its status checks pass.
    pub pending: bool,
}

impl Default for InstanceSpec {
    fn default() -> InstanceSpec {
        InstanceSpec {
            zone: "eu-west-1a".to_owned(),
            border_group: "eu-west-1".to_owned(),
            private_ips: Vec::new(),
            auto_assign: true,
            tags: Tags::new(),
            pending: false,
        }
    }
}

/// Where [`Ec2::move_by_hand`] puts an address.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// On the first private address of an instance's primary interface.
    Instance(&'a str),
    /// On this private address of this interface.
    Interface(&'a str, Ipv4Addr),
    /// Nowhere.
    Nowhere,
}

/// Why an association changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A call.
    Call {
        /// By whom.
        caller: u32,
        /// When it was sent, in milliseconds.
        sent_ms: u64,
    },
    /// An operator: by hand, by another program, or by setting up the scene.
    Operator,
    /// Another Elastic IP took the private address.
    Displaced {
        /// The allocation that took it.
        by: Id,
    },
    /// The instance was terminated.
    Terminated,
    /// The interface was attached or detached; the address stayed on it.
    Attachment,
    /// The address was released.
    Released,
}

/// A change of an association: who holds an address since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// When.
    pub at_ms: u64,
    /// The address.
    pub allocation: Id,
    /// Where it is from then on.
    pub association: Option<Association>,
    /// Why.
    pub cause: Cause,
}

/// A change of an instance's state: what EventBridge would announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// When.
    pub at_ms: u64,
    /// The instance.
    pub instance: Id,
    /// Its state from then on.
    pub state: State,
}

/// A call that a client made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it arrived, or would have.
    pub at_ms: u64,
    /// Who made it.
    pub caller: u32,
    /// Which.
    pub api: Api,
    /// How many pages, each of them a call to AWS.
    pub pages: u64,
    /// The error code that was answered, `None`: success.
    pub code: Option<&'static str>,
    /// Whether it changed anything, whatever was answered.
    pub changed: bool,
    /// What was asked, of calls that change something.
    pub change: Option<Arc<Request>>,
}

#[derive(Clone, Debug)]
struct Eip {
    public_ip: Ipv4Addr,
    border_group: Id,
    association: Versions<Option<Association>>,
    tags: Versions<Arc<Tags>>,
}

#[derive(Clone, Debug)]
struct Nic {
    shown: NetworkInterface,
    tags: Versions<Arc<Tags>>,
}

impl Nic {
    fn instance(&self) -> Option<&Id> {
        match &self.shown.attachment {
            Attachment::Instance { instance, .. } => Some(instance),
            _ => None,
        }
    }

    fn position(&self) -> (u32, u32) {
        match self.shown.attachment {
            Attachment::Instance { card_index, device_index, .. } => (card_index, device_index),
            _ => (u32::MAX, u32::MAX),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Life {
    state: State,
    launched_ms: u64,
}

#[derive(Clone, Debug)]
struct Vm {
    zone: Id,
    auto_assign: bool,
    auto_ip: Option<Ipv4Addr>,
    /// When a lost auto-assigned address is replaced.
    auto_ip_due_ms: Option<u64>,
    life: Versions<Life>,
    public_ip: Versions<Option<Ipv4Addr>>,
    tags: Versions<Arc<Tags>>,
    /// By card and device index.
    interfaces: Vec<Id>,
    status: InstanceStatus,
}

impl Vm {
    fn state(&self) -> State {
        self.life.newest().state
    }
}

/// What happens by itself when its time has come.
#[derive(Clone, Debug)]
enum Timer {
    /// The transient state is over.
    State(Id),
    Vanish(Id),
    AutoIp(Id),
    /// Status checks pass again after the launch or reboot at this time.
    Initialized(Id, u64),
    /// A request takes effect that its client gave up on.
    Late(Plan, Arc<Request>),
}

/// EC2 in memory. Times are milliseconds and never go back: an earlier one is taken as the latest that was given.
#[derive(Clone, Debug)]
pub struct Ec2 {
    /// Durations and limits.
    pub settings: Settings,
    now_ms: u64,
    /// See [`Ec2::version`].
    version: u64,
    rng: fastrand::Rng,
    rules: Vec<Rule>,
    buckets: BTreeMap<Api, Bucket>,
    /// The latest moment that each caller was shown, for monotonic reads.
    shown_ms: BTreeMap<(u32, Shown), u64>,
    addresses: BTreeMap<Id, Eip>,
    interfaces: BTreeMap<Id, Nic>,
    instances: BTreeMap<Id, Vm>,
    alarms: BTreeMap<String, Alarm>,
    /// By time, then by order of setting.
    timers: BTreeMap<(u64, u64), Timer>,
    timers_set: u64,
    serials: BTreeMap<&'static str, u32>,
    calls: VecDeque<Call>,
    pages: BTreeMap<Api, u64>,
    history: VecDeque<Placed>,
    state_changes: VecDeque<StateChange>,
    met: BTreeMap<&'static str, u64>,
}

/// The first addresses of what is given out: documentation and benchmark networks, and a private one.
const ELASTIC_FROM: u32 = u32::from_be_bytes([203, 0, 113, 0]);
const AUTO_FROM: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const PRIVATE_FROM: u32 = u32::from_be_bytes([10, 0, 0, 10]);

fn record<T>(records: &mut VecDeque<T>, entry: T) {
    if records.len() >= MAX_RECORDS {
        records.pop_front();
    }
    records.push_back(entry);
}

/// Setting up a scene. It happens at the latest time that the world was given, without any fault.
impl Ec2 {
    /// An empty world at time 0.
    pub fn new(seed: u64) -> Ec2 {
        Ec2 {
            settings: Settings::default(),
            now_ms: 0,
            version: 0,
            rng: fastrand::Rng::with_seed(seed),
            rules: Vec::new(),
            buckets: BTreeMap::new(),
            shown_ms: BTreeMap::new(),
            addresses: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            instances: BTreeMap::new(),
            alarms: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_set: 0,
            serials: BTreeMap::new(),
            calls: VecDeque::new(),
            pages: BTreeMap::new(),
            history: VecDeque::new(),
            state_changes: VecDeque::new(),
            met: BTreeMap::new(),
        }
    }

    /// Launches an instance with one interface. Ids count up, so that their order is the order of adding.
    pub fn add_instance(&mut self, spec: InstanceSpec) -> Id {
        let now = self.now_ms;
        let id = self.new_id("i");
        let state = if spec.pending { State::Pending } else { State::Running };
        let check = if spec.pending { Check::Initializing } else { Check::Ok };
        let vm = Vm {
            zone: spec.zone.into(),
            auto_assign: spec.auto_assign,
            auto_ip: None,
            auto_ip_due_ms: None,
            life: Versions::new(now, Life { state, launched_ms: now }),
            public_ip: Versions::new(now, None),
            tags: Versions::new(now, Arc::new(spec.tags)),
            interfaces: Vec::new(),
            status: InstanceStatus {
                id: id.clone(),
                system: check,
                instance: check,
                ebs: check,
                application: Check::NotApplicable,
                events: Vec::new(),
            },
        };
        self.version += 1;
        self.instances.insert(id.clone(), vm);
        record(&mut self.state_changes, StateChange { at_ms: now, instance: id.clone(), state });
        self.new_interface("interface", spec.private_ips, spec.border_group.into(), Some((id.clone(), 0, true)));
        self.assign_public_ip(&id);
        if spec.pending {
            self.set_timer(self.settings.pending_ms, Timer::State(id.clone()));
            self.set_timer(self.settings.initializing_ms, Timer::Initialized(id.clone(), now));
        }
        id
    }

    /// Allocates an Elastic IP in the border group that instances have by default.
    pub fn add_address(&mut self, tags: Tags) -> Id {
        self.add_address_in(&InstanceSpec::default().border_group, tags)
    }

    /// Allocates an Elastic IP in a border group.
    pub fn add_address_in(&mut self, border_group: &str, tags: Tags) -> Id {
        let public_ip = Ipv4Addr::from(ELASTIC_FROM.saturating_add(self.serial("elastic")));
        self.allocate(public_ip, border_group.into(), tags)
    }

    /// Attaches one more interface to an instance, at this device index. It outlives the instance.
    pub fn add_interface(&mut self, instance: &str, device_index: u32) -> Option<Id> {
        let primary = self.primary_interface(instance)?;
        let border_group = self.interfaces.get(&primary)?.shown.border_group.clone();
        let id = self.instance_id(instance)?;
        Some(self.new_interface("interface", Vec::new(), border_group, Some((id, device_index, false))))
    }

    /// Lets the scene count as old: stale reads show nothing from before. Records stay.
    pub fn settle(&mut self) {
        for vm in self.instances.values_mut() {
            vm.life.settle();
            vm.public_ip.settle();
            vm.tags.settle();
        }
        for eip in self.addresses.values_mut() {
            eip.association.settle();
            eip.tags.settle();
        }
        self.interfaces.values_mut().for_each(|nic| nic.tags.settle());
    }

    /// Gives an interface one more private address: this one, or one that is chosen.
    pub fn add_private_ip(&mut self, interface: &str, ip: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let ip = ip.unwrap_or_else(|| Ipv4Addr::from(PRIVATE_FROM.saturating_add(self.serial("private"))));
        self.interfaces.get_mut(interface)?.shown.private_ips.push(ip);
        Some(ip)
    }

    /// Adds the interface of a NAT gateway.
    pub fn nat_gateway_interface(&mut self) -> Id {
        let border_group = InstanceSpec::default().border_group.into();
        self.new_interface("nat_gateway", Vec::new(), border_group, None)
    }

    fn new_interface(
        &mut self,
        interface_type: &'static str,
        mut private_ips: Vec<Ipv4Addr>,
        border_group: Id,
        instance: Option<(Id, u32, bool)>,
    ) -> Id {
        let id = self.new_id("eni");
        if private_ips.is_empty() {
            private_ips.push(Ipv4Addr::from(PRIVATE_FROM.saturating_add(self.serial("private"))));
        }
        let attachment = if instance.is_some() { Attachment::None } else { Attachment::Service };
        let shown = NetworkInterface { id: id.clone(), attachment, interface_type, private_ips, border_group };
        self.interfaces.insert(id.clone(), Nic { shown, tags: Versions::new(self.now_ms, Arc::default()) });
        if let Some((instance, device_index, delete_on_termination)) = instance {
            self.attach(&id, instance, device_index, delete_on_termination);
        }
        id
    }

    fn allocate(&mut self, public_ip: Ipv4Addr, border_group: Id, tags: Tags) -> Id {
        let id = self.new_id("eipalloc");
        let association = Versions::new(self.now_ms, None);
        let tags = Versions::new(self.now_ms, Arc::new(tags));
        self.addresses.insert(id.clone(), Eip { public_ip, border_group, association, tags });
        id
    }

    fn serial(&mut self, kind: &'static str) -> u32 {
        let serial = self.serials.entry(kind).or_default();
        *serial = serial.saturating_add(1);
        *serial
    }

    fn new_id(&mut self, prefix: &'static str) -> Id {
        format!("{prefix}-{:017x}", self.serial(prefix)).into()
    }

    fn instance_id(&self, instance: &str) -> Option<Id> {
        self.instances.get_key_value(instance).map(|(id, _)| id.clone())
    }
}

/// What operators do, or chance, outside the calls. Each answers whether there was such a thing in a state that allows it.
impl Ec2 {
    /// The rules of what goes wrong.
    pub fn faults(&self) -> &[Rule] {
        &self.rules
    }

    /// The same, to be changed freely.
    pub fn faults_mut(&mut self) -> &mut Vec<Rule> {
        &mut self.rules
    }

    /// Stops a running instance. Its Elastic IPs stay; its auto-assigned address does not.
    pub fn stop_instance(&mut self, instance: &str, now_ms: u64) -> bool {
        self.advance(now_ms);
        if self.state(instance) != Some(State::Running) {
            return false;
        }
        if let Some(vm) = self.instances.get_mut(instance) {
            vm.auto_ip = None;
            vm.auto_ip_due_ms = None;
        }
        self.enter(instance, State::Stopping, self.settings.stopping_ms);
        self.refresh_public_ip(instance);
        true
    }

    /// Starts a stopped instance: a new launch time, and a new auto-assigned address if it may have one.
    pub fn start_instance(&mut self, instance: &str, now_ms: u64) -> bool {
        self.advance(now_ms);
        if self.state(instance) != Some(State::Stopped) {
            return false;
        }
        self.enter(instance, State::Pending, self.settings.pending_ms);
        self.initialize(instance);
        self.assign_public_ip(instance);
        true
    }

    /// Terminates an instance in any state but shutting-down and terminated.
    pub fn terminate_instance(&mut self, instance: &str, now_ms: u64) -> bool {
        self.advance(now_ms);
        if matches!(self.state(instance), None | Some(State::ShuttingDown | State::Terminated)) {
            return false;
        }
        self.enter(instance, State::ShuttingDown, self.settings.shutting_down_ms);
        true
    }

    /// Reboots a running instance: neither its state nor its launch time change, its status checks begin anew.
    pub fn reboot_instance(&mut self, instance: &str, now_ms: u64) -> bool {
        self.advance(now_ms);
        let runs = self.state(instance) == Some(State::Running);
        if runs {
            self.initialize(instance);
        }
        runs
    }

    /// Sets what a status check says.
    pub fn set_status(&mut self, instance: &str, kind: CheckKind, check: Check, now_ms: u64) -> bool {
        self.advance(now_ms);
        self.version += 1;
        let Some(vm) = self.instances.get_mut(instance) else { return false };
        match kind {
            CheckKind::System => vm.status.system = check,
            CheckKind::Instance => vm.status.instance = check,
            CheckKind::Ebs => vm.status.ebs = check,
            CheckKind::Application => vm.status.application = check,
        }
        true
    }

    /// Replaces what AWS has planned for an instance.
    pub fn schedule_events(&mut self, instance: &str, events: Vec<ScheduledEvent>, now_ms: u64) -> bool {
        self.advance(now_ms);
        self.version += 1;
        let vm = self.instances.get_mut(instance);
        vm.map(|vm| vm.status.events = events).is_some()
    }

    /// Creates or replaces an alarm.
    pub fn set_alarm(&mut self, alarm: Alarm, now_ms: u64) {
        self.advance(now_ms);
        self.version += 1;
        self.alarms.insert(alarm.name.clone(), alarm);
    }

    /// Sets tags on a resource; others stay. No limit applies.
    pub fn set_tags(&mut self, resource: &str, tags: Tags, now_ms: u64) -> bool {
        self.advance(now_ms);
        self.edit_tags(resource, |all| all.extend(tags))
    }

    /// Removes a tag from a resource.
    pub fn remove_tag(&mut self, resource: &str, key: &str, now_ms: u64) -> bool {
        self.advance(now_ms);
        self.edit_tags(resource, |all| {
            all.remove(key);
        })
    }

    /// Moves an address as a person or another program would. What is on the private address is displaced.
    pub fn move_by_hand(&mut self, allocation: &str, to: Place<'_>, now_ms: u64) -> bool {
        self.advance(now_ms);
        let spot = match to {
            Place::Nowhere => None,
            Place::Interface(interface, ip) => {
                let nic = self.interfaces.get(interface).filter(|nic| nic.shown.private_ips.contains(&ip));
                nic.map(|nic| (nic.shown.id.clone(), ip))
            }
            Place::Instance(instance) => self.primary_interface(instance).and_then(|interface| {
                let first = self.interfaces.get(&interface)?.shown.private_ips.first().copied()?;
                Some((interface, first))
            }),
        };
        let Some((id, _)) = self.addresses.get_key_value(allocation) else { return false };
        if spot.is_none() && !matches!(to, Place::Nowhere) {
            return false;
        }
        self.place(&id.clone(), spot, Cause::Operator);
        true
    }

    /// Releases an address and allocates it again, as after a mistake: the allocation id is new, the tags are gone.
    pub fn release_and_recover_address(&mut self, allocation: &str, now_ms: u64) -> Option<Id> {
        self.advance(now_ms);
        let (id, eip) = self.addresses.get_key_value(allocation)?;
        let (id, public_ip, border_group) = (id.clone(), eip.public_ip, eip.border_group.clone());
        self.place(&id, None, Cause::Released);
        self.addresses.remove(&id);
        Some(self.allocate(public_ip, border_group, Tags::new()))
    }

    /// Others in the account use up what every token bucket holds.
    pub fn empty_buckets(&mut self, now_ms: u64) {
        self.advance(now_ms);
        for api in Api::ALL {
            self.buckets.insert(api, Bucket::empty(self.now_ms));
        }
    }

    /// Detaches an interface from its instance. Elastic IPs stay on it.
    pub fn detach_interface(&mut self, interface: &str, now_ms: u64) -> bool {
        self.advance(now_ms);
        let Some(nic) = self.interfaces.get_mut(interface) else { return false };
        let Some(instance) = nic.instance().cloned() else { return false };
        nic.shown.attachment = Attachment::None;
        if let Some(vm) = self.instances.get_mut(&instance) {
            vm.interfaces.retain(|id| **id != *interface);
        }
        self.follow_interface(interface);
        self.refresh_public_ip(&instance);
        true
    }

    /// Attaches a free interface to an instance.
    pub fn attach_interface(&mut self, interface: &str, instance: &str, device_index: u32, now_ms: u64) -> bool {
        self.advance(now_ms);
        let Some(id) = self.instance_id(instance) else { return false };
        if self.interfaces.get(interface).is_none_or(|nic| nic.shown.attachment != Attachment::None) {
            return false;
        }
        self.attach(interface, id, device_index, false);
        self.follow_interface(interface);
        true
    }
}

/// The truth, beside what calls show.
impl Ec2 {
    /// The latest time that the world was given.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Grows with every change of an instance's state, status or tags, of an association, an alarm: while it stays, so does the truth.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When something happens next by itself.
    pub fn next_change_ms(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Where an address is now.
    pub fn association(&self, allocation: &str) -> Option<&Association> {
        self.addresses.get(allocation)?.association.newest().as_ref()
    }

    /// The instance that holds an address now.
    pub fn holder(&self, allocation: &str) -> Option<&Id> {
        self.association(allocation)?.instance.as_ref()
    }

    /// Where an address was at a moment, by the history.
    pub fn association_at(&self, allocation: &str, at_ms: u64) -> Option<&Association> {
        let last = self.history.iter().rev().find(|it| *it.allocation == *allocation && it.at_ms <= at_ms);
        last.and_then(|it| it.association.as_ref())
    }

    /// Every change of an association, oldest first; at most [`MAX_RECORDS`].
    pub fn history(&self) -> &VecDeque<Placed> {
        &self.history
    }

    /// The changes by which an Elastic IP lost its place to another.
    pub fn displacements(&self) -> impl Iterator<Item = &Placed> {
        self.history.iter().filter(|it| matches!(it.cause, Cause::Displaced { .. }))
    }

    /// Every change of an instance's state, oldest first; at most [`MAX_RECORDS`].
    pub fn state_changes(&self) -> &VecDeque<StateChange> {
        &self.state_changes
    }

    /// The calls that were made, oldest first; at most [`MAX_RECORDS`].
    ///
    /// A request that took effect after its client had given up is there twice: when the client gave up, and when it took effect.
    pub fn calls(&self) -> &VecDeque<Call> {
        &self.calls
    }

    /// Takes the record of calls, which begins anew.
    pub fn take_calls(&mut self) -> VecDeque<Call> {
        std::mem::take(&mut self.calls)
    }

    /// How many calls were made so far, every page counted.
    pub fn pages(&self, api: Api) -> u64 {
        self.pages.get(&api).copied().unwrap_or(0)
    }

    /// How often each kind of fault has struck, by [`super::Fault::name`]; `stale` counts reads that showed something that held no more.
    pub fn met(&self) -> &BTreeMap<&'static str, u64> {
        &self.met
    }

    /// An instance's state; `None` once it has vanished.
    pub fn state(&self, instance: &str) -> Option<State> {
        self.instances.get(instance).map(Vm::state)
    }

    /// When an instance was launched or last started.
    pub fn launched_ms(&self, instance: &str) -> Option<u64> {
        self.instances.get(instance).map(|vm| vm.life.newest().launched_ms)
    }

    /// An instance's public address, Elastic or auto-assigned.
    pub fn public_ip(&self, instance: &str) -> Option<Ipv4Addr> {
        *self.instances.get(instance)?.public_ip.newest()
    }

    /// An instance's primary interface.
    pub fn primary_interface(&self, instance: &str) -> Option<Id> {
        self.instances.get(instance)?.interfaces.first().cloned()
    }

    /// An instance's interfaces, or one interface by its own id, as they are.
    pub fn interfaces_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a NetworkInterface> {
        let of_instance = self.instances.get(id).into_iter().flat_map(|vm| vm.interfaces.iter());
        let ids = of_instance.map(|id| &**id).chain(std::iter::once(id));
        ids.filter_map(|id| self.interfaces.get(id)).map(|nic| &nic.shown)
    }

    /// The public address that stands for a private one: Elastic, or on a primary address auto-assigned.
    pub fn public_of(&self, interface: &NetworkInterface, private_ip: Ipv4Addr) -> Option<Ipv4Addr> {
        let elastic = self.addresses.values().find(|eip| {
            let at = eip.association.newest().as_ref();
            at.is_some_and(|at| at.interface == interface.id && at.private_ip == private_ip)
        });
        let auto = || {
            let Attachment::Instance { instance, .. } = &interface.attachment else { return None };
            let is_primary = self.primary_interface(instance).as_ref() == Some(&interface.id);
            let is_first = interface.private_ips.first() == Some(&private_ip);
            if is_primary && is_first { self.instances.get(instance)?.auto_ip } else { None }
        };
        elastic.map(|eip| eip.public_ip).or_else(auto)
    }

    /// An instance's availability zone.
    pub fn zone(&self, instance: &str) -> Option<&Id> {
        self.instances.get(instance).map(|vm| &vm.zone)
    }

    /// What an instance's application check says.
    pub fn application_check(&self, instance: &str) -> Option<Check> {
        self.instances.get(instance).map(|vm| vm.status.application)
    }

    /// A resource's tags.
    pub fn tags(&self, resource: &str) -> Option<&Tags> {
        Some(self.tags_of(resource)?.newest().as_ref())
    }

    /// An Elastic IP's public address.
    pub fn elastic_ip(&self, allocation: &str) -> Option<Ipv4Addr> {
        self.addresses.get(allocation).map(|eip| eip.public_ip)
    }

    /// The addresses, by allocation id.
    pub fn address_ids(&self) -> impl Iterator<Item = &Id> {
        self.addresses.keys()
    }

    /// The instances that have not vanished, by id.
    pub fn instance_ids(&self) -> impl Iterator<Item = &Id> {
        self.instances.keys()
    }
}

/// What happens by itself, and the mechanics that operators and calls share.
impl Ec2 {
    /// Lets time pass: everything that is due happens, in order, each at its own time.
    pub fn advance(&mut self, now_ms: u64) {
        while let Some(entry) = self.timers.first_entry() {
            let at_ms = entry.key().0;
            if at_ms > now_ms {
                break;
            }
            let timer = entry.remove();
            self.now_ms = self.now_ms.max(at_ms);
            self.fire(timer);
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn set_timer(&mut self, in_ms: u64, timer: Timer) {
        self.timers_set += 1;
        self.timers.insert((self.now_ms.saturating_add(in_ms), self.timers_set), timer);
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::State(id) => match self.state(&id) {
                Some(State::Pending) => {
                    self.enter(&id, State::Running, 0);
                    self.refresh_public_ip(&id);
                }
                Some(State::Stopping) => self.enter(&id, State::Stopped, 0),
                Some(State::ShuttingDown) => self.finish_termination(&id),
                _ => {}
            },
            Timer::Vanish(id) => {
                self.version += 1;
                self.instances.remove(&id);
            }
            Timer::AutoIp(id) => {
                let now = self.now_ms;
                if self.instances.get(&id).is_some_and(|vm| vm.auto_ip_due_ms.is_some_and(|due_ms| due_ms <= now)) {
                    self.assign_public_ip(&id);
                }
            }
            Timer::Initialized(id, since_ms) => {
                if let Some(vm) = self.instances.get_mut(&id)
                    && vm.life.newest().launched_ms <= since_ms
                {
                    let InstanceStatus { system, instance, ebs, .. } = &mut vm.status;
                    for check in [system, instance, ebs] {
                        if *check == Check::Initializing {
                            *check = Check::Ok;
                        }
                    }
                }
            }
            Timer::Late(plan, request) => self.take_late_effect(&plan, &request),
        }
    }

    /// Enters a state; a transient one is left after so long.
    fn enter(&mut self, instance: &str, state: State, transient_ms: u64) {
        let now = self.now_ms;
        let Some(id) = self.instance_id(instance) else { return };
        self.version += 1;
        if let Some(vm) = self.instances.get_mut(&id) {
            let launched_ms = if state == State::Pending { now } else { vm.life.newest().launched_ms };
            vm.life.push(now, Life { state, launched_ms });
        }
        record(&mut self.state_changes, StateChange { at_ms: now, instance: id.clone(), state });
        if matches!(state, State::Pending | State::Stopping | State::ShuttingDown) {
            self.set_timer(transient_ms, Timer::State(id));
        }
    }

    fn initialize(&mut self, instance: &str) {
        let Some(id) = self.instance_id(instance) else { return };
        if let Some(vm) = self.instances.get_mut(&id) {
            vm.status.system = Check::Initializing;
            vm.status.instance = Check::Initializing;
            vm.status.ebs = Check::Initializing;
        }
        self.set_timer(self.settings.initializing_ms, Timer::Initialized(id, self.now_ms));
    }

    /// The interfaces go or are set free, and with those that go their associations.
    fn finish_termination(&mut self, instance: &str) {
        self.enter(instance, State::Terminated, 0);
        let Some(vm) = self.instances.get_mut(instance) else { return };
        vm.auto_ip = None;
        vm.auto_ip_due_ms = None;
        let id = vm.status.id.clone();
        for interface in std::mem::take(&mut vm.interfaces) {
            let Some(nic) = self.interfaces.get_mut(&interface) else { continue };
            let goes = matches!(nic.shown.attachment, Attachment::Instance { delete_on_termination: true, .. });
            nic.shown.attachment = Attachment::None;
            if goes {
                for allocation in self.addresses_on(&interface) {
                    self.place(&allocation, None, Cause::Terminated);
                }
                self.interfaces.remove(&interface);
            } else {
                self.follow_interface(&interface);
            }
        }
        self.refresh_public_ip(&id);
        self.set_timer(self.settings.vanish_ms, Timer::Vanish(id));
    }

    fn attach(&mut self, interface: &str, instance: Id, device_index: u32, delete_on_termination: bool) {
        let Some(nic) = self.interfaces.get_mut(interface) else { return };
        nic.shown.attachment =
            Attachment::Instance { instance: instance.clone(), card_index: 0, device_index, delete_on_termination };
        let id = nic.shown.id.clone();
        if let Some(vm) = self.instances.get_mut(&instance) {
            vm.interfaces.push(id);
            vm.interfaces.sort_by_key(|id| self.interfaces.get(id).map(Nic::position));
        }
    }

    /// Associations show the instance that their interface is attached to now.
    fn follow_interface(&mut self, interface: &str) {
        let instance = self.interfaces.get(interface).and_then(Nic::instance).cloned();
        for allocation in self.addresses_on(interface) {
            if let Some(association) = self.association(&allocation).cloned() {
                let association = Association { instance: instance.clone(), ..association };
                self.set_association(&allocation, Some(association), Cause::Attachment);
            }
        }
    }

    fn addresses_on(&self, interface: &str) -> Vec<Id> {
        let on = |eip: &Eip| eip.association.newest().as_ref().is_some_and(|it| *it.interface == *interface);
        self.addresses.iter().filter(|(_, eip)| on(eip)).map(|(id, _)| id.clone()).collect()
    }

    /// Puts an address somewhere else, with a new association; whatever is there loses its place.
    fn place(&mut self, allocation: &Id, spot: Option<(Id, Ipv4Addr)>, cause: Cause) -> Option<Id> {
        let association = spot.map(|(interface, private_ip)| Association {
            id: self.new_id("eipassoc"),
            instance: self.interfaces.get(&interface).and_then(Nic::instance).cloned(),
            interface,
            private_ip,
        });
        if let Some(Association { interface, private_ip, .. }) = &association
            && let Some(other) = self.occupant(interface, *private_ip)
            && other != *allocation
        {
            self.set_association(&other, None, Cause::Displaced { by: allocation.clone() });
        }
        let id = association.as_ref().map(|it| it.id.clone());
        self.set_association(allocation, association, cause);
        id
    }

    fn occupant(&self, interface: &str, private_ip: Ipv4Addr) -> Option<Id> {
        let is_there = |it: &Association| *it.interface == *interface && it.private_ip == private_ip;
        let mut all = self.addresses.iter();
        all.find(|(_, eip)| eip.association.newest().as_ref().is_some_and(is_there)).map(|(id, _)| id.clone())
    }

    fn set_association(&mut self, allocation: &Id, association: Option<Association>, cause: Cause) {
        let now = self.now_ms;
        let Some(eip) = self.addresses.get_mut(allocation) else { return };
        let before = eip.association.newest().as_ref().and_then(|it| it.instance.clone());
        let after = association.as_ref().and_then(|it| it.instance.clone());
        self.version += 1;
        eip.association.push(now, association.clone());
        record(&mut self.history, Placed { at_ms: now, allocation: allocation.clone(), association, cause });
        for instance in [before, after].into_iter().flatten() {
            self.refresh_public_ip(&instance);
        }
    }

    /// Brings an instance's public address up to date.
    ///
    /// An Elastic IP on the primary interface releases the auto-assigned address (EC2 User Guide, "Elastic IP addresses").
    /// Once none is there, an instance that runs and has one interface gets a new one after a while.
    fn refresh_public_ip(&mut self, instance: &str) {
        let primary = self.primary_interface(instance);
        let first_ip = primary.as_ref().and_then(|id| self.interfaces.get(id)?.shown.private_ips.first().copied());
        let (mut any, mut elastic) = (false, None);
        for eip in self.addresses.values() {
            if let Some(it) = eip.association.newest()
                && Some(&it.interface) == primary.as_ref()
            {
                any = true;
                if Some(it.private_ip) == first_ip {
                    elastic = Some(eip.public_ip);
                }
            }
        }
        let (now, after_ms) = (self.now_ms, self.settings.auto_assign_ms);
        let Some(vm) = self.instances.get_mut(instance) else { return };
        let mut timer = None;
        if any {
            vm.auto_ip = None;
            vm.auto_ip_due_ms = None;
        } else if vm.auto_ip.is_none()
            && vm.auto_ip_due_ms.is_none()
            && vm.auto_assign
            && vm.interfaces.len() == 1
            && vm.state() == State::Running
        {
            vm.auto_ip_due_ms = Some(now.saturating_add(after_ms));
            timer = Some(Timer::AutoIp(vm.status.id.clone()));
        }
        let public_ip = elastic.or(vm.auto_ip);
        if *vm.public_ip.newest() != public_ip {
            vm.public_ip.push(now, public_ip);
        }
        if let Some(timer) = timer {
            self.set_timer(after_ms, timer);
        }
    }

    /// Gives an instance an auto-assigned address, if it may have one and lacks a public address.
    fn assign_public_ip(&mut self, instance: &str) {
        let free = self.primary_interface(instance).is_some_and(|primary| self.addresses_on(&primary).is_empty());
        let ip = Ipv4Addr::from(AUTO_FROM.saturating_add(self.serial("auto")));
        if let Some(vm) = self.instances.get_mut(instance) {
            vm.auto_ip_due_ms = None;
            let may =
                vm.auto_assign && vm.interfaces.len() == 1 && matches!(vm.state(), State::Pending | State::Running);
            if free && may {
                vm.auto_ip = Some(ip);
            }
        }
        self.refresh_public_ip(instance);
    }

    fn tags_of(&self, resource: &str) -> Option<&Versions<Arc<Tags>>> {
        let instance = self.instances.get(resource).map(|it| &it.tags);
        let address = || self.addresses.get(resource).map(|it| &it.tags);
        instance.or_else(address).or_else(|| self.interfaces.get(resource).map(|it| &it.tags))
    }

    /// Changes tags; what changes nothing leaves no version behind.
    fn edit_tags(&mut self, resource: &str, edit: impl FnOnce(&mut Tags)) -> bool {
        let Some(before) = self.tags_of(resource).map(|it| it.newest().clone()) else { return false };
        let mut after = Tags::clone(&before);
        edit(&mut after);
        if after == *before {
            return true;
        }
        let now = self.now_ms;
        self.version += 1;
        if let Some(vm) = self.instances.get_mut(resource) {
            vm.tags.push(now, Arc::new(after));
        } else if let Some(eip) = self.addresses.get_mut(resource) {
            eip.tags.push(now, Arc::new(after));
        } else if let Some(nic) = self.interfaces.get_mut(resource) {
            nic.tags.push(now, Arc::new(after));
        }
        true
    }
}
