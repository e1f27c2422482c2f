//! Counts on held-out text: each unit's brought within a norm, added up, noised.

use fedner_shared::plan::CountNoise;

use crate::accountant::zcdp;
use crate::noise;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a unit has {found} counts: expected {expected}")]
    Length { expected: usize, found: usize },
    #[error("OpenDP's privacy map says that the release costs more than the ρ = {rho} accounted")]
    Cost { rho: f64 },
    #[error("the noise could not be drawn: {0}")]
    Noise(#[from] noise::Error),
}

/// The sum of the counts of every unit, of which one changes it by the L2 norm K at most.
///
/// Its release is that sum with discrete Gaussian noise, so that one unit more or less costs
/// ρ = K²/2σ² ([`zcdp::rho_of_counts`]), whatever its text and whatever the model. The lemma
/// *counts* of the [crate] has the proof.
#[derive(Debug)]
pub struct ClippedCounts {
    noise: CountNoise,
    sum: Vec<i64>,
}

impl ClippedCounts {
    /// Of `length` counts.
    pub fn new(noise: CountNoise, length: usize) -> Self {
        Self {
            noise,
            sum: vec![0; length],
        }
    }

    /// Adds what one unit has, which may be added once.
    pub fn add(&mut self, unit: &[u64]) -> Result<(), Error> {
        let (expected, found) = (self.sum.len(), unit.len());
        if expected != found {
            return Err(Error::Length { expected, found });
        }
        for (sum, count) in self.sum.iter_mut().zip(clipped(unit, self.noise.clip)) {
            *sum = sum.saturating_add(count);
        }
        Ok(())
    }

    /// One release, which is to be charged for. What the noise takes below nothing is nothing:
    /// nobody knows more by that than by the noised sum.
    pub fn release(self) -> Result<Vec<u64>, Error> {
        let CountNoise { clip, sigma } = self.noise;
        let rho = zcdp::rho_of_counts(self.noise);
        if !noise::costs_at_most(sigma, u128::from(clip).pow(2), rho)? {
            return Err(Error::Cost { rho });
        }
        let noised = noise::gaussian(sigma)?.invoke(&self.sum);
        let noised = noised.map_err(noise::Error::from)?.into_iter();
        Ok(noised.map(|count| count.max(0).unsigned_abs()).collect())
    }
}

/// c where ‖c‖ ≤ K, else each ⌊c·K/‖c‖⌋: all in integers, so that no rounding passes K.
fn clipped(unit: &[u64], clip: u32) -> impl Iterator<Item = i64> {
    // Of more than any text has, so that squares and their products fit.
    let counts = unit.iter().map(|count| u128::from(*count).min(1 << 31));
    let squared: u128 = counts.clone().map(|count| count * count).sum();
    let largest = u128::from(clip).pow(2);
    counts.map(move |count| {
        let within = if squared <= largest {
            count
        } else {
            (count * count * largest / squared).isqrt()
        };
        within as i64
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn norm_squared(counts: &[i64]) -> u128 {
        counts
            .iter()
            .map(|count| count.unsigned_abs() as u128)
            .map(|c| c * c)
            .sum()
    }

    #[test]
    fn small_counts_stay_and_large_ones_keep_their_proportions() {
        let of = |unit: &[u64], clip| clipped(unit, clip).collect::<Vec<_>>();
        assert_eq!(of(&[3, 4, 0], 5), [3, 4, 0]);
        assert_eq!(of(&[30, 40, 0], 5), [3, 4, 0]);
        assert_eq!(of(&[1, 1, 1], 1), [0, 0, 0]);
        assert_eq!(of(&[u64::MAX, 0], 7), [7, 0]);
        assert_eq!(of(&[0, 0], 1), [0, 0]);
    }

    #[test]
    fn the_release_is_the_sum_with_noise_of_the_scale_that_is_paid_for() {
        let noise = CountNoise {
            clip: 4,
            sigma: 50.0,
        };
        let release = || {
            let mut counts = ClippedCounts::new(noise, 2);
            for _ in 0..1000 {
                counts.add(&[3, 1]).expect("two counts");
            }
            counts.release().expect("released")
        };
        let errors: Vec<f64> = (0..400)
            .flat_map(|_| {
                let found = release();
                [found[0] as f64 - 3000.0, found[1] as f64 - 1000.0]
            })
            .collect();
        let count = errors.len() as f64;
        let mean = errors.iter().sum::<f64>() / count;
        let variance = errors.iter().map(|e| e * e).sum::<f64>() / count;
        // Six standard errors of either.
        assert!(mean.abs() < 6.0 * 50.0 / count.sqrt(), "{mean}");
        let spread = 2500.0 * (2.0 / count).sqrt();
        assert!((variance - 2500.0).abs() < 6.0 * spread, "{variance}");
    }

    #[test]
    fn counts_are_never_below_nothing_and_of_one_length() {
        let noise = CountNoise {
            clip: 1,
            sigma: 1000.0,
        };
        let released = ClippedCounts::new(noise, 200).release().expect("released");
        assert!(released.contains(&0), "half of the noise is negative");
        assert!(released.iter().any(|count| *count > 0));
        let error = ClippedCounts::new(noise, 3).add(&[1]);
        assert!(matches!(
            error,
            Err(Error::Length {
                expected: 3,
                found: 1
            })
        ));
    }

    proptest! {
        #[test]
        fn no_unit_passes_the_norm(
            unit in prop::collection::vec(0u64..100_000, 1..40), clip in 1u32..2000,
        ) {
            let found: Vec<i64> = clipped(&unit, clip).collect();
            prop_assert!(norm_squared(&found) <= u128::from(clip).pow(2));
            prop_assert!(found.iter().zip(&unit).all(|(a, b)| a.unsigned_abs() <= *b));
        }
    }
}
