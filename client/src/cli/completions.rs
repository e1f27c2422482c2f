//! `completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use fedner_host::output;

use super::{Cli, Context};

/// Write a shell's completions to stdout
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn run(_: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    clap_complete::generate(arguments.shell, &mut command, "fedner-client", &mut script);
    output::raw(&script)?;
    Ok(ExitCode::SUCCESS)
}
