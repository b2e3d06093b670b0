//! The manual commands: what they change, what they refuse, and what they answer.

use eipwatch::embedded::ec2::{Api, InstanceSpec, Place, tags};
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::sim::world::{Behaviour, spot_event};
use serde_json::{Value, json};

use super::{A, B, C, Scene};

/// `status` observes and reports; it writes and moves nothing, whatever there is to do.
#[test]
fn status_writes_and_moves_nothing() {
    let mut scene = Scene::new(1, 2);
    scene.stop_node(A);
    let told = scene.send(&json!({"action": "status"}));
    assert_eq!((told.calls.len(), scene.holder(0).as_str(), told.report.ok), (0, "A", true));
    assert_eq!(scene.says(&told, 0), "move holder-gone to B");
    assert!(told.address(0).moves.is_empty());
}

/// `sweep` with `dry_run` tells the decision as it is, asks EC2 whether it would be allowed, and moves nothing.
#[test]
fn a_dry_sweep_asks_whether_it_may() {
    let mut scene = Scene::pair();
    scene.stop_node(A);
    let dry = json!({"action": "sweep", "dry_run": true});
    let told = scene.expect_of(&dry, "move holder-gone to B", &["ask B: DryRunOperation"], "A");
    assert!(told.report.ok && told.report.dry_run && told.address(0).moves.is_empty());
    // Either may be for good: a dry run is asked once.
    for code in ["UnauthorizedOperation", "AuthFailure"] {
        let mut scene = Scene::pair();
        scene.stop_node(A);
        scene.ec2.faults_mut().push(Rule::error(code).on(Api::AssociateAddress));
        let told = scene.send(&dry);
        scene.ends(&told, "blocked not-permitted to B", "A");
        assert!(!told.report.ok, "{code}: {:?}", told.report);
    }
}

/// `status` and a dry run were to move nothing: where their time is up they have not failed for that.
#[test]
fn what_was_to_move_nothing_has_not_failed_when_its_time_is_up() {
    for order in [json!({"action": "status"}), json!({"action": "sweep", "dry_run": true})] {
        let mut scene = Scene::pair();
        scene.world.time_limit_ms = 3_000;
        let slow = Rule::new(Fault::Latency { min_ms: 4_500, max_ms: 4_500 }).on(Api::DescribeInstanceStatus);
        scene.ec2.faults_mut().push(slow);
        scene.stop_node(A);
        let told = scene.send(&order);
        scene.ends(&told, "move holder-gone to B", "A");
        assert_eq!((told.took_ms(), told.report.error), (3_000, None), "{order}");
    }
}

/// A `sweep` makes one move after another: what is to go to another node once the first has arrived goes there, too.
#[test]
fn a_sweep_goes_on_after_its_first_move() {
    let mut scene = Scene::seasoned(2, 3);
    let (c, second) = (scene.node(C), scene.address(1));
    scene.ec2.faults_mut().extend([
        Rule::new(Fault::Latency { min_ms: 2_000, max_ms: 2_000 }).on(Api::AssociateAddress).naming(&second),
        Rule::error("IncorrectInstanceState").on(Api::AssociateAddress).naming(&c),
    ]);
    scene.stop_node(A);
    let told = scene.send(&json!({"action": "sweep"}));
    let sent: Vec<&str> = told.calls.iter().map(String::as_str).filter(|call| call.starts_with("associate")).collect();
    assert_eq!(sent, ["associate B", "associate C: IncorrectInstanceState", "associate B"]);
    assert_eq!((scene.holder(0), scene.holder(1), told.report.error), ("B".to_owned(), "B".to_owned(), None));
}

/// `move` names its target, works in `manual` mode, and says so of a node that has the address already.
#[test]
fn move_goes_where_it_is_told() {
    let mut scene = Scene::seasoned(1, 3);
    let c = scene.node(C);
    scene.tag_address(0, "mode", "manual");
    let order = json!({"action": "move", "cluster": "web", "to": &*c});
    let told = scene.expect_of(&order, "move manual to C", &["associate C", "tag state 0"], "C");
    assert!(told.report.ok && told.address(0).mode == "manual");
    let told = scene.send(&order);
    assert_eq!((told.calls.len(), told.report.ok, scene.holder(0).as_str()), (0, true, "C"));
    assert!(told.text().contains("already"), "{}", told.text());
}

/// `move` with `dry_run` says what it would do.
#[test]
fn a_dry_move_moves_nothing() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    let order = json!({"action": "move", "to": &*b, "dry_run": true});
    let told = scene.expect_of(&order, "move manual to B", &["ask B: DryRunOperation"], "A");
    assert!(told.report.ok && told.address(0).moves.is_empty());
}

/// What a `move` did is not undone by its own invocation, however long that goes on: the next sweep decides anew.
#[test]
fn what_a_move_did_is_not_undone_in_the_same_breath() {
    let mut scene = Scene::pair();
    // The move is made after 1 s, and the sweep goes on.
    let slow = Rule::new(Fault::Latency { min_ms: 4_500, max_ms: 4_500 }).on(Api::DescribeInstanceStatus);
    scene.ec2.faults_mut().push(slow);
    scene.after(2_000, |scene| scene.refuse(B));
    let b = scene.node(B);
    let told = scene.send(&json!({"action": "move", "to": &*b}));
    scene.ends(&told, "move holder-unhealthy to A", "B");
    assert_eq!((scene.been(), told.report.error), (vec![Some(B)], None));
    scene.sweep();
    assert_eq!(scene.been(), [Some(B), Some(A)]);
}

/// A `move` whose address ends elsewhere than asked has failed, whoever won: it says where the address is, and by whose doing.
#[test]
fn a_move_that_lost_the_race_says_so() {
    let slow = |api| Rule::new(Fault::Latency { min_ms: 500, max_ms: 500 }).on(api);
    let begin = || {
        let mut scene = Scene::seasoned(1, 3);
        scene.ec2.faults_mut().extend([slow(Api::AssociateAddress), slow(Api::DescribeAddresses)]);
        scene
    };
    let order = |scene: &Scene| json!({"action": "move", "to": &*scene.node(B)});
    let mut alone = begin();
    let told = alone.send(&order(&alone));
    assert!(told.report.ok && alone.holder(0) == "B", "{:?}", told.report.error);
    let moved_ms = alone.world.moves(&alone.address(0)).last().expect("moved").0;

    let mut scene = begin();
    scene.at(moved_ms + 1, |world| {
        let (ip, c, now_ms) = (world.address(0), world.node(2), world.now().as_millis());
        world.ec2.move_by_hand(&ip, Place::Instance(&c), now_ms);
    });
    let told = scene.send(&order(&scene));
    scene.ends(&told, "stay moved-elsewhere", "C");
    let error = told.report.error.as_deref().unwrap_or_default();
    let (ip, b, c) = (scene.public_ip(0), scene.node(B), scene.node(C));
    let expected =
        format!("web: {ip} was NOT moved to web-2 ({b}), but is held by web-3 ({c}). Another invocation or somebody");
    assert!(!told.report.ok && error.starts_with(&expected), "{error}");
}

/// A `move` that was made, and then undone by somebody, says both.
#[test]
fn a_move_that_is_undone_meanwhile_says_that_it_was_made() {
    let mut scene = Scene::seasoned(2, 3);
    // The other address sits on an interface attached to nothing: the sweep goes on for 10 s, and reads again at its end.
    scene.loose(1);
    scene.after(3_000, |scene| scene.by_hand(0, Some(C)));
    let (ip, b, c) = (scene.public_ip(0), scene.node(B), scene.node(C));
    let told = scene.send(&json!({"action": "move", "address": ip, "to": &*b}));
    assert_eq!(scene.been(), [Some(B), Some(C)]);
    let expected = format!(
        "web: {ip} was moved to web-2 ({b}), but is held by web-3 ({c}). Another invocation or somebody moved it meanwhile. Type it again if it should still be moved."
    );
    assert_eq!(told.report.error, Some(expected));
}

/// A `move` without `to` is away from who held it: who moves it meanwhile has done that, and is not undone.
#[test]
fn a_move_to_the_best_candidate_undoes_nobodys_move() {
    let mut scene = Scene::seasoned(1, 3);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 1_000, max_ms: 1_000 }).on(Api::DescribeAddresses));
    // The first read is answered after 1 s; the one before the move is asked for when two probes have passed, and shows this.
    let at_ms = scene.now_ms() + 1_100;
    scene.at(at_ms, |world| {
        let (ip, c, now_ms) = (world.address(0), world.node(2), world.now().as_millis());
        world.ec2.move_by_hand(&ip, Place::Instance(&c), now_ms);
    });
    let told = scene.send(&json!({"action": "move"}));
    scene.ends(&told, "stay moved-elsewhere", "C");
    assert!(!told.calls.iter().any(|call| call.starts_with("associate")), "{:?}", told.calls);
    let error = told.report.error.as_deref().unwrap_or_default();
    assert!(!told.report.ok && error.contains("NOT moved") && error.contains("web-3"), "{error}");
}

/// A command that finds no EC2 says that it was not carried out, in its own words, and that nobody goes on trying.
#[test]
fn a_command_that_finds_no_ec2_says_what_it_did_not_do() {
    for (order, expected) in [
        (json!({"action": "pause", "cluster": "web"}), "web was NOT paused"),
        (json!({"action": "resume", "cluster": "web"}), "web was NOT resumed"),
        (json!({"action": "drain", "node": "i-1"}), "i-1 was NOT drained"),
        (json!({"action": "undrain", "node": "i-1"}), "i-1 was NOT undrained"),
        (json!({"action": "move", "cluster": "web", "to": "i-1"}), "The address of web was NOT moved to i-1"),
        (json!({"action": "sweep", "cluster": "web"}), "web was NOT swept"),
        (json!({"action": "status"}), "Nothing is known of any cluster"),
    ] {
        for code in ["InternalError", "UnauthorizedOperation"] {
            let mut scene = Scene::pair();
            scene.world.time_limit_ms = 20_000;
            scene.ec2.faults_mut().push(Rule::error(code).on(Api::DescribeAddresses));
            let told = scene.send(&order);
            let error = told.report.error.as_deref().unwrap_or_default();
            assert!(!told.report.ok && !told.report.observed, "{order}");
            assert!(error.contains(&format!(". {expected}; nothing was changed. ")), "{error}");
            assert!(
                error.contains(code) && error.contains("ype it again") && !error.contains("tries again"),
                "{error}"
            );
            assert_eq!((told.calls.len(), scene.holder(0).as_str()), (0, "A"));
        }
    }
}

/// A mode that a command could not write before the time was up was not set: that is a failure, not a problem.
#[test]
fn a_pause_that_was_not_written_in_time_has_failed() {
    let mut scene = Scene::pair();
    scene.world.time_limit_ms = 10_000;
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 30_000, max_ms: 30_000 }).on(Api::CreateTags));
    let told = scene.send(&json!({"action": "pause", "cluster": "web"}));
    let error = told.report.error.as_deref().unwrap_or_default();
    assert!(!told.report.ok && error.starts_with("web was NOT paused, as far as is known: "), "{error}");
    assert!(error.contains("may be written: it had no answer when the invocation's time was up"), "{error}");
    assert!(error.ends_with(" Nothing was moved."), "nothing else follows from a pause: {error}");
    // With several addresses some may have got it.
    let mut scene = Scene::seasoned(2, 2);
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::CreateTags));
    let told = scene.send(&json!({"action": "pause", "cluster": "web"}));
    let error = told.report.error.as_deref().unwrap_or_default();
    assert!(!told.report.ok && error.starts_with("web was NOT paused as a whole: "), "{error}");
}

/// A command after which EC2 may not be read any more says what it did, and what not.
#[test]
fn a_command_that_loses_sight_of_ec2_says_what_it_did() {
    let unread = |from_ms| Rule::error("UnauthorizedOperation").on(Api::DescribeAddresses).between(from_ms, u64::MAX);
    let slow = |api, ms| Rule::new(Fault::Latency { min_ms: ms, max_ms: ms }).on(api);
    let begin = |addresses| {
        let mut scene = Scene::seasoned(addresses, 2);
        let from_ms = scene.epoch_ms() + 300;
        scene.ec2.faults_mut().push(unread(from_ms));
        scene
    };
    let error = |scene: &mut Scene, order: Value| {
        let told = scene.send(&order);
        assert!(!told.report.ok && told.report.observed, "{order}");
        told.report.error.unwrap_or_default()
    };
    // The address is read again before it is moved.
    let mut scene = begin(1);
    scene.ec2.faults_mut().push(slow(Api::DescribeInstances, 400));
    let told = error(&mut scene, json!({"action": "move"}));
    assert!(told.contains("The address of web was NOT moved. Check the role's"), "{told}");
    // A mode that was written, and one that was not.
    for (code, expected) in
        [(None, "The mode is written; "), (Some("UnauthorizedOperation"), "web was NOT paused: eipwatch:mode on")]
    {
        let mut scene = begin(1);
        scene.refuse(A);
        scene.ec2.faults_mut().extend(code.map(|code| Rule::error(code).on(Api::CreateTags)));
        let told = error(&mut scene, json!({"action": "pause", "cluster": "web"}));
        assert!(told.contains(expected), "{told}");
    }
    // A move that was made, while another went on.
    let mut scene = Scene::new(2, 2);
    let (b, from_ms) = (scene.node(B), scene.epoch_ms() + 2_000);
    scene.tag_address(0, "policy", "rise=3 fall=3");
    scene.refuse(A);
    let other = scene.address(1);
    scene.ec2.faults_mut().extend([unread(from_ms), slow(Api::AssociateAddress, 3_000).naming(&other)]);
    let ip = scene.public_ip(0);
    let told = error(&mut scene, json!({"action": "move", "address": ip, "to": &*b}));
    assert!(told.contains("The move was made before that."), "{told}");
}

/// A `move` that was sent when EC2 could not be read any more may have been made: it says so, once, and not that it was not made.
#[test]
fn a_move_that_is_lost_sight_of_may_have_been_made() {
    for code in ["UnauthorizedOperation", "InternalError"] {
        let mut scene = Scene::pair();
        scene.world.time_limit_ms = 20_000;
        let (b, from_ms) = (scene.node(B), scene.epoch_ms() + 1_000);
        scene.ec2.faults_mut().extend([
            Rule::new(Fault::Latency { min_ms: 3_000, max_ms: 3_000 }).on(Api::AssociateAddress),
            Rule::error(code).on(Api::DescribeAddresses).between(from_ms, u64::MAX),
        ]);
        let told = scene.send(&json!({"action": "move", "to": &*b}));
        let error = told.report.error.unwrap_or_default();
        let expected = ". The move was sent, and may have been made: look before you type it again.";
        assert!(error.contains(code) && error.ends_with(expected), "{error}");
        assert_eq!(scene.holder(0), "B", "{code}: it was");
    }
}

/// A `move` whose address leaves the cluster meanwhile has not been carried out.
#[test]
fn a_move_of_an_address_that_leaves_the_cluster_meanwhile_has_failed() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 1_000, max_ms: 1_000 }).on(Api::DescribeAddresses));
    scene.after(1_100, |scene| {
        let address = scene.address(0);
        scene.world.untag(&address, "cluster");
    });
    let told = scene.send(&json!({"action": "move", "cluster": "web"}));
    let error = told.report.error.as_deref().unwrap_or_default();
    assert!(!told.report.ok && error.contains("is no longer in the cluster"), "{error}");
    scene.unmoved();
}

/// An instance outside the cluster is left alone by every sweep, but a command takes the address back from it.
#[test]
fn move_takes_an_address_back_from_an_outside_instance() {
    let mut scene = Scene::pair();
    let stranger = scene.ec2.add_instance(InstanceSpec::default());
    let (ip, now_ms) = (scene.address(0), scene.epoch_ms());
    scene.ec2.move_by_hand(&ip, Place::Instance(&stranger), now_ms);
    scene.expect("stay outsider", &[], &stranger);
    let b = scene.node(B);
    let order = json!({"action": "move", "to": b.as_ref()});
    let told = scene.expect_of(&order, "move manual to B", &["associate B", "tag state 0"], "B");
    assert_eq!(told.address(0).moves[0].from.as_ref().map(|id| id.as_str()), Some(stranger.as_ref()));
    scene.pass(40_000);
    scene.expect("stay healthy", &[], "B");
}

/// `move` to what is no candidate is refused, naming node and reason: each objection in turn.
#[test]
fn move_is_refused_with_the_reason() {
    type Spoil = fn(&mut Scene);
    let cases: [(&str, Spoil); 4] = [
        ("drain", |scene| scene.tag_node(B, "mode", "drain")),
        ("unhealthy", |scene| scene.refuse(B)),
        ("stopping", |scene| scene.stop_node(B)),
        ("heartbeat none yet", |scene| scene.tag_node(B, "check", "heartbeat")),
    ];
    for (reason, spoil) in cases {
        let mut scene = Scene::pair();
        spoil(&mut scene);
        let b = scene.node(B);
        let told = scene.send(&json!({"action": "move", "to": &*b}));
        assert_eq!((scene.says(&told, 0), scene.holder(0)), ("blocked refused".to_owned(), "A".to_owned()), "{reason}");
        assert!(!told.report.ok && told.report.error.is_some(), "{reason}");
        let reason = if reason.starts_with("heartbeat") { "unknown" } else { reason };
        assert!(told.text().contains(&*b) && told.text().contains(reason), "{reason}: {}", told.text());
    }
    let mut scene = Scene::pair();
    let told = scene.send(&json!({"action": "move", "to": "i-0123456789abcdef0"}));
    assert_eq!(scene.says(&told, 0), "blocked refused");
    assert!(told.text().contains("i-0123456789abcdef0"), "{}", told.text());
}

/// `move` without `to` is refused where there is no candidate.
#[test]
fn move_without_a_candidate_is_refused() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    let told = scene.send(&json!({"action": "move"}));
    assert_eq!(
        (scene.says(&told, 0), scene.holder(0), told.report.ok),
        ("blocked refused".to_owned(), "A".to_owned(), false)
    );
}

/// `force` moves to what is no candidate, sets the address's mode to `manual` first, and says so; the next sweep leaves it there.
#[test]
fn force_moves_and_sets_the_mode_to_manual() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    scene.sweep();
    let b = scene.node(B);
    let order = json!({"action": "move", "to": &*b, "force": true});
    let told = scene.expect_of(&order, "move manual to B", &["tag mode 0", "associate B", "tag state 0"], "B");
    assert_eq!(told.calls[0], "tag mode 0", "before the move");
    assert!(told.report.ok && told.text().contains("manual"), "{}", told.text());
    assert_eq!((scene.address_tag(0, "mode"), told.address(0).mode.as_str()), ("manual".to_owned(), "manual"));
    scene.pass(40_000);
    let told = scene.watch(30);
    assert_eq!(
        (scene.says(&told, 0), scene.holder(0)),
        ("stay manual-mode (move holder-unhealthy to A)".to_owned(), "B".to_owned())
    );
}

/// `force` to a node that is a candidate leaves the mode alone; and it never displaces another Elastic IP.
#[test]
fn force_writes_the_mode_once() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    let b = scene.node(B);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 1_200, max_ms: 1_200 }).on(Api::CreateTags));
    let told = scene.send(&json!({"action": "move", "to": &*b, "force": true}));
    assert_eq!((told.calls.iter().filter(|call| *call == "tag mode 0").count(), scene.holder(0).as_str()), (1, "B"));
}

#[test]
fn force_sets_no_mode_where_it_is_not_needed_and_displaces_nobody() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    let order = json!({"action": "move", "to": &*b, "force": true});
    scene.expect_of(&order, "move manual to B", &["associate B", "tag state 0"], "B");
    assert_eq!(scene.address_tag(0, "mode"), "");
    let mut scene = Scene::pair();
    scene.another_address();
    scene.by_hand(1, Some(B));
    let told = scene.send(&order);
    scene.ends(&told, "blocked no-free-private-address", "A");
    assert_eq!(scene.ec2.displacements().count(), 0);
}

/// `force` on an address that is paused for a while sets the mode without an end: the end of the pause would undo it.
#[test]
fn force_outlasts_a_pause() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    scene.send(&json!({"action": "pause", "for": "10m"}));
    let b = scene.node(B);
    let told = scene.send(&json!({"action": "move", "to": &*b, "force": true}));
    scene.ends(&told, "move manual to B", "B");
    assert_eq!(scene.address_tag(0, "mode"), "manual");
    scene.pass(700_000);
    scene.sweep();
    assert_eq!(scene.holder(0), "B");
}

/// A mode that cannot be read is taken as `manual`; `pause` and `force` set it all the same, and there is no problem any more.
#[test]
fn a_mode_that_cannot_be_read_is_set() {
    let b = Scene::pair().node(B);
    for payload in [json!({"action": "pause"}), json!({"action": "move", "to": &*b, "force": true})] {
        let mut scene = Scene::pair();
        scene.refuse(B);
        scene.tag_address(0, "mode", "manuel");
        let told = scene.sweep();
        told.problem("manuel");
        let told = scene.send(&payload);
        assert!(told.report.ok, "{:?}", told.report.error);
        assert_eq!(scene.address_tag(0, "mode"), "manual", "{payload}");
        let problems = scene.sweep().problems();
        assert!(!problems.contains("manuel"), "{problems}");
    }
}

/// `force` that has written the mode and then could not be sent says that the address does not fail over any more.
#[test]
fn force_that_comes_no_further_than_the_mode_says_so() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    let b = scene.node(B);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 1_200, max_ms: 1_200 }).on(Api::CreateTags));
    let from_ms = scene.epoch_ms() + 1_500;
    let unread = Rule::error("InternalError").on(Api::DescribeAddresses);
    scene.ec2.faults_mut().push(unread.between(from_ms, u64::MAX));
    let told = scene.send(&json!({"action": "move", "to": &*b, "force": true}));
    let error = told.report.error.unwrap_or_default();
    assert!(error.contains("NOT moved") && error.contains("does not fail over by itself"), "{error}");
    assert_eq!((scene.holder(0), scene.address_tag(0, "mode")), ("A".to_owned(), "manual".to_owned()));
}

/// `force` whose mode tag had no answer in time says what follows if it is written; one that waits to be written again is not.
#[test]
fn force_whose_mode_may_be_written_says_what_follows() {
    let unanswered = Rule::new(Fault::Latency { min_ms: 30_000, max_ms: 30_000 });
    for (fault, expected) in [
        (unanswered, " If it is written, the address does not fail over by itself until `eipwatch resume`."),
        (Rule::error("InternalError"), " Nothing was moved."),
    ] {
        let mut scene = Scene::pair();
        scene.world.time_limit_ms = 10_000;
        scene.refuse(B);
        scene.ec2.faults_mut().push(fault.on(Api::CreateTags));
        let b = scene.node(B);
        let told = scene.send(&json!({"action": "move", "to": &*b, "force": true}));
        let error = told.report.error.unwrap_or_default();
        assert!(error.contains("the invocation's time was up") && error.ends_with(expected), "{error}");
        scene.unmoved();
    }
}

/// Only what `force` itself has set to `manual` is told with a move that failed: not where it had no need to, nor what was so before.
#[test]
fn a_mode_that_force_has_not_set_is_not_told_with_a_failed_move() {
    for (mode, force, manual) in [("auto", true, false), ("manual", false, false), ("auto", true, true)] {
        let mut scene = Scene::pair();
        scene.world.settings.manual = manual;
        scene.tag_address(0, "mode", mode);
        scene.ec2.faults_mut().push(Rule::error("IncorrectInstanceState").on(Api::AssociateAddress));
        let b = scene.node(B);
        let told = scene.send(&json!({"action": "move", "to": &*b, "force": force}));
        let error = told.report.error.unwrap_or_default();
        assert!(error.contains("was NOT moved to web-2") && error.contains("IncorrectInstanceState"), "{error}");
        assert!(!error.contains("does not fail over"), "{mode} {force} {manual}: {error}");
    }
}

/// `pause` lets nothing move while its own tag is being written, not even off a holder that is gone.
#[test]
fn pause_moves_nothing_before_it_is_written() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 2_000, max_ms: 2_000 }).on(Api::CreateTags));
    scene.stop_node(A);
    let told = scene.send(&json!({"action": "pause", "cluster": "web"}));
    assert!(told.report.ok);
    assert_eq!((scene.been(), scene.address_tag(0, "mode")), (vec![], "manual".to_owned()));
}

/// `move` without `to` is tried once: where EC2 refuses it, no other node is tried, not even if the holder fails.
#[test]
fn a_move_that_ec2_refuses_is_not_tried_elsewhere() {
    for holder_fails in [false, true] {
        let mut scene = Scene::seasoned(1, 3);
        if holder_fails {
            scene.refuse(A);
        }
        scene.ec2.faults_mut().push(Rule::error("IncorrectInstanceState").on(Api::AssociateAddress));
        let told = scene.send(&json!({"action": "move", "cluster": "web"}));
        let sent: Vec<_> = told.calls.iter().filter(|call| call.starts_with("associate")).collect();
        assert_eq!(
            (sent.as_slice(), told.report.ok),
            ([&"associate B: IncorrectInstanceState".to_owned()].as_slice(), false)
        );
    }
}

/// `move` of an address on an interface of which nobody may ask what it is is refused, at once.
#[test]
fn a_move_off_an_interface_that_may_not_be_read_is_refused() {
    let mut scene = Scene::pair();
    let nat = scene.ec2.nat_gateway_interface();
    scene.onto(0, &nat);
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::DescribeNetworkInterfaces));
    let told = scene.send(&json!({"action": "move"}));
    scene.ends(&told, "blocked refused", &nat);
    assert!(!told.report.ok && told.took_ms() < 10_000, "{:?}, {} ms", told.report.error, told.took_ms());
}

/// `move` soon after another move does not take an old reading for where the address is.
#[test]
fn a_move_waits_for_an_old_reading_to_pass() {
    for named in [true, false] {
        let mut scene = Scene::pair();
        scene.pass(10_000);
        scene.by_hand(0, Some(B));
        scene.remember(0, B, Some(A), "holder-unhealthy", 0);
        scene.pass(2_000);
        let now_ms = scene.epoch_ms();
        let stale = Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 6_000 });
        scene.ec2.faults_mut().push(stale.between(now_ms, now_ms + 4_000));
        let a = scene.node(A);
        let order = if named { json!({"action": "move", "to": &*a}) } else { json!({"action": "move"}) };
        let told = scene.send(&order);
        scene.ends(&told, "move manual to A", "A");
        assert!(told.report.ok && told.took_ms() < 12_000, "{:?}, {} ms", told.report.error, told.took_ms());
    }
}

/// `force` whose mode tag cannot be written moves nothing: the next sweep would undo it.
#[test]
fn force_moves_nothing_when_the_mode_cannot_be_written() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    scene.sweep();
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::CreateTags));
    let b = scene.node(B);
    let told = scene.send(&json!({"action": "move", "to": &*b, "force": true}));
    assert_eq!((scene.holder(0).as_str(), told.report.ok), ("A", false));
    assert!(told.report.error.as_deref().unwrap_or("").contains("UnauthorizedOperation"), "{:?}", told.report.error);
}

/// `drain` sets the node's mode and moves its address; `undrain` makes it a candidate again and moves nothing back.
#[test]
fn drain_and_undrain() {
    let mut scene = Scene::pair();
    let a = scene.node(A);
    let drain = json!({"action": "drain", "node": &*a});
    scene.expect_of(&drain, "move holder-draining to B", &["tag mode A", "associate B", "tag state 0"], "B");
    assert_eq!(scene.node_tag(A, "mode"), "drain");
    let told = scene.send(&drain);
    assert_eq!((told.calls.len(), told.node(A).mode.as_deref()), (0, Some("drain")), "nothing is left to be done");
    scene.pass(40_000);
    let undrain = json!({"action": "undrain", "node": &*a});
    let told = scene.expect_of(&undrain, "stay healthy", &["tag mode A"], "B");
    assert!(told.node(A).candidate && told.node(A).mode.as_deref() == Some("active"));
}

/// An undrain is over for a node that is started anew before the sweep ends; the sweep ends all the same.
#[test]
fn undrain_of_a_node_that_is_started_anew_meanwhile_ends() {
    let mut scene = Scene::pair();
    let spot = spot_event(&scene.node(B), scene.now_ms());
    scene.send(&spot);
    scene.pass(5_000);
    // Its holder is an interface attached to nothing: the sweep goes on for 10 s, and reads the nodes again at its end.
    scene.loose(0);
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 200, max_ms: 200 }));
    // It is unhealthy until it is shown in its new life, and then it is well.
    scene.stop_and_start_within(500);
    scene.world.boot_ms = 6_500;
    scene.after(2_000, |scene| scene.stop_node(B));
    scene.after(4_000, |scene| scene.start_node(B));
    let b = scene.node(B);
    let told = scene.send(&json!({"action": "undrain", "node": &*b}));
    scene.ends(&told, "move holder-gone to A", "A");
    assert!(told.took_ms() < 15_000, "{} ms", told.took_ms());
    assert_eq!(told.node(B).leaving, None);
}

/// A drained holder keeps the address until a candidate can take it.
#[test]
fn drain_waits_for_a_candidate() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    let a = scene.node(A);
    let told = scene.send(&json!({"action": "drain", "node": &*a}));
    scene.ends(&told, "stay no-candidate", "A");
    scene.serve(B);
    let told = scene.sweep();
    scene.ends(&told, "move holder-draining to B", "B");
}

/// A drain whose tag cannot be written fails and moves nothing.
#[test]
fn drain_that_cannot_be_written_fails() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::CreateTags));
    let a = scene.node(A);
    let told = scene.send(&json!({"action": "drain", "node": &*a}));
    assert_eq!((told.report.ok, scene.holder(0).as_str()), (false, "A"));
    assert!(told.report.error.as_deref().unwrap_or("").contains("eipwatch:mode"), "{:?}", told.report.error);
}

/// `pause` sets the mode of all addresses of the cluster, `resume` sets it back, then they sweep.
#[test]
fn pause_and_resume() {
    let mut scene = Scene::seasoned(2, 2);
    scene.refuse(A);
    let told = scene.send(&json!({"action": "pause", "cluster": "web"}));
    assert_eq!(scene.says(&told, 0), "stay manual-mode (move holder-unhealthy to B)");
    for n in 0..2 {
        assert_eq!((scene.address_tag(n, "mode"), scene.holder(n)), ("manual".to_owned(), "A".to_owned()));
    }
    let told = scene.send(&json!({"action": "resume"}));
    assert_eq!(scene.says(&told, 0), "move holder-unhealthy to B");
    for n in 0..2 {
        assert_eq!((scene.address_tag(n, "mode"), scene.holder(n)), ("auto".to_owned(), "B".to_owned()));
    }
}

/// `pause` with `for` ends by itself, in a watch that is running, too.
#[test]
fn pause_for_a_while_ends_by_itself() {
    let mut scene = Scene::pair();
    scene.send(&json!({"action": "pause", "for": "30s"}));
    assert_eq!(scene.address_tag(0, "mode"), format!("manual until={}", scene.time_in(30)));
    scene.refuse(A);
    let told = scene.watch(55);
    scene.ends(&told, "move holder-unhealthy to B", "B");
    let moved_ms = scene.moved_after_ms(&told);
    assert!((29_000..=31_000).contains(&moved_ms), "{moved_ms} ms");
    assert_eq!(told.address(0).mode, "auto");
}

/// A pause of several addresses: until all are paused, none is moved.
#[test]
fn a_pause_of_several_addresses_moves_none_meanwhile() {
    let mut scene = Scene::seasoned(2, 2);
    let other = scene.address(1);
    let slow = Rule::new(Fault::Latency { min_ms: 2_900, max_ms: 2_900 }).on(Api::CreateTags).naming(&other);
    scene.ec2.faults_mut().push(slow);
    scene.stop_node(A);
    let told = scene.send(&json!({"action": "pause"}));
    assert!(told.report.ok, "{:?}", told.report.error);
    for n in 0..2 {
        assert_eq!(scene.address_tag(n, "mode"), "manual");
        let moves = scene.world.moves(&scene.address(n));
        assert!(moves.iter().all(|(_, to)| to.is_none()), "{moves:?}");
    }
}

/// A pause that ends is over at its end, not with the next reading.
#[test]
fn a_pause_ends_on_time() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "ec2");
    scene.stop_node(A);
    let until = scene.time_in(12);
    scene.tag_address(0, "mode", &format!("manual until={until}"));
    let told = scene.watch(30);
    scene.ends(&told, "move holder-gone to B", "B");
    assert_eq!(scene.moved_after_ms(&told), 12_000);
}

/// A pause that is made longer in its last moments goes on: whether it is over is read after its end.
#[test]
fn a_pause_that_is_made_longer_in_time_goes_on() {
    let mut scene = Scene::pair();
    scene.stop_node(A);
    let (until, later) = (scene.time_in(11), scene.time_in(60));
    scene.tag_address(0, "mode", &format!("manual until={until}"));
    // The last reading before the end is asked for after 10 s.
    scene.after(10_900, move |scene| scene.tag_address(0, "mode", &format!("manual until={later}")));
    scene.watch(30);
    scene.unmoved();
}

/// Names that are missing are asked for, with what there is.
#[test]
fn commands_list_what_there_is_when_a_name_is_missing_or_wrong() {
    let mut scene = Scene::seasoned(2, 2);
    let (first, second) = (scene.public_ip(0), scene.public_ip(1));
    let text = scene.bad_request(&json!({"action": "move"}));
    assert!(text.contains("`address`") && text.contains(&first) && text.contains(&second), "{text}");
    let text = scene.bad_request(&json!({"action": "move", "address": "203.0.113.200"}));
    assert!(text.contains(&first), "{text}");
    let text = scene.bad_request(&json!({"action": "move", "cluster": "nope"}));
    assert!(text.contains("`cluster`") && text.contains("web"), "{text}");
    let text = scene.bad_request(&json!({"action": "drain", "node": "i-0123456789abcdef0"}));
    assert!(text.contains("`node`") && text.contains(&*scene.node(A)), "{text}");
    assert!(text.contains(r#"{"action":"drain","#), "{text}");
    let text = scene.bad_request(&json!({"action": "undrain", "node": "i-0123456789abcdef0"}));
    assert!(text.contains(r#"{"action":"undrain","#), "{text}");
    let mut nothing = Scene { world: eipwatch::sim::world::World::new(1) };
    let text = nothing.bad_request(&json!({"action": "pause"}));
    assert!(text.contains("there is no cluster: no Elastic IP and no instance carries the cluster tag"), "{text}");
    // With a second cluster, one has to be named; the address names it, too.
    scene.ec2.add_address(tags([("eipwatch:cluster", "db")]));
    scene.ec2.add_instance(InstanceSpec { tags: tags([("eipwatch:cluster", "db")]), ..InstanceSpec::default() });
    for action in ["move", "pause", "resume"] {
        let text = scene.bad_request(&json!({"action": action}));
        assert!(text.contains("db, web"), "{text}");
    }
    let told = scene.send(&json!({"action": "move", "address": second}));
    assert!(told.report.ok && scene.holder(1) == "B" && scene.holder(0) == "A");
    assert_eq!(scene.changes().iter().filter(|call| call.starts_with("tag mode")).count(), 0);
}

/// `EIPWATCH_MODE=manual` overrides every cluster; commands work.
#[test]
fn the_environments_manual_mode_overrides_every_cluster() {
    let mut scene = Scene::pair();
    scene.world.settings.manual = true;
    scene.stop_node(A);
    let told = scene.expect("stay manual-mode (move holder-gone to B)", &["tag health A"], "A");
    assert_eq!(told.address(0).mode, "manual");
    let told = scene.send(&json!({"action": "move"}));
    scene.ends(&told, "move manual to B", "B");
}

/// A command on a cluster of another shard is refused, and nothing is written: it must not look as if it had been done.
#[test]
fn a_command_on_a_cluster_of_another_shard_is_refused() {
    use eipwatch::core::event::Shard;
    use eipwatch::core::model::ClusterName;
    let mut scene = Scene::pair();
    let mut shards = (0..4).filter_map(|index| Shard::parse(&format!("{index}/4")).ok());
    let other = shards.find(|shard| !shard.covers(&ClusterName::from("web")));
    scene.world.settings.shard = other;
    let a = scene.node(A);
    for payload in [
        json!({"action": "move", "cluster": "web"}),
        json!({"action": "drain", "node": &*a}),
        json!({"action": "pause", "cluster": "web"}),
    ] {
        let text = scene.bad_request(&payload);
        assert!(text.contains("Nothing was changed"), "{text}");
    }
    assert_eq!(
        (scene.node_tag(A, "mode"), scene.address_tag(0, "mode"), scene.holder(0).as_str()),
        (String::new(), String::new(), "A")
    );
}

/// A manual command always answers, with `ok: false` and the error in it.
#[test]
fn a_command_that_fails_answers_with_the_error() {
    let mut scene = Scene::pair();
    scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress));
    let told = scene.send(&json!({"action": "move"}));
    assert_eq!((told.report.ok, told.report.observed, scene.holder(0).as_str()), (false, true, "A"));
    assert!(told.report.error.as_deref().unwrap_or("").contains("UnauthorizedOperation"), "{:?}", told.report.error);
    assert!(!told.address(0).moves[0].ok);
}

/// The answer: `ready`, `candidate` (false for the holder), `since`, evidence, names and zones.
#[test]
fn the_answer_says_what_a_person_asks() {
    let mut scene = Scene::seasoned(1, 3);
    scene.service(C, Behaviour::Status(503));
    let told = scene.send(&json!({"action": "status"}));
    assert!(told.cluster().ready);
    let candidates: Vec<bool> = told.cluster().nodes.iter().map(|node| node.candidate).collect();
    assert_eq!(candidates, [false, true, false]);
    let node = told.node(B);
    assert_eq!(
        (node.name.as_deref(), node.az.as_deref(), node.mode.as_deref(), node.priority, node.leaving.as_deref()),
        (Some("web-2"), Some("eu-west-1b"), Some("active"), 100, None)
    );
    assert_eq!(node.since.as_deref(), Some("2026-11-22T07:30:00Z"), "remembered by its tag");
    assert_eq!(told.evidence(C, "http:8080/health").0, Some(false));
    assert!(told.evidence(C, "http:8080/health").1.starts_with("503 in "), "{:?}", told.evidence(C, "http"));
    let json = serde_json::to_value(&told.report).expect("json");
    assert_eq!(json["trigger"], "manual");
    for field in ["ok", "error", "dry_run", "sweeps", "problems"] {
        assert!(json.get(field).is_some(), "{field}");
    }
    assert_eq!(json["error"], serde_json::Value::Null);
    assert_eq!(json["clusters"][0]["addresses"][0]["holder"], *scene.node(A));
    assert_eq!(json["clusters"][0]["nodes"][2]["verdict"], "unhealthy");
}

/// A pause that follows a resume is respected by the resume's own invocation too, if that goes on: what it wrote is not for ever.
#[test]
fn a_pause_after_a_resume_holds_back_what_the_resume_still_looks_into() {
    let mut scene = Scene::pair();
    scene.send(&json!({"action": "pause"}));
    // Its holder is an interface attached to nothing: the sweep goes on for 10 s.
    scene.loose(0);
    let now_ms = scene.now_ms();
    scene.invoke(&json!({"action": "resume"}), now_ms);
    scene.invoke(&json!({"action": "pause"}), now_ms + 2_000);
    scene.run();
    assert_eq!(scene.address_tag(0, "mode"), "manual");
    assert!(!scene.changes().iter().any(|call| call.starts_with("associate")), "{:?}", scene.changes());
}

/// A move to the best candidate that could not be decided in time has failed: what holds the address was not known.
#[test]
fn a_move_that_could_not_be_decided_in_time_has_failed() {
    let mut scene = Scene::pair();
    scene.world.time_limit_ms = 9_000;
    scene.loose(0);
    scene.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeNetworkInterfaces));
    let told = scene.send(&json!({"action": "move", "cluster": "web"}));
    let error = told.report.error.as_deref().unwrap_or_default();
    assert!(!told.report.ok && error.starts_with("web: NOT moved: the invocation's time was up before "), "{error}");
    assert!(error.ends_with("Type it again if it should still be moved."), "{error}");
}

/// A dry run asks for each address whether it may be moved, and tells which may not.
#[test]
fn a_dry_run_tells_for_which_address_the_move_is_not_permitted() {
    for barred in 0..2 {
        let mut scene = Scene::seasoned(2, 3);
        let (first, address) = (scene.address(0), scene.address(barred));
        let slow = Rule::new(Fault::Latency { min_ms: 500, max_ms: 500 }).on(Api::AssociateAddress);
        scene.ec2.faults_mut().push(slow.naming(&first));
        scene.ec2.faults_mut().push(Rule::error("UnauthorizedOperation").on(Api::AssociateAddress).naming(&address));
        scene.stop_node(A);
        let told = scene.send(&json!({"action": "sweep", "cluster": "web", "dry_run": true}));
        let blocked = |n: usize| scene.says(&told, n).starts_with("blocked not-permitted");
        assert_eq!((blocked(0), blocked(1)), (barred == 0, barred == 1), "{barred}");
        // Of that which may not go to one node it is asked whether it may go to the other.
        assert!((3..=4).contains(&told.calls.len()), "{:?}", told.calls);
    }
}

/// A command that EC2 only pretends to carry out is tried to its end once, and has failed.
#[test]
fn a_move_that_ec2_only_pretends_to_make_is_sent_once() {
    let mut scene = Scene::pair();
    let b = scene.node(B);
    scene.ec2.faults_mut().push(Rule::new(Fault::Hollow).on(Api::AssociateAddress));
    let told = scene.send(&json!({"action": "move", "cluster": "web", "to": &*b}));
    let error = told.report.error.as_deref().unwrap_or_default();
    assert!(error.contains("was NOT moved to web-2") && !error.contains("sent again"), "{error}");
    assert_eq!(told.calls.iter().filter(|call| call.starts_with("associate")).count(), 1, "{:?}", told.calls);
}
