//! Gaussian differential privacy in closed form (Dong, Roth and Su 2022, "Gaussian Differential
//! Privacy").
//!
//! Exact for the composition of continuous Gaussian mechanisms whose parameters were all fixed
//! beforehand. The released noise is discrete and later rounds may depend on earlier ones, so
//! these figures are reported and never decide anything.

use super::normal::ln_tail;
use super::{LEAST, first_true, known};

/// μ = √T / z for T releases with noise multiplier z (Corollary 3.3: μ-GDP composes as the root of
/// the sum of squares). Infinite without noise, zero without releases.
pub fn mu(rounds: u32, noise_multiplier: f64) -> f64 {
    if rounds == 0 {
        return 0.0;
    }
    if noise_multiplier.is_nan() || noise_multiplier <= 0.0 {
        return f64::INFINITY;
    }
    (f64::from(rounds).sqrt() / noise_multiplier)
        .max(LEAST)
        .next_up()
}

/// μ of Gaussian releases that cost ρ together: each has ρ = Δ²/2σ² and μ = Δ/σ, both add up in
/// squares, so that μ = √(2ρ). As ρ counts the integers' Δ̃, rounding is paid for here too.
pub fn mu_of_rho(rho: f64) -> f64 {
    if rho <= 0.0 {
        return 0.0;
    }
    known((2.0 * rho).sqrt()).next_up()
}

/// δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ) (Corollary 2.13), rounded up.
pub fn delta(mu: f64, epsilon: f64) -> f64 {
    if mu <= 0.0 || epsilon == f64::INFINITY {
        return 0.0;
    }
    let (near, far) = (epsilon / mu - mu / 2.0, epsilon / mu + mu / 2.0);
    if !(near.is_finite() && far.is_finite()) {
        return 1.0;
    }
    // e^ε Φ(−far) in logarithms: neither factor can overflow alone.
    let first = libm::exp(ln_tail(near));
    let second = libm::exp(epsilon + ln_tail(far));
    if first + second <= 0.0 {
        // Both underflow, and what rounding can amount to is less than any number.
        return 0.0;
    }
    // What rounding in the arguments, in the logarithms and in the difference can amount to.
    let allowance = 4.0 * f64::EPSILON * (16.0 + epsilon + far * far);
    (first - second + allowance * (first + second)).clamp(0.0, 1.0)
}

/// The smallest ε with δ(ε) ≤ `delta`, rounded up. Infinite where no ε is enough.
pub fn epsilon(mu: f64, delta: f64) -> f64 {
    if mu <= 0.0 {
        return 0.0;
    }
    // Far out δ(ε) underflows to the zero that it never is.
    if delta <= 0.0 {
        return f64::INFINITY;
    }
    let enough = |epsilon: f64| self::delta(mu, epsilon) <= delta;
    if enough(0.0) {
        return 0.0;
    }
    match upper(enough) {
        Some(high) => first_true(0.0, high, enough),
        None => f64::INFINITY,
    }
}

/// The largest μ that keeps δ(ε) ≤ `delta`, rounded down. Zero where none does.
pub fn mu_for(epsilon: f64, delta: f64) -> f64 {
    let too_much = |mu: f64| self::delta(mu, epsilon) > delta;
    match upper(too_much) {
        Some(high) => first_true(0.0, high, too_much).next_down().max(0.0),
        None => f64::INFINITY,
    }
}

/// A power of two where `holds` is true, if it becomes true within the range of f64.
fn upper(holds: impl Fn(f64) -> bool) -> Option<f64> {
    (-40..1000)
        .map(|exponent| f64::from(exponent).exp2())
        .find(|x| holds(*x))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::golden::{array, assert_near, number};

    #[test]
    fn epsilon_agrees_with_the_reference_values() {
        for (steps, z, delta, expected) in [
            (1, 1.0, 1e-5, 4.377_178_095_7),
            (50, 4.0, 1e-5, 8.595_865_790_5),
            (100, 10.0, 1e-6, 4.886_554_117_5),
        ] {
            assert_near(epsilon(mu(steps, z), delta), expected, 1e-9);
        }
        for case in array("subsampled_gaussian") {
            if case.get("exact").is_some() {
                let mu = mu(number(&case, "steps") as u32, number(&case, "sigma"));
                assert_near(
                    epsilon(mu, number(&case, "delta")),
                    number(&case, "exact"),
                    1e-9,
                );
            }
        }
    }

    #[test]
    fn mu_agrees_with_the_reference_values() {
        assert_near(mu_for(8.0, 1e-5), 1.666_030_60, 1e-8);
        for case in array("gdp_mu_for_epsilon") {
            let found = mu_for(number(&case, "epsilon"), number(&case, "delta"));
            assert_near(found, number(&case, "mu"), 1e-8);
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(epsilon(mu(0, 1.0), 1e-5).to_bits(), 0);
        assert!(epsilon(mu(1, 0.0), 1e-5).is_infinite());
        assert!(epsilon(1.0, 0.0).is_infinite());
        assert_eq!(epsilon(1.0, 1.0).to_bits(), 0);
        // Huge μ: still finite, still above μ²/2.
        let large = epsilon(1e4, 1e-5);
        assert!(large > 5e7 && large < 5.1e7, "{large}");
    }

    proptest! {
        #[test]
        fn epsilon_and_mu_are_inverse_and_on_the_safe_side(mu in 1e-3f64..30.0, exponent in 1f64..15.0) {
            let target = 10f64.powf(-exponent);
            let epsilon = epsilon(mu, target);
            prop_assert!(delta(mu, epsilon) <= target);
            if epsilon > 1e-6 {
                let back = mu_for(epsilon, target);
                prop_assert!((back / mu - 1.0).abs() < 1e-6, "{back} from {mu} through {epsilon}");
            }
        }

        #[test]
        fn more_rounds_and_less_noise_cost_more(rounds in 1u32..1000, z in 0.05f64..50.0) {
            let figure = |rounds, z| epsilon(mu(rounds, z), 1e-5);
            prop_assert!(figure(rounds + 1, z) > figure(rounds, z) || figure(rounds + 1, z) <= 0.0);
            prop_assert!(figure(rounds, z * 1.01) <= figure(rounds, z));
        }
    }
}
