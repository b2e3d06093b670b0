//! What holds of every decision, and of every watch, whatever it is fed: properties, with facts, findings and memories out of thin air.
//!
//! Those of tags, policies and events are beside them in `src/core`; the harm that bytes can do is looked for in `fuzz/`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use eipwatch::core::decide::{AddressMemory, Kind, Order, Question, Ruling, Since, Why, decide};
use eipwatch::core::event;
use eipwatch::core::model::{
    Act, Address, AllocationId, Answer, Association, CloudError, Instance, InstanceId, InstanceState, InstanceStatus,
    Interface, Look, Seen, StatusCheck, Tags,
};
use eipwatch::core::snapshot::{Cluster, Facts, Slot, Taken, clusters};
use eipwatch::core::tags::{Keys, Leaving, State, Verdict};
use eipwatch::core::time::Time;
use eipwatch::core::verdict::Finding;
use eipwatch::core::watch::{Effect, Ending, Input, Settings, Watch};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const NOW_MS: u64 = 1_795_332_600_000;
const NODES: usize = 4;
const ADDRESSES: usize = 3;
/// How many inputs a watch is fed.
const MAX_INPUTS: usize = 60;

fn now() -> Time {
    Time::from_millis(NOW_MS)
}

fn node_id(number: usize) -> InstanceId {
    InstanceId::from(format!("i-{number:017x}"))
}

fn address_id(number: usize) -> AllocationId {
    AllocationId::from(format!("eipalloc-{number:017x}"))
}

/// The private addresses of a node: one for each address of the cluster at most.
fn private_ip(node: usize, place: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, u8::try_from(node).unwrap(), u8::try_from(10 + place).unwrap())
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        (0..120_000u64).prop_map(|ago_ms| Time::from_millis(NOW_MS - ago_ms)),
        (0..120_000u64).prop_map(|in_ms| Time::from_millis(NOW_MS + in_ms)),
        Just(Time::from_millis(NOW_MS - 86_400_000)),
    ]
}

fn some_node() -> impl Strategy<Value = InstanceId> {
    (0..=NODES).prop_map(node_id)
}

fn why() -> impl Strategy<Value = String> {
    let all = Why::ALL.iter().map(|why| why.as_str()).chain(["external"]).collect::<Vec<_>>();
    select(all).prop_map(str::to_owned)
}

fn state() -> impl Strategy<Value = State> {
    (some_node(), time(), option::of(some_node()), why(), vec(time(), 0..4))
        .prop_map(|(holder, since, from, why, moves)| State { holder, since, from, why, moves })
}

/// A tag's value: one that means something, or garbage.
fn or_garbage(good: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Option<String>> {
    prop_oneof![
        3 => Just(None),
        5 => good.prop_map(Some),
        1 => "\\PC{0,40}".prop_map(Some),
    ]
    .boxed()
}

fn address_tags() -> impl Strategy<Value = Tags> {
    let policy =
        select(vec!["failback=auto", "failback=auto stable=0s", "max_moves=1 stable=30s", "via=public", "fall=1"]);
    let check = select(vec!["http:8080/health", "tcp:5432 heartbeat", "alarm:busy", "heartbeat", ""]);
    let mode = select(vec!["auto", "manual", "manual until=2026-11-22T07:31:00Z", "manual until=2026-11-22T07:29:00Z"]);
    (
        or_garbage(policy.prop_map(str::to_owned)),
        or_garbage(check.prop_map(str::to_owned)),
        prop_oneof![4 => Just(None), 1 => or_garbage(mode.prop_map(str::to_owned))],
        or_garbage(some_node().prop_map(|id| id.to_string())),
        or_garbage(state().prop_map(|state| state.to_string())),
    )
        .prop_map(|(policy, check, mode, prefer, state)| {
            tags([("policy", policy), ("check", check), ("mode", mode), ("prefer", prefer), ("state", state)])
        })
}

fn node_tags() -> impl Strategy<Value = Tags> {
    let health = select(vec![
        "verdict=healthy since=2026-11-22T07:00:00Z",
        "verdict=unhealthy since=2026-11-22T07:00:00Z why=http",
        "verdict=healthy since=2026-11-22T07:00:00Z leaving=spot noticed=2026-11-22T07:29:30Z until=2026-11-22T07:31:30Z",
    ]);
    let heartbeat = select(vec![
        "seq=7 at=2026-11-22T07:29:58Z status=ok every=5s",
        "seq=7 at=2026-11-22T07:29:58Z status=leaving every=5s",
        "seq=7 at=2026-11-22T07:29:58Z status=fail every=5s",
    ]);
    (
        prop_oneof![9 => Just(Some("web".to_owned())), 1 => or_garbage(Just("web db".to_owned()))],
        or_garbage((0..=1_000u16).prop_map(|priority| priority.to_string())),
        prop_oneof![4 => Just(None), 1 => or_garbage(select(vec!["active", "drain"]).prop_map(str::to_owned))],
        or_garbage((0..NODES, 0..ADDRESSES).prop_map(|(node, place)| private_ip(node, place).to_string())),
        or_garbage(health.prop_map(str::to_owned)),
        or_garbage(heartbeat.prop_map(str::to_owned)),
    )
        .prop_map(|(cluster, priority, mode, address, health, heartbeat)| {
            let address = address.filter(|_| priority.is_some());
            tags([
                ("cluster", cluster),
                ("priority", priority),
                ("mode", mode),
                ("address", address),
                ("health", health),
                ("heartbeat", heartbeat),
            ])
        })
}

fn tags<const N: usize>(all: [(&str, Option<String>); N]) -> Tags {
    all.into_iter().filter_map(|(key, value)| Some((format!("eipwatch:{key}"), value?))).collect()
}

fn instance_state() -> impl Strategy<Value = InstanceState> {
    prop_oneof![
        6 => Just(InstanceState::Running),
        1 => select(vec![
            InstanceState::Pending,
            InstanceState::ShuttingDown,
            InstanceState::Stopping,
            InstanceState::Stopped,
            InstanceState::Terminated,
            InstanceState::Unknown,
        ]),
    ]
}

fn instance(number: usize) -> impl Strategy<Value = Instance> {
    let zone = prop_oneof![9 => Just("eu-west-1a"), 1 => Just("eu-west-1-lax-1a")];
    (instance_state(), option::of(time()), zone, node_tags(), 0..=ADDRESSES).prop_map(
        move |(state, launched, zone, tags, places)| Instance {
            id: node_id(number),
            state,
            launched,
            zone: Some(zone.to_owned()),
            public_ip: Some(Ipv4Addr::new(198, 18, 0, u8::try_from(number).unwrap())),
            interfaces: vec![Interface {
                id: format!("eni-{number}").into(),
                device_index: 0,
                card_index: 0,
                private_ips: (0..places).map(|place| private_ip(number, place)).collect(),
            }],
            tags,
        },
    )
}

/// On a node's place, on an interface of nobody's, or nowhere.
fn association() -> impl Strategy<Value = Option<Association>> {
    prop_oneof![
        2 => Just(None),
        6 => (0..NODES, 0..ADDRESSES).prop_map(|(node, place)| Some(Association {
            instance: Some(node_id(node)),
            interface: Some(format!("eni-{node}").into()),
            private_ip: Some(private_ip(node, place)),
        })),
        1 => Just(Some(Association {
            instance: Some(node_id(99)),
            interface: Some("eni-99".into()),
            private_ip: Some(private_ip(99, 0)),
        })),
        1 => Just(Some(Association { instance: None, interface: Some("eni-98".into()), private_ip: None })),
    ]
}

fn address(number: usize) -> impl Strategy<Value = Address> {
    (association(), address_tags()).prop_map(move |(association, mut tags)| {
        tags.insert("eipwatch:cluster".to_owned(), "web".to_owned());
        Address {
            id: address_id(number),
            public_ip: Ipv4Addr::new(203, 0, 113, u8::try_from(number + 1).unwrap()),
            border_group: Some("eu-west-1".to_owned()),
            association,
            tags,
        }
    })
}

fn finding() -> impl Strategy<Value = Finding> {
    let verdict = prop_oneof![
        5 => Just(Verdict::Healthy),
        1 => Just(Verdict::Suspect),
        2 => Just(Verdict::Unhealthy),
        1 => Just(Verdict::Unknown),
        1 => Just(Verdict::Gone),
    ];
    let often = || prop_oneof![4 => Just(true), 1 => Just(false)];
    let seldom = || prop_oneof![7 => Just(false), 1 => Just(true)];
    (verdict, often(), any::<bool>(), often(), any::<bool>(), seldom(), seldom(), seldom()).prop_map(
        |(verdict, settled, promising, probes_passed, wavering, impaired, unread, leaving)| Finding {
            verdict,
            settled,
            promising,
            probes_passed,
            probed_from: None,
            wavering,
            impaired,
            by_reading: impaired && verdict == Verdict::Unhealthy,
            unread,
            leaving: leaving.then(|| Leaving { kind: "spot".to_owned(), until: None, noticed: now() }),
            evidence: Vec::new(),
            stopped: false,
            look_again: None,
            problems: Vec::new(),
        },
    )
}

fn memory() -> impl Strategy<Value = AddressMemory> {
    (
        option::weighted(0.3, state()),
        option::weighted(0.1, some_node()),
        option::weighted(0.1, Just("UnauthorizedOperation".to_owned())),
        option::of(time()),
        option::of(time()),
        option::weighted(0.1, (option::of(some_node()), any::<bool>())),
        option::weighted(0.2, (some_node(), time())),
        option::weighted(0.2, state()),
        option::weighted(0.1, some_node()),
        option::weighted(0.2, time()),
    )
        .prop_map(
            |(state, refused, barred, rescue_since, loose_since, order, unrecorded, earlier, forbidden, unclear)| {
                AddressMemory {
                    state,
                    refused: refused.into_iter().map(|id| (id, "IncorrectInstanceState".to_owned())).collect(),
                    forbidden: forbidden.into_iter().map(|id| (id, "UnauthorizedOperation".to_owned())).collect(),
                    barred,
                    rescue_since,
                    loose_since: loose_since.map(|since| ("eni-98".into(), since)),
                    unclear_since: unclear.map(|since| ("eni-98".into(), since)),
                    order: order.map(|(to, force)| Order { to, force }),
                    first_holder: None,
                    earlier: earlier.into_iter().collect(),
                    unrecorded,
                }
            },
        )
}

/// All that a decision is made from.
#[derive(Clone, Debug)]
struct Given {
    addresses: Vec<Address>,
    instances: Vec<Instance>,
    findings: BTreeMap<InstanceId, Finding>,
    since: BTreeMap<InstanceId, Since>,
    memory: BTreeMap<AllocationId, AddressMemory>,
    manual: bool,
}

fn given() -> impl Strategy<Value = Given> {
    let addresses = (1..=ADDRESSES).prop_flat_map(|count| (0..count).map(address).collect::<Vec<_>>());
    let instances = (1..=NODES).prop_flat_map(|count| (0..count).map(instance).collect::<Vec<_>>());
    let findings = vec((option::weighted(0.9, finding()), time(), time()), NODES);
    let manual = prop_oneof![9 => Just(false), 1 => Just(true)];
    (addresses, instances, findings, vec(memory(), ADDRESSES), manual).prop_map(
        |(mut addresses, instances, found, memory, manual)| {
            // Two addresses are never on the same place.
            let mut taken = BTreeSet::new();
            for address in &mut addresses {
                let place = address.association.as_ref().map(|at| (at.interface.clone(), at.private_ip));
                if place.is_some_and(|place| !taken.insert(place)) {
                    address.association = None;
                }
            }
            let mut findings = BTreeMap::new();
            let mut since = BTreeMap::new();
            for (number, (finding, verdict, steady)) in found.into_iter().enumerate() {
                if let Some(finding) = finding {
                    findings.insert(node_id(number), finding);
                    since.insert(node_id(number), Since { verdict, steady });
                }
            }
            let memory = memory.into_iter().enumerate().map(|(number, memory)| (address_id(number), memory)).collect();
            Given { addresses, instances, findings, since, memory, manual }
        },
    )
}

impl Given {
    fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        facts.take_addresses(self.addresses.clone(), now());
        facts.take_instances(self.instances.clone(), &BTreeSet::new(), now());
        facts
    }

    fn cluster(&self, facts: &Facts) -> Cluster {
        clusters(facts, &Keys::new("eipwatch:")).0.remove(&"web".into()).unwrap()
    }

    fn decide(&self) -> (Cluster, Vec<Ruling>) {
        let facts = self.facts();
        let cluster = self.cluster(&facts);
        let occupancy = facts.occupancy();
        let rulings = decide(Question {
            cluster: &cluster,
            findings: &self.findings,
            since: &self.since,
            memory: &self.memory,
            taken: &Taken::new(&occupancy, None),
            facts_from: now(),
            readable_from: now(),
            nodes_from: now(),
            unreadable: None,
            manual: self.manual,
            now: now(),
        });
        (cluster, rulings)
    }

    /// Every move that was decided has been made, and is remembered as the watch remembers it.
    fn after(&self, rulings: &[Ruling]) -> Given {
        let mut after = self.clone();
        for ruling in rulings.iter().filter(|ruling| !ruling.pending) {
            let Some(plan) = &ruling.plan else { continue };
            let address = after.addresses.iter_mut().find(|address| address.id == ruling.address).unwrap();
            address.association = Some(Association {
                instance: Some(plan.to.clone()),
                interface: Some(plan.slot.interface.clone()),
                private_ip: Some(plan.slot.private_ip),
            });
            if plan.forced {
                address.tags.insert("eipwatch:mode".to_owned(), "manual".to_owned());
            }
            let memory = after.memory.entry(ruling.address.clone()).or_default();
            memory.order = None;
            memory.rescue_since = None;
            memory.state = Some(State {
                holder: plan.to.clone(),
                since: now(),
                from: plan.from.clone(),
                why: plan.why.as_str().to_owned(),
                moves: Vec::new(),
            });
        }
        after
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_question_has_the_same_answer_in_whatever_order_ec2_lists_things(
        given in given(), addresses in any::<prop::sample::Index>(), instances in any::<prop::sample::Index>(),
    ) {
        let (_, rulings) = given.decide();
        prop_assert_eq!(&given.decide().1, &rulings);
        let mut other = given.clone();
        let (by, of) = (addresses.index(other.addresses.len()), other.addresses.len());
        other.addresses.rotate_left(by.min(of));
        let by = instances.index(other.instances.len());
        other.instances.rotate_left(by);
        other.instances.reverse();
        prop_assert_eq!(&other.decide().1, &rulings);
    }

    #[test]
    fn what_was_moved_stays_where_it_was_moved_to(given in given()) {
        let (_, rulings) = given.decide();
        let (_, again) = given.after(&rulings).decide();
        for (first, second) in rulings.iter().zip(&again) {
            // A last resort may find something better once other addresses have made room.
            let last = first.decision.why == Why::LastResort && given.addresses.len() > 1;
            if first.plan.is_some() && !first.pending && !last {
                prop_assert!(second.plan.is_none(), "{:?}\nthen {:?}", first, second);
            }
        }
    }

    #[test]
    fn a_move_is_to_a_free_place_of_a_candidate_or_the_last_resort(given in given()) {
        let (cluster, rulings) = given.decide();
        let facts = given.facts();
        let mut taken: BTreeMap<Slot, AllocationId> = facts.occupancy();
        for (address, ruling) in cluster.addresses.iter().zip(&rulings) {
            prop_assert!(!ruling.decision.text.is_empty());
            prop_assert_eq!(&ruling.address, &address.id);
            prop_assert_eq!(ruling.decision.to.is_some(), ruling.decision.kind == Kind::Move || ruling.decision.why == Why::NotPermitted);
            let Some(plan) = &ruling.plan else { continue };
            prop_assert_eq!(ruling.decision.kind, Kind::Move);
            prop_assert_eq!(Some(&plan.to), ruling.decision.to.as_ref());
            prop_assert!(plan.from.as_ref() != Some(&plan.to));
            let node = &cluster.nodes[&plan.to];
            let order = given.memory.get(&address.id).and_then(|memory| memory.order.as_ref());
            // The place belongs to the node, and to nobody else.
            let of_node = node.interfaces.interfaces.iter().find(|of| of.id == plan.slot.interface);
            prop_assert!(of_node.is_some_and(|of| of.private_ips.contains(&plan.slot.private_ip)));
            let before = taken.insert(plan.slot.clone(), address.id.clone());
            prop_assert!(before.is_none_or(|by| by == address.id), "{:?} is displaced", plan.slot);
            let tags = &given.instances.iter().find(|it| it.id == plan.to).unwrap().tags;
            let finding = given.findings.get(&plan.to);
            let member = tags.get("eipwatch:cluster").is_some_and(|names| names.split(' ').any(|name| name == "web"));
            let fit = member
                && node.state == Some(InstanceState::Running)
                && tags.get("eipwatch:mode").is_none_or(|mode| mode == "active")
                && node.zone.as_deref() == Some("eu-west-1a")
                && finding.is_some_and(|it| {
                    it.verdict == Verdict::Healthy && it.leaving.is_none() && !it.impaired && it.probes_passed
                });
            if order.is_some_and(|order| order.force) {
                continue;
            }
            if plan.why == Why::LastResort {
                prop_assert!(!fit || finding.is_some_and(|it| it.unread));
                prop_assert_eq!(node.state, Some(InstanceState::Running));
            } else {
                prop_assert!(fit, "{:?} is no candidate: {:?}", node, finding);
                prop_assert!(ruling.candidates.contains(&plan.to));
            }
            if order.is_none() {
                prop_assert!(!given.manual);
                // What is healthy, active and stays keeps it, unless it goes back.
                let holder = plan.from.as_ref().and_then(|id| given.findings.get(id));
                let well = holder.is_some_and(|it| it.verdict == Verdict::Healthy && it.leaving.is_none());
                let drained = plan.from.as_ref().is_some_and(|id| {
                    cluster.nodes[id].mode == eipwatch::core::tags::NodeMode::Drain
                });
                prop_assert!(!well || drained || plan.why == Why::Failback, "{:?}", ruling);
            }
        }
    }
}

/// Something to answer a question with, fitting or not.
fn seen() -> impl Strategy<Value = Seen> {
    let status = (0..NODES, any::<bool>()).prop_map(|(number, bad)| InstanceStatus {
        id: node_id(number),
        system: if bad { StatusCheck::Impaired } else { StatusCheck::Ok },
        instance: StatusCheck::Ok,
        ebs: StatusCheck::Silent,
        application: StatusCheck::Silent,
        scheduled: Vec::new(),
    });
    prop_oneof![
        given().prop_map(|given| Seen::Addresses(given.addresses)),
        given().prop_map(|given| Seen::Instances(given.instances)),
        vec(status, 0..NODES).prop_map(Seen::Status),
        given()
            .prop_map(|given| { Seen::InstanceTags(given.instances.into_iter().map(|it| (it.id, it.tags)).collect()) }),
        Just(Seen::Interfaces(Vec::new())),
        Just(Seen::Alarms(Vec::new())),
    ]
}

/// A code of AWS, or none of it.
fn error() -> impl Strategy<Value = CloudError> {
    let code = select(vec![
        "RequestLimitExceeded",
        "InternalError",
        "UnauthorizedOperation",
        "IncorrectInstanceState",
        "InvalidAllocationID.NotFound",
        "InvalidParameterValue",
        "Timeout",
    ]);
    (code, any::<bool>()).prop_map(|(code, server)| CloudError::from_code(code, "made up", server))
}

#[derive(Clone, Debug)]
enum Fed {
    /// The oldest question still open is answered well.
    Well(Seen),
    /// It is answered with this, whatever it was.
    Any(Result<Seen, CloudError>),
    /// Some question is answered twice, or one that was never asked.
    Stray(u64, Result<Seen, CloudError>),
    Probed(bool),
    Acted(Result<(), CloudError>),
    StrayActed(u64),
    Stop,
    /// Time passes; it may stand still.
    Later(u64),
}

fn fed() -> impl Strategy<Value = Fed> {
    let answer = || prop_oneof![3 => seen().prop_map(Ok), 1 => error().prop_map(Err)];
    prop_oneof![
        6 => seen().prop_map(Fed::Well),
        2 => answer().prop_map(Fed::Any),
        1 => (0..50u64, answer()).prop_map(|(id, answer)| Fed::Stray(id, answer)),
        6 => any::<bool>().prop_map(Fed::Probed),
        3 => prop_oneof![2 => Just(Ok(())), 1 => error().prop_map(Err)].prop_map(Fed::Acted),
        1 => (0..50u64).prop_map(Fed::StrayActed),
        1 => Just(Fed::Stop),
        6 => (0..2_000u64).prop_map(Fed::Later),
    ]
}

fn payload() -> impl Strategy<Value = serde_json::Value> {
    let id = node_id(0).to_string();
    select(vec![
        serde_json::json!({"shard": "0/1"}),
        serde_json::json!({"action": "sweep"}),
        serde_json::json!({"action": "sweep", "dry_run": true}),
        serde_json::json!({"action": "status"}),
        serde_json::json!({"action": "move", "to": id, "force": true}),
        serde_json::json!({"action": "move"}),
        serde_json::json!({"action": "drain", "node": id}),
        serde_json::json!({"action": "undrain", "node": id}),
        serde_json::json!({"action": "pause", "for": "2h"}),
        eipwatch::sim::world::spot_event(&id, 0),
    ])
}

/// Whether an answer is of the kind that was asked for.
fn fits(look: &Look, seen: &Seen) -> bool {
    matches!(
        (look, seen),
        (Look::Addresses, Seen::Addresses(_))
            | (Look::Instances(_) | Look::InstancesById(_), Seen::Instances(_))
            | (Look::Status(_), Seen::Status(_))
            | (Look::InstanceTags(_), Seen::InstanceTags(_))
            | (Look::Interfaces(_), Seen::Interfaces(_))
            | (Look::Alarms(_), Seen::Alarms(_))
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// It neither panics nor asks without end, ends by its deadline, and the same inputs have the same effects.
    #[test]
    fn whatever_a_watch_is_fed_it_ends_and_moves_nothing_that_it_has_not_read(
        payload in payload(), inputs in vec(fed(), 0..MAX_INPUTS), watch_ms in select(vec![0, 20_000u64]),
    ) {
        let Ok(event::Request::Run(triggers)) = event::parse(&payload) else { unreachable!() };
        let deadline = now() + Duration::from_secs(60);
        let settings = Settings { watch: Duration::from_millis(watch_ms), ..Settings::default() };
        let mut watch = Watch::new(triggers, settings, now(), deadline);
        let mut at = now();
        let mut looks: Vec<(u64, Look)> = Vec::new();
        let (mut probes, mut acts): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut read: BTreeSet<AllocationId> = BTreeSet::new();
        for fed in inputs {
            let mut twin = watch.clone();
            let input = match fed {
                Fed::Well(seen) => looks.iter().position(|(_, look)| fits(look, &seen)).map(|open| {
                    if let Seen::Addresses(all) = &seen {
                        read.extend(all.iter().map(|address| address.id.clone()));
                    }
                    Input::Looked(looks.remove(open).0, Ok(seen))
                }),
                Fed::Any(answer) => {
                    if let Ok(Seen::Addresses(all)) = &answer {
                        read.extend(all.iter().map(|address| address.id.clone()));
                    }
                    if looks.is_empty() { None } else { Some(Input::Looked(looks.remove(0).0, answer)) }
                }
                Fed::Stray(id, answer) if !looks.iter().any(|(of, _)| *of == id) => Some(Input::Looked(id, answer)),
                Fed::Probed(ok) if !probes.is_empty() => {
                    Some(Input::Probed(probes.remove(0), if ok { Answer::Status(200) } else { Answer::Refused }))
                }
                Fed::Acted(result) if !acts.is_empty() => Some(Input::Acted(acts.remove(0), result)),
                Fed::StrayActed(id) if !acts.contains(&id) => Some(Input::Acted(id, Ok(()))),
                Fed::Stop => Some(Input::Stop),
                Fed::Later(ms) => {
                    at += Duration::from_millis(ms);
                    None
                }
                _ => None,
            };
            if let Some(input) = input {
                watch.feed(input.clone(), at);
                twin.feed(input, at);
            }
            let effects = watch.poll(at);
            prop_assert_eq!(twin.poll(at), effects.clone());
            prop_assert_eq!(twin.next_wake(), watch.next_wake());
            for effect in effects {
                match effect {
                    Effect::Look(id, look) => looks.push((id, look)),
                    Effect::Probe(id, _) => probes.push(id),
                    Effect::Act(id, act) => {
                        if let Act::Associate { address, .. } = &act {
                            prop_assert!(read.contains(address), "{:?}", act);
                        }
                        acts.push(id);
                    }
                    Effect::Log(_) => {}
                }
            }
        }
        watch.poll(deadline);
        prop_assert!(matches!(watch.ending(), Some(Ending::Report(_) | Ending::BadRequest(_))));
        prop_assert_eq!(watch.next_wake(), None);
    }
}
