//! The command line. Data goes to stdout, talk to stderr.

mod audit;
mod check;
mod completions;
mod consent;
mod dashboard;
mod data;
mod distil;
mod enroll;
mod evaluate;
mod failure;
mod figures;
mod key;
mod manual;
mod model;
mod models;
mod monitor;
mod pause;
mod policy;
mod predict;
mod privacy;
mod reading;
mod receipts;
mod release;
mod relocate;
mod serve;
mod start;
mod status;
mod train;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use fedner_host::files::keep_to_owner;
use fedner_host::output::{self, Output, OutputArguments};

use crate::config::Directory;

/// Trains beside an institution's text and lets only clipped, noised updates leave.
#[derive(Debug, Parser)]
#[command(name = "fedner-client", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Directory of the institution's state and configuration [default: the platform's data directory]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "FEDNER_CLIENT_DIR",
        hide_env_values = true
    )]
    dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    Enroll(enroll::Arguments),
    Check(check::Arguments),
    Data(data::Arguments),
    Start(start::Arguments),
    Status(status::Arguments),
    Consent(consent::Arguments),
    Policy(policy::Arguments),
    Pause(pause::Arguments),
    Resume(pause::Resume),
    Move(relocate::Arguments),
    Privacy(privacy::Arguments),
    Receipts(receipts::Arguments),
    Key(key::Arguments),
    Verify(verify::Arguments),
    Release(release::Arguments),
    Dashboard(dashboard::Arguments),
    Train(train::Arguments),
    Distil(distil::Arguments),
    Evaluate(evaluate::Arguments),
    Predict(predict::Arguments),
    Serve(serve::Arguments),
    Model(model::Arguments),
    Monitor(monitor::Arguments),
    Audit(audit::Arguments),
    Completions(completions::Arguments),
    Manual(manual::Arguments),
}

/// What every command is given.
#[derive(Debug)]
struct Context {
    directory: Option<PathBuf>,
    output: Output,
}

impl Context {
    fn directory(&self) -> anyhow::Result<Directory> {
        Ok(Directory::new(self.directory.clone())?)
    }
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    keep_to_owner();
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match output::parse(arguments) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let context = Context {
        directory: cli.global.dir,
        output: cli.global.output.open("fedner_client"),
    };
    let outcome = dispatch(&context, cli.command);
    if let Ok(directory) = context.directory() {
        directory.keep_owner();
    }
    match outcome {
        Ok(code) => code,
        Err(error) => failure::report(&error, &context.output),
    }
}

fn dispatch(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Enroll(arguments) => enroll::run(context, arguments),
        Command::Check(arguments) => check::run(context, arguments),
        Command::Data(arguments) => data::run(context, &arguments),
        Command::Start(arguments) => start::run(context, arguments),
        Command::Status(arguments) => status::run(context, arguments),
        Command::Consent(arguments) => consent::run(context, arguments),
        Command::Policy(arguments) => policy::run(context, &arguments),
        Command::Pause(arguments) => pause::pause(context, &arguments),
        Command::Resume(_) => pause::resume(context),
        Command::Move(arguments) => relocate::run(context, &arguments),
        Command::Privacy(arguments) => privacy::run(context, arguments),
        Command::Receipts(arguments) => receipts::run(context, arguments),
        Command::Key(arguments) => key::run(context, &arguments),
        Command::Verify(arguments) => verify::run(context, &arguments),
        Command::Release(arguments) => release::run(context, &arguments),
        Command::Dashboard(arguments) => dashboard::run(context, &arguments),
        Command::Train(arguments) => train::run(context, &arguments),
        Command::Distil(arguments) => distil::run(context, &arguments),
        Command::Evaluate(arguments) => evaluate::run(context, &arguments),
        Command::Predict(arguments) => predict::run(context, &arguments),
        Command::Serve(arguments) => serve::run(context, &arguments),
        Command::Model(arguments) => model::run(context, &arguments),
        Command::Monitor(arguments) => monitor::run(context, &arguments),
        Command::Audit(arguments) => audit::run(context, arguments),
        Command::Completions(arguments) => completions::run(context, &arguments),
        Command::Manual(arguments) => manual::run(&arguments),
    }
}

/// A runtime for the commands that talk to the coordinator.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the asynchronous runtime")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
