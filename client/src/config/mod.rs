//! The directory of an institution and the TOML files in it.

mod directory;
mod hours;
mod invite;
pub(crate) mod policy;
mod resources;
pub(crate) mod settings;
mod settled;
mod tighter;

use std::io;
use std::path::{Path, PathBuf};

use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use serde::de::DeserializeOwned;

pub use directory::{Directory, Lock};
pub use hours::Hours;
pub use invite::Invite;
pub use policy::{ConsentMode, Policy};
pub use resources::Resources;
pub use settings::Settings;
pub use settled::settled;
pub use tighter::Tightened;

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
    #[error("{} is missing: until it is there and whole, nothing is allowed", file.display())]
    Missing { file: PathBuf },
    #[error("{} is empty: until it is whole, nothing is allowed", file.display())]
    Empty { file: PathBuf },
    #[error("{} changes from look to look: until it is whole, nothing is allowed", file.display())]
    Changing { file: PathBuf },
    #[error("{} has hours = \"{hours}\", and the time zone of this machine is not known: {fault}", file.display())]
    Zone {
        file: PathBuf,
        hours: Hours,
        fault: String,
    },
    #[error("{} names the institution {found}: this directory is of {expected}", file.display())]
    Institution {
        file: PathBuf,
        expected: InstitutionId,
        found: InstitutionId,
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
            | Self::Missing { .. }
            | Self::Empty { .. }
            | Self::Changing { .. }
            | Self::Institution { .. }
            | Self::Zone { .. }
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

/// The same of a file that is never empty: what has no key was cut short.
fn read_whole<T: DeserializeOwned>(file: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(file).map_err(|source| {
        let file = file.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            Error::Missing { file }
        } else {
            Error::Read { file, source }
        }
    })?;
    if text
        .parse::<toml::Table>()
        .is_ok_and(|keys| keys.is_empty())
    {
        return Err(Error::Empty {
            file: file.to_owned(),
        });
    }
    parse_toml(file, &text)
}

fn parse_toml<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|source| Error::Syntax {
        file: file.to_owned(),
        source: Box::new(source),
    })
}
