//! One sampler for a whole vector, on all processors.

use std::cell::RefCell;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use opendp::core::Function;
use opendp::error::Fallible;

use super::measurement::{Gaussian, gaussian_by, overflow};
use super::{Error, Generator, Sampler, Shape};

/// Values noised at a time, so that they stay in the processor's cache.
pub(super) const PART: usize = 4096;
/// Fewer values than this are not worth a thread of their own.
pub(crate) const SHARE: usize = 1 << 18;

/// A sampler that threads share, each making its own measurement of it.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    sampler: Arc<Sampler>,
    threads: usize,
}

impl Shared {
    pub(crate) fn new(shape: Shape) -> Result<Self, Error> {
        Ok(Self {
            sampler: Arc::new(Sampler::new(shape)?),
            threads: thread::available_parallelism().map_or(1, NonZero::get),
        })
    }

    pub(crate) fn on_threads(self, threads: usize) -> Self {
        let threads = threads.max(1);
        Self { threads, ..self }
    }

    /// Adds noise to every value. A result beyond `bound` is an error: it is never clamped, and
    /// `values` must then be thrown away.
    ///
    /// The noise is independent between values, so that a vector is noised in parts.
    pub(crate) fn add(&self, values: &mut [i32], bound: i64) -> Result<(), Error> {
        let share = values.len().div_ceil(self.threads).max(SHARE);
        if values.len() <= share {
            return self.add_here(values, 0, bound);
        }
        thread::scope(|scope| {
            let workers: Vec<_> = values
                .chunks_mut(share)
                .enumerate()
                .map(|(worker, part)| {
                    scope.spawn(move || self.add_here(part, worker * share, bound))
                })
                .collect();
            // Every worker is joined before the first error is returned.
            let results: Vec<_> = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect();
            results.into_iter().collect()
        })
    }

    fn add_here(&self, values: &mut [i32], first: usize, bound: i64) -> Result<(), Error> {
        // A measurement is not `Send`, so each worker makes its own.
        let mechanism = self.gaussian()?;
        let bound = bound.min(i64::from(i32::MAX));
        let mut exact = Vec::with_capacity(PART);
        for (part, values) in values.chunks_mut(PART).enumerate() {
            exact.clear();
            exact.extend(values.iter().copied().map(i64::from));
            let noised = mechanism.invoke(&exact)?;
            if let Some(at) = noised.iter().position(|noised| noised.abs() > bound) {
                let index = first + part * PART + at;
                return Err(Error::OutOfRange { index, bound });
            }
            for (value, noised) in values.iter_mut().zip(noised) {
                *value = noised as i32;
            }
        }
        Ok(())
    }

    pub(super) fn gaussian(&self) -> Result<Gaussian, Error> {
        gaussian_by(self.sampler.shape().scale(), self.function()?)
    }

    /// Has a generator of its own.
    pub(super) fn function(&self) -> Result<Function<Vec<i64>, Vec<i64>>, Error> {
        let sampler = self.sampler.clone();
        let generator = RefCell::new(Generator::from_system()?);
        Ok(Function::new_fallible(move |exact: &Vec<i64>| {
            let mut noised = vec![0; exact.len()];
            sampler.fill(&mut generator.borrow_mut(), &mut noised);
            for (noised, exact) in noised.iter_mut().zip(exact) {
                *noised = noised.checked_add(*exact).ok_or_else(overflow)?;
            }
            Fallible::Ok(noised)
        }))
    }
}
