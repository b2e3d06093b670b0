//! `eipwatch replay`: a simulated log, in all the forms in which people have logs, shown and decided again.

use eipwatch::replay::read::{Log, Reader};
use eipwatch::replay::replay;
use eipwatch::simulate::{CLASSICS, scenario, write_log};
use eipwatch::timeline::{Run, Timeline};
use serde_json::Value;

use crate::simulate::{Scratch, eipwatch, play};

/// The log of a scenario, as the function would have written it.
fn written(text: &str) -> String {
    let mut out = Vec::new();
    write_log(&scenario::parse(text).unwrap(), "", &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn read(text: &str) -> Log {
    let mut reader = Reader::default();
    text.lines().for_each(|line| reader.line(line, None));
    reader.end()
}

fn again(text: &str, policies: &[&str]) -> Timeline {
    let policies: Vec<String> = policies.iter().map(|policy| (*policy).to_owned()).collect();
    replay(&read(text), &policies, None, "a log").unwrap()
}

fn classic(name: &str) -> &'static str {
    CLASSICS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// When and where to the addresses went, and why.
fn moves(run: &Run) -> Vec<(u64, String, String)> {
    let lanes = run.clusters.iter().flat_map(|cluster| &cluster.addresses).flat_map(|address| &address.held);
    let made = lanes.filter_map(|hold| Some((hold.from.as_millis(), hold.node.clone()?, hold.why.clone()?)));
    made.collect()
}

#[test]
fn a_log_shows_what_happened() {
    for (name, text) in CLASSICS.iter().filter(|(name, _)| *name != "noise") {
        let (simulated, _) = play(text, &[""]);
        let told = again(&written(text), &[]);
        let (was, is) = (moves(&simulated.runs[0]), moves(&told.runs[0]));
        assert_eq!(was.len(), is.len(), "{name}: {was:?} {is:?}");
        for (was, is) in was.iter().zip(&is) {
            assert_eq!((&was.1, &was.2), (&is.1, &is.2), "{name}");
            assert!(was.0.abs_diff(is.0) <= 100, "{name}: the log knows when EC2 answered: {was:?} {is:?}");
        }
        assert_eq!(told.runs[0].figures.moves, simulated.runs[0].figures.moves, "{name}");
    }
    let told = again(&written(classic("dead-service")), &[]);
    let run = &told.runs[0];
    let lane = &run.clusters[0];
    assert_eq!((lane.cluster.as_str(), lane.nodes.len()), ("web", 2));
    assert_eq!(lane.nodes[0].name.as_deref(), Some("web-1"));
    let outage = &lane.addresses[0].outages[0];
    assert!((500..=2_500).contains(&outage.to.since(outage.from).as_millis()), "{outage:?}");
    assert!(
        lane.nodes[0].evidence.iter().any(|moment| moment.kind == "probe-failed" && moment.text.contains("refused"))
    );
    assert!(lane.addresses[0].decisions.iter().any(|moment| moment.kind == "holder-unhealthy"));
    assert!(run.incidents[0].title.contains("moved to web-2"), "{}", run.incidents[0].title);
}

#[test]
fn decided_again_under_its_own_policy_a_log_gives_the_same() {
    for name in ["dead-service", "hang", "rolling-reboot", "zone-loss", "partition", "partition-heals", "flapping"] {
        let log = written(classic(name));
        let told = again(&log, &["fall=3"]);
        let (was, same) = (moves(&told.runs[0]), moves(&told.runs[1]));
        assert_eq!(was.len(), same.len(), "{name}: {was:?} {same:?}");
        for (was, same) in was.iter().zip(&same) {
            assert_eq!((&was.1, &was.2), (&same.1, &same.2), "{name}");
            assert!(was.0.abs_diff(same.0) <= 1_100, "{name}: {was:?} {same:?}");
        }
        assert!(told.notes.iter().any(|note| note.starts_with("As a check")), "{name}: {:?}", told.notes);
    }
}

#[test]
fn another_policy_would_have_moved_earlier_or_not_at_all() {
    let text = classic("dead-service");
    let told = again(&written(text), &["fall=2", "fall=6"]);
    let detect = |run: &Run| run.figures.detect_ms[0];
    // As a simulation under that policy says.
    let (truly, _) = play(text, &["", "fall=2", "fall=6"]);
    for (index, run) in told.runs.iter().enumerate() {
        let difference = detect(run).abs_diff(detect(&truly.runs[index]));
        assert!(difference <= 1_000, "{}: {} {}", run.name, detect(run), detect(&truly.runs[index]));
    }
    assert!(
        told.runs[1].text.contains("With fall=2 it would have decided") && told.runs[1].text.contains("earlier"),
        "{}",
        told.runs[1].text
    );
    assert!(told.runs[2].text.contains("later"), "{}", told.runs[2].text);
    assert!(told.notes.iter().any(|note| note.contains("half-way between")), "how it is approximate: {:?}", told.notes);

    // A node that failed for three seconds, and nothing more: fall=3 moved for nothing, fall=12 would not have.
    let blip = "duration = \"4m\"\n[[fault]]\nat = \"1m30s\"\nwhat = \"cut\"\nnode = \"web-1\"\nfor = \"3s\"\n";
    let told = again(&written(blip), &["fall=12"]);
    assert_eq!((told.runs[0].figures.moves, told.runs[1].figures.moves), (1, 0));
    assert!(told.runs[1].text.contains("moved not at all instead of once"), "{}", told.runs[1].text);
    // And one of a second: fall=1 would have moved for nothing.
    let told = again(&written(&blip.replace("\"3s\"", "\"1200ms\"")), &["fall=1"]);
    assert_eq!((told.runs[0].figures.moves, told.runs[1].figures.moves), (0, 1));
}

#[test]
fn a_log_of_any_form_is_read() {
    let text = written(classic("dead-service"));
    let plain = again(&text, &[]);
    let stamped: String = text.lines().map(|line| format!("2026-11-22T07:31:00.123Z {line}\n")).collect();
    let tail: String = text
        .lines()
        .flat_map(|line| {
            let stream = "2026-11-22T07:31:00.123000+00:00 2026/11/22/[$LATEST]0123456789abcdef0123456789abcdef";
            let start = format!("{stream} START RequestId: 00000000-0000-4000-8000-000000000000 Version: $LATEST\n");
            let noise = format!(
                "{stream} {{\"timestamp\":\"x\",\"level\":\"WARN\",\"message\":\"slow\",\"target\":\"aws\"}}\n"
            );
            let report = format!("{stream} REPORT RequestId: 0 Duration: 55010.00 ms Billed Duration: 55011 ms\n");
            [start, format!("{stream} {line}\n"), noise, report, "\n".to_owned()]
        })
        .collect();
    let wrapped: String = text
        .lines()
        .map(|line| serde_json::json!({"logStreamName": "s", "timestamp": 1, "message": line}).to_string() + "\n")
        .collect();
    for (form, log) in [("stamped", &stamped), ("tail", &tail), ("wrapped", &wrapped)] {
        let told = again(log, &[]);
        assert_eq!(told.runs, plain.runs, "{form}");
        assert_eq!(told.notes, plain.notes, "{form}");
    }
    // Lines of invocations that ran beside each other, in whatever order their streams are put together.
    let events = "duration = \"6m\"\n[[fault]]\nat = \"1m10s\"\nwhat = \"stop\"\nnode = \"web-1\"\nfor = \"2m\"\n";
    let text = written(events);
    let whole = again(&text, &[]);
    assert!(read(&text).invocations.len() > 6, "events run beside the schedule");
    let request =
        |line: &str| line.split("\"request_id\":\"").nth(1).map(|rest| rest[..36].to_owned()).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().filter(|line| line.contains("request_id")).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(request(line)));
    assert_eq!(again(&lines.join("\n"), &[]).runs, whole.runs);
    // What is missing is said.
    let cut = lines.iter().filter(|line| !line.contains("\"event\":\"end\"")).copied().collect::<Vec<_>>().join("\n");
    let told = again(&format!("{cut}\n{{\"event\":\"probe\",\"at\":"), &[]);
    assert!(told.notes.iter().any(|note| note.contains("have no end in the log")), "{:?}", told.notes);
    assert!(told.notes.iter().any(|note| note.contains("1 line of the log begins as a record")), "{:?}", told.notes);
}

#[test]
fn near_misses_are_told_and_a_policy_suggested() {
    let text = "duration = \"20m\"\n[[fault]]\nat = \"3m10s\"\nwhat = \"dead-service\"\nnode = \"web-2\"\nfor = \"900ms\"\nevery = \"4m\"\n\
                [[fault]]\nat = \"5m20s\"\nwhat = \"slow\"\nnode = \"web-1\"\nlatency = \"700ms\"\nfor = \"2s\"\n";
    let near = again(&written(text), &[]).near.unwrap();
    let longest = &near.streaks[0];
    assert_eq!((longest.fails, longest.fall, longest.name.as_deref()), (2, 3, Some("web-2")));
    assert!(longest.text.contains("refused"), "{longest:?}");
    let slowest = &near.slow[0];
    assert_eq!((slowest.took_ms, slowest.timeout_ms, slowest.name.as_deref()), (701, 1_000, Some("web-1")));
    let suggestion = &near.suggestions[0];
    assert_eq!((suggestion.cluster.as_str(), suggestion.policy.as_str()), ("web", "timeout=3s fall=4"));
    assert!(suggestion.text.contains("leaves one failure of margin"), "{}", suggestion.text);
}

#[test]
fn it_is_typed_and_answers() {
    let file = Scratch::with("replay.log", written(classic("dead-service")));
    let (status, out, err) = eipwatch(&["replay", file.path(), "--policy", "fall=2"], None);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("moved to web-2") && out.contains("With fall=2"), "{out}");
    assert!(!out.contains('\u{1b}') && out.lines().all(|line| line.chars().count() <= 100), "{out}");
    let (status, out, _) = eipwatch(&["replay", "-", "--json"], Some(&file.0));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &told["runs"][0]["figures"]["moves"]), (0, &Value::from(1)));
    assert!(told["near"]["suggestions"][0]["text"].is_string(), "{told}");
    let page = Scratch::new("replay.html");
    assert_eq!(eipwatch(&["replay", file.path(), "--html", page.path(), "--since", "10m"], None).0, 0);
    assert!(std::fs::read_to_string(&page.0).unwrap().contains("holder-unhealthy"));
    let (status, out, _) = eipwatch(&["replay", file.path(), "--from", "2026-11-22T07:32:00Z", "--json"], None);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &told["runs"][0]["figures"]["moves"]), (0, &Value::from(0)), "the move was before");

    let (status, out, err) = eipwatch(&["replay", file.path(), "--from", "2030-01-01T00:00:00Z"], None);
    assert_eq!((status, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("none of its 5 invocations began from 2030-01-01T00:00:00Z on"), "{err}");
    let (status, _, err) = eipwatch(&["replay", file.path(), "--cluster", "mail"], None);
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("the cluster mail is not in it"), "{err}");
    let (status, _, err) = eipwatch(&["replay", "no-such.log"], None);
    assert_eq!(status, 2);
    assert!(err.contains("no-such.log cannot be read"), "{err}");
    let other = Scratch::with("other.log", "START RequestId: 1\n{\"level\":\"INFO\",\"message\":\"hello\"}\n");
    let (status, _, err) = eipwatch(&["replay", other.path()], None);
    assert_eq!(status, 1);
    assert!(err.contains("no invocation of eipwatch is in it, in 2 lines"), "{err}");
}

/// CloudWatch Logs, as far as FilterLogEvents goes.
#[cfg(feature = "aws")]
#[test]
fn a_function_s_log_is_read_out_of_cloudwatch_logs() {
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use crate::harness::http::{Response, Server};
    use crate::harness::moto::REGION;

    let lines: Vec<String> = written(classic("dead-service")).lines().map(str::to_owned).collect();
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let record = asked.clone();
    let server = Server::start(move |request| {
        assert_eq!(request.headers["x-amz-target"], "Logs_20140328.FilterLogEvents");
        assert!(request.headers["authorization"].contains("/logs/aws4_request"), "{:?}", request.headers);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let mut asked = record.lock().unwrap();
        asked.push(body.clone());
        if body["logGroupName"] != "/aws/lambda/eipwatch" {
            let text =
                json!({"__type": "ResourceNotFoundException", "message": "The specified log group does not exist."});
            return Some(Response::new(400, "application/x-amz-json-1.1", text.to_string()));
        }
        if asked.len() == 1 {
            let text = json!({"__type": "ThrottlingException", "message": "Rate exceeded"});
            return Some(Response::new(400, "application/x-amz-json-1.1", text.to_string()));
        }
        let page: usize = body["nextToken"].as_str().map_or(0, |token| token.parse().unwrap());
        let events: Vec<Value> = lines
            .chunks(20)
            .nth(page)
            .unwrap_or_default()
            .iter()
            .map(|line| json!({"logStreamName": "2026/11/22/[$LATEST]a", "timestamp": 1, "message": format!("{line}\n")}))
            .collect();
        let next = (page < lines.len() / 20).then(|| (page + 1).to_string());
        let text = json!({"events": events, "nextToken": next, "searchedLogStreams": []});
        Some(Response::new(200, "application/x-amz-json-1.1", text.to_string()))
    });
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_eipwatch"))
            .arg("replay")
            .args(args)
            .env_clear()
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", format!("http://{}", server.addr))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (from, to) = ("2026-11-22T07:00:00Z", "2026-11-22T09:00:00Z");
    let (status, out, err) = run(&["--function", "eipwatch", "--from", from, "--to", to, "--json"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["runs"][0]["figures"]["moves"], 1);
    {
        let asked = asked.lock().unwrap();
        assert!(asked.len() > 3, "page by page, and again after the throttle");
        assert_eq!(
            (&asked[0]["startTime"], &asked[0]["endTime"]),
            (&json!(1_795_330_800_000_u64), &json!(1_795_338_000_000_u64))
        );
    }
    let (status, _, err) = run(&["--function", "mail", "--since", "2h"]);
    assert_eq!(status, 1);
    assert!(err.contains("there is no log group /aws/lambda/mail") && err.contains("--log-group"), "{err}");
}
