//! Every `why` of the contract, with the holder that EC2 shows afterwards and the calls that were made.

use eipwatch::embedded::ec2::{Api, Place};
use eipwatch::embedded::faults::{Fault, Rule};
use eipwatch::sim::world::{Behaviour, spot_event};
use serde_json::json;

use super::{A, B, C, Scene};

#[test]
fn why_no_holder() {
    let mut scene = Scene::pair();
    scene.by_hand(0, None);
    scene.expect("move no-holder to A", &["associate A", "tag state 0"], "A");
}

#[test]
fn why_holder_gone() {
    let mut scene = Scene::pair();
    scene.stop_node(A);
    scene.expect("move holder-gone to B", &["associate B", "tag health A", "tag state 0"], "B");
    assert!(scene.node_tag(A, "health").starts_with("verdict=gone since="));
}

#[test]
fn why_holder_leaving() {
    let mut scene = Scene::pair();
    let spot = spot_event(&scene.node(A), scene.now_ms());
    scene.expect_of(&spot, "move holder-leaving to B", &["associate B", "tag health A", "tag state 0"], "B");
    assert!(scene.node_tag(A, "health").contains(" leaving=spot until="), "{}", scene.node_tag(A, "health"));
}

#[test]
fn why_holder_draining() {
    let mut scene = Scene::pair();
    scene.tag_node(A, "mode", "drain");
    scene.expect("move holder-draining to B", &["associate B", "tag state 0"], "B");
}

#[test]
fn why_holder_unhealthy() {
    let mut scene = Scene::pair();
    scene.refuse(A);
    let told = scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    let made = &told.address(0).moves[0];
    assert_eq!((made.why.as_str(), made.ok, scene.name(made.to.as_str())), ("holder-unhealthy", true, "B".to_owned()));
    let state = scene.address_tag(0, "state");
    let (a, b) = (scene.node(A), scene.node(B));
    assert!(state.starts_with(&format!("holder={b} since=")), "{state}");
    assert!(state.contains(&format!(" from={a} why=holder-unhealthy moves=2026-")), "{state}");
}

#[test]
fn why_failback() {
    let mut scene = Scene::pair();
    scene.tag_node(A, "priority", "200");
    scene.tag_address(0, "policy", "failback=auto stable=20s");
    scene.refuse(A);
    scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    scene.serve(A);
    scene.expect("stay healthy", &["tag health A"], "B");
    scene.pass(30_000);
    scene.expect("move failback to A", &["associate A", "tag state 0"], "A");
}

#[test]
fn why_manual() {
    let mut scene = Scene::pair();
    scene.expect_of(&json!({"action": "move"}), "move manual to B", &["associate B", "tag state 0"], "B");
    assert!(scene.address_tag(0, "state").ends_with(" why=manual moves="), "a command is not counted");
}

#[test]
fn why_last_resort() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    scene.stop_node(A);
    let told =
        scene.expect("move last-resort to B", &["associate B", "tag health A", "tag health B", "tag state 0"], "B");
    assert!(told.took_ms() <= 5_000, "{} ms", told.took_ms());
}

#[test]
fn why_healthy() {
    let mut scene = Scene::pair();
    scene.expect("stay healthy", &[], "A");
}

#[test]
fn why_no_candidate() {
    let mut scene = Scene::pair();
    scene.refuse(A);
    scene.refuse(B);
    scene.expect("stay no-candidate", &["tag health A", "tag health B"], "A");
}

#[test]
fn why_manual_mode() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "mode", "manual");
    scene.refuse(A);
    let told = scene.expect("stay manual-mode (move holder-unhealthy to B)", &["tag health A"], "A");
    assert_eq!(told.address(0).mode, "manual");
}

#[test]
fn why_outsider() {
    let mut scene = Scene::pair();
    let stranger = scene.ec2.add_instance(eipwatch::embedded::ec2::InstanceSpec::default());
    let (ip, now_ms) = (scene.address(0), scene.epoch_ms());
    scene.ec2.move_by_hand(&ip, Place::Instance(&stranger), now_ms);
    let told = scene.expect("stay outsider", &[], &stranger);
    told.problem(&stranger);
    assert_eq!(told.address(0).holder.as_ref().map(|id| id.as_str()), Some(&*stranger));
}

#[test]
fn why_settling() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    // Another invocation has moved it from A to B just now, and EC2 still shows A.
    scene.remember(0, B, Some(A), "holder-unhealthy", 5);
    let told = scene.sweep();
    assert_eq!((scene.says(&told, 0), told.calls.len()), ("stay settling".to_owned(), 0));
    assert_eq!(told.address(0).holder.as_ref().map(|id| id.as_str()), Some(&*b), "who it was moved to");
}

#[test]
fn why_moved_elsewhere() {
    let mut scene = Scene::seasoned(1, 3);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 3_000, max_ms: 3_000 }).on(Api::DescribeAddresses));
    scene.tag_address(0, "policy", "fall=4");
    scene.refuse(A);
    // The first read is answered after 3 s, A has failed at 4.5 s, and its address is read again before the move.
    scene.after(4_700, |scene| scene.by_hand(0, Some(C)));
    let told = scene.sweep();
    assert_eq!(scene.says(&told, 0), "stay moved-elsewhere", "{:?}", scene.decided(told.handle));
    assert_eq!(scene.holder(0), "C");
    assert!(told.report.ok && !told.calls.iter().any(|call| call.starts_with("associate")), "{:?}", told.calls);
}

#[test]
fn why_max_moves() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "policy", "max_moves=1");
    scene.refuse(A);
    scene.expect("move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
    scene.pass(40_000);
    scene.serve(A);
    scene.refuse(B);
    let told = scene.expect("blocked max-moves", &["tag health B", "tag health A"], "B");
    assert!(told.report.ok, "the brake is no failure");
    assert!(told.text().contains("eipwatch move"), "{}", told.text());
}

#[test]
fn why_no_free_private_address() {
    let mut scene = Scene::pair();
    // Another Elastic IP, of no cluster, sits on B's only private address.
    scene.another_address();
    scene.by_hand(1, Some(B));
    scene.refuse(A);
    scene.expect("blocked no-free-private-address", &["tag health A"], "A");
    assert_eq!(scene.holder(1), "B", "it is not displaced");
}

#[test]
fn why_not_permitted() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress));
    scene.refuse(A);
    let told = scene.sweep();
    assert_eq!(scene.says(&told, 0), "blocked not-permitted to B");
    assert_eq!(scene.holder(0), "A");
    let tried = told.calls.iter().filter(|call| call.starts_with("associate")).count();
    assert_eq!(tried, 1, "asking again does not help: {:?}", told.calls);
    let made = &told.address(0).moves;
    assert!(made.len() == 1 && !made[0].ok, "the attempt is in moves: {made:?}");
    let error = told.report.error.clone().unwrap();
    assert!(error.starts_with("web: ") && error.contains("UnauthorizedOperation"), "{error}");
    let needed = format!("The role needs ec2:AssociateAddress on {}, {} and eni-", scene.address(0), scene.node(B));
    let decision = told.text();
    assert!(decision.contains(&needed), "what to do about it is said: {decision}");
}

/// Where AWS allows the move to one node and not to another, the address goes where it may: a role's policy may name some of them only.
#[test]
fn what_is_not_permitted_to_one_node_is_to_another() {
    let sweep = |forbidden: &[usize], dry: bool| {
        let mut scene = Scene::seasoned(1, 4);
        for node in forbidden {
            let id = scene.node(*node);
            let rule = Rule::error("UnauthorizedOperation").on(Api::AssociateAddress).naming(&id);
            scene.ec2.faults_mut().push(rule);
        }
        scene.stop_node(A);
        let told = scene.send(&json!({"action": "sweep", "dry_run": dry}));
        let tried = told.calls.iter().filter(|call| call.starts_with("associate") || call.starts_with("ask")).count();
        (scene.says(&told, 0), scene.holder(0), tried)
    };
    assert_eq!(sweep(&[B], false), ("move holder-gone to C".to_owned(), "C".to_owned(), 2));
    assert_eq!(sweep(&[B], true), ("move holder-gone to C".to_owned(), "A".to_owned(), 2));
    assert_eq!(sweep(&[B, C, 3], false), ("blocked not-permitted to B".to_owned(), "A".to_owned(), 3));
}

/// A rescue goes to one that is no candidate where AWS does not allow the only candidate: there is nothing to lose.
#[test]
fn what_is_not_permitted_to_the_only_candidate_is_a_last_resort_elsewhere() {
    let mut scene = Scene::seasoned(1, 3);
    let b = scene.node(B);
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress).naming(&b));
    scene.tag_node(C, "mode", "drain");
    scene.stop_node(A);
    let told = scene.sweep();
    // Drained, it would be left for the one that is forbidden.
    scene.ends(&told, "blocked not-permitted to B", "C");
    assert!(scene.address_tag(0, "state").contains("why=last-resort"), "{}", scene.address_tag(0, "state"));
}

/// A command without a target tries the next candidate, too, and says so in a dry run.
#[test]
fn a_move_to_the_best_goes_where_it_is_permitted() {
    for dry in [true, false] {
        let mut scene = Scene::seasoned(1, 3);
        let b = scene.node(B);
        scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress).naming(&b));
        let told = scene.send(&json!({"action": "move", "cluster": "web", "dry_run": dry}));
        scene.ends(&told, "move manual to C", if dry { "A" } else { "C" });
    }
}

/// A preferred node that AWS does not allow the address to go back to is no reason to move it anywhere else.
#[test]
fn why_not_permitted_of_a_failback() {
    let mut scene = Scene::seasoned(1, 3);
    scene.remember(0, A, Some(C), "holder-unhealthy", 600);
    scene.tag_node(C, "priority", "200");
    scene.tag_address(0, "policy", "failback=auto stable=5s");
    let c = scene.node(C);
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress).naming(&c));
    let told = scene.watch(30);
    scene.ends(&told, "blocked not-permitted to C", "A");
}

#[test]
fn why_refused() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    let b = scene.node(B);
    let told = scene.send(&json!({"action": "move", "to": &*b}));
    scene.ends(&told, "blocked refused", "A");
    assert!(!told.report.ok && told.text().contains(&*b) && told.text().contains("refused"), "{}", told.text());
    assert!(!told.calls.iter().any(|call| call.starts_with("associate")), "{:?}", told.calls);
}

#[test]
fn why_takes_the_strongest_reason_first() {
    // Gone before leaving before draining before unhealthy.
    let mut scene = Scene::seasoned(1, 3);
    scene.tag_node(A, "mode", "drain");
    scene.refuse(A);
    let spot = spot_event(&scene.node(A), scene.now_ms());
    let told = scene.send(&spot);
    assert_eq!(scene.says(&told, 0), "move holder-leaving to B");
    let mut scene = Scene::seasoned(1, 3);
    scene.tag_node(A, "mode", "drain");
    scene.service(A, Behaviour::Silent);
    let told = scene.sweep();
    assert_eq!(scene.says(&told, 0), "move holder-draining to B");
    assert_ne!(scene.holder(0), scene.name(&scene.node(C)));
}
