//! The BERT encoder and its tagging head (Devlin et al. 2019), in burn.
//!
//! Linear weights are kept as burn keeps them, [input, output]; Hugging Face files have them as
//! [output, input].

mod attention;
mod batch;
mod dropout;
mod gradient_tap;
mod hidden;
mod layers;
mod linear;
mod weights;

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use fedner_shared::bert::HeadShape;
use fedner_shared::checkpoint::Standardiser;
use fedner_shared::plan::Trainable;

use crate::crf::{self, Crf};
use crate::{Error, kernels};
pub(crate) use batch::Batch;
pub(crate) use dropout::Dropout;
pub(crate) use gradient_tap::{Factors, GradientTap};
pub(crate) use hidden::Hidden;
use layers::{Embeddings, Layer};
use linear::Linear;
pub(crate) use weights::{Slot, SlotTensor, leaf, values};

/// The word embedding.
const WORDS: &str = "bert.embeddings.word_embeddings.weight";

/// The weights of a [`Crf`] as tensors.
#[derive(Debug, Clone)]
struct Field {
    /// `[tags]`
    start: Tensor<1>,
    /// `[from, to]`
    transitions: Tensor<2>,
    /// `[tags]`
    end: Tensor<1>,
}

/// The encoder and its head.
#[derive(Debug, Clone)]
pub(crate) struct Bert {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    /// `None` for an encoder alone.
    classifier: Option<Linear>,
    /// The layers whose hidden states are the features, counted from 1, 0 being the embeddings.
    read: Vec<usize>,
    head: HeadShape,
    /// The coordinates in which the classifier reads features, if they are not the model's own.
    standard: Option<Arc<Standardiser>>,
    crf: Option<Field>,
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

    /// The hidden states below the first layer, of the rows that were looked up.
    pub(crate) fn embed(&self, words: Tensor<2>, batch: &Batch, dropout: &mut Dropout) -> Hidden {
        let rows = self.embeddings.forward(words, batch, dropout);
        let mut hidden = Hidden {
            layer: 0,
            rows,
            read: Vec::with_capacity(self.read.len()),
        };
        self.note(&mut hidden, batch);
        hidden
    }

    /// The hidden states of a batch below the first layer, nothing dropped.
    pub(crate) fn begin(&self, batch: &Batch) -> Hidden {
        self.embed(self.look_up(batch), batch, &mut Dropout::none())
    }

    /// The hidden states after `layers` layers.
    pub(crate) fn rise(
        &self,
        mut hidden: Hidden,
        layers: usize,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Hidden {
        while hidden.layer < layers {
            let layer = &self.layers[hidden.layer];
            hidden.rows = layer.forward(hidden.rows, batch, dropout);
            hidden.layer += 1;
            self.note(&mut hidden, batch);
        }
        hidden
    }

    /// Sets the marked sub-tokens' states aside if the head reads this layer.
    fn note(&self, hidden: &mut Hidden, batch: &Batch) {
        if self.read.contains(&hidden.layer) {
            let marked = hidden.rows.clone().select(0, batch.marked.clone());
            hidden.read.push(marked);
        }
    }

    /// The hidden states of the batch's marked sub-tokens, the layers that the head reads side by
    /// side: [marked, features of a word].
    pub(crate) fn features(
        &self,
        hidden: Hidden,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Tensor<2> {
        let last = self.read.last().copied().unwrap_or_default();
        if hidden.layer == last {
            return Tensor::cat(hidden.read, 1);
        }
        let mut hidden = self.rise(hidden, last - 1, batch, dropout);
        let layer = &self.layers[last - 1];
        let marked = layer.forward_marked(hidden.rows, batch, dropout);
        hidden.read.push(marked);
        Tensor::cat(hidden.read, 1)
    }

    /// The scores of each tag for the batch's marked sub-tokens, before softmax: [marked, tags].
    pub(crate) fn logits(
        &self,
        hidden: Hidden,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> Option<Tensor<2>> {
        let classifier = self.classifier.as_ref()?;
        let features = self.features(hidden, batch, dropout);
        let features = kernels::dropout(features, dropout.hidden());
        let features = self.with_neighbours(features, batch);
        Some(match &self.standard {
            None => classifier.forward(features),
            Some(standard) => classifier.standardised(standard, features),
        })
    }

    /// The features of each word with those of its neighbours side by side, zero where the sentence
    /// ends: [marked, features of the head].
    fn with_neighbours(&self, features: Tensor<2>, batch: &Batch) -> Tensor<2> {
        if self.head.context == 0 {
            return features;
        }
        let ([marked, width], device) = (features.dims(), features.device());
        let neighbours = batch.neighbours(&self.head).into_iter();
        let neighbours: Vec<i32> = neighbours.map(|place| place as i32).collect();
        let rows = neighbours.len();
        let data = TensorData::new(neighbours, [rows]);
        let neighbours = Tensor::<1, Int>::from_data(data, &device.clone().inner());
        let nothing = Tensor::zeros([1, width], &device);
        let features = Tensor::cat(vec![features, nothing], 0).select(0, neighbours);
        features.reshape([marked, width * self.head.window()])
    }

    /// The weights of the field over the tags of a sentence, if the head has one.
    pub(crate) fn crf(&self) -> Result<Option<Crf>, Error> {
        let Some(field) = &self.crf else {
            return Ok(None);
        };
        let mut weights = values(field.start.clone())?;
        let tags = weights.len();
        weights.extend(values(field.transitions.clone())?);
        weights.extend(values(field.end.clone())?);
        Ok(Some(Crf::from_weights(tags, weights)))
    }

    /// Σ g·w over the weights w of the field, with g constants in the order of [`Crf::weights`]: on
    /// a tape, g is its gradient.
    pub(crate) fn along_crf(&self, by_weights: &[f32]) -> Option<Tensor<1>> {
        let Field {
            start,
            transitions,
            end,
        } = self.crf.as_ref()?;
        let tags = start.dims()[0];
        let device = start.device().inner();
        let part = |name: &str| Crf::part(tags, by_weights, name).map(<[f32]>::to_vec);
        let vector = |name| {
            let data = TensorData::new(part(name)?, [tags]);
            Some(Tensor::<1>::from_data(data, &device))
        };
        let data = TensorData::new(part(crf::TRANSITIONS)?, [tags, tags]);
        let by_transitions = Tensor::<2>::from_data(data, &device);
        let sum = (transitions.clone() * by_transitions).sum();
        let sum = sum + (start.clone() * vector(crf::START)?).sum();
        Some(sum + (end.clone() * vector(crf::END)?).sum())
    }
}
