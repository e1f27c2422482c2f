//! The command line. Data goes to stdout, talk to stderr.

mod audit;
mod check;
mod completions;
mod consent;
mod data;
mod enroll;
mod evaluate;
mod failure;
mod key;
mod models;
pub(crate) mod output;
mod pause;
mod policy;
mod predict;
mod privacy;
mod reading;
mod receipts;
mod release;
mod relocate;
mod start;
mod status;
mod train;
mod verify;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use fedner_host::files::keep_to_owner;
use fedner_shared::text::OneLine;

use clap::{ArgAction, Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Directory;
use output::{Format, Output};

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
    /// How data is written to stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
    /// Say nothing but errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more; twice: still more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    verbose: u8,
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
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Predict(predict::Arguments),
    Audit(audit::Arguments),
    Completions(completions::Arguments),
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
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with status 0, mistakes to stderr with status 2.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(3),
            };
        }
    };
    log_to_stderr(&cli.global);
    let output = Output::new(cli.global.output);
    let context = Context {
        directory: cli.global.dir,
        output,
    };
    let outcome = dispatch(&context, cli.command);
    if let Ok(directory) = context.directory() {
        directory.keep_owner();
    }
    match outcome {
        Ok(code) => code,
        Err(error) => failure::report(&error, output),
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
        Command::Train(arguments) => train::run(context, &arguments),
        Command::Evaluate(arguments) => evaluate::run(context, &arguments),
        Command::Predict(arguments) => predict::run(context, &arguments),
        Command::Audit(arguments) => audit::run(context, arguments),
        Command::Completions(arguments) => completions::run(context, &arguments),
    }
}

fn log_to_stderr(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,fedner_client=info",
        (false, 1) => "info,fedner_client=debug",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("FEDNER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Set already only where a test runs several commands in one process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || OneLine::new(std::io::stderr(), colour))
        .with_target(false)
        .with_ansi(colour)
        .try_init();
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
