//! Private training of the head: DP-SGD on features that a frozen encoder made once.

use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::checkpoint::standardiser::{BIAS, BIASES, Standardiser, WEIGHT};
use fedner_shared::manifest::Manifest;
use rayon::prelude::*;

use super::adamw::Rates;
use super::examples::Example;
use super::features::{Features, Words};
use super::head::{FrozenRows, Gradient, Head};
use super::loss::Loss;
use super::options::TrainOptions;
use super::private::{Clip, Private, in_manifest_order};
use super::state::State;
use super::tag_sets::TagSets;
use super::training_loop::{Learner, Order};
use crate::Error;

/// Units whose clipped gradients one task adds up.
const TOGETHER: usize = 16;

pub(super) struct PrivateHeadLearner<'a, 'm> {
    examples: &'a [Example],
    /// The examples of each unit.
    units: &'a [Vec<usize>],
    options: &'a TrainOptions,
    private: Private<'m>,
    features: Features,
    loss: Loss,
    normal: Standardiser,
    /// As the base has them.
    frozen: FrozenRows,
    manifest: Manifest,
    /// In the coordinates of `normal`; its bias counts [`BIAS`] times.
    head: Head,
}

impl<'a, 'm> PrivateHeadLearner<'a, 'm> {
    pub(super) fn new(
        base: &Checkpoint,
        (examples, units): (&'a [Example], &'a [Vec<usize>]),
        features: Features,
        options: &'a TrainOptions,
        sets: &TagSets,
        private: Private<'m>,
    ) -> Result<Self, Error> {
        let mut head = Head::from_checkpoint(base)?;
        let normal = Standardiser::from_checkpoint(base)?;
        normal.enter(&mut head.weight, &mut head.bias);
        head.hold(options.training.proximal_mu);
        Ok(Self {
            examples,
            units,
            options,
            private,
            features,
            loss: Loss::new(&options.training, sets),
            normal,
            frozen: FrozenRows::default(),
            manifest: base
                .config
                .manifest(&options.method.into(), sets.tags().len()),
            head,
        })
    }

    /// Keeps rows of the base as they are.
    pub(super) fn freeze(&mut self, base: &Checkpoint, rows: &[usize]) -> Result<(), Error> {
        let kept = Head::from_checkpoint(base)?;
        self.frozen = FrozenRows::new(rows, &kept.weight, &kept.bias);
        self.head.frozen = FrozenRows::new(rows, &self.head.weight, &self.head.bias);
        Ok(())
    }

    /// The unit's mean loss, and its gradient by weight and bias together.
    fn gradient(&self, mut words: Words) -> (f64, Vec<f32>) {
        self.normal.apply(&mut words.rows);
        let (loss, gradient) = self.head.gradient(&words.pairs(), BIAS, &self.loss);
        let Gradient {
            weight: mut flat,
            mut bias,
            ..
        } = gradient;
        self.head.frozen.clear(&mut flat, &mut bias);
        flat.extend(bias);
        (f64::from(loss), flat)
    }

    /// The losses of units (their examples) together, and the sum of their gradients, each brought
    /// within C. A task reads the features of one unit after another, so that few are in memory.
    fn clipped_sum(&self, units: &[&Vec<usize>]) -> Result<(f64, Vec<f64>), Error> {
        let parts: Vec<(f64, Vec<f64>)> = units
            .par_chunks(TOGETHER)
            .map(|units| {
                let (mut total, mut sum) = (0.0, vec![0.0; self.head.dimension()]);
                for unit in units {
                    let words = self.features.words(self.examples, unit)?;
                    let (loss, gradient) = self.gradient(words);
                    total += loss;
                    add_clipped(&mut sum, &gradient, self.private.clip);
                }
                Ok((total, sum))
            })
            .collect::<Result<_, Error>>()?;
        let (mut total, mut sum) = (0.0, vec![0.0; self.head.dimension()]);
        for (loss, part) in &parts {
            total += loss;
            for (sum, part) in sum.iter_mut().zip(part) {
                *sum += part;
            }
        }
        Ok((total, sum))
    }
}

/// What is not finite counts as nothing, so that no unit can do more than its clip allows.
fn add_clipped(sum: &mut [f64], gradient: &[f32], clip: Clip) {
    let squared: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    let Some(factor) = clip.factor(squared.sqrt()) else {
        return;
    };
    for (sum, gradient) in sum.iter_mut().zip(gradient) {
        *sum += factor * f64::from(*gradient);
    }
}

impl Learner for PrivateHeadLearner<'_, '_> {
    /// Every step has a sample of its own.
    fn epoch(&mut self, _: &Order, _: u32) -> Vec<Vec<Vec<usize>>> {
        self.private.samples(self.units)
    }

    /// `batches` has one list of examples a unit.
    fn step(&mut self, batches: &[Vec<usize>], rates: Rates) -> Result<f32, Error> {
        // A unit without a word to learn from takes its place in a sample and adds nothing.
        let units: Vec<_> = batches.iter().filter(|unit| !unit.is_empty()).collect();
        let (total, mut sum) = self.clipped_sum(&units)?;
        if self.private.mechanism.leaves() {
            let biases = sum.split_off(self.head.weight.len());
            let parts = [(WEIGHT, sum), (BIASES, biases)];
            let parts = parts.map(|(name, part)| (name.to_owned(), part));
            sum = in_manifest_order(&self.manifest, &parts.into())?;
        }
        let mut sum = self.private.released(sum)?;
        let head = &mut self.head;
        let (by_weight, by_bias) = sum.split_at_mut(head.weight.len());
        let largest = self.options.training.max_grad_norm;
        head.update([by_weight, by_bias, &mut []], largest, rates)?;
        Ok((total / units.len().max(1) as f64) as f32)
    }

    fn weights(&mut self, manifest: &Manifest) -> Result<Vec<f32>, Error> {
        let (mut weight, mut bias) = (self.head.weight.clone(), self.head.bias.clone());
        self.normal.leave(&mut weight, &mut bias);
        self.frozen.restore(&mut weight, &mut bias);
        Head::new(self.normal.width(), weight, bias, None).flat(manifest)
    }

    fn save(&mut self, state: &mut State) -> Result<(), Error> {
        self.head.save(state);
        Ok(())
    }

    fn restore(&mut self, state: &State) -> Result<(), Error> {
        self.head.restore(state)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use fedner_shared::plan::Training;

    use super::*;
    use crate::Sentence;
    use crate::bert::{leaf, values};

    /// The gradient that every unit is clipped by is that of its mean loss by weight and bias.
    #[test]
    fn a_units_gradient_is_that_of_autodiff() {
        let (tags, width, words) = (3, 4, 5);
        let number = |index: usize| ((index * 7919 + 13) % 97) as f32 / 97.0 - 0.5;
        let weight: Vec<f32> = (0..tags * width).map(number).collect();
        let bias: Vec<f32> = (50..50 + tags).map(number).collect();
        let rows: Vec<f32> = (100..100 + words * width).map(number).collect();
        // Where the fourth word stands only the first type is annotated.
        let targets = [0, 2, 1, 3, 0];
        let names = ["O", "B-A", "B-B"].map(str::to_owned);
        let of_a = Sentence {
            annotated: Some(["A".to_owned()].into()),
            ..Sentence::default()
        };
        let sets = TagSets::new(&names, &[of_a]);
        let loss = Loss::new(&Training::default(), &sets);

        let device = Device::flex().autodiff();
        let w: Tensor<2> = leaf(TensorData::new(weight.clone(), [tags, width]), &device);
        let b: Tensor<1> = leaf(TensorData::new(bias.clone(), [tags]), &device);
        let x = Tensor::<2>::from_data(TensorData::new(rows.clone(), [words, width]), &device);
        let scores = x.matmul(w.clone().transpose()) + (b.clone() * BIAS).unsqueeze();
        let value = loss.of_logits(scores, &targets, words as f64);
        let expected_loss = values(value.clone().inner()).expect("loss")[0];
        let mut gradients = value.backward();
        let mut expected = values(w.grad_remove(&mut gradients).expect("weight")).expect("values");
        expected.extend(values(b.grad_remove(&mut gradients).expect("bias")).expect("values"));

        let head = Head::new(width, weight, bias, None);
        let rows: Vec<(&[f32], usize)> = rows.chunks_exact(width).zip(targets).collect();
        let (found_loss, gradient) = head.gradient(&rows, BIAS, &loss);
        let found = [gradient.weight, gradient.bias].concat();
        assert!((found_loss - expected_loss).abs() < 1e-6);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn gradients_are_clipped_to_the_norm_and_not_stretched() {
        let clip = Clip::threshold(1.0);
        let mut sum = vec![0.0; 2];
        add_clipped(&mut sum, &[3.0, 4.0], clip);
        assert!((sum[0] - 0.6).abs() < 1e-12 && (sum[1] - 0.8).abs() < 1e-12);
        add_clipped(&mut sum, &[0.3, 0.4], clip);
        assert!((sum[0] - 0.9).abs() < 1e-6 && (sum[1] - 1.2).abs() < 1e-6);
        let before = sum.clone();
        add_clipped(&mut sum, &[f32::NAN, 1.0], clip);
        add_clipped(&mut sum, &[f32::INFINITY, 1.0], clip);
        add_clipped(&mut sum, &[0.0, 0.0], clip);
        assert_eq!(sum, before);
    }
}
