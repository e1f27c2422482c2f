//! The commands of `fedner-coordinator`. One file a command; data goes to stdout, talk to stderr.

mod backup;
mod certificate;
mod connect;
mod dashboard;
mod failed;
mod init;
mod institution;
mod invite;
mod join;
mod key;
mod lists;
mod model;
mod plan;
mod replay;
mod restore;
mod run;
mod sentence;
mod serve;
mod status;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use fedner_host::files::keep_to_owner;
use fedner_host::output::{self, Output, OutputArguments};

use crate::config::Paths;
use failed::Failed;

/// Coordinates federated training of one named-entity model. Institutions keep their text.
#[derive(Debug, Parser)]
#[command(name = "fedner-coordinator", version, max_term_width = 100)]
struct Arguments {
    /// The coordinator's directory: configuration, keys, state
    #[arg(
        long,
        global = true,
        env = "FEDNER_COORDINATOR_DIR",
        value_name = "DIR"
    )]
    dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a coordinator: configuration, certificate authority, operator's keys, empty store
    Init(init::Arguments),
    /// Make a directory for one more process of a federation
    Join(join::Arguments),
    /// Run the coordinator
    Serve(serve::Arguments),
    /// Say which process leads
    Status(status::Arguments),
    /// Write a one-time invite for an institution to stdout
    Invite(invite::Arguments),
    /// Look at institutions, suspend or revoke them
    #[command(subcommand)]
    Institution(institution::Command),
    /// Import, look at, name and export model versions
    #[command(subcommand)]
    Model(model::Command),
    /// Make plans ready and sign them, elsewhere if need be
    #[command(subcommand)]
    Plan(plan::Command),
    /// Issue and revoke certificates of operators and viewers; look at keys, and rotate them
    #[command(subcommand)]
    Key(key::Command),
    /// Create, start and follow runs
    #[command(subcommand)]
    Run(run::Command),
    /// Look at the federation in a browser of this machine, and act on it
    Dashboard(dashboard::Arguments),
    /// Look at the federation on one screen of this terminal, live
    Top(dashboard::top::Arguments),
    /// Compute a published version again from its stored updates and compare
    Replay(replay::Arguments),
    /// Check every digest, signature, lineage link and the audit chain in the directory
    Verify(verify::Arguments),
    /// Copy everything, keys included, to another directory, beside a running coordinator
    Backup(backup::Arguments),
    /// Make a working coordinator of a backup, in an empty directory
    Restore(restore::Arguments),
    /// Write a completion script for a shell to stdout
    Completions { shell: clap_complete::Shell },
    /// Write a man page of each command into a folder
    Manual {
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

/// Parses the command line, does what it says, and gives the exit status: 0 success, 1 refused or
/// failed check, 2 wrong usage, 3 a fault of our own.
pub fn main() -> ExitCode {
    keep_to_owner();
    let arguments: Arguments = match output::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    let output = arguments.output.open("fedner_coordinator");
    match dispatch(arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(&output),
    }
}

fn dispatch(arguments: Arguments, output: &Output) -> Result<(), Failed> {
    let paths = Paths::new(match arguments.dir {
        Some(dir) => dir,
        None => default_directory()?,
    });
    match arguments.command {
        Command::Init(arguments) => init::run(arguments, &paths, output),
        Command::Join(arguments) => join::run(arguments, &paths, output),
        Command::Serve(arguments) => runtime()?.block_on(serve::run(arguments, &paths, output)),
        Command::Status(arguments) => status::run(arguments, &paths, output),
        Command::Invite(arguments) => runtime()?.block_on(invite::run(arguments, &paths, output)),
        Command::Institution(command) => {
            runtime()?.block_on(institution::run(command, &paths, output))
        }
        Command::Model(command) => runtime()?.block_on(model::run(command, &paths, output)),
        Command::Plan(command) => runtime()?.block_on(plan::run(command, &paths, output)),
        Command::Key(command) => runtime()?.block_on(key::run(command, &paths, output)),
        Command::Run(command) => runtime()?.block_on(run::run(command, &paths, output)),
        Command::Dashboard(arguments) => {
            runtime()?.block_on(dashboard::run(arguments, &paths, output))
        }
        Command::Top(arguments) => {
            runtime()?.block_on(dashboard::top::run(arguments, &paths, output))
        }
        Command::Replay(arguments) => runtime()?.block_on(replay::run(arguments, &paths, output)),
        Command::Verify(arguments) => runtime()?.block_on(verify::run(arguments, &paths, output)),
        Command::Backup(arguments) => runtime()?.block_on(backup::run(arguments, &paths, output)),
        Command::Restore(arguments) => runtime()?.block_on(restore::run(arguments, &paths, output)),
        Command::Completions { shell } => {
            let (mut script, mut command) = (Vec::new(), Arguments::command());
            clap_complete::generate(shell, &mut command, "fedner-coordinator", &mut script);
            Ok(output::raw(&script)?)
        }
        Command::Manual { to } => clap_mangen::generate_to(Arguments::command(), &to)
            .map_err(Failed::io("write man pages into", &to)),
    }
}

fn default_directory() -> Result<PathBuf, Failed> {
    let directories = directories::ProjectDirs::from("", "", "fedner-coordinator");
    let directories = directories
        .ok_or_else(|| Failed::fault("this platform names no data directory; give --dir"))?;
    Ok(directories.data_dir().to_owned())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::fault(format!("the asynchronous runtime cannot start: {error}")))
}
