//! The loss of a word: cross-entropy, weighted by type or focused on what is hard.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use fedner_shared::plan::Training;

/// -wₜ·(1 - p)^γ·ln p, with p the softmax probability of the right tag t, summed over the words of
/// a step and divided by the sum of their weights wₜ.
///
/// With γ = 0 it is the weighted cross-entropy of `torch.nn.CrossEntropyLoss(weight=w)`; with
/// γ > 0 the focal loss (Lin et al. 2017, equation 5), α being w.
#[derive(Debug, Clone)]
pub(super) struct Loss {
    /// By tag.
    weights: Vec<f32>,
    weighted: bool,
    gamma: f32,
}

impl Loss {
    pub(super) fn new(training: &Training, tags: &[String]) -> Self {
        let weight = |tag: &String| {
            let label = tag.split_once('-').map_or(tag.as_str(), |(_, label)| label);
            let weight = training.class_weights.get(label).copied();
            weight.unwrap_or(1.0) as f32
        };
        Self {
            weights: tags.iter().map(weight).collect(),
            weighted: !training.class_weights.is_empty(),
            gamma: training.focal_gamma as f32,
        }
    }

    /// What the losses of these words are divided with, over a whole step.
    pub(super) fn total(&self, targets: impl Iterator<Item = usize>) -> f64 {
        targets.map(|target| f64::from(self.weights[target])).sum()
    }

    /// The words' part of the loss of a step with the weight `total`.
    pub(super) fn of_logits(&self, logits: Tensor<2>, targets: &[usize], total: f64) -> Tensor<1> {
        let (rows, device) = (targets.len(), logits.device().inner());
        let indices = targets.iter().map(|target| *target as i32).collect();
        let data = TensorData::new::<i32, _>(indices, [rows, 1]);
        let indices = Tensor::<2, Int>::from_data(data, &device);
        let mut logs = log_softmax(logits, 1).gather(1, indices);
        if self.gamma > 0.0 {
            let others = logs.clone().exp().neg() + 1.0;
            // A certain word has no gradient, where the power's own would be infinite for γ < 1.
            logs = logs * others.clamp_min(1e-12).powf_scalar(self.gamma);
        }
        if self.weighted {
            let weights = targets.iter().map(|target| self.weights[*target]).collect();
            let data = TensorData::new::<f32, _>(weights, [rows, 1]);
            logs = logs * Tensor::<2>::from_data(data, &device);
        }
        logs.sum() * (-1.0 / total)
    }

    /// The loss of one word, undivided. `scores` becomes its gradient by the scores.
    pub(super) fn of_scores(&self, scores: &mut [f32], target: usize) -> f32 {
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let own = scores[target] - largest;
        for score in scores.iter_mut() {
            *score = (*score - largest).exp();
        }
        let sum: f32 = scores.iter().sum();
        let log = own - sum.ln();
        let (weight, gamma) = (self.weights[target], self.gamma);
        let mut factor = weight;
        let mut loss = -weight * log;
        if gamma > 0.0 {
            // By the scores: (p - e)·((1 - p)^γ - γ·p·(1 - p)^(γ - 1)·ln p).
            let p = log.exp();
            let others = (1.0 - p).max(1e-12);
            let focus = others.powf(gamma);
            loss *= focus;
            factor *= focus - gamma * p * focus / others * log;
        }
        for score in scores.iter_mut() {
            *score *= factor / sum;
        }
        scores[target] -= factor;
        loss
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::bert::{leaf, values};

    const LOGITS: [f32; 12] = [
        1.0, -0.5, 0.2, 3.0, 0.1, 0.4, -1.0, 2.0, 0.0, 9.0, -4.0, 0.5,
    ];
    const TARGETS: [usize; 4] = [0, 2, 1, 0];

    fn loss(weights: Vec<f32>, gamma: f32) -> Loss {
        let weighted = true;
        Loss {
            weights,
            weighted,
            gamma,
        }
    }

    fn losses() -> Vec<Loss> {
        let mut all = Vec::new();
        for gamma in [0.0, 0.5, 2.0] {
            for weights in [[1.0, 1.0, 1.0], [0.5, 3.0, 2.0]] {
                all.push(loss(weights.to_vec(), gamma));
            }
        }
        all
    }

    fn by_rows(loss: &Loss, logits: &[f32]) -> (f64, Vec<f32>) {
        let total = loss.total(TARGETS.into_iter());
        let mut gradient = logits.to_vec();
        let rows = gradient.chunks_exact_mut(3).zip(TARGETS);
        let sum: f64 = rows
            .map(|(row, target)| f64::from(loss.of_scores(row, target)))
            .sum();
        for value in &mut gradient {
            *value /= total as f32;
        }
        (sum / total, gradient)
    }

    #[test]
    fn both_forms_agree_in_value_and_gradient() {
        let device = Device::flex().autodiff();
        for loss in losses() {
            let total = loss.total(TARGETS.into_iter());
            let logits: Tensor<2> = leaf(TensorData::new(LOGITS.to_vec(), [4, 3]), &device);
            let value = loss.of_logits(logits.clone(), &TARGETS, total);
            let found = values(value.clone().inner()).expect("value")[0];
            let mut gradients = value.backward();
            let gradient = values(logits.grad_remove(&mut gradients).expect("gradient"));
            let (expected, by_rows) = by_rows(&loss, &LOGITS);
            assert!((f64::from(found) - expected).abs() < 1e-6, "{loss:?}");
            for (a, b) in gradient.expect("values").iter().zip(&by_rows) {
                assert!((a - b).abs() < 1e-6, "{a} {b} {loss:?}");
            }
        }
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        for loss in losses() {
            let (_, gradient) = by_rows(&loss, &LOGITS);
            for index in 0..LOGITS.len() {
                let at = |shift: f32| {
                    let mut logits = LOGITS;
                    logits[index] += shift;
                    by_rows(&loss, &logits).0
                };
                let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                let found = f64::from(gradient[index]);
                assert!((slope - found).abs() < 1e-4, "{slope} {found} {loss:?}");
            }
        }
    }

    /// `torch.nn.CrossEntropyLoss(weight=torch.tensor([0.5, 3.0, 2.0]))` of the same numbers is
    /// Σ w·nll / Σ w.
    #[test]
    fn weights_divide_as_in_pytorch() {
        let (loss, plain) = (loss(vec![0.5, 3.0, 2.0], 0.0), loss(vec![1.0; 3], 0.0));
        let rows = LOGITS.chunks_exact(3).zip(TARGETS);
        let sum: f64 = rows
            .map(|(row, target)| {
                let own = f64::from(plain.of_scores(&mut row.to_vec(), target));
                own * f64::from(loss.weights[target])
            })
            .sum();
        assert!((by_rows(&loss, &LOGITS).0 - sum / 6.0).abs() < 1e-6);
    }
}
