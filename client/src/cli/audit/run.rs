//! `audit run`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgGroup;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_model::Sentence;
use fedner_model::corpus::Reader;
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Method, Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};

use super::super::Context;
use super::super::models::HfModel;
use super::super::reading::ReadArguments;
use super::super::train::read_plan;
use super::{own_identity, text};
use crate::SOFTWARE;
use crate::audit::membership::{self, Suspect};
use crate::audit::report::{AuditedModel, AuditedPlan, Input, SignedReport};
use crate::audit::{AuditReport, Outcome, exposure, one_run, steps, update};
use crate::training::{self, read_file};

/// Attack a plan's mechanism, a finished model, or both; the status is 1 where a claim is refuted
///
/// With --plan, canaries of the largest contribution there is go the way that real updates go: for the
/// unit institution through clip, rounding, noise and encoding, for the others through the private
/// trainer with its sampling. With --model and files, the model's losses are compared. The report is
/// signed and kept in `audits/` of the institution's directory. Nothing leaves the machine.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["plan", "model"]))]
pub(super) struct Arguments {
    /// The plan whose mechanism is attacked
    #[arg(long, value_name = "PLAN.toml")]
    plan: Option<PathBuf>,
    /// How many units are declared [default: `declared_examples` of client.toml]
    #[arg(long, value_name = "N", requires = "plan")]
    units: Option<u32>,
    /// Releases, or epochs, with a canary, and as many without
    #[arg(long, value_name = "N", default_value_t = 4000)]
    runs: u32,
    /// Canary units in one training
    #[arg(long, value_name = "N", default_value_t = 500)]
    canaries: usize,
    /// Weights of the released updates, with the unit institution
    #[arg(long, value_name = "N", default_value_t = 1024)]
    weights: usize,
    /// The finished model: a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Annotated text that the model was trained on
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "model", requires = "non_members")]
    members: Vec<PathBuf>,
    /// Text of the same kind that it was not trained on
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "members")]
    non_members: Vec<PathBuf>,
    /// A fair coin decided for each unit whether the plan trained on it: the guesses then bound ε
    #[arg(long, requires = "members", requires = "plan")]
    random_split: bool,
    /// Sentences of `audit plant` that the model was trained on
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "model")]
    planted: Vec<PathBuf>,
    /// Entities that a planted one is ranked among
    #[arg(long, value_name = "N", default_value_t = 1023)]
    candidates: usize,
    /// How sure a FAIL shall be
    #[arg(long, value_name = "P", default_value_t = 0.99)]
    confidence: f64,
    #[command(flatten)]
    reading: ReadArguments,
    /// Where the model is read
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let identity = own_identity(context)?;
    let directory = context.directory()?;
    let mut report = AuditReport::new(
        SOFTWARE,
        identity.institution.clone(),
        ThisMachine.now(),
        arguments.confidence,
    );
    let plan = match &arguments.plan {
        Some(file) => {
            let plan = read_plan(file)?;
            let declared = directory.settings()?.declared_examples;
            Some(Claimed::new(plan, arguments.units.or(declared))?)
        }
        None => None,
    };
    if let Some(claimed) = &plan {
        report.plan = Some(claimed.named());
        report.notes.extend(claimed.notes());
        let attacked = attack_mechanism(claimed, arguments)?;
        report.parts.extend(attacked.parts);
        report.checks.extend(attacked.checks);
    }
    if let Some(model) = &arguments.model {
        attack_model(model, plan.as_ref(), arguments, &mut report)?;
    }
    report.verdict = Outcome::new(&report.parts, &report.checks);
    let signed = SignedReport::new(&report, &identity.signing);
    let file = signed.keep(&report, &directory.audits())?;
    context.output.data(&report, |report| {
        format!(
            "{}\nthe signed report is {}",
            text::render(report),
            file.display()
        )
    })?;
    Ok(ExitCode::from(u8::from(report.verdict == Outcome::Fail)))
}

/// A plan, and how many units this institution declares for it.
#[derive(Debug)]
struct Claimed {
    plan: Plan,
    units: Option<u32>,
}

impl Claimed {
    fn new(plan: Plan, units: Option<u32>) -> Result<Self, Refusal> {
        let unit = plan.privacy.unit;
        if unit == Unit::None {
            let message = format!(
                "the plan {} has the unit none: it claims nothing",
                plan.name
            );
            return Err(Refusal::new(Code::AuditInvalid, message));
        }
        if !unit.is_sampled() {
            return Ok(Self { plan, units: None });
        }
        if units.is_none_or(|units| units == 0) {
            let message = format!(
                "the plan {} samples units, here each {unit}: expected how many are declared, with \
                 --units or as `declared_examples` in client.toml",
                plan.name
            );
            return Err(Refusal::new(Code::ExamplesOutOfRange, message));
        }
        Ok(Self { plan, units })
    }

    fn named(&self) -> AuditedPlan {
        let (plan, privacy) = (&self.plan, &self.plan.privacy);
        AuditedPlan {
            name: plan.name.clone(),
            digest: plan.digest(),
            unit: privacy.unit,
            clip: privacy.clip,
            noise_multiplier: privacy.noise_multiplier,
            delta: privacy.delta,
            rounds: plan.rounds,
            units: self.units,
        }
    }

    /// What the attacks do not reach.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.units.is_none() {
            return notes;
        }
        let (clip, method) = (self.plan.privacy.clip, self.plan.method);
        if clip > steps::LARGEST_GRADIENT {
            notes.push(format!(
                "a canary's gradient has the norm {}, below the clip of {clip}: the bounds are weaker \
                 than they could be",
                steps::LARGEST_GRADIENT
            ));
        }
        if method != Method::Head {
            notes.push(format!(
                "the canaries of the attacks on ε train the head: sampling, noise and divisor are those of the \
                 method {method} too; how it clips is measured on a small encoder"
            ));
        }
        notes
    }
}

fn attack_mechanism(claimed: &Claimed, arguments: &Arguments) -> anyhow::Result<steps::Attacked> {
    let (plan, confidence) = (&claimed.plan, arguments.confidence);
    let runs = arguments.runs;
    let Some(units) = claimed.units else {
        let weights = arguments.weights.max(1);
        return Ok(update::attack(plan, weights, runs as usize, confidence)?);
    };
    let mut attacked = steps::attack(plan, units, runs, confidence)?;
    let canaries = arguments.canaries.max(10);
    let one_run = one_run::attack(plan, units, canaries, confidence)?;
    attacked.parts.extend(one_run);
    Ok(attacked)
}

fn attack_model(
    model: &Path,
    claimed: Option<&Claimed>,
    arguments: &Arguments,
    report: &mut AuditReport,
) -> anyhow::Result<()> {
    let (material, tags, _) = HfModel::tagger(model)?;
    report.model = Some(AuditedModel {
        weights: Digest::of(&read_file(&model.join("model.safetensors"))?),
        tags: tags.clone(),
    });
    let device = arguments.device.parse();
    let device = device.map_err(|error| training::Error::from(fedner_model::Error::from(error)))?;
    let suspect = Suspect::load((material, tags), device)?;
    let reader = arguments.reading.reader();
    let mut read = |role: &str, files: &[PathBuf]| -> anyhow::Result<Vec<Sentence>> {
        let (sentences, input) = read_input(role, files, &reader)?;
        report.inputs.push(input);
        Ok(sentences)
    };
    if !arguments.members.is_empty() {
        let members = read("members", &arguments.members)?;
        let others = read("non-members", &arguments.non_members)?;
        let unit = claimed.map_or(Unit::Sentence, |claimed| claimed.plan.privacy.unit);
        let scored = membership::scored(&suspect, unit, &members, &others)?;
        report.membership = Some(scored.curve(arguments.confidence)?);
        if let Some(claimed) = claimed.filter(|_| arguments.random_split) {
            let units = claimed.units.unwrap_or_default();
            let part = scored.judge(&claimed.plan, units, arguments.confidence)?;
            report.parts.push(part);
        }
    }
    if !arguments.planted.is_empty() {
        let (planted, input) = read_input("planted", &arguments.planted, &reader)?;
        report.inputs.push(input);
        let exposures = exposure::attack(&suspect, &planted, arguments.candidates.max(1))?;
        report.exposure = Some(exposures);
    }
    Ok(())
}

/// The sentences of files, and by which digest they are named together.
fn read_input(
    role: &str,
    files: &[PathBuf],
    reader: &Reader,
) -> anyhow::Result<(Vec<Sentence>, Input)> {
    let sentences = training::read_sentences(files, reader.clone())?.sentences;
    let content: Vec<_> = sentences.iter().map(|s| (&s.words, &s.tags)).collect();
    let input = Input {
        role: role.to_owned(),
        digest: Digest::of_json(&content),
        sentences: sentences.len(),
    };
    Ok((sentences, input))
}
