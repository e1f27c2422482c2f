//! Products with a matrix that was brought into order once.
//!
//! The matrix lies in panels of a few columns, as wide as two of the processor's vectors. A tile of the
//! product is some rows by one panel, and stays in registers while it is added to. This is the layout of
//! the inner kernels of Goto and van de Geijn (2008, section 4).
//!
//! The products that make up an element are added in the order of the inner dimension, each rounded
//! once. So a row of the product is the same to the last bit whatever other rows there are.
#![allow(
    clippy::inline_always,
    reason = "vector code needs the whole loop in one function"
)]

use std::array::from_fn;
use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

/// Vectors in a row of a panel.
const VECTORS: usize = 2;

/// Rows of a panel that stay in the processor's nearest cache, with those of a tile.
const DEPTH: usize = 128;

/// What one product after another uses.
#[derive(Debug, Default)]
struct Room {
    /// Rows of x in tiles, each [input, rows of the tile].
    tiles: Vec<f32>,
    /// Their products with a panel, each [rows of the tile, columns].
    sums: Vec<f32>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// A matrix `[input, output]`, and a bias `[output]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panels {
    input: usize,
    output: usize,
    /// Columns of a panel.
    width: usize,
    /// From `start` on [panels, input, width]; zero past the last column.
    values: Vec<f32>,
    /// Where a line of the processor's cache begins.
    start: usize,
    /// [panels, width]
    bias: Vec<f32>,
}

/// Where the elements of a matrix are: that in row i and column j is at i·`row` + j·`column`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strides {
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// Rows of equal width that lie some way apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    /// From the first element of a row to that of the next.
    pub(crate) apart: usize,
}

/// Float32 in a line of the processor's cache. A vector that lies in two lines is read twice.
const LINE: usize = 16;

/// Room for `count` numbers from the beginning of a line on, in which there may be some of an earlier use.
pub(crate) fn room(numbers: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if numbers.len() < count + LINE {
        numbers.resize(count + LINE, 0.0);
    }
    let start = line(numbers);
    &mut numbers[start..start + count]
}

/// Where the first line begins.
fn line(numbers: &[f32]) -> usize {
    numbers
        .as_ptr()
        .align_offset(LINE * size_of::<f32>())
        .min(LINE)
}

impl<'a> Rows<'a> {
    /// Rows of that width one after another, or the first elements of wider ones.
    pub(crate) fn whole(values: &'a [f32], width: usize) -> Self {
        let apart = width;
        Self { values, apart }
    }
}

impl Panels {
    /// The weight of a linear layer as a Hugging Face file has it, [output, input], and its bias.
    pub(crate) fn linear(weight: &[f32], bias: &[f32]) -> Self {
        let (output, mut panels) = (bias.len(), Self::default());
        let input = weight.len() / output;
        let transposed = Strides {
            row: 1,
            column: input,
        };
        panels.fill(weight, transposed, [input, output]);
        panels.bias[..output].copy_from_slice(bias);
        panels
    }

    /// Becomes the matrix of that shape, without a bias. Its memory is used again.
    pub(crate) fn fill(&mut self, values: &[f32], strides: Strides, [input, output]: [usize; 2]) {
        let width = VECTORS * Arch::new().dispatch(Lanes);
        let panels = output.div_ceil(width);
        (self.input, self.output, self.width) = (input, output, width);
        self.bias.clear();
        self.bias.resize(panels * width, 0.0);
        let to = room(&mut self.values, panels * input * width);
        for (panel, to) in to.chunks_exact_mut(input * width).enumerate() {
            let first = panel * width;
            let columns = width.min(output - first);
            for (row, to) in to.chunks_exact_mut(width).enumerate() {
                let (to, beyond) = to.split_at_mut(columns);
                let from = &values[row * strides.row + first * strides.column..];
                if strides.column == 1 {
                    to.copy_from_slice(&from[..columns]);
                } else {
                    for (column, to) in to.iter_mut().enumerate() {
                        *to = from[column * strides.column];
                    }
                }
                beyond.fill(0.0);
            }
        }
        self.start = line(&self.values);
    }

    /// Columns.
    pub(crate) fn output(&self) -> usize {
        self.output
    }

    /// y = x·W + b for `count` rows.
    pub(crate) fn product(&self, x: Rows<'_>, count: usize, y: &mut [f32], apart: usize) {
        ROOM.with_borrow_mut(|room| {
            Arch::new().dispatch(Product {
                panels: self,
                x,
                count,
                y,
                apart,
                room,
            });
        });
    }
}

/// How many float32 a vector of the processor has.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

struct Product<'a> {
    panels: &'a Panels,
    x: Rows<'a>,
    count: usize,
    y: &'a mut [f32],
    apart: usize,
    room: &'a mut Room,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // As many rows as leave registers for the panel's row and one element of x.
        let first = if S::REGISTER_COUNT >= 32 {
            self.rows::<S, 12>(simd, 0)
        } else {
            self.rows::<S, 6>(simd, 0)
        };
        let first = self.rows::<S, 4>(simd, first);
        self.rows::<S, 1>(simd, first);
    }
}

impl Product<'_> {
    /// As many tiles of `R` rows as there are from `first` on; the first row that is left.
    #[inline(always)]
    fn rows<S: Simd, const R: usize>(&mut self, simd: S, first: usize) -> usize {
        let Panels {
            input,
            output,
            width,
            ..
        } = *self.panels;
        let count = (self.count - first) / R;
        if count == 0 {
            return first;
        }
        self.lay::<R>(first, count);
        let Room { tiles, sums } = &mut *self.room;
        let (tiles, sums) = (
            room(tiles, count * R * input),
            room(sums, count * R * width),
        );
        let panels = self.panels.values[self.panels.start..].chunks_exact(input * width);
        for (number, panel) in panels.take(output.div_ceil(width)).enumerate() {
            let bias = &self.panels.bias[number * width..(number + 1) * width];
            vectors_mut::<S>(sums).fill(vectors::<S>(bias)[0]);
            for (part, panel) in panel.chunks(DEPTH * width).enumerate() {
                let depth = panel.len() / width;
                let tiles = tiles.chunks_exact(R * input);
                for (x, sums) in tiles.zip(sums.chunks_exact_mut(R * width)) {
                    let x = &x[part * DEPTH * R..][..depth * R];
                    add::<S, R>(simd, x, panel, sums);
                }
            }
            let columns = number * width..output.min((number + 1) * width);
            for (row, sums) in sums.chunks_exact(width).enumerate() {
                let start = (first + row) * self.apart;
                let y = &mut self.y[start + columns.start..start + columns.end];
                if let Some(y) = vectors_mut::<S>(y).first_mut() {
                    *y = vectors::<S>(sums)[0];
                } else {
                    y.copy_from_slice(&sums[..y.len()]);
                }
            }
        }
        first + count * R
    }

    /// Lays `count` tiles of `R` rows.
    #[inline(always)]
    fn lay<const R: usize>(&mut self, first: usize, count: usize) {
        let input = self.panels.input;
        let tiles = room(&mut self.room.tiles, count * R * input);
        for (tile, to) in tiles.chunks_exact_mut(R * input).enumerate() {
            for own in 0..R {
                let start = (first + tile * R + own) * self.x.apart;
                let x = &self.x.values[start..start + input];
                for (to, x) in to.as_chunks_mut::<R>().0.iter_mut().zip(x) {
                    to[own] = *x;
                }
            }
        }
    }
}

/// Rows of a panel.
#[inline(always)]
fn vectors<S: Simd>(values: &[f32]) -> &[[S::f32s; VECTORS]] {
    S::as_simd_f32s(values).0.as_chunks().0
}

#[inline(always)]
fn vectors_mut<S: Simd>(values: &mut [f32]) -> &mut [[S::f32s; VECTORS]] {
    S::as_mut_simd_f32s(values).0.as_chunks_mut().0
}

/// Adds to a tile of sums, [R, columns of a panel], the products of rows `x`, [depth, R], with a part of
/// a panel.
#[inline(always)]
fn add<S: Simd, const R: usize>(simd: S, x: &[f32], panel: &[f32], sums: &mut [f32]) {
    let sums = vectors_mut::<S>(sums);
    // In registers all the while: only the copy has an address.
    let mut tile: [[S::f32s; VECTORS]; R] = from_fn(|own| sums[own]);
    let rows = x.as_chunks::<R>().0.iter();
    for (x, panel) in rows.zip(vectors::<S>(panel)) {
        for own in 0..R {
            let x = simd.splat_f32s(x[own]);
            for vector in 0..VECTORS {
                tile[own][vector] = simd.mul_add_f32s(x, panel[vector], tile[own][vector]);
            }
        }
    }
    for (sums, tile) in sums.iter_mut().zip(tile) {
        *sums = tile;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |place: usize| ((place + seed) * 7919 % 1013) as f32 / 506.0 - 1.0;
        (0..count).map(number).collect()
    }

    proptest! {
        #[test]
        fn a_row_is_the_sum_of_its_products_and_of_no_other_rows(
            input in 1..70usize, output in 1..70usize, count in 1..40usize, more in 0..9usize,
        ) {
            let (weight, bias) = (numbers(input * output, 1), numbers(output, 2));
            let panels = Panels::linear(&weight, &bias);
            let x = numbers(count * (input + more), 3);
            let mut y = vec![7.0; count * (output + more)];
            let rows = Rows { values: &x, apart: input + more };
            panels.product(rows, count, &mut y, output + more);
            for row in 0..count {
                let start = row * (input + more);
                let own = &x[start..start + input];
                let mut alone = vec![0.0; output];
                panels.product(Rows { values: own, apart: input }, 1, &mut alone, output);
                let found = &y[row * (output + more)..(row + 1) * (output + more)];
                prop_assert_eq!(&found[..output], &alone[..], "the same to the last bit");
                prop_assert!(found[output..].iter().all(|rest| (*rest - 7.0).abs() < 1e-9));
                for (column, found) in alone.iter().enumerate() {
                    let weight = &weight[column * input..(column + 1) * input];
                    let products = own.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let expected = products.sum::<f64>() + f64::from(bias[column]);
                    prop_assert!((f64::from(*found) - expected).abs() < 1e-4);
                }
            }
        }
    }
}
