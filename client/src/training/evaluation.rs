//! Tagging held-out text, and counting.

use fedner_host::progress::Progress;
use fedner_model::{Evaluation, Model, Sentence, Tokenizer};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::Training;

use super::Stop;
use super::error::Error;
use super::model::LoadedModel;

/// Sentences in a batch of an evaluation, whose result does not depend on it.
const EVALUATED_TOGETHER: usize = 32;

/// Tags the sentences and counts.
pub fn evaluate(
    material: &LoadedModel,
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
    material: &LoadedModel,
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
