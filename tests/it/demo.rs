//! `eipwatch demo`, as somebody who has just cloned the repository runs it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_demo_fails_over_and_leaves_no_process_behind() {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_eipwatch")).arg("demo").stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{err}");
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(!out.contains('\u{1b}'), "plain lines in a pipe: {out:?}");
    for part in ["web-1 is unhealthy", "Decision: move (holder-unhealthy)", "Decision: move (holder-draining)"] {
        assert!(out.contains(part), "{part:?} is missing in:\n{out}");
    }
    let sum = out.split("What the client measured:\n").nth(1).unwrap();
    let lines: Vec<&str> = sum.lines().take(3).map(str::trim).collect();
    assert!(lines[0].starts_with("web-1 killed") && lines[0].contains("outage "), "{sum}");
    assert!(lines[1].starts_with("web-2 hung") && lines[1].contains("outage "), "{sum}");
    assert!(lines[2].starts_with("web-3 drained") && lines[2].contains("no outage"), "{sum}");
}

#[test]
fn a_script_is_told_what_was_measured_in_one_document() {
    let output = Command::new(env!("CARGO_BIN_EXE_eipwatch")).args(["demo", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["ok"], true);
    let steps = told["steps"].as_array().unwrap();
    let ways: Vec<_> =
        steps.iter().map(|step| (step["from"].as_str().unwrap(), step["to"].as_str().unwrap())).collect();
    assert_eq!(ways, [("web-1", "web-2"), ("web-2", "web-3"), ("web-3", "web-1")]);
    assert!(steps[0]["outage_ms"].as_u64().unwrap() > 0 && steps[2]["outage_ms"] == 0, "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_demo_that_is_killed_takes_its_nodes_along() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_eipwatch")).arg("demo").stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let wait_for = |count: usize| {
        loop {
            let nodes = children_of(demo.id());
            if nodes.len() == count {
                return nodes;
            }
            assert!(Instant::now() < until, "{nodes:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let nodes = wait_for(3);
    demo.kill().unwrap();
    demo.wait().unwrap();
    while nodes.iter().any(|node| is_node(*node)) {
        assert!(Instant::now() < until, "a node of {nodes:?} lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whoever started it may be gone before it serves.
#[test]
fn a_node_whose_starter_is_gone_ends_quietly() {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let mut node = Command::new(env!("CARGO_BIN_EXE_eipwatch"));
    node.args(["demo-node", "--name", "web-1", "--listen", "127.0.0.1:0"]).stdin(Stdio::piped()).stdout(write);
    let ended = node.output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

/// The processes that this one has started.
#[cfg(target_os = "linux")]
fn children_of(parent: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| is_node(*pid)).collect()
}

#[cfg(target_os = "linux")]
fn is_node(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains("demo-node"))
}
