//! `privacy show`, `privacy verify`, `privacy forecast`, `privacy recover`.

mod forecast;
mod recover;
mod show;
mod verify;

pub(super) use show::Bounded;

use std::process::ExitCode;

use clap::Subcommand;

use super::Context;

/// The privacy ledger of this institution, and what a plan would cost
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what was spent, on each plan and in all
    Show,
    /// Check the ledger's chain and figures, and that every receipt is in it
    Verify,
    Forecast(forecast::Arguments),
    Recover(recover::Arguments),
}

pub(super) fn run(context: &Context, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Show => show::run(context),
        Command::Verify => verify::run(context),
        Command::Forecast(arguments) => forecast::run(context, &arguments),
        Command::Recover(arguments) => recover::run(context, &arguments),
    }
}
