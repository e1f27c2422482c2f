//! Privacy loss distributions of the sampled Gaussian mechanism, composed by Fourier transforms.
//!
//! The tightest figure here, for plans that fixed every setting beforehand: unlike RDP and zCDP,
//! it does not hold when later settings depend on what was released before. [`epsilon`] is that of
//! the continuous Gaussian and is reported; [`Steps::epsilon`](super::Steps::epsilon) is that of the noise that is released,
//! and stops a run.
//!
//! Neighbouring data sets differ by one unit being there or not, and both directions count: the
//! unit is removed, `P = (1−q)·N(0,σ²) + q·N(1,σ²)` and `Q = N(0,σ²)`, or it is added, P and Q
//! exchanged. The privacy loss of an outcome x ~ P is `ln P(x)/Q(x)`, losses add up over steps, and
//! `δ(ε) = E (1 − e^(ε−L))₊` of their sum (Sommer, Meiser and Mohammadi 2019, "Privacy Loss
//! Classes"; Koskela, Jälkö and Honkela 2020, "Computing Tight Differential Privacy Guarantees
//! Using FFT").
//!
//! Upwards: `loss` rounds each step's distribution to a grid so that δ(ε) grows everywhere, and
//! `compose` adds what its truncations and floating point can amount to. Both are upper bounds, and
//! RDP is another of the same quantity: where it is the smaller, for more steps than a grid can
//! carry or a δ below the reach of floating point, it is the figure.

mod compose;
mod discrete;
mod fourier;
mod loss;

use std::panic::resume_unwind;
use std::thread;

use fedner_shared::plan::ranges;

use super::{Error, Phase, known, rdp};
use compose::{Part, Sum};
pub(super) use discrete::epsilon_discrete;
use loss::{Grid, Loss};

/// The smallest ε that `phases` one after another give at `delta`, rounded up.
pub fn epsilon(phases: &[Phase], delta: f64) -> Result<f64, Error> {
    let Some(phases) = paid(phases)? else {
        return Ok(0.0);
    };
    if delta >= 1.0 {
        return Ok(0.0);
    }
    let endless = phases.iter().any(|phase| phase.noise_multiplier <= 0.0);
    if endless || delta.is_nan() || delta <= 0.0 {
        return Ok(f64::INFINITY);
    }
    let bound = rdp::epsilon(&phases, delta)?;
    if !(resolved(&phases) && delta >= *ranges::DELTA.start()) {
        return Ok(bound);
    }
    Ok(known(composed(&phases, delta)).min(bound))
}

/// Whether floating point resolves the distributions of these phases. Rényi divergences bound the
/// rest.
fn resolved(phases: &[Phase]) -> bool {
    phases
        .iter()
        .all(|phase| NOISE.contains(&phase.noise_multiplier) && phase.sampling_rate >= LEAST_RATE)
}

/// Noise multipliers whose losses have digits.
const NOISE: std::ops::RangeInclusive<f64> = 1e-3..=1e6;
/// Sampling rates beneath it are nothing beside 1.
const LEAST_RATE: f64 = 1e-12;

/// By the transforms alone; infinite where they are of no use.
fn composed(phases: &[Phase], delta: f64) -> f64 {
    let grid = Grid::fitting(phases, delta);
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for phase in phases {
        let steps = phase.steps;
        let (one, other) = Loss::both_directions(phase, grid);
        removed.push(Part { loss: one, steps });
        added.push(Part { loss: other, steps });
    }
    let of = |parts: &[Part]| {
        Sum::new(parts, grid.step, delta).map_or(f64::INFINITY, |sum| known(sum.epsilon(delta)))
    };
    let (removed, added) = thread::scope(|scope| {
        let removed = scope.spawn(|| of(&removed));
        let added = of(&added);
        (
            removed.join().unwrap_or_else(|panic| resume_unwind(panic)),
            added,
        )
    });
    removed.max(added)
}

/// The phases that release anything, once all are found sound.
fn paid(phases: &[Phase]) -> Result<Option<Vec<Phase>>, Error> {
    phases.iter().try_for_each(Phase::check)?;
    let paid: Vec<Phase> = phases
        .iter()
        .copied()
        .filter(|phase| !phase.is_free())
        .collect();
    Ok(Some(paid).filter(|paid| !paid.is_empty()))
}

#[cfg(test)]
mod tests;
