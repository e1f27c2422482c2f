//! The state of a training between two steps, and its file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use fedner_shared::digest::Digest;
use fedner_shared::seal::StorageKey;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::kept_files;
use crate::Error;

/// Everything that decides the steps to come, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) tensors: BTreeMap<String, Vec<f32>>,
    /// Counters, and the bits of single numbers.
    pub(super) numbers: BTreeMap<String, u64>,
}

/// What the file says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// Of which training it is.
    training: Digest,
    numbers: BTreeMap<String, u64>,
}

const HEADER: &str = "fedner";

impl State {
    pub(super) fn put(&mut self, name: impl Into<String>, values: &[f32]) {
        self.tensors.insert(name.into(), values.to_vec());
    }

    pub(super) fn put_number(&mut self, name: impl Into<String>, number: u64) {
        self.numbers.insert(name.into(), number);
    }

    /// Takes the values back into a tensor of the same length.
    pub(super) fn restore(&self, name: &str, into: &mut [f32]) -> Result<(), Error> {
        match self.tensors.get(name) {
            Some(values) if values.len() == into.len() => {
                into.copy_from_slice(values);
                Ok(())
            }
            Some(_) | None => Err(lacks(name)),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<u64, Error> {
        self.numbers.get(name).copied().ok_or_else(|| lacks(name))
    }

    /// Writes the state of the training that `training` names.
    pub(super) fn write(
        &self,
        path: &Path,
        training: Digest,
        key: Option<&StorageKey>,
    ) -> Result<(), Error> {
        let header = Header {
            training,
            numbers: self.numbers.clone(),
        };
        let tensors: Vec<(&str, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, values)| {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (name.as_str(), bytes)
            })
            .collect();
        kept_files::write_whole(path, |writer| {
            let json = serde_json::to_string(&header)?;
            let views = tensors.iter().map(|(name, bytes)| {
                let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
                view.map(|view| (*name, view))
            });
            let views: Vec<_> = views.collect::<Result<_, _>>().map_err(io::Error::other)?;
            let metadata = [(HEADER.to_owned(), json)].into();
            let bytes = safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)?;
            let Some(key) = key else {
                return writer.write_all(&bytes);
            };
            writer.write_all(&key.seal(&bytes).map_err(io::Error::other)?)
        })
    }

    /// The state of the training that `training` names; `None` without a file.
    pub(super) fn read(
        path: &Path,
        training: Digest,
        key: Option<&StorageKey>,
    ) -> Result<Option<Self>, Error> {
        let mut bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Keep {
                    file: path.to_owned(),
                    source,
                });
            }
        };
        let other = || Error::OtherTraining {
            file: path.to_owned(),
        };
        if let Some(key) = key {
            bytes = key.open(&bytes).map_err(|_| other())?;
        }
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|_| other())?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(HEADER));
        let header = header.ok_or_else(other)?;
        let header: Header = serde_json::from_str(header).map_err(|_| other())?;
        if header.training != training {
            return Err(other());
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|_| other())?;
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let values = view.data().chunks_exact(4);
            let values = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            (name, values.collect())
        });
        Ok(Some(Self {
            tensors: tensors.collect(),
            numbers: header.numbers,
        }))
    }
}

fn lacks(name: &str) -> Error {
    Error::Tensor(format!("the checkpoint of the training lacks `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_file_and_belongs_to_one_training() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("training.checkpoint");
        let (own, other) = (Digest::of(b"own"), Digest::of(b"other"));
        assert_eq!(State::read(&path, own, None).expect("no file"), None);
        let mut state = State::default();
        state.put("a", &[1.0, f32::MIN_POSITIVE / 4.0, -0.0]);
        state.put("b", &[]);
        state.put_number("step", u64::MAX);
        state.write(&path, own, None).expect("written");
        let read = State::read(&path, own, None)
            .expect("read")
            .expect("a state");
        assert_eq!(read, state);
        assert!(read.restore("a", &mut [0.0; 2]).is_err());
        assert!(read.number("epoch").is_err());
        let error = State::read(&path, other, None).expect_err("another training");
        assert!(matches!(error, Error::OtherTraining { .. }), "{error}");
        fs::write(&path, b"cut off").expect("damage");
        let error = State::read(&path, own, None).expect_err("damaged");
        assert!(matches!(error, Error::OtherTraining { .. }), "{error}");
        let left: Vec<_> = fs::read_dir(directory.path()).expect("directory").collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_sealed_state_shows_nothing_and_opens_with_its_key_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("training.checkpoint");
        let (own, key) = (Digest::of(b"own"), StorageKey::from_bytes([1; 32]));
        let mut state = State::default();
        state.put("weights", &[1.5; 64]);
        state.write(&path, own, Some(&key)).expect("written");
        let read = State::read(&path, own, Some(&key)).expect("read");
        assert_eq!(read, Some(state.clone()));
        let bytes = fs::read(&path).expect("file");
        let shows = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!shows(b"weights") && !shows(&1.5f32.to_le_bytes().repeat(2)));
        for key in [None, Some(&StorageKey::from_bytes([2; 32]))] {
            let error = State::read(&path, own, key).expect_err("another key");
            assert!(matches!(error, Error::OtherTraining { .. }), "{error}");
        }
        // The control: without a key it is there to read.
        state.write(&path, own, None).expect("written");
        let bytes = fs::read(&path).expect("file");
        assert!(bytes.windows(7).any(|window| window == b"weights"));
    }
}
