//! `fedner-client`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fedner_client::discreet::begin();
    fedner_client::cli::main()
}
