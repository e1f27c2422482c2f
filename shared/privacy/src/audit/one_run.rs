//! Auditing in one run (Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training
//! Run").
//!
//! Each of m canaries is in the run by an independent fair coin. From the run's outcome the auditor
//! guesses r of the coins, those it is surest of, and v of these guesses are right. An
//! (ε, δ)-private run makes many right guesses unlikely, however the guesser works.
//!
//! A claim that is an ε at every δ is a trade-off function f, of which each pair is a tangent. Guesses
//! refute far more of it than of one pair (Mahloujifar, Melis and Chaudhuri 2025, "Auditing
//! f-Differential Privacy in One Run").

use super::{Error, Verdict, binomial, check_levels, value};

/// How an audit in one run came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guesses {
    /// m, each in the run by a coin of its own.
    pub canaries: u64,
    /// r.
    pub guesses: u64,
    /// v.
    pub correct: u64,
}

impl Guesses {
    /// Guesses by score: "it was in" for the `guesses / 2` highest, "it was not" for as many
    /// lowest; `scores[i]` is canary i's, `inside[i]` its coin.
    pub fn by_score(scores: &[f64], inside: &[bool], guesses: usize) -> Result<Self, Error> {
        let (found, expected) = (inside.len() as f64, "as many coins as scores");
        value(
            "number of coins",
            found,
            inside.len() == scores.len(),
            expected,
        )?;
        let enough = guesses <= scores.len() && guesses.is_multiple_of(2);
        value(
            "number of guesses",
            guesses as f64,
            enough,
            "an even number up to that of canaries",
        )?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let half = guesses / 2;
        let low = order[..half].iter().filter(|i| !inside[**i]).count();
        let high = order[order.len() - half..]
            .iter()
            .filter(|i| inside[**i])
            .count();
        Ok(Self {
            canaries: scores.len() as u64,
            guesses: guesses as u64,
            correct: (low + high) as u64,
        })
    }

    /// The largest ε that the guesses refute at `delta` with `confidence`; 0 where they refute none.
    pub fn epsilon_lower_bound(&self, delta: f64, confidence: f64) -> Result<f64, Error> {
        self.check()?;
        check_levels(delta, confidence)?;
        let refuted = |epsilon: f64| self.chance(epsilon, delta) < 1.0 - confidence;
        let (mut low, mut high) = (0.0, 1.0);
        // Beyond 64 nothing can be refuted with guesses that fit in memory.
        while refuted(high) && high < 64.0 {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if refuted(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    pub fn verdict(&self, claimed: f64, delta: f64, confidence: f64) -> Result<Verdict, Error> {
        Ok(Verdict {
            epsilon_lower_bound: self.epsilon_lower_bound(delta, confidence)?,
            epsilon_claimed: claimed,
            delta,
            confidence,
        })
    }

    /// The verdict on a claim that is an ε at every δ: `curve` has some of them, as (δ, ε).
    ///
    /// The lower bound is of claims of that shape, every ε of which is t times the claimed one: it is t times
    /// `claimed`, the ε at `delta`, for the largest t that the guesses refute with `confidence`.
    pub fn verdict_on_curve(
        &self,
        curve: &[(f64, f64)],
        (claimed, delta): (f64, f64),
        confidence: f64,
    ) -> Result<Verdict, Error> {
        self.check()?;
        check_levels(delta, confidence)?;
        let refuted = |part: f64| self.refutes(curve, part, 1.0 - confidence);
        let (mut low, mut high) = (0.0, 1.0);
        while refuted(high) && high < 64.0 {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            if refuted(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Verdict {
            epsilon_lower_bound: if low > 0.0 { low * claimed } else { 0.0 },
            epsilon_claimed: claimed,
            delta,
            confidence,
        })
    }

    /// Whether so many right guesses have a probability below `chance` under every mechanism whose ε at each
    /// δ of `curve` is at most `part` of the one there. This is algorithm 3 of Mahloujifar, Melis and
    /// Chaudhuri (2025), with two answers to each guess.
    ///
    /// If they had that probability, r_0 + h_0 of the recursion would be at most the part of the coins that
    /// is guessed. It begins with r_v = τ·v/m and h_v = τ·(r−v)/m, and goes down by
    /// `h_i = max(h_{i+1}, f⁻(r_{i+1}))` and `r_i = r_{i+1} + i/(r−i)·(h_i − h_{i+1})`. An event of
    /// probability y here has at least the probability `f⁻(y) = max (y − δ)·e^(−ε)` in the other world.
    fn refutes(&self, curve: &[(f64, f64)], part: f64, chance: f64) -> bool {
        let [canaries, guesses, correct] =
            [self.canaries, self.guesses, self.correct].map(|count| count as f64);
        let guessed = guesses / canaries;
        let least = |y: f64| {
            let tangents = curve.iter();
            let tangents =
                tangents.map(|(delta, epsilon)| (y - delta) * libm::exp(-part * epsilon));
            tangents.fold(0.0, f64::max)
        };
        let mut right = chance * correct / canaries;
        let mut wrong = chance * (guesses - correct) / canaries;
        for i in (0..self.correct).rev() {
            let before = wrong;
            wrong = wrong.max(least(right));
            let i = i as f64;
            right += i / (guesses - i) * (wrong - before);
            // Both only grow.
            if right + wrong > guessed {
                return true;
            }
        }
        right + wrong > guessed
    }

    fn check(&self) -> Result<(), Error> {
        let ordered = self.correct <= self.guesses && self.guesses <= self.canaries;
        value(
            "number of correct guesses",
            self.correct as f64,
            ordered,
            "at most the guesses, and these at most the canaries",
        )
    }

    /// Bounds the probability of so many correct guesses under (ε, δ) (Theorem 5.2): that of the
    /// binomial with success probability `e^ε/(1+e^ε)`, and for δ
    /// `2mδ · max_i P(v > X ≥ v − i) / i`.
    fn chance(&self, epsilon: f64, delta: f64) -> f64 {
        let (r, v) = (self.guesses, self.correct);
        let p = 1.0 / (1.0 + libm::exp(-epsilon));
        let pure = binomial::at_least(r, v, p);
        if delta <= 0.0 {
            return pure;
        }
        let (mut sum, mut steepest) = (0.0, 0.0f64);
        for i in 1..=v {
            sum += libm::exp(binomial::ln_mass(r, v - i, p));
            steepest = steepest.max(sum / i as f64);
        }
        (pure + 2.0 * self.canaries as f64 * delta * steepest).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::gdp;
    use crate::golden::{array, assert_near, number};

    #[test]
    fn agrees_with_the_reference_values() {
        let bound = |canaries, guesses, correct, delta, p| {
            let guesses = Guesses {
                canaries,
                guesses,
                correct,
            };
            guesses.epsilon_lower_bound(delta, 1.0 - p).expect("bound")
        };
        assert_near(bound(100, 100, 100, 0.0, 0.05), 3.492_965, 1e-6);
        assert_near(bound(1000, 1000, 600, 1e-5, 0.05), 0.297_227, 1e-6);
        for case in array("one_run_audit_epsilon_lower_bound") {
            let [m, r, v] = ["canaries", "guesses", "correct"].map(|key| number(&case, key) as u64);
            let found = bound(m, r, v, number(&case, "delta"), number(&case, "p"));
            assert_near(found, number(&case, "epsilon"), 1e-6);
        }
    }

    #[test]
    fn guesses_are_the_surest_scores() {
        let scores = [0.1, 5.0, -3.0, 0.0, 4.0, -2.0];
        let inside = [true, true, false, true, false, false];
        let guesses = Guesses::by_score(&scores, &inside, 4).expect("guesses");
        // Right: 5.0 in, −3.0 and −2.0 out. Wrong: 4.0.
        assert_eq!(
            guesses,
            Guesses {
                canaries: 6,
                guesses: 4,
                correct: 3
            }
        );
        assert!(Guesses::by_score(&scores, &inside, 3).is_err());
        assert!(Guesses::by_score(&scores, &inside, 8).is_err());
        assert!(Guesses::by_score(&scores, &inside[1..], 4).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let bound = |correct, delta, confidence| {
            let guesses = Guesses {
                canaries: 10,
                guesses: 5,
                correct,
            };
            guesses.epsilon_lower_bound(delta, confidence)
        };
        assert!(bound(6, 0.0, 0.95).is_err());
        assert!(bound(5, 1.0, 0.95).is_err());
        assert!(bound(5, 0.0, 1.0).is_err());
        assert!(bound(5, f64::NAN, 0.9).is_err());
    }

    #[test]
    fn randomised_response_is_bounded_by_its_own_epsilon() {
        // 731 of 1000 right is what ε = 1 gives; its bound is below and near.
        let guesses = Guesses {
            canaries: 1000,
            guesses: 1000,
            correct: 731,
        };
        let verdict = guesses.verdict(1.0, 0.0, 0.95).expect("verdict");
        assert!(
            verdict.holds() && verdict.epsilon_lower_bound > 0.85,
            "{verdict:?}"
        );
        let control = guesses.verdict(0.5, 0.0, 0.95).expect("verdict");
        assert!(!control.holds());
    }
    /// Canaries, guesses, right ones, and the least μ that they refute at 95 %.
    const REFUTED: [(u64, u64, u64, f64); 4] = [
        (500, 100, 95, 0.854_848),
        (1000, 200, 200, 1.536_398),
        (1000, 1000, 700, 0.357_211),
        (10_000, 500, 480, 0.882_631),
    ];

    /// The Gaussian mechanism of so many deviations between the two worlds, by tangents.
    fn gaussian(mu: f64) -> Vec<(f64, f64)> {
        let levels = (2..60).map(|step| 10f64.powf(-f64::from(step) / 8.0));
        levels
            .map(|delta| (delta, gdp::epsilon(mu, delta)))
            .collect()
    }

    /// Beside figures of the public implementation of the paper's authors, for the Gaussian mechanism: the
    /// least deviations between the worlds that so many right guesses refute.
    #[test]
    fn a_curve_is_refuted_where_the_papers_algorithm_refutes_it() {
        for (canaries, guesses, correct, mu) in REFUTED {
            let guesses = Guesses {
                canaries,
                guesses,
                correct,
            };
            let refutes = |mu: f64| guesses.refutes(&gaussian(mu), 1.0, 0.05);
            // Tangents lie below the curve, so that a little less is refuted.
            assert!(refutes(mu * 0.97), "{guesses:?} {mu}");
            assert!(!refutes(mu * 1.001), "{guesses:?} {mu}");
        }
    }

    #[test]
    fn a_curve_bounds_more_than_one_of_its_pairs_and_is_not_refuted_by_what_it_allows() {
        let guesses = Guesses {
            canaries: 1000,
            guesses: 200,
            correct: 200,
        };
        // Every guess is right: one pair bounds ε by 4 however little noise there was.
        let delta = 1e-5;
        let (curve, claimed) = (gaussian(1.2), gdp::epsilon(1.2, delta));
        let verdict = |guesses: Guesses| {
            let by_curve = guesses.verdict_on_curve(&curve, (claimed, delta), 0.99);
            let by_pair = guesses.verdict(claimed, delta, 0.99);
            (by_curve.expect("verdict"), by_pair.expect("verdict"))
        };
        let (by_curve, by_pair) = verdict(guesses);
        assert!(!by_curve.holds() && by_pair.holds(), "{by_curve:?}");
        // What a Gaussian of this μ gives among the surest fifth.
        let honest = Guesses {
            correct: 182,
            ..guesses
        };
        let (by_curve, _) = verdict(honest);
        assert!(by_curve.holds(), "{by_curve:?}");
        assert!(by_curve.epsilon_lower_bound > 0.3 * claimed, "{by_curve:?}");
        let by_chance = Guesses {
            correct: 100,
            ..guesses
        };
        let (by_curve, _) = verdict(by_chance);
        assert!(by_curve.epsilon_lower_bound <= 0.0, "{by_curve:?}");
    }
}
