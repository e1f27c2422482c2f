//! Canonical files read without their weights.

use std::collections::BTreeMap;
use std::io::{self, Read};

use safetensors::tensor::Metadata;

use super::Error;
use crate::manifest::{Manifest, TensorSpec};

/// Where the tensors lie in a canonical file, so that it can be streamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The length of the file's header: the offset of the first weight.
    pub data_start: u64,
    /// By name: byte offset from the start of the file, and the number of weights.
    tensors: BTreeMap<String, (u64, usize)>,
}

impl Layout {
    /// Reads the header of a canonical file.
    pub fn read(mut reader: impl Read) -> Result<Self, Error> {
        let mut length = [0u8; 8];
        reader.read_exact(&mut length)?;
        let header_length = u64::from_le_bytes(length);
        if header_length > 100_000_000 {
            return Err(io::Error::other("the header is longer than 100 MB").into());
        }
        let mut header = Vec::new();
        reader.take(header_length).read_to_end(&mut header)?;
        let metadata: Metadata = serde_json::from_slice(&header)?;
        let data_start = 8 + header_length;
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (start, end) = info.data_offsets;
                (name, (data_start + start as u64, (end - start) / 4))
            })
            .collect();
        Ok(Self {
            data_start,
            tensors,
        })
    }

    /// Whether the file has the tensors of `manifest` and no others.
    pub fn is_of(&self, manifest: &Manifest) -> bool {
        let here = |spec: &TensorSpec| self.tensors.contains_key(&spec.name);
        self.tensors.len() == manifest.tensors.len() && manifest.tensors.iter().all(here)
    }

    /// Byte offset and number of weights of each tensor of `manifest`, in its order, adjacent
    /// tensors joined.
    pub fn segments(&self, manifest: &Manifest) -> Result<Vec<(u64, usize)>, Error> {
        let mut segments: Vec<(u64, usize)> = Vec::new();
        for spec in &manifest.tensors {
            let (offset, count) = *self
                .tensors
                .get(&spec.name)
                .ok_or_else(|| Error::Missing(spec.name.clone()))?;
            if count != spec.len() {
                let (expected, found) = (spec.shape.clone(), vec![count]);
                return Err(Error::Shape {
                    name: spec.name.clone(),
                    expected,
                    found,
                });
            }
            match segments.last_mut() {
                Some((start, length)) if *start + 4 * *length as u64 == offset => *length += count,
                _ => segments.push((offset, count)),
            }
        }
        Ok(segments)
    }
}
