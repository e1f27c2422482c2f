//! The course of a training: epochs of batches, whatever is trained.

use std::time::Instant;

use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;

use super::adamw::Rates;
use super::batches::grouped;
use super::early_stopping::{EarlyStopping, Scored};
use super::examples::Example;
use super::kept_files::{self, KeptFiles};
use super::observer::{Observer, Progress, Stage};
use super::options::TrainOptions;
use super::schedule::Schedule;
use super::state::State;
use crate::Error;

/// What learns from batches, one step at a time.
pub(super) trait Learner {
    /// The batches of each step of an epoch.
    fn epoch(&mut self, order: &Order, epoch: u32) -> Vec<Vec<Vec<usize>>> {
        order.epoch(epoch)
    }

    /// One step on the sentences of `batches` (indices into the examples) together; the mean loss
    /// before it.
    fn step(&mut self, batches: &[Vec<usize>], rates: Rates) -> Result<f32, Error>;

    /// The weights of `manifest` as they are now.
    fn weights(&mut self, manifest: &Manifest) -> Result<Vec<f32>, Error>;

    /// Puts down all that decides later steps.
    fn save(&mut self, state: &mut State) -> Result<(), Error>;

    /// Takes it up again.
    fn restore(&mut self, state: &State) -> Result<(), Error>;
}

/// Every example once an epoch, shuffled, grouped by length.
#[derive(Debug)]
pub(super) struct Order {
    /// Sub-tokens of each example.
    lengths: Vec<usize>,
    batch_size: usize,
    /// Batches of one step.
    accumulated: usize,
    seed: u64,
}

impl Order {
    pub(super) fn new(examples: &[Example], options: &TrainOptions) -> Self {
        Self {
            lengths: examples.iter().map(|e| e.encoded.ids.len()).collect(),
            batch_size: options.training.batch_size,
            accumulated: options.training.gradient_accumulation,
            seed: options.seed,
        }
    }

    /// Steps of an epoch.
    pub(super) fn steps(&self) -> usize {
        let batches = self.lengths.len().div_ceil(self.batch_size);
        batches.div_ceil(self.accumulated)
    }

    fn epoch(&self, epoch: u32) -> Vec<Vec<Vec<usize>>> {
        let batches = grouped(&self.lengths, self.batch_size, self.seed, epoch);
        batches
            .chunks(self.accumulated)
            .map(<[_]>::to_vec)
            .collect()
    }
}

/// Mean losses of the first and the last epoch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Losses {
    pub(super) first: f32,
    pub(super) last: f32,
}

/// Which steps are made, in which order, and what is kept of them on the way.
#[derive(Debug)]
pub(super) struct TrainingLoop<'a> {
    options: &'a TrainOptions,
    order: Order,
    schedule: Schedule,
    keep: &'a KeptFiles,
    /// Names this training among others, where a checkpoint is kept.
    training: Option<Digest>,
}

/// What a training came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) weights: Vec<f32>,
    pub(super) steps: usize,
    pub(super) losses: Losses,
    /// Without a score unless training could stop early.
    pub(super) scored: Scored,
}

/// How far a training has come.
#[derive(Debug, Clone, Default)]
struct Position {
    epoch: u32,
    /// Steps done in all.
    step: usize,
    /// Steps done in this epoch, and the sum of their losses.
    in_epoch: usize,
    sum: f64,
    losses: Losses,
    scored: Scored,
}

impl<'a> TrainingLoop<'a> {
    pub(super) fn new(
        options: &'a TrainOptions,
        order: Order,
        steps_an_epoch: usize,
        keep: &'a KeptFiles,
        training: Option<Digest>,
    ) -> Self {
        Self {
            options,
            schedule: Schedule::new(options, steps_an_epoch),
            order,
            keep,
            training,
        }
    }

    /// All epochs, or as many as `early` finds worth it; then the weights of `manifest` are those of
    /// the best.
    pub(super) fn run(
        &self,
        learner: &mut dyn Learner,
        manifest: &Manifest,
        mut early: Option<EarlyStopping<'_>>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, Error> {
        let training = &self.options.training;
        let mut position = self.resume(learner)?;
        let mut kept = Instant::now();
        while position.epoch < training.local_epochs {
            let steps = learner.epoch(&self.order, position.epoch);
            for batches in steps.into_iter().skip(position.in_epoch) {
                let progress = self.step(learner, &batches, &mut position)?;
                let stopped = observer.step(progress).is_break();
                if stopped || kept.elapsed() >= self.keep.every {
                    self.save(learner, &position)?;
                    kept = Instant::now();
                }
                if stopped {
                    let Progress { step, steps, .. } = progress;
                    return Err(Error::Stopped { step, steps });
                }
            }
            if early.is_some() {
                // Scoring takes a while, and may be cut off.
                self.save(learner, &position)?;
            }
            position.end_epoch();
            if let Some(early) = &mut early {
                let weights = learner.weights(manifest)?;
                if !position.scored.add(early, weights)? {
                    break;
                }
            }
        }
        let weights = match early {
            Some(_) => std::mem::take(&mut position.scored.weights),
            None => learner.weights(manifest)?,
        };
        if let Some(path) = &self.keep.checkpoint {
            kept_files::remove(path)?;
        }
        Ok(Outcome {
            weights,
            steps: position.step,
            losses: position.losses,
            scored: position.scored,
        })
    }

    fn step(
        &self,
        learner: &mut dyn Learner,
        batches: &[Vec<usize>],
        position: &mut Position,
    ) -> Result<Progress, Error> {
        let learning_rate = self.schedule.learning_rate(position.step);
        position.step += 1;
        position.in_epoch += 1;
        let rates = Rates {
            learning_rate,
            weight_decay: self.options.training.weight_decay,
            step: position.step,
        };
        let loss = learner.step(batches, rates)?;
        position.sum += f64::from(loss);
        Ok(Progress {
            stage: Stage::Training,
            epoch: position.epoch,
            step: position.step,
            steps: self.schedule.steps,
            loss,
            learning_rate,
            sentences: batches.iter().map(Vec::len).sum(),
        })
    }

    fn save(&self, learner: &mut dyn Learner, position: &Position) -> Result<(), Error> {
        let (Some(path), Some(training)) = (&self.keep.checkpoint, self.training) else {
            return Ok(());
        };
        let mut state = State::default();
        learner.save(&mut state)?;
        position.save(&mut state);
        state.write(path, training, self.keep.key.as_ref())
    }

    /// Where the kept checkpoint stood; the beginning without one.
    fn resume(&self, learner: &mut dyn Learner) -> Result<Position, Error> {
        let (Some(path), Some(training)) = (&self.keep.checkpoint, self.training) else {
            return Ok(Position::default());
        };
        let Some(state) = State::read(path, training, self.keep.key.as_ref())? else {
            return Ok(Position::default());
        };
        learner.restore(&state)?;
        let position = Position::restore(&state)?;
        tracing::info!(
            "training goes on after step {} of {}",
            position.step,
            self.schedule.steps
        );
        Ok(position)
    }
}

impl Position {
    fn end_epoch(&mut self) {
        self.losses.last = (self.sum / self.in_epoch.max(1) as f64) as f32;
        if self.epoch == 0 {
            self.losses.first = self.losses.last;
        }
        self.epoch += 1;
        self.in_epoch = 0;
        self.sum = 0.0;
    }

    fn save(&self, state: &mut State) {
        state.put_number("epoch", self.epoch.into());
        state.put_number("step", self.step as u64);
        state.put_number("in_epoch", self.in_epoch as u64);
        state.put_number("sum", self.sum.to_bits());
        state.put_number("first_loss", self.losses.first.to_bits().into());
        state.put_number("last_loss", self.losses.last.to_bits().into());
        self.scored.save(state);
    }

    fn restore(state: &State) -> Result<Self, Error> {
        let loss = |name: &str| Ok::<_, Error>(f32::from_bits(state.number(name)? as u32));
        Ok(Self {
            epoch: state.number("epoch")? as u32,
            step: state.number("step")? as usize,
            in_epoch: state.number("in_epoch")? as usize,
            sum: f64::from_bits(state.number("sum")?),
            losses: Losses {
                first: loss("first_loss")?,
                last: loss("last_loss")?,
            },
            scored: Scored::restore(state)?,
        })
    }
}
