//! Sentences of one batch as tensors.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use fedner_shared::bert::HeadShape;

use crate::{Encoded, words};

/// Sentences padded to the longest of them.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Word pieces, sentence by sentence; padding has an id too.
    pub(crate) ids: Vec<u32>,
    /// Sub-tokens of each sentence.
    pub(crate) lengths: Arc<[usize]>,
    /// Sub-tokens of the longest sentence.
    pub(crate) length: usize,
    /// The sub-tokens to tag, as indices into `ids`.
    pub(super) marked: Tensor<1, Int>,
    /// How many sub-tokens are marked in each sentence.
    pub(crate) words: Vec<usize>,
    /// How many are marked in all.
    pub(crate) count: usize,
}

impl Batch {
    /// The batch of `sentences`, every word's first sub-token marked.
    pub(crate) fn new(sentences: &[&Encoded], padding: usize, device: &Device) -> Self {
        let lengths: Arc<[usize]> = sentences.iter().map(|s| s.ids.len()).collect();
        let length = lengths.iter().copied().max().unwrap_or_default();
        let mut ids = Vec::with_capacity(sentences.len() * length);
        let (mut marked, mut words) = (Vec::new(), Vec::with_capacity(sentences.len()));
        for sentence in sentences {
            let (start, before) = (ids.len(), marked.len());
            marked.extend(sentence.first.iter().flatten().map(|f| (start + f) as i32));
            words.push(marked.len() - before);
            ids.extend_from_slice(&sentence.ids);
            ids.resize(start + length, padding as u32);
        }
        let count = marked.len();
        Self {
            ids,
            lengths,
            length,
            marked: Tensor::from_data(TensorData::new(marked, [count]), device),
            words,
            count,
        }
    }

    /// For each marked sub-token those that `head` reads, as places among all that are marked;
    /// [`count`](Self::count) where the sentence has none.
    pub(super) fn neighbours(&self, head: &HeadShape) -> Vec<usize> {
        let mut neighbours = Vec::with_capacity(self.count * head.window());
        let mut first = 0;
        for words in &self.words {
            for word in 0..*words {
                let read = head.neighbours(word, *words);
                neighbours
                    .extend(read.map(|place| place.map_or(self.count, |place| first + place)));
            }
            first += words;
        }
        neighbours
    }

    /// Those of `values`, of which every marked sub-token has `width`, that are of each sentence.
    pub(crate) fn by_sentence<'v>(
        &self,
        values: &'v [f32],
        width: usize,
    ) -> impl Iterator<Item = &'v [f32]> {
        words::by_sentence(self.words.iter().copied(), values, width)
    }

    pub(crate) fn sentences(&self) -> usize {
        self.lengths.len()
    }

    /// The word piece of every sub-token, with its index into `ids`; padding left out.
    pub(crate) fn sub_tokens(&self) -> impl Iterator<Item = (usize, u32)> {
        let rows = self.lengths.iter().enumerate();
        rows.flat_map(|(sentence, own)| {
            let start = sentence * self.length;
            (start..start + own).map(|index| (index, self.ids[index]))
        })
    }
}
