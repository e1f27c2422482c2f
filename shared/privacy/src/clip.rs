//! Scaling an update to its largest permitted norm.

use crate::release::Error;

/// Partial sums of this many squares keep the rounding error of a long sum far below the slack of
/// the integer bound.
const CHUNK: usize = 4096;

/// ‖Δ‖₂ in f64, or the place of the first value that is not finite.
pub(crate) fn norm(update: &[f32]) -> Result<f64, Error> {
    if let Some(index) = update.iter().position(|value| !value.is_finite()) {
        return Err(Error::NotFinite {
            index,
            value: update[index],
        });
    }
    let square = |value: &f32| f64::from(*value) * f64::from(*value);
    let squares = update
        .chunks(CHUNK)
        .map(|chunk| chunk.iter().map(square).sum::<f64>());
    Ok(squares.sum::<f64>().sqrt())
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
