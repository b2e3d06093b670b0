//! The stand-ins can be trusted: each does what the scenarios rely on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cloudwatch::{Alarm, CloudWatch};
use super::http;
use super::moto::Xml;
use super::node::{OK, Service};
use super::proxy::{ALWAYS, BROKEN, FORBIDDEN, Fault, Status, THROTTLED, instance_status};
use super::runtime_api::Function;
use super::world::{Pair, World};

/// A GET as a health check sends it; `None` if there is no status line within half a second.
fn get(addr: (&str, u16)) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    write!(stream, "GET /health HTTP/1.1\r\nHost: node\r\n\r\n").ok()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 64]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) && !answer.contains(&b'\n') {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
        }
    }
    answer.contains(&b'\n').then(|| String::from_utf8_lossy(&answer).into_owned())
}

/// EC2 asked as the function asks it: through the proxy. `None` if the connection was cut.
fn ask(world: &World, action: &str, params: &[(&str, &str)]) -> Option<http::Response> {
    let addr = world.proxy.url().trim_start_matches("http://").parse().unwrap();
    let all = [("Action", action), ("Version", "2016-11-15")];
    let body = http::to_form(all.iter().chain(params).copied());
    let credential =
        "AWS4-HMAC-SHA256 Credential=test/20261122/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
    let headers = [
        ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
        ("Authorization".to_owned(), credential.to_owned()),
    ];
    http::call(addr, "POST", "/", &headers, body.as_bytes()).ok()
}

fn move_to_peer(pair: &Pair) -> Option<http::Response> {
    let params = [
        ("AllocationId", pair.address.id.as_str()),
        ("NetworkInterfaceId", &pair.peer.interface),
        ("PrivateIpAddress", &pair.peer.ip),
        ("AllowReassociation", "true"),
    ];
    ask(&pair.world, "AssociateAddress", &params)
}

#[test]
fn every_world_is_an_account_of_its_own() {
    let (one, other) = (Pair::new("fall=2"), Pair::new(""));
    assert_eq!(one.holder_now().as_deref(), Some(one.holder.id.as_str()));
    assert_eq!(other.holder_now().as_deref(), Some(other.holder.id.as_str()));
    let seen = ask(&one.world, "DescribeAddresses", &[]).unwrap().text();
    assert!(seen.contains(&one.address.id) && seen.contains("fall=2"), "{seen}");
    assert!(!seen.contains(&other.address.id), "{seen}");
    assert_ne!(one.holder.ip, other.holder.ip);
    assert_eq!(one.world.ec2.tags(&one.peer.id)["Name"], "web-2");
}

#[test]
fn a_service_answers_fails_dies_hangs_drips_and_returns() {
    let world = World::new();
    let node = world.node("web-1", &[]);
    let addr = (node.ip.as_str(), world.port);
    assert!(get(addr).unwrap().starts_with("HTTP/1.1 200 "));
    node.service.set(Service::Status(503));
    assert!(get(addr).unwrap().starts_with("HTTP/1.1 503 "));
    node.service.set(Service::Refuse);
    assert!(TcpStream::connect(addr).is_err());
    for silent in [Service::Hang, Service::Drip] {
        node.service.set(silent);
        assert!(TcpStream::connect(addr).is_ok());
        assert_eq!(get(addr), None, "{silent:?}");
    }
    node.service.set(OK);
    assert!(get(addr).unwrap().starts_with("HTTP/1.1 200 "));
    assert!(node.service.connections() >= 5);
}

#[test]
fn the_proxy_records_and_fails_as_told() {
    let pair = Pair::new("");
    let (proxy, holder) = (&pair.world.proxy, Some(pair.holder.id.as_str()));

    for (fault, status, code) in [
        (THROTTLED, 503, "RequestLimitExceeded"),
        (BROKEN, 500, "InternalError"),
        (FORBIDDEN, 403, "UnauthorizedOperation"),
    ] {
        proxy.fault("AssociateAddress", fault, 1);
        let answer = move_to_peer(&pair).unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.text().contains(&format!("<Code>{code}</Code>")));
    }
    proxy.fault("AssociateAddress", Fault::CutBefore, 1);
    assert!(move_to_peer(&pair).is_none());
    proxy.fault("AssociateAddress", Fault::Pretend, 1);
    assert_eq!(move_to_peer(&pair).unwrap().status, 200);
    assert_eq!(pair.holder_now().as_deref(), holder, "none of these moves anything");

    proxy.fault("AssociateAddress", Fault::CutAfter, 1);
    assert!(move_to_peer(&pair).is_none());
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()), "but this does");

    let statuses: Vec<_> = proxy.calls_of("AssociateAddress").iter().map(|call| call.status).collect();
    assert_eq!(statuses, [Some(503), Some(500), Some(403), None, Some(200), None]);
    assert_eq!(proxy.calls()[0].param("AllocationId"), Some(pair.address.id.as_str()));
    assert_eq!(proxy.changes().len(), 6);
    proxy.forget();
    ask(&pair.world, "DescribeAddresses", &[]).unwrap();
    assert_eq!(proxy.changes(), Vec::<String>::new());
}

#[test]
fn the_proxy_can_show_what_was_before() {
    let pair = Pair::new("");
    let proxy = &pair.world.proxy;
    let shown = || ask(&pair.world, "DescribeAddresses", &[]).unwrap().text();
    assert!(shown().contains(&pair.holder.interface));
    proxy.stale_reads(Duration::from_secs(60));
    move_to_peer(&pair).unwrap();
    assert!(shown().contains(&pair.holder.interface), "stale");
    assert_eq!(pair.holder_now().as_deref(), Some(pair.peer.id.as_str()), "and yet it moved");
    proxy.heal();
    assert!(shown().contains(&pair.peer.interface));
}

#[test]
fn the_proxy_can_delay_and_invent() {
    let pair = Pair::new("");
    let proxy = &pair.world.proxy;
    proxy.fault("*", Fault::Delay(Duration::from_millis(200)), 1);
    let begun = Instant::now();
    ask(&pair.world, "DescribeAddresses", &[]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let event = Some(("instance-retirement", "2026-11-23T00:00:00.000Z"));
    let status = Status { system: "impaired", event, ..Status::ok(&pair.holder.id) };
    proxy.fault("DescribeInstanceStatus", instance_status(&[status]), ALWAYS);
    for _ in 0..2 {
        let text = ask(&pair.world, "DescribeInstanceStatus", &[]).unwrap().text();
        let shown = Xml(text).child("DescribeInstanceStatusResponse").unwrap().items("instanceStatusSet").remove(0);
        assert_eq!(shown.text("instanceId").as_deref(), Some(pair.holder.id.as_str()));
        assert_eq!(shown.child("systemStatus").unwrap().text("status").as_deref(), Some("impaired"));
        assert_eq!(shown.items("eventsSet")[0].text("code").as_deref(), Some("instance-retirement"));
    }
}

#[test]
fn cloudwatch_answers_in_cbor() {
    let cloudwatch = CloudWatch::start();
    cloudwatch.set("web-errors", "ALARM", Some("i-0123456789abcdef0"));
    cloudwatch.put(Alarm { name: "all".into(), state: "OK".into(), instance: None, composite: true });
    let addr = cloudwatch.url().trim_start_matches("http://").parse().unwrap();
    let ask = |body: &str| {
        let path = "/service/GraniteServiceVersion20100801/operation/DescribeAlarms";
        http::call(addr, "POST", path, &[], body.as_bytes()).unwrap()
    };
    let metric = b"\xa2\x6cMetricAlarms\x81\xa3\x69AlarmName\x6aweb-errors\x6aStateValue\x65ALARM\
        \x6aDimensions\x81\xa2\x64Name\x6aInstanceId\x65Value\x73i-0123456789abcdef0\x6fCompositeAlarms";
    // CloudWatch shows composite alarms only to those who ask for them.
    assert_eq!(ask("").body, [metric.as_slice(), b"\x80"].concat());
    let composite = b"\x81\xa2\x69AlarmName\x63all\x6aStateValue\x62OK";
    assert_eq!(ask("AlarmTypes MetricAlarm CompositeAlarm").body, [metric.as_slice(), composite].concat());
    assert!(!ask("AlarmNames other").text().contains("web-errors"));
    cloudwatch.broken(true);
    assert_eq!(ask("").status, 500);
    assert_eq!(cloudwatch.calls(), 4);
}

#[test]
fn lists_within_lists_are_read() {
    let xml = Xml("<a/><s><item><t><item><k>1</k></item></t></item><item><k>a&amp;b</k></item></s>".into());
    assert_eq!(xml.items("s").len(), 2);
    assert_eq!(xml.items("s")[0].items("t")[0].text("k").as_deref(), Some("1"));
    assert_eq!(xml.items("s")[1].text("k").as_deref(), Some("a&b"));
    assert_eq!((xml.text("a"), xml.text("b")), (None, None));
}

/// A function in a few lines of shell, so that what the tests hear of a real one can be believed.
fn fake(body: &str) -> Function {
    let script = format!(
        r#"api=/dev/tcp/${{AWS_LAMBDA_RUNTIME_API%:*}}/${{AWS_LAMBDA_RUNTIME_API#*:}}
        while :; do
            exec 3<>$api
            printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n' >&3
            while IFS= read -r line <&3; do
                line=${{line%$'\r'}}
                case $line in
                    Lambda-Runtime-Aws-Request-Id:*) id=${{line#*: }} ;;
                    Lambda-Runtime-Deadline-Ms:*) deadline=${{line#*: }} ;;
                    '') break ;;
                esac
            done
            event=$(cat <&3)
            say() {{
                exec 3<>$api
                printf 'POST /2018-06-01/runtime/invocation/%s/%s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s' "$id" "$1" "${{#2}}" "$2" >&3
                cat <&3 >/dev/null
            }}
            {body}
        done"#
    );
    Function::start_program(&PathBuf::from("/bin/bash"), &["-c", &script], &[("PATH", "/usr/bin:/bin")])
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_function_answers_logs_and_is_invoked_again() {
    let function = fake(r#"echo "{\"left\":$((deadline - $(date +%s%3N)))}"; say response "[$event]""#);
    for number in 1..=2 {
        let invocation = function.invoke(json!({"number": number}), MINUTE);
        assert_eq!(invocation.answer(), &json!([{"number": number}]));
        let left_ms = invocation.logs[0]["left"].as_i64().unwrap();
        assert!((55_000..=60_000).contains(&left_ms), "{left_ms}");
        assert_eq!(invocation.logs.len(), 1);
    }
    assert!(function.peak_memory_kib() > 500);
    assert!(!function.started_in().is_zero());
}

#[test]
fn a_function_that_fails_is_heard() {
    let function = fake(r#"say error '{"errorType":"BadRequest","errorMessage":"why"}'"#);
    let invocation = function.invoke(json!({}), MINUTE);
    assert_eq!(
        (invocation.error().error_type.as_str(), invocation.error().error_message.as_str()),
        ("BadRequest", "why")
    );
}

#[test]
#[should_panic(expected = "out of time while waiting for the answer")]
fn a_function_that_misses_its_deadline_is_found_out() {
    fake("exec sleep 60").invoke(json!({}), Duration::from_millis(200));
}

#[test]
#[should_panic(expected = "the function ended while waiting for the answer")]
fn a_function_that_dies_is_found_out() {
    fake("exit 3").invoke(json!({}), MINUTE);
}

#[test]
#[should_panic(expected = "a log line that is not a JSON object: thread main panicked")]
fn a_function_that_logs_plain_text_is_found_out() {
    fake("echo 'thread main panicked' >&2; say response null").invoke(json!({}), MINUTE);
}

#[test]
#[should_panic(expected = "the function ended while starting")]
fn a_function_that_does_not_start_is_found_out() {
    Function::start_program(&PathBuf::from("/bin/false"), &[], &[]).invoke(json!({}), MINUTE);
}

#[test]
fn a_call_that_the_role_does_not_allow_is_found() {
    for (action, found) in [("DescribeAddresses", false), ("DeleteTags", true)] {
        let world = World::new();
        world.proxy.is_the_functions();
        // What EC2 would say is no matter.
        world.proxy.fault(action, FORBIDDEN, ALWAYS);
        ask(&world, action, &[]);
        world.proxy.forget();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(world)));
        assert_eq!(ended.is_err(), found, "{action}");
    }
}
