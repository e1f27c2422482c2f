//! What the product claims of a mechanism: not one pair of ε and δ, but an ε at every δ.

use fedner_privacy::accountant::{self, Phase, gdp, pld, zcdp};
use fedner_privacy::audit::Verdict;
use fedner_privacy::audit::distinguish::Scores;
use fedner_privacy::audit::one_run::Guesses;
use fedner_shared::plan::{Plan, Sampling};

use super::Error;
use super::report::Part;

/// δ beside the plan's: small ones show a trace that is rare and plain, large ones one that is
/// frequent and faint. A broken rule shows at some of them.
const LEVELS: [f64; 5] = [1e-3, 0.05, 0.15, 0.4, 0.7];
/// Levels to a factor of ten, and factors of ten, by which guesses in one run see a claim.
const TANGENTS: (u32, u32) = (4, 7);

/// The tightest figure that the product reports of a mechanism.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Claim {
    /// One update of the unit `institution`.
    Update { rho: f64 },
    /// Steps of the private trainer.
    Steps(Phase),
}

impl Claim {
    /// That of one update of so many weights, whose rounding is paid for.
    pub(super) fn update(plan: &Plan, weights: usize) -> Self {
        Self::Update {
            rho: zcdp::rho_per_round(&plan.privacy, weights),
        }
    }

    /// That of so many steps of a plan whose units are taken into them as `sampling` says.
    pub(super) fn steps(plan: &Plan, sampling: Sampling, steps: u64) -> Self {
        Self::Steps(Phase {
            sampling_rate: sampling.rate,
            noise_multiplier: plan.privacy.noise_multiplier,
            steps,
        })
    }

    pub(super) fn epsilon(&self, delta: f64) -> Result<f64, accountant::Error> {
        match self {
            Self::Update { rho } => Ok(gdp::epsilon(gdp::mu_of_rho(*rho), delta)),
            Self::Steps(phase) => pld::epsilon(&[*phase], delta),
        }
    }

    /// The claim at many δ, and at the plan's own.
    pub(super) fn curve(&self, own: f64) -> Result<Curve, Error> {
        let (each, decades) = TANGENTS;
        let levels =
            (1..=each * decades).map(|step| 10f64.powf(-f64::from(step) / f64::from(each)));
        let tangents = levels.map(|delta| Ok((delta, self.epsilon(delta)?)));
        Ok(Curve {
            tangents: tangents.collect::<Result<_, Error>>()?,
            own: (self.epsilon(own)?, own),
        })
    }

    /// Holds the scores against the claim at every level. All bounds together are wrong with the
    /// probability 1 − `confidence` at most.
    pub(super) fn judge(
        &self,
        name: &str,
        scores: &Scores,
        plan: &Plan,
        confidence: f64,
    ) -> Result<Part, Error> {
        Ok(Part {
            name: name.to_owned(),
            trials: (scores.with.len() + scores.without.len()) as u64,
            bounds: bounds(&self.levels(plan.privacy.delta)?, scores, confidence)?,
            power: None,
        })
    }

    /// Each δ that the claim is attacked at, with the ε that is claimed there.
    pub(super) fn levels(&self, own: f64) -> Result<Vec<(f64, f64)>, Error> {
        let levels = LEVELS.into_iter().filter(|level| *level > own);
        let levels = std::iter::once(own).chain(levels);
        levels
            .map(|delta| Ok((delta, self.epsilon(delta)?)))
            .collect()
    }
}

/// A claim as guesses in one run see it.
#[derive(Debug)]
pub(super) struct Curve {
    /// δ and the ε there.
    tangents: Vec<(f64, f64)>,
    /// ε at the plan's own δ, and that δ.
    own: (f64, f64),
}

impl Curve {
    /// Holds guesses in one run against the claim as a whole. `power` is what is known of theirs.
    pub(super) fn judge(
        &self,
        name: &str,
        guesses: &Guesses,
        confidence: f64,
        power: Option<f64>,
    ) -> Result<Part, Error> {
        let best = Guesses {
            correct: guesses.guesses,
            ..*guesses
        };
        // Even if every guess were right.
        let refutable = !self.verdict(&best, confidence)?.holds();
        Ok(Part {
            name: name.to_owned(),
            trials: guesses.canaries,
            bounds: vec![self.verdict(guesses, confidence)?],
            power: if refutable { power } else { Some(0.0) },
        })
    }

    /// The larger of two lower bounds: on the pair of ε and δ that is claimed, and on the curve. Both
    /// together are wrong with the probability 1 − `confidence` at most.
    pub(super) fn verdict(&self, guesses: &Guesses, confidence: f64) -> Result<Verdict, Error> {
        let each = 1.0 - (1.0 - confidence) / 2.0;
        let (claimed, delta) = self.own;
        let by_pair = guesses.verdict(claimed, delta, each)?;
        let by_curve = guesses.verdict_on_curve(&self.tangents, self.own, each)?;
        let larger = by_pair
            .epsilon_lower_bound
            .max(by_curve.epsilon_lower_bound);
        Ok(Verdict {
            epsilon_lower_bound: larger,
            confidence,
            ..by_curve
        })
    }
}

/// What the scores say at each level. All together are wrong with the probability 1 − `confidence` at most.
pub(super) fn bounds(
    levels: &[(f64, f64)],
    scores: &Scores,
    confidence: f64,
) -> Result<Vec<Verdict>, Error> {
    let each = 1.0 - (1.0 - confidence) / levels.len() as f64;
    let bounds = levels
        .iter()
        .map(|(delta, claimed)| Ok(scores.verdict(*claimed, *delta, each)?));
    bounds.collect()
}
