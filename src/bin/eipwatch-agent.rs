//! The node agent.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}. Nothing is checked or written.");
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(eipwatch::agent::start::main());
    // A name that is still being looked up, on a thread of its own, is not waited for: where the resolver is gone, as at a
    // shutdown, that takes longer than a goodbye may.
    runtime.shutdown_background();
    status
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("eipwatch-agent runs on Linux only");
    ExitCode::from(2)
}
