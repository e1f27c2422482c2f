//! Activations of a feed-forward network, in place.

use fedner_shared::bert::Activation;
use fedner_shared::vector::vectorized;

use super::math::{exp, normal};

/// 2·√(2/π)
const TWICE_ROOT: f32 = 1.595_769;

/// Each x becomes its activation: the exact GELU, its approximation by tanh (Hendrycks and Gimpel 2016,
/// section 2), or max(x, 0).
pub(crate) fn activate(activation: Activation, x: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || match activation {
            Activation::Gelu => {
                for x in x.iter_mut() {
                    *x *= normal(*x).0;
                }
            }
            Activation::GeluTanh => {
                // (1 + tanh u) / 2 = 1 / (1 + exp(-2u))
                for x in x.iter_mut() {
                    let twice = TWICE_ROOT * (*x + 0.044_715 * *x * *x * *x);
                    *x /= 1.0 + exp(-twice);
                }
            }
            Activation::Relu => {
                for x in x.iter_mut() {
                    *x = x.max(0.0);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::{gelu, gelu_approximate, relu};
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;

    #[test]
    fn each_is_that_of_the_tensors() {
        let x: Vec<f32> = (-200..=200).map(|place| place as f32 * 0.05).collect();
        let tensor = || {
            let data = TensorData::new(x.clone(), [x.len()]);
            Tensor::<1>::from_data(data, &Device::flex())
        };
        for (activation, expected) in [
            (Activation::Gelu, gelu(tensor())),
            (Activation::GeluTanh, gelu_approximate(tensor())),
            (Activation::Relu, relu(tensor())),
        ] {
            let mut found = x.clone();
            activate(activation, &mut found);
            let expected: Vec<f32> = expected.into_data().try_into_vec().expect("float32");
            for ((x, found), expected) in x.iter().zip(found).zip(expected) {
                let apart = (found - expected).abs();
                assert!(
                    apart < 2e-6,
                    "{activation:?} of {x}: {found} for {expected}"
                );
            }
        }
    }
}
