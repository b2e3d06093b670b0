//! Scenarios in virtual time: the production watch over the embedded EC2, to the millisecond.

use eipwatch::core::decide::{Kind, Why};
use eipwatch::core::log::Record;
use eipwatch::core::report::{AddressReport, Report};
use eipwatch::core::tags::Verdict;
use eipwatch::embedded::ec2::{Api, Id, Place, State};
use eipwatch::embedded::faults::{Fault, Rule};
use eipwatch::sim::world::{Behaviour, Handle, SERVES, START_MS, World, spot_event, state_event};
use serde_json::json;

/// The calls that changed something or tried to: when, which, whether it did.
fn changing(world: &World) -> Vec<(u64, Api, bool)> {
    world.calls().filter(|(_, call)| call.api.changes()).map(|(at, call)| (at, call.api, call.changed)).collect()
}

fn associations(world: &World) -> Vec<u64> {
    changing(world).iter().filter(|(_, api, _)| *api == Api::AssociateAddress).map(|(at, ..)| *at).collect()
}

fn report(world: &World, handle: Handle) -> Report {
    assert!(world.misbehaved.is_empty(), "{:?}", world.misbehaved);
    world.report(handle).cloned().unwrap_or_else(|| panic!("{:?}", world.ending(handle)))
}

fn address(world: &World, handle: Handle) -> AddressReport {
    report(world, handle).clusters[0].addresses[0].clone()
}

fn decision(world: &World, handle: Handle) -> (Kind, Why) {
    let decision = address(world, handle).decision.unwrap();
    (decision.kind, decision.why)
}

/// A pair after a first watch has recorded both nodes as healthy; the time when it is over.
fn seasoned() -> (World, u64) {
    let mut world = World::pair();
    world.scheduled(0);
    world.run();
    (world, 60_000)
}

/// From the failure to the AssociateAddress that answers it, for a failure at each phase of `interval`.
fn detection(behaviour: Behaviour) -> Vec<(u64, u64)> {
    (0..1_000)
        .step_by(50)
        .map(|phase_ms| {
            let mut world = World::pair();
            world.scheduled(0);
            let dies_ms = 20_000 + phase_ms;
            world.at(dies_ms, move |world| world.service(&world.node(0), behaviour));
            world.run();
            let moved = associations(&world);
            assert_eq!(moved.len(), 1, "phase {phase_ms}");
            assert_eq!(world.holder(&world.address(0)), Some(1));
            // A node of which nothing is remembered is probed at 0 and 500 ms, and every second from then on.
            let to_probe_ms = (500 + 1_000 - dies_ms % 1_000) % 1_000;
            (to_probe_ms, moved[0] - dies_ms)
        })
        .collect()
}

#[test]
fn a_dead_service_is_left_one_second_after_the_first_probe_that_fails() {
    let all = detection(Behaviour::Refuse);
    for (to_probe_ms, took_ms) in &all {
        assert_eq!(*took_ms, 1_000 + to_probe_ms);
    }
    let worst = all.iter().map(|(_, took)| *took).max().unwrap();
    let mean = all.iter().map(|(_, took)| *took).sum::<u64>() / all.len() as u64;
    assert!(worst <= 2_000 && mean <= 1_550, "worst {worst} ms, mean {mean} ms");
}

#[test]
fn a_hung_node_is_left_two_seconds_after_the_first_probe_that_hangs() {
    for behaviour in [Behaviour::Hang, Behaviour::Silent] {
        let all = detection(behaviour);
        for (to_probe_ms, took_ms) in &all {
            assert_eq!(*took_ms, 2_000 + to_probe_ms, "{behaviour:?}");
        }
    }
}

#[test]
fn the_move_is_verified_and_recorded() {
    let mut world = World::pair();
    let watch = world.scheduled(0);
    world.at(20_000, |world| world.service(&world.node(0), Behaviour::Refuse));
    world.run();
    let told = address(&world, watch);
    assert_eq!(decision(&world, watch), (Kind::Move, Why::HolderUnhealthy));
    assert_eq!(told.holder.unwrap().as_str(), &*world.node(1));
    assert!(told.moves.len() == 1 && told.moves[0].ok, "{:?}", told.moves);
    let state = &world.ec2.tags(&world.address(0)).unwrap()["eipwatch:state"];
    let (a, b) = (world.node(0), world.node(1));
    assert_eq!(
        *state,
        format!("holder={b} since=2026-11-22T07:30:21Z from={a} why=holder-unhealthy moves=2026-11-22T07:30:21Z")
    );
    let health = &world.ec2.tags(&a).unwrap()["eipwatch:health"];
    assert!(health.starts_with("verdict=unhealthy since=2026-11-22T07:30:21Z why=http"), "{health}");
}

#[test]
fn an_event_of_the_holder_is_answered_after_one_round_trip_of_reading() {
    let (mut world, now_ms) = seasoned();
    world.run_until(now_ms);
    world.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 100, max_ms: 100 }));
    let a = world.node(0);
    world.ec2.stop_instance(&a, START_MS + now_ms);
    world.ec2.take_calls();
    let event = world.invoke(&state_event(&a, State::Stopping, now_ms), now_ms + 700);
    world.run();
    // Asked at once, answered 100 ms later; the call then arrives after half its time.
    assert_eq!(associations(&world), [now_ms + 700 + 100 + 50]);
    assert_eq!(decision(&world, event), (Kind::Move, Why::HolderGone));
    assert_eq!(world.holder(&world.address(0)), Some(1));
}

#[test]
fn an_event_counts_while_describe_instances_still_says_running() {
    let (mut world, now_ms) = seasoned();
    let a = world.node(0);
    let event = world.invoke(&state_event(&a, State::ShuttingDown, now_ms), now_ms);
    world.run();
    assert_eq!(decision(&world, event), (Kind::Move, Why::HolderGone));
    assert_eq!(associations(&world), [now_ms]);
}

#[test]
fn a_quiet_watch_reads_every_five_seconds_and_changes_nothing_after_the_first_verdicts() {
    let (mut world, now_ms) = seasoned();
    world.settings.watch = std::time::Duration::from_secs(60);
    let first = changing(&world);
    assert!(first.iter().all(|(at, api, changed)| *api == Api::CreateTags && *changed && *at <= 1_000), "{first:?}");
    world.ec2.take_calls();
    let watch = world.scheduled(now_ms);
    world.run();
    assert_eq!(changing(&world), []);
    let calls = world.calls().count();
    assert!(calls <= 30, "{calls} calls in 60 s");
    let lasted_ms = world.ended_ms(watch).unwrap() - now_ms;
    assert!((60_000..=61_000).contains(&lasted_ms), "{lasted_ms} ms");
    assert_eq!(decision(&world, watch), (Kind::Stay, Why::Healthy));
    let told = report(&world, watch);
    assert!(told.ok && told.clusters[0].ready && told.problems.is_empty(), "{told:?}");
    assert_eq!(told.clusters[0].problems, Vec::<String>::new());
    assert!(told.clusters[0].nodes.iter().all(|node| node.verdict == Verdict::Healthy));
}

#[test]
fn when_every_node_fails_at_once_the_address_stays() {
    let (mut world, now_ms) = seasoned();
    let watch = world.scheduled(now_ms);
    world.at(now_ms + 10_000, |world| {
        for node in [world.node(0), world.node(1)] {
            world.service(&node, Behaviour::Silent);
        }
    });
    world.run();
    assert_eq!(associations(&world), Vec::<u64>::new());
    assert_eq!(decision(&world, watch), (Kind::Stay, Why::NoCandidate));
    assert!(!report(&world, watch).clusters[0].ready);
}

#[test]
fn a_gone_holder_leaves_its_address_to_an_unhealthy_peer_rather_than_to_nobody() {
    let (mut world, now_ms) = seasoned();
    world.run_until(now_ms);
    let (a, b) = (world.node(0), world.node(1));
    world.service(&b, Behaviour::Refuse);
    world.ec2.terminate_instance(&a, START_MS + now_ms);
    let event = world.invoke(&state_event(&a, State::ShuttingDown, now_ms), now_ms);
    world.run();
    assert_eq!(decision(&world, event), (Kind::Move, Why::LastResort));
    assert_eq!(world.holder(&world.address(0)), Some(1));
    let took_ms = associations(&world)[0] - now_ms;
    assert!(took_ms <= 5_000, "{took_ms} ms");
}

#[test]
fn an_address_that_nobody_holds_goes_to_the_best_candidate() {
    let (mut world, now_ms) = seasoned();
    world.run_until(now_ms);
    let address = world.address(0);
    world.tag(&world.node(1), "priority", "200");
    world.ec2.move_by_hand(&address, Place::Nowhere, START_MS + now_ms);
    world.settings.watch = std::time::Duration::ZERO;
    let sweep = world.scheduled(now_ms);
    world.run();
    assert_eq!(decision(&world, sweep), (Kind::Move, Why::NoHolder));
    assert_eq!((world.holder(&address), associations(&world)), (Some(1), vec![now_ms]));
}

#[test]
fn a_drained_holder_hands_over_at_once_and_gets_nothing_back() {
    let (mut world, now_ms) = seasoned();
    let a = world.node(0);
    let drain = world.invoke(&json!({"action": "drain", "node": &*a}), now_ms);
    world.run();
    assert_eq!(decision(&world, drain), (Kind::Move, Why::HolderDraining));
    assert_eq!(world.holder(&world.address(0)), Some(1));
    let later_ms = now_ms + 60_000;
    let watch = world.scheduled(later_ms);
    world.at(later_ms + 10_000, |world| world.service(&world.node(1), Behaviour::Refuse));
    world.run();
    assert_eq!(decision(&world, watch), (Kind::Stay, Why::NoCandidate));
    assert_eq!(world.moves(&world.address(0)).len(), 1);
}

#[test]
fn status_writes_nothing_and_a_dry_run_only_asks_whether_it_may() {
    let mut world = World::pair();
    world.service(&world.node(0), Behaviour::Refuse);
    let status = world.invoke(&json!({"action": "status"}), 0);
    world.run();
    assert_eq!(changing(&world), []);
    assert!(report(&world, status).ok);
    let sweep = world.invoke(&json!({"action": "sweep", "dry_run": true}), 10_000);
    world.run();
    assert_eq!(
        changing(&world).iter().map(|(_, api, changed)| (*api, *changed)).collect::<Vec<_>>(),
        [(Api::AssociateAddress, false)]
    );
    let told = address(&world, sweep);
    assert_eq!(decision(&world, sweep), (Kind::Move, Why::HolderUnhealthy));
    assert!(told.moves.is_empty() && report(&world, sweep).dry_run);
}

#[test]
fn in_manual_mode_it_says_what_it_would_do_and_a_command_still_moves() {
    let (mut world, now_ms) = seasoned();
    let ip = world.address(0);
    world.tag(&ip, "mode", "manual");
    world.service(&world.node(0), Behaviour::Refuse);
    let watch = world.scheduled(now_ms);
    world.run();
    let told = address(&world, watch).decision.unwrap();
    assert_eq!((told.kind, told.why), (Kind::Stay, Why::ManualMode));
    assert_eq!(told.would.unwrap().why, Why::HolderUnhealthy);
    assert_eq!(world.moves(&ip), []);
    let command = world.invoke(&json!({"action": "move", "cluster": "web"}), now_ms + 60_000);
    world.run();
    assert_eq!(decision(&world, command), (Kind::Move, Why::Manual));
    assert!(report(&world, command).ok);
    assert_eq!(world.holder(&ip), Some(1));
}

#[test]
fn a_move_whose_answer_is_lost_is_found_to_have_worked() {
    let (mut world, now_ms) = seasoned();
    world.ec2.faults_mut().push(Rule::new(Fault::LostAnswer).on(Api::AssociateAddress));
    let watch = world.scheduled(now_ms);
    world.at(now_ms + 10_000, |world| world.service(&world.node(0), Behaviour::Refuse));
    world.run();
    let told = address(&world, watch);
    assert_eq!(associations(&world).len(), 1, "it is not sent again");
    assert!(told.moves.len() == 1 && told.moves[0].ok, "{:?}", told.moves);
    assert_eq!(world.holder(&world.address(0)), Some(1));
}

#[test]
fn a_move_that_ec2_only_pretends_to_make_is_reported_as_failed() {
    let (mut world, now_ms) = seasoned();
    world.ec2.faults_mut().push(Rule::new(Fault::Hollow).on(Api::AssociateAddress));
    world.settings.watch = std::time::Duration::ZERO;
    world.service(&world.node(0), Behaviour::Refuse);
    let sweep = world.scheduled(now_ms);
    world.run();
    let told = report(&world, sweep);
    assert!(!told.ok && told.error.is_some(), "{told:?}");
    assert!(address(&world, sweep).moves.iter().all(|tried| !tried.ok));
    assert_eq!(world.holder(&world.address(0)), Some(0));
}

#[test]
fn one_lost_probe_moves_nothing_and_is_logged() {
    let (mut world, now_ms) = seasoned();
    let watch = world.scheduled(now_ms);
    world.at(now_ms + 10_000, |world| world.service(&world.node(0), Behaviour::Refuse));
    world.at(now_ms + 10_900, |world| world.service(&world.node(0), SERVES));
    world.run();
    assert_eq!(associations(&world), Vec::<u64>::new());
    let failed = |record: &&Record| matches!(record, Record::Probe { ok: Some(false), .. });
    let failures = world.log(watch).iter().filter(failed).count();
    assert!((1..=2).contains(&failures), "{failures}");
}

#[test]
fn two_watches_at_once_move_once() {
    let (mut world, now_ms) = seasoned();
    for offset_ms in [0, 130, 300] {
        world.scheduled(now_ms + offset_ms);
    }
    world.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 20, max_ms: 120 }));
    world.at(now_ms + 10_000, |world| world.service(&world.node(0), Behaviour::Refuse));
    world.run();
    assert_eq!(world.moves(&world.address(0)).len(), 1);
    assert_eq!(world.holder(&world.address(0)), Some(1));
}

#[test]
fn the_same_world_runs_the_same_twice() {
    let run = || {
        let mut world = World::pair();
        world
            .ec2
            .faults_mut()
            .extend([Rule::new(Fault::Latency { min_ms: 5, max_ms: 400 }), Rule::error("InternalError").chance(200)]);
        for n in 0..4 {
            world.scheduled(n * 20_000);
        }
        world.at(31_000, |world| world.service(&world.node(0), Behaviour::Flap { up_ms: 1_700, down_ms: 2_300 }));
        world.run();
        let logs: Vec<_> = (0..4).map(|handle| world.log(handle).to_vec()).collect();
        (world.ec2.calls().clone(), world.ec2.history().clone(), logs)
    };
    let (first, second) = (run(), run());
    assert!(first.0 == second.0 && first.1 == second.1 && first.2 == second.2);
    let ids: Vec<Id> = World::pair().nodes;
    assert_eq!(ids.len(), 2);
}

// What the simulation found, kept.

#[test]
fn a_holder_whose_cluster_tag_comes_back_lets_the_watch_end() {
    let (mut world, now_ms) = seasoned();
    let watch = world.scheduled(now_ms);
    world.at(now_ms + 10_000, |world| world.untag(&world.node(0), "cluster"));
    world.at(now_ms + 20_000, |world| world.tag(&world.node(0), "cluster", "web"));
    world.run();
    assert!(report(&world, watch).ok);
    let lasted_ms = world.ended_ms(watch).unwrap() - now_ms;
    assert!(lasted_ms <= 56_000, "{lasted_ms} ms");
    assert_eq!(world.holder(&world.address(0)), Some(0));
}

#[test]
fn a_read_that_fails_is_asked_again_at_its_pace_even_while_the_holder_fails() {
    for code in ["Unavailable", "RequestLimitExceeded"] {
        let (mut world, now_ms) = seasoned();
        let watch = world.scheduled(now_ms);
        let down = (START_MS + now_ms + 10_000, START_MS + now_ms + 20_000);
        world.ec2.faults_mut().push(Rule::error(code).on(Api::DescribeAddresses).between(down.0, down.1));
        world.at(now_ms + 10_000, |world| world.service(&world.node(0), Behaviour::Refuse));
        world.run();
        let asked = world.calls().filter(|(_, call)| call.code == Some(code)).count();
        assert!(asked <= 20, "{code}: asked {asked} times in 10 s");
        assert!(report(&world, watch).ok);
        let moved = associations(&world);
        assert!(moved.len() == 1 && moved[0] <= now_ms + 21_000, "{code}: {moved:?}");
    }
}

#[test]
fn a_state_from_a_time_to_come_is_not_believed() {
    let (mut world, now_ms) = seasoned();
    world.run_until(now_ms);
    let (a, b, address) = (world.node(0), world.node(1), world.address(0));
    world.service(&b, Behaviour::Refuse);
    world.tag(&address, "state", &format!("holder={b} since=2027-12-27T07:31:01Z from={a} why=failback"));
    let watch = world.scheduled(now_ms);
    world.at(now_ms + 20_000, |world| world.service(&world.node(1), SERVES));
    world.at(now_ms + 30_000, |world| world.service(&world.node(0), Behaviour::Refuse));
    world.run();
    assert_eq!(world.moves(&address).len(), 1);
    let moved_ms = associations(&world)[0] - now_ms;
    assert!((31_000..=32_000).contains(&moved_ms), "{moved_ms} ms");
    assert!(report(&world, watch).ok);
}

#[test]
fn a_tag_that_is_shown_as_written_is_not_written_again() {
    let (mut world, now_ms) = seasoned();
    world.ec2.faults_mut().push(Rule::new(Fault::LostAnswer).on(Api::CreateTags));
    for offset_ms in [0, 300] {
        world.scheduled(now_ms + offset_ms);
    }
    for (at_ms, behaviour) in [(5_000, Behaviour::Refuse), (15_000, SERVES), (25_000, Behaviour::Refuse)] {
        world.at(now_ms + at_ms, move |world| world.service(&world.node(1), behaviour));
    }
    world.run();
    assert_eq!(world.objections, []);
    assert_eq!(world.misbehaved, Vec::<String>::new());
    let health = &world.ec2.tags(&world.node(1)).unwrap()["eipwatch:health"];
    assert!(health.starts_with("verdict=unhealthy"), "{health}");
}

#[test]
fn an_interface_that_cannot_be_looked_at_twice_does_not_have_addresses_read_without_end() {
    let (mut world, now_ms) = seasoned();
    world.run_until(now_ms);
    let (a, address) = (world.node(0), world.address(0));
    let (interface, ip) = world.add_interface(&a).unwrap();
    world.ec2.move_by_hand(&address, Place::Interface(&interface, ip), START_MS + now_ms);
    world.detach(&interface);
    let fails = Rule::error("InternalError").on(Api::DescribeNetworkInterfaces);
    world.ec2.faults_mut().push(fails.between(START_MS + now_ms + 5_000, START_MS + now_ms + 30_000));
    world.ec2.take_calls();
    let watch = world.scheduled(now_ms);
    world.run();
    assert_eq!(world.holder(&address), Some(0), "the best candidate is the node that lost the interface");
    assert!(report(&world, watch).ok);
    let calls = world.calls().count();
    assert!(calls <= 100, "{calls} calls");
}

#[test]
fn a_second_loose_interface_is_not_taken_for_the_first() {
    let (mut world, now_ms) = seasoned();
    world.run_until(now_ms);
    let address = world.address(0);
    let hang_on = |world: &mut World, node: Id| {
        let (interface, ip) = world.add_interface(&node).unwrap();
        let at_ms = START_MS + world.now_ms();
        world.ec2.move_by_hand(&world.address(0), Place::Interface(&interface, ip), at_ms);
        world.detach(&interface);
    };
    let (a, b) = (world.node(0), world.node(1));
    hang_on(&mut world, a);
    world.scheduled(now_ms);
    world.at(now_ms + 6_000, move |world| hang_on(world, b));
    world.run();
    let moved_ms = associations(&world)[0] - now_ms;
    assert!((16_000..=30_000).contains(&moved_ms), "{moved_ms} ms");
    assert!(world.holder(&address).is_some());
}

#[test]
fn a_holder_that_ec2_leaves_out_of_its_answers_does_not_lose_its_rank_to_a_failback() {
    let (mut world, now_ms) = seasoned();
    world.run_until(now_ms);
    let (a, b, address) = (world.node(0), world.node(1), world.address(0));
    world.tag(&a, "priority", "200");
    world.tag(&b, "priority", "150");
    world.tag(&address, "policy", "failback=auto stable=5s");
    let state = format!("holder={a} since=2026-11-22T07:30:10Z from={b} why=holder-unhealthy moves=");
    world.tag(&address, "state", &state);
    let watch = world.scheduled(now_ms);
    let (from_ms, until_ms) = (START_MS + now_ms + 10_000, START_MS + now_ms + 40_000);
    world.ec2.faults_mut().push(Rule::new(Fault::Omit(a)).on(Api::DescribeInstances).between(from_ms, until_ms));
    world.run();
    assert_eq!(associations(&world), Vec::<u64>::new());
    assert!(report(&world, watch).ok);
}

#[test]
fn a_move_that_three_watches_make_at_once_counts_once() {
    let (mut world, now_ms) = seasoned();
    world.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 120, max_ms: 120 }));
    for offset_ms in [0, 130, 300] {
        world.scheduled(now_ms + offset_ms);
    }
    world.at(now_ms + 10_000, |world| world.service(&world.node(0), Behaviour::Refuse));
    world.run();
    assert_eq!(world.moves(&world.address(0)).len(), 1);
    let state = &world.ec2.tags(&world.address(0)).unwrap()["eipwatch:state"];
    let (_, moves) = state.split_once(" moves=").unwrap();
    assert_eq!(moves.split('/').count(), 1, "{state}");
}

#[test]
fn a_watch_that_has_not_read_the_nodes_since_the_last_move_fails_nothing_back() {
    let (mut world, now_ms) = seasoned();
    world.run_until(now_ms);
    let (a, address) = (world.node(0), world.address(0));
    world.tag(&address, "policy", "failback=auto stable=5s");
    world.tag(&address, "prefer", &a);
    world.scheduled(now_ms);
    // The watch reads at 10 s; what the event finds and does comes a moment later, and is `stable` at the next reading of addresses.
    world.invoke(&spot_event(&a, now_ms + 10_000), now_ms + 10_000);
    world.run();
    assert_eq!(world.moves(&address).len(), 1);
    assert_eq!(world.holder(&address), Some(1));
}
