//! The binary: options, signals, exit status.

use std::future;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use super::aws::Instance;
use super::beat::{Beat, Ending, Level, Line, Settings};
use super::options::{BadOptions, Cli, Command, Config, Options};
use super::run::{DryRun, Home, Teller, forget_leave, leave_file, leave_word, run};
use crate::drive::{Clock, SystemClock};

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

/// Runs what the command line says.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match configure(&cli) {
        Ok(config) => config,
        Err(problem) => {
            let _ = writeln!(io::stderr(), "error: {problem}. Nothing is checked or written.");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let home = Instance::new();
    if cli.dry_run { start(&cli, config, DryRun(home)).await } else { start(&cli, config, home).await }
}

fn configure(cli: &Cli) -> Result<Config, BadOptions> {
    cli.options.clone().or(Options::from_file(cli.config.as_deref())?).complete()
}

async fn start(cli: &Cli, config: Config, home: impl Home) -> ExitCode {
    let teller = Teller::from_env();
    let now = SystemClock::start().now();
    // Whether an agent that runs here knows of the leave.
    let mut told = false;
    let ending = match &cli.command {
        Some(Command::Leave { why }) => {
            if !cli.dry_run {
                match leave_word(&config.run_dir) {
                    Ok(()) => told = true,
                    Err(error) => {
                        let dir = config.run_dir.display();
                        let denied = error.kind() == io::ErrorKind::PermissionDenied;
                        let end = if denied {
                            ". Nothing was written: run this as root"
                        } else {
                            ". If none runs here, nothing is missing; otherwise name its directory with --run-dir"
                        };
                        let text = format!(
                            "an agent that runs here is not told, and would take the leave back with its next heartbeat ({dir}: {error}){end}"
                        );
                        teller.tell(&Line { level: Level::Warning, text });
                        if denied {
                            return ExitCode::from(FAILED);
                        }
                    }
                }
            }
            let beat = Beat::goodbye(config.settings.clone(), why.clone(), now);
            run(beat, &config, &home, &teller, future::pending(), None).await
        }
        None => {
            if !cli.dry_run
                && !cli.once
                && let Err(error) = forget_leave(&config.run_dir)
            {
                let file = leave_file(&config.run_dir);
                let text = format!("{} stays ({error}): leaving is announced until it is removed", file.display());
                teller.tell(&Line { level: Level::Warning, text });
            }
            if config.checks.is_empty() {
                let text = "no --check is given: the heartbeat says no more than that this machine runs".to_owned();
                teller.tell(&Line { level: Level::Warning, text });
            }
            let beat = Beat::new(Settings { once: cli.once, ..config.settings.clone() }, now);
            let announces = (config.leave_on_exit && !cli.once).then(|| "the agent was stopped".to_owned());
            run(beat, &config, &home, &teller, told_to_stop(), announces).await
        }
    };
    let says = cli.once || cli.command.is_some();
    match ending {
        Ending::Stopped if says => ExitCode::from(FAILED),
        Ending::Stopped => ExitCode::SUCCESS,
        Ending::Written(beat) => {
            if says && !cli.dry_run {
                let _ = writeln!(io::stdout(), "wrote {}: {beat}", config.tag_key);
            }
            ExitCode::SUCCESS
        }
        Ending::GaveUp(why) => {
            let text = if told {
                format!(
                    "{}. An agent that runs here has been told, and announces it as soon as it can; to take that back, restart it",
                    why.trim_end_matches('.')
                )
            } else {
                why
            };
            teller.tell(&Line { level: Level::Warning, text });
            // A stop that could not be announced is a stop all the same.
            if says { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
        }
    }
}

/// Resolves at SIGTERM or SIGINT.
async fn told_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without a handler the signals end the process, which is what they are for.
        return future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
