//! The same functions composed of burn's operations, for any device.

use std::sync::Arc;

use burn::tensor::activation::{gelu, softmax};
use burn::tensor::module::layer_norm;
use burn::tensor::{Tensor, TensorData};

use super::Mask;
use super::softmax::Weighing;

pub(super) fn bias_gelu(x: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    gelu(x + bias.unsqueeze())
}

pub(super) fn attention_weights(
    scores: Tensor<4>,
    lengths: &Arc<[usize]>,
    scale: f32,
    mask: Option<Mask>,
) -> Tensor<4> {
    let [sentences, _, _, length] = scores.dims();
    let weighing = Weighing::new(&scores.shape(), lengths.clone(), scale, mask);
    let mut scores = scores * scale;
    if let Some(hidden) = weighing.hidden() {
        let data = TensorData::new(hidden, [sentences, 1, 1, length]);
        scores = scores.clone() + Tensor::from_data(data, &scores.device().inner());
    }
    dropout(softmax(scores, 3), mask)
}

pub(super) fn add_norm(
    x: Tensor<2>,
    bias: Tensor<1>,
    residual: Tensor<2>,
    (weight, shift, epsilon): (Tensor<1>, Tensor<1>, f64),
    mask: Option<Mask>,
) -> Tensor<2> {
    let sum = dropout(x + bias.unsqueeze(), mask) + residual;
    layer_norm(sum, weight, Some(shift), epsilon)
}

pub(super) fn dropout<const D: usize>(x: Tensor<D>, mask: Option<Mask>) -> Tensor<D> {
    let Some(mask) = mask else { return x };
    let shape = x.dims();
    let factors = TensorData::new(mask.factors(shape.iter().product()), shape);
    let factors = Tensor::from_data(factors, &x.device().inner());
    x * factors
}
