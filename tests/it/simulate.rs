//! `eipwatch simulate`: the scenarios that come with it, and how it is typed.

use std::process::{Command, Stdio};

use eipwatch::simulate::{CLASSICS, Played, compare, scenario};
use eipwatch::timeline::Timeline;
use serde_json::Value;

/// Exit status, standard output, standard error.
pub fn eipwatch(args: &[&str], input: Option<&std::path::Path>) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eipwatch"));
    command.args(args).env_remove("COLUMNS").stdin(Stdio::null());
    if let Some(path) = input {
        command.stdin(std::fs::File::open(path).unwrap());
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A file that is there as long as it is needed.
pub struct Scratch(pub std::path::PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("eipwatch-it-{}-{name}", std::process::id())))
    }

    pub fn with(name: &str, text: impl AsRef<[u8]>) -> Scratch {
        let scratch = Scratch::new(name);
        std::fs::write(&scratch.0, text).unwrap();
        scratch
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub fn play(text: &str, policies: &[&str]) -> (Timeline, Vec<Played>) {
    let scenario = scenario::parse(text).unwrap();
    let policies: Vec<String> = policies.iter().map(|policy| (*policy).to_owned()).collect();
    compare(&scenario, &policies, false)
}

fn classic(name: &str) -> &'static str {
    CLASSICS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// Moves, needless ones, and the outages in milliseconds.
fn sum(played: &Played) -> (u32, u32, Vec<u64>) {
    let figures = &played.run.figures;
    (figures.moves, figures.needless, figures.outage_ms.clone())
}

#[test]
fn a_dead_service_is_left_and_fall_2_is_half_a_second_quicker() {
    let (timeline, played) = play(classic("dead-service"), &["", "fall=2"]);
    let (moves, needless, outages) = sum(&played[0]);
    assert_eq!((moves, needless, outages.len()), (1, 0, 1));
    // The fault comes 10 s into a watch whose probes start each second.
    assert!((1_000..=2_100).contains(&outages[0]), "{outages:?}");
    let quicker = sum(&played[1]).2[0];
    assert!((400..=600).contains(&(outages[0] - quicker)), "{outages:?}, {quicker}");
    assert!(timeline.runs[1].text.contains("500 ms earlier"), "{}", timeline.runs[1].text);
    let lane = &timeline.runs[0].clusters[0];
    assert_eq!(lane.addresses[0].held.len(), 2);
    assert_eq!(lane.addresses[0].held[1].why.as_deref(), Some("holder-unhealthy"));
    assert!(lane.nodes[0].evidence.iter().any(|moment| moment.kind == "fault"));
    let incident = &timeline.runs[0].incidents[0];
    assert_eq!(incident.from, lane.addresses[0].outages[0].from, "an incident begins with the fault");
    assert!(incident.title.contains("moved to web-2 (holder-unhealthy), outage"), "{}", incident.title);
}

/// Its agent has crashed with it, and beats again once it is back.
#[test]
fn a_crashed_machine_beats_no_more() {
    let text = r#"
title = "A machine crashes"
text = "Only heartbeats tell of it."
duration = "4m"
[[cluster]]
name = "web"
check = "heartbeat"
[[node]]
name = "web-1"
agent = "5s"
[[node]]
name = "web-2"
agent = "5s"
[[fault]]
at = "56s"
what = "crash"
node = "web-1"
for = "1m"
"#;
    let (_, played) = play(text, &[""]);
    let (moves, needless, outages) = sum(&played[0]);
    assert_eq!((moves, needless, outages.len()), (1, 0, 1));
    assert!(outages[0] < 40_000, "{outages:?}");
}

#[test]
fn what_the_classics_come_to() {
    for (name, moves, needless, outage_ms) in [
        ("crash", 1, 0, 1_500..=3_200),
        ("hang", 1, 0, 1_500..=3_200),
        ("partition", 0, 0, 0..=0),
        ("partition-heals", 1, 1, 0..=0),
        ("zone-loss", 1, 0, 1_500..=4_000),
        // From 1:20 to 2:30, when EC2 answers again, and a moment.
        ("api-outage", 1, 0, 70_000..=76_000),
    ] {
        let (_, played) = play(classic(name), &[""]);
        let (made, for_nothing, outages) = sum(&played[0]);
        assert_eq!((made, for_nothing), (moves, needless), "{name}");
        assert!(outage_ms.contains(&outages.iter().sum::<u64>()), "{name}: {outages:?}");
    }
    let (timeline, played) = play(classic("rolling-reboot"), &[""]);
    let whys: Vec<_> =
        timeline.runs[0].clusters[0].addresses[0].held.iter().filter_map(|hold| hold.why.clone()).collect();
    assert_eq!(whys, ["holder-unhealthy", "holder-draining"]);
    assert_eq!(sum(&played[0]).2.len(), 1, "the drained node's reboot is no outage");
    let (_, played) = play(classic("partition-heals"), &["failback=auto stable=1m"]);
    assert_eq!(sum(&played[0]).0, 2, "there and back");
    let (_, played) = play(classic("flapping"), &["", "max_moves=1"]);
    assert!(sum(&played[0]).0 >= 3 && sum(&played[1]).0 < sum(&played[0]).0, "the brake holds");
}

#[test]
fn every_classic_can_be_read_and_is_listed() {
    let (status, out, _) = eipwatch(&["simulate", "--list"], None);
    assert_eq!(status, 0);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scenarios");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), CLASSICS.len(), "a file that is not built in");
    for (name, text) in CLASSICS {
        let scenario = scenario::parse(text).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        assert!(out.contains(name) && !scenario.text.is_empty(), "{name}");
        for policy in &scenario.policies {
            scenario::policy_of(policy).unwrap();
        }
    }
    let (status, out, _) = eipwatch(&["simulate", "hang", "--show"], None);
    assert_eq!((status, out.as_str()), (0, classic("hang")));
}

#[test]
fn the_same_scenario_comes_out_the_same_twice_and_chance_follows_its_seed() {
    let text = "title = \"x\"\nduration = \"20m\"\nseed = 3\n[transient]\nper_hour = 60\nwhat = \"hang\"\n";
    let first = play(text, &["fall=1"]).0;
    assert_eq!(first, play(text, &["fall=1"]).0);
    assert_ne!(first, play(&text.replace("seed = 3", "seed = 4"), &["fall=1"]).0);
    assert!(first.runs[0].figures.needless > 0, "with fall=1 a moment's hang moves the address");
}

#[test]
fn policies_are_varied_and_the_trade_off_told() {
    let text = "title = \"noise\"\nduration = \"30m\"\nseed = 5\n[[cluster]]\nname = \"web\"\npolicy = \"max_moves=5 window=1m\"\n[[fault]]\nat = \"10m\"\nwhat = \"hang\"\nnode = \"holder\"\nfor = \"5m\"\n\
                [transient]\nper_hour = 60\nlength = \"200ms to 3s\"\n";
    let file = Scratch::with("vary.toml", text);
    let args = ["simulate", file.path(), "--vary", "fall=1..3", "--vary", "interval=500ms,2s", "--json"];
    let (status, out, err) = eipwatch(&args, None);
    assert_eq!(status, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let points = told["trade_off"]["points"].as_array().unwrap();
    assert_eq!(points.len(), 7, "the scenario's own, and 3 × 2");
    let of = |name: &str| points.iter().find(|point| point["name"] == name).unwrap();
    let needless = |name: &str| of(name)["needless_per_day"].as_f64().unwrap();
    assert!(needless("fall=1 interval=500ms") > needless("fall=3 interval=500ms"), "{points:?}");
    let waited = |name: &str| of(name)["outage_ms"].as_u64().unwrap();
    assert!(waited("fall=3 interval=2s") > waited("fall=1 interval=500ms"), "{points:?}");
    assert!(told["trade_off"]["text"].as_str().unwrap().contains("60 transient faults an hour and node"));
    let (status, out, _) = eipwatch(&args[..6], None);
    assert_eq!(status, 0);
    assert!(out.contains("fall=2 interval=500ms") && !out.contains('\u{1b}'), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
}

#[test]
fn a_page_is_written() {
    let page = Scratch::new("crash.html");
    let (status, _, err) = eipwatch(&["simulate", "crash", "--html", page.path()], None);
    assert_eq!(status, 0, "{err}");
    let text = std::fs::read_to_string(&page.0).unwrap();
    assert!(text.to_ascii_lowercase().starts_with("<!doctype html>"));
    assert!(text.contains("A machine crashes") && text.contains("holder-unhealthy"));
    let nowhere = std::env::temp_dir().join("no-such-folder-of-eipwatch/x.html");
    let (status, out, err) = eipwatch(&["simulate", "crash", "--html", nowhere.to_str().unwrap()], None);
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("x.html cannot be written"), "{err}");
}

#[test]
fn a_wrong_scenario_is_status_2_and_names_the_key_and_what_is_right() {
    let head = "duration = \"5m\"\n";
    let fault = "[[fault]]\nat = \"1m\"\nwhat = \"crash\"\nnode = \"web-1\"\n";
    for (text, parts) in [
        ("title = \"x\"\n", &["duration: it is missing", "duration = \"5m\""][..]),
        ("duration = \"soon\"\n", &["duration: 'soon' is no length of time", "such as 500ms, 30s or 1m10s"]),
        ("duration = 5\n", &["line 1, duration", "invalid type"]),
        (&format!("{head}nodes = 2\n"), &["line 2, nodes", "unknown field `nodes`"]),
        (
            &format!("{head}{}", fault.replace("crash", "crsh")),
            &["fault[0].what: 'crsh' is none of crash, dead-service", "[[fault]]"],
        ),
        (
            &format!("{head}{}", fault.replace("web-1", "web-9")),
            &["fault[0].node: there is no node 'web-9'; there are: web-1, web-2"],
        ),
        (&format!("{head}{}", fault.replace("1m", "9m")), &["fault[0].at: 9m is not before the end"]),
        (&format!("{head}{fault}fro = \"30s\"\n"), &["line 6, fro", "unknown field `fro`", "for = \"30s\""]),
        (
            &format!("{head}[[fault]]\nat = \"1m\"\nwhat = \"zone-loss\"\n"),
            &["fault[0].zone: it is missing", "zone = \"eu-west-1a\""],
        ),
        (
            &format!("{head}[[fault]]\nat = \"1m\"\nwhat = \"api-outage\"\ncalls = [\"DescribeWorld\"]\n"),
            &["fault[0].calls: 'DescribeWorld' is none of DescribeAddresses"],
        ),
        (
            &format!("{head}[[cluster]]\nname = \"web\"\npolicy = \"fall=0\"\n"),
            &["cluster.policy of 'web': 'fall=0' is below 1", "[[cluster]]"],
        ),
        (&format!("{head}[[cluster]]\nname = \"web\"\ncheck = \"http\"\n"), &["cluster.check of 'web'"]),
        (
            &format!("{head}[[node]]\nname = \"a\"\ncluster = \"mail\"\n"),
            &["node.cluster of 'a': there is no cluster 'mail'; there are: web"],
        ),
        (&format!("{head}[transient]\nper_hour = 0\n"), &["transient.per_hour: 0 is not above 0", "[transient]"]),
        (
            &format!("{head}[transient]\nper_hour = 1\nlength = \"3s to 1s\"\n"),
            &["transient.length: '3s to 1s' ends before it begins"],
        ),
        (&format!("{head}policies = [\"fal=2\"]\n"), &["policies[0]: 'fal=2' is not a policy key"]),
        ("duration = \"5m\"\n[[fault\n", &["line 2"]),
    ] {
        let file = Scratch::with("wrong.toml", text);
        let (status, out, err) = eipwatch(&["simulate", file.path()], None);
        assert_eq!((status, out.as_str()), (2, ""), "{text}: {err}");
        for part in parts {
            assert!(err.contains(part), "{text}: {part:?} is missing in: {err}");
        }
        assert!(err.contains("Write it like this"), "{err}");
    }
    let (status, _, err) = eipwatch(&["simulate", "no-such-thing"], None);
    assert_eq!(status, 2);
    assert!(err.contains("none of the scenarios that come with eipwatch") && err.contains("zone-loss"), "{err}");
    let (status, _, err) = eipwatch(&["simulate", "crash", "--vary", "fall=1..20", "--vary", "rise=1..20"], None);
    assert_eq!(status, 2);
    assert!(err.contains("400 combinations are more than 200"), "{err}");
}

/// What `docs/simulate.md` shows is what comes out. After a change that is meant: `EIPWATCH_RENEW=1 cargo test --test it docs_simulate`.
#[test]
fn docs_simulate_shows_what_comes_out() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/simulate.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let folder = std::env::temp_dir().join(format!("eipwatch-docs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut made = String::new();
    let mut lines = text.lines();
    let mut blocks = 0;
    while let Some(line) = lines.next() {
        made.push_str(line);
        made.push('\n');
        if line != "```console" {
            continue;
        }
        blocks += 1;
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let Some(typed) = line.strip_prefix("$ eipwatch ") else { continue };
            let (command, shown) =
                typed.split_once(" | ").map_or((typed, None), |(command, pipe)| (command, Some(pipe)));
            let output = Command::new(env!("CARGO_BIN_EXE_eipwatch"))
                .args(command.split_whitespace())
                .current_dir(&folder)
                .env("COLUMNS", "80")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let out = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{typed}: {}", String::from_utf8_lossy(&output.stderr));
            let out = match shown {
                None => out,
                // `head -n 3` or `tail -n 3`.
                Some(pipe) => {
                    let number = pipe.rsplit(' ').next().and_then(|number| number.parse::<usize>().ok());
                    let lines: Vec<&str> = out.lines().collect();
                    let number = number.unwrap_or_else(|| panic!("only `head -n` and `tail -n` are known: {typed}"));
                    let from = if pipe.starts_with("tail") { lines.len().saturating_sub(number) } else { 0 };
                    lines.iter().skip(from).take(number).map(|line| format!("{line}\n")).collect()
                }
            };
            made.push_str(&format!("{line}\n{out}"));
        }
        made.push_str("```\n");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(blocks >= 5, "{blocks} blocks");
    let renew = std::env::var_os("EIPWATCH_RENEW").is_some();
    if renew {
        std::fs::write(&path, &made).unwrap();
    }
    assert!(renew || made == text, "docs/simulate.md shows something else than comes out; EIPWATCH_RENEW=1 renews it");
    for (word, meaning) in eipwatch::simulate::scenario::WHATS {
        assert!(text.contains(&format!("| `{word}` | {meaning} |")), "{word}");
    }
}
