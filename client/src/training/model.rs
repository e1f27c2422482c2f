//! A model version, read and checked against the plan.

use std::sync::Arc;

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

/// A model that was loaded for one step, for the next one: a version of the same plan that differs in
/// trained weights alone.
#[derive(Debug)]
pub struct LastModel {
    pub plan: Digest,
    pub version: Version,
    pub model: Arc<LoadedModel>,
}

impl LastModel {
    /// The model of `version`, if no file but that of its trained weights is another one and nobody works
    /// with the last one any more.
    pub fn next(
        self,
        blobs: &Blobs,
        version: &Version,
        (plan, manifest): (Digest, Digest),
    ) -> Result<Option<LoadedModel>, Error> {
        let files = |version: &Version| (version.config, version.tokenizer, version.frozen);
        let same = self.plan == plan
            && version.frozen.is_some()
            && files(&self.version) == files(version)
            && self.model.manifest.digest() == manifest;
        let Some(model) = Arc::into_inner(self.model).filter(|_| same) else {
            return Ok(None);
        };
        let weights = blobs.read(&version.weights)?;
        let checkpoint = model.checkpoint.with_tensors(&model.manifest, &weights)?;
        Ok(checkpoint.map(|checkpoint| LoadedModel {
            checkpoint,
            ..model
        }))
    }
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

#[cfg(test)]
mod tests {
    use fedner_shared::manifest::Manifest;
    use fedner_shared::time::Time;
    use fedner_shared::version::Origin;

    use super::*;

    struct Place {
        _folder: tempfile::TempDir,
        blobs: Blobs,
        plan: Plan,
        manifest: Manifest,
        frozen: Checkpoint,
    }

    const CONFIG: &str = r#"{"model_type":"bert","vocab_size":8,"hidden_size":4,"num_hidden_layers":1,
        "num_attention_heads":2,"intermediate_size":8,"max_position_embeddings":16}"#;
    const TOKENIZER: &str = r###"{"version":"1.0","added_tokens":[],"normalizer":{"type":"BertNormalizer","clean_text":true,
        "handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},
        "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},
        {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],"pair":[],
        "special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}},
        "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"a":4,"b":5,"c":6,"d":7}}}"###;

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let blobs = Blobs::open(folder.path().to_owned()).expect("blobs");
            let text = "name = \"steps\"\nbase = \"base@1\"\nlabels = [\"Disease\"]\nmethod = \"head\"\nrounds = 3\n\
                        [cohort]\ninstitutions = [\"anna\"]\nquorum = 1\n[privacy]\nunit = \"none\"";
            let plan = Plan::parse(text).expect("a plan");
            let config = BertConfig::parse(CONFIG).expect("a config");
            let tags = plan.tags().len();
            let manifest = config.manifest(&plan.trainable(), tags);
            Self {
                _folder: folder,
                blobs,
                plan,
                manifest,
                frozen: Checkpoint::random(config, 1).with_new_head(tags, 1),
            }
        }

        fn put(&self, bytes: &[u8]) -> Digest {
            let write = |file: &mut dyn std::io::Write| file.write_all(bytes);
            self.blobs
                .create::<std::io::Error>(write)
                .expect("a blob")
                .0
        }

        /// A version whose head has other weights than those of other seeds.
        fn version(&self, seed: u64) -> Version {
            let head = self
                .frozen
                .clone()
                .with_new_head(self.plan.tags().len(), seed);
            let (head, _) = head.split(&self.manifest).expect("a head");
            Version {
                name: format!("steps@{seed}").parse().expect("a name"),
                parent: None,
                origin: Origin::Import,
                labels: self.plan.labels.clone(),
                weights: self.put(&head.to_safetensors().expect("a file")),
                frozen: Some(self.put(&self.frozen.to_safetensors().expect("a file"))),
                config: self.put(CONFIG.as_bytes()),
                tokenizer: self.put(TOKENIZER.as_bytes()),
                created: Time::from_millis(0),
            }
        }

        fn load(&self, version: &Version) -> LoadedModel {
            let manifest = self.manifest.digest();
            LoadedModel::of_version(&self.blobs, version, &self.plan, manifest).expect("a model")
        }

        fn last(&self, version: &Version) -> LastModel {
            LastModel {
                plan: self.plan.digest(),
                version: version.clone(),
                model: Arc::new(self.load(version)),
            }
        }

        fn next(&self, last: LastModel, version: &Version) -> Option<LoadedModel> {
            let of = (self.plan.digest(), self.manifest.digest());
            last.next(&self.blobs, version, of).expect("no fault")
        }
    }

    #[test]
    fn the_next_model_is_the_one_that_is_read_anew() {
        let place = Place::new();
        let (first, second) = (place.version(2), place.version(3));
        let next = place.next(place.last(&first), &second).expect("a model");
        assert_eq!(next.checkpoint, place.load(&second).checkpoint);
        assert_ne!(next.checkpoint, place.load(&first).checkpoint);
    }

    #[test]
    fn a_model_that_is_in_use_or_of_other_files_is_read_anew() {
        let place = Place::new();
        let (first, second) = (place.version(2), place.version(3));
        let busy = place.last(&first);
        let user = Arc::clone(&busy.model);
        assert!(place.next(busy, &second).is_none());
        drop(user);
        let config = CONFIG.replace('{', "{ ");
        let other_config = Version {
            config: place.put(config.as_bytes()),
            ..second.clone()
        };
        // It has more than the trained weights.
        let whole = Version {
            weights: place.put(&place.frozen.to_safetensors().expect("a file")),
            ..second.clone()
        };
        for version in [other_config, whole] {
            assert!(place.next(place.last(&first), &version).is_none());
        }
        let of_other_plan = LastModel {
            plan: Digest::of(b"another"),
            ..place.last(&first)
        };
        assert!(place.next(of_other_plan, &second).is_none());
    }
}
