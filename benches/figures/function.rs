//! The function: its start, its invocations, its size; beside it the same job in Python.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eipwatch::embedded::ec2::{InstanceSpec, Place, tags};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::ec2::Served;
use crate::page::{self, Section};
use crate::runtime_api::Function;
use crate::table::{Sample, ms, table, thousands};
use crate::watchers::{CERTIFICATES, NO_FUNCTION, binary, environment, target_dir};

/// Starts of each.
const STARTS: usize = 15;
/// Warm invocations after each start.
const WARM: usize = 10;
const LIMIT: Duration = Duration::from_secs(60);
/// The watch whose peak memory and log are measured.
const WATCH_SECONDS: &str = "55";

/// What other sections take from here.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// A warm sweep without EC2's own time.
    pub warm_ms: f64,
    /// What a watch of one cluster writes into its log.
    pub watch_log_bytes: u64,
    /// CPU time of that watch.
    pub watch_cpu_ms: f64,
}

/// CPU time of a process, its threads that still live.
pub fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
    let ns = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(ns.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum())
}

#[derive(Clone, Debug)]
struct Program {
    name: &'static str,
    path: PathBuf,
    args: Vec<String>,
}

/// One start: to the first poll, first and warm invocations, CPU time up to the first poll and in the warm ones, peak memory.
struct One {
    start: Duration,
    first: Duration,
    warm: Vec<Duration>,
    start_cpu: Duration,
    first_cpu: Duration,
    warm_cpu: Duration,
    peak_kib: u64,
}

/// A cluster of two nodes that serve, and EC2 that answers at once.
async fn scene() -> String {
    let port = serve_nodes(&[Ipv4Addr::new(127, 1, 0, 11), Ipv4Addr::new(127, 1, 0, 12)]).await;
    let (_, at) = Served::start(Ipv4Addr::LOCALHOST, |world| {
        let nodes = [11, 12].map(|last| {
            world.add_instance(InstanceSpec {
                private_ips: vec![Ipv4Addr::new(127, 1, 0, last)],
                tags: tags([("eipwatch:cluster", "web")]),
                ..InstanceSpec::default()
            })
        });
        let check = format!("http:{port}/health");
        let address = world.add_address(tags([("eipwatch:cluster", "web"), ("eipwatch:check", &check)]));
        let now_ms = world.now_ms();
        world.move_by_hand(&address, Place::Instance(&nodes[0]), now_ms);
    })
    .await;
    format!("http://{at}")
}

/// Serves on one port of these addresses; answers as a node that is well.
async fn serve_nodes(ips: &[Ipv4Addr]) -> u16 {
    let mut port = 0;
    for ip in ips {
        let listener = TcpListener::bind((*ip, port)).await.unwrap();
        port = listener.local_addr().unwrap().port();
        tokio::task::spawn_local(crate::scale::serve(listener));
    }
    port
}

fn programs() -> (Vec<Program>, Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (own, python) = (binary(), root.join(".venv/bin/python"));
    let mut left_out = Vec::new();
    let mut all = Vec::new();
    if own.exists() {
        all.push(Program { name: "eipwatch-lambda", path: own, args: Vec::new() });
    } else {
        left_out.push(NO_FUNCTION.to_owned());
    }
    if python.exists() {
        let script = root.join("benches/figures/function.py").display().to_string();
        all.push(Program { name: "Python with boto3", path: python, args: vec![script] });
    } else {
        left_out.push("the Python function: .venv is missing; `make test` makes it".to_owned());
    }
    (all, left_out)
}

fn one(program: &Program, env: &[(&str, &str)]) -> One {
    let args: Vec<&str> = program.args.iter().map(String::as_str).collect();
    let function = Function::start_program(&program.path, &args, env);
    let start = function.started_in();
    let pid = function.pid();
    let start_cpu = cpu(pid);
    let schedule = || json!({"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}});
    let first = function.invoke(schedule(), LIMIT).took;
    let after_first = cpu(pid);
    let warm = (0..WARM).map(|_| function.invoke(schedule(), LIMIT).took).collect();
    let warm_cpu = (cpu(pid) - after_first) / u32::try_from(WARM).unwrap();
    One {
        start,
        first,
        warm,
        start_cpu,
        first_cpu: after_first - start_cpu,
        warm_cpu,
        peak_kib: function.peak_memory_kib(),
    }
}

/// Measures both, in turn, so that what else the machine does befalls both alike.
pub async fn measure() -> Vec<Section> {
    let endpoint = scene().await;
    let (programs, left_out) = programs();
    let mut all: Vec<Vec<One>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..STARTS {
        for (program, all) in programs.iter().zip(&mut all) {
            let (program, endpoint) = (program.clone(), endpoint.clone());
            all.push(tokio::task::spawn_blocking(move || one(&program, &environment(&endpoint, "0"))).await.unwrap());
        }
    }
    let mut rows = Vec::new();
    for (what, digits, figure) in FIGURES {
        let samples: Vec<Sample> = all.iter().map(|all| Sample::new(all.iter().flat_map(figure))).collect();
        let mut row = vec![(*what).to_owned()];
        row.extend(samples.iter().map(|sample| sample.text(*digits)));
        if let [own, python] = samples.as_slice() {
            row.push(format!("{:.1} ×", python.median() / own.median()));
        }
        rows.push(row);
    }
    let mut head = vec!["median (least to most)"];
    head.extend(programs.iter().map(|program| program.name));
    if programs.len() == 2 {
        head.push("Python's is");
    }
    let mut body = format!(
        "One cluster of two nodes, one sweep an invocation of nodes that their tags call healthy, EC2 on loopback answering at once; {STARTS} starts of each in turn, {WARM} warm invocations \
         after each. Both behind the same Lambda Runtime API; memory is the peak of the process (VmHWM).\n\n{}\n",
        table(&head, &rows)
    );
    if binary().exists() {
        body.push_str(&start_text(&endpoint).await);
        let (text, measured) = watch(&endpoint).await;
        body.push_str(&text);
        fs::write(file(), serde_json::to_string(&measured.with(&all[0])).unwrap()).unwrap();
        body.push_str(&sizes());
    }
    for line in left_out {
        body.push_str(&format!("- Left out: {line}.\n"));
    }
    vec![Section::new("function", "The function", "make bench ONLY=function", body)]
}

/// Where the time of a start goes.
async fn start_text(endpoint: &str) -> String {
    let endpoint = endpoint.to_owned();
    let starts = move || {
        let env: Vec<_> = environment(&endpoint, "0").into_iter().filter(|(name, _)| *name != CERTIFICATES).collect();
        (0..STARTS).map(|_| ms(Function::start_program(&binary(), &[], &env).started_in())).collect::<Vec<_>>()
    };
    let starts = Sample::new(tokio::task::spawn_blocking(starts).await.unwrap());
    format!(
        "\nThe start reads the root certificates, {CERTIFICATES} naming one file of them. Without it, on Debian, which keeps each of them twice, the start \
         takes {} ms. By callgrind (debug build, 18.0 million instructions) 79 % of a start is this: 45 % decoding base64, 23 % finding lines. It is done \
         once, and before the first poll on purpose: Lambda gives a starting function a whole core, and an invocation of 128 MB 7 % of one.\n",
        starts.text(1)
    )
}

type Figure = fn(&One) -> Vec<f64>;
const FIGURES: &[(&str, usize, Figure)] = &[
    ("start to first poll, ms", 1, |it| vec![ms(it.start)]),
    ("CPU time of it, ms", 1, |it| vec![ms(it.start_cpu)]),
    ("first invocation, ms", 1, |it| vec![ms(it.first)]),
    ("CPU time of it, ms", 1, |it| vec![ms(it.first_cpu)]),
    ("warm invocation, ms", 2, |it| it.warm.iter().copied().map(ms).collect()),
    ("CPU time of it, ms", 2, |it| vec![ms(it.warm_cpu)]),
    ("peak memory, MiB", 1, |it| vec![it.peak_kib as f64 / 1024.0]),
];

impl Measured {
    fn with(self, all: &[One]) -> Measured {
        Measured { warm_ms: Sample::new(all.iter().flat_map(|it| it.warm.iter().copied().map(ms))).median(), ..self }
    }
}

/// Where the figures for other sections are.
pub fn file() -> PathBuf {
    page::folder().join("function-measured")
}

/// A quiet watch of one cluster.
async fn watch(endpoint: &str) -> (String, Measured) {
    let endpoint = endpoint.to_owned();
    let (cpu, peak_kib, bytes) = tokio::task::spawn_blocking(move || {
        let function = Function::start_program(&binary(), &[], &environment(&endpoint, WATCH_SECONDS));
        function.started_in();
        let before = cpu(function.pid());
        let schedule = json!({"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}});
        let invocation = function.invoke(schedule, Duration::from_secs(90));
        (cpu(function.pid()) - before, function.peak_memory_kib(), invocation.log_text().len())
    })
    .await
    .unwrap();
    let measured = Measured { warm_ms: 0.0, watch_log_bytes: bytes as u64, watch_cpu_ms: ms(cpu) };
    let text = format!(
        "\nA quiet watch of {WATCH_SECONDS} s, one cluster: peak memory {:.1} MiB, CPU time {:.0} ms ({:.2} % of a core), {} bytes of log.\n",
        peak_kib as f64 / 1024.0,
        ms(cpu),
        ms(cpu) / 550.0,
        thousands(measured.watch_log_bytes)
    );
    (text, measured)
}

fn sizes() -> String {
    let mib = |bytes: u64| format!("{} bytes ({:.2} MB)", thousands(bytes), bytes as f64 / 1e6);
    let mut text = format!("\nBinary: {}.", mib(fs::metadata(binary()).unwrap().len()));
    let zips = fs::read_dir(target_dir().join("package")).into_iter().flatten().filter_map(Result::ok);
    for zip in zips.filter(|it| it.path().extension().is_some_and(|extension| extension == "zip")) {
        text.push_str(&format!(" Zip (`make package`): {}.", mib(zip.metadata().unwrap().len())));
    }
    text + "\n"
}

/// How long something takes.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

/// A function for other sections, started and at its first poll.
pub async fn start(endpoint: String, watch_seconds: &'static str) -> Arc<Function> {
    tokio::task::spawn_blocking(move || {
        let function = Function::start_program(&binary(), &[], &environment(&endpoint, watch_seconds));
        function.started_in();
        Arc::new(function)
    })
    .await
    .unwrap()
}
