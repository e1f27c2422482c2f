//! The BERT encoder and its tagging head (Devlin et al. 2019), in burn.
//!
//! Linear weights are kept as burn keeps them, [input, output]; Hugging Face files have them as
//! [output, input].

mod attention;
mod batch;
mod book;
mod dropout;
mod layers;
mod weights;

use burn::tensor::{Int, Tensor, TensorData};
use fedner_shared::plan::Trainable;

use crate::kernels;
pub(crate) use batch::Batch;
pub(crate) use book::{Book, Factors};
pub(crate) use dropout::Dropout;
use layers::{Embeddings, Layer, Linear};
pub(crate) use weights::{Slot, SlotTensor, leaf, values};

/// The word embedding.
const WORDS: &str = "bert.embeddings.word_embeddings.weight";

/// The encoder and its head.
#[derive(Debug, Clone)]
pub(crate) struct Bert {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    /// `None` for an encoder alone.
    classifier: Option<Linear>,
    /// The layers whose hidden states are the features, counted from 1, 0 being the embeddings.
    read: Vec<usize>,
    /// What is trained; `None` for a model that only tags.
    trainable: Option<Trainable>,
}

impl Bert {
    /// The word embeddings of a batch: [rows, hidden].
    ///
    /// The table is not on the tape: its gradient would be as large as itself and nearly all
    /// zero. Training takes the gradient of these rows instead.
    pub(crate) fn look_up(&self, batch: &Batch) -> Tensor<2> {
        let ids: Vec<i32> = batch.ids.iter().map(|id| *id as i32).collect();
        let rows = ids.len();
        let device = self.embeddings.words.device();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows]), &device);
        let words = self.embeddings.words.clone().select(0, ids);
        match &self.trainable {
            None => words,
            Some(trainable) if trainable.trains(WORDS) => words.autodiff().require_grad(),
            // Without a gradient to take, all that hangs on frozen weights alone is off the tape.
            Some(_) => words.autodiff(),
        }
    }

    /// The hidden states that the head reads, of the batch's marked sub-tokens, layers side by
    /// side: [marked, features].
    pub(crate) fn features(
        &self,
        words: Tensor<2>,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let mut hidden = self.embeddings.forward(words, batch, dropout);
        let mut features = Vec::with_capacity(self.read.len());
        if self.read.first() == Some(&0) {
            features.push(hidden.clone().select(0, batch.marked.clone()));
        }
        let last = self.read.last().copied().unwrap_or_default();
        for (number, layer) in (1..=last).zip(&self.layers) {
            if number == last {
                features.push(layer.forward_marked(hidden, batch, dropout));
                break;
            }
            hidden = layer.forward(hidden, batch, dropout);
            if self.read.contains(&number) {
                features.push(hidden.clone().select(0, batch.marked.clone()));
            }
        }
        Tensor::cat(features, 1)
    }

    /// The scores of each tag for the batch's marked sub-tokens, before softmax: [marked, tags].
    pub(crate) fn logits(
        &self,
        words: Tensor<2>,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Option<Tensor<2>> {
        let classifier = self.classifier.as_ref()?;
        let features = self.features(words, batch, dropout);
        Some(classifier.forward(kernels::dropout(features, dropout.hidden())))
    }
}
