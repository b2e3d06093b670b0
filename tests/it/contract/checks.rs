//! Every check, and what it makes of holders and candidates.

use eipwatch::core::log::Record;
use eipwatch::core::tags::Verdict;
use eipwatch::embedded::ec2::{Alarm, AlarmState, Api, Check, CheckKind, InstanceSpec, tags};
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::sim::world::{Behaviour, SERVES, spot_event};

use super::{A, B, C, Scene};

/// `ec2`: running passes, and it is the check where none is named.
#[test]
fn ec2_alone_is_the_default() {
    let mut scene = Scene::new(1, 2);
    let ip = scene.address(0);
    scene.untag(&ip, "check");
    scene.refuse(A);
    scene.refuse(B);
    scene.expect("stay healthy", &["tag health A", "tag health B"], "A");
    assert_eq!(scene.probes, 0);
    scene.stop_node(A);
    scene.expect("move holder-gone to B", &["associate B", "tag health A", "tag state 0"], "B");
}

/// `ec2`: every impaired status rules a node out as a candidate; the words that tell nothing rule out nobody.
#[test]
fn ec2_impaired_rules_out_a_candidate() {
    for kind in [CheckKind::System, CheckKind::Instance, CheckKind::Ebs, CheckKind::Application] {
        let mut scene = Scene::pair();
        scene.status(B, kind, Check::Impaired);
        scene.refuse(A);
        let told = scene.sweep();
        assert_eq!(
            (scene.says(&told, 0), scene.holder(0)),
            ("stay no-candidate".to_owned(), "A".to_owned()),
            "{kind:?}"
        );
        for silent in [Check::Initializing, Check::InsufficientData, Check::NotApplicable, Check::Suppressed] {
            scene.status(B, kind, silent);
            let told = scene.sweep();
            assert_eq!(scene.holder(0), "B", "{kind:?} {silent:?}: {}", told.text());
            scene = Scene::pair();
            scene.refuse(A);
        }
    }
}

/// `ec2`: an impaired holder is left only if no other check of it passes.
#[test]
fn ec2_impaired_fails_a_holder_only_if_no_other_check_passes() {
    let mut scene = Scene::pair();
    scene.status(A, CheckKind::System, Check::Impaired);
    scene.expect("stay healthy", &[], "A");
    scene.refuse(A);
    scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    scene.status(A, CheckKind::Instance, Check::Impaired);
    let told = scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    assert!(told.evidence(A, "ec2").1.contains("instance"), "{:?}", told.evidence(A, "ec2"));
}

/// `gone`: every state that is stopping or stopped, and `unknown` for a node that is missing from the answer.
#[test]
fn ec2_missing_from_an_answer_is_unknown_not_gone() {
    let mut scene = Scene::pair();
    let a = scene.node(A);
    scene
        .ec2
        .faults_mut()
        .push(Rule::new(Fault::Omit(a.clone())).on(Api::DescribeInstances).on(Api::DescribeInstanceStatus));
    let told = scene.watch(20);
    assert_eq!(scene.holder(0), "A", "{}", told.text());
    assert!(scene.says(&told, 0).starts_with("stay"), "{}", scene.says(&told, 0));
    assert!(!told.calls.iter().any(|call| call.starts_with("associate")), "{:?}", told.calls);
}

/// Probes: fall and rise count per check, and all checks must pass.
#[test]
fn probes_all_must_pass() {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "check", "tcp:9000 http:8080/health https:8443/");
    for n in [A, B] {
        let id = scene.node(n);
        scene.service_on(&id, 9_000, SERVES);
        scene.service_on(&id, 8_443, SERVES);
    }
    scene.season();
    let a = scene.node(A);
    scene.service_on(&a, 8_443, Behaviour::Refuse);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
    assert_eq!(told.evidence(A, "https:8443").0, Some(false));
    assert_eq!(told.evidence(A, "tcp:9000").0, Some(true));
}

/// Probes: a status outside `expect` fails, one within passes; a redirect is a status like another.
#[test]
fn probes_pass_on_the_expected_status_alone() {
    for (policy, code, holder) in [
        ("", 200, "A"),
        ("", 302, "A"),
        ("", 399, "A"),
        ("", 404, "B"),
        ("", 503, "B"),
        ("expect=200", 204, "B"),
        ("expect=200-499", 404, "A"),
    ] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", policy);
        let b_code = if policy.is_empty() { 204 } else { 200 };
        scene.service(B, Behaviour::Status(b_code));
        scene.service(A, Behaviour::Status(code));
        let told = scene.sweep();
        assert_eq!(scene.holder(0), holder, "{policy} {code}: {}", told.text());
    }
}

/// Probes: `fall` failures in a row, not fewer; `rise` passes in a row make healthy again.
#[test]
fn probes_fall_and_rise_as_the_policy_says() {
    for fall in [1, 2, 5] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", &format!("fall={fall} fast=1s interval=1s"));
        scene.refuse(A);
        let told = scene.sweep();
        let moved_ms = scene.moved_after_ms(&told);
        assert_eq!(moved_ms, (fall - 1) * 1_000, "fall={fall}: the other has passed at once");
    }
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "policy", "rise=4 fast=1s");
    let told = scene.sweep();
    assert_eq!(told.took_ms(), 3_000, "four passes of nodes that nothing is remembered of");
}

/// Probes: one that flaps settles as what it is after 2 × (fall + rise) probes; the sweep ends.
#[test]
fn probes_of_a_node_that_flaps_settle() {
    let mut scene = Scene::pair();
    scene.service(B, Behaviour::Flap { up_ms: 500, down_ms: 500 });
    let told = scene.sweep();
    assert!(told.took_ms() <= 12_000, "{} ms", told.took_ms());
    assert_eq!(scene.holder(0), "A");
}

/// `via=public`: a node is asked at its public address, the holder at the Elastic IP.
#[test]
fn via_public_asks_the_public_addresses() {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "policy", "via=public");
    scene.season();
    let told = scene.sweep();
    assert_eq!(told.evidence(A, "http").0, Some(true));
    assert_eq!(told.evidence(B, "http").0, Some(true));
    assert!(told.cluster().ready);
    scene.refuse(A);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
}

/// `via=public`: without a public address a node is `unknown`, and a problem says so.
#[test]
fn via_public_without_a_public_address_is_unknown_and_a_problem() {
    let mut scene = Scene { world: eipwatch::sim::world::World::new(1) };
    scene.add_node();
    let spec = eipwatch::embedded::ec2::InstanceSpec {
        auto_assign: false,
        tags: eipwatch::embedded::ec2::tags([("eipwatch:cluster", "web")]),
        ..Default::default()
    };
    let b = scene.ec2.add_instance(spec);
    scene.world.nodes.push(b.clone());
    scene.add_address();
    scene.settle();
    scene.tag_address(0, "policy", "via=public");
    let told = scene.sweep();
    assert_eq!(told.node(B).verdict, Verdict::Unknown);
    told.problem("no public address");
    assert!(!told.node(B).candidate);
    // Nor is it what was remembered of it when it could be asked.
    let since = scene.time_in(-600);
    scene.tag_node(B, "health", &format!("verdict=healthy since={since}"));
    let told = scene.sweep();
    assert_eq!(told.node(B).verdict, Verdict::Unknown);
}

/// `via=public`: an Elastic IP that went to another node is not this node's any more, whatever DescribeInstances still shows.
#[test]
fn via_public_never_asks_an_address_that_went_to_another_node() {
    for seed in 0..10 {
        let mut scene = Scene::of_seed(seed, 2);
        scene.tag_address(0, "policy", "via=public");
        scene.season();
        let stale = Fault::Stale { what: Shown::Associations, up_to_ms: 20_000 };
        scene.ec2.faults_mut().push(Rule::new(stale).on(Api::DescribeInstances));
        scene.refuse(A);
        let told = scene.watch(50);
        scene.ends(&told, "move holder-unhealthy to B", "B");
        assert!(!told.node(A).candidate && told.node(A).verdict != Verdict::Healthy, "{seed}: {:?}", told.node(A));
        let healthy = told.calls.iter().filter(|call| call.starts_with("tag health A")).count();
        assert!(!scene.node_tag(A, "health").starts_with("verdict=healthy"), "{seed}: {healthy}");
        assert_eq!(scene.world.moves(&scene.address(0)).len(), 1, "{seed}");
    }
}

/// `via=public`: while traffic still goes to the holder before, nothing is learnt of the new one; what goes on failing is left.
#[test]
fn via_public_waits_until_traffic_follows_a_move() {
    for recovers in [true, false] {
        let mut scene = Scene::seasoned(1, 3);
        scene.tag_address(0, "policy", "via=public");
        scene.pass(1_000);
        scene.refuse(A);
        scene.after(1_500, |scene| scene.refuse(B));
        if recovers {
            scene.after(6_500, |scene| scene.serve(B));
        }
        let told = scene.watch(30);
        let been = scene.been();
        if recovers {
            assert_eq!((been, scene.holder(0)), (vec![Some(B)], "B".to_owned()));
        } else {
            assert_eq!((been, scene.holder(0)), (vec![Some(B), Some(C)], "C".to_owned()));
            let moved_ms = scene.moved_after_ms(&told);
            assert!((11_000..14_000).contains(&moved_ms), "{moved_ms} ms");
        }
    }
}

/// One sweep waits for that, too; and a node that is asked at its private address is left at once.
#[test]
fn a_second_failure_right_after_a_move_is_left_as_soon_as_it_is_certain() {
    for (policy, left_ms) in [("via=public", 11_000..14_000), ("via=private", 2_000..5_000)] {
        let mut scene = Scene::seasoned(1, 3);
        scene.tag_address(0, "policy", policy);
        scene.pass(1_000);
        scene.refuse(A);
        scene.after(1_500, |scene| scene.refuse(B));
        let told = if policy == "via=public" { scene.sweep() } else { scene.watch(10) };
        assert_eq!(scene.been(), [Some(B), Some(C)], "{policy}");
        let moved_ms = scene.moved_after_ms(&told);
        assert!(left_ms.contains(&moved_ms), "{policy}: {moved_ms} ms");
    }
}

/// `via=public`: an old reading aims no probe at an address that the new holder had before the move.
#[test]
fn via_public_asks_the_new_holder_at_the_elastic_ip_whatever_is_read() {
    for seed in 0..10 {
        let mut scene = Scene::of_seed(seed, 3);
        scene.tag_address(0, "policy", "via=public");
        scene.season();
        let stale = Fault::Stale { what: Shown::Associations, up_to_ms: 25_000 };
        let epoch_ms = scene.epoch_ms();
        scene.ec2.faults_mut().push(Rule::new(stale).on(Api::DescribeAddresses).between(epoch_ms + 3_000, u64::MAX));
        scene.refuse(A);
        let told = scene.watch(20);
        // A, asked there, would answer with B's voice; and B nowhere else.
        assert_eq!((told.node(A).verdict, told.node(B).verdict), (Verdict::Unhealthy, Verdict::Healthy), "{seed}");
        scene.watch(30);
        assert_eq!(scene.been(), [Some(B)], "{seed}");
    }
}

/// `heartbeat`: one that advances passes, none yet is `unknown` with a hint.
#[test]
fn heartbeat_none_yet_is_unknown_with_a_hint() {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "check", "heartbeat");
    scene.beat(A, 1, "ok", 0);
    let told = scene.sweep();
    assert_eq!(told.node(B).verdict, Verdict::Unknown);
    assert!(told.evidence(B, "heartbeat").1.contains("eipwatch-agent"), "{:?}", told.evidence(B, "heartbeat"));
    assert!(told.took_ms() <= 1_000, "unknown for want of data is settled: {} ms", told.took_ms());
}

/// `heartbeat`: one that has stopped fails the node if a peer's advanced meanwhile and no probe is configured.
#[test]
fn heartbeat_that_stopped_while_a_peers_advanced_fails() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.agent(A).alive = false;
    let told = scene.watch(55);
    scene.ends(&told, "move holder-unhealthy to B", "B");
    let moved_ms = scene.moved_after_ms(&told);
    assert!((15_000..=30_000).contains(&moved_ms), "deadtime is 20 s: {moved_ms} ms");
}

/// `heartbeat`: all have stopped: the tags are as likely at fault; a problem, and no move.
#[test]
fn heartbeats_that_all_stopped_are_a_problem_and_move_nothing() {
    for dies_after_ms in [0, 7_000] {
        let mut scene = Scene::beating(2, "heartbeat");
        scene.after(dies_after_ms, |scene| {
            scene.agent(A).alive = false;
            scene.agent(B).alive = false;
        });
        let told = scene.watch(55);
        assert_eq!((scene.holder(0).as_str(), told.node(A).verdict), ("A", Verdict::Unknown), "{dies_after_ms} ms");
        told.problem("the tags, not the node, may be at fault");
    }
}

/// A pair whose agents beat every 5 s, one so long after the other.
fn out_of_step(first: usize, then: usize, by_ms: u64) -> Scene {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "check", "heartbeat");
    scene.start_agent(first, 0);
    scene.pass(by_ms);
    scene.start_agent(then, 0);
    scene.season();
    scene
}

/// EC2 takes no heartbeats.
fn refused() -> Rule {
    Rule::error("RequestLimitExceeded").on(Api::CreateTags)
}

/// `heartbeat`: the same where the agents do not beat in step: whoever was the last to beat condemns nobody.
#[test]
fn heartbeats_that_all_stopped_out_of_step_move_nothing() {
    for dies_after_ms in (10_000..15_000).step_by(500) {
        let mut scene = out_of_step(A, B, 3_000);
        // Nodes are read after A has beaten, and before B does.
        scene.pass(3_500);
        scene.after(dies_after_ms, |scene| {
            scene.agent(A).alive = false;
            scene.agent(B).alive = false;
        });
        let told = scene.watch(55);
        assert_eq!(scene.holder(0), "A", "{dies_after_ms} ms: {:?}", told.evidence(A, "heartbeat"));
    }
}

/// `heartbeat`: where EC2 took none for a while, the first that comes again condemns nobody whose turn has not come.
#[test]
fn heartbeats_that_come_again_one_after_another_move_nothing() {
    // A watch sees all of it, or the end, or begins just after it; in the last, EC2 tells nothing meanwhile.
    for (begins_ms, unread) in [(0, false), (20_000, false), (36_000, false), (0, true)] {
        for until_ms in (31_000..41_000).step_by(500) {
            let mut scene = out_of_step(B, A, 2_500);
            let now_ms = scene.epoch_ms();
            scene.ec2.faults_mut().push(refused().between(now_ms + 6_000, now_ms + until_ms));
            if unread {
                let unread = Rule::error("Unavailable").on(Api::DescribeInstances);
                scene.ec2.faults_mut().push(unread.between(now_ms + 6_000, now_ms + until_ms));
            }
            scene.pass(begins_ms);
            let told = scene.watch(75);
            let evidence = told.evidence(A, "heartbeat");
            assert_eq!(scene.been(), Vec::new(), "from {begins_ms} ms until {until_ms} ms, {unread}: {evidence:?}");
        }
    }
    // So it is with short times, with those that come again before all had their turn, and with whoever was the last to beat before them.
    for length_ms in (6_000..24_000).step_by(1_000) {
        for offset_ms in (250..5_000).step_by(500) {
            let mut scene = out_of_step(B, A, offset_ms);
            let from_ms = scene.epoch_ms() + 6_300;
            let until_ms = from_ms + length_ms;
            for (from_ms, until_ms) in [(from_ms, until_ms), (until_ms + 6_000, until_ms + 22_000)] {
                scene.ec2.faults_mut().push(refused().between(from_ms, until_ms));
            }
            let told = scene.watch(75);
            let evidence = told.evidence(A, "heartbeat");
            assert_eq!(scene.been(), Vec::new(), "{length_ms} ms, {offset_ms} ms: {evidence:?}");
        }
    }
}

/// `heartbeat`: and who does not come again is left.
#[test]
fn a_heartbeat_that_does_not_come_again_fails() {
    let mut scene = out_of_step(B, A, 2_500);
    let now_ms = scene.epoch_ms();
    scene.ec2.faults_mut().push(refused().between(now_ms + 6_000, now_ms + 35_000));
    scene.after(6_000, |scene| scene.agent(A).alive = false);
    let told = scene.watch(75);
    scene.ends(&told, "move holder-unhealthy to B", "B");
    let moved_ms = scene.moved_after_ms(&told);
    assert!((50_000..=65_000).contains(&moved_ms), "{moved_ms} ms");
}

/// `heartbeat`: one that is taken as stopped stays so when a peer loses one of its own.
#[test]
fn a_stopped_heartbeat_is_not_doubted_when_a_peer_loses_one() {
    let mut scene = out_of_step(B, A, 2_500);
    scene.tag_address(0, "mode", "manual");
    scene.agent(A).alive = false;
    let now_ms = scene.epoch_ms();
    scene.ec2.faults_mut().push(refused().between(now_ms + 40_000, now_ms + 46_000));
    let told = scene.watch(75);
    assert_eq!(told.node(A).verdict, Verdict::Unhealthy);
    assert_eq!(told.calls.iter().filter(|call| *call == "tag health A").count(), 1, "{:?}", told.calls);
    let a = scene.node(A);
    let verdict = |record: &Record| match record {
        Record::Verdict { node, to, .. } if node.as_str() == &*a => Some(*to),
        _ => None,
    };
    let verdicts: Vec<Verdict> = scene.world.log(told.handle).iter().filter_map(verdict).collect();
    assert_eq!(verdicts, [Verdict::Unhealthy]);
}

/// `heartbeat`: one that stopped long ago fails its node in a single sweep, however short `deadtime` is.
#[test]
fn a_heartbeat_that_stopped_long_ago_fails_in_one_sweep_with_a_short_deadtime() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.tag_address(0, "policy", "deadtime=5s");
    scene.agent(A).alive = false;
    scene.pass(300_000);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
}

/// `heartbeat`: what was written before the instance was started anew makes no candidate, however likely its time is.
#[test]
fn a_heartbeat_of_an_earlier_life_makes_no_candidate() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.tag_address(0, "policy", "deadtime=60s");
    scene.stop_and_start_within(500);
    scene.agent(B).alive = false;
    scene.beat(B, 900, "ok", 0);
    scene.pass(2_000);
    scene.stop_node(B);
    scene.pass(1_000);
    scene.start_node(B);
    scene.pass(1_000);
    scene.tag_node(A, "mode", "drain");
    let told = scene.sweep();
    scene.ends(&told, "stay no-candidate", "A");
}

/// `heartbeat`: a second look is one that was asked for then: an answer that comes late shows what was before.
#[test]
fn a_heartbeat_is_not_taken_as_stopped_by_an_answer_that_came_late() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.agent(A).alive = false;
    scene.beat(A, 900, "ok", -300);
    scene.untag_node(A, "health");
    let from_ms = scene.epoch_ms() + 1_000;
    let slow = Rule::new(Fault::Latency { min_ms: 1_600, max_ms: 1_600 }).on(Api::DescribeInstances);
    scene.ec2.faults_mut().push(slow.between(from_ms, u64::MAX));
    // EC2 is asked after 5 s and looks after 5.8 s.
    scene.after(5_950, |scene| scene.beat(A, 901, "ok", -300));
    scene.watch(20);
    scene.unmoved();
}

/// `heartbeat`: with a probe configured a stopped heartbeat never fails the node.
#[test]
fn heartbeat_that_stopped_beside_probes_is_a_problem_only() {
    let mut scene = Scene::beating(2, "heartbeat http:8080/health");
    scene.agent(A).alive = false;
    let told = scene.watch(55);
    scene.ends(&told, "stay healthy", "A");
    told.problem("its probes decide");
    assert_eq!(told.node(A).verdict, Verdict::Healthy);
    scene.refuse(A);
    let told = scene.sweep();
    assert_eq!(scene.holder(0), "B", "{}", told.text());
}

/// `heartbeat`: `status=fail` fails at once, beside passing probes, too.
#[test]
fn heartbeat_that_says_fail_fails() {
    for check in ["heartbeat", "heartbeat http:8080/health"] {
        let mut scene = Scene::beating(2, check);
        scene.agent(A).status = "fail";
        scene.pass(6_000);
        let told = scene.sweep();
        scene.ends(&told, "move holder-unhealthy to B", "B");
        assert_eq!(told.evidence(A, "heartbeat").0, Some(false));
    }
}

/// `heartbeat`: `status=leaving` is leaving; a newer `status=ok` ends it.
#[test]
fn heartbeat_that_says_leaving_is_left_until_it_says_ok_again() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.agent(A).status = "leaving";
    scene.pass(6_000);
    let told = scene.sweep();
    scene.ends(&told, "move holder-leaving to B", "B");
    assert_eq!(told.node(A).leaving.as_deref(), Some("agent"));
    scene.agent(A).status = "ok";
    scene.pass(40_000);
    let told = scene.watch(20);
    assert_eq!(told.node(A).leaving, None);
    assert!(told.node(A).candidate);
}

/// `heartbeat`: it has stopped when `deadtime` is over, by the first reading of then; never before twice its own pace is over.
#[test]
fn heartbeat_has_stopped_when_deadtime_is_over() {
    // When A beats, at which pace, when the address leaves it, and for how long there is no other in the end. Nodes are read every 5 s.
    type Case<'a> = (&'a [u64], u64, Option<(u64, &'a str)>);
    let cases: [Case<'_>; 4] = [
        (&[0, 5_000, 10_000, 13_000], 5, Some((30_000, "15s"))),
        (&[0, 5_000, 10_000], 5, Some((25_000, "20s"))),
        (&[0], 5, Some((15_000, "30s"))),
        (&[0, 1_000, 20_500], 15, None),
    ];
    // A peer's has to come after A's next was overdue, too: by the third reading.
    for (deadtime, (beats_ms, every_s, left)) in
        ["deadtime=15s", "deadtime=10s"].iter().flat_map(|deadtime| cases.map(|case| (deadtime, case)))
    {
        let mut scene = Scene::beating(2, "heartbeat");
        scene.tag_address(0, "policy", deadtime);
        scene.agent(A).alive = false;
        for (seq, at_ms) in (100..).zip(beats_ms) {
            scene.after(*at_ms, move |scene| {
                let now = scene.time_in(0);
                scene.tag_node(A, "heartbeat", &format!("seq={seq} at={now} status=ok every={every_s}s"));
            });
        }
        let told = scene.watch(33);
        let moves = scene.world.moves(&scene.address(0));
        let left_ms = moves.first().map(|(at_ms, _)| at_ms - told.began_ms);
        let (_, text) = told.evidence(A, "heartbeat");
        assert_eq!(left_ms, left.map(|(moved_ms, _)| moved_ms), "{deadtime}, {beats_ms:?}: {text}");
        if let Some((_, still)) = left {
            assert!(text.ends_with(&format!("no other for {still}")), "{deadtime}, {beats_ms:?}: {text}");
        }
    }
}

/// `heartbeat`: without memory a heartbeat is only taken as stopped after a second look, `every` + 1 s later.
#[test]
fn heartbeat_without_memory_takes_a_second_look() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.agent(A).alive = false;
    scene.pass(300_000);
    let told = scene.sweep();
    let reads = scene.calls_to(Api::DescribeInstances, &told);
    assert!(reads.iter().any(|at_ms| (6_000..7_000).contains(at_ms)), "{reads:?}");
    scene.ends(&told, "move holder-unhealthy to B", "B");
}

/// And after a third where nothing but two looks speaks of the node: EC2 may show a heartbeat of before for seconds.
#[test]
fn heartbeat_without_memory_takes_a_third_look() {
    // When EC2 shows A's next, and when the address leaves it; `deadtime` may be over before a third look is due.
    for (policy, shown_ms, moved_ms) in [
        ("deadtime=20s", Some(10_900), None),
        ("deadtime=20s", None, Some(11_000)),
        ("deadtime=8s", Some(7_900), None),
        ("deadtime=8s", None, Some(8_000)),
        ("deadtime=3s", None, Some(6_000)),
    ] {
        let mut scene = Scene::beating(2, "heartbeat");
        scene.tag_address(0, "policy", policy);
        scene.agent(A).alive = false;
        scene.untag_node(A, "health");
        scene.beat(A, 900, "ok", -300);
        if let Some(shown_ms) = shown_ms {
            scene.after(shown_ms, |scene| scene.beat(A, 901, "ok", -300));
        }
        let told = scene.sweep();
        let moves = scene.world.moves(&scene.address(0));
        let left_ms = moves.first().map(|(at_ms, _)| at_ms - told.began_ms);
        assert_eq!(left_ms, moved_ms, "{policy}, {shown_ms:?}: {}", told.text());
    }
}

/// So it is without a watch where its agent wrote at a longer pace than its peers'.
#[test]
fn a_sweep_leaves_a_dead_node_whose_agent_wrote_at_a_longer_pace() {
    for every_s in [10, 20, 30] {
        let mut scene = Scene::beating(2, "heartbeat");
        scene.agent(A).alive = false;
        let at = scene.time_in(-300);
        scene.tag_node(A, "heartbeat", &format!("seq=900 at={at} status=ok every={every_s}s"));
        scene.pass(5_000);
        let told = scene.sweep();
        scene.ends(&told, "move holder-unhealthy to B", "B");
    }
}

/// `heartbeat`: a node's clock proves nothing: skewed clocks, far in the past or the future, fail nobody.
#[test]
fn heartbeat_of_a_skewed_clock_fails_nobody() {
    for skew_ms in [-86_400_000, -600_000, 600_000, 86_400_000] {
        let mut scene = Scene::new(1, 2);
        scene.tag_address(0, "check", "heartbeat");
        for (n, skew_ms) in [(A, skew_ms), (B, 0)] {
            scene.start_agent(n, skew_ms);
        }
        scene.season();
        for told in [scene.sweep(), scene.watch(55)] {
            assert_eq!(
                (scene.says(&told, 0), scene.holder(0)),
                ("stay healthy".to_owned(), "A".to_owned()),
                "{skew_ms}"
            );
            assert_eq!(told.node(A).verdict, Verdict::Healthy, "{skew_ms}: {:?}", told.evidence(A, "heartbeat"));
        }
        // And a clock in the future does not keep a dead one alive.
        scene.agent(A).alive = false;
        let told = scene.watch(55);
        assert_eq!(scene.holder(0), "B", "{skew_ms}: {}", told.text());
    }
}

/// `heartbeat`: an agent that was restarted counts from 1 again; that is an advance, too.
#[test]
fn heartbeat_that_starts_again_from_one_has_advanced() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.agent(A).seq = 0;
    let told = scene.watch(40);
    scene.ends(&told, "stay healthy", "A");
}

/// One check that has failed for good is enough: others are not waited for.
#[test]
fn one_check_that_has_failed_is_enough() {
    let mut scene = Scene::pair();
    for n in [A, B] {
        let id = scene.node(n);
        scene.service_on(&id, 5_432, SERVES);
    }
    scene.tag_address(0, "check", "http:8080/health tcp:5432");
    scene.season();
    let a = scene.node(A);
    scene.service_on(&a, 5_432, Behaviour::Silent);
    scene.refuse(A);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
    // Refused three times, 500 ms apart; the first timeout comes after 1 s, the third after 2.
    assert!(scene.moved_after_ms(&told) <= 1_200, "{} ms", scene.moved_after_ms(&told));
}

/// `since`: a doubt that comes to nothing leaves the verdict as old as it was.
#[test]
fn a_doubt_that_comes_to_nothing_makes_no_verdict_younger() {
    for begins_ms in [0, 6_000] {
        let mut scene = Scene::pair();
        let since = scene.sweep().node(A).since.clone();
        scene.pass(60_000);
        scene.after(begins_ms, |scene| scene.refuse(A));
        scene.after(begins_ms + 600, |scene| scene.serve(A));
        let told = scene.watch(20);
        assert!(told.node(A).longest_fail_streak > 0);
        assert_eq!((told.node(A).verdict, told.node(A).since.clone()), (Verdict::Healthy, since), "{begins_ms}");
    }
}

/// A doubt is told of while it lasts.
#[test]
fn a_doubt_is_told_of() {
    let mut scene = Scene::pair();
    scene.world.time_limit_ms = 5_000;
    scene.tag_address(0, "policy", "fall=20");
    scene.refuse(A);
    let told = scene.sweep();
    assert!(told.text().contains("it began to fail (http:8080/health refused"), "{}", told.text());
    let since = told.node(A).since.clone().unwrap_or_default();
    assert!(scene.node_tag(A, "health").contains(&since), "healthy since {since}, as far as is known");
}

/// What probes are asked follows the policy while it watches.
#[test]
fn probes_follow_the_policy_at_once() {
    let mut scene = Scene::pair();
    scene.service(A, Behaviour::Serve { latency_ms: 2_000 });
    scene.service(B, Behaviour::Serve { latency_ms: 2_000 });
    scene.tag_address(0, "policy", "timeout=3s");
    scene.after(12_000, |scene| scene.tag_address(0, "policy", "timeout=1s"));
    let told = scene.watch(30);
    assert_eq!((told.node(A).verdict, scene.holder(0).as_str()), (Verdict::Unhealthy, "A"));
    scene.after(12_000, |scene| scene.tag_address(0, "policy", "timeout=1s host=example.org"));
    let told = scene.watch(30);
    let mut hosts = scene.world.log(told.handle).iter().filter_map(|record| match record {
        Record::Probe { target, .. } => Some(target.host.as_deref() == Some("example.org")),
        _ => None,
    });
    assert_eq!(hosts.next_back(), Some(true));
}

/// A peer's heartbeat that came once has not advanced: that another stopped proves nothing.
#[test]
fn heartbeat_of_a_peer_that_came_once_fails_nobody() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.agent(A).alive = false;
    scene.agent(B).alive = false;
    scene.untag_node(B, "heartbeat");
    scene.after(10_000, |scene| scene.beat(B, 1, "ok", 0));
    let told = scene.watch(55);
    assert_eq!((told.node(A).verdict, scene.holder(0).as_str()), (Verdict::Unknown, "A"));
}

/// A has lost its cluster tag, and an impaired status check speaks against it; its agent beats on by a clock that proves nothing.
fn holder_without_its_tag() -> Scene {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "check", "heartbeat");
    for (n, skew_ms) in [(A, -600_000), (B, 0)] {
        scene.start_agent(n, skew_ms);
    }
    scene.season();
    scene.remember(0, A, None, "no-holder", 600);
    scene.untag_node(A, "cluster");
    scene.status(A, CheckKind::Instance, Check::Impaired);
    scene.pass(60_000);
    scene
}

/// `heartbeat`: the second look at a holder that lost its cluster tag is the answer that names it, not the one that cannot.
#[test]
fn heartbeat_of_a_holder_without_its_tag_takes_a_second_look() {
    let mut scene = holder_without_its_tag();
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 100, max_ms: 100 }).on(Api::DescribeInstances));
    let told = scene.sweep();
    scene.ends(&told, "stay healthy", "A");
    scene.unmoved();
}

/// And it is asked for at its pace, however slow EC2 is to answer, or whether it does at all.
#[test]
fn heartbeat_of_a_holder_without_its_tag_is_asked_for_at_its_pace() {
    let slow = Rule::new(Fault::Latency { min_ms: 2_900, max_ms: 2_900 });
    for (trouble, most) in [(slow, 8), (Rule::error("InternalError"), 16)] {
        let mut scene = holder_without_its_tag();
        let a = scene.node(A);
        scene.ec2.faults_mut().push(trouble.clone().on(Api::DescribeInstances).naming(&a));
        let told = scene.sweep();
        let calls = scene.calls_to(Api::DescribeInstances, &told);
        assert!(calls.len() <= most, "{trouble:?}: {calls:?}");
        assert!(told.took_ms() < 20_000, "{trouble:?}: after {} ms", told.took_ms());
        scene.unmoved();
    }
}

/// Status checks are not waited for longer than a second.
#[test]
fn status_checks_are_waited_for_a_second() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    scene
        .ec2
        .faults_mut()
        .push(Rule::new(Fault::Latency { min_ms: 2_900, max_ms: 2_900 }).on(Api::DescribeInstanceStatus));
    scene.stop_node(A);
    let told = scene.sweep();
    scene.ends(&told, "move holder-gone to B", "B");
    assert_eq!(scene.moved_after_ms(&told), 1_000);
}

/// A cluster that appears while others are watched is no candidate's before its status was read.
#[test]
fn a_cluster_that_appears_is_read_before_it_is_judged() {
    let mut scene = Scene::pair();
    scene.after(7_000, |scene| {
        let spec = || InstanceSpec { tags: tags([("eipwatch:cluster", "db")]), ..InstanceSpec::default() };
        let nodes: Vec<_> = (0..2).map(|_| scene.ec2.add_instance(spec())).collect();
        scene.world.nodes.extend(nodes);
        let address = scene.ec2.add_address(tags([("eipwatch:cluster", "db"), ("eipwatch:check", "ec2")]));
        scene.world.addresses.push(address);
        scene.status(2, CheckKind::Instance, Check::Impaired);
    });
    scene.watch(40);
    assert_eq!(scene.holder(1), "D");
    assert_eq!(scene.world.moves(&scene.address(1)).len(), 1);
}

/// `alarm`: ALARM fails the node that its dimension names; OK and INSUFFICIENT_DATA tell nothing.
#[test]
fn alarm_fails_the_node_that_it_names() {
    for (state, holder) in [(AlarmState::Alarm, "B"), (AlarmState::Ok, "A"), (AlarmState::InsufficientData, "A")] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "check", "http:8080/health alarm:High.Load");
        scene.alarm(state, &[A]);
        let told = scene.sweep();
        assert_eq!(scene.holder(0), holder, "{state:?}: {}", told.text());
        assert!(told.node(B).verdict == Verdict::Healthy, "it is not about B");
    }
}

/// `alarm`: one in ALARM is enough: no probe is waited for.
#[test]
fn alarm_decides_at_once() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "http:8080/health alarm:High.Load");
    scene.alarm(AlarmState::Alarm, &[A]);
    scene.service(A, Behaviour::Silent);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
    assert!(scene.moved_after_ms(&told) < 1_000, "{} ms", scene.moved_after_ms(&told));
}

/// `alarm`: a cluster's check whose alarm names no instance counts for none, and is reported.
#[test]
fn alarm_without_a_dimension_counts_for_none_on_a_cluster() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "http:8080/health alarm:High.Load");
    scene.alarm(AlarmState::Alarm, &[]);
    let told = scene.expect("stay healthy", &[], "A");
    told.problem("alarm:High.Load has no InstanceId dimension");
}

/// `alarm`: on a node's own check it needs no dimension, though the cluster's is the same.
#[test]
fn alarm_without_a_dimension_counts_on_a_nodes_own_check() {
    for clusters_own in [false, true] {
        let mut scene = Scene::pair();
        let check = "http:8080/health alarm:High.Load";
        scene.tag_node(A, "check", check);
        if clusters_own {
            scene.tag_address(0, "check", check);
        }
        scene.alarm(AlarmState::Alarm, &[]);
        scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    }
}

/// `alarm`: a name that CloudWatch does not know, and a CloudWatch that is down, tell nothing and are problems.
#[test]
fn alarm_that_cannot_be_read_tells_nothing() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "http:8080/health alarm:Missing");
    let told = scene.expect("stay healthy", &[], "A");
    told.problem("alarm:Missing");
    for code in ["InternalServiceFault", "AccessDenied"] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "check", "http:8080/health alarm:High.Load");
        scene.alarm(AlarmState::Alarm, &[A]);
        scene.ec2.faults_mut().push(Rule::error(code).on(Api::DescribeAlarms));
        let told = scene.sweep();
        assert_eq!((scene.says(&told, 0), scene.holder(0)), ("stay healthy".to_owned(), "A".to_owned()), "{code}");
        told.problem("DescribeAlarms");
        // And a failover is not held up by it.
        scene.refuse(A);
        let told = scene.sweep();
        assert_eq!(scene.holder(0), "B", "{code}: {}", told.text());
    }
}

/// `alarm`: those that do not fit into one call are waited for, too, before a node is a candidate.
#[test]
fn alarms_beyond_the_first_hundred_are_waited_for() {
    let mut scene = Scene::new(1, 102);
    for n in 0..102 {
        scene.tag_node(n, "check", &format!("http:8080/health alarm:load-{n:03}"));
        let (name, instances, now_ms) = (format!("load-{n:03}"), vec![scene.node(n)], scene.epoch_ms());
        let state = if n == B { AlarmState::Alarm } else { AlarmState::Ok };
        scene.ec2.set_alarm(Alarm { name, state, instances }, now_ms);
    }
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 900, max_ms: 900 }).on(Api::DescribeAlarms));
    scene.stop_node(A);
    let told = scene.sweep();
    scene.ends(&told, "move holder-gone to C", "C");
    assert!(!told.problems().contains("no such alarm"), "{}", told.problems());
}

/// `alarm`: what was told of some counts although others cannot be read.
#[test]
fn alarms_that_were_read_count_although_others_cannot_be() {
    let mut scene = Scene::new(1, 102);
    for n in 0..102 {
        scene.tag_node(n, "check", &format!("http:8080/health alarm:load-{n:03}"));
        let (name, instances, now_ms) = (format!("load-{n:03}"), vec![scene.node(n)], scene.epoch_ms());
        scene.ec2.set_alarm(Alarm { name, state: AlarmState::Ok, instances }, now_ms);
    }
    scene.tag_node(A, "check", "http:8080/health alarm:load-101");
    let (a, now_ms) = (scene.node(A), scene.epoch_ms());
    scene.ec2.set_alarm(Alarm { name: "load-101".to_owned(), state: AlarmState::Alarm, instances: vec![a] }, now_ms);
    // Of two calls the first is answered.
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 300, max_ms: 300 }).on(Api::DescribeAlarms));
    let failing = Rule::error("InternalServiceFault").on(Api::DescribeAlarms);
    scene.ec2.faults_mut().push(failing.between(now_ms + 350, u64::MAX));
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
    told.problem("DescribeAlarms");
}

/// `alarm`: one that is named later is waited for, before its node is a candidate.
#[test]
fn an_alarm_that_is_named_later_is_read_before_it_counts_as_none() {
    let mut scene = Scene::seasoned(1, 3);
    scene.tag_node(C, "check", "http:8080/health alarm:Low.Load");
    let (c, now_ms) = (scene.node(C), scene.epoch_ms());
    scene.ec2.set_alarm(Alarm { name: "Low.Load".to_owned(), state: AlarmState::Ok, instances: vec![c] }, now_ms);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 900, max_ms: 900 }).on(Api::DescribeAlarms));
    scene.after(9_000, |scene| {
        scene.tag_node(B, "check", "http:8080/health alarm:High.Load");
        scene.alarm(AlarmState::Alarm, &[B]);
        scene.stop_node(A);
    });
    let told = scene.watch(15);
    assert_eq!(scene.been(), [Some(C)], "{}", told.text());
    assert!(!told.problems().contains("no such alarm"), "{}", told.problems());
}

/// `alarm`: where CloudWatch has been given up, one that is named later is not waited for either.
#[test]
fn an_alarm_that_is_named_while_cloudwatch_is_denied_is_not_waited_for() {
    let mut scene = Scene::pair();
    scene.tag_node(A, "check", "http:8080/health alarm:High.Load");
    scene.ec2.faults_mut().push(Rule::error("AccessDenied").on(Api::DescribeAlarms));
    scene.after(9_000, |scene| {
        scene.tag_node(B, "check", "http:8080/health alarm:Low.Load");
        scene.stop_node(A);
    });
    let told = scene.watch(20);
    scene.ends(&told, "move holder-gone to B", "B");
    assert!(scene.moved_after_ms(&told) < 10_500, "after {} ms", scene.moved_after_ms(&told));
}

/// Per-node checks replace the cluster's for that node.
#[test]
fn a_nodes_own_checks_replace_the_clusters() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    scene.tag_node(B, "check", "tcp:5432");
    scene.service_on(&b, 5_432, SERVES);
    scene.refuse(B);
    let told = scene.sweep();
    assert_eq!(told.node(B).verdict, Verdict::Healthy);
    assert_eq!(told.evidence(B, "tcp:5432").0, Some(true));
    assert_eq!(told.evidence(B, "http").1, "no such check");
    scene.refuse(A);
    let told = scene.sweep();
    assert_eq!(scene.holder(0), "B", "{}", told.text());
}

/// Scheduled events: leaving from 10 minutes before the start until the end; over when completed or cancelled.
#[test]
fn scheduled_events_make_a_node_leave_ten_minutes_before() {
    for (description, from_s, to_s, holder) in [
        ("Your instance will be rebooted", 540, 3_600, "B"),
        ("Your instance will be rebooted", 660, 3_600, "A"),
        ("Your instance will be rebooted", -60, 60, "B"),
        ("Your instance will be rebooted", -600, -60, "A"),
        ("[Completed] Your instance was rebooted", 60, 600, "A"),
        ("[Canceled] Your instance will be rebooted", 60, 600, "A"),
    ] {
        let mut scene = Scene::pair();
        scene.schedule(A, description, from_s, to_s);
        let noticed = format!(" noticed={}", scene.time_in(from_s - 600));
        let told = scene.sweep();
        assert_eq!(scene.holder(0), holder, "{description} {from_s} {to_s}: {}", told.text());
        if holder == "B" {
            assert_eq!(scene.says(&told, 0), "move holder-leaving to B");
            assert_eq!(told.node(A).leaving.as_deref(), Some("system-reboot"));
            assert!(scene.node_tag(A, "health").ends_with(&noticed), "{}", scene.node_tag(A, "health"));
        }
    }
}

/// Scheduled events and an agent's word end with `undrain`, too.
#[test]
fn undrain_overrules_scheduled_events_and_agents() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    scene.schedule(B, "Your instance will be rebooted", 60, 3_600);
    let told = scene.sweep();
    assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (Some("system-reboot"), false));
    scene.pass(2_000);
    for told in [scene.send(&serde_json::json!({"action": "undrain", "node": &*b})), scene.sweep()] {
        assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (None, true));
    }
    let mut scene = Scene::pair();
    scene.beat(B, 7, "leaving", 0);
    let told = scene.sweep();
    assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (Some("agent"), false));
    for told in [scene.send(&serde_json::json!({"action": "undrain", "node": &*b})), scene.sweep()] {
        assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (None, true));
    }
    // It is announced once more.
    scene.beat(B, 8, "leaving", 0);
    let told = scene.sweep();
    assert_eq!(told.node(B).leaving.as_deref(), Some("agent"));
}

/// Scheduled events count from their tenth minute before on, not from the next reading.
#[test]
fn scheduled_events_count_on_time() {
    let mut scene = Scene::pair();
    scene.schedule(A, "Your instance will be stopped", 612, 3_600);
    let told = scene.watch(30);
    scene.ends(&told, "move holder-leaving to B", "B");
    // Its probes have it looked at, once a second or so.
    assert!((12_000..=14_000).contains(&scene.moved_after_ms(&told)), "{} ms", scene.moved_after_ms(&told));
}

/// `undrain` ends what was announced until then, within its second, too; what is announced later counts.
#[test]
fn undrain_ends_what_was_announced_before_it() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    scene.pass(200);
    let spot = |scene: &mut Scene| {
        let event = spot_event(&b, scene.epoch_ms());
        scene.send(&event)
    };
    let told = spot(&mut scene);
    assert_eq!(told.node(B).leaving.as_deref(), Some("spot"));
    scene.pass(300);
    assert!(scene.now_ms() % 1_000 > 200, "the same second: {} ms", scene.now_ms());
    for told in [scene.send(&serde_json::json!({"action": "undrain", "node": &*b})), scene.sweep()] {
        assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (None, true));
    }
    scene.pass(10_000);
    let told = spot(&mut scene);
    assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (Some("spot"), false));
}

/// `undrain` of a node of which nothing was announced is not remembered, though its agent says that it leaves while the sweep goes on.
#[test]
fn undrain_that_puts_an_end_to_nothing_is_not_remembered() {
    let mut scene = Scene::pair();
    // Its holder is an interface attached to nothing: the sweep goes on for 10 s, and reads the nodes again at its end.
    scene.loose(0);
    scene.after(4_000, |scene| scene.beat(B, 7, "leaving", 0));
    let b = scene.node(B);
    let told = scene.send(&serde_json::json!({"action": "undrain", "node": &*b}));
    scene.ends(&told, "move holder-gone to A", "A");
    let health = scene.node_tag(B, "health");
    assert!(health.contains(" leaving=agent ") && !health.contains("undrained"), "{health}");
}

/// A policy that condemns at the first failure does not have the address read all the time.
#[test]
fn one_failure_to_fall_reads_no_more_than_three() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "fall=1");
    let told = scene.watch(30);
    let reads = scene.calls_to(Api::DescribeAddresses, &told);
    assert!(reads.len() <= 8, "{reads:?}");
}

/// Clusters settle independently: one that takes long holds up no other.
#[test]
fn clusters_settle_independently() {
    let mut scene = Scene::pair();
    let slow = scene.add_node();
    scene.tag(&slow, "cluster", "db");
    let policy = [
        ("eipwatch:cluster", "db"),
        ("eipwatch:check", "tcp:8080"),
        ("eipwatch:policy", "rise=20 fast=5s interval=5s"),
    ];
    scene.ec2.add_address(eipwatch::embedded::ec2::tags(policy));
    scene.pass(60_000);
    scene.refuse(A);
    let told = scene.sweep();
    assert!(told.took_ms() >= 15_000, "{} ms: {}", told.took_ms(), told.text());
    let moved_ms = scene.moved_after_ms(&told);
    assert!(moved_ms <= 1_000, "{moved_ms} ms");
}

/// Scheduled events: one that comes within the ten minutes while a watch runs is noticed by it.
#[test]
fn scheduled_events_are_noticed_in_a_watch() {
    let mut scene = Scene::seasoned(1, 3);
    scene.schedule(A, "Your instance will be stopped", 620, 3_600);
    scene.schedule(B, "Your instance will be stopped", 60, 3_600);
    let told = scene.watch(55);
    scene.ends(&told, "move holder-leaving to C", "C");
    let moved_ms = scene.moved_after_ms(&told);
    assert!((20_000..=35_000).contains(&moved_ms), "{moved_ms} ms");
    assert_eq!(told.node(C).leaving, None);
}

/// A verdict of a node that nothing is remembered of is `unknown` until `rise` successes or `fall` failures in a row.
#[test]
fn a_node_that_nothing_is_remembered_of_starts_as_unknown() {
    let mut scene = Scene::new(1, 2);
    scene.service(B, Behaviour::Flap { up_ms: 400, down_ms: 600 });
    scene.tag_address(0, "policy", "rise=3 fall=3 fast=500ms interval=500ms");
    let told = scene.sweep();
    assert_eq!(told.node(B).verdict, Verdict::Unknown, "{:?}", told.node(B));
    assert!(!told.node(B).candidate);
}

/// A holder that is starting is not asked, and a sweep does not wait for it: the next one sees what has become of it.
#[test]
fn a_holder_that_is_starting_does_not_hold_up_a_sweep() {
    let mut scene = Scene::pair();
    (scene.ec2.settings.stopping_ms, scene.ec2.settings.pending_ms) = (1_000, 60_000);
    scene.stop_node(A);
    scene.pass(5_000);
    scene.start_node(A);
    scene.pass(1_000);
    let told = scene.sweep();
    scene.ends(&told, "stay healthy", "A");
    assert!(told.took_ms() < 10_000, "{} ms", told.took_ms());
}

/// A heartbeat that advances is of this life, however wrong its clock: its goodbye is believed.
#[test]
fn a_goodbye_is_believed_though_the_nodes_clock_is_two_days_behind() {
    let mut scene = Scene::pair();
    scene.start_agent(A, -172_800_000);
    scene.after(12_000, |scene| scene.agent(A).status = "leaving");
    let told = scene.watch(40);
    scene.ends(&told, "move holder-leaving to B", "B");
}

/// Nor is it forgotten by later invocations if the node's clock is set back then, and its agent falls silent.
#[test]
fn a_goodbye_on_record_is_believed_though_the_nodes_clock_was_set_back_since() {
    let mut scene = Scene::pair();
    scene.stop_and_start_within(500);
    scene.start_agent(B, 0);
    scene.pass(6_000);
    scene.agent(B).status = "leaving";
    scene.watch(15);
    scene.agent(B).skew_ms = -172_800_000;
    scene.pass(6_000);
    scene.agent(B).alive = false;
    // What is on record is written anew meanwhile.
    scene.refuse(B);
    scene.watch(10);
    scene.serve(B);
    scene.refuse(A);
    let told = scene.watch(10);
    scene.ends(&told, "stay no-candidate", "A");
    assert_eq!(told.node(B).leaving.as_deref(), Some("agent"));
}

/// What its agent announced ends when a node is launched anew, though its heartbeats were seen to advance before.
#[test]
fn a_goodbye_ends_when_the_node_is_started_anew() {
    let mut scene = Scene::pair();
    scene.stop_and_start_within(500);
    scene.start_agent(B, 0);
    scene.after(3_000, |scene| scene.agent(B).status = "leaving");
    scene.after(11_000, |scene| {
        scene.stop_node(B);
        scene.agent(B).alive = false;
    });
    scene.after(13_000, |scene| scene.start_node(B));
    scene.after(17_000, |scene| scene.tag_node(A, "mode", "drain"));
    let told = scene.watch(25);
    scene.ends(&told, "move holder-draining to B", "B");
}

/// A second look that does not show the node is not taken again and again: what cannot be had is not waited for.
#[test]
fn a_heartbeat_whose_node_is_shown_no_more_is_not_looked_for_without_end() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "heartbeat");
    // A clock that proves nothing: only a second number would.
    scene.start_agent(A, -7_200_000);
    scene.pass(7_000);
    scene.remember(0, A, None, "no-holder", 600);
    scene.untag_node(A, "cluster");
    let epoch_ms = scene.epoch_ms();
    let omitted = Rule::new(Fault::Omit(scene.node(A)));
    scene.ec2.faults_mut().push(omitted.between(epoch_ms + 1_000, u64::MAX));
    let told = scene.watch(30);
    let reads = scene.calls_to(Api::DescribeInstances, &told).len();
    assert!(reads <= 20, "{reads} reads in 30 s");
    assert_eq!(scene.holder(0), "A");
}

/// A reason to leave a node that was read before the last move is read again; where that cannot be done, it holds nothing back for ever.
#[test]
fn a_drain_is_carried_out_though_status_checks_cannot_be_read() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    scene.remember(0, A, Some(B), "holder-leaving", 5);
    scene.tag_node(A, "mode", "drain");
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeInstanceStatus));
    let told = scene.sweep();
    scene.ends(&told, "move holder-draining to B", "B");
    assert!(told.took_ms() < 30_000, "{} ms", told.took_ms());
}
