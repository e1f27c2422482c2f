//! The parts of a BERT layer. Shapes are [sentences, length, hidden] throughout.

use burn::tensor::Tensor;
use burn::tensor::activation::gelu;
use burn::tensor::module::{embedding, layer_norm, linear};

use super::attention::Attention;
use super::{Batch, Dropout};

/// y = x·W + b.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    /// [input, output]
    pub(super) weight: Tensor<2>,
    pub(super) bias: Tensor<1>,
}

impl Linear {
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        linear(x, self.weight.clone(), Some(self.bias.clone()))
    }
}

/// Layer normalisation (Ba et al. 2016) over the last dimension.
#[derive(Debug, Clone)]
pub(super) struct LayerNorm {
    pub(super) weight: Tensor<1>,
    pub(super) bias: Tensor<1>,
    pub(super) epsilon: f64,
}

impl LayerNorm {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let bias = Some(self.bias.clone());
        layer_norm(x, self.weight.clone(), bias, self.epsilon)
    }
}

/// The sum of word, position and type embeddings, normalised.
#[derive(Debug, Clone)]
pub(super) struct Embeddings {
    /// [vocabulary, hidden]
    pub(super) words: Tensor<2>,
    /// [positions, hidden]
    pub(super) positions: Tensor<2>,
    /// [types, hidden]; a sentence to tag is all of type 0.
    pub(super) types: Tensor<2>,
    pub(super) norm: LayerNorm,
}

impl Embeddings {
    pub(super) fn forward(&self, batch: &Batch, dropout: &mut Dropout) -> Tensor<3> {
        let [_, length] = batch.ids.dims();
        let words = embedding(self.words.clone(), batch.ids.clone());
        let positions = self.positions.clone().narrow(0, 0, length);
        let types = self.types.clone().narrow(0, 0, 1);
        let sum = words + (positions + types).unsqueeze();
        dropout.hidden(self.norm.forward(sum))
    }
}

/// Self-attention and a feed-forward network, each with a residual connection and normalised
/// after it.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) attention: Attention,
    pub(super) attention_output: Linear,
    pub(super) attention_norm: LayerNorm,
    pub(super) intermediate: Linear,
    pub(super) output: Linear,
    pub(super) output_norm: LayerNorm,
}

impl Layer {
    pub(super) fn forward(
        &self,
        hidden: Tensor<3>,
        mask: Option<&Tensor<4>>,
        dropout: &mut Dropout,
    ) -> Tensor<3> {
        let context = self.attention.forward(hidden.clone(), mask, dropout);
        let attended = dropout.hidden(self.attention_output.forward(context));
        let hidden = self.attention_norm.forward(attended + hidden);
        let inner = gelu(self.intermediate.forward(hidden.clone()));
        let fed = dropout.hidden(self.output.forward(inner));
        self.output_norm.forward(fed + hidden)
    }
}
