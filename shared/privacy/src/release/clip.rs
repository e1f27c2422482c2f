//! Scaling an update to its largest permitted norm.

use fedner_shared::vector::vectorized;

use super::error::Error;

/// Partial sums of this many squares keep the rounding error of a long sum far below the slack of
/// the integer bound.
const CHUNK: usize = 4096;
/// Sums kept side by side, so that they are added at once.
const LANES: usize = 16;

/// ‖Δ‖₂ in f64, or the place of the first value that is not finite.
pub(crate) fn norm(update: &[f32]) -> Result<f64, Error> {
    let squares: f64 = update.chunks(CHUNK).map(squares).sum();
    // f32 squares neither overflow f64 nor, that many of them, its sum.
    if squares.is_finite() {
        return Ok(squares.sqrt());
    }
    let found = update
        .iter()
        .copied()
        .enumerate()
        .find(|(_, value)| !value.is_finite());
    let (index, value) = found.unwrap_or((0, f32::INFINITY));
    Err(Error::NotFinite { index, value })
}

fn squares(chunk: &[f32]) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0.0f64; LANES];
            let (whole, rest) = chunk.as_chunks::<LANES>();
            for values in whole {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += f64::from(*value) * f64::from(*value);
                }
            }
            for (sum, value) in sums.iter_mut().zip(rest) {
                *sum += f64::from(*value) * f64::from(*value);
            }
            sums.iter().sum()
        },
    )
}

/// The factor from a weight's change to grid steps: `min(1, C/‖Δ‖₂) / γ`, written as
/// `(C/γ) / max(‖Δ‖₂, C)` so that it is rounded once.
///
/// The rounding may leave the norm above C by a few parts in 2^50. That is allowed for: the proof
/// of the bound is the integer comparison that follows, not this factor.
pub(crate) fn steps_per_weight(norm: f64, clip: f64, steps: f64) -> f64 {
    steps / norm.max(clip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_is_that_of_the_vector_and_extremes_do_not_overflow() {
        assert!((norm(&[3.0, -4.0]).expect("finite") - 5.0).abs() < 1e-15);
        assert!(norm(&vec![f32::MAX; 10_000]).expect("finite").is_finite());
        assert!(norm(&[]).expect("empty").abs() < f64::MIN_POSITIVE);
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = norm(&[0.0, 1.0, bad, bad]).expect_err("not finite");
            assert!(
                matches!(error, Error::NotFinite { index: 2, .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn only_longer_updates_are_shortened() {
        assert!((steps_per_weight(0.5, 1.0, 8.0) - 8.0).abs() < 1e-15);
        assert!((steps_per_weight(4.0, 1.0, 8.0) - 2.0).abs() < 1e-15);
        assert!((steps_per_weight(0.0, 2.0, 8.0) - 4.0).abs() < 1e-15);
    }
}
