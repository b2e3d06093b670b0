//! `eipwatch simulate`: what would happen, under this policy and that, if …
//!
//! A [`scenario`] is played in virtual time: production watches, started as the templates start them (every minute, for 55 s, and by
//! events), against the embedded EC2 and simulated nodes. What clients saw is told by the nodes themselves, not by the watches.
//!
//! Architecture invariant: nothing is decided here, and nothing of the log is believed about who served.

pub mod scenario;
pub mod stage;
pub mod vary;

use crate::core::log::{Line, Record};
use crate::core::policy;
use crate::core::report::Effort;
use crate::core::time::{Time, millis};
use crate::sim::world::{Handle, START_MS, World};
use crate::timeline::build::{Builder, against, alone};
use crate::timeline::words::{length, median};
use crate::timeline::{Run, Timeline, TradeOff, TradePoint};
use scenario::Scenario;

/// The most policies that one simulation compares.
pub const MAX_POLICIES: usize = 200;
/// Of so many policies the lanes are kept: beyond, a page could not be read.
pub const MAX_RUNS_SHOWN: usize = 6;
/// An outage that begins so soon after a fault of the scenario is that fault's, in milliseconds.
const CAUSED_WITHIN_MS: u64 = 1_000;
const DAY_MS: f64 = 86_400_000.0;

/// The scenarios that come with it: name and file.
pub const CLASSICS: [(&str, &str); 10] = [
    ("crash", include_str!("../../examples/scenarios/crash.toml")),
    ("dead-service", include_str!("../../examples/scenarios/dead-service.toml")),
    ("hang", include_str!("../../examples/scenarios/hang.toml")),
    ("flapping", include_str!("../../examples/scenarios/flapping.toml")),
    ("partition", include_str!("../../examples/scenarios/partition.toml")),
    ("partition-heals", include_str!("../../examples/scenarios/partition-heals.toml")),
    ("zone-loss", include_str!("../../examples/scenarios/zone-loss.toml")),
    ("api-outage", include_str!("../../examples/scenarios/api-outage.toml")),
    ("rolling-reboot", include_str!("../../examples/scenarios/rolling-reboot.toml")),
    ("noise", include_str!("../../examples/scenarios/noise.toml")),
];

/// A scenario under one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// Its lanes and figures.
    pub run: Run,
    /// The median outage that a fault of the scenario caused, in milliseconds; `None`: none did.
    pub outage_ms: Option<u64>,
    /// How many invocations there were.
    pub invocations: u64,
    /// How many probes.
    pub probes: u64,
}

/// Puts pairs of a policy over another: `fall=2` over `fall=3 timeout=500ms` is `fall=2 timeout=500ms`.
pub fn over(base: &str, pairs: &str) -> String {
    let key = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let new: Vec<&str> = pairs.split_whitespace().collect();
    let kept = base.split_whitespace().filter(|pair| !new.iter().any(|other| key(other) == key(pair)));
    let text: Vec<&str> = kept.chain(new.iter().copied()).collect();
    // In the order and with the defaults left out that a tag would have.
    policy::parse(&text.join(" ")).0.differences()
}

/// The log that the function would write in a scenario: each invocation's records by time, its metrics at its end.
///
/// # Errors
/// It cannot be written.
pub fn write_log(scenario: &Scenario, pairs: &str, out: &mut impl std::io::Write) -> std::io::Result<()> {
    let staged = stage::play(scenario, &policies(scenario, pairs));
    for (at, handle, record) in by_time(&staged.world) {
        let request = format!("00000000-0000-4000-8000-{handle:012x}");
        serde_json::to_writer(&mut *out, &Line::new(record, Some(&request), at))?;
        out.write_all(b"\n")?;
        if let Record::End { report, .. } = record {
            let started = staged.world.started_ms(handle).unwrap_or_default();
            let took_ms = at.as_millis().saturating_sub(START_MS + started);
            for line in report.metrics(Effort { took_ms, api_calls: 0 }, at) {
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
        }
    }
    out.flush()
}

fn policies(scenario: &Scenario, pairs: &str) -> Vec<String> {
    scenario.clusters.iter().map(|cluster| over(&cluster.policy, pairs)).collect()
}

/// All records by time. Those of one moment stay in the order of invocations, and each invocation's in its own.
fn by_time(world: &World) -> Vec<(Time, Handle, &Record)> {
    let mut records = Vec::new();
    for handle in 0..world.invocations() {
        let handle = Handle::try_from(handle).unwrap_or(Handle::MAX);
        records.extend(world.log(handle).iter().map(|record| (record.at(), handle, record)));
    }
    records.sort_by_key(|(at, handle, _)| (*at, *handle));
    records
}

/// Plays a scenario with these pairs over each cluster's policy.
pub fn play(scenario: &Scenario, pairs: &str) -> Played {
    let staged = stage::play(scenario, &policies(scenario, pairs));
    let mut builder = Builder::default();
    for (_, handle, record) in by_time(&staged.world) {
        builder.take(handle, record);
    }
    for (at, node, text) in &staged.done {
        match node {
            Some(node) => builder.fault(*at, node, text.clone()),
            None => builder.fault_of_all(*at, text),
        }
    }
    let invocations = builder.invocations();
    let run = builder.finish(name_of(scenario, pairs), staged.to, &staged.downs, Some(staged.held));
    let caused = |from: Time| {
        let at_ms = from.as_millis().saturating_sub(START_MS);
        scenario.faults.iter().any(|fault| at_ms >= fault.at_ms && at_ms - fault.at_ms <= CAUSED_WITHIN_MS)
    };
    let outages: Vec<u64> = run
        .clusters
        .iter()
        .flat_map(|cluster| &cluster.addresses)
        .flat_map(|address| &address.outages)
        .filter(|outage| caused(outage.from))
        .map(|outage| millis(outage.to.since(outage.from)))
        .collect();
    Played { outage_ms: median(&outages), run, invocations, probes: staged.world.probes }
}

fn name_of(scenario: &Scenario, pairs: &str) -> String {
    match (pairs.trim(), scenario.clusters.as_slice()) {
        ("", [one]) if one.policy.is_empty() => "all defaults".to_owned(),
        ("", [one]) => one.policy.clone(),
        ("", _) => "as the scenario has it".to_owned(),
        (pairs, _) => pairs.to_owned(),
    }
}

/// Plays a scenario under several policies, side by side on this machine's processors, and compares.
pub fn compare(scenario: &Scenario, policies: &[String], trade_off: bool) -> (Timeline, Vec<Played>) {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(policies.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut played: Vec<(usize, Played)> = std::thread::scope(|scope| {
        let work = || {
            let mut own = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(pairs) = policies.get(index) else { return own };
                let mut one = play(scenario, pairs);
                if index >= MAX_RUNS_SHOWN {
                    one.run.clusters.clear();
                    one.run.incidents.clear();
                }
                own.push((index, one));
            }
        };
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let own = work();
        let others = threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default());
        own.into_iter().chain(others.collect::<Vec<_>>()).collect()
    });
    played.sort_by_key(|(index, _)| *index);
    let mut played: Vec<Played> = played.into_iter().map(|(_, one)| one).collect();
    if let Some((first, others)) = played.split_first_mut() {
        first.run.text = alone(&first.run);
        for other in others {
            other.run.text = against(&first.run, &other.run);
        }
    }
    let (from, to) = (Time::from_millis(START_MS), Time::from_millis(START_MS + scenario.duration_ms));
    let points = played.iter().enumerate().map(|(index, one)| TradePoint {
        name: one.run.name.clone(),
        outage_ms: one.outage_ms,
        needless_per_day: f64::from(one.run.figures.needless) * DAY_MS / scenario.duration_ms as f64,
        current: index == 0,
    });
    let trade_off = trade_off.then(|| TradeOff { text: under(scenario), points: points.collect() });
    let timeline = Timeline {
        title: scenario.title.clone(),
        notes: notes(scenario, played.len()),
        from,
        to,
        runs: played.iter().take(MAX_RUNS_SHOWN).map(|one| one.run.clone()).collect(),
        trade_off,
        near: None,
    };
    (timeline, played)
}

/// Under what a trade-off was counted.
fn under(scenario: &Scenario) -> String {
    let chance = match &scenario.transient {
        None => "no transient faults, so no policy can move for nothing because of one".to_owned(),
        Some(transient) => format!(
            "{} transient faults an hour and node ({}, {} to {})",
            transient.per_hour,
            transient.word,
            length(transient.min_ms),
            length(transient.max_ms)
        ),
    };
    let faults = match scenario.faults.len() {
        1 => "1 fault".to_owned(),
        n => format!("{n} faults"),
    };
    format!("{} of virtual time, {faults}, {chance}.", length(scenario.duration_ms))
}

fn notes(scenario: &Scenario, policies: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if !scenario.text.is_empty() {
        notes.push(scenario.text.clone());
    }
    notes.push(format!(
        "Virtual time: the function's own code, started every {} for {}{}, against a simulated EC2 that takes {} to {} for a call. \
         Outages are the simulated nodes' truth: a client waits {} for an answer.",
        length(scenario.every_ms),
        length(scenario.watch_ms),
        if scenario.events_ms.is_some() { " and by events" } else { ", without events" },
        length(scenario.latency_ms.0),
        length(scenario.latency_ms.1),
        length(stage::CLIENT_PATIENCE_MS),
    ));
    notes.push("A move is needless if the node that it left served when it took effect.".to_owned());
    if let Some(transient) = &scenario.transient {
        notes.push(format!(
            "Transient faults come by chance (seed {}), the same ones under every policy: {} an hour and node, {} to {}, {}.",
            scenario.seed,
            transient.per_hour,
            length(transient.min_ms),
            length(transient.max_ms),
            transient.word
        ));
    }
    if policies > MAX_RUNS_SHOWN {
        notes.push(format!(
            "Lanes are shown of the first {MAX_RUNS_SHOWN} of {policies} policies; the comparison has all."
        ));
    }
    notes
}
