//! `restore`: a working coordinator from a backup.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use fedner_host::machine::Machine as _;
use fedner_host::machine::ThisMachine;
use fedner_host::output::Output;
use fedner_shared::event::Event;
use fedner_shared::refusal::Code;
use serde::Serialize;

use super::backup::{copy_file, copy_folder, create_private};
use super::failed::Failed;
use crate::blobs::Blobs;
use crate::config::{Config, Paths};
use crate::store::{self, Place, Store};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What `backup` wrote
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
}

#[derive(Serialize)]
struct Restored {
    directory: String,
    events: u64,
    objects: usize,
}

pub(super) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let source = Paths::new(&arguments.from);
    let config = Config::read(&source)?;
    create_private(paths.directory())?;
    for folder in Paths::FOLDERS {
        let (from, to) = (source.directory(), paths.directory());
        copy_folder(&from.join(folder), &to.join(folder))?;
    }
    let damaged = |error: store::Error| match error.code() {
        Some(_) => Failed::from(error),
        None => Failed::refuse(Code::StateInvalid, error.to_string()),
    };
    let mut store = match Place::from_config(paths, &config)? {
        Place::File(file) => {
            copy_file(&source.store(), &file)?;
            Store::open(&file).map_err(damaged)?
        }
        server @ Place::Server(_) => {
            // The copy is brought up to date, and not the backup.
            let copy = paths.store();
            copy_file(&source.store(), &copy)?;
            let store = Store::bring_back(&copy, &server).map_err(damaged)?;
            fs::remove_file(&copy).map_err(Failed::io("remove", &copy))?;
            store
        }
    };
    store.check_pages().map_err(damaged)?;
    let (events, needed) = store
        .read(|tx| Ok((tx.verify_chain()?, tx.needed_objects()?)))
        .map_err(damaged)?;
    let from = Blobs::open(&source.blobs(), &paths.staging())?;
    let to = Blobs::from_config(paths, &config).await?;
    for digest in &needed {
        to.copy_from(&from, *digest).await?;
    }
    store
        .transact("record restore", |tx| {
            tx.append_event(
                ThisMachine.now(),
                None,
                Event::CoordinatorRestored { events },
            )
        })
        .map_err(damaged)?;
    // Last: a directory with this file is a whole one.
    copy_file(&source.config(), &paths.config())?;
    let restored = Restored {
        directory: paths.directory().display().to_string(),
        events,
        objects: needed.len(),
    };
    output.data(&restored, |r| {
        format!(
            "restored {} events and {} objects, all verified, to {}\nNext: fedner-coordinator --dir {} serve",
            r.events, r.objects, r.directory, r.directory
        )
    })?;
    Ok(())
}
