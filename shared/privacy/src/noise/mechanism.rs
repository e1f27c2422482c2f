//! The mechanisms that this crate's sampler makes.

use super::measurement::{Gaussian, Laplace, laplace_by};
use super::shared::Shared;
use super::{Error, Shape};

/// The mechanism with noise of parameter `sigma`, exactly.
pub fn gaussian(sigma: f64) -> Result<Gaussian, Error> {
    Shared::new(Shape::Gaussian { sigma })?.gaussian()
}

/// The mechanism with noise of parameter `scale`, exactly.
pub fn laplace(scale: f64) -> Result<Laplace, Error> {
    laplace_by(scale, Shared::new(Shape::Laplace { scale })?.function()?)
}
