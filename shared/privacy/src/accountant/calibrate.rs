//! From a wanted ε to the noise it needs.

use std::ops::RangeInclusive;

use super::{Error, Phase, pld, rdp};

/// The noise multipliers that [`noise_multiplier`] tries.
const RANGE: (f64, f64) = (1e-2, 1e6);
/// The multiplier found is above the smallest by less than this part of it.
const TOLERANCE: f64 = 1e-6;

/// Which figure a noise multiplier is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accountant {
    /// [`rdp`], of the hard stop.
    Rdp,
    /// [`pld`], reported.
    Pld,
}

impl Accountant {
    /// ε of `phases` one after another at `delta`, rounded up.
    pub fn epsilon(self, phases: &[Phase], delta: f64) -> Result<f64, Error> {
        match self {
            Self::Rdp => rdp::epsilon(phases, delta),
            Self::Pld => pld::epsilon(phases, delta),
        }
    }
}

/// The smallest noise multiplier, rounded up, with which `steps` steps at sampling rate `q` stay
/// within `target_epsilon` at `delta`.
pub fn noise_multiplier(
    accountant: Accountant,
    sampling_rate: f64,
    steps: u64,
    target_epsilon: f64,
    delta: f64,
) -> Result<f64, Error> {
    let enough = |noise_multiplier| {
        let phase = Phase {
            sampling_rate,
            noise_multiplier,
            steps,
        };
        Ok(accountant.epsilon(&[phase], delta)? <= target_epsilon)
    };
    let (least, largest) = RANGE;
    least_noise(least..=largest, TOLERANCE, enough)?.ok_or(Error::Unreachable {
        target_epsilon,
        largest,
    })
}

/// The smallest noise in `range` that is `enough`, rounded up by less than the part `tolerance` of it;
/// `None` where the largest is not. More noise than enough is enough.
pub fn least_noise<E>(
    range: RangeInclusive<f64>,
    tolerance: f64,
    mut enough: impl FnMut(f64) -> Result<bool, E>,
) -> Result<Option<f64>, E> {
    let (mut low, mut high) = range.into_inner();
    if !enough(high)? {
        return Ok(None);
    }
    if enough(low)? {
        return Ok(Some(low));
    }
    while high / low > 1.0 + tolerance {
        let middle = (low * high).sqrt();
        if enough(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(Some(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_just_enough() {
        for accountant in [Accountant::Rdp, Accountant::Pld] {
            for (rate, steps, target, delta) in [
                (0.01, 1000, 2.0, 1e-5),
                (0.2048, 50, 8.0, 1e-5),
                (1.0, 5, 0.5, 1e-6),
            ] {
                let found =
                    noise_multiplier(accountant, rate, steps, target, delta).expect("reachable");
                let at = |noise_multiplier| {
                    let phase = Phase {
                        sampling_rate: rate,
                        noise_multiplier,
                        steps,
                    };
                    accountant.epsilon(&[phase], delta).expect("in range")
                };
                assert!(
                    at(found) <= target && at(found * 0.999) > target,
                    "{accountant:?} {found}"
                );
            }
        }
        // PLD is tighter, so that it asks for less.
        let [rdp, pld] = [Accountant::Rdp, Accountant::Pld].map(|accountant| {
            noise_multiplier(accountant, 0.01, 1000, 2.0, 1e-5).expect("reachable")
        });
        assert!(pld < rdp, "{pld} {rdp}");
    }

    #[test]
    fn what_no_noise_gives_is_an_error() {
        let error = noise_multiplier(Accountant::Rdp, 1.0, 1000, 0.0, 1e-9);
        assert!(matches!(error, Err(Error::Unreachable { .. })), "{error:?}");
        assert!(noise_multiplier(Accountant::Pld, 1.5, 10, 1.0, 1e-5).is_err());
    }
}
