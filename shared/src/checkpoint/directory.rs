//! Hugging Face directories, as models are published: whatever they keep their parts in, read as one
//! config.json, one tokenizer.json and one file of weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;

use super::{encoders, vocabulary};

/// The contents of a directory.
#[derive(Debug, Clone)]
pub struct Directory {
    pub config_json: String,
    pub tokenizer_json: Vec<u8>,
    /// A safetensors file.
    pub weights: Vec<u8>,
}

/// What is the matter with a directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("{} cannot be read: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} has no {file}", directory.display())]
    Missing {
        directory: PathBuf,
        file: &'static str,
    },
    #[error(
        "{0} has its weights in pytorch_model.bin, a pickle, and no model.safetensors: convert it once, \
         with `AutoModelForTokenClassification.from_pretrained(DIR).save_pretrained(DIR)` of transformers",
        directory.display()
    )]
    Pickle { directory: PathBuf },
    #[error(
        "{0} has neither tokenizer.json nor vocab.txt: write one with \
         `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of transformers", directory.display()
    )]
    NoTokenizer { directory: PathBuf },
    #[error("{}: {reason}", file.display())]
    Content { file: PathBuf, reason: String },
}

type Result<T> = std::result::Result<T, DirectoryError>;

impl Directory {
    pub fn read(directory: &Path) -> Result<Self> {
        let config = read(directory, "config.json")?;
        let config_json = String::from_utf8_lossy(&config).into_owned();
        let (config_json, weights) = encoders::as_bert(config_json, weights(directory)?)
            .map_err(|reason| content(directory.to_owned(), reason))?;
        Ok(Self {
            config_json,
            tokenizer_json: tokenizer(directory)?,
            weights,
        })
    }
}

fn read(directory: &Path, file: &'static str) -> Result<Vec<u8>> {
    let path = directory.join(file);
    fs::read(&path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            let directory = directory.to_owned();
            return DirectoryError::Missing { directory, file };
        }
        DirectoryError::Read { file: path, source }
    })
}

fn content(file: PathBuf, reason: impl ToString) -> DirectoryError {
    let reason = reason.to_string();
    DirectoryError::Content { file, reason }
}

/// `tokenizer.json`, or the same made of `vocab.txt`; what `tokenizer_config.json` says of letters
/// holds for both, as it does in transformers.
pub fn tokenizer(directory: &Path) -> Result<Vec<u8>> {
    let has = |file: &str| directory.join(file).is_file();
    let settings = if has("tokenizer_config.json") {
        let bytes = read(directory, "tokenizer_config.json")?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map_err(|error| content(directory.join("tokenizer_config.json"), error))?
    } else {
        vocabulary::Settings::default()
    };
    if has("tokenizer.json") {
        let json = read(directory, "tokenizer.json")?;
        return Ok(settings.applied(json));
    }
    if has("vocab.txt") {
        let vocabulary = read(directory, "vocab.txt")?;
        let text = String::from_utf8(vocabulary)
            .map_err(|error| content(directory.join("vocab.txt"), error))?;
        return Ok(settings.tokenizer_of(&text));
    }
    let directory = directory.to_owned();
    Err(DirectoryError::NoTokenizer { directory })
}

/// `model.safetensors`, or the same put together of the files that an index names.
pub fn weights(directory: &Path) -> Result<Vec<u8>> {
    let has = |file: &str| directory.join(file).is_file();
    if has("model.safetensors") {
        return read(directory, "model.safetensors");
    }
    if has(INDEX) {
        return sharded(directory);
    }
    if has("pytorch_model.bin") || has("pytorch_model.bin.index.json") {
        let directory = directory.to_owned();
        return Err(DirectoryError::Pickle { directory });
    }
    read(directory, "model.safetensors")
}

const INDEX: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn sharded(directory: &Path) -> Result<Vec<u8>> {
    let index: Index = serde_json::from_slice(&read(directory, INDEX)?)
        .map_err(|error| content(directory.join(INDEX), error))?;
    let mut files: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for name in index.weight_map.values() {
        let plain = Path::new(name).components().count() == 1 && !name.starts_with('.');
        if !plain {
            let reason = format!("`{name}` is no file of the directory");
            return Err(content(directory.join(INDEX), reason));
        }
        if !files.contains_key(name.as_str()) {
            let file = directory.join(name);
            let bytes = fs::read(&file).map_err(|source| DirectoryError::Read { file, source })?;
            files.insert(name, bytes);
        }
    }
    let mut parts = BTreeMap::new();
    for (name, bytes) in &files {
        let part = SafeTensors::deserialize(bytes);
        parts.insert(
            *name,
            part.map_err(|error| content(directory.join(name), error))?,
        );
    }
    let tensor = |(tensor, file): (&String, &String)| {
        let part = parts.get(file.as_str());
        let view = part.map(|part| part.tensor(tensor));
        if let Some(Ok(view)) = view {
            Ok((tensor.clone(), view))
        } else {
            let reason = format!("it lacks the tensor `{tensor}`, which the index has there");
            Err(content(directory.join(file), reason))
        }
    };
    let tensors = index.weight_map.iter().map(tensor);
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    safetensors::serialize(tensors, None).map_err(|error| content(directory.join(INDEX), error))
}

/// Whether `architectures` names a model of another task: a sentence classifier, say.
pub fn other_task(config_json: &str) -> Option<String> {
    let config: Value = serde_json::from_str(config_json).ok()?;
    let named: Vec<&str> = config
        .get("architectures")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let other = |name: &&&str| {
        let tasks = [
            "SequenceClassification",
            "QuestionAnswering",
            "MultipleChoice",
            "NextSentence",
        ];
        tasks
            .iter()
            .any(|task| name.ends_with(&format!("For{task}")))
    };
    named.iter().find(other).map(|name| (*name).to_owned())
}
