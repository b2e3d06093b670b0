//! The agent's checks, made on this machine: sockets, systemd units, programs.
//!
//! Whatever is checked, a check ends within its time limit (`systemctl` has one of its own); one that is over it leaves no process of its own behind.

use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::beat::Reading;
use super::check::LocalCheck;
use crate::core::model::{Answer, ProbeTarget};
use crate::core::time::duration_text;
use crate::probe::{Prober, Sockets};

/// The most that is read of what `systemctl is-active` says: one word, and one sentence if it cannot ask.
const MAX_SAID_BYTES: u64 = 200;

/// How long `systemctl` may take at least before its check fails: while systemd reloads it is slow, and that says nothing of the unit.
const SYSTEMD_PATIENCE: Duration = Duration::from_secs(10);

/// Of the agent's own environment, what a check must not have: it would speak to systemd in the agent's name.
const NOT_INHERITED: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"];

/// Makes checks.
#[derive(Debug)]
pub struct Checker {
    sockets: Sockets,
    host: Ipv4Addr,
    timeout: Duration,
}

impl Checker {
    /// Probes go to `host`; any check may take `timeout`, one of a unit at least 10 s.
    pub fn new(host: Ipv4Addr, timeout: Duration) -> Checker {
        Checker { sockets: Sockets::new(), host, timeout }
    }

    /// Makes one check.
    pub async fn run(&self, check: &LocalCheck) -> Reading {
        match check {
            LocalCheck::Probe { scheme, port, path } => {
                let target = ProbeTarget {
                    scheme: *scheme,
                    ip: self.host,
                    port: *port,
                    path: path.clone(),
                    host: None,
                    timeout: self.timeout,
                };
                self.probed(self.sockets.probe(target).await)
            }
            LocalCheck::Unit(unit) => {
                let args = ["is-active".as_ref(), "--".as_ref(), unit.as_ref()];
                let patience = self.timeout.max(SYSTEMD_PATIENCE);
                match run(Path::new("systemctl"), &args, true, patience).await {
                    // Source: systemctl(1), "Exit status": 0 active, 3 not active, 4 no such unit.
                    Ran::Ended(status, Said { word, trouble }) => match status.code() {
                        Some(0) => pass(&word),
                        Some(3 | 4) if !word.is_empty() => fail(word),
                        Some(4) => fail("no such unit".to_owned()),
                        _ if trouble.is_empty() => silent(format!("systemctl: {}", ended(status))),
                        _ => silent(format!("systemctl: {trouble}")),
                    },
                    Ran::Late => fail(format!("systemctl: {}", late(patience))),
                    other => not_ended(other, patience),
                }
            }
            LocalCheck::Exec(program) => match run(program, &[], false, self.timeout).await {
                Ran::Ended(status, _) if status.success() => pass("exit status 0"),
                Ran::Ended(status, _) => fail(ended(status)),
                other => not_ended(other, self.timeout),
            },
        }
    }

    fn probed(&self, answer: Answer) -> Reading {
        match answer {
            Answer::Connected => pass("connected"),
            // The watcher's default for `expect`.
            Answer::Status(code @ 200..=399) => pass(&code.to_string()),
            Answer::Status(code) => fail(code.to_string()),
            Answer::Refused => fail("refused".to_owned()),
            Answer::TimedOut => fail(late(self.timeout)),
            Answer::Failed(why) => fail(why),
            Answer::NotAsked(why) => silent(why),
        }
    }
}

fn not_ended(ran: Ran, limit: Duration) -> Reading {
    match ran {
        Ran::Late => fail(late(limit)),
        Ran::NotStarted(error) => match error.kind() {
            // It will not come by itself; a machine short of processes may have some again.
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => {
                fail(format!("cannot be run: {error}"))
            }
            _ => silent(error.to_string()),
        },
        Ran::Ended(status, _) => silent(ended(status)),
    }
}

fn late(timeout: Duration) -> String {
    format!("no answer in {}", duration_text(timeout))
}

fn pass(text: &str) -> Reading {
    Reading { ok: Some(true), text: text.to_owned() }
}

fn fail(text: String) -> Reading {
    Reading { ok: Some(false), text }
}

fn silent(text: String) -> Reading {
    Reading { ok: None, text }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// What a program wrote.
struct Said {
    /// The first word on standard output.
    word: String,
    /// The first line on standard error.
    trouble: String,
}

enum Ran {
    Ended(ExitStatus, Said),
    Late,
    NotStarted(io::Error),
}

/// Kills a process group when it goes out of scope, unless its leader has ended: from then on the number may be another's.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It fails only if there is nothing left to kill.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs a program in a process group of its own. With `heard` what it writes is read and waited for; otherwise its end is all that
/// counts, whatever it leaves running.
async fn run(program: &Path, args: &[&OsStr], heard: bool, timeout: Duration) -> Ran {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let ear = || if heard { Stdio::piped() } else { Stdio::null() };
    command.stdout(ear()).stderr(ear());
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ran::NotStarted(error),
    };
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut group = Group(leader);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ending = async {
        let (stdout, stderr) = tokio::join!(hear(stdout), hear(stderr));
        let said = Said {
            word: stdout.split_whitespace().next().unwrap_or_default().to_owned(),
            trouble: stderr.lines().next().unwrap_or_default().trim().to_owned(),
        };
        Ok::<_, io::Error>((child.wait().await?, said))
    };
    match tokio::time::timeout(timeout, ending).await {
        Ok(Ok((status, said))) => {
            group.0 = None;
            Ran::Ended(status, said)
        }
        Ok(Err(error)) => Ran::NotStarted(error),
        Err(_) => Ran::Late,
    }
}

/// The beginning of what a program writes; whatever comes after that finds nobody listening.
async fn hear(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut said = Vec::new();
    if let Some(pipe) = pipe {
        // What could not be read was not said: the exit status still tells.
        let _ = pipe.take(MAX_SAID_BYTES).read_to_end(&mut said).await;
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;
    use crate::agent::Scratch;

    const LONG: Duration = Duration::from_secs(20);

    fn script(name: &str, body: &str) -> Scratch {
        let path = Scratch::new(name);
        // By a child: a program that is open for writing cannot be run, and what another test forks meanwhile has all that is open here.
        let write = r##"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""##;
        let written = std::process::Command::new("sh").args(["-c", write]).arg(&*path).arg(body).status();
        assert!(written.unwrap().success());
        path
    }

    async fn exec(program: &Path, timeout: Duration) -> Reading {
        let check = LocalCheck::Exec(program.to_owned());
        let checker = Checker::new(Ipv4Addr::LOCALHOST, timeout);
        checker.run(&check).await
    }

    #[tokio::test]
    async fn a_program_passes_by_its_exit_status() {
        assert_eq!(exec(&script("ok", "exit 0"), LONG).await, pass("exit status 0"));
        assert_eq!(exec(&script("three", "echo noise; exit 3"), LONG).await, fail("exit status 3".into()));
        assert_eq!(exec(&script("shot", "kill -9 $$"), LONG).await, fail("ended by signal 9".into()));
        let missing = exec(Path::new("/nowhere/at/all"), LONG).await;
        assert_eq!(missing.ok, Some(false));
        assert!(missing.text.contains("No such file"), "{}", missing.text);
    }

    #[tokio::test]
    async fn what_a_program_says_is_heard_as_far_as_it_matters() {
        let body = "echo active and more; echo no bus >&2; echo more >&2; yes >&2; exit 4";
        match run(&script("talks", body), &[], true, LONG).await {
            Ran::Ended(status, Said { word, trouble }) => {
                assert_eq!((status.code(), word.as_str(), trouble.as_str()), (Some(4), "active", "no bus"));
            }
            _ => panic!("it did not end by itself"),
        }
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_is_not_waited_for() {
        let begun = Instant::now();
        assert_eq!(exec(&script("daemon", "sleep 30 & exit 0"), LONG).await, pass("exit status 0"));
        assert!(begun.elapsed() < Duration::from_secs(15));
    }

    #[tokio::test]
    async fn over_its_time_the_whole_process_group_is_killed() {
        let pids = Scratch::new("pids");
        let body = format!("trap '' TERM; sleep 300 & echo $! $$ > {0}.new; mv {0}.new {0}; sleep 300", pids.display());
        let reading = exec(&script("hangs", &body), Duration::from_millis(1500)).await;
        assert_eq!(reading, fail("no answer in 1500ms".into()));
        let pids = fs::read_to_string(&*pids).unwrap();
        assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
        for pid in pids.split_whitespace() {
            let alive = || match fs::read_to_string(format!("/proc/{pid}/stat")) {
                // A zombie has only not been waited for yet.
                Ok(stat) => !stat.contains(") Z "),
                Err(_) => false,
            };
            let deadline = Instant::now() + Duration::from_secs(10);
            while alive() {
                assert!(Instant::now() < deadline, "process {pid} of the check is still there");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    #[tokio::test]
    async fn a_port_is_asked() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let check = format!("tcp:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let checker = Checker::new(Ipv4Addr::LOCALHOST, LONG);
        assert_eq!(checker.run(&check).await, pass("connected"));
        drop(listener);
        assert_eq!(checker.run(&check).await, fail("refused".into()));
    }

    #[test]
    fn answers_pass_as_the_watcher_would_have_them() {
        let checker = Checker::new(Ipv4Addr::LOCALHOST, Duration::from_secs(1));
        assert_eq!(checker.probed(Answer::Status(302)), pass("302"));
        assert_eq!(checker.probed(Answer::Status(404)), fail("404".into()));
        assert_eq!(checker.probed(Answer::TimedOut), fail("no answer in 1s".into()));
        assert_eq!(checker.probed(Answer::NotAsked("no descriptors left".into())).ok, None);
    }
}
