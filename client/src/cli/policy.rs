//! `policy show`.

use std::process::ExitCode;

use clap::Subcommand;

use super::Context;

/// What this institution allows, whatever a plan says
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the policy in force
    Show,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Command::Show = arguments.command;
    let directory = context.directory()?;
    let policy = directory.policy()?;
    context.output.data(&policy, |policy| {
        let file = directory.policy_file();
        let source = if file.exists() {
            file.display().to_string()
        } else {
            "the default; there is no policy.toml".to_owned()
        };
        let keys = toml::to_string(policy).unwrap_or_default();
        format!("# {source}\n{keys}")
    })?;
    Ok(ExitCode::SUCCESS)
}
