//! Detection and outage: real processes, faults, and a client that measures through the Elastic IP.

use std::net::Ipv4Addr;
use std::time::Duration;

use eipwatch::embedded::Rule;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::net;
use crate::page::Section;
use crate::pair::Pair;
use crate::table::{Sample, table};
use crate::watchers::{self, Kind};

/// For how long EC2's API is down in that case.
const API_DOWN: Duration = Duration::from_secs(20);
/// After so long an outage counts as not survived.
const GIVE_UP: Duration = Duration::from_secs(40);
/// The longest pause between two probes, checks or heartbeats of any of them: faults are spread evenly over it.
const PHASES: Duration = Duration::from_secs(1);
/// How long a node that has announced that it leaves goes on serving.
const LEAVES_AFTER: Duration = Duration::from_secs(8);

const DEFAULT: Kind = Kind::Eipwatch { policy: "" };
const AGGRESSIVE: Kind = Kind::Eipwatch { policy: AGGRESSIVE_POLICY };
const AGGRESSIVE_POLICY: &str = "interval=250ms fast=100ms timeout=500ms";
const KEEPALIVED: Kind = Kind::Keepalived { fall: 1, rise: 1 };
const STEADY_KEEPALIVED: Kind = Kind::Keepalived { fall: 3, rise: 2 };

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Dead,
    Hung,
    Unreachable,
    Leave,
    Event,
    ApiDown,
}

impl Trouble {
    const ALL: [Trouble; 6] =
        [Trouble::Dead, Trouble::Hung, Trouble::Unreachable, Trouble::Leave, Trouble::Event, Trouble::ApiDown];

    fn text(self) -> &'static str {
        match self {
            Trouble::Dead => "dead service",
            Trouble::Hung => "hung service",
            Trouble::Unreachable => "unreachable node",
            Trouble::Leave => "graceful leave",
            Trouble::Event => "stopped node, state-change event",
            Trouble::ApiDown => "dead service, EC2 API down for 20 s: after its return",
        }
    }

    /// What the issue wants of the default policy, in seconds.
    fn wanted_s(self) -> f64 {
        match self {
            Trouble::Dead => 1.6,
            Trouble::Hung | Trouble::Unreachable => 2.6,
            Trouble::Leave => 0.0,
            Trouble::Event => 0.3,
            Trouble::ApiDown => 1.0,
        }
    }
}

/// What can be measured of whom: the others know no state-change event, and Heartbeat looks at nodes, not at services.
fn cases() -> Vec<(Kind, Trouble)> {
    let mut all: Vec<_> = Trouble::ALL.into_iter().map(|trouble| (DEFAULT, trouble)).collect();
    for trouble in [Trouble::Dead, Trouble::Hung, Trouble::Unreachable] {
        all.push((AGGRESSIVE, trouble));
    }
    for kind in [KEEPALIVED, STEADY_KEEPALIVED] {
        for trouble in [Trouble::Dead, Trouble::Hung, Trouble::Unreachable, Trouble::Leave, Trouble::ApiDown] {
            all.push((kind, trouble));
        }
    }
    for trouble in [Trouble::Dead, Trouble::Unreachable, Trouble::Leave] {
        all.push((Kind::Heartbeat, trouble));
    }
    all
}

fn name(kind: Kind) -> &'static str {
    match kind {
        DEFAULT => "eipwatch",
        Kind::Eipwatch { .. } => "eipwatch, aggressive",
        Kind::Keepalived { fall: 1, .. } => "keepalived, as it comes (fall 1)",
        Kind::Keepalived { .. } => "keepalived, fall 3, rise 2",
        Kind::Heartbeat => "Heartbeat",
    }
}

/// What came of one case: outages in seconds; `None`: not survived.
struct Found {
    kind: Kind,
    trouble: Trouble,
    outages: Vec<Option<f64>>,
}

/// Measures each case on so many pairs, so many of them side by side, and only those whose name contains the third.
fn extent() -> (usize, usize, String) {
    let number = |name: &str, or: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let only = std::env::var("EIPWATCH_BENCH_CASE").unwrap_or_default();
    (number("EIPWATCH_BENCH_COUNT", 10), number("EIPWATCH_BENCH_WIDTH", 10), only)
}

pub async fn measure() -> Vec<Section> {
    let (count, width, only) = extent();
    let hub = net::hub();
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    let mut number = 0;
    for (kind, trouble) in cases() {
        if !format!("{} / {}", name(kind), trouble.text()).contains(&only) {
            continue;
        }
        if let Some(why) = kind.missing() {
            left_out.push(format!("{}, {}: {why}", name(kind), trouble.text()));
            continue;
        }
        if trouble == Trouble::Unreachable && !net::is_inside() {
            left_out.push(format!(
                "{}, {}: it needs network namespaces, and those need root",
                name(kind),
                trouble.text()
            ));
            continue;
        }
        let mut outages = Vec::new();
        while outages.len() < count {
            let batch = width.min(count - outages.len());
            let mut started = Vec::new();
            for _ in 0..batch {
                number = number % 250 + 1;
                started.push(start(kind, number, hub));
            }
            let started = join_all(started).await;
            let runs = started.into_iter().enumerate().map(|(n, (pair, watcher))| {
                let phase = PHASES.mul_f64((outages.len() + n) as f64 / count as f64);
                one(trouble, pair, watcher, phase)
            });
            outages.extend(join_all(runs).await);
        }
        let survived = Sample::new(outages.iter().flatten().copied());
        println!("{:<34} {:<54} {}", name(kind), trouble.text(), survived.text(2));
        found.push(Found { kind, trouble, outages });
    }
    vec![section(&found, &left_out, count)]
}

async fn start(kind: Kind, number: u8, hub: Ipv4Addr) -> (Pair, watchers::Watcher) {
    let pair = Pair::start(number, hub, kind.policy()).await;
    let watcher = watchers::start(kind, &pair).await;
    (pair, watcher)
}

async fn one(trouble: Trouble, mut pair: Pair, mut watcher: watchers::Watcher, phase: Duration) -> Option<f64> {
    sleep(phase).await;
    let begun = Instant::now();
    let mut beside = None;
    match trouble {
        Trouble::Dead => pair.kill().await,
        Trouble::Hung => pair.hang(),
        Trouble::Unreachable => pair.hosts[0].cut_off(),
        Trouble::Leave => {
            watcher.leave(&pair).await;
            sleep(LEAVES_AFTER).await;
            pair.kill().await;
        }
        Trouble::Event => {
            pair.kill().await;
            let now_ms = pair.ec2.now_ms();
            pair.ec2.world.borrow_mut().stop_instance(&pair.nodes[0], now_ms);
            let event = json!({
                "version": "0", "detail-type": "EC2 Instance State-change Notification", "source": "aws.ec2",
                "time": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
                "resources": [format!("arn:aws:ec2:eu-west-1:123456789012:instance/{}", pair.nodes[0])],
                "detail": {"instance-id": &*pair.nodes[0], "state": "stopping"}
            });
            beside = Some(watchers::invoke(&pair, event).await);
        }
        Trouble::ApiDown => {
            let (from_ms, down_ms) = (pair.ec2.now_ms(), u64::try_from(API_DOWN.as_millis()).unwrap());
            let rule = Rule::error("Unavailable").between(from_ms, from_ms + down_ms);
            pair.ec2.world.borrow_mut().faults_mut().push(rule);
            pair.kill().await;
        }
    }
    let moved = pair.until_moved(GIVE_UP).await;
    let outage = pair.client.tries.borrow().outage(begun, Instant::now());
    let mut outage_s = outage.outage_ms as f64 / 1_000.0;
    if trouble == Trouble::ApiDown {
        outage_s -= API_DOWN.as_secs_f64();
    }
    drop((watcher, beside));
    moved.then_some(outage_s)
}

fn section(found: &[Found], left_out: &[String], count: usize) -> Section {
    let median = |kind: Kind, trouble: Trouble| {
        let all = found.iter().find(|it| it.kind == kind && it.trouble == trouble)?;
        let survived = all.outages.iter().flatten().count() * 2 > all.outages.len();
        survived.then(|| Sample::new(all.outages.iter().flatten().copied()).median())
    };
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|it| {
            let sample = Sample::new(it.outages.iter().flatten().copied());
            let ours = median(DEFAULT, it.trouble);
            let ratio = match (it.kind, ours) {
                (DEFAULT, _) => format!("wanted {:.1} s", it.trouble.wanted_s()),
                (_, Some(ours)) if sample.count() > 0 && ours > 0.0 => format!("{:.2} ×", sample.median() / ours),
                _ => String::new(),
            };
            let lost = it.outages.len() - sample.count();
            let figures = match sample.count() {
                0 => format!("not survived within {} s", GIVE_UP.as_secs()),
                _ if lost > 0 => format!("{}; {lost} of {} not survived", sample.text(2), it.outages.len()),
                _ => sample.text(2),
            };
            vec![it.trouble.text().to_owned(), name(it.kind).to_owned(), figures, ratio]
        })
        .collect();
    let mut sorted = Vec::new();
    for trouble in Trouble::ALL {
        sorted.extend(rows.iter().filter(|row| row[0] == trouble.text()).cloned());
    }
    let mut body = format!(
        "A client asks 50 times a second through the Elastic IP, a new connection each time. The outage is from its last good answer to its next. \
         Each case {count} times, on new pairs, the fault at another moment of the second; median (least to most), in seconds. \
         Nodes are processes in network namespaces of their own, EC2 is the embedded one over HTTP and takes 20 to 60 ms a call, for all alike.\n\n{}\n",
        table(&["fault", "watcher", "outage, s", "against eipwatch's default"], &sorted)
    );
    body.push_str(&format!(
        "\n- eipwatch: the release build of `eipwatch-lambda` behind a Lambda Runtime API, in a scheduled watch, policy all defaults; \
         aggressive: `{AGGRESSIVE_POLICY}`. The event and the leave (`{{\"action\":\"drain\"}}`) start a function of their own, as Lambda does; \
         its start is in the figure, EventBridge's delay is not.\n\
         - keepalived: unicast VRRP, `advert_int 1`, a `vrrp_script` with curl each second, `nopreempt`, a notify script. As it comes, one failed check \
         moves the address; with `fall 3` it is as patient as eipwatch's default.\n\
         - Heartbeat: `keepalive 1`, `deadtime 10`, an init script in `haresources`. It watches nodes: a dead service it does not see.\n\
         - The scripts call EC2 with curl, which spares them the aws command's start, and try again for a minute.\n\
         - Graceful leave: the service goes on for {} s after the announcement, then it is killed.\n",
        LEAVES_AFTER.as_secs()
    ));
    for line in left_out {
        body.push_str(&format!("- Left out: {line}.\n"));
    }
    Section::new("outage", "Detection and outage", "make bench ONLY=outage", body)
}
