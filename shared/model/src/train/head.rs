//! Training of the head on a frozen encoder: softmax regression over features made once.
//!
//! Nothing is dropped out: the features are those that tagging will see.

use fedner_shared::checkpoint::Checkpoint;
use rayon::prelude::*;

use super::adamw::{self, Moments, Rates};
use super::batches::grouped;
use super::schedule::Schedule;
use super::{Example, Losses, Observer, Progress, Stage, TrainOptions};
use crate::bert::{Batch, Bert, Dropout, values};
use crate::device::Device;
use crate::{Encoded, Error};

/// Sentences whose features are made together.
const TOGETHER: usize = 32;

pub(super) fn train(
    base: &Checkpoint,
    examples: &[Example],
    options: &TrainOptions,
    schedule: &Schedule,
    device: Device,
    observer: &mut dyn Observer,
) -> Result<(Vec<f32>, Losses), Error> {
    let training = &options.training;
    let features = features(base, examples, device, observer)?;
    let mut head = Head::new(base)?;
    let lengths: Vec<usize> = examples.iter().map(|e| e.encoded.ids.len()).collect();
    let (mut losses, mut step) = (Losses::default(), 0);
    for epoch in 0..training.local_epochs {
        let batches = grouped(&lengths, training.batch_size, options.seed, epoch);
        let mut sum = 0.0;
        for batch in &batches {
            let rows: Vec<(&[f32], usize)> = batch
                .iter()
                .flat_map(|index| {
                    let rows = features[*index].chunks_exact(head.hidden);
                    rows.zip(examples[*index].targets.iter().copied())
                })
                .collect();
            let learning_rate = schedule.learning_rate(step);
            let loss = head.step(&rows, options, step, learning_rate)?;
            sum += f64::from(loss);
            step += 1;
            let progress = Progress {
                stage: Stage::Training,
                epoch,
                step,
                steps: schedule.steps,
                loss,
                learning_rate,
                sentences: batch.len(),
            };
            if observer.step(progress).is_break() {
                let steps = schedule.steps;
                return Err(Error::Stopped { step, steps });
            }
        }
        losses.end_epoch(epoch, sum, batches.len());
    }
    Ok((head.in_manifest_order(), losses))
}

/// The last hidden states of each example's words: row-major [words, hidden].
fn features(
    base: &Checkpoint,
    examples: &[Example],
    device: Device,
    observer: &mut dyn Observer,
) -> Result<Vec<Vec<f32>>, Error> {
    let hidden = base.config.hidden_size;
    let device = device.plain();
    let bert = Bert::load(base, &device)?;
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|index| examples[*index].encoded.ids.len());
    let steps = order.len().div_ceil(TOGETHER);
    let mut features = vec![Vec::new(); examples.len()];
    for (step, batch) in order.chunks(TOGETHER).enumerate() {
        let encoded: Vec<&Encoded> = batch.iter().map(|i| &examples[*i].encoded).collect();
        let tensors = Batch::new(&encoded, base.config.pad_token_id, &device);
        let flat = values(bert.features(bert.look_up(&tensors), &tensors, &mut Dropout::none()))?;
        let mut rest = flat.as_slice();
        for index in batch {
            let (own, others) = rest.split_at(examples[*index].targets.len() * hidden);
            features[*index] = own.to_vec();
            rest = others;
        }
        let progress = Progress {
            stage: Stage::Features,
            epoch: 0,
            step: step + 1,
            steps,
            loss: 0.0,
            learning_rate: 0.0,
            sentences: batch.len(),
        };
        if observer.step(progress).is_break() {
            let step = step + 1;
            return Err(Error::Stopped { step, steps });
        }
    }
    Ok(features)
}

struct Head {
    hidden: usize,
    /// [tags, hidden]
    weight: Vec<f32>,
    bias: Vec<f32>,
    weight_moments: Moments,
    bias_moments: Moments,
}

impl Head {
    fn new(base: &Checkpoint) -> Result<Self, Error> {
        let weight = base.tensor("classifier.weight")?.to_vec();
        let bias = base.tensor("classifier.bias")?.to_vec();
        Ok(Self {
            hidden: base.config.hidden_size,
            weight_moments: Moments::new(weight.len()),
            bias_moments: Moments::new(bias.len()),
            weight,
            bias,
        })
    }

    /// The manifest of the method `head`: bias, then weight.
    fn in_manifest_order(mut self) -> Vec<f32> {
        self.bias.append(&mut self.weight);
        self.bias
    }

    fn step(
        &mut self,
        rows: &[(&[f32], usize)],
        options: &TrainOptions,
        step: usize,
        learning_rate: f64,
    ) -> Result<f32, Error> {
        let training = &options.training;
        let (loss, weight_gradient, bias_gradient) = self.gradient(rows);
        let squared = adamw::squared_norm(&weight_gradient) + adamw::squared_norm(&bias_gradient);
        if !loss.is_finite() || !squared.is_finite() {
            return Err(Error::NotFinite { step: step + 1 });
        }
        let rates = Rates {
            learning_rate,
            weight_decay: training.weight_decay,
            step: step + 1,
        };
        let scale = adamw::clip_factor(squared, training.max_grad_norm);
        self.weight_moments
            .update(&mut self.weight, &weight_gradient, rates.step(scale));
        let undecayed = Rates {
            weight_decay: 0.0,
            ..rates
        };
        self.bias_moments
            .update(&mut self.bias, &bias_gradient, undecayed.step(scale));
        Ok(loss)
    }

    /// The mean cross-entropy of the rows, and its gradient by weight and bias: with p the softmax
    /// of a row x with target t, Σ (p - e_t) xᵀ / n and Σ (p - e_t) / n.
    fn gradient(&self, rows: &[(&[f32], usize)]) -> (f32, Vec<f32>, Vec<f32>) {
        let errors: Vec<(f32, Vec<f32>)> = rows
            .par_iter()
            .map(|(x, target)| self.error(x, *target))
            .collect();
        let count = rows.len().max(1) as f32;
        let mut weight_gradient = vec![0.0; self.weight.len()];
        weight_gradient
            .par_chunks_mut(self.hidden)
            .enumerate()
            .for_each(|(tag, gradient)| {
                for ((x, _), (_, error)) in rows.iter().zip(&errors) {
                    let factor = error[tag] / count;
                    for (sum, value) in gradient.iter_mut().zip(*x) {
                        *sum += factor * value;
                    }
                }
            });
        let mut bias_gradient = vec![0.0; self.bias.len()];
        for (_, error) in &errors {
            for (sum, value) in bias_gradient.iter_mut().zip(error) {
                *sum += value / count;
            }
        }
        let loss = errors.iter().map(|(loss, _)| f64::from(*loss)).sum::<f64>();
        (
            (loss / f64::from(count)) as f32,
            weight_gradient,
            bias_gradient,
        )
    }

    /// The cross-entropy of one row, and p - e_t.
    fn error(&self, x: &[f32], target: usize) -> (f32, Vec<f32>) {
        let weights = self.weight.chunks_exact(self.hidden);
        let mut scores: Vec<f32> = weights
            .zip(&self.bias)
            .map(|(w, b)| dot(w, x) + b)
            .collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let own = scores[target] - largest;
        for score in &mut scores {
            *score = (*score - largest).exp();
        }
        let sum: f32 = scores.iter().sum();
        for score in &mut scores {
            *score /= sum;
        }
        scores[target] -= 1.0;
        (sum.ln() - own, scores)
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
