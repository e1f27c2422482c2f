//! Local training: some epochs over a corpus, from a checkpoint to new weights.

mod adamw;
mod batches;
mod cache;
mod early_stopping;
mod encoder;
pub(crate) mod examples;
mod features;
mod frozen_layers;
mod head;
mod kept_files;
mod loss;
mod optimizer;
mod pass;
mod private;
mod private_encoder;
mod private_head;
mod schedule;
mod standardise;
mod state;
mod training_loop;

use std::ops::{ControlFlow, Range};

use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Method, Trainable, Training};

use crate::device::Device;
use crate::{Error, Sentence, Tokenizer};
use cache::{Frozen, Grouping};
pub use early_stopping::EarlyStopping;
use encoder::EncoderLearner;
use examples::{Example, examples, sound_examples};
use features::Features;
use frozen_layers::FrozenLayers;
use head::HeadLearner;
pub use kept_files::KeptFiles;
use pass::Text;
pub use private::{Clip, Mechanism, Private, count_units, number_units};
use private_encoder::PrivateEncoderLearner;
use private_head::PrivateHeadLearner;
use training_loop::{Order, Outcome, TrainingLoop};

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

impl TrainOptions {
    /// Which weights of a model with this `config` are trained.
    fn trainable(&self, config: &BertConfig) -> Trainable {
        let lora = config.adapters.as_ref().map(|adapters| &adapters.lora);
        Trainable::new(self.method, lora, &self.training)
    }

    /// With which probabilities hidden states and attention weights are dropped.
    fn dropout(&self, config: &BertConfig, private: bool) -> (f64, f64) {
        match self.training.dropout {
            Some(probability) => (probability, probability),
            None if private => (0.0, 0.0),
            None => (
                config.hidden_dropout_prob,
                config.attention_probs_dropout_prob,
            ),
        }
    }
}

/// What a training is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Frozen layers run over the corpus, once: with the method `head` the whole encoder.
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
    /// The score of each epoch on held-out text; empty without early stopping.
    pub scores: Vec<f64>,
    /// The epoch, counted from 0, with the best score, whose weights these are.
    pub best_epoch: Option<usize>,
}

/// Trains the weights that `options.method` trains, from `base`, on `corpus`.
///
/// `base` has a head of as many tags as `tags` lists, and adapters if the method trains such
/// ([`Checkpoint::prepared_for`]).
pub fn train(
    base: &Checkpoint,
    tokenizer: &Tokenizer,
    tags: &[String],
    corpus: &[Sentence],
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    let keep = KeptFiles::default();
    train_keeping(base, tokenizer, tags, corpus, options, &keep, observer)
}

/// The same, with files from which it goes on after a stop, and which later trainings use again.
/// They change nothing about the weights.
pub fn train_keeping(
    base: &Checkpoint,
    tokenizer: &Tokenizer,
    tags: &[String],
    corpus: &[Sentence],
    options: &TrainOptions,
    keep: &KeptFiles,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    let manner = Manner::new(keep, None);
    train_as(base, tokenizer, tags, corpus, options, manner, observer)
}

/// What a training has beside its options.
#[derive(Debug)]
pub struct Manner<'a> {
    pub keep: &'a KeptFiles,
    /// Each look at held-out text tells of it: a private training does not cover that.
    pub early_stopping: Option<EarlyStopping<'a>>,
    /// How, if the training is private: then the weights tell no more of the corpus than the
    /// mechanism's releases. Losses and counts are not for others.
    pub private: Option<Private<'a>>,
}

impl<'a> Manner<'a> {
    /// To the last epoch.
    pub fn new(keep: &'a KeptFiles, private: Option<Private<'a>>) -> Self {
        Self {
            keep,
            early_stopping: None,
            private,
        }
    }
}

/// The same, privately or with early stopping if so asked.
pub fn train_as(
    base: &Checkpoint,
    tokenizer: &Tokenizer,
    tags: &[String],
    corpus: &[Sentence],
    options: &TrainOptions,
    manner: Manner<'_>,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    let Manner {
        keep,
        early_stopping: early,
        private,
    } = manner;
    let device: Device = options.training.device.parse()?;
    tracing::info!(%device, "training");
    let trainable = options.trainable(&base.config);
    check_base(base, tags.len(), &trainable, private.is_some())?;
    let (config, training) = (&base.config, &options.training);
    let (examples, units) = if let Some(private) = &private {
        // Whether there is text at all must not show: steps without a unit are noise alone.
        let sound = sound_examples(config, tokenizer, tags, corpus, training);
        private::pooled(private, corpus, sound)?
    } else {
        let all = examples(config, tokenizer, tags, corpus, training)?;
        if all.is_empty() {
            return Err(Error::EmptyCorpus);
        }
        (all, Vec::new())
    };
    let words = examples.iter().map(|example| example.targets.len()).sum();
    let order = Order::new(&examples, options);
    let steps_an_epoch = match &private {
        Some(private) => private.steps_an_epoch,
        None => order.steps(),
    };
    let name = name(
        base,
        tags,
        &examples,
        options,
        early.as_ref(),
        private.as_ref(),
    )?;
    let course = TrainingLoop::new(options, order, steps_an_epoch, keep, name);
    let manifest = base.config.manifest(&trainable, tags.len());
    let frozen = Frozen {
        base,
        examples: &examples,
        device,
        grouping: match private {
            None => Grouping::Batches,
            Some(_) => Grouping::Alone,
        },
    };
    let outcome = match options.method {
        Method::Full | Method::Lora | Method::FfaLora => {
            let (hidden, attention) = options.dropout(&base.config, private.is_some());
            let of = (&options.training, hidden.max(attention));
            let lower = FrozenLayers::prepare(frozen, of, keep, observer)?;
            let text = Text {
                examples: &examples,
                lower: lower.as_ref(),
                config: &base.config,
                device,
            };
            match private {
                None => {
                    let mut learner = EncoderLearner::new(base, text, options, &trainable, tags)?;
                    course.run(&mut learner, &manifest, early, observer)?
                }
                Some(private) => {
                    let of = (text, units.as_slice());
                    let mut learner =
                        PrivateEncoderLearner::new(base, of, options, &trainable, tags, private)?;
                    course.run(&mut learner, &manifest, early, observer)?
                }
            }
        }
        Method::Head => {
            let features = Features::prepare(frozen, keep, observer)?;
            match private {
                None => {
                    let mut learner = HeadLearner::new(base, &examples, features, options, tags)?;
                    course.run(&mut learner, &manifest, early, observer)?
                }
                Some(private) => {
                    let of = (examples.as_slice(), units.as_slice());
                    let mut learner =
                        PrivateHeadLearner::new(base, of, features, options, tags, private)?;
                    course.run(&mut learner, &manifest, early, observer)?
                }
            }
        }
    };
    let Outcome {
        weights,
        steps,
        losses,
        scored,
    } = outcome;
    Ok(Trained {
        weights,
        steps,
        loss: losses.last,
        first_loss: losses.first,
        words,
        best_epoch: scored.best(),
        scores: scored.scores,
    })
}

/// The digest of all that decides a training's result.
fn name(
    base: &Checkpoint,
    tags: &[String],
    examples: &[Example],
    options: &TrainOptions,
    early: Option<&EarlyStopping<'_>>,
    private: Option<&Private<'_>>,
) -> Result<Digest, Error> {
    let base = kept_files::digest_of_model(base, tags.len())?;
    let examples = kept_files::digest_of_examples(examples, true);
    let (method, training, seed) = (options.method, &options.training, options.seed);
    let schedule = (options.schedule.start, options.schedule.end);
    let all = (base, examples, tags, method, training, seed, schedule);
    let private = private.map(|private| {
        let noise = (private.clip, private.noise_multiplier);
        let steps = (private.expected_batch, private.steps_an_epoch);
        (private.unit, noise, steps, private.max_windows)
    });
    let early = early.map(|early| (early.patience, early.held_out));
    Ok(Digest::of_json(&(all, early, private)))
}

fn check_base(
    base: &Checkpoint,
    tags: usize,
    trainable: &Trainable,
    private: bool,
) -> Result<(), Error> {
    match base.tags() {
        None => return Err(Error::NoHead),
        Some(found) if found != tags => {
            let expected = tags;
            return Err(Error::Tags { expected, found });
        }
        Some(_) => {}
    }
    if base.config.adapters.is_some() != trainable.method.adapts() {
        let method = trainable.method;
        return Err(Error::Adapters { method });
    }
    base.config.check_trainable(trainable)?;
    let (found, expected) = (
        base.config.head.clone(),
        base.config.prepared_for(trainable).head,
    );
    if found != expected {
        return Err(Error::Head { expected, found });
    }
    if private && found.crf {
        return Err(Error::PrivateCrf);
    }
    Ok(())
}
