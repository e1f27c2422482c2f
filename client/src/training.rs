//! The trainer and the evaluator: blocking work on files, models and corpora.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fedner_model::corpus::{self, Corpus, ReadOptions, Reader};
use fedner_model::device::Device;
use fedner_model::{Evaluation, Keep, Manner, Model, Sentence, Tokenizer, TrainOptions, Trained};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Inputs, Plan, Sampling, Training};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::version::Version;

use crate::blobs::Blobs;
use crate::dp_sgd::{self, Steps};
use crate::egress;
use crate::progress::Progress;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Corpus(#[from] corpus::Error),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error(transparent)]
    Model(#[from] fedner_model::Error),
    #[error(transparent)]
    Private(#[from] dp_sgd::Error),
    #[error("{} cannot be read: {source}", file.display())]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("a model file cannot be read: {0}")]
    Blob(#[from] std::io::Error),
    #[error("a worker thread failed: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl Error {
    pub fn refusal(&self) -> Option<Refusal> {
        let code = match self {
            Self::Refused(refusal) => return Some(refusal.clone()),
            Self::Corpus(error) => code_of_corpus(error),
            Self::Checkpoint(_) | Self::Read { .. } => Code::CheckpointInvalid,
            Self::Model(error) => return Some(Refusal::new(code_of(error)?, error.to_string())),
            Self::Private(dp_sgd::Error::Sum(_)) => Code::PlanInvalid,
            Self::Private(dp_sgd::Error::Random(_)) | Self::Blob(_) | Self::Worker(_) => {
                return None;
            }
        };
        Some(Refusal::new(code, self.to_string()))
    }
}

impl Error {
    /// Whether it can depend on private text. All that does is told as one code.
    pub fn is_of_text(&self) -> bool {
        use fedner_model::Error as M;
        match self {
            Self::Corpus(_) => true,
            Self::Refused(refusal) => egress::told(refusal.code) == Code::NotDone,
            Self::Model(error) => match error {
                M::Encode { .. }
                | M::Vocabulary { .. }
                | M::Length { .. }
                | M::NoUnit { .. }
                | M::UnknownTag { .. }
                | M::EmptyCorpus
                | M::NotFinite { .. } => true,
                M::Checkpoint(_)
                | M::Tokenizer(_)
                | M::Device(_)
                | M::Unfit(_)
                | M::PrivateCrf
                | M::OtherTraining { .. }
                | M::Tags { .. }
                | M::NoHead
                | M::Window { .. }
                | M::Mechanism(_)
                | M::Tensor(_)
                | M::Threads(_)
                | M::Adapters { .. }
                | M::Head { .. }
                | M::Keep { .. }
                | M::Stopped { .. } => false,
            },
            Self::Checkpoint(_)
            | Self::Private(_)
            | Self::Read { .. }
            | Self::Blob(_)
            | Self::Worker(_) => false,
        }
    }

    /// Whether it is a fault of this machine alone, such as a full disk, so that the same work is
    /// begun again. A panic is not: text may have caused it.
    pub fn is_ours(&self) -> bool {
        use fedner_model::Error as M;
        match self {
            Self::Blob(_) | Self::Read { .. } | Self::Private(dp_sgd::Error::Random(_)) => true,
            Self::Model(error) => matches!(error, M::Keep { .. } | M::Stopped { .. }),
            Self::Refused(_)
            | Self::Corpus(_)
            | Self::Checkpoint(_)
            | Self::Private(dp_sgd::Error::Sum(_))
            | Self::Worker(_) => false,
        }
    }

    /// What it is called here; a fault of ours has no name of its own.
    pub fn code(&self) -> Code {
        self.refusal().map_or(Code::NotDone, |refusal| refusal.code)
    }

    /// What may stand in a log: a code and a place, never text.
    pub fn cause(&self) -> String {
        let code = self
            .refusal()
            .map_or("internal", |refusal| refusal.code.as_str());
        match self {
            Self::Corpus(corpus::Error::Line { problem, .. }) => {
                format!("{code} in {}, line {}", problem.file, problem.line)
            }
            Self::Corpus(corpus::Error::Labels { file, line, .. }) => {
                format!("{code} in {file}, line {line}")
            }
            Self::Model(
                fedner_model::Error::NoUnit { line, .. }
                | fedner_model::Error::UnknownTag { line, .. },
            ) => format!("{code}, line {line}"),
            Self::Worker(_) => "a worker thread panicked".to_owned(),
            Self::Refused(_)
            | Self::Corpus(_)
            | Self::Checkpoint(_)
            | Self::Model(_)
            | Self::Private(_)
            | Self::Read { .. }
            | Self::Blob(_) => code.to_owned(),
        }
    }
}

/// What can fail before text is read: files that cannot be opened, and the device's name.
pub fn check_inputs(files: &[PathBuf], device: &str) -> Result<(), Refusal> {
    crate::sound::check_files(files)?;
    if device == "auto" {
        return Ok(());
    }
    device
        .parse::<Device>()
        .map(drop)
        .map_err(|error| Refusal::new(Code::DeviceUnknown, error.to_string()))
}

/// The code of what is wrong with a corpus.
pub fn code_of_corpus(error: &corpus::Error) -> Code {
    match error {
        corpus::Error::Labels { .. } => Code::LabelsMismatch,
        corpus::Error::Line { problem, .. } => code_of_problem(problem),
        corpus::Error::Read { .. } => Code::CorpusInvalid,
        corpus::Error::Tokenize(_) => Code::CheckpointInvalid,
    }
}

/// The code of one problem: that which the user can decide about has its own.
pub fn code_of_problem(problem: &corpus::Problem) -> Code {
    if problem.code == corpus::TAG_SEQUENCE {
        Code::CorpusTags
    } else {
        Code::CorpusInvalid
    }
}

fn code_of(error: &fedner_model::Error) -> Option<Code> {
    use fedner_model::Error;
    Some(match error {
        Error::Checkpoint(_)
        | Error::Tokenizer(_)
        | Error::Encode { .. }
        | Error::Vocabulary { .. } => Code::CheckpointInvalid,
        Error::Device(_) => Code::DeviceUnknown,
        Error::Unfit(_) | Error::PrivateCrf => Code::PlanInvalid,
        Error::NoUnit { .. } => Code::CorpusInvalid,
        Error::OtherTraining { .. } => Code::StateInvalid,
        Error::Tags { .. } | Error::NoHead | Error::UnknownTag { .. } => Code::LabelsMismatch,
        Error::Window { .. } => Code::RequestInvalid,
        Error::EmptyCorpus => Code::CorpusEmpty,
        Error::NotFinite { .. } => Code::NotFinite,
        // Sentences are cut to windows beforehand; a longer one is our own fault.
        Error::Length { .. }
        | Error::Mechanism(_)
        | Error::Tensor(_)
        | Error::Threads(_)
        | Error::Adapters { .. }
        | Error::Head { .. }
        | Error::Keep { .. }
        | Error::Stopped { .. } => return None,
    })
}

/// Tells a training to stop: it does so after the step it is at.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn flow(&self) -> ControlFlow<()> {
        if self.0.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// A model version ready to work with.
#[derive(Debug)]
pub struct Material {
    pub checkpoint: Checkpoint,
    pub tokenizer: Tokenizer,
    pub manifest: Manifest,
}

impl Material {
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
        if config.prepared_for(&trainable) != config {
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

/// The sentences of several files.
#[derive(Debug, Default)]
pub struct Corpora {
    pub sentences: Vec<Sentence>,
    /// Each file, and how many sentences there are up to its end.
    files: Vec<(String, usize)>,
}

impl Corpora {
    /// The file of a sentence.
    pub fn file_of(&self, sentence: usize) -> &str {
        let file = self.files.iter().find(|(_, end)| sentence < *end);
        file.map_or("", |(name, _)| name)
    }
}

/// The sentences of all files together, their types within `labels`.
pub fn read_corpora(
    files: &[PathBuf],
    labels: &[String],
    options: &ReadOptions,
) -> Result<Vec<Sentence>, Error> {
    read_with(Reader::new(options.clone()), files, labels)
}

/// The same by a reader that knows of files already.
pub fn read_with(
    reader: Reader,
    files: &[PathBuf],
    labels: &[String],
) -> Result<Vec<Sentence>, Error> {
    read_checked(files, reader, |corpus| {
        for label in corpus.check_labels(labels)? {
            tracing::warn!("{} has no entity of the type {label}", corpus.name);
        }
        Ok(())
    })
    .map(|corpora| corpora.sentences)
}

/// The sentences of all files, whatever their types.
pub fn read_sentences(files: &[PathBuf], options: &ReadOptions) -> Result<Corpora, Error> {
    read_checked(files, Reader::new(options.clone()), |_| Ok(()))
}

fn read_checked(
    files: &[PathBuf],
    mut reader: Reader,
    check: impl Fn(&Corpus) -> Result<(), corpus::Error>,
) -> Result<Corpora, Error> {
    let mut corpora = Corpora::default();
    for file in files {
        let corpus = reader.corpus(file)?;
        for notice in corpus.summary.notices() {
            tracing::warn!("{}: {notice}", corpus.name);
        }
        check(&corpus)?;
        corpora.sentences.extend(corpus.sentences);
        let end = corpora.sentences.len();
        corpora.files.push((corpus.name, end));
    }
    if corpora.sentences.is_empty() {
        let message = format!(
            "{} files have no sentence: expected at least one",
            files.len()
        );
        return Err(Refusal::new(Code::CorpusEmpty, message).into());
    }
    Ok(corpora)
}

/// What a round's training gave. Only [`train_round`] makes one with noise in it, so that the gate
/// can tell.
#[derive(Debug)]
pub struct RoundUpdate {
    /// The change of each trainable weight, in manifest order.
    values: Vec<f32>,
    /// How units were sampled into its steps, each of which was clipped and noised as the plan says;
    /// `None` if there is no noise in it yet.
    sampling: Option<Sampling>,
}

impl RoundUpdate {
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn sampling(&self) -> Option<Sampling> {
        self.sampling
    }

    /// A change without noise in it.
    pub fn without_noise(values: Vec<f32>) -> Self {
        Self {
            values,
            sampling: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn of(values: &[f32], sampling: Option<Sampling>) -> Self {
        Self {
            values: values.to_vec(),
            sampling,
        }
    }
}

/// One round's training at an institution that declared `units` in its consent.
pub fn train_round(
    material: &Material,
    sentences: &[Sentence],
    (plan, units): (&Plan, u32),
    options: &TrainOptions,
    keep: &Keep,
    stop: &Stop,
) -> Result<RoundUpdate, Error> {
    let tags = plan.tags();
    let mut steps = Steps::private(plan, units, material.manifest.dimension())?;
    let sampling = steps.as_ref().map(Steps::sampling);
    let mut once = || {
        let private = steps.as_mut().map(|steps| steps.settings(plan));
        let manner = Manner::new(keep, private);
        train(material, sentences, &tags, options, manner, stop)
    };
    let trained = match once() {
        // An assignment that was dropped, or whose text or settings changed here meanwhile.
        Err(Error::Model(fedner_model::Error::OtherTraining { file })) => {
            tracing::info!("{} is of another training: removed", file.display());
            std::fs::remove_file(&file)?;
            once()?
        }
        outcome => outcome?,
    };
    let mut values = trained.weights;
    let base = material.checkpoint.flatten(&material.manifest)?;
    for (new, old) in values.iter_mut().zip(&base) {
        *new -= old;
    }
    Ok(RoundUpdate { values, sampling })
}

/// Trains and shows how far it has come.
pub fn train(
    material: &Material,
    sentences: &[Sentence],
    tags: &[String],
    options: &TrainOptions,
    manner: Manner<'_>,
    stop: &Stop,
) -> Result<Trained, Error> {
    let mut shown = Progress::new("training");
    let mut observer = |progress: fedner_model::Progress| {
        shown.at(progress.step, progress.steps, || {
            format!("loss {:.3}", progress.loss)
        });
        stop.flow()
    };
    let (checkpoint, tokenizer) = (&material.checkpoint, &material.tokenizer);
    Ok(fedner_model::train_as(
        checkpoint,
        tokenizer,
        tags,
        sentences,
        options,
        manner,
        &mut observer,
    )?)
}

/// The number of each sentence's unit, of what the plan protects: everything is one unit where that
/// is the institution, or nothing.
pub fn units_of(plan: &Plan, sentences: &[Sentence]) -> Result<Vec<usize>, Error> {
    let unit = plan.privacy.unit;
    if unit.is_sampled() && plan.privacy.count_noise().is_some() {
        return Ok(fedner_model::number_units(unit, sentences)?.0);
    }
    Ok(vec![0; sentences.len()])
}

/// Sentences in a batch of an evaluation, whose result does not depend on it.
const EVALUATED_TOGETHER: usize = 32;

/// Tags the sentences and counts.
pub fn evaluate(
    material: &Material,
    sentences: &[Sentence],
    tags: &[String],
    training: &Training,
    stop: &Stop,
) -> Result<Evaluation, Error> {
    let model = (&material.checkpoint, &material.tokenizer);
    Ok(evaluation(model, sentences, tags, training, stop)?)
}

/// The micro F1 that `weights` in the place of the material's have on the sentences.
pub fn f1_with(
    weights: &[f32],
    material: &Material,
    sentences: &[Sentence],
    tags: &[String],
    training: &Training,
    stop: &Stop,
) -> Result<f64, fedner_model::Error> {
    let checkpoint = material.checkpoint.clone();
    let checkpoint = checkpoint.with_weights(&material.manifest, weights)?;
    let model = (&checkpoint, &material.tokenizer);
    let found = evaluation(model, sentences, tags, training, stop)?;
    Ok(found.scores.total().f1())
}

fn evaluation(
    (checkpoint, tokenizer): (&Checkpoint, &Tokenizer),
    sentences: &[Sentence],
    tags: &[String],
    training: &Training,
    stop: &Stop,
) -> Result<Evaluation, fedner_model::Error> {
    let model = Model::load(checkpoint, training.device.parse()?)?;
    let mut shown = Progress::new("evaluating");
    let mut observer = |done, total| {
        shown.at(done, total, String::new);
        stop.flow()
    };
    fedner_model::evaluate(
        &model,
        tokenizer,
        tags,
        sentences,
        training.max_tokens,
        EVALUATED_TOGETHER,
        &mut observer,
    )
}

/// The plan's training settings on this institution's device: `auto` leaves it to the plan.
pub fn settings_here(plan: &Plan, device: &str) -> Training {
    let mut training = plan.training.clone();
    if device != "auto" {
        device.clone_into(&mut training.device);
    }
    training
}

/// The seed of shuffling and dropout: of the plan, and different for each institution, round and
/// attempt.
pub fn seed(plan: &Plan, institution: &InstitutionId, round: u32, attempt: u32) -> u64 {
    let text = format!("{}/{institution}/{round}/{attempt}", plan.seed);
    let digest = Digest::of(text.as_bytes());
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// The text of a file that belongs to a model.
pub fn read_file(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|source| Error::Read {
        file: file.to_owned(),
        source,
    })
}
