//! The thirteen rules that must always be true, each by the cases in which it would be broken most easily.

use eipwatch::embedded::ec2::{AlarmState, Api, Attachment, Cause, Check, CheckKind, InstanceSpec, Request, State};
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::sim::world::{Behaviour, SERVES, START_MS, state_event};
use serde_json::json;

use super::{A, B, C, Scene};

/// Rule 1: whatever speaks against a node as a candidate keeps the address away from it.
#[test]
fn rule_1_only_a_candidate_gets_the_address() {
    type Spoil = fn(&mut Scene);
    let cases: [(&str, Spoil); 6] = [
        ("drain", |scene| scene.tag_node(B, "mode", "drain")),
        ("its mode cannot be read", |scene| scene.tag_node(B, "mode", "draining?")),
        ("unhealthy", |scene| scene.refuse(B)),
        ("stopping", |scene| scene.stop_node(B)),
        ("is none of its private addresses", |scene| scene.tag_node(B, "address", "10.9.9.9")),
        ("leaving (agent)", |scene| scene.beat(B, 1, "leaving", 0)),
    ];
    for (veto, spoil) in cases {
        let mut scene = Scene::pair();
        spoil(&mut scene);
        scene.refuse(A);
        let told = scene.sweep();
        assert_eq!(scene.holder(0), "A", "{veto}");
        assert!(!told.node(B).candidate && !told.cluster().ready, "{veto}");
        let vetoes = told.address(0).decision.as_ref().map(|decision| decision.vetoes.join("; ")).unwrap_or_default();
        assert!(vetoes.contains(&*scene.node(B)) && vetoes.contains(veto), "{veto}: {vetoes}");
    }
}

/// Rule 1: a node that was remembered as healthy is no candidate before its own probes have passed in this invocation.
#[test]
fn rule_1_memory_makes_no_candidate() {
    let mut scene = Scene::pair();
    scene.service(B, Behaviour::Silent);
    scene.refuse(A);
    let told = scene.sweep();
    scene.ends(&told, "stay no-candidate", "A");
}

/// Rule 1: what was learnt of a node's service before it was stopped counts no more once it is started anew.
#[test]
fn rule_1_a_node_that_was_started_anew_is_asked_anew() {
    let mut scene = Scene::pair();
    // EC2 answers sooner than the nodes do, and no probe of B falls between its end and the reading that shows it.
    scene.network_ms = 300;
    scene.tag_address(0, "policy", "interval=7s fall=2");
    scene.stop_and_start_within(1_000);
    scene.after(4_990, |scene| {
        scene.stop_node(B);
        scene.refuse(B);
    });
    // A is found out just before the reading that shows B running.
    scene.after(12_000, |scene| {
        scene.start_node(B);
        scene.refuse(A);
    });
    let told = scene.watch(40);
    scene.ends(&told, "stay no-candidate", "A");
    scene.unmoved();
}

/// Rule 1: a node that DescribeInstances shows no more is no candidate from that answer on, though nothing else has changed.
#[test]
fn rule_1_a_node_that_loses_its_tag_is_no_candidate_from_the_next_reading_on() {
    let mut scene = Scene::pair();
    scene.after(2_000, |scene| scene.untag_node(B, "cluster"));
    scene.after(6_000, |scene| scene.refuse(A));
    let told = scene.watch(20);
    scene.ends(&told, "stay no-candidate", "A");
}

/// Rule 1: a node that joins is no candidate before its status checks were read, too: the last answer knew nothing of it.
#[test]
fn rule_1_a_node_that_joins_is_no_candidate_before_its_status_was_read() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    scene.untag_node(B, "cluster");
    scene.status(B, CheckKind::Application, Check::Impaired);
    scene.after(36_000, |scene| {
        scene.tag_node(B, "cluster", "web");
        scene.tag_node(A, "mode", "drain");
    });
    let told = scene.watch(50);
    scene.ends(&told, "stay no-candidate", "A");
    scene.unmoved();
}

/// Rule 1: the same of a node that was launched anew: the last answer told of its earlier life.
#[test]
fn rule_1_a_node_that_was_started_anew_is_no_candidate_before_its_status_was_read() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    scene.stop_and_start_within(500);
    scene.after(36_000, |scene| scene.stop_node(B));
    scene.after(37_000, |scene| {
        scene.start_node(B);
        scene.status(B, CheckKind::Application, Check::Impaired);
        scene.tag_node(A, "mode", "drain");
    });
    let told = scene.watch(50);
    scene.ends(&told, "stay no-candidate", "A");
    scene.unmoved();
}

/// Rule 2: a healthy holder keeps the address though a better node is there: no failback unless the policy says so.
#[test]
fn rule_2_a_healthy_holder_keeps_the_address() {
    let mut scene = Scene::pair();
    scene.tag_node(B, "priority", "1000");
    scene.expect("stay healthy", &[], "A");
    scene.pass(120_000);
    let told = scene.watch(100);
    scene.check(&told, "stay healthy", &[], "A");
}

/// Rule 3: nobody is a candidate: it stays, and a holder that is gone leaves it to the best running node all the same.
#[test]
fn rule_3_last_resort_takes_them_in_order() {
    // One of each kind; the best is taken away in turn.
    type Worsen = fn(&mut Scene, usize);
    let drain: Worsen = |scene, n| scene.tag_node(n, "mode", "drain");
    let unknown: Worsen = |scene, n| scene.tag_node(n, "check", "heartbeat");
    let unhealthy: Worsen = |scene, n| scene.refuse(n);
    let leaving: Worsen = |scene, n| scene.beat(n, 1, "leaving", 0);
    let kinds: [(&str, Worsen); 4] =
        [("draining", drain), ("unknown", unknown), ("unhealthy", unhealthy), ("leaving", leaving)];
    for first in 0..kinds.len() {
        let mut scene = Scene::seasoned(1, 5);
        // The worst have the smallest ids, so that only the order of kinds can decide.
        let rest: Vec<_> = kinds.iter().skip(first).rev().enumerate().collect();
        for (n, (_, worsen)) in &rest {
            worsen(&mut scene, n + 1);
        }
        for n in rest.len() + 1..5 {
            scene.terminate_node(n);
        }
        scene.stop_node(A);
        let told = scene.sweep();
        let (name, best) = (kinds[first].0, rest.len());
        assert_eq!(scene.holder(0), scene.name(&scene.node(best)), "{name}: {}", told.text());
        assert!(scene.says(&told, 0).starts_with("move last-resort"), "{name}: {}", told.text());
        let after_ms = scene.moved_after_ms(&told);
        assert!(after_ms <= 5_000, "{name}: after {after_ms} ms");
    }
}

/// Rule 3: while nodes have not settled a rescue waits at most 5 s.
#[test]
fn rule_3_a_rescue_waits_at_most_five_seconds_for_nodes_that_do_not_settle() {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "policy", "fall=20 rise=20 fast=1s");
    scene.stop_node(A);
    let told = scene.sweep();
    assert_eq!(scene.holder(0), "B");
    let after_ms = scene.moved_after_ms(&told);
    assert!((1_000..=5_000).contains(&after_ms), "{after_ms} ms; {}", scene.says(&told, 0));
}

/// Rule 3: the same where nobody holds it, and where nothing but that time has it looked at again.
#[test]
fn rule_3_a_rescue_of_nobodys_address_waits_at_most_five_seconds() {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "policy", "fall=20 rise=20 fast=1s");
    scene.by_hand(0, None);
    let told = scene.sweep();
    assert!(scene.moved_after_ms(&told) <= 5_100, "{} ms", scene.moved_after_ms(&told));
    // B's heartbeat is to be looked at for a second time after 6 s.
    let mut scene = Scene::beating(2, "heartbeat");
    scene.agent(B).alive = false;
    scene.pass(300_000);
    scene.stop_node(A);
    let told = scene.sweep();
    scene.ends(&told, "move last-resort to B", "B");
    assert_eq!(scene.moved_after_ms(&told), 5_000);
}

/// Rule 3: the same where the address sits on an interface that is attached to nothing: counted from when that counts.
#[test]
fn rule_3_a_rescue_from_a_loose_interface_waits_at_most_five_seconds() {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "policy", "fall=20 rise=20 fast=1s");
    scene.loose(0);
    let told = scene.sweep();
    let after_ms = scene.moved_after_ms(&told);
    assert!((15_000..=15_500).contains(&after_ms), "{after_ms} ms; {}", scene.says(&told, 0));
}

/// Rule 3: when all nodes fail at once the address stays, in every form of blindness.
#[test]
fn rule_3_blindness_moves_nothing() {
    for behaviour in [Behaviour::Silent, Behaviour::Hang, Behaviour::Refuse, Behaviour::Status(503)] {
        let mut scene = Scene::seasoned(1, 3);
        for node in [A, B, C] {
            scene.service(node, behaviour);
        }
        let told = scene.watch(30);
        scene.ends(&told, "stay no-candidate", "A");
        assert!(told.report.ok, "{behaviour:?}");
    }
}

/// Rule 4: neither the brake, nor settling, nor `stable`, nor failing status checks hold back a rescue in `auto` mode.
#[test]
fn rule_4_nothing_holds_back_a_rescue() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "max_moves=1 stable=1h");
    scene.refuse(A);
    scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    scene.serve(A);
    // Within the settling of 30 s and with the brake on.
    scene.stop_node(B);
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeInstanceStatus));
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::CreateTags));
    let told = scene.sweep();
    scene.ends(&told, "move holder-gone to A", "A");
}

/// Rule 4: nor does it wait for nodes to be read again while EC2 answers nothing of them, refusing or silent, their tags or not even these.
#[test]
fn rule_4_a_rescue_waits_for_no_answer_about_nodes() {
    let faults = [Rule::error("RequestLimitExceeded"), Rule::error("InternalError"), Rule::new(Fault::LostRequest)];
    for (fault, tags) in faults.iter().flat_map(|fault| [(fault, false), (fault, true)]) {
        let mut scene = Scene::pair();
        let from_ms = scene.epoch_ms() + 7_000;
        let fault = fault.clone().on(Api::DescribeInstances);
        let told_nothing = if tags { fault } else { fault.on(Api::DescribeTags) };
        scene.ec2.faults_mut().push(told_nothing.clone().between(from_ms, u64::MAX));
        scene.after(31_000, |scene| scene.by_hand(0, None));
        let told = scene.watch(50);
        scene.ends(&told, "move no-holder to A", "A");
        let moved_ms = scene.moved_after_ms(&told);
        assert!(moved_ms <= 36_000, "{:?}: {moved_ms} ms", told_nothing.fault);
    }
}

/// Rule 5: with the moves used up, a move off an unhealthy holder waits until both have been so for `stable`.
#[test]
fn rule_5_the_brake_waits_for_stable_evidence() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "max_moves=1 window=1h stable=30s");
    scene.refuse(A);
    scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    scene.pass(60_000);
    scene.serve(A);
    scene.season();
    scene.refuse(B);
    let told = scene.watch(55);
    assert_eq!(scene.says(&told, 0), "move holder-unhealthy to A");
    assert!(scene.decided(told.handle).contains(&"blocked max-moves".to_owned()), "{:?}", scene.decided(told.handle));
    let moved_ms = scene.moved_after_ms(&told);
    assert!((30_000..=33_500).contains(&moved_ms), "{moved_ms} ms");
}

/// Rule 5: the reason names as many moves as there were within the window.
#[test]
fn rule_5_it_is_said_how_many_moves_there_were() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "max_moves=2 window=1h stable=30m");
    let (a, since) = (scene.node(A), scene.time_in(-60));
    let moves: Vec<String> = [-7_200, -300, -120, -60].map(|seconds| scene.time_in(seconds)).to_vec();
    let state = format!("holder={a} since={since} from=none why=failback moves={}", moves.join("/"));
    scene.tag_address(0, "state", &state);
    scene.refuse(A);
    let told = scene.sweep();
    scene.ends(&told, "blocked max-moves", "A");
    assert!(told.text().contains("has moved 3 times within 1h"), "{}", told.text());
}

/// Rule 5: a break in the evidence begins `stable` anew.
#[test]
fn rule_5_a_break_in_the_evidence_begins_stable_anew() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "max_moves=1 window=1h stable=30s rise=5");
    scene.refuse(A);
    scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    scene.pass(60_000);
    scene.serve(A);
    scene.season();
    scene.refuse(B);
    // A probe or two of the holder pass after 20 s: too few to mend its verdict.
    scene.after(20_000, |scene| scene.serve(B));
    scene.after(21_000, |scene| scene.refuse(B));
    let told = scene.watch(55);
    assert_eq!(scene.says(&told, 0), "move holder-unhealthy to A", "{}", told.text());
    let moved_ms = scene.moved_after_ms(&told);
    assert!(moved_ms >= 50_000, "{moved_ms} ms");
}

/// Rule 5: `move` ends the brake early; leaving and drain are neither held nor counted.
#[test]
fn rule_5_a_command_ends_the_brake_and_drain_passes_it() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "max_moves=1 stable=1h");
    scene.refuse(A);
    scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    scene.pass(40_000);
    scene.serve(A);
    scene.season();
    // Drained, it goes though the moves are used up, and the drain is not counted.
    scene.tag_node(B, "mode", "drain");
    scene.expect("move holder-draining to A", &["associate A", "tag state 0"], "A");
    assert_eq!(scene.address_tag(0, "state").matches("Z").count(), 2, "since and one move");
    scene.tag_node(B, "mode", "active");
    scene.pass(40_000);
    scene.refuse(A);
    let told = scene.sweep();
    assert_eq!(scene.says(&told, 0), "blocked max-moves");
    let told = scene.send(&json!({"action": "move"}));
    scene.ends(&told, "move manual to B", "B");
    // From now on it is free again.
    scene.pass(40_000);
    scene.serve(A);
    scene.season();
    scene.refuse(B);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to A", "A");
}

/// Rule 5: within one invocation the brake holds even where its memory is lost each time, and where somebody has edited the state to a time
/// to come.
#[test]
fn rule_5_the_brake_holds_without_memory_within_an_invocation() {
    for edited in [false, true] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", "max_moves=2 window=1h stable=1h");
        if edited {
            scene.remember(0, A, Some(B), "holder-unhealthy", -300_000_000);
        }
        scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::CreateTags));
        // The holder is always the one that fails.
        for step in 0..20 {
            scene.after(2_000 + step * 5_000, |scene| {
                let (fails, serves) = if scene.holder(0) == "A" { (A, B) } else { (B, A) };
                scene.refuse(fails);
                scene.serve(serves);
            });
        }
        let told = scene.watch(100);
        assert_eq!(scene.world.moves(&scene.address(0)).len(), 2, "{edited}: {:?}", scene.decided(told.handle));
    }
}

/// Rule 5: the brake holds failbacks, too.
#[test]
fn rule_5_a_failback_waits_for_the_brake() {
    let mut scene = Scene::pair();
    scene.tag_node(A, "priority", "200");
    scene.tag_address(0, "policy", "failback=auto stable=5s max_moves=1");
    scene.refuse(A);
    scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    scene.serve(A);
    let told = scene.watch(30);
    scene.ends(&told, "blocked max-moves", "B");
    // That is no failure of the command that found it so.
    let told = scene.send(&json!({"action": "sweep"}));
    assert!(told.report.ok && scene.says(&told, 0) == "blocked max-moves", "{:?}", told.report.error);
}

/// Rule 5: the brake ends when its text says so, not with the next reading.
#[test]
fn rule_5_the_brake_ends_on_time() {
    for failback in [false, true] {
        // Heartbeats alone: nothing but readings every 5 s would have it looked at again.
        let mut scene = Scene::beating(2, "heartbeat");
        scene.agent(A).alive = failback;
        scene.pass(30_000);
        let policy = if failback { "failback=auto stable=20s" } else { "stable=10m" };
        scene.tag_address(0, "policy", &format!("{policy} max_moves=1 window=1m"));
        scene.tag_node(B, "priority", "200");
        let (a, b, moved) = (scene.node(A), scene.node(B), scene.time_in(-47));
        let since = scene.time_in(-600);
        let state = format!("holder={a} since={since} from={b} why=holder-unhealthy moves={moved}");
        scene.tag_address(0, "state", &state);
        let told = scene.watch(30);
        scene.ends(&told, if failback { "move failback to B" } else { "move holder-unhealthy to B" }, "B");
        let moved_ms = scene.moved_after_ms(&told);
        assert_eq!(moved_ms, 13_000);
    }
}

/// Rule 5: moves that are older than the window do not count.
#[test]
fn rule_5_old_moves_do_not_count() {
    for (pass_ms, says) in [(20_000, "blocked max-moves"), (70_000, "move holder-unhealthy to A")] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", "max_moves=1 window=1m stable=1h");
        scene.refuse(A);
        scene.sweep();
        scene.serve(A);
        scene.pass(pass_ms);
        scene.refuse(B);
        let told = scene.sweep();
        assert_eq!(scene.says(&told, 0), says);
    }
}

/// Rules 5 and 7: what others moved counts for the brake.
#[test]
fn rule_5_moves_by_others_count() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "max_moves=1 window=1h stable=1h");
    scene.send(&json!({"action": "move"}));
    scene.pass(40_000);
    scene.by_hand(0, Some(A));
    scene.sweep();
    scene.refuse(A);
    let told = scene.sweep();
    scene.ends(&told, "blocked max-moves", "A");
}

/// Rule 5: the target has to pass for `stable` without a break, too.
#[test]
fn rule_5_a_break_of_the_target_begins_stable_anew() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "max_moves=1 window=1h stable=30s");
    scene.refuse(A);
    scene.sweep();
    scene.pass(60_000);
    scene.serve(A);
    scene.season();
    scene.refuse(B);
    // One probe of the target fails after 20 s.
    scene.after(20_000, |scene| scene.refuse(A));
    scene.after(21_000, |scene| scene.serve(A));
    let told = scene.watch(55);
    assert_eq!(scene.says(&told, 0), "move holder-unhealthy to A", "{}", told.text());
    let moved_ms = scene.moved_after_ms(&told);
    assert!(moved_ms >= 50_000, "{moved_ms} ms");
}

/// Rule 6: a private address that another Elastic IP took since the last reading is not taken from it.
#[test]
fn rule_6_no_elastic_ip_is_displaced() {
    let mut scene = Scene::pair();
    scene.another_address();
    scene.refuse(A);
    scene.after(200, |scene| scene.by_hand(1, Some(B)));
    let told = scene.watch(20);
    assert_eq!((scene.ec2.displacements().count(), scene.holder(1)), (0, "B".to_owned()));
    scene.ends(&told, "blocked no-free-private-address", "A");
}

/// Rule 6: nor one that has just come to the target, while readings still show it where it was.
#[test]
fn rule_6_what_has_just_come_to_a_node_is_not_displaced_by_an_old_reading() {
    let mut scene = Scene::new(1, 3);
    scene.add_address_of("web", &[], false);
    scene.by_hand(1, Some(C));
    scene.season();
    scene.refuse(A);
    scene.season();
    assert_eq!((scene.holder(0), scene.holder(1)), ("B".to_owned(), "C".to_owned()));
    scene.remember(0, B, Some(A), "holder-unhealthy", 2);
    scene.tag_address(0, "mode", "auto");
    let (a, now_ms) = (scene.address(0), scene.epoch_ms());
    // Another watch has made that move 2 s ago.
    scene.by_hand(0, Some(A));
    scene.pass(2_000);
    scene.by_hand(0, Some(B));
    scene.remember(0, B, Some(A), "holder-unhealthy", 0);
    scene.pass(1_500);
    scene.stop_node(C);
    let stale = Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 3_000 });
    scene.ec2.faults_mut().push(stale.between(now_ms, now_ms + 9_000));
    scene.sweep();
    assert_eq!(scene.ec2.displacements().count(), 0, "{:?}", scene.ec2.association(&a));
    assert_eq!(scene.holder(0), "B");
}

/// Rule 6: the target is read again before the move even where everything happens within the age that a reading may have.
#[test]
fn rule_6_the_target_is_read_again_however_fast_it_goes() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "fall=1 rise=1 fast=50ms");
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 100, max_ms: 100 }).on(Api::DescribeAddresses));
    scene.another_address();
    scene.refuse(A);
    // EC2 has answered the first reading by then, and the answer is on its way.
    scene.after(70, |scene| scene.by_hand(1, Some(B)));
    let told = scene.sweep();
    assert_eq!((scene.ec2.displacements().count(), scene.holder(0)), (0, "A".to_owned()), "{:?}", told.calls);
    assert_eq!(scene.says(&told, 0), "blocked no-free-private-address");
}

/// Rule 6: nor by watches that race to bring back to one node what has just come there: each would displace the other's.
#[test]
fn rule_6_what_has_just_come_and_is_shown_nowhere_is_read_once_more() {
    // Addresses are read at once; what is decided waits for the nodes, and meanwhile another watch brings the second to the first's place.
    let mut scene = Scene::seasoned(2, 1);
    scene.by_hand(1, None);
    scene.remember(1, A, None, "no-holder", 2);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 400, max_ms: 400 }).on(Api::DescribeInstances));
    scene.after(100, |scene| scene.by_hand(1, Some(A)));
    let told = scene.sweep();
    assert_eq!((scene.holder(0), scene.holder(1)), ("A".to_owned(), "A".to_owned()));
    let moves: Vec<_> = told.calls.iter().filter(|call| call.starts_with("associate")).collect();
    assert_eq!(moves, ["associate A"], "the first, to the second's place");
}

/// But a record of a minute ago, or of a time to come, which nobody of ours has written, holds up no rescue.
#[test]
fn rule_6_what_came_long_ago_is_not_read_once_more() {
    for (seconds_ago, moved_ms) in [(59, 400), (61, 300), (-1_000_000_000, 300)] {
        let mut scene = Scene::seasoned(1, 1);
        scene.by_hand(0, None);
        scene.remember(0, A, None, "no-holder", seconds_ago);
        scene.ec2.faults_mut().extend([
            Rule::new(Fault::Latency { min_ms: 300, max_ms: 300 }).on(Api::DescribeInstances),
            Rule::new(Fault::Latency { min_ms: 100, max_ms: 100 }).on(Api::DescribeAddresses),
        ]);
        let told = scene.sweep();
        assert_eq!((scene.holder(0), scene.moved_after_ms(&told)), ("A".to_owned(), moved_ms), "{seconds_ago}");
    }
}

/// Rule 6: of two private addresses the free one is taken.
#[test]
fn rule_6_a_free_secondary_address_is_used() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    let spare = scene.add_private_ip(&b).expect("a second address");
    scene.another_address();
    scene.by_hand(1, Some(B));
    scene.refuse(A);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
    let at = scene.ec2.association(&scene.address(0)).map(|at| at.private_ip);
    assert_eq!((at, scene.ec2.displacements().count()), (Some(spare), 0));
}

/// Rule 7: a move that somebody made within the cluster is adopted, recorded as `external` and counted; nothing is moved.
#[test]
fn rule_7_what_others_moved_is_adopted_and_counted() {
    let mut scene = Scene::pair();
    scene.send(&json!({"action": "move"}));
    scene.pass(40_000);
    scene.by_hand(0, Some(A));
    let told = scene.expect("stay healthy", &["tag state 0"], "A");
    let state = scene.address_tag(0, "state");
    let (a, b) = (scene.node(A), scene.node(B));
    assert!(state.starts_with(&format!("holder={a} since=")), "{state}");
    assert!(state.contains(&format!(" from={b} why=external moves=2026-")), "{state}");
    assert!(told.report.ok);
    scene.expect("stay healthy", &[], "A");
}

/// Rule 7: where nothing is remembered, what is found is taken as it is, and nothing recorded.
#[test]
fn rule_7_without_memory_nothing_is_recorded() {
    let mut scene = Scene::pair();
    scene.by_hand(0, Some(B));
    scene.expect("stay healthy", &[], "B");
    assert_eq!(scene.address_tag(0, "state"), "");
}

/// Rules 7 and 9: what one invocation sees moved by others is remembered, too, where no tag said who held it before.
#[test]
fn rule_7_what_others_move_before_our_eyes_is_adopted_and_stays() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "failback=auto stable=5s");
    scene.tag_node(A, "priority", "200");
    scene.after(10_000, |scene| scene.by_hand(0, Some(B)));
    let told = scene.watch(50);
    scene.ends(&told, "stay healthy", "B");
    let (a, b, state) = (scene.node(A), scene.node(B), scene.address_tag(0, "state"));
    assert!(state.starts_with(&format!("holder={b} since=")), "{state}");
    assert!(state.contains(&format!(" from={a} why=external moves=2026-")), "{state}");
    assert_eq!(told.calls, ["tag state 0"]);
}

/// Rule 7: a NAT gateway's interface is an outsider: left alone and reported, whatever becomes of the nodes.
#[test]
fn rule_7_a_nat_gateway_is_left_alone() {
    let mut scene = Scene::pair();
    let nat = scene.ec2.nat_gateway_interface();
    scene.onto(0, &nat);
    let told = scene.expect("stay outsider", &[], &nat);
    told.problem("nat_gateway");
    assert_eq!(told.address(0).holder, None);
    let asked = scene.ec2.pages(Api::DescribeNetworkInterfaces);
    assert_eq!(asked, 1, "asked only when it matters");
    let told = scene.send(&json!({"action": "move"}));
    assert_eq!(scene.says(&told, 0), "blocked refused");
}

/// Rule 7: the same where it may not be asked what it is; that is said, and no sweep waits for it.
#[test]
fn rule_7_an_interface_that_may_not_be_read_is_left_alone() {
    let mut scene = Scene::pair();
    let nat = scene.ec2.nat_gateway_interface();
    scene.onto(0, &nat);
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::DescribeNetworkInterfaces));
    let told = scene.expect("stay outsider", &[], &nat);
    assert!(told.took_ms() < 10_000, "{} ms", told.took_ms());
    assert!(told.text().contains("ec2:DescribeNetworkInterfaces"), "{}", told.text());
    told.problem("DescribeNetworkInterfaces failed");
}

/// Rule 5: a move that EC2 accepted and never showed counts if the address has left its holder: somebody may have undone it.
#[test]
fn rule_5_a_move_that_was_undone_before_it_was_seen_counts() {
    let mut scene = Scene::pair();
    let until_ms = scene.epoch_ms() + 9_000;
    scene.ec2.faults_mut().push(Rule::new(Fault::Hollow).on(Api::AssociateAddress).between(0, until_ms));
    scene.refuse(A);
    scene.after(8_000, |scene| scene.by_hand(0, None));
    let told = scene.watch(40);
    scene.ends(&told, "move no-holder to B", "B");
    let error = told.address(0).moves.first().and_then(|made| made.error.clone()).unwrap_or_default();
    assert!(error.contains("shows nobody as the holder") && error.contains("the brake (max_moves) counts"), "{error}");
    // The rescue itself counts for nothing.
    let state = scene.address_tag(0, "state");
    let counted = state.split("moves=").nth(1).map(|times| times.matches('Z').count());
    assert_eq!(counted, Some(1), "{state}");
}

/// Rules 6 and 7: a NAT gateway that gets the address while it is being moved keeps it: the move is given up, and is no failure.
#[test]
fn rule_7_a_nat_gateway_that_gets_the_address_during_a_move_keeps_it() {
    let throttled = Rule::error("RequestLimitExceeded").fault;
    let late = Fault::Latency { min_ms: 1_000, max_ms: 1_000 };
    for (fault, from) in [
        (late, Some(A)),
        (throttled, Some(A)),
        (Fault::LostRequest, Some(A)),
        (Fault::LostRequest, None),
        (Fault::Hollow, None),
    ] {
        let mut scene = Scene::pair();
        let nat = scene.ec2.nat_gateway_interface();
        scene.ec2.faults_mut().push(Rule::new(fault.clone()).on(Api::AssociateAddress));
        match from {
            Some(node) => scene.refuse(node),
            None => scene.by_hand(0, None),
        }
        let holds = nat.clone();
        scene.after(1_800, move |scene| scene.onto(0, &holds));
        let told = scene.watch(30);
        let what = format!("{fault:?} {from:?}: {:?} {:?}", scene.decided(told.handle), told.report.error);
        assert_eq!(
            (scene.says(&told, 0), scene.holder(0)),
            ("stay moved-elsewhere".to_owned(), nat.to_string()),
            "{what}"
        );
        assert!(told.report.ok, "{what}");
        let sent = scene.calls_to(Api::AssociateAddress, &told);
        assert!(sent.iter().all(|at_ms| *at_ms < 1_800), "{what}: {sent:?}");
        assert_eq!(scene.ec2.displacements().count(), 0);
    }
}

/// Rule 7: a holder that only lost its cluster tag is still watched, and left when it fails.
#[test]
fn rule_7_a_holder_without_its_tag_is_watched_and_left_when_it_fails() {
    let mut scene = Scene::pair();
    scene.send(&json!({"action": "move"}));
    scene.pass(40_000);
    scene.untag_node(B, "cluster");
    let told = scene.expect("stay healthy", &[], "B");
    told.problem("lost its tag");
    assert!(!told.node(B).candidate);
    scene.refuse(B);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to A", "A");
}

/// Rule 7: of a holder that lost its cluster tag an event of an earlier life says nothing, though it has not been described yet.
#[test]
fn rule_7_an_event_of_an_earlier_life_moves_nothing_off_a_holder_without_its_tag() {
    let mut scene = Scene::pair();
    scene.send(&json!({"action": "move"}));
    let stopped_ms = scene.now_ms();
    scene.stop_node(B);
    scene.pass(30_000);
    scene.start_node(B);
    scene.pass(20_000);
    scene.untag_node(B, "cluster");
    let told = scene.send(&state_event(&scene.node(B), State::Stopped, stopped_ms + 2_000));
    scene.ends(&told, "stay healthy", "B");
    assert_eq!(scene.been(), [Some(B)], "as the command moved it");
}

/// Rule 7: whom the state of one of a cluster's addresses names has been its node, for all of them, in whatever order.
#[test]
fn rule_7_whom_one_address_remembers_is_no_outsider_to_another() {
    for remembers in [0, 1] {
        let mut scene = Scene::new(2, 2);
        scene.remember(remembers, A, None, "no-holder", 600);
        scene.untag_node(A, "cluster");
        scene.refuse(A);
        scene.sweep();
        assert_eq!((scene.holder(0), scene.holder(1)), ("B".to_owned(), "B".to_owned()), "{remembers}");
    }
}

/// Rule 2: a holder that lost its cluster tag is asked for by id; while that does not show it, its heartbeat has not stopped: it was not read.
#[test]
fn rule_2_a_heartbeat_that_was_not_read_has_not_stopped() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.remember(0, A, None, "no-holder", 600);
    let epoch_ms = scene.epoch_ms();
    scene.after(10_000, |scene| scene.untag_node(A, "cluster"));
    let rule = Rule::new(Fault::Omit(scene.node(A)));
    scene.ec2.faults_mut().push(rule.between(epoch_ms + 20_000, epoch_ms + 50_000));
    scene.watch(55);
    assert_eq!(scene.holder(0), "A");
    scene.unmoved();
}

/// Rule 7: an interface that is attached to nothing, seen twice 10 s apart, is a holder that is gone.
#[test]
fn rule_7_a_loose_interface_is_gone_after_ten_seconds() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    let nic = scene.loose(0);
    let attachment = scene.ec2.interfaces_of(&nic).next().map(|nic| nic.attachment.clone());
    assert_eq!(attachment, Some(Attachment::None));
    let told = scene.sweep();
    scene.ends(&told, "move holder-gone to A", "A");
    let moved_ms = scene.moved_after_ms(&told);
    assert!((10_000..12_000).contains(&moved_ms), "{moved_ms} ms");
    // Asked what it is once, and once more.
    assert_eq!(scene.calls_to(Api::DescribeNetworkInterfaces, &told), [0, 10_000]);
}

/// Rule 7: after the 10 s the address is read once more beside its interface, and no further time, though nothing is moved by itself.
#[test]
fn rule_7_what_sits_on_a_loose_interface_is_read_once_more_too() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "mode", "manual");
    let nic = scene.loose(0);
    let told = scene.sweep();
    scene.ends(&told, "stay manual-mode (move holder-gone to A)", &nic);
    for api in [Api::DescribeAddresses, Api::DescribeNetworkInterfaces] {
        assert_eq!(scene.calls_to(api, &told), [0, 10_000], "{api:?}");
    }
}

/// Rule 7: an interface that EC2 shows with an address, but does not know, is asked for once a second.
#[test]
fn rule_7_an_interface_that_is_not_shown_is_asked_for_at_a_pace_and_left_alone_after_ten_seconds() {
    let mut scene = Scene::pair();
    scene.world.time_limit_ms = 20_000;
    let nic = scene.loose(0);
    scene.ec2.faults_mut().push(Rule::new(Fault::Omit(nic.clone())).on(Api::DescribeNetworkInterfaces));
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 20, max_ms: 20 }));
    let told = scene.sweep();
    let asked = scene.calls_to(Api::DescribeNetworkInterfaces, &told).len();
    assert!((10..=21).contains(&asked), "{asked}");
    // What EC2 tells nothing of for 10 s is left alone: no sweep waits for it to its deadline.
    scene.ends(&told, "stay outsider", &nic);
    assert!((10_000..11_000).contains(&told.took_ms()), "{}", told.took_ms());
}

/// Rule 7: an interface that EC2 knows no more, while it still shows the address on it: both are asked for once a second.
#[test]
fn rule_7_an_interface_that_is_shown_no_more_is_asked_for_at_a_pace() {
    let mut scene = Scene::pair();
    scene.world.time_limit_ms = 15_000;
    let (nic, epoch_ms) = (scene.loose(0), scene.epoch_ms());
    let omitted = Rule::new(Fault::Omit(nic)).on(Api::DescribeNetworkInterfaces);
    scene.ec2.faults_mut().push(omitted.between(epoch_ms + 2_000, u64::MAX));
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 20, max_ms: 20 }));
    let told = scene.sweep();
    for api in [Api::DescribeAddresses, Api::DescribeNetworkInterfaces] {
        let asked = scene.calls_to(api, &told);
        let apart = asked.windows(2).all(|two| two[1] - two[0] >= 1_000);
        assert!(apart && asked.len() >= 5, "{api:?}: {asked:?}");
    }
}

/// Rule 12: what an interface is is asked until it is told, where EC2 only does not answer.
#[test]
fn rule_12_an_interface_that_cannot_be_read_for_a_while_is_asked_for_until_it_is() {
    let mut scene = Scene::pair();
    let nic = scene.loose(0);
    let epoch_ms = scene.epoch_ms();
    let omitted = Rule::new(Fault::Omit(nic)).on(Api::DescribeNetworkInterfaces);
    let throttled = Rule::error("RequestLimitExceeded").on(Api::DescribeNetworkInterfaces);
    let throttled = throttled.between(epoch_ms + 500, epoch_ms + 13_000);
    scene.ec2.faults_mut().extend([omitted.between(0, epoch_ms + 500), throttled]);
    scene.sweep();
    assert_eq!(scene.holder(0), "A");
}

/// Rule 4: an interface that is no more when it is asked about hides no address that nobody holds.
#[test]
fn rule_4_an_interface_that_is_gone_holds_back_no_rescue() {
    for known_first in [false, true] {
        let mut scene = Scene::pair();
        let nic = scene.loose(0);
        let from_ms = scene.epoch_ms() + if known_first { 2_000 } else { 0 };
        let omitted = Rule::new(Fault::Omit(nic)).on(Api::DescribeNetworkInterfaces);
        scene.ec2.faults_mut().push(omitted.between(from_ms, u64::MAX));
        if known_first {
            let old = Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 8_000 }).on(Api::DescribeAddresses);
            let epoch_ms = scene.epoch_ms();
            scene.ec2.faults_mut().push(old.between(epoch_ms + 9_900, epoch_ms + 10_100));
        }
        scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 20, max_ms: 20 }));
        scene.after(if known_first { 9_500 } else { 2_500 }, |scene| scene.by_hand(0, None));
        let told = scene.sweep();
        assert!(scene.holder(0) == "A" && told.took_ms() < 14_000, "{known_first}: {} ms", told.took_ms());
    }
}

/// Rule 7: an interface that is attached again within the 10 s is not gone.
#[test]
fn rule_7_an_interface_that_is_attached_again_keeps_its_address() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    let nic = scene.loose(0);
    scene.after(5_000, move |scene| {
        let (a, now_ms) = (scene.node(A), scene.epoch_ms());
        assert!(scene.ec2.attach_interface(&nic, &a, 1, now_ms));
    });
    let told = scene.watch(30);
    assert!(!told.calls.iter().any(|call| call.starts_with("associate")), "{:?}", told.calls);
    assert_eq!(scene.holder(0), "A");
}

/// Rule 7: the 10 s begin anew for an interface that was attached to a node since.
#[test]
fn rule_7_an_interface_that_is_detached_a_second_time_is_seen_for_the_first_time() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    let nic = scene.loose(0);
    let (again, once_more) = (nic.clone(), nic);
    scene.after(4_000, move |scene| {
        let (a, now_ms) = (scene.node(A), scene.epoch_ms());
        assert!(scene.ec2.attach_interface(&again, &a, 1, now_ms));
    });
    scene.after(30_000, move |scene| scene.world.detach(&once_more));
    let told = scene.watch(55);
    scene.ends(&told, "move holder-gone to A", "A");
    let moved_ms = scene.moved_after_ms(&told);
    assert!((40_000..47_000).contains(&moved_ms), "{moved_ms} ms");
}

/// Rule 7, rule 4: an interface of something else that is let go of during a watch is no outsider's any more.
#[test]
fn rule_7_an_interface_that_is_let_go_of_is_rescued_from_in_the_same_watch() {
    let mut scene = Scene::pair();
    let nat = scene.ec2.nat_gateway_interface();
    let nic = scene.loose(0);
    let stranger = scene.ec2.add_instance(InstanceSpec::default());
    scene.pass(10_000);
    // As long as its instance is not told it is in use by something else.
    scene.onto(0, &nat);
    scene.after(3_000, move |scene| {
        scene.onto(0, &nic);
        let now_ms = scene.epoch_ms();
        assert!(scene.ec2.attach_interface(&nic, &stranger, 1, now_ms));
        scene.world.detach(&nic);
    });
    let told = scene.watch(55);
    scene.ends(&told, "move holder-gone to A", "A");
    let moved_ms = scene.moved_after_ms(&told);
    assert!(moved_ms < 50_000, "{moved_ms} ms");
}

/// Rule 7, rule 12: an interface that may not be read is asked for again every 10 s in a watch, in case that changes.
#[test]
fn rule_7_an_interface_that_may_be_read_at_last_is_rescued_from_in_the_same_watch() {
    let mut scene = Scene::pair();
    scene.loose(0);
    let denied = Rule::error("UnauthorizedOperation").on(Api::DescribeNetworkInterfaces);
    let until_ms = scene.epoch_ms() + 15_000;
    scene.ec2.faults_mut().push(denied.between(0, until_ms));
    let told = scene.watch(55);
    scene.ends(&told, "move holder-gone to A", "A");
    assert_eq!(scene.calls_to(Api::DescribeNetworkInterfaces, &told), [0, 10_000, 20_000, 30_000]);
    assert!(scene.moved_after_ms(&told) < 31_000, "{} ms", scene.moved_after_ms(&told));
}

/// Rule 7: an interface that was in use by something else when it was read is read again after 30 s: it may have been let go of.
#[test]
fn rule_7_what_was_read_of_an_outsiders_interface_is_believed_for_thirty_seconds() {
    let mut scene = Scene::pair();
    let nic = scene.loose(0);
    let stranger = scene.ec2.add_instance(InstanceSpec::default());
    scene.pass(10_000);
    // EC2 looks after 500 ms, and shows it in use; addresses, read before and after that, show it with no instance.
    let epoch_ms = scene.epoch_ms();
    let slow = Rule::new(Fault::Latency { min_ms: 1_000, max_ms: 1_000 }).on(Api::DescribeNetworkInterfaces);
    scene.ec2.faults_mut().push(slow.between(epoch_ms, epoch_ms + 500));
    let again = nic.clone();
    scene.after(200, move |scene| {
        let now_ms = scene.epoch_ms();
        assert!(scene.ec2.attach_interface(&nic, &stranger, 1, now_ms));
    });
    scene.after(1_500, move |scene| scene.world.detach(&again));
    let told = scene.watch(55);
    let decided = scene.decided(told.handle);
    assert!(decided.contains(&"stay outsider".to_owned()), "{decided:?}");
    scene.ends(&told, "move holder-gone to A", "A");
    assert_eq!(scene.calls_to(Api::DescribeNetworkInterfaces, &told), [500, 31_000, 41_000]);
    assert!(scene.moved_after_ms(&told) < 42_000, "{} ms", scene.moved_after_ms(&told));
}

/// Rule 8: events delivered twice, late and at once move once, and the calls agree on the target.
#[test]
fn rule_8_whatever_is_delivered_twice_moves_once() {
    let mut scene = Scene::seasoned(1, 3);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 5, max_ms: 300 }));
    let a = scene.node(A);
    scene.stop_node(A);
    let now_ms = scene.now_ms();
    for delay_ms in [0, 0, 40, 90, 700, 20_000] {
        let event = state_event(&a, State::Stopping, now_ms);
        scene.invoke(&event, now_ms + delay_ms);
    }
    scene.scheduled(now_ms + 10);
    scene.run();
    assert_eq!(scene.world.moves(&scene.address(0)).len(), 1);
    assert_eq!(scene.holder(0), "B");
    for handle in 1..=7 {
        assert!(scene.answer(handle).ok, "{handle}: {:?}", scene.answer(handle).error);
    }
}

/// Rule 5: a move that several watches make at the same time is one to the brake, whoever writes it down.
#[test]
fn rule_5_a_move_that_watches_make_at_once_counts_once() {
    let mut raced = 0;
    for seed in 0..20 {
        let mut scene = Scene::of_seed(seed, 3);
        scene.season();
        scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 200, max_ms: 900 }));
        scene.world.settings.watch = std::time::Duration::from_secs(30);
        let now_ms = scene.now_ms();
        for delay_ms in [0, 50, 100] {
            scene.scheduled(now_ms + delay_ms);
        }
        scene.after(10_000, |scene| scene.refuse(A));
        scene.run();
        let state = scene.address_tag(0, "state");
        let (_, moves) = state.rsplit_once(" moves=").unwrap();
        assert!(
            state.contains("why=holder-unhealthy") && !moves.is_empty() && !moves.contains('/'),
            "seed {seed}: {state}"
        );
        raced += usize::from(scene.changes().iter().filter(|call| call.starts_with("associate")).count() > 1);
    }
    assert!(raced > 5, "{raced} races");
}

/// Rule 8: under stale reads racing invocations cause at most one move more than one alone would, and to a candidate.
#[test]
fn rule_8_racing_invocations_under_stale_reads_move_once_more_at_most() {
    for seed in 0..20 {
        let mut scene = Scene::of_seed(seed, 3);
        scene.season();
        scene.ec2.faults_mut().extend([
            Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 8_000 }),
            Rule::new(Fault::Stale { what: Shown::Tags, up_to_ms: 8_000 }),
            Rule::new(Fault::Latency { min_ms: 5, max_ms: 200 }),
        ]);
        scene.world.settings.watch = std::time::Duration::from_secs(55);
        let now_ms = scene.now_ms();
        for delay_ms in [0, 150, 900] {
            scene.scheduled(now_ms + delay_ms);
        }
        scene.after(10_000, |scene| scene.refuse(A));
        scene.run();
        let moves = scene.world.moves(&scene.address(0));
        assert!((1..=2).contains(&moves.len()), "seed {seed}: {moves:?}");
        assert!(moves.iter().all(|(_, to)| *to != Some(A)), "seed {seed}: {moves:?}");
    }
}

/// What speaks against a node at one time, and at another does not.
type Trouble = fn(&mut Scene, usize, bool);

fn planned(scene: &mut Scene, node: usize, is: bool) {
    if is { scene.schedule(node, "planned", 0, 3_600) } else { scene.unschedule(node) }
}

fn drained(scene: &mut Scene, node: usize, is: bool) {
    scene.tag_node(node, "mode", if is { "drain" } else { "active" });
}

fn alarmed(scene: &mut Scene, node: usize, is: bool) {
    scene.alarm(if is { AlarmState::Alarm } else { AlarmState::Ok }, &[node]);
}

fn impaired(scene: &mut Scene, node: usize, is: bool) {
    scene.status(node, CheckKind::Application, if is { Check::Impaired } else { Check::Ok });
}

/// Rule 8: watches that read nodes, their status checks and alarms at different times do not move an address to and fro: after a move
/// by others a node is read again before it is left.
#[test]
fn rule_8_watches_that_know_different_things_of_a_node_do_not_move_it_to_and_fro() {
    let troubles: [(&str, Trouble); 4] =
        [("planned", planned), ("drained", drained), ("alarmed", alarmed), ("impaired", impaired)];
    for (what, trouble) in troubles {
        let mut scene = Scene::pair();
        scene.tag_address(0, "check", "alarm:High.Load");
        scene.alarm(AlarmState::Ok, &[B]);
        trouble(&mut scene, B, true);
        scene.world.settings.watch = std::time::Duration::from_secs(25);
        let (now_ms, epoch_ms) = (scene.now_ms(), scene.epoch_ms());
        let first = scene.scheduled(now_ms);
        // It reads the address in its new place before the answer about the nodes is there.
        let slow = Rule::new(Fault::Latency { min_ms: 3_000, max_ms: 3_000 }).on(Api::DescribeInstances).by(first);
        scene.ec2.faults_mut().push(slow.between(epoch_ms + 4_000, u64::MAX));
        scene.pass(1_000);
        trouble(&mut scene, B, false);
        trouble(&mut scene, A, true);
        scene.scheduled(now_ms + 2_000);
        scene.run();
        assert_eq!(scene.been(), [Some(B)], "{what}");
    }
}

/// Rule 8: what was asked before a move by others and is answered after it is no reading after it.
#[test]
fn rule_8_what_was_asked_before_a_move_by_others_tells_nothing_of_the_time_after_it() {
    // With the second in which a watch asks: every 5 s, 30 s and 20 s.
    let cases: [(Api, u64, Trouble); 3] = [
        (Api::DescribeInstances, 5, drained),
        (Api::DescribeInstanceStatus, 30, planned),
        (Api::DescribeAlarms, 20, alarmed),
    ];
    for (api, asked_s, trouble) in cases {
        let mut scene = Scene::pair();
        scene.tag_address(0, "check", "alarm:High.Load");
        scene.alarm(AlarmState::Ok, &[B]);
        trouble(&mut scene, B, true);
        scene.world.settings.watch = std::time::Duration::from_secs(45);
        let (now_ms, epoch_ms, asked_ms) = (scene.now_ms(), scene.epoch_ms(), asked_s * 1_000);
        let first = scene.scheduled(now_ms);
        let slow = Rule::new(Fault::Latency { min_ms: 4_000, max_ms: 4_000 }).on(api).by(first);
        scene.ec2.faults_mut().push(slow.between(epoch_ms + asked_ms, u64::MAX));
        if api != Api::DescribeInstanceStatus {
            // Or status checks would be the oldest reading.
            scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::DescribeInstanceStatus));
        }
        // EC2 has looked after 2 s; the answer is on its way for as long.
        scene.after(asked_ms + 2_500, move |scene| {
            trouble(scene, B, false);
            trouble(scene, A, true);
        });
        scene.scheduled(now_ms + asked_ms + 3_000);
        scene.run();
        assert_eq!(scene.been(), [Some(B)], "{api:?}");
    }
}

/// Rule 8: a node that failed a watch's probes before the address came to it is asked once more before it is left: whoever moved it
/// there may have seen it recover.
#[test]
fn rule_8_a_node_that_failed_before_the_address_came_to_it_is_asked_once_more() {
    for recovers in [true, false] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", "interval=30s");
        scene.refuse(B);
        scene.after(14_900, move |scene| {
            if recovers {
                scene.serve(B);
            }
            scene.by_hand(0, Some(B));
        });
        scene.watch(25);
        let back = if recovers { None } else { Some(Some(A)) };
        assert_eq!(scene.been(), [Some(B)].into_iter().chain(back).collect::<Vec<_>>(), "recovers: {recovers}");
    }
}

/// Rule 8: what a watch has moved is recorded with its own reason, though another took it for a move by others meanwhile: a failback
/// goes by that.
#[test]
fn rule_8_who_adopts_a_move_before_it_is_on_record_does_not_hide_its_reason() {
    let cases = ["answer", "tag"].into_iter().flat_map(|late| [(late, "holder-gone"), (late, "holder-unhealthy")]);
    for (late, why) in cases {
        let mut scene = Scene::pair();
        scene.remember(0, A, None, "no-holder", 600);
        scene.world.settings.watch = std::time::Duration::from_secs(25);
        let (now_ms, epoch_ms, address) = (scene.now_ms(), scene.epoch_ms(), scene.address(0));
        if why == "holder-gone" {
            scene.stop_node(A);
        } else {
            scene.refuse(A);
        }
        let first = scene.scheduled(now_ms);
        let rule = match late {
            "answer" => Rule::new(Fault::LostAnswer).on(Api::AssociateAddress),
            _ => Rule::error("RequestLimitExceeded").on(Api::CreateTags).naming(&address),
        };
        scene.ec2.faults_mut().push(rule.by(first).between(0, epoch_ms + 5_000));
        scene.scheduled(now_ms + 1_500);
        scene.run();
        let state = scene.address_tag(0, "state");
        assert!(scene.holder(0) == "B" && state.contains(&format!("why={why} ")), "{late}: {state}");
        let (_, moves) = state.rsplit_once(" moves=").unwrap();
        assert!(!moves.contains('/') && moves.is_empty() == (why == "holder-gone"), "a rescue is not counted: {state}");
    }
}

/// Rule 8: no planned move goes by nodes that were read long before it, not even while EC2 can describe only some of them: those are
/// searched for first.
#[test]
fn rule_8_nodes_are_read_again_before_a_planned_move_though_a_zone_fails() {
    for zone_fails in [false, true] {
        let mut scene = Scene::seasoned(1, 3);
        scene.tag_address(0, "policy", "fast=1s fall=8");
        scene.refuse(A);
        if zone_fails {
            let from_ms = scene.epoch_ms() + 1_000;
            let unnamed = Rule::new(Fault::Zone { zone: "elsewhere".to_owned(), unnamed: true });
            scene.ec2.faults_mut().push(unnamed.on(Api::DescribeInstances).between(from_ms, u64::MAX));
        }
        // A sweep reads its nodes once, and takes 7 s to find out that the holder fails.
        scene.after(3_000, |scene| scene.tag_node(B, "mode", "drain"));
        scene.sweep();
        assert_eq!(scene.been(), [Some(C)], "zone fails: {zone_fails}");
    }
}

/// Rule 8: nor does one go along with a rescue that does not wait for that.
#[test]
fn rule_8_a_planned_move_waits_for_its_nodes_though_a_rescue_beside_it_does_not() {
    let mut scene = Scene::seasoned(2, 4);
    scene.by_hand(1, Some(B));
    scene.tag_address(0, "policy", "fast=1s fall=8");
    scene.refuse(B);
    let from_ms = scene.epoch_ms() + 1_000;
    let unnamed = Rule::new(Fault::Zone { zone: "elsewhere".to_owned(), unnamed: true });
    scene.ec2.faults_mut().push(unnamed.on(Api::DescribeInstances).between(from_ms, u64::MAX));
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 20, max_ms: 20 }));
    scene.after(3_000, |scene| scene.tag_node(C, "mode", "drain"));
    scene.after(6_900, |scene| scene.by_hand(0, None));
    scene.sweep();
    let been: Vec<_> = scene.world.moves(&scene.address(1)).into_iter().map(|(_, to)| to).collect();
    assert!(been.len() == 2 && !been.contains(&Some(C)), "{been:?}");
    assert_ne!(scene.holder(0), "none", "it is rescued");
}

/// Rule 8: nor is it left for what was read before a move that nobody has written down yet.
#[test]
fn rule_8_what_was_read_before_a_move_by_others_counts_no_more_before_it_is_on_record_either() {
    let mut scene = Scene::seasoned(2, 3);
    scene.remember(1, A, None, "no-holder", 600);
    scene.tag_node(B, "mode", "drain");
    // Nodes are read every 5 s. The other address's holder fails, and so addresses are read before that.
    scene.after(6_000, |scene| {
        scene.tag_node(B, "mode", "active");
        scene.by_hand(1, Some(B));
        scene.refuse(A);
    });
    scene.watch(9);
    let moves = scene.world.moves(&scene.address(1));
    assert_eq!(moves.into_iter().map(|(_, to)| to).collect::<Vec<_>>(), [Some(B)]);
}

/// Rule 8: who moves it on within the second of a watch's own move, and writes that down, is believed: tags have whole seconds.
#[test]
fn rule_8_of_two_moves_of_one_second_the_later_counts() {
    let mut scene = Scene::seasoned(1, 3);
    scene.tag_address(0, "policy", "failback=auto stable=0s");
    scene.tag_node(B, "priority", "200");
    scene.remember(0, A, Some(B), "holder-unhealthy", 600);
    scene.after(600, |scene| {
        assert_eq!(scene.holder(0), "B", "failed back meanwhile");
        scene.terminate_node(B);
        scene.by_hand(0, Some(A));
        scene.remember(0, A, Some(B), "holder-gone", 0);
    });
    scene.watch(50);
    assert_eq!(scene.been(), [Some(B), Some(A)]);
}

/// Rule 7: a move by others that nobody has written down ends with its address's place in the cluster: the sweep does not wait for it.
#[test]
fn an_address_that_leaves_the_cluster_is_not_waited_for() {
    let mut scene = Scene::seasoned(2, 2);
    scene.remember(1, A, None, "no-holder", 600);
    scene.by_hand(1, Some(B));
    let second = scene.address(1);
    scene.after(1_000, move |scene| scene.untag(&second, "cluster"));
    let told = scene.sweep();
    assert!((1_000..10_000).contains(&told.took_ms()), "after {} ms", told.took_ms());
}

/// Rule 1: a node that its status checks' answer leaves out is stopping: what was announced of it stands until its state was read.
#[test]
fn rule_1_a_leaving_node_that_has_no_status_any_more_is_no_candidate() {
    let mut scene = Scene::pair();
    scene.schedule(B, "planned", 0, 3_600);
    scene.refuse(A);
    // Status checks are read every 30 s, beside the nodes, and answered before them.
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 500, max_ms: 500 }).on(Api::DescribeInstances));
    // After a probe of it has passed, before the next.
    scene.after(29_800, |scene| scene.stop_node(B));
    let told = scene.watch(40);
    scene.ends(&told, "stay no-candidate", "A");
    scene.unmoved();
}

/// Rule 5: with `stable=0s` the brake holds back no move off a holder that fails, whatever its other checks say.
#[test]
fn rule_5_without_stable_a_wavering_holder_is_left() {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "check", "tcp:5432 http:8080/health");
    scene.tag_address(0, "policy", "max_moves=1 window=10m stable=0s");
    for n in [A, B] {
        let id = scene.node(n);
        scene.service_on(&id, 5_432, SERVES);
    }
    scene.season();
    let (a, b, since) = (scene.node(A), scene.node(B), scene.time_in(-60));
    scene.tag_address(0, "state", &format!("holder={a} since={since} from={b} why=holder-unhealthy moves={since}"));
    scene.service(A, Behaviour::Flap { up_ms: 500, down_ms: 500 });
    scene.service_on(&a, 5_432, Behaviour::Refuse);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 50, max_ms: 50 }));
    let told = scene.watch(20);
    assert_eq!(scene.been(), [Some(B)], "{}", told.text());
    assert!(scene.moved_after_ms(&told) < 5_000, "after {} ms", scene.moved_after_ms(&told));
}

/// Rule 7: a holder that a reading leaves out may be of the cluster no longer: whatever else is told of it, it keeps its address until the
/// next one shows that.
#[test]
fn rule_7_a_holder_that_one_reading_leaves_out_is_not_evicted() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 500, max_ms: 500 }).on(Api::DescribeInstances));
    scene.after(22_000, |scene| {
        scene.untag_node(A, "cluster");
        scene.schedule(A, "planned", 0, 3_600);
    });
    // Nodes are read every 5 s; status checks with every sixth, and answered before them.
    let told = scene.watch(40);
    scene.ends(&told, "stay outsider", "A");
    scene.unmoved();
}

/// Rule 7: of holders without their tag one that cannot be read hides no other.
#[test]
fn rule_7_a_holder_without_its_tag_that_cannot_be_read_hides_no_other() {
    let mut scene = Scene::seasoned(2, 3);
    scene.by_hand(1, Some(B));
    for address in 0..2 {
        scene.tag_address(address, "check", "ec2");
    }
    scene.remember(0, A, None, "no-holder", 600);
    scene.remember(1, B, None, "no-holder", 600);
    for n in [A, B] {
        scene.untag_node(n, "cluster");
    }
    scene.pass(60_000);
    let a = scene.node(A);
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeInstances).naming(&a));
    scene.after(7_000, |scene| scene.stop_node(B));
    scene.watch(30);
    assert_eq!((scene.holder(0), scene.holder(1)), ("A".to_owned(), "C".to_owned()));
}

/// Rule 5, rule 8: a move that the brake has held back is decided on what is read after that: watches that wait for the same moment choose
/// alike.
#[test]
fn rule_5_a_move_that_was_held_back_is_decided_on_a_new_reading() {
    for (readable, to) in [(true, C), (false, A)] {
        let mut scene = Scene::new(1, 3);
        scene.by_hand(0, Some(B));
        scene.tag_address(0, "policy", "max_moves=1 window=60s stable=10m");
        scene.tag_node(A, "priority", "200");
        scene.season();
        let (a, b, since) = (scene.node(A), scene.node(B), scene.time_in(-35));
        let state = format!("holder={b} since={since} from={a} why=holder-unhealthy moves={since}");
        scene.tag_address(0, "state", &state);
        scene.refuse(B);
        // Status checks are read every 30 s.
        scene.after(20_000, |scene| scene.schedule(A, "planned", 0, 3_600));
        if !readable {
            let from_ms = scene.epoch_ms() + 1_000;
            let unread = Rule::error("InternalError").on(Api::DescribeInstanceStatus);
            scene.ec2.faults_mut().push(unread.between(from_ms, u64::MAX));
        }
        let told = scene.watch(28);
        assert_eq!(scene.been(), [Some(B), Some(to)], "{}", told.text());
        let moved_ms = scene.moved_after_ms(&told);
        assert!((25_000..29_000).contains(&moved_ms), "after {moved_ms} ms");
    }
}

/// Rules 1 and 2: what nothing is urgent about is not done on what was read of the nodes long ago: the preferred one may have been stopped
/// since, or drained.
#[test]
fn rule_1_a_failback_waits_while_nodes_cannot_be_read() {
    for stops in [true, false] {
        let mut scene = Scene::pair();
        scene.by_hand(0, Some(B));
        scene.tag_address(0, "check", "ec2");
        scene.tag_address(0, "policy", "failback=auto stable=35s");
        scene.tag_node(A, "priority", "200");
        scene.remember(0, B, Some(A), "holder-unhealthy", 5);
        let from_ms = scene.epoch_ms() + 1_000;
        let unread = Rule::error("RequestLimitExceeded").on(Api::DescribeInstances);
        scene.ec2.faults_mut().push(unread.between(from_ms, from_ms + 40_000));
        scene.after(10_000, move |scene| if stops { scene.stop_node(A) } else { scene.tag_node(A, "mode", "drain") });
        let told = scene.watch(55);
        assert_eq!(scene.been(), [Some(B)], "{}", told.text());
    }
}

/// The same of a drain, which may have been called off.
#[test]
fn rule_2_a_drain_waits_while_nodes_cannot_be_read() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    scene.season();
    scene.tag_node(A, "mode", "drain");
    let from_ms = scene.epoch_ms() + 1_000;
    let unread = Rule::error("RequestLimitExceeded").on(Api::DescribeInstances);
    scene.ec2.faults_mut().push(unread.between(from_ms, from_ms + 40_000));
    scene.after(10_000, |scene| scene.tag_node(A, "mode", "active"));
    scene.after(20_000, |scene| scene.serve(B));
    scene.watch(55);
    scene.unmoved();
}

/// Rules 2 and 7: a node to which somebody has moved the address is not gone because of what was read of it before.
#[test]
fn rule_7_a_node_that_was_gone_before_it_got_the_address_is_read_again() {
    let mut scene = Scene::pair();
    scene.stop_and_start_within(500);
    scene.stop_node(B);
    scene.pass(2_000);
    let from_ms = scene.epoch_ms() + 1_000;
    let unread = Rule::error("InternalError").on(Api::DescribeInstances);
    scene.ec2.faults_mut().push(unread.between(from_ms, from_ms + 13_200));
    scene.after(2_000, |scene| scene.start_node(B));
    scene.after(14_000, |scene| scene.by_hand(0, Some(B)));
    scene.watch(50);
    assert_eq!(scene.been(), [Some(B)]);
}

/// Rule 5: what fails once the brake has ended has been held back by nothing, and waits for no reading.
#[test]
fn rule_5_what_fails_after_the_brake_s_end_waits_for_nothing() {
    let mut scene = Scene::pair();
    scene.by_hand(0, Some(B));
    scene.tag_address(0, "policy", "max_moves=1 window=60s stable=10m");
    scene.season();
    let (a, b, since) = (scene.node(A), scene.node(B), scene.time_in(-40));
    scene.tag_address(0, "state", &format!("holder={b} since={since} from={a} why=holder-unhealthy moves={since}"));
    let from_ms = scene.epoch_ms() + 1_000;
    let unread = Rule::error("InternalError").on(Api::DescribeInstanceStatus);
    scene.ec2.faults_mut().push(unread.between(from_ms, u64::MAX));
    // The brake ends after 20 s; three probes in a row fail until 20.5 s or a little later.
    scene.after(19_100, |scene| scene.refuse(B));
    let told = scene.watch(25);
    assert_eq!(scene.been(), [Some(B), Some(A)], "{}", told.text());
    let moved_ms = scene.moved_after_ms(&told);
    assert!((20_000..22_500).contains(&moved_ms), "after {moved_ms} ms");
}

/// Rule 8: a last resort is read again before it is sent: who has it meanwhile keeps it.
#[test]
fn rule_8_a_last_resort_takes_the_address_from_nobody() {
    let mut scene = Scene::pair();
    scene.refuse(A);
    scene.refuse(B);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 200, max_ms: 200 }).on(Api::DescribeAddresses));
    // EC2 looks after 10.8 s, and its answer is there 100 ms later.
    scene.after(8_000, |scene| scene.by_hand(0, None));
    scene.after(10_850, |scene| scene.by_hand(0, Some(B)));
    let told = scene.watch(14);
    assert_eq!(scene.been(), [None, Some(B)], "{}", told.text());
}

/// Rule 8, rule 12: nor is it left for what was read before the move and cannot be read for a while: that is tried again before it counts.
#[test]
fn rule_8_what_was_read_before_a_move_is_tried_again_before_it_counts() {
    let mut scene = Scene::pair();
    scene.by_hand(0, Some(B));
    scene.remember(0, B, None, "no-holder", 600);
    scene.season();
    scene.schedule(A, "planned", 0, 3_600);
    let from_ms = scene.epoch_ms() + 1_000;
    let unread = Rule::error("InternalError").on(Api::DescribeInstanceStatus);
    scene.ec2.faults_mut().push(unread.between(from_ms, from_ms + 24_000));
    scene.after(2_000, |scene| scene.unschedule(A));
    // Another watch, which has read that, moves it.
    scene.after(5_000, |scene| {
        scene.by_hand(0, Some(A));
        scene.remember(0, A, Some(B), "holder-unhealthy", 0);
    });
    let told = scene.watch(50);
    scene.ends(&told, "stay healthy", "A");
}

/// Rule 8, rule 12: nor at once for what may not be read any more.
#[test]
fn rule_8_what_was_read_before_a_move_and_may_not_be_read_any_more_counts_only_later() {
    let mut scene = Scene::pair();
    scene.by_hand(0, Some(B));
    scene.remember(0, B, None, "no-holder", 600);
    scene.season();
    scene.schedule(A, "planned", 0, 3_600);
    let from_ms = scene.epoch_ms() + 1_000;
    let unread = Rule::error("UnauthorizedOperation").on(Api::DescribeInstanceStatus);
    scene.ec2.faults_mut().push(unread.between(from_ms, u64::MAX));
    scene.after(5_000, |scene| {
        scene.by_hand(0, Some(A));
        scene.remember(0, A, Some(B), "holder-unhealthy", 0);
    });
    scene.watch(34);
    let moves = scene.world.moves(&scene.address(0));
    assert_eq!(scene.been(), [Some(B), Some(A), Some(B)]);
    assert!(moves[2].0 >= moves[1].0 + 30_000, "{moves:?}");
}

/// Rule 8: what cannot be read again after a move is decided without, 30 s after the second of the move.
#[test]
fn rule_8_what_cannot_be_read_again_is_decided_without_after_thirty_seconds() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    scene.tag_node(A, "mode", "drain");
    scene.remember(0, A, Some(B), "holder-unhealthy", 3);
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeInstanceStatus));
    let told = scene.sweep();
    scene.ends(&told, "move holder-draining to B", "B");
    assert_eq!(scene.moved_after_ms(&told), 28_000);
}

/// A holder that is about to mend is not told of as one that stays, nor left, before that is known.
#[test]
fn a_holder_that_may_mend_is_waited_for_in_silence() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "rise=20 fall=2");
    for n in [A, B] {
        scene.refuse(n);
    }
    // B has passed long enough at about 16 s, while A has passed since 12 s, too, but not long enough.
    scene.after(5_000, |scene| scene.serve(B));
    scene.after(12_000, |scene| scene.serve(A));
    scene.after(19_000, |scene| scene.refuse(A));
    let told = scene.watch(40);
    assert!(scene.moved_after_ms(&told) >= 19_000, "{} ms", scene.moved_after_ms(&told));
    let decided = scene.decided(told.handle);
    assert_eq!(decided[..2], ["stay no-candidate", "move holder-unhealthy to B"], "{decided:?}");
}

/// A failover that waits for its target is told once it is decided.
#[test]
fn a_failover_is_told_once_its_target_is_known() {
    let mut scene = Scene::new(1, 2);
    scene.tag_address(0, "policy", "fall=2 rise=6");
    scene.refuse(A);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
    assert_eq!(scene.decided(told.handle), ["move holder-unhealthy to B", "stay healthy"]);
}

/// Rule 8, rule 1: what was read of nodes 10 s ago or more decides no move while EC2 answers: it is read again.
#[test]
fn rule_8_nodes_are_read_again_before_a_move_that_was_long_held_up() {
    let mut scene = Scene::seasoned(1, 3);
    scene.refuse(A);
    let epoch_ms = scene.epoch_ms();
    let rule = Rule::error("InternalError").on(Api::DescribeAddresses);
    scene.ec2.faults_mut().push(rule.between(epoch_ms + 1_000, epoch_ms + 20_000));
    // Nodes take longer to be read than addresses.
    let slow = Rule::new(Fault::Latency { min_ms: 1_000, max_ms: 1_000 }).on(Api::DescribeInstances);
    scene.ec2.faults_mut().push(slow.between(epoch_ms + 1_000, u64::MAX));
    scene.after(5_000, |scene| scene.tag_node(B, "mode", "drain"));
    // A policy slow enough for the decision to fall into the outage.
    scene.tag_address(0, "policy", "fall=5");
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to C", "C");
}

/// Rule 8: what others have moved since the last reading before the verdict fell is not moved on: it is read once more.
#[test]
fn rule_8_what_others_moved_just_before_the_decision_is_left_where_it_is() {
    let failover = |moved_by_hand_ms: Option<u64>| {
        let mut scene = Scene::seasoned(1, 3);
        scene.after(10_000, |scene| scene.refuse(A));
        if let Some(ms) = moved_by_hand_ms {
            scene.after(ms, |scene| scene.by_hand(0, Some(C)));
        }
        let told = scene.watch(20);
        (scene.moved_after_ms(&told), scene.been())
    };
    let (decided_ms, been) = failover(None);
    assert_eq!(been, [Some(B)]);
    for before_ms in [10, 100, 200, 300, 400] {
        assert_eq!(failover(Some(decided_ms - before_ms)).1, [Some(C)], "{before_ms} ms before");
    }
}

/// Rule 4: an address that EC2 shows on nobody, and refuses as held by somebody, is moved in the end, whoever holds it.
#[test]
fn rule_4_what_is_refused_as_held_and_shown_on_nobody_is_rescued_all_the_same() {
    let mut scene = Scene::seasoned(1, 2);
    scene.by_hand(0, None);
    let epoch_ms = scene.epoch_ms();
    let held = Rule::error("Resource.AlreadyAssociated").on(Api::AssociateAddress);
    scene.ec2.faults_mut().push(held.between(epoch_ms, epoch_ms + 30_000));
    scene.watch(50);
    assert_eq!(scene.been(), [None, Some(A)]);
    let asked: Vec<bool> = scene
        .calls()
        .filter_map(|(_, call)| match call.change.as_deref() {
            Some(Request::AssociateAddress { allow_reassociation, .. }) => Some(*allow_reassociation),
            _ => None,
        })
        .collect();
    let (last, before) = asked.split_last().expect("asked");
    assert!(*last && before.len() > 3 && before.iter().all(|allowed| !allowed), "{asked:?}");
}

/// Rule 8: what another has just moved away from a node does not go back to it before that node has been read once more.
#[test]
fn rule_8_what_has_just_left_a_node_does_not_go_back_unseen() {
    let mut scene = Scene::pair();
    // It is probed too seldom to tell in time that the holder has stopped.
    scene.tag_address(0, "policy", "interval=30s");
    scene.refuse(B);
    scene.world.settings.watch = std::time::Duration::from_secs(25);
    let now_ms = scene.now_ms();
    let first = scene.scheduled(now_ms);
    scene.after(7_000, |scene| scene.stop_node(A));
    scene.scheduled(now_ms + 7_100);
    scene.run();
    assert_eq!(scene.been(), [Some(B)]);
    let asked = scene.calls().any(|(_, call)| call.caller == first && call.api == Api::AssociateAddress);
    assert!(!asked, "the first would have moved it back");
}

/// Rule 8: who finds the address on nobody takes it only if nobody does by then, whatever it thinks of the nodes.
#[test]
fn rule_8_an_address_on_nobody_is_left_to_whoever_was_faster() {
    let mut scene = Scene::seasoned(1, 3);
    scene.by_hand(0, None);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 200, max_ms: 200 }));
    let now_ms = scene.now_ms();
    let first = scene.scheduled(now_ms);
    // It reads before the first has moved it, and would move it after that.
    scene.after(150, |scene| scene.tag_node(B, "priority", "200"));
    let second = scene.scheduled(now_ms + 150);
    scene.run();
    assert_eq!(scene.been(), [None, Some(A)]);
    let asked =
        |caller| scene.calls().filter(|(_, call)| call.caller == caller && call.api == Api::AssociateAddress).count();
    assert_eq!((asked(first), asked(second)), (1, 1), "it is no race");
    assert!(scene.world.report(second).is_some_and(|report| report.ok));
}

/// Rule 8: what was moved within the last minute and need not be moved at once waits for up to a second, in each watch for another time. A
/// failover does not, nor what was moved longer ago.
#[test]
fn rule_8_watches_that_move_on_without_need_take_turns() {
    let spread_ms = |what: Trouble, seconds_ago: i64| {
        let delays = (0..8).map(|begun_ms| {
            let mut scene = Scene::seasoned(1, 2);
            scene.remember(0, A, None, "no-holder", seconds_ago);
            scene.pass(begun_ms);
            what(&mut scene, A, true);
            let told = scene.sweep();
            assert_eq!(scene.been(), [Some(B)]);
            scene.moved_after_ms(&told)
        });
        let delays: Vec<u64> = delays.collect();
        delays.iter().max().zip(delays.iter().min()).map(|(longest, shortest)| longest - shortest).expect("some")
    };
    let refuses: Trouble = |scene, node, _| scene.refuse(node);
    assert!((500..1_000).contains(&spread_ms(drained, 45)));
    assert!((500..1_000).contains(&spread_ms(planned, 45)));
    assert_eq!((spread_ms(drained, 70), spread_ms(refuses, 45)), (0, 0));
}

/// Rule 8: every move follows a read of the address that is at most 1 s old.
#[test]
fn rule_8_the_address_is_read_at_most_a_second_before_it_is_moved() {
    for latency_ms in [0, 100, 700, 1_900] {
        let mut scene = Scene::seasoned(1, 3);
        scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: latency_ms, max_ms: latency_ms }));
        scene.service(A, Behaviour::Silent);
        scene.watch(30);
        let calls: Vec<_> = scene.calls().map(|(at_ms, call)| (at_ms, call.api)).collect();
        let moved = calls.iter().position(|(_, api)| *api == Api::AssociateAddress).expect("moved");
        let read = calls[..moved].iter().rev().find(|(_, api)| *api == Api::DescribeAddresses).expect("read");
        // Both as they arrived at EC2, half a latency after they were sent; the answer came half a latency later.
        let age_ms = calls[moved].0 - (read.0 + latency_ms);
        assert!(age_ms <= 1_000 + latency_ms, "latency {latency_ms}: {age_ms} ms");
        assert_eq!(scene.holder(0), "B");
    }
}

/// Rule 8: an invocation that dies after any of its effects leaves what the next sweep finishes.
#[test]
fn rule_8_a_crash_between_any_two_calls_is_finished_by_the_next_sweep() {
    let mut finished = false;
    for effects in 0..200 {
        let mut scene = Scene::pair();
        scene.refuse(A);
        let now_ms = scene.now_ms();
        scene.world.settings.watch = std::time::Duration::ZERO;
        let doomed = scene.scheduled(now_ms);
        scene.kill(doomed, eipwatch::sim::world::Death::AfterEffects(effects));
        scene.run();
        finished = scene.report(doomed).is_some();
        let told = scene.sweep();
        assert!(told.report.ok, "after {effects}: {:?}", told.report.error);
        assert_eq!(scene.holder(0), "B", "after {effects}: {}", told.text());
        assert_eq!(scene.world.moves(&scene.address(0)).len(), 1, "after {effects}");
        assert!(scene.node_tag(A, "health").starts_with("verdict=unhealthy"), "after {effects}");
        assert_eq!(scene.sweep().calls, Vec::<String>::new(), "after {effects}: nothing is left to do");
        if finished {
            break;
        }
    }
    assert!(finished, "it was let live at last");
}

/// Rule 9: a failback waits until status checks and scheduled events were read, too: the preferred node may be leaving.
#[test]
fn rule_9_no_failback_before_it_is_known_whether_the_preferred_node_leaves() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "failback=auto stable=0s");
    scene.tag_node(B, "priority", "200");
    scene.remember(0, A, Some(B), "holder-leaving", 5);
    scene.schedule(B, "planned", 0, 3_600);
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeInstanceStatus));
    scene.watch(30);
    assert_eq!(scene.holder(0), "A");
}

/// Rule 9: a holder of which nothing is known is left where it is.
#[test]
fn rule_9_no_failback_from_a_holder_that_is_not_known_to_be_well() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.tag_address(0, "policy", "failback=auto stable=0s");
    scene.tag_node(B, "priority", "200");
    scene.remember(0, A, Some(B), "holder-unhealthy", 600);
    scene.agent(A).alive = false;
    scene.untag_node(A, "heartbeat");
    let told = scene.watch(20);
    scene.ends(&told, "stay healthy", "A");
}

/// Rule 9: what may not be read at all is not waited for.
#[test]
fn rule_9_a_failback_goes_on_where_status_checks_may_not_be_read() {
    for code in ["UnauthorizedOperation", "InvalidParameterValue"] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", "failback=auto stable=0s");
        scene.tag_node(B, "priority", "200");
        scene.remember(0, A, Some(B), "holder-leaving", 5);
        scene.ec2.faults_mut().push(Rule::error(code).on(Api::DescribeInstanceStatus));
        let told = scene.watch(30);
        scene.ends(&told, "move failback to B", "B");
    }
}

/// Rule 9: nor where they, or alarms, may not be read any more.
#[test]
fn rule_9_a_failback_goes_on_where_status_checks_may_no_longer_be_read() {
    for api in [Api::DescribeInstanceStatus, Api::DescribeAlarms] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "check", "http:8080/health alarm:High.Load");
        scene.tag_address(0, "policy", "failback=auto stable=0s");
        scene.tag_node(A, "priority", "200");
        scene.alarm(AlarmState::Ok, &[B]);
        scene.after(3_000, move |scene| {
            scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(api));
            scene.refuse(A);
        });
        scene.after(10_000, |scene| scene.serve(A));
        scene.watch(30);
        assert_eq!(scene.been(), [Some(B), Some(A)], "{api:?}");
    }
}

/// Rule 9: a move to the same node as the last, from nobody again, is a move of its own: `stable` counts from it.
#[test]
fn rule_9_a_second_rescue_to_the_same_node_begins_stable_anew() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "failback=auto stable=20s");
    scene.tag_node(A, "priority", "200");
    scene.refuse(A);
    scene.after(2_000, |scene| scene.serve(A));
    scene.after(3_000, |scene| scene.tag_node(A, "mode", "drain"));
    scene.after(22_000, |scene| scene.tag_node(A, "mode", "active"));
    for after_ms in [6_300, 16_300] {
        scene.after(after_ms, |scene| scene.by_hand(0, None));
    }
    scene.watch(55);
    assert_eq!(scene.been(), [Some(B), None, Some(B), None, Some(B), Some(A)]);
    let moves = scene.world.moves(&scene.address(0));
    assert!(moves[5].0 >= moves[4].0 + 20_000, "{moves:?}");
}

/// Rule 9: at the moment when a failback is due nodes are read once more: the preferred one may be drained since the last reading.
#[test]
fn rule_9_nodes_are_read_again_when_a_failback_is_due() {
    let policies = [("failback=auto stable=25s", 7), ("failback=auto stable=1s max_moves=1 window=1m", 42)];
    for ((policy, seconds_ago), drained) in policies.into_iter().flat_map(|case| [(case, true), (case, false)]) {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", policy);
        scene.tag_node(B, "priority", "200");
        let at = scene.time_in(-seconds_ago);
        scene.remember(0, A, Some(B), "holder-unhealthy", seconds_ago);
        let state = scene.address_tag(0, "state");
        scene.tag_address(0, "state", &format!("{state}{at}"));
        // Nodes are read every 5 s; it is due at 18 s.
        if drained {
            scene.after(16_500, |scene| scene.tag_node(B, "mode", "drain"));
        }
        scene.watch(30);
        assert_eq!(scene.been(), if drained { vec![] } else { vec![Some(B)] }, "{policy} {drained}");
    }
}

/// Rule 9: so are alarms, and the answer is waited for.
#[test]
fn rule_9_alarms_are_read_again_when_a_failback_is_due() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "http:8080/health alarm:High.Load");
    scene.tag_address(0, "policy", "failback=auto stable=25s");
    scene.tag_node(B, "priority", "200");
    scene.alarm(AlarmState::Ok, &[B]);
    scene.remember(0, A, Some(B), "holder-unhealthy", 7);
    let from_ms = scene.epoch_ms() + 1_000;
    let slow = Rule::new(Fault::Latency { min_ms: 2_000, max_ms: 2_000 }).on(Api::DescribeAlarms);
    scene.ec2.faults_mut().push(slow.between(from_ms, u64::MAX));
    // Alarms are read every 20 s; it is due at 18 s, and the answer comes at 20 s.
    scene.after(16_500, |scene| scene.alarm(AlarmState::Alarm, &[B]));
    scene.watch(30);
    scene.unmoved();
}

/// Rule 9: a failback undoes neither a move by command nor one by others.
#[test]
fn rule_9_a_failback_never_undoes_a_move_by_hand() {
    for by_command in [true, false] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", "failback=auto stable=5s");
        scene.tag_node(A, "priority", "200");
        scene.send(&json!({"action": "move"}));
        if !by_command {
            scene.pass(40_000);
            scene.by_hand(0, Some(A));
            scene.sweep();
            scene.pass(40_000);
            scene.by_hand(0, Some(B));
        }
        scene.pass(60_000);
        let told = scene.watch(100);
        assert_eq!(
            (scene.says(&told, 0), scene.holder(0)),
            ("stay healthy".to_owned(), "B".to_owned()),
            "{by_command}"
        );
    }
}

/// Rule 9: nor does a watch that moved it to the same node at the same moment, for a reason of its own. EC2 has no conditional write of
/// tags: where both write their record at once, the later one stays.
#[test]
fn rule_9_a_move_by_hand_stays_though_a_watch_makes_it_at_the_same_moment() {
    let race = |command_ms: Option<u64>| {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", "failback=auto stable=5s");
        scene.tag_node(A, "priority", "200");
        scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 100, max_ms: 100 }));
        scene.world.settings.watch = std::time::Duration::from_secs(55);
        let now_ms = scene.now_ms();
        scene.scheduled(now_ms);
        scene.after(5_000, |scene| scene.refuse(A));
        scene.after(15_000, |scene| scene.serve(A));
        let by_hand = json!({"action": "move", "to": scene.node(B)});
        let command = command_ms.map(|ms| scene.world.invoke(&by_hand, now_ms + ms));
        scene.run();
        let moved_ms = scene.world.moves(&scene.address(0))[0].0 - now_ms;
        let moved_by_hand = command.is_some_and(|command| {
            let addresses = scene.answer(command).clusters.into_iter().flat_map(|of| of.addresses);
            addresses.flat_map(|one| one.moves).any(|made| made.ok)
        });
        (scene, moved_ms, moved_by_hand)
    };
    let (alone, moved_ms, _) = race(None);
    assert_eq!(alone.been(), [Some(B), Some(A)], "it is failed back");
    let (mut raced, mut undone) = (0, Vec::new());
    for before_ms in (0..1_500).step_by(50) {
        let (scene, _, moved_by_hand) = race(Some(moved_ms - before_ms));
        if !moved_by_hand {
            continue;
        }
        let asked = scene.calls().filter(|(_, call)| call.api == Api::AssociateAddress).count();
        if scene.been() == [Some(B)] {
            raced += usize::from(asked > 1);
        } else {
            undone.push(before_ms);
        }
    }
    // From the reading in which a watch sees its own move to its record: half a call, and half a call.
    assert_eq!((raced, undone), (2, vec![300, 350]));
}

/// Rule 9: `stable` counts from the later of the preferred node's health and the last move.
#[test]
fn rule_9_stable_counts_from_the_later_of_health_and_move() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "failback=auto stable=20s");
    scene.tag_address(0, "prefer", &scene.node(A).clone());
    scene.refuse(A);
    scene.watch(5);
    assert_eq!(scene.holder(0), "B");
    // It recovers 25 s after the move: the health is the later one.
    scene.after(25_000, |scene| scene.serve(A));
    let told = scene.watch(100);
    let back_ms = scene.moved_after_ms(&told);
    assert_eq!(scene.holder(0), "A");
    assert!((45_000..=47_000).contains(&back_ms), "{back_ms} ms");
}

/// Rule 9: `stable` counts from the health of the preferred node's present life, whether its service is there at once or a moment later.
#[test]
fn rule_9_stable_counts_anew_for_a_node_that_was_started_anew() {
    for boot_ms in [0, 800] {
        let mut scene = Scene::pair();
        scene.stop_and_start_within(500);
        scene.world.boot_ms = boot_ms;
        // Between two readings, and between two probes.
        scene.tag_address(0, "policy", "interval=7s failback=auto stable=20s");
        scene.tag_node(B, "priority", "200");
        scene.tag_node(B, "mode", "drain");
        scene.after(8_000, |scene| scene.stop_node(B));
        scene.after(9_000, |scene| scene.start_node(B));
        scene.after(12_000, |scene| scene.tag_node(B, "mode", "active"));
        let told = scene.watch(55);
        scene.ends(&told, "move failback to B", "B");
        let moved_ms = scene.moved_after_ms(&told);
        assert!((30_000..=32_000).contains(&moved_ms), "{boot_ms}: {moved_ms} ms");
    }
}

/// Rule 9: a health tag of an earlier life is written anew, or `stable` would begin anew in each watch.
#[test]
fn rule_9_a_node_that_was_started_anew_between_two_watches_gets_its_address_back() {
    let mut scene = Scene::pair();
    scene.stop_and_start_within(1_000);
    scene.tag_address(0, "policy", "failback=auto stable=60s");
    scene.tag_node(B, "priority", "200");
    scene.stop_node(B);
    scene.pass(3_000);
    scene.start_node(B);
    scene.pass(10_000);
    let told = scene.watch(55);
    scene.ends(&told, "stay healthy", "A");
    scene.pass(5_000);
    let told = scene.watch(55);
    scene.ends(&told, "move failback to B", "B");
}

/// Rule 10: a sweep whose call was turned away does not say that it moved what others moved there.
#[test]
fn rule_10_a_move_that_others_made_is_not_claimed() {
    let mut scene = Scene::pair();
    let epoch_ms = scene.epoch_ms();
    let throttled = Rule::error("RequestLimitExceeded").on(Api::AssociateAddress);
    scene.ec2.faults_mut().push(throttled.between(epoch_ms, epoch_ms + 5_000));
    scene.stop_node(A);
    scene.after(300, |scene| scene.by_hand(0, Some(B)));
    let told = scene.sweep();
    let moves: Vec<bool> = told.address(0).moves.iter().map(|made| made.ok).collect();
    assert_eq!((moves, told.report.ok, scene.holder(0)), (vec![false], true, "B".to_owned()));
}

/// Rule 10, rule 4: a single sweep, too, reads again while it waits for an old answer to pass.
#[test]
fn rule_10_a_sweep_reads_again_while_readings_are_old() {
    let mut scene = Scene::pair();
    scene.pass(10_000);
    scene.by_hand(0, Some(B));
    scene.remember(0, B, Some(A), "holder-unhealthy", 0);
    scene.pass(2_000);
    scene.stop_node(B);
    let now_ms = scene.epoch_ms();
    let stale = Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 6_000 });
    scene.ec2.faults_mut().push(stale.between(now_ms, now_ms + 4_000));
    let told = scene.sweep();
    scene.ends(&told, "move holder-gone to A", "A");
    assert!(told.took_ms() < 12_000, "{} ms", told.took_ms());
}

/// Rule 10: while it waits for an old answer to pass a sweep reads addresses once a second.
#[test]
fn rule_10_what_may_be_an_old_answer_is_read_again_once_a_second() {
    let mut scene = Scene::pair();
    // Moved to B, says the record, 20 s ago; B has stopped since, and EC2 shows A all the time.
    scene.remember(0, B, Some(A), "holder-unhealthy", 20);
    scene.stop_node(B);
    let told = scene.sweep();
    scene.ends(&told, "stay healthy", "A");
    let reads = scene.calls_to(Api::DescribeAddresses, &told);
    assert!(reads.windows(2).all(|two| two[1] - two[0] >= 1_000), "{reads:?}");
    assert!(reads.starts_with(&[0, 1_000, 2_000, 3_000]), "{reads:?}");
}

/// Rule 10: success is what EC2 shows: an answer of success without an effect is reported as a failure, after 10 s.
#[test]
fn rule_10_success_means_that_ec2_shows_it() {
    let mut scene = Scene::seasoned(1, 2);
    scene.ec2.faults_mut().push(Rule::new(Fault::Hollow).on(Api::AssociateAddress));
    scene.refuse(A);
    let told = scene.sweep();
    let tried = &told.address(0).moves;
    assert!(!told.report.ok && tried.iter().all(|tried| !tried.ok), "{tried:?}");
    assert_eq!(tried[0].took_ms, 10_000);
    assert_eq!((scene.holder(0), scene.address_tag(0, "state")), ("A".to_owned(), String::new()));
}

/// Rule 10: a move that EC2 shows only after 9 s of stale reads has succeeded.
#[test]
fn rule_10_stale_reads_after_a_move_are_waited_for() {
    let mut scene = Scene::pair();
    let now_ms = scene.epoch_ms();
    // Reads are at most 8 s old for a while.
    let stale = Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 8_000 }).between(now_ms, now_ms + 60_000);
    scene.ec2.faults_mut().push(stale);
    scene.refuse(A);
    let told = scene.watch(50);
    assert!(told.report.ok, "{:?}", told.report.error);
    assert_eq!(scene.world.moves(&scene.address(0)).len(), 1);
    assert_eq!(told.address(0).moves.len(), 1);
    assert_eq!(scene.holder(0), "B");
}

/// Rule 10: after 30 s a read that shows the previous holder is the truth: it is adopted.
#[test]
fn rule_10_settling_ends_after_thirty_seconds() {
    let mut scene = Scene::pair();
    scene.remember(0, B, Some(A), "holder-unhealthy", 20);
    let told = scene.watch(55);
    assert!(scene.decided(told.handle).contains(&"stay settling".to_owned()), "{:?}", scene.decided(told.handle));
    assert_eq!(told.calls, ["tag state 0"]);
    assert!(scene.address_tag(0, "state").contains(" why=external "), "{}", scene.address_tag(0, "state"));
}

/// Rule 10: a read that is taken as stale is no move by others: a decision on what is known instead is not dropped for it.
#[test]
fn rule_10_a_stale_read_is_no_move_by_others() {
    let mut scene = Scene::seasoned(1, 3);
    scene.refuse(A);
    let epoch_ms = scene.epoch_ms();
    let stale = Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 20_000 });
    scene.ec2.faults_mut().push(stale.between(epoch_ms + 6_000, epoch_ms + 22_000));
    scene.after(12_000, |scene| scene.refuse(B));
    let told = scene.watch(40);
    assert_eq!(scene.holder(0), "C");
    let decided = scene.decided(told.handle);
    assert!(!decided.iter().any(|it| it == "stay moved-elsewhere"), "{decided:?}");
}

/// Rule 10: nor is it one while a move's effect is in doubt: it tells of the time before the move before.
#[test]
fn rule_10_a_stale_read_during_a_move_in_doubt_is_no_move_by_others() {
    let mut scene = Scene::seasoned(1, 3);
    // Another invocation has moved it from A to B, and EC2 still shows A.
    scene.remember(0, B, Some(A), "holder-unhealthy", 2);
    scene.refuse(A);
    scene.refuse(B);
    scene.ec2.faults_mut().extend([
        Rule::new(Fault::Latency { min_ms: 700, max_ms: 700 }).on(Api::DescribeAddresses),
        Rule::new(Fault::Late { by_ms: 3_000 }).on(Api::AssociateAddress),
    ]);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to C", "C");
    let decided = scene.decided(told.handle);
    assert!(told.report.ok && !decided.contains(&"stay moved-elsewhere".to_owned()), "{decided:?}");
}

/// Rule 10: nor is it success where a move waits to be sent again: it was there moments ago.
#[test]
fn rule_10_a_stale_read_of_the_target_does_not_end_a_move_that_was_refused() {
    let mut met = 0;
    for seed in 0..10 {
        let mut scene = Scene::of_seed(seed, 2);
        scene.season();
        scene.by_hand(0, Some(B));
        scene.pass(30_000);
        scene.by_hand(0, Some(A));
        scene.remember(0, A, Some(B), "manual", 0);
        scene.stop_node(A);
        scene.pass(3_000);
        let now_ms = scene.epoch_ms();
        scene.ec2.faults_mut().extend([
            Rule::error("RequestLimitExceeded").on(Api::AssociateAddress).between(now_ms, now_ms + 2_500),
            Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 20_000 })
                .on(Api::DescribeAddresses)
                .between(now_ms + 50, now_ms + 2_500),
        ]);
        let told = scene.sweep();
        scene.ends(&told, "move holder-gone to B", "B");
        met += scene.ec2.met().get("stale").copied().unwrap_or_default();
        assert!(told.calls.contains(&"associate B: RequestLimitExceeded".to_owned()), "{seed}: {:?}", told.calls);
    }
    assert!(met > 0, "no answer was stale");
}

/// And what others have done meanwhile is seen by the reading that shows it: nothing more is looked at for it.
#[test]
fn rule_10_a_move_that_others_made_while_it_was_refused_is_seen_at_once() {
    let mut scene = Scene::pair();
    scene.stop_node(A);
    let now_ms = scene.epoch_ms();
    scene.ec2.faults_mut().extend([
        Rule::error("RequestLimitExceeded").on(Api::AssociateAddress).between(now_ms, now_ms + 5_000),
        Rule::new(Fault::Latency { min_ms: 10, max_ms: 10 }).on(Api::DescribeAddresses),
    ]);
    scene.after(800, |scene| scene.by_hand(0, Some(B)));
    let told = scene.sweep();
    assert_eq!(scene.holder(0), "B");
    let reads = scene.calls_to(Api::DescribeAddresses, &told);
    assert!(reads.len() > 1 && reads.windows(2).all(|pair| pair[1] - pair[0] > 1_000), "{reads:?}");
    assert_eq!(told.report.error, None);
    let ended = told.report.clusters.iter().flat_map(|of| &of.addresses).flat_map(|of| &of.moves);
    let ended: Vec<u64> = ended.map(|made| made.took_ms).collect();
    assert!(ended.len() == 1 && ended[0] < 2_000, "one reading, not ten seconds of them: {ended:?}");
}

/// Rule 11: in a zone's disruption ids come from DescribeTags, those that can be described are used, the others are still probed.
#[test]
fn rule_11_a_disrupted_zone_is_bisected() {
    // A is in eu-west-1a, B in b, C in c; A's zone is disrupted and A fails.
    let mut scene = Scene::seasoned(1, 3);
    scene.ec2.faults_mut().push(Rule::new(Fault::Zone { zone: "eu-west-1a".to_owned(), unnamed: true }));
    scene.refuse(A);
    let told = scene.watch(50);
    scene.ends(&told, "move holder-unhealthy to B", "B");
    assert!(scene.ec2.pages(Api::DescribeTags) > 0);
    told.problem("InternalError");
}

/// Rule 11: where all can be described by id, nothing is wrong; and what else is read meanwhile is taken in.
#[test]
fn rule_11_what_is_found_by_id_is_no_problem() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().extend([
        // Only calls that name nobody fail.
        Rule::new(Fault::Zone { zone: "elsewhere".to_owned(), unnamed: true }).on(Api::DescribeInstances),
        Rule::new(Fault::Latency { min_ms: 200, max_ms: 200 }).on(Api::DescribeInstances),
        // Answered while instances are asked for by id.
        Rule::new(Fault::Latency { min_ms: 700, max_ms: 700 }).on(Api::DescribeInstanceStatus),
    ]);
    scene.status(B, CheckKind::Instance, Check::Impaired);
    let told = scene.expect("stay healthy", &[], "A");
    assert_eq!(told.problems(), "");
    assert!(told.took_ms() < 3_000, "{} ms", told.took_ms());
    assert!(!told.node(B).candidate && told.evidence(B, "ec2").1.contains("impaired"), "{:?}", told.evidence(B, "ec2"));
}

/// Rule 11: a peer that cannot be described any more is still probed: where it is, is known.
#[test]
fn rule_11_what_was_described_before_is_still_probed() {
    let mut scene = Scene::pair();
    let from_ms = scene.epoch_ms() + 10_000;
    let rule = Rule::new(Fault::Zone { zone: "eu-west-1b".to_owned(), unnamed: true });
    scene.ec2.faults_mut().push(rule.between(from_ms, u64::MAX));
    scene.after(20_000, |scene| scene.refuse(B));
    let told = scene.watch(40);
    assert_eq!(told.evidence(B, "http"), (Some(false), "refused".to_owned()));
}

/// Rule 11: the search for those that can be described has its limits, at once and in all, and ends when EC2 is too busy.
#[test]
fn rule_11_the_search_has_its_limits() {
    let mut scene = Scene::new(1, 130);
    let slow = || Rule::new(Fault::Latency { min_ms: 100, max_ms: 100 }).on(Api::DescribeInstances);
    scene.ec2.faults_mut().extend([Rule::error("InternalError").on(Api::DescribeInstances), slow()]);
    let told = scene.sweep();
    let calls = scene.calls_to(Api::DescribeInstances, &told);
    // Two that name nobody, then those by id.
    assert_eq!(calls.len(), 2 + 64);
    let at_once = calls.iter().map(|at_ms| calls.iter().filter(|other| *other == at_ms).count()).max();
    assert_eq!((at_once, told.took_ms() < 10_000), (Some(4), true), "{} ms", told.took_ms());

    let mut scene = Scene::new(1, 8);
    let a = scene.node(A);
    scene.ec2.faults_mut().extend([
        Rule::error("RequestLimitExceeded").on(Api::DescribeInstances).naming(&a),
        Rule::new(Fault::Zone { zone: "elsewhere".to_owned(), unnamed: true }).on(Api::DescribeInstances),
        slow(),
    ]);
    let told = scene.sweep();
    assert_eq!(scene.calls_to(Api::DescribeInstances, &told).len(), 3);
}

/// Rule 11: a holder that cannot be described is judged by its probes: one that serves keeps the address.
#[test]
fn rule_11_a_holder_that_serves_keeps_the_address_in_a_disrupted_zone() {
    for warm in [true, false] {
        let mut scene = Scene::seasoned(1, 3);
        let rule = Rule::new(Fault::Zone { zone: "eu-west-1a".to_owned(), unnamed: true });
        let from_ms = scene.epoch_ms() + if warm { 10_000 } else { 0 };
        scene.ec2.faults_mut().push(rule.between(from_ms, u64::MAX));
        let told = scene.watch(50);
        assert_eq!((scene.says(&told, 0), scene.holder(0)), ("stay healthy".to_owned(), "A".to_owned()), "warm {warm}");
        assert!(told.node(A).verdict == eipwatch::core::tags::Verdict::Healthy, "warm {warm}: {:?}", told.node(A));
        assert!(told.cluster().ready, "warm {warm}");
    }
}

/// Rule 11: the nodes that cannot be described are no candidates; a holder that fails stays if nobody else can be described.
#[test]
fn rule_11_what_cannot_be_described_is_no_candidate() {
    // From the start, or while it watches.
    for after_ms in [0, 10_000] {
        let mut scene = Scene::pair();
        let from_ms = scene.epoch_ms() + after_ms;
        let rule = Rule::new(Fault::Zone { zone: "eu-west-1b".to_owned(), unnamed: true });
        scene.ec2.faults_mut().push(rule.between(from_ms, u64::MAX));
        scene.after(2 * after_ms, |scene| scene.refuse(A));
        let told = scene.watch(40);
        scene.ends(&told, "stay no-candidate", "A");
    }
}

/// Rule 11: a holder without probes that cannot be described stays.
#[test]
fn rule_11_without_probes_the_holder_stays() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    scene.season();
    scene.ec2.faults_mut().push(Rule::new(Fault::Zone { zone: "eu-west-1a".to_owned(), unnamed: true }));
    let told = scene.watch(50);
    assert_eq!(scene.holder(0), "A");
    assert_eq!(told.node(A).verdict, eipwatch::core::tags::Verdict::Unknown);
    assert!(scene.says(&told, 0).starts_with("stay"), "{}", scene.says(&told, 0));
}

/// Rule 11: the same whatever its heartbeat or an alarm says: only probes judge what EC2 cannot describe.
#[test]
fn rule_11_without_probes_a_heartbeat_moves_nothing_off_what_cannot_be_described() {
    let mut scene = Scene::beating(2, "heartbeat");
    scene.ec2.faults_mut().push(Rule::new(Fault::Zone { zone: "eu-west-1a".to_owned(), unnamed: true }));
    scene.agent(A).status = "fail";
    scene.pass(6_000);
    let told = scene.watch(50);
    assert_eq!(scene.holder(0), "A", "{}", told.text());
    assert_eq!(told.node(A).verdict, eipwatch::core::tags::Verdict::Unknown);
}

/// Rule 11: an alarm about a holder that cannot be described does not end the asking of its probes: they decide.
#[test]
fn rule_11_probes_are_waited_for_whatever_an_alarm_says_of_what_cannot_be_described() {
    for (serves, holder) in [(true, "A"), (false, "B")] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "check", "http:8080/health alarm:High.Load");
        scene.season();
        scene.alarm(AlarmState::Alarm, &[A]);
        scene.ec2.faults_mut().push(Rule::new(Fault::Zone { zone: "eu-west-1a".to_owned(), unnamed: true }));
        if !serves {
            scene.refuse(A);
        }
        let told = scene.sweep();
        assert_eq!(scene.holder(0), holder, "{}", told.text());
    }
}

/// Rule 11: the same though a status check is impaired: what else speaks for it cannot be read.
#[test]
fn rule_11_without_probes_an_impaired_status_moves_nothing_off_what_cannot_be_described() {
    let mut scene = Scene::beating(2, "heartbeat");
    // Whom the state names is the cluster's, though nothing shows its tags.
    scene.remember(0, A, None, "no-holder", 600);
    scene.status(A, CheckKind::Application, Check::Impaired);
    let a = scene.node(A);
    scene.ec2.faults_mut().push(Rule::new(Fault::Omit(a)).on(Api::DescribeInstances));
    let told = scene.watch(50);
    scene.ends(&told, "stay healthy", "A");
    assert_eq!(told.node(A).verdict, eipwatch::core::tags::Verdict::Unknown);
    scene.unmoved();
}

/// Rule 12: failing reads are tried again with backoff until they work.
#[test]
fn rule_12_failing_reads_are_tried_again() {
    let mut scene = Scene::pair();
    let now_ms = scene.epoch_ms();
    scene.stop_node(A);
    for api in [Api::DescribeAddresses, Api::DescribeInstances] {
        scene.ec2.faults_mut().push(Rule::error("RequestLimitExceeded").on(api).between(now_ms, now_ms + 9_000));
    }
    let told = scene.sweep();
    scene.ends(&told, "move holder-gone to B", "B");
    assert!(told.report.ok && told.took_ms() < 15_000, "{} ms", told.took_ms());
    let reads = scene.calls().filter(|(at_ms, call)| *at_ms >= told.began_ms && call.code.is_some()).count();
    assert!(reads <= 20, "{reads} calls in 9 s are no backoff");
}

/// Rule 12: until the deadline, and then it is said what was not done.
#[test]
fn rule_12_at_the_deadline_it_says_what_was_not_done() {
    let mut scene = Scene::pair();
    scene.world.time_limit_ms = 20_000;
    scene.ec2.faults_mut().push(Rule::error("RequestLimitExceeded").on(Api::AssociateAddress));
    scene.refuse(A);
    let told = scene.sweep();
    assert!(told.took_ms() <= 20_000, "{} ms", told.took_ms());
    let error = told.report.error.clone().expect("it failed");
    assert!(error.contains("RequestLimitExceeded") && error.starts_with("web: "), "{error}");
    // The next sweep does it.
    scene.ec2.faults_mut().clear();
    scene.expect("move holder-unhealthy to B", &["associate B", "tag state 0"], "B");
}

/// Rule 12: a move whose answer was an error is sent again only while EC2 still shows the old holder.
#[test]
fn rule_12_a_move_is_only_sent_again_while_ec2_shows_the_old_holder() {
    use eipwatch::embedded::ec2::Error;
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 20, max_ms: 20 }));
    let error = Fault::ErrorAfter(Error::injected("InternalError"));
    scene.ec2.faults_mut().push(Rule::new(error).on(Api::AssociateAddress));
    scene.refuse(A);
    let told = scene.sweep();
    let sent = told.calls.iter().filter(|call| call.starts_with("associate")).count();
    assert_eq!((sent, scene.holder(0).as_str(), told.report.ok), (1, "B", true), "{:?}", told.calls);
    // Lost on its way, it is sent again.
    let mut scene = Scene::pair();
    let now_ms = scene.epoch_ms();
    let rule = Rule::error("InternalError").on(Api::AssociateAddress).between(now_ms, now_ms + 3_000);
    scene.ec2.faults_mut().push(rule);
    scene.refuse(A);
    let told = scene.sweep();
    assert_eq!((scene.holder(0).as_str(), told.report.ok), ("B", true), "{:?}", told.calls);
    assert_eq!(scene.world.moves(&scene.address(0)).len(), 1);
}

/// Rule 12: what a watch can do without, and was refused, does not prolong it.
#[test]
fn rule_12_a_watch_ends_in_time_though_status_checks_cannot_be_read() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeInstanceStatus));
    let told = scene.watch(40);
    scene.ends(&told, "stay healthy", "A");
    assert!((40_000..41_000).contains(&told.took_ms()), "{} ms", told.took_ms());
}

/// Rule 13: a watch in quiet calls nothing that changes anything, whatever is configured.
#[test]
fn rule_13_in_quiet_nothing_is_changed() {
    let mut scene = Scene::seasoned(2, 3);
    scene.tag_address(0, "policy", "failback=auto stable=5s");
    scene.tag_node(B, "mode", "drain");
    scene.refuse(C);
    scene.season();
    let told = scene.watch(110);
    assert_eq!(told.calls, Vec::<String>::new());
    let told = scene.sweep();
    assert_eq!(told.calls, Vec::<String>::new());
}

/// Rule 13: a first verdict is a change; the same verdict again is none, though it is another invocation's.
#[test]
fn rule_13_a_first_verdict_is_a_change_and_the_same_again_is_none() {
    let mut scene = Scene::new(1, 3);
    scene.refuse(C);
    let told = scene.sweep();
    assert_eq!(told.calls, ["tag health A", "tag health B", "tag health C"]);
    assert_eq!(scene.sweep().calls, Vec::<String>::new());
}

/// Rules 8 and 13: moves are only ever made by calls that name the private address, and displace nobody.
#[test]
fn rule_8_moves_are_made_by_single_calls_that_name_the_place() {
    let mut scene = Scene::seasoned(2, 2);
    scene.stop_node(A);
    scene.sweep();
    let causes: Vec<_> = scene.ec2.history().iter().filter(|it| it.at_ms >= START_MS).map(|it| &it.cause).collect();
    assert!(causes.len() == 2 && causes.iter().all(|cause| matches!(cause, Cause::Call { .. })), "{causes:?}");
    assert_eq!(scene.ec2.displacements().count(), 0);
}
