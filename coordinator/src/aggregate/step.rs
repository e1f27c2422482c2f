//! The step of AdamW that a cohort takes together, on the head of a model.
//!
//! ```text
//! g = γ · Σ_k x_k / B,  w' = w + L(AdamW(g))
//! ```
//! x_k are the integers of institution k and B is the expected batch of all together. AdamW is that of a training at one
//! place, in the coordinates in which features have norm 1; L is the way back to the head's own. The head is small, so all
//! of it is held at once.

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;

use fedner_secagg::{Opening, Width};
use fedner_shared::adamw::{Rates, clip_factor};
use fedner_shared::checkpoint::standardiser::{BIASES, Standardiser, WEIGHT};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::vector::vectorized;

use super::masked::Unmasked;
use super::sum::Sums;
use super::{Aggregated, Error, Inputs, Source};

/// What the step is made with.
#[derive(Debug)]
pub struct CommonStep<'a> {
    pub rates: Rates,
    /// The largest L2 norm of a gradient.
    pub largest_norm: f64,
    /// B
    pub batch: f64,
    pub coordinates: &'a Standardiser,
}

/// The moments of weight and bias, before and after: m and then v, as float32 in little endian.
pub struct Moments<'a> {
    /// None before the first step.
    pub before: Option<Box<dyn Read + Send + 'a>>,
    pub after: Box<dyn Write + Send + 'a>,
}

impl fmt::Debug for Moments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goes_on = self.before.is_some();
        let mut shown = f.debug_struct("Moments");
        shown.field("goes_on", &goes_on).finish_non_exhaustive()
    }
}

/// Writes the weights of the base after one step by the masked sum of all updates.
pub fn take_step<B: Read, S: Source, W: Write>(
    inputs: Inputs<'_, B, S>,
    (opening, width): (Opening, Width),
    step: &CommonStep<'_>,
    mut moments: Moments<'_>,
    mut out: W,
) -> Result<Aggregated, Error> {
    let Inputs {
        layout,
        mut base,
        updates,
        manifest,
        grid,
        ..
    } = inputs;
    let dimension = manifest.dimension();
    let updates = updates.iter().map(|update| update.update.open());
    let updates = updates.collect::<io::Result<Vec<_>>>()?;
    let sums = all_sums(opening.sum(updates, dimension, width)?, dimension)?;
    let unit = grid.gamma() / step.batch;
    let gradient: Vec<f32> = sums.iter().map(|sum| (*sum as f64 * unit) as f32).collect();

    let mut bytes = Vec::new();
    base.read_to_end(&mut bytes)?;
    let place = |name: &str| {
        let mut segments = manifest.segments();
        let found = segments.find(|(_, spec)| spec.name == name);
        let (first, spec) = found.ok_or_else(|| missing(name))?;
        let at = layout.segments(&Manifest::new(vec![spec.clone()]))?;
        let (offset, length) = *at.first().ok_or_else(|| missing(name))?;
        let offset = usize::try_from(offset).map_err(|_| missing(name))?;
        Ok::<_, Error>((first..first + length, offset..offset + 4 * length))
    };
    let ((weight, weight_at), (bias, bias_at)) = (place(WEIGHT)?, place(BIASES)?);
    let own = |at: Range<usize>| bytes.get(at).map(floats).ok_or_else(|| missing(WEIGHT));
    let (mut weights, mut biases) = (own(weight_at.clone())?, own(bias_at.clone())?);

    let mut state = vec![0u8; 8 * dimension];
    if let Some(before) = &mut moments.before {
        before.read_exact(&mut state)?;
        if io::copy(before, &mut io::sink())? > 0 {
            let message = "more moments are kept than the head has";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
        }
    }
    let mut state = floats(&state);
    let (first, second) = state.split_at_mut(dimension);
    let change = step.change(&gradient, first, second);
    let of = |range: Range<usize>| &change[range];
    let change = (of(weight), of(bias));
    step.coordinates.add((&mut weights, &mut biases), change);

    write(&mut bytes[weight_at], &weights);
    write(&mut bytes[bias_at], &biases);
    out.write_all(&bytes)?;
    let mut kept = vec![0; 4 * state.len()];
    write(&mut kept, &state);
    moments.after.write_all(&kept)?;
    Ok(Aggregated {
        weights: Digest::of(&bytes),
        moments: Some(Digest::of(&kept)),
    })
}

impl CommonStep<'_> {
    /// By how much the head changes in its coordinates, and its moments with it.
    fn change(&self, gradient: &[f32], first: &mut [f32], second: &mut [f32]) -> Vec<f64> {
        let squared = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        let step = self.rates.step(clip_factor(squared, self.largest_norm));
        // Of weights that are zero AdamW without decay leaves the change alone.
        let mut change = vec![0.0; gradient.len()];
        vectorized(
            #[inline(always)]
            || step.update(&mut change, gradient, first, second),
        );
        change.into_iter().map(f64::from).collect()
    }
}

fn all_sums<R: Read + Send>(
    sum: fedner_secagg::MaskedSum<R>,
    dimension: usize,
) -> Result<Vec<i64>, Error> {
    let mut sums: Box<dyn Sums + '_> = Box::new(Unmasked::new(sum));
    let mut all = Vec::with_capacity(dimension);
    while all.len() < dimension {
        let left = dimension - all.len();
        all.extend_from_slice(sums.next(left)?);
    }
    sums.finish()?;
    Ok(all)
}

fn missing(name: &str) -> Error {
    fedner_shared::checkpoint::Error::Missing(name.to_owned()).into()
}

fn floats(bytes: impl AsRef<[u8]>) -> Vec<f32> {
    let values = bytes.as_ref().as_chunks::<4>().0.iter();
    values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn write(bytes: &mut [u8], values: &[f32]) {
    for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
}
