//! From raw facts to clusters: what EC2 showed, read with the tags' meaning, and every problem met on the way.
//!
//! [`Facts`] only grows by what was read; [`clusters`] is a pure function of it.
//!
//! Architecture invariant: neither judges nor decides, and no tag, however garbled, is an error: it is a problem and a default.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::model::{
    Address, Alarm, AllocationId, Association, ClusterName, Instance, InstanceId, InstanceState, InstanceStatus,
    Interface, InterfaceId, LooseInterface, Seen, Tags,
};
use super::policy::{self, Policy, Via};
use super::tags::{self, AddressMode, Check, Health, Heartbeat, Keys, NodeMode, State};
use super::time::Time;

/// How long a tag that this process wrote is believed against reads that do not show it yet.
/// EC2 is eventually consistent; the longest staleness in field reports is seconds.
pub const OWN_WRITES_BELIEVED: Duration = Duration::from_secs(30);
/// The same for a tag that was written by command: somebody else may have commanded otherwise since.
pub const ORDERS_BELIEVED: Duration = Duration::from_secs(5);

/// What is known of an instance that carries the cluster tag, or holds one of our addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its last description; `None` if there never was one in this invocation.
    pub instance: Option<Arc<Instance>>,
    /// Whether the last answer described it. If not, nothing in `instance` but its addresses may be relied on.
    pub described: bool,
    /// Whether the last answer left it out, although EC2 could have described it: it may be gone, or no longer of the cluster.
    pub missing: bool,
    /// Its tags, which DescribeTags gives even when DescribeInstances does not.
    pub tags: Tags,
}

/// A tag that this process wrote.
#[derive(Clone, Debug)]
struct Written {
    value: String,
    at: Time,
    /// How long reads that show an earlier value are taken as stale.
    believed: Duration,
    /// What stood there before, as far as it was known: a read that shows it is stale. Anything else was written by others since.
    before: Vec<Option<String>>,
}

/// How many earlier values of a tag are remembered.
const MAX_VALUES_BEFORE: usize = 8;

/// Everything that was read in this invocation, the newest of each kind.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// All Elastic IPs of the Region.
    pub addresses: BTreeMap<AllocationId, Arc<Address>>,
    /// When DescribeAddresses last answered.
    pub addresses_at: Option<Time>,
    /// Instances by id.
    pub instances: BTreeMap<InstanceId, Arc<Sighting>>,
    /// When DescribeInstances, or what stands in for it, last answered.
    pub instances_at: Option<Time>,
    /// When each instance was last seen: one that is asked for by id, or that an answer left out, may be older than the last answer.
    seen_at: BTreeMap<InstanceId, Time>,
    /// Status checks of running instances; what is absent tells nothing.
    pub statuses: BTreeMap<InstanceId, Arc<InstanceStatus>>,
    /// When DescribeInstanceStatus last answered.
    pub statuses_at: Option<Time>,
    /// Interfaces that carry an address without belonging to an instance, and when each was read.
    pub interfaces: BTreeMap<InterfaceId, (LooseInterface, Time)>,
    /// Alarms by name.
    pub alarms: BTreeMap<String, Alarm>,
    /// When DescribeAlarms last answered.
    pub alarms_at: Option<Time>,
    written: BTreeMap<(String, String), Written>,
    /// What reads showed where an own tag is believed against them.
    overruled: BTreeMap<(String, String), Option<String>>,
}

impl Facts {
    /// Takes in DescribeAddresses.
    pub fn take_addresses(&mut self, seen: Vec<Address>, now: Time) {
        for address in &seen {
            // What was read of an interface before the address was shown there, with no instance, may have changed since.
            let known = self.addresses.get(&address.id).and_then(|known| known.association.as_ref());
            if let Some(at) = address.association.as_ref().filter(|at| at.instance.is_none() && known != Some(*at))
                && let Some(interface) = &at.interface
            {
                self.interfaces.remove(interface);
            }
        }
        self.addresses = seen
            .into_iter()
            .map(|mut address| {
                self.overlay(address.id.as_str(), &mut address.tags, now);
                (address.id.clone(), Arc::new(address))
            })
            .collect();
        self.addresses_at = Some(now);
    }

    /// Takes in a complete DescribeInstances by tag. Who is missing from it for the first time is kept as not described: EC2 is
    /// eventually consistent. Who is missing again is forgotten, unless `keep` names it (a holder that is asked for by id).
    pub fn take_instances(&mut self, seen: Vec<Instance>, keep: &BTreeSet<InstanceId>, now: Time) {
        let present: BTreeSet<&InstanceId> = seen.iter().map(|instance| &instance.id).collect();
        self.instances.retain(|id, sighting| sighting.described || keep.contains(id) || present.contains(id));
        for (id, sighting) in &mut self.instances {
            if sighting.described && !present.contains(id) && !keep.contains(id) {
                let sighting = Arc::make_mut(sighting);
                sighting.described = false;
                sighting.missing = true;
            }
        }
        self.take_described(seen, now);
        self.seen_at.retain(|id, _| self.instances.contains_key(id));
        self.instances_at = Some(now);
    }

    /// When an instance, or its tags, was last seen.
    pub fn seen_at(&self, id: &InstanceId) -> Option<Time> {
        self.seen_at.get(id).copied()
    }

    /// Takes in instances that were asked for by id.
    pub fn take_described(&mut self, seen: Vec<Instance>, now: Time) {
        for mut instance in seen {
            self.overlay(&instance.id.to_string(), &mut instance.tags, now);
            let tags = instance.tags.clone();
            let id = instance.id.clone();
            let known = self.instances.get(&id).and_then(|sighting| sighting.instance.as_ref());
            if instance.ends_status(known.map(Arc::as_ref)) {
                self.statuses.remove(&id);
            }
            let sighting = Sighting { instance: Some(Arc::new(instance)), described: true, missing: false, tags };
            self.seen_at.insert(id.clone(), now);
            self.instances.insert(id, Arc::new(sighting));
        }
    }

    /// Takes in what DescribeTags says of instances that EC2 cannot describe now. Their last descriptions are kept for
    /// the addresses in them, and marked.
    pub fn take_undescribed(&mut self, id: &InstanceId, mut seen: Tags, now: Time) {
        self.overlay(id.as_str(), &mut seen, now);
        let instance = self.instances.get(id).and_then(|sighting| sighting.instance.clone());
        self.seen_at.insert(id.clone(), now);
        self.instances
            .insert(id.clone(), Arc::new(Sighting { instance, described: false, missing: false, tags: seen }));
    }

    /// The interface that an address is associated with, if it is known what that is, and when that was read.
    pub fn interface_of(&self, address: &AllocationId) -> Option<(&InterfaceId, Time)> {
        let interface = self.addresses.get(address)?.association.as_ref()?.interface.as_ref()?;
        self.interfaces.get(interface).map(|(_, read)| (interface, *read))
    }

    /// Takes in the small answers: statuses, interfaces, alarms.
    pub fn take(&mut self, seen: Seen, now: Time) {
        match seen {
            Seen::Addresses(list) => self.take_addresses(list, now),
            Seen::Instances(list) => self.take_described(list, now),
            Seen::Status(list) => {
                // It names only what runs. What was told of one that it leaves out stands until that is shown as stopped: the reading
                // that shows it as running may be the older of the two.
                self.statuses.retain(|id, _| self.instances.contains_key(id));
                // Asked without ids, it names all that runs in the Region: what is known to be nobody's concern is not kept.
                let holders: BTreeSet<&InstanceId> = self
                    .addresses
                    .values()
                    .filter_map(|address| address.association.as_ref()?.instance.as_ref())
                    .collect();
                let all = self.instances_at.is_none() || self.addresses_at.is_none();
                let concerns = |id: &InstanceId| all || self.instances.contains_key(id) || holders.contains(id);
                let kept = list.into_iter().filter(|status| concerns(&status.id));
                self.statuses.extend(kept.map(|status| (status.id.clone(), Arc::new(status))));
                self.statuses_at = Some(now);
            }
            Seen::InstanceTags(_) => {}
            Seen::Interfaces(list) => {
                for interface in list {
                    self.interfaces.insert(interface.id.clone(), (interface, now));
                }
            }
            Seen::Alarms(list) => {
                self.alarms.extend(list.into_iter().map(|alarm| (alarm.name.clone(), alarm)));
                self.alarms_at = Some(now);
            }
        }
    }

    /// Notes a tag that was written, so that for so long a stale read does not undo it.
    pub fn wrote(&mut self, resource: &str, key: &str, value: &str, believed: Duration, now: Time) {
        let entry = (resource.to_owned(), key.to_owned());
        let earlier = self.written.remove(&entry).filter(|earlier| now.since(earlier.at) < earlier.believed);
        let mut before = earlier.map(|earlier| earlier.before).unwrap_or_default();
        before.push(self.tag(resource, key).cloned());
        if before.len() > MAX_VALUES_BEFORE {
            before.remove(0);
        }
        self.overruled.remove(&entry);
        self.written.insert(entry, Written { value: value.to_owned(), at: now, believed, before });
        if let Some(sighting) = self.instances.get_mut(&InstanceId::from(resource)) {
            Arc::make_mut(sighting).tags.insert(key.to_owned(), value.to_owned());
        }
        if let Some(address) = self.addresses.get_mut(&AllocationId::from(resource)) {
            Arc::make_mut(address).tags.insert(key.to_owned(), value.to_owned());
        }
    }

    /// Whether a resource is known to carry this tag with this value.
    pub fn shows_tag(&self, resource: &str, key: &str, value: &str) -> bool {
        let overruled = || self.overruled.get(&(resource.to_owned(), key.to_owned())).and_then(Option::as_deref);
        self.tag(resource, key).is_some_and(|shown| shown == value) || overruled() == Some(value)
    }

    /// A tag as it was read, or written by this process.
    pub fn tag(&self, resource: &str, key: &str) -> Option<&String> {
        let of_instance = self.instances.get(&InstanceId::from(resource)).map(|sighting| &sighting.tags);
        let of_address = || self.addresses.get(&AllocationId::from(resource)).map(|address| &address.tags);
        of_instance.or_else(of_address)?.get(key)
    }

    fn overlay(&mut self, resource: &str, tags: &mut Tags, now: Time) {
        let from = (resource.to_owned(), String::new());
        let ours = self.written.range(from..).take_while(|((of, _), _)| of == resource);
        for (entry, written) in ours {
            let key = &entry.1;
            let stale = || written.before.iter().any(|before| before.as_ref() == tags.get(key));
            if now.since(written.at) < written.believed && stale() {
                let shown = tags.insert(key.clone(), written.value.clone());
                self.overruled.insert(entry.clone(), shown);
            } else {
                self.overruled.remove(entry);
            }
        }
    }

    /// Which address sits on which private address, as far as reads show it.
    pub fn occupancy(&self) -> BTreeMap<Slot, AllocationId> {
        self.addresses
            .values()
            .filter_map(|address| Some((self.slot_of(address.association.as_ref()?)?, address.id.clone())))
            .collect()
    }

    /// The interface and private address of an association. Emulators leave one or both out: then the primary ones.
    fn slot_of(&self, association: &Association) -> Option<Slot> {
        let instance = || self.instances.get(association.instance.as_ref()?)?.instance.as_ref();
        let interface = match &association.interface {
            Some(id) => id.clone(),
            None => primary(&instance()?.interfaces)?.id.clone(),
        };
        let private_ip = match association.private_ip {
            Some(ip) => ip,
            None => *instance()?.interfaces.iter().find(|of| of.id == interface)?.private_ips.first()?,
        };
        Some(Slot { interface, private_ip })
    }
}

/// A place for an Elastic IP: a private address on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The interface.
    pub interface: InterfaceId,
    /// The private address.
    pub private_ip: Ipv4Addr,
}

/// A place that an address is on its way to, or has just been moved to: reads may not show it yet.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// The address.
    pub by: AllocationId,
    /// How long it is kept.
    pub until: Time,
    /// Where it was before: a read that shows it there may be older than the move.
    pub from: Option<Slot>,
}

/// Which private addresses carry an Elastic IP, or will by what was decided: an address that is about to leave its place still holds it.
#[derive(Clone, Debug)]
pub struct Taken<'a> {
    read: &'a BTreeMap<Slot, AllocationId>,
    reserved: Option<&'a BTreeMap<Slot, Reservation>>,
    decided: Vec<(Slot, AllocationId)>,
}

impl<'a> Taken<'a> {
    /// As read, and as moves that are on their way or have just been made will have it.
    pub fn new(read: &'a BTreeMap<Slot, AllocationId>, reserved: Option<&'a BTreeMap<Slot, Reservation>>) -> Taken<'a> {
        Taken { read, reserved, decided: Vec::new() }
    }

    /// Gives a place away.
    pub fn give(&mut self, slot: Slot, address: AllocationId) {
        self.decided.push((slot, address));
    }

    /// Who has a place, or will: each may say something else.
    fn by<'s>(&'s self, slot: &'s Slot) -> impl Iterator<Item = &'s AllocationId> {
        let reserved = self.reserved.and_then(|reserved| reserved.get(slot)).map(|reservation| &reservation.by);
        let decided = self.decided.iter().filter(move |(of, _)| of == slot).map(|(_, address)| address);
        self.read.get(slot).into_iter().chain(reserved).chain(decided)
    }
}

fn primary(interfaces: &[Interface]) -> Option<&Interface> {
    interfaces
        .iter()
        .find(|interface| interface.device_index == 0 && interface.card_index == 0)
        .or_else(|| interfaces.first())
}

/// A cluster as its tags and EC2 describe it at one moment.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// The policy in force.
    pub policy: Policy,
    /// The checks of nodes that have none of their own.
    pub checks: Vec<Check>,
    /// Its addresses, in order of allocation id.
    pub addresses: Vec<ClusterAddress>,
    /// Its nodes, in order of instance id.
    pub nodes: BTreeMap<InstanceId, Node>,
    /// What could not be read or is not as it should be, for people.
    pub problems: Vec<String>,
}

impl Cluster {
    /// How people call a node: by name and id.
    pub fn label(&self, id: &InstanceId) -> String {
        match self.nodes.get(id).and_then(|node| node.name.as_ref()) {
            Some(name) => format!("{name} ({id})"),
            None => id.to_string(),
        }
    }

    /// What holds an address, for people.
    pub fn holder_text(&self, holder: &Holder) -> String {
        match holder {
            Holder::Nobody => "nobody".to_owned(),
            Holder::Node(id) => self.label(id),
            Holder::Outsider { what, .. } => format!("{what}, outside the cluster"),
            Holder::Unclear(interface) => format!("interface {interface}, which belongs to no instance"),
            Holder::Loose(interface, _) => format!("interface {interface}, which is attached to nothing"),
        }
    }
}

/// An Elastic IP of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterAddress {
    /// Its allocation.
    pub id: AllocationId,
    /// The address that the world knows.
    pub public_ip: Ipv4Addr,
    /// The zones it may be used in.
    pub border_group: Option<String>,
    /// Its mode, as tagged; it may have expired.
    pub mode: AddressMode,
    /// The node it belongs on.
    pub prefer: Option<InstanceId>,
    /// Who holds it.
    pub holder: Holder,
    /// What is remembered of it.
    pub state: Option<State>,
}

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: there is no association.
    Nobody,
    /// A node of the cluster, or one that only lost its cluster tag.
    Node(InstanceId),
    /// An instance outside the cluster, or something that is no instance.
    Outsider {
        /// The instance, if it is one.
        instance: Option<InstanceId>,
        /// What it is, for people.
        what: String,
    },
    /// An interface that belongs to no instance; what it is has still to be asked.
    Unclear(InterfaceId),
    /// An interface that is attached to nothing, and when that was read.
    Loose(InterfaceId, Time),
}

impl Holder {
    /// The instance that holds it, in the cluster or not.
    pub fn instance(&self) -> Option<&InstanceId> {
        match self {
            Holder::Node(id) => Some(id),
            Holder::Outsider { instance, .. } => instance.as_ref(),
            _ => None,
        }
    }

    /// Whether it is on nothing that could serve: on nobody, or on an interface that is attached to nothing.
    pub fn is_unheld(&self) -> bool {
        matches!(self, Holder::Nobody | Holder::Loose(..))
    }
}

/// A node of a cluster.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its instance id.
    pub id: InstanceId,
    /// Its `Name` tag.
    pub name: Option<String>,
    /// Its availability zone.
    pub zone: Option<String>,
    /// Its state; `None` when EC2 did not describe it.
    pub state: Option<InstanceState>,
    /// The last answer left it out: nothing is known of it, whatever its probes say.
    pub missing: bool,
    /// Whether EC2 has shown anything of it yet, if only its tags: a holder that lost its own has to be asked for by id first.
    pub shown: bool,
    /// When it was last launched or started.
    pub launched: Option<Time>,
    /// Its mode.
    pub mode: NodeMode,
    /// Its priority.
    pub priority: u16,
    /// The checks put to it, beside `ec2`.
    pub checks: Arc<[Check]>,
    /// Whether they are its own, and not its cluster's.
    pub has_own_checks: bool,
    /// Its interfaces.
    pub interfaces: Arc<Instance>,
    /// `eipwatch:address`: the private address that is to carry the Elastic IP.
    pub own_address: Option<Ipv4Addr>,
    /// Where probes go; or why they cannot be made.
    pub probe_ip: Result<Ipv4Addr, String>,
    /// What the watcher last wrote of it.
    pub health: Option<Health>,
    /// What its agent last wrote.
    pub heartbeat: Option<Heartbeat>,
    /// Its status checks, if EC2 showed any.
    pub status: Option<Arc<InstanceStatus>>,
    /// False for a holder that lost its cluster tag: it is watched, but no candidate for anything.
    pub member: bool,
    /// Whether its health tag carries the cluster's name: it is in several clusters.
    pub shared: bool,
}

impl Node {
    /// The zones that addresses of this node's kind come from. Zone names are the border group's with one letter more
    /// (`eu-west-1a`, `us-west-2-lax-1a`); a Wavelength Zone's name is its border group.
    pub fn border_group(&self) -> Option<&str> {
        let zone = self.zone.as_deref()?;
        Some(zone.strip_suffix(|last: char| last.is_ascii_lowercase()).unwrap_or(zone))
    }

    /// Whether `at` falls in the node's present life. EC2 writes launch times and event times to the second.
    pub fn in_this_life(&self, at: Time) -> bool {
        self.launched.is_none_or(|launched| launched.whole_second() <= at)
    }

    /// Where `address` would sit on this node: `eipwatch:address`, else the first private address of the primary
    /// interface that no other Elastic IP occupies.
    ///
    /// # Errors
    /// Why there is no place, for people.
    pub fn slot_for(&self, address: &AllocationId, taken: &Taken<'_>) -> Result<Slot, String> {
        let free = |slot: &Slot| taken.by(slot).all(|by| by == address);
        if let Some(ip) = self.own_address {
            let interface = self.interfaces.interfaces.iter().find(|interface| interface.private_ips.contains(&ip));
            let Some(interface) = interface else {
                return Err(format!("its eipwatch:address {ip} is none of its private addresses"));
            };
            let slot = Slot { interface: interface.id.clone(), private_ip: ip };
            return if free(&slot) {
                Ok(slot)
            } else {
                Err(format!("its private address {ip} carries another Elastic IP"))
            };
        }
        let Some(interface) = primary(&self.interfaces.interfaces) else {
            return Err("it has no network interface".to_owned());
        };
        interface
            .private_ips
            .iter()
            .map(|ip| Slot { interface: interface.id.clone(), private_ip: *ip })
            .find(free)
            .ok_or_else(|| "every private address of its primary interface carries another Elastic IP".to_owned())
    }
}

/// Reads a tag with `parse`; what cannot be read is a problem that names tag, resource and what is used instead.
fn read<T>(
    tags: &Tags,
    key: &str,
    resource: &dyn std::fmt::Display,
    instead: &str,
    problems: &mut Vec<String>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match parse(tags.get(key)?) {
        Ok(value) => Some(value),
        Err(what) => {
            problems.push(format!("{key} on {resource}: {what}; {instead}"));
            None
        }
    }
}

fn read_checks(
    tags: &Tags,
    key: &str,
    resource: &dyn std::fmt::Display,
    problems: &mut Vec<String>,
) -> Option<Vec<Check>> {
    let text = tags.get(key)?;
    let (checks, wrong) = tags::checks(text);
    if text.trim().is_empty() {
        problems.push(format!("{key} on {resource}: it is empty: no check beside ec2"));
    }
    problems.extend(wrong.into_iter().map(|what| format!("{key} on {resource}: {what}")));
    Some(checks)
}

struct Member<'a> {
    sighting: &'a Sighting,
    shared: bool,
}

fn read_policy(tags: &Tags, key: &str, resource: &dyn std::fmt::Display, problems: &mut Vec<String>) -> Policy {
    let Some(text) = tags.get(key) else { return Policy::default() };
    let (policy, wrong) = policy::parse(text);
    if text.trim().is_empty() {
        problems.push(format!("{key} on {resource}: it is empty; the defaults are used"));
    }
    problems.extend(wrong.into_iter().map(|what| format!("{key} on {resource}: {what}")));
    policy
}

/// Reads all clusters out of the facts. Also returned: problems that belong to no cluster.
pub fn clusters(facts: &Facts, keys: &Keys) -> (BTreeMap<ClusterName, Cluster>, Vec<String>) {
    let mut loose_problems = Vec::new();
    let mut addresses: BTreeMap<ClusterName, Vec<&Arc<Address>>> = BTreeMap::new();
    for address in facts.addresses.values() {
        let instead = "the address is not watched";
        if let Some(name) =
            read(&address.tags, &keys.cluster, &address.id, instead, &mut loose_problems, tags::cluster_name)
        {
            addresses.entry(name).or_default().push(address);
        }
    }
    let mut members: BTreeMap<ClusterName, BTreeMap<InstanceId, Member<'_>>> = BTreeMap::new();
    for (id, sighting) in &facts.instances {
        let Some(text) = sighting.tags.get(&keys.cluster) else { continue };
        let (names, wrong) = tags::cluster_names(text);
        if names.is_empty() && wrong.is_empty() {
            loose_problems.push(format!("{} on {id}: it is empty; the instance is no node", keys.cluster));
        }
        loose_problems
            .extend(wrong.into_iter().map(|what| format!("{} on {id}: {what}; it is left out", keys.cluster)));
        let shared = names.len() > 1;
        for name in names {
            members.entry(name).or_default().insert(id.clone(), Member { sighting, shared });
        }
    }
    let occupancy = facts.occupancy();
    let public: BTreeMap<Ipv4Addr, Option<&InstanceId>> = facts
        .addresses
        .values()
        .map(|address| (address.public_ip, address.association.as_ref().and_then(|at| at.instance.as_ref())))
        .collect();
    let names: BTreeSet<ClusterName> = addresses.keys().chain(members.keys()).cloned().collect();
    let mut found = BTreeMap::new();
    for name in names {
        let its_addresses = addresses.remove(&name).unwrap_or_default();
        let its_members = members.remove(&name).unwrap_or_default();
        let reader = Reader { facts, keys, occupancy: &occupancy, public: &public, name: &name };
        let cluster = reader.cluster(&its_addresses, &its_members);
        found.insert(name, cluster);
    }
    (found, loose_problems)
}

struct Reader<'a> {
    facts: &'a Facts,
    keys: &'a Keys,
    occupancy: &'a BTreeMap<Slot, AllocationId>,
    public: &'a BTreeMap<Ipv4Addr, Option<&'a InstanceId>>,
    name: &'a ClusterName,
}

impl Reader<'_> {
    fn cluster(&self, addresses: &[&Arc<Address>], members: &BTreeMap<InstanceId, Member<'_>>) -> Cluster {
        let keys = self.keys;
        let mut problems = Vec::new();
        let (mut policy, mut checks) = (Policy::default(), Vec::new());
        if let Some(first) = addresses.first() {
            policy = read_policy(&first.tags, &keys.policy, &first.id, &mut problems);
            checks = read_checks(&first.tags, &keys.check, &first.id, &mut problems).unwrap_or_default();
            for other in addresses.iter().skip(1) {
                // Theirs serve for nothing: what is wrong with them is told, and not what would be used instead.
                let mut wrong = Vec::new();
                read_policy(&other.tags, &keys.policy, &other.id, &mut wrong);
                let mut wrong: Vec<_> =
                    wrong.iter().map(|problem| policy::only_what_is_wrong(problem).to_owned()).collect();
                read_checks(&other.tags, &keys.check, &other.id, &mut wrong);
                let told = |what| format!("{what}; that on {} serves for the whole cluster", first.id);
                problems.extend(wrong.into_iter().map(told));
                for key in [&keys.check, &keys.policy] {
                    if other.tags.get(key) != first.tags.get(key) {
                        problems.push(format!(
                            "{key} on {}: differs from that on {}, which serves for the whole cluster",
                            other.id, first.id
                        ));
                    }
                }
            }
        } else {
            problems.push(format!(
                "no Elastic IP carries {}={}: there is nothing to keep; tag the address",
                keys.cluster, self.name
            ));
        }
        let shared_checks: Arc<[Check]> = checks.clone().into();
        let mut nodes: BTreeMap<InstanceId, Node> = BTreeMap::new();
        for (id, member) in members {
            let node =
                self.node(id, member.sighting, true, member.shared, &policy, &shared_checks, addresses, &mut problems);
            nodes.insert(id.clone(), node);
        }
        let state_instead = "nothing is remembered of it";
        let mut read_state =
            |of: &Address| read(&of.tags, &keys.state, &of.id, state_instead, &mut problems, State::parse);
        let states: Vec<Option<State>> = addresses.iter().map(|address| read_state(address)).collect();
        let once_ours: BTreeSet<InstanceId> = states.iter().flatten().map(|state| state.holder.clone()).collect();
        let mut read_addresses = Vec::with_capacity(addresses.len());
        for (address, state) in addresses.iter().zip(states) {
            let mode = address.tags.get(&keys.mode).map_or(Ok(AddressMode::Auto), |text| AddressMode::parse(text));
            let mode = mode.unwrap_or_else(|what| {
                problems.push(format!(
                    "{} on {}: {what}; it is taken as manual: nothing moves by itself",
                    keys.mode, address.id
                ));
                AddressMode::Unreadable
            });
            let prefer =
                read(&address.tags, &keys.prefer, &address.id, "no node is preferred", &mut problems, tags::prefer);
            let holder = self.holder(address, &once_ours, &nodes);
            if let Holder::Node(id) = &holder
                && !nodes.contains_key(id)
            {
                let unseen = Sighting { instance: None, described: false, missing: false, tags: Tags::new() };
                let sighting = self.facts.instances.get(id).map_or(&unseen, Arc::as_ref);
                let node = self.node(id, sighting, false, false, &policy, &shared_checks, addresses, &mut problems);
                problems.push(if sighting.described {
                    format!(
                        "{id} holds {} but has lost its tag {}: it is watched, and left when it fails",
                        address.public_ip, keys.cluster
                    )
                } else {
                    format!("{id} holds {}, but EC2 does not describe it", address.public_ip)
                });
                nodes.insert(id.clone(), node);
            }
            if let Some(prefer) = &prefer
                && !nodes.contains_key(prefer)
            {
                problems.push(format!("{} on {}: {prefer} is no node of the cluster", keys.prefer, address.id));
            }
            if let Holder::Outsider { what, .. } = &holder {
                problems
                    .push(format!("{} is held by {what}, outside the cluster: it is left alone", address.public_ip));
            }
            read_addresses.push(ClusterAddress {
                id: address.id.clone(),
                public_ip: address.public_ip,
                border_group: address.border_group.clone(),
                mode,
                prefer,
                holder,
                state,
            });
        }
        if !addresses.is_empty() && members.is_empty() {
            problems.push(format!(
                "no instance carries {}={}: nobody could take over; tag the nodes",
                keys.cluster, self.name
            ));
        }
        Cluster { name: self.name.clone(), policy, checks, addresses: read_addresses, nodes, problems }
    }

    /// `once_ours`: whom the state of any of the cluster's addresses names.
    fn holder(
        &self,
        address: &Address,
        once_ours: &BTreeSet<InstanceId>,
        nodes: &BTreeMap<InstanceId, Node>,
    ) -> Holder {
        let Some(association) = &address.association else { return Holder::Nobody };
        if let Some(id) = &association.instance {
            return if nodes.contains_key(id) || once_ours.contains(id) {
                Holder::Node(id.clone())
            } else {
                Holder::Outsider { instance: Some(id.clone()), what: format!("instance {id}") }
            };
        }
        let Some(interface) = &association.interface else {
            return Holder::Outsider { instance: None, what: "something that EC2 does not name".to_owned() };
        };
        let carrier = nodes.values().find(|node| node.interfaces.interfaces.iter().any(|of| &of.id == interface));
        if let Some(node) = carrier {
            return Holder::Node(node.id.clone());
        }
        match self.facts.interfaces.get(interface) {
            None => Holder::Unclear(interface.clone()),
            Some((loose, at)) if !loose.attached => Holder::Loose(interface.clone(), *at),
            Some((loose, _)) if loose.kind.is_empty() => {
                Holder::Outsider { instance: None, what: format!("interface {interface}") }
            }
            Some((loose, _)) => {
                Holder::Outsider { instance: None, what: format!("interface {interface} ({})", loose.kind) }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one reading, used in one place")]
    fn node(
        &self,
        id: &InstanceId,
        sighting: &Sighting,
        member: bool,
        shared: bool,
        policy: &Policy,
        cluster_checks: &Arc<[Check]>,
        addresses: &[&Arc<Address>],
        problems: &mut Vec<String>,
    ) -> Node {
        let keys = self.keys;
        let tags = &sighting.tags;
        let instance = sighting.instance.clone().unwrap_or_else(|| {
            Arc::new(Instance {
                id: id.clone(),
                state: InstanceState::Unknown,
                launched: None,
                zone: None,
                public_ip: None,
                interfaces: Vec::new(),
                tags: Tags::new(),
            })
        });
        let mode = match tags.get(&keys.mode) {
            None => NodeMode::Active,
            Some(text) => NodeMode::parse(text).unwrap_or_else(|what| {
                problems.push(format!("{} on {id}: {what}; it is no candidate, but is not evicted", keys.mode));
                NodeMode::Unreadable
            }),
        };
        let default_priority = format!("{} is used", tags::DEFAULT_PRIORITY);
        let priority = read(tags, &keys.priority, id, &default_priority, problems, tags::priority)
            .unwrap_or(tags::DEFAULT_PRIORITY);
        // Where nothing of its own can be read, `ec2` remains.
        let own_checks = read_checks(tags, &keys.check, id, problems);
        let has_own_checks = own_checks.is_some();
        let checks = own_checks.map_or_else(|| cluster_checks.clone(), Arc::from);
        let own_address = read(tags, &keys.address, id, "the first free one is used", problems, tags::private_address);
        if let Some(ip) = own_address
            && sighting.described
            && !instance.interfaces.iter().any(|interface| interface.private_ips.contains(&ip))
        {
            problems
                .push(format!("{} on {id}: {ip} is none of its private addresses; it is no candidate", keys.address));
        }
        let health_key = keys.health_of(shared.then_some(self.name));
        let health = read(tags, &health_key, id, "nothing is remembered of it", problems, Health::parse);
        let heartbeat = read(tags, &keys.heartbeat, id, "it is taken as none", problems, Heartbeat::parse);
        let mut node = Node {
            id: id.clone(),
            name: tags.get("Name").filter(|name| !name.is_empty()).cloned(),
            zone: instance.zone.clone(),
            state: sighting.described.then_some(instance.state),
            missing: sighting.missing,
            shown: self.facts.instances.contains_key(id),
            launched: instance.launched,
            mode,
            priority,
            checks,
            has_own_checks,
            interfaces: instance,
            own_address,
            probe_ip: Err(String::new()),
            health,
            heartbeat,
            status: self.facts.statuses.get(id).cloned(),
            member,
            shared,
        };
        node.probe_ip = self.probe_ip(&node, policy, addresses);
        if let (Via::Public, Err(why)) = (policy.via, &node.probe_ip)
            && node.state == Some(InstanceState::Running)
            && node.checks.iter().any(|check| matches!(check, Check::Probe { .. }))
        {
            problems.push(format!("{id} cannot be probed: {why}"));
        }
        node
    }

    fn probe_ip(&self, node: &Node, policy: &Policy, addresses: &[&Arc<Address>]) -> Result<Ipv4Addr, String> {
        let held = || {
            addresses
                .iter()
                .copied()
                .find(|address| address.association.as_ref().is_some_and(|at| at.instance.as_ref() == Some(&node.id)))
        };
        match policy.via {
            Via::Public => {
                if let Some(address) = held() {
                    return Ok(address.public_ip);
                }
                let ip = node.interfaces.public_ip.ok_or("it has no public address (via=public)")?;
                match self.public.get(&ip) {
                    Some(owner) if *owner != Some(&node.id) => {
                        Err(format!("its public address {ip} is another node's Elastic IP by now (via=public)"))
                    }
                    _ => Ok(ip),
                }
            }
            Via::Private => {
                let carrying = held()
                    .and_then(|address| self.facts.slot_of(address.association.as_ref()?))
                    .map(|slot| slot.private_ip);
                // EC2's word is enough where the node cannot be described; else it must be one of the node's own.
                let interfaces = &node.interfaces.interfaces;
                let mine =
                    |ip: &Ipv4Addr| interfaces.is_empty() || interfaces.iter().any(|of| of.private_ips.contains(ip));
                let would = || {
                    let first = addresses.first().map_or_else(|| AllocationId::from(""), |address| address.id.clone());
                    node.slot_for(&first, &Taken::new(self.occupancy, None)).ok().map(|slot| slot.private_ip)
                };
                let first = || primary(interfaces)?.private_ips.first().copied();
                carrying
                    .filter(mine)
                    .or_else(would)
                    .or_else(first)
                    .ok_or_else(|| "no private address of it is known".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decide::tests::running;
    use crate::core::model::StatusCheck;

    #[test]
    fn the_status_of_what_is_nobodys_concern_is_not_kept() {
        let now = Time::from_millis(0);
        let status = |id: &str| {
            let [system, instance, ebs, application] = [StatusCheck::Ok; 4];
            InstanceStatus { id: id.into(), system, instance, ebs, application, scheduled: Vec::new() }
        };
        let region = || Seen::Status(["i-1", "i-7", "i-9"].map(status).to_vec());
        let kept = |facts: &Facts| facts.statuses.keys().map(ToString::to_string).collect::<Vec<_>>();
        let mut facts = Facts::default();
        facts.take(region(), now);
        assert_eq!(kept(&facts).len(), 3, "whose concern they are is not known yet");
        facts.take_described(vec![running(1).interfaces.as_ref().clone()], now);
        facts.instances_at = Some(now);
        facts.take(region(), now);
        assert_eq!(kept(&facts).len(), 3, "who holds an address is not known yet");
        let held = Address {
            id: "eipalloc-1".into(),
            public_ip: Ipv4Addr::new(203, 0, 113, 1),
            border_group: None,
            association: Some(Association { instance: Some("i-9".into()), interface: None, private_ip: None }),
            tags: Tags::new(),
        };
        facts.take_addresses(vec![held], now);
        facts.take(region(), now);
        assert_eq!(kept(&facts), ["i-1", "i-9"], "a node, and who holds an address");
    }
}
