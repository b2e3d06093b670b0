//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    eipwatch::cli::main()
}
