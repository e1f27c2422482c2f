//! The sum of clipped gradients, which is all that a step has of the units in it.

use std::ops::Range;

use super::contribution::Contribution;
use super::workers::Workers;
use crate::Error;
use crate::bert::{Bert, SlotTensor};
use crate::train::private::Clip;

/// Numbers that a task adds to: they and the product that is added stay in a core's own cache,
/// while one unit after another is added.
const TILE: usize = 1 << 16;

/// Σ_u g_u, each brought within C, in f64.
///
/// What a unit adds is computed of that unit alone, in a pass and in products of its own, so that
/// it is the same to the last bit whoever else is in the step: sums with and without a unit differ
/// by what it adds, of norm C at most, and by the rounding of f64.
pub(super) struct ClippedSum {
    clip: Clip,
    /// Of every trained weight, slot by slot.
    pub(super) values: Vec<f64>,
    /// Rows and their width, of each slot.
    shapes: Vec<(usize, usize)>,
}

/// A part of the sum.
struct Task<'a> {
    slot: usize,
    rows: Range<usize>,
    width: usize,
    sum: &'a mut [f64],
}

impl ClippedSum {
    pub(super) fn new(bert: &mut Bert, clip: Clip) -> Self {
        let slots = bert.trained();
        let shapes = slots.iter().map(|slot| match &slot.tensor {
            SlotTensor::Vector(vector) => (vector.dims()[0], 1),
            SlotTensor::Matrix(tensor) | SlotTensor::Table(tensor) | SlotTensor::Words(tensor) => {
                let [rows, width] = tensor.dims();
                (rows, width)
            }
        });
        let shapes: Vec<_> = shapes.collect();
        let dimension = shapes.iter().map(|(rows, width)| rows * width).sum();
        Self {
            clip,
            values: vec![0.0; dimension],
            shapes,
        }
    }

    /// Adds units; what is not finite counts as nothing, so that no unit can do more than its clip
    /// allows.
    pub(super) fn add(
        &mut self,
        workers: &Workers,
        units: &[Contribution],
        factors: &[Option<f64>],
    ) -> Result<(), Error> {
        let units: Vec<(&Contribution, f64)> = units
            .iter()
            .zip(factors)
            .filter_map(|(unit, factor)| factor.map(|factor| (unit, factor)))
            .collect();
        let tasks = self.tasks();
        let outcomes = workers.run(tasks, |task| {
            let Task {
                slot,
                rows,
                width,
                sum,
            } = task;
            units.iter().try_for_each(|(unit, factor)| {
                unit.add_to(sum, (slot, rows.clone(), width), *factor)
            })
        });
        outcomes.into_iter().collect()
    }

    pub(super) fn clip(&self) -> Clip {
        self.clip
    }

    fn tasks(&mut self) -> Vec<Task<'_>> {
        let (mut tasks, mut rest) = (Vec::new(), self.values.as_mut_slice());
        for (slot, (rows, width)) in self.shapes.iter().copied().enumerate() {
            let (own, others) = rest.split_at_mut(rows * width);
            rest = others;
            let tile = (TILE / width).max(1);
            for (number, sum) in own.chunks_mut(tile * width).enumerate() {
                let first = number * tile;
                tasks.push(Task {
                    slot,
                    rows: first..first + sum.len() / width,
                    width,
                    sum,
                });
            }
        }
        tasks
    }
}
