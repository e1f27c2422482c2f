//! The BERT encoder and its tagging head (Devlin et al. 2019), in burn.
//!
//! Linear weights are kept as burn keeps them, [input, output]; Hugging Face files have them as
//! [output, input].

mod attention;
mod batch;
mod dropout;
mod layers;
mod weights;

use burn::tensor::Tensor;

pub(crate) use batch::Batch;
pub(crate) use dropout::Dropout;
use layers::{Embeddings, Layer, Linear};
pub(crate) use weights::{Slot, SlotTensor, leaf, values};

/// The encoder and its head.
#[derive(Debug, Clone)]
pub(crate) struct Bert {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    /// `None` for an encoder alone.
    classifier: Option<Linear>,
}

impl Bert {
    /// The last hidden states of the batch's marked sub-tokens: [marked, hidden].
    pub(crate) fn features(&self, batch: &Batch, dropout: &mut Dropout) -> Tensor<2> {
        let mut hidden = self.embeddings.forward(batch, dropout);
        for layer in &self.layers {
            hidden = layer.forward(hidden, batch.mask.as_ref(), dropout);
        }
        let [sentences, length, size] = hidden.dims();
        hidden
            .reshape([sentences * length, size])
            .select(0, batch.marked.clone())
    }

    /// The scores of each tag for the batch's marked sub-tokens, before softmax: [marked, tags].
    pub(crate) fn logits(&self, batch: &Batch, dropout: &mut Dropout) -> Option<Tensor<2>> {
        let classifier = self.classifier.as_ref()?;
        let features = self.features(batch, dropout);
        Some(classifier.forward(dropout.hidden(features)))
    }
}
