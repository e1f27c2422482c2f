//! What a debit costs, by the inputs of its formula, and what costs add up to.

use fedner_shared::plan::ranges::LEAST_SHARE;
use fedner_shared::plan::{CountNoise, Plan, Unit, ranges};
use serde::{Deserialize, Serialize};

use crate::accountant::rdp::Curve;
use crate::accountant::{Phase, Shares, Steps, zcdp};
use crate::sensitivity::squared_bound;

/// The mechanism that a debit pays for. Its cost is always computed from these, never stated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mechanism", rename_all = "snake_case", deny_unknown_fields)]
pub enum Cost {
    /// No noise: no ε covers it.
    Unprotected,
    /// One release of an integer vector with discrete Gaussian noise: ρ = Δ̃² / 2σ̃².
    Gaussian {
        /// Δ̃², in squared grid steps, see [`squared_bound`].
        squared_sensitivity: u64,
        /// σ̃, in grid steps.
        scale: f64,
    },
    /// One update whose noise is a share, in a sum with those of others: see [`zcdp::rho_of_sum`].
    SharedGaussian {
        /// Δ̃², as above.
        squared_sensitivity: u64,
        /// σ̃ of the update's own noise, in grid steps.
        scale: f64,
        /// How many add as much noise, this institution among them.
        senders: u32,
        /// Coordinates of the update.
        dimension: u64,
    },
    /// Steps of DP-SGD: the sampled discrete Gaussian, by Rényi divergence, see
    /// [`Curve::sampled_discrete_gaussian`].
    SampledGaussian {
        sampling_rate: f64,
        noise_multiplier: f64,
        steps: u64,
        /// Coordinates of each step's sum. Older entries lack it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dimension: Option<u64>,
    },
    /// Steps of DP-SGD that a cohort takes together: each sender adds a share of the noise, see [`Steps`].
    SharedSampledGaussian {
        sampling_rate: f64,
        /// Of all shares together.
        noise_multiplier: f64,
        steps: u64,
        /// Coordinates of each step's sum.
        dimension: u64,
        /// How many add as much noise, this institution among them.
        senders: u32,
        /// σ̃ of one sender's noise at the least, in grid steps.
        scale: f64,
    },
}

impl Cost {
    /// Of an update of `dimension` weights, of which the consent declares `units`.
    pub fn of_update(plan: &Plan, units: u32, dimension: usize) -> Self {
        if let Some(phase) = Phase::of_round(plan, units) {
            return Steps::of_round(plan, phase, dimension as u64).into();
        }
        let privacy = &plan.privacy;
        if privacy.unit == Unit::None {
            return Self::Unprotected;
        }
        // Below 2^64 for every model that fits in memory.
        let squared_sensitivity = squared_bound(privacy.grid(), dimension) as u64;
        let scale = privacy.update_noise_multiplier() * privacy.grid().steps();
        if privacy.shares_noise() {
            return Self::SharedGaussian {
                squared_sensitivity,
                scale,
                senders: privacy.noise_shares,
                dimension: dimension as u64,
            };
        }
        Self::Gaussian {
            squared_sensitivity,
            scale,
        }
    }

    /// The same against everybody: if no noise but the institution's own hides anything.
    #[must_use]
    pub fn alone(self) -> Self {
        match self {
            Self::SharedSampledGaussian { .. } => {
                let alone = self.steps().and_then(Steps::alone);
                alone.map_or(self, Self::from)
            }
            Self::SharedGaussian {
                squared_sensitivity,
                scale,
                ..
            } => Self::Gaussian {
                squared_sensitivity,
                scale,
            },
            Self::Unprotected | Self::Gaussian { .. } | Self::SampledGaussian { .. } => self,
        }
    }

    /// Of counts on held-out text.
    pub fn of_counts(noise: CountNoise) -> Self {
        Self::Gaussian {
            squared_sensitivity: u64::from(noise.clip).pow(2),
            scale: noise.sigma,
        }
    }

    /// ρ of zero-concentrated differential privacy, rounded up; nothing where the mechanism has none
    /// that is worth stating.
    pub fn rho(&self) -> Option<f64> {
        match *self {
            Self::Unprotected => Some(f64::INFINITY),
            Self::Gaussian {
                squared_sensitivity,
                scale,
            } => Some(zcdp::rho_of(squared_sensitivity as f64, scale)),
            Self::SharedGaussian {
                squared_sensitivity,
                scale,
                senders,
                dimension,
            } => Some(zcdp::rho_of_sum(
                squared_sensitivity as f64,
                scale,
                (senders, dimension),
            )),
            Self::SampledGaussian { .. } | Self::SharedSampledGaussian { .. } => None,
        }
    }

    /// The steps that it is of, with sums of so many coordinates.
    fn steps(&self) -> Option<Steps> {
        let (phase, dimension, shares) = match *self {
            Self::SampledGaussian {
                sampling_rate,
                noise_multiplier,
                steps,
                dimension,
            } => {
                let phase = Phase {
                    sampling_rate,
                    noise_multiplier,
                    steps,
                };
                // Of older entries nobody knows; it counts in no curve.
                (phase, dimension.unwrap_or_default(), None)
            }
            Self::SharedSampledGaussian {
                sampling_rate,
                noise_multiplier,
                steps,
                dimension,
                senders,
                scale,
            } => {
                let phase = Phase {
                    sampling_rate,
                    noise_multiplier,
                    steps,
                };
                (phase, dimension, Some(Shares { senders, scale }))
            }
            Self::Unprotected | Self::Gaussian { .. } | Self::SharedGaussian { .. } => return None,
        };
        Some(Steps {
            phase,
            dimension,
            shares,
        })
    }

    /// An input that is none: key, what was found, what was expected.
    pub(super) fn fault(&self) -> Option<(&'static str, f64, &'static str)> {
        let noise = |key, found: f64, multiplier: f64| {
            let sound = ranges::CHARGED_NOISE.contains(&multiplier);
            let expected = "noise of 1e-5 to 1e5 times the sensitivity";
            (!sound).then_some((key, found, expected))
        };
        match *self {
            Self::Unprotected => None,
            Self::Gaussian {
                squared_sensitivity,
                scale,
            } => noise("scale", scale, scale / (squared_sensitivity as f64).sqrt()),
            Self::SharedGaussian { scale, .. } | Self::SharedSampledGaussian { scale, .. }
                if scale.is_nan() || scale < LEAST_SHARE =>
            {
                Some(("scale", scale, "shares of noise of at least 4 steps"))
            }
            Self::SharedGaussian {
                squared_sensitivity,
                scale,
                senders,
                ..
            } => {
                let sum = scale * f64::from(senders).sqrt();
                noise("scale", scale, sum / (squared_sensitivity as f64).sqrt())
            }
            Self::SampledGaussian {
                sampling_rate,
                noise_multiplier,
                ..
            }
            | Self::SharedSampledGaussian {
                sampling_rate,
                noise_multiplier,
                ..
            } => {
                let rate = (0.0..=1.0).contains(&sampling_rate);
                let rate =
                    (!rate).then_some(("sampling_rate", sampling_rate, "a number from 0 to 1"));
                rate.or_else(|| noise("noise_multiplier", noise_multiplier, noise_multiplier))
            }
        }
    }

    fn curve(&self) -> Option<Curve> {
        // Inputs that are none never get here, and would cost everything.
        let everything = |_| Curve::of_rho(f64::INFINITY);
        Some(self.steps()?.curve().unwrap_or_else(everything))
    }
}

impl From<Steps> for Cost {
    fn from(steps: Steps) -> Self {
        let Phase {
            sampling_rate,
            noise_multiplier,
            steps: count,
        } = steps.phase;
        match steps.shares {
            None => Self::SampledGaussian {
                sampling_rate,
                noise_multiplier,
                steps: count,
                dimension: Some(steps.dimension),
            },
            Some(Shares { senders, scale }) => Self::SharedSampledGaussian {
                sampling_rate,
                noise_multiplier,
                steps: count,
                dimension: steps.dimension,
                senders,
                scale,
            },
        }
    }
}

impl From<Phase> for Cost {
    fn from(phase: Phase) -> Self {
        Self::SampledGaussian {
            sampling_rate: phase.sampling_rate,
            noise_multiplier: phase.noise_multiplier,
            steps: phase.steps,
            dimension: None,
        }
    }
}

/// A sum of costs, valid when later ones were chosen by what earlier ones released.
///
/// What has a ρ adds up in ρ, and the rest order by order; both add up to one ε.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Spending {
    rho: f64,
    sampled: Option<Curve>,
    kinds: Kinds,
}

/// Of what kinds the costs are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Kinds {
    #[default]
    None,
    /// Steps with the same settings.
    One(Steps),
    Several,
}

impl Kinds {
    fn with(self, cost: &Cost, count: u64) -> Self {
        let known = !matches!(
            cost,
            Cost::SampledGaussian {
                dimension: None,
                ..
            }
        );
        let Some(more) = cost.steps().filter(|_| known) else {
            return Self::Several;
        };
        let more = more.times(count);
        match self {
            Self::None => Self::One(more),
            Self::One(sum) => {
                let steps = sum.phase.steps;
                let alike = Steps {
                    phase: Phase {
                        steps,
                        ..more.phase
                    },
                    ..more
                };
                if alike != sum {
                    return Self::Several;
                }
                let steps = steps.saturating_add(more.phase.steps);
                let phase = Phase { steps, ..sum.phase };
                Self::One(Steps { phase, ..sum })
            }
            Self::Several => Self::Several,
        }
    }
}

impl Spending {
    #[must_use]
    pub(super) fn with(&self, cost: &Cost) -> Self {
        self.with_several(cost, 1)
    }

    /// The same with `count` of one cost.
    #[must_use]
    pub(super) fn with_several(&self, cost: &Cost, count: u64) -> Self {
        let (rho, curve) = (cost.rho().unwrap_or(0.0), cost.curve());
        let curve = curve.map(|curve| curve.times(count));
        let sampled = match (&self.sampled, curve) {
            (Some(sum), Some(more)) => Some(sum.clone().plus(&more)),
            (sum, more) => more.or_else(|| sum.clone()),
        };
        // One after another: each sum is rounded up.
        let rho = (0..count).fold(self.rho, |sum, _| zcdp::add(sum, rho));
        Self {
            rho,
            sampled,
            kinds: self.kinds.with(cost, count),
        }
    }

    pub(super) fn rho(&self) -> f64 {
        self.rho
    }

    /// The same where one plan fixed the settings of all beforehand: by loss distributions, where they
    /// are all of one kind; see [`Steps::epsilon`].
    pub(super) fn epsilon_of_plan(&self, delta: f64) -> f64 {
        let bound = self.epsilon(delta);
        match self.kinds {
            Kinds::One(steps) => {
                let tighter = steps.epsilon(delta);
                tighter.map_or(bound, |tighter| tighter.min(bound))
            }
            Kinds::None | Kinds::Several => bound,
        }
    }

    /// Rounded up.
    pub(super) fn epsilon(&self, delta: f64) -> f64 {
        match &self.sampled {
            None => zcdp::epsilon(self.rho, delta),
            Some(sampled) => Curve::of_rho(self.rho).plus(sampled).epsilon(delta),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::rdp;

    const DELTA: f64 = 1e-5;

    #[test]
    fn kinds_of_cost_add_up() {
        let gaussian = Cost::Gaussian {
            squared_sensitivity: 8,
            scale: 4.0,
        };
        assert!((gaussian.rho().expect("ρ") - 0.25).abs() < 1e-12);
        let phase = Phase {
            sampling_rate: 0.05,
            noise_multiplier: 1.5,
            steps: 200,
        };
        let sampled = Cost::from(phase);
        let nothing = Spending::default();
        assert!(nothing.epsilon(DELTA) <= 0.0);
        let one = nothing.with(&gaussian);
        assert!((one.epsilon(DELTA) - zcdp::epsilon(0.25, DELTA)).abs() < 1e-9);
        let other = nothing.with(&sampled);
        let expected = rdp::epsilon_discrete(&[phase], DELTA).expect("in range");
        assert!((other.epsilon(DELTA) - expected).abs() < 1e-9);
        let both = one.with(&sampled);
        assert_eq!(both, other.with(&gaussian));
        assert!(both.epsilon(DELTA) > one.epsilon(DELTA).max(other.epsilon(DELTA)));
        assert!(both.epsilon(DELTA) < one.epsilon(DELTA) + other.epsilon(DELTA));
        assert!(both.with(&Cost::Unprotected).epsilon(DELTA).is_infinite());
        let twice = other.with(&sampled);
        let doubled = Phase {
            steps: 400,
            ..phase
        };
        let expected = rdp::epsilon_discrete(&[doubled], DELTA).expect("in range");
        assert!((twice.epsilon(DELTA) - expected).abs() < 1e-9);
    }

    #[test]
    fn steps_of_one_plan_cost_what_loss_distributions_say() {
        let step = |noise_multiplier, dimension| Cost::SampledGaussian {
            sampling_rate: 0.1888,
            noise_multiplier,
            steps: 60,
            dimension,
        };
        let nothing = Spending::default();
        let own = step(2.45, Some(5_379));
        let spent = nothing.with(&own).with_several(&own, 5);
        let phase = Phase {
            sampling_rate: 0.1888,
            noise_multiplier: 2.45,
            steps: 360,
        };
        let expected = Steps::own(phase, 5_379).epsilon(DELTA).expect("in range");
        assert_eq!(spent.epsilon_of_plan(DELTA).to_bits(), expected.to_bits());
        assert!(expected < 0.97 * spent.epsilon(DELTA));
        // Another noise, counts beside it, and entries of before: by Rényi divergence.
        let counts = Cost::Gaussian {
            squared_sensitivity: 1,
            scale: 50.0,
        };
        for other in [
            step(2.5, Some(5_379)),
            step(2.45, Some(5_380)),
            step(2.45, None),
            counts,
        ] {
            let mixed = spent.with(&other);
            assert_eq!(
                mixed.epsilon_of_plan(DELTA).to_bits(),
                mixed.epsilon(DELTA).to_bits()
            );
        }
        // An account of several plans: by Rényi divergence always.
        assert!(spent.epsilon(DELTA) > spent.epsilon_of_plan(DELTA));
    }

    #[test]
    fn inputs_that_are_none_are_named() {
        let gaussian = |scale| Cost::Gaussian {
            squared_sensitivity: 1,
            scale,
        };
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(
                matches!(gaussian(scale).fault(), Some(("scale", ..))),
                "{scale}"
            );
        }
        assert_eq!(gaussian(1.0).fault(), None);
        let sampled = |sampling_rate, noise_multiplier| Cost::SampledGaussian {
            sampling_rate,
            noise_multiplier,
            steps: 1,
            dimension: None,
        };
        assert!(matches!(
            sampled(1.5, 1.0).fault(),
            Some(("sampling_rate", ..))
        ));
        assert!(matches!(
            sampled(0.5, 0.0).fault(),
            Some(("noise_multiplier", ..))
        ));
        // So little noise that its square is none, and so much that it is endless.
        for noise in [1e-300, 1e-152, 1e-6, 1e6, 1e300] {
            assert!(sampled(0.5, noise).fault().is_some(), "{noise}");
            assert!(gaussian(noise).fault().is_some(), "{noise}");
        }
    }

    #[test]
    fn json_keeps_every_bit() {
        for cost in [
            Cost::Unprotected,
            Cost::Gaussian {
                squared_sensitivity: 68_719_738_624,
                scale: 0.1 + 0.2,
            },
            Cost::SampledGaussian {
                sampling_rate: 1.0 / 3.0,
                noise_multiplier: 0.7,
                steps: 9,
                dimension: Some(5_379),
            },
        ] {
            let json = serde_json::to_string(&cost).expect("json");
            assert_eq!(
                serde_json::from_str::<Cost>(&json).expect("cost"),
                cost,
                "{json}"
            );
        }
    }
}
