//! The command line as operators and scripts meet it: the real `eipwatch`, its output and its exit statuses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::http::{self, Request, Response, Server};
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
fn what_cannot_be_observed_is_status_1_whatever_was_asked() {
    let pair = Pair::new(QUICK);
    pair.world.proxy.fault("DescribeAddresses", FORBIDDEN, ALWAYS);
    let drain = ["drain", pair.holder.id.as_str()];
    for args in [&["status"][..], &["sweep"], &["move"], &drain, &["pause"], &["doctor"], &["drill"]] {
        let (status, _, err) = run(&pair.world, args);
        assert_eq!(status, 1, "{args:?}: {err}");
        assert!(err.contains("UnauthorizedOperation"), "{args:?}: {err}");
    }
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
}

#[test]
fn doctor_finds_a_pair_that_could_move() {
    let pair = Pair::new(QUICK);
    let (status, out, err) = run(&pair.world, &["doctor", "--json"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let answer = json_of(&out);
    assert_eq!((&answer["ok"], &answer["clusters"][0]["could_move"]), (&json!(true), &json!(true)));
    assert_eq!(answer["clusters"][0]["detect_dead_ms"], 400);
    let findings = answer["clusters"][0]["findings"].as_array().unwrap();
    let levels = |check: &str| -> Vec<&str> {
        findings.iter().filter(|one| one["check"] == check).map(|one| one["level"].as_str().unwrap()).collect()
    };
    assert_eq!(levels("route"), ["pass", "pass"], "{out}");
    assert_eq!(levels("clients"), ["pass"], "{out}");
    assert_eq!(levels("memory"), ["pass", "pass"], "{out}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.holder.id.as_str()));
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());

    let (status, out, err) = run(&pair.world, &["doctor", "web"]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("It could move right now, to web-2"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    assert_eq!(run(&pair.world, &["doctor", "mail"]).0, 2);
}

#[test]
fn doctor_finds_the_subnet_that_would_swallow_the_address() {
    let pair = Pair::new(QUICK);
    let default = [("RouteTableId", pair.world.table.as_str()), ("DestinationCidrBlock", "0.0.0.0/0")];
    pair.world.ec2.call("DeleteRoute", &default);
    let (status, out, _) = run(&pair.world, &["doctor"]);
    assert_eq!(status, 3, "{out}");
    assert!(out.contains("FAIL route: web-2") && out.contains(&pair.world.table), "{out}");

    // Who may not look is told so, and the rest is looked at.
    pair.world.proxy.fault("DescribeRouteTables", FORBIDDEN, ALWAYS);
    pair.world.proxy.fault("DescribeSecurityGroups", FORBIDDEN, ALWAYS);
    let (status, out, _) = run(&pair.world, &["doctor"]);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("warn route:") && out.contains("ec2:DescribeRouteTables"), "{out}");
    assert!(out.contains("warn let-in:") && out.contains("ec2:DescribeSecurityGroups"), "{out}");
}

#[test]
fn doctor_looks_through_the_deployed_functions_eyes() {
    let pair = Pair::new(QUICK);
    let group = Arc::new(Mutex::new(pair.world.group.clone()));
    let of_function = group.clone();
    let (holder, peer, ip) = (pair.holder.id.clone(), pair.peer.id.clone(), pair.address.public_ip.clone());
    let node = |id: &str, candidate: bool| {
        json!({
            "id": id, "name": null, "az": "eu-west-1a", "verdict": "healthy", "since": null, "mode": "active", "leaving": null,
            "candidate": candidate, "priority": 100, "evidence": [{"check": "ec2", "ok": true, "text": "running"}],
        })
    };
    let answer = move |moves: bool| {
        let decision = if moves {
            json!({"kind": "move", "to": peer, "why": "manual", "text": "", "vetoes": [], "would": null})
        } else {
            json!({"kind": "stay", "to": null, "why": "healthy", "text": "", "vetoes": [], "would": null})
        };
        json!({
            "trigger": "manual", "ok": true, "error": null, "dry_run": moves, "sweeps": 1, "problems": [],
            "clusters": [{
                "cluster": "web", "ready": true, "problems": [], "nodes": [node(&holder, false), node(&peer, true)],
                "addresses": [{
                    "public_ip": ip, "allocation_id": "eipalloc-0a", "mode": "auto", "holder": holder, "decision": decision, "moves": [],
                }],
            }],
        })
    };
    let lambda = Server::start(move |request| {
        let json = |value: Value| Response::new(200, "application/json", value.to_string());
        if request.path.ends_with("/configuration") {
            let vpc = json!({"VpcId": "vpc-1", "SecurityGroupIds": [*of_function.lock().unwrap()]});
            let variables = json!({"Variables": {"EIPWATCH_WATCH_SECONDS": "55"}});
            return Some(json(json!({
                "FunctionName": "eipwatch", "Timeout": 120, "VpcConfig": vpc, "Environment": variables
            })));
        }
        let command: Value = serde_json::from_slice(&request.body).unwrap();
        Some(json(answer(command["action"] == "move")))
    });
    let ask = |args: &[&str]| {
        let args = [&["doctor", "--function", "eipwatch"], args].concat();
        told(command(&pair.world, &args).env("AWS_ENDPOINT_URL_LAMBDA", lambda.url()).output().unwrap())
    };
    let port = pair.world.port.to_string();
    let rule = [
        ("GroupId", pair.world.group.as_str()),
        ("IpPermissions.1.IpProtocol", "tcp"),
        ("IpPermissions.1.FromPort", &port),
        ("IpPermissions.1.ToPort", &port),
        ("IpPermissions.1.Groups.1.GroupId", &pair.world.group),
    ];
    pair.world.ec2.call("AuthorizeSecurityGroupIngress", &rule);
    let (status, out, err) = ask(&[]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("pass let-in:"), "{out}");
    assert!(out.contains(&format!("It could move right now, to web-2 ({})", pair.peer.id)), "{out}");

    *group.lock().unwrap() = "sg-0123456789abcdef0".to_owned();
    let (status, out, _) = ask(&[]);
    assert_eq!(status, 3, "{out}");
    assert!(out.contains("FAIL let-in:") && out.contains("authorize-security-group-ingress"), "{out}");
    assert!(pair.world.proxy.calls().iter().all(|call| !call.changes() && call.action != "AssociateAddress"));
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
fn a_drill_that_cannot_measure_moves_nothing() {
    let pair = Pair::new(QUICK);
    // Nothing answers at the address itself.
    let (status, out, err) = run(&pair.world, &["drill"]);
    assert_eq!(status, 1, "{out}{err}");
    assert!(out.contains("is not answered well from here") && out.contains("nothing was moved"), "{out}");
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
}

#[test]
fn a_drill_that_is_interrupted_brings_the_address_back() {
    let pair = Pair::new(QUICK);
    let _service = NodeServer::start(TcpListener::bind((pair.address.public_ip.as_str(), pair.world.port)).unwrap());
    let drill = command(&pair.world, &["drill"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while pair.holder_now().as_deref() != Some(pair.peer.id.as_str()) {
        assert!(Instant::now() < until, "it was never moved");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(Command::new("sh").args(["-c", "kill -INT \"$0\"", &drill.id().to_string()]).status().unwrap().success());
    let (status, out, _) = told(drill.wait_with_output().unwrap());
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("interrupted") && out.contains("back:"), "{out}");
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
            "drain" => json(json!({
                "errorType": "Cloud", "errorMessage": "AWS cannot be asked: NoCredentials: none. Nothing was moved."
            }))
            .header("X-Amz-Function-Error", "Unhandled"),
            "resume" => Response::new(503, "application/json", r#"{"Message":"Service unavailable."}"#),
            "undrain" => json(json!({
                "errorType": "Sweep", "errorMessage": "EC2 could not be observed: Timeout. Nothing was changed. The full answer is in the log."
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
    // Whether it was done is told where that is known, and nowhere else.
    for (args, said, in_doubt) in [
        (["drain", "i-0123456789abcdef0"], "AWS cannot be asked: NoCredentials: none. Nothing was moved", false),
        (["resume", "web"], "Lambda failed (503): Service unavailable", true),
        (["undrain", "i-0123456789abcdef0"], "EC2 could not be observed: Timeout. Nothing was changed", false),
    ] {
        let (status, _, err) = ask(&args);
        assert!(status == 1 && err.contains(said) && !err.contains(".."), "{err}");
        assert_eq!(err.contains("may have been carried out"), in_doubt, "{err}");
    }

    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 6);
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
fn watch_serves_metrics_to_whoever_asks() {
    let pair = Pair::new(QUICK);
    let mut watch = command(&pair.world, &["watch", "--metrics", "127.0.0.1:0"])
        .env("EIPWATCH_WATCH_SECONDS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut err = BufReader::new(watch.stderr.take().unwrap());
    err.read_line(&mut said).unwrap();
    let at = said.trim().strip_prefix("eipwatch: metrics on http://").unwrap_or_else(|| panic!("{said}"));
    let at: SocketAddr = at.strip_suffix("/metrics").unwrap().parse().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = http::call(at, "GET", "/metrics", &[], b"").unwrap();
        assert_eq!(answer.status, 200);
        let text = answer.text();
        if text.contains("eipwatch_ready{cluster=\"web\"} 1\n") {
            assert!(text.contains("eipwatch_healthy_nodes{cluster=\"web\"} 2\n"), "{text}");
            assert!(text.contains("# TYPE eipwatch_api_calls_total counter\n"), "{text}");
            break;
        }
        assert!(Instant::now() < until, "{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // A second one cannot have the same address, and watches nothing.
    let (status, _, err) = run(&pair.world, &["watch", "--metrics", &at.to_string()]);
    assert_eq!(status, 1, "{err}");
    assert!(err.contains("Nothing is watched"), "{err}");
    assert!(Command::new("sh").args(["-c", "kill \"$0\"", &watch.id().to_string()]).status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

#[test]
fn status_goes_on_with_watch_until_it_is_told_to_stop() {
    let pair = Pair::new(QUICK);
    let mut status =
        command(&pair.world, &["status", "--watch", "--every", "1s"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(status.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "web: ready"));
    pair.peer.service.set(Service::Refuse);
    assert!(lines.any(|line| line.starts_with("web: not ready")), "it is looked again");
    assert!(Command::new("sh").args(["-c", "kill -INT \"$0\"", &status.id().to_string()]).status().unwrap().success());
    assert_eq!(status.wait().unwrap().code(), Some(3), "the standing of the last answer");
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
}

/// Runs it in a terminal of this width, where `typed` is typed. Exit status and all that the terminal showed.
fn in_terminal(world: &World, args: &str, typed: &str, columns: u16) -> (i32, String) {
    let typed_command = format!("stty cols {columns}; exec {} {args}", env!("CARGO_BIN_EXE_eipwatch"));
    let mut script = Command::new("script");
    script.args(["-qefc", &typed_command, "/dev/null"]).env_clear().env("TERM", "xterm").env("PATH", "/usr/bin:/bin");
    for (name, value) in command(world, &[]).get_envs() {
        script.env(name, value.unwrap());
    }
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Kept open until it has ended: a terminal does not close.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(typed.as_bytes()).unwrap();
    let mut shown = String::new();
    child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    drop(stdin);
    (child.wait().unwrap().code().unwrap(), shown)
}

/// The text without its colours.
fn plain(shown: &str) -> String {
    let mut out = String::new();
    let mut rest = shown;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out.push_str(before);
        rest = after.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &after[end + 1..]);
    }
    out + rest
}

#[test]
fn in_a_terminal_it_asks_first_and_is_as_wide_as_that() {
    let pair = Pair::new(QUICK);
    let (status, shown) = in_terminal(&pair.world, "drain", "", 80);
    assert_eq!(status, 2, "{shown}");
    let (status, shown) = in_terminal(&pair.world, &format!("drain {}", pair.holder.id), "n\n", 80);
    assert_eq!(status, 1, "{shown}");
    assert!(shown.contains("Go on? [y/N]") && shown.contains("nothing was changed"), "{shown}");
    assert_eq!(pair.world.proxy.changes(), Vec::<String>::new());
    let (status, shown) = in_terminal(&pair.world, &format!("drain {}", pair.holder.id), "y\n", 80);
    assert_eq!(status, 0, "{shown}");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()));

    for columns in [80, 120] {
        let (status, shown) = in_terminal(&pair.world, "status", "", columns);
        assert_eq!(status, 3, "{shown}");
        assert!(shown.contains('\u{1b}'), "in colour: {shown:?}");
        let widest = plain(&shown).lines().map(|line| line.trim_end().chars().count()).max().unwrap();
        let most = usize::from(columns.min(100));
        assert!(widest <= most && widest > most - 25, "{widest} of {columns}:\n{shown}");
    }
}

#[test]
fn two_hundred_clusters_take_a_line_each() {
    const CLUSTERS: u8 = 200;
    let world = World::new();
    // The whole of 127.0.0.0/8 leads here. All nodes are probed at once, and the queue of one listener takes 128
    // connections: what comes beyond that is dropped by the kernel and tried again after a second.
    const CLUSTERS_A_LISTENER: usize = 20;
    let listeners: Vec<TcpListener> = (0..usize::from(CLUSTERS).div_ceil(CLUSTERS_A_LISTENER))
        .map(|_| TcpListener::bind("0.0.0.0:0").unwrap())
        .collect();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    let _services: Vec<NodeServer> = listeners.into_iter().map(NodeServer::start).collect();
    let tag = |key: &str, value: &str| format!("<item><key>{key}</key><value>{value}</value></item>");
    let id = |cluster: u8, node: u8| format!("{cluster:016x}{node}");
    let ip = |cluster: u8, node: u8| Ipv4Addr::new(127, 9, cluster, 10 + node);
    let (mut addresses, mut instances, mut statuses) = (String::new(), String::new(), String::new());
    for cluster in 0..CLUSTERS {
        let named = tag("eipwatch:cluster", &format!("web-{cluster:03}"));
        let port = ports[usize::from(cluster) / CLUSTERS_A_LISTENER];
        let (holder, check) = (id(cluster, 1), tag("eipwatch:check", &format!("http:{port}/health")));
        // A busy machine answers late.
        let policy = tag("eipwatch:policy", "timeout=10s");
        addresses.push_str(&format!(
            "<item><publicIp>203.0.113.{cluster}</publicIp><allocationId>eipalloc-{holder}</allocationId><instanceId>i-{holder}</instanceId>\
             <associationId>eipassoc-1</associationId><networkInterfaceId>eni-{holder}</networkInterfaceId>\
             <privateIpAddress>{}</privateIpAddress><tagSet>{named}{check}{policy}</tagSet></item>",
            ip(cluster, 1)
        ));
        for node in 1..=2 {
            let (id, ip) = (id(cluster, node), ip(cluster, node));
            instances.push_str(&format!(
                "<item><instancesSet><item><instanceId>i-{id}</instanceId><instanceState><name>running</name></instanceState>\
                 <launchTime>2026-01-01T00:00:00Z</launchTime><placement><availabilityZone>eu-west-1a</availabilityZone></placement>\
                 <networkInterfaceSet><item><networkInterfaceId>eni-{id}</networkInterfaceId><privateIpAddress>{ip}</privateIpAddress>\
                 <attachment><deviceIndex>0</deviceIndex></attachment></item></networkInterfaceSet><tagSet>{named}</tagSet></item></instancesSet></item>"
            ));
            statuses.push_str(&format!(
                "<item><instanceId>i-{id}</instanceId><systemStatus><status>ok</status></systemStatus></item>"
            ));
        }
    }
    let answers = [
        ("DescribeAddresses", format!("<addressesSet>{addresses}</addressesSet>")),
        ("DescribeInstances", format!("<reservationSet>{instances}</reservationSet>")),
        ("DescribeInstanceStatus", format!("<instanceStatusSet>{statuses}</instanceStatusSet>")),
    ];
    let ec2 = Server::start(move |request| {
        let action = http::form(&request.body)["Action"].clone();
        let (_, content) = answers.iter().find(|(of, _)| *of == action).unwrap_or_else(|| panic!("{action}"));
        Some(Response::new(200, "text/xml", format!("<{action}Response>{content}</{action}Response>")))
    });
    let began = Instant::now();
    let mut child = command(&world, &["status"])
        .env("AWS_ENDPOINT_URL", ec2.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    let took_ms = began.elapsed().as_millis();
    // Until it is waited for, its record stays: fields 14 and 15 are its time on a processor, in hundredths of a second.
    let record = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let ticks: Vec<u64> = record
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|word| word.parse().unwrap())
        .collect();
    let cpu_ms = 10 * ticks.iter().sum::<u64>();
    eprintln!("status of {CLUSTERS} clusters: {took_ms} ms, process and all, {cpu_ms} ms of them on a processor");
    let status = child.wait().unwrap().code().unwrap();
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.lines().count(), usize::from(CLUSTERS) + 1, "{out}");
    assert!(out.ends_with("200 clusters, 0 of them in need of attention\n"), "{out}");
}

#[test]
fn completions_and_the_manual_page_are_generated() {
    let world = World::new();
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let (status, script, _) = run(&world, &["completions", shell]);
        assert!(status == 0 && script.contains("undrain"), "{shell}: {script}");
    }
    let (status, script, _) = run(&world, &["completions", "bash"]);
    assert_eq!(status, 0);
    assert!(script.contains("undrain") && !script.contains("demo-node"), "{script}");
    let (status, page, _) = run(&world, &["man"]);
    assert_eq!(status, 0);
    assert!(page.contains(".TH eipwatch 1") && page.contains("\\-\\-dry\\-run"), "{page}");
}
