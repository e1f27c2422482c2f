//! `manual`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory;

use super::Cli;

/// Write a man page of each command into a folder
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(Cli::command(), &arguments.to)
        .with_context(|| format!("write man pages into {}", arguments.to.display()))?;
    Ok(ExitCode::SUCCESS)
}
