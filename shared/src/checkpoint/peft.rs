//! Adapters of Python PEFT (LoRA, Hu et al. 2022), read onto the model that they belong to.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;

use super::adapters::add_product;
use super::encoders::{self, Tensors};
use super::read_tensor;
use crate::manifest::TensorSpec;

/// `adapter_config.json`; what it leaves out is as in PEFT.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    peft_type: Option<String>,
    pub(super) base_model_name_or_path: Option<String>,
    #[serde(default = "usual_alpha")]
    lora_alpha: f64,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
}

const fn usual_alpha() -> f64 {
    8.0
}

/// What PEFT puts before the names of a model's tensors.
const BEFORE: &str = "base_model.model.";

impl Config {
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let kind = config.peft_type.as_deref().unwrap_or_default();
        if !kind.eq_ignore_ascii_case("lora") || config.use_dora {
            let kind = if config.use_dora { "DORA" } else { kind };
            return Err(format!(
                "it is an adapter of the type `{kind}`: expected LORA; merge it into its model with \
                 `merge_and_unload()` of PEFT and save that"
            ));
        }
        Ok(config)
    }

    /// What the product of the factors of a module is multiplied by.
    fn scale(&self, module: &str, rank: usize) -> f64 {
        let named = self.alpha_pattern.iter().find(|(name, _)| {
            let before = module.strip_suffix(name.as_str());
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        });
        let alpha = named.map_or(self.lora_alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// The weights of a model with the adapter's products added and its whole tensors, such as a head,
    /// in their places. `base` has BERT's names; `model` is the config.json of the model as it was
    /// published.
    pub(super) fn applied(
        &self,
        model: &str,
        base: &[u8],
        adapter: &[u8],
    ) -> Result<Vec<u8>, String> {
        let base = SafeTensors::deserialize(base).map_err(|error| error.to_string())?;
        let adapter = SafeTensors::deserialize(adapter).map_err(|error| error.to_string())?;
        let tensors = base.tensors();
        let mut all: Tensors<'_> = tensors
            .iter()
            .map(|(name, view)| {
                let tensor = (view.dtype(), view.shape().to_vec(), view.data().into());
                (name.clone(), tensor)
            })
            .collect();
        let mut factors = adapter.tensors();
        // A file names them in no order of its own.
        factors.sort_by(|(one, _), (other, _)| one.cmp(other));
        let view = |name: &str| {
            factors
                .iter()
                .find(|(found, _)| found == name)
                .map(|(_, view)| view)
        };
        for (name, tensor) in &factors {
            let own = name.strip_prefix(BEFORE).unwrap_or(name);
            let place = encoders::name_in_bert(model, &own.replace(".modules_to_save", ""));
            if let Some(module) = place.strip_suffix(".lora_A.weight") {
                let b = view(&name.replace(".lora_A.", ".lora_B."))
                    .ok_or_else(|| format!("`{name}` stands without its lora_B"))?;
                self.add(&mut all, module, (name, tensor), b)?;
            } else if !place.contains(".lora_") {
                let place = found(&all, &place).unwrap_or(place);
                let whole = (
                    tensor.dtype(),
                    tensor.shape().to_vec(),
                    tensor.data().into(),
                );
                all.insert(place, whole);
            } else if !place.ends_with(".lora_B.weight") {
                return Err(format!(
                    "`{name}` is no lora_A or lora_B of a layer: merge the adapter into its model with \
                     `merge_and_unload()` of PEFT and save that"
                ));
            }
        }
        encoders::serialized(&all)
    }

    fn add(
        &self,
        all: &mut Tensors<'_>,
        module: &str,
        (name, a): (&str, &TensorView<'_>),
        b: &TensorView<'_>,
    ) -> Result<(), String> {
        let place = found(all, &format!("{module}.weight")).ok_or_else(|| {
            format!("`{name}` is for the layer `{module}`, which its model lacks")
        })?;
        let (dtype, shape, data) = &all[&place];
        let fits = matches!(
            (a.shape(), b.shape(), shape.as_slice()),
            ([rank, inputs], [outputs, same], [rows, columns])
                if rank == same && *rank > 0 && inputs == columns && outputs == rows
        );
        if !fits || self.fan_in_fan_out {
            return Err(format!(
                "`{name}` has the shape {:?}, and its layer {shape:?}: they do not fit",
                a.shape()
            ));
        }
        let (rank, inputs) = (a.shape()[0], a.shape()[1]);
        let weight = TensorView::new(*dtype, shape.clone(), data).map_err(|e| e.to_string())?;
        let read = |name: &str, view: &TensorView<'_>| {
            let spec = TensorSpec {
                name: name.to_owned(),
                shape: view.shape().to_vec(),
            };
            read_tensor(&spec, view).map_err(|error| error.to_string())
        };
        let mut values = read(&place, &weight)?;
        let (a, b) = (read(name, a)?, read(name, b)?);
        add_product(&mut values, &a, &b, inputs, self.scale(module, rank));
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let shape = shape.clone();
        all.insert(place, (Dtype::F32, shape, Cow::Owned(bytes)));
        Ok(())
    }
}

/// What a tensor is called in the model, with or without the name of the model before it.
fn found(all: &Tensors<'_>, name: &str) -> Option<String> {
    let bare = name.strip_prefix("bert.").unwrap_or(name);
    let names = [name.to_owned(), bare.to_owned(), format!("bert.{bare}")];
    names.into_iter().find(|name| all.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::super::Checkpoint;
    use super::super::tests::{TINY, tiny};
    use super::*;
    use crate::plan::{Lora, Method, Target, Trainable};

    /// A model, the same with adapters that do something, and the adapter's two files.
    fn adapted() -> (Checkpoint, Checkpoint, super::super::PeftFiles) {
        let trainable = Trainable {
            lora: Lora {
                rank: 2,
                alpha: 3.0,
                targets: vec![Target::Query, Target::Output],
            },
            ..Method::Lora.into()
        };
        let base = tiny();
        let mut adapted = base.clone().with_new_head(3, 9).prepared_for(&trainable, 5);
        for (name, (_, values)) in &mut adapted.tensors {
            if name.contains("lora_B") {
                values.fill(0.25);
            }
        }
        let files = adapted.to_peft(None).expect("files").expect("adapters");
        (base, adapted, files)
    }

    #[test]
    fn an_adapter_is_merged_into_its_model() {
        let (base, adapted, files) = adapted();
        let config = Config::parse(files.config.as_bytes()).expect("LORA");
        let base = base.to_safetensors().expect("file");
        let bytes = config.applied(TINY, &base, &files.weights).expect("merged");
        let found = Checkpoint::read(TINY, &bytes).expect("read");
        assert_eq!(found, adapted.merged());
    }

    #[test]
    fn what_is_no_plain_adapter_is_refused() {
        let (base, _, files) = adapted();
        for (json, reason) in [
            (r#"{"peft_type": "PREFIX_TUNING"}"#, "PREFIX_TUNING"),
            (r#"{"peft_type": "LORA", "use_dora": true}"#, "DORA"),
            ("[]", "invalid"),
        ] {
            let error = Config::parse(json.as_bytes()).expect_err(json);
            assert!(error.contains(reason), "{error}");
        }
        let config = Config::parse(files.config.as_bytes()).expect("LORA");
        let encoder = base.to_safetensors().expect("file");
        let rename = |from: &str, to: &str| {
            let file = SafeTensors::deserialize(&files.weights).expect("file");
            let tensors = file.tensors();
            let tensors = tensors
                .iter()
                .map(|(name, view)| (name.replace(from, to), view));
            safetensors::serialize(tensors, None).expect("file")
        };
        for (from, to, reason) in [
            ("attention.self.query", "attention.self.other", "lacks"),
            ("query.lora_B", "query.lora_C", "without its lora_B"),
            ("query.lora_A", "query.lora_embedding_A", "merge_and_unload"),
            ("attention.self.query", "intermediate.dense", "do not fit"),
        ] {
            let error = config
                .applied(TINY, &encoder, &rename(from, to))
                .expect_err(to);
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn the_scale_is_pefts() {
        let config = |json: &str| Config::parse(json.as_bytes()).expect("LORA");
        let usual = config(r#"{"peft_type": "LORA", "lora_alpha": 16}"#);
        assert!((usual.scale("a.query", 4) - 4.0).abs() < 1e-12);
        let stable = config(r#"{"peft_type": "LORA", "lora_alpha": 16, "use_rslora": true}"#);
        assert!((stable.scale("a.query", 4) - 8.0).abs() < 1e-12);
        let own = config(r#"{"peft_type": "LORA", "alpha_pattern": {"query": 2}}"#);
        assert!((own.scale("a.query", 4) - 0.5).abs() < 1e-12);
        assert!((own.scale("a.subquery", 4) - 2.0).abs() < 1e-12);
    }
}
