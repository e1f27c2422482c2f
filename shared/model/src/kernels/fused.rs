//! What a backend computes in one pass: the functions, and their gradients.

use std::fmt::Debug;

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

use super::Mask;
use super::softmax::Weighing;

/// A backend with the functions as operations of its own. Each forward function also returns
/// what its backward one needs.
pub(super) trait Fused: Backend {
    /// Kept of [`bias_gelu`](Self::bias_gelu).
    type Biased: Clone + Send + Debug + 'static;
    /// Kept of [`weigh`](Self::weigh).
    type Weighed: Clone + Send + Debug + 'static;
    /// Kept of [`add_norm`](Self::add_norm).
    type Normed: Clone + Send + Debug + 'static;

    /// gelu(x + bias)
    fn bias_gelu(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Self::Biased);

    /// The gradients by x and by the bias.
    fn bias_gelu_backward(
        kept: Self::Biased,
        gradient: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];

    /// dropout(softmax(scale · scores))
    fn weigh(scores: FloatTensor<Self>, weighing: Weighing) -> (FloatTensor<Self>, Self::Weighed);

    /// The gradient by the scores.
    fn weigh_backward(kept: Self::Weighed, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// norm(dropout(x + bias) + residual) of x, bias, residual, and the norm's weight and shift.
    fn add_norm(
        operands: [FloatTensor<Self>; 5],
        epsilon: f32,
        mask: Option<Mask>,
    ) -> (FloatTensor<Self>, Self::Normed);

    /// The gradients by each operand.
    fn add_norm_backward(kept: Self::Normed, gradient: FloatTensor<Self>)
    -> [FloatTensor<Self>; 5];
}
