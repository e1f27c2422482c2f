//! AdamW (Loshchilov and Hutter 2019, algorithm 2), as PyTorch computes it.

use rayon::prelude::*;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Weights a task of the thread pool updates.
const CHUNK: usize = 1 << 14;

/// The moments of one tensor.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// What is the same for every weight in a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) learning_rate: f64,
    pub(super) weight_decay: f64,
    /// Counted from 1.
    pub(super) number: i32,
    /// What gradients are multiplied with: below 1 where their norm is clipped.
    pub(super) gradient_scale: f32,
}

impl Moments {
    pub(super) fn new(length: usize) -> Self {
        Self {
            first: vec![0.0; length],
            second: vec![0.0; length],
        }
    }

    /// Moves `weights` one step against `gradient`.
    pub(super) fn update(&mut self, weights: &mut [f32], gradient: &[f32], step: Step) {
        let kept = (1.0 - step.learning_rate * step.weight_decay) as f32;
        let correction1 = 1.0 - f64::from(BETA1).powi(step.number);
        let correction2 = 1.0 - f64::from(BETA2).powi(step.number);
        let size = (step.learning_rate / correction1) as f32;
        let root2 = correction2.sqrt().recip() as f32;
        let scale = step.gradient_scale;
        weights
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(self.first.par_chunks_mut(CHUNK))
            .zip(self.second.par_chunks_mut(CHUNK))
            .for_each(|(((weights, gradient), first), second)| {
                let gradient = gradient.iter().map(|g| g * scale);
                let moments = first.iter_mut().zip(second);
                for ((weight, g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
                    *m += (g - *m) * (1.0 - BETA1);
                    *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                    let denominator = v.sqrt() * root2 + EPSILON;
                    *weight = *weight * kept - size * *m / denominator;
                }
            });
    }
}

/// The factor that brings gradients of this squared norm within `limit`
/// (`torch.nn.utils.clip_grad_norm_`).
pub(super) fn clip_factor(squared_norm: f64, limit: f64) -> f32 {
    (limit / (squared_norm.sqrt() + 1e-6)).min(1.0) as f32
}

/// The sum of the squares, added up chunk by chunk in a fixed order.
pub(super) fn squared_norm(values: &[f32]) -> f64 {
    let chunk = |values: &[f32]| {
        let lanes = values
            .chunks(1024)
            .map(|lane| lane.iter().map(|v| v * v).sum::<f32>());
        lanes.map(f64::from).sum::<f64>()
    };
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(chunk).collect();
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.optim.AdamW([w], lr=0.1, weight_decay=0.01)`, three steps with these gradients.
    #[test]
    fn steps_are_those_of_pytorch() {
        let mut weights = vec![1.0f32, -2.0, 0.5];
        let mut moments = Moments::new(3);
        let gradients = [[0.1, -0.2, 0.0], [0.3, 0.1, 1e-6], [-0.5, 0.2, 0.0]];
        for (index, gradient) in gradients.iter().enumerate() {
            let step = Step {
                learning_rate: 0.1,
                weight_decay: 0.01,
                number: index as i32 + 1,
                gradient_scale: 1.0,
            };
            moments.update(&mut weights, gradient, step);
        }
        let expected = PYTORCH;
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-6, "{weights:?}");
        }
    }

    const PYTORCH: [f32; 3] = [0.821_607_95, -1.894_868_6, 0.368_656_04];

    #[test]
    fn gradients_are_scaled_only_down() {
        assert!((clip_factor(4.0, 1.0) - 0.5).abs() < 1e-6);
        assert!((clip_factor(0.25, 1.0) - 1.0).abs() < 1e-6);
        assert!((squared_norm(&vec![2.0; 50_000]) - 200_000.0).abs() < 1e-6);
    }
}
