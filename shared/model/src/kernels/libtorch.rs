//! The functions by libtorch's own operations and their gradients, on any device of libtorch.
//!
//! burn composes softmax and LayerNorm of its own operations on the tape, one pass over memory for
//! each, forwards and backwards; libtorch has them whole.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

use super::Mask;
use super::fused::Fused;
use super::softmax::Weighing;

/// What is kept for the gradient by the scores.
#[derive(Debug, Clone)]
pub(super) struct Weighed {
    /// Before dropout.
    weights: TchTensor,
    factors: Option<TchTensor>,
    scale: f64,
}

/// What is kept for the gradients of a norm.
#[derive(Debug, Clone)]
pub(super) struct Normed {
    /// The rows before scale and shift, of mean 0 and variance 1.
    normalised: TchTensor,
    /// 1 / √(variance + ε) of each row: [rows, 1].
    inverse: TchTensor,
    weight: TchTensor,
    factors: Option<TchTensor>,
}

impl Fused for LibTorch {
    /// x + bias
    type Biased = TchTensor;
    type Weighed = Weighed;
    type Normed = Normed;

    fn bias_gelu(x: TchTensor, bias: TchTensor) -> (TchTensor, TchTensor) {
        let sum = &x.tensor + &bias.tensor;
        (TchTensor::new(sum.gelu("none")), TchTensor::new(sum))
    }

    fn bias_gelu_backward(sum: TchTensor, gradient: TchTensor) -> [TchTensor; 2] {
        let by_x = sum.tensor.gelu_backward(&gradient.tensor, "none");
        let by_bias = over_rows(&by_x);
        [TchTensor::new(by_x), by_bias]
    }

    fn weigh(scores: TchTensor, weighing: Weighing) -> (TchTensor, Weighed) {
        let scale = f64::from(weighing.scale);
        let mut scores = scores.unary_ops(
            |mut own| own.g_mul_scalar_(scale),
            |shared| shared.g_mul_scalar(scale),
        );
        if let Some(hidden) = weighing.hidden() {
            let sentences = weighing.lengths.len() as i64;
            let hidden = Tensor::from_slice(&hidden).view([sentences, 1, 1, -1]);
            let hidden = hidden.to_device(scores.tensor.device());
            scores = TchTensor::new(&scores.tensor + hidden);
        }
        let weights = TchTensor::new(scores.tensor.softmax(-1, None::<Kind>));
        let factors = weighing.mask.map(|mask| factors(mask, &weights.tensor));
        let left = dropped(&weights, factors.as_ref());
        let kept = Weighed {
            weights,
            factors,
            scale,
        };
        (left, kept)
    }

    fn weigh_backward(kept: Weighed, gradient: TchTensor) -> TchTensor {
        let gradient = dropped(&gradient, kept.factors.as_ref());
        let (gradient, weights) = (&gradient.tensor, &kept.weights.tensor);
        let mut by_scores =
            Tensor::internal_softmax_backward_data(gradient, weights, -1, Kind::Float);
        TchTensor::new(by_scores.g_mul_scalar_(kept.scale))
    }

    fn add_norm(
        [x, bias, residual, weight, shift]: [TchTensor; 5],
        epsilon: f32,
        mask: Option<Mask>,
    ) -> (TchTensor, Normed) {
        let mut sum = &x.tensor + &bias.tensor;
        let factors = mask.map(|mask| factors(mask, &sum));
        if let Some(factors) = &factors {
            sum = sum.g_mul_(&factors.tensor);
        }
        sum += &residual.tensor;
        let width = sum.size()[1];
        let none = None::<&Tensor>;
        let (normalised, _, inverse) =
            sum.native_layer_norm([width], none, none, f64::from(epsilon));
        let y = shift.tensor.addcmul(&normalised, &weight.tensor);
        let kept = Normed {
            normalised: TchTensor::new(normalised),
            inverse: TchTensor::new(inverse),
            weight,
            factors,
        };
        (TchTensor::new(y), kept)
    }

    /// With h the normalised rows, w the weight and g the gradient: g·h and g summed over the
    /// rows, and (g·w - mean(g·w) - h·mean(g·w·h)) · inverse.
    fn add_norm_backward(kept: Normed, gradient: TchTensor) -> [TchTensor; 5] {
        let Normed {
            normalised,
            inverse,
            weight,
            factors,
        } = kept;
        let (g, h, w) = (&gradient.tensor, &normalised.tensor, &weight.tensor);
        let width = w.size()[0] as f64;
        let along = g * h;
        let mean = |product: &Tensor| (product.mv(w) / width).unsqueeze(1);
        let mut by_sum = g * w;
        by_sum -= mean(g);
        by_sum = by_sum.addcmul_(h, &-mean(&along));
        by_sum *= &inverse.tensor;
        let by_residual = TchTensor::new(by_sum);
        let by_x = dropped(&by_residual, factors.as_ref());
        let by_bias = over_rows(&by_x.tensor);
        [by_x, by_bias, by_residual, over_rows(&along), over_rows(g)]
    }
}

/// What each element is multiplied with, in the shape of `like`.
fn factors(mask: Mask, like: &Tensor) -> TchTensor {
    let factors = Tensor::from_slice(&mask.factors(like.numel()));
    TchTensor::new(factors.view_as(like).to_device(like.device()))
}

fn dropped(x: &TchTensor, factors: Option<&TchTensor>) -> TchTensor {
    match factors {
        Some(factors) => TchTensor::new(&x.tensor * &factors.tensor),
        None => x.clone(),
    }
}

/// The sum over the rows: [rows, width] to [width].
fn over_rows(x: &Tensor) -> TchTensor {
    TchTensor::new(x.sum_dim_intlist([0_i64].as_slice(), false, None::<Kind>))
}
