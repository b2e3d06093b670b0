//! How everything grows with the number of clusters: sweeps of the real function, decisions, mass failovers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use eipwatch::core::decide::{Question, Since, decide};
use eipwatch::core::model::{Answer, InstanceId, Look, Seen};
use eipwatch::core::snapshot::{self, Cluster, Facts, Slot, Taken};
use eipwatch::core::tags::{Check, Keys};
use eipwatch::core::time::Time;
use eipwatch::core::verdict::{Case, Finding, Probing, judge};
use eipwatch::embedded::ec2::{Api, Ec2, Id, InstanceSpec, Place, tags};
use eipwatch::embedded::{Fault, Rule, seam};
use eipwatch::sim::world::{START_MS, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::ec2::Served;
use crate::function::{cpu, start, timed};
use crate::page::{self, Section};
use crate::pair::LATENCY_MS;
use crate::plot;
use crate::table::{Sample, ms, table, thousands};
use crate::watchers::{NO_FUNCTION, binary};

/// Clusters of two nodes.
const SIZES: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// How long one sweep may take.
const LIMIT: Duration = Duration::from_secs(120);
/// A machine that is busy with other things must not look like nodes that fail.
const POLICY: &str = "timeout=10s";
/// Sweeps after the first.
const SWEEPS: usize = 3;
/// Rounds of the decisions.
const ROUNDS: usize = 5;
/// What Lambda takes as an answer (its quota "Invocation payload", synchronous).
const MAX_ANSWER_BYTES: u64 = 6 << 20;
/// A full core of Lambda (its guide, "Configure Lambda function memory").
const MB_OF_A_CORE: f64 = 1_769.0;
/// Addresses that lose their holders at once.
const MASSES: [usize; 5] = [1, 50, 100, 300, 1_000];

/// Answers each request on it as a node that is well. Never ends.
pub async fn serve(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::task::spawn_local(async move {
            // A probe's request fits one read.
            let mut request = [0; 1_024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        });
    }
}

/// What `nodes` does: serves on every loopback address, until its standard input ends. Says the port.
pub fn nodes() {
    crate::block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        tokio::task::spawn_local(serve(listener));
        let _ = tokio::io::stdin().read(&mut [0]).await;
    });
}

/// Many clusters of two nodes and one address each, on the first node.
fn build(world: &mut Ec2, clusters: usize, check: &str) {
    for n in 0..clusters {
        let name = format!("c{n:05}");
        let nodes = [0, 1].map(|of| {
            let number = u32::try_from(2 * n + of).unwrap();
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 2, 0, 0)) + number);
            world.add_instance(InstanceSpec {
                private_ips: vec![ip],
                tags: tags([("eipwatch:cluster", &name), ("Name", &name)]),
                ..InstanceSpec::default()
            })
        });
        let own = [("eipwatch:cluster", name.as_str()), ("eipwatch:check", check), ("eipwatch:policy", POLICY)];
        let address = world.add_address(tags(own));
        let now_ms = world.now_ms();
        world.move_by_hand(&address, Place::Instance(&nodes[0]), now_ms);
    }
}

struct Swept {
    clusters: usize,
    first_ms: f64,
    sweep: Sample,
    cpu: Sample,
    calls: u64,
    peak_kib: u64,
    sockets: usize,
    answer_bytes: u64,
}

/// Sweeps of the real function over real sockets; and why it ends before the largest size, if it does.
async fn sweeps() -> (Vec<Swept>, Option<String>) {
    let mut nodes = tokio::process::Command::new(std::env::current_exe().unwrap());
    nodes.arg("nodes").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut nodes = nodes.spawn().unwrap();
    let mut port = String::new();
    let mut stdout = tokio::io::BufReader::new(nodes.stdout.take().unwrap());
    tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut port).await.unwrap();
    let check = format!("http:{}/health", port.trim());
    let mut all = Vec::new();
    for clusters in SIZES {
        let (ec2, at) = Served::start(Ipv4Addr::LOCALHOST, |world| {
            build(world, clusters, &check);
            let (min_ms, max_ms) = (*LATENCY_MS.start(), *LATENCY_MS.end());
            world.faults_mut().push(Rule::new(Fault::Latency { min_ms, max_ms }));
        })
        .await;
        let function = start(format!("http://{at}"), "0").await;
        let sweep = || {
            let function = function.clone();
            async move {
                let before = cpu(function.pid());
                let done = tokio::task::spawn_blocking(move || {
                    let done = function.invoke(schedule(), LIMIT);
                    let bytes = done.outcome.map(|answer| answer.to_string().len() as u64);
                    bytes.map(|bytes| (ms(done.took), bytes, ms(cpu(function.pid()) - before)))
                });
                done.await.unwrap().map_err(|error| format!("with {clusters} clusters: {}", error.error_message))
            }
        };
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let counting = {
            let (stop, most, pid) = (stop.clone(), most.clone(), function.pid());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(sockets(pid), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        };
        let mut done = Vec::new();
        let mut calls = Vec::new();
        for _ in 0..=SWEEPS {
            let before = ec2.calls.get();
            match sweep().await {
                Ok(one) => done.push(one),
                Err(error) => return (all, Some(error)),
            }
            calls.push(ec2.calls.get() - before);
        }
        stop.store(true, Ordering::Relaxed);
        counting.join().unwrap();
        let (first_ms, rest) = (done[0].0, &done[1..]);
        let swept = Swept {
            clusters,
            first_ms,
            sweep: Sample::new(rest.iter().map(|it| it.0)),
            cpu: Sample::new(rest.iter().map(|it| it.2)),
            calls: calls[SWEEPS],
            peak_kib: function.peak_memory_kib(),
            sockets: most.load(Ordering::Relaxed),
            answer_bytes: rest[0].1,
        };
        println!("{clusters} clusters: first {first_ms:.0} ms, then {} ms", swept.sweep.text(0));
        all.push(swept);
    }
    (all, None)
}

fn schedule() -> Value {
    json!({"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}})
}

fn sockets(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    open.filter(|it| fs::read_link(it.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))).count()
}

type Judged = (Cluster, BTreeMap<InstanceId, Finding>, BTreeMap<InstanceId, Since>);

/// Clusters read and judged, ready to be decided on.
pub struct Prepared {
    facts: Facts,
    clusters: Vec<Judged>,
    occupancy: BTreeMap<Slot, eipwatch::core::model::AllocationId>,
    now: Time,
}

impl Prepared {
    /// So many clusters; every holder fails, so that there is something to decide.
    pub fn new(clusters: usize) -> Prepared {
        let mut world = Ec2::new(1);
        world.advance(START_MS - 600_000);
        build(&mut world, clusters, "http:80/health");
        world.advance(START_MS);
        world.settle();
        let now = Time::from_millis(START_MS);
        let keys = Keys::new("eipwatch:");
        let mut facts = Facts::default();
        let none = BTreeSet::new();
        for look in [Look::Addresses, Look::Instances(keys.cluster.clone()), Look::Status(Vec::new())] {
            match seam::answer(&mut world, 1, &look, START_MS).unwrap() {
                Seen::Instances(seen) => facts.take_instances(seen, &none, now),
                seen => facts.take(seen, now),
            }
        }
        let found = snapshot::clusters(&facts, &keys).0;
        let clusters = found.into_values().map(|cluster| {
            let holder = cluster.addresses[0].holder.instance().cloned();
            let findings = cluster.nodes.iter().map(|(id, node)| (id.clone(), finding(node, &cluster, &holder, now)));
            let findings: BTreeMap<_, _> = findings.collect();
            let since = findings.keys().map(|id| (id.clone(), Since { verdict: now, steady: now })).collect();
            (cluster, findings, since)
        });
        let clusters = clusters.collect();
        let occupancy = facts.occupancy();
        Prepared { facts, clusters, occupancy, now }
    }

    /// Decides on each.
    pub fn decide(&self) -> usize {
        let (taken, memory) = (Taken::new(&self.occupancy, None), BTreeMap::new());
        let each = self.clusters.iter().map(|(cluster, findings, since)| {
            decide(Question {
                cluster,
                findings,
                since,
                memory: &memory,
                taken: &taken,
                facts_from: self.now,
                readable_from: self.now,
                nodes_from: self.now,
                unreadable: None,
                manual: false,
                now: self.now,
            })
        });
        each.map(|rulings| rulings.iter().filter(|ruling| ruling.plan.is_some()).count()).sum()
    }

    /// Reads the clusters anew out of what EC2 showed.
    pub fn read(&self) -> usize {
        snapshot::clusters(&self.facts, &Keys::new("eipwatch:")).0.len()
    }
}

/// A node whose probes have failed, if it is the holder, and passed otherwise.
fn finding(node: &snapshot::Node, cluster: &Cluster, holder: &Option<InstanceId>, now: Time) -> Finding {
    let mut probes: BTreeMap<Check, Probing> = BTreeMap::new();
    for check in node.checks.iter() {
        let mut probing = Probing::new(check, None);
        let target = eipwatch::core::model::ProbeTarget {
            scheme: eipwatch::core::model::Scheme::Http,
            ip: Ipv4Addr::LOCALHOST,
            port: 80,
            path: "/health".into(),
            host: None,
            timeout: cluster.policy.timeout,
        };
        probing.aim(Some(target));
        let answer = if holder.as_ref() == Some(&node.id) { Answer::Refused } else { Answer::Status(200) };
        for n in 0..3 {
            let at = now - Duration::from_millis(1_500 - 500 * n);
            probing.start(n, at);
            probing.answer(n, &answer, &cluster.policy, at);
        }
        probes.insert(check.clone(), probing);
    }
    let case = Case {
        policy: &cluster.policy,
        probes: &probes,
        pulse: None,
        peers: &[],
        read_at: Some(now),
        asked_at: Some(now),
        alarms: &BTreeMap::new(),
        alarms_told: &BTreeMap::new(),
        gone_event: None,
        holder: holder.as_ref() == Some(&node.id),
        status_read: true,
        deadline: Time::from_millis(u64::MAX),
    };
    judge(node, case, now)
}

/// Microseconds a cluster, for each size.
fn decisions() -> Vec<(usize, Sample, Sample)> {
    let each = |clusters: usize| {
        let case = Prepared::new(clusters);
        assert_eq!((case.decide(), case.read()), (clusters, clusters), "each cluster has an address to move");
        let repeat = 2_000_usize.div_ceil(clusters);
        let measure = |work: &dyn Fn() -> usize| {
            let rounds = (0..ROUNDS).map(|_| timed(|| (0..repeat).map(|_| work()).sum::<usize>()).1);
            Sample::new(rounds.map(|took| took.as_secs_f64() * 1e6 / (repeat * clusters) as f64).collect::<Vec<_>>())
        };
        (clusters, measure(&|| case.decide()), measure(&|| case.read()))
    };
    SIZES.into_iter().map(each).collect()
}

/// Clusters of two nodes in virtual time, each address on the first of them, and those.
fn simulated(clusters: usize) -> (World, Vec<(Id, Id)>) {
    let mut world = World::new(1);
    world.keep_logs = false;
    world.network_ms = 1;
    let mut all = Vec::new();
    for n in 0..clusters {
        let name = format!("c{n:05}");
        let nodes = [0, 1].map(|_| {
            let node = world.add_node();
            world.tag(&node, "cluster", &name);
            node
        });
        let address =
            world.ec2.add_address(tags([("eipwatch:cluster", &name), ("eipwatch:check", "http:8080/health")]));
        let now_ms = world.ec2.now_ms();
        world.ec2.move_by_hand(&address, Place::Instance(&nodes[0]), now_ms);
        all.push((nodes[0].clone(), address));
    }
    world.settle();
    (world, all)
}

/// One sweep of so many clusters that nothing is known of; how many it saw.
pub fn sweep(clusters: usize) -> usize {
    let (mut world, _) = simulated(clusters);
    world.settings.watch = Duration::ZERO;
    let sweep = world.scheduled(0);
    world.run();
    world.report(sweep).map_or(0, |report| report.clusters.len())
}

/// In virtual time at AWS's throttle: so many holders stop at once, scheduled watches follow each other; seconds until the last address has moved.
fn mass(addresses: usize) -> (f64, u64) {
    let (mut world, all) = simulated(addresses);
    let (min_ms, max_ms) = (*LATENCY_MS.start(), *LATENCY_MS.end());
    world.ec2.faults_mut().extend([Rule::new(Fault::Latency { min_ms, max_ms }), Rule::new(Fault::Throttle)]);
    // The first two remember; the tags of 2,000 nodes take their time at AWS's rate.
    const WARM_UP_MS: u64 = 300_000;
    const STOPPED_MS: u64 = WARM_UP_MS + 10_000;
    const END_MS: u64 = STOPPED_MS + 600_000;
    for minute in 0..END_MS / 60_000 {
        world.scheduled(minute * 60_000);
    }
    let stopped = all.clone();
    world.at(STOPPED_MS, move |world| {
        let now_ms = START_MS + STOPPED_MS;
        for (node, _) in &stopped {
            world.ec2.stop_instance(node, now_ms);
        }
    });
    world.run_until(STOPPED_MS);
    let calls = world.ec2.pages(Api::AssociateAddress);
    let mut at_ms = STOPPED_MS;
    let moved =
        |world: &World| all.iter().all(|(old, address)| world.ec2.holder(address).is_some_and(|now| now != old));
    while at_ms < END_MS && !moved(&world) {
        at_ms += 1_000;
        world.run_until(at_ms);
    }
    let last_ms = world.ec2.history().iter().map(|it| it.at_ms).max().unwrap_or_default() - START_MS;
    let s = if moved(&world) { (last_ms - STOPPED_MS) as f64 / 1_000.0 } else { f64::NAN };
    (s, world.ec2.pages(Api::AssociateAddress) - calls)
}

pub async fn measure() -> Vec<Section> {
    let mut body = String::new();
    let decided = decisions();
    let mut lines = Vec::new();
    if binary().exists() {
        let (swept, ended) = sweeps().await;
        body.push_str(&sweep_text(&swept));
        if let Some(why) = ended {
            body.push_str(&format!("\nIt ended early, {why}\n"));
        }
        let points =
            |figure: fn(&Swept) -> f64| swept.iter().map(|it| (it.clusters as f64, figure(it))).collect::<Vec<_>>();
        lines.push(("sweep, ms", points(|it| it.sweep.median())));
        lines.push(("CPU time of a sweep, ms", points(|it| it.cpu.median())));
        lines.push(("peak memory, MiB", points(|it| it.peak_kib as f64 / 1024.0)));
        lines.push(("EC2 calls a sweep", points(|it| it.calls as f64)));
        lines.push(("sockets at once", points(|it| it.sockets as f64)));
    } else {
        body.push_str(&format!("Sweeps are left out: {NO_FUNCTION}.\n"));
    }
    lines.push((
        "decisions of a sweep, ms",
        decided.iter().map(|it| (it.0 as f64, it.1.median() * it.0 as f64 / 1e3)).collect(),
    ));
    let rows: Vec<Vec<String>> =
        decided.iter().map(|(n, decide, read)| vec![thousands(*n as u64), decide.text(2), read.text(2)]).collect();
    body.push_str(&format!(
        "\nThe core alone, each holder failing so that there is something to decide; median (least to most) of {ROUNDS} rounds:\n\n{}\n",
        table(&["clusters", "to decide one, µs", "to read one out of tags, µs"], &rows)
    ));
    page::picture("scale.svg", &plot::log_log("clusters of two nodes", &lines));
    body.push_str("\n![how each grows, both axes logarithmic](benchmarks/scale.svg)\n");
    let rows: Vec<Vec<String>> = MASSES
        .iter()
        .map(|count| {
            let (s, calls) = mass(*count);
            let allowed = (*count as f64 - 50.0).max(0.0) / 5.0;
            vec![thousands(*count as u64), format!("{s:.1}"), format!("{allowed:.1}"), thousands(calls)]
        })
        .collect();
    body.push_str(&format!(
        "\nAll holders stop at once, in virtual time, at AWS's throttle (AssociateAddress 50, then 5 a second; the account's other calls too), one \
         scheduled watch a minute, calls of 20 to 60 ms; no event is delivered:\n\n{}\n",
        table(&["addresses", "until the last has moved, s", "AWS's rate alone, s", "AssociateAddress calls"], &rows)
    ));
    vec![Section::new("scale", "Scale", "make bench ONLY=scale", body)]
}

fn sweep_text(swept: &[Swept]) -> String {
    let rows: Vec<Vec<String>> = swept
        .iter()
        .map(|it| {
            vec![
                thousands(it.clusters as u64),
                format!("{:.0}", it.first_ms),
                it.sweep.text(0),
                it.cpu.text(0),
                thousands(it.calls),
                format!("{:.1}", it.peak_kib as f64 / 1024.0),
                it.sockets.to_string(),
                format!("{:.2}", it.answer_bytes as f64 / f64::from(1 << 20)),
            ]
        })
        .collect();
    let mut text = format!(
        "The release build of the function; every probe is a connection of its own to a server on loopback, EC2 takes 20 to 60 ms a page. The first sweep \
         knows nothing, probes twice and writes every node's first health tag; then {SWEEPS} sweeps with what the tags remember, median (least to most):\n\n{}\n",
        table(
            &[
                "clusters",
                "first, ms",
                "sweep, ms",
                "CPU of it, ms",
                "EC2 calls",
                "peak memory, MiB",
                "sockets",
                "answer, MiB"
            ],
            &rows
        )
    );
    if let Some(most) = swept.last() {
        let each = most.answer_bytes as f64 / most.clusters as f64;
        let cpu_us = most.cpu.median() * 1_000.0 / most.clusters as f64;
        let rows: Vec<Vec<String>> = [128.0, 256.0, 512.0, 1_769.0]
            .iter()
            .map(|mb| {
                let share = mb / MB_OF_A_CORE;
                // Half of it for probes, with `interval=1s`: the rest is for failures, which probe faster.
                vec![
                    format!("{mb:.0} MB"),
                    format!("{:.0} %", share * 100.0),
                    thousands((share * 0.5e6 / cpu_us) as u64),
                ]
            })
            .collect();
        text.push_str(&format!(
            "\nWhere one function ends: an answer has {each:.0} bytes a cluster and Lambda takes {} MiB, so at {} clusters; CPU sooner. A sweep costs \
             {cpu_us:.0} µs of CPU a cluster, and a watch probes every node each second. At half of the core's share that Lambda gives for memory:\n\n{}\n\n\
             Beyond that, shards: `EIPWATCH_SHARD=0/4`, or a schedule for each with `{{\"shard\":\"0/4\"}}`.\n",
            MAX_ANSWER_BYTES >> 20,
            thousands((MAX_ANSWER_BYTES as f64 / each) as u64),
            table(&["memory", "share of a core", "clusters in one watch"], &rows)
        ));
    }
    text
}
