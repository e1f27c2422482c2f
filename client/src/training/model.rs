//! A model version, read and checked against the plan.

use fedner_model::Tokenizer;
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Inputs, Plan};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::version::Version;

use super::error::Error;
use crate::blobs::Blobs;

/// A model version ready to work with.
#[derive(Debug)]
pub struct LoadedModel {
    pub checkpoint: Checkpoint,
    pub tokenizer: Tokenizer,
    pub manifest: Manifest,
    /// What the run began with, where a training asks it what words are.
    pub parent: Option<Checkpoint>,
}

impl LoadedModel {
    /// Reads the files of `version` and checks that they are what the plan means.
    pub fn of_version(
        blobs: &Blobs,
        version: &Version,
        plan: &Plan,
        manifest: Digest,
    ) -> Result<Self, Error> {
        let config_json = String::from_utf8_lossy(&blobs.read(&version.config)?).into_owned();
        let tags = plan.tags();
        check_tags(checkpoint::tags_of_config(&config_json)?, &tags)?;
        let config = BertConfig::parse(&config_json).map_err(checkpoint::Error::from)?;
        let bytes = plan.inputs.as_ref().map(Inputs::weight_bytes);
        if bytes.is_some_and(|bytes| config.least_bytes() > u128::from(bytes)) {
            let message = format!(
                "{} has a config.json of more weights than it has",
                version.name
            );
            return Err(Refusal::new(Code::BaseMismatch, message).into());
        }
        let trainable = plan.trainable();
        if !plan.only_evaluates() && config.prepared_for(&trainable) != config {
            let message = format!(
                "{} has the adapters {:?} and a head {}: the plan has others",
                version.name, config.adapters, config.head
            );
            return Err(Refusal::new(Code::UpdateShape, message).into());
        }
        let expected = config.manifest(&trainable, tags.len());
        if expected.digest() != manifest {
            let message = format!(
                "the manifest of {} is {}: the assignment has {manifest}",
                version.name,
                expected.digest()
            );
            return Err(Refusal::new(Code::UpdateShape, message).into());
        }
        let frozen = version
            .frozen
            .map(|frozen| blobs.read(&frozen))
            .transpose()?;
        let weights = blobs.read(&version.weights)?;
        let tokenizer = Tokenizer::parse(&blobs.read(&version.tokenizer)?)?;
        tokenizer.check_vocabulary(config.vocab_size)?;
        let checkpoint = Checkpoint::read_parts(&config_json, &weights, frozen.as_deref())?;
        Ok(Self {
            checkpoint,
            tokenizer,
            manifest: expected,
            parent: None,
        })
    }

    /// The same with what the run began with, if the plan trains towards what that says.
    pub fn with_parent(self, blobs: &Blobs, version: &Version, plan: &Plan) -> Result<Self, Error> {
        let Some(weights) = plan.weights_of_parent() else {
            return Ok(self);
        };
        let config_json = String::from_utf8_lossy(&blobs.read(&version.config)?).into_owned();
        let frozen = version.frozen.map(|frozen| blobs.read(&frozen));
        let (weights, frozen) = (blobs.read(&weights.digest)?, frozen.transpose()?);
        let parent = Checkpoint::read_parts(&config_json, &weights, frozen.as_deref())?;
        Ok(Self {
            parent: Some(parent),
            ..self
        })
    }
}

fn check_tags(found: Option<Vec<String>>, expected: &[String]) -> Result<(), Refusal> {
    match found {
        Some(found) if found != expected => {
            let message = format!("the model has the tags {found:?}: expected {expected:?}");
            Err(Refusal::new(Code::LabelsMismatch, message))
        }
        Some(_) | None => Ok(()),
    }
}
