//! Coordinates in which the features of every word have norm 1.

use burn::tensor::{Tensor, TensorData};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::manifest::Manifest;

use super::linear::Linear;
use crate::Error;

/// The least part of the largest γ that a feature is taken to have, so that none is blown up.
const LEAST: f32 = 1e-2;

/// What the bias is multiplied with: its gradient is then about as large as that by one feature of
/// a few that matter, and does not use up the clip.
pub(crate) const BIAS: f32 = 0.3;

/// The head's weight, and its bias, by their Hugging Face names.
pub(super) const WEIGHT: &str = "classifier.weight";
pub(super) const BIASES: &str = "classifier.bias";

/// x' = (x - β) / (γ·√n) of the hidden states x that the head reads, with γ and β of the LayerNorm
/// that each came out of (Ba et al. 2016, equation 3): what was normalised there, and divided by
/// the root of the width n of all that is read. Its norm is 1 (but where a sentence ends and a
/// neighbour is missing), so that clipping a gradient means the same for every word. γ and β are
/// weights of the model version, so that nothing of it depends on the text. The bias counts [`BIAS`]
/// times.
///
/// Without these coordinates most of a gradient is along the few features that are large in every
/// word, and says little of any.
#[derive(Debug, Clone)]
pub(crate) struct Standardiser {
    /// β
    shift: Vec<f32>,
    /// 1 / (γ·√n)
    scale: Vec<f32>,
}

impl Standardiser {
    pub(crate) fn from_checkpoint(base: &Checkpoint) -> Result<Self, Error> {
        let root = (base.config.head_width() as f32).sqrt();
        let (mut shift, mut scale) = (Vec::new(), Vec::new());
        for layer in base.config.read_layers() {
            let prefix = match layer {
                0 => "bert.embeddings.LayerNorm".to_owned(),
                layer => format!("bert.encoder.layer.{}.output.LayerNorm", layer - 1),
            };
            let gamma = base.tensor(&format!("{prefix}.weight"))?;
            let least = LEAST * gamma.iter().fold(f32::MIN_POSITIVE, |a, g| a.max(g.abs()));
            scale.extend(gamma.iter().map(|gamma| {
                let size = gamma.abs().max(least);
                (size.copysign(*gamma) * root).recip()
            }));
            shift.extend_from_slice(base.tensor(&format!("{prefix}.bias"))?);
        }
        // Each word of a window alike.
        let window = base.config.head.window();
        let (shift, scale) = (shift.repeat(window), scale.repeat(window));
        Ok(Self { shift, scale })
    }

    /// n
    pub(crate) fn width(&self) -> usize {
        self.shift.len()
    }

    /// Brings rows of features into these coordinates.
    pub(crate) fn apply(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.shift.len()) {
            for ((x, shift), scale) in row.iter_mut().zip(&self.shift).zip(&self.scale) {
                *x = (*x - shift) * scale;
            }
        }
    }

    /// The scores that a classifier in these coordinates gives to rows of features.
    pub(super) fn scores(&self, classifier: &Linear, features: Tensor<2>) -> Tensor<2> {
        let device = features.device();
        let row = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [1, values.len()]);
            Tensor::<2>::from_data(data, &device)
        };
        let features = (features - row(&self.shift)) * row(&self.scale);
        let bias = classifier.bias.clone() * BIAS;
        features.matmul(classifier.weight.clone()) + bias.unsqueeze()
    }

    /// A head on features x, [tags, n], becomes the head on x' that gives the same scores.
    pub(crate) fn enter(&self, weight: &mut [f32], bias: &mut [f32]) {
        for (row, bias) in weight.chunks_exact_mut(self.shift.len()).zip(bias) {
            *bias += product(row, &self.shift);
            for (weight, scale) in row.iter_mut().zip(&self.scale) {
                *weight /= scale;
            }
            *bias /= BIAS;
        }
    }

    /// The way back.
    pub(crate) fn leave(&self, weight: &mut [f32], bias: &mut [f32]) {
        for (row, bias) in weight.chunks_exact_mut(self.shift.len()).zip(bias) {
            *bias *= BIAS;
            for (weight, scale) in row.iter_mut().zip(&self.scale) {
                *weight *= scale;
            }
            *bias -= product(row, &self.shift);
        }
    }

    /// The way back of the head among the weights of `manifest`.
    pub(crate) fn leave_flat(&self, flat: &mut [f32], manifest: &Manifest) {
        let place = |name| {
            let mut segments = manifest.segments();
            let found = segments.find(|(_, spec)| spec.name == name);
            found.map(|(first, spec)| first..first + spec.len())
        };
        let (Some(weights), Some(biases)) = (place(WEIGHT), place(BIASES)) else {
            return;
        };
        let (mut weight, mut bias) = (
            flat[weights.clone()].to_vec(),
            flat[biases.clone()].to_vec(),
        );
        self.leave(&mut weight, &mut bias);
        flat[weights].copy_from_slice(&weight);
        flat[biases].copy_from_slice(&bias);
    }
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal() -> Standardiser {
        Standardiser {
            shift: vec![0.5, -1.0, 2.0],
            scale: vec![2.0, -0.25, 1.5],
        }
    }

    #[test]
    fn scores_stay_the_same_and_the_way_back_is_one() {
        let (weight, bias) = (vec![1.0f32, 2.0, -3.0, 0.5, 0.0, 1.0], vec![0.1f32, -0.2]);
        let (mut inner, mut inner_bias) = (weight.clone(), bias.clone());
        normal().enter(&mut inner, &mut inner_bias);
        let x = [0.3f32, 0.7, -1.1];
        let mut x_inner = x;
        normal().apply(&mut x_inner);
        for tag in 0..2 {
            let row = tag * 3..tag * 3 + 3;
            let outer = product(&weight[row.clone()], &x) + bias[tag];
            let found = product(&inner[row], &x_inner) + BIAS * inner_bias[tag];
            assert!((outer - found).abs() < 1e-5, "{outer} {found}");
        }
        normal().leave(&mut inner, &mut inner_bias);
        for (found, expected) in inner
            .iter()
            .chain(&inner_bias)
            .zip(weight.iter().chain(&bias))
        {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}
