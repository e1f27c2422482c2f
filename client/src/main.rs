//! `fedner-client`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fedner_client::cli::main()
}
