//! Small worlds, exhaustively: the production [`Watch`](eipwatch::core::watch::Watch), two at once, with every combination of faults and deeds
//! that their budgets allow. Time is not explored: calls and probes take what [`branch`] says, and deeds are done at the times of the
//! [`Setup`], so the orders in which things happen are those that follow from these. All others are left to the simulation.
//!
//! A state of the model is everything: both watches, EC2, the nodes, what is on its way. From each, [`branch`] follows all that calls may meet
//! and all that may be done to the world, as far as the budgets of the [`Setup`] go; [`judge`] says at every call whether the rules allow it, by
//! what that watch was shown. Where the budgets are used up the world runs on to its end, then one watch must put everything right and the next
//! find nothing to do: that is how convergence is checked, since the checker's `eventually` misses cycles.
//!
//! The number of states is asserted, so that a change of the model, or of what the watch does in it, is seen. A broken rule prints the world,
//! the rule and what happened: `cargo test --no-default-features --test it model:: -- --nocapture`.

mod branch;
mod judge;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use eipwatch::core::decide::Why;
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use branch::{Branch, Deed, Fate, Setup, Step, Wakes};
use judge::{Policy, RULES};

/// How many broken rules are told in full.
const MAX_TOLD: usize = 2;

/// Set in the environment, it lets the number of states be any: for `make mutants`.
const ANY_COUNT: &str = "EIPWATCH_ANY_COUNT";

struct World(Arc<Setup>);

macro_rules! never {
    ($($rule:literal),* $(,)?) => {
        [$(Property::<World>::always($rule, |_, branch| branch.broken.iter().all(|(rule, _)| *rule != $rule))),*]
    };
}

/// Whether a decision was made for reason number `AT` of [`Why::ALL`].
fn met<const AT: usize>(_: &World, branch: &Branch) -> bool {
    branch.whys & (1 << AT) != 0
}

macro_rules! each_met {
    ($($at:literal),* $(,)?) => {
        [$(met::<$at> as fn(&World, &Branch) -> bool),*]
    };
}

fn rules() -> [Property<World>; 24] {
    never!(
        "acts on a stale read",
        "claims what it did not do",
        "counts more moves than there were",
        "displaces",
        "failback too soon",
        "failback undoes others' move",
        "fails at rest",
        "ignores the brake",
        "last resort before a candidate",
        "misbehaves",
        "moves blindly",
        "moves in manual mode",
        "moves off a healthy holder",
        "moves off an outsider",
        "moves to where it is",
        "not rescued",
        "remembers another holder",
        "remembers what never was",
        "restless",
        "retries after a third holder",
        "sends again blindly",
        "sends twice at once",
        "to no candidate",
        "too many moves",
    )
}

impl Model for World {
    type State = Branch;
    type Action = Step;

    fn init_states(&self) -> Vec<Branch> {
        Branch::beginnings(&self.0, false)
    }

    fn actions(&self, state: &Branch, actions: &mut Vec<Step>) {
        actions.extend(state.steps());
    }

    fn next_state(&self, last: &Branch, step: Step) -> Option<Branch> {
        Some(last.after(step))
    }

    fn properties(&self) -> Vec<Property<World>> {
        let met = each_met!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17);
        let whys = Why::ALL.iter().zip(met).filter(|(why, _)| self.0.whys.contains(&why.as_str()));
        let mut all: Vec<Property<World>> = rules().into();
        all.extend(whys.map(|(why, met)| Property::sometimes(why.as_str(), met)));
        all.push(Property::<World>::sometimes("comes to rest", |_, branch| branch.rested));
        if self.0.second.iter().any(|(wakes, _)| *wakes == Wakes::Schedule) {
            all.push(Property::<World>::sometimes("the second watch moves it", |_, branch| branch.movers[1]));
        }
        all
    }
}

/// Tells what happens on a way through a world.
fn tell(setup: &Arc<Setup>, first: &Branch, steps: &[Step]) {
    let at = Branch::beginnings(setup, false).iter().position(|branch| branch == first).unwrap();
    let mut branch = Branch::beginnings(setup, true).remove(at);
    for step in steps {
        branch = branch.after(*step);
    }
    for (at_ms, text) in branch.told.iter().flatten() {
        println!("{:>9.3} {text}", *at_ms as f64 / 1_000.0);
    }
}

/// Explores a world to its end.
fn explore(setup: Setup, states: usize) {
    let start = Instant::now();
    let setup = Arc::new(setup);
    let checker = World(setup.clone()).checker().finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    println!(
        "{}: {} states ({} steps, {} deep) in {:.1} s",
        setup.name,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    );
    let discoveries = checker.discoveries();
    let properties = checker.model().properties();
    let broken: Vec<&str> = properties
        .iter()
        .filter(|it| it.expectation == Expectation::Always && discoveries.contains_key(it.name))
        .map(|it| it.name)
        .collect();
    for rule in broken.iter().take(MAX_TOLD) {
        println!("BROKEN in the model's world {}: {rule}", setup.name);
        let way = discoveries[rule].clone().into_vec();
        let steps: Vec<Step> = way.iter().filter_map(|(_, step)| *step).collect();
        tell(&setup, &way[0].0, &steps);
    }
    assert!(broken.is_empty(), "{}: {broken:?}", setup.name);
    let missing: Vec<&str> = properties
        .iter()
        .filter(|it| it.expectation == Expectation::Sometimes && !discoveries.contains_key(it.name))
        .map(|it| it.name)
        .collect();
    assert!(missing.is_empty(), "{}: never met: {missing:?}", setup.name);
    // Where bugs are planted each changes the number: that alone catches none.
    if std::env::var_os(ANY_COUNT).is_none() {
        assert_eq!(checker.unique_state_count(), states, "states of {}", setup.name);
    }
}

const POLICY: Policy = Policy { fall: 2, rise: 1, stable_ms: 20_000, failback: false, max_moves: 3, probed: true };

const PAIR: Setup = Setup {
    name: "pair",
    nodes: 2,
    policy: POLICY,
    tags: &[],
    holder: 0,
    launched_ago_ms: 86_400_000,
    first: Wakes::Schedule,
    second: &[(Wakes::Schedule, 300)],
    watch_ms: 6_000,
    deeds: &[],
    at_ms: &[],
    deeds_left: 1,
    addresses: &[Fate::Fails, Fate::Slow, Fate::Stale],
    instances: &[],
    moves: &[Fate::Fails, Fate::FailsAfter, Fate::Late, Fate::Slow, Fate::Throttled, Fate::DieBefore, Fate::DieAfter],
    states: &[Fate::Fails, Fate::FailsAfter, Fate::DieBefore, Fate::DieAfter],
    faults_left: 2,
    moves_due: 0,
    whys: &[],
};

#[test]
fn every_why_is_met_in_some_world() {
    let worlds = [RACE, THREE, HOLDER, EC2, EVENTS, FAILBACK, BRAKE, COMMANDS, ORDER];
    let met: BTreeSet<&str> = worlds.iter().flat_map(|world| world.whys).copied().collect();
    assert_eq!(met, Why::ALL.iter().map(|why| why.as_str()).collect());
}

#[test]
fn the_rules_judged_are_the_properties_checked() {
    assert!(rules().iter().map(|it| it.name).eq(RULES));
}

const RACE: Setup = Setup {
    name: "race",
    second: &[(Wakes::Schedule, 0), (Wakes::Schedule, 150), (Wakes::Schedule, 700)],
    deeds: &[Deed::Die(0)],
    at_ms: &[1_450],
    whys: &["holder-unhealthy", "healthy", "settling"],
    ..PAIR
};

#[test]
fn two_watches_race_to_the_same_failover() {
    explore(RACE, 1_004);
}

const THREE: Setup = Setup {
    name: "three",
    nodes: 3,
    deeds: &[Deed::Die(0), Deed::Die(1), Deed::Heal(0), Deed::Stop(1), Deed::Hand(2)],
    at_ms: &[1_450, 2_450, 4_450],
    deeds_left: 2,
    faults_left: 1,
    whys: &["holder-unhealthy", "holder-gone", "moved-elsewhere"],
    ..PAIR
};

#[test]
fn three_nodes_fail_one_after_another() {
    explore(THREE, 1_015);
}

const HOLDER: Setup = Setup {
    name: "holder",
    second: &[(Wakes::Nothing, 0)],
    deeds: &[
        Deed::Die(1),
        Deed::Stop(0),
        Deed::Terminate(0),
        Deed::Drain(0),
        Deed::Untag(0),
        Deed::Remove,
        Deed::GiveAway,
        Deed::Occupy(1),
        Deed::Pause,
        Deed::Forget,
    ],
    at_ms: &[1_450, 3_450],
    deeds_left: 2,
    instances: &[Fate::Fails, Fate::Stale],
    moves: &[Fate::FailsAfter, Fate::Hollow, Fate::Denied, Fate::Refused, Fate::DieAfter],
    faults_left: 1,
    whys: &[
        "no-holder",
        "holder-gone",
        "holder-draining",
        "last-resort",
        "no-candidate",
        "manual-mode",
        "outsider",
        "no-free-private-address",
        "not-permitted",
    ],
    ..PAIR
};

#[test]
fn whatever_becomes_of_the_holder_and_the_address() {
    explore(HOLDER, 912);
}

const EC2: Setup = Setup {
    name: "ec2",
    policy: Policy { probed: false, ..POLICY },
    deeds: &[Deed::Stop(0), Deed::Terminate(0), Deed::Hand(1), Deed::Drain(1)],
    at_ms: &[1_450, 3_450],
    deeds_left: 2,
    instances: &[Fate::Stale],
    faults_left: 1,
    whys: &["holder-gone"],
    ..PAIR
};

#[test]
fn without_probes_ec2_decides() {
    explore(EC2, 402);
}

const EVENTS: Setup = Setup {
    name: "events",
    launched_ago_ms: 30_000,
    second: &[
        (Wakes::Stopped { ago_ms: 5_000 }, 500),
        (Wakes::Stopped { ago_ms: 40_000 }, 500),
        (Wakes::Stopped { ago_ms: 5_000 }, 57_000),
        (Wakes::Spot, 500),
    ],
    deeds: &[Deed::Die(1), Deed::Stop(0)],
    at_ms: &[1_450],
    faults_left: 2,
    moves_due: 1,
    whys: &["holder-gone", "holder-leaving"],
    ..PAIR
};

#[test]
fn events_come_late_or_of_an_earlier_life() {
    explore(EVENTS, 1_663);
}

const FAILBACK: Setup = Setup {
    name: "failback",
    policy: Policy { stable_ms: 2_000, failback: true, ..POLICY },
    tags: &[("prefer", "@0"), ("state", "holder=@1 since=-40 from=@0 why=holder-unhealthy moves=-40")],
    holder: 1,
    second: &[(Wakes::Schedule, 300), (Wakes::Spot, 700)],
    deeds: &[Deed::Die(0), Deed::Die(1), Deed::Hand(1), Deed::Drain(0)],
    at_ms: &[1_450, 2_950],
    faults_left: 2,
    moves_due: 1,
    whys: &["failback"],
    ..PAIR
};

#[test]
fn it_goes_back_to_the_preferred_node_and_not_to_one_that_leaves() {
    explore(FAILBACK, 3_288);
}

const BRAKE: Setup = Setup {
    name: "brake",
    policy: Policy { stable_ms: 10_000, max_moves: 1, ..POLICY },
    tags: &[("state", "holder=@0 since=-40 from=@1 why=holder-unhealthy moves=-40")],
    deeds: &[Deed::Die(0), Deed::Heal(0), Deed::Stop(0), Deed::Drain(0)],
    at_ms: &[1_450, 3_450],
    deeds_left: 2,
    faults_left: 2,
    whys: &["max-moves", "holder-gone", "holder-draining"],
    ..PAIR
};

#[test]
fn the_brake_holds() {
    explore(BRAKE, 2_279);
}

const COMMANDS: Setup = Setup {
    name: "commands",
    nodes: 3,
    second: &[
        (Wakes::Move { to: 1, force: false }, 1_600),
        (Wakes::Move { to: 2, force: true }, 1_600),
        (Wakes::Status, 1_600),
    ],
    deeds: &[Deed::Die(1), Deed::Die(0), Deed::Drain(1), Deed::Hand(2)],
    at_ms: &[1_450, 1_750],
    faults_left: 2,
    moves_due: 1,
    whys: &["manual", "refused"],
    ..PAIR
};

#[test]
fn commands_move_it_and_others_do_too() {
    explore(COMMANDS, 2_318);
}

const ORDER: Setup = Setup {
    name: "order",
    second: &[(Wakes::Nothing, 0)],
    deeds: &[Deed::Slow(0), Deed::Hang(0), Deed::Heal(0), Deed::Die(0), Deed::Slow(1), Deed::Hang(1), Deed::Die(1)],
    at_ms: &[1_150, 1_200, 1_500, 1_600, 2_150, 2_400],
    deeds_left: 4,
    faults_left: 0,
    whys: &["holder-unhealthy", "no-candidate"],
    ..PAIR
};

#[test]
fn answers_come_in_any_order() {
    explore(ORDER, 1_462);
}
