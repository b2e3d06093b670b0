//! Size: hundreds of addresses at once, a thousand clusters in one sweep.

use std::collections::BTreeMap;

use eipwatch::embedded::ec2::{Api, Id, InstanceSpec, Place, tags};
use eipwatch::embedded::faults::{Fault, Rule};
use eipwatch::sim::world::{Behaviour, START_MS, World};

use super::Scene;

/// Many clusters of two nodes and one address each, the address on the first node.
fn many(clusters: usize, check: &str) -> (Scene, Vec<(Id, Id, Id)>) {
    let mut scene = Scene { world: World::new(1) };
    scene.keep_logs = false;
    let mut all = Vec::new();
    for n in 0..clusters {
        let name = format!("c{n:04}");
        let (a, b) = (scene.add_node(), scene.add_node());
        scene.tag(&a, "cluster", &name);
        scene.tag(&b, "cluster", &name);
        let ip = scene.ec2.add_address(tags([("eipwatch:cluster", &name), ("eipwatch:check", check)]));
        let now_ms = scene.ec2.now_ms();
        scene.ec2.move_by_hand(&ip, Place::Instance(&a), now_ms);
        all.push((a, b, ip));
    }
    scene.settle();
    (scene, all)
}

/// Among many nodes some are always in doubt: a sweep ends once each has come to a verdict, and the holder is well.
#[test]
fn doubts_of_many_nodes_hold_up_no_sweep() {
    let mut scene = Scene::seasoned(1, 24);
    for node in 1..24 {
        let up_ms = 1_900 + 137 * u64::try_from(node).expect("a small number");
        scene.service(node, Behaviour::Flap { up_ms, down_ms: 600 });
    }
    let told = scene.sweep();
    scene.ends(&told, "stay healthy", "A");
    assert!(told.took_ms() < 10_000, "{} ms", told.took_ms());
    let told = scene.watch(20);
    assert!(told.took_ms() < 30_000, "{} ms", told.took_ms());
    // Nor in manual mode, nor where another address is an outsider's.
    scene.tag_address(0, "mode", "manual");
    let told = scene.sweep();
    assert!(told.took_ms() < 10_000, "{} ms", told.took_ms());
    scene.tag_address(0, "mode", "auto");
    let outsider = scene.ec2.add_instance(InstanceSpec::default());
    let second = scene.ec2.add_address(tags([("eipwatch:cluster", "web"), ("eipwatch:check", "http:8080/health")]));
    let now_ms = scene.epoch_ms();
    assert!(scene.ec2.move_by_hand(&second, Place::Instance(&outsider), now_ms));
    let told = scene.sweep();
    assert!(told.took_ms() < 10_000, "{} ms", told.took_ms());
}

/// 300 addresses at once at AWS's rates: all move, the rescues first, within the time that the rates allow plus 10 %.
#[test]
fn three_hundred_addresses_move_within_the_time_that_aws_allows() {
    let (mut scene, all) = many(300, "ec2");
    scene.sweep();
    scene.pass(60_000);
    let began_ms = scene.epoch_ms();
    // A third of the holders only drain; they have smaller ids than those that die.
    for (n, (a, _, _)) in all.iter().enumerate() {
        if n < 100 {
            scene.tag(a, "mode", "drain");
        } else {
            scene.ec2.stop_instance(a, began_ms);
        }
    }
    scene.ec2.faults_mut().push(Rule::new(Fault::Throttle));
    let told = scene.sweep();
    assert!(told.report.ok, "{:?}", told.report.error);
    let mut moved_ms: BTreeMap<bool, Vec<u64>> = BTreeMap::new();
    for (n, (_, b, ip)) in all.iter().enumerate() {
        assert_eq!(scene.ec2.holder(ip), Some(b), "{n}");
        let at_ms = scene.ec2.history().iter().rev().find(|it| it.allocation == *ip).expect("it").at_ms;
        moved_ms.entry(n >= 100).or_default().push(at_ms - began_ms);
    }
    // 50 at once, then 5 a second.
    let allowed_ms = (300 - 50) * 1_000 / 5;
    let last_ms = moved_ms.values().flatten().max().copied().unwrap_or_default();
    assert!(last_ms <= allowed_ms + allowed_ms / 10, "{last_ms} ms of {allowed_ms} ms");
    let last_rescue_ms = moved_ms[&true].iter().max().copied().unwrap_or_default();
    let first_drain_ms = moved_ms[&false].iter().min().copied().unwrap_or_default();
    assert!(
        last_rescue_ms <= first_drain_ms,
        "the last rescue at {last_rescue_ms} ms, the first drain at {first_drain_ms} ms"
    );
    assert_eq!(scene.ec2.displacements().count(), 0);
    assert!(began_ms > START_MS);
}

/// 60 clusters whose holders have all just been stopped.
fn sixty_without_their_holders() -> (Scene, Vec<(Id, Id, Id)>) {
    let (mut scene, all) = many(60, "ec2");
    scene.sweep();
    scene.pass(60_000);
    let now_ms = scene.epoch_ms();
    for (a, _, _) in &all {
        scene.ec2.stop_instance(a, now_ms);
    }
    (scene, all)
}

/// And to the moment: 50 at once, then one every 200 ms, though nothing else happens meanwhile.
#[test]
fn moves_go_at_the_pace_that_aws_allows() {
    let (mut scene, _) = sixty_without_their_holders();
    let told = scene.sweep();
    let calls_ms = scene.calls_to(Api::AssociateAddress, &told);
    let after_ms = |n: usize| calls_ms[n] - calls_ms[0];
    assert_eq!(calls_ms.len(), 60);
    assert_eq!((after_ms(49), after_ms(50)), (0, 200), "{calls_ms:?}");
    assert_eq!((50..60).map(after_ms).collect::<Vec<_>>(), (1..=10).map(|n| n * 200).collect::<Vec<_>>());
}

/// The same where another program uses half of the rate: all move, only later.
#[test]
fn mass_failover_goes_on_when_others_use_the_rate() {
    let (mut scene, all) = sixty_without_their_holders();
    let now_ms = scene.epoch_ms();
    let limit = eipwatch::embedded::faults::Limit { capacity: 5, refill_per_s: 2 };
    scene.ec2.settings.limits.insert(Api::AssociateAddress, limit);
    scene.ec2.faults_mut().push(Rule::new(Fault::Throttle));
    let told = scene.sweep();
    assert!(told.report.ok, "{:?}", told.report.error);
    assert!(all.iter().all(|(_, b, ip)| scene.ec2.holder(ip) == Some(b)));
    let last_ms = scene.ec2.history().iter().map(|it| it.at_ms).max().unwrap_or_default() - now_ms;
    assert!(last_ms <= 45_000, "{last_ms} ms for 60 at 5, then 2 a second");
}

/// 1,000 clusters in one sweep: calls grow with pages only, at most 600 probes at once.
#[test]
fn a_thousand_clusters_in_one_sweep() {
    let mut calls = Vec::new();
    for clusters in [10, 400, 1_000] {
        let (mut scene, _) = many(clusters, "tcp:8080");
        let told = scene.sweep();
        assert_eq!(told.report.clusters.len(), clusters);
        let reads: u64 = Api::ALL.into_iter().filter(|api| !api.changes()).map(|api| scene.ec2.pages(api)).sum();
        calls.push(reads);
    }
    // One page of addresses whatever their number; a page of instances and statuses for each 1,000.
    assert_eq!(calls, [3, 3, 5]);
}

/// At most 600 probes at once, though 2,000 nodes hang; every node is judged in the end.
#[test]
fn at_most_six_hundred_probes_at_once() {
    let (mut scene, all) = many(1_000, "tcp:8080");
    for (a, b, _) in &all {
        for id in [a, b] {
            scene.world.service(id, Behaviour::Silent);
        }
    }
    let told = scene.sweep();
    assert!(scene.most_probes <= 600 && scene.most_probes > 500, "{}", scene.most_probes);
    let unsettled = told
        .report
        .clusters
        .iter()
        .flat_map(|cluster| &cluster.nodes)
        .filter(|node| node.verdict != eipwatch::core::tags::Verdict::Unhealthy)
        .count();
    assert_eq!(unsettled, 0, "after {} ms", told.took_ms());
}

/// A cluster that could use all 600 probes alone leaves the others theirs: each has its turn.
#[test]
fn a_cluster_of_hundreds_of_silent_nodes_leaves_the_others_their_probes() {
    let mut scene = Scene { world: World::new(1) };
    scene.keep_logs = false;
    let crowd: Vec<Id> = (0..700).map(|_| scene.add_node_of("crowd", InstanceSpec::default())).collect();
    let pair: Vec<Id> = (0..2).map(|_| scene.add_node_of("web", InstanceSpec::default())).collect();
    scene.add_address_of("crowd", &crowd[..1], false);
    scene.add_address_of("web", &pair, false);
    scene.settle();
    for id in &crowd {
        scene.world.service(id, Behaviour::Silent);
    }
    let a = pair[0].clone();
    scene.after(4_000, move |scene| scene.world.service(&a, Behaviour::Silent));
    let began_ms = scene.now_ms();
    scene.watch(14);
    assert_eq!(scene.ec2.holder(&scene.address(1)), Some(&pair[1]));
    assert_eq!(scene.most_probes, 600);
    let moved_ms = scene.world.moves(&scene.address(1)).last().expect("moved").0 - began_ms;
    assert!(moved_ms < 12_000, "after {moved_ms} ms");
}

/// Holders that have lost their cluster tag are looked at all, though one call names a hundred.
#[test]
fn every_holder_without_its_tag_is_looked_at() {
    let (mut scene, all) = many(120, "ec2");
    scene.sweep();
    for (a, _, ip) in &all {
        let (state, a) =
            (format!("holder={a} since={} from=none why=no-holder moves=", scene.time_in(-600)), a.clone());
        scene.tag(ip, "state", &state);
        scene.untag(&a, "cluster");
    }
    scene.pass(60_000);
    scene.after(7_000, {
        let all = all.clone();
        move |scene| {
            for n in [0, 119] {
                let now_ms = scene.epoch_ms();
                scene.ec2.stop_instance(&all[n].0, now_ms);
            }
        }
    });
    scene.watch(20);
    for (n, (a, b, ip)) in all.iter().enumerate() {
        let holder = if n == 0 || n == 119 { b } else { a };
        assert_eq!(scene.ec2.holder(ip), Some(holder), "{n}");
    }
}

/// A node that does not run costs no second reading of status checks: it is in none.
#[test]
fn a_stopped_node_costs_no_second_reading_of_status_checks() {
    let mut scene = Scene::seasoned(1, 3);
    scene.stop_node(2);
    scene.pass(60_000);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 100, max_ms: 100 }));
    let told = scene.sweep();
    scene.ends(&told, "stay healthy", "A");
    assert_eq!(scene.calls_to(Api::DescribeInstanceStatus, &told).len(), 1);
}

/// In a quiet watch EC2 is read at most 0.5 times a second, however many clusters there are.
#[test]
fn a_quiet_watch_reads_at_most_every_other_second() {
    let (mut scene, _) = many(200, "ec2");
    scene.sweep();
    scene.pass(60_000);
    let before = scene.ec2.calls().len();
    let told = scene.watch(110);
    let made = scene.ec2.calls().len() - before;
    assert!(made <= 55 && told.calls.is_empty(), "{made} calls in 110 s");
}
