//! `backup`: everything of a coordinator, beside the running one.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use fedner_host::output::Output;
use fedner_shared::refusal::Code;
use serde::Serialize;

use super::failed::Failed;
use crate::blobs::Blobs;
use crate::config::{Config, Paths};
use crate::garbage::Hold;
use crate::store::{Place, Store};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A directory that does not exist yet. It will hold the coordinator's keys: keep it private
    #[arg(long, value_name = "BACKUP")]
    to: PathBuf,
}

#[derive(Serialize)]
struct Written {
    backup: String,
    events: u64,
    objects: usize,
    /// Versions of which something had been let go on purpose.
    pruned: usize,
}

pub(super) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let config = Config::read(paths)?;
    let target = Paths::new(&arguments.to);
    create_private(target.directory())?;
    let _hold =
        Hold::new(&paths.garbage_lock()).map_err(Failed::io("lock", &paths.garbage_lock()))?;
    // The database first: what it refers to was written before it, and is held.
    Store::back_up(&Place::from_config(paths, &config)?, &target.store())?;
    let mut copy = Store::open(&target.store())?;
    let (events, needed, pruned) =
        copy.read(|tx| Ok((tx.verify_chain()?, tx.needed_objects()?, tx.pruned()?)))?;
    drop(copy);
    let from = Blobs::from_config(paths, &config).await?;
    let to = Blobs::open(&target.blobs(), &target.staging())?;
    for digest in &needed {
        to.copy_from(&from, *digest).await?;
    }
    for folder in Paths::FOLDERS {
        copy_folder(
            &paths.directory().join(folder),
            &target.directory().join(folder),
        )?;
    }
    // Last: a directory with this file is a whole one.
    copy_file(&paths.config(), &target.config())?;
    let written = Written {
        backup: target.directory().display().to_string(),
        events,
        objects: needed.len(),
        pruned: pruned.len(),
    };
    output.data(&written, |w| {
        format!(
            "wrote {} events and {} objects to {}",
            w.events, w.objects, w.backup
        )
    })?;
    if written.pruned > 0 {
        output.say(format!(
            "{} versions had been pruned: what they lack is not in it either",
            written.pruned
        ));
    }
    output.say("it holds the coordinator's keys: keep it as private as the coordinator itself");
    Ok(())
}

/// Makes a directory that only its owner may enter; one that has something in it is refused.
pub(super) fn create_private(path: &Path) -> Result<(), Failed> {
    use std::os::unix::fs::DirBuilderExt;
    let present = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if present || path.is_file() {
        let message = format!("{} exists and is not empty", path.display());
        return Err(Failed::refuse(Code::AlreadyExists, message));
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Failed::io("create", path))
}

pub(super) fn copy_folder(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::create_dir_all(to).map_err(Failed::io("create", to))?;
    for entry in fs::read_dir(from).map_err(Failed::io("read", from))? {
        let path = entry.map_err(Failed::io("read", from))?.path();
        if path.is_file() {
            copy_file(&path, &to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// Copies contents and permissions, durably.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::copy(from, to)
        .and_then(|_| fs::File::open(to)?.sync_all())
        .map_err(Failed::io("write", to))
}
