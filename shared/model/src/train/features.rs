//! What a frozen encoder makes of a corpus, once for all epochs and, kept on disk, for later
//! trainings on the same text.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use fedner_shared::bert::{HeadShape, is_of_head};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::digest::Digest;
use rayon::prelude::*;

use super::examples::Example;
use super::keep::{self, Keep};
use super::{Observer, Progress, Stage};
use crate::bert::{Batch, Bert, Dropout, values};
use crate::device::Device;
use crate::{Encoded, Error};

/// Sentences whose features are made before they are written.
const AT_A_TIME: usize = 64;

/// How the encoder runs over a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    /// Sentences of about the same length together, which is faster.
    Batches,
    /// Each by itself, so that its features are the same to the last bit whatever else is in the
    /// corpus: the sensitivity of a private sum leaves no room for the rounding of others.
    Alone,
}

impl Grouping {
    /// Sentences whose features are made together.
    fn sentences(self) -> usize {
        match self {
            Self::Batches => 32,
            Self::Alone => 1,
        }
    }
}

/// What the encoder makes of each example's words: row-major [words, width].
#[derive(Debug)]
pub(super) struct Features {
    width: usize,
    head: HeadShape,
    /// Before each example's first row, in rows.
    starts: Vec<usize>,
    rows: Rows,
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
        let mut rest = self.targets.as_slice();
        let sentences = self.counts.iter().map(|count| {
            let (own, others) = rest.split_at(*count);
            rest = others;
            own
        });
        sentences.collect()
    }
}

#[derive(Debug)]
enum Rows {
    Memory(Vec<f32>),
    /// Little-endian float32, read where it is asked for: memory does not grow with the corpus.
    Stored {
        file: File,
        path: PathBuf,
    },
}

impl Features {
    /// Finds the features of these examples where `keep` says, or computes them.
    pub(super) fn prepare(
        base: &Checkpoint,
        examples: &[Example],
        (device, grouping): (Device, Grouping),
        keep: &Keep,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let width = base.config.word_width();
        let mut starts = vec![0];
        for example in examples {
            starts.push(starts[starts.len() - 1] + example.targets.len());
        }
        let total = starts[examples.len()];
        let mut features = Self {
            width,
            head: base.config.head.clone(),
            starts,
            rows: Rows::Memory(Vec::new()),
        };
        let Some(directory) = &keep.features else {
            features.rows = Rows::Memory(vec![0.0; total * width]);
            features.compute(base, examples, (device, grouping), observer)?;
            return Ok(features);
        };
        let path = directory.join(format!(
            "{}.features",
            key(base, examples, device, grouping)?
        ));
        let fault = |source| Error::Keep {
            file: path.clone(),
            source,
        };
        let bytes = 4 * (total * width) as u64;
        if let Some(file) = open_whole(&path, bytes).map_err(fault)? {
            let path = path.clone();
            features.rows = Rows::Stored { file, path };
            return Ok(features);
        }
        let temporary = path.with_extension("new");
        remove_others(directory).map_err(fault)?;
        let file = keep::private_file(&temporary).map_err(fault)?;
        file.set_len(bytes).map_err(fault)?;
        features.rows = Rows::Stored {
            file,
            path: path.clone(),
        };
        features.compute(base, examples, (device, grouping), observer)?;
        features.name(&temporary).map_err(fault)?;
        Ok(features)
    }

    /// Appends the rows of an example.
    fn read(&self, example: usize, rows: &mut Vec<f32>) -> Result<(), Error> {
        let start = self.starts[example] * self.width;
        let end = self.starts[example + 1] * self.width;
        match &self.rows {
            Rows::Memory(all) => rows.extend_from_slice(&all[start..end]),
            Rows::Stored { file, path } => {
                let mut bytes = vec![0; 4 * (end - start)];
                read_at(file, &mut bytes, 4 * start as u64).map_err(|source| Error::Keep {
                    file: path.clone(),
                    source,
                })?;
                let values = bytes.chunks_exact(4);
                rows.extend(values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
        }
        Ok(())
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
                self.read(*index, &mut words.rows)?;
            } else {
                own.clear();
                self.read(*index, &mut own)?;
                self.with_neighbours(&own, &mut words.rows);
            }
            words.targets.extend_from_slice(&all[*index].targets);
            words.counts.push(all[*index].targets.len());
        }
        Ok(words)
    }

    /// Appends the rows of an example's words with those of their neighbours side by side, zero
    /// where the example ends.
    fn with_neighbours(&self, own: &[f32], rows: &mut Vec<f32>) {
        let (width, nothing) = (self.width, vec![0.0; self.width]);
        let count = own.len() / width;
        for word in 0..count {
            for place in self.head.neighbours(word, count) {
                let row = place.map(|place| &own[place * width..(place + 1) * width]);
                rows.extend_from_slice(row.unwrap_or(&nothing));
            }
        }
    }

    fn write(&mut self, example: usize, values: &[f32]) -> Result<(), Error> {
        let start = self.starts[example] * self.width;
        match &mut self.rows {
            Rows::Memory(all) => all[start..start + values.len()].copy_from_slice(values),
            Rows::Stored { file, path } => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                write_at(file, &bytes, 4 * start as u64).map_err(|source| Error::Keep {
                    file: path.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn write_batch(
        &mut self,
        batch: &[usize],
        examples: &[Example],
        flat: &[f32],
    ) -> Result<(), Error> {
        let mut rest = flat;
        for index in batch {
            let (own, others) = rest.split_at(examples[*index].targets.len() * self.width);
            self.write(*index, own)?;
            rest = others;
        }
        Ok(())
    }

    /// Gives the file its name, now that it is whole.
    fn name(&self, temporary: &Path) -> io::Result<()> {
        if let Rows::Stored { file, path } = &self.rows {
            file.sync_all()?;
            fs::rename(temporary, path)?;
            keep::sync(path.parent().unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn compute(
        &mut self,
        base: &Checkpoint,
        examples: &[Example],
        (device, grouping): (Device, Grouping),
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let device = device.plain();
        let bert = Bert::load(base, &device)?;
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by_key(|index| examples[*index].encoded.ids.len());
        let together = grouping.sentences();
        let steps = order.len().div_ceil(together);
        let features = |batch: &[usize]| {
            let encoded: Vec<&Encoded> = batch.iter().map(|i| &examples[*i].encoded).collect();
            let tensors = Batch::new(&encoded, base.config.pad_token_id, &device);
            let words = bert.look_up(&tensors);
            values(bert.features(words, &tensors, &mut Dropout::none()))
        };
        let mut step = 0;
        for sentences in order.chunks(AT_A_TIME) {
            // Small batches use the processors better side by side than one after another.
            let made: Vec<_> = sentences.par_chunks(together).map(features).collect();
            for (batch, flat) in sentences.chunks(together).zip(made) {
                self.write_batch(batch, examples, &flat?)?;
                step += 1;
                let progress = Progress {
                    stage: Stage::Features,
                    epoch: 0,
                    step,
                    steps,
                    loss: 0.0,
                    learning_rate: 0.0,
                    sentences: batch.len(),
                };
                if observer.step(progress).is_break() {
                    return Err(Error::Stopped { step, steps });
                }
            }
        }
        Ok(())
    }
}

fn read_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

/// What decides the features: encoder, text, device, and what runs together.
fn key(
    base: &Checkpoint,
    examples: &[Example],
    device: Device,
    grouping: Grouping,
) -> Result<Digest, Error> {
    let encoder = keep::digest_of_weights(base, 0, |name| !is_of_head(name))?;
    let text = keep::digest_of_examples(examples, false);
    let read = base.config.read_layers();
    Ok(Digest::of(
        format!("{encoder}/{text}/{device:?}/{grouping:?}/{read:?}").as_bytes(),
    ))
}

/// A file of another length was left by a machine that went down.
fn open_whole(path: &Path, bytes: u64) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) if file.metadata()?.len() == bytes => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The features of other text or other encoders, which would pile up.
fn remove_others(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|e| e == "features" || e == "new")
        {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
