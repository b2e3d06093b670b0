//! The node agent.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    eipwatch::agent::start::main().await
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("eipwatch-agent runs on Linux only");
    ExitCode::from(2)
}
