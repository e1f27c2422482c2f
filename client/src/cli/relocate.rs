//! `move`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use fedner_host::files;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_shared::refusal::{Code, Refusal};
use serde::Serialize;

use super::Context;
use crate::config::{Directory, Error};
use crate::state::Store;

/// Move the institution to another directory or machine: the copy works, this directory no longer does
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An empty or new directory, for example on a disk that goes to the other machine
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Debug, Serialize)]
struct Report {
    from: PathBuf,
    to: PathBuf,
}

/// What an institution is; models are fetched again.
const FILES: [&str; 2] = ["client.toml", "policy.toml"];

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    directory.settings()?;
    // No daemon may pay for anything from here on.
    let _lock = directory.lock()?;
    let store = Store::open(&directory.database())?;
    store.check_not_moved()?;
    let to = std::path::absolute(&arguments.to).context("resolve the new directory")?;
    if fs::read_dir(&to).is_ok_and(|mut entries| entries.next().is_some()) {
        let message = format!("{} is not empty", to.display());
        return Err(Refusal::new(Code::AlreadyExists, message).into());
    }
    copy(&directory, &store, &to)?;
    // The copy is whole: only it works from now on.
    store.save_moved(&to.display().to_string(), ThisMachine.now())?;
    let report = Report {
        from: directory.root().to_owned(),
        to,
    };
    context.output.data(&report, |report| {
        format!(
            "moved to {}; {} is locked and keeps its books",
            report.to.display(),
            report.from.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn copy(directory: &Directory, store: &Store, to: &Path) -> anyhow::Result<()> {
    let write = |file: &Path| {
        let file = file.to_owned();
        move |source| Error::Write { file, source }
    };
    files::create_private_dir(to).map_err(write(to))?;
    let target = Directory::new(Some(to.to_owned()))?;
    for name in FILES {
        copy_file(&directory.root().join(name), &to.join(name))?;
    }
    for folder in [directory.identity(), directory.audits()] {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        copy_folder(entries, directory.root(), to)?;
    }
    // An update that is paid for and has not left yet goes with it.
    if let Ok(entries) = fs::read_dir(directory.blobs()) {
        copy_folder(entries, directory.root(), to)?;
    }
    store.copy_to(&target.database())?;
    // What was begun goes on there, and only there.
    if let Some(place) = target.place() {
        Store::open(&target.database())?.save_place(&place)?;
    }
    Ok(())
}

fn copy_folder(entries: fs::ReadDir, root: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in entries {
        let path = entry.context("read a folder")?.path();
        if path.is_dir() {
            let inner = fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
            copy_folder(inner, root, to)?;
            continue;
        }
        let inside = path.strip_prefix(root).context("a path in the directory")?;
        copy_file(&path, &to.join(inside))?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(from).map_err(|source| Error::Read {
        file: from.to_owned(),
        source,
    })?;
    if let Some(folder) = to.parent() {
        files::create_private_dir(folder).map_err(|source| Error::Write {
            file: folder.to_owned(),
            source,
        })?;
    }
    files::write_secret(to, &bytes).map_err(|source| Error::Write {
        file: to.to_owned(),
        source,
    })?;
    Ok(())
}
