//! Coordinates in which the features of every word have norm 1.

use super::{Checkpoint, Error};
use crate::bert::BertConfig;
use crate::manifest::Manifest;

/// The least part of the largest γ that a feature is taken to have, so that none is blown up.
const LEAST: f32 = 1e-2;

/// What the bias is multiplied with: its gradient is then about as large as that by one feature of
/// a few that matter, and does not use up the clip.
pub const BIAS: f32 = 0.3;

/// The head's weight, and its bias, by their Hugging Face names.
pub const WEIGHT: &str = "classifier.weight";
pub const BIASES: &str = "classifier.bias";

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
pub struct Standardiser {
    /// β
    shift: Vec<f32>,
    /// 1 / (γ·√n)
    scale: Vec<f32>,
}

impl Standardiser {
    pub fn from_checkpoint(base: &Checkpoint) -> Result<Self, Error> {
        Self::new(&base.config, |name| base.tensor(name))
    }

    /// The names of the tensors that they are made of.
    pub fn tensors(config: &BertConfig) -> Vec<String> {
        let norms = config.read_layers().into_iter().map(norm);
        norms
            .flat_map(|norm| [format!("{norm}.weight"), format!("{norm}.bias")])
            .collect()
    }

    /// Those of a head of `config`, by the values of [`tensors`](Self::tensors).
    pub fn new<'a>(
        config: &BertConfig,
        tensor: impl Fn(&str) -> Result<&'a [f32], Error>,
    ) -> Result<Self, Error> {
        let root = (config.head_width() as f32).sqrt();
        let (mut shift, mut scale) = (Vec::new(), Vec::new());
        for prefix in config.read_layers().into_iter().map(norm) {
            let gamma = tensor(&format!("{prefix}.weight"))?;
            let least = LEAST * gamma.iter().fold(f32::MIN_POSITIVE, |a, g| a.max(g.abs()));
            scale.extend(gamma.iter().map(|gamma| {
                let size = gamma.abs().max(least);
                (size.copysign(*gamma) * root).recip()
            }));
            shift.extend_from_slice(tensor(&format!("{prefix}.bias"))?);
        }
        // Each word of a window alike.
        let window = config.head.window();
        let (shift, scale) = (shift.repeat(window), scale.repeat(window));
        Ok(Self { shift, scale })
    }

    /// β
    pub fn shift(&self) -> &[f32] {
        &self.shift
    }

    /// 1 / (γ·√n)
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// n
    pub fn width(&self) -> usize {
        self.shift.len()
    }

    /// Brings rows of features into these coordinates.
    pub fn apply(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.shift.len()) {
            for ((x, shift), scale) in row.iter_mut().zip(&self.shift).zip(&self.scale) {
                *x = (*x - shift) * scale;
            }
        }
    }

    /// A head on features x, [tags, n], becomes the head on x' that gives the same scores.
    pub fn enter(&self, weight: &mut [f32], bias: &mut [f32]) {
        for (row, bias) in weight.chunks_exact_mut(self.shift.len()).zip(bias) {
            *bias += product(row, &self.shift);
            for (weight, scale) in row.iter_mut().zip(&self.scale) {
                *weight /= scale;
            }
            *bias /= BIAS;
        }
    }

    /// The way back.
    pub fn leave(&self, weight: &mut [f32], bias: &mut [f32]) {
        for (row, bias) in weight.chunks_exact_mut(self.shift.len()).zip(bias) {
            *bias *= BIAS;
            for (weight, scale) in row.iter_mut().zip(&self.scale) {
                *weight *= scale;
            }
            *bias -= product(row, &self.shift);
        }
    }

    /// Adds to a head on x what `change` is of the head on x', given as weight and bias. Rows that do not change keep every
    /// bit.
    pub fn add(&self, (weight, bias): (&mut [f32], &mut [f32]), change: (&[f64], &[f64])) {
        let width = self.shift.len();
        let rows = weight.chunks_exact_mut(width).zip(bias);
        let changes = change.0.chunks_exact(width).zip(change.1);
        for ((row, bias), (by_weight, by_bias)) in rows.zip(changes) {
            let mut shifted = f64::from(BIAS) * by_bias;
            let places = row.iter_mut().zip(by_weight);
            for ((weight, change), (shift, scale)) in places.zip(self.shift.iter().zip(&self.scale))
            {
                let change = change * f64::from(*scale);
                *weight = (f64::from(*weight) + change) as f32;
                shifted -= change * f64::from(*shift);
            }
            *bias = (f64::from(*bias) + shifted) as f32;
        }
    }

    /// The way back of the head among the weights of `manifest`.
    pub fn leave_flat(&self, flat: &mut [f32], manifest: &Manifest) {
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

/// The LayerNorm that the hidden states of a layer come out of.
fn norm(layer: usize) -> String {
    match layer {
        0 => "bert.embeddings.LayerNorm".to_owned(),
        layer => format!("bert.encoder.layer.{}.output.LayerNorm", layer - 1),
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
        // A change there is the same change here.
        let change = ([0.1f64, 0.0, -0.2, 0.0, 0.0, 0.0], [0.3, 0.0]);
        let (mut added, mut added_bias) = (weight.clone(), bias.clone());
        normal().add((&mut added, &mut added_bias), (&change.0, &change.1));
        let (mut moved, mut moved_bias) = (inner.clone(), inner_bias.clone());
        for (value, change) in moved.iter_mut().zip(&change.0) {
            *value += *change as f32;
        }
        moved_bias[0] += 0.3;
        normal().leave(&mut moved, &mut moved_bias);
        let pairs = added.iter().chain(&added_bias);
        for (found, expected) in pairs.zip(moved.iter().chain(&moved_bias)) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        assert_eq!((&added[3..], added_bias[1]), (&weight[3..], bias[1]));
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
