//! Hugging Face directories, as models are published.

use std::path::Path;

use fedner_model::Tokenizer;
use fedner_shared::checkpoint::{self, Checkpoint, Directory, LayersError, config_with_layers};
use fedner_shared::plan::Method;
use fedner_shared::refusal::{Code, Refusal};

use fedner_shared::scheme::HeadTags;

use crate::training::LoadedModel;

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
        let Directory {
            config_json,
            tokenizer_json,
            weights,
        } = Directory::read(directory).map_err(checkpoint::Error::from)?;
        let tokenizer = Tokenizer::parse(&tokenizer_json).map_err(crate::training::Error::from)?;
        Ok(Self {
            checkpoint: Checkpoint::read(&config_json, &weights)?,
            tags: checkpoint::tags_of_config(&config_json)?,
            tokenizer,
            tokenizer_json,
            config_json,
        })
    }

    /// Leaves these layers of it, counted from 0; the whole model.
    pub(super) fn keep_layers(&mut self, layers: &[usize]) -> anyhow::Result<Checkpoint> {
        let whole = self.checkpoint.clone();
        let kept = whole.clone().with_layers(layers);
        let refuse = |error: LayersError| Refusal::new(Code::RequestInvalid, error.to_string());
        self.checkpoint = kept.map_err(refuse)?;
        self.config_json = config_with_layers(&self.config_json, layers.len())?;
        Ok(whole)
    }

    /// A model that can tag: with a head, and names for its tags.
    pub(super) fn tagger(directory: &Path) -> anyhow::Result<(LoadedModel, Vec<String>, HeadTags)> {
        let model = Self::read(directory)?;
        let (tags, head) = model.named_tags(directory)?;
        let manifest = model
            .checkpoint
            .config
            .manifest(&Method::Head.into(), tags.len());
        let material = LoadedModel {
            checkpoint: model.checkpoint,
            tokenizer: model.tokenizer,
            manifest,
            parent: None,
        };
        Ok((material, tags, head))
    }

    /// The tags of a model that can tag, which was read from the directory.
    pub(super) fn named_tags(&self, directory: &Path) -> anyhow::Result<(Vec<String>, HeadTags)> {
        let name = directory.display();
        let refuse = |message: String| Refusal::new(Code::CheckpointInvalid, message);
        if let Some(other) = checkpoint::directory::other_task(&self.config_json) {
            let message = format!("{name} is a {other}, no tagger of words: see `architectures`");
            return Err(refuse(message).into());
        }
        let heads = self
            .checkpoint
            .tags()
            .ok_or_else(|| refuse(format!("{name} has no tagging head: it is a bare encoder")))?;
        let tags = self
            .tags
            .clone()
            .filter(|tags| tags.len() == heads)
            .ok_or_else(|| {
                refuse(format!(
                    "{name}: config.json does not name {heads} tags in id2label"
                ))
            })?;
        let head = HeadTags::read(&tags).map_err(|error| refuse(format!("{name}: {error}")))?;
        self.tokenizer
            .check_vocabulary(self.checkpoint.config.vocab_size)
            .map_err(crate::training::Error::from)?;
        Ok((tags, head))
    }
}
