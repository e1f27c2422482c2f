//! The trainer and the evaluator: blocking work on files, models and corpora.

mod corpora;
mod error;
mod evaluation;
mod model;
mod round;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fedner_host::progress::Progress;
use fedner_model::TrainOptions;
use fedner_model::device::Device;
use fedner_model::{Sentence, TrainHooks, Trained, Trainer};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{Plan, Training};
use fedner_shared::refusal::{Code, Refusal};

pub use corpora::{Corpora, read_corpora, read_sentences};
pub use error::{Error, code_of_corpus, code_of_problem};
pub use evaluation::{evaluate, f1_with};
pub use model::{LastModel, LoadedModel};
pub use round::{Change, RoundUpdate, train_round, units_of};

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

/// Trains and shows how far it has come.
pub fn train(
    material: &LoadedModel,
    sentences: &[Sentence],
    tags: &[String],
    options: &TrainOptions,
    hooks: TrainHooks<'_>,
    stop: &Stop,
) -> Result<Trained, Error> {
    let mut shown = Progress::new("training");
    let mut observer = |progress: fedner_model::Progress| {
        shown.at(progress.step, progress.steps, || {
            format!("loss {:.3}", progress.loss)
        });
        stop.flow()
    };
    let trainer = Trainer {
        base: &material.checkpoint,
        tokenizer: &material.tokenizer,
        tags,
    };
    Ok(trainer.run(sentences, options, hooks, &mut observer)?)
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
