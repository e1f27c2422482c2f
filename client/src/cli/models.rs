//! Hugging Face directories: `config.json`, `tokenizer.json`, `model.safetensors`.

use std::path::Path;

use fedner_model::Tokenizer;
use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::plan::Method;
use fedner_shared::refusal::{Code, Refusal};

use crate::training::{Material, read_file};

/// A model as its directory has it.
#[derive(Debug)]
pub(super) struct HfModel {
    pub(super) config_json: String,
    pub(super) tokenizer_json: Vec<u8>,
    pub(super) checkpoint: Checkpoint,
    pub(super) tokenizer: Tokenizer,
    /// Of the head, `O` first; `None` where config.json lists none.
    pub(super) tags: Option<Vec<String>>,
}

impl HfModel {
    pub(super) fn read(directory: &Path) -> anyhow::Result<Self> {
        let config = read_file(&directory.join("config.json"))?;
        let config_json = String::from_utf8_lossy(&config).into_owned();
        let tokenizer_json = read_file(&directory.join("tokenizer.json"))?;
        let weights = read_file(&directory.join("model.safetensors"))?;
        let tokenizer = Tokenizer::parse(&tokenizer_json).map_err(crate::training::Error::from)?;
        Ok(Self {
            checkpoint: Checkpoint::read(&config_json, &weights)?,
            tags: checkpoint::tags_of_config(&config_json)?,
            tokenizer,
            tokenizer_json,
            config_json,
        })
    }

    /// A model that can tag: with a head, and names for its tags.
    pub(super) fn tagger(directory: &Path) -> anyhow::Result<(Material, Vec<String>)> {
        let model = Self::read(directory)?;
        let name = directory.display();
        let refuse = |message: String| Refusal::new(Code::CheckpointInvalid, message);
        let heads = model
            .checkpoint
            .tags()
            .ok_or_else(|| refuse(format!("{name} has no tagging head: it is a bare encoder")))?;
        let tags = model
            .tags
            .filter(|tags| tags.len() == heads)
            .ok_or_else(|| {
                refuse(format!(
                    "{name}: config.json does not name {heads} tags in id2label"
                ))
            })?;
        let manifest = model
            .checkpoint
            .config
            .manifest(&Method::Head.into(), heads);
        let material = Material {
            checkpoint: model.checkpoint,
            tokenizer: model.tokenizer,
            manifest,
        };
        Ok((material, tags))
    }
}
