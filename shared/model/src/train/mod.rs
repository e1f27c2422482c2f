//! Local training: some epochs over a corpus, from a checkpoint to new weights.

mod adamw;
mod batches;
mod full;
mod head;
mod optimizer;
mod schedule;

use std::ops::{ControlFlow, Range};

use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Method, Training};

use crate::device::Device;
use crate::{Encoded, Error, Sentence, Tokenizer};
use schedule::Schedule;

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    pub method: Method,
    pub training: Training,
    /// Decides shuffling and dropout: the same seed gives the same weights.
    pub seed: u64,
    /// The part of the learning-rate schedule that these epochs are, of 0 to 1. Round r of R is
    /// r/R..(r+1)/R.
    pub schedule: Range<f64>,
}

/// What a training is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The frozen encoder runs over the corpus, once; only with the method `head`.
    Features,
    Training,
}

/// How far a training has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    pub stage: Stage,
    /// Counted from 0.
    pub epoch: u32,
    /// Steps of this stage done so far.
    pub step: usize,
    /// Steps of this stage in all.
    pub steps: usize,
    /// The mean cross-entropy of the step just done; 0 while features are made.
    pub loss: f32,
    pub learning_rate: f64,
    /// Sentences in the step just done.
    pub sentences: usize,
}

/// Is told of every step, and may stop the training.
pub trait Observer {
    fn step(&mut self, progress: Progress) -> ControlFlow<()>;
}

impl<F: FnMut(Progress) -> ControlFlow<()>> Observer for F {
    fn step(&mut self, progress: Progress) -> ControlFlow<()> {
        self(progress)
    }
}

/// What a training gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The new weights, in the order of the method's manifest.
    pub weights: Vec<f32>,
    pub steps: usize,
    /// The mean over the steps of the last epoch of their mean cross-entropy.
    pub loss: f32,
    /// The same of the first epoch.
    pub first_loss: f32,
    /// Words trained on in an epoch: those with a sub-token.
    pub words: usize,
}

/// Trains the weights that `options.method` trains, from `base`, on `corpus`.
///
/// `base` has a head of as many tags as `tags` lists.
pub fn train(
    base: &Checkpoint,
    tokenizer: &Tokenizer,
    tags: &[String],
    corpus: &[Sentence],
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    let device: Device = options.training.device.parse()?;
    tracing::info!(%device, "training");
    match base.tags() {
        None => return Err(Error::NoHead),
        Some(found) if found != tags.len() => {
            let expected = tags.len();
            return Err(Error::Tags { expected, found });
        }
        Some(_) => {}
    }
    let examples = examples(&base.config, tokenizer, tags, corpus, &options.training)?;
    let words = examples.iter().map(|example| example.targets.len()).sum();
    let schedule = Schedule::new(options, examples.len());
    let (weights, losses) = match options.method {
        Method::Full => full::train(base, &examples, options, &schedule, device, observer)?,
        Method::Head => head::train(base, &examples, options, &schedule, device, observer)?,
    };
    Ok(Trained {
        weights,
        steps: schedule.steps,
        loss: losses.last,
        first_loss: losses.first,
        words,
    })
}

/// A sentence, or a window of a long one, with the tags to learn.
#[derive(Debug)]
struct Example {
    encoded: Encoded,
    /// One a word that has a sub-token, as an index into the tags.
    targets: Vec<usize>,
}

fn examples(
    config: &BertConfig,
    tokenizer: &Tokenizer,
    tags: &[String],
    corpus: &[Sentence],
    training: &Training,
) -> Result<Vec<Example>, Error> {
    let limit = training.max_tokens.min(config.max_position_embeddings);
    let windows = tokenizer.windows_of_sentences(corpus, limit)?;
    let mut examples = Vec::with_capacity(corpus.len());
    for (sentence, windows) in corpus.iter().zip(windows) {
        let mut targets = targets(sentence, tags)?.into_iter();
        for encoded in windows {
            crate::model::check_ids(&[&encoded], config)?;
            let own = encoded.first.iter().zip(targets.by_ref());
            let kept = own.filter_map(|(first, target)| first.map(|_| target));
            let targets: Vec<usize> = kept.collect();
            // A window without a word that the tokenizer knows has nothing to learn from.
            if !targets.is_empty() {
                examples.push(Example { encoded, targets });
            }
        }
    }
    if examples.is_empty() {
        return Err(Error::EmptyCorpus);
    }
    Ok(examples)
}

/// The tag of each word, as an index into the tags.
fn targets(sentence: &Sentence, tags: &[String]) -> Result<Vec<usize>, Error> {
    let target = |tag: &String| {
        let found = tags.iter().position(|known| known == tag);
        found.ok_or_else(|| Error::UnknownTag {
            tag: tag.clone(),
            line: sentence.line,
            expected: tags.to_vec(),
        })
    };
    sentence.tags.iter().map(target).collect()
}

/// Mean losses of the first and the last epoch.
#[derive(Debug, Clone, Copy, Default)]
struct Losses {
    first: f32,
    last: f32,
}

impl Losses {
    fn end_epoch(&mut self, epoch: u32, sum: f64, steps: usize) {
        self.last = (sum / steps.max(1) as f64) as f32;
        if epoch == 0 {
            self.first = self.last;
        }
    }
}
