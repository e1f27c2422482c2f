//! Multi-head self-attention (Vaswani et al. 2017, section 3.2).

use burn::tensor::Tensor;

use super::linear::Linear;
use super::{Batch, Dropout};
use crate::kernels;

#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) heads: usize,
}

impl Attention {
    /// The contexts of each sub-token: [rows, hidden] to the same shape.
    pub(super) fn forward(
        &self,
        hidden: Tensor<2>,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let [rows, size] = hidden.dims();
        let width = size / self.heads;
        let split = |linear: &Linear| {
            linear
                .forward(hidden.clone())
                .reshape([batch.sentences(), batch.length, self.heads, width])
                .swap_dims(1, 2)
        };
        let scores = split(&self.query).matmul(split(&self.key).swap_dims(2, 3));
        let scale = 1.0 / (width as f32).sqrt();
        let mask = dropout.attention();
        let weights = kernels::attention_weights(scores, &batch.lengths, scale, mask);
        weights
            .matmul(split(&self.value))
            .swap_dims(1, 2)
            .reshape([rows, size])
    }
}
