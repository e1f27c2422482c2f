//! What a linear layer notes in a pass, so that its weight's gradient need not be made.
//!
//! With inputs A and gradients G by the outputs, one row a sub-token, a weight's gradient is AᵀG
//! (Goodfellow 2015, section 4). burn has no hooks and gives no gradient of what is in the middle of
//! a tape; so zeros, of which it does give one, are added to the outputs (Bu, Wang, Zha and Karypis
//! 2023, section 2.3, take the same from PyTorch's hooks).

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Gradients, Tensor};

/// The notes of one layer in one pass; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct GradientTap {
    /// Layers of one number have the same inputs.
    shared: usize,
    entry: Arc<OnceLock<Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// Off the tape: [rows, inputs].
    inputs: Tensor<2>,
    /// Zeros on the tape: [rows, outputs].
    zeros: Tensor<2>,
}

/// The two factors of a weight's gradient AᵀG.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    /// Those of one pass that have the same number here have the same A.
    pub(crate) shared: usize,
    /// A: [rows, inputs].
    pub(crate) inputs: Tensor<2>,
    /// G: [rows, outputs].
    pub(crate) outputs: Tensor<2>,
}

impl Factors {
    /// The same on the processor. There every product is plain float32, by the same kernel each time: a GPU
    /// may round factors to TF32, and choose kernels by how long they took.
    pub(crate) fn on_processor(self) -> Self {
        let processor = Device::flex();
        Self {
            inputs: self.inputs.to_device(&processor),
            outputs: self.outputs.to_device(&processor),
            ..self
        }
    }
}

impl GradientTap {
    /// An empty one, of a layer whose inputs are those of all layers with this number.
    pub(super) fn new(shared: usize) -> Self {
        Self {
            shared,
            entry: Arc::default(),
        }
    }

    /// Notes the inputs `x` of a layer; what is returned goes on in place of its outputs `y`.
    pub(super) fn note(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let zeros = Tensor::zeros(y.dims(), &y.device().inner());
        let zeros = zeros.autodiff().require_grad();
        let inputs = x.inner();
        let first = self.entry.set(Entry {
            inputs,
            zeros: zeros.clone(),
        });
        assert!(first.is_ok(), "a book is for one pass");
        y + zeros
    }

    /// What was noted, once `gradients` are there; `None` where the loss does not depend on it.
    pub(crate) fn factors(&self, gradients: &mut Gradients) -> Option<Factors> {
        let Entry { inputs, zeros } = self.entry.get()?;
        Some(Factors {
            shared: self.shared,
            inputs: inputs.clone(),
            outputs: zeros.grad_remove(gradients)?,
        })
    }
}
