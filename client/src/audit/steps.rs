//! Single steps of the private trainer, with one canary unit in the text and without it.
//!
//! An epoch is a run of its own: its samples and its noise are fresh, and nothing is learnt that
//! would change the next. So one training gives as many runs as it has epochs.

use fedner_privacy::audit::distinguish::Scores;
use fedner_shared::audit::Check;
use fedner_shared::plan::{Plan, Sampling};

use super::Error;
use super::claim::Claim;
use super::mechanism::Inside;
use super::power::{Normal, power};
use super::report::Part;
use super::trainer::{Path, Sink, Step, Watched, gradients, product};
use super::worst_case::{WorstCase, attacked};

/// Features of the model, a third of the trainable weights: enough to tell from one sum's size by how
/// much it was divided.
const WIDTH: usize = 128;

/// Epochs of the training that is begun again.
const AGAIN: u32 = 100;

/// The norm of a canary's gradient before it is clipped: √2 of the scores' gradient, and the bias
/// beside its word.
pub const LARGEST_GRADIENT: f64 = 1.48;

/// Trains `epochs` epochs of `plan` with the canary and as many without, for an institution that
/// declares `units`, and tells them apart in two ways.
///
/// `canary-direction` scores an epoch by the likelihood ratio of what its steps released, along the
/// canary's gradient; `sum-size` by the shortest sum, which shows a divisor that depends on who was
/// sampled. The claim is that of one epoch.
///
/// The same trainings are looked at from inside, see the module `mechanism`.
pub fn attack(plan: &Plan, units: u32, epochs: u32, confidence: f64) -> Result<Attacked, Error> {
    let mut attacked = attack_path(plan, units, epochs, confidence, &product)?;
    let Some(one) = super::worst_case::attacked(plan, 1).sampling(units) else {
        return Ok(attacked);
    };
    attacked
        .checks
        .extend(super::mechanism::clip_of_method(plan, confidence)?);
    let (q, shift) = (one.rate, plan.privacy.noise_multiplier.recip());
    // As an epoch is scored, for a canary whose gradient has the norm of the clip.
    let score = |normal: &mut Normal, with: bool, factor: f64| {
        let step = |normal: &mut Normal| {
            let inside = with && normal.happens(q);
            let x = factor * normal.draw() + if inside { shift } else { 0.0 };
            ratio(x, q, shift)
        };
        (0..one.steps).map(|_| step(normal)).sum()
    };
    let level = (epochs as usize, plan.privacy.delta, both(confidence));
    let claim = Claim::steps(plan, one, one.steps);
    let part = attacked
        .parts
        .iter_mut()
        .find(|part| part.name == DIRECTION);
    if let Some(part) = part {
        part.power = Some(power(&claim, level, score)?);
    }
    Ok(attacked)
}

const DIRECTION: &str = "canary-direction";

/// Two attacks on one claim share the doubt.
fn both(confidence: f64) -> f64 {
    f64::midpoint(1.0, confidence)
}

/// ln of the density of `x` (in deviations) where the canary is sampled with the rate q, over that
/// where it is not there: `ln(1 − q + q·e^(x·s − s²/2))` with s = 1/z.
fn ratio(x: f64, q: f64, s: f64) -> f64 {
    let exponent = x * s - s * s / 2.0;
    // The larger power is taken out.
    if exponent > 0.0 {
        exponent + (q + (1.0 - q) * (-exponent).exp()).ln()
    } else {
        (q * exponent.exp_m1()).ln_1p()
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Attacked {
    pub parts: Vec<Part>,
    pub checks: Vec<Check>,
}

/// The same attack on any way to train.
pub(super) fn attack_path(
    plan: &Plan,
    units: u32,
    epochs: u32,
    confidence: f64,
    path: &Path<'_>,
) -> Result<Attacked, Error> {
    let Some(one) = attacked(plan, 1).sampling(units) else {
        return Ok(Attacked::default());
    };
    let case = WorstCase::new(plan.privacy.unit, WIDTH)?;
    let (bystander, canary) = (case.bystander(0), case.canary(1));
    let mut direction = Direction::default();
    gradients(&case, &canary, plan, &mut direction)?;
    let (plan, short) = (&attacked(plan, epochs), &attacked(plan, epochs.min(AGAIN)));
    let run = |corpus: &[fedner_model::Sentence], canary, plan| -> Result<Epochs<'_>, Error> {
        let mut seen = Epochs::new(&direction.0, plan, one, canary);
        let watched = Watched {
            case: &case,
            corpus,
            plan,
            units,
            sink: &mut seen,
        };
        path(watched)?;
        Ok(seen)
    };
    // Units are numbered in the order of the text.
    let text = [bystander.clone(), canary].concat();
    let with = run(&text, Some(1), plan)?;
    let without = run(&bystander, None, plan)?;
    // On the same text, as a training that was stopped is begun again.
    let again = run(&text, Some(1), short)?;
    let others = [&without.inside, &again.inside];
    let checks = with
        .inside
        .checks(others, one.rate, LARGEST_GRADIENT, confidence);
    let claim = Claim::steps(plan, one, one.steps);
    let judge = |name: &str, with: Vec<f64>, without: Vec<f64>| {
        claim.judge(name, &Scores { with, without }, plan, both(confidence))
    };
    let parts = vec![
        judge(DIRECTION, with.ratios, without.ratios)?,
        judge("sum-size", with.sizes, without.sizes)?,
    ];
    Ok(Attacked { parts, checks })
}

/// The one gradient that is released, as a vector of norm 1.
#[derive(Debug, Default)]
struct Direction(Vec<f64>);

impl Sink for Direction {
    fn released(&mut self, sum: &[f64]) {
        let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        self.0 = sum.iter().map(|x| x / norm).collect();
    }
}

/// The scores of each epoch.
#[derive(Debug)]
struct Epochs<'a> {
    direction: &'a [f64],
    /// Of the noise that is claimed.
    sigma: f64,
    noise_multiplier: f64,
    sampling: Sampling,
    /// Released so far.
    steps: u64,
    ratios: Vec<f64>,
    sizes: Vec<f64>,
    inside: Inside,
}

impl<'a> Epochs<'a> {
    fn new(direction: &'a [f64], plan: &Plan, sampling: Sampling, canary: Option<usize>) -> Self {
        Self {
            direction,
            sigma: plan.privacy.sigma(),
            noise_multiplier: plan.privacy.noise_multiplier,
            sampling,
            steps: 0,
            ratios: Vec::new(),
            sizes: Vec::new(),
            inside: Inside::new(plan, canary),
        }
    }
}

impl Sink for Epochs<'_> {
    fn inside(&mut self, step: &Step<'_>) {
        self.inside.step(step);
    }

    fn released(&mut self, sum: &[f64]) {
        let along: f64 = sum.iter().zip(self.direction).map(|(x, d)| x * d).sum();
        let size = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        if self.steps.is_multiple_of(self.sampling.steps) {
            self.ratios.push(0.0);
            self.sizes.push(f64::NEG_INFINITY);
        }
        self.steps += 1;
        let (q, s) = (self.sampling.rate, self.noise_multiplier.recip());
        let ratio = ratio(along / self.sigma, q, s);
        if let (Some(total), Some(shortest)) = (self.ratios.last_mut(), self.sizes.last_mut()) {
            *total += ratio;
            *shortest = shortest.max(-size.max(f64::MIN_POSITIVE).ln());
        }
    }
}
