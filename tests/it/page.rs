//! The page and the terminal's picture of a timeline, without a browser: structure, escaping, size. `make check-page` opens the pages that are
//! written here in a real one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use eipwatch::cli::paint::Paint;
use eipwatch::cli::render::Page;
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
        let mut incidents = Vec::new();
        if fall < 3 {
            let mut early = web.failover(4 * 3_600_000 + 120_000, 0, 1, fall, 1_500);
            early.title = format!("web-1 had a hiccup of 1.5 s: {IP} moved for nothing");
            incidents.push(early);
            web.decided(5 * 3_600_000, "manual", "An operator moved it back.", &[]);
            web.held(5 * 3_600_000 + 400, Some(0), Some("manual"), "An operator moved it back.");
        }
        incidents.extend([
            web.failover(7 * 3_600_000 + 1_802_250, 0, 1, fall, 95_000),
            web.failover(13 * 3_600_000 + 44_000, 1, 0, fall, 42_000),
            web.failover(21 * 3_600_000 + 3_540_000, 0, 1, fall, 1_200_000),
        ]);
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
        (figures.moves, figures.needless) = if fall < 3 { (5, 1) } else { (3, 0) };
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
            for node in cluster.nodes.iter_mut().take(1) {
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
            }
            cluster.nodes[0].id = HOSTILE.to_owned();
        }
    }
    for point in &mut timeline.trade_off.as_mut().unwrap().points {
        point.name = HOSTILE.to_owned();
    }
    let mut near = day().near;
    if let Some(near) = &mut near {
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
            for n in 0..300 {
                let from_ms = n * 288_000;
                lanes.verdict(node, from_ms, Verdict::Healthy, "2 probes in a row passed");
                lanes.verdict(node, from_ms + 144_000, Verdict::Suspect, "a probe failed");
                lanes.seen(node, from_ms + 144_000, "probe-failed", "tcp:5432: connection refused & <reset>");
                lanes.seen(node, from_ms + 145_000, "passed", "tcp:5432: 70 passed");
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
        assert!(html.len() < MAX_PAGE_BYTES, "{name} has {} bytes", html.len());
        fs::write(folder().join(format!("{name}.html")), html).unwrap();
    }
}

/// The numbers behind `--f:` and `--w:`: where the picture begins, and how much it shows.
fn view(html: &str) -> (u64, u64) {
    let style = html.split("id=\"picture\" style=\"").nth(1).unwrap().split('"').next().unwrap();
    let number = |name: &str| style.split(name).nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    (number("--f:"), number("--w:"))
}

#[test]
fn the_page_opens_at_the_first_incident_of_the_first_run() {
    let timeline = day();
    let html = page::render(&timeline);
    let (from_ms, width_ms) = view(&html);
    let began_ms = timeline.runs[0].incidents[0].from.since(timeline.from).as_millis() as u64;
    assert!(from_ms < began_ms && began_ms < from_ms + width_ms, "{from_ms} + {width_ms}");
    assert!(width_ms <= 20_000, "{width_ms} ms hide an incident of 2 s");
    // The other incidents are links, in the order of runs.
    for number in 1..=7 {
        assert!(html.contains(&format!("href=\"#incident-{number}\"")), "{number}");
        assert!(html.contains(&format!("id=\"incident-{number}\"")), "{number}");
    }
    let nothing = page::render(&Timeline { runs: Vec::new(), ..timeline });
    assert_eq!(view(&nothing), (0, DAY_MS));
}

#[test]
fn each_mark_is_a_button_that_tells_what_when_and_why() {
    let html = page::render(&day());
    let lane = html.split("aria-label=\"who holds 203.0.113.7\"").nth(1).unwrap().split("</div>").next().unwrap();
    let marks: Vec<&str> = lane.split("<button ").skip(1).collect();
    assert_eq!(marks.len(), 4, "{lane}");
    assert!(
        marks[1].contains("<b>B web-2</b> <i>07:30:04.130 to 13:00:45.880, 5 h 30 min</i> <span>holder-unhealthy: "),
        "{}",
        marks[1]
    );
    let lane =
        html.split("aria-label=\"when 203.0.113.7 did not serve\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(
        lane.contains("<b>no service 1.9 s</b>")
            && lane.contains("<span>web-1 held the address and did not serve.</span>"),
        "{lane}"
    );
    let lane =
        html.split("aria-label=\"what was decided about 203.0.113.7\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(lane.contains("<small>web-3: drain</small>"), "{lane}");
}

#[test]
fn what_was_folded_is_said() {
    let html = page::render(&day());
    assert!(
        html.contains("marks are folded into others"),
        "1,440 counts of passed probes a node are not shown one by one"
    );
    assert!(html.contains("450 × passed"), "the count stays");
    let html = page::render(&endless());
    assert!(html.contains("Lanes of 10 clusters are not shown: c3"), "30 of 40 clusters are shown");
    // What matters is not folded: the cluster with the incident comes first, its marks within the incident one by one.
    assert!(html.find("cluster c7").unwrap() < html.find("cluster c0").unwrap());
    assert!(html.contains("<b>probe failed</b> <i>01:00:00.000</i>"), "within the incident marks stand alone");
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let html = page::render(&hostile());
    assert_eq!(html.matches("<script").count(), 1, "the page's own");
    assert_eq!(html.matches("<style").count(), 1, "the page's own");
    assert!(!html.contains("<img") && !html.contains("<!--"), "no element, no comment");
    assert!(!html.contains('\u{202e}') && !html.contains('\u{1b}'), "nothing that turns or steers");
    assert!(html.contains("&lt;/script&gt;&lt;script&gt;document.title='owned'"), "it is shown as it is");
    assert!(html.contains("&amp;lt;"), "what looks escaped is escaped once more");
}

/// Text becomes markup in one place, which takes constants only.
#[test]
fn escaping_cannot_be_forgotten() {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/timeline")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                found.extend(
                    source.lines().filter(|line| line.contains("PreEscaped(")).map(|line| line.trim().to_owned()),
                );
            }
        }
    }
    assert_eq!(
        found,
        ["PreEscaped(text)"],
        "only `verbatim` makes markup of text, and only of what was written with the program"
    );
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/timeline/page/mod.rs")).unwrap();
    assert!(source.contains("fn verbatim(text: &'static str)"));
}

#[test]
fn the_page_asks_for_nothing() {
    for (name, timeline) in [("day", day()), ("simulated", simulated()), ("hostile", hostile())] {
        let html = page::render(&timeline);
        for word in ["://", "url(", "@import", "srcset", "<link", "<iframe", "fetch(", "XMLHttpRequest"] {
            assert!(!html.contains(word), "{name} has {word}");
        }
        assert!(html.contains("default-src 'none'"), "{name}");
    }
}

#[test]
fn the_terminal_shows_the_same_within_its_width() {
    for width in [80, 100, 120] {
        for (name, timeline) in samples() {
            let plain = text::render(&timeline, Page { paint: Paint::PLAIN, width });
            let long: Vec<&str> = plain.lines().filter(|line| line.chars().count() > width).collect();
            // A word that is longer than the line is not cut.
            let long: Vec<_> =
                long.into_iter().filter(|line| line.split_whitespace().all(|word| word.len() < 40)).collect();
            assert!(long.is_empty(), "{name}: {long:#?}");
            assert!(!plain.contains('\u{1b}'), "{name}: no colour unless asked for");
            let coloured = text::render(&timeline, Page { paint: Paint::COLOURED, width });
            let mut stripped = String::new();
            for (place, part) in coloured.split('\u{1b}').enumerate() {
                stripped.push_str(if place == 0 { part } else { part.split_once('m').unwrap().1 });
            }
            let trim = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            assert_eq!(trim(&stripped), trim(&plain), "{name}: colour adds nothing but colour");
        }
    }
    let shown = text::render(&day(), Page { paint: Paint::PLAIN, width: 80 });
    for needed in [
        "3 incidents, as it was\n  1. 07:30:02  web-1 unhealthy: 203.0.113.7 moved to web-2 in 1.9 s\n",
        "\n203.0.113.7       AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBBBBBBBBBBBB\n  no service                                ##########\n  decided                                          >\n",
        "\nA web-1           ............................sssssUUUUUUUUUUUUUUUUUUUUUUUUUUUUU\n",
        "\n  07:30:04.130  203.0.113.7: held by B web-2\n",
        "\n  Without incidents: db\n",
        "web-1 failed 2 of 3 times",
    ] {
        assert!(shown.contains(needed), "{needed}\nis not in\n{shown}");
    }
    let shown = text::render(&simulated(), Page { paint: Paint::PLAIN, width: 80 });
    assert!(shown.contains("\n  @ fall=3 interval=1s: outage 2.0 s, 0.448 needless moves a day\n"), "{shown}");
    assert!(shown.contains("\n       20|\n") && shown.contains("median outage"), "{shown}");
}

#[test]
fn the_command_writes_the_page() {
    fs::create_dir_all(folder()).unwrap();
    let path = folder().join("command.html");
    let simulate = |html: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eipwatch"));
        command.args(["simulate", "dead-service", "--policy", "fall=2", "--html"]).arg(html).output().unwrap()
    };
    let output = simulate(&path);
    assert!(output.status.success(), "{output:?}");
    let html = fs::read_to_string(path).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("no service"), "{html}");
    assert!(html.len() < MAX_PAGE_BYTES, "{}", html.len());
    let output = simulate(&folder().join("no-such-folder/page.html"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot be written"));
}
