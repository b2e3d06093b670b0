//! Where the world meets the words of [`crate::core::model`]; the only file here that knows them.
//!
//! In virtual time [`answer`] and [`act`] do a call at once, and [`look_request`], [`seen`], [`act_request`] and
//! [`acted`] let a simulation put the two moments of a call apart with [`Ec2::plan`] and [`Ec2::run`].
//! [`EmbeddedCloud`] is the seam in real time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::ec2::{self, AlarmState, Attachment, Ec2, Error, Filter, Id, Request, Response};
use crate::cloud::Cloud;
use crate::core::model::{
    Act, Address, Alarm, AllocationId, Association, CloudError, Instance, InstanceId, InstanceState, InstanceStatus,
    Interface, InterfaceId, Look, LooseInterface, ScheduledEvent, Seen, StatusCheck,
};
use crate::core::time::Time;
use crate::network::{Attached, Block, Network, Peer, Permission, Route, RouteTable, SecurityGroup};

/// The call that a [`Look`] is.
pub fn look_request(look: &Look) -> Request {
    let instances = |ids: &[InstanceId]| ids.iter().map(|id| Id::from(id.as_str())).collect::<Vec<_>>();
    match look {
        Look::Addresses => Request::DescribeAddresses,
        Look::Instances(key) => Request::DescribeInstances(Filter::TagKey(key.clone())),
        Look::InstancesById(ids) => Request::DescribeInstances(Filter::Ids(instances(ids))),
        Look::Status(ids) => Request::DescribeInstanceStatus(instances(ids)),
        Look::InstanceTags(prefix) => Request::DescribeTags { key_prefix: prefix.clone() },
        Look::Interfaces(ids) => {
            Request::DescribeNetworkInterfaces(ids.iter().map(|id| Id::from(id.as_str())).collect())
        }
        Look::Alarms(names) => Request::DescribeAlarms(names.clone()),
    }
}

/// The call that an [`Act`] is.
pub fn act_request(act: &Act) -> Request {
    match act {
        Act::Associate { address, interface, private_ip, only_if_unheld, dry_run } => Request::AssociateAddress {
            allocation: address.as_str().into(),
            interface: interface.as_str().into(),
            private_ip: *private_ip,
            allow_reassociation: !only_if_unheld,
            dry_run: *dry_run,
        },
        Act::Tag { resources, key, value } => Request::CreateTags {
            resources: resources.iter().map(|id| Id::from(id.as_str())).collect(),
            tags: vec![(key.clone(), value.clone())],
            dry_run: false,
        },
    }
}

/// What a call's answer shows.
///
/// # Errors
/// AWS's error, sorted; `Response` if the answer belongs to a call that changes something.
pub fn seen(answer: Result<Response, Error>) -> Result<Seen, CloudError> {
    Ok(match answer.map_err(failed)? {
        Response::Addresses(all) => Seen::Addresses(all.iter().map(address).collect()),
        Response::Instances(all) => Seen::Instances(all.iter().map(instance).collect()),
        Response::Statuses(all) => Seen::Status(all.iter().map(status).collect()),
        Response::Tags(rows) => {
            let mut tags: BTreeMap<InstanceId, BTreeMap<String, String>> = BTreeMap::new();
            for (resource, key, value) in rows {
                tags.entry(InstanceId::from(&*resource)).or_default().insert(key, value);
            }
            Seen::InstanceTags(tags)
        }
        Response::Interfaces(all) => Seen::Interfaces(all.iter().map(loose_interface).collect()),
        Response::Alarms(all) => Seen::Alarms(all.into_iter().map(alarm).collect()),
        Response::Associated(_) | Response::Tagged => {
            return Err(CloudError::from_code("Response", "the answer shows nothing", true));
        }
    })
}

/// What a changing call's answer says; that a DryRun would be allowed is success.
///
/// # Errors
/// AWS's error, sorted.
pub fn acted(answer: Result<Response, Error>) -> Result<(), CloudError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.code == "DryRunOperation" => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// A [`Look`] in no time at all.
///
/// # Errors
/// As [`seen`].
pub fn answer(ec2: &mut Ec2, caller: u32, look: &Look, now_ms: u64) -> Result<Seen, CloudError> {
    seen(ec2.call(caller, &look_request(look), now_ms))
}

/// An [`Act`] in no time at all.
///
/// # Errors
/// As [`acted`].
pub fn act(ec2: &mut Ec2, caller: u32, act: &Act, now_ms: u64) -> Result<(), CloudError> {
    acted(ec2.call(caller, &act_request(act), now_ms))
}

/// The seam to an embedded EC2 in real time, for one caller.
pub struct EmbeddedCloud<F> {
    ec2: Rc<RefCell<Ec2>>,
    caller: u32,
    now_ms: F,
}

impl<F: Fn() -> u64> EmbeddedCloud<F> {
    /// `caller` is how the record of calls tells callers apart; `now_ms` is the clock, in milliseconds.
    /// The world must not stay borrowed across an await.
    pub fn new(ec2: Rc<RefCell<Ec2>>, caller: u32, now_ms: F) -> EmbeddedCloud<F> {
        EmbeddedCloud { ec2, caller, now_ms }
    }

    async fn call(&self, request: Request) -> Result<Response, Error> {
        let plan = self.ec2.borrow_mut().plan(self.caller, &request, (self.now_ms)());
        self.wait_until(plan.effect_at_ms).await;
        let answer = self.ec2.borrow_mut().run(&plan, &request, (self.now_ms)());
        self.wait_until(plan.answer_at_ms).await;
        answer
    }

    async fn wait_until(&self, at_ms: u64) {
        let wait_ms = at_ms.saturating_sub((self.now_ms)());
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }
}

impl<F: Fn() -> u64> Cloud for EmbeddedCloud<F> {
    async fn look(&self, look: Look) -> Result<Seen, CloudError> {
        seen(self.call(look_request(&look)).await)
    }

    async fn act(&self, act: Act) -> Result<(), CloudError> {
        acted(self.call(act_request(&act)).await)
    }
}

/// The VPC of every embedded instance, its one security group and its route table.
const VPC: &str = "vpc-00000000000000001";
const GROUP: &str = "sg-00000000000000001";
const TABLE: &str = "rtb-00000000000000001";

/// The interfaces as they are. Every zone has one subnet, all of them public.
pub fn attached(ec2: &Ec2, ids: &[InterfaceId]) -> Vec<Attached> {
    let known = ids.iter().flat_map(|id| ec2.interfaces_of(id.as_str()));
    known
        .map(|it| {
            let zone = match &it.attachment {
                Attachment::Instance { instance, .. } => ec2.zone(instance).map(|zone| zone.to_string()),
                Attachment::Service | Attachment::None => None,
            };
            Attached {
                id: InterfaceId::from(&*it.id),
                vpc: VPC.to_owned(),
                subnet: format!("subnet-{}", zone.unwrap_or_default()),
                kind: it.interface_type.to_owned(),
                groups: BTreeSet::from([GROUP.to_owned()]),
                ips: it.private_ips.iter().map(|ip| (*ip, ec2.public_of(it, *ip))).collect(),
            }
        })
        .collect()
}

/// The one security group: all may come and go.
pub fn security_groups() -> Vec<SecurityGroup> {
    let all = || vec![Permission { ports: Some((0, u16::MAX)), peers: vec![Peer::Block(Block::ALL)] }];
    vec![SecurityGroup { id: GROUP.to_owned(), ingress: all(), egress: all() }]
}

/// The one route table.
pub fn route_tables() -> Vec<RouteTable> {
    let local =
        Route { to: Block { first: Ipv4Addr::new(10, 0, 0, 0), bits: 8 }, via: "local".to_owned(), active: true };
    let out = Route { to: Block::ALL, via: "igw-00000000000000001".to_owned(), active: true };
    vec![RouteTable {
        id: TABLE.to_owned(),
        vpc: VPC.to_owned(),
        main: true,
        subnets: BTreeSet::new(),
        routes: vec![local, out],
    }]
}

/// The call that [`Network::may_tag`] is.
pub fn may_tag_request(resources: &[String], key: &str) -> Request {
    Request::CreateTags {
        resources: resources.iter().map(|id| Id::from(id.as_str())).collect(),
        tags: vec![(key.to_owned(), String::new())],
        dry_run: true,
    }
}

/// The network is as it is: what asks for it meets no fault.
impl<F: Fn() -> u64> Network for EmbeddedCloud<F> {
    async fn interfaces(&self, ids: &[InterfaceId]) -> Result<Vec<Attached>, CloudError> {
        Ok(attached(&self.ec2.borrow(), ids))
    }

    async fn interfaces_in(&self, _: &BTreeSet<String>) -> Result<Vec<Attached>, CloudError> {
        Ok(Vec::new())
    }

    async fn security_groups(&self, _: &BTreeSet<String>) -> Result<Vec<SecurityGroup>, CloudError> {
        Ok(security_groups())
    }

    async fn route_tables(&self, _: &BTreeSet<String>) -> Result<Vec<RouteTable>, CloudError> {
        Ok(route_tables())
    }

    async fn may_tag(&self, resources: &[String], key: &str) -> Result<(), CloudError> {
        acted(self.call(may_tag_request(resources, key)).await)
    }
}

fn failed(error: Error) -> CloudError {
    // A status of 0 is the client's own: it had no answer.
    CloudError::from_code(error.code, &error.message, error.status >= 500 || error.status == 0)
}

fn address(it: &ec2::Address) -> Address {
    Address {
        id: AllocationId::from(&*it.id),
        public_ip: it.public_ip,
        border_group: Some(it.border_group.to_string()),
        association: it.association.as_ref().map(|it| Association {
            instance: it.instance.as_deref().map(InstanceId::from),
            interface: Some(InterfaceId::from(&*it.interface)),
            private_ip: Some(it.private_ip),
        }),
        tags: it.tags.as_ref().clone(),
    }
}

fn instance(it: &ec2::Instance) -> Instance {
    Instance {
        id: InstanceId::from(&*it.id),
        state: InstanceState::parse(it.state.as_str()),
        launched: Some(Time::from_millis(it.launched_ms)),
        zone: Some(it.zone.to_string()),
        public_ip: it.public_ip,
        interfaces: it.interfaces.iter().map(interface).collect(),
        tags: it.tags.as_ref().clone(),
    }
}

fn interface(it: &ec2::NetworkInterface) -> Interface {
    let (card_index, device_index) = match it.attachment {
        Attachment::Instance { card_index, device_index, .. } => (card_index, device_index),
        Attachment::Service | Attachment::None => (0, 0),
    };
    Interface { id: InterfaceId::from(&*it.id), device_index, card_index, private_ips: it.private_ips.clone() }
}

fn status(it: &ec2::InstanceStatus) -> InstanceStatus {
    let check = |check: ec2::Check| StatusCheck::parse(check.as_str());
    InstanceStatus {
        id: InstanceId::from(&*it.id),
        system: check(it.system),
        instance: check(it.instance),
        ebs: check(it.ebs),
        application: check(it.application),
        scheduled: it.events.iter().map(scheduled).collect(),
    }
}

fn scheduled(it: &ec2::ScheduledEvent) -> ScheduledEvent {
    ScheduledEvent {
        code: it.code.clone(),
        description: it.description.clone(),
        not_before: it.not_before_ms.map(Time::from_millis),
        not_after: it.not_after_ms.map(Time::from_millis),
    }
}

fn loose_interface(it: &ec2::NetworkInterface) -> LooseInterface {
    LooseInterface {
        id: InterfaceId::from(&*it.id),
        attached: it.attachment != Attachment::None,
        kind: it.interface_type.to_owned(),
    }
}

fn alarm(it: ec2::Alarm) -> Alarm {
    Alarm {
        in_alarm: it.state == AlarmState::Alarm,
        state: it.state.as_str().to_owned(),
        instances: it.instances.iter().map(|id| InstanceId::from(&**id)).collect(),
        name: it.name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ec2::{Api, Check, CheckKind};
    use super::super::faults::{Fault, Rule};
    use super::super::tests::scene;
    use super::*;
    use crate::core::model::Failure;

    const ME: u32 = 1;

    #[test]
    fn the_seam_speaks_the_words_of_the_core() {
        let mut it = scene();
        it.ec2.set_alarm(
            ec2::Alarm { name: "cpu".to_owned(), state: AlarmState::Alarm, instances: vec![it.b.clone()] },
            5,
        );
        it.ec2.set_status(&it.b, CheckKind::Ebs, Check::Impaired, 5);
        let event = ec2::ScheduledEvent {
            code: "system-reboot".to_owned(),
            description: "planned".to_owned(),
            not_before_ms: Some(60_000),
            not_after_ms: None,
        };
        it.ec2.schedule_events(&it.b, vec![event], 5);
        let b = it.b.to_string();
        let (nic, private_ip) = it.target(&it.b);
        let mut look = |look| answer(&mut it.ec2, ME, &look, 10).unwrap();
        let Seen::Addresses(addresses) = look(Look::Addresses) else { panic!() };
        assert_eq!(addresses[0].association.as_ref().unwrap().instance.as_ref().unwrap().as_str(), &*it.a);
        let Seen::Instances(nodes) = look(Look::Instances("cluster".to_owned())) else { panic!() };
        assert_eq!((nodes.len(), nodes[1].interfaces[0].private_ips[0]), (2, private_ip));
        let Seen::Instances(one) = look(Look::InstancesById(vec![b.as_str().into()])) else { panic!() };
        assert_eq!(one[0], nodes[1]);
        let Seen::Status(all) = look(Look::Status(vec![])) else { panic!() };
        assert_eq!(all[1].impaired(), ["attached EBS"]);
        assert_eq!(all[1].scheduled[0].not_before.unwrap().as_millis(), 60_000);
        let Seen::InstanceTags(all) = look(Look::InstanceTags("clu".to_owned())) else { panic!() };
        assert_eq!(all[&b.as_str().into()]["cluster"], "web");
        let Seen::Alarms(all) = look(Look::Alarms(vec!["cpu".to_owned(), "unknown".to_owned()])) else { panic!() };
        assert_eq!((all.len(), all[0].in_alarm, all[0].instances[0].as_str()), (1, true, b.as_str()));
        let Seen::Interfaces(all) = look(Look::Interfaces(vec![(&*nic).into()])) else { panic!() };
        assert!(all[0].attached);

        let associate = |address: &str, dry_run| Act::Associate {
            address: address.into(),
            interface: (&*nic).into(),
            private_ip,
            only_if_unheld: false,
            dry_run,
        };
        assert_eq!(act(&mut it.ec2, ME, &associate(&it.address, true), 20), Ok(()));
        assert_eq!(
            it.ec2.holder(&it.address),
            Some(&it.a),
            "a DryRun that would be allowed is a success without effect"
        );
        assert_eq!(act(&mut it.ec2, ME, &associate(&it.address, false), 20), Ok(()));
        assert_eq!(it.ec2.holder(&it.address), Some(&it.b));
        let gone = act(&mut it.ec2, ME, &associate("eipalloc-0", false), 20).unwrap_err();
        assert_eq!(gone.failure, Failure::AddressGone);
        it.ec2.faults_mut().push(Rule::new(Fault::LostAnswer));
        let tag = Act::Tag { resources: vec![b.clone()], key: "k".to_owned(), value: "v".to_owned() };
        assert_eq!(act(&mut it.ec2, ME, &tag, 30).unwrap_err().failure, Failure::Transient);
        assert_eq!(it.ec2.tags(&b).unwrap()["k"], "v");
    }

    #[test]
    fn in_real_time_the_answer_comes_after_the_latency() {
        let mut it = scene();
        it.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 30, max_ms: 30 }));
        let world = Rc::new(RefCell::new(it.ec2));
        let start = std::time::Instant::now();
        let clock = move || u64::try_from(start.elapsed().as_millis()).unwrap();
        let cloud = EmbeddedCloud::new(world.clone(), ME, clock);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (first, second) =
            runtime.block_on(async { tokio::join!(cloud.look(Look::Addresses), cloud.look(Look::Addresses)) });
        assert!(start.elapsed().as_millis() >= 30);
        assert!(first.is_ok() && first == second);
        assert_eq!(world.borrow().pages(Api::DescribeAddresses), 2);
    }
}
