use proptest::prelude::*;

use super::*;
use crate::accountant::normal::ln_tail;
use crate::accountant::{gdp, rdp};
use crate::golden::{array, number};

fn phase(sampling_rate: f64, noise_multiplier: f64, steps: u64) -> Phase {
    Phase {
        sampling_rate,
        noise_multiplier,
        steps,
    }
}

fn one(q: f64, sigma: f64, steps: u64, delta: f64) -> f64 {
    epsilon(&[phase(q, sigma, steps)], delta).expect("in range")
}

#[test]
fn agrees_with_the_reference_values_and_is_never_below_the_lower_bounds() {
    // dp_accounting 0.6.0, and the PRV accountant's lower bound (Opacus 1.6).
    let mut cases = vec![
        (0.01, 1.1, 10_000, 1e-5, 5.192_620_123_9, 5.182_30),
        (0.1, 2.0, 100, 1e-6, 2.675_035_741_3, 2.664_90),
        (1.0, 4.0, 50, 1e-5, 8.595_865_794_2, 8.595_865_790_5),
    ];
    for case in array("subsampled_gaussian") {
        let [q, sigma, steps, delta, pld] =
            ["q", "sigma", "steps", "delta", "pld"].map(|key| number(&case, key));
        let lower = match case.get("exact") {
            Some(_) => number(&case, "exact"),
            None => case["prv"][0].as_f64().expect("lower bound"),
        };
        cases.push((q, sigma, steps as u64, delta, pld, lower));
    }
    for (q, sigma, steps, delta, expected, lower) in cases {
        let found = one(q, sigma, steps, delta);
        assert!(
            (found - expected).abs() < 1e-3,
            "{q} {sigma} {steps}: {found}, expected {expected}"
        );
        assert!(
            found >= lower,
            "{q} {sigma} {steps}: {found} is below {lower}"
        );
    }
}

#[test]
fn the_ends() {
    assert_eq!(one(0.1, 1.0, 0, 1e-5).to_bits(), 0);
    assert_eq!(one(0.0, 0.0, 10, 1e-5).to_bits(), 0);
    assert_eq!(epsilon(&[], 1e-5).expect("nothing").to_bits(), 0);
    assert_eq!(one(0.1, 1.0, 5, 1.0).to_bits(), 0);
    assert!(one(0.1, 0.0, 1, 1e-5).is_infinite());
    assert!(one(0.1, 1.0, 1, 0.0).is_infinite());
    assert!(one(0.1, 1.0, 1, f64::NAN).is_infinite());
    // So little that δ covers it all.
    assert_eq!(one(1e-6, 5.0, 1, 1e-3).to_bits(), 0);
    for (q, sigma) in [
        (-0.1, 1.0),
        (1.5, 1.0),
        (f64::NAN, 1.0),
        (0.1, -1.0),
        (0.1, f64::NAN),
    ] {
        assert!(epsilon(&[phase(q, sigma, 1)], 1e-5).is_err(), "{q} {sigma}");
    }
}

#[test]
fn rounds_with_different_settings_add_up() {
    let (early, late) = (phase(0.05, 1.5, 200), phase(0.01, 0.9, 300));
    let together = epsilon(&[early, late], 1e-5).expect("in range");
    let exchanged = epsilon(&[late, early], 1e-5).expect("in range");
    assert!((together - exchanged).abs() < 1e-9);
    let alone = |phase| epsilon(&[phase], 1e-5).expect("in range");
    assert!(together > alone(early).max(alone(late)));
    assert!(together < alone(early) + alone(late));
    // One phase in two parts is the same phase.
    let halves = epsilon(&[phase(0.05, 1.5, 100), phase(0.05, 1.5, 100)], 1e-5).expect("in range");
    assert!((halves - alone(early)).abs() < 1e-6, "{halves}");
    // Without sampling the composition is one Gaussian mechanism, in closed form.
    let mu = (10.0f64 / (3.0 * 3.0) + 20.0 / (7.0 * 7.0)).sqrt();
    let found = epsilon(&[phase(1.0, 3.0, 10), phase(1.0, 7.0, 20)], 1e-6).expect("in range");
    let exact = gdp::epsilon(mu, 1e-6);
    assert!(found >= exact && found < exact + 1e-3, "{found} {exact}");
}

/// δ(ε) of one step, whose loss grows with the outcome, by the normal tails beyond ε.
fn one_step_delta(q: f64, sigma: f64, epsilon: f64) -> f64 {
    let outcome = |loss: f64| {
        let excess = if loss < -0.5 {
            loss.exp() - (1.0 - q)
        } else {
            loss.exp_m1() + q
        };
        (excess > 0.0).then(|| sigma * sigma * (excess / q).ln() + 0.5)
    };
    let difference = |p: f64, q: f64| (p - epsilon.exp() * q).max(0.0);
    let removed = outcome(epsilon).map_or(0.0, |x| {
        let (plain, shifted) = (ln_tail(x / sigma).exp(), ln_tail((x - 1.0) / sigma).exp());
        difference((1.0 - q) * plain + q * shifted, plain)
    });
    let added = outcome(-epsilon).map_or(0.0, |x| {
        let (plain, shifted) = (ln_tail(-x / sigma).exp(), ln_tail((1.0 - x) / sigma).exp());
        difference(plain, (1.0 - q) * plain + q * shifted)
    });
    removed.max(added)
}

#[test]
fn one_step_is_the_closed_form() {
    for (q, sigma) in [
        (1.0, 0.15),
        (1.0, 0.2),
        (0.999_999, 0.25),
        (0.99, 0.3),
        (0.9, 0.2),
        (0.5, 0.4),
        (0.1, 0.3),
        (0.01, 0.5),
        (0.5, 3.0),
        (0.001, 0.4),
    ] {
        for delta in [1e-3, 1e-5, 1e-8] {
            let found = one(q, sigma, 1, delta);
            let at = one_step_delta(q, sigma, found);
            assert!(
                at <= delta * (1.0 + 1e-9),
                "{q} {sigma} {delta}: {at} at {found}"
            );
            let below = found * 0.999 - 1e-3;
            assert!(
                below <= 0.0 || one_step_delta(q, sigma, below) > delta,
                "{q} {sigma} {delta}: {found}"
            );
        }
    }
}

#[test]
fn extremes_stay_finite_and_above() {
    for (q, sigma, steps, delta) in [
        (1e-4, 0.3, 100_000, 1e-8),
        (0.5, 0.4, 3, 1e-12),
        (0.001, 50.0, 1_000_000, 1e-5),
        (1.0, 0.2, 1, 1e-5),
        (0.99, 1.0, 10, 1e-10),
        // Too wide for the grid, and δ beneath what floating point resolves.
        (0.01, 1.0, 100_000_000, 1e-5),
        (1e-6, 0.5, 1000, 1e-13),
    ] {
        let found = one(q, sigma, steps, delta);
        let bound = rdp::epsilon(&[phase(q, sigma, steps)], delta).expect("in range");
        assert!(
            found.is_finite() && found > 0.0 && found <= bound,
            "{q} {sigma}: {found} {bound}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn monotone_and_below_rdp(q in 1e-3f64..0.9, sigma in 0.5f64..8.0, steps in 1u64..2000, exponent in 4f64..9.0) {
        let delta = 10f64.powf(-exponent);
        let figure = one(q, sigma, steps, delta);
        // Grids differ between settings, by which figures wobble in the fourth digit.
        let slack = 1e-3 + 1e-3 * figure;
        prop_assert!(one(q, sigma * 1.1, steps, delta) <= figure + slack);
        prop_assert!(one((q * 1.1).min(1.0), sigma, steps, delta) + slack >= figure);
        prop_assert!(one(q, sigma, steps * 2, delta) + slack >= figure);
        prop_assert!(one(q, sigma, steps, delta / 2.0) >= figure - slack);
        let rdp = rdp::epsilon(&[phase(q, sigma, steps)], delta).expect("in range");
        prop_assert!(figure <= rdp + slack, "{figure} {rdp}");
    }

    #[test]
    fn without_sampling_it_is_the_closed_form(sigma in 0.5f64..50.0, steps in 1u64..500, exponent in 4f64..9.0) {
        let delta = 10f64.powf(-exponent);
        let exact = gdp::epsilon((steps as f64).sqrt() / sigma, delta);
        let found = one(1.0, sigma, steps, delta);
        prop_assert!(found >= exact, "{found} {exact}");
        prop_assert!(found <= exact * 1.001 + 1e-3, "{found} {exact}");
    }
}
