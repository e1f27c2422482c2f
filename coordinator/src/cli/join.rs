//! `join`: a directory for one more process of a federation that runs already.

use std::path::PathBuf;

use clap::Args;
use fedner_host::address::{Address, Addresses};
use fedner_host::output::Output;
use fedner_shared::refusal::Code;
use serde::Serialize;

use super::backup::{copy_folder, create_private};
use super::failed::Failed;
use super::init::{listen_on, write};
use crate::config::{Config, Paths};
use crate::keys::shared::SharedKeys;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The directory of a process that serves the federation, or a copy of it
    #[arg(long, value_name = "DIRECTORY")]
    from: PathBuf,
    /// Where the other processes will reach this one
    #[arg(long, value_name = "HOST:PORT")]
    cluster_address: Address,
    /// The socket for them [default: the port of that address, on every interface]
    #[arg(long, value_name = "IP:PORT")]
    cluster_listen: Option<String>,
    /// Where institutions dial this process [default: as in the other directory]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    address: Vec<Address>,
    /// The socket to listen on [default: by the address, as `init` does]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
}

#[derive(Serialize)]
struct Joined {
    directory: String,
    address: Addresses,
    cluster_address: Address,
}

pub(super) fn run(arguments: Arguments, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let source = Paths::new(&arguments.from);
    let mut config = Config::read(&source)?;
    if config.cluster_address.is_none() {
        let message = format!(
            "{} has no cluster_address: give it one, and start that process anew",
            source.config().display()
        );
        return Err(Failed::refuse(Code::ConfigInvalid, message));
    }
    if !arguments.address.is_empty() {
        let addresses = Addresses::new(arguments.address);
        config.address = addresses
            .map_err(|e| Failed::refuse(Code::ConfigInvalid, format!("--address: {e}")))?;
    }
    config.listen = listen_on(config.address.first(), arguments.listen);
    config.cluster_address = Some(arguments.cluster_address.clone());
    config.cluster_listen = arguments.cluster_listen;
    // Made where it is missing, since both have to have the same one.
    SharedKeys::open(&source)?;
    create_private(paths.directory())?;
    // An operator's keys are for people, and stay where they are.
    let authority = |paths: &Paths| paths.directory().join("authority");
    copy_folder(&authority(&source), &authority(paths))?;
    let text = toml::to_string(&config).map_err(|error| Failed::fault(error.to_string()))?;
    // Last: a directory with this file is a whole one.
    write(&paths.config(), &text)?;
    let joined = Joined {
        directory: paths.directory().display().to_string(),
        address: config.address,
        cluster_address: arguments.cluster_address,
    };
    output.data(&joined, |joined| {
        format!(
            "made {} for one more process at {}\nNext: fedner-coordinator --dir {} serve",
            joined.directory, joined.cluster_address, joined.directory
        )
    })?;
    output.say("it holds the federation's keys: keep it as private as the other directory");
    Ok(())
}
