//! FedAvg by integer addition (McMahan et al. 2017, Algorithm 1, on the integer grid of the plan).
//!
//! ```text
//! w' = w + γ · Σ_k n_k x_k / Σ_k n_k        x_k: the integers of update k, n_k: its weight
//! ```
//! The sum is exact, so neither the order of the updates nor the machine can change a bit of the
//! result. Base, updates and result are read and written some blocks at a time: memory is that of
//! a few megabytes, whatever the size of the model or the number of updates.
//!
//! All cores take part: the base is read and the result written on threads of their own, updates
//! are read beside each other, and so are blocks decoded and added.

mod flow;
mod sum;

use std::io::{self, Read, Write};

use fedner_shared::checkpoint::{self, Layout};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Grid;
use fedner_shared::update::{self, add_to_weights};
use rayon::prelude::*;

use flow::{Ahead, Behind};
use sum::Sum;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the base cannot be read: {0}")]
    Base(#[from] checkpoint::Error),
    #[error("the update of number {index} cannot be read: {source}")]
    Update { index: usize, source: update::Error },
    #[error("the update of number {index} has the weight {weight}: expected less than 2^31")]
    Weight { index: usize, weight: u32 },
    #[error("there is nothing to add")]
    Empty,
    #[error("a weights file cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// One update with its weight n_k.
#[derive(Debug)]
pub struct Weighted<R> {
    pub weight: u32,
    pub update: R,
}

/// Writes the weights of `base`, a canonical file of the given layout, with the updates added to
/// the tensors of `manifest`; the digest of what was written. Everything is read to its end, so
/// that a reader which verifies a digest there has done so before this succeeds.
pub fn aggregate<B: Read + Send, U: Read + Send + Sync, W: Write + Send>(
    layout: &Layout,
    base: B,
    updates: Vec<Weighted<U>>,
    manifest: &Manifest,
    grid: Grid,
    bound: i64,
    out: W,
) -> Result<Digest, Error> {
    let total: u64 = updates.iter().map(|update| u64::from(update.weight)).sum();
    if total == 0 {
        return Err(Error::Empty);
    }
    let segments = layout.segments(manifest)?;
    let mut sum = Sum::new(updates, manifest.dimension(), bound)?;
    // γ / Σ n_k, the value of one integer step of the sum.
    let step = grid.gamma() / total as f64;
    std::thread::scope(|scope| {
        let mut base = Positioned {
            inner: Ahead::new(scope, base),
            position: 0,
        };
        let mut out = Behind::new(scope, out);
        for (offset, length) in segments {
            base.copy_until(offset, &mut out)?;
            add_segment(&mut base, &mut sum, step, length, &mut out)?;
        }
        sum.finish()?;
        io::copy(&mut base, &mut out)?;
        Ok(out.finish()?)
    })
}

fn add_segment(
    base: &mut impl Read,
    sum: &mut Sum<impl Read + Send + Sync>,
    step: f64,
    length: usize,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let mut left = length;
    while left > 0 {
        let sums = sum.next(left)?;
        bytes.resize(4 * sums.len(), 0);
        base.read_exact(&mut bytes)?;
        let pieces = bytes.par_chunks_mut(4 * PIECE).zip(sums.par_chunks(PIECE));
        pieces.for_each(|(weights, sums)| add_to_weights(weights, sums, step));
        out.write_all(&bytes)?;
        left -= sums.len();
    }
    Ok(())
}

/// Weights that one core takes at a time.
const PIECE: usize = 1 << 14;

struct Positioned<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Positioned<R> {
    fn copy_until(&mut self, offset: u64, out: &mut impl Write) -> io::Result<()> {
        let count = offset - self.position;
        let copied = io::copy(&mut self.by_ref().take(count), out)?;
        if copied == count {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl<R: Read> Read for Positioned<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
