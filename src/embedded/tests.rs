use std::net::Ipv4Addr;

use super::ec2::*;
use super::faults::Shown;
use super::*;

/// A caller.
const ME: u32 = 1;
const SECOND: u64 = 1_000;

/// Two instances and an address on the first.
pub(super) struct Scene {
    pub ec2: Ec2,
    pub a: Id,
    pub b: Id,
    pub address: Id,
}

pub(super) fn scene() -> Scene {
    seeded(7)
}

fn seeded(seed: u64) -> Scene {
    let mut ec2 = Ec2::new(seed);
    let node = || InstanceSpec { tags: tags([("cluster", "web")]), ..InstanceSpec::default() };
    let (a, b) = (ec2.add_instance(node()), ec2.add_instance(node()));
    let address = ec2.add_address(tags([("cluster", "web")]));
    assert!(ec2.move_by_hand(&address, Place::Instance(&a), 0));
    Scene { ec2, a, b, address }
}

impl Scene {
    pub fn target(&self, id: &str) -> (Id, Ipv4Addr) {
        let nic = self.ec2.interfaces_of(id).next().unwrap();
        (nic.id.clone(), nic.private_ips[0])
    }

    fn request_to(&self, id: &str) -> Request {
        let (interface, private_ip) = self.target(id);
        associate(&self.address, &interface, private_ip)
    }

    fn associate(&mut self, to: &str, now_ms: u64) -> Result<Response, Error> {
        let request = self.request_to(to);
        self.ec2.call(ME, &request, now_ms)
    }

    fn seen_holder(&mut self, now_ms: u64) -> Option<Id> {
        match self.ec2.call(ME, &Request::DescribeAddresses, now_ms).unwrap() {
            Response::Addresses(all) => all[0].association.as_ref().and_then(|it| it.instance.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn holder(&self) -> Option<&Id> {
        self.ec2.holder(&self.address)
    }
}

fn associate(allocation: &Id, interface: &Id, private_ip: Ipv4Addr) -> Request {
    Request::AssociateAddress {
        allocation: allocation.clone(),
        interface: interface.clone(),
        private_ip,
        allow_reassociation: true,
        dry_run: false,
    }
}

fn tag(resources: &[&Id], key: &str, value: &str) -> Request {
    Request::CreateTags {
        resources: resources.iter().map(|id| (*id).clone()).collect(),
        tags: vec![(key.to_owned(), value.to_owned())],
        dry_run: false,
    }
}

fn code(answer: Result<Response, Error>) -> &'static str {
    answer.map_or_else(|error| error.code, |_| "ok")
}

fn instances(ec2: &mut Ec2, filter: Filter, now_ms: u64) -> Result<Vec<Instance>, Error> {
    ec2.call(ME, &Request::DescribeInstances(filter), now_ms).map(|answer| match answer {
        Response::Instances(all) => all,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_move_changes_holder_and_association_id_and_a_second_one_changes_nothing() {
    let mut it = scene();
    let before = it.ec2.association(&it.address).unwrap().id.clone();
    let b = it.b.clone();
    let Ok(Response::Associated(first)) = it.associate(&b, SECOND) else { panic!() };
    assert_eq!(it.holder(), Some(&it.b));
    assert_ne!(first, before);
    assert_eq!(it.associate(&b, 2 * SECOND), Ok(Response::Associated(first)), "idempotent");
    let changed: Vec<_> = it.ec2.calls().iter().map(|call| (call.at_ms, call.changed)).collect();
    assert_eq!(changed, [(SECOND, true), (2 * SECOND, false)]);
    assert!(matches!(it.ec2.calls()[0].change.as_deref(), Some(Request::AssociateAddress { .. })));
}

#[test]
fn reassociation_has_to_be_allowed() {
    let mut it = scene();
    let spare = it.ec2.add_address(Tags::new());
    let strict = |request: Request| match request {
        Request::AssociateAddress { allocation, interface, private_ip, dry_run, .. } => {
            Request::AssociateAddress { allocation, interface, private_ip, dry_run, allow_reassociation: false }
        }
        other => other,
    };
    let (a_nic, a_ip) = it.target(&it.a);
    let moving = strict(it.request_to(&it.b));
    assert_eq!(code(it.ec2.call(ME, &moving, 1)), "Resource.AlreadyAssociated");
    assert_eq!(code(it.ec2.call(ME, &strict(associate(&spare, &a_nic, a_ip)), 1)), "Resource.AlreadyAssociated");
    assert_eq!(it.holder(), Some(&it.a));
}

#[test]
fn an_address_in_the_way_is_displaced_and_stays_allocated() {
    let mut it = scene();
    let other = it.ec2.add_address(Tags::new());
    assert!(it.ec2.move_by_hand(&other, Place::Instance(&it.b), 10));
    let b = it.b.clone();
    it.associate(&b, 20).unwrap();
    assert_eq!(it.ec2.association(&other), None);
    assert!(it.ec2.address_ids().any(|id| *id == other));
    let displaced: Vec<_> = it.ec2.displacements().map(|it| (it.at_ms, it.allocation.clone())).collect();
    assert_eq!(displaced, [(20, other)]);
}

#[test]
fn a_secondary_private_address_takes_a_second_elastic_ip_beside_the_first() {
    let mut it = scene();
    let (nic, _) = it.target(&it.a);
    let second_ip = it.ec2.add_private_ip(&nic, None).unwrap();
    let second = it.ec2.add_address(Tags::new());
    it.ec2.call(ME, &associate(&second, &nic, second_ip), 1).unwrap();
    assert_eq!(it.ec2.holder(&second), Some(&it.a));
    assert_eq!(it.holder(), Some(&it.a));
    assert_eq!(it.ec2.public_ip(&it.a), it.ec2.elastic_ip(&it.address), "the primary private address shows");
}

#[test]
fn the_loser_gets_a_new_auto_assigned_address_later_and_the_target_loses_its_own() {
    let mut it = scene();
    let auto_of_b = it.ec2.public_ip(&it.b).unwrap();
    let (a, b) = (it.a.clone(), it.b.clone());
    it.associate(&b, 0).unwrap();
    assert_eq!(it.ec2.public_ip(&b), it.ec2.elastic_ip(&it.address));
    assert_eq!(it.ec2.public_ip(&a), None, "no way out to the internet meanwhile");
    it.ec2.advance(59_999);
    assert_eq!(it.ec2.public_ip(&a), None);
    it.ec2.advance(60_000);
    let auto_of_a = it.ec2.public_ip(&a).unwrap();
    it.associate(&a, 61_000).unwrap();
    it.ec2.advance(200_000);
    assert!(!it.ec2.public_ip(&b).is_some_and(|ip| ip == auto_of_b || ip == auto_of_a), "what was released is gone");
}

#[test]
fn no_new_auto_assigned_address_with_two_interfaces_or_without_auto_assign() {
    for two_interfaces in [true, false] {
        let mut ec2 = Ec2::new(1);
        let auto_assign = two_interfaces;
        let id = ec2.add_instance(InstanceSpec { auto_assign, ..InstanceSpec::default() });
        if two_interfaces {
            ec2.add_interface(&id, 1).unwrap();
        }
        let address = ec2.add_address(Tags::new());
        assert!(ec2.move_by_hand(&address, Place::Instance(&id), 0));
        assert!(ec2.move_by_hand(&address, Place::Nowhere, 1));
        ec2.advance(1_000_000);
        assert_eq!(ec2.public_ip(&id), None, "two interfaces: {two_interfaces}");
    }
}

#[test]
fn what_the_target_is_decides_the_error() {
    type Prepare = fn(&mut Ec2, &Id);
    let states: [(&str, Prepare); 7] = [
        ("ok", |_, _| {}),
        ("ok", |ec2, b| {
            ec2.stop_instance(b, 0);
            ec2.advance(30_000);
            assert_eq!(ec2.state(b), Some(State::Stopped));
        }),
        ("IncorrectInstanceState", |ec2, b| {
            ec2.stop_instance(b, 0);
            assert!(ec2.start_instance(b, 30_000), "pending");
        }),
        ("IncorrectInstanceState", |ec2, b| {
            assert!(ec2.terminate_instance(b, 30_000), "shutting down");
        }),
        ("InvalidNetworkInterfaceID.NotFound", |ec2, b| {
            ec2.terminate_instance(b, 0);
            ec2.advance(30_000);
        }),
        ("IncorrectInstanceState", |ec2, b| {
            ec2.faults_mut().push(Rule::error("IncorrectInstanceState").on(Api::AssociateAddress).naming(b));
        }),
        ("Gateway.NotAttached", |ec2, b| {
            let nic = ec2.primary_interface(b).unwrap();
            ec2.faults_mut().push(Rule::error("Gateway.NotAttached").naming(&nic));
        }),
    ];
    for (expected, prepare) in states {
        let mut it = scene();
        let b = it.b.clone();
        let request = it.request_to(&b);
        prepare(&mut it.ec2, &b);
        assert_eq!(code(it.ec2.call(ME, &request, 31_000)), expected);
        assert_eq!(it.holder() == Some(&b), expected == "ok");
    }
}

#[test]
fn what_does_not_exist_or_does_not_fit_is_refused() {
    let mut it = scene();
    let (nic, ip) = it.target(&it.b);
    let nat = it.ec2.nat_gateway_interface();
    let (_, nat_ip) = it.target(&nat);
    let nats = it.ec2.add_address(Tags::new());
    assert!(it.ec2.move_by_hand(&nats, Place::Interface(&nat, nat_ip), 0));
    let local = it.ec2.add_address_in("eu-west-1-local", Tags::new());
    let id = |text: &str| Id::from(text);
    for (request, expected) in [
        (associate(&id("eipalloc-0"), &nic, ip), "InvalidAllocationID.NotFound"),
        (associate(&it.address, &id("eni-0"), ip), "InvalidNetworkInterfaceID.NotFound"),
        (associate(&it.address, &nic, Ipv4Addr::LOCALHOST), "InvalidParameterValue"),
        (associate(&it.address, &nat, nat_ip), "AuthFailure"),
        (associate(&nats, &nic, ip), "AuthFailure"),
        (associate(&local, &nic, ip), "InvalidParameterCombination"),
        (tag(&[&it.a, &id("i-0")], "k", "v"), "InvalidInstanceID.NotFound"),
        (tag(&[&id("eipalloc-0")], "k", "v"), "InvalidElasticIpID.NotFound"),
        (tag(&[&it.a], "aws:k", "v"), "InvalidParameterValue"),
        (tag(&[&it.a], "k", &"v".repeat(257)), "InvalidParameterValue"),
        (Request::DescribeInstances(Filter::Ids(vec![it.a.clone(), id("i-0")])), "InvalidInstanceID.NotFound"),
        (Request::DescribeInstanceStatus(vec![id("i-0")]), "InvalidInstanceID.NotFound"),
        (Request::DescribeInstanceStatus(vec![it.a.clone(); 101]), "InvalidParameterValue"),
        (Request::DescribeNetworkInterfaces(vec![id("eni-0")]), "ok"),
    ] {
        assert_eq!(code(it.ec2.call(ME, &request, 1)), expected, "{request:?}");
    }
    assert_eq!(it.ec2.tags(&it.a).unwrap().len(), 1, "all of CreateTags, or nothing");
    assert!(it.ec2.calls().iter().all(|call| !call.changed));
}

#[test]
fn a_resource_takes_fifty_tags() {
    let mut it = scene();
    for n in 1..50 {
        it.ec2.call(ME, &tag(&[&it.a], &format!("k{n}"), "v"), n).unwrap();
    }
    assert_eq!(code(it.ec2.call(ME, &tag(&[&it.a], "one-more", "v"), 60)), "TagLimitExceeded");
    assert_eq!(code(it.ec2.call(ME, &tag(&[&it.a], "k7", "w"), 60)), "ok", "an old key takes a new value");
}

#[test]
fn a_dry_run_says_whether_it_would_be_allowed_and_changes_nothing() {
    let mut it = scene();
    let Request::AssociateAddress { allocation, interface, private_ip, allow_reassociation, .. } = it.request_to(&it.b)
    else {
        panic!()
    };
    let dry = Request::AssociateAddress { allocation, interface, private_ip, allow_reassociation, dry_run: true };
    let allowed = it.ec2.call(ME, &dry, 1).unwrap_err();
    assert_eq!((allowed.code, allowed.status), ("DryRunOperation", 412));
    it.ec2.faults_mut().push(Rule::error("IncorrectInstanceState"));
    assert_eq!(code(it.ec2.call(ME, &dry, 2)), "DryRunOperation", "it asks for permission only");
    it.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress).naming(&it.b));
    assert_eq!(code(it.ec2.call(ME, &dry, 3)), "UnauthorizedOperation");
    assert_eq!(it.holder(), Some(&it.a));
}

#[test]
fn stopping_keeps_the_association_and_terminating_removes_it() {
    let mut it = scene();
    let (a, b) = (it.a.clone(), it.b.clone());
    assert!(it.ec2.stop_instance(&a, 0));
    it.ec2.stop_instance(&b, 0);
    it.ec2.advance(50_000);
    assert_eq!((it.holder(), it.ec2.state(&a)), (Some(&a), Some(State::Stopped)));
    assert_eq!(it.ec2.public_ip(&b), None, "stopping releases the auto-assigned address");
    assert!(it.ec2.start_instance(&a, 60_000));
    assert!(!it.ec2.start_instance(&a, 60_000));
    assert_eq!(it.ec2.launched_ms(&a), Some(60_000));
    assert!(it.ec2.start_instance(&b, 60_000));
    assert!(it.ec2.public_ip(&b).is_some());
    assert!(it.ec2.terminate_instance(&a, 100_000));
    assert_eq!(it.holder(), Some(&a), "until it is terminated");
    it.ec2.advance(120_000);
    assert_eq!((it.holder(), it.ec2.state(&a)), (None, Some(State::Terminated)));
    let shown = instances(&mut it.ec2, Filter::Ids(vec![a.clone()]), 120_000).unwrap();
    assert!(shown[0].interfaces.is_empty());
    assert_eq!(shown[0].tags["cluster"], "web");
    let gone = instances(&mut it.ec2, Filter::Ids(vec![a.clone()]), 120_000 + 3_600_000);
    assert_eq!(gone.unwrap_err().code, "InvalidInstanceID.NotFound");
    let states: Vec<_> =
        it.ec2.state_changes().iter().filter(|it| it.instance == a).map(|it| (it.at_ms, it.state.as_str())).collect();
    let expected = [
        (0, "running"),
        (0, "stopping"),
        (20_000, "stopped"),
        (60_000, "pending"),
        (75_000, "running"),
        (100_000, "shutting-down"),
        (120_000, "terminated"),
    ];
    assert_eq!(states, expected);
    assert_eq!(it.ec2.history().back().unwrap().cause, Cause::Terminated);
}

#[test]
fn an_address_on_a_second_interface_outlives_the_instance() {
    let mut it = scene();
    let (a, b) = (it.a.clone(), it.b.clone());
    let second = it.ec2.add_interface(&a, 1).unwrap();
    it.associate(&second, 5).unwrap();
    assert_eq!(it.holder(), Some(&a));
    it.ec2.terminate_instance(&a, 10);
    it.ec2.advance(30_000);
    let left = it.ec2.association(&it.address).unwrap();
    assert_eq!((left.instance.as_ref(), &left.interface), (None, &second));
    let look = Request::DescribeNetworkInterfaces(vec![second.clone()]);
    let Ok(Response::Interfaces(shown)) = it.ec2.call(ME, &look, 30_000) else { panic!() };
    assert_eq!(shown[0].attachment, Attachment::None);
    assert!(it.ec2.attach_interface(&second, &b, 1, 40_000));
    assert_eq!(it.holder(), Some(&b));
    assert!(it.ec2.detach_interface(&second, 50_000));
    assert_eq!(it.holder(), None);
    let held = |ms| it.ec2.association_at(&it.address, ms).and_then(|it| it.instance.clone());
    assert_eq!((held(7), held(35_000), held(45_000)), (Some(a), None, Some(b)));
}

#[test]
fn a_recovered_address_has_lost_its_tags_and_its_place() {
    let mut it = scene();
    let ip = it.ec2.elastic_ip(&it.address);
    let new = it.ec2.release_and_recover_address(&it.address, 5).unwrap();
    assert_eq!(it.ec2.elastic_ip(&new), ip);
    assert!(it.ec2.tags(&new).unwrap().is_empty());
    assert_eq!(it.ec2.holder(&new), None);
    let b = it.b.clone();
    assert_eq!(code(it.associate(&b, 6)), "InvalidAllocationID.NotFound");
}

#[test]
fn status_shows_running_instances_and_begins_anew_after_a_start_or_reboot() {
    let mut it = scene();
    let (a, b) = (it.a.clone(), it.b.clone());
    let statuses = |it: &mut Scene, ids: &[&Id], now_ms| {
        let ids = ids.iter().map(|id| (*id).clone()).collect();
        match it.ec2.call(ME, &Request::DescribeInstanceStatus(ids), now_ms).unwrap() {
            Response::Statuses(all) => all.into_iter().map(|it| (it.id, it.instance)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert!(it.ec2.set_status(&a, CheckKind::Instance, Check::Impaired, 1));
    assert_eq!(statuses(&mut it, &[], 1), [(a.clone(), Check::Impaired), (b.clone(), Check::Ok)]);
    it.ec2.stop_instance(&b, 2);
    assert_eq!(statuses(&mut it, &[&a, &b], 3), [(a.clone(), Check::Impaired)]);
    assert!(it.ec2.reboot_instance(&a, 4));
    assert_eq!(it.ec2.launched_ms(&a), Some(0));
    assert_eq!(statuses(&mut it, &[&a], 5), [(a.clone(), Check::Initializing)]);
    assert_eq!(statuses(&mut it, &[&a], 120_004), [(a.clone(), Check::Ok)]);
}

#[test]
fn tags_are_found_by_the_beginning_of_their_key() {
    let mut it = scene();
    it.ec2.set_tags(&it.a, tags([("eipwatch:mode", "drain"), ("eipwatcher", "x"), ("f", "x")]), 1);
    it.ec2.remove_tag(&it.b, "cluster", 1);
    let look = Request::DescribeTags { key_prefix: "eipwatch:".to_owned() };
    let expected = vec![(it.a.clone(), "eipwatch:mode".to_owned(), "drain".to_owned())];
    assert_eq!(it.ec2.call(ME, &look, 2), Ok(Response::Tags(expected)));
    assert_eq!(instances(&mut it.ec2, Filter::TagKey("cluster".to_owned()), 2).unwrap().len(), 1);
}

#[test]
fn pages_are_counted_and_throttled_one_by_one() {
    let mut ec2 = Ec2::new(1);
    for _ in 0..1_001 {
        ec2.add_instance(InstanceSpec::default());
    }
    assert_eq!(instances(&mut ec2, Filter::All, 0).unwrap().len(), 1_001);
    assert_eq!(ec2.pages(Api::DescribeInstances), 2);
    ec2.faults_mut().push(Rule::new(Fault::Throttle));
    let served = (0..100).filter(|_| instances(&mut ec2, Filter::All, 0).is_ok()).count();
    assert_eq!(served, 50);
}

#[test]
fn throttling_allows_a_burst_and_then_the_refill() {
    let mut it = scene();
    it.ec2.faults_mut().push(Rule::new(Fault::Throttle));
    let (a, b) = (it.request_to(&it.a), it.request_to(&it.b));
    let mut served = 0;
    for tenth in 0..200u64 {
        for caller in 0..2 {
            let request = if tenth % 2 == 0 { &b } else { &a };
            match it.ec2.call(caller, request, tenth * 100) {
                Ok(_) => served += 1,
                Err(error) => assert_eq!((error.code, error.status), ("RequestLimitExceeded", 503)),
            }
        }
    }
    // 50 at once and 5 a second for 19.9 s, shared by both callers.
    assert_eq!(served, 50 + 99);
    assert_eq!(it.ec2.met()["throttled"], 400 - 149);
    assert_eq!(code(it.ec2.call(ME, &Request::DescribeAddresses, 20_000)), "ok", "each call has its own bucket");
    for (api, expected) in [(Api::CreateTags, (100, 10)), (Api::DescribeAddresses, (100, 20))] {
        assert_eq!((api.default_limit().capacity, api.default_limit().refill_per_s), expected);
    }
}

#[test]
fn errors_before_and_after_the_effect() {
    let error = || Error::injected("InternalError");
    for (fault, expected, moved) in [
        (Fault::Error(error()), "InternalError", false),
        (Fault::ErrorAfter(error()), "InternalError", true),
        (Fault::LostRequest, "Timeout", false),
        (Fault::LostAnswer, "Timeout", true),
        (Fault::Hollow, "ok", false),
    ] {
        let mut it = scene();
        let b = it.b.clone();
        it.ec2.faults_mut().push(Rule::new(fault.clone()).on(Api::AssociateAddress));
        assert_eq!(code(it.associate(&b, 1)), expected, "{fault:?}");
        assert_eq!(it.holder() == Some(&b), moved, "{fault:?}");
        let call = it.ec2.calls().back().unwrap().clone();
        assert_eq!((call.caller, call.code.unwrap_or("ok"), call.changed), (ME, expected, moved));
        assert_eq!(it.ec2.met()[fault.name()], 1);
        assert!(it.seen_holder(2).is_some(), "other calls are served");
    }
}

#[test]
fn a_request_takes_effect_after_its_client_gave_up() {
    let mut it = scene();
    it.ec2.faults_mut().push(Rule::new(Fault::Late { by_ms: 700 }).on(Api::AssociateAddress));
    let request = it.request_to(&it.b);
    let plan = it.ec2.plan(ME, &request, 100);
    assert_eq!((plan.effect_at_ms, plan.answer_at_ms), (5_100, 5_100));
    assert_eq!(code(it.ec2.run(&plan, &request, 5_100)), "Timeout");
    it.ec2.advance(5_799);
    assert_eq!(it.holder(), Some(&it.a));
    assert_eq!(it.ec2.next_change_ms(), Some(5_800));
    it.ec2.advance(5_800);
    assert_eq!(it.holder(), Some(&it.b));
    let changed: Vec<_> = it.ec2.calls().iter().map(|call| (call.at_ms, call.changed)).collect();
    assert_eq!(changed, [(5_100, false), (5_800, true)]);
}

#[test]
fn latency_lies_within_its_range_and_beyond_the_time_limit_the_effect_still_comes() {
    let mut it = scene();
    it.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 40, max_ms: 80 }));
    let request = it.request_to(&it.b);
    let plans: Vec<_> = (0..50).map(|_| it.ec2.plan(ME, &request, 1_000)).collect();
    assert!(plans.iter().all(|it| (1_040..=1_080).contains(&it.answer_at_ms)));
    assert!(plans.iter().all(|it| (1_020..=1_040).contains(&it.effect_at_ms)));
    assert!(plans.iter().any(|it| it.answer_at_ms != plans[0].answer_at_ms));
    for (latency_ms, effect_at_ms) in [(6_000, 3_000), (14_000, 7_000)] {
        let mut it = scene();
        it.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: latency_ms, max_ms: latency_ms }));
        let request = it.request_to(&it.b);
        let plan = it.ec2.plan(ME, &request, 0);
        assert_eq!((plan.effect_at_ms, plan.answer_at_ms), (effect_at_ms.min(5_000), 5_000));
        assert_eq!(code(it.ec2.run(&plan, &request, plan.effect_at_ms)), "Timeout");
        it.ec2.advance(10_000);
        assert_eq!(it.ec2.history().back().map(|it| it.at_ms), Some(effect_at_ms));
    }
}

#[test]
fn rules_hold_for_their_time_caller_call_and_chance() {
    let mut it = scene();
    it.ec2.faults_mut().extend([
        Rule::error("Unavailable").on(Api::DescribeInstances).between(10, 20),
        Rule::new(Fault::LostRequest).by(9),
        Rule::error("Throttling").on(Api::DescribeAlarms),
        Rule::error("ConcurrentTagAccess").on(Api::CreateTags).chance(300),
    ]);
    for (now_ms, expected) in [(9, "ok"), (10, "Unavailable"), (19, "Unavailable"), (20, "ok")] {
        let answer = it.ec2.call(ME, &Request::DescribeInstances(Filter::All), now_ms);
        assert_eq!(code(answer), expected, "{now_ms}");
    }
    assert_eq!(code(it.ec2.call(9, &Request::DescribeAddresses, 20)), "Timeout", "a watcher cut off");
    assert_eq!(code(it.ec2.call(ME, &Request::DescribeAddresses, 20)), "ok");
    assert_eq!(code(it.ec2.call(ME, &Request::DescribeAlarms(vec![]), 20)), "Throttling");
    let request = tag(&[&it.a], "k", "v");
    let failed = (0..1_000).filter(|_| it.ec2.call(ME, &request, 30).is_err()).count();
    assert!((250..350).contains(&failed), "{failed}");
    it.ec2.faults_mut().clear();
    assert_eq!(code(it.ec2.call(9, &Request::DescribeAlarms(vec![]), 40)), "ok");
}

#[test]
fn a_disrupted_zone_fails_what_names_an_instance_there() {
    let mut ec2 = Ec2::new(1);
    let node = |zone: &str| InstanceSpec { zone: zone.to_owned(), tags: tags([("c", "")]), ..InstanceSpec::default() };
    let (well, ill) = (ec2.add_instance(node("eu-west-1a")), ec2.add_instance(node("eu-west-1b")));
    for unnamed in [true, false] {
        *ec2.faults_mut() = vec![Rule::new(Fault::Zone { zone: "eu-west-1b".to_owned(), unnamed })];
        let all = if unnamed { "InternalError" } else { "ok" };
        for (request, expected) in [
            (Request::DescribeInstances(Filter::Ids(vec![well.clone()])), "ok"),
            (Request::DescribeInstances(Filter::Ids(vec![well.clone(), ill.clone()])), "InternalError"),
            (Request::DescribeInstances(Filter::TagKey("c".to_owned())), all),
            (Request::DescribeInstanceStatus(vec![ill.clone()]), "InternalError"),
            (Request::DescribeInstanceStatus(vec![]), all),
            (Request::DescribeTags { key_prefix: "c".to_owned() }, "ok"),
            (Request::DescribeAddresses, "ok"),
        ] {
            assert_eq!(code(ec2.call(ME, &request, 1)), expected, "{request:?}");
        }
    }
}

#[test]
fn stale_reads_show_a_moment_within_their_bound_and_only_of_their_kind() {
    let mut it = scene();
    it.ec2.settle();
    let (a, b) = (it.a.clone(), it.b.clone());
    let stale = |what| Rule::new(Fault::Stale { what, up_to_ms: 2_000 });
    it.ec2.faults_mut().push(stale(Shown::Associations));
    it.associate(&b, 100_000).unwrap();
    it.ec2.stop_instance(&a, 100_000);
    it.ec2.set_tags(&a, tags([("new", "")]), 100_000);
    let old = (0..200).filter(|_| it.seen_holder(101_000) == Some(a.clone())).count();
    assert!((60..140).contains(&old), "half of the moments lie before the move: {old}");
    assert_eq!(it.ec2.met()["stale"], old as u64);
    assert_eq!(it.holder(), Some(&b), "the truth is not stale");
    for _ in 0..50 {
        let shown = instances(&mut it.ec2, Filter::TagKey("new".to_owned()), 101_000).unwrap();
        assert_eq!(shown[0].state, State::Stopping);
        assert_eq!(it.seen_holder(102_000), Some(b.clone()), "within the bound");
    }
    *it.ec2.faults_mut() = vec![stale(Shown::States), stale(Shown::Tags)];
    it.ec2.start_instance(&a, 150_000);
    it.ec2.remove_tag(&a, "new", 150_000);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let all = instances(&mut it.ec2, Filter::Ids(vec![a.clone()]), 151_000).unwrap();
        seen.insert((all[0].state.as_str(), all[0].tags.contains_key("new")));
    }
    assert_eq!(seen.len(), 4, "states and tags lag independently: {seen:?}");
}

#[test]
fn monotonic_reads_never_go_back() {
    for monotonic in [true, false] {
        let mut it = scene();
        it.ec2.settle();
        it.ec2.settings.monotonic_reads = monotonic;
        it.ec2.faults_mut().push(Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 3_000 }));
        let b = it.b.clone();
        it.associate(&b, 100_000).unwrap();
        let seen: Vec<_> = (0..200).map(|n| it.seen_holder(100_000 + n * 10) == Some(b.clone())).collect();
        let goes_back = seen.windows(2).any(|pair| pair[0] && !pair[1]);
        assert_eq!(goes_back, !monotonic);
    }
}

#[test]
fn a_new_instance_is_not_in_stale_answers_yet_and_one_can_be_left_out() {
    let mut it = scene();
    it.ec2.settle();
    it.ec2.advance(100_000);
    let new = it.ec2.add_instance(InstanceSpec { pending: true, ..InstanceSpec::default() });
    it.ec2.faults_mut().push(Rule::new(Fault::Stale { what: Shown::States, up_to_ms: 2_000 }));
    let counts: std::collections::BTreeSet<_> =
        (0..100).map(|_| instances(&mut it.ec2, Filter::All, 101_000).unwrap().len()).collect();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [2, 3]);
    *it.ec2.faults_mut() = vec![Rule::new(Fault::Omit(it.a.clone()))];
    let all = instances(&mut it.ec2, Filter::All, 200_000).unwrap();
    assert_eq!(all.iter().map(|it| it.id.clone()).collect::<Vec<_>>(), [it.b.clone(), new.clone()]);
    assert_eq!(all[1].state, State::Running);
}

#[test]
fn the_same_seed_and_calls_give_the_same_answers() {
    let run = |seed| {
        let mut it = seeded(seed);
        it.ec2.faults_mut().extend([
            Rule::new(Fault::Latency { min_ms: 5, max_ms: 300 }),
            Rule::error("InternalError").chance(100),
            Rule::new(Fault::LostAnswer).chance(100),
            Rule::new(Fault::Late { by_ms: 900 }).chance(50),
            Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 5_000 }).chance(500),
        ]);
        let requests = [it.request_to(&it.b), it.request_to(&it.a), Request::DescribeAddresses];
        let mut log = Vec::new();
        for (n, request) in (0..500u32).zip(requests.iter().cycle()) {
            let plan = it.ec2.plan(n % 4, request, u64::from(n) * 400);
            let answer = it.ec2.run(&plan, request, plan.effect_at_ms);
            log.push((plan.effect_at_ms, plan.answer_at_ms, answer));
        }
        (log, it.ec2.history().clone(), it.ec2.met().clone())
    };
    let first = run(3);
    assert!(first == run(3));
    assert!(first != run(4));
    let kinds: Vec<_> = first.2.keys().copied().collect();
    assert_eq!(kinds, ["InternalError", "late", "latency", "lost-answer", "stale"]);
}
