//! Hidden states on their way up through the layers.

use burn::tensor::{Tensor, TensorData};

use super::{Batch, values};
use crate::Error;

/// What the embeddings and the lowest layers made of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Hidden {
    /// Layers that they have come through.
    pub(super) layer: usize,
    /// [rows, hidden]
    pub(super) rows: Tensor<2>,
    /// Of the marked sub-tokens, those that the head reads of the layers so far: each
    /// [marked, hidden].
    pub(super) read: Vec<Tensor<2>>,
}

impl Hidden {
    /// Of each sentence by itself: first its sub-tokens' rows, without padding, then of each layer
    /// read its marked ones'.
    pub(crate) fn of_sentences(self, batch: &Batch) -> Result<Vec<Vec<f32>>, Error> {
        let [_, size] = self.rows.dims();
        let rows = values(self.rows)?;
        let padded = rows.chunks_exact(batch.length * size);
        let mut sentences: Vec<Vec<f32>> = padded
            .zip(batch.lengths.iter())
            .map(|(rows, own)| rows[..own * size].to_vec())
            .collect();
        for read in self.read {
            let read = values(read)?;
            for (sentence, own) in sentences.iter_mut().zip(batch.by_sentence(&read, size)) {
                sentence.extend_from_slice(own);
            }
        }
        Ok(sentences)
    }

    /// The way back to a batch of sentences of which each has the rows of `layer` and of `reads`
    /// layers read, all `size` wide; on a tape. Padding gets zeros, which nothing attends to.
    pub(crate) fn of_batch(
        sentences: &[Vec<f32>],
        batch: &Batch,
        (layer, reads, size): (usize, usize, usize),
    ) -> Self {
        let device = batch.marked.device();
        let count = batch.sentences() * batch.length;
        let mut rows = Vec::with_capacity(count * size);
        let mut read = vec![Vec::with_capacity(batch.count * size); reads];
        for (number, sentence) in sentences.iter().enumerate() {
            let (own, mut rest) = sentence.split_at(batch.lengths[number] * size);
            rows.extend_from_slice(own);
            rows.resize((number + 1) * batch.length * size, 0.0);
            for read in &mut read {
                let (own, others) = rest.split_at(batch.words[number] * size);
                read.extend_from_slice(own);
                rest = others;
            }
        }
        let tensor = |values, rows| {
            Tensor::from_data(TensorData::new(values, [rows, size]), &device).autodiff()
        };
        Self {
            layer,
            rows: tensor(rows, count),
            read: read
                .into_iter()
                .map(|read| tensor(read, batch.count))
                .collect(),
        }
    }
}
