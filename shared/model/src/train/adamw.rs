//! The moments of [`AdamW`](fedner_shared::adamw), by tensor and by row of an embedding.

use std::collections::BTreeMap;
use std::ops::Range;

pub(super) use fedner_shared::adamw::{Rates, Step, clip_factor};
use fedner_shared::vector::vectorized;
use rayon::prelude::*;

use super::state::State;
use crate::Error;

/// Weights that a task of the thread pool updates.
const CHUNK: usize = 1 << 14;
/// Rows of an embedding that a task updates.
const ROWS: usize = 64;

/// The moments of a tensor.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Moments {
    pub(super) fn new(length: usize) -> Self {
        Self {
            first: vec![0.0; length],
            second: vec![0.0; length],
        }
    }

    pub(super) fn save(&self, name: &str, state: &mut State) {
        state.put(format!("first/{name}"), &self.first);
        state.put(format!("second/{name}"), &self.second);
    }

    pub(super) fn restore(&mut self, name: &str, state: &State) -> Result<(), Error> {
        state.restore(&format!("first/{name}"), &mut self.first)?;
        state.restore(&format!("second/{name}"), &mut self.second)
    }

    /// Moves `weights` one step against `gradient`.
    pub(super) fn update(&mut self, weights: &mut [f32], gradient: &[f32], step: Step) {
        weights
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(self.first.par_chunks_mut(CHUNK))
            .zip(self.second.par_chunks_mut(CHUNK))
            .for_each(|(((weights, gradient), first), second)| {
                vectorized(
                    #[inline(always)]
                    || step.update(weights, gradient, first, second),
                );
            });
    }
}

/// The gradient of an embedding: zero but in these rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// By row: its place in `values`, counted in rows.
    places: BTreeMap<u32, usize>,
    values: Vec<f32>,
}

impl Rows {
    /// Adds up what is of the same row. `parts` are (index into the rows of `values`, row).
    pub(super) fn sum(
        parts: impl Iterator<Item = (usize, u32)>,
        values: &[f32],
        width: usize,
    ) -> Self {
        let mut sum = Self::default();
        for (index, row) in parts {
            let part = &values[index * width..(index + 1) * width];
            let next = sum.places.len();
            let place = *sum.places.entry(row).or_insert(next);
            if place == next {
                sum.values.extend_from_slice(part);
                continue;
            }
            let own = &mut sum.values[place * width..(place + 1) * width];
            for (total, value) in own.iter_mut().zip(part) {
                *total += value;
            }
        }
        sum
    }

    pub(super) fn squared_norm(&self) -> f64 {
        squared_norm(&self.values)
    }

    pub(super) fn add(&mut self, other: &Self) {
        if self.places.is_empty() {
            self.clone_from(other);
            return;
        }
        let width = self.values.len() / self.places.len();
        for (row, place) in &other.places {
            let part = &other.values[place * width..(place + 1) * width];
            let next = self.places.len();
            let own = *self.places.entry(*row).or_insert(next);
            if own == next {
                self.values.extend_from_slice(part);
                continue;
            }
            let own = &mut self.values[own * width..(own + 1) * width];
            for (total, value) in own.iter_mut().zip(part) {
                *total += value;
            }
        }
    }

    /// Those of the rows in `range` that are not zero, with their numbers.
    pub(super) fn within(&self, range: Range<u32>) -> impl Iterator<Item = (u32, &[f32])> {
        let width = self.values.len() / self.places.len().max(1);
        let places = self.places.range(range);
        places.map(move |(row, place)| (*row, &self.values[place * width..(place + 1) * width]))
    }

    /// The whole gradient.
    pub(super) fn dense(&self, [rows, width]: [usize; 2]) -> Vec<f32> {
        let mut whole = vec![0.0; rows * width];
        for (row, place) in &self.places {
            let start = *row as usize * width;
            whole[start..start + width]
                .copy_from_slice(&self.values[place * width..(place + 1) * width]);
        }
        whole
    }
}

/// The moments of an embedding. A row of which no word was seen yet has none; all that happens
/// to it is decay, which can wait.
#[derive(Debug, Clone)]
pub(super) struct RowMoments {
    whole: Moments,
    width: usize,
    seen: Vec<bool>,
    /// What all steps' decay leaves of a weight.
    kept: f64,
}

impl RowMoments {
    pub(super) fn new([rows, width]: [usize; 2]) -> Self {
        Self {
            whole: Moments::new(rows * width),
            width,
            seen: vec![false; rows],
            kept: 1.0,
        }
    }

    pub(super) fn save(&self, name: &str, state: &mut State) {
        self.whole.save(name, state);
        let seen: Vec<f32> = self
            .seen
            .iter()
            .map(|seen| f32::from(u8::from(*seen)))
            .collect();
        state.put(format!("seen/{name}"), &seen);
        state.put_number(format!("kept/{name}"), self.kept.to_bits());
    }

    pub(super) fn restore(&mut self, name: &str, state: &State) -> Result<(), Error> {
        self.whole.restore(name, state)?;
        let mut seen = vec![0.0; self.seen.len()];
        state.restore(&format!("seen/{name}"), &mut seen)?;
        self.seen = seen.into_iter().map(|seen| seen > 0.5).collect();
        self.kept = f64::from_bits(state.number(&format!("kept/{name}"))?);
        Ok(())
    }

    pub(super) fn update(&mut self, weights: &mut [f32], gradient: &Rows, step: Step) {
        let (width, waiting) = (self.width, self.kept as f32);
        let zeros = vec![0.0; width];
        weights
            .par_chunks_mut(ROWS * width)
            .zip(self.seen.par_chunks_mut(ROWS))
            .zip(self.whole.first.par_chunks_mut(ROWS * width))
            .zip(self.whole.second.par_chunks_mut(ROWS * width))
            .enumerate()
            .for_each(|(number, (((weights, seen), first), second))| {
                let start = number * ROWS;
                for (index, seen) in seen.iter_mut().enumerate() {
                    let place = gradient.places.get(&((start + index) as u32));
                    let row = index * width..(index + 1) * width;
                    let own = match place {
                        Some(place) => &gradient.values[place * width..(place + 1) * width],
                        None if *seen => &zeros,
                        None => continue,
                    };
                    let weights = &mut weights[row.clone()];
                    if !*seen {
                        *seen = true;
                        for weight in weights.iter_mut() {
                            *weight *= waiting;
                        }
                    }
                    let (first, second) = (&mut first[row.clone()], &mut second[row]);
                    vectorized(
                        #[inline(always)]
                        || step.update(weights, own, first, second),
                    );
                }
            });
        self.kept *= step.kept;
    }

    /// Decays the rows that were never seen.
    pub(super) fn settle(&mut self, weights: &mut [f32]) {
        let kept = self.kept as f32;
        for (row, seen) in weights.chunks_exact_mut(self.width).zip(&self.seen) {
            if !seen {
                for weight in row {
                    *weight *= kept;
                }
            }
        }
        self.kept = 1.0;
    }
}

/// The sum of the squares, added up chunk by chunk in a fixed order.
pub(super) fn squared_norm(values: &[f32]) -> f64 {
    let chunk = |values: &[f32]| {
        vectorized(
            #[inline(always)]
            || {
                let mut sums = [0.0f64; 8];
                for values in values.chunks(8) {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += f64::from(*value) * f64::from(*value);
                    }
                }
                sums.iter().sum::<f64>()
            },
        )
    };
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(chunk).collect();
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRADIENTS: [[f32; 3]; 3] = [[0.1, -0.2, 0.0], [0.3, 0.1, 1e-6], [-0.5, 0.2, 0.0]];

    fn step(index: usize) -> Step {
        let rates = Rates {
            learning_rate: 0.1,
            weight_decay: 0.01,
            step: index + 1,
        };
        rates.step(1.0)
    }

    /// `torch.optim.AdamW([w], lr=0.1, weight_decay=0.01)`, three steps with these gradients.
    #[test]
    fn steps_are_those_of_pytorch() {
        let mut weights = vec![1.0f32, -2.0, 0.5];
        let mut moments = Moments::new(3);
        for (index, gradient) in GRADIENTS.iter().enumerate() {
            moments.update(&mut weights, gradient, step(index));
        }
        let expected = [0.821_607_95, -1.894_868_6, 0.368_656_04];
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-6, "{weights:?}");
        }
    }

    #[test]
    fn steps_by_row_are_steps_with_zeros() {
        let start: Vec<f32> = (0..300).map(|i| 1.0 + i as f32 * 0.01).collect();
        let (mut whole, mut by_row) = (start.clone(), start);
        let mut moments = Moments::new(300);
        let mut row_moments = RowMoments::new([100, 3]);
        for (index, gradient) in GRADIENTS.iter().enumerate() {
            // Row 70 in every step, in two parts, and row 1 in the second only.
            let mut parts = vec![(0, 70u32), (0, 70)];
            parts.extend((index == 1).then_some((0, 1)));
            let rows = Rows::sum(parts.iter().copied(), gradient, 3);
            let mut dense = vec![0.0; 300];
            for (_, row) in parts {
                for (sum, value) in dense[row as usize * 3..].iter_mut().zip(gradient) {
                    *sum += value;
                }
            }
            assert!((rows.squared_norm() - squared_norm(&dense)).abs() < 1e-9);
            assert_eq!(rows.dense([100, 3]), dense);
            moments.update(&mut whole, &dense, step(index));
            row_moments.update(&mut by_row, &rows, step(index));
        }
        row_moments.settle(&mut by_row);
        for (found, expected) in by_row.iter().zip(&whole) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }

    #[test]
    fn squares_of_many_chunks_add_up() {
        assert!((squared_norm(&vec![2.0; 50_000]) - 200_000.0).abs() < 1e-6);
    }
}
