//! Hidden states between frozen layers and trained ones: what a corpus becomes in the former is
//! made once, as for a frozen encoder, and training goes on from there.

use fedner_shared::plan::Training;

use super::cache::{Cache, Frozen};
use super::examples::Example;
use super::kept_files::KeptFiles;
use super::observer::Observer;
use crate::Error;
use crate::bert::{Batch, Dropout, Hidden};

#[derive(Debug)]
pub(super) struct FrozenLayers {
    /// Frozen layers.
    layers: usize,
    /// Those of them that the head reads, the embeddings included.
    reads: usize,
    /// The hidden size.
    size: usize,
    cache: Cache,
}

impl FrozenLayers {
    /// `None` where no whole layer is frozen below the last that the head reads, or where
    /// activations are dropped, others in each epoch.
    pub(super) fn prepare(
        frozen: Frozen<'_>,
        (training, dropout): (&Training, f64),
        keep: &KeptFiles,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>, Error> {
        let config = &frozen.base.config;
        let read = config.read_layers();
        // The last layer that is read runs for the words only, even if frozen.
        let below = read.last().map_or(0, |last| last.saturating_sub(1));
        let layers = training.freeze_layers.min(below);
        if layers == 0 || dropout > 0.0 {
            return Ok(None);
        }
        let reads: Vec<usize> = read.into_iter().filter(|read| *read <= layers).collect();
        let size = config.hidden_size;
        let numbers = |example: &Example| {
            size * (example.encoded.ids.len() + reads.len() * example.targets.len())
        };
        let load = || {
            frozen.on_tensors(move |bert, batch| {
                let hidden = bert.rise(bert.begin(batch), layers, batch, &mut Dropout::none());
                hidden.of_sentences(batch)
            })
        };
        let lengths = frozen.examples.iter().map(numbers);
        let kind = format!("sub-tokens, words on {reads:?}");
        let cache = frozen.cached((&kind, layers), lengths, keep, observer, load)?;
        Ok(Some(Self {
            layers,
            reads: reads.len(),
            size,
            cache,
        }))
    }

    /// The hidden states of a batch of the examples `chosen`, on a tape.
    pub(super) fn hidden(&self, chosen: &[usize], batch: &Batch) -> Result<Hidden, Error> {
        let read = |example: &usize| {
            let mut values = Vec::new();
            self.cache.read(*example, &mut values)?;
            Ok(values)
        };
        let sentences: Vec<Vec<f32>> = chosen.iter().map(read).collect::<Result<_, Error>>()?;
        let shape = (self.layers, self.reads, self.size);
        Ok(Hidden::of_batch(&sentences, batch, shape))
    }
}
