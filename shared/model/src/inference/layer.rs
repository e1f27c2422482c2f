//! One layer of the encoder, for the rows of a block.

use std::cell::RefCell;

use fedner_shared::bert::Activation;
use fedner_shared::vector::vectorized;
use rayon::prelude::*;

use super::blocks::{self, Block};
use crate::kernels::{Panels, Rows, Strides, activate, add_normalised, room, softmax};

/// Layer normalisation.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) epsilon: f32,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) query: Panels,
    pub(super) key: Panels,
    pub(super) value: Panels,
    pub(super) heads: usize,
    pub(super) attention_output: Panels,
    pub(super) attention_norm: Norm,
    pub(super) intermediate: Panels,
    pub(super) activation: Activation,
    pub(super) output: Panels,
    pub(super) output_norm: Norm,
}

/// What a thread needs in between, for one block after another.
#[derive(Debug, Default)]
struct Scratch {
    queries: Vec<f32>,
    contexts: Vec<f32>,
    inner: Vec<f32>,
    sums: Vec<f32>,
    scores: Vec<f32>,
    keys: Panels,
    values: Panels,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Norm {
    /// norm(x + residual) in place of the residual, row by row.
    pub(super) fn add(&self, x: &[f32], residual: &mut [f32]) {
        let width = self.weight.len();
        vectorized(
            #[inline(always)]
            || {
                let rows = residual.chunks_exact_mut(width).zip(x.chunks_exact(width));
                for (row, x) in rows {
                    add_normalised(row, x, (&self.weight, &self.shift), self.epsilon);
                }
            },
        );
    }
}

impl Layer {
    /// Keys and values of all rows of a batch.
    pub(super) fn attended(&self, hidden: &[f32], size: usize) -> [Vec<f32>; 2] {
        let [mut keys, mut values] = [(); 2].map(|()| vec![0.0; hidden.len()]);
        let block = size * blocks::size(hidden.len() / size, rayon::current_num_threads());
        keys.par_chunks_mut(block)
            .zip(values.par_chunks_mut(block))
            .zip(hidden.par_chunks(block))
            .for_each(|((keys, values), hidden)| {
                let (states, count) = (Rows::whole(hidden, size), hidden.len() / size);
                self.key.product(states, count, keys, size);
                self.value.product(states, count, values, size);
            });
        [keys, values]
    }

    /// The hidden states of the rows that ask become those after the layer.
    pub(super) fn rise(&self, blocks: &[Block], hidden: &mut [f32], attended: &[Vec<f32>; 2]) {
        let (mut rest, size) = (hidden, self.attention_norm.weight.len());
        let mut tasks = Vec::with_capacity(blocks.len());
        for block in blocks {
            let (own, others) = rest.split_at_mut(block.rows * size);
            tasks.push((block, own));
            rest = others;
        }
        tasks.into_par_iter().for_each(|(block, own)| {
            SCRATCH.with_borrow_mut(|scratch| self.rise_block(block, own, attended, scratch));
        });
    }

    fn rise_block(
        &self,
        block: &Block,
        hidden: &mut [f32],
        attended: &[Vec<f32>; 2],
        scratch: &mut Scratch,
    ) {
        self.attend(block, hidden, attended, scratch);
        let (count, size) = (block.rows, hidden.len() / block.rows);
        let sums = room(&mut scratch.sums, hidden.len());
        let contexts = Rows::whole(room(&mut scratch.contexts, hidden.len()), size);
        self.attention_output.product(contexts, count, sums, size);
        self.attention_norm.add(sums, hidden);
        let wide = self.intermediate.output();
        let inner = room(&mut scratch.inner, count * wide);
        let states = Rows::whole(hidden, size);
        self.intermediate.product(states, count, inner, wide);
        activate(self.activation, inner);
        let inner = Rows::whole(inner, wide);
        self.output.product(inner, count, sums, size);
        self.output_norm.add(sums, hidden);
    }

    /// The contexts of a block (Vaswani et al. 2017, section 3.2).
    fn attend(
        &self,
        block: &Block,
        hidden: &[f32],
        [keys, values]: &[Vec<f32>; 2],
        scratch: &mut Scratch,
    ) {
        let (count, size) = (block.rows, hidden.len() / block.rows);
        let (width, scale) = (
            size / self.heads,
            (size as f32 / self.heads as f32).sqrt().recip(),
        );
        let queries = room(&mut scratch.queries, hidden.len());
        let states = Rows::whole(hidden, size);
        self.query.product(states, count, queries, size);
        let contexts = room(&mut scratch.contexts, queries.len());
        let along = Strides {
            row: size,
            column: 1,
        };
        let across = Strides {
            row: 1,
            column: size,
        };
        for span in &block.spans {
            let (length, asking) = (span.attended.len(), span.asking.len());
            let scores = room(&mut scratch.scores, asking * length);
            for head in 0..self.heads {
                let place = |row: usize| row * size + head * width;
                let (first, own) = (place(span.attended.start), place(span.asking.start));
                scratch.keys.fill(&keys[first..], across, [width, length]);
                scratch
                    .values
                    .fill(&values[first..], along, [length, width]);
                let queries = Rows::whole(&queries[own..], size);
                scratch.keys.product(queries, asking, scores, length);
                softmax(scores, length, scale);
                let weights = Rows::whole(scores, length);
                let contexts = &mut contexts[own..];
                scratch.values.product(weights, asking, contexts, size);
            }
        }
    }
}
