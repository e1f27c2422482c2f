//! Hugging Face checkpoints: read with all their spellings, written in one canonical form.
//!
//! The canonical form is a safetensors file of float32 tensors sorted by name, with the `bert.`
//! prefix, without pooler or pre-training heads, and with `classifier.*` (and `crf.*`) once labels
//! are known.

mod adapters;
mod begin;
mod card;
pub mod directory;
mod encoders;
mod head_rows;
mod json;
mod layers;
mod layout;
mod peft;
pub mod standardiser;
mod vocabulary;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, Normal};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};

use crate::bert::{self, BertConfig};
use crate::manifest::{Manifest, TensorSpec};
use crate::plan::Plan;
pub use adapters::PeftFiles;
pub use begin::HeadStart;
pub use card::ModelCard;
pub use directory::{Directory, DirectoryError};
pub use head_rows::KeptRows;
pub use json::{
    config_of_float32, config_with_additions, config_with_labels, config_with_layers,
    config_without_labels, tags_of_config,
};
pub use layers::LayersError;
pub use layout::Layout;
pub use standardiser::Standardiser;
pub use vocabulary::companions;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] bert::Error),
    #[error("model.safetensors cannot be read: {0}")]
    Syntax(#[from] safetensors::SafeTensorError),
    #[error("model.safetensors lacks the tensor `{0}`")]
    Missing(String),
    #[error("model.safetensors has `{name}` with shape {found:?}: expected {expected:?}")]
    Shape {
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error("model.safetensors has `{name}` of type {found}: expected F32, F16 or BF16")]
    Dtype { name: String, found: String },
    #[error("model.safetensors has a value that is not finite in `{0}`")]
    NotFinite(String),
    #[error("a model's JSON cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("a weights file cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// The weights of an encoder, and of a tagging head where there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub config: BertConfig,
    /// By canonical name: shape and row-major values.
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Checkpoint {
    /// Reads any Hugging Face BERT checkpoint: with or without the `bert.` prefix, pooler and
    /// pre-training heads, in float32, float16 or bfloat16, with LayerNorm as weight and bias or
    /// as gamma and beta.
    pub fn read(config_json: &str, safetensors: &[u8]) -> Result<Self, Error> {
        Self::read_parts(config_json, safetensors, None)
    }

    /// The same, from two files: what `safetensors` lacks is taken from `frozen`.
    pub fn read_parts(
        config_json: &str,
        safetensors: &[u8],
        frozen: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let config = BertConfig::parse(config_json)?;
        let parts = std::iter::once(safetensors).chain(frozen).map(Part::read);
        let parts: Vec<Part<'_>> = parts.collect::<Result<_, _>>()?;
        let find = |name: &str| {
            let found = parts.iter().find_map(|part| part.find(name).transpose());
            found.transpose()
        };
        let mut specs = config.encoder_tensors();
        specs.extend(config.adapter_tensors());
        if let Some(head) = find("classifier.weight")? {
            let tags = head.shape().first().copied();
            specs.extend(config.head_tensors(tags.unwrap_or_default()));
        }
        let mut tensors = BTreeMap::new();
        for spec in specs {
            let view = find(&spec.name)?.ok_or_else(|| Error::Missing(spec.name.clone()))?;
            let values = read_tensor(&spec, &view)?;
            tensors.insert(spec.name, (spec.shape, values));
        }
        Ok(Self { config, tensors })
    }

    /// Weights as given, for a model that was made here: `tensors` by canonical name.
    pub fn from_tensors(
        config: BertConfig,
        tensors: impl IntoIterator<Item = (TensorSpec, Vec<f32>)>,
    ) -> Self {
        let tensors = tensors
            .into_iter()
            .map(|(spec, values)| (spec.name, (spec.shape, values)));
        Self {
            config,
            tensors: tensors.collect(),
        }
    }

    /// An encoder with random weights, as BERT initialises them (Devlin et al. 2019, appendix A).
    pub fn random(config: BertConfig, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let tensors = config
            .encoder_tensors()
            .into_iter()
            .map(|spec| {
                let values = initial_values(&spec, config.initializer_range, &mut rng);
                (spec.name, (spec.shape, values))
            })
            .collect();
        Self { config, tensors }
    }

    /// How many tags the head has; `None` without a head.
    pub fn tags(&self) -> Option<usize> {
        self.tensors
            .get("classifier.bias")
            .map(|(_, values)| values.len())
    }

    /// The encoder alone.
    #[must_use]
    pub fn without_head(mut self) -> Self {
        self.tensors.retain(|name, _| !bert::is_of_head(name));
        self
    }

    /// The same encoder with a new head of `tags` tags, its weights drawn from `seed`.
    #[must_use]
    pub fn with_new_head(mut self, tags: usize, seed: u64) -> Self {
        self = self.without_head();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for spec in self.config.head_tensors(tags) {
            let values = initial_values(&spec, self.config.initializer_range, &mut rng);
            self.tensors.insert(spec.name, (spec.shape, values));
        }
        self
    }

    /// The same model with the head that a run of `plan` begins with. A private head begins at zero: small
    /// random weights would be noise beside that of its steps.
    #[must_use]
    pub fn with_head_for(self, plan: &Plan) -> Self {
        let mut model = self.with_new_head(plan.tags().len(), plan.seed);
        if plan.head_begins_at_zero() {
            for name in ["classifier.weight", "classifier.bias"] {
                if let Some((_, values)) = model.tensors.get_mut(name) {
                    values.fill(0.0);
                }
            }
        }
        model
    }

    /// The values of the tensor, row-major.
    pub fn tensor(&self, name: &str) -> Result<&[f32], Error> {
        match self.tensors.get(name) {
            Some((_, values)) => Ok(values),
            None => Err(Error::Missing(name.to_owned())),
        }
    }

    /// The weights of `manifest`, one tensor after another.
    pub fn flatten(&self, manifest: &Manifest) -> Result<Vec<f32>, Error> {
        let mut flat = Vec::with_capacity(manifest.dimension());
        for spec in &manifest.tensors {
            flat.extend_from_slice(self.tensor(&spec.name)?);
        }
        Ok(flat)
    }

    /// The same model with the weights of `manifest` replaced by `flat`.
    pub fn with_weights(mut self, manifest: &Manifest, flat: &[f32]) -> Result<Self, Error> {
        for (offset, spec) in manifest.segments() {
            let (_, values) = self
                .tensors
                .get_mut(&spec.name)
                .ok_or_else(|| Error::Missing(spec.name.clone()))?;
            let new = flat.get(offset..offset + spec.len());
            match new {
                Some(new) if new.len() == values.len() => values.copy_from_slice(new),
                Some(_) | None => {
                    return Err(Error::Shape {
                        name: spec.name.clone(),
                        expected: spec.shape.clone(),
                        found: vec![new.map_or(0, <[f32]>::len)],
                    });
                }
            }
        }
        Ok(self)
    }

    /// The same model with the tensors of a file; nothing if the file has others than those of `manifest`.
    pub fn with_tensors(
        mut self,
        manifest: &Manifest,
        safetensors: &[u8],
    ) -> Result<Option<Self>, Error> {
        let part = Part::read(safetensors)?;
        if part.names.len() != manifest.tensors.len() {
            return Ok(None);
        }
        for spec in &manifest.tensors {
            let view = part.find(&spec.name)?;
            let view = view.ok_or_else(|| Error::Missing(spec.name.clone()))?;
            let values = read_tensor(spec, &view)?;
            self.tensors
                .insert(spec.name.clone(), (spec.shape.clone(), values));
        }
        Ok(Some(self))
    }

    /// The canonical file. The same weights give the same bytes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let tensors = self.tensors.iter();
        serialize(tensors.map(|(name, tensor)| (name.as_str(), tensor)))
    }

    /// The model in two: the tensors of `manifest`, and all others.
    pub fn split(mut self, manifest: &Manifest) -> Result<(Self, Self), Error> {
        let mut part = BTreeMap::new();
        for spec in &manifest.tensors {
            let tensor = self.tensors.remove_entry(&spec.name);
            let (name, tensor) = tensor.ok_or_else(|| Error::Missing(spec.name.clone()))?;
            part.insert(name, tensor);
        }
        let part = Self {
            config: self.config.clone(),
            tensors: part,
        };
        Ok((part, self))
    }

    /// The names of its tensors.
    pub fn names(&self) -> BTreeSet<String> {
        self.tensors.keys().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

/// One safetensors file, its tensors by canonical name.
struct Part<'a> {
    file: SafeTensors<'a>,
    names: BTreeMap<String, String>,
}

impl<'a> Part<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let file = SafeTensors::deserialize(bytes)?;
        let names = file.names().into_iter();
        let names = names.map(|name| (canonical_name(name), name.to_owned()));
        Ok(Self {
            names: names.collect(),
            file,
        })
    }

    fn find(&self, name: &str) -> Result<Option<TensorView<'_>>, Error> {
        let name = self.names.get(name);
        Ok(name.map(|name| self.file.tensor(name)).transpose()?)
    }
}

/// A safetensors file of tensors in the order of their names.
fn serialize<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a (Vec<usize>, Vec<f32>))>,
) -> Result<Vec<u8>, Error> {
    let views = tensors.map(|(name, (shape, values))| (name, Floats { shape, values }));
    // transformers refuses a file that does not name its framework.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// A tensor in memory as a safetensors file has it; not copied where the bytes are the same.
struct Floats<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if cfg!(target_endian = "little") {
            return bytemuck::cast_slice(self.values).into();
        }
        let bytes = self.values.iter().flat_map(|value| value.to_le_bytes());
        bytes.collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

fn canonical_name(name: &str) -> String {
    let mut name = name;
    // What torch's wrappers for several devices and for compilation put before names.
    while let Some(rest) = WRAPPERS
        .iter()
        .find_map(|wrapper| name.strip_prefix(wrapper))
    {
        name = rest;
    }
    let name = name.replace("LayerNorm.gamma", "LayerNorm.weight");
    let name = name.replace("LayerNorm.beta", "LayerNorm.bias");
    if name.starts_with("embeddings.") || name.starts_with("encoder.") {
        return format!("bert.{name}");
    }
    name
}

const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

fn read_tensor(spec: &TensorSpec, view: &TensorView<'_>) -> Result<Vec<f32>, Error> {
    if view.shape() != spec.shape {
        let (expected, found) = (spec.shape.clone(), view.shape().to_vec());
        return Err(Error::Shape {
            name: spec.name.clone(),
            expected,
            found,
        });
    }
    let two = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    let bytes = view.data();
    let dtype = view.dtype();
    let values: Vec<f32> = if dtype == Dtype::F32 {
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    } else if dtype == Dtype::BF16 {
        bytes
            .chunks_exact(2)
            .map(|b| f32::from_bits(u32::from(two(b)) << 16))
            .collect()
    } else if dtype == Dtype::F16 {
        bytes.chunks_exact(2).map(|b| half_to_f32(two(b))).collect()
    } else {
        return Err(Error::Dtype {
            name: spec.name.clone(),
            found: format!("{dtype:?}"),
        });
    };
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::NotFinite(spec.name.clone()));
    }
    Ok(values)
}

/// IEEE 754 binary16 to binary32; exact.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * (-24f32).exp2(),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1024.0 + fraction) * ((exponent - 25) as f32).exp2(),
    }
}

/// LayerNorm starts at one and zero, biases at zero, other weights normal with deviation `range`.
fn initial_values(spec: &TensorSpec, range: f64, rng: &mut ChaCha20Rng) -> Vec<f32> {
    if spec.name.ends_with("LayerNorm.weight") {
        return vec![1.0; spec.len()];
    }
    if let Some(transitions) = bert::initial_transitions(spec) {
        return transitions;
    }
    if spec.name.ends_with("bias") {
        return vec![0.0; spec.len()];
    }
    match Normal::new(0.0, range) {
        Ok(normal) => (0..spec.len()).map(|_| normal.sample(rng) as f32).collect(),
        Err(_) => vec![0.0; spec.len()],
    }
}

#[cfg(test)]
mod tests;
