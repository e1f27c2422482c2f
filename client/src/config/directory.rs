//! Where everything of one institution lies.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use fedner_host::files::{keep_owner, tighten};
use fedner_model::corpus::{Annotated, Reader};

use super::{Error, Policy, Settings, read_toml, read_whole};
use crate::state::Heads;

/// What in the directory is for its owner alone. Folders of text may lie in it too; whoever put them there
/// decides about them, and nobody but the owner gets into the directory.
const OURS: [&str; 11] = [
    "client.toml",
    "policy.toml",
    "identity",
    "state.sqlite",
    "state.sqlite-wal",
    "state.sqlite-shm",
    "blobs",
    "training.checkpoint",
    "features",
    "audits",
    "lock",
];

/// The directory of one institution.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

/// Held by the running daemon; given back when dropped, also by a crash.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

#[cfg(unix)]
fn file_number(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// There the time of its making must do.
#[cfg(not(unix))]
fn file_number(_: &Metadata) -> u64 {
    0
}

impl Directory {
    /// `root`, or the platform's data directory.
    pub fn new(root: Option<PathBuf>) -> Result<Self, Error> {
        if let Some(root) = root {
            return Ok(Self { root });
        }
        let platform =
            directories::ProjectDirs::from("", "", "fedner-client").ok_or(Error::NoDirectory)?;
        Ok(Self {
            root: platform.data_dir().to_owned(),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn settings_file(&self) -> PathBuf {
        self.root.join("client.toml")
    }

    pub fn policy_file(&self) -> PathBuf {
        self.root.join("policy.toml")
    }

    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("state.sqlite")
    }

    /// Which file the database is. A copy of the directory has another one, wherever it lies; the image of a
    /// whole machine has the same.
    pub fn place(&self) -> Option<String> {
        let metadata = self.database().metadata().ok()?;
        let born = metadata.created().ok()?;
        let born = born.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(format!("{}:{born}", file_number(&metadata)))
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Of the training under way; made of private text.
    pub fn training_checkpoint(&self) -> PathBuf {
        self.root.join("training.checkpoint")
    }

    /// What a frozen encoder makes of the corpus; made of private text.
    pub fn features(&self) -> PathBuf {
        self.root.join("features")
    }

    /// Signed reports of audits, a folder for each model.
    pub fn audits(&self) -> PathBuf {
        self.root.join("audits")
    }

    /// A path of `client.toml`; relative ones are taken from this directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// The second place of the ledger's heads.
    pub fn heads(&self, settings: &Settings) -> Option<Heads> {
        let file = settings.ledger_heads.as_ref()?;
        Some(Heads::new(self.resolve(file)))
    }

    /// What the files of `settings` are declared to annotate, by where they lie.
    pub fn annotated(&self, settings: &Settings) -> Annotated {
        let of_file = settings.annotated_types_of.iter();
        let of_file = of_file.map(|(file, types)| (self.resolve(file), types.clone().into()));
        Annotated {
            types: settings.annotated_types.clone().map(Arc::from),
            of_file: of_file.collect(),
        }
    }

    /// By which the corpora of `settings` are read.
    pub fn reader(&self, settings: &Settings) -> Reader {
        Reader::new(settings.reading.clone()).with_annotated(self.annotated(settings))
    }

    pub fn settings(&self) -> Result<Settings, Error> {
        let file = self.settings_file();
        if !file.exists() {
            return Err(Error::NotEnrolled {
                directory: self.root.clone(),
            });
        }
        let settings: Settings = read_toml(&file)?;
        settings.check(&file)?;
        Ok(settings)
    }

    /// What `policy.toml` says; [`rules`](crate::rules) says what of it is in force.
    pub fn policy(&self) -> Result<Policy, Error> {
        let file = self.policy_file();
        let policy: Policy = read_whole(&file)?;
        policy.check(&file)?;
        Ok(policy)
    }

    /// Closes to others on the machine what an older version left open; what that was.
    pub fn close_to_others(&self) -> Result<Vec<PathBuf>, Error> {
        tighten(&self.root, &OURS).map_err(|source| Error::Write {
            file: self.root.clone(),
            source,
        })
    }

    /// Gives what a command made here to whom the directory belongs.
    pub fn keep_owner(&self) {
        keep_owner(&self.root, &OURS);
    }

    /// Keeps a second daemon from running here.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.root.join("lock");
        let fault = |source| Error::Write {
            file: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fault)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Running {
                directory: self.root.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(fault(source)),
        }
    }

    /// Whether a daemon runs here.
    pub fn is_running(&self) -> bool {
        self.root.join("lock").exists() && matches!(self.lock(), Err(Error::Running { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_kept_out_until_the_first_ends() {
        let place = tempfile::tempdir().expect("directory");
        let directory = Directory::new(Some(place.path().to_owned())).expect("directory");
        assert!(!directory.is_running());
        let lock = directory.lock().expect("first");
        assert!(matches!(directory.lock(), Err(Error::Running { .. })));
        assert!(directory.is_running());
        drop(lock);
        assert!(!directory.is_running());
    }

    #[test]
    fn a_directory_without_files_is_not_enrolled_and_allows_nothing() {
        let place = tempfile::tempdir().expect("directory");
        let directory = Directory::new(Some(place.path().to_owned())).expect("directory");
        assert!(matches!(
            directory.settings(),
            Err(Error::NotEnrolled { .. })
        ));
        assert!(matches!(directory.policy(), Err(Error::Missing { .. })));
        for cut in ["", "\n", "# What this institution allows.\n"] {
            std::fs::write(directory.policy_file(), cut).expect("written");
            assert!(matches!(directory.policy(), Err(Error::Empty { .. })));
        }
        std::fs::write(directory.policy_file(), "hold = tr").expect("written");
        assert!(matches!(directory.policy(), Err(Error::Syntax { .. })));
        std::fs::write(directory.policy_file(), "hold = true").expect("written");
        assert!(directory.policy().expect("whole").hold);
    }
}
