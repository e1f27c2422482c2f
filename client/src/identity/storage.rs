//! The key of what is kept sealed on disk.

use std::path::PathBuf;

use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::seal::StorageKey;

use super::{Error, read_secret, write};
use crate::config::{Directory, Settings};

const STORAGE_KEY: &str = "storage.key";

/// The key in the file that `client.toml` names, such as a credential of systemd, or the one in `identity/`, which is
/// made where there is none.
pub fn storage_key(directory: &Directory, settings: &Settings) -> Result<StorageKey, Error> {
    let file = match &settings.storage_key {
        Some(file) => directory.resolve(file),
        None => own(directory)?,
    };
    let text = read_secret(&file)?;
    let wrong = |error| {
        let message = format!("{}: {error}", file.display());
        Error::Readable(Refusal::new(Code::StateInvalid, message))
    };
    StorageKey::from_text(&text).map_err(wrong)
}

fn own(directory: &Directory) -> Result<PathBuf, Error> {
    let file = directory.identity().join(STORAGE_KEY);
    if !file.exists() {
        let key = StorageKey::generate().map_err(|error| Error::Write {
            file: file.clone(),
            source: std::io::Error::other(error),
        })?;
        write(&file, &key.to_text())?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_made_once_or_lies_where_the_configuration_says_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let directory = Directory::new(Some(folder.path().to_owned())).expect("directory");
        fs::create_dir_all(directory.identity()).expect("made");
        let institution = "anna".parse().expect("name");
        let mut settings = Settings::new(institution, "h:1".parse().expect("an address"));
        let made = storage_key(&directory, &settings).expect("made");
        assert_eq!(storage_key(&directory, &settings).expect("read"), made);
        let other = StorageKey::generate().expect("key");
        let elsewhere = folder.path().join("elsewhere.key");
        write(&elsewhere, &other.to_text()).expect("written");
        settings.storage_key = Some("elsewhere.key".into());
        assert_eq!(storage_key(&directory, &settings).expect("read"), other);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let open = fs::Permissions::from_mode(0o640);
            fs::set_permissions(&elsewhere, open).expect("mode");
            let error = storage_key(&directory, &settings).expect_err("readable");
            let code = error.refusal().map(|refusal| refusal.code);
            assert_eq!(code, Some(Code::SecretReadable));
        }
        write(&elsewhere, "no key").expect("written");
        assert!(storage_key(&directory, &settings).is_err());
    }
}
