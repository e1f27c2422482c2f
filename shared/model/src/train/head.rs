//! Training of the head on a frozen encoder: softmax regression over features made once.
//!
//! Nothing is dropped out: the features are those that tagging will see.

use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::manifest::Manifest;
use rayon::prelude::*;

use super::adamw::{self, Moments, Rates};
use super::examples::Example;
use super::features::{Features, Words};
use super::loss::Loss;
use super::options::TrainOptions;
use super::state::State;
use super::tag_sets::TagSets;
use super::training_loop::Learner;
use crate::Error;
use crate::crf::Crf;

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
        sets: &TagSets,
    ) -> Result<Self, Error> {
        let mut head = Head::from_checkpoint(base)?;
        head.hold(options.training.proximal_mu);
        Ok(Self {
            examples,
            options,
            features,
            loss: Loss::new(&options.training, sets),
            head,
        })
    }

    /// Keeps rows as they are.
    pub(super) fn freeze(&mut self, rows: &[usize]) {
        self.head.frozen = FrozenRows::new(rows, &self.head.weight, &self.head.bias);
    }
}

impl Learner for HeadLearner<'_> {
    fn step(&mut self, batches: &[Vec<usize>], rates: Rates) -> Result<f32, Error> {
        let words = self.features.words(self.examples, &batches.concat())?;
        let head = &mut self.head;
        let (loss, mut gradient) = match &head.crf {
            Some(crf) => head.gradient_of_sentences(&words, crf, self.loss.sets()),
            None => head.gradient(&words.pairs(), 1.0, &self.loss),
        };
        let largest = self.options.training.max_grad_norm;
        head.update(gradient.parts(), largest, rates)?;
        if loss.is_finite() {
            Ok(loss)
        } else {
            Err(Error::NotFinite { step: rates.step })
        }
    }

    fn weights(&mut self, manifest: &Manifest) -> Result<Vec<f32>, Error> {
        self.head.flat(manifest)
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
    /// As the parts of a [`Gradient`].
    weights: [Vec<f32>; 3],
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
    crf: Option<Crf>,
    /// As the parts of a [`Gradient`].
    moments: [Moments; 3],
    start: Option<Start>,
    pub(super) frozen: FrozenRows,
}

/// Rows that no step changes, with what they have.
#[derive(Debug, Clone, Default)]
pub(super) struct FrozenRows(Vec<(usize, Vec<f32>, f32)>);

impl FrozenRows {
    pub(super) fn new(rows: &[usize], weight: &[f32], bias: &[f32]) -> Self {
        let width = weight.len() / bias.len().max(1);
        let row = |row: &usize| {
            (
                *row,
                weight[row * width..(row + 1) * width].to_vec(),
                bias[*row],
            )
        };
        Self(rows.iter().map(row).collect())
    }

    /// Gives the rows back what they had.
    pub(super) fn restore(&self, weight: &mut [f32], bias: &mut [f32]) {
        for (row, values, own) in &self.0 {
            weight[row * values.len()..(row + 1) * values.len()].copy_from_slice(values);
            bias[*row] = *own;
        }
    }

    /// Takes the rows out of a gradient, so that they use up none of its largest norm.
    pub(super) fn clear<T: Copy + Default>(&self, weight: &mut [T], bias: &mut [T]) {
        for (row, values, _) in &self.0 {
            weight[row * values.len()..(row + 1) * values.len()].fill(T::default());
            bias[*row] = T::default();
        }
    }
}

/// The gradient of a loss by a head's weights.
#[derive(Debug)]
pub(super) struct Gradient {
    /// [tags, hidden]
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    /// In the order of [`Crf::weights`]; empty without a CRF.
    crf: Vec<f32>,
}

impl Gradient {
    pub(super) fn parts(&mut self) -> [&mut [f32]; 3] {
        [&mut self.weight, &mut self.bias, &mut self.crf]
    }
}

/// The names that the parts have in a kept state.
const PARTS: [&str; 3] = ["weight", "bias", "crf"];

impl Head {
    pub(super) fn from_checkpoint(base: &Checkpoint) -> Result<Self, Error> {
        let weight = base.tensor("classifier.weight")?.to_vec();
        let bias = base.tensor("classifier.bias")?.to_vec();
        let crf = Crf::from_checkpoint(base)?;
        Ok(Self::new(base.config.head_width(), weight, bias, crf))
    }

    pub(super) fn new(hidden: usize, weight: Vec<f32>, bias: Vec<f32>, crf: Option<Crf>) -> Self {
        let mut head = Self {
            hidden,
            weight,
            bias,
            crf,
            moments: [0; 3].map(Moments::new),
            start: None,
            frozen: FrozenRows::default(),
        };
        head.moments = head.parts().map(|part| Moments::new(part.len()));
        head
    }

    /// The weights, as the parts of a [`Gradient`].
    fn parts(&mut self) -> [&mut [f32]; 3] {
        let crf = self.crf.as_mut().map(|crf| crf.weights.as_mut_slice());
        [&mut self.weight, &mut self.bias, crf.unwrap_or_default()]
    }

    /// Holds it from now on close to where it is, with the strength `mu`; 0 leaves it free.
    pub(super) fn hold(&mut self, mu: f64) {
        let mu = mu as f32;
        self.start = (mu > 0.0).then(|| Start {
            mu,
            weights: self.parts().map(|part| part.to_vec()),
        });
    }

    /// Weights in all, those of a CRF left out.
    pub(super) fn dimension(&self) -> usize {
        self.weight.len() + self.bias.len()
    }

    /// The weights in the order of `manifest`.
    pub(super) fn flat(&self, manifest: &Manifest) -> Result<Vec<f32>, Error> {
        let mut flat = Vec::with_capacity(manifest.dimension());
        let tags = self.bias.len();
        for spec in &manifest.tensors {
            let part = match spec.name.as_str() {
                "classifier.weight" => Some(self.weight.as_slice()),
                "classifier.bias" => Some(self.bias.as_slice()),
                other => self
                    .crf
                    .as_ref()
                    .and_then(|crf| Crf::part(tags, &crf.weights, other)),
            };
            let part = part.ok_or_else(|| checkpoint::Error::Missing(spec.name.clone()))?;
            flat.extend_from_slice(part);
        }
        Ok(flat)
    }

    pub(super) fn save(&mut self, state: &mut State) {
        for (name, part) in PARTS.into_iter().zip(self.parts()) {
            state.put(name, part);
        }
        for (name, moments) in PARTS.into_iter().zip(&self.moments) {
            moments.save(name, state);
        }
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<(), Error> {
        for (name, part) in PARTS.into_iter().zip(self.parts()) {
            state.restore(name, part)?;
        }
        for (name, moments) in PARTS.into_iter().zip(&mut self.moments) {
            moments.restore(name, state)?;
        }
        Ok(())
    }

    /// A step against this gradient, that of its hold added, of the norm `largest` at most. Only
    /// the weights of features are decayed.
    pub(super) fn update(
        &mut self,
        mut gradient: [&mut [f32]; 3],
        largest: f64,
        rates: Rates,
    ) -> Result<(), Error> {
        if let Some(Start { mu, weights }) = self.start.take() {
            let parts = self.parts().into_iter().zip(&weights);
            for (gradient, (now, start)) in gradient.iter_mut().zip(parts) {
                pull(gradient, now, start, mu);
            }
            self.start = Some(Start { mu, weights });
        }
        let [weight, bias, _] = &mut gradient;
        self.frozen.clear(weight, bias);
        let squared = gradient.iter().map(|part| adamw::squared_norm(part)).sum();
        if !f64::is_finite(squared) {
            return Err(Error::NotFinite { step: rates.step });
        }
        let scale = adamw::clip_factor(squared, largest);
        let undecayed = Rates {
            weight_decay: 0.0,
            ..rates
        };
        let mut moments = std::mem::replace(&mut self.moments, [0; 3].map(Moments::new));
        let parts = self.parts().into_iter().zip(&gradient);
        let parts = parts.zip([rates, undecayed, undecayed]);
        for (moments, ((part, gradient), rates)) in moments.iter_mut().zip(parts) {
            moments.update(part, gradient, rates.step(scale));
        }
        self.moments = moments;
        self.frozen.restore(&mut self.weight, &mut self.bias);
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
    ) -> (f32, Gradient) {
        let errors: Vec<(f32, Vec<f32>)> = rows
            .par_iter()
            .map(|(x, target)| {
                let mut scores = self.scores(x, c);
                (loss.of_scores(&mut scores, *target), scores)
            })
            .collect();
        let total = loss.total(rows.iter().map(|(_, target)| *target));
        let sum = errors.iter().map(|(loss, _)| f64::from(*loss)).sum::<f64>();
        let errors = errors.iter().map(|(_, error)| error.as_slice());
        let along = rows.iter().map(|(x, _)| *x).zip(errors);
        let gradient = self.gradient_along(&along.collect::<Vec<_>>(), total as f32, c);
        ((sum / total) as f32, gradient)
    }

    /// The mean loss a word of the sentences under the CRF, and its gradient.
    fn gradient_of_sentences(&self, words: &Words, crf: &Crf, sets: &TagSets) -> (f32, Gradient) {
        let rows = words.pairs();
        let scores: Vec<Vec<f32>> = rows.par_iter().map(|(x, _)| self.scores(x, 1.0)).collect();
        let mut scores = scores.concat();
        let (sentences, count) = (words.sentences(), rows.len() as f64);
        let (loss, by_crf) = crf.gradients(&mut scores, &sentences, sets, count);
        let errors = scores.chunks_exact(self.bias.len());
        let along = rows.iter().map(|(x, _)| *x).zip(errors);
        let mut gradient = self.gradient_along(&along.collect::<Vec<_>>(), 1.0, 1.0);
        gradient.crf = by_crf;
        (loss, gradient)
    }

    /// Σ e xᵀ and Σ e·c over features x and the gradients e by their scores, divided.
    fn gradient_along(&self, rows: &[(&[f32], &[f32])], divisor: f32, c: f32) -> Gradient {
        let mut weight = vec![0.0; self.weight.len()];
        weight
            .par_chunks_mut(self.hidden)
            .enumerate()
            .for_each(|(tag, gradient)| {
                for (x, error) in rows {
                    let factor = error[tag] / divisor;
                    for (sum, value) in gradient.iter_mut().zip(*x) {
                        *sum += factor * value;
                    }
                }
            });
        let mut bias = vec![0.0; self.bias.len()];
        for (_, error) in rows {
            for (sum, value) in bias.iter_mut().zip(*error) {
                *sum += c * value / divisor;
            }
        }
        Gradient {
            weight,
            bias,
            crf: Vec::new(),
        }
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
