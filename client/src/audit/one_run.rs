//! A whole private training with many canary units in it, each by a coin of its own (Steinke, Nasr and
//! Jagielski 2023, "Privacy Auditing with One (1) Training Run"). It is judged by the whole claim
//! (Mahloujifar, Melis and Chaudhuri 2025, "Auditing f-Differential Privacy in One Run").

use fedner_privacy::audit::one_run::Guesses;
use fedner_privacy::noise::Generator;
use fedner_privacy::sampling::poisson;
use fedner_shared::plan::Plan;

use super::Error;
use super::claim::Claim;
use super::power::power_of_guesses;
use super::report::Part;
use super::trainer::{Path, Sink, Watched, gradients, product};
use super::worst_case::{WorstCase, attacked};

/// Of five canaries the coin of one is guessed: that of the surest.
const GUESSED: usize = 5;

/// Trains all rounds of `plan` for an institution that declares `units`, on about half of so many
/// canaries, and guesses by the sum of all that was released which half. The claim is that of all
/// rounds.
pub fn attack(
    plan: &Plan,
    units: u32,
    canaries: usize,
    confidence: f64,
) -> Result<Option<Part>, Error> {
    let mut coins = Generator::from_system()?;
    attack_path(plan, units, canaries, confidence, &mut coins, &product)
}

/// The same attack on any way to train.
pub(super) fn attack_path(
    plan: &Plan,
    units: u32,
    canaries: usize,
    confidence: f64,
    coins: &mut Generator,
    path: &Path<'_>,
) -> Result<Option<Part>, Error> {
    let epochs = plan.training.local_epochs.saturating_mul(plan.rounds);
    let whole = attacked(plan, epochs);
    let Some(sampling) = whole.sampling(units) else {
        return Ok(None);
    };
    let case = WorstCase::new(plan.privacy.unit, canaries + 1)?;
    let inside: Vec<bool> = (0..canaries)
        .map(|_| poisson(0.5, 1, coins).len() == 1)
        .collect();
    // A corpus is never empty, however the coins fall.
    let mut corpus = case.bystander(canaries);
    let drawn = inside.iter().enumerate().filter(|(_, inside)| **inside);
    corpus.extend(drawn.flat_map(|(number, _)| case.canary(number)));
    let mut total = Total(vec![0.0; case.dimension()]);
    path(Watched {
        case: &case,
        corpus: &corpus,
        plan: &whole,
        units,
        sink: &mut total,
    })?;
    let all: Vec<_> = (0..canaries)
        .flat_map(|number| case.canary(number))
        .collect();
    let mut scores = Along {
        total: &total.0,
        scores: Vec::with_capacity(canaries),
    };
    gradients(&case, &all, plan, &mut scores)?;
    let guessed = 2 * (canaries / GUESSED / 2).max(1);
    let guesses = Guesses::by_score(&scores.scores, &inside, guessed)?;
    let claim = Claim::steps(plan, sampling, sampling.steps);
    // Along a canary a step adds its gradient, of norm C, where it is sampled, and noise.
    let (steps, rate) = (sampling.steps as f64, sampling.rate);
    let noise = plan.privacy.noise_multiplier * steps.sqrt();
    let along = (noise, (steps * rate * (1.0 - rate)).sqrt(), steps * rate);
    let level = (canaries, guessed, confidence);
    let curve = claim.curve(plan.privacy.delta)?;
    let power = power_of_guesses(&curve, level, along)?;
    let part = curve.judge("one-run", &guesses, confidence, Some(power))?;
    Ok(Some(part))
}

/// The sum of all that was released.
#[derive(Debug)]
struct Total(Vec<f64>);

impl Sink for Total {
    fn released(&mut self, sum: &[f64]) {
        for (total, x) in self.0.iter_mut().zip(sum) {
            *total += x;
        }
    }
}

/// How far the total reaches along each gradient.
#[derive(Debug)]
struct Along<'a> {
    total: &'a [f64],
    scores: Vec<f64>,
}

impl Sink for Along<'_> {
    fn released(&mut self, sum: &[f64]) {
        let along = self.total.iter().zip(sum).map(|(t, x)| t * x).sum();
        self.scores.push(along);
    }
}
