//! Training of the head on a frozen encoder: softmax regression over features made once.
//!
//! Nothing is dropped out: the features are those that tagging will see.

use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::manifest::Manifest;
use rayon::prelude::*;

use super::TrainOptions;
use super::adamw::{self, Moments, Rates};
use super::course::Learner;
use super::examples::Example;
use super::features::Features;
use super::loss::Loss;
use super::state::State;
use crate::Error;

pub(super) struct HeadLearner<'a> {
    examples: &'a [Example],
    options: &'a TrainOptions,
    features: Features,
    loss: Loss,
    head: Head,
}

impl<'a> HeadLearner<'a> {
    pub(super) fn new(
        base: &Checkpoint,
        examples: &'a [Example],
        features: Features,
        options: &'a TrainOptions,
        tags: &[String],
    ) -> Result<Self, Error> {
        let mut head = Head::new(base)?;
        head.hold(options.training.proximal_mu);
        Ok(Self {
            examples,
            options,
            features,
            loss: Loss::new(&options.training, tags),
            head,
        })
    }
}

impl Learner for HeadLearner<'_> {
    fn step(&mut self, batches: &[Vec<usize>], rates: Rates) -> Result<f32, Error> {
        let words = self.features.words(self.examples, &batches.concat())?;
        let head = &mut self.head;
        let (loss, mut by_weight, mut by_bias) = head.gradient(&words.pairs(), 1.0, &self.loss);
        let largest = self.options.training.max_grad_norm;
        head.update(&mut by_weight, &mut by_bias, largest, rates)?;
        if loss.is_finite() {
            Ok(loss)
        } else {
            Err(Error::NotFinite { step: rates.step })
        }
    }

    fn weights(&mut self, manifest: &Manifest) -> Result<Vec<f32>, Error> {
        Head::flat(&self.head.weight, &self.head.bias, manifest)
    }

    fn save(&mut self, state: &mut State) -> Result<(), Error> {
        self.head.save(state);
        Ok(())
    }

    fn restore(&mut self, state: &State) -> Result<(), Error> {
        self.head.restore(state)
    }
}

/// Where a head is held close to where it began (FedProx).
struct Start {
    mu: f32,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// gradient += μ·(now - start)
fn pull(gradient: &mut [f32], now: &[f32], start: &[f32], mu: f32) {
    for ((gradient, now), start) in gradient.iter_mut().zip(now).zip(start) {
        *gradient += mu * (now - start);
    }
}

pub(super) struct Head {
    hidden: usize,
    /// [tags, hidden]
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    weight_moments: Moments,
    bias_moments: Moments,
    start: Option<Start>,
}

impl Head {
    pub(super) fn new(base: &Checkpoint) -> Result<Self, Error> {
        let weight = base.tensor("classifier.weight")?.to_vec();
        let bias = base.tensor("classifier.bias")?.to_vec();
        Ok(Self::of(base.config.head_width(), weight, bias))
    }

    pub(super) fn of(hidden: usize, weight: Vec<f32>, bias: Vec<f32>) -> Self {
        Self {
            hidden,
            weight_moments: Moments::new(weight.len()),
            bias_moments: Moments::new(bias.len()),
            weight,
            bias,
            start: None,
        }
    }

    /// Holds it from now on close to where it is, with the strength `mu`; 0 leaves it free.
    pub(super) fn hold(&mut self, mu: f64) {
        self.start = (mu > 0.0).then(|| Start {
            mu: mu as f32,
            weight: self.weight.clone(),
            bias: self.bias.clone(),
        });
    }

    /// Weights in all.
    pub(super) fn dimension(&self) -> usize {
        self.weight.len() + self.bias.len()
    }

    /// A head's weights in the order of `manifest`.
    pub(super) fn flat(
        weight: &[f32],
        bias: &[f32],
        manifest: &Manifest,
    ) -> Result<Vec<f32>, Error> {
        let mut flat = Vec::with_capacity(manifest.dimension());
        for spec in &manifest.tensors {
            flat.extend_from_slice(match spec.name.as_str() {
                "classifier.weight" => weight,
                "classifier.bias" => bias,
                other => return Err(checkpoint::Error::Missing(other.to_owned()).into()),
            });
        }
        Ok(flat)
    }

    pub(super) fn save(&self, state: &mut State) {
        state.put("weight", &self.weight);
        state.put("bias", &self.bias);
        self.weight_moments.save("weight", state);
        self.bias_moments.save("bias", state);
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<(), Error> {
        state.restore("weight", &mut self.weight)?;
        state.restore("bias", &mut self.bias)?;
        self.weight_moments.restore("weight", state)?;
        self.bias_moments.restore("bias", state)
    }

    /// A step against this gradient, that of its hold added, of the norm `largest` at most.
    pub(super) fn update(
        &mut self,
        by_weight: &mut [f32],
        by_bias: &mut [f32],
        largest: f64,
        rates: Rates,
    ) -> Result<(), Error> {
        if let Some(Start { mu, weight, bias }) = &self.start {
            pull(by_weight, &self.weight, weight, *mu);
            pull(by_bias, &self.bias, bias, *mu);
        }
        let squared = adamw::squared_norm(by_weight) + adamw::squared_norm(by_bias);
        if !squared.is_finite() {
            return Err(Error::NotFinite { step: rates.step });
        }
        let scale = adamw::clip_factor(squared, largest);
        self.weight_moments
            .update(&mut self.weight, by_weight, rates.step(scale));
        let undecayed = Rates {
            weight_decay: 0.0,
            ..rates
        };
        self.bias_moments
            .update(&mut self.bias, by_bias, undecayed.step(scale));
        Ok(())
    }

    /// The mean loss of the rows, and its gradient by weight and bias: with e the gradient of a
    /// row x by its scores, Σ e xᵀ and Σ e·c, divided as the mean is. The bias counts `c` times in
    /// the scores.
    pub(super) fn gradient(
        &self,
        rows: &[(&[f32], usize)],
        c: f32,
        loss: &Loss,
    ) -> (f32, Vec<f32>, Vec<f32>) {
        let errors: Vec<(f32, Vec<f32>)> = rows
            .par_iter()
            .map(|(x, target)| {
                let mut scores = self.scores(x, c);
                (loss.of_scores(&mut scores, *target), scores)
            })
            .collect();
        let total = loss.total(rows.iter().map(|(_, target)| *target));
        let divisor = total as f32;
        let mut weight_gradient = vec![0.0; self.weight.len()];
        weight_gradient
            .par_chunks_mut(self.hidden)
            .enumerate()
            .for_each(|(tag, gradient)| {
                for ((x, _), (_, error)) in rows.iter().zip(&errors) {
                    let factor = error[tag] / divisor;
                    for (sum, value) in gradient.iter_mut().zip(*x) {
                        *sum += factor * value;
                    }
                }
            });
        let mut bias_gradient = vec![0.0; self.bias.len()];
        for (_, error) in &errors {
            for (sum, value) in bias_gradient.iter_mut().zip(error) {
                *sum += c * value / divisor;
            }
        }
        let sum = errors.iter().map(|(loss, _)| f64::from(*loss)).sum::<f64>();
        ((sum / total) as f32, weight_gradient, bias_gradient)
    }

    /// The scores of each tag for the features of one word.
    fn scores(&self, x: &[f32], c: f32) -> Vec<f32> {
        let weights = self.weight.chunks_exact(self.hidden);
        let scores = weights.zip(&self.bias).map(|(w, b)| dot(w, x) + c * b);
        scores.collect()
    }
}

/// Eight sums side by side, which the compiler can keep in one register.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8
        .remainder()
        .iter()
        .zip(b8.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a8.zip(b8) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
