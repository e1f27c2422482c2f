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
mod masked;
mod optimizer;
mod source;
mod step;
mod strategy;
mod sum;

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;

use fedner_shared::checkpoint::{self, Layout};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Grid, Rule, ServerOptimizer};
use fedner_shared::update::{self, add_to_weights};
use rayon::prelude::*;

use fedner_secagg::{Opening, Width};
pub use figures::{LastStep, measure};
use flow::{ReadAhead, WriteBehind};
use masked::Unmasked;
use optimizer::Stepper;
pub use source::{Source, VerifiedFile};
pub use step::{CommonStep, Moments as StepMoments, take_step};
use strategy::{Member, Reads};
use sum::{Sum, Sums, squared_distances, squared_norms};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the base cannot be read: {0}")]
    Base(#[from] checkpoint::Error),
    #[error("the update of number {index} cannot be read: {source}")]
    Update { index: usize, source: update::Error },
    #[error("the update of number {index} has the weight {weight}: expected less than 2^31")]
    Weight { index: usize, weight: u32 },
    #[error("the masked sum cannot be opened: {0}")]
    Masked(#[from] fedner_secagg::Error),
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
    /// Of each update, in order, the values that do not count, as ranges in order; empty where all of all do. The rule
    /// must be one that weighs.
    pub left_out: Vec<Vec<Range<usize>>>,
}

/// A server optimizer, and the files of its moments.
pub struct Optimizing<'a> {
    pub optimizer: ServerOptimizer,
    /// Those that the base was published with; none before the first round.
    pub before: Option<Box<dyn Read + Send + 'a>>,
    pub after: Box<dyn Write + Send + 'a>,
}

impl fmt::Debug for Optimizing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Optimizing");
        shown.field("optimizer", &self.optimizer);
        shown.field("goes_on", &self.before.is_some());
        shown.finish_non_exhaustive()
    }
}

/// The digests of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregated {
    pub weights: Digest,
    /// Only with a server optimizer.
    pub moments: Option<Digest>,
}

/// Writes the weights of the base with the updates added; the digest of what was written. Everything
/// is read to its end, so that a reader which verifies a digest there has done so before this
/// succeeds.
pub fn aggregate<B: Read + Send, S: Source, W: Write + Send>(
    inputs: Inputs<'_, B, S>,
    out: W,
) -> Result<Digest, Error> {
    Ok(aggregate_with(inputs, None, out)?.weights)
}

/// The same with what a server optimizer makes of the result.
pub fn aggregate_with<B: Read + Send, S: Source, W: Write + Send>(
    inputs: Inputs<'_, B, S>,
    optimizing: Option<Optimizing<'_>>,
    out: W,
) -> Result<Aggregated, Error> {
    aggregate_masked(inputs, None, optimizing, out)
}

/// The same of updates under masks, which come off their sum alone. Their weights are in their values.
pub fn aggregate_masked<B: Read + Send, S: Source, W: Write + Send>(
    inputs: Inputs<'_, B, S>,
    masks: Option<(Opening, Width)>,
    optimizing: Option<Optimizing<'_>>,
    out: W,
) -> Result<Aggregated, Error> {
    let Inputs {
        layout,
        base,
        updates,
        manifest,
        grid,
        bound,
        rule,
        left_out,
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
    let pieces = pieces(&segments, &left_out, |takes_part| {
        // γ / D, the value of one integer step of the sum; nothing where nobody has a say.
        match combination.divisor(takes_part) {
            0 => 0.0,
            divisor => grid.gamma() / divisor as f64,
        }
    });
    let dimension = manifest.dimension();
    let mut sum: Box<dyn Sums + '_> = if let Some((opening, width)) = masks {
        Box::new(Unmasked::new(opening.sum(open()?, dimension, width)?))
    } else {
        let sum = Sum::new(open()?, dimension, bound, combination)?;
        Box::new(sum.without(left_out))
    };
    std::thread::scope(|scope| {
        let mut base = Positioned {
            inner: ReadAhead::new(scope, base),
            position: 0,
        };
        let mut out = WriteBehind::new(scope, out);
        let optimizer = optimizing.as_ref().map(|optimizing| optimizing.optimizer);
        let mut moments = optimizing.map(|optimizing| Moments {
            before: optimizing
                .before
                .map(|before| ReadAhead::new(scope, before)),
            after: WriteBehind::new(scope, optimizing.after),
        });
        for piece in pieces {
            base.copy_until(piece.offset, &mut out)?;
            let stepping = optimizer.as_ref().map(Stepper).zip(moments.as_mut());
            let stepping = (piece.step, stepping);
            add_segment(&mut base, sum.as_mut(), stepping, piece.length, &mut out)?;
        }
        sum.finish()?;
        io::copy(&mut base, &mut out)?;
        Ok(Aggregated {
            weights: out.finish()?,
            moments: moments.map(Moments::finish).transpose()?,
        })
    })
}

/// The moments of all weights, one after another, before and after the round.
struct Moments<'scope> {
    before: Option<ReadAhead>,
    after: WriteBehind<'scope>,
}

impl Moments<'_> {
    fn finish(self) -> Result<Digest, Error> {
        if let Some(mut before) = self.before {
            let more = io::copy(&mut before, &mut io::sink())?;
            if more > 0 {
                let message = format!("{more} bytes follow the last moment");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
            }
        }
        Ok(self.after.finish()?)
    }
}

/// Weights that lie side by side, and of which the same updates count.
#[derive(Debug)]
struct Piece {
    /// In the file of weights, in bytes.
    offset: u64,
    /// In weights.
    length: usize,
    /// The value of one integer step of the sum.
    step: f64,
}

/// The pieces of the segments, given in bytes and weights; `step` says how long a step is where some take part.
fn pieces(
    segments: &[(u64, usize)],
    left_out: &[Vec<Range<usize>>],
    step: impl Fn(&dyn Fn(usize) -> bool) -> f64,
) -> Vec<Piece> {
    let ranges = || left_out.iter().flatten();
    let mut cuts: Vec<usize> = ranges()
        .flat_map(|range| [range.start, range.end])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let (mut pieces, mut position) = (Vec::new(), 0);
    for (offset, length) in segments {
        let (start, end) = (position, position + length);
        position = end;
        let within = cuts
            .iter()
            .copied()
            .filter(|cut| start < *cut && *cut < end);
        let ends = within.chain([end]);
        let mut from = start;
        for to in ends.filter(|to| *to > start) {
            let takes_part = |member: usize| {
                let own = left_out.get(member).into_iter().flatten();
                !own.clone().any(|range| range.contains(&from))
            };
            pieces.push(Piece {
                offset: offset + 4 * (from - start) as u64,
                length: to - from,
                step: step(&takes_part),
            });
            from = to;
        }
    }
    pieces
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
    sum: &mut dyn Sums,
    (step, mut stepping): (f64, Option<(Stepper<'_>, &mut Moments<'_>)>),
    length: usize,
    out: &mut WriteBehind<'_>,
) -> Result<(), Error> {
    let mut own = Vec::new();
    let mut left = length;
    while left > 0 {
        let sums = sum.next(left)?;
        let mut bytes = out.buffer();
        bytes.resize(4 * sums.len(), 0);
        base.read_exact(&mut bytes)?;
        let pieces = bytes.par_chunks_mut(4 * PIECE).zip(sums.par_chunks(PIECE));
        if let Some((stepper, moments)) = &mut stepping {
            let (stepper, width) = (*stepper, stepper.width());
            own.resize(width * sums.len(), 0);
            match &mut moments.before {
                Some(before) => before.read_exact(&mut own)?,
                None => stepper.begin(&mut own),
            }
            let pieces = pieces.zip(own.par_chunks_mut(width * PIECE));
            pieces.for_each(|((weights, sums), own)| stepper.advance(weights, own, sums, step));
            moments.after.write_all(&own)?;
        } else {
            pieces.for_each(|(weights, sums)| add_to_weights(weights, sums, step));
        }
        out.hand_over(bytes)?;
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
