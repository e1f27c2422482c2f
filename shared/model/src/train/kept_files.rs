//! What a training leaves on disk: files that are there as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fedner_shared::bert::{BertConfig, HeadShape, is_of_lowest};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::digest::Digest;
use fedner_shared::seal::StorageKey;

use super::examples::Example;
use super::tag_sets::TagSets;
use crate::Error;

/// Where a training keeps what would be costly to lose. What it keeps was made of private text:
/// the files are for their owner only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFiles {
    /// The training's checkpoint: written every so often and when the training is stopped, gone
    /// on from if it is there, removed at the end.
    pub checkpoint: Option<PathBuf>,
    pub every: Duration,
    /// A directory for what frozen layers make of a corpus, which the next training on the same
    /// text and layers uses again. It keeps that of one corpus.
    pub features: Option<PathBuf>,
    /// A name of the frozen encoder that no other has. Without one its weights are read to find one.
    pub encoder: Option<Digest>,
    /// With which both are sealed. Without one they are readable to whoever reads the files.
    pub key: Option<StorageKey>,
}

/// Nothing is kept.
pub(super) static NOTHING: KeptFiles = KeptFiles {
    checkpoint: None,
    every: Duration::from_mins(2),
    features: None,
    encoder: None,
    key: None,
};

impl Default for KeptFiles {
    /// Nothing is kept.
    fn default() -> Self {
        NOTHING.clone()
    }
}

/// Writes `path` through `contents`: durable before it has its name.
pub(super) fn write_whole(
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), Error> {
    let fault = |source| Error::Keep {
        file: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(fault)?;
    let temporary = path.with_extension("new");
    let write = || {
        let file = private_file(&temporary)?;
        let mut writer = BufWriter::with_capacity(1 << 20, &file);
        contents(&mut writer)?;
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync(directory)
    };
    write().map_err(fault)
}

/// Removes `path`, which need not be there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Keep {
            file: path.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

pub(super) fn sync(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The digest of a model with a head of so many tags.
pub(super) fn digest_of_model(base: &Checkpoint, tags: usize) -> Result<Digest, Error> {
    digest(base, &base.config, tags, |_| true)
}

/// The digest of a model's embeddings and lowest layers, whatever stands above them.
pub(super) fn digest_of_layers(base: &Checkpoint, layers: usize) -> Result<Digest, Error> {
    let encoder = BertConfig {
        adapters: None,
        head: HeadShape::default(),
        ..base.config.clone()
    };
    digest(base, &encoder, 0, |tensor| is_of_lowest(tensor, layers))
}

/// The digest of those tensors of a model as `config` describes it whose names `chosen` takes.
fn digest(
    base: &Checkpoint,
    config: &BertConfig,
    tags: usize,
    chosen: impl Fn(&str) -> bool,
) -> Result<Digest, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fedner_shared::digest::canonical_json(config));
    for spec in config.model_tensors(tags) {
        if chosen(&spec.name) {
            hasher.update(spec.name.as_bytes());
            update_with_floats(&mut hasher, base.tensor(&spec.name)?);
        }
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

fn update_with_floats(hasher: &mut blake3::Hasher, values: &[f32]) {
    let mut bytes = Vec::with_capacity(1 << 16);
    for values in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        hasher.update(&bytes);
    }
}

/// The digest of what a model sees of a corpus, with the tags to learn, where their sets are given. It is
/// the same whatever else has sets of tags.
pub(super) fn digest_of_examples<'a>(
    examples: impl IntoIterator<Item = &'a Example>,
    targets_of: Option<&TagSets>,
) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut add = |number: usize| {
        hasher.update(&(number as u64).to_le_bytes());
    };
    for Example {
        encoded, targets, ..
    } in examples
    {
        add(encoded.ids.len());
        for id in &encoded.ids {
            add(*id as usize);
        }
        add(encoded.first.len());
        for first in &encoded.first {
            add(first.map_or(0, |first| first + 1));
        }
        for target in targets.iter().filter(|_| targets_of.is_some()) {
            match targets_of.filter(|sets| !sets.is_single(*target)) {
                // A number that no tag has, and what the word may have instead.
                Some(sets) => {
                    add(usize::MAX - sets.of(*target).len());
                    sets.of(*target).iter().copied().for_each(&mut add);
                    let taught = sets.taught_of(*target);
                    let parts = taught.iter().flat_map(|taught| &taught.parts);
                    parts.for_each(|part| add(part.to_bits() as usize));
                }
                None => add(*target),
            }
        }
    }
    Digest::from_bytes(*hasher.finalize().as_bytes())
}
