//! Telling two kinds of runs apart by a score.

use super::{Error, Verdict, binomial, check_levels, value};

/// Scores of runs with the canary and of runs without it, from the same mechanism.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub with: Vec<f64>,
    pub without: Vec<f64>,
}

/// Runs of either kind that a bound needs at least.
const LEAST: usize = 20;

impl Scores {
    /// ε is at least this at `delta`, with `confidence`; 0 where nothing is refuted.
    ///
    /// A test that says "with" above a threshold has the errors α (says so without) and β (does
    /// not, with). Under (ε, δ) both `1 − β ≤ e^ε α + δ` and `1 − α ≤ e^ε β + δ` (Kairouz, Oh and
    /// Viswanath 2015, "The Composition Theorem for Differential Privacy"). The threshold is chosen on
    /// the first half of each list, and the errors' upper limits, each with half of the doubt, come from
    /// the second.
    pub fn epsilon_lower_bound(&self, delta: f64, confidence: f64) -> Result<f64, Error> {
        let least = self.with.len().min(self.without.len());
        value(
            "number of runs",
            least as f64,
            least >= LEAST,
            "at least 20 of either kind",
        )?;
        check_levels(delta, confidence)?;
        let (with, with_fresh) = self.with.split_at(self.with.len() / 2);
        let (without, without_fresh) = self.without.split_at(self.without.len() / 2);
        let doubt = (1.0 - confidence) / 2.0;
        let at = |threshold: f64, with: &[f64], without: &[f64]| {
            let misses = with.iter().filter(|score| **score <= threshold).count();
            let alarms = without.iter().filter(|score| **score > threshold).count();
            let beta = binomial::upper_limit(with.len() as u64, misses as u64, doubt);
            let alpha = binomial::upper_limit(without.len() as u64, alarms as u64, doubt);
            bound(alpha, beta, delta)
        };
        // Every 64th candidate is enough to come close to the best.
        let mut thresholds: Vec<f64> = with.iter().chain(without).copied().collect();
        thresholds.sort_by(f64::total_cmp);
        let stride = thresholds.len().div_ceil(64);
        let best = thresholds
            .iter()
            .step_by(stride)
            .map(|threshold| (at(*threshold, with, without), *threshold))
            .max_by(|left, right| left.0.total_cmp(&right.0));
        Ok(best.map_or(0.0, |(_, threshold)| {
            at(threshold, with_fresh, without_fresh)
        }))
    }

    pub fn verdict(&self, claimed: f64, delta: f64, confidence: f64) -> Result<Verdict, Error> {
        Ok(Verdict {
            epsilon_lower_bound: self.epsilon_lower_bound(delta, confidence)?,
            epsilon_claimed: claimed,
            delta,
            confidence,
        })
    }
}

fn bound(alpha: f64, beta: f64, delta: f64) -> f64 {
    let one = |power: f64, error: f64| libm::log((power - delta).max(0.0) / error);
    one(1.0 - beta, alpha).max(one(1.0 - alpha, beta)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Generator, Sampler, Shape};

    /// Scores of the Laplace mechanism, ε = 1 exactly.
    fn laplace(runs: usize) -> Scores {
        let scale = 1e6;
        let sampler = Sampler::new(Shape::Laplace { scale }).expect("sampler");
        let mut generator = Generator::from_seed([8; 32]);
        let mut draw = |shift: f64| {
            let mut noise = vec![0; runs];
            sampler.fill(&mut generator, &mut noise);
            noise
                .into_iter()
                .map(|x| x as f64 / scale + shift)
                .collect()
        };
        Scores {
            with: draw(1.0),
            without: draw(0.0),
        }
    }

    #[test]
    fn the_laplace_mechanism_is_bounded_tightly_and_from_below() {
        let scores = laplace(20_000);
        let verdict = scores.verdict(1.0, 0.0, 0.95).expect("verdict");
        assert!(
            verdict.holds() && verdict.epsilon_lower_bound > 0.85,
            "{verdict:?}"
        );
        assert!(!scores.verdict(0.5, 0.0, 0.95).expect("verdict").holds());
    }

    #[test]
    fn equal_scores_refute_nothing_and_apart_ones_much() {
        let same = Scores {
            with: vec![1.0; 100],
            without: vec![1.0; 100],
        };
        assert!(same.epsilon_lower_bound(0.0, 0.95).expect("bound") < 1e-12);
        let apart = Scores {
            with: vec![1.0; 1000],
            without: vec![0.0; 1000],
        };
        // 500 of 500 twice: ln(0.9926/0.0074).
        let found = apart.epsilon_lower_bound(0.0, 0.95).expect("bound");
        assert!((4.5..5.5).contains(&found), "{found}");
        let few = Scores {
            with: vec![1.0; 5],
            without: vec![0.0; 1000],
        };
        assert!(few.epsilon_lower_bound(0.0, 0.95).is_err());
        assert!(apart.epsilon_lower_bound(0.0, 1.5).is_err());
    }
}
