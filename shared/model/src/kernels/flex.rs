//! The functions on burn's processor backend, over slices.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape, TensorData};

use super::fused::Fused;
use super::softmax::Weighing;
use super::{Mask, gelu, norm};

impl Fused for Flex {
    /// x and bias
    type Biased = (FlexTensor, FlexTensor);
    /// The weights before dropout.
    type Weighed = (Weighing, FlexTensor);
    /// With the weight of the norm.
    type Normed = (norm::Kept, FlexTensor, Option<Mask>);

    fn bias_gelu(x: FlexTensor, bias: FlexTensor) -> (FlexTensor, Self::Biased) {
        let x = x.to_contiguous();
        let y = gelu::forward(values(&x), values(&bias));
        (tensor(y, x.layout().shape().clone()), (x, bias))
    }

    fn bias_gelu_backward((x, bias): Self::Biased, gradient: FlexTensor) -> [FlexTensor; 2] {
        let shape = gradient.layout().shape().clone();
        let mut by_x = into_values(gradient);
        let by_bias = gelu::backward(values(&x), values(&bias), &mut by_x);
        [tensor(by_x, shape), vector(by_bias)]
    }

    fn weigh(scores: FlexTensor, weighing: Weighing) -> (FlexTensor, Self::Weighed) {
        let shape = scores.layout().shape().clone();
        let mut weights = into_values(scores);
        let left = weighing.forward(&mut weights);
        let weights = tensor(weights, shape.clone());
        let left = left.map_or_else(|| weights.clone(), |left| tensor(left, shape));
        (left, (weighing, weights))
    }

    fn weigh_backward((weighing, weights): Self::Weighed, gradient: FlexTensor) -> FlexTensor {
        let shape = gradient.layout().shape().clone();
        let mut by_scores = into_values(gradient);
        weighing.backward(values(&weights), &mut by_scores);
        tensor(by_scores, shape)
    }

    fn add_norm(
        operands: [FlexTensor; 5],
        epsilon: f32,
        mask: Option<Mask>,
    ) -> (FlexTensor, Self::Normed) {
        let operands = operands.map(|operand| operand.to_contiguous());
        let [x, bias, residual, weight, shift] = &operands;
        let slices = norm::Operands {
            x: values(x),
            bias: values(bias),
            residual: values(residual),
            weight: values(weight),
            shift: values(shift),
        };
        let (y, kept) = norm::forward(slices, epsilon, mask);
        let y = tensor(y, x.layout().shape().clone());
        (y, (kept, weight.clone(), mask))
    }

    fn add_norm_backward(
        (kept, weight, mask): Self::Normed,
        gradient: FlexTensor,
    ) -> [FlexTensor; 5] {
        let shape = gradient.layout().shape().clone();
        let by = norm::backward(&kept, values(&weight), into_values(gradient), mask);
        let residual = tensor(by.residual, shape.clone());
        let x = by.x.map_or_else(|| residual.clone(), |x| tensor(x, shape));
        let [bias, weight, shift] = [by.bias, by.weight, by.shift].map(vector);
        [x, bias, residual, weight, shift]
    }
}

/// The values of a contiguous float32 tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice::<f32>()
        .expect("models are float32, and operands were made contiguous")
}

/// The values, without a copy where no one else holds the tensor.
fn into_values(tensor: FlexTensor) -> Vec<f32> {
    tensor
        .into_data()
        .try_into_vec()
        .expect("models are float32")
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn vector(values: Vec<f32>) -> FlexTensor {
    let width = values.len();
    tensor(values, Shape::from([width]))
}
