//! What releases cost.
//!
//! | module | figure | used for |
//! |---|---|---|
//! | [`zcdp`] | ρ of the discrete Gaussian, ρ → ε | the ledger and the hard stop: valid when later rounds depend on earlier ones |
//! | [`rdp`] | Rényi divergence of the sampled Gaussian → ε | DP-SGD, for the units smaller than an institution |
//! | [`pld`] | privacy loss distribution of the sampled Gaussian → ε | the tightest, where the plan fixed everything beforehand: reported, and the hard stop of a run |
//! | [`gdp`] | closed form of the continuous Gaussian | reported; the plan must have fixed everything beforehand |
//! | [`noise_multiplier`] | ε → noise, by RDP or PLD | calibration |
//! | [`forecast()`] | all that apply, over the rounds of a plan | shown before anything runs |
//!
//! Every ε is rounded up, and every δ beneath it: formulas are evaluated with an allowance for
//! their own rounding error and bisections return the end that is safe. The functions of `libm`
//! are used instead of the platform's, so that every machine computes the same figures.

mod calibrate;
#[cfg(test)]
mod everywhere;
mod forecast;
pub mod gdp;
mod normal;
mod phase;
pub mod pld;
pub mod rdp;
mod steps;
pub mod zcdp;

pub use calibrate::{Accountant, least_noise, noise_multiplier};
pub use forecast::{Forecast, Sampled, forecast, forecast_sampled, solve_noise_multiplier};
pub(crate) use normal::ln_tail;
pub use phase::Phase;
pub use steps::{Shares, Steps};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{name} is {found}: expected {expected}")]
    Value {
        name: &'static str,
        found: f64,
        expected: &'static str,
    },
    #[error("no noise multiplier up to {largest} gives ε = {target_epsilon}")]
    Unreachable { target_epsilon: f64, largest: f64 },
}

/// A figure, or infinity where its computation left the range of f64: what is not known costs
/// everything. `f64::max` and `f64::min` alone would take the other operand, and so a cost for none.
pub(crate) fn known(figure: f64) -> f64 {
    if figure.is_nan() {
        f64::INFINITY
    } else {
        figure
    }
}

/// The smallest that a cost can be which is not nothing. What underflows is rounded up to it.
pub(crate) const LEAST: f64 = f64::MIN_POSITIVE;

/// Refuses an input for which `holds` is false.
fn value(name: &'static str, found: f64, holds: bool, expected: &'static str) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Error::Value {
        name,
        found,
        expected,
    })
}

/// The boundary between where `holds` is false (at `low`) and true (at `high`), to the last bit
/// and from the true side.
pub(crate) fn first_true(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return high;
        }
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
}
