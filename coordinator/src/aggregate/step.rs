//! The step of AdamW that a cohort takes together.
//!
//! ```text
//! g = γ · Σ_k x_k / B,  w' = AdamW(w, g);  of the head w' = w + L(AdamW(0, g))
//! ```
//! x_k are the integers of institution k and B is the expected batch of all together. AdamW is that of a training at one
//! place, without decay. The head's is in the coordinates in which features have norm 1; L is the way back to its own. What
//! is trained is a head, or adapters and a head: small, so that all of it is held at once.

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;

use fedner_secagg::{Opening, Width};
use fedner_shared::adamw::{Rates, clip_factor};
use fedner_shared::checkpoint::Layout;
use fedner_shared::checkpoint::standardiser::{BIASES, Standardiser, WEIGHT};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::{Manifest, TensorSpec};
use fedner_shared::vector::vectorized;

use super::masked::Unmasked;
use super::sum::Sums;
use super::{Aggregated, Error, Inputs, Source};

/// What the step is made with.
#[derive(Debug)]
pub struct CommonStep<'a> {
    pub rates: Rates,
    /// What the learning rate is multiplied with for the head.
    pub head_rate: f64,
    /// The largest L2 norm of a gradient.
    pub largest_norm: f64,
    /// B
    pub batch: f64,
    pub coordinates: &'a Standardiser,
}

/// The moments of all weights, before and after: m and then v, in the order of the manifest, as float32 in little endian.
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
    let mut state = vec![0u8; 8 * dimension];
    if let Some(before) = &mut moments.before {
        before.read_exact(&mut state)?;
        if io::copy(before, &mut io::sink())? > 0 {
            let message = "more moments are kept than there are weights";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
        }
    }
    let mut state = floats(&state);
    let (first, second) = state.split_at_mut(dimension);

    let squared: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    let scale = clip_factor(squared, step.largest_norm);
    let mut head = Head::default();
    for (at, spec) in manifest.segments() {
        let place = place(layout, spec)?;
        let own = bytes.get(place.clone());
        let mut weights = floats(own.ok_or_else(|| missing(&spec.name))?);
        let at = at..at + weights.len();
        let moments = (&mut first[at.clone()], &mut second[at.clone()]);
        let one = Tensor {
            gradient: &gradient[at],
            moments,
        };
        let Some(part) = head.part(&spec.name) else {
            one.update(&mut weights, step.rates, scale);
            write(&mut bytes[place], &weights);
            continue;
        };
        // Of weights that are zero AdamW without decay leaves the change alone.
        let mut change = vec![0.0; weights.len()];
        one.update(&mut change, step.of_head(), scale);
        *part = Some(Part {
            place,
            weights,
            change: change.into_iter().map(f64::from).collect(),
        });
    }
    head.write(step.coordinates, &mut bytes)?;

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
    fn of_head(&self) -> Rates {
        Rates {
            learning_rate: self.rates.learning_rate * self.head_rate,
            ..self.rates
        }
    }
}

/// What one tensor's step is made of.
struct Tensor<'a> {
    gradient: &'a [f32],
    moments: (&'a mut [f32], &'a mut [f32]),
}

impl Tensor<'_> {
    fn update(self, weights: &mut [f32], rates: Rates, scale: f32) {
        let (step, (first, second)) = (rates.step(scale), self.moments);
        vectorized(
            #[inline(always)]
            || step.update(weights, self.gradient, first, second),
        );
    }
}

/// Weight and bias, which are moved together.
#[derive(Default)]
struct Head {
    weight: Option<Part>,
    bias: Option<Part>,
}

struct Part {
    /// Its bytes in the file.
    place: Range<usize>,
    weights: Vec<f32>,
    /// In the coordinates of the step.
    change: Vec<f64>,
}

impl Head {
    fn part(&mut self, name: &str) -> Option<&mut Option<Part>> {
        match name {
            WEIGHT => Some(&mut self.weight),
            BIASES => Some(&mut self.bias),
            _ => None,
        }
    }

    fn write(self, coordinates: &Standardiser, bytes: &mut [u8]) -> Result<(), Error> {
        let mut weight = self.weight.ok_or_else(|| missing(WEIGHT))?;
        let mut bias = self.bias.ok_or_else(|| missing(BIASES))?;
        let change = (weight.change.as_slice(), bias.change.as_slice());
        coordinates.add((&mut weight.weights, &mut bias.weights), change);
        for part in [weight, bias] {
            write(&mut bytes[part.place], &part.weights);
        }
        Ok(())
    }
}

/// The bytes of a tensor in a file of that layout.
fn place(layout: &Layout, spec: &TensorSpec) -> Result<Range<usize>, Error> {
    let missing = || missing(&spec.name);
    let segments = layout.segments(&Manifest::new(vec![spec.clone()]))?;
    let (offset, length) = *segments.first().ok_or_else(missing)?;
    let offset = usize::try_from(offset).map_err(|_| missing())?;
    Ok(offset..offset + 4 * length)
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
