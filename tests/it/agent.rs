//! The real `eipwatch-agent` against moto, with a metadata service of the tests' own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::imds::Imds;
use crate::harness::node::{OK, Service};
use crate::harness::proxy::{ALWAYS, FORBIDDEN, Fault, THROTTLED};
use crate::harness::world::{Node, World, schedule};

const KEY: &str = "eipwatch:heartbeat";

/// More than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// What a busy machine may add to a time that is promised.
const SLACK: Duration = Duration::from_secs(2);

/// A node with its metadata service, and a place for its agents.
struct Home<'a> {
    world: &'a World,
    node: Node,
    imds: Imds,
    run_dir: PathBuf,
}

impl<'a> Home<'a> {
    fn new(world: &'a World, name: &str, tags: &[(&str, &str)]) -> Home<'a> {
        static HOMES: AtomicU64 = AtomicU64::new(0);
        let node = world.node(name, tags);
        let imds = Imds::start(&node.id);
        let number = HOMES.fetch_add(1, Ordering::SeqCst);
        let run_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("agent-{}-{number}", std::process::id()));
        fs::create_dir(&run_dir).unwrap();
        Home { world, node, imds, run_dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eipwatch-agent"));
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.run_dir)
            .env("EIPWATCH_AGENT_RUN_DIR", &self.run_dir)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.imds.url())
            .env("AWS_ENDPOINT_URL", self.world.proxy.url());
        command
    }

    /// An agent that checks the node's service, with these options besides.
    fn agent(&self, args: &[&str]) -> Agent {
        let check = format!("http:{}/health", self.world.port);
        let all = [&["--check", &check, "--host", &self.node.ip], args].concat();
        let log = self.run_dir.join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = self.command(&all).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Agent { child, log }
    }

    fn heartbeat(&self) -> String {
        self.world.ec2.tags(&self.node.id).remove(KEY).unwrap_or_default()
    }

    /// Until its heartbeat has this status; how long that took.
    fn wait_for(&self, status: &str) -> Duration {
        let word = format!(" status={status} ");
        until(&format!("{status}, not {}", self.heartbeat()), || self.heartbeat().contains(&word))
    }

    /// The heartbeats that the agents tried to write, in order.
    fn attempts(&self) -> Vec<(Instant, String)> {
        let calls = self.world.proxy.calls_of("CreateTags").into_iter();
        let of_node = calls.filter(|call| call.param("ResourceId.1") == Some(self.node.id.as_str()));
        of_node.map(|call| (call.at, call.param("Tag.1.Value").unwrap().to_owned())).collect()
    }
}

struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGTERM, as systemd stops it; how it ended.
    fn stop(&mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Resident memory.
    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the agent's log\n{}", self.log());
        }
    }
}

fn until(what: &str, mut come: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !come() {
        assert!(begun.elapsed() < LONG, "out of time while waiting for {what}");
        thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

fn seq(heartbeat: &str) -> u64 {
    let (_, rest) = heartbeat.split_once("seq=").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_node_s_health_stands_in_its_tag() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    let mut agent = home.agent(&["--every", "1s"]);
    home.wait_for("ok");
    let first = home.heartbeat();
    assert!(first.starts_with("seq=") && first.contains(" at=20") && first.ends_with(" status=ok every=1s"), "{first}");
    until("a second heartbeat", || seq(&home.heartbeat()) > seq(&first));

    home.node.service.set(Service::Refuse);
    let took = home.wait_for("fail");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(home.heartbeat().contains(" why=http:"), "{}", home.heartbeat());
    home.node.service.set(OK);
    home.wait_for("ok");

    // It asks EC2 nothing and writes nothing else.
    let calls = world.proxy.calls();
    assert!(calls.iter().all(|call| call.action == "CreateTags"), "{calls:?}");
    assert!(calls.iter().all(|call| call.param("Tag.1.Key") == Some(KEY) && call.param("Tag.2.Key").is_none()));
    assert!(calls.iter().all(|call| call.param("ResourceId.2").is_none()));
    // The limit is that of a release build; this one is larger.
    assert!(agent.resident_kib() < 15 << 10, "{} KiB resident", agent.resident_kib());
    assert!(agent.is_running());
}

#[test]
fn a_restart_announces_nothing_and_leave_on_exit_does() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    let mut agent = home.agent(&["--every", "1s"]);
    home.wait_for("ok");
    assert!(agent.stop().success());
    let before = home.heartbeat();
    let mut agent = home.agent(&["--every", "1s", "--leave-on-exit"]);
    until("the next agent's heartbeat", || seq(&home.heartbeat()) > seq(&before));
    assert!(home.attempts().iter().all(|(_, beat)| beat.contains(" status=ok ")), "{:?}", home.attempts());

    let begun = Instant::now();
    assert!(agent.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(home.heartbeat().contains(" status=leaving every=1s why="), "{}", home.heartbeat());
}

#[test]
fn a_goodbye_gives_up_on_an_ec2_that_fails_or_does_not_answer() {
    // More than the two seconds that it has, less than what would be taken for hung here.
    let slow = Fault::Delay(Duration::from_secs(8));
    for fault in [THROTTLED, FORBIDDEN, Fault::CutBefore, slow] {
        let world = World::new();
        let home = Home::new(&world, "web-1", &[]);
        let mut agent = home.agent(&["--every", "1s", "--leave-on-exit"]);
        home.wait_for("ok");
        world.proxy.fault("CreateTags", fault.clone(), ALWAYS);
        let begun = Instant::now();
        assert!(agent.stop().success());
        assert!(begun.elapsed() < Duration::from_millis(3_000), "{fault:?}: {:?}", begun.elapsed());
        assert!(agent.log().contains("could not be announced"), "{}", agent.log());

        let begun = Instant::now();
        let leave = home.command(&["leave"]).output().unwrap();
        assert_eq!(leave.status.code(), Some(1), "{fault:?}: {leave:?}");
        assert!(begun.elapsed() < Duration::from_millis(3_500), "{fault:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn leave_is_said_and_stays_said_until_the_agent_comes_back() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    let mut agent = home.agent(&["--every", "1s"]);
    home.wait_for("ok");

    let begun = Instant::now();
    let leave = home.command(&["leave", "--why", "new kernel"]).output().unwrap();
    assert!(leave.status.success(), "{leave:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(String::from_utf8_lossy(&leave.stdout).contains("status=leaving every=5s why=new_kernel"), "{leave:?}");
    let said = seq(&home.heartbeat());
    until("the agent to say it itself", || seq(&home.heartbeat()) > said && home.heartbeat().contains(" every=1s "));
    world.proxy.forget();
    thread::sleep(Duration::from_millis(2_500));
    let after = home.attempts();
    assert!(!after.is_empty() && after.iter().all(|(_, beat)| beat.contains(" status=leaving ")), "{after:?}");

    assert!(agent.stop().success());
    let _agent = home.agent(&["--every", "1s"]);
    home.wait_for("ok");
}

#[test]
fn a_spot_notice_is_leaving() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    let _agent = home.agent(&["--every", "1s"]);
    home.wait_for("ok");
    home.imds.spot(Some(r#"{"action": "terminate", "time": "2026-11-22T08:22:00Z"}"#));
    let took = home.wait_for("leaving");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let beat = home.heartbeat();
    assert!(beat.ends_with("why=spot_terminate_at_2026-11-22T08:22:00Z"), "{beat}");
    // A metadata service that falls silent takes nothing back.
    home.imds.down(true);
    thread::sleep(Duration::from_millis(6_000));
    assert!(home.heartbeat().contains(" status=leaving "), "{}", home.heartbeat());
}

#[test]
fn a_failing_ec2_is_survived_and_never_asked_faster() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    let mut agent = home.agent(&["--every", "1s"]);
    home.wait_for("ok");
    world.proxy.forget();
    world.proxy.fault("CreateTags", THROTTLED, ALWAYS);
    thread::sleep(Duration::from_secs(8));
    let attempts = home.attempts();
    assert!((2..=6).contains(&attempts.len()), "{} attempts in 8 s", attempts.len());
    for pair in attempts.windows(2) {
        // By the agent's own clock: when they arrive says how busy this machine is, too.
        let gap_ms = seq(&pair[1].1) - seq(&pair[0].1);
        assert!(gap_ms > 950, "{gap_ms} ms");
    }
    assert_eq!(agent.log().matches("could not be written").count(), 1, "{}", agent.log());
    assert!(agent.is_running());
    world.proxy.heal();
    let last = seq(&home.heartbeat());
    until("a heartbeat after all", || seq(&home.heartbeat()) > last);
    // EC2 shows it before the agent has EC2's answer.
    until("word of it", || agent.log().contains("the heartbeat is written again"));
}

#[test]
fn without_metadata_it_waits() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    home.imds.down(true);
    let mut agent = home.agent(&["--every", "1s"]);
    thread::sleep(Duration::from_secs(4));
    assert!(agent.is_running());
    assert_eq!(agent.log().matches("this instance is not known yet").count(), 1, "{}", agent.log());
    home.imds.down(false);
    home.wait_for("ok");
    until("a question for spot interruptions", || home.imds.spot_questions() > 0);
}

#[test]
fn it_can_be_tried() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    let check = format!("http:{}/health", world.port);
    let tried = |args: &[&str]| {
        let all = [&["--once", "--check", &check, "--host", &home.node.ip], args].concat();
        home.command(&all).output().unwrap()
    };
    let dry = tried(&["--dry-run"]);
    assert!(dry.status.success(), "{dry:?}");
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(said.starts_with("would write eipwatch:heartbeat: seq=") && said.contains("status=ok"), "{said}");
    assert_eq!(home.heartbeat(), "");
    let once = tried(&[]);
    assert!(once.status.success(), "{once:?}");
    assert!(String::from_utf8_lossy(&once.stdout).contains(&home.heartbeat()), "{once:?}");
    world.proxy.fault("CreateTags", FORBIDDEN, ALWAYS);
    let forbidden = tried(&[]);
    assert_eq!(forbidden.status.code(), Some(1), "{forbidden:?}");
    let wrong = home.command(&["--check", "ping"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

/// Who may not tell the running agent would have the leave taken back: nothing is written.
#[test]
fn a_leave_of_which_the_running_agent_cannot_be_told_is_refused() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    // Root may write anywhere; who is not has to reach the program. Another process copies it: one that a test running beside this
    // starts would keep our copy open for writing, and so "busy".
    let program = std::env::temp_dir().join(format!("eipwatch-agent-{}", std::process::id()));
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_eipwatch-agent")).arg(&program).status().unwrap().success());
    let mut leave = Command::new(&program);
    leave.args(["leave", "--run-dir", "/"]).env_clear();
    leave.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", home.imds.url()).env("AWS_ENDPOINT_URL", world.proxy.url());
    if rustix::process::geteuid().is_root() {
        leave.uid(65_534).gid(65_534);
    }
    let leave = leave.output();
    fs::remove_file(&program).unwrap();
    let leave = leave.unwrap();
    let said = String::from_utf8_lossy(&leave.stderr).into_owned();
    assert_eq!(leave.status.code(), Some(1), "{leave:?}");
    assert!(said.contains("Nothing was written: run this as root"), "{said}");
    assert_eq!((home.heartbeat(), home.attempts().len()), (String::new(), 0));
}

/// systemd is slow while it reloads: that is no failure of a unit, whatever the checks' time limit.
#[test]
fn a_slow_systemctl_fails_no_unit() {
    let world = World::new();
    let home = Home::new(&world, "web-1", &[]);
    let systemctl = home.run_dir.join("systemctl");
    fs::write(&systemctl, "#!/bin/sh\n/bin/sleep 0.4\necho active\n").unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let args = ["--once", "--dry-run", "--fall", "1", "--rise", "1", "--timeout", "50ms", "--check", "unit:x.service"];
    let tried = home.command(&args).env("PATH", &home.run_dir).output().unwrap();
    assert!(String::from_utf8_lossy(&tried.stdout).contains("status=ok"), "{tried:?}");
}

/// A cluster whose only check is the heartbeat, an agent on each node, and a watch.
fn in_a_watch(act: impl Fn(&Home<'_>, &mut Agent), expect_move: bool) -> Option<Duration> {
    let world = World::new();
    let holder = Home::new(&world, "web-1", &[("eipwatch:cluster", "web")]);
    let peer = Home::new(&world, "web-2", &[("eipwatch:cluster", "web")]);
    let address = world.address(&[("eipwatch:cluster", "web"), ("eipwatch:check", "heartbeat")]);
    world.associate(&address, &holder.node);
    let mut agent = holder.agent(&["--every", "5s"]);
    let _other = peer.agent(&["--every", "5s"]);
    holder.wait_for("ok");
    peer.wait_for("ok");
    let function = world.function(&[("EIPWATCH_WATCH_SECONDS", "40")]);
    thread::scope(|scope| {
        let watch = scope.spawn(|| function.invoke(schedule(), Duration::from_secs(60)));
        // Into the middle of the watch, wherever it is between two of its looks.
        thread::sleep(Duration::from_millis(8_000 + u64::from(fastrand::u16(0..5_000))));
        assert_eq!(
            world.holder(&address).as_deref(),
            Some(holder.node.id.as_str()),
            "it moved before there was a reason"
        );
        let begun = Instant::now();
        act(&holder, &mut agent);
        let moved = if expect_move {
            until("the move", || world.holder(&address).as_deref() == Some(peer.node.id.as_str()));
            Some(begun.elapsed())
        } else {
            None
        };
        let invocation = watch.join().unwrap();
        if !expect_move {
            assert_eq!(world.holder(&address).as_deref(), Some(holder.node.id.as_str()), "{}", invocation.log_text());
        }
        moved
    })
}

#[test]
fn in_a_watch_a_dead_service_and_a_leave_lose_the_address_in_seconds() {
    let died = in_a_watch(|holder, _| holder.node.service.set(Service::Refuse), true).unwrap();
    let left = in_a_watch(|holder, _| assert!(holder.command(&["leave"]).status().unwrap().success()), true).unwrap();
    eprintln!("measured: service dead to moved {} ms, leave to moved {} ms", died.as_millis(), left.as_millis());
    assert!(died < Duration::from_secs(7) + SLACK, "{died:?}");
    assert!(left < Duration::from_secs(6) + SLACK, "{left:?}");
}

#[test]
fn in_a_watch_a_restart_of_the_agent_moves_nothing() {
    let restart = |holder: &Home<'_>, agent: &mut Agent| {
        assert!(agent.stop().success());
        *agent = holder.agent(&["--every", "5s"]);
    };
    in_a_watch(restart, false);
}

#[test]
fn a_forged_heartbeat_misreports_its_own_node_and_no_other() {
    let world = World::new();
    let clusters = ["web", "db"].map(|cluster| {
        let of = [("eipwatch:cluster", cluster)];
        let nodes = [world.node("one", &of), world.node("two", &of)];
        let address = world.address(&[("eipwatch:cluster", cluster), ("eipwatch:check", "heartbeat")]);
        world.associate(&address, &nodes[0]);
        nodes
    });
    let [[forger, neighbour], far] = &clusters;
    let beat = |node: &Node, status: &str| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = humantime::format_rfc3339_seconds(SystemTime::now());
        let value = format!("seq={} at={at} status={status} every=5s", now.as_millis());
        world.ec2.tag(&node.id, KEY, &value);
    };
    let function = world.function(&[]);
    let verdicts = || {
        // The honest ones go on.
        for node in [neighbour, &far[0], &far[1]] {
            beat(node, "ok");
        }
        let invocation = function.invoke(json!({"action": "status"}), LONG);
        let answer = invocation.answer();
        let nodes =
            answer["clusters"].as_array().unwrap().iter().flat_map(|cluster| cluster["nodes"].as_array().unwrap());
        nodes.map(|node| (node["id"].clone(), (node["verdict"].clone(), node["leaving"].clone()))).collect::<Vec<_>>()
    };
    beat(forger, "ok");
    let honest = verdicts();
    assert!(honest.iter().all(|(_, (verdict, _))| verdict == "healthy"), "{honest:?}");
    for forged in [
        "seq=18446744073709551614 at=9999-12-31T23:59:59Z status=ok every=1h",
        "seq=0 at=1970-01-01T00:00:00Z status=fail every=1s why=i-0123456789abcdef0",
        "seq=1 at=2026-11-22T07:30:00Z status=leaving every=5s",
        "verdict=unhealthy eipwatch:cluster=db",
        "",
    ] {
        world.ec2.tag(&forger.id, KEY, forged);
        let now = verdicts();
        for (before, after) in honest.iter().zip(&now).filter(|(before, _)| before.0 != forger.id) {
            assert_eq!(before, after, "{forged}");
        }
    }
}
