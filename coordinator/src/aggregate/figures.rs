//! What each update looks like beside the others: its norm, and where it points.

use std::io::{self, Read};

use fedner_shared::figures::Figures;
use fedner_shared::plan::{FACTOR_BITS, Grid};
use fedner_shared::update::{BLOCK, add_scaled};
use rayon::prelude::*;

use super::strategy::norm_clipped_mean::scale;
use super::sum::{Terms, squared_norms};
use super::{Error, Positioned, Source};

/// Where tensors lie in a file of weights, in the order of the updates.
type Segments = Vec<(u64, usize)>;

/// The change of weights that the newest version made, read from its file and its parent's.
#[derive(Debug)]
pub struct LastStep<R> {
    after: Weights<R>,
    before: Weights<R>,
}

#[derive(Debug)]
struct Weights<R> {
    file: Positioned<R>,
    segments: std::vec::IntoIter<(u64, usize)>,
    /// Weights of the present segment that were not read yet.
    left: usize,
}

impl<R: Read> LastStep<R> {
    pub fn new(after: (R, Segments), before: (R, Segments)) -> Self {
        Self {
            after: Weights::new(after),
            before: Weights::new(before),
        }
    }

    /// The next `count` values of the step.
    fn next(&mut self, count: usize) -> io::Result<Vec<f64>> {
        let (after, before) = (self.after.next(count)?, self.before.next(count)?);
        let steps = after.iter().zip(&before);
        Ok(steps
            .map(|(after, before)| f64::from(*after) - f64::from(*before))
            .collect())
    }

    /// Reads to the end of both, where readers verify their digests.
    fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.after.file, &mut io::sink())?;
        io::copy(&mut self.before.file, &mut io::sink())?;
        Ok(())
    }
}

impl<R: Read> Weights<R> {
    fn new((inner, segments): (R, Segments)) -> Self {
        Self {
            file: Positioned { inner, position: 0 },
            segments: segments.into_iter(),
            left: 0,
        }
    }

    fn next(&mut self, count: usize) -> io::Result<Vec<f32>> {
        let mut weights = Vec::with_capacity(count);
        let mut bytes = Vec::new();
        while weights.len() < count {
            if self.left == 0 {
                let next = self.segments.next();
                let (offset, length) = next.ok_or(io::ErrorKind::UnexpectedEof)?;
                self.file.copy_until(offset, &mut io::sink())?;
                self.left = length;
            }
            let now = self.left.min(count - weights.len());
            bytes.resize(4 * now, 0);
            self.file.read_exact(&mut bytes)?;
            let (values, _) = bytes.as_chunks::<4>();
            weights.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            self.left -= now;
        }
        Ok(weights)
    }
}

/// Products of one block, or of all: each sum in the order of the weights.
#[derive(Debug, Clone)]
struct Products {
    /// x_k · S
    to_sum: Vec<f64>,
    /// ‖S‖²
    sum: f64,
    /// x_k · L
    to_last: Vec<f64>,
    /// ‖L‖²
    last: f64,
}

impl Products {
    fn new(members: usize) -> Self {
        Self {
            to_sum: vec![0.0; members],
            sum: 0.0,
            to_last: vec![0.0; members],
            last: 0.0,
        }
    }

    fn add(&mut self, other: &Self) {
        let add = |own: &mut [f64], other: &[f64]| {
            for (own, other) in own.iter_mut().zip(other) {
                *own += other;
            }
        };
        add(&mut self.to_sum, &other.to_sum);
        add(&mut self.to_last, &other.to_last);
        self.sum += other.sum;
        self.last += other.last;
    }
}

/// The figures of each update, in their order.
///
/// With c_k the factor that cuts x_k to the median m of all norms and S = Σ c_k x_k, the others of k
/// are S − c_k x_k, and
/// ```text
/// x_k · (S − c_k x_k) = x_k·S − c_k ‖x_k‖²
///      ‖S − c_k x_k‖² = ‖S‖² − 2 c_k x_k·S + c_k² ‖x_k‖²
/// ```
/// Norms and S are exact; the products are in float64, block by block in a fixed order, so that
/// every machine and every number of cores finds the same.
pub fn measure<S: Source, R: Read>(
    updates: &[S],
    dimension: usize,
    bound: i64,
    grid: Grid,
    mut last: Option<LastStep<R>>,
) -> Result<Vec<Figures>, Error> {
    let open = || {
        let readers = updates.iter().map(Source::open);
        readers.collect::<io::Result<Vec<_>>>()
    };
    let norms = squared_norms(open()?, dimension, bound)?;
    let mut sorted = norms.clone();
    sorted.sort_unstable();
    let Some(median) = sorted.get(sorted.len().saturating_sub(1) / 2).copied() else {
        return Ok(Vec::new());
    };
    let factors: Vec<i64> = norms
        .iter()
        .map(|norm| scale(1 << FACTOR_BITS, median, *norm))
        .collect();
    let mut terms = Terms::new(open()?, dimension, bound)?;
    let mut all = Products::new(updates.len());
    while terms.left > 0 {
        let count = terms.read_ahead()?;
        let steps = match &mut last {
            Some(last) => last.next(count)?,
            None => Vec::new(),
        };
        let blocks: Vec<Products> = (0..count.div_ceil(BLOCK))
            .into_par_iter()
            .map(|block| products(&terms, block, &factors, &steps))
            .collect::<Result<_, Error>>()?;
        for block in &blocks {
            all.add(block);
        }
    }
    terms.finish()?;
    let is_first = last.is_none();
    if let Some(last) = last {
        last.finish()?;
    }
    let figures = norms.iter().zip(&factors).enumerate();
    let figures = figures.map(|(k, (norm, factor))| {
        let (norm, cut) = (*norm as f64, *factor as f64 / ONE);
        let of_others = all.sum - 2.0 * cut * all.to_sum[k] + cut * cut * norm;
        let alone = updates.len() < 2 || of_others <= all.sum * NOTHING;
        Figures {
            norm: grid.gamma() * norm.sqrt(),
            to_others: if alone {
                None
            } else {
                cosine(all.to_sum[k] - cut * norm, norm, of_others)
            },
            to_last_step: if is_first {
                None
            } else {
                cosine(all.to_last[k], norm, all.last)
            },
        }
    });
    Ok(figures.collect())
}

/// A factor of 1.
const ONE: f64 = (1u64 << FACTOR_BITS) as f64;
/// Part of a squared norm below which rounding may have made what is left.
const NOTHING: f64 = 1e-12;

fn products<R: Read + Send + Sync>(
    terms: &Terms<R>,
    block: usize,
    factors: &[i64],
    steps: &[f64],
) -> Result<Products, Error> {
    let mut values = [0i32; BLOCK];
    let mut sums = vec![0i64; BLOCK];
    let mut count = 0;
    for (term, factor) in terms.each.iter().zip(factors) {
        count = term.decode(block, &mut values)?;
        // |c_k x_k| is below 2^48, and there are fewer than 2^15 updates.
        add_scaled(&mut sums[..count], *factor, &values[..count]);
    }
    let sums: Vec<f64> = sums[..count].iter().map(|sum| *sum as f64 / ONE).collect();
    let steps = steps.chunks(BLOCK).nth(block).unwrap_or_default();
    let dot = |row: &[i32], with: &[f64]| -> f64 {
        let terms = row.iter().zip(with);
        terms.map(|(x, y)| f64::from(*x) * y).sum()
    };
    let mut found = Products::new(terms.each.len());
    // Decoded once more, so that memory does not grow with the number of updates.
    for (k, term) in terms.each.iter().enumerate() {
        let count = term.decode(block, &mut values)?;
        found.to_sum[k] = dot(&values[..count], &sums);
        found.to_last[k] = dot(&values[..count], steps);
    }
    found.sum = sums.iter().map(|x| x * x).sum();
    found.last = steps.iter().map(|x| x * x).sum();
    Ok(found)
}

/// In millionths; `None` where one of both has no length.
fn cosine(product: f64, squared: f64, of_other: f64) -> Option<f64> {
    let lengths = squared.sqrt() * of_other.max(0.0).sqrt();
    let cosine = (product / lengths).clamp(-1.0, 1.0);
    (lengths > 0.0).then(|| (cosine * 1e6).round() / 1e6)
}
