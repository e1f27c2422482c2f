//! norm(dropout(x + bias) + residual) and its gradients.

use fedner_shared::vector::vectorized;
use rayon::prelude::*;

use super::Mask;
use super::math::{dot, sum};

/// Rows that a task of the thread pool goes over.
const ROWS: usize = 16;

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// The rows before scale and shift, of mean 0 and variance 1.
    pub(super) normalised: Vec<f32>,
    /// 1 / √(variance + ε) of each row.
    pub(super) inverse: Vec<f32>,
}

/// Gradients by each operand.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) x: Option<Vec<f32>>,
    pub(super) residual: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) weight: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) x: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) residual: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) shift: &'a [f32],
}

pub(super) fn forward(
    operands: Operands<'_>,
    epsilon: f32,
    mask: Option<Mask>,
) -> (Vec<f32>, Kept) {
    let Operands {
        x,
        bias,
        residual,
        weight,
        shift,
    } = operands;
    let width = bias.len();
    let task = ROWS * width;
    let mut y = vec![0.0; x.len()];
    let mut normalised = vec![0.0; x.len()];
    let mut inverse = vec![0.0; x.len() / width];
    y.par_chunks_mut(task)
        .zip(normalised.par_chunks_mut(task))
        .zip(inverse.par_chunks_mut(ROWS))
        .zip(x.par_chunks(task).zip(residual.par_chunks(task)))
        .enumerate()
        .for_each(|(number, (((y, normalised), inverse), (x, residual)))| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = y
                        .chunks_exact_mut(width)
                        .zip(normalised.chunks_exact_mut(width));
                    let operands = x.chunks_exact(width).zip(residual.chunks_exact(width));
                    for (row, (((y, h), inverse), (x, residual))) in
                        rows.zip(inverse.iter_mut()).zip(operands).enumerate()
                    {
                        let first = number * task + row * width;
                        add(h, x, bias, residual, mask, first);
                        let mean = sum(h) / width as f32;
                        for h in h.iter_mut() {
                            *h -= mean;
                        }
                        *inverse = (dot(h, h) / width as f32 + epsilon).sqrt().recip();
                        for (((y, h), weight), shift) in y.iter_mut().zip(h).zip(weight).zip(shift)
                        {
                            *h *= *inverse;
                            *y = *h * weight + shift;
                        }
                    }
                },
            );
        });
    (
        y,
        Kept {
            normalised,
            inverse,
        },
    )
}

/// norm(x + residual) of one row, in place of the residual, where no gradient is taken.
#[allow(
    clippy::inline_always,
    reason = "vector code needs the whole loop in one function"
)]
#[inline(always)]
pub(crate) fn add_normalised(
    residual: &mut [f32],
    x: &[f32],
    (weight, shift): (&[f32], &[f32]),
    epsilon: f32,
) {
    let count = residual.len() as f32;
    for (h, x) in residual.iter_mut().zip(x) {
        *h += x;
    }
    let mean = sum(residual) / count;
    for h in residual.iter_mut() {
        *h -= mean;
    }
    let inverse = (dot(residual, residual) / count + epsilon).sqrt().recip();
    for ((h, weight), shift) in residual.iter_mut().zip(weight).zip(shift) {
        *h = *h * inverse * weight + shift;
    }
}

#[allow(
    clippy::inline_always,
    reason = "vector code needs the whole loop in one function"
)]
#[inline(always)]
fn add(h: &mut [f32], x: &[f32], bias: &[f32], residual: &[f32], mask: Option<Mask>, first: usize) {
    let columns = h.iter_mut().zip(x).zip(bias).zip(residual);
    if let Some(mask) = mask {
        for (column, (((h, x), bias), residual)) in columns.enumerate() {
            *h = (x + bias) * mask.factor(first + column) + residual;
        }
    } else {
        for (((h, x), bias), residual) in columns {
            *h = x + bias + residual;
        }
    }
}

/// The gradients, from `gradient` by the result. That by x is absent where nothing is dropped:
/// it is that by the residual.
pub(super) fn backward(
    kept: &Kept,
    weight: &[f32],
    mut gradient: Vec<f32>,
    mask: Option<Mask>,
) -> Gradients {
    let width = weight.len();
    let task = ROWS * width;
    let mut by_x = vec![0.0; if mask.is_some() { gradient.len() } else { 0 }];
    // An empty slice for each task where nothing is dropped.
    let x_tasks: Vec<&mut [f32]> = if mask.is_some() {
        by_x.chunks_mut(task).collect()
    } else {
        (0..gradient.len().div_ceil(task))
            .map(|_| &mut [][..])
            .collect()
    };
    let partial: Vec<Vec<f32>> = gradient
        .par_chunks_mut(task)
        .zip(x_tasks)
        .zip(
            kept.normalised
                .par_chunks(task)
                .zip(kept.inverse.par_chunks(ROWS)),
        )
        .enumerate()
        .map(|(number, ((gradient, by_x), (normalised, inverse)))| {
            let mut sums = vec![0.0; 3 * width];
            vectorized(
                #[inline(always)]
                || {
                    let (by_weight, rest) = sums.split_at_mut(width);
                    let (by_shift, by_bias) = rest.split_at_mut(width);
                    let rows = gradient
                        .chunks_exact_mut(width)
                        .zip(normalised.chunks_exact(width));
                    for (row, ((g, h), inverse)) in rows.zip(inverse).enumerate() {
                        let columns = g.iter_mut().zip(h).zip(weight).zip(by_weight.iter_mut());
                        for ((((g, h), weight), by_weight), by_shift) in
                            columns.zip(by_shift.iter_mut())
                        {
                            *by_weight += *g * h;
                            *by_shift += *g;
                            *g *= weight;
                        }
                        let mean = sum(g) / width as f32;
                        let along = dot(g, h) / width as f32;
                        for (g, h) in g.iter_mut().zip(h) {
                            *g = inverse * (*g - mean - h * along);
                        }
                        if let Some(mask) = mask {
                            let first = number * task + row * width;
                            let by_x = &mut by_x[row * width..(row + 1) * width];
                            let columns = by_x.iter_mut().zip(g.iter()).zip(by_bias.iter_mut());
                            for (column, ((by_x, g), by_bias)) in columns.enumerate() {
                                *by_x = g * mask.factor(first + column);
                                *by_bias += *by_x;
                            }
                        } else {
                            for (by_bias, g) in by_bias.iter_mut().zip(g.iter()) {
                                *by_bias += g;
                            }
                        }
                    }
                },
            );
            sums
        })
        .collect();
    let mut sums = add_up(&partial, 3 * width);
    let bias = sums.split_off(2 * width);
    let shift = sums.split_off(width);
    Gradients {
        x: mask.is_some().then_some(by_x),
        residual: gradient,
        bias,
        weight: sums,
        shift,
    }
}

/// The sum of the vectors, first to last.
pub(super) fn add_up(partial: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for part in partial {
        for (total, value) in total.iter_mut().zip(part) {
            *total += value;
        }
    }
    total
}
