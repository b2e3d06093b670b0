//! The agent's options: the command line wins over the environment, that over the file.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Deserializer};

use super::beat::Settings;
use super::check::LocalCheck;
use crate::core::tags;
use crate::core::time::duration_text;

/// The file that is read where none is named. It may be missing.
pub const DEFAULT_FILE: &str = "/etc/eipwatch-agent.toml";

/// Where a running agent and `eipwatch-agent leave` meet; systemd makes it for the service.
pub const DEFAULT_RUN_DIR: &str = "/run/eipwatch-agent";

/// The largest configuration file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The most checks of one node.
pub const MAX_CHECKS: usize = 32;

const LONG_ABOUT: &str = "\
Writes a heartbeat into this EC2 instance's own tags, so that eipwatch knows of its health without having to reach it, \
and says there when the machine is about to leave.

Every --interval it runs the checks, on this machine. A check fails after --fall failures in a row and passes after \
--rise passes; if all pass, status=ok is written, else status=fail. The heartbeat is written every --every, and at once \
when the status changes. It is written as status=leaving when the machine shuts down (with the unit \
eipwatch-agent-leave.service), when AWS announces a spot interruption, and by `eipwatch-agent leave`. \
Restarting the agent announces nothing, and ends an earlier leave.

The cluster needs `heartbeat` in the tag eipwatch:check of its Elastic IP, or of this instance. The instance needs a role \
that allows ec2:CreateTags on itself for this one tag, and its metadata service (IMDSv2).";

const EXAMPLES: &str = "\
Try it on a node:
  eipwatch-agent --once --dry-run --check http:8080/health   show what would be written, write nothing
  eipwatch-agent --once --check http:8080/health             write one heartbeat and end
Then run it as a service:
  eipwatch-agent --check http:8080/health --check unit:nginx.service
Before maintenance:
  eipwatch-agent leave                                       the address moves away while the service still answers
  systemctl restart eipwatch-agent                           back again

The same in /etc/eipwatch-agent.toml:
  check = [\"http:8080/health\", \"unit:nginx.service\"]
  every = \"10s\"

Exit status: 0 ended as asked; 1 with --once or leave: it could not be written; 2 wrong usage.
A running agent does not end because EC2, the metadata service or the network fails.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "eipwatch-agent",
    version,
    about = "A heartbeat in this EC2 instance's own tags",
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Everything that file and environment can set, too.
    #[command(flatten)]
    pub options: Options,
    /// Run the checks until they are settled, write one heartbeat, and end
    #[arg(long)]
    pub once: bool,
    /// Write nothing; say what would be written
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Configuration file [default: /etc/eipwatch-agent.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "EIPWATCH_AGENT_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// What else it can do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the agent can do beside running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Announce that this node is about to leave, within 2 seconds, and have a running agent keep saying so
    Leave {
        /// The reason, for whoever reads the tag
        #[arg(long, value_name = "TEXT", default_value = "asked to leave")]
        why: String,
    },
}

/// Everything that file and environment can set, too. Keys of the file are the options' names.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// What must pass on this machine: http:PORT/PATH, https:PORT/PATH, tcp:PORT, unit:NAME, exec:/PATH. Repeatable. Without one, the heartbeat says that the machine runs
    #[arg(long, value_name = "CHECK", env = "EIPWATCH_AGENT_CHECK", hide_env_values = true, value_delimiter = ' ')]
    pub check: Vec<String>,
    /// The address that http, https and tcp checks ask [default: 127.0.0.1]
    #[arg(long, value_name = "IP", env = "EIPWATCH_AGENT_HOST", hide_env_values = true)]
    pub host: Option<Ipv4Addr>,
    /// Time between two runs of a check, half of it while its result changes; 100ms to 60s [default: 1s]
    #[arg(long, value_name = "TIME", env = "EIPWATCH_AGENT_INTERVAL", hide_env_values = true, value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub interval: Option<Duration>,
    /// One check's time limit; 50ms to 30s [default: 1s]
    #[arg(long, value_name = "TIME", env = "EIPWATCH_AGENT_TIMEOUT", hide_env_values = true, value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    /// Failures in a row after which a check fails; 1 to 20 [default: 2]
    #[arg(long, value_name = "N", env = "EIPWATCH_AGENT_FALL", hide_env_values = true)]
    pub fall: Option<u32>,
    /// Passes in a row after which it passes; 1 to 20 [default: 2]
    #[arg(long, value_name = "N", env = "EIPWATCH_AGENT_RISE", hide_env_values = true)]
    pub rise: Option<u32>,
    /// Time between two heartbeats; 1s to 1h. The whole account shares 10 tag writes a second [default: 5s]
    #[arg(long, global = true, value_name = "TIME", env = "EIPWATCH_AGENT_EVERY", hide_env_values = true, value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub every: Option<Duration>,
    /// Announce leaving when the agent is stopped (SIGTERM), too; a restart then announces it as well
    #[arg(long, value_name = "BOOL", env = "EIPWATCH_AGENT_LEAVE_ON_EXIT", hide_env_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub leave_on_exit: Option<bool>,
    /// What the tag's key begins with, as the function has it [default: eipwatch:]
    #[arg(long, global = true, value_name = "PREFIX", env = "EIPWATCH_TAG_PREFIX", hide_env_values = true)]
    pub tag_prefix: Option<String>,
    /// Where a running agent and `leave` meet [default: /run/eipwatch-agent]
    #[arg(long, global = true, value_name = "DIR", env = "EIPWATCH_AGENT_RUN_DIR", hide_env_values = true)]
    pub run_dir: Option<PathBuf>,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map(Some)
        .map_err(|error| serde::de::Error::custom(format!("'{text}' is not a duration such as 5s: {error}")))
}

/// All of it, complete and within its ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is checked.
    pub checks: Vec<LocalCheck>,
    /// Where probes go.
    pub host: Ipv4Addr,
    /// One check's time limit.
    pub timeout: Duration,
    /// Pace and thresholds.
    pub settings: Settings,
    /// The tag to write.
    pub tag_key: String,
    /// Whether the end of the agent is announced.
    pub leave_on_exit: bool,
    /// Where agent and `leave` meet.
    pub run_dir: PathBuf,
}

/// Options that cannot be used. Nothing is checked or written until they are put right.
#[derive(Debug, thiserror::Error)]
pub enum BadOptions {
    /// The file cannot be read.
    #[error(
        "{path} cannot be read: {error}. Does the file exist? May the service's user, eipwatch-agent, read it (chmod 644)? Or name another file with --config"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The file is not TOML, or has a key or value that it cannot have.
    #[error("{path}: {problem}. Keys are the options' names; eipwatch-agent --help lists them")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// An option has a value that it cannot have.
    #[error("--{option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Options {
    /// Reads the file: the one that is named, or else the default one if it is there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_file(named: Option<&Path>) -> Result<Options, BadOptions> {
        use io::Read;
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let unreadable = |error| BadOptions::Unreadable { path: path.display().to_string(), error };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(Options::default()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
        toml::from_str(&text).map_err(|error| BadOptions::File {
            path: path.display().to_string(),
            problem: error.to_string().trim_end().to_owned(),
        })
    }

    /// What is set here, or else there.
    #[must_use]
    pub fn or(self, other: Options) -> Options {
        Options {
            // An empty variable is none.
            check: if self.check.iter().all(|word| word.trim().is_empty()) { other.check } else { self.check },
            host: self.host.or(other.host),
            interval: self.interval.or(other.interval),
            timeout: self.timeout.or(other.timeout),
            fall: self.fall.or(other.fall),
            rise: self.rise.or(other.rise),
            every: self.every.or(other.every),
            leave_on_exit: self.leave_on_exit.or(other.leave_on_exit),
            tag_prefix: self.tag_prefix.or(other.tag_prefix),
            run_dir: self.run_dir.or(other.run_dir),
        }
    }

    /// Fills in the defaults.
    ///
    /// # Errors
    /// The first option that cannot be used.
    pub fn complete(self) -> Result<Config, BadOptions> {
        let bad = |option, problem| BadOptions::Option { option, problem };
        let mut checks = Vec::new();
        for text in self.check.iter().flat_map(|text| text.split_whitespace()) {
            let check: LocalCheck = text.parse().map_err(|problem| bad("check", problem))?;
            if !checks.contains(&check) {
                checks.push(check);
            }
        }
        if checks.len() > MAX_CHECKS {
            return Err(bad("check", format!("{} checks are more than {MAX_CHECKS}", checks.len())));
        }
        let time = |option, value: Option<Duration>, default_ms, min_ms, max_ms| {
            let value = value.unwrap_or(Duration::from_millis(default_ms));
            let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
            if (min..=max).contains(&value) {
                // Tags write whole milliseconds.
                return Ok(Duration::from_millis(u64::try_from(value.as_millis()).unwrap_or(default_ms)));
            }
            let (value, min, max) = (humantime::format_duration(value), duration_text(min), duration_text(max));
            Err(bad(option, format!("{value} is not from {min} to {max}")))
        };
        let count = |option, value: Option<u32>| {
            let value = value.unwrap_or(2);
            let good = (1..=20).contains(&value);
            if good { Ok(value) } else { Err(bad(option, format!("{value} is not from 1 to 20"))) }
        };
        let prefix = self.tag_prefix.unwrap_or_else(|| tags::DEFAULT_PREFIX.to_owned());
        let prefix = tags::prefix(&prefix).map_err(|problem| bad("tag-prefix", problem))?;
        let host = self.host.unwrap_or(Ipv4Addr::LOCALHOST);
        if host.is_unspecified() || host.is_multicast() || host.is_broadcast() {
            return Err(bad("host", format!("{host} is not one machine's address")));
        }
        Ok(Config {
            host,
            timeout: time("timeout", self.timeout, 1_000, 50, 30_000)?,
            settings: Settings {
                checks: checks.iter().map(ToString::to_string).collect(),
                interval: time("interval", self.interval, 1_000, 100, 60_000)?,
                every: time("every", self.every, 5_000, 1_000, 3_600_000)?,
                fall: count("fall", self.fall)?,
                rise: count("rise", self.rise)?,
                once: false,
            },
            checks,
            tag_key: tags::Keys::new(&prefix).heartbeat,
            leave_on_exit: self.leave_on_exit.unwrap_or(false),
            run_dir: self.run_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_RUN_DIR)),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::agent::Scratch;

    fn file(name: &str, text: &str) -> Scratch {
        let path = Scratch::new(&format!("{name}.toml"));
        fs::write(&*path, text).unwrap();
        path
    }

    #[test]
    fn the_command_line_is_sound_and_teaches() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for part in [
            "--once --dry-run",
            "unit:nginx.service",
            "status=leaving",
            "EIPWATCH_AGENT_EVERY",
            "/etc/eipwatch-agent.toml",
        ] {
            assert!(help.contains(part), "{part} is not in\n{help}");
        }
    }

    #[test]
    fn without_options_the_contract_s_defaults() {
        let config = Options::default().complete().unwrap();
        assert_eq!(config.settings.interval, Duration::from_secs(1));
        assert_eq!(config.settings.every, Duration::from_secs(5));
        assert_eq!((config.settings.fall, config.settings.rise), (2, 2));
        assert_eq!(config.host, Ipv4Addr::LOCALHOST);
        assert_eq!(config.tag_key, "eipwatch:heartbeat");
        assert!(!config.leave_on_exit && config.checks.is_empty());
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let path =
            file("wins", "check = [\"tcp:1\", \"unit:a.service\"]\nevery = \"10s\"\nfall = 3\nleave-on-exit = true");
        let cli = Cli::parse_from(["eipwatch-agent", "--check", "tcp:2", "--every=7s", "--leave-on-exit=false"]);
        let config = cli.options.or(Options::from_file(Some(&path)).unwrap()).complete().unwrap();
        assert_eq!(config.settings.checks, ["tcp:2"]);
        assert_eq!(config.settings.every, Duration::from_secs(7));
        assert_eq!(config.settings.fall, 3);
        assert!(!config.leave_on_exit);
        let cli = Cli::parse_from(["eipwatch-agent", "--check", ""]);
        let config = cli.options.or(Options::from_file(Some(&path)).unwrap()).complete().unwrap();
        assert_eq!(config.settings.checks, ["tcp:1", "unit:a.service"], "an empty variable is none");
        let config = Options::from_file(Some(&path)).unwrap().complete().unwrap();
        assert_eq!(config.settings.checks, ["tcp:1", "unit:a.service"]);
        assert!(config.leave_on_exit);
        let cli = Cli::parse_from(["eipwatch-agent", "--check", "tcp:2", "--leave-on-exit", "leave", "--every", "9s"]);
        assert_eq!((cli.options.leave_on_exit, cli.options.every), (Some(true), Some(Duration::from_secs(9))));
        assert!(matches!(cli.command, Some(Command::Leave { .. })));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let of = |text: &str| {
            Options::from_file(Some(&file("bad", text))).and_then(Options::complete).unwrap_err().to_string()
        };
        for (text, part) in [
            ("chekc = []", "chekc"),
            ("every = 5", "every"),
            ("every = \"soon\"", "'soon' is not a duration"),
            ("every = \"500ms\"", "--every: 500ms is not from 1s to 1h"),
            ("every = \"2h\"", "is not from 1s to 1h"),
            ("fall = 0", "--fall: 0 is not from 1 to 20"),
            ("check = [\"ping\"]", "--check: 'ping' is not a check"),
            ("tag-prefix = \"aws:x\"", "--tag-prefix: 'aws:x'"),
            ("host = \"0.0.0.0\"", "--host: 0.0.0.0"),
            ("host = \"localhost\"", "host"),
        ] {
            let problem = of(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
        let many: Vec<String> = (1..=33).map(|port| format!("\"tcp:{port}\"")).collect();
        assert!(of(&format!("check = [{}]", many.join(","))).contains("33 checks are more than 32"));
        let missing = Options::from_file(Some(Path::new("/nowhere/at/all.toml"))).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/at/all.toml cannot be read"), "{missing}");
    }
}
