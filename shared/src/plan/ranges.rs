//! The numbers that a guarantee may be made of: of plans, of the ledger's entries and of forecasts.
//!
//! Far beyond them figures leave the range of f64. No plan there means anything: without noise to
//! speak of, or with a δ that no arithmetic resolves.

use std::ops::RangeInclusive;

/// z of updates and of the steps of sampled units.
pub const NOISE_MULTIPLIER: RangeInclusive<f64> = 1e-4..=100.0;
/// σ of a share of noise, in steps of the grid. Below it a sum of shares is no discrete Gaussian to speak of.
pub const LEAST_SHARE: f64 = 4.0;
/// z of counts on held-out text, unless they have no noise.
pub const EVALUATION_NOISE: RangeInclusive<f64> = 1e-2..=1e4;
/// δ.
pub const DELTA: RangeInclusive<f64> = 1e-30..=0.5;
/// σ/Δ of anything that the ledger is charged for: of what plans have had, and with the part that
/// rounding adds to Δ.
pub const CHARGED_NOISE: RangeInclusive<f64> = 1e-5..=1e5;
/// Above this ratio of noise to signal a plan is refused unless forced, and a forecast warns.
pub const LARGEST_NOISE_TO_SIGNAL: f64 = 20.0;
