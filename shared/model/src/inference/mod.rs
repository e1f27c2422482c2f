//! The encoder and its head on the processor, for text that is only read: no tape, no padding.
//!
//! The sub-tokens of a batch are rows one after another, and each row of every layer is computed by
//! itself (see [`Panels`]) but for attention, which reads the keys and values of its own sentence. So
//! what becomes of a sentence is the same to the last bit whatever else is in its batch, and however
//! many threads there are.

mod blocks;
mod layer;
#[cfg(test)]
mod tests;

use fedner_shared::bert::{BertConfig, HeadShape};
use fedner_shared::checkpoint::Checkpoint;

use crate::kernels::{Panels, Rows};
use crate::{Encoded, Error, words};
use blocks::blocks;
use layer::{Layer, Norm};

/// An encoder, its weights in order for products.
#[derive(Debug)]
pub(crate) struct Encoder {
    size: usize,
    /// [vocabulary, size]
    words: Vec<f32>,
    /// [positions, size], that of the first type added.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    /// The layers that the head reads, counted from 1, 0 being the embeddings; in their order.
    read: Vec<usize>,
}

/// A classifier of words.
#[derive(Debug)]
pub(crate) struct Head {
    shape: HeadShape,
    classifier: Panels,
    /// Numbers of a word.
    width: usize,
}

/// A named part of a checkpoint.
struct Part<'a> {
    checkpoint: &'a Checkpoint,
    name: String,
}

impl Part<'_> {
    fn tensor(&self, name: &str) -> Result<&[f32], Error> {
        Ok(self.checkpoint.tensor(&format!("{}.{name}", self.name))?)
    }

    fn linear(&self, name: &str) -> Result<Panels, Error> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias = self.tensor(&format!("{name}.bias"))?;
        Ok(Panels::linear(weight, bias))
    }

    fn norm(&self, name: &str) -> Result<Norm, Error> {
        Ok(Norm {
            weight: self.tensor(&format!("{name}.weight"))?.to_vec(),
            shift: self.tensor(&format!("{name}.bias"))?.to_vec(),
            epsilon: self.checkpoint.config.layer_norm_eps as f32,
        })
    }

    fn layer(&self, config: &BertConfig) -> Result<Layer, Error> {
        Ok(Layer {
            query: self.linear("attention.self.query")?,
            key: self.linear("attention.self.key")?,
            value: self.linear("attention.self.value")?,
            heads: config.num_attention_heads,
            attention_output: self.linear("attention.output.dense")?,
            attention_norm: self.norm("attention.output.LayerNorm")?,
            intermediate: self.linear("intermediate.dense")?,
            activation: config.activation(),
            output: self.linear("output.dense")?,
            output_norm: self.norm("output.LayerNorm")?,
        })
    }
}

impl Encoder {
    /// That of a checkpoint without adapters, up to the last layer that the head reads.
    pub(crate) fn load(checkpoint: &Checkpoint) -> Result<Self, Error> {
        let (config, read) = (&checkpoint.config, checkpoint.config.read_layers());
        let part = |name: &str| Part {
            checkpoint,
            name: format!("bert.{name}"),
        };
        let embeddings = part("embeddings");
        let mut positions = embeddings.tensor("position_embeddings.weight")?.to_vec();
        let kinds = embeddings.tensor("token_type_embeddings.weight")?;
        for row in positions.chunks_exact_mut(config.hidden_size) {
            for (position, kind) in row.iter_mut().zip(kinds) {
                *position += kind;
            }
        }
        let layers = (0..read.last().copied().unwrap_or_default())
            .map(|layer| part(&format!("encoder.layer.{layer}")).layer(config));
        Ok(Self {
            size: config.hidden_size,
            words: embeddings.tensor("word_embeddings.weight")?.to_vec(),
            positions,
            norm: embeddings.norm("LayerNorm")?,
            layers: layers.collect::<Result<_, _>>()?,
            read,
        })
    }

    /// Numbers of a word.
    pub(crate) fn width(&self) -> usize {
        self.read.len() * self.size
    }

    /// The hidden states of each sentence's words, the layers that the head reads side by side:
    /// row-major [words, width].
    pub(crate) fn features(&self, sentences: &[&Encoded]) -> Vec<f32> {
        let marked = marked(sentences);
        let mut features = vec![0.0; marked.len() * self.width()];
        let mut hidden = self.embed(sentences);
        self.note(0, self.rows(&hidden, &marked), &mut features);
        let Some((last, lower)) = self.layers.split_last() else {
            return features;
        };
        let threads = rayon::current_num_threads();
        let blocks_of = |asking: fn(&Encoded) -> usize| {
            let told = sentences.iter().map(|own| (own.ids.len(), asking(own)));
            blocks(&told.collect::<Vec<_>>(), threads)
        };
        let all = blocks_of(|sentence| sentence.ids.len());
        for (layer, number) in lower.iter().zip(1..) {
            let attended = layer.attended(&hidden, self.size);
            layer.rise(&all, &mut hidden, &attended);
            self.note(number, self.rows(&hidden, &marked), &mut features);
        }
        // Of the last layer, only the words ask.
        let attended = last.attended(&hidden, self.size);
        let mut words: Vec<f32> = self.rows(&hidden, &marked).flatten().copied().collect();
        let asking = blocks_of(Encoded::words);
        last.rise(&asking, &mut words, &attended);
        let words = words.chunks_exact(self.size);
        self.note(self.layers.len(), words, &mut features);
        features
    }

    /// The hidden states below the first layer.
    fn embed(&self, sentences: &[&Encoded]) -> Vec<f32> {
        let size = self.size;
        let ids = sentences.iter().flat_map(|sentence| &sentence.ids);
        let words = ids.flat_map(|id| &self.words[*id as usize * size..(*id as usize + 1) * size]);
        let mut hidden: Vec<f32> = words.copied().collect();
        let mut rest = hidden.as_mut_slice();
        for sentence in sentences {
            let (own, others) = rest.split_at_mut(sentence.ids.len() * size);
            self.norm.add(&self.positions[..own.len()], own);
            rest = others;
        }
        hidden
    }

    fn rows<'h>(&self, hidden: &'h [f32], rows: &[usize]) -> impl Iterator<Item = &'h [f32]> {
        let size = self.size;
        let rows = rows.iter();
        rows.map(move |row| &hidden[row * size..(row + 1) * size])
    }

    /// Sets the words' states aside if the head reads this layer.
    fn note<'h>(&self, layer: usize, words: impl Iterator<Item = &'h [f32]>, features: &mut [f32]) {
        let Some(place) = self.read.iter().position(|read| *read == layer) else {
            return;
        };
        for (word, features) in words.zip(features.chunks_exact_mut(self.width())) {
            features[place * self.size..(place + 1) * self.size].copy_from_slice(word);
        }
    }
}

impl Head {
    pub(crate) fn load(checkpoint: &Checkpoint) -> Result<Self, Error> {
        let weight = checkpoint.tensor("classifier.weight")?;
        let bias = checkpoint.tensor("classifier.bias")?;
        Ok(Self {
            shape: checkpoint.config.head.clone(),
            width: checkpoint.config.word_width(),
            classifier: Panels::linear(weight, bias),
        })
    }

    /// The scores of each tag before softmax, for the [features](Encoder::features) of words:
    /// row-major [words, tags].
    pub(crate) fn scores(&self, sentences: &[&Encoded], features: &[f32]) -> Vec<f32> {
        let window = self.width * self.shape.window();
        let mut read = Vec::with_capacity(features.len() * self.shape.window());
        let counts = sentences.iter().map(|sentence| sentence.words());
        for own in words::by_sentence(counts, features, self.width) {
            words::append_with_neighbours(&self.shape, own, self.width, &mut read);
        }
        let (count, tags) = (read.len() / window, self.classifier.output());
        let mut scores = vec![0.0; count * tags];
        let rows = Rows::whole(&read, window);
        self.classifier.product(rows, count, &mut scores, tags);
        scores
    }
}

/// The rows of the words' first sub-tokens.
fn marked(sentences: &[&Encoded]) -> Vec<usize> {
    let (mut start, mut marked) = (0, Vec::new());
    for sentence in sentences {
        marked.extend(sentence.first.iter().flatten().map(|first| start + first));
        start += sentence.ids.len();
    }
    marked
}
