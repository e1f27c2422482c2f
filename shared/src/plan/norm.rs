//! How long an update can be: the bound that an institution keeps and the coordinator checks.

use std::f64::consts::LN_2;

use super::privacy::UNPROTECTED_CLIP;
use super::{Grid, Plan, Unit};

/// An honest update with noise is beyond the bound with a probability below 2^-64.
const BITS: f64 = 64.0;

/// What rounded arithmetic in 64 bits may have taken from a bound, many times over.
const SLACK: f64 = 1.0 + 1e-12;

impl Grid {
    /// Δ̃², the largest squared L2 norm of a clipped update after rounding to the grid, in squared
    /// grid steps and rounded down: integer norms at most this large are exactly those accepted.
    pub fn squared_sensitivity(&self, dimension: usize) -> u128 {
        rounded(1 << self.exponent, dimension)
    }

    /// The same of an update that was shortened to `norm`, in the units of the weights.
    pub fn squared_bound_of(&self, norm: f64, dimension: usize) -> u128 {
        rounded((norm / self.gamma()).ceil() as u128, dimension)
    }
}

/// The largest squared norm of a vector of norm K after rounding, in squared steps and rounded down.
///
/// `min{ (K + √d)², K² + d/4 + √(2 ln(1/β))·(K + √d/2) }` with `d` the dimension and β = e^(-1/2),
/// for which √(2 ln(1/β)) = 1. A rounding is within the bound with a probability of at least 1 − β
/// (Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism", Theorem 1). It is
/// drawn again until it is.
///
/// K is an integer, so both terms are computed in integers without error.
fn rounded(steps: u128, dimension: usize) -> u128 {
    let dimension = dimension as u128;
    let always = steps * steps + (4 * steps * steps * dimension).isqrt() + dimension;
    let mostly = steps * steps + steps + (dimension + (4 * dimension).isqrt()) / 4;
    always.min(mostly)
}

impl Plan {
    /// The L2 norm that an institution shortens its update to, before it is rounded and has noise
    /// of its own; in the units of the weights.
    ///
    /// With the unit `institution` it is the clip. Else it is `privacy.max_update_norm`.
    ///
    /// Where that is left out, sampled units have S·η·√d: S steps of the learning rate η on d
    /// weights, η being the head's where that is the larger one. A step of Adam moves a weight by about η at most (Kingma and Ba 2015, section 2.1),
    /// and the schedule only lowers η. S follows from the declared number of units. The rule is no
    /// theorem about an honest training: an institution shortens its update to it. Neither key nor
    /// rule allows more than 64, which is the bound where steps are not known.
    pub fn largest_norm(&self, dimension: usize, units: u32) -> f64 {
        if self.privacy.unit == Unit::Institution {
            return self.privacy.clip;
        }
        let training = &self.training;
        let rate = training.head_learning_rate.unwrap_or_default();
        let rate = rate.max(training.learning_rate);
        let by_steps = self
            .sampling(units)
            .map(|sampling| sampling.steps as f64 * rate * (dimension as f64).sqrt());
        let chosen = self.privacy.max_update_norm.or(by_steps);
        chosen.map_or(UNPROTECTED_CLIP, |norm| norm.min(UNPROTECTED_CLIP))
    }

    /// The largest squared L2 norm of an update as it is sent, in squared grid steps: what is
    /// above it is refused.
    ///
    /// Without noise of its own an update is within it for certain: the institution shortens it
    /// to [`largest_norm`](Self::largest_norm), and rounds until the integers are within.
    ///
    /// With the unit `institution` the integers are at most Δ̃ long before the noise
    /// ([`Grid::squared_sensitivity`]). The noise is d discrete Gaussians of scale σ̃ = zC/γ, each
    /// sub-Gaussian with σ̃² (Canonne, Kamath and Steinke 2020, Corollary 17). Hence
    /// `P[ ‖noise‖² > σ̃²(d + 2√(dt) + 2t) ] ≤ e^-t` (Hsu, Kakade and Zhang 2012, Theorem 2.1;
    /// Laurent and Massart 2000, Lemma 1, for Gaussians). The bound is the square of the sum of
    /// both lengths with t = 64 ln 2, so that an honest update is refused with a probability below
    /// 2^-64.
    pub fn squared_norm_bound(&self, dimension: usize, units: u32) -> u128 {
        let grid = self.privacy.grid();
        if self.privacy.unit != Unit::Institution {
            let norm = self.largest_norm(dimension, units);
            return grid.squared_bound_of(norm, dimension);
        }
        let (d, t) = (dimension as f64, BITS * LN_2);
        let sigma = self.privacy.update_noise_multiplier() * grid.steps();
        let noise = sigma * (d + 2.0 * (d * t).sqrt() + 2.0 * t).sqrt();
        let length = (grid.squared_sensitivity(dimension) as f64).sqrt() + noise;
        (length * length * SLACK).ceil() as u128
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::EXAMPLE;

    fn plan(unit: &str, more: &str) -> Plan {
        let text = EXAMPLE
            .replace("method = \"full\"", "method = \"head\"")
            .replace(
                "unit = \"institution\"",
                &format!("unit = \"{unit}\"\n{more}"),
            );
        Plan::parse(&text).expect("plan")
    }

    #[test]
    fn without_noise_it_is_the_norm_that_the_plan_names_and_what_rounding_adds() {
        let named = plan("none", "max_update_norm = 2.0");
        // K = 2 · 2^18.
        let (k, d) = (1u128 << 19, 100);
        assert_eq!(named.squared_norm_bound(d, 1), k * k + k + (100 + 20) / 4);
        assert!((named.largest_norm(d, 1) - 2.0).abs() < 1e-15);
        let open = plan("none", "");
        assert!((open.largest_norm(d, 1) - 64.0).abs() < 1e-15);
        assert_eq!(
            open.squared_norm_bound(d, 1),
            open.privacy.grid().squared_sensitivity(d)
        );
    }

    #[test]
    fn sampled_units_have_a_norm_by_their_steps_and_never_more_than_the_cap() {
        let plan = plan("person", "");
        // 1,600 units in batches of 16: 100 steps of 1e-4 on 100 weights.
        assert!((plan.largest_norm(100, 1600) - 100.0 * 1e-4 * 10.0).abs() < 1e-12);
        assert!((plan.largest_norm(400, 1600) - 100.0 * 1e-4 * 20.0).abs() < 1e-12);
        assert!((plan.largest_norm(100, u32::MAX) - 64.0).abs() < 1e-12);
        assert!(plan.squared_norm_bound(100, 1600) < plan.squared_norm_bound(100, 3200));
    }

    #[test]
    fn with_noise_it_is_the_clip_and_a_tail_that_no_honest_update_reaches() {
        let plan = plan("institution", "");
        let (d, k) = (10_000, f64::from(1 << 18));
        let bound = (plan.squared_norm_bound(d, 1) as f64).sqrt() / k;
        // C + zC·√d would hold for half of all draws; t = 44.4 adds √(2t) at most.
        assert!(bound > 1.0 + 100.0, "{bound}");
        assert!(
            bound < 1.0 + 0.01 + 100.0 + (2.0 * BITS * LN_2).sqrt(),
            "{bound}"
        );
    }

    #[test]
    fn the_norm_is_named_only_where_it_does_not_follow() {
        for (unit, norm) in [
            ("institution", "1.0"),
            ("none", "0.0"),
            ("none", "65.0"),
            ("person", "nan"),
        ] {
            let text = EXAMPLE.replace(
                "unit = \"institution\"",
                &format!("unit = \"{unit}\"\nmax_update_norm = {norm}"),
            );
            let error = Plan::parse(&text).expect_err(unit).to_string();
            assert!(error.contains("privacy.max_update_norm"), "{error}");
        }
    }
}
