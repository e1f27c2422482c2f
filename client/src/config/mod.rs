//! The directory of an institution and the TOML files in it.

mod directory;
mod hours;
mod invite;
pub(crate) mod policy;
pub(crate) mod settings;

use std::io;
use std::path::{Path, PathBuf};

use fedner_shared::refusal::{Code, Refusal};
use serde::de::DeserializeOwned;

pub use directory::{Directory, Lock};
pub use hours::Hours;
pub use invite::Invite;
pub use policy::{ConsentMode, Policy};
pub use settings::Settings;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} cannot be read: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} cannot be written: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("{} is not as it should be: {}", file.display(), source.to_string().trim_end())]
    Syntax {
        file: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{} has {key} = {found}: expected {expected}", file.display())]
    Value {
        file: PathBuf,
        key: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("{} lacks client.toml: this directory is not enrolled", directory.display())]
    NotEnrolled { directory: PathBuf },
    #[error("another fedner-client already runs in {}", directory.display())]
    Running { directory: PathBuf },
    #[error("this platform has no data directory: give one with --dir")]
    NoDirectory,
}

impl Error {
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            Self::NotEnrolled { .. } => Code::NotEnrolled,
            Self::Running { .. } => Code::StateInvalid,
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Syntax { .. }
            | Self::Value { .. }
            | Self::NoDirectory => Code::ConfigInvalid,
        };
        Refusal::new(code, self.to_string())
    }
}

fn read_toml<T: DeserializeOwned>(file: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(file).map_err(|source| Error::Read {
        file: file.to_owned(),
        source,
    })?;
    parse_toml(file, &text)
}

fn parse_toml<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|source| Error::Syntax {
        file: file.to_owned(),
        source: Box::new(source),
    })
}
