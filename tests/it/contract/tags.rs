//! Tags: what does not parse is a problem that names it, and never moves what would not have been moved otherwise.

use eipwatch::core::log::Record;
use eipwatch::core::tags::Verdict;
use eipwatch::embedded::ec2::{Api, Check, CheckKind, Request, tags};
use eipwatch::embedded::faults::{Fault, Rule};
use eipwatch::sim::world::Behaviour;
use serde_json::json;

use super::{A, B, C, Scene};

const ADDRESS_KEYS: [&str; 6] = ["cluster", "check", "policy", "mode", "prefer", "state"];
const NODE_KEYS: [&str; 7] = ["cluster", "priority", "mode", "check", "address", "health", "heartbeat"];

/// Values that mean nothing: nothing at all, spaces, words, pairs without sense, the longest.
fn garbage() -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        " ",
        "?",
        "=",
        "= = =",
        "none",
        "holder= since=",
        "holder=i-1 since=yesterday",
        "verdict=splendid since=2026-11-22T07:30:00Z",
        "seq=-1 at=now status=ok",
        "seq=99999999999999999999999999 at=2026-11-22T07:30:00Z status=ok every=999999h",
        "manual until=soon",
        "http: tcp:0 tcp:99999 https:/x alarm:",
        "fall=0 rise=three stable=-1s window=1 via=radio",
        "1001",
        "256.1.1.1",
        "\u{0}\u{1}\u{7f}",
        "läuft schon 🦀",
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    all.push("x".repeat(256));
    all.push("a b ".repeat(64));
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..10 {
        let length = rng.usize(1..256);
        all.push((0..length).map(|_| char::from(rng.u8(32..127))).collect());
    }
    all
}

/// Garbage in any tag: no panic, no move of a healthy holder, and a problem that names tag and resource.
#[test]
fn garbage_in_any_tag_moves_nothing_and_is_named() {
    let keys = ADDRESS_KEYS.iter().map(|key| (true, *key)).chain(NODE_KEYS.iter().map(|key| (false, *key)));
    for (on_address, key) in keys {
        for value in garbage() {
            for node in [A, B] {
                if on_address && node == B {
                    continue;
                }
                let mut scene = Scene::pair();
                let resource = if on_address { scene.address(0) } else { scene.node(node) };
                scene.tag(&resource, key, &value);
                let told = scene.sweep();
                let what = format!("eipwatch:{key}={value:?} on {resource}");
                assert_eq!(scene.holder(0), "A", "{what}: {:?}", told.report);
                assert!(!told.calls.iter().any(|call| call.starts_with("associate")), "{what}: {:?}", told.calls);
                let named = format!("eipwatch:{key} on {resource}");
                // Spaces and words that are read well by chance are no garbage to that tag.
                let harmless = reads_well(key, on_address, &value);
                assert!(harmless || told.problems().contains(&named), "{what}: {}", told.problems());
            }
        }
    }
}

/// Whether a value of [`garbage`] happens to mean something in that tag.
fn reads_well(key: &str, on_address: bool, value: &str) -> bool {
    match key {
        "cluster" if on_address => eipwatch::core::tags::cluster_name(value).is_ok(),
        "cluster" => {
            let (names, problems) = eipwatch::core::tags::cluster_names(value);
            !names.is_empty() && problems.is_empty()
        }
        _ => false,
    }
}

/// Garbage in any tag never hinders a rescue but where it makes an address `manual` or takes a node out.
#[test]
fn garbage_in_any_tag_leaves_a_rescue_possible() {
    for key in ["check", "policy", "prefer", "state"] {
        for value in garbage() {
            let mut scene = Scene::pair();
            scene.tag_address(0, key, &value);
            scene.stop_node(A);
            let told = scene.sweep();
            assert_eq!(scene.holder(0), "B", "{key}={value:?}: {}", told.text());
        }
    }
    for key in ["priority", "check", "health", "heartbeat"] {
        for value in garbage() {
            let mut scene = Scene::pair();
            scene.tag_node(B, key, &value);
            scene.stop_node(A);
            let told = scene.sweep();
            assert_eq!(scene.holder(0), "B", "{key}={value:?}: {}", told.text());
        }
    }
}

/// Garbage in what the software writes is still named when this very invocation has written over it: nobody could find it afterwards.
#[test]
fn garbage_that_is_written_over_is_still_named() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "state", "garbage");
    scene.tag_node(A, "health", "verdict=wonderful since=tomorrow");
    scene.refuse(A);
    let told = scene.watch(20);
    let (a, b, ip) = (scene.node(A), scene.node(B), scene.address(0));
    assert!(scene.address_tag(0, "state").starts_with(&format!("holder={b} ")));
    assert!(scene.node_tag(A, "health").starts_with("verdict=unhealthy "));
    told.problem(&format!("eipwatch:state on {ip}: 'garbage'"));
    told.problem(&format!("eipwatch:health on {a}: 'verdict=wonderful'"));
    assert_eq!(scene.sweep().problems(), "");
}

/// A pair that cannot be used leaves the others in force; the problem names the pair and what is used instead.
#[test]
fn the_readable_part_of_a_policy_applies() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "fall=three expect=500-599");
    scene.refuse(B);
    let told = scene.sweep();
    told.problem(&format!("eipwatch:policy on {}: 'fall=three' is not a number; 3 is used", scene.address(0)));
    assert!(told.evidence(A, "http").1.contains("not 500-599"), "{:?}", told.evidence(A, "http"));
}

/// Of a list of checks the readable ones apply; if there is none, `ec2` remains.
#[test]
fn the_readable_checks_apply() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "tcp:eight http:8080/health");
    scene.refuse(A);
    let told = scene.sweep();
    told.problem("'tcp:eight'");
    assert_eq!(scene.holder(0), "B");
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "tcp:eight");
    scene.refuse(A);
    scene.refuse(B);
    let told = scene.expect("stay healthy", &[], "A");
    assert_eq!(told.node(A).evidence.len(), 1);
}

/// An unreadable `mode` of an address is `manual`: even a holder that is gone keeps it, and it is said what would be done.
#[test]
fn an_unreadable_mode_of_an_address_is_manual() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "mode", "automatic");
    scene.stop_node(A);
    let told = scene.sweep();
    assert_eq!(
        (scene.says(&told, 0), scene.holder(0)),
        ("stay manual-mode (move holder-gone to B)".to_owned(), "A".to_owned())
    );
    told.problem("'automatic'");
}

/// An unreadable `mode` of a node: no candidate, not evicted, `null` in the answer.
#[test]
fn an_unreadable_mode_of_a_node_neither_takes_nor_evicts() {
    let mut scene = Scene::pair();
    scene.tag_node(A, "mode", "Drain");
    scene.tag_node(B, "mode", "on");
    let told = scene.expect("stay healthy", &[], "A");
    assert_eq!((told.node(A).mode.as_deref(), told.node(B).candidate, told.cluster().ready), (None, false, false));
    // A rescue takes it as a last resort.
    scene.stop_node(A);
    let told = scene.sweep();
    scene.ends(&told, "move last-resort to B", "B");
}

/// `manual until=T` is `manual` until then and `auto` from then on, in the answer, too.
#[test]
fn manual_until_expires() {
    let mut scene = Scene::pair();
    let until = format!("manual until={}", scene.time_in(60));
    scene.tag_address(0, "mode", &until);
    scene.stop_node(A);
    let told = scene.sweep();
    assert_eq!((told.address(0).mode.as_str(), scene.holder(0).as_str()), (until.as_str(), "A"));
    scene.pass(60_000);
    let told = scene.sweep();
    assert_eq!((told.address(0).mode.as_str(), scene.holder(0).as_str()), ("auto", "B"));
}

/// Tags can be lost: without any of its memory a sweep finds what it needs, and moves nothing that is well.
#[test]
fn lost_memory_moves_nothing() {
    let mut scene = Scene::pair();
    scene.refuse(A);
    scene.sweep();
    scene.serve(A);
    let (a, b, ip) = (scene.node(A), scene.node(B), scene.address(0));
    for id in [&a, &b] {
        scene.untag(id, "health");
    }
    scene.untag(&ip, "state");
    let told = scene.sweep();
    scene.ends(&told, "stay healthy", "B");
    assert_eq!(told.calls, ["tag health A", "tag health B"]);
}

/// The health tag: written when the verdict changes, never `suspect`; it says since when and why.
#[test]
fn the_health_tag_is_written_when_the_verdict_changes() {
    let mut scene = Scene::pair();
    assert_eq!(scene.node_tag(B, "health"), "verdict=healthy since=2026-11-22T07:30:00Z");
    // Two failures are no verdict.
    scene.after(10_000, |scene| scene.refuse(B));
    scene.after(10_900, |scene| scene.serve(B));
    let told = scene.watch(20);
    assert_eq!((told.calls.len(), told.node(B).verdict), (0, Verdict::Healthy));
    scene.refuse(B);
    scene.sweep();
    let tag = scene.node_tag(B, "health");
    assert!(tag.starts_with("verdict=unhealthy since=") && tag.contains(" why=http:8080/health_refused"), "{tag}");
}

/// Another prefix: its tags alone are read and written.
#[test]
fn another_prefix_reads_and_writes_its_own_tags() {
    let mut scene = Scene::pair();
    scene.world.settings.keys = eipwatch::core::tags::Keys::new("acme/eip:");
    let told = scene.sweep();
    assert_eq!(told.report.clusters.len(), 0);
    let (a, b, ip, now_ms) = (scene.node(A), scene.node(B), scene.address(0), scene.epoch_ms());
    for id in [&a, &b, &ip] {
        let tags = eipwatch::embedded::ec2::tags([("acme/eip:cluster", "web")]);
        scene.ec2.set_tags(id, tags, now_ms);
    }
    scene.stop_node(A);
    scene.sweep();
    assert_eq!(scene.holder(0), "B");
    let all = scene.ec2.tags(&ip).expect("tags");
    assert!(all.contains_key("acme/eip:state") && !all.contains_key("eipwatch:state"), "{all:?}");
}

/// A tag that cannot be written is a problem, not a failure, and nothing waits for it.
#[test]
fn a_tag_that_cannot_be_written_is_a_problem_not_a_failure() {
    for code in ["UnauthorizedOperation", "TagLimitExceeded", "RequestLimitExceeded"] {
        let mut scene = Scene::pair();
        scene.ec2.faults_mut().push(Rule::error(code).on(Api::CreateTags));
        scene.refuse(A);
        let told = scene.sweep();
        assert!(told.report.ok, "{code}: {:?}", told.report.error);
        scene.ends(&told, "move holder-unhealthy to B", "B");
        told.problem(&format!("eipwatch:state on {}", scene.address(0)));
        told.problem(code);
        let moved_ms = scene.moved_after_ms(&told);
        assert!(moved_ms <= 1_500, "{code}: {moved_ms} ms");
    }
}

/// A health tag that could not be written is not written over what somebody else has written there since: a notice is kept.
#[test]
fn a_notice_that_others_wrote_down_meanwhile_is_not_written_over() {
    let mut scene = Scene::pair();
    scene.no_tags_for(5_500);
    scene.refuse(B);
    scene.after(1_500, |scene| {
        let noticed = format!("{} leaving=spot noticed={}", scene.node_tag(B, "health"), scene.time_in(0));
        scene.tag_node(B, "health", &noticed);
    });
    let told = scene.watch(30);
    assert_eq!(told.node(B).leaving.as_deref(), Some("spot"));
    let tag = scene.node_tag(B, "health");
    assert!(tag.starts_with("verdict=unhealthy ") && tag.contains(" leaving=spot "), "{tag}");
}

/// Nor what has been written there since the node was read last.
#[test]
fn a_notice_that_others_wrote_down_since_the_last_reading_is_not_written_over() {
    let mut scene = Scene::pair();
    // Nodes are read every 5 s.
    scene.after(10_500, |scene| {
        let noticed = format!("{} leaving=spot noticed={}", scene.node_tag(B, "health"), scene.time_in(0));
        scene.tag_node(B, "health", &noticed);
    });
    scene.after(11_000, |scene| scene.refuse(B));
    let told = scene.watch(30);
    assert_eq!(told.node(B).leaving.as_deref(), Some("spot"));
    let tag = scene.node_tag(B, "health");
    assert!(tag.starts_with("verdict=unhealthy ") && tag.contains(" leaving=spot "), "{tag}");
}

/// A sweep does the same.
#[test]
fn a_notice_that_others_wrote_down_during_a_sweep_is_not_written_over() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    scene.after(1_500, |scene| {
        let noticed = format!("{} leaving=spot noticed={}", scene.node_tag(B, "health"), scene.time_in(0));
        scene.tag_node(B, "health", &noticed);
    });
    scene.tag_address(0, "policy", "fast=1s");
    let told = scene.sweep();
    assert_eq!(told.node(B).leaving.as_deref(), Some("spot"));
    let tag = scene.node_tag(B, "health");
    assert!(tag.starts_with("verdict=unhealthy ") && tag.contains(" leaving=spot "), "{tag}");
}

/// A time to come in a health tag was not written by the watcher: it counts for nothing, and is mended.
#[test]
fn a_time_to_come_in_a_health_tag_counts_for_nothing() {
    for what in ["since=2099-01-01T00:00:00Z", "since=2026-11-22T07:00:00Z leaving=spot noticed=2099-01-01T00:00:00Z"] {
        let mut scene = Scene::pair();
        scene.tag_address(0, "policy", "failback=auto stable=5s");
        scene.tag_node(B, "priority", "200");
        scene.remember(0, A, Some(B), "holder-unhealthy", 600);
        scene.tag_node(B, "health", &format!("verdict=healthy {what}"));
        scene.watch(20);
        assert_eq!(scene.been(), [Some(B)], "{what}");
        assert!(!scene.node_tag(B, "health").contains("2099"), "{what}: {}", scene.node_tag(B, "health"));
    }
}

/// The same of the state: of two moves the later one is remembered, whoever could write first.
#[test]
fn a_later_move_that_others_recorded_meanwhile_is_not_written_over() {
    let mut scene = Scene::seasoned(1, 3);
    scene.no_tags_for(5_500);
    scene.refuse(A);
    scene.after(3_000, |scene| {
        scene.by_hand(0, Some(C));
        scene.remember(0, C, Some(B), "manual", 0);
    });
    scene.watch(30);
    assert_eq!(scene.been(), [Some(B), Some(C)]);
    let state = scene.address_tag(0, "state");
    assert!(state.starts_with(&format!("holder={} ", scene.node(C))) && state.contains(" why=manual "), "{state}");
}

/// Agent and watcher tag the same instance at once: ConcurrentTagAccess is tried again.
#[test]
fn concurrent_tag_access_is_tried_again() {
    let mut scene = Scene::pair();
    let now_ms = scene.epoch_ms();
    scene.ec2.faults_mut().push(Rule::error("ConcurrentTagAccess").on(Api::CreateTags).between(now_ms, now_ms + 2_000));
    scene.refuse(B);
    let told = scene.sweep();
    assert!(scene.node_tag(B, "health").starts_with("verdict=unhealthy"));
    assert_eq!(told.problems(), "");
    assert!(!json!(told.report.problems).to_string().contains("Concurrent"));
}

/// Of what could not be read and was written over a hundred are told: somebody may write garbage on and on.
#[test]
fn at_most_a_hundred_garbled_tags_are_told_of() {
    let mut scene = Scene::new(1, 102);
    for n in 0..102 {
        scene.tag_node(n, "health", &format!("garbage-{n}"));
    }
    let told = scene.watch(12);
    assert_eq!(told.problems().matches("garbage-").count(), 100, "{}", told.problems());
}

/// The settings of another address than the first serve for nothing; what is wrong with them is told all the same.
#[test]
fn garbage_in_the_settings_of_another_address_is_named() {
    let mut scene = Scene::seasoned(2, 2);
    for (key, value, cure) in [
        ("policy", "fall=three", ""),
        ("check", "http:99999", ""),
        ("check", "tcp:80/", "write tcp:80; "),
        ("check", " ", "no check beside ec2; "),
    ] {
        scene.tag_address(1, key, value);
        let problems = scene.sweep().problems();
        let named = format!("eipwatch:{key} on {}: ", scene.address(1));
        let serves = format!("{cure}that on {} serves for the whole cluster", scene.address(0));
        assert!(!problems.contains(" is used"), "of the first address nothing is wrong: {problems}");
        let is_named = |line: &str| line.starts_with(&named) && line.contains(value) && line.ends_with(&serves);
        assert!(problems.lines().any(is_named), "{named}: {problems}");
    }
}

/// A cluster whose tags are all removed is no more; a move on its way is seen to its end.
#[test]
fn a_cluster_without_tags_is_no_more() {
    let untag = |scene: &mut Scene| {
        for id in [scene.node(A), scene.node(B), scene.address(0)] {
            scene.world.untag(&id, "cluster");
        }
    };
    let mut scene = Scene::pair();
    scene.after(7_000, untag);
    let told = scene.watch(20);
    assert_eq!((told.report.clusters.len(), told.report.ok), (0, true));

    let mut scene = Scene::pair();
    scene.stop_node(A);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 6_000, max_ms: 6_000 }).on(Api::AssociateAddress));
    scene.after(2_000, untag);
    let told = scene.watch(20);
    assert_eq!(scene.holder(0), "B");
    let moves = scene.world.log(told.handle).iter().filter(|record| matches!(record, Record::Move { .. })).count();
    assert_eq!(moves, 1);
}

/// What a move adds to the state's `moves` puts the oldest out.
#[test]
fn the_youngest_moves_are_kept() {
    let mut scene = Scene::pair();
    let (a, b) = (scene.node(A), scene.node(B));
    let moves: Vec<String> = (1..=5).map(|n| scene.time_in(n * 10 - 4_000)).collect();
    let since = scene.time_in(-3_950);
    let moved = moves.join("/");
    scene.tag_address(0, "state", &format!("holder={a} since={since} from={b} why=holder-unhealthy moves={moved}"));
    scene.refuse(A);
    scene.sweep();
    let state = scene.address_tag(0, "state");
    let (_, kept) = state.split_once("moves=").expect("moves");
    let kept: Vec<&str> = kept.split('/').collect();
    assert_eq!((kept.len(), &kept[..4]), (5, &moves.iter().map(String::as_str).collect::<Vec<_>>()[1..]), "{state}");
}

/// A tag whose answer was an error, and which is there all the same, is not written again, and is no problem.
#[test]
fn a_tag_that_is_there_is_not_written_again() {
    let mut scene = Scene::new(1, 2);
    let error = Fault::ErrorAfter(eipwatch::embedded::ec2::Error::injected("InternalError"));
    scene.ec2.faults_mut().push(Rule::new(error).on(Api::CreateTags));
    let told = scene.watch(30);
    assert_eq!(told.problems(), "");
    let calls = scene.calls_to(Api::CreateTags, &told);
    assert!(calls.len() == 10 && calls.iter().all(|at_ms| *at_ms < 5_000), "{calls:?}");
}

/// One that cannot be written is left alone for a minute, and tried again then.
#[test]
fn a_tag_that_cannot_be_written_is_left_alone_for_a_minute() {
    let mut scene = Scene::new(1, 1);
    let from_ms = scene.epoch_ms();
    let refused = Rule::error("InvalidParameterValue").on(Api::CreateTags).between(from_ms, from_ms + 5_000);
    scene.ec2.faults_mut().push(refused);
    let told = scene.watch(90);
    let calls = scene.calls_to(Api::CreateTags, &told);
    assert!(calls.len() == 2 && (60_000..62_000).contains(&(calls[1] - calls[0])), "{calls:?}");
}

/// Health tags that say the same are written by one call, at most fifty resources each; what differs is not mixed up.
#[test]
fn health_tags_that_say_the_same_are_one_call() {
    let mut scene = Scene::new(1, 120);
    scene.tag_address(0, "check", "ec2");
    for n in [3, 60] {
        scene.status(n, CheckKind::Instance, Check::Impaired);
    }
    // In two clusters at once it has a tag for each.
    scene.tag_node(5, "cluster", "web db");
    let told = scene.sweep();
    for n in 0..120 {
        let expected = if n == 3 || n == 60 { "verdict=unhealthy" } else { "verdict=healthy" };
        let keys: &[&str] = if n == 5 { &["health:web", "health:db"] } else { &["health"] };
        for key in keys {
            assert!(scene.node_tag(n, key).starts_with(expected), "{n} {key}: {}", scene.node_tag(n, key));
        }
    }
    assert_eq!(scene.node_tag(5, "health"), "");
    let mut sizes: Vec<usize> = scene
        .world
        .ec2
        .calls()
        .iter()
        .filter_map(|call| match call.change.as_deref() {
            Some(Request::CreateTags { resources, .. }) => Some(resources.len()),
            _ => None,
        })
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 2, 17, 50, 50], "{:?}", told.calls.len());
}

/// A health tag that is tried again takes no other along: each is tried six times.
#[test]
fn a_health_tag_that_is_tried_again_takes_no_other_along() {
    let mut scene = Scene::seasoned(1, 3);
    scene.tag_address(0, "policy", "interval=100ms fast=100ms timeout=100ms");
    let from_ms = scene.epoch_ms() + 10_000;
    let throttled = Rule::error("RequestLimitExceeded").on(Api::CreateTags);
    scene.ec2.faults_mut().push(throttled.between(from_ms, u64::MAX));
    // B falls after 10.4 s, and is written a second time after 10.6 s, when C falls: in the same second, and for the same reason.
    scene.after(10_050, |scene| scene.service(B, Behaviour::Silent));
    scene.after(10_250, |scene| scene.service(C, Behaviour::Silent));
    let told = scene.watch(30);
    let calls = scene.calls_to(Api::CreateTags, &told);
    assert_eq!(calls[..3], [10_400, 10_600, 10_600], "{calls:?}");
    for node in ["B", "C"] {
        let tried = format!("tag health {node}: RequestLimitExceeded");
        assert_eq!(told.calls.iter().filter(|call| **call == tried).count(), 6, "{node}: {:?}", told.calls);
    }
}

/// At most ten calls that write tags are on their way at once, and all are made.
#[test]
fn at_most_ten_tags_are_written_at_once() {
    let mut scene = Scene { world: eipwatch::sim::world::World::new(1) };
    for n in 0..24 {
        let node = scene.add_node();
        let name = format!("c{n}");
        scene.tag(&node, "cluster", &name);
        let address = scene.ec2.add_address(tags([("eipwatch:cluster", name.as_str()), ("eipwatch:check", "ec2")]));
        scene.world.addresses.push(address);
    }
    scene.settle();
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 1_000, max_ms: 1_000 }).on(Api::CreateTags));
    let told = scene.sweep();
    assert!((0..24).all(|n| scene.address_tag(n, "state").contains("why=no-holder")));
    let calls = scene.calls_to(Api::CreateTags, &told);
    let at_once =
        |at_ms: &u64| calls.iter().filter(|other| **other > at_ms.saturating_sub(1_000) && *other <= at_ms).count();
    assert_eq!((calls.len(), calls.iter().map(at_once).max()), (24 + 1, Some(10)), "{calls:?}");
}
