//! What is composed.

use fedner_shared::plan::Plan;

use super::{Error, value};

/// So many steps of the sampled Gaussian mechanism with the same settings. Rounds that differ are
/// several phases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// q, the chance of a unit to be in a step (Poisson sampling); 1 where all are.
    pub sampling_rate: f64,
    /// σ over the largest norm of one unit's contribution.
    pub noise_multiplier: f64,
    pub steps: u64,
}

impl Phase {
    /// The steps of one round at an institution that declares `units`; `None` where the plan samples none.
    pub fn of_round(plan: &Plan, units: u32) -> Option<Self> {
        let sampling = plan.sampling(units)?;
        Some(Self {
            sampling_rate: sampling.rate,
            noise_multiplier: plan.privacy.noise_multiplier,
            steps: sampling.steps,
        })
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let (q, sigma) = (self.sampling_rate, self.noise_multiplier);
        let rate = (0.0..=1.0).contains(&q);
        value("the sampling rate", q, rate, "a number from 0 to 1")?;
        value(
            "the noise multiplier",
            sigma,
            sigma >= 0.0,
            "a number from 0",
        )
    }

    /// Whether nothing is released about anybody.
    pub(super) fn is_free(&self) -> bool {
        self.steps == 0 || self.sampling_rate <= 0.0
    }
}
