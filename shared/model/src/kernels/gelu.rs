//! gelu(x + bias) and its gradient. Rows have the width of the bias.

use fedner_shared::vector::vectorized;
use rayon::prelude::*;

use super::math::normal;

/// Rows that a task of the thread pool goes over.
const ROWS: usize = 16;

/// 1 / √(2π)
const DENSITY: f32 = 0.398_942_3;

pub(super) fn forward(x: &[f32], bias: &[f32]) -> Vec<f32> {
    let width = bias.len();
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(ROWS * width)
        .zip(x.par_chunks(ROWS * width))
        .for_each(|(y, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        for ((y, x), bias) in y.iter_mut().zip(x).zip(bias) {
                            let x = x + bias;
                            *y = x * normal(x).0;
                        }
                    }
                },
            );
        });
    y
}

/// The gradients by x and by the bias. `gradient` becomes that by x.
pub(super) fn backward(x: &[f32], bias: &[f32], gradient: &mut [f32]) -> Vec<f32> {
    let width = bias.len();
    let partial: Vec<Vec<f32>> = gradient
        .par_chunks_mut(ROWS * width)
        .zip(x.par_chunks(ROWS * width))
        .map(|(gradient, x)| {
            let mut sums = vec![0.0; width];
            vectorized(
                #[inline(always)]
                || {
                    for (gradient, x) in gradient.chunks_exact_mut(width).zip(x.chunks_exact(width))
                    {
                        let columns = gradient.iter_mut().zip(x).zip(bias).zip(&mut sums);
                        for (((gradient, x), bias), sum) in columns {
                            let x = x + bias;
                            let (below, bell) = normal(x);
                            *gradient *= below + x * bell * DENSITY;
                            *sum += *gradient;
                        }
                    }
                },
            );
            sums
        })
        .collect();
    super::norm::add_up(&partial, width)
}
