//! A training from beginning to end.

use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Method, Trainable};

use super::cache::{Frozen, Grouping};
use super::early_stopping::EarlyStopping;
use super::encoder::EncoderLearner;
use super::examples::{Example, examples, sound_examples};
use super::features::Features;
use super::frozen_layers::FrozenLayers;
use super::head::HeadLearner;
use super::kept_files::{self, KeptFiles, NOTHING};
use super::observer::Observer;
use super::options::TrainOptions;
use super::parent::Parent;
use super::pass::Text;
use super::private::{self, Private};
use super::private_encoder::PrivateEncoderLearner;
use super::private_head::PrivateHeadLearner;
use super::tag_sets::TagSets;
use super::training_loop::{Learner, Order, Outcome, TrainingLoop};
use crate::device::Device;
use crate::{Error, Sentence, Tokenizer};

/// What is trained.
#[derive(Debug, Clone, Copy)]
pub struct Trainer<'a> {
    /// It has a head of as many tags as `tags` lists, and adapters if the method trains such
    /// ([`Checkpoint::prepared_for`]).
    pub base: &'a Checkpoint,
    pub tokenizer: &'a Tokenizer,
    pub tags: &'a [String],
}

/// What a training has beside its options.
#[derive(Debug)]
pub struct TrainHooks<'a> {
    /// Files from which it goes on after a stop, and which later trainings use again. They change
    /// nothing about the weights.
    pub kept_files: &'a KeptFiles,
    /// Each look at held-out text tells of it: a private training does not cover that.
    pub early_stopping: Option<EarlyStopping<'a>>,
    /// How, if the training is private: then the weights tell no more of the corpus than the
    /// mechanism's releases. Losses and counts are not for others.
    pub private: Option<Private<'a>>,
    /// Rows of the head that stay as they are, as indices into the tags; with the method `head` only.
    pub frozen_rows: &'a [usize],
    /// Says what words are whose tags the text leaves open; not with a CRF or a focal loss.
    pub parent: Option<Parent<'a>>,
}

impl Default for TrainHooks<'_> {
    /// To the last epoch, nothing kept, not private.
    fn default() -> Self {
        Self {
            kept_files: &NOTHING,
            early_stopping: None,
            private: None,
            frozen_rows: &[],
            parent: None,
        }
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

impl Trainer<'_> {
    /// Trains the weights that `options.method` trains, on `corpus`.
    pub fn run(
        &self,
        corpus: &[Sentence],
        options: &TrainOptions,
        hooks: TrainHooks<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Trained, Error> {
        let Self {
            base,
            tokenizer,
            tags,
        } = *self;
        let TrainHooks {
            kept_files: keep,
            early_stopping: early,
            private,
            frozen_rows,
            parent,
        } = hooks;
        let device: Device = options.training.device.parse()?;
        tracing::info!(%device, "training");
        let trainable = options.trainable(&base.config);
        check_base(base, tags.len(), &trainable, private.is_some())?;
        let (config, training) = (&base.config, &options.training);
        let mut sets = TagSets::new(tags, corpus);
        let (mut examples, units) = if let Some(private) = &private {
            // Whether there is text at all must not show: steps without a unit are noise alone.
            let sound = sound_examples(config, tokenizer, &sets, corpus, training);
            private::pooled(private, corpus, sound)?
        } else {
            let all = examples(config, tokenizer, &sets, corpus, training)?;
            if all.is_empty() {
                return Err(Error::EmptyCorpus);
            }
            (all, Vec::new())
        };
        let grouping = match private {
            None => Grouping::Batches,
            Some(_) => Grouping::Alone,
        };
        let on = On { device, grouping };
        if let Some(parent) = parent {
            let taught = parent.teach(on.frozen(parent.base, &examples), &sets, keep, observer)?;
            for (example, targets) in examples.iter_mut().zip(taught.targets) {
                example.targets = targets;
            }
            sets = taught.sets;
        }
        let sets = &sets;
        let words = examples.iter().map(|example| example.targets.len()).sum();
        let order = Order::new(&examples, options);
        let steps_an_epoch = match &private {
            Some(private) => private.steps_an_epoch,
            None => order.steps(),
        };
        let name = || {
            let hooks = (early.as_ref(), private.as_ref(), frozen_rows);
            name(base, sets, &examples, options, hooks)
        };
        // It takes all weights and all text to find one.
        let name = keep.checkpoint.as_ref().map(|_| name()).transpose()?;
        let all_epochs = TrainingLoop::new(options, order, steps_an_epoch, keep, name);
        let manifest = base.config.manifest(&trainable, tags.len());
        let frozen = on.frozen(base, &examples);
        let mut lower = None;
        let trained = (options, &trainable, sets, frozen_rows);
        let mut learner = learner(frozen, trained, &units, private, &mut lower, keep, observer)?;
        let outcome = all_epochs.run(learner.as_mut(), &manifest, early, observer)?;
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
}

/// How frozen layers run.
#[derive(Debug, Clone, Copy)]
struct On {
    device: Device,
    grouping: Grouping,
}

impl On {
    fn frozen<'a>(self, base: &'a Checkpoint, examples: &'a [Example]) -> Frozen<'a> {
        let Self { device, grouping } = self;
        Frozen {
            base,
            examples,
            device,
            grouping,
        }
    }
}

/// What learns the method's weights, once frozen layers have run over the corpus.
fn learner<'a, 'm: 'a>(
    frozen: Frozen<'a>,
    (options, trainable, sets, frozen_rows): (&'a TrainOptions, &Trainable, &TagSets, &[usize]),
    units: &'a [Vec<usize>],
    private: Option<Private<'m>>,
    lower: &'a mut Option<FrozenLayers>,
    keep: &KeptFiles,
    observer: &mut dyn Observer,
) -> Result<Box<dyn Learner + 'a>, Error> {
    let Frozen {
        base,
        examples,
        device,
        ..
    } = frozen;
    if options.method == Method::Head {
        let features = Features::prepare(frozen, keep, observer)?;
        return Ok(match private {
            None => {
                let mut learner = HeadLearner::new(base, examples, features, options, sets)?;
                learner.freeze(frozen_rows);
                Box::new(learner)
            }
            Some(private) => {
                let of = (examples, units);
                let mut learner =
                    PrivateHeadLearner::new(base, of, features, options, sets, private)?;
                learner.freeze(base, frozen_rows)?;
                Box::new(learner)
            }
        });
    }
    let (hidden, attention) = options.dropout(&base.config, private.is_some());
    let of = (&options.training, hidden.max(attention));
    *lower = FrozenLayers::prepare(frozen, of, keep, observer)?;
    let text = Text {
        examples,
        lower: lower.as_ref(),
        config: &base.config,
        device,
    };
    Ok(match private {
        None => Box::new(EncoderLearner::new(base, text, options, trainable, sets)?),
        Some(private) => {
            let of = (text, units);
            Box::new(PrivateEncoderLearner::new(
                base, of, options, trainable, sets, private,
            )?)
        }
    })
}

/// The digest of all that decides a training's result.
fn name(
    base: &Checkpoint,
    sets: &TagSets,
    examples: &[Example],
    options: &TrainOptions,
    (early, private, frozen_rows): (Option<&EarlyStopping<'_>>, Option<&Private<'_>>, &[usize]),
) -> Result<Digest, Error> {
    let tags = sets.tags();
    let base = kept_files::digest_of_model(base, tags.len())?;
    let examples = kept_files::digest_of_examples(examples, Some(sets));
    let (method, training, seed) = (options.method, &options.training, options.seed);
    let schedule = (options.schedule.start, options.schedule.end);
    let all = (base, examples, tags, method, training, seed, schedule);
    let private = private.map(|private| {
        let noise = (private.clip, private.noise_multiplier);
        let steps = (private.expected_batch, private.steps_an_epoch);
        (private.unit, noise, steps, private.max_windows)
    });
    let early = early.map(|early| (early.patience, early.held_out));
    if private.is_some() && method != Method::Head {
        let coordinates = "features of norm 1";
        return Ok(Digest::of_json(&(all, early, private, coordinates)));
    }
    if frozen_rows.is_empty() {
        return Ok(Digest::of_json(&(all, early, private)));
    }
    Ok(Digest::of_json(&(all, early, private, frozen_rows)))
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
