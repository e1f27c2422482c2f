//! Steps of DP-SGD as they are released.

use fedner_shared::plan::{Plan, ranges};

use super::rdp::Curve;
use super::{Error, Phase, pld, zcdp};

/// Steps of the grid that a clip has at least where an institution releases its steps by itself.
const OWN_GRID: f64 = (1u64 << 24) as f64;

/// Steps with the same settings, on sums of so many coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps {
    pub phase: Phase,
    /// d
    pub dimension: u64,
    /// Who adds the noise, where it is not one institution alone.
    pub shares: Option<Shares>,
}

/// Noise that several add to one sum, each as much as the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    pub senders: u32,
    /// σ of one sender's noise, in steps of the grid, at the least.
    pub scale: f64,
}

impl Steps {
    /// Those of an institution that adds all noise by itself.
    pub const fn own(phase: Phase, dimension: u64) -> Self {
        Self {
            phase,
            dimension,
            shares: None,
        }
    }

    /// Those of one round, whose sampling is `phase`.
    pub fn of_round(plan: &Plan, phase: Phase, dimension: u64) -> Self {
        let privacy = &plan.privacy;
        let scale = privacy.update_noise_multiplier() * privacy.grid().steps();
        let senders = privacy.noise_shares;
        Self {
            phase,
            dimension,
            shares: privacy
                .is_synchronous()
                .then_some(Shares { senders, scale }),
        }
    }

    #[must_use]
    pub fn times(self, rounds: u64) -> Self {
        let steps = self.phase.steps.saturating_mul(rounds);
        let phase = Phase {
            steps,
            ..self.phase
        };
        Self { phase, ..self }
    }

    /// The same by one sender's noise alone; nothing where it is one institution's anyway.
    pub fn alone(self) -> Option<Self> {
        let shares = self.shares?;
        let senders = f64::from(shares.senders);
        let phase = Phase {
            noise_multiplier: (self.phase.noise_multiplier / senders.sqrt()).next_down(),
            ..self.phase
        };
        let shares = Some(Shares {
            senders: 1,
            ..shares
        });
        (senders > 1.0).then_some(Self {
            phase,
            shares,
            ..self
        })
    }

    /// By how much, in one step, the logarithm of the noise's law may differ from that of a discrete Gaussian.
    fn apart(&self) -> f64 {
        let one = |shares: Shares| zcdp::shares_apart(shares.scale, shares.senders);
        self.shares.map_or(0.0, one) * self.dimension.max(1) as f64 * (1.0 + 4.0 * f64::EPSILON)
    }

    /// The curve of all of them. The lemma *shared steps* of the [crate] says why.
    pub fn curve(&self) -> Result<Curve, Error> {
        self.phase.check()?;
        let Phase {
            sampling_rate,
            noise_multiplier,
            steps,
        } = self.phase;
        if self
            .shares
            .is_some_and(|shares| shares.scale.is_nan() || shares.scale < ranges::LEAST_SHARE)
        {
            return Ok(Curve::of_rho(f64::INFINITY));
        }
        let one = Curve::sampled_discrete_gaussian(sampling_rate, noise_multiplier)?;
        Ok(one.blurred(self.apart()).times(steps))
    }

    /// The smallest ε at `delta`, rounded up, where one plan fixed all settings.
    pub fn epsilon(&self, delta: f64) -> Result<f64, Error> {
        let bound = self.curve()?.epsilon(delta);
        let grid = match self.shares {
            None => OWN_GRID,
            // The clip's steps: a share times √h, over z.
            Some(Shares { senders, scale }) => {
                scale * f64::from(senders).sqrt() / self.phase.noise_multiplier
                    * (1.0 - 8.0 * f64::EPSILON)
            }
        };
        let apart = 2.0 * self.apart() * self.phase.steps as f64;
        pld::epsilon_discrete(self.phase, (self.dimension, grid), (bound, apart), delta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASE: Phase = Phase {
        sampling_rate: 0.1888,
        noise_multiplier: 2.45,
        steps: 360,
    };

    fn steps(shares: Option<Shares>) -> Steps {
        let own = Steps::own(PHASE, 6_921);
        Steps { shares, ..own }
    }

    #[test]
    fn shared_noise_costs_what_the_same_noise_of_one_costs() {
        let own = steps(None).epsilon(1e-5).expect("in range");
        let scale = 2.45 / 2.0 * 65_536.0;
        let shared = steps(Some(Shares { senders: 4, scale }));
        let together = shared.epsilon(1e-5).expect("in range");
        // The coarser grid adds a part that is paid for.
        assert!((1.0..1.003).contains(&(together / own)), "{together} {own}");
        let alone = shared.alone().expect("shared").epsilon(1e-5);
        let half = Steps {
            phase: Phase {
                noise_multiplier: 1.225,
                ..PHASE
            },
            ..steps(None)
        };
        let half = half.epsilon(1e-5).expect("in range");
        let alone = alone.expect("in range");
        assert!((1.0..1.003).contains(&(alone / half)), "{alone} {half}");
        assert!(alone > 2.0 * together);
        assert_eq!(steps(None).alone(), None);
    }

    /// Where shares are small, how far their sum is from a Gaussian costs something, and at last everything.
    #[test]
    fn small_shares_cost_more_or_everything() {
        let of = |scale, dimension| {
            let shares = Some(Shares { senders: 3, scale });
            let steps = Steps {
                dimension,
                ..steps(shares)
            };
            steps.curve().expect("a curve").epsilon(1e-5)
        };
        let usual = of(4.0, 1);
        assert!(of(4.0, u64::MAX) >= usual);
        assert!(of(3.999, 1).is_infinite() && of(f64::NAN, 1).is_infinite());
        let apart = zcdp::shares_apart(4.0, 3);
        assert!(apart > 0.0 && apart < 1e-65, "{apart}");
        assert!(zcdp::shares_apart(4.0, 1).abs() < f64::MIN_POSITIVE);
    }
}
