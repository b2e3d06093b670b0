//! What the function is for, over the wire: an event comes in, the address moves, the answer says why.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::node::{OK, Service};
use crate::harness::runtime_api::{Function, Invocation};
use crate::harness::world::{Pair, QUICK, World, schedule, state_change};

/// More than any of these invocations needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// The one address of the one cluster in the answer.
fn address(invocation: &Invocation) -> &Value {
    let answer = invocation.answer();
    assert_eq!(answer["clusters"].as_array().map(Vec::len), Some(1), "{answer:#}");
    let cluster = &answer["clusters"][0];
    assert_eq!(cluster["cluster"], "web");
    assert_eq!(cluster["addresses"].as_array().map(Vec::len), Some(1), "{answer:#}");
    &cluster["addresses"][0]
}

/// `(kind, why)` of its decision.
fn decision(invocation: &Invocation) -> (&str, &str) {
    let decision = &address(invocation)["decision"];
    (decision["kind"].as_str().unwrap(), decision["why"].as_str().unwrap())
}

/// What the answer says of a node.
fn node<'a>(invocation: &'a Invocation, id: &str) -> &'a Value {
    let nodes = invocation.answer()["clusters"][0]["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("{id} is not in {nodes:?}"))
}

fn run(function: &Function, payload: Value) -> Invocation {
    function.invoke(payload, DEADLINE)
}

#[test]
fn a_dead_service_loses_the_address_to_a_healthy_peer() {
    let pair = Pair::new("");
    pair.holder.service.set(Service::Refuse);
    let invocation = run(&pair.world.function(&[]), schedule());

    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()), "{}", invocation.log_text());
    let answer = invocation.answer();
    assert_eq!((&answer["trigger"], &answer["ok"], &answer["error"]), (&json!("schedule"), &json!(true), &Value::Null));
    assert_eq!(answer["dry_run"], false);
    let address = address(&invocation);
    assert_eq!(decision(&invocation), ("move", "holder-unhealthy"));
    assert_eq!(address["decision"]["to"], pair.peer.id);
    assert!(!address["decision"]["text"].as_str().unwrap().is_empty());
    assert_eq!(address["holder"], pair.peer.id);
    assert_eq!(address["allocation_id"], pair.address.id);
    assert_eq!(address["public_ip"], pair.address.public_ip);
    assert_eq!(address["mode"], "auto");
    let moves = address["moves"].as_array().unwrap();
    assert_eq!(moves.len(), 1, "{address:#}");
    assert_eq!(moves[0]["from"], pair.holder.id);
    assert_eq!(moves[0]["to"], pair.peer.id);
    assert_eq!((&moves[0]["ok"], &moves[0]["error"]), (&json!(true), &Value::Null));
    assert_eq!(node(&invocation, &pair.holder.id)["verdict"], "unhealthy");
    assert_eq!(node(&invocation, &pair.peer.id)["verdict"], "healthy");
    assert_eq!(node(&invocation, &pair.peer.id)["name"], "web-2");

    // One call moves it, and it leaves nothing to EC2's defaults.
    let calls = pair.world.proxy.calls_of("AssociateAddress");
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].param("AllocationId"), Some(pair.address.id.as_str()));
    assert_eq!(calls[0].param("NetworkInterfaceId"), Some(pair.peer.interface.as_str()));
    assert_eq!(calls[0].param("PrivateIpAddress"), Some(pair.peer.ip.as_str()));
    assert_eq!(calls[0].param("AllowReassociation"), Some("true"));
    assert_eq!(calls[0].param("InstanceId"), None);

    // What is remembered can be read in the console.
    let state = &pair.world.ec2.tags(&pair.address.id)["eipwatch:state"];
    assert!(state.starts_with(&format!("holder={} since=", pair.peer.id)), "{state}");
    assert!(state.contains(&format!("from={} why=holder-unhealthy moves=", pair.holder.id)), "{state}");
    let health = |id: &str| pair.world.ec2.tags(id)["eipwatch:health"].clone();
    assert!(health(&pair.holder.id).starts_with("verdict=unhealthy since="), "{}", health(&pair.holder.id));
    assert!(health(&pair.peer.id).starts_with("verdict=healthy since="), "{}", health(&pair.peer.id));
}

#[test]
fn a_hung_or_dripping_or_failing_service_loses_it_too() {
    for service in [Service::Hang, Service::Drip, Service::Status(503)] {
        let pair = Pair::new("interval=200ms fast=100ms timeout=500ms");
        pair.holder.service.set(service);
        let invocation = run(&pair.world.function(&[]), schedule());
        assert_eq!(decision(&invocation), ("move", "holder-unhealthy"), "{service:?}");
        assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()), "{service:?}");
    }
}

#[test]
fn all_is_well_and_nothing_is_touched_twice() {
    let pair = Pair::new(QUICK);
    let function = pair.world.function(&[]);
    let first = run(&function, schedule());
    assert_eq!(decision(&first), ("stay", "healthy"));
    assert_eq!(first.answer()["clusters"][0]["ready"], true);
    assert_eq!(first.answer()["clusters"][0]["problems"], json!([]));
    assert_eq!(node(&first, &pair.peer.id)["candidate"], true);
    assert_eq!(node(&first, &pair.holder.id)["candidate"], false, "the holder itself is none");
    assert!(address(&first)["moves"].as_array().unwrap().is_empty());

    pair.world.proxy.forget();
    let second = run(&function, schedule());
    assert_eq!(decision(&second), ("stay", "healthy"));
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new(), "a verdict that did not change is not written again");
    // Nor does a new process, which has nothing but the tags, write anything.
    pair.world.proxy.forget();
    run(&pair.world.function(&[]), schedule());
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));
}

#[test]
fn if_no_node_is_well_the_address_stays() {
    let pair = Pair::new(QUICK);
    pair.holder.service.set(Service::Refuse);
    pair.peer.service.set(Service::Refuse);
    let invocation = run(&pair.world.function(&[]), schedule());
    assert_eq!(decision(&invocation), ("stay", "no-candidate"));
    assert_eq!(pair.world.proxy.calls_of("AssociateAddress").len(), 0);
}

#[test]
fn status_tells_and_writes_nothing() {
    let pair = Pair::new(QUICK);
    pair.holder.service.set(Service::Refuse);
    let invocation = run(&pair.world.function(&[]), json!({"action": "status"}));
    assert_eq!(invocation.answer()["trigger"], "manual");
    assert_eq!(node(&invocation, &pair.holder.id)["verdict"], "unhealthy");
    assert_eq!(address(&invocation)["holder"], pair.holder.id);
    assert!(address(&invocation)["moves"].as_array().unwrap().is_empty());
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
    let evidence = node(&invocation, &pair.holder.id)["evidence"].as_array().unwrap();
    let check = format!("http:{}/health", pair.world.port);
    assert!(evidence.iter().any(|one| one["check"] == check && one["ok"] == false), "{evidence:?}");
}

/// With what differs from run to run made the same: ids, addresses, ports, times.
fn as_documented(answer: &Value, pair: &Pair) -> Value {
    let mut text = answer.to_string();
    let port = pair.world.port.to_string();
    for (found, shown) in [
        (pair.holder.id.as_str(), "i-0aaaaaaaaaaaaaaaa"),
        (&pair.peer.id, "i-0bbbbbbbbbbbbbbbb"),
        (&pair.address.id, "eipalloc-0123456789abcdef0"),
        (&pair.address.public_ip, "203.0.113.7"),
        (&format!("http:{port}/"), "http:8080/"),
    ] {
        text = text.replace(found, shown);
    }
    fn settle(value: &mut Value) {
        match value {
            Value::String(text) if humantime::parse_rfc3339(text).is_ok() => *text = "2026-11-22T07:30:00Z".to_owned(),
            Value::String(text) if text.starts_with("200 in ") => *text = "200 in 3 ms".to_owned(),
            Value::Array(values) => values.iter_mut().for_each(settle),
            Value::Object(members) => members.values_mut().for_each(settle),
            _ => {}
        }
    }
    let mut answer: Value = serde_json::from_str(&text).unwrap();
    settle(&mut answer);
    // They come in the order of their ids.
    answer["clusters"][0]["nodes"].as_array_mut().unwrap().sort_by_key(|node| node["name"].to_string());
    answer
}

#[test]
fn the_answer_that_the_deploy_guide_shows_is_the_function_s() {
    let pair = Pair::new("");
    let invocation = run(&pair.world.function(&[]), json!({"action": "status"}));
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/infra/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, rest) = readme.split_once("<!-- answer -->\n```json\n").unwrap();
    let (shown, _) = rest.split_once("\n```").unwrap();
    let answer = as_documented(invocation.answer(), &pair);
    assert_eq!(serde_json::from_str::<Value>(shown).unwrap(), answer, "the answer is\n{answer}");
}

#[test]
fn what_is_no_event_is_refused_with_an_example() {
    let world = World::new();
    let function = world.function(&[]);
    for payload in [
        json!({"key1": "value1"}),
        json!({"action": "swep"}),
        json!({"action": "move", "to": 3}),
        json!([]),
        json!("x"),
    ] {
        let invocation = run(&function, payload.clone());
        let error = invocation.error();
        assert_eq!(error.error_type, "BadRequest", "{payload}");
        assert!(error.error_message.contains(r#"{"action":"#), "no example: {}", error.error_message);
    }
    let message = run(&function, json!({"action": "swep"})).error().error_message.clone();
    assert!(message.contains("action") && message.contains("swep"), "{message}");
    assert_eq!(world.proxy.calls().len(), 0, "EC2 is not even asked");
}

#[test]
fn a_stopped_holder_is_believed_at_once_even_while_ec2_says_running() {
    let pair = Pair::new("");
    // The process lives on for some seconds, as it does while an instance stops: only the event tells.
    let event = state_change(&pair.holder.id, "stopping");
    let invocation = run(&pair.world.function(&[]), event);
    assert_eq!(invocation.answer()["trigger"], "instance-state");
    assert_eq!(decision(&invocation), ("move", "holder-gone"));
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
    assert!(invocation.took < Duration::from_secs(5), "{:?}", invocation.took);
}

#[test]
fn a_stopped_instance_is_gone_without_any_event() {
    let pair = Pair::new(QUICK);
    pair.holder.service.set(Service::Refuse);
    pair.world.ec2.call("StopInstances", &[("InstanceId.1", &pair.holder.id)]);
    let invocation = run(&pair.world.function(&[]), schedule());
    assert_eq!(decision(&invocation), ("move", "holder-gone"));
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
}

#[test]
fn an_address_that_nobody_holds_is_given_to_a_node() {
    let world = World::new();
    let node = world.node("web-1", &[("eipwatch:cluster", "web")]);
    let check = format!("http:{}/health", world.port);
    let address = world.address(&[("eipwatch:cluster", "web"), ("eipwatch:check", &check)]);
    let invocation = run(&world.function(&[]), schedule());
    assert_eq!(decision(&invocation), ("move", "no-holder"));
    assert_eq!(world.holder(&address), Some(node.id));
}

#[test]
fn a_dry_run_says_what_it_would_do() {
    let pair = Pair::new(QUICK);
    pair.holder.service.set(Service::Refuse);
    let invocation = run(&pair.world.function(&[]), json!({"action": "sweep", "dry_run": true}));
    assert_eq!(invocation.answer()["dry_run"], true);
    assert_eq!(decision(&invocation), ("move", "holder-unhealthy"));
    assert!(address(&invocation)["moves"].as_array().unwrap().is_empty());
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
    let asked = pair.world.proxy.calls_of("AssociateAddress");
    assert!(
        !asked.is_empty() && asked.iter().all(|call| call.param("DryRun") == Some("true")),
        "EC2 is asked if it may"
    );
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));
}

#[test]
fn a_switchover_by_hand() {
    let pair = Pair::new(QUICK);
    let function = pair.world.function(&[]);
    let order = json!({"action": "move", "cluster": "web", "address": pair.address.public_ip, "to": pair.peer.id});
    let invocation = run(&function, order);
    assert_eq!(decision(&invocation), ("move", "manual"));
    assert_eq!(invocation.answer()["ok"], true);
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
    // The next sweep leaves it there.
    let next = run(&function, schedule());
    assert_eq!(decision(&next).0, "stay");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
}

#[test]
fn a_switchover_to_a_node_that_cannot_serve_is_refused_unless_forced() {
    let pair = Pair::new(QUICK);
    pair.peer.service.set(Service::Refuse);
    let function = pair.world.function(&[]);
    let refused = run(&function, json!({"action": "move", "to": pair.peer.id}));
    assert_eq!(refused.answer()["ok"], false);
    assert_eq!(decision(&refused), ("blocked", "refused"));
    assert!(address(&refused)["decision"]["text"].as_str().unwrap().contains(&pair.peer.id));
    assert_eq!(pair.world.proxy.calls_of("AssociateAddress").len(), 0);
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));

    let forced = run(&function, json!({"action": "move", "to": pair.peer.id, "force": true}));
    assert_eq!(forced.answer()["ok"], true, "{:#}", forced.answer());
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
    // Else the next sweep would undo it.
    assert_eq!(pair.world.ec2.tags(&pair.address.id)["eipwatch:mode"], "manual");
    let next = run(&function, schedule());
    assert_eq!(decision(&next), ("stay", "manual-mode"));
    assert_eq!(address(&next)["decision"]["would"]["why"], "holder-unhealthy");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
}

#[test]
fn other_events_are_ignored_and_events_of_strangers_concern_no_cluster() {
    let pair = Pair::new(QUICK);
    let function = pair.world.function(&[]);
    let other = json!({
        "version": "0", "id": "1", "source": "aws.s3", "detail-type": "Object Created", "account": "123456789012",
        "time": "2026-11-22T07:30:00Z", "region": "eu-west-1", "resources": [], "detail": {}
    });
    let invocation = run(&function, other);
    assert!(invocation.answer()["ignored"].is_string(), "{}", invocation.answer());
    assert_eq!(pair.world.proxy.calls().len(), 0);

    let invocation = run(&function, state_change("i-0fedcba9876543210", "stopped"));
    assert_eq!(invocation.answer()["clusters"], json!([]));
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
}

#[test]
fn a_watch_moves_within_seconds_of_the_death() {
    let pair = Pair::new("");
    let function = pair.world.function(&[("EIPWATCH_WATCH_SECONDS", "6")]);
    let watch = function.send(schedule(), DEADLINE);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(pair.world.proxy.calls_of("AssociateAddress").len(), 0);
    let died = Instant::now();
    pair.holder.service.set(Service::Refuse);
    let invocation = watch.wait();

    let moved = pair.world.proxy.calls_of("AssociateAddress");
    assert_eq!(moved.len(), 1);
    // 2.0 s in virtual time; a busy machine adds to it.
    let outage = moved[0].at.duration_since(died);
    assert!(outage < Duration::from_millis(3500), "{outage:?}");
    assert_eq!(decision(&invocation), ("move", "holder-unhealthy"), "the last decision that was not to stay");
    assert!(invocation.answer()["sweeps"].as_u64().unwrap() > 1);
    assert!((5.0..9.0).contains(&invocation.took.as_secs_f64()), "{:?}", invocation.took);
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
}

#[test]
fn a_quiet_watch_asks_little_and_changes_nothing() {
    let pair = Pair::new("");
    let function = pair.world.function(&[("EIPWATCH_WATCH_SECONDS", "12")]);
    run(&function, json!({"action": "sweep"}));
    pair.world.proxy.forget();
    let invocation = run(&function, schedule());
    assert_eq!(decision(&invocation), ("stay", "healthy"));
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
    // At the start and about every 5 s after it, addresses and instances; status checks once.
    let calls = pair.world.proxy.calls().len();
    assert!((3..=9).contains(&calls), "{calls} calls in 12 s");
}

#[test]
fn a_node_that_returns_does_not_take_the_address_back() {
    let pair = Pair::new(QUICK);
    let function = pair.world.function(&[]);
    pair.holder.service.set(Service::Refuse);
    assert_eq!(decision(&run(&function, schedule())), ("move", "holder-unhealthy"));
    pair.holder.service.set(OK);
    let next = run(&function, schedule());
    assert_eq!(decision(&next).0, "stay");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
    assert_eq!(node(&next, &pair.holder.id)["verdict"], "healthy");
}

#[test]
fn a_cold_start_is_quick_and_small() {
    let pair = Pair::new(QUICK);
    let function = pair.world.function(&[]);
    run(&function, schedule());
    // 128 MB is what Lambda gives; a debug build of the whole SDK is far larger on disk than in memory.
    assert!(function.peak_memory_kib() < 100 << 10, "{} KiB", function.peak_memory_kib());
}
