//! Runs a [`Beat`] on this machine: the agent's binary goes through here.
//!
//! Architecture invariant: nothing is decided, retried or paced here.

use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::beat::{Beat, Effect, Ending, Input, Level, Line, Present};
use super::local::Checker;
use super::notify::Systemd;
use super::options::Config;
use crate::core::model::CloudError;
use crate::core::time::Time;
use crate::drive::{Clock, SystemClock};

/// The file in the run directory by which `eipwatch-agent leave` tells a running agent.
const LEAVE_FILE: &str = "leaving";

/// The instance that the agent runs on: its metadata, and its tags.
///
/// One call, one attempt; every one ends by itself within a few seconds.
#[expect(async_fn_in_trait, reason = "driven on one thread: no future has to be Send")]
pub trait Home {
    /// Which instance this is, in words for the log; or why that is not known.
    async fn identify(&self) -> Result<String, String>;

    /// The announcement of a spot interruption, if there is one; or why that is not known.
    async fn spot_notice(&self) -> Result<Option<String>, String>;

    /// Writes one tag of this instance.
    async fn write(&self, key: &str, value: String) -> Result<(), CloudError>;
}

/// A home where nothing is written: what would be goes to standard output.
#[derive(Debug)]
pub struct DryRun<H>(pub H);

impl<H: Home> Home for DryRun<H> {
    async fn identify(&self) -> Result<String, String> {
        // It can be tried where there is no metadata, too.
        Ok(self.0.identify().await.unwrap_or_else(|why| format!("no instance that can be named: {why}")))
    }

    async fn spot_notice(&self) -> Result<Option<String>, String> {
        self.0.spot_notice().await
    }

    async fn write(&self, key: &str, value: String) -> Result<(), CloudError> {
        // Nobody may be listening any more; the agent does not end for that.
        let _ = writeln!(io::stdout(), "would write {key}: {value}");
        Ok(())
    }
}

/// Tells people, on standard error, and systemd.
#[derive(Debug)]
pub struct Teller {
    /// systemd, if it asked to be told.
    pub systemd: Systemd,
    /// Whether the journal reads standard error, and with it the level in front of a line. Source: sd-daemon(3).
    pub journal: bool,
}

impl Teller {
    /// As the environment has it.
    pub fn from_env() -> Teller {
        let vars = |name: &str| std::env::var(name).ok();
        Teller { systemd: Systemd::from_vars(vars), journal: vars("JOURNAL_STREAM").is_some() }
    }

    /// Tells one line.
    pub fn tell(&self, line: &Line) {
        let level = match (self.journal, line.level) {
            (true, Level::Warning) => "<4>",
            (true, Level::Info) => "<6>",
            (false, Level::Warning) => "warning: ",
            (false, Level::Info) => "",
        };
        let text = line.text.replace('\n', " ");
        let _ = writeln!(io::stderr(), "{level}{text}");
        self.systemd.status(&text);
    }
}

/// Where `leave` leaves word for a running agent.
pub fn leave_file(run_dir: &Path) -> PathBuf {
    run_dir.join(LEAVE_FILE)
}

/// Leaves word for a running agent.
///
/// Root does this in a directory of the agent's own user: what is there already is not opened, wherever a link may lead.
///
/// # Errors
/// Why there is no word. A running agent takes the leave back with its next heartbeat.
pub fn leave_word(run_dir: &Path) -> io::Result<()> {
    match fs::File::create_new(leave_file(run_dir)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

type Running<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Input> + 'a>>>;

/// Carries out what the agent says until it has ended. When `stop` resolves it ends, and `announces` why first, if that is given.
pub async fn run(
    mut beat: Beat,
    config: &Config,
    home: &impl Home,
    teller: &Teller,
    stop: impl Future<Output = ()>,
    announces: Option<String>,
) -> Ending {
    let checker = Checker::new(config.host, config.timeout);
    let leave_file = leave_file(&config.run_dir);
    let clock = SystemClock::start();
    let mut running: Running<'_> = FuturesUnordered::new();
    let mut stop = pin!(stop);
    let mut stopped = false;
    let watchdog = teller.systemd.watchdog_pause();
    let mut alive_due = clock.now();
    teller.systemd.ready();
    loop {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Time::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        let present = Present { now: clock.now(), wall, jitter_permille: fastrand::u16(0..=1000) };
        let mut looked = None;
        for effect in beat.poll(present) {
            match effect {
                Effect::Check(index) => {
                    if let Some(check) = config.checks.get(index) {
                        let checker = &checker;
                        running.push(Box::pin(async move { Input::Checked(index, checker.run(check).await) }));
                    }
                }
                Effect::Identify => running.push(Box::pin(async { Input::Identified(home.identify().await) })),
                Effect::AskSpot => running.push(Box::pin(async { Input::Spot(home.spot_notice().await) })),
                Effect::LookForLeave => looked = Some(leave_file.exists()),
                Effect::Write(number, heartbeat) => {
                    let value = heartbeat.to_string();
                    running
                        .push(Box::pin(async move { Input::Wrote(number, home.write(&config.tag_key, value).await) }));
                }
                Effect::Log(line) => teller.tell(&line),
            }
        }
        if let Some(ending) = beat.ending() {
            teller.systemd.stopping();
            return ending.clone();
        }
        if let Some(asked) = looked {
            beat.feed(Input::AskedToLeave(asked), clock.now());
            continue;
        }
        let mut wake = beat.next_wake();
        if let Some(pause) = watchdog {
            if clock.now() >= alive_due {
                teller.systemd.alive();
                alive_due = clock.now() + pause;
            }
            wake = wake.min(alive_due);
        }
        // One millisecond more, so that it is not too early for what is due: the clock counts whole ones.
        let wait = wake.since(clock.now()) + Duration::from_millis(1);
        tokio::select! {
            Some(input) = running.next(), if !running.is_empty() => beat.feed(input, clock.now()),
            () = tokio::time::sleep(wait) => {}
            () = &mut stop, if !stopped => {
                stopped = true;
                beat.feed(Input::Stop { announce: announces.clone() }, clock.now());
            }
        }
    }
}

/// Forgets a leave that an earlier run was told of: an agent that starts has come back.
///
/// # Errors
/// Why the file is still there. This agent would announce leaving because of it.
pub fn forget_leave(run_dir: &Path) -> io::Result<()> {
    match fs::remove_file(leave_file(run_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn word_is_left_and_forgotten_and_follows_no_link() {
        let run_dir = std::env::temp_dir().join(format!("eipwatch-agent-run-{}", std::process::id()));
        fs::create_dir_all(&run_dir).unwrap();
        for _ in 0..2 {
            leave_word(&run_dir).unwrap();
            assert!(leave_file(&run_dir).exists());
        }
        forget_leave(&run_dir).unwrap();
        forget_leave(&run_dir).unwrap();
        assert!(!leave_file(&run_dir).exists());

        // A check, which runs as the agent's user, could put a link there for root to follow.
        let (there, not_there) = (run_dir.join("another's"), run_dir.join("nobody's"));
        fs::write(&there, "kept").unwrap();
        for target in [&there, &not_there] {
            symlink(target, leave_file(&run_dir)).unwrap();
            leave_word(&run_dir).unwrap();
            forget_leave(&run_dir).unwrap();
        }
        assert_eq!(fs::read_to_string(&there).unwrap(), "kept");
        assert!(!not_there.exists());
        fs::remove_dir_all(&run_dir).unwrap();
        assert!(leave_word(&run_dir).is_err());
    }
}
