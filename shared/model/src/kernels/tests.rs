//! One pass and burn's composition agree, forwards and backwards, on every backend that fuses.

use std::sync::Arc;

use burn::tensor::{Gradients, Tensor, TensorData};

use super::*;
use crate::device::Device;

/// The fused backends of this build.
fn devices() -> Vec<Device> {
    let names = ["cpu", "libtorch"].iter();
    names.filter_map(|name| name.parse().ok()).collect()
}

const ROWS: usize = 37;
const WIDTH: usize = 24;

/// Numbers from -2 to 2, different for each `seed`.
pub(super) fn numbers<const D: usize>(device: Device, shape: [usize; D], seed: u32) -> Tensor<D> {
    let number = |i: usize| ((i as f32 + 1.0) * (seed as f32 + 0.37) * 12.9898).sin() * 2.0;
    let values: Vec<f32> = (0..shape.iter().product()).map(number).collect();
    let data = TensorData::new(values, shape);
    Tensor::from_data(data, &device.plain().autodiff()).require_grad()
}

/// Compares values, and gradients of a sum with uneven weights.
fn assert_same<const D: usize>(
    device: Device,
    fused: Tensor<D>,
    plain: Tensor<D>,
    check: impl Fn(&Gradients, &Gradients),
) {
    assert_close("value", &fused, &plain);
    let weights = numbers(device, fused.dims(), 99).inner();
    let fused = (fused * weights.clone()).sum().backward();
    let plain = (plain * weights).sum().backward();
    check(&fused, &plain);
}

fn assert_close<const D: usize>(what: &str, fused: &Tensor<D>, plain: &Tensor<D>) {
    let (fused, plain) = (fused.clone().inner(), plain.clone().inner());
    let difference: f32 = (fused - plain).abs().max().into_scalar();
    assert!(difference < 2e-5, "{what} differs by {difference}");
}

fn assert_gradient<const D: usize>(operand: &Tensor<D>, fused: &Gradients, plain: &Gradients) {
    let gradient = |gradients| operand.grad(gradients).expect("a gradient");
    assert_close("gradient", &gradient(fused), &gradient(plain));
}

#[test]
fn bias_and_gelu() {
    for device in devices() {
        let x = numbers(device, [ROWS, WIDTH], 1);
        let bias = numbers(device, [WIDTH], 2);
        assert_same(
            device,
            bias_gelu(x.clone(), bias.clone()),
            plain::bias_gelu(x.clone(), bias.clone()),
            |fused, plain| {
                assert_gradient(&x, fused, plain);
                assert_gradient(&bias, fused, plain);
            },
        );
    }
}

#[test]
fn attention() {
    for device in devices() {
        for lengths in [[19, 19, 19], [19, 1, 7]] {
            for mask in [None, Mask::new(0.3, 1, 2)] {
                let scores = numbers(device, [3, 2, 19, 19], 3);
                let lengths: Arc<[usize]> = lengths.into();
                assert_same(
                    device,
                    attention_weights(scores.clone(), &lengths, 0.7, mask),
                    plain::attention_weights(scores.clone(), &lengths, 0.7, mask),
                    |fused, plain| assert_gradient(&scores, fused, plain),
                );
            }
        }
    }
}

#[test]
fn sum_and_norm() {
    for device in devices() {
        for mask in [None, Mask::new(0.3, 1, 2)] {
            let [x, residual] = [4, 5].map(|seed| numbers(device, [ROWS, WIDTH], seed));
            let vectors = [6, 7, 8].map(|seed| numbers(device, [WIDTH], seed));
            let [bias, weight, shift] = vectors.clone();
            let norm = (weight, shift, 1e-5);
            assert_same(
                device,
                add_norm(
                    x.clone(),
                    bias.clone(),
                    residual.clone(),
                    norm.clone(),
                    mask,
                ),
                plain::add_norm(x.clone(), bias, residual.clone(), norm, mask),
                |fused, plain| {
                    assert_gradient(&x, fused, plain);
                    assert_gradient(&residual, fused, plain);
                    for vector in &vectors {
                        assert_gradient(vector, fused, plain);
                    }
                },
            );
        }
    }
}
