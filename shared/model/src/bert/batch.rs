//! Sentences of one batch as tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::Encoded;

/// Sentences padded to the longest of them.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Word pieces: [sentences, length].
    pub(super) ids: Tensor<2, Int>,
    /// Added to attention scores: 0 for a sub-token, a large negative number for padding,
    /// [sentences, 1, 1, length]. `None` where nothing is padded.
    pub(super) mask: Option<Tensor<4>>,
    /// The sub-tokens to tag, as indices into the flattened [sentences × length].
    pub(super) marked: Tensor<1, Int>,
    /// How many sub-tokens are marked.
    pub(crate) count: usize,
}

/// exp(MASKED - x) is zero in f32 for every score x that a model can have.
const MASKED: f32 = -1e9;

impl Batch {
    /// The batch of `sentences`, every word's first sub-token marked, sentence by sentence.
    pub(crate) fn new(sentences: &[&Encoded], padding: usize, device: &Device) -> Self {
        let length = sentences
            .iter()
            .map(|s| s.ids.len())
            .max()
            .unwrap_or(1)
            .max(1);
        let size = sentences.len() * length;
        let mut ids = vec![padding as i32; size];
        let mut mask = vec![MASKED; size];
        let mut marked = Vec::new();
        for (row, sentence) in sentences.iter().enumerate() {
            let start = row * length;
            for (column, id) in sentence.ids.iter().enumerate() {
                ids[start + column] = *id as i32;
                mask[start + column] = 0.0;
            }
            marked.extend(sentence.first.iter().flatten().map(|f| (start + f) as i32));
        }
        let padded = mask.iter().any(|value| *value < 0.0);
        let shape = [sentences.len(), 1, 1, length];
        let count = marked.len();
        Self {
            ids: Tensor::from_data(TensorData::new(ids, [sentences.len(), length]), device),
            mask: padded.then(|| Tensor::from_data(TensorData::new(mask, shape), device)),
            marked: Tensor::from_data(TensorData::new(marked, [count]), device),
            count,
        }
    }
}
