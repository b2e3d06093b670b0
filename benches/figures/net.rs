//! Where nodes live: network namespaces on one bridge, as far as this machine allows, else plain loopback addresses.
//!
//! With root the benches run themselves again in namespaces of their own (network, mounts, processes): whatever they start there ends with them.

use std::net::Ipv4Addr;
use std::process::{Command, ExitCode, Stdio};

/// What the re-run finds in its environment.
const INSIDE: &str = "EIPWATCH_BENCH_INSIDE";
const SPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Where EC2 and the watcher are.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Runs a program to its end.
pub fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Runs this program again inside, with the same arguments; `None`: it is inside, or cannot be.
pub fn enter() -> Option<ExitCode> {
    if is_inside() {
        ip("link set lo up");
        return None;
    }
    if run("unshare", &[&SPACES[..], &["true"]].concat()).is_err() {
        return None;
    }
    let own = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(SPACES)
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .unwrap();
    Some(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Whether there are namespaces.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Prepares the bridge; says where EC2 is to listen.
pub fn hub() -> Ipv4Addr {
    if !is_inside() {
        return Ipv4Addr::LOCALHOST;
    }
    let _ = std::fs::create_dir_all("/run/netns");
    run("mount", &["-t", "tmpfs", "none", "/run/netns"]).unwrap();
    for line in
        ["link add br0 address 02:00:00:00:00:01 type bridge", "addr add 10.77.0.1/16 dev br0", "link set br0 up"]
    {
        ip(line);
    }
    HUB
}

fn ip(line: &str) {
    run("ip", &line.split(' ').collect::<Vec<_>>()).unwrap();
}

/// A node's place in the network.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name, and its namespace's.
    pub name: String,
    /// Its private address.
    pub ip: Ipv4Addr,
}

impl Host {
    /// Makes one: `pair` 1 to 250, `node` 1 or 2.
    pub fn new(pair: u8, node: u8) -> Host {
        let name = format!("w{pair}-{node}");
        if !is_inside() {
            return Host { name, ip: Ipv4Addr::new(127, 1, pair, 10 + node) };
        }
        let address = Ipv4Addr::new(10, 77, pair, 10 + node);
        let mac = format!("02:00:00:00:{pair:02x}:{node:02x}");
        for line in [
            format!("netns add {name}"),
            format!("link add {name} type veth peer name eth0 netns {name}"),
            format!("link set {name} master br0 up"),
            format!("-n {name} link set eth0 address {mac}"),
            format!("-n {name} addr add {address}/16 dev eth0"),
            format!("-n {name} link set lo up"),
            format!("-n {name} link set eth0 up"),
            // A VPC answers for every address: a node that is gone is silence, not "no route to host".
            format!("neigh replace {address} lladdr {mac} dev br0 nud permanent"),
        ] {
            ip(&line);
        }
        Host { name, ip: address }
    }

    /// A program on this node.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> tokio::process::Command {
        let mut command = if is_inside() {
            let mut command = tokio::process::Command::new("ip");
            command.args(["netns", "exec", &self.name]).arg(program);
            command
        } else {
            tokio::process::Command::new(program)
        };
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// From now on every packet from and to it is dropped. Its own interface stays up.
    pub fn cut_off(&self) {
        ip(&format!("link set dev {} nomaster", self.name));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if is_inside() {
            // What still runs there was started by the benches: an alternative's children.
            let pids = Command::new("ip").args(["netns", "pids", &self.name]).output().unwrap().stdout;
            for pid in String::from_utf8_lossy(&pids).split_whitespace() {
                let _ = run("kill", &["-9", pid]);
            }
            let _ = run("ip", &["netns", "del", &self.name]);
        }
    }
}
