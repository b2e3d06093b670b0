//! The calls: what a client asks, what becomes of it on the way, and what EC2 makes of it.
//!
//! A call has two moments: it takes effect, and later it is answered. [`Ec2::plan`] settles both, and what goes wrong;
//! [`Ec2::run`] makes it take effect. A simulation puts other things in between.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::super::faults::{Api, Bucket, Fault, Rule, Shown};
use super::super::versions::{MAX_STALENESS_MS, Versions};
use super::{
    Address, Alarm, Attachment, Call, Cause, Ec2, Error, Id, Instance, InstanceStatus, Nic, State, Timer, Vm, record,
};

/// Entries on one page of the calls that have pages: the most that EC2 gives.
pub const PAGE_SIZE: usize = 1_000;

/// The most ids that DescribeInstanceStatus, and names that DescribeAlarms takes.
const MAX_NAMED: usize = 100;
/// The tags of one resource, and the lengths of key and value in characters (EC2 User Guide, "Tag restrictions").
const MAX_TAGS: usize = 50;
const MAX_KEY_CHARS: usize = 128;
const MAX_VALUE_CHARS: usize = 256;

/// Which instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    All,
    /// Those that carry this tag key.
    TagKey(String),
    /// These, which must exist.
    Ids(Vec<Id>),
}

/// A call. Those with pages are asked for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "AWS's own names")]
pub enum Request {
    DescribeAddresses,
    DescribeInstances(Filter),
    /// Of running instances: of these, or of all when empty.
    DescribeInstanceStatus(Vec<Id>),
    /// Of instances, where the key begins so.
    DescribeTags {
        key_prefix: String,
    },
    /// By filter, so that unknown ids are left out.
    DescribeNetworkInterfaces(Vec<Id>),
    /// By name, all when empty.
    DescribeAlarms(Vec<String>),
    AssociateAddress {
        allocation: Id,
        interface: Id,
        private_ip: Ipv4Addr,
        allow_reassociation: bool,
        dry_run: bool,
    },
    CreateTags {
        resources: Vec<Id>,
        tags: Vec<(String, String)>,
        dry_run: bool,
    },
}

impl Request {
    /// Which call it is.
    pub fn api(&self) -> Api {
        match self {
            Request::DescribeAddresses => Api::DescribeAddresses,
            Request::DescribeInstances(_) => Api::DescribeInstances,
            Request::DescribeInstanceStatus(_) => Api::DescribeInstanceStatus,
            Request::DescribeTags { .. } => Api::DescribeTags,
            Request::DescribeNetworkInterfaces(_) => Api::DescribeNetworkInterfaces,
            Request::DescribeAlarms(_) => Api::DescribeAlarms,
            Request::AssociateAddress { .. } => Api::AssociateAddress,
            Request::CreateTags { .. } => Api::CreateTags,
        }
    }

    fn dry_run(&self) -> bool {
        matches!(self, Request::AssociateAddress { dry_run: true, .. } | Request::CreateTags { dry_run: true, .. })
    }

    /// The instances, interfaces and addresses that it names.
    fn ids(&self) -> impl Iterator<Item = &Id> {
        let (many, two): (&[Id], [Option<&Id>; 2]) = match self {
            Request::DescribeInstances(Filter::Ids(ids))
            | Request::DescribeInstanceStatus(ids)
            | Request::DescribeNetworkInterfaces(ids)
            | Request::CreateTags { resources: ids, .. } => (ids, [None, None]),
            Request::AssociateAddress { allocation, interface, .. } => (&[], [Some(allocation), Some(interface)]),
            _ => (&[], [None, None]),
        };
        many.iter().chain(two.into_iter().flatten())
    }
}

/// What a call answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// DescribeAddresses.
    Addresses(Vec<Address>),
    /// DescribeInstances.
    Instances(Vec<Instance>),
    /// DescribeInstanceStatus.
    Statuses(Vec<InstanceStatus>),
    /// DescribeTags: resource, key, value.
    Tags(Vec<(Id, String, String)>),
    /// DescribeNetworkInterfaces.
    Interfaces(Vec<super::NetworkInterface>),
    /// DescribeAlarms.
    Alarms(Vec<Alarm>),
    /// AssociateAddress: the association's id.
    Associated(Id),
    /// CreateTags.
    Tagged,
}

/// What becomes of a call: when it takes effect, when it is answered, what goes wrong.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who calls.
    pub caller: u32,
    /// When it was sent.
    sent_ms: u64,
    /// When to [`Ec2::run`] it; never after the answer.
    pub effect_at_ms: u64,
    /// When the client has the answer, or gives up.
    pub answer_at_ms: u64,
    fate: Fate,
    throttled: bool,
    /// How old associations, states and tags may be shown, in milliseconds.
    stale_ms: [(Shown, u64); 3],
    omitted: Vec<Id>,
}

#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Serve,
    Refuse(Error),
    RefuseAfter(Error),
    LoseRequest,
    LoseAnswer,
    /// The effect comes at this time, after the client has given up.
    Late(u64),
    Hollow,
}

/// The moments that a read shows, and whether it showed anything that holds no more.
struct Moments {
    associations_ms: u64,
    states_ms: u64,
    tags_ms: u64,
    stale: Cell<bool>,
}

impl Moments {
    fn pick<'a, T>(&self, versions: &'a Versions<T>, at_ms: u64) -> Option<&'a T> {
        let picked = versions.at(at_ms);
        // What did not exist yet is stale, too.
        if picked.is_none_or(|(_, fresh)| !fresh) {
            self.stale.set(true);
        }
        picked.map(|(value, _)| value)
    }
}

struct Done {
    response: Response,
    /// What was read, for counting pages.
    entries: usize,
    changed: bool,
}

impl Done {
    fn read(response: Response, entries: usize) -> Result<Done, Error> {
        Ok(Done { response, entries, changed: false })
    }
}

impl Ec2 {
    /// Settles what becomes of a call that is made now: latency, and what the rules let go wrong at the moment it arrives.
    pub fn plan(&mut self, caller: u32, request: &Request, now_ms: u64) -> Plan {
        self.advance(now_ms);
        let now_ms = self.now_ms;
        let rules = std::mem::take(&mut self.rules);
        let mut latency_ms: u64 = 0;
        for rule in &rules {
            if let Fault::Latency { min_ms, max_ms } = rule.fault
                && self.befalls(rule, caller, request, now_ms)
            {
                latency_ms = latency_ms.saturating_add(self.rng.u64(min_ms..=max_ms.max(min_ms)));
                self.count(rule.fault.name());
            }
        }
        let gives_up_ms = now_ms.saturating_add(self.settings.timeout_ms);
        let arrives_ms = now_ms.saturating_add(latency_ms / 2);
        let answer_ms = now_ms.saturating_add(latency_ms);
        let (fate, effect_at_ms, answer_at_ms) = match (arrives_ms, answer_ms) {
            (_, answer) if answer <= gives_up_ms => (Fate::Serve, arrives_ms, answer),
            (arrives, _) if arrives <= gives_up_ms => (Fate::LoseAnswer, arrives, gives_up_ms),
            (arrives, _) => (Fate::Late(arrives), gives_up_ms, gives_up_ms),
        };
        let mut plan = Plan {
            caller,
            sent_ms: now_ms,
            effect_at_ms,
            answer_at_ms,
            fate,
            throttled: false,
            stale_ms: [(Shown::Associations, 0), (Shown::States, 0), (Shown::Tags, 0)],
            omitted: Vec::new(),
        };
        for rule in &rules {
            // Latency is settled, and of several things that go wrong the first one counts.
            let open = plan.fate == Fate::Serve;
            let applies = match &rule.fault {
                Fault::Latency { .. } => false,
                Fault::Throttle | Fault::Stale { .. } | Fault::Omit(_) => true,
                Fault::Error(error) => open && (!request.dry_run() || meets_dry_run(error)),
                Fault::ErrorAfter(_) | Fault::LostRequest | Fault::LostAnswer | Fault::Late { .. } => open,
                Fault::Hollow => open && request.api().changes() && !request.dry_run(),
                Fault::Zone { zone, unnamed } => open && self.reads_zone(request, zone, *unnamed),
            };
            if !applies || !self.befalls(rule, caller, request, plan.effect_at_ms) {
                continue;
            }
            match &rule.fault {
                Fault::Latency { .. } => {}
                Fault::Throttle => plan.throttled = true,
                Fault::Stale { what, up_to_ms } => {
                    for (shown, by_ms) in &mut plan.stale_ms {
                        if shown == what {
                            *by_ms = (*by_ms).max((*up_to_ms).min(MAX_STALENESS_MS));
                        }
                    }
                }
                Fault::Omit(id) => plan.omitted.push(id.clone()),
                Fault::Error(error) => plan.fate = Fate::Refuse(error.clone()),
                Fault::ErrorAfter(error) => plan.fate = Fate::RefuseAfter(error.clone()),
                Fault::LostRequest => {
                    plan.fate = Fate::LoseRequest;
                    plan.answer_at_ms = gives_up_ms;
                }
                Fault::LostAnswer => {
                    plan.fate = Fate::LoseAnswer;
                    plan.answer_at_ms = gives_up_ms;
                }
                Fault::Late { by_ms } => {
                    plan.fate = Fate::Late(gives_up_ms.saturating_add(*by_ms));
                    plan.effect_at_ms = gives_up_ms;
                    plan.answer_at_ms = gives_up_ms;
                }
                Fault::Hollow => plan.fate = Fate::Hollow,
                Fault::Zone { zone, .. } => {
                    let text = format!("An internal error has occurred ({zone})");
                    plan.fate = Fate::Refuse(Error::new("InternalError", 500, text));
                }
            }
            // Those of reads and of throttling are counted when they bite.
            if !matches!(rule.fault, Fault::Throttle | Fault::Stale { .. } | Fault::Omit(_)) {
                self.count(rule.fault.name());
            }
        }
        self.rules = rules;
        plan
    }

    /// Makes a call take effect, at [`Plan::effect_at_ms`], and says what the client has at [`Plan::answer_at_ms`].
    ///
    /// # Errors
    /// AWS's error, or `Timeout` where the client gives up: of the effect that says nothing.
    pub fn run(&mut self, plan: &Plan, request: &Request, now_ms: u64) -> Result<Response, Error> {
        self.advance(now_ms);
        let api = request.api();
        let mut pages = 1;
        let mut changed = false;
        let front = match &plan.fate {
            Fate::LoseRequest => Err(Error::timeout()),
            Fate::Late(at_ms) => {
                let in_ms = at_ms.saturating_sub(self.now_ms);
                self.set_timer(in_ms, Timer::Late(plan.clone(), Arc::new(request.clone())));
                Err(Error::timeout())
            }
            _ if plan.throttled && !self.take_tokens(api, 1) => Err(self.limit_exceeded(api)),
            Fate::Refuse(error) => Err(error.clone()),
            Fate::Hollow => Ok(match request {
                Request::AssociateAddress { .. } => Response::Associated(self.new_id("eipassoc")),
                _ => Response::Tagged,
            }),
            Fate::Serve | Fate::RefuseAfter(_) | Fate::LoseAnswer => {
                let done = self.execute(plan, request).and_then(|done| {
                    pages = done.entries.div_ceil(PAGE_SIZE).max(1) as u64;
                    changed = done.changed;
                    if plan.throttled && pages > 1 && !self.take_tokens(api, pages - 1) {
                        return Err(self.limit_exceeded(api));
                    }
                    Ok(done.response)
                });
                match (&plan.fate, done) {
                    (Fate::LoseAnswer, _) => Err(Error::timeout()),
                    (Fate::RefuseAfter(error), Ok(_)) => Err(error.clone()),
                    (_, done) => done,
                }
            }
        };
        self.record_call(plan.caller, request, pages, front.as_ref().err().map(|error| error.code), changed);
        front
    }

    /// A call in no time at all: planned, and run at once. Faults apply, latency does not.
    ///
    /// # Errors
    /// As [`Ec2::run`].
    pub fn call(&mut self, caller: u32, request: &Request, now_ms: u64) -> Result<Response, Error> {
        let plan = self.plan(caller, request, now_ms);
        self.run(&plan, request, now_ms)
    }

    /// What a call does that its client gave up on.
    pub(super) fn take_late_effect(&mut self, plan: &Plan, request: &Request) {
        // Nobody waits for the answer.
        let changed = self.execute(plan, request).is_ok_and(|done| done.changed);
        self.record_call(plan.caller, request, 0, Some("Timeout"), changed);
    }

    fn record_call(&mut self, caller: u32, request: &Request, pages: u64, code: Option<&'static str>, changed: bool) {
        let api = request.api();
        let change = api.changes().then(|| Arc::new(request.clone()));
        *self.pages.entry(api).or_default() += pages;
        let at_ms = self.now_ms;
        record(&mut self.calls, Call { at_ms, caller, api, pages, code, changed, change });
    }

    fn count(&mut self, fault: &'static str) {
        *self.met.entry(fault).or_default() += 1;
    }

    fn befalls(&mut self, rule: &Rule, caller: u32, request: &Request, at_ms: u64) -> bool {
        (rule.from_ms..rule.until_ms).contains(&at_ms)
            && (rule.apis.is_empty() || rule.apis.contains(&request.api()))
            && rule.caller.is_none_or(|only| only == caller)
            && rule.target.as_ref().is_none_or(|target| self.names(request, target))
            && (rule.per_mille >= 1_000 || self.rng.u32(0..1_000) < rule.per_mille)
    }

    /// Whether a request names a resource, or an instance by its interface.
    fn names(&self, request: &Request, target: &Id) -> bool {
        request.ids().any(|id| id == target || self.interfaces.get(id).and_then(Nic::instance) == Some(target))
    }

    /// Whether a request names an instance in a zone, or no instance at all where that counts.
    fn reads_zone(&self, request: &Request, zone: &str, unnamed: bool) -> bool {
        if !matches!(request, Request::DescribeInstances(_) | Request::DescribeInstanceStatus(_)) {
            return false;
        }
        let mut ids = request.ids().peekable();
        match ids.peek() {
            None => unnamed,
            Some(_) => ids.any(|id| self.instances.get(id).is_some_and(|vm| *vm.zone == *zone)),
        }
    }

    fn take_tokens(&mut self, api: Api, calls: u64) -> bool {
        let limit = self.settings.limits.get(&api).copied().unwrap_or(api.default_limit());
        let now_ms = self.now_ms;
        self.buckets.entry(api).or_insert_with(|| Bucket::full(limit, now_ms)).take(limit, calls, now_ms)
    }

    fn limit_exceeded(&mut self, api: Api) -> Error {
        self.count(Fault::Throttle.name());
        match api {
            Api::DescribeAlarms => Error::new("Throttling", 400, "Rate exceeded"),
            _ => Error::new("RequestLimitExceeded", 503, "Request limit exceeded."),
        }
    }

    fn moments(&mut self, plan: &Plan) -> Moments {
        let mut at_ms = [self.now_ms; 3];
        for (at_ms, (shown, by_ms)) in at_ms.iter_mut().zip(plan.stale_ms) {
            if by_ms > 0 {
                *at_ms = at_ms.saturating_sub(self.rng.u64(0..=by_ms));
            }
            if self.settings.monotonic_reads {
                let last_ms = self.shown_ms.entry((plan.caller, shown)).or_default();
                *at_ms = (*at_ms).max(*last_ms);
                *last_ms = *at_ms;
            }
        }
        let [associations_ms, states_ms, tags_ms] = at_ms;
        Moments { associations_ms, states_ms, tags_ms, stale: Cell::new(false) }
    }

    fn execute(&mut self, plan: &Plan, request: &Request) -> Result<Done, Error> {
        match request {
            Request::AssociateAddress { allocation, interface, private_ip, allow_reassociation, dry_run } => {
                let cause = Cause::Call { caller: plan.caller, sent_ms: plan.sent_ms };
                return self.associate(cause, allocation, interface, *private_ip, *allow_reassociation, *dry_run);
            }
            Request::CreateTags { resources, tags, dry_run } => return self.create_tags(resources, tags, *dry_run),
            _ => {}
        }
        let moments = self.moments(plan);
        let kept = |id: &Id| !plan.omitted.contains(id);
        let done = match request {
            Request::DescribeAddresses => {
                let all: Vec<_> = self.shown_addresses(&moments).filter(|it| kept(&it.id)).collect();
                // It has no pages.
                Done::read(Response::Addresses(all), 0)
            }
            Request::DescribeInstances(filter) => {
                let shown: Vec<_> = match filter {
                    Filter::All => self.instances.values().filter_map(|vm| self.show(vm, &moments)).collect(),
                    Filter::TagKey(key) => self
                        .instances
                        .values()
                        .filter(|vm| moments.pick(&vm.tags, moments.tags_ms).is_some_and(|it| it.contains_key(key)))
                        .filter_map(|vm| self.show(vm, &moments))
                        .collect(),
                    Filter::Ids(ids) => self.named(ids)?.into_iter().filter_map(|vm| self.show(vm, &moments)).collect(),
                };
                let entries = shown.len();
                Done::read(Response::Instances(shown.into_iter().filter(|it| kept(&it.id)).collect()), entries)
            }
            Request::DescribeInstanceStatus(ids) => {
                if ids.len() > MAX_NAMED {
                    return Err(Error::client("InvalidParameterValue", format!("more than {MAX_NAMED} instance ids")));
                }
                let named = self.named(ids)?;
                let all = self.instances.values().filter(|_| ids.is_empty());
                let runs =
                    |vm: &&Vm| moments.pick(&vm.life, moments.states_ms).is_some_and(|it| it.state == State::Running);
                let shown: Vec<_> = named.into_iter().chain(all).filter(runs).map(|vm| vm.status.clone()).collect();
                let entries = shown.len();
                Done::read(Response::Statuses(shown.into_iter().filter(|it| kept(&it.id)).collect()), entries)
            }
            Request::DescribeTags { key_prefix } => {
                let mut rows = Vec::new();
                for (id, vm) in self.instances.iter().filter(|(id, _)| kept(id)) {
                    let Some(tags) = moments.pick(&vm.tags, moments.tags_ms) else { continue };
                    let from = tags.range(key_prefix.clone()..);
                    let matching = from.take_while(|(key, _)| key.starts_with(key_prefix));
                    rows.extend(matching.map(|(key, value)| (id.clone(), key.clone(), value.clone())));
                }
                let entries = rows.len();
                Done::read(Response::Tags(rows), entries)
            }
            Request::DescribeNetworkInterfaces(ids) => {
                let shown: Vec<_> = ids.iter().filter(|id| kept(id)).filter_map(|id| self.interfaces.get(id)).collect();
                let entries = shown.len();
                Done::read(Response::Interfaces(shown.into_iter().map(|nic| nic.shown.clone()).collect()), entries)
            }
            Request::DescribeAlarms(names) => {
                if names.len() > MAX_NAMED {
                    return Err(Error::client("ValidationError", format!("more than {MAX_NAMED} alarm names")));
                }
                let all = self.alarms.values().filter(|_| names.is_empty());
                let named = names.iter().filter_map(|name| self.alarms.get(name));
                let shown: Vec<_> = named.chain(all).cloned().collect();
                // 100 to a page.
                let entries = shown.len().div_ceil(MAX_NAMED).saturating_mul(PAGE_SIZE);
                Done::read(Response::Alarms(shown), entries)
            }
            Request::AssociateAddress { .. } | Request::CreateTags { .. } => Done::read(Response::Tagged, 0),
        };
        if moments.stale.get() {
            self.count("stale");
        }
        if !plan.omitted.is_empty() {
            self.count("omit");
        }
        done
    }

    fn shown_addresses(&self, moments: &Moments) -> impl Iterator<Item = Address> {
        self.addresses.iter().filter_map(|(id, eip)| {
            Some(Address {
                id: id.clone(),
                public_ip: eip.public_ip,
                border_group: eip.border_group.clone(),
                association: moments.pick(&eip.association, moments.associations_ms)?.clone(),
                tags: moments.pick(&eip.tags, moments.tags_ms).cloned().unwrap_or_default(),
            })
        })
    }

    fn show(&self, vm: &Vm, moments: &Moments) -> Option<Instance> {
        let life = moments.pick(&vm.life, moments.states_ms)?;
        let nics = vm.interfaces.iter().filter_map(|id| self.interfaces.get(id));
        Some(Instance {
            id: vm.status.id.clone(),
            state: life.state,
            launched_ms: life.launched_ms,
            zone: vm.zone.clone(),
            public_ip: moments.pick(&vm.public_ip, moments.associations_ms).copied().flatten(),
            interfaces: nics.map(|nic| nic.shown.clone()).collect(),
            tags: moments.pick(&vm.tags, moments.tags_ms).cloned().unwrap_or_default(),
        })
    }

    /// The instances of these ids: one that is unknown fails the call.
    fn named(&self, ids: &[Id]) -> Result<Vec<&Vm>, Error> {
        let find = |id: &Id| self.instances.get(id).ok_or_else(|| no_instance(id));
        ids.iter().map(find).collect()
    }

    /// AssociateAddress, by the API reference ("AssociateAddress", "Error codes") and, where that is silent, by field reports.
    fn associate(
        &mut self,
        cause: Cause,
        allocation: &Id,
        interface: &Id,
        private_ip: Ipv4Addr,
        allow_reassociation: bool,
        dry_run: bool,
    ) -> Result<Done, Error> {
        let Some(eip) = self.addresses.get(allocation) else {
            let text = format!("The allocation ID '{allocation}' does not exist");
            return Err(Error::client("InvalidAllocationID.NotFound", text));
        };
        let Some(nic) = self.interfaces.get(interface) else { return Err(no_interface(interface)) };
        if dry_run {
            return Err(Error::new("DryRunOperation", 412, "Request would have succeeded, but DryRun flag is set."));
        }
        let current = eip.association.newest();
        let on_service = current.as_ref().and_then(|it| self.interfaces.get(&it.interface));
        for it in [Some(nic), on_service].into_iter().flatten() {
            if it.shown.attachment == Attachment::Service {
                let text = format!("You do not have permission to access the resource '{}'", it.shown.id);
                return Err(Error::client("AuthFailure", text));
            }
        }
        if !nic.shown.private_ips.contains(&private_ip) {
            let text = format!("Invalid value '{private_ip}' for PrivateIpAddress: not on '{interface}'");
            return Err(Error::client("InvalidParameterValue", text));
        }
        if nic.shown.border_group != eip.border_group {
            let text = format!("'{allocation}' and '{interface}' are in different network border groups");
            return Err(Error::client("InvalidParameterCombination", text));
        }
        // Stopped instances are fine; a pending one is refused so by field report.
        if let Some(state @ (State::Pending | State::ShuttingDown | State::Terminated)) =
            nic.instance().and_then(|instance| self.state(instance))
        {
            let text = format!(
                "The {} instance to which '{interface}' is attached is not in a valid state for this operation",
                state.as_str()
            );
            return Err(Error::client("IncorrectInstanceState", text));
        }
        if let Some(it) = current
            && it.interface == *interface
            && it.private_ip == private_ip
        {
            return Ok(Done { response: Response::Associated(it.id.clone()), entries: 0, changed: false });
        }
        if !allow_reassociation {
            let taken = if current.is_some() { Some(allocation.clone()) } else { self.occupant(interface, private_ip) };
            if let Some(taken) = taken {
                let text = format!("resource {taken} is already associated");
                return Err(Error::client("Resource.AlreadyAssociated", text));
            }
        }
        let id = self.place(allocation, Some((interface.clone(), private_ip)), cause);
        Ok(Done { response: Response::Associated(id.unwrap_or_default()), entries: 0, changed: true })
    }

    /// CreateTags: all of it, or nothing.
    fn create_tags(&mut self, resources: &[Id], tags: &[(String, String)], dry_run: bool) -> Result<Done, Error> {
        for id in resources {
            let Some(held) = self.tags_of(id) else {
                // The codes that DescribeAddresses and CreateTags answer differ (field report: terraform-provider-aws issue 11060).
                return Err(match id.split_once('-').map_or("", |(prefix, _)| prefix) {
                    "i" => no_instance(id),
                    "eni" => no_interface(id),
                    "eipalloc" => {
                        Error::client("InvalidElasticIpID.NotFound", format!("The elasticIp ID '{id}' does not exist"))
                    }
                    _ => Error::client("InvalidID", format!("The ID '{id}' is not valid")),
                });
            };
            let new = tags.iter().filter(|(key, _)| !held.newest().contains_key(key)).count();
            if held.newest().len().saturating_add(new) > MAX_TAGS {
                let text = format!("Tags exceed the limit of {MAX_TAGS} for resource '{id}'");
                return Err(Error::client("TagLimitExceeded", text));
            }
        }
        for (key, value) in tags {
            let key_chars = key.chars().count();
            if key_chars == 0
                || key_chars > MAX_KEY_CHARS
                || key.starts_with("aws:")
                || value.chars().count() > MAX_VALUE_CHARS
            {
                let text = format!("Tag '{key}': key or value is too long, or the key is empty or reserved");
                return Err(Error::client("InvalidParameterValue", text));
            }
        }
        if dry_run {
            return Err(Error::new("DryRunOperation", 412, "Request would have succeeded, but DryRun flag is set."));
        }
        let mut changed = false;
        for id in resources {
            self.edit_tags(id, |all| {
                for (key, value) in tags {
                    changed |= all.insert(key.clone(), value.clone()).as_ref() != Some(value);
                }
            });
        }
        Ok(Done { response: Response::Tagged, entries: 0, changed })
    }
}

fn meets_dry_run(error: &Error) -> bool {
    error.status >= 500 || matches!(error.code, "UnauthorizedOperation" | "AuthFailure" | "RequestLimitExceeded")
}

fn no_instance(id: &str) -> Error {
    Error::client("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
}

fn no_interface(id: &str) -> Error {
    Error::client("InvalidNetworkInterfaceID.NotFound", format!("The networkInterface ID '{id}' does not exist"))
}
