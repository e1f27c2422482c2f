//! The model that tags plain text, and how it does.

use std::path::PathBuf;

use clap::Args;
use fedner_model::{Model, Tagger};

use super::super::models::HfModel;
use crate::training::{Error, LoadedModel};

#[derive(Debug, Args)]
pub(in crate::cli) struct TaggingArguments {
    /// Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Longer sentences are read in overlapping windows of this many sub-tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
    /// Windows at a time
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

/// A model ready to tag.
pub(in crate::cli) struct Tagging {
    pub(in crate::cli) material: LoadedModel,
    tags: Vec<String>,
    model: Model,
    pub(in crate::cli) max_tokens: usize,
    batch: usize,
}

impl TaggingArguments {
    pub(in crate::cli) fn open(&self) -> anyhow::Result<Tagging> {
        let (material, tags, _) = HfModel::tagger(&self.model)?;
        let device = self.device.parse();
        let device = device.map_err(|error| Error::Model(fedner_model::Error::Device(error)))?;
        Ok(Tagging {
            model: Model::load(&material.checkpoint, device).map_err(Error::Model)?,
            material,
            tags,
            max_tokens: self.max_tokens,
            batch: self.batch_size,
        })
    }
}

impl Tagging {
    pub(in crate::cli) fn tagger(&self) -> Tagger<'_> {
        Tagger {
            model: &self.model,
            tokenizer: &self.material.tokenizer,
            tags: &self.tags,
            max_tokens: self.max_tokens,
            batch: self.batch,
        }
    }
}
