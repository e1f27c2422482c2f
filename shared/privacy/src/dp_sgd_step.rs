//! A private sum: the step of DP-SGD.
//!
//! Each unit's contribution is a vector of norm at most C. [`PrivateSum`] takes their sum, rounds
//! it to integers on a grid, adds exact discrete Gaussian noise, and returns floats again.
//!
//! # Why the claim is a theorem
//!
//! Let S and S′ be the sums that two neighbouring data sets give (one unit there or not), as the trainer
//! computed them, so that `‖S − S′‖₂ ≤ C + e`. Here e is what floating-point summation can put between them,
//! a bound the caller states. The grid γ is a power of two, so x/γ is exact. Rounding each coordinate to the
//! nearest integer moves it by at most 1/2, so
//!
//! `‖[S/γ] − [S′/γ]‖₂ ≤ (C + e)/γ + √d = Δ̃`
//!
//! for the rounded integer vectors, always and not only probably. (Stochastic rounding as in
//! Kairouz, Liu and Steinke 2021 would gain a little where each unit rounds for itself; of a sum it
//! would not, and at 2^24 steps a clip √d costs 0.03 % for 22 million weights.) The noise is
//! the discrete Gaussian of parameter `σ̃ = z·Δ̃`, exactly sampled (see [`crate::noise`]). By
//! Canonne, Kamath and Steinke 2020 (Proposition 5, Theorem 14, and adding up over coordinates) the
//! step costs no more at any order than the continuous Gaussian with noise multiplier z:
//! `ρ = 1/(2z²)` without sampling, and with Poisson sampling the curve of
//! [`Curve::sampled_discrete_gaussian`](crate::accountant::rdp::Curve::sampled_discrete_gaussian).
//! Scaling by γ only uses what was released.

use std::num::NonZero;
use std::thread;

use crate::noise::{self, Generator, SHARE, Sampler, Shape};

/// A clip is between 2^24 and 2^25 steps of the grid.
const CLIP_BITS: i32 = 24;
/// Clips whose grid, and its inverse, are exact in f64 with room to spare.
const CLIPS: std::ops::RangeInclusive<f64> = 1e-30..=1e30;
/// The largest magnitude of a sum, in clips: more units than there are people, and below 2^59 steps.
const LARGEST_SUM: f64 = 1e10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the private sum's {name} is {found}: expected {expected}")]
    Setting {
        name: &'static str,
        found: f64,
        expected: &'static str,
    },
    #[error("the sum has {found} coordinates: expected {expected}")]
    Dimension { expected: usize, found: usize },
    #[error(
        "coordinate {index} of the sum is {value}: expected a finite number of at most 10^10 clips"
    )]
    Value { index: usize, value: f64 },
    #[error(transparent)]
    Noise(#[from] noise::Error),
}

/// What a private sum is made for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// C, the largest L2 norm of one unit's contribution.
    pub clip: f64,
    /// z: the noise's parameter over the sensitivity, that of rounding included.
    pub noise_multiplier: f64,
    /// d, coordinates of a sum.
    pub dimension: usize,
    /// e: how much further apart than C floating point can put the sums of neighbouring data sets,
    /// in L2. A sum of B terms of norm C in f64 is right to within about `B·C·2^-52`; 0 only where
    /// sums are exact.
    pub summation_error: f64,
}

/// The mechanism, made once for all steps. Threads may share it. The lemma *private sum* of the
/// [crate] says what a step costs.
#[derive(Debug)]
pub struct PrivateSum {
    settings: Settings,
    sampler: Sampler,
    /// γ.
    grid: f64,
}

impl PrivateSum {
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let Settings {
            clip,
            noise_multiplier,
            summation_error,
            ..
        } = settings;
        let positive = "a positive number";
        let moderate = CLIPS.contains(&clip);
        setting("clip", clip, moderate, "a number from 1e-30 to 1e30")?;
        let real = noise_multiplier.is_normal() && noise_multiplier > 0.0;
        setting("noise multiplier", noise_multiplier, real, positive)?;
        let small = (0.0..=clip).contains(&summation_error);
        setting(
            "summation error",
            summation_error,
            small,
            "a number from 0 to the clip",
        )?;
        let grid = (libm::floor(libm::log2(clip)) - f64::from(CLIP_BITS)).exp2();
        let sensitivity = sensitivity(&settings, grid);
        let sigma = (noise_multiplier * sensitivity).next_up();
        Ok(Self {
            settings,
            sampler: Sampler::new(Shape::Gaussian { sigma })?,
            grid,
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The noise's standard deviation, in the units of the sum.
    pub fn sigma(&self) -> f64 {
        self.sampler.shape().scale() * self.grid
    }

    /// Replaces `sum` by its release. Each call draws fresh noise and is a step of its own.
    ///
    /// On an error `sum` may be noised in part and must be thrown away; that an error happened
    /// depends on the data.
    pub fn release(&self, sum: &mut [f64], generator: &mut Generator) -> Result<(), Error> {
        let (expected, found) = (self.settings.dimension, sum.len());
        if expected != found {
            return Err(Error::Dimension { expected, found });
        }
        let largest = LARGEST_SUM * self.settings.clip;
        let fits = |value: &f64| value.abs() <= largest;
        if let Some(index) = sum.iter().position(|value| !fits(value)) {
            let value = sum[index];
            return Err(Error::Value { index, value });
        }
        if sum.len() <= SHARE {
            self.add_noise(sum, generator);
            return Ok(());
        }
        // Which generator draws a coordinate's noise does not depend on the number of threads.
        let mut shares: Vec<_> = sum
            .chunks_mut(SHARE)
            .map(|share| (share, generator.fork()))
            .collect();
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let each = shares.len().div_ceil(threads);
        thread::scope(|scope| {
            for shares in shares.chunks_mut(each) {
                scope.spawn(move || {
                    for (share, generator) in shares {
                        self.add_noise(share, generator);
                    }
                });
            }
        });
        Ok(())
    }

    fn add_noise(&self, sum: &mut [f64], generator: &mut Generator) {
        let steps = self.grid.recip();
        let mut noise = [0i64; 2048];
        for part in sum.chunks_mut(noise.len()) {
            let noise = &mut noise[..part.len()];
            self.sampler.fill(generator, noise);
            for (value, noise) in part.iter_mut().zip(noise) {
                let rounded = (*value * steps).round_ties_even() as i64;
                *value = (rounded + *noise) as f64 * self.grid;
            }
        }
    }
}

fn setting(
    name: &'static str,
    found: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Error::Setting {
        name,
        found,
        expected,
    })
}

/// Δ̃ in grid steps, rounded up.
fn sensitivity(settings: &Settings, grid: f64) -> f64 {
    let apart = (settings.clip + settings.summation_error).next_up();
    let rounding = (settings.dimension as f64).sqrt().next_up();
    (apart / grid + rounding).next_up()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(clip: f64, noise_multiplier: f64, dimension: usize) -> Settings {
        Settings {
            clip,
            noise_multiplier,
            dimension,
            summation_error: 0.0,
        }
    }

    proptest! {
        /// The inequality of the proof, on sums that differ by one contribution.
        #[test]
        fn rounded_neighbours_are_within_the_sensitivity(
            sum in prop::collection::vec(-100f32..100.0, 1..200),
            unit in prop::collection::vec(-1f32..1.0, 200),
            clip in 1e-3f64..1e3,
        ) {
            let settings = settings(clip, 1.0, sum.len());
            let mechanism = PrivateSum::new(settings).expect("mechanism");
            let norm = unit[..sum.len()].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let steps = mechanism.grid.recip();
            let difference = sum.iter().zip(&unit).map(|(x, u)| {
                let (x, u) = (f64::from(*x), f64::from(*u) / norm.max(1e-9) * clip);
                ((x + u) * steps).round_ties_even() - (x * steps).round_ties_even()
            });
            let distance = difference.map(|x| x * x).sum::<f64>().sqrt();
            prop_assert!(distance <= sensitivity(&settings, mechanism.grid));
            // A power of two of at most C/2^24.
            prop_assert!((clip / mechanism.grid).log2() >= 24.0 && (clip / mechanism.grid).log2() < 25.0);
        }
    }

    #[test]
    fn the_release_is_the_sum_with_noise_of_the_right_size() {
        let dimension = 50_000;
        let mechanism = PrivateSum::new(settings(0.5, 1.5, dimension)).expect("mechanism");
        // z·C, and what rounding adds: √50000 in 2^24 steps.
        assert!(
            (mechanism.sigma() / 0.75 - 1.0).abs() < 3e-5,
            "{}",
            mechanism.sigma()
        );
        assert!(mechanism.sigma() > 0.75);
        let mut generator = Generator::from_seed([5; 32]);
        let exact: Vec<f64> = (0..dimension).map(|i| (i as f64).sin() * 20.0).collect();
        let mut noised = exact.clone();
        mechanism
            .release(&mut noised, &mut generator)
            .expect("released");
        let errors = noised.iter().zip(&exact).map(|(a, b)| a - b);
        let (mean, square) = errors.fold((0.0, 0.0), |(m, s), e| (m + e, s + e * e));
        let n = dimension as f64;
        assert!((mean / n).abs() < 6.0 * 0.75 / n.sqrt(), "{}", mean / n);
        let variance = square / n;
        assert!(
            (variance / 0.5625 - 1.0).abs() < 6.0 * (2.0 / n).sqrt(),
            "{variance}"
        );
        let mut again = exact.clone();
        mechanism
            .release(&mut again, &mut generator)
            .expect("released");
        assert_ne!(noised, again, "noise is fresh");
    }

    #[test]
    fn every_coordinate_of_a_long_sum_has_noise_of_its_own() {
        let dimension = 3 * SHARE + 1000;
        let mechanism = PrivateSum::new(settings(1.0, 1.0, dimension)).expect("mechanism");
        let release = || {
            let mut sum = vec![0.0; dimension];
            mechanism
                .release(&mut sum, &mut Generator::from_seed([7; 32]))
                .expect("released");
            sum
        };
        let noise = release();
        assert_eq!(noise, release(), "one key gives one noise");
        for share in noise.chunks(SHARE) {
            let variance = share.iter().map(|x| x * x).sum::<f64>() / share.len() as f64;
            let expected = mechanism.sigma().powi(2);
            let spread = 6.0 * (2.0 / share.len() as f64).sqrt();
            assert!((variance / expected - 1.0).abs() < spread, "{variance}");
        }
        // Independent shares: the mean product of two is that of chance.
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let (a, b) = (&noise[a * SHARE..][..SHARE], &noise[b * SHARE..][..SHARE]);
            let product = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / SHARE as f64;
            assert!(product.abs() < 6.0 / (SHARE as f64).sqrt(), "{product}");
        }
    }

    #[test]
    fn a_summation_error_is_paid_for() {
        let with = |summation_error| {
            let settings = Settings {
                summation_error,
                ..settings(1.0, 1.0, 10)
            };
            PrivateSum::new(settings).map(|mechanism| mechanism.sigma())
        };
        assert!((with(0.25).expect("sigma") - 1.25).abs() < 1e-6);
        assert!(matches!(
            with(-0.1),
            Err(Error::Setting {
                name: "summation error",
                ..
            })
        ));
        assert!(with(2.0).is_err());
    }

    #[test]
    fn what_voids_the_claim_is_refused() {
        for (clip, noise) in [
            (0.0, 1.0),
            (1e-300, 1.0),
            (f64::NAN, 1.0),
            (1.0, 0.0),
            (1.0, f64::INFINITY),
            (1.0, -1.0),
        ] {
            let error = PrivateSum::new(settings(clip, noise, 3));
            assert!(
                matches!(error, Err(Error::Setting { .. })),
                "{clip} {noise}"
            );
        }
        let error = PrivateSum::new(settings(1.0, 1e9, 3));
        assert!(matches!(
            error,
            Err(Error::Noise(noise::Error::Scale { .. }))
        ));
        let mechanism = PrivateSum::new(settings(1.0, 1.0, 3)).expect("mechanism");
        let mut generator = Generator::from_seed([6; 32]);
        let release = |sum: &[f64], generator: &mut Generator| {
            mechanism.release(&mut sum.to_vec(), generator)
        };
        assert!(matches!(
            release(&[0.0; 2], &mut generator),
            Err(Error::Dimension {
                expected: 3,
                found: 2
            })
        ));
        for bad in [f64::NAN, f64::INFINITY, 1.01e10] {
            let error = release(&[0.0, bad, 0.0], &mut generator);
            assert!(matches!(error, Err(Error::Value { index: 1, .. })), "{bad}");
        }
    }
}
