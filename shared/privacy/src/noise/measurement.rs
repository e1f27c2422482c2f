//! The measurements of OpenDP that our sampler takes part in.

use std::backtrace::Backtrace;

use opendp::core::{Function, Measurement};
use opendp::domains::{AtomDomain, VectorDomain};
use opendp::error::ErrorVariant;
use opendp::measurements::{make_gaussian, make_laplace};
use opendp::measures::{MaxDivergence, ZeroConcentratedDivergence};
use opendp::metrics::{L1Distance, L2Distance};

use super::{Error, distance};

type Integers = VectorDomain<AtomDomain<i64>>;

/// Adds discrete Gaussian noise to each integer: `ρ = (Δ/σ)²/2` for inputs at L2 distance Δ.
pub type Gaussian = Measurement<Integers, L2Distance<f64>, ZeroConcentratedDivergence, Vec<i64>>;

/// Adds discrete Laplace noise to each integer: `ε = Δ/b` for inputs at L1 distance Δ.
pub type Laplace = Measurement<Integers, L1Distance<i64>, MaxDivergence, Vec<i64>>;

/// OpenDP's Gaussian mechanism with `function` in the place of its own.
pub(super) fn gaussian_by(
    sigma: f64,
    function: Function<Vec<i64>, Vec<i64>>,
) -> Result<Gaussian, Error> {
    let reference = opendp_gaussian(sigma)?;
    Ok(Measurement::new(
        reference.input_domain.clone(),
        reference.input_metric.clone(),
        reference.output_measure.clone(),
        function,
        reference.privacy_map.clone(),
    )?)
}

/// OpenDP's Laplace mechanism with `function` in the place of its own.
pub(super) fn laplace_by(
    scale: f64,
    function: Function<Vec<i64>, Vec<i64>>,
) -> Result<Laplace, Error> {
    let reference = opendp_laplace(scale)?;
    Ok(Measurement::new(
        reference.input_domain.clone(),
        reference.input_metric.clone(),
        reference.output_measure.clone(),
        function,
        reference.privacy_map.clone(),
    )?)
}

/// Whether OpenDP's privacy map agrees that inputs this far apart cost no more than `rho`.
pub(crate) fn costs_at_most(sigma: f64, squared_bound: u128, rho: f64) -> Result<bool, Error> {
    Ok(opendp_gaussian(sigma)?.check(&distance(squared_bound), &rho)?)
}

/// With OpenDP's own sampler and its thread's generator, which is not one for secrets: outside the
/// tests it is asked for its map and never invoked, and does not leave this file.
fn opendp_gaussian(sigma: f64) -> Result<Gaussian, Error> {
    let metric = L2Distance::<f64>::default();
    Ok(make_gaussian(integers(), metric, sigma, None)?)
}

/// Likewise.
fn opendp_laplace(scale: f64) -> Result<Laplace, Error> {
    let metric = L1Distance::<i64>::default();
    Ok(make_laplace(integers(), metric, scale, None)?)
}

fn integers() -> Integers {
    VectorDomain::new(AtomDomain::<i64>::default())
}

#[cold]
pub(super) fn overflow() -> opendp::error::Error {
    opendp::error::Error {
        variant: ErrorVariant::Overflow,
        message: Some("a value with its noise does not fit 64 bits".to_owned()),
        backtrace: Backtrace::disabled(),
    }
}

/// OpenDP's own sampler, which ours is compared with.
#[cfg(test)]
pub(super) mod reference {
    use super::{Error, Gaussian, Laplace};

    pub(in crate::noise) fn gaussian(sigma: f64) -> Result<Gaussian, Error> {
        super::opendp_gaussian(sigma)
    }

    pub(in crate::noise) fn laplace(scale: f64) -> Result<Laplace, Error> {
        super::opendp_laplace(scale)
    }
}
