//! Hugging Face directories, as models are published: whatever they keep their parts in, read as one
//! config.json, one tokenizer.json and one file of weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;

use super::{encoders, peft, vocabulary};

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
    #[error(
        "{} is an adapter for the model `{base}`, which is no directory here: copy or link that model to {}",
        directory.display(), directory.join(BASE).display()
    )]
    NoBase { directory: PathBuf, base: String },
    #[error("{} is no directory: expected one with config.json and the weights", directory.display())]
    NoDirectory { directory: PathBuf },
    #[error(
        "{} is a pointer of Git LFS and not the file itself: fetch that with `git lfs pull`", file.display()
    )]
    Pointer { file: PathBuf },
    #[error(
        "{} has its weights in {file} and no model.safetensors: load it once with transformers ({how}) and save \
         it with `save_pretrained(DIR)`", directory.display()
    )]
    OtherWeights {
        directory: PathBuf,
        file: &'static str,
        how: &'static str,
    },
    #[error("{}: {reason}", file.display())]
    Content { file: PathBuf, reason: String },
}

type Result<T> = std::result::Result<T, DirectoryError>;

impl Directory {
    /// Reads a model, or an adapter of PEFT merged into its model.
    pub fn read(directory: &Path) -> Result<Self> {
        let places = Places::of(directory)?;
        let in_config = |reason| content(directory.join("config.json"), reason);
        let of_base = text(&places.base, "config.json")?;
        let given = weights(&places.base)?;
        let (mut config_json, mut weights) = encoders::as_bert(of_base.clone(), given)
            .map_err(|reason| content(places.base.clone(), reason))?;
        if let Some(adapter) = &places.adapter {
            let file = directory.join(ADAPTER_WEIGHTS);
            let added = read(directory, ADAPTER_WEIGHTS)?;
            weights = adapter
                .applied(&of_base, &weights, &added)
                .map_err(|reason| content(file, reason))?;
            if places.config != places.base {
                let own = text(&places.config, "config.json")?;
                config_json = encoders::config_as_bert(own).map_err(in_config)?;
            }
        }
        Ok(Self {
            config_json,
            tokenizer_json: tokenizer_in(&places.tokenizer)?,
            weights,
        })
    }
}

/// What PEFT calls its files.
const ADAPTER: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// A folder in an adapter's for the model that it belongs to.
const BASE: &str = "base";

/// The directories of a model's parts.
struct Places {
    config: PathBuf,
    tokenizer: PathBuf,
    base: PathBuf,
    adapter: Option<peft::Config>,
}

impl Places {
    fn of(directory: &Path) -> Result<Self> {
        let has = |file: &&str| directory.join(file).is_file();
        if !has(&ADAPTER) || WEIGHTS.iter().any(has) {
            return Ok(Self {
                config: directory.to_owned(),
                tokenizer: directory.to_owned(),
                base: directory.to_owned(),
                adapter: None,
            });
        }
        let adapter = peft::Config::parse(&read(directory, ADAPTER)?)
            .map_err(|reason| content(directory.join(ADAPTER), reason))?;
        let base = adapter.base_model_name_or_path.clone().unwrap_or_default();
        let candidates = [
            directory.join(BASE),
            PathBuf::from(&base),
            directory.join(&base),
        ];
        let is_model =
            |place: &&PathBuf| place.join("config.json").is_file() && *place != directory;
        let Some(found) = candidates.iter().find(is_model) else {
            let directory = directory.to_owned();
            return Err(DirectoryError::NoBase { directory, base });
        };
        let own = |files: &[&str]| {
            let place = if files.iter().any(has) {
                directory
            } else {
                found
            };
            place.to_owned()
        };
        Ok(Self {
            config: own(&["config.json"]),
            tokenizer: own(&["tokenizer.json", "vocab.txt"]),
            base: found.clone(),
            adapter: Some(adapter),
        })
    }
}

/// `config.json` as BERT has it.
pub fn config(directory: &Path) -> Result<String> {
    let config = text(&Places::of(directory)?.config, "config.json")?;
    encoders::config_as_bert(config).map_err(|reason| content(directory.to_owned(), reason))
}

/// `tokenizer.json`, or the same made of `vocab.txt`; what `tokenizer_config.json` says of letters
/// holds for both, as it does in transformers.
pub fn tokenizer(directory: &Path) -> Result<Vec<u8>> {
    tokenizer_in(&Places::of(directory)?.tokenizer)
}

fn text(directory: &Path, file: &'static str) -> Result<String> {
    let bytes = read(directory, file)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read(directory: &Path, file: &'static str) -> Result<Vec<u8>> {
    if !directory.is_dir() {
        let directory = directory.to_owned();
        return Err(DirectoryError::NoDirectory { directory });
    }
    let path = directory.join(file);
    if !path.exists() {
        let directory = directory.to_owned();
        return Err(DirectoryError::Missing { directory, file });
    }
    read_file(path)
}

fn read_file(file: PathBuf) -> Result<Vec<u8>> {
    match fs::read(&file) {
        Ok(bytes) if bytes.starts_with(POINTER) => Err(DirectoryError::Pointer { file }),
        Ok(bytes) => Ok(bytes),
        Err(source) => Err(DirectoryError::Read { file, source }),
    }
}

/// What stands in the place of a large file where a repository was cloned without Git LFS.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

fn content(file: PathBuf, reason: impl ToString) -> DirectoryError {
    let reason = reason.to_string();
    DirectoryError::Content { file, reason }
}

fn tokenizer_in(directory: &Path) -> Result<Vec<u8>> {
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
    let other = OTHER_WEIGHTS.into_iter().find(|(file, _)| has(file));
    if let Some((file, how)) = other {
        let directory = directory.to_owned();
        return Err(DirectoryError::OtherWeights {
            directory,
            file,
            how,
        });
    }
    read(directory, "model.safetensors")
}

/// Weights that only other programs read, and what reads them.
const OTHER_WEIGHTS: [(&str, &str); 4] = [
    ("tf_model.h5", "4.57, `from_pretrained(DIR, from_tf=True)`"),
    (
        "flax_model.msgpack",
        "4.57, `from_pretrained(DIR, from_flax=True)`",
    ),
    (
        "bert_model.ckpt.index",
        "`transformers.load_tf_weights_in_bert`",
    ),
    ("model.onnx", "from the model that it was exported from"),
];

const INDEX: &str = "model.safetensors.index.json";

/// Files that hold a whole model's weights, or say where they are.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

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
            files.insert(name, read_file(directory.join(name))?);
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
