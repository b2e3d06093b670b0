//! Clusters of every shape: who is taken, and where an address may sit.

use eipwatch::core::event::Shard;
use eipwatch::core::model::ClusterName;
use eipwatch::embedded::ec2::{Api, Id, InstanceSpec, Place, tags};
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::sim::world::{SERVES, World};
use serde_json::json;

use super::{A, B, C, Scene};

/// Two addresses on two nodes, each the other's stand-by: address 0 belongs on A, address 1 on B.
fn crossed() -> Scene {
    let mut scene = Scene::new(2, 2);
    let (a, b) = (scene.node(A), scene.node(B));
    scene.tag_address(0, "prefer", &a);
    scene.tag_address(1, "prefer", &b);
    scene.by_hand(1, Some(B));
    scene.season();
    scene
}

/// Candidates are taken in this order: `prefer`, priority, fewest addresses held, smallest instance id.
#[test]
fn candidates_are_taken_in_order() {
    // The smallest id.
    let mut scene = Scene::seasoned(1, 4);
    scene.stop_node(A);
    scene.sweep();
    assert_eq!(scene.holder(0), "B");
    // Fewest held, ahead of the id: B holds the other address.
    let mut scene = Scene::seasoned(2, 4);
    scene.by_hand(1, Some(B));
    scene.stop_node(A);
    scene.sweep();
    assert_eq!(scene.holder(0), "C");
    // Priority, ahead of fewest held.
    let mut scene = Scene::seasoned(2, 4);
    scene.by_hand(1, Some(B));
    scene.tag_node(B, "priority", "101");
    scene.stop_node(A);
    scene.sweep();
    assert_eq!(scene.holder(0), "B");
    // `prefer`, ahead of priority.
    let mut scene = Scene::seasoned(1, 4);
    let c = scene.node(C);
    scene.tag_node(B, "priority", "1000");
    scene.tag_address(0, "prefer", &c);
    scene.stop_node(A);
    scene.sweep();
    assert_eq!(scene.holder(0), "C");
}

/// Two addresses of a node that dies go to two nodes: each counts what the one before was given.
#[test]
fn addresses_are_spread_over_the_nodes() {
    let mut scene = Scene::seasoned(2, 3);
    scene.stop_node(A);
    scene.sweep();
    assert_eq!((scene.holder(0), scene.holder(1)), ("B".to_owned(), "C".to_owned()));
}

/// Two addresses on two nodes: one dies, the other holds both; with `failback=auto` each goes home again.
#[test]
fn two_nodes_stand_in_for_each_other_and_go_home() {
    let mut scene = crossed();
    scene.tag_address(0, "policy", "failback=auto stable=10s");
    scene.tag_address(1, "policy", "failback=auto stable=10s");
    scene.refuse(B);
    let told = scene.sweep();
    assert_eq!((scene.holder(0), scene.holder(1)), ("A".to_owned(), "A".to_owned()), "{}", told.text());
    let places: Vec<_> =
        (0..2).filter_map(|n| scene.ec2.association(&scene.address(n)).map(|at| at.private_ip)).collect();
    assert_ne!(places[0], places[1], "each has its own private address");
    scene.serve(B);
    scene.watch(40);
    assert_eq!((scene.holder(0), scene.holder(1)), ("A".to_owned(), "B".to_owned()));
    assert_eq!(scene.ec2.displacements().count(), 0);
}

/// Two addresses on two nodes with one private address each: no place for both is a block, not a displacement.
#[test]
fn two_nodes_without_spare_addresses_block_and_displace_nobody() {
    let mut scene = Scene::new(1, 2);
    scene.add_address_of("web", &[], false);
    scene.by_hand(1, Some(B));
    scene.season();
    scene.stop_node(A);
    let told = scene.sweep();
    assert_eq!(
        (scene.says(&told, 0), scene.holder(0), scene.holder(1)),
        ("blocked no-free-private-address".to_owned(), "A".to_owned(), "B".to_owned())
    );
    assert!(!told.cluster().ready);
}

/// One address of each cluster on nodes of its own, and B in both.
fn two_clusters() -> Scene {
    let mut scene = Scene::new(1, 3);
    scene.add_address_of("db", &[], false);
    scene.tag_node(B, "cluster", "web db");
    scene.tag_node(C, "cluster", "db");
    scene.by_hand(1, Some(C));
    scene.season();
    scene
}

/// Four nodes with one private address each, an address on A and one on D; only B may take one over.
fn one_place_left() -> Scene {
    let mut scene = Scene::new(1, 4);
    scene.add_address_of("web", &[], false);
    scene.by_hand(1, Some(3));
    scene.tag_node(C, "mode", "drain");
    scene.season();
    scene
}

/// A place is kept for an address that is on its way there, and free again once it has gone elsewhere.
#[test]
fn a_place_is_free_once_the_address_that_came_there_has_gone_on() {
    let mut scene = one_place_left();
    scene.after(2_000, |scene| scene.stop_node(A));
    scene.after(11_000, |scene| {
        scene.tag_node(C, "mode", "active");
        scene.by_hand(0, Some(C));
    });
    scene.after(17_000, |scene| scene.stop_node(3));
    let began_ms = scene.now_ms();
    scene.watch(50);
    assert_eq!((scene.been(), scene.holder(1)), (vec![Some(B), Some(C)], "B".to_owned()));
    let moved_ms = scene.world.moves(&scene.address(1)).last().expect("moved").0 - began_ms;
    assert!(moved_ms < 25_000, "after {moved_ms} ms");
}

/// A place is kept for the address that has just come there, though an old reading shows it still elsewhere.
#[test]
fn a_place_stays_taken_while_readings_are_old() {
    let mut scene = one_place_left();
    scene.stop_node(C);
    scene.after(2_000, |scene| scene.stop_node(A));
    // The move is seen, and for some seconds now and then it is not.
    scene.after(8_000, |scene| {
        scene.ec2.faults_mut().push(Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 20_000 }));
        scene.stop_node(3);
    });
    let told = scene.watch(30);
    assert_eq!((scene.been(), scene.holder(1)), (vec![Some(B)], "D".to_owned()));
    let moves: Vec<_> = told.calls.iter().filter(|call| call.starts_with("associate")).collect();
    assert_eq!(moves, ["associate B"]);
}

/// And for one of another cluster: what that has on record is not looked at here.
#[test]
fn a_place_stays_taken_for_another_clusters_address_while_readings_are_old() {
    // B has one private address, and is the stand-by of both clusters: of A in `web`, of C in `db`.
    let times = [3_500, 8_000, 20_000];
    // What was on a node that is terminated is on nobody when it is moved: an old reading shows it where it was before.
    for (stale_after_ms, terminated) in times.into_iter().flat_map(|ms| [(ms, false), (ms, true)]) {
        let mut scene = two_clusters();
        scene.after(2_000, move |scene| if terminated { scene.terminate_node(A) } else { scene.stop_node(A) });
        let until_ms = scene.epoch_ms() + 27_000;
        scene.after(stale_after_ms, move |scene| {
            let stale = Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 25_000 });
            scene.ec2.faults_mut().push(stale.on(Api::DescribeAddresses).between(0, until_ms));
            scene.stop_node(C);
        });
        let told = scene.watch(26);
        assert_eq!(
            (scene.holder(0), scene.holder(1)),
            ("B".to_owned(), "C".to_owned()),
            "{stale_after_ms} {terminated}"
        );
        let moves: Vec<_> = told.calls.iter().filter(|call| call.starts_with("associate")).collect();
        assert_eq!(moves, ["associate B"], "{stale_after_ms} {terminated}");
    }
}

/// Two nodes with one private address each, and two addresses that nobody holds.
fn two_places() -> Scene {
    let mut scene = Scene::new(1, 2);
    scene.add_address_of("web", &[], false);
    scene.by_hand(1, Some(B));
    scene.season();
    scene.by_hand(0, None);
    scene.by_hand(1, None);
    scene
}

/// A place is kept for an address that has just come there, as far as it is known to be there or goes there again by itself.
#[test]
fn a_place_is_kept_for_whom_it_was_chosen_and_for_nobody_who_stays_away() {
    // In manual mode it does not go back there by itself: nothing holds back the other's rescue.
    let mut scene = two_places();
    scene.stop_node(A);
    scene.tag_address(0, "mode", "manual");
    scene.remember(0, B, None, "no-holder", 5);
    scene.sweep();
    assert_eq!((scene.holder(0), scene.holder(1)), ("-".to_owned(), "B".to_owned()));
    // It may be there, and the reading an old one.
    let mut scene = two_places();
    scene.by_hand(0, Some(A));
    scene.tag_address(0, "mode", "manual");
    scene.remember(0, B, Some(A), "manual", 5);
    let told = scene.sweep();
    assert_eq!((scene.says(&told, 1), scene.holder(1)), ("blocked no-free-private-address".to_owned(), "-".to_owned()));
    // Another invocation has chosen this place for the second: the first gets another, or none.
    let mut scene = two_places();
    scene.stop_node(A);
    scene.remember(1, B, None, "no-holder", 5);
    scene.sweep();
    assert_eq!((scene.holder(0), scene.holder(1)), ("-".to_owned(), "B".to_owned()));
}

/// A place that was chosen is kept while the address is on its way, also when another has arrived beside it.
#[test]
fn a_place_is_kept_for_whom_it_was_chosen_when_another_has_arrived_beside_it() {
    let mut scene = Scene::new(3, 3);
    scene.by_hand(1, Some(B));
    scene.tag_node(C, "priority", "200");
    scene.season();
    // Two go to C. The one is there at once, the other only after a third, which chooses before it, has set out for C, too.
    let last = scene.address(2);
    let slow = Rule::new(Fault::Latency { min_ms: 4_000, max_ms: 4_000 }).on(Api::AssociateAddress);
    scene.ec2.faults_mut().push(slow.naming(&last));
    scene.after(5_000, |scene| scene.refuse(A));
    scene.after(5_600, |scene| scene.refuse(B));
    scene.watch(30);
    for number in 0..3 {
        let moves = scene.world.moves(&scene.address(number));
        assert_eq!(moves.last().map(|(_, to)| *to), Some(Some(C)), "{number}: {moves:?}");
        assert!(moves.len() <= 2, "{number} is displaced: {moves:?}");
    }
}

/// A place that an address was refused is free for another.
#[test]
fn a_place_that_an_address_was_refused_is_free_for_another() {
    let mut scene = one_place_left();
    let first = scene.address(0);
    let refused = Rule::error("IncorrectInstanceState").on(Api::AssociateAddress).naming(&first);
    scene.ec2.faults_mut().push(refused);
    scene.after(2_000, |scene| scene.stop_node(A));
    scene.after(8_000, |scene| scene.stop_node(3));
    let began_ms = scene.now_ms();
    scene.watch(40);
    assert_eq!((scene.been(), scene.holder(1)), (Vec::new(), "B".to_owned()));
    let moved_ms = scene.world.moves(&scene.address(1)).last().expect("moved").0 - began_ms;
    assert!(moved_ms < 15_000, "after {moved_ms} ms");
}

/// And for another cluster's, in the same sweep.
#[test]
fn a_place_that_an_address_was_refused_is_free_for_another_clusters() {
    let mut scene = two_clusters();
    let second = scene.address(1);
    scene.ec2.faults_mut().push(Rule::error("IncorrectInstanceState").on(Api::AssociateAddress).naming(&second));
    scene.stop_node(A);
    scene.stop_node(C);
    scene.sweep();
    assert_eq!((scene.holder(0), scene.holder(1)), ("B".to_owned(), "C".to_owned()));
}

/// A place is free once the address that came there has gone back.
#[test]
fn a_place_is_free_once_the_address_that_came_there_has_gone_back() {
    let mut scene = one_place_left();
    scene.after(2_000, |scene| scene.refuse(A));
    scene.after(8_000, |scene| scene.serve(A));
    scene.after(13_000, |scene| scene.tag_node(B, "mode", "drain"));
    scene.after(19_000, |scene| {
        scene.tag_node(B, "mode", "active");
        scene.stop_node(3);
    });
    let began_ms = scene.now_ms();
    scene.watch(50);
    assert_eq!((scene.been(), scene.holder(1)), (vec![Some(B), Some(A)], "B".to_owned()));
    let moved_ms = scene.world.moves(&scene.address(1)).last().expect("moved").0 - began_ms;
    assert!(moved_ms < 30_000, "after {moved_ms} ms");
}

/// `eipwatch:address` names the private address that is to carry the Elastic IP, on a second interface, too.
#[test]
fn the_private_address_can_be_named() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    let nic = scene.ec2.add_interface(&b, 1).expect("an interface");
    let ip = scene.ec2.interfaces_of(&nic).next().expect("it").private_ips[0];
    scene.tag_node(B, "address", &ip.to_string());
    scene.tag_node(B, "check", "ec2");
    scene.refuse(A);
    let told = scene.sweep();
    assert_eq!(scene.holder(0), "B", "{}", told.text());
    let at = scene.ec2.association(&scene.address(0)).expect("somewhere");
    assert_eq!((at.private_ip, &at.interface), (ip, &nic));
}

/// A node in another network border group is no candidate, and vetoes say so.
#[test]
fn another_border_group_is_no_candidate() {
    let mut scene = Scene::new(1, 1);
    let spec = InstanceSpec {
        zone: "us-west-2-lax-1a".to_owned(),
        border_group: "us-west-2-lax-1".to_owned(),
        tags: tags([("eipwatch:cluster", "web")]),
        ..InstanceSpec::default()
    };
    let far = scene.ec2.add_instance(spec);
    scene.world.nodes.push(far.clone());
    scene.world.service(&far, SERVES);
    scene.tag_address(0, "check", "ec2");
    scene.season();
    scene.stop_node(A);
    let told = scene.sweep();
    scene.ends(&told, "stay no-candidate", "A");
    let vetoes = told.address(0).decision.as_ref().map(|decision| decision.vetoes.join("; ")).unwrap_or_default();
    assert!(vetoes.contains("border group"), "{vetoes}");
    assert!(told.text().contains("none of the nodes that run can take it"), "{}", told.text());
    assert!(!told.calls.iter().any(|call| call.starts_with("associate")), "{:?}", told.calls);
    let now_ms = scene.epoch_ms();
    assert!(scene.ec2.stop_instance(&far, now_ms));
    scene.pass(60_000);
    let told = scene.sweep();
    scene.ends(&told, "stay no-candidate", "A");
    assert!(told.text().contains("no other node of the cluster runs"), "{}", told.text());
}

/// A node in several clusters has a health tag for each, is judged in each, and serves each from an address of its own.
#[test]
fn a_node_in_several_clusters_has_a_health_tag_for_each() {
    let mut scene = Scene::new(1, 2);
    scene.tag_node(B, "cluster", "web db");
    let db = scene.ec2.add_address(tags([("eipwatch:cluster", "db"), ("eipwatch:check", "tcp:5432")]));
    scene.world.addresses.push(db);
    let b = scene.node(B);
    scene.add_private_ip(&b);
    scene.service_on(&b, 5_432, SERVES);
    scene.by_hand(1, Some(B));
    scene.sweep();
    assert!(scene.node_tag(B, "health:web").starts_with("verdict=healthy"), "{}", scene.node_tag(B, "health:web"));
    assert!(scene.node_tag(B, "health:db").starts_with("verdict=healthy"), "{}", scene.node_tag(B, "health:db"));
    assert_eq!((scene.node_tag(B, "health"), scene.node_tag(A, "health:web")), (String::new(), String::new()));
    // In `db` it fails, in `web` it does not; and `web`'s address finds its place beside `db`'s.
    scene.service_on(&b, 5_432, eipwatch::sim::world::Behaviour::Refuse);
    scene.stop_node(A);
    let told = scene.sweep();
    assert_eq!((scene.holder(0), scene.holder(1)), ("B".to_owned(), "B".to_owned()), "{:?}", told.report.clusters);
    assert!(scene.node_tag(B, "health:db").starts_with("verdict=unhealthy"), "{}", scene.node_tag(B, "health:db"));
    assert_eq!(scene.ec2.displacements().count(), 0);
}

/// Nodes that appear and vanish are taken and forgotten while a watch runs.
#[test]
fn nodes_appear_and_vanish() {
    let mut scene = Scene::seasoned(1, 1);
    scene.after(5_000, |scene| {
        scene.add_node();
    });
    scene.after(40_000, |scene| scene.terminate_node(A));
    let told = scene.watch(55);
    scene.ends(&told, "move holder-gone to B", "B");
    let mut scene = Scene::pair();
    scene.stop_node(B);
    scene.terminate_node(B);
    scene.pass(2 * 3_600_000);
    let told = scene.expect("stay healthy", &[], "A");
    assert_eq!(told.cluster().nodes.len(), 1);
}

/// An address without a holder at first deployment goes to the best candidate.
#[test]
fn an_address_without_a_holder_at_first_deployment() {
    let mut scene = Scene::new(1, 3);
    let c = scene.node(C);
    scene.tag_address(0, "prefer", &c);
    scene.by_hand(0, None);
    let told = scene.sweep();
    scene.ends(&told, "move no-holder to C", "C");
    assert!(scene.address_tag(0, "state").contains(" from=none why=no-holder"), "{}", scene.address_tag(0, "state"));
}

/// A recovered address comes back without tags: it is not watched, and the cluster says what is missing.
#[test]
fn a_recovered_address_is_not_watched_until_it_is_tagged() {
    let mut scene = Scene::pair();
    let (ip, now_ms) = (scene.address(0), scene.epoch_ms());
    let back = scene.ec2.release_and_recover_address(&ip, now_ms).expect("recovered");
    let told = scene.sweep();
    told.problem("no Elastic IP carries eipwatch:cluster=web");
    assert_eq!(told.calls, Vec::<String>::new());
    scene.world.addresses = vec![back];
    scene.tag_address(0, "cluster", "web");
    let told = scene.sweep();
    scene.ends(&told, "move no-holder to A", "A");
}

/// Clusters that carry different checks or policies: those of the smallest allocation id serve, and problems say so.
#[test]
fn different_policies_within_a_cluster_are_a_problem() {
    let mut scene = Scene::seasoned(2, 2);
    scene.tag_address(1, "policy", "fall=1");
    scene.tag_address(1, "check", "tcp:1");
    let told = scene.sweep();
    told.problem(&format!("eipwatch:policy on {}", scene.address(1)));
    told.problem(&format!("eipwatch:check on {}", scene.address(1)));
    assert_eq!((scene.holder(0), scene.holder(1)), ("A".to_owned(), "A".to_owned()));
    assert_eq!(told.evidence(A, "tcp:1").1, "no such check");
}

/// `mode` and `prefer` are each address's own.
#[test]
fn mode_and_prefer_are_each_addresses_own() {
    let mut scene = Scene::seasoned(2, 3);
    scene.tag_address(0, "mode", "manual");
    let c = scene.node(C);
    scene.tag_address(1, "prefer", &c);
    scene.stop_node(A);
    let told = scene.sweep();
    assert_eq!(scene.says(&told, 0), "stay manual-mode (move holder-gone to B)");
    assert_eq!((scene.holder(0), scene.holder(1)), ("A".to_owned(), "C".to_owned()));
}

/// A shard is the clusters whose name's FNV-1a 64 hash, modulo its count, is its index; all shards cover each cluster once.
#[test]
fn shards_cover_each_cluster_once() {
    let mut scene = Scene { world: World::new(1) };
    let names: Vec<String> = (0..12).map(|n| format!("c{n}")).collect();
    for name in &names {
        scene.ec2.add_instance(InstanceSpec { tags: tags([("eipwatch:cluster", name)]), ..InstanceSpec::default() });
        scene.ec2.add_address(tags([("eipwatch:cluster", name)]));
    }
    scene.settle();
    let mut seen: Vec<String> = Vec::new();
    for index in 0..4 {
        let told = scene.send(&json!({"shard": format!("{index}/4")}));
        let swept: Vec<String> = told.report.clusters.iter().map(|cluster| cluster.cluster.to_string()).collect();
        scene.world.settings.shard = Shard::parse(&format!("{index}/4")).ok();
        let by_environment = scene.sweep();
        scene.world.settings.shard = None;
        assert_eq!(by_environment.report.clusters.len(), swept.len(), "{index}");
        seen.extend(swept);
    }
    seen.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(seen, expected);
    // FNV-1a 64 of "web" is 0x9c3fcc19158c4b1c by the reference algorithm; computed here anew.
    let hash = b"web"
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let shard = Shard::parse(&format!("{}/4", hash % 4)).expect("a shard");
    assert!(shard.covers(&ClusterName::from("web")));
}

/// A rescue that waits for a reading holds up no other.
#[test]
fn a_last_resort_that_is_read_again_holds_up_no_other_cluster() {
    let mut scene = Scene::pair();
    let nodes = [scene.add_node_of("db", InstanceSpec::default()), scene.add_node_of("db", InstanceSpec::default())];
    scene.add_address_of("db", &nodes, false);
    scene.season();
    scene.refuse(B);
    scene.pass(1_000);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 500, max_ms: 500 }).on(Api::DescribeInstances));
    // Addresses are asked for with the instances, and answered after them: the last resort wants them read once more.
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 2_000, max_ms: 2_000 }).on(Api::DescribeAddresses));
    scene.after(4_000, |scene| {
        scene.stop_node(A);
        scene.stop_node(C);
    });
    scene.watch(20);
    assert_eq!((scene.holder(0), scene.holder(1)), ("B".to_owned(), "D".to_owned()));
    let moved_ms = |n: usize| scene.world.moves(&scene.address(n)).last().map(|(at_ms, _)| *at_ms);
    assert!(moved_ms(1).expect("moved") + 1_900 <= moved_ms(0).expect("moved"), "{:?} {:?}", moved_ms(1), moved_ms(0));
}

/// One broken cluster never keeps the others from being swept.
#[test]
fn one_broken_cluster_does_not_keep_the_others() {
    let mut scene = Scene::pair();
    let spec = InstanceSpec { tags: tags([("eipwatch:cluster", "db")]), ..InstanceSpec::default() };
    let (first, second): (Id, Id) = (scene.ec2.add_instance(spec.clone()), scene.ec2.add_instance(spec));
    let db = scene.ec2.add_address(tags([("eipwatch:cluster", "db")]));
    let now_ms = scene.epoch_ms();
    scene.ec2.move_by_hand(&db, Place::Instance(&first), now_ms);
    scene.season();
    // Both fail; of `db` nothing may be changed.
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress).naming(&db));
    let now_ms = scene.epoch_ms();
    scene.ec2.stop_instance(&first, now_ms);
    scene.stop_node(A);
    let told = scene.sweep();
    assert_eq!(scene.holder(0), "B");
    assert_eq!(scene.ec2.holder(&db), Some(&first));
    let error = told.report.error.clone().unwrap_or_default();
    assert!(error.starts_with("db: ") && error.contains("UnauthorizedOperation"), "{error}");
    assert_ne!(first, second);
}
