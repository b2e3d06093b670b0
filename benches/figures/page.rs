//! What was measured, kept section by section, and the page that is made of it.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::watchers::target_dir;

/// The page's sections, in its order.
const ORDER: [&str; 5] = ["outage", "function", "scale", "cost", "instructions"];

/// One part of the page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section {
    id: String,
    title: String,
    command: String,
    body: String,
    /// When, on which commit, and how busy the machine was before and after.
    date: String,
    commit: String,
    load: [String; 2],
}

impl Section {
    pub fn new(id: &str, title: &str, command: &str, body: String) -> Section {
        let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let commit = said("git", &["rev-parse", "--short", "HEAD"]);
        let load = [BEFORE.with_borrow(String::clone), load()];
        Section { id: id.into(), title: title.into(), command: command.into(), body, date, commit, load }
    }

    /// Prints it and keeps it for the page.
    pub fn keep(&self) {
        println!("\n## {}\n\n{}", self.title, self.body);
        fs::write(folder().join(format!("{}.json", self.id)), serde_json::to_string(self).unwrap()).unwrap();
    }
}

thread_local! {
    /// The load before the section that is being measured.
    static BEFORE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A section begins.
pub fn begin() {
    BEFORE.set(load());
}

/// One minute's load, as the kernel counts it.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Where sections wait for the page.
pub fn folder() -> PathBuf {
    let folder = target_dir().join("figures");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Keeps a picture beside the page.
pub fn picture(name: &str, svg: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), svg).unwrap();
}

/// The first line of what a program says; empty if there is none.
pub fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stderr(std::process::Stdio::null()).output();
    output
        .map(|it| String::from_utf8_lossy(&it.stdout).lines().next().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

/// Writes docs/benchmarks.md from all that has been measured.
pub fn write() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sections: Vec<Section> = ORDER
        .iter()
        .filter_map(|id| fs::read_to_string(folder().join(format!("{id}.json"))).ok())
        .map(|text| serde_json::from_str(&text).unwrap())
        .collect();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib: u64 = memory.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut page = format!(
        "# Benchmarks\n\nMade by `make bench`; not edited by hand. `make bench ONLY=\"scale cost\"` measures some sections anew and keeps the others.\n\n\
         Machine: {} × {}, {} GiB, Linux {}. {}. {}.\n",
        cores,
        cpu.trim_start_matches([' ', '\t', ':']),
        memory_kib.div_ceil(1 << 20),
        said("uname", &["-r"]),
        said("rustc", &["--version"]),
        ["keepalived --version", "curl --version"]
            .iter()
            .filter_map(|line| {
                let (program, arg) = line.split_once(' ')?;
                let output = Command::new(program).arg(arg).output().ok()?;
                let text = [output.stdout, output.stderr].concat();
                let text = String::from_utf8_lossy(&text).lines().next()?.to_owned();
                Some(text.split(" (").next()?.to_owned())
            })
            .collect::<Vec<_>>()
            .join(", "),
    );
    for section in &sections {
        page.push_str(&format!(
            "\n## {}\n\n`{}`; {}, commit {}, load {} before and {} after.\n\n{}\n",
            section.title,
            section.command,
            section.date,
            section.commit,
            section.load[0],
            section.load[1],
            section.body.trim_end()
        ));
    }
    page.push_str(NOT_MEASURED);
    let path = root.join("docs/benchmarks.md");
    fs::write(&path, page).unwrap();
    println!("docs/benchmarks.md written");
}

const NOT_MEASURED: &str = "
## Not measured

- Anything on AWS. On real EC2 a move takes 1 to 6 s more until packets arrive at the new node, and the same for every watcher here.
- EventBridge's delay (seconds), and the gap between two scheduled watches: with 55 s of each minute, a fault in the other 5 s waits for the next one.
- Lambda's own part of a cold start (fetching the package, starting the sandbox), and its CPU: with 128 MB a function has about 7 % of a core, so
  CPU time takes some fourteen times as long there as on a core of its own. Only the initialisation is given more.
- arm64, and Lambda's kernel and C library. TLS towards EC2: the emulated one speaks plain HTTP. Reading the root certificates is measured, the handshake is not.
- Packet loss short of all of it, slow services, and how often each watcher moves an address without need.
- The alternatives on AWS, with the aws command instead of curl (slower), or tuned further (keepalived can go below a second).
";
