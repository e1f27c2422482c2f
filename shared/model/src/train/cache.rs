//! Rows of numbers that frozen layers made of each example, once for all epochs and, kept on disk,
//! for later trainings on the same text.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::digest::Digest;
use fedner_shared::seal::{FileKey, ID, OVERHEAD, StorageKey};
use rayon::prelude::*;

use super::examples::Example;
use super::kept_files::{self, KeptFiles};
use super::observer::{Observer, Progress, Stage};
use crate::bert::{Batch, Bert};
use crate::device::Device;
use crate::{Encoded, Error, words};

/// Bytes before the first example of a sealed file: the name of its key, and a record without contents.
const HEADER: u64 = (ID + OVERHEAD) as u64;
/// Sentences that run before what they gave is written.
const AT_A_TIME: usize = 64;

/// How the layers run over a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    /// Sentences of about the same length together, which is faster.
    Batches,
    /// Each by itself, so that its numbers are the same to the last bit whatever else is in the
    /// corpus: the sensitivity of a private sum leaves no room for the rounding of others.
    Alone,
}

impl Grouping {
    /// Sentences that run together.
    fn sentences(self) -> usize {
        match self {
            Self::Batches => 32,
            Self::Alone => 1,
        }
    }
}

/// What gives each of some sentences its numbers.
pub(super) type Run<'r> = Box<dyn Fn(&[&Encoded]) -> Result<Vec<Vec<f32>>, Error> + Sync + 'r>;

/// The frozen layers of a model, and a corpus that they run over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frozen<'a> {
    pub(super) base: &'a Checkpoint,
    pub(super) examples: &'a [Example],
    pub(super) device: Device,
    pub(super) grouping: Grouping,
}

/// Float32 of each example.
#[derive(Debug)]
pub(super) struct Cache {
    /// Before each example's first number, in numbers.
    starts: Vec<usize>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<f32>),
    /// Little-endian, read where it is asked for: memory does not grow with the corpus.
    Stored {
        file: Mutex<File>,
        path: PathBuf,
        /// With which each example's numbers are sealed.
        key: Option<FileKey>,
    },
}

impl<'a> Frozen<'a> {
    /// The same for numbers that [`inference`](crate::inference) makes on the processor: a sentence has
    /// the same ones in any company there.
    pub(super) fn read_without_a_tape(self) -> Self {
        let grouping = if self.device == Device::Cpu {
            Grouping::Batches
        } else {
            self.grouping
        };
        Self { grouping, ..self }
    }

    /// `run` over batches of tensors.
    pub(super) fn on_tensors(
        self,
        run: impl Fn(&Bert, &Batch) -> Result<Vec<Vec<f32>>, Error> + Sync + 'a,
    ) -> Result<Run<'a>, Error> {
        let device = self.device.plain();
        let bert = Bert::load(self.base, &device)?;
        let padding = self.base.config.pad_token_id;
        Ok(Box::new(move |sentences| {
            run(&bert, &Batch::new(sentences, padding, &device))
        }))
    }

    /// What is made of the examples, of which each has as many numbers as `lengths` says. It is found
    /// where `keep` says, under the name that `kind` and all that decides it give. Else what `load`
    /// returns makes it.
    pub(super) fn cached<'r>(
        self,
        (kind, layers): (&str, usize),
        lengths: impl Iterator<Item = usize>,
        keep: &KeptFiles,
        observer: &mut dyn Observer,
        load: impl FnOnce() -> Result<Run<'r>, Error>,
    ) -> Result<Cache, Error> {
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        let total = starts[self.examples.len()];
        let mut cache = Cache {
            starts,
            place: Place::Memory(Vec::new()),
        };
        let Some(directory) = &keep.features else {
            cache.place = Place::Memory(vec![0.0; total]);
            self.fill(&mut cache, observer, &load()?)?;
            return Ok(cache);
        };
        let path = directory.join(format!("{}.features", self.key(kind, layers, keep)?));
        let fault = |source| Error::Keep {
            file: path.clone(),
            source,
        };
        let stored = |file, key| Place::Stored {
            file: Mutex::new(file),
            path: path.clone(),
            key,
        };
        let sealed = keep.key.as_ref();
        let bytes = 4 * total as u64
            + sealed.map_or(0, |_| HEADER + (OVERHEAD * self.examples.len()) as u64);
        if let Some(file) = open_whole(&path, bytes).map_err(fault)? {
            match sealed {
                None => {
                    cache.place = stored(file, None);
                    return Ok(cache);
                }
                Some(key) => {
                    if let Some(key) = read_header(&file, key).map_err(fault)? {
                        cache.place = stored(file, Some(key));
                        return Ok(cache);
                    }
                }
            }
        }
        let temporary = path.with_extension("new");
        remove_others(directory).map_err(fault)?;
        let file = kept_files::private_file(&temporary).map_err(fault)?;
        file.set_len(bytes).map_err(fault)?;
        let key = sealed.map(|key| write_header(&file, key));
        cache.place = stored(file, key.transpose().map_err(fault)?);
        self.fill(&mut cache, observer, &load()?)?;
        cache.name(&temporary).map_err(fault)?;
        Ok(cache)
    }

    /// What decides the numbers: layers, text, device, and what runs together.
    fn key(self, kind: &str, layers: usize, keep: &KeptFiles) -> Result<Digest, Error> {
        let encoder = match keep.encoder {
            Some(name) => name,
            None => kept_files::digest_of_layers(self.base, layers)?,
        };
        let text = kept_files::digest_of_examples(self.examples, None);
        let (device, grouping) = (self.device, self.grouping);
        Ok(Digest::of(
            format!("{kind}/{encoder}/{text}/{device:?}/{grouping:?}").as_bytes(),
        ))
    }

    fn fill(
        self,
        cache: &mut Cache,
        observer: &mut dyn Observer,
        run: &Run<'_>,
    ) -> Result<(), Error> {
        let (examples, together) = (self.examples, self.grouping.sentences());
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by_key(|index| examples[*index].encoded.ids.len());
        let steps = order.len().div_ceil(together);
        let run = |batch: &[usize]| {
            let encoded: Vec<&Encoded> = batch.iter().map(|i| &examples[*i].encoded).collect();
            run(&encoded)
        };
        let mut step = 0;
        for sentences in order.chunks(AT_A_TIME) {
            // Small batches use the processors better side by side than one after another.
            let made: Vec<_> = sentences.par_chunks(together).map(run).collect();
            for (batch, made) in sentences.chunks(together).zip(made) {
                for (example, values) in batch.iter().zip(made?) {
                    cache.write(*example, &values)?;
                }
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

/// Those of `values`, of which every word has `width`, that are of each sentence.
pub(super) fn by_sentence(sentences: &[&Encoded], values: &[f32], width: usize) -> Vec<Vec<f32>> {
    let counts = sentences.iter().map(|sentence| sentence.words());
    let own = words::by_sentence(counts, values, width);
    own.map(<[f32]>::to_vec).collect()
}

impl Cache {
    /// Appends the numbers of an example.
    pub(super) fn read(&self, example: usize, values: &mut Vec<f32>) -> Result<(), Error> {
        let (start, end) = (self.starts[example], self.starts[example + 1]);
        match &self.place {
            Place::Memory(all) => values.extend_from_slice(&all[start..end]),
            Place::Stored { file, path, key } => {
                let more = key.as_ref().map_or(0, |_| OVERHEAD);
                let mut bytes = vec![0; 4 * (end - start) + more];
                let read = {
                    let file = file.lock().unwrap_or_else(PoisonError::into_inner);
                    read_at(&file, &mut bytes, place_of(start, example, key.as_ref()))
                };
                let opened = read.and_then(|()| match key {
                    Some(key) => key.open(example as u64, &mut bytes).map_err(|error| {
                        // It is made anew the next time.
                        let _ = fs::remove_file(path);
                        io::Error::new(io::ErrorKind::InvalidData, error)
                    }),
                    None => Ok(()),
                });
                opened.map_err(|source| Error::Keep {
                    file: path.clone(),
                    source,
                })?;
                let numbers = bytes.chunks_exact(4);
                values.extend(numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
        }
        Ok(())
    }

    fn write(&mut self, example: usize, values: &[f32]) -> Result<(), Error> {
        let (start, end) = (self.starts[example], self.starts[example + 1]);
        match &mut self.place {
            Place::Memory(all) => all[start..end].copy_from_slice(values),
            Place::Stored { file, path, key } => {
                let file = file.get_mut().unwrap_or_else(PoisonError::into_inner);
                let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                let sealed = match key {
                    Some(key) => key
                        .seal(example as u64, &mut bytes)
                        .map_err(io::Error::other),
                    None => Ok(()),
                };
                let place = place_of(start, example, key.as_ref());
                let written = sealed.and_then(|()| write_at(file, &bytes, place));
                written.map_err(|source| Error::Keep {
                    file: path.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Gives the file its name, now that it is whole.
    fn name(&mut self, temporary: &Path) -> io::Result<()> {
        if let Place::Stored { file, path, .. } = &mut self.place {
            let file = file.get_mut().unwrap_or_else(PoisonError::into_inner);
            file.sync_all()?;
            fs::rename(temporary, &*path)?;
            kept_files::sync(path.parent().unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }
}

/// Where an example's numbers stand.
fn place_of(start: usize, example: usize, key: Option<&FileKey>) -> u64 {
    let before = key.map_or(0, |_| HEADER + (OVERHEAD * example) as u64);
    4 * start as u64 + before
}

/// The key of the file, if it was sealed with this one.
fn read_header(file: &File, key: &StorageKey) -> io::Result<Option<FileKey>> {
    let (mut id, mut proof) = ([0; ID], vec![0; OVERHEAD]);
    read_at(file, &mut id, 0)?;
    read_at(file, &mut proof, ID as u64)?;
    let key = key.of_file(&id);
    Ok(key.open(u64::MAX, &mut proof).is_ok().then_some(key))
}

/// A new key for the file, and what shows that a reader has the same.
fn write_header(file: &File, key: &StorageKey) -> io::Result<FileKey> {
    let id = StorageKey::new_id().map_err(io::Error::other)?;
    let (key, mut proof) = (key.of_file(&id), Vec::new());
    key.seal(u64::MAX, &mut proof).map_err(io::Error::other)?;
    write_at(file, &[id.as_slice(), &proof].concat(), 0)?;
    Ok(key)
}

fn read_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
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

/// What was made of other text or by other layers, which would pile up.
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
