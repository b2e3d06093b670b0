use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::core::model::{CloudError, Failure, Instance, Interface, Tags};
use crate::core::policy::Policy;
use crate::core::snapshot::{ClusterAddress, Holder};
use crate::core::tags::{Leaving, State};
use crate::core::verdict::Evidence;

fn state(holder: &str, since: u64) -> State {
    let from = Some("i-1".into());
    State { holder: holder.into(), since: Time::from_millis(since), from, why: "failback".to_owned(), moves: vec![] }
}

#[test]
fn a_move_settles_for_thirty_seconds() {
    let shown = Holder::Node("i-1".into());
    let state = state("i-2", 1_000);
    for (now, stale) in [(1_000, true), (30_999, true), (31_000, false)] {
        assert_eq!(is_stale(&shown, Some(&state), Time::from_millis(now)), stale, "{now}");
    }
}

#[test]
fn a_tag_of_the_same_second_is_an_earlier_one_only_if_it_was_known() {
    let mut memory = AddressMemory::default();
    memory.made(State { from: Some("i-9".into()), ..state("i-2", 7_300) }, Some(&state("i-3", 7_000)));
    for (tag, known) in [
        (state("i-3", 7_000), true),
        (state("i-4", 7_000), false),
        (State { from: Some("i-4".into()), ..state("i-3", 7_000) }, false),
        (state("i-3", 8_000), false),
    ] {
        assert_eq!(memory.is_earlier(&tag), known, "{tag:?}");
    }
}

#[test]
fn the_newest_of_memory_and_tag_is_remembered() {
    let address = |tag: Option<State>| ClusterAddress {
        id: "eipalloc-1".into(),
        public_ip: std::net::Ipv4Addr::UNSPECIFIED,
        border_group: None,
        mode: AddressMode::Auto,
        prefer: None,
        holder: Holder::Nobody,
        state: tag,
    };
    let holder = |memory: Option<&AddressMemory>, tag: Option<State>| {
        remembered(&address(tag), memory).map(|state| state.holder.to_string())
    };
    let made = |states: &[(&str, u64)], shown: Option<State>| {
        let mut memory = AddressMemory::default();
        for (holder, since) in states {
            memory.made(state(holder, *since), shown.as_ref());
        }
        Some(memory)
    };
    let second = |holder: &str| Some(state(holder, 5_000));
    for (why, memory, tag, newest) in [
        ("nothing is known", None, None, None),
        ("only the tag", None, second("i-2"), Some("i-2")),
        ("the tag is not there yet", made(&[("i-2", 5_300)], None), None, Some("i-2")),
        ("the tag is of an earlier second", made(&[("i-2", 6_300)], None), second("i-3"), Some("i-2")),
        ("the tag is of a later second", made(&[("i-2", 4_999)], None), second("i-3"), Some("i-3")),
        ("another of the same second came later", made(&[("i-2", 5_300)], None), second("i-3"), Some("i-3")),
        ("another of the same second was there", made(&[("i-2", 5_300)], second("i-3")), second("i-3"), Some("i-2")),
        ("the own one of before", made(&[("i-3", 5_300), ("i-2", 5_800)], None), second("i-3"), Some("i-2")),
        (
            "the own one of before, an age ago",
            made(&[("i-3", 1_000), ("i-2", 5_800)], None),
            second("i-3"),
            Some("i-3"),
        ),
    ] {
        assert_eq!(holder(memory.as_ref(), tag), newest.map(str::to_owned), "{why}");
    }
}

#[test]
fn of_two_of_the_same_moment_the_own_one_counts() {
    let mut memory = AddressMemory::default();
    memory.made(state("i-2", 5_000), None);
    let mut scene = Scene::new();
    scene.address().state = Some(State { why: EXTERNAL.to_owned(), ..state("i-2", 5_000) });
    let remembered = remembered(scene.address(), Some(&memory));
    assert_eq!(remembered.map(|state| state.why.as_str()), Some("failback"));
}

#[test]
fn a_move_that_a_hand_made_at_the_same_time_is_the_hands() {
    let mut memory = AddressMemory::default();
    memory.made(state("i-2", 40_000), None);
    let by_hand = State { why: "manual".to_owned(), ..state("i-2", 38_000) };
    let elsewhere = State { holder: "i-3".into(), ..by_hand.clone() };
    let from_elsewhere = State { from: Some("i-9".into()), ..by_hand.clone() };
    let long_before = State { since: Time::from_millis(10_000), ..by_hand.clone() };
    for (tag, why) in [
        (by_hand, "manual"),
        (state("i-2", 38_000), "failback"),
        (elsewhere, "failback"),
        (from_elsewhere, "failback"),
        (long_before, "failback"),
    ] {
        let mut scene = Scene::new();
        scene.address().state = Some(tag.clone());
        let remembered = remembered(scene.address(), Some(&memory));
        assert_eq!(remembered.map(|state| state.why.as_str()), Some(why), "{tag}");
    }
    // One that was known before is none of the same time.
    let mut knew = AddressMemory::default();
    let by_hand = State { why: "manual".to_owned(), ..state("i-2", 38_000) };
    knew.made(state("i-2", 40_000), Some(&by_hand));
    let mut scene = Scene::new();
    scene.address().state = Some(by_hand);
    assert_eq!(remembered(scene.address(), Some(&knew)).map(|state| state.why.as_str()), Some("failback"));
}

#[test]
fn a_time_to_come_is_no_time_of_a_move() {
    let state = state("i-2", 31_000);
    let shown = Holder::Node("i-1".into());
    assert!(!is_stale(&shown, Some(&state), Time::from_millis(1_000)));
    assert!(is_stale(&shown, Some(&state), Time::from_millis(1_001)));
    assert_eq!(last_move(Some(&state), Time::from_millis(1_000)), None);
    assert_eq!(last_move(Some(&state), Time::from_millis(1_001)), Some(state.since));
}

/// The present of a scene.
const NOW_MS: u64 = 1_000_000;

fn ago(seconds: u64) -> Time {
    Time::from_millis(NOW_MS - seconds * 1_000)
}

fn in_s(seconds: u64) -> Time {
    Time::from_millis(NOW_MS + seconds * 1_000)
}

/// A node that runs, of which nothing else is known.
pub(in crate::core) fn running(number: u8) -> Node {
    let ip = Ipv4Addr::new(10, 0, 0, number);
    let id = InstanceId::from(format!("i-{number}"));
    let interface =
        Interface { id: format!("eni-{number}").into(), device_index: 0, card_index: 0, private_ips: vec![ip] };
    let instance = Instance {
        id: id.clone(),
        state: InstanceState::Running,
        launched: None,
        zone: None,
        public_ip: None,
        interfaces: vec![interface],
        tags: Tags::default(),
    };
    Node {
        id: id.clone(),
        name: None,
        zone: None,
        state: Some(InstanceState::Running),
        missing: false,
        shown: true,
        launched: None,
        mode: NodeMode::Active,
        priority: 100,
        checks: Arc::new([]),
        has_own_checks: true,
        interfaces: Arc::new(instance),
        own_address: None,
        probe_ip: Ok(ip),
        health: None,
        heartbeat: None,
        status: None,
        member: true,
        shared: false,
    }
}

/// One address of three nodes, held by `i-1`; all is well and has just been read.
pub(in crate::core) struct Scene {
    pub cluster: Cluster,
    pub findings: BTreeMap<InstanceId, Finding>,
    since: BTreeMap<InstanceId, Since>,
    memory: AddressMemory,
    facts_from: Time,
    readable_from: Time,
    nodes_from: Time,
}

impl Scene {
    pub fn new() -> Scene {
        let address = ClusterAddress {
            id: "eipalloc-1".into(),
            public_ip: Ipv4Addr::new(203, 0, 113, 1),
            border_group: None,
            mode: AddressMode::Auto,
            prefer: None,
            holder: Holder::Node("i-1".into()),
            state: None,
        };
        let mut scene = Scene {
            cluster: Cluster {
                name: "web".into(),
                policy: Policy::default(),
                checks: vec![],
                addresses: vec![address],
                nodes: BTreeMap::new(),
                problems: vec![],
            },
            findings: BTreeMap::new(),
            since: BTreeMap::new(),
            memory: AddressMemory::default(),
            facts_from: ago(0),
            readable_from: ago(0),
            nodes_from: ago(0),
        };
        for number in 1..=3 {
            let node = running(number);
            let id = node.id.clone();
            let finding = Finding {
                verdict: Verdict::Healthy,
                settled: true,
                promising: false,
                probes_passed: true,
                probed_from: None,
                wavering: false,
                impaired: false,
                by_reading: false,
                unread: false,
                leaving: None,
                evidence: vec![],
                stopped: false,
                look_again: None,
                problems: vec![],
            };
            scene.cluster.nodes.insert(id.clone(), node);
            scene.findings.insert(id.clone(), finding);
            scene.since.insert(id, Since { verdict: ago(300), steady: ago(300) });
        }
        scene
    }

    fn address(&mut self) -> &mut ClusterAddress {
        &mut self.cluster.addresses[0]
    }

    fn node(&mut self, id: &str) -> &mut Node {
        self.cluster.nodes.get_mut(&InstanceId::from(id)).unwrap()
    }

    fn finding(&mut self, id: &str) -> &mut Finding {
        self.findings.get_mut(&InstanceId::from(id)).unwrap()
    }

    fn fails(&mut self, id: &str) {
        let finding = self.finding(id);
        (finding.verdict, finding.probes_passed) = (Verdict::Unhealthy, false);
        finding.evidence = vec![Evidence { check: "tcp:80".to_owned(), ok: Some(false), text: "refused".to_owned() }];
    }

    fn stops(&mut self, id: &str) {
        self.finding(id).verdict = Verdict::Gone;
        self.node(id).state = Some(InstanceState::Stopping);
    }

    /// It came to `i-1` from `i-2` at that time, on record with `why` and the times of counted moves.
    fn came(&mut self, at: Time, why: &str, moves: &[Time]) {
        self.address().state = Some(State {
            holder: "i-1".into(),
            since: at,
            from: Some("i-2".into()),
            why: why.to_owned(),
            moves: moves.to_vec(),
        });
    }

    fn rule_while(&self, unreadable: Option<&CloudError>) -> Ruling {
        self.rule_all_while(unreadable).remove(0)
    }

    fn rule_all_while(&self, unreadable: Option<&CloudError>) -> Vec<Ruling> {
        let occupied = BTreeMap::new();
        let memory = BTreeMap::from([(AllocationId::from("eipalloc-1"), self.memory.clone())]);
        let question = Question {
            cluster: &self.cluster,
            findings: &self.findings,
            since: &self.since,
            memory: &memory,
            taken: &Taken::new(&occupied, None),
            facts_from: self.facts_from,
            readable_from: self.readable_from,
            nodes_from: self.nodes_from,
            unreadable,
            manual: false,
            now: ago(0),
        };
        decide(question)
    }

    pub fn rule(&self) -> Ruling {
        self.rule_while(None)
    }

    /// Where it goes, or stays, and why.
    fn verdict(&self) -> (Option<String>, Why) {
        let ruling = self.rule();
        (ruling.plan.map(|plan| plan.to.to_string()), ruling.decision.why)
    }

    /// Why it waits, until when at most, and from when on nodes must have been read.
    fn waits(&self) -> Option<(Why, Option<Time>, Option<Time>)> {
        let ruling = self.rule();
        assert_eq!(ruling.plan, None, "{ruling:?}");
        ruling.pending.then_some((ruling.decision.why, ruling.again_at, ruling.reading_wanted))
    }
}

fn to(id: &str, why: Why) -> (Option<String>, Why) {
    (Some(id.to_owned()), why)
}

fn stays(why: Why) -> (Option<String>, Why) {
    (None, why)
}

#[test]
fn where_aws_does_not_allow_one_node_another_is_waited_for() {
    let mut scene = Scene::new();
    scene.stops("i-1");
    scene.memory.forbid("i-2".into(), "UnauthorizedOperation".to_owned());
    assert_eq!(scene.verdict(), to("i-3", Why::HolderGone));
    let finding = scene.finding("i-3");
    (finding.verdict, finding.settled, finding.promising) = (Verdict::Unknown, false, true);
    assert_eq!(scene.waits(), Some((Why::NoCandidate, Some(in_s(5)), None)));
}

#[test]
fn a_mode_is_looked_at_when_it_ends() {
    let mut scene = Scene::new();
    scene.address().mode = AddressMode::Manual { until: Some(in_s(1)) };
    assert_eq!((scene.verdict(), scene.rule().again_at), (stays(Why::ManualMode), Some(in_s(1))));
    scene.address().mode = AddressMode::Manual { until: Some(in_s(0)) };
    assert_eq!((scene.verdict(), scene.rule().again_at), (stays(Why::Healthy), None));
}

#[test]
fn an_interface_of_which_nothing_is_told_is_waited_for_ten_seconds() {
    let mut scene = Scene::new();
    scene.address().holder = Holder::Unclear("eni-9".into());
    scene.memory.unclear_since = Some(("eni-9".into(), ago(9)));
    assert_eq!(scene.waits(), Some((Why::Outsider, Some(in_s(1)), None)));
    scene.memory.order = Some(Order { to: None, force: false });
    assert_eq!(scene.waits(), Some((Why::Outsider, Some(in_s(1)), None)));
    scene.memory.unclear_since = Some(("eni-9".into(), ago(10)));
    assert_eq!((scene.waits(), scene.verdict()), (None, stays(Why::Refused)));
    scene.memory.order = None;
    assert_eq!((scene.waits(), scene.verdict()), (None, stays(Why::Outsider)));
}

#[test]
fn who_was_read_as_gone_before_the_address_came_is_read_once_more() {
    let mut scene = Scene::new();
    scene.stops("i-1");
    scene.came(ago(4), "manual", &[]);
    // Times in tags are whole seconds: it came by 3 s ago.
    (scene.nodes_from, scene.facts_from) = (ago(4), ago(4));
    assert_eq!(scene.waits(), Some((Why::Settling, Some(in_s(2)), Some(ago(3)))));
    scene.nodes_from = ago(3);
    assert_eq!(scene.verdict(), to("i-2", Why::HolderGone), "read since");
    scene.nodes_from = ago(4);
    scene.memory.rescue_since = Some(ago(4));
    assert_eq!(scene.waits(), Some((Why::Settling, Some(in_s(1)), Some(ago(3)))));
    scene.memory.rescue_since = Some(ago(5));
    assert_eq!(scene.verdict(), to("i-2", Why::HolderGone), "long enough");
}

#[test]
fn what_was_read_of_a_holder_before_the_move_is_read_once_more() {
    let mut scene = Scene::new();
    scene.finding("i-1").leaving = Some(Leaving { kind: "spot".to_owned(), until: None, noticed: ago(60) });
    scene.came(ago(11), "manual", &[]);
    scene.facts_from = ago(11);
    assert_eq!(scene.waits(), Some((Why::Settling, Some(in_s(20)), Some(ago(10)))));
    scene.facts_from = ago(10);
    assert_eq!(scene.verdict(), to("i-2", Why::HolderLeaving));
}

#[test]
fn a_drain_waits_for_nodes_that_were_read_lately() {
    let mut scene = Scene::new();
    scene.node("i-1").mode = NodeMode::Drain;
    scene.nodes_from = ago(12);
    assert_eq!(scene.verdict(), to("i-2", Why::HolderDraining));
    scene.nodes_from = ago(13);
    assert_eq!(scene.waits(), Some((Why::Healthy, None, Some(ago(12)))));
}

#[test]
fn where_the_address_itself_is_probed_old_traffic_is_waited_for() {
    let mut scene = Scene::new();
    scene.cluster.policy.via = Via::Public;
    scene.fails("i-1");
    scene.came(ago(10), "holder-gone", &[]);
    assert_eq!(scene.waits(), Some((Why::Settling, Some(in_s(1)), None)));
    scene.came(ago(11), "holder-gone", &[]);
    assert_eq!(scene.verdict(), to("i-2", Why::HolderUnhealthy));
    // What EC2 tells of it is of the node, and so is what passes.
    scene.came(ago(1), "holder-gone", &[]);
    scene.finding("i-1").by_reading = true;
    assert_eq!(scene.verdict(), to("i-2", Why::HolderUnhealthy));
    let finding = scene.finding("i-1");
    (finding.verdict, finding.probes_passed, finding.by_reading) = (Verdict::Healthy, true, false);
    assert_eq!(scene.verdict(), stays(Why::Healthy));
}

#[test]
fn an_old_answer_is_waited_out_where_it_would_go_back() {
    let mut scene = Scene::new();
    // EC2 still shows i-1.
    let moved = State { holder: "i-2".into(), since: ago(10), from: Some("i-1".into()), ..state("i-2", 0) };
    scene.address().state = Some(moved);
    assert_eq!((scene.verdict(), scene.rule().again_at), (stays(Why::Settling), Some(in_s(20))));
    scene.fails("i-2");
    scene.address().prefer = Some("i-1".into());
    assert_eq!(scene.waits(), Some((Why::Settling, Some(in_s(20)), None)));
    // i-1 holds no more than i-3: another watch, which may have moved it there meanwhile, chose alike.
    scene.address().prefer = None;
    assert_eq!(scene.waits(), Some((Why::Settling, Some(in_s(20)), None)));
    scene.fails("i-1");
    assert_eq!(scene.verdict(), to("i-3", Why::HolderUnhealthy));
    scene.fails("i-3");
    scene.stops("i-2");
    assert_eq!(scene.waits(), Some((Why::Settling, Some(in_s(20)), None)));
    scene.memory.order = Some(Order { to: Some("i-3".into()), force: false });
    assert_eq!(scene.waits(), Some((Why::Settling, Some(in_s(20)), None)));
}

#[test]
fn what_may_have_gone_back_already_counts_where_it_went() {
    let mut scene = Scene::new();
    let moved = |from: &str| State { since: ago(10), from: Some(from.into()), ..state("i-2", 0) };
    // By what may be old answers both are where i-2 has them from. Another watch would send the first to i-1, and the second to i-3.
    scene.address().state = Some(moved("i-1"));
    let mut second = ClusterAddress { id: "eipalloc-2".into(), ..scene.address().clone() };
    (second.holder, second.state) = (Holder::Node("i-3".into()), Some(moved("i-3")));
    scene.cluster.addresses.push(second);
    scene.fails("i-2");
    let rulings = scene.rule_all_while(None);
    let waits = |ruling: &Ruling| ruling.pending && ruling.plan.is_none() && ruling.decision.why == Why::Settling;
    assert!(rulings.len() == 2 && rulings.iter().all(waits), "{rulings:?}");
}

/// The holder fails, and has it from the best candidate since two seconds ago.
fn came_from_the_best_candidate(why: &str) -> Scene {
    let mut scene = Scene::new();
    scene.fails("i-1");
    scene.came(ago(2), why, &[]);
    scene
}

#[test]
fn what_has_just_left_a_node_goes_back_when_that_has_been_seen_since() {
    let back = (Some("i-2".to_owned()), Why::HolderUnhealthy);
    // Times of moves are whole seconds, so that the move was over a second ago at the latest.
    for (seen_ago, probed_ago, waits) in
        [(1, None, false), (2, None, true), (1, Some(1), false), (1, Some(2), true), (2, Some(1), true)]
    {
        let mut scene = came_from_the_best_candidate("last-resort");
        scene.readable_from = ago(seen_ago);
        scene.finding("i-2").probed_from = probed_ago.map(ago);
        let expected = if waits { (None, Why::Settling) } else { back.clone() };
        assert_eq!(scene.verdict(), expected, "{seen_ago} {probed_ago:?}");
        if waits {
            assert_eq!(scene.waits(), Some((Why::Settling, Some(ago(0) + SEEN_SINCE_EVERY), Some(ago(1)))));
        }
    }
    // Moved in this very second, or in the last one.
    for came in [0, 1] {
        let mut scene = came_from_the_best_candidate("last-resort");
        scene.came(ago(came), "last-resort", &[]);
        scene.readable_from = ago(10);
        assert_eq!(scene.verdict(), (None, Why::Settling), "{came}");
    }
    // Its next probe would come too late.
    let mut scene = came_from_the_best_candidate("last-resort");
    scene.finding("i-2").probed_from = Some(ago(10));
    scene.cluster.policy.interval = READ_AFTER_WAIT;
    assert_eq!(scene.verdict(), back);
    // A time to come would be waited for too long.
    scene.readable_from = ago(10);
    scene.came(ago(0) + Duration::from_secs(5), "last-resort", &[]);
    assert_eq!(scene.verdict(), back);
    // Whoever left it did so for no fault of it, or a while ago.
    for (came, why) in [(2, "manual"), (2, "failback"), (4, "last-resort")] {
        let mut scene = came_from_the_best_candidate(why);
        scene.came(ago(came), why, &[]);
        scene.readable_from = ago(10);
        assert_eq!(scene.verdict(), back, "{why} {came} s ago");
    }
    // It went to another, or from another; and nobody has put it on record yet.
    let mut scene = came_from_the_best_candidate("last-resort");
    scene.readable_from = ago(10);
    scene.address().state.as_mut().unwrap().from = Some("i-3".into());
    assert_eq!(scene.verdict(), back);
    scene.address().state.as_mut().unwrap().holder = "i-2".into();
    assert_eq!(scene.verdict(), (None, Why::Settling));
    // Nor has anybody ever put anything on record, but this watch has seen it leave.
    for (first, expected) in [("i-2", (None, Why::Settling)), ("i-3", back)] {
        let mut scene = came_from_the_best_candidate("last-resort");
        scene.readable_from = ago(10);
        scene.address().state = None;
        scene.memory.first_holder = Some(first.into());
        scene.memory.unrecorded = Some(("i-1".into(), ago(1)));
        assert_eq!(scene.verdict(), expected, "{first}");
    }
}

/// The holder fails, and the brake is on: three moves in ten minutes.
fn braked() -> Scene {
    let mut scene = Scene::new();
    scene.fails("i-1");
    scene.came(ago(100), "holder-unhealthy", &[ago(300), ago(200), ago(100)]);
    scene
}

#[test]
fn what_the_brake_held_back_goes_when_nodes_have_been_read_once_more() {
    let mut scene = braked();
    let steady = |scene: &mut Scene, at| {
        scene.since.insert("i-1".into(), Since { verdict: at, steady: at });
    };
    steady(&mut scene, ago(59));
    assert_eq!((scene.verdict(), scene.rule().again_at), (stays(Why::MaxMoves), Some(in_s(1))));
    steady(&mut scene, ago(62));
    scene.readable_from = ago(3);
    assert_eq!(scene.waits(), Some((Why::MaxMoves, Some(in_s(1)), Some(ago(2)))));
    scene.readable_from = ago(2);
    assert_eq!(scene.verdict(), to("i-2", Why::HolderUnhealthy), "read when it may");
    steady(&mut scene, ago(63));
    scene.readable_from = ago(4);
    assert_eq!(scene.verdict(), to("i-2", Why::HolderUnhealthy), "waited for long enough");
    // Who has waited for nothing waits for no reading.
    scene.cluster.policy.stable = Duration::ZERO;
    steady(&mut scene, ago(1));
    assert_eq!(scene.verdict(), to("i-2", Why::HolderUnhealthy), "nothing was waited for");
}

#[test]
fn the_brake_counts_what_is_within_the_window() {
    let mut scene = braked();
    scene.since.insert("i-1".into(), Since { verdict: ago(1), steady: ago(1) });
    scene.cluster.policy.max_moves = 1;
    scene.came(ago(100), "holder-unhealthy", &[ago(600), ago(100)]);
    let text = scene.rule().decision.text;
    assert!(text.contains("has moved once within 10m"), "{text}");
    // A time to come was not written by us.
    scene.came(ago(100), "holder-unhealthy", &[in_s(30)]);
    assert_eq!(scene.verdict(), to("i-2", Why::HolderUnhealthy));
    scene.came(ago(100), "holder-unhealthy", &[in_s(29)]);
    assert_eq!(scene.verdict(), stays(Why::MaxMoves));
}

#[test]
fn a_failback_goes_by_what_was_read_since_it_was_due() {
    let mut scene = Scene::new();
    scene.cluster.policy.failback = true;
    scene.address().prefer = Some("i-2".into());
    scene.came(ago(300), "holder-gone", &[]);
    scene.since.insert("i-2".into(), Since { verdict: ago(59), steady: ago(59) });
    assert_eq!((scene.verdict(), scene.rule().again_at), (stays(Why::Healthy), Some(in_s(1))));
    scene.since.insert("i-2".into(), Since { verdict: ago(62), steady: ago(62) });
    scene.readable_from = ago(3);
    assert_eq!(scene.waits(), Some((Why::Healthy, Some(in_s(1)), Some(ago(2)))));
    scene.readable_from = ago(2);
    assert_eq!(scene.verdict(), to("i-2", Why::Failback), "read when it was due");
    scene.since.insert("i-2".into(), Since { verdict: ago(63), steady: ago(63) });
    scene.readable_from = ago(4);
    assert_eq!(scene.verdict(), to("i-2", Why::Failback), "waited for long enough");
    scene.nodes_from = ago(13);
    assert_eq!((scene.verdict(), scene.rule().reading_wanted), (stays(Why::Healthy), Some(ago(12))));
}

#[test]
fn an_interface_that_may_not_be_read_is_left_alone_with_its_reason() {
    let mut scene = Scene::new();
    scene.address().holder = Holder::Unclear("eni-9".into());
    let denied =
        CloudError { failure: Failure::NotPermitted, code: "UnauthorizedOperation".to_owned(), message: String::new() };
    let ruling = scene.rule_while(Some(&denied));
    assert!(!ruling.pending && ruling.decision.text.contains("UnauthorizedOperation"), "{ruling:?}");
}
