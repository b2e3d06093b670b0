//! The rules that a life itself judges are shown to fire: each by what a watch would have to do to break it.

use super::*;
use crate::embedded::ec2::tags;
use crate::sim::world::state_event;

/// A watch's number among callers.
const WATCH: u32 = 7;

/// A life that nobody watches.
fn life() -> Chaos {
    Chaos::new(Life { player: Player::Never, ..Life::short(1) })
}

fn names(chaos: &Chaos) -> Vec<&'static str> {
    chaos.violations.iter().map(|it| it.rule).collect()
}

fn tags_of(resource: &Id) -> Request {
    tagged(resource, "note")
}

fn tagged(resource: &Id, key: &str) -> Request {
    let tags = vec![(key.to_owned(), "by a watch".to_owned())];
    Request::CreateTags { resources: vec![resource.clone()], tags, dry_run: false }
}

fn moves(chaos: &Chaos, allocation: &Id) -> Request {
    let interface = chaos.world.ec2.primary_interface(&chaos.outsider).unwrap();
    let private_ip = chaos.world.ec2.interfaces_of(&interface).next().unwrap().private_ips[0];
    let allocation = allocation.clone();
    Request::AssociateAddress { allocation, interface, private_ip, allow_reassociation: true, dry_run: false }
}

#[test]
fn a_life_that_panics_is_told_with_its_seed() {
    let tally = guarded(7, || panic!("on purpose"));
    let violation = Violation { at_ms: 0, rule: "panics", text: "on purpose".to_owned() };
    assert_eq!((tally.lives, tally.violations), (1, vec![(7, violation)]));
}

#[test]
fn a_reader_changes_nothing() {
    for (reader, found) in [(WATCH + 1, vec![]), (WATCH, vec!["a reader changes"])] {
        let mut chaos = life();
        chaos.readers.insert(reader);
        let request = tags_of(&chaos.world.node(0));
        chaos.world.ec2.call(WATCH, &request, START_MS).unwrap();
        chaos.read_calls();
        assert_eq!(names(&chaos), found);
    }
}

#[test]
fn a_mode_is_set_by_who_was_told_to() {
    for (told, found) in [(WATCH, vec![]), (WATCH + 1, vec!["orders by itself"])] {
        let mut chaos = life();
        chaos.ordered.insert(told);
        let request = tagged(&chaos.world.node(0), "eipwatch:mode");
        chaos.world.ec2.call(WATCH, &request, START_MS).unwrap();
        chaos.read_calls();
        assert_eq!(names(&chaos), found);
    }
}

#[test]
fn a_foreign_address_is_moved_by_nobody() {
    let mut chaos = life();
    let foreign = chaos.world.ec2.add_address(tags([]));
    for (address, found) in [(chaos.world.address(0), vec![]), (foreign, vec!["foreign address"])] {
        let request = moves(&chaos, &address);
        chaos.world.ec2.call(WATCH, &request, START_MS).unwrap();
        chaos.read_calls();
        assert_eq!(names(&chaos), found);
    }
}

#[test]
fn an_invocation_ends_before_its_deadline() {
    for (limit_ms, found) in [(118_000, vec![]), (1, vec!["outlives its deadline"])] {
        let mut chaos = life();
        let watch = chaos.world.scheduled(0);
        chaos.world.run_until(60_000);
        assert!(chaos.world.ended_ms(watch).is_some());
        chaos.world.time_limit_ms = limit_ms;
        chaos.judge_report(watch);
        assert_eq!(names(&chaos), found);
    }
}

#[test]
fn who_is_refused_by_the_parser_misbehaves() {
    let mut chaos = life();
    chaos.look(true);
    assert_eq!(names(&chaos), [""; 0]);
    chaos.world.invoke(&json!({"action": "dance"}), 0);
    chaos.look(true);
    assert_eq!(names(&chaos), ["misbehaves"]);
}

#[test]
fn at_rest_nothing_is_changed_and_nothing_fails() {
    for (at_ms, found) in [(REST_MS - STILL_MS - 1_000, vec![]), (REST_MS - STILL_MS + 1_000, vec!["restless"])] {
        let mut chaos = life();
        chaos.world.at(at_ms, |world| {
            let request = tags_of(&world.node(0));
            let now_ms = world.now().as_millis();
            world.ec2.call(WATCH, &request, now_ms).unwrap();
        });
        chaos.rest();
        assert_eq!(names(&chaos), found);
    }
    for (at_ms, found) in [(REST_MS - STILL_MS - 1_000, vec![]), (REST_MS - STILL_MS, vec!["fails at rest"])] {
        let mut chaos = life();
        let node = chaos.world.node(0);
        chaos.world.at(at_ms - 1, |world| world.ec2.faults_mut().push(Rule::error("UnauthorizedOperation")));
        chaos.world.invoke(&state_event(&node, State::Stopped, at_ms), at_ms);
        chaos.rest();
        assert_eq!(names(&chaos), found);
    }
}

/// The names that stand in the source where a rule is found broken: each has a test above.
#[test]
fn no_rule_is_without_a_test() {
    let rules: BTreeSet<&str> =
        include_str!("../chaos.rs").split("rule: \"").skip(1).filter_map(|text| text.split('"').next()).collect();
    let above = include_str!("tests.rs").split("fn no_rule_is_without_a_test").next().unwrap_or_default();
    assert!(!rules.is_empty());
    for rule in rules {
        assert!(above.contains(&format!("\"{rule}\"")), "no test finds {rule:?}");
    }
}
