//! Conditional stochastic rounding: from weights to integers of a proven norm.

use fedner_shared::update::squared_norm;
use pulp::{Arch, NullaryFnOnce};
use rand::Rng;

use super::error::Error;

/// Each attempt succeeds with a probability of at least 1 − e^(-1/2) ≈ 0.39, so that all of them
/// fail with one below 10^-54.
const MAX_ATTEMPTS: u32 = 256;

/// 2^32, by which a fraction becomes a threshold for 32 random bits.
const TWO_TO_32: f64 = 4_294_967_296.0;

/// Weights rounded at a time.
const PART: usize = 2048;

/// Integers on the grid, their squared norm at most the bound, and how many roundings it took.
#[derive(Debug)]
pub(crate) struct Rounded {
    pub(crate) values: Vec<i32>,
    pub(crate) attempts: u32,
}

/// Rounds `update · factor` to integers until their squared norm is at most `squared_bound`
/// (Kairouz, Liu and Steinke 2021, Section 4.1 and Algorithm 1).
pub(crate) fn round(
    update: &[f32],
    factor: f64,
    squared_bound: u128,
    random: &mut impl Rng,
) -> Result<Rounded, Error> {
    let mut values = vec![0; update.len()];
    let mut bits = [0u32; PART];
    for attempts in 1..=MAX_ATTEMPTS {
        let mut squared = 0;
        for (values, weights) in values.chunks_mut(PART).zip(update.chunks(PART)) {
            let bits = &mut bits[..weights.len()];
            random.fill_bytes(bytemuck::cast_slice_mut(bits));
            Arch::new().dispatch(Part {
                values,
                weights,
                bits,
                factor,
            });
            squared += squared_norm(values);
        }
        if squared <= squared_bound {
            return Ok(Rounded { values, attempts });
        }
    }
    Err(Error::Rounding {
        attempts: MAX_ATTEMPTS,
    })
}

/// Weights to round, with 32 random bits each. A closure would not surely be compiled into the
/// vector unit's instructions, without which rounding down is a call.
struct Part<'a> {
    values: &'a mut [i32],
    weights: &'a [f32],
    bits: &'a [u32],
    factor: f64,
}

impl NullaryFnOnce for Part<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "see above")]
    fn call(self) {
        let inputs = self.weights.iter().zip(self.bits);
        for (value, (weight, bits)) in self.values.iter_mut().zip(inputs) {
            *value = stochastic(f64::from(*weight) * self.factor, *bits);
        }
    }
}

/// `x` rounded to one of its two neighbouring integers, with the expectation `x` to 2^-32.
///
/// A number that i32 cannot hold saturates, and the norm check refuses it.
#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "vector code needs the whole loop in one function"
)]
fn stochastic(x: f64, bits: u32) -> i32 {
    let whole = x.floor();
    let up = f64::from(bits) < (x - whole) * TWO_TO_32;
    (whole + f64::from(u8::from(up))) as i32
}

#[cfg(test)]
mod tests {
    use fedner_shared::plan::Grid;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::release::clip::{norm, steps_per_weight};
    use crate::sensitivity::squared_bound;

    proptest! {
        #[test]
        fn no_rounding_is_longer_than_the_bound(
            update in prop::collection::vec(-10f32..10.0, 0..400),
            exponent in 0u32..20,
            clip in 1e-3f64..100.0,
            seed: u64,
        ) {
            let grid = Grid { clip, exponent };
            let bound = squared_bound(grid, update.len());
            let factor = steps_per_weight(norm(&update).expect("finite"), clip, grid.steps());
            let mut random = ChaCha20Rng::seed_from_u64(seed);
            let rounded = round(&update, factor, bound, &mut random).expect("within the attempts");
            prop_assert!(squared_norm(&rounded.values) <= bound);
            for (value, weight) in rounded.values.iter().zip(&update) {
                let exact = f64::from(*weight) * factor;
                prop_assert!((f64::from(*value) - exact).abs() < 1.0, "{value} from {exact}");
            }
        }
    }

    #[test]
    fn the_expectation_is_the_number_itself() {
        let mut random = ChaCha20Rng::seed_from_u64(1);
        for x in [0.0, 0.25, -0.25, 3.9, -7.5, -1e-3] {
            let count = 100_000;
            let sum: i64 = (0..count)
                .map(|_| i64::from(stochastic(x, random.next_u32())))
                .sum();
            // Six standard deviations of a Bernoulli mean, whose variance is at most 1/4.
            let error = (sum as f64 / f64::from(count) - x).abs();
            assert!(error < 6.0 * 0.5 / f64::from(count).sqrt(), "{x}: {error}");
        }
    }

    #[test]
    fn integers_stay_and_the_unreachable_is_an_error_not_a_loop() {
        let mut random = ChaCha20Rng::seed_from_u64(2);
        let rounded = round(&[3.0, -4.0, 0.0], 1.0, 25, &mut random).expect("exact");
        assert_eq!((rounded.values, rounded.attempts), (vec![3, -4, 0], 1));
        let error = round(&[3.0, -4.0], 1.0, 24, &mut random).expect_err("too long");
        assert!(
            matches!(error, Error::Rounding { attempts: 256 }),
            "{error}"
        );
        let error = round(&[f32::MAX], 1.0, 1 << 48, &mut random).expect_err("saturated");
        assert!(matches!(error, Error::Rounding { .. }), "{error}");
        let error = round(&[f32::MIN], 1.0, 1 << 48, &mut random).expect_err("saturated");
        assert!(matches!(error, Error::Rounding { .. }), "{error}");
    }

    #[test]
    fn a_vector_at_the_edge_needs_several_roundings_sometimes() {
        // Norm exactly C, every fraction one half: the case for which the bound is made.
        let grid = Grid {
            clip: 1.0,
            exponent: 4,
        };
        let update = vec![(1.0 / 1024f32).sqrt(); 1024];
        let bound = squared_bound(grid, update.len());
        let mut random = ChaCha20Rng::seed_from_u64(3);
        let attempts: Vec<u32> = (0..200)
            .map(|_| {
                round(&update, grid.steps(), bound, &mut random)
                    .expect("rounded")
                    .attempts
            })
            .collect();
        // The mean number of attempts is at most 1/0.39.
        assert!(attempts.iter().sum::<u32>() < 200 * 3, "{attempts:?}");
    }
}
