//! The mechanism of sampled units, looked at from inside: its noise, its rate, its clip.
//!
//! Attacks on ε need many times the noise's deviation to tell; this sees what each step did. It runs
//! beside the attack on steps, in the same trainings.

use std::collections::VecDeque;

use fedner_model::Clip;
use fedner_privacy::audit::mechanism::{self, Products};
use fedner_shared::audit::Check;
use fedner_shared::plan::{Method, Plan};

use super::Error;
use super::trainer::{Sink, Step, clipped};
use super::worst_case::{WorstCase, attacked_method};

/// Steps whose noise is kept, to be compared with that of a training begun anew.
const KEPT: usize = 500;
/// The checks of one training share its doubt, and are surer than an attack: there are values enough.
const CHECKS: f64 = 6000.0;

/// What was seen of one training's steps.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// σ and C.
    sigma: f64,
    bound: f64,
    /// The canary's number among the units, if it is there.
    canary: Option<usize>,
    steps: u64,
    taken: u64,
    longest: f64,
    squares: f64,
    count: u64,
    by_step: Products,
    by_coordinate: Products,
    before: Vec<f64>,
    kept: VecDeque<Vec<f64>>,
}

impl Inside {
    pub(super) fn new(plan: &Plan, canary: Option<usize>) -> Self {
        Self {
            sigma: plan.privacy.sigma_of_sum(),
            bound: plan.privacy.clip,
            canary,
            ..Self::default()
        }
    }

    pub(super) fn step(&mut self, step: &Step<'_>) {
        let noise: Vec<f64> = step
            .released
            .iter()
            .zip(step.sum)
            .map(|(released, sum)| (released - sum) / self.sigma)
            .collect();
        self.steps += 1;
        self.squares += noise.iter().map(|x| x * x).sum::<f64>();
        self.count += noise.len() as u64;
        for (x, before) in noise.iter().zip(&self.before) {
            self.by_step.add(*x, *before);
        }
        for pair in noise.windows(2) {
            self.by_coordinate.add(pair[0], pair[1]);
        }
        if self
            .canary
            .is_some_and(|canary| step.sampled.contains(&canary))
        {
            self.taken += 1;
            let norm = step.sum.iter().map(|x| x * x).sum::<f64>().sqrt();
            self.longest = self.longest.max(norm / self.bound);
        }
        if self.kept.len() < KEPT {
            self.kept.push_back(noise.clone());
        }
        self.before = noise;
    }

    /// Holds what was seen with the canary against the plan, beside a training without it and one begun
    /// again with it. `reach` is the norm of the canary's gradient before it is clipped.
    pub(super) fn checks(
        &self,
        [without, again]: [&Self; 2],
        rate: f64,
        reach: f64,
        confidence: f64,
    ) -> Vec<Check> {
        let each = 1.0 - (1.0 - confidence) / CHECKS;
        let squares = self.squares + without.squares;
        let restarts = self
            .kept
            .iter()
            .zip(&again.kept)
            .flat_map(|(one, two)| one.iter().copied().zip(two.iter().copied()));
        let clip = mechanism::clip("clip", self.longest, self.taken, reach / self.bound, each);
        let checks = [
            mechanism::noise(squares, self.count + without.count, each),
            mechanism::rate(self.taken, self.steps, rate, each),
            (self.taken > 0).then_some(clip),
            self.by_step.independent("noise-steps", each),
            self.by_coordinate.independent("noise-coordinates", each),
            Products::from_pairs(restarts).independent("noise-restarts", each),
        ];
        checks.into_iter().flatten().collect()
    }
}

/// Units whose gradients by an encoder are measured.
const MEASURED: usize = 8;

/// The longest clipped gradient of one unit by the plan's method, on a small encoder; nothing for heads,
/// whose clip the attack on steps has seen.
pub(super) fn clip_of_method(plan: &Plan, confidence: f64) -> Result<Option<Check>, Error> {
    clip_of(plan, Clip::from_privacy(&plan.privacy), confidence)
}

/// The same, clipped otherwise than the plan says.
pub(super) fn clip_of(plan: &Plan, clip: Clip, confidence: f64) -> Result<Option<Check>, Error> {
    if plan.method == Method::Head {
        return Ok(None);
    }
    let plan = attacked_method(plan);
    let case = WorstCase::with_encoder(&plan)?;
    let corpus: Vec<_> = (0..MEASURED).flat_map(|unit| case.canary(unit)).collect();
    let longest = |clip: Clip| -> Result<f64, Error> {
        let mut longest = Longest(0.0);
        clipped(&case, &corpus, (&plan, clip), &mut longest)?;
        Ok(longest.0 / plan.privacy.clip)
    };
    let reach = longest(Clip::threshold(f64::INFINITY))?;
    let (found, name) = (longest(clip)?, format!("clip-{}", plan.method));
    let units = MEASURED as u64;
    Ok(Some(mechanism::clip(
        &name, found, units, reach, confidence,
    )))
}

#[derive(Debug)]
struct Longest(f64);

impl Sink for Longest {
    fn released(&mut self, sum: &[f64]) {
        let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        self.0 = self.0.max(norm);
    }
}
