//! Model versions: imported, given a head, published from a round, computed again.

mod audits;
mod coordinates;
mod files;
mod publish;

use std::sync::Arc;

use fedner_host::machine::blocking;
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{self, Checkpoint, HeadStart, Layout};
use fedner_shared::digest::Digest;
use fedner_shared::id::PlanName;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::ranges::LARGEST_NOISE_TO_SIGNAL;
use fedner_shared::plan::{self, Pinned, Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::scheme::{HeadTags, Scheme};
use fedner_shared::sign::Signed;
use fedner_shared::tokenizer;
use fedner_shared::version::Origin;
use fedner_shared::view::VersionView;
use tokio::sync::Mutex;

use crate::blobs::Blobs;
use crate::engine::models::Imported;
use crate::engine::runs::{NewRun, PreparedBase};
use crate::engine::{Failure, Fault, Handle};

pub use coordinates::Coordinates;
pub use publish::Summation;

/// Plans that are proposed at about the same time.
const PROPOSED: usize = 64;

/// Makes model versions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    engine: Handle,
    blobs: Blobs,
    /// Held while a model is put together for an institution.
    exporting: Arc<Mutex<()>>,
    /// The memory of a training, by the digest of its plan: each is proposed to every institution.
    training: Arc<quick_cache::sync::Cache<Digest, u64>>,
    coordinates: Arc<Coordinates>,
}

/// The objects of a Hugging Face directory, already in the blob store.
#[derive(Debug, Clone, Copy)]
pub struct Uploaded {
    pub config: Digest,
    pub tokenizer: Digest,
    pub weights: Digest,
}

impl Registry {
    pub fn new(engine: Handle, blobs: Blobs) -> Self {
        Self {
            engine,
            blobs,
            exporting: Arc::default(),
            training: Arc::new(quick_cache::sync::Cache::new(PROPOSED)),
            coordinates: Arc::default(),
        }
    }

    /// Checks a Hugging Face checkpoint and registers it in canonical form.
    pub async fn import(&self, name: PlanName, files: Uploaded) -> Result<VersionView, Failure> {
        let config = self.read_text("config.json", files.config).await?;
        let tokenizer = self.read_text("tokenizer.json", files.tokenizer).await?;
        check_tokenizer(&tokenizer, &config)?;
        let raw = self.read(files.weights).await?;
        let (config, labels, bytes) = blocking(move || canonical(config, raw)).await??;
        let weights = self.blobs.put(bytes).await?;
        // They may have been sent long ago: they are renewed before they are referred to.
        let config = self.blobs.put(config).await?;
        let tokenizer = self.blobs.put(tokenizer.into_bytes()).await?;
        let imported = Imported {
            name,
            labels,
            weights,
            config,
            tokenizer,
        };
        self.engine
            .call(move |engine| engine.import_model(imported))
            .await
    }

    /// Makes everything ready for a run of the signed plan.
    pub async fn prepare(&self, signed: Signed, force: bool) -> Result<NewRun, Failure> {
        let to_verify = signed.clone();
        let (plan, base) = self
            .engine
            .call(move |engine| {
                let plan = engine.verify_plan(&to_verify)?;
                let base = engine.resolve(&plan.base.to_string())?;
                engine.require_files(base)?;
                Ok((plan, engine.model_view(base)?))
            })
            .await?;
        let (manifest, prepared, found) = self.begin(&plan, &base, signed.digest()).await?;
        let dimension = manifest.dimension();
        if !plan.only_evaluates() {
            check_noise(&plan, dimension, force)?;
        }
        if plan.inputs.as_ref() != Some(&found) {
            let message = match &plan.inputs {
                None => "the plan does not name what it begins with: sign it after `PreparePlan`",
                Some(_) => "the plan names other inputs than its base has: create the run again",
            };
            return Err(Refusal::new(Code::PlanInvalid, message).into());
        }
        Ok(NewRun {
            signed,
            manifest: manifest.digest(),
            dimension: dimension as u64,
            base: base.digest,
            prepared,
        })
    }

    /// What a run of the plan would begin with, for the operator to sign it.
    pub async fn inputs(&self, plan: Plan) -> Result<plan::Inputs, Failure> {
        let (plan, base) = self
            .engine
            .call(move |engine| {
                let base = engine.resolve(&plan.base.to_string())?;
                engine.require_files(base)?;
                Ok((plan, engine.model_view(base)?))
            })
            .await?;
        let (_, _, inputs) = self.begin(&plan, &base, plan.digest()).await?;
        Ok(inputs)
    }

    /// The manifest of a run, its base made ready for the plan of this digest, and its inputs.
    async fn begin(
        &self,
        plan: &Plan,
        base: &VersionView,
        digest: Digest,
    ) -> Result<(Manifest, Option<PreparedBase>, plan::Inputs), Failure> {
        let config_json = self.read_text("config.json", base.version.config).await?;
        let config = BertConfig::parse(&config_json).map_err(|error| invalid(&error.into()))?;
        let trainable = plan.trainable();
        config
            .check_trainable(&trainable)
            .map_err(|error| Refusal::new(Code::PlanInvalid, error.to_string()))?;
        let known = plan.known_of(&base.version.labels);
        let known = known.map_err(|error| Refusal::new(Code::PlanInvalid, error.to_string()))?;
        let manifest = config.manifest(&trainable, plan.tags().len());
        let prepared = self
            .prepared_base(plan, &manifest, base, &config_json, digest)
            .await?;
        let of = &base.version;
        let (config, weights, frozen) = match &prepared {
            Some(prepared) => (prepared.config, prepared.weights, prepared.frozen),
            None => (of.config, of.weights, of.frozen),
        };
        let frozen = match frozen {
            Some(frozen) => Some(self.pinned(frozen).await?),
            None => None,
        };
        let inputs = plan::Inputs {
            config: self.pinned(config).await?,
            tokenizer: self.pinned(of.tokenizer).await?,
            weights: self.pinned(weights).await?,
            frozen,
            known,
            manifest: manifest.digest(),
        };
        Ok((manifest, prepared, inputs))
    }

    async fn pinned(&self, digest: Digest) -> Result<Pinned, Failure> {
        let bytes = self.blobs.length(digest).await?;
        Ok(Pinned { digest, bytes })
    }

    /// The base with what the plan needs and it lacks: a head for the plan's labels, adapters of
    /// an earlier run merged, new ones, and what the plan trains in a file of its own. `None` where
    /// it lacks nothing.
    async fn prepared_base(
        &self,
        plan: &Plan,
        manifest: &Manifest,
        base: &VersionView,
        config_json: &str,
        digest: Digest,
    ) -> Result<Option<PreparedBase>, Failure> {
        let config = BertConfig::parse(config_json).map_err(|error| invalid(&error.into()))?;
        let (head, adapts) = (Head::of(base, plan)?, plan.method.adapts());
        if plan.only_evaluates() {
            return match head {
                Head::Same => Ok(None),
                Head::New | Head::Rows(_) => Err(not_scored(base).into()),
            };
        }
        let wanted = config.prepared_for(&plan.trainable()).head;
        if head != Head::New && !config.head.weighs_as(&wanted) {
            let message = format!(
                "{} has a head {}: expected the plan's, {wanted}",
                base.version.name, config.head
            );
            return Err(Refusal::new(Code::PlanInvalid, message).into());
        }
        let (same, new_head) = (head == Head::Same, head == Head::New);
        let ready = same && !adapts && config.adapters.is_none() && config.head == wanted;
        let whole = manifest.tensors.len() == config.model_tensors(plan.tags().len()).len();
        if ready && whole && base.version.frozen.is_none() {
            return Ok(None);
        }
        let weights = self.read(base.version.weights).await?;
        let divided = base.version.frozen.is_some();
        let layout = Layout::read(&weights[..]).map_err(Fault::from)?;
        if ready && divided && layout.is_of(manifest) {
            return Ok(None);
        }
        let frozen = match base.version.frozen {
            Some(frozen) => Some(self.read(frozen).await?),
            None => None,
        };
        let (config_json, plan) = (config_json.to_owned(), plan.clone());
        let (labels, manifest) = (plan.labels.clone(), manifest.clone());
        let prepared = blocking(move || {
            let base = Checkpoint::read_parts(&config_json, &weights, frozen.as_deref())?;
            // One copy of the weights at a time, as far as it goes.
            drop((weights, frozen));
            Prepared::new(&config_json, base, divided, &plan, &manifest, &head)
        })
        .await?
        .map_err(Fault::from)?;
        let frozen = match prepared.frozen {
            Frozen::Nothing => None,
            Frozen::Base => Some(base.version.weights),
            Frozen::Rest(rest) => Some(self.blobs.put(rest).await?),
        };
        let origin = if adapts || config.adapters.is_some() || !new_head {
            Origin::Prepared { plan: digest }
        } else {
            Origin::Head { plan: digest }
        };
        Ok(Some(PreparedBase {
            origin,
            labels,
            weights: self.blobs.put(prepared.weights).await?,
            frozen,
            config: self.blobs.put(prepared.config_json.into_bytes()).await?,
            tokenizer: base.version.tokenizer,
        }))
    }

    async fn read(&self, digest: Digest) -> Result<Vec<u8>, Failure> {
        match self.blobs.read(digest).await {
            Err(error) if error.is_missing() => {
                Err(Refusal::new(Code::BlobUnknown, format!("there is no object {digest}")).into())
            }
            other => Ok(other?),
        }
    }

    /// How much memory a training of the plan takes; `None` where its base's configuration cannot be read.
    pub async fn training_bytes(&self, plan: &Signed, dimension: u64) -> Option<u64> {
        let found = async {
            let bytes = self.find_training_bytes(plan, dimension).await;
            bytes.ok_or(())
        };
        let digest = plan.digest();
        self.training.get_or_insert_async(&digest, found).await.ok()
    }

    async fn find_training_bytes(&self, plan: &Signed, dimension: u64) -> Option<u64> {
        let plan: Plan = plan.peek().ok()?;
        let config = plan.inputs.as_ref()?.config.digest;
        let config = self.read_text("config.json", config).await.ok()?;
        let config = BertConfig::parse(&config).ok()?;
        Some(config.training_bytes(&plan, dimension))
    }

    async fn read_text(&self, what: &str, digest: Digest) -> Result<String, Failure> {
        String::from_utf8(self.read(digest).await?).map_err(|_| {
            Refusal::new(Code::CheckpointInvalid, format!("{what} is not UTF-8 text")).into()
        })
    }
}

/// The files of a base as a run begins with them.
struct Prepared {
    config_json: String,
    /// What the plan trains.
    weights: Vec<u8>,
    frozen: Frozen,
}

/// What becomes of the head of a base.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    Same,
    /// It begins with the plan.
    New,
    /// Its rows go where the plan has their tags, which were these, by the names that the plan gives them.
    Rows(Vec<String>),
}

impl Head {
    fn of(base: &VersionView, plan: &Plan) -> Result<Self, Refusal> {
        let present = &base.version.labels;
        if present.is_empty() {
            return Ok(Self::New);
        }
        plan.check_types_of_base(present).map_err(|error| {
            let name = &base.version.name;
            let message = format!("{name} tags {present:?}: {error}; `model import --encoder-only` leaves its head out");
            Refusal::new(Code::LabelsMismatch, message)
        })?;
        if *present == plan.labels {
            return Ok(Self::Same);
        }
        let renamed = plan.renamed(present);
        if renamed.iter().all(Option::is_none) {
            return Ok(Self::New);
        }
        let named = present.iter().zip(renamed);
        let named: Vec<String> = named
            .map(|(old, new)| new.unwrap_or_else(|| old.clone()))
            .collect();
        Ok(Self::Rows(fedner_shared::bert::tags(&named)))
    }
}

/// Nothing is made of a base that is only scored.
fn not_scored(base: &VersionView) -> Refusal {
    let name = &base.version.name;
    let message = match &base.version.labels[..] {
        [] => format!("{name} has no head: there is nothing to score before it is trained"),
        present => format!(
            "{name} tags {present:?}: with rounds = 0, name these as `labels` in this order"
        ),
    };
    Refusal::new(Code::LabelsMismatch, message)
}

/// Where the weights are that a plan leaves as they are.
enum Frozen {
    Nothing,
    /// In the one file of the base, all of them.
    Base,
    /// In this new file.
    Rest(Vec<u8>),
}

impl Prepared {
    fn new(
        config_json: &str,
        base: Checkpoint,
        divided: bool,
        plan: &Plan,
        manifest: &Manifest,
        head: &Head,
    ) -> Result<Self, checkpoint::Error> {
        // Whether what the plan leaves as it is lies in one file already.
        let as_it_is = !divided && base.config.adapters.is_none();
        let names = base.names();
        let own = match head {
            Head::Same => plan.tags(),
            Head::New => Vec::new(),
            Head::Rows(from) => from.clone(),
        };
        let (prepared, start) = base.begun_for(plan, &own);
        if start == HeadStart::New && *head != Head::New {
            return Err(checkpoint::Error::Missing("classifier.weight".to_owned()));
        }
        let config_json = checkpoint::config_with_labels(config_json, &plan.labels)?;
        let config_json = checkpoint::config_with_additions(&config_json, &prepared.config)?;
        let (trained, rest) = prepared.split(manifest)?;
        let frozen = if rest.is_empty() {
            Frozen::Nothing
        } else if as_it_is && rest.names().is_subset(&names) {
            Frozen::Base
        } else {
            Frozen::Rest(rest.to_safetensors()?)
        };
        Ok(Self {
            config_json,
            weights: trained.to_safetensors()?,
            frozen,
        })
    }
}

/// The config.json of a checkpoint, the labels it comes with, and its canonical bytes.
type Canonical = (Vec<u8>, Vec<String>, Vec<u8>);

fn canonical(config: String, raw: Vec<u8>) -> Result<Canonical, Failure> {
    let checkpoint = Checkpoint::read(&config, &raw).map_err(|error| invalid(&error))?;
    drop(raw);
    if checkpoint.config.adapters.is_some() {
        let message = "config.json has fedner_adapters: expected a whole model, as `model export` or `train` writes it";
        return Err(Refusal::new(Code::CheckpointInvalid, message).into());
    }
    let tags = checkpoint::tags_of_config(&config).map_err(|error| invalid(&error))?;
    let (config, labels, checkpoint) = match tags.filter(|_| checkpoint.tags().is_some()) {
        None => (config, Vec::new(), checkpoint.without_head()),
        Some(tags) => with_canonical_head(config, &tags, checkpoint)?,
    };
    let bytes = checkpoint
        .to_safetensors()
        .map_err(|error| invalid(&error))?;
    Ok((config.into_bytes(), labels, bytes))
}

/// The head in the order of tags that plans have; entity types are read from its tags.
fn with_canonical_head(
    config: String,
    tags: &[String],
    checkpoint: Checkpoint,
) -> Result<(String, Vec<String>, Checkpoint), Failure> {
    let refuse = |message: String| -> Failure {
        let message = format!("{message}; `model import --encoder-only` leaves the head out");
        Refusal::new(Code::CheckpointInvalid, message).into()
    };
    let head = HeadTags::read(tags).map_err(|error| refuse(error.to_string()))?;
    let labels = head.types.clone();
    let wanted = fedner_shared::bert::tags(&labels);
    if checkpoint.tags() != Some(tags.len()) {
        let (found, named) = (checkpoint.tags().unwrap_or_default(), tags.len());
        return Err(refuse(format!(
            "the head has {found} tags, and id2label names {named}"
        )));
    }
    if wanted == tags {
        return Ok((config, labels, checkpoint));
    }
    let shape = checkpoint.config.head.clone();
    let ordered = checkpoint.with_head_of(tags, &wanted, &shape, 0);
    match ordered.filter(|(_, rows)| {
        head.scheme == Scheme::Iob2 && rows.new.is_empty() && rows.lost.is_empty()
    }) {
        Some((checkpoint, _)) => {
            let config = checkpoint::config_with_labels(&config, &labels);
            Ok((config.map_err(|error| invalid(&error))?, labels, checkpoint))
        }
        None => Err(refuse(format!(
            "the head's tags are {} ({}), and plans train heads of O, B- and I- for every type",
            head.scheme,
            labels.join(", ")
        ))),
    }
}

/// Institutions run no other tokenizers on their text, and no word piece may lack its embedding.
fn check_tokenizer(json: &str, config: &str) -> Result<(), Failure> {
    let config = BertConfig::parse(config).map_err(|error| invalid(&error.into()))?;
    tokenizer::check(json.as_bytes(), Some(config.vocab_size)).map_err(|error| {
        Refusal::new(Code::CheckpointInvalid, format!("tokenizer.json: {error}")).into()
    })
}

fn check_noise(plan: &Plan, dimension: usize, force: bool) -> Result<(), Failure> {
    let ratio = plan.noise_to_signal(dimension);
    if force || plan.privacy.unit == Unit::None || ratio <= LARGEST_NOISE_TO_SIGNAL {
        return Ok(());
    }
    let shared = if plan.privacy.unit.is_sampled() {
        format!("batches of {}", plan.training.batch_size)
    } else {
        format!("{} institutions", plan.cohort.institutions.len())
    };
    let message = format!(
        "the noise would be {ratio:.0} times the signal ({dimension} weights, noise multiplier {}, {shared}): expected at most {LARGEST_NOISE_TO_SIGNAL}",
        plan.privacy.noise_multiplier,
    );
    Err(Refusal::new(Code::PlanTooNoisy, message).into())
}

fn invalid(error: &checkpoint::Error) -> Failure {
    Refusal::new(Code::CheckpointInvalid, error.to_string()).into()
}
