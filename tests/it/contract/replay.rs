//! The log is complete enough to be fed back: the same watch, given what its own log recorded, decides the same.

use eipwatch::core::log::Record;
use eipwatch::embedded::ec2::Api;
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::replay::again::again;
use eipwatch::sim::world::{Behaviour, spot_event};

use super::{A, B, C, Scene};

/// What was decided and moved, and when.
fn decisions(log: &[Record]) -> Vec<String> {
    let of = |record: &Record| match record {
        Record::Decision { at, address, decision, .. } => {
            Some(format!("{} {address} {:?} {} {:?}", at.as_millis(), decision.kind, decision.why, decision.to))
        }
        Record::Verdict { at, node, to, .. } => Some(format!("{} {node} {to:?}", at.as_millis())),
        Record::Move { at, address, result, .. } => {
            Some(format!("{} {address} moved {:?} {}", at.as_millis(), result.to, result.ok))
        }
        _ => None,
    };
    log.iter().filter_map(of).collect()
}

/// A recorded run, fed back, gives identical verdicts, decisions and moves, at the same times.
#[test]
fn a_recorded_run_fed_back_gives_identical_decisions() {
    type Trouble = fn(&mut Scene);
    let fixed = Rule::new(Fault::Latency { min_ms: 40, max_ms: 40 });
    let troubles: [(&str, Trouble); 10] = [
        ("a dead service", |scene| scene.refuse(A)),
        ("a hung node", |scene| scene.service(A, Behaviour::Silent)),
        ("a node that flaps", |scene| scene.service(A, Behaviour::Flap { up_ms: 1_700, down_ms: 2_300 })),
        ("a stopped node", |scene| scene.stop_node(A)),
        ("a drain", |scene| scene.tag_node(A, "mode", "drain")),
        ("a move by hand", |scene| scene.by_hand(0, Some(B))),
        ("an address taken away", |scene| scene.by_hand(0, None)),
        ("a disrupted zone", |scene| {
            scene.refuse(A);
            scene.ec2.faults_mut().push(Rule::new(Fault::Zone { zone: "eu-west-1a".to_owned(), unnamed: true }));
        }),
        ("a node that stops in a disrupted Region", |scene| {
            scene.ec2.faults_mut().push(Rule::new(Fault::Zone { zone: "eu-west-1b".to_owned(), unnamed: true }));
            scene.after(9_000, |scene| scene.stop_node(A));
        }),
        ("failing calls", |scene| {
            scene.refuse(A);
            scene.ec2.faults_mut().push(Rule::error("InternalError").chance(300));
            scene.ec2.faults_mut().push(Rule::error("RequestLimitExceeded").on(Api::AssociateAddress).chance(500));
        }),
    ];
    let mut moved = 0;
    for (name, trouble) in troubles {
        let mut scene = Scene::seasoned(2, 3);
        scene.ec2.faults_mut().push(fixed.clone());
        scene.after(12_345, trouble);
        let told = scene.watch(55);
        let log = scene.log(told.handle);
        moved += log.iter().filter(|record| matches!(record, Record::Move { .. })).count();
        assert_eq!(decisions(&again(log).unwrap()), decisions(log), "{name}");
    }
    assert!(moved >= 12, "{moved} moves");
}

/// The same of events, stale reads and heartbeats.
#[test]
fn recorded_events_and_stale_reads_fed_back_give_identical_decisions() {
    let mut scene = Scene::pair();
    // Calls that take no time at all would leave two readings of one moment in the log.
    scene.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 40, max_ms: 40 }));
    let spot = spot_event(&scene.node(A), scene.now_ms());
    let told = scene.send(&spot);
    assert_eq!(decisions(&again(scene.log(told.handle)).unwrap()), decisions(scene.log(told.handle)));
    let mut scene = Scene::seasoned(1, 3);
    scene.tag_address(0, "check", "heartbeat http:8080/health");
    for n in 0..3 {
        scene.start_agent(n, 0);
    }
    scene.ec2.faults_mut().push(Rule::new(Fault::Stale { what: Shown::Associations, up_to_ms: 6_000 }));
    scene.after(9_000, |scene| scene.refuse(A));
    scene.after(40_000, |scene| scene.by_hand(0, Some(C)));
    let told = scene.watch(55);
    let log = scene.log(told.handle);
    assert!(log.iter().any(|record| matches!(record, Record::Move { .. })));
    assert_eq!(decisions(&again(log).unwrap()), decisions(log));
}
