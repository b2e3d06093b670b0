//! `docs/reference.md` says what the code does: every row of its tables is held against the code, in both directions. What a
//! row means is left to its reader.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use eipwatch::cli::metrics::{CLUSTER_EXPOSED, EXPOSED};
use eipwatch::core::decide::{Kind, LAST_RESORT_AFTER, LOOSE_FOR, MAX_FORBIDDEN, SETTLING, TRAFFIC_FOLLOWS, Why};
use eipwatch::core::event::{self, Command, MAX_SHARDS, Request, Trigger};
use eipwatch::core::log::{Level, Record};
use eipwatch::core::policy::KEYS;
use eipwatch::core::report::{CLUSTER_METRICS, METRICS, NAMESPACE, Report};
use eipwatch::core::tags::{self, AddressMode, Keys, MAX_BACKOFF, MAX_MOVES_KEPT, NodeMode, Verdict};
use eipwatch::core::time::duration_text;
use eipwatch::core::verdict::{GONE_EVENT_BELIEVED, LEAVE_BEFORE_SCHEDULED, TAGS_LAG};
use eipwatch::core::watch::{
    ADOPT_AFTER, ASSOCIATE_BURST, ASSOCIATE_PER_SECOND, MAX_PROBES, NOTICE_BELIEVED, ROUND, STATUS_EVERY, VERIFY_FOR,
};
use eipwatch::embedded::ec2::Api;
use eipwatch::embedded::faults::{Fault, Rule};
use eipwatch::env::{MAX_WATCH_SECONDS, VARIABLES};
use eipwatch::sim::world::{Behaviour, World};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The contract's policy: key, default, range. Written out here, so that a limit that is changed in the code alone is noticed.
const POLICY: [(&str, &str, &str); 13] = [
    ("interval", "1s", "100ms to 60s"),
    ("fast", "500ms", "50ms to 10s"),
    ("timeout", "1s", "50ms to 30s"),
    ("fall", "3", "1 to 20"),
    ("rise", "2", "1 to 20"),
    ("deadtime", "20s", "3s to 1h"),
    ("expect", "200-399", "100 to 599"),
    ("host", "the address probed", "a DNS name or an IPv4 address"),
    ("via", "private", "private or public"),
    ("failback", "off", "auto or off"),
    ("stable", "60s", "0s to 24h"),
    ("max_moves", "3", "1 to 5"),
    ("window", "10m", "1m to 24h"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table under a heading, cell by cell, without the marks of code.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = read(&root().join("docs/reference.md"));
    let mut lines = text.lines().skip_while(|line| line.trim_start_matches('#').trim() != heading).skip(1);
    let mut rows = Vec::new();
    for line in lines.by_ref().take_while(|line| !line.starts_with('#')) {
        if let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) {
            rows.push(row.split(" | ").map(|cell| cell.replace('`', "").trim().to_owned()).collect());
        } else if !rows.is_empty() {
            break;
        }
    }
    assert!(rows.len() > 2, "docs/reference.md has no table under {heading:?}");
    rows.split_off(2)
}

/// One column of it.
fn column(heading: &str, index: usize) -> Vec<String> {
    table(heading).into_iter().map(|mut row| row.swap_remove(index)).collect()
}

fn set<T: ToString>(items: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

/// Fails, naming them, where document and code differ.
fn assert_same(what: &str, documented: impl IntoIterator<Item = String>, coded: impl IntoIterator<Item = String>) {
    let documented: Vec<String> = documented.into_iter().collect();
    let (rows, coded) = (set(&documented), set(coded));
    assert_eq!(rows.len(), documented.len(), "{what}: a row stands twice");
    let missing: Vec<_> = coded.difference(&rows).collect();
    let stale: Vec<_> = rows.difference(&coded).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "{what}: docs/reference.md lacks {missing:?} and has {stale:?} too many"
    );
}

/// All words of an enum, from serde's own list: nobody can forget one. `tag` is the field that carries the word, if one does.
fn words<T: DeserializeOwned>(tag: Option<&str>) -> BTreeSet<String> {
    let odd = tag.map_or_else(|| json!("?"), |tag| json!({ tag: "?" }));
    let Err(error) = serde_json::from_value::<T>(odd) else { panic!("`?` is read as a word") };
    let error = error.to_string();
    let (_, listed) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
    let words: BTreeSet<String> = listed.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(words.len() > 1, "{error}");
    words
}

#[test]
fn the_tags_are_documented() {
    // Without `..`: a new key must come here, too.
    let Keys { prefix, cluster, check, policy, mode, prefer, priority, address, state, health, heartbeat } =
        Keys::new(tags::DEFAULT_PREFIX);
    assert_eq!(prefix, "eipwatch:");
    let on_address = column("On an Elastic IP", 0);
    let on_instance = column("On an instance", 0);
    let own = [cluster.clone(), check.clone(), policy, mode.clone(), prefer];
    assert_same("tags on an Elastic IP", on_address.clone(), own);
    assert_same("tags on an instance", on_instance.clone(), [cluster, priority, mode, check, address]);
    assert_same("tags that eipwatch writes", column("Written by eipwatch", 0), [state, health, heartbeat]);
    let keys = Keys::new(tags::DEFAULT_PREFIX);
    assert!(on_address.iter().chain(&on_instance).all(|key| keys.is_configuration(key)));
    let defaults: BTreeMap<String, String> =
        table("On an instance").into_iter().map(|mut row| (row[0].clone(), row.swap_remove(2))).collect();
    assert_eq!(defaults["eipwatch:priority"], tags::DEFAULT_PRIORITY.to_string());
    assert_eq!(defaults["eipwatch:mode"], NodeMode::default().as_str());
    let mode = table("On an Elastic IP").into_iter().find(|row| row[0] == "eipwatch:mode").unwrap();
    assert_eq!(mode[2], AddressMode::default().to_string());
}

#[test]
fn the_policy_is_the_contracts_and_documented_so() {
    let coded: Vec<_> = KEYS.iter().map(|key| (key.name, key.default, key.range)).collect();
    assert_eq!(coded, POLICY);
    let documented = table("Policy");
    let rows: Vec<Vec<String>> =
        KEYS.iter().map(|key| [key.name, key.meaning, key.default, key.range].map(str::to_owned).to_vec()).collect();
    assert_eq!(documented, rows);
}

#[test]
fn the_checks_are_documented() {
    let mut documented = column("Checks", 0);
    assert_eq!(documented.remove(0), "ec2");
    let examples = documented.iter().map(|check| check.replace("PORT", "8080").replace("/PATH", "/health"));
    for (check, example) in documented.iter().zip(examples) {
        let (read, problems) = tags::checks(&example);
        assert!(read.len() == 1 && problems.is_empty(), "{check}: {problems:?}");
        assert_eq!(read[0].to_string(), example);
    }
    let names = documented.iter().map(|check| check.split(':').next().unwrap().to_owned());
    assert_same("checks", names, ["tcp", "http", "https", "heartbeat", "alarm"].map(str::to_owned));
    assert_same("verdicts", column("Verdicts", 0), words::<Verdict>(None));
}

/// The sample payloads, by file name.
fn samples() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("events")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.insert(name, serde_json::from_str(&read(&path)).unwrap());
        }
    }
    found
}

#[test]
fn the_events_are_documented() {
    let rows = table("Events");
    let documented = set(rows.iter().map(|row| &row[1]));
    assert_eq!(documented, words::<Trigger>(None).into_iter().filter(|word| word != "manual").collect());
    let mut seen = BTreeSet::new();
    for (file, payload) in samples() {
        let Ok(Request::Run(triggers)) = event::parse(&payload) else { continue };
        let Some(detail_type) = payload.get("detail-type").and_then(Value::as_str) else { continue };
        let row =
            rows.iter().find(|row| row[0].contains(detail_type)).unwrap_or_else(|| panic!("{file}: {detail_type}"));
        assert_eq!(row[1], triggers[0].name(), "{file}");
        seen.insert(row[1].clone());
    }
    assert_eq!(seen, documented, "a row without a sample event");
}

#[test]
fn the_commands_are_documented() {
    let rows = table("Commands");
    let documented = rows.iter().map(|row| row[0].clone());
    assert_same("commands", documented, words::<Command>(Some("action")));
    for row in rows {
        let bad = event::parse(&json!({"action": row[0], "?": 1})).unwrap_err();
        let (_, fields) = bad.problem.split_once("which has ").unwrap_or_else(|| panic!("{bad}"));
        assert_eq!(row[1], fields, "the fields of {}", row[0]);
    }
}

#[test]
fn the_environment_is_documented() {
    let coded: Vec<Vec<String>> = VARIABLES
        .iter()
        .map(|variable| [variable.name, variable.meaning, variable.default].map(|cell| cell.replace('`', "")).to_vec())
        .collect();
    assert_eq!(table("Environment"), coded);
}

#[test]
fn the_reasons_are_documented_each_under_its_kind() {
    let all: Vec<String> = Why::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(set(&all), words::<Why>(None), "Why::ALL lacks one");
    assert_eq!(column("Reasons", 0), all);
    let kinds: Vec<String> = column("Reasons", 1);
    assert_eq!(set(&kinds), words::<Kind>(None));
    let mut sorted = kinds.clone();
    sorted.sort_by_key(|kind| ["move", "stay", "blocked"].iter().position(|one| one == kind));
    assert_eq!(kinds, sorted, "the reasons stand by kind");
    for (why, kind) in Why::ALL.iter().zip(kinds) {
        // What counts for the brake, and what nothing holds back, are moves.
        assert!(kind == "move" || !(why.counted() || why.rescue()), "{why}");
    }
}

#[test]
fn the_metrics_are_documented() {
    let pairs = |heading: &str| -> Vec<(String, String)> {
        table(heading).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    };
    let coded = |metrics: &[(&str, &str)]| -> Vec<(String, String)> {
        metrics.iter().map(|(name, unit)| ((*name).to_owned(), (*unit).to_owned())).collect()
    };
    assert_eq!(pairs("Of an invocation"), coded(METRICS));
    assert_eq!(pairs("Of a cluster"), coded(CLUSTER_METRICS));
    assert!(read(&root().join("docs/reference.md")).contains(&format!("namespace `{NAMESPACE}`")));
    let exposed = EXPOSED.iter().chain(CLUSTER_EXPOSED);
    let exposed: Vec<[&str; 3]> = exposed.map(|one| [one.name, one.kind.as_str(), one.of]).collect();
    assert_eq!(table("For Prometheus"), exposed);
}

#[test]
fn what_doctor_looks_at_is_documented() {
    let mut coded = BTreeSet::new();
    for file in ["mod.rs", "network.rs"] {
        let source = read(&root().join("src/cli/doctor").join(file));
        let code = source.split("#[cfg(test)]").next().unwrap();
        for call in ["found.pass(", "found.warn(", "found.fail(", "unread(found, "] {
            for (at, _) in code.match_indices(call) {
                let argument = code[at + call.len()..].trim_start();
                // `unread` hands on what it is given.
                if let Some(word) = argument.strip_prefix('"') {
                    coded.insert(word.split('"').next().unwrap().to_owned());
                }
            }
        }
    }
    assert_same("what doctor looks at", column("What doctor looks at", 0), coded);
}

#[test]
fn the_limits_are_documented() {
    let duration = |name: &str, value: Duration| (name.to_owned(), duration_text(value));
    let number = |name: &str, value: String| (name.to_owned(), value);
    let coded = [
        duration("ROUND", ROUND),
        duration("MAX_BACKOFF", MAX_BACKOFF),
        duration("TAGS_LAG", TAGS_LAG),
        duration("STATUS_EVERY", STATUS_EVERY),
        duration("SETTLING", SETTLING),
        duration("VERIFY_FOR", VERIFY_FOR),
        duration("TRAFFIC_FOLLOWS", TRAFFIC_FOLLOWS),
        duration("LAST_RESORT_AFTER", LAST_RESORT_AFTER),
        duration("LOOSE_FOR", LOOSE_FOR),
        duration("ADOPT_AFTER", ADOPT_AFTER),
        duration("GONE_EVENT_BELIEVED", GONE_EVENT_BELIEVED),
        duration("NOTICE_BELIEVED", NOTICE_BELIEVED),
        duration("LEAVE_BEFORE_SCHEDULED", LEAVE_BEFORE_SCHEDULED),
        number("ASSOCIATE_BURST", ASSOCIATE_BURST.to_string()),
        number("ASSOCIATE_PER_SECOND", ASSOCIATE_PER_SECOND.to_string()),
        number("MAX_PROBES", MAX_PROBES.to_string()),
        number("MAX_FORBIDDEN", MAX_FORBIDDEN.to_string()),
        number("MAX_MOVES_KEPT", MAX_MOVES_KEPT.to_string()),
        number("MAX_WATCH_SECONDS", MAX_WATCH_SECONDS.to_string()),
        number("MAX_SHARDS", MAX_SHARDS.to_string()),
    ];
    let documented: Vec<(String, String)> =
        table("Limits").into_iter().map(|row| (row[2].clone(), row[1].clone())).collect();
    assert_eq!(documented, coded);
}

/// A pair through most of what can happen: its answers and its log.
fn eventful() -> (Vec<Report>, Vec<Record>) {
    let mut world = World::pair();
    world.keep_logs = true;
    let first = world.scheduled(0);
    world.at(20_000, |world| world.service(&world.node(0), Behaviour::Refuse));
    world.run();
    world.service(&world.node(1), Behaviour::Refuse);
    world.ec2.faults_mut().push(Rule::error("InternalError").on(Api::DescribeInstanceStatus));
    world.ec2.faults_mut().push(Rule::new(Fault::Hollow).on(Api::AssociateAddress));
    world.tag(&world.node(1), "priority", "first");
    world.service(&world.node(0), eipwatch::sim::world::SERVES);
    let second = world.scheduled(60_000);
    world.run();
    let handles = [first, second];
    let reports = handles.iter().map(|handle| world.report(*handle).unwrap().clone()).collect();
    (reports, handles.iter().flat_map(|handle| world.log(*handle).to_vec()).collect())
}

/// The paths of all fields of a JSON document, `[]` for what is within a list.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                found.insert(path.clone());
                paths(value, &path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, &format!("{at}[]"), found)),
        _ => {}
    }
}

#[test]
fn the_answer_is_documented() {
    let mut found = BTreeSet::new();
    for report in eventful().0 {
        paths(&serde_json::to_value(report).unwrap(), "", &mut found);
    }
    assert_same("fields of the answer", column("Answer", 0), found);
}

#[test]
fn the_log_is_documented() {
    let rows = table("Log");
    assert_same("records of the log", rows.iter().map(|row| row[0].clone()), words::<Record>(Some("event")));
    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut levels: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for record in eventful().1 {
        let line = serde_json::to_value(&record).unwrap();
        let event = line["event"].as_str().unwrap().to_owned();
        let keys = line.as_object().unwrap().keys().filter(|key| *key != "event");
        fields.entry(event.clone()).or_default().extend(keys.cloned());
        let level = match record.level() {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        levels.entry(event).or_default().insert(level);
    }
    for row in rows {
        let seen = fields.get(&row[0]).unwrap_or_else(|| panic!("the test's world logs no {}", row[0]));
        assert_same(&format!("fields of {}", row[0]), row[2].split(", ").map(str::to_owned), seen.clone());
        for level in &levels[&row[0]] {
            assert!(row[1].contains(level), "{} is logged as {level}, too", row[0]);
        }
    }
}
