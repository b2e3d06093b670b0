//! The command line as operators and scripts meet it: the real `eipwatch`, its output and its exit statuses.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::http::{Request, Response, Server};
use crate::harness::moto::REGION;
use crate::harness::node::{NodeServer, Service};
use crate::harness::proxy::{ALWAYS, FORBIDDEN};
use crate::harness::world::{Pair, QUICK, World};

fn command(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eipwatch"));
    command
        .args(args)
        .env_clear()
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_ENDPOINT_URL", world.proxy.url())
        .env("AWS_ENDPOINT_URL_CLOUDWATCH", world.cloudwatch.url())
        .stdin(Stdio::null());
    command
}

/// Exit status, standard output, standard error.
fn run(world: &World, args: &[&str]) -> (i32, String, String) {
    told(command(world, args).output().unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn status_shows_the_cluster_and_changes_nothing() {
    let pair = Pair::new(QUICK);
    let (status, out, err) = run(&pair.world, &["status"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("web: ready\n"), "{out}");
    assert!(out.contains(&format!("{} on web-1 ({})", pair.address.public_ip, pair.holder.id)), "{out}");
    assert!(out.contains("200 in"), "the evidence: {out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    assert!(!out.contains('\u{1b}'), "no colour in a pipe: {out:?}");
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());

    let (status, out, _) = run(&pair.world, &["status", "web", "--json"]);
    assert_eq!(status, 0);
    let answer = json_of(&out);
    assert_eq!((&answer["trigger"], &answer["ok"]), (&json!("manual"), &json!(true)));
    assert_eq!(answer["clusters"][0]["addresses"][0]["holder"], pair.holder.id);
}

#[test]
fn a_cluster_that_needs_attention_is_status_3_and_a_failover_is_0() {
    let pair = Pair::new(QUICK);
    pair.holder.service.set(Service::Refuse);
    let (status, out, _) = run(&pair.world, &["status"]);
    assert_eq!(status, 3, "{out}");
    assert!(out.contains("move (holder-unhealthy)"), "what the function would do: {out}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()), "status only looks");

    let (status, out, _) = run(&pair.world, &["sweep", "--dry-run"]);
    assert_eq!(status, 3, "{out}");
    assert!(out.contains("Only a dry run"), "{out}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));

    let (status, out, err) = run(&pair.world, &["sweep"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains(&format!("moved from web-1 ({})", pair.holder.id)), "{out}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));

    assert_eq!(run(&pair.world, &["status"]).0, 3, "one node is left");
}

#[test]
fn move_there_and_refuse_what_is_no_candidate() {
    let pair = Pair::new(QUICK);
    let (status, out, err) = run(&pair.world, &["move", "--cluster", "web", "--to", &pair.peer.id]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));

    pair.holder.service.set(Service::Refuse);
    let (status, out, err) = run(&pair.world, &["move", "--to", &pair.holder.id, "--json"]);
    assert_eq!(status, 1, "{out}");
    let answer = json_of(&out);
    let decision = &answer["clusters"][0]["addresses"][0]["decision"];
    assert_eq!((&answer["ok"], &decision["why"]), (&json!(false), &json!("refused")));
    assert!(err.contains(&pair.holder.id), "the reason is on standard error, too: {err}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));

    let (status, out, _) = run(&pair.world, &["move", "--to", &pair.holder.id, "--force", "--yes"]);
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()), "{out}");
    assert_eq!(pair.world.ec2.tags(&pair.address.id)["eipwatch:mode"], "manual");
    assert!(matches!(status, 0 | 3), "{status}: {out}");
}

#[test]
fn drain_and_undrain_pause_and_resume() {
    let pair = Pair::new(QUICK);
    let (status, out, _) = run(&pair.world, &["drain", &pair.holder.id]);
    assert_eq!(status, 0, "{out}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
    assert_eq!(pair.world.ec2.tags(&pair.holder.id)["eipwatch:mode"], "drain");
    let (status, out, _) = run(&pair.world, &["undrain", &pair.holder.id]);
    assert_eq!(status, 0, "{out}");
    assert_eq!(pair.world.ec2.tags(&pair.holder.id)["eipwatch:mode"], "active");

    let (status, out, _) = run(&pair.world, &["pause", "--for", "2h"]);
    assert_eq!(status, 0, "{out}");
    assert!(pair.world.ec2.tags(&pair.address.id)["eipwatch:mode"].starts_with("manual until="));
    pair.peer.service.set(Service::Refuse);
    assert_eq!(run(&pair.world, &["sweep"]).0, 3, "it would move, and may not");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));
    let (status, out, _) = run(&pair.world, &["resume", "web"]);
    assert_eq!(status, 0, "{out}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()), "{out}");
}

#[test]
fn what_is_typed_wrongly_or_does_not_exist_is_status_2() {
    let pair = Pair::new(QUICK);
    for args in [&["staus"][..], &["drain"], &["move", "--to", "web-1"], &["pause", "--for", "soon"], &[]] {
        let (status, out, err) = run(&pair.world, args);
        assert_eq!((status, out.as_str()), (2, ""), "{args:?}: {err}");
    }
    let (status, _, err) = run(&pair.world, &["pause", "mail"]);
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("there is no cluster mail; there are: web"), "{err}");
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
}

#[test]
fn a_move_that_aws_refuses_is_status_1() {
    let pair = Pair::new(QUICK);
    pair.world.proxy.fault("AssociateAddress", FORBIDDEN, ALWAYS);
    let (status, out, err) = run(&pair.world, &["move"]);
    assert_eq!(status, 1, "{out}");
    assert!(err.contains("UnauthorizedOperation"), "{err}");

    let (status, out, _) = run(&pair.world, &["doctor"]);
    assert_eq!(status, 3, "{out}");
    assert!(out.contains("FAIL move:") && out.contains("ec2:AssociateAddress"), "{out}");
}

#[test]
fn doctor_finds_a_pair_that_could_move() {
    let pair = Pair::new(QUICK);
    let (status, out, err) = run(&pair.world, &["doctor", "--json"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let answer = json_of(&out);
    assert_eq!((&answer["ok"], &answer["clusters"][0]["could_move"]), (&json!(true), &json!(true)));
    assert_eq!(answer["clusters"][0]["detect_dead_ms"], 400);
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));
}

#[test]
fn a_drill_is_refused_where_the_address_could_not_come_back() {
    let pair = Pair::new(QUICK);
    pair.peer.service.set(Service::Refuse);
    let (status, out, err) = run(&pair.world, &["drill"]);
    assert_eq!((status, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("not ready"), "{err}");
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
}

#[test]
fn a_drill_goes_there_and_back() {
    let pair = Pair::new(QUICK);
    // What answers at the address itself: it is one of 127.0.0.0/8, too.
    let service = NodeServer::start(TcpListener::bind((pair.address.public_ip.as_str(), pair.world.port)).unwrap());
    let (status, out, err) = run(&pair.world, &["drill", "--json"]);
    assert_eq!(status, 0, "{out}{err}");
    let answer = json_of(&out);
    assert_eq!((&answer["ok"], &answer["cluster"], &answer["error"]), (&json!(true), &json!("web"), &Value::Null));
    let moves = answer["moves"].as_array().unwrap();
    assert_eq!((&moves[0]["from"], &moves[0]["to"]), (&json!(pair.holder.id), &json!(pair.peer.id)));
    assert_eq!((&moves[1]["from"], &moves[1]["to"]), (&json!(pair.peer.id), &json!(pair.holder.id)));
    assert!(moves.iter().all(|leg| leg["lost"] == 0 && leg["asked"].as_u64().unwrap() > 40), "{moves:#?}");
    assert!(service.connections() > 100);
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));
}

#[test]
fn without_aws_it_says_what_to_set() {
    let world = World::new();
    let mut status = command(&world, &["status"]);
    // Else the SDK asks the machine's instance metadata.
    status.env_remove("AWS_REGION").env("AWS_EC2_METADATA_DISABLED", "true");
    let (status, out, err) = told(status.output().unwrap());
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("AWS_REGION"), "{err}");
}

#[test]
fn the_deployed_function_can_be_asked_instead() {
    let world = World::new();
    let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
    let record = seen.clone();
    let lambda = Server::start(move |request| {
        record.lock().unwrap().push(request.clone());
        let command: Value = serde_json::from_slice(&request.body).unwrap();
        let json = |value: Value| Response::new(200, "application/json", value.to_string());
        Some(match command["action"].as_str().unwrap() {
            "status" => json(json!({
                "trigger": "manual", "ok": true, "error": null, "dry_run": false, "sweeps": 1, "clusters": [], "problems": []
            })),
            "pause" => json(json!({
                "errorType": "BadRequest", "errorMessage": "`cluster`: there is no cluster mail. Nothing was changed. A correct payload: {}"
            }))
            .header("X-Amz-Function-Error", "Unhandled"),
            _ => Response::new(404, "application/json", r#"{"Message":"Function not found: eipwatch"}"#),
        })
    });
    let ask = |args: &[&str]| {
        let args = [args, &["--function", "arn:aws:lambda:eu-west-1:1:function:eipwatch"]].concat();
        told(command(&world, &args).env("AWS_ENDPOINT_URL_LAMBDA", lambda.url()).output().unwrap())
    };
    let (status, out, err) = ask(&["status", "--json"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert_eq!(json_of(&out)["clusters"], json!([]));
    let (status, _, err) = ask(&["pause", "mail"]);
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("there is no cluster mail. Nothing was changed."), "{err}");
    let (status, _, err) = ask(&["move", "--to", "i-0123456789abcdef0", "--force"]);
    assert_eq!(status, 1, "{err}");
    assert!(err.contains("Function not found"), "{err}");

    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(
        seen[0].path,
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Aeipwatch/invocations"
    );
    assert!(seen[0].headers["authorization"].contains(&format!("/{REGION}/lambda/aws4_request")));
    assert_eq!(seen[0].headers["x-amz-invocation-type"], "RequestResponse");
    let moved: Value = serde_json::from_slice(&seen[2].body).unwrap();
    assert_eq!((&moved["to"], &moved["force"]), (&json!("i-0123456789abcdef0"), &json!(true)));
    assert!(world.proxy.calls().is_empty(), "EC2 is the function's to ask");
}

#[test]
fn watch_fails_over_and_stops_when_told() {
    let pair = Pair::new(QUICK);
    let watch = command(&pair.world, &["watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let wait_for = |what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(Instant::now() < until, "still not so: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_for("the peer is known to be healthy", &|| {
        pair.world.ec2.tags(&pair.peer.id).get("eipwatch:health").is_some_and(|tag| tag.contains("verdict=healthy"))
    });
    pair.holder.service.set(Service::Refuse);
    wait_for("the address is on the peer", &|| pair.holder_now().as_deref() == Some(pair.peer.id.as_str()));
    let killed = Command::new("sh").args(["-c", "kill \"$0\"", &watch.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = told(watch.wait_with_output().unwrap());
    assert_eq!(output.0, 0, "{}", output.1);
    let lines: Vec<Value> = output.1.lines().map(json_of).collect();
    assert!(lines.iter().any(|line| line["event"] == "move"), "the log tells it: {}", output.1);
    assert_eq!(lines.last().unwrap()["event"], "end");
}

#[test]
fn completions_and_the_manual_page_are_generated() {
    let world = World::new();
    let (status, script, _) = run(&world, &["completions", "bash"]);
    assert_eq!(status, 0);
    assert!(script.contains("undrain") && !script.contains("demo-node"), "{script}");
    let (status, page, _) = run(&world, &["man"]);
    assert_eq!(status, 0);
    assert!(page.contains(".TH eipwatch 1") && page.contains("\\-\\-dry\\-run"), "{page}");
}
