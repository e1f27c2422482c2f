//! The element-wise parts of a BERT layer, each in one pass over memory.
//!
//! burn's own operations go over an activation once for each addition and product, forwards and
//! backwards; on a processor that takes as long as the matrix products. Here each part is one
//! operation with a gradient of its own on the backends that are [`Fused`](fused::Fused), and the
//! plain composition of burn's operations on any other. Tests hold them together.

mod activation;
mod extension;
mod flex;
mod fused;
mod gelu;
#[cfg(feature = "libtorch")]
mod libtorch;
mod mask;
mod math;
mod norm;
mod panels;
mod plain;
mod softmax;

use std::sync::Arc;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{Device, Tensor};

pub(crate) use activation::activate;
use extension::Kernels;
pub(crate) use mask::Mask;
pub(crate) use norm::add_normalised;
pub(crate) use panels::{Panels, Rows, Strides, room};
pub(crate) use softmax::softmax;

/// gelu(x + bias), with the exact GELU (Hendrycks and Gimpel 2016). x: [rows, width].
pub(crate) fn bias_gelu(x: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    if !is_fused(&x.device()) {
        return plain::bias_gelu(x, bias);
    }
    Tensor::from_dispatch(Dispatch::bias_gelu(x.into_dispatch(), bias.into_dispatch()))
}

/// Attention weights: softmax(scale · scores) over the last dimension, then dropout.
///
/// scores: [sentences, heads, length, length]; the weights of sentence i are zero past
/// `lengths[i]` sub-tokens.
pub(crate) fn attention_weights(
    scores: Tensor<4>,
    lengths: &Arc<[usize]>,
    scale: f32,
    mask: Option<Mask>,
) -> Tensor<4> {
    if !is_fused(&scores.device()) {
        return plain::attention_weights(scores, lengths, scale, mask);
    }
    let scores = scores.into_dispatch();
    Tensor::from_dispatch(Dispatch::attention_weights(
        scores,
        lengths.clone(),
        scale,
        mask,
    ))
}

/// What follows the product of a layer's block: norm(dropout(x + bias) + residual), normalised
/// over the width and scaled (Ba et al. 2016). x and residual: [rows, width].
pub(crate) fn add_norm(
    x: Tensor<2>,
    bias: Tensor<1>,
    residual: Tensor<2>,
    norm: (Tensor<1>, Tensor<1>, f64),
    mask: Option<Mask>,
) -> Tensor<2> {
    if !is_fused(&x.device()) {
        return plain::add_norm(x, bias, residual, norm, mask);
    }
    let (weight, shift, epsilon) = norm;
    Tensor::from_dispatch(Dispatch::add_norm(
        x.into_dispatch(),
        bias.into_dispatch(),
        residual.into_dispatch(),
        weight.into_dispatch(),
        shift.into_dispatch(),
        epsilon as f32,
        mask,
    ))
}

/// dropout(x), the dropped elements chosen by `mask`.
pub(crate) fn dropout<const D: usize>(x: Tensor<D>, mask: Option<Mask>) -> Tensor<D> {
    plain::dropout(x, mask)
}

fn is_fused(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "libtorch")]
        DispatchDevice::LibTorch(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod instructions;
#[cfg(test)]
mod tests;
