//! EC2 and the network at their worst, between the function and moto: what is said must be what is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::node::Service;
use crate::harness::proxy::{ALWAYS, BROKEN, FORBIDDEN, Fault, Status, THROTTLED, instance_status};
use crate::harness::runtime_api::Invocation;
use crate::harness::world::{Pair, QUICK, schedule, state_change};

/// Enough for every retry that is expected to succeed.
const DEADLINE: Duration = Duration::from_secs(60);

/// A pair whose holder's service is dead.
fn dead_holder() -> Pair {
    let pair = Pair::new(QUICK);
    pair.holder.service.set(Service::Refuse);
    pair
}

fn sweep(pair: &Pair) -> Invocation {
    pair.world.function(&[]).invoke(schedule(), DEADLINE)
}

/// That the address moved, that EC2 says so, and that the answer does.
#[track_caller]
fn assert_moved(pair: &Pair, invocation: &Invocation) {
    let answer = invocation.answer();
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()), "{answer:#}");
    assert_eq!(answer["ok"], true, "{answer:#}");
    let address = &answer["clusters"][0]["addresses"][0];
    assert_eq!(address["holder"], pair.peer.id, "{answer:#}");
    let moves = address["moves"].as_array().unwrap();
    assert_eq!(moves.last().unwrap()["ok"], true, "{answer:#}");
}

/// That it did not move, and that nobody is told it did.
#[track_caller]
fn assert_failed(pair: &Pair, invocation: &Invocation, code: &str) {
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));
    let error = invocation.error();
    assert!(error.error_message.contains("web"), "names the cluster: {error:?}");
    assert!(error.error_message.contains(code), "names AWS's code {code}: {error:?}");
    assert!(!pair.world.ec2.tags(&pair.address.id).contains_key("eipwatch:state"), "remembers no move that was none");
}

fn associations(pair: &Pair) -> usize {
    pair.world.proxy.calls_of("AssociateAddress").len()
}

#[test]
fn a_throttled_move_is_made_a_little_later() {
    let pair = dead_holder();
    pair.world.proxy.fault("AssociateAddress", THROTTLED, 2);
    let invocation = sweep(&pair);
    assert_moved(&pair, &invocation);
    assert_eq!(associations(&pair), 3);
}

#[test]
fn a_move_whose_answer_is_lost_is_not_made_twice() {
    let pair = dead_holder();
    pair.world.proxy.fault("AssociateAddress", Fault::CutAfter, 1);
    let invocation = sweep(&pair);
    assert_moved(&pair, &invocation);
    assert_eq!(associations(&pair), 1, "EC2 shows the new holder: that is what counts");
}

#[test]
fn a_move_that_never_arrived_is_made_again() {
    let pair = dead_holder();
    pair.world.proxy.fault("AssociateAddress", Fault::CutBefore, 1);
    let invocation = sweep(&pair);
    assert_moved(&pair, &invocation);
    assert_eq!(associations(&pair), 2);
}

#[test]
fn an_internal_error_is_tried_again() {
    let pair = dead_holder();
    pair.world.proxy.fault("AssociateAddress", BROKEN, 1);
    let invocation = sweep(&pair);
    assert_moved(&pair, &invocation);
    assert_eq!(associations(&pair), 2);
}

#[test]
fn a_success_that_is_none_is_not_believed() {
    let pair = dead_holder();
    pair.world.proxy.fault("AssociateAddress", Fault::Pretend, ALWAYS);
    let invocation = pair.world.function(&[]).invoke(schedule(), Duration::from_secs(15));
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));
    let error = invocation.error();
    assert!(error.error_message.contains("web"), "{error:?}");
    assert!(!pair.world.ec2.tags(&pair.address.id).contains_key("eipwatch:state"));
}

#[test]
fn a_success_that_is_none_is_made_one() {
    let pair = dead_holder();
    pair.world.proxy.fault("AssociateAddress", Fault::Pretend, 1);
    let function = pair.world.function(&[]);
    // At the latest the next sweep does it.
    for _ in 0..2 {
        let _ = function.invoke(schedule(), DEADLINE);
    }
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
}

#[test]
fn stale_reads_after_the_move_are_waited_out() {
    let pair = dead_holder();
    pair.world.proxy.stale_reads(Duration::from_secs(3));
    let invocation = sweep(&pair);
    assert_moved(&pair, &invocation);
    assert_eq!(associations(&pair), 1, "no second move on the strength of an old read");
    assert!(invocation.took > Duration::from_secs(3), "success is what EC2 shows: {:?}", invocation.took);
}

#[test]
fn a_move_that_is_not_permitted_fails_with_the_code() {
    let pair = dead_holder();
    pair.world.proxy.fault("AssociateAddress", FORBIDDEN, ALWAYS);
    let invocation = sweep(&pair);
    assert_failed(&pair, &invocation, "UnauthorizedOperation");
    // A command answers, with the error in it.
    let answer = pair.world.function(&[]).invoke(json!({"action": "sweep"}), DEADLINE);
    let answer = answer.answer();
    assert_eq!(answer["ok"], false);
    let address = &answer["clusters"][0]["addresses"][0];
    assert_eq!(
        (&address["decision"]["kind"], &address["decision"]["why"]),
        (&json!("blocked"), &json!("not-permitted"))
    );
    assert_eq!(address["holder"], pair.holder.id);
    let attempt = &address["moves"][0];
    assert_eq!(attempt["ok"], false);
    assert!(attempt["error"].as_str().unwrap().contains("UnauthorizedOperation"), "{attempt}");
}

#[test]
fn a_candidate_that_ec2_refuses_makes_room_for_the_next() {
    let pair = dead_holder();
    let third = pair.world.node("web-3", &[("eipwatch:cluster", "web"), ("eipwatch:priority", "50")]);
    pair.world.proxy.fault("AssociateAddress", Fault::Error(400, "IncorrectInstanceState"), 1);
    let invocation = sweep(&pair);
    let calls = pair.world.proxy.calls_of("AssociateAddress");
    assert_eq!(calls[0].param("NetworkInterfaceId"), Some(pair.peer.interface.as_str()), "the better one first");
    assert_eq!(pair.holder_now(), Some(third.id), "{}", invocation.log_text());
}

#[test]
fn tags_that_cannot_be_written_are_a_problem_and_no_failure() {
    let pair = dead_holder();
    pair.world.proxy.fault("CreateTags", FORBIDDEN, ALWAYS);
    let invocation = sweep(&pair);
    assert_moved(&pair, &invocation);
    let answer = invocation.answer();
    let all = format!("{} {}", answer["problems"], answer["clusters"][0]["problems"]);
    assert!(all.contains("UnauthorizedOperation"), "{all}");
}

#[test]
fn a_throttled_tag_is_written_a_little_later() {
    let pair = dead_holder();
    pair.world.proxy.fault("CreateTags", THROTTLED, 1);
    let invocation = sweep(&pair);
    assert_moved(&pair, &invocation);
    assert!(pair.world.ec2.tags(&pair.address.id).contains_key("eipwatch:state"), "{}", invocation.log_text());
}

#[test]
fn reads_that_fail_for_a_moment_are_tried_again() {
    let pair = dead_holder();
    for action in ["DescribeAddresses", "DescribeInstances", "DescribeInstanceStatus"] {
        pair.world.proxy.fault(action, THROTTLED, 1);
        pair.world.proxy.fault(action, Fault::CutBefore, 1);
    }
    assert_moved(&pair, &sweep(&pair));
}

#[test]
fn without_addresses_nothing_is_known_and_the_invocation_fails() {
    let pair = dead_holder();
    pair.world.proxy.fault("DescribeAddresses", FORBIDDEN, ALWAYS);
    let invocation = pair.world.function(&[]).invoke(schedule(), Duration::from_secs(15));
    let error = invocation.error();
    assert!(error.error_message.contains("UnauthorizedOperation"), "{error:?}");
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
}

#[test]
fn instances_that_cannot_be_described_are_unknown_not_gone() {
    let pair = Pair::new(QUICK);
    let function = pair.world.function(&[]);
    function.invoke(schedule(), DEADLINE);
    pair.world.proxy.forget();
    pair.world.proxy.fault("DescribeInstances", BROKEN, ALWAYS);
    // Whether that is told as a failure or as a problem: nothing moves.
    let invocation = function.invoke(schedule(), Duration::from_secs(20));
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));
    assert_eq!(associations(&pair), 0);
    match &invocation.outcome {
        Ok(answer) => {
            assert_ne!(answer["problems"].to_string() + &answer["clusters"][0]["problems"].to_string(), "[][]");
            for node in answer["clusters"][0]["nodes"].as_array().unwrap() {
                assert_ne!(node["verdict"], "gone", "{answer:#}");
            }
        }
        Err(error) => assert!(error.error_message.contains("InternalError"), "{error:?}"),
    }
}

#[test]
fn everything_slow_is_slow_and_no_more() {
    let pair = dead_holder();
    pair.world.proxy.fault("*", Fault::Delay(Duration::from_millis(700)), ALWAYS);
    assert_moved(&pair, &sweep(&pair));
}

#[test]
fn a_deadline_that_is_near_is_kept() {
    let pair = dead_holder();
    pair.world.proxy.fault("AssociateAddress", THROTTLED, ALWAYS);
    // The harness fails the test if the function overruns it, as Lambda would kill it.
    let invocation = pair.world.function(&[]).invoke(schedule(), Duration::from_secs(6));
    assert_failed(&pair, &invocation, "RequestLimitExceeded");
}

#[test]
fn a_watcher_killed_in_the_middle_leaves_what_the_next_one_finishes() {
    let pair = dead_holder();
    pair.world.proxy.fault("CreateTags", Fault::Delay(Duration::from_secs(30)), 2);
    let function = pair.world.function(&[]);
    let _lost = function.send(schedule(), DEADLINE);
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    while pair.holder_now().as_deref() != Some(pair.peer.id.as_str()) {
        assert!(std::time::Instant::now() < limit, "the address never moved");
        std::thread::sleep(Duration::from_millis(20));
    }
    function.kill();
    pair.world.proxy.heal();
    pair.world.proxy.forget();
    let next = sweep(&pair);
    assert_eq!(next.answer()["ok"], true, "{:#}", next.answer());
    assert_eq!(associations(&pair), 0, "it is where it belongs");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
}

#[test]
fn racing_invocations_move_it_once_and_to_the_same_node() {
    let pair = dead_holder();
    let (one, other) = (pair.world.function(&[]), pair.world.function(&[]));
    let first = one.send(schedule(), DEADLINE);
    let second = other.send(state_change(&pair.holder.id, "stopped"), DEADLINE);
    let (first, second) = (first.wait(), second.wait());
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
    assert_eq!((&first.answer()["ok"], &second.answer()["ok"]), (&json!(true), &json!(true)));
    let calls = pair.world.proxy.calls_of("AssociateAddress");
    assert!((1..=2).contains(&calls.len()), "at most one more than one alone would make");
    assert!(calls.iter().all(|call| call.param("NetworkInterfaceId") == Some(pair.peer.interface.as_str())));
}

#[test]
fn an_impaired_peer_is_no_candidate() {
    let pair = dead_holder();
    let statuses = [Status::ok(&pair.holder.id), Status { system: "impaired", ..Status::ok(&pair.peer.id) }];
    pair.world.proxy.fault("DescribeInstanceStatus", instance_status(&statuses), ALWAYS);
    let invocation = sweep(&pair);
    let decision = &invocation.answer()["clusters"][0]["addresses"][0]["decision"];
    assert_eq!((&decision["kind"], &decision["why"]), (&json!("stay"), &json!("no-candidate")));
    assert!(decision["vetoes"].to_string().contains(&pair.peer.id), "{decision:#}");
    assert_eq!(associations(&pair), 0);
}

#[test]
fn an_impaired_holder_that_serves_keeps_the_address() {
    let pair = Pair::new(QUICK);
    let statuses = [Status { instance: "impaired", ..Status::ok(&pair.holder.id) }, Status::ok(&pair.peer.id)];
    pair.world.proxy.fault("DescribeInstanceStatus", instance_status(&statuses), ALWAYS);
    let invocation = sweep(&pair);
    let decision = &invocation.answer()["clusters"][0]["addresses"][0]["decision"];
    assert_eq!(decision["kind"], "stay", "{decision:#}");
    assert_eq!(associations(&pair), 0);
}

#[test]
fn a_retirement_that_has_begun_is_left_in_time() {
    let pair = Pair::new(QUICK);
    let soon = std::time::SystemTime::now() + Duration::from_secs(300);
    let soon = humantime::format_rfc3339_seconds(soon).to_string();
    let event = Some(("instance-retirement", soon.as_str()));
    let statuses = [Status { event, ..Status::ok(&pair.holder.id) }, Status::ok(&pair.peer.id)];
    pair.world.proxy.fault("DescribeInstanceStatus", instance_status(&statuses), ALWAYS);
    let invocation = sweep(&pair);
    assert_eq!(invocation.answer()["clusters"][0]["addresses"][0]["decision"]["why"], "holder-leaving");
    assert_moved(&pair, &invocation);
}

/// The one cluster's one address, checked by an alarm beside the http check, with the alarm on the holder.
fn with_alarm() -> Pair {
    let pair = Pair::new(QUICK);
    let checks = format!("http:{}/health alarm:web-errors", pair.world.port);
    pair.world.ec2.tag(&pair.address.id, "eipwatch:check", &checks);
    pair.world.cloudwatch.set("web-errors", "ALARM", Some(&pair.holder.id));
    pair
}

#[test]
fn an_alarm_on_the_holder_moves_the_address() {
    let pair = with_alarm();
    let invocation = sweep(&pair);
    assert_eq!(invocation.answer()["clusters"][0]["addresses"][0]["decision"]["why"], "holder-unhealthy");
    assert_moved(&pair, &invocation);
}

#[test]
fn without_cloudwatch_the_other_checks_go_on() {
    let pair = with_alarm();
    pair.world.cloudwatch.broken(true);
    let invocation = pair.world.function(&[]).invoke(schedule(), Duration::from_secs(20));
    assert_eq!(
        pair.holder_now().as_deref(),
        Some(pair.holder.id.as_str()),
        "an alarm that cannot be read tells nothing"
    );
    pair.holder.service.set(Service::Refuse);
    assert_ne!(pair.world.cloudwatch.calls(), 0);
    drop(invocation);
    let invocation = pair.world.function(&[]).invoke(schedule(), Duration::from_secs(30));
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()), "{}", invocation.log_text());
}

#[test]
fn garbage_in_the_tags_is_named_and_moves_nothing() {
    let pair = Pair::new(QUICK);
    pair.world.ec2.tag(&pair.address.id, "eipwatch:policy", "interval=200ms fast=100ms fall=three");
    pair.world.ec2.tag(&pair.address.id, "eipwatch:state", "holder=?? since=never");
    pair.world.ec2.tag(&pair.peer.id, "eipwatch:priority", "very high");
    let invocation = sweep(&pair);
    let cluster = &invocation.answer()["clusters"][0];
    let problems: Vec<&str> = cluster["problems"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    for (tag, resource, part) in [
        ("eipwatch:policy", &pair.address.id, "fall=three"),
        ("eipwatch:state", &pair.address.id, "??"),
        ("eipwatch:priority", &pair.peer.id, "very high"),
    ] {
        let named =
            |problem: &&str| problem.contains(tag) && problem.contains(resource.as_str()) && problem.contains(part);
        assert!(problems.iter().any(named), "{tag} on {resource}, {part}: {problems:#?}");
    }
    assert_eq!(cluster["addresses"][0]["decision"]["why"], Value::from("healthy"));
    assert_eq!(associations(&pair), 0);
}
