//! What a plan will cost an institution, and how much noise that means, before anything runs.

use fedner_shared::plan::{Clipping, Plan, Privacy, Unit, ranges};
use serde::{Deserialize, Serialize};

use super::rdp::Curve;
use super::{Error, Phase, Steps, first_true, gdp, pld, value, zcdp};
use fedner_shared::serde_helpers::nullable;

/// The largest noise multiplier that [`solve_noise_multiplier`] tries: that of plans.
const LARGEST: f64 = *ranges::NOISE_MULTIPLIER.end();

/// The cost of a plan to each institution that takes part in every round, under zero-out
/// adjacency. Infinite figures (unit `none`) are `null` in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    pub unit: Unit,
    pub rounds: u32,
    /// Trainable weights.
    pub dimension: usize,
    /// The δ of every ε here.
    pub delta: f64,
    #[serde(with = "nullable")]
    pub rho_per_round: f64,
    /// ρ of the counts on held-out text, one release of them a round; absent without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rho_of_counts: Option<f64>,
    /// ε after rounds 1, 2, …, or after the one evaluation where nothing is trained: what the ledger will show and the hard stop compares.
    #[serde(with = "nullable::list")]
    pub epsilon_by_round: Vec<f64>,
    /// ε in all, as the hard stop counts it: by zCDP or, where units are sampled, by loss distributions
    /// with the discrete noise; with counts beside them by Rényi divergence.
    #[serde(with = "nullable")]
    pub epsilon_rdp: f64,
    /// ε in all, against everybody: if no noise but the institution's own hides anything. Absent where noise is
    /// not shared, and every figure is against everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon_alone: Option<f64>,
    /// ε in all, in closed form for the continuous Gaussian with the sensitivity of the rounded
    /// integers. Reported only.
    #[serde(with = "nullable")]
    pub epsilon_gdp: f64,
    /// How units are taken into steps; absent where an institution takes part as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Sampled>,
    /// Where units are sampled z·√d/B, for the gradient of a step. Else
    /// z·√(d/N): the norm of the noise in the mean of N updates, over the largest norm C that the
    /// mean can have. Every institution adds the whole noise σ = zC to its own update, so that the
    /// guarantee holds against the coordinator too; averaging N of them divides by √N. Where h share the noise it is
    /// smaller by √h.
    pub noise_to_signal: f64,
    /// z·√d/N: what it would be if all N institutions shared the noise σ between them, each adding
    /// σ/√N. For comparison: with `noise_shares` = h each adds σ/√h, as h of any sum are honest.
    pub noise_to_signal_shared: f64,
}

/// Poisson sampling of units, and what it costs by the tighter accountant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampled {
    /// Units an institution declared.
    pub units: u32,
    /// q
    pub rate: f64,
    pub steps_a_round: u64,
    /// ε in all by privacy loss distributions, for settings that are fixed beforehand.
    #[serde(with = "nullable")]
    pub epsilon_pld: f64,
}

/// Forecasts a plan whose units are sampled, at an institution that declares `units` of them and
/// trains `dimension` weights; any other plan as [`forecast`] does.
pub fn forecast_sampled(plan: &Plan, dimension: usize, units: u32) -> Result<Forecast, Error> {
    let one = match Phase::of_round(plan, units) {
        Some(one) if !plan.only_evaluates() => one,
        Some(_) | None => return forecast(plan, dimension, plan.cohort.institutions.len()),
    };
    let (rate, steps) = (one.sampling_rate, one.steps);
    positive("the number of trainable weights", dimension as f64)?;
    positive("the number of units", f64::from(units))?;
    let privacy = &plan.privacy;
    check_delta(privacy.delta)?;
    check_noise(privacy)?;
    let released = Steps::of_round(plan, one, dimension as u64);
    let trained = released.curve()?;
    let counts = privacy.count_noise().map(zcdp::rho_of_counts);
    let counted = counts.map(|rho| trained.clone().plus(&Curve::of_rho(rho)));
    let mut epsilon_by_round: Vec<f64> = (1..=plan.rounds)
        .scan(None, |sum: &mut Option<Curve>, number| {
            let counted = counted.as_ref().filter(|_| plan.is_evaluated(number));
            let round = counted.unwrap_or(&trained);
            let next = match sum.take() {
                Some(sum) => sum.plus(round),
                None => round.clone(),
            };
            let epsilon = next.epsilon(privacy.delta);
            *sum = Some(next);
            Some(epsilon)
        })
        .collect();
    let all = released.times(u64::from(plan.rounds));
    if counts.is_none() {
        tighten(&mut epsilon_by_round, |rounds| {
            released.times(rounds).epsilon(privacy.delta)
        })?;
    }
    let counted = counts.map(|_| Phase {
        sampling_rate: 1.0,
        noise_multiplier: privacy.evaluation_noise,
        steps: plan.evaluations().into(),
    });
    let phases: Vec<Phase> = std::iter::once(all.phase).chain(counted).collect();
    let noise_to_signal = plan.noise_to_signal(dimension);
    Ok(Forecast {
        unit: privacy.unit,
        rounds: plan.rounds,
        dimension,
        delta: privacy.delta,
        rho_per_round: f64::INFINITY,
        rho_of_counts: counts,
        epsilon_rdp: epsilon_by_round.last().copied().unwrap_or(0.0),
        epsilon_by_round,
        epsilon_alone: match all.alone() {
            Some(alone) if counts.is_none() => Some(alone.epsilon(privacy.delta)?),
            Some(alone) => {
                let counts =
                    Curve::of_rho(counts.unwrap_or_default()).times(plan.evaluations().into());
                Some(alone.curve()?.plus(&counts).epsilon(privacy.delta))
            }
            None => None,
        },
        epsilon_gdp: f64::INFINITY,
        sampled: Some(Sampled {
            units,
            rate,
            steps_a_round: steps,
            epsilon_pld: pld::epsilon(&phases, privacy.delta)?,
        }),
        noise_to_signal,
        noise_to_signal_shared: noise_to_signal,
    })
}

/// Rounds whose figure is computed one by one.
const ONE_BY_ONE: usize = 64;

/// Lowers the figures to those of `tighter` after so many rounds; of many rounds some are computed, and
/// those between have the next one's, which is above theirs.
fn tighten(by_round: &mut [f64], tighter: impl Fn(u64) -> Result<f64, Error>) -> Result<(), Error> {
    let stride = by_round.len().div_ceil(ONE_BY_ONE).max(1);
    let last = by_round.len();
    let mut next = f64::INFINITY;
    for (index, figure) in by_round.iter_mut().enumerate().rev() {
        let rounds = index + 1;
        if rounds == last || rounds % stride == 0 {
            next = tighter(rounds as u64)?;
        }
        *figure = figure.min(next);
    }
    Ok(())
}

/// Forecasts `plan` for `dimension` trainable weights and `institutions` updates a round.
///
/// Repeated rounds are not in it: each attempt after the first adds one ρ more.
pub fn forecast(plan: &Plan, dimension: usize, institutions: usize) -> Result<Forecast, Error> {
    positive("the number of trainable weights", dimension as f64)?;
    positive("the number of institutions", institutions as f64)?;
    let privacy = &plan.privacy;
    if privacy.unit != Unit::None {
        check_delta(privacy.delta)?;
        check_noise(privacy)?;
    }
    let counts = privacy.count_noise().map(zcdp::rho_of_counts);
    let rho_per_round = match counts {
        Some(_) if plan.only_evaluates() => 0.0,
        // Exact counts are all that leaves.
        None if plan.only_evaluates() => f64::INFINITY,
        Some(_) | None => zcdp::rho_per_round(privacy, dimension),
    };
    let sums = |each: f64| {
        (plan.first_round()..=plan.last_round()).scan(0.0, move |sum, round| {
            let counts = counts.filter(|_| plan.is_evaluated(round));
            *sum = zcdp::add(zcdp::add(*sum, each), counts.unwrap_or(0.0));
            Some(*sum)
        })
    };
    let epsilon = |rho| zcdp::epsilon(rho, privacy.delta);
    let epsilon_by_round: Vec<f64> = sums(rho_per_round).map(epsilon).collect();
    let rho = sums(rho_per_round).last().unwrap_or(0.0);
    let alone = sums(zcdp::rho_alone(privacy, dimension)).last();
    let mu = gdp::mu_of_rho(rho);
    let (d, n) = (dimension as f64, institutions as f64);
    let update_noise = match privacy.unit {
        Unit::Institution => privacy.noise_multiplier,
        Unit::Person | Unit::Document | Unit::Sentence | Unit::None => 0.0,
    };
    Ok(Forecast {
        unit: privacy.unit,
        rounds: plan.rounds,
        dimension,
        delta: privacy.delta,
        rho_per_round,
        rho_of_counts: counts,
        epsilon_rdp: epsilon_by_round.last().copied().unwrap_or(0.0),
        epsilon_by_round,
        epsilon_alone: alone.map(epsilon).filter(|_| privacy.shares_noise()),
        epsilon_gdp: gdp::epsilon(mu, privacy.delta),
        sampled: None,
        noise_to_signal: privacy.update_noise_multiplier() * (d / n).sqrt(),
        noise_to_signal_shared: update_noise * d.sqrt() / n,
    })
}

/// The smallest noise multiplier with which `rounds` releases of `dimension` weights stay within
/// `target_epsilon` at `delta`, by the figure of the hard stop; rounded up.
pub fn solve_noise_multiplier(
    target_epsilon: f64,
    delta: f64,
    rounds: u32,
    dimension: usize,
    clip: f64,
) -> Result<f64, Error> {
    positive("the target ε", target_epsilon)?;
    positive("the clip", clip)?;
    positive("the number of rounds", f64::from(rounds))?;
    check_delta(delta)?;
    let privacy = |noise_multiplier| Privacy {
        unit: Unit::Institution,
        clip,
        clipping: Clipping::Threshold,
        noise_multiplier,
        delta,
        max_epsilon: target_epsilon,
        ..Privacy::default()
    };
    let enough = |noise_multiplier| {
        let rho = zcdp::rho_per_round(&privacy(noise_multiplier), dimension);
        // The ledger adds round by round and rounds each sum up.
        let total = (0..rounds).fold(0.0, |sum, _| zcdp::add(sum, rho));
        zcdp::epsilon(total, delta) <= target_epsilon
    };
    if !enough(LARGEST) {
        return Err(Error::Unreachable {
            target_epsilon,
            largest: LARGEST,
        });
    }
    Ok(first_true(0.0, LARGEST, enough).max(*ranges::NOISE_MULTIPLIER.start()))
}

fn positive(name: &'static str, found: f64) -> Result<(), Error> {
    let holds = found.is_finite() && found > 0.0;
    value(name, found, holds, "a positive number")
}

fn check_delta(delta: f64) -> Result<(), Error> {
    let holds = ranges::DELTA.contains(&delta);
    value("δ", delta, holds, "a number from 1e-30 to 0.5")
}

fn check_noise(privacy: &Privacy) -> Result<(), Error> {
    let (noise, counts) = (privacy.noise_multiplier, privacy.evaluation_noise);
    let holds = ranges::NOISE_MULTIPLIER.contains(&noise);
    value(
        "the noise multiplier",
        noise,
        holds,
        "a number from 1e-4 to 100",
    )?;
    let holds = counts.abs() <= 0.0 || ranges::EVALUATION_NOISE.contains(&counts);
    value(
        "the noise of counts",
        counts,
        holds,
        "0, or a number from 0.01 to 10000",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::golden::assert_near;

    fn plan(unit: &str, noise_multiplier: f64, rounds: u32) -> Plan {
        let text = format!(
            r#"
            name = "disease-ner"
            base = "minilm@1"
            labels = ["Disease"]
            method = "head"
            rounds = {rounds}
            [cohort]
            institutions = ["st-anna", "mercy"]
            quorum = 1
            [privacy]
            unit = "{unit}"
            noise_multiplier = {noise_multiplier:?}
            "#
        );
        Plan::parse(&text).expect("plan")
    }

    #[test]
    fn one_release_with_noise_one() {
        let forecast = forecast(&plan("institution", 1.0, 1), 400, 4).expect("forecast");
        assert_near(forecast.rho_per_round, 0.5, 1e-5);
        // Both figures pay for the rounding: just above those of ρ = 1/2.
        let excess = forecast.epsilon_gdp - 4.377_178_095_7;
        assert!(excess > 0.0 && excess < 1e-4, "{excess}");
        let excess = forecast.epsilon_rdp - 4.728_386_984_9;
        assert!(excess > 0.0 && excess < 1e-4, "{excess}");
        assert_near(forecast.noise_to_signal, 10.0, 1e-12);
        assert_near(forecast.noise_to_signal_shared, 5.0, 1e-12);
    }

    #[test]
    fn shared_noise_has_two_figures() {
        let whole = plan("institution", 1.0, 3);
        let mut shared = whole.clone();
        shared.privacy.noise_shares = 4;
        let of = |plan: &Plan| forecast(plan, 400, 4).expect("forecast");
        let (one, other) = (of(&whole), of(&shared));
        assert_eq!(one.epsilon_alone, None);
        assert_near(other.epsilon_rdp / one.epsilon_rdp, 1.0, 1e-12);
        assert_near(one.noise_to_signal / other.noise_to_signal, 2.0, 1e-12);
        assert_near(other.noise_to_signal_shared, 5.0, 1e-12);
        // That of half the noise.
        let half = of(&plan("institution", 0.5, 3)).epsilon_rdp;
        assert_near(other.epsilon_alone.expect("shared") / half, 1.0, 1e-12);
    }

    #[test]
    fn the_closed_form_pays_for_rounding() {
        // BERT-base in ten rounds: 8.0004634 with the sensitivity C.
        let forecast =
            forecast(&plan("institution", 1.8977, 10), 110_000_000, 2).expect("forecast");
        let plain = gdp::epsilon(gdp::mu(10, 1.8977), 1e-5);
        let above = forecast.epsilon_gdp / plain - 1.0;
        assert!(above > 2e-4 && above < 4e-4, "{above}");
        // σ over the largest norm of rounded integers, as the ledger has it.
        let grid = plan("institution", 1.0, 1).privacy.grid();
        let norm = (crate::sensitivity::squared_bound(grid, 110_000_000) as f64).sqrt();
        let exact = gdp::epsilon(gdp::mu(10, 1.8977 * grid.steps() / norm), 1e-5);
        assert_near(forecast.epsilon_gdp, exact, 1e-9);
    }

    #[test]
    fn sampled_units_cost_what_the_ledger_will_say() {
        let mut plan = plan("person", 1.2, 3);
        plan.training.batch_size = 50;
        let forecast = forecast_sampled(&plan, 400, 1000).expect("forecast");
        let sampled = forecast.sampled.expect("sampled");
        assert_eq!((sampled.units, sampled.steps_a_round), (1000, 20));
        assert_near(sampled.rate, 0.05, 1e-12);
        assert_near(forecast.noise_to_signal, 1.2 * 20.0 / 50.0, 1e-12);
        let phase = |steps| Phase {
            sampling_rate: 0.05,
            noise_multiplier: 1.2,
            steps,
        };
        for (index, found) in forecast.epsilon_by_round.iter().enumerate() {
            let all = phase(20 * (index as u64 + 1));
            let expected = Steps::own(all, 400).epsilon(1e-5).expect("ε");
            assert_near(*found, expected, 1e-9);
        }
        let above = forecast.epsilon_rdp / sampled.epsilon_pld - 1.0;
        assert!((0.0..1e-4).contains(&above), "{above}");
        assert!(forecast_sampled(&plan, 400, 0).is_err());
    }

    #[test]
    fn counts_of_every_round_are_in_the_forecast() {
        for unit in ["institution", "person"] {
            let mut plan = plan(unit, 1.2, 3);
            plan.training.batch_size = 50;
            let of = |plan: &Plan| forecast_sampled(plan, 400, 1000).expect("forecast");
            let without = of(&plan);
            plan.privacy.evaluation_noise = 5.0;
            let with = of(&plan);
            assert_near(with.rho_of_counts.expect("noised"), 0.02, 1e-9);
            let pairs = with.epsilon_by_round.iter().zip(&without.epsilon_by_round);
            assert!(
                pairs.clone().all(|(with, without)| with > without),
                "{unit}"
            );
            // At most as if either were paid for alone.
            let alone = zcdp::epsilon(3.0 * 0.02, 1e-5);
            assert!(with.epsilon_rdp < without.epsilon_rdp + alone, "{unit}");
            if let (Some(with), Some(without)) = (with.sampled, without.sampled) {
                assert!(with.epsilon_pld > without.epsilon_pld);
            } else {
                assert!(with.epsilon_gdp > without.epsilon_gdp);
            }
        }
    }

    #[test]
    fn without_noise_every_figure_is_infinite_and_null_in_json() {
        let forecast = forecast(&plan("none", 1.0, 2), 10, 3).expect("forecast");
        assert!(forecast.epsilon_by_round.iter().all(|e| e.is_infinite()));
        assert!(forecast.epsilon_rdp.is_infinite());
        assert!(forecast.epsilon_gdp.is_infinite());
        assert!(forecast.noise_to_signal.abs() < f64::MIN_POSITIVE);
        let json = serde_json::to_value(&forecast).expect("json");
        assert!(json["epsilon_rdp"].is_null() && json["epsilon_by_round"][1].is_null());
        let back: Forecast = serde_json::from_value(json).expect("back");
        assert_eq!(back, forecast);
    }

    #[test]
    fn an_evaluation_alone_costs_what_its_counts_cost() {
        let mut alone = plan("institution", 1.0, 1);
        alone.rounds = 0;
        let exact = forecast(&alone, 10, 3).expect("forecast");
        assert!(exact.epsilon_rdp.is_infinite());
        alone.privacy.evaluation_noise = 10.0;
        let noised = forecast(&alone, 10, 3).expect("forecast");
        let rho = zcdp::rho_of_counts(alone.privacy.count_noise().expect("noise"));
        let expected = zcdp::epsilon(rho, alone.privacy.delta);
        assert_eq!(noised.epsilon_by_round, [expected]);
        assert!(
            noised.epsilon_rdp.to_bits() == expected.to_bits() && noised.epsilon_gdp < expected
        );

        let mut sampled = alone.clone();
        sampled.privacy.unit = Unit::Sentence;
        let sampled = forecast_sampled(&sampled, 10, 5_000).expect("forecast");
        assert_eq!(sampled.epsilon_by_round, [expected]);
        alone.privacy.unit = Unit::Sentence;
        alone.privacy.evaluation_noise = 0.0;
        let exact = forecast_sampled(&alone, 10, 5_000).expect("forecast");
        assert!(exact.epsilon_rdp.is_infinite());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let plan = plan("institution", 1.0, 1);
        for (dimension, institutions) in [(0, 1), (1, 0)] {
            assert!(forecast(&plan, dimension, institutions).is_err());
        }
        for (epsilon, delta, rounds, clip) in [
            (0.0, 1e-5, 1, 1.0),
            (f64::NAN, 1e-5, 1, 1.0),
            (1.0, 0.0, 1, 1.0),
            (1.0, 1.0, 1, 1.0),
            (1.0, 1e-5, 0, 1.0),
            (1.0, 1e-5, 1, 0.0),
        ] {
            let error = solve_noise_multiplier(epsilon, delta, rounds, 10, clip);
            assert!(matches!(error, Err(Error::Value { .. })), "{error:?}");
        }
        for noise in [0.0, 1e-152, 1e-200, 9e-5, 101.0, 1e300, f64::NAN] {
            let mut odd = plan.clone();
            odd.privacy.noise_multiplier = noise;
            assert!(super::forecast(&odd, 10, 3).is_err(), "{noise}");
            odd.privacy.unit = Unit::Person;
            assert!(forecast_sampled(&odd, 10, 3).is_err(), "{noise}");
        }
        for noise in [1e-160, 1e-100, 1e-3, 1e5, f64::NAN, -1.0] {
            let mut odd = plan.clone();
            odd.privacy.evaluation_noise = noise;
            assert!(super::forecast(&odd, 10, 3).is_err(), "{noise}");
        }
        let error = solve_noise_multiplier(1e-9, 1e-12, 10_000, 10, 1.0);
        assert!(matches!(error, Err(Error::Unreachable { .. })), "{error:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn epsilon_falls_with_noise_and_rises_with_rounds(
            z in 0.05f64..50.0, rounds in 1u32..50, dimension in 1usize..1_000_000,
        ) {
            let total = |z, rounds| forecast(&plan("institution", z, rounds), dimension, 3).expect("forecast").epsilon_rdp;
            prop_assert!(total(z * 1.01, rounds) <= total(z, rounds));
            prop_assert!(total(z, rounds + 1) > total(z, rounds));
        }

        #[test]
        fn the_solved_noise_is_just_enough(
            target in 0.5f64..100.0, rounds in 1u32..50, dimension in 1usize..1_000_000,
        ) {
            let z = solve_noise_multiplier(target, 1e-5, rounds, dimension, 1.0).expect("solved");
            let mut plan = plan("institution", 1.0, rounds);
            let mut total = |z| {
                plan.privacy.noise_multiplier = z;
                forecast(&plan, dimension, 3).expect("forecast").epsilon_rdp
            };
            prop_assert!(total(z) <= target);
            prop_assert!(total(z * 0.9999) > target);
        }
    }
}
