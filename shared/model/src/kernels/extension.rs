//! The functions as operations of burn, on its processor backend and on that backend's tape.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::{Shape, TensorData};

use super::softmax::Weighing;
use super::{Mask, gelu, norm};

#[backend_extension(Autodiff, Flex)]
pub(super) trait Kernels: Backend {
    fn bias_gelu(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    fn attention_weights(
        scores: FloatTensor<Self>,
        lengths: Arc<[usize]>,
        scale: f32,
        mask: Option<Mask>,
    ) -> FloatTensor<Self>;

    fn add_norm(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
        mask: Option<Mask>,
    ) -> FloatTensor<Self>;
}

impl Kernels for Flex {
    fn bias_gelu(x: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let y = gelu::forward(values(&x), values(&bias));
        tensor(y, x.layout().shape().clone())
    }

    fn attention_weights(
        scores: FlexTensor,
        lengths: Arc<[usize]>,
        scale: f32,
        mask: Option<Mask>,
    ) -> FlexTensor {
        weigh(scores, lengths, scale, mask).2
    }

    fn add_norm(
        x: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        weight: FlexTensor,
        shift: FlexTensor,
        epsilon: f32,
        mask: Option<Mask>,
    ) -> FlexTensor {
        normalise([x, bias, residual, weight, shift], epsilon, mask).0
    }
}

/// The weights before dropout, and those left after it.
fn weigh(
    scores: FlexTensor,
    lengths: Arc<[usize]>,
    scale: f32,
    mask: Option<Mask>,
) -> (Weighing, FlexTensor, FlexTensor) {
    let shape = scores.layout().shape().clone();
    let weighing = Weighing {
        lengths,
        heads: shape[1],
        length: shape[3],
        scale,
        mask,
    };
    let mut weights = into_values(scores);
    let left = weighing.forward(&mut weights);
    let weights = tensor(weights, shape.clone());
    let left = left.map_or_else(|| weights.clone(), |left| tensor(left, shape));
    (weighing, weights, left)
}

fn normalise(
    operands: [FlexTensor; 5],
    epsilon: f32,
    mask: Option<Mask>,
) -> (FlexTensor, norm::Kept) {
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
    (tensor(y, x.layout().shape().clone()), kept)
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn bias_gelu(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, offset) = (x.primitive().to_contiguous(), bias.primitive().clone());
        let y = Flex::bias_gelu(input.clone(), offset.clone());
        let prepared = BiasGelu.prepare::<C>([x.node(), bias.node()]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((input, offset), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn attention_weights(
        scores: FloatTensor<Self>,
        lengths: Arc<[usize]>,
        scale: f32,
        mask: Option<Mask>,
    ) -> FloatTensor<Self> {
        let prepared = AttentionWeights.prepare::<C>([scores.node()]);
        let (weighing, weights, left) = weigh(scores.into_primitive(), lengths, scale, mask);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((weighing, weights), left),
            OpsKind::UnTracked(prepared) => prepared.finish(left),
        }
    }

    fn add_norm(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
        mask: Option<Mask>,
    ) -> FloatTensor<Self> {
        let operands = [x, bias, residual, weight, shift];
        let prepared = AddNorm.prepare::<C>(operands.each_ref().map(|operand| operand.node()));
        let primitives = operands.map(|operand| operand.into_primitive());
        let scale = primitives[3].clone();
        let (y, kept) = normalise(primitives, epsilon, mask);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((kept, scale, mask), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug)]
struct BiasGelu;

impl Backward<Flex, 2> for BiasGelu {
    /// x and bias
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let shape = gradient.layout().shape().clone();
        let (x, bias) = ops.state;
        let mut by_x = into_values(gradient);
        let by_bias = gelu::backward(values(&x), values(&bias), &mut by_x);
        let by_bias = tensor(by_bias, bias.layout().shape().clone());
        for (parent, gradient) in ops.parents.iter().zip([tensor(by_x, shape), by_bias]) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct AttentionWeights;

impl Backward<Flex, 1> for AttentionWeights {
    /// The weights before dropout.
    type State = (Weighing, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let shape = gradient.layout().shape().clone();
        let (weighing, weights) = ops.state;
        let mut by_scores = into_values(gradient);
        weighing.backward(values(&weights), &mut by_scores);
        if let [Some(node)] = &ops.parents {
            grads.register::<Flex>(node.id, tensor(by_scores, shape));
        }
    }
}

#[derive(Debug)]
struct AddNorm;

impl Backward<Flex, 5> for AddNorm {
    /// What the forward pass kept, and the scale of the norm.
    type State = (norm::Kept, FlexTensor, Option<Mask>);

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let shape = gradient.layout().shape().clone();
        let (kept, scale, mask) = ops.state;
        let by = norm::backward(&kept, values(&scale), into_values(gradient), mask);
        let residual = tensor(by.residual, shape.clone());
        let x = by.x.map_or_else(|| residual.clone(), |x| tensor(x, shape));
        let vector = |values: Vec<f32>| {
            let width = values.len();
            tensor(values, Shape::from([width]))
        };
        let gradients = [
            x,
            vector(by.bias),
            residual,
            vector(by.weight),
            vector(by.shift),
        ];
        for (parent, gradient) in ops.parents.iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, gradient);
            }
        }
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
