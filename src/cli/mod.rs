//! The command line: reads what was typed, runs it, says what came of it.

pub mod paint;

use std::net::SocketAddrV4;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// It failed.
const FAILED: u8 = 1;

/// Keeps an Elastic IP on a healthy EC2 instance.
#[derive(Debug, Parser)]
#[command(name = "eipwatch", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a failover here and now, without AWS: real processes, an embedded EC2, the outage measured
    Demo,
    /// A node of the demo.
    #[command(name = crate::demo::nodes::SUBCOMMAND, hide = true)]
    DemoNode {
        #[arg(long)]
        name: String,
        #[arg(long)]
        listen: SocketAddrV4,
    },
}

/// The whole of the program `eipwatch`.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the system gives no event queue: {error}. Nothing was done.")),
    };
    let code = runtime.block_on(run(cli.command));
    // A thread may still wait for standard input.
    runtime.shutdown_background();
    code
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Demo => match crate::demo::run(stop_signal()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("the demo failed: {error}")),
        },
        Command::DemoNode { name, listen } => match crate::demo::nodes::serve(name, listen).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{listen}: {error}")),
        },
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("eipwatch: {text}");
    ExitCode::from(FAILED)
}

/// Resolves when somebody asks the program to end: Ctrl-C, SIGTERM.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let term = async {
            match signal(SignalKind::terminate()) {
                Ok(mut term) => term.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = term => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}
