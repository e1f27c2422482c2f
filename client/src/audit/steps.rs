//! Single steps of the private trainer, with one canary unit in the text and without it.
//!
//! An epoch is a run of its own: its samples and its noise are fresh, and nothing is learnt that
//! would change the next. So one training gives as many runs as it has epochs.

use fedner_privacy::audit::distinguish::Scores;
use fedner_shared::plan::{Plan, Sampling};

use super::Error;
use super::claim::Claim;
use super::report::Part;
use super::trainer::{Path, Sink, Watched, gradients, product};
use super::worst_case::{WorstCase, attacked};

/// Features of the model, a third of the trainable weights: enough to tell from one sum's size by how
/// much it was divided.
const WIDTH: usize = 128;

/// The norm of a canary's gradient before it is clipped: √2 of the scores' gradient, and the bias
/// beside its word.
pub const LARGEST_GRADIENT: f64 = 1.48;

/// Trains `epochs` epochs of `plan` with the canary and as many without, for an institution that
/// declares `units`, and tells them apart in two ways.
///
/// `canary-direction` scores an epoch by the likelihood ratio of what its steps released, along the
/// canary's gradient; `sum-size` by the shortest sum, which shows a divisor that depends on who was
/// sampled. The claim is that of one epoch.
pub fn attack(plan: &Plan, units: u32, epochs: u32, confidence: f64) -> Result<Vec<Part>, Error> {
    attack_path(plan, units, epochs, confidence, &product)
}

/// The same attack on any way to train.
pub(super) fn attack_path(
    plan: &Plan,
    units: u32,
    epochs: u32,
    confidence: f64,
    path: &Path<'_>,
) -> Result<Vec<Part>, Error> {
    let Some(one) = attacked(plan, 1).sampling(units) else {
        return Ok(Vec::new());
    };
    let case = WorstCase::new(plan.privacy.unit, WIDTH)?;
    let (bystander, canary) = (case.bystander(0), case.canary(1));
    let mut direction = Direction::default();
    gradients(&case, &canary, plan, &mut direction)?;
    let plan = &attacked(plan, epochs);
    let run = |corpus: &[fedner_model::Sentence]| -> Result<Epochs<'_>, Error> {
        let mut seen = Epochs::new(&direction.0, plan, one);
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
    let with = run(&[bystander.clone(), canary].concat())?;
    let without = run(&bystander)?;
    let claim = Claim::steps(plan, one, one.steps);
    let judge = |name: &str, with: Vec<f64>, without: Vec<f64>| {
        // Two attacks on one claim share the doubt.
        let confidence = f64::midpoint(1.0, confidence);
        claim.judge(name, &Scores { with, without }, plan, confidence)
    };
    Ok(vec![
        judge("canary-direction", with.ratios, without.ratios)?,
        judge("sum-size", with.sizes, without.sizes)?,
    ])
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
}

impl<'a> Epochs<'a> {
    fn new(direction: &'a [f64], plan: &Plan, sampling: Sampling) -> Self {
        Self {
            direction,
            sigma: plan.privacy.sigma(),
            noise_multiplier: plan.privacy.noise_multiplier,
            sampling,
            steps: 0,
            ratios: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// ln of the density of `x` (in deviations) where the canary is sampled with the rate q, over that
    /// where it is not there: `ln(1 − q + q·e^(x·s − s²/2))` with s = 1/z.
    fn ratio(&self, x: f64) -> f64 {
        let (q, s) = (self.sampling.rate, self.noise_multiplier.recip());
        let exponent = x * s - s * s / 2.0;
        // The larger power is taken out.
        if exponent > 0.0 {
            exponent + (q + (1.0 - q) * (-exponent).exp()).ln()
        } else {
            (q * exponent.exp_m1()).ln_1p()
        }
    }
}

impl Sink for Epochs<'_> {
    fn released(&mut self, sum: &[f64]) {
        let along: f64 = sum.iter().zip(self.direction).map(|(x, d)| x * d).sum();
        let size = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        if self.steps.is_multiple_of(self.sampling.steps) {
            self.ratios.push(0.0);
            self.sizes.push(f64::NEG_INFINITY);
        }
        self.steps += 1;
        let ratio = self.ratio(along / self.sigma);
        if let (Some(total), Some(shortest)) = (self.ratios.last_mut(), self.sizes.last_mut()) {
            *total += ratio;
            *shortest = shortest.max(-size.max(f64::MIN_POSITIVE).ln());
        }
    }
}
