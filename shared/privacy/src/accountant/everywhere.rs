//! Properties of every figure over the whole of f64: never NaN, never below nothing, never a panic, and
//! never less than with twice the noise.

use proptest::prelude::*;

use super::{Phase, gdp, pld, rdp, zcdp};
use crate::ledger::{Account, Cost, Debit, Kind, Ledger};
use fedner_shared::digest::Digest;
use fedner_shared::plan::Unit;
use fedner_shared::time::Time;

/// Where formulas break: ends, powers that leave the range of f64 when squared, and no numbers.
const SPECIAL: [f64; 20] = [
    0.0,
    -0.0,
    5e-324,
    f64::MIN_POSITIVE,
    1e-300,
    1e-155,
    1e-154,
    1e-152,
    1e-100,
    1e-10,
    0.5,
    1.0,
    2.0,
    1e10,
    1e154,
    1e155,
    1e300,
    f64::MAX,
    f64::INFINITY,
    f64::NAN,
];

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => any::<f64>(),
        3 => (-1074i32..1024).prop_map(|exponent| f64::from(exponent).exp2()),
        3 => (-12f64..12.0).prop_map(f64::exp),
        2 => prop::sample::select(SPECIAL.to_vec()),
    ]
}

fn any_steps() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..3,
        (0u32..64).prop_map(|bits| 1u64 << bits)
    ]
}

fn phase(sampling_rate: f64, noise_multiplier: f64, steps: u64) -> Phase {
    Phase {
        sampling_rate,
        noise_multiplier,
        steps,
    }
}

/// What holds of every figure at `noise` and at twice it. `slack` is what a grid moves figures by.
fn sound(figure: f64, twice: f64, slack: f64) -> Result<(), TestCaseError> {
    prop_assert!(!figure.is_nan() && figure >= 0.0, "{figure}");
    prop_assert!(
        twice <= figure * (1.0 + slack) + slack,
        "{figure}, and {twice} with twice the noise"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn closed_forms(noise in any_number(), delta in any_number(), rounds in any::<u32>(), norm in any_number()) {
        let gauss = |noise| gdp::epsilon(gdp::mu(rounds, noise), delta);
        sound(gauss(noise), gauss(2.0 * noise), 1e-9)?;
        let zcdp = |noise| zcdp::epsilon(zcdp::rho_of(norm, noise), delta);
        sound(zcdp(noise), zcdp(2.0 * noise), 1e-9)?;
        let by_rho = |noise| gdp::epsilon(gdp::mu_of_rho(zcdp::rho_of(norm, noise)), delta);
        sound(by_rho(noise), by_rho(2.0 * noise), 1e-9)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn rényi(q in any_number(), noise in any_number(), delta in any_number(), steps in any_steps()) {
        for figure in [rdp::epsilon, rdp::epsilon_discrete] {
            let of = |noise| figure(&[phase(q, noise, steps)], delta);
            let (Ok(once), Ok(twice)) = (of(noise), of(2.0 * noise)) else {
                let none = !((0.0..=1.0).contains(&q) && noise >= 0.0);
                prop_assert!(none, "{q} {noise}");
                continue;
            };
            // Of two upper bounds the smaller one is taken, and they cross.
            sound(once, twice, 1e-2)?;
        }
    }

    /// Whatever a ledger is asked for, it says a number or that it cannot be accounted.
    #[test]
    fn ledger(q in any_number(), noise in any_number(), delta in any_number(), steps in any_steps(), norm in any::<u64>()) {
        let gaussian = Cost::Gaussian { squared_sensitivity: norm, scale: noise };
        for cost in [Cost::from(phase(q, noise, steps)), gaussian] {
            let debit = Debit {
                account: Account { cohort: "st-anna".into(), unit: Unit::Person },
                plan: Digest::of(b"plan"),
                run: "notes-1".parse().expect("run"),
                round: 1,
                attempt: 1,
                kind: Kind::Update,
                cost,
                delta,
                per_person: None,
            };
            let proposed = Ledger::default().propose(Time::from_millis(0), debit, f64::INFINITY, None);
            if let Ok(entry) = proposed {
                prop_assert!(!entry.epsilon_after.is_nan() && entry.epsilon_after >= 0.0);
                prop_assert!((1e-6..=1e6).contains(&noise) || norm > 1);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn loss_distributions(q in any_number(), noise in any_number(), delta in any_number(), steps in any_steps()) {
        let of = |noise| pld::epsilon(&[phase(q, noise, steps), phase(1.0, noise, 1)], delta);
        if let (Ok(once), Ok(twice)) = (of(noise), of(2.0 * noise)) {
            sound(once, twice, 1e-2)?;
        }
    }
}

/// What once overflowed on the way to a figure that does not.
#[test]
fn ratios_and_squares_beyond_the_range_are_no_figures() {
    let (q, noise, delta) = (f64::from(-15).exp2(), 0.005_166_138_972_965_522, 0.014);
    let of = |noise| pld::epsilon(&[phase(q, noise, 1), phase(1.0, noise, 1)], delta);
    let (once, twice) = (
        of(noise).expect("in range"),
        of(2.0 * noise).expect("in range"),
    );
    assert!(0.0 < twice && twice < once && once < 1e6, "{once} {twice}");
    let of = |noise| gdp::epsilon(gdp::mu(1 << 30, noise), 5e-324);
    let (once, twice) = (of(4.8e170), of(9.6e170));
    assert!(
        0.0 < twice && twice <= once && once < 1e-100,
        "{once} {twice}"
    );
}

/// What once came out as nothing, or as a panic.
#[test]
fn hardly_any_noise_is_never_free() {
    let (q, steps) = (100.0 / 5000.0, 150);
    for noise in [
        1e-60, 1e-100, 1e-152, 1e-154, 1e-155, 1e-160, 1e-200, 1e-300, 5e-324,
    ] {
        let phases = [phase(q, noise, steps)];
        for figure in [rdp::epsilon, rdp::epsilon_discrete, pld::epsilon] {
            let found = figure(&phases, 1e-5).expect("in range");
            assert!(found > 1e6, "{noise}: {found}");
        }
        // Beside a training that has noise.
        let mixed = [phase(q, 1.0, steps), phase(1.0, noise, 3)];
        assert!(
            pld::epsilon(&mixed, 1e-5).expect("in range") > 1e6,
            "{noise}"
        );
        assert!(
            zcdp::epsilon(zcdp::rho_of(1.0, noise), 1e-5) > 1e6,
            "{noise}"
        );
        assert!(gdp::epsilon(gdp::mu(1, noise), 1e-5) > 1e6, "{noise}");
    }
    for noise in [1e154, 1e300, f64::MAX] {
        let found = pld::epsilon(&[phase(q, noise, steps)], 1e-5).expect("in range");
        assert!((0.0..1e-2).contains(&found), "{noise}: {found}");
    }
    for delta in [1e-29, 1e-31, 1e-299, 1e-300, 1e-308, 5e-324] {
        let found = pld::epsilon(&[phase(q, 0.5, steps)], delta).expect("in range");
        let least = pld::epsilon(&[phase(q, 0.5, steps)], 1e-12).expect("in range");
        assert!(found > least, "{delta}: {found}");
    }
}
