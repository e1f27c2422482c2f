//! Multi-head self-attention (Vaswani et al. 2017, section 3.2).

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::Dropout;
use super::layers::Linear;

#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) heads: usize,
}

impl Attention {
    /// The contexts of each sub-token: [sentences, length, hidden] to the same shape.
    pub(super) fn forward(
        &self,
        hidden: Tensor<3>,
        mask: Option<&Tensor<4>>,
        dropout: &mut Dropout,
    ) -> Tensor<3> {
        let [sentences, length, size] = hidden.dims();
        let width = size / self.heads;
        let split = |linear: &Linear| {
            linear
                .forward(hidden.clone())
                .reshape([sentences, length, self.heads, width])
                .swap_dims(1, 2)
        };
        let query = split(&self.query) * (1.0 / (width as f64).sqrt());
        let mut scores = query.matmul(split(&self.key).swap_dims(2, 3));
        if let Some(mask) = mask {
            scores = scores + mask.clone();
        }
        let weights = dropout.attention(softmax(scores, 3));
        weights
            .matmul(split(&self.value))
            .swap_dims(1, 2)
            .reshape([sentences, length, size])
    }
}
