//! `train`: the single-institution baseline.

mod write;

use std::fmt::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use fedner_model::{EarlyStopping, KeptFiles, Parent, Sentence, TrainHooks, TrainOptions};
use fedner_privacy::accountant::{self, Phase};
use fedner_shared::checkpoint::{HeadStart, config_with_additions, config_with_labels};
use fedner_shared::digest::Digest;
use fedner_shared::plan::{KnownTypes, Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::scheme::HeadTags;
use serde::Serialize;

use super::Context;
use super::evaluate::Entities;
use super::models::HfModel;
use super::reading::ReadArguments;
use crate::cli::figures::epsilon;
use crate::dp_sgd::Steps;
use crate::sound;
use crate::training::{self, LoadedModel, Stop};

/// Train without a federation: the single-institution baseline, by the same trainer
///
/// All rounds of the plan run here, one after another, without clipping and without noise unless
/// `--private` asks for them.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Hugging Face directory to start from
    #[arg(long, value_name = "HF_DIR")]
    model: PathBuf,
    /// Corpora to train on
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Corpora to evaluate the result on
    #[arg(long, value_name = "FILE", num_args = 1..)]
    held_out: Vec<PathBuf>,
    /// Score every epoch on the held-out files, end when that many in a row were no better, and keep
    /// the best one's weights; a private training has no look at them
    #[arg(
        long,
        value_name = "EPOCHS",
        requires = "held_out",
        conflicts_with = "private"
    )]
    early_stopping: Option<NonZero<u32>>,
    #[command(flatten)]
    reading: ReadArguments,
    /// The plan: its labels, method, rounds and training settings are used
    #[arg(long, value_name = "PLAN.toml")]
    plan: PathBuf,
    /// New directory for the result
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Write a directory that Python PEFT loads onto the model trained from, instead of a whole
    /// model; with the methods lora and ffa-lora
    #[arg(long)]
    adapter: bool,
    /// Go on with the training that was stopped or cut off in the directory
    #[arg(long)]
    resume: bool,
    /// Keep what the frozen encoder makes of the text there, for later trainings on the same text; with
    /// the method head
    #[arg(long, value_name = "DIR")]
    features: Option<PathBuf>,
    /// Sample, clip and noise every step as the plan says; for the units person, document and
    /// sentence
    #[arg(long)]
    private: bool,
    /// Where to train [default: the plan's]
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "auto",
        hide_default_value = true
    )]
    device: String,
}

#[derive(Debug, Serialize)]
struct Report {
    directory: PathBuf,
    method: String,
    sentences: usize,
    words: usize,
    epochs: u32,
    steps: usize,
    trainable_weights: usize,
    first_loss: f32,
    loss: f32,
    seconds: f64,
    /// What the result guarantees; absent without noise.
    privacy: Option<Guarantee>,
    /// Scores on the held-out files; absent without any.
    held_out: Option<Entities>,
    /// What early stopping went by; absent without it.
    early_stopping: Option<Stopped>,
}

/// How early stopping came to its end.
#[derive(Debug, Serialize)]
struct Stopped {
    /// Whose weights were kept, counted from 1.
    best_epoch: usize,
    /// Micro F1 of each epoch on the held-out files.
    f1: Vec<f64>,
}

/// What differential privacy says of the trained weights.
#[derive(Debug, Serialize)]
struct Guarantee {
    unit: Unit,
    /// In the text; taken as known to everybody.
    units: usize,
    sampling_rate: f64,
    steps: u64,
    noise_multiplier: f64,
    delta: f64,
    epsilon: f64,
}

impl Guarantee {
    fn of(plan: &Plan, units: usize, phase: Phase, dimension: usize) -> anyhow::Result<Self> {
        let privacy = &plan.privacy;
        Ok(Self {
            unit: privacy.unit,
            units,
            sampling_rate: phase.sampling_rate,
            steps: phase.steps,
            noise_multiplier: privacy.noise_multiplier,
            delta: privacy.delta,
            epsilon: accountant::Steps::own(phase, dimension as u64).epsilon(privacy.delta)?,
        })
    }
}

/// The rows of the model's head of which something is to be kept. What the plan says of the model's types must be
/// of it.
fn known_rows(plan: &Plan, tags: Option<&[String]>) -> anyhow::Result<Vec<usize>> {
    let says = !plan.rename.is_empty() || !plan.drop.is_empty();
    if !says && plan.known_types == KnownTypes::Train {
        return Ok(Vec::new());
    }
    let types =
        HeadTags::read(tags.unwrap_or_default()).map_or_else(|_| Vec::new(), |head| head.types);
    plan.check_types_of_base(&types)?;
    Ok(plan.rows_of(&plan.known_of(&types)?))
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    run_from(context, arguments, None)
}

/// The same from some layers of the model, taught by the whole model.
pub(super) fn run_from(
    context: &Context,
    arguments: &Arguments,
    layers: Option<&[usize]>,
) -> anyhow::Result<ExitCode> {
    let mut plan = read_plan(&arguments.plan)?;
    check_arguments(&plan, arguments)?;
    if layers.is_some() {
        plan.known_types = KnownTypes::Distil;
        plan.check()?;
    }
    plan.training = training::settings_here(&plan, &arguments.device);
    plan.training.local_epochs = plan.training.local_epochs.saturating_mul(plan.rounds);
    let mut model = HfModel::read(&arguments.model)?;
    let whole = layers.map(|layers| model.keep_layers(layers)).transpose()?;
    let tags = plan.tags();
    let unknown = || {
        let message = format!(
            "the plan's labels are {:?}: expected types that the model knows, as it is the teacher",
            plan.labels
        );
        Refusal::new(Code::PlanInvalid, message)
    };
    if whole.is_some() && model.tags.is_none() {
        return Err(unknown().into());
    }
    // The model's own head, its rows where their names are, or a new one as a run would begin with.
    let known = known_rows(&plan, model.tags.as_deref())?;
    if whole.is_some() && known.len() < tags.len() {
        return Err(unknown().into());
    }
    let old = model.checkpoint.tags();
    let own = match model.tags {
        Some(own) if own == tags => own,
        own => plan.renamed_tags(&own.unwrap_or_default()),
    };
    let (checkpoint, head) = model.checkpoint.begun_for(&plan, &own);
    say_head(&head, old);
    let mut material = LoadedModel {
        manifest: checkpoint.config.manifest(&plan.trainable(), tags.len()),
        checkpoint,
        tokenizer: model.tokenizer,
        parent: None,
    };
    let is_distilled = whole.is_some();
    if plan.known_types == KnownTypes::Distil {
        material.parent = Some(match whole {
            Some(whole) => whole.begun_for(&plan, &own).0,
            None => material.checkpoint.clone(),
        });
    }
    let sentences = if is_distilled {
        training::read_sentences(&arguments.data, arguments.reading.reader())?.sentences
    } else {
        training::read_corpora(&arguments.data, &plan.labels, arguments.reading.reader())?
    };
    let mut sentences = sound::within_cap(&plan, sentences);
    if is_distilled {
        sentences.iter_mut().for_each(forget_annotations);
    }
    let held_out = match arguments.held_out.as_slice() {
        [] => None,
        files => Some(training::read_sentences(files, arguments.reading.reader())?),
    };
    let options = TrainOptions {
        method: plan.method,
        training: plan.training.clone(),
        seed: plan.seed,
        schedule: 0.0..1.0,
    };
    let stop = Stop::default();
    let began = Instant::now();
    let keep = kept_in(arguments);
    let (units, mut steps) = steps(&plan, &sentences, &material, arguments.private)?;
    let looked_at = held_out.as_ref().map_or(&[][..], |held| &held.sentences);
    let mut f1 = |weights: &[f32]| {
        training::f1_with(weights, &material, looked_at, &tags, &plan.training, &stop)
    };
    let early_stopping = arguments.early_stopping.map(|patience| EarlyStopping {
        patience: patience.get(),
        held_out: digest_of_text(looked_at),
        score: &mut f1,
    });
    let parent = material.parent.as_ref().filter(|_| !known.is_empty());
    let hooks = TrainHooks {
        kept_files: &keep,
        early_stopping,
        private: steps.as_mut().map(|steps| steps.settings(&plan)),
        frozen_rows: if plan.known_types == KnownTypes::Freeze {
            &known
        } else {
            &[]
        },
        parent: parent.map(|base| Parent {
            base,
            known: &known,
        }),
    };
    let trained = training::train(&material, &sentences, &tags, &options, hooks, &stop)?;
    let seconds = began.elapsed().as_secs_f64();
    material.checkpoint = material
        .checkpoint
        .with_weights(&material.manifest, &trained.weights)?;
    if arguments.adapter {
        write::write_adapter(arguments, &material.checkpoint)?;
    } else {
        material.checkpoint = material.checkpoint.merged();
        let config = config_with_labels(&model.config_json, &plan.labels)?;
        let config = config_with_additions(&config, &material.checkpoint.config)?;
        write::write_model(
            arguments,
            &config,
            &model.tokenizer_json,
            &material.checkpoint,
        )?;
    }
    let passing = keep.features.filter(|_| arguments.features.is_none());
    if let Some(features) = passing.filter(|features| features.exists()) {
        std::fs::remove_dir_all(&features)
            .with_context(|| format!("remove {}", features.display()))?;
    }
    let scores = match held_out {
        None => None,
        Some(held_out) => {
            let (sentences, training) = (&held_out.sentences, &plan.training);
            Some(training::evaluate(&material, sentences, &tags, training, &stop)?.scores)
        }
    };
    let report = Report {
        directory: arguments.to.clone(),
        method: plan.method.to_string(),
        sentences: sentences.len(),
        words: trained.words,
        epochs: match trained.scores.len() {
            0 => plan.training.local_epochs,
            scored => scored as u32,
        },
        steps: trained.steps,
        trainable_weights: material.manifest.dimension(),
        first_loss: trained.first_loss,
        loss: trained.loss,
        seconds,
        privacy: match covered(&plan, units).filter(|_| steps.is_some() && arguments.private) {
            Some(phase) => Some(Guarantee::of(
                &plan,
                units,
                phase,
                material.manifest.dimension(),
            )?),
            None => None,
        },
        held_out: scores.as_ref().map(Entities::of),
        early_stopping: trained.best_epoch.map(|best| Stopped {
            best_epoch: best + 1,
            f1: trained.scores,
        }),
    };
    if !arguments.adapter {
        let in_transformers = material.checkpoint.config.head.is_plain();
        write::write_card(
            arguments,
            &plan,
            &report,
            (scores.as_ref(), in_transformers),
        )?;
    }
    context.output.data(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves every word's tag open.
fn forget_annotations(sentence: &mut Sentence) {
    sentence.annotated = Some([].into());
    for tag in &mut sentence.tags {
        "O".clone_into(tag);
    }
}

/// Says what becomes of a head with other tags than the plan's.
fn say_head(head: &HeadStart, old: Option<usize>) {
    let kept = match head {
        HeadStart::Kept => return,
        HeadStart::Rows(kept) => kept,
        HeadStart::New => {
            if let Some(old) = old {
                tracing::warn!("the head begins anew: nothing of the model's {old} tags is kept");
            }
            return;
        }
    };
    for (what, tags) in [("begin anew", &kept.new), ("are not kept", &kept.lost)] {
        if !tags.is_empty() {
            tracing::warn!("of the head these tags {what}: {}", tags.join(", "));
        }
    }
}

fn digest_of_text(sentences: &[Sentence]) -> Digest {
    let text: Vec<_> = sentences.iter().map(|s| (&s.words, &s.tags)).collect();
    Digest::of_json(&text)
}

/// The steps of a plan that samples units, and how many there are.
fn steps(
    plan: &Plan,
    sentences: &[Sentence],
    material: &LoadedModel,
    private: bool,
) -> anyhow::Result<(usize, Option<Steps>)> {
    if !plan.privacy.unit.is_sampled() {
        return Ok((0, None));
    }
    if plan.privacy.is_synchronous() {
        let message = "a round of the plan is one step of several institutions: leave out privacy.cohort_units, and \
                       name training.local_epochs, to train on this text alone";
        return Err(Refusal::new(Code::PlanInvalid, message).into());
    }
    let units =
        fedner_model::count_units(plan.privacy.unit, sentences).map_err(training::Error::from)?;
    let declared = declared(units);
    let steps = if private {
        Steps::private(plan, declared, material.manifest.dimension())
            .map_err(training::Error::from)?
    } else {
        Steps::open(plan, declared)
    };
    Ok((units, steps))
}

/// What a training of so many units is composed of, where the plan samples them.
fn covered(plan: &Plan, units: usize) -> Option<Phase> {
    Phase::of_round(plan, declared(units))
}

fn declared(units: usize) -> u32 {
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// What would be found out only after hours of training.
fn check_arguments(plan: &Plan, arguments: &Arguments) -> Result<(), Refusal> {
    let to = &arguments.to;
    if ["config.json", "adapter_config.json"]
        .iter()
        .any(|file| to.join(file).exists())
    {
        let message = format!("{} holds a model already", to.display());
        return Err(Refusal::new(Code::AlreadyExists, message));
    }
    let checkpoint = kept_in(arguments)
        .checkpoint
        .is_some_and(|file| file.exists());
    if checkpoint && !arguments.resume {
        let message = format!(
            "{} holds an unfinished training: expected --resume to go on with it",
            to.display()
        );
        return Err(Refusal::new(Code::AlreadyExists, message));
    }
    if arguments.private && !plan.privacy.unit.is_sampled() {
        let message = format!(
            "--private with the plan's unit {}: expected person, document or sentence",
            plan.privacy.unit
        );
        return Err(Refusal::new(Code::PlanInvalid, message));
    }
    if arguments.adapter && !plan.method.adapts() {
        let message = format!(
            "--adapter with the plan's method {}: expected lora or ffa-lora",
            plan.method
        );
        return Err(Refusal::new(Code::PlanInvalid, message));
    }
    Ok(())
}

/// What the training leaves in the new directory until it has come to its end, and longer where it
/// was asked to.
fn kept_in(arguments: &Arguments) -> KeptFiles {
    let to = &arguments.to;
    let features = arguments.features.clone();
    KeptFiles {
        checkpoint: Some(to.join("training.checkpoint")),
        features: Some(features.unwrap_or_else(|| to.join("features"))),
        ..KeptFiles::default()
    }
}

pub(super) fn read_plan(file: &Path) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let message = format!("{} cannot be read: {error}", file.display());
        Refusal::new(Code::PlanInvalid, message)
    })?;
    Ok(Plan::parse(&text)?)
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "trained {} weights on {} sentences: {} epochs, {} steps, {:.1} s\n\
         loss {:.4} in the first epoch, {:.4} in the last\nthe model is in {}",
        report.trainable_weights,
        report.sentences,
        report.epochs,
        report.steps,
        report.seconds,
        report.first_loss,
        report.loss,
        report.directory.display()
    );
    if let Some(privacy) = &report.privacy {
        let _ = write!(
            text,
            "\nε = {} (δ = {:e}) for each {} of {}: {} steps of noise multiplier {}, each with a part of \
             {:.4} of them",
            epsilon(privacy.epsilon),
            privacy.delta,
            privacy.unit,
            privacy.units,
            privacy.steps,
            privacy.noise_multiplier,
            privacy.sampling_rate
        );
    }
    if let Some(stopped) = &report.early_stopping {
        let f1: Vec<_> = stopped.f1.iter().map(|f1| format!("{f1:.4}")).collect();
        let _ = write!(
            text,
            "\nkept epoch {}; F1 on held-out text by epoch: {}",
            stopped.best_epoch,
            f1.join(", ")
        );
    }
    if let Some(scores) = &report.held_out {
        text.push_str("\n\n");
        text.push_str(&scores.table());
    }
    text
}
