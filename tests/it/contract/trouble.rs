//! What goes wrong on the way: the API's faults, deadlines, kills, and whether the log tells enough.

use std::collections::BTreeMap;
use std::time::Duration;

use eipwatch::core::event::{Command, Trigger};
use eipwatch::core::log::Record;
use eipwatch::core::model::{Answer, CloudError, Seen};
use eipwatch::core::time::Time;
use eipwatch::core::watch::{Effect, Ending, Input, Settings, Watch};
use eipwatch::embedded::ec2::{Api, Check, CheckKind, Id, InstanceSpec};
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::embedded::seam;
use eipwatch::sim::world::{Behaviour, START_MS, World, spot_event, state_event};
use serde_json::json;

use super::{A, B, C, Scene};

/// Each call of EC2's fails for a while, or for good, while the holder dies: what can be moved is moved.
#[test]
fn a_failing_read_that_can_be_done_without_holds_up_nothing() {
    for api in [Api::DescribeInstanceStatus, Api::DescribeTags, Api::DescribeNetworkInterfaces, Api::DescribeAlarms] {
        for code in ["InternalError", "RequestLimitExceeded", "UnauthorizedOperation"] {
            let mut scene = Scene::pair();
            scene.ec2.faults_mut().push(Rule::error(code).on(api));
            scene.refuse(A);
            let told = scene.sweep();
            assert_eq!(scene.holder(0), "B", "{api:?} {code}: {}", told.text());
            let moved_ms = scene.moved_after_ms(&told);
            assert!(moved_ms <= 2_500, "{api:?} {code}: {moved_ms} ms");
            assert!(told.report.ok, "{api:?} {code}: {:?}", told.report.error);
        }
    }
}

/// Status checks are read by id once nodes are known, of all where there are more than a call can name, or one of them is forgotten.
#[test]
fn status_checks_are_read_by_id_as_far_as_that_goes() {
    // Who names nobody is refused later on: a cluster of the usual size names its nodes.
    let unnamed =
        || Rule::new(Fault::Zone { zone: "elsewhere".to_owned(), unnamed: true }).on(Api::DescribeInstanceStatus);
    for refused_after_ms in [10_000, 0] {
        let mut scene = Scene::pair();
        let from_ms = scene.epoch_ms() + refused_after_ms;
        scene.ec2.faults_mut().push(unnamed().between(from_ms, u64::MAX));
        let told = scene.watch(40);
        assert_eq!(told.problems(), "", "after {refused_after_ms} ms");
    }
    // One that EC2 has forgotten fails a call that names it: then it names nobody.
    let mut scene = Scene::pair();
    let b = scene.node(B);
    scene.ec2.faults_mut().push(Rule::error("InvalidInstanceID.NotFound").on(Api::DescribeInstanceStatus).naming(&b));
    let told = scene.watch(40);
    assert_eq!((told.problems(), scene.calls_to(Api::DescribeInstanceStatus, &told).len()), (String::new(), 3));
    // Of 130 nodes none is left out.
    let mut scene = Scene::new(1, 130);
    scene.tag_address(0, "check", "ec2");
    scene.tag_node(120, "priority", "200");
    scene.after(10_000, |scene| scene.status(120, CheckKind::Instance, Check::Impaired));
    scene.after(36_000, |scene| scene.stop_node(A));
    let told = scene.watch(45);
    scene.ends(&told, "move holder-gone to B", "B");
}

/// A read that was allowed a moment ago and is refused now is tried again: credentials or a policy may be about to change. Five times in
/// a row end the watch.
#[test]
fn a_watch_outlives_a_read_that_is_refused_for_a_moment() {
    for api in [Api::DescribeAddresses, Api::DescribeInstances] {
        // With how long it has not been answered before.
        for (unanswered_ms, refused_ms, outlives) in [(0, 1_000, true), (0, 8_000, false), (2_300, 1_500, true)] {
            let mut scene = Scene::pair();
            let from_ms = scene.epoch_ms() + 4_900;
            let unanswered = Rule::error("InternalError").on(api).between(from_ms, from_ms + unanswered_ms);
            let refused_from_ms = from_ms + unanswered_ms;
            let refused = Rule::error("AuthFailure").on(api).between(refused_from_ms, refused_from_ms + refused_ms);
            scene.ec2.faults_mut().extend([unanswered, refused]);
            scene.after(15_000, |scene| scene.stop_node(A));
            let told = scene.watch(25);
            assert_eq!((told.report.ok, scene.holder(0) == "B"), (outlives, outlives), "{api:?} {refused_ms}");
            let said = told.report.error.is_some_and(|error| error.contains("AuthFailure"));
            assert_eq!(said, !outlives, "{api:?} {refused_ms}");
        }
    }
}

/// While an address is on its way EC2 is asked at least once a second, though it does not answer.
#[test]
fn a_move_on_its_way_is_looked_for_every_second() {
    let mut scene = Scene::pair();
    scene.stop_node(A);
    let from_ms = scene.epoch_ms() + 1;
    scene.ec2.faults_mut().extend([
        Rule::new(Fault::Latency { min_ms: 10, max_ms: 10 }),
        Rule::error("InternalError").on(Api::DescribeAddresses).between(from_ms + 10, from_ms + 9_000),
    ]);
    scene.tag_address(0, "policy", "rise=2");
    let told = scene.sweep();
    assert_eq!(scene.holder(0), "B");
    let reads = scene.calls_to(Api::DescribeAddresses, &told);
    let longest = reads.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(reads.len() > 8 && longest <= Some(1_100), "{reads:?}");
}

/// What only a rescue needs to know, and could not be read for 2 s, is asked for again soon.
#[test]
fn a_rescue_waits_a_second_for_another_try() {
    // A holder without its tag, that is gone.
    let mut scene = Scene::pair();
    scene.remember(0, A, None, "no-holder", 600);
    scene.untag_node(A, "cluster");
    scene.stop_node(A);
    let (a, from_ms) = (scene.node(A), scene.epoch_ms());
    let rule = Rule::error("InternalError").on(Api::DescribeInstances).naming(&a);
    scene.ec2.faults_mut().push(rule.between(from_ms, from_ms + 2_000));
    let told = scene.sweep();
    assert!(scene.moved_after_ms(&told) < 5_000 && scene.holder(0) == "B", "{}", told.text());
    // It is asked for at once, whatever else is still being read.
    let mut scene = Scene::pair();
    scene.remember(0, A, None, "no-holder", 600);
    scene.untag_node(A, "cluster");
    scene.stop_node(A);
    let slow = Rule::new(Fault::Latency { min_ms: 2_900, max_ms: 2_900 }).on(Api::DescribeInstanceStatus);
    scene.ec2.faults_mut().push(slow);
    let told = scene.sweep();
    assert!(scene.moved_after_ms(&told) < 1_500 && scene.holder(0) == "B", "{}", told.text());
    // An interface that is attached to nothing, and counts after 10 s.
    let mut scene = Scene::pair();
    scene.loose(0);
    let from_ms = scene.epoch_ms() + 9_000;
    let rule = Rule::error("InternalError").on(Api::DescribeNetworkInterfaces);
    scene.ec2.faults_mut().push(rule.between(from_ms, from_ms + 3_000));
    let told = scene.sweep();
    assert!(scene.moved_after_ms(&told) < 15_000 && scene.holder(0) == "A", "{}", told.text());
}

/// A watch that can observe no more does not hide what it was doing: a move that was sent may have been made.
#[test]
fn a_watch_that_sees_no_more_tells_of_the_move_that_it_has_sent() {
    for (code, fails_at_ms, blind, open) in [
        (
            "InternalError",
            0,
            "EC2 could not be observed for web",
            "web: 203.0.113.1 may have been moved to web-2 (i-00000000000000002) from web-1 (i-00000000000000001): ",
        ),
        (
            "UnauthorizedOperation",
            6_000,
            "EC2 does not let eipwatch observe",
            "web: NOT moved: EC2 refused to be read before the move could be sent",
        ),
    ] {
        let mut scene = Scene::pair();
        scene.world.time_limit_ms = 30_000;
        let from_ms = scene.epoch_ms() + 1_000;
        scene.after(fails_at_ms, |scene| scene.refuse(A));
        scene.ec2.faults_mut().push(Rule::error(code).on(Api::DescribeAddresses).between(from_ms, u64::MAX));
        scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::AssociateAddress));
        let told = scene.watch(20);
        let error = told.report.error.as_deref().unwrap_or_default();
        assert!(error.contains(code) && error.contains(blind), "{error}");
        assert!(error.contains(open), "{error}");
        if code == "InternalError" {
            assert_eq!(told.report.sweeps, 1, "a reading that fails is no sweep");
        }
    }
}

/// A move that EC2 could not be asked about for longer than it takes to verify one is open until it can.
#[test]
fn a_move_stays_open_until_ec2_can_be_asked_what_came_of_it() {
    let mut scene = Scene::pair();
    scene.refuse(A);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 200, max_ms: 200 }).on(Api::AssociateAddress));
    let from_ms = scene.epoch_ms() + 1_030;
    let unread = Rule::error("InternalError").on(Api::DescribeAddresses);
    scene.ec2.faults_mut().push(unread.between(from_ms, from_ms + 15_000));
    let told = scene.watch(30);
    scene.ends(&told, "move holder-unhealthy to B", "B");
    assert!(told.report.ok, "{:?}", told.report.error);
    assert!(scene.address_tag(0, "state").contains("why=holder-unhealthy"), "{}", scene.address_tag(0, "state"));
    let address = told.address(0);
    assert_eq!(address.moves.iter().map(|made| made.ok).collect::<Vec<_>>(), [true]);
    assert!(scene.moved_after_ms(&told) < 2_000, "it was sent before that");
}

/// Who has moved it meanwhile is found once EC2 can be asked again: that is no failure.
#[test]
fn a_third_holder_after_an_outage_is_no_failure() {
    let mut scene = Scene::seasoned(1, 3);
    scene.refuse(A);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 200, max_ms: 200 }).on(Api::AssociateAddress));
    let from_ms = scene.epoch_ms() + 1_030;
    let unread = Rule::error("InternalError").on(Api::DescribeAddresses);
    scene.ec2.faults_mut().push(unread.between(from_ms, from_ms + 15_000));
    scene.after(8_000, |scene| scene.by_hand(0, Some(C)));
    let told = scene.watch(30);
    assert!(told.report.ok, "{:?}", told.report.error);
    assert_eq!((scene.been(), scene.says(&told, 0)), (vec![Some(B), Some(C)], "stay moved-elsewhere".to_owned()));
}

/// A watch that is told to stop ends within half a minute, though EC2 does not say what came of its move; it says that.
#[test]
fn a_watch_that_is_told_to_stop_while_ec2_does_not_answer_ends_and_tells() {
    let mut scene = Scene::pair();
    scene.refuse(A);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 200, max_ms: 200 }).on(Api::AssociateAddress));
    let from_ms = scene.epoch_ms() + 1_030;
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeAddresses).between(from_ms, u64::MAX));
    let told = scene.stopped(100, 20_000);
    assert!(told.took_ms() <= 50_000, "{} ms", told.took_ms());
    let error = told.report.error.as_deref().unwrap_or_default();
    assert!(error.contains("may have been moved to web-2") && error.contains("the watch was stopped"), "{error}");
}

/// DescribeInstanceStatus down: the sweep goes on without it, and says so.
#[test]
fn describe_instance_status_down_is_a_problem_only() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeInstanceStatus));
    let told = scene.expect("stay healthy", &[], "A");
    told.problem("DescribeInstanceStatus");
    assert!(told.report.ok && told.cluster().ready && told.took_ms() <= 10_000, "{} ms", told.took_ms());
}

/// EC2 cannot be observed at all: the invocation fails, names AWS's code, and nothing was moved.
#[test]
fn an_ec2_that_cannot_be_observed_fails_the_invocation() {
    for (api, code) in [
        (Api::DescribeAddresses, "InternalError"),
        (Api::DescribeInstances, "RequestLimitExceeded"),
        (Api::DescribeAddresses, "UnauthorizedOperation"),
        (Api::DescribeAddresses, "AuthFailure"),
    ] {
        let mut scene = Scene::pair();
        scene.world.time_limit_ms = 20_000;
        scene.ec2.faults_mut().push(Rule::error(code).on(api));
        scene.ec2.faults_mut().push(Rule::error(code).on(Api::DescribeTags));
        let told = scene.sweep();
        assert!(!told.report.ok && told.took_ms() <= 20_000, "{code}");
        assert_eq!(told.report.sweeps, 0, "{code}");
        let gives_up_ms = match code {
            "UnauthorizedOperation" => 1_000,
            "AuthFailure" => 5_000,
            _ => 20_001,
        };
        assert!(told.took_ms() < gives_up_ms, "{code}: {} ms", told.took_ms());
        assert!(told.report.error.clone().unwrap_or_default().contains(code), "{:?}", told.report.error);
        if api == Api::DescribeInstances {
            assert!(told.report.error.clone().unwrap_or_default().contains(" for web"), "{:?}", told.report.error);
        }
        assert_eq!((told.calls.len(), scene.holder(0).as_str()), (0, "A"));
    }
}

/// EC2 that does not know good credentials for a moment is asked again, whatever it was asked for.
#[test]
fn an_ec2_that_does_not_know_the_credentials_at_first_is_asked_again() {
    for (api, for_ms) in [
        (Api::DescribeAddresses, 1_000),
        (Api::DescribeInstances, 1_000),
        (Api::DescribeInstanceStatus, 500),
        (Api::AssociateAddress, 1_000),
        (Api::CreateTags, 1_000),
    ] {
        let mut scene = Scene::pair();
        let epoch_ms = scene.epoch_ms();
        scene.ec2.faults_mut().push(Rule::error("AuthFailure").on(api).between(epoch_ms, epoch_ms + for_ms));
        scene.stop_node(A);
        let told = scene.sweep();
        scene.ends(&told, "move holder-gone to B", "B");
        assert_eq!(told.problems(), "", "{api:?}");
    }
}

/// People at a terminal are told within seconds that EC2 shows nothing; the function tries until its deadline.
#[test]
fn whoever_waits_for_the_answer_is_told_early_that_ec2_shows_nothing() {
    for (patience, expected_ms) in [(Some(Duration::from_secs(20)), 20_000), (None, 60_000)] {
        let began = Time::from_millis(START_MS);
        let status = Trigger::Command(Command::Status { cluster: None });
        let mut watch = Watch::new(vec![status], Settings::default(), began, began + Duration::from_secs(60));
        if let Some(patience) = patience {
            watch.hurry(patience);
        }
        let mut now = began;
        while let Some(wake) = watch.next_wake() {
            now = now.max(wake);
            for effect in watch.poll(now) {
                if let Effect::Look(id, _) = effect {
                    watch.feed(Input::Looked(id, Err(CloudError::from_code("InternalError", "down", true))), now);
                }
            }
        }
        let Some(Ending::Report(report)) = watch.ending() else { panic!("{:?}", watch.ending()) };
        assert!(report.error.as_ref().is_some_and(|error| error.contains("InternalError")), "{:?}", report.error);
        assert_eq!(now.since(began).as_millis(), expected_ms);
        let effort = watch.effort(now);
        assert!(u128::from(effort.took_ms) == expected_ms && effort.api_calls > 10, "{effort:?}");
    }
}

/// Tags that could not be written, or had no answer in time, are problems: no invocation fails for them, and no other tag is held up.
#[test]
fn tags_that_cannot_be_written_are_problems_only() {
    let mut scene = Scene::new(1, 2);
    scene.world.time_limit_ms = 10_000;
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 19_000, max_ms: 19_000 }).on(Api::CreateTags));
    let told = scene.sweep();
    assert!(told.report.ok, "{:?}", told.report.error);
    told.problem("may be written: it had no answer when the invocation's time was up");
    for (code, cure) in [("UnauthorizedOperation", true), ("InvalidInstanceID.NotFound", false)] {
        let mut scene = Scene::new(1, 2);
        let a = scene.node(A);
        scene.tag_address(0, "check", "ec2");
        scene.ec2.faults_mut().push(Rule::error(code).on(Api::CreateTags).naming(&a));
        let told = scene.sweep();
        // Both were written by one call; each is tried by itself.
        assert_eq!(scene.node_tag(A, "health"), "");
        assert!(told.report.ok && scene.node_tag(B, "health").starts_with("verdict=healthy"), "{code}");
        assert_eq!(told.problems().contains(&format!("The role needs ec2:CreateTags on {a}")), cure, "{code}");
    }
}

/// A move that waits for its reading when the time is up is told as not made.
#[test]
fn a_move_that_waits_at_the_deadline_was_not_made() {
    let mut scene = Scene::pair();
    scene.world.time_limit_ms = 10_000;
    // It falls after 8 s, and the reading that is asked for then comes too late.
    scene.tag_address(0, "policy", "fall=12");
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 2_500, max_ms: 2_500 }).on(Api::DescribeAddresses));
    scene.refuse(A);
    let told = scene.sweep();
    let error = told.report.error.as_deref().unwrap_or_default();
    assert!(error.starts_with("web: NOT moved: the invocation's time was up before the move could be sent"), "{error}");
    scene.unmoved();
}

/// Drives a watch by hand, late for each of its wakes: nodes answer well but A, which says nothing from its fourth probe on.
fn drive(scene: &mut Scene, trigger: Trigger, late_ms: u64) -> (Watch, Time, Vec<Record>) {
    let ip_of_a = scene.ec2.interfaces_of(&scene.node(A)).next().expect("an interface").private_ips[0];
    let began = Time::from_millis(scene.epoch_ms());
    let settings = Settings { watch: Duration::from_secs(20), ..Settings::default() };
    let mut watch = Watch::new(vec![trigger], settings, began, began + Duration::from_secs(60));
    let (mut now, mut calls, mut probes_of_a, mut log) = (began, 0, 0, Vec::new());
    while let Some(wake) = watch.next_wake() {
        now = now.max(wake) + Duration::from_millis(late_ms);
        for effect in watch.poll(now) {
            match effect {
                Effect::Look(id, look) => {
                    calls += 1;
                    let seen = seam::answer(&mut scene.ec2, 1, &look, now.as_millis());
                    watch.feed(Input::Looked(id, seen), now);
                }
                Effect::Act(id, act) => {
                    calls += 1;
                    let done = seam::act(&mut scene.ec2, 1, &act, now.as_millis());
                    watch.feed(Input::Acted(id, done), now);
                }
                Effect::Probe(id, target) => {
                    probes_of_a += u32::from(target.ip == ip_of_a);
                    if target.ip != ip_of_a || probes_of_a <= 3 {
                        watch.feed(Input::Probed(id, Answer::Status(200)), now);
                    }
                }
                Effect::Log(record) => log.push(record),
            }
        }
        assert!(calls < 200, "{late_ms} ms late: it asks on and on");
    }
    assert_eq!(watch.effort(now).api_calls, calls);
    (watch, now, log)
}

/// Whoever drives a watch comes late for each of its wakes, by little or by much; a node that does not answer is left all the same.
#[test]
fn a_late_driver_fails_over_too() {
    for late_ms in [1, 37, 400] {
        let mut scene = Scene::pair();
        let (watch, _, log) = drive(&mut scene, Trigger::Schedule { shard: None }, late_ms);
        let Some(Ending::Report(report)) = watch.ending() else { panic!("{:?}", watch.ending()) };
        assert!(report.ok && scene.holder(0) == "B", "{late_ms} ms late: {report:?}");
        let a = scene.node(A);
        let of_a = log.iter().find(|record| match record {
            Record::Passes { node, .. } | Record::Probe { node, .. } => node.as_str() == &*a,
            _ => false,
        });
        assert!(matches!(of_a, Some(Record::Passes { count: 3, .. })), "{late_ms} ms late: {of_a:?}");
    }
}

/// A dry run's calls are counted, too.
#[test]
fn a_late_driver_of_a_dry_run_moves_nothing() {
    let mut scene = Scene::seasoned(2, 2);
    scene.stop_node(A);
    let (watch, now, _) = drive(&mut scene, Trigger::Command(Command::Sweep { cluster: None, dry_run: true }), 5);
    // Addresses, instances, status checks, and whether each move would be allowed.
    assert_eq!(watch.effort(now).api_calls, 5);
    assert_eq!((scene.holder(0), scene.holder(1)), ("A".to_owned(), "A".to_owned()));
}

/// The first candidate is refused by EC2: the second one gets the address, in the same sweep.
#[test]
fn a_candidate_that_ec2_refuses_is_passed_over() {
    for code in [
        "IncorrectInstanceState",
        "InvalidInstanceID.NotFound",
        "InvalidNetworkInterfaceID.NotFound",
        "Gateway.NotAttached",
    ] {
        let mut scene = Scene::seasoned(1, 3);
        let b = scene.node(B);
        scene.ec2.faults_mut().push(Rule::error(code).on(Api::AssociateAddress).naming(&b));
        scene.stop_node(A);
        let told = scene.sweep();
        assert_eq!(scene.holder(0), "C", "{code}: {}", told.text());
        let tried: Vec<bool> = told.address(0).moves.iter().map(|tried| tried.ok).collect();
        assert_eq!((tried, told.report.ok), (vec![false, true], true), "{code}");
    }
}

/// Rule 12: what a move was made for is written down as long as the invocation lasts, however long tags cannot be written.
#[test]
fn rule_12_why_it_was_moved_is_written_though_tags_cannot_be_for_long() {
    let mut scene = Scene::pair();
    scene.no_tags_for(40_000);
    scene.stop_node(A);
    let told = scene.watch(20);
    assert!((40_000..47_000).contains(&told.took_ms()), "{} ms", told.took_ms());
    let state = scene.address_tag(0, "state");
    assert!(state.starts_with(&format!("holder={}", scene.node(B))) && state.contains("why=holder-gone"), "{state}");
}

/// A cluster whose last tags go while an address is on its way holds up no sweep.
#[test]
fn a_cluster_that_is_no_more_is_not_waited_for_once_its_move_is_over() {
    let (mut lost, mut gone) = (0, 0);
    for seconds in [0, 40] {
        for removed_after_ms in (2_000..5_000).step_by(250) {
            let mut scene = Scene::pair();
            scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 1_000, max_ms: 1_000 }));
            scene.stop_node(A);
            scene.after(removed_after_ms, |scene| {
                let address = scene.address(0);
                scene.world.untag(&address, "cluster");
                scene.untag_node(A, "cluster");
                scene.untag_node(B, "cluster");
            });
            let told = scene.watch(seconds);
            assert!(told.took_ms() < 1_000 * seconds + 20_000, "{removed_after_ms}: {} ms", told.took_ms());
            assert_eq!(scene.holder(0), "B", "{removed_after_ms}");
            let moved = format!("eipalloc-00000000000000001 was moved to {}", scene.nodes[B]);
            let has_lost_it = format!("{moved}, and is no longer in cluster web");
            let cluster = told.report.clusters.first().expect("what was moved is told");
            match cluster.addresses.first() {
                Some(address) => assert!(address.moves.iter().any(|made| made.ok), "{removed_after_ms}"),
                None => assert!(
                    cluster.problems.iter().any(|problem| problem.starts_with(&has_lost_it)),
                    "{removed_after_ms}: {:?}",
                    cluster.problems
                ),
            }
            lost += u32::from(cluster.addresses.is_empty());
            gone += u32::from(cluster.nodes.is_empty());
        }
    }
    assert!(lost > 0 && gone > 0, "the tags were never removed while the move was on its way: {lost}, {gone}");
}

/// What came of a move of an address that left its cluster meanwhile is told as it is: in vain, by others, or not known.
#[test]
fn what_came_of_a_move_of_an_address_that_left_its_cluster_is_told() {
    let nothing: fn(&mut Scene) = |_| {};
    let by_hand: fn(&mut Scene) = |scene| scene.by_hand(0, Some(C));
    let error = |code| Fault::Error(eipwatch::embedded::ec2::Error::injected(code));
    for (fault, meanwhile, time_limit_ms, what, holder) in [
        (error("InvalidParameterValue"), nothing, 60_000, "was NOT moved", "A"),
        (error("RequestLimitExceeded"), by_hand, 60_000, "was not moved by this invocation", "C"),
        (Fault::Hollow, nothing, 10_000, "may have been moved", "A"),
    ] {
        let mut scene = Scene::seasoned(1, 3);
        scene.world.time_limit_ms = time_limit_ms;
        scene.stop_node(A);
        for fault in [fault, Fault::Latency { min_ms: 4_000, max_ms: 4_000 }] {
            scene.ec2.faults_mut().push(Rule::new(fault).on(Api::AssociateAddress));
        }
        scene.after(1_000, |scene| {
            let address = scene.address(0);
            scene.world.untag(&address, "cluster");
        });
        scene.after(3_000, meanwhile);
        let told = scene.watch(20);
        let cluster = told.cluster();
        let text = format!("{} {what} to {}", scene.address(0), scene.node(B));
        assert!(cluster.addresses.is_empty(), "it has left: {:?}", cluster.addresses);
        assert!(cluster.problems.iter().any(|problem| problem.starts_with(&text)), "{text}: {:?}", cluster.problems);
        assert_eq!(scene.holder(0), holder, "{text}");
    }
}

/// Rule 10: the answer to a record that was slow to be written hides no newer one: who has the address back is known.
#[test]
fn rule_10_a_late_answer_hides_no_newer_record() {
    let mut met = 0;
    for back_after_ms in (3_400..6_000).step_by(200) {
        let mut scene = Scene::seasoned(1, 3);
        scene.tag_node(C, "priority", "900");
        scene.refuse(C);
        scene.sweep();
        scene.pass(30_000);
        let slow = Fault::Latency { min_ms: 4_500, max_ms: 4_500 };
        let epoch_ms = scene.epoch_ms();
        scene.ec2.faults_mut().push(Rule::new(slow).on(Api::CreateTags).between(epoch_ms, epoch_ms + 8_000));
        scene.refuse(A);
        // Another invocation, which knows more, brings it back to A; B's failing has that read before the answer comes.
        scene.after(back_after_ms, |scene| {
            scene.serve(A);
            scene.by_hand(0, Some(A));
            let (a, b, at) = (scene.node(A), scene.node(B), scene.time_in(1));
            scene.tag_address(0, "state", &format!("holder={a} since={at} from={b} why=holder-unhealthy moves={at}"));
            scene.serve(C);
            scene.refuse(B);
        });
        let told = scene.watch(45);
        let others_meanwhile = |at: &u64| *at < back_after_ms && back_after_ms < at + 4_500;
        met += usize::from(scene.calls_to(Api::CreateTags, &told).iter().any(others_meanwhile));
        assert_eq!(
            scene.been(),
            [Some(B), Some(A)],
            "{back_after_ms}: {:?} {:?}",
            scene.decided(told.handle),
            told.calls
        );
    }
    assert!(met > 0, "the record was never on its way");
}

/// A heartbeat that beats once an hour holds up no answer: a second look would come too late.
#[test]
fn a_look_that_would_come_too_late_is_not_waited_for() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "heartbeat");
    for node in [A, B] {
        let value = format!("seq=7 at={} status=ok every=3600s", scene.time_in(-20_000));
        scene.tag_node(node, "heartbeat", &value);
    }
    let told = scene.sweep();
    assert!(told.took_ms() < 5_000, "{} ms", told.took_ms());
}

/// A move that waits to be sent again and is no longer to be made is no failure.
#[test]
fn a_move_that_is_no_longer_wanted_is_no_failure() {
    let mut scene = Scene::pair();
    let epoch_ms = scene.epoch_ms();
    let throttled = Rule::error("RequestLimitExceeded").on(Api::AssociateAddress);
    scene.ec2.faults_mut().push(throttled.between(epoch_ms, epoch_ms + 8_000));
    scene.refuse(A);
    scene.after(3_000, |scene| scene.serve(A));
    let told = scene.watch(20);
    let moves: Vec<bool> = told.address(0).moves.iter().map(|made| made.ok).collect();
    assert_eq!(
        (moves, told.report.ok, scene.holder(0)),
        (vec![false], true, "A".to_owned()),
        "{:?}",
        told.report.error
    );
}

/// Rule 10: while a call is to be sent again, an old answer that shows its target, which held the address until moments ago, is no success.
#[test]
fn rule_10_an_old_answer_is_no_success_of_a_call_that_failed() {
    let mut met = 0;
    let codes = ["InternalError", "RequestLimitExceeded"];
    for (from_ms, code) in (0..3_000).step_by(50).flat_map(|from_ms| codes.map(|code| (from_ms, code))) {
        let mut scene = Scene::pair();
        scene.pass(10_000);
        scene.by_hand(0, Some(B));
        scene.remember(0, B, Some(A), "holder-unhealthy", 0);
        scene.pass(3_000);
        let epoch_ms = scene.epoch_ms();
        let failed = Rule::error(code).on(Api::AssociateAddress).between(epoch_ms, epoch_ms + 2_000);
        let old = Fault::Stale { what: Shown::Associations, up_to_ms: 8_000 };
        let old = Rule::new(old).on(Api::DescribeAddresses).between(epoch_ms + from_ms, epoch_ms + from_ms + 250);
        scene.ec2.faults_mut().extend([failed, old]);
        scene.stop_node(B);
        let told = scene.sweep();
        assert_eq!(scene.holder(0), "A", "{from_ms}");
        let sent = scene.calls_to(Api::AssociateAddress, &told);
        let between = |first: &u64| from_ms > *first && sent.len() > 1;
        met += usize::from(sent.first().is_some_and(between) && scene.ec2.met().contains_key("stale"));
        // It ends once EC2 really shows it there.
        assert!(told.address(0).moves.iter().all(|made| made.ok), "{from_ms} {code}: {:?}", told.address(0).moves);
    }
    assert!(met > 0);
}

/// An address that was released meanwhile is reported with AWS's code; the others go on.
#[test]
fn an_address_that_no_longer_exists_is_reported() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::error("InvalidAllocationID.NotFound").on(Api::AssociateAddress));
    scene.stop_node(A);
    let told = scene.sweep();
    assert!(!told.report.ok);
    let error = told.report.error.clone().unwrap_or_default();
    assert!(error.contains("InvalidAllocationID.NotFound"), "{error}");
    let look = format!("aws ec2 describe-addresses --allocation-ids {}", scene.address(0));
    let decision = told.text();
    assert!(decision.contains(&look), "how to see whether it is still there: {decision}");
    let tried = told.calls.iter().filter(|call| call.starts_with("associate")).count();
    assert_eq!(tried, 5);
}

/// Rule 4: an address that is so new that EC2 shows it and does not know it yet is rescued as soon as it is known.
#[test]
fn a_new_address_that_is_not_known_everywhere_yet_is_rescued() {
    let mut scene = Scene::pair();
    let epoch_ms = scene.epoch_ms();
    let unknown = Rule::error("InvalidAllocationID.NotFound").on(Api::AssociateAddress);
    scene.ec2.faults_mut().push(unknown.between(epoch_ms, epoch_ms + 1_500));
    scene.by_hand(0, None);
    let told = scene.sweep();
    scene.ends(&told, "move no-holder to A", "A");
    assert!(told.report.ok, "{:?}", told.report.error);
}

/// A connection that is cut before or after the effect, and an effect that comes late: one move, and it is said truly.
#[test]
fn connections_cut_before_and_after_the_effect() {
    for fault in [Fault::LostRequest, Fault::LostAnswer, Fault::Late { by_ms: 2_000 }] {
        let mut scene = Scene::pair();
        let now_ms = scene.epoch_ms();
        let rule = Rule::new(fault.clone()).on(Api::AssociateAddress).between(now_ms, now_ms + 4_000);
        scene.ec2.faults_mut().push(rule);
        scene.refuse(A);
        let told = scene.sweep();
        assert_eq!((scene.holder(0).as_str(), told.report.ok), ("B", true), "{fault:?}: {:?}", told.report.error);
        let moves = scene.world.moves(&scene.address(0));
        assert_eq!(moves.len(), 1, "{fault:?}: {moves:?}");
    }
}

/// Everything is slow: 4 s a call. It moves all the same.
#[test]
fn everything_is_slow() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 4_000, max_ms: 4_000 }));
    scene.stop_node(A);
    let told = scene.sweep();
    assert_eq!((scene.holder(0).as_str(), told.report.ok), ("B", true), "{:?}", told.report.error);
}

/// Near its deadline it answers in time, and says what was not done.
#[test]
fn near_its_deadline_it_answers_in_time() {
    for limit_ms in [0, 1, 10, 100, 600, 999, 1_001, 1_500, 3_000] {
        let mut scene = Scene::pair();
        scene.world.time_limit_ms = limit_ms;
        scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 200, max_ms: 200 }));
        scene.refuse(A);
        let told = scene.sweep();
        assert!(told.took_ms() <= limit_ms, "{limit_ms}: {} ms", told.took_ms());
        let claimed = told.report.clusters.first().and_then(|cluster| cluster.addresses.first());
        let moved = claimed.is_some_and(|address| address.moves.iter().any(|made| made.ok));
        assert!(!moved || scene.holder(0) == "B", "{limit_ms}");
        assert!(
            told.report.ok == (moved || limit_ms > 400 && scene.says(&told, 0).starts_with("stay")),
            "{limit_ms}: {:?}",
            told.report
        );
        // And the next sweep, with time enough, finishes what is left.
        scene.world.time_limit_ms = 60_000;
        let told = scene.sweep();
        assert_eq!((scene.holder(0).as_str(), told.report.ok), ("B", true), "{limit_ms}");
    }
}

/// Killed after each of its effects, with an event of a Spot notice and calls that take time: the next sweep finishes.
#[test]
fn killed_after_any_effect_of_an_event_the_next_sweep_finishes() {
    for effects in 0..60 {
        let mut scene = Scene::seasoned(2, 3);
        scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 50, max_ms: 50 }));
        scene.stop_node(A);
        let now_ms = scene.now_ms();
        scene.world.settings.watch = std::time::Duration::ZERO;
        let event = state_event(&scene.node(A), eipwatch::embedded::ec2::State::Stopping, now_ms);
        let doomed = scene.invoke(&event, now_ms);
        scene.kill(doomed, eipwatch::sim::world::Death::AfterEffects(effects));
        scene.run();
        let finished = scene.report(doomed).is_some();
        let told = scene.sweep();
        assert!(told.report.ok, "after {effects}: {:?}", told.report.error);
        assert_eq!((scene.holder(0), scene.holder(1)), ("B".to_owned(), "C".to_owned()), "after {effects}");
        for n in 0..2 {
            assert_eq!(scene.world.moves(&scene.address(n)).len(), 1, "after {effects}: address {n}");
        }
        if finished {
            return;
        }
    }
    panic!("it never lived to its end");
}

/// A Spot notice heard by an invocation that dies before it could write is heard again by Lambda's retry.
#[test]
fn a_spot_notice_survives_the_death_of_whom_it_was_told() {
    for effects in 0..12 {
        let mut scene = Scene::pair();
        let (now_ms, spot) = (scene.now_ms(), spot_event(&scene.node(A), scene.now_ms()));
        let doomed = scene.invoke(&spot, now_ms);
        scene.kill(doomed, eipwatch::sim::world::Death::AfterEffects(effects));
        scene.run();
        scene.pass(60_000);
        // Asynchronous invocation is retried after a minute.
        let told = scene.send(&spot);
        assert_eq!((scene.holder(0).as_str(), told.node(A).leaving.as_deref()), ("B", Some("spot")), "after {effects}");
        assert_eq!(scene.world.moves(&scene.address(0)).len(), 1, "after {effects}");
    }
}

/// When the watch's time is over each node comes to a verdict once: new doubts of nodes that hold nothing, in turn and without end, put off the
/// end no more.
#[test]
fn doubts_in_turn_put_off_no_end() {
    let mut scene = Scene::seasoned(1, 3);
    scene.tag_address(0, "policy", "fall=5");
    // Of 3 s each is in doubt for two: B is not from 20 s and 23 s on, C from 18.5 s and 21.5 s on.
    for (node, from_ms) in [(B, 10_750), (C, 12_250)] {
        scene.after(from_ms, move |scene| scene.service(node, Behaviour::Flap { up_ms: 1_000, down_ms: 2_000 }));
    }
    let told = scene.watch(20);
    assert!((21_000..22_000).contains(&told.took_ms()), "{} ms", told.took_ms());
    scene.ends(&told, "stay healthy", "A");
}

/// Where more probes are wanted than can be made at once, the cluster that has waited longest is next, however often it was looked at
/// meanwhile, and however many more another wants.
#[test]
fn who_has_waited_longest_for_a_probe_is_next() {
    let mut scene = Scene { world: World::new(1) };
    let mut add = |name: &str, nodes: usize, policy: &str| {
        let nodes: Vec<Id> = (0..nodes).map(|_| scene.add_node_of(name, InstanceSpec::default())).collect();
        let address = scene.add_address_of(name, &nodes, false);
        scene.tag(&address, "policy", policy);
        (nodes, address)
    };
    // From 3 s on they have all 600 probes, 20 for each node of the crowd and one for each slow one.
    let (crowd, _) = add("crowd", 29, "fall=20 fast=50ms timeout=30s");
    let (slow, _) = add("slow", 20, "fall=1 rise=1 timeout=30s");
    // They wait from 3.5 s, 6.5 s and 7.5 s on. Nodes are read every 5 s.
    let (first, first_address) = add("web1", 2, "fall=1");
    let (hog, _) = add("hog", 3, "fall=1 interval=6s timeout=30s");
    let (last, last_address) = add("web2", 2, "fall=1 interval=7s");
    scene.settle();
    scene.after(1_990, move |scene| {
        for id in crowd.iter().chain(&slow) {
            scene.world.service(id, Behaviour::Silent);
        }
        // One is free after 12 s, one after 14 s.
        scene.world.service(&slow[0], Behaviour::Serve { latency_ms: 10_000 });
        scene.world.service(&slow[1], Behaviour::Serve { latency_ms: 12_000 });
    });
    let holders = [first[0].clone(), last[0].clone()];
    scene.after(3_200, move |scene| {
        holders.iter().for_each(|id| scene.world.service(id, Behaviour::Refuse));
        hog.iter().for_each(|id| scene.world.service(id, Behaviour::Silent));
    });
    scene.watch(20);
    assert_eq!(scene.most_probes, 600);
    for (address, at_ms, to) in [(first_address, 12_000, &first[1]), (last_address, 14_000, &last[1])] {
        let moved_ms = scene.world.moves(&address).last().map(|(at_ms, _)| *at_ms);
        assert_eq!((moved_ms, scene.ec2.holder(&address)), (Some(at_ms), Some(to)));
    }
}

/// Told to stop, a watch finishes what is on its way and begins nothing.
#[test]
fn told_to_stop_it_ends_soon() {
    let mut scene = Scene::pair();
    let told = scene.stopped(55, 20_000);
    assert!((20_000..=21_000).contains(&told.took_ms()), "{} ms", told.took_ms());
    assert!(told.report.ok);
}

/// A move that is on its way is waited for, until EC2 shows it and it is recorded.
#[test]
fn told_to_stop_it_waits_for_a_move_on_its_way() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 1_000, max_ms: 1_000 }).on(Api::AssociateAddress));
    scene.refuse(A);
    let told = scene.stopped(55, 1_300);
    scene.ends(&told, "move holder-unhealthy to B", "B");
    assert!(told.report.ok && told.took_ms() <= 3_000, "{} ms: {:?}", told.took_ms(), told.report.error);
    assert!(told.calls.contains(&"tag state 0".to_owned()), "{:?}", told.calls);
}

/// A move that was throttled and waits is not sent again: it has not been made, and that is said.
#[test]
fn told_to_stop_it_does_not_send_a_move_again() {
    for watch_s in [0, 55] {
        let mut scene = Scene::pair();
        scene.ec2.faults_mut().push(Rule::error("RequestLimitExceeded").on(Api::AssociateAddress));
        scene.refuse(A);
        let told = scene.stopped(watch_s, 1_300);
        scene.ends(&told, "move holder-unhealthy to B", "A");
        assert_eq!(told.took_ms(), 1_300, "{watch_s}: it waits for nothing");
        let error = told.report.error.clone().unwrap_or_default();
        assert!(!told.report.ok && error.contains("RequestLimitExceeded") && error.contains("stopped"), "{error}");
        assert!(!scene.calls_to(Api::AssociateAddress, &told).is_empty());
    }
}

/// While it waits for one move it begins no other.
#[test]
fn told_to_stop_it_begins_no_move_while_it_waits_for_another() {
    let mut scene = Scene::seasoned(2, 2);
    let (first, second) = (scene.address(0), scene.address(1));
    let slow = Rule::new(Fault::Latency { min_ms: 3_000, max_ms: 3_000 });
    scene.ec2.faults_mut().extend([
        slow.on(Api::AssociateAddress).naming(&first),
        Rule::error("RequestLimitExceeded").on(Api::AssociateAddress).naming(&second),
    ]);
    scene.refuse(A);
    let told = scene.stopped(55, 1_300);
    assert_eq!((scene.holder(0), scene.holder(1), told.report.ok), ("B".to_owned(), "A".to_owned(), false));
    let refused = scene.calls().filter(|(_, call)| call.code.is_some()).map(|(at_ms, _)| at_ms - told.began_ms);
    let refused: Vec<u64> = refused.collect();
    assert!(!refused.is_empty() && refused.iter().all(|at_ms| *at_ms <= 1_300), "{refused:?}");
}

/// A failing invocation and a manual `ok: false` carry the same error: the cluster's name and AWS's code.
#[test]
fn an_error_names_the_cluster_and_awss_code() {
    for payload in [eipwatch::sim::world::schedule_event(), json!({"action": "sweep"})] {
        let mut scene = Scene::pair();
        scene.ec2.faults_mut().push(Rule::error("OperationNotPermitted").on(Api::AssociateAddress));
        scene.stop_node(A);
        let told = scene.send(&payload);
        let error = told.report.error.clone().expect("it failed");
        assert!(!told.report.ok && error.starts_with("web: ") && error.contains("OperationNotPermitted"), "{error}");
        assert_eq!(scene.says(&told, 0), "blocked not-permitted to B");
    }
}

/// The log: what EC2 showed can be put together again from its readings alone, at every moment of a decision.
#[test]
fn the_log_tells_every_reading_that_changed() {
    let mut scene = Scene::seasoned(1, 3);
    scene.after(12_000, |scene| scene.refuse(A));
    scene.after(30_000, |scene| scene.terminate_node(C));
    let told = scene.watch(55);
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    let mut addresses: BTreeMap<String, Option<String>> = BTreeMap::new();
    for record in scene.log(told.handle) {
        let Record::Reading { changed, gone, .. } = record else { continue };
        match changed {
            Seen::Instances(list) => {
                shown.extend(list.iter().map(|of| (of.id.to_string(), of.state.as_str().to_owned())));
            }
            Seen::Addresses(list) => addresses.extend(list.iter().map(|of| {
                let holder = of.association.as_ref().and_then(|at| at.instance.as_ref());
                (of.id.to_string(), holder.map(ToString::to_string))
            })),
            _ => {}
        }
        for id in gone {
            shown.remove(id);
        }
    }
    let (a, c, ip): (Id, Id, Id) = (scene.node(A), scene.node(C), scene.address(0));
    assert_eq!(shown.get(&*a).map(String::as_str), Some("running"));
    assert!(matches!(shown.get(&*c).map(String::as_str), Some("shutting-down" | "terminated")), "{shown:?}");
    assert_eq!(addresses.get(&*ip).cloned().flatten().as_deref(), Some(&*scene.node(B)));
    // Failures one by one, successes as counts, the decision and its move.
    let log = scene.log(told.handle);
    let count = |is: fn(&Record) -> bool| log.iter().filter(|record| is(record)).count();
    assert!(count(|record| matches!(record, Record::Probe { ok: Some(false), .. })) >= 3);
    let passes: u32 = log
        .iter()
        .map(|record| match record {
            Record::Passes { count, .. } => *count,
            _ => 0,
        })
        .sum();
    assert!(passes > 50, "{passes}");
    assert_eq!(count(|record| matches!(record, Record::Move { .. })), 1);
    assert_eq!(count(|record| matches!(record, Record::End { .. })), 1);
}

/// A run of passed probes is told before what ends it, and what was made of the failures is in the answer.
#[test]
fn the_log_tells_runs_of_passes_before_what_ends_them() {
    let mut scene = Scene::pair();
    let (a, silent_at) = (scene.node(A), Time::from_millis(scene.epoch_ms() + 10_000));
    scene.after(10_000, |scene| scene.service(A, Behaviour::Silent));
    let told = scene.watch(20);
    let of_a: Vec<&Record> = scene
        .world
        .log(told.handle)
        .iter()
        .filter(|record| match record {
            Record::Passes { node, .. } | Record::Probe { node, .. } => node.as_str() == &*a,
            _ => false,
        })
        .collect();
    let Some(Record::Passes { at, since, slowest_at, count, .. }) = of_a.first() else { panic!("{of_a:?}") };
    assert!(*at <= silent_at && *slowest_at == Some(*since) && *count >= 4, "{:?}", of_a[0]);
    assert!(matches!(of_a.get(1), Some(Record::Probe { .. })), "{of_a:?}");
    assert!(told.node(A).longest_fail_streak > 3 && told.node(B).longest_fail_streak == 0);
    assert_eq!(told.address(0).moves[0].detect_ms, Some(2_000));
}

/// A watch that is told to stop finishes what is on its way, and waits for nothing else: not for a rescue that is still being looked into.
#[test]
fn told_to_stop_it_ends_though_a_rescue_is_due() {
    let mut scene = Scene::pair();
    scene.by_hand(0, None);
    for node in [A, B] {
        scene.service(node, Behaviour::Silent);
    }
    let told = scene.stopped(55, 500);
    assert!(told.took_ms() <= 500, "{} ms", told.took_ms());
    assert!(told.calls.iter().all(|call| !call.starts_with("associate")));
}
