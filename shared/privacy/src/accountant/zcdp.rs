//! Zero-concentrated differential privacy of the discrete Gaussian.
//!
//! ρ adds up under adaptive composition (Bun and Steinke 2016, "Concentrated Differential
//! Privacy: Simplifications, Extensions, and Lower Bounds"), which is why the ledger counts in it.

use std::f64::consts::PI;

use fedner_shared::plan::ranges::LEAST_SHARE;
use fedner_shared::plan::{CountNoise, Grid, Privacy};

use super::{LEAST, first_true, known};
use crate::sensitivity::squared_bound;

/// ρ of one release under this plan's privacy settings, of `dimension` trainable weights, rounded
/// up. Infinite for the unit `none` and without noise.
///
/// Where noise is shared, it is that of a sum of `noise_shares` updates: see [`rho_of_sum`].
pub fn rho_per_round(privacy: &Privacy, dimension: usize) -> f64 {
    if !privacy.shares_noise() {
        return rho_alone(privacy, dimension);
    }
    rho_of_sum(
        squared_bound(privacy.grid(), dimension) as f64,
        privacy.update_noise_multiplier() * privacy.grid().steps(),
        (privacy.noise_shares, dimension as u64),
    )
}

/// The same by the noise of the one update, whatever others add.
///
/// This is the figure that [`release`](crate::release::release) checks against OpenDP's map.
pub fn rho_alone(privacy: &Privacy, dimension: usize) -> f64 {
    rho(privacy.grid(), dimension, privacy.update_noise_multiplier())
}

/// ρ = Δ̃² / (2 σ̃²) with σ̃ = σ/γ = z·C/γ, both in grid steps, rounded up (Canonne, Kamath and
/// Steinke 2020, "The Discrete Gaussian for Differential Privacy", Theorem 14).
///
/// Δ̃ is the norm after rounding, so that rounding is paid for: with the 2^18 steps of a clip it
/// adds a part in 2^18 for small models and about d/2^38 for large ones. The lemma *update* of the
/// [crate] states it.
pub fn rho(grid: Grid, dimension: usize, noise_multiplier: f64) -> f64 {
    if noise_multiplier.is_nan() || noise_multiplier <= 0.0 {
        return f64::INFINITY;
    }
    rho_of(
        squared_bound(grid, dimension) as f64,
        noise_multiplier * grid.steps(),
    )
}

/// ρ of one release of counts, of which a unit changes the norm K at most.
pub fn rho_of_counts(noise: CountNoise) -> f64 {
    rho_of(f64::from(noise.clip).powi(2), noise.sigma)
}

/// ρ = Δ̃² / (2 σ̃²), rounded up; infinite where the inputs are none.
pub fn rho_of(squared_sensitivity: f64, scale: f64) -> f64 {
    if !(scale > 0.0 && squared_sensitivity >= 0.0) {
        return f64::INFINITY;
    }
    let rho = squared_sensitivity / 2.0 / scale / scale;
    // Four roundings here, and those of the f64 distance that OpenDP's map is asked about.
    let rounded = known(rho).max(LEAST) * (1.0 + 16.0 * f64::EPSILON);
    if squared_sensitivity > 0.0 {
        rounded
    } else {
        0.0
    }
}

/// ρ of one vector in a sum of at least n = `senders`, to which each sender adds discrete Gaussian noise of parameter
/// σ = `scale`, in `dimension` coordinates; rounded up.
///
/// `ρ = ε²/2` with `ε = Δ/(√n·σ) + τ·√d` and `τ = 10·Σ_{k=1}^{n−1} e^(−2π²σ²·k/(k+1))` (Kairouz, Liu and Steinke
/// 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation", Proposition 14).
/// τ bounds how far the sum of n discrete Gaussians is from one, by the logarithm of the ratio of their
/// probabilities. At σ = 4 it is below 10^-66·n, and plans below that are refused. So are figures here. The lemma
/// *shared noise* of the [crate] says whose noise may be counted.
pub fn rho_of_sum(squared_sensitivity: f64, scale: f64, (senders, dimension): (u32, u64)) -> f64 {
    if senders <= 1 {
        return rho_of(squared_sensitivity, scale);
    }
    if !(scale >= LEAST_SHARE && squared_sensitivity >= 0.0) {
        return f64::INFINITY;
    }
    let tau = shares_apart(scale, senders);
    let one = squared_sensitivity.sqrt() / (f64::from(senders).sqrt() * scale);
    let epsilon = one + tau * (dimension as f64).sqrt();
    let rounded = known(epsilon * epsilon / 2.0).max(LEAST) * (1.0 + 32.0 * f64::EPSILON);
    if squared_sensitivity > 0.0 {
        rounded
    } else {
        0.0
    }
}

/// τ, by which the logarithm of the law of the sum of n = `senders` discrete Gaussians of parameter σ = `scale` may differ
/// from that of one of parameter √n·σ, at any integer; rounded up. The formula is that of [`rho_of_sum`], for σ of
/// [`LEAST_SHARE`] at least.
pub(super) fn shares_apart(scale: f64, senders: u32) -> f64 {
    let of_variance = -2.0 * PI * PI * scale * scale;
    let term = |k: u32| libm::exp(of_variance * (f64::from(k) / f64::from(k + 1)));
    // An exponent of −700 is off by a part in 10^12 at most. What is smaller does not count beside Δ/σ.
    10.0 * (1..senders).map(term).sum::<f64>() * (1.0 + 1e-9)
}

/// The sum of two ρ, rounded up.
pub fn add(left: f64, right: f64) -> f64 {
    let sum = left + right;
    let exact = left <= 0.0 || right <= 0.0;
    if exact { sum } else { sum.next_up() }
}

/// The smallest ε that ρ-zCDP is known to imply at this δ, rounded up. Infinite for δ = 0.
///
/// For every α > 1, δ = e^((α−1)(αρ−ε)) / (α−1) · (1 − 1/α)^α is enough (Canonne, Kamath and
/// Steinke 2020, Corollary 13). Solved for ε, with t = α − 1:
///
/// `ε(t) = (1 + t)ρ + ln(t / (1 + t)) − (ln δ + ln(1 + t)) / t`
///
/// Its derivative is ρ + ln(αδ)/t², which changes sign once; any t gives a valid ε, so the search
/// itself needs no care about rounding.
pub fn epsilon(rho: f64, delta: f64) -> f64 {
    if rho <= 0.0 || delta >= 1.0 {
        return 0.0;
    }
    if !(rho.is_finite() && delta > 0.0) {
        return f64::INFINITY;
    }
    let ln_delta = libm::log(delta);
    let rising = |ln_t: f64| {
        let t = libm::exp(ln_t);
        rho * t * t + ln_delta + libm::log1p(t) >= 0.0
    };
    // t from e^-345 to e^345, about 10^±150: beyond every ρ and δ that has a use.
    let t = libm::exp(first_true(-345.0, 345.0, rising));
    let terms = [
        rho,
        t * rho,
        -libm::log1p(1.0 / t),
        -ln_delta / t,
        -libm::log1p(t) / t,
    ];
    let (sum, size) = terms
        .iter()
        .fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
    known(sum + 8.0 * f64::EPSILON * size).max(0.0)
}

#[cfg(test)]
mod tests {
    use fedner_shared::plan::{Clipping, Unit};
    use opendp::combinators::make_zCDP_to_approxDP;
    use proptest::prelude::*;

    use super::*;
    use crate::golden::{array, assert_near, number};
    use crate::noise;

    fn institution(noise_multiplier: f64) -> Privacy {
        Privacy {
            unit: Unit::Institution,
            clip: 1.0,
            clipping: Clipping::Threshold,
            noise_multiplier,
            delta: 1e-5,
            max_epsilon: 8.0,
            ..Privacy::default()
        }
    }

    #[test]
    fn epsilon_agrees_with_the_reference_values() {
        assert_near(epsilon(0.5, 1e-5), 4.728_386_984_9, 1e-9);
        assert_near(epsilon(2.0, 1e-5), 10.724_824_112_9, 1e-9);
        for case in array("zcdp_to_epsilon") {
            let found = epsilon(number(&case, "rho"), number(&case, "delta"));
            assert_near(found, number(&case, "epsilon"), 1e-9);
        }
    }

    #[test]
    fn rho_agrees_with_the_reference_values() {
        for case in array("sum_of_discrete_gaussians") {
            if number(&case, "beta") > 0.0 {
                let grid = Grid {
                    clip: 1.0,
                    exponent: -number(&case, "grid_exponent") as u32,
                };
                // n silos of σ each carry the noise of √n·σ together.
                let z = number(&case, "silos").sqrt() * number(&case, "sigma_local");
                let found = rho(grid, number(&case, "dimension") as usize, z);
                assert_near(found, number(&case, "rho"), 1e-9);
            }
        }
        // d/4 + K + √d/2 with K = 2^18 on top of K² = 2^36.
        let expected = 0.5 * (1.0 + (1_725.0 + 262_144.0 + 41.5) / 68_719_476_736.0);
        assert_near(rho_per_round(&institution(1.0), 6_900), expected, 1e-10);
    }

    #[test]
    fn a_sum_of_shares_costs_what_one_update_with_all_the_noise_does() {
        for (z, shares, dimension) in [(1.0, 2, 1), (0.7, 8, 1_000), (0.01, 66, 22_600_000)] {
            let whole = institution(z);
            let shared = Privacy {
                noise_shares: shares,
                ..whole.clone()
            };
            let (one, sum) = (
                rho_per_round(&whole, dimension),
                rho_per_round(&shared, dimension),
            );
            assert_near(sum / one, 1.0, 1e-13);
            // Its own noise alone.
            assert_near(
                rho_alone(&shared, dimension) / one,
                f64::from(shares),
                1e-12,
            );
        }
    }

    /// Where τ counts, by the formula term by term, and where nothing is known.
    #[test]
    fn small_shares_cost_more_or_everything() {
        let (scale, senders, dimension) = (4.0, 3, 1u64 << 62);
        let tau = 10.0 * ((-16.0 * PI * PI).exp() + (-64.0 * PI * PI / 3.0).exp());
        let expected = (2.0 / (3f64.sqrt() * 4.0) + tau * 2f64.powi(31)).powi(2) / 2.0;
        let found = rho_of_sum(4.0, scale, (senders, dimension));
        assert_near(found / expected, 1.0, 1e-12);
        assert!(found >= expected);
        assert!(rho_of_sum(4.0, 3.999, (senders, 1)).is_infinite());
        assert!(rho_of_sum(4.0, f64::NAN, (senders, 1)).is_infinite());
        assert!(rho_of_sum(f64::NAN, 4.0, (senders, 1)).is_infinite());
        assert_eq!(rho_of_sum(0.0, 4.0, (senders, 1)).to_bits(), 0);
        assert_eq!(
            rho_of_sum(4.0, 2.0, (1, 9)).to_bits(),
            rho_of(4.0, 2.0).to_bits()
        );
    }

    /// The sum's law, exactly, against what the formula says of it: for inputs that are one apart the divergence of every
    /// order is within ρ·α.
    #[test]
    fn the_formula_bounds_the_divergences_of_the_very_law() {
        const REACH: i32 = 200;
        let law = |sigma: f64| -> Vec<f64> {
            let weight = |x: i32| (-f64::from(x * x) / (2.0 * sigma * sigma)).exp();
            let total: f64 = (-REACH..=REACH).map(weight).sum();
            (-REACH..=REACH).map(|x| weight(x) / total).collect()
        };
        let convolve = |a: &[f64], b: &[f64]| -> Vec<f64> {
            let mut sum = vec![0.0; a.len() + b.len() - 1];
            for (i, x) in a.iter().enumerate() {
                for (j, y) in b.iter().enumerate() {
                    sum[i + j] += x * y;
                }
            }
            sum
        };
        for senders in [2u32, 3] {
            let one = law(4.0);
            let mut sum = one.clone();
            for _ in 1..senders {
                sum = convolve(&sum, &one);
            }
            let sum: Vec<f64> = sum.into_iter().filter(|p| *p > 1e-250).collect();
            let rho = rho_of_sum(1.0, 4.0, (senders, 1));
            for alpha in [1.5, 2.0, 8.0, 32.0] {
                let pairs = sum.iter().zip(&sum[1..]);
                let moment: f64 = pairs
                    .map(|(p, q): (&f64, &f64)| (alpha * p.ln() + (1.0 - alpha) * q.ln()).exp())
                    .sum();
                let divergence = moment.ln() / (alpha - 1.0);
                assert!(
                    divergence <= alpha * rho * (1.0 + 1e-9),
                    "{senders} {alpha}"
                );
                // Noise divided by one more than add it is not what was paid for: the control.
                let claimed = rho_of_sum(1.0, 4.0, (senders + 1, 1));
                assert!(divergence > alpha * claimed, "{senders} {alpha}");
            }
        }
    }

    #[test]
    fn opendp_agrees_on_rho_and_epsilon() {
        for (dimension, z, delta) in [
            (1, 1.0, 1e-5),
            (6_900, 1.234_567, 1e-6),
            (22_000_000, 0.3, 1e-5),
            (110_000_000, 4.0, 1e-9),
        ] {
            let privacy = institution(z);
            let squared = squared_bound(privacy.grid(), dimension);
            let scale = z * privacy.grid().steps();
            let distance = noise::distance(squared);
            let mechanism = noise::gaussian(scale).expect("mechanism");
            let theirs = mechanism.map(&distance).expect("rho");
            let ours = rho_per_round(&privacy, dimension);
            assert!(ours >= theirs, "{ours} {theirs}");
            assert_near(ours / theirs, 1.0, 1e-14);

            let profile = make_zCDP_to_approxDP(mechanism)
                .and_then(|mechanism| mechanism.map(&distance))
                .expect("profile");
            let theirs = profile.epsilon(delta).expect("epsilon");
            assert_near(epsilon(ours, delta), theirs, 1e-9);
        }
    }

    #[test]
    fn the_ends() {
        assert!(rho_per_round(&institution(0.0), 10).is_infinite());
        assert!(rho_per_round(&institution(f64::NAN), 10).is_infinite());
        assert_eq!(epsilon(0.0, 1e-5).to_bits(), 0);
        assert_eq!(epsilon(1.0, 1.0).to_bits(), 0);
        for (rho, delta) in [
            (f64::INFINITY, 1e-5),
            (f64::NAN, 1e-5),
            (1.0, 0.0),
            (1.0, f64::NAN),
        ] {
            assert!(epsilon(rho, delta).is_infinite(), "{rho} {delta}");
        }
    }

    proptest! {
        #[test]
        fn no_other_order_does_better(rho in 1e-6f64..1e4, exponent in 0.5f64..15.0, t in -12f64..12.0) {
            let delta = 10f64.powf(-exponent);
            let t = t.exp();
            let at_t = (1.0 + t) * rho - (1.0 / t).ln_1p() - (delta.ln() + t.ln_1p()) / t;
            prop_assert!(epsilon(rho, delta) <= at_t.max(0.0) * (1.0 + 1e-12) + 1e-12);
        }

        #[test]
        fn more_rho_and_less_delta_cost_more(rho in 1e-6f64..1e4, delta in 1e-12f64..0.1) {
            prop_assert!(epsilon(rho * 1.01, delta) >= epsilon(rho, delta));
            prop_assert!(epsilon(rho, delta * 0.9) >= epsilon(rho, delta));
        }

        #[test]
        fn the_closed_form_is_never_worse(rho in 1e-4f64..100.0, exponent in 2f64..12.0) {
            // ρ = μ²/2 for the continuous Gaussian, whose exact ε must lie below.
            let delta = 10f64.powf(-exponent);
            let exact = crate::accountant::gdp::epsilon((2.0 * rho).sqrt(), delta);
            prop_assert!(epsilon(rho, delta) >= exact * (1.0 - 1e-9));
        }

        #[test]
        fn sums_are_never_below_the_true_sum(parts in prop::collection::vec(1u32..1_000_000, 1..50)) {
            // Thirds are not binary fractions, so that every addition rounds.
            let sum = parts.iter().fold(0.0, |sum, part| add(sum, f64::from(*part) / 3.0));
            let exact: u64 = parts.iter().map(|part| u64::from(*part)).sum();
            prop_assert!(sum * 3.0 >= exact as f64 && sum * 3.0 <= exact as f64 * (1.0 + 1e-13));
        }
    }
}
