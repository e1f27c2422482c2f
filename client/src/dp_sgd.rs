//! The steps of a private training: sampling and exact noise for the trainer's DP-SGD.

use fedner_model::{Clip, Mechanism, Private};
use fedner_privacy::dp_sgd_step::{self, PrivateSum, Settings};
use fedner_privacy::noise::Generator;
use fedner_privacy::sampling::{poisson, subset};
use fedner_privacy::step_share::{self, StepShare};
use fedner_shared::plan::{Plan, Sampling};

/// How much further apart than the clip rounding can put the sums of neighbouring data sets, as a
/// part of the clip. The trainer adds in f64: each of B additions is wrong by at most 2^-53 of a sum of
/// at most B clips, so that two sums of up to 2^18 units are wrong by 2^-16 together. The norm by
/// which a unit is scaled is wrong by less than 2^-40.
const SUMMATION_ERROR: f64 = 1.01 / (1 << 16) as f64;
/// For so many units in a step the above holds. Plans expect at most an eighth of it, so that an
/// institution that has less than seven times the units that it declared passes it with a probability
/// below e^-1000. More are not trained on, and that is told as one code.
const MOST_UNITS: usize = 1 << 18;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Sum(#[from] dp_sgd_step::Error),
    #[error(transparent)]
    Share(#[from] step_share::Error),
    #[error("the operating system gave no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// What samples units and releases their sums, for as long as one training.
#[derive(Debug)]
pub struct Steps {
    sampling: Sampling,
    clip: Clip,
    noise_multiplier: f64,
    release: Release,
    generator: Generator,
    /// Units of the step under way.
    sampled: usize,
}

/// What becomes of the sum of a step.
#[derive(Debug)]
enum Release {
    /// It has noise, and training goes on with it.
    Own(PrivateSum),
    /// It has a share of noise, and is for the cohort: training here learns nothing from it.
    Share {
        mechanism: StepShare,
        released: Option<Vec<i32>>,
    },
    /// Training goes on with it as it is.
    Open,
}

impl Steps {
    /// As the plan says, for an institution that declared `units` and trains `dimension` weights;
    /// `None` where the plan's unit is not sampled.
    pub fn private(plan: &Plan, units: u32, dimension: usize) -> Result<Option<Self>, Error> {
        let Some(sampling) = plan.sampling(units) else {
            return Ok(None);
        };
        let privacy = &plan.privacy;
        let release = if privacy.is_synchronous() {
            Release::Share {
                mechanism: StepShare::new(privacy, dimension, SUMMATION_ERROR)?,
                released: None,
            }
        } else {
            Release::Own(PrivateSum::new(Settings {
                clip: privacy.clip,
                noise_multiplier: privacy.noise_multiplier,
                dimension,
                summation_error: privacy.clip * SUMMATION_ERROR,
            })?)
        };
        Ok(Some(Self {
            sampling,
            clip: Clip::from_privacy(privacy),
            noise_multiplier: privacy.noise_multiplier,
            release,
            generator: Generator::from_system()?,
            sampled: 0,
        }))
    }

    /// The same steps with known randomness, for tests that must repeat themselves.
    #[cfg(test)]
    pub(crate) fn seeded(plan: &Plan, units: u32, dimension: usize, seed: u8) -> Option<Self> {
        let mut steps = Self::private(plan, units, dimension).ok()??;
        steps.generator = Generator::from_seed([seed; 32]);
        Some(steps)
    }

    /// The same steps without clip and noise, alike whenever they are made: what noise is compared
    /// with, and nothing that may leave.
    pub fn open(plan: &Plan, units: u32) -> Option<Self> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&plan.seed.to_le_bytes());
        Some(Self {
            sampling: plan.sampling(units)?,
            clip: Clip::threshold(f64::INFINITY),
            noise_multiplier: 0.0,
            release: Release::Open,
            generator: Generator::from_seed(seed),
            sampled: 0,
        })
    }

    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The share of a step that the cohort takes together, in the order of the manifest, once the step was made.
    pub fn take_share(&mut self) -> Option<Vec<i32>> {
        match &mut self.release {
            Release::Share { released, .. } => released.take(),
            Release::Own(_) | Release::Open => None,
        }
    }

    /// What the trainer is told.
    pub fn settings(&mut self, plan: &Plan) -> Private<'_> {
        let epochs = u64::from(plan.training.local_epochs);
        Private {
            unit: plan.privacy.unit,
            clip: self.clip,
            noise_multiplier: self.noise_multiplier,
            expected_batch: plan.training.batch_size as f64,
            steps_an_epoch: (self.sampling.steps / epochs) as usize,
            max_windows: plan.max_windows().unwrap_or(usize::MAX),
            mechanism: self,
        }
    }
}

impl Mechanism for Steps {
    fn sample(&mut self, units: usize) -> Vec<usize> {
        let sample = poisson(self.sampling.rate, units, &mut self.generator);
        self.sampled = sample.len();
        sample
    }

    fn choose(&mut self, windows: usize, count: usize) -> Vec<usize> {
        subset(windows, count, &mut self.generator)
    }

    fn leaves(&self) -> bool {
        matches!(self.release, Release::Share { .. })
    }

    fn release(&mut self, sum: &mut [f64]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let found = self.sampled;
        match &mut self.release {
            Release::Open => Ok(()),
            Release::Own(_) | Release::Share { .. } if found > MOST_UNITS => {
                Err(format!("a step has {found} units: expected at most {MOST_UNITS}").into())
            }
            Release::Own(mechanism) => Ok(mechanism.release(sum, &mut self.generator)?),
            Release::Share {
                mechanism,
                released,
            } => {
                *released = Some(mechanism.release(sum, &mut self.generator)?);
                sum.fill(0.0);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::tests::plan;

    #[test]
    fn a_share_is_for_the_cohort_and_leaves_nothing_to_learn_from() {
        let mut plan = plan("person");
        plan.privacy.cohort_units = Some(2000);
        let mut steps = Steps::seeded(&plan, 500, 2, 1).expect("steps");
        assert_eq!(steps.sampling().steps, 1);
        let clips = 50.0 * plan.privacy.clip;
        let mut sum = [clips, -clips];
        steps.release(&mut sum).expect("released");
        assert_eq!(sum.map(f64::to_bits), [0, 0]);
        let share = steps.take_share().expect("a share");
        let near = |value: i32, clips: f64| (f64::from(value) / 65_536.0 - clips).abs() < 20.0;
        assert!(near(share[0], 50.0) && near(share[1], -50.0), "{share:?}");
        assert_eq!(steps.take_share(), None);
    }

    #[test]
    fn a_sum_of_more_units_than_its_error_allows_for_is_not_released() {
        let mut plan = plan("person");
        plan.training.batch_size = 1000;
        let mut steps = Steps::seeded(&plan, 2000, 1, 1).expect("steps");
        assert!(steps.sample(2000).len() > 800);
        steps.release(&mut [0.5]).expect("as many as expected");
        assert!(steps.sample(800_000).len() > MOST_UNITS);
        let mut sum = [0.5];
        let error = steps.release(&mut sum).expect_err("too many");
        assert!(error.to_string().contains("262144"), "{error}");
        assert_eq!(sum.map(f64::to_bits), [0.5f64.to_bits()]);
    }
}
