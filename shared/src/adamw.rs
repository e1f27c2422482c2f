//! AdamW (Loshchilov and Hutter 2019, algorithm 2), as PyTorch computes it: of a training at one place, and of steps that a
//! cohort takes together.

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// What a step is made with.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    pub learning_rate: f64,
    pub weight_decay: f64,
    /// Counted from 1.
    pub step: usize,
}

/// What is the same for every weight of a tensor in a step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What decay leaves of a weight.
    pub kept: f64,
    size: f32,
    /// 1 / √(1 - β₂ᵗ)
    root: f32,
    /// What gradients are multiplied with: below 1 where their norm is clipped.
    scale: f32,
}

impl Rates {
    pub fn step(self, scale: f32) -> Step {
        let number = i32::try_from(self.step).unwrap_or(i32::MAX);
        let correction = 1.0 - f64::from(BETA1).powi(number);
        let root = (1.0 - f64::from(BETA2).powi(number)).sqrt();
        Step {
            kept: 1.0 - self.learning_rate * self.weight_decay,
            size: (self.learning_rate / correction) as f32,
            root: root.recip() as f32,
            scale,
        }
    }
}

impl Step {
    /// Moves weights against a gradient, and their moments with it.
    #[allow(
        clippy::inline_always,
        reason = "vector code needs the whole loop in one function"
    )]
    #[inline(always)]
    pub fn update(
        self,
        weights: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let kept = self.kept as f32;
        let moments = first.iter_mut().zip(second);
        for ((weight, g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
            let g = g * self.scale;
            *m += (g - *m) * (1.0 - BETA1);
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            let denominator = v.sqrt() * self.root + EPSILON;
            *weight = *weight * kept - self.size * *m / denominator;
        }
    }
}

/// The factor that brings gradients of this squared norm within `limit`
/// (`torch.nn.utils.clip_grad_norm_`).
pub fn clip_factor(squared_norm: f64, limit: f64) -> f32 {
    (limit / (squared_norm.sqrt() + 1e-6)).min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_scaled_only_down() {
        assert!((clip_factor(4.0, 1.0) - 0.5).abs() < 1e-6);
        assert!((clip_factor(0.25, 1.0) - 1.0).abs() < 1e-6);
    }
}
