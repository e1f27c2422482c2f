//! The coordinates in which a cohort takes its steps: they follow from layers that no step changes.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use fedner_host::machine::blocking;
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{self, Standardiser};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::{Manifest, TensorSpec};
use fedner_shared::version::Version;

use super::files::{configuration, layout_of};
use crate::aggregate;
use crate::blobs::{Blobs, Verified};
use crate::engine::Failure;

/// Models whose coordinates are kept.
const KEPT: usize = 8;

/// Those of models that were asked for last, by configuration and frozen weights.
#[derive(Debug)]
pub struct Coordinates(quick_cache::sync::Cache<[Digest; 2], Arc<Standardiser>>);

impl Default for Coordinates {
    fn default() -> Self {
        Self(quick_cache::sync::Cache::new(KEPT))
    }
}

impl Coordinates {
    /// Those of a version's head. Its frozen weights are read once, to their end, so that their digest is verified.
    pub(super) async fn of(
        &self,
        version: &Version,
        blobs: &Blobs,
    ) -> Result<Arc<Standardiser>, Failure> {
        let digest = version.frozen.unwrap_or(version.weights);
        let key = [version.config, digest];
        if let Some(known) = self.0.get(&key) {
            return Ok(known);
        }
        let config = configuration(version, blobs).await?;
        let file = blobs.open_file(digest).await?;
        let found = blocking(move || read(&config, file, digest)).await??;
        let found = Arc::new(found);
        self.0.insert(key, found.clone());
        Ok(found)
    }
}

fn read(config: &BertConfig, file: File, digest: Digest) -> Result<Standardiser, aggregate::Error> {
    let layout = layout_of(&file)?;
    let mut places = Vec::new();
    for name in Standardiser::tensors(config) {
        let spec = TensorSpec::new(name.clone(), [config.hidden_size]);
        let segments = layout.segments(&Manifest::new(vec![spec]))?;
        places.extend(segments.first().map(|(offset, _)| (*offset, name)));
    }
    places.sort();
    let (mut reader, mut position) = (Verified::new(file, digest), 0);
    let mut tensors = Vec::new();
    for (offset, name) in places {
        io::copy(
            &mut reader.by_ref().take(offset - position),
            &mut io::sink(),
        )?;
        let mut bytes = vec![0; 4 * config.hidden_size];
        reader.read_exact(&mut bytes)?;
        position = offset + bytes.len() as u64;
        let values = bytes.as_chunks::<4>().0.iter();
        let values: Vec<f32> = values.map(|bytes| f32::from_le_bytes(*bytes)).collect();
        tensors.push((name, values));
    }
    io::copy(&mut reader, &mut io::sink())?;
    let tensor = |name: &str| {
        let found = tensors.iter().find(|(own, _)| own == name);
        found
            .map(|(_, values)| values.as_slice())
            .ok_or_else(|| checkpoint::Error::Missing(name.to_owned()))
    };
    Ok(Standardiser::new(config, tensor)?)
}
