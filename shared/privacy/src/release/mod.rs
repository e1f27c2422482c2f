//! From a trained update to the integers that may leave: clip, round, noise.

pub(crate) mod clip;
mod error;
pub(crate) mod rounding;

use fedner_shared::plan::ranges::LEAST_SHARE;
use fedner_shared::plan::{Grid, Privacy, Unit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::accountant::zcdp;
use crate::noise;
use crate::noise::{Generator, Shape};
use crate::sensitivity::squared_bound;
pub use error::Error;

/// An update ready to be encoded. `values` alone may leave; the rest depends on the private data
/// without noise and stays where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// In steps of the plan's grid; each within `Privacy::value_bound`.
    pub values: Vec<i32>,
    /// L2 norm of the update as trained, in the units of the weights. Local only.
    pub norm_before: f64,
    /// L2 norm after clipping, before rounding. Local only.
    pub norm_after: f64,
    /// Whether the update was longer than the clip. Local only.
    pub clipped: bool,
    /// Roundings drawn until one was within the bound. Local only.
    pub rounding_attempts: u32,
}

/// Makes the release of `update` (the trainable weights' change, flattened in manifest order).
///
/// Each call draws fresh randomness, so that each call is a release of its own and is charged for.
///
/// With `unit = "none"` the noise is left out and nothing is protected; where units are sampled, it
/// is left out because every step of the training had its own. The rounding is then drawn from the
/// update itself, so that a run without noise can be repeated to the last bit.
///
/// Without noise of its own the update is shortened to `norm`, the plan's `largest_norm`, first.
///
/// The lemma *rounding* of the [crate] bounds what is released before noise.
pub fn release(update: &[f32], privacy: &Privacy, norm: f64) -> Result<Release, Error> {
    Releaser::new(privacy, update.len())?
        .within(norm)
        .release(update)
}

/// The mechanism for updates of one plan and dimension, for several releases.
///
/// Steps 1 to 3 of "The update on the wire": scale to the clip C, round to the grid until the
/// integer norm is proven, add discrete Gaussian noise of scale σ/γ.
#[derive(Debug)]
pub struct Releaser {
    grid: Grid,
    /// What updates are shortened to.
    norm: f64,
    dimension: usize,
    squared_bound: u128,
    value_bound: i64,
    noise: Option<noise::Shared>,
}

impl Releaser {
    /// Fails where the guarantee would be void, whoever wrote the plan, and where OpenDP's privacy
    /// map says that a release costs more than [`zcdp::rho_alone`].
    pub fn new(privacy: &Privacy, dimension: usize) -> Result<Self, Error> {
        check(privacy)?;
        let grid = privacy.grid();
        let squared_bound = squared_bound(grid, dimension);
        let noise = match privacy.unit {
            // Where units are sampled, every step of the training had its noise.
            Unit::Person | Unit::Document | Unit::Sentence | Unit::None => None,
            Unit::Institution => {
                // Exact: C/γ is a power of two.
                let scale = privacy.update_noise_multiplier() * grid.steps();
                let rho = zcdp::rho_alone(privacy, dimension);
                if !noise::costs_at_most(scale, squared_bound, rho)? {
                    return Err(Error::Cost { rho });
                }
                Some(noise::Shared::new(Shape::Gaussian { sigma: scale })?)
            }
        };
        Ok(Self {
            grid,
            norm: grid.clip,
            dimension,
            squared_bound,
            value_bound: privacy.value_bound(),
            noise,
        })
    }

    /// Shortens updates without noise of their own to this norm, where it is less than the grid's.
    #[must_use]
    pub fn within(mut self, norm: f64) -> Self {
        if self.noise.is_none() && norm < self.grid.clip {
            self.norm = norm;
            self.squared_bound = self.grid.squared_bound_of(norm, self.dimension);
        }
        self
    }

    /// Draws noise on so many threads instead of on all processors.
    #[must_use]
    pub fn on_threads(mut self, threads: usize) -> Self {
        self.noise = self.noise.map(|noise| noise.on_threads(threads));
        self
    }

    /// One release, which is to be charged for.
    pub fn release(&self, update: &[f32]) -> Result<Release, Error> {
        if self.noise.is_none() {
            let seed = clip::norm(update)?.to_bits();
            return self.release_with(update, &mut ChaCha20Rng::seed_from_u64(seed));
        }
        let mut generator = Generator::from_system().map_err(noise::Error::from)?;
        self.release_with(update, generator.bulk())
    }

    /// With the given source of the rounding. The noise has its own.
    fn release_with(&self, update: &[f32], random: &mut impl Rng) -> Result<Release, Error> {
        let (expected, found) = (self.dimension, update.len());
        if expected != found {
            return Err(Error::Dimension { expected, found });
        }
        let grid = self.grid;
        let norm_before = clip::norm(update)?;
        // γ is C times a power of two: where the norm is C, these are the grid's steps to the last bit.
        let steps = self.norm / grid.gamma();
        let factor = clip::steps_per_weight(norm_before, self.norm, steps);
        let rounded = rounding::round(update, factor, self.squared_bound, random)?;
        let mut values = rounded.values;
        if let Some(noise) = &self.noise {
            noise.add(&mut values, self.value_bound)?;
        }
        Ok(Release {
            values,
            norm_before,
            norm_after: norm_before.min(self.norm),
            clipped: norm_before > self.norm,
            rounding_attempts: rounded.attempts,
        })
    }
}

/// What would make the guarantee void or the integers too wide, whoever wrote the plan.
fn check(privacy: &Privacy) -> Result<(), Error> {
    let parameter = |key, found, expected| {
        Err(Error::Parameter {
            key,
            found,
            expected,
        })
    };
    if privacy.unit == Unit::None {
        return Ok(());
    }
    if !(privacy.clip.is_normal() && privacy.clip > 0.0) {
        return parameter("clip", privacy.clip, "a positive number");
    }
    let noise = privacy.noise_multiplier;
    if !(noise.is_normal() && noise > 0.0) {
        return parameter("noise_multiplier", noise, "a positive number");
    }
    let share = privacy.update_noise_multiplier() * privacy.grid().steps();
    if privacy.shares_noise() && (privacy.unit != Unit::Institution || share < LEAST_SHARE) {
        let shares = f64::from(privacy.noise_shares);
        return parameter(
            "noise_shares",
            shares,
            "shares of at least 4 steps, of updates",
        );
    }
    // The second comparison computes with 64 bits, which the first makes safe.
    let wide = noise > 1e9 || privacy.value_bound() > i64::from(i32::MAX);
    if wide {
        return parameter("noise_multiplier", noise, "noise that 32 bits can hold");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use fedner_shared::plan::Clipping;

    use super::*;
    use fedner_shared::update::squared_norm;

    fn release(update: &[f32], privacy: &Privacy) -> Result<Release, Error> {
        super::release(update, privacy, f64::INFINITY)
    }

    fn release_with(
        update: &[f32],
        privacy: &Privacy,
        random: &mut impl Rng,
    ) -> Result<Release, Error> {
        Releaser::new(privacy, update.len())?.release_with(update, random)
    }

    fn privacy(unit: Unit, clip: f64, noise_multiplier: f64) -> Privacy {
        Privacy {
            unit,
            clip,
            clipping: Clipping::Threshold,
            noise_multiplier,
            delta: 1e-5,
            max_epsilon: 8.0,
            ..Privacy::default()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn without_noise_the_values_are_the_clipped_weights(
            update in prop::collection::vec(-40f32..40.0, 1..200),
            seed: u64,
        ) {
            let privacy = privacy(Unit::None, 1.0, 1.0);
            let gamma = privacy.grid().gamma();
            let release = release_with(&update, &privacy, &mut ChaCha20Rng::seed_from_u64(seed)).expect("release");
            let shorter = (64.0 / release.norm_before).min(1.0);
            for (value, weight) in release.values.iter().zip(&update) {
                let error = f64::from(*value) * gamma - f64::from(*weight) * shorter;
                prop_assert!(error.abs() <= gamma * 1.001, "{error}");
            }
            prop_assert!(release.values.iter().all(|v| i64::from(*v).abs() <= privacy.value_bound()));
            prop_assert_eq!(release.clipped, release.norm_before > 64.0);
        }

        #[test]
        fn with_noise_every_value_is_within_the_plans_range(
            update in prop::collection::vec(-1e3f32..1e3, 0..200),
            clip in 1e-3f64..10.0,
            z in 1e-3f64..20.0,
        ) {
            let privacy = privacy(Unit::Institution, clip, z);
            let release = release(&update, &privacy).expect("release");
            prop_assert_eq!(release.values.len(), update.len());
            prop_assert!(release.values.iter().all(|v| i64::from(*v).abs() <= privacy.value_bound()));
            prop_assert!(release.norm_after <= clip);
        }
    }

    #[test]
    fn without_noise_it_is_within_the_plans_norm_to_the_last_integer() {
        let update: Vec<f32> = (0..5000).map(|i| 0.1 * (i as f32).sin()).collect();
        for (unit, norm) in [
            (Unit::None, 0.75),
            (Unit::Person, 0.003),
            (Unit::Document, 64.0),
        ] {
            let privacy = privacy(unit, 1.0, 1.0);
            let bound = privacy.grid().squared_bound_of(norm, update.len());
            let release = super::release(&update, &privacy, norm).expect("release");
            let squared = squared_norm(&release.values);
            assert!(squared <= bound, "{unit}: {squared} {bound}");
            assert_eq!(release.clipped, norm < 5.0);
            // It points where it pointed before.
            let dot: f64 = release
                .values
                .iter()
                .zip(&update)
                .map(|(v, u)| f64::from(*v) * f64::from(*u))
                .sum();
            let cosine = dot / ((squared as f64).sqrt() * release.norm_before);
            assert!(cosine > 0.99, "{unit}: {cosine}");
            // Left as long as it was, it would be refused.
            let longer = super::release(&update, &privacy, f64::INFINITY).expect("release");
            assert_eq!(squared_norm(&longer.values) > bound, norm < 5.0, "{unit}");
        }
        // An update with noise is as long as clip and noise make it.
        let noised = privacy(Unit::Institution, 1.0, 1.0);
        let release = super::release(&update, &noised, 1e-3).expect("release");
        assert!((release.norm_after - 1.0).abs() < 1e-12);
    }

    #[test]
    fn noise_has_the_scale_of_the_plan_and_is_fresh_each_time() {
        let privacy = privacy(Unit::Institution, 2.0, 0.5);
        let zero = vec![0.0; 20_000];
        let (first, second) = (
            release(&zero, &privacy).expect("first"),
            release(&zero, &privacy).expect("second"),
        );
        assert_ne!(first.values, second.values);
        let gamma = privacy.grid().gamma();
        let square = |v: &i32| (f64::from(*v) * gamma).powi(2);
        let variance = first.values.iter().map(square).sum::<f64>() / 20_000.0;
        // σ = zC = 1; seven standard deviations of the estimate.
        assert!((variance - 1.0).abs() < 0.07, "{variance}");
    }

    #[test]
    fn an_update_that_is_not_finite_is_not_released() {
        let privacy = privacy(Unit::Institution, 1.0, 1.0);
        let error = release(&[0.1, f32::NAN], &privacy).expect_err("not a number");
        assert!(
            matches!(error, Error::NotFinite { index: 1, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_plan_without_real_noise_is_refused() {
        for (clip, z) in [
            (1.0, 0.0),
            (1.0, -1.0),
            (1.0, f64::NAN),
            (1.0, f64::INFINITY),
            (1.0, 1e6),
            (1.0, 1e30),
            (0.0, 1.0),
            (f64::NAN, 1.0),
        ] {
            let error = release(&[0.1], &privacy(Unit::Institution, clip, z)).expect_err("void");
            assert!(
                matches!(error, Error::Parameter { .. }),
                "{clip} {z}: {error}"
            );
        }
    }

    #[test]
    fn only_without_noise_is_a_release_repeatable() {
        let update: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        let draw = |unit| release(&update, &privacy(unit, 1.0, 1.0)).expect("release");
        assert_eq!(draw(Unit::None), draw(Unit::None));
        assert_ne!(draw(Unit::Institution), draw(Unit::Institution));
    }

    #[test]
    fn the_same_seed_rounds_alike() {
        let privacy = privacy(Unit::None, 1.0, 0.0);
        let update: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        let draw = |seed| {
            release_with(&update, &privacy, &mut ChaCha20Rng::seed_from_u64(seed)).expect("release")
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }
}
