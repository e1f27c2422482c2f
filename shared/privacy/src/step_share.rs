//! One institution's share of a step of DP-SGD that a cohort takes together.
//!
//! Each institution adds up the clipped contributions of its own sample, rounds the sum to integers, and adds noise of
//! σᵢ = z·Δ̃/√h. Only the sum over the cohort is opened, and that has the noise of h honest senders at least. The lemma
//! *shared steps* of the [crate] says what that costs.
//!
//! # Sensitivity
//!
//! Let S and S′ be an institution's sums on neighbouring texts, with `‖S − S′‖₂ ≤ C + e` as for
//! [`PrivateSum`](crate::dp_sgd_step::PrivateSum). Rounding to a multiple of γ = C/2^16 moves a coordinate by 1/2 step at
//! most, and the division by γ by less than 2^-24 of one. So rounded sums are within
//!
//! `Δ̃ = (C + e)/γ + (1 + 2^-20)·√d`
//!
//! of each other. Cutting each coordinate to a range brings two vectors no further apart.

use fedner_shared::plan::Privacy;

use crate::noise::{self, Generator, Sampler, Shape};

/// What division by the grid adds to a rounding.
const DIVISION: f64 = 1.0 + 1.0 / (1u32 << 20) as f64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the step has {found} coordinates: expected {expected}")]
    Dimension { expected: usize, found: usize },
    #[error("noise of a step is beyond {bound} grid steps")]
    Range { bound: i64 },
    #[error(transparent)]
    Noise(#[from] noise::Error),
}

/// The mechanism, made once for a plan and a number of weights.
#[derive(Debug)]
pub struct StepShare {
    dimension: usize,
    /// C
    clip: f64,
    /// C/γ
    steps: f64,
    /// Before noise.
    bound: i64,
    /// After it.
    value_bound: i64,
    sampler: Sampler,
}

impl StepShare {
    /// `error` is e: how much further apart than C floating point can put the sums of neighbouring texts, as a part of C.
    pub fn new(privacy: &Privacy, dimension: usize, error: f64) -> Result<Self, Error> {
        let steps = privacy.grid().steps();
        let apart = (steps * (1.0 + error)).next_up();
        let rounding = ((dimension as f64).sqrt() * DIVISION).next_up();
        let sensitivity = (apart + rounding).next_up();
        let sigma = (privacy.update_noise_multiplier() * sensitivity) * (1.0 + 4.0 * f64::EPSILON);
        Ok(Self {
            dimension,
            clip: privacy.clip,
            steps,
            bound: privacy.step_bound(),
            value_bound: privacy.value_bound(),
            sampler: Sampler::new(Shape::Gaussian { sigma })?,
        })
    }

    /// σᵢ, in grid steps.
    pub fn scale(&self) -> f64 {
        self.sampler.shape().scale()
    }

    /// The share of `sum`, with fresh noise. Each call is a step of its own.
    pub fn release(&self, sum: &[f64], generator: &mut Generator) -> Result<Vec<i32>, Error> {
        let (expected, found) = (self.dimension, sum.len());
        if expected != found {
            return Err(Error::Dimension { expected, found });
        }
        let mut noise = vec![0i64; sum.len()];
        self.sampler.fill(generator, &mut noise);
        let released = sum.iter().zip(noise).map(|(value, noise)| {
            let rounded = (value * self.steps / self.clip).round_ties_even() as i64;
            let noised = rounded.clamp(-self.bound, self.bound) + noise;
            let bound = self.value_bound;
            i32::try_from(noised)
                .ok()
                .filter(|_| noised.abs() <= bound)
                .ok_or(Error::Range { bound })
        });
        released.collect()
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::plan::Unit;
    use proptest::prelude::*;

    use super::*;

    fn privacy(clip: f64, shares: u32) -> Privacy {
        Privacy {
            unit: Unit::Sentence,
            clip,
            noise_multiplier: 1.5,
            noise_shares: shares,
            cohort_units: Some(1000),
            ..Privacy::default()
        }
    }

    proptest! {
        /// The inequality of the module, on sums that differ by one contribution, also where they are cut.
        #[test]
        fn rounded_neighbours_are_within_the_sensitivity(
            sum in prop::collection::vec(-20_000f64..20_000.0, 1..200),
            unit in prop::collection::vec(-1f64..1.0, 200),
            clip in 1e-3f64..1e3,
        ) {
            let share = StepShare::new(&privacy(clip, 1), sum.len(), 0.0).expect("mechanism");
            let norm = unit[..sum.len()].iter().map(|x| x.powi(2)).sum::<f64>().sqrt();
            let rounded = |with: f64| -> Vec<i64> {
                let values = sum.iter().zip(&unit).map(|(x, u)| x * clip + with * u / norm.max(1e-9) * clip);
                values.map(|x| ((x * share.steps / share.clip).round_ties_even() as i64).clamp(-share.bound, share.bound)).collect()
            };
            let (with, without) = (rounded(1.0), rounded(0.0));
            let distance = with.iter().zip(&without).map(|(a, b)| ((a - b) as f64).powi(2)).sum::<f64>().sqrt();
            // σᵢ is z·Δ̃ where the noise is not shared.
            prop_assert!(distance <= share.scale() / 1.5);
        }
    }

    #[test]
    fn shares_add_up_to_the_sum_and_to_noise_of_the_right_size() {
        let (dimension, senders, clip) = (50_000, 4, 0.03);
        let privacy = privacy(clip, senders);
        let share = StepShare::new(&privacy, dimension, 0.0).expect("mechanism");
        let mut generator = Generator::from_seed([5; 32]);
        let mut total = vec![0i64; dimension];
        let exact: Vec<f64> = (0..dimension).map(|i| (i as f64).sin() * clip).collect();
        for _ in 0..senders {
            let own = share.release(&exact, &mut generator).expect("released");
            for (total, own) in total.iter_mut().zip(own) {
                *total += i64::from(own);
            }
        }
        let gamma = privacy.grid().gamma();
        let errors = total
            .iter()
            .zip(&exact)
            .map(|(found, exact)| *found as f64 * gamma - f64::from(senders) * exact);
        let variance = errors.map(|error| error * error).sum::<f64>() / dimension as f64;
        // z·C, and what rounding adds: √50000 in 2^16 steps.
        let expected = (1.5 * clip * (1.0 + 50_000f64.sqrt() / 65_536.0)).powi(2);
        let spread = 6.0 * (2.0 / dimension as f64).sqrt();
        assert!((variance / expected - 1.0).abs() < spread, "{variance}");
    }

    #[test]
    fn what_is_beyond_the_range_is_cut_and_what_is_not_a_number_counts_as_nothing() {
        let privacy = privacy(1.0, 1);
        let share = StepShare::new(&privacy, 3, 0.0).expect("mechanism");
        let mut generator = Generator::from_seed([6; 32]);
        let sum = [1e9, f64::NEG_INFINITY, f64::NAN];
        let found = share.release(&sum, &mut generator).expect("released");
        let reach = (20.0 * share.scale()) as i64;
        let bound = privacy.step_bound();
        for (found, expected) in found.iter().zip([bound, -bound, 0]) {
            assert!((i64::from(*found) - expected).abs() < reach, "{found}");
        }
        let error = share.release(&[0.0], &mut generator);
        assert!(matches!(error, Err(Error::Dimension { found: 1, .. })));
    }
}
