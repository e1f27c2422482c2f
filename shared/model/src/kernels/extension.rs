//! The functions as operations of burn: on each backend that fuses them, and on its tape.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};

use super::Mask;
use super::fused::Fused;
use super::softmax::Weighing;

#[backend_extension(Autodiff, Flex, LibTorch: cfg(feature = "libtorch"))]
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

impl<B: Fused> Kernels for B {
    fn bias_gelu(x: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
        <B as Fused>::bias_gelu(x, bias).0
    }

    fn attention_weights(
        scores: FloatTensor<B>,
        lengths: Arc<[usize]>,
        scale: f32,
        mask: Option<Mask>,
    ) -> FloatTensor<B> {
        let weighing = Weighing::new(&scores.shape(), lengths, scale, mask);
        B::weigh(scores, weighing).0
    }

    fn add_norm(
        x: FloatTensor<B>,
        bias: FloatTensor<B>,
        residual: FloatTensor<B>,
        weight: FloatTensor<B>,
        shift: FloatTensor<B>,
        epsilon: f32,
        mask: Option<Mask>,
    ) -> FloatTensor<B> {
        <B as Fused>::add_norm([x, bias, residual, weight, shift], epsilon, mask).0
    }
}

impl<B: Fused, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn bias_gelu(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = BiasGelu.prepare::<C>([x.node(), bias.node()]);
        let (y, kept) = <B as Fused>::bias_gelu(x.into_primitive(), bias.into_primitive());
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(kept, y),
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
        let scores = scores.into_primitive();
        let weighing = Weighing::new(&scores.shape(), lengths, scale, mask);
        let (left, kept) = B::weigh(scores, weighing);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(kept, left),
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
        let (y, kept) = <B as Fused>::add_norm(primitives, epsilon, mask);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(kept, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }
}

#[derive(Debug)]
struct BiasGelu;

impl<B: Fused> Backward<B, 2> for BiasGelu {
    type State = B::Biased;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let gradients = B::bias_gelu_backward(ops.state, gradient);
        for (parent, gradient) in ops.parents.iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct AttentionWeights;

impl<B: Fused> Backward<B, 1> for AttentionWeights {
    type State = B::Weighed;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let by_scores = B::weigh_backward(ops.state, gradient);
        if let [Some(node)] = &ops.parents {
            grads.register::<B>(node.id, by_scores);
        }
    }
}

#[derive(Debug)]
struct AddNorm;

impl<B: Fused> Backward<B, 5> for AddNorm {
    type State = B::Normed;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let gradients = B::add_norm_backward(ops.state, gradient);
        for (parent, gradient) in ops.parents.iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
