//! The gradient of one unit's loss by all that is trained, with that by large weights left as two
//! factors.

use std::ops::Range;

use fedner_shared::vector::vectorized;

use super::norm::Norm;
use crate::Error;
use crate::bert::{Bert, Factors, Slot, SlotTensor, values};
use crate::train::adamw::{self, Rows};
use crate::train::pass::Pass;

/// In the order of the model's slots.
pub(super) struct Contribution(Vec<Part>);

enum Part {
    Whole(Vec<f32>),
    /// AᵀG.
    Product(Box<Factors>),
    /// Of the word embedding.
    Rows(Rows),
}

impl Contribution {
    /// Takes it from a pass of `bert`, which is on the tape.
    pub(super) fn take(bert: &mut Bert, pass: Pass) -> Result<Self, Error> {
        let Pass {
            mut gradients,
            mut by_words,
            ..
        } = pass;
        let part = |slot: &Slot<'_>| -> Result<Part, Error> {
            if let SlotTensor::Words(_) = slot.tensor {
                return Ok(Part::Rows(std::mem::take(&mut by_words)));
            }
            let noted = slot.book.as_ref();
            if let Some(factors) = noted.and_then(|book| book.factors(&mut gradients)) {
                return Ok(Part::Product(factors.on_processor().into()));
            }
            Ok(Part::Whole(slot.gradient(&mut gradients)?))
        };
        let parts: Result<Vec<Part>, Error> = bert.trained().iter().map(part).collect();
        Ok(Self(parts?))
    }

    /// Adds that of another pass of the same unit, both multiplied out.
    pub(super) fn add(&mut self, other: &Self) -> Result<(), Error> {
        for (sum, part) in self.0.iter_mut().zip(&other.0) {
            match (sum, part) {
                (Part::Whole(sum), Part::Whole(part)) => {
                    for (sum, value) in sum.iter_mut().zip(part) {
                        *sum += value;
                    }
                }
                (Part::Rows(sum), Part::Rows(part)) => sum.add(part),
                _ => return Err(Error::Tensor("gradients of two kinds are added".to_owned())),
            }
        }
        Ok(())
    }

    pub(super) fn norm(&self) -> Result<Norm, Error> {
        let mut gram = None;
        self.0.iter().try_fold(Norm::default(), |norm, part| {
            let own = match part {
                Part::Whole(values) => Norm::exact(adamw::squared_norm(values)),
                Part::Rows(rows) => Norm::exact(rows.squared_norm()),
                Part::Product(factors) => Norm::of_product(factors, &mut gram)?,
            };
            Ok(norm.and(own))
        })
    }

    /// Adds `factor` times a range of slot `slot`'s rows, of `width` each, to their `sum`.
    pub(super) fn add_to(
        &self,
        sum: &mut [f64],
        (slot, rows, width): (usize, Range<usize>, usize),
        factor: f64,
    ) -> Result<(), Error> {
        match &self.0[slot] {
            Part::Whole(values) => {
                add_scaled(sum, &values[rows.start * width..rows.end * width], factor);
            }
            Part::Rows(all) => {
                let (first, last) = (rows.start as u32, rows.end as u32);
                for (row, values) in all.within(first..last) {
                    let place = (row - first) as usize * width;
                    add_scaled(&mut sum[place..place + width], values, factor);
                }
            }
            Part::Product(factors) => {
                let Factors {
                    inputs, outputs, ..
                } = factors.as_ref();
                let inputs = inputs.clone().narrow(1, rows.start, rows.len()).transpose();
                let product = values(inputs.matmul(outputs.clone()))?;
                add_scaled(sum, &product, factor);
            }
        }
        Ok(())
    }
}

fn add_scaled(sum: &mut [f64], values: &[f32], factor: f64) {
    vectorized(
        #[inline(always)]
        || {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += factor * f64::from(*value);
            }
        },
    );
}
