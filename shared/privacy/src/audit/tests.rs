//! The audit passes on the product's mechanisms, and fails on each control that breaks one rule.

use fedner_shared::plan::Unit;
use fedner_shared::update::encode;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::canary::{attack, audit};
use super::distinguish::Scores;
use super::*;
use crate::accountant::{Phase, gdp, pld};
use crate::dp_sgd_step::{PrivateSum, Settings};
use crate::noise::{Generator, Sampler, Shape};
use crate::release::{clip, rounding};
use crate::sampling::poisson;

const CONFIDENCE: f64 = 0.99;

fn privacy(noise_multiplier: f64) -> fedner_shared::plan::Privacy {
    fedner_shared::plan::Privacy {
        unit: Unit::Institution,
        clip: 1.0,
        clipping: fedner_shared::plan::Clipping::Threshold,
        noise_multiplier,
        delta: 1e-5,
        max_epsilon: 100.0,
        ..fedner_shared::plan::Privacy::default()
    }
}

/// The product's path with one rule broken: `clips` or not, and noise of another scale.
fn broken(noise_multiplier: f64, clips: bool, runs: usize) -> Scores {
    let privacy = privacy(noise_multiplier);
    let steps = privacy.grid().steps();
    let sampler = Sampler::new(Shape::Gaussian {
        sigma: privacy.update_noise_multiplier() * steps,
    })
    .expect("sampler");
    let random = std::cell::RefCell::new((
        ChaCha20Rng::from_seed([1; 32]),
        Generator::from_seed([2; 32]),
    ));
    let release = |update: &[f32]| {
        let (rounding, generator) = &mut *random.borrow_mut();
        let factor = if clips {
            clip::steps_per_weight(clip::norm(update)?, 1.0, steps)
        } else {
            steps
        };
        let mut values = rounding::round(update, factor, u128::MAX, rounding)?.values;
        let mut noise = vec![0; values.len()];
        sampler.fill(generator, &mut noise);
        for (value, noise) in values.iter_mut().zip(noise) {
            *value += noise as i32;
        }
        let mut bytes = Vec::new();
        encode(&values, &mut bytes)?;
        Ok(bytes)
    };
    attack(&privacy, 64, runs, release).expect("scores")
}

/// δ at which an attack of some thousand runs is nearly as good as any.
const LARGE_DELTA: f64 = 0.15;

fn claim(noise_multiplier: f64, delta: f64) -> f64 {
    gdp::epsilon(gdp::mu(1, noise_multiplier), delta)
}

/// Whether scores hold the claim for one release at z = 3.
fn holds_for_three(scores: &Scores) -> Verdict {
    let claimed = claim(3.0, LARGE_DELTA);
    scores
        .verdict(claimed, LARGE_DELTA, CONFIDENCE)
        .expect("verdict")
}

#[test]
fn the_product_holds_its_claim_and_the_attack_is_worth_something() {
    let verdict = audit(&privacy(0.5), 64, 4000).expect("verdict");
    assert!(verdict.holds(), "{verdict:?}");
    assert!(
        verdict.epsilon_lower_bound > 0.25 * verdict.epsilon_claimed,
        "{verdict:?}"
    );
    // The stand-in for the product that the controls break holds too.
    let verdict = holds_for_three(&broken(3.0, true, 20_000));
    assert!(verdict.holds(), "{verdict:?}");
}

/// The sum of `senders` updates whose noise is divided by `shares`, held against a claim of z = 3.
fn shared_noise(senders: u32, shares: u32) -> Verdict {
    let privacy = fedner_shared::plan::Privacy {
        noise_shares: shares,
        ..privacy(3.0)
    };
    let releaser = crate::release::Releaser::new(&privacy, 64)
        .expect("releaser")
        .on_threads(1);
    let release = |update: &[f32]| super::canary::release_sum(&releaser, update, senders);
    holds_for_three(&attack(&privacy, 64, 20_000, release).expect("scores"))
}

#[test]
fn a_sum_of_shares_holds_the_claim_of_all_the_noise() {
    let verdict = shared_noise(3, 3);
    assert!(verdict.holds(), "{verdict:?}");
}

#[test]
fn control_noise_divided_by_more_than_are_in_the_sum_fails() {
    let verdict = shared_noise(3, 12);
    assert!(!verdict.holds(), "{verdict:?}");
}

#[test]
fn control_half_the_noise_fails() {
    let verdict = holds_for_three(&broken(1.5, true, 20_000));
    assert!(!verdict.holds(), "{verdict:?}");
}

#[test]
fn control_without_clipping_fails() {
    // The attack's update is twice the clip.
    let verdict = holds_for_three(&broken(3.0, false, 20_000));
    assert!(!verdict.holds(), "{verdict:?}");
}

/// Sums of one coordinate, clip 1, in as many steps as there are batches.
struct Trainer {
    mechanism: PrivateSum,
    generator: Generator,
}

impl Trainer {
    fn new(noise_multiplier: f64, seed: u8) -> Self {
        let settings = Settings {
            clip: 1.0,
            noise_multiplier,
            dimension: 1,
            summation_error: 0.0,
        };
        Self {
            mechanism: PrivateSum::new(settings).expect("mechanism"),
            generator: Generator::from_seed([seed; 32]),
        }
    }

    fn step(&mut self, sum: f64) -> f64 {
        let mut sum = [sum];
        self.mechanism
            .release(&mut sum, &mut self.generator)
            .expect("released");
        sum[0]
    }

    /// Scores a run whose batches of all others are empty, by the largest step.
    fn run(&mut self, batches: &[f64]) -> f64 {
        batches
            .iter()
            .map(|sum| self.step(*sum))
            .fold(f64::NEG_INFINITY, f64::max)
    }
}

const STEPS: usize = 16;
const NOISE: f64 = 0.25;
/// At a large δ sampling itself protects: a unit that is never taken leaves no trace.
const DELTA: f64 = 0.7;

fn sampled_claim() -> f64 {
    let phase = Phase {
        sampling_rate: 1.0 / STEPS as f64,
        noise_multiplier: NOISE,
        steps: STEPS as u64,
    };
    pld::epsilon(&[phase], DELTA).expect("claim")
}

#[test]
fn poisson_batches_hold_the_sampled_claim_and_shuffled_ones_fail() {
    let mut trainer = Trainer::new(NOISE, 3);
    let runs = 6000;
    let mut with_poisson = Vec::new();
    let mut with_shuffle = Vec::new();
    let mut without = Vec::new();
    for run in 0..runs {
        let mut batches = [0.0f64; STEPS];
        without.push(trainer.run(&batches));
        // A shuffled unit is in exactly one batch of each epoch; which one tells nothing more.
        batches[run % STEPS] = 1.0;
        with_shuffle.push(trainer.run(&batches));
        let rate = 1.0 / STEPS as f64;
        let batches: [f64; STEPS] =
            std::array::from_fn(|_| poisson(rate, 1, &mut trainer.generator).len() as f64);
        with_poisson.push(trainer.run(&batches));
    }
    let verdict = |with: Vec<f64>| {
        let scores = Scores {
            with,
            without: without.clone(),
        };
        scores
            .verdict(sampled_claim(), DELTA, CONFIDENCE)
            .expect("verdict")
    };
    let (honest, control) = (verdict(with_poisson), verdict(with_shuffle));
    assert!(honest.holds(), "{honest:?}");
    assert!(!control.holds(), "{control:?}");
}

/// All others contribute +1, the canary −1; one full batch.
fn with_divisor(noise_multiplier: f64, divide: impl Fn(f64, usize) -> f64) -> Scores {
    let mut trainer = Trainer::new(noise_multiplier, 4);
    let mut scores = |others: usize, canary: usize, runs: usize| {
        let sum = others as f64 - canary as f64;
        // Nearer to what only the larger batch gives is a higher score.
        (0..runs)
            .map(|_| -divide(trainer.step(sum), others + canary).abs())
            .collect()
    };
    Scores {
        with: scores(1, 1, 20_000),
        without: scores(1, 0, 20_000),
    }
}

#[test]
fn control_the_actual_batch_as_divisor_fails() {
    let noise = 0.7;
    let claimed = gdp::epsilon(gdp::mu(1, noise), 0.2);
    let public = with_divisor(noise, |sum, _| sum / 2.0);
    let honest = public.verdict(claimed, 0.2, CONFIDENCE).expect("verdict");
    assert!(honest.holds(), "{honest:?}");
    let actual = with_divisor(noise, |sum, batch| sum / batch as f64);
    let control = actual.verdict(claimed, 0.2, CONFIDENCE).expect("verdict");
    assert!(!control.holds(), "{control:?}");
}

#[test]
fn control_one_unit_split_into_many_fails() {
    // Four notes of one person, each clipped alone, accounted as one.
    let mut trainer = Trainer::new(3.0, 5);
    let mut scores = |sum: f64| (0..20_000).map(|_| trainer.step(sum)).collect();
    let scores = Scores {
        with: scores(4.0),
        without: scores(0.0),
    };
    let control = holds_for_three(&scores);
    assert!(!control.holds(), "{control:?}");
}

#[test]
fn many_canaries_in_one_run_hold_the_claim_and_an_eighth_of_the_noise_fails() {
    // Each canary is the only contribution to a coordinate of its own: one unit each, clip 1.
    let run = |noise_multiplier: f64| {
        let canaries = 2000;
        let settings = Settings {
            clip: 1.0,
            noise_multiplier,
            dimension: canaries,
            summation_error: 0.0,
        };
        let mechanism = PrivateSum::new(settings).expect("mechanism");
        let mut generator = Generator::from_seed([6; 32]);
        let inside: Vec<bool> = (0..canaries)
            .map(|_| poisson(0.5, 1, &mut generator).len() == 1)
            .collect();
        let mut sum: Vec<f64> = inside
            .iter()
            .map(|inside| f64::from(u8::from(*inside)))
            .collect();
        mechanism
            .release(&mut sum, &mut generator)
            .expect("released");
        one_run::Guesses::by_score(&sum, &inside, 200).expect("guesses")
    };
    let claimed = claim(1.0, 1e-5);
    let honest = run(1.0).verdict(claimed, 1e-5, 0.95).expect("verdict");
    assert!(
        honest.holds() && honest.epsilon_lower_bound > 1.0,
        "{honest:?}"
    );
    let control = run(0.25)
        .verdict(claim(2.0, 1e-5), 1e-5, 0.95)
        .expect("verdict");
    assert!(!control.holds(), "{control:?}");
}
