//! The figure for the noise that is released: the discrete Gaussian on rounded sums.
//!
//! # Why it may decide
//!
//! A plan fixes rate, noise and everything else of a step beforehand, and each step's pair of worst
//! distributions is the same whatever the model has become. So their composition bounds the training
//! with models that were chosen by what was released (Zhu, Dong and Wang 2022, "Optimal Accounting
//! of Differential Privacy via Characteristic Function", theorem 10). Another attempt is more steps of
//! the same pair. How many there are at most is fixed by the limit: it is the largest number that stays
//! within. A training that ends before it releases a part of what that many would.
//!
//! # The lemma *discrete*
//!
//! Let M be a training of T steps whose sums have d coordinates, with discrete Gaussian noise of parameter σ̃
//! in each. Let M′ be the same with the continuous Gaussian of deviation σ̃, rounded to the next integer. M′
//! is made of the continuous mechanism's release on integer sums, so that it is (ε₀, δ₀) differentially
//! private as that one is. Then M is (ε₀ + a, e^a δ₀ + (1 + e^(a+ε₀)) τ) private, with
//!
//! `a = dT (K² + 2) / 8σ̃²` and `τ = 3dT e^(−(K−1/100)²/2)`.
//!
//! *Proof.* Let φ be the density of N(0, σ̃²). Rounded continuous noise is the integer k with probability
//! `p_k = φ(k) ∫_{−1/2}^{1/2} e^(−u²/2σ̃²) cosh(ku/σ̃²) du`, the discrete one with `D_k = φ(k) / Σ_j φ(j)`.
//! By Poisson's summation 1 ≤ Σ_j φ(j) ≤ 1 + 3e^(−2π²σ̃²), and so, for |k| ≤ Kσ̃, with cosh x ≤ e^(x²/2),
//!
//! `D_k / p_k ≤ e^(1/8σ̃²)` and `p_k / D_k ≤ e^((K² + 1)/8σ̃²)`.
//!
//! Both trainings are one function of who was sampled, which has the same law in both, and of dT
//! independent integers of noise. Where no integer is beyond Kσ̃, the laws of all integers are within the
//! factors e^(dT/8σ̃²) and e^(dT(K²+1)/8σ̃²), whose product is e^a. One is beyond with a probability of at
//! most τ under either law (the discrete one's exponential moments
//! are at most the continuous one's: Canonne, Kamath and Steinke 2020). So
//! for any event, on neighbouring texts,
//!
//! `M(E) ≤ e^(a₁) M′(E) + τ ≤ e^(a₁) (e^ε₀ M′₂(E) + δ₀) + τ ≤ e^(a₁+ε₀) (e^(a₂) M₂(E) + τ) + e^(a₁) δ₀ + τ`,
//!
//! where a₁ + a₂ = a. ∎
//!
//! At the least, a clip is 2^24 steps of the grid ([`PrivateSum`](crate::dp_sgd_step::PrivateSum)), so that
//! σ̃ ≥ z·2^24. Of a head and 360 steps a is below 10⁻⁶, of 22 million weights about 10⁻³. Where a cohort takes a step
//! together, a clip is 2^16 steps, and a of a head about 2·10⁻³.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::super::{Error, Phase};
use super::epsilon;

/// K: noise beyond so many deviations is counted as a failure.
const REACH: f64 = 14.0;
/// Where the integers are fewer, neighbouring ones differ too much for the lemma to be of use.
const LEAST_SCALE: f64 = 1000.0;

/// The smallest ε of `phase` at `delta`, rounded up: what the hard stop compares where a plan has fixed all settings.
/// The noise is discrete, on `dimension` coordinates; a clip has `grid` steps of it.
///
/// `bound` is that by Rényi divergence. Laws that differ from discrete Gaussians by a factor of e^`laws` in all, both
/// sides together, add it to a.
pub(in crate::accountant) fn epsilon_discrete(
    phase: Phase,
    (dimension, grid): (u64, f64),
    (bound, laws): (f64, f64),
    delta: f64,
) -> Result<f64, Error> {
    let scale = phase.noise_multiplier * grid;
    let usable = scale >= LEAST_SCALE && bound.is_finite() && delta > 0.0 && delta < 1.0;
    if !usable || phase.is_free() {
        return Ok(bound);
    }
    let integers = (dimension.max(1) as f64) * (phase.steps as f64) * (1.0 + 4.0 * f64::EPSILON);
    let rounded = integers * (REACH * REACH + 2.0) / 8.0 / scale / scale;
    let apart = (rounded + laws) * (1.0 + 4.0 * f64::EPSILON);
    let beyond = 3.0 * integers * libm::exp(-(REACH - 0.01) * (REACH - 0.01) / 2.0);
    // The Rényi figure is above ε₀ wherever this one is of use.
    let failure = (1.0 + libm::exp(apart + bound)) * beyond;
    let rest = (delta - failure) * libm::exp(-apart) * (1.0 - 8.0 * f64::EPSILON);
    if !(rest > 0.0 && apart < 1.0) {
        return Ok(bound);
    }
    let continuous = remembered(phase, rest)?;
    Ok(((continuous + apart) * (1.0 + 4.0 * f64::EPSILON)).min(bound))
}

/// [`epsilon`], which a ledger asks for again with every look at it.
fn remembered(phase: Phase, delta: f64) -> Result<f64, Error> {
    static KNOWN: Mutex<BTreeMap<[u64; 4], f64>> = Mutex::new(BTreeMap::new());
    let key = [
        phase.sampling_rate.to_bits(),
        phase.noise_multiplier.to_bits(),
        phase.steps,
        delta.to_bits(),
    ];
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known().get(&key) {
        return Ok(*found);
    }
    let found = epsilon(&[phase], delta)?;
    let mut known = known();
    if known.len() >= MOST_KNOWN {
        known.clear();
    }
    known.insert(key, found);
    Ok(found)
}

/// Figures that are kept.
const MOST_KNOWN: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::rdp;

    /// Of steps that one institution releases.
    fn epsilon_discrete(phase: Phase, dimension: u64, delta: f64) -> Result<f64, Error> {
        let bound = rdp::epsilon_discrete(&[phase], delta)?;
        let grid = f64::from(1 << 24);
        super::epsilon_discrete(phase, (dimension, grid), (bound, 0.0), delta)
    }

    fn phase(sampling_rate: f64, noise_multiplier: f64, steps: u64) -> Phase {
        Phase {
            sampling_rate,
            noise_multiplier,
            steps,
        }
    }

    /// The factors of the lemma, integer by integer, at a scale small enough to see them.
    #[test]
    fn rounded_and_discrete_noise_are_within_the_factors() {
        for scale in [2.0f64, 5.0, 20.0, 100.0] {
            let variance = scale * scale;
            let density = |k: f64| (-k * k / (2.0 * variance)).exp();
            let whole: f64 = (-4000..=4000).map(|k| density(f64::from(k))).sum();
            let norm = (2.0 * std::f64::consts::PI).sqrt() * scale;
            let reach = 6.0;
            let (mut above, mut below) = (0.0f64, 0.0f64);
            let mut k = 0.0;
            while k <= reach * scale {
                // Simpson's rule over the cell, relative to the middle.
                let parts = 200;
                let cell: f64 = (0..=parts)
                    .map(|i| {
                        let u = f64::from(i) / f64::from(parts) - 0.5;
                        let weight = match i {
                            0 => 1.0,
                            i if i == parts => 1.0,
                            i if i % 2 == 1 => 4.0,
                            _ => 2.0,
                        };
                        weight * (-(2.0 * k * u + u * u) / (2.0 * variance)).exp()
                    })
                    .sum::<f64>()
                    / (3.0 * f64::from(parts));
                let ratio = (cell * whole / norm).ln();
                above = above.max(ratio);
                below = below.max(-ratio);
                k += 1.0;
            }
            let (least, most) = (
                1.0 / (8.0 * variance),
                (reach * reach + 1.0) / (8.0 * variance),
            );
            assert!(below <= least * (1.0 + 1e-6), "{scale}: {below} {least}");
            assert!(above <= most * (1.0 + 1e-6), "{scale}: {above} {most}");
            // They are no larger than they must be by more than a few times.
            assert!(
                above > most / 8.0 && below > least / 8.0,
                "{scale}: {above} {below}"
            );
        }
    }

    #[test]
    fn it_is_the_loss_distribution_s_figure_and_a_little_more() {
        for (q, z, steps, dimension) in [
            (0.1888, 14.6, 360, 5_379),
            (0.1888, 5.4, 360, 5_379),
            (0.1888, 2.45, 360, 5_379),
            (0.78, 5.5, 40, 10_000),
        ] {
            let phase = phase(q, z, steps);
            let found = epsilon_discrete(phase, dimension, 1e-5).expect("in range");
            let tight = epsilon(&[phase], 1e-5).expect("in range");
            let loose = rdp::epsilon_discrete(&[phase], 1e-5).expect("in range");
            assert!(found >= tight, "{q} {z}: {found} {tight}");
            assert!(
                found < tight * (1.0 + 1e-4) + 1e-4,
                "{q} {z}: {found} {tight}"
            );
            assert!(found < loose * 0.97, "{q} {z}: {found} {loose}");
        }
        // All weights of a small encoder: a thousandth.
        let wide = phase(0.1888, 2.45, 360);
        let found = epsilon_discrete(wide, 22_000_000, 1e-5).expect("in range");
        let tight = epsilon(&[wide], 1e-5).expect("in range");
        assert!(found > tight && found < tight + 2e-3, "{found} {tight}");
    }

    #[test]
    fn where_the_lemma_is_of_no_use_the_rényi_figure_decides() {
        for (z, dimension) in [(5e-5, 10), (1e-4, 1_000_000_000), (0.01, u64::MAX)] {
            let phase = phase(0.3, z, 10);
            let found = epsilon_discrete(phase, dimension, 1e-5).expect("in range");
            let bound = rdp::epsilon_discrete(&[phase], 1e-5).expect("in range");
            assert_eq!(found.to_bits(), bound.to_bits(), "{z}");
        }
        let free = epsilon_discrete(phase(0.3, 1.0, 0), 10, 1e-5).expect("in range");
        assert_eq!(free.to_bits(), 0);
        assert!(epsilon_discrete(phase(2.0, 1.0, 1), 10, 1e-5).is_err());
    }
}
