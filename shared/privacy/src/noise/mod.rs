//! Exact integer noise: one sampler for every number that is released.
//!
//! [`Sampler`] draws the discrete Gaussian for updates and gradient sums (Canonne, Kamath and Steinke 2020, "The
//! Discrete Gaussian for Differential Privacy"). It draws the discrete Laplace distribution for counts (Ghosh,
//! Roughgarden and Sundararajan 2009, "Universally Utility-Maximizing Privacy Mechanisms"). Probabilities are exact,
//! and the time does not depend on what is drawn; how is told there. Its random bits come from a [`Generator`], keyed
//! by the operating system.
//!
//! [`gaussian`] and [`laplace`] wrap it as a `Measurement` of OpenDP, whose privacy maps and
//! composition govern it. OpenDP's own sampler, a hundred times slower, draws no released number: it
//! is built without `use-openssl`, and so without a generator for secrets, and can be invoked in
//! the tests alone, as the reference.

mod generator;
mod interval;
mod measurement;
mod mechanism;
mod sampler;
mod shape;
mod shared;
mod table;
#[cfg(test)]
mod tests;

pub use generator::Generator;
pub(crate) use measurement::costs_at_most;
pub use measurement::{Gaussian, Laplace};
pub use mechanism::{gaussian, laplace};
pub use sampler::Sampler;
pub use shape::Shape;
pub(crate) use shared::{SHARE, Shared};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the scale of the noise is {found}: expected a number above 0 and at most 2^40")]
    Scale { found: f64 },
    #[error("value {index} with its noise is beyond {bound}: nothing is released")]
    OutOfRange { index: usize, bound: i64 },
    #[error("OpenDP: {0}")]
    Mechanism(String),
    #[error("the operating system gave no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

impl From<opendp::error::Error> for Error {
    fn from(error: opendp::error::Error) -> Self {
        let message = error.message.unwrap_or_default();
        Self::Mechanism(format!("{} {message}", error.variant))
    }
}

/// An L2 distance, in f64 and rounded up, from its square.
pub(crate) fn distance(squared: u128) -> f64 {
    (squared as f64).sqrt().next_up()
}
