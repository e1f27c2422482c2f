//! Private training through the encoder: DP-SGD on all weights that are not frozen, or on adapters.
//!
//! A unit's sentences go through the model by themselves, forwards and backwards once, so that what
//! is on the tape is the gradient of that unit. That by the large weights is not made; it is left as
//! the two factors that decide it, of which norm and clipped sum are computed (book-keeping: Bu,
//! Wang, Zha and Karypis 2023, algorithm 1). Units run side by side, one on each thread.

mod contribution;
mod norm;
mod sum;
mod unit;
mod workers;

use fedner_shared::checkpoint::{Checkpoint, Standardiser};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Trainable;

use super::adamw::Rates;
use super::kept_files;
use super::loss::Loss;
use super::optimizer::{Gradient, Optimizer};
use super::options::TrainOptions;
use super::pass::{Pass, Text};
use super::private::{Private, in_manifest_order};
use super::state::State;
use super::tag_sets::TagSets;
use super::training_loop::{Learner, Order};
use crate::Error;
use crate::bert::{Bert, Dropout, SlotTensor};
use contribution::Contribution;
use norm::Norm;
use sum::ClippedSum;
use unit::{Limits, Unit, groups};
use workers::Workers;

/// Rows of a pass.
const PASS: usize = 2048;
/// Rows of a unit that is one task beside others, at most: each thread has one at a time.
const BESIDE: usize = 512;
/// Rows whose activations are kept for the sum.
const GROUP: usize = 1024;

pub(super) struct PrivateEncoderLearner<'a, 'm> {
    text: Text<'a>,
    /// The examples of each unit.
    units: &'a [Vec<usize>],
    options: &'a TrainOptions,
    private: Private<'m>,
    /// On no tape; its head in coordinates in which each word's features have norm 1.
    bert: Bert,
    loss: Loss,
    optimizer: Optimizer,
    manifest: Manifest,
    limits: Limits,
    workers: Workers,
}

impl<'a, 'm> PrivateEncoderLearner<'a, 'm> {
    pub(super) fn new(
        base: &'a Checkpoint,
        (text, units): (Text<'a>, &'a [Vec<usize>]),
        options: &'a TrainOptions,
        trainable: &Trainable,
        sets: &TagSets,
        private: Private<'m>,
    ) -> Result<Self, Error> {
        let device = text.device;
        let bert = Bert::load_to_train(base, &device.plain(), trainable)?;
        let bert = bert.with_precision(device.precision(options.training.precision)?);
        let mut bert = bert.standardised(Standardiser::from_checkpoint(base)?, base)?;
        let mu = options.training.proximal_mu;
        let width = base.config.head_width();
        let head_rate = options.training.private_head_rate(trainable.method, width);
        Ok(Self {
            text,
            units,
            options,
            private,
            optimizer: Optimizer::of_all_rows(&mut bert, mu, head_rate)?,
            limits: limits(&bert),
            manifest: base.config.manifest(trainable, sets.tags().len()),
            bert,
            loss: Loss::new(&options.training, sets),
            workers: Workers::new(device)?,
        })
    }

    /// The unit's mean loss, and the gradient of it.
    fn contribution(&self, unit: &Unit, step: usize) -> Result<(f64, Contribution), Error> {
        let targets = unit.examples();
        let targets = targets.flat_map(|index| self.text.examples[index].targets.iter().copied());
        let total = self.loss.total(targets);
        let mut dropout = self.dropout(unit, step);
        let with_books = unit.is_small(self.limits);
        let (mut loss, mut sum) = (0.0, None::<Contribution>);
        for examples in &unit.passes {
            let mut bert = self.bert.on_tape(with_books);
            let pass = Pass::run(&bert, &self.loss, self.text, examples, total, &mut dropout)?;
            loss += f64::from(pass.loss);
            let part = Contribution::take(&mut bert, pass)?;
            match &mut sum {
                None => sum = Some(part),
                Some(sum) => sum.add(&part)?,
            }
        }
        Ok((loss, sum.ok_or(Error::EmptyCorpus)?))
    }

    /// Nothing is dropped unless the plan says so. What is dropped depends on the unit itself and on
    /// the step, so that who else is in the text changes nothing about it.
    fn dropout(&self, unit: &Unit, step: usize) -> Dropout {
        let (hidden, attention) = self.options.dropout(self.text.config, true);
        if hidden.max(attention) <= 0.0 {
            return Dropout::none();
        }
        let examples = unit.examples().map(|index| &self.text.examples[index]);
        let text = kept_files::digest_of_examples(examples, Some(self.loss.sets()));
        let key = format!("{}/{step}/{text}", self.options.seed);
        let mut seed = [0; 8];
        seed.copy_from_slice(&Digest::of(key.as_bytes()).as_bytes()[..8]);
        Dropout::new(hidden, attention, u64::from_le_bytes(seed))
    }

    /// The sum over units (their examples) of their clipped gradients; of each unit, small ones
    /// first, loss and norm.
    fn clipped_sum(
        &mut self,
        units: &[Vec<usize>],
        step: usize,
    ) -> Result<(ClippedSum, Vec<(f64, Norm)>), Error> {
        let mut sum = ClippedSum::new(&mut self.bert, self.private.clip);
        // A unit without a word to learn from takes its place in a sample and adds nothing.
        let units = units.iter().filter(|unit| !unit.is_empty());
        let units = units.map(|own| Unit::new(self.text.examples, own.clone(), self.limits));
        let (small, large): (Vec<_>, Vec<_>) = units.partition(|unit| unit.is_small(self.limits));
        let mut found = Vec::new();
        for group in groups(small, self.limits) {
            let parts = self.workers.run(group, |unit| self.measured(&unit, step));
            self.add(&mut sum, parts, &mut found)?;
        }
        for unit in large {
            let part = self.measured(&unit, step);
            self.add(&mut sum, vec![part], &mut found)?;
        }
        Ok((sum, found))
    }

    /// A sum in the order of the model's slots, in that of the manifest.
    fn as_filed(&mut self, sum: &[f64]) -> Result<Vec<f64>, Error> {
        let mut rest = sum;
        let slots = self.bert.trained().into_iter();
        let parts = slots.map(|slot| {
            let (own, others) = rest.split_at(slot.len());
            rest = others;
            let filed = slot.as_filed(own);
            (slot.name, filed)
        });
        in_manifest_order(&self.manifest, &parts.collect())
    }

    fn measured(&self, unit: &Unit, step: usize) -> Result<Measured, Error> {
        let (loss, contribution) = self.contribution(unit, step)?;
        let norm = contribution.norm()?;
        Ok((loss, norm, contribution))
    }

    fn add(
        &self,
        sum: &mut ClippedSum,
        parts: Vec<Result<Measured, Error>>,
        found: &mut Vec<(f64, Norm)>,
    ) -> Result<(), Error> {
        let (mut units, mut factors) = (Vec::new(), Vec::new());
        for part in parts {
            let (loss, norm, contribution) = part?;
            found.push((loss, norm));
            factors.push(norm.factor(sum.clip()));
            units.push(contribution);
        }
        sum.add(&self.workers, &units, &factors)
    }
}

/// Loss, norm and gradient of a unit.
type Measured = (f64, Norm, Contribution);

/// Norms from factors cost T²(d + p) for each weight of d inputs and p outputs, a gradient T·d·p:
/// where a unit's rows T are more than that, its gradients are made.
fn limits(bert: &Bert) -> Limits {
    let mut noted = bert.on_tape(true);
    let (mut by_gradient, mut by_factors) = (0, 0);
    for slot in noted.trained() {
        if let (Some(_), SlotTensor::Matrix(weight)) = (&slot.book, &slot.tensor) {
            let [inputs, outputs] = weight.dims();
            by_gradient += inputs * outputs;
            by_factors += inputs + outputs;
        }
    }
    let equal = by_gradient.checked_div(by_factors);
    Limits {
        beside: equal.unwrap_or(BESIDE).min(BESIDE),
        pass: PASS,
        group: GROUP,
    }
}

impl Learner for PrivateEncoderLearner<'_, '_> {
    /// Every step has a sample of its own.
    fn epoch(&mut self, _: &Order, _: u32) -> Vec<Vec<Vec<usize>>> {
        self.private.samples(self.units)
    }

    /// `batches` has one list of examples a unit.
    fn step(&mut self, batches: &[Vec<usize>], rates: Rates) -> Result<f32, Error> {
        let (sum, found) = self.clipped_sum(batches, rates.step)?;
        let sum = if self.private.mechanism.leaves() {
            self.as_filed(&sum.values)?
        } else {
            sum.values
        };
        let released = self.private.released(sum)?;
        let gradient = Gradient::of_flat(&mut self.bert, released);
        let largest = self.options.training.max_grad_norm;
        self.optimizer
            .step(&mut self.bert, gradient, largest, rates)?;
        let total: f64 = found.iter().map(|(loss, _)| loss).sum();
        Ok((total / found.len().max(1) as f64) as f32)
    }

    fn weights(&mut self, manifest: &Manifest) -> Result<Vec<f32>, Error> {
        self.bert.weights(manifest)
    }

    fn save(&mut self, state: &mut State) -> Result<(), Error> {
        self.optimizer.save(&mut self.bert, state)
    }

    fn restore(&mut self, state: &State) -> Result<(), Error> {
        self.optimizer.restore(&mut self.bert, state)
    }
}

#[cfg(test)]
mod tests;
