//! The coordinator's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    fedner_coordinator::cli::main()
}
