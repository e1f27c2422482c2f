//! The loss of a word: cross-entropy, weighted by type or focused on what is hard, or the marginal likelihood of
//! several tags.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use fedner_shared::plan::Training;

use super::tag_sets::{TagSets, Taught};

/// -wₜ·(1 - p)^γ·ln p, with p the softmax probability of the right tag t, summed over the words of
/// a step and divided by the sum of their weights wₜ. Where one of several tags may be right
/// ([`TagSets`]), p is the sum of their probabilities, and the weight is that of `O`.
///
/// Where a parent says how probable it takes each tag to be ([`Taught`]), the loss is the cross-entropy between what
/// it says and what the model says: -wₜ·Σ π·ln p over the tags that the parent knows, and over the rest together.
///
/// With γ = 0 it is the weighted cross-entropy of `torch.nn.CrossEntropyLoss(weight=w)`; with
/// γ > 0 the focal loss (Lin et al. 2017, equation 5), α being w.
#[derive(Debug, Clone)]
pub(super) struct Loss {
    /// By tag.
    weights: Vec<f32>,
    weighted: bool,
    gamma: f32,
    sets: TagSets,
}

/// Beside this the exponential of any score is 0.
const NEVER: f32 = -1e9;

impl Loss {
    pub(super) fn new(training: &Training, sets: &TagSets) -> Self {
        let weight = |tag: &String| {
            let label = tag.split_once('-').map_or(tag.as_str(), |(_, label)| label);
            let weight = training.class_weights.get(label).copied();
            weight.unwrap_or(1.0) as f32
        };
        Self {
            weights: sets.tags().iter().map(weight).collect(),
            weighted: !training.class_weights.is_empty(),
            gamma: training.focal_gamma as f32,
            sets: sets.clone(),
        }
    }

    pub(super) fn sets(&self) -> &TagSets {
        &self.sets
    }

    /// A set has the weight of its first tag, which is `O`.
    fn weight(&self, target: usize) -> f32 {
        self.weights[self.sets.of(target)[0]]
    }

    /// What the losses of these words are divided with, over a whole step.
    pub(super) fn total(&self, targets: impl Iterator<Item = usize>) -> f64 {
        targets.map(|target| f64::from(self.weight(target))).sum()
    }

    /// The words' part of the loss of a step with the weight `total`.
    pub(super) fn of_logits(&self, logits: Tensor<2>, targets: &[usize], total: f64) -> Tensor<1> {
        let (rows, device) = (targets.len(), logits.device().inner());
        let mut logs = self.logs(log_softmax(logits, 1), targets);
        if self.gamma > 0.0 {
            let others = logs.clone().exp().neg() + 1.0;
            // A certain word has no gradient, where the power's own would be infinite for γ < 1.
            logs = logs * others.clamp_min(1e-12).powf_scalar(self.gamma);
        }
        if self.weighted {
            let weights = targets.iter().map(|target| self.weight(*target)).collect();
            let data = TensorData::new::<f32, _>(weights, [rows, 1]);
            logs = logs * Tensor::<2>::from_data(data, &device);
        }
        logs.sum() * (-1.0 / total)
    }

    /// The logarithm of each word's p, of those of all tags; of a word that a parent speaks of, their mean by what it
    /// says: [words, 1].
    fn logs(&self, all: Tensor<2>, targets: &[usize]) -> Tensor<2> {
        let ([rows, tags], device) = (all.dims(), all.device().inner());
        if targets.iter().all(|target| self.sets.is_single(*target)) {
            let indices = targets.iter().map(|target| *target as i32).collect();
            let data = TensorData::new::<i32, _>(indices, [rows, 1]);
            return all.gather(1, Tensor::<2, Int>::from_data(data, &device));
        }
        let mut barred = vec![NEVER; rows * tags];
        for (row, target) in barred.chunks_exact_mut(tags).zip(targets) {
            let together = match self.sets.taught_of(*target) {
                Some(taught) => &taught.rest,
                None => self.sets.of(*target),
            };
            for tag in together {
                row[*tag] = 0.0;
            }
        }
        let barred = Tensor::<2>::from_data(TensorData::new(barred, [rows, tags]), &device);
        let allowed = all.clone() + barred;
        // What is taken off and added again has no gradient.
        let largest = allowed.clone().detach().max_dim(1);
        let sum = (allowed - largest.clone()).exp().sum_dim(1);
        let together = sum.log() + largest;
        let taught = targets.iter().map(|target| self.sets.taught_of(*target));
        if taught.clone().all(|taught| taught.is_none()) {
            return together;
        }
        let (mut alone, mut of_rest) = (vec![0.0f32; rows * tags], Vec::with_capacity(rows));
        for (row, taught) in alone.chunks_exact_mut(tags).zip(taught) {
            of_rest.push(taught.map_or(1.0, |taught| taught.parts[taught.rest[0]]));
            if let Some(taught) = taught {
                row.copy_from_slice(&taught.parts);
                row[taught.rest[0]] = 0.0;
            }
        }
        let alone = Tensor::<2>::from_data(TensorData::new(alone, [rows, tags]), &device);
        let of_rest = Tensor::<2>::from_data(TensorData::new(of_rest, [rows, 1]), &device);
        (all * alone).sum_dim(1) + together * of_rest
    }

    /// The loss of one word, undivided. `scores` becomes its gradient by the scores.
    pub(super) fn of_scores(&self, scores: &mut [f32], target: usize) -> f32 {
        if let Some(taught) = self.sets.taught_of(target) {
            return by_parent(scores, taught, self.weight(target));
        }
        let allowed = self.sets.of(target);
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Of several tags each has its part q of their probability, of one tag the whole.
        let (own, parts) = match allowed {
            [_] => (scores[target] - largest, Vec::new()),
            _ => parts(scores, allowed, largest),
        };
        for score in scores.iter_mut() {
            *score = (*score - largest).exp();
        }
        let sum: f32 = scores.iter().sum();
        let log = own - sum.ln();
        let (weight, gamma) = (self.weight(target), self.gamma);
        let mut factor = weight;
        let mut loss = -weight * log;
        if gamma > 0.0 {
            // By the scores: (p - q)·((1 - p)^γ - γ·p·(1 - p)^(γ - 1)·ln p).
            let p = log.exp();
            let others = (1.0 - p).max(1e-12);
            let focus = others.powf(gamma);
            loss *= focus;
            factor *= focus - gamma * p * focus / others * log;
        }
        for score in scores.iter_mut() {
            *score *= factor / sum;
        }
        if let [only] = allowed {
            scores[*only] -= factor;
        }
        for (tag, part) in allowed.iter().zip(parts) {
            scores[*tag] -= factor * part;
        }
        loss
    }
}

/// The loss of one word of which a parent speaks. `scores` becomes its gradient by the scores: p - π, where the
/// rest has the parent's part of it as the model shares it out.
fn by_parent(scores: &mut [f32], taught: &Taught, weight: f32) -> f32 {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (of_rest, shares) = parts(scores, &taught.rest, largest);
    let first = taught.rest[0];
    let total: f32 = scores.iter().map(|score| (score - largest).exp()).sum();
    let (log_total, own) = (total.ln(), taught.parts[first]);
    let mut loss = -own * (of_rest - log_total);
    for (tag, (score, part)) in scores.iter_mut().zip(&taught.parts).enumerate() {
        let log = *score - largest - log_total;
        *score = weight * log.exp();
        if tag != first {
            loss -= part * log;
            *score -= weight * part;
        }
    }
    for (tag, share) in taught.rest.iter().zip(shares) {
        scores[*tag] -= weight * own * share;
    }
    weight * loss
}

/// ln Σ exp of the scores of some tags, `largest` taken off, and each one's part of the sum.
fn parts(scores: &[f32], tags: &[usize], largest: f32) -> (f32, Vec<f32>) {
    let own = tags.iter().map(|tag| scores[*tag]);
    let top = own.clone().fold(f32::NEG_INFINITY, f32::max);
    let mut parts: Vec<f32> = own.map(|score| (score - top).exp()).collect();
    let sum: f32 = parts.iter().sum();
    for part in &mut parts {
        *part /= sum;
    }
    (top - largest + sum.ln(), parts)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::Sentence;
    use crate::bert::{leaf, values};

    const LOGITS: [f32; 12] = [
        1.0, -0.5, 0.2, 3.0, 0.1, 0.4, -1.0, 2.0, 0.0, 9.0, -4.0, 0.5,
    ];
    const TARGETS: [usize; 4] = [0, 2, 1, 0];
    /// The first and the last word may have the second type too.
    const OPEN: [usize; 4] = [3, 2, 1, 3];
    /// A parent has spoken of the first word, and of the last.
    const TAUGHT: [usize; 4] = [5, 2, 4, 6];

    fn loss(weights: Vec<f32>, gamma: f32) -> Loss {
        let tags = ["O", "B-A", "B-B"].map(str::to_owned);
        let of_a = Sentence {
            annotated: Some(["A".to_owned()].into()),
            ..Sentence::default()
        };
        let of_none = Sentence {
            annotated: Some([].into()),
            ..Sentence::default()
        };
        let mut sets = TagSets::new(&tags, &[of_a, of_none]);
        // Of the first set it knows both tags, of the second it does not know the third.
        assert_eq!(sets.taught(3, &[0.3, -1.0, 0.9], &[0, 2]), 5);
        assert_eq!(sets.taught(4, &[0.3, -1.0, 0.9], &[0, 1]), 6);
        // Of a set without a tag that it learnt it says nothing.
        assert_eq!(sets.taught(3, &[0.3, -1.0, 0.9], &[0, 1]), 3);
        assert_eq!(sets.taught(2, &[0.3, -1.0, 0.9], &[0, 1]), 2);
        Loss {
            weights,
            weighted: true,
            gamma,
            sets,
        }
    }

    fn losses() -> Vec<(Loss, [usize; 4])> {
        let mut all = Vec::new();
        for gamma in [0.0, 0.5, 2.0] {
            for weights in [[1.0, 1.0, 1.0], [0.5, 3.0, 2.0]] {
                for targets in [TARGETS, OPEN, TAUGHT] {
                    // What a parent says is not focused.
                    if gamma <= 0.0 || targets != TAUGHT {
                        all.push((loss(weights.to_vec(), gamma), targets));
                    }
                }
            }
        }
        all
    }

    fn by_rows(loss: &Loss, targets: [usize; 4], logits: &[f32]) -> (f64, Vec<f32>) {
        let total = loss.total(targets.into_iter());
        let mut gradient = logits.to_vec();
        let rows = gradient.chunks_exact_mut(3).zip(targets);
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
        for (loss, targets) in losses() {
            let total = loss.total(targets.into_iter());
            let logits: Tensor<2> = leaf(TensorData::new(LOGITS.to_vec(), [4, 3]), &device);
            let value = loss.of_logits(logits.clone(), &targets, total);
            let found = values(value.clone().inner()).expect("value")[0];
            let mut gradients = value.backward();
            let gradient = values(logits.grad_remove(&mut gradients).expect("gradient"));
            let (expected, by_rows) = by_rows(&loss, targets, &LOGITS);
            assert!((f64::from(found) - expected).abs() < 1e-6, "{loss:?}");
            for (a, b) in gradient.expect("values").iter().zip(&by_rows) {
                assert!((a - b).abs() < 1e-6, "{a} {b} {loss:?}");
            }
        }
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        for (loss, targets) in losses() {
            let (_, gradient) = by_rows(&loss, targets, &LOGITS);
            for index in 0..LOGITS.len() {
                let at = |shift: f32| {
                    let mut logits = LOGITS;
                    logits[index] += shift;
                    by_rows(&loss, targets, &logits).0
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
        assert!((by_rows(&loss, TARGETS, &LOGITS).0 - sum / 6.0).abs() < 1e-6);
    }

    #[test]
    fn a_parents_word_is_learnt_as_it_says_it() {
        let loss = loss(vec![1.0; 3], 0.0);
        let exps = |scores: [f64; 3]| scores.map(f64::exp);
        let parent = exps([0.3, -1.0, 0.9]);
        for row in LOGITS.chunks_exact(3) {
            let own = exps([0, 1, 2].map(|tag| f64::from(row[tag])));
            let log = |tags: &[usize]| {
                let some: f64 = tags.iter().map(|tag| own[*tag]).sum();
                (some / own.iter().sum::<f64>()).ln()
            };
            let both = parent[0] + parent[2];
            let first = -(parent[0] / both * log(&[0]) + parent[2] / both * log(&[2]));
            // Of the third tag, which it does not know, it says `O`.
            let both = parent[0] + parent[1];
            let second = -(parent[0] / both * log(&[0, 2]) + parent[1] / both * log(&[1]));
            for (target, expected) in [(5, first), (6, second)] {
                let found = f64::from(loss.of_scores(&mut row.to_vec(), target));
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
        // Who says the same as the parent has nothing to learn.
        let mut same = [0.3, -30.0, 0.9];
        loss.of_scores(&mut same, 5);
        assert!(same.iter().all(|slope| slope.abs() < 1e-6), "{same:?}");
    }

    #[test]
    fn several_tags_have_the_loss_of_their_probabilities_together() {
        let loss = loss(vec![1.0; 3], 0.0);
        for row in LOGITS.chunks_exact(3) {
            let exps: Vec<f64> = row.iter().map(|s| f64::from(*s).exp()).collect();
            let expected = -((exps[0] + exps[2]) / exps.iter().sum::<f64>()).ln();
            let found = f64::from(loss.of_scores(&mut row.to_vec(), 3));
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        // All of them far below the one that is not allowed.
        let mut row = [-300.0, 300.0, -301.0];
        assert!((loss.of_scores(&mut row, 3) - 599.687).abs() < 1e-2);
        assert!(row.iter().all(|value| value.is_finite()));
        assert!((row[0] + 0.731).abs() < 1e-3 && (row[1] - 1.0).abs() < 1e-6);
    }
}
