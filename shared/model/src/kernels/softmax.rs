//! Attention weights from scores, and their gradient.
//!
//! A row is the scores of one query: its weights are softmax(scale · scores) over the sentence's
//! own sub-tokens and zero past them; dropout then makes zeros of some.
#![allow(
    clippy::inline_always,
    reason = "vector code needs the whole loop in one function"
)]

use std::sync::Arc;

use fedner_shared::vector::vectorized;
use rayon::prelude::*;

use super::Mask;
use super::math::{dot, exp, max, sum};

/// What is the same for all rows.
#[derive(Debug, Clone)]
pub(super) struct Weighing {
    /// Sub-tokens of each sentence.
    pub(super) lengths: Arc<[usize]>,
    pub(super) heads: usize,
    /// Scores in a row, and rows of a head.
    pub(super) length: usize,
    pub(super) scale: f32,
    pub(super) mask: Option<Mask>,
}

/// Each row of `length` scores becomes softmax(scale · scores).
pub(crate) fn softmax(scores: &mut [f32], length: usize, scale: f32) {
    vectorized(
        #[inline(always)]
        || {
            for row in scores.chunks_exact_mut(length) {
                softmax_row(row, scale);
            }
        },
    );
}

#[inline(always)]
fn softmax_row(row: &mut [f32], scale: f32) {
    let largest = max(row);
    for score in row.iter_mut() {
        *score = exp((*score - largest) * scale);
    }
    let factor = sum(row).recip();
    for score in row.iter_mut() {
        *score *= factor;
    }
}

impl Weighing {
    /// For scores of the shape [sentences, heads, length, length].
    pub(super) fn new(
        scores: &[usize],
        lengths: Arc<[usize]>,
        scale: f32,
        mask: Option<Mask>,
    ) -> Self {
        Self {
            lengths,
            heads: scores[1],
            length: scores[3],
            scale,
            mask,
        }
    }

    /// What added to the scores of each sentence hides its padding: [sentences, length]. `None`
    /// where there is no padding.
    pub(super) fn hidden(&self) -> Option<Vec<f32>> {
        let padded = self.lengths.iter().any(|own| *own < self.length);
        let rows = self.lengths.iter().flat_map(|own| {
            // exp of this is zero beside the exp of any score a model can have.
            (0..self.length).map(move |position| if position < *own { 0.0 } else { -1e9 })
        });
        padded.then(|| rows.collect())
    }

    /// Turns scores into weights in place. Where some are dropped, returns the weights that are
    /// left.
    pub(super) fn forward(&self, scores: &mut [f32]) -> Option<Vec<f32>> {
        let area = self.length * self.length;
        let Some(mask) = self.mask else {
            let heads = scores.par_chunks_mut(area).enumerate();
            heads.for_each(|(head, scores)| {
                vectorized(
                    #[inline(always)]
                    || self.softmax(head, scores),
                );
            });
            return None;
        };
        let mut left = vec![0.0; scores.len()];
        let heads = scores.par_chunks_mut(area).zip(left.par_chunks_mut(area));
        heads.enumerate().for_each(|(head, (scores, left))| {
            vectorized(
                #[inline(always)]
                || {
                    self.softmax(head, scores);
                    for (index, (left, weight)) in left.iter_mut().zip(scores.iter()).enumerate() {
                        *left = weight * mask.factor(head * area + index);
                    }
                },
            );
        });
        Some(left)
    }

    /// The softmax of each row of the batch's head number `head`.
    #[inline(always)]
    fn softmax(&self, head: usize, scores: &mut [f32]) {
        let own = self.lengths[head / self.heads];
        for row in scores.chunks_exact_mut(self.length) {
            let (row, padding) = row.split_at_mut(own);
            softmax_row(row, self.scale);
            padding.fill(0.0);
        }
    }

    /// Turns the gradient by the weights into that by the scores, in place: with p the weights
    /// and g the gradient before dropout, scale · p (g - Σ p g).
    pub(super) fn backward(&self, weights: &[f32], gradient: &mut [f32]) {
        let area = self.length * self.length;
        let heads = gradient.par_chunks_mut(area).zip(weights.par_chunks(area));
        heads.enumerate().for_each(|(head, (gradient, weights))| {
            vectorized(
                #[inline(always)]
                || {
                    if let Some(mask) = self.mask {
                        for (index, gradient) in gradient.iter_mut().enumerate() {
                            *gradient *= mask.factor(head * area + index);
                        }
                    }
                    let rows = gradient.chunks_exact_mut(self.length);
                    for (gradient, weights) in rows.zip(weights.chunks_exact(self.length)) {
                        let mean = dot(gradient, weights);
                        for (gradient, weight) in gradient.iter_mut().zip(weights) {
                            *gradient = self.scale * weight * (*gradient - mean);
                        }
                    }
                },
            );
        });
    }
}
