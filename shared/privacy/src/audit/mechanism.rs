//! Properties of the mechanism itself, measured on what it did.
//!
//! A bound on ε notices half of the noise, at best. Who runs the mechanism can look closer: at the
//! noise of every coordinate, at who was sampled, at the longest contribution. Each figure here is
//! held against what the accountant takes for granted, and says how small a defect it would have noticed.

use fedner_shared::audit::Check;

use super::binomial;
use crate::accountant::{first_true, ln_tail};

/// A check notices a defect with this probability, or it does not say that it would.
const POWER: f64 = 0.95;
/// Rounding of float32 that a clip may be passed by.
const ROUNDING: f64 = 1e-5;

/// How far out a normal variable is with the probability `doubt` on one side.
fn quantile(doubt: f64) -> f64 {
    let ln_doubt = doubt.clamp(1e-300, 0.5).ln();
    first_true(0.0, 40.0, |x| ln_tail(x) <= ln_doubt)
}

/// Products of pairs of noise values, in deviations that are claimed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Products {
    count: u64,
    sum: f64,
    /// Of the squares of either.
    left: f64,
    right: f64,
}

impl Products {
    pub fn add(&mut self, left: f64, right: f64) {
        self.count += 1;
        self.sum += left * right;
        self.left += left * left;
        self.right += right * right;
    }

    pub fn from_pairs(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut products = Self::default();
        for (left, right) in pairs {
            products.add(left, right);
        }
        products
    }

    /// That they do not go together: the coefficient of correlation is within its limit. Of n
    /// independent pairs it has the deviation 1/√n.
    pub fn independent(&self, name: &str, confidence: f64) -> Option<Check> {
        if self.count < 100 {
            return None;
        }
        let deviation = (self.count as f64).sqrt().recip();
        let limit = quantile((1.0 - confidence) / 2.0) * deviation;
        Some(Check {
            name: name.to_owned(),
            trials: self.count,
            found: self.sum / (self.left * self.right).sqrt(),
            at_least: Some(-limit),
            at_most: Some(limit),
            notices: limit + quantile(1.0 - POWER) * deviation,
            confidence,
        })
    }
}

/// The size of the noise, as a part of what is claimed: `squares` is the sum of `count` squares, in
/// deviations that are claimed. The root of their mean has the deviation 1/√(2n).
pub fn noise(squares: f64, count: u64, confidence: f64) -> Option<Check> {
    if count < 100 {
        return None;
    }
    let deviation = (2.0 * count as f64).sqrt().recip();
    let least = 1.0 - quantile(1.0 - confidence) * deviation;
    Some(Check {
        name: "noise".to_owned(),
        trials: count,
        found: (squares / count as f64).sqrt(),
        at_least: Some(least),
        at_most: None,
        notices: least - quantile(1.0 - POWER) * deviation,
        confidence,
    })
}

/// How often a unit was in a step, as a part of the rate `claimed`.
pub fn rate(taken: u64, steps: u64, claimed: f64, confidence: f64) -> Option<Check> {
    if steps < 100 || claimed <= 0.0 || claimed >= 1.0 {
        return None;
    }
    let doubt = 1.0 - confidence;
    let expected = steps as f64 * claimed;
    let most = (expected as u64..=steps)
        .find(|taken| binomial::at_least(steps, taken + 1, claimed) <= doubt);
    let most = most.unwrap_or(steps) as f64;
    let share = most / steps as f64;
    let spread = quantile(1.0 - POWER) * (share * (1.0 - share) / steps as f64).sqrt();
    Some(Check {
        name: "rate".to_owned(),
        trials: steps,
        found: taken as f64 / expected,
        at_least: None,
        at_most: Some(most / expected),
        notices: (share + spread) / claimed,
        confidence,
    })
}

/// The longest contribution of one unit, as a part of the clip. `reach` is how long it would have been
/// without one: what is shorter than the clip shows nothing.
pub fn clip(name: &str, longest: f64, units: u64, reach: f64, confidence: f64) -> Check {
    Check {
        name: name.to_owned(),
        trials: units,
        found: longest,
        at_least: None,
        at_most: Some(1.0 + ROUNDING),
        notices: if reach > 1.0 + ROUNDING {
            1.0 + ROUNDING
        } else {
            f64::INFINITY
        },
        confidence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Generator, Sampler, Shape};

    const SURE: f64 = 0.9999;

    fn normal(count: usize, deviation: f64, seed: u8) -> Vec<f64> {
        let sigma = 1e6;
        let sampler = Sampler::new(Shape::Gaussian { sigma }).expect("sampler");
        let mut noise = vec![0; count];
        sampler.fill(&mut Generator::from_seed([seed; 32]), &mut noise);
        noise
            .iter()
            .map(|x| *x as f64 / sigma * deviation)
            .collect()
    }

    fn measured(values: &[f64]) -> Check {
        let squares = values.iter().map(|x| x * x).sum();
        noise(squares, values.len() as u64, SURE).expect("enough")
    }

    #[test]
    fn quantiles_are_the_known_ones() {
        for (doubt, expected) in [(0.5, 0.0), (0.05, 1.644_853_6), (0.01, 2.326_347_9)] {
            assert!((quantile(doubt) - expected).abs() < 1e-6, "{doubt}");
        }
    }

    #[test]
    fn sound_noise_passes_and_a_twentieth_less_does_not() {
        let sound = measured(&normal(100_000, 1.0, 1));
        assert!(sound.holds() && sound.notices > 0.98, "{sound:?}");
        // More than is claimed breaks no claim.
        assert!(measured(&normal(100_000, 1.2, 2)).holds());
        let less = measured(&normal(100_000, 0.95, 3));
        assert!(!less.holds(), "{less:?}");
        assert!(noise(1.0, 10, SURE).is_none());
    }

    #[test]
    fn what_it_says_it_notices_it_does() {
        let values = normal(2_000, 1.0, 4);
        let notices = measured(&values).notices;
        let noticed = (0..200u8)
            .filter(|seed| !measured(&normal(2_000, notices, *seed)).holds())
            .count();
        assert!(noticed > 180, "{noticed} of 200 at {notices}");
    }

    #[test]
    fn noise_that_comes_again_is_no_new_noise() {
        let (one, other) = (normal(20_000, 1.0, 5), normal(20_000, 1.0, 6));
        let check = |left: &[f64], right: &[f64]| {
            let pairs = left.iter().copied().zip(right.iter().copied());
            Products::from_pairs(pairs)
                .independent("restarts", SURE)
                .expect("enough")
        };
        assert!(check(&one, &other).holds());
        assert!(!check(&one, &one).holds());
        let shared: Vec<f64> = one.iter().zip(&other).map(|(a, b)| 0.2 * a + b).collect();
        assert!(!check(&one, &shared).holds());
    }

    #[test]
    fn a_rate_above_the_claimed_one_is_found_and_a_chance_is_not() {
        let found = |taken| rate(taken, 20_000, 0.19, SURE).expect("enough");
        assert!(found(3_800).holds() && found(3_900).holds() && found(3_000).holds());
        assert!(!found(4_750).holds(), "a quarter more");
        assert!(found(3_800).notices < 1.1);
        assert!(rate(20_000, 20_000, 1.0, SURE).is_none());
    }

    #[test]
    fn a_clip_that_is_passed_is_found_and_one_that_was_not_reached_says_nothing() {
        assert!(clip("clip", 1.0, 5, 14.8, SURE).holds());
        assert!(!clip("clip", 1.25, 5, 14.8, SURE).holds());
        assert!(clip("clip", 0.7, 5, 0.7, SURE).notices.is_infinite());
        assert!(!clip("clip", f64::NAN, 5, 2.0, SURE).holds());
    }
}
