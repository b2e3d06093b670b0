//! The page and the terminal's picture of a timeline, without a browser: structure, escaping, size. `make check-page` opens the pages that are
//! written here in a real one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eipwatch::core::tags::Verdict;
use eipwatch::core::time::Time;
use eipwatch::timeline::page::MAX_PAGE_BYTES;
use eipwatch::timeline::*;

const START: &str = "2026-11-22T00:00:00Z";
const DAY_MS: u64 = 86_400_000;
const IP: &str = "203.0.113.7";

fn at(ms: u64) -> Time {
    Time::parse(START).unwrap() + Duration::from_millis(ms)
}

/// Lanes that are written from left to right.
struct Lanes {
    to_ms: u64,
    cluster: ClusterLanes,
}

impl Lanes {
    fn new(cluster: &str, ip: &str, names: &[&str], to_ms: u64) -> Lanes {
        let node = |(index, name): (usize, &&str)| NodeLane {
            id: format!("i-0{index}c1d2e3f4a5b6c7{index}"),
            name: Some((*name).to_owned()),
            zone: Some(format!("eu-west-1{}", ["a", "b", "c"][index % 3])),
            verdicts: Vec::new(),
            evidence: Vec::new(),
        };
        let address =
            AddressLane { public_ip: ip.to_owned(), held: Vec::new(), outages: Vec::new(), decisions: Vec::new() };
        let nodes = names.iter().enumerate().map(node).collect();
        Lanes { to_ms, cluster: ClusterLanes { cluster: cluster.to_owned(), addresses: vec![address], nodes } }
    }

    fn verdict(&mut self, node: usize, from_ms: u64, verdict: Verdict, text: &str) {
        let verdicts = &mut self.cluster.nodes[node].verdicts;
        if let Some(last) = verdicts.last_mut() {
            last.to = at(from_ms);
        }
        verdicts.push(Stretch { from: at(from_ms), to: at(self.to_ms), verdict, beside: None, text: text.to_owned() });
    }

    fn seen(&mut self, node: usize, at_ms: u64, kind: &str, text: &str) {
        let moment = Moment { at: at(at_ms), kind: kind.to_owned(), text: text.to_owned(), vetoes: Vec::new() };
        self.cluster.nodes[node].evidence.push(moment);
    }

    fn held(&mut self, from_ms: u64, node: Option<usize>, why: Option<&str>, text: &str) {
        let node = node.map(|node| self.cluster.nodes[node].id.clone());
        let held = &mut self.cluster.addresses[0].held;
        if let Some(last) = held.last_mut() {
            last.to = at(from_ms);
        }
        let (why, text) = (why.map(str::to_owned), text.to_owned());
        held.push(Hold { from: at(from_ms), to: at(self.to_ms), node, why, text });
    }

    fn decided(&mut self, at_ms: u64, kind: &str, text: &str, vetoes: &[&str]) {
        let vetoes = vetoes.iter().map(|veto| (*veto).to_owned()).collect();
        self.cluster.addresses[0].decisions.push(Moment {
            at: at(at_ms),
            kind: kind.to_owned(),
            text: text.to_owned(),
            vetoes,
        });
    }

    fn outage(&mut self, from_ms: u64, to_ms: u64, text: &str) {
        self.cluster.addresses[0].outages.push(Outage { from: at(from_ms), to: at(to_ms), text: text.to_owned() });
    }

    /// The service of `from` dies; `after_ms` later, for `fall` failed probes, the address is on `to`; `back_ms` later `from` serves again.
    fn failover(&mut self, start_ms: u64, from: usize, to: usize, fall: u64, back_ms: u64) -> Incident {
        let (was, will) = (self.cluster.nodes[from].clone(), self.cluster.nodes[to].clone());
        let (was, will) = (was.name.unwrap(), will.name.unwrap());
        self.seen(from, start_ms, "fault", "The service was killed: nobody listens on port 8080.");
        let mut failed_ms = start_ms + 400;
        self.verdict(from, failed_ms, Verdict::Suspect, "1 of 3 probes failed: http:8080/health: connection refused");
        for n in 0..fall {
            self.seen(from, failed_ms, "probe-failed", "http:8080/health: connection refused after 1 ms");
            if n + 1 < fall {
                failed_ms += 500;
            }
        }
        self.verdict(
            from,
            failed_ms,
            Verdict::Unhealthy,
            &format!("{fall} probes in a row failed: http:8080/health: connection refused"),
        );
        let text = format!(
            "{was} is unhealthy (http:8080/health: connection refused), {will} is healthy: {IP} moves to {will}."
        );
        self.decided(failed_ms, "holder-unhealthy", &text, &[&format!("{was}: unhealthy"), "web-3: drain"]);
        let moved_ms = failed_ms + 480;
        self.held(moved_ms, Some(to), Some("holder-unhealthy"), &text);
        self.outage(start_ms, moved_ms, &format!("{was} held the address and did not serve."));
        let mut after_ms = failed_ms + 1_000;
        while after_ms < start_ms + back_ms {
            self.seen(from, after_ms, "probe-failed", "http:8080/health: connection refused after 1 ms");
            after_ms += 1_000;
        }
        self.seen(from, start_ms + back_ms, "passed", "http:8080/health: 2 passed, the slowest in 3 ms");
        self.verdict(from, start_ms + back_ms + 1_000, Verdict::Healthy, "2 probes in a row passed: 200 in 3 ms");
        let title = format!("{was} unhealthy: {IP} moved to {will} in {:.1} s", (moved_ms - start_ms) as f64 / 1_000.0);
        Incident { from: at(start_ms), to: at(moved_ms), cluster: self.cluster.cluster.clone(), title }
    }

    /// Counts of passed probes, a line a minute for each node that is healthy then, as the log has them.
    fn passes(&mut self) {
        for node in &mut self.cluster.nodes {
            for minute in 1..self.to_ms / 60_000 {
                let when = at(minute * 60_000);
                let healthy = node
                    .verdicts
                    .iter()
                    .any(|one| one.from <= when && when < one.to && one.verdict == Verdict::Healthy);
                if healthy {
                    let text = format!("http:8080/health: 55 passed, the slowest in {} ms", 3 + minute % 17);
                    node.evidence.push(Moment { at: when, kind: "passed".to_owned(), text, vetoes: Vec::new() });
                }
            }
            node.evidence.sort_by_key(|one| one.at);
        }
    }
}

/// The log of a day with three incidents: as it was, and decided again with fewer failed probes.
fn day() -> Timeline {
    let run = |name: &str, text: &str, fall: u64| {
        let mut web = Lanes::new("web", IP, &["web-1", "web-2", "web-3"], DAY_MS);
        for node in 0..3 {
            web.verdict(node, 0, Verdict::Unknown, "nothing is known of it yet");
            web.verdict(node, 1_500, Verdict::Healthy, "2 probes in a row passed: 200 in 3 ms");
        }
        web.held(0, Some(0), None, "It was there already.");
        let mut incidents = vec![
            web.failover(7 * 3_600_000 + 1_802_250, 0, 1, fall, 95_000),
            web.failover(13 * 3_600_000 + 44_000, 1, 0, fall, 42_000),
            web.failover(21 * 3_600_000 + 3_540_000, 0, 1, fall, 1_200_000),
        ];
        web.seen(2, 15 * 3_600_000, "notice", "rebalance recommendation: spot capacity is getting scarce");
        let mut db = Lanes::new("db", "203.0.113.9", &["db-1", "db-2"], DAY_MS);
        for node in 0..2 {
            db.verdict(node, 0, Verdict::Healthy, "tcp:5432 connected");
        }
        db.held(0, Some(1), None, "It was there already.");
        let mut figures = Figures::default();
        for incident in &incidents {
            let ms = incident.to.as_millis() - incident.from.as_millis();
            figures.outage_ms.push(ms);
            figures.detect_ms.push(ms - 480);
        }
        figures.moves = 3;
        if fall < 3 {
            let hiccup_ms = 4 * 3_600_000 + 120_000;
            let mut early = web.failover(hiccup_ms, 0, 1, fall, 1_500);
            early.title = format!("web-1 had a hiccup of 1.5 s: {IP} moved for nothing");
            let address = &mut web.cluster.addresses[0];
            address.held.sort_by_key(|one| one.from);
            address.outages.sort_by_key(|one| one.from);
            address.decisions.sort_by_key(|one| one.at);
            incidents.insert(0, early);
            figures.moves += 1;
            figures.needless = 1;
        }
        web.passes();
        db.passes();
        Run {
            name: name.to_owned(),
            text: text.to_owned(),
            figures,
            clusters: vec![db.cluster, web.cluster],
            incidents,
        }
    };
    let streak = Streak {
        cluster: "web".to_owned(),
        node: "i-00c1d2e3f4a5b6c70".to_owned(),
        name: Some("web-1".to_owned()),
        check: "http:8080/health".to_owned(),
        from: at(4 * 3_600_000 + 120_400),
        to: at(4 * 3_600_000 + 120_900),
        fails: 2,
        fall: 3,
        text: "connection refused".to_owned(),
    };
    let slow = SlowAnswer {
        cluster: "web".to_owned(),
        node: "i-01c1d2e3f4a5b6c71".to_owned(),
        name: Some("web-2".to_owned()),
        check: "http:8080/health".to_owned(),
        at: at(17 * 3_600_000),
        took_ms: 870,
        timeout_ms: 1_000,
    };
    let suggestion = Suggestion {
        cluster: "web".to_owned(),
        policy: "timeout=2s".to_owned(),
        current: false,
        text: "The slowest answer took 870 ms of 1 s; with fall=2 a hiccup at 04:02 would have moved the address."
            .to_owned(),
    };
    Timeline {
        title: "Log of 2026-11-22, function eipwatch".to_owned(),
        notes: vec![
            "With fall=2 the function would have probed at other times after 04:02:00.900: from there on the second run is approximate.".to_owned(),
            "The log does not tell when clients were served: outages are from the first failed probe to the move.".to_owned(),
        ],
        from: at(0),
        to: at(DAY_MS),
        runs: vec![
            run("as it was", "", 3),
            run("fall=2", "It would have moved 0.5 s earlier, and once more for nothing.", 2),
        ],
        trade_off: None,
        near: Some(NearMisses { streaks: vec![streak], slow: vec![slow], suggestions: vec![suggestion] }),
    }
}

/// A quarter of an hour of a simulation: several policies, and what they trade.
fn simulated() -> Timeline {
    let length_ms = 900_000;
    let run = |fall: u64| {
        let mut web = Lanes::new("web", IP, &["web-1", "web-2"], length_ms);
        for node in 0..2 {
            web.verdict(node, 0, Verdict::Healthy, "2 probes in a row passed: 200 in 0 ms");
        }
        web.held(0, Some(0), None, "It was there already.");
        let incident = web.failover(20_000, 0, 1, fall, 30_000);
        let outage_ms = incident.to.as_millis() - incident.from.as_millis();
        let figures =
            Figures { detect_ms: vec![outage_ms - 480], outage_ms: vec![outage_ms], moves: 1, ..Figures::default() };
        Run {
            name: format!("fall={fall}"),
            text: String::new(),
            figures,
            clusters: vec![web.cluster],
            incidents: vec![incident],
        }
    };
    let mut points = Vec::new();
    for fall in 1..=5_u64 {
        for (interval, rate) in [("500ms", 2.0), ("1s", 1.4), ("2s", 1.0), ("5s", 0.7)] {
            let every_ms: u64 = humantime::parse_duration(interval).unwrap().as_millis().try_into().unwrap();
            points.push(TradePoint {
                name: format!("fall={fall} interval={interval}"),
                outage_ms: Some(480 + every_ms / 2 + (fall - 1) * 500),
                needless_per_day: rate * 40.0 / 5_f64.powi(i32::try_from(fall).unwrap()),
                current: fall == 3 && interval == "1s",
            });
        }
    }
    points.push(TradePoint {
        name: "fall=20 timeout=30s".to_owned(),
        outage_ms: None,
        needless_per_day: 0.0,
        current: false,
    });
    Timeline {
        title: "dead-service: the service of the holder dies".to_owned(),
        notes: Vec::new(),
        from: at(0),
        to: at(length_ms),
        runs: vec![run(3), run(2), run(5)],
        trade_off: Some(TradeOff {
            text: "4 transient faults an hour on each node, of 0.5 to 3 s; 200 hours; 50 failures.".to_owned(),
            points,
        }),
        near: None,
    }
}

/// What breaks out of HTML, scripts, styles and lines, and what turns the direction of writing.
const HOSTILE: &str = "</script><script>document.title='owned'</script>\"><img src=x onerror=document.title='owned'>&lt;' \u{202e}`${1}` --\u{1b}[31m\r\n<!--";

/// A timeline whose every text is hostile.
fn hostile() -> Timeline {
    let mut timeline = simulated();
    timeline.title = HOSTILE.to_owned();
    timeline.notes = vec![HOSTILE.to_owned()];
    for run in &mut timeline.runs {
        run.name = HOSTILE.to_owned();
        run.text = HOSTILE.to_owned();
        for incident in &mut run.incidents {
            incident.title = HOSTILE.to_owned();
            incident.cluster = HOSTILE.to_owned();
        }
        for cluster in &mut run.clusters {
            cluster.cluster = HOSTILE.to_owned();
            for address in &mut cluster.addresses {
                address.public_ip = HOSTILE.to_owned();
                for hold in &mut address.held {
                    hold.why = Some(HOSTILE.to_owned());
                    hold.text = HOSTILE.to_owned();
                }
                address.held[0].node = Some(HOSTILE.to_owned());
                address.outages.iter_mut().for_each(|one| one.text = HOSTILE.to_owned());
                for one in &mut address.decisions {
                    one.kind = HOSTILE.to_owned();
                    one.text = HOSTILE.to_owned();
                    one.vetoes = vec![HOSTILE.to_owned()];
                }
            }
            for node in &mut cluster.nodes {
                node.name = Some(HOSTILE.to_owned());
                node.zone = Some(HOSTILE.to_owned());
                for stretch in &mut node.verdicts {
                    stretch.beside = Some(HOSTILE.to_owned());
                    stretch.text = HOSTILE.to_owned();
                }
                for one in &mut node.evidence {
                    one.text = HOSTILE.to_owned();
                }
                node.evidence[0].kind = HOSTILE.to_owned();
                node.id = HOSTILE.to_owned();
                break;
            }
        }
    }
    for point in &mut timeline.trade_off.as_mut().unwrap().points {
        point.name = HOSTILE.to_owned();
    }
    let mut near = day().near;
    for near in &mut near {
        near.streaks[0].cluster = HOSTILE.to_owned();
        near.streaks[0].name = Some(HOSTILE.to_owned());
        near.streaks[0].check = HOSTILE.to_owned();
        near.streaks[0].text = HOSTILE.to_owned();
        near.slow[0].node = HOSTILE.to_owned();
        near.slow[0].name = None;
        near.suggestions[0].policy = HOSTILE.to_owned();
        near.suggestions[0].text = HOSTILE.to_owned();
    }
    timeline.near = near;
    timeline
}

/// A day in which a node flaps without end, in many clusters: far more than fits.
fn endless() -> Timeline {
    let clusters = (0..40).map(|number| {
        let mut lanes =
            Lanes::new(&format!("c{number}"), &format!("203.0.113.{number}"), &["one", "two", "three"], DAY_MS);
        lanes.held(0, Some(0), None, "It was there already.");
        for node in 0..3 {
            for n in 0..600 {
                let from_ms = n * 144_000;
                lanes.verdict(node, from_ms, Verdict::Healthy, "2 probes in a row passed");
                lanes.verdict(node, from_ms + 72_000, Verdict::Suspect, "a probe failed");
                lanes.seen(node, from_ms + 72_000, "probe-failed", "tcp:5432: connection refused & <reset>");
                lanes.seen(node, from_ms + 73_000, "passed", "tcp:5432: 70 passed");
            }
        }
        lanes.cluster
    });
    let incident =
        Incident { from: at(3_600_000), to: at(3_700_000), cluster: "c7".to_owned(), title: "c7 flaps".to_owned() };
    let run = Run {
        name: "as it was".to_owned(),
        text: String::new(),
        figures: Figures::default(),
        clusters: clusters.collect(),
        incidents: vec![incident],
    };
    let runs = (0..3).map(|_| run.clone()).collect();
    Timeline {
        title: "A bad day".to_owned(),
        notes: Vec::new(),
        from: at(0),
        to: at(DAY_MS),
        runs,
        trade_off: None,
        near: None,
    }
}

/// Nothing at all.
fn empty() -> Timeline {
    Timeline {
        title: String::new(),
        notes: Vec::new(),
        from: at(0),
        to: at(0),
        runs: Vec::new(),
        trade_off: None,
        near: None,
    }
}

fn samples() -> [(&'static str, Timeline); 5] {
    [("day", day()), ("simulated", simulated()), ("hostile", hostile()), ("endless", endless()), ("empty", empty())]
}

/// Where `make check-page` looks for pages.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages")
}

#[test]
fn pages_are_written_for_the_browser_and_fit() {
    fs::create_dir_all(folder()).unwrap();
    for (name, timeline) in samples() {
        let html = page::render(&timeline);
        println!("{name}: {} bytes", html.len());
        assert!(html.len() < MAX_PAGE_BYTES, "{name} has {} bytes", html.len());
        fs::write(folder().join(format!("{name}.html")), html).unwrap();
    }
}
