//! The parts of a BERT layer. Activations are [rows, hidden], one row a sub-token or padding, the
//! sentences of the batch one after another.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu_approximate, relu};

use fedner_shared::bert::Activation;

use super::attention::Attention;
use super::linear::Linear;
use super::{Batch, Dropout};
use crate::kernels;

/// Layer normalisation (Ba et al. 2016) over the hidden dimension.
#[derive(Debug, Clone)]
pub(super) struct LayerNorm {
    pub(super) weight: Tensor<1>,
    pub(super) bias: Tensor<1>,
    pub(super) epsilon: f64,
}

impl LayerNorm {
    fn parts(&self) -> (Tensor<1>, Tensor<1>, f64) {
        (self.weight.clone(), self.bias.clone(), self.epsilon)
    }
}

/// Word, position and type embeddings, added and normalised.
#[derive(Debug, Clone)]
pub(super) struct Embeddings {
    /// [vocabulary, hidden]; never on a tape, see [`Bert::look_up`](super::Bert::look_up).
    pub(super) words: Tensor<2>,
    /// [positions, hidden]
    pub(super) positions: Tensor<2>,
    /// [types, hidden]; a sentence to tag is all of type 0.
    pub(super) types: Tensor<2>,
    pub(super) norm: LayerNorm,
}

impl Embeddings {
    /// The first hidden states, from the rows that were looked up in `words`.
    pub(super) fn forward(
        &self,
        words: Tensor<2>,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let [rows, size] = words.dims();
        let positions = self.positions.clone().narrow(0, 0, batch.length);
        let positions = positions
            .unsqueeze::<3>()
            .expand([batch.sentences(), batch.length, size])
            .reshape([rows, size]);
        let kind = self.types.clone().narrow(0, 0, 1).reshape([size]);
        let hidden = kernels::add_norm(positions, kind, words, self.norm.parts(), None);
        kernels::dropout(hidden, dropout.hidden())
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
    pub(super) activation: Activation,
    pub(super) output: Linear,
    pub(super) output_norm: LayerNorm,
}

impl Layer {
    /// Query, key and value first, the others in the order in which they compute.
    pub(super) fn linears(&mut self) -> [&mut Linear; 6] {
        let Attention {
            query, key, value, ..
        } = &mut self.attention;
        let (last, next) = (&mut self.output, &mut self.intermediate);
        [query, key, value, &mut self.attention_output, next, last]
    }

    pub(super) fn forward(
        &self,
        hidden: Tensor<2>,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let context = self.attention.forward(hidden.clone(), batch, dropout);
        self.feed_forward(context, hidden, dropout)
    }

    /// The layer's result for the marked sub-tokens only, which is all that is asked of the last.
    pub(super) fn forward_marked(
        &self,
        hidden: Tensor<2>,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let context = self.attention.forward(hidden.clone(), batch, dropout);
        let context = context.select(0, batch.marked.clone());
        let hidden = hidden.select(0, batch.marked.clone());
        self.feed_forward(context, hidden, dropout)
    }

    fn feed_forward(
        &self,
        context: Tensor<2>,
        hidden: Tensor<2>,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let hidden = add_norm(
            &self.attention_output,
            context,
            hidden,
            &self.attention_norm,
            dropout,
        );
        let inner = self.intermediate.product(hidden.clone());
        let bias = self.intermediate.bias.clone();
        let inner = match self.activation {
            Activation::Gelu => kernels::bias_gelu(inner, bias),
            Activation::GeluTanh => gelu_approximate(inner + bias.unsqueeze()),
            Activation::Relu => relu(inner + bias.unsqueeze()),
        };
        add_norm(&self.output, inner, hidden, &self.output_norm, dropout)
    }
}

/// norm(dropout(linear(x)) + residual)
fn add_norm(
    linear: &Linear,
    x: Tensor<2>,
    residual: Tensor<2>,
    norm: &LayerNorm,
    dropout: &mut Dropout,
) -> Tensor<2> {
    let (product, bias) = (linear.product(x), linear.bias.clone());
    kernels::add_norm(product, bias, residual, norm.parts(), dropout.hidden())
}
