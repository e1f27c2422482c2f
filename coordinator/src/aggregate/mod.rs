//! The updates of a round become one, by integer addition on the grid of the plan.
//!
//! ```text
//! w' = w + γ · s / D        FedAvg: s = Σ_k n_k x_k, D = Σ_k n_k
//! ```
//! x_k are the integers of update k and n_k is its weight; the [rule](Rule) says what s and D are. s
//! is exact, so neither the order of the updates nor the machine can change a bit of the result.
//! Base, updates and result are read and written some blocks at a time: memory is that of a few
//! megabytes, whatever the size of the model. FedAvg and the norm-clipped mean need no more for more
//! updates; the others hold one block of each for every core.
//!
//! All cores take part: the base is read and the result written on threads of their own, updates
//! are read beside each other, and so are blocks decoded and added.

mod figures;
mod flow;
mod source;
mod strategy;
mod sum;

use std::io::{self, Read, Write};

use fedner_shared::checkpoint::{self, Layout};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Grid, Rule};
use fedner_shared::update::{self, add_to_weights};
use rayon::prelude::*;

pub use figures::{LastStep, measure};
use flow::{Ahead, Behind};
pub use source::{Source, VerifiedFile};
use strategy::{Member, Reads};
use sum::{Sum, squared_distances, squared_norms};

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
pub struct Weighted<S> {
    pub weight: u32,
    pub update: S,
}

/// All that decides the result.
#[derive(Debug)]
pub struct Inputs<'a, B, S> {
    /// Of the base.
    pub layout: &'a Layout,
    /// A canonical file of weights.
    pub base: B,
    pub updates: Vec<Weighted<S>>,
    /// The tensors that the updates change.
    pub manifest: &'a Manifest,
    pub grid: Grid,
    /// The largest magnitude of a value.
    pub bound: i64,
    pub rule: Rule,
}

/// Writes the weights of the base with the updates added; the digest of what was written. Everything
/// is read to its end, so that a reader which verifies a digest there has done so before this
/// succeeds.
pub fn aggregate<B: Read + Send, S: Source, W: Write + Send>(
    inputs: Inputs<'_, B, S>,
    out: W,
) -> Result<Digest, Error> {
    let Inputs {
        layout,
        base,
        updates,
        manifest,
        grid,
        bound,
        rule,
    } = inputs;
    if updates.iter().all(|update| update.weight == 0) {
        return Err(Error::Empty);
    }
    let segments = layout.segments(manifest)?;
    let open = || {
        let updates = updates.iter().map(|update| update.update.open());
        updates.collect::<io::Result<Vec<_>>>()
    };
    let strategy = strategy::of(rule);
    let mut members = members(&updates)?;
    match strategy.reads() {
        Reads::Nothing => {}
        Reads::Norms => {
            let norms = squared_norms(open()?, manifest.dimension(), bound)?;
            for (member, norm) in members.iter_mut().zip(norms) {
                member.squared_norm = norm;
            }
        }
        Reads::Distances => {
            let distances = squared_distances(open()?, manifest.dimension(), bound)?;
            for (member, distances) in members.iter_mut().zip(distances) {
                member.squared_distances = distances;
            }
        }
    }
    let combination = strategy.combination(&members);
    // γ / D, the value of one integer step of the sum.
    let step = grid.gamma() / combination.divisor() as f64;
    let mut sum = Sum::new(open()?, manifest.dimension(), bound, combination)?;
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

fn members<S>(updates: &[Weighted<S>]) -> Result<Vec<Member>, Error> {
    let member = |(index, update): (usize, &Weighted<S>)| {
        let weight = update.weight;
        Ok(Member {
            weight: i32::try_from(weight).map_err(|_| Error::Weight { index, weight })?,
            squared_norm: 0,
            squared_distances: Vec::new(),
        })
    };
    updates.iter().enumerate().map(member).collect()
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

#[derive(Debug)]
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
