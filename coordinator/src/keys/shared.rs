//! The keys that all processes of a federation have: as files in each directory, and sealed in their common store.
//!
//! The store has the newest ones before they take effect, so that whoever leads next has them too. What opens them is
//! a key of its own in each directory, which goes to another machine once, by hand. The store never has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use fedner_host::files::check_secret;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::seal::StorageKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{Error, file, read, read_secret, write};
use crate::config::Paths;
use crate::store::Keyring;

/// Files of one directory alone.
const OWN: [&str; 2] = ["store.key", "generation"];

/// The way to them.
#[derive(Debug)]
pub struct SharedKeys {
    paths: Paths,
    key: StorageKey,
}

/// What is sealed. The generation is inside too: an old one does not pass for a new one.
#[derive(Serialize, Deserialize)]
struct Contents {
    generation: i64,
    files: Files,
}

/// The files of the folder `authority`, by name. They are wiped from memory.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
struct Files(BTreeMap<String, String>);

impl Drop for Files {
    fn drop(&mut self) {
        self.0.values_mut().for_each(Zeroize::zeroize);
    }
}

impl SharedKeys {
    /// The key that opens them, which is made where there is none.
    pub fn open(paths: &Paths) -> Result<Self, Error> {
        let path = paths.store_key();
        if !path.exists() {
            let key = StorageKey::generate().map_err(|error| invalid(error.to_string()))?;
            write(&path, &key.to_text())?;
        }
        check_secret(&path)?;
        let key = StorageKey::from_text(&read_secret(&path)?);
        Ok(Self {
            paths: paths.clone(),
            key: key.map_err(|error| invalid(format!("{}: {error}", path.display())))?,
        })
    }

    /// The generation that the directory has.
    pub fn generation(&self) -> Result<i64, Error> {
        let path = self.paths.key_generation();
        if !path.exists() {
            return Ok(0);
        }
        let text = read(&path)?;
        text.trim()
            .parse()
            .map_err(|_| invalid(format!("{} is not a number", path.display())))
    }

    /// The files of the directory, sealed as the next generation. They are of that generation once they are stored.
    pub fn seal(&self) -> Result<Keyring, Error> {
        let generation = self.generation()? + 1;
        let files = self.files()?;
        let contents = Contents { generation, files };
        let text = serde_json::to_vec(&contents).map(Zeroizing::new);
        let text = text.map_err(|error| invalid(error.to_string()))?;
        let sealed = self.key.seal(&text);
        Ok(Keyring {
            generation,
            sealed: sealed.map_err(|error| invalid(error.to_string()))?,
        })
    }

    /// The directory has what was stored.
    pub fn stored(&self, generation: i64) -> Result<(), Error> {
        write(&self.paths.key_generation(), &generation.to_string())
    }

    /// Writes what the store has into the directory, unless it is there. Says whether something changed.
    pub fn adopt(&self, keyring: &Keyring) -> Result<bool, Error> {
        let opened = self.key.open(&keyring.sealed).map(Zeroizing::new);
        let opened = opened.map_err(|_| {
            let message = format!(
                "the store's keys are not of {}: make this directory anew with `fedner-coordinator join`",
                self.paths.store_key().display()
            );
            Refusal::new(Code::StateInvalid, message)
        })?;
        let contents: Contents =
            serde_json::from_slice(&opened).map_err(|error| invalid(error.to_string()))?;
        let here = self.generation()?;
        if contents.generation != keyring.generation || contents.generation < here {
            let message = format!(
                "the store has keys of generation {}: the directory has seen {here}",
                contents.generation
            );
            return Err(invalid(message));
        }
        let present = self.files()?;
        if present == contents.files && contents.generation == here {
            return Ok(false);
        }
        let gone = |name: &&String| !contents.files.0.contains_key(*name);
        for name in present.0.keys().filter(gone) {
            let path = self.folder().join(name);
            fs::remove_file(&path).map_err(|source| file(&path, source))?;
        }
        for (name, text) in &contents.files.0 {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
            if name.starts_with('.') || !name.chars().all(plain) || OWN.contains(&name.as_str()) {
                return Err(invalid(format!("`{name}` is not the name of a key")));
            }
            if present.0.get(name) != Some(text) {
                write(&self.folder().join(name), text)?;
            }
        }
        // Last: what was cut short is done again.
        self.stored(contents.generation)?;
        Ok(true)
    }

    fn folder(&self) -> PathBuf {
        self.paths.directory().join("authority")
    }

    /// The files of the folder that are not this directory's alone, nor half written.
    fn files(&self) -> Result<Files, Error> {
        let folder = self.folder();
        let failed = |source| file(&folder, source);
        let mut files = Files::default();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = path.is_file() && !OWN.contains(&name.as_ref()) && !name.ends_with(".new");
            if ours {
                files.0.insert(name.into_owned(), read(&path)?);
            }
        }
        Ok(files)
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Refusal::new(Code::StateInvalid, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(folder: &tempfile::TempDir, name: &str) -> Paths {
        let paths = Paths::new(folder.path().join(name));
        fs::create_dir_all(paths.directory().join("authority")).expect("folder");
        paths
    }

    #[test]
    fn keys_reach_another_directory_sealed_and_none_that_is_older() {
        let folder = tempfile::tempdir().expect("folder");
        let [first, second] = ["a", "b"].map(|name| directory(&folder, name));
        write(&first.authority_key(), "secret words").expect("written");
        let from = SharedKeys::open(&first).expect("opened");
        fs::copy(first.store_key(), second.store_key()).expect("copied");
        let to = SharedKeys::open(&second).expect("opened");
        let older = from.seal().expect("sealed");
        from.stored(older.generation).expect("stored");
        let visible = |text: &[u8]| {
            older
                .sealed
                .windows(text.len())
                .any(|window| window == text)
        };
        assert!(!visible(b"secret words") && !visible(b"authority.key"));
        assert!(to.adopt(&older).expect("adopted"), "something changed");
        assert!(!to.adopt(&older).expect("adopted"), "nothing did");
        let text = read(&second.authority_key()).expect("there");
        assert_eq!(text, "secret words");
        check_secret(&second.authority_key()).expect("for its owner alone");

        // One goes, another comes, and what another directory has of its own stays.
        fs::remove_file(first.authority_key()).expect("removed");
        write(&first.history_key(), "other words").expect("written");
        let newer = from.seal().expect("sealed");
        assert_eq!(newer.generation, older.generation + 1);
        assert!(to.adopt(&newer).expect("adopted"));
        assert!(!second.authority_key().exists() && second.store_key().exists());
        assert!(to.adopt(&older).is_err(), "an older one was put back");
        let posing = Keyring {
            generation: newer.generation + 1,
            ..older
        };
        assert!(to.adopt(&posing).is_err(), "an older one poses as newer");

        // Without the key of the first one nothing is read.
        let stranger = SharedKeys::open(&directory(&folder, "c")).expect("opened");
        assert!(stranger.adopt(&newer).is_err());
    }
}
