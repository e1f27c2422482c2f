//! Hugging Face checkpoints: read with all their spellings, written in one canonical form.
//!
//! The canonical form is a safetensors file of float32 tensors sorted by name, with the `bert.`
//! prefix, without pooler or pre-training heads, and with `classifier.*` once labels are known.

use std::collections::BTreeMap;
use std::io::{self, Read};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, Normal};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::bert::{self, BertConfig};
use crate::manifest::{Manifest, TensorSpec};

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
        let config = BertConfig::parse(config_json)?;
        let file = SafeTensors::deserialize(safetensors)?;
        let names: BTreeMap<String, String> = file
            .names()
            .into_iter()
            .map(|name| (canonical_name(name), name.to_owned()))
            .collect();
        let mut tensors = BTreeMap::new();
        for spec in config.encoder_tensors() {
            let name = names
                .get(&spec.name)
                .ok_or_else(|| Error::Missing(spec.name.clone()))?;
            let values = read_tensor(&spec, &file.tensor(name)?)?;
            tensors.insert(spec.name, (spec.shape, values));
        }
        if let Some(name) = names.get("classifier.weight") {
            let tags = file
                .tensor(name)?
                .shape()
                .first()
                .copied()
                .unwrap_or_default();
            for spec in config.head_tensors(tags) {
                let name = names
                    .get(&spec.name)
                    .ok_or_else(|| Error::Missing(spec.name.clone()))?;
                let values = read_tensor(&spec, &file.tensor(name)?)?;
                tensors.insert(spec.name, (spec.shape, values));
            }
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
        self.tensors
            .retain(|name, _| !name.starts_with("classifier."));
        self
    }

    /// The same encoder with a new head of `tags` tags, its weights drawn from `seed`.
    #[must_use]
    pub fn with_new_head(mut self, tags: usize, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for spec in self.config.head_tensors(tags) {
            let values = initial_values(&spec, self.config.initializer_range, &mut rng);
            self.tensors.insert(spec.name, (spec.shape, values));
        }
        self
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

    /// The canonical file. The same weights give the same bytes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let bytes: BTreeMap<&str, (&[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| {
                let bytes = values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                (name.as_str(), (shape.as_slice(), bytes))
            })
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, (shape, bytes)) in &bytes {
            views.push((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?));
        }
        // transformers refuses a file that does not name its framework.
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        Ok(safetensors::serialize(views, Some(metadata))?)
    }
}

/// `config.json` for a token classifier with `labels`, every other field kept.
pub fn config_with_labels(config_json: &str, labels: &[String]) -> Result<String, Error> {
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(config_json)?;
    let tags = bert::tags(labels);
    let id2label: serde_json::Map<String, Value> = tags
        .iter()
        .enumerate()
        .map(|(id, tag)| (id.to_string(), json!(tag)))
        .collect();
    let label2id: serde_json::Map<String, Value> = tags
        .iter()
        .enumerate()
        .map(|(id, tag)| (tag.clone(), json!(id)))
        .collect();
    config.insert(
        "architectures".into(),
        json!(["BertForTokenClassification"]),
    );
    config.insert("id2label".into(), Value::Object(id2label));
    config.insert("label2id".into(), Value::Object(label2id));
    // A stale count would contradict the maps; transformers derives it from them.
    config.remove("num_labels");
    config.insert("torch_dtype".into(), json!("float32"));
    Ok(serde_json::to_string_pretty(&config)?)
}

/// The tags that `config.json` lists in `id2label`, in order; `None` where it lists none.
pub fn tags_of_config(config_json: &str) -> Result<Option<Vec<String>>, Error> {
    let config: Value = serde_json::from_str(config_json)?;
    let Some(map) = config.get("id2label").and_then(Value::as_object) else {
        return Ok(None);
    };
    let tag = |id: usize| {
        map.get(&id.to_string())
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Ok((0..map.len()).map(tag).collect())
}

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

fn canonical_name(name: &str) -> String {
    let name = name.replace("LayerNorm.gamma", "LayerNorm.weight");
    let name = name.replace("LayerNorm.beta", "LayerNorm.bias");
    if name.starts_with("embeddings.") || name.starts_with("encoder.") {
        return format!("bert.{name}");
    }
    name
}

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
    if spec.name.ends_with("bias") {
        return vec![0.0; spec.len()];
    }
    match Normal::new(0.0, range) {
        Ok(normal) => (0..spec.len()).map(|_| normal.sample(rng) as f32).collect(),
        Err(_) => vec![0.0; spec.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Method;

    const TINY: &str = r#"{"model_type":"bert","vocab_size":11,"hidden_size":4,
        "num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,
        "max_position_embeddings":16,"extra":"kept"}"#;

    fn tiny() -> Checkpoint {
        Checkpoint::random(BertConfig::parse(TINY).expect("config"), 1)
    }

    fn rewritten(rename: impl Fn(&str) -> Option<String>) -> Vec<u8> {
        let checkpoint = tiny();
        let mut data: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, (shape, values)) in &checkpoint.tensors {
            if let Some(name) = rename(name) {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                data.push((name, shape.clone(), bytes));
            }
        }
        let views = data.iter().map(|(name, shape, bytes)| {
            (
                name.clone(),
                TensorView::new(Dtype::F32, shape.clone(), bytes).expect("view"),
            )
        });
        safetensors::serialize(views, None).expect("file")
    }

    #[test]
    fn old_spellings_read_as_the_same_weights() {
        let plain = rewritten(|name| Some(name.trim_start_matches("bert.").to_owned()));
        assert_eq!(Checkpoint::read(TINY, &plain).expect("no prefix"), tiny());
        let legacy = rewritten(|name| {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
            Some(name.replace("LayerNorm.bias", "LayerNorm.beta"))
        });
        assert_eq!(
            Checkpoint::read(TINY, &legacy).expect("gamma and beta"),
            tiny()
        );
    }

    #[test]
    fn a_missing_tensor_and_a_wrong_shape_are_named() {
        let name = "bert.encoder.layer.0.output.dense.bias";
        let lacking = rewritten(|n| (n != name).then(|| n.to_owned()));
        let error = Checkpoint::read(TINY, &lacking).expect_err("lacking");
        assert!(matches!(error, Error::Missing(found) if found == name));
        let wider = TINY.replace("\"intermediate_size\":8", "\"intermediate_size\":9");
        let error =
            Checkpoint::read(&wider, &rewritten(|n| Some(n.to_owned()))).expect_err("shape");
        assert!(matches!(error, Error::Shape { .. }), "{error}");
        assert!(Checkpoint::read(TINY, b"not safetensors").is_err());
    }

    #[test]
    fn the_canonical_file_is_ordered_like_the_manifest() {
        let checkpoint = tiny().with_new_head(3, 9);
        let bytes = checkpoint.to_safetensors().expect("file");
        assert_eq!(bytes, checkpoint.to_safetensors().expect("again"));
        let layout = Layout::read(&bytes[..]).expect("layout");
        let manifest = checkpoint.config.manifest(Method::Full, 3);
        let segments = layout.segments(&manifest).expect("segments");
        assert_eq!(segments, [(layout.data_start, manifest.dimension())]);
        let flat = checkpoint.flatten(&manifest).expect("flat");
        let start = layout.data_start as usize;
        assert_eq!(bytes[start..start + 4], flat[0].to_le_bytes());
        let read = Checkpoint::read(TINY, &bytes).expect("read back");
        assert_eq!((read.tags(), &read), (Some(3), &checkpoint));
    }

    #[test]
    fn halves_convert_exactly() {
        for (bits, value) in [
            (0x3c00u16, 1.0f32),
            (0xc000, -2.0),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
        ] {
            assert_eq!(half_to_f32(bits).to_bits(), value.to_bits());
        }
        assert!(half_to_f32(0x7c00).is_infinite() && half_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn labels_are_written_as_transformers_reads_them() {
        let json = config_with_labels(TINY, &["Disease".to_owned()]).expect("json");
        let tags = tags_of_config(&json).expect("json").expect("tags");
        assert_eq!(tags, ["O", "B-Disease", "I-Disease"]);
        assert!(json.contains("\"extra\": \"kept\""));
    }
}
