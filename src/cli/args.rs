//! What can be typed.
#![expect(missing_docs, reason = "a doc comment on a flattened field would become part of the help")]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::core::event;
use crate::core::model::{ClusterName, InstanceId};
use crate::core::tags::{self, Check};
use crate::core::time::Time;
use crate::simulate::scenario::policy_of;
use crate::simulate::vary;

/// Beneath every help text: what a script needs to know.
const AFTER_HELP: &str = "\
Exit status:
  0  all is well, or what was asked for was done
  1  it failed
  2  it was typed wrongly, or names what does not exist
  3  a cluster needs attention, or doctor could not find out

Environment: AWS_REGION, AWS_PROFILE and everything else of the AWS SDK; as for the function
EIPWATCH_TAG_PREFIX, EIPWATCH_MODE, EIPWATCH_SHARD and, for `watch`, EIPWATCH_WATCH_SECONDS and
EIPWATCH_LOG; NO_COLOR.";

/// Keeps an Elastic IP on a healthy EC2 instance: see what it sees, move addresses, rehearse.
#[derive(Debug, Parser)]
#[command(name = "eipwatch", version, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a failover here and now, without AWS, and measure the outage
    Demo {
        /// What the client measured, as one JSON document on standard output, and nothing else
        #[arg(long)]
        json: bool,
    },
    /// Say how the clusters are; change nothing
    Status {
        #[command(flatten)]
        cluster: ClusterArg,
        /// Go on until Ctrl-C, and show each time what has become of it
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// Time between two looks with --watch
        #[arg(long, value_name = "TIME", default_value = "5s", value_parser = refresh, requires = "watch")]
        every: Duration,
        #[command(flatten)]
        output: Output,
    },
    /// Observe, decide and act once, now
    Sweep {
        #[command(flatten)]
        cluster: ClusterArg,
        /// Only say what would be done, and ask EC2 whether it would be allowed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Move an address to the best candidate, or to a node
    Move {
        /// The cluster; not needed where there is only one
        #[arg(long, value_name = "NAME", value_parser = tags::cluster_name)]
        cluster: Option<ClusterName>,
        /// The address; not needed where the cluster has only one
        #[arg(long, value_name = "IP")]
        address: Option<Ipv4Addr>,
        /// The node; without it, the best candidate
        #[arg(long, value_name = "INSTANCE", value_parser = tags::instance_id)]
        to: Option<InstanceId>,
        /// Even if the node is no candidate; the address's mode becomes manual
        #[arg(long)]
        force: bool,
        /// Only say what would be done, and ask EC2 whether it would be allowed
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Take a node out of service: its address goes to a candidate
    Drain {
        /// The node
        #[arg(value_name = "INSTANCE", value_parser = tags::instance_id)]
        node: InstanceId,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Take a node back into service
    Undrain {
        /// The node
        #[arg(value_name = "INSTANCE", value_parser = tags::instance_id)]
        node: InstanceId,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Let no address of a cluster move by itself
    Pause {
        #[command(flatten)]
        cluster: ClusterArg,
        /// For how long, 1s to 30 days; without it, until `resume`
        #[arg(long = "for", value_name = "TIME", value_parser = event::pause_duration)]
        length: Option<Duration>,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Let the addresses of a cluster move by themselves again
    Resume {
        #[command(flatten)]
        cluster: ClusterArg,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Find out whether an address could move right now, and what stands in the way
    Doctor {
        #[command(flatten)]
        cluster: ClusterArg,
        /// One JSON document on standard output
        #[arg(long)]
        json: bool,
        /// Have the deployed function observe, and see that the nodes let it in
        #[arg(long, value_name = "NAME")]
        function: Option<String>,
    },
    /// Rehearse: move an address and back, and measure the outage through the address itself
    Drill {
        #[command(flatten)]
        cluster: ClusterArg,
        /// The address; not needed where the cluster has only one
        #[arg(long, value_name = "IP")]
        address: Option<Ipv4Addr>,
        /// The node to move to; without it, the best candidate
        #[arg(long, value_name = "INSTANCE", value_parser = tags::instance_id)]
        to: Option<InstanceId>,
        /// What to ask through the address, such as http:80/; else the cluster's check
        #[arg(long, value_name = "CHECK", value_parser = one_check)]
        probe: Option<Check>,
        /// Write it as one HTML page, too, that needs nothing else
        #[arg(long, value_name = "FILE")]
        html: Option<std::path::PathBuf>,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Play a failure in virtual time, without AWS, and compare policies
    Simulate {
        /// A scenario file (TOML), or the name of one that comes with eipwatch; --list tells them
        #[arg(value_name = "SCENARIO", required_unless_present = "list")]
        scenario: Option<String>,
        /// Compare this policy: pairs over the scenario's own ('fall=2'); repeatable
        #[arg(long, value_name = "POLICY", value_parser = policy)]
        policy: Vec<String>,
        /// Compare all combinations, such as fall=1..5 or interval=1s,2s; repeatable
        #[arg(long, value_name = "KEY=VALUES", value_parser = vary::values)]
        vary: Vec<Vec<String>>,
        /// Another seed for what comes by chance
        #[arg(long, value_name = "NUMBER")]
        seed: Option<u64>,
        /// Tell the scenarios that come with eipwatch
        #[arg(long, conflicts_with_all = ["show", "policy", "vary", "seed", "html"])]
        list: bool,
        /// Print the scenario's file, to be changed and played
        #[arg(long, conflicts_with_all = ["policy", "vary", "seed", "json", "html"])]
        show: bool,
        /// Write the log, too, that the function would have written
        #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "show"])]
        log: Option<std::path::PathBuf>,
        #[command(flatten)]
        picture: Picture,
    },
    /// Show from the function's log why it acted, and decide again under another policy
    Replay {
        /// The log: a file, or - for standard input
        #[arg(value_name = "LOG", required_unless_present = "function", conflicts_with = "function")]
        log: Option<String>,
        /// Decide again under this policy: pairs over the one in force; repeatable
        #[arg(long, value_name = "POLICY", value_parser = policy)]
        policy: Vec<String>,
        /// Only this cluster
        #[arg(long, value_name = "NAME", value_parser = tags::cluster_name)]
        cluster: Option<ClusterName>,
        /// Read the log of this deployed function from CloudWatch Logs
        #[arg(long, value_name = "NAME")]
        function: Option<String>,
        /// With --function: the log group, where it is not /aws/lambda/NAME
        #[arg(long, value_name = "NAME", requires = "function")]
        log_group: Option<String>,
        /// Only the last so much of it, such as 2h
        #[arg(long, value_name = "TIME", value_parser = length, conflicts_with_all = ["from", "to"])]
        since: Option<Duration>,
        /// Only from then on, such as 2026-11-22T07:30:00Z
        #[arg(long, value_name = "TIME", value_parser = instant)]
        from: Option<Time>,
        /// Only until then
        #[arg(long, value_name = "TIME", value_parser = instant)]
        to: Option<Time>,
        #[command(flatten)]
        picture: Picture,
    },
    /// Do what the function does, outside Lambda, until Ctrl-C or SIGTERM
    Watch {
        /// Serve metrics for Prometheus there, such as 127.0.0.1:9464
        #[arg(long, value_name = "ADDRESS")]
        metrics: Option<SocketAddr>,
    },
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// The nodes that the demo starts. No command of `eipwatch`: nobody types it, nothing should offer it.
#[derive(Debug, Parser)]
#[command(name = "eipwatch demo-node")]
pub struct DemoNode {
    /// What it answers.
    #[arg(long)]
    pub name: String,
    /// Where it listens.
    #[arg(long)]
    pub listen: SocketAddrV4,
}

/// A cluster, named with or without its option.
#[derive(Debug, Args)]
pub struct ClusterArg {
    /// The cluster
    #[arg(value_name = "CLUSTER", value_parser = tags::cluster_name)]
    name: Option<ClusterName>,
    /// The same
    #[arg(long = "cluster", value_name = "NAME", value_parser = tags::cluster_name, conflicts_with = "name")]
    option: Option<ClusterName>,
}

impl ClusterArg {
    /// The cluster, if one was named.
    pub fn name(&self) -> Option<ClusterName> {
        self.name.clone().or_else(|| self.option.clone())
    }
}

/// Whether to ask first.
#[derive(Debug, Args)]
pub struct Consent {
    /// Do not ask first
    #[arg(long, short)]
    pub yes: bool,
}

/// How to answer, and from where.
#[derive(Debug, Args)]
pub struct Output {
    /// The function's answer, as one JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// Have the deployed function do it, by name or ARN
    #[arg(long, value_name = "NAME")]
    pub function: Option<String>,
}

/// How to show a timeline.
#[derive(Debug, Args)]
pub struct Picture {
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// Write it as one HTML page, too, that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<std::path::PathBuf>,
}

fn policy(text: &str) -> Result<String, String> {
    policy_of(text)?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn length(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|length| !length.is_zero())
        .ok_or_else(|| "a length of time, such as 2h or 90m".to_owned())
}

fn instant(text: &str) -> Result<Time, String> {
    Time::parse(text).ok_or_else(|| "a time such as 2026-11-22T07:30:00Z".to_owned())
}

fn one_check(text: &str) -> Result<Check, String> {
    match tags::checks(text) {
        (checks, wrong) if wrong.is_empty() => match checks.as_slice() {
            [check @ Check::Probe { .. }] => Ok(check.clone()),
            _ => Err("one of tcp:PORT, http:PORT/PATH and https:PORT/PATH".to_owned()),
        },
        (_, wrong) => Err(wrong.join("; ")),
    }
}

fn refresh(text: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    humantime::parse_duration(text)
        .ok()
        .filter(|every| range.contains(every))
        .ok_or_else(|| "a duration of 1s to 1h, such as 5s".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_fits_the_screen() {
        for mut command in Cli::command().get_subcommands().cloned().chain([Cli::command()]) {
            let help = command.render_help().to_string();
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 100).collect();
            assert!(long.is_empty(), "{long:#?}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        for typed in [
            &["status", "a b"][..],
            &["move", "--address", "web"],
            &["move", "--to", "web-1"],
            &["drain"],
            &["drain", "web-1"],
            &["pause", "--for", "soon"],
            &["status", "--json", "--watch"],
            &["status", "web", "--cluster", "web"],
            &["status", "--every", "2s"],
            &["simulate"],
            &["simulate", "crash", "--policy", "fall=0"],
            &["simulate", "crash", "--policy", "fal=2"],
            &["simulate", "crash", "--vary", "fall"],
            &["replay"],
            &["replay", "a.log", "--function", "f"],
            &["replay", "-", "--since", "2h", "--from", "2026-11-22T07:30:00Z"],
            &["replay", "-", "--from", "yesterday"],
        ] {
            let typed = std::iter::once("eipwatch").chain(typed.iter().copied());
            assert!(Cli::try_parse_from(typed.clone()).is_err(), "{:?}", typed.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_cluster_is_named_either_way() {
        for typed in [["eipwatch", "pause", "web", "--for=2h"], ["eipwatch", "pause", "--cluster=web", "--for=2h"]] {
            let Command::Pause { cluster, length, .. } = Cli::try_parse_from(typed).unwrap().command else { panic!() };
            assert_eq!(cluster.name().unwrap().as_str(), "web");
            assert_eq!(length, Some(Duration::from_secs(7200)));
        }
    }
}
