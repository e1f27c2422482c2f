//! Exact discrete Gaussian noise through OpenDP.
//!
//! The mechanism is OpenDP's `make_gaussian` on integer vectors under the L2 distance, measured in
//! zero-concentrated differential privacy. Its sampler is exact (Canonne, Kamath and Steinke 2020,
//! "The Discrete Gaussian for Differential Privacy", Algorithm 3), draws from OpenSSL's private
//! generator and has no floating-point step between the random bits and the integer. The noise is
//! independent between coordinates, so a vector may be noised in parts.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

use opendp::core::Measurement;
use opendp::domains::{AtomDomain, VectorDomain};
use opendp::measurements::make_gaussian;
use opendp::measures::ZeroConcentratedDivergence;
use opendp::metrics::L2Distance;

use crate::release::Error;

pub(crate) type Gaussian = Measurement<
    VectorDomain<AtomDomain<i64>>,
    L2Distance<f64>,
    ZeroConcentratedDivergence,
    Vec<i64>,
>;

/// Coordinates handed to OpenDP at a time, whose big integers take many times the memory of ours.
const PART: usize = 4096;

/// The mechanism that adds a discrete Gaussian of parameter `scale` (in grid steps; exact, since
/// every f64 is a rational number) to each integer.
pub(crate) fn gaussian(scale: f64) -> Result<Gaussian, Error> {
    let domain = VectorDomain::new(AtomDomain::<i64>::default());
    make_gaussian(domain, L2Distance::<f64>::default(), scale, None).map_err(Error::noise)
}

/// An L2 distance, in f64 and rounded up, from its square.
pub(crate) fn distance(squared: u128) -> f64 {
    (squared as f64).sqrt().next_up()
}

/// Whether OpenDP's privacy map agrees that inputs this far apart cost no more than `rho`.
pub(crate) fn costs_at_most(scale: f64, squared_bound: u128, rho: f64) -> Result<bool, Error> {
    gaussian(scale)?
        .check(&distance(squared_bound), &rho)
        .map_err(Error::noise)
}

/// Adds noise of parameter `scale` to every value, on all processors. A result beyond `bound` is an
/// error: it is never clamped, and `values` must then be thrown away.
pub(crate) fn add(values: &mut [i32], scale: f64, bound: i64) -> Result<(), Error> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let share = values.len().div_ceil(processors).max(PART);
    if values.len() <= share {
        return add_here(values, 0, scale, bound);
    }
    thread::scope(|scope| {
        let workers: Vec<_> = values
            .chunks_mut(share)
            .enumerate()
            .map(|(worker, part)| scope.spawn(move || add_here(part, worker * share, scale, bound)))
            .collect();
        // Every worker is joined before the first error is returned.
        let results: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect();
        results.into_iter().collect()
    })
}

fn add_here(values: &mut [i32], first: usize, scale: f64, bound: i64) -> Result<(), Error> {
    // A measurement is not `Send`, so each worker makes its own.
    let mechanism = gaussian(scale)?;
    for (part, values) in values.chunks_mut(PART).enumerate() {
        let exact = values.iter().copied().map(i64::from).collect();
        let noised = mechanism.invoke(&exact).map_err(Error::noise)?;
        for (at, (value, noised)) in values.iter_mut().zip(noised).enumerate() {
            let fits = i32::try_from(noised).ok().filter(|_| noised.abs() <= bound);
            *value = fits.ok_or(Error::OutOfRange {
                index: first + part * PART + at,
                bound,
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws with the statistics' tolerances at about seven standard deviations, so that a right
    /// sampler fails less than once in 10^11 runs.
    #[test]
    fn the_moments_are_those_of_the_discrete_gaussian() {
        for scale in [1.5f64, 26.25, 1000.0] {
            let count = 40_000;
            let mut values = vec![7; count];
            add(&mut values, scale, i64::from(i32::MAX)).expect("noise");
            let n = count as f64;
            let noise: Vec<f64> = values.iter().map(|v| f64::from(*v) - 7.0).collect();
            let mean = noise.iter().sum::<f64>() / n;
            let variance = noise.iter().map(|x| x * x).sum::<f64>() / n;
            // From σ = 1.5 on, the variance differs from σ² by less than 10^-15 of it.
            assert!(
                mean.abs() < 7.0 * scale / n.sqrt(),
                "mean {mean} at {scale}"
            );
            let relative = (variance / (scale * scale) - 1.0).abs();
            assert!(
                relative < 7.0 * (2.0 / n).sqrt(),
                "variance {variance} at {scale}"
            );
        }
    }

    #[test]
    fn small_scales_have_the_right_frequencies() {
        // P(x) ∝ exp(−x²/2σ²) with σ² = 1: compare the counts of −4…4 with what is expected.
        let count = 60_000;
        let mut values = vec![0; count];
        add(&mut values, 1.0, i64::from(i32::MAX)).expect("noise");
        let weight = |x: i32| (-f64::from(x * x) / 2.0).exp();
        let total: f64 = (-20..=20).map(weight).sum();
        let mut chi_squared = 0.0;
        for x in -4..=4 {
            let expected = weight(x) / total * count as f64;
            let found = values.iter().filter(|v| **v == x).count() as f64;
            chi_squared += (found - expected).powi(2) / expected;
        }
        // Nine cells: a chi-squared value of 70 with 9 degrees has a probability of 1.5e-11.
        assert!(chi_squared < 70.0, "χ² = {chi_squared}");
    }

    #[test]
    fn a_value_out_of_range_is_an_error_that_names_its_place() {
        let mut values = vec![0; 3 * PART];
        values[2 * PART + 5] = 1_000_000;
        let error = add(&mut values, 2.0, 1000).expect_err("far outside");
        assert!(
            matches!(error, Error::OutOfRange { index, bound: 1000 } if index == 2 * PART + 5),
            "{error}"
        );
        let mut edge = vec![i32::MAX; 64];
        assert!(
            add(&mut edge, 1e6, i64::MAX).is_err(),
            "i32 overflow is not wrapped"
        );
    }
}
