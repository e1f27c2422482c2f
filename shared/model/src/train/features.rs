//! What a frozen encoder makes of a corpus's words, for the head to learn from.

use fedner_shared::bert::HeadShape;

use super::cache::{Cache, Frozen, Run, by_sentence};
use super::examples::Example;
use super::kept_files::KeptFiles;
use super::observer::Observer;
use crate::Error;
use crate::bert::{Dropout, values};
use crate::device::Device;
use crate::inference::Encoder;
use crate::words::{self, append_with_neighbours};

/// What the encoder makes of each example's words: row-major [words, width].
#[derive(Debug)]
pub(super) struct Features {
    width: usize,
    head: HeadShape,
    cache: Cache,
}

/// What the head reads of some words, and their tags.
#[derive(Debug)]
pub(super) struct Words {
    width: usize,
    /// Row-major, [words, width].
    pub(super) rows: Vec<f32>,
    /// As indices into the tags.
    targets: Vec<usize>,
    /// Words of each example.
    counts: Vec<usize>,
}

impl Words {
    /// Each word's features with its tag.
    pub(super) fn pairs(&self) -> Vec<(&[f32], usize)> {
        let rows = self.rows.chunks_exact(self.width);
        rows.zip(self.targets.iter().copied()).collect()
    }

    /// The tags of each example.
    pub(super) fn sentences(&self) -> Vec<&[usize]> {
        words::by_sentence(self.counts.iter().copied(), &self.targets, 1).collect()
    }
}

impl Features {
    /// Finds the features of a corpus where `keep` says, or computes them.
    pub(super) fn prepare(
        frozen: Frozen<'_>,
        keep: &KeptFiles,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let config = &frozen.base.config;
        let (width, read) = (config.word_width(), config.read_layers());
        let last = read.last().copied().unwrap_or_default();
        let kind = format!("words, no padding, on {read:?}");
        let lengths = frozen.examples.iter();
        let lengths = lengths.map(|example| example.targets.len() * width);
        let frozen = frozen.read_without_a_tape();
        let load = || -> Result<Run<'_>, Error> {
            if frozen.device == Device::Cpu {
                let encoder = Encoder::load(frozen.base)?;
                return Ok(Box::new(move |sentences| {
                    Ok(by_sentence(sentences, &encoder.features(sentences), width))
                }));
            }
            frozen.on_tensors(move |bert, batch| {
                let features = bert.features(bert.begin(batch), batch, &mut Dropout::none());
                let features = values(features)?;
                let own = batch.by_sentence(&features, width);
                Ok(own.map(<[f32]>::to_vec).collect())
            })
        };
        let cache = frozen.cached((&kind, last), lengths, keep, observer, load)?;
        Ok(Self {
            width,
            head: config.head.clone(),
            cache,
        })
    }

    /// What there is to learn from some examples together.
    pub(super) fn words(&self, all: &[Example], chosen: &[usize]) -> Result<Words, Error> {
        let mut words = Words {
            width: self.width * self.head.window(),
            rows: Vec::new(),
            targets: Vec::new(),
            counts: Vec::with_capacity(chosen.len()),
        };
        let mut own = Vec::new();
        for index in chosen {
            if self.head.context == 0 {
                self.cache.read(*index, &mut words.rows)?;
            } else {
                own.clear();
                self.cache.read(*index, &mut own)?;
                append_with_neighbours(&self.head, &own, self.width, &mut words.rows);
            }
            words.targets.extend_from_slice(&all[*index].targets);
            words.counts.push(all[*index].targets.len());
        }
        Ok(words)
    }
}
