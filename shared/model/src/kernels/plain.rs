//! The same functions composed of burn's operations, for any device.

use burn::tensor::activation::{gelu, softmax};
use burn::tensor::module::layer_norm;
use burn::tensor::{Tensor, TensorData};

use super::Mask;

pub(super) fn bias_gelu(x: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    gelu(x + bias.unsqueeze())
}

pub(super) fn attention_weights(
    scores: Tensor<4>,
    lengths: &[usize],
    scale: f32,
    mask: Option<Mask>,
) -> Tensor<4> {
    let [sentences, _, _, length] = scores.dims();
    let mut scores = scores * scale;
    if lengths.iter().any(|own| *own < length) {
        let hidden = lengths.iter().flat_map(|own| {
            // exp of this is zero beside the exp of any score a model can have.
            (0..length).map(move |position| if position < *own { 0.0 } else { -1e9_f32 })
        });
        let data = TensorData::new(hidden.collect(), [sentences, 1, 1, length]);
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
    let factors = (0..shape.iter().product()).map(|index| mask.factor(index));
    let factors = TensorData::new(factors.collect(), shape);
    let factors = Tensor::from_data(factors, &x.device().inner());
    x * factors
}
